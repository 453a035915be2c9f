//! MQTT's normative statements that a session cannot show alone: what the whole server keeps, routes and delivers.
//!
//! Each test runs for MQTT 3.1.1 and 5.0 unless the statement is of one of them. What a session shows alone is in the dialogues
//! of `protocols/mqtt/tests/scripts/spec-*.txt`, what needs a clock in `crates/broker/tests/core/clients.rs`.

use ::mqtt::codec::{Ack, Options, Packet, Property, Publish, ReasonCode, Version};
use anyhow::{Context as _, ensure};

use crate::{
    client::{Mqtt, Transport, connect, present},
    server::Server,
};

const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn tcp(server: &Server) -> Transport {
    Transport::tcp(server.door("mqtt"))
}

fn clean(server: &Server, version: Version, id: &str) -> anyhow::Result<Mqtt> {
    Mqtt::clean(tcp(server), version, id)
}

/// A session that is kept.
fn kept(server: &Server, version: Version, id: &str, was_there: bool) -> anyhow::Result<Mqtt> {
    let (client, ack) = Mqtt::open(tcp(server), connect(version, id, false))?;
    ensure!(present(&ack) == was_there, "session present of {id}");
    Ok(client)
}

const fn at(qos: u8) -> Options {
    Options {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    }
}

/// Topic, body, QoS and RETAIN.
fn shown(publish: &Publish) -> (String, String, u8, bool) {
    (
        publish.topic.as_str().to_owned(),
        String::from_utf8_lossy(&publish.payload).into_owned(),
        publish.qos,
        publish.retain,
    )
}

fn sorted(mut list: Vec<(String, String, u8, bool)>) -> Vec<(String, String, u8, bool)> {
    list.sort();
    list
}

fn expect(topic: &str, body: &str, qos: u8, retain: bool) -> (String, String, u8, bool) {
    (topic.to_owned(), body.to_owned(), qos, retain)
}

/// What comes before a message that is published now and arrives last.
fn until_mark(client: &mut Mqtt, by: &mut Mqtt, topic: &str) -> anyhow::Result<Vec<Publish>> {
    by.publish(topic, "mark", 1)?;
    let mut got = Vec::new();
    loop {
        let publish = client.next()?;
        if publish.payload == "mark" {
            return Ok(got);
        }
        got.push(publish);
    }
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7], [MQTT-3.3.1-8], [MQTT-3.3.1-9], [MQTT-3.3.1-12]; [MQTT3-3.1.2-7],
/// [MQTT3-3.3.1-5], [MQTT3-3.3.1-6], [MQTT3-3.3.1-7], [MQTT3-3.3.1-8], [MQTT3-3.3.1-9], [MQTT3-3.3.1-10], [MQTT3-3.3.1-11],
/// [MQTT3-3.3.1-12].
#[test]
fn a_topic_retains_the_last_message_that_asked_for_it() -> anyhow::Result<()> {
    let server = Server::start();
    for version in BOTH {
        let root = version.name().replace([' ', '.'], "-");
        let topic = |name: &str| format!("{root}/{name}");
        let mut watcher = clean(&server, version, "watcher")?;
        watcher.subscribe(&topic("+"), 2)?;
        let mut publisher = clean(&server, version, "publisher")?;
        let mut retain = |name: &str, body: &'static str, qos| {
            publisher.publish_with(&topic(name), body, qos, true, Vec::new())
        };
        retain("1", "old", 1)?;
        retain("1", "new", 0)?;
        retain("2", "kept", 2)?;
        retain("3", "gone", 1)?;
        retain("3", "", 1)?;
        retain("4", "", 1)?;
        publisher.publish(&topic("2"), "only now", 1)?;
        // An established subscription gets all of it, unmarked.
        let live = until_mark(&mut watcher, &mut publisher, &topic("5"))?;
        assert_eq!(live.len(), 7, "{version:?}");
        assert!(live.iter().all(|publish| !publish.retain), "{version:?}");
        assert_eq!(live[4].payload.len(), 0, "the empty ones too");
        // The publisher's session ends; what is retained is nobody's.
        publisher.disconnect()?;
        let mut late = clean(&server, version, "late")?;
        late.subscribe(&topic("+"), 2)?;
        let got: Vec<_> = until_mark(&mut late, &mut watcher, &topic("5"))?
            .iter()
            .map(shown)
            .collect();
        assert_eq!(
            sorted(got),
            [
                expect(&topic("1"), "new", 0, true),
                expect(&topic("2"), "kept", 2, true)
            ],
            "{version:?}"
        );
    }
    server.stop();
    Ok(())
}

/// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.3.1-13].
#[test]
fn a_subscription_says_whether_it_wants_what_is_retained_and_how() -> anyhow::Result<()> {
    let server = Server::start();
    let mut publisher = clean(&server, Version::V5, "publisher")?;
    publisher.publish_with("t", "retained", 1, true, Vec::new())?;
    let mut client = clean(&server, Version::V5, "client")?;
    for (handling, again, wanted) in [
        (2, false, 0),
        (1, true, 0),
        (0, true, 1),
        (0, true, 1),
        (1, false, 1),
    ] {
        if !again {
            client.unsubscribe("t")?;
        }
        let options = Options {
            retain_handling: handling,
            ..at(1)
        };
        client.subscribe_with("t", options, Vec::new())?;
        let got = until_mark(&mut client, &mut publisher, "t")?;
        assert_eq!(got.len(), wanted, "handling {handling}, again: {again}");
        assert!(got.iter().all(|publish| publish.retain));
    }
    let options = Options {
        retain_as_published: true,
        retain_handling: 2,
        ..at(1)
    };
    client.subscribe_with("t", options, Vec::new())?;
    publisher.publish_with("t", "marked", 1, true, Vec::new())?;
    publisher.publish("t", "plain", 1)?;
    assert_eq!(shown(&client.next()?), expect("t", "marked", 1, true));
    assert_eq!(shown(&client.next()?), expect("t", "plain", 1, false));
    server.stop();
    Ok(())
}

/// [MQTT-3.8.4-3], [MQTT-3.8.4-4]; [MQTT3-3.8.4-3].
#[test]
fn a_filter_subscribed_to_again_is_one_subscription_and_loses_nothing() -> anyhow::Result<()> {
    let server = Server::start();
    for version in BOTH {
        let topic = format!("again/{version:?}");
        let mut publisher = clean(&server, version, "publisher")?;
        publisher.publish_with(&topic, "retained", 1, true, Vec::new())?;
        let mut client = clean(&server, version, "client")?;
        assert_eq!(client.subscribe(&topic, 0)?, 0);
        publisher.publish(&topic, "first", 1)?;
        assert_eq!(client.subscribe(&topic, 1)?, 1);
        publisher.publish(&topic, "second", 1)?;
        let got: Vec<_> = until_mark(&mut client, &mut publisher, &topic)?
            .iter()
            .map(shown)
            .collect();
        assert_eq!(
            sorted(got),
            sorted(vec![
                expect(&topic, "retained", 0, true),
                expect(&topic, "first", 0, false),
                expect(&topic, "retained", 1, true),
                expect(&topic, "second", 1, false),
            ]),
            "{version:?}"
        );
    }
    server.stop();
    Ok(())
}

/// [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4], [MQTT-3.8.4-8]; [MQTT3-3.3.5-1], [MQTT3-3.8.4-6].
#[test]
fn overlapping_subscriptions_give_one_copy_at_the_highest_qos() -> anyhow::Result<()> {
    let server = Server::start();
    for version in BOTH {
        let mut publisher = clean(&server, version, "publisher")?;
        let mut client = clean(&server, version, "client")?;
        for (filter, qos, identifier) in [("o/#", 0, 7), ("o/+", 1, 300), ("o/a", 0, 0)] {
            let identifier = (version == Version::V5 && identifier != 0)
                .then_some(Property::SubscriptionIdentifier(identifier));
            client.subscribe_with(filter, at(qos), identifier.into_iter().collect())?;
        }
        for qos in 0..=2 {
            publisher.publish("o/a", qos.to_string(), qos)?;
        }
        let got = until_mark(&mut client, &mut publisher, "o/b")?;
        let qos: Vec<u8> = got.iter().map(|publish| publish.qos).collect();
        assert_eq!(qos, [0, 1, 1], "{version:?}: the lower of both");
        if version == Version::V5 {
            for publish in &got {
                let mut identifiers: Vec<u32> = publish
                    .properties
                    .0
                    .iter()
                    .filter_map(|property| match property {
                        Property::SubscriptionIdentifier(identifier) => Some(*identifier),
                        _ => None,
                    })
                    .collect();
                identifiers.sort_unstable();
                assert_eq!(identifiers, [7, 300]);
            }
        }
    }
    server.stop();
    Ok(())
}

