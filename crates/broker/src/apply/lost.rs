//! What was lost to damage and given up by an operator.
//!
//! Two things are bridged. Records of the journal that are lost leave the state behind them unknown: what later ones say of
//! things that were never made is passed over and counted ([`Broker::after_loss`]), up to the record of that ([`Mended`]), with which the
//! next start begins. It also takes out what now leads nowhere. And what the state refers to, but cannot be read any more, is let go by
//! records like any other (`decide/lost.rs`).
//!
//! Whatever is known by a number has that number in its records, so nothing behind a gap takes the place of something lost. Names are
//! held by one thing at a time: what is made behind a gap under a name that is taken says that its holder had gone.

use message::{StoredId, Timestamp, VhostId};
use session::{BindTarget, QueueId, ShardNo};

use super::{Applying, declare::ROOT_NAME};
use crate::{
    Broker,
    change::{Bound, ClientEnded, ExchangeDeleted, Kind, Mended, Published, Vhosts, pattern_of},
    stream::{
        NewShard, RecordEntrant, Records, RecordsLost, Resharded, Slot, Stream, StreamDeleted,
        StreamFiled,
    },
    topic::TopicDeleted,
};

/// How many numbers of each kind a lost record may have given away, at most.
const NUMBERS_A_RECORD: u64 = 1_024;
/// More lost records than this are counted as so many: numbers must not run out.
const RECORDS_MAX: u64 = 1 << 30;
/// Offsets of one stream that are bridged at a time, 20 bytes of memory each. More are in no gap that leaves anything.
const BRIDGED_MAX: u64 = 1 << 24;
/// Offsets that all streams together skip for what may have been lost behind their last record.
const SKIPPED_MAX: u64 = 1 << 20;

/// What was lost of a history, and is not recorded in it yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingLoss {
    /// Records that are lost; where that is not known, batches.
    pub records: u64,
    /// Records that are there and were passed over, all or a part of what they say, because what they rest on is lost.
    pub passed_over: u64,
}

impl Broker {
    /// So many records of the history that is being replayed are lost, and were given up. What follows may not fit the state
    /// that is there, up to the change of [`Broker::decide_mended`].
    pub fn after_loss(&mut self, records: u64) {
        self.soft.lossy = true;
        let lost = &mut self.soft.loss.records;
        *lost = lost.saturating_add(records.max(1)).min(RECORDS_MAX);
        // Further targets of a message that is lost must not get the one in front of it.
        self.durable.last_stored = None;
        if self.durable.vhosts.is_empty() {
            // It is always the first.
            self.apply_vhosts(&Vhosts {
                first: Some(VhostId::ROOT),
                names: vec![ROOT_NAME.into()],
            });
        }
    }

    /// What was lost of the history and is not recorded in it, if anything.
    #[must_use]
    pub fn pending_loss(&self) -> Option<PendingLoss> {
        self.soft.lossy.then_some(self.soft.loss)
    }

    /// Records that were passed over in the life of the journal, because what they rest on was lost and given up.
    #[must_use]
    pub const fn passed_over(&self) -> u64 {
        self.durable.passed_over
    }

    /// Asked of each change behind a gap, before anything of it is applied. `false`: what it rests on is lost, and it is passed over.
    pub(super) fn fits_behind_gap(&mut self, kind: &Kind, at: &mut Applying<'_>) -> bool {
        if let Kind::Published(it) = kind {
            // What is there of it gets its part.
            self.soft.loss.passed_over += u64::from(!self.has_all_targets(it));
            return true;
        }
        if !self.rests_on_what_is_there(kind) {
            self.soft.loss.passed_over += 1;
            return false;
        }
        self.displace(kind, at);
        true
    }

    pub(super) fn pass_over(&mut self) {
        self.soft.loss.passed_over += 1;
    }

    /// Whether a virtual host has a name. The number of one that is lost is not given to another.
    pub(super) fn has_vhost(&mut self, VhostId(number): VhostId) -> bool {
        let vhosts = &mut self.durable.vhosts;
        let number = number as usize;
        if number >= vhosts.len() && (number as u64) < self.config.vhosts_max {
            vhosts.resize(number + 1, "".into());
        }
        vhosts.get(number).is_some_and(|name| !name.is_empty())
    }

    /// Whether that number of a queue is taken.
    pub(super) fn holds_any(&self, queue: QueueId, qseq: u64) -> bool {
        let queue = self.durable.queues.get(&queue);
        queue.is_some_and(|queue| queue.entries.get(qseq).is_some())
    }

