//! Connections, consumers, credit, and the round of queues that may have something to deliver. All soft.
//!
//! A consumer is *active* in its queue while nothing is known to keep it from receiving; a queue is in the *round* while it has something
//! ready and somebody active. What holds up several consumers at once, a full outbox or the window that they share, changes again and
//! again while most of them are not asked for: who is held up is found out when its queue's turn comes, and waits in its turn until the
//! connection lets go of it.

use std::{cmp::Reverse, sync::Arc};

use message::{Timestamp, VhostId};
use session::{ConsumerId, Credit, QueueId, SessionId, Token};
use smallvec::SmallVec;

use crate::{
    Broker, Config,
    change::ConsumerAdded,
    few::Few,
    queue::{Receiver, Runs, flag},
    soft::{
        Attached, Consumer, ConsumerGroup, Credited, Hold, RECEIVERS_MAX, SoftQueue, Timer,
        Waiting, WaitingAt,
    },
};

/// Consumers that are looked at as soon as their connection holds them up no longer: who has its turn often uses up what there is. The
/// others follow in the round of queues.
const WOKEN_AT_ONCE: usize = 1;

impl Broker {
    pub(crate) fn soft_queue_mut(&mut self, id: QueueId) -> &mut SoftQueue {
        self.soft
            .queues
            .get_mut(&id)
            .expect("every queue has a soft side")
    }

    pub(super) fn apply_attached(
        &mut self,
        session: SessionId,
        vhost: VhostId,
        user: &Arc<str>,
        broker: bool,
    ) {
        let attached = Attached::new(vhost, Arc::clone(user), broker);
        self.soft.sessions.insert(session, Box::new(attached));
        self.counters.sessions += u64::from(!broker);
    }

    /// Everything of a connection goes; what is out to it is available again, in order (RULES 8).
    pub(super) fn apply_detached(&mut self, session: SessionId, now: Timestamp) {
        let Some(attached) = self.soft.sessions.get_mut(&session) else {
            return;
        };
        let consumers: Vec<_> = attached.consumers.keys().copied().collect();
        let pulls: Vec<_> = attached.rare.pulls.keys().copied().collect();
        let reads: Vec<_> = attached.rare.reads.keys().copied().collect();
        let touched = std::mem::take(&mut attached.touched);
        for consumer in consumers {
            self.apply_consumer_gone((session, consumer), now);
        }
        for token in pulls {
            self.apply_pull_ends(session, token);
        }
        for token in reads {
            self.apply_read_ends(session, token);
        }
        for (queue, held) in touched.into_entries() {
            if self.reader(queue).is_some() {
                self.remove_reader(queue);
                continue;
            }
            self.release_all(queue, session, &held);
        }
        let gone = self.soft.sessions.remove(&session);
        for place in gone.iter().flat_map(|gone| gone.rare.waking.values()) {
            self.soft.waking.remove(place);
        }
        self.counters.sessions -= u64::from(gone.is_some_and(|attached| !attached.broker));
    }

    pub(super) fn apply_pull_waits(&mut self, id: QueueId, until: Timestamp, pull: &Waiting) {
        let place = self.soft.next_place;
        let Some(attached) = self.soft.sessions.get_mut(&pull.session) else {
            return;
        };
        self.soft.next_place += 1;
        let at = WaitingAt {
            queue: id,
            place,
            until,
        };
        attached
            .rare
            .change(|rare| rare.pulls.insert(pull.token, at));
        let timer = Timer::Pull(pull.session, pull.token);
        self.soft.timers.insert((until, timer));
        self.soft_queue_mut(id).pulls.insert(place, pull.clone());
        self.touch(id);
    }

    pub(super) fn apply_pull_ends(&mut self, session: SessionId, token: Token) {
        let Some(at) = self
            .soft
            .sessions
            .get_mut(&session)
            .and_then(|attached| attached.rare.change(|rare| rare.pulls.remove(&token)))
        else {
            return;
        };
        self.soft
            .timers
            .remove(&(at.until, Timer::Pull(session, token)));
        if let Some(queue) = self.soft.queues.get_mut(&at.queue) {
            queue.pulls.remove(at.place);
            self.touch(at.queue);
        }
    }

