//! SEND to message and delivery to MESSAGE: the only place where one becomes the other.
//!
//! | header | message |
//! |---|---|
//! | `persistent:true` | durable |
//! | `priority` | priority |
//! | `expires` (ms since 1970), `expiration` (ms from now) | expiry; written as `expires` |
//! | `timestamp` (seconds; ActiveMQ's dialect: ms) | created |
//! | `AMQ_SCHEDULED_DELAY` (ms) | delay; not written back |
//! | `content-type`, `content-encoding`, `correlation-id`, `type`, `app-id`, `user-id` | the fields of those names; `type` is the subject |
//! | `amqp-message-id`, or `message-id` on SEND | message id; `message-id` of a MESSAGE is the delivery's |
//! | `reply-to` | reply-to, when it is a destination; else a property. STOMP clients see it as it came, but for temporary destinations |
//! | `JMSXGroupID`, `JMSXGroupSeq` | group and position in it |
//! | `x-deduplication-id`, `_AMQ_DUPL_ID` | dedup id |
//! | `traceparent`, `tracestate` | trace context |
//! | `x-mqtt-retain:true` | retain, on topics |
//! | `x-property-NAME` | the property NAME, when NAME is one that STOMP or this table uses |
//! | `amq-msg-type:text`, `amq-msg-type:bytes` | what the body is, when no `content-type` says so |
//! | `x-bascule-json` | which properties are JSON ([`message::JSON_NAMES`]) |
//! | any other | a text property; one that repeats is a list |
//!
//! A list of another protocol is one line of JSON, not repeated lines, of which clients see the first only (STOMP 1.2,
//! "Repeated Header Entries"); so is what has no plain text. An id that is no text is `base64:` and its base64.
//!
//! The body is text when content type and encoding say so, else when `amq-msg-type` says so, else when there is no
//! `content-length`; and only if it is valid UTF-8. Everything else is bytes.
//!
//! A text without a content type is sent with `amq-msg-type:text`, because a `content-length` is always there.
//!
//! No equal in STOMP, and left out: `BCC`, milliseconds of `timestamp` (but in ActiveMQ's dialect). Of the dead-letter
//! history only the first reason, queue and exchange are shown. Names and texts that a version cannot write are counted.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use message::{
    Address, BodyKind, JSON_NAMES, Lists, Message, Native, NativeForm, Timestamp, Value, says_text,
};
use session::{DeathReason, Delivery, Wire};

use crate::{
    Dialect, Version,
    codec::{
        Escapes, Frame, Headers, Verb, put_body_and_end, put_command, put_content_length,
        put_lines_of_1_2, put_number,
    },
    destination::{Destination, put_destination, reply_to_text},
    error::Fault,
};

/// A foreign property whose name starts so, or is one of [`OURS`], is written with this before it.
const PREFIX: &str = "x-property-";

/// ActiveMQ's word for the kind of a body.
const MESSAGE_TYPE: &str = "amq-msg-type";

/// Names that mean something else than a property in a SEND or a MESSAGE.
const OURS: &[&str] = &[
    "destination",
    "message-id",
    "subscription",
    "ack",
    "content-length",
    "content-type",
    "content-encoding",
    "redelivered",
    "receipt",
    "receipt-id",
    "transaction",
    "persistent",
    "priority",
    "expires",
    "expiration",
    "timestamp",
    "correlation-id",
    "reply-to",
    "type",
    "app-id",
    "user-id",
    "amqp-message-id",
    MESSAGE_TYPE,
    "JMSXGroupID",
    "JMSXGroupSeq",
    "x-deduplication-id",
    "_AMQ_DUPL_ID",
    "traceparent",
    "tracestate",
    "x-mqtt-retain",
    "AMQ_SCHEDULED_DELAY",
    JSON_NAMES,
    "x-first-death-reason",
    "x-first-death-queue",
    "x-first-death-exchange",
    "x-stream-offset",
];

/// Names that a MESSAGE uses and a SEND does not: in a SEND they are properties, and go out with the prefix.
const PREFIXED: &[&str] = &[
    "subscription",
    "ack",
    "redelivered",
    "receipt-id",
    "x-first-death-reason",
    "x-first-death-queue",
    "x-first-death-exchange",
    "x-stream-offset",
];

/// What a `reply-to` header means.
#[derive(Clone)]
pub(crate) struct ReplyTo {
    pub(crate) address: Address,
    /// Other STOMP clients are shown the header as it came: it means the same to them.
    pub(crate) as_it_came: bool,
}

/// What a SEND is seen with.
pub(crate) struct Publisher<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) user: &'a str,
    pub(crate) now: Timestamp,
}

