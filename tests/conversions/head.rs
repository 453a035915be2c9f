//! What stands around a body, as a client of each protocol says it and sees it.
//!
//! [`Head::lines`] is the one notation in which heads are compared and shown. [`Head::again`] is what a client says that
//! publishes what it has received: everything, but for what belongs to the one delivery.

use amqp091::codec::{BasicProperties, ContentHeader, Frame as AmqpFrame, Short, basic, decode};
use bytes::{Bytes, BytesMut};
use message::{Properties as Table, Value};
use mqtt::codec::{Decoder, Limits, Packet, Property, Publish, Version as MqttVersion};
use stomp::{
    Version as StompVersion,
    codec::{Decoder as StompDecoder, Limits as StompLimits, Verb},
};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Mqtt(MqttVersion),
    Amqp,
    Stomp(StompVersion),
}

/// All of them, in the order of the page.
pub(crate) const SPEECHES: [Speech; 6] = [
    Speech::Mqtt(MqttVersion::V311),
    Speech::Mqtt(MqttVersion::V5),
    Speech::Amqp,
    Speech::Stomp(StompVersion::V1_2),
    Speech::Stomp(StompVersion::V1_1),
    Speech::Stomp(StompVersion::V1_0),
];

impl Speech {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mqtt(version) => version.name(),
            Self::Amqp => "AMQP 0-9-1",
            Self::Stomp(version) => version.protocol(),
        }
    }

    /// A head with nothing in it.
    pub(crate) fn bare(self) -> Head {
        match self {
            Self::Mqtt(version) => Head::Mqtt {
                version,
                qos: 0,
                retain: false,
                properties: Vec::new(),
            },
            Self::Amqp => Head::Amqp(BasicProperties::default()),
            Self::Stomp(version) => Head::Stomp {
                version,
                headers: Vec::new(),
                with_length: true,
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a test has few, and takes them apart often"
)]
pub(crate) enum Head {
    Mqtt {
        version: MqttVersion,
        qos: u8,
        retain: bool,
        properties: Vec<Property>,
    },
    Amqp(BasicProperties),
    Stomp {
        version: StompVersion,
        headers: Vec<(String, String)>,
        /// Whether a `content-length` is sent.
        with_length: bool,
    },
}

/// A message as a client received it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: Head,
    /// Topic, exchange and key, or destination.
    pub(crate) name: String,
    pub(crate) body: Bytes,
}

impl Head {
    pub(crate) const fn speech(&self) -> Speech {
        match self {
            Self::Mqtt { version, .. } => Speech::Mqtt(*version),
            Self::Amqp(_) => Speech::Amqp,
            Self::Stomp { version, .. } => Speech::Stomp(*version),
        }
    }

    /// The client's bytes. `to` is a topic, an exchange, `|` and a key, or a destination.
    pub(crate) fn publish(&self, to: &str, body: &[u8]) -> Bytes {
        match self {
            Self::Mqtt {
                version,
                qos,
                retain,
                properties,
            } => {
                let packet = Packet::Publish(Publish {
                    dup: false,
                    qos: *qos,
                    retain: *retain,
                    topic: to.to_owned().try_into().expect("a topic without U+0000"),
                    packet_id: (*qos > 0).then_some(1),
                    properties: mqtt::codec::Properties(properties.clone()),
                    payload: Bytes::copy_from_slice(body),
                });
                let mut out = BytesMut::new();
                packet.encode(*version, &mut out);
                out.freeze()
            }
            Self::Amqp(properties) => amqp_bytes(properties, to, body),
            Self::Stomp {
                version,
                headers,
                with_length,
            } => {
                let mut out = b"SEND\n".to_vec();
                let length = ("content-length".to_owned(), body.len().to_string());
                let to = ("destination".to_owned(), to.to_owned());
                let own = std::iter::once(&to).chain(with_length.then_some(&length));
                for (name, value) in own.chain(headers) {
                    out.extend_from_slice(escaped(name, *version).as_bytes());
                    out.push(b':');
                    out.extend_from_slice(escaped(value, *version).as_bytes());
                    out.push(b'\n');
                }
                out.push(b'\n');
                out.extend_from_slice(body);
                out.push(0);
                out.into()
            }
        }
    }

    /// What a client says that passes on what it got.
    pub(crate) fn again(&self) -> Self {
        let mut again = self.clone();
        if let Self::Stomp { headers, .. } = &mut again {
            let of_delivery = [
                "destination",
                "message-id",
                "subscription",
                "ack",
                "redelivered",
                "content-length",
            ];
            headers.retain(|(name, _)| !of_delivery.contains(&&name[..]));
        }
        again
    }

