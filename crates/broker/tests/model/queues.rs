//! Queues in the plainest way: every entry in one list, every question answered by walking it.
//!
//! Nothing is indexed, cached or counted along: what is out is what says that it is out. The only thing remembered beside
//! the entries is whose turn it is.

use std::sync::Arc;

use bytes::Bytes;
use message::{Address, Message, Timestamp};
use session::{
    ConsumerId, Credit, Death, DeathReason, Delivery, Lease, Outcome, Overflow, Pull,
    QueueAttributes, QueueId, RefusalKind, SessionId, Settle, Subscribe, Token,
};

use super::{Model, routing::Routed};

/// How long a dedup id is remembered.
const DEDUP_MS: u64 = 5 * 60 * 1000;
/// Of one group of a FIFO queue, how many may be out.
const GROUP_WINDOW: usize = 10;

/// Who receives: a consumer of a session, or the session's pulls.
pub(crate) type Receiver = (SessionId, Option<ConsumerId>);

/// Where an entry is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Ready,
    Hidden(Timestamp),
    /// With a connection.
    Out {
        to: Receiver,
        group: u32,
    },
    /// With whoever knows its number, until then.
    Leased {
        holder: Option<Receiver>,
        until: Timestamp,
    },
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) arrival: u64,
    /// The number that the core gave it, once it was seen.
    pub(crate) qseq: Option<u64>,
    pub(crate) message: Arc<Message>,
    pub(crate) durable: bool,
    pub(crate) enqueued: Timestamp,
    /// Its own; the queue's comes on top.
    pub(crate) expiry: Option<Timestamp>,
    pub(crate) count: u32,
    pub(crate) deaths: Vec<Death>,
    pub(crate) readdressed: Option<Address>,
    pub(crate) place: Place,
    /// It came with the command that is being obeyed: a full queue drops what it had before.
    pub(crate) fresh: bool,
}

/// A queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) number: u64,
    pub(crate) id: Option<QueueId>,
    pub(crate) name: Bytes,
    pub(crate) durable: bool,
    pub(crate) owner: Option<SessionId>,
    pub(crate) auto_delete: bool,
    pub(crate) at: QueueAttributes,
    pub(crate) declaration: Option<Bytes>,
    pub(crate) entries: Vec<Entry>,
    /// Dedup ids with the time, and whether they survive a restart.
    pub(crate) seen: Vec<(Bytes, Timestamp, bool)>,
    /// Consumers that may receive, the next one first.
    pub(crate) turn: Vec<Receiver>,
    /// The one that receives, with a single active consumer.
    pub(crate) single: Option<Receiver>,
}

/// A consumer.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) session: SessionId,
    pub(crate) id: ConsumerId,
    pub(crate) queue: u64,
    pub(crate) credit: Credit,
    pub(crate) group: u32,
    pub(crate) priority: i32,
    pub(crate) exclusive: bool,
}

/// Consumers with something in common.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) session: SessionId,
    pub(crate) group: u32,
    pub(crate) window: u32,
    pub(crate) active: bool,
}

/// A message on its way into queues.
#[derive(Clone)]
pub(crate) struct Incoming {
    pub(crate) message: Arc<Message>,
    pub(crate) durable: bool,
    pub(crate) expiry: Option<Timestamp>,
    pub(crate) deaths: Vec<Death>,
    pub(crate) readdressed: Option<Address>,
}

/// What a queue did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Taken,
    Refused(RefusalKind),
    Duplicate,
    Discarded,
}

impl Entry {
    fn is_held(&self) -> bool {
        matches!(self.place, Place::Ready | Place::Hidden(_))
    }

    fn len(&self) -> u64 {
        self.message.body.len() as u64
    }

    fn group(&self) -> &[u8] {
        self.message.fields().group.as_deref().unwrap_or_default()
    }

    fn holder(&self) -> Option<Option<Receiver>> {
        match &self.place {
            Place::Ready | Place::Hidden(_) => None,
            Place::Out { to, .. } => Some(Some(*to)),
            Place::Leased { holder, .. } => Some(*holder),
        }
    }
}

impl Queue {
    /// Available messages.
    pub(crate) fn ready(&self) -> u64 {
        let ready = |entry: &&Entry| entry.place == Place::Ready;
        self.entries.iter().filter(ready).count() as u64
    }

    /// Available or delayed, and their bytes.
    fn held(&self) -> (u64, u64) {
        let held = self.entries.iter().filter(|entry| entry.is_held());
        (held.clone().count() as u64, held.map(Entry::len).sum())
    }

