//! Limits and timeouts of an AMQP 0-9-1 connection.

use std::sync::Arc;

/// What a client gets that asks for its deliveries to be held: `channel.flow` with `active` off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelFlow {
    /// They are held until it asks for them again, and a `flow-ok` says so.
    #[default]
    Honour,
    /// NOT_IMPLEMENTED (540), which ends the connection: as from RabbitMQ, for clients that tell servers apart by it.
    Refuse,
}

/// What may be negotiated and what is tolerated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Largest frame offered in `connection.tune`, in bytes, overhead included. 4,096 to 16 MiB.
    pub frame_len_max: u32,
    /// Largest frame before the tuning is done, in bytes. At least 4,096.
    pub handshake_frame_len_max: u32,
    /// Highest channel number offered. 1 to 65,535.
    pub channel_max: u16,
    /// What the server calls itself in `connection.start`, 1 to 255 bytes: clients choose by it what they may use.
    pub product: Arc<str>,
    /// The version that goes with it, 1 to 255 bytes.
    pub product_version: Arc<str>,
    /// What `channel.flow` does.
    pub channel_flow: ChannelFlow,
    /// Heart-beat interval offered, in seconds. 0: none.
    pub heartbeat_s: u16,
    /// From the first byte to `connection.open-ok`, in ms.
    pub handshake_timeout_ms: u64,
    /// How long a `connection.close` waits for its `close-ok`, in ms.
    pub close_timeout_ms: u64,
    /// Largest body of a message, in bytes.
    pub message_len_max: u64,
    /// Bodies that are not whole yet, of all channels of a connection together, in bytes.
    pub assembling_len_max: u64,
    /// Frames kept behind unanswered methods of their channels before the connection is read no further, in bytes; each
    /// counts at least as much as it takes in memory.
    pub deferred_len_max: usize,
    /// Operations of one transaction.
    pub transaction_operations_max: usize,
    /// Bytes staged in the transactions of a connection together: bodies, properties, and 512 bytes a publish.
    pub transaction_len_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            frame_len_max: 131_072,
            handshake_frame_len_max: 4096,
            channel_max: 2047,
            product: "Bascule".into(),
            product_version: env!("CARGO_PKG_VERSION").into(),
            channel_flow: ChannelFlow::Honour,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            close_timeout_ms: 5_000,
            message_len_max: 16 * 1024 * 1024,
            assembling_len_max: 64 * 1024 * 1024,
            deferred_len_max: 1024 * 1024,
            transaction_operations_max: 10_000,
            transaction_len_max: 64 * 1024 * 1024,
        }
    }
}
