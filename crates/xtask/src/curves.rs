//! How the cost of a message depends on what there is many of: connections, queues, topics, subscriptions, messages that wait,
//! bytes, messages under way. Each point is a server of its own.
//!
//! The figures go into a file, charts and the tables of a page, which says in words where a curve bends and why.

mod lines;
mod loads;
mod page;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    bench::{kernel, load, machine, median, pin},
    load::{Ledger, server::Server},
};
use loads::{CURVES, Curve};

/// What to draw, and how.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the curves whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Seconds a run.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Runs a point; the figures are medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// As in `bench`.
    #[arg(long)]
    pinned: bool,
    /// As in `bench`.
    #[arg(long, default_value = "target/bench-data")]
    data: PathBuf,
    /// Writes curves.json, a chart a curve and the tables of CURVES.md there; curves that are not measured stay as they are.
    #[arg(long)]
    into: Option<PathBuf>,
}

/// What one number of things comes to.
#[derive(Serialize, Deserialize)]
struct Point {
    x: u64,
    messages_a_second: f64,
    cpu_us_a_message: f64,
    /// How often a thread of the server went to sleep, a message.
    sleeps_a_message: f64,
    /// Durable writes a message, and reads of bodies that were on the disk only.
    syncs_a_message: f64,
    reads_a_message: f64,
    resident_mib: u64,
}

/// The points of one way to use it.
#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    points: Vec<Point>,
}

/// One curve as it was measured.
#[derive(Serialize, Deserialize)]
struct Drawn {
    name: String,
    title: String,
    axis: String,
    machine: String,
    kernel: String,
    version: String,
    rounds: usize,
    seconds: u64,
    pinned: bool,
    load_before: String,
    load_after: String,
    lines: Vec<Line>,
}

/// Measures the curves that are asked for.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let only = arguments.only.as_deref().unwrap_or_default();
    let wanted: Vec<&Curve> = CURVES
        .iter()
        .filter(|curve| curve.name.contains(only))
        .collect();
    ensure!(!wanted.is_empty(), "no curve is known as {only}");
    if arguments.pinned {
        pin()?;
    }
    for curve in wanted {
        let drawn = draw(curve, arguments)?;
        print!("{}", page::table(&drawn));
        if let Some(folder) = &arguments.into {
            page::keep(drawn, folder)?;
        }
    }
    Ok(())
}

fn draw(curve: &Curve, arguments: &Arguments) -> anyhow::Result<Drawn> {
    let load_before = load();
    let mut lines = Vec::new();
    for line in curve.lines {
        let mut points = Vec::new();
        for x in line.xs {
            let point = point(line.set_up, *x, arguments);
            points.push(point.with_context(|| format!("{}, {}, {x}", curve.name, line.name))?);
        }
        lines.push(Line {
            name: line.name.to_owned(),
            points,
        });
    }
    Ok(Drawn {
        name: curve.name.to_owned(),
        title: curve.title.to_owned(),
        axis: curve.axis.to_owned(),
        machine: machine()?,
        kernel: kernel()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        pinned: arguments.pinned,
        load_before,
        load_after: load(),
        lines,
    })
}

fn point(set_up: loads::SetUp, x: u64, arguments: &Arguments) -> anyhow::Result<Point> {
    let server = Server::fresh(Path::new(&arguments.data), &[])?;
    let mut load = set_up(&server, x)?;
    let mut count = 1;
    // The first runs warm it up, and find how many messages the time takes.
    loop {
        let limit = arguments.seconds as f64 / 4.0;
        let (mut ledger, mut took) = timed(&mut load, count)?;
        if took > limit {
            // Something else may have held it up.
            let again = timed(&mut load, count)?;
            took = took.min(again.1);
            ledger = again.0;
        }
        let enough = ledger.received as f64 * arguments.seconds as f64 / took;
        let last = took > limit;
        // Loads that deliver a message several times count the deliveries.
        let deliveries = (ledger.received / count).max(1);
        let most = if last { u64::MAX } else { count * 20 };
        count = ((enough as u64) / deliveries).clamp(1, most);
        if last {
            break;
        }
    }
    let mut runs = Vec::new();
    for _ in 0..arguments.rounds {
        let before = Counters::of(&server)?;
        let (ledger, took) = timed(&mut load, count)?;
        let after = Counters::of(&server)?;
        let received = ledger.received as f64;
        ensure!(
            ledger.gaps == 0 && ledger.repeats == 0,
            "{} lost, {} repeated",
            ledger.gaps,
            ledger.repeats
        );
        runs.push([
            received / took,
            (after.cpu_us - before.cpu_us) as f64 / received,
            (after.sleeps - before.sleeps) as f64 / received,
            (after.syncs - before.syncs) / received,
            (after.reads - before.reads) / received,
        ]);
    }
    let middle = |of: usize| median(runs.iter().map(|run| run[of]));
    Ok(Point {
        x,
        messages_a_second: middle(0).round(),
        cpu_us_a_message: rounded(middle(1)),
        sleeps_a_message: rounded(middle(2)),
        syncs_a_message: rounded(middle(3)),
        reads_a_message: rounded(middle(4)),
        resident_mib: server.rss()? >> 20,
    })
}

/// A run, and its seconds.
fn timed(load: &mut loads::Load, count: u64) -> anyhow::Result<(Ledger, f64)> {
    let began = Instant::now();
    let ledger = load(count)?;
    Ok((ledger, began.elapsed().as_secs_f64()))
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

struct Counters {
    cpu_us: u64,
    sleeps: u64,
    syncs: f64,
    reads: f64,
}

impl Counters {
    fn of(server: &Server) -> anyhow::Result<Self> {
        Ok(Self {
            cpu_us: server.cpu_us()?,
            sleeps: server.sleeps()?,
            syncs: server.metric("journal_syncs_total")?,
            reads: server.metric("journal_reads_total")?,
        })
    }
}
