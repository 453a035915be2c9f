//! What connections ask of queues: consumers, settlements, pulls.

use session::{
    ConsumerId, DeathReason, Delivery, Lease, Outcome, Pull, RefusalKind, SessionId, Settle,
    Subscribe, Token,
};

use super::{
    Model,
    queues::{Consumer, Place},
};

impl Model {
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
        if subscribe.exclusive && self.queue_ref(number).at.single_active_consumer {
            return Err(RefusalKind::InUse);
        }
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
        let mut named: Vec<(u64, u64)> = queue
            .entries
            .iter()
            .filter(|entry| match &entry.place {
                Place::Ready | Place::Hidden(_) => false,
                Place::Out { to, .. } => to.0 == from,
                Place::Leased { .. } | Place::Received => true,
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
            let mut entries = self.queue_ref(number).entries.iter();
            let Some(entry) = entries.find(|e| e.arrival == *arrival) else {
                continue;
            };
            let spent = self.is_spent(number, entry.count);
            let entries = &mut self.queue(number).expect("seen above").entries;
            let entry = entries.iter_mut().find(|e| e.arrival == *arrival);
            let entry = entry.expect("seen above");
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
                Outcome::Received => entry.received = true,
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
        let mut dead = false;
        let receiver = (from, None);
        let fifo = self.queue_ref(number).at.fifo.is_some();
        let timed = matches!(pull.lease, Lease::Ms(_));
        let single = fifo && !timed;
        let count = if single {
            1
        } else {
            pull.count.max(1) as usize
        };
        let mut runs = self.queue_ref(number).free_runs().into_iter();
        while taken.len() < count {
            let queue = self.queue_ref(number);
            let next = if fifo && timed {
                let next = runs.next();
                queue.first(|entry| Some(entry.arrival) == next)
            } else {
                queue.next_for(receiver)
            };
            let Some(at) = next else {
                break;
            };
            let entry = queue.entries[at].clone();
            if self.is_spent(number, entry.count) {
                self.dead_letter(number, entry.arrival, DeathReason::Deliveries);
                continue;
            }
            let body = String::from_utf8_lossy(&entry.message.body).into_owned();
            taken.push(format!("{body} {}", entry.count + 1));
            dead |= !entry.deaths.is_empty();
            self.pulled.push((number, entry.arrival));
            match pull.lease {
                Lease::Queue => unreachable!("no step asks for it"),
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
                        // Nobody's: no other pull shares its group.
                        holder: Some((SessionId(u64::MAX), None)),
                        until,
                    };
                }
            }
            self.refresh();
        }
        if dead {
            taken.sort();
        }
        let remaining = self.queue_ref(number).ready();
        self.say(from, pulled(token, &taken, remaining));
    }

    /// The core's numbers of what the last pull took.
    pub(crate) fn learn_pulled(&mut self, deliveries: &[Delivery]) {
        let mut pulled = self.pulled.clone();
        for delivery in deliveries {
            let is_it = |(number, arrival): &(u64, u64)| {
                let mut entries = self.queue_ref(*number).entries.iter();
                entries.any(|e| e.arrival == *arrival && *e.message == *delivery.message)
            };
            let at = pulled.iter().position(is_it);
            let (Some(id), Some(at)) = (delivery.id, at) else {
                continue;
            };
            let (number, arrival) = pulled.remove(at);
            let queue = self.queue(number).expect("pulled from it");
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
            let mine: Vec<(u64, bool)> = queue
                .entries
                .iter()
                .filter(|e| matches!(&e.place, Place::Out { to, .. } if to.0 == session))
                .map(|e| (e.arrival, self.is_spent(number, e.count)))
                .collect();
            for (arrival, spent) in mine {
                if spent {
                    self.dead_letter(number, arrival, DeathReason::Deliveries);
                } else if let Some(queue) = self.queue(number) {
                    let mut entries = queue.entries.iter_mut();
                    let entry = entries.find(|e| e.arrival == arrival);
                    let entry = entry.expect("listed above");
                    entry.place = if entry.received {
                        Place::Received
                    } else {
                        Place::Ready
                    };
                }
            }
        }
    }
}

/// How a pull's answer is told.
pub(crate) fn pulled(token: Token, taken: &[String], remaining: u64) -> String {
    format!("{token:?} pulled {taken:?}, {remaining} remain")
}