    fn is_over(&self, count: u64, bytes: u64) -> bool {
        self.at.length_max.is_some_and(|max| count > max)
            || self.at.bytes_max.is_some_and(|max| bytes > max)
    }

    fn priority(&self, entry: &Entry) -> u8 {
        self.at
            .priority_max
            .map_or(0, |max| entry.message.priority.unwrap_or_default().min(max))
    }

    /// The next entry in the order of delivery among those.
    fn first(&self, among: impl Fn(&Entry) -> bool) -> Option<usize> {
        (0..self.entries.len())
            .filter(|at| among(&self.entries[*at]))
            .min_by_key(|at| {
                let entry = &self.entries[*at];
                (std::cmp::Reverse(self.priority(entry)), entry.arrival)
            })
    }

    /// What that receiver would be given next.
    fn next_for(&self, receiver: Receiver) -> Option<usize> {
        if self.at.fifo.is_none() {
            return self.first(|entry| entry.place == Place::Ready);
        }
        self.first(|entry| {
            let mates = self
                .entries
                .iter()
                .filter(|other| other.group() == entry.group());
            let holders: Vec<_> = mates.filter_map(Entry::holder).collect();
            entry.place == Place::Ready
                && holders.iter().all(|holder| *holder == Some(receiver))
                && holders.len() < GROUP_WINDOW
        })
    }

    /// What makes room when the queue is full: the head, or what is delayed longest.
    fn head(&self) -> Option<usize> {
        let delayed = |entry: &Entry| entry.is_held() && !entry.fresh;
        self.first(|entry| entry.place == Place::Ready && !entry.fresh)
            .or_else(|| self.entries.iter().position(delayed))
    }

    /// When an entry's time is over, and whether it is dead-lettered then.
    fn ends(&self, entry: &Entry) -> Option<(Timestamp, bool)> {
        let own = entry.expiry.map(|at| (at, true));
        let ttl = self.at.ttl_ms.map(|ms| (entry.enqueued.plus_ms(ms), true));
        let kept = self.at.retention_ms;
        let kept = kept.map(|ms| (entry.enqueued.plus_ms(ms), false));
        [kept, own, ttl]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }
}

