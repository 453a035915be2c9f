//! Limits: a queue larger than memory, a reader that does not read, bodies that are too long, users of the configuration.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use ::mqtt::codec::{Property, ReasonCode, Version as MqttVersion};
use ::stomp::{
    Version as StompVersion,
    codec::{Frame, Verb},
};
use anyhow::Context as _;
use lapin::options::{BasicAckOptions, BasicPublishOptions};

use crate::{
    client::{Amqp, Mqtt, Stomp, Transport, connect, pattern, persistent, wait},
    server::{Server, binary},
};

const SIZE: usize = 64 * 1024;
const COUNT: u32 = 400;

async fn fill(client: &Amqp, queue: &str) -> anyhow::Result<()> {
    let mut confirms = Vec::new();
    for number in 0..COUNT {
        let mut body = pattern(SIZE);
        body[..4].copy_from_slice(&number.to_be_bytes());
        let options = BasicPublishOptions::default();
        let confirm = client
            .channel
            .basic_publish("".into(), queue.into(), options, &body, persistent())
            .await?;
        confirms.push(confirm);
    }
    for confirm in confirms {
        assert!(confirm.await?.is_ack());
    }
    Ok(())
}

async fn empty(client: &Amqp, queue: &str) -> anyhow::Result<()> {
    let mut deliveries = client.consume(queue).await?;
    for number in 0..COUNT {
        let delivery = deliveries.next().await?;
        assert_eq!(delivery.data[..4], number.to_be_bytes(), "in order");
        assert!(delivery.data[4..] == pattern(SIZE)[4..], "message {number}");
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

/// Bodies beyond the budget are read back from the journal, also those of before a crash.
#[test]
fn rules_14_a_queue_may_be_larger_than_memory() -> anyhow::Result<()> {
    let server = Server::start_with(&["memory.bodies_bytes_max=4194304"]);
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("deep", &[]).await?;
        fill(&client, "deep").await?;
        empty(&client, "deep").await?;
        fill(&client, "deep").await
    })?;
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        assert_eq!(client.declare("deep", &[]).await?, COUNT);
        empty(&client, "deep").await
    })?;
    server.stop();
    Ok(())
}

