//! A decision in the making: what it has already promised counts when the next step of the same command is decided.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use message::{Levels, Message, Name, PolicyBody, StoredId, Timestamp, VhostId};
use rustc_hash::FxHashMap;
use session::{Event, Lane, Original, QueueId, SessionId, ShardNo, StreamId, Token};
use smallvec::SmallVec;

use super::topic;
use crate::{
    Broker, Context, Decision, Effect, OutLane, Wait,
    change::{Change, ClientNo, Entrant, Kind, Ranges, SOFT_BIT, Settled},
    counters::Tally,
    few::Few,
    queue::Runs,
    soft::SoftQueue,
    stream::RecordEntrant,
    topic::{Numbered, TopicNo},
};

/// Queues that are looked for one by one.
const ADDED_FEW: usize = 8;

/// What a decision will add to, and take from, a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Added {
    numbers: u64,
    count: i64,
    bytes: i64,
}

/// An entry that a change of the decision at hand brings into a queue.
#[derive(Clone, Copy)]
pub(crate) struct Brought {
    pub(crate) qseq: u64,
    /// It is not available yet.
    pub(crate) is_delayed: bool,
    /// As the queue counts it; 0 for what is delayed.
    pub(crate) priority: u8,
    /// Bytes of its body.
    pub(crate) len: u32,
    /// The change.
    pub(crate) change: usize,
}

/// The same entry, and where its message is.
pub(crate) struct Incomer {
    pub(crate) entrant: Entrant,
    pub(crate) message: Option<Arc<Message>>,
    /// Where it lay before this decision.
    pub(crate) stored: Option<(StoredId, u32)>,
    /// What its delivery waits for.
    pub(crate) wait: Wait,
}

/// What the changes of the decision at hand bring into a queue.
#[derive(Default)]
struct Incomers {
    /// So many changes were looked at: a command that brings thousands does not look at the first ones again each time.
    seen: usize,
    /// In the order in which they make room: what is available as it would be delivered, then what is delayed.
    in_order: BTreeMap<(bool, Reverse<u8>, u64), Brought>,
}

/// See the module.
///
/// One is made for each command, so what few commands need lies apart.
pub(crate) struct Draft<'a> {
    pub(crate) now: Timestamp,
    pub(crate) random: u64,
    out: &'a mut Decision,
    /// Bodies that were read before.
    pub(crate) bodies: &'a [(Arc<Message>, PolicyBody)],
    added: SmallVec<[(QueueId, Added); 2]>,
    /// Entries that an earlier change of this decision takes away.
    gone: Option<Few<QueueId, Runs>>,
    /// Records that came into streams.
    records: SmallVec<[(StreamId, u64); 1]>,
    /// The hash that chooses the shard of the publish at hand.
    pub(crate) hash_key: Option<u128>,
    /// A message, and the hash of its own partition key.
    pub(crate) own_hash: Option<(*const Message, u128)>,
    transient: u64,
    /// A transaction is decided: each of its publishes is one record.
    pub(crate) transaction: bool,
    /// Several publishes are decided, each for itself.
    pub(crate) many: bool,
    /// What is decided for several is not what would become of each by itself.
    pub(crate) differs: bool,
    /// How deep dead-lettering has gone.
    pub(crate) depth: u32,
    /// Made when it is needed.
    rarer: Option<Box<Rarer>>,
}

/// What few decisions have to remember.
#[derive(Default)]
struct Rarer {
    /// Where the queues of `Draft::added` are, once there are more than a few.
    added_at: FxHashMap<QueueId, usize>,
    dedups: BTreeMap<(QueueId, bytes::Bytes), Original>,
    /// Queues that this decision makes, by name.
    made: SmallVec<[(VhostId, Name, QueueId); 1]>,
    /// What comes into streams, shard by shard.
    shards: BTreeMap<(StreamId, ShardNo), (u64, u64)>,
    /// Publishes that pass FIFO topic objects.
    topics: SmallVec<[(TopicNo, u64); 1]>,
    topic_dedups: BTreeMap<(TopicNo, bytes::Bytes), Original>,
    durable_queues: u64,
    soft_queues: u64,
    /// Own queues of client sessions that a change of this decision makes, and which.
    own: BTreeMap<QueueId, usize>,
    /// Client sessions that this decision ends.
    leavers: Vec<ClientNo>,
    /// Known for the queues that had to make room by what this decision brings.
    incomers: BTreeMap<QueueId, Incomers>,
    /// Queues that hold more than they may with what a change brings that is not there yet, and how many there were in front of it.
    overfull: SmallVec<[(QueueId, usize); 1]>,
    /// Topics whose retained message this decision changes, and whether there is one then.
    retains: BTreeMap<(VhostId, Levels), bool>,
    retained_more: i64,
}

