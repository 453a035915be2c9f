//! Texts into policies.
//!
//! What the whole of a policy may be is looked at first (keys, nesting, combinations), then each rule.

use std::net::IpAddr;

use super::{Fields, Match, Millionths, POLICY_LEN_MAX, Policy, PolicyError, Rule, Test};
use crate::{Value, json};

/// Keys at the top of a policy.
const KEYS_MAX: usize = 5;
/// Combinations of values: for each key the number of its rules times how deep it lies, all multiplied.
const COMBINATIONS_MAX: u64 = 150;
/// Points that wildcards may cost.
const WILDCARD_POINTS_MAX: usize = 100;
/// Wildcards in one text.
const WILDCARDS_MAX: usize = 3;
/// The key of alternatives.
const OR: &str = "$or";
const BILLION: f64 = 1e9;

type Result<T> = std::result::Result<T, PolicyError>;

fn other<T>(what: impl Into<String>) -> Result<T> {
    Err(PolicyError::Other(what.into()))
}

impl Policy {
    /// A policy that looks at a message's properties.
    pub fn of_attributes(text: &[u8]) -> Result<Self> {
        Self::parse(text, false)
    }

    /// A policy that looks at a message's body.
    pub fn of_body(text: &[u8]) -> Result<Self> {
        Self::parse(text, true)
    }

    fn parse(text: &[u8], nests: bool) -> Result<Self> {
        if text.len() > POLICY_LEN_MAX {
            return Err(PolicyError::TooLong);
        }
        let Value::Map(pairs) = json::read(text).ok_or(PolicyError::Json)? else {
            return Err(PolicyError::NoObject);
        };
        if pairs.len() > KEYS_MAX {
            return Err(PolicyError::Keys);
        }
        if combinations(&pairs, 1, 1, nests)? > COMBINATIONS_MAX {
            return Err(PolicyError::Complex);
        }
        let mut points = 0;
        let fields = fields(&pairs, &mut points)?;
        if points > WILDCARD_POINTS_MAX {
            return Err(PolicyError::Wildcards);
        }
        Ok(Self(fields))
    }
}

type Pairs = [(Value, Value)];

fn name(key: &Value) -> &str {
    key.as_str().unwrap_or_default()
}

/// The alternatives of a key, if that is what it is: two objects or more under `$or`.
fn alternatives<'a>(key: &Value, value: &'a Value) -> Option<Vec<&'a Pairs>> {
    let Value::List(values) = value else {
        return None;
    };
    if name(key) != OR || values.len() < 2 {
        return None;
    }
    values
        .iter()
        .map(|value| match value {
            Value::Map(pairs) => Some(&pairs[..]),
            _ => None,
        })
        .collect()
}

/// How many combinations there are, with those of the keys before; alternatives add up.
fn combinations(pairs: &Pairs, depth: u64, before: u64, nests: bool) -> Result<u64> {
    let mut count = before;
    for (key, value) in pairs {
        if let Some(alternatives) = alternatives(key, value) {
            let mut sum = 0u64;
            for pairs in alternatives {
                sum = sum.saturating_add(combinations(pairs, depth, count, nests)?);
            }
            count = sum;
            continue;
        }
        match value {
            Value::Map(_) if !nests => return Err(PolicyError::Nested),
            Value::Map(pairs) if pairs.is_empty() => {
                return other("Empty objects are not allowed");
            }
            Value::Map(pairs) => count = combinations(pairs, depth + 1, count, nests)?,
            Value::List(values) if values.is_empty() => {
                return other("Empty arrays are not allowed");
            }
            Value::List(values) => {
                count = count
                    .saturating_mul(values.len() as u64)
                    .saturating_mul(depth);
            }
            _ => {
                return other(format!("\"{}\" must be an object or an array", name(key)));
            }
        }
    }
    Ok(count)
}

fn fields(pairs: &Pairs, points: &mut usize) -> Result<Fields> {
    let (mut keys, mut any_of) = (Vec::new(), Vec::new());
    for (key, value) in pairs {
        if let Some(alternatives) = alternatives(key, value) {
            let all: Result<Box<[Fields]>> = alternatives
                .into_iter()
                .map(|pairs| fields(pairs, points))
                .collect();
            any_of.push(all?);
            continue;
        }
        let test = match value {
            Value::Map(pairs) => Test::Below(fields(pairs, points)?),
            Value::List(values) => {
                let (mut sum, mut patterns) = (0, 0);
                let rules: Result<Box<[Rule]>> = values.iter().map(rule).collect();
                let rules = rules?;
                for cost in rules.iter().map(cost).filter(|cost| *cost > 0) {
                    sum += cost;
                    patterns += 1;
                }
                // Where no wildcard is, nothing costs anything.
                if rules.iter().any(has_wildcard) {
                    *points += sum * patterns;
                }
                Test::Rules(rules)
            }
            _ => unreachable!("looked at before"),
        };
        keys.push((name(key).into(), test));
    }
    Ok(Fields {
        keys: keys.into(),
        any_of: any_of.into(),
    })
}

