//! Transactions: publishes and settlements, all or nothing (RULES 7).
//!
//! Publishes that go into the journal are stored first, under the transaction's number and without effect; the record of
//! the transaction itself puts them in force together with everything else. A crash between leaves garbage, no half.

use std::sync::Arc;

use session::{Event, Operation, Refusal, RefusalKind, SessionId, Transact};

use super::{
    draft::Draft,
    publish::{Asked, Missing, Placed, fits_alone},
    refusal,
};
use crate::{
    BodyAt, Broker, Wait,
    change::{Change, Kind, Transaction},
    counters::Tally,
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
                    draft.hash_key = publish.hash_key;
                    let asked = Asked {
                        confirmed: true,
                        missing: Missing::of(publish),
                        inbound: None,
                        publisher,
                    };
                    let mut placed = Placed::default();
                    self.place(&publish.message, &asked, &mut placed, draft);
                    if let Some(refusal) = placed.refused {
                        return Err(refusal);
                    }
                    draft.count(Tally::Published, 1);
                    if placed.matched == 0 {
                        draft.count(Tally::Unmatched, 1);
                        if publish.mandatory {
                            returned.push(Arc::clone(&publish.message));
                        }
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
        for change in drafted {
            match change.0 {
                Kind::Published(mut published) if published.is_durable() => {
                    if !fits_alone(&published.targets) {
                        return Err(too_large());
                    }
                    published.transaction = number;
                    draft.change(Kind::Published(published));
                }
                // A queue that is made on the way is there either way.
                Kind::QueueDeclared(declared) => draft.change(Kind::QueueDeclared(declared)),
                other => within.push(Change(other)),
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
