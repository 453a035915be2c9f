//! Every field and type that a message of each protocol can have, one sample each.
//!
//! A sample adds to a bare head. What it is called is what the page's rows are called.

use amqp091::codec::{BasicProperties, Short};
use bytes::Bytes;
use message::Value;
use mqtt::codec::{Property, Version as MqttVersion};
use stomp::Version as StompVersion;

use crate::{
    head::{Head, Speech, with_headers},
    peer::NOW,
};

pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) head: Head,
    /// It can be said along with all the others.
    pub(crate) whole: bool,
}

/// The samples of a protocol.
pub(crate) fn of(speech: Speech) -> Vec<Sample> {
    match speech {
        Speech::Mqtt(version) => mqtt_samples(version),
        Speech::Amqp => amqp_samples(),
        Speech::Stomp(version) => stomp_samples(version),
    }
}

fn mqtt_samples(version: MqttVersion) -> Vec<Sample> {
    let head = |qos, retain, properties| Head::Mqtt {
        version,
        qos,
        retain,
        properties,
    };
    let flags = [
        ("QoS 0", head(0, false, Vec::new()), false),
        ("QoS 1", head(1, false, Vec::new()), true),
        ("QoS 2", head(2, false, Vec::new()), false),
        ("RETAIN", head(0, true, Vec::new()), true),
    ];
    let mut samples: Vec<Sample> = flags
        .into_iter()
        .map(|(name, head, whole)| Sample {
            name: name.to_owned(),
            head,
            whole,
        })
        .collect();
    if version < MqttVersion::V5 {
        return samples;
    }
    let mut add = |name: &str, properties: Vec<Property>, whole| {
        samples.push(Sample {
            name: name.to_owned(),
            head: head(0, false, properties),
            whole,
        });
    };
    let seconds = Property::MessageExpiryInterval;
    let user = |name: &'static str, value: &'static str| {
        vec![Property::UserProperty(name.into(), value.into())]
    };
    add(
        "payload format indicator",
        vec![Property::PayloadFormatIndicator(1)],
        true,
    );
    add("message expiry interval", vec![seconds(60)], true);
    add(
        "message expiry interval, longest",
        vec![seconds(u32::MAX)],
        false,
    );
    add(
        "content type",
        vec![Property::ContentType("image/png".into())],
        true,
    );
    add(
        "content type, text",
        vec![Property::ContentType("text/plain".into())],
        false,
    );
    add(
        "response topic",
        vec![Property::ResponseTopic("answers/1.5".into())],
        true,
    );
    add(
        "response topic, a queue",
        vec![Property::ResponseTopic("$queue/answers".into())],
        false,
    );
    let data = |bytes: &'static [u8]| vec![Property::CorrelationData(Bytes::from_static(bytes))];
    add("correlation data, text", data(b"c-1"), false);
    add("correlation data, bytes", data(b"\xff\x01"), true);
    add("user property", user("colour", "größer"), true);
    let mut twice = user("tag", "a");
    twice.extend(user("tag", "b"));
    add("user property, repeated", twice, true);
    add("user property, empty", user("note", ""), true);
    add("user property of AMQP's name", user("CC", "x"), true);
    add(
        "user property of STOMP's name",
        user("content-type", "x"),
        true,
    );
    for (name, value) in [
        ("group-id", "g"),
        ("JMSXGroupID", "g"),
        ("group-sequence", "3"),
        ("x-deduplication-id", "d"),
        ("_AMQ_DUPL_ID", "d"),
        ("priority", "7"),
        ("x-message-id", "m-1"),
        ("x-timestamp-ms", "1700000000000"),
        ("x-content-encoding", "gzip"),
        ("x-type", "order"),
        ("x-app-id", "shop"),
        ("x-user-id", "guest"),
        ("traceparent", "00-01-02-03"),
        ("tracestate", "a=b"),
    ] {
        let whole = !matches!(name, "JMSXGroupID" | "_AMQ_DUPL_ID");
        add(&format!("`{name}`"), user(name, value), whole);
    }
    samples
}

