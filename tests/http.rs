//! The HTTP port: health, metrics, and WebSocket: which protocol is spoken, and who may come.

use std::collections::BTreeSet;

use ::mqtt::codec::Version as MqttVersion;
use ::stomp::Version as StompVersion;
use anyhow::Context as _;

use crate::{
    client::{AmqpFrames, Mqtt, Stomp, Transport, get, upgrade},
    server::Server,
};

#[test]
fn health_and_metrics_answer() -> anyhow::Result<()> {
    let server = Server::start();
    let http = server.door("http");
    assert_eq!(get(http, "/health/live")?.0, 200);
    assert_eq!(get(http, "/health/ready")?.0, 200);
    assert_eq!(get(http, "/nothing")?.0, 404);
    let mut client = Mqtt::clean(Transport::tcp(server.door("mqtt")), MqttVersion::V5, "one")?;
    client.subscribe("counted", 1)?;
    client.publish("counted", "1", 1)?;
    client.next()?;
    let (status, text) = get(http, "/metrics")?;
    assert_eq!(status, 200);
    let mut samples = 0;
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (name, value) = line.rsplit_once(' ').context("a sample has a value")?;
        assert!(name.starts_with("bascule_"), "{line}");
        value.parse::<f64>().with_context(|| line.to_owned())?;
        samples += 1;
    }
    assert!(samples > 10, "{text}");
    // One name, one meaning: a second TYPE line makes readers of this format refuse all of it.
    let mut typed = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        assert!(typed.insert(line.split(" ").nth(2)), "twice: {line}");
    }
    server.stop();
    Ok(())
}

/// Names and values.
type Headers<'a> = &'a [(&'static str, &'a str)];

fn web(
    server: &Server,
    path: &str,
    headers: &[(&'static str, &str)],
    text: bool,
) -> anyhow::Result<(Transport, Option<String>)> {
    let (socket, chosen) = upgrade(server.door("http"), path, headers)?
        .ok()
        .context("the upgrade is granted")?;
    Ok((Transport::Web { socket, text }, chosen))
}

/// [MQTT-6.0.0-4], [MQTT3-6.0.0-4].
#[test]
fn doors_28_the_protocol_is_named_or_recognised() -> anyhow::Result<()> {
    let server = Server::start();
    let name = "sec-websocket-protocol";
    // By subprotocol, the highest version that is offered; by path; by the first bytes.
    let offers: [(&str, Headers<'_>, Option<&str>); 6] = [
        (
            "/ws",
            &[(name, "v10.stomp, v12.stomp, v11.stomp")],
            Some("v12.stomp"),
        ),
        ("/", &[(name, "v11.stomp")], Some("v11.stomp")),
        ("/stomp", &[], None),
        ("/ws", &[], None),
        ("/ws", &[(name, "mqtt")], Some("mqtt")),
        ("/ws", &[(name, "chat, mqtt")], Some("mqtt")),
    ];
    for (number, (path, headers, expected)) in offers.into_iter().enumerate() {
        let stomp = expected.is_none_or(|protocol| protocol.ends_with("stomp"));
        let (transport, chosen) = web(&server, path, headers, stomp)?;
        assert_eq!(chosen.as_deref(), expected);
        if !stomp {
            let mut client = Mqtt::clean(transport, MqttVersion::V311, "web")?;
            client.subscribe("web", 1)?;
            client.publish("web", "hello", 1)?;
            assert_eq!(client.next()?.payload, "hello");
        } else {
            let mut client = Stomp::open(transport, StompVersion::V1_1)?;
            let queue = format!("/queue/web-{number}");
            client.publish(&queue, "héllo")?;
            client.subscribe(&queue, "s1", "auto")?;
            assert_eq!(client.next()?.body, "héllo");
        }
    }
    // MQTT and AMQP by their first bytes.
    let (transport, _) = web(&server, "/ws", &[], false)?;
    let mut client = Mqtt::clean(transport, MqttVersion::V5, "sniffed")?;
    client.ping()?;
    let (transport, _) = web(&server, "/ws", &[], false)?;
    AmqpFrames::open(transport)?;
    let (transport, chosen) = web(&server, "/amqp", &[(name, "amqp")], false)?;
    assert_eq!(chosen.as_deref(), Some("amqp"));
    AmqpFrames::open(transport)?;
    server.stop();
    Ok(())
}

#[test]
fn doors_28_a_stranger_s_page_is_refused() -> anyhow::Result<()> {
    let server = Server::start_with(&["websocket.origins=[\"https://shop.example\"]"]);
    let http = server.door("http");
    let refusal = |path: &str, headers: &[(&'static str, &str)]| -> anyhow::Result<Option<u16>> {
        Ok(upgrade(http, path, headers)?.err())
    };
    assert_eq!(
        refusal("/mqtt", &[("origin", "https://evil.example")])?,
        Some(403)
    );
    assert_eq!(
        refusal("/mqtt", &[("origin", "https://shop.example")])?,
        None
    );
    assert_eq!(refusal("/mqtt", &[])?, None, "a program names no origin");
    assert_eq!(
        refusal("/mqtt", &[("sec-websocket-protocol", "chat")])?,
        Some(400)
    );
    assert_eq!(
        refusal("/mqtt", &[("sec-websocket-protocol", "v12.stomp")])?,
        Some(400)
    );
    assert_eq!(refusal("/elsewhere", &[])?, Some(404));
    server.stop();

    // Without a list: pages of this machine only.
    let server = Server::start();
    let http = server.door("http");
    let own = format!("http://{http}");
    for (origin, refused) in [
        ("https://evil.example", true),
        ("null", true),
        (&own, false),
        ("http://localhost:8080", false),
    ] {
        let answer = upgrade(http, "/ws", &[("origin", origin)])?;
        assert_eq!(answer.is_err(), refused, "{origin}");
    }
    server.stop();
    Ok(())
}
