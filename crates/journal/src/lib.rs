#![expect(
    clippy::disallowed_methods,
    reason = "threads and their clocks belong to the journal"
)]
//! The durable log: batches, group commit, epochs and fences, recovery, snapshots, space, and the file engine.
//!
//! ```text
//! DIR/FORMAT  epochs/1 2 3 ..   fence/<e>-<writer>   lease/<e>-<writer>   seg/<e>-<n>-<salt>   snap/<batch>-<writer>
//!     standby/<node>  lost/<batch>-<n>-<writer>
//!
//! segment: | header 4 KiB | batch | batch | batch ...                    | zeros | trailer (index) |
//! batch:            | header 128 B | frame | frame | frame ... | zeros to 4 KiB |
//! frame:                           | crc32c, length, kind, flags | payload | zeros to 8 B |
//! ```
//! Records are opaque here: a kind and a payload. Invariants, by name:
//! - *Safe before confirm*: a batch is committed when its write is durable and the fence, read after that, is clear.
//! - *One active per epoch*: the successor of an epoch is published by `link`, after its fence was set and before its
//!   tail was read. Safety needs no clock.
//! - *Own files only*: a file is written by the process that created it, and by nobody after it.
//! - *Never guess*: what might be a torn tail is cut; whatever else does not match is refused, not skipped.
//! - *Ids for ever*: a [`message::StoredId`] names where a record was first written; moving it leaves a forward.
//!
//! | file | what |
//! |---|---|
//! | `batch.rs`, `segment.rs`, `layout.rs`, `snapshot.rs` | the bytes on disk, drawn in each |
//! | `stream_file.rs` | records of streams, copied out of the journal |
//! | `passing.rs` | files written once and read in order, past the page cache |
//! | `id.rs` | what a stored id is made of |
//! | `stage.rs`, `engine.rs`, `threads.rs` | staging, the commit step, the two threads |
//! | `lease.rs` | whether the holder of an epoch lives; standbys that are near |
//! | `spares.rs` | segments prepared ahead, the reserve |
//! | `room.rs` | room that is kept for a takeover on a full disk |
//! | `loss.rs` | what an operator gave up |
//! | `probe.rs` | whether a directory keeps the promises that all this rests on |
//! | `survey.rs`, `recovery.rs`, `claim.rs` | reading a directory, opening it, becoming the next epoch |
//! | `standby.rs`, `standby/follow.rs`, `standby/takeover.rs` | following another process, and taking its place |
//! | `reader.rs`, `replay.rs` | batches in order, the history |
//! | `table.rs`, `cache.rs`, `in_order.rs` | where records lie and how long, reading back, one or many |
//! | `scrub.rs` | reading again what is sealed |
//! | `journal.rs`, `shared.rs` | the handle, and what is behind it |
//! | `vfs.rs` | the port to the file system: the real one, and a recorder for crash tests |
//! | `mutation.rs` | parts taken out, for the simulator's gate |
//! | `inspect.rs` | `verify` and `dump` |
//!
//! Absent: encryption (its fields are reserved), mirrors, engines other than files.
#![forbid(unsafe_code)]

/// Whether this part of the protocol is taken out: never in a product.
#[cfg(feature = "mutations")]
macro_rules! mutated {
    ($mutation:ident) => {
        crate::mutation::is(crate::mutation::Mutation::$mutation)
    };
}
#[cfg(not(feature = "mutations"))]
macro_rules! mutated {
    ($mutation:ident) => {
        false
    };
}

mod aligned;
mod batch;
mod cache;
mod claim;
mod config;
mod engine;
mod error;
mod forwards;
mod hash;
mod id;
mod in_order;
mod inspect;
#[allow(
    clippy::module_inception,
    reason = "the file holds the type that names the crate"
)]
mod journal;
mod layout;
mod lease;
mod loss;
#[cfg(feature = "mutations")]
mod mutation;
mod passing;
mod probe;
mod reader;
mod recovery;
mod replay;
mod room;
mod scrub;
mod segment;
mod shared;
mod snapshot;
mod spares;
mod stage;
mod standby;
mod stream_file;
mod survey;
mod table;
mod threads;
pub mod vfs;

pub use config::{Config, Direct};
pub use engine::{Engine, Step};
pub use error::{
    Corruption, Failure, OpenError, ReadError, ReplayError, SnapshotError, StandbyError,
};
pub use id::batch_of;
pub use in_order::InOrder;
pub use inspect::{DumpRecord, Report, dump, verify};
pub use journal::{Journal, Space, Stats};
pub use layout::Mark;
pub use lease::{Registrar, StandbySeen, boot_ms};
pub use loss::Loss;
#[cfg(feature = "mutations")]
pub use mutation::{Mutation, mutate};
pub use probe::probe;
pub use recovery::{Assessed, Opened, assess, open, open_stepped};
pub use replay::Replay;
pub use scrub::{Found, Health, Scrubber};
pub use segment::SegmentId;
pub use snapshot::SnapshotSource;
pub use stage::{Gatherer, Stage};
pub use standby::{Holder, Polled, Standby, Taken};
pub use stream_file::{FiledRecord, StreamFile, StreamFileCursor, StreamFileId, StreamFileWriter};
pub use table::Counting;
pub use vfs::{MemVfs, RealVfs, Vfs};
