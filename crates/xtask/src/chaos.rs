//! `cargo xtask chaos`: a pair of real processes under load, one fault after the other, and what clients were told held against
//! what they get.
//!
//! | fault | what |
//! |---|---|
//! | kill | kill -9 of the active node |
//! | both | kill -9 of both |
//! | stop | SIGSTOP of the active node, SIGCONT after a while: it may have been succeeded, or not |
//! | switchover | `POST /api/cluster/switchover` |
//! | term | SIGTERM of the active node |
//!
//! Whoever ended is started again, and the next fault comes once the pair is whole: one node active, the other able to take
//! over. The seed picks the order, the pauses and the ports; what the processes do in the meantime no seed repeats: that is
//! what the simulator is for. [`history`] has the rules, which know nothing of time. Besides: clients are served again within
//! [`LIMIT`], no process ends that nobody ended, and at the end there is one active node and one standby.

mod clients;
mod history;
mod nodes;
mod report;

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;

use self::{clients::Clients, nodes::Node, report::Report};
use crate::{binary, run as shell};

/// How long anything that must happen may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(10);
/// Between a whole pair and the next fault, in ms.
const CALM_MS: std::ops::Range<u64> = 300..1_500;
/// The shortest pause of a stopped node, in s.
const STOP_MIN: f64 = 0.1;
/// What a client waits for anything, with a release server and with a debug one.
const PATIENCE: Duration = Duration::from_millis(200);
const DEBUG_PATIENCE: Duration = Duration::from_secs(2);
/// Complaints after which there is no use in going on.
const COMPLAINTS_MAX: usize = 20;

/// How it is run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many faults.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// What picks them; printed. Without it: the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// This fault only.
    #[arg(long)]
    only: Option<Fault>,
    /// The longest pause of a stopped node, in seconds; the shortest is 0.1.
    #[arg(long, default_value_t = 30.0)]
    stop: f64,
    /// The debug build.
    #[arg(long)]
    debug: bool,
    /// Where the journal and the logs of both nodes are kept; emptied first, and removed after unless something was wrong.
    #[arg(long, default_value = "target/chaos-data")]
    data: PathBuf,
    /// Writes the report there as well.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The gate's: the debug build, six faults, short pauses.
    #[arg(long, hide = true)]
    brief: bool,
}

/// What happens to the pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    Kill,
    Both,
    Stop,
    Switchover,
    Term,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [
        Self::Kill,
        Self::Both,
        Self::Stop,
        Self::Switchover,
        Self::Term,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Both => "both",
            Self::Stop => "stop",
            Self::Switchover => "switchover",
            Self::Term => "term",
        }
    }
}

/// Numbers that a seed determines (SplitMix64).
pub(crate) struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Every fault as often as any other, in no order.
    fn faults(&mut self, count: usize) -> Vec<Fault> {
        let mut faults = Vec::new();
        while faults.len() < count {
            let mut deck = Fault::ALL.to_vec();
            while !deck.is_empty() {
                faults.push(deck.swap_remove(self.within(0..deck.len() as u64) as usize));
            }
        }
        faults.truncate(count);
        faults
    }

    /// From [`STOP_MIN`] to `longest` seconds, short ones as often as long ones.
    fn pause(&mut self, longest: f64) -> Duration {
        let part = self.within(0..1_001) as f64 / 1_000.0;
        Duration::from_secs_f64(STOP_MIN * (longest.max(STOP_MIN) / STOP_MIN).powf(part))
    }
}

/// One fault and what came of it.
pub(crate) struct Round {
    pub(crate) fault: Fault,
    /// For how long the node was stopped.
    pub(crate) pause: Option<Duration>,
    pub(crate) at: Instant,
    /// How many tenures began: none if a stopped node was not succeeded, two if it came back at once.
    pub(crate) tenures: u64,
    /// Until a publish was confirmed that was sent after the fault: the first of any client, and of the client that waited longest.
    pub(crate) first: Option<Duration>,
    pub(crate) all: Option<Duration>,
}

