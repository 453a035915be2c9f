//! AMQP queues: dead letters, time to live, priority, overflow, `basic.get`, transactions, direct reply.

use anyhow::Context as _;
use lapin::{
    BasicProperties, Confirmation,
    options::{
        BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
        BasicRejectOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::{
    client::{Amqp, persistent, text, wait},
    server::Server,
};

fn on_server(work: impl AsyncFnOnce(&Amqp) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        work(&client).await
    })?;
    server.stop();
    Ok(())
}

/// The newest entry of `x-death`.
fn death(properties: &BasicProperties) -> anyhow::Result<FieldTable> {
    let headers = properties.headers().as_ref().context("it has headers")?;
    let deaths = headers.inner().get("x-death").context("it has x-death")?;
    let deaths = deaths.as_array().context("x-death is an array")?;
    let newest = deaths.as_slice().first().context("x-death has an entry")?;
    newest
        .as_field_table()
        .cloned()
        .context("an entry is a table")
}

fn words(table: &FieldTable, name: &str) -> String {
    table
        .inner()
        .get(name)
        .and_then(|value| value.as_long_string())
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}

const TO_DEAD: &str = "x-dead-letter-routing-key";
const DEAD_EXCHANGE: &str = "x-dead-letter-exchange";

/// [RABBIT-dead-letter-1]
#[test]
fn a_rejected_message_is_dead_lettered_with_its_history() -> anyhow::Result<()> {
    on_server(async |client| {
        client.declare("dead", &[]).await?;
        let arguments = [(DEAD_EXCHANGE, text("")), (TO_DEAD, text("dead"))];
        client.declare("live", &arguments).await?;
        client.publish("", "live", b"unwanted").await?;
        let mut live = client.consume("live").await?;
        let delivery = live.next().await?;
        delivery
            .reject(BasicRejectOptions { requeue: false })
            .await?;
        let mut dead = client.consume("dead").await?;
        let delivery = dead.accept().await?;
        assert_eq!(delivery.data, b"unwanted");
        let entry = death(&delivery.properties)?;
        assert_eq!(words(&entry, "reason"), "rejected");
        assert_eq!(words(&entry, "queue"), "live");
        assert_eq!(entry.inner().get("count"), Some(&AMQPValue::LongLongInt(1)));
        let headers = delivery.properties.headers().clone().context("headers")?;
        assert_eq!(words(&headers, "x-first-death-reason"), "rejected");
        Ok(())
    })
}

/// [RABBIT-ttl-1], [RABBIT-ttl-2]
#[test]
fn messages_expire_by_the_queue_and_by_themselves() -> anyhow::Result<()> {
    on_server(async |client| {
        client.declare("dead", &[]).await?;
        let mut dead = client.consume("dead").await?;
        let to_dead = [(DEAD_EXCHANGE, text("")), (TO_DEAD, text("dead"))];
        let mut arguments = to_dead.to_vec();
        arguments.push(("x-message-ttl", AMQPValue::LongInt(30)));
        client.declare("short", &arguments).await?;
        client.publish("", "short", b"by the queue").await?;
        let delivery = dead.accept().await?;
        assert_eq!(delivery.data, b"by the queue");
        assert_eq!(words(&death(&delivery.properties)?, "reason"), "expired");

        client.declare("long", &to_dead).await?;
        let own = persistent().with_expiration("30".into());
        client.publish_with("", "long", b"by itself", own).await?;
        let delivery = dead.accept().await?;
        assert_eq!(delivery.data, b"by itself");
        assert_eq!(words(&death(&delivery.properties)?, "queue"), "long");
        // A dead-lettered message does not expire again.
        assert!(delivery.properties.expiration().is_none());
        Ok(())
    })
}

