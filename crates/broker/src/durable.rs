//! The state that is a function of the journal: compared after replay, written into snapshots.
//!
//! Nothing here knows a connection, a consumer or a message that lives in memory only (see `soft.rs`). Where a soft
//! thing has the same shape as a durable one (a transient queue, the session of a clean client) it uses the same type
//! and lies in [`crate::soft::Soft`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use message::{Levels, Name, Pattern, StoredId, Timestamp, VhostId};
use rustc_hash::FxHashMap;
use session::{
    ExchangeOptions, MoveState, MoveTask, QueueAttributes, QueueId, Secret, Source, StreamId,
    SubscriptionOptions, Will,
};
use smallvec::SmallVec;

use crate::{
    change::{Bound, ClientNo, Published, QueueDeclared},
    queue::Entries,
    record::wire::wire_fields,
    routing::RetainedTree,
    seldom::{Empty, Seldom},
    stream::Stream,
    subscriptions::Subscriptions,
};

/// A queue: what was declared, and its stored entries.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) declared: QueueDeclared,
    /// Above every number that a stored entry has had.
    pub(crate) next: u64,
    pub(crate) firsts: Firsts,
    pub(crate) entries: Entries,
    pub(crate) dedup: Dedup,
    pub(crate) attempts: Attempts,
}

impl Queue {
    pub(crate) fn attributes(&self) -> &QueueAttributes {
        &self.declared.options.attributes
    }

    /// After how long an entry is over by the queue's own attributes.
    pub(crate) fn age_ms(&self) -> Option<u64> {
        let attributes = self.attributes();
        match (attributes.ttl_ms, attributes.retention_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether entries must keep the dedup ids of five minutes.
    pub(crate) fn deduplicates(&self) -> bool {
        self.attributes().deduplicate || self.attributes().fifo.is_some()
    }
}

/// From which number on a queue's stored entries got theirs in which epoch, in the order of both: the numbers of what lived
/// in memory only are given again in the next. Below the first of them: in an epoch of before.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Firsts(SmallVec<[(u64, u64); 1]>);

impl Firsts {
    /// An entry is stored in that epoch. `next` is above every number stored before, `lowest` finds the first that lives.
    pub(crate) fn note(&mut self, epoch: u64, next: u64, lowest: impl FnOnce() -> u64) {
        if self.0.last().is_some_and(|(known, _)| *known >= epoch) {
            return;
        }
        self.0.push((epoch, next));
        let lowest = lowest();
        // Of what is below the lowest nobody asks.
        let needed = self.0.partition_point(|(_, first)| *first <= lowest);
        self.0.drain(..needed.saturating_sub(1));
    }

    /// In which epoch a stored entry got its number.
    pub(crate) fn epoch_of(&self, qseq: u64) -> u64 {
        let later = self.0.partition_point(|(_, first)| *first <= qseq);
        later.checked_sub(1).map_or(0, |at| self.0[at].0)
    }

    pub(crate) fn list(&self) -> Vec<(u64, u64)> {
        self.0.to_vec()
    }

    pub(crate) fn from_list(list: Vec<(u64, u64)>) -> Self {
        Self(list.into())
    }
}

/// A message that a dedup id stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The time of its record.
    pub(crate) time: Timestamp,
    pub(crate) qseq: u64,
    pub(crate) message_id: Option<[u8; 16]>,
}
wire_fields!(Seen { 1 => time, 2 => qseq, 3 => message_id });

/// The dedup ids seen lately. Next to nothing while there are none, as in most queues.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dedup(Option<Box<DedupIds>>);

#[derive(Clone, Debug, Default, PartialEq)]
struct DedupIds {
    seen: BTreeMap<Bytes, Seen>,
    order: VecDeque<(Timestamp, Bytes)>,
}

impl Dedup {
    pub(crate) fn find(&self, id: &Bytes, now: Timestamp, keep_ms: u64) -> Option<Seen> {
        let ids = self.0.as_ref()?;
        ids.seen
            .get(id)
            .filter(|seen| now < seen.time.plus_ms(keep_ms))
            .copied()
    }