    /// What was out to a connection that is gone is available again [STOMP-subscribe-10].
    fn release_all(&mut self, queue: QueueId, session: SessionId, held: &Runs) {
        for qseq in held.iter() {
            let Some(soft) = self.soft.queues.get(&queue) else {
                return;
            };
            let receiver = soft.out.get(qseq).and_then(|out| out.receiver);
            if receiver.is_none_or(|receiver| receiver.0 != session) {
                continue;
            }
            let linked = self
                .entry(queue, qseq)
                .is_some_and(|view| view.flags & flag::LINKED != 0);
            if linked {
                // Its client session holds it: records say what becomes of it (DOORS 19).
                self.disown(queue, qseq);
            } else {
                self.counters.released += 1;
                self.release(queue, qseq);
            }
        }
    }

    pub(super) fn apply_consumer_added(&mut self, it: &ConsumerAdded, now: Timestamp) {
        let receiver = (it.session, it.consumer);
        if !self.soft.queues.contains_key(&it.queue) {
            return;
        }
        self.apply_consumer_gone(receiver, now);
        let place = self.soft.next_place;
        let Some(session) = self.soft.sessions.get_mut(&it.session) else {
            return;
        };
        self.soft.next_place += 1;
        session.touched.get_or_default(it.queue);
        session.consumers.insert(
            it.consumer,
            Consumer {
                queue: it.queue,
                credit: it.credit,
                out: 0,
                group: it.group,
                priority: it.priority,
                through_client: it.through_client,
                qos: it.qos,
                shared: it.shared,
                identifier: it.identifier,
                place,
                active_at: None,
                waits_for: None,
                turn: place,
            },
        );
        let queue = self.soft_queue_mut(it.queue);
        queue.consumers.insert(place, receiver);
        queue.exclusive |= it.exclusive;
        queue.had_consumer = true;
        queue.last_used = now;
        self.counters.consumers += 1;
        self.choose_single(it.queue);
        self.refresh(receiver);
    }

    pub(super) fn apply_consumer_gone(&mut self, receiver: Receiver, now: Timestamp) {
        let Some(gone) = self
            .soft
            .sessions
            .get_mut(&receiver.0)
            .and_then(|session| session.remove_consumer(receiver.1))
        else {
            return;
        };
        self.counters.consumers -= 1;
        let Some(queue) = self.soft.queues.get_mut(&gone.queue) else {
            return;
        };
        queue.consumers.remove(&gone.place);
        if let Some(at) = gone.active_at {
            queue.active.remove(&(Reverse(gone.priority), at));
        }
        queue.exclusive = false;
        queue.last_used = now;
        if queue.single == Some(receiver) {
            queue.single = None;
        }
        self.choose_single(gone.queue);
        self.touch(gone.queue);
        self.reader_left(gone.queue);
    }

    /// In a queue with a single active consumer: keeps the one it has, else the longest there of the highest priority.
    fn choose_single(&mut self, id: QueueId) {
        let single = self
            .queue(id)
            .is_some_and(|queue| queue.attributes().single_active_consumer);
        let soft = self.soft_queue(id);
        if !single || soft.single.is_some() {
            return;
        }
        let chosen = soft
            .consumers
            .iter()
            .min_by_key(|(place, receiver)| {
                let priority = self
                    .consumer(**receiver)
                    .map_or(i32::MIN, |consumer| consumer.priority);
                (Reverse(priority), **place)
            })
            .map(|(_, receiver)| *receiver);
        self.soft_queue_mut(id).single = chosen;
        if let Some(chosen) = chosen {
            self.refresh(chosen);
        }
    }

    pub(crate) fn consumer(&self, receiver: Receiver) -> Option<&Consumer> {
        self.soft
            .sessions
            .get(&receiver.0)?
            .consumers
            .get(&receiver.1)
    }