/// [AMQP-basic.06], [RABBIT-priority-1]
#[test]
fn the_higher_priority_comes_first() -> anyhow::Result<()> {
    on_server(async |client| {
        client
            .declare("ranked", &[("x-max-priority", AMQPValue::LongInt(9))])
            .await?;
        for (body, priority) in [("a", 1), ("b", 9), ("c", 5), ("d", 9), ("e", 0)] {
            let properties = persistent().with_priority(priority);
            client
                .publish_with("", "ranked", body.as_bytes(), properties)
                .await?;
        }
        let mut order = String::new();
        let mut ranked = client.consume("ranked").await?;
        for _ in 0..5 {
            order.push_str(std::str::from_utf8(&ranked.accept().await?.data)?);
        }
        assert_eq!(order, "bdcae");
        Ok(())
    })
}

/// [AMQP-basic.02], [RABBIT-length-1], [RABBIT-overflow-1]
#[test]
fn a_full_queue_refuses_or_drops_its_oldest() -> anyhow::Result<()> {
    on_server(async |client| {
        let limit = ("x-max-length", AMQPValue::LongInt(2));
        let refuse = [limit.clone(), ("x-overflow", text("reject-publish"))];
        client.declare("refuses", &refuse).await?;
        let mut confirmed = Vec::new();
        for body in [b"1", b"2", b"3"] {
            let confirmation = client
                .publish_with("", "refuses", body, persistent())
                .await?;
            confirmed.push(confirmation.is_ack());
        }
        assert_eq!(confirmed, [true, true, false], "the third gets basic.nack");
        client.get("refuses").await?.context("the first is there")?;
        client.publish("", "refuses", b"4").await?;

        client.declare("dead", &[]).await?;
        let drops = [limit, (DEAD_EXCHANGE, text("")), (TO_DEAD, text("dead"))];
        client.declare("drops", &drops).await?;
        for body in [b"1", b"2", b"3"] {
            client.publish("", "drops", body).await?;
        }
        let mut dead = client.consume("dead").await?;
        let delivery = dead.accept().await?;
        assert_eq!(delivery.data, b"1");
        assert_eq!(words(&death(&delivery.properties)?, "reason"), "maxlen");
        let oldest = client.get("drops").await?.context("two are left")?;
        assert_eq!(oldest.data, b"2");
        Ok(())
    })
}

#[test]
fn basic_get_takes_one_and_counts_the_rest() -> anyhow::Result<()> {
    on_server(async |client| {
        client.declare("pulled", &[]).await?;
        for body in [b"1", b"2", b"3"] {
            client.publish("", "pulled", body).await?;
        }
        let get = || {
            client
                .channel
                .basic_get("pulled".into(), BasicGetOptions::default())
        };
        let first = get().await?.context("there is one")?;
        assert_eq!((&first.data[..], first.message_count), (&b"1"[..], 2));
        assert!(!first.redelivered);
        let back = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        first.delivery.nack(back).await?;
        let again = get().await?.context("it is back")?;
        assert_eq!((&again.data[..], again.redelivered), (&b"1"[..], true));
        again.delivery.ack(BasicAckOptions::default()).await?;
        for _ in 0..2 {
            let next = get().await?.context("there is one")?;
            next.delivery.ack(BasicAckOptions::default()).await?;
        }
        assert!(get().await?.is_none(), "basic.get-empty");
        Ok(())
    })
}

/// [AMQP-basic.qos.prefetch-count.01]
/// [RABBIT-qos-1]: without `global` each later consumer has its own, with it the channel has one besides.
#[test]
fn prefetch_of_consumers_and_of_the_channel() -> anyhow::Result<()> {
    on_server(async |client| {
        let global = BasicQosOptions { global: true };
        let each = BasicQosOptions { global: false };
        client.channel.basic_qos(2, each).await?;
        let mut queues = Vec::new();
        for queue in ["a", "b"] {
            client.declare(queue, &[]).await?;
            for number in 1..=5u8 {
                client.publish("", queue, &[number]).await?;
            }
            let mut consumer = client.consume(queue).await?;
            let first = consumer.next().await?;
            let second = consumer.next().await?;
            // Two are out to each.
            assert_eq!(client.declare(queue, &[]).await?, 3, "{queue}");
            queues.push((consumer, first, second));
        }
        // The channel has four out, which is more than three: settling one lets no other go, settling two does.
        client.channel.basic_qos(3, global).await?;
        let (mut consumer, first, second) = queues.remove(0);
        first.ack(BasicAckOptions::default()).await?;
        assert_eq!(client.declare("a", &[]).await?, 3);
        second.ack(BasicAckOptions::default()).await?;
        let third = consumer.next().await?;
        assert_eq!(third.data, [3]);
        assert_eq!(client.declare("a", &[]).await?, 2);
        // 0 is no window: the consumer's own is left.
        client.channel.basic_qos(0, global).await?;
        assert_eq!(consumer.next().await?.data, [4]);
        assert_eq!(client.declare("a", &[]).await?, 1);
        Ok(())
    })
}

