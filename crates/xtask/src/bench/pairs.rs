//! Ours and another broker in turns, by the same load generator: what shares a machine with other work is compared only within
//! a pair that ran side by side in time. The figures are medians of the rounds.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::{
    Arguments, chart,
    direct::{self, SUBSCRIBERS},
    machine::{kernel, load, machine},
    median,
    peers::{Kind, Peer, used},
    pin,
};
use crate::load::{Ledger, server::Server};

/// Where one broker listens, and how it is asked for the kind of queue that is compared.
#[derive(Clone, Copy)]
struct Doors {
    mqtt: SocketAddr,
    amqp: SocketAddr,
    stomp: SocketAddr,
    queue: Option<&'static str>,
}

type Measured = anyhow::Result<(Ledger, Vec<Duration>)>;

struct Workload {
    name: &'static str,
    /// Deliveries of one message.
    deliveries: u64,
    /// What ours promises.
    durability: &'static str,
    run: fn(Doors, u64) -> Measured,
    /// Who can do the same: the broker, an `x-queue-type`, what it promises.
    peers: &'static [(Kind, Option<&'static str>, &'static str)],
}

const NOTHING: &str = "nothing to keep";
const SYNCED: &str = "synced before it is confirmed";
const WRITTEN: &str = "confirmed before it is synced";

/// Whoever has an MQTT door.
const SOFT: &[(Kind, Option<&str>, &str)] = &[
    (Kind::Mosquitto, None, NOTHING),
    (
        Kind::Nats,
        None,
        "nothing to keep; at QoS 1 written, not synced",
    ),
    (Kind::RabbitMq, None, NOTHING),
    (Kind::ActiveMq, None, NOTHING),
    (Kind::Rumqttd, None, NOTHING),
];
const SESSIONS: &[(Kind, Option<&str>, &str)] = &[
    (
        Kind::Mosquitto,
        None,
        "written every 30 minutes and at the end",
    ),
    (Kind::Nats, None, WRITTEN),
    (Kind::RabbitMq, None, WRITTEN),
    (Kind::ActiveMq, None, SYNCED),
    (Kind::Rumqttd, None, "in memory only"),
];
const QUEUES: &[(Kind, Option<&str>, &str)] = &[
    (Kind::RabbitMq, Some("classic"), WRITTEN),
    (Kind::RabbitMq, Some("quorum"), SYNCED),
];

fn plain(ledger: anyhow::Result<Ledger>) -> Measured {
    Ok((ledger?, Vec::new()))
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "MQTT QoS 0, 16 B, 1 to 1",
        deliveries: 1,
        durability: NOTHING,
        run: |at, count| plain(direct::mqtt(at.mqtt, 0, count, 0, 16, 2000, false)),
        peers: SOFT,
    },
    Workload {
        name: "MQTT QoS 0, 16 B, 8 to 8",
        deliveries: 1,
        durability: NOTHING,
        run: |at, count| {
            plain(direct::many(count, move |number, share| {
                direct::mqtt(at.mqtt, number, share, 0, 16, 500, false)
            }))
        },
        peers: SOFT,
    },
    Workload {
        name: "MQTT QoS 0, 16 B, 1 to 100",
        deliveries: SUBSCRIBERS,
        durability: NOTHING,
        run: |at, count| plain(direct::fan_out(at.mqtt, count)),
        peers: SOFT,
    },
    Workload {
        name: "MQTT QoS 1, 16 B, soft session, window 100",
        deliveries: 1,
        durability: NOTHING,
        run: |at, count| plain(direct::mqtt(at.mqtt, 0, count, 1, 16, 100, false)),
        peers: SOFT,
    },
    Workload {
        name: "MQTT QoS 1, 16 B, durable session, window 100",
        deliveries: 1,
        durability: SYNCED,
        run: |at, count| plain(direct::mqtt(at.mqtt, 0, count, 1, 16, 100, true)),
        peers: SESSIONS,
    },
    Workload {
        name: "AMQP, 1 KiB persistent, window 100",
        deliveries: 1,
        durability: SYNCED,
        run: |at, count| plain(direct::amqp(at.amqp, at.queue, 0, count, 100)),
        peers: QUEUES,
    },
    Workload {
        name: "AMQP, 1 KiB persistent, window 1000",
        deliveries: 1,
        durability: SYNCED,
        run: |at, count| plain(direct::amqp(at.amqp, at.queue, 0, count, 1000)),
        peers: QUEUES,
    },
    Workload {
        name: "AMQP, 1 KiB persistent, window 100, 8 to 8",
        deliveries: 1,
        durability: SYNCED,
        run: |at, count| {
            plain(direct::many(count, move |number, share| {
                direct::amqp(at.amqp, at.queue, number, share, 100)
            }))
        },
        peers: QUEUES,
    },
    Workload {
        name: "AMQP, 1 KiB persistent, one at a time",
        deliveries: 1,
        durability: SYNCED,
        run: |at, count| direct::amqp_confirms(at.amqp, at.queue, count),
        peers: QUEUES,
    },
    Workload {
        name: "AMQP, 1 KiB persistent, 2,000 a second, end to end",
        deliveries: 1,
        durability: SYNCED,
        run: |at, count| direct::amqp_paced(at.amqp, at.queue, count),
        peers: QUEUES,
    },
    Workload {
        name: "STOMP, 1 KiB persistent, receipts, window 100",
        deliveries: 1,
        durability: SYNCED,
        run: |at, count| plain(direct::stomp(at.stomp, 0, count)),
        peers: &[
            (Kind::RabbitMq, None, WRITTEN),
            (Kind::ActiveMq, None, SYNCED),
        ],
    },
];

