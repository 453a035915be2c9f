//! The only place where a publish becomes a [`Message`] and a delivery becomes exchange, routing key and properties.
//!
//! | 0-9-1 | message |
//! |---|---|
//! | exchange ``, key | queue of that name; `$topic/KEY`: topic of the root space |
//! | exchange `amq.topic`, key | topic of the root space |
//! | other exchange, key | exchange |
//! | delivery-mode 2 | `durable`, `qos` 1 |
//! | expiration (ms, text) | `expiry` = arrival + that; the same text is delivered |
//! | timestamp (s) | `created` |
//! | type, app-id, user-id, message-id, correlation-id, content-* | the field of that name (type = `subject`) |
//! | content-type of a text, or header `amq-msg-type` `text` | `BodyKind::Text`, if the body is UTF-8 and not encoded further |
//! | reply-to | a queue, or `$topic/KEY` |
//! | headers | properties, in order; but: |
//! | `CC` `BCC` | `carbon_copies`; `BCC` is taken out |
//! | `x-delay` (integer) | `delay_ms`, and stays |
//! | `x-group-id` or `JMSXGroupID`, `JMSXGroupSeq` | `group`, `group_sequence` |
//! | `x-deduplication-id` or `_AMQ_DUPL_ID` | `dedup_id` |
//! | `traceparent` `tracestate` | trace fields |
//! | `x-mqtt-retain` true, on a root topic | `retain` |
//! | `x-message-id` `x-correlation-id` `x-reply-to` `x-content-type` `x-content-encoding` `x-type` `x-app-id` | the fields, for values that are no short string |
//! | `x-property-NAME` | the property NAME, when NAME is one of this table |
//! | cluster-id | nothing; it stays in the native head |
//!
//! An id that is not UTF-8 is shown twice: as it is in its header, and as `base64:` and its base64 in its property, so that
//! who answers a request by copying `correlation-id` answers it right.
//!
//! A text without a content type has the header `amq-msg-type`.
//!
//! No equal in 0-9-1, and not shown: milliseconds of `created`; a reply-to on an exchange; names over 255 bytes. A life of more than 4,294,967,295 ms is shown as that, the longest that
//! is taken.
//!
//! The properties as they came are the native head, minus `BCC`. A delivery sends it as it is unless something must be
//! added: the dead-letter history, `x-delivery-count`, or an address that is no short string (`x-bascule-address`).
//! This file is the way in, `envelope.rs` the way out.

mod envelope;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
pub(crate) use envelope::{Envelope, Words, as_published, of_delivery, of_return};
use message::{
    Address, BodyKind, Fields, Kind, Levels, Message, Native, NativeForm, Timestamp, Value,
    VhostId, says_text,
};

use crate::{
    arguments::{lossy, type_name},
    codec::{BasicProperties, Short},
    error::{Fault, ReplyCode},
    key,
};

/// The exchange that is the root topic space.
pub(crate) const ROOT_EXCHANGE: &[u8] = b"amq.topic";

/// The pseudo-queue of direct reply-to.
pub(crate) const DIRECT_REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// Headers that mean something here. A property of another protocol that has such a name is shown behind [`PREFIX`].
const OURS: &[&[u8]] = &[
    b"CC",
    b"BCC",
    GROUP,
    b"JMSXGroupID",
    GROUP_SEQUENCE,
    DEDUP,
    b"_AMQ_DUPL_ID",
    TRACE_PARENT,
    TRACE_STATE,
    MESSAGE_ID,
    CORRELATION_ID,
    REPLY_TO,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    SUBJECT,
    APP_ID,
    BODY_KIND,
    ADDRESS,
];
const PREFIX: &[u8] = b"x-property-";

const GROUP: &[u8] = b"x-group-id";
const GROUP_SEQUENCE: &[u8] = b"JMSXGroupSeq";
const DEDUP: &[u8] = b"x-deduplication-id";
const TRACE_PARENT: &[u8] = b"traceparent";
const TRACE_STATE: &[u8] = b"tracestate";
const MESSAGE_ID: &[u8] = b"x-message-id";
const CORRELATION_ID: &[u8] = b"x-correlation-id";
const REPLY_TO: &[u8] = b"x-reply-to";
const CONTENT_TYPE: &[u8] = b"x-content-type";
const CONTENT_ENCODING: &[u8] = b"x-content-encoding";
const SUBJECT: &[u8] = b"x-type";
const APP_ID: &[u8] = b"x-app-id";
/// ActiveMQ's word for it, from STOMP.
const BODY_KIND: &[u8] = b"amq-msg-type";
const ADDRESS: &[u8] = b"x-bascule-address";

