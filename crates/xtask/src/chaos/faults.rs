//! What happens to the pair, and what must hold while it happens.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::{
    LIMIT, LOOK, Pair,
    clients::Clients,
    hosts::{Host, Way},
};
use crate::load::{Socket, amqp::Amqp};

/// The shortest pause of a stopped node, in s.
const STOP_MIN: f64 = 0.1;
/// For how long nothing gets through, or the disk stands still after the other node has taken over, in ms.
const CUT_MS: Range<u64> = 1_000..5_000;
const STALLED_MS: Range<u64> = 500..3_000;
/// Until the other node serves when the disk of the active one stands still: `pair.failover_ms`, more patience if that happens
/// again and again, and a machine that does much else.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// What is queued before the disk is full, so that there is something to consume.
const BACKLOG: Duration = Duration::from_secs(1);
/// What a node may take to answer a client, if it answers.
const ANSWER: Duration = Duration::from_secs(1);

/// What happens to the pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    Kill,
    Both,
    Stop,
    Switchover,
    Term,
    Full,
    Stall,
    Cut,
}

impl Fault {
    pub(crate) const ALL: [Self; 8] = [
        Self::Kill,
        Self::Both,
        Self::Stop,
        Self::Switchover,
        Self::Term,
        Self::Full,
        Self::Stall,
        Self::Cut,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Both => "both",
            Self::Stop => "stop",
            Self::Switchover => "switchover",
            Self::Term => "term",
            Self::Full => "full",
            Self::Stall => "stall",
            Self::Cut => "cut",
        }
    }

    const fn needs_hosts(self) -> bool {
        matches!(self, Self::Full | Self::Stall | Self::Cut)
    }

    /// Whether no connection from before it is of use after it. A node that was stopped or cut off may go on with those that it has.
    pub(crate) const fn ends_connections(self) -> bool {
        !matches!(self, Self::Stop | Self::Full | Self::Cut)
    }
}

/// Numbers that a seed determines (SplitMix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.within(0..of.len() as u64) as usize]
    }

    /// `only` that fault, or every one that there is as often as any other, in no order.
    pub(crate) fn faults(
        &mut self,
        count: usize,
        hosts: bool,
        only: Option<Fault>,
    ) -> anyhow::Result<Vec<Fault>> {
        if let Some(fault) = only {
            ensure!(
                hosts || !fault.needs_hosts(),
                "there is {} only with --hosts",
                fault.as_str()
            );
            return Ok(vec![fault; count]);
        }
        let there = |fault: &Fault| hosts || !fault.needs_hosts();
        let all: Vec<_> = Fault::ALL.into_iter().filter(there).collect();
        let mut faults = Vec::new();
        while faults.len() < count {
            let mut deck = all.clone();
            while !deck.is_empty() {
                faults.push(deck.swap_remove(self.within(0..deck.len() as u64) as usize));
            }
        }
        faults.truncate(count);
        Ok(faults)
    }

    /// For how long a fault lasts. A node is stopped from [`STOP_MIN`] to `longest` seconds, short pauses as often as long ones.
    pub(crate) fn pause_of(&mut self, fault: Fault, longest: f64) -> Option<Duration> {
        match fault {
            Fault::Stop => {
                let part = self.within(0..1_001) as f64 / 1_000.0;
                let pause = STOP_MIN * (longest.max(STOP_MIN) / STOP_MIN).powf(part);
                Some(Duration::from_secs_f64(pause))
            }
            Fault::Cut => Some(Duration::from_millis(self.within(CUT_MS))),
            Fault::Stall => Some(Duration::from_millis(self.within(STALLED_MS))),
            _ => None,
        }
    }
}

/// What else happens while the disk is full.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Besides {
    Nothing,
    Kill,
    Both,
    Switchover,
}

/// Waits until `done`, or says what did not happen.
fn until(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !done()? {
        ensure!(Instant::now() < deadline, "{what} not within {LIMIT:?}");
        std::thread::sleep(LOOK);
    }
    Ok(())
}

