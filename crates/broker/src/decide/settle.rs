//! Settlements and pulls.

use session::{
    ConsumerId, DeathReason, Event, Lease, Outcome, Pull, QueueId, RefusalKind, SessionId, Settle,
};

use super::{draft::Draft, refusal, shown};
use crate::{
    Broker, Effect, OutLane, Wait,
    change::{Delivered, HandedOut, Kind, Ranges, Settled, Settlement},
    queue::{Order, flag},
};

/// The consumer that stands for a session's pulls in group queues.
const PULLER: ConsumerId = ConsumerId(u64::MAX - 1);

impl Broker {
    pub(super) fn decide_settle(&self, from: SessionId, settle: &Settle, draft: &mut Draft<'_>) {
        let known = self.settle(from, settle, draft);
        let Some(token) = settle.token else { return };
        if known == 0 {
            let unknown = refusal(
                RefusalKind::UnknownDelivery,
                "no such delivery is out to this connection",
            );
            return self.refuse(from, settle.lane, token, unknown, draft);
        }
        let wait = if draft.is_durable() {
            Wait::Durable
        } else {
            Wait::Nothing
        };
        draft.reply(from, settle.lane, wait, Event::Settled { token, known });
    }

    /// Drafts a settlement, and says how many deliveries it names that are out to this session.
    pub(super) fn settle(&self, from: SessionId, settle: &Settle, draft: &mut Draft<'_>) -> u32 {
        let id = settle.deliveries.queue;
        if self.queue(id).is_none() {
            return 0;
        }
        let soft = self.soft_queue(id);
        let mut known = 0;
        let mut kept = Ranges::default();
        let mut all_soft = true;
        let mut timed = false;
        for (first, last) in &settle.deliveries.ranges {
            if first > last {
                continue;
            }
            for (qseq, out) in soft.out.range(*first..=*last) {
                // A lease with a deadline belongs to whoever knows its number.
                if out.receiver.is_some_and(|receiver| receiver.0 != from) || draft.goes(id, *qseq)
                {
                    continue;
                }
                known += 1;
                if self.settle_link(id, *qseq, settle.outcome, draft) {
                    continue;
                }
                if !self.settle_apart(id, *qseq, settle.outcome, draft) {
                    all_soft &= self.entry(id, *qseq).is_none_or(|view| view.soft);
                    timed |= out.receiver.is_none();
                    kept.push(*qseq);
                }
            }
        }
        if !kept.is_empty() {
            let settlement = match settle.outcome {
                Outcome::Accept | Outcome::Reject => Settlement::Accept,
                Outcome::Release => Settlement::Release,
                Outcome::ReleaseAfterMs(ms) => Settlement::ReleaseAt(draft.now.plus_ms(ms)),
                Outcome::Received => Settlement::Received,
            };
            // A released push lease is no news to the journal: the count of its deliveries is there already. A lease with
            // a deadline is in the journal, so its end is too.
            let quiet = settlement == Settlement::Release && !timed;
            for ranges in kept.pieces() {
                draft.change(Kind::Settled(Settled {
                    queue: id,
                    ranges,
                    settlement,
                    soft: all_soft || quiet,
                }));
            }
        }
        known
    }

    /// What one delivery comes to that needs more than its number: rejected, or released once too often.
    fn settle_apart(
        &self,
        id: QueueId,
        qseq: u64,
        outcome: Outcome,
        draft: &mut Draft<'_>,
    ) -> bool {
        let Some(view) = self.entry(id, qseq) else {
            return true;
        };
        match outcome {
            Outcome::Reject => {
                self.dead_letter(id, qseq, DeathReason::Rejected, draft);
                true
            }
            Outcome::Release | Outcome::ReleaseAfterMs(_) => {
                let spent = self
                    .queue(id)
                    .and_then(|queue| queue.attributes().deliveries_max)
                    .is_some_and(|max| view.count >= max);
                if spent {
                    self.dead_letter(id, qseq, DeathReason::Deliveries, draft);
                }
                spent
            }
            Outcome::Accept => !draft.entry_goes(self, id, qseq, view.len),
            Outcome::Received => false,
        }
    }

    /// Settles an entry of a client session's queue that refers to an entry of another: both, in one decision.
    fn settle_link(&self, id: QueueId, qseq: u64, outcome: Outcome, draft: &mut Draft<'_>) -> bool {
        let Some(view) = self.entry(id, qseq) else {
            return false;
        };
        let Some((origin, place)) = view.rare.and_then(|rare| rare.origin) else {
            return false;
        };
        if outcome == Outcome::Received {
            return false;
        }
        if self.queue(origin).is_some() && self.entry(origin, place).is_some() {
            self.settle_origin(origin, place, view.soft, outcome, draft);
        }
        if draft.entry_goes(self, id, qseq, view.len) {
            draft.change(Kind::Settled(Settled {
                queue: id,
                ranges: Ranges::one(qseq),
                settlement: Settlement::Accept,
                soft: view.soft,
            }));
        }
        true
    }

