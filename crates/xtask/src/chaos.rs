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
//! With `--hosts`, on two hosts of network namespaces with a small disk of their own ([`hosts`]), also
//!
//! | fault | what |
//! |---|---|
//! | full | the disk fills up, by the load or by somebody else; meanwhile consumers empty their queues, and perhaps a node dies |
//! | stall | the disk stands still, for the active node only |
//! | cut | nothing gets through between the active node and the clients, or one way only |
//!
//! Whoever ended is started again, and the next fault comes once the pair is whole: one node active, the other able to take
//! over. The seed picks the order, the pauses and the ports; what the processes do in the meantime no seed repeats: that is
//! what the simulator is for. [`history`] has the rules, which know nothing of time. Besides: clients are served again within
//! [`LIMIT`], no process ends that nobody ended, no epoch has two active nodes, and at the end there is one active node and one standby.
//!
//! Each run tries its checkers on the history that it has recorded, and `--check` has a pair break its word: [`check`].

mod check;
mod clients;
mod faults;
mod history;
mod hosts;
mod nodes;
mod report;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};

use self::{
    clients::Clients,
    faults::{Chance, Fault},
    hosts::Disk,
    nodes::Node,
    report::Report,
};
use crate::{binary, run as shell};

/// How long anything that must happen may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(10);
/// Between a whole pair and the next fault, in ms.
const CALM_MS: std::ops::Range<u64> = 300..1_500;
/// What a client waits for anything, with a release server on our host, and where it takes longer: with a debug server, and on
/// other hosts, where passwords are verified.
const PATIENCE: Duration = Duration::from_millis(200);
const LONG_PATIENCE: Duration = Duration::from_secs(2);
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
    /// Two hosts with a disk of their own, and the faults that there are only there. Needs root.
    #[arg(long)]
    hosts: bool,
    /// In the namespaces of such hosts.
    #[arg(long, hide = true)]
    inside: bool,
    /// Has the pair break its word in each way that is looked for, and fails unless that is seen.
    #[arg(long, conflicts_with = "hosts")]
    check: bool,
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

/// One fault and what came of it.
pub(crate) struct Round {
    pub(crate) fault: Fault,
    /// For how long the fault lasted, where chance decides that.
    pub(crate) pause: Option<Duration>,
    /// From when on clients should be served again.
    pub(crate) at: Instant,
    /// How many tenures began: none if a stopped node was not succeeded, two if it came back at once.
    pub(crate) tenures: u64,
    /// Until a publish was confirmed that was sent after the fault: the first of any client, and of the client that waited longest.
    pub(crate) first: Option<Duration>,
    pub(crate) all: Option<Duration>,
    /// How long each phase of the last takeover was, in us, by the node that took over.
    pub(crate) phases_us: BTreeMap<String, u64>,
}