    /// Adds an id and forgets what is older than `keep_ms` by the time of this record.
    pub(crate) fn add(&mut self, id: &Bytes, it: Seen, keep_ms: u64) {
        let ids = self.0.get_or_insert_default();
        while let Some((time, old)) = ids.order.front() {
            if it.time < time.plus_ms(keep_ms) {
                break;
            }
            if ids.seen.get(old).is_some_and(|seen| seen.time == *time) {
                ids.seen.remove(old);
            }
            ids.order.pop_front();
        }
        ids.seen.insert(id.clone(), it);
        ids.order.push_back((it.time, id.clone()));
    }

    /// In the order of their times.
    pub(crate) fn list(&self) -> Vec<(Bytes, Seen)> {
        let Some(ids) = &self.0 else {
            return Vec::new();
        };
        let mut list = Vec::with_capacity(ids.order.len());
        for (time, id) in &ids.order {
            // One that was added again stands for its last message only.
            let seen = ids.seen.get(id).filter(|seen| seen.time == *time);
            list.extend(seen.map(|seen| (id.clone(), *seen)));
        }
        list
    }

    pub(crate) fn from_list(list: Vec<(Bytes, Seen)>) -> Self {
        if list.is_empty() {
            return Self::default();
        }
        let mut ids = Box::<DedupIds>::default();
        for (id, seen) in list {
            ids.order.push_back((seen.time, id.clone()));
            ids.seen.insert(id, seen);
        }
        Self(Some(ids))
    }
}

/// What a pull got that named an attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attempt {
    /// When, the first time.
    pub(crate) time: Timestamp,
    /// Numbers and counts, in the order in which they were told.
    pub(crate) entries: Vec<(u64, u32)>,
}
wire_fields!(Attempt { 1 => time, 2 => entries });

/// The attempts of a queue that may be asked for again: nothing that they got was settled, changed or delivered since. So
/// they are no more than what is out, but for leases that have lapsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attempts(Option<Box<AttemptIds>>);

#[derive(Clone, Debug, Default, PartialEq)]
struct AttemptIds {
    known: BTreeMap<Bytes, Attempt>,
    /// Which attempt got an entry.
    of: BTreeMap<u64, Bytes>,
    order: BTreeSet<(Timestamp, Bytes)>,
}

impl Attempts {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn find(&self, id: &Bytes, now: Timestamp, keep_ms: u64) -> Option<&Attempt> {
        let ids = self.0.as_ref()?;
        ids.known
            .get(id)
            .filter(|attempt| now < attempt.time.plus_ms(keep_ms))
    }

    /// Adds what an attempt got, or got again, and forgets those that are older than `keep_ms` by the time of this record.
    pub(crate) fn add(&mut self, id: &Bytes, it: Attempt, keep_ms: u64) {
        self.0.get_or_insert_default().add(id, it, keep_ms);
    }

    /// Something became of an entry: whoever got it cannot get it again by its attempt.
    pub(crate) fn void(&mut self, qseq: u64) {
        if let Some(ids) = &mut self.0 {
            ids.void(qseq);
            if ids.known.is_empty() {
                self.0 = None;
            }
        }
    }

    /// In the order of their times.
    pub(crate) fn list(&self) -> Vec<(Bytes, Attempt)> {
        let Some(ids) = &self.0 else {
            return Vec::new();
        };
        let known = |id: &Bytes| ids.known.get(id).cloned();
        let order = ids.order.iter().map(|(_, id)| id);
        order
            .filter_map(|id| Some((id.clone(), known(id)?)))
            .collect()
    }

    pub(crate) fn from_list(list: Vec<(Bytes, Attempt)>) -> Self {
        if list.is_empty() {
            return Self::default();
        }
        let mut ids = Box::<AttemptIds>::default();
        for (id, attempt) in list {
            ids.insert(id, attempt);
        }
        Self(Some(ids))
    }
}

