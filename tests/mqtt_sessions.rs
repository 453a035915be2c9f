//! MQTT sessions, retained messages and wills, through ends of connections and of the server.

use ::mqtt::codec::{Ack, Packet, Property, Publish, ReasonCode, Version, Will};
use anyhow::{Context as _, ensure};
use bytes::Bytes;

use crate::{
    client::{Mqtt, Transport, connect, present},
    server::Server,
};

fn tcp(server: &Server) -> Transport {
    Transport::tcp(server.door("mqtt"))
}

fn keep(server: &Server, version: Version, id: &str, was_there: bool) -> anyhow::Result<Mqtt> {
    let (client, ack) = Mqtt::open(tcp(server), connect(version, id, false))?;
    ensure!(
        present(&ack) == was_there,
        "session present: {}",
        !was_there
    );
    Ok(client)
}

/// Publishes 1 to `count`, at QoS 1 and 2 in turn.
fn publish_numbers(server: &Server, topic: &str, count: u32) -> anyhow::Result<()> {
    let mut publisher = Mqtt::clean(tcp(server), Version::V5, "publisher")?;
    for number in 1..=count {
        let qos = 1 + (number % 2) as u8;
        let reason = publisher.publish(topic, number.to_string(), qos)?;
        ensure!(reason.0 == 0, "PUBLISH {number}: {reason:?}");
    }
    publisher.disconnect()
}

fn offline(version: Version) -> anyhow::Result<()> {
    let server = Server::start();
    let mut client = keep(&server, version, "sleeper", false)?;
    assert_eq!(client.subscribe("news/#", 2)?, 2);
    client.disconnect()?;
    publish_numbers(&server, "news/today", 20)?;

    let server = server.restart();
    // Seen once and not answered: all again later, under the same identifiers.
    let mut client = keep(&server, version, "sleeper", true)?;
    let mut first = Vec::new();
    for number in 1..=20u32 {
        let publish = client.delivery()?;
        assert_eq!(publish.payload, number.to_string(), "in order");
        assert_eq!(publish.qos, 1 + (number % 2) as u8);
        assert!(!publish.dup, "{number} is sent for the first time");
        let id = publish.packet_id.context("QoS 1 and 2 have identifiers")?;
        assert!(!first.contains(&id), "identifier {id} is in use");
        first.push(id);
    }
    // The connection breaks without a word.
    drop(client);
    let mut client = keep(&server, version, "sleeper", true)?;
    for (number, id) in (1..).zip(&first) {
        let publish = client.delivery()?;
        assert_eq!(publish.payload, number.to_string(), "in order again");
        assert_eq!(publish.packet_id, Some(*id), "the same identifier");
        assert!(publish.dup, "{number} is sent again");
    }
    drop(client);

    let server = server.restart();
    let mut client = keep(&server, version, "sleeper", true)?;
    for (number, id) in (1..).zip(&first) {
        let publish = client.next()?;
        assert_eq!(
            publish.payload,
            number.to_string(),
            "in order after a crash"
        );
        assert_eq!(publish.packet_id, Some(*id), "the same identifier");
    }
    // What is settled is gone, and the session goes on.
    publish_numbers(&server, "news/today", 1)?;
    let publish = client.next()?;
    assert_eq!(publish.payload, "1");
    assert!(!publish.dup);
    server.stop();
    Ok(())
}

#[test]
fn a_session_of_mqtt_3_1_1_is_kept_through_crashes() -> anyhow::Result<()> {
    offline(Version::V311)
}

#[test]
fn a_session_of_mqtt_5_is_kept_through_crashes() -> anyhow::Result<()> {
    offline(Version::V5)
}

/// The receiver's half of QoS 2: what was received is not sent again; only its release is.
#[test]
fn a_message_half_settled_goes_on_where_it_was() -> anyhow::Result<()> {
    let server = Server::start();
    let mut client = keep(&server, Version::V5, "half", false)?;
    client.subscribe("half", 2)?;
    let mut publisher = Mqtt::clean(tcp(&server), Version::V5, "publisher")?;
    publisher.publish("half", "once", 2)?;
    let publish = client.delivery()?;
    client.settle(&publish)?;
    let id = publish.packet_id.context("QoS 2 has identifiers")?;
    let Packet::PubRel(release) = client.unanswered()? else {
        panic!("PUBREC is answered with PUBREL");
    };
    assert_eq!(release.packet_id, id);

    let server = server.restart();
    let mut client = keep(&server, Version::V5, "half", true)?;
    let Packet::PubRel(release) = client.unanswered()? else {
        panic!("a message that was received is not sent again");
    };
    assert_eq!(release.packet_id, id);
    client.complete(id)?;
    client.ping()?;

    let server = server.restart();
    let mut client = keep(&server, Version::V5, "half", true)?;
    let mut publisher = Mqtt::clean(tcp(&server), Version::V5, "publisher")?;
    publisher.publish("half", "next", 2)?;
    assert_eq!(
        client.next()?.payload,
        "next",
        "nothing is left of the first"
    );
    server.stop();
    Ok(())
}

