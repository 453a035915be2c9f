//! `cargo xtask sim`: simulated runs of whole nodes, in the profile that is made for them.

use crate::{cargo, run_with};

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many seeds, from `--from` on; 100. With SEED=n in the environment only that one is run, and everything told.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Takes parts of the journal's protocol out, one after the other: each must be missed, by a seed that is known to, or else within
    /// as many seeds (10,000).
    #[arg(long)]
    mutations: bool,
    /// Searches for all of them, whatever is known, and writes down which seeds miss them.
    #[arg(long, requires = "mutations")]
    search: bool,
}

/// Which seeds miss which part.
const CAUGHT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/caught.txt");

/// What the gate runs: two minutes on two cores. Whoever changes the journal, the node or the core runs ten thousand.
const SEEDS_OF_THE_GATE: u64 = 3_000;

/// As many seeds as the gate has time for, and each part of the protocol taken out once; and whether the gate itself is right.
pub(crate) fn briefly() -> anyhow::Result<()> {
    let seeds = Arguments {
        seeds: Some(SEEDS_OF_THE_GATE),
        from: 0,
        mutations: false,
        search: false,
    };
    run(&seeds)?;
    run(&Arguments {
        seeds: None,
        mutations: true,
        ..seeds
    })?;
    let mut gate = cargo();
    gate.args(["test", "-q", "-p", "sim", "--profile", "sim"]);
    run_with(gate.args(["--features", "mutations", "--test", "gate"]))
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["run", "-q", "-p", "sim", "--profile", "sim"]);
    if arguments.mutations {
        command.args(["--features", "mutations", "--", "--mutations"]);
        if arguments.search {
            command.args(["--record", CAUGHT]);
        }
    } else {
        command.arg("--");
    }
    if let Ok(seed) = std::env::var("SEED") {
        command.args(["--seed", &seed]);
        return run_with(&mut command);
    }
    command.args(["--from", &arguments.from.to_string()]);
    if let Some(seeds) = arguments.seeds {
        command.args(["--seeds", &seeds.to_string()]);
    }
    run_with(&mut command)
}