    pub(super) fn apply_credit(&mut self, receiver: Receiver, credit: Credit) {
        let Some(consumer) = self
            .soft
            .sessions
            .get_mut(&receiver.0)
            .and_then(|session| session.consumers.get_mut(&receiver.1))
        else {
            return;
        };
        consumer.credit = credit;
        self.refresh(receiver);
    }

    pub(super) fn change_group(
        &mut self,
        session: SessionId,
        group: u32,
        change: impl FnOnce(&mut ConsumerGroup),
    ) {
        let Some(attached) = self.soft.sessions.get_mut(&session) else {
            return;
        };
        change(attached.groups.get_or_default(group));
        self.wake(session, Hold::Flow(group), WOKEN_AT_ONCE);
        self.wake(session, Hold::Window(group), WOKEN_AT_ONCE);
    }

    /// A delivery left for that receiver. `keeps`: the number that is out to it from now on.
    pub(super) fn hand_out(
        &mut self,
        queue: QueueId,
        receiver: Receiver,
        bytes: u64,
        keeps: Option<u64>,
    ) {
        let (Some(attached), Some(soft)) = (
            self.soft.sessions.get_mut(&receiver.0),
            self.soft.queues.get_mut(&queue),
        ) else {
            return;
        };
        let mut hands = Hands {
            queue,
            soft,
            next_place: &mut self.soft.next_place,
            config: &self.config,
        };
        hands.hand_out(attached, receiver, bytes, keeps);
        self.touch(queue);
    }

    /// Whose window a delivery to that receiver counts in.
    pub(super) fn credited(&self, receiver: Receiver) -> Option<Credited> {
        let consumer = self.consumer(receiver)?;
        Some(Credited {
            place: consumer.place,
            group: consumer.group,
        })
    }

    /// Something is not out to that receiver any more.
    pub(super) fn let_go(&mut self, receiver: Receiver, queue: QueueId, qseq: u64) {
        let attached = self.soft.sessions.get_mut(&receiver.0);
        if let Some(held) = attached.and_then(|attached| attached.touched.get_mut(&queue)) {
            held.remove(qseq);
        }
    }

    /// So many deliveries to that receiver were settled. The consumer may be gone, its group's window is free all the same.
    pub(super) fn return_credit(&mut self, receiver: Receiver, credited: Credited, count: u32) {
        let Some(attached) = self.soft.sessions.get_mut(&receiver.0) else {
            return;
        };
        // Who may receive still may, and who waits for its connection is looked at when that lets go of it.
        let mut wants_credit = true;
        if let Some(consumer) = attached.consumers.get_mut(&receiver.1)
            && consumer.place == credited.place
        {
            debug_assert!(consumer.out >= count, "a delivery counts once");
            consumer.out = consumer.out.saturating_sub(count);
            wants_credit = consumer.active_at.is_none() && consumer.waits_for.is_none();
        }
        let mut freed = None;
        if credited.group != 0 {
            let group = attached.groups.get_or_default(credited.group);
            if group.is_full() {
                freed = Some(credited.group);
            }
            debug_assert!(group.out >= count, "a delivery counts once");
            group.out = group.out.saturating_sub(count);
        }
        // Who waits for the window comes first.
        if let Some(group) = freed {
            self.wake(receiver.0, Hold::Window(group), WOKEN_AT_ONCE);
        }
        if wants_credit {
            self.refresh(receiver);
        }
    }

    /// Bytes went into an outbox.
    pub(super) fn take_room(&mut self, session: SessionId, bytes: u64) {
        if let Some(attached) = self.soft.sessions.get_mut(&session) {
            attached.room_used += bytes;
        }
    }

