//! Settlements of deliveries that are out to the session.

use session::{DeathReason, Event, Outcome, QueueId, RefusalKind, SessionId, Settle};

use super::{draft::Draft, refusal};
use crate::{
    Broker, Wait,
    change::{Kind, Ranges, Settled, Settlement},
    durable::Queue,
    queue::flag,
    soft::SoftQueue,
    view::{View, entry_in},
};

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
        if let Some(reader) = self.reader(id) {
            return self.settle_records(from, settle, reader, draft);
        }
        let Some(queue) = self.queue(id) else {
            return 0;
        };
        let soft = self.soft_queue(id);
        // Nobody asks what else this decision takes out of this queue.
        let alone = !draft.transaction && rises(&settle.deliveries.ranges);
        let plain = alone && settle.outcome == Outcome::Accept;
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
                if out.receiver.is_some_and(|receiver| receiver.0 != from) || draft.goes(id, qseq) {
                    continue;
                }
                known += 1;
                // Nearly all are of this kind, and only where they lie is asked.
                if plain && let Some(is_soft) = lies_bare(queue, soft, qseq) {
                    all_soft &= is_soft;
                    timed |= out.receiver.is_none();
                    kept.push(qseq);
                    continue;
                }
                let Some(view) = entry_in(queue, soft, qseq) else {
                    continue;
                };
                if self.settle_link(id, qseq, &view, settle.outcome, draft) {
                    continue;
                }
                if plain || !self.settle_apart(id, qseq, &view, settle.outcome, draft) {
                    all_soft &= view.soft;
                    timed |= out.receiver.is_none();
                    kept.push(qseq);
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
                    untried: false,
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
        view: &View<'_>,
        outcome: Outcome,
        draft: &mut Draft<'_>,
    ) -> bool {
        match outcome {
            Outcome::Reject => {
                self.dead_letter(id, qseq, DeathReason::Rejected, draft);
                true
            }
            Outcome::Release | Outcome::ReleaseAfterMs(_) => {
                let spent = self
                    .queue(id)
                    .is_some_and(|queue| self.is_spent(queue, view.count));
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
    fn settle_link(
        &self,
        id: QueueId,
        qseq: u64,
        view: &View<'_>,
        outcome: Outcome,
        draft: &mut Draft<'_>,
    ) -> bool {
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
                untried: false,
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
            .is_some_and(|queue| self.is_spent(queue, view.count));
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
            untried: false,
            soft: view.soft || quiet,
        }));
    }

    /// Whether an entry of a client session's queue is owned by its receiver.
    pub(super) fn is_received(&self, id: QueueId, qseq: u64) -> bool {
        self.entry(id, qseq)
            .is_some_and(|view| view.flags & flag::RECEIVED != 0)
    }
}

/// Whether an entry that has no rare side, and so refers to no other, lies in memory only.
fn lies_bare(queue: &Queue, soft: &SoftQueue, qseq: u64) -> Option<bool> {
    if queue.entries.len() > 0
        && let Some(entry) = queue.entries.get(qseq)
    {
        return (entry.flags & flag::RARE == 0).then_some(false);
    }
    let entry = soft.messages.get(qseq)?;
    entry.rare.is_none().then_some(true)
}

/// Whether no number is in two of the ranges, nor behind a higher one.
fn rises(ranges: &[(u64, u64)]) -> bool {
    ranges.iter().all(|(first, last)| first <= last)
        && ranges.is_sorted_by(|(_, last), (first, _)| last < first)
}
