//! STOMP 1.0, 1.1 and 1.2: the server's side as a [`Session`](::session::Session), and a codec for both sides.
//!
//! One codec and one session; the version is a field. What is spoken beyond the specification (destinations, headers of
//! RabbitMQ and ActiveMQ) is listed in `destination.rs` and `message.rs`.
//!
//! Deliberately absent, and refused with an ERROR that says so: selectors on queues, a SUBSCRIBE to several destinations at once,
//! browsers, retroactive, exclusive (ActiveMQ's) and no-local consumers, scheduled repetition.
//!
//! Who subscribes again under the name of a durable subscription, but to another topic or with another selector, gets what
//! either matches: UNSUBSCRIBE it first. TLS, sockets and timers belong to the connection loop.
//!
//! A server that is not the active one answers CONNECT with an ERROR of the message `not active`, whose header `server-reference`
//! is the `host:port` of the one that is, if it is known; the same when it ceases to be active.
//!
//! | file | what |
//! |---|---|
//! | `codec.rs` | [`codec::Frame`], [`Version`], encoding |
//! | `codec/decoder.rs`, `codec/header.rs` | [`codec::Decoder`]; headers and their escapes |
//! | `session.rs` | [`StompSession`]: the states of a connection |
//! | `session/handshake.rs` | CONNECT: version, credentials, heart-beats |
//! | `session/conversation.rs` | every frame and event after CONNECTED |
//! | `session/sending.rs` | SEND, and what must be there before |
//! | `session/subscribing.rs` | SUBSCRIBE and UNSUBSCRIBE |
//! | `session/opening.rs` | queues whose names the core makes up: topic subscriptions, temporary queues |
//! | `session/options.rs` | what its headers ask for in other brokers' words |
//! | `session/ledger.rs` | what is out to a subscription, and what an ACK covers |
//! | `session/transaction.rs` | BEGIN, COMMIT, ABORT |
//! | `session/heart_beat.rs` | both directions' deadlines |
//! | `destination.rs` | destinations to addresses and back |
//! | `message.rs` | SEND to message, delivery to MESSAGE |
//! | `config.rs`, `error.rs` | limits and choices; what an ERROR frame says |
#![forbid(unsafe_code)]

pub mod codec;
mod config;
pub mod destination;
mod error;
mod message;
mod session;

pub use codec::Version;
pub use config::{Config, Counters, Dialect, UnknownHost};
pub use session::StompSession;