impl<'a> Draft<'a> {
    #[inline(always)]
    pub(crate) fn new(cx: &Context, out: &'a mut Decision) -> Self {
        Self {
            now: cx.now,
            random: cx.random,
            out,
            bodies: &[],
            added: SmallVec::new(),
            gone: None,
            records: SmallVec::new(),
            hash_key: None,
            own_hash: None,
            transient: 0,
            transaction: false,
            many: false,
            differs: false,
            depth: 0,
            rarer: None,
        }
    }

    fn rarer(&mut self) -> &mut Rarer {
        self.rarer.get_or_insert_default()
    }

    /// What the changes bring is to be looked at anew: some that were seen are gone.
    fn forget_incomers(&mut self) {
        if let Some(rarer) = &mut self.rarer {
            rarer.incomers.clear();
        }
    }

    /// A queue is to make room once all that this decision brings is there.
    pub(crate) fn overfills(&mut self, queue: QueueId) {
        let changes = self.out.changes.len();
        self.rarer().overfull.push((queue, changes));
    }

    /// Whether there are such queues.
    #[inline]
    pub(crate) fn has_overfull(&self) -> bool {
        let rarer = self.rarer.as_ref();
        rarer.is_some_and(|rarer| !rarer.overfull.is_empty())
    }

    /// Such queues, as often as it was said of them, with how many changes there were then; they are forgotten.
    pub(crate) fn take_overfull(&mut self) -> SmallVec<[(QueueId, usize); 1]> {
        std::mem::take(&mut self.rarer().overfull)
    }

    #[inline]
    pub(crate) fn change(&mut self, kind: Kind) {
        self.out.changes.push(Change(kind));
    }

    /// An entry is settled: in one change with the last one, if that settles an entry before it alike.
    pub(crate) fn settle(&mut self, queue: QueueId, qseq: u64, with: Settled) {
        if let Some(Change(Kind::Settled(last))) = self.out.changes.last_mut()
            && last.queue == queue
            && last.settlement == with.settlement
            && last.untried == with.untried
            && last.soft == with.soft
            && last.ranges.0.last().is_some_and(|(_, last)| *last < qseq)
        {
            return last.ranges.push(qseq);
        }
        self.change(Kind::Settled(Settled {
            queue,
            ranges: Ranges::one(qseq),
            ..with
        }));
    }

