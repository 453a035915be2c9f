//! Receipts: settling a lease that lasts until a deadline, by whoever can name the receive (RULES 6).

use session::{DeathReason, Event, ReceiptUse, RefusalKind, SessionId, UseReceipt};

use super::{draft::Draft, refusal};
use crate::{
    Broker, Wait,
    change::{Kind, Ranges, Settled, Settlement},
};

impl Broker {
    pub(super) fn decide_receipt(&self, from: SessionId, it: &UseReceipt, draft: &mut Draft<'_>) {
        let (id, qseq) = (it.receipt.queue, it.receipt.qseq);
        let Some(vhost) = self.attached(from).map(|attached| attached.vhost) else {
            return;
        };
        // Rights are those of the connection's own virtual host: a queue elsewhere is not there for it.
        let queue = self.queue(id).filter(|queue| queue.declared.vhost == vhost);
        let fifo = queue.is_some_and(|queue| queue.attributes().fifo.is_some());
        let found = queue.and_then(|queue| {
            let view = self.entry(id, qseq)?;
            // Numbers of what lived in memory only are given again: this may be another message.
            let same = if view.soft {
                it.receipt.epoch == self.durable.epoch
            } else {
                it.receipt.epoch >= queue.firsts.epoch_of(qseq)
            };
            same.then_some((queue, view))
        });
        let Some((queue, view)) = found else {
            // A message that is gone was deleted already, which is what was asked for.
            if it.to == ReceiptUse::Delete && !fifo {
                return settled(from, it, 0, draft);
            }
            let unknown = refusal(RefusalKind::UnknownDelivery, "there is no such message");
            return self.refuse(from, it.lane, it.token, unknown, draft);
        };
        // A count that the node does not know of yet comes from another node's last moments.
        let current = it.receipt.count >= view.count;
        let lease = self.soft_queue(id).out.get(qseq);
        let leased = lease.is_some_and(|out| out.receiver.is_none());
        let not_out = || {
            refusal(
                RefusalKind::NotOut,
                "the message is not out to that receive",
            )
        };
        let settlement = match it.to {
            ReceiptUse::Delete if fifo && !(leased && current) => {
                return self.refuse(from, it.lane, it.token, not_out(), draft);
            }
            // Out to a consumer since: what it does with it counts.
            ReceiptUse::Delete if lease.is_some() && !leased => {
                return settled(from, it, 0, draft);
            }
            ReceiptUse::Delete => {
                if !draft.entry_goes(self, id, qseq, view.len) {
                    return settled(from, it, 0, draft);
                }
                Settlement::Accept
            }
            // Out of a plain queue an older receipt still moves the message's time, as with SQS.
            ReceiptUse::Visibility { .. } if !(leased && (current || !fifo)) => {
                return self.refuse(from, it.lane, it.token, not_out(), draft);
            }
            ReceiptUse::PutBack { .. } if !(leased && current) => {
                return self.refuse(from, it.lane, it.token, not_out(), draft);
            }
            ReceiptUse::Visibility { ms: 0 } => {
                if self.is_spent(queue, view.count) {
                    self.dead_letter(id, qseq, DeathReason::Deliveries, draft);
                    return settled(from, it, 1, draft);
                }
                Settlement::Release
            }
            ReceiptUse::Visibility { ms } | ReceiptUse::PutBack { ms } => {
                Settlement::LeaseUntil(draft.now.plus_ms(ms))
            }
        };
        draft.change(Kind::Settled(Settled {
            queue: id,
            ranges: Ranges::one(qseq),
            settlement,
            untried: matches!(it.to, ReceiptUse::PutBack { .. }),
            soft: view.soft,
        }));
        settled(from, it, 1, draft);
    }
}

fn settled(from: SessionId, it: &UseReceipt, known: u32, draft: &mut Draft<'_>) {
    let token = it.token;
    // RULES 3: also that there is nothing to do rests on durable state.
    draft.reply(
        from,
        it.lane,
        Wait::Durable,
        Event::Settled { token, known },
    );
}
