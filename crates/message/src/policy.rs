//! Filter policies: which messages a subscription of a topic object lets pass, in the language of SNS.
//!
//! ```text
//! policy := { key: [rule, ...], key: { ... } (bodies only), "$or": [policy, policy, ...] }
//! rule   := "text" | number | true | false | null
//!         | {"prefix": ".."} | {"suffix": ".."} | {"equals-ignore-case": ".."} | {"wildcard": "a*b"} | {"cidr": "10.0.0.0/8"}
//!         | {"numeric": [">", 0, "<=", 5]} | {"exists": true}
//!         | {"anything-but": text, number, list of these, or {"prefix" | "suffix" | "equals-ignore-case" | "wildcard": ..}}
//! ```
//! All keys must be satisfied, each by any of its rules. A list satisfies a rule if any of its values does, and of a list of
//! objects one must satisfy everything below its key. Numbers are compared to six digits after the point; beyond a billion
//! they are no numbers.
//!
//! | file | what |
//! |---|---|
//! | `parse.rs` | texts into policies, and what is wrong with them |
//! | `evaluate.rs` | policies against properties and bodies |
//!
//! A policy looks at what a message says; nothing here knows a topic or a queue.

mod evaluate;
mod parse;

use std::net::IpAddr;

pub use evaluate::PolicyBody;

/// The longest policy, in bytes of JSON.
pub const POLICY_LEN_MAX: usize = 256 * 1024;

/// Why a policy is refused: the sentence that SNS has for it, behind `Invalid parameter: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is no JSON, or not UTF-8, or nests too deep.
    #[error("FilterPolicy: failed to parse JSON.")]
    Json,
    /// It is no object.
    #[error("FilterPolicy: Filter is not an object")]
    NoObject,
    /// It is longer than [`POLICY_LEN_MAX`].
    #[error("FilterPolicy: Filter policy is too long")]
    TooLong,
    /// More than five keys.
    #[error("FilterPolicy: Filter policy can not have more than 5 keys")]
    Keys,
    /// More than 150 combinations.
    #[error("FilterPolicy: Filter policy is too complex")]
    Complex,
    /// Wildcards beyond what they may cost.
    #[error("FilterPolicy: Wildcard complexity must not exceed 100 points")]
    Wildcards,
    /// Objects within a policy of attributes.
    #[error("Filter policy scope MessageAttributes does not support nested filter policy")]
    Nested,
    /// Something about a numeric range. SNS begins it differently now and then.
    #[error("FilterPolicy: {0}")]
    Numeric(String),
    /// Anything else, as it is said.
    #[error("FilterPolicy: {0}")]
    Other(String),
}

/// A filter policy, ready to be held against messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy(Fields);

/// Keys, all of which must be satisfied.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fields {
    keys: Box<[(Box<str>, Test)]>,
    /// Of each, one must be satisfied.
    any_of: Box<[Box<[Self]>]>,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// One of these.
    Rules(Box<[Rule]>),
    /// Everything below it.
    Below(Fields),
}

/// A number in millionths, rounded down, from minus a billion to a billion.
type Millionths = i64;

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Null,
    Bool(bool),
    Text(Box<str>),
    Number(Millionths),
    Match(Match),
    AnythingBut(Box<[Self]>),
    /// Bounds, each with whether it is in.
    Numeric {
        from: Option<(Millionths, bool)>,
        upto: Option<(Millionths, bool)>,
    },
    Exists(bool),
    /// Addresses from the first to the last.
    Cidr(IpAddr, IpAddr),
}

/// How a text may look.
#[derive(Clone, Debug, PartialEq)]
enum Match {
    Prefix(Box<str>),
    Suffix(Box<str>),
    /// In lower case.
    IgnoreCase(Box<str>),
    /// What stands between the wildcards: one piece more than there are.
    Wildcard(Box<[Box<str>]>),
}
