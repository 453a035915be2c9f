//! Receipts: settling a lease that lasts until a deadline, by whoever can name the receive (RULES 6).

use message::VhostId;
use session::{
    DeathReason, Event, Receipt, ReceiptUse, Refusal, RefusalKind, SessionId, UseReceipt,
};

use super::{draft::Draft, refusal};
use crate::{
    Broker, Wait,
    change::{Settled, Settlement},
};

impl Broker {
    pub(super) fn decide_receipt(&self, from: SessionId, it: &UseReceipt, draft: &mut Draft<'_>) {
        let Some(vhost) = self.attached(from).map(|attached| attached.vhost) else {
            return;
        };
        let token = it.token;
        match self.use_receipt(vhost, it.receipt, it.to, draft) {
            // RULES 3: also that there is nothing to do rests on durable state.
            Ok(known) => {
                let event = Event::Settled { token, known };
                draft.reply(from, it.lane, Wait::Durable, event);
            }
            Err(refusal) => self.refuse(from, it.lane, token, refusal, draft),
        }
    }

    /// Drafts what the use of a receipt comes to, and says how many messages were out to it.
    pub(super) fn use_receipt(
        &self,
        vhost: VhostId,
        receipt: Receipt,
        to: ReceiptUse,
        draft: &mut Draft<'_>,
    ) -> Result<u32, Refusal> {
        let (id, qseq) = (receipt.queue, receipt.qseq);
        // Rights are those of the connection's own virtual host: a queue elsewhere is not there for it.
        let queue = self.queue(id).filter(|queue| queue.declared.vhost == vhost);
        let fifo = queue.is_some_and(|queue| queue.attributes().fifo.is_some());
        let found = queue.and_then(|queue| {
            let view = self.entry(id, qseq)?;
            // Numbers of what lived in memory only are given again: this may be another message.
            let same = if view.soft {
                receipt.epoch == self.durable.epoch
            } else {
                receipt.epoch >= queue.firsts.epoch_of(qseq)
            };
            same.then_some((queue, view))
        });
        let Some((queue, view)) = found else {
            // A message that is gone was deleted already, which is what was asked for.
            if to == ReceiptUse::Delete && !fifo {
                return Ok(0);
            }
            return Err(refusal(
                RefusalKind::UnknownDelivery,
                "there is no such message",
            ));
        };
        // A count that the node does not know of yet comes from another node's last moments.
        let current = receipt.count >= view.count;
        let lease = self.soft_queue(id).out.get(qseq);
        let leased = lease.is_some_and(|out| out.receiver.is_none());
        let not_out = || {
            Err(refusal(
                RefusalKind::NotOut,
                "the message is not out to that receive",
            ))
        };
        let settlement = match to {
            ReceiptUse::Delete if fifo && !(leased && current) => return not_out(),
            // Out to a consumer since: what it does with it counts.
            ReceiptUse::Delete if lease.is_some() && !leased => return Ok(0),
            ReceiptUse::Delete => {
                if !draft.entry_goes(self, id, qseq, view.len) {
                    return Ok(0);
                }
                Settlement::Accept
            }
            // Out of a plain queue an older receipt still moves the message's time, as with SQS.
            ReceiptUse::Visibility { .. } if !(leased && (current || !fifo)) => return not_out(),
            ReceiptUse::PutBack { .. } if !(leased && current) => return not_out(),
            ReceiptUse::Visibility { ms: 0 } => {
                if self.is_spent(queue, view.count) {
                    self.dead_letter(id, qseq, DeathReason::Deliveries, draft);
                    return Ok(1);
                }
                Settlement::Release
            }
            ReceiptUse::Visibility { ms } | ReceiptUse::PutBack { ms } => {
                Settlement::LeaseUntil(draft.now.plus_ms(ms))
            }
        };
        let settled = Settled {
            settlement,
            untried: matches!(to, ReceiptUse::PutBack { .. }),
            soft: view.soft,
            ..Settled::default()
        };
        draft.settle(id, qseq, settled);
        Ok(1)
    }
}
