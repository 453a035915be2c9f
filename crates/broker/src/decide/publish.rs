//! Publishes: routed once, admitted queue by queue, one change however many targets.

use std::sync::Arc;

use bytes::Bytes;
use message::{Kind as AddressKind, Levels, Message, Name, Timestamp, Value};
use session::{
    DeliveryId, Event, Original, Overflow, Publish, PublishOutcome, QueueAttributes, QueueId,
    QueueOptions, RecordPlace, Refusal, RefusalKind, SessionId,
};
use smallvec::SmallVec;

use super::{
    direct::Directs,
    draft::Draft,
    refusal,
    route::{ClientMatch, Routed, exchange_and_key, is_reserved},
    shown,
    stream::{StreamMatch, no_stream},
    topic::{Passing, Through},
};
use crate::{
    Broker, Context, Decision, Wait,
    change::{ClientNo, Enqueued, Entrant, Kind, Published, QueueDeclared, Retain, is_soft},
    counters::Tally,
    queue::{FAIR_GROUP_LEN_MAX, Rare, flag},
    topic::Numbered,
};

/// Targets in one record.
const TARGETS_MAX: usize = 1024;
/// Targets of an address that are remembered at most (`routing/known.rs`).
const KNOWN_TARGETS_MAX: usize = 1024;
/// Bytes of targets in one record, unless a single one takes more: with a head and a body they fit a batch.
const TARGETS_LEN_MAX: usize = 512 * 1024;

/// The room that a delivery takes in an outbox.
pub(crate) const fn delivery_bytes(len: u32) -> u64 {
    len as u64 + 64
}

/// A message on its way into queues: published, or dead-lettered.
#[derive(Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) message: &'a Arc<Message>,
    /// To be kept where the target is durable.
    pub(crate) durable: bool,
    /// When it expires, whatever the queue says.
    pub(crate) expiry: Option<Timestamp>,
    /// Dead-letter history and the address that replaces its own.
    pub(crate) rare: Option<&'a Rare>,
}

/// What became of a message at one queue.
pub(crate) enum Admission {
    Take(Entrant),
    Refuse(RefusalKind),
    Duplicate(Original),
    /// Not kept, and counted; the publisher is not to blame.
    Discard(Tally),
}

/// What takes a message that is published to a queue which is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Nothing,
    /// The queue, which is made.
    Make,
    /// The stream of that name.
    Stream,
    /// The stream of that name, else the queue, which is made.
    StreamElseMake,
}

impl Missing {
    pub(crate) const fn of(publish: &Publish) -> Self {
        match (publish.create, publish.or_stream) {
            (true, true) => Self::StreamElseMake,
            (true, false) => Self::Make,
            (false, true) => Self::Stream,
            (false, false) => Self::Nothing,
        }
    }
}

/// What goes with a publish besides its message.
#[derive(Default)]
struct Accompanying {
    retain: Option<Box<Retain>>,
    inbound: Option<(ClientNo, u16)>,
    passing: Option<Passing>,
    /// The client session that publishes it.
    publisher: Option<ClientNo>,
}

/// How a message is published.
pub(crate) struct Asked {
    pub(crate) confirmed: bool,
    pub(crate) missing: Missing,
    /// The exactly-once id that it came with.
    pub(crate) inbound: Option<(ClientNo, u16)>,
    /// The client session that publishes it.
    pub(crate) publisher: Option<ClientNo>,
}

impl Asked {
    /// One of several that are confirmed together.
    pub(crate) const fn together(publish: &Publish, publisher: Option<ClientNo>) -> Self {
        Self {
            confirmed: true,
            missing: Missing::of(publish),
            inbound: None,
            publisher,
        }
    }
}

/// What became of a publish.
#[derive(Default)]
pub(crate) struct Placed {
    pub(crate) matched: u32,
    pub(crate) refused: Option<Refusal>,
    pub(crate) duplicates: u32,
    /// The message that the last of them repeats.
    pub(crate) original: Option<Original>,
    /// Its place, if it was published to a queue.
    pub(crate) place: Option<DeliveryId>,
    /// Its place, if it was published to a stream.
    pub(crate) record: Option<RecordPlace>,
    /// Its number, if it was published to a FIFO topic object.
    pub(crate) sequence: Option<u64>,
    pub(crate) durable: bool,
}

