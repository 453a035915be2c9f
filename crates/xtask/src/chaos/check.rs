//! `cargo xtask chaos --check`: a real pair that breaks its word, so that it is seen that this is seen.
//!
//! | what is done | what must be reported |
//! |---|---|
//! | both nodes are killed, and the journal is put back to what it was before messages were confirmed | each track: just those are lost |
//! | the same, to what it was before messages were removed | SQS: duplicates |
//! | a node is killed behind our back | it ended by itself |
//! | both nodes are stopped | clients are not served |
//!
//! The journal that goes back in time stands for a node that confirms before anything is stable.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustix::process::Signal;

use super::{
    LIMIT, LOOK, Pair,
    clients::{BURST, Clients},
    faults::Chance,
    history::Counts,
    shell,
};

/// For how long clients work between two steps.
const WHILE: Duration = Duration::from_millis(1_500);
/// What nobody serves is given up after so long.
const SHORT: Duration = Duration::from_secs(3);
/// Nothing more comes if nothing has come for so long and the queues that tell it are empty.
const QUIET: Duration = Duration::from_secs(1);

pub(super) fn run(data: &Path, debug: bool, chance: &mut Chance) -> anyhow::Result<()> {
    let (mut pair, mut clients) = Pair::start(data, debug, false, chance)?;
    let (journal, copy) = (data.join("journal"), data.join("copy"));
    let mut lost = Vec::new();
    let went = (|| {
        pair.served(Instant::now(), false, &clients)?;
        // Confirmed and then not there.
        clients.hold(true);
        pair.down()?;
        put(&journal, &copy)?;
        let before = confirmed(&clients);
        pair.up()?;
        pair.served(Instant::now(), false, &clients)?;
        std::thread::sleep(WHILE);
        pair.down()?;
        put(&copy, &journal)?;
        let after = confirmed(&clients);
        lost = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        pair.up()?;
        // Removed and then there again.
        pair.served(Instant::now(), false, &clients)?;
        std::thread::sleep(WHILE);
        pair.down()?;
        put(&journal, &copy)?;
        pair.up()?;
        clients.hold(false);
        pair.quiet(&clients)?;
        pair.down()?;
        put(&copy, &journal)?;
        pair.up()?;
        pair.quiet(&clients)?;
        ensure!(pair.complaints.is_empty(), "{:?}", pair.complaints);
        clients.hold(false);
        pair.served(Instant::now(), false, &clients)?;
        // Nobody serves.
        for node in &mut pair.nodes {
            node.signal(Signal::STOP)?;
        }
        let served = pair.served_within(SHORT, Instant::now(), false, &clients);
        ensure!(served.is_err(), "it is not seen that nobody serves");
        for node in &mut pair.nodes {
            node.signal(Signal::CONT)?;
        }
        pair.whole()?;
        // A node ends by itself.
        pair.nodes[0].signal(Signal::KILL)?;
        let deadline = Instant::now() + LIMIT;
        while pair.complaints.is_empty() && Instant::now() < deadline {
            pair.whole()?;
            std::thread::sleep(LOOK);
        }
        ensure!(
            pair.complaints
                .iter()
                .any(|one| one.contains("ended by itself")),
            "it is not seen that a node ended by itself"
        );
        pair.quiet(&clients)
    })();
    clients.end();
    went?;
    let mut told = Vec::new();
    for (track, lost) in clients.tracks.iter().zip(lost) {
        let counts: Counts = track.judge(&[], &mut told).remove(0);
        println!("{}: {counts:?}", track.name);
        // What was under way when the copy was made may be in it, and was confirmed when it was sent again.
        ensure!(
            (lost.saturating_sub(BURST).max(1)..=lost).contains(&(counts.lost as usize)),
            "{} is to lose {lost}",
            track.name
        );
        ensure!(
            track.name != "sqs" || counts.duplicates > 0,
            "{} has nothing twice",
            track.name
        );
    }
    println!("every breach was seen");
    Ok(())
}

/// Makes the second directory what the first one is.
fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    let [from, to] = [from, to].map(|path| path.to_string_lossy().into_owned());
    shell("cp", &["--archive", "--sparse=always", &from, &to])
}

/// How many messages were confirmed, track by track.
fn confirmed(clients: &Clients) -> Vec<usize> {
    let tracks = clients.tracks.iter();
    tracks.map(|track| track.confirmed_count()).collect()
}

impl Pair {
    fn down(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(super::Node::kill)
    }

    fn up(&mut self) -> anyhow::Result<()> {
        self.heal()?;
        self.whole().map(drop)
    }

    /// Publishes nothing, and waits until nothing comes any more.
    fn quiet(&mut self, clients: &Clients) -> anyhow::Result<()> {
        let received = || -> usize {
            let tracks = clients.tracks.iter();
            tracks.map(|track| track.received_count()).sum()
        };
        clients.pause();
        let (active, _) = self.whole()?;
        let deadline = Instant::now() + LIMIT;
        let (mut last, mut since) = (received(), Instant::now());
        while since.elapsed() < QUIET {
            ensure!(Instant::now() < deadline, "messages come and come");
            std::thread::sleep(LOOK);
            if received() != last || Clients::kept(&self.nodes[active].doors)? > 0 {
                (last, since) = (received(), Instant::now());
            }
        }
        Ok(())
    }
}
