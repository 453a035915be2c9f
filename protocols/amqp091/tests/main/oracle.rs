//! Our bytes through a codec that others wrote: it must read them, and write the same bytes again.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amqp091::codec::{
    BasicProperties, Long, Method, Short, access, basic, channel, confirm, connection,
    encode_header, encode_method, exchange, queue, tx,
};
use bytes::{Bytes, BytesMut};
use message::{Properties, Value};

fn check(bytes: &[u8], what: &str) -> AMQPFrame {
    let (rest, frame) = parse_frame(bytes).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(rest.is_empty(), "{what}: something is left");
    let again: WriteContext<Vec<u8>> =
        gen_frame(&frame)(WriteContext::from(Vec::new())).expect("a vector takes all");
    assert_eq!(again.into_inner().0, bytes, "{what}");
    frame
}

/// One of each method, with no field set, each of its bits set, and texts and numbers set.
fn methods() -> Vec<Method> {
    macro_rules! plain {
        ($($class:ident::$name:ident),* $(,)?) => { vec![$( Method::from($class::$name::default()) ),*] };
    }
    let mut all = plain![
        connection::Start,
        connection::StartOk,
        connection::Secure,
        connection::SecureOk,
        connection::Tune,
        connection::TuneOk,
        connection::Open,
        connection::OpenOk,
        connection::Close,
        connection::CloseOk,
        connection::Blocked,
        connection::Unblocked,
        connection::UpdateSecret,
        connection::UpdateSecretOk,
        channel::Open,
        channel::OpenOk,
        channel::Flow,
        channel::FlowOk,
        channel::Close,
        channel::CloseOk,
        access::Request,
        exchange::Declare,
        exchange::DeclareOk,
        exchange::Delete,
        exchange::DeleteOk,
        exchange::Bind,
        exchange::BindOk,
        exchange::Unbind,
        exchange::UnbindOk,
        queue::Declare,
        queue::DeclareOk,
        queue::Bind,
        queue::BindOk,
        queue::Purge,
        queue::PurgeOk,
        queue::Delete,
        queue::DeleteOk,
        queue::Unbind,
        queue::UnbindOk,
        basic::Qos,
        basic::QosOk,
        basic::Consume,
        basic::ConsumeOk,
        basic::Cancel,
        basic::CancelOk,
        basic::Publish,
        basic::Return,
        basic::Deliver,
        basic::Get,
        basic::GetOk,
        basic::GetEmpty,
        basic::Ack,
        basic::Reject,
        basic::RecoverAsync,
        basic::Recover,
        basic::RecoverOk,
        basic::Nack,
        confirm::Select,
        confirm::SelectOk,
        tx::Select,
        tx::SelectOk,
        tx::Commit,
        tx::CommitOk,
        tx::Rollback,
        tx::RollbackOk,
    ];
    let table = || {
        let mut table = Properties::default();
        table.push("n", Value::I32(-7));
        table
    };
    all.extend([
        access::RequestOk { reserved_1: 1 }.into(),
        queue::Declare {
            queue: "q".into(),
            durable: true,
            auto_delete: true,
            arguments: table(),
            ..Default::default()
        }
        .into(),
        queue::Declare {
            passive: true,
            exclusive: true,
            no_wait: true,
            ..Default::default()
        }
        .into(),
        exchange::Declare {
            exchange: "e".into(),
            kind: "topic".into(),
            durable: true,
            internal: true,
            arguments: table(),
            ..Default::default()
        }
        .into(),
        basic::Consume {
            queue: "q".into(),
            consumer_tag: "c".into(),
            no_ack: true,
            no_wait: true,
            arguments: table(),
            ..Default::default()
        }
        .into(),
        basic::Deliver {
            consumer_tag: "c".into(),
            delivery_tag: 1 << 40,
            redelivered: true,
            exchange: "e".into(),
            routing_key: "k".into(),
        }
        .into(),
        basic::GetOk {
            delivery_tag: 9,
            redelivered: true,
            exchange: "e".into(),
            routing_key: "k".into(),
            message_count: 3,
        }
        .into(),
        basic::Nack {
            delivery_tag: 5,
            multiple: false,
            requeue: true,
        }
        .into(),
        basic::Return {
            reply_code: 312,
            reply_text: "NO_ROUTE".into(),
            exchange: "e".into(),
            routing_key: "k".into(),
        }
        .into(),
        connection::Close {
            reply_code: 404,
            reply_text: "NOT_FOUND".into(),
            class_id: 50,
            method_id: 10,
        }
        .into(),
        connection::StartOk {
            client_properties: table(),
            mechanism: "PLAIN".into(),
            response: Long(Bytes::from_static(b"\0a\0b")),
            locale: "en_US".into(),
        }
        .into(),
        connection::Tune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        }
        .into(),
    ]);
    all
}

#[test]
fn another_codec_reads_and_writes_every_method_alike() {
    for method in methods() {
        let mut bytes = BytesMut::new();
        encode_method(&mut bytes, 7, &method);
        let frame = check(&bytes, method.name());
        assert!(
            matches!(frame, AMQPFrame::Method(7, _)),
            "{}",
            method.name()
        );
    }
}

#[test]
fn another_codec_reads_and_writes_properties_and_values_alike() {
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::I8(-1),
        Value::U8(1),
        Value::I16(-300),
        Value::U16(300),
        Value::I32(-70_000),
        Value::U32(70_000),
        Value::I64(-(1 << 40)),
        Value::F32(1.5),
        Value::F64(-2.5),
        Value::Decimal {
            scale: 2,
            value: 314,
        },
        Value::text("text"),
        Value::LongString(Bytes::from_static(b"\xff")),
        Value::TimeSeconds(1_700_000_000),
        Value::Bytes(Bytes::from_static(b"\0\x01")),
        Value::List(vec![Value::Null, Value::text("in")]),
        Value::Map(vec![
            (Value::text("a"), Value::I32(1)),
            (Value::text("b"), Value::Bool(false)),
        ]),
    ];
    let mut headers = Properties::default();
    for (at, value) in values.into_iter().enumerate() {
        // The other codec sorts tables.
        headers.push(format!("{at:02}"), value);
    }
    let short = |text: &'static str| Some(Short::from(text));
    let properties = BasicProperties {
        content_type: short("text/plain"),
        content_encoding: short("gzip"),
        headers: Some(headers),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: short("c"),
        reply_to: short("r"),
        expiration: short("60000"),
        message_id: short("m"),
        timestamp: Some(1_700_000_000),
        kind: short("t"),
        user_id: short("u"),
        app_id: short("a"),
        cluster_id: short("cl"),
    };
    let mut bytes = BytesMut::new();
    encode_header(&mut bytes, 3, 60, 1234, &properties.to_bytes());
    let frame = check(&bytes, "content header");
    let AMQPFrame::Header(3, header) = frame else {
        panic!("a header was written");
    };
    assert_eq!(header.body_size, 1234);
    assert_eq!(
        header
            .properties
            .expiration()
            .as_ref()
            .map(|text| text.as_str()),
        Some("60000")
    );
}
