#![expect(
    clippy::disallowed_methods,
    reason = "tests start the tasks that the binary would"
)]
//! The connection loop over in-memory streams, and listeners and HTTP over real sockets at port 0. Sessions and ports are toys:
//! nothing here depends on a protocol, on a real clock or on how fast the machine is.

mod connection;
mod drain;
mod exchange;
mod http;
mod listener;
mod random;
mod requests;
mod toy_exchange;
mod toys;
