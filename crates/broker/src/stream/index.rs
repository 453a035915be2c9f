//! Where the records of a stream lie: 20 bytes a record in the order of their offsets, and 4 in its shard.
//!
//! ```text
//! Records : chunks of 1,024 slots by offset, without gaps; the oldest go first
//! slot    : stored id 64 | length 30, marks 2 | time 48, shard 16
//! Offsets : chunks of at most 1,024 offsets of one shard, each 32 bits behind the first of its chunk
//! ```
//! An offset is found at once, a shard's record at or behind an offset or a time by binary search.

use std::collections::VecDeque;

use message::{DecodeError, Reader, StoredId, Timestamp, codec::put_i64, codec::put_u64};
use session::ShardNo;

const CHUNK: usize = 1024;
const LEN_MAX: u32 = (1 << 30) - 1;
/// The message's own record does not name this place.
const EXTRA: u32 = 1 << 30;
/// Its partition key is not the message's own.
const KEYED: u32 = 1 << 31;
/// In place of length and marks: the record was lost to damage. None that is there is so long.
const LOST: u32 = u32::MAX;

/// A record of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot([u32; 5]);

impl Slot {
    pub(crate) fn new(
        stored: StoredId,
        len: u32,
        time: Timestamp,
        shard: ShardNo,
        extra: bool,
        keyed: bool,
    ) -> Self {
        let marks = if extra { EXTRA } else { 0 } | if keyed { KEYED } else { 0 };
        Self([
            stored.0 as u32,
            (stored.0 >> 32) as u32,
            len.min(LEN_MAX) | marks,
            time.0 as u32,
            ((time.0 >> 32) as u32 & 0xFFFF) | (shard.0 << 16),
        ])
    }

    pub(crate) const fn stored(&self) -> StoredId {
        StoredId(self.0[0] as u64 | (self.0[1] as u64) << 32)
    }

    /// In place of a record that was lost to damage: no shard names it, and nobody is shown it.
    pub(crate) const fn lost(near: StoredId, time: Timestamp, shard: ShardNo) -> Self {
        Self([
            near.0 as u32,
            (near.0 >> 32) as u32,
            LOST,
            time.0 as u32,
            ((time.0 >> 32) as u32 & 0xFFFF) | (shard.0 << 16),
        ])
    }

    pub(crate) const fn is_lost(&self) -> bool {
        self.0[2] == LOST
    }

    /// Bytes of body and key.
    pub(crate) const fn len(&self) -> u32 {
        if self.is_lost() {
            return 0;
        }
        self.0[2] & LEN_MAX
    }

    pub(crate) const fn extra(&self) -> bool {
        self.0[2] & EXTRA != 0 && !self.is_lost()
    }

    pub(crate) const fn keyed(&self) -> bool {
        self.0[2] & KEYED != 0 && !self.is_lost()
    }

    pub(crate) const fn time(&self) -> Timestamp {
        Timestamp(self.0[3] as u64 | ((self.0[4] & 0xFFFF) as u64) << 32)
    }

    /// The shard, of a stream whose lowest one that is known.
    pub(crate) const fn shard(&self, lowest: ShardNo) -> ShardNo {
        let above = self.shard_bits().wrapping_sub(lowest.0 as u16);
        ShardNo(lowest.0.wrapping_add(above as u32))
    }

    /// The lower 16 bits of the shard's number: a stream keeps fewer shards than that tells apart.
    pub(crate) const fn shard_bits(&self) -> u16 {
        (self.0[4] >> 16) as u16
    }
}

/// The records of a stream that are there, by their offsets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    first: u64,
    next: u64,
    chunks: VecDeque<Vec<Slot>>,
    /// The offset of the first slot of the first chunk; at most `first`.
    base: u64,
}

impl Records {
    /// None yet; the next one gets that offset.
    pub(crate) const fn starting_at(next: u64) -> Self {
        Self {
            first: next,
            next,
            chunks: VecDeque::new(),
            base: next,
        }
    }

