//! Deliveries: queues with something ready, in their round, to the consumers that may receive, in theirs.
//!
//! One call serves one queue: it walks the ready entries in order and gives them in turn to the active consumers of the
//! highest priority that still have credit and room: each in the order of arrival, also when it goes out again ([MQTT-4.6.0-1],
//! [MQTT-4.6.0-5], [MQTT-4.6.0-6]). What is expired or was delivered too often is dead-lettered on the way, by a call of its own: where
//! full queues dead-letter into each other, it may push out of this one what waits in it.

use std::{cmp::Reverse, sync::Arc};

use message::{Address, Timestamp};
use session::{ConsumerId, Credit, DeathReason, DeliveryId, QueueId, SessionId};
use smallvec::SmallVec;

use super::{draft::Draft, publish::delivery_bytes};
use crate::{
    Broker, Config, Context, Decision, Effect, OutLane, Outgoing, PendingDelivery, Wait,
    change::{DELIVERED_ITEMS_MAX, Delivered, Entrant, HandedOut, Kind, is_soft},
    counters::Tally,
    durable::Queue,
    queue::{Groups, Order, Rare, Receiver, flag},
    soft::{Attached, Consumer, RECEIVERS_MAX, SoftQueue},
    view::{PlaceRef, View, entry_in},
};

/// Deliveries of one call that there is room for from the start.
const ITEMS_EXPECTED: usize = 128;
/// The span of packet ids: one less than there are, so that none is used twice (RULES 6).
const SPAN_MAX: u64 = 65_534;

/// A walk over the ready entries of a queue, in the order of delivery.
/// [AMQP-basic.08], [AMQP-4.7-1].
pub(super) struct ReadyWalk<'a> {
    order: &'a Order,
    at: u64,
    last: Option<(Reverse<u8>, u64)>,
}

impl Iterator for ReadyWalk<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self.order {
            Order::Priority(priorities) => {
                let found = priorities.next_behind(self.last)?;
                self.last = Some(found);
                Some(found.1)
            }
            order => {
                let found = order.next_ready(self.at)?;
                self.at = found + 1;
                Some(found)
            }
        }
    }
}

/// What is over for an entry.
pub(super) enum Over {
    /// Its time to live, or its queue's.
    Ttl,
    /// Its queue's retention.
    Retention,
}

/// Why an entry leaves its queue instead of being delivered.
#[derive(Clone, Copy)]
enum End {
    Retention,
    /// It is dead-lettered.
    Death(DeathReason),
    /// It is too large for the client in whose session it is, which is all that is told of it.
    TooLarge,
}

impl End {
    /// Whether something may come into another queue by it.
    fn makes_dead_letter(self, queue: &Queue) -> bool {
        let attributes = queue.attributes();
        match self {
            Self::Retention => false,
            Self::Death(_) => attributes.dead_letter.is_some() || attributes.redrive.is_some(),
            // The queue that it was first in may have a target.
            Self::TooLarge => true,
        }
    }
}

/// Whether an entry was sent to the client in whose session it is: it is to be sent again then, however late, or the two
/// would not agree on what was received ([MQTT-4.4.0-1], [MQTT-4.3.3-7]).
pub(super) fn was_sent(queue: &Queue, view: &View<'_>) -> bool {
    queue.declared.client.is_some() && view.count > 0
}

/// Whether an entry's time is over [MQTT-3.3.2-5]. Strictly: what expires this very millisecond may still be delivered, so
/// that a time to live of 0 means "at once or not at all".
pub(super) fn over(queue: &Queue, view: &View<'_>, now: Timestamp) -> Option<Over> {
    let attributes = queue.attributes();
    if attributes
        .retention_ms
        .is_some_and(|ms| view.sent().plus_ms(ms) < now)
    {
        return Some(Over::Retention);
    }
    let late = view
        .expiry(attributes.ttl_ms)
        .is_some_and(|expiry| expiry < now);
    (late && !was_sent(queue, view)).then_some(Over::Ttl)
}

/// A consumer that may receive, and how much more in this call.
pub(super) struct Candidate<'a> {
    pub(super) receiver: Receiver,
    pub(super) attached: &'a Attached,
    pub(super) consumer: &'a Consumer,
    pub(super) priority: i32,
    pub(super) left: u32,
    /// The longest body that its client takes, where that is looked at.
    pub(super) len_max: Option<u32>,
}

