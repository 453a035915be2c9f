//! Request and reply between any two protocols: every way to ask for an answer, answered in every protocol by who knows nothing
//! but the words of its own.

use std::sync::Arc;

use ::mqtt::codec::{Property, Version as MqttVersion};
use ::stomp::{
    Version as StompVersion,
    codec::{Frame, Verb},
};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use lapin::{
    BasicProperties, Confirmation,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{
    client::{Amqp, Deliveries, Mqtt, Stomp, Transport, wait},
    server::Server,
};

/// How an answer is asked for.
#[derive(Clone, Copy, Debug)]
enum Way {
    MqttTopic,
    MqttQueue,
    AmqpQueue,
    AmqpTopic,
    AmqpDirect,
    StompTemporary,
    StompQueue,
    StompTopic,
}

const WAYS: [Way; 8] = [
    Way::MqttTopic,
    Way::MqttQueue,
    Way::AmqpQueue,
    Way::AmqpTopic,
    Way::AmqpDirect,
    Way::StompTemporary,
    Way::StompQueue,
    Way::StompTopic,
];

/// An id that no text can be; only MQTT can say it.
const BINARY: &[u8] = b"\xff\x00id";
const TEXT: &[u8] = b"id-1";

enum Client {
    Mqtt(Mqtt),
    Amqp(Arc<Amqp>, Deliveries),
    Stomp(Stomp),
}

/// A message, as far as request and reply look at it.
struct Letter {
    body: Vec<u8>,
    id: Vec<u8>,
    reply_to: Option<String>,
}

fn open_mqtt(server: &Server, name: &str) -> anyhow::Result<Mqtt> {
    Mqtt::clean(Transport::tcp(server.door("mqtt")), MqttVersion::V5, name)
}

fn open_amqp(server: &Server) -> anyhow::Result<Arc<Amqp>> {
    Ok(Arc::new(wait(Amqp::open(server.door("amqp")))?))
}

fn open_stomp(server: &Server) -> anyhow::Result<Stomp> {
    Stomp::open(Transport::tcp(server.door("stomp")), StompVersion::V1_2)
}

/// Three services, each reading the queue of its name.
fn services(server: &Server) -> anyhow::Result<[(&'static str, Client); 3]> {
    let mut mqtt = open_mqtt(server, "service")?;
    let code = mqtt.subscribe("$queue/service-mqtt", 1)?;
    ensure!(code == 1, "SUBACK says {code}");
    let amqp = open_amqp(server)?;
    wait(amqp.declare("service-amqp", &[]))?;
    let deliveries = wait(amqp.consume("service-amqp"))?;
    let mut stomp = open_stomp(server)?;
    stomp.subscribe("/queue/service-stomp", "s1", "auto")?;
    Ok([
        ("service-mqtt", Client::Mqtt(mqtt)),
        ("service-amqp", Client::Amqp(amqp, deliveries)),
        ("service-stomp", Client::Stomp(stomp)),
    ])
}

/// Connects, prepares for the answer and asks. Gives who waits, and the id that the answer must bear.
fn ask(server: &Server, way: Way, service: &str) -> anyhow::Result<(Client, &'static [u8])> {
    let place = format!("answers-{way:?}-{service}");
    Ok(match way {
        Way::MqttTopic => ask_mqtt(server, &format!("a.b/{place}"), service)?,
        Way::MqttQueue => ask_mqtt(server, &format!("$queue/{place}"), service)?,
        Way::AmqpQueue | Way::AmqpTopic | Way::AmqpDirect => {
            ask_amqp(server, way, &place, service)?
        }
        Way::StompTemporary => ask_stomp(server, &format!("/temp-queue/{place}"), service)?,
        Way::StompQueue => ask_stomp(server, &format!("/queue/{place}"), service)?,
        Way::StompTopic => ask_stomp(server, &format!("/topic/a%2Eb.{place}"), service)?,
    })
}

fn ask_mqtt(
    server: &Server,
    answers: &str,
    service: &str,
) -> anyhow::Result<(Client, &'static [u8])> {
    let mut client = open_mqtt(server, &format!("asks-{service}-{}", answers.len()))?;
    let code = client.subscribe(answers, 1)?;
    ensure!(code == 1, "SUBACK says {code}");
    let properties = vec![
        Property::ResponseTopic(answers.to_owned().try_into()?),
        Property::CorrelationData(Bytes::from_static(BINARY)),
    ];
    let topic = format!("$queue/{service}");
    let reason = client.publish_with(&topic, "question", 1, false, properties)?;
    ensure!(reason.0 == 0, "PUBACK says {reason:?}");
    Ok((Client::Mqtt(client), BINARY))
}

fn ask_amqp(
    server: &Server,
    way: Way,
    place: &str,
    service: &str,
) -> anyhow::Result<(Client, &'static [u8])> {
    let client = open_amqp(server)?;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let channel = &client.channel;
    let declare = || channel.queue_declare(place.into(), exclusive, FieldTable::default());
    let (reply_to, deliveries) = match way {
        Way::AmqpDirect => {
            let name = "amq.rabbitmq.reply-to";
            let options = BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            };
            (name.to_owned(), wait(client.consume_with(name, options))?)
        }
        Way::AmqpTopic => {
            wait(declare())?;
            let key = format!("a%2Eb.{place}");
            let options = QueueBindOptions::default();
            let table = FieldTable::default();
            let bind = channel.queue_bind(
                place.into(),
                "amq.topic".into(),
                key.as_str().into(),
                options,
                table,
            );
            wait(bind)?;
            (format!("$topic/{key}"), wait(client.consume(place))?)
        }
        _ => {
            wait(declare())?;
            (place.to_owned(), wait(client.consume(place))?)
        }
    };
    let properties = BasicProperties::default()
        .with_reply_to(reply_to.as_str().into())
        .with_correlation_id(std::str::from_utf8(TEXT)?.into());
    let confirmed = wait(client.publish_with("", service, b"question", properties))?;
    ensure!(confirmed == Confirmation::Ack(None), "{confirmed:?}");
    Ok((Client::Amqp(client, deliveries), TEXT))
}

fn ask_stomp(
    server: &Server,
    answers: &str,
    service: &str,
) -> anyhow::Result<(Client, &'static [u8])> {
    let mut client = open_stomp(server)?;
    client.subscribe(answers, "s1", "auto")?;
    client.ask(
        Frame::new(Verb::Send)
            .with("destination", format!("/queue/{service}"))
            .with("reply-to", answers.to_owned())
            .with("correlation-id", TEXT)
            .with_body("question"),
    )?;
    Ok((Client::Stomp(client), TEXT))
}

impl Client {
    fn next(&mut self) -> anyhow::Result<Letter> {
        Ok(match self {
            Self::Mqtt(client) => {
                let publish = client.next()?;
                let mut letter = Letter {
                    body: publish.payload.to_vec(),
                    id: Vec::new(),
                    reply_to: None,
                };
                for property in publish.properties.0 {
                    match property {
                        Property::CorrelationData(id) => letter.id = id.to_vec(),
                        Property::ResponseTopic(topic) => {
                            letter.reply_to = Some(topic.as_str().to_owned());
                        }
                        _ => {}
                    }
                }
                letter
            }
            Self::Amqp(_, deliveries) => {
                let delivery = wait(deliveries.next())?;
                let text = |text: &Option<lapin::types::ShortString>| {
                    text.as_ref().map(|text| text.as_str().to_owned())
                };
                let properties = &delivery.properties;
                Letter {
                    id: text(properties.correlation_id()).unwrap_or_default().into(),
                    reply_to: text(properties.reply_to()),
                    body: delivery.data,
                }
            }
            Self::Stomp(client) => {
                let frame = client.next()?;
                let text = |name: &str| frame.headers.text(name).map(str::to_owned);
                Letter {
                    id: text("correlation-id").unwrap_or_default().into(),
                    reply_to: text("reply-to"),
                    body: frame.body.to_vec(),
                }
            }
        })
    }

    /// Answers as a program of its protocol does: to what the request names, with the id copied.
    fn answer(&mut self, request: &Letter) -> anyhow::Result<()> {
        let to = request
            .reply_to
            .as_deref()
            .context("it asks for an answer")?;
        let body = [&request.body[..], b" answered"].concat();
        match self {
            Self::Mqtt(client) => {
                let id = Property::CorrelationData(request.id.clone().into());
                let reason = client.publish_with(to, body, 1, false, vec![id])?;
                ensure!(reason.0 == 0, "PUBACK says {reason:?}");
            }
            Self::Amqp(client, _) => {
                let id = std::str::from_utf8(&request.id)?;
                let properties = BasicProperties::default().with_correlation_id(id.into());
                let confirmed = wait(client.publish_with("", to, &body, properties))?;
                ensure!(confirmed == Confirmation::Ack(None), "{confirmed:?}");
            }
            Self::Stomp(client) => client.ask(
                Frame::new(Verb::Send)
                    .with("destination", to.to_owned())
                    .with("correlation-id", request.id.clone())
                    .with_body(body),
            )?,
        }
        Ok(())
    }
}

#[test]
fn doors_9_request_and_reply_work_across_any_two_protocols() -> anyhow::Result<()> {
    let server = Server::start();
    for (service, replier) in &mut services(&server)? {
        for way in WAYS {
            let case = || format!("{way:?}, answered by {service}");
            let (mut asker, id) = ask(&server, way, service).with_context(case)?;
            let request = replier.next().with_context(case)?;
            ensure!(request.body == b"question", case());
            replier.answer(&request).with_context(case)?;
            let answer = asker.next().with_context(case)?;
            ensure!(answer.body == b"question answered", case());
            ensure!(answer.id == id, "{}: {:?}", case(), answer.id);
        }
    }
    server.stop();
    Ok(())
}
