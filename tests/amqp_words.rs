//! What AMQP clients are told when they ask for what cannot be: code, text and method, channel by channel, as RabbitMQ's users know them.

use ::stomp::Version;
use amqp091::codec::{
    BasicProperties, Frame, Method, Short, basic, channel, encode_header, exchange, queue,
};
use anyhow::{Context as _, bail};
use bytes::BytesMut;
use message::{Properties, Value};

use crate::{
    client::{AmqpFrames, Stomp, Transport},
    server::Server,
};

fn with_client(
    work: impl FnOnce(&Server, &mut AmqpFrames) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let server = Server::start();
    let mut client = AmqpFrames::open(Transport::tcp(server.door("amqp")))?;
    work(&server, &mut client)?;
    server.stop();
    Ok(())
}

fn table(rows: &[(&'static str, Value)]) -> Properties {
    let mut table = Properties::default();
    for (name, value) in rows {
        table.push(*name, value.clone());
    }
    table
}

fn durable(name: &str, rows: &[(&'static str, Value)]) -> queue::Declare {
    queue::Declare {
        queue: Short::cut(name.to_owned()),
        durable: true,
        arguments: table(rows),
        ..queue::Declare::default()
    }
}

impl AmqpFrames {
    /// Says something on channel 1 that is answered by that method.
    fn asks(&mut self, method: impl Into<Method>, answer: &str) -> anyhow::Result<()> {
        self.say(1, method)?;
        let method = self.method()?;
        anyhow::ensure!(method.name() == answer, "{method:?} in place of {answer}");
        Ok(())
    }

    /// The channel is closed, and opened again; code and text.
    fn closed(&mut self) -> anyhow::Result<(u16, String)> {
        let close = match self.method()? {
            Method::ChannelClose(close) => close,
            other => bail!("{other:?} in place of channel.close"),
        };
        self.say(1, channel::CloseOk {})?;
        self.asks(channel::Open::default(), "channel.open-ok")?;
        Ok((close.reply_code, close.reply_text.to_string()))
    }

    fn is_refused(&mut self, method: impl Into<Method>) -> anyhow::Result<(u16, String)> {
        self.say(1, method)?;
        self.closed()
    }

    /// Publishes without confirmation.
    fn publishes(&mut self, exchange: &str, key: &str, body: &[u8]) -> anyhow::Result<()> {
        let method = basic::Publish {
            exchange: Short::cut(exchange.to_owned()),
            routing_key: Short::cut(key.to_owned()),
            ..basic::Publish::default()
        };
        self.say(1, method)?;
        let mut out = BytesMut::new();
        let properties = BasicProperties::default().to_bytes();
        encode_header(&mut out, 1, 60, body.len() as u64, &properties);
        let body = bytes::Bytes::copy_from_slice(body);
        Frame::Body { channel: 1, body }.encode(&mut out);
        self.bytes(&out)
    }
}

#[test]
fn a_redeclaration_names_the_argument_and_both_values() -> anyhow::Result<()> {
    with_client(|_, client| {
        client.asks(
            durable("jobs", &[("x-max-length", Value::I32(10))]),
            "queue.declare-ok",
        )?;
        for (again, text) in [
            (
                queue::Declare {
                    durable: false,
                    ..durable("jobs", &[("x-max-length", Value::I32(10))])
                },
                "inequivalent arg 'durable' for queue 'jobs' in vhost '/': received 'false' but current is 'true'",
            ),
            (
                durable("jobs", &[("x-max-length", Value::I64(11))]),
                "inequivalent arg 'x-max-length' for queue 'jobs' in vhost '/': received '11' but current is '10'",
            ),
            (
                durable("jobs", &[]),
                "inequivalent arg 'x-max-length' for queue 'jobs' in vhost '/': received none but current is the value '10' of type 'long'",
            ),
        ] {
            let said = client.is_refused(again)?;
            assert_eq!(said, (406, format!("PRECONDITION_FAILED - {text}")));
        }
        let exclusive = queue::Declare {
            exclusive: true,
            ..durable("jobs", &[])
        };
        assert_eq!(client.is_refused(exclusive)?.0, 405, "resource-locked");
        // An integer of another width is the same argument.
        client.asks(
            durable("jobs", &[("x-max-length", Value::U8(10))]),
            "queue.declare-ok",
        )?;

        let topic = exchange::Declare {
            exchange: "amq.topic".into(),
            kind: "topic".into(),
            ..exchange::Declare::default()
        };
        let (code, text) = client.is_refused(topic)?;
        assert_eq!(code, 406);
        assert_eq!(
            text,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'amq.topic' in vhost '/': received 'false' but current is 'true'"
        );
        let other = exchange::Declare {
            exchange: "amq.direct".into(),
            kind: "fanout".into(),
            durable: true,
            ..exchange::Declare::default()
        };
        let (_, text) = client.is_refused(other)?;
        assert!(
            text.contains("'type'") && text.ends_with("received 'fanout' but current is 'direct'"),
            "{text}"
        );
        Ok(())
    })
}

#[test]
fn a_queue_of_another_door_is_what_it_is() -> anyhow::Result<()> {
    with_client(|server, client| {
        let mut stomp = Stomp::open(Transport::tcp(server.door("stomp")), Version::V1_2)?;
        stomp.publish("/queue/theirs", "x")?;
        let auto_delete = queue::Declare {
            auto_delete: true,
            ..durable("theirs", &[])
        };
        let said = "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'theirs' in vhost '/': received 'true' but current is 'false'";
        assert_eq!(client.is_refused(auto_delete)?, (406, said.to_owned()));
        client.asks(durable("theirs", &[]), "queue.declare-ok")?;
        Ok(())
    })
}

#[test]
fn an_unconfirmed_publish_that_cannot_be_closes_the_channel() -> anyhow::Result<()> {
    with_client(|_, client| {
        client.publishes("nowhere", "k", b"lost")?;
        let said = client.closed()?;
        assert_eq!(
            said,
            (
                404,
                "NOT_FOUND - no exchange 'nowhere' in vhost '/'".to_owned()
            )
        );
        let inner = exchange::Declare {
            exchange: "inner".into(),
            kind: "fanout".into(),
            internal: true,
            ..exchange::Declare::default()
        };
        client.asks(inner, "exchange.declare-ok")?;
        client.publishes("inner", "k", b"lost")?;
        let said = client.closed()?;
        assert_eq!(
            said,
            (
                403,
                "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'"
                    .to_owned()
            )
        );
        // A full queue drops without a word, as nobody asked for one.
        let full = [
            ("x-max-length", Value::I32(0)),
            ("x-overflow", Value::text("reject-publish")),
        ];
        client.asks(durable("full", &full), "queue.declare-ok")?;
        client.publishes("", "full", b"dropped")?;
        client.asks(durable("full", &full), "queue.declare-ok")?;
        Ok(())
    })
}

#[test]
fn a_binding_to_a_headers_exchange_goes_as_it_came() -> anyhow::Result<()> {
    with_client(|_, client| {
        client.asks(durable("jobs", &[]), "queue.declare-ok")?;
        let headers = exchange::Declare {
            exchange: "by-colour".into(),
            kind: "headers".into(),
            auto_delete: true,
            ..exchange::Declare::default()
        };
        client.asks(headers, "exchange.declare-ok")?;
        let bind = queue::Bind {
            queue: "jobs".into(),
            exchange: "by-colour".into(),
            arguments: table(&[("colour", Value::text("red"))]),
            ..queue::Bind::default()
        };
        client.asks(bind, "queue.bind-ok")?;
        let unbind = queue::Unbind {
            queue: "jobs".into(),
            exchange: "by-colour".into(),
            arguments: table(&[("colour", Value::text("red"))]),
            ..queue::Unbind::default()
        };
        client.asks(unbind, "queue.unbind-ok")?;
        // It was the last one, so the exchange has gone with it.
        let look = exchange::Declare {
            exchange: "by-colour".into(),
            passive: true,
            ..exchange::Declare::default()
        };
        assert_eq!(client.is_refused(look)?.0, 404);
        Ok(())
    })
}

#[test]
fn an_exclusive_queue_is_locked_to_others_and_goes_with_its_connection() -> anyhow::Result<()> {
    with_client(|server, client| {
        let mut owner = AmqpFrames::open(Transport::tcp(server.door("amqp")))?;
        let mine = queue::Declare {
            queue: "mine".into(),
            exclusive: true,
            ..queue::Declare::default()
        };
        owner.asks(mine.clone(), "queue.declare-ok")?;
        let consume = basic::Consume {
            queue: "mine".into(),
            ..basic::Consume::default()
        };
        let get = basic::Get {
            queue: "mine".into(),
            ..basic::Get::default()
        };
        let passive = queue::Declare {
            queue: "mine".into(),
            passive: true,
            ..queue::Declare::default()
        };
        let purge = queue::Purge {
            queue: "mine".into(),
            ..queue::Purge::default()
        };
        for refused in [
            Method::from(mine),
            consume.into(),
            get.into(),
            passive.clone().into(),
            purge.into(),
        ] {
            let (code, text) = client.is_refused(refused)?;
            assert_eq!(code, 405);
            assert!(
                text.contains("cannot obtain exclusive access to locked queue 'mine'"),
                "{text}"
            );
        }
        owner.say(0, amqp091::codec::connection::Close::default())?;
        let end = owner.method()?;
        assert_eq!(end.name(), "connection.close-ok");
        anyhow::ensure!(owner.frame_or_end()?.is_none(), "and the end");
        let (code, _) = client.is_refused(passive)?;
        assert_eq!(code, 404);
        Ok(())
    })
}

#[test]
fn consumers_are_told_when_their_queue_goes_and_basic_get_in_all_its_cases() -> anyhow::Result<()> {
    with_client(|_, client| {
        client.asks(durable("jobs", &[]), "queue.declare-ok")?;
        let get = |no_ack| basic::Get {
            queue: "jobs".into(),
            no_ack,
            ..basic::Get::default()
        };
        client.asks(get(false), "basic.get-empty")?;
        client.publishes("", "jobs", b"one")?;
        client.say(1, get(false))?;
        let Method::BasicGetOk(got) = client.method()? else {
            bail!("there is one");
        };
        assert_eq!((got.delivery_tag, got.message_count), (1, 0));
        client.frame_or_end()?.context("its header")?;
        client.frame_or_end()?.context("its body")?;
        let unknown = basic::Ack {
            delivery_tag: 7,
            multiple: false,
        };
        let said = client.is_refused(unknown)?;
        assert_eq!(
            said,
            (
                406,
                "PRECONDITION_FAILED - unknown delivery tag 7".to_owned()
            )
        );
        // The channel's end gave it back.
        client.say(1, get(true))?;
        let Method::BasicGetOk(got) = client.method()? else {
            bail!("it is back");
        };
        assert!(got.redelivered);
        client.frame_or_end()?.context("its header")?;
        client.frame_or_end()?.context("its body")?;
        client.asks(get(false), "basic.get-empty")?;
        let missing = basic::Get {
            queue: "nowhere".into(),
            ..basic::Get::default()
        };
        assert_eq!(client.is_refused(missing)?.0, 404);
        Ok(())
    })
}

/// [RABBIT-reply-to-1]: who is asked looks for the asker by a passive declaration, from another connection.
#[test]
fn the_asked_sees_whether_the_asker_still_listens() -> anyhow::Result<()> {
    with_client(|server, client| {
        let mut asker = AmqpFrames::open(Transport::tcp(server.door("amqp")))?;
        let pseudo = "amq.rabbitmq.reply-to";
        let consume = basic::Consume {
            queue: pseudo.into(),
            no_ack: true,
            ..basic::Consume::default()
        };
        asker.asks(consume, "basic.consume-ok")?;
        client.asks(durable("requests", &[]), "queue.declare-ok")?;
        let properties = BasicProperties {
            reply_to: Some(pseudo.into()),
            ..BasicProperties::default()
        };
        let method = basic::Publish {
            routing_key: "requests".into(),
            ..basic::Publish::default()
        };
        asker.say(1, method)?;
        let mut out = BytesMut::new();
        encode_header(&mut out, 1, 60, 0, &properties.to_bytes());
        asker.bytes(&out)?;
        // An answer of the server behind the publish: it has arrived.
        asker.asks(durable("requests", &[]), "queue.declare-ok")?;
        let get = basic::Get {
            queue: "requests".into(),
            no_ack: true,
            ..basic::Get::default()
        };
        client.asks(get, "basic.get-ok")?;
        let Some(Frame::Header { header, .. }) = client.frame_or_end()? else {
            bail!("a header follows");
        };
        let properties = BasicProperties::decode(header.properties)?;
        let passive = |queue: &Short| queue::Declare {
            queue: queue.clone(),
            passive: true,
            ..queue::Declare::default()
        };
        let reply_to = properties.reply_to.context("it says where to")?;
        assert_ne!(&reply_to[..], pseudo.as_bytes());
        for name in [&reply_to, &Short::from(pseudo)] {
            client.say(1, passive(name))?;
            let Method::QueueDeclareOk(found) = client.method()? else {
                bail!("{name} is there");
            };
            assert_eq!((&found.queue, found.consumer_count), (name, 1));
        }
        asker.say(0, amqp091::codec::connection::Close::default())?;
        let end = asker.method()?;
        assert_eq!(end.name(), "connection.close-ok");
        anyhow::ensure!(asker.frame_or_end()?.is_none(), "and the end");
        assert_eq!(client.is_refused(passive(&reply_to))?.0, 404);
        Ok(())
    })
}

/// [AMQP-queue.unbind.queue.must-exist], [AMQP-queue.unbind.exchange.must-exist]
#[test]
fn unbinding_what_is_not_there_succeeds() -> anyhow::Result<()> {
    with_client(|_, client| {
        client.asks(durable("jobs", &[]), "queue.declare-ok")?;
        for (queue, exchange) in [
            ("jobs", "amq.direct"),
            ("nowhere", "amq.direct"),
            ("jobs", "nowhere"),
        ] {
            let unbind = queue::Unbind {
                queue: queue.into(),
                exchange: exchange.into(),
                routing_key: "k".into(),
                ..queue::Unbind::default()
            };
            client.asks(unbind, "queue.unbind-ok")?;
        }
        let unbind = exchange::Unbind {
            destination: "nowhere".into(),
            source: "amq.direct".into(),
            ..exchange::Unbind::default()
        };
        client.asks(unbind, "exchange.unbind-ok")
    })
}