/// [RABBIT-delivery-limit-1]: the failed deliveries are counted in a header, and bounded.
#[test]
fn a_redelivery_tells_how_many_failed_until_the_limit() -> anyhow::Result<()> {
    on_server(async |client| {
        client.declare("dead", &[]).await?;
        let arguments = [
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(2)),
            (DEAD_EXCHANGE, text("")),
            (TO_DEAD, text("dead")),
        ];
        client.declare("live", &arguments).await?;
        client.publish("", "live", b"again").await?;
        let mut live = client.consume("live").await?;
        for failed in 0..=2 {
            let delivery = live.next().await?;
            assert_eq!(delivery.redelivered, failed > 0);
            let count = delivery.properties.headers().as_ref().and_then(|headers| {
                let count = headers.inner().get("x-delivery-count")?;
                count.as_long_long_int()
            });
            assert_eq!(count, (failed > 0).then_some(failed));
            delivery
                .nack(BasicNackOptions {
                    requeue: true,
                    ..BasicNackOptions::default()
                })
                .await?;
        }
        let mut dead = client.consume("dead").await?;
        let entry = death(&dead.accept().await?.properties)?;
        assert_eq!(words(&entry, "reason"), "delivery_limit");
        Ok(())
    })
}

/// [RABBIT-dead-letter-2]
#[test]
fn a_dead_letter_names_all_its_keys_and_its_expiration_as_sent() -> anyhow::Result<()> {
    on_server(async |client| {
        client.declare("dead", &[]).await?;
        client.declare("copies", &[]).await?;
        let arguments = [(DEAD_EXCHANGE, text("")), (TO_DEAD, text("dead"))];
        client.declare("a.live", &arguments).await?;
        let mut headers = FieldTable::default();
        let keys = vec![text("copies"), AMQPValue::LongInt(5)];
        headers.insert("CC".into(), AMQPValue::FieldArray(keys.into()));
        let properties = persistent()
            .with_expiration("0001".into())
            .with_headers(headers);
        client
            .publish_with("", "a.live", b"short", properties)
            .await?;
        let mut dead = client.consume("dead").await?;
        let delivery = dead.accept().await?;
        let entry = death(&delivery.properties)?;
        assert_eq!(words(&entry, "reason"), "expired");
        assert_eq!(words(&entry, "original-expiration"), "0001");
        let keys = entry.inner().get("routing-keys").cloned();
        let wanted = vec![text("a.live"), text("copies")];
        assert_eq!(keys, Some(AMQPValue::FieldArray(wanted.into())));
        // It was sent on with the queue's key alone.
        let headers = delivery.properties.headers().clone().context("headers")?;
        assert!(!headers.inner().contains_key("CC"));
        Ok(())
    })
}

