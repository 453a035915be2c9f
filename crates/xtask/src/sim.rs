//! `cargo xtask sim`: simulated runs of whole nodes, in the profile that is made for them.

use std::process::Command;

use crate::run_with;

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many seeds, from `--from` on. With SEED=n in the environment only that one is run, and everything told.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command.args(["run", "-q", "-p", "sim", "--profile", "sim", "--"]);
    if let Ok(seed) = std::env::var("SEED") {
        command.args(["--seed", &seed]);
        return run_with(&mut command);
    }
    let (seeds, from) = (arguments.seeds.to_string(), arguments.from.to_string());
    command.args(["--seeds", &seeds, "--from", &from]);
    run_with(&mut command)
}
