//! `cargo xtask counts`: what a message costs, against what was recorded (`crates/counts/recorded.toml`).
//!
//! Two kinds of numbers, neither of which knows how fast the machine is:
//! - of the crate `counts`, the whole road in one thread: instructions (under `valgrind --tool=callgrind`), allocations, bytes
//!   allocated and copied, durable writes. They repeat within a thousandth, and may grow by [`GROWTH`].
//! - of a whole server whose clients wait for each message (`counts/whole.rs`): system calls and wake-ups. Threads meet as they
//!   like, so they may grow by [`GROWTH_WHOLE`].
//!
//! SHA-256 is counted as software computes it: valgrind has no instructions for it. What falls is told, not recorded by
//! itself: `--record` writes what is measured.

mod whole;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::{Context, bail, ensure};

use crate::{root, run as shell, target};

/// By how much a number may be above what was recorded.
const GROWTH: f64 = 0.05;
/// The same of a whole server.
const GROWTH_WHOLE: f64 = 0.5;
/// What is less than this a message is nothing, however much it grew: of the one kind, and of a whole server.
const NOTHING: f64 = 0.001;
const NOTHING_WHOLE: f64 = 0.5;
/// Workloads that are counted at a time.
const AT_A_TIME: usize = 2;

/// By workload, and by what is counted: how much of it a message.
type Table = BTreeMap<String, BTreeMap<String, f64>>;

/// Counts, and compares or records.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Writes what is measured into `crates/counts/recorded.toml`.
    #[arg(long)]
    pub(crate) record: bool,
    /// Only the workload of this name.
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Without the counts of a whole server.
    #[arg(long)]
    pub(crate) in_process: bool,
}

/// As the gate runs it.
pub(crate) fn all() -> anyhow::Result<()> {
    run(&Arguments {
        record: false,
        only: None,
        in_process: false,
    })
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Together with the binary: it is what is released that is counted, and by itself the crate would have others' crates with fewer
    // of their features, built once more.
    let both = ["--package", "counts", "--package", "bascule"];
    shell("cargo", &[&["build", "--release"][..], &both].concat())?;
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| only == name);
    let valgrind = has("valgrind");
    if !valgrind {
        println!(
            "counts: valgrind is not installed, so instructions are NOT counted (`apt-get install valgrind`)"
        );
    }
    let mut measured = in_process(wanted, valgrind)?;
    if !arguments.in_process {
        if has("strace") {
            shell("cargo", &["build", "--package", "bascule"])?;
            measured.extend(whole::measure(wanted)?);
        } else {
            println!(
                "counts: strace is not installed, so a whole server is NOT counted (`apt-get install strace`)"
            );
        }
    }
    let path = root().join("crates/counts/recorded.toml");
    let mut recorded: Table = toml::from_str(&std::fs::read_to_string(&path).unwrap_or_default())
        .with_context(|| format!("failed to read {}", path.display()))?;
    if arguments.record {
        show(&measured, &recorded);
        for (workload, counts) in measured {
            recorded.entry(workload).or_default().extend(counts);
        }
        return record(&path, &recorded);
    }
    show(&measured, &recorded);
    let faults = compare(&measured, &recorded);
    for fault in &faults {
        println!("counts: {fault}");
    }
    ensure!(
        faults.is_empty(),
        "{} counts are above what was recorded; if that is meant, `cargo xtask counts --record` and say why",
        faults.len()
    );
    Ok(())
}

fn has(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").output();
    asked.is_ok_and(|output| output.status.success())
}

/// Runs the workloads of the crate `counts`, a few at a time.
fn in_process(wanted: impl Fn(&str) -> bool, valgrind: bool) -> anyhow::Result<Table> {
    let program = target().join("release/counts");
    let listed = Command::new(&program).arg("list").output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let names = listed.lines().filter_map(|line| line.split('\t').next());
    let mut left: Vec<String> = names.filter(|name| wanted(name)).map(Into::into).collect();
    left.reverse();
    let (left, found) = (Mutex::new(left), Mutex::new(Table::new()));
    let work = || -> anyhow::Result<()> {
        loop {
            let Some(name) = left.lock().expect("no thread panics with it").pop() else {
                return Ok(());
            };
            let counts = count(&program, &name, valgrind)
                .with_context(|| format!("failed to count {name}"))?;
            let mut found = found.lock().expect("no thread panics with it");
            found.insert(name, counts);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().expect("a thread returns its errors")?;
        }
        anyhow::Ok(())
    })?;
    Ok(found.into_inner().expect("no thread panics with it"))
}

