//! The encoded form of a message head, as the journal stores it and as it crosses to the standby.
//!
//! ```text
//! version:u8 flags:u8 (bit 0 durable, 1 retain, 2-3 qos, 4 has fields, 5 has native, 6 has properties)
//! body_kind:u8 address numbered-fields... 0  [fields] [properties] [native]
//! ```
//! Scalars are (tag, value) pairs ended by tag 0; every later reader skips nothing it does not know: an unknown tag or
//! flag and bytes behind the end are errors, and adding a tag raises [`HEAD_VERSION`]. The body is not part of the head.
//!
//! What is written can be read back: a property nested deeper than [`VALUE_DEPTH_MAX`] is a defect of the door that let
//! it in, and the encoder panics rather than write it. What is read is checked for its form, not for its meaning: texts
//! were checked for UTF-8 when they came in, and counts reserve no memory before their elements are there.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, put_bytes, put_i64, put_u64};
use crate::{
    Address, BodyKind, Fields, Filter, FilterLevel, HeaderMatch, Kind, LEVELS_MAX, Levels, Message,
    Native, NativeForm, Pattern, Properties, Selector, Timestamp, VALUE_DEPTH_MAX, Value, VhostId,
};

/// The version that [`encode_head`] writes. [`decode_head`] reads this one and those before it.
pub const HEAD_VERSION: u8 = 1;

/// The tag of a message's group among its fields.
const GROUP: u8 = 6;

/// Appends the encoded head of `message`, everything but the body.
pub fn encode_head(message: &Message, out: &mut Vec<u8>) {
    encode_head_like(message, None, out);
}

/// The same behind heads of other messages. `known`: where in `out` the same address has been encoded. Says where it is in this one.
pub fn encode_head_like(
    message: &Message,
    known: Option<Range<usize>>,
    out: &mut Vec<u8>,
) -> Range<usize> {
    out.push(HEAD_VERSION);
    let mut flags =
        u8::from(message.durable) | u8::from(message.retain) << 1 | (message.qos & 3) << 2;
    flags |= u8::from(message.fields.is_some() || message.group.is_some()) << 4;
    flags |= u8::from(message.native.is_some()) << 5;
    flags |= u8::from(!message.properties.is_empty()) << 6;
    out.push(flags);
    out.push(message.body_kind as u8);
    let start = out.len();
    match known {
        Some(known) => out.extend_from_within(known),
        None => put_address(out, &message.address),
    }
    let address = start..out.len();
    if let Some(priority) = message.priority {
        out.extend_from_slice(&[1, priority]);
    }
    if let Some(expiry) = message.expiry {
        out.push(2);
        put_u64(out, expiry.0);
    }
    if message.delay_ms != 0 {
        out.push(3);
        put_u64(out, message.delay_ms);
    }
    if let Some(created) = message.created {
        out.push(4);
        put_u64(out, created.0);
    }
    out.push(0);
    match (&message.fields, &message.group) {
        (None, None) => {}
        (None, Some(group)) => {
            out.push(GROUP);
            put_bytes(out, group);
            out.push(0);
        }
        (Some(fields), group) => put_fields(out, fields, group.as_ref()),
    }
    if !message.properties.is_empty() {
        put_properties(out, &message.properties);
    }
    if let Some(native) = &message.native {
        out.push(native.form.0);
        put_bytes(out, &native.head);
    }
    address
}

