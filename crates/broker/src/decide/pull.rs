//! Pulls: messages taken without a consumer, at once or when there are any.
//!
//! A pull that finds nothing may wait: it is then served before the queue's consumers, first come, first served, and
//! answered with nothing when its time is over.

use message::Timestamp;
use session::{ConsumerId, Event, Lease, Pull, QueueId, RefusalKind, SessionId, Token};

use super::{draft::Draft, pump::over, refusal, shown};
use crate::{
    Broker, Content, Effect, OutLane, PendingDelivery, Wait,
    change::{DELIVERED_ITEMS_MAX, Delivered, HandedOut, Kind, is_soft},
    queue::Order,
    soft::Waiting,
};

/// The visibility timeout of a queue that says none.
const VISIBILITY_TIMEOUT_MS: u64 = 30_000;

/// The consumer that stands for a session's pulls in group queues.
const PULLER: ConsumerId = ConsumerId(u64::MAX - 1);

/// Entries that go instead of being taken, expired or received too often, in one decision.
const SPENT_MAX: u64 = 256;

/// What a pull takes.
#[derive(Clone)]
struct Taken {
    deliveries: Vec<(PendingDelivery, Content)>,
    wait: Wait,
    remaining: u64,
    /// Not all that is there has been looked at.
    more: bool,
}

impl Broker {
    pub(super) fn decide_pull(&self, from: SessionId, pull: &Pull, draft: &mut Draft<'_>) {
        let Some(attached) = self.attached(from) else {
            return;
        };
        let Some(id) = self.named(attached.vhost, &pull.queue) else {
            let missing = refusal(
                RefusalKind::NotFound,
                format!("no queue '{}'", shown(&pull.queue)),
            );
            return self.refuse(from, pull.lane, pull.token, missing, draft);
        };
        if let Err(refusal) = self.check_owner(id, from) {
            return self.refuse(from, pull.lane, pull.token, refusal, draft);
        }
        let lease = self.lease(id, pull.lease);
        let waiting = Waiting {
            session: from,
            token: pull.token,
            lane: pull.lane,
            count: pull
                .count
                .clamp(1, self.config.pull_count_max)
                .min(DELIVERED_ITEMS_MAX as u32),
            lease,
            out_max: pull.out_max,
            bytes_max: pull.bytes_max,
            attempt: pull
                .attempt
                .clone()
                .filter(|_| self.knows_attempts(id, lease)),
            at_once: pull.wait_ms == 0,
        };
        if let Some(taken) = self.take_again(id, &waiting, draft) {
            self.note_use(id, draft);
            return answer(&waiting, taken, self.durable.epoch, draft);
        }
        if pull.wait_ms == 0 && self.room_out(id, &waiting) == 0 {
            let full = refusal(
                RefusalKind::QuotaExceeded,
                format!(
                    "too many messages of queue '{}' are out",
                    shown(&pull.queue)
                ),
            );
            return self.refuse(from, pull.lane, pull.token, full, draft);
        }
        self.note_use(id, draft);
        let taken = self.take(id, &waiting, draft);
        if taken.deliveries.is_empty() && (pull.wait_ms > 0 || taken.more) {
            let waits = attached.rare.pulls.len() as u64;
            if waits >= self.config.pulls_waiting_max {
                let many = refusal(
                    RefusalKind::QuotaExceeded,
                    "too many pulls of one connection wait",
                );
                return self.refuse(from, pull.lane, pull.token, many, draft);
            }
            if attached.rare.pulls.contains_key(&pull.token) {
                let twice = refusal(
                    RefusalKind::InvalidArgument,
                    "a pull of that token waits already",
                );
                return self.refuse(from, pull.lane, pull.token, twice, draft);
            }
            return draft.change(Kind::PullWaits {
                queue: id,
                until: match waiting.at_once {
                    true => Timestamp::MAX,
                    false => draft.now.plus_ms(pull.wait_ms),
                },
                pull: Box::new(waiting),
            });
        }
        answer(&waiting, taken, self.durable.epoch, draft);
    }

    pub(super) fn decide_cancel_pull(&self, from: SessionId, token: Token, draft: &mut Draft<'_>) {
        if self
            .attached(from)
            .is_some_and(|attached| attached.rare.pulls.contains_key(&token))
        {
            draft.change(Kind::PullEnds {
                session: from,
                token,
            });
        }
    }

    /// The time of a pull is over.
    pub(super) fn end_pull(&self, session: SessionId, token: Token, draft: &mut Draft<'_>) {
        let waiting = self
            .attached(session)
            .and_then(|attached| attached.rare.pulls.get(&token))
            .and_then(|at| Some((at.queue, self.soft_queue(at.queue).pulls.get(at.place)?)));
        let Some((queue, waiting)) = waiting else {
            return;
        };
        draft.change(Kind::PullEnds { session, token });
        if self.ready(queue) > 0 {
            // It has yet to be found out whether that is spent, or out of its reach.
            return draft.change(Kind::PullWaits {
                queue,
                until: Timestamp::MAX,
                pull: Box::new(Waiting {
                    at_once: true,
                    ..waiting.clone()
                }),
            });
        }
        let nothing = Taken {
            deliveries: Vec::new(),
            // RULES 3: that there is nothing rests on what has been settled.
            wait: Wait::Durable,
            remaining: 0,
            more: false,
        };
        answer(waiting, nothing, self.durable.epoch, draft);
    }

