//! Conversions in both directions, named after the rules that they prove.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use message::{
    Address, BodyKind, Kind, Levels, Message, NativeForm, Properties, Timestamp, Value, VhostId,
};

use session::{ConsumerId, Death, DeathReason, Delivery};

use super::{
    Publisher, address, as_published, envelope::Envelope, from_publish, of_delivery, of_return,
};
use crate::codec::{BasicProperties, Short, basic};

const NOW: Timestamp = Timestamp(1_000_000);

fn publish(exchange: &'static str, key: &'static str, properties: &BasicProperties) -> Message {
    let publish = basic::Publish {
        exchange: exchange.into(),
        routing_key: key.into(),
        ..Default::default()
    };
    read(&publish, properties.to_bytes())
}

fn read(publish: &basic::Publish, properties: Bytes) -> Message {
    let by = Publisher {
        vhost: VhostId::ROOT,
        user: "guest",
        reply_queue: None,
        now: NOW,
    };
    let address = address(
        by.vhost,
        publish.exchange.bytes(),
        publish.routing_key.bytes(),
    );
    let address = Arc::new(address.expect("a right address"));
    from_publish(address, properties, Bytes::new(), by).expect("a right publish")
}

fn properties(envelope: &Envelope) -> BasicProperties {
    BasicProperties::decode(envelope.properties.clone()).expect("our own bytes")
}

fn headers(envelope: &Envelope) -> Properties {
    properties(envelope).headers.unwrap_or_default()
}

/// A message through another door.
fn foreign() -> Message {
    let mut message = Message::new(
        Address::topic(VhostId::ROOT, topic(&[b"a", b"b"])),
        Bytes::from_static(b"body"),
    );
    message.body_kind = BodyKind::Text;
    message
}

fn topic(levels: &[&[u8]]) -> Levels {
    Levels::collect(levels).expect("a short topic")
}

/// Publishes again what a delivery looked like.
fn again(envelope: &Envelope) -> Message {
    let publish = basic::Publish {
        exchange: envelope.exchange.clone(),
        routing_key: envelope.routing_key.clone(),
        ..Default::default()
    };
    read(&publish, envelope.properties.clone())
}

#[test]
fn doors_3_a_key_over_255_bytes_goes_in_a_header() {
    let mut message = foreign();
    let long = vec![b'x'; 300];
    message.address = Address::topic(VhostId::ROOT, topic(&[&long, b"y"])).into();
    let envelope = of_return(&message, NOW);
    assert_eq!(
        (&envelope.exchange[..], &envelope.routing_key[..]),
        (&b"amq.topic"[..], &b""[..])
    );
    let text = [&long[..], b".y"].concat();
    assert_eq!(
        headers(&envelope).first(b"x-bascule-address"),
        Some(&Value::Text(text.into()))
    );
}

#[test]
fn doors_9_a_topic_reply_to_is_written_with_its_prefix_and_comes_back() {
    let mut message = foreign();
    let reply_to = Address::topic(VhostId::ROOT, topic(&[b"re", b"p.ly"]));
    message.fields_mut().reply_to = Some(reply_to.clone());
    let envelope = of_return(&message, NOW);
    assert_eq!(
        properties(&envelope).reply_to,
        Some(Short::from("$topic/re.p%2Ely"))
    );
    assert_eq!(again(&envelope).fields().reply_to, Some(reply_to));
}

#[test]
fn doors_9_a_reply_to_over_255_bytes_goes_in_a_header_and_comes_back() {
    let mut message = foreign();
    let long = vec![b'r'; 300];
    let reply_to = Address::topic(VhostId::ROOT, topic(&[&long, b"s"]));
    message.fields_mut().reply_to = Some(reply_to.clone());
    let envelope = of_return(&message, NOW);
    assert_eq!(properties(&envelope).reply_to, None);
    assert!(headers(&envelope).first(b"x-reply-to").is_some());
    assert_eq!(again(&envelope).fields().reply_to, Some(reply_to));
}

