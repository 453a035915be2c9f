//! The fence protocol: who writes and confirms, who takes over, who follows.
//!
//! Contenders write, fence, read tails and publish epochs; one more node only follows and applies. The store drops what is
//! not synced when power fails, and a sync may fail for good and leave pages that look clean. Any node may be slow as long
//! as it likes, as every step of it may come at any time. No clocks.
//!
//! Messages are numbers in the order in which they were written first. A batch is one message. A *log* is the messages of
//! a chain of epochs, the first position on; what a snapshot covers is taken from it. Wrong is: a confirmed message is not
//! in the log, or a message is there twice; what a new active found when it opened is no longer how the log begins; what the follower applied is not.

use super::search::{Model, fails, holds};

/// Epochs, the first one and those that lose their number among them.
const EPOCHS: usize = 5;
/// Batches in one file, or positions in one log.
const SLOTS: usize = 5;
/// Epoch numbers.
const NUMBERS: usize = 4;
const CONTENDERS_MAX: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoilt {
    No,
    /// A header says that its own batch is durable.
    OptimisticStamp,
    /// A header says that what was synced is confirmed, though the fence was not read since.
    StampBeforeFence,
    NoFenceCheck,
    CheckBeforeSync,
    TailBeforeFence,
    NoSuccessorCas,
    AdoptByReference,
    AdoptByReferenceAfterSync,
    RecycleClosedSegment,
    RecycleBeforeSnapshot,
    SkipSalt,
    /// The follower applies what it sees.
    ApplyUnproven,
    /// The follower takes everything in a fenced epoch for final.
    ApplyPastFence,
    DeleteEpochRecord,
}

/// What may happen how often.
#[derive(Clone, Copy)]
struct Bounds {
    contenders: usize,
    messages: u8,
    /// Highest epoch number.
    number_max: u8,
    restarts: u8,
    power_losses: u8,
    failed_syncs: u8,
    snapshots: u8,
    recyclings: u8,
    deletions: u8,
    /// The follower follows.
    follows: bool,
}

struct Fence {
    spoilt: Spoilt,
    bounds: Bounds,
}

/// A batch in a file: its message, what its header says is confirmed (a length of the log), and for which use of the file it
/// was written. Zero: nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Slot {
    salt: u8,
    message: u8,
    stamp: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct File {
    seen: [Slot; SLOTS],
    durable: [Slot; SLOTS],
    /// A sync has failed: pages look clean and are not on the disk.
    poisoned: bool,
}

/// Messages from the first position on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Log {
    len: u8,
    messages: [u8; SLOTS],
}

impl Log {
    fn push(&mut self, message: u8) {
        self.messages[usize::from(self.len)] = message;
        self.len += 1;
    }

    fn cut(mut self, len: u8) -> Self {
        self.len = self.len.min(len);
        self.messages[usize::from(self.len)..].fill(0);
        self
    }

    fn as_slice(&self) -> &[u8] {
        &self.messages[..usize::from(self.len)]
    }
}

/// What is published under a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Epoch {
    number: u8,
    /// How much of the log of the epoch before is part of this one's.
    cut: u8,
    /// Up to here it was adopted, and is confirmed by being published.
    adopted_upto: u8,
    /// Where it writes, for which use of that file, and from which position on.
    file: u8,
    salt: u8,
    base: u8,
    fenced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Node {
    Standby,
    /// Wants to succeed the epoch with this index.
    Picked(u8),
    Fenced(u8),
    /// It has read the tail: where the proven part ends, and everything.
    Read(u8, u8, Log),
    Active {
        epoch: u8,
        phase: Phase,
        /// Length of the log as it wrote it, and of what it confirmed.
        len: u8,
        confirmed: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Written,
    /// Up to this length.
    Synced(u8),
    /// The fence was clear.
    Clear(u8),
    /// The fence was clear, and nothing is synced yet.
    ClearEarly,
}

/// The node that only follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Follower {
    number: u8,
    applied: Log,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    files: [File; EPOCHS],
    epochs: [Epoch; EPOCHS],
    /// How many of them there are. The last one is the one that acts.
    opened: u8,
    /// Which epoch has this number; `NONE` if there is no record.
    records: [u8; NUMBERS],
    nodes: [Node; CONTENDERS_MAX],
    follower: Follower,
    snapshot: Log,
    /// What the last active found when it opened.
    shown: Log,
    /// By message.
    confirmed: u8,
    messages: u8,
    salts: u8,
    restarts: u8,
    power_losses: u8,
    failed_syncs: u8,
    snapshots: u8,
    recyclings: u8,
    deletions: u8,
}

