//! Policies against messages.

use std::net::IpAddr;

use super::{Fields, Match, Policy, Rule, Test, parse::number};
use crate::{Properties, Value, json};

/// A body as policies look at it.
#[derive(Clone, Debug)]
pub struct PolicyBody(Option<Value>);

impl PolicyBody {
    /// Reads a body; one that is no JSON object passes no policy.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let is_object = |value: &Value| matches!(value, Value::Map(_));
        // What cannot be one is not looked at any further.
        let starts = body.iter().find(|byte| !byte.is_ascii_whitespace());
        Self(
            starts
                .filter(|byte| **byte == b'{')
                .and_then(|_| json::read(body))
                .filter(is_object),
        )
    }
}

impl Policy {
    /// Whether a message with these properties passes. A name that repeats is a list of its values; bytes are not looked at.
    #[must_use]
    pub fn passes_properties(&self, properties: &Properties) -> bool {
        passes_flat(&self.0, properties)
    }

    /// Whether a message with that body passes.
    #[must_use]
    pub fn passes_body(&self, body: &PolicyBody) -> bool {
        match &body.0 {
            Some(value) => passes(&self.0, value),
            // A policy that asks for nothing.
            None => self.0.keys.is_empty() && self.0.any_of.is_empty(),
        }
    }
}

fn passes_flat(fields: &Fields, properties: &Properties) -> bool {
    fields.keys.iter().all(|(name, test)| match test {
        Test::Rules(rules) => {
            let mut found = Found::new(rules);
            let named = properties
                .0
                .iter()
                .filter(|(known, _)| *known == name.as_bytes());
            named.for_each(|(_, value)| found.add(value));
            found.passes()
        }
        Test::Below(_) => false,
    }) && fields
        .any_of
        .iter()
        .all(|any| any.iter().any(|fields| passes_flat(fields, properties)))
}

/// Of a list one element must satisfy everything.
fn passes(fields: &Fields, value: &Value) -> bool {
    if let Value::List(values) | Value::Array(values) = value
        && !values.is_empty()
    {
        return values.iter().any(|value| passes(fields, value));
    }
    fields.keys.iter().all(|(name, test)| match test {
        Test::Rules(rules) => {
            let mut found = Found::new(rules);
            look(value, name, &mut |value| found.add(value));
            found.passes()
        }
        Test::Below(below) => {
            let mut any = false;
            let mut passed = false;
            look(value, name, &mut |value| {
                any = true;
                passed |= passes(below, value);
            });
            passed || !any && passes(below, &Value::Null)
        }
    }) && fields
        .any_of
        .iter()
        .all(|any| any.iter().any(|fields| passes(fields, value)))
}

/// What an object has under a name. One with points may also be the way through several objects.
fn look(value: &Value, name: &str, each: &mut dyn FnMut(&Value)) {
    let Value::Map(pairs) = value else { return };
    for (key, value) in pairs {
        let Some(key) = key.as_str() else { continue };
        if key == name {
            each(value);
        } else if let Some(rest) = name
            .strip_prefix(key)
            .and_then(|rest| rest.strip_prefix('.'))
        {
            look(value, rest, each);
        }
    }
}

/// What was found under a key.
struct Found<'a> {
    rules: &'a [Rule],
    /// There was a value that is neither an object nor bytes.
    exists: bool,
    passed: bool,
}

impl<'a> Found<'a> {
    const fn new(rules: &'a [Rule]) -> Self {
        Self {
            rules,
            exists: false,
            passed: false,
        }
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::List(values) | Value::Array(values) => {
                values.iter().for_each(|value| self.add(value));
            }
            Value::Map(_)
            | Value::Bytes(_)
            | Value::LongString(_)
            | Value::Decimal754(_)
            | Value::Described(_) => {}
            value => {
                self.exists = true;
                self.passed |= self.rules.iter().any(|rule| satisfies(rule, value));
            }
        }
    }

    fn passes(&self) -> bool {
        self.passed
            || self
                .rules
                .iter()
                .any(|rule| matches!(rule, Rule::Exists(exists) if *exists == self.exists))
    }
}

/// Whether a single value satisfies a rule that is not about whether there is one.
fn satisfies(rule: &Rule, value: &Value) -> bool {
    match rule {
        Rule::Null => *value == Value::Null,
        // What other protocols have as a boolean is a text to SNS.
        Rule::Bool(is) => *value == Value::Bool(*is),
        Rule::Text(text) => is_text(value, |it| *it == **text),
        Rule::Number(wanted) => number(value).flatten() == Some(*wanted),
        Rule::Match(wanted) => is_text(value, |text| looks(wanted, text)),
        Rule::AnythingBut(rules) => {
            *value != Value::Null && !rules.iter().any(|rule| satisfies(rule, value))
        }
        Rule::Numeric { from, upto } => number(value).flatten().is_some_and(|number| {
            from.is_none_or(|(from, is_in)| number > from || is_in && number == from)
                && upto.is_none_or(|(upto, is_in)| number < upto || is_in && number == upto)
        }),
        Rule::Exists(_) => false,
        Rule::Cidr(first, last) => is_text(value, |text| {
            text.parse::<IpAddr>().is_ok_and(|address| {
                address.is_ipv4() == first.is_ipv4() && *first <= address && address <= *last
            })
        }),
    }
}

fn is_text(value: &Value, test: impl FnOnce(&str) -> bool) -> bool {
    match value {
        Value::Text(_) | Value::Symbol(_) => value.as_str().is_some_and(test),
        Value::Bool(is) => test(if *is { "true" } else { "false" }),
        Value::Char(_) | Value::Uuid(_) => value.to_plain_text().is_some_and(|text| test(&text)),
        _ => false,
    }
}

fn looks(wanted: &Match, text: &str) -> bool {
    match wanted {
        Match::Prefix(prefix) => text.starts_with(&**prefix),
        Match::Suffix(suffix) => text.ends_with(&**suffix),
        Match::IgnoreCase(lower) => text.to_lowercase() == **lower,
        Match::Wildcard(pieces) => {
            let [first, middle @ .., last] = &pieces[..] else {
                return text == &*pieces[0];
            };
            let Some(mut rest) = text.strip_prefix(&**first) else {
                return false;
            };
            for piece in middle {
                let Some(at) = rest.find(&**piece) else {
                    return false;
                };
                rest = &rest[at + piece.len()..];
            }
            rest.ends_with(&**last)
        }
    }
}
