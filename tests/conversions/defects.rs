//! Defects of conversion that were found in other brokers, each with the test that ours has not got it.

use amqp091::codec::BasicProperties;
use bytes::BytesMut;
use message::{Message, Timestamp, Value};
use mqtt::codec::{Property, Version as MqttVersion};
use session::{Output, Session as _};
use stomp::Version as StompVersion;

use crate::{
    head::{Head, Speech, received, with_headers},
    page::cross,
    peer::{BODY, NOW, Peer},
};

const MQTT: Speech = Speech::Mqtt(MqttVersion::V5);
const STOMP: Speech = Speech::Stomp(StompVersion::V1_2);

fn stomp(headers: &[(&str, &str)]) -> Head {
    Head::Stomp {
        version: StompVersion::V1_2,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        with_length: true,
    }
}

fn amqp(mode: u8) -> Head {
    Head::Amqp(BasicProperties {
        delivery_mode: Some(mode),
        ..Default::default()
    })
}

fn mqtt(qos: u8, properties: Vec<Property>) -> Head {
    Head::Mqtt {
        version: MqttVersion::V5,
        qos,
        retain: false,
        properties,
    }
}

fn published(head: &Head) -> Message {
    let speech = head.speech();
    let place = crate::page::place(speech);
    Peer::new(speech)
        .publish(head, place, BODY)
        .expect("accepted")
}

#[test]
fn mapping_2_1_what_is_persistent_reaches_mqtt_at_least_once() {
    for (head, qos) in [
        (stomp(&[("persistent", "true")]), 1),
        (amqp(2), 1),
        (mqtt(2, Vec::new()), 2),
        // And 2.4: what is not is not handed over in four steps.
        (stomp(&[]), 0),
        (amqp(1), 0),
        (mqtt(0, Vec::new()), 0),
    ] {
        let lines = cross(&head, MQTT).head.lines();
        assert!(lines.contains(&format!("QoS {qos}")), "{head:?}: {lines:?}");
    }
}

