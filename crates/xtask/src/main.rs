//! Development commands: `cargo xtask ci | tidy | conformance | bench | soak`.
//!
//! What needs Python says what is missing and is skipped only where the command says so.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool speaks on stdout")]

mod bench;
mod ci;
mod conformance;
mod tidy;

use std::{
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
    /// Everything that the gate holds: format, lints, tests, docs, tidiness, fuzz smoke, crash seeds, quick conformance.
    Ci,
    /// Import directions, file sizes, headers, unsafe, names that must not be in the project.
    Tidy,
    /// Third-party clients against a release server.
    Conformance {
        /// Which suites: `crossings`, `kill9`, `memory`, `tour`; default the quick ones.
        suites: Vec<String>,
    },
    /// Throughput and CPU per message of a release server, by our own load generator.
    Bench {
        /// Seconds a workload.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

fn main() -> anyhow::Result<()> {
    std::env::set_current_dir(root())?;
    match Arguments::parse().command {
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::Conformance { suites } => conformance::run(&suites),
        Task::Bench { seconds } => bench::run(seconds),
    }
}

/// The top of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/xtask lies two levels down")
        .to_owned()
}

/// Runs a command, shows its output, and fails when it does.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    run_with(Command::new(program).args(arguments))
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