impl Candidate<'_> {
    /// The group whose window its deliveries count in.
    fn group(&self) -> Option<u32> {
        (self.consumer.group != 0 && self.consumer.credit != Credit::Settled)
            .then_some(self.consumer.group)
    }

    /// [MQTT-3.3.4-9], [MQTT-4.9.0-2]: the window of a client session is the credit of its one consumer. Only deliveries look at
    /// it [MQTT-3.3.4-10], [MQTT-4.9.0-3].
    pub(super) fn has_room(&self, used: &Used, config: &Config) -> bool {
        let session = self.receiver.0;
        let shared = || {
            let Some(group) = self.group() else {
                return true;
            };
            self.attached.groups.get(&group).is_none_or(|shared| {
                shared.window == 0 || shared.out + used.group(session, group) < shared.window
            })
        };
        self.left > 0
            && used.room(session) + self.attached.room_used < config.outbox_bytes_max
            && shared()
    }

    /// DOORS 15: what is larger than a client takes is discarded, and dead-lettered out of a queue that others read too.
    fn end_of(&self, view: &View<'_>) -> Option<End> {
        let is_too_large = self.len_max.is_some_and(|max| view.len > max);
        let end = match self.consumer.through_client {
            true => End::Death(DeathReason::TooLarge),
            false => End::TooLarge,
        };
        is_too_large.then_some(end)
    }
}

/// What this call has used up of what consumers share.
#[derive(Default)]
pub(super) struct Used {
    groups: SmallVec<[((SessionId, u32), u32); 4]>,
    rooms: SmallVec<[(SessionId, u64); 4]>,
}

impl Broker {
    /// Deliveries that have become possible: `true` when there may be more.
    pub fn decide_deliveries(&self, cx: &Context, limit: usize, out: &mut Decision) -> bool {
        let queue = self.soft.pump.first_key_value();
        let replay = self.soft.replaying.first_key_value();
        let emptying = self.soft.emptying.first_key_value();
        let stream = self.soft.stream_pump.first_key_value();
        let waking = self.soft.waking.first_key_value();
        let place = |at: Option<&u64>| at.copied().unwrap_or(u64::MAX);
        let (replay_at, emptying_at) = (
            place(replay.map(|(at, _)| at)),
            place(emptying.map(|(at, _)| at)),
        );
        let queue_at = place(queue.map(|(at, _)| at));
        let mut draft = Draft::new(cx, out);
        if let Some((at, _)) = waking
            && *at < queue_at.min(emptying_at).min(replay_at)
            && stream.is_none_or(|(stream_at, _)| at < stream_at)
        {
            draft.change(Kind::Wakes(*at));
            return true;
        }
        if let Some((at, id)) = stream
            && *at < queue_at.min(emptying_at).min(replay_at)
        {
            self.serve_reads(*id, &mut draft);
            return true;
        }
        if let Some((_, client)) = replay
            && replay_at < queue_at.min(emptying_at)
        {
            self.go_on_showing(*client, limit.max(1), &mut draft);
            return true;
        }
        if let Some((_, id)) = emptying
            && emptying_at < queue_at
        {
            self.go_on_emptying(*id, &mut draft);
            return true;
        }
        let Some((_, id)) = queue else {
            return false;
        };
        self.plan(*id, limit.clamp(1, DELIVERED_ITEMS_MAX), &mut draft);
        self.make_room(&mut draft);
        if draft.changes_len() == 0 {
            draft.change(Kind::Rest(*id));
        }
        true
    }

