//! Which entry is next. Soft: rebuilt from the entries after a restart.
//!
//! | order | next is | memory |
//! |---|---|---|
//! | plain | the oldest; for timed leases see `fair.rs` | one per entry with a group |
//! | priority | the highest priority, then the oldest | one per ready entry |
//! | groups | the oldest of a group that is free or already with this receiver (DOORS 20) | one per ready entry |
//!
//! The memory is in elements of sets; one more per run of ready entries is there in each, for who asks by number.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use session::{ConsumerId, SessionId};

use super::{Runs, fair::Fair};

/// Who holds a group: a consumer, or a pull of a session.
pub(crate) type Receiver = (SessionId, ConsumerId);

/// One group of a FIFO queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    ready: BTreeSet<u64>,
    out: u32,
    holder: Option<Receiver>,
}

/// The groups of a FIFO queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<Bytes, Group>,
    /// First ready number and name of each group that nobody holds.
    free: BTreeMap<u64, Bytes>,
    /// The same for each group that a receiver holds and may have more of.
    held: BTreeMap<(Receiver, u64), Bytes>,
    /// What is ready, of whichever group.
    ready: Runs,
}

/// What is ready in a queue with priorities.
#[derive(Clone, Debug)]
pub(crate) struct Priorities {
    /// Higher ones count as this. Entries keep their own: they may be moved to a queue that tells more of them apart.
    max: u8,
    ready: Runs,
    /// The same, the next first.
    best: BTreeSet<(Reverse<u8>, u64)>,
}

impl Priorities {
    /// The next one behind that place in the order of delivery.
    pub(crate) fn next_behind(
        &self,
        last: Option<(Reverse<u8>, u64)>,
    ) -> Option<(Reverse<u8>, u64)> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.best.range((from, Bound::Unbounded)).next().copied()
    }
}

/// See the file's table.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// First in, first out.
    Plain {
        /// What is ready.
        ready: Runs,
        /// The same by groups, where there are any.
        fair: Option<Box<Fair>>,
    },
    /// By priority.
    Priority(Box<Priorities>),
    /// By group.
    Groups(Box<Groups>),
}

impl Order {
    pub(crate) fn plain() -> Self {
        Self::Plain {
            ready: Runs::default(),
            fair: None,
        }
    }

    pub(crate) fn priority(max: u8) -> Self {
        Self::Priority(Box::new(Priorities {
            max,
            ready: Runs::default(),
            best: BTreeSet::new(),
        }))
    }

    /// The first at or behind a number that is ready, whether or not it is next.
    pub(crate) fn next_ready(&self, from: u64) -> Option<u64> {
        match self {
            Self::Plain { ready, .. } => ready.next(from),
            Self::Priority(priorities) => priorities.ready.next(from),
            Self::Groups(groups) => groups.ready.next(from),
        }
    }

    /// An entry became ready.
    pub(crate) fn add(&mut self, qseq: u64, priority: u8, group: &Bytes) {
        match self {
            Self::Plain { ready, fair } => {
                if fair.is_none() && !group.is_empty() {
                    *fair = Some(Box::new(Fair::new(ready.clone())));
                }
                ready.add(qseq);
                if let Some(fair) = fair {
                    fair.add(qseq, group);
                }
            }
            Self::Priority(it) => {
                it.ready.add(qseq);
                it.best.insert((Reverse(priority.min(it.max)), qseq));
            }
            Self::Groups(groups) => {
                groups.ready.add(qseq);
                groups.change(group, |group| {
                    group.ready.insert(qseq);
                });
            }
        }
    }

    /// An entry that was ready is so no longer, but was not handed out.
    pub(crate) fn remove(&mut self, qseq: u64, priority: u8, group: &Bytes) {
        self.leave(qseq, priority, group, None);
    }

    /// An entry was handed out; `keeps`: until it is settled.
    pub(crate) fn take(
        &mut self,
        qseq: u64,
        priority: u8,
        group: &Bytes,
        receiver: Receiver,
        keeps: bool,
    ) {
        self.leave(qseq, priority, group, keeps.then_some(receiver));
    }