/// [MQTT-3.10.4-1], [MQTT-3.10.4-2], [MQTT-3.10.4-3]; [MQTT3-3.10.4-1], [MQTT3-3.10.4-2], [MQTT3-3.10.4-3].
#[test]
fn unsubscribing_takes_the_very_filter_and_completes_what_began() -> anyhow::Result<()> {
    let server = Server::start();
    for version in BOTH {
        let mut publisher = clean(&server, version, "publisher")?;
        let mut client = clean(&server, version, "client")?;
        client.subscribe("u/+", 2)?;
        client.subscribe("mark", 1)?;
        // Filters that match as much, or less, are others.
        for filter in ["u/a", "u/#", "U/+"] {
            let code = client.unsubscribe(filter)?;
            let other = ReasonCode::NO_SUBSCRIPTION_EXISTED.0;
            assert_eq!(code, (version == Version::V5).then_some(other));
        }
        publisher.publish("u/a", "begun", 2)?;
        let begun = client.delivery()?;
        assert_eq!(shown(&begun), expect("u/a", "begun", 2, false));
        let code = client.unsubscribe("u/+")?;
        assert_eq!(code, (version == Version::V5).then_some(0));
        publisher.publish("u/a", "too late", 2)?;
        // The handshake goes on to its end.
        client.settle(&begun)?;
        match client.unanswered()? {
            Packet::PubRel(release) => assert_eq!(Some(release.packet_id), begun.packet_id),
            other => panic!("{version:?}: {} in place of PUBREL", other.name()),
        }
        client.complete(begun.packet_id.context("QoS 2 has an identifier")?)?;
        let got = until_mark(&mut client, &mut publisher, "mark")?;
        assert!(got.is_empty(), "{version:?}: {got:?}");
    }
    server.stop();
    Ok(())
}

/// [MQTT-3.3.2-3], [MQTT-4.7.2-1]; [MQTT3-3.3.2-3], [MQTT3-4.7.2-1].
#[test]
fn a_message_goes_where_its_topic_matches() -> anyhow::Result<()> {
    let server = Server::start();
    for version in BOTH {
        let mut publisher = clean(&server, version, "publisher")?;
        let cases: [(&str, &[&str], &[&str]); 5] = [
            ("m/+/c", &["m/b/c", "m//c"], &["m/c", "m/b/c/d", "M/b/c"]),
            ("m/#", &["m", "m/", "m/b/c"], &["mm", "/m"]),
            ("+", &["m"], &["/m", "m/", "$mine"]),
            ("#", &["m", "/"], &["$mine", "$mine/x"]),
            ("$mine/+", &["$mine/x"], &["$mine", "$yours/x"]),
        ];
        for (filter, matching, others) in cases {
            let mut client = clean(&server, version, "client")?;
            client.subscribe(filter, 1)?;
            for topic in matching.iter().chain(others) {
                publisher.publish(topic, "x", 1)?;
            }
            let got: Vec<_> = until_mark(&mut client, &mut publisher, matching[0])?
                .iter()
                .map(|publish| publish.topic.as_str().to_owned())
                .collect();
            assert_eq!(got, *matching, "{version:?}: {filter}");
        }
    }
    server.stop();
    Ok(())
}

/// [MQTT-4.1.0-1], [MQTT-4.5.0-1], [MQTT-4.6.0-1], [MQTT-4.6.0-5], [MQTT-4.6.0-6]; [MQTT3-3.1.2-5], [MQTT3-4.1.0-1],
/// [MQTT3-4.1.0-2], [MQTT3-4.5.0-1], [MQTT3-4.6.0-1], [MQTT3-4.6.0-5], [MQTT3-4.6.0-6].
#[test]
fn a_session_gets_what_it_subscribed_to_in_order_present_or_not() -> anyhow::Result<()> {
    let server = Server::start();
    for version in BOTH {
        let mut publisher = clean(&server, version, "publisher")?;
        let mut present = clean(&server, version, "present")?;
        present.subscribe("news/+", 2)?;
        let mut absent = kept(&server, version, "absent", false)?;
        absent.subscribe("news/#", 1)?;
        absent.disconnect()?;
        for number in 0..20u32 {
            publisher.publish("news/a", number.to_string(), 1 + (number % 2) as u8)?;
        }
        // Twice by the absent one: not acknowledged the first time.
        for dup in [false, true] {
            let mut absent = kept(&server, version, "absent", true)?;
            for number in 0..20u32 {
                let publish = absent.delivery()?;
                assert_eq!(publish.payload, number.to_string(), "{version:?}");
                assert_eq!((publish.qos, publish.dup), (1, dup));
                if dup {
                    absent.settle(&publish)?;
                }
            }
            absent.ping()?;
        }
        // The session of the present one has no life of its own, and lasts while it is there.
        for number in 0..20u32 {
            let publish = present.next()?;
            assert_eq!(publish.payload, number.to_string(), "{version:?}");
            assert!(!publish.dup);
        }
        kept(&server, version, "absent", true)?.disconnect()?;
        clean(&server, version, "absent")?.disconnect()?;
    }
    server.stop();
    Ok(())
}

