//! Every ordered pair of protocols, for topics and for queues: text, all byte values, nothing and 200 kB, with a string
//! property where the protocol has properties.

use std::sync::Arc;

use ::mqtt::codec::{Property, Version as MqttVersion};
use ::stomp::{
    Version as StompVersion,
    codec::{Frame, Verb},
};
use anyhow::{Context as _, ensure};
use lapin::{
    ExchangeKind,
    options::{QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{
    client::{
        Amqp, Deliveries, Mqtt, Stomp, Transport, bodies, persistent, table, text, upgrade, wait,
    },
    server::Server,
};

const NAME: &str = "colour";
const VALUE: &str = "blau: grün, \"rot\"";

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speech {
    Mqtt(MqttVersion),
    Amqp,
    Stomp(StompVersion),
    MqttOverWeb,
    StompOverWeb,
}

const SPEECHES: &[Speech] = &[
    Speech::Mqtt(MqttVersion::V311),
    Speech::Mqtt(MqttVersion::V5),
    Speech::Amqp,
    Speech::Stomp(StompVersion::V1_1),
    Speech::Stomp(StompVersion::V1_2),
    Speech::MqttOverWeb,
    Speech::StompOverWeb,
];

impl Speech {
    fn has_properties(self) -> bool {
        self != Self::Mqtt(MqttVersion::V311)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Topic,
    Queue,
}

enum Client {
    Mqtt(Mqtt),
    Amqp(Arc<Amqp>, Option<Deliveries>),
    Stomp(Stomp),
}

impl Client {
    fn open(server: &Server, speech: Speech, name: &str) -> anyhow::Result<Self> {
        Ok(match speech {
            Speech::Mqtt(version) => {
                let transport = Transport::tcp(server.door("mqtt"));
                Self::Mqtt(Mqtt::clean(transport, version, name)?)
            }
            Speech::MqttOverWeb => {
                let transport = web(server, "/mqtt", "mqtt")?;
                Self::Mqtt(Mqtt::clean(transport, MqttVersion::V5, name)?)
            }
            Speech::Amqp => Self::Amqp(Arc::new(wait(Amqp::open(server.door("amqp")))?), None),
            Speech::Stomp(version) => {
                let transport = Transport::tcp(server.door("stomp"));
                Self::Stomp(Stomp::open(transport, version)?)
            }
            Speech::StompOverWeb => {
                let transport = web(server, "/stomp", "v12.stomp")?;
                Self::Stomp(Stomp::open(transport, StompVersion::V1_2)?)
            }
        })
    }

    fn subscribe(&mut self, kind: Kind, place: &str) -> anyhow::Result<()> {
        match self {
            Self::Mqtt(client) => {
                let code = client.subscribe(&mqtt_name(kind, place), 1)?;
                ensure!(code == 1, "SUBACK says {code}");
            }
            Self::Amqp(client, deliveries) => {
                *deliveries = Some(wait(amqp_subscribe(client, kind, place))?);
            }
            Self::Stomp(client) => client.subscribe(&stomp_name(kind, place), "s1", "auto")?,
        }
        Ok(())
    }

    fn publish(&mut self, kind: Kind, place: &str, body: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Mqtt(client) => {
                let name = mqtt_name(kind, place);
                let property = Property::UserProperty(NAME.into(), VALUE.into());
                let reason = client.publish_with(&name, body.to_vec(), 1, false, vec![property])?;
                ensure!(reason.0 == 0, "PUBACK says {reason:?}");
            }
            Self::Amqp(client, _) => {
                let (exchange, key) = match kind {
                    Kind::Topic => ("amq.topic", format!("cross.{place}")),
                    Kind::Queue => ("", format!("cross-{place}")),
                };
                let properties = persistent().with_headers(table(&[(NAME, text(VALUE))]));
                let confirmed = wait(client.publish_with(exchange, &key, body, properties))?;
                ensure!(
                    confirmed == lapin::Confirmation::Ack(None),
                    "not confirmed: {confirmed:?}"
                );
            }
            Self::Stomp(client) => {
                let frame = Frame::new(Verb::Send)
                    .with("destination", stomp_name(kind, place))
                    .with("persistent", "true")
                    .with(NAME, VALUE)
                    .with_body(body.to_vec());
                client.ask(frame)?;
            }
        }
        Ok(())
    }

    /// The next message: its body, and the property if the protocol has properties and it is there.
    fn next(&mut self) -> anyhow::Result<(Vec<u8>, Option<String>)> {
        match self {
            Self::Mqtt(client) => {
                let publish = client.next()?;
                let value = publish
                    .properties
                    .0
                    .iter()
                    .find_map(|property| match property {
                        Property::UserProperty(name, value) if name.as_str() == NAME => {
                            Some(value.as_str().to_owned())
                        }
                        _ => None,
                    });
                Ok((publish.payload.to_vec(), value))
            }
            Self::Amqp(_, deliveries) => {
                let deliveries = deliveries.as_mut().context("it is subscribed")?;
                let delivery = wait(deliveries.accept())?;
                let headers = delivery.properties.headers().as_ref();
                let value = headers
                    .and_then(|headers| headers.inner().get(NAME))
                    .and_then(|value| value.as_long_string())
                    .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                Ok((delivery.data, value))
            }
            Self::Stomp(client) => {
                let frame = client.next()?;
                let value = frame.headers.text(NAME).map(str::to_owned);
                Ok((frame.body.to_vec(), value))
            }
        }
    }
}

fn web(server: &Server, path: &str, protocol: &str) -> anyhow::Result<Transport> {
    let headers = [("sec-websocket-protocol", protocol)];
    let upgraded = upgrade(server.door("http"), path, &headers)?;
    let (socket, chosen) = upgraded.ok().context("the upgrade is granted")?;
    ensure!(chosen.as_deref() == Some(protocol), "it chose {chosen:?}");
    Ok(Transport::Web {
        socket,
        text: false,
    })
}

async fn amqp_subscribe(client: &Amqp, kind: Kind, place: &str) -> anyhow::Result<Deliveries> {
    if kind == Kind::Queue {
        let queue = format!("cross-{place}");
        client.declare(&queue, &[]).await?;
        return client.consume(&queue).await;
    }
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = client
        .channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?;
    let name = queue.name().clone();
    let key = format!("cross.{place}");
    client
        .channel
        .queue_bind(
            name.clone(),
            "amq.topic".into(),
            key.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    client.consume(name.as_str()).await
}

fn mqtt_name(kind: Kind, place: &str) -> String {
    match kind {
        Kind::Topic => format!("cross/{place}"),
        Kind::Queue => format!("$queue/cross-{place}"),
    }
}

fn stomp_name(kind: Kind, place: &str) -> String {
    match kind {
        Kind::Topic => format!("/topic/cross.{place}"),
        Kind::Queue => format!("/queue/cross-{place}"),
    }
}

/// Every protocol sends to one receiver.
fn cross(server: &Server, to: Speech, kind: Kind) -> anyhow::Result<()> {
    let place = format!("{to:?}-{kind:?}").replace(['(', ')', '_'], "-");
    let mut receiver = Client::open(server, to, "receiver")?;
    receiver.subscribe(kind, &place)?;
    for (number, from) in SPEECHES.iter().copied().enumerate() {
        let mut sender = Client::open(server, from, &format!("sender-{number}"))?;
        for (label, body) in bodies() {
            let case = format!("{from:?} to {to:?}, {kind:?}, {label}");
            sender
                .publish(kind, &place, &body)
                .with_context(|| format!("published: {case}"))?;
            let (got, value) = receiver
                .next()
                .with_context(|| format!("received: {case}"))?;
            ensure!(got == body, "{case}: {} bytes came back", got.len());
            if from.has_properties() && to.has_properties() {
                ensure!(value.as_deref() == Some(VALUE), "{case}: {value:?}");
            }
        }
    }
    Ok(())
}

fn cross_all(kind: Kind) -> anyhow::Result<()> {
    let server = Server::start();
    for to in SPEECHES {
        cross(&server, *to, kind)?;
    }
    server.stop();
    Ok(())
}

/// Over TCP [MQTT-4.2-1], [MQTT3-7.1.1-1], and WebSocket.
#[test]
fn topics_cross_between_all_protocols() -> anyhow::Result<()> {
    cross_all(Kind::Topic)
}

#[test]
fn queues_cross_between_all_protocols() -> anyhow::Result<()> {
    cross_all(Kind::Queue)
}

/// What is persistent reaches MQTT at QoS 1 though 2 was granted, what is not at QoS 0.
#[test]
fn mapping_5_3_durable_messages_reach_mqtt_at_least_once() -> anyhow::Result<()> {
    let server = Server::start();
    let mut receiver = Mqtt::clean(Transport::tcp(server.door("mqtt")), MqttVersion::V5, "r")?;
    ensure!(receiver.subscribe("cross/durable", 2)? == 2, "granted");
    let amqp = wait(Amqp::open(server.door("amqp")))?;
    let mut stomp = Stomp::open(Transport::tcp(server.door("stomp")), StompVersion::V1_2)?;
    for (durable, qos) in [(true, 1), (false, 0)] {
        let mode = if durable { 2 } else { 1 };
        let properties = lapin::BasicProperties::default().with_delivery_mode(mode);
        wait(amqp.publish_with("amq.topic", "cross.durable", b"amqp", properties))?;
        let got = receiver.next()?;
        assert_eq!((&got.payload[..], got.qos), (&b"amqp"[..], qos));
        stomp.ask(
            Frame::new(Verb::Send)
                .with("destination", "/topic/cross.durable")
                .with("persistent", if durable { "true" } else { "false" })
                .with_body("stomp"),
        )?;
        let got = receiver.next()?;
        assert_eq!((&got.payload[..], got.qos), (&b"stomp"[..], qos));
    }
    server.stop();
    Ok(())
}

#[test]
fn an_exchange_of_ones_own_is_reached_from_stomp() -> anyhow::Result<()> {
    let server = Server::start();
    let mut stomp = Stomp::open(Transport::tcp(server.door("stomp")), StompVersion::V1_2)?;
    let amqp = wait(Amqp::open(server.door("amqp")))?;
    wait(async {
        let channel = &amqp.channel;
        let options = Default::default();
        channel
            .exchange_declare(
                "own".into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await?;
        amqp.declare("from-own", &[]).await?;
        channel
            .queue_bind(
                "from-own".into(),
                "own".into(),
                "a.*".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        anyhow::Ok(())
    })?;
    stomp.publish("/exchange/own/a.b", "through it")?;
    let got = wait(amqp.get("from-own"))?.context("the queue took it")?;
    assert_eq!(got.data, b"through it");
    assert_eq!(
        (got.exchange.as_str(), got.routing_key.as_str()),
        ("own", "a.b")
    );
    stomp.subscribe("/exchange/own/a.#", "s1", "auto")?;
    wait(amqp.publish("own", "a.c.d", b"and back"))
        .context("the subscription of STOMP takes it")?;
    assert_eq!(stomp.next()?.body, "and back");
    server.stop();
    Ok(())
}
