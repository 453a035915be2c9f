//! kill -9: what was confirmed is there, in order; what was out comes again, and says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use lapin::{
    options::{BasicAckOptions, BasicPublishOptions},
    types::AMQPValue,
};

use crate::{
    client::{Amqp, pattern, persistent, text, wait},
    server::{Server, until},
};

const PUBLISHERS: usize = 4;
const WINDOW: u32 = 32;
/// The server is killed when each publisher has so many confirmed.
const ENOUGH: u32 = 300;

/// Publishes in windows until the server is gone; `confirmed` counts the first ones without a gap.
async fn load(client: Amqp, publisher: usize, confirmed: Arc<AtomicU32>) -> anyhow::Result<()> {
    let mut sent = 0u32;
    loop {
        let mut window = Vec::new();
        for _ in 0..WINDOW {
            let mut body = format!("{publisher} {sent} ").into_bytes();
            body.resize(1024, b'.');
            let options = BasicPublishOptions::default();
            let confirm = client
                .channel
                .basic_publish("".into(), "load".into(), options, &body, persistent())
                .await?;
            window.push(confirm);
            sent += 1;
        }
        for confirm in window {
            anyhow::ensure!(confirm.await?.is_ack(), "refused");
            confirmed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// [AMQP-basic.01]
#[test]
fn safe_before_confirm_under_load() -> anyhow::Result<()> {
    let mut server = Server::start();
    let setup = wait(Amqp::open(server.door("amqp")))?;
    wait(setup.declare("load", &[]))?;
    for _ in 0..2 {
        let counts: Vec<Arc<AtomicU32>> = (0..PUBLISHERS).map(|_| Arc::default()).collect();
        let address = server.door("amqp");
        let tasks: Vec<_> = wait(async {
            let mut tasks = Vec::new();
            for (publisher, count) in counts.iter().enumerate() {
                let client = Amqp::open(address).await?;
                tasks.push(tokio::spawn(load(client, publisher, Arc::clone(count))));
            }
            anyhow::Ok(tasks)
        })?;
        until("every publisher has enough confirmed", || {
            let least = counts
                .iter()
                .map(|count| count.load(Ordering::SeqCst))
                .min();
            (least >= Some(ENOUGH)).then_some(())
        });
        server = server.restart();
        for task in &tasks {
            task.abort();
        }
        let confirmed: Vec<u32> = counts
            .iter()
            .map(|count| count.load(Ordering::SeqCst))
            .collect();
        wait(check(server.door("amqp"), &confirmed))?;
    }
    server.stop();
    Ok(())
}

/// Takes everything: each publisher's from 0 without a gap, and as far as was confirmed.
async fn check(address: std::net::SocketAddr, confirmed: &[u32]) -> anyhow::Result<()> {
    let client = Amqp::open(address).await?;
    let count = client.declare("load", &[]).await?;
    let mut next = [0u32; PUBLISHERS];
    let mut deliveries = client.consume("load").await?;
    for number in 1..=count {
        let delivery = deliveries.next().await?;
        let words = std::str::from_utf8(&delivery.data)?;
        let mut words = words.split(' ');
        let publisher: usize = words.next().context("a publisher")?.parse()?;
        let serial: u32 = words.next().context("a serial number")?.parse()?;
        assert_eq!(
            serial, next[publisher],
            "in order, none missing, none twice"
        );
        next[publisher] += 1;
        if number == count {
            delivery.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    for (publisher, &confirmed) in confirmed.iter().enumerate() {
        assert!(
            next[publisher] >= confirmed,
            "publisher {publisher}: {} of {confirmed} confirmed messages are there",
            next[publisher]
        );
    }
    assert_eq!(client.declare("load", &[]).await?, 0, "nothing twice");
    // The acknowledgement is stored when this is.
    client.declare("mark", &[]).await?;
    client.publish("", "mark", b"").await
}

/// [AMQP-redelivered.implementation]
#[test]
fn rules_a2_what_was_out_comes_again_and_says_so() -> anyhow::Result<()> {
    let server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("out", &[]).await?;
        for number in 0..10u8 {
            client.publish("", "out", &[number]).await?;
        }
        let options = lapin::options::BasicQosOptions::default();
        client.channel.basic_qos(6, options).await?;
        let mut deliveries = client.consume("out").await?;
        for number in 0..6u8 {
            let delivery = deliveries.next().await?;
            assert_eq!((delivery.data[0], delivery.redelivered), (number, false));
            if number < 3 {
                // Three more come in their place.
                delivery.ack(BasicAckOptions::default()).await?;
            }
        }
        for number in 6..9u8 {
            assert_eq!(deliveries.next().await?.data[0], number);
        }
        // What was done before is stored when this is.
        client.declare("mark", &[]).await?;
        client.publish("", "mark", b"").await
    })?;
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        let mut deliveries = client.consume("out").await?;
        for number in 3..10u8 {
            let delivery = deliveries.accept().await?;
            assert_eq!(delivery.data[0], number);
            assert_eq!(delivery.redelivered, number < 9, "message {number}");
        }
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// A body over 256 KiB is stored in parts, each in a batch of its own.
#[test]
fn rules_d18_a_body_in_parts_is_kept_through_crashes() -> anyhow::Result<()> {
    let body = pattern(5 << 20);
    let mut server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("large", &[]).await?;
        client.publish("", "large", &body).await?;
        client.publish("", "large", b"small").await
    })?;
    for _ in 0..2 {
        server = server.restart();
        wait(async {
            let client = Amqp::open(server.door("amqp")).await?;
            let mut deliveries = client.consume("large").await?;
            let delivery = deliveries.next().await?;
            assert_eq!(delivery.data.len(), body.len());
            assert!(delivery.data == body, "the body is as it was");
            assert_eq!(deliveries.next().await?.data, b"small");
            anyhow::Ok(())
        })?;
    }
    server.stop();
    Ok(())
}

/// The topology, and settings of a queue, are as durable as messages.
/// [AMQP-queue.declare.durable.persistence], [AMQP-queue.declare.durable.types]
#[test]
fn a_queue_keeps_its_arguments_through_a_crash() -> anyhow::Result<()> {
    let server = Server::start();
    let arguments = [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", text("reject-publish")),
    ];
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("narrow", &arguments).await?;
        client.publish("", "narrow", b"1").await
    })?;
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        assert_eq!(client.declare("narrow", &arguments).await?, 1);
        let refused = client
            .publish_with("", "narrow", b"2", persistent())
            .await?;
        assert!(refused.is_nack());
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// A restart is soon ready even when the server was killed many times in a row.
#[test]
fn a_start_may_follow_a_crash_at_once() -> anyhow::Result<()> {
    let mut server = Server::start();
    for round in 0..6u8 {
        wait(async {
            let client = Amqp::open(server.door("amqp")).await?;
            assert_eq!(client.declare("rounds", &[]).await?, u32::from(round));
            client.publish("", "rounds", &[round]).await
        })?;
        server = server.restart();
    }
    server.stop();
    Ok(())
}

/// Killed while it recovers: the next start finds what the one before found.
#[test]
fn a_recovery_that_is_cut_short_harms_nothing() -> anyhow::Result<()> {
    let mut server = Server::start();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("kept", &[]).await?;
        for number in 0..50u8 {
            client.publish("", "kept", &[number]).await?;
        }
        anyhow::Ok(())
    })?;
    server.kill();
    for step in 0..8 {
        server.start_and_kill(Duration::from_millis(4 * step));
    }
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        assert_eq!(client.declare("kept", &[]).await?, 50);
        let mut kept = client.consume("kept").await?;
        for number in 0..50u8 {
            assert_eq!(kept.accept().await?.data, [number]);
        }
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// Large bodies of several publishers, killed in the middle: whole messages or none, and no parts left behind for ever.
#[test]
fn rules_d18_a_body_cut_short_is_no_message() -> anyhow::Result<()> {
    const SIZE: usize = 3 << 20;
    let server = Server::start();
    let setup = wait(Amqp::open(server.door("amqp")))?;
    wait(setup.declare("parts", &[]))?;
    let confirmed: Arc<AtomicU32> = Arc::default();
    let tasks: Vec<_> = wait(async {
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let client = Amqp::open(server.door("amqp")).await?;
            let confirmed = Arc::clone(&confirmed);
            tasks.push(tokio::spawn(async move {
                let body = pattern(SIZE);
                while client.publish("", "parts", &body).await.is_ok() {
                    confirmed.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        anyhow::Ok(tasks)
    })?;
    until("some are confirmed", || {
        (confirmed.load(Ordering::SeqCst) >= 4).then_some(())
    });
    let server = server.restart();
    for task in &tasks {
        task.abort();
    }
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        let count = client.declare("parts", &[]).await?;
        assert!(
            count >= confirmed.load(Ordering::SeqCst),
            "{count} are there"
        );
        let body = pattern(SIZE);
        for _ in 0..count {
            let got = client.get("parts").await?.context("it counts so many")?;
            assert!(got.data == body, "{} bytes of one", got.data.len());
        }
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
