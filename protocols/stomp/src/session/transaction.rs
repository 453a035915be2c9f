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

/// The open transactions of a connection, by name.
#[derive(Debug, Default)]
pub(super) struct Transactions(BTreeMap<Bytes, Transaction>);

impl Transactions {
    pub(super) fn begin(&mut self, name: Bytes, config: &Config) -> Result<(), Fault> {
        if self.0.len() >= config.transactions_max {
            let detail = format!("more than {} transactions", config.transactions_max);
            return Err(Fault::peer("quota exceeded", detail));
        }
        if self.0.contains_key(&name) {
            return Err(Fault::peer(
                "transaction exists",
                format!("'{}' has begun already", String::from_utf8_lossy(&name)),
            ));
        }
        self.0.insert(name, Transaction::default());
        Ok(())
    }

    pub(super) fn open(&mut self, name: &Bytes) -> Result<&mut Transaction, Fault> {
        self.0.get_mut(name).ok_or_else(|| unknown(name))
    }

    pub(super) fn take(&mut self, name: &Bytes) -> Result<Transaction, Fault> {
        self.0.remove(name).ok_or_else(|| unknown(name))
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
        if self.operations.len() > config.transaction_operations_max {
            let detail = format!(
                "more than {} operations in a transaction",
                config.transaction_operations_max
            );
            return Err(Fault::peer("quota exceeded", detail));
        }
        if self.bytes > config.transaction_bytes_max {
            let detail = format!(
                "more than {} bytes in a transaction",
                config.transaction_bytes_max
            );
            return Err(Fault::peer("quota exceeded", detail));
        }
        Ok(())
    }

    pub(super) fn stage_publish(&mut self, publish: Publish, config: &Config) -> Result<(), Fault> {
        self.bytes += publish.message.body.len();
        self.operations.push(Operation::Publish(publish));
        self.room(config)
    }

    pub(super) fn stage_settle(&mut self, settle: Settle, config: &Config) -> Result<(), Fault> {
        self.operations.push(Operation::Settle(settle));
        self.room(config)
    }
}
