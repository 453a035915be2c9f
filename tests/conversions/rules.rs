//! One test for each rule of conversion: what must cross, what must not, and what is refused.

use std::sync::Arc;

use amqp091::codec::{BasicProperties, Short};
use bytes::Bytes;
use message::{Address, BodyKind, Message, Value, VhostId};
use mqtt::codec::{Property, Version as MqttVersion};
use session::{Death, DeathReason};
use stomp::Version as StompVersion;

use crate::{
    head::{Head, SPEECHES, Speech, received, with_headers},
    page::{cross, place},
    peer::{BODY, NOW, Peer, topic},
};

const MQTT: Speech = Speech::Mqtt(MqttVersion::V5);
const STOMP: Speech = Speech::Stomp(StompVersion::V1_2);

fn user(name: &str, value: &str) -> Property {
    let text = |text: &str| text.to_owned().try_into().expect("no U+0000");
    Property::UserProperty(text(name), text(value))
}

fn mqtt(properties: Vec<Property>) -> Head {
    Head::Mqtt {
        version: MqttVersion::V5,
        qos: 1,
        retain: false,
        properties,
    }
}

fn stomp(headers: &[(&str, &str)]) -> Head {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Head::Stomp {
        version: StompVersion::V1_2,
        headers: headers.collect(),
        with_length: true,
    }
}

fn published(head: &Head) -> Message {
    let speech = head.speech();
    let published = Peer::new(speech).publish(head, place(speech), BODY);
    published.unwrap_or_else(|words| panic!("{head:?} is accepted: {words}"))
}

fn refused(head: &Head) -> bool {
    let speech = head.speech();
    Peer::new(speech)
        .publish(head, place(speech), BODY)
        .is_err()
}

/// What a client of `to` sees of a message.
fn lines(to: Speech, message: &Message) -> Vec<String> {
    let wire = Peer::new(to).deliver(message.clone());
    received(to, wire).expect("delivered").head.lines()
}

#[track_caller]
fn sees(to: Speech, message: &Message, line: &str) {
    let lines = lines(to, message);
    assert!(
        lines.iter().any(|found| found == line),
        "{} sees no {line:?}: {lines:?}",
        to.name()
    );
}

/// A reply-to in one protocol, and what a replier in each sees.
#[test]
fn doors_9_a_reply_to_is_named_in_each_protocols_words_and_means_the_same_place() {
    let answers = |text: &'static str| {
        Head::Amqp(BasicProperties {
            reply_to: Some(text.into()),
            ..Default::default()
        })
    };
    let response = |topic: &'static str| mqtt(vec![Property::ResponseTopic(topic.into())]);
    let root = VhostId::ROOT;
    for (asked, address, in_mqtt, in_amqp, in_stomp) in [
        (
            [
                answers("a/b.c"),
                response("$queue/a/b.c"),
                stomp(&[("reply-to", "/queue/a/b.c")]),
            ],
            Address::queue(root, "a/b.c"),
            "$queue/a/b.c",
            "a/b.c",
            "/reply-queue/a%2Fb.c",
        ),
        (
            [
                answers("$topic/a.b%2Ec"),
                response("a/b.c"),
                stomp(&[("reply-to", "/topic/a.b%2Ec")]),
            ],
            topic(&["a", "b.c"]),
            "a/b.c",
            "$topic/a.b%2Ec",
            "/topic/a.b%2Ec",
        ),
    ] {
        for head in asked {
            let message = published(&head);
            assert_eq!(message.fields().reply_to, Some(address.clone()), "{head:?}");
            sees(MQTT, &message, &format!("response topic {in_mqtt}"));
            sees(Speech::Amqp, &message, &format!("reply-to={in_amqp}"));
            if head.speech() != STOMP {
                sees(STOMP, &message, &format!("reply-to:{in_stomp}"));
            }
        }
        // What a replier does with it reaches that place.
        for (speech, place) in [
            (MQTT, in_mqtt.to_owned()),
            (Speech::Amqp, format!("|{in_amqp}")),
            (STOMP, in_stomp.to_owned()),
        ] {
            let reply = Peer::new(speech).publish(&speech.bare(), &place, BODY);
            assert_eq!(
                reply.expect("accepted").address.as_ref(),
                &address,
                "{place}"
            );
        }
    }
    // A topic that is longer in AMQP than a short string goes in a header, and comes back.
    let dots = format!("r/{}", ".".repeat(100));
    let message = published(&mqtt(vec![Property::ResponseTopic(
        dots.try_into().expect("text"),
    )]));
    let header = format!("x-reply-to='$topic/r.{}'", "%2E".repeat(100));
    sees(Speech::Amqp, &message, &header);
    let back = published(&cross(&mqtt(vec![]), Speech::Amqp).head);
    assert_eq!(back.fields().reply_to, None);
    let wire = Peer::new(Speech::Amqp).deliver(message.clone());
    let back = published(
        &received(Speech::Amqp, wire)
            .expect("delivered")
            .head
            .again(),
    );
    assert_eq!(back.fields().reply_to, message.fields().reply_to);
}

