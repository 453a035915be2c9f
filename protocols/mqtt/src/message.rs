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
//! | user property `group-id` or `JMSXGroupID`, `group-sequence` | `group`, `group_sequence` |
//! | user property `x-deduplication-id` or `_AMQ_DUPL_ID` | `dedup_id` |
//! | user property `priority`, 0 to 255 in plain decimal | `priority` |
//! | user property `x-message-id` | `message_id`; an id that is no text is `base64:` and its base64 |
//! | user property `x-timestamp-ms`, in plain decimal | `created` |
//! | user property `x-content-encoding`, `x-type`, `x-app-id` | the fields; `x-type` is the subject |
//! | user property `x-user-id` | `user_id`, which must be the user of the connection |
//! | user property `traceparent`, `tracestate` | trace fields |
//! | user property `x-property-NAME` | the property NAME, when NAME is one of this table |
//! | user property `x-bascule-json` | which properties are JSON ([`message::JSON_NAMES`]) |
//!
//! The end-to-end properties are kept as they came and reused for MQTT 5 subscribers. A list of plain values is a repeated
//! user property; what has no plain text is JSON.
//!
//! Without an equal in MQTT 5, and so not shown: dead-letter history, counts of deliveries; a reply-to on an exchange; names
//! and texts that MQTT cannot write (U+0000, over 65,535 bytes). The last two are counted. Before MQTT 5 there is the topic,
//! the QoS, the retain flag and the body.

use bytes::{BufMut, Bytes};
use message::{
    Address, BodyKind, JSON_NAMES, Kind, Lists, Message, Native, NativeForm, Timestamp, Value,
    VhostId,
};

use crate::{
    codec::{Properties, Property, ReasonCode, Text, put_binary},
    names::{Names, Subject},
};

const GROUP: &str = "group-id";
const GROUP_SEQUENCE: &str = "group-sequence";
const DEDUP: &str = "x-deduplication-id";
const PRIORITY: &str = "priority";
const MESSAGE_ID: &str = "x-message-id";
const CREATED: &str = "x-timestamp-ms";
const CONTENT_ENCODING: &str = "x-content-encoding";
const SUBJECT: &str = "x-type";
const APP_ID: &str = "x-app-id";
const USER_ID: &str = "x-user-id";
const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";

/// User properties that mean a field. A property of another protocol that has such a name is shown behind [`PREFIX`].
const OURS: &[&str] = &[
    GROUP,
    GROUP_SEQUENCE,
    DEDUP,
    PRIORITY,
    MESSAGE_ID,
    CREATED,
    CONTENT_ENCODING,
    SUBJECT,
    APP_ID,
    USER_ID,
    TRACE_PARENT,
    TRACE_STATE,
    JSON_NAMES,
    "JMSXGroupID",
    "_AMQ_DUPL_ID",
];
const PREFIX: &str = "x-property-";

/// Why the properties of a publish are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PropertyFault {
    /// The payload is not the text that it is said to be: a refusal of this message.
    PayloadFormat,
    /// The response topic is empty or holds a wildcard [MQTT-3.3.2-14]: a Protocol Error.
    ResponseTopic,
    /// `x-user-id` names somebody else (DOORS 26): a refusal of this message.
    UserId,
}

impl PropertyFault {
    pub(crate) const fn reason(self) -> ReasonCode {
        match self {
            Self::PayloadFormat => ReasonCode::PAYLOAD_FORMAT_INVALID,
            Self::ResponseTopic => ReasonCode::PROTOCOL_ERROR,
            Self::UserId => ReasonCode::NOT_AUTHORIZED,
        }
    }
}

/// Who publishes, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publisher<'a> {
    pub(crate) names: Names,
    pub(crate) user: &'a str,
    pub(crate) now: Timestamp,
}

/// Writes what `properties` say into `message`, and keeps the end-to-end ones as its native head.
pub(crate) fn take_properties(
    message: &mut Message,
    properties: Properties,
    by: Publisher<'_>,
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
                message.expiry = Some(by.now.plus_ms(u64::from(seconds) * 1000));
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
                if let Ok(subject) = by.names.subject(bytes) {
                    message.fields_mut().reply_to = Some(subject.into_address(vhost));
                }
            }
            Property::CorrelationData(bytes) => {
                message.fields_mut().correlation_id = Some(match std::str::from_utf8(&bytes) {
                    Ok(_) => Value::Text(bytes),
                    Err(_) => Value::Bytes(bytes),
                });
            }
            Property::UserProperty(name, value) => {
                take_user_property(message, name, value, by.user)?;
            }
            _ => {}
        }
    }
    message.properties.read_texts();
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

