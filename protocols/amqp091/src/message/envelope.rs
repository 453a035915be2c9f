//! The way out: what stands around a body when it is delivered or returned.

use bytes::Bytes;
use message::{Address, BodyKind, Kind, Message, NativeForm, Properties, Timestamp, Value};
use session::{Death, DeathReason, Delivery};

use super::{
    ADDRESS, APP_ID, BODY_KIND, CONTENT_ENCODING, CONTENT_TYPE, CORRELATION_ID, DEDUP, GROUP,
    GROUP_SEQUENCE, MESSAGE_ID, OURS, PREFIX, REPLY_TO, SUBJECT, TRACE_PARENT, TRACE_STATE,
};
use crate::{
    codec::{BasicProperties, Short},
    key,
};

/// The longest life that is taken from a publisher, as in RabbitMQ.
pub(super) const EXPIRATION_MAX_MS: u64 = u32::MAX as u64;

/// What stands around a body on its way to a consumer or back to its publisher.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) exchange: Short,
    pub(crate) routing_key: Short,
    /// Property flags and values.
    pub(crate) properties: Bytes,
}

/// The same, wherever it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Words<'a> {
    pub(crate) exchange: &'a [u8],
    pub(crate) routing_key: &'a [u8],
    pub(crate) properties: &'a [u8],
}

impl Envelope {
    pub(crate) fn words(&self) -> Words<'_> {
        Words {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            properties: &self.properties,
        }
    }
}

/// The envelope of a delivery that says of a message to a queue what its publisher said, if that is so: most are of that
/// kind, and nothing is made for them.
pub(crate) fn as_published(delivery: &Delivery) -> Option<Words<'_>> {
    let message = &*delivery.message;
    let address = delivery.readdressed.as_deref().unwrap_or(&message.address);
    let native = message.native.as_ref()?;
    let is_plain = native.form == NativeForm::AMQP091
        && delivery
            .deaths
            .as_ref()
            .is_none_or(|deaths| deaths.is_empty())
        && delivery.count <= 1
        && delivery.record.is_none()
        && address.kind == Kind::Queue
        && address.name.len() <= Short::LEN_MAX;
    is_plain.then_some(Words {
        exchange: &[],
        routing_key: &address.name,
        properties: &native.head,
    })
}

/// The envelope of a delivery.
pub(crate) fn of_delivery(delivery: &Delivery, now: Timestamp) -> Envelope {
    let address = delivery
        .readdressed
        .as_deref()
        .unwrap_or(&delivery.message.address);
    let deaths = delivery
        .deaths
        .as_ref()
        .map_or(&[][..], |deaths| &deaths[..]);
    let shown = Shown {
        address,
        deaths,
        count: delivery.count,
        offset: delivery.record.map(|record| record.offset),
    };
    envelope(&delivery.message, shown, now)
}

/// How a message is shown, besides what its publisher said.
struct Shown<'a> {
    address: &'a Address,
    deaths: &'a [Death],
    count: u32,
    /// Where it lies in its stream.
    offset: Option<u64>,
}

/// The envelope of a message that is returned.
pub(crate) fn of_return(message: &Message, now: Timestamp) -> Envelope {
    let shown = Shown {
        address: &message.address,
        deaths: &[],
        count: 1,
        offset: None,
    };
    envelope(message, shown, now)
}