/// At least as many bytes as [`encode_head`] appends, without encoding: for limits.
#[must_use]
pub fn head_len_bound(message: &Message) -> usize {
    let mut len = 128 + message.address.name.len() + levels_len_bound(&message.address.key);
    len += message.group.as_ref().map_or(0, |group| group.len() + 12);
    if let Some(fields) = &message.fields {
        let texts = [
            &fields.content_type,
            &fields.content_encoding,
            &fields.user_id,
            &fields.app_id,
            &fields.subject,
            &fields.dedup_id,
            &fields.trace_parent,
            &fields.trace_state,
        ];
        len += texts
            .into_iter()
            .flatten()
            .map(|text| text.len() + 12)
            .sum::<usize>();
        len += [&fields.message_id, &fields.correlation_id]
            .into_iter()
            .flatten()
            .map(value_len_bound)
            .sum::<usize>();
        len += fields
            .reply_to
            .as_ref()
            .map_or(0, |to| 32 + to.name.len() + levels_len_bound(&to.key));
        len += fields
            .carbon_copies
            .iter()
            .map(levels_len_bound)
            .sum::<usize>()
            + 16;
    }
    len += message
        .properties
        .0
        .iter()
        .map(|(name, value)| name.len() + 10 + value_len_bound(value))
        .sum::<usize>();
    len + message
        .native
        .as_ref()
        .map_or(0, |native| native.head.len() + 12)
}

fn levels_len_bound(levels: &Levels) -> usize {
    10 + levels.text().len() + 4 * levels.len()
}

fn value_len_bound(value: &Value) -> usize {
    12 + match value {
        Value::Decimal754(bytes)
        | Value::Bytes(bytes)
        | Value::LongString(bytes)
        | Value::Text(bytes)
        | Value::Symbol(bytes) => bytes.len(),
        Value::Uuid(_) => 16,
        Value::List(values) | Value::Array(values) => values.iter().map(value_len_bound).sum(),
        Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| value_len_bound(key) + value_len_bound(value))
            .sum(),
        Value::Described(pair) => value_len_bound(&pair.0) + value_len_bound(&pair.1),
        _ => 0,
    }
}

/// The address that was read last: messages that were published to one place one behind the other share it.
#[derive(Debug, Default)]
pub struct LastAddress(Option<(Bytes, Arc<Address>)>);

impl LastAddress {
    /// Reads an address.
    fn read(&mut self, reader: &mut Reader) -> Result<Arc<Address>, DecodeError> {
        if let Some((encoded, address)) = &self.0
            && reader.unread().starts_with(encoded)
        {
            reader.take(encoded.len())?;
            return Ok(Arc::clone(address));
        }
        let mut behind = reader.clone();
        read_address(&mut behind)?;
        // Of its own: it must not keep what the head lies in.
        let encoded = Bytes::copy_from_slice(reader.take(reader.len() - behind.len())?);
        let address = Arc::new(read_address(&mut Reader::new(encoded.clone()))?);
        self.0 = Some((encoded, Arc::clone(&address)));
        Ok(address)
    }
}

/// Reads what [`encode_head`] wrote; byte strings share `input`. Returns the message with `body`.
pub fn decode_head(input: Bytes, body: Bytes) -> Result<Message, DecodeError> {
    decode(input, body, |reader| read_address(reader).map(Arc::new))
}

/// The same of a message that was probably published to the same place as the one before it.
#[inline]
pub fn decode_head_like(
    input: Bytes,
    body: Bytes,
    last: &mut LastAddress,
) -> Result<Message, DecodeError> {
    decode(input, body, |reader| last.read(reader))
}