    /// Settles the entry that a link refers to.
    pub(super) fn settle_origin(
        &self,
        origin: QueueId,
        place: u64,
        soft_link: bool,
        outcome: Outcome,
        draft: &mut Draft<'_>,
    ) {
        let Some(view) = self.entry(origin, place) else {
            return;
        };
        let spent = self
            .queue(origin)
            .and_then(|queue| queue.attributes().deliveries_max)
            .is_some_and(|max| view.count >= max);
        let settlement = match outcome {
            Outcome::Accept | Outcome::Received => Settlement::Accept,
            Outcome::Reject => {
                return self.dead_letter(origin, place, DeathReason::Rejected, draft);
            }
            Outcome::Release | Outcome::ReleaseAfterMs(_) if spent => {
                return self.dead_letter(origin, place, DeathReason::Deliveries, draft);
            }
            Outcome::Release => Settlement::Release,
            Outcome::ReleaseAfterMs(ms) => Settlement::ReleaseAt(draft.now.plus_ms(ms)),
        };
        if settlement == Settlement::Accept && !draft.entry_goes(self, origin, place, view.len) {
            return;
        }
        // A stored link was journaled, so its end is too.
        let quiet = settlement == Settlement::Release && soft_link;
        draft.change(Kind::Settled(Settled {
            queue: origin,
            ranges: Ranges::one(place),
            settlement,
            soft: view.soft || quiet,
        }));
    }

    pub(super) fn decide_pull(&self, from: SessionId, pull: &Pull, draft: &mut Draft<'_>) {
        let vhost = self.attached(from).map(|attached| attached.vhost);
        let Some(id) = vhost.and_then(|vhost| self.named(vhost, &pull.queue)) else {
            let missing = refusal(
                RefusalKind::NotFound,
                format!("no queue '{}'", shown(&pull.queue)),
            );
            return self.refuse(from, pull.lane, pull.token, missing, draft);
        };
        if let Err(refusal) = self.check_owner(id, from) {
            return self.refuse(from, pull.lane, pull.token, refusal, draft);
        }
        let queue = self.queue(id).expect("a name leads to a queue");
        let groups = matches!(self.soft_queue(id).order, Order::Groups(_));
        let mut walk = self.ready_from_start(id);
        let mut taken = Delivered {
            queue: id,
            visible_at: match pull.lease {
                Lease::Ms(ms) => Some(draft.now.plus_ms(ms)),
                Lease::Connection | Lease::Settled => None,
            },
            ..Delivered::default()
        };
        let mut deliveries = Vec::new();
        let mut wait = Wait::Nothing;
        let count = pull.count.clamp(1, self.config.pull_count_max);
        let mut left_instead = 0u64;
        while (deliveries.len() as u32) < count {
            let next = if groups {
                // One at a time: what is taken decides which group is free.
                let window = self.config.group_window;
                deliveries
                    .is_empty()
                    .then(|| {
                        self.soft_queue(id)
                            .order
                            .next_of_groups((from, PULLER), window)
                    })
                    .flatten()
            } else {
                walk.next(self)
            };
            let Some(qseq) = next else { break };
            let Some(view) = self.entry(id, qseq) else {
                break;
            };
            if self.leaves_instead(id, queue, qseq, &view, draft) {
                left_instead += 1;
                if groups {
                    break;
                }
                continue;
            }
            let settled = pull.lease == Lease::Settled;
            let pending = self.pending(id, qseq, &view, false, PULLER, settled);
            taken.items.push(HandedOut {
                qseq,
                count: pending.count,
                receiver: Some((from, PULLER)),
                bytes: 0,
                settled,
                unowned: taken.visible_at.is_some(),
                soft: view.soft,
            });
            wait = later(wait, self.delivery_wait(queue, &view, false));
            deliveries.push((pending, self.content(view.place)));
        }
        // RULES 3: that there is nothing rests on what has been settled.
        if deliveries.is_empty() {
            wait = Wait::Durable;
        }
        // A timed lease is durable state, and so is the count that the answer tells.
        if taken.visible_at.is_some() && taken.items.iter().any(|item| !item.soft) {
            wait = Wait::Durable;
        }
        let remaining = self
            .ready(id)
            .saturating_sub(deliveries.len() as u64 + left_instead);
        if !taken.items.is_empty() {
            draft.change(Kind::Delivered(Box::new(taken)));
        }
        draft.effect(Effect::Pulled {
            to: from,
            lane: OutLane::Reply(pull.lane),
            wait,
            token: pull.token,
            deliveries,
            remaining,
        });
    }

    /// Whether an entry of a client session's queue is owned by its receiver.
    pub(super) fn is_received(&self, id: QueueId, qseq: u64) -> bool {
        self.entry(id, qseq)
            .is_some_and(|view| view.flags & flag::RECEIVED != 0)
    }
}

/// The later of two waits. Stored ids rise with their place in the journal.
fn later(a: Wait, b: Wait) -> Wait {
    match (a, b) {
        (Wait::Durable, _) | (_, Wait::Durable) => Wait::Durable,
        (Wait::Stored(a), Wait::Stored(b)) => Wait::Stored(a.max(b)),
        (Wait::Nothing, other) | (other, Wait::Nothing) => other,
    }
}
