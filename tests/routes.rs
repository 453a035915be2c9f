//! Configured routes: what MQTT and AMQP publish comes into queues and streams, from the start on, after SIGHUP, after a crash.

use ::mqtt::codec::{ReasonCode, Version as MqttVersion};
use anyhow::ensure;
use lapin::{
    options::{BasicConsumeOptions, BasicQosOptions},
    types::AMQPValue,
};

use crate::{
    client::{Amqp, Mqtt, Transport, table, text, wait},
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
