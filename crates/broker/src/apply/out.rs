//! Entries that go out and come back: deliveries, settlements, leases.

use bytes::Bytes;
use message::Timestamp;
use session::{ConsumerId, QueueId, SessionId};

use super::{
    Applying,
    entries::{Returned, Source, age_by, fell, sides_of, take_back},
    receivers::Hands,
};
use crate::{
    Broker,
    change::{Delivered, Settled, Settlement},
    durable::Attempt,
    queue::{Rare, Receiver, flag},
    soft::{Attached, Out, Timer},
};

impl Broker {
    /// An entry is out no longer: its group and its receiver's credit are free. Counted as ready again.
    fn unlease(&mut self, id: QueueId, qseq: u64, len: u32, group: &Bytes) -> bool {
        let soft = self
            .soft
            .queues
            .get_mut(&id)
            .expect("every queue has a soft side");
        let Some(out) = take_back(soft, &mut self.counters, qseq, len, group) else {
            return false;
        };
        if let Some(receiver) = out.receiver {
            self.let_go(receiver, id, qseq);
        }
        let mut returned = Returned::default();
        returned.add(&out);
        self.give_credit(returned);
        true
    }

    pub(super) fn apply_delivered(&mut self, it: &Delivered, at: &mut Applying<'_>) {
        let id = it.queue;
        if self.queue(id).is_none() {
            return;
        }
        if self.hand_out_items(it, at.now) {
            let settled = it.items.iter().filter(|item| item.settled);
            self.remove_entries(id, settled.map(|item| item.qseq), at);
        }
        if let Some(attempt) = &it.attempt {
            let keep_ms = self.config.attempt_ms;
            let entries = it.items.iter().map(|item| (item.qseq, item.count));
            let got = Attempt {
                time: at.now,
                entries: entries.collect(),
            };
            if let Some(queue) = self.queue_mut(id) {
                queue.attempts.add(attempt, got, keep_ms);
            }
        }
        if let Some(link) = &it.link {
            let source = Source {
                stored: it.linked,
                resident: it.resident.as_ref(),
                extra: true,
                wait: it.linked.map(|(id, _)| id),
            };
            self.insert_entry(link, &source, at);
        }
        self.soft_queue_mut(id).last_used = at.now;
        self.next_round(id);
        self.made_room(id);
    }

