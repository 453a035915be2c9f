//! AMQP 0-9-1 with RabbitMQ's extensions: codec and session, without I/O.
//!
//! Specification: AMQP 0-9-1 and its generated definition, with RabbitMQ's additions (exchange to exchange bindings,
//! `basic.nack`, publisher confirms, consumer cancel notification, `connection.blocked`, `authentication_failure_close`,
//! consumer priorities, per-consumer prefetch, direct reply-to, CC and BCC).
//!
//! Refused, in the protocol's words: `immediate` publishing, `basic.recover` without requeue, `prefetch_size`,
//! SASL mechanisms other than PLAIN and AMQPLAIN, exchange types other than the four, `x-consumer-timeout`
//! (406). `no-local` means nothing, as in RabbitMQ.
//! `connection.update-secret` is answered and changes nothing: a login by password does not expire.
//!
//! A node that is not the active one says so with 320 where RabbitMQ says that a virtual host is down, at `connection.open`; the
//! text names the one that is, as AMQP 0-9-1 has no redirection.
//!
//! | file | what |
//! |---|---|
//! | `codec.rs`, `codec/` | frames, methods, tables, properties: decode and encode, both directions |
//! | `key.rs` | routing and binding keys as levels, and back |
//! | `arguments.rs` | `x-` arguments as attributes of the core |
//! | `equivalence.rs` | what two declarations are compared by, and how a difference is told |
//! | `message.rs` | a publish as the common message, a delivery as exchange, key and properties |
//! | `error.rs` | decode errors, reply codes, what ends a channel and what a connection |
//! | `session.rs`, `session/` | the state machine |
//! | `config.rs` | limits and timeouts |
#![forbid(unsafe_code)]

mod arguments;
pub mod codec;
mod config;
mod equivalence;
mod error;
pub mod key;
mod message;
mod session;

pub use config::{ChannelFlow, Config};
pub use error::{DecodeError, Fault, ReplyCode};

pub use crate::session::AmqpSession;
