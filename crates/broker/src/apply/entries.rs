//! Entries of queues: made, moved, gone.

use std::sync::Arc;

use bytes::Bytes;
use message::{Message, StoredId, Timestamp};
use rustc_hash::FxHashMap;
use session::{QueueId, SessionId};
use smallvec::SmallVec;

use super::Applying;
use crate::{
    Broker, Counters, Effect,
    change::{Enqueued, Entrant, Published, RetainedGone, is_soft},
    counters::Tally,
    durable::{Large, Prepared, Queue, Retained, Seen},
    queue::{Entry, Order, Rare, Receiver, Runs, flag},
    soft::{Credited, Out, Place, SoftEntry, SoftQueue, Timer},
    wheel::Wheel,
};

/// Where the message of a new entry is.
pub(super) struct Source<'a> {
    pub(super) stored: Option<(StoredId, u32)>,
    pub(super) resident: Option<&'a Arc<Message>>,
    /// The message's own record does not name the entry.
    pub(super) extra: bool,
    /// What a soft entry's delivery waits for.
    pub(super) wait: Option<StoredId>,
}

impl Broker {
    pub(crate) fn queue_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        queue_at(&mut self.durable.queues, &mut self.soft.transient, id)
    }

    pub(super) fn apply_published(&mut self, it: &Published, at: &mut Applying<'_>) {
        if it.counts {
            self.counters.count(Tally::Published, 1);
        }
        if it.transaction != 0 && it.is_durable() {
            self.durable
                .prepared
                .entry(it.transaction)
                .or_default()
                .push(Prepared {
                    published: it.clone(),
                    stored: at.stored,
                });
            return;
        }
        self.publish(it, at);
    }

    pub(super) fn publish(&mut self, it: &Published, at: &mut Applying<'_>) {
        let stored = at.stored.filter(|_| it.stores()).map(|id| (id, it.len));
        if let Some((id, _)) = stored {
            self.durable.last_stored = stored;
            self.keep_stored(it, id, at);
        }
        for target in &it.targets {
            let source = Source {
                stored: if target.soft { None } else { stored },
                resident: it.message.as_ref(),
                extra: false,
                wait: at.stored,
            };
            self.insert_entry(target, &source, at);
        }
        for record in &it.records {
            let (id, _) = stored.expect("a record of a stream is stored");
            self.insert_record(record, id, false, at);
        }
        for numbered in &it.numbered {
            self.apply_numbered(numbered, at.now);
        }
        let kept = it.retain.as_deref();
        if let Some(retain) = kept.filter(|it| !self.soft.lossy || self.has_vhost(it.vhost)) {
            let tree = self.durable.retained.entry(retain.vhost).or_default();
            let old = if retain.clear {
                tree.remove(&retain.key)
            } else {
                let (id, len) = stored.expect("a record that retains a message stores it");
                tree.set(
                    &retain.key,
                    Retained {
                        stored: id,
                        len,
                        qos: retain.qos,
                        since: at.now,
                        expiry: retain.expiry,
                    },
                )
            };
            if !retain.clear {
                self.make_ref(at.stored.expect("seen above"), at);
                self.counters.retained += 1;
            }
            if let Some(old) = old {
                self.counters.retained -= 1;
                self.drop_ref(old.stored, at);
            }
        }
        if let Some((number, id)) = it.inbound
            && let Some(client) = self.client_mut(number)
        {
            client.rare.change(|rare| rare.inbound.insert(id));
        }
    }

    /// Notes the parts of a message that was just stored, and keeps it in memory for its first deliveries.
    fn keep_stored(&mut self, it: &Published, id: StoredId, at: &mut Applying<'_>) {
        let stored = it.targets.iter().filter(|target| !target.soft).count() + it.records.len();
        let retained = it.retain.as_ref().is_some_and(|retain| !retain.clear);
        let refs = stored as u32 + u32::from(retained);
        if refs == 0 {
            return;
        }
        if !it.parts.is_empty() {
            for part in &it.parts {
                at.effects.push(Effect::Ref(*part));
                self.soft.part_owners.insert(*part, id);
            }
            let large = Large {
                refs: 0,
                parts: it.parts.clone(),
            };
            self.durable.large.insert(id, large);
        }
        if let Some(message) = &it.message
            && self.is_awaited(it)
            && !self.waits_long(it)
        {
            self.soft.recent.add(
                id,
                message,
                refs,
                self.config.recent_bytes_max,
                self.config.recent_count_max,
            );
        }
    }

    /// Whether a message has more in front of it than is kept: it would be pushed out before its turn.
    fn waits_long(&self, it: &Published) -> bool {
        let most = self.config.recent_count_max;
        self.counters.messages_ready > most
            && matches!(&it.targets[..], [target] if self.ready(target.queue) > most)
    }

    /// Whether somebody may be shown it at once. Who polls a stream comes when he likes, and finds it in its batch: kept here it would
    /// only push out what others wait for, and be in no cache any more when it goes.
    fn is_awaited(&self, it: &Published) -> bool {
        !it.targets.is_empty()
            || it.retain.is_some()
            || it.records.iter().any(|record| {
                let soft = self.soft.streams.get(&record.stream);
                soft.is_some_and(|it| !it.readers.is_empty() || !it.reads.is_empty())
            })
    }

    pub(super) fn apply_retained_gone(&mut self, it: &RetainedGone, at: &mut Applying<'_>) {
        let gone = self
            .durable
            .retained
            .get_mut(&it.vhost)
            .and_then(|tree| tree.remove(&it.key));
        if let Some(gone) = gone {
            self.counters.retained -= 1;
            self.drop_ref(gone.stored, at);
        }
    }

    pub(super) fn make_ref(&mut self, id: StoredId, at: &mut Applying<'_>) {
        at.effects.push(Effect::Ref(id));
        if let Some(large) = self.durable.large.get_mut(&id) {
            large.refs += 1;
        }
    }

    pub(super) fn drop_ref(&mut self, id: StoredId, at: &mut Applying<'_>) {
        at.effects.push(Effect::Unref(id));
        self.soft.recent.forget(id);
        if !self.durable.large.is_empty() {
            self.drop_large(id, at);
        }
    }

    /// A reference to a message is gone whose body may lie in records of its own.
    fn drop_large(&mut self, id: StoredId, at: &mut Applying<'_>) {
        let Some(large) = self.durable.large.get_mut(&id) else {
            return;
        };
        large.refs -= 1;
        if large.refs == 0 {
            self.forget_large(id, at);
        }
    }

    /// The parts of a body that nothing refers to go.
    pub(super) fn forget_large(&mut self, id: StoredId, at: &mut Applying<'_>) {
        let large = self.durable.large.remove(&id);
        for part in large.into_iter().flat_map(|large| large.parts) {
            self.soft.part_owners.remove(&part);
            at.effects.push(Effect::Unref(part));
        }
    }

    pub(super) fn insert_entry(
        &mut self,
        target: &Entrant,
        source: &Source<'_>,
        at: &mut Applying<'_>,
    ) {
        let (id, qseq) = (target.queue, target.qseq);
        if self.soft.lossy && self.holds_any(id, qseq) {
            return self.pass_over();
        }
        let now = at.now;
        let mut rare = target.rare.clone();
        if let Some(via) = rare.as_mut().and_then(|rare| rare.via.as_mut()) {
            self.share_via(via);
        }
        let queues = (&mut self.durable.queues, &mut self.soft.transient);
        let Some((queue, soft)) = sides_of(queues, &mut self.soft.queues, id) else {
            return;
        };
        let dedup = rare.as_mut().and_then(|rare| {
            let message_id = rare.message_id.take();
            let seen = Seen {
                time: now,
                qseq,
                message_id,
            };
            Some((rare.dedup.take()?, seen))
        });
        let keep_ms = self.config.dedup_ms;
        let rare = rare.and_then(|rare| rare.boxed());
        let visible_at = rare.as_ref().and_then(|rare| rare.visible_at);
        let expiry = rare.as_ref().and_then(|rare| rare.expiry);
        let sent = rare.as_ref().and_then(|rare| rare.sent);
        let group = rare.as_ref().and_then(|rare| rare.group.clone());

        if target.soft {
            let place = match (source.resident, source.stored) {
                (_, Some((id, len))) => Place::Stored(id, len),
                (Some(message), None) => Place::Resident(Arc::clone(message)),
                (None, None) => return,
            };
            let len = match &place {
                Place::Resident(message) => {
                    let len = message.body.len() as u32;
                    self.soft.transient_bytes += transient_len(len);
                    len
                }
                Place::Stored(id, len) => {
                    at.effects.push(Effect::Ref(*id));
                    *len
                }
            };
            soft.message_bytes += u64::from(len);
            if let Some((dedup, seen)) = &dedup {
                soft.dedup.add(dedup, *seen, keep_ms);
            }
            let entry = SoftEntry {
                place,
                len,
                enqueued: now,
                count: 0,
                flags: target.flags,
                priority: target.priority,
                rare,
                wait: source.wait,
            };
            soft.messages.insert(qseq, entry);
        } else {
            let (stored, len) = source
                .stored
                .expect("a stored entry comes with the place of its message");
            let mut flags = target.flags;
            if source.extra {
                flags |= flag::EXTRA;
            }
            if let Some((dedup, seen)) = &dedup {
                queue.dedup.add(dedup, *seen, keep_ms);
            }
            let lowest = || queue.entries.next(0).unwrap_or(qseq);
            queue.firsts.note(self.durable.epoch, queue.next, lowest);
            queue.next = queue.next.max(qseq + 1);
            let entry = Entry::new(stored, len, now, flags, target.priority);
            queue.entries.insert(qseq, entry, rare);
            if source.extra {
                *self.durable.extra.entry(stored).or_default() += 1;
                self.soft.recent.refer(stored);
            }
            at.effects.push(Effect::Ref(stored));
            if !self.durable.large.is_empty()
                && let Some(large) = self.durable.large.get_mut(&stored)
            {
                large.refs += 1;
            }
        }

        soft.next = soft.next.max(qseq + 1);
        let timers = &mut self.soft.timers;
        if let Some(expiry) = expiry {
            timers.insert((expiry, Timer::Expiry(id, qseq)));
        }
        if let Some(sent) = sent {
            soft.elder.insert((sent, qseq));
        }
        if let Some(age) = queue.age_ms() {
            let due = sent.unwrap_or(now).plus_ms(age);
            age_by(soft, timers, id, due);
        }
        match visible_at.filter(|visible_at| *visible_at > now) {
            Some(visible_at) => {
                soft.hidden.insert(qseq);
                timers.insert((visible_at, Timer::Visible(id, qseq)));
            }
            None => {
                let group = Rare::group_or_none(group.as_ref());
                soft.order.add(qseq, target.priority, group);
            }
        }
        self.counters.enqueued += 1;
        self.counters.messages_ready += 1;
        self.counters.transient_bytes = self.soft.transient_bytes;
        // With more in it, a queue does not leave the round.
        if soft.pump_at.is_none() {
            self.touch(id);
        }
    }

    /// The soft side of a queue's stored entries, after a snapshot: what is ready, hidden, out, and when it is due.
    pub(crate) fn index_entries(&mut self, id: QueueId) {
        let now = self.durable.time;
        let Some(queue) = self.durable.queues.get(&id) else {
            return;
        };
        let next = queue.next;
        self.counters.messages_ready += queue.entries.len();
        let age = queue.age_ms();
        let oldest = queue.entries.iter().next().map(|(_, e)| e.enqueued());
        let plain = matches!(self.soft_queue(id).order, Order::Plain { .. });
        let is_marked = |entry: &Entry| {
            !plain || entry.flags & (flag::RARE | flag::RECEIVED | flag::LINKED) != 0
        };
        let mut simple = Runs::default();
        for (qseq, _) in queue.entries.iter().filter(|(_, entry)| !is_marked(entry)) {
            simple.add(qseq);
        }
        let marked: Vec<(u64, u16, u8)> = queue
            .entries
            .iter()
            .filter(|(_, entry)| is_marked(entry))
            .map(|(qseq, entry)| (qseq, entry.flags, entry.priority))
            .collect();
        let soft = self.soft_queue_mut(id);
        soft.next = next;
        if let Order::Plain { ready, .. } = &mut soft.order {
            *ready = simple;
        }
        for (qseq, flags, priority) in marked {
            let rare = self.durable.queues[&id].entries.rare(qseq);
            let group = rare.and_then(|rare| rare.group.clone()).unwrap_or_default();
            let (expiry, visible_at) = rare.map_or((None, None), |r| (r.expiry, r.visible_at));
            if let Some(sent) = rare.and_then(|rare| rare.sent) {
                self.soft_queue_mut(id).elder.insert((sent, qseq));
            }
            if let Some(expiry) = expiry {
                self.soft.timers.insert((expiry, Timer::Expiry(id, qseq)));
            }
            let hidden = visible_at.filter(|visible_at| *visible_at > now);
            if let Some(visible_at) = hidden {
                self.soft
                    .timers
                    .insert((visible_at, Timer::Visible(id, qseq)));
            }
            let leased = flags & flag::LEASED != 0;
            if hidden.is_some() && !leased {
                self.soft_queue_mut(id).hidden.insert(qseq);
            } else {
                self.soft_queue_mut(id).order.add(qseq, priority, &group);
            }
            let held = flags & (flag::RECEIVED | flag::LINKED) != 0;
            if held || (hidden.is_some() && leased) {
                self.own(id, qseq);
            }
        }
        if let (Some(age), Some(oldest)) = (age, oldest) {
            let elder = self.soft_queue(id).elder.first();
            let oldest = elder.map_or(oldest, |(sent, _)| oldest.min(*sent));
            let due = oldest.plus_ms(age);
            self.soft_queue_mut(id).age_at = Some(due);
            self.soft.timers.insert((due, Timer::Age(id)));
        }
    }

    /// Takes an entry out of its queue, wherever it is: ready, hidden, aside or out.
    pub(super) fn remove_entry(&mut self, id: QueueId, qseq: u64, at: &mut Applying<'_>) {
        self.remove_entries(id, std::iter::once(qseq), at);
    }

    /// The same with many: what they are looked up in is looked up once.
    pub(super) fn remove_entries(
        &mut self,
        id: QueueId,
        numbers: impl Iterator<Item = u64>,
        at: &mut Applying<'_>,
    ) {
        let queues = (&mut self.durable.queues, &mut self.soft.transient);
        let Some((queue, soft)) = sides_of(queues, &mut self.soft.queues, id) else {
            return;
        };
        let any_large = !self.durable.large.is_empty();
        let mut of_large: SmallVec<[StoredId; 4]> = SmallVec::new();
        let mut returned = Returned::default();
        // What is out to the connection at hand, of this queue.
        let mut held: Option<(SessionId, &mut Runs)> = None;
        let mut any = false;
        for qseq in numbers {
            let (len, priority, rare) = if let Some((entry, rare)) = queue.entries.remove(qseq) {
                queue.attempts.void(qseq);
                let stored = entry.stored();
                if entry.flags & flag::EXTRA != 0
                    && let Some(extra) = self.durable.extra.get_mut(&stored)
                {
                    *extra -= 1;
                    if *extra == 0 {
                        self.durable.extra.remove(&stored);
                    }
                }
                at.effects.push(Effect::Unref(stored));
                self.soft.recent.forget(stored);
                if any_large {
                    of_large.push(stored);
                }
                (entry.len, entry.priority, rare)
            } else if let Some(entry) = soft.messages.remove(qseq) {
                soft.message_bytes -= u64::from(entry.len);
                match entry.place {
                    Place::Resident(_) => self.soft.transient_bytes -= transient_len(entry.len),
                    Place::Stored(id, _) => at.effects.push(Effect::Unref(id)),
                }
                (entry.len, entry.priority, entry.rare)
            } else {
                continue;
            };
            any = true;
            let group = Rare::group_of(rare.as_deref());
            if let Some(out) = take_back(soft, &mut self.counters, qseq, len, group) {
                if let Some((session, _)) = out.receiver {
                    if held.as_ref().is_none_or(|(known, _)| *known != session) {
                        let attached = self.soft.sessions.get_mut(&session);
                        held = attached
                            .and_then(|attached| attached.touched.get_mut(&id))
                            .map(|runs| (session, runs));
                    }
                    if let Some((_, runs)) = &mut held {
                        runs.remove(qseq);
                    }
                }
                returned.add(&out);
                debug_assert!(
                    !soft.hidden.contains(&qseq) && !soft.aside.contains(&qseq),
                    "what is out does not wait"
                );
                debug_assert_ne!(soft.order.next_ready(qseq), Some(qseq), "nor is it ready");
            } else {
                soft.hidden.remove(&qseq);
                soft.take_from_aside(qseq, len);
                soft.order.remove(qseq, priority, group);
            }
            fell(&mut self.counters.messages_ready);
            if let Some(rare) = &rare {
                let timers = &mut self.soft.timers;
                if let Some(expiry) = rare.expiry {
                    timers.remove(&(expiry, Timer::Expiry(id, qseq)));
                }
                if let Some(sent) = rare.sent {
                    soft.elder.remove(&(sent, qseq));
                }
                if let Some(visible_at) = rare.visible_at {
                    timers.remove(&(visible_at, Timer::Visible(id, qseq)));
                }
            }
        }
        self.counters.transient_bytes = self.soft.transient_bytes;
        for stored in of_large {
            self.drop_large(stored, at);
        }
        // Not before they are gone: until then the queue would seem to have some that are ready.
        self.give_credit(returned);
        if any {
            self.touch(id);
            self.made_room(id);
        }
    }

    pub(super) fn give_credit(&mut self, returned: Returned) {
        for (receiver, credited, count) in returned.0 {
            self.return_credit(receiver, credited, count);
        }
    }

    /// A queue holds less: if it is a client session's, there may be room for retained messages.
    pub(super) fn made_room(&mut self, id: QueueId) {
        if self.soft.resting.is_empty() {
            return;
        }
        if let Some(client) = self.queue(id).and_then(|queue| queue.declared.client) {
            self.replay_may_go_on(client);
        }
    }

    /// The queue's own times may have changed: its oldest entry is looked at.
    pub(super) fn age_anew(&mut self, id: QueueId, now: Timestamp) {
        let ages = self.queue(id).is_some_and(|queue| queue.age_ms().is_some());
        let Some(soft) = self.soft.queues.get_mut(&id) else {
            return;
        };
        if let Some(known) = soft.age_at.take() {
            self.soft.timers.remove(&(known, Timer::Age(id)));
        }
        if ages {
            soft.age_at = Some(now);
            self.soft.timers.insert((now, Timer::Age(id)));
        }
    }

    pub(super) fn apply_enqueued(&mut self, it: &Enqueued, at: &mut Applying<'_>) {
        let stored = if it.continues {
            self.durable.last_stored
        } else {
            it.stored
        };
        for target in &it.targets {
            let source = Source {
                stored,
                resident: it.message.as_ref(),
                extra: true,
                wait: stored.map(|(id, _)| id),
            };
            self.insert_entry(target, &source, at);
        }
        for record in &it.records {
            let (id, _) = stored.expect("a record of a stream is stored");
            self.insert_record(record, id, true, at);
        }
        // Last: the reference that goes must not be the only one.
        if let Some((queue, qseq)) = it.from
            && self.queue(queue).is_some()
        {
            self.remove_entry(queue, qseq, at);
        }
    }
}