impl Pair {
    /// Does it; from when on clients should be served again.
    pub(super) fn strike(
        &mut self,
        fault: Fault,
        active: usize,
        pause: Option<Duration>,
        clients: &Clients,
        chance: &mut Chance,
    ) -> anyhow::Result<Instant> {
        let at = Instant::now();
        match fault {
            Fault::Kill => self.nodes[active].kill()?,
            Fault::Both => {
                self.nodes[active].kill()?;
                self.nodes[1 - active].kill()?;
                self.heal()?;
            }
            Fault::Stop => {
                self.nodes[active].signal(Signal::STOP)?;
                std::thread::sleep(pause.unwrap_or_default());
                self.nodes[active].signal(Signal::CONT)?;
            }
            Fault::Switchover => self.nodes[active].switch_over()?,
            Fault::Term => self.terminate(active)?,
            Fault::Full => return self.fill(active, clients, chance),
            Fault::Stall => {
                let process = self.nodes[active].process()?;
                let disk = self.disk.as_ref().context("a disk of their own")?;
                self.host(active)?.stall(disk, process)?;
            }
            Fault::Cut => return self.cut(active, pause.unwrap_or_default(), clients, chance),
        }
        Ok(at)
    }

    /// What is still to be undone once clients are served again.
    pub(super) fn undo(
        &mut self,
        fault: Fault,
        struck: usize,
        pause: Option<Duration>,
        clients: &Clients,
    ) -> anyhow::Result<()> {
        match fault {
            Fault::Stall => self.stalled(struck, pause.unwrap_or_default()),
            Fault::Full => {
                clients.fill(false, true);
                let bulk = clients.bulk.as_ref().context("a disk of their own")?;
                until("the disk is emptied", || {
                    Ok(bulk.unconfirmed() == 0 && bulk.outstanding() == 0 || {
                        // What was refused is sent again until it is taken.
                        clients.fill(bulk.unconfirmed() > 0, true);
                        false
                    })
                })?;
                clients.fill(false, false);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn host(&self, at: usize) -> anyhow::Result<&Host> {
        let host = self.nodes[at].host.as_ref();
        host.context("a node on a host of its own")
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

    /// The other node serves; the one whose disk stands still must be silent, and follow when it goes on.
    fn stalled(&mut self, struck: usize, pause: Duration) -> anyhow::Result<()> {
        let name = self.nodes[struck].name;
        let took = self.rounds.last().map(|round| round.at.elapsed());
        if took.is_some_and(|took| took > STALL_LIMIT) {
            self.complain(format!(
                "{name}'s disk stands still, and clients were served after {took:?} only"
            ));
        }
        let end = Instant::now() + pause;
        while Instant::now() < end {
            let seen: Vec<_> = self.nodes.iter().map(super::Node::cluster).collect();
            self.one_active(&seen);
            if self.nodes[struck].answers_clients() {
                self.complain(format!(
                    "{name}'s disk stands still, and it answers clients"
                ));
            }
        }
        let disk = self.disk.as_ref().context("a disk of their own")?;
        self.host(struck)?.unstall(disk)
    }

    /// Cuts the active node off from its clients for a while. The other one must not serve as long as this one does; nobody else is served.
    fn cut(
        &mut self,
        active: usize,
        pause: Duration,
        clients: &Clients,
        chance: &mut Chance,
    ) -> anyhow::Result<Instant> {
        let way = chance.one(&Way::ALL);
        println!("cut {way:?}");
        self.host(active)?.cut(way)?;
        let (at, mut epochs) = (Instant::now(), Vec::new());
        while at.elapsed() < pause {
            let seen: Vec<_> = self.nodes.iter().map(super::Node::cluster).collect();
            self.one_active(&seen);
            epochs.extend(
                seen.iter()
                    .flatten()
                    .filter_map(|one| one["epoch"].as_u64()),
            );
            std::thread::sleep(LOOK);
        }
        epochs.sort_unstable();
        epochs.dedup();
        let served = clients
            .tracks
            .iter()
            .find(|track| track.served_after(at, true).is_some());
        // On a slow disk the other node may have taken over besides.
        if let (Some(track), true) = (served, epochs.len() < 2) {
            let name = track.name;
            self.complain(format!(
                "{name} was served through a cut, by epochs {epochs:?}"
            ));
        }
        let healed = Instant::now();
        self.host(active)?.join()?;
        Ok(healed)
    }

    /// Fills the disk, and sees that publishes are refused, that consumers go on, and that a node may die meanwhile.
    fn fill(
        &mut self,
        active: usize,
        clients: &Clients,
        chance: &mut Chance,
    ) -> anyhow::Result<Instant> {
        let by_load = chance.one(&[true, false]);
        let besides = chance.one(&[
            Besides::Nothing,
            Besides::Kill,
            Besides::Both,
            Besides::Switchover,
        ]);
        println!(
            "full by {}, besides: {besides:?}",
            if by_load { "load" } else { "a stranger's file" }
        );
        let bulk = clients.bulk.as_ref().context("a disk of their own")?;
        clients.hold(true);
        clients.fill(true, false);
        if !by_load {
            std::thread::sleep(BACKLOG);
            self.disk
                .as_ref()
                .context("a disk of their own")?
                .take_all()?;
        }
        let refused = |since: Instant| {
            until("publishes are refused in each protocol's words", || {
                let mut all = clients.tracks.iter().chain([bulk]);
                Ok(all.all(|track| track.refused_after(since)))
            })
        };
        refused(Instant::now()).with_context(|| self.troubles(clients))?;
        clients.hold(false);
        let consumed = || {
            until(
                "what was confirmed is consumed though the disk is full",
                || Ok(clients.tracks.iter().all(|track| track.waiting() == 0)),
            )
        };
        consumed().with_context(|| self.troubles(clients))?;
        match besides {
            Besides::Nothing => {}
            Besides::Kill => self.nodes[active].kill()?,
            Besides::Both => {
                self.nodes[active].kill()?;
                self.nodes[1 - active].kill()?;
            }
            Besides::Switchover => self.nodes[active].switch_over()?,
        }
        self.heal()?;
        // Where nothing at all is free, who starts anew cannot make ready what a takeover needs.
        if by_load {
            self.whole()?;
        }
        refused(Instant::now()).with_context(|| self.troubles(clients))?;
        consumed().with_context(|| self.troubles(clients))?;
        let healed = Instant::now();
        clients.fill(false, true);
        if !by_load {
            self.disk
                .as_ref()
                .context("a disk of their own")?
                .give_back()?;
        }
        Ok(healed)
    }

    /// What each client last had against it.
    fn troubles(&self, clients: &Clients) -> String {
        let tracks = clients.tracks.iter().chain(&clients.bulk);
        let each = tracks.map(|track| format!("{}: {}", track.name, track.last_trouble()));
        each.collect::<Vec<_>>().join("; ")
    }
}

impl super::Node {
    /// Whether it shows a client what is in it.
    fn answers_clients(&self) -> bool {
        let ask = || -> anyhow::Result<u32> {
            let socket = Socket::connect_within(self.doors.amqp, ANSWER)?;
            Amqp::over(socket)?.declare("chaos-amqp")
        };
        ask().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_picks_each_fault_as_often_and_pauses_within_bounds() {
        let mut chance = Chance::new(7);
        let mut pick = |count, hosts, only| chance.faults(count, hosts, only);
        let faults = pick(24, true, None).expect("there are all");
        for fault in Fault::ALL {
            assert_eq!(faults.iter().filter(|one| **one == fault).count(), 3);
        }
        let faults = pick(10, false, None).expect("there are five");
        assert!(!faults.iter().any(|fault| fault.needs_hosts()));
        assert!(pick(1, false, Some(Fault::Cut)).is_err());
        let faults = |seed| Chance::new(seed).faults(24, true, None).expect("all");
        assert!(faults(7) == faults(7));
        assert!(faults(7) != faults(8));
        for _ in 0..1_000 {
            let pause = chance.pause_of(Fault::Stop, 30.0).expect("it has one");
            assert!((0.0999..30.001).contains(&pause.as_secs_f64()), "{pause:?}");
        }
    }
}
