//! Throughput and server CPU a delivered message, one publisher to one consumer, of the release server.
//!
//! The figure to trust is CPU microseconds a message: messages a second depend on what else the machine does. Durable
//! workloads are synced before each confirmation; nothing is relaxed.

mod aws;

use std::{
    path::Path,
    process::Command,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use crate::load::{Confirmed, Ledger, amqp::Amqp, mqtt::Mqtt, server::Server, stomp::Stomp};

struct Workload {
    name: &'static str,
    /// Deliveries of one message.
    deliveries: u64,
    run: fn(&Server, u64) -> anyhow::Result<Ledger>,
}

/// Subscribers of the fan-out.
const SUBSCRIBERS: u64 = 100;

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "MQTT QoS 0, 16 B, 1 to 1",
        deliveries: 1,
        run: |server, count| mqtt(server, count, 0, 16, 2000, false),
    },
    Workload {
        name: "MQTT QoS 0, 16 B, 1 to 100, a delivery",
        deliveries: SUBSCRIBERS,
        run: fan_out,
    },
    Workload {
        name: "MQTT QoS 1, 16 B, soft session, window 100",
        deliveries: 1,
        run: |server, count| mqtt(server, count, 1, 16, 100, false),
    },
    Workload {
        name: "MQTT QoS 1, 16 B, durable session, synced, window 100",
        deliveries: 1,
        run: |server, count| mqtt(server, count, 1, 16, 100, true),
    },
    Workload {
        name: "AMQP 0-9-1, 1 KiB persistent, confirms, window 100",
        deliveries: 1,
        run: |server, count| amqp(server, count, 100),
    },
    Workload {
        name: "AMQP 0-9-1, 1 KiB persistent, confirms, window 1000",
        deliveries: 1,
        run: |server, count| amqp(server, count, 1000),
    },
    Workload {
        name: "AMQP 0-9-1, 1 KiB persistent, confirms, window 1",
        deliveries: 1,
        run: |server, count| amqp(server, count, 1),
    },
    Workload {
        name: "STOMP 1.2, 1 KiB persistent, receipts, window 100",
        deliveries: 1,
        run: |server, count| stomp(server, count),
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
        run: |server, count| aws::put_and_get(server.aws, count),
    },
];

/// Runs every workload, or those whose name contains `only`, for about `seconds`. `standby`: each a second time, with one.
/// `pinned`: server and clients share one CPU, so that no wake-up crosses to another: the figure that repeats best.
pub(crate) fn run(
    seconds: u64,
    data: &Path,
    only: Option<&str>,
    standby: bool,
    pinned: bool,
) -> anyhow::Result<()> {
    // A shard's limits are those of AWS otherwise: a megabyte a second.
    let server = Server::fresh(data, &["aws.shard_limits=false"])?;
    if pinned {
        pin(std::process::id())?;
        pin(server.pid())?;
    }
    println!("| workload | msg/s | server CPU us/msg | lost | repeated |\n|---|---|---|---|---|");
    let wanted = |workload: &&Workload| only.is_none_or(|part| workload.name.contains(part));
    for workload in WORKLOADS.iter().filter(wanted) {
        let alone = measured(&server, workload, seconds, "")?;
        if standby {
            let beside = server.stand_by()?;
            let left = measured(&server, workload, seconds, ", with a standby")? / alone;
            println!("| | {:.0} % of the rate | | | |", left * 100.0);
            drop(beside);
        }
    }
    println!("resident memory at the end: {} MiB", server.rss()? >> 20);
    Ok(())
}