#[test]
fn doors_18_the_live_copy_of_a_retained_message_says_so_and_only_root_topics_retain() {
    let mut message = foreign();
    message.retain = true;
    let envelope = of_return(&message, NOW);
    assert_eq!(
        headers(&envelope).first(b"x-mqtt-retain"),
        Some(&Value::Bool(true))
    );
    assert!(again(&envelope).retain);
    let mut table = Properties::default();
    table.push("x-mqtt-retain", Value::Bool(true));
    let elsewhere = BasicProperties {
        headers: Some(table),
        ..Default::default()
    };
    let message = publish("", "queue", &elsewhere);
    assert!(!message.retain);
    assert!(message.properties.first(b"x-mqtt-retain").is_some());
}

#[test]
fn doors_23_a_repeated_name_is_an_array() {
    let mut message = foreign();
    for text in ["one", "two", "three"] {
        message.properties.push("n", Value::text(text));
    }
    message.properties.push("m", Value::U64(5));
    let list = Value::List(vec![
        Value::text("one"),
        Value::text("two"),
        Value::text("three"),
    ]);
    let headers = headers(&of_return(&message, NOW));
    assert_eq!(headers.first(b"n"), Some(&list));
    assert_eq!(headers.first(b"m"), Some(&Value::I64(5)));
}

#[test]
fn doors_24_the_native_head_comes_out_as_it_came() {
    let wanted = BasicProperties {
        content_type: Some("text/plain".into()),
        expiration: Some("0060000".into()),
        cluster_id: Some("c".into()),
        delivery_mode: Some(1),
        ..Default::default()
    };
    let message = publish("e", "k", &wanted);
    assert_eq!(of_return(&message, NOW).properties, wanted.to_bytes());
    assert_eq!(message.expiry, Some(NOW.plus_ms(60_000)));
}

