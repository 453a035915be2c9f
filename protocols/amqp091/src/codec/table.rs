//! Field tables and field arrays (AMQP 0-9-1, 4.2.5.5, with the type letters that RabbitMQ and its clients use).
//!
//! | letter | wire | [`Value`] |
//! |---|---|---|
//! | `t` | octet | `Bool` |
//! | `b` `B` | signed, unsigned 8 bits | `I8`, `U8` |
//! | `s` `u` | signed, unsigned 16 bits | `I16`, `U16` |
//! | `I` `i` | signed, unsigned 32 bits | `I32`, `U32` |
//! | `l` `L` | signed, unsigned 64 bits | `I64`, `U64` |
//! | `f` `d` | IEEE 754 | `F32`, `F64` |
//! | `D` | scale and 32 bits | `Decimal` |
//! | `S` | long string | `Text`, or `LongString` when it is not UTF-8 |
//! | `A` | array | `List` |
//! | `T` | seconds | `TimeSeconds` |
//! | `F` | table | `Map` with `Text` or `Bytes` keys |
//! | `V` | nothing | `Null` |
//! | `x` | octets | `Bytes` |
//!
//! Writing is total: what 0-9-1 has no type for is written as its nearest (a symbol, character or UUID as text, other
//! protocols' decimals as octets, a time in milliseconds in seconds, a described value as its value). A name that is
//! longer than a short string holds cannot be written; that entry is left out.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use message::{Properties, Value};

use super::wire::{Fields, Short, put_long, put_short};
use crate::error::DecodeError;

/// How deep tables and arrays may nest in one another.
pub(crate) const DEPTH_MAX: usize = 32;

/// Reads a table: its length, then names and values in their order.
pub(crate) fn read_table(fields: &mut Fields) -> Result<Properties, DecodeError> {
    let mut inside = Fields::new(fields.long()?);
    let mut table = Properties::default();
    while !inside.is_empty() {
        let name = inside.short()?.into_bytes();
        let value = read_value(&mut inside, DEPTH_MAX)?;
        table.push(name, value);
    }
    Ok(table)
}

/// [AMQP-4.2.5.5-1].
fn read_value(fields: &mut Fields, depth: usize) -> Result<Value, DecodeError> {
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(DecodeError::TooDeep);
    };
    Ok(match fields.u8()? {
        b't' => Value::Bool(fields.u8()? != 0),
        b'b' => Value::I8(fields.u8()? as i8),
        b'B' => Value::U8(fields.u8()?),
        b's' => Value::I16(fields.u16()? as i16),
        b'u' => Value::U16(fields.u16()?),
        b'I' => Value::I32(fields.u32()? as i32),
        b'i' => Value::U32(fields.u32()?),
        b'l' => Value::I64(fields.u64()? as i64),
        b'L' => Value::U64(fields.u64()?),
        b'f' => Value::F32(f32::from_bits(fields.u32()?)),
        b'd' => Value::F64(f64::from_bits(fields.u64()?)),
        b'D' => Value::Decimal {
            scale: fields.u8()?,
            value: fields.u32()? as i32,
        },
        b'S' => long_string(fields.long()?),
        b'T' => Value::TimeSeconds(fields.u64()?),
        b'V' => Value::Null,
        b'x' => Value::Bytes(fields.long()?),
        b'A' => {
            let mut inside = Fields::new(fields.long()?);
            let mut values = Vec::new();
            while !inside.is_empty() {
                values.push(read_value(&mut inside, deeper)?);
            }
            Value::List(values)
        }
        b'F' => {
            let mut inside = Fields::new(fields.long()?);
            let mut pairs = Vec::new();
            while !inside.is_empty() {
                let name = text_or_bytes(inside.short()?.into_bytes());
                pairs.push((name, read_value(&mut inside, deeper)?));
            }
            Value::Map(pairs)
        }
        letter => return Err(DecodeError::FieldType(letter)),
    })
}

fn long_string(text: Bytes) -> Value {
    if std::str::from_utf8(&text).is_ok() {
        Value::Text(text)
    } else {
        Value::LongString(text)
    }
}

fn text_or_bytes(text: Bytes) -> Value {
    if std::str::from_utf8(&text).is_ok() {
        Value::Text(text)
    } else {
        Value::Bytes(text)
    }
}

/// Appends a table.
pub(crate) fn put_table(out: &mut BytesMut, table: &Properties) {
    with_length(out, |out| {
        for (name, value) in &table.0 {
            if name.len() <= Short::LEN_MAX {
                put_short(out, name);
                put_value(out, value);
            }
        }
    });
}

fn put_value(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Null => out.put_u8(b'V'),
        Value::Bool(b) => out.put_slice(&[b't', u8::from(*b)]),
        Value::I8(n) => out.put_slice(&[b'b', *n as u8]),
        Value::U8(n) => out.put_slice(&[b'B', *n]),
        Value::I16(n) => put_number(out, b's', &n.to_be_bytes()),
        Value::U16(n) => put_number(out, b'u', &n.to_be_bytes()),
        Value::I32(n) => put_number(out, b'I', &n.to_be_bytes()),
        Value::U32(n) => put_number(out, b'i', &n.to_be_bytes()),
        Value::I64(n) => put_number(out, b'l', &n.to_be_bytes()),
        Value::U64(n) => put_number(out, b'L', &n.to_be_bytes()),
        Value::F32(n) => put_number(out, b'f', &n.to_bits().to_be_bytes()),
        Value::F64(n) => put_number(out, b'd', &n.to_bits().to_be_bytes()),
        Value::TimeSeconds(s) => put_number(out, b'T', &s.to_be_bytes()),
        Value::Time(ms) => put_number(out, b'T', &ms.div_euclid(1000).to_be_bytes()),
        Value::Decimal { scale, value } => {
            out.put_slice(&[b'D', *scale]);
            out.put_i32(*value);
        }
        Value::Text(text) | Value::LongString(text) | Value::Symbol(text) => {
            out.put_u8(b'S');
            put_long(out, text);
        }
        Value::Bytes(bytes) | Value::Decimal754(bytes) => {
            out.put_u8(b'x');
            put_long(out, bytes);
        }
        Value::Char(_) | Value::Uuid(_) => {
            out.put_u8(b'S');
            put_long(out, value.to_plain_text().unwrap_or_default().as_bytes());
        }
        Value::List(values) | Value::Array(values) => {
            out.put_u8(b'A');
            with_length(out, |out| {
                for value in values {
                    put_value(out, value);
                }
            });
        }
        Value::Map(pairs) => {
            out.put_u8(b'F');
            with_length(out, |out| {
                for (key, value) in pairs {
                    if let Some(name) = key_text(key).filter(|name| name.len() <= Short::LEN_MAX) {
                        put_short(out, &name);
                        put_value(out, value);
                    }
                }
            });
        }
        Value::Described(pair) => put_value(out, &pair.1),
    }
}

fn put_number(out: &mut BytesMut, letter: u8, bytes: &[u8]) {
    out.put_u8(letter);
    out.put_slice(bytes);
}

/// A map's key as the name of a table's field. Keys that have no text name nothing.
fn key_text(key: &Value) -> Option<Cow<'_, [u8]>> {
    match key {
        Value::Text(text) | Value::Symbol(text) | Value::Bytes(text) | Value::LongString(text) => {
            Some(Cow::Borrowed(text))
        }
        other => other.to_plain_text().map(|text| Cow::Owned(text.into())),
    }
}

/// Appends what `write` appends, with its length in front.
fn with_length(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    write(out);
    let len = u32::try_from(out.len() - at - 4).expect("a table is smaller than 4 GiB");
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}