impl AttemptIds {
    fn add(&mut self, id: &Bytes, it: Attempt, keep_ms: u64) {
        while let Some((time, old)) = self.order.first() {
            if it.time < time.plus_ms(keep_ms) {
                break;
            }
            let old = old.clone();
            self.forget(&old);
        }
        // Told again, it counts from the first time.
        let known = self.known.get(id);
        if known.is_some_and(|known| known.entries == it.entries) {
            return;
        }
        self.forget(id);
        for (qseq, _) in &it.entries {
            self.void(*qseq);
        }
        self.insert(id.clone(), it);
    }

    fn insert(&mut self, id: Bytes, it: Attempt) {
        for (qseq, _) in &it.entries {
            self.of.insert(*qseq, id.clone());
        }
        self.order.insert((it.time, id.clone()));
        self.known.insert(id, it);
    }

    fn void(&mut self, qseq: u64) {
        if let Some(id) = self.of.get(&qseq).cloned() {
            self.forget(&id);
        }
    }

    fn forget(&mut self, id: &Bytes) {
        let Some(attempt) = self.known.remove(id) else {
            return;
        };
        self.order.remove(&(attempt.time, id.clone()));
        for (qseq, _) in attempt.entries {
            self.of.remove(&qseq);
        }
    }
}

/// A retained message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Retained {
    pub(crate) stored: StoredId,
    pub(crate) len: u32,
    pub(crate) qos: u8,
    pub(crate) since: Timestamp,
    pub(crate) expiry: Option<Timestamp>,
}

/// A message whose body lies in records of its own: they go with the last reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Large {
    pub(crate) refs: u64,
    pub(crate) parts: Vec<StoredId>,
}
wire_fields!(Large { 1 => refs, 2 => parts });

/// A client session without its connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Client {
    pub(crate) vhost: VhostId,
    pub(crate) client_id: Bytes,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) queue: QueueId,
    /// `None`: never.
    pub(crate) expiry_ms: Option<u64>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) away: bool,
    pub(crate) ends_at: Option<Timestamp>,
    pub(crate) will_at: Option<Timestamp>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) rare: Seldom<ClientRare>,
}

/// What most client sessions never have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClientRare {
    pub(crate) sources: Vec<ClientSource>,
    /// Subscriptions that are still being shown retained messages: behind which topic that goes on.
    pub(crate) replays: BTreeMap<Pattern, Levels>,
    /// Exactly-once publishes that were not released yet.
    pub(crate) inbound: BTreeSet<u16>,
}

impl Empty for ClientRare {
    const EMPTY: &'static Self = &Self {
        sources: Vec::new(),
        replays: BTreeMap::new(),
        inbound: BTreeSet::new(),
    };
}

/// A queue that a client session reads through its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientSource {
    pub(crate) source: Source,
    pub(crate) options: SubscriptionOptions,
    pub(crate) queue: QueueId,
    pub(crate) priority: i32,
}

/// Tasks of one queue that are remembered.
pub(crate) const MOVES_KEPT: usize = 10;
/// Tasks of one virtual host that run.
pub(crate) const MOVES_RUNNING_MAX: usize = 100;
/// Messages that a task moves in one go, at most: all their records lie in one batch.
const MOVE_SLICE: u64 = 256;
/// How long after one slice of a task without a rate the next comes, in ms: others' work has its turn in between.
const MOVE_INTERVAL_MS: u64 = 1;
/// How many slices a second are enough for a task with a rate.
const MOVE_SLICES: u64 = 10;

