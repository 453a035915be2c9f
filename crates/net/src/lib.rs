#![expect(
    clippy::disallowed_methods,
    reason = "tasks and timers of connections belong to this crate"
)]
//! The only tokio: listeners, the connection loop, HTTP serving (health, metrics, the WebSocket upgrade), timers, drain.
//!
//! Names no protocol: generic over [`session::Session`], and over the core through [`session::Port`] and [`session::Link`].
//! A connection is one task and one future, without a channel, a second task or a lock of its own; while it is idle it
//! holds no buffer (see `scratch.rs`).
//!
//! | file | what |
//! |---|---|
//! | `connection.rs` | one connection, from its first byte to its end: [`serve_connection`] |
//! | `connection/wire.rs` | reading and writing without blocking |
//! | `scratch.rs` | the buffers that connections of one thread lend each other |
//! | `server.rs` | what all connections share: [`Server`], [`Seat`], the drain |
//! | `listener.rs` | [`Listener`]: bind, accept, back off |
//! | `admission.rs` | who may come, and how fast |
//! | `alarms.rs` | when connections are to be woken: one timer for all |
//! | `stranger.rs` | what a peer may cost before the core knows it |
//! | `exchange.rs`, `exchange/*.rs` | protocols of requests over HTTP ([`session::Exchange`]), HTTP/1.1 and HTTP/2 |
//! | `http.rs`, `http/*.rs` | [`Http`]: health, metrics, and the WebSocket upgrade |
//! | `limits.rs`, `traffic.rs` | [`Limits`]; counters of a listener |
//!
//! Not here: what a WebSocket frame is (a session that wraps another), and TLS.
#![forbid(unsafe_code)]

mod admission;
mod alarms;
mod connection;
mod exchange;
mod http;
mod limits;
mod listener;
mod scratch;
mod server;
mod stranger;
mod traffic;

pub use connection::{Ending, serve_connection};
pub use http::{Choose, Health, Http, Offer, Origins, UpgradeRefusal, Upgraded};
pub use limits::Limits;
pub use listener::{BindError, Listener};
pub use server::{Drained, Seat, Server};
pub use traffic::Traffic;
