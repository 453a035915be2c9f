//! `cargo xtask sim`: runs seeds, several at a time, and tells of those that fail.
//!
//! `--seed N` tells everything that happens in one. With the feature `mutations`, `--mutations` takes parts of the journal's
//! protocol out, one after the other, and wants to see each of them missed.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool speaks on stdout")]
#![expect(
    clippy::disallowed_methods,
    reason = "how long it took is told by the machine's clock"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// The number behind an argument of that name.
fn number(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

fn is_there(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

fn main() -> ExitCode {
    #[cfg(feature = "mutations")]
    if let Some(index) = number("--mutation") {
        journal::mutate(journal::Mutation::ALL[index as usize]);
    }
    if let Some(seed) = number("--seed") {
        return replay(seed);
    }
    let (from, seeds) = (number("--from").unwrap_or(0), number("--seeds"));
    #[cfg(feature = "mutations")]
    if is_there("--mutations") {
        return gate::run(from, seeds.unwrap_or(10_000));
    }
    several(from, seeds.unwrap_or(100), is_there("--first"))
}

/// Runs seeds side by side; `first`: until one fails.
fn several(from: u64, seeds: u64, first: bool) -> ExitCode {
    let began = Instant::now();
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(from);
    let enough = AtomicBool::new(false);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let report = sim::run(seed, false);
                    if let Some(what) = &report.violation {
                        println!("SEED={seed}: {what}");
                        enough.fetch_or(first, Ordering::Relaxed);
                    }
                    reports.lock().expect("no panic holds it").push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().expect("no panic held it");
    let failed = reports.iter().filter(|it| it.violation.is_some()).count();
    let sum = |of: fn(&sim::Report) -> u64| reports.iter().map(of).sum::<u64>();
    let hours = sum(|it| it.time) as f64 / 3.6e9;
    println!(
        "{} seeds, {failed} failed: {hours:.1} h simulated in {:.0} s",
        reports.len(),
        began.elapsed().as_secs_f64()
    );
    println!(
        "{} processes, {} epochs, {} takeovers by a standby, {} file operations, {} messages confirmed, {} received",
        sum(|it| it.incarnations),
        sum(|it| it.epochs),
        sum(|it| it.takeovers),
        sum(|it| it.operations),
        sum(|it| it.confirmed),
        sum(|it| it.received),
    );
    let mut faults = BTreeMap::new();
    for (what, times) in reports.iter().flat_map(|it| &it.faults) {
        *faults.entry(what).or_insert(0) += times;
    }
    let faults: Vec<_> = faults
        .iter()
        .map(|(what, times)| format!("{what} {times}"))
        .collect();
    println!("faults: {}", faults.join(", "));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one seed again and tells everything that happens.
fn replay(seed: u64) -> ExitCode {
    let report = sim::run(seed, true);
    for line in &report.story {
        println!("{line}");
    }
    println!(
        "SEED={seed}: {}; hash {:x}",
        report.violation.as_deref().unwrap_or("nothing is wrong"),
        report.hash
    );
    if report.violation.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Parts taken out of the protocol: each must be missed within so many seeds.
#[cfg(feature = "mutations")]
mod gate {
    use std::process::{Command, ExitCode, Output};

    use journal::Mutation;

    /// Which seed missed which part first. Any other one does as well: these are tried first, as they save the search.
    const CAUGHT: &str = include_str!("../caught.txt");

    pub(crate) fn run(from: u64, seeds: u64) -> ExitCode {
        let mut survived = Vec::new();
        for (index, &mutation) in Mutation::ALL.iter().enumerate() {
            let name = format!("{mutation:?}");
            let caught = known(&name);
            let tries = caught.map(|seed| (seed, 1)).into_iter();
            let mut missed = None;
            for (from, seeds) in tries.chain([(from, seeds)]) {
                match attempt(index, from, seeds) {
                    Ok(output) if output.status.success() => {}
                    Ok(output) => {
                        missed = Some(said(&output));
                        break;
                    }
                    Err(error) => {
                        println!("failed to start a process: {error}");
                        return ExitCode::FAILURE;
                    }
                }
            }
            match missed {
                Some(what) => println!("{name}: {what}"),
                None => {
                    println!("{name}: NOT MISSED in {seeds} seeds");
                    survived.push(name);
                }
            }
        }
        if survived.is_empty() {
            println!("{} parts taken out, each missed", Mutation::ALL.len());
            ExitCode::SUCCESS
        } else {
            println!("nobody missed {survived:?}");
            ExitCode::FAILURE
        }
    }

    fn known(name: &str) -> Option<u64> {
        let mut words = CAUGHT.lines().filter_map(|line| line.split_once(' '));
        words.find(|(known, _)| *known == name)?.1.parse().ok()
    }

    /// In a process of its own: memory and journal may part, and then it aborts.
    fn attempt(mutation: usize, from: u64, seeds: u64) -> std::io::Result<Output> {
        Command::new(std::env::current_exe()?)
            .args(["--first", "--mutation", &mutation.to_string()])
            .args(["--from", &from.to_string(), "--seeds", &seeds.to_string()])
            .output()
    }

    fn said(output: &Output) -> String {
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        let what = said.lines().find(|line| !line.trim().is_empty());
        what.unwrap_or("it ended without a word").to_owned()
    }
}