    pub(super) fn ready_from_start(&self, id: QueueId) -> ReadyWalk<'_> {
        ReadyWalk {
            order: &self.soft_queue(id).order,
            at: 0,
            last: None,
        }
    }

    /// The active consumers of a queue that are looked at in its turn, in theirs, `count` at most. Where groups have owners, the
    /// one that is next to get something.
    pub(crate) fn in_turn<'a>(
        &'a self,
        id: QueueId,
        soft: &'a SoftQueue,
        count: usize,
    ) -> impl Iterator<Item = Receiver> + 'a {
        let groups = soft.order.groups();
        let next = groups.and_then(|groups| self.next_of_groups(id, soft, groups));
        let count = match groups {
            Some(_) => 0,
            None => count.min(RECEIVERS_MAX),
        };
        soft.active.values().copied().take(count).chain(next)
    }

    /// The first active consumer that there is something for: found among them, or among those that own groups, whichever are fewer.
    fn next_of_groups(&self, id: QueueId, soft: &SoftQueue, groups: &Groups) -> Option<Receiver> {
        let window = self.config.group_window;
        let has = |receiver: &Receiver| groups.next_for(*receiver, window).is_some();
        if groups.has_free() || soft.active.len() <= groups.held_len() {
            return soft.active.values().copied().find(has);
        }
        let place = |receiver| {
            let consumer = self.consumer(receiver).filter(|it| it.queue == id)?;
            Some((Reverse(consumer.priority), consumer.active_at?))
        };
        let owners = groups.holders(window);
        let places = owners.filter_map(|receiver| Some((place(receiver)?, receiver)));
        let first = places.min_by_key(|(place, _)| *place);
        first.map(|(_, receiver)| receiver)
    }

    /// A consumer of a queue that may receive.
    fn candidate(
        &self,
        queue: &Queue,
        soft: &SoftQueue,
        receiver: Receiver,
    ) -> Option<Candidate<'_>> {
        let attached = self.attached(receiver.0)?;
        let consumer = attached.consumers.get(&receiver.1)?;
        let left = self
            .config
            .allowance(receiver, attached, consumer, soft.single)?;
        // DOORS 15
        let len_max = (queue.declared.client.is_some() || consumer.through_client)
            .then(|| self.client_of(receiver.0))
            .flatten()
            .and_then(|(number, _)| self.soft.connected.get(&number))
            .and_then(|connected| connected.message_len_max);
        Some(Candidate {
            receiver,
            attached,
            consumer,
            priority: consumer.priority,
            left,
            len_max,
        })
    }

    fn plan(&self, id: QueueId, limit: usize, draft: &mut Draft<'_>) {
        if let Some(reader) = self.reader(id) {
            return self.push_records(id, reader, limit, draft);
        }
        let Some(queue) = self.queue(id) else { return };
        if self.serve_pull(id, draft) {
            return;
        }
        let soft = self.soft_queue(id);
        let groups = soft.order.groups();
        let ready = self.ready(id) as usize;
        let mut candidates: SmallVec<[Candidate<'_>; 1]> = SmallVec::new();
        for receiver in self.in_turn(id, soft, ready) {
            match self.candidate(queue, soft, receiver) {
                Some(candidate) => candidates.push(candidate),
                // Who is held up gives way first, or others would not have their turns.
                None => return draft.change(Kind::Rest(id)),
            }
        }
        let mut used = Used::default();
        let mut items: SmallVec<[HandedOut; 4]> = SmallVec::with_capacity(match groups {
            Some(_) => 1,
            None => ready.min(limit).min(ITEMS_EXPECTED),
        });
        let mut walk = self.ready_from_start(id);
        // Nothing leaves the queue before this call is over.
        let oldest = match queue.declared.client {
            Some(_) => self.next_entry(id, 0),
            None => None,
        };
        let mut handed = 0;
        // A dead letter may push out what stays: a call makes some or hands entries out, never both.
        let (mut leaving, mut handing_out) = (false, false);
        while handed < limit {
            let chosen = if let Some(groups) = groups {
                let window = self.config.group_window;
                let first = candidates.first();
                first
                    .and_then(|candidate| groups.next_for(candidate.receiver, window))
                    .map(|qseq| (0, qseq))
            } else {
                // Who has no room gets none in this call: it is enough to look at the next one.
                while let Some(next) = candidates.first()
                    && !next.has_room(&used, &self.config)
                {
                    candidates.remove(0);
                }
                match candidates.is_empty() {
                    true => None,
                    false => walk.next().map(|qseq| (0, qseq)),
                }
            };
            let Some((at, qseq)) = chosen else { break };
            let Some(view) = entry_in(queue, soft, qseq) else {
                break;
            };
            let candidate = &candidates[at];
            let end = self.end_of(queue, &view, draft.now);
            let end = end.or_else(|| candidate.end_of(&view));
            let pushes = end.is_some_and(|end| end.makes_dead_letter(queue));
            if leaving && end.is_none() || pushes && handing_out {
                break;
            }
            if let Some(end) = end {
                leaving |= pushes;
                self.end_entry(id, qseq, &view, end, draft);
                if groups.is_some() {
                    break;
                }
                handed += 1;
                continue;
            }
            if oldest.is_some_and(|oldest| qseq - oldest >= SPAN_MAX) {
                break;
            }
            handing_out = true;
            let bytes = self.deliver_one(id, queue, qseq, &view, candidate, &mut items, draft);
            handed += 1;
            used.take(candidate.receiver.0, candidate.group(), bytes);
            let (priority, left) = (candidate.priority, candidate.left - 1);
            if left == 0 {
                candidates.remove(at);
            } else if candidates.len() == 1 {
                candidates[at].left = left;
            } else {
                // To the end of the round of its priority.
                candidates[at].left = left;
                let end = candidates
                    .iter()
                    .position(|other| other.priority < priority);
                let end = end.unwrap_or(candidates.len());
                candidates[at..end].rotate_left(1);
            }
            if groups.is_some() {
                break;
            }
        }
        if !items.is_empty() {
            draft.change(Kind::Delivered(Box::new(Delivered {
                queue: id,
                items,
                ..Delivered::default()
            })));
        }
    }

    /// Dead-letters or drops an entry that must not be delivered any more.
    pub(super) fn leaves_instead(
        &self,
        id: QueueId,
        queue: &Queue,
        qseq: u64,
        view: &View<'_>,
        draft: &mut Draft<'_>,
    ) -> bool {
        let end = self.end_of(queue, view, draft.now);
        if let Some(end) = end {
            self.end_entry(id, qseq, view, end, draft);
        }
        end.is_some()
    }

    /// Why an entry must not be delivered any more.
    #[inline]
    fn end_of(&self, queue: &Queue, view: &View<'_>, now: Timestamp) -> Option<End> {
        match over(queue, view, now) {
            Some(Over::Retention) => Some(End::Retention),
            Some(Over::Ttl) => Some(End::Death(DeathReason::Expired)),
            None if self.is_spent(queue, view.count) => Some(End::Death(DeathReason::Deliveries)),
            None => None,
        }
    }

    /// Such an entry leaves its queue.
    fn end_entry(&self, id: QueueId, qseq: u64, view: &View<'_>, end: End, draft: &mut Draft<'_>) {
        let tally = match end {
            End::Death(reason) => return self.dead_letter(id, qseq, reason, draft),
            End::Retention => Tally::DroppedExpired,
            End::TooLarge => {
                if let Some((origin, place)) = view.rare.and_then(|rare| rare.origin) {
                    self.dead_letter(origin, place, DeathReason::TooLarge, draft);
                }
                Tally::DroppedTooLarge
            }
        };
        if draft.entry_goes(self, id, qseq, view.len) {
            self.drop_entry(id, qseq, view.soft, tally, draft);
        }
    }

    /// Drafts one delivery. Gives the room that it takes.
    #[expect(
        clippy::too_many_arguments,
        reason = "one entry, one receiver, and where the plan is kept"
    )]
    fn deliver_one(
        &self,
        id: QueueId,
        queue: &Queue,
        qseq: u64,
        view: &View<'_>,
        &Candidate {
            receiver, consumer, ..
        }: &Candidate<'_>,
        items: &mut SmallVec<[HandedOut; 4]>,
        draft: &mut Draft<'_>,
    ) -> u64 {
        let own = queue.declared.client.is_some();
        let qos = (view.flags & flag::QOS) as u8;
        // A shared subscription delivers at no more than the publisher's QoS; `$queue` at the granted one (DOORS 19).
        let granted = if consumer.shared {
            // [MQTT-4.8.2-3]
            consumer.qos.min(qos)
        } else {
            consumer.qos
        };
        if consumer.through_client && granted > 0 {
            self.link(id, queue, qseq, view, receiver, granted, draft);
            return 0;
        }
        let settled =
            consumer.credit == Credit::Settled || consumer.through_client || (own && qos == 0);
        let bytes = delivery_bytes(view.len);
        let shown = consumer_shown(view, receiver.1);
        let mut delivery = self.pending(id, qseq, view, own, shown, settled);
        if consumer.through_client {
            delivery.qos = 0;
            if !consumer.shared {
                delivery.readdressed = Some(Arc::new(address_in_queue(queue)));
            }
        }
        let wait = self.delivery_wait(queue, view, delivery.qos == 2 && own);
        items.push(HandedOut {
            qseq,
            count: delivery.count,
            receiver: Some(receiver),
            bytes,
            settled,
            unowned: false,
            soft: view.soft,
        });
        draft.effect(Effect::Deliver {
            to: receiver.0,
            lane: OutLane::Consumer(receiver.1),
            wait,
            delivery: Outgoing::new(delivery, self.content(view.place)),
            bytes,
        });
        bytes
    }

    /// How an entry is shown.
    pub(super) fn pending(
        &self,
        id: QueueId,
        qseq: u64,
        view: &View<'_>,
        own: bool,
        consumer: ConsumerId,
        settled: bool,
    ) -> PendingDelivery {
        PendingDelivery {
            consumer,
            id: (!settled).then_some(DeliveryId { queue: id, qseq }),
            count: view.count + 1,
            redelivered: view.count > 0,
            resent: own && view.count > 0,
            qos: (view.flags & flag::QOS) as u8,
            retain: view.flags & flag::RETAIN != 0,
            subscriptions: view
                .rare
                .map(|rare| rare.subscriptions.clone())
                .unwrap_or_default(),
            enqueued: view.sent(),
            first_delivered: view.rare.and_then(|rare| rare.first_delivered),
            via: view.rare.and_then(|rare| rare.via.clone()),
            first: view.rare.and_then(|rare| rare.first).map(Box::new),
            record: None,
            deaths: view.rare.and_then(|rare| rare.deaths.clone()),
            readdressed: view.rare.and_then(|rare| rare.readdressed.clone()),
        }
    }

    /// RULES 2: a FIFO group's delivery, exactly-once ones, and the one that reaches the limit wait for their own record.
    pub(super) fn delivery_wait(&self, queue: &Queue, view: &View<'_>, exactly_once: bool) -> Wait {
        let attributes = queue.attributes();
        let last = attributes
            .deliveries_max
            .is_some_and(|max| view.count + 1 >= max);
        if !view.soft && (attributes.fifo.is_some() || exactly_once || last) {
            Wait::Durable
        } else {
            view.wait
        }
    }

    /// Leases an entry to a client session: an entry of the session's own queue refers to it (RULES 6, DOORS 19).
    #[expect(
        clippy::too_many_arguments,
        reason = "one entry, one receiver, and the draft"
    )]
    fn link(
        &self,
        id: QueueId,
        queue: &Queue,
        qseq: u64,
        view: &View<'_>,
        receiver: Receiver,
        qos: u8,
        draft: &mut Draft<'_>,
    ) {
        let (Some((number, client)), Some(consumer)) =
            (self.client_of(receiver.0), self.consumer(receiver))
        else {
            return;
        };
        let soft = view.soft || is_soft(client.queue);
        let mut rare = Rare {
            expiry: view.expiry(queue.attributes().ttl_ms),
            deaths: view.rare.and_then(|rare| rare.deaths.clone()),
            via: view.rare.and_then(|rare| rare.via.clone()),
            first: view.rare.and_then(|rare| rare.first),
            readdressed: view.rare.and_then(|rare| rare.readdressed.clone()),
            origin: Some((id, qseq)),
            consumer: receiver.1.0.wrapping_add(1),
            ..Rare::default()
        };
        if consumer.identifier != 0 {
            rare.subscriptions.push(consumer.identifier);
        }
        if !consumer.shared {
            rare.readdressed = Some(Arc::new(address_in_queue(queue)));
        }
        self.make_own_queue(number, client, draft);
        let number = draft.number(self, client.queue);
        let (linked, resident) = match view.place {
            PlaceRef::Stored(id, len) => (Some((id, len)), None),
            PlaceRef::Resident(message) => (None, Some(Arc::clone(message))),
        };
        draft.change(Kind::Delivered(Box::new(Delivered {
            queue: id,
            items: SmallVec::from_iter([HandedOut {
                qseq,
                count: view.count + 1,
                receiver: Some(receiver),
                bytes: 0,
                settled: false,
                unowned: false,
                soft: view.soft,
            }]),
            visible_at: None,
            link: Some(Box::new(Entrant {
                queue: client.queue,
                qseq: number,
                flags: u16::from(qos) | view.flags & flag::RETAIN,
                priority: 0,
                rare: rare.boxed(),
                soft,
            })),
            linked,
            resident,
            attempt: None,
        })));
    }
}

