//! Message attributes for what other protocols have fields for (DOORS 23), in both directions.
//!
//! | attribute | field |
//! |---|---|
//! | `bascule.content-type`, `bascule.content-encoding`, `bascule.subject`, `bascule.app-id` | of that name |
//! | `bascule.correlation-id`, `bascule.message-id` | of that name; one that is no text is `base64:` and its base64 |
//! | `bascule.reply-to` | reply-to: `$queue/NAME`, or a topic as MQTT writes it (DOORS 9) |
//! | `bascule.priority`, `bascule.group-sequence`, `bascule.expiry` (ms since 1970) | of that name; `Number`s |
//! | `traceparent`, `tracestate` | W3C trace context |
//! | `x-mqtt-retain` = `true` | retain, on topics |
//!
//! All are of type `String` but for the numbers. One of another type, or with a value that the field cannot hold, is refused: as an
//! ordinary attribute it would be without effect. A wrong trace context or retain is one: those names are not ours. The message id of SQS and SNS
//! themselves is no attribute. Not shown: the publisher's time and its durable flag.

use bytes::Bytes;
use message::{
    Address, Kind, Levels, Message, Timestamp, Value, VhostId, escape_level, unescape_level,
};

use crate::{
    attributes::{Attribute, Content},
    body,
};

const QUEUE: &[u8] = b"$queue/";
/// What a level of a topic may not show, and what the name of a queue may not.
const TOPIC_SPECIAL: &[u8] = b"/+#";
const QUEUE_SPECIAL: &[u8] = b"+#";

/// Where to reply, as text. `None`: an exchange or a stream.
fn address_text(address: &Address) -> Option<String> {
    let bytes = match address.kind {
        Kind::Queue => [QUEUE, &escape_level(&address.name, QUEUE_SPECIAL)].concat(),
        Kind::Topic => {
            let levels: Vec<_> = address
                .key
                .iter()
                .map(|level| escape_level(level, TOPIC_SPECIAL))
                .collect();
            levels.join(&b"/"[..])
        }
        Kind::Stream | Kind::Exchange => return None,
    };
    String::from_utf8(bytes).ok()
}

fn address(text: &str, vhost: VhostId) -> Option<Address> {
    if let Some(name) = text.as_bytes().strip_prefix(QUEUE) {
        let name = unescape_level(name, QUEUE_SPECIAL).into_owned();
        return (!name.is_empty()).then(|| Address::queue(vhost, name));
    }
    if text.is_empty() || text.starts_with('$') {
        return None;
    }
    let levels = text
        .as_bytes()
        .split(|byte| *byte == b'/')
        .map(|level| unescape_level(level, TOPIC_SPECIAL));
    Some(Address::topic(vhost, Levels::collect(levels)?))
}

/// What the attribute of that name must be, if it is for a field and is not that.
pub(crate) fn wanted(attribute: &Attribute) -> Option<&'static str> {
    let text = match &attribute.content {
        Content::Text(text) => &text[..],
        Content::Binary(_) => "",
    };
    let (kind, is_good, wanted) = match &attribute.name[..] {
        "bascule.reply-to" => (
            "String",
            address(text, VhostId::ROOT).is_some(),
            "a String: $queue/NAME, or a topic",
        ),
        "bascule.content-type"
        | "bascule.content-encoding"
        | "bascule.subject"
        | "bascule.app-id"
        | "bascule.correlation-id"
        | "bascule.message-id" => ("String", true, "a String"),
        "bascule.priority" => (
            "Number",
            text.parse::<u8>().is_ok(),
            "a Number from 0 to 255",
        ),
        "bascule.group-sequence" => (
            "Number",
            text.parse::<u32>().is_ok(),
            "a Number from 0 to 4294967295",
        ),
        "bascule.expiry" => (
            "Number",
            text.parse::<u64>().is_ok(),
            "a Number of milliseconds since 1970",
        ),
        body::ENCODING => ("String", text == "base64", "the String base64"),
        _ => return None,
    };
    (attribute.data_type != kind || !is_good).then_some(wanted)
}

