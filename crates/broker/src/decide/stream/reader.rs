//! Consumers of streams: records pushed to whoever has credit, each consumer from a place of its own on.
//!
//! Settling returns credit; nothing is taken out of a stream. What is released is handed out again, to the same consumer. A
//! member of a consumer group moves the group's checkpoint as it settles: everything below the lowest record of the shard
//! that is not settled has been worked on.

use std::sync::Arc;

use bytes::Bytes;
use message::Timestamp;
use session::{
    ConsumerId, Credit, DeliveryId, Event, Outcome, QueueId, RecordPlace, Refusal, RefusalKind,
    SessionId, Settle, ShardNo, Source, StreamId, StreamStart, Subscribe,
};
use smallvec::SmallVec;

use super::{
    Draft, no_stream,
    read::{since, since_of},
};
use crate::{
    Broker, Content, Effect, Load, LoadFor, LoadedRecord, OutLane, Outgoing, PendingDelivery, Wait,
    change::{ClientSubscribed, ConsumerAdded, Kind, Ranges, ReaderSent, SentRecord},
    counters::Tally,
    decide::{
        consumer_lane,
        publish::delivery_bytes,
        pump::{Candidate, Used},
        refusal,
        subscribe::{normal, not_attached},
    },
    stream::{Checkpointed, Group, GroupMade, Reader, Reads, Run, Slot, Stream, Window},
};