/// One broker in one workload.
#[derive(Serialize)]
pub(super) struct Figure {
    pub(super) who: String,
    pub(super) durability: String,
    pub(super) messages_a_second: f64,
    pub(super) cpu_us_a_message: f64,
    /// Of a confirmation, or from end to end; of nothing else.
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    resident_mib: u64,
    lost: u64,
    repeated: u64,
}

/// A pair.
#[derive(Serialize)]
pub(super) struct Pair {
    pub(super) workload: String,
    pub(super) ours: Figure,
    pub(super) peer: Figure,
}

/// All that a picture needs to be believed.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) machine: String,
    pub(super) kernel: String,
    pub(super) load_before: String,
    load_after: String,
    pub(super) rounds: usize,
    pub(super) seconds: u64,
    pub(super) pinned: bool,
    pub(super) pairs: Vec<Pair>,
}

/// One run of one workload.
struct Run {
    rate: f64,
    cpu: f64,
    waits: Vec<Duration>,
    ledger: Ledger,
}

/// Runs the pairs of all peers that are asked for and installed.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let kinds = wanted(&arguments.peers)?;
    // What is built for it is built on all CPUs.
    let programs = kinds.iter().map(|kind| kind.program_path());
    let programs = programs.collect::<anyhow::Result<Vec<_>>>()?;
    let load_before = load();
    if arguments.pinned {
        pin()?;
    }
    let server = Server::fresh(&arguments.data, &[])?;
    let ours = Doors {
        mqtt: server.mqtt,
        amqp: server.amqp,
        stomp: server.stomp,
        queue: None,
    };
    println!(
        "| workload | broker | durability | msg/s | CPU us/msg | p50, p99 us | resident MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut pairs = Vec::new();
    for (kind, program) in kinds.into_iter().zip(programs) {
        let Some(program) = program else {
            println!("{} is not installed: left out", kind.name());
            continue;
        };
        let version = kind.version(&program);
        let peer = match Peer::start(kind, &program, Path::new("target/bench-peer")) {
            Ok(peer) => peer,
            Err(error) => {
                println!(
                    "{} {version} does not start: left out: {error:#}",
                    kind.name()
                );
                continue;
            }
        };
        for workload in WORKLOADS {
            let only = arguments.only.as_deref();
            if only.is_some_and(|part| !workload.name.contains(part)) {
                continue;
            }
            for (_, queue, durability) in workload.peers.iter().filter(|of| of.0 == kind) {
                let theirs = Doors {
                    mqtt: peer.mqtt,
                    amqp: peer.amqp,
                    stomp: peer.stomp,
                    queue: *queue,
                };
                let who = format!("{} {version} {}", kind.name(), queue.unwrap_or_default());
                let sides = [(ours, server.pid()), (theirs, peer.group())];
                match pair(workload, sides, arguments) {
                    Ok([first, second]) => {
                        let name = concat!("Bascule ", env!("CARGO_PKG_VERSION"));
                        let ours = figure(name, workload.durability, &first, server.pid())?;
                        let peer = figure(who.trim_end(), durability, &second, peer.group())?;
                        line(workload.name, &ours);
                        line("", &peer);
                        pairs.push(Pair {
                            workload: workload.name.to_owned(),
                            ours,
                            peer,
                        });
                    }
                    Err(error) => println!("| {} | {who} | failed: {error:#} |", workload.name),
                }
            }
        }
    }
    ensure!(!pairs.is_empty(), "no pair was measured");
    let report = Report {
        machine: machine()?,
        kernel: kernel()?,
        load_before,
        load_after: load(),
        rounds: arguments.rounds.get(),
        seconds: arguments.seconds,
        pinned: arguments.pinned,
        pairs,
    };
    println!(
        "{}, Linux {}; {} rounds of {} s; load before {}, after {}",
        report.machine,
        report.kernel,
        report.rounds,
        report.seconds,
        report.load_before,
        report.load_after
    );
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, chart::bars(&report))?;
    }
    Ok(())
}