    /// A change that comes before those drafted so far.
    pub(crate) fn change_first(&mut self, kind: Kind) {
        self.out.changes.insert(0, Change(kind));
        if let Some(rarer) = &mut self.rarer {
            rarer.own.values_mut().for_each(|made| *made += 1);
            rarer.overfull.iter_mut().for_each(|(_, at)| *at += 1);
            for incomers in rarer.incomers.values_mut() {
                incomers.seen += 1;
                let brought = incomers.in_order.values_mut();
                brought.for_each(|it| it.change += 1);
            }
        }
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    pub(crate) fn count(&mut self, tally: Tally, by: u64) {
        self.change(Kind::Counted(tally, by));
    }

    /// Whether a loss was counted since there were so many changes. What a policy filtered is none: whoever has the policy does not want it.
    pub(crate) fn is_loss_counted(&self, changes: usize) -> bool {
        let mut since = self.out.changes[changes..].iter();
        since.any(|change| matches!(change.0, Kind::Counted(tally, _) if tally != Tally::Filtered))
    }

    /// What was counted since there were so many changes, of which nothing else came, does not count after all.
    pub(crate) fn uncount(&mut self, changes: usize) {
        let all = &mut self.out.changes;
        while all.len() > changes && matches!(all.last(), Some(Change(Kind::Counted(..)))) {
            all.pop();
        }
        let left = all.len();
        if let Some(rarer) = &mut self.rarer {
            let incomers = rarer.incomers.values_mut();
            incomers.for_each(|it| it.seen = it.seen.min(left));
        }
    }

    /// A client published what the last change is about, if that is a publish.
    pub(crate) fn count_published(&mut self) {
        match self.out.changes.last_mut() {
            Some(Change(Kind::Published(published))) if !published.counts => {
                published.counts = true;
            }
            _ => self.count(Tally::Published, 1),
        }
    }

    pub(crate) fn reply(&mut self, to: SessionId, lane: Lane, wait: Wait, event: Event) {
        self.tell(to, OutLane::Reply(lane), wait, event);
    }

    /// A publish was accepted: in one answer with the last one, if that was too.
    pub(crate) fn accept(&mut self, to: SessionId, lane: Lane, wait: Wait, token: Token) {
        if let Some(Effect::Event {
            lane: of,
            wait: behind,
            event: Event::Accepted { tokens },
            ..
        }) = self.out.effects.last_mut()
            && *of == OutLane::Reply(lane)
            && *behind == wait
        {
            return tokens.push(token);
        }
        let tokens = vec![token];
        self.reply(to, lane, wait, Event::Accepted { tokens });
    }

    pub(crate) fn tell(&mut self, to: SessionId, lane: OutLane, wait: Wait, event: Event) {
        self.effect(Effect::Event {
            to,
            lane,
            wait,
            event,
        });
    }

    /// Whether anything so far goes into the journal.
    pub(crate) fn is_durable(&self) -> bool {
        self.out.changes.iter().any(Change::is_durable)
    }

    pub(crate) fn changes_len(&self) -> usize {
        self.out.changes.len()
    }

    /// Takes out the changes made since there were `len`.
    pub(crate) fn take_changes(&mut self, len: usize) -> Vec<Change> {
        self.forget_incomers();
        self.out.changes.split_off(len)
    }

    /// Drops the effects made since there were `len`, and the changes.
    pub(crate) fn roll_back(&mut self, changes: usize, effects: usize) {
        self.forget_incomers();
        if let Some(rarer) = &mut self.rarer {
            rarer.own.retain(|_, made| *made < changes);
            // What overfilled it was the change behind those that there were.
            rarer.overfull.retain(|(_, before)| *before < changes);
        }
        self.out.changes.truncate(changes);
        self.out.effects.truncate(effects);
    }

    pub(crate) fn effects_len(&self) -> usize {
        self.out.effects.len()
    }

    pub(crate) fn push(&mut self, change: Change) {
        self.out.changes.push(change);
    }

    fn added(&mut self, queue: QueueId) -> &mut Added {
        // Most decisions are about one queue.
        let is_first = match self.added.first() {
            Some((first, _)) => *first == queue,
            None => {
                self.added.push((queue, Added::default()));
                true
            }
        };
        if is_first {
            return &mut self.added[0].1;
        }
        self.find_or_add(queue)
    }

    #[inline(never)]
    fn find_or_add(&mut self, queue: QueueId) -> &mut Added {
        let at = self.find_added(queue).unwrap_or_else(|| {
            let at = self.added.len();
            self.added.push((queue, Added::default()));
            if at == ADDED_FEW {
                let few = self.added.iter().enumerate();
                self.rarer.get_or_insert_default().added_at =
                    few.map(|(at, (queue, _))| (*queue, at)).collect();
            } else if at > ADDED_FEW {
                self.rarer().added_at.insert(queue, at);
            }
            at
        });
        &mut self.added[at].1
    }

    fn find_added(&self, queue: QueueId) -> Option<usize> {
        if self.added.len() > ADDED_FEW {
            return self.rarer.as_ref()?.added_at.get(&queue).copied();
        }
        self.added.iter().position(|(id, _)| *id == queue)
    }

    /// The next number of a queue.
    pub(crate) fn number(&mut self, broker: &Broker, queue: QueueId) -> u64 {
        let next = broker.soft.queues.get(&queue).map_or(0, |soft| soft.next);
        let added = self.added(queue);
        added.numbers += 1;
        next + added.numbers - 1
    }

    /// Records that come into a shard, and their bytes.
    pub(crate) fn records(&self, stream: StreamId, shard: ShardNo) -> (u64, u64) {
        let known = self.rarer.as_ref();
        known
            .and_then(|rarer| rarer.shards.get(&(stream, shard)).copied())
            .unwrap_or_default()
    }

    /// A record will be made in a shard with limits.
    pub(crate) fn record_comes(&mut self, stream: StreamId, shard: ShardNo, len: u64) {
        if self.transaction || self.many {
            let (count, bytes) = self.rarer().shards.entry((stream, shard)).or_default();
            *count += 1;
            *bytes += len;
        }
    }

    /// Gives the records of the next change their offsets: not before, as what a message pushes out on its way is drafted in front
    /// of it and may come into the same stream.
    pub(crate) fn number_records(&mut self, broker: &Broker, records: &mut [RecordEntrant]) {
        for record in records {
            let known = self.records.iter();
            let at = known.clone().position(|(id, _)| *id == record.stream);
            let at = at.unwrap_or_else(|| {
                self.records.push((record.stream, 0));
                self.records.len() - 1
            });
            let next = broker.durable.streams.get(&record.stream);
            let count = &mut self.records[at].1;
            record.offset = next.map_or(0, |stream| stream.records.next()) + *count;
            *count += 1;
        }
    }

    /// Whether records came into a stream.
    #[inline]
    pub(crate) fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// The streams that records came into: once only.
    pub(crate) fn take_streams(&mut self) -> SmallVec<[(StreamId, u64); 1]> {
        std::mem::take(&mut self.records)
    }

    /// The lengths of the records that come into a stream.
    pub(crate) fn record_lens(&self, stream: StreamId) -> Vec<u32> {
        let changes = self.out.changes.iter();
        let records = changes.flat_map(|change| match &change.0 {
            Kind::Published(it) => &it.records[..],
            Kind::Enqueued(it) => &it.records,
            _ => &[],
        });
        let of_stream = records.filter(|record| record.stream == stream);
        of_stream.map(|record| record.len).collect()
    }

    /// An entry will be made in a queue with this soft side, if it is there. Gives its number.
    pub(crate) fn entry_comes_to(
        &mut self,
        queue: QueueId,
        side: Option<&SoftQueue>,
        len: u32,
        soft: bool,
    ) -> u64 {
        let next = side.map_or(0, |side| side.next);
        let added = self.added(queue);
        added.count += 1;
        added.bytes += i64::from(len);
        added.numbers += 1;
        let number = next + added.numbers - 1;
        if soft {
            self.transient += crate::apply::transient_len(len);
        }
        number
    }

    /// Entries that this decision adds to those held by a queue.
    pub(crate) fn more_held(&mut self, queue: QueueId) -> i64 {
        self.added(queue).count
    }

    /// An entry will be made.
    pub(crate) fn entry_comes(&mut self, queue: QueueId, len: u32, soft: bool) {
        let added = self.added(queue);
        added.count += 1;
        added.bytes += i64::from(len);
        if soft {
            self.transient += crate::apply::transient_len(len);
        }
    }

    /// An entry will be gone. `false` when it goes already.
    pub(crate) fn entry_goes(
        &mut self,
        broker: &Broker,
        queue: QueueId,
        qseq: u64,
        len: u32,
    ) -> bool {
        let gone = self.gone.get_or_insert_default().get_or_default(queue);
        if gone.contains(qseq) {
            return false;
        }
        gone.add(qseq);
        if !broker.is_held(queue, qseq) {
            // Limits do not count what is out.
            return true;
        }
        let added = self.added(queue);
        added.count -= 1;
        added.bytes -= i64::from(len);
        true
    }

    /// Of what earlier changes of this decision bring into a queue and none takes away, the one that makes room first.
    pub(crate) fn first_brought(&mut self, queue: QueueId, priority_max: u8) -> Option<Brought> {
        let rarer = self.rarer.get_or_insert_default();
        let incomers = rarer.incomers.entry(queue).or_default();
        for (at, change) in self.out.changes.iter().enumerate().skip(incomers.seen) {
            let (targets, len) = match &change.0 {
                Kind::Enqueued(enqueued) => {
                    let len = match (enqueued.stored, &enqueued.message) {
                        (Some((_, len)), _) => len,
                        (None, Some(message)) => message.body.len() as u32,
                        (None, None) => 0,
                    };
                    (&enqueued.targets, len)
                }
                Kind::Published(published) => (&published.targets, published.len),
                _ => continue,
            };
            for to in targets.iter().filter(|to| to.queue == queue) {
                let rare = to.rare.as_deref();
                let is_delayed = rare.is_some_and(|rare| rare.visible_at.is_some());
                let counts = if is_delayed { 0 } else { priority_max };
                let brought = Brought {
                    qseq: to.qseq,
                    is_delayed,
                    priority: to.priority.min(counts),
                    len,
                    change: at,
                };
                let place = (is_delayed, Reverse(brought.priority), to.qseq);
                incomers.in_order.insert(place, brought);
            }
        }
        incomers.seen = self.out.changes.len();
        let gone = self.gone.as_ref().and_then(|gone| gone.get(&queue));
        loop {
            let first = incomers.in_order.first_entry()?;
            if gone.is_none_or(|gone| !gone.contains(first.get().qseq)) {
                return Some(*first.get());
            }
            first.remove();
        }
    }

    /// Such an entry.
    pub(crate) fn incomer(&self, queue: QueueId, brought: &Brought) -> Option<Incomer> {
        let is_this = |to: &&Entrant| to.queue == queue && to.qseq == brought.qseq;
        Some(match &self.out.changes.get(brought.change)?.0 {
            Kind::Published(it) => {
                let wait = match it.is_durable() {
                    true => Wait::Durable,
                    false => Wait::Nothing,
                };
                Incomer {
                    entrant: it.targets.iter().find(is_this)?.clone(),
                    message: it.message.clone(),
                    stored: None,
                    wait,
                }
            }
            Kind::Enqueued(it) => {
                let wait = match it.stored {
                    Some((id, _)) => Wait::Stored(id),
                    None if it.continues => Wait::Durable,
                    None => Wait::Nothing,
                };
                Incomer {
                    entrant: it.targets.iter().find(is_this)?.clone(),
                    message: it.message.clone(),
                    stored: it.stored,
                    wait,
                }
            }
            _ => return None,
        })
    }

    /// Such an entry will be gone again.
    pub(crate) fn brought_goes(&mut self, queue: QueueId, qseq: u64, len: u32) {
        self.gone
            .get_or_insert_default()
            .get_or_default(queue)
            .add(qseq);
        let added = self.added(queue);
        added.count -= 1;
        added.bytes -= i64::from(len);
    }

    pub(crate) fn goes(&self, queue: QueueId, qseq: u64) -> bool {
        let gone = self.gone.as_ref().and_then(|gone| gone.get(&queue));
        gone.is_some_and(|gone| gone.contains(qseq))
    }

    /// Entries held by a queue, and their bytes, this decision included.
    pub(crate) fn held(&mut self, broker: &Broker, queue: QueueId) -> (u64, u64) {
        let (count, bytes) = broker.held(queue);
        let added = *self.added(queue);
        (
            count.saturating_add_signed(added.count),
            bytes.saturating_add_signed(added.bytes),
        )
    }

    /// Bytes in memory only that this decision adds.
    pub(crate) const fn transient(&self) -> u64 {
        self.transient
    }

    /// The message of this decision that brought a dedup id into a queue.
    pub(crate) fn dedup_of(&self, queue: QueueId, id: &bytes::Bytes) -> Option<Original> {
        let rarer = self.rarer.as_ref()?;
        rarer.dedups.get(&(queue, id.clone())).copied()
    }

    /// Notes a dedup id.
    pub(crate) fn dedup(&mut self, queue: QueueId, id: &bytes::Bytes, of: Original) {
        self.rarer().dedups.insert((queue, id.clone()), of);
    }

    /// Publishes of this decision that have passed a FIFO topic object.
    pub(crate) fn passed(&self, topic: TopicNo) -> u64 {
        let topics = self.rarer.as_ref().map_or(&[][..], |it| &it.topics);
        let known = topics.iter().find(|(known, _)| *known == topic);
        known.map_or(0, |(_, count)| *count)
    }

    /// The message of this decision that brought a dedup id to a FIFO topic object.
    pub(crate) fn topic_dedup_of(&self, topic: TopicNo, id: &bytes::Bytes) -> Option<Original> {
        let rarer = self.rarer.as_ref()?;
        rarer.topic_dedups.get(&(topic, id.clone())).copied()
    }

    /// A publish has passed a FIFO topic object.
    pub(crate) fn passes(&mut self, numbered: &Numbered) {
        let rarer = self.rarer();
        let mut topics = rarer.topics.iter_mut();
        match topics.find(|(known, _)| *known == numbered.topic) {
            Some((_, count)) => *count += 1,
            None => rarer.topics.push((numbered.topic, 1)),
        }
        if let Some(id) = &numbered.dedup {
            let key = (numbered.topic, id.clone());
            let it = topic::original(numbered.sequence, numbered.message_id);
            rarer.topic_dedups.insert(key, it);
        }
    }

    /// Notes that this decision sets, or clears, the retained message of a topic. `was_set`: whether there is one before that.
    pub(crate) fn retains(&mut self, vhost: VhostId, topic: &Levels, was_set: bool, is_set: bool) {
        let rarer = self.rarer();
        rarer.retains.insert((vhost, topic.clone()), is_set);
        rarer.retained_more += i64::from(is_set) - i64::from(was_set);
    }

    /// Whether a topic has a retained message, if this decision has changed that.
    pub(crate) fn retained(&self, vhost: VhostId, topic: &Levels) -> Option<bool> {
        let retains = &self.rarer.as_ref()?.retains;
        if retains.is_empty() {
            return None;
        }
        retains.get(&(vhost, topic.clone())).copied()
    }

    /// How many more topics have a retained message behind this decision.
    pub(crate) fn retained_more(&self) -> i64 {
        self.rarer.as_ref().map_or(0, |rarer| rarer.retained_more)
    }

    /// Notes a queue that this decision makes.
    pub(crate) fn makes(&mut self, vhost: VhostId, name: &Name, queue: QueueId) {
        self.rarer().made.push((vhost, name.clone(), queue));
    }

    /// The queue of that name, if this decision makes it.
    pub(crate) fn made(&self, vhost: VhostId, name: &Name) -> Option<QueueId> {
        let made = &self.rarer.as_ref()?.made;
        made.iter()
            .find(|(at, made, _)| *at == vhost && made == name)
            .map(|(_, _, queue)| *queue)
    }

    /// The id of a queue that this decision makes.
    pub(crate) fn new_queue(&mut self, broker: &Broker, soft: bool) -> QueueId {
        let rarer = self.rarer();
        if soft {
            rarer.soft_queues += 1;
            QueueId(SOFT_BIT | (broker.soft.next_queue + rarer.soft_queues - 1))
        } else {
            rarer.durable_queues += 1;
            QueueId(broker.durable.next_queue + rarer.durable_queues - 1)
        }
    }

    /// Queues that this decision makes so far.
    pub(crate) fn new_queues(&self) -> u64 {
        let rarer = self.rarer.as_ref();
        rarer.map_or(0, |it| it.durable_queues + it.soft_queues)
    }

    /// Notes that the next change makes the own queue of a client session. `false`: one of this decision has.
    pub(crate) fn makes_own(&mut self, queue: QueueId) -> bool {
        let made = self.changes_len();
        self.rarer().own.insert(queue, made).is_none()
    }

    /// Notes a client session that this decision ends.
    pub(crate) fn leaves(&mut self, client: ClientNo) {
        self.rarer().leavers.push(client);
    }

    /// Whether this decision ends that client session.
    pub(crate) fn has_left(&self, client: ClientNo) -> bool {
        let rarer = self.rarer.as_ref();
        rarer.is_some_and(|rarer| rarer.leavers.contains(&client))
    }

    /// The number of a client session that this decision makes.
    pub(crate) const fn new_client(&self, broker: &Broker, soft: bool) -> ClientNo {
        if soft {
            ClientNo(SOFT_BIT | broker.soft.next_client)
        } else {
            ClientNo(broker.durable.next_client)
        }
    }
}

#[cfg(test)]
mod tests {
    use message::Timestamp;

    use super::*;

    #[test]
    fn what_is_rolled_back_overfills_nothing_and_what_was_before_it_still_does() {
        let cx = Context {
            now: Timestamp(1),
            random: 1,
        };
        let mut decision = Decision::default();
        let mut draft = Draft::new(&cx, &mut decision);
        let overfull = |draft: &mut Draft<'_>| {
            let queues = draft.take_overfull();
            queues
                .into_iter()
                .map(|(queue, _)| queue)
                .collect::<Vec<_>>()
        };
        draft.overfills(QueueId(1));
        draft.count(Tally::Published, 1);
        // Only effects go.
        let effects = draft.effects_len();
        draft.count(Tally::Published, 1);
        let changes = draft.changes_len();
        draft.roll_back(changes, effects);
        assert!(draft.has_overfull());
        draft.overfills(QueueId(2));
        draft.count(Tally::Published, 1);
        draft.roll_back(changes, effects);
        assert_eq!(overfull(&mut draft), [QueueId(1)]);
        draft.overfills(QueueId(3));
        draft.count(Tally::Published, 1);
        draft.roll_back(0, 0);
        assert!(!draft.has_overfull());
    }
}
