//! Space comes back: an old message outlives the segments around it and pins none of them.

use lapin::options::BasicAckOptions;

use crate::{
    client::{Amqp, pattern, wait},
    server::{Server, until},
};

const SIZE: usize = 64 * 1024;
const ROUNDS: usize = 10;
const ROUND: usize = 64;
/// A tenth of what went through is more than the journal needs of its own: the open segment, a spare, the reserve, snapshots.
const KEPT_MAX: u64 = 24 << 20;

#[test]
fn one_old_message_pins_nothing() -> anyhow::Result<()> {
    let server = Server::start_with(&["journal.snapshot_every_bytes=4194304"]);
    let body = pattern(SIZE);
    let written = (SIZE * ROUND * ROUNDS) as u64;
    assert!(KEPT_MAX < written, "it must not fit by chance");
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        client.declare("old", &[]).await?;
        client.declare("through", &[]).await?;
        client.publish("", "old", b"still here").await?;
        let mut through = client.consume("through").await?;
        for _ in 0..ROUNDS {
            for _ in 0..ROUND {
                client.publish("", "through", &body).await?;
            }
            for number in 1..=ROUND {
                let delivery = through.next().await?;
                if number == ROUND {
                    delivery.ack(BasicAckOptions { multiple: true }).await?;
                }
            }
        }
        anyhow::Ok(())
    })?;
    until("the directory is small again", || {
        (server.dir().len() < KEPT_MAX).then_some(())
    });
    let server = server.restart();
    wait(async {
        let client = Amqp::open(server.door("amqp")).await?;
        let mut old = client.consume("old").await?;
        assert_eq!(old.accept().await?.data, b"still here");
        assert_eq!(client.declare("through", &[]).await?, 0);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
