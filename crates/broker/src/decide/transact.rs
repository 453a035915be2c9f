//! Transactions: publishes and settlements, all or nothing (RULES 7).
//!
//! Publishes that go into the journal are stored first, under the transaction's number and without effect; the record of
//! the transaction itself puts them in force together with everything else. A crash between leaves garbage, no half.

use std::sync::Arc;

use session::{Event, Operation, Refusal, RefusalKind, SessionId, Transact};

use super::{
    draft::Draft,
    publish::{Asked, Placed, fits_alone},
    refusal,
};
use crate::{
    BodyAt, Broker, Wait,
    change::{Change, Kind, Transaction},
};

/// Bytes of the record of a transaction: it must fit a batch.
const RECORD_LEN_MAX: usize = 1024 * 1024;

impl Broker {
    pub(super) fn decide_transact(
        &self,
        from: SessionId,
        transact: &Transact,
        draft: &mut Draft<'_>,
    ) {
        let (changes, effects) = (draft.changes_len(), draft.effects_len());
        draft.transaction = true;
        let done = self.transact(from, transact, draft).and_then(|returned| {
            self.make_room(draft);
            self.close_transaction(changes, draft)?;
            Ok(returned)
        });
        match done {
            Ok(returned) => {
                let wait = if draft.is_durable() {
                    Wait::Durable
                } else {
                    Wait::Nothing
                };
                let event = Event::Committed {
                    token: transact.token,
                    returned,
                };
                draft.reply(from, transact.lane, wait, event);
            }
            Err(refusal) => {
                draft.roll_back(changes, effects);
                self.refuse(from, transact.lane, transact.token, refusal, draft);
            }
        }
    }

    fn transact(
        &self,
        from: SessionId,
        transact: &Transact,
        draft: &mut Draft<'_>,
    ) -> Result<Vec<Arc<message::Message>>, Refusal> {
        let bytes: u64 = transact
            .operations
            .iter()
            .map(|operation| match operation {
                Operation::Publish(publish) => publish.message.body.len() as u64,
                Operation::Settle(_) => 0,
            })
            .sum();
        if transact.operations.len() as u64 > self.config.transaction_operations_max
            || bytes > self.config.transaction_bytes_max
        {
            return Err(too_large());
        }
        let mut returned = Vec::new();
        for operation in &transact.operations {
            match operation {
                Operation::Publish(publish) => {
                    let publisher = self.client_of(from).map(|(number, _)| number);
                    let asked = Asked::together(publish, publisher);
                    let mut placed = Placed::default();
                    self.place_publish(publish, &asked, &mut placed, draft);
                    if publish.mandatory && placed.is_unmatched() {
                        returned.push(Arc::clone(&publish.message));
                    }
                    if let Some(refusal) = placed.refused {
                        return Err(refusal);
                    }
                }
                Operation::Settle(settle) => {
                    if self.settle(from, settle, draft) == 0 {
                        return Err(refusal(
                            RefusalKind::UnknownDelivery,
                            "no such delivery is out to this connection",
                        ));
                    }
                }
            }
        }
        Ok(returned)
    }

    /// Turns what was drafted into one transaction, if anything of it goes into the journal.
    fn close_transaction(&self, changes: usize, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let drafted = draft.take_changes(changes);
        if !drafted.iter().any(Change::is_durable) {
            for change in drafted {
                draft.push(change);
            }
            return Ok(());
        }
        let number = self.durable.next_transaction + 1;
        let mut within = Vec::new();
        // What comes into another queue, or a stream, has its number there in front of the publishes behind it.
        let mut in_order = false;
        let mut ordinal = 0;
        for change in drafted {
            match change.0 {
                Kind::Published(mut published) if published.is_durable() => {
                    if !fits_alone(&published.targets) {
                        return Err(too_large());
                    }
                    ordinal += 1;
                    (published.transaction, published.ordinal) = (number, ordinal);
                    draft.change(Kind::Published(published));
                    if in_order {
                        within.push(Change(Kind::InForce(ordinal)));
                    }
                }
                // A queue that is made on the way is there either way.
                Kind::QueueDeclared(declared) => draft.change(Kind::QueueDeclared(declared)),
                other => {
                    in_order |= matches!(other, Kind::Enqueued(_));
                    within.push(Change(other));
                }
            }
        }
        let transaction = Change(Kind::Transaction(Box::new(Transaction {
            transaction: number,
            changes: within,
        })));
        // All or nothing is one record: what settles, dead-letters or drops more than that has room for is refused.
        let mut record = Vec::new();
        transaction.encode(draft.now, &[], BodyAt::None, &mut record);
        if record.len() > RECORD_LEN_MAX {
            return Err(too_large());
        }
        draft.push(transaction);
        Ok(())
    }
}

fn too_large() -> Refusal {
    refusal(RefusalKind::QuotaExceeded, "the transaction is too large")
}