fn number<T: std::str::FromStr>(name: &str, value: &Bytes, wanted: &str) -> Result<T, Fault> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| Fault::invalid(name, value, wanted))
}

impl Publisher<'_> {
    /// The message of a SEND. `reply_to` is what its `reply-to` header means, if that is an address.
    pub(crate) fn message(
        &self,
        frame: Frame,
        address: Address,
        reply_to: Option<ReplyTo>,
    ) -> Result<Message, Fault> {
        let mut message = Message::new(address, frame.body);
        let mut native = BytesMut::new();
        let headers = frame.headers;
        let has_reply_to = reply_to.is_some();
        let mut rewritten = false;
        if let Some(reply_to) = reply_to {
            rewritten = !reply_to.as_it_came;
            message.fields_mut().reply_to = Some(reply_to.address);
        }
        for (at, (name, value)) in headers.0.iter().enumerate() {
            let Ok(text) = std::str::from_utf8(name) else {
                unreachable!("decoded headers are UTF-8");
            };
            // STOMP 1.2, "Repeated Header Entries": only the first counts. Of the application's own the others are kept behind
            // it, as a list (DOORS 23).
            let repeated = || headers.0[..at].iter().any(|(earlier, _)| earlier == name);
            if !OURS.contains(&text) || !repeated() {
                self.header(&mut message, text, name, value, has_reply_to)?;
            }
            if PREFIXED.contains(&text) {
                let name = [PREFIX.as_bytes(), name].concat();
                Escapes::V1_2.put_line(&name, value, &mut native);
            } else if is_end_to_end(text) && !(text == "reply-to" && rewritten) {
                Escapes::V1_2.put_line(name, value, &mut native);
            }
        }
        message.properties.read_texts();
        // Only topics keep a message.
        message.retain &= message.address.kind == message::Kind::Topic;
        message.body_kind = body_kind(&headers, &message.body);
        message.native = Some(Native {
            form: NativeForm::STOMP,
            head: native.freeze(),
        });
        Ok(message)
    }

    fn header(
        &self,
        message: &mut Message,
        text: &str,
        name: &Bytes,
        value: &Bytes,
        has_reply_to: bool,
    ) -> Result<(), Fault> {
        match text {
            // [STOMP-send-2], [STOMP-message-4]
            "destination" | "receipt" | "transaction" | "content-length" => {}
            "reply-to" if has_reply_to => {}
            "persistent" => {
                message.durable = value == "true";
                message.qos = u8::from(message.durable);
            }
            "priority" => message.priority = Some(number(text, value, "0 to 255")?),
            "expires" => {
                let at: u64 = number(text, value, "milliseconds since 1970")?;
                if at > 0 {
                    message.expiry = Some(Timestamp(at));
                }
            }
            "expiration" => {
                let ttl = number(text, value, "a number of milliseconds")?;
                message.expiry = Some(self.now.plus_ms(ttl));
            }
            "timestamp" => {
                let at: u64 = number(text, value, "a time since 1970")?;
                let unit = timestamp_unit(self.dialect);
                message.created = Some(Timestamp(at.saturating_mul(unit)));
            }
            "AMQ_SCHEDULED_DELAY" if self.dialect != Dialect::RabbitMq => {
                message.delay_ms = number(text, value, "a number of milliseconds")?;
            }
            "AMQ_SCHEDULED_PERIOD" | "AMQ_SCHEDULED_REPEAT" | "AMQ_SCHEDULED_CRON"
                if self.dialect != Dialect::RabbitMq =>
            {
                return Err(Fault::not_built(format!("{text} is not implemented")));
            }
            "content-type" => message.fields_mut().content_type = Some(value.clone()),
            "content-encoding" => message.fields_mut().content_encoding = Some(value.clone()),
            "correlation-id" => {
                message.fields_mut().correlation_id = Some(Value::id_from_text(value.clone()));
            }
            "amqp-message-id" | "message-id" => {
                message.fields_mut().message_id = Some(Value::id_from_text(value.clone()));
            }
            "type" => message.fields_mut().subject = Some(value.clone()),
            "app-id" => message.fields_mut().app_id = Some(value.clone()),
            "user-id" => {
                if value != self.user {
                    let detail = format!(
                        "user-id is '{}', but the connection is that of '{}'",
                        String::from_utf8_lossy(value),
                        self.user
                    );
                    return Err(Fault::other("access denied", detail));
                }
                message.fields_mut().user_id = Some(value.clone());
            }
            "JMSXGroupID" => message.group = Some(value.clone()),
            "JMSXGroupSeq" => {
                message.fields_mut().group_sequence = Some(number(text, value, "a number")?);
            }
            "x-deduplication-id" | "_AMQ_DUPL_ID" => {
                message.fields_mut().dedup_id = Some(value.clone());
            }
            "traceparent" => message.fields_mut().trace_parent = Some(value.clone()),
            "tracestate" => message.fields_mut().trace_state = Some(value.clone()),
            "x-mqtt-retain" => message.retain = value == "true",
            // Read with the body.
            MESSAGE_TYPE if matches!(&value[..], b"text" | b"bytes") => {}
            _ => {
                let name = match text.strip_prefix(PREFIX) {
                    Some(inner) if !inner.is_empty() => name.slice_ref(inner.as_bytes()),
                    _ => name.clone(),
                };
                message.properties.push(name, Value::Text(value.clone()));
            }
        }
        Ok(())
    }
}

