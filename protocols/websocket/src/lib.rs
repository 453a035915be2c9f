//! WebSocket (RFC 6455), server side: a [`session::Session`] around any other.
//!
//! The HTTP upgrade is the HTTP server's; what begins here is the connection after it. Each frame of the inner protocol
//! becomes one message; what comes in is a stream of bytes whatever its messages and fragments. Reading (masks,
//! fragments, control frames, limits) is tungstenite's, over memory; writing needs no more than a header before the
//! inner frame, which is not copied again.
//!
//! Close codes: 1000 and 1002 after the inner protocol's own end, 1001 when the server goes down, 1012 when this node ceases to be
//! the active one (come back), 1013 when it is not (go to another address); what the inner protocol says comes before.
//!
//! Deliberately absent: extensions (no compression is ever offered), the client side, pings of our own (every inner
//! protocol has a keep-alive).
//!
//! | file | what |
//! |---|---|
//! | `websocket.rs` | [`WebSocket`] |
//! | `pipe.rs` | the memory that the protocol engine reads from and writes to |
//! | `subprotocol.rs` | [`choose_subprotocol`], [`accept_key`] |
//! | `sniff.rs` | [`Sniff`]: the inner protocol recognised by its first bytes |
#![forbid(unsafe_code)]

mod pipe;
mod sniff;
mod subprotocol;
mod websocket;

pub use sniff::Sniff;
pub use subprotocol::{Protocol, Subprotocol, accept_key, choose_subprotocol};
pub use websocket::{Config, Kind, WebSocket};