fn take_user_property(
    message: &mut Message,
    name: Text,
    value: Text,
    user: &str,
) -> Result<(), PropertyFault> {
    let fields = message.fields();
    let field: fn(&mut Message) -> &mut Option<Bytes> = match name.as_str() {
        GROUP | "JMSXGroupID" if message.group.is_none() => |m| &mut m.group,
        DEDUP | "_AMQ_DUPL_ID" if fields.dedup_id.is_none() => |m| &mut m.fields_mut().dedup_id,
        CONTENT_ENCODING if fields.content_encoding.is_none() => {
            |m| &mut m.fields_mut().content_encoding
        }
        SUBJECT if fields.subject.is_none() => |m| &mut m.fields_mut().subject,
        APP_ID if fields.app_id.is_none() => |m| &mut m.fields_mut().app_id,
        USER_ID if fields.user_id.is_none() => {
            if value.as_str() != user {
                return Err(PropertyFault::UserId);
            }
            |m| &mut m.fields_mut().user_id
        }
        TRACE_PARENT if fields.trace_parent.is_none() => |m| &mut m.fields_mut().trace_parent,
        TRACE_STATE if fields.trace_state.is_none() => |m| &mut m.fields_mut().trace_state,
        MESSAGE_ID if fields.message_id.is_none() => {
            message.fields_mut().message_id = Some(Value::id_from_text(value.into_bytes()));
            return Ok(());
        }
        other => {
            if !take_number(message, other, value.as_str()) {
                let name = match other.strip_prefix(PREFIX) {
                    Some(inner) if OURS.contains(&inner) || inner.starts_with(PREFIX) => {
                        name.as_bytes().slice_ref(inner.as_bytes())
                    }
                    _ => name.into_bytes(),
                };
                let value = Value::Text(value.into_bytes());
                message.properties.push(name, value);
            }
            return Ok(());
        }
    };
    *field(message) = Some(value.into_bytes());
    Ok(())
}

/// Takes a field that is a number, if it is written in the one way in which we would write it.
fn take_number(message: &mut Message, name: &str, text: &str) -> bool {
    match name {
        PRIORITY if message.priority.is_none() => {
            message.priority = plain_number(text);
            message.priority.is_some()
        }
        CREATED if message.created.is_none() => {
            message.created = plain_number(text).map(Timestamp);
            message.created.is_some()
        }
        GROUP_SEQUENCE if message.fields().group_sequence.is_none() => {
            let Some(sequence) = plain_number(text) else {
                return false;
            };
            message.fields_mut().group_sequence = Some(sequence);
            true
        }
        _ => false,
    }
}

