//! The only place where a PUBLISH becomes a message and back.
//!
//! | MQTT 5 | message |
//! |---|---|
//! | topic name | address (`names.rs`) |
//! | QoS | `qos`; `durable` when 1 or 2 |
//! | RETAIN | `retain`, on topics only |
//! | payload format indicator 1 | `BodyKind::Text`, checked |
//! | message expiry interval | `expiry`; sent on as the seconds that are left |
//! | content type, correlation data | the fields of that name |
//! | response topic | `reply_to`; `$queue/NAME` is a queue |
//! | user properties | properties, in order, as text |
//! | user property `group-id` | `group` |
//! | user property `x-deduplication-id` | `dedup_id` |
//! | user property `priority`, 0 to 255 in plain decimal | `priority` |
//!
//! The end-to-end properties are kept as they came and reused for MQTT 5 subscribers.
//!
//! Without an equal in MQTT 5, and so not shown: content encoding, message id, user id, app id, subject, creation time, group
//! sequence, trace fields, dead-letter history, counts of deliveries; a reply-to on an exchange; properties whose value is
//! null, bytes, a map or a described value, or whose text MQTT cannot write (U+0000, over 65,535 bytes). Before MQTT 5
//! there is the topic, the QoS, the retain flag and the body.

use bytes::{BufMut, Bytes};
use message::{Address, BodyKind, Kind, Message, Native, NativeForm, Timestamp, Value, VhostId};

use crate::{
    codec::{Properties, Property, ReasonCode, Text, put_binary},
    names::{Subject, encode_address},
};

const GROUP: &str = "group-id";
const DEDUP: &str = "x-deduplication-id";
const PRIORITY: &str = "priority";

/// Why the properties of a publish are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PropertyFault {
    /// The payload is not the text that it is said to be: a refusal of this message.
    PayloadFormat,
    /// The response topic is empty or holds a wildcard [MQTT-3.3.2-14]: a Protocol Error.
    ResponseTopic,
}

impl PropertyFault {
    pub(crate) const fn reason(self) -> ReasonCode {
        match self {
            Self::PayloadFormat => ReasonCode::PAYLOAD_FORMAT_INVALID,
            Self::ResponseTopic => ReasonCode::PROTOCOL_ERROR,
        }
    }
}

/// Writes what `properties` say into `message`, and keeps the end-to-end ones as its native head.
pub(crate) fn take_properties(
    message: &mut Message,
    properties: Properties,
    levels_max: usize,
    now: Timestamp,
) -> Result<(), PropertyFault> {
    let end_to_end: usize = properties
        .0
        .iter()
        .filter(|property| is_end_to_end(property))
        .map(Property::encoded_len)
        .sum();
    let mut native = Vec::with_capacity(end_to_end);
    let vhost = message.address.vhost;
    for property in properties.0 {
        if is_end_to_end(&property) {
            property.encode(&mut native);
        }
        match property {
            Property::PayloadFormatIndicator(1) => {
                // MQTT 5, 3.3.2.3.2: checked, because other protocols rely on text being text.
                if std::str::from_utf8(&message.body).is_err() {
                    return Err(PropertyFault::PayloadFormat);
                }
                message.body_kind = BodyKind::Text;
            }
            Property::MessageExpiryInterval(seconds) => {
                message.expiry = Some(now.plus_ms(u64::from(seconds) * 1000));
            }
            Property::ContentType(text) => {
                message.fields_mut().content_type = Some(text.into_bytes());
            }
            Property::ResponseTopic(text) => {
                let bytes = text.as_bytes();
                if bytes.is_empty() || bytes.iter().any(|b| matches!(b, b'+' | b'#')) {
                    return Err(PropertyFault::ResponseTopic);
                }
                // A topic that cannot be published to is kept in the native head, for MQTT only.
                if let Ok(subject) = Subject::decode(bytes, levels_max) {
                    message.fields_mut().reply_to = Some(subject.into_address(vhost));
                }
            }
            Property::CorrelationData(bytes) => {
                message.fields_mut().correlation_id = Some(match std::str::from_utf8(&bytes) {
                    Ok(_) => Value::Text(bytes),
                    Err(_) => Value::Bytes(bytes),
                });
            }
            Property::UserProperty(name, value) => take_user_property(message, name, value),
            _ => {}
        }
    }
    if !native.is_empty() {
        message.native = Some(Native {
            form: NativeForm::MQTT5,
            head: Bytes::from(native),
        });
    }
    Ok(())
}

