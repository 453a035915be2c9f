//! Permission rules and SIGHUP: what each protocol is told, what goes on, and what ends.

use ::mqtt::codec::{Connect, Packet, ReasonCode, Version as MqttVersion};
use ::stomp::{
    Version as StompVersion,
    codec::{Frame, Verb},
};
use anyhow::{Context as _, bail, ensure};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{
    client::{Amqp, Mqtt, Stomp, Transport, connect, get, wait},
    server::{Server, until},
};

/// Ada may do what these rules say.
fn with_rules(rules: &str) -> String {
    format!(
        "[auth]\nguest = true\n[[users]]\nname = \"ada\"\npassword = \"x\"\nrules = [\n{rules}\n]\n"
    )
}

fn as_ada(version: MqttVersion, client_id: &str) -> Connect {
    let mut packet = connect(version, client_id, true);
    packet.user_name = Some("ada".into());
    packet.password = Some("x".to_owned().into());
    packet
}

fn mqtt(server: &Server, version: MqttVersion, client_id: &str) -> anyhow::Result<Mqtt> {
    let packet = as_ada(version, client_id);
    let (client, ack) = Mqtt::open(Transport::tcp(server.door("mqtt")), packet)?;
    ensure!(ack.code == 0, "refused with {:#x}", ack.code);
    Ok(client)
}

fn stomp(server: &Server) -> anyhow::Result<Stomp> {
    let transport = Transport::tcp(server.door("stomp"));
    let (client, answer) = Stomp::open_as(transport, StompVersion::V1_2, "ada", "x")?;
    ensure!(answer.verb == Verb::Connected, "refused: {answer:?}");
    Ok(client)
}

/// The ERROR that a STOMP client is sent, and the end behind it.
fn error(client: &mut Stomp) -> anyhow::Result<(String, String)> {
    let frame = client.frame()?;
    ensure!(frame.verb == Verb::Error, "{frame:?} in place of ERROR");
    ensure!(client.frame_or_end()?.is_none(), "the connection goes on");
    let message = frame.headers.text("message").unwrap_or_default().to_owned();
    Ok((message, String::from_utf8_lossy(&frame.body).into_owned()))
}

/// The value of a line of `/metrics`.
fn metric(server: &Server, line: &str) -> anyhow::Result<u64> {
    let (_, text) = get(server.door("http"), "/metrics")?;
    let found = text.lines().find_map(|row| row.strip_prefix(line));
    Ok(found.context(line.to_owned())?.trim().parse()?)
}

const SENSOR: &str = r#"
    { allow = ["publish", "subscribe"], topic = "at/{client_id}/#" },
    { allow = ["publish"], topic = "free/#" },
    { deny = ["publish", "subscribe"], topic = "free/secret", reason = 0x80 },
"#;

#[test]
fn mqtt_5_is_told_with_reason_codes() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(SENSOR));
    let mut client = mqtt(&server, MqttVersion::V5, "c1")?;
    assert_eq!(client.subscribe("at/c1/#", 1)?, 1);
    assert_eq!(client.subscribe("at/#", 1)?, 0x87);
    assert_eq!(client.subscribe("at/c2/x", 1)?, 0x87);
    assert_eq!(client.subscribe("free/secret", 1)?, 0x80);
    assert_eq!(client.subscribe("$share/g/at/c2/x", 1)?, 0x87);
    assert_eq!(client.subscribe("$queue/jobs", 1)?, 0x87);
    let denied = ReasonCode::NOT_AUTHORIZED;
    assert_eq!(client.publish("at/c2/x", "no", 1)?, denied);
    assert_eq!(client.publish("at/c2/x", "no", 2)?, denied);
    assert_eq!(client.publish("$queue/jobs", "no", 1)?, denied);
    assert_eq!(client.publish("free/secret", "no", 1)?, ReasonCode(0x80));
    client.publish("at/c2/x", "dropped", 0)?;
    client.publish("at/c1/x", "yes", 1)?;
    assert_eq!(client.next()?.payload, "yes");
    let refused = metric(
        &server,
        "bascule_refused_total{action=\"publish\",protocol=\"mqtt\"}",
    )?;
    assert_eq!(refused, 5);
    let log = server.log();
    for said in [
        "permission refused",
        "\"user\":\"ada\"",
        "\"action\":\"publish\"",
        "at/c2/x",
    ] {
        assert!(log.contains(said), "{said} is not in the log:\n{log}");
    }
    server.stop();
    Ok(())
}

