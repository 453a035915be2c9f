//! Streams: what one is made of.
//!
//! | file | what |
//! |---|---|
//! | `index.rs` | where records in the journal lie, 24 bytes each |
//! | `filed.rs` | what lies in stream files |
//! | `reader.rs` | consumers that records are pushed to |
//! | `group.rs` | consumer groups |
//! | `change.rs` | what happens to streams |
//! | `measured.rs` | how much was written to the shards of a stream that grows |
//! | `rate.rs` | what a shard takes and gives a second |
//! | `store.rs` | a stream in records and snapshots |
//!
//! A record's offset is dense over the whole stream; the shard has a list of its own of the offsets that are in it. The
//! oldest records of the stream go first, whichever shard they are in.

mod change;
mod filed;
mod group;
mod index;
mod measured;
mod rate;
mod reader;
mod store;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use message::{StoredId, Timestamp};
use session::{Lane, QueueId, SessionId, ShardInfo, ShardNo, StreamId, Token};
use smallvec::SmallVec;

pub(crate) use change::{
    NewShard, RecordEntrant, RecordsLost, Resharded, StreamDeclared, StreamDeleted, Trimmed,
};
pub use filed::{FileId, Fileable, FileableStream};
pub(crate) use filed::{Run, RunShard, StreamFiled};
pub(crate) use group::{
    Assigned, Checkpointed, Group, GroupGone, GroupLeased, GroupMade, GroupPlace,
};
pub(crate) use index::{Offsets, Records, Slot};
pub(crate) use measured::{MEASURE_MS, Measured};
pub(crate) use rate::Buckets;
pub(crate) use reader::{MemberShard, Reader, Reads, Window};
pub(crate) use store::{put_records, put_stream, read_records, read_run, read_stream};

/// Shards that one stream keeps, the closed ones included: their numbers lie closer together than this.
pub(crate) const SHARDS_KEPT_MAX: u32 = 1 << 16;
/// Shards of one stream that may be open.
pub(crate) const SHARDS_OPEN_MAX: u32 = 10_000;

/// A shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shard {
    pub(crate) parents: SmallVec<[ShardNo; 2]>,
    pub(crate) first_hash: u128,
    pub(crate) last_hash: u128,
    pub(crate) opened: Timestamp,
    pub(crate) first_offset: u64,
    pub(crate) closed: Option<(Timestamp, u64)>,
    /// Its records in the journal. Not in snapshots: the stream's records say their shards.
    pub(crate) offsets: Offsets,
    /// Its records in stream files, and the last of them. Not in snapshots: the runs say it.
    pub(crate) filed: u64,
    pub(crate) filed_last: Option<u64>,
}

impl Shard {
    pub(crate) fn info(&self, shard: ShardNo) -> ShardInfo {
        ShardInfo {
            shard,
            parents: self.parents.clone(),
            first_hash: self.first_hash,
            last_hash: self.last_hash,
            opened: self.opened,
            first_offset: self.first_offset,
            closed: self.closed,
            records: self.filed + self.offsets.len(),
        }
    }

    /// Its newest record that is there.
    pub(crate) fn last(&self) -> Option<u64> {
        self.offsets.last().or(self.filed_last)
    }
}

/// A stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) declared: StreamDeclared,
    /// By their numbers.
    pub(crate) shards: BTreeMap<ShardNo, Shard>,
    pub(crate) next_shard: u32,
    /// Those in the journal.
    pub(crate) records: Records,
    /// Those in front of them, in stream files: in order and without gaps.
    pub(crate) files: VecDeque<Run>,
    /// What came before that is not shown any more, though it may lie in a file yet.
    pub(crate) hidden: Timestamp,
    /// Bytes of body and key of the records that are there.
    pub(crate) bytes: u64,
    /// Partition keys of records that are not the messages' own, in the order of their offsets.
    pub(crate) keys: VecDeque<(u64, Bytes)>,
    pub(crate) groups: BTreeMap<Bytes, Group>,
    /// The open shards by their first hash. Not in snapshots.
    open: Vec<(u128, ShardNo)>,
}

impl Stream {
    /// One without shards.
    pub(crate) fn new(declared: StreamDeclared) -> Self {
        Self {
            declared,
            ..Self::default()
        }
    }

    /// The open shard that owns a hash.
    pub(crate) fn shard_of(&self, hash: u128) -> Option<ShardNo> {
        let at = self.open.partition_point(|(first, _)| *first <= hash);
        Some(self.open.get(at.checked_sub(1)?)?.1)
    }

    /// The only open shard, if there is one only: then nothing need be hashed.
    pub(crate) fn only_shard(&self) -> Option<ShardNo> {
        match self.open[..] {
            [(_, shard)] => Some(shard),
            _ => None,
        }
    }

    /// Open shards in the order of their hashes.
    pub(crate) fn open(&self) -> impl Iterator<Item = ShardNo> {
        self.open.iter().map(|(_, shard)| *shard)
    }

    /// Open shards of which the first hash is one of these, in the order of their hashes.
    pub(crate) fn open_within(&self, first: u128, last: u128) -> impl Iterator<Item = ShardNo> {
        let from = self.open.partition_point(|(hash, _)| *hash < first);
        let within = self.open[from..]
            .iter()
            .take_while(move |(hash, _)| *hash <= last);
        within.map(|(_, shard)| *shard)
    }

    pub(crate) fn open_len(&self) -> u32 {
        self.open.len() as u32
    }