    /// Hands out what there is of a delivery. `true`: some of it leaves the queue with that.
    fn hand_out_items(&mut self, it: &Delivered, now: Timestamp) -> bool {
        let id = it.queue;
        let queues = (&mut self.durable.queues, &mut self.soft.transient);
        let Some((queue, soft)) = sides_of(queues, &mut self.soft.queues, id) else {
            return false;
        };
        let mut hands = Hands {
            queue: id,
            soft,
            next_place: &mut self.soft.next_place,
            config: &self.config,
        };
        let leased = it.visible_at.is_some() || it.link.is_some();
        let mut marks = 0;
        if it.visible_at.is_some() {
            marks |= flag::LEASED;
        }
        if it.link.as_ref().is_some_and(|link| !link.soft) {
            marks |= flag::LINKED;
        }
        let mut returned = Returned::default();
        // The connection at hand.
        let mut to: Option<(SessionId, &mut Attached)> = None;
        let mut any_settled = false;
        for item in &it.items {
            let qseq = item.qseq;
            // Written down in the entry: that it was delivered, how often, and how it is held.
            // What is handed out live, and for the first time, has never been out.
            let mut fresh = item.receiver.is_some();
            let (len, priority, rare) = if let Some(entry) = queue.entries.get_mut(qseq) {
                fresh &= entry.count() == 0;
                if !item.settled {
                    entry.set_count(item.count);
                    entry.flags = entry.flags & !flag::LEASED | marks;
                }
                let (len, priority) = (entry.len, entry.priority);
                let rare = entry.flags & flag::RARE != 0;
                (
                    len,
                    priority,
                    rare.then(|| queue.entries.rare(qseq)).flatten(),
                )
            } else if let Some(entry) = hands.soft.messages.get_mut(qseq) {
                fresh &= entry.count == 0;
                if !item.settled {
                    entry.count = item.count;
                }
                (entry.len, entry.priority, entry.rare.as_deref())
            } else {
                continue;
            };
            let group = rare.and_then(|rare| rare.group.clone());
            let group = Rare::group_or_none(group.as_ref());
            let (was, sent) = rare.map_or((None, None), |rare| (rare.visible_at, rare.sent));
            // A replay turns no timers: the delay or lease that was over is ended here.
            let out = if fresh {
                debug_assert!(!hands.soft.out.contains(qseq), "it has never been out");
                None
            } else {
                take_back(hands.soft, &mut self.counters, qseq, len, group)
            };
            if let Some(out) = &out {
                returned.add(out);
                to = None;
                if let Some((session, _)) = out.receiver
                    && let Some(attached) = self.soft.sessions.get_mut(&session)
                {
                    if let Some(held) = attached.touched.get_mut(&id) {
                        held.remove(qseq);
                    }
                    to = Some((session, attached));
                }
            }
            if hands.soft.hidden.remove(&qseq) || out.is_some() {
                hands.soft.order.add(qseq, priority, group);
            }
            self.counters.delivered += u64::from(item.receiver.is_some());
            self.counters.redelivered += u64::from(item.receiver.is_some() && item.count > 1);
            if !item.settled {
                if it.attempt.is_none() && !item.soft {
                    queue.attempts.void(qseq);
                }
                // The timer of a delay or a lease that was over before is not turned once more: a replay still has it.
                if let Some(was) = was {
                    self.soft.timers.remove(&(was, Timer::Visible(id, qseq)));
                }
                if item.receiver.is_none() && !leased {
                    // A replay: the connection is not there, so the entry is available.
                    continue;
                }
            }
            let keeps = (!item.unowned && !item.settled).then_some(qseq);
            let mut credited = None;
            if let Some(receiver) = item.receiver {
                if to.as_ref().is_none_or(|(known, _)| *known != receiver.0) {
                    let attached = self.soft.sessions.get_mut(&receiver.0);
                    to = attached.map(|attached| (receiver.0, &mut **attached));
                }
                if let Some((_, attached)) = &mut to {
                    credited = hands.hand_out(attached, receiver, item.bytes, keeps);
                }
            }
            let soft = &mut *hands.soft;
            // A timed lease is nobody's: its group is free for none.
            let owner = item.receiver.filter(|_| !item.unowned);
            if item.settled {
                self.counters.settled += 1;
                any_settled = true;
                if let Some(receiver) = item.receiver {
                    soft.order.take(qseq, priority, group, receiver, false);
                }
                continue;
            }
            let receiver = owner.unwrap_or_else(nobody);
            soft.order.take(qseq, priority, group, receiver, true);
            let out = Out {
                receiver: owner,
                credited,
            };
            soft.out.insert(qseq, out);
            soft.out_bytes += u64::from(len);
            fell(&mut self.counters.messages_ready);
            self.counters.messages_unacked += 1;
            // It does not wait any more: its age does not count until it is back.
            if let Some(sent) = sent {
                soft.elder.remove(&(sent, qseq));
            }
            if let Some(until) = it.visible_at {
                let hide = |rare: &mut Rare| {
                    rare.visible_at = Some(until);
                    rare.first_delivered = rare.first_delivered.or(Some(now));
                };
                if let Some(entry) = soft.messages.get_mut(qseq) {
                    hide(entry.rare.get_or_insert_default());
                } else {
                    queue.entries.change_rare(qseq, hide);
                }
                self.soft.timers.insert((until, Timer::Visible(id, qseq)));
            }
        }
        self.give_credit(returned);
        any_settled
    }

    fn void_attempts(&mut self, id: QueueId, qseq: u64) {
        if let Some(queue) = self.queue_mut(id) {
            queue.attempts.void(qseq);
        }
    }

    /// Takes back that an entry was delivered the last time.
    fn uncount(&mut self, id: QueueId, qseq: u64) {
        if let Some(entry) = self
            .queue_mut(id)
            .and_then(|queue| queue.entries.get_mut(qseq))
        {
            entry.set_count(entry.count().saturating_sub(1));
        } else if let Some(entry) = self.soft_queue_mut(id).messages.get_mut(qseq) {
            entry.count = entry.count.saturating_sub(1);
        }
    }

    /// Says what a stored entry is until it becomes visible: a snapshot must tell a lease from a delay.
    fn mark_leased(&mut self, id: QueueId, qseq: u64, leased: bool) {
        if let Some(entry) = self
            .queue_mut(id)
            .and_then(|queue| queue.entries.get_mut(qseq))
        {
            if leased {
                entry.flags |= flag::LEASED;
            } else {
                entry.flags &= !flag::LEASED;
            }
        }
    }

    /// Sets when an entry becomes visible, with its timer.
    fn hide_until(&mut self, id: QueueId, qseq: u64, until: Timestamp) {
        let was = self
            .entry(id, qseq)
            .and_then(|view| view.rare)
            .and_then(|rare| rare.visible_at);
        if let Some(was) = was {
            self.soft.timers.remove(&(was, Timer::Visible(id, qseq)));
        }
        let hide = |rare: &mut Rare| rare.visible_at = Some(until);
        let stored = self
            .queue(id)
            .is_some_and(|queue| queue.entries.get(qseq).is_some());
        if stored {
            self.queue_mut(id)
                .expect("seen above")
                .entries
                .change_rare(qseq, hide);
        } else if let Some(entry) = self.soft_queue_mut(id).messages.get_mut(qseq) {
            hide(entry.rare.get_or_insert_default());
        }
        self.soft.timers.insert((until, Timer::Visible(id, qseq)));
    }

