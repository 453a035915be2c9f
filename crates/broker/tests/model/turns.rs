//! Whose turn it is in a queue, and whether the core delivered accordingly.

use message::Timestamp;
use session::{ConsumerId, Credit, DeathReason, Delivery, SessionId};

use super::{
    Model,
    queues::{Consumer, Entry, Place, Receiver},
};

impl Model {
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

    /// Whether a consumer shares a window or its flow with others: when it was found to be held up, and with it its place in the turn
    /// of its queue, is the core's choice. That such consumers have their turns all the same is tested in `core/rooms.rs`.
    fn shares(&self, receiver: Receiver) -> bool {
        let mut consumers = self.consumers.iter();
        let consumer = consumers.find(|c| (c.session, Some(c.id)) == receiver);
        consumer.is_some_and(|consumer| {
            let mut shared = self.shared.iter();
            shared.any(|it| it.session == consumer.session && it.group == consumer.group)
        })
    }

    /// What that receiver is given next, if it may come before who is next in the turn: of those of its priority ahead of it and
    /// itself, either it or all the others share something.
    fn out_of_turn(&self, number: u64, who: Receiver, receiver: Receiver) -> Option<u64> {
        let queue = self.queue_ref(number);
        let priority = self.priority_of(receiver);
        if self.priority_of(who) != priority || !queue.turn.contains(&receiver) {
            return None;
        }
        let mut ahead = queue
            .turn
            .iter()
            .take_while(|other| **other != receiver)
            .filter(|other| self.priority_of(**other) == priority);
        if !self.shares(receiver) && !ahead.all(|other| self.shares(*other)) {
            return None;
        }
        Some(queue.entries[queue.next_for(receiver)?].arrival)
    }

    /// Who is next in a queue, and what they get. What has been delivered too often is dead-lettered on the way.
    pub(crate) fn next_delivery(&mut self, number: u64) -> Option<(Receiver, u64)> {
        loop {
            let queue = self.queue_ref(number);
            let mut turn = queue.turn.clone();
            turn.sort_by_key(|receiver| std::cmp::Reverse(self.priority_of(*receiver)));
            let (receiver, at) = turn
                .iter()
                .find_map(|receiver| Some((*receiver, queue.next_for(*receiver)?)))?;
            let entry = &queue.entries[at];
            let (arrival, count) = (entry.arrival, entry.count);
            if self.is_spent(number, count) {
                self.dead_letter(number, arrival, DeathReason::Deliveries);
                self.rest();
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
        if let Some((who, _)) = next
            && who != receiver
            && let Some(arrival) = self.out_of_turn(number, who, receiver)
        {
            next = Some((receiver, arrival));
        }
        if let Some((who, arrival)) = next
            && let Some(late) = self.came_together(number, arrival, delivery)
        {
            next = self
                .next_delivery_before(number, late)
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

    /// The same before that entry has come, which may have a higher priority than what came before it.
    fn next_delivery_before(&mut self, number: u64, late: u64) -> Option<(Receiver, u64)> {
        self.entry_of(number, late)?.place = Place::Hidden(Timestamp(u64::MAX));
        let next = self.next_delivery(number);
        self.entry_of(number, late)?.place = Place::Ready;
        next
    }

    fn entry_of(&mut self, number: u64, arrival: u64) -> Option<&mut Entry> {
        let entries = &mut self.queue(number)?.entries;
        entries.iter_mut().find(|entry| entry.arrival == arrival)
    }

    /// A dead letter whose message must be fetched first, or that expires only as it comes back from a connection that is
    /// gone, comes behind what else the same command puts into a queue. When the core delivers another message of that very
    /// command first, the two change places: gives the place of the one that was late.
    fn came_together(&mut self, number: u64, arrival: u64, shown: &Delivery) -> Option<u64> {
        let entries = &mut self.queue(number)?.entries;
        let deaths = shown.deaths.as_deref().cloned().unwrap_or_default();
        let of = |e: &Entry| e.place == Place::Ready && *e.message == *shown.message;
        let first = entries.iter().position(|e| e.arrival == arrival)?;
        // One message may have died in two queues.
        let same = |e: &Entry| of(e) && e.deaths == deaths;
        let other = entries
            .iter()
            .position(same)
            .or_else(|| entries.iter().position(of))?;
        let dead = !entries[first].deaths.is_empty() || !entries[other].deaths.is_empty();
        if first == other || !dead || entries[first].enqueued != entries[other].enqueued {
            return None;
        }
        let late = entries[other].arrival;
        entries[other].arrival = arrival;
        entries[first].arrival = late;
        entries.sort_by_key(|entry| entry.arrival);
        Some(late)
    }

    /// The same for what a pull gave.
    pub(crate) fn came_as_pulled(&mut self, queue: &[u8], pulled: &[Delivery]) {
        let Some(number) = self.named(queue) else {
            return;
        };
        let mut taken = Vec::new();
        for delivery in pulled {
            let queue = self.queue_ref(number);
            let left = |e: &Entry| e.place == Place::Ready && !taken.contains(&e.arrival);
            let Some(next) = queue.first(left) else {
                return;
            };
            let arrival = queue.entries[next].arrival;
            self.came_together(number, arrival, delivery);
            taken.push(arrival);
        }
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
        check("enqueued", delivery.enqueued == entry.sent());
        let deaths = delivery.deaths.as_deref().cloned().unwrap_or_default();
        check("deaths", deaths == entry.deaths);
        let readdressed = delivery.readdressed.as_deref();
        check("readdressed", readdressed == entry.readdressed.as_ref());
        check("settled", delivery.id.is_none() == settled);
        check("qos", delivery.qos == entry.qos);
        check("retain", delivery.retain == entry.retain);
        let shown = super::clients::identifiers(delivery.subscriptions.to_vec());
        check("identifiers", shown == entry.identifiers);
        let own = delivery.consumer == ConsumerId::CLIENT;
        check("resent", delivery.resent == (own && entry.count > 0));
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

    pub(crate) fn hand_out(
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
}
