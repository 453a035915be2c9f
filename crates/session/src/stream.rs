//! Streams: sharded logs that any number of readers read at their own pace.
//!
//! A stream's records have one dense numbering, the *offset*, in the order in which they were applied, over all shards
//! (DOORS 21). A shard owns an inclusive range of the 128-bit MD5 hash space; it is open, or closed by a split, a merge or a
//! resize, and what it holds stays readable until it is too old.

use std::sync::Arc;

use bytes::Bytes;
use message::{Message, Name, Timestamp};
use smallvec::SmallVec;

use crate::{Lane, Notes, Token};

/// A stream's incarnation: never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A shard of a stream: counted from 0 in the order in which they were opened, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardNo(pub u32);

/// What one shard takes and gives. 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// Records a second.
    pub write_records: u32,
    /// Bytes of body and key a second.
    pub write_bytes: u32,
    /// Limited reads a second ([`ReadStream::limited`]).
    pub reads: u32,
    /// Bytes read by limited reads a second.
    pub read_bytes: u32,
}

/// How a stream's shards follow what is written: one that takes more than half of this for a while is split in the middle
/// of its hashes, so that it takes twice as much as the most that has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Records a second that a shard is made for.
    pub write_records: u32,
    /// Bytes of body and key a second that a shard is made for.
    pub write_bytes: u32,
    /// Open shards of all streams of the virtual host together from which on nothing is split.
    pub shards_max: u32,
}

/// What a stream does with records.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamAttributes {
    /// For how long they are kept, in ms.
    pub retention_ms: u64,
    /// Most bytes of body and key that are kept; the oldest records go beyond it (AMQP `x-max-length-bytes`), the newest never. `None`: no limit.
    pub bytes_max: Option<u64>,
    /// The largest record, body and key, in bytes. `None`: as large as any message.
    pub record_len_max: Option<u64>,
    /// What each shard takes and gives. `None`: no limit.
    pub limits: Option<ShardLimits>,
    /// How its shards follow what is written. `None`: only commands split them.
    pub growth: Option<Growth>,
}

impl Default for StreamAttributes {
    fn default() -> Self {
        Self {
            retention_ms: 24 * 3_600_000,
            bytes_max: None,
            record_len_max: None,
            limits: None,
            growth: None,
        }
    }
}

/// A shard as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardInfo {
    /// Which.
    pub shard: ShardNo,
    /// None for the first ones, one after a split, two after a merge (lower range first); after a resize as many as overlap.
    pub parents: SmallVec<[ShardNo; 2]>,
    /// The first hash that it owns.
    pub first_hash: u128,
    /// The last hash that it owns.
    pub last_hash: u128,
    /// When it was opened.
    pub opened: Timestamp,
    /// The stream's next offset when it was opened: its records have this offset or a higher one.
    pub first_offset: u64,
    /// When it was closed, and the stream's next offset then: its records have lower ones. `None`: it is open.
    pub closed: Option<(Timestamp, u64)>,
    /// Records in it.
    pub records: u64,
}

/// A stream as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamInfo {
    /// Its incarnation.
    pub id: StreamId,
    /// Its name.
    pub name: Name,
    /// What it does.
    pub attributes: StreamAttributes,
    /// What doors keep with it.
    pub notes: Notes,
    /// When it was made.
    pub created: Timestamp,
    /// When its attributes, notes or shards last changed.
    pub changed: Timestamp,
    /// How often they have.
    pub version: u64,
    /// Shards, the closed ones that have not been forgotten included, in the order of their numbers.
    pub shards: Vec<ShardInfo>,
    /// The offset of the oldest record that is there; [`Self::next_offset`] when there is none.
    pub first_offset: u64,
    /// The offset of the next record.
    pub next_offset: u64,
    /// Consumers that records are pushed to.
    pub consumers: u32,
}

/// What can be done to a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamTo {
    /// Makes it, with so many shards of equal ranges. `Inequivalent` when there is one of that name.
    Create {
        /// What it does.
        attributes: StreamAttributes,
        /// 1 to 10,000.
        shards: u32,
        /// What the door keeps with it.
        notes: Notes,
    },
    /// Makes it if there is none; one that is there is left as it is (AMQP, MQTT and STOMP doors compare by themselves).
    Ensure {
        /// What it does if it is made.
        attributes: StreamAttributes,
        /// Its shards if it is made.
        shards: u32,
        /// What the door keeps with it if it is made.
        notes: Notes,
        /// It was asked for by a bare name: `Inequivalent` when a queue has that, as the name is the queue's then (DOORS 6).
        bare_name: bool,
    },
    /// Changes attributes and notes. `Inequivalent` when it changed since the version was read.
    Alter {
        /// [`StreamInfo::version`].
        version: u64,
        /// What it does from now on.
        attributes: StreamAttributes,
        /// What the door keeps with it from now on.
        notes: Notes,
    },
    /// Deletes it with everything in it. The answer shows it as it was.
    Delete,
    /// Only looks.
    Inspect,
    /// Looks, to count what all streams have together: as with names, no right to any of them is needed, and the door tells nobody more
    /// of it than the sums.
    Count,
    /// Closes an open shard and opens two in its place, the second of which begins at a hash.
    /// `NotFound` when there is no such shard, `InUse` when it is closed, `InvalidArgument` when the hash is not inside.
    Split {
        /// Which.
        shard: ShardNo,
        /// The first hash of the second; above the first hash of the shard and at most its last.
        at: u128,
    },
    /// Closes two open shards with neighbouring ranges and opens one in their place.
    Merge {
        /// One.
        shard: ShardNo,
        /// The other.
        adjacent: ShardNo,
    },
    /// Closes the open shards that do not fit and opens others, so that there are so many of equal ranges.
    Resize {
        /// How many.
        shards: u32,
    },
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamStart {
    /// At the oldest record that is there.
    First,
    /// At the newest record that is there.
    Last,
    /// At the next record that comes.
    #[default]
    Next,
    /// At this offset, or the first behind it that is there.
    Offset(u64),
    /// At the first record that came at this time or later.
    Time(Timestamp),
}

