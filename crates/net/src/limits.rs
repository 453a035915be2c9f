//! The limits of a connection, with units and defaults. Values only: checked where the configuration is read.

/// What a connection may hold and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections open at a time, over all listeners, at least 1. Default 100,000.
    pub connections_max: usize,
    /// Connections accepted a second, over all listeners: beyond it they wait in the kernel's queue. 0: no limit. Default 2,000.
    pub accepts_per_s: u32,
    /// The same of one address (of one /64 in IPv6), after four seconds' worth at once: beyond it they are closed. 0: no limit.
    /// Default 500: a whole fleet may stand behind one address.
    pub address_accepts_per_s: u32,
    /// Most connections open at a time from one address (of one /64 in IPv6). 0, the default: no limit.
    pub address_connections_max: usize,
    /// Whether the three apply to peers on this machine. Default no.
    pub loopback_limited: bool,
    /// Most bytes that a peer may send before it is logged in. Default 256 KiB.
    pub login_len_max: usize,
    /// Most bytes of all such peers together, beyond 8 KiB of each. Default 64 MiB.
    pub login_pool_len_max: usize,
    /// Bytes waiting for the socket above which the connection reads no more and takes no more events. Default 256 KiB.
    pub wire_len_max: usize,
    /// A peer that takes nothing for so long while a quarter of `wire_len_max` waits for it is disconnected, in ms. Default 30,000.
    pub stall_timeout_ms: u64,
    /// For sending the last words of a connection that closes, in ms. Default 5,000.
    pub close_timeout_ms: u64,
    /// How long to wait for the peer's own end after ours, in ms: closing a socket with bytes unread destroys what it has
    /// not delivered yet. Default 1,000.
    pub linger_timeout_ms: u64,
    /// HTTP: bytes of a request's line and headers, at least 8 KiB. Default 16 KiB.
    pub http_head_len_max: usize,
    /// HTTP: for a request's line and headers to arrive, also between two requests, in ms. Default 10,000.
    pub http_head_timeout_ms: u64,
    /// Protocols over HTTP: the same, for clients that keep their connections, in ms. Default 60,000.
    pub http_idle_timeout_ms: u64,
    /// Protocols over HTTP: for a request's body to arrive, in ms. Default 120,000.
    pub http_body_timeout_ms: u64,
    /// Protocols over HTTP: most bytes of bodies that are being read, all connections together. Default 256 MiB.
    pub http_bodies_len_max: usize,
    /// Protocols over HTTP/2: most bytes of answers that one connection has not taken, beyond which its requests are refused as for want of
    /// room. Answers of up to 64 KiB, and one of any length, are sent all the same. Default 64 MiB.
    pub http_answers_len_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            accepts_per_s: 2_000,
            address_accepts_per_s: 500,
            address_connections_max: 0,
            loopback_limited: false,
            login_len_max: 256 * 1024,
            login_pool_len_max: 64 * 1024 * 1024,
            wire_len_max: 256 * 1024,
            stall_timeout_ms: 30_000,
            close_timeout_ms: 5_000,
            linger_timeout_ms: 1_000,
            http_head_len_max: 16 * 1024,
            http_head_timeout_ms: 10_000,
            http_idle_timeout_ms: 60_000,
            http_body_timeout_ms: 120_000,
            http_bodies_len_max: 256 * 1024 * 1024,
            http_answers_len_max: 64 * 1024 * 1024,
        }
    }
}