/// MQTT 5, 3.3.2.3: the server passes these on unaltered: [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17],
/// [MQTT-3.3.2-20], and in their order [MQTT-3.3.2-18], [MQTT-3.1.3-10].
const fn is_end_to_end(property: &Property) -> bool {
    matches!(
        property,
        Property::PayloadFormatIndicator(_)
            | Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_)
            | Property::UserProperty(..)
    )
}

fn take_user_property(message: &mut Message, name: Text, value: Text) {
    match name.as_str() {
        GROUP if message.fields().group.is_none() => {
            message.fields_mut().group = Some(value.into_bytes());
        }
        DEDUP if message.fields().dedup_id.is_none() => {
            message.fields_mut().dedup_id = Some(value.into_bytes());
        }
        PRIORITY if message.priority.is_none() && plain_priority(value.as_str()).is_some() => {
            message.priority = plain_priority(value.as_str());
        }
        _ => message
            .properties
            .push(name.into_bytes(), Value::Text(value.into_bytes())),
    }
}

/// The number, if it is written in the one way in which we would write it.
fn plain_priority(text: &str) -> Option<u8> {
    let priority: u8 = text.parse().ok()?;
    (priority.to_string() == text).then_some(priority)
}

/// A will as a message. Its time to live is told apart: it starts when the will is published.
pub(crate) fn decode_will(
    will: crate::codec::Will,
    subject: Subject,
    vhost: VhostId,
    levels_max: usize,
    now: Timestamp,
) -> Result<session::Will, PropertyFault> {
    let number = |wanted: fn(&Property) -> Option<u32>| will.properties.0.iter().find_map(wanted);
    let delay = number(|property| match property {
        Property::WillDelayInterval(seconds) => Some(*seconds),
        _ => None,
    });
    let ttl = number(|property| match property {
        Property::MessageExpiryInterval(seconds) => Some(*seconds),
        _ => None,
    });
    let mut message = Message::new(subject.into_address(vhost), will.payload.clone());
    stamp(&mut message, will.qos, will.retain);
    take_properties(&mut message, will.properties, levels_max, now)?;
    message.expiry = None;
    Ok(session::Will {
        message: std::sync::Arc::new(message),
        delay_ms: u64::from(delay.unwrap_or(0)) * 1000,
        ttl_ms: ttl.map(|seconds| u64::from(seconds) * 1000),
    })
}

/// QoS, durability and retain, which every version has.
pub(crate) fn stamp(message: &mut Message, qos: u8, retain: bool) {
    message.qos = qos;
    message.durable = qos > 0;
    // DOORS rule 18: retained on topics only.
    // [MQTT-3.1.2-14], [MQTT-3.1.2-15]: wills too.
    message.retain = retain && message.address.kind == Kind::Topic;
}

/// The publisher's own end-to-end properties, if it spoke MQTT 5.
pub(crate) fn native_properties(message: &Message) -> Option<&[u8]> {
    message
        .native
        .as_ref()
        .filter(|native| native.form == NativeForm::MQTT5)
        .map(|native| &native.head[..])
}

/// Appends the end-to-end properties of a message that another protocol published, or an older MQTT.
pub(crate) fn encode_properties(message: &Message, out: &mut Vec<u8>) {
    if message.body_kind == BodyKind::Text {
        Property::PayloadFormatIndicator(1).encode(out);
    }
    if let Some(fields) = &message.fields {
        if let Some(text) = fields.content_type.clone().and_then(text) {
            Property::ContentType(text).encode(out);
        }
        if let Some(topic) = fields.reply_to.as_ref().and_then(response_topic) {
            Property::ResponseTopic(topic).encode(out);
        }
        if let Some(data) = fields.correlation_id.as_ref().and_then(correlation_data) {
            Property::CorrelationData(data).encode(out);
        }
        for (name, value) in [(GROUP, &fields.group), (DEDUP, &fields.dedup_id)] {
            if let Some(value) = value.clone().and_then(text) {
                Property::UserProperty(name.into(), value).encode(out);
            }
        }
    }
    if let Some(priority) = message.priority {
        put_user_property(PRIORITY.as_bytes(), priority.to_string().as_bytes(), out);
    }
    for (name, value) in &message.properties.0 {
        // DOORS rule 23: a repeated name is a list, and back.
        match value {
            Value::List(values) | Value::Array(values) => {
                for value in values {
                    encode_value(name, value, out);
                }
            }
            value => encode_value(name, value, out),
        }
    }
}