fn envelope(message: &Message, shown: Shown<'_>, now: Timestamp) -> Envelope {
    let Shown {
        address,
        deaths,
        count,
        offset,
    } = shown;
    let (exchange, key, unspeakable) = words(address);
    let native = message
        .native
        .as_ref()
        .filter(|native| native.form == NativeForm::AMQP091);
    if let Some(native) = native
        && deaths.is_empty()
        && count <= 1
        && offset.is_none()
        && unspeakable.is_none()
    {
        return Envelope {
            exchange,
            routing_key: key,
            properties: native.head.clone(),
        };
    }
    let mut properties = native
        .and_then(|native| BasicProperties::decode(native.head.clone()).ok())
        .unwrap_or_else(|| from_fields(message, now));
    let mut headers = properties.headers.take().unwrap_or_default();
    if let Some(text) = unspeakable {
        set(&mut headers, ADDRESS, long_text(text));
    }
    if count > 1 {
        // The limit and this header count the deliveries that failed: DOORS 13.
        set(
            &mut headers,
            b"x-delivery-count",
            Value::I64(i64::from(count) - 1),
        );
    }
    if let Some(offset) = offset {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        set(&mut headers, b"x-stream-offset", Value::I64(offset));
        // The partition key, which a route may have made: the head as it came does not know it then.
        if let Some(key) = &message.group
            && !matches!(headers.first(b"JMSXGroupID"), Some(Value::Text(known)) if known == key)
        {
            set(&mut headers, GROUP, long_text(key.to_vec()));
        }
    }
    if !deaths.is_empty() {
        let copies = headers.first(b"CC").cloned();
        let has_expired = deaths.iter().any(|death| death.original_ttl_ms.is_some());
        let history = History {
            original: &message.address,
            copies: match &copies {
                Some(Value::List(copies)) => copies,
                _ => &[],
            },
            // A life ends in one death only; the text says it as it was sent.
            expiration: properties.expiration.take_if(|_| has_expired),
        };
        history.add(&mut headers, deaths);
        // A key of the dead-letter queue's own is the only one that the message was sent on with.
        // [RABBIT-cc-1]
        if key_text(address) != key_text(&message.address) {
            while headers.take(b"CC").is_some() {}
        }
    }
    if !headers.is_empty() {
        properties.headers = Some(headers);
    }
    Envelope {
        exchange,
        routing_key: key,
        properties: properties.to_bytes(),
    }
}

/// Exchange and routing key of an address, and its text when they cannot say it (DOORS 3).
fn words(address: &Address) -> (Short, Short, Option<Vec<u8>>) {
    let opaque = |prefix: &[u8]| {
        let text = [prefix, &address.name].concat();
        match Short::new(Bytes::from(text)) {
            Some(key) => (Short::default(), key, None),
            None => (
                Short::default(),
                Short::default(),
                Some([prefix, &address.name].concat()),
            ),
        }
    };
    let keyed = |exchange: Short| match key::routing_key(&address.key) {
        Some(key) => (exchange, key, None),
        None => (exchange, Short::default(), Some(key::text(&address.key))),
    };
    match address.kind {
        Kind::Queue => match Short::new(address.name.clone()) {
            Some(key) => (Short::default(), key, None),
            None => (
                Short::default(),
                Short::default(),
                Some(address.name.to_vec()),
            ),
        },
        Kind::Stream => opaque(key::STREAM_PREFIX),
        Kind::Topic => keyed(Short::from("amq.topic")),
        Kind::Exchange => keyed(Short::new(address.name.clone()).unwrap_or_default()),
    }
}