    pub(super) fn apply_settled(&mut self, it: &Settled, at: &mut Applying<'_>) {
        if self.queue(it.queue).is_none() {
            return;
        }
        if it.settlement == Settlement::Accept {
            return self.accept(it, at);
        }
        for qseq in it.ranges.iter() {
            if !it.soft {
                self.void_attempts(it.queue, qseq);
            }
            if it.untried {
                self.uncount(it.queue, qseq);
            }
            match it.settlement {
                Settlement::Accept => unreachable!("taken above"),
                Settlement::Release => {
                    self.counters.released += 1;
                    if !it.soft || self.entry(it.queue, qseq).is_some_and(|view| view.soft) {
                        self.show(it.queue, qseq);
                    }
                    self.release(it.queue, qseq);
                }
                Settlement::ReleaseAt(until) => {
                    let Some(view) = self.entry(it.queue, qseq) else {
                        continue;
                    };
                    let (len, priority, group) = (view.len, view.priority, view.group());
                    self.counters.released += 1;
                    self.unlink(it.queue, qseq);
                    self.mark_leased(it.queue, qseq, false);
                    self.unlease(it.queue, qseq, len, &group);
                    self.hide_until(it.queue, qseq, until);
                    let soft = self.soft_queue_mut(it.queue);
                    // In a replay it was not out but ready.
                    soft.order.remove(qseq, priority, &group);
                    soft.hidden.insert(qseq);
                    self.watch(it.queue, qseq);
                }
                Settlement::LeaseUntil(until) => self.lease_until(it.queue, qseq, until),
                Settlement::Received => {
                    self.own(it.queue, qseq);
                    if let Some(entry) = self
                        .queue_mut(it.queue)
                        .and_then(|queue| queue.entries.get_mut(qseq))
                    {
                        entry.flags |= flag::RECEIVED;
                    } else if let Some(entry) = self.soft_queue_mut(it.queue).messages.get_mut(qseq)
                    {
                        entry.flags |= flag::RECEIVED;
                    }
                }
            }
        }
        self.touch(it.queue);
    }

    /// Entries are gone for good.
    fn accept(&mut self, it: &Settled, at: &mut Applying<'_>) {
        if let Some(queue) = self.queue_mut(it.queue)
            && !it.soft
            && !queue.attempts.is_empty()
        {
            for qseq in it.ranges.iter() {
                queue.attempts.void(qseq);
            }
        }
        self.counters.settled += it.ranges.count();
        self.remove_entries(it.queue, it.ranges.iter(), at);
        self.touch(it.queue);
    }

    /// A lease lasts longer, or shorter. In a replay it may have lapsed since: then it is out again.
    fn lease_until(&mut self, id: QueueId, qseq: u64, until: Timestamp) {
        if self.entry(id, qseq).is_none() {
            return;
        }
        self.mark_leased(id, qseq, true);
        self.own(id, qseq);
        self.hide_until(id, qseq, until);
    }

    /// An entry that its receiver owns is out for good, whether or not the receiver is there.
    pub(super) fn own(&mut self, id: QueueId, qseq: u64) {
        let Some(view) = self.entry(id, qseq) else {
            return;
        };
        let (len, priority, group) = (view.len, view.priority, view.group());
        if self.soft_queue(id).out.contains(qseq) {
            return;
        }
        let soft = self.soft_queue_mut(id);
        soft.take_from_aside(qseq, len);
        soft.hidden.remove(&qseq);
        soft.order.take(qseq, priority, &group, nobody(), true);
        soft.out.insert(
            qseq,
            Out {
                receiver: None,
                credited: None,
            },
        );
        soft.out_bytes += u64::from(len);
        fell(&mut self.counters.messages_ready);
        self.counters.messages_unacked += 1;
        self.watch_no_more(id, qseq);
    }

    /// The lease of an entry is ended by record before its time.
    fn show(&mut self, id: QueueId, qseq: u64) {
        let visible_at = self
            .entry(id, qseq)
            .and_then(|view| view.rare)
            .and_then(|rare| rare.visible_at);
        let Some(visible_at) = visible_at else { return };
        self.soft
            .timers
            .remove(&(visible_at, Timer::Visible(id, qseq)));
        if let Some(queue) = self.queue_mut(id) {
            queue
                .entries
                .change_rare(qseq, |rare| rare.visible_at = None);
        }
        let soft = self.soft_queue_mut(id);
        if let Some(rare) = soft
            .messages
            .get_mut(qseq)
            .and_then(|entry| entry.rare.as_mut())
        {
            rare.visible_at = None;
        }
    }

