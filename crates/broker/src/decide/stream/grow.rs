//! Shards that are split because much is written to them: each in the middle of its hashes, once a minute at most, by the
//! record by which a command splits them.
//!
//! What the shards of such a stream take together is so always twice of the most that has come in a minute. They do not
//! become fewer again by themselves. A split does not help one partition key to which everything goes: when four in a row
//! have moved next to nothing away from what is hot, there is no fifth.

use std::cmp::Reverse;

use message::Timestamp;
use session::{Growth, ShardNo, StreamId};
use smallvec::SmallVec;

use super::Draft;
use crate::{
    Broker,
    decide::tick::postpone,
    soft::Timer,
    stream::{MEASURE_MS, Measured, SHARDS_OPEN_MAX, Stream},
};

/// Splits in a row that may move next to nothing away.
const FRUITLESS_MAX: u32 = 4;
/// Less than this part of what stays is next to nothing.
const NEXT_TO_NOTHING: u128 = 16;

impl Broker {
    /// What was written to a stream in the last minute is to be seen.
    pub(in crate::decide) fn due_grow(
        &self,
        timer: (Timestamp, Timer),
        id: StreamId,
        draft: &mut Draft<'_>,
    ) {
        let found = self.durable.streams.get(&id).and_then(|stream| {
            let measured = &self.soft.streams.get(&id)?.measured;
            Some((
                stream,
                stream.declared.attributes.growth?,
                measured,
                measured.since()?,
            ))
        });
        let Some((stream, growth, measured, since)) = found else {
            return postpone(timer, None, draft);
        };
        let whole = since.plus_ms(MEASURE_MS);
        if draft.now < whole {
            return postpone(timer, Some(whole), draft);
        }
        postpone(timer, None, draft);
        let half = Measured::half(&growth, draft.now.since(since));
        let mut hot: Vec<(Reverse<u128>, ShardNo)> = stream
            .open()
            .map(|shard| (Reverse(measured.of(shard, &growth)), shard))
            .filter(|(of, shard)| of.0 > half && helps(stream, measured, &growth, *shard))
            .collect();
        if hot.is_empty() {
            return;
        }
        // The hottest, if there is not room for all.
        hot.sort_unstable();
        hot.truncate(self.room_to_grow(stream, &growth));
        let mut opens = Vec::new();
        for (_, number) in &hot {
            let shard = &stream.shards[number];
            let low = shard.first_hash + (shard.last_hash - shard.first_hash) / 2;
            for (first, last) in [(shard.first_hash, low), (low + 1, shard.last_hash)] {
                opens.push((first, last, SmallVec::from_slice(&[*number])));
            }
        }
        let closes: Vec<ShardNo> = hot.iter().map(|(_, shard)| *shard).collect();
        // When so many closed shards are kept yet that there may be no more, it is left to the next minute.
        if !closes.is_empty() {
            let _ = self.reshard(id, stream, closes, opens, draft);
        }
    }

    /// How many shards more a stream may have.
    fn room_to_grow(&self, stream: &Stream, growth: &Growth) -> usize {
        let vhost = stream.declared.vhost;
        let here = |it: &&Stream| it.declared.vhost == vhost && !it.declared.doomed;
        let all = self.durable.streams.values().filter(here);
        let together: u32 = all.map(Stream::open_len).sum();
        let room = growth.shards_max.saturating_sub(together);
        room.min(SHARDS_OPEN_MAX - stream.open_len()) as usize
    }
}

/// Whether a split may take something away from a shard.
fn helps(stream: &Stream, measured: &Measured, growth: &Growth, number: ShardNo) -> bool {
    let mut shard = &stream.shards[&number];
    if shard.first_hash == shard.last_hash {
        return false;
    }
    let of = |first, last| -> u128 {
        let within = stream.open_within(first, last);
        within.map(|shard| measured.of(shard, growth)).sum()
    };
    let stays = measured.of(number, growth);
    for _ in 0..FRUITLESS_MAX {
        let [parent] = shard.parents[..] else {
            return true;
        };
        let Some(parent) = stream.shards.get(&parent) else {
            return true;
        };
        let moved = of(parent.first_hash, parent.last_hash)
            .saturating_sub(of(shard.first_hash, shard.last_hash));
        if moved * NEXT_TO_NOTHING >= stays {
            return true;
        }
        shard = parent;
    }
    false
}