    /// An outbox has been drained by so many bytes.
    pub fn returned_room(&mut self, session: SessionId, bytes: u64) {
        let max = self.config.outbox_bytes_max;
        let Some(attached) = self.soft.sessions.get_mut(&session) else {
            return;
        };
        let had = attached.room_used < max;
        attached.room_used = attached.room_used.saturating_sub(bytes);
        let client = attached.client;
        if !had && attached.room_used < max {
            self.wake(session, Hold::Room, WOKEN_AT_ONCE);
        }
        if let Some(client) = client.filter(|_| !self.soft.resting.is_empty()) {
            self.replay_may_go_on(client);
        }
    }

    /// Looks again at so many of those that something of their connection held up, in turn, as long as it does not. If some are left then,
    /// that goes on in the round of queues.
    pub(super) fn wake(&mut self, session: SessionId, hold: Hold, count: usize) {
        let mut next = self.first_to_wake(session, hold);
        for _ in 0..count {
            let Some(consumer) = next else { return };
            let Some(attached) = self.soft.sessions.get_mut(&session) else {
                return;
            };
            let first = attached.outranking(consumer);
            self.refresh((session, first));
            next = self.first_to_wake(session, hold);
        }
        if next.is_none() {
            return;
        }
        let place = self.soft.next_place;
        if let Some(attached) = self.soft.sessions.get_mut(&session)
            && !attached.rare.waking.contains_key(&hold)
        {
            attached.rare.change(|rare| rare.waking.insert(hold, place));
            self.soft.waking.insert(place, (session, hold));
            self.soft.next_place += 1;
        }
    }

    /// The next slice of that, when its turn has come.
    pub(super) fn go_on_waking(&mut self, place: u64) {
        let Some((session, hold)) = self.soft.waking.remove(&place) else {
            return;
        };
        if let Some(attached) = self.soft.sessions.get_mut(&session) {
            attached.rare.change(|rare| rare.waking.remove(&hold));
        }
        self.wake(session, hold, RECEIVERS_MAX);
    }

    /// The first of those that something of their connection held up, if it does no longer.
    fn first_to_wake(&self, session: SessionId, hold: Hold) -> Option<ConsumerId> {
        let attached = self.soft.sessions.get(&session)?;
        let group = |group: u32| attached.groups.get(&group);
        let holds = match hold {
            Hold::Room => attached.room_used >= self.config.outbox_bytes_max,
            Hold::Flow(of) => group(of).is_some_and(|group| !group.active),
            Hold::Window(of) => group(of).is_some_and(ConsumerGroup::is_full),
        };
        let mut waiting = attached.rare.waiting.range((hold, 0)..);
        let ((first, _), consumer) = waiting.next().filter(|_| !holds)?;
        (*first == hold).then_some(*consumer)
    }

    /// How many more deliveries credit and window allow; `None`: none at all for another reason.
    pub(crate) fn allowance(&self, receiver: Receiver) -> Option<u32> {
        let attached = self.soft.sessions.get(&receiver.0)?;
        let consumer = attached.consumers.get(&receiver.1)?;
        let soft = self.soft.queues.get(&consumer.queue)?;
        self.config
            .allowance(receiver, attached, consumer, soft.single)
    }

    /// Puts a consumer among the active ones of its queue, or takes it out.
    pub(crate) fn refresh(&mut self, receiver: Receiver) {
        let allowed = self.allowance(receiver).is_some();
        let Some(attached) = self.soft.sessions.get_mut(&receiver.0) else {
            return;
        };
        let Some(consumer) = attached.consumers.get(&receiver.1) else {
            return;
        };
        let hold = self
            .config
            .hold(attached.room_used, &attached.groups, consumer);
        attached.wait(receiver.1, hold);
        let Some(consumer) = attached.consumers.get_mut(&receiver.1) else {
            return;
        };
        let queue = consumer.queue;
        if allowed != consumer.active_at.is_some()
            && let Some(soft) = self.soft.queues.get_mut(&queue)
        {
            activate(
                allowed,
                (receiver, consumer),
                soft,
                &mut self.soft.next_place,
            );
        }
        self.touch(queue);
    }