/// [MQTT-3.3.4-9], [MQTT-3.3.4-10], [MQTT-4.9.0-2], [MQTT-4.9.0-3].
#[test]
fn a_full_window_holds_up_publishes_and_nothing_else() -> anyhow::Result<()> {
    let server = Server::start();
    let mut publisher = clean(&server, Version::V5, "publisher")?;
    let mut narrow = connect(Version::V5, "narrow", true);
    narrow.properties.0.push(Property::ReceiveMaximum(2));
    let (mut client, ack) = Mqtt::open(tcp(&server), narrow)?;
    assert!(!present(&ack));
    client.subscribe("w", 2)?;
    for number in 0..4 {
        publisher.publish("w", number.to_string(), 2)?;
    }
    let first = client.delivery()?;
    let second = client.delivery()?;
    assert_eq!(
        (&first.payload[..], &second.payload[..]),
        (&b"0"[..], &b"1"[..])
    );
    // All else goes on: QoS 0, answers to requests, acknowledgements of the client's own messages.
    client.subscribe("other", 1)?;
    assert_eq!(client.publish("elsewhere", "x", 2)?.0, 0x10);
    client.unsubscribe("other")?;
    publisher.publish("w", "at once", 0)?;
    assert_eq!(client.delivery()?.payload, "at once");
    client.ping()?;
    // PUBREC does not end it, PUBCOMP does.
    client.settle(&first)?;
    assert!(matches!(client.unanswered()?, Packet::PubRel(_)));
    client.ping()?;
    client.complete(first.packet_id.context("QoS 2 has an identifier")?)?;
    assert_eq!(client.delivery()?.payload, "2");
    // So does a refusal.
    client.send(&Packet::PubRec(Ack::new(
        second.packet_id.context("QoS 2 has an identifier")?,
        ReasonCode::QUOTA_EXCEEDED,
    )))?;
    assert_eq!(client.delivery()?.payload, "3");
    server.stop();
    Ok(())
}

/// [MQTT-4.8.2-3].
#[test]
fn a_shared_subscription_respects_the_granted_qos() -> anyhow::Result<()> {
    let server = Server::start();
    let mut publisher = clean(&server, Version::V5, "publisher")?;
    for granted in 0..=2 {
        let mut client = clean(&server, Version::V5, "client")?;
        assert_eq!(client.subscribe("$share/g/s", granted)?, granted);
        for qos in 0..=2 {
            publisher.publish("s", qos.to_string(), qos)?;
            assert_eq!(
                shown(&client.next()?),
                expect("s", &qos.to_string(), qos.min(granted), false)
            );
        }
    }
    server.stop();
    Ok(())
}

/// [MQTT-4.8.2-4], [MQTT-4.8.2-5].
#[test]
fn a_shared_delivery_of_qos_2_stays_with_its_client() -> anyhow::Result<()> {
    let server = Server::start();
    let mut publisher = clean(&server, Version::V5, "publisher")?;
    for comes_back in [true, false] {
        let mut first = kept(&server, Version::V5, "first", false)?;
        first.subscribe("$share/g/s", 2)?;
        publisher.publish("s", "begun", 2)?;
        let begun = first.delivery()?;
        assert_eq!(begun.payload, "begun");
        let mut second = clean(&server, Version::V5, "second")?;
        second.subscribe("$share/g/s", 2)?;
        first.disconnect()?;
        if comes_back {
            let mut first = kept(&server, Version::V5, "first", true)?;
            let again = first.delivery()?;
            assert_eq!((again.packet_id, again.dup), (begun.packet_id, true));
            assert_eq!(again.payload, "begun");
            first.settle(&again)?;
            assert!(matches!(first.unanswered()?, Packet::PubRel(_)));
            first.complete(again.packet_id.context("QoS 2 has an identifier")?)?;
            first.ping()?;
            first.disconnect()?;
        }
        // The session of the first ends.
        clean(&server, Version::V5, "first")?.disconnect()?;
        let got = until_mark(&mut second, &mut publisher, "s")?;
        assert!(got.is_empty(), "{got:?}");
        second.disconnect()?;
    }
    server.stop();
    Ok(())
}
