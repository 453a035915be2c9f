//! The fuzz targets of `crates/fuzz`, on stable Rust: libFuzzer guided by LLVM's coverage counters, no sanitizer.
//!
//! `crates/fuzz` is a workspace of its own, for its flags and its profile. What a run finds beyond the seeds stays below
//! the target folder and is the next run's beginning; a crash leaves its input there and its name on the screen.

mod seeds;

use std::process::Command;

use anyhow::bail;

use crate::{cargo, root, run_with, target};

/// Edge counters, the table of edges, and comparisons, which guide the mutations.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// The longest input, in bytes. Lengths of one, two and three bytes on the wire all fit.
const INPUT_LEN_MAX: u32 = 80_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which targets; default all. `--list` names them.
    targets: Vec<String>,
    /// Seconds a target.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// So many inputs a target instead, chosen from one seed: the same again on every machine.
    #[arg(long)]
    runs: Option<u64>,
    /// Prints the targets.
    #[arg(long)]
    list: bool,
}

/// What the gate runs: every target for so many inputs, which finds what a change broke near the seeds. Not for a time:
/// what the gate finds must be found again.
pub(crate) fn briefly() -> anyhow::Result<()> {
    run(&Arguments {
        targets: Vec::new(),
        seconds: 60,
        runs: Some(20_000),
        list: false,
    })
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = root().join("crates/fuzz");
    let known: Vec<String> = std::fs::read_to_string(folder.join("targets.txt"))?
        .lines()
        .map(str::to_owned)
        .collect();
    if arguments.list {
        println!("{}", known.join("\n"));
        return Ok(());
    }
    if let Some(name) = arguments.targets.iter().find(|name| !known.contains(name)) {
        bail!("no target '{name}'; there are {}", known.join(", "));
    }
    let built = target().join("fuzz");
    // A target triple, so that build scripts and macros are built without the flags.
    let triple = host()?;
    run_with(
        cargo()
            .args(["build", "--locked", "--release", "--target", &triple])
            .arg("--target-dir")
            .arg(&built)
            .current_dir(&folder)
            .env("RUSTFLAGS", FLAGS.join(" ")),
    )?;
    let program = built.join(&triple).join("release/fuzz");
    let chosen = if arguments.targets.is_empty() {
        &known
    } else {
        &arguments.targets
    };
    let mut crashed = Vec::new();
    for name in chosen {
        let corpus = built.join("corpus").join(name);
        std::fs::create_dir_all(&corpus)?;
        let crashes = built.join("crashes").join(name);
        std::fs::create_dir_all(&crashes)?;
        let seeds = built.join("seeds").join(name);
        std::fs::create_dir_all(&seeds)?;
        for (number, seed) in seeds::seeds(name)?.iter().enumerate() {
            std::fs::write(seeds.join(number.to_string()), seed)?;
        }
        let ended = run_with(
            Command::new(&program)
                .env("BASCULE_FUZZ", name)
                .arg(format!("-max_total_time={}", arguments.seconds))
                .arg(format!("-max_len={INPUT_LEN_MAX}"))
                // Time and memory of one input, far above what any needs.
                .args([
                    "-timeout=20",
                    "-rss_limit_mb=2048",
                    "-verbosity=0",
                    "-print_final_stats=1",
                ])
                .args(arguments.runs.map(|runs| format!("-runs={runs}")))
                .args(arguments.runs.map(|_| "-seed=1"))
                .arg(format!("-artifact_prefix={}/", crashes.display()))
                .arg(&corpus)
                .arg(&seeds)
                .current_dir(&folder),
        );
        if ended.is_err() {
            crashed.push(format!("{name} (input in {})", crashes.display()));
        }
    }
    if !crashed.is_empty() {
        bail!("the fuzzer found something: {}", crashed.join(", "));
    }
    let each = match arguments.runs {
        Some(runs) => format!("{runs} inputs"),
        None => format!("{} s", arguments.seconds),
    };
    println!("{} targets, {each} each, nothing found", chosen.len());
    Ok(())
}

/// The triple that rustc builds for.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    let Some(triple) = line else {
        bail!("rustc -vV names no host");
    };
    Ok(triple.to_owned())
}
