//! The core: queues, streams, topics and client sessions as one deterministic state machine.
//!
//! No I/O, clock, thread or randomness. `decide_*` reads and comes to a [`Decision`]; [`Broker::apply`] changes. Live
//! traffic, recovery and the standby run the same `apply`, so replaying the durable changes gives the durable state.
//!
//! ```text
//! Command ──decide──► Decision { changes, effects }
//!                        │ each change: encode ─► journal        (durable ones)
//!                        └► apply ─► state, Ref/Unref effects
//! then decide_deliveries until it returns false; decide_tick when next_deadline has come
//! ```
//!
//! | file | what |
//! |---|---|
//! | `effect.rs` | what the node is asked to do |
//! | `change.rs` | what happened |
//! | `record/` | changes as records, numbered fields |
//! | `durable.rs`, `soft.rs` | the two kinds of state, never mixed |
//! | `queue/` | entries and their order |
//! | `subscriptions.rs` | what a client session subscribes to |
//! | `pulls.rs` | pulls that wait at a queue |
//! | `recent.rs` | messages only just stored, still in memory |
//! | `stream/` | records of streams and their shards |
//! | `topic/` | topic objects and subscriptions |
//! | `decide/` | one file a subject: publish, declare, subscribe, settle, client, transact, tick, pump |
//! | `apply/` | the same subjects, changing |
//! | `snapshot.rs` | the durable state as bytes |
//! | `routing/` | who gets a message |
//! | `wheel.rs` | what is due when |
//!
//! Absent on purpose: permissions (asked by the node; what they need to know of the core
//! is in `decide/revoke.rs`), anything of a protocol.
#![forbid(unsafe_code)]

mod apply;
mod change;
mod config;
mod counters;
mod decide;
mod durable;
mod effect;
mod few;
mod pulls;
mod queue;
mod recent;
mod record;
mod routing;
mod seldom;
mod snapshot;
mod soft;
mod stream;
mod subscriptions;
mod topic;
mod view;
mod wheel;

use std::sync::Arc;

use message::{StoredId, Timestamp, VhostId};
use session::{Gate, QueueId, Secret, StreamId};

use crate::{durable::Durable, soft::Soft};

pub use apply::PendingLoss;
pub use change::{Change, ClientNo};
pub use config::Config;
pub use counters::{Counters, Metric};
pub use decide::{Lost, Reading, SubscriptionPlace, check_queue_name, queue_name};
pub use effect::{
    Content, Context, Decision, Effect, Fetch, Load, LoadFor, Loaded, LoadedRecord, OutLane,
    Outgoing, PendingDelivery, PendingRecord, PendingRecords, SessionInfo, Wait,
};
pub use record::{BodyAt, RecordKind, StoredBody, StoredMessage, decode_stored, stored_here};
pub use snapshot::DecodeSnapshotError;
pub use stream::{FileId, Fileable, FileableStream};

/// The core.
pub struct Broker {
    config: Config,
    durable: Durable,
    soft: Soft,
    counters: Counters,
    /// Asked while deciding only (RULES 1). `None`: each queue takes everything.
    gate: Option<Arc<dyn Gate>>,
}

impl Broker {
    /// From here on it says which queues take what topics bring.
    pub fn set_gate(&mut self, gate: Option<Arc<dyn Gate>>) {
        self.gate = gate;
    }

    /// The virtual host of that name.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<VhostId> {
        vhost_in(&self.durable.vhosts, name)
    }

    /// The name of a virtual host.
    #[must_use]
    pub fn vhost_name(&self, id: VhostId) -> Option<Arc<str>> {
        let name = self.durable.vhosts.get(id.0 as usize)?;
        (!name.is_empty()).then(|| Arc::clone(name))
    }

    /// The store's own secret. `None` until [`Broker::decide_secret`] has been asked once in the life of the journal.
    #[must_use]
    pub const fn secret(&self) -> Option<Secret> {
        self.durable.secret
    }

    /// The latest time of any record: core time starts no earlier (RULES 8).
    #[must_use]
    pub const fn last_time(&self) -> Timestamp {
        self.durable.time
    }

    /// When [`Broker::decide_tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.soft.timers.next()
    }

    /// Whether any filter policy looks at bodies: then it pays to read them before the lock is taken (RULES 9).
    #[must_use]
    pub const fn reads_bodies(&self) -> bool {
        self.durable.topics.of_bodies > 0
    }

    /// Counters and gauges.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether a queue still holds that message at that number.
    #[must_use]
    pub fn holds(&self, queue: QueueId, qseq: u64, id: StoredId) -> bool {
        self.durable
            .queues
            .get(&queue)
            .and_then(|queue| queue.entries.get(qseq))
            .is_some_and(|entry| entry.stored() == id)
    }

    /// Whether a stream still holds that message at that offset.
    #[must_use]
    pub fn holds_record(&self, stream: StreamId, offset: u64, id: StoredId) -> bool {
        self.durable
            .streams
            .get(&stream)
            .is_some_and(|stream| stream.holds(offset, id))
    }

    /// Whether anything refers to the message that a record stores, or to the part of a body: asked when survivors are
    /// moved. `kind` and `change` are the record's.
    #[must_use]
    pub fn is_live(&self, change: &Change, id: StoredId) -> bool {
        let change::Kind::Published(published) = &change.0 else {
            return false;
        };
        self.durable.extra.contains_key(&id)
            || published
                .targets
                .iter()
                .any(|target| self.holds(target.queue, target.qseq, id))
            || published
                .records
                .iter()
                .any(|record| self.holds_record(record.stream, record.offset, id))
            || published.retain.as_ref().is_some_and(|retain| {
                self.durable
                    .retained(retain.vhost, &retain.key)
                    .is_some_and(|retained| retained.stored == id)
            })
            || self
                .durable
                .prepared
                .values()
                .flatten()
                .any(|prepared| prepared.stored == Some(id))
    }

    /// Whether a part of a large body still belongs to a message that something refers to.
    #[must_use]
    pub fn is_live_part(&self, part: StoredId) -> bool {
        self.soft.part_owners.contains_key(&part)
    }

    /// Every reference to a stored message or part, once each: to rebuild live counts after a replay.
    pub fn for_each_stored(&self, mut f: impl FnMut(StoredId)) {
        for id in self.durable.queue_ids() {
            for (_, entry) in self.durable.queues[&id].entries.iter() {
                f(entry.stored());
            }
        }
        for stream in self.durable.streams.values() {
            for (_, slot) in stream.records.iter().filter(|(_, slot)| !slot.is_lost()) {
                f(slot.stored());
            }
        }
        for tree in self.durable.retained.values() {
            tree.for_each(|_, retained| f(retained.stored));
        }
        for large in self.durable.large.values() {
            large.parts.iter().copied().for_each(&mut f);
        }
    }
}

fn vhost_in(vhosts: &[Arc<str>], name: &str) -> Option<VhostId> {
    let at = vhosts
        .iter()
        .position(|known| &**known == name && !name.is_empty())?;
    Some(VhostId(at as u32))
}