#[test]
fn doors_24_bcc_is_routed_by_and_seen_by_no_one() {
    let copies =
        |keys: &[&'static str]| Value::List(keys.iter().map(|k| Value::text(*k)).collect());
    let mut table = Properties::default();
    table.push("CC", copies(&["a.b"]));
    table.push("BCC", copies(&["c"]));
    let wanted = BasicProperties {
        headers: Some(table),
        ..Default::default()
    };
    let message = publish("", "first", &wanted);
    // On the default exchange a key is a queue's name: one opaque level.
    let keys = [Levels::one("a.b".into()), Levels::one("c".into())];
    assert_eq!(message.fields().carbon_copies, keys);
    let headers = headers(&of_return(&message, NOW));
    assert!(headers.first(b"CC").is_some() && headers.first(b"BCC").is_none());
    assert!(message.properties.first(b"BCC").is_none());
}

#[test]
fn doors_26_identifiers_that_are_no_short_text_go_in_headers_and_come_back() {
    for id in [
        Value::Bytes(Bytes::from_static(b"\xff\x00")),
        Value::text("i".repeat(300)),
    ] {
        let mut message = foreign();
        message.fields_mut().correlation_id = Some(id.clone());
        message.fields_mut().message_id = Some(id.clone());
        let envelope = of_return(&message, NOW);
        let shown = properties(&envelope);
        // One that is not UTF-8 has a text besides, for who copies the property into an answer.
        let text = matches!(id, Value::Bytes(_)).then(|| Short::from("base64:/wA="));
        assert_eq!((&shown.correlation_id, &shown.message_id), (&text, &text));
        let answer = BasicProperties {
            correlation_id: shown.correlation_id.clone(),
            ..Default::default()
        };
        let answered = publish("", "answers", &answer)
            .fields()
            .correlation_id
            .clone();
        assert_eq!(answered, text.map(|_| id.clone()));
        assert!(headers(&envelope).first(b"x-message-id").is_some());
        let back = again(&envelope);
        assert_eq!(back.fields().correlation_id, Some(id.clone()));
        assert_eq!(back.fields().message_id, Some(id));
    }
}

#[test]
fn typed_fields_of_other_doors_come_back() {
    let mut message = foreign();
    message.durable = true;
    message.qos = 1;
    message.priority = Some(3);
    message.expiry = Some(NOW.plus_ms(500));
    message.created = Some(Timestamp(7000));
    message.properties.push("mine", Value::text("é"));
    message.group = Some("group".into());
    let fields = message.fields_mut();
    fields.content_type = Some("text/plain".into());
    fields.content_encoding = Some("gzip".into());
    fields.message_id = Some(Value::text("m"));
    fields.correlation_id = Some(Value::text("c"));
    fields.reply_to = Some(Address::queue(VhostId::ROOT, "answers"));
    fields.app_id = Some("app".into());
    fields.subject = Some("subject".into());
    fields.group_sequence = Some(u32::MAX);
    fields.dedup_id = Some("dedup".into());
    fields.trace_parent = Some("00-1-2-3".into());
    fields.trace_state = Some("a=b".into());
    let mut back = again(&of_return(&message, NOW));
    assert_eq!(
        back.native.take().map(|native| native.form),
        Some(NativeForm::AMQP091)
    );
    // The kind of a body and the body itself are not part of a head.
    back.body_kind = message.body_kind;
    back.body = message.body.clone();
    assert_eq!(back, message);
}

#[test]
fn what_a_reader_of_a_stream_sees_names_the_stream() {
    let mut message = foreign();
    message.address = Address::stream(VhostId::ROOT, "clicks", Levels::none()).into();
    let envelope = of_return(&message, NOW);
    assert_eq!(&envelope.routing_key[..], b"$stream/clicks");
    assert_eq!(message.address.kind, Kind::Stream);
}

#[test]
fn a_head_is_no_longer_than_what_came() {
    // Property lists are kept as they came, so a message is not charged twice for an empty one.
    let message = publish("", "q", &BasicProperties::default());
    let mut expected = BytesMut::new();
    BasicProperties::default().encode(&mut expected);
    assert_eq!(message.native.expect("native").head, expected.freeze());
    assert!(message.fields.is_none() && message.properties.is_empty());
}

#[test]
fn a_delivery_that_says_what_was_published_is_shown_the_same_without_an_envelope() {
    let plain = |exchange, key| {
        let said = BasicProperties {
            delivery_mode: Some(2),
            content_type: Some("text/plain".into()),
            ..BasicProperties::default()
        };
        let message = Arc::new(publish(exchange, key, &said));
        Delivery::first(ConsumerId(1), message, NOW)
    };
    let delivery = plain("", "q");
    let words = as_published(&delivery).expect("nothing is to be added");
    assert_eq!(words, of_delivery(&delivery, NOW).words());
    assert_eq!((words.exchange, words.routing_key), (&b""[..], &b"q"[..]));
    // Each of these is shown with more, or with other words, than it was published with.
    let death = Death {
        queue: Bytes::from_static(b"q"),
        reason: DeathReason::Rejected,
        count: 1,
        time: NOW,
        exchange: Bytes::new(),
        key: topic(&[b"q"]),
        original_ttl_ms: None,
    };
    let others = [
        Delivery {
            count: 2,
            ..plain("", "q")
        },
        Delivery {
            deaths: Some(Arc::new(vec![death])),
            ..plain("", "q")
        },
        Delivery {
            readdressed: Some(Arc::new(Address::queue(
                VhostId::ROOT,
                Bytes::from(vec![b'x'; 300]),
            ))),
            ..plain("", "q")
        },
        plain("amq.direct", "q"),
        Delivery::first(ConsumerId(1), Arc::new(foreign()), NOW),
    ];
    for other in others {
        assert_eq!(as_published(&other), None, "{other:?}");
    }
    let elsewhere = Address::queue(VhostId::ROOT, Bytes::from_static(b"dead"));
    let moved = Delivery {
        readdressed: Some(Arc::new(elsewhere)),
        ..delivery
    };
    let words = as_published(&moved).expect("another queue has a name as well");
    assert_eq!(words, of_delivery(&moved, NOW).words());
    assert_eq!(words.routing_key, b"dead");
}
