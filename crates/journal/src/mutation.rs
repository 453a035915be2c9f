//! The mutation gate: each part of the protocol taken out in turn, so that the simulator can show that it sees why the
//! part is there. Only with the feature `mutations`, which no product has.

use std::sync::atomic::{AtomicU8, Ordering};

/// A part that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    /// A commit does not read the fence.
    SkipFenceCheck = 1,
    /// A commit reads the fence, and writes then.
    CheckBeforeWrite,
    /// A takeover reads the tail, and sets the fence then.
    TailBeforeFence,
    /// The successor of an epoch is published whether its name is free or not.
    NoCompareAndSwap,
    /// What lies in a segment is taken for what was written last: neither salt nor chain are looked at.
    TrustWhatLies,
    /// What follows the proven part of the tail stays where it is.
    AdoptByReference,
    /// What follows the proven part of the tail is dropped.
    DropTail,
    /// A write that failed counts if a sync after it succeeds.
    RetrySync,
    /// A write that failed counts.
    IgnoreFailedWrite,
    /// Segments are reclaimed though no snapshot covers them.
    ReclaimBeforeSnapshot,
    /// Segments are reclaimed before what let them go is committed.
    ReclaimBeforeCommit,
    /// A segment of a closed epoch is used again. Its late writes must hit just what was written anew: ten thousand seeds may
    /// not be enough; the model of the fence protocol shows it.
    RecycleClosedSegment,
    /// Records of old epochs are deleted.
    DeleteEpochRecord,
    /// The entries of directories are not synced before the epoch is published.
    SkipDirectorySync,
    /// A snapshot is named before it is durable.
    NameSnapshotBeforeSync,
    /// A standby applies what it sees, proven durable or not, in front of a fence or behind it.
    ApplyUnproven,
    /// The lease says that a batch is durable before the fence was read.
    StampBeforeFence,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::SkipFenceCheck,
        Self::CheckBeforeWrite,
        Self::TailBeforeFence,
        Self::NoCompareAndSwap,
        Self::TrustWhatLies,
        Self::AdoptByReference,
        Self::DropTail,
        Self::RetrySync,
        Self::IgnoreFailedWrite,
        Self::ReclaimBeforeSnapshot,
        Self::ReclaimBeforeCommit,
        Self::RecycleClosedSegment,
        Self::DeleteEpochRecord,
        Self::SkipDirectorySync,
        Self::NameSnapshotBeforeSync,
        Self::ApplyUnproven,
        Self::StampBeforeFence,
    ];
}

static MUTATION: AtomicU8 = AtomicU8::new(0);

/// Takes a part out, for the whole process.
pub fn mutate(mutation: Mutation) {
    MUTATION.store(mutation as u8, Ordering::Relaxed);
}

pub(crate) fn is(mutation: Mutation) -> bool {
    MUTATION.load(Ordering::Relaxed) == mutation as u8
}