/// What is to be given back to receivers, once the entries are gone.
#[derive(Default)]
pub(super) struct Returned(SmallVec<[(Receiver, Credited, u32); 1]>);

impl Returned {
    pub(super) fn add(&mut self, out: &Out) {
        let (Some(credited), Some(receiver)) = (out.credited, out.receiver) else {
            return;
        };
        match self.0.last_mut() {
            Some((last, known, count)) if *last == receiver && *known == credited => *count += 1,
            _ => self.0.push((receiver, credited, 1)),
        }
    }
}

type Queues = FxHashMap<QueueId, Box<Queue>>;

/// A queue, wherever it lies, while something else of the core is changed.
fn queue_at<'a>(
    durable: &'a mut Queues,
    transient: &'a mut Queues,
    id: QueueId,
) -> Option<&'a mut Queue> {
    let queues = if is_soft(id) { transient } else { durable };
    queues.get_mut(&id).map(Box::as_mut)
}

/// A queue and its soft side, while something else of the core is changed. `queues`: the durable ones and the others.
pub(super) fn sides_of<'a>(
    (durable, transient): (&'a mut Queues, &'a mut Queues),
    soft: &'a mut FxHashMap<QueueId, Box<SoftQueue>>,
    id: QueueId,
) -> Option<(&'a mut Queue, &'a mut SoftQueue)> {
    let queue = queue_at(durable, transient, id)?;
    let soft = soft.get_mut(&id).expect("every queue has a soft side");
    Some((queue, soft))
}

