//! Throughput and server CPU a delivered message, one publisher to one consumer, of the release server.
//!
//! The figure to trust is CPU microseconds a message: messages a second depend on what else the machine does. Durable
//! workloads are synced before each confirmation; nothing is relaxed.

mod aws;
pub(crate) mod chart;
pub(crate) mod direct;
mod large;
mod machine;
mod pairs;
mod peers;

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::load::{
    Ledger,
    server::{Server, Standby},
};

pub(crate) use machine::{kernel, load, machine};

struct Workload {
    name: &'static str,
    /// Deliveries of one message.
    deliveries: u64,
    run: fn(&Server, u64) -> anyhow::Result<Ledger>,
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "MQTT QoS 0, 16 B, 1 to 1",
        deliveries: 1,
        run: |server, count| direct::mqtt(server.mqtt, 0, count, 0, 16, 2000, false),
    },
    Workload {
        name: "MQTT QoS 0, 16 B, 1 to 100, a delivery",
        deliveries: direct::SUBSCRIBERS,
        run: |server, count| direct::fan_out(server.mqtt, count),
    },
    Workload {
        name: "MQTT QoS 1, 16 B, soft session, window 100",
        deliveries: 1,
        run: |server, count| direct::mqtt(server.mqtt, 0, count, 1, 16, 100, false),
    },
    Workload {
        name: "MQTT QoS 1, 16 B, durable session, synced, window 100",
        deliveries: 1,
        run: |server, count| direct::mqtt(server.mqtt, 0, count, 1, 16, 100, true),
    },
    Workload {
        name: "AMQP 0-9-1, 1 KiB persistent, confirms, window 100",
        deliveries: 1,
        run: |server, count| direct::amqp(server.amqp, None, 0, count, 100),
    },
    Workload {
        name: "AMQP 0-9-1, 1 KiB persistent, confirms, window 1000",
        deliveries: 1,
        run: |server, count| direct::amqp(server.amqp, None, 0, count, 1000),
    },
    Workload {
        name: "AMQP 0-9-1, 1 KiB persistent, confirms, window 1",
        deliveries: 1,
        run: |server, count| direct::amqp(server.amqp, None, 0, count, 1),
    },
    Workload {
        name: "STOMP 1.2, 1 KiB persistent, receipts, window 100",
        deliveries: 1,
        run: |server, count| direct::stomp(server.stomp, 0, count),
    },
    Workload {
        name: "MQTT QoS 0, 16 B, 8 to 8",
        deliveries: 1,
        run: |server, count| {
            let at = server.mqtt;
            direct::many(count, move |number, share| {
                direct::mqtt(at, number, share, 0, 16, 500, false)
            })
        },
    },
    Workload {
        name: "MQTT QoS 1, 16 B, durable session, synced, window 100, 8 to 8",
        deliveries: 1,
        run: |server, count| {
            let at = server.mqtt;
            direct::many(count, move |number, share| {
                direct::mqtt(at, number, share, 1, 16, 100, true)
            })
        },
    },
    Workload {
        name: "AMQP 0-9-1, 1 KiB persistent, confirms, window 100, 8 to 8",
        deliveries: 1,
        run: |server, count| {
            let at = server.amqp;
            direct::many(count, move |number, share| {
                direct::amqp(at, None, number, share, 100)
            })
        },
    },
    Workload {
        name: "STOMP 1.2, 1 KiB persistent, receipts, window 100, 8 to 8",
        deliveries: 1,
        run: |server, count| {
            let at = server.stomp;
            direct::many(count, move |number, share| direct::stomp(at, number, share))
        },
    },
    Workload {
        name: "SQS SendMessage, 100 B, synced, 64 connections",
        deliveries: 1,
        run: |server, count| aws::send(server.aws, count, 1),
    },
    Workload {
        name: "SQS SendMessageBatch of 10, 100 B, synced",
        deliveries: 1,
        run: |server, count| aws::send(server.aws, count, 10),
    },
    Workload {
        name: "SQS send, receive and delete, batches of 10",
        deliveries: 1,
        run: |server, count| aws::through(server.aws, count),
    },
    Workload {
        name: "Kinesis PutRecords of 500, 100 B, 4 shards, synced",
        deliveries: 1,
        run: |server, count| aws::put(server.aws, count),
    },
    Workload {
        name: "Kinesis PutRecords and GetRecords",
        deliveries: 1,
        run: |server, count| aws::put_and_get(server.aws, count, 100),
    },
    Workload {
        name: "Kinesis PutRecords of 500 and GetRecords, 1 KiB, synced",
        deliveries: 1,
        run: |server, count| aws::put_and_get(server.aws, count, 1024),
    },
];

