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

/// [MQTT3-3.1.2-4], [MQTT3-3.1.2-5], [MQTT3-4.4.0-1].
#[test]
fn a_session_of_mqtt_3_1_1_is_kept_through_crashes() -> anyhow::Result<()> {
    offline(Version::V311)
}

/// [MQTT-3.1.2-5], [MQTT-3.1.2-23], [MQTT-4.4.0-1].
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
fn doors_18_retained_messages_are_kept_through_a_crash() -> anyhow::Result<()> {
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

/// [MQTT-3.1.2-8], [MQTT3-3.1.2-8], [MQTT3-3.1.2-10].
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

/// Exactly once from a publisher that repeats what was not confirmed, through kills in the middle of it.
#[test]
fn qos_2_is_exactly_once_through_crashes() -> anyhow::Result<()> {
    const COUNT: u16 = 300;
    let mut server = Server::start();
    let mut watcher = keep(&server, Version::V5, "watcher", false)?;
    watcher.subscribe("exact", 2)?;
    let mut sender = keep(&server, Version::V5, "sender", false)?;
    let mut states = vec![Sent::New; usize::from(COUNT) + 1];
    states[0] = Sent::Done;
    for round in 0..3u16 {
        let last = (round + 1) * COUNT / 3;
        for id in 1..=last {
            match states[usize::from(id)] {
                Sent::New | Sent::Published => {
                    sender.send(&Packet::Publish(Publish {
                        dup: states[usize::from(id)] == Sent::Published,
                        qos: 2,
                        retain: false,
                        topic: "exact".into(),
                        packet_id: Some(id),
                        properties: Default::default(),
                        payload: id.to_string().into(),
                    }))?;
                    states[usize::from(id)] = Sent::Published;
                }
                Sent::Received => {
                    sender.send(&Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS)))?;
                }
                Sent::Done => {}
            }
        }
        // The last round goes to the end, the others are cut in the middle.
        let enough = if round == 2 { COUNT } else { last - COUNT / 6 };
        while states.iter().filter(|state| **state == Sent::Done).count() <= usize::from(enough) {
            match sender.packet()? {
                Packet::PubRec(ack) => {
                    states[usize::from(ack.packet_id)] = Sent::Received;
                    sender.send(&Packet::PubRel(Ack::new(
                        ack.packet_id,
                        ReasonCode::SUCCESS,
                    )))?;
                }
                Packet::PubComp(ack) => states[usize::from(ack.packet_id)] = Sent::Done,
                other => panic!("{} came to a publisher", other.name()),
            }
        }
        if round < 2 {
            server = server.restart();
            sender = keep(&server, Version::V5, "sender", true)?;
        }
    }
    let mut watcher = keep(&server, Version::V5, "watcher", true)?;
    sender.publish_with("exact", "end", 1, false, Vec::new())?;
    let mut seen = Vec::new();
    loop {
        let publish = watcher.next()?;
        if publish.payload == "end" {
            break;
        }
        seen.push(std::str::from_utf8(&publish.payload)?.parse::<u16>()?);
    }
    let expected: Vec<u16> = (1..=COUNT).collect();
    assert_eq!(seen, expected, "each once, in order");
    server.stop();
    Ok(())
}

/// How far a message of QoS 2 has come with its publisher.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sent {
    New,
    Published,
    Received,
    Done,
}

/// [MQTT-3.1.4-3], [MQTT3-3.1.4-2].
#[test]
fn a_second_connection_takes_the_session_over() -> anyhow::Result<()> {
    let server = Server::start();
    let mut first = keep(&server, Version::V5, "same", false)?;
    first.subscribe("mine", 1)?;
    let mut second = keep(&server, Version::V5, "same", true)?;
    let Packet::Disconnect(farewell) = first.packet()? else {
        panic!("MQTT 5 has a DISCONNECT for this");
    };
    assert_eq!(farewell.reason, ReasonCode(0x8e), "session taken over");
    assert!(first.packet_or_end()?.is_none());
    second.publish("mine", "still subscribed", 1)?;
    assert_eq!(second.next()?.payload, "still subscribed");
    server.stop();
    Ok(())
}