const NONE: u8 = u8::MAX;

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the story of a violation prints them")]
enum Action {
    Picks { node: usize, epoch: u8 },
    Fences { node: usize, epoch: u8 },
    ReadsTail { node: usize, epoch: u8 },
    Opens { node: usize, epoch: u8 },
    LosesTheRace { node: usize },
    StandsDown { node: usize },
    Writes { node: usize, message: u8 },
    Syncs { node: usize },
    SyncFails { node: usize },
    ReadsFence { node: usize },
    Confirms { node: usize },
    WritesSnapshot { node: usize },
    Recycles { node: usize, file: u8 },
    DeletesRecord { number: u8 },
    Restarts { node: usize },
    FollowerApplies { message: u8 },
    FollowerGoesOn { number: u8 },
    FollowerLoadsSnapshot,
    PowerFails,
    PowerFailsAndOneFileSurvives { file: usize },
}

type Steps = Vec<(Action, State)>;

impl State {
    fn newest(&self) -> u8 {
        self.records
            .iter()
            .copied()
            .rfind(|&index| index != NONE)
            .expect("the first record is there unless a later one is")
    }

    fn epoch(&self, index: u8) -> &Epoch {
        &self.epochs[usize::from(index)]
    }

    fn file(&mut self, index: u8) -> &mut File {
        &mut self.files[usize::from(index)]
    }

    /// Batches that lie in the file of an epoch, in order.
    fn own<'a>(&'a self, spoilt: Spoilt, epoch: &Epoch) -> impl Iterator<Item = Slot> + use<'a> {
        let salt = epoch.salt;
        let file = &self.files[usize::from(epoch.file)];
        file.seen.iter().copied().take_while(move |slot| {
            slot.salt == salt || spoilt == Spoilt::SkipSalt && slot.salt != 0
        })
    }

    /// The log as whoever reads the epoch finds it. What the snapshot covers is not looked for elsewhere.
    fn log(&self, spoilt: Spoilt, epoch: &Epoch) -> Log {
        let mut log = if self.snapshot.len >= epoch.base {
            self.snapshot.cut(epoch.base)
        } else if epoch.base > epoch.cut || epoch.number == 0 {
            Log::default() // It lay in a segment that was used again.
        } else {
            match self.records[usize::from(epoch.number) - 1] {
                NONE => Log::default(),
                before => self.log(spoilt, self.epoch(before)).cut(epoch.cut),
            }
        };
        for slot in self.own(spoilt, epoch) {
            if usize::from(log.len) < SLOTS {
                log.push(slot.message);
            }
        }
        log
    }

    /// How much of an epoch's log is proven by what lies in it.
    fn proven(&self, spoilt: Spoilt, epoch: &Epoch) -> u8 {
        let stamps = self.own(spoilt, epoch).map(|slot| slot.stamp);
        stamps.fold(epoch.adopted_upto.max(epoch.base), u8::max)
    }
}

impl Fence {
    fn contend(&self, state: &State, node: usize, steps: &mut Steps) {
        let as_node = |next: Node| {
            let mut state = state.clone();
            state.nodes[node] = next;
            state
        };
        match state.nodes[node] {
            Node::Standby => {
                let epoch = state.newest();
                let full = state.epoch(epoch).number >= self.bounds.number_max
                    || usize::from(state.opened) == EPOCHS;
                if !full {
                    steps.push((Action::Picks { node, epoch }, as_node(Node::Picked(epoch))));
                }
            }
            Node::Picked(epoch) if self.spoilt == Spoilt::TailBeforeFence => {
                self.read_tail(state, node, epoch, steps);
            }
            Node::Picked(epoch) => {
                let mut next = as_node(Node::Fenced(epoch));
                next.epochs[usize::from(epoch)].fenced = true;
                steps.push((Action::Fences { node, epoch }, next));
            }
            Node::Fenced(epoch) => self.read_tail(state, node, epoch, steps),
            Node::Read(epoch, proven, log) => self.open(state, node, (epoch, proven, log), steps),
            Node::Active { .. } => self.act(state, node, steps),
        }
    }

