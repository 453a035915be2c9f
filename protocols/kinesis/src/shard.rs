//! Shards: their ids, how they are shown, and which of them a filter lets through.

use aws::{Manners, Value};
use message::Timestamp;
use session::{ShardInfo, ShardNo, StreamInfo};

use crate::sequence::Sequence;

/// The id of a shard.
pub(crate) fn id(shard: ShardNo) -> String {
    format!("shardId-{:012}", shard.0)
}

/// The number of an id: what follows the first hyphen, or all of it, as AWS reads it. `None`: it names no shard.
pub(crate) fn number(id: &str) -> Option<ShardNo> {
    let digits = id.split_once('-').map_or(id, |(_, digits)| digits);
    let number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse::<u32>().ok())??;
    (number <= i32::MAX as u32).then_some(ShardNo(number))
}

/// The shard of that id.
pub(crate) fn find<'a>(stream: &'a StreamInfo, id: &str) -> Option<&'a ShardInfo> {
    let number = number(id)?;
    let at = stream
        .shards
        .binary_search_by_key(&number, |shard| shard.shard)
        .ok()?;
    Some(&stream.shards[at])
}

/// How many are open.
pub(crate) fn open_count(stream: &StreamInfo) -> u64 {
    open(stream).count() as u64
}

/// Those that are open.
pub(crate) fn open(stream: &StreamInfo) -> impl Iterator<Item = &ShardInfo> {
    stream.shards.iter().filter(|shard| shard.closed.is_none())
}

/// As `Shard` shows it.
pub(crate) fn show(manners: Manners, shard: &ShardInfo) -> Value {
    let parent = |at: usize| Value::from(shard.parents.get(at).map(|parent| id(*parent)));
    let ending = shard.closed.map(|_| Sequence::last(shard).text(manners));
    Value::from([
        ("ShardId", id(shard.shard).into()),
        ("ParentShardId", parent(0)),
        ("AdjacentParentShardId", parent(1)),
        ("HashKeyRange", hash_range(shard)),
        (
            "SequenceNumberRange",
            Value::from([
                (
                    "StartingSequenceNumber",
                    Sequence::first(shard).text(manners).into(),
                ),
                ("EndingSequenceNumber", ending.into()),
            ]),
        ),
    ])
}

/// As `ChildShard` shows it.
pub(crate) fn show_child(shard: &ShardInfo) -> Value {
    let parents = shard.parents.iter().map(|parent| id(*parent).into());
    Value::from([
        ("ShardId", id(shard.shard).into()),
        ("ParentShards", Value::List(parents.collect())),
        ("HashKeyRange", hash_range(shard)),
    ])
}

/// The children at the end of a shard; nothing before it.
pub(crate) fn show_children(ended: bool, children: &[ShardInfo]) -> Value {
    if ended {
        Value::List(children.iter().map(show_child).collect())
    } else {
        Value::Null
    }
}

fn hash_range(shard: &ShardInfo) -> Value {
    Value::from([
        ("StartingHashKey", shard.first_hash.to_string().into()),
        ("EndingHashKey", shard.last_hash.to_string().into()),
    ])
}

/// Which shards `ListShards` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// All that are there.
    FromTrimHorizon,
    /// Those that were open when the oldest record that is kept could have come.
    AtTrimHorizon,
    /// Those that are open.
    AtLatest,
    /// Those that were open then.
    AtTime(Timestamp),
    /// Those that were open then or later.
    FromTime(Timestamp),
}

impl Filter {
    /// Whether it lets a shard of a stream through.
    pub(crate) fn passes(self, stream: &StreamInfo, shard: &ShardInfo, now: Timestamp) -> bool {
        let open_at = |time: Timestamp| {
            shard.opened <= time && shard.closed.is_none_or(|(closed, _)| closed > time)
        };
        match self {
            Self::FromTrimHorizon => true,
            Self::AtTrimHorizon => {
                let kept = Timestamp(now.0.saturating_sub(stream.attributes.retention_ms));
                open_at(kept.max(stream.created))
            }
            Self::AtLatest => shard.closed.is_none(),
            Self::AtTime(time) => open_at(time),
            Self::FromTime(time) => shard.closed.is_none_or(|(closed, _)| closed >= time),
        }
    }

    /// For page tokens.
    pub(crate) const fn code(self) -> (u8, u64) {
        match self {
            Self::FromTrimHorizon => (0, 0),
            Self::AtTrimHorizon => (1, 0),
            Self::AtLatest => (2, 0),
            Self::AtTime(time) => (3, time.0),
            Self::FromTime(time) => (4, time.0),
        }
    }

    /// Of a page token.
    pub(crate) const fn of_code(code: u8, time: u64) -> Option<Self> {
        Some(match code {
            0 => Self::FromTrimHorizon,
            1 => Self::AtTrimHorizon,
            2 => Self::AtLatest,
            3 => Self::AtTime(Timestamp(time)),
            4 => Self::FromTime(Timestamp(time)),
            _ => return None,
        })
    }
}
