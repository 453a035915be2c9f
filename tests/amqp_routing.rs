//! Exchanges of all four types, bindings between them, alternate exchanges, returns.

use lapin::{
    Channel, Confirmation, ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    client::{Amqp, persistent, table, text, wait},
    server::Server,
};

async fn exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    arguments: &[(&str, AMQPValue)],
) -> anyhow::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, options, table(arguments))
        .await?;
    Ok(())
}

/// A queue that is bound to an exchange.
async fn bound(
    client: &Amqp,
    queue: &str,
    exchange: &str,
    key: &str,
    arguments: FieldTable,
) -> anyhow::Result<()> {
    client.declare(queue, &[]).await?;
    let options = QueueBindOptions::default();
    client
        .channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            options,
            arguments,
        )
        .await?;
    Ok(())
}

/// What the queues hold, in the order of their names given; they are empty afterwards.
async fn contents(client: &Amqp, queues: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for queue in queues {
        let mut bodies = Vec::new();
        while let Some(delivery) = client.get(queue).await? {
            bodies.push(String::from_utf8(delivery.data)?);
        }
        all.push(bodies.join(" "));
    }
    Ok(all)
}

/// [AMQP-exchange.required-types], [AMQP-exchange.recommended-types], [AMQP-exchange.declare.durable.support],
/// [AMQP-queue.bind.durable-exchange], [AMQP-queue.bind.routing-key.direct-exchange-key-matching]
#[test]
fn exchanges_of_all_types_route_before_and_after_a_crash() -> anyhow::Result<()> {
    let server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        for (name, kind) in [
            ("direct", ExchangeKind::Direct),
            ("fanout", ExchangeKind::Fanout),
            ("topic", ExchangeKind::Topic),
            ("headers", ExchangeKind::Headers),
        ] {
            exchange(&client.channel, name, kind, &[]).await?;
        }
        let none = FieldTable::default;
        bound(&client, "d1", "direct", "red", none()).await?;
        bound(&client, "d2", "direct", "blue", none()).await?;
        bound(&client, "f1", "fanout", "", none()).await?;
        bound(&client, "f2", "fanout", "ignored", none()).await?;
        bound(&client, "t1", "topic", "a.*.c", none()).await?;
        bound(&client, "t2", "topic", "a.#", none()).await?;
        let all = table(&[
            ("x-match", text("all")),
            ("size", text("big")),
            ("hot", AMQPValue::Boolean(true)),
        ]);
        bound(&client, "h1", "headers", "", all).await?;
        let any = table(&[
            ("x-match", text("any")),
            ("size", text("big")),
            ("hot", AMQPValue::Boolean(true)),
        ]);
        bound(&client, "h2", "headers", "", any).await?;
        routes(&client).await
    })?;
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        routes(&client).await
    })?;
    server.stop();
    Ok(())
}

async fn routes(client: &Amqp) -> anyhow::Result<()> {
    client.publish("direct", "red", b"1").await?;
    client.publish("direct", "blue", b"2").await?;
    assert_eq!(contents(client, &["d1", "d2"]).await?, ["1", "2"]);

    client.publish("fanout", "whatever", b"3").await?;
    assert_eq!(contents(client, &["f1", "f2"]).await?, ["3", "3"]);

    client.publish("topic", "a.b.c", b"4").await?;
    client.publish("topic", "a", b"5").await?;
    client.publish("topic", "a.b", b"6").await?;
    assert_eq!(contents(client, &["t1", "t2"]).await?, ["4", "4 5 6"]);

    let both = table(&[("size", text("big")), ("hot", AMQPValue::Boolean(true))]);
    let one = table(&[("size", text("big")), ("hot", AMQPValue::Boolean(false))]);
    for (body, headers) in [("7", both), ("8", one)] {
        let properties = persistent().with_headers(headers);
        let confirmed = client
            .publish_with("headers", "", body.as_bytes(), properties)
            .await?;
        assert_eq!(confirmed, Confirmation::Ack(None));
    }
    assert_eq!(contents(client, &["h1", "h2"]).await?, ["7", "7 8"]);
    Ok(())
}

/// [RABBIT-exchange-bindings-1], [RABBIT-alternate-1]
#[test]
fn exchanges_bound_to_exchanges_and_alternates() -> anyhow::Result<()> {
    let server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        let channel = &client.channel;
        exchange(channel, "rest", ExchangeKind::Fanout, &[]).await?;
        let alternate = [("alternate-exchange", text("rest"))];
        exchange(channel, "front", ExchangeKind::Topic, &alternate).await?;
        exchange(channel, "back", ExchangeKind::Direct, &[]).await?;
        let options = ExchangeBindOptions::default();
        channel
            .exchange_bind(
                "back".into(),
                "front".into(),
                "go.#".into(),
                options,
                FieldTable::default(),
            )
            .await?;
        bound(&client, "there", "back", "go.there", FieldTable::default()).await?;
        bound(&client, "other", "rest", "", FieldTable::default()).await?;
        client.publish("front", "go.there", b"1").await?;
        client.publish("front", "stay", b"2").await?;
        assert_eq!(contents(&client, &["there", "other"]).await?, ["1", "2"]);
        // As in RabbitMQ the alternate is for what the exchange itself does not route: an exchange behind it counts.
        let confirmed = client
            .publish_with("front", "go.nowhere", b"3", persistent())
            .await?;
        assert!(confirmed.take_message().is_some(), "it is returned");
        assert_eq!(contents(&client, &["there", "other"]).await?, ["", ""]);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn doors_17_what_nothing_takes_is_returned_and_then_confirmed() -> anyhow::Result<()> {
    let server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        let confirmed = client
            .publish_with("", "no-such-queue", b"lost", persistent())
            .await?;
        assert!(confirmed.is_ack());
        let returned = confirmed.take_message().expect("it is returned");
        assert_eq!(returned.reply_code, 312);
        assert_eq!(returned.data, b"lost");
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn an_unequal_declaration_ends_only_its_channel() -> anyhow::Result<()> {
    let server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client
            .declare("fixed", &[("x-max-length", AMQPValue::LongInt(5))])
            .await?;
        let second = client.connection.create_channel().await?;
        let refused = second
            .queue_declare(
                "fixed".into(),
                crate::client::durable(),
                FieldTable::default(),
            )
            .await
            .expect_err("the arguments differ");
        let words = refused.to_string();
        assert!(words.contains("PRECONDITION"), "{words}");
        client.publish("", "fixed", b"goes on").await?;
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