    fn read_tail(&self, state: &State, node: usize, epoch: u8, steps: &mut Steps) {
        let mut next = state.clone();
        let read = *state.epoch(epoch);
        if self.spoilt == Spoilt::AdoptByReferenceAfterSync {
            sync(next.file(read.file));
        }
        let proven = state.proven(self.spoilt, &read);
        let log = state.log(self.spoilt, &read);
        next.nodes[node] = Node::Read(epoch, proven, log);
        steps.push((Action::ReadsTail { node, epoch }, next));
    }

    /// Writes what is not proven into its own file, durably, and publishes the successor.
    fn open(
        &self,
        state: &State,
        node: usize,
        (before, proven, log): (u8, u8, Log),
        steps: &mut Steps,
    ) {
        let mut next = state.clone();
        if self.spoilt == Spoilt::TailBeforeFence {
            next.epochs[usize::from(before)].fenced = true;
        }
        let number = state.epoch(before).number + 1;
        let taken = state.records[usize::from(number)] != NONE;
        if taken && self.spoilt != Spoilt::NoSuccessorCas || usize::from(state.opened) == EPOCHS {
            next.nodes[node] = Node::Standby;
            steps.push((Action::LosesTheRace { node }, next));
            return;
        }
        let index = state.opened;
        let copies = !matches!(
            self.spoilt,
            Spoilt::AdoptByReference | Spoilt::AdoptByReferenceAfterSync
        );
        let cut = if copies { proven.min(log.len) } else { log.len };
        next.salts += 1;
        let salt = next.salts;
        let file = next.file(index);
        for (slot, &message) in log.as_slice()[usize::from(cut)..].iter().enumerate() {
            file.seen[slot] = Slot {
                salt,
                message,
                stamp: cut,
            };
        }
        file.durable = file.seen;
        next.epochs[usize::from(index)] = Epoch {
            number,
            cut,
            adopted_upto: log.len,
            file: index,
            salt,
            base: cut,
            fenced: false,
        };
        next.records[usize::from(number)] = index;
        next.opened += 1;
        // Whoever won an old number, its record being gone, finds a higher one.
        if next.newest() != index {
            next.nodes[node] = Node::Standby;
            steps.push((Action::StandsDown { node }, next));
            return;
        }
        next.shown = log;
        next.nodes[node] = Node::Active {
            epoch: index,
            phase: Phase::Idle,
            len: log.len,
            confirmed: log.len,
        };
        let epoch = index;
        steps.push((Action::Opens { node, epoch }, next));
    }

    fn act(&self, state: &State, node: usize, steps: &mut Steps) {
        let Node::Active {
            epoch,
            phase,
            len,
            confirmed,
        } = state.nodes[node]
        else {
            return;
        };
        let as_active = |phase| {
            let mut state = state.clone();
            state.nodes[node] = Node::Active {
                epoch,
                phase,
                len,
                confirmed,
            };
            state
        };
        let record = *state.epoch(epoch);
        self.write(state, node, steps);
        let early = self.spoilt == Spoilt::CheckBeforeSync;
        let fenced = record.fenced && self.spoilt != Spoilt::NoFenceCheck;
        let read_fence = |clear: Phase| {
            let mut next = as_active(clear);
            if fenced {
                next.nodes[node] = Node::Standby;
            }
            (Action::ReadsFence { node }, next)
        };
        match phase {
            Phase::Idle => {
                if confirmed == len {
                    self.tidy_up(state, node, steps);
                }
            }
            Phase::Written if early => steps.push(read_fence(Phase::ClearEarly)),
            Phase::Written | Phase::ClearEarly => {
                let mut next = as_active(if early {
                    Phase::Clear(len)
                } else {
                    Phase::Synced(len)
                });
                sync(next.file(record.file));
                steps.push((Action::Syncs { node }, next));
                if state.failed_syncs < self.bounds.failed_syncs {
                    let mut next = state.clone();
                    next.failed_syncs += 1;
                    next.file(record.file).poisoned = true;
                    next.nodes[node] = Node::Standby;
                    steps.push((Action::SyncFails { node }, next));
                }
            }
            Phase::Synced(upto) => steps.push(read_fence(Phase::Clear(upto))),
            Phase::Clear(upto) => {
                let mut next = state.clone();
                for slot in state.own(self.spoilt, &record).collect::<Vec<_>>() {
                    next.confirmed |= 1 << slot.message;
                }
                // Of what it wrote behind `upto` nothing is confirmed.
                let from = usize::from(upto - record.base);
                for slot in &state.files[usize::from(record.file)].seen[from..] {
                    if slot.salt == record.salt {
                        next.confirmed &= !(1 << slot.message);
                    }
                }
                next.nodes[node] = Node::Active {
                    epoch,
                    phase: if len > upto {
                        Phase::Written
                    } else {
                        Phase::Idle
                    },
                    len,
                    confirmed: upto,
                };
                steps.push((Action::Confirms { node }, next));
            }
        }
    }