fn has_wildcard(rule: &Rule) -> bool {
    match rule {
        Rule::Match(Match::Wildcard(_)) => true,
        Rule::AnythingBut(rules) => rules.iter().any(has_wildcard),
        _ => false,
    }
}

/// What a rule costs among those that wildcards make costly: one point for one wildcard, three each for several.
fn cost(rule: &Rule) -> usize {
    match rule {
        Rule::Match(Match::Wildcard(pieces)) => match pieces.len() - 1 {
            1 => 1,
            several => 3 * several,
        },
        Rule::AnythingBut(_) => 1,
        _ => 0,
    }
}

fn rule(value: &Value) -> Result<Rule> {
    match value {
        Value::Map(pairs) => {
            let [(operator, value)] = &pairs[..] else {
                return other("Only one key allowed in match expression");
            };
            expression(name(operator), value)
        }
        _ => plain(value)
            .unwrap_or_else(|| other("Match value must be String, number, true, false, or null")),
    }
}

/// A value that is compared as it is.
fn plain(value: &Value) -> Option<Result<Rule>> {
    Some(Ok(match value {
        Value::Null => Rule::Null,
        Value::Bool(is) => Rule::Bool(*is),
        Value::Text(_) => Rule::Text(value.as_str()?.into()),
        _ => match number(value)? {
            Some(number) => Rule::Number(number),
            None => return Some(out_of_range()),
        },
    }))
}

fn out_of_range<T>() -> Result<T> {
    other("Value must be between -1.0E9 and 1.0E9, inclusive")
}

fn expression(operator: &str, value: &Value) -> Result<Rule> {
    match operator {
        "prefix" | "suffix" | "equals-ignore-case" | "wildcard" => {
            let Some(text) = value.as_str() else {
                return other(format!("{operator} match pattern must be a string"));
            };
            matching(operator, text).map(Rule::Match)
        }
        "anything-but" => anything_but(value),
        "numeric" => numeric(value),
        "exists" => match value {
            Value::Bool(exists) => Ok(Rule::Exists(*exists)),
            _ => other("exists match pattern must be either true or false."),
        },
        "cidr" => match value.as_str() {
            Some(text) => cidr(text),
            None => other("prefix match pattern must be a string"),
        },
        _ => other(format!("Unrecognized match type {operator}")),
    }
}

fn matching(operator: &str, text: &str) -> Result<Match> {
    Ok(match operator {
        "prefix" => Match::Prefix(text.into()),
        "suffix" => Match::Suffix(text.into()),
        "equals-ignore-case" => Match::IgnoreCase(text.to_lowercase().into()),
        _ => return wildcard(text),
    })
}

/// `*` stands for any characters; `\*` and `\\` for `*` and `\`.
fn wildcard(text: &str) -> Result<Match> {
    let mut pieces = vec![String::new()];
    let mut chars = text.chars();
    let mut after_star = false;
    while let Some(c) = chars.next() {
        let is_star = c == '*';
        if is_star && after_star {
            return other("Consecutive wildcard characters in wildcard match pattern");
        }
        after_star = is_star;
        let piece = pieces.last_mut().expect("one at least");
        match c {
            '*' => pieces.push(String::new()),
            '\\' => match chars.next() {
                Some(c @ ('*' | '\\')) => piece.push(c),
                _ => return other("Invalid escape character in wildcard match pattern"),
            },
            c => piece.push(c),
        }
    }
    if pieces.len() - 1 > WILDCARDS_MAX {
        return other("Wildcard match pattern can not have more than 3 wildcards");
    }
    Ok(Match::Wildcard(
        pieces.into_iter().map(Into::into).collect(),
    ))
}

fn anything_but(value: &Value) -> Result<Rule> {
    let one = |value: &Value| match value {
        Value::Null | Value::Bool(_) | Value::Map(_) | Value::List(_) => {
            other("Inside anything-but list, only strings and numbers are supported")
        }
        _ => rule(value),
    };
    let rules: Box<[Rule]> = match value {
        Value::Map(pairs) => {
            let [(operator, value)] = &pairs[..] else {
                return other("Only one key allowed in match expression");
            };
            let operator = name(operator);
            if !matches!(
                operator,
                "prefix" | "suffix" | "equals-ignore-case" | "wildcard"
            ) {
                return other(format!("Unsupported anything-but pattern: {operator}"));
            }
            let texts = match value {
                Value::List(values) => &values[..],
                value => std::slice::from_ref(value),
            };
            if texts.is_empty() {
                return other("Empty arrays are not allowed");
            }
            texts
                .iter()
                .map(|text| match text.as_str() {
                    Some(text) => matching(operator, text).map(Rule::Match),
                    None => other(format!("{operator} match pattern must be a string")),
                })
                .collect::<Result<_>>()?
        }
        Value::List(values) if values.is_empty() => {
            return other("Empty arrays are not allowed");
        }
        Value::List(values) => values.iter().map(one).collect::<Result<_>>()?,
        value => Box::new([one(value)?]),
    };
    Ok(Rule::AnythingBut(rules))
}

