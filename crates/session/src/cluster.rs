//! The pair: which node is active, where, and how far the other one has come. Plain data, filled by the node.

use std::{borrow::Cow, sync::Arc};

use message::Timestamp;

/// Where the active node's doors are, for clients that came to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Active {
    /// The listener, as the configuration names it (`mqtt`, `amqp`, `stomp`, `http`, `aws`), and `host:port`.
    pub addresses: Vec<(Arc<str>, Arc<str>)>,
}

impl Active {
    /// Where a listener of that name is.
    #[must_use]
    pub fn at(&self, listener: &str) -> Option<&Arc<str>> {
        let (_, address) = self
            .addresses
            .iter()
            .find(|(name, _)| **name == *listener)?;
        Some(address)
    }
}

/// What a client is told that came to a node that is not active: a sentence for people, with the place of the same listener.
#[must_use]
pub fn not_active_words(active: Option<&Active>, listener: &str) -> Cow<'static, str> {
    match active.and_then(|active| active.at(listener)) {
        Some(address) => format!("this node is not the active one; {address} is").into(),
        None => "this node is not the active one".into(),
    }
}

/// What a node is to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It reads the journal, and is neither of the others yet.
    Starting,
    /// It serves.
    Active,
    /// It served, and its lease is over: another one may have taken its place, so it confirms and shows nothing until it knows. So it is for
    /// moments after it was paused, and for as long as its storage does not answer.
    Silent,
    /// It follows the active one and takes over when that one ends.
    Standby,
    /// It does not serve and will not: its journal failed, or it was ended.
    Stopped,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Starting,
        Self::Active,
        Self::Silent,
        Self::Standby,
        Self::Stopped,
    ];

    /// The word that programs read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Silent => "silent",
            Self::Standby => "standby",
            Self::Stopped => "stopped",
        }
    }
}

/// What a node knows of the pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// What it is.
    pub role: Role,
    /// The id of this process, in 32 hex digits, from when it opened the journal until it opens it anew, as it does when it steps down: drawn by
    /// chance each time, since files of the journal are named after it and none may have two writers. A standby keeps its own when it takes over.
    pub node: String,
    /// The newest epoch that it knows of.
    pub epoch: u64,
    /// Batches that are committed, as far as it knows.
    pub committed: u64,
    /// How far it is behind; only a standby can be.
    pub lag: Option<Lag>,
    /// Where the active node is, if it knows. The active one names itself.
    pub active: Option<Arc<Active>>,
    /// The standbys, as the active one sees them.
    pub standbys: Vec<StandbyView>,
    /// How far the wall clock of its machine is ahead of the broker's time, in ms; negative: behind.
    pub clock_ahead_ms: i64,
    /// Takeovers by this process.
    pub takeovers: u64,
    /// The last one that it knows of.
    pub last_takeover: Option<Takeover>,
    /// How the journal is.
    pub journal: JournalView,
}

/// How a journal is: damage that was found, and what was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalView {
    /// What operators gave up, the last first, at most [`JournalView::TOLD_MAX`].
    pub given_up: Vec<Damage>,
    /// How much that is in all.
    pub losses: u64,
    /// Records that were passed over because they rest on what was given up, in the life of the journal.
    pub passed_over: u64,
    /// Damage that was found since the start, at most [`JournalView::TOLD_MAX`] of the first hundred places, the last of them first.
    pub damaged: Vec<Damage>,
    /// How many places that are in all.
    pub damages: u64,
    /// There are so many that no more are counted.
    pub damages_beyond: bool,
    /// Records that were copied forward out of what is damaged.
    pub repaired: u64,
    /// Bytes that were read again since the start.
    pub scrubbed_bytes: u64,
    /// How often everything was read again.
    pub scrub_passes: u64,
    /// The disk that it lies on, as this node sees it.
    pub disk: Option<DiskView>,
}

/// How much room there is for a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskView {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// It is so little that publishes are refused; only the active node, which has a reserve, knows.
    pub low: Option<bool>,
}

impl JournalView {
    /// How many places of damage are told one by one.
    pub const TOLD_MAX: usize = 20;
}

/// A place in the journal that is damaged, or was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file and the folder that it is in.
    pub file: String,
    /// The first offset that is wrong.
    pub offset: u64,
    /// How that shows.
    pub what: String,
    /// The batches that it costs, first and last, as far as that is known.
    pub batches: Option<(u64, u64)>,
    /// Records in those; 0 if that is not known.
    pub records: u64,
    /// When an operator gave it up, by the wall clock.
    pub given_up: Option<Timestamp>,
    /// Under which name in the data directory the damaged file stays.
    pub kept: Option<String>,
}

/// How far a standby is behind the active node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Batches that it has not applied.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// For how long it has been behind, in ms.
    pub ms: u64,
}

/// A standby as the active node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyView {
    /// The process, by the same id as its own [`Cluster::node`].
    pub node: String,
    /// Batches that it had not applied when it last said so.
    pub lag_batches: u64,
    /// When it last said something, in ms before now.
    pub seen_ms_ago: u64,
    /// Where its doors are.
    pub addresses: Arc<Active>,
    /// It could take over: everything that it needs for that is ready, and it is not too far behind.
    pub can_take_over: bool,
}

/// How a takeover went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// When it was over.
    pub at: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// From the last sign of life to the decision.
    pub detect_us: u64,
    /// Until the former node could write no more.
    pub fence_us: u64,
    /// Until the last of what it wrote was read.
    pub tail_us: u64,
    /// Until the new epoch was published.
    pub publish_us: u64,
    /// Until clients were served.
    pub activate_us: u64,
}

impl Takeover {
    /// The names of its phases, in their order.
    pub const PHASES: [&str; 5] = ["detect", "fence", "tail", "publish", "activate"];

    /// Its phases by name, in their order, in µs.
    #[must_use]
    pub fn phases(&self) -> [(&'static str, u64); 5] {
        let us = [
            self.detect_us,
            self.fence_us,
            self.tail_us,
            self.publish_us,
            self.activate_us,
        ];
        std::array::from_fn(|at| (Self::PHASES[at], us[at]))
    }
}