/// Who publishes, where and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publisher<'a> {
    pub(crate) vhost: VhostId,
    pub(crate) user: &'a str,
    /// What stands for `amq.rabbitmq.reply-to` on this channel.
    pub(crate) reply_queue: Option<&'a Bytes>,
    pub(crate) now: Timestamp,
}

/// Makes the message of a publish: of its [`address`], the properties in its content header, and its whole body.
pub(crate) fn from_publish(
    address: Arc<Address>,
    properties: Bytes,
    body: Bytes,
    by: Publisher<'_>,
) -> Result<Message, Fault> {
    let mut message = Message::new(address, body);
    let mut head = properties;
    // Durable or not is all that many publishers say.
    if let Some(mode) = BasicProperties::mode_alone(&head) {
        message.durable = mode == 2;
        message.qos = u8::from(message.durable);
        message.native = Some(Native {
            form: NativeForm::AMQP091,
            head,
        });
        return Ok(message);
    }
    let mut properties = BasicProperties::decode(head.clone())?;
    if properties.reply_to.as_deref() == Some(DIRECT_REPLY_TO) {
        let Some(queue) = by.reply_queue else {
            return Err(Fault::new(
                ReplyCode::PreconditionFailed,
                "fast reply consumer does not exist",
            ));
        };
        properties.reply_to = Short::new(queue.clone());
        head = properties.to_bytes();
    }
    // [RABBIT-user-id-1]
    if let Some(user) = &properties.user_id
        && &user[..] != by.user.as_bytes()
    {
        return Err(Fault::new(
            ReplyCode::PreconditionFailed,
            format!(
                "user_id property set to '{user}' but authenticated user was '{}'",
                by.user
            ),
        ));
    }
    message.durable = properties.delivery_mode == Some(2);
    message.qos = u8::from(message.durable);
    message.priority = properties.priority;
    message.created = properties
        .timestamp
        .map(|seconds| Timestamp(seconds.saturating_mul(1000)));
    if let Some(text) = &properties.expiration {
        message.expiry = Some(by.now.plus_ms(expiration(text)?));
    }
    if let Some(headers) = &properties.headers
        && headers.first(b"BCC").is_some()
    {
        let mut visible = properties.clone();
        if let Some(headers) = &mut visible.headers {
            while headers.take(b"BCC").is_some() {}
        }
        head = visible.to_bytes();
    }
    take_fields(&mut message, &properties, by.vhost);
    if let Some(headers) = properties.headers {
        message.properties = headers;
        take_headers(&mut message)?;
    }
    message.body_kind = body_kind(&message);
    if message.body_kind == BodyKind::Text {
        message.properties.take(BODY_KIND);
    }
    message.native = Some(Native {
        form: NativeForm::AMQP091,
        head,
    });
    Ok(message)
}

/// Where a publish goes. DOORS 5 and 9.
pub(crate) fn address(vhost: VhostId, exchange: &Bytes, key: &Bytes) -> Result<Address, Fault> {
    let topic = |levels: Levels| {
        if key::is_reserved(&levels) {
            return Err(Fault::new(
                ReplyCode::AccessRefused,
                format!("publishing to reserved topic '{}' refused", lossy(key)),
            ));
        }
        Ok(Address::topic(vhost, levels))
    };
    if exchange.is_empty() {
        if key.starts_with(key::TOPIC_PREFIX) {
            return topic(key::levels(&key.slice(key::TOPIC_PREFIX.len()..)));
        }
        if key.starts_with(key::STREAM_PREFIX) {
            let name = key.slice(key::STREAM_PREFIX.len()..);
            return Ok(Address::stream(vhost, name, Levels::none()));
        }
        return Ok(Address::queue(vhost, key.clone()));
    }
    if &exchange[..] == ROOT_EXCHANGE {
        return topic(key::levels(key));
    }
    Ok(Address::exchange(vhost, exchange.clone(), key::levels(key)))
}