/// [RABBIT-dead-letter-1], [RABBIT-cc-1]: the name of a queue is the key that its messages are sent on with, dots and all.
#[test]
fn a_dead_letter_goes_by_the_name_of_its_queue_as_a_key() -> anyhow::Result<()> {
    on_server(async |client| {
        for (exchange, queue, key) in [
            ("amq.direct", "dead", "orders.new"),
            ("amq.topic", "all", "orders.*"),
            ("amq.topic", "copies", "copies.#"),
        ] {
            client.declare(queue, &[]).await?;
            let options = lapin::options::QueueBindOptions::default();
            client
                .channel
                .queue_bind(
                    queue.into(),
                    exchange.into(),
                    key.into(),
                    options,
                    FieldTable::default(),
                )
                .await?;
        }
        for (exchange, queues) in [
            ("amq.direct", &["dead"][..]),
            ("amq.topic", &["all", "copies"]),
        ] {
            let arguments = [(DEAD_EXCHANGE, text(exchange))];
            client
                .channel
                .queue_delete(
                    "orders.new".into(),
                    lapin::options::QueueDeleteOptions::default(),
                )
                .await?;
            client.declare("orders.new", &arguments).await?;
            let mut headers = FieldTable::default();
            let keys = vec![text("copies.of.it")];
            headers.insert("CC".into(), AMQPValue::FieldArray(keys.into()));
            client
                .publish_with("", "orders.new", b"x", persistent().with_headers(headers))
                .await?;
            let mut live = client.consume("orders.new").await?;
            let delivery = live.next().await?;
            delivery
                .reject(BasicRejectOptions { requeue: false })
                .await?;
            for queue in queues {
                let mut dead = client.consume(queue).await?;
                let delivery = dead.accept().await?;
                assert_eq!(delivery.routing_key.as_str(), "orders.new", "{queue}");
                let headers = delivery.properties.headers().clone().context("headers")?;
                assert!(headers.inner().contains_key("CC"));
            }
        }
        Ok(())
    })
}

#[test]
fn prefetch_bounds_what_is_out() -> anyhow::Result<()> {
    on_server(async |client| {
        client.declare("slow", &[]).await?;
        for number in 1..=5u8 {
            client.publish("", "slow", &[number]).await?;
        }
        client
            .channel
            .basic_qos(2, BasicQosOptions::default())
            .await?;
        let mut slow = client.consume("slow").await?;
        let first = slow.next().await?;
        let second = slow.next().await?;
        // Behind a whole exchange with the server, three are still in the queue.
        assert_eq!(client.declare("slow", &[]).await?, 3);
        first.ack(BasicAckOptions::default()).await?;
        let third = slow.next().await?;
        assert_eq!((second.data[0], third.data[0]), (2, 3));
        Ok(())
    })
}

#[test]
fn a_tx_commits_and_rolls_back() -> anyhow::Result<()> {
    let server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("in", &[]).await?;
        client.declare("out", &[]).await?;
        client.publish("", "in", b"work").await?;
        let channel = client.connection.create_channel().await?;
        channel.tx_select().await?;
        let got = channel
            .basic_get("in".into(), BasicGetOptions::default())
            .await?
            .context("there is work")?;
        for body in [b"1", b"2"] {
            publish(&channel, body).await?;
        }
        got.delivery.ack(BasicAckOptions::default()).await?;
        channel.tx_rollback().await?;
        assert_eq!(
            client.declare("out", &[]).await?,
            0,
            "nothing was committed"
        );
        for body in [b"3", b"4"] {
            publish(&channel, body).await?;
        }
        got.delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .ok();
        channel
            .basic_ack(got.delivery.delivery_tag, BasicAckOptions::default())
            .await
            .ok();
        channel.tx_commit().await?;
        anyhow::Ok(())
    })?;
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        for body in [b"3", b"4"] {
            let got = client.get("out").await?.context("it was committed")?;
            assert_eq!(got.data, body);
        }
        assert!(
            client.get("in").await?.is_none(),
            "so was the acknowledgement"
        );
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

async fn publish(channel: &lapin::Channel, body: &[u8]) -> anyhow::Result<()> {
    let options = BasicPublishOptions::default();
    let confirm = channel
        .basic_publish("".into(), "out".into(), options, body, persistent())
        .await?;
    assert_eq!(confirm.await?, Confirmation::NotRequested);
    Ok(())
}