/// Whatever the id of a request, the answer of a replier that copies it carries it back.
#[test]
fn doors_26_a_correlation_id_returns_through_a_replier_of_any_protocol() {
    for id in [
        &b"c-1"[..],
        b"\xff\x00\x01",
        b"base64:/wA=",
        b"base64:",
        "größe".as_bytes(),
    ] {
        let asked = mqtt(vec![Property::CorrelationData(Bytes::copy_from_slice(id))]);
        for replier in [MQTT, Speech::Amqp, STOMP] {
            let answer = match cross(&asked, replier).head {
                Head::Amqp(properties) => Head::Amqp(BasicProperties {
                    correlation_id: properties.correlation_id,
                    ..Default::default()
                }),
                Head::Stomp { headers, .. } => {
                    let headers = headers
                        .into_iter()
                        .filter(|(name, _)| name == "correlation-id");
                    Head::Stomp {
                        version: StompVersion::V1_2,
                        headers: headers.collect(),
                        with_length: true,
                    }
                }
                Head::Mqtt { properties, .. } => mqtt(properties),
            };
            let Head::Mqtt { properties, .. } = cross(&answer, MQTT).head else {
                unreachable!("it is MQTT");
            };
            let data = Property::CorrelationData(Bytes::copy_from_slice(id));
            assert!(
                properties.contains(&data),
                "{id:?} by {replier:?}: {properties:?}"
            );
        }
    }
}

#[test]
fn doors_26_ids_that_are_no_short_text_are_whole_in_a_header() {
    let id = Bytes::from_static(b"\xff\x01");
    let message = published(&mqtt(vec![Property::CorrelationData(id)]));
    sees(Speech::Amqp, &message, "x-correlation-id=x 0xff01");
    sees(Speech::Amqp, &message, "correlation-id=base64:/wE=");
    let long = "i".repeat(256);
    let message = published(&stomp(&[
        ("amqp-message-id", &long),
        ("correlation-id", &long),
    ]));
    let seen = lines(Speech::Amqp, &message);
    assert!(seen.contains(&format!("x-message-id='{long}'")));
    assert!(seen.contains(&format!("x-correlation-id='{long}'")));
    assert!(
        !seen
            .iter()
            .any(|line| line.starts_with("message-id") || line.starts_with("correlation-id"))
    );
    sees(MQTT, &message, &format!("x-message-id: {long}"));
}