/// The properties of a message that came through another door.
fn from_fields(message: &Message, now: Timestamp) -> BasicProperties {
    let fields = message.fields();
    let mut headers = fold(&message.properties);
    let mut short = |name: &[u8], text: &Option<Bytes>| {
        let text = text.as_ref()?;
        if text.len() > Short::LEN_MAX {
            set(&mut headers, name, long_text(text.to_vec()));
        }
        Short::new(text.clone())
    };
    let texts = [
        short(CONTENT_TYPE, &fields.content_type),
        short(CONTENT_ENCODING, &fields.content_encoding),
        short(SUBJECT, &fields.subject),
        short(APP_ID, &fields.app_id),
    ];
    let [content_type, content_encoding, kind, app_id] = texts;
    let mut properties = BasicProperties {
        content_type,
        content_encoding,
        delivery_mode: Some(if message.durable { 2 } else { 1 }),
        priority: message.priority,
        expiration: message
            .expiry
            .map(|expiry| Short::cut(expiry.since(now).min(EXPIRATION_MAX_MS).to_string())),
        timestamp: message.created.map(|created| created.0 / 1000),
        kind,
        user_id: fields.user_id.clone().and_then(Short::new),
        app_id,
        ..BasicProperties::default()
    };
    properties.message_id = identifier(&fields.message_id, MESSAGE_ID, &mut headers);
    properties.correlation_id = identifier(&fields.correlation_id, CORRELATION_ID, &mut headers);
    if let Some(text) = fields.reply_to.as_ref().and_then(reply_text) {
        if text.len() <= Short::LEN_MAX {
            properties.reply_to = Short::new(Bytes::from(text));
        } else {
            set(&mut headers, REPLY_TO, long_text(text));
        }
    }
    let texts: [(&[u8], &Option<Bytes>); 4] = [
        (GROUP, &message.group),
        (DEDUP, &fields.dedup_id),
        (TRACE_PARENT, &fields.trace_parent),
        (TRACE_STATE, &fields.trace_state),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            set(&mut headers, name, long_text(text.to_vec()));
        }
    }
    if let Some(sequence) = fields.group_sequence {
        set(&mut headers, GROUP_SEQUENCE, Value::I64(sequence.into()));
    }
    if message.body_kind == BodyKind::Text && fields.content_type.is_none() {
        set(&mut headers, BODY_KIND, Value::text("text"));
    }
    if message.retain {
        set(&mut headers, b"x-mqtt-retain", Value::Bool(true));
    }
    if !headers.is_empty() {
        properties.headers = Some(headers);
    }
    properties
}

/// An identifier as a short string; in a header when it is none (DOORS 26), and then, if it fits, as text in both.
fn identifier(id: &Option<Value>, name: &[u8], headers: &mut Properties) -> Option<Short> {
    let id = id.as_ref()?;
    let text = id.id_text()?;
    let whole = match id {
        Value::Text(_) | Value::Symbol(_) if text.len() <= Short::LEN_MAX => None,
        Value::Text(text) | Value::Symbol(text) => Some(long_text(text.to_vec())),
        Value::Bytes(_) | Value::LongString(_) => Some(id.clone()),
        _ => None,
    };
    if let Some(whole) = whole {
        set(headers, name, whole);
    }
    Short::new(Bytes::copy_from_slice(&text))
}

/// A reply-to as text (DOORS 9). An exchange has no text that a client could publish to.
fn reply_text(address: &Address) -> Option<Vec<u8>> {
    match address.kind {
        Kind::Queue => Some(address.name.to_vec()),
        Kind::Topic => Some([key::TOPIC_PREFIX, &key::text(&address.key)].concat()),
        Kind::Stream => Some([key::STREAM_PREFIX, &address.name].concat()),
        Kind::Exchange => None,
    }
}

/// Properties as headers: a name that repeats becomes one array (DOORS 23), and unsigned 64-bit integers become signed where they
/// fit, because most clients know no other.
fn fold(properties: &Properties) -> Properties {
    let mut headers = Properties::default();
    for (name, value) in &properties.0 {
        let value = narrow(value);
        let name = if OURS.contains(&&name[..]) || name.starts_with(PREFIX) {
            Bytes::from([PREFIX, name].concat())
        } else {
            name.clone()
        };
        match headers.0.iter_mut().find(|(known, _)| *known == name) {
            None => headers.push(name, value),
            Some((_, Value::Array(values))) => values.push(value),
            Some((_, first)) => *first = Value::Array(vec![first.clone(), value]),
        }
    }
    headers
}