#[test]
fn mqtt_3_is_acknowledged_and_nothing_is_published() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(SENSOR));
    let mut watcher = Mqtt::clean(Transport::tcp(server.door("mqtt")), MqttVersion::V5, "w")?;
    watcher.subscribe("#", 1)?;
    let mut client = mqtt(&server, MqttVersion::V311, "c1")?;
    assert_eq!(client.subscribe("at/#", 1)?, 0x80);
    for qos in 0..=2 {
        client.publish("other", "no", qos)?;
    }
    client.publish("free/a", "yes", 1)?;
    assert_eq!(watcher.next()?.payload, "yes");
    server.stop();
    Ok(())
}

#[test]
fn a_will_that_is_not_allowed_refuses_the_connection() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(SENSOR));
    for (version, code) in [(MqttVersion::V5, 0x87), (MqttVersion::V311, 5)] {
        let mut packet = as_ada(version, "c1");
        packet.will = Some(::mqtt::codec::Will {
            qos: 0,
            retain: false,
            properties: Default::default(),
            topic: "at/c2/gone".into(),
            payload: "x".into(),
        });
        let (_client, ack) = Mqtt::open(Transport::tcp(server.door("mqtt")), packet)?;
        assert_eq!(ack.code, code);
    }
    server.stop();
    Ok(())
}

#[test]
fn an_assigned_client_id_counts_once_it_is_known() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(SENSOR));
    let packet = as_ada(MqttVersion::V5, "");
    let (mut client, ack) = Mqtt::open(Transport::tcp(server.door("mqtt")), packet)?;
    let assigned = ack.properties.0.iter().find_map(|property| match property {
        ::mqtt::codec::Property::AssignedClientIdentifier(text) => {
            Some(String::from_utf8_lossy(text.as_bytes()).into_owned())
        }
        _ => None,
    });
    let own = format!("at/{}/x", assigned.context("an id was assigned")?);
    assert_eq!(client.subscribe(&own, 1)?, 1);
    assert_eq!(client.subscribe("at/+/x", 1)?, 0x87);
    server.stop();
    Ok(())
}

const WORKER: &str = r#"
    { allow = ["declare", "publish", "subscribe"], queue = "jobs.*" },
    { allow = ["publish"], topic = "news/#" },
    { allow = ["subscribe"], exchange = "amq.direct", key = "eu" },
    { allow = ["subscribe"], topic = "news/eu/#" },
"#;

/// What a lapin call was refused with.
fn refusal<T>(result: lapin::Result<T>) -> anyhow::Result<String> {
    match result {
        Ok(_) => bail!("not refused"),
        Err(error) => Ok(error.to_string()),
    }
}