impl Placed {
    /// What the publisher's answer waits for.
    pub(crate) const fn wait(&self) -> Wait {
        // RULES 3: that nothing matched rests on what is bound.
        if self.durable || self.duplicates > 0 || self.refused.is_some() || self.matched == 0 {
            Wait::Durable
        } else {
            Wait::Nothing
        }
    }

    /// It was accepted, and nobody wanted it.
    pub(crate) const fn is_unmatched(&self) -> bool {
        self.matched == 0 && self.refused.is_none()
    }

    /// What the publisher is answered.
    pub(crate) fn outcome(self) -> PublishOutcome {
        match self.refused {
            Some(refusal) => PublishOutcome::Refused(refusal),
            None if self.duplicates > 0 && self.duplicates == self.matched => {
                PublishOutcome::Duplicate { of: self.original }
            }
            None => PublishOutcome::Accepted {
                matched: self.matched,
                place: self.place,
                record: self.record,
                sequence: self.sequence,
            },
        }
    }
}

impl Broker {
    /// A publish of a connection and of its client session, if it has one. Gives how many it matched.
    pub(super) fn decide_publish(
        &self,
        (from, publisher): (SessionId, Option<ClientNo>),
        publish: &Publish,
        draft: &mut Draft<'_>,
    ) -> u32 {
        let inbound = publish
            .inbound_id
            .and_then(|id| Some((publisher?, id, self.client(publisher?)?)));
        if let Some((_, id, client)) = inbound
            && client.rare.inbound.contains(&id)
        {
            // The repeat of an exactly-once publish: confirmed again, not published. [MQTT-4.3.3-10]
            draft.count(Tally::Duplicate, 1);
            if let Some(token) = publish.token {
                let outcome = PublishOutcome::Duplicate { of: None };
                draft.reply(
                    from,
                    publish.lane,
                    Wait::Durable,
                    Event::Published { token, outcome },
                );
            }
            return 0;
        }
        let asked = Asked {
            confirmed: publish.token.is_some(),
            inbound: inbound.map(|(number, id, _)| (number, id)),
            ..Asked::together(publish, publisher)
        };
        let mut placed = Placed::default();
        self.place_publish(publish, &asked, &mut placed, draft);
        let (wait, matched) = (placed.wait(), placed.matched);
        if publish.mandatory && placed.is_unmatched() {
            let event = Event::Returned {
                token: publish.token,
                lane: publish.lane,
                message: Arc::clone(&publish.message),
            };
            draft.reply(from, publish.lane, wait, event);
        }
        let Some(token) = publish.token else {
            if let Some(refusal) = placed.refused
                && !refusal.kind.is_want_of_room()
            {
                let event = Event::PublishRefused {
                    lane: publish.lane,
                    refusal,
                };
                draft.reply(from, publish.lane, wait, event);
            }
            return matched;
        };
        let outcome = placed.outcome();
        if publish.folds
            && draft.many
            && matches!(outcome, PublishOutcome::Accepted { matched: 1.., .. })
        {
            draft.accept(from, publish.lane, wait, token);
        } else {
            let event = Event::Published { token, outcome };
            draft.reply(from, publish.lane, wait, event);
        }
        matched
    }

    /// Places what a client publishes, and counts it.
    #[inline]
    pub(super) fn place_publish(
        &self,
        publish: &Publish,
        asked: &Asked,
        placed: &mut Placed,
        draft: &mut Draft<'_>,
    ) {
        draft.hash_key = publish.hash_key;
        self.place(&publish.message, asked, placed, draft);
        draft.count_published();
        if placed.is_unmatched() {
            draft.count(Tally::Unmatched, 1);
        }
        if placed.refused.is_some() {
            draft.count(Tally::RefusedPublish, 1);
        }
        if placed.duplicates > 0 {
            draft.count(Tally::Duplicate, u64::from(placed.duplicates));
        }
    }