/// Whether a header of a SEND goes out again as it came. The others are written from the message.
fn is_end_to_end(name: &str) -> bool {
    !matches!(
        name,
        "destination"
            | "receipt"
            | "transaction"
            | "content-length"
            | "message-id"
            | "persistent"
            | "priority"
            | "expires"
            | "expiration"
            | "timestamp"
            | "x-mqtt-retain"
            | "amqp-message-id"
    )
}

const fn timestamp_unit(dialect: Dialect) -> u64 {
    match dialect {
        Dialect::ActiveMq => 1,
        Dialect::Both | Dialect::RabbitMq => 1000,
    }
}

/// The body kind rule of the file's head.
fn body_kind(headers: &Headers, body: &[u8]) -> BodyKind {
    let text = match (headers.first("content-type"), headers.text(MESSAGE_TYPE)) {
        (Some(content_type), _) => {
            let encoding = headers.first("content-encoding");
            says_text(content_type, encoding.map(|encoding| &encoding[..]))
        }
        (None, Some("text")) => true,
        (None, Some("bytes")) => false,
        (None, _) => headers.first("content-length").is_none(),
    };
    if text && std::str::from_utf8(body).is_ok() {
        BodyKind::Text
    } else {
        BodyKind::Bytes
    }
}

/// The lines of one delivery that only the session knows.
pub(crate) struct Envelope<'a> {
    pub(crate) version: Version,
    pub(crate) dialect: Dialect,
    pub(crate) destination: &'a [u8],
    /// Not written in 1.0 when the SUBSCRIBE had no id.
    pub(crate) subscription: Option<&'a [u8]>,
    pub(crate) message_id: &'a [u8],
    /// 1.2 and not `ack:auto`: what an ACK names.
    pub(crate) acknowledged: bool,
}

/// Appends the destination of a MESSAGE. `false`: STOMP cannot write it.
pub(crate) fn put_delivery_destination(
    delivery: &Delivery,
    dialect: Dialect,
    text: &mut Vec<u8>,
) -> bool {
    put_destination(delivery_address(delivery), dialect, text)
}

/// Where a delivered message was published, or where it was when it was dead-lettered.
pub(crate) fn delivery_address(delivery: &Delivery) -> &Address {
    let published = &delivery.message.address;
    delivery.readdressed.as_deref().unwrap_or(published)
}