    fn has_all_targets(&mut self, it: &Published) -> bool {
        let durable = &self.durable;
        let queues = it
            .targets
            .iter()
            .all(|target| durable.queues.contains_key(&target.queue));
        let streams = it
            .records
            .iter()
            .all(|record| durable.streams.contains_key(&record.stream));
        queues && streams && it.retain.as_ref().is_none_or(|it| self.has_vhost(it.vhost))
    }

    fn rests_on_what_is_there(&mut self, kind: &Kind) -> bool {
        let durable = &self.durable;
        match kind {
            Kind::QueueDeclared(it) => self.has_vhost(it.vhost),
            Kind::ExchangeDeclared(it) => self.has_vhost(it.vhost),
            Kind::StreamDeclared(it) => self.has_vhost(it.vhost),
            Kind::TopicDeclared(it) => self.has_vhost(it.vhost),
            Kind::Bound(it) => self.has_vhost(it.vhost) && self.has_ends(it),
            Kind::ClientOpened(it) => {
                durable.queues.contains_key(&it.queue) && self.has_vhost(it.vhost)
            }
            Kind::Subscribed(it) => {
                let topics = &durable.topics;
                it.topic.is_none_or(|topic| topics.topic(topic).is_some())
                    && it.target.is_some()
                    && topics.filter_of(it).as_ref().and_then(pattern_of).is_some()
                    && self.has_vhost(it.vhost)
            }
            Kind::TopicDeleted(it) => durable.topics.topic(it.topic).is_some(),
            Kind::Enqueued(it) => {
                let stored = match it.continues {
                    true => durable.last_stored,
                    false => it.stored,
                };
                stored.is_some() || (it.targets.is_empty() && it.records.is_empty())
            }
            Kind::QueueDeleted(it) => durable.queues.contains_key(&it.queue),
            Kind::QueuePurged(it) => durable.queues.contains_key(&it.queue),
            Kind::Delivered(it) => durable.queues.contains_key(&it.queue),
            Kind::Settled(it) => durable.queues.contains_key(&it.queue),
            Kind::MoveStarted(it) => durable.queues.contains_key(&it.queue),
            Kind::Moved(it) => durable.moves.contains_key(&(it.queue, it.number)),
            Kind::ClientAway(it) => durable.clients.contains_key(&it.client),
            Kind::WillDone(it) | Kind::ClientEnded(it) => durable.clients.contains_key(&it.client),
            Kind::ClientSubscribed(it) => {
                durable.clients.contains_key(&it.client)
                    && it.queue.is_none_or(|id| durable.queues.contains_key(&id))
            }
            Kind::ClientUnsubscribed(it) => durable.clients.contains_key(&it.client),
            Kind::Replayed(it) => durable.clients.contains_key(&it.client),
            Kind::InboundTaken(it) | Kind::InboundReleased(it) => {
                durable.clients.contains_key(&it.client)
            }
            Kind::StreamDeleted(it) => durable.streams.contains_key(&it.stream),
            Kind::Resharded(it) => durable.streams.contains_key(&it.stream),
            Kind::Trimmed(it) => durable.streams.contains_key(&it.stream),
            Kind::RecordsLost(it) => durable.streams.contains_key(&it.stream),
            Kind::StreamFiled(it) => durable.streams.contains_key(&it.stream),
            Kind::GroupMade(it) => durable.streams.contains_key(&it.stream),
            Kind::GroupGone(it) => durable.streams.contains_key(&it.stream),
            Kind::GroupLeased(it) => durable.streams.contains_key(&it.stream),
            Kind::Checkpointed(it) => durable.streams.contains_key(&it.stream),
            _ => true,
        }
    }

    /// Whether there is what a binding leads from and to, and its exchange can do with its filter.
    fn has_ends(&self, it: &Bound) -> bool {
        let Some(binding) = it.binding.as_deref() else {
            return false;
        };
        let routes = &self.soft.routes;
        let leads = match &binding.target {
            BindTarget::Queue(_) => it
                .queue
                .is_some_and(|id| self.durable.queues.contains_key(&id)),
            BindTarget::Stream(_) => it
                .stream
                .is_some_and(|id| self.durable.streams.contains_key(&id)),
            BindTarget::Exchange(name) => routes.contains_key(&(it.vhost, name.clone())),
        };
        let source = routes.get(&(it.vhost, binding.exchange.clone()));
        leads && source.is_some_and(|exchange| exchange.takes(&binding.filter))
    }