    /// Routes and admits a message, and drafts its change and its direct deliveries. What came of it is `placed`.
    pub(super) fn place(
        &self,
        message: &Arc<Message>,
        asked: &Asked,
        placed: &mut Placed,
        draft: &mut Draft<'_>,
    ) {
        let passing = self.pass_topics(message, draft);
        let mut repeated = &[][..];
        if let Some(passing) = &passing {
            repeated = &passing.repeated;
            if !repeated.is_empty() && repeated.len() == 1 + message.fields().carbon_copies.len() {
                placed.matched = repeated.len() as u32;
                placed.duplicates = repeated.len() as u32;
                placed.original = passing.original;
                return;
            }
        }
        let Asked {
            confirmed,
            missing,
            inbound,
            publisher,
        } = *asked;
        let found = self.resolve(message, missing, publisher, repeated, draft);
        let found = found.and_then(|routed| Ok((routed, self.retain(message, draft)?)));
        let (routed, retain) = match found {
            Ok(found) => found,
            Err(refusal) => {
                placed.refused = Some(refusal);
                return;
            }
        };
        placed.matched = repeated.len() as u32;
        placed.duplicates = repeated.len() as u32;
        let with = Accompanying {
            retain,
            inbound,
            passing,
            publisher,
        };
        self.place_at(message, confirmed, &routed, with, placed, draft);
    }

    /// What the broker says of itself, to whoever subscribes to it: neither retained nor counted as published. Publishers are
    /// refused on these names (DOORS 5).
    pub fn decide_report(&self, messages: &[Arc<Message>], cx: &Context, out: &mut Decision) {
        let mut draft = Draft::new(cx, out);
        for message in messages {
            let address = &message.address;
            let (exchange, key) = exchange_and_key(address);
            if let Ok(routed) = self.route(address.vhost, &exchange, &[&key], message, None)
                && !(routed.queues.is_empty()
                    && routed.clients.is_empty()
                    && routed.subscriptions.is_empty())
            {
                let with = Accompanying::default();
                let mut placed = Placed::default();
                self.place_at(message, false, &routed, with, &mut placed, &mut draft);
            }
        }
        self.make_room(&mut draft);
    }

    /// Admits a message at those that it matched.
    fn place_at(
        &self,
        message: &Arc<Message>,
        confirmed: bool,
        routed: &Routed,
        with: Accompanying,
        placed: &mut Placed,
        draft: &mut Draft<'_>,
    ) {
        // A subscription that does not want it (no local) matched all the same.
        placed.matched += (routed.queues.len() + routed.clients.len() + routed.streams.len())
            as u32
            + u32::from(routed.withheld);
        let incoming = Incoming {
            message,
            // DOORS 16: what its publisher asked to have confirmed is journaled whatever its durable flag.
            durable: message.durable || confirmed,
            expiry: message.expiry,
            rare: None,
        };
        let mut through = Through {
            targets: SmallVec::new(),
            records: Vec::new(),
            is_kept: true,
            passed: 0,
        };
        let mut direct = Directs::new(routed.clients.len());
        let mut dead = SmallVec::new();
        for queue in &routed.queues {
            let targets = &mut through.targets;
            self.admit_or_refuse(*queue, &incoming, targets, &mut dead, placed, draft);
        }
        for matched in &routed.clients {
            self.admit_client(matched, &incoming, &mut through.targets, &mut direct, draft);
        }
        for to in &routed.streams {
            match self.admit_record(to, message, draft) {
                Ok(record) => through.records.push(record),
                Err(refusal) => {
                    placed.refused.get_or_insert(refusal);
                }
            }
        }
        if message.address.kind == AddressKind::Queue {
            placed.place = through.targets.first().map(|target| DeliveryId {
                queue: target.queue,
                qseq: target.qseq,
            });
        }
        let mut numbered = with.passing.map_or_else(Vec::new, |it| it.numbered);
        if !routed.subscriptions.is_empty() {
            self.place_through(
                &routed.subscriptions,
                &incoming,
                &numbered,
                &mut through,
                draft,
            );
        }
        if !through.records.is_empty() {
            self.admit_stream_clients(
                &through.records,
                &incoming,
                with.publisher,
                &mut through.targets,
                &mut direct,
                draft,
            );
        }
        placed.matched += through.passed;
        let is_direct = matches!(
            message.address.kind,
            AddressKind::Stream | AddressKind::Queue
        );
        let is_record = is_direct && !through.records.is_empty();
        // Behind all that took it themselves: a queue that is a target of both holds it once.
        for queue in dead {
            self.dead_letter_refused(queue, &incoming, &mut through, &mut direct, draft);
        }
        placed.sequence = numbered.first().map(|numbered| numbered.sequence);
        let is_taken = !(through.targets.is_empty() && through.records.is_empty());
        if !numbered.is_empty() {
            note_passing(&mut numbered, is_taken, placed, draft);
        }
        let is_kept =
            is_taken || with.retain.is_some() || with.inbound.is_some() || !numbered.is_empty();
        if is_kept {
            let mut published = Box::new(Published {
                message: Some(Arc::clone(message)),
                len: message.body.len() as u32,
                parts: Vec::new(),
                targets: through.targets,
                records: through.records,
                numbered,
                retain: with.retain,
                inbound: with.inbound,
                transaction: 0,
                ordinal: 0,
                counts: false,
            });
            placed.durable = published.is_durable();
            if !published.records.is_empty() {
                draft.number_records(self, &mut published.records);
                if is_record {
                    placed.record = self.record_place(&published.records[0]);
                }
            }
            draft_published(published, draft);
        }
        // RULES 4: a publish with any durable target waits at all of its targets. A retained update alone holds up
        // nobody (DOORS 18).
        let wait = if placed.durable && (message.qos > 0 || !message.retain) {
            Wait::Durable
        } else {
            Wait::Nothing
        };
        if !direct.is_empty() {
            direct.send(wait, draft);
        }
    }

