//! Entries that leave a queue without having been accepted: dead-lettered by reason, or dropped and counted.

use std::sync::Arc;

use bytes::Bytes;
use message::{Address, Kind as AddressKind, Levels, Message};
use session::{Death, DeathReason, Overflow, QueueAttributes, QueueId, Redrive};
use smallvec::SmallVec;

use super::{
    direct::Directs,
    draft::{Brought, Draft},
    publish::{Admission, Incoming, draft_published, fits_a_record, pieces},
    route::{Routed, address_of, exchange_and_key, key_of_queue, queue_name},
    topic::Through,
};
use crate::{
    Broker, Effect, Fetch, Wait,
    change::{Enqueued, Entrant, Kind, Published, Ranges, Settled, Settlement, is_soft},
    counters::Tally,
    durable::Queue,
    queue::{Rare, death_len_bound, flag},
    soft::Timer,
    view::{PlaceRef, View},
};

/// How long a dead letter that nobody took waits until it is tried again, in ms. A millisecond for each that waits in its queue, if that is
/// longer: a million of them are not to keep the core busy.
const AGAIN_MS: u64 = 5_000;
/// How often a decision goes through the queues that it filled, of which each may fill others.
const ROUNDS_MAX: usize = 16;
/// Bytes of the history that a dead letter keeps.
const DEATHS_LEN_MAX: usize = 256 * 1024;

const fn tally(reason: DeathReason) -> Tally {
    match reason {
        DeathReason::Rejected => Tally::DroppedRejected,
        DeathReason::Expired => Tally::DroppedExpired,
        DeathReason::MaxLen => Tally::DroppedMaxLen,
        DeathReason::Deliveries => Tally::DroppedDeliveries,
        DeathReason::TooLarge => Tally::DroppedTooLarge,
    }
}

/// The redrive policy, where it counts for that reason (DOORS 14).
fn redrive_for(attributes: &QueueAttributes, reason: DeathReason) -> Option<&Redrive> {
    attributes.redrive.as_ref().filter(|_| match reason {
        DeathReason::Deliveries => true,
        DeathReason::Rejected | DeathReason::TooLarge => attributes.dead_letter.is_none(),
        DeathReason::Expired | DeathReason::MaxLen => false,
    })
}

/// Whether a dead letter stays until it is taken. What a full queue drops makes room.
fn keeps(attributes: &QueueAttributes, reason: DeathReason) -> bool {
    attributes.keep_dead_letters && reason != DeathReason::MaxLen
}

impl Broker {
    /// An entry leaves its queue for that reason. Where its message is needed and not in memory, it is set aside and fetched.
    pub(super) fn dead_letter(
        &self,
        id: QueueId,
        qseq: u64,
        reason: DeathReason,
        draft: &mut Draft<'_>,
    ) {
        let (Some(queue), Some(view)) = (self.queue(id), self.entry(id, qseq)) else {
            return;
        };
        if draft.entry_goes(self, id, qseq, view.len) {
            self.dead_letter_seen(id, qseq, reason, (queue, &view), draft);
        }
    }