/// Milliseconds as decimal text, with or without a sign, with RabbitMQ's reasons why they are none.
/// [RABBIT-ttl-2].
fn expiration(text: &Short) -> Result<u64, Fault> {
    let invalid = |why: String| {
        Fault::new(
            ReplyCode::PreconditionFailed,
            format!("invalid expiration '{text}': {why}"),
        )
    };
    let (sign, digits) = match text.split_first() {
        Some((sign @ (b'+' | b'-'), digits)) => (*sign, digits),
        _ => (b'+', &text[..]),
    };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(count);
    if digits.is_empty() {
        return Err(invalid("no_integer".to_owned()));
    }
    if !rest.is_empty() {
        let why = format!("{{leftover_string,\"{}\"}}", lossy(rest));
        return Err(invalid(why));
    }
    let significant = lossy(digits);
    let significant = match significant.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    match significant.parse::<u32>() {
        Ok(0) => Ok(0),
        _ if sign == b'-' => Err(invalid(format!("{{value_negative,-{significant}}}"))),
        Ok(ms) => Ok(u64::from(ms)),
        Err(_) => Err(invalid(format!("{{value_too_big,{significant}}}"))),
    }
}

/// 0-9-1 has no word for it but the content type.
fn body_kind(message: &Message) -> BodyKind {
    let fields = message.fields();
    let said = match &fields.content_type {
        Some(kind) => says_text(kind, fields.content_encoding.as_deref()),
        None => {
            !message.properties.is_empty()
                && message.properties.first(BODY_KIND) == Some(&Value::text("text"))
        }
    };
    if said && std::str::from_utf8(&message.body).is_ok() {
        BodyKind::Text
    } else {
        BodyKind::Bytes
    }
}

fn take_fields(message: &mut Message, from: &BasicProperties, vhost: VhostId) {
    let texts = [
        &from.content_type,
        &from.content_encoding,
        &from.message_id,
        &from.correlation_id,
        &from.reply_to,
        &from.user_id,
        &from.app_id,
        &from.kind,
    ];
    if texts.iter().all(|text| text.is_none()) {
        return;
    }
    let bytes = |text: &Option<Short>| text.as_ref().map(|text| text.bytes().clone());
    let id = |text: &Option<Short>| {
        text.as_ref()
            .map(|text| Value::id_from_text(text.bytes().clone()))
    };
    let fields = Fields {
        content_type: bytes(&from.content_type),
        content_encoding: bytes(&from.content_encoding),
        message_id: id(&from.message_id),
        correlation_id: id(&from.correlation_id),
        reply_to: from
            .reply_to
            .as_ref()
            .map(|text| reply_address(text.bytes(), vhost)),
        user_id: bytes(&from.user_id),
        app_id: bytes(&from.app_id),
        subject: bytes(&from.kind),
        ..Fields::default()
    };
    message.fields = Some(Box::new(fields));
}

/// Reads a reply-to: a queue, or a topic of the root space.
fn reply_address(text: &Bytes, vhost: VhostId) -> Address {
    if text.starts_with(key::TOPIC_PREFIX) {
        // A reply-to in a header may be longer than a key and then have more levels than an address can.
        let topic = text.slice(key::TOPIC_PREFIX.len()..);
        if topic.len() <= Short::LEN_MAX {
            return Address::topic(vhost, key::levels(&topic));
        }
        let levels = topic
            .split(|byte| *byte == b'.')
            .map(|level| message::unescape_level(level, b"."));
        if let Some(levels) = Levels::collect(levels) {
            return Address::topic(vhost, levels);
        }
    }
    Address::queue(vhost, text.clone())
}