#[test]
fn doors_26_a_user_id_is_only_ever_that_of_the_publisher() {
    let amqp = |user: &'static str| {
        Head::Amqp(BasicProperties {
            user_id: Some(user.into()),
            ..Default::default()
        })
    };
    for (mine, other) in [
        (amqp("guest"), amqp("root")),
        (
            stomp(&[("user-id", "guest")]),
            stomp(&[("user-id", "root")]),
        ),
        (
            mqtt(vec![user("x-user-id", "guest")]),
            mqtt(vec![user("x-user-id", "root")]),
        ),
    ] {
        let message = published(&mine);
        assert!(refused(&other), "{other:?}");
        sees(MQTT, &message, "x-user-id: guest");
        sees(Speech::Amqp, &message, "user-id=guest");
        sees(STOMP, &message, "user-id:guest");
    }
    for speech in SPEECHES {
        let message = published(&speech.bare());
        assert_eq!(message.fields().user_id, None, "it is not made up");
    }
}

#[test]
fn doors_10_who_makes_a_queue_by_publishing() {
    for (speech, to, create) in [
        (STOMP, "/queue/q", true),
        (STOMP, "/amq/queue/q", false),
        (STOMP, "/reply-queue/q", false),
        (MQTT, "$queue/q", false),
        (Speech::Mqtt(MqttVersion::V311), "$queue/q", false),
        (Speech::Amqp, "|q", false),
    ] {
        let bytes = speech.bare().publish(to, BODY);
        let (publish, _) = Peer::new(speech).publish_raw(&bytes);
        assert_eq!(publish.create, create, "{to}");
        assert_eq!(*publish.message.address, Address::queue(VhostId::ROOT, "q"));
    }
}

#[test]
fn doors_17_a_message_that_nobody_wants_is_no_error_and_mqtt_5_says_so() {
    let old = Speech::Mqtt(MqttVersion::V311);
    let at_qos_1 = |version| Head::Mqtt {
        version,
        qos: 1,
        retain: false,
        properties: Vec::new(),
    };
    for (speech, head, answer) in [
        (
            MQTT,
            at_qos_1(MqttVersion::V5),
            &b"\x40\x03\x00\x01\x10"[..],
        ),
        (old, at_qos_1(MqttVersion::V311), b"\x40\x02\x00\x01"),
        (
            STOMP,
            stomp(&[("receipt", "r")]),
            b"RECEIPT\nreceipt-id:r\n\n\0",
        ),
    ] {
        let mut peer = Peer::new(speech);
        peer.matched = 0;
        let (_, found) = peer.publish_raw(&head.publish(place(speech), BODY));
        let trimmed = found.trim_ascii_end();
        assert_eq!(trimmed, answer, "{}", speech.name());
    }
}

#[test]
fn doors_16_the_durable_flag_travels_unchanged() {
    for (head, durable) in [
        (mqtt(vec![]), true),
        (MQTT.bare(), false),
        (stomp(&[("persistent", "true")]), true),
        (stomp(&[("persistent", "false")]), false),
    ] {
        let message = published(&head);
        assert_eq!(message.durable, durable);
        let mode = if durable { 2 } else { 1 };
        sees(Speech::Amqp, &message, &format!("delivery-mode={mode}"));
        let shown = lines(STOMP, &message).contains(&"persistent:true".to_owned());
        assert_eq!(shown, durable);
    }
}

#[test]
fn doors_18_retain_is_a_property_elsewhere_and_means_nothing_for_a_queue() {
    let retained = Head::Mqtt {
        version: MqttVersion::V5,
        qos: 0,
        retain: true,
        properties: Vec::new(),
    };
    let amqp = Head::Amqp(with_headers(&[("x-mqtt-retain", Value::Bool(true))]));
    let headers = stomp(&[("x-mqtt-retain", "true")]);
    for head in [&retained, &amqp, &headers] {
        let message = published(head);
        assert!(message.retain);
        sees(MQTT, &message, "RETAIN");
        sees(Speech::Amqp, &message, "x-mqtt-retain=true");
        sees(STOMP, &message, "x-mqtt-retain:true");
    }
    for (head, queue) in [
        (&retained, "$queue/q"),
        (&amqp, "|q"),
        (&headers, "/queue/q"),
    ] {
        let message = Peer::new(head.speech()).publish(head, queue, BODY);
        assert!(!message.expect("accepted").retain, "{queue}");
    }
}