impl Broker {
    pub(in crate::decide) fn subscribe_stream(
        &self,
        from: SessionId,
        subscribe: &Subscribe,
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        let attached = self.attached(from).ok_or_else(not_attached)?;
        let Source::Stream {
            name,
            from: start,
            group,
        } = &subscribe.source
        else {
            return Err(refusal(RefusalKind::InvalidArgument, "not a stream"));
        };
        let (id, stream) = self
            .stream_named(attached.vhost, name)
            .ok_or_else(|| no_stream(name))?;
        if subscribe.exclusive {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                "a stream has any number of readers, and none of them alone",
            ));
        }
        if subscribe.through_client {
            return self.subscribe_stream_as_topic(from, subscribe, draft);
        }
        if attached.consumers.len() as u64 >= self.config.consumers_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many consumers on one connection",
            ));
        }
        if attached.consumers.contains_key(&subscribe.consumer) {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                "there is a consumer of that name",
            ));
        }
        let begin = start_of(stream, *start, draft.now);
        let mut since = since_of(stream, *start);
        let reads = match group {
            None => Reads::Everything(begin),
            Some(group) => {
                let group = super::group::checked_name(group)?;
                if let Some(known) = stream.groups.get(&group) {
                    since = known.since;
                }
                if !stream.groups.contains_key(&group) {
                    self.check_group_room(stream)?;
                    draft.change(Kind::GroupMade(Box::new(GroupMade {
                        stream: id,
                        group: group.clone(),
                        start: begin,
                        since,
                    })));
                }
                Reads::Member {
                    group,
                    shards: std::collections::BTreeMap::new(),
                }
            }
        };
        let queue = draft.new_queue(self, true);
        draft.change(Kind::ReaderAdded {
            queue,
            reader: Box::new(Reader {
                since,
                ..Reader::new(id, reads)
            }),
        });
        draft.change(Kind::ConsumerAdded(Box::new(ConsumerAdded {
            session: from,
            consumer: subscribe.consumer,
            queue,
            credit: subscribe.credit,
            group: subscribe.group,
            exclusive: false,
            priority: subscribe.priority,
            through_client: false,
            qos: subscribe.options.qos.min(2),
            shared: false,
            identifier: subscribe.options.identifier,
        })));
        let lane = consumer_lane(subscribe.consumer);
        let token = subscribe.token;
        draft.tell(from, lane, Wait::Durable, Event::Subscribed { token });
        Ok(())
    }

    /// A client session reads a stream as it reads a topic: what comes goes into its own queue.
    fn subscribe_stream_as_topic(
        &self,
        from: SessionId,
        subscribe: &Subscribe,
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        let (number, client) = self.client_of(from).ok_or_else(|| {
            refusal(
                RefusalKind::InvalidArgument,
                "there is no client session to deliver through",
            )
        })?;
        let source = normal(&subscribe.source);
        let known = client
            .rare
            .sources
            .iter()
            .find(|known| known.source == source);
        if known.is_none()
            && client.rare.sources.len() as u64 >= self.config.client_subscriptions_max
        {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many subscriptions of one client session",
            ));
        }
        if known.is_none_or(|known| known.options != subscribe.options) {
            draft.change(Kind::ClientSubscribed(Box::new(ClientSubscribed {
                client: number,
                source,
                options: subscribe.options,
                queue: None,
                priority: 0,
            })));
        }
        let lane = consumer_lane(ConsumerId::CLIENT);
        let token = subscribe.token;
        draft.tell(from, lane, Wait::Durable, Event::Subscribed { token });
        Ok(())
    }

    /// The turn of the queue that stands for a consumer of a stream.
    pub(in crate::decide) fn push_records(
        &self,
        id: QueueId,
        reader: &Reader,
        limit: usize,
        draft: &mut Draft<'_>,
    ) {
        let Some(stream) = self.durable.streams.get(&reader.stream) else {
            return;
        };
        let Some((_, receiver)) = self.soft_queue(id).active.first_key_value() else {
            return;
        };
        let receiver = *receiver;
        let (Some(left), Some(attached)) = (self.allowance(receiver), self.attached(receiver.0))
        else {
            return;
        };
        let Some(consumer) = attached.consumers.get(&receiver.1) else {
            return;
        };
        let settled = consumer.credit == Credit::Settled;
        let kept = stream.kept_from(draft.now);
        let mut hands = Hands {
            stream,
            id,
            settled,
            shares: (consumer.group != 0 && !settled).then_some(consumer.group),
            candidate: Candidate {
                receiver,
                attached,
                consumer,
                priority: 0,
                left,
                len_max: None,
            },
            used: Used::default(),
            limit,
            records: SmallVec::new(),
            since: reader.since.max(stream.kept_time(draft.now)),
            kept,
            passed: 0,
        };
        let rests = self.push_again(reader, &mut hands, draft);
        let rests = rests.or_else(|| self.push_filed(reader, &mut hands, draft));
        let load = match rests {
            None => {
                let mut walk = reader.walk(stream, kept);
                while hands.has_room(self)
                    && let Some((offset, slot, shard)) = walk.next()
                {
                    self.push_slot((offset, slot, shard, 0), &mut hands, draft);
                }
                None
            }
            Some(Rests::Room) => None,
            Some(Rests::Load(load)) => Some(load),
        };
        let Hands {
            records,
            kept,
            passed,
            ..
        } = hands;
        let too_old = reader
            .again
            .first_key_value()
            .is_some_and(|(at, _)| *at < kept);
        if !records.is_empty() || too_old || passed > 0 {
            self.pushed(
                reader,
                stream,
                ReaderSent {
                    queue: id,
                    receiver,
                    records,
                    settled,
                    kept,
                    passed,
                },
                draft,
            );
        }
        if let Some(load) = load {
            draft.change(Kind::ReaderLoads(id));
            draft.effect(Effect::Load(load));
        }
    }

    /// Hands out what was given back.
    fn push_again(
        &self,
        reader: &Reader,
        hands: &mut Hands<'_>,
        draft: &mut Draft<'_>,
    ) -> Option<Rests> {
        let stream = hands.stream;
        for (offset, (shard, count)) in reader.again.range(hands.kept..) {
            if !hands.has_room(self) {
                return Some(Rests::Room);
            }
            if let Some(slot) = stream.records.get(*offset) {
                self.push_slot((*offset, slot, *shard, *count), hands, draft);
                continue;
            }
            let window = reader.window.as_ref();
            match window.filter(|window| window.covers(*shard, *offset)) {
                Some(window) => match window.records.get(offset) {
                    Some(record) if record.time >= hands.since => {
                        self.push_loaded(record, *count, hands, draft);
                    }
                    // It has become too old, and so has whatever came before.
                    _ => hands.kept = *offset + 1,
                },
                None => {
                    let places = [(*shard, *offset)];
                    match stream.run_of(&places, hands.since) {
                        Some(run) => return Some(self.load(reader, run, &places, hands)),
                        None => hands.kept = *offset + 1,
                    }
                }
            }
        }
        None
    }

    /// Hands out what lies in stream files, as far as it was read.
    fn push_filed(
        &self,
        reader: &Reader,
        hands: &mut Hands<'_>,
        draft: &mut Draft<'_>,
    ) -> Option<Rests> {
        let stream = hands.stream;
        if stream.files.is_empty() {
            return None;
        }
        let mut places = reader.places(stream);
        while let Some(run) = stream.run_of(&places, hands.since) {
            if !hands.has_room(self) {
                return Some(Rests::Room);
            }
            let here: SmallVec<[(ShardNo, u64); 1]> = places
                .iter()
                .filter(|(shard, from)| run.has(*shard, *from))
                .map(|(shard, from)| (*shard, (*from).max(run.first)))
                .collect();
            let covers = |window: &&Window| here.iter().all(|(of, at)| window.covers(*of, *at));
            let Some(window) = reader.window.as_ref().filter(covers) else {
                return Some(self.load(reader, run, &here, hands));
            };
            let first = here.iter().map(|(_, from)| *from).min().unwrap_or(0);
            for record in window.records.range(first..).map(|(_, record)| record) {
                let wanted = here
                    .iter()
                    .any(|(shard, from)| *shard == record.shard && *from <= record.offset);
                if !wanted || record.time < hands.since {
                    continue;
                }
                if !hands.has_room(self) {
                    return Some(Rests::Room);
                }
                self.push_loaded(record, 0, hands, draft);
            }
            hands.passed = window.upto;
            for (_, from) in &mut places {
                *from = (*from).max(window.upto);
            }
        }
        None
    }

    fn load(
        &self,
        reader: &Reader,
        run: &Run,
        places: &[(ShardNo, u64)],
        hands: &Hands<'_>,
    ) -> Rests {
        Rests::Load(Box::new(Load {
            what: LoadFor::Reader(hands.id),
            stream: reader.stream,
            file: run.file,
            shards: places.iter().copied().collect(),
            upto: run.below,
            since: hands.since,
            count: self.config.read_count_max,
            bytes_max: self.config.outbox_bytes_max,
        }))
    }

    fn push_slot(
        &self,
        (offset, slot, shard, count): (u64, &Slot, ShardNo, u32),
        hands: &mut Hands<'_>,
        draft: &mut Draft<'_>,
    ) {
        let content = self.record_content(slot);
        let wait = Wait::Stored(slot.stored());
        let at = (offset, slot.time(), slot.len());
        let of = (shard, hands.stream.key_of(offset, slot));
        hands.push(at, of, count, (content, wait), draft);
    }

    fn push_loaded(
        &self,
        record: &LoadedRecord,
        count: u32,
        hands: &mut Hands<'_>,
        draft: &mut Draft<'_>,
    ) {
        let content = Content::Resident(Arc::clone(&record.message));
        let at = (record.offset, record.time, record.len);
        let of = (record.shard, record.key.clone());
        hands.push(at, of, count, (content, Wait::Nothing), draft);
    }

    fn pushed(&self, reader: &Reader, stream: &Stream, sent: ReaderSent, draft: &mut Draft<'_>) {
        let (records, settled) = (&sent.records, sent.settled);
        draft.count(Tally::RecordsRead, records.len() as u64);
        if settled && let Some(group) = reader.group() {
            // What leaves settled has been worked on.
            let mut places: Vec<(ShardNo, u64)> = Vec::new();
            for record in records {
                match places.iter_mut().find(|(shard, _)| *shard == record.shard) {
                    Some((_, next)) => *next = record.offset + 1,
                    None => places.push((record.shard, record.offset + 1)),
                }
            }
            checkpoint(reader.stream, stream, group, places, draft);
        }
        if sent.passed > 0
            && let Reads::Member { group, shards } = &reader.reads
        {
            // What became too old in a stream file holds up nobody.
            let places = shards
                .iter()
                .filter(|(shard, member)| {
                    let sent = records.iter().any(|record| record.shard == **shard);
                    !member.leaving && reader.is_through(**shard) && (settled || !sent)
                })
                .map(|(shard, _)| (*shard, sent.passed))
                .collect();
            checkpoint(reader.stream, stream, group, places, draft);
        }
        draft.change(Kind::ReaderSent(Box::new(sent)));
    }

    /// Drafts the settlement of records, and says how many of them are out to this session.
    pub(in crate::decide) fn settle_records(
        &self,
        from: SessionId,
        settle: &Settle,
        reader: &Reader,
        draft: &mut Draft<'_>,
    ) -> u32 {
        let id = settle.deliveries.queue;
        let soft = self.soft_queue(id);
        let mut known = 0;
        let mut settled = Ranges::default();
        let mut touched: SmallVec<[ShardNo; 2]> = SmallVec::new();
        for (first, last) in &settle.deliveries.ranges {
            if first > last {
                continue;
            }
            for (offset, out) in soft.out.range(*first..=*last) {
                if out.receiver.is_some_and(|receiver| receiver.0 != from) || draft.goes(id, offset)
                {
                    continue;
                }
                known += 1;
                if settle.outcome == Outcome::Received {
                    continue;
                }
                draft.entry_goes(self, id, offset, 0);
                settled.push(offset);
                if let Some((shard, _)) = reader.unsettled.get(&offset)
                    && !touched.contains(shard)
                {
                    touched.push(*shard);
                }
            }
        }
        if settled.is_empty() {
            return known;
        }
        let again = matches!(
            settle.outcome,
            Outcome::Release | Outcome::ReleaseAfterMs(_)
        );
        if !again
            && let Reads::Member { group, shards } = &reader.reads
            && let Some(stream) = self.durable.streams.get(&reader.stream)
        {
            let places = touched
                .iter()
                .filter_map(|shard| {
                    let cursor = shards.get(shard)?.cursor;
                    let lowest = reader.lowest_but(*shard, |offset| draft.goes(id, offset));
                    Some((*shard, lowest.unwrap_or(cursor)))
                })
                .collect();
            checkpoint(reader.stream, stream, group, places, draft);
        }
        draft.change(Kind::ReaderSettled {
            queue: id,
            ranges: settled,
            again,
        });
        known
    }

    /// The consumers of a stream, or of one group of it, are cancelled and told so.
    pub(super) fn cancel_readers(
        &self,
        id: StreamId,
        of: impl Fn(&Reader) -> bool,
        draft: &mut Draft<'_>,
    ) {
        for queue in &self.soft.streams[&id].readers {
            if !self.reader(*queue).is_some_and(&of) {
                continue;
            }
            for (session, consumer) in self.soft_queue(*queue).consumers.values() {
                let (session, consumer) = (*session, *consumer);
                draft.change(Kind::ConsumerGone { session, consumer });
                let lane = consumer_lane(consumer);
                let revoked = false;
                let event = Event::Cancelled { consumer, revoked };
                draft.tell(session, lane, Wait::Durable, event);
            }
        }
    }
}