    fn resolve(
        &self,
        message: &Message,
        missing: Missing,
        publisher: Option<ClientNo>,
        except: &[Levels],
        draft: &mut Draft<'_>,
    ) -> Result<Arc<Routed>, Refusal> {
        let address = &message.address;
        // A repeat reads at fewer keys; and of a stream the key chooses the shard, which is not looked for here: there is an address
        // for each, so they would push others out.
        let is_plain = (address.kind != AddressKind::Stream || address.key.is_empty())
            && message.fields().carbon_copies.is_empty()
            && except.is_empty();
        if !is_plain {
            return self
                .resolve_anew(message, missing, publisher, except, draft)
                .map(Arc::new);
        }
        if let Some(known) = self.soft.known.find(address) {
            return Ok(known);
        }
        let found = self.resolve_anew(message, missing, publisher, except, draft)?;
        let found = Arc::new(found);
        // A queue that is not there yet may be made, by this decision or by another part of its transaction.
        let lasts = address.kind != AddressKind::Queue
            || self.named(address.vhost, &address.name).is_some();
        if lasts && !found.varies && found.len() <= KNOWN_TARGETS_MAX {
            self.soft.known.add(address, &found);
        }
        Ok(found)
    }

    fn resolve_anew(
        &self,
        message: &Message,
        missing: Missing,
        publisher: Option<ClientNo>,
        except: &[Levels],
        draft: &mut Draft<'_>,
    ) -> Result<Routed, Refusal> {
        let address = &message.address;
        match address.kind {
            AddressKind::Stream => {
                let found = self.stream_named(address.vhost, &address.name);
                let (stream, _) = found.ok_or_else(|| no_stream(&address.name))?;
                return Ok(Routed {
                    streams: vec![StreamMatch::of(stream)],
                    ..Routed::default()
                });
            }
            AddressKind::Topic if is_reserved(&address.key) => {
                return Err(reserved(&address.key));
            }
            AddressKind::Exchange
                if address.name == crate::apply::ROOT && is_reserved(&address.key) =>
            {
                return Err(reserved(&address.key));
            }
            AddressKind::Exchange
                if self
                    .exchange(address.vhost, &address.name)
                    // [AMQP-basic.publish.exchange.02]
                    .is_some_and(|options| options.internal) =>
            {
                return Err(refusal(
                    RefusalKind::AccessDenied,
                    format!(
                        "cannot publish to internal exchange '{}'",
                        shown(&address.name)
                    ),
                ));
            }
            _ => {}
        }
        let copies = &message.fields().carbon_copies;
        if copies.len() as u64 >= self.config.carbon_copies_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many routing keys in one publish",
            ));
        }
        // [AMQP-queue.declare.default-binding]
        let named = match address.kind {
            AddressKind::Queue => self.named(address.vhost, &address.name),
            _ => None,
        };
        if let (Some(queue), true) = (named, copies.is_empty()) {
            // The shortest way is the most used.
            return Ok(Routed {
                queues: vec![queue],
                ..Routed::default()
            });
        }
        let (exchange, key) = exchange_and_key(address);
        let keys: SmallVec<[&Levels; 2]> = std::iter::once(&key)
            .chain(copies)
            .filter(|key| !except.contains(key))
            .collect();
        let mut routed = self.route(address.vhost, &exchange, &keys, message, publisher)?;
        if address.kind != AddressKind::Queue || named.is_some() {
            return Ok(routed);
        }
        let missing = match missing {
            Missing::StreamElseMake if self.has_stream(address.vhost, &address.name) => {
                Missing::Stream
            }
            Missing::StreamElseMake => Missing::Make,
            missing => missing,
        };
        if missing != Missing::Stream {
            routed.streams.clear();
        }
        // An earlier publish of the same transaction may have made it.
        match draft.made(address.vhost, &address.name) {
            Some(queue) => routed.queues.push(queue),
            None if missing == Missing::Make => {
                let queue = self.create_queue(address.vhost, &address.name, draft)?;
                routed.queues.push(queue);
            }
            None => return Ok(routed),
        }
        routed.queues.sort_unstable();
        Ok(routed)
    }

    /// A durable, plain queue, as a door makes it that creates queues on first use (DOORS 10).
    pub(super) fn create_queue(
        &self,
        vhost: message::VhostId,
        name: &Name,
        draft: &mut Draft<'_>,
    ) -> Result<QueueId, Refusal> {
        super::declare::check_queue_name(name)?;
        self.check_queue_room(draft)?;
        let queue = draft.new_queue(self, false);
        draft.change(Kind::QueueDeclared(Box::new(QueueDeclared {
            queue,
            vhost,
            name: Bytes::copy_from_slice(name),
            options: Arc::new(QueueOptions {
                durable: true,
                ..QueueOptions::default()
            }),
            ..QueueDeclared::default()
        })));
        draft.makes(vhost, name, queue);
        Ok(queue)
    }

    /// What the retained message of a topic comes to.
    fn retain(
        &self,
        message: &Message,
        draft: &mut Draft<'_>,
    ) -> Result<Option<Box<Retain>>, Refusal> {
        let address = &message.address;
        let root = address.kind == AddressKind::Topic
            || (address.kind == AddressKind::Exchange && address.name == crate::apply::ROOT);
        // DOORS 18: never on queues and streams.
        if !message.retain || !root {
            return Ok(None);
        }
        // [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7]; what is not to be retained leaves it alone [MQTT-3.3.1-8].
        // What is over already replaces what was there all the same, and is itself not kept.
        let over = message.expiry.is_some_and(|expiry| expiry <= draft.now);
        let clear = message.body.is_empty() || over;
        let (vhost, key) = (address.vhost, address.key.compact());
        let known = match draft.retained(vhost, &key) {
            Some(known) => known,
            None => self.durable.retained(vhost, &key).is_some(),
        };
        if clear && !known {
            return Ok(None);
        }
        let there = self.counters.retained;
        let there = there.saturating_add_signed(draft.retained_more());
        if !clear && !known && there >= self.config.retained_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many retained messages",
            ));
        }
        draft.retains(vhost, &key, known, !clear);
        Ok(Some(Box::new(Retain {
            vhost,
            key,
            clear,
            qos: message.qos,
            expiry: message.expiry,
        })))
    }

    fn admit_or_refuse(
        &self,
        queue: QueueId,
        incoming: &Incoming<'_>,
        targets: &mut SmallVec<[Entrant; 1]>,
        dead: &mut SmallVec<[QueueId; 1]>,
        placed: &mut Placed,
        draft: &mut Draft<'_>,
    ) {
        match self.admit(queue, incoming, draft) {
            Admission::Take(entrant) => targets.push(entrant),
            Admission::Duplicate(of) => {
                placed.duplicates += 1;
                placed.original = Some(of);
            }
            Admission::Discard(_) => dead.push(queue),
            Admission::Refuse(kind) => {
                let name = self
                    .queue(queue)
                    .map_or_else(Name::new, |queue| queue.declared.name.clone());
                let detail = match kind {
                    RefusalKind::TooLarge => {
                        format!("queue '{}' does not take messages so large", shown(&name))
                    }
                    RefusalKind::QueueFull => format!("queue '{}' is full", shown(&name)),
                    _ => "no room for more messages in memory".to_owned(),
                };
                placed.refused.get_or_insert_with(|| refusal(kind, detail));
                let dead_letters = self.queue(queue).is_some_and(|queue| {
                    queue.attributes().overflow == Overflow::RejectPublishDeadLetter
                });
                if kind == RefusalKind::QueueFull && dead_letters {
                    dead.push(queue);
                }
            }
        }
    }

    /// Decides whether and how a message enters a queue. Drops from the head, where the queue is full, are drafted.
    pub(super) fn admit(
        &self,
        id: QueueId,
        incoming: &Incoming<'_>,
        draft: &mut Draft<'_>,
    ) -> Admission {
        let plain;
        let queue = self.queue(id);
        let attributes = match queue {
            Some(queue) => queue.attributes(),
            None => {
                plain = QueueAttributes::default();
                &plain
            }
        };
        let message = incoming.message;
        let len = message.body.len() as u32;
        if attributes
            .message_len_max
            .is_some_and(|max| u64::from(len) > max)
        {
            return Admission::Refuse(RefusalKind::TooLarge);
        }
        // Most have nothing of it.
        let mut rare: Option<Box<Rare>> = incoming.rare.cloned().map(Box::new);
        if queue.is_some_and(|queue| queue.deduplicates())
            && let Some(key) = dedup_key(
                message,
                attributes.fifo.is_some_and(|fifo| fifo.dedup_per_group),
            )
        {
            let queue = queue.expect("seen above");
            let keep = self.config.dedup_ms;
            let soft = &self.soft_queue(id).dedup;
            let known = queue
                .dedup
                .find(&key, draft.now, keep)
                .or_else(|| soft.find(&key, draft.now, keep));
            let known = known.map(|seen| Original {
                place: DeliveryId {
                    queue: id,
                    qseq: seen.qseq,
                },
                message_id: seen.message_id,
            });
            if let Some(known) = known.or_else(|| draft.dedup_of(id, &key)) {
                return Admission::Duplicate(known);
            }
            let rare = rare.get_or_insert_default();
            rare.dedup = Some(key);
            if let Some(Value::Uuid(id)) = &message.fields().message_id {
                rare.message_id = Some(*id);
            }
        }
        let soft = is_soft(id) || !incoming.durable;
        if soft
            && self.soft.transient_bytes + draft.transient() + crate::apply::transient_len(len)
                > self.config.transient_bytes_max
        {
            // What leaves for those before it may have made room.
            draft.differs = true;
            return Admission::Refuse(RefusalKind::QuotaExceeded);
        }
        let over = |count: u64, bytes: u64| {
            attributes.length_max.is_some_and(|max| count > max)
                || attributes.bytes_max.is_some_and(|max| bytes > max)
        };
        let bounded = attributes.length_max.is_some() || attributes.bytes_max.is_some();
        let (count, bytes) = match bounded {
            true => draft.held(self, id),
            false => (0, 0),
        };
        if over(count + 1, bytes + u64::from(len)) {
            if attributes.overflow != Overflow::DropHead {
                return Admission::Refuse(RefusalKind::QueueFull);
            }
            if over(1, u64::from(len)) {
                // It would be the head itself.
                return Admission::Discard(Tally::DroppedMaxLen);
            }
            self.drop_heads(
                id,
                |count, bytes| over(count + 1, bytes + u64::from(len)),
                draft,
            );
        }
        let group = message.group.as_deref();
        let group = match attributes {
            QueueAttributes { fifo: Some(_), .. } => Some(group.unwrap_or_default()),
            // A hint to be fair (DOORS 20).
            QueueAttributes {
                priority_max: None, ..
            } => group.filter(|group| (1..=FAIR_GROUP_LEN_MAX).contains(&group.len())),
            _ => rare.as_ref().and_then(|rare| rare.group.as_deref()),
        };
        let group = group.map(Bytes::copy_from_slice);
        if rare.is_some() || incoming.expiry.is_some() || group.is_some() {
            let rare = rare.get_or_insert_default();
            rare.expiry = incoming.expiry;
            rare.group = group;
        }
        let delay = match message.delay_ms {
            0 => attributes.delay_ms,
            Message::AT_ONCE => 0,
            delay => delay,
        };
        // A dead letter has waited before.
        let moved = incoming.rare.is_some_and(|rare| rare.deaths.is_some());
        if delay > 0 && !moved {
            rare.get_or_insert_default().visible_at = Some(draft.now.plus_ms(delay));
        }
        let side = self.soft.queues.get(&id).map(Box::as_ref);
        let qseq = draft.entry_comes_to(id, side, len, soft);
        if let Some(rare) = &rare
            && let Some(key) = &rare.dedup
        {
            // Not before: what is refused is no original.
            let place = DeliveryId { queue: id, qseq };
            let message_id = rare.message_id;
            draft.dedup(id, key, Original { place, message_id });
        }
        Admission::Take(Entrant {
            queue: id,
            qseq,
            flags: u16::from(message.qos.min(2)) & flag::QOS,
            priority: message.priority.unwrap_or(0),
            rare: rare.filter(|rare| !rare.is_empty()),
            soft,
        })
    }

    /// Decides how a client session, present or not [MQTT-4.5.0-1], gets a message: straight to its outbox at QoS 0, else through its own queue.
    pub(super) fn admit_client(
        &self,
        matched: &ClientMatch,
        incoming: &Incoming<'_>,
        targets: &mut SmallVec<[Entrant; 1]>,
        direct: &mut Directs,
        draft: &mut Draft<'_>,
    ) {
        let message = incoming.message;
        let len = message.body.len() as u32;
        // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
        let retain = matched.retain_as_published && message.retain;
        if matched.message_len_max.is_some_and(|max| len > max) {
            // DOORS 15
            return draft.count(Tally::DroppedTooLarge, 1);
        }
        // [MQTT-3.8.4-8]
        let qos = matched.qos.min(message.qos);
        if qos == 0 {
            let room = matched
                .session
                .and_then(|session| self.attached(session))
                .is_some_and(|attached| attached.room_used < self.config.outbox_qos0_bytes_max);
            let Some(session) = matched.session.filter(|_| room) else {
                return draft.count(Tally::DroppedNoRoom, 1);
            };
            if incoming.expiry.is_some_and(|expiry| expiry < draft.now) {
                return draft.count(Tally::DroppedExpired, 1);
            }
            let shown = (retain, &matched.identifiers[..]);
            return direct.show(session, incoming, shown, draft.now);
        }
        let queue = matched.queue;
        let side = self.soft.queues.get(&queue).map(Box::as_ref);
        let held = side.map_or(0, |side| self.most_held(queue, side));
        if held.saturating_add_signed(draft.more_held(queue)) >= self.config.client_queue_length_max
            && draft.held(self, queue).0 >= self.config.client_queue_length_max
        {
            return draft.count(Tally::DroppedClientFull, 1);
        }
        let soft = is_soft(queue) || !incoming.durable;
        if soft && self.soft.transient_bytes + draft.transient() > self.config.transient_bytes_max {
            draft.differs = true;
            return draft.count(Tally::DroppedClientFull, 1);
        }
        if side.is_none()
            && is_soft(queue)
            && let Some(client) = self.client(matched.client)
        {
            self.make_own_queue(matched.client, client, draft);
        }
        // Nearly always there is nothing of it.
        let is_plain =
            incoming.rare.is_none() && incoming.expiry.is_none() && matched.identifiers.is_empty();
        let rare = if is_plain {
            None
        } else {
            let rare = Rare {
                expiry: incoming.expiry,
                subscriptions: matched.identifiers.clone(),
                ..incoming.rare.cloned().unwrap_or_default()
            };
            rare.boxed()
        };
        targets.push(Entrant {
            queue,
            qseq: draft.entry_comes_to(queue, side, len, soft),
            flags: u16::from(qos) | if retain { flag::RETAIN } else { 0 },
            priority: 0,
            rare,
            soft,
        });
    }
}

