//! Several publishes, or several receipts, in one command: each is taken or refused by itself, and all are answered together. A
//! decision counts what it has promised (`draft.rs`), so each of them finds what those before it leave.

use std::sync::Arc;

use session::{Event, Publish, PublishAll, RefusalKind, SessionId, UseReceipts};

use super::{
    draft::Draft,
    publish::{Asked, Placed},
    refusal,
};
use crate::{Broker, Context, Decision, Wait, change::ClientNo, counters::Tally};

/// Targets of publishes that are decided together.
const MATCHED_MAX: u32 = 256;

impl Broker {
    /// Decides publishes that came together, each of them one that [`Broker::may_come_together`], as if they came one by one: no more
    /// of them than have some hundred targets. Gives how many those are. None: one by one something else would become of them, as memory
    /// is short; then what is in `out` is worth nothing.
    pub fn decide_publishes<'a>(
        &self,
        from: SessionId,
        publishes: impl Iterator<Item = &'a Publish>,
        cx: &Context,
        out: &mut Decision,
    ) -> usize {
        let mut draft = Draft::new(cx, out);
        draft.many = true;
        let Some(attached) = self.attached(from) else {
            return publishes.count();
        };
        let (mut decided, mut matched) = (0, 0);
        for publish in publishes {
            matched += self.decide_publish((from, attached.client), publish, &mut draft);
            decided += 1;
            if draft.differs {
                return 0;
            }
            if matched >= MATCHED_MAX {
                break;
            }
        }
        self.make_room(&mut draft);
        if draft.differs {
            return 0;
        }
        decided
    }

    /// Whether a publish may be decided together with others: a draft knows what they bring into queues and streams, but not
    /// which exactly-once ids are taken. What is retained comes too seldom to be looked for in it.
    #[must_use]
    pub fn may_come_together(publish: &Publish) -> bool {
        publish.token.is_some()
            && publish.folds
            && publish.inbound_id.is_none()
            && !publish.message.retain
    }

    /// Publishes of a connection and of its client session, if it has one.
    pub(super) fn decide_publish_all(
        &self,
        (from, publisher): (SessionId, Option<ClientNo>),
        all: &PublishAll,
        draft: &mut Draft<'_>,
    ) {
        draft.many = true;
        let mut outcomes = Vec::with_capacity(all.publishes.len());
        let mut wait = Wait::Nothing;
        let hashes = self.own_hashes(&all.publishes);
        for (at, publish) in all.publishes.iter().enumerate() {
            let own = hashes.get(at);
            draft.own_hash = own.map(|hash| (Arc::as_ptr(&publish.message), *hash));
            let asked = Asked::together(publish, publisher);
            let mut placed = Placed::default();
            self.place_publish(publish, &asked, &mut placed, draft);
            if placed.wait() == Wait::Durable {
                wait = Wait::Durable;
            }
            outcomes.push(placed.outcome());
        }
        let token = all.token;
        let event = Event::PublishedAll { token, outcomes };
        draft.reply(from, all.lane, wait, event);
    }

    pub(super) fn decide_receipts(
        &self,
        from: SessionId,
        all: &UseReceipts,
        draft: &mut Draft<'_>,
    ) {
        let Some(vhost) = self.attached(from).map(|attached| attached.vhost) else {
            return;
        };
        let mut outcomes = Vec::with_capacity(all.uses.len());
        let mut refused = 0;
        for (at, (receipt, to)) in all.uses.iter().enumerate() {
            // They are few.
            let place = (receipt.queue, receipt.qseq);
            let mut before = all.uses[..at].iter();
            let outcome = if before.any(|(other, _)| (other.queue, other.qseq) == place) {
                Err(refusal(
                    RefusalKind::InvalidArgument,
                    "a message is named twice",
                ))
            } else {
                self.use_receipt(vhost, *receipt, *to, draft)
            };
            refused += u64::from(outcome.is_err());
            outcomes.push(outcome);
        }
        if refused > 0 {
            draft.count(Tally::Refused, refused);
        }
        let token = all.token;
        // RULES 3: also that there is nothing to do rests on durable state.
        let event = Event::SettledAll { token, outcomes };
        draft.reply(from, all.lane, Wait::Durable, event);
    }
}