    /// What is made takes the name of what had gone in the gap.
    fn displace(&mut self, kind: &Kind, at: &mut Applying<'_>) {
        match kind {
            Kind::QueueDeclared(it) => {
                let named = self.named(it.vhost, &it.name);
                let share = it.share.as_deref();
                let shared = share.and_then(|it2| {
                    let key = (it.vhost, it2.clone());
                    self.soft.shares.get(&key).copied()
                });
                for other in named.into_iter().chain(shared) {
                    if other != it.queue {
                        self.apply_queue_deleted(other, false, at);
                    }
                }
            }
            Kind::ClientOpened(it) => {
                let key = (it.vhost, it.client_id.clone());
                let other = self.soft.client_ids.get(&key).copied();
                if let Some(client) = other.filter(|other| *other != it.client) {
                    let doomed = false;
                    self.apply_client_ended(&ClientEnded { client, doomed }, at);
                }
            }
            Kind::StreamDeclared(it) => {
                let key = (it.vhost, it.name.clone());
                let other = self.soft.stream_names.get(&key).copied();
                if let Some(stream) = other.filter(|other| *other != it.stream) {
                    let doomed = false;
                    self.apply_stream_deleted(&StreamDeleted { stream, doomed }, at);
                }
            }
            Kind::TopicDeclared(it) => {
                let topics = &self.durable.topics;
                let named = topics.named(it.vhost, &it.name).map(|(topic, _)| topic);
                let placed = topics.at(it.vhost, &it.address).map(|(topic, _)| topic);
                for topic in named.into_iter().chain(placed) {
                    if topic != it.topic {
                        let doomed = false;
                        self.apply_topic_deleted(TopicDeleted { topic, doomed }, at.now);
                    }
                }
            }
            Kind::ExchangeDeclared(it) => {
                let kind = it.options.as_ref().map(|options| options.kind);
                let key = (it.vhost, it.name.clone());
                let other = self.durable.exchanges.get(&key);
                if other.is_some_and(|other| Some(other.kind) != kind) {
                    self.apply_exchange_deleted(&ExchangeDeleted {
                        vhost: it.vhost,
                        name: it.name.clone(),
                        soft: false,
                    });
                }
            }
            _ => {}
        }
    }