fn amqp_samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name: &str, properties: BasicProperties, whole| {
        samples.push(Sample {
            name: name.to_owned(),
            head: Head::Amqp(properties),
            whole,
        });
    };
    let none = BasicProperties::default;
    let short = |text: &'static str| Some(Short::from(text));
    let octets = |bytes: &'static [u8]| Short::new(Bytes::from_static(bytes));
    add(
        "delivery-mode 1",
        BasicProperties {
            delivery_mode: Some(1),
            ..none()
        },
        false,
    );
    add(
        "delivery-mode 2",
        BasicProperties {
            delivery_mode: Some(2),
            ..none()
        },
        true,
    );
    add(
        "priority",
        BasicProperties {
            priority: Some(7),
            ..none()
        },
        true,
    );
    add(
        "expiration",
        BasicProperties {
            expiration: short("60000"),
            ..none()
        },
        true,
    );
    add(
        "expiration, longest",
        BasicProperties {
            expiration: short("4294967295"),
            ..none()
        },
        false,
    );
    add(
        "content-type",
        BasicProperties {
            content_type: short("image/png"),
            ..none()
        },
        true,
    );
    add(
        "content-type, text",
        BasicProperties {
            content_type: short("text/plain"),
            ..none()
        },
        false,
    );
    add(
        "content-encoding",
        BasicProperties {
            content_encoding: short("gzip"),
            ..none()
        },
        true,
    );
    add(
        "correlation-id",
        BasicProperties {
            correlation_id: short("c-1"),
            ..none()
        },
        true,
    );
    add(
        "correlation-id, bytes",
        BasicProperties {
            correlation_id: octets(b"\xff\x01"),
            ..none()
        },
        false,
    );
    add(
        "reply-to",
        BasicProperties {
            reply_to: short("answers"),
            ..none()
        },
        true,
    );
    add(
        "reply-to, a topic",
        BasicProperties {
            reply_to: short("$topic/answers.1"),
            ..none()
        },
        false,
    );
    add(
        "message-id",
        BasicProperties {
            message_id: short("m-1"),
            ..none()
        },
        true,
    );
    add(
        "timestamp",
        BasicProperties {
            timestamp: Some(1_700_000_000),
            ..none()
        },
        true,
    );
    add(
        "type",
        BasicProperties {
            kind: short("order"),
            ..none()
        },
        true,
    );
    add(
        "user-id",
        BasicProperties {
            user_id: short("guest"),
            ..none()
        },
        true,
    );
    add(
        "app-id",
        BasicProperties {
            app_id: short("shop"),
            ..none()
        },
        true,
    );
    add(
        "cluster-id",
        BasicProperties {
            cluster_id: short("c"),
            ..none()
        },
        true,
    );
    let mut header = |name: &str, value: Value| {
        let label = match name.strip_prefix("n-") {
            Some(kind) => format!("header, {}", kind.replace('_', " ")),
            None => format!("header `{name}`"),
        };
        let whole = !matches!(name, "JMSXGroupID" | "_AMQ_DUPL_ID");
        add(&label, with_headers(&[(name, value)]), whole);
    };
    let texts =
        |texts: &[&'static str]| Value::List(texts.iter().map(|t| Value::text(*t)).collect());
    header("n-text", Value::text("größer"));
    header(
        "n-text_that_is_not_UTF-8",
        Value::LongString(Bytes::from_static(b"\xff")),
    );
    header("n-bytes", Value::Bytes(Bytes::from_static(b"abc")));
    header("n-boolean", Value::Bool(true));
    header("n-signed_8_bits", Value::I8(-1));
    header("n-unsigned_8_bits", Value::U8(255));
    header("n-signed_16_bits", Value::I16(-1));
    header("n-unsigned_16_bits", Value::U16(65_535));
    header("n-signed_32_bits", Value::I32(-1));
    header("n-unsigned_32_bits", Value::U32(u32::MAX));
    header("n-signed_64_bits", Value::I64(i64::MIN));
    header("n-unsigned_64_bits", Value::U64(u64::MAX));
    header("n-float", Value::F32(0.5));
    header("n-double", Value::F64(0.25));
    header(
        "n-decimal",
        Value::Decimal {
            scale: 2,
            value: -1234,
        },
    );
    header("n-timestamp", Value::TimeSeconds(1_700_000_000));
    header("n-void", Value::Null);
    header("n-array", texts(&["a", "b"]));
    header("n-array_of_one", texts(&["a"]));
    header("n-array,_empty", texts(&[]));
    let table = Value::Map(vec![
        (Value::text("k"), Value::I64(1)),
        (
            Value::text("inner"),
            Value::List(vec![Value::Bool(true), Value::Null]),
        ),
    ]);
    header("n-table", table.clone());
    header("n-array_of_tables", Value::List(vec![table]));
    header("CC", texts(&["other"]));
    header("BCC", texts(&["other"]));
    header("x-delay", Value::I64(250));
    header("x-group-id", Value::text("g"));
    header("JMSXGroupID", Value::text("g"));
    header("JMSXGroupSeq", Value::I64(3));
    header("x-deduplication-id", Value::text("d"));
    header("_AMQ_DUPL_ID", Value::text("d"));
    header("traceparent", Value::text("00-01-02-03"));
    header("tracestate", Value::text("a=b"));
    header("x-mqtt-retain", Value::Bool(true));
    header("amq-msg-type", Value::text("text"));
    header(
        "priority",
        Value::text("a header of MQTT's and STOMP's name"),
    );
    header("content-length", Value::text("a header of STOMP's name"));
    samples
}