    /// The oldest that is there; [`Self::next`] when there is none.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// The offset of the next record.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    pub(crate) const fn len(&self) -> u64 {
        self.next - self.first
    }

    pub(crate) fn push(&mut self, slot: Slot) {
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(slot),
            _ => {
                if self.chunks.is_empty() {
                    self.base = self.next;
                }
                self.chunks.push_back(vec![slot]);
            }
        }
        self.next += 1;
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&Slot> {
        if offset < self.first || offset >= self.next {
            return None;
        }
        let at = (offset - self.base) as usize;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    /// Puts another slot in the place of one that is there.
    pub(crate) fn replace(&mut self, offset: u64, slot: Slot) {
        if offset < self.first || offset >= self.next {
            return;
        }
        let at = (offset - self.base) as usize;
        let chunk = self.chunks.get_mut(at / CHUNK);
        if let Some(there) = chunk.and_then(|chunk| chunk.get_mut(at % CHUNK)) {
            *there = slot;
        }
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<(u64, Slot)> {
        let slot = *self.get(self.first)?;
        let offset = self.first;
        self.first += 1;
        if self.first == self.next {
            self.chunks.clear();
            self.base = self.next;
        } else if self.first - self.base == CHUNK as u64 {
            self.chunks.pop_front();
            self.base += CHUNK as u64;
        }
        Some((offset, slot))
    }

    /// The first offset whose record came at that time or later; [`Self::next`] when none did.
    pub(crate) fn since(&self, time: Timestamp) -> u64 {
        self.partition(|slot| slot.time() < time)
    }

    /// The first offset whose record does not match, of those that are sorted that way.
    pub(crate) fn partition(&self, matches: impl Fn(&Slot) -> bool) -> u64 {
        let (mut low, mut high) = (self.first, self.next);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(&matches) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Slot)> {
        (self.first..self.next).filter_map(|offset| Some((offset, self.get(offset)?)))
    }
}

/// Writes slots one behind the other, each relative to the one before.
pub(crate) fn put_slots<'a>(out: &mut Vec<u8>, slots: impl Iterator<Item = &'a Slot>) {
    let (mut stored, mut time) = (0u64, 0u64);
    for slot in slots {
        put_i64(out, slot.stored().0.wrapping_sub(stored) as i64);
        put_i64(out, slot.time().0.wrapping_sub(time) as i64);
        put_u64(out, u64::from(slot.0[2]));
        put_u64(out, u64::from(slot.shard_bits()));
        (stored, time) = (slot.stored().0, slot.time().0);
    }
}

/// Reads so many that [`put_slots`] wrote.
pub(crate) fn read_slots(
    reader: &mut Reader,
    count: u64,
    mut each: impl FnMut(Slot),
) -> Result<(), DecodeError> {
    let (mut stored, mut time) = (0u64, 0u64);
    for _ in 0..count {
        stored = stored.wrapping_add(reader.i64()? as u64);
        time = time.wrapping_add(reader.i64()? as u64);
        let len = reader.u32()?;
        let shard = reader.u32()?;
        if len == LOST {
            each(Slot::lost(
                StoredId(stored),
                Timestamp(time),
                ShardNo(shard),
            ));
            continue;
        }
        each(Slot::new(
            StoredId(stored),
            len & LEN_MAX,
            Timestamp(time),
            ShardNo(shard),
            len & EXTRA != 0,
            len & KEYED != 0,
        ));
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct OffsetChunk {
    base: u64,
    deltas: Vec<u32>,
}

/// The offsets of the records of one shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offsets {
    chunks: VecDeque<OffsetChunk>,
    /// How many at the front of the first chunk are gone.
    gone: usize,
    len: u64,
}

/// A place among the offsets of a shard: good until the shard changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    chunk: usize,
    at: usize,
}

impl Offsets {
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Adds one above all that are in.
    pub(crate) fn push(&mut self, offset: u64) {
        self.len += 1;
        if let Some(chunk) = self.chunks.back_mut()
            && chunk.deltas.len() < CHUNK
            && let Ok(delta) = u32::try_from(offset - chunk.base)
        {
            return chunk.deltas.push(delta);
        }
        self.chunks.push_back(OffsetChunk {
            base: offset,
            deltas: vec![0],
        });
    }

