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
//! | reply-to | a queue, or `$topic/KEY` |
//! | headers | properties, in order; but: |
//! | `CC` `BCC` | `carbon_copies`; `BCC` is taken out |
//! | `x-delay` (integer) | `delay_ms`, and stays |
//! | `x-group-id` `JMSXGroupID` | `group` |
//! | `x-deduplication-id` | `dedup_id` |
//! | `traceparent` `tracestate` | trace fields |
//! | `x-mqtt-retain` true, on a root topic | `retain` |
//! | `x-message-id` `x-correlation-id` `x-reply-to` | the fields, for values that are not a short string |
//! | cluster-id | nothing; it stays in the native head |
//!
//! The properties as they came are the native head, minus `BCC`. A delivery sends it as it is unless something must be
//! added: the dead-letter history, `x-delivery-count`, or an address that is no short string (`x-bascule-address`).
//! This file is the way in, `envelope.rs` the way out.

mod envelope;
#[cfg(test)]
mod tests;

use bytes::Bytes;
pub(crate) use envelope::{Envelope, of_delivery, of_return};
use message::{
    Address, Fields, Kind, Levels, Message, Native, NativeForm, Timestamp, Value, VhostId,
};

use crate::{
    arguments::lossy,
    codec::{BasicProperties, ContentHeader, Short, basic},
    error::{Fault, ReplyCode},
    key,
};

/// The exchange that is the root topic space.
pub(crate) const ROOT_EXCHANGE: &[u8] = b"amq.topic";

/// The pseudo-queue of direct reply-to.
pub(crate) const DIRECT_REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// Who publishes, where and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publisher<'a> {
    pub(crate) vhost: VhostId,
    pub(crate) user: &'a str,
    /// What stands for `amq.rabbitmq.reply-to` on this channel.
    pub(crate) reply_queue: Option<&'a Bytes>,
    pub(crate) now: Timestamp,
}

/// Makes the message of a publish, its content header and its whole body.
pub(crate) fn from_publish(
    publish: &basic::Publish,
    header: &ContentHeader,
    body: Bytes,
    by: Publisher<'_>,
) -> Result<Message, Fault> {
    let address = address(
        by.vhost,
        publish.exchange.bytes(),
        publish.routing_key.bytes(),
    )?;
    let mut message = Message::new(address, body);
    let mut properties = BasicProperties::decode(header.properties.clone())?;
    let mut head = header.properties.clone();
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
    message.native = Some(Native {
        form: NativeForm::AMQP091,
        head,
    });
    Ok(message)
}

/// Where a publish goes. DOORS 5 and 9.
fn address(vhost: VhostId, exchange: &Bytes, key: &Bytes) -> Result<Address, Fault> {
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
            return Err(Fault::new(ReplyCode::NotImplemented, "streams"));
        }
        return Ok(Address::queue(vhost, key.clone()));
    }
    if &exchange[..] == ROOT_EXCHANGE {
        return topic(key::levels(key));
    }
    Ok(Address::exchange(vhost, exchange.clone(), key::levels(key)))
}

/// Milliseconds as decimal text.
fn expiration(text: &Short) -> Result<u64, Fault> {
    let invalid = || {
        Fault::new(
            ReplyCode::PreconditionFailed,
            format!("invalid expiration '{text}'"),
        )
    };
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    std::str::from_utf8(text)
        .ok()
        .and_then(|digits| digits.parse::<u32>().ok())
        .map(u64::from)
        .ok_or_else(invalid)
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
        text.as_ref().map(|text| {
            let text = text.bytes().clone();
            if std::str::from_utf8(&text).is_ok() {
                Value::Text(text)
            } else {
                Value::Bytes(text)
            }
        })
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
    let Message {
        properties, fields, ..
    } = message;
    let mut take_text = |name: &[u8]| {
        let text = match properties.first(name)? {
            Value::Text(text) | Value::Symbol(text) => text.clone(),
            _ => return None,
        };
        properties.take(name);
        Some(text)
    };
    let group = take_text(b"x-group-id").or_else(|| take_text(b"JMSXGroupID"));
    let dedup = take_text(b"x-deduplication-id");
    let (parent, state) = (take_text(b"traceparent"), take_text(b"tracestate"));
    let reply_to = take_text(b"x-reply-to");
    let mut take_id = |name: &[u8]| {
        matches!(
            properties.first(name)?,
            Value::Text(_) | Value::Bytes(_) | Value::LongString(_)
        )
        .then(|| properties.take(name))
        .flatten()
        .map(|id| match id {
            Value::LongString(bytes) => Value::Bytes(bytes),
            other => other,
        })
    };
    let (message_id, correlation_id) = (take_id(b"x-message-id"), take_id(b"x-correlation-id"));
    let any = group.is_some()
        || dedup.is_some()
        || parent.is_some()
        || state.is_some()
        || reply_to.is_some()
        || message_id.is_some()
        || correlation_id.is_some();
    if any {
        let fields = fields.get_or_insert_with(Box::default);
        fields.group = group;
        fields.dedup_id = dedup;
        fields.trace_parent = parent;
        fields.trace_state = state;
        if let Some(text) = reply_to {
            fields.reply_to = Some(reply_address(&text, message.address.vhost));
        }
        fields.message_id = message_id.or_else(|| fields.message_id.take());
        fields.correlation_id = correlation_id.or_else(|| fields.correlation_id.take());
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

fn carbon_copies(
    name: &[u8],
    value: &Value,
    kind: Kind,
    out: &mut Vec<Levels>,
) -> Result<(), Fault> {
    let unacceptable = || {
        Fault::new(
            ReplyCode::PreconditionFailed,
            format!("unacceptable type in header '{}'", lossy(name)),
        )
    };
    let Value::List(keys) = value else {
        return Err(unacceptable());
    };
    for key in keys {
        let (Value::Text(text) | Value::LongString(text)) = key else {
            return Err(unacceptable());
        };
        if text.len() > Short::LEN_MAX {
            return Err(unacceptable());
        }
        out.push(match kind {
            Kind::Queue => Levels::one(text.clone()),
            _ => key::levels(text),
        });
    }
    Ok(())
}
