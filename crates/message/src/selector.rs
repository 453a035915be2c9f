//! Message selectors: the conditional expressions of SQL-92 as Jakarta Messaging has them (3.8.1, "Message selector
//! syntax"), over the properties of a message. STOMP names one in SUBSCRIBE.
//!
//! | file | what |
//! |---|---|
//! | `parse.rs` | text to tree |
//! | `evaluate.rs` | tree and message to true, false or unknown |
//!
//! A selector is read once, by the door, and shared; two with the same text are equal. Its length and depth are bounded,
//! so that evaluating it is bounded work for each message.
//!
//! Beyond the letter of the specification, because STOMP and MQTT know no type but text: a text compares with a number if
//! it reads as one, and with TRUE and FALSE if it reads so. A property that repeats satisfies a condition if any of its
//! values does. ActiveMQ's prefix `convert_string_expressions:` is taken and changes nothing; with `hyphenated_props:` a
//! hyphen may be a part of a name.
//!
//! Deliberately absent: functions (`XPATH`, `XQUERY`), and the fields that a message only has once it is delivered
//! (`JMSRedelivered`, `JMSXDeliveryCount`): they are unknown.

mod evaluate;
mod parse;

use std::{cmp::Ordering, fmt, sync::Arc};

use crate::Message;

/// The longest selector, in bytes.
pub const SELECTOR_LEN_MAX: usize = 4096;
/// The longest pattern of a LIKE, in bytes: looking for it takes that many steps for each byte of the value.
const LIKE_LEN_MAX: usize = 256;
/// How deep expressions may be nested.
const DEPTH_MAX: usize = 64;

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Longer than [`SELECTOR_LEN_MAX`].
    #[error("a selector is longer than {SELECTOR_LEN_MAX} bytes")]
    TooLong,
    /// Nested too deep.
    #[error("a selector is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// Something else was to come there.
    #[error("{wanted} was expected at byte {at} of the selector")]
    Expected {
        /// What.
        wanted: &'static str,
        /// Where, counted from 0.
        at: usize,
    },
}

/// A condition on messages.
#[derive(Clone)]
pub struct Selector {
    text: Arc<str>,
    tree: Arc<Node>,
}

impl Selector {
    /// Reads a selector.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self {
            tree: Arc::new(parse::selector(text)?),
            text: text.into(),
        })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the message satisfies it: what is unknown does not.
    #[must_use]
    pub fn matches(&self, message: &Message) -> bool {
        evaluate::condition(&self.tree, message) == Some(true)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Selector").field(&self.text).finish()
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Selector {}
impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Selector {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

/// One node of an expression.
#[derive(Debug)]
enum Node {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A property or a `JMS` field.
    Name(String),
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    Compare(Compare, Box<(Self, Self)>),
    /// Value, lower and upper bound.
    Between(Box<(Self, Self, Self)>),
    In(Box<Self>, Vec<String>),
    Like(Box<Self>, Vec<Glob>),
    IsNull(Box<Self>),
    Negate(Box<Self>),
    Calculate(Calculate, Box<(Self, Self)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calculate {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A part of the pattern of a LIKE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Glob {
    Char(char),
    /// `_`.
    One,
    /// `%`.
    Many,
}