/// The gate's runs: one under faults, and one that shows that breaches are seen.
pub(crate) fn briefly() -> anyhow::Result<()> {
    for check in [false, true] {
        run(&Arguments {
            rounds: 0,
            seed: None,
            only: None,
            stop: 0.0,
            hosts: false,
            inside: false,
            check,
            debug: true,
            data: "target/chaos-data".into(),
            json: None,
            brief: true,
        })?;
    }
    Ok(())
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
    if !arguments.inside {
        shell("cargo", &build)?;
    }
    if arguments.hosts && !arguments.inside {
        return hosts::enter();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let seed = arguments.seed.unwrap_or(now);
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let data = &arguments.data;
    if data.exists() {
        std::fs::remove_dir_all(data)?;
    }
    std::fs::create_dir_all(data)?;
    if arguments.check {
        check::run(data, debug, &mut chance)?;
        return Ok(std::fs::remove_dir_all(data)?);
    }
    let faults = chance.faults(rounds, arguments.hosts, arguments.only)?;
    let (mut pair, mut clients) = Pair::start(data, debug, arguments.hosts, &mut chance)?;
    for went in [
        pair.torment(&faults, stop, &clients, &mut chance),
        pair.drain(&clients),
    ] {
        if let Err(error) = went {
            pair.complain(format!("{error:#}"));
        }
    }
    clients.end();
    let tracks: Vec<_> = clients.tracks.iter().chain(&clients.bulk).collect();
    let mut seen = 0;
    for track in &clients.tracks {
        seen += track.try_checkers(&mut chance, &mut pair.complaints);
    }
    let report = Report::new(seed, &pair.rounds, &tracks, seen, pair.complaints.clone());
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
    /// The nodes' own, if they are on two hosts.
    disk: Option<Disk>,
    rounds: Vec<Round>,
    complaints: Vec<String>,
}

impl Pair {
    /// Starts both nodes, and the clients once they are a pair.
    fn start(
        data: &Path,
        debug: bool,
        hosts: bool,
        chance: &mut Chance,
    ) -> anyhow::Result<(Self, Clients)> {
        let (names, binary) = (["a", "b"], binary(!debug));
        let mut disk = None;
        let mut places = [None, None];
        if hosts {
            let (made, both) = hosts::make(data, names, &binary)?;
            disk = Some(made);
            places = both.map(Some);
        }
        let journal = disk.as_ref().map_or(data, Disk::directory);
        let [a, b] = places;
        let mut node = |name, host| Node::new(name, &binary, [data, journal], host, chance);
        let nodes = [node(names[0], a), node(names[1], b)];
        let mut pair = Self {
            nodes,
            disk,
            complaints: Vec::new(),
            rounds: Vec::new(),
        };
        for node in &mut pair.nodes {
            node.start()?;
        }
        let (active, _) = pair.whole()?;
        let [a, b] = &pair.nodes;
        let patience = if debug || hosts {
            LONG_PATIENCE
        } else {
            PATIENCE
        };
        let both = [&a.doors, &b.doors];
        let clients = Clients::start(&pair.nodes[active].doors, both, patience, hosts)?;
        Ok((pair, clients))
    }

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
            self.one_active(&seen);
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
            let pause = chance.pause_of(*fault, stop);
            self.rounds.push(Round {
                fault: *fault,
                pause,
                at: Instant::now(),
                tenures: 0,
                first: None,
                all: None,
                phases_us: BTreeMap::new(),
            });
            let before = (active, epoch);
            let at = self.strike(*fault, active, pause, clients, chance)?;
            let (first, all, slowest) = self.served(at, fault.ends_connections(), clients)?;
            self.undo(*fault, active, pause, clients)?;
            self.heal()?;
            (active, epoch) = self.whole()?;
            let round = self.rounds.last_mut().expect("this round is there");
            round.at = at;
            round.tenures = epoch.saturating_sub(before.1);
            (round.first, round.all) = (Some(first), Some(all));
            if round.tenures > 0 {
                round.phases_us = self.nodes[active].takeover_us();
            }
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

    /// Two nodes that serve in one epoch.
    fn one_active(&mut self, seen: &[Option<serde_json::Value>]) {
        if let [Some(a), Some(b)] = seen
            && [a, b].iter().all(|one| one["role"] == "active")
            && a["epoch"] == b["epoch"]
        {
            self.complain(format!("both are active in epoch {}", a["epoch"]));
        }
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
        self.served_within(LIMIT, fault, anew, clients)
    }

    fn served_within(
        &self,
        limit: Duration,
        fault: Instant,
        anew: bool,
        clients: &Clients,
    ) -> anyhow::Result<(Duration, Duration, &'static str)> {
        let deadline = Instant::now() + limit;
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
                "not served again within {limit:?}: {}",
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
            let tracks = || clients.tracks.iter().chain(&clients.bulk);
            let unconfirmed: usize = tracks().map(|track| track.unconfirmed()).sum();
            let outstanding: u64 = tracks().map(|track| track.outstanding()).sum();
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