    /// Takes out what is not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        let mut kept = Self::default();
        let mut at = self.seek(0);
        while let Some(offset) = self.get(at) {
            at = self.behind(at);
            if keep(offset) {
                kept.push(offset);
            }
        }
        *self = kept;
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.get(Cursor {
            chunk: 0,
            at: self.gone,
        })
    }

    pub(crate) fn last(&self) -> Option<u64> {
        let chunk = self.chunks.back()?;
        Some(chunk.base + u64::from(*chunk.deltas.last()?))
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<u64> {
        let first = self.first()?;
        self.gone += 1;
        self.len -= 1;
        if self.gone == self.chunks[0].deltas.len() {
            self.chunks.pop_front();
            self.gone = 0;
        }
        Some(first)
    }

    pub(crate) fn get(&self, at: Cursor) -> Option<u64> {
        let chunk = self.chunks.get(at.chunk)?;
        Some(chunk.base + u64::from(*chunk.deltas.get(at.at)?))
    }

    /// How many there are from a place on, or `most`.
    pub(crate) fn count_from(&self, at: Cursor, most: usize) -> usize {
        let mut count = 0;
        for chunk in self.chunks.iter().skip(at.chunk) {
            count += chunk.deltas.len();
            if count >= at.at.saturating_add(most) {
                return most;
            }
        }
        count.saturating_sub(at.at)
    }

    /// The place behind another.
    pub(crate) fn behind(&self, at: Cursor) -> Cursor {
        let last = self
            .chunks
            .get(at.chunk)
            .is_none_or(|chunk| at.at + 1 >= chunk.deltas.len());
        if last {
            Cursor {
                chunk: at.chunk + 1,
                at: 0,
            }
        } else {
            Cursor {
                chunk: at.chunk,
                at: at.at + 1,
            }
        }
    }

    /// The place of the first at or behind an offset.
    pub(crate) fn seek(&self, offset: u64) -> Cursor {
        let chunk = self.chunks.partition_point(|chunk| chunk.base <= offset);
        let Some(chunk) = chunk.checked_sub(1) else {
            return Cursor {
                chunk: 0,
                at: self.gone,
            };
        };
        let found = &self.chunks[chunk];
        let at = found
            .deltas
            .partition_point(|delta| found.base + u64::from(*delta) < offset);
        if at == found.deltas.len() {
            return Cursor {
                chunk: chunk + 1,
                at: 0,
            };
        }
        let at = if chunk == 0 { at.max(self.gone) } else { at };
        Cursor { chunk, at }
    }

    /// The first at or behind an offset.
    pub(crate) fn at_or_behind(&self, offset: u64) -> Option<u64> {
        self.get(self.seek(offset))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_takes_24_bytes_its_place_in_its_shard_included() {
        assert_eq!(size_of::<Slot>() + size_of::<u32>(), 24);
    }

    fn slot(offset: u64) -> Slot {
        Slot::new(
            StoredId(u64::MAX - offset),
            offset as u32 % (LEN_MAX + 1),
            Timestamp((1 << 40) + offset / 3),
            ShardNo(offset as u32 % 70_000),
            offset.is_multiple_of(2),
            offset.is_multiple_of(3),
        )
    }

    #[test]
    fn a_slot_gives_back_what_it_was_made_of() {
        for offset in [0, 1, 6, 65_535, 69_999] {
            let it = slot(offset);
            assert_eq!(it.stored(), StoredId(u64::MAX - offset));
            assert_eq!(u64::from(it.len()), offset);
            assert_eq!(it.time(), Timestamp((1 << 40) + offset / 3));
            assert_eq!(it.shard_bits(), offset as u16);
            assert_eq!(it.extra(), offset % 2 == 0);
            assert_eq!(it.keyed(), offset % 3 == 0);
        }
    }

    #[test]
    fn records_come_and_go_and_are_found_by_offset_and_time() {
        let mut records = Records::starting_at(5_000_000_000);
        let first = records.next();
        for step in 0..5000 {
            records.push(slot(first + step));
            if step % 3 == 0 {
                assert_eq!(
                    records.pop(),
                    Some((first + step / 3, slot(first + step / 3)))
                );
            }
            if step % 97 == 0 {
                for offset in records.first()..records.next() {
                    assert_eq!(records.get(offset), Some(&slot(offset)));
                }
                for time in [0, 7, 400] {
                    let time = Timestamp((1 << 40) + first / 3 + time);
                    let found = (records.first()..records.next())
                        .find(|offset| slot(*offset).time() >= time)
                        .unwrap_or_else(|| records.next());
                    assert_eq!(records.since(time), found);
                }
            }
        }
        assert_eq!(records.get(records.first() - 1), None);
        assert_eq!(records.get(records.next()), None);
        let mut out = Vec::new();
        put_slots(&mut out, records.iter().map(|(_, slot)| slot));
        let mut back = Records::starting_at(records.first());
        read_slots(&mut Reader::new(out.into()), records.len(), |slot| {
            back.push(slot)
        })
        .expect("what was written");
        assert!(records.iter().eq(back.iter()));
        while records.pop().is_some() {}
        assert_eq!(records.len(), 0);
    }

    proptest! {
        #[test]
        fn offsets_agree_with_a_set(
            steps in prop::collection::vec((0u64..4, 1u64..3_000_000_000), 0..60),
            runs in 1u64..700,
        ) {
            let mut offsets = Offsets::default();
            let mut naive = BTreeSet::new();
            let mut next = 0;
            for (what, by) in steps {
                if what == 0 {
                    for _ in 0..runs {
                        prop_assert_eq!(offsets.pop(), naive.pop_first());
                    }
                } else {
                    next += by;
                    for _ in 0..runs {
                        offsets.push(next);
                        naive.insert(next);
                        next += what;
                    }
                }
                prop_assert_eq!(offsets.len(), naive.len() as u64);
                prop_assert_eq!(offsets.first(), naive.first().copied());
                prop_assert_eq!(offsets.last(), naive.last().copied());
                for probe in [0, next / 2, next.saturating_sub(by), next] {
                    let found = naive.range(probe..).next().copied();
                    prop_assert_eq!(offsets.at_or_behind(probe), found);
                    let count = naive.range(probe..).count();
                    let at = offsets.seek(probe);
                    for most in [0, 1, count, count + 1, usize::MAX] {
                        prop_assert_eq!(offsets.count_from(at, most), count.min(most));
                    }
                }
                let mut cursor = offsets.seek(0);
                for offset in &naive {
                    prop_assert_eq!(offsets.get(cursor), Some(*offset));
                    cursor = offsets.behind(cursor);
                }
                prop_assert_eq!(offsets.get(cursor), None);
            }
        }
    }
}