/// Moves the headers that have a typed field of their own there.
fn take_headers(message: &mut Message) -> Result<(), Fault> {
    // [RABBIT-cc-1]
    let names: [&[u8]; 3] = [b"CC", b"BCC", b"x-delay"];
    if names
        .iter()
        .any(|name| message.properties.first(name).is_some())
    {
        let mut copies = Vec::new();
        for name in [&b"CC"[..], b"BCC"] {
            if let Some(value) = message.properties.first(name) {
                carbon_copies(name, value, message.address.kind, &mut copies)?;
            }
        }
        while message.properties.take(b"BCC").is_some() {}
        if !copies.is_empty() {
            message.fields_mut().carbon_copies = copies;
        }
        if let Some(delay) = message.properties.first(b"x-delay").and_then(Value::as_i64) {
            message.delay_ms = u64::try_from(delay).unwrap_or(0);
        }
    }
    if message
        .properties
        .0
        .iter()
        .any(|(name, _)| OURS.contains(&&name[..]) || name.starts_with(PREFIX))
    {
        take_named(message);
    }
    // DOORS 18: retained messages live in the root space only; elsewhere the header is an ordinary one.
    if message.address.kind == Kind::Topic
        && message.properties.first(b"x-mqtt-retain") == Some(&Value::Bool(true))
    {
        message.properties.take(b"x-mqtt-retain");
        message.retain = true;
    }
    Ok(())
}

/// The headers of [`OURS`] that are fields, and the properties that were shown behind [`PREFIX`].
fn take_named(message: &mut Message) {
    let vhost = message.address.vhost;
    let Message {
        properties,
        group,
        fields,
        ..
    } = message;
    let mut take_text = |name: &[u8]| {
        let (Value::Text(text) | Value::Symbol(text)) = properties.first(name)? else {
            return None;
        };
        let text = text.clone();
        properties.take(name);
        Some(text)
    };
    let fields = fields.get_or_insert_with(Box::default);
    *group = take_text(GROUP).or_else(|| take_text(b"JMSXGroupID"));
    fields.dedup_id = take_text(DEDUP).or_else(|| take_text(b"_AMQ_DUPL_ID"));
    fields.trace_parent = take_text(TRACE_PARENT);
    fields.trace_state = take_text(TRACE_STATE);
    if let Some(text) = take_text(REPLY_TO) {
        fields.reply_to = Some(reply_address(&text, vhost));
    }
    for (name, field) in [
        (CONTENT_TYPE, &mut fields.content_type),
        (CONTENT_ENCODING, &mut fields.content_encoding),
        (SUBJECT, &mut fields.subject),
        (APP_ID, &mut fields.app_id),
    ] {
        if field.is_none() {
            *field = take_text(name);
        }
    }
    let sequence = properties
        .first(GROUP_SEQUENCE)
        .and_then(Value::as_i64)
        .and_then(|sequence| u32::try_from(sequence).ok());
    if sequence.is_some() {
        properties.take(GROUP_SEQUENCE);
        fields.group_sequence = sequence;
    }
    for (name, field) in [
        (MESSAGE_ID, &mut fields.message_id),
        (CORRELATION_ID, &mut fields.correlation_id),
    ] {
        let id = match properties.first(name) {
            Some(id @ (Value::Text(_) | Value::Bytes(_))) => id.clone(),
            Some(Value::LongString(bytes)) => Value::Bytes(bytes.clone()),
            _ => continue,
        };
        properties.take(name);
        *field = Some(id);
    }
    if **fields == Fields::default() {
        message.fields = None;
    }
    for (name, _) in &mut properties.0 {
        if let Some(inner) = name.strip_prefix(PREFIX)
            && (OURS.contains(&inner) || inner.starts_with(PREFIX))
        {
            *name = name.slice_ref(inner);
        }
    }
}

/// The keys in one of the two headers. What is no text in the list names no queue, and is passed over.
fn carbon_copies(
    name: &[u8],
    value: &Value,
    kind: Kind,
    out: &mut Vec<Levels>,
) -> Result<(), Fault> {
    let Value::List(keys) = value else {
        return Err(Fault::new(
            ReplyCode::PreconditionFailed,
            format!(
                "invalid message: {{unacceptable_type_in_header,\"{}\",{}}}",
                lossy(name),
                type_name(value)
            ),
        ));
    };
    for key in keys {
        let (Value::Text(text) | Value::LongString(text)) = key else {
            continue;
        };
        if text.len() > Short::LEN_MAX {
            return Err(Fault::new(
                ReplyCode::PreconditionFailed,
                format!(
                    "invalid message: a key of {} bytes in header '{}', the longest is {}",
                    text.len(),
                    lossy(name),
                    Short::LEN_MAX
                ),
            ));
        }
        out.push(match kind {
            Kind::Queue => Levels::one(text.clone()),
            _ => key::levels(text),
        });
    }
    Ok(())
}
