//! What can go wrong, by who must act: the operator ([`OpenError`]), the node ([`Failure`], [`ReadError`]).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use message::{StoredId, Timestamp};

/// Why a journal could not be opened. Every line says what and where.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file operation failed.
    #[error("failed to {what} {}: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process serves this directory.
    #[error("{} is in use by another process{holder}", dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// " (pid N)", or nothing if it is not known.
        holder: String,
    },
    /// The directory holds something else.
    #[error("{} is not a journal of ours: it holds {found} but no FORMAT file", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One name found in it.
        found: String,
    },
    /// The directory does not keep the promises that the journal rests on.
    #[error("{} is not fit for a journal: {what}", dir.display())]
    Unfit {
        /// The directory.
        dir: PathBuf,
        /// What was seen.
        what: String,
    },
    /// Nothing is there to be read.
    #[error("{} holds no journal", dir.display())]
    Absent {
        /// The directory.
        dir: PathBuf,
    },
    /// A newer version wrote it.
    #[error("{} was written by a newer version (format {found}, this one reads up to {known})", path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The highest format known here.
        known: u32,
    },
    /// It is damaged; nothing is guessed, skipped or cut.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The clock is so far from the last sign of life in the journal that it is more likely wrong than right.
    #[error(
        "the clock of this machine is at {}, {} {} the last sign of life in {} ({}): set it right, or, if it is, start with a greater journal.clock_off_max_s",
        Timestamp(*clock_ms).date_time(), Apart(*clock_ms, *seen_ms), if clock_ms > seen_ms { "after" } else { "before" },
        dir.display(), Timestamp(*seen_ms).date_time()
    )]
    Clock {
        /// The directory.
        dir: PathBuf,
        /// What the clock says, in ms since the Unix epoch.
        clock_ms: u64,
        /// When the last holder of the journal last said that it lived, by its time.
        seen_ms: u64,
    },
    /// Another process published the next epoch first.
    #[error("another process took over {} (epoch {epoch})", dir.display())]
    Lost {
        /// The directory.
        dir: PathBuf,
        /// The epoch that it published.
        epoch: u64,
    },
}

/// How far two times are from each other, for people.
struct Apart(u64, u64);

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.abs_diff(self.1) / 1000;
        match seconds / 86_400 {
            0 => write!(f, "{seconds} s"),
            1 => write!(f, "a day"),
            days => write!(f, "{days} days"),
        }
    }
}

impl OpenError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Where the journal is damaged, and how that shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at offset {offset}: {what}", path.display())]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// The first offset that is wrong.
    pub offset: u64,
    /// How that shows.
    pub what: String,
}

impl Corruption {
    pub(crate) fn new(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }
}

/// Why a stored record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its batch is not committed.
    #[error("record {0:?} is not committed")]
    NotCommitted(StoredId),
    /// No segment holds it any more.
    #[error("record {0:?} is not in the journal")]
    Gone(StoredId),
    /// It is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The file could not be read.
    #[error("failed to read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why nothing commits any more. Final: the node drops what it has in memory and opens the journal again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Another process set this epoch's fence: it takes this one's place (RULES 17).
    #[error("fenced: {0}")]
    Fenced(String),
    /// This epoch's fence cannot be read: it may be set (RULES 17).
    #[error("fenced, for all that is known: {0}")]
    FenceUnread(String),
    /// A write or sync failed. It is not tried again.
    #[error("failed to write {}: {why}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A thread of the journal panicked: nobody does its work any more.
    #[error("a thread of the journal panicked: {0}")]
    Broken(&'static str),
    /// The journal was shut down.
    #[error("the journal is shut down")]
    Closed,
}

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The receiver of the records refused one.
    #[error("failed to apply the record {id:?}")]
    Apply {
        /// Which record.
        id: StoredId,
        /// What the receiver said.
        #[source]
        source: E,
    },
}

/// Why a standby follows no more.
#[derive(Debug, thiserror::Error)]
pub enum StandbyError<E> {
    /// The journal could not be read or taken over.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The receiver of the records refused one.
    #[error("failed to apply the record {id:?}")]
    Apply {
        /// Which record.
        id: StoredId,
        /// What the receiver said.
        #[source]
        source: E,
    },
}

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A position that is not committed, or no longer in the journal.
    #[error(transparent)]
    Position(#[from] ReadError),
    /// It could not be written.
    #[error("failed to write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