#[test]
fn amqp_channels_close_with_403() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(WORKER));
    wait(async {
        let connection = Amqp::login(server.door("amqp"), "ada", "x").await?;
        let declare = |name: &'static str| {
            let connection = &connection;
            async move {
                let channel = connection.create_channel().await?;
                let options = QueueDeclareOptions::default();
                channel
                    .queue_declare(name.into(), options, FieldTable::default())
                    .await?;
                anyhow::Ok(channel)
            }
        };
        let refused = declare("other").await.err().context("refused")?.to_string();
        assert!(refused.contains("ACCESS_REFUSED"), "{refused}");
        assert!(
            refused
                .contains("configure access to queue 'other' in vhost '/' refused for user 'ada'"),
            "{refused}"
        );
        // A binding reads its source and writes into its queue.
        for (exchange, key, good) in [
            ("amq.direct", "eu", true),
            ("amq.direct", "us", false),
            ("amq.fanout", "eu", false),
            ("amq.topic", "news.eu.*", true),
            ("amq.topic", "news.#", false),
        ] {
            let channel = declare("jobs.a").await?;
            let bound = channel
                .queue_bind(
                    "jobs.a".into(),
                    exchange.into(),
                    key.into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await;
            assert_eq!(bound.is_ok(), good, "{exchange} {key}: {bound:?}");
            if !good {
                let said = refusal(bound)?;
                assert!(said.contains("read access to"), "{said}");
            }
        }
        // A queue that the broker names for this connection alone is a part of the connection.
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let own = channel
            .queue_declare("".into(), options, FieldTable::default())
            .await?;
        let name = own.name().clone();
        let take = Default::default();
        assert!(channel.basic_get(name, take).await?.is_none());
        assert!(
            refusal(channel.basic_get("secret".into(), take).await)?.contains("ACCESS_REFUSED")
        );
        // An unconfirmed publish ends its channel too; the next method finds it closed.
        let channel = connection.create_channel().await?;
        let publish = channel.basic_publish(
            "".into(),
            "secret".into(),
            BasicPublishOptions::default(),
            b"no",
            BasicProperties::default(),
        );
        publish.await?;
        let options = QueueDeclareOptions::default();
        let next = channel
            .queue_declare("jobs.b".into(), options, FieldTable::default())
            .await;
        assert!(next.is_err(), "the channel goes on");
        // Copies are publishes.
        let channel = connection.create_channel().await?;
        channel.confirm_select(Default::default()).await?;
        let copies = lapin::types::AMQPValue::FieldArray(
            vec![lapin::types::AMQPValue::LongString("secret".into())].into(),
        );
        let headers = crate::client::table(&[("CC", copies)]);
        let confirm = channel
            .basic_publish(
                "".into(),
                "jobs.a".into(),
                BasicPublishOptions::default(),
                b"no",
                BasicProperties::default().with_headers(headers),
            )
            .await?;
        let said = refusal(confirm.await)?;
        assert!(said.contains("write access to queue 'secret'"), "{said}");
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn a_dead_letter_goes_only_where_its_queues_declarer_may_publish() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(
        r#"{ allow = ["declare", "publish", "subscribe"], everything = true }, { deny = ["publish"], queue = "secret.#" }"#,
    ));
    wait(async {
        let connection = Amqp::login(server.door("amqp"), "ada", "x").await?;
        let text = |text: &str| lapin::types::AMQPValue::LongString(text.into());
        for (exchange, key, refused) in [
            // Dead letters would go to whatever queue their own keys name.
            ("", None, Some("every queue")),
            ("", Some("secret.a"), Some("queue 'secret.a'")),
            // The name of a queue, as routing reads it: a dot in a level is written so.
            ("", Some("secret.a%2Eb"), Some("queue 'secret.a%2Eb'")),
            ("", Some("open"), None),
            ("amq.fanout", None, None),
        ] {
            let mut arguments = vec![("x-dead-letter-exchange", text(exchange))];
            arguments.extend(key.map(|key| ("x-dead-letter-routing-key", text(key))));
            let channel = connection.create_channel().await?;
            let name = format!("trap-{exchange}-{}", key.unwrap_or_default());
            let declared = channel
                .queue_declare(
                    name.into(),
                    QueueDeclareOptions::default(),
                    crate::client::table(&arguments),
                )
                .await;
            match refused {
                None => drop(declared?),
                Some(what) => {
                    let said = refusal(declared)?;
                    assert!(said.contains(&format!("write access to {what}")), "{said}");
                }
            }
        }
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn stomp_is_sent_an_error() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(WORKER));
    let send = |destination: &'static str| {
        Frame::new(Verb::Send)
            .with("destination", destination)
            .with_body("x")
    };
    // With and without a receipt.
    for receipt in [true, false] {
        let mut client = stomp(&server)?;
        client.publish("/queue/jobs.a", "yes")?;
        client.publish("/topic/news.eu.x", "yes")?;
        let mut frame = send("/queue/secret");
        if receipt {
            frame = frame.with("receipt", "r");
        }
        client.send(&frame)?;
        let (message, body) = error(&mut client)?;
        assert_eq!(message, "access denied");
        assert!(body.contains("write access to queue 'secret'"), "{body}");
    }
    let mut client = stomp(&server)?;
    client.subscribe("/topic/news.eu.*", "a", "auto")?;
    client.send(
        &Frame::new(Verb::Subscribe)
            .with("destination", "/topic/news.#")
            .with("id", "b"),
    )?;
    let (message, body) = error(&mut client)?;
    assert_eq!(message, "access denied");
    assert!(body.contains("read access to topic 'news/#'"), "{body}");
    server.stop();
    Ok(())
}

#[test]
fn a_reply_to_must_be_a_place_of_ones_own() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(WORKER));
    let mut client = stomp(&server)?;
    let ask = |reply: &'static str| {
        Frame::new(Verb::Send)
            .with("destination", "/queue/jobs.a")
            .with("reply-to", reply)
            .with_body("x")
    };
    client.ask(ask("/topic/news.eu.me"))?;
    client.ask(ask("/temp-queue/mine"))?;
    client.send(&ask("/queue/admin"))?;
    assert_eq!(error(&mut client)?.0, "access denied");
    server.stop();
    Ok(())
}