/// A task that moves messages out of a dead-letter queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Move {
    pub(crate) id: [u8; 16],
    pub(crate) vhost: VhostId,
    pub(crate) source: Name,
    /// Without, each message goes where it came from.
    pub(crate) target: Option<Name>,
    pub(crate) per_second: Option<u32>,
    /// Numbers from here on came after it had started.
    pub(crate) below: u64,
    pub(crate) state: MoveState,
    pub(crate) moved: u64,
    pub(crate) planned: u64,
    pub(crate) started: Timestamp,
    pub(crate) failure: Option<Arc<str>>,
}
wire_fields!(Move {
    1 => id, 2 => vhost, 3 => source, 4 => target, 5 => per_second, 6 => below, 7 => state, 8 => moved, 9 => planned,
    10 => started, 11 => failure,
});

impl Move {
    /// Messages that it moves in one go.
    pub(crate) fn slice(&self) -> u64 {
        self.per_second.map_or(MOVE_SLICE, |rate| {
            (u64::from(rate) / MOVE_SLICES).clamp(1, MOVE_SLICE)
        })
    }

    /// How long after one slice the next comes. Rounded up: in no second are more moved than may be.
    pub(crate) fn interval_ms(&self) -> u64 {
        self.per_second.map_or(MOVE_INTERVAL_MS, |rate| {
            (self.slice() * 1000).div_ceil(u64::from(rate.max(1)))
        })
    }

    /// As it is told.
    pub(crate) fn shown(&self) -> MoveTask {
        MoveTask {
            id: self.id,
            source: self.source.clone(),
            target: self.target.clone(),
            per_second: self.per_second,
            state: self.state,
            moved: self.moved,
            planned: self.planned,
            started: self.started,
            failure: self.failure.clone(),
        }
    }
}

/// Everything durable.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    pub(crate) epoch: u64,
    /// The latest time of any record.
    pub(crate) time: Timestamp,
    /// By their numbers. Of one that was lost with the record that names it: empty.
    pub(crate) vhosts: Vec<Arc<str>>,
    /// Made at the first start; a journal of before there were secrets gets one at its next.
    pub(crate) secret: Option<Secret>,
    pub(crate) next_queue: u64,
    pub(crate) next_client: u64,
    pub(crate) next_transaction: u64,
    pub(crate) next_stream: u64,
    /// Records that were passed over because what they rest on was lost and given up.
    pub(crate) passed_over: u64,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) queues: FxHashMap<QueueId, Box<Queue>>,
    pub(crate) exchanges: BTreeMap<(VhostId, Name), ExchangeOptions>,
    /// By the binding's canonical bytes.
    pub(crate) bindings: BTreeMap<(VhostId, Vec<u8>), Bound>,
    pub(crate) retained: BTreeMap<VhostId, RetainedTree<Retained>>,
    pub(crate) clients: FxHashMap<ClientNo, Box<Client>>,
    pub(crate) large: BTreeMap<StoredId, Large>,
    /// References to stored messages from entries that the message's own record does not name.
    pub(crate) extra: BTreeMap<StoredId, u64>,
    /// Tasks that move messages, by the queue that they empty and their own number.
    pub(crate) moves: BTreeMap<(QueueId, u64), Move>,
    pub(crate) next_move: u64,
    /// Publishes of transactions that are not in force yet.
    pub(crate) prepared: BTreeMap<u64, Vec<Prepared>>,
    /// Topic objects and subscriptions.
    pub(crate) topics: crate::topic::Topics,
    /// What the last publish stored, and its length: a very wide one goes on in further records.
    pub(crate) last_stored: Option<(StoredId, u32)>,
}

/// A publish of a transaction that is not in force yet.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) published: Published,
    pub(crate) stored: Option<StoredId>,
}

impl Durable {
    pub(crate) fn retained(&self, vhost: VhostId, key: &Levels) -> Option<&Retained> {
        self.retained.get(&vhost)?.get(key)
    }

    /// Numbers of all queues, in order.
    pub(crate) fn queue_ids(&self) -> Vec<QueueId> {
        let mut ids: Vec<_> = self.queues.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Numbers of all client sessions, in order.
    pub(crate) fn client_numbers(&self) -> Vec<ClientNo> {
        let mut numbers: Vec<_> = self.clients.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }
}
