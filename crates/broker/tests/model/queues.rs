//! Queues in the plainest way: every entry in one list, every question answered by walking it.
//!
//! Nothing is indexed, cached or counted along: what is out is what says that it is out. The only thing remembered beside
//! the entries is whose turn it is.

use std::sync::Arc;

use bytes::Bytes;
use message::{Address, Message, Timestamp};
use session::{
    ConsumerId, Credit, Death, DeathReason, Overflow, QueueAttributes, QueueId, RefusalKind,
    SessionId,
};

use super::{Model, routing::Routed};

/// How long a dedup id is remembered.
const DEDUP_MS: u64 = 5 * 60 * 1000;
/// Of one group of a FIFO queue, how many may be out.
const GROUP_WINDOW: usize = 10;
/// How far dead letters are followed from one full queue into the next at once.
const DEPTH_MAX: u32 = 2;

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
    /// With a client session that owns it and is away.
    Received,
}

/// How an entry came with the command that is being obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fresh {
    /// It was there before.
    No,
    /// With the publish or the dead letter at hand: nothing that this one drops is dropped for its own sake.
    AtHand,
    /// With an earlier publish of the same transaction, or instead of it.
    Published,
    /// As a dead letter.
    Died,
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
    /// When it entered the plain queue that it was redriven out of.
    pub(crate) sent: Option<Timestamp>,
    /// Its own; the queue's comes on top.
    pub(crate) expiry: Option<Timestamp>,
    pub(crate) count: u32,
    pub(crate) deaths: Vec<Death>,
    pub(crate) readdressed: Option<Address>,
    pub(crate) place: Place,
    /// How it came with the command that is being obeyed.
    pub(crate) fresh: Fresh,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) identifiers: Vec<u32>,
    /// Its receiver owns it.
    pub(crate) received: bool,
    /// Its message has not been out of memory since it was published.
    pub(crate) resident: bool,
}