/// What to measure, and how.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seconds a workload.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Where the server keeps its journal; emptied first and removed after.
    #[arg(long, default_value = "target/bench-data")]
    data: PathBuf,
    /// Only the workloads whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// A setting of the server, as `bascule serve --set` takes it: to see what it changes.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "peers")]
    set: Vec<String>,
    /// Runs each workload without and with a standby attached, in turns, and says how much of the rate is left.
    #[arg(long, group = "turns")]
    standby: bool,
    /// Servers and clients on one CPU: the CPU time a message then repeats within a few percent.
    #[arg(long)]
    pinned: bool,
    /// What takes minutes and gigabytes instead: `all`, or some of `idle,subscriptions,fairness`.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["standby", "pinned", "peers", "only"])]
    large: Vec<String>,
    /// In pairs with other brokers, as far as they are installed: `all`, or some of `mosquitto,rabbitmq,nats,activemq`; and `rumqttd`, which is built.
    #[arg(long, value_delimiter = ',', group = "turns")]
    peers: Vec<String>,
    /// With `--peers` or `--standby`: turns a workload; the figures are medians.
    #[arg(long, default_value = "3", requires = "turns")]
    rounds: NonZeroUsize,
    /// Writes the figures of the pairs, and what they were taken on.
    #[arg(long, requires = "peers")]
    json: Option<PathBuf>,
    /// Draws them.
    #[arg(long, requires = "peers")]
    svg: Option<PathBuf>,
}

/// Runs what was asked for.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.peers.is_empty() {
        return pairs::run(arguments);
    }
    if !arguments.large.is_empty() {
        return large::run(arguments);
    }
    alone(arguments)
}

/// Runs every workload, or those that are wanted: each as often without and with a standby, in turns, if that is. Pinned, server and
/// clients share one CPU, so that no wake-up crosses to another: the figure that repeats best.
fn alone(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments {
        seconds,
        data,
        only,
        standby,
        pinned,
        rounds,
        set,
        ..
    } = arguments;
    let turns = standby.then_some(rounds.get());
    // A shard's limits are those of AWS otherwise: a megabyte a second.
    let settings = ["aws.shard_limits=false"]
        .into_iter()
        .chain(set.iter().map(String::as_str));
    if *pinned {
        pin()?;
    }
    let server = Server::fresh(data, &settings.collect::<Vec<_>>())?;
    settled(&server)?;
    println!("| workload | msg/s | server CPU us/msg | lost | repeated |\n|---|---|---|---|---|");
    let wanted = |workload: &&Workload| {
        let part = only.as_deref();
        part.is_none_or(|part| workload.name.contains(part))
    };
    for workload in WORKLOADS.iter().filter(wanted) {
        let Some(turns) = turns else {
            // What is done once, as the memory that is taken for the first time, is not the cost of a message.
            loaded(&server, workload, (*seconds).max(WARMING_SECONDS), None)?;
            measured(&server, workload, *seconds, None)?;
            continue;
        };
        let (mut alone, mut paired) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            warmed(&server, workload, false)?;
            alone.push(measured(&server, workload, *seconds, None)?);
            let beside = server.stand_by()?;
            warmed(&server, workload, true)?;
            paired.push(measured(&server, workload, *seconds, Some(&beside))?);
            drop(beside);
        }
        let left = median(paired.into_iter()) / median(alone.into_iter());
        println!("| | {:.0} % of the rate | | | |", left * 100.0);
    }
    println!("resident memory at the end: {} MiB", server.rss()? >> 20);
    Ok(())
}

/// For how long a workload runs at least before it is measured: bodies of 1 KiB fill what is kept of them in memory meanwhile. Until
/// then it grows, and where the machine is itself a guest each new page of it costs more than the message in it.
const WARMING_SECONDS: u64 = 6;