    /// The next batch, also behind one that is on its way.
    fn write(&self, state: &State, node: usize, steps: &mut Steps) {
        let Node::Active {
            epoch,
            phase,
            len,
            confirmed,
        } = state.nodes[node]
        else {
            return;
        };
        let record = *state.epoch(epoch);
        let slot = usize::from(len - record.base);
        if state.messages == self.bounds.messages || slot >= SLOTS || usize::from(len) >= SLOTS {
            return;
        }
        let message = state.messages + 1;
        let stamp = match (self.spoilt, phase) {
            (Spoilt::OptimisticStamp, _) => len + 1,
            (Spoilt::StampBeforeFence, Phase::Synced(upto)) => upto,
            _ => confirmed,
        };
        let mut next = state.clone();
        next.messages = message;
        next.file(record.file).seen[slot] = Slot {
            salt: record.salt,
            message,
            stamp,
        };
        next.nodes[node] = Node::Active {
            epoch,
            phase: if phase == Phase::Idle {
                Phase::Written
            } else {
                phase
            },
            len: len + 1,
            confirmed,
        };
        steps.push((Action::Writes { node, message }, next));
    }

    /// Snapshots, and giving back what they cover: everything is confirmed here.
    fn tidy_up(&self, state: &State, node: usize, steps: &mut Steps) {
        let Node::Active { epoch, len, .. } = state.nodes[node] else {
            return;
        };
        let record = *state.epoch(epoch);
        // Nothing that was not confirmed behind a clear fence is in a snapshot, whoever else is active by then.
        if state.snapshots < self.bounds.snapshots && state.snapshot.len < len {
            let mut next = state.clone();
            next.snapshots += 1;
            next.snapshot = state.log(self.spoilt, &record);
            steps.push((Action::WritesSnapshot { node }, next));
        }
        let covered = state.snapshot.len >= len && len > record.base;
        let may = match self.spoilt {
            Spoilt::RecycleBeforeSnapshot => len > record.base,
            _ => covered,
        };
        if may && state.recyclings < self.bounds.recyclings {
            let taken = match self.spoilt {
                Spoilt::RecycleClosedSegment if record.number > 0 => {
                    let before = state.records[usize::from(record.number) - 1];
                    state.epoch(before).file
                }
                // One's own, and only that.
                _ => record.file,
            };
            let mut next = state.clone();
            next.recyclings += 1;
            next.salts += 1;
            let salt = next.salts;
            let record = &mut next.epochs[usize::from(epoch)];
            record.file = taken;
            record.salt = salt;
            record.base = len;
            record.adopted_upto = record.adopted_upto.min(len);
            steps.push((Action::Recycles { node, file: taken }, next));
        }
        // The records of epochs that a snapshot covers; never the last one.
        if self.spoilt == Spoilt::DeleteEpochRecord && state.deletions < self.bounds.deletions {
            for number in 1..record.number {
                let index = state.records[usize::from(number)];
                if index != NONE && state.snapshot.len >= record.cut {
                    let mut next = state.clone();
                    next.deletions += 1;
                    next.records[usize::from(number)] = NONE;
                    steps.push((Action::DeletesRecord { number }, next));
                }
            }
        }
    }