/// A publish passes the FIFO topic objects at its address. One that is refused may come again, so nothing is known of it; but a number
/// that somebody has seen is not given again.
fn note_passing(
    numbered: &mut Vec<Numbered>,
    is_taken: bool,
    placed: &Placed,
    draft: &mut Draft<'_>,
) {
    if placed.refused.is_some() {
        if !is_taken {
            return numbered.clear();
        }
        for it in numbered.iter_mut() {
            (it.dedup, it.message_id) = (None, None);
        }
    }
    numbered.iter().for_each(|it| draft.passes(it));
}

fn reserved(key: &Levels) -> Refusal {
    refusal(
        RefusalKind::AccessDenied,
        format!(
            "topics under '{}' are not open to publishers",
            shown(key.level(0).unwrap_or_default())
        ),
    )
}

/// The key by which a queue or a FIFO topic knows a message again.
pub(super) fn dedup_key(message: &Message, per_group: bool) -> Option<Bytes> {
    let fields = message.fields();
    let id = fields.dedup_id.as_ref()?;
    if !per_group {
        return Some(Bytes::copy_from_slice(id));
    }
    let group = message.group.as_deref().unwrap_or_default();
    let mut key = Vec::with_capacity(group.len() + id.len() + 4);
    message::codec::put_bytes(&mut key, group);
    key.extend_from_slice(id);
    Some(Bytes::from(key))
}