/// Why a turn hands out no more.
enum Rests {
    /// There is no room for more.
    Room,
    /// What comes next has to be read.
    Load(Box<Load>),
}

/// What one turn hands out to a consumer.
struct Hands<'a> {
    stream: &'a Stream,
    id: QueueId,
    settled: bool,
    shares: Option<u32>,
    candidate: Candidate<'a>,
    used: Used,
    limit: usize,
    records: SmallVec<[SentRecord; 4]>,
    /// What came before is not handed out.
    since: Timestamp,
    /// As in [`ReaderSent::kept`].
    kept: u64,
    /// As in [`ReaderSent::passed`].
    passed: u64,
}

impl Hands<'_> {
    fn has_room(&self, broker: &Broker) -> bool {
        self.records.len() < self.limit && self.candidate.has_room(&self.used, &broker.config)
    }

    fn push(
        &mut self,
        (offset, time, len): (u64, Timestamp, u32),
        (shard, key): (ShardNo, Option<Bytes>),
        count: u32,
        (content, wait): (Content, Wait),
        draft: &mut Draft<'_>,
    ) {
        let bytes = delivery_bytes(len);
        let receiver = self.candidate.receiver;
        let place = RecordPlace {
            stream: self.stream.declared.stream,
            shard,
            shard_opened: self.stream.shards[&shard].opened,
            offset,
        };
        let queue = (!self.settled).then_some(self.id);
        draft.effect(Effect::Deliver {
            to: receiver.0,
            lane: OutLane::Consumer(receiver.1),
            wait,
            delivery: Outgoing::new(
                pending(receiver.1, queue, (place, key), count, time),
                content,
            ),
            bytes,
        });
        self.records.push(SentRecord {
            offset,
            shard,
            count: count + 1,
            bytes,
        });
        self.used.take(receiver.0, self.shares, bytes);
        self.candidate.left -= 1;
    }
}

