//! Plays the node: gives the core its commands, keeps its records and plays them back.
//!
//! [`Node`] does what a node does between a connection and the core, without a clock, a thread or a disk: it decides,
//! encodes every durable change into a record, applies, delivers until nothing more is possible, answers fetches out of
//! its own records, and keeps everything that was said to each connection in the order in which it was said.
//!
//! | file | what |
//! |---|---|
//! | `node.rs` | [`Node`] |
//! | `build.rs` | commands and messages in few words |
//! | `history.rs` | random histories |
//! | `play.rs` | what their steps come to |
//! | `sections.rs` | snapshots taken apart |
//! | `random.rs` | seeds, and the search for the shortest history that fails |
//!
//! Deliberately absent: lanes that hold things back. What an effect waits for is noted beside it ([`Heard::after`]), so
//! a test can look at it.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses its own part of this module"
)]

mod build;
mod history;
mod node;
mod play;
mod random;
pub(crate) mod sections;

pub(crate) use build::*;
pub(crate) use history::{QUEUES, Sent, Step, Theme, history, options, queue_name};
pub(crate) use node::{Give, Heard, Node, Record, encoded, mend, mended};
pub(crate) use play::{Action, Play, play_on};
pub(crate) use random::{Random, seeds, shortest};
