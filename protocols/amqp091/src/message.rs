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

use std::borrow::Cow;

use bytes::Bytes;
use message::{
    Address, Fields, Kind, Levels, Message, Native, NativeForm, Properties, Timestamp, Value,
    VhostId,
};
use session::{Death, DeathReason, Delivery};

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

/// What stands around a body on its way to a consumer or back to its publisher.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) exchange: Short,
    pub(crate) routing_key: Short,
    /// Property flags and values.
    pub(crate) properties: Bytes,
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
    envelope(&delivery.message, address, deaths, delivery.count, now)
}

/// The envelope of a message that is returned.
pub(crate) fn of_return(message: &Message, now: Timestamp) -> Envelope {
    envelope(message, &message.address, &[], 1, now)
}

fn envelope(
    message: &Message,
    address: &Address,
    deaths: &[Death],
    count: u32,
    now: Timestamp,
) -> Envelope {
    let (exchange, key, unspeakable) = words(address);
    let native = message
        .native
        .as_ref()
        .filter(|native| native.form == NativeForm::AMQP091);
    if let Some(native) = native
        && deaths.is_empty()
        && count <= 1
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
        set(&mut headers, b"x-bascule-address", long_text(text));
    }
    if count > 1 {
        // The limit and this header count the deliveries that failed: DOORS 13.
        set(
            &mut headers,
            b"x-delivery-count",
            Value::I64(i64::from(count) - 1),
        );
    }
    if !deaths.is_empty() {
        add_deaths(&mut headers, deaths);
        if deaths.iter().any(|death| death.original_ttl_ms.is_some()) {
            properties.expiration = None;
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
    let short = |text: &Option<Bytes>| text.clone().and_then(Short::new);
    let mut headers = fold(&message.properties);
    let mut properties = BasicProperties {
        content_type: short(&fields.content_type),
        content_encoding: short(&fields.content_encoding),
        delivery_mode: Some(if message.durable { 2 } else { 1 }),
        priority: message.priority,
        expiration: message
            .expiry
            .map(|expiry| Short::cut(expiry.since(now).to_string())),
        timestamp: message.created.map(|created| created.0 / 1000),
        kind: short(&fields.subject),
        user_id: short(&fields.user_id),
        app_id: short(&fields.app_id),
        ..BasicProperties::default()
    };
    properties.message_id = identifier(&fields.message_id, b"x-message-id", &mut headers);
    properties.correlation_id =
        identifier(&fields.correlation_id, b"x-correlation-id", &mut headers);
    if let Some(address) = &fields.reply_to {
        let text = reply_text(address);
        if text.len() <= Short::LEN_MAX {
            properties.reply_to = Short::new(Bytes::from(text));
        } else {
            set(&mut headers, b"x-reply-to", long_text(text));
        }
    }
    let texts: [(&[u8], &Option<Bytes>); 4] = [
        (b"x-group-id", &fields.group),
        (b"x-deduplication-id", &fields.dedup_id),
        (b"traceparent", &fields.trace_parent),
        (b"tracestate", &fields.trace_state),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            set(&mut headers, name, long_text(text.to_vec()));
        }
    }
    if message.retain {
        set(&mut headers, b"x-mqtt-retain", Value::Bool(true));
    }
    if !headers.is_empty() {
        properties.headers = Some(headers);
    }
    properties
}

/// An identifier as a short string, or in a header when it is none (DOORS 26).
fn identifier(id: &Option<Value>, name: &[u8], headers: &mut Properties) -> Option<Short> {
    let id = id.as_ref()?;
    let text: Cow<'_, [u8]> = match id {
        Value::Text(text) | Value::Symbol(text) => Cow::Borrowed(text),
        Value::Bytes(_) | Value::LongString(_) => {
            set(headers, name, id.clone());
            return None;
        }
        other => Cow::Owned(other.to_plain_text()?.into_bytes()),
    };
    if text.len() > Short::LEN_MAX {
        set(headers, name, long_text(text.into_owned()));
        return None;
    }
    Short::new(Bytes::copy_from_slice(&text))
}

/// A reply-to as text (DOORS 9). An exchange has no text that a client could publish to: exchange and key with a slash.
fn reply_text(address: &Address) -> Vec<u8> {
    match address.kind {
        Kind::Queue => address.name.to_vec(),
        Kind::Topic => [key::TOPIC_PREFIX, &key::text(&address.key)].concat(),
        Kind::Stream => [key::STREAM_PREFIX, &address.name].concat(),
        Kind::Exchange => [&address.name[..], b"/", &key::text(&address.key)].concat(),
    }
}

/// Properties as headers: a name that repeats becomes one array (DOORS 23), and unsigned 64-bit integers become signed where they
/// fit, because most clients know no other.
fn fold(properties: &Properties) -> Properties {
    let mut headers = Properties::default();
    for (name, value) in &properties.0 {
        let value = narrow(value);
        match headers.0.iter_mut().find(|(known, _)| known == name) {
            None => headers.push(name.clone(), value),
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

fn add_deaths(headers: &mut Properties, deaths: &[Death]) {
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
    let table = deaths.iter().map(death_table).collect();
    set(headers, b"x-death", Value::List(table));
    for (which, death) in [("first", first), ("last", last)] {
        for (name, value) in texts(death) {
            set(headers, format!("x-{which}-death-{name}").as_bytes(), value);
        }
    }
}

fn death_table(death: &Death) -> Value {
    let mut pairs = vec![
        (Value::text("count"), Value::I64(death.count as i64)),
        (Value::text("reason"), Value::text(reason(death.reason))),
        (Value::text("queue"), long_text(death.queue.to_vec())),
        (Value::text("time"), Value::TimeSeconds(death.time.0 / 1000)),
        (Value::text("exchange"), long_text(death.exchange.to_vec())),
        (
            Value::text("routing-keys"),
            Value::List(vec![long_text(key::text(&death.key))]),
        ),
    ];
    if let Some(ms) = death.original_ttl_ms {
        pairs.push((
            Value::text("original-expiration"),
            Value::text(ms.to_string()),
        ));
    }
    Value::Map(pairs)
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