/// Waits until a server that has just started does nothing any more: what it does once in its life (a signing key for SNS) is not
/// the cost of a message.
fn settled(server: &Server) -> anyhow::Result<()> {
    const LOOK: Duration = Duration::from_millis(250);
    const LOOKS: u32 = 80;
    let mut before = server.cpu_us()?;
    for _ in 0..LOOKS {
        std::thread::sleep(LOOK);
        let now = server.cpu_us()?;
        // A tick of the kernel's clock is 10 ms.
        if now - before < 20_000 {
            return Ok(());
        }
        before = now;
    }
    bail!("the server does not come to rest")
}

/// Keeps this process, and all that it starts from now on, on the first CPU: a server has as many threads as it is given CPUs.
pub(crate) fn pin() -> anyhow::Result<()> {
    let pid = std::process::id();
    let output = Command::new("taskset")
        .args(["-a", "-c", "-p", "0", &pid.to_string()])
        .output()
        .context("failed to start taskset (of util-linux)")?;
    ensure!(
        output.status.success(),
        "failed to pin process {pid}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Waits until the server counts on its standby, or on none any more, and has it run under the load for a while: what a standby does
/// once, as the memory that it takes for the first time, is no more the cost of a message than what the server did at its start.
fn warmed(server: &Server, workload: &Workload, covered: bool) -> anyhow::Result<()> {
    const LOOK: Duration = Duration::from_millis(100);
    const LOOKS: u32 = 200;
    const SECONDS: u64 = 2;
    for _ in 0..LOOKS {
        if server.is_covered()? == covered {
            loaded(server, workload, SECONDS, None)?;
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    bail!("the server does not see its standby come, or go")
}

/// What a run came to.
struct Run {
    messages: u64,
    took: Duration,
    cpu_us: u64,
    /// The standby's, if there is one.
    beside_us: Option<u64>,
    ledger: Ledger,
}

/// Runs one workload for about so long.
fn loaded(
    server: &Server,
    workload: &Workload,
    seconds: u64,
    beside: Option<&Standby>,
) -> anyhow::Result<Run> {
    // A short run finds how many messages the time takes.
    let trial = 500;
    let began = Instant::now();
    (workload.run)(server, trial)?;
    let setup = began.elapsed();
    let rate = trial as f64 / setup.as_secs_f64();
    let mut count = ((rate * seconds as f64) as u64).max(trial);
    loop {
        let before = server.cpu_us()?;
        let beside_before = beside.map(Standby::cpu_us).transpose()?;
        let began = Instant::now();
        let ledger = (workload.run)(server, count)?;
        let took = began.elapsed();
        // A stream takes a while to be made, however short the run.
        let under_load = took.saturating_sub(setup);
        if under_load > Duration::from_secs(seconds) / 2 {
            let messages = count * workload.deliveries;
            ensure!(
                ledger.received == messages,
                "{}: {} of {messages} arrived",
                workload.name,
                ledger.received
            );
            let beside_after = beside.map(Standby::cpu_us).transpose()?;
            return Ok(Run {
                messages,
                took,
                cpu_us: server.cpu_us()? - before,
                beside_us: beside_after
                    .zip(beside_before)
                    .map(|(after, before)| after - before),
                ledger,
            });
        }
        let seen = under_load.max(took / 4).as_secs_f64().max(0.01);
        count = (count as f64 * seconds as f64 / seen) as u64;
    }
}

/// Runs one workload and prints what it came to; messages a second.
fn measured(
    server: &Server,
    workload: &Workload,
    seconds: u64,
    beside: Option<&Standby>,
) -> anyhow::Result<f64> {
    let run = loaded(server, workload, seconds, beside)?;
    let rate = run.messages as f64 / run.took.as_secs_f64();
    let each = |us: u64| us as f64 / run.messages as f64;
    let how = run.beside_us.map_or_else(String::new, |us| {
        format!(", with a standby, which takes {:.2} us/msg", each(us))
    });
    println!(
        "| {}{how} | {rate:.0} | {:.2} | {} | {} |",
        workload.name,
        each(run.cpu_us),
        run.ledger.gaps,
        run.ledger.repeats
    );
    Ok(rate)
}

/// The one in the middle; of an even number, the upper one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_is_in_the_middle() {
        assert!((super::median([9.0, 1.0, 5.0].into_iter()) - 5.0).abs() < 1e-9);
    }
}