/// Takes records from a shard. Answered by `Event::Records`, or refused: `NotFound` (also for another incarnation),
/// `RateExceeded` when it is limited.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadStream {
    /// Echoed.
    pub token: Token,
    /// The lane of the answer.
    pub lane: Lane,
    /// The stream.
    pub stream: Name,
    /// Its incarnation, if that matters.
    pub id: Option<StreamId>,
    /// The shard.
    pub shard: ShardNo,
    /// Where to begin.
    pub from: StreamStart,
    /// Most records. 0: none, only what the answer says beside them.
    pub count: u32,
    /// Most bytes of bodies and keys; one record always fits.
    pub bytes_max: u64,
    /// How long to wait for the first record, in ms. 0: the answer comes at once.
    pub wait_ms: u64,
    /// It counts against the shard's [`ShardLimits::reads`] and [`ShardLimits::read_bytes`].
    pub limited: bool,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The stream.
    pub stream: StreamId,
    /// The shard.
    pub shard: ShardNo,
    /// When that was opened: with the offset it makes a number that grows over the life of a name.
    pub shard_opened: Timestamp,
    /// The offset in the stream.
    pub offset: u64,
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRecord {
    /// The offset in the stream.
    pub offset: u64,
    /// When it came.
    pub time: Timestamp,
    /// What was published; the partition key is its group, or else what [`partition_key`] says.
    pub message: Arc<Message>,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    /// The stream.
    pub stream: StreamId,
    /// The shard.
    pub shard: ShardInfo,
    /// The records, in order.
    pub records: Vec<StreamRecord>,
    /// Where to go on.
    pub next: u64,
    /// The shard is closed and everything in it has been read: go on in its children.
    pub ended: bool,
    /// The shards whose parent this one is, once it has ended.
    pub children: Vec<ShardInfo>,
    /// How much older than now the first record that was not taken is, in ms. 0: there is none.
    pub behind_ms: u64,
}

/// The partition key of a message that was published to a stream: the key of its address (MQTT `$stream/NAME/KEY`), else its
/// group, else its message id, else nothing (DOORS 20). Doors shorten what is too long for them.
#[must_use]
pub fn partition_key(message: &Message) -> Bytes {
    let address = &message.address;
    if address.kind == message::Kind::Stream
        && let Some(level) = address.key.level(0).filter(|it| !it.is_empty())
    {
        return Bytes::copy_from_slice(level);
    }
    if let Some(group) = &message.group {
        return group.clone();
    }
    match &message.fields().message_id {
        Some(message::Value::Text(id)) => id.clone(),
        Some(message::Value::Uuid(id)) => Bytes::copy_from_slice(id),
        _ => Bytes::new(),
    }
}

/// What can be done to a consumer group of a stream: which member reads which shard, and how far it has come.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupTo {
    /// Makes it; one that is there is left as it is. Shards that have no checkpoint begin there.
    Create {
        /// `First`, `Next`, or a time.
        start: StreamStart,
    },
    /// Deletes it. Its members are told that they are cancelled.
    Delete,
    /// Only looks.
    Inspect,
    /// Takes or renews the lease of a shard. Refused with `InUse` while another owner's has not lapsed.
    Lease {
        /// Which shard.
        shard: ShardNo,
        /// Who, as the member calls itself; 1 to 256 bytes.
        owner: Bytes,
        /// For how long, in ms: 1,000 to 3,600,000.
        ms: u64,
    },
    /// Gives the lease of a shard back. `NotOut` when it is not that owner's.
    Yield {
        /// Which shard.
        shard: ShardNo,
        /// Who.
        owner: Bytes,
    },
    /// Everything below this offset in the shard has been worked on. `NotOut` when the lease is not that owner's.
    Checkpoint {
        /// Which shard.
        shard: ShardNo,
        /// Who.
        owner: Bytes,
        /// The first offset that has not been worked on. It may go back.
        next: u64,
    },
}

/// One shard as a consumer group sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupShard {
    /// Which.
    pub shard: ShardNo,
    /// Where to go on; the shard's end when it has ended and was read.
    pub next: u64,
    /// Whose it is, and until when. `Timestamp(u64::MAX)`: as long as its connection lasts.
    pub lease: Option<(Bytes, Timestamp)>,
    /// How often it has changed hands.
    pub counter: u64,
    /// It may be read: its parents have been read to their ends.
    pub ready: bool,
    /// It is closed and everything in it was worked on.
    pub done: bool,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupInfo {
    /// The stream.
    pub stream: Name,
    /// Its name.
    pub group: Bytes,
    /// Shards, in the order of their numbers.
    pub shards: Vec<GroupShard>,
}