fn narrow(value: &Value) -> Value {
    match value {
        Value::U64(n) => i64::try_from(*n).map_or(Value::U64(*n), Value::I64),
        Value::List(values) | Value::Array(values) => {
            Value::List(values.iter().map(narrow).collect())
        }
        Value::Map(pairs) => Value::Map(
            pairs
                .iter()
                .map(|(key, value)| (key.clone(), narrow(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The key of an address as it was published: the name of a queue, else the routing key.
fn key_text(address: &Address) -> Vec<u8> {
    match address.kind {
        Kind::Queue => address.name.to_vec(),
        _ => key::text(&address.key),
    }
}

/// What the dead-letter history tells besides the deaths themselves.
struct History<'a> {
    /// Where the message was published first.
    original: &'a Address,
    /// Its `CC` header.
    copies: &'a [Value],
    /// Its `expiration` as sent, if that was taken off.
    expiration: Option<Short>,
}

impl History<'_> {
    fn add(&self, headers: &mut Properties, deaths: &[Death]) {
        let (Some(last), Some(first)) = (
            deaths.first(),
            // The oldest, and of equally old ones the one furthest back: the list is newest first.
            deaths.iter().rev().min_by_key(|death| death.time),
        ) else {
            return;
        };
        let texts = |death: &Death| {
            [
                ("exchange", long_text(death.exchange.to_vec())),
                ("queue", long_text(death.queue.to_vec())),
                ("reason", Value::text(reason(death.reason))),
            ]
        };
        let table = deaths.iter().map(|death| self.table(death)).collect();
        set(headers, b"x-death", Value::List(table));
        for (which, death) in [("first", first), ("last", last)] {
            for (name, value) in texts(death) {
                set(headers, format!("x-{which}-death-{name}").as_bytes(), value);
            }
        }
    }

    /// [RABBIT-dead-letter-2]
    fn table(&self, death: &Death) -> Value {
        let mut pairs = vec![
            (Value::text("count"), Value::I64(death.count as i64)),
            (Value::text("reason"), Value::text(reason(death.reason))),
            (Value::text("queue"), long_text(death.queue.to_vec())),
            (Value::text("time"), Value::TimeSeconds(death.time.0 / 1000)),
            (Value::text("exchange"), long_text(death.exchange.to_vec())),
            (Value::text("routing-keys"), Value::List(self.keys(death))),
        ];
        if let Some(ms) = death.original_ttl_ms {
            let text = match &self.expiration {
                Some(text) => long_text(text.to_vec()),
                None => Value::text(ms.to_string()),
            };
            pairs.push((Value::text("original-expiration"), text));
        }
        Value::Map(pairs)
    }

    /// The key that the message died with, and those of its `CC` header while it still went by them.
    fn keys(&self, death: &Death) -> Vec<Value> {
        let key = if death.exchange.is_empty() {
            // The name of a queue is one level, whatever stands in it.
            death.key.level(0).unwrap_or_default().to_vec()
        } else {
            key::text(&death.key)
        };
        let copies = if key == key_text(self.original) {
            self.copies
        } else {
            &[]
        };
        let texts = copies.iter().filter_map(|copy| match copy {
            Value::Text(text) | Value::LongString(text) => Some(long_text(text.to_vec())),
            _ => None,
        });
        std::iter::once(long_text(key)).chain(texts).collect()
    }
}

/// RabbitMQ's word, or ours where it has none.
const fn reason(reason: DeathReason) -> &'static str {
    match reason {
        DeathReason::Rejected => "rejected",
        DeathReason::Expired => "expired",
        DeathReason::MaxLen => "maxlen",
        DeathReason::Deliveries => "delivery_limit",
        DeathReason::TooLarge => "too_large",
    }
}

fn long_text(text: Vec<u8>) -> Value {
    let text = Bytes::from(text);
    if std::str::from_utf8(&text).is_ok() {
        Value::Text(text)
    } else {
        Value::LongString(text)
    }
}

fn set(headers: &mut Properties, name: &[u8], value: Value) {
    match headers.0.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => headers.push(Bytes::copy_from_slice(name), value),
    }
}
