//! Shards split, merged, resized: open ones are closed, and others opened that own the same hashes.

use message::Timestamp;
use session::{Refusal, RefusalKind, ShardInfo, ShardNo, StreamId, StreamInfo};
use smallvec::SmallVec;

use super::{Draft, check_shards};
use crate::{
    Broker,
    change::Kind,
    decide::refusal,
    stream::{NewShard, Resharded, SHARDS_KEPT_MAX, Shard, Stream, ranges},
};

/// A shard as it is when it has just been opened.
pub(super) fn new_info(new: &NewShard, opened: Timestamp, first_offset: u64) -> ShardInfo {
    ShardInfo {
        shard: new.shard,
        parents: new.parents.clone(),
        first_hash: new.first_hash,
        last_hash: new.last_hash,
        opened,
        first_offset,
        closed: None,
        records: 0,
    }
}

fn open_shard(stream: &Stream, number: ShardNo) -> Result<&Shard, Refusal> {
    let shard = stream
        .shards
        .get(&number)
        .ok_or_else(|| refusal(RefusalKind::NotFound, format!("no shard {}", number.0)))?;
    if shard.closed.is_some() {
        return Err(refusal(
            RefusalKind::InUse,
            format!("shard {} is closed", number.0),
        ));
    }
    Ok(shard)
}

impl Broker {
    pub(super) fn split(
        &self,
        id: StreamId,
        stream: &Stream,
        number: ShardNo,
        at: u128,
        draft: &mut Draft<'_>,
    ) -> Result<StreamInfo, Refusal> {
        let shard = open_shard(stream, number)?;
        if at <= shard.first_hash || at > shard.last_hash {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                "the hash to split at is not inside the shard",
            ));
        }
        let of = |first_hash, last_hash| (first_hash, last_hash, SmallVec::from_slice(&[number]));
        let opens = vec![of(shard.first_hash, at - 1), of(at, shard.last_hash)];
        self.reshard(id, stream, vec![number], opens, draft)
    }

    pub(super) fn merge(
        &self,
        id: StreamId,
        stream: &Stream,
        one: ShardNo,
        other: ShardNo,
        draft: &mut Draft<'_>,
    ) -> Result<StreamInfo, Refusal> {
        let (a, b) = (open_shard(stream, one)?, open_shard(stream, other)?);
        let (low, high, parents) = if a.first_hash < b.first_hash {
            (a, b, [one, other])
        } else {
            (b, a, [other, one])
        };
        if low.last_hash.checked_add(1) != Some(high.first_hash) {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                format!("shards {} and {} are not neighbours", one.0, other.0),
            ));
        }
        let opens = vec![(
            low.first_hash,
            high.last_hash,
            SmallVec::from_slice(&parents),
        )];
        self.reshard(id, stream, parents.to_vec(), opens, draft)
    }

    pub(super) fn resize(
        &self,
        id: StreamId,
        stream: &Stream,
        shards: u32,
        draft: &mut Draft<'_>,
    ) -> Result<StreamInfo, Refusal> {
        check_shards(shards)?;
        // Both cover all hashes in order, so one walk over the two finds what overlaps.
        let open: Vec<(ShardNo, u128, u128)> = stream
            .open()
            .map(|number| {
                let shard = &stream.shards[&number];
                (number, shard.first_hash, shard.last_hash)
            })
            .collect();
        let mut closes: Vec<ShardNo> = Vec::new();
        let mut opens = Vec::new();
        let mut from = 0;
        for (first, last) in ranges(shards) {
            while from + 1 < open.len() && open[from].2 < first {
                from += 1;
            }
            let overlapping: SmallVec<[ShardNo; 2]> = open[from..]
                .iter()
                .take_while(|(_, first_hash, _)| *first_hash <= last)
                .map(|(number, ..)| *number)
                .collect();
            if overlapping.len() == 1 && (open[from].1, open[from].2) == (first, last) {
                continue;
            }
            closes.extend(&overlapping);
            opens.push((first, last, overlapping));
        }
        closes.sort_unstable();
        closes.dedup();
        if opens.is_empty() {
            return Ok(self.stream_info(id, stream, draft));
        }
        self.reshard(id, stream, closes, opens, draft)
    }

    /// Closes shards and opens others in their place.
    pub(super) fn reshard(
        &self,
        id: StreamId,
        stream: &Stream,
        closes: Vec<ShardNo>,
        opens: Vec<(u128, u128, SmallVec<[ShardNo; 2]>)>,
        draft: &mut Draft<'_>,
    ) -> Result<StreamInfo, Refusal> {
        check_shards(stream.open_len() - closes.len() as u32 + opens.len() as u32)?;
        let lowest = stream.shards.keys().next().map_or(0, |shard| shard.0);
        if stream.next_shard - lowest + opens.len() as u32 >= SHARDS_KEPT_MAX {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many closed shards still have records that are kept",
            ));
        }
        let opens: Vec<NewShard> = opens
            .into_iter()
            .zip(stream.next_shard..)
            .map(|((first_hash, last_hash, parents), number)| NewShard {
                shard: ShardNo(number),
                parents,
                first_hash,
                last_hash,
            })
            .collect();
        let next = stream.records.next();
        let mut info = self.stream_info(id, stream, draft);
        for shard in &mut info.shards {
            if closes.contains(&shard.shard) {
                shard.closed = Some((draft.now, next));
            }
        }
        info.shards
            .extend(opens.iter().map(|new| new_info(new, draft.now, next)));
        info.changed = draft.now;
        info.version += 1;
        draft.change(Kind::Resharded(Box::new(Resharded {
            stream: id,
            closes,
            opens,
        })));
        Ok(info)
    }
}
