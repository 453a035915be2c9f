//! Space comes back: old messages outlive the segments around them and pin none of them.

use lapin::options::{BasicAckOptions, BasicPublishOptions};

use crate::{
    client::{Amqp, pattern, persistent, wait},
    server::{Server, until},
};

/// A segment is 4 MiB: each round fills one, and leaves one old message in it.
const ROUND: usize = 32;
const SIZE: usize = 128 * 1024;
const ROUNDS: usize = 14;
/// What the journal needs of its own: the segments since the last snapshot but one, the reserve.
const KEPT_MAX: u64 = 28 << 20;

#[test]
fn old_messages_pin_nothing() -> anyhow::Result<()> {
    let server = Server::start_with(&["journal.snapshot_every_bytes=2097152"]);
    let body = pattern(SIZE);
    assert!(
        KEPT_MAX < (SIZE * ROUND * ROUNDS) as u64,
        "it must not fit by chance"
    );
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("old", &[]).await?;
        client.declare("through", &[]).await?;
        let mut through = client.consume("through").await?;
        for round in 0..ROUNDS {
            let before = server.metric("snapshots_total")?;
            client.publish("", "old", &[round as u8]).await?;
            let mut confirms = Vec::new();
            for _ in 0..ROUND {
                let options = BasicPublishOptions::default();
                let confirm = client
                    .channel
                    .basic_publish("".into(), "through".into(), options, &body, persistent())
                    .await?;
                confirms.push(confirm);
            }
            for confirm in confirms {
                assert!(confirm.await?.is_ack());
            }
            for number in 1..=ROUND {
                let delivery = through.next().await?;
                if number == ROUND {
                    delivery.ack(BasicAckOptions { multiple: true }).await?;
                }
            }
            // Snapshots follow in their own time, which is long in a debug build: the load must not run ahead of them.
            until("a snapshot is written", || {
                (server.metric("snapshots_total").ok()? > before).then_some(())
            });
        }
        anyhow::Ok(())
    })?;
    until("the directory is small again", || {
        let spares = server.metric("journal_spare_bytes").ok()?;
        (server.dir().len().checked_sub(spares)? < KEPT_MAX).then_some(())
    });
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        let mut old = client.consume("old").await?;
        for round in 0..ROUNDS {
            assert_eq!(old.accept().await?.data, [round as u8]);
        }
        assert_eq!(client.declare("through", &[]).await?, 0);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