    /// Puts a queue into the round, or takes it out.
    pub(crate) fn touch(&mut self, id: QueueId) {
        let Some(soft) = self.soft.queues.get(&id) else {
            return;
        };
        let idle = soft.active.is_empty() && soft.pulls.is_empty();
        if idle && soft.pump_at.is_none() {
            return;
        }
        let wanted = !idle
            && match &soft.reader {
                Some(reader) => self.reader_wants(reader),
                None => self.ready_in(id, soft) > 0 || soft.pulls.any_at_once(),
            };
        if wanted == soft.pump_at.is_some() {
            return;
        }
        let soft = self.soft.queues.get_mut(&id).expect("seen above");
        match (wanted, soft.pump_at) {
            (true, None) => {
                let place = self.soft.next_place;
                self.soft.next_place += 1;
                soft.pump_at = Some(place);
                self.soft.pump.insert(place, id);
            }
            (false, Some(place)) => {
                soft.pump_at = None;
                self.soft.pump.remove(&place);
            }
            _ => {}
        }
    }

    /// Sends a queue to the end of the round.
    pub(super) fn next_round(&mut self, id: QueueId) {
        self.rest(id);
        self.touch(id);
    }

    /// Nothing was delivered out of a queue in its turn. It leaves the round until something changes, unless it only had to be found
    /// out that consumers at the front of it may not receive.
    pub(super) fn rest_or_pass(&mut self, id: QueueId) {
        let mut found = 0;
        while found < RECEIVERS_MAX {
            let Some(soft) = self.soft.queues.get(&id) else {
                return;
            };
            let in_turn = self.in_turn(id, soft, RECEIVERS_MAX);
            let unable = in_turn.filter(|receiver| self.allowance(*receiver).is_none());
            let unable: SmallVec<[Receiver; 4]> = unable.collect();
            if unable.is_empty() {
                break;
            }
            found += unable.len();
            for receiver in unable {
                self.refresh(receiver);
            }
        }
        match found {
            0 => self.rest(id),
            // There may be more of them: others have their turns in between.
            RECEIVERS_MAX.. => self.next_round(id),
            _ => {}
        }
    }

    /// Takes a queue out of the round until something changes.
    pub(super) fn rest(&mut self, id: QueueId) {
        if let Some(soft) = self.soft.queues.get_mut(&id)
            && let Some(place) = soft.pump_at.take()
        {
            self.soft.pump.remove(&place);
        }
    }
}

/// A queue whose entries are handed out: looked up once for many of them.
pub(super) struct Hands<'a> {
    pub(super) queue: QueueId,
    pub(super) soft: &'a mut SoftQueue,
    pub(super) next_place: &'a mut u64,
    pub(super) config: &'a Config,
}

impl Hands<'_> {
    /// A delivery left for a receiver of that connection: room and credit are used, and it goes to the end of its round.
    /// `keeps`: the number that is out to it from now on. Whose window it counts in.
    pub(super) fn hand_out(
        &mut self,
        attached: &mut Attached,
        receiver: Receiver,
        bytes: u64,
        keeps: Option<u64>,
    ) -> Option<Credited> {
        // What is leased until a deadline is nobody's: its receiver's end changes nothing.
        if let Some(qseq) = keeps {
            attached.touched.get_or_default(self.queue).add(qseq);
        }
        attached.room_used += bytes;
        let consumer = attached.consumers.get_mut(&receiver.1)?;
        if let Credit::Exactly(left) = &mut consumer.credit {
            *left = left.saturating_sub(1);
        }
        let mut credited = None;
        if keeps.is_some() {
            credited = Some(Credited {
                place: consumer.place,
                group: consumer.group,
            });
            consumer.out += 1;
            if consumer.group != 0 {
                attached.groups.get_or_default(consumer.group).out += 1;
            }
        }
        if consumer.queue != self.queue {
            return credited;
        }
        // Who is alone is at the end of the round where it is.
        if let Some(at) = consumer.active_at
            && self.soft.active.len() > 1
        {
            self.soft.active.remove(&(Reverse(consumer.priority), at));
            consumer.active_at = None;
        }
        let single = self.soft.single;
        // Who is active and limited by no more than windows that are not full stays so.
        let is_open = match consumer.credit {
            Credit::Window(0) => {
                !consumer.through_client && consumer.out < self.config.unsettled_max
            }
            Credit::Window(window) => consumer.out < window,
            Credit::Settled | Credit::Exactly(_) => false,
        };
        debug_assert!(consumer.waits_for.is_none(), "who waits is not active");
        consumer.turn = *self.next_place;
        *self.next_place += 1;
        let hold = self
            .config
            .hold(attached.room_used, &attached.groups, consumer);
        let stays = is_open && consumer.active_at.is_some() && single.is_none() && hold.is_none();
        let config = self.config;
        let allowed = |attached: &Attached| {
            let consumer = attached.consumers.get(&receiver.1);
            consumer.is_some_and(|it| config.allowance(receiver, attached, it, single).is_some())
        };
        if stays {
            debug_assert!(allowed(attached), "who stays active may receive");
            return credited;
        }
        let allowed = allowed(attached);
        if hold.is_some() {
            attached.wait(receiver.1, hold);
        }
        let consumer = attached.consumers.get_mut(&receiver.1)?;
        activate(allowed, (receiver, consumer), self.soft, self.next_place);
        credited
    }
}

