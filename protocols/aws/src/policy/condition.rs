//! Conditions: an operator, a key, and values of which one must do (IAM User Guide, "IAM JSON policy elements: Condition operators").
//!
//! | | operators |
//! |---|---|
//! | texts | `StringEquals`, `StringEqualsIgnoreCase`, `StringLike`; `StringNot...` |
//! | ARNs | `ArnEquals`, `ArnLike` (the same); `ArnNot...` |
//! | numbers, times | `Numeric...`, `Date...`: `Equals`, `NotEquals`, `LessThan`, `LessThanEquals`, `GreaterThan`, `GreaterThanEquals` |
//! | others | `Bool`, `IpAddress`, `NotIpAddress`, `Null` |
//!
//! Before them `ForAllValues:` or `ForAnyValue:`, behind them `IfExists`. A key that the question has no value for satisfies what
//! negates, `IfExists` and `ForAllValues:`, and nothing else. No key has more than one value in a question here.

use std::cmp::Ordering;

use message::Value;

use super::{PolicyFault, Principal, Question, check_variables, invalid, is_like, unsupported};
use crate::{Network, time};

/// The keys that questions may have values for. Those of others than these are not known, and conditions on them refused.
const KEYS: &[&str] = &[
    "aws:currenttime",
    "aws:epochtime",
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalisawsservice",
    "aws:principalservicename",
    "aws:principaltype",
    "aws:securetransport",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceip",
    "aws:sourceowner",
    "aws:useragent",
    "aws:username",
    "sns:endpoint",
    "sns:protocol",
];

/// A condition: all of a statement's must hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    /// In lower case.
    key: String,
    set: Option<Set>,
    if_exists: bool,
    negated: bool,
    test: Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    All,
    Any,
}

/// What a value must be: one of these.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equal(Vec<String>),
    /// In lower case.
    EqualInAnyCase(Vec<String>),
    Like(Vec<String>),
    Arn(Vec<String>),
    Number(Compared, Vec<f64>),
    /// Milliseconds since 1970.
    Time(Compared, Vec<u64>),
    Bool(Vec<bool>),
    Address(Vec<Network>),
    /// Whether it must be absent.
    Absent(Vec<bool>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    Same,
    Less,
    LessOrSame,
    More,
    MoreOrSame,
}

impl Compared {
    /// What stands behind `Numeric` and `Date`, and whether it negates.
    fn named(name: &str) -> Option<(Self, bool)> {
        Some(match name {
            "Equals" => (Self::Same, false),
            "NotEquals" => (Self::Same, true),
            "LessThan" => (Self::Less, false),
            "LessThanEquals" => (Self::LessOrSame, false),
            "GreaterThan" => (Self::More, false),
            "GreaterThanEquals" => (Self::MoreOrSame, false),
            _ => return None,
        })
    }