fn stomp_samples(version: StompVersion) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name: &str, headers: &[(&str, &str)], with_length, whole| {
        samples.push(Sample {
            name: name.to_owned(),
            head: Head::Stomp {
                version,
                headers: headers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                with_length,
            },
            whole,
        });
    };
    let in_a_minute = NOW.plus_ms(60_000).0.to_string();
    add("with `content-length` (bytes)", &[], true, false);
    add("without `content-length` (text)", &[], false, true);
    for (name, value) in [
        ("amq-msg-type", "text"),
        ("content-type", "image/png"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("persistent", "true"),
        ("priority", "7"),
        ("expires", &in_a_minute),
        ("expiration", "60000"),
        ("timestamp", "1700000000"),
        ("correlation-id", "c-1"),
        ("reply-to", "/queue/answers"),
        ("reply-to", "/topic/answers.1"),
        ("reply-to", "/exchange/x/answers"),
        ("reply-to", "no destination"),
        ("message-id", "m-1"),
        ("amqp-message-id", "m-1"),
        ("type", "order"),
        ("app-id", "shop"),
        ("user-id", "guest"),
        ("JMSXGroupID", "g"),
        ("JMSXGroupSeq", "3"),
        ("x-deduplication-id", "d"),
        ("_AMQ_DUPL_ID", "d"),
        ("traceparent", "00-01-02-03"),
        ("tracestate", "a=b"),
        ("x-mqtt-retain", "true"),
        ("AMQ_SCHEDULED_DELAY", "250"),
    ] {
        let first = !matches!(
            (name, value),
            ("content-type", "text/plain") | ("expiration" | "message-id" | "_AMQ_DUPL_ID", _)
        ) && (name != "reply-to" || value == "/queue/answers");
        let shown = if name == "expires" {
            "now + 60000"
        } else {
            value
        };
        add(&format!("`{name}:{shown}`"), &[(name, value)], true, first);
    }
    add("any header", &[("colour", "größer")], true, true);
    add(
        "any header, repeated",
        &[("tag", "a"), ("tag", "b")],
        true,
        true,
    );
    add("any header, empty", &[("note", "")], true, true);
    add("a header of AMQP's name", &[("CC", "x")], true, true);
    add("a header of MQTT's name", &[("group-id", "x")], true, true);
    add("a header of a MESSAGE's name", &[("ack", "x")], true, true);
    if version != StompVersion::V1_0 {
        add("`:` in a name", &[("a:b", "x")], true, true);
        add("a line end in a value", &[("line", "a\nb")], true, true);
    }
    if version == StompVersion::V1_2 {
        add(
            "a carriage return in a value",
            &[("return", "a\rb")],
            true,
            true,
        );
    }
    samples
}

/// A head that says everything which can be said at once.
pub(crate) fn whole(speech: Speech) -> Head {
    let mut whole = speech.bare();
    for sample in of(speech).into_iter().filter(|sample| sample.whole) {
        match (&mut whole, sample.head) {
            (
                Head::Mqtt {
                    qos,
                    retain,
                    properties,
                    ..
                },
                Head::Mqtt {
                    qos: more,
                    retain: kept,
                    properties: others,
                    ..
                },
            ) => {
                *qos = (*qos).max(more);
                *retain |= kept;
                properties.extend(others);
            }
            (Head::Amqp(into), Head::Amqp(from)) => merge(into, from),
            (
                Head::Stomp {
                    headers,
                    with_length,
                    ..
                },
                Head::Stomp {
                    headers: others,
                    with_length: long,
                    ..
                },
            ) => {
                *with_length &= long;
                headers.extend(others);
            }
            _ => unreachable!("the samples of a protocol are its own"),
        }
    }
    whole
}

fn merge(into: &mut BasicProperties, from: BasicProperties) {
    let texts = [
        (&mut into.content_type, from.content_type),
        (&mut into.content_encoding, from.content_encoding),
        (&mut into.correlation_id, from.correlation_id),
        (&mut into.reply_to, from.reply_to),
        (&mut into.expiration, from.expiration),
        (&mut into.message_id, from.message_id),
        (&mut into.kind, from.kind),
        (&mut into.user_id, from.user_id),
        (&mut into.app_id, from.app_id),
        (&mut into.cluster_id, from.cluster_id),
    ];
    for (into, from) in texts {
        if from.is_some() {
            *into = from;
        }
    }
    into.delivery_mode = from.delivery_mode.or(into.delivery_mode);
    into.priority = from.priority.or(into.priority);
    into.timestamp = from.timestamp.or(into.timestamp);
    if let Some(headers) = from.headers {
        into.headers.get_or_insert_default().0.extend(headers.0);
    }
}