/// A value as SNS says it in an error.
fn said(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_json(), str::to_owned)
}

fn numeric(value: &Value) -> Result<Rule> {
    fn off<T>(what: impl Into<String>) -> Result<T> {
        Err(PolicyError::Numeric(what.into()))
    }
    let members = match value {
        Value::List(members) => &members[..],
        _ => return off("Value of numeric must be an array."),
    };
    let bound = |operator: &str, value: Option<&Value>| {
        let shown = if operator == "=" { "equals" } else { operator };
        match value.and_then(number) {
            Some(Some(number)) => Ok(number),
            Some(None) => out_of_range(),
            None => off(format!("Value of {shown} must be numeric")),
        }
    };
    let Some(first) = members.first() else {
        return off("Invalid member in numeric match: ]");
    };
    let Some(operator) = first.as_str() else {
        return off(format!("Invalid member in numeric match: {}", said(first)));
    };
    if !matches!(operator, "<" | "<=" | "=" | ">" | ">=") {
        return off(format!("Unrecognized numeric range operator: {operator}"));
    }
    let number = bound(operator, members.get(1))?;
    let (mut from, mut upto) = (None, None);
    match operator {
        "=" => (from, upto) = (Some((number, true)), Some((number, true))),
        "<" => upto = Some((number, false)),
        "<=" => upto = Some((number, true)),
        ">" => from = Some((number, false)),
        _ => from = Some((number, true)),
    }
    let Some(second) = members.get(2) else {
        return Ok(Rule::Numeric { from, upto });
    };
    if upto.is_some() {
        return off("Too many elements in numeric expression");
    }
    let Some(operator) = second.as_str() else {
        return off(format!("Bad value in numeric range: {}", said(second)));
    };
    if !matches!(operator, "<" | "<=") {
        return off(format!("Bad numeric range operator: {operator}"));
    }
    let top = bound(operator, members.get(3))?;
    if top <= number {
        return off("Bottom must be less than top");
    }
    if members.len() > 4 {
        return off("Too many terms in numeric range expression");
    }
    let upto = Some((top, operator == "<="));
    Ok(Rule::Numeric { from, upto })
}

fn cidr(text: &str) -> Result<Rule> {
    let Some((address, bits)) = text.split_once('/').filter(|(_, bits)| !bits.contains('/')) else {
        return other("Malformed CIDR, one '/' required");
    };
    let Ok(bits) = bits.parse::<u32>() else {
        return other("Malformed CIDR, mask bits must be an integer");
    };
    match address.parse() {
        Ok(IpAddr::V4(address)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            let first = address.to_bits() & mask;
            Ok(Rule::Cidr(
                IpAddr::V4(first.into()),
                IpAddr::V4((first | !mask).into()),
            ))
        }
        Ok(IpAddr::V6(address)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let first = address.to_bits() & mask;
            Ok(Rule::Cidr(
                IpAddr::V6(first.into()),
                IpAddr::V6((first | !mask).into()),
            ))
        }
        Ok(IpAddr::V4(_)) => other("IPv4 mask bits must be <= 32"),
        Ok(IpAddr::V6(_)) => other("IPv6 mask bits must be <= 128"),
        Err(_) => other(format!("Nonstandard IP address: {address}")),
    }
}

/// A number in millionths; beyond a billion it is none that is compared. `None`: no number at all.
pub(super) fn number(value: &Value) -> Option<Option<Millionths>> {
    let whole = |n: i128| {
        let fits = (-1_000_000_000..=1_000_000_000).contains(&n);
        fits.then(|| n as i64 * 1_000_000)
    };
    Some(match value {
        Value::U64(n) | Value::TimeSeconds(n) => whole(i128::from(*n)),
        Value::Time(n) => whole(i128::from(*n)),
        Value::F32(n) => millionths(&n.to_string(), f64::from(*n)),
        Value::F64(n) => millionths(&n.to_string(), *n),
        Value::Decimal { .. } => {
            let text = value.to_plain_text()?;
            millionths(&text, text.parse().ok()?)
        }
        _ => whole(i128::from(value.as_i64()?)),
    })
}

/// Of the shortest decimal text of a number: 100.1 is a hundred and a tenth, whatever its binary form.
fn millionths(text: &str, number: f64) -> Option<Millionths> {
    if !(-BILLION..=BILLION).contains(&number) {
        return None;
    }
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let six: String = part.chars().chain("000000".chars()).take(6).collect();
    let size = whole.parse::<i64>().ok()? * 1_000_000 + six.parse::<i64>().ok()?;
    let is_exact = part.len() <= 6 || part[6..].bytes().all(|digit| digit == b'0');
    Some(match (is_negative, is_exact) {
        (false, _) => size,
        (true, true) => -size,
        (true, false) => -size - 1,
    })
}