    /// The same of an entry that has been looked at, and whose going is drafted.
    fn dead_letter_seen(
        &self,
        id: QueueId,
        qseq: u64,
        reason: DeathReason,
        (queue, view): (&Queue, &View<'_>),
        draft: &mut Draft<'_>,
    ) {
        // A target that only the same transaction makes is none yet.
        let redrive = redrive_for(queue.attributes(), reason)
            .and_then(|redrive| self.named(queue.declared.vhost, &redrive.target));
        if let Some(target) = redrive {
            return self.redrive(id, qseq, reason, target, draft);
        }
        if queue.attributes().dead_letter.is_none() {
            self.drop_entry(id, qseq, view.soft, tally(reason), draft);
            return;
        }
        let resident = self.resident(view.place);
        match (resident, view.place) {
            (Some(message), _) if draft.depth < 2 => {
                self.dead_letter_with((id, qseq), reason, &message, view, draft);
            }
            (_, PlaceRef::Stored(stored, _)) => {
                self.set_aside(id, qseq, view, draft);
                draft.effect(Effect::Fetch {
                    fetch: Fetch::DeadLetter {
                        queue: id,
                        qseq,
                        reason,
                    },
                    id: stored,
                    wait: Wait::Stored(stored),
                });
            }
            (_, PlaceRef::Resident(_)) if !view.soft => {
                // It comes with this decision, and is there by then.
                self.set_aside(id, qseq, view, draft);
                self.try_again(id, qseq, reason, 0, draft);
            }
            (_, PlaceRef::Resident(_)) => {
                // A chain of full queues, all in memory: cut it rather than follow it under the lock.
                self.not_taken(id, qseq, reason, view, draft);
            }
        }
    }

    /// A dead letter that is set aside is tried again in that time.
    fn try_again(
        &self,
        id: QueueId,
        qseq: u64,
        reason: DeathReason,
        ms: u64,
        draft: &mut Draft<'_>,
    ) {
        draft.change(Kind::Postponed {
            was: (draft.now, Timer::DeadLetter(id, qseq, reason)),
            until: Some(draft.now.plus_ms(ms)),
        });
    }

    /// An entry is in nobody's reach until it is decided where it goes.
    fn set_aside(&self, id: QueueId, qseq: u64, view: &View<'_>, draft: &mut Draft<'_>) {
        if view.flags & flag::LINKED != 0 {
            // What links to it goes by record, and it is set aside in memory only: a restart in between must
            // find it available.
            draft.change(Kind::Settled(Settled {
                queue: id,
                ranges: Ranges::one(qseq),
                settlement: Settlement::Release,
                untried: false,
                soft: false,
            }));
        }
        draft.change(Kind::SetAside { queue: id, qseq });
    }

    /// Whether an entry is set aside.
    pub(super) fn is_aside(&self, id: QueueId, qseq: u64) -> bool {
        self.queue(id).is_some() && self.soft_queue(id).aside.contains(&qseq)
    }

    /// Nobody takes a dead letter, whose going is drafted: it is dropped, or tried again later if its queue keeps it.
    fn not_taken(
        &self,
        id: QueueId,
        qseq: u64,
        reason: DeathReason,
        view: &View<'_>,
        draft: &mut Draft<'_>,
    ) {
        let Some(queue) = self.queue(id) else {
            return;
        };
        if !keeps(queue.attributes(), reason) {
            return self.drop_entry(id, qseq, view.soft, Tally::DroppedDeadLetter, draft);
        }
        self.set_aside(id, qseq, view, draft);
        let again_ms = AGAIN_MS.max(self.soft_queue(id).aside.len() as u64);
        self.try_again(id, qseq, reason, again_ms, draft);
    }

    /// Whether a dead letter that is kept until all take it may go: it leads somewhere, and none of its queues refuses it.
    fn may_go(
        &self,
        routed: &Routed,
        deaths: &[Death],
        view: &View<'_>,
        draft: &mut Draft<'_>,
    ) -> bool {
        let refuses = |id: QueueId, draft: &mut Draft<'_>| {
            let Some(attributes) = self.queue(id).map(Queue::attributes) else {
                return false;
            };
            let len = u64::from(view.len);
            let (count, bytes) = draft.held(self, id);
            attributes.message_len_max.is_some_and(|max| len > max)
                || attributes.overflow != Overflow::DropHead
                    && (attributes.length_max.is_some_and(|max| count >= max)
                        || attributes.bytes_max.is_some_and(|max| bytes + len > max))
        };
        let mut leads = !routed.clients.is_empty()
            || !routed.subscriptions.is_empty()
            || !routed.streams.is_empty();
        for queue in &routed.queues {
            if self.is_cycle(*queue, deaths) {
                continue;
            }
            if refuses(*queue, draft) {
                return false;
            }
            leads = true;
        }
        leads
    }

    /// An entry leaves its queue for good.
    pub(super) fn drop_entry(
        &self,
        id: QueueId,
        qseq: u64,
        soft: bool,
        tally: Tally,
        draft: &mut Draft<'_>,
    ) {
        leave(id, qseq, soft, draft);
        draft.count(tally, 1);
    }

