//! `cargo xtask sim`: runs seeds, several at a time, and tells of those that fail.
//!
//! `--seed N` tells everything that happens in one. With the feature `mutations`, `--mutations` takes parts of the journal's
//! protocol out, one after the other, and wants to see each of them missed: by a seed in `caught.txt`, or else by any. `--record FILE`
//! searches for all of them anew, and writes the seeds down. With `--part NAME` it is about that part alone; what FILE says of others stays.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool speaks on stdout")]
#![expect(
    clippy::disallowed_methods,
    reason = "how long it took is told by the machine's clock"
)]

use std::collections::BTreeMap;
#[cfg(feature = "mutations")]
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// What stands behind an argument of that name.
fn text(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

fn number(name: &str) -> Option<u64> {
    text(name)?.parse().ok()
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
        let search = gate::Search {
            from,
            seeds: seeds.unwrap_or(10_000),
            part: text("--part"),
            record: text("--record").map(PathBuf::from),
        };
        return search.run();
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
        "{} processes, {} epochs, {} takeovers by a standby, {} states compared, {} file operations, {} messages confirmed, {} received",
        sum(|it| it.incarnations),
        sum(|it| it.epochs),
        sum(|it| it.takeovers),
        sum(|it| it.states_compared),
        sum(|it| it.operations),
        sum(|it| it.confirmed),
        sum(|it| it.received),
    );
    println!("faults: {}", told(reports.iter().map(|it| &it.faults)));
    println!("seen: {}", told(reports.iter().map(|it| &it.seen)));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What happened how often in all.
fn told<'a>(each: impl Iterator<Item = &'a BTreeMap<&'static str, u64>>) -> String {
    let mut all = BTreeMap::new();
    for (what, times) in each.flatten() {
        *all.entry(what).or_insert(0) += times;
    }
    let all = all.iter().map(|(what, times)| format!("{what} {times}"));
    all.collect::<Vec<_>>().join(", ")
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
    use std::path::PathBuf;
    use std::process::{Command, ExitCode};

    use journal::Mutation;

    /// Seeds that miss a part, a line each. Any other seed does as well; but these save the search.
    const CAUGHT: &str = include_str!("../caught.txt");

    /// What is looked for, and where.
    pub(crate) struct Search {
        pub(crate) from: u64,
        pub(crate) seeds: u64,
        /// The one part that this is about; else all.
        pub(crate) part: Option<String>,
        /// What is known already does not count, and what is found is written there.
        pub(crate) record: Option<PathBuf>,
    }

    impl Search {
        /// Takes each part out.
        pub(crate) fn run(&self) -> ExitCode {
            let mut survived = Vec::new();
            let mut lines = Vec::new();
            let before = self.record.as_ref().map(std::fs::read_to_string);
            let before = before.and_then(Result::ok).unwrap_or_default();
            for (index, mutation) in Mutation::ALL.iter().enumerate() {
                let name = format!("{mutation:?}");
                if self.part.as_ref().is_some_and(|part| *part != name) {
                    lines.extend(known(&before, &name).map(|seed| format!("{name} {seed}\n")));
                    continue;
                }
                match self.missed(index, &name) {
                    Ok(Some((seed, what))) => {
                        println!("{name}: {what}");
                        lines.push(format!("{name} {seed}\n"));
                    }
                    Ok(None) => {
                        println!("{name}: NOT MISSED in {} seeds", self.seeds);
                        survived.push(name);
                    }
                    Err(what) => {
                        println!("{name}: {what}");
                        return ExitCode::FAILURE;
                    }
                }
            }
            if let Some(path) = &self.record
                && let Err(error) = std::fs::write(path, lines.concat())
            {
                println!("failed to write {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
            if survived.is_empty() {
                println!("each part that was taken out was missed");
                ExitCode::SUCCESS
            } else {
                println!("nobody missed {survived:?}");
                ExitCode::FAILURE
            }
        }

        /// By which seed a part is missed.
        fn missed(&self, index: usize, name: &str) -> Result<Seen, String> {
            let known = known(CAUGHT, name).filter(|_| self.record.is_none());
            let tries = known.map(|seed| (seed, 1)).chain([(self.from, self.seeds)]);
            for (from, seeds) in tries {
                if seeds > 1 && self.record.is_none() {
                    println!("{name}: no seed in caught.txt misses it; searching");
                }
                let seen = attempt(Some(index), from, seeds).and_then(holds_otherwise)?;
                if seen.is_some() {
                    return Ok(seen);
                }
            }
            Ok(None)
        }
    }

    fn known(caught: &str, name: &str) -> impl Iterator<Item = u64> {
        let words = caught.lines().filter_map(|line| line.split_once(' '));
        words
            .filter(move |(known, _)| *known == name)
            .filter_map(|(_, seed)| seed.parse().ok())
    }

    /// A seed that failed, and what was wrong.
    type Seen = Option<(u64, String)>;

    /// It was the part that the seed missed, if nothing is wrong with the whole protocol.
    fn holds_otherwise(seen: Seen) -> Result<Seen, String> {
        if let Some((seed, _)) = seen
            && let Some((_, what)) = attempt(None, seed, 1)?
        {
            return Err(format!("with nothing taken out, {what}"));
        }
        Ok(seen)
    }

    /// Runs seeds with a part of the protocol taken out, if any, until one fails. In a process of its own: memory and journal may part, and
    /// then it aborts.
    fn attempt(mutation: Option<usize>, from: u64, seeds: u64) -> Result<Seen, String> {
        let output = std::env::current_exe().and_then(|program| {
            let mut command = Command::new(program);
            command.arg("--first");
            if let Some(mutation) = mutation {
                command.args(["--mutation", &mutation.to_string()]);
            }
            command
                .args(["--from", &from.to_string(), "--seeds", &seeds.to_string()])
                .output()
        });
        let output = output.map_err(|error| format!("failed to start a process: {error}"))?;
        if output.status.success() {
            return Ok(None);
        }
        // A violation names the seed, and so does a thread that panics.
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        let named = said.lines().find_map(|line| Some((line, seed_in(line)?)));
        match named {
            Some((line, seed)) => Ok(Some((seed, line.to_owned()))),
            None => Err(format!("it ended without naming a seed: {said}")),
        }
    }

    fn seed_in(line: &str) -> Option<u64> {
        let (_, rest) = line.split_once("SEED=")?;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().ok()
    }
}
