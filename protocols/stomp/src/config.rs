//! Limits, timeouts and choices of a STOMP listener, with units and defaults, and what it counts.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::codec::Limits;

/// Which broker's customary spellings apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The prefixes of both; where they differ, RabbitMQ's way.
    #[default]
    Both,
    /// RabbitMQ: `*` and `#`, NACK makes the message available again, a `.` in a level is shown as it is.
    RabbitMq,
    /// ActiveMQ: `>` too, NACK rejects, virtual topics, `ActiveMQ.DLQ`.
    ActiveMq,
}

/// What a `host` header does that names no virtual host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownHost {
    /// The listener's default virtual host is used.
    #[default]
    Default,
    /// The connection is refused.
    Refuse,
}

/// What a listener counts; shared by its sessions.
#[derive(Debug, Default)]
pub struct Counters {
    headers_omitted: AtomicU64,
    deliveries_unnameable: AtomicU64,
    names_ambiguous: AtomicU64,
    sessions: AtomicU64,
}

impl Counters {
    /// Headers left out of a MESSAGE because its version cannot escape them, or because the value has no text.
    pub fn headers_omitted(&self) -> u64 {
        self.headers_omitted.load(Ordering::Relaxed)
    }

    /// Deliveries to topic subscriptions that were dropped because STOMP cannot write the topic's name.
    pub fn deliveries_unnameable(&self) -> u64 {
        self.deliveries_unnameable.load(Ordering::Relaxed)
    }

    /// Destinations of deliveries that are read back as others: in the dialect of RabbitMQ only.
    pub fn names_ambiguous(&self) -> u64 {
        self.names_ambiguous.load(Ordering::Relaxed)
    }

    pub(crate) fn add_name_ambiguous(&self) {
        self.names_ambiguous.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of a connection that logs in, from 1: no other of this listener has it.
    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn add_headers_omitted(&self, count: u64) {
        if count > 0 {
            self.headers_omitted.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn add_delivery_unnameable(&self) {
        self.deliveries_unnameable.fetch_add(1, Ordering::Relaxed);
    }
}

/// The settings of a STOMP listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which spellings apply.
    pub dialect: Dialect,
    /// What an unknown `host` does.
    pub unknown_host: UnknownHost,
    /// From accept to CONNECTED, in ms. 1 to 600,000.
    pub connect_timeout_ms: u64,
    /// Most headers of a CONNECT frame. 1 to 10,000.
    pub connect_header_count_max: usize,
    /// Longest head of a CONNECT frame, in bytes. 256 to 1,048,576.
    pub connect_head_len_max: usize,
    /// Most headers of a frame. 1 to 10,000.
    pub header_count_max: usize,
    /// Longest header line, in bytes. 256 to 65,535.
    pub header_len_max: usize,
    /// Longest head (command and headers), in bytes. 256 to 16,777,216.
    pub head_len_max: usize,
    /// Longest body, in bytes. 1 to 536,870,912.
    pub body_len_max: usize,
    /// The shortest interval at which the server sends heart-beats, in ms; 0: it sends none.
    pub heart_beat_send_ms: u32,
    /// The shortest interval at which the server wants heart-beats, in ms; 0: it wants none.
    pub heart_beat_receive_ms: u32,
    /// How long beyond the agreed interval the peer may be silent, in percent of it. 0 to 1,000.
    pub heart_beat_grace_percent: u32,
    /// Most subscriptions of a connection. 1 to 1,000,000.
    pub subscriptions_max: usize,
    /// Most transactions of a connection at a time. 1 to 10,000.
    pub transactions_max: usize,
    /// Most operations in a transaction. 1 to 10,000.
    pub transaction_operations_max: usize,
    /// Most bytes in the open transactions of a connection together. 1 to 67,108,864.
    pub transaction_bytes_max: usize,
    /// Most temporary queues of a connection. 1 to 100,000.
    pub temporary_queues_max: usize,
    /// `prefetch-count` of subscriptions that name none; 0: as many as the connection takes.
    pub prefetch_default: u32,
    /// Counts.
    pub counters: Arc<Counters>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dialect: Dialect::Both,
            unknown_host: UnknownHost::Default,
            connect_timeout_ms: 10_000,
            connect_header_count_max: 100,
            connect_head_len_max: 16 * 1024,
            header_count_max: 1_000,
            header_len_max: 65_535,
            head_len_max: 256 * 1024,
            body_len_max: 16 * 1024 * 1024,
            heart_beat_send_ms: 1_000,
            heart_beat_receive_ms: 1_000,
            heart_beat_grace_percent: 100,
            subscriptions_max: 10_000,
            transactions_max: 100,
            transaction_operations_max: 10_000,
            transaction_bytes_max: 64 * 1024 * 1024,
            temporary_queues_max: 1_000,
            prefetch_default: 0,
            counters: Arc::default(),
        }
    }
}

impl Config {
    /// What a peer may send before it is known.
    pub(crate) fn limits_before_login(&self) -> Limits {
        Limits {
            header_count_max: self.connect_header_count_max,
            header_len_max: self.connect_head_len_max,
            head_len_max: self.connect_head_len_max,
            body_len_max: 0,
        }
    }

    /// What a peer may send once it is known.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            header_count_max: self.header_count_max,
            header_len_max: self.header_len_max,
            head_len_max: self.head_len_max,
            body_len_max: self.body_len_max,
        }
    }

    pub(crate) fn rejects_on_nack(&self) -> bool {
        self.dialect == Dialect::ActiveMq
    }
}
