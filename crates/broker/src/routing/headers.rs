//! How the arguments of a headers binding are compared with a message's properties (AMQP 0-9-1, 3.1.3.4).
//!
//! | argument | property | equal when |
//! |---|---|---|
//! | null | any | it is there |
//! | any integer | any integer | the numbers are equal, whatever their widths and signs |
//! | binary32 or binary64 | binary32 or binary64 | the numbers are equal; a NaN equals nothing |
//! | text, symbol or long string | text, symbol or long string | the bytes are equal |
//! | time in ms or in s | time in ms or in s | the instants are equal |
//! | anything else | the same type | the values are equal |
//!
//! Types of different rows never match: the number 1 is not the text `1`. A property that repeats matches if any of its
//! values does. Nothing is ever converted to text to be compared.

use message::{HeaderMatch, Properties, Value};

/// Whether `properties` satisfy a binding with these arguments.
pub(super) fn headers_match(
    matching: HeaderMatch,
    arguments: &Properties,
    properties: &Properties,
) -> bool {
    let with_x = matches!(matching, HeaderMatch::AllWithX | HeaderMatch::AnyWithX);
    let mut counted = arguments
        .0
        .iter()
        .filter(|(name, _)| with_x || !name.starts_with(b"x-"));
    let is_met = |(name, wanted): &(bytes::Bytes, Value)| {
        properties
            .0
            .iter()
            .any(|(other, found)| other == name && equal(wanted, found))
    };
    match matching {
        HeaderMatch::All | HeaderMatch::AllWithX => counted.all(is_met),
        HeaderMatch::Any | HeaderMatch::AnyWithX => counted.any(is_met),
    }
}

fn equal(wanted: &Value, found: &Value) -> bool {
    if matches!(wanted, Value::Null) {
        return true;
    }
    if let (Some(a), Some(b)) = (integer(wanted), integer(found)) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (float(wanted), float(found)) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (text(wanted), text(found)) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (instant_ms(wanted), instant_ms(found)) {
        return a == b;
    }
    wanted == found
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::U64(number) => Some(i128::from(*number)),
        other => other.as_i64().map(i128::from),
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::F32(number) => Some(f64::from(*number)),
        Value::F64(number) => Some(*number),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Text(text) | Value::Symbol(text) | Value::LongString(text) => Some(text),
        _ => None,
    }
}

fn instant_ms(value: &Value) -> Option<i128> {
    match value {
        Value::Time(ms) => Some(i128::from(*ms)),
        Value::TimeSeconds(seconds) => Some(i128::from(*seconds) * 1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