#[test]
fn doors_19_a_shared_subscription_gives_each_message_to_one() -> anyhow::Result<()> {
    let server = Server::start();
    let mut one = Mqtt::clean(tcp(&server), Version::V5, "one")?;
    let mut two = Mqtt::clean(tcp(&server), Version::V311, "two")?;
    for client in [&mut one, &mut two] {
        assert_eq!(client.subscribe("$share/team/tasks/#", 1)?, 1);
    }
    publish_numbers(&server, "tasks/all", 20)?;
    let mut seen = Vec::new();
    for client in [&mut one, &mut two] {
        for _ in 0..10 {
            let publish = client.next()?;
            seen.push(std::str::from_utf8(&publish.payload)?.parse::<u32>()?);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
    server.stop();
    Ok(())
}

/// A QoS 1 message of `$queue` that a connection did not settle is for others as soon as the connection is gone.
#[test]
fn doors_19_a_queue_s_message_goes_to_the_next_reader() -> anyhow::Result<()> {
    let server = Server::start();
    let mut one = keep(&server, Version::V5, "one", false)?;
    assert_eq!(one.subscribe("$queue/jobs", 1)?, 1);
    let mut publisher = Mqtt::clean(tcp(&server), Version::V5, "publisher")?;
    for number in 1..=3 {
        publisher.publish("$queue/jobs", number.to_string(), 1)?;
    }
    let first = one.delivery()?;
    one.settle(&first)?;
    assert_eq!(one.delivery()?.payload, "2");
    assert_eq!(one.delivery()?.payload, "3");
    one.ping()?;
    drop(one);
    let mut two = Mqtt::clean(tcp(&server), Version::V5, "two")?;
    two.subscribe("$queue/jobs", 1)?;
    for number in 2..=3 {
        let publish = two.next()?;
        assert_eq!(publish.payload, number.to_string());
        assert!(!publish.dup, "DUP is for a repetition to the same session");
    }
    server.stop();
    Ok(())
}

#[test]
fn the_broker_tells_of_itself_under_sys() -> anyhow::Result<()> {
    let server = Server::start_with(&["mqtt.sys_interval_s=1"]);
    let mut watcher = Mqtt::clean(tcp(&server), Version::V5, "watcher")?;
    assert_eq!(watcher.subscribe("$SYS/broker/clients/+", 0)?, 0);
    assert_eq!(watcher.subscribe("$SYS/broker/uptime", 0)?, 0);
    let mut told = Vec::new();
    // The second round comes too, so each topic is seen.
    while !told.iter().any(|(topic, _)| topic == "$SYS/broker/uptime") || told.len() < 4 {
        let publish = watcher.next()?;
        ensure!(!publish.retain, "nothing is retained");
        let value = String::from_utf8(publish.payload.to_vec())?;
        told.push((publish.topic.as_str().to_owned(), value));
    }
    let connected = ("$SYS/broker/clients/connected".to_owned(), "1".to_owned());
    ensure!(told.contains(&connected), "{told:?}");
    // Only the broker itself speaks there.
    let mut publisher = Mqtt::clean(tcp(&server), Version::V5, "publisher")?;
    let reason = publisher.publish("$SYS/broker/uptime", "0 seconds", 1)?;
    assert_eq!(reason, ReasonCode::NOT_AUTHORIZED);
    publisher.disconnect()
}

#[test]
fn a_user_name_may_name_the_virtual_host() -> anyhow::Result<()> {
    let server = Server::start_with(&["auth.vhosts=[\"/\", \"test\"]"]);
    let open = |id: &str, user: &'static str| {
        let mut connect = connect(Version::V5, id, true);
        connect.user_name = Some(user.into());
        connect.password = Some(Bytes::from_static(b"guest"));
        Mqtt::open(tcp(&server), connect).map(|(client, _)| client)
    };
    let mut readers = [open("root", "guest")?, open("inside", "test:guest")?];
    for reader in &mut readers {
        assert_eq!(reader.subscribe("where", 0)?, 0);
    }
    for (id, user) in [("a", "guest"), ("b", "test:guest")] {
        let mut writer = open(id, user)?;
        assert_eq!(writer.publish("where", user, 1)?, ReasonCode::SUCCESS);
        writer.disconnect()?;
    }
    for (reader, user) in readers.iter_mut().zip(["guest", "test:guest"]) {
        assert_eq!(reader.next()?.payload, user);
        reader.ping()?;
    }
    Ok(())
}