    /// Moves an entry to the queue that its redrive policy names. Nothing is read for it, so that a group keeps its order and
    /// a thousand that are spent at once wait for no disk: the line in its history names the queue alone.
    fn redrive(
        &self,
        id: QueueId,
        qseq: u64,
        reason: DeathReason,
        target: QueueId,
        draft: &mut Draft<'_>,
    ) {
        let (Some(queue), Some(view), Some(to)) =
            (self.queue(id), self.entry(id, qseq), self.queue(target))
        else {
            return;
        };
        let at = &queue.declared;
        let own = Address::queue(at.vhost, at.name.clone());
        let own = view
            .rare
            .and_then(|rare| rare.readdressed.as_deref())
            .unwrap_or(&own);
        let (exchange, key) = exchange_and_key(own);
        let death = Death {
            queue: at.name.clone(),
            reason,
            count: 1,
            time: draft.now,
            exchange,
            key: key.compact(),
            original_ttl_ms: view
                .rare
                .and_then(|rare| rare.expiry)
                .map(|expiry| expiry.since(view.enqueued)),
        };
        let deaths = with_death(view.rare.and_then(|rare| rare.deaths.as_deref()), death);
        let (len, attributes) = (view.len, to.attributes());
        let over = |count: u64, bytes: u64| is_over(attributes, count, bytes);
        let (count, bytes) = draft.held(self, target);
        if over(count + 1, bytes + u64::from(len)) {
            if attributes.overflow != Overflow::DropHead
                || over(1, u64::from(len))
                || draft.depth > 0
            {
                return self.drop_entry(id, qseq, view.soft, Tally::DroppedDeadLetter, draft);
            }
            draft.depth += 1;
            self.drop_heads(
                target,
                |count, bytes| over(count + 1, bytes + u64::from(len)),
                draft,
            );
            draft.depth -= 1;
        }
        let rare = Rare {
            deaths: Some(Arc::new(deaths)),
            readdressed: Some(Arc::new(Address::queue(
                to.declared.vhost,
                to.declared.name.clone(),
            ))),
            // Of a FIFO queue it counts anew.
            sent: queue.attributes().fifo.is_none().then(|| view.sent()),
            ..view.rare.cloned().unwrap_or_default()
        };
        self.move_entry((id, qseq), &view, target, rare, draft);
        draft.count(Tally::DeadLettered, 1);
    }

    /// Moves an entry, whose going is drafted, into another queue, unread. `rare` may say of it what it was in its old place.
    pub(super) fn move_entry(
        &self,
        (id, qseq): (QueueId, u64),
        view: &View<'_>,
        target: QueueId,
        rare: Rare,
        draft: &mut Draft<'_>,
    ) {
        let Some(to) = self.queue(target) else { return };
        let attributes = to.attributes();
        let rare = Rare {
            expiry: None,
            visible_at: None,
            subscriptions: SmallVec::new(),
            group: rare
                .group
                .or_else(|| attributes.fifo.is_some().then(Bytes::new)),
            dedup: None,
            message_id: None,
            origin: None,
            consumer: 0,
            first_delivered: None,
            ..rare
        };
        let soft = view.soft || is_soft(target);
        draft.entry_comes(target, view.len, soft);
        let entrant = Entrant {
            queue: target,
            qseq: draft.number(self, target),
            flags: view.flags & (flag::QOS | flag::RETAIN),
            priority: view.priority,
            rare: rare.boxed(),
            soft,
        };
        draft.change(Kind::Enqueued(Box::new(Enqueued {
            from: Some((id, qseq)),
            targets: SmallVec::from_iter([entrant]),
            from_soft: view.soft,
            ..message_of(view.place)
        })));
    }

