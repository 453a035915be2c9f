//! Streams through AMQP, MQTT and STOMP: one log, many readers, each from where it likes, and after a crash.

use ::mqtt::codec::Version as MqttVersion;
use ::stomp::{
    Version as StompVersion,
    codec::{Frame, Verb},
};
use anyhow::{Context as _, ensure};
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    client::{Amqp, Deliveries, Mqtt, Stomp, Transport, table, text, wait},
    server::Server,
};

/// What a queue of type stream is declared with.
fn stream() -> [(&'static str, AMQPValue); 1] {
    [("x-queue-type", text("stream"))]
}

fn from(offset: AMQPValue) -> FieldTable {
    table(&[("x-stream-offset", offset)])
}

/// A reader with a prefetch, as RabbitMQ wants it.
async fn read(client: &Amqp, queue: &str, arguments: FieldTable) -> anyhow::Result<Deliveries> {
    client
        .channel
        .basic_qos(10, BasicQosOptions::default())
        .await?;
    client
        .consume_from(queue, BasicConsumeOptions::default(), arguments)
        .await
}

/// The offset that a delivery shows, and its body.
async fn next(deliveries: &mut Deliveries) -> anyhow::Result<(i64, String)> {
    let delivery = deliveries.accept().await?;
    let headers = delivery.properties.headers().as_ref();
    let offset = match headers.and_then(|headers| headers.inner().get("x-stream-offset")) {
        Some(AMQPValue::LongLongInt(offset)) => *offset,
        other => anyhow::bail!("x-stream-offset is {other:?}"),
    };
    Ok((offset, String::from_utf8(delivery.data)?))
}

async fn nexts(deliveries: &mut Deliveries, count: usize) -> anyhow::Result<Vec<(i64, String)>> {
    let mut got = Vec::new();
    for _ in 0..count {
        got.push(next(deliveries).await?);
    }
    Ok(got)
}

fn numbered(offsets: std::ops::Range<i64>) -> Vec<(i64, String)> {
    offsets.map(|at| (at, format!("record {at}"))).collect()
}

#[test]
fn many_amqp_readers_read_one_stream_each_from_where_it_likes() -> anyhow::Result<()> {
    let server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("clicks", &stream()).await?;
        for at in 0..5 {
            client
                .publish("", "clicks", format!("record {at}").as_bytes())
                .await?;
        }
        ensure!(
            client.declare("clicks", &stream()).await? == 5,
            "five records"
        );
        let mut first = read(&client, "clicks", from(text("first"))).await?;
        let mut third = read(&client, "clicks", from(AMQPValue::LongLongInt(3))).await?;
        let mut last = read(&client, "$stream/clicks", from(text("last"))).await?;
        let mut fresh = read(&client, "clicks", FieldTable::default()).await?;
        assert_eq!(nexts(&mut first, 5).await?, numbered(0..5));
        assert_eq!(nexts(&mut third, 2).await?, numbered(3..5));
        assert_eq!(nexts(&mut last, 1).await?, numbered(4..5));
        client.publish("", "$stream/clicks", b"record 5").await?;
        for reader in [&mut first, &mut third, &mut last, &mut fresh] {
            assert_eq!(next(reader).await?, (5, "record 5".to_owned()));
        }
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn every_protocol_writes_and_reads_the_same_stream() -> anyhow::Result<()> {
    let server = Server::start();
    let amqp = wait(Amqp::open(server.door("amqp")))?;
    wait(amqp.declare("clicks", &stream()))?;
    let mut mqtt = Mqtt::clean(
        Transport::tcp(server.door("mqtt")),
        MqttVersion::V5,
        "reader",
    )?;
    ensure!(mqtt.subscribe("$stream/clicks/#", 1)? == 1, "granted");
    let mut stomp = Stomp::open(Transport::tcp(server.door("stomp")), StompVersion::V1_2)?;
    let reason = mqtt.publish("$stream/clicks/sensor-1", "from MQTT", 1)?;
    ensure!(reason.0 == 0, "PUBACK says {reason:?}");
    stomp.ask(
        Frame::new(Verb::Send)
            .with("destination", "/stream/clicks")
            .with("JMSXGroupID", "sensor-2")
            .with_body("from STOMP"),
    )?;
    let properties = BasicProperties::default().with_delivery_mode(2);
    wait(amqp.publish_with("", "clicks", b"from AMQP", properties))?;

    let wanted = ["from MQTT", "from STOMP", "from AMQP"];
    for body in wanted {
        ensure!(
            mqtt.next()?.payload == body.as_bytes(),
            "MQTT is given {body}"
        );
    }
    stomp.ask(
        Frame::new(Verb::Subscribe)
            .with("destination", "/stream/clicks")
            .with("id", "s")
            .with("ack", "client-individual")
            .with("x-stream-offset", "first"),
    )?;
    for (offset, body) in wanted.iter().enumerate() {
        let message = stomp.next()?;
        ensure!(message.body == body.as_bytes(), "STOMP is given {body}");
        let shown = message
            .headers
            .text("x-stream-offset")
            .context("an offset")?;
        assert_eq!(shown, offset.to_string());
        stomp.settle(Verb::Ack, &message)?;
    }
    wait(async {
        let mut reader = read(&amqp, "clicks", from(text("first"))).await?;
        for (offset, body) in (0..).zip(wanted) {
            assert_eq!(next(&mut reader).await?, (offset, body.to_owned()));
        }
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn a_stream_and_where_a_group_had_come_survive_a_crash() -> anyhow::Result<()> {
    let mut server = Server::start();
    let group = || {
        table(&[
            ("x-stream-offset", text("first")),
            ("x-consumer-group", text("workers")),
        ])
    };
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("log", &stream()).await?;
        for at in 0..10 {
            client
                .publish("", "log", format!("record {at}").as_bytes())
                .await?;
        }
        let mut worker = read(&client, "log", group()).await?;
        assert_eq!(nexts(&mut worker, 4).await?, numbered(0..4));
        // What is confirmed behind the acknowledgements is safe after them.
        client.publish("", "log", b"record 10").await?;
        anyhow::Ok(())
    })?;
    server.kill();
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        let mut reader = read(&client, "log", from(text("first"))).await?;
        assert_eq!(nexts(&mut reader, 11).await?, numbered(0..11));
        let mut worker = read(&client, "log", group()).await?;
        let (offset, _) = next(&mut worker).await?;
        ensure!((1..=4).contains(&offset), "the group goes on at {offset}");
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// DOORS 6: a bare name is the queue if there is one, else the stream.
#[test]
fn doors_6_one_name_is_a_queue_or_a_stream() -> anyhow::Result<()> {
    let server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("a", &[]).await?;
        client.declare("b", &stream()).await?;
        let refused = |result: anyhow::Result<u32>| match result {
            Ok(_) => "granted".to_owned(),
            Err(error) => error.to_string(),
        };
        let other = Amqp::open(server.door("amqp")).await?;
        let told = refused(other.declare("a", &stream()).await);
        ensure!(told.contains("PRECONDITION_FAILED"), "{told}");
        let other = Amqp::open(server.door("amqp")).await?;
        let told = refused(other.declare("b", &[]).await);
        ensure!(told.contains("PRECONDITION_FAILED"), "{told}");
        let other = Amqp::open(server.door("amqp")).await?;
        let told = other.get("b").await.err().context("no get")?.to_string();
        ensure!(told.contains("NOT_IMPLEMENTED"), "{told}");
        // A passive declaration finds either.
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        for name in ["a", "b", "$stream/b"] {
            let found = client
                .channel
                .queue_declare(name.into(), passive, FieldTable::default());
            assert_eq!(found.await?.name().as_str(), name);
        }
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn a_stream_that_is_bound_takes_what_is_published_to_topics() -> anyhow::Result<()> {
    let server = Server::start();
    let amqp = wait(Amqp::open(server.door("amqp")))?;
    wait(async {
        amqp.declare("telemetry", &stream()).await?;
        amqp.channel
            .queue_bind(
                "telemetry".into(),
                "amq.topic".into(),
                "sensors.*.temp".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        anyhow::Ok(())
    })?;
    let mut mqtt = Mqtt::clean(
        Transport::tcp(server.door("mqtt")),
        MqttVersion::V5,
        "sensor",
    )?;
    for (topic, body) in [
        ("sensors/1/temp", "21"),
        ("sensors/1/hum", "40"),
        ("sensors/2/temp", "22"),
    ] {
        mqtt.publish(topic, body, 1)?;
    }
    wait(async {
        let mut reader = read(&amqp, "telemetry", from(text("first"))).await?;
        let wanted = [(0, "21".to_owned()), (1, "22".to_owned())];
        assert_eq!(nexts(&mut reader, 2).await?, wanted);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
