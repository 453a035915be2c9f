//! Consumer groups: how far each shard has been worked on, and whose it is for a time. Durable. Which shards the members have
//! that records are pushed to is soft, and lies with those.

use std::collections::BTreeMap;

use bytes::Bytes;
use message::Timestamp;
use session::{ShardNo, StreamId};

use super::{Shard, Stream};
use crate::record::wire::wire_fields;

/// A shard as a group knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupPlace {
    /// Everything below has been worked on.
    pub(crate) next: u64,
    /// Whose it is, until when.
    pub(crate) lease: Option<(Bytes, Timestamp)>,
    /// How often it has changed hands.
    pub(crate) counter: u64,
}
wire_fields!(GroupPlace { 1 => next, 2 => lease, 3 => counter });

/// A consumer group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Group {
    /// Where shards begin that have no place yet.
    pub(crate) start: u64,
    /// What came before is passed over, if that could not be told by the offset.
    pub(crate) since: Timestamp,
    pub(crate) places: BTreeMap<ShardNo, GroupPlace>,
}

impl Group {
    /// Where a shard goes on.
    pub(crate) fn next_in(&self, number: ShardNo, shard: &Shard) -> u64 {
        let begins = self.start.max(shard.first_offset);
        self.places.get(&number).map_or(begins, |place| place.next)
    }

    /// The lease of a shard, if it has not lapsed.
    pub(crate) fn lease(&self, number: ShardNo, now: Timestamp) -> Option<&(Bytes, Timestamp)> {
        let lease = self.places.get(&number)?.lease.as_ref()?;
        (lease.1 > now).then_some(lease)
    }

    /// A shard is closed and everything in it was worked on.
    pub(crate) fn is_done(&self, number: ShardNo, shard: &Shard) -> bool {
        let next = self.next_in(number, shard);
        shard.closed.is_some() && shard.last().is_none_or(|last| last < next)
    }

    /// A shard may be read: its parents are done, or forgotten.
    pub(crate) fn is_ready(&self, stream: &Stream, shard: &Shard) -> bool {
        shard.parents.iter().all(|parent| {
            stream
                .shards
                .get(parent)
                .is_none_or(|it| self.is_done(*parent, it))
        })
    }
}

/// A group was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupMade {
    pub(crate) stream: StreamId,
    pub(crate) group: Bytes,
    pub(crate) start: u64,
    /// As in [`Group::since`].
    pub(crate) since: Timestamp,
}
wire_fields!(GroupMade { 1 => stream, 2 => group, 3 => start, 4 => since });

/// A group is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupGone {
    pub(crate) stream: StreamId,
    pub(crate) group: Bytes,
}
wire_fields!(GroupGone { 1 => stream, 2 => group });

/// A shard was leased, or given back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupLeased {
    pub(crate) stream: StreamId,
    pub(crate) group: Bytes,
    pub(crate) shard: ShardNo,
    pub(crate) lease: Option<(Bytes, Timestamp)>,
    pub(crate) counter: u64,
}
wire_fields!(GroupLeased { 1 => stream, 2 => group, 3 => shard, 4 => lease, 5 => counter });

/// Shards have been worked on so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checkpointed {
    pub(crate) stream: StreamId,
    pub(crate) group: Bytes,
    pub(crate) places: Vec<(ShardNo, u64)>,
}
wire_fields!(Checkpointed { 1 => stream, 2 => group, 3 => places });

/// Shards changed hands among the members of a group. Soft.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Assigned {
    pub(crate) stream: StreamId,
    pub(crate) group: Bytes,
    /// Members that have a shard no longer.
    pub(crate) takes: Vec<(session::QueueId, ShardNo)>,
    /// Members that get no more of one.
    pub(crate) leaves: Vec<(session::QueueId, ShardNo)>,
    /// Members that have one from now on, and where they begin.
    pub(crate) gives: Vec<(session::QueueId, ShardNo, u64)>,
    /// A lease lapses then: there is something to give.
    pub(crate) again: Option<Timestamp>,
}