impl Used {
    pub(super) fn take(&mut self, session: SessionId, group: Option<u32>, bytes: u64) {
        match self.rooms.iter_mut().find(|(id, _)| *id == session) {
            Some((_, used)) => *used += bytes,
            None => self.rooms.push((session, bytes)),
        }
        let Some(group) = group else { return };
        let key = (session, group);
        match self.groups.iter_mut().find(|(id, _)| *id == key) {
            Some((_, used)) => *used += 1,
            None => self.groups.push((key, 1)),
        }
    }

    fn room(&self, session: SessionId) -> u64 {
        self.rooms
            .iter()
            .find(|(id, _)| *id == session)
            .map_or(0, |(_, used)| *used)
    }

    fn group(&self, session: SessionId, group: u32) -> u32 {
        self.groups
            .iter()
            .find(|(id, _)| *id == (session, group))
            .map_or(0, |(_, used)| *used)
    }
}

/// The consumer that a delivery names: of a client session's own queue, the one that the entry came through.
fn consumer_shown(view: &View<'_>, consumer: ConsumerId) -> ConsumerId {
    view.rare
        .filter(|rare| rare.consumer != 0)
        .map_or(consumer, |rare| ConsumerId(rare.consumer - 1))
}

/// A queue's own address: what a client that reads `$queue/NAME` is shown.
fn address_in_queue(queue: &Queue) -> Address {
    Address::queue(queue.declared.vhost, queue.declared.name.clone())
}