    fn follow(&self, state: &State, steps: &mut Steps) {
        let Follower { number, applied } = state.follower;
        let have = applied.len;
        // The record of the epoch that it follows may be gone, its snapshot never is.
        if state.snapshot.len > have {
            let mut next = state.clone();
            next.follower.applied = state.snapshot;
            steps.push((Action::FollowerLoadsSnapshot, next));
        }
        let index = state.records[usize::from(number)];
        if index == NONE {
            // It goes on where the chain does.
            let later = (number..self.bounds.number_max + 1)
                .find(|&later| state.records[usize::from(later)] != NONE);
            if let Some(later) = later {
                let mut next = state.clone();
                next.follower.number = later;
                steps.push((Action::FollowerGoesOn { number: later }, next));
            }
            return;
        }
        let record = state.epoch(index);
        let successor = match state.records.get(usize::from(number) + 1) {
            Some(&index) if index != NONE => Some(state.epoch(index)),
            _ => None,
        };
        let cut = successor.map(|epoch| epoch.cut);
        if let Some(cut) = cut
            && have >= cut
        {
            let mut next = state.clone();
            next.follower.number = number + 1;
            steps.push((Action::FollowerGoesOn { number: number + 1 }, next));
        }
        let Some(place) = have.checked_sub(record.base) else {
            return;
        };
        let Some(slot) = state.own(self.spoilt, record).nth(usize::from(place)) else {
            return;
        };
        let proven = state.proven(self.spoilt, record).max(cut.unwrap_or(0));
        let may = match self.spoilt {
            Spoilt::ApplyUnproven => true,
            Spoilt::ApplyPastFence if record.fenced => true,
            // Whatever is proven is in every successor, so it need not look for one.
            _ => have < proven,
        };
        if may && usize::from(have) < SLOTS {
            let mut next = state.clone();
            next.follower.applied.push(slot.message);
            let message = slot.message;
            steps.push((Action::FollowerApplies { message }, next));
        }
    }

    fn fail_power(&self, state: &State, steps: &mut Steps) {
        if state.power_losses == self.bounds.power_losses
            || state.files.iter().all(|file| file.seen == file.durable)
        {
            return;
        }
        let drop_all_but = |survivor: usize| {
            let mut next = state.clone();
            next.power_losses += 1;
            for (index, file) in next.files.iter_mut().enumerate() {
                if index == survivor {
                    file.durable = file.seen;
                } else {
                    file.seen = file.durable;
                }
            }
            next
        };
        steps.push((Action::PowerFails, drop_all_but(EPOCHS)));
        let unsynced = |file: &File| file.seen != file.durable;
        if state.files.iter().filter(|file| unsynced(file)).count() > 1 {
            for (file, _) in state
                .files
                .iter()
                .enumerate()
                .filter(|(_, file)| unsynced(file))
            {
                let next = drop_all_but(file);
                steps.push((Action::PowerFailsAndOneFileSurvives { file }, next));
            }
        }
    }
}

/// What a sync does: after one has failed, later ones find nothing to write.
fn sync(file: &mut File) {
    if !file.poisoned {
        file.durable = file.seen;
    }
}

impl Model for Fence {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut nodes = [Node::Standby; CONTENDERS_MAX];
        nodes[0] = Node::Active {
            epoch: 0,
            phase: Phase::Idle,
            len: 0,
            confirmed: 0,
        };
        let mut epochs = [Epoch::default(); EPOCHS];
        epochs[0].salt = 1;
        let mut records = [NONE; NUMBERS];
        records[0] = 0;
        State {
            files: [File::default(); EPOCHS],
            epochs,
            opened: 1,
            records,
            nodes,
            follower: Follower {
                number: 0,
                applied: Log::default(),
            },
            snapshot: Log::default(),
            shown: Log::default(),
            confirmed: 0,
            messages: 0,
            salts: 1,
            restarts: 0,
            power_losses: 0,
            failed_syncs: 0,
            snapshots: 0,
            recyclings: 0,
            deletions: 0,
        }
    }

    fn next(&self, state: &State, steps: &mut Steps) {
        for node in 0..self.bounds.contenders {
            self.contend(state, node, steps);
            if state.restarts < self.bounds.restarts && state.nodes[node] != Node::Standby {
                let mut next = state.clone();
                next.restarts += 1;
                next.nodes[node] = Node::Standby;
                steps.push((Action::Restarts { node }, next));
            }
        }
        if self.bounds.follows {
            self.follow(state, steps);
        }
        self.fail_power(state, steps);
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        let log = state.log(self.spoilt, state.epoch(state.newest()));
        let log = log.as_slice();
        if (1..=state.messages).any(|m| state.confirmed & 1 << m != 0 && !log.contains(&m)) {
            return Some("a confirmed message is lost");
        }
        if (1..log.len()).any(|at| log[..at].contains(&log[at])) {
            return Some("a message is in the log twice");
        }
        if !log.starts_with(state.shown.as_slice()) {
            return Some("what an active showed is no longer how the log begins");
        }
        if !log.starts_with(state.follower.applied.as_slice()) {
            return Some("what the follower applied is not how the log begins");
        }
        None
    }
}