#[test]
fn sighup_changes_rights_of_live_connections() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(
        r#"{ allow = ["publish", "subscribe"], topic = "a/#" }, { allow = ["publish", "subscribe"], topic = "b/#" }"#,
    ));
    let mut goes_on = mqtt(&server, MqttVersion::V5, "goes-on")?;
    goes_on.subscribe("a/x", 1)?;
    let mut ends = mqtt(&server, MqttVersion::V5, "ends")?;
    ends.subscribe("b/x", 1)?;
    let mut reads = stomp(&server)?;
    reads.subscribe("/topic/b.x", "s", "auto")?;
    server.reload(&with_rules(
        r#"{ allow = ["publish", "subscribe"], topic = "a/#" }"#,
    ));
    // What was allowed and is not any more: MQTT has no word for the end of one subscription, STOMP has ERROR.
    let Packet::Disconnect(farewell) = ends.packet()? else {
        bail!("no DISCONNECT");
    };
    assert_eq!(farewell.reason, ReasonCode::ADMINISTRATIVE_ACTION);
    assert_eq!(error(&mut reads)?.0, "subscription cancelled");
    assert_eq!(goes_on.publish("b/x", "no", 1)?, ReasonCode::NOT_AUTHORIZED);
    goes_on.publish("a/x", "yes", 1)?;
    assert_eq!(goes_on.next()?.payload, "yes");
    // And back.
    server.reload(&with_rules(""));
    assert_ne!(
        goes_on.publish("b/x", "now", 1)?,
        ReasonCode::NOT_AUTHORIZED
    );
    server.stop();
    Ok(())
}

#[test]
fn sighup_cancels_an_amqp_consumer() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(""));
    wait(async {
        let connection = Amqp::login(server.door("amqp"), "ada", "x").await?;
        let channel = connection.create_channel().await?;
        let client = Amqp {
            connection,
            channel,
        };
        client.declare("jobs", &[]).await?;
        client.declare("others", &[]).await?;
        let mut cut = client.consume("jobs").await?;
        let mut kept = client.consume("others").await?;
        server.reload(&with_rules(r#"{ deny = ["subscribe"], queue = "jobs" }"#));
        let ended = cut.next().await.err().context("basic.cancel")?;
        assert!(ended.to_string().contains("was cancelled"), "{ended}");
        client
            .channel
            .basic_publish(
                "".into(),
                "others".into(),
                BasicPublishOptions::default(),
                b"goes on",
                BasicProperties::default(),
            )
            .await?;
        assert_eq!(kept.accept().await?.data, b"goes on");
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn sighup_ends_connections_of_users_who_are_gone() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(""));
    let mut ada = mqtt(&server, MqttVersion::V5, "c1")?;
    let mut reads = stomp(&server)?;
    let mut other = Mqtt::clean(Transport::tcp(server.door("mqtt")), MqttVersion::V5, "w")?;
    server.reload("[auth]\nguest = true\n");
    let Packet::Disconnect(farewell) = ada.packet()? else {
        bail!("no DISCONNECT");
    };
    assert_eq!(farewell.reason, ReasonCode::ADMINISTRATIVE_ACTION);
    assert_eq!(error(&mut reads)?.0, "connection closed by the server");
    other.ping()?;
    let (_client, ack) = Mqtt::open(
        Transport::tcp(server.door("mqtt")),
        as_ada(MqttVersion::V5, "c1"),
    )?;
    assert_eq!(ack.code, 0x86);
    server.stop();
    Ok(())
}

#[test]
fn a_file_with_errors_changes_nothing_and_other_keys_are_named() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(""));
    let mut ada = mqtt(&server, MqttVersion::V5, "c1")?;
    server.hang_up("[[rules]]\nusers = [\"nobody-there\"]\ndeny = [\"publish\"]\ntopic = \"a\"\n");
    until("the error is in the log", || {
        server
            .log()
            .contains("not reloaded: nothing has changed")
            .then_some(())
    });
    assert!(server.log().contains("nobody-there"));
    ada.publish("a", "still", 1)?;
    let limits = "\n[limits]\nconnections_max = 77\n";
    server.reload(&format!("{}{limits}", with_rules("")));
    assert!(
        server.log().contains("limits.connections_max"),
        "{}",
        server.log()
    );
    ada.publish("a", "still", 1)?;
    server.stop();
    Ok(())
}