/// Drafts the checkpoints of a group that move forward.
fn checkpoint(
    id: StreamId,
    stream: &Stream,
    name: &Bytes,
    mut places: Vec<(ShardNo, u64)>,
    draft: &mut Draft<'_>,
) {
    let Some(group) = stream.groups.get(name) else {
        return;
    };
    let moves = |group: &Group, shard: ShardNo, next: u64| {
        stream
            .shards
            .get(&shard)
            .is_some_and(|it| group.next_in(shard, it) < next)
    };
    places.retain(|(shard, next)| moves(group, *shard, *next));
    if !places.is_empty() {
        draft.change(Kind::Checkpointed(Box::new(Checkpointed {
            stream: id,
            group: name.clone(),
            places,
        })));
    }
}

/// The first offset of a whole stream that reading from there finds.
pub(super) fn start_of(stream: &Stream, from: StreamStart, now: Timestamp) -> u64 {
    let kept = stream.kept_from(now);
    let end = stream.records.next();
    match from {
        StreamStart::First => kept,
        StreamStart::Last => end.saturating_sub(1).max(kept),
        StreamStart::Next => end,
        StreamStart::Offset(offset) => offset.max(kept),
        StreamStart::Time(time) => since(stream, time).max(kept),
    }
}

/// How a record is shown.
fn pending(
    consumer: ConsumerId,
    queue: Option<QueueId>,
    place: (RecordPlace, Option<Bytes>),
    count: u32,
    time: Timestamp,
) -> PendingDelivery {
    PendingDelivery {
        id: queue.map(|queue| DeliveryId {
            queue,
            qseq: place.0.offset,
        }),
        count: count + 1,
        redelivered: count > 0,
        qos: 1,
        record: Some(place),
        ..PendingDelivery::first(consumer, time)
    }
}