    pub(crate) fn index_open(&mut self) {
        self.open = self
            .shards
            .iter()
            .filter(|(_, shard)| shard.closed.is_none())
            .map(|(number, shard)| (shard.first_hash, *number))
            .collect();
        self.open.sort_unstable();
    }

    /// The shard of a record.
    pub(crate) fn shard_at(&self, slot: &Slot) -> ShardNo {
        slot.shard(self.lowest_shard())
    }

    /// The lowest shard that there is.
    pub(crate) fn lowest_shard(&self) -> ShardNo {
        self.shards.keys().next().copied().unwrap_or_default()
    }

    /// The first offset that is not too old at that time.
    /// Within a run in a file it is not known: then the first of the run.
    pub(crate) fn kept_from(&self, now: Timestamp) -> u64 {
        if !self.files.is_empty() {
            let kept = self.kept_time(now);
            let mut runs = self.files.iter();
            if let Some(run) = runs.find(|run| run.last_time >= kept) {
                return run.first;
            }
        }
        let first = self.records.first();
        let retention = self.declared.attributes.retention_ms;
        let Some(oldest) = self.records.get(first) else {
            return first;
        };
        if oldest.time().plus_ms(retention) > now {
            return first;
        }
        // The first that came after now - retention.
        self.records.since(Timestamp(now.0 - retention + 1))
    }

    /// The partition key of a record, if it is not its message's own.
    pub(crate) fn key_of(&self, offset: u64, slot: &Slot) -> Option<Bytes> {
        if !slot.keyed() {
            return None;
        }
        let at = self
            .keys
            .binary_search_by_key(&offset, |(at, _)| *at)
            .ok()?;
        Some(self.keys[at].1.clone())
    }

    /// Shards whose parent that one is.
    pub(crate) fn children(&self, parent: ShardNo) -> Vec<ShardInfo> {
        self.shards
            .iter()
            .filter(|(_, shard)| shard.parents.contains(&parent))
            .map(|(number, shard)| shard.info(*number))
            .collect()
    }

    pub(crate) fn holds(&self, offset: u64, id: StoredId) -> bool {
        self.records
            .get(offset)
            .is_some_and(|slot| slot.stored() == id)
    }
}

/// A read that waits for a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WaitingRead {
    pub(crate) session: SessionId,
    pub(crate) token: Token,
    pub(crate) lane: Lane,
    pub(crate) shard: ShardNo,
    pub(crate) from: u64,
    /// What came before is not wanted.
    pub(crate) since: Timestamp,
    pub(crate) count: u32,
    pub(crate) bytes_max: u64,
    pub(crate) limited: bool,
    /// It waits for records out of a stream file.
    pub(crate) loading: bool,
}

/// Where a read waits, and until when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ReadAt {
    pub(crate) stream: StreamId,
    pub(crate) shard: ShardNo,
    pub(crate) place: u64,
    pub(crate) until: Timestamp,
}

/// The soft side of a stream.
#[derive(Debug, Default)]
pub(crate) struct SoftStream {
    /// By shard, then in the order in which they came.
    pub(crate) reads: BTreeMap<(ShardNo, u64), WaitingRead>,
    /// Shards in which reads may have something to find.
    pub(crate) woken: BTreeSet<ShardNo>,
    /// Consumers that records are pushed to, by the numbers of their queues.
    pub(crate) readers: BTreeSet<QueueId>,
    /// Groups of which members may have to change shards.
    pub(crate) regroup: BTreeSet<Bytes>,
    /// When a lease lapses that members wait for.
    pub(crate) regroup_at: Option<Timestamp>,
    /// Place in the round.
    pub(crate) pump_at: Option<u64>,
    /// When the oldest is looked at.
    pub(crate) trim_at: Option<Timestamp>,
    /// Of limited shards.
    pub(crate) buckets: BTreeMap<ShardNo, Buckets>,
    /// Of a stream that grows, and when it is looked at.
    pub(crate) grow_at: Option<Timestamp>,
    pub(crate) measured: Measured,
}

impl SoftStream {
    pub(crate) fn bucket(&self, shard: ShardNo) -> Buckets {
        self.buckets.get(&shard).copied().unwrap_or_default()
    }
}

/// The ranges of `count` shards of equal size: the first hash and the last of each.
pub(crate) fn ranges(count: u32) -> Vec<(u128, u128)> {
    let count = u128::from(count.max(1));
    // 2^128 does not fit: it is one more than the greatest.
    let size = match (u128::MAX / count, u128::MAX % count == count - 1) {
        (u128::MAX, _) => return vec![(0, u128::MAX)],
        (size, true) => size + 1,
        (size, false) => size,
    };
    (0..count)
        .map(|at| {
            let last = if at + 1 == count {
                u128::MAX
            } else {
                (at + 1) * size - 1
            };
            (at * size, last)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ranges_cover_everything_as_kinesis_cuts_it() {
        assert_eq!(ranges(1), [(0, u128::MAX)]);
        assert_eq!(
            ranges(2)[1].0,
            170_141_183_460_469_231_731_687_303_715_884_105_728
        );
        assert_eq!(
            ranges(3)[0].1,
            113_427_455_640_312_821_154_458_202_477_256_070_484
        );
        for count in [1, 2, 3, 4, 7, 1000, 10_000] {
            let ranges = ranges(count);
            assert_eq!(ranges.len() as u32, count);
            assert_eq!(ranges[0].0, 0);
            assert_eq!(ranges[count as usize - 1].1, u128::MAX);
            for pair in ranges.windows(2) {
                assert_eq!(pair[0].1 + 1, pair[1].0);
            }
        }
    }
}