#[test]
fn a_session_that_is_away_is_not_kept_what_it_may_not_read() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(""));
    let open = |server: &Server| {
        let mut packet = as_ada(MqttVersion::V5, "c1");
        packet.clean_start = false;
        packet
            .properties
            .0
            .push(::mqtt::codec::Property::SessionExpiryInterval(600));
        Mqtt::open(Transport::tcp(server.door("mqtt")), packet)
    };
    let other = |server: &Server| {
        let transport = Transport::tcp(server.door("mqtt"));
        Mqtt::clean(transport, MqttVersion::V5, "w")
    };
    let (mut client, _) = open(&server)?;
    for topic in ["a", "b", "$share/g/b/c"] {
        client.subscribe(topic, 1)?;
    }
    client.disconnect()?;
    other(&server)?.publish("b", "allowed", 1)?;
    server.reload(&with_rules(r#"{ deny = ["subscribe"], topic = "b/#" }"#));
    let none = ReasonCode::NO_MATCHING_SUBSCRIBERS;
    let mut publisher = other(&server)?;
    assert_eq!(publisher.publish("b", "no", 1)?, none);
    assert_eq!(publisher.publish("b/c", "no", 1)?, none);
    publisher.publish("a", "yes", 1)?;
    // The same where the rules have changed in between two runs.
    let server = server.restart_with_file(&with_rules(r#"{ deny = ["subscribe"], topic = "a" }"#));
    assert_eq!(other(&server)?.publish("a", "no", 1)?, none);
    let (mut client, ack) = open(&server)?;
    assert!(ack.session_present);
    assert_eq!(client.next()?.payload, "allowed");
    assert_eq!(client.next()?.payload, "yes");
    server.stop();
    Ok(())
}

#[test]
fn sighup_drops_wills_that_are_not_allowed_any_more() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(""));
    let mut watcher = Mqtt::clean(Transport::tcp(server.door("mqtt")), MqttVersion::V5, "w")?;
    watcher.subscribe("will/#", 1)?;
    let open = |id: &str, topic: &'static str| {
        let mut packet = as_ada(MqttVersion::V5, id);
        packet.will = Some(::mqtt::codec::Will {
            qos: 1,
            retain: false,
            properties: Default::default(),
            topic: topic.into(),
            payload: "gone".into(),
        });
        Mqtt::open(Transport::tcp(server.door("mqtt")), packet)
    };
    let (dropped, _) = open("c1", "will/no")?;
    let (kept, _) = open("c2", "will/yes")?;
    server.reload(&with_rules(r#"{ deny = ["publish"], topic = "will/no" }"#));
    drop(dropped);
    drop(kept);
    assert_eq!(watcher.next()?.topic, "will/yes".into());
    // Nor of a user who is gone.
    let (_deleted, _) = open("c3", "will/deleted")?;
    server.reload("[auth]\nguest = true\n");
    watcher.publish("will/last", "x", 1)?;
    assert_eq!(watcher.next()?.topic, "will/last".into());
    server.stop();
    Ok(())
}

#[test]
fn a_session_that_comes_back_reads_only_what_it_may() -> anyhow::Result<()> {
    let server = Server::start_with_file(&with_rules(""));
    let open = || {
        let mut packet = as_ada(MqttVersion::V5, "c1");
        packet.clean_start = false;
        packet
            .properties
            .0
            .push(::mqtt::codec::Property::SessionExpiryInterval(600));
        Mqtt::open(Transport::tcp(server.door("mqtt")), packet)
    };
    let (mut client, _) = open()?;
    client.subscribe("a", 1)?;
    client.subscribe("b", 1)?;
    client.disconnect()?;
    server.reload(&with_rules(r#"{ deny = ["subscribe"], topic = "b" }"#));
    let (mut client, ack) = open()?;
    assert!(ack.session_present);
    assert_eq!(
        client.publish("b", "gone", 1)?,
        ReasonCode::NO_MATCHING_SUBSCRIBERS
    );
    client.publish("a", "stays", 1)?;
    assert_eq!(client.next()?.payload, "stays");
    server.stop();
    Ok(())
}