/// The gate's run.
pub(crate) fn briefly() -> anyhow::Result<()> {
    run(&Arguments {
        rounds: 0,
        seed: None,
        only: None,
        stop: 0.0,
        debug: true,
        data: "target/chaos-data".into(),
        json: None,
        brief: true,
    })
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let debug = arguments.debug || arguments.brief;
    let (rounds, stop) = if arguments.brief {
        (6, 3.0)
    } else {
        (arguments.rounds, arguments.stop)
    };
    let mut build = vec!["build", "--package", "bascule"];
    if !debug {
        build.push("--release");
    }
    shell("cargo", &build)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let seed = arguments.seed.unwrap_or(now);
    println!("seed {seed}");
    let mut chance = Chance(seed);
    let data = &arguments.data;
    if data.exists() {
        std::fs::remove_dir_all(data)?;
    }
    std::fs::create_dir_all(data)?;
    let faults = match arguments.only {
        Some(fault) => vec![fault; rounds],
        None => chance.faults(rounds),
    };
    let mut node = |name| Node::new(name, &binary(!debug), data, &mut chance);
    let mut pair = Pair {
        nodes: [node("a"), node("b")],
        complaints: Vec::new(),
        rounds: Vec::new(),
    };
    for node in &mut pair.nodes {
        node.start()?;
    }
    let (active, _) = pair.whole()?;
    let [a, b] = &pair.nodes;
    let patience = if debug { DEBUG_PATIENCE } else { PATIENCE };
    let mut clients = Clients::start(&pair.nodes[active].doors, [&a.doors, &b.doors], patience)?;
    let went = pair.torment(&faults, stop, &clients, &mut chance);
    let went = went.and_then(|()| pair.drain(&clients));
    clients.end();
    if let Err(error) = went {
        pair.complain(format!("{error:#}"));
    }
    let report = Report::new(seed, &pair.rounds, &clients.tracks, pair.complaints.clone());
    drop(pair);
    report.print();
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    ensure!(
        report.is_clean(),
        "the pair did not keep its word: the journal and the logs are in {}",
        data.display()
    );
    Ok(std::fs::remove_dir_all(data)?)
}

/// The pair and what happened to it.
struct Pair {
    nodes: [Node; 2],
    rounds: Vec<Round>,
    complaints: Vec<String>,
}

impl Pair {
    fn complain(&mut self, what: String) {
        println!("WRONG: {what}");
        self.complaints.push(what);
    }