/// Keeps all threads of a process, and those that they start, on the first CPU.
fn pin(pid: u32) -> anyhow::Result<()> {
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

/// Runs one workload and prints what it came to; messages a second.
fn measured(server: &Server, workload: &Workload, seconds: u64, how: &str) -> anyhow::Result<f64> {
    // A short run finds how many messages the time takes.
    let trial = 500;
    let began = Instant::now();
    (workload.run)(server, trial)?;
    let rate = trial as f64 / began.elapsed().as_secs_f64();
    let mut count = ((rate * seconds as f64) as u64).max(trial);
    let mut took;
    let (mut cpu, mut ledger);
    loop {
        let before = server.cpu_us()?;
        let began = Instant::now();
        ledger = (workload.run)(server, count)?;
        took = began.elapsed();
        cpu = server.cpu_us()? - before;
        if took > Duration::from_secs(seconds) / 2 {
            break;
        }
        count = (count as f64 * seconds as f64 / took.as_secs_f64().max(0.01)) as u64;
    }
    let count = count * workload.deliveries;
    ensure!(
        ledger.received == count,
        "{}: {} of {count} arrived",
        workload.name,
        ledger.received
    );
    let rate = count as f64 / took.as_secs_f64();
    println!(
        "| {}{how} | {rate:.0} | {:.2} | {} | {} |",
        workload.name,
        cpu as f64 / count as f64,
        ledger.gaps,
        ledger.repeats
    );
    Ok(rate)
}

fn mqtt(
    server: &Server,
    count: u64,
    qos: u8,
    len: usize,
    window: u64,
    durable: bool,
) -> anyhow::Result<Ledger> {
    let (topic, id) = if durable {
        ("bench/durable", "bench-durable")
    } else {
        ("bench/soft", "bench-soft")
    };
    let mut consumer = Mqtt::connect(server.mqtt, id, durable)?;
    consumer.subscribe(topic, qos)?;
    let confirmed = Arc::new(Confirmed::default());
    // At QoS 0 nothing confirms: the consumer's own count keeps the publisher from running away.
    let counted = (qos == 0).then(|| Arc::clone(&confirmed));
    let receiving = std::thread::Builder::new().spawn(move || -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        consumer.receive(count, &mut ledger, |received| {
            if let Some(counted) = &counted {
                counted.set(received);
            }
        })?;
        Ok(ledger)
    })?;
    Mqtt::connect(server.mqtt, "bench-publisher", false)?
        .publish(topic, qos, count, len, window, &confirmed)?;
    receiving.join().expect("the consumer does not panic")
}

fn fan_out(server: &Server, count: u64) -> anyhow::Result<Ledger> {
    let confirmed = Arc::new(Confirmed::default());
    let mut threads = Vec::new();
    for number in 0..SUBSCRIBERS {
        let mut consumer = Mqtt::connect(server.mqtt, &format!("bench-{number}"), false)?;
        consumer.subscribe("bench/fan-out", 0)?;
        // One of them, no faster than the others, keeps the publisher from running away.
        let counted = (number == 0).then(|| Arc::clone(&confirmed));
        let receive = move || -> anyhow::Result<Ledger> {
            let mut ledger = Ledger::default();
            consumer.receive(count, &mut ledger, |received| {
                if let Some(counted) = &counted {
                    counted.set(received);
                }
            })?;
            Ok(ledger)
        };
        threads.push(std::thread::Builder::new().spawn(receive)?);
    }
    Mqtt::connect(server.mqtt, "bench-publisher", false)?.publish(
        "bench/fan-out",
        0,
        count,
        16,
        500,
        &confirmed,
    )?;
    let (mut received, mut gaps, mut repeats) = (0, 0, 0);
    for thread in threads {
        let ledger = thread.join().expect("a consumer does not panic")?;
        received += ledger.received;
        gaps += ledger.gaps;
        repeats += ledger.repeats;
    }
    Ok(Ledger::counted(received, gaps, repeats))
}

fn amqp(server: &Server, count: u64, window: u64) -> anyhow::Result<Ledger> {
    let mut consumer = Amqp::connect(server.amqp)?;
    consumer.declare("bench")?;
    consumer.purge("bench")?;
    let receiving = std::thread::Builder::new().spawn(move || -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        consumer.consume("bench", count, 200, 1, &mut ledger, |_| {})?;
        Ok(ledger)
    })?;
    Amqp::connect(server.amqp)?.publish(
        "bench",
        0,
        count,
        1024,
        window,
        &Arc::new(Confirmed::default()),
    )?;
    receiving.join().expect("the consumer does not panic")
}

fn stomp(server: &Server, count: u64) -> anyhow::Result<Ledger> {
    let consumer = Stomp::connect(server.stomp)?;
    let (ready, is_ready) = mpsc::channel();
    let receiving = std::thread::Builder::new().spawn(move || -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        consumer.receive("/queue/bench-stomp", count, &mut ledger, || {
            ready.send(()).ok();
        })?;
        Ok(ledger)
    })?;
    is_ready.recv()?;
    Stomp::connect(server.stomp)?.publish(
        "/queue/bench-stomp",
        count,
        1024,
        100,
        &Arc::new(Confirmed::default()),
    )?;
    receiving.join().expect("the consumer does not panic")
}
