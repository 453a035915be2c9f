//! Applying changes: the same function for live traffic, recovery and the standby.
//!
//! Nothing here chooses: no routing, no filter, no limit, no consumer (RULES 1). What a change did to an object depends
//! on the change and that object alone. Soft state is kept beside as far as it is there: a replay has no connections.
//!
//! | file | what |
//! |---|---|
//! | `declare.rs` | virtual hosts, queues, exchanges, bindings |
//! | `entries.rs` | publishes, entries made and gone |
//! | `out.rs` | deliveries, settlements |
//! | `client.rs` | client sessions, subscriptions, wills, epochs |
//! | `moves.rs` | tasks that move messages |
//! | `empty.rs` | how far queues have been emptied, and whose turn that is |
//! | `replay.rs` | how far subscriptions have been shown retained messages, and whose turn that is |
//! | `stream.rs` | streams, their records, reads that wait |
//! | `topic.rs` | topic objects and subscriptions |
//! | `lost.rs` | what was lost to damage and given up |
//! | `reader.rs` | consumers of streams, consumer groups |
//! | `receivers.rs` | connections, consumers, credit, the round of queues with something to deliver |

mod client;
mod declare;
mod empty;
mod entries;
mod lost;
mod moves;
mod out;
mod reader;
mod receivers;
mod replay;
mod stream;
mod topic;

use message::{StoredId, Timestamp};

use crate::{
    Broker, Effect,
    change::{Change, Kind, Transaction},
    durable::Prepared,
};

pub(crate) use declare::{PREDECLARED, ROOT, ROOT_NAME, binding_key};
pub(crate) use entries::transient_len;
pub use lost::PendingLoss;

/// Timers that one turn of the wheel moves.
const TURN_MOVES: usize = 1024;

