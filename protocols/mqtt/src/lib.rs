//! MQTT 5.0 (OASIS, 2019), 3.1.1 (OASIS, 2014) and 3.1 (`MQIsdp`), on one codec and one session.
//!
//! Pure: bytes, events and the time go in; bytes and commands come out. No socket, clock, task or chance is here.
//!
//! | file | what |
//! |---|---|
//! | `codec.rs`, `codec/*` | every packet of the specification, decoded and encoded, for servers and for clients |
//! | `names.rs` | topics and filters <-> levels; `$queue`, `$stream`, `$share` and the reserved first levels |
//! | `message.rs` | the only place where a PUBLISH becomes a message and back; what has no equal is listed there |
//! | `session.rs`, `session/*` | one connection: handshake, inbound, outbound, subscriptions, keep alive |
//! | `error.rs` | what a peer can get wrong, and with which reason code it is told |
//! | `config.rs` | limits, with units, defaults and bounds |
//!
//! Supported: every packet, every property, QoS 0 to 2 both ways, retained messages, wills with delay, persistent
//! sessions with expiry, shared subscriptions (in 3.1.1 too), topic aliases and flow control both ways, `$queue/NAME`;
//! `$stream/NAME/KEY` publishes to a stream, and a subscription to `$stream/NAME` or `$stream/NAME/#` is given its records from
//! the next one on, as those of a topic.
//!
//! A node that is not the active one sends MQTT 5 clients to the one that is (4.11): 0x9C with a Server Reference, in CONNACK
//! and, when it ceases to be active, in DISCONNECT. Before MQTT 5 that is return code 3, or just the end.
//!
//! Not supported, and refused: enhanced authentication (CONNECT with an authentication method gets 0x8C).
#![forbid(unsafe_code)]

pub mod codec;
mod config;
mod error;
mod message;
mod names;
mod session;

pub use config::{Config, ConfigError, Counters, Manners};
pub use error::DecodeError;
pub use names::{
    Dialect, FilterError, Names, Subject, SubjectError, decode_filter, decode_source, decode_topic,
    encode_address, encode_filter, encode_topic,
};
pub use session::MqttSession;