// A message is long: what is read is not to be moved from one frame to the next.
#[inline(always)]
fn decode(
    input: Bytes,
    body: Bytes,
    read_address: impl FnOnce(&mut Reader) -> Result<Arc<Address>, DecodeError>,
) -> Result<Message, DecodeError> {
    let mut reader = Reader::new(input);
    let version = reader.u8()?;
    if version == 0 || version > HEAD_VERSION {
        return Err(DecodeError::Unknown {
            what: "head version",
            tag: u64::from(version),
        });
    }
    let flags = reader.u8()?;
    if flags & 0x80 != 0 {
        return Err(DecodeError::Unknown {
            what: "head flag",
            tag: 7,
        });
    }
    let body_kind = match reader.u8()? {
        0 => BodyKind::Bytes,
        1 => BodyKind::Text,
        2 => BodyKind::AmqpValue,
        3 => BodyKind::AmqpSequence,
        4 => BodyKind::Map,
        tag => {
            return Err(DecodeError::Unknown {
                what: "body kind",
                tag: u64::from(tag),
            });
        }
    };
    let mut message = Message::new(read_address(&mut reader)?, body);
    message.durable = flags & 1 != 0;
    message.retain = flags & 2 != 0;
    message.qos = flags >> 2 & 3;
    message.body_kind = body_kind;
    loop {
        match reader.u8()? {
            0 => break,
            1 => message.priority = Some(reader.u8()?),
            2 => message.expiry = Some(Timestamp(reader.u64()?)),
            3 => message.delay_ms = reader.u64()?,
            4 => message.created = Some(Timestamp(reader.u64()?)),
            tag => {
                return Err(DecodeError::Unknown {
                    what: "head field",
                    tag: u64::from(tag),
                });
            }
        }
    }
    if flags & 0x10 != 0 {
        read_fields(&mut reader, &mut message)?;
    }
    if flags & 0x40 != 0 {
        message.properties = read_properties(&mut reader)?;
    }
    if flags & 0x20 != 0 {
        message.native = Some(Native {
            form: NativeForm(reader.u8()?),
            head: reader.bytes()?,
        });
    }
    if !reader.is_empty() {
        return Err(DecodeError::Bounds("the length of a head"));
    }
    Ok(message)
}

/// Appends the number of levels and each level.
pub fn put_levels(out: &mut Vec<u8>, levels: &Levels) {
    put_u64(out, levels.len() as u64);
    for level in levels.iter() {
        put_bytes(out, level);
    }
}

/// Reads what [`put_levels`] wrote.
pub fn read_levels(reader: &mut Reader) -> Result<Levels, DecodeError> {
    let count = reader.u64()?;
    if count > LEVELS_MAX as u64 {
        return Err(DecodeError::Bounds("a list of levels"));
    }
    let mut levels = Vec::new();
    for _ in 0..count {
        levels.push(reader.bytes()?);
    }
    Levels::collect(levels).ok_or(DecodeError::Bounds("a list of levels"))
}

/// Appends an address.
pub fn put_address(out: &mut Vec<u8>, address: &Address) {
    put_u64(out, u64::from(address.vhost.0));
    out.push(match address.kind {
        Kind::Queue => 0,
        Kind::Topic => 1,
        Kind::Stream => 2,
        Kind::Exchange => 3,
    });
    put_bytes(out, &address.name);
    put_levels(out, &address.key);
}

/// Reads what [`put_address`] wrote.
pub fn read_address(reader: &mut Reader) -> Result<Address, DecodeError> {
    Ok(Address {
        vhost: VhostId(reader.u32()?),
        kind: match reader.u8()? {
            0 => Kind::Queue,
            1 => Kind::Topic,
            2 => Kind::Stream,
            3 => Kind::Exchange,
            tag => {
                return Err(DecodeError::Unknown {
                    what: "address kind",
                    tag: u64::from(tag),
                });
            }
        },
        name: reader.bytes()?,
        key: read_levels(reader)?,
    })
}

/// Appends a filter.
pub fn put_filter(out: &mut Vec<u8>, filter: &Filter) {
    match filter {
        Filter::All => out.push(0),
        Filter::Exact(levels) => {
            out.push(1);
            put_levels(out, levels);
        }
        Filter::Pattern(pattern) => {
            out.push(2);
            put_pattern(out, pattern);
        }
        Filter::Headers {
            matching,
            arguments,
        } => {
            out.push(3);
            out.push(*matching as u8);
            put_properties(out, arguments);
        }
        Filter::Selected { pattern, selector } => {
            out.push(4);
            put_pattern(out, pattern);
            put_bytes(out, selector.text().as_bytes());
        }
    }
}