    fn unlink(&mut self, id: QueueId, qseq: u64) {
        if let Some(entry) = self
            .queue_mut(id)
            .and_then(|queue| queue.entries.get_mut(qseq))
        {
            entry.flags &= !flag::LINKED;
        }
    }

    /// Makes an entry that was out available again, at its old place.
    pub(super) fn release(&mut self, id: QueueId, qseq: u64) {
        let Some(view) = self.entry(id, qseq) else {
            return;
        };
        let (len, priority, group) = (view.len, view.priority, view.group());
        if view.flags & flag::RECEIVED != 0 {
            return self.disown(id, qseq);
        }
        self.unlink(id, qseq);
        let was_out = self.unlease(id, qseq, len, &group);
        let soft = self.soft_queue_mut(id);
        let was_aside = soft.take_from_aside(qseq, len);
        if was_out || was_aside {
            soft.order.add(qseq, priority, &group);
        }
        self.watch(id, qseq);
        self.touch(id);
    }

    /// An entry does not wait any more: its age does not count until it is back.
    fn watch_no_more(&mut self, id: QueueId, qseq: u64) {
        if self.soft_queue(id).elder.is_empty() {
            return;
        }
        let sent = self.entry(id, qseq).and_then(|view| view.rare?.sent);
        if let Some(sent) = sent {
            self.soft_queue_mut(id).elder.remove(&(sent, qseq));
        }
    }

    /// An entry is back: its deadlines count again.
    fn watch(&mut self, id: QueueId, qseq: u64) {
        let (Some(queue), Some(view)) = (self.queue(id), self.entry(id, qseq)) else {
            return;
        };
        let due = queue.age_ms().map(|age| view.sent().plus_ms(age));
        let expiry = view.rare.and_then(|rare| rare.expiry);
        let sent = view.rare.and_then(|rare| rare.sent);
        if let Some(sent) = sent {
            self.soft_queue_mut(id).elder.insert((sent, qseq));
        }
        if let Some(expiry) = expiry {
            self.soft.timers.insert((expiry, Timer::Expiry(id, qseq)));
        }
        if let Some(due) = due
            && let Some(soft) = self.soft.queues.get_mut(&id)
        {
            age_by(soft, &mut self.soft.timers, id, due);
        }
    }

    /// The connection that an entry is out to is gone, and the entry stays out.
    pub(super) fn disown(&mut self, id: QueueId, qseq: u64) {
        let Some(out) = self.soft_queue_mut(id).out.get_mut(qseq) else {
            return;
        };
        let receiver = out.receiver.take();
        let credited = out.credited.take();
        if let Some(receiver) = receiver {
            self.let_go(receiver, id, qseq);
        }
        if let (Some(credited), Some(receiver)) = (credited, receiver) {
            self.return_credit(receiver, credited, 1);
        }
    }

    pub(super) fn apply_visible(&mut self, id: QueueId, qseq: u64, now: Timestamp) {
        let Some(visible_at) = self
            .queue(id)
            .and_then(|_| self.entry(id, qseq))
            .and_then(|view| view.rare)
            .and_then(|rare| rare.visible_at)
        else {
            return;
        };
        self.soft
            .timers
            .remove(&(visible_at, Timer::Visible(id, qseq)));
        let view = self.entry(id, qseq).expect("seen above");
        let (priority, group) = (view.priority, view.group());
        let soft = self.soft_queue_mut(id);
        if soft.hidden.remove(&qseq) {
            soft.order.add(qseq, priority, &group);
        } else if soft.out.get(qseq).is_some_and(|out| out.receiver.is_none()) {
            self.release(id, qseq);
        }
        self.soft_queue_mut(id).last_used = now;
        self.touch(id);
    }

    pub(super) fn apply_set_aside(&mut self, id: QueueId, qseq: u64) {
        let Some(view) = self.queue(id).and_then(|_| self.entry(id, qseq)) else {
            return;
        };
        let (len, priority, group, expiry) = (
            view.len,
            view.priority,
            view.group(),
            view.rare.and_then(|rare| rare.expiry),
        );
        self.unlease(id, qseq, len, &group);
        let soft = self.soft_queue_mut(id);
        soft.hidden.remove(&qseq);
        soft.order.remove(qseq, priority, &group);
        if soft.aside.insert(qseq) {
            soft.out_bytes += u64::from(len);
        }
        self.watch_no_more(id, qseq);
        if let Some(expiry) = expiry {
            self.soft.timers.remove(&(expiry, Timer::Expiry(id, qseq)));
        }
        self.touch(id);
    }
}

const fn nobody() -> Receiver {
    (SessionId(0), ConsumerId(0))
}