#[test]
fn mapping_2_2_no_expiry_overflows_into_the_past() {
    for seconds in [
        0,
        1,
        2_147_483,
        2_147_484,
        0x7fff_ffff,
        0x8000_0000,
        u32::MAX,
    ] {
        let head = mqtt(0, vec![Property::MessageExpiryInterval(seconds)]);
        let at = NOW.plus_ms(u64::from(seconds) * 1000);
        assert_eq!(published(&head).expiry, Some(at));
        let ms = (u64::from(seconds) * 1000).min(u64::from(u32::MAX));
        for (to, line) in [
            (MQTT, format!("message expiry interval {seconds}")),
            (Speech::Amqp, format!("expiration={ms}")),
            (STOMP, format!("expires:{}", at.0)),
        ] {
            let lines = cross(&head, to).head.lines();
            assert!(lines.contains(&line), "{line}: {lines:?}");
        }
    }
    // What is past when it is delivered is no time long, not a very long time.
    let mut message = published(&stomp(&[]));
    message.expiry = Some(Timestamp(1));
    for (to, line) in [
        (MQTT, "message expiry interval 0"),
        (Speech::Amqp, "expiration=0"),
    ] {
        let received = received(to, Peer::new(to).deliver(message.clone())).expect("delivered");
        assert!(received.head.lines().contains(&line.to_owned()));
    }
    // As far as it goes.
    let head = stomp(&[("expires", "18446744073709551615")]);
    let lines = cross(&head, MQTT).head.lines();
    assert!(
        lines.contains(&"message expiry interval 4294967295".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn mapping_5_2_an_expiration_is_digits_up_to_the_unsigned_maximum() {
    let publish = |text: &'static str| {
        let head = Head::Amqp(BasicProperties {
            expiration: Some(text.into()),
            ..Default::default()
        });
        Peer::new(Speech::Amqp).publish(&head, "amq.topic|t", BODY)
    };
    for (text, ms) in [
        ("0", 0),
        ("1", 1),
        ("0060", 60),
        // As RabbitMQ reads it.
        ("+1", 1),
        ("4294967295", u64::from(u32::MAX)),
    ] {
        let message = publish(text).expect("a number");
        assert_eq!(message.expiry, Some(NOW.plus_ms(ms)));
    }
    for text in [
        "4294967296",
        "",
        "soon",
        "-1",
        "+",
        "1.5",
        " 1",
        "1 ",
        "0x1",
    ] {
        assert!(publish(text).is_err(), "{text:?}");
    }
    for (name, text) in [
        ("expiration", "soon"),
        ("expires", "-1"),
        ("expires", "18446744073709551616"),
    ] {
        let refused = Peer::new(STOMP).publish(&stomp(&[(name, text)]), "/topic/t", BODY);
        assert!(refused.is_err(), "{name}:{text}");
    }
}

#[test]
fn mapping_2_3_properties_cross_under_their_own_names() {
    let head = Head::Amqp(BasicProperties {
        content_type: Some("image/png".into()),
        correlation_id: Some("c-1".into()),
        ..with_headers(&[("colour", Value::text("blue"))])
    });
    let lines = cross(&head, MQTT).head.lines();
    for line in [
        "content type image/png",
        "correlation data c-1",
        "colour: blue",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
    let head = mqtt(
        0,
        vec![Property::UserProperty("colour".into(), "blue".into())],
    );
    for (to, line) in [(Speech::Amqp, "colour='blue'"), (STOMP, "colour:blue")] {
        let lines = cross(&head, to).head.lines();
        assert!(lines.contains(&line.to_owned()), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("mqtt")), "{lines:?}");
    }
}

#[test]
fn mapping_2_5_a_dot_and_a_slash_are_two_and_no_topic_name_holds_a_wildcard() {
    let publish = |topic: &str| {
        let message = Peer::new(MQTT).publish(&MQTT.bare(), topic, BODY);
        message.expect("accepted").address
    };
    assert_ne!(publish("a/b.c"), publish("a/b/c"));
    for key in ["a.*.b", "a.#", "a.+"] {
        let message = Peer::new(Speech::Amqp)
            .publish(&Speech::Amqp.bare(), &format!("amq.topic|{key}"), BODY)
            .expect("accepted");
        let shown = received(MQTT, Peer::new(MQTT).deliver(message)).expect("delivered");
        assert!(
            !shown.name.contains(['+', '#']),
            "{} is {}",
            key,
            shown.name
        );
    }
}

#[test]
fn mapping_2_6_a_table_is_shown_in_a_form_that_can_be_read() {
    let table = Value::Map(vec![(Value::text("k"), Value::I64(1))]);
    let head = Head::Amqp(with_headers(&[("t", table)]));
    for to in [MQTT, STOMP] {
        let lines = cross(&head, to).head.lines();
        let json = lines.iter().find(|line| line.starts_with("t:"));
        let (_, json) = json
            .expect("shown")
            .split_once(':')
            .expect("name and value");
        let value = Value::from_json(json.as_bytes());
        assert_eq!(
            value,
            Some(Value::Map(vec![(Value::text("k"), Value::I64(1))]))
        );
    }
}

#[test]
fn mapping_2_9_a_group_is_a_group_and_no_application() {
    let head = stomp(&[("JMSXGroupID", "g"), ("app-id", "shop")]);
    let message = published(&head);
    assert_eq!(message.group.as_deref(), Some(&b"g"[..]));
    let lines = cross(&head, Speech::Amqp).head.lines();
    for line in ["x-group-id='g'", "app-id=shop"] {
        assert!(lines.contains(&line.to_owned()), "{lines:?}");
    }
    let message = published(&Head::Amqp(with_headers(&[(
        "x-group-id",
        Value::text("g"),
    )])));
    assert_eq!(message.group.as_deref(), Some(&b"g"[..]));
    assert_eq!(message.fields().app_id, None);
}

/// What a stranger makes a session take in before it gives up on it: how many bytes, and why it ended.
fn from_a_stranger(bytes: impl Iterator<Item = Vec<u8>>) -> (usize, Option<String>) {
    let mut session = stomp::StompSession::new(stomp::Config::default());
    let mut input = BytesMut::new();
    let mut taken = 0;
    for part in bytes {
        taken += part.len();
        input.extend_from_slice(&part);
        let mut out = Output::default();
        if let Err(close) = session.handle_bytes(&mut input, NOW, &mut out) {
            return (taken, Some(close.reason.into_owned()));
        }
    }
    (taken, None)
}

#[test]
fn mapping_5_4_a_stranger_cannot_make_a_session_take_in_much() {
    let start = || std::iter::once(b"CONNECT\n".to_vec());
    let kib = 1024;
    // 10 MB in one header, in 10,000 headers, and without a line end at all.
    let long = start()
        .chain(std::iter::once(b"a:".to_vec()))
        .chain(vec![vec![b'x'; kib]; 10_000]);
    let many = start().chain((0..10_000).map(|at| format!("h{at}:x\n").into_bytes()));
    let endless = std::iter::repeat_n(vec![b'x'; kib], 10_000);
    let body = std::iter::once(b"CONNECT\ncontent-length:1000000\n\n".to_vec());
    for (what, (taken, reason)) in [
        ("a long header", from_a_stranger(long)),
        ("many headers", from_a_stranger(many)),
        ("no frame", from_a_stranger(endless)),
        ("a body", from_a_stranger(body)),
    ] {
        assert!(reason.is_some(), "{what} is refused");
        assert!(taken <= 32 * kib, "{what}: {taken} bytes were taken");
    }
}

#[test]
fn mapping_5_4_a_body_ends_where_its_length_or_the_first_nul_says() {
    let send = |head: &str, body: &str| {
        let frame = format!("SEND\ndestination:/topic/t\n{head}\n{body}");
        let mut peer = Peer::new(STOMP);
        let (publish, _) = peer.publish_raw(frame.as_bytes());
        publish.message.body.clone()
    };
    assert_eq!(send("content-length:3\n", "a\0b\0"), "a\0b");
    assert_eq!(send("", "ab\0"), "ab");
    assert_eq!(send("", "ab\0\n\r\n\n"), "ab");
    assert_eq!(send("content-length:0\n", "\0\r\n"), "");
    let (_, reason) = from_a_stranger([b"\0".to_vec()].into_iter());
    assert!(reason.is_some(), "a NUL is no frame");
    for length in ["-1", "x", "", "99999999999999999999999", "4294967296"] {
        let head = Head::Stomp {
            version: StompVersion::V1_2,
            headers: vec![("content-length".to_owned(), length.to_owned())],
            with_length: false,
        };
        let refused = Peer::new(STOMP).publish(&head, "/topic/t", b"ab");
        assert!(refused.is_err(), "{length}");
    }
}