/// Drafts a publish: several records when it is very wide, the first of which carries the message (RULES 9).
#[inline(always)]
pub(super) fn draft_published(published: Box<Published>, draft: &mut Draft<'_>) {
    if fits_a_record(&published.targets) || draft.transaction {
        return draft.change(Kind::Published(published));
    }
    draft_wide(published, draft);
}

#[inline(never)]
fn draft_wide(mut published: Box<Published>, draft: &mut Draft<'_>) {
    let (stored, soft): (Vec<_>, Vec<_>) = std::mem::take(&mut published.targets)
        .into_iter()
        .partition(|target| !target.soft);
    let mut pieces = pieces(stored).into_iter();
    published.targets = soft.into();
    published
        .targets
        .extend(pieces.next().into_iter().flatten());
    let message = published.message.clone();
    draft.change(Kind::Published(published));
    for targets in pieces {
        draft.change(Kind::Enqueued(Box::new(Enqueued {
            targets,
            message: message.clone(),
            continues: true,
            ..Enqueued::default()
        })));
    }
}

/// Whether one record has room for these targets.
pub(super) fn fits_a_record(targets: &[Entrant]) -> bool {
    targets.len() <= 1
        || targets.len() <= TARGETS_MAX
            && targets.iter().map(Entrant::len_bound).sum::<usize>() <= TARGETS_LEN_MAX
}

/// Whether a record that cannot be split has room for these targets.
pub(super) fn fits_alone(targets: &[Entrant]) -> bool {
    targets.iter().map(Entrant::len_bound).sum::<usize>() <= 2 * TARGETS_LEN_MAX
}

/// Targets in pieces of which each has room in one record, in their order.
pub(super) fn pieces(targets: impl IntoIterator<Item = Entrant>) -> Vec<SmallVec<[Entrant; 1]>> {
    let mut pieces: Vec<SmallVec<[Entrant; 1]>> = Vec::new();
    let mut left = 0;
    for target in targets {
        let len = target.len_bound();
        match pieces.last_mut() {
            Some(piece) if len <= left && piece.len() < TARGETS_MAX => {
                piece.push(target);
                left -= len;
            }
            _ => {
                pieces.push(SmallVec::from_iter([target]));
                left = TARGETS_LEN_MAX.saturating_sub(len);
            }
        }
    }
    pieces
}