    /// One line for each thing that it says, of what a delivery as such does not say.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self.again() {
            Self::Mqtt {
                qos,
                retain,
                properties,
                ..
            } => {
                let mut lines = vec![format!("QoS {qos}")];
                if retain {
                    lines.push("RETAIN".to_owned());
                }
                lines.extend(properties.iter().map(mqtt_line));
                lines
            }
            Self::Amqp(properties) => amqp_lines(&properties),
            Self::Stomp {
                headers,
                with_length,
                ..
            } => {
                let mut lines: Vec<String> = headers
                    .iter()
                    .map(|(name, value)| format!("{}:{}", shown(name), shown(value)))
                    .collect();
                if !with_length {
                    lines.push("no content-length".to_owned());
                }
                lines
            }
        }
    }
}

fn amqp_bytes(properties: &BasicProperties, to: &str, body: &[u8]) -> Bytes {
    let (exchange, key) = to.split_once('|').expect("an exchange and a key");
    let short = |text: &str| Short::new(Bytes::from(text.to_owned())).expect("a short text");
    let method = basic::Publish {
        exchange: short(exchange),
        routing_key: short(key),
        ..Default::default()
    };
    let header = ContentHeader {
        class_id: 60,
        body_size: body.len() as u64,
        properties: properties.to_bytes(),
    };
    let mut out = BytesMut::new();
    let channel = 1;
    let method = method.into();
    AmqpFrame::Method { channel, method }.encode(&mut out);
    AmqpFrame::Header { channel, header }.encode(&mut out);
    if !body.is_empty() {
        let body = Bytes::copy_from_slice(body);
        AmqpFrame::Body { channel, body }.encode(&mut out);
    }
    out.freeze()
}

fn escaped(text: &str, version: StompVersion) -> String {
    let text = match version {
        StompVersion::V1_0 => return text.to_owned(),
        _ => text
            .replace('\\', "\\\\")
            .replace('\n', "\\n")
            .replace(':', "\\c"),
    };
    match version {
        StompVersion::V1_2 => text.replace('\r', "\\r"),
        _ => text,
    }
}

/// Reads the one message in what a session wrote; `None` when it wrote none.
pub(crate) fn received(speech: Speech, wire: Bytes) -> Option<Received> {
    if wire.is_empty() {
        return None;
    }
    let mut input = BytesMut::from(&wire[..]);
    let received = match speech {
        Speech::Mqtt(version) => received_mqtt(version, &mut input),
        Speech::Amqp => received_amqp(&mut input),
        Speech::Stomp(version) => received_stomp(version, &mut input),
    };
    assert!(input.is_empty(), "one message and nothing behind it");
    Some(received)
}

fn received_mqtt(version: MqttVersion, input: &mut BytesMut) -> Received {
    let mut decoder = Decoder::new(version, Limits::default());
    let packet = decoder.decode(input).expect("a right packet");
    let Some(Packet::Publish(publish)) = packet else {
        panic!("a PUBLISH, not {packet:?}");
    };
    Received {
        name: publish.topic.as_str().to_owned(),
        body: publish.payload,
        head: Head::Mqtt {
            version,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish
                .properties
                .0
                .into_iter()
                .filter(|property| !matches!(property, Property::TopicAlias(_)))
                .collect(),
        },
    }
}

fn received_amqp(input: &mut BytesMut) -> Received {
    let mut next = || {
        decode(input, 0)
            .expect("a right frame")
            .expect("a whole one")
    };
    let method = match next() {
        AmqpFrame::Method { method, .. } => method,
        other => panic!("a method, not {other:?}"),
    };
    let amqp091::codec::Method::BasicDeliver(deliver) = method else {
        panic!("a delivery, not {method:?}");
    };
    let AmqpFrame::Header { header, .. } = next() else {
        panic!("a header follows");
    };
    let mut body = BytesMut::new();
    while (body.len() as u64) < header.body_size {
        let AmqpFrame::Body { body: part, .. } = next() else {
            panic!("a body follows");
        };
        body.extend_from_slice(&part);
    }
    Received {
        name: format!("{}|{}", deliver.exchange, deliver.routing_key),
        body: body.freeze(),
        head: Head::Amqp(BasicProperties::decode(header.properties).expect("right properties")),
    }
}