    /// Where a dead letter goes, and with which history. `None`: nowhere.
    pub(super) fn dead_letter_route(
        &self,
        id: QueueId,
        reason: DeathReason,
        message: &Message,
        rare: Option<&Rare>,
        ttl_ms: Option<u64>,
        draft: &Draft<'_>,
    ) -> Option<(Routed, Rare)> {
        let queue = self.queue(id)?;
        let attributes = queue.attributes();
        let vhost = queue.declared.vhost;
        let own = rare
            .and_then(|rare| rare.readdressed.as_deref())
            .unwrap_or(&message.address);
        let (exchange, key) = exchange_and_key(own);
        let death = Death {
            queue: queue.declared.name.clone(),
            reason,
            count: 1,
            time: draft.now,
            exchange,
            key: key.compact(),
            original_ttl_ms: ttl_ms,
        };
        let deaths = with_death(rare.and_then(|rare| rare.deaths.as_deref()), death);
        let dead_letter = attributes.dead_letter.as_ref()?;
        // Keys of the default exchange are names: one of several levels is a name with dots.
        let is_named = !dead_letter.exchange.is_empty();
        let spread = |of: &Address, key: &Levels| match key.level(0) {
            Some(name) if is_named && of.kind == AddressKind::Queue => {
                key_of_queue(&Bytes::copy_from_slice(name))
            }
            _ => key.clone(),
        };
        let (first, copies) = match &dead_letter.key {
            Some(key) => (key.clone(), Vec::new()),
            None => {
                let copies = message.fields().carbon_copies.iter();
                let copies = copies.map(|copy| spread(&message.address, copy));
                (spread(own, &key), copies.collect())
            }
        };
        let keys: SmallVec<[&Levels; 2]> = std::iter::once(&first).chain(&copies).collect();
        let mut routed = self
            .route(vhost, &dead_letter.exchange, &keys, message, None)
            .ok()?;
        if !is_named && draft.new_queues() > 0 {
            // What the same transaction has made takes it too.
            let names = keys.iter().map(|key| queue_name(key));
            let made = names.filter_map(|name| draft.made(vhost, &name));
            routed.queues.extend(made);
            routed.queues.sort_unstable();
            routed.queues.dedup();
        }
        let address = address_of(vhost, &dead_letter.exchange, first.compact());
        let rare = Rare {
            deaths: Some(Arc::new(deaths)),
            readdressed: Some(Arc::new(address)),
            // Who shows it in an envelope there shows it so here.
            via: rare.and_then(|rare| rare.via.clone()),
            first: rare.and_then(|rare| rare.first),
            ..Rare::default()
        };
        Some((routed, rare))
    }

