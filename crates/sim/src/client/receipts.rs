//! Receipts of what was pulled: used one by one, or several by one command, at once or later.

use session::{Command, Lane, Receipt, ReceiptUse, Refusal, RefusalKind, UseReceipt, UseReceipts};

use super::{Asked, Client, Turn};
use crate::history::{Origin, PullId, Target};

/// A receive whose receipt is used later, perhaps in another connection or with another node.
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) receipt: Receipt,
    pub(super) pull: PullId,
}

/// What a receipt is used for, together with others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    number: u64,
    receipt: Receipt,
    /// Until when it is good for sure.
    until: u64,
    to: ReceiptUse,
}

impl Client {
    /// Deletes what it received some time ago: one message, or all by one command.
    pub(super) fn use_kept(&mut self, turn: &mut Turn<'_>) {
        while let Some(kept) = self.kept.pop_front() {
            self.use_receipt(&kept, ReceiptUse::Delete, turn);
            if !self.batches {
                return;
            }
        }
        self.use_together();
    }

    /// Something else than to delete it: releases it, has it for longer, or leaves it alone.
    pub(super) fn use_otherwise(&mut self, kept: &Kept, turn: &mut Turn<'_>) {
        match kept.number % 3 {
            0 => self.use_receipt(kept, ReceiptUse::Visibility { ms: 0 }, turn),
            1 => self.use_receipt(kept, ReceiptUse::Visibility { ms: 300 }, turn),
            _ => {}
        }
    }

    pub(super) fn use_receipt(&mut self, kept: &Kept, to: ReceiptUse, turn: &mut Turn<'_>) {
        let epoch = match &self.connection {
            Some(connection) => connection.serving.epoch,
            None => return,
        };
        let until = turn
            .history
            .give_up(kept.number, kept.pull, (epoch, turn.now));
        if epoch > kept.receipt.epoch {
            turn.history.sees("receipts of a former node");
            if until > turn.now {
                turn.history.sees("of those, within their leases");
            }
        }
        let (number, receipt) = (kept.number, kept.receipt);
        if self.batches {
            return self.uses.push(Use {
                number,
                receipt,
                until,
                to,
            });
        }
        let token = self.ask(match to {
            ReceiptUse::Delete => Asked::Settle(number, until),
            ReceiptUse::Visibility { .. } | ReceiptUse::PutBack { .. } => Asked::Release,
        });
        self.push(Command::UseReceipt(UseReceipt {
            token,
            lane: Lane(0),
            receipt,
            to,
        }));
    }

    /// Uses what has come together by one command: each is used or refused by itself. Some name the first one twice.
    pub(super) fn use_together(&mut self) {
        if self.uses.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.uses);
        if all.len() % 3 == 2 {
            all.push(all[0]);
        }
        let uses = all.iter().map(|it| (it.receipt, it.to)).collect();
        let token = self.ask(Asked::UseAll(all));
        self.push(Command::UseReceipts(Box::new(UseReceipts {
            token,
            lane: Lane(0),
            uses,
        })));
    }
}

/// What became of a message that was to be deleted.
pub(super) fn settled(
    number: u64,
    until: u64,
    outcome: Result<u32, RefusalKind>,
    origin: Origin,
    turn: &mut Turn<'_>,
) -> Result<(), String> {
    match outcome {
        // What it is not out to any more, and nobody consumes, is gone.
        Ok(known) if known > 0 || turn.history.message(number).target == Target::Plain => {
            turn.history.settle(number, origin, turn.now)
        }
        Err(RefusalKind::UnknownDelivery | RefusalKind::NotOut) => {
            turn.history.refused(number, until, turn.now)
        }
        _ => Ok(()),
    }
}

/// What became of each use of one command.
pub(super) fn settled_all(
    all: &[Use],
    outcomes: &[Result<u32, Refusal>],
    origin: Origin,
    turn: &mut Turn<'_>,
) -> Result<(), String> {
    if all.len() != outcomes.len() {
        return Err(format!(
            "each is answered: {} of {} are",
            outcomes.len(),
            all.len()
        ));
    }
    turn.history.sees("receipts of one command");
    for (at, (used, outcome)) in all.iter().zip(outcomes).enumerate() {
        let outcome = outcome.as_ref().map(|known| *known);
        let outcome = outcome.map_err(|refusal| refusal.kind);
        let place = |of: &Use| (of.receipt.queue, of.receipt.qseq);
        let again = all[..at].iter().any(|it| place(it) == place(used));
        if used.receipt.epoch < origin.epoch {
            let what = "receipts of a former node in one command";
            turn.history.sees(what);
        }
        if again != (outcome == Err(RefusalKind::InvalidArgument)) {
            return Err(format!("a message is used once: {used:?} is {outcome:?}"));
        }
        if used.to == ReceiptUse::Delete && !again {
            settled(used.number, used.until, outcome, origin, turn)?;
        }
    }
    Ok(())
}