fn received_stomp(version: StompVersion, input: &mut BytesMut) -> Received {
    let limits = StompLimits {
        header_count_max: 10_000,
        header_len_max: 1 << 20,
        head_len_max: 1 << 20,
        body_len_max: 1 << 20,
    };
    let frame = StompDecoder::new(version, limits)
        .decode(input)
        .expect("a right frame")
        .expect("a whole one");
    assert_eq!(frame.verb, Verb::Message);
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("headers are UTF-8");
    Received {
        name: text(frame.headers.first("destination").expect("always there")),
        body: frame.body,
        head: Head::Stomp {
            version,
            headers: frame
                .headers
                .0
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            with_length: true,
        },
    }
}

fn mqtt_line(property: &Property) -> String {
    match property {
        Property::PayloadFormatIndicator(n) => format!("payload format indicator {n}"),
        Property::MessageExpiryInterval(n) => format!("message expiry interval {n}"),
        Property::ContentType(text) => format!("content type {}", shown(text.as_str())),
        Property::ResponseTopic(text) => format!("response topic {}", shown(text.as_str())),
        Property::CorrelationData(bytes) => format!("correlation data {}", bytes_shown(bytes)),
        Property::UserProperty(name, value) => {
            format!("{}: {}", shown(name.as_str()), shown(value.as_str()))
        }
        other => format!("{other:?}"),
    }
}

fn amqp_lines(properties: &BasicProperties) -> Vec<String> {
    let mut lines = Vec::new();
    let mut text = |name: &str, text: &Option<Short>| {
        if let Some(text) = text {
            lines.push(format!("{name}={}", bytes_shown(text)));
        }
    };
    text("content-type", &properties.content_type);
    text("content-encoding", &properties.content_encoding);
    text("correlation-id", &properties.correlation_id);
    text("reply-to", &properties.reply_to);
    text("expiration", &properties.expiration);
    text("message-id", &properties.message_id);
    text("type", &properties.kind);
    text("user-id", &properties.user_id);
    text("app-id", &properties.app_id);
    text("cluster-id", &properties.cluster_id);
    let numbers = [
        ("delivery-mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    for (name, number) in numbers {
        lines.extend(number.map(|number| format!("{name}={number}")));
    }
    for (name, value) in &properties.headers.clone().unwrap_or_default().0 {
        lines.push(format!("{}={}", bytes_shown(name), value_shown(value)));
    }
    lines
}

/// A value with its type's letter on the wire, which is left out for text.
fn value_shown(value: &Value) -> String {
    let plain = || value.to_plain_text().unwrap_or_default();
    let letter = match value {
        Value::Text(text) => return format!("'{}'", bytes_shown(text)),
        Value::Null => return "void".to_owned(),
        Value::Bool(_) => return plain(),
        Value::LongString(bytes) => return format!("S {}", bytes_shown(bytes)),
        Value::Bytes(bytes) => return format!("x {}", bytes_shown(bytes)),
        Value::List(values) => {
            let parts: Vec<String> = values.iter().map(value_shown).collect();
            return format!("[{}]", parts.join(", "));
        }
        Value::Map(pairs) => {
            let parts: Vec<String> = pairs
                .iter()
                .map(|(name, value)| {
                    let name = name.to_plain_text().unwrap_or_default();
                    format!("{name}={}", value_shown(value))
                })
                .collect();
            return format!("{{{}}}", parts.join(", "));
        }
        Value::I8(_) => 'b',
        Value::U8(_) => 'B',
        Value::I16(_) => 's',
        Value::U16(_) => 'u',
        Value::I32(_) => 'I',
        Value::U32(_) => 'i',
        Value::I64(_) => 'l',
        Value::U64(_) => 'L',
        Value::F32(_) => 'f',
        Value::F64(_) => 'd',
        Value::Decimal { .. } => 'D',
        Value::TimeSeconds(_) => 'T',
        other => panic!("AMQP 0-9-1 has no {other:?}"),
    };
    format!("{letter} {}", plain())
}

fn shown(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}

/// Text, or in hexadecimal what is none.
fn bytes_shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => shown(text),
        _ => {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{}", digits.concat())
        }
    }
}

/// AMQP properties with these headers and nothing else.
pub(crate) fn with_headers(headers: &[(&str, Value)]) -> BasicProperties {
    let mut table = Table::default();
    for (name, value) in headers {
        table.push((*name).to_owned(), value.clone());
    }
    BasicProperties {
        headers: Some(table),
        ..Default::default()
    }
}