    /// From here on every change fits the state, or that is a fault: what leads nowhere is taken out, and numbers that lost
    /// records may have given away are not given again. But a gap in front of it that was found only later is not its own.
    pub(super) fn apply_mended(&mut self, it: &Mended, at: &mut Applying<'_>) {
        let loss = &mut self.soft.loss;
        loss.records = loss.records.saturating_sub(it.records);
        loss.passed_over = loss.passed_over.saturating_sub(it.passed_over);
        self.soft.lossy = loss.records > 0;
        if !self.soft.lossy {
            *loss = PendingLoss::default();
        }
        let passed_over = &mut self.durable.passed_over;
        *passed_over = passed_over.saturating_add(it.passed_over);
        let records = it.records.min(RECORDS_MAX);
        self.skip_numbers(records);
        self.skip_offsets(records, at);
        self.mend_shards(at.now);
        for id in self.durable.queue_ids() {
            let client = self.durable.queues[&id].declared.client;
            let lives = |number| {
                let client = self.durable.clients.get(&number);
                client.is_some_and(|client| client.queue == id)
            };
            if client.is_some_and(|client| !lives(client)) {
                self.apply_queue_deleted(id, false, at);
            }
        }
        for client in self.durable.client_numbers() {
            let queue = self.durable.clients[&client].queue;
            if !self.durable.queues.contains_key(&queue) {
                let doomed = false;
                self.apply_client_ended(&ClientEnded { client, doomed }, at);
            }
        }
        let unused = self.durable.large.iter().filter(|(_, it)| it.refs == 0);
        for id in unused.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget_large(id, at);
        }
    }

    fn skip_numbers(&mut self, records: u64) {
        let numbers = records * NUMBERS_A_RECORD;
        let durable = &mut self.durable;
        for next in [
            &mut durable.next_queue,
            &mut durable.next_client,
            &mut durable.next_transaction,
            &mut durable.next_stream,
            &mut durable.next_move,
        ] {
            *next += numbers;
        }
        durable.topics.skip_numbers(numbers, records);
        // Packet ids follow from these: a client may still hold one of a message that is lost.
        for id in durable.queue_ids() {
            let Some(queue) = durable.queues.get_mut(&id) else {
                continue;
            };
            if queue.declared.client.is_some() {
                queue.next += records;
                if let Some(soft) = self.soft.queues.get_mut(&id) {
                    soft.next = soft.next.max(queue.next);
                }
            }
        }
    }

    /// Whoever reads a stream may have got further than its last record that is left.
    fn skip_offsets(&mut self, records: u64, at: &Applying<'_>) {
        let streams = self.durable.streams.len() as u64;
        let each = records.min(SKIPPED_MAX / streams.max(1));
        for stream in self.durable.streams.values_mut() {
            let before = stream.records.len();
            let next = stream.records.next() + each;
            if before == 0 && stream.files.is_empty() {
                stream.records = Records::starting_at(next);
                continue;
            }
            stream.skip(next, at.now);
            self.counters.stream_records += stream.records.len() - before;
        }
    }

    /// A stream of which the open shards do not own every hash gets one that does.
    fn mend_shards(&mut self, now: Timestamp) {
        let torn = self.durable.streams.iter().filter(|(_, stream)| {
            let open = stream.open().filter_map(|shard| stream.shards.get(&shard));
            let mut next = Some(0);
            for shard in open {
                next = match next == Some(shard.first_hash) {
                    true => shard.last_hash.checked_add(1),
                    false => Some(u128::MAX),
                };
            }
            next.is_some() && !stream.declared.doomed
        });
        let torn: Vec<_> = torn
            .map(|(id, stream)| Resharded {
                stream: *id,
                closes: stream.open().collect(),
                opens: vec![NewShard {
                    shard: ShardNo(stream.next_shard + NUMBERS_A_RECORD as u32),
                    first_hash: 0,
                    last_hash: u128::MAX,
                    ..NewShard::default()
                }],
            })
            .collect();
        for resharded in torn {
            self.apply_resharded(&resharded, now);
        }
    }

    pub(super) fn apply_records_lost(&mut self, it: &RecordsLost, at: &mut Applying<'_>) {
        for offset in &it.offsets {
            let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
                return;
            };
            let Some(slot) = stream.records.get(*offset).copied() else {
                continue;
            };
            if slot.is_lost() {
                continue;
            }
            let shard = stream.shard_at(&slot);
            let lost = Slot::lost(slot.stored(), slot.time(), shard);
            stream.records.replace(*offset, lost);
            stream.bytes -= u64::from(slot.len());
            self.counters.stream_bytes -= u64::from(slot.len());
            self.drop_slot(&slot, at);
        }
        let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
            return;
        };
        let lost = |offset: u64| it.offsets.binary_search(&offset).is_ok();
        stream.keys.retain(|(offset, _)| !lost(*offset));
        let records = &stream.records;
        let there = |offset: u64| records.get(offset).is_some_and(|slot| !slot.is_lost());
        for shard in stream.shards.values_mut() {
            shard.offsets.retain(there);
        }
    }

    /// A run whose ends do not fit, since records are lost: what lies in front of it cannot be read in its order any more, and what was
    /// written and copied in the gap is in the file. `false`: nothing of it can be used.
    pub(super) fn bridge_filed(&mut self, it: &StreamFiled, at: &mut Applying<'_>) -> bool {
        let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
            return false;
        };
        let run = &it.run;
        let before = stream.records.len();
        if run.first < stream.records.first()
            || run.below < run.first
            || !stream.skip(run.below, run.last_time)
        {
            return false;
        }
        self.counters.stream_records += stream.records.len() - before;
        let (count, bytes) = self.let_records_go(it.stream, run.first, at);
        self.counters.stream_records -= count;
        self.counters.stream_bytes -= bytes;
        true
    }
}

impl Stream {
    /// Fills the offsets in front of a record that are lost. `false`: the record itself has no place.
    pub(super) fn bridge_loss(&mut self, it: &RecordEntrant, now: Timestamp) -> bool {
        if it.offset < self.records.next() {
            return false;
        }
        let has_shard = self.shards.contains_key(&it.shard);
        if self.records.len() == 0 && self.files.is_empty() {
            self.records = Records::starting_at(it.offset);
        }
        let bridged = self.skip(it.offset.saturating_add(u64::from(!has_shard)), now);
        has_shard && bridged
    }

    /// The next record gets that offset, or a later one: what is in between is lost. `false`: that is too much.
    fn skip(&mut self, upto: u64, time: Timestamp) -> bool {
        let skipped = upto.saturating_sub(self.records.next());
        if skipped > BRIDGED_MAX {
            return false;
        }
        let shard = self.shards.keys().next().copied().unwrap_or_default();
        for _ in 0..skipped {
            self.records.push(Slot::lost(StoredId(0), time, shard));
        }
        true
    }
}