    /// Waits until one node is active and the other could take over; which one is active, and in which epoch.
    fn whole(&mut self) -> anyhow::Result<(usize, u64)> {
        let mut seen = Vec::new();
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            for at in 0..2 {
                if let Some(status) = self.nodes[at].ended()? {
                    self.complain(format!("{} ended by itself: {status}", self.nodes[at].name));
                    ensure!(
                        self.complaints.len() < COMPLAINTS_MAX,
                        "there is no use in going on"
                    );
                    self.nodes[at].start()?;
                }
            }
            seen = self.nodes.iter().map(Node::cluster).collect();
            if let [Some(a), Some(b)] = &seen[..] {
                for (active, one, other) in [(0, a, b), (1, b, a)] {
                    let near = one["standbys"].as_array().is_some_and(|standbys| {
                        standbys.iter().any(|standby| {
                            standby["node"] == other["node"] && standby["can_take_over"] == true
                        })
                    });
                    if one["role"] == "active" && other["role"] == "standby" && near {
                        return Ok((
                            active,
                            one["epoch"]
                                .as_u64()
                                .context("an active node has an epoch")?,
                        ));
                    }
                }
            }
            std::thread::sleep(LOOK);
        }
        bail!("the pair is not whole after {LIMIT:?}: {seen:?}")
    }

    fn torment(
        &mut self,
        faults: &[Fault],
        stop: f64,
        clients: &Clients,
        chance: &mut Chance,
    ) -> anyhow::Result<()> {
        let (mut active, mut epoch) = self.whole()?;
        self.served(Instant::now(), false, clients)?;
        for (number, fault) in faults.iter().enumerate() {
            std::thread::sleep(Duration::from_millis(chance.within(CALM_MS)));
            let pause = (*fault == Fault::Stop).then(|| chance.pause(stop));
            let at = Instant::now();
            self.rounds.push(Round {
                fault: *fault,
                pause,
                at,
                tenures: 0,
                first: None,
                all: None,
            });
            let before = (active, epoch);
            self.strike(*fault, active, pause)?;
            let (first, all, slowest) = self.served(at, *fault != Fault::Stop, clients)?;
            self.heal()?;
            (active, epoch) = self.whole()?;
            let round = self.rounds.last_mut().expect("this round is there");
            round.tenures = epoch.saturating_sub(before.1);
            (round.first, round.all) = (Some(first), Some(all));
            let names = [before.0, active].map(|at| self.nodes[at].name);
            println!(
                "round {}: {}{}, {} -> {}; epochs +{}; served again after {:.0} ms, every client after {:.0} ms ({slowest})",
                number + 1,
                fault.as_str(),
                pause
                    .map(|pause| format!(" for {:.1} s", pause.as_secs_f64()))
                    .unwrap_or_default(),
                names[0],
                names[1],
                epoch.saturating_sub(before.1),
                first.as_secs_f64() * 1e3,
                all.as_secs_f64() * 1e3,
            );
        }
        Ok(())
    }

    fn strike(
        &mut self,
        fault: Fault,
        active: usize,
        pause: Option<Duration>,
    ) -> anyhow::Result<()> {
        match fault {
            Fault::Kill => self.nodes[active].kill(),
            Fault::Both => {
                self.nodes[active].kill()?;
                self.nodes[1 - active].kill()?;
                self.heal()
            }
            Fault::Stop => {
                self.nodes[active].signal(Signal::STOP)?;
                std::thread::sleep(pause.unwrap_or_default());
                self.nodes[active].signal(Signal::CONT)
            }
            Fault::Switchover => self.nodes[active].switch_over(),
            Fault::Term => self.terminate(active),
        }
    }

    fn terminate(&mut self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].signal(Signal::TERM)?;
        let name = self.nodes[at].name;
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.nodes[at].ended()? {
                if !status.success() {
                    self.complain(format!("{name} was asked to end and ended with {status}"));
                }
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        self.complain(format!("{name} does not end within {LIMIT:?} of SIGTERM"));
        self.nodes[at].kill()
    }

    /// Starts who was ended.
    fn heal(&mut self) -> anyhow::Result<()> {
        self.nodes
            .iter_mut()
            .filter(|node| !node.runs())
            .try_for_each(Node::start)
    }

    /// Waits until every client has a publish confirmed that it sent after the fault; how long the first and the last waited, and which
    /// that is.
    fn served(
        &self,
        fault: Instant,
        anew: bool,
        clients: &Clients,
    ) -> anyhow::Result<(Duration, Duration, &'static str)> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut waited = Vec::new();
            let mut missing = Vec::new();
            for track in &clients.tracks {
                match track.served_after(fault, anew) {
                    Some(at) => waited.push((at.saturating_duration_since(fault), track.name)),
                    None => missing.push(format!("{} ({})", track.name, track.last_trouble())),
                }
            }
            waited.sort_unstable();
            if let ([(first, _), .., (all, slowest)], true) = (&waited[..], missing.is_empty()) {
                return Ok((*first, *all, *slowest));
            }
            ensure!(
                Instant::now() < deadline,
                "not served again within {LIMIT:?}: {}",
                missing.join(", ")
            );
            std::thread::sleep(LOOK);
        }
    }

    /// Lets everything be confirmed and come, as long as any of it goes on.
    fn drain(&mut self, clients: &Clients) -> anyhow::Result<()> {
        clients.drain();
        let mut deadline = Instant::now() + LIMIT;
        let mut least = u64::MAX;
        loop {
            let (active, _) = self.whole()?;
            let unconfirmed: usize = clients.tracks.iter().map(|track| track.unconfirmed()).sum();
            let outstanding: u64 = clients.tracks.iter().map(|track| track.outstanding()).sum();
            let kept = Clients::kept(&self.nodes[active].doors)?;
            let left = unconfirmed as u64 + outstanding + kept;
            if left == 0 {
                return Ok(());
            }
            if left < least {
                (least, deadline) = (left, Instant::now() + LIMIT);
            }
            ensure!(
                Instant::now() < deadline,
                "nothing goes on any more: {unconfirmed} unconfirmed, {outstanding} outstanding, {kept} kept in queues"
            );
            std::thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_picks_each_fault_as_often_and_pauses_within_bounds() {
        let mut chance = Chance(7);
        let faults = chance.faults(15);
        for fault in Fault::ALL {
            assert_eq!(faults.iter().filter(|one| **one == fault).count(), 3);
        }
        assert!(faults == Chance(7).faults(15));
        assert!(faults != Chance(8).faults(15));
        for _ in 0..1_000 {
            let pause = chance.pause(30.0).as_secs_f64();
            assert!((0.0999..30.001).contains(&pause), "{pause}");
        }
    }
}
