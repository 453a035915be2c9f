//! Random values through the codec.

use amqp091::codec::{
    self, BasicProperties, ContentHeader, Frame, Long, Method, Short, basic, connection, exchange,
    queue,
};
use bytes::{Bytes, BytesMut};
use message::{Properties, Value};
use proptest::prelude::*;

fn short() -> impl Strategy<Value = Short> {
    prop::collection::vec(any::<u8>(), 0..40)
        .prop_map(|text| Short::new(Bytes::from(text)).expect("40 bytes are short"))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        any::<i32>().prop_map(|n| Value::F32(n as f32)),
        any::<i32>().prop_map(|n| Value::F64(f64::from(n))),
        (any::<u8>(), any::<i32>()).prop_map(|(scale, value)| Value::Decimal { scale, value }),
        ".{0,20}".prop_map(Value::text),
        any::<u64>().prop_map(Value::TimeSeconds),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| Value::Bytes(b.into())),
        prop::collection::vec(any::<u8>(), 0..20)
            .prop_filter("not UTF-8", |b| std::str::from_utf8(b).is_err())
            .prop_map(|b| Value::LongString(b.into())),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec(("[a-z]{0,5}".prop_map(Value::text), inner), 0..4)
                .prop_map(Value::Map),
        ]
    })
}

fn table() -> impl Strategy<Value = Properties> {
    prop::collection::vec(("[a-zA-Z-]{0,8}", value()), 0..5).prop_map(|pairs| {
        let mut table = Properties::default();
        for (name, value) in pairs {
            table.push(name, value);
        }
        table
    })
}

fn properties() -> impl Strategy<Value = BasicProperties> {
    let some = || prop::option::of(short());
    (
        (
            some(),
            some(),
            prop::option::of(table()),
            any::<Option<u8>>(),
            any::<Option<u8>>(),
        ),
        (some(), some(), some(), some(), any::<Option<u64>>()),
        (some(), some(), some(), some()),
    )
        .prop_map(|(a, b, c)| BasicProperties {
            content_type: a.0,
            content_encoding: a.1,
            headers: a.2,
            delivery_mode: a.3,
            priority: a.4,
            correlation_id: b.0,
            reply_to: b.1,
            expiration: b.2,
            message_id: b.3,
            timestamp: b.4,
            kind: c.0,
            user_id: c.1,
            app_id: c.2,
            cluster_id: c.3,
        })
}

fn method() -> impl Strategy<Value = Method> {
    let bits = || prop::array::uniform5(any::<bool>());
    prop_oneof![
        (short(), bits(), table()).prop_map(|(name, b, arguments)| queue::Declare {
            reserved_1: 0,
            queue: name,
            passive: b[0],
            durable: b[1],
            exclusive: b[2],
            auto_delete: b[3],
            no_wait: b[4],
            arguments,
        }
        .into()),
        (short(), short(), bits(), table()).prop_map(|(exchange, kind, b, arguments)| {
            exchange::Declare {
                reserved_1: 1,
                exchange,
                kind,
                passive: b[0],
                durable: b[1],
                auto_delete: b[2],
                internal: b[3],
                no_wait: b[4],
                arguments,
            }
            .into()
        }),
        (short(), any::<u64>(), any::<bool>(), short(), short()).prop_map(
            |(consumer_tag, delivery_tag, redelivered, exchange, routing_key)| basic::Deliver {
                consumer_tag,
                delivery_tag,
                redelivered,
                exchange,
                routing_key,
            }
            .into()
        ),
        (
            table(),
            short(),
            prop::collection::vec(any::<u8>(), 0..30),
            short()
        )
            .prop_map(|(client_properties, mechanism, response, locale)| {
                connection::StartOk {
                    client_properties,
                    mechanism,
                    response: Long(response.into()),
                    locale,
                }
                .into()
            }),
        (any::<u64>(), any::<bool>(), any::<bool>()).prop_map(|(tag, multiple, requeue)| {
            basic::Nack {
                delivery_tag: tag,
                multiple,
                requeue,
            }
            .into()
        }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (any::<u16>(), method()).prop_map(|(channel, method)| Frame::Method { channel, method }),
        (any::<u16>(), any::<u64>(), properties()).prop_map(|(channel, body_size, properties)| {
            Frame::Header {
                channel,
                header: ContentHeader {
                    class_id: 60,
                    body_size,
                    properties: properties.to_bytes(),
                },
            }
        }),
        (any::<u16>(), prop::collection::vec(any::<u8>(), 0..50)).prop_map(|(channel, body)| {
            Frame::Body {
                channel,
                body: body.into(),
            }
        }),
        Just(Frame::Heartbeat),
    ]
}

proptest! {
    #[test]
    fn properties_come_back(wanted in properties()) {
        prop_assert_eq!(BasicProperties::decode(wanted.to_bytes()).expect("our own bytes"), wanted);
    }

    #[test]
    fn frames_come_back_however_the_bytes_are_split(
        wanted in prop::collection::vec(frame(), 1..6),
        cuts in prop::collection::vec(1usize..40, 1..20),
    ) {
        let mut bytes = BytesMut::new();
        for frame in &wanted {
            frame.encode(&mut bytes);
        }
        let mut input = BytesMut::new();
        let mut seen = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        while !bytes.is_empty() {
            let len = cuts.next().unwrap_or(1).min(bytes.len());
            input.extend_from_slice(&bytes.split_to(len));
            while let Some(frame) = codec::decode(&mut input, 0).expect("our own bytes") {
                seen.push(frame);
            }
        }
        prop_assert_eq!(seen, wanted);
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 1u8..4) {
        let mut input = BytesMut::new();
        input.extend_from_slice(&[kind, 0, 1]);
        input.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        input.extend_from_slice(&bytes);
        input.extend_from_slice(&[0xCE]);
        if let Ok(Some(Frame::Header { header, .. })) = codec::decode(&mut input, 4096) {
            let _ = BasicProperties::decode(header.properties);
        }
    }
}

#[test]
fn tables_may_not_nest_without_end() {
    let mut value = Value::Null;
    for _ in 0..40 {
        value = Value::List(vec![value]);
    }
    let mut arguments = Properties::default();
    arguments.push("deep", value);
    let mut bytes = BytesMut::new();
    codec::encode_method(
        &mut bytes,
        1,
        &queue::Declare {
            arguments,
            ..Default::default()
        }
        .into(),
    );
    assert!(codec::decode(&mut bytes, 0).is_err());
}