/// An entry is out no longer, and its group is free. Counted as ready again. What its receiver gets back is the caller's.
pub(super) fn take_back(
    soft: &mut SoftQueue,
    counters: &mut Counters,
    qseq: u64,
    len: u32,
    group: &Bytes,
) -> Option<Out> {
    let out = soft.out.remove(qseq)?;
    soft.out_bytes -= u64::from(len);
    soft.order.returned(group);
    fell(&mut counters.messages_unacked);
    counters.messages_ready += 1;
    Some(out)
}

/// A queue's oldest entry is looked at by then.
pub(super) fn age_by(soft: &mut SoftQueue, timers: &mut Wheel<Timer>, id: QueueId, due: Timestamp) {
    let known = soft.age_at;
    if known.is_some_and(|known| known <= due) {
        return;
    }
    soft.age_at = Some(due);
    if let Some(known) = known {
        timers.remove(&(known, Timer::Age(id)));
    }
    timers.insert((due, Timer::Age(id)));
}

/// What a message in memory is counted as: its body and what surrounds it.
pub(crate) const fn transient_len(body: u32) -> u64 {
    body as u64 + 256
}

/// A gauge fell by one. A gauge that is wrong is a defect, but none to stop the node for.
pub(super) fn fell(gauge: &mut u64) {
    debug_assert!(*gauge > 0, "a gauge does not fall below 0");
    *gauge = gauge.saturating_sub(1);
}