/// Appends a pattern.
pub fn put_pattern(out: &mut Vec<u8>, pattern: &Pattern) {
    put_u64(out, pattern.0.len() as u64);
    for level in &pattern.0 {
        match level {
            FilterLevel::Exact(text) => {
                out.push(0);
                put_bytes(out, text);
            }
            FilterLevel::One => out.push(1),
            FilterLevel::Many => out.push(2),
        }
    }
}

/// Reads what [`put_filter`] wrote.
pub fn read_filter(reader: &mut Reader) -> Result<Filter, DecodeError> {
    Ok(match reader.u8()? {
        0 => Filter::All,
        1 => Filter::Exact(read_levels(reader)?),
        2 => Filter::Pattern(read_pattern(reader)?),
        3 => Filter::Headers {
            matching: match reader.u8()? {
                0 => HeaderMatch::All,
                1 => HeaderMatch::Any,
                2 => HeaderMatch::AllWithX,
                3 => HeaderMatch::AnyWithX,
                tag => {
                    return Err(DecodeError::Unknown {
                        what: "header match",
                        tag: u64::from(tag),
                    });
                }
            },
            arguments: read_properties(reader)?,
        },
        4 => {
            let pattern = read_pattern(reader)?;
            let selector = std::str::from_utf8(reader.slice()?)
                .ok()
                .and_then(|text| Selector::parse(text).ok())
                .ok_or(DecodeError::Bounds("selector"))?;
            Filter::Selected { pattern, selector }
        }
        tag => {
            return Err(DecodeError::Unknown {
                what: "filter",
                tag: u64::from(tag),
            });
        }
    })
}

/// Reads what [`put_pattern`] wrote.
pub fn read_pattern(reader: &mut Reader) -> Result<Pattern, DecodeError> {
    let count = reader.u64()?;
    let mut pattern = Vec::new();
    for _ in 0..count {
        pattern.push(match reader.u8()? {
            0 => FilterLevel::Exact(reader.bytes()?),
            1 => FilterLevel::One,
            2 => FilterLevel::Many,
            tag => {
                return Err(DecodeError::Unknown {
                    what: "filter level",
                    tag: u64::from(tag),
                });
            }
        });
    }
    Ok(Pattern(pattern))
}

/// Appends properties in their order.
pub fn put_properties(out: &mut Vec<u8>, properties: &Properties) {
    put_u64(out, properties.0.len() as u64);
    for (name, value) in &properties.0 {
        put_bytes(out, name);
        put_value(out, value, VALUE_DEPTH_MAX);
    }
}

/// Reads what [`put_properties`] wrote.
pub fn read_properties(reader: &mut Reader) -> Result<Properties, DecodeError> {
    let count = reader.u64()?;
    let mut properties = Properties::default();
    for _ in 0..count {
        let name = reader.bytes()?;
        properties.push(name, read_value(reader, VALUE_DEPTH_MAX)?);
    }
    Ok(properties)
}

fn put_fields(out: &mut Vec<u8>, fields: &Fields, group: Option<&Bytes>) {
    let texts = [
        (1, fields.content_type.as_ref()),
        (2, fields.content_encoding.as_ref()),
        (3, fields.user_id.as_ref()),
        (4, fields.app_id.as_ref()),
        (5, fields.subject.as_ref()),
        (GROUP, group),
        (7, fields.dedup_id.as_ref()),
        (8, fields.trace_parent.as_ref()),
        (9, fields.trace_state.as_ref()),
    ];
    for (tag, text) in texts {
        if let Some(text) = text {
            out.push(tag);
            put_bytes(out, text);
        }
    }
    if let Some(id) = &fields.message_id {
        out.push(20);
        put_value(out, id, VALUE_DEPTH_MAX);
    }
    if let Some(id) = &fields.correlation_id {
        out.push(21);
        put_value(out, id, VALUE_DEPTH_MAX);
    }
    if let Some(reply_to) = &fields.reply_to {
        out.push(22);
        put_address(out, reply_to);
    }
    if let Some(sequence) = fields.group_sequence {
        out.push(23);
        put_u64(out, u64::from(sequence));
    }
    for key in &fields.carbon_copies {
        out.push(24);
        put_levels(out, key);
    }
    out.push(0);
}

