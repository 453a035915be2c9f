//! The mutation gate: each part of the protocol taken out in turn, so that the simulator can show that it sees why the
//! part is there. Only with the feature `mutations`, which no product has.

use std::sync::atomic::{AtomicU8, Ordering};

macro_rules! mutations {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// A part that is taken out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutation {
            $($(#[$doc])+ $name,)+
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

mutations! {
    // The commit.
    /// A commit does not read the fence.
    SkipFenceCheck,
    /// A commit reads the fence, and writes then.
    CheckBeforeWrite,
    /// A commit is known to everyone before the fence was read.
    ConfirmBeforeFence,
    /// Where other machines write too, a commit reads the fence through the cache of its own.
    FenceThroughCache,
    /// A write that failed counts if a sync after it succeeds.
    RetrySync,
    /// A write that failed counts.
    IgnoreFailedWrite,
    // What is proven.
    /// A batch says of itself that it is durable, which nobody knows while it is written.
    StampBeforeWrite,
    /// The lease says that a batch is durable before the fence was read.
    StampBeforeFence,
    // Takeover.
    /// A takeover reads the tail, and sets the fence then.
    TailBeforeFence,
    /// A start reads the tail, waits for the lease, and sets the fence then.
    TailBeforeWait,
    /// The successor of an epoch is published whether its name is free or not.
    NoCompareAndSwap,
    /// What follows the proven part of the tail stays where it is.
    AdoptByReference,
    /// What follows the proven part of the tail is synced where it is, and stays there.
    AdoptAfterSync,
    /// What follows the proven part of the tail is dropped.
    DropTail,
    /// The entries of directories are not synced before the epoch is published.
    SkipDirectorySync,
    /// Records of old epochs are deleted.
    DeleteEpochRecord,
    // The standby.
    /// A standby applies what it sees, proven durable or not.
    ApplyUnproven,
    /// A standby that finds the next epoch applies what it has read of the last one, also what lies behind the cut.
    ApplyPastFence,
    // The files.
    /// What an earlier use of a file left in it is not told from what was written since.
    SkipSalt,
    /// A batch is taken for what it says that it is, whatever the one in front of it was. (Without the hash alone the numbers of batches
    /// and records would still tell: in one segment, which one process writes in order, no two batches have the same.)
    NoChainCheck,
    /// Segments are reclaimed though no snapshot covers them.
    ReclaimBeforeSnapshot,
    /// Segments are reclaimed before what let them go is committed.
    ReclaimBeforeCommit,
    /// A segment of a closed epoch is used again.
    RecycleClosedSegment,
    /// A snapshot is named before it is durable.
    NameSnapshotBeforeSync,
    // The lease.
    /// A renewal reads the fence, and writes the lease then: it may land when a successor serves already.
    BlindRenewal,
    /// The lease counts from the end of the write that renewed it.
    LeaseFromEndOfWrite,
    /// Who watches a lease is content with half of the time that it lasts.
    ShortPatience,
    /// Who waited for a lease does not look again whether it stood still, nor once the fence is set.
    NoSecondLook,
    /// Who has set the fence does not look whether the lease was renewed just before.
    NoLookBehindFence,
}

/// None, to begin with.
static MUTATION: AtomicU8 = AtomicU8::new(u8::MAX);

/// Takes a part out, for the whole process.
pub fn mutate(mutation: Mutation) {
    MUTATION.store(mutation as u8, Ordering::Relaxed);
}

pub(crate) fn is(mutation: Mutation) -> bool {
    MUTATION.load(Ordering::Relaxed) == mutation as u8
}
