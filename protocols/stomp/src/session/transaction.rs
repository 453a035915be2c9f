//! Transactions: staged here, committed as one command (STOMP 1.2, "BEGIN", "COMMIT", "ABORT").

use std::collections::BTreeMap;

use bytes::Bytes;
use session::{Operation, Publish, Settle};

use crate::{Config, error::Fault};

/// What one transaction holds.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) operations: Vec<Operation>,
    /// Consumer and numbers of deliveries set aside by its ACKs and NACKs.
    pub(super) set_aside: Vec<(u64, Vec<u64>)>,
    bytes: usize,
}

/// The open transactions of a connection, by name. Their bytes are bounded together: they all wait in memory.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: BTreeMap<Bytes, Transaction>,
    bytes: usize,
}

impl Transactions {
    /// [STOMP-begin-1].
    pub(super) fn begin(&mut self, name: &Bytes, config: &Config) -> Result<(), Fault> {
        if self.open.len() >= config.transactions_max {
            let detail = format!("more than {} transactions", config.transactions_max);
            return Err(Fault::peer("quota exceeded", detail));
        }
        if self.open.contains_key(name) {
            return Err(Fault::peer(
                "transaction exists",
                format!("'{}' has begun already", String::from_utf8_lossy(name)),
            ));
        }
        // Not a part of the read buffer, which it would keep alive.
        self.open
            .insert(Bytes::copy_from_slice(name), Transaction::default());
        Ok(())
    }

    /// [STOMP-commit-1].
    pub(super) fn take(&mut self, name: &Bytes) -> Result<Transaction, Fault> {
        let transaction = self.open.remove(name).ok_or_else(|| unknown(name))?;
        self.bytes -= transaction.bytes;
        Ok(transaction)
    }

    /// Stages a SEND.
    pub(super) fn publish(
        &mut self,
        name: &Bytes,
        publish: Publish,
        config: &Config,
    ) -> Result<(), Fault> {
        let transaction = self.open.get_mut(name).ok_or_else(|| unknown(name))?;
        let head = publish.message.native.as_ref();
        let bytes = publish.message.body.len() + head.map_or(0, |native| native.head.len());
        transaction.bytes += bytes;
        self.bytes += bytes;
        if self.bytes > config.transaction_bytes_max {
            let max = config.transaction_bytes_max;
            let detail = format!("more than {max} bytes in transactions");
            return Err(Fault::peer("quota exceeded", detail));
        }
        transaction.operations.push(Operation::Publish(publish));
        transaction.room(config)
    }

    /// Stages what became of deliveries that have been set aside.
    /// [STOMP-ack-3].
    pub(super) fn settle(
        &mut self,
        name: &Bytes,
        consumer: u64,
        numbers: Vec<u64>,
        settles: impl Iterator<Item = Settle>,
        config: &Config,
    ) -> Result<(), Fault> {
        let transaction = self.open.get_mut(name).ok_or_else(|| unknown(name))?;
        transaction.set_aside.push((consumer, numbers));
        transaction
            .operations
            .extend(settles.map(Operation::Settle));
        transaction.room(config)
    }
}

fn unknown(name: &[u8]) -> Fault {
    Fault::peer(
        "no such transaction",
        format!("'{}' has not begun", String::from_utf8_lossy(name)),
    )
}

impl Transaction {
    fn room(&self, config: &Config) -> Result<(), Fault> {
        let max = config.transaction_operations_max;
        if self.operations.len() > max {
            let detail = format!("more than {max} operations in a transaction");
            return Err(Fault::peer("quota exceeded", detail));
        }
        Ok(())
    }
}