/// Reads fields to where they stay: they are long. A group alone has none.
fn read_fields(reader: &mut Reader, message: &mut Message) -> Result<(), DecodeError> {
    loop {
        let tag = reader.u8()?;
        if tag == GROUP {
            message.group = Some(reader.bytes()?);
            continue;
        }
        if tag == 0 && message.group.is_some() {
            return Ok(());
        }
        let fields = message.fields_mut();
        match tag {
            0 => return Ok(()),
            1 => fields.content_type = Some(reader.bytes()?),
            2 => fields.content_encoding = Some(reader.bytes()?),
            3 => fields.user_id = Some(reader.bytes()?),
            4 => fields.app_id = Some(reader.bytes()?),
            5 => fields.subject = Some(reader.bytes()?),
            7 => fields.dedup_id = Some(reader.bytes()?),
            8 => fields.trace_parent = Some(reader.bytes()?),
            9 => fields.trace_state = Some(reader.bytes()?),
            20 => fields.message_id = Some(read_value(reader, VALUE_DEPTH_MAX)?),
            21 => fields.correlation_id = Some(read_value(reader, VALUE_DEPTH_MAX)?),
            22 => fields.reply_to = Some(read_address(reader)?),
            23 => fields.group_sequence = Some(reader.u32()?),
            24 => fields.carbon_copies.push(read_levels(reader)?),
            tag => {
                return Err(DecodeError::Unknown {
                    what: "typed field",
                    tag: u64::from(tag),
                });
            }
        }
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value, depth: usize) {
    let deeper = depth
        .checked_sub(1)
        .expect("doors refuse properties that are nested too deeply to be read back");
    let tagged = |out: &mut Vec<u8>, tag: u8, bytes: &[u8]| {
        out.push(tag);
        put_bytes(out, bytes);
    };
    match value {
        Value::Null => out.push(0),
        Value::Bool(b) => out.extend_from_slice(&[1, u8::from(*b)]),
        Value::U8(n) => out.extend_from_slice(&[2, *n]),
        Value::U16(n) => put_tagged_u64(out, 3, u64::from(*n)),
        Value::U32(n) => put_tagged_u64(out, 4, u64::from(*n)),
        Value::U64(n) => put_tagged_u64(out, 5, *n),
        Value::I8(n) => put_tagged_i64(out, 6, i64::from(*n)),
        Value::I16(n) => put_tagged_i64(out, 7, i64::from(*n)),
        Value::I32(n) => put_tagged_i64(out, 8, i64::from(*n)),
        Value::I64(n) => put_tagged_i64(out, 9, *n),
        Value::F32(n) => {
            out.push(10);
            out.extend_from_slice(&n.to_bits().to_le_bytes());
        }
        Value::F64(n) => {
            out.push(11);
            out.extend_from_slice(&n.to_bits().to_le_bytes());
        }
        Value::Decimal { scale, value } => {
            out.extend_from_slice(&[12, *scale]);
            put_i64(out, i64::from(*value));
        }
        Value::Decimal754(bytes) => tagged(out, 13, bytes),
        Value::Char(c) => put_tagged_u64(out, 14, u64::from(u32::from(*c))),
        Value::Time(ms) => put_tagged_i64(out, 15, *ms),
        Value::TimeSeconds(s) => put_tagged_u64(out, 16, *s),
        Value::Uuid(bytes) => {
            out.push(17);
            out.extend_from_slice(bytes);
        }
        Value::Bytes(bytes) => tagged(out, 18, bytes),
        Value::LongString(bytes) => tagged(out, 19, bytes),
        Value::Text(text) => tagged(out, 20, text),
        Value::Symbol(text) => tagged(out, 21, text),
        Value::List(values) | Value::Array(values) => {
            put_tagged_u64(
                out,
                if matches!(value, Value::List(_)) {
                    22
                } else {
                    23
                },
                values.len() as u64,
            );
            for value in values {
                put_value(out, value, deeper);
            }
        }
        Value::Map(pairs) => {
            put_tagged_u64(out, 24, pairs.len() as u64);
            for (key, value) in pairs {
                put_value(out, key, deeper);
                put_value(out, value, deeper);
            }
        }
        Value::Described(pair) => {
            out.push(25);
            put_value(out, &pair.0, deeper);
            put_value(out, &pair.1, deeper);
        }
    }
}

fn put_tagged_u64(out: &mut Vec<u8>, tag: u8, value: u64) {
    out.push(tag);
    put_u64(out, value);
}

fn put_tagged_i64(out: &mut Vec<u8>, tag: u8, value: i64) {
    out.push(tag);
    put_i64(out, value);
}

fn read_value(reader: &mut Reader, depth: usize) -> Result<Value, DecodeError> {
    const BOUNDS: DecodeError = DecodeError::Bounds("a property value");
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(DecodeError::Bounds("nesting of a property"));
    };
    Ok(match reader.u8()? {
        0 => Value::Null,
        1 => Value::Bool(reader.u8()? != 0),
        2 => Value::U8(reader.u8()?),
        3 => Value::U16(u16::try_from(reader.u64()?).map_err(|_| BOUNDS)?),
        4 => Value::U32(reader.u32()?),
        5 => Value::U64(reader.u64()?),
        6 => Value::I8(i8::try_from(reader.i64()?).map_err(|_| BOUNDS)?),
        7 => Value::I16(i16::try_from(reader.i64()?).map_err(|_| BOUNDS)?),
        8 => Value::I32(i32::try_from(reader.i64()?).map_err(|_| BOUNDS)?),
        9 => Value::I64(reader.i64()?),
        10 => Value::F32(f32::from_le_bytes(
            reader.take(4)?.try_into().map_err(|_| BOUNDS)?,
        )),
        11 => Value::F64(f64::from_le_bytes(
            reader.take(8)?.try_into().map_err(|_| BOUNDS)?,
        )),
        12 => {
            let scale = reader.u8()?;
            Value::Decimal {
                scale,
                value: i32::try_from(reader.i64()?).map_err(|_| BOUNDS)?,
            }
        }
        13 => Value::Decimal754(reader.bytes()?),
        14 => Value::Char(char::from_u32(reader.u32()?).ok_or(BOUNDS)?),
        15 => Value::Time(reader.i64()?),
        16 => Value::TimeSeconds(reader.u64()?),
        17 => Value::Uuid(reader.take(16)?.try_into().map_err(|_| BOUNDS)?),
        18 => Value::Bytes(reader.bytes()?),
        19 => Value::LongString(reader.bytes()?),
        20 => Value::Text(reader.bytes()?),
        21 => Value::Symbol(reader.bytes()?),
        tag @ (22 | 23) => {
            let count = reader.u64()?;
            let mut values = Vec::new();
            for _ in 0..count {
                values.push(read_value(reader, deeper)?);
            }
            if tag == 22 {
                Value::List(values)
            } else {
                Value::Array(values)
            }
        }
        24 => {
            let count = reader.u64()?;
            let mut pairs = Vec::new();
            for _ in 0..count {
                let key = read_value(reader, deeper)?;
                pairs.push((key, read_value(reader, deeper)?));
            }
            Value::Map(pairs)
        }
        25 => {
            let descriptor = read_value(reader, deeper)?;
            Value::Described(Box::new((descriptor, read_value(reader, deeper)?)))
        }
        tag => {
            return Err(DecodeError::Unknown {
                what: "value",
                tag: u64::from(tag),
            });
        }
    })
}
