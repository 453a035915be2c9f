//! Development commands: `cargo xtask ci | tidy | spec | conversions | sim | chaos | conformance | counts | bench | curves | memory | restart | hostile`.
//!
//! What needs Python says what is missing and is skipped only where the command says so.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool speaks on stdout")]
#![expect(
    clippy::disallowed_methods,
    reason = "load is measured against the machine's clock"
)]

mod bench;
mod chaos;
mod ci;
mod conformance;
mod counts;
mod curves;
mod fuzz;
mod hostile;
mod load;
mod sim;
mod soak;
mod spec;
mod tidy;
mod tied;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Development commands of Bascule")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that the gate holds: format, lints, tests, docs, tidiness, random and crash tests with more cases, a short fuzz run, counts against what was recorded, quick conformance, a short chaos run.
    Ci,
    /// Import directions, file sizes, headers, unsafe, names that must not be in the project.
    Tidy,
    /// The normative statements of the specifications, and which code and tests cite them.
    Spec {
        /// `mqtt`, `amqp` or `stomp`; default all.
        protocol: Option<String>,
        /// Only those that lack code or test.
        #[arg(long)]
        missing: bool,
        /// Writes the counts into protocols/README.md.
        #[arg(long)]
        write: bool,
    },
    /// Writes the tables of protocols/CONVERSIONS.md, and their golden text, from what the protocols do.
    Conversions,
    /// Simulated runs of whole nodes over one store, with everything going wrong; `SEED=n` tells of one.
    Sim(sim::Arguments),
    /// A pair of real processes under load, killed, stopped and switched over; what clients were told held against what they get.
    Chaos(chaos::Arguments),
    /// Other people's clients and test suites against our server.
    Conformance(conformance::Arguments),
    /// Random bytes and random operations against every decoder, guided by coverage.
    Fuzz(fuzz::Arguments),
    /// Instructions, system calls, wake-ups, syncs, allocations and copied bytes a message, against what was recorded.
    Counts(counts::Arguments),
    /// Throughput and CPU per message of a release server, by our own load generator; also in pairs with other brokers.
    Bench(bench::Arguments),
    /// CPU a message and messages a second over the number of connections, queues, topics, subscriptions, waiting messages, bytes and messages under way.
    Curves(curves::Arguments),
    /// A queue many times larger than memory: fill, drain in order, watch the memory.
    Memory {
        /// Messages of 1 KiB.
        #[arg(long, default_value_t = 5_000_000)]
        count: u64,
        /// As in `bench`.
        #[arg(long, default_value = "target/bench-data")]
        data: PathBuf,
    },
    /// kill -9 with a full queue, and the time to the word `ready`: alone, and of a standby.
    Restart {
        /// Messages.
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
        /// Bytes of each.
        #[arg(long, default_value_t = 1024)]
        body_bytes: usize,
        /// The most that a restart may take, in ms.
        #[arg(long, default_value_t = 1000)]
        limit_ms: u64,
        /// How often.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// As in `bench`.
        #[arg(long, default_value = "target/bench-data")]
        data: PathBuf,
    },
    /// What attacks cost a client in order: its round trips with and without each, and the server's memory.
    Hostile {
        /// Connections that never log in.
        #[arg(long, default_value_t = 8_000)]
        strangers: usize,
        /// Seconds an attack.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// As in `bench`.
        #[arg(long, default_value = "target/bench-data")]
        data: PathBuf,
    },
    /// Runs a program that is killed when the process that started this ends.
    #[command(hide = true)]
    Tied {
        /// Who started this.
        parent: u32,
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<OsString>,
    },
}

fn main() -> anyhow::Result<()> {
    std::env::set_current_dir(root())?;
    match Arguments::parse().command {
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::Spec {
            protocol,
            missing,
            write,
        } => spec::run(protocol.as_deref(), missing, write),
        Task::Conversions => conversions(),
        Task::Conformance(arguments) => conformance::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Bench(arguments) => release().and_then(|()| bench::run(&arguments)),
        Task::Curves(arguments) => release().and_then(|()| curves::run(&arguments)),
        Task::Counts(arguments) => counts::run(&arguments),
        Task::Chaos(arguments) => chaos::run(&arguments),
        Task::Tied { parent, words } => tied::run(parent, &words),
        Task::Sim(arguments) => sim::run(&arguments),
        Task::Memory { count, data } => release().and_then(|()| soak::memory(count, &data)),
        Task::Restart {
            count,
            body_bytes,
            limit_ms,
            rounds,
            data,
        } => release().and_then(|()| soak::restart(count, body_bytes, limit_ms, rounds, &data)),
        Task::Hostile {
            strangers,
            seconds,
            data,
        } => release().and_then(|()| hostile::hostile(&data, strangers, seconds)),
    }
}

/// The tests that compare the tables write them instead.
fn conversions() -> anyhow::Result<()> {
    let status = cargo()
        .args(["test", "--package", "conversions"])
        .env("CONVERSIONS_WRITE", "1")
        .status()
        .context("failed to start cargo")?;
    if !status.success() {
        bail!("the tests of the conversions fail");
    }
    Ok(())
}

/// The top of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/xtask lies two levels down")
        .to_owned()
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The server that `cargo build` leaves behind.
fn binary(release: bool) -> PathBuf {
    let profile = if release { "release" } else { "debug" };
    target().join(profile).join("bascule")
}

/// Builds what is measured.
fn release() -> anyhow::Result<()> {
    run("cargo", &["build", "--release", "--package", "bascule"])
}

/// Cargo as a person would run it. `cargo run`, which runs this, sets variables that say what it runs; a build script that
/// reads some (ring's) would be run anew, and all that rests on it built again, each time that a plain `cargo build`, which
/// has none, comes between.
fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs a command, shows its output, and fails when it does.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = match program {
        "cargo" => cargo(),
        _ => Command::new(program),
    };
    run_with(command.args(arguments))
}

fn run_with(command: &mut Command) -> anyhow::Result<()> {
    println!("+ {command:?}");
    let status = command
        .status()
        .with_context(|| format!("failed to start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
