//! `cargo xtask sim`: runs seeds, several at a time, and tells of those that fail.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool speaks on stdout")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn number(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

fn main() -> ExitCode {
    if let Some(seed) = number("--seed") {
        return replay(seed);
    }
    let from = number("--from").unwrap_or(0);
    let seeds = number("--seeds").unwrap_or(100);
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(from);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let report = sim::run(seed, false);
                    if let Some(what) = &report.violation {
                        println!("SEED={seed}: {what}");
                    }
                    reports.lock().expect("no panic holds it").push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().expect("no panic held it");
    let failed = reports.iter().filter(|it| it.violation.is_some()).count();
    let sum = |of: fn(&sim::Report) -> u64| reports.iter().map(of).sum::<u64>();
    println!(
        "{seeds} seeds, {failed} failed: {} s simulated, {} processes, {} epochs, {} file operations, {} confirmed, {} received",
        sum(|it| it.time) / 1_000_000,
        sum(|it| it.incarnations),
        sum(|it| it.epochs),
        sum(|it| it.operations),
        sum(|it| it.confirmed),
        sum(|it| it.received),
    );
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
        "SEED={seed}: {:?}, hash {:x}",
        report.violation, report.hash
    );
    if report.violation.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
