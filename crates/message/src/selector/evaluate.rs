//! Tree and message to true, false or unknown (SQL-92's three-valued logic). Nothing is allocated but for calculated texts.

use std::cmp::Ordering;

use crate::{Message, Value};

use super::{Calculate, Compare, Glob, Node};

/// What a node of an expression comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Is<'a> {
    Unknown,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

/// Whether the message satisfies a condition. `None`: it is unknown.
pub(super) fn condition(node: &Node, message: &Message) -> Option<bool> {
    match node {
        Node::Or(nodes) => any(nodes.iter().map(|node| condition(node, message))),
        Node::And(nodes) => any(nodes
            .iter()
            .map(|node| condition(node, message).map(|is| !is)))
        .map(|is| !is),
        Node::Not(node) => condition(node, message).map(|is| !is),
        Node::Compare(how, sides) => {
            let right = value(&sides.1, message);
            each(&sides.0, message, |left| {
                compare(left, right).map(|order| holds(*how, order))
            })
        }
        Node::Between(parts) => {
            let (low, high) = (value(&parts.1, message), value(&parts.2, message));
            each(&parts.0, message, |is| {
                let above = compare(is, low).map(Ordering::is_ge);
                let below = compare(is, high).map(Ordering::is_le);
                any([above, below].into_iter().map(|is| is.map(|is| !is))).map(|is| !is)
            })
        }
        Node::In(node, texts) => each(node, message, |is| match is {
            Is::Text(text) => Some(texts.iter().any(|other| other == text)),
            Is::Unknown => None,
            _ => Some(false),
        }),
        Node::Like(node, globs) => each(node, message, |is| match is {
            Is::Text(text) => Some(like(globs, text)),
            Is::Unknown => None,
            _ => Some(false),
        }),
        Node::IsNull(node) => Some(value(node, message) == Is::Unknown),
        node => each(node, message, |is| match is {
            Is::Bool(is) => Some(is),
            Is::Text(text) => truth(text),
            Is::Unknown | Is::Integer(_) | Is::Float(_) => None,
        }),
    }
}

/// True if one is true, else unknown if one is unknown.
fn any(conditions: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(false);
    for is in conditions {
        match is {
            Some(true) => return Some(true),
            Some(false) => {}
            None => all = None,
        }
    }
    all
}

/// A condition on a value; on a property that repeats, on any of its values.
fn each<'a>(
    node: &'a Node,
    message: &'a Message,
    condition: impl Fn(Is<'a>) -> Option<bool>,
) -> Option<bool> {
    let Node::Name(name) = node else {
        return condition(value(node, message));
    };
    let mut found = false;
    let is = any(message
        .properties
        .0
        .iter()
        .filter(|(other, _)| other == name.as_bytes())
        .flat_map(|(_, value)| parts(value))
        .map(|value| {
            found = true;
            condition(of(value))
        }));
    if found {
        is
    } else {
        condition(value(node, message))
    }
}

fn parts(value: &Value) -> &[Value] {
    match value {
        Value::List(values) | Value::Array(values) => values,
        value => std::slice::from_ref(value),
    }
}

fn value<'a>(node: &'a Node, message: &'a Message) -> Is<'a> {
    match node {
        Node::Text(text) => Is::Text(text),
        Node::Integer(number) => Is::Integer(*number),
        Node::Float(number) => Is::Float(*number),
        Node::Bool(is) => Is::Bool(*is),
        Node::Name(name) => match message.properties.first(name.as_bytes()) {
            Some(value) => parts(value).first().map_or(Is::Unknown, of),
            None => field(name, message),
        },
        Node::Negate(node) => match number(value(node, message)) {
            Is::Integer(number) => number.checked_neg().map_or(Is::Unknown, Is::Integer),
            Is::Float(number) => Is::Float(-number),
            _ => Is::Unknown,
        },
        Node::Calculate(how, sides) => calculate(
            *how,
            number(value(&sides.0, message)),
            number(value(&sides.1, message)),
        ),
        condition_of => condition(condition_of, message).map_or(Is::Unknown, Is::Bool),
    }
}

/// The fields that Jakarta Messaging lets a selector name (3.8.1.1, "header field references").
fn field<'a>(name: &str, message: &'a Message) -> Is<'a> {
    let fields = message.fields();
    let text = |text: &'a Option<bytes::Bytes>| text.as_ref().map_or(Is::Unknown, |t| utf8(t));
    let time = |time: Option<crate::Timestamp>| Is::Integer(time.map_or(0, |at| at.0 as i64));
    match name {
        "JMSDeliveryMode" if message.durable => Is::Text("PERSISTENT"),
        "JMSDeliveryMode" => Is::Text("NON_PERSISTENT"),
        "JMSPriority" => Is::Integer(i64::from(message.priority.unwrap_or(4))),
        "JMSTimestamp" => time(message.created),
        "JMSExpiration" => time(message.expiry),
        "JMSType" => text(&fields.subject),
        "JMSMessageID" => fields.message_id.as_ref().map_or(Is::Unknown, of),
        "JMSCorrelationID" => fields.correlation_id.as_ref().map_or(Is::Unknown, of),
        "JMSXUserID" => text(&fields.user_id),
        "JMSXAppID" => text(&fields.app_id),
        "JMSXGroupID" => text(&message.group),
        "JMSXGroupSeq" => fields
            .group_sequence
            .map_or(Is::Unknown, |at| Is::Integer(i64::from(at))),
        _ => Is::Unknown,
    }
}

