//! Consumers that records are pushed to. All soft: each has a queue number of its own, in which a record's number is its offset.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use bytes::Bytes;
use message::Timestamp;
use session::{ShardNo, StreamId};
use smallvec::SmallVec;

use super::{Slot, Stream, index::Cursor};
use crate::LoadedRecord;

/// A record that is out, or was given back: its shard, and how often it has been delivered.
pub(crate) type Handed = (ShardNo, u32);

/// What a member of a consumer group reads of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberShard {
    /// The first offset that it was not handed.
    pub(crate) cursor: u64,
    /// It gets no more of it: another member goes on when everything is settled.
    pub(crate) leaving: bool,
}

/// Which records a consumer is handed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reads {
    /// All, from this offset on.
    Everything(u64),
    /// Those of the shards that are its own in a consumer group.
    Member {
        group: Bytes,
        shards: BTreeMap<ShardNo, MemberShard>,
    },
}

/// Records that were read out of a stream file for a consumer: all that there are for it from some offsets on to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Window {
    /// By offset. They stay when they are handed out: they may be given back.
    pub(crate) records: BTreeMap<u64, LoadedRecord>,
    /// Of which shards, and from where on.
    pub(crate) shards: SmallVec<[(ShardNo, u64); 1]>,
    pub(crate) upto: u64,
}

impl Window {
    /// Whether what a shard has there would be in it.
    pub(crate) fn covers(&self, shard: ShardNo, offset: u64) -> bool {
        offset < self.upto
            && self
                .shards
                .iter()
                .any(|(of, from)| *of == shard && *from <= offset)
    }
}

/// A consumer of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reader {
    pub(crate) stream: StreamId,
    pub(crate) reads: Reads,
    /// Out to it, by offset.
    pub(crate) unsettled: BTreeMap<u64, Handed>,
    /// Given back, to be handed out again.
    pub(crate) again: BTreeMap<u64, Handed>,
    /// What came before is passed over.
    pub(crate) since: Timestamp,
    pub(crate) window: Option<Window>,
    /// It waits for a window.
    pub(crate) loading: bool,
}

impl Reader {
    pub(crate) const fn new(stream: StreamId, reads: Reads) -> Self {
        Self {
            stream,
            reads,
            unsettled: BTreeMap::new(),
            again: BTreeMap::new(),
            since: Timestamp(0),
            window: None,
            loading: false,
        }
    }

    /// Everything in stream files below an offset was handed out.
    pub(crate) fn pass(&mut self, below: u64) {
        match &mut self.reads {
            Reads::Everything(cursor) => *cursor = below.max(*cursor),
            Reads::Member { shards, .. } => {
                for member in shards.values_mut().filter(|member| !member.leaving) {
                    member.cursor = member.cursor.max(below);
                }
            }
        }
        self.window.take_if(|window| window.upto <= below);
    }

    /// Where it goes on in each shard of which there may be something in stream files.
    pub(crate) fn places(&self, stream: &Stream) -> SmallVec<[(ShardNo, u64); 1]> {
        match &self.reads {
            Reads::Everything(cursor) => stream
                .shards
                .iter()
                .filter(|(_, shard)| shard.filed_last.is_some_and(|last| last >= *cursor))
                .map(|(number, _)| (*number, *cursor))
                .collect(),
            Reads::Member { shards, .. } => shards
                .iter()
                .filter(|(_, member)| !member.leaving)
                .map(|(number, member)| (*number, member.cursor))
                .collect(),
        }
    }

    /// The group that it is a member of.
    pub(crate) const fn group(&self) -> Option<&Bytes> {
        match &self.reads {
            Reads::Everything(_) => None,
            Reads::Member { group, .. } => Some(group),
        }
    }

    /// Whether there is something to hand out.
    pub(crate) fn wants(&self, stream: &Stream) -> bool {
        if self.loading {
            return false;
        }
        if !self.again.is_empty() {
            return true;
        }
        match &self.reads {
            Reads::Everything(cursor) => *cursor < stream.records.next(),
            Reads::Member { shards, .. } => shards.iter().any(|(number, member)| {
                !member.leaving
                    && stream
                        .shards
                        .get(number)
                        .is_some_and(|shard| shard.last().is_some_and(|last| last >= member.cursor))
            }),
        }
    }

    /// Whether nothing of a shard is out or was given back.
    pub(crate) fn is_through(&self, shard: ShardNo) -> bool {
        self.lowest_but(shard, |_| false).is_none()
    }

    /// The lowest offset of a shard that is out or was given back, those left out that `settled` says yes to.
    pub(crate) fn lowest_but(&self, shard: ShardNo, settled: impl Fn(u64) -> bool) -> Option<u64> {
        let out = self
            .unsettled
            .iter()
            .find(|(offset, (of, _))| *of == shard && !settled(**offset));
        let back = self.again.iter().find(|(_, (of, _))| *of == shard);
        match (out, back) {
            (Some((a, _)), Some((b, _))) => Some(*a.min(b)),
            (a, b) => a.or(b).map(|(offset, _)| *offset),
        }
    }

    /// What of the journal is to be handed out, in the order of offsets. What was given back, or lies in stream files, comes
    /// before.
    pub(crate) fn walk<'a>(&'a self, stream: &'a Stream, kept: u64) -> Walk<'a> {
        let (cursor, shards) = match &self.reads {
            Reads::Everything(cursor) => {
                ((*cursor).max(kept).max(stream.records.first()), Vec::new())
            }
            Reads::Member { shards, .. } => {
                let places = shards
                    .iter()
                    .filter(|(_, member)| !member.leaving)
                    .filter_map(|(number, member)| {
                        let shard = stream.shards.get(number)?;
                        Some((*number, shard.offsets.seek(member.cursor.max(kept))))
                    })
                    .collect();
                (u64::MAX, places)
            }
        };
        let place = |(at, (number, cursor)): (usize, &(ShardNo, Cursor))| {
            let offset = stream.shards.get(number)?.offsets.get(*cursor)?;
            Some(Reverse((offset, at)))
        };
        let next = shards.iter().enumerate().filter_map(place).collect();
        Walk {
            stream,
            next,
            cursor,
            shards,
        }
    }
}

/// See [`Reader::walk`].
pub(crate) struct Walk<'a> {
    stream: &'a Stream,
    cursor: u64,
    shards: Vec<(ShardNo, Cursor)>,
    /// The next offset of each shard, and which of `shards` that is.
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'a> Walk<'a> {
    /// The next record: its offset, where it is, and its shard.
    pub(crate) fn next(&mut self) -> Option<(u64, &'a Slot, ShardNo)> {
        while let Some(slot) = self.stream.records.get(self.cursor) {
            self.cursor += 1;
            if slot.is_lost() {
                continue;
            }
            return Some((self.cursor - 1, slot, self.stream.shard_at(slot)));
        }
        let Reverse((offset, at)) = self.next.pop()?;
        let (number, cursor) = &mut self.shards[at];
        let offsets = &self.stream.shards.get(number)?.offsets;
        *cursor = offsets.behind(*cursor);
        if let Some(next) = offsets.get(*cursor) {
            self.next.push(Reverse((next, at)));
        }
        Some((offset, self.stream.records.get(offset)?, *number))
    }
}