fn text(bytes: Bytes) -> Option<Text> {
    Text::new(bytes).ok()
}

fn encode_value(name: &[u8], value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) | Value::Symbol(text) => put_user_property(name, text, out),
        value => {
            if let Some(text) = value.to_plain_text() {
                put_user_property(name, text.as_bytes(), out);
            }
        }
    }
}

fn put_user_property(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let writable = |bytes: &[u8]| {
        bytes.len() <= 65_535 && !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok()
    };
    if writable(name) && writable(value) {
        out.put_u8(0x26);
        put_binary(out, name);
        put_binary(out, value);
    }
}

fn response_topic(address: &Address) -> Option<Text> {
    if address.kind == Kind::Exchange {
        return None;
    }
    let mut topic = Vec::new();
    if !encode_address(address, &mut topic) {
        return None;
    }
    text(Bytes::from(topic))
}

fn correlation_data(id: &Value) -> Option<Bytes> {
    let data = match id {
        Value::Text(bytes) | Value::Bytes(bytes) | Value::Symbol(bytes) => bytes.clone(),
        id => Bytes::from(id.to_plain_text()?),
    };
    (data.len() <= 65_535).then_some(data)
}

/// The seconds until `expiry`, rounded up, so that a message that is not expired is not sent as one that is.
pub(crate) fn seconds_left(expiry: Timestamp, now: Timestamp) -> u32 {
    u32::try_from(expiry.since(now).div_ceil(1000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_interval_comes_back_whole_at_every_bound() {
        for now in [0, 1_790_000_000_000] {
            for seconds in [0, 1, 2_147_483_648, u32::MAX] {
                let mut message = Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::new());
                let properties = Properties(vec![Property::MessageExpiryInterval(seconds)]);
                take_properties(&mut message, properties, 8, Timestamp(now)).expect("no fault");
                let expiry = message.expiry.expect("set");
                assert!(expiry >= Timestamp(now), "never in the past");
                assert_eq!(seconds_left(expiry, Timestamp(now)), seconds);
            }
        }
        assert_eq!(seconds_left(Timestamp::MAX, Timestamp(0)), u32::MAX);
        assert_eq!(seconds_left(Timestamp(1_001), Timestamp(0)), 2);
    }

    #[test]
    fn doors_a9_reply_to_a_queue_is_a_queue_topic_and_to_an_exchange_is_nothing() {
        let mut message = Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::new());
        message.fields_mut().reply_to = Some(Address::queue(VhostId::ROOT, "a/b+c"));
        let mut out = Vec::new();
        encode_properties(&message, &mut out);
        assert_eq!(&out[3..], b"$queue/a/b%2Bc");
        message.fields_mut().reply_to = Some(Address::exchange(
            VhostId::ROOT,
            "x",
            message::Levels::none(),
        ));
        out.clear();
        encode_properties(&message, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn doors_d23_lists_repeat_and_what_has_no_text_is_left_out() {
        let mut message = Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::new());
        let list = Value::List(vec![Value::I32(-1), Value::Null, Value::Bool(true)]);
        message.properties.push("n", list);
        message.properties.push("bytes", Value::Bytes("x".into()));
        message.properties.push("nul", Value::text("\0"));
        let mut out = Vec::new();
        encode_properties(&message, &mut out);
        assert_eq!(
            out,
            b"\x26\x00\x01n\x00\x02-1\x26\x00\x01n\x00\x04true".to_vec()
        );
    }
}