impl Model {
    pub(crate) fn queue(&mut self, number: u64) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.number == number)
    }

    pub(crate) fn queue_ref(&self, number: u64) -> &Queue {
        self.queues
            .iter()
            .find(|queue| queue.number == number)
            .expect("the model keeps its numbers")
    }

    pub(crate) fn named(&self, name: &[u8]) -> Option<u64> {
        let found = self.queues.iter().find(|queue| queue.name == name);
        found.map(|queue| queue.number)
    }

    pub(crate) fn make_queue(&mut self, name: &Bytes) -> u64 {
        self.next_number += 1;
        self.queues.push(Queue {
            number: self.next_number,
            id: None,
            name: name.clone(),
            durable: true,
            owner: None,
            auto_delete: false,
            at: QueueAttributes::default(),
            declaration: None,
            entries: Vec::new(),
            seen: Vec::new(),
            turn: Vec::new(),
            single: None,
        });
        self.next_number
    }

    /// Queues in the order of their making, durable ones first.
    pub(crate) fn in_order(&self, mut numbers: Vec<u64>) -> Vec<u64> {
        numbers.sort_by_key(|number| (!self.queue_ref(*number).durable, *number));
        numbers.dedup();
        numbers
    }

    // ---- messages come

    pub(crate) fn admit(&mut self, number: u64, incoming: &Incoming) -> Admission {
        let now = self.now;
        let message = &incoming.message;
        let len = message.body.len() as u64;
        let queue = self.queue(number).expect("routed to an existing queue");
        let durable = queue.durable && incoming.durable;
        if queue.at.message_len_max.is_some_and(|max| len > max) {
            return Admission::Refused(RefusalKind::TooLarge);
        }
        let mut dedup = None;
        if queue.at.deduplicate || queue.at.fifo.is_some() {
            let fields = message.fields();
            dedup = fields.dedup_id.as_ref().map(|id| {
                let per_group = queue.at.fifo.is_some_and(|fifo| fifo.dedup_per_group);
                let group = fields.group.as_deref().filter(|_| per_group);
                Bytes::from([group.unwrap_or_default(), b"/", id].concat())
            });
            let known = |(seen, at, _): &(Bytes, Timestamp, bool)| {
                Some(seen) == dedup.as_ref() && now < at.plus_ms(DEDUP_MS)
            };
            if queue.seen.iter().any(known) {
                return Admission::Duplicate;
            }
        }
        let (count, bytes) = queue.held();
        if queue.is_over(count + 1, bytes + len) {
            if queue.at.overflow != Overflow::DropHead {
                return Admission::Refused(RefusalKind::QueueFull);
            }
            if queue.is_over(1, len) {
                return Admission::Discarded;
            }
            self.drop_heads(number, len);
        }
        self.next_arrival += 1;
        let arrival = self.next_arrival;
        let queue = self.queue(number).expect("it is still there");
        if let Some(id) = dedup {
            queue.seen.push((id, now, durable));
        }
        let delay = if message.delay_ms > 0 {
            message.delay_ms
        } else {
            queue.at.delay_ms
        };
        let place = if delay > 0 && incoming.deaths.is_empty() {
            Place::Hidden(now.plus_ms(delay))
        } else {
            Place::Ready
        };
        queue.entries.push(Entry {
            arrival,
            qseq: None,
            message: Arc::clone(message),
            durable,
            enqueued: now,
            expiry: incoming.expiry,
            count: 0,
            deaths: incoming.deaths.clone(),
            readdressed: incoming.readdressed.clone(),
            place,
            fresh: true,
        });
        Admission::Taken
    }

    fn drop_heads(&mut self, number: u64, len: u64) {
        loop {
            let queue = self.queue_ref(number);
            let (count, bytes) = queue.held();
            if !queue.is_over(count + 1, bytes + len) {
                return;
            }
            let Some(head) = queue.head() else { return };
            let arrival = queue.entries[head].arrival;
            self.dead_letter(number, arrival, DeathReason::MaxLen);
        }
    }

    // ---- messages leave

    fn remove(&mut self, number: u64, arrival: u64) -> Option<Entry> {
        let entries = &mut self.queue(number)?.entries;
        let at = entries.iter().position(|entry| entry.arrival == arrival)?;
        let entry = entries.remove(at);
        self.refresh();
        Some(entry)
    }

    /// Where dead letters of that reason go, and with which history.
    fn dead_letter_route(
        &self,
        number: u64,
        reason: DeathReason,
        incoming: &Incoming,
        ttl_ms: Option<u64>,
    ) -> Option<(Routed, Incoming)> {
        let queue = self.queue_ref(number);
        let own = incoming
            .readdressed
            .as_ref()
            .unwrap_or(&incoming.message.address);
        let (exchange, key) = super::routing::exchange_and_key(own);
        let mut deaths = incoming.deaths.clone();
        let line = |death: &Death| death.queue == queue.name && death.reason == reason;
        let known = deaths.iter().position(line);
        let mut death = known.map_or_else(
            || Death {
                queue: queue.name.clone(),
                reason,
                count: 0,
                time: self.now,
                exchange,
                key: key.clone(),
                original_ttl_ms: ttl_ms,
            },
            |at| deaths.remove(at),
        );
        death.count += 1;
        deaths.insert(0, death);

        // DOORS 14: the target is chosen by reason.
        let redrive = queue.at.redrive.as_ref();
        let redrive = redrive.filter(|_| match reason {
            DeathReason::Deliveries => true,
            DeathReason::Rejected => queue.at.dead_letter.is_none(),
            _ => false,
        });
        let redrive =
            redrive.and_then(|redrive| Some((self.named(&redrive.target)?, &redrive.target)));
        let (routed, address) = if let Some((target, name)) = redrive {
            let routed = Routed {
                queues: vec![target],
                ..Routed::default()
            };
            (routed, Address::queue(own.vhost, name.clone()))
        } else {
            let dead_letter = queue.at.dead_letter.as_ref()?;
            let mut keys = vec![dead_letter.key.clone().unwrap_or(key)];
            let first = keys[0].clone();
            if dead_letter.key.is_none() {
                keys.extend(incoming.message.fields().carbon_copies.iter().cloned());
            }
            let routed = self.route(&dead_letter.exchange, &keys, &incoming.message, None)?;
            let address = super::routing::address_of(own.vhost, &dead_letter.exchange, first);
            (routed, address)
        };
        let again = Incoming {
            // It does not expire again by its own time to live.
            expiry: None,
            deaths,
            readdressed: Some(address),
            ..incoming.clone()
        };
        Some((routed, again))
    }

    /// An entry leaves its queue for that reason: into its dead-letter targets, or for good.
    pub(crate) fn dead_letter(&mut self, number: u64, arrival: u64, reason: DeathReason) {
        let Some(entry) = self.remove(number, arrival) else {
            return;
        };
        let incoming = Incoming {
            message: Arc::clone(&entry.message),
            durable: entry.durable,
            expiry: None,
            deaths: entry.deaths.clone(),
            readdressed: entry.readdressed.clone(),
        };
        let ttl = entry.expiry.map(|expiry| expiry.since(entry.enqueued));
        let Some((routed, again)) = self.dead_letter_route(number, reason, &incoming, ttl) else {
            return;
        };
        for target in self.in_order(routed.queues.clone()) {
            if !self.is_cycle(target, &again.deaths) {
                self.admit(target, &again);
            }
        }
        self.admit_clients(&routed, &again);
    }

    /// A dead letter that was in that queue before, and that nobody has rejected since.
    fn is_cycle(&self, number: u64, deaths: &[Death]) -> bool {
        let name = &self.queue_ref(number).name;
        let Some(at) = deaths.iter().position(|death| death.queue == name) else {
            return false;
        };
        let rejected = |death: &Death| death.reason == DeathReason::Rejected;
        !deaths[..=at].iter().any(rejected)
    }

    /// A full queue refused a message: it goes where the queue's dead letters go, unless that queue has it already.
    pub(crate) fn dead_letter_refused(
        &mut self,
        number: u64,
        incoming: &Incoming,
        taken: &mut Vec<u64>,
    ) {
        let ttl = incoming.expiry.map(|expiry| expiry.since(self.now));
        let route = self.dead_letter_route(number, DeathReason::MaxLen, incoming, ttl);
        let Some((routed, again)) = route else {
            return;
        };
        for target in self.in_order(routed.queues) {
            if target != number
                && !taken.contains(&target)
                && self.admit(target, &again) == Admission::Taken
            {
                taken.push(target);
            }
        }
    }

    // ---- whose turn it is

    /// Whether a consumer may be given more.
    fn may_receive(&self, consumer: &Consumer) -> bool {
        let receiver = (consumer.session, Some(consumer.id));
        let queue = self.queue_ref(consumer.queue);
        if queue.at.single_active_consumer && queue.single != Some(receiver) {
            return false;
        }
        let out = |counts: &dyn Fn(Receiver, u32) -> bool| {
            let entries = self.queues.iter().flat_map(|queue| &queue.entries);
            entries
                .filter(
                    |entry| matches!(&entry.place, Place::Out { to, group } if counts(*to, *group)),
                )
                .count() as u32
        };
        let own = match consumer.credit {
            Credit::Window(0) | Credit::Settled => true,
            Credit::Window(window) => out(&|to, _| to == receiver) < window,
            Credit::Exactly(left) => left > 0,
        };
        let shared = self
            .shared
            .iter()
            .find(|shared| shared.session == consumer.session && shared.group == consumer.group);
        let together = shared.is_none_or(|shared| {
            shared.active
                && (shared.window == 0
                    || consumer.credit == Credit::Settled
                    || out(&|to, group| {
                        to.0 == consumer.session && to.1.is_some() && group == shared.group
                    }) < shared.window)
        });
        own && together
    }

    /// Brings every queue's turn up to date: who may not receive any more leaves it, who may again joins its end.
    pub(crate) fn refresh(&mut self) {
        for at in 0..self.queues.len() {
            let (number, single) = (self.queues[at].number, self.queues[at].single);
            let mine = |consumer: &&Consumer| consumer.queue == number;
            let there = |receiver: Receiver| {
                self.consumers
                    .iter()
                    .filter(mine)
                    .any(|c| (c.session, Some(c.id)) == receiver)
            };
            if self.queues[at].at.single_active_consumer && !single.is_some_and(there) {
                // The highest priority, then who came first.
                let best = self.consumers.iter().filter(mine).rev();
                let best = best.max_by_key(|consumer| consumer.priority);
                self.queues[at].single = best.map(|c| (c.session, Some(c.id)));
            }
        }
        let mut consumers: Vec<&Consumer> = self.consumers.iter().collect();
        consumers.sort_by_key(|consumer| (consumer.session, consumer.id));
        let allowed: Vec<(u64, Receiver)> = consumers
            .iter()
            .filter(|consumer| self.may_receive(consumer))
            .map(|consumer| (consumer.queue, (consumer.session, Some(consumer.id))))
            .collect();
        for queue in &mut self.queues {
            let number = queue.number;
            queue
                .turn
                .retain(|receiver| allowed.contains(&(number, *receiver)));
            for (_, receiver) in allowed.iter().filter(|(of, _)| *of == number) {
                if !queue.turn.contains(receiver) {
                    queue.turn.push(*receiver);
                }
            }
        }
    }

    fn priority_of(&self, receiver: Receiver) -> i32 {
        self.consumers
            .iter()
            .find(|c| (c.session, Some(c.id)) == receiver)
            .map_or(0, |consumer| consumer.priority)
    }

    /// Who is next in a queue, and what they get. What has been delivered too often is dead-lettered on the way.
    fn next_delivery(&mut self, number: u64) -> Option<(Receiver, u64)> {
        loop {
            let queue = self.queue_ref(number);
            let mut turn = queue.turn.clone();
            turn.sort_by_key(|receiver| std::cmp::Reverse(self.priority_of(*receiver)));
            let (receiver, at) = turn
                .iter()
                .find_map(|receiver| Some((*receiver, queue.next_for(*receiver)?)))?;
            let entry = &queue.entries[at];
            let (arrival, count) = (entry.arrival, entry.count);
            if queue.at.deliveries_max.is_some_and(|max| count >= max) {
                self.dead_letter(number, arrival, DeathReason::Deliveries);
                continue;
            }
            return Some((receiver, arrival));
        }
    }

    /// The core delivered: it must be what the model would have delivered next from that queue.
    pub(crate) fn delivered(&mut self, to: SessionId, delivery: &Delivery) -> Result<(), String> {
        let receiver = (to, Some(delivery.consumer));
        let consumer = self
            .consumers
            .iter()
            .find(|c| (c.session, Some(c.id)) == receiver)
            .ok_or_else(|| format!("a delivery to nobody: {delivery:?}"))?
            .clone();
        let number = consumer.queue;
        let shown = |arrival: u64, model: &Self| {
            let queue = model.queue_ref(number);
            let entry = queue.entries.iter().find(|e| e.arrival == arrival);
            entry.map(|entry| String::from_utf8_lossy(&entry.message.body).into_owned())
        };
        let body = String::from_utf8_lossy(&delivery.message.body).into_owned();
        let mut next = self.next_delivery(number);
        if let Some((who, arrival)) = next
            && self.came_together(number, arrival, &delivery.message)
        {
            next = self
                .next_delivery(number)
                .filter(|(other, _)| *other == who);
        }
        let expected = next.map(|(who, arrival)| (who, shown(arrival, self)));
        if expected != Some((receiver, Some(body.clone()))) {
            return Err(format!(
                "delivered {body} to {receiver:?}, not {expected:?}"
            ));
        }
        let (_, arrival) = next.expect("compared above");
        let settled = consumer.credit == Credit::Settled;
        self.check_shown(number, arrival, delivery, settled)?;
        self.hand_out(number, arrival, receiver, consumer.group, settled);
        Ok(())
    }

    /// A dead letter whose message must be fetched first comes behind what else the same command puts into a queue. When
    /// the core delivers another message of that very command first, the two change places.
    fn came_together(&mut self, number: u64, arrival: u64, message: &Message) -> bool {
        let Some(queue) = self.queue(number) else {
            return false;
        };
        let entries = &mut queue.entries;
        let first = entries.iter().position(|e| e.arrival == arrival);
        let shown = |e: &Entry| e.place == Place::Ready && *e.message == *message;
        let other = entries.iter().position(shown);
        let (Some(first), Some(other)) = (first, other) else {
            return false;
        };
        let dead = !entries[first].deaths.is_empty() || !entries[other].deaths.is_empty();
        if first == other || !dead || entries[first].enqueued != entries[other].enqueued {
            return false;
        }
        let kept = entries[other].arrival;
        entries[other].arrival = arrival;
        entries[first].arrival = kept;
        entries.sort_by_key(|entry| entry.arrival);
        true
    }

    /// Compares how a delivery is shown with the entry that it is of, and learns its number.
    pub(crate) fn check_shown(
        &mut self,
        number: u64,
        arrival: u64,
        delivery: &Delivery,
        settled: bool,
    ) -> Result<(), String> {
        let queue = self.queue(number).expect("delivered from it");
        let entry = queue
            .entries
            .iter_mut()
            .find(|entry| entry.arrival == arrival)
            .expect("chosen above");
        let mut wrong = Vec::new();
        let mut check = |what: &str, equal: bool| {
            if !equal {
                wrong.push(what.to_owned());
            }
        };
        check("count", delivery.count == entry.count + 1);
        check("redelivered", delivery.redelivered == (entry.count > 0));
        check("message", *delivery.message == *entry.message);
        check("enqueued", delivery.enqueued == entry.enqueued);
        let deaths = delivery.deaths.as_deref().cloned().unwrap_or_default();
        check("deaths", deaths == entry.deaths);
        let readdressed = delivery.readdressed.as_deref();
        check("readdressed", readdressed == entry.readdressed.as_ref());
        check("settled", delivery.id.is_none() == settled);
        if let Some(id) = delivery.id {
            check("number", entry.qseq.is_none_or(|qseq| qseq == id.qseq));
            check("queue", queue.id.is_none_or(|known| known == id.queue));
            entry.qseq = Some(id.qseq);
            queue.id = Some(id.queue);
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("{wrong:?} of {delivery:?}, expected {entry:?}"))
    }

    fn hand_out(
        &mut self,
        number: u64,
        arrival: u64,
        receiver: Receiver,
        group: u32,
        settled: bool,
    ) {
        if let Some(consumer) = self
            .consumers
            .iter_mut()
            .find(|c| (c.session, Some(c.id)) == receiver)
            && let Credit::Exactly(left) = &mut consumer.credit
        {
            *left -= 1;
        }
        let queue = self.queue(number).expect("delivered from it");
        queue.turn.retain(|other| *other != receiver);
        let at = queue.entries.iter().position(|e| e.arrival == arrival);
        let entry = &mut queue.entries[at.expect("chosen above")];
        entry.count += 1;
        entry.place = Place::Out {
            to: receiver,
            group,
        };
        if settled {
            self.remove(number, arrival);
        }
        self.refresh();
    }

    /// Nothing may be left that somebody could have been given.
    pub(crate) fn quiet(&mut self) -> Result<(), String> {
        let numbers: Vec<u64> = self.queues.iter().map(|queue| queue.number).collect();
        for number in numbers {
            if let Some((receiver, arrival)) = self.next_delivery(number) {
                let queue = self.queue_ref(number);
                let entry = queue.entries.iter().find(|e| e.arrival == arrival);
                return Err(format!("{receiver:?} should have been given {entry:?}"));
            }
        }
        Ok(())
    }

    // ---- what connections do

    pub(crate) fn consume(
        &mut self,
        from: SessionId,
        subscribe: &Subscribe,
    ) -> Result<(), RefusalKind> {
        let session::Source::Queue { name, create } = &subscribe.source else {
            return Err(RefusalKind::InvalidArgument);
        };
        let number = match self.named(name) {
            Some(number) => number,
            None if *create => self.make_queue(name),
            None => return Err(RefusalKind::NotFound),
        };
        self.check_owner(number, from)?;
        let mut others = self.consumers.iter().filter(|c| c.queue == number);
        if others.clone().count() > 0 && (subscribe.exclusive || others.any(|c| c.exclusive)) {
            return Err(RefusalKind::InUse);
        }
        let same = |c: &Consumer| c.session == from && c.id == subscribe.consumer;
        if self.consumers.iter().any(same) {
            return Err(RefusalKind::InvalidArgument);
        }
        self.consumers.push(Consumer {
            session: from,
            id: subscribe.consumer,
            queue: number,
            credit: subscribe.credit,
            group: subscribe.group,
            priority: subscribe.priority,
            exclusive: subscribe.exclusive,
        });
        self.refresh();
        Ok(())
    }

    pub(crate) fn check_owner(&self, number: u64, from: SessionId) -> Result<(), RefusalKind> {
        match self.queue_ref(number).owner {
            Some(owner) if owner != from => Err(RefusalKind::Locked),
            _ => Ok(()),
        }
    }

    /// A consumer goes; with the last one its queue, if it is to.
    pub(crate) fn consumer_goes(&mut self, session: SessionId, id: ConsumerId) -> bool {
        let same = |c: &Consumer| c.session == session && c.id == id;
        let Some(at) = self.consumers.iter().position(same) else {
            return false;
        };
        let number = self.consumers.remove(at).queue;
        let unused = !self.consumers.iter().any(|c| c.queue == number);
        if unused && self.queue_ref(number).auto_delete {
            self.delete_queue(number);
        }
        self.refresh();
        true
    }

    pub(crate) fn delete_queue(&mut self, number: u64) {
        let gone: Vec<Consumer> = self
            .consumers
            .iter()
            .filter(|c| c.queue == number)
            .cloned()
            .collect();
        self.consumers.retain(|c| c.queue != number);
        for consumer in gone {
            self.say(consumer.session, format!("{:?} cancelled", consumer.id));
        }
        self.queues.retain(|queue| queue.number != number);
        self.unbind_queue(number);
        self.refresh();
    }

    /// Settles, and says how many deliveries were known.
    pub(crate) fn settle(&mut self, from: SessionId, settle: &Settle) -> u32 {
        let id = Some(settle.deliveries.queue);
        let Some(queue) = self.queues.iter().find(|queue| queue.id == id) else {
            return 0;
        };
        let number = queue.number;
        let max = queue.at.deliveries_max;
        let mut named: Vec<(u64, u64)> = queue
            .entries
            .iter()
            .filter(|entry| match &entry.place {
                Place::Ready | Place::Hidden(_) => false,
                Place::Out { to, .. } => to.0 == from,
                Place::Leased { .. } => true,
            })
            .filter_map(|entry| Some((entry.qseq?, entry.arrival)))
            .filter(|(qseq, _)| {
                let mut ranges = settle.deliveries.ranges.iter();
                ranges.any(|(first, last)| (first..=last).contains(&qseq))
            })
            .collect();
        named.sort_unstable();
        let now = self.now;
        for (_, arrival) in &named {
            let queue = self.queue(number).expect("seen above");
            let entries = &mut queue.entries;
            let entry = entries.iter_mut().find(|e| e.arrival == *arrival);
            let Some(entry) = entry else { continue };
            let spent = max.is_some_and(|max| entry.count >= max);
            match settle.outcome {
                Outcome::Accept => drop(self.remove(number, *arrival)),
                Outcome::Reject => self.dead_letter(number, *arrival, DeathReason::Rejected),
                Outcome::Release | Outcome::ReleaseAfterMs(_) if spent => {
                    self.dead_letter(number, *arrival, DeathReason::Deliveries);
                }
                Outcome::Release => entry.place = Place::Ready,
                Outcome::ReleaseAfterMs(ms) => {
                    entry.place = Place::Hidden(now.plus_ms(ms));
                }
                Outcome::Received => {}
            }
            self.refresh();
        }
        named.len() as u32
    }

    pub(crate) fn pull(&mut self, from: SessionId, pull: &Pull) {
        let token = pull.token;
        let refused = |kind: RefusalKind| format!("{token:?} refused {kind:?}");
        let Some(number) = self.named(&pull.queue) else {
            return self.say(from, refused(RefusalKind::NotFound));
        };
        if let Err(kind) = self.check_owner(number, from) {
            return self.say(from, refused(kind));
        }
        self.pulled.clear();
        let mut taken = Vec::new();
        let receiver = (from, None);
        let fifo = self.queue_ref(number).at.fifo.is_some();
        let count = if fifo { 1 } else { pull.count.max(1) as usize };
        while taken.len() < count {
            let queue = self.queue_ref(number);
            let Some(at) = queue.next_for(receiver) else {
                break;
            };
            let entry = queue.entries[at].clone();
            if queue
                .at
                .deliveries_max
                .is_some_and(|max| entry.count >= max)
            {
                self.dead_letter(number, entry.arrival, DeathReason::Deliveries);
                if fifo {
                    break;
                }
                continue;
            }
            let body = String::from_utf8_lossy(&entry.message.body).into_owned();
            taken.push(format!("{body} {}", entry.count + 1));
            self.pulled.push((number, entry.arrival));
            match pull.lease {
                Lease::Connection => self.hand_out(number, entry.arrival, receiver, 0, false),
                Lease::Settled => self.hand_out(number, entry.arrival, receiver, 0, true),
                Lease::Ms(ms) => {
                    self.hand_out(number, entry.arrival, receiver, 0, false);
                    let until = self.now.plus_ms(ms);
                    let queue = self.queue(number).expect("seen above");
                    let entry = queue
                        .entries
                        .iter_mut()
                        .find(|e| e.arrival == entry.arrival);
                    entry.expect("taken above").place = Place::Leased {
                        holder: Some(receiver),
                        until,
                    };
                }
            }
            self.refresh();
        }
        let remaining = self.queue_ref(number).ready();
        self.say(from, pulled(token, &taken, remaining));
    }

    /// The core's numbers of what the last pull took.
    pub(crate) fn learn_pulled(&mut self, deliveries: &[Delivery]) {
        for ((number, arrival), delivery) in self.pulled.clone().into_iter().zip(deliveries) {
            let (Some(id), Some(queue)) = (delivery.id, self.queue(number)) else {
                continue;
            };
            queue.id = Some(id.queue);
            let entry = queue.entries.iter_mut().find(|e| e.arrival == arrival);
            if let Some(entry) = entry {
                entry.qseq = Some(id.qseq);
            }
        }
    }

    /// What is out to a connection that goes is available again, unless it was delivered too often.
    pub(crate) fn release_all(&mut self, session: SessionId) {
        for number in self.in_order(self.queues.iter().map(|queue| queue.number).collect()) {
            let queue = self.queue_ref(number);
            let max = queue.at.deliveries_max;
            let mine: Vec<(u64, bool)> = queue
                .entries
                .iter()
                .filter(|e| matches!(&e.place, Place::Out { to, .. } if to.0 == session))
                .map(|e| (e.arrival, max.is_some_and(|max| e.count >= max)))
                .collect();
            for (arrival, spent) in mine {
                if spent {
                    self.dead_letter(number, arrival, DeathReason::Deliveries);
                } else if let Some(queue) = self.queue(number) {
                    let mut entries = queue.entries.iter_mut();
                    let entry = entries.find(|e| e.arrival == arrival);
                    entry.expect("listed above").place = Place::Ready;
                }
            }
        }
    }

    // ---- time

    /// When something is due in a queue: when, what (ends of delays and leases first), where.
    pub(crate) fn due_in_queues(&self) -> Option<(Timestamp, u8, u64, u64)> {
        let mut first = None;
        let mut note = |due: (Timestamp, u8, (bool, u64), u64)| {
            if first.is_none_or(|first| due < first) {
                first = Some(due);
            }
        };
        for queue in &self.queues {
            let place = (!queue.durable, queue.number);
            for entry in &queue.entries {
                match entry.place {
                    Place::Hidden(until) | Place::Leased { until, .. } => {
                        note((until, 0, place, entry.arrival));
                    }
                    _ => {}
                }
                if entry.is_held()
                    && let Some((at, _)) = queue.ends(entry)
                {
                    note((at, 1, place, entry.arrival));
                }
            }
        }
        first.map(|(at, what, (_, number), arrival)| (at, what, number, arrival))
    }

    /// Does what is due in a queue.
    pub(crate) fn happen_in_queue(&mut self, what: u8, number: u64, arrival: u64) {
        let queue = self.queue_ref(number);
        let max = queue.at.deliveries_max;
        let entry = queue.entries.iter().find(|e| e.arrival == arrival);
        let entry = entry.expect("it is due").clone();
        if what == 1 {
            match queue.ends(&entry) {
                Some((_, false)) => drop(self.remove(number, arrival)),
                _ => self.dead_letter(number, arrival, DeathReason::Expired),
            }
            return;
        }
        let leased = matches!(entry.place, Place::Leased { .. });
        if leased && max.is_some_and(|max| entry.count >= max) {
            return self.dead_letter(number, arrival, DeathReason::Deliveries);
        }
        let queue = self.queue(number).expect("it is due");
        let entry = queue.entries.iter_mut().find(|e| e.arrival == arrival);
        entry.expect("it is due").place = Place::Ready;
    }

    /// The process was killed: what was in memory only is gone, what was out to connections is available.
    pub(crate) fn restart_queues(&mut self) {
        self.consumers.clear();
        self.shared.clear();
        self.queues.retain(|queue| queue.durable);
        for queue in &mut self.queues {
            queue.turn.clear();
            queue.single = None;
            queue.seen.retain(|(_, _, durable)| *durable);
            queue.entries.retain(|entry| entry.durable);
            for entry in &mut queue.entries {
                match &mut entry.place {
                    Place::Out { .. } => entry.place = Place::Ready,
                    Place::Leased { holder, .. } => *holder = None,
                    _ => {}
                }
            }
        }
    }
}

/// How a pull's answer is told.
pub(crate) fn pulled(token: Token, taken: &[String], remaining: u64) -> String {
    format!("{token:?} pulled {taken:?}, {remaining} remain")
}