/// Bounds that are searched within seconds.
const SMALL: Bounds = Bounds {
    contenders: 2,
    messages: 3,
    number_max: 2,
    restarts: 1,
    power_losses: 1,
    failed_syncs: 1,
    snapshots: 0,
    recyclings: 0,
    deletions: 0,
    follows: true,
};

/// With snapshots, and segments that are used again.
const RECYCLING: Bounds = Bounds {
    messages: 3,
    restarts: 0,
    failed_syncs: 0,
    snapshots: 1,
    recyclings: 1,
    ..SMALL
};

const STATES_MAX: usize = 8_000_000;

fn caught(spoilt: Spoilt, bounds: Bounds) {
    let name = format!("{spoilt:?}");
    fails(&name, &Fence { spoilt, bounds }, STATES_MAX);
}

fn held(name: &str, bounds: Bounds) {
    let model = Fence {
        spoilt: Spoilt::No,
        bounds,
    };
    let states = holds(name, &model, STATES_MAX);
    assert!(states > 100_000, "something happens within these bounds");
}

#[test]
fn the_fence_protocol_holds_with_a_follower() {
    held("fence", SMALL);
}

#[test]
fn the_fence_protocol_holds_with_snapshots_and_recycling() {
    held("fence, recycling", RECYCLING);
}

#[test]
#[ignore = "millions of states: `cargo test -p sim --test models -- --ignored`"]
fn the_fence_protocol_holds_with_three_contenders() {
    let bounds = Bounds {
        contenders: 3,
        messages: 2,
        failed_syncs: 0,
        ..SMALL
    };
    held("fence, three contenders", bounds);
}

#[test]
#[ignore = "millions of states: `cargo test -p sim --test models -- --ignored`"]
fn the_fence_protocol_holds_with_recycling_and_everything_that_fails() {
    let bounds = Bounds {
        restarts: 1,
        failed_syncs: 1,
        ..RECYCLING
    };
    held("fence, recycling, all faults", bounds);
}

#[test]
fn an_optimistic_stamp_is_caught() {
    caught(Spoilt::OptimisticStamp, SMALL);
}

#[test]
fn rules_21_a_stamp_before_the_fence_read_is_caught() {
    caught(Spoilt::StampBeforeFence, SMALL);
}

#[test]
fn no_fence_check_at_commit_is_caught() {
    caught(Spoilt::NoFenceCheck, SMALL);
}

#[test]
fn a_fence_read_before_the_sync_is_caught() {
    caught(Spoilt::CheckBeforeSync, SMALL);
}

#[test]
fn a_tail_read_before_the_fence_is_set_is_caught() {
    caught(Spoilt::TailBeforeFence, SMALL);
}

#[test]
fn no_compare_and_swap_on_the_successor_is_caught() {
    caught(Spoilt::NoSuccessorCas, SMALL);
}

#[test]
fn adopting_by_reference_is_caught() {
    caught(Spoilt::AdoptByReference, SMALL);
}

#[test]
fn adopting_by_reference_after_a_sync_is_caught() {
    caught(Spoilt::AdoptByReferenceAfterSync, SMALL);
}

#[test]
fn rules_16_recycling_a_segment_of_a_closed_epoch_is_caught() {
    caught(Spoilt::RecycleClosedSegment, RECYCLING);
}

#[test]
fn recycling_before_the_snapshot_is_caught() {
    caught(Spoilt::RecycleBeforeSnapshot, RECYCLING);
}

#[test]
fn a_salt_that_nobody_looks_at_is_caught() {
    caught(Spoilt::SkipSalt, RECYCLING);
}

#[test]
fn applying_what_is_not_proven_is_caught() {
    caught(Spoilt::ApplyUnproven, SMALL);
}

#[test]
fn applying_a_tailed_batch_past_a_fence_is_caught() {
    caught(Spoilt::ApplyPastFence, SMALL);
}

#[test]
fn rules_17_deleting_an_epoch_record_is_caught() {
    let bounds = Bounds {
        contenders: 3,
        messages: 1,
        restarts: 0,
        power_losses: 0,
        failed_syncs: 0,
        deletions: 1,
        ..SMALL
    };
    caught(Spoilt::DeleteEpochRecord, bounds);
}
