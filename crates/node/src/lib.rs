//! The broker core, the journal and the users composed into one step.
//!
//! Whoever brings work steps the node: [`Link::submit`](session::Link::submit) takes the one short lock, decides and applies each command, hands
//! the records to the journal and routes the effects into outboxes. Nothing under the lock waits, reads a disk or
//! verifies a password. The journal's thread never takes the lock: it publishes what is committed and wakes connections.
//!
//! Invariants kept here: *safe before confirm* and *safe before shown* (every effect that rests on durable state waits
//! for its batch), *one command, one batch*, *time never goes back*, *apply before append* (a record that cannot be
//! applied aborts the process before it reaches the disk).
//!
//! | file | what |
//! |---|---|
//! | `node.rs` | [`Node`]: start, attach, shutdown; who owns what |
//! | `step.rs` | the one lock, and one step under it |
//! | `link.rs` | a connection's way in and out |
//! | `heads.rs` | heads of publishes, encoded before the lock is taken |
//! | `showing.rs` | what a step shows to several connections alike |
//! | `outbox.rs` | what waits to leave towards one connection |
//! | `stored.rs` | messages read back from the journal: cache, reader pool |
//! | `host.rs` | the machine, to a node |
//! | `steps.rs` | the work of the node's threads, for whoever steps it |
//! | `stream_files.rs` | records of streams copied out of the journal, and read back |
//! | `keeper.rs` | the timer thread: due work, storage alarms |
//! | `progress.rs` | how far the journal had come a moment ago |
//! | `housekeeping.rs` | snapshots and the reclaiming of space |
//! | `verify.rs` | the password pool |
//! | `permission.rs` | which rights a command needs |
//! | `audit.rs` | what was refused, in the log and counted |
//! | `scrub.rs` | reading again what is sealed |
//! | `reload.rs` | other users while connections go on |
//! | `clock.rs` | the core's time |
//! | `standby.rs` | a core that follows another node's journal, and takes its place |
//! | `threshold.rs` | whose login would be right, asked of a node that is not active |
//! | `pair.rs` | [`Pair`]: one process through its roles, and what its doors give to connections in each |
//! | `recovery.rs` | from the journal to a core |
//! | `metrics.rs` | the counters as Prometheus text |
#![forbid(unsafe_code)]

mod audit;
mod clock;
mod config;
mod heads;
mod host;
mod housekeeping;
mod keeper;
mod link;
mod metrics;
mod node;
mod outbox;
mod pair;
mod permission;
mod progress;
mod recovery;
mod reload;
mod scrub;
mod showing;
mod standby;
mod step;
mod steps;
mod stored;
mod stream_files;
mod threshold;
mod verify;

pub use config::Config;
pub use host::{Clocks, Host, Machine};
pub use node::{Node, Role, StartError};
pub use pair::{Change, Pair};
pub use reload::Reloaded;
pub use standby::{Manners, REGISTER_EVERY, Reason, Standby, Turn};
pub use steps::Steps;