    /// Dead-letters an entry whose message is at hand.
    pub(super) fn dead_letter_with(
        &self,
        (id, qseq): (QueueId, u64),
        reason: DeathReason,
        message: &Arc<Message>,
        view: &View<'_>,
        draft: &mut Draft<'_>,
    ) {
        let ttl = view
            .rare
            .and_then(|rare| rare.expiry)
            .map(|expiry| expiry.since(view.enqueued));
        let Some((routed, rare)) =
            self.dead_letter_route(id, reason, message, view.rare, ttl, draft)
        else {
            return self.not_taken(id, qseq, reason, view, draft);
        };
        let deaths = rare.deaths.as_deref().expect("a dead letter has a history");
        let kept = self
            .queue(id)
            .is_some_and(|it| keeps(it.attributes(), reason));
        if kept && !self.may_go(&routed, deaths, view, draft) {
            return self.not_taken(id, qseq, reason, view, draft);
        }
        let comes = !view.soft && matches!(view.place, PlaceRef::Resident(_));
        if comes && routed.queues.iter().any(|queue| is_soft(*queue)) {
            // What a queue in memory has refers to what is stored, and it is not known yet where that will lie.
            self.set_aside(id, qseq, view, draft);
            return self.try_again(id, qseq, reason, 0, draft);
        }
        draft.depth += 1;
        let before = draft.changes_len();
        let incoming = Incoming {
            message,
            durable: !view.soft,
            // It does not expire again by its own time to live.
            expiry: None,
            rare: Some(&rare),
        };
        let mut targets = SmallVec::new();
        let mut direct = Directs::new(routed.clients.len());
        let mut lost: SmallVec<[Tally; 2]> = SmallVec::new();
        for queue in routed.queues {
            if self.is_cycle(queue, deaths) {
                lost.push(Tally::DroppedCycle);
                continue;
            }
            match self.admit(queue, &incoming, draft) {
                Admission::Take(entrant) => targets.push(entrant),
                Admission::Refuse(_) | Admission::Duplicate(_) => {
                    lost.push(Tally::DroppedDeadLetter);
                }
                Admission::Discard(tally) => lost.push(tally),
            }
        }
        for matched in &routed.clients {
            self.admit_client(matched, &incoming, &mut targets, &mut direct, draft);
        }
        // A stream keeps what is stored; what is in memory only has no place there.
        let is_kept = comes || matches!(view.place, PlaceRef::Stored(..));
        let mut records = Vec::new();
        if is_kept {
            for to in &routed.streams {
                match self.admit_record(to, message, draft) {
                    Ok(record) => records.push(record),
                    Err(_) => lost.push(Tally::DroppedDeadLetter),
                }
            }
        }
        let mut through = Through {
            targets,
            records,
            is_kept,
            passed: 0,
        };
        self.place_through(&routed.subscriptions, &incoming, &[], &mut through, draft);
        let Through {
            mut targets,
            mut records,
            ..
        } = through;
        self.admit_stream_clients(&records, &incoming, None, &mut targets, &mut direct, draft);
        draft.depth -= 1;
        let is_stored = !(targets.is_empty() && records.is_empty());
        let is_taken = is_stored || !direct.is_empty();
        if !is_taken && kept {
            // Whoever did not take it is asked again, and counted when it goes.
            draft.uncount(before);
            return self.not_taken(id, qseq, reason, view, draft);
        }
        if !is_taken && lost.is_empty() && !draft.is_loss_counted(before) {
            return self.not_taken(id, qseq, reason, view, draft);
        }
        lost.iter().for_each(|tally| draft.count(*tally, 1));
        if !is_taken {
            // Each that refused it is counted.
            leave(id, qseq, view.soft, draft);
        } else if !is_stored {
            self.drop_entry(id, qseq, view.soft, Tally::DeadLettered, draft);
        } else if comes {
            // Where its message will lie is not known yet, so it is stored once more.
            draft.count(Tally::DeadLettered, 1);
            draft.number_records(self, &mut records);
            let published = Published {
                message: Some(Arc::clone(message)),
                len: view.len,
                targets,
                records,
                ..Published::default()
            };
            draft_published(Box::new(published), draft);
            leave(id, qseq, view.soft, draft);
        } else {
            draft.count(Tally::DeadLettered, 1);
            draft.number_records(self, &mut records);
            let pieces = if fits_a_record(&targets) {
                vec![targets]
            } else {
                pieces(targets)
            };
            let last = pieces.len() - 1;
            for (at, targets) in pieces.into_iter().enumerate() {
                draft.change(Kind::Enqueued(Box::new(Enqueued {
                    // The last takes it from where it was: whatever a crash cuts off, it is somewhere.
                    from: (at == last).then_some((id, qseq)),
                    targets,
                    records: if at == last {
                        std::mem::take(&mut records)
                    } else {
                        Vec::new()
                    },
                    from_soft: view.soft,
                    ..message_of(view.place)
                })));
            }
        }
        direct.send(view.wait, draft);
    }

    /// Dead-letters a message that has no room in a full queue, which it does not enter: it enters the dead-letter targets with the same publish.
    pub(super) fn dead_letter_refused(
        &self,
        id: QueueId,
        incoming: &Incoming<'_>,
        through: &mut Through,
        direct: &mut Directs,
        draft: &mut Draft<'_>,
    ) {
        if draft.depth > 0 {
            return draft.count(Tally::DroppedDeadLetter, 1);
        }
        let Some((routed, rare)) = self.dead_letter_route(
            id,
            DeathReason::MaxLen,
            incoming.message,
            incoming.rare,
            incoming.expiry.map(|expiry| expiry.since(draft.now)),
            draft,
        ) else {
            return draft.count(Tally::DroppedMaxLen, 1);
        };
        if routed.len() == 0 {
            return draft.count(Tally::DroppedDeadLetter, 1);
        }
        draft.depth += 1;
        let counted = draft.changes_len();
        let mut is_there = false;
        let again = Incoming {
            expiry: None,
            rare: Some(&rare),
            ..*incoming
        };
        let before = (through.targets.len(), through.records.len(), direct.len());
        for queue in routed.queues {
            if through.targets.iter().any(|target| target.queue == queue) {
                is_there = true;
                continue;
            }
            if self.is_cycle(queue, rare.deaths.as_deref().expect("it died here")) {
                draft.count(Tally::DroppedCycle, 1);
                continue;
            }
            match self.admit(queue, &again, draft) {
                Admission::Take(entrant) => through.targets.push(entrant),
                Admission::Discard(tally) => draft.count(tally, 1),
                Admission::Refuse(_) | Admission::Duplicate(_) => {
                    draft.count(Tally::DroppedDeadLetter, 1);
                }
            }
        }
        for matched in &routed.clients {
            self.admit_client(matched, &again, &mut through.targets, direct, draft);
        }
        // A stream keeps what is stored; what is in memory only has no place there.
        let was_kept = std::mem::replace(&mut through.is_kept, incoming.durable);
        for to in routed.streams.iter().filter(|_| incoming.durable) {
            if through
                .records
                .iter()
                .any(|record| record.stream == to.stream)
            {
                is_there = true;
                continue;
            }
            match self.admit_record(to, incoming.message, draft) {
                Ok(record) => through.records.push(record),
                Err(_) => draft.count(Tally::DroppedDeadLetter, 1),
            }
        }
        self.place_through(&routed.subscriptions, &again, &[], through, draft);
        through.is_kept = was_kept;
        let records = &through.records[before.1..];
        self.admit_stream_clients(records, &again, None, &mut through.targets, direct, draft);
        draft.depth -= 1;
        if (through.targets.len(), through.records.len(), direct.len()) != before {
            draft.count(Tally::DeadLettered, 1);
        } else if !is_there && !draft.is_loss_counted(counted) {
            draft.count(Tally::DroppedDeadLetter, 1);
        }
    }