fn wanted(names: &[String]) -> anyhow::Result<Vec<Kind>> {
    let all = Kind::ALL.into_iter().filter(|kind| !kind.is_built());
    let mut kinds: Vec<Kind> = Vec::new();
    if names.iter().any(|name| name == "all") {
        kinds.extend(all);
    }
    let find = |name: &String| {
        let found = Kind::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name));
        found.with_context(|| format!("no broker is known as {name}"))
    };
    for name in names.iter().filter(|name| *name != "all") {
        kinds.push(find(name)?);
    }
    Ok(kinds)
}

/// Ours, theirs, ours, theirs, ...: the runs of each side.
fn pair(
    workload: &Workload,
    sides: [(Doors, u32); 2],
    arguments: &Arguments,
) -> anyhow::Result<[Vec<Run>; 2]> {
    let mut counts = [0, 0];
    for (count, (doors, _)) in counts.iter_mut().zip(sides) {
        *count = calibrated(workload, doors, arguments.seconds)?;
    }
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..arguments.rounds.get() {
        for (side, (doors, id)) in sides.into_iter().enumerate() {
            runs[side].push(once(workload, doors, id, counts[side])?);
        }
    }
    Ok(runs)
}

/// How many messages take about that long.
fn calibrated(workload: &Workload, doors: Doors, seconds: u64) -> anyhow::Result<u64> {
    let mut count = 500;
    loop {
        let began = Instant::now();
        (workload.run)(doors, count)?;
        let took = began.elapsed().as_secs_f64();
        let enough = (count as f64 * seconds as f64 / took) as u64;
        if took * 4.0 > seconds as f64 {
            return Ok(enough.max(1));
        }
        count = enough.clamp(count, count * 20);
    }
}

fn once(workload: &Workload, doors: Doors, id: u32, count: u64) -> anyhow::Result<Run> {
    let (before, _) = used(id)?;
    let began = Instant::now();
    let (ledger, waits) = (workload.run)(doors, count)?;
    let took = began.elapsed().as_secs_f64();
    let deliveries = count * workload.deliveries;
    if ledger.received != deliveries {
        bail!("{} of {deliveries} arrived", ledger.received);
    }
    Ok(Run {
        rate: deliveries as f64 / took,
        cpu: (used(id)?.0 - before) as f64 / deliveries as f64,
        waits,
        ledger,
    })
}

fn figure(who: &str, durability: &str, runs: &[Run], id: u32) -> anyhow::Result<Figure> {
    let mut waits: Vec<f64> = runs
        .iter()
        .flat_map(|run| &run.waits)
        .map(|wait| wait.as_secs_f64() * 1e6)
        .collect();
    waits.sort_by(f64::total_cmp);
    let share = |percent: usize| waits.get(waits.len() * percent / 100).map(|us| us.round());
    Ok(Figure {
        who: who.to_owned(),
        durability: durability.to_owned(),
        messages_a_second: median(runs.iter().map(|run| run.rate)).round(),
        cpu_us_a_message: (median(runs.iter().map(|run| run.cpu)) * 100.0).round() / 100.0,
        p50_us: share(50),
        p99_us: share(99),
        resident_mib: used(id)?.1 >> 20,
        lost: runs.iter().map(|run| run.ledger.gaps).sum(),
        repeated: runs.iter().map(|run| run.ledger.repeats).sum(),
    })
}

fn line(workload: &str, figure: &Figure) {
    let waits = match (figure.p50_us, figure.p99_us) {
        (Some(p50), Some(p99)) => format!("{p50:.0}, {p99:.0}"),
        _ => String::new(),
    };
    println!(
        "| {workload} | {} | {} | {:.0} | {:.2} | {waits} | {} |",
        figure.who,
        figure.durability,
        figure.messages_a_second,
        figure.cpu_us_a_message,
        figure.resident_mib
    );
    if figure.lost + figure.repeated > 0 {
        println!("| | {} lost, {} repeated |", figure.lost, figure.repeated);
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, wanted};

    #[test]
    fn a_broker_that_nobody_knows_is_refused() {
        assert!(wanted(&["hermes".to_owned()]).is_err());
        assert_eq!(wanted(&["nats".to_owned()]).ok(), Some(vec![Kind::Nats]));
        let all = wanted(&["all".to_owned()]).unwrap_or_default();
        assert!(all.len() + 1 == Kind::ALL.len() && !all.contains(&Kind::Rumqttd));
        let more = wanted(&["rumqttd".to_owned(), "all".to_owned()]).unwrap_or_default();
        assert_eq!(more.len(), Kind::ALL.len());
    }
}