impl Envelope<'_> {
    /// Writes a MESSAGE; returns how many headers were left out.
    pub(crate) fn encode(&self, delivery: &Delivery, wire: &mut Wire) -> u64 {
        let message: &Arc<Message> = &delivery.message;
        let mut lines = Lines {
            escapes: Escapes::of(self.version, Verb::Message),
            omitted: 0,
        };
        wire.encode(|out| {
            put_command(Verb::Message, out);
            lines.put(b"destination", self.destination, out);
            lines.put(b"message-id", self.message_id, out);
            if let Some(subscription) = self.subscription {
                lines.put(b"subscription", subscription, out);
            }
            // STOMP 1.2, "MESSAGE": `ack` only if the subscription needs acknowledgments.
            if self.acknowledged {
                lines.put(b"ack", self.message_id, out);
            }
            // [STOMP-frame-10]
            put_content_length(message.body.len(), out);
            if delivery.redelivered {
                out.put_slice(b"redelivered:true\n");
            }
            if let Some(record) = &delivery.record {
                lines.number("x-stream-offset", record.offset, out);
                // The partition key, which a route may have made: the lines as they came do not know it then. Of a name that
                // repeats the first counts.
                if let (Some(key), Some(native)) = (&message.group, &message.native)
                    && native.form == NativeForm::STOMP
                {
                    lines.put(b"JMSXGroupID", key, out);
                }
            }
            self.common(&mut lines, delivery, out);
            match &message.native {
                Some(native) if native.form == NativeForm::STOMP => {
                    lines.omitted += put_lines_of_1_2(&native.head, self.version, out);
                }
                _ => lines.converted(message, out),
            }
            out.put_u8(b'\n');
        });
        put_body_and_end(&message.body, wire);
        lines.omitted
    }

    /// What is written from the message whoever published it.
    fn common(&self, lines: &mut Lines, delivery: &Delivery, out: &mut BytesMut) {
        let message = &delivery.message;
        if message.durable {
            out.put_slice(b"persistent:true\n");
        }
        if let Some(priority) = message.priority {
            lines.number("priority", u64::from(priority), out);
        }
        if let Some(expiry) = message.expiry {
            lines.number("expires", expiry.0, out);
        }
        if let Some(created) = message.created {
            lines.number("timestamp", created.0 / timestamp_unit(self.dialect), out);
        }
        if delivery.retain || message.retain {
            out.put_slice(b"x-mqtt-retain:true\n");
        }
        let fields = message.fields();
        if let Some(reply_to) = &fields.reply_to
            && !message.native.as_ref().is_some_and(shows_reply_to)
        {
            let text = reply_to_text(reply_to, self.dialect);
            lines.optional(b"reply-to", text.as_deref(), out);
        }
        if let Some(id) = &fields.message_id {
            lines.optional(b"amqp-message-id", id.id_text().as_deref(), out);
        }
        let first_death = delivery.deaths.as_ref().and_then(|deaths| deaths.last());
        if let Some(death) = first_death {
            let reason = match death.reason {
                DeathReason::Rejected => "rejected",
                DeathReason::Expired => "expired",
                DeathReason::MaxLen => "maxlen",
                DeathReason::Deliveries => "delivery_limit",
                DeathReason::TooLarge => "too-large",
            };
            lines.put(b"x-first-death-reason", reason.as_bytes(), out);
            lines.put(b"x-first-death-queue", &death.queue, out);
            lines.put(b"x-first-death-exchange", &death.exchange, out);
        }
    }
}

/// Whether a `reply-to` is among the publisher's own lines.
fn shows_reply_to(native: &Native) -> bool {
    let mut lines = native.head.split(|byte| *byte == b'\n');
    native.form == NativeForm::STOMP && lines.any(|line| line.starts_with(b"reply-to:"))
}

/// Writes header lines and counts those that cannot be written.
struct Lines {
    escapes: Escapes,
    omitted: u64,
}

impl Lines {
    fn put(&mut self, name: &[u8], value: &[u8], out: &mut BytesMut) {
        if !self.escapes.put_line(name, value, out) {
            self.omitted += 1;
        }
    }

    fn optional(&mut self, name: &[u8], value: Option<&[u8]>, out: &mut BytesMut) {
        match value {
            Some(value) => self.put(name, value, out),
            None => self.omitted += 1,
        }
    }

    fn number(&self, name: &str, value: u64, out: &mut BytesMut) {
        out.put_slice(name.as_bytes());
        out.put_u8(b':');
        put_number(value, out);
        out.put_u8(b'\n');
    }

    /// The fields and properties of a message that another protocol published.
    fn converted(&mut self, message: &Message, out: &mut BytesMut) {
        let fields = message.fields();
        for (name, value) in [
            ("content-type", &fields.content_type),
            ("content-encoding", &fields.content_encoding),
            ("type", &fields.subject),
            ("app-id", &fields.app_id),
            ("user-id", &fields.user_id),
            ("JMSXGroupID", &message.group),
            ("x-deduplication-id", &fields.dedup_id),
            ("traceparent", &fields.trace_parent),
            ("tracestate", &fields.trace_state),
        ] {
            if let Some(value) = value {
                self.put(name.as_bytes(), value, out);
            }
        }
        if let Some(id) = &fields.correlation_id {
            self.optional(b"correlation-id", id.id_text().as_deref(), out);
        }
        if let Some(sequence) = fields.group_sequence {
            self.number("JMSXGroupSeq", u64::from(sequence), out);
        }
        if message.body_kind == BodyKind::Text && fields.content_type.is_none() {
            self.put(MESSAGE_TYPE.as_bytes(), b"text", out);
        }
        let json = message.properties.write_texts(Lists::Json, |name, text| {
            // A foreign property with one of our names is told apart by a prefix.
            let ours = OURS.iter().any(|ours| name == ours.as_bytes());
            if ours || name.starts_with(PREFIX.as_bytes()) {
                self.put(&[PREFIX.as_bytes(), name].concat(), text, out);
            } else {
                self.put(name, text, out);
            }
        });
        if let Some(json) = json {
            self.put(JSON_NAMES.as_bytes(), json.as_bytes(), out);
        }
    }
}

/// What a `reply-to` header of a SEND names, if it is a destination.
pub(crate) fn reply_to(headers: &Headers) -> Option<Destination> {
    let destination = Destination::parse(headers.first("reply-to")?).ok()?;
    Some(destination)
}