    fn holds(self, found: Option<Ordering>) -> bool {
        match self {
            Self::Same => found == Some(Ordering::Equal),
            Self::Less => found == Some(Ordering::Less),
            Self::LessOrSame => matches!(found, Some(Ordering::Less | Ordering::Equal)),
            Self::More => found == Some(Ordering::Greater),
            Self::MoreOrSame => matches!(found, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// All conditions of a statement.
pub(super) fn read(value: &Value, variables: bool) -> Result<Vec<Condition>, PolicyFault> {
    let wrong = |value: &Value| invalid("Condition", &value.to_json());
    let Value::Map(operators) = value else {
        return Err(wrong(value));
    };
    let mut conditions = Vec::new();
    for (operator, keys) in operators {
        let operator = operator.as_str().unwrap_or_default();
        let Value::Map(keys) = keys else {
            return Err(wrong(keys));
        };
        for (key, values) in keys {
            let key = key.as_str().unwrap_or_default();
            if !KEYS.contains(&&key.to_ascii_lowercase()[..]) {
                return Err(unsupported("Condition key", key));
            }
            let list = match values {
                Value::List(list) => &list[..],
                single => std::slice::from_ref(single),
            };
            let texts: Option<Vec<String>> = list.iter().map(Value::to_plain_text).collect();
            let texts = texts.filter(|texts| !texts.is_empty());
            let texts = texts.ok_or_else(|| wrong(values))?;
            for text in &texts {
                check_variables("Condition", text, variables)?;
            }
            conditions.push(Condition::read(operator, key, texts)?);
        }
    }
    Ok(conditions)
}

fn each<T>(
    texts: Vec<String>,
    operator: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, PolicyFault> {
    let read = |text: String| {
        read(&text).ok_or_else(|| invalid("Condition", &format!("{text} for {operator}")))
    };
    texts.into_iter().map(read).collect()
}

fn flag(text: &str) -> Option<bool> {
    match &text.to_ascii_lowercase()[..] {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A date as ISO 8601 in UTC, with or without the time of day, or as seconds since 1970.
fn moment(text: &str) -> Option<u64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u64>().ok()?.checked_mul(1000);
    }
    let at = match text.len() {
        10 => time::read_iso(&format!("{text}T00:00:00Z")),
        _ => time::read_iso(text),
    };
    at.map(|at| at.0)
}

impl Condition {
    fn read(operator: &str, key: &str, texts: Vec<String>) -> Result<Self, PolicyFault> {
        let unknown = || unsupported("Condition operator", operator);
        let (set, name) = match operator.split_once(':') {
            None => (None, operator),
            Some(("ForAllValues", name)) => (Some(Set::All), name),
            Some(("ForAnyValue", name)) => (Some(Set::Any), name),
            Some(_) => return Err(unknown()),
        };
        let (name, if_exists) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (test, negated) = match name {
            "StringEquals" => (Test::Equal(texts), false),
            "StringNotEquals" => (Test::Equal(texts), true),
            "StringEqualsIgnoreCase" | "StringNotEqualsIgnoreCase" => {
                let lower = texts.iter().map(|text| text.to_lowercase()).collect();
                (Test::EqualInAnyCase(lower), name.starts_with("StringNot"))
            }
            "StringLike" => (Test::Like(texts), false),
            "StringNotLike" => (Test::Like(texts), true),
            "ArnEquals" | "ArnLike" | "ArnNotEquals" | "ArnNotLike" => {
                // What is no ARN is like none: AWS takes it, and so do tools that fill it in later.
                (Test::Arn(texts), name.starts_with("ArnNot"))
            }
            "Bool" => (Test::Bool(each(texts, operator, flag)?), false),
            "IpAddress" | "NotIpAddress" => {
                let networks = each(texts, operator, Network::read)?;
                (Test::Address(networks), name == "NotIpAddress")
            }
            "Null" if set.is_none() && !if_exists => {
                (Test::Absent(each(texts, operator, flag)?), false)
            }
            _ => {
                if let Some(rest) = name.strip_prefix("Numeric") {
                    let (compared, negated) = Compared::named(rest).ok_or_else(unknown)?;
                    (
                        Test::Number(compared, each(texts, operator, number)?),
                        negated,
                    )
                } else if let Some(rest) = name.strip_prefix("Date") {
                    let (compared, negated) = Compared::named(rest).ok_or_else(unknown)?;
                    (
                        Test::Time(compared, each(texts, operator, moment)?),
                        negated,
                    )
                } else {
                    return Err(unknown());
                }
            }
        };
        Ok(Self {
            key: key.to_ascii_lowercase(),
            set,
            if_exists,
            negated,
            test,
        })
    }

    pub(super) fn holds(&self, question: &Question<'_>) -> bool {
        let value = value_of(&self.key, question);
        if let Test::Absent(wanted) = &self.test {
            return wanted.contains(&value.is_none());
        }
        match value {
            Some(value) => self.test.holds(&value) != self.negated,
            // A set without a member: each of none is so, and none of them.
            None => match self.set {
                Some(Set::All) => true,
                Some(Set::Any) => self.if_exists,
                None => self.if_exists || self.negated,
            },
        }
    }
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equal(texts) => texts.iter().any(|text| text == value),
            Self::EqualInAnyCase(texts) => {
                let value = value.to_lowercase();
                texts.contains(&value)
            }
            Self::Like(patterns) => patterns.iter().any(|pattern| is_like(pattern, value)),
            Self::Arn(patterns) => patterns.iter().any(|pattern| is_arn_like(pattern, value)),
            Self::Number(compared, numbers) => number(value).is_some_and(|value| {
                let mut numbers = numbers.iter();
                numbers.any(|number| compared.holds(value.partial_cmp(number)))
            }),
            Self::Time(compared, times) => moment(value).is_some_and(|value| {
                let mut times = times.iter();
                times.any(|time| compared.holds(Some(value.cmp(time))))
            }),
            Self::Bool(flags) => flag(value).is_some_and(|value| flags.contains(&value)),
            Self::Address(networks) => value
                .parse()
                .is_ok_and(|address| networks.iter().any(|network| network.has(address))),
            Self::Absent(_) => false,
        }
    }
}

/// Whether an ARN is like a pattern, each of its six parts for itself: a star does not reach over a colon, but in the last.
fn is_arn_like(pattern: &str, arn: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.splitn(6, ':'), arn.splitn(6, ':'));
    (0..6).all(|_| match (patterns.next(), parts.next()) {
        (Some(pattern), Some(part)) => is_like(pattern, part),
        _ => false,
    })
}

fn value_of(key: &str, question: &Question<'_>) -> Option<String> {
    let owned = |text: &str| Some(text.to_owned());
    match (key, question.principal) {
        ("aws:currenttime", _) => Some(question.now.date_time()),
        ("aws:epochtime", _) => Some((question.now.0 / 1000).to_string()),
        (
            "aws:principalaccount" | "aws:sourceowner",
            Principal::User { account, .. } | Principal::Account(account),
        ) => owned(account),
        ("aws:principalarn", Principal::User { account, user }) => {
            Some(format!("arn:aws:iam::{account}:user/{user}"))
        }
        ("aws:principalarn", Principal::Account(account)) => {
            Some(format!("arn:aws:iam::{account}:root"))
        }
        ("aws:principaltype", Principal::User { .. }) => owned("User"),
        ("aws:principaltype", Principal::Account(_)) => owned("Account"),
        ("aws:username", Principal::User { user, .. }) => owned(user),
        ("aws:principalisawsservice", principal) => {
            Some(matches!(principal, Principal::Service(_)).to_string())
        }
        ("aws:principalservicename", Principal::Service(name)) => owned(name),
        _ => {
            let mut keys = question.keys.iter();
            let (_, value) = keys.find(|(name, _)| name.eq_ignore_ascii_case(key))?;
            owned(value)
        }
    }
}