    fn leave(&mut self, qseq: u64, priority: u8, group: &Bytes, holder: Option<Receiver>) {
        match self {
            Self::Plain { ready, fair } => {
                ready.remove(qseq);
                change_fair(fair, |fair| fair.remove(qseq, group, holder.is_some()));
            }
            Self::Priority(it) => {
                it.ready.remove(qseq);
                it.best.remove(&(Reverse(priority.min(it.max)), qseq));
            }
            Self::Groups(groups) => {
                groups.ready.remove(qseq);
                groups.change(group, |group| {
                    group.ready.remove(&qseq);
                    if holder.is_some() {
                        group.out += 1;
                        group.holder = holder;
                    }
                });
            }
        }
    }

    /// An entry that was handed out came back or is gone.
    pub(crate) fn returned(&mut self, group: &Bytes) {
        match self {
            Self::Groups(groups) => groups.change(group, |group| {
                group.out = group.out.saturating_sub(1);
                if group.out == 0 {
                    group.holder = None;
                }
            }),
            Self::Plain { fair, .. } => change_fair(fair, |fair| fair.returned(group)),
            Self::Priority(_) => {}
        }
    }

    /// The groups, of a queue that has them.
    pub(crate) fn groups(&self) -> Option<&Groups> {
        match self {
            Self::Groups(groups) => Some(groups),
            Self::Plain { .. } | Self::Priority(_) => None,
        }
    }
}

impl Groups {
    /// The next ready one for that receiver.
    pub(crate) fn next_for(&self, receiver: Receiver, window: u32) -> Option<u64> {
        let free = self.free.keys().next().copied();
        let held = self
            .held
            .range((receiver, 0)..=(receiver, u64::MAX))
            .find(|(_, name)| self.is_open(name, window))
            .map(|((_, qseq), _)| *qseq);
        match (free, held) {
            (Some(free), Some(held)) => Some(free.min(held)),
            (free, held) => free.or(held),
        }
    }

    /// Whether more of a group may go to who holds it.
    fn is_open(&self, name: &Bytes, window: u32) -> bool {
        self.groups
            .get(name)
            .is_some_and(|group| group.out < window)
    }

    /// Whether there is something for whoever comes.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Groups with something ready that a receiver holds.
    pub(crate) fn held_len(&self) -> usize {
        self.held.len()
    }

    /// The receivers of those that may have more of them; one of several groups comes several times.
    pub(crate) fn holders(&self, window: u32) -> impl Iterator<Item = Receiver> {
        let open = self.held.iter();
        let open = open.filter(move |(_, name)| self.is_open(name, window));
        open.map(|((receiver, _), _)| *receiver)
    }
}

/// Changes the groups of a plain queue, if it has any; with the last message of a group they go.
fn change_fair(fair: &mut Option<Box<Fair>>, change: impl FnOnce(&mut Fair)) {
    if let Some(groups) = fair {
        change(groups);
        if groups.is_empty() {
            *fair = None;
        }
    }
}

impl Groups {
    /// The ready entries of groups that nobody holds any of, each group's in one run, the group with the oldest first.
    pub(crate) fn free_runs(&self) -> impl Iterator<Item = u64> {
        let groups = self.free.values().filter_map(|name| self.groups.get(name));
        groups.flat_map(|group| group.ready.iter().copied())
    }

    /// The same of the entries below a number.
    pub(crate) fn free_below(&self, below: u64) -> impl Iterator<Item = u64> {
        let names = self.free.range(..below).map(|(_, name)| name);
        let groups = names.filter_map(|name| self.groups.get(name));
        groups.flat_map(move |group| group.ready.range(..below).copied())
    }

    fn change(&mut self, name: &Bytes, change: impl FnOnce(&mut Group)) {
        if !self.groups.contains_key(name) {
            self.groups.insert(name.clone(), Group::default());
        }
        let group = self.groups.get_mut(name).expect("made above");
        let place = |group: &Group| group.ready.first().map(|first| (*first, group.holder));
        let before = place(group);
        change(group);
        let after = place(group);
        if group.ready.is_empty() && group.out == 0 {
            self.groups.remove(name);
        }
        if before == after {
            return;
        }
        match before {
            Some((first, None)) => {
                self.free.remove(&first);
            }
            Some((first, Some(holder))) => {
                self.held.remove(&(holder, first));
            }
            None => {}
        }
        match after {
            Some((first, None)) => {
                self.free.insert(first, name.clone());
            }
            Some((first, Some(holder))) => {
                self.held.insert((holder, first), name.clone());
            }
            None => {}
        }
    }
}