/// One workload, per message.
fn count(program: &Path, name: &str, valgrind: bool) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut command = if valgrind {
        let mut command = Command::new("valgrind");
        command
            .args([
                "--tool=callgrind",
                "--callgrind-out-file=/dev/null",
                "--toggle-collect=counts::served::Served::turn",
            ])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    let output = command.arg(name).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let (what, value) = line.split_once(' ').context("a key and a value")?;
        counts.insert(what.to_owned(), value.parse()?);
    }
    if valgrind {
        let collected = (errors.lines())
            .find_map(|line| line.split_once("Collected :"))
            .context("callgrind says what it collected")?;
        let instructions: f64 = collected.1.trim().parse()?;
        ensure!(instructions > 0.0, "callgrind collected nothing");
        counts.insert("instructions".to_owned(), instructions);
    }
    let messages = counts.remove("messages").context("messages are counted")?;
    // How often the server had to look is no cost of its own.
    counts.remove("turns");
    Ok(counts
        .into_iter()
        .map(|(what, count)| (what, count / messages))
        .collect())
}

fn show(measured: &Table, recorded: &Table) {
    println!("| workload | a message | recorded | now | |\n|---|---|---|---|---|");
    for (workload, counts) in measured {
        for (what, now) in counts {
            match known(recorded, workload, what) {
                Some(before) if before > 0.0 => println!(
                    "| {workload} | {what} | {before:.4} | {now:.4} | {:+.1} % |",
                    (now / before - 1.0) * 100.0
                ),
                _ => println!("| {workload} | {what} | | {now:.4} | |"),
            }
        }
    }
}

fn known(recorded: &Table, workload: &str, what: &str) -> Option<f64> {
    recorded.get(workload)?.get(what).copied()
}

fn compare(measured: &Table, recorded: &Table) -> Vec<String> {
    let mut faults = Vec::new();
    for (workload, counts) in measured {
        for (what, &now) in counts {
            let Some(before) = known(recorded, workload, what) else {
                faults.push(format!("{workload}: {what} was never recorded"));
                continue;
            };
            let (growth, nothing) = if whole::is_of(what) {
                (GROWTH_WHOLE, NOTHING_WHOLE)
            } else {
                (GROWTH, NOTHING)
            };
            if now > before * (1.0 + growth) + nothing {
                faults.push(format!(
                    "{workload}: {what} is {now:.3} a message, {before:.3} was recorded (at most {:.0} % more)",
                    growth * 100.0
                ));
            } else if now < before * (1.0 - growth) - nothing {
                println!("counts: {workload}: {what} fell from {before:.3} to {now:.3}: record it");
            }
        }
    }
    faults
}

fn record(path: &PathBuf, table: &Table) -> anyhow::Result<()> {
    let mut text = String::from(
        "# What a message costs, written by `cargo xtask counts --record` and held by `cargo xtask counts`: nothing here may grow\n\
         # by more than 5 % (system calls and wake-ups of a whole server: 50 %). Instructions are those of x86-64 under callgrind.\n",
    );
    for (workload, counts) in table {
        text.push_str(&format!("\n[{workload}]\n"));
        for (what, count) in counts {
            text.push_str(&format!("{what} = {count:.4}\n"));
        }
    }
    if toml::from_str::<Table>(&text).is_err() {
        bail!("what was measured is no TOML: {text}");
    }
    std::fs::write(path, text)?;
    println!("recorded in {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(what: &str, count: f64) -> Table {
        let counts = BTreeMap::from([(what.to_owned(), count)]);
        BTreeMap::from([("w".to_owned(), counts)])
    }

    #[test]
    fn five_percent_are_enough_to_fail() {
        let before = table("instructions", 1000.0);
        assert!(compare(&table("instructions", 1050.0), &before).is_empty());
        assert_eq!(compare(&table("instructions", 1051.0), &before).len(), 1);
        assert!(compare(&table("instructions", 10.0), &before).is_empty());
        assert_eq!(compare(&table("allocations", 1.0), &before).len(), 1);
    }

    #[test]
    fn a_whole_server_may_vary() {
        let before = table("system_calls", 10.0);
        assert!(compare(&table("system_calls", 15.4), &before).is_empty());
        assert_eq!(compare(&table("system_calls", 15.6), &before).len(), 1);
    }
}
