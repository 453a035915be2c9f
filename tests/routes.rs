//! Configured routes: what MQTT and AMQP publish comes into queues and streams, from the start on, after SIGHUP, after a crash.

use ::mqtt::codec::{ReasonCode, Version as MqttVersion};
use ::stomp::{
    Version as StompVersion,
    codec::{Frame, Verb},
};
use anyhow::ensure;
use lapin::{
    options::{BasicConsumeOptions, BasicQosOptions},
    types::AMQPValue,
};

use crate::{
    client::{Amqp, Mqtt, Stomp, Transport, table, text, wait},
    server::Server,
};

const TELEMETRY: &str = r#"
[[routes]]
from = "sensors/+/temp"
to = "stream:telemetry"
key = "{1}"
"#;
const JOBS: &str = r#"
[[routes]]
from = "sensors/#"
to = "queue:jobs"
"#;

fn mqtt(server: &Server) -> anyhow::Result<Mqtt> {
    let transport = Transport::tcp(server.door("mqtt"));
    Mqtt::clean(transport, MqttVersion::V5, "sensor")
}

async fn bodies(client: &Amqp, queue: &str) -> anyhow::Result<Vec<String>> {
    let mut bodies = Vec::new();
    while let Some(delivery) = client.get(queue).await? {
        bodies.push(String::from_utf8(delivery.data)?);
    }
    Ok(bodies)
}

/// The records of a stream, from the first on.
async fn records(client: &Amqp, stream: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let prefetch = BasicQosOptions::default();
    client.channel.basic_qos(10, prefetch).await?;
    let first = table(&[("x-stream-offset", text("first"))]);
    let mut deliveries = client
        .consume_from(stream, BasicConsumeOptions::default(), first)
        .await?;
    let mut bodies = Vec::new();
    for _ in 0..count {
        bodies.push(String::from_utf8(deliveries.accept().await?.data)?);
    }
    Ok(bodies)
}

/// The partition keys of the records of a stream, from the first on, as their reader is shown them.
async fn keys(client: &Amqp, stream: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let first = table(&[("x-stream-offset", text("first"))]);
    let mut deliveries = client
        .consume_from(stream, BasicConsumeOptions::default(), first)
        .await?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let delivery = deliveries.accept().await?;
        let headers = delivery.properties.headers().clone().unwrap_or_default();
        let key = headers.inner().get("x-group-id").cloned();
        keys.push(match key {
            Some(AMQPValue::LongString(key)) => key.to_string(),
            other => format!("{other:?}"),
        });
    }
    Ok(keys)
}

#[test]
fn what_mqtt_publishes_comes_into_queues_and_streams() -> anyhow::Result<()> {
    let server = Server::start_with_file(&format!("{TELEMETRY}{JOBS}"));
    let mut sensor = mqtt(&server)?;
    ensure!(
        sensor.publish("sensors/7/temp", "21", 1)? == ReasonCode::SUCCESS,
        "a route is somebody who reads"
    );
    sensor.publish("sensors/7/humidity", "40", 1)?;
    ensure!(sensor.publish("others/7/temp", "no", 1)? == ReasonCode::NO_MATCHING_SUBSCRIBERS);
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.publish("amq.topic", "sensors.8.temp", b"22").await?;
        let stream = [("x-queue-type", AMQPValue::LongString("stream".into()))];
        ensure!(
            client.declare("telemetry", &stream).await? == 2,
            "two records"
        );
        ensure!(records(&client, "telemetry", 2).await? == ["21", "22"]);
        ensure!(keys(&client, "telemetry", 2).await? == ["7", "8"]);
        anyhow::Ok(())
    })?;
    // Confirmed is stored: nothing of it is lost, and the routes are there once.
    let server = server.restart();
    let mut sensor = mqtt(&server)?;
    sensor.publish("sensors/9/temp", "23", 1)?;
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        ensure!(bodies(&client, "jobs").await? == ["21", "40", "22", "23"]);
        ensure!(records(&client, "telemetry", 3).await? == ["21", "22", "23"]);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn the_key_of_a_route_is_what_stomp_publishes_by_and_is_shown() -> anyhow::Result<()> {
    let server = Server::start_with_file(&format!("{TELEMETRY}{JOBS}"));
    let mut stomp = Stomp::open(Transport::tcp(server.door("stomp")), StompVersion::V1_2)?;
    for (topic, body) in [
        ("sensors.7.temp", "21"),
        ("sensors.7.humidity", "40"),
        // What STOMP writes as %2E is a dot in the level, and in the key.
        ("sensors.a%2Eb.temp", "22"),
    ] {
        stomp.ask(
            Frame::new(Verb::Send)
                .with("destination", format!("/topic/{topic}"))
                .with("JMSXGroupID", "not the key")
                .with_body(body),
        )?;
    }
    stomp.ask(
        Frame::new(Verb::Subscribe)
            .with("destination", "/stream/telemetry")
            .with("id", "telemetry")
            .with("ack", "client-individual")
            .with("x-stream-offset", "first"),
    )?;
    let mut shown = Vec::new();
    for _ in 0..2 {
        let message = stomp.next()?;
        let key = message.headers.text("JMSXGroupID").map(ToOwned::to_owned);
        shown.push((key, String::from_utf8(message.body.to_vec())?));
        stomp.settle(Verb::Ack, &message)?;
    }
    let of = |key: &str, body: &str| (Some(key.to_owned()), body.to_owned());
    ensure!(shown == [of("7", "21"), of("a.b", "22")], "{shown:?}");
    // A queue has no key: what the publisher said stays.
    stomp.subscribe("/queue/jobs", "jobs", "client-individual")?;
    for body in ["21", "40", "22"] {
        let message = stomp.next()?;
        ensure!(message.body == body.as_bytes(), "{message:?}, not {body}");
        ensure!(message.headers.text("JMSXGroupID") == Some("not the key"));
        stomp.settle(Verb::Ack, &message)?;
    }
    server.stop();
    Ok(())
}

#[test]
fn sighup_takes_routes_up_and_lets_them_go() -> anyhow::Result<()> {
    let server = Server::start_with_file(JOBS);
    let mut sensor = mqtt(&server)?;
    sensor.publish("sensors/7/temp", "1", 1)?;
    server.reload(TELEMETRY);
    sensor.publish("sensors/7/temp", "2", 1)?;
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        ensure!(
            bodies(&client, "jobs").await? == ["1"],
            "its route is gone, it is not"
        );
        ensure!(records(&client, "telemetry", 1).await? == ["2"]);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