    /// Whether a dead letter comes back to a queue that it left before, and nobody rejected it since: it would go round for ever.
    pub(super) fn is_cycle(&self, queue: QueueId, deaths: &[Death]) -> bool {
        let Some(name) = self.queue(queue).map(|queue| &queue.declared.name) else {
            return false;
        };
        let Some(at) = deaths.iter().position(|death| death.queue == name) else {
            return false;
        };
        deaths[..=at]
            .iter()
            .all(|death| death.reason != DeathReason::Rejected)
    }

    /// Makes room in queues and streams that hold more than they may with what this decision brings, of which it is the last part.
    #[inline]
    pub(super) fn make_room(&self, draft: &mut Draft<'_>) {
        if draft.has_overfull() {
            self.make_room_behind(draft);
        }
        self.trim_streams(draft);
    }

    /// One message may lead to a full queue, and to another one whose dead letters come into the first: it is there by now, in front of them.
    #[inline(never)]
    fn make_room_behind(&self, draft: &mut Draft<'_>) {
        // What goes may come into others, which may be full too. Nothing comes back to where it was (`is_cycle`), so it ends after a few
        // rounds; but a history of deaths that was cut does not say where that is. What is left then makes room when something comes again.
        for _ in 0..ROUNDS_MAX {
            if !draft.has_overfull() {
                return;
            }
            for (id, _) in draft.take_overfull() {
                let Some(attributes) = self.queue(id).map(Queue::attributes) else {
                    continue;
                };
                let over = |count, bytes| is_over(attributes, count, bytes);
                self.drop_heads(id, over, draft);
            }
        }
        draft.take_overfull();
    }

    /// Makes room at the head of a queue, for as long as `over` says so. What this decision brought there before is in the order of delivery, too.
    pub(super) fn drop_heads(
        &self,
        id: QueueId,
        over: impl Fn(u64, u64) -> bool,
        draft: &mut Draft<'_>,
    ) {
        if !self.soft.queues.contains_key(&id) {
            return;
        }
        let attributes = self.queue(id).map(Queue::attributes);
        let priority_max = attributes.and_then(|at| at.priority_max).unwrap_or(0);
        let mut ready = self.ready_from_start(id).peekable();
        let mut delayed = self.soft_queue(id).hidden.iter().copied();
        loop {
            let (count, bytes) = draft.held(self, id);
            if !over(count, bytes) {
                return;
            }
            while ready.next_if(|qseq| draft.goes(id, *qseq)).is_some() {}
            let first = ready
                .peek()
                .map(|qseq| self.entry(id, *qseq).map_or(0, |view| view.priority))
                .map(|priority| priority.min(priority_max));
            // It is the youngest: before what was there comes only what has a higher priority.
            let brought = match first {
                Some(first) if first == priority_max => None,
                Some(first) => draft
                    .first_brought(id, priority_max)
                    .filter(|it| !it.is_delayed && it.priority > first),
                None => draft.first_brought(id, priority_max),
            };
            // When nothing is ready, what is delayed makes room: the oldest first.
            let known = match brought {
                Some(brought) if !brought.is_delayed => None,
                _ => ready
                    .next()
                    .or_else(|| delayed.find(|qseq| !draft.goes(id, *qseq))),
            };
            match (known, brought) {
                (Some(qseq), _) => self.dead_letter(id, qseq, DeathReason::MaxLen, draft),
                (None, Some(brought)) => self.drop_brought(id, &brought, draft),
                // It is full of what is only about to come with the change at hand.
                (None, None) => return draft.overfills(id),
            }
        }
    }