impl Config {
    /// What holds up a consumer that would hold up others of its connection too.
    fn hold(
        &self,
        room_used: u64,
        groups: &Few<u32, ConsumerGroup>,
        consumer: &Consumer,
    ) -> Option<Hold> {
        if room_used >= self.outbox_bytes_max {
            return Some(Hold::Room);
        }
        let group = groups.get(&consumer.group)?;
        if !group.active {
            return Some(Hold::Flow(consumer.group));
        }
        let is_counted = consumer.credit != Credit::Settled;
        (is_counted && group.is_full()).then_some(Hold::Window(consumer.group))
    }

    /// See [`Broker::allowance`]. `single`: the one that receives, of a queue with a single active consumer.
    pub(crate) fn allowance(
        &self,
        receiver: Receiver,
        attached: &Attached,
        consumer: &Consumer,
        single: Option<Receiver>,
    ) -> Option<u32> {
        if single.is_some_and(|single| single != receiver)
            || attached.room_used >= self.outbox_bytes_max
        {
            return None;
        }
        let own = match consumer.credit {
            Credit::Window(0) if consumer.through_client => attached
                .consumers
                .get(&ConsumerId::CLIENT)
                .map_or(u32::MAX, |client| match client.credit {
                    Credit::Window(window) => window.saturating_sub(consumer.out),
                    _ => u32::MAX,
                }),
            Credit::Settled => u32::MAX,
            // Each delivery that is out is remembered, so even a window without an end has one.
            Credit::Window(0) => self.unsettled_max.saturating_sub(consumer.out),
            Credit::Window(window) => window.saturating_sub(consumer.out),
            Credit::Exactly(left) => left,
        };
        let shared = match attached.groups.get(&consumer.group) {
            Some(group) if !group.active => 0,
            Some(group) if group.window != 0 && consumer.credit != Credit::Settled => {
                group.window.saturating_sub(group.out)
            }
            _ => u32::MAX,
        };
        let least = own.min(shared);
        (least > 0).then_some(least)
    }
}

/// Puts a consumer among the active ones of its queue, or takes it out.
fn activate(
    allowed: bool,
    (receiver, consumer): (Receiver, &mut Consumer),
    soft: &mut SoftQueue,
    next_place: &mut u64,
) {
    let priority = Reverse(consumer.priority);
    match (allowed, consumer.active_at) {
        (true, None) => {
            consumer.active_at = Some(*next_place);
            soft.active.insert((priority, *next_place), receiver);
            *next_place += 1;
        }
        (false, Some(at)) => {
            consumer.active_at = None;
            soft.active.remove(&(priority, at));
        }
        _ => {}
    }
}
