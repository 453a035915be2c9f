//! Long runs with a verdict: memory under a queue many times larger, restart with a full queue.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::load::{Confirmed, Ledger, amqp::Amqp, server::Server};

const MIB: u64 = 1 << 20;
/// What a standby may need until it could take over.
const COVERED_LIMIT: Duration = Duration::from_secs(60);
/// What a takeover may take, however much is queued.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(1);

/// A queue of `count` 1 KiB messages on disk; the process stays under 600 MiB; drained in order at a steady rate.
pub(crate) fn memory(count: u64, data: &Path) -> anyhow::Result<()> {
    let server = Server::fresh(data, &[])?;
    Amqp::connect(server.amqp)?.declare("soak")?;
    let (mut rss_max, mut first) = (0, None);
    let began = Instant::now();
    let confirmed = Arc::new(Confirmed::default());
    let publishing = {
        let (confirmed, client) = (Arc::clone(&confirmed), Amqp::connect(server.amqp)?);
        std::thread::Builder::new()
            .spawn(move || client.publish("soak", 0, count, 1024, 2000, &confirmed))?
    };
    let mut next = count / 10;
    while next <= count {
        confirmed.wait(next)?;
        let rss = server.rss()?;
        rss_max = rss_max.max(rss);
        println!(
            "published {next}: {:.0} msg/s, rss {} MiB",
            next as f64 / began.elapsed().as_secs_f64(),
            rss / MIB
        );
        // Where the caches are full already, the rest is what a message costs.
        let (at, then) = *first.get_or_insert((next, rss));
        if next > at {
            let each = rss.saturating_sub(then) as f64 / (next - at) as f64;
            println!("a message more costs {each:.1} bytes of memory");
        }
        next += (count / 10).max(1);
    }
    publishing.join().expect("the publisher does not panic")?;
    println!("on disk: {} MiB", server.disk()? / MIB);
    let mut ledger = Ledger::default();
    let (mut tenth, mut at, mut rates) = (count / 10, Instant::now(), Vec::new());
    Amqp::connect(server.amqp)?.consume("soak", count, 1000, 500, &mut ledger, |ledger| {
        if ledger.received >= tenth {
            let rate = (count / 10) as f64 / at.elapsed().as_secs_f64();
            let rss = server.rss().unwrap_or_default();
            rss_max = rss_max.max(rss);
            println!(
                "drained {}: {rate:.0} msg/s, rss {} MiB",
                ledger.received,
                rss / MIB
            );
            rates.push(rate);
            tenth += count / 10;
            at = Instant::now();
        }
    })?;
    let left = Amqp::connect(server.amqp)?.declare("soak")?;
    println!(
        "drained {} in order: {} gaps, {} repeats, {left} left; rss at most {} MiB; on disk {} MiB",
        ledger.received,
        ledger.gaps,
        ledger.repeats,
        rss_max / MIB,
        server.disk()? / MIB
    );
    ensure!(
        ledger.gaps == 0 && ledger.repeats == 0 && left == 0,
        "messages were lost, repeated or left"
    );
    ensure!(rss_max < 600 * MIB, "resident memory passed 600 MiB");
    let (least, most) = rates.iter().fold((f64::MAX, 0f64), |(least, most), rate| {
        (least.min(*rate), most.max(*rate))
    });
    ensure!(
        least * 5.0 > most,
        "the rate is not steady: {least:.0} to {most:.0} msg/s"
    );
    Ok(())
}

/// Restart to `ready` after kill -9 with `count` messages queued, `rounds` times; then the same with a standby, which has
/// them all in memory when it takes over.
pub(crate) fn restart(
    count: u64,
    body_bytes: usize,
    limit_ms: u64,
    rounds: u32,
    data: &Path,
) -> anyhow::Result<()> {
    let mut server = Server::fresh(data, &[])?;
    Amqp::connect(server.amqp)?.declare("soak")?;
    Amqp::connect(server.amqp)?.publish(
        "soak",
        0,
        count,
        body_bytes,
        2000,
        &Arc::new(Confirmed::default()),
    )?;
    for round in 0..rounds {
        server.kill_and_restart()?;
        let there = Amqp::connect(server.amqp)?.declare("soak")?;
        println!(
            "restart {round}: ready after {} ms with {there} messages",
            server.started_in.as_millis()
        );
        ensure!(u64::from(there) == count, "messages are missing");
        ensure!(
            server.started_in < Duration::from_millis(limit_ms),
            "the restart took {limit_ms} ms or more"
        );
    }
    let mut standby = server.stand_by()?;
    let began = Instant::now();
    while !server.is_covered()? {
        ensure!(
            began.elapsed() < COVERED_LIMIT,
            "the standby does not get ready"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = server.kill_for(&mut standby)?;
    let there = Amqp::connect(standby.amqp)?.declare("soak")?;
    println!(
        "takeover: ready after {} ms with {there} messages",
        took.as_millis()
    );
    ensure!(u64::from(there) == count, "messages are missing");
    ensure!(took < TAKEOVER_LIMIT, "the takeover took a second or more");
    Ok(())
}