    /// What this decision brought into a queue leaves it again, as it would have come in a decision of its own.
    fn drop_brought(&self, id: QueueId, brought: &Brought, draft: &mut Draft<'_>) {
        draft.brought_goes(id, brought.qseq, brought.len);
        let (Some(queue), Some(incomer)) = (self.queue(id), draft.incomer(id, brought)) else {
            return;
        };
        let place = match (incomer.stored, &incomer.message) {
            (Some((id, len)), _) => PlaceRef::Stored(id, len),
            (None, Some(message)) => PlaceRef::Resident(message),
            (None, None) => return,
        };
        let entrant = &incomer.entrant;
        let view = View {
            len: brought.len,
            enqueued: draft.now,
            count: 0,
            flags: entrant.flags,
            priority: entrant.priority,
            rare: entrant.rare.as_deref(),
            place,
            soft: entrant.soft,
            wait: incomer.wait,
        };
        self.dead_letter_seen(id, brought.qseq, DeathReason::MaxLen, (queue, &view), draft);
    }

    /// A message that was asked for is here.
    pub fn decide_fetched(
        &self,
        fetched: Fetch,
        message: Arc<Message>,
        cx: &crate::Context,
        out: &mut crate::Decision,
    ) {
        let Fetch::DeadLetter {
            queue,
            qseq,
            reason,
        } = fetched;
        if !self.is_aside(queue, qseq) {
            return;
        }
        let Some(view) = self.entry(queue, qseq) else {
            return;
        };
        let mut draft = Draft::new(cx, out);
        self.dead_letter_with((queue, qseq), reason, &message, &view, &mut draft);
        self.make_room(&mut draft);
    }
}

/// Whether a queue that holds so much holds more than it may.
fn is_over(attributes: &QueueAttributes, count: u64, bytes: u64) -> bool {
    attributes.length_max.is_some_and(|max| count > max)
        || attributes.bytes_max.is_some_and(|max| bytes > max)
}

/// An entry is gone from its queue.
fn leave(queue: QueueId, qseq: u64, soft: bool, draft: &mut Draft<'_>) {
    draft.change(Kind::Settled(Settled {
        queue,
        ranges: Ranges::one(qseq),
        settlement: Settlement::Accept,
        untried: false,
        soft,
    }));
}

/// A message on its way into further queues.
fn message_of(place: PlaceRef<'_>) -> Enqueued {
    let (stored, message) = match place {
        PlaceRef::Stored(id, len) => (Some((id, len)), None),
        PlaceRef::Resident(message) => (None, Some(Arc::clone(message))),
    };
    Enqueued {
        stored,
        message,
        ..Enqueued::default()
    }
}

/// The history with one more death: newest first, one line per queue and reason.
pub(super) fn with_death(before: Option<&Vec<Death>>, death: Death) -> Vec<Death> {
    let mut deaths = before.cloned().unwrap_or_default();
    let known = deaths
        .iter()
        .position(|known| known.queue == death.queue && known.reason == death.reason);
    let first = match known {
        Some(at) => {
            let mut known = deaths.remove(at);
            known.count += 1;
            known
        }
        None => death,
    };
    deaths.insert(0, first);
    // The oldest are forgotten before the history outgrows a record: one key alone may have 64 KiB.
    let mut len = 0;
    let fit = deaths.iter().take_while(|death| {
        len += death_len_bound(death);
        len <= DEATHS_LEN_MAX
    });
    let fit = fit.count().max(1);
    deaths.truncate(fit);
    deaths
}