/// Takes an attribute as a field of the message. `false`: it is none.
pub(crate) fn take(attribute: &Attribute, message: &mut Message) -> bool {
    let Content::Text(text) = &attribute.content else {
        return false;
    };
    match &attribute.data_type[..] {
        "String" => take_text(&attribute.name, text, message),
        "Number" => take_number(&attribute.name, text, message),
        _ => false,
    }
}

fn take_text(name: &str, text: &str, message: &mut Message) -> bool {
    let vhost = message.address.vhost;
    let bytes = || Bytes::copy_from_slice(text.as_bytes());
    match name {
        "bascule.reply-to" => match address(text, vhost) {
            Some(address) => message.fields_mut().reply_to = Some(address),
            None => return false,
        },
        "x-mqtt-retain" if text == "true" && message.address.kind == Kind::Topic => {
            message.retain = true;
        }
        "bascule.content-type" => message.fields_mut().content_type = Some(bytes()),
        "bascule.content-encoding" => message.fields_mut().content_encoding = Some(bytes()),
        "bascule.subject" => message.fields_mut().subject = Some(bytes()),
        "bascule.app-id" => message.fields_mut().app_id = Some(bytes()),
        "bascule.correlation-id" => {
            message.fields_mut().correlation_id = Some(Value::id_from_text(bytes()));
        }
        "bascule.message-id" => {
            message.fields_mut().message_id = Some(Value::id_from_text(bytes()));
        }
        "traceparent" => message.fields_mut().trace_parent = Some(bytes()),
        "tracestate" => message.fields_mut().trace_state = Some(bytes()),
        _ => return false,
    }
    true
}

fn take_number(name: &str, text: &str, message: &mut Message) -> bool {
    match name {
        "bascule.priority" => match text.parse() {
            Ok(priority) => message.priority = Some(priority),
            Err(_) => return false,
        },
        "bascule.group-sequence" => match text.parse() {
            Ok(sequence) => message.fields_mut().group_sequence = Some(sequence),
            Err(_) => return false,
        },
        "bascule.expiry" => match text.parse() {
            Ok(ms) => message.expiry = Some(Timestamp(ms)),
            Err(_) => return false,
        },
        _ => return false,
    }
    true
}

/// Gives `put` a name, whether it is a number, and a text for each field. The message id is given when `own_id` is not it.
/// Returns how many fields have no text.
pub(crate) fn show(
    message: &Message,
    own_id: Option<[u8; 16]>,
    mut put: impl FnMut(&'static str, bool, &[u8]),
) -> u32 {
    let mut omitted = 0;
    if let Some(priority) = message.priority {
        put("bascule.priority", true, priority.to_string().as_bytes());
    }
    if let Some(expiry) = message.expiry {
        put("bascule.expiry", true, expiry.0.to_string().as_bytes());
    }
    if message.retain {
        put("x-mqtt-retain", false, b"true");
    }
    let Some(fields) = &message.fields else {
        return omitted;
    };
    for (name, text) in [
        ("bascule.content-type", &fields.content_type),
        ("bascule.content-encoding", &fields.content_encoding),
        ("bascule.subject", &fields.subject),
        ("bascule.app-id", &fields.app_id),
        ("traceparent", &fields.trace_parent),
        ("tracestate", &fields.trace_state),
    ] {
        if let Some(text) = text {
            put(name, false, text);
        }
    }
    let shown_id = fields
        .message_id
        .as_ref()
        .filter(|id| own_id.is_none_or(|own| **id != Value::Uuid(own)));
    for (name, id) in [
        ("bascule.correlation-id", fields.correlation_id.as_ref()),
        ("bascule.message-id", shown_id),
    ] {
        match id.map(Value::id_text) {
            Some(Some(text)) => put(name, false, &text),
            Some(None) => omitted += 1,
            None => {}
        }
    }
    match fields.reply_to.as_ref().map(address_text) {
        Some(Some(text)) => put("bascule.reply-to", false, text.as_bytes()),
        Some(None) => omitted += 1,
        None => {}
    }
    if let Some(sequence) = fields.group_sequence {
        put(
            "bascule.group-sequence",
            true,
            sequence.to_string().as_bytes(),
        );
    }
    omitted
}