/// Room in an outbox bounds what waits for a reader, and nobody else notices.
#[test]
fn rules_13_a_reader_that_does_not_read_holds_up_nobody() -> anyhow::Result<()> {
    const GROWTH_MAX: u64 = 8 << 20;
    // All buffers have been used after some 350 messages: a batch of two megabytes is a step.
    const COUNT: u32 = 1200;
    let server = Server::start_with(&["memory.bodies_bytes_max=4194304"]);
    let tcp = |door: &str| Transport::tcp(server.door(door));
    // One whose messages are dropped when there is no room, and one whose messages wait on disk.
    let mut deaf = Mqtt::clean(tcp("mqtt"), MqttVersion::V5, "deaf")?;
    deaf.subscribe("loud", 0)?;
    let mut deaf_too = Stomp::open(tcp("stomp"), StompVersion::V1_2)?;
    deaf_too.subscribe("/queue/loud", "s1", "client")?;
    let mut good = Mqtt::clean(tcp("mqtt"), MqttVersion::V5, "good")?;
    good.subscribe("loud", 1)?;
    let mut publisher = Mqtt::clean(tcp("mqtt"), MqttVersion::V5, "loud")?;
    let mut before = 0;
    for number in 0..COUNT {
        // By then every buffer and budget has been used.
        if number == COUNT / 2 {
            before = server.resident();
        }
        let mut body = pattern(SIZE);
        body[..4].copy_from_slice(&number.to_be_bytes());
        for place in ["loud", "$queue/loud"] {
            assert_eq!(
                publisher.publish(place, body.clone(), 1)?,
                ReasonCode::SUCCESS
            );
        }
        assert_eq!(good.next()?.payload[..4], number.to_be_bytes());
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{before} bytes, and {grown} more");
    // It is all there for whoever reads at last.
    for number in 0..COUNT {
        assert_eq!(deaf_too.next()?.body[..4], number.to_be_bytes());
    }
    server.stop();
    Ok(())
}

#[test]
fn a_body_that_is_too_long_is_refused_in_each_protocol_s_words() -> anyhow::Result<()> {
    let server = Server::start_with(&["limits.message_bytes_max=100000"]);
    let tcp = |door: &str| Transport::tcp(server.door(door));
    let body = pattern(100_001);
    let (mut mqtt, ack) = Mqtt::open(tcp("mqtt"), connect(MqttVersion::V5, "long", true))?;
    let announced = ack.properties.0.iter().find_map(|property| match property {
        Property::MaximumPacketSize(size) => Some(*size),
        _ => None,
    });
    assert!(
        announced.is_some_and(|size| size >= 100_000),
        "{announced:?}"
    );
    mqtt.subscribe("long", 0)?;
    let refused = mqtt.publish("long", body.clone(), 1);
    let refused = refused.expect_err("a DISCONNECT").to_string();
    assert!(refused.contains("DISCONNECT"), "{refused}");

    let mut stomp = Stomp::open(tcp("stomp"), StompVersion::V1_2)?;
    let send = Frame::new(Verb::Send).with("destination", "/queue/long");
    let refused = stomp.ask(send.with_body(body.clone()));
    let refused = refused.expect_err("an ERROR frame").to_string();
    assert!(refused.contains("Error"), "{refused}");

    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("long", &[]).await?;
        let refused = client
            .publish_with("", "long", &body, persistent())
            .await
            .expect_err("the channel is closed");
        let words = format!("{refused:?}");
        assert!(
            words.contains("PRECONDITION") || words.contains("CONTENTTOOLARGE"),
            "{words}"
        );
        // The connection goes on.
        let second = client.connection.create_channel().await?;
        second.close(200, "".into()).await?;
        anyhow::Ok(())
    })?;
    let mut mqtt = Mqtt::clean(tcp("mqtt"), MqttVersion::V5, "short")?;
    assert_eq!(
        mqtt.publish("$queue/long", pattern(100_000), 1)?,
        ReasonCode::SUCCESS
    );
    server.stop();
    Ok(())
}

/// What `bascule user hash` says of a password.
fn hash(password: &str) -> anyhow::Result<String> {
    let mut child = Command::new(binary())
        .args(["user", "hash"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin is a pipe")?;
    writeln!(stdin, "{password}")?;
    drop(stdin);
    let output = child.wait_with_output()?;
    assert!(output.status.success());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[test]
fn users_of_the_configuration_log_in_everywhere() -> anyhow::Result<()> {
    let hash = hash("geheim: ✓")?;
    let users = format!("auth.users=[{{ name = \"anna\", password_hash = \"{hash}\" }}]");
    let server = Server::start_with(&[&users, "auth.guest=false", "auth.anonymous.protocols=[]"]);
    let tcp = |door: &str| Transport::tcp(server.door(door));
    for (password, good) in [("geheim: ✓", true), ("geheim", false), ("guest", false)] {
        let mut packet = connect(MqttVersion::V5, "anna", true);
        packet.user_name = Some("anna".into());
        packet.password = Some(password.to_owned().into());
        let (_client, ack) = Mqtt::open(tcp("mqtt"), packet)?;
        assert_eq!(ack.code == 0, good, "{password}");
        let (_client, answer) = Stomp::open_as(tcp("stomp"), StompVersion::V1_1, "anna", password)?;
        assert_eq!(answer.verb == Verb::Connected, good, "{password}");
    }
    let (_client, ack) = Mqtt::open(tcp("mqtt"), connect(MqttVersion::V5, "guest", true))?;
    assert_eq!(ack.code, 0x86, "guest is off");
    let mut nobody = connect(MqttVersion::V311, "nobody", true);
    (nobody.user_name, nobody.password) = (None, None);
    let (_client, ack) = Mqtt::open(tcp("mqtt"), nobody)?;
    assert!(
        matches!(ack.code, 4 | 5),
        "nobody is not let in: {}",
        ack.code
    );
    server.stop();
    Ok(())
}