fn plain_number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    let number: T = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A will as a message. Its time to live is told apart: it starts when the will is published.
pub(crate) fn decode_will(
    will: crate::codec::Will,
    subject: Subject,
    vhost: VhostId,
    by: Publisher<'_>,
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
    take_properties(&mut message, will.properties, by)?;
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

/// Appends the end-to-end properties of a message that another protocol published, or an older MQTT. Gives how many could
/// not be written.
pub(crate) fn encode_properties(message: &Message, names: Names, out: &mut Vec<u8>) -> u64 {
    let mut omitted = 0;
    if message.body_kind == BodyKind::Text {
        Property::PayloadFormatIndicator(1).encode(out);
    }
    let mut put = |property: Option<Property>, out: &mut Vec<u8>| match property {
        Some(property) => property.encode(out),
        None => omitted += 1,
    };
    if message.fields.is_some() || message.group.is_some() {
        let fields = message.fields();
        if let Some(kind) = &fields.content_type {
            put(text(kind.clone()).map(Property::ContentType), out);
        }
        if let Some(address) = &fields.reply_to {
            put(
                response_topic(address, names).map(Property::ResponseTopic),
                out,
            );
        }
        if let Some(id) = &fields.correlation_id {
            put(correlation_data(id).map(Property::CorrelationData), out);
        }
        for (name, value) in [
            (GROUP, &message.group),
            (DEDUP, &fields.dedup_id),
            (CONTENT_ENCODING, &fields.content_encoding),
            (SUBJECT, &fields.subject),
            (APP_ID, &fields.app_id),
            (USER_ID, &fields.user_id),
            (TRACE_PARENT, &fields.trace_parent),
            (TRACE_STATE, &fields.trace_state),
        ] {
            if let Some(value) = value {
                put(
                    text(value.clone()).map(|value| Property::UserProperty(name.into(), value)),
                    out,
                );
            }
        }
        if let Some(id) = &fields.message_id {
            omitted += put_texts(MESSAGE_ID, id.id_text().as_deref(), out);
        }
        if let Some(sequence) = fields.group_sequence {
            omitted += put_texts(GROUP_SEQUENCE, Some(sequence.to_string().as_bytes()), out);
        }
    }
    let numbers = [
        (PRIORITY, message.priority.map(u64::from)),
        (CREATED, message.created.map(|created| created.0)),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            omitted += put_texts(name, Some(number.to_string().as_bytes()), out);
        }
    }
    // DOORS rule 23: a repeated name is a list, and back.
    let json = message
        .properties
        .write_texts(Lists::Repeated, |name, text| {
            let ours = OURS.iter().any(|ours| name == ours.as_bytes());
            let written = if ours || name.starts_with(PREFIX.as_bytes()) {
                put_user_property(&[PREFIX.as_bytes(), name].concat(), text, out)
            } else {
                put_user_property(name, text, out)
            };
            omitted += u64::from(!written);
        });
    if let Some(json) = json {
        omitted += put_texts(JSON_NAMES, Some(json.as_bytes()), out);
    }
    omitted
}

fn text(bytes: Bytes) -> Option<Text> {
    Text::new(bytes).ok()
}

/// Appends a user property of ours; gives 1 when it cannot be written.
fn put_texts(name: &str, text: Option<&[u8]>, out: &mut Vec<u8>) -> u64 {
    let written = text.is_some_and(|text| put_user_property(name.as_bytes(), text, out));
    u64::from(!written)
}

/// Appends a user property. `false`, and nothing appended: MQTT cannot write it.
fn put_user_property(name: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
    let writable = |bytes: &[u8]| {
        bytes.len() <= 65_535 && !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok()
    };
    if !writable(name) || !writable(value) {
        return false;
    }
    out.put_u8(0x26);
    put_binary(out, name);
    put_binary(out, value);
    true
}

fn response_topic(address: &Address, names: Names) -> Option<Text> {
    if address.kind == Kind::Exchange {
        return None;
    }
    let mut topic = Vec::new();
    if !names.encode_address(address, &mut topic) {
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

    fn by(now: Timestamp) -> Publisher<'static> {
        Publisher {
            names: Names::new(8),
            user: "guest",
            now,
        }
    }

    fn encode(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        encode_properties(message, Names::new(8), &mut out);
        out
    }

    #[test]
    fn an_expiry_interval_comes_back_whole_at_every_bound() {
        for now in [0, 1_790_000_000_000] {
            for seconds in [0, 1, 2_147_483_648, u32::MAX] {
                let mut message = Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::new());
                let properties = Properties(vec![Property::MessageExpiryInterval(seconds)]);
                take_properties(&mut message, properties, by(Timestamp(now))).expect("no fault");
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
        let out = encode(&message);
        assert_eq!(&out[3..], b"$queue/a/b%2Bc");
        message.fields_mut().reply_to = Some(Address::exchange(
            VhostId::ROOT,
            "x",
            message::Levels::none(),
        ));
        assert!(encode(&message).is_empty());
    }

    #[test]
    fn doors_d23_lists_repeat_and_what_cannot_be_written_is_left_out_and_counted() {
        let mut message = Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::new());
        let list = Value::List(vec![Value::I32(-1), Value::Bool(true)]);
        message.properties.push("n", list);
        message.properties.push("nul", Value::text("\0"));
        let mut out = Vec::new();
        assert_eq!(encode_properties(&message, Names::new(8), &mut out), 1);
        assert_eq!(
            out,
            b"\x26\x00\x01n\x00\x02-1\x26\x00\x01n\x00\x04true".to_vec()
        );
    }
}