    /// Serves the next pull of a queue, or comes nearer to that. False if nothing became of it.
    pub(super) fn serve_pull(&self, id: QueueId, draft: &mut Draft<'_>) -> bool {
        let Some(waiting) = self.soft_queue(id).pulls.first() else {
            return false;
        };
        let before = draft.changes_len();
        let taken = self.take(id, waiting, draft);
        if taken.deliveries.is_empty() && (taken.more || !waiting.at_once) {
            return draft.changes_len() > before;
        }
        // A client that lost patience and asks again gets the same: the answer to the first may find nobody. Not that there is nothing: it
        // waits for a time of its own.
        let pulls = &self.soft_queue(id).pulls;
        let found = !taken.deliveries.is_empty();
        let same = waiting.attempt.iter().filter(|_| found);
        let same = same.flat_map(|name| pulls.of_attempt(name));
        let same = same.filter(|again| !std::ptr::eq(*again, waiting));
        for again in same {
            self.serve_waiting(again, taken.clone(), draft);
        }
        self.serve_waiting(waiting, taken, draft);
        true
    }

    fn serve_waiting(&self, waiting: &Waiting, taken: Taken, draft: &mut Draft<'_>) {
        draft.change(Kind::PullEnds {
            session: waiting.session,
            token: waiting.token,
        });
        answer(waiting, taken, self.durable.epoch, draft);
    }

    /// The queue is about to go: its pulls are refused.
    pub(super) fn refuse_pulls(&self, id: QueueId, draft: &mut Draft<'_>) {
        for waiting in self.soft_queue(id).pulls.iter() {
            let gone = refusal(RefusalKind::NotFound, "the queue was deleted");
            draft.reply(
                waiting.session,
                waiting.lane,
                Wait::Durable,
                Event::Refused {
                    token: waiting.token,
                    refusal: gone,
                },
            );
        }
    }

    /// How many more messages of the queue may be out.
    fn room_out(&self, id: QueueId, waiting: &Waiting) -> u64 {
        let out = self.soft_queue(id).out.len() as u64;
        waiting
            .out_max
            .map_or(u64::MAX, |max| max.saturating_sub(out))
    }

    /// For how long: a pull may leave that to the queue.
    fn lease(&self, id: QueueId, lease: Lease) -> Lease {
        match lease {
            Lease::Queue => {
                let own = self.queue(id).map(|queue| queue.attributes());
                let own = own.and_then(|attributes| attributes.visibility_timeout_ms);
                Lease::Ms(own.unwrap_or(VISIBILITY_TIMEOUT_MS))
            }
            told => told,
        }
    }

    /// Whether a pull that names an attempt may be asked for again: it leases, until a deadline, what a FIFO queue keeps.
    fn knows_attempts(&self, id: QueueId, lease: Lease) -> bool {
        let fifo = self
            .queue(id)
            .is_some_and(|queue| queue.attributes().fifo.is_some());
        fifo && !is_soft(id) && matches!(lease, Lease::Ms(_))
    }

    /// What an attempt got before, if nothing has become of it: told again as it was, under a new lease.
    fn take_again(&self, id: QueueId, pull: &Waiting, draft: &mut Draft<'_>) -> Option<Taken> {
        let queue = self.queue(id)?;
        let (Some(name), Lease::Ms(ms)) = (&pull.attempt, pull.lease) else {
            return None;
        };
        let keep_ms = self.config.attempt_ms;
        let attempt = queue.attempts.find(name, draft.now, keep_ms)?;
        let mut handed = Delivered {
            queue: id,
            visible_at: Some(draft.now.plus_ms(ms)),
            attempt: Some(name.clone()),
            ..Delivered::default()
        };
        let mut deliveries = Vec::new();
        let soft = self.soft_queue(id);
        for (qseq, count) in &attempt.entries {
            let view = self.entry(id, *qseq)?;
            let elsewhere = soft.aside.contains(qseq)
                || soft
                    .out
                    .get(*qseq)
                    .is_some_and(|out| out.receiver.is_some());
            if elsewhere || view.count != *count || over(queue, &view, draft.now).is_some() {
                return None;
            }
            handed.items.push(HandedOut {
                qseq: *qseq,
                count: *count,
                receiver: Some((pull.session, PULLER)),
                bytes: 0,
                settled: false,
                unowned: true,
                soft: false,
            });
            let pending = PendingDelivery {
                count: *count,
                redelivered: *count > 1,
                ..self.pending(id, *qseq, &view, false, PULLER, false)
            };
            deliveries.push((pending, self.content(view.place)));
        }
        draft.change(Kind::Delivered(Box::new(handed)));
        Some(Taken {
            deliveries,
            wait: Wait::Durable,
            remaining: self.ready(id),
            more: false,
        })
    }