/// The sender's half: a PUBLISH of QoS 2 that is sent again after a crash is one message.
#[test]
fn rules_a3_a_repeated_qos_2_publish_is_one_message() -> anyhow::Result<()> {
    let server = Server::start();
    let mut watcher = keep(&server, Version::V5, "watcher", false)?;
    watcher.subscribe("exact", 1)?;
    let mut sender = keep(&server, Version::V311, "sender", false)?;
    let mut publish = Publish {
        dup: false,
        qos: 2,
        retain: false,
        topic: "exact".into(),
        packet_id: Some(7),
        properties: Default::default(),
        payload: Bytes::from_static(b"first"),
    };
    sender.send(&Packet::Publish(publish.clone()))?;
    assert!(matches!(sender.packet()?, Packet::PubRec(ack) if ack.packet_id == 7));

    let server = server.restart();
    let mut sender = keep(&server, Version::V311, "sender", true)?;
    publish.dup = true;
    sender.send(&Packet::Publish(publish))?;
    assert!(matches!(sender.packet()?, Packet::PubRec(ack) if ack.packet_id == 7));
    sender.send(&Packet::PubRel(Ack::new(7, ReasonCode::SUCCESS)))?;
    assert!(matches!(sender.packet()?, Packet::PubComp(ack) if ack.packet_id == 7));
    sender.publish("exact", "second", 2)?;

    let mut watcher = keep(&server, Version::V5, "watcher", true)?;
    assert_eq!(watcher.next()?.payload, "first");
    assert_eq!(watcher.next()?.payload, "second", "the first came once");
    server.stop();
    Ok(())
}

#[test]
fn rules_door_18_retained_messages_are_kept_through_a_crash() -> anyhow::Result<()> {
    let server = Server::start();
    let mut publisher = Mqtt::clean(tcp(&server), Version::V5, "publisher")?;
    let property = Property::UserProperty("unit".into(), "°C".into());
    for (topic, body, qos) in [
        ("room/1", "20", 1),
        ("room/2", "21", 2),
        ("room/3", "22", 1),
    ] {
        publisher.publish_with(topic, body, qos, true, vec![property.clone()])?;
    }
    publisher.publish_with("room/2", "21.5", 1, true, Vec::new())?;
    publisher.publish_with("room/3", "", 1, true, Vec::new())?;

    let server = server.restart();
    let mut client = Mqtt::clean(tcp(&server), Version::V5, "late")?;
    client.subscribe("room/+", 1)?;
    let mut got = [client.next()?, client.next()?];
    got.sort_by(|a, b| a.topic.as_str().cmp(b.topic.as_str()));
    let seen: Vec<_> = got
        .iter()
        .map(|publish| (publish.topic.as_str(), &publish.payload[..], publish.retain))
        .collect();
    assert_eq!(
        seen,
        [("room/1", &b"20"[..], true), ("room/2", b"21.5", true)]
    );
    assert_eq!(got[0].properties.0, [property]);
    // Nothing of room/3: the next is what is published now, and it is not marked.
    let mut publisher = Mqtt::clean(tcp(&server), Version::V5, "publisher")?;
    publisher.publish("room/4", "live", 1)?;
    let live = client.next()?;
    assert_eq!((live.topic.as_str(), live.retain), ("room/4", false));
    server.stop();
    Ok(())
}

#[test]
fn a_will_is_published_when_the_connection_breaks_and_only_then() -> anyhow::Result<()> {
    let server = Server::start();
    let mut watcher = Mqtt::clean(tcp(&server), Version::V311, "watcher")?;
    watcher.subscribe("gone/#", 1)?;
    for version in [Version::V311, Version::V5] {
        for (name, breaks) in [("polite", false), ("rude", true)] {
            let mut packet = connect(version, name, true);
            packet.will = Some(Will {
                properties: Default::default(),
                topic: format!("gone/{name}").try_into()?,
                payload: Bytes::from_static(b"farewell"),
                qos: 1,
                retain: false,
            });
            let (mut client, ack) = Mqtt::open(tcp(&server), packet)?;
            present(&ack);
            client.ping()?;
            if breaks {
                drop(client);
            } else {
                client.disconnect()?;
            }
        }
        let will = watcher.next()?;
        assert_eq!(will.topic.as_str(), "gone/rude", "{version:?}");
        assert_eq!(will.payload, "farewell");
    }
    // The polite ones' wills would have come before this.
    watcher.publish("gone/mark", "", 1)?;
    assert_eq!(watcher.next()?.topic.as_str(), "gone/mark");
    server.stop();
    Ok(())
}