/// What an `apply` is given besides the change.
pub(crate) struct Applying<'a> {
    pub(crate) now: Timestamp,
    pub(crate) stored: Option<StoredId>,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Broker {
    /// Applies a change. `stored` says where the message lies that it stores, if it stores one.
    ///
    /// # Panics
    /// When the change does not fit the state: memory and journal would part (RULES 15).
    pub fn apply(
        &mut self,
        change: &Change,
        now: Timestamp,
        stored: Option<StoredId>,
        effects: &mut Vec<Effect>,
    ) {
        if change.is_durable() {
            return self.apply_durable(change, now, stored, effects);
        }
        self.apply_change(change, now, stored, effects);
    }

    /// The same for a change that is in the journal.
    ///
    /// # Panics
    /// As [`Broker::apply`].
    pub fn apply_durable(
        &mut self,
        change: &Change,
        now: Timestamp,
        stored: Option<StoredId>,
        effects: &mut Vec<Effect>,
    ) {
        debug_assert!(change.is_durable(), "its time would count: {change:?}");
        self.durable.time = self.durable.time.max(now);
        self.apply_change(change, now, stored, effects);
    }

    /// The same for a change that is in no journal.
    pub fn apply_soft(&mut self, change: &Change, now: Timestamp, effects: &mut Vec<Effect>) {
        debug_assert!(!change.is_durable(), "its time would be lost: {change:?}");
        self.apply_change(change, now, None, effects);
    }

    fn apply_change(
        &mut self,
        change: &Change,
        now: Timestamp,
        stored: Option<StoredId>,
        effects: &mut Vec<Effect>,
    ) {
        let mut at = Applying {
            now,
            stored,
            effects,
        };
        if change.0.may_reroute() {
            self.soft.known.forget();
        }
        self.apply_kind(&change.0, &mut at);
    }

    fn apply_kind(&mut self, kind: &Kind, at: &mut Applying<'_>) {
        if self.soft.lossy && !self.fits_behind_gap(kind, at) {
            return;
        }
        match kind {
            Kind::EpochOpen(it) => self.apply_epoch(it, at),
            Kind::Mended(it) => self.apply_mended(it, at),
            Kind::Vhosts(it) => self.apply_vhosts(it),
            Kind::Secret(secret) => self.durable.secret = Some(*secret),
            Kind::QueueDeclared(it) => self.apply_queue_declared(it, at.now),
            Kind::QueueDeleted(it) => self.apply_queue_deleted(it.queue, it.doomed, at),
            Kind::QueuePurged(it) => self.apply_queue_purged(it, at),
            Kind::ExchangeDeclared(it) => self.apply_exchange_declared(it),
            Kind::ExchangeDeleted(it) => self.apply_exchange_deleted(it),
            Kind::Bound(it) => self.apply_bound(it),
            Kind::Unbound(it) => self.apply_unbound(it),
            Kind::Published(it) => self.apply_published(it, at),
            Kind::Delivered(it) => self.apply_delivered(it, at),
            Kind::Settled(it) => self.apply_settled(it, at),
            Kind::Enqueued(it) => self.apply_enqueued(it, at),
            Kind::MoveStarted(it) => self.apply_move_started(it, at.now),
            Kind::Moved(it) => self.apply_moved(it, at.now),
            Kind::RetainedGone(it) => self.apply_retained_gone(it, at),
            Kind::Transaction(it) => self.apply_transaction(it, at),
            // It stands for a publish of a transaction.
            Kind::InForce(_) => {}
            Kind::ClientOpened(it) => self.apply_client_opened(it),
            Kind::ClientAway(it) => self.apply_client_away(it),
            Kind::WillDone(it) => self.apply_will_done(it.client),
            Kind::ClientEnded(it) => self.apply_client_ended(it, at),
            Kind::ClientSubscribed(it) => self.apply_client_subscribed(it),
            Kind::ClientUnsubscribed(it) => self.apply_client_unsubscribed(it),
            Kind::Replayed(it) => self.apply_replayed(it),
            Kind::Empties { queue, all, waiter } => self.apply_empties(*queue, *all, *waiter),
            Kind::Emptied { queue, upto } => self.apply_emptied(*queue, *upto),
            Kind::ReplayRests(client) => self.replay_rests(*client),
            Kind::InboundTaken(it) => {
                if let Some(client) = self.client_mut(it.client) {
                    client.rare.change(|rare| rare.inbound.insert(it.id));
                }
            }
            Kind::InboundReleased(it) => {
                if let Some(client) = self.client_mut(it.client) {
                    client.rare.change(|rare| rare.inbound.remove(&it.id));
                }
            }
            Kind::StreamDeclared(it) => self.apply_stream_declared(it, at.now),
            Kind::StreamDeleted(it) => self.apply_stream_deleted(it, at),
            Kind::Resharded(it) => self.apply_resharded(it, at.now),
            Kind::Trimmed(it) => self.apply_trimmed(it, at),
            Kind::StreamFiled(it) => self.apply_stream_filed(it, at),
            Kind::RecordsLost(it) => self.apply_records_lost(it, at),
            Kind::TopicDeclared(it) => self.apply_topic_declared(it, at.now),
            Kind::TopicDeleted(it) => self.apply_topic_deleted(*it, at.now),
            Kind::Subscribed(it) => self.apply_subscribed(it),
            Kind::Unsubscribed(it) => self.apply_unsubscribed(it),
            Kind::GroupMade(it) => self.apply_group_made(it),
            Kind::GroupGone(it) => self.apply_group_gone(it),
            Kind::GroupLeased(it) => self.apply_group_leased(it),
            Kind::Checkpointed(it) => self.apply_checkpointed(it),
            Kind::ReaderAdded { queue, reader } => {
                self.apply_reader_added(*queue, reader, at.now);
            }
            Kind::ReaderLoads(queue) => self.apply_reader_loads(*queue),
            Kind::ReaderLoaded { queue, window } => {
                self.apply_reader_loaded(*queue, window.as_deref());
            }
            Kind::ReaderSent(it) => self.apply_reader_sent(it),
            Kind::ReaderSettled {
                queue,
                ranges,
                again,
            } => self.apply_reader_settled(*queue, ranges, *again),
            Kind::Assigned(it) => self.apply_assigned(it, at),
            Kind::Regroup(stream) => self.regroup_all(*stream),
            Kind::ReadWaits {
                stream,
                until,
                read,
            } => self.apply_read_waits(*stream, *until, read),
            Kind::ReadEnds { session, token } => self.apply_read_ends(*session, *token),
            Kind::ReadCounted {
                stream,
                shard,
                reads,
                bytes,
            } => self.apply_read_counted(*stream, *shard, (*reads, *bytes), at.now),
            Kind::StreamTurn { stream, rests } => self.apply_stream_turn(*stream, *rests),
            Kind::Attached {
                session,
                vhost,
                user,
                broker,
            } => self.apply_attached(*session, *vhost, user, *broker),
            Kind::Detached(session) => self.apply_detached(*session, at.now),
            Kind::ConsumerAdded(it) => self.apply_consumer_added(it, at.now),
            Kind::ConsumerGone { session, consumer } => {
                self.apply_consumer_gone((*session, *consumer), at.now);
            }
            Kind::CreditSet {
                session,
                consumer,
                credit,
            } => self.apply_credit((*session, *consumer), *credit),
            Kind::GroupWindow {
                session,
                group,
                window,
            } => self.change_group(*session, *group, |group| group.window = *window),
            Kind::GroupFlow {
                session,
                group,
                active,
            } => self.change_group(*session, *group, |group| group.active = *active),
            Kind::PullWaits { queue, until, pull } => {
                self.apply_pull_waits(*queue, *until, pull);
            }
            Kind::PullEnds { session, token } => self.apply_pull_ends(*session, *token),
            Kind::Sent { to, bytes } => {
                self.counters.delivered += to.len() as u64;
                for session in to {
                    self.take_room(*session, *bytes);
                }
            }
            Kind::Visible { queue, qseq } => self.apply_visible(*queue, *qseq, at.now),
            Kind::SetAside { queue, qseq } => self.apply_set_aside(*queue, *qseq),
            Kind::Used(queue) => self.soft_queue_mut(*queue).last_used = at.now,
            Kind::Rest(queue) => self.rest_or_pass(*queue),
            Kind::Wakes(place) => self.go_on_waking(*place),
            Kind::Turned(now) => self.soft.timers.turn(*now, TURN_MOVES),
            Kind::Postponed { was, until } => {
                self.soft.timers.remove(was);
                let timer = was.1;
                if let crate::soft::Timer::Age(queue) = timer
                    && let Some(soft) = self.soft.queues.get_mut(&queue)
                {
                    soft.age_at = *until;
                }
                if let crate::soft::Timer::Move(queue, number) = timer {
                    return self.move_at((queue, number), *until);
                }
                if let crate::soft::Timer::Grow(stream) = timer {
                    return self.measure_anew(stream, *until);
                }
                if let crate::soft::Timer::Trim(stream) = timer
                    && let Some(soft) = self.soft.streams.get_mut(&stream)
                {
                    soft.trim_at = *until;
                }
                if let Some(until) = until {
                    self.soft.timers.insert((*until, timer));
                }
            }
            Kind::Counted(tally, by) => self.counters.count(*tally, *by),
        }
    }

    fn apply_transaction(&mut self, it: &Transaction, at: &mut Applying<'_>) {
        let prepared = self.durable.prepared.remove(&it.transaction);
        let prepared = prepared.unwrap_or_default();
        let mut named = it.changes.iter().filter_map(|change| match change.0 {
            Kind::InForce(ordinal) => Some(ordinal),
            _ => None,
        });
        let first = named.next();
        // Those of the version before get their places here.
        let named = named.count() + usize::from(first.is_some());
        let mut last = prepared.len().saturating_sub(named) as u32;
        let place = |ordinal: u32, next: u32| if ordinal == 0 { next } else { ordinal };
        let first = first.map_or(u32::MAX, |first| place(first, last + 1));
        let mut prepared = (1..)
            .zip(prepared)
            .map(|(at, it)| (place(it.published.ordinal, at), it))
            .peekable();
        while let Some((_, prepared)) = prepared.next_if(|(place, _)| *place < first) {
            self.put_in_force(&prepared, at);
        }
        for change in &it.changes {
            let Kind::InForce(ordinal) = change.0 else {
                self.apply_kind(&change.0, at);
                continue;
            };
            last = place(ordinal, last + 1);
            // One that is lost leaves its place empty.
            if let Some((_, prepared)) = prepared.next_if(|(place, _)| *place == last) {
                self.put_in_force(&prepared, at);
            }
        }
        self.durable.next_transaction = self.durable.next_transaction.max(it.transaction + 1);
    }

    fn put_in_force(&mut self, it: &Prepared, at: &mut Applying<'_>) {
        let mut within = Applying {
            now: at.now,
            stored: it.stored,
            effects: at.effects,
        };
        self.publish(&it.published, &mut within);
    }
}