fn utf8(text: &[u8]) -> Is<'_> {
    std::str::from_utf8(text).map_or(Is::Unknown, Is::Text)
}

fn of(value: &Value) -> Is<'_> {
    let unsigned =
        |number: u64| i64::try_from(number).map_or(Is::Float(number as f64), Is::Integer);
    match value {
        Value::Bool(is) => Is::Bool(*is),
        Value::U8(number) => Is::Integer(i64::from(*number)),
        Value::U16(number) => Is::Integer(i64::from(*number)),
        Value::U32(number) => Is::Integer(i64::from(*number)),
        Value::U64(number) | Value::TimeSeconds(number) => unsigned(*number),
        Value::I8(number) => Is::Integer(i64::from(*number)),
        Value::I16(number) => Is::Integer(i64::from(*number)),
        Value::I32(number) => Is::Integer(i64::from(*number)),
        Value::I64(number) | Value::Time(number) => Is::Integer(*number),
        Value::F32(number) => Is::Float(f64::from(*number)),
        Value::F64(number) => Is::Float(*number),
        Value::Decimal { scale, value } => {
            Is::Float(f64::from(*value) / 10f64.powi(i32::from(*scale)))
        }
        Value::Text(text) | Value::Symbol(text) => utf8(text),
        // Null, bytes and what holds other values compare with nothing.
        _ => Is::Unknown,
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "TRUE" => Some(true),
        "false" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A text that reads as a number is one.
fn number(is: Is<'_>) -> Is<'_> {
    match is {
        Is::Text(text) => {
            let text = text.trim();
            match (text.parse(), text.parse::<f64>()) {
                (Ok(number), _) => Is::Integer(number),
                (_, Ok(number)) if number.is_finite() => Is::Float(number),
                _ => Is::Unknown,
            }
        }
        is @ (Is::Integer(_) | Is::Float(_)) => is,
        Is::Bool(_) | Is::Unknown => Is::Unknown,
    }
}

fn calculate<'a>(how: Calculate, left: Is<'a>, right: Is<'a>) -> Is<'a> {
    if let (Is::Integer(a), Is::Integer(b)) = (left, right) {
        let exact = match how {
            Calculate::Add => a.checked_add(b),
            Calculate::Subtract => a.checked_sub(b),
            Calculate::Multiply => a.checked_mul(b),
            Calculate::Divide => a.checked_div(b),
        };
        return exact.map_or(Is::Unknown, Is::Integer);
    }
    let (Some(a), Some(b)) = (float(left), float(right)) else {
        return Is::Unknown;
    };
    Is::Float(match how {
        Calculate::Add => a + b,
        Calculate::Subtract => a - b,
        Calculate::Multiply => a * b,
        Calculate::Divide => a / b,
    })
}

fn float(is: Is<'_>) -> Option<f64> {
    match is {
        Is::Integer(number) => Some(number as f64),
        Is::Float(number) => Some(number),
        Is::Text(_) | Is::Bool(_) | Is::Unknown => None,
    }
}

/// How two values compare. `None`: they do not.
fn compare(left: Is<'_>, right: Is<'_>) -> Option<Ordering> {
    match (left, right) {
        (Is::Text(a), Is::Text(b)) => Some(a.cmp(b)),
        (Is::Integer(a), Is::Integer(b)) => Some(a.cmp(&b)),
        (Is::Bool(a), Is::Bool(b)) => Some(a.cmp(&b)),
        (Is::Bool(a), Is::Text(b)) => truth(b).map(|b| a.cmp(&b)),
        (Is::Text(a), Is::Bool(b)) => truth(a).map(|a| a.cmp(&b)),
        (Is::Text(_), Is::Integer(_) | Is::Float(_))
        | (Is::Integer(_) | Is::Float(_), Is::Text(_)) => {
            let (left, right) = (number(left), number(right));
            if left == Is::Unknown || right == Is::Unknown {
                return None;
            }
            compare(left, right)
        }
        (a, b) => float(a)?.partial_cmp(&float(b)?),
    }
}

const fn holds(how: Compare, order: Ordering) -> bool {
    match how {
        Compare::Equal => order.is_eq(),
        Compare::NotEqual => order.is_ne(),
        Compare::Less => order.is_lt(),
        Compare::LessOrEqual => order.is_le(),
        Compare::Greater => order.is_gt(),
        Compare::GreaterOrEqual => order.is_ge(),
    }
}

/// Whether a text is like a pattern: what matches nothing yet is given to the last `%` so far, a character at a time.
fn like(globs: &[Glob], text: &str) -> bool {
    let (mut at, mut rest) = (0, text.chars());
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let next = rest.clone().next();
        match (globs.get(at), next) {
            (None, None) => return true,
            (Some(Glob::Many), _) => {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            (Some(Glob::One), Some(_)) => {
                at += 1;
                rest.next();
                continue;
            }
            (Some(Glob::Char(wanted)), Some(found)) if *wanted == found => {
                at += 1;
                rest.next();
                continue;
            }
            _ => {}
        }
        let Some((behind, from)) = &mut retry else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        (at, rest) = (*behind, from.clone());
    }
}