#[test]
fn doors_23_a_repeated_name_is_a_list() {
    let text = |text: &'static str| Value::text(text);
    let repeated = [
        mqtt(vec![user("tag", "a"), user("tag", "b")]),
        stomp(&[("tag", "a"), ("tag", "b")]),
    ];
    for head in repeated {
        let message = published(&head);
        sees(Speech::Amqp, &message, "tag=['a', 'b']");
        for (to, line) in [(MQTT, "tag: "), (STOMP, "tag:")] {
            let seen = lines(to, &message);
            let tags = seen.iter().filter_map(|found| found.strip_prefix(line));
            assert_eq!(tags.collect::<Vec<_>>(), ["a", "b"], "{}", to.name());
        }
    }
    let list = Value::List(vec![text("a"), text("b")]);
    let message = published(&Head::Amqp(with_headers(&[("tag", list)])));
    let seen = lines(MQTT, &message);
    assert!(seen.contains(&"tag: a".to_owned()) && seen.contains(&"tag: b".to_owned()));
    // Of repeated lines STOMP's clients see the first only, so a list that was one value stays one.
    sees(STOMP, &message, r#"tag:["a","b"]"#);
    sees(STOMP, &message, r#"x-bascule-json:["tag"]"#);
}

#[test]
fn doors_24_what_belongs_to_one_hop_is_not_passed_on() {
    let head = stomp(&[("receipt", "r"), ("persistent", "true")]);
    let message = published(&head);
    let amqp = Head::Amqp(with_headers(&[(
        "BCC",
        Value::List(vec![Value::text("hidden")]),
    )]));
    let hidden = published(&amqp);
    for to in SPEECHES {
        let seen = [lines(to, &message), lines(to, &hidden)].concat();
        for word in ["receipt", "BCC", "hidden", "transaction", "destination"] {
            assert!(
                !seen.iter().any(|line| line.contains(word)),
                "{}: {seen:?}",
                to.name()
            );
        }
    }
}

/// The head as it came is sent on, and what the core adds is written around it.
#[test]
fn doors_24_what_is_patched_is_written_around_the_head_as_it_came() {
    let properties = BasicProperties {
        expiration: Some("060".into()),
        cluster_id: Some("c".into()),
        ..with_headers(&[("n", Value::I16(5))])
    };
    let message = published(&Head::Amqp(properties));
    let wire = Peer::new(Speech::Amqp).deliver_as(message, |delivery| {
        delivery.count = 3;
        delivery.redelivered = true;
        delivery.deaths = Some(Arc::new(vec![Death {
            queue: "old".into(),
            reason: DeathReason::Expired,
            count: 1,
            time: NOW,
            exchange: Bytes::new(),
            key: message::Levels::none(),
            original_ttl_ms: Some(60),
        }]));
    });
    let seen = received(Speech::Amqp, wire)
        .expect("delivered")
        .head
        .lines();
    for line in [
        "cluster-id=c",
        "n=s 5",
        "x-delivery-count=l 2",
        "x-first-death-reason='expired'",
    ] {
        assert!(seen.contains(&line.to_owned()), "{line}: {seen:?}");
    }
    assert!(
        !seen.iter().any(|line| line.starts_with("expiration")),
        "it does not expire again"
    );
}

#[test]
fn doors_25_a_foreign_property_of_a_name_of_ours_is_told_apart_and_comes_back() {
    for name in [
        "ack",
        "subscription",
        "message-id",
        "destination",
        "content-length",
        "receipt",
    ] {
        let head = mqtt(vec![user(name, "theirs")]);
        let message = published(&head);
        sees(STOMP, &message, &format!("x-property-{name}:theirs"));
        let back = cross(&cross(&head, STOMP).head.again(), MQTT).head.lines();
        assert!(back.contains(&format!("{name}: theirs")), "{back:?}");
    }
    // So it is in MQTT and AMQP.
    let head = Head::Amqp(with_headers(&[("x-type", Value::text("theirs"))]));
    assert_eq!(
        published(&head).fields().subject.as_deref(),
        Some(&b"theirs"[..])
    );
    let head = Head::Amqp(with_headers(&[("group-id", Value::text("theirs"))]));
    sees(MQTT, &published(&head), "x-property-group-id: theirs");
    let back = cross(&cross(&head, MQTT).head.again(), Speech::Amqp)
        .head
        .lines();
    assert!(back.contains(&"group-id='theirs'".to_owned()), "{back:?}");
    let head = mqtt(vec![user("CC", "theirs"), user("x-property-CC", "deeper")]);
    sees(Speech::Amqp, &published(&head), "x-property-CC='theirs'");
    sees(
        Speech::Amqp,
        &published(&head),
        "x-property-x-property-CC='deeper'",
    );
}

/// Text stays text and bytes stay bytes, in each protocol's words; nobody guesses.
#[test]
fn the_kind_of_a_body_crosses() {
    let amqp = |kind: &'static str, encoding: Option<Short>| {
        Head::Amqp(BasicProperties {
            content_type: Some(kind.into()),
            content_encoding: encoding,
            ..Default::default()
        })
    };
    let plain = Head::Stomp {
        version: StompVersion::V1_2,
        headers: Vec::new(),
        with_length: false,
    };
    for (head, kind) in [
        (
            mqtt(vec![Property::PayloadFormatIndicator(1)]),
            BodyKind::Text,
        ),
        (
            mqtt(vec![Property::PayloadFormatIndicator(0)]),
            BodyKind::Bytes,
        ),
        (mqtt(vec![]), BodyKind::Bytes),
        (amqp("text/plain", None), BodyKind::Text),
        (
            amqp("application/json", Some("utf-8".into())),
            BodyKind::Text,
        ),
        (amqp("text/plain", Some("gzip".into())), BodyKind::Bytes),
        (amqp("text/plain; charset=latin1", None), BodyKind::Bytes),
        (amqp("application/octet-stream", None), BodyKind::Bytes),
        (Speech::Amqp.bare(), BodyKind::Bytes),
        (plain, BodyKind::Text),
        (stomp(&[]), BodyKind::Bytes),
        (stomp(&[("amq-msg-type", "text")]), BodyKind::Text),
        (stomp(&[("content-type", "text/plain")]), BodyKind::Text),
        (
            stomp(&[("content-type", "image/png"), ("amq-msg-type", "text")]),
            BodyKind::Bytes,
        ),
    ] {
        let message = published(&head);
        assert_eq!(message.body_kind, kind, "{head:?}");
        let indicated = lines(MQTT, &message).contains(&"payload format indicator 1".to_owned());
        assert_eq!(indicated, kind == BodyKind::Text, "{head:?}");
        if head.speech() != STOMP {
            let back = published(&cross(&head, STOMP).head.again());
            assert_eq!(back.body_kind, kind, "{head:?} by STOMP");
        }
    }
    // What is no UTF-8 is no text, whatever is said of it.
    for head in [
        amqp("text/plain", None),
        stomp(&[("content-type", "text/plain")]),
    ] {
        let speech = head.speech();
        let message = Peer::new(speech).publish(&head, place(speech), b"\xff");
        assert_eq!(message.expect("accepted").body_kind, BodyKind::Bytes);
    }
    let head = mqtt(vec![Property::PayloadFormatIndicator(1)]);
    assert!(Peer::new(MQTT).publish(&head, "t", b"\xff").is_err());
}

/// The dialect of RabbitMQ: what its own conversion makes of topics, and a count of what does not come back.
#[test]
fn doors_2_the_rabbitmq_dialect_swaps_characters_and_counts_what_does_not_come_back() {
    let config = mqtt::Config {
        dialect: mqtt::Dialect::RabbitMq,
        ..mqtt::Config::default()
    };
    let counters = Arc::clone(&config.counters);
    let publish = |name: &str| {
        let message = Peer::mqtt(MQTT, config.clone()).publish(&MQTT.bare(), name, BODY);
        (*message.expect("accepted").address).clone()
    };
    let show = |address: &Address| {
        let message = Message::new(address.clone(), BODY.into());
        let wire = Peer::mqtt(MQTT, config.clone()).deliver(message);
        received(MQTT, wire).map(|received| received.name)
    };
    for (name, levels) in [
        ("a/b", &["a", "b"][..]),
        ("a//b", &["a", "", "b"]),
        ("/a", &["", "a"]),
        ("%2F", &["%2F"]),
        ("a/*/b", &["a", "*", "b"]),
    ] {
        assert_eq!(publish(name), topic(levels));
        assert_eq!(show(&topic(levels)).as_deref(), Some(name));
    }
    assert_eq!(counters.names_ambiguous(), 0);
    assert_eq!(publish("a/b.c"), publish("a/b/c"));
    assert_eq!(counters.names_ambiguous(), 1);
    for (levels, name) in [
        (&["a", "b.c"][..], "a/b/c"),
        (&["a", "b/c"], "a/b/c"),
        (&["a", "+"], "a/%2B"),
    ] {
        assert_eq!(show(&topic(levels)).as_deref(), Some(name));
    }
    assert_eq!(counters.names_ambiguous(), 4);
    // Queues have opaque names in every dialect, and what is reserved is so however it is spelled.
    assert_eq!(
        publish("$queue/a.b/c"),
        Address::queue(VhostId::ROOT, "a.b/c")
    );
    for reserved in ["$SYS/x", "$SYS.x", "$share.g"] {
        let refused = Peer::mqtt(MQTT, config.clone()).publish(&MQTT.bare(), reserved, BODY);
        assert!(refused.is_err(), "{reserved}");
    }
    let names = config.names();
    for (text, same) in [("a.+", "a/+"), ("a.b", "a/b"), ("a.#", "a/#")] {
        let filter = |text: &str| {
            names
                .filter(&Bytes::from(text.to_owned()))
                .expect("a filter")
        };
        assert_eq!(filter(text), filter(same));
    }
}

/// What cannot be written is counted.
#[test]
fn doors_3_and_25_what_cannot_be_written_is_counted() {
    let config = mqtt::Config::default();
    let counters = Arc::clone(&config.counters);
    let mut peer = Peer::mqtt(MQTT, config);
    let mut message = Message::new(topic(&["t"]), BODY.into());
    message.properties.push("nul", Value::text("\0"));
    message.properties.push("a\0b", Value::text("x"));
    message.properties.push("kept", Value::text("x"));
    message.fields_mut().content_type = Some(Bytes::from(vec![b'x'; 65_536]));
    message.fields_mut().reply_to = Some(Address::exchange(
        VhostId::ROOT,
        "x",
        message::Levels::none(),
    ));
    let wire = peer.deliver(message.clone());
    let seen = received(MQTT, wire).expect("delivered").head.lines();
    assert_eq!(seen, ["QoS 0", "kept: x"]);
    assert_eq!(counters.properties_omitted(), 4);
    message.address = topic(&["a\0"]).into();
    peer.settled.clear();
    assert!(peer.deliver(message.clone()).is_empty());
    assert_eq!(counters.deliveries_unnameable(), 1);
    assert_eq!(peer.settled.len(), 1, "and it is settled");

    let config = stomp::Config::default();
    let counters = Arc::clone(&config.counters);
    let mut peer = Peer::stomp(STOMP, config);
    assert!(peer.deliver(message.clone()).is_empty());
    assert_eq!(counters.deliveries_unnameable(), 1);
    message.address = topic(&["t"]).into();
    peer.deliver(message);
    assert_eq!(counters.headers_omitted(), 2);
}