    fn take(&self, id: QueueId, waiting: &Waiting, draft: &mut Draft<'_>) -> Taken {
        let queue = self.queue(id).expect("a name leads to a queue");
        let from = waiting.session;
        let timed = matches!(waiting.lease, Lease::Ms(_));
        let order = &self.soft_queue(id).order;
        let groups = matches!(order, Order::Groups(_));
        let mut runs = match order {
            Order::Groups(groups) if timed => Some(groups.free_runs()),
            _ => None,
        };
        let mut fair = match order {
            Order::Plain {
                fair: Some(fair), ..
            } if timed => Some(fair.walk(self.soft_queue(id).out.len() as u64)),
            _ => None,
        };
        let mut walk = self.ready_from_start(id);
        let mut handed = Delivered {
            queue: id,
            visible_at: match waiting.lease {
                Lease::Ms(ms) => Some(draft.now.plus_ms(ms)),
                Lease::Connection | Lease::Settled | Lease::Queue => None,
            },
            ..Delivered::default()
        };
        let mut deliveries = Vec::new();
        let mut wait = Wait::Nothing;
        let mut left_instead = 0u64;
        let mut more = false;
        let mut bytes = 0u64;
        let count = u64::from(waiting.count).min(self.room_out(id, waiting));
        while (deliveries.len() as u64) < count {
            let next = if let Some(fair) = &mut fair {
                fair.next()
            } else if !groups {
                walk.next()
            } else if let Some(runs) = &mut runs {
                runs.next()
            } else {
                // One at a time: what is taken decides which group is free.
                let window = self.config.group_window;
                let first = order.groups().filter(|_| deliveries.is_empty());
                first.and_then(|groups| groups.next_for((from, PULLER), window))
            };
            let Some(qseq) = next else { break };
            let Some(view) = self.entry(id, qseq) else {
                break;
            };
            if self.leaves_instead(id, queue, qseq, &view, draft) {
                left_instead += 1;
                more = left_instead == SPENT_MAX || groups && !timed;
                if more {
                    break;
                }
                continue;
            }
            // DOORS 15: one always fits.
            let more = bytes + u64::from(view.len);
            if waiting.bytes_max.is_some_and(|max| more > max) && !deliveries.is_empty() {
                break;
            }
            bytes = more;
            let settled = waiting.lease == Lease::Settled;
            let pending = self.pending(id, qseq, &view, false, PULLER, settled);
            let pending = PendingDelivery {
                first_delivered: pending
                    .first_delivered
                    .or_else(|| timed.then_some(draft.now)),
                ..pending
            };
            handed.items.push(HandedOut {
                qseq,
                count: pending.count,
                receiver: Some((from, PULLER)),
                bytes: 0,
                settled,
                unowned: timed,
                soft: view.soft,
            });
            wait = later(wait, self.delivery_wait(queue, &view, false));
            deliveries.push((pending, self.content(view.place)));
        }
        if left_instead > 0 {
            // What left may have pushed out what was to be taken.
            let found = deliveries.len();
            let mut items = handed.items.iter();
            deliveries.retain(|_| items.next().is_some_and(|it| !draft.goes(id, it.qseq)));
            handed.items.retain(|item| !draft.goes(id, item.qseq));
            let pushed_out = found - deliveries.len();
            left_instead += pushed_out as u64;
            // And brought something else.
            more |= pushed_out > 0;
        }
        // RULES 3: that there is nothing rests on what has been settled.
        if deliveries.is_empty() {
            wait = Wait::Durable;
        }
        // A timed lease is durable state, and so is the count that the answer tells.
        if timed && handed.items.iter().any(|item| !item.soft) {
            wait = Wait::Durable;
        }
        let remaining = self
            .ready(id)
            .saturating_sub(deliveries.len() as u64 + left_instead);
        let stored = handed.items.iter().all(|item| !item.soft);
        handed.attempt = waiting.attempt.clone().filter(|_| stored);
        if !handed.items.is_empty() {
            draft.change(Kind::Delivered(Box::new(handed)));
        }
        Taken {
            deliveries,
            wait,
            remaining,
            more,
        }
    }
}

fn answer(waiting: &Waiting, taken: Taken, epoch: u64, draft: &mut Draft<'_>) {
    draft.effect(Effect::Pulled {
        to: waiting.session,
        lane: OutLane::Reply(waiting.lane),
        wait: taken.wait,
        token: waiting.token,
        deliveries: taken.deliveries,
        epoch,
        remaining: taken.remaining,
    });
}

/// The later of two waits. Stored ids rise with their place in the journal.
fn later(a: Wait, b: Wait) -> Wait {
    match (a, b) {
        (Wait::Durable, _) | (_, Wait::Durable) => Wait::Durable,
        (Wait::Stored(a), Wait::Stored(b)) => Wait::Stored(a.max(b)),
        (Wait::Nothing, other) | (other, Wait::Nothing) => other,
    }
}