/// A queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) number: u64,
    pub(crate) id: Option<QueueId>,
    pub(crate) name: Bytes,
    /// A client session's own.
    pub(crate) of_client: bool,
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
    pub(crate) resident: bool,
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
        self.message.group.as_deref().unwrap_or_default()
    }

    pub(crate) fn sent(&self) -> Timestamp {
        self.sent.unwrap_or(self.enqueued)
    }

    fn holder(&self) -> Option<Option<Receiver>> {
        match &self.place {
            Place::Ready | Place::Hidden(_) => None,
            Place::Out { to, .. } => Some(Some(*to)),
            Place::Leased { holder, .. } => Some(*holder),
            Place::Received => Some(None),
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
    pub(crate) fn first(&self, among: impl Fn(&Entry) -> bool) -> Option<usize> {
        (0..self.entries.len())
            .filter(|at| among(&self.entries[*at]))
            .min_by_key(|at| {
                let entry = &self.entries[*at];
                (std::cmp::Reverse(self.priority(entry)), entry.arrival)
            })
    }

    /// What that receiver would be given next.
    pub(crate) fn next_for(&self, receiver: Receiver) -> Option<usize> {
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

    /// Arrivals of the ready entries of groups that nobody holds any of, group by group.
    pub(crate) fn free_runs(&self) -> Vec<u64> {
        let mut groups = Vec::new();
        for entry in &self.entries {
            if entry.place == Place::Ready && !groups.contains(&entry.group()) {
                groups.push(entry.group());
            }
        }
        let mut runs = Vec::new();
        for group in groups {
            let mates = self.entries.iter().filter(|entry| entry.group() == group);
            if mates.clone().all(|entry| entry.holder().is_none()) {
                let ready = mates.filter(|entry| entry.place == Place::Ready);
                runs.extend(ready.map(|entry| entry.arrival));
            }
        }
        runs
    }

    /// What makes room when the queue is full: the head, or what is delayed longest.
    fn head(&self) -> Option<usize> {
        let may = |entry: &Entry| entry.is_held() && entry.fresh != Fresh::AtHand;
        let delayed = |fresh: bool| {
            let of = move |entry: &Entry| may(entry) && (entry.fresh != Fresh::No) == fresh;
            self.entries.iter().position(of)
        };
        self.first(|entry| entry.place == Place::Ready && may(entry))
            .or_else(|| delayed(false))
            .or_else(|| delayed(true))
    }

    /// When an entry's time is over, and whether it is dead-lettered then.
    fn ends(&self, entry: &Entry) -> Option<(Timestamp, bool)> {
        // What a client was sent once it is sent again, however late.
        let sent = self.of_client && entry.count > 0;
        let own = entry.expiry.filter(|_| !sent).map(|at| (at, true));
        let ttl = self.at.ttl_ms.map(|ms| (entry.enqueued.plus_ms(ms), true));
        let kept = self.at.retention_ms;
        let kept = kept.map(|ms| (entry.sent().plus_ms(ms), false));
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
        let named = |queue: &&Queue| queue.name == name && !name.is_empty();
        let found = self.queues.iter().find(named);
        found.map(|queue| queue.number)
    }

    pub(crate) fn make_queue(&mut self, name: &Bytes) -> u64 {
        self.next_number += 1;
        self.queues.push(Queue {
            number: self.next_number,
            id: None,
            name: name.clone(),
            of_client: false,
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
                let group = message.group.as_deref().filter(|_| per_group);
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
        let delay = match message.delay_ms {
            0 => queue.at.delay_ms,
            Message::AT_ONCE => 0,
            delay => delay,
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
            sent: None,
            expiry: incoming.expiry,
            count: 0,
            deaths: incoming.deaths.clone(),
            readdressed: incoming.readdressed.clone(),
            place,
            fresh: Fresh::AtHand,
            qos: message.qos,
            retain: false,
            identifiers: Vec::new(),
            received: false,
            resident: incoming.resident,
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
            let (arrival, fresh) = (queue.entries[head].arrival, queue.entries[head].fresh);
            match fresh {
                Fresh::Published if self.depth == 0 => self.leave_out(number, arrival),
                _ => self.dead_letter(number, arrival, DeathReason::MaxLen),
            }
        }
    }

    /// What an earlier publish of the transaction put there leaves at once, for where the dead letters of the queue go.
    fn leave_out(&mut self, number: u64, arrival: u64) {
        let Some(entry) = self.remove(number, arrival) else {
            return;
        };
        let incoming = Incoming {
            message: Arc::clone(&entry.message),
            durable: entry.durable,
            expiry: entry.expiry,
            deaths: entry.deaths,
            readdressed: entry.readdressed,
            resident: entry.resident,
        };
        let before = self.next_arrival;
        self.dead_letter_refused(number, &incoming, &mut Vec::new());
        self.settle_down(before, Fresh::Published);
    }

    /// What has come behind that arrival is there.
    pub(crate) fn settle_down(&mut self, before: u64, as_what: Fresh) {
        let entries = self.queues.iter_mut().flat_map(|queue| &mut queue.entries);
        let at_hand = |entry: &&mut Entry| entry.arrival > before && entry.fresh == Fresh::AtHand;
        entries
            .filter(at_hand)
            .for_each(|entry| entry.fresh = as_what);
    }

    // ---- messages leave

    pub(crate) fn remove(&mut self, number: u64, arrival: u64) -> Option<Entry> {
        let entries = &mut self.queue(number)?.entries;
        let at = entries.iter().position(|entry| entry.arrival == arrival)?;
        let entry = entries.remove(at);
        self.refresh();
        Some(entry)
    }

    /// Whether it was delivered as often as its queue lets it be, and there is somewhere for it to go.
    pub(crate) fn is_spent(&self, number: u64, count: u32) -> bool {
        let at = &self.queue_ref(number).at;
        let stuck = at.dead_letter.is_none()
            && at
                .redrive
                .as_ref()
                .is_some_and(|redrive| self.named(&redrive.target).is_none());
        at.deliveries_max.is_some_and(|max| count >= max) && !stuck
    }

    /// The history with one more line, and the key that the message had.
    fn history(
        &self,
        number: u64,
        reason: DeathReason,
        before: &[Death],
        own: &Address,
        ttl_ms: Option<u64>,
    ) -> (Vec<Death>, message::Levels) {
        let queue = self.queue_ref(number);
        let (exchange, key) = super::routing::exchange_and_key(own);
        let mut deaths = before.to_vec();
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
        (deaths, key)
    }

    /// DOORS 14: the redrive policy's target, where that counts and is there.
    fn redrive_target(&self, number: u64, reason: DeathReason) -> Option<u64> {
        let at = &self.queue_ref(number).at;
        let redrive = at.redrive.as_ref().filter(|_| match reason {
            DeathReason::Deliveries => true,
            DeathReason::Rejected => at.dead_letter.is_none(),
            _ => false,
        });
        self.named(&redrive?.target)
    }

    /// An entry goes to the queue that a redrive policy names, as it is.
    fn redrive(&mut self, number: u64, target: u64, entry: Entry, reason: DeathReason) {
        let ttl = entry.expiry.map(|expiry| expiry.since(entry.enqueued));
        let vhost = entry.message.address.vhost;
        let here = Address::queue(vhost, self.queue_ref(number).name.clone());
        let own = entry.readdressed.as_ref().unwrap_or(&here);
        let (deaths, _) = self.history(number, reason, &entry.deaths, own, ttl);
        let len = entry.len();
        let to = self.queue_ref(target);
        let name = to.name.clone();
        let (count, bytes) = to.held();
        if to.is_over(count + 1, bytes + len) {
            if to.at.overflow != Overflow::DropHead || to.is_over(1, len) {
                return;
            }
            self.drop_heads(target, len);
        }
        let fifo = self.queue_ref(number).at.fifo.is_some();
        self.next_arrival += 1;
        let (arrival, now) = (self.next_arrival, self.now);
        let queue = self.queue(target).expect("it is still there");
        queue.entries.push(Entry {
            arrival,
            qseq: None,
            durable: queue.durable && entry.durable,
            enqueued: now,
            sent: (!fifo).then(|| entry.sent()),
            expiry: None,
            count: 0,
            deaths,
            readdressed: Some(Address::queue(vhost, name)),
            place: Place::Ready,
            fresh: Fresh::Died,
            identifiers: Vec::new(),
            received: false,
            ..entry
        });
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
        let (deaths, key) = self.history(number, reason, &incoming.deaths, own, ttl_ms);
        let dead_letter = queue.at.dead_letter.as_ref()?;
        let mut keys = vec![dead_letter.key.clone().unwrap_or(key)];
        let first = keys[0].clone();
        if dead_letter.key.is_none() {
            keys.extend(incoming.message.fields().carbon_copies.iter().cloned());
        }
        let routed = self.route(&dead_letter.exchange, &keys, &incoming.message, None)?;
        let address = super::routing::address_of(own.vhost, &dead_letter.exchange, first);
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
    ///
    /// What full queues drop while dead letters enter them follows two queues far at once. From there on a stored one
    /// dies in a step of its own, as does one that has to be read first; one that is in memory only is gone.
    pub(crate) fn dead_letter(&mut self, number: u64, arrival: u64, reason: DeathReason) {
        let Some(entry) = self.remove(number, arrival) else {
            return;
        };
        if let Some(target) = self.redrive_target(number, reason) {
            self.redrive(number, target, entry, reason);
        } else if self.depth < DEPTH_MAX && (entry.resident || !entry.durable) {
            self.die(number, entry, reason);
        } else if entry.durable {
            self.dying.push_back((number, entry, reason));
        }
    }

    /// A message that has left its queue enters the dead-letter targets.
    pub(crate) fn die(&mut self, number: u64, entry: Entry, reason: DeathReason) {
        let incoming = Incoming {
            message: Arc::clone(&entry.message),
            durable: entry.durable,
            expiry: None,
            deaths: entry.deaths.clone(),
            readdressed: entry.readdressed.clone(),
            resident: entry.resident,
        };
        let ttl = entry.expiry.map(|expiry| expiry.since(entry.enqueued));
        let Some((routed, again)) = self.dead_letter_route(number, reason, &incoming, ttl) else {
            return;
        };
        let before = self.next_arrival;
        self.depth += 1;
        for target in self.in_order(routed.queues.clone()) {
            if !self.is_cycle(target, &again.deaths) {
                self.admit(target, &again);
            }
        }
        self.admit_clients(&routed, &again);
        self.depth -= 1;
        self.settle_down(before, Fresh::Died);
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
        self.depth += 1;
        for target in self.in_order(routed.queues) {
            if target != number
                && !taken.contains(&target)
                && !self.is_cycle(target, &again.deaths)
                && self.admit(target, &again) == Admission::Taken
            {
                taken.push(target);
            }
        }
        self.depth -= 1;
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
        if leased && self.is_spent(number, entry.count) {
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
                entry.resident = false;
                match &mut entry.place {
                    Place::Out { .. } if entry.received => entry.place = Place::Received,
                    Place::Out { .. } => entry.place = Place::Ready,
                    Place::Leased { holder, .. } => *holder = None,
                    _ => {}
                }
            }
        }
    }
}
