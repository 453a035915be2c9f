//! The stored entries of a durable queue: 24 bytes each, in chunks of 512 numbers that go when all in them are dead.
//!
//! ```text
//! chunk n: numbers n*512 .. n*512+511, one bit each whether it lives; slots from the first number used on
//! slot   : stored id 64 | arrival 48, deliveries 16 | length 32 | flags 16, priority 8
//! ```
//! One old message pins its own chunk and nothing else. Nothing here is soft: what is out, ready or hidden lies beside.

use std::collections::{BTreeMap, VecDeque};

use message::{DecodeError, Reader, StoredId, Timestamp, codec::put_u64};

use super::Rare;
use crate::record::wire::Wire;

const CHUNK: u64 = 512;
const TIME_BITS: u32 = 48;

/// One stored entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    stored: u64,
    time_count: u64,
    /// Bytes of body.
    pub(crate) len: u32,
    /// See [`super::flag`].
    pub(crate) flags: u16,
    /// 0 is the lowest.
    pub(crate) priority: u8,
}

impl Entry {
    pub(crate) const fn new(
        stored: StoredId,
        len: u32,
        enqueued: Timestamp,
        flags: u16,
        priority: u8,
    ) -> Self {
        Self {
            stored: stored.0,
            time_count: enqueued.0 & ((1 << TIME_BITS) - 1),
            len,
            flags,
            priority,
        }
    }

    pub(crate) const fn stored(&self) -> StoredId {
        StoredId(self.stored)
    }

    pub(crate) const fn enqueued(&self) -> Timestamp {
        Timestamp(self.time_count & ((1 << TIME_BITS) - 1))
    }

    /// Deliveries so far; stays at its greatest.
    pub(crate) const fn count(&self) -> u32 {
        (self.time_count >> TIME_BITS) as u32
    }

    pub(crate) fn set_count(&mut self, count: u32) {
        let count = u64::from(count.min(u32::from(u16::MAX)));
        self.time_count = self.time_count & ((1 << TIME_BITS) - 1) | count << TIME_BITS;
    }
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    live: [u64; (CHUNK / 64) as usize],
    /// Place of `slots[0]` in the chunk.
    start: u16,
    count: u16,
    slots: Vec<Entry>,
}

impl Chunk {
    const fn lives(&self, place: usize) -> bool {
        self.live[place / 64] >> (place % 64) & 1 == 1
    }

    /// The first living place at or behind `place`.
    fn next(&self, place: usize) -> Option<usize> {
        let mut word = place / 64;
        let mut bits = *self.live.get(word)? & (u64::MAX << (place % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            bits = *self.live.get(word)?;
        }
    }
}

/// All stored entries of a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    /// By number, rising. Mostly none is missing, so a chunk lies as far behind the first, or in front of the last, as its number.
    chunks: VecDeque<(u64, Box<Chunk>)>,
    rare: BTreeMap<u64, Box<Rare>>,
    len: u64,
    bytes: u64,
}

impl Entries {
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where a chunk is, or would be.
    fn place(&self, number: u64) -> Result<usize, usize> {
        let (Some((first, _)), Some((last, _))) = (self.chunks.front(), self.chunks.back()) else {
            return Err(0);
        };
        if number > *last {
            return Err(self.chunks.len());
        }
        let from_first = number.wrapping_sub(*first) as usize;
        let from_last = (self.chunks.len() - 1).wrapping_sub((last - number) as usize);
        for at in [from_first, from_last] {
            if self.chunks.get(at).is_some_and(|(it, _)| *it == number) {
                return Ok(at);
            }
        }
        self.chunks.binary_search_by_key(&number, |(it, _)| *it)
    }

    /// Adds one. Numbers come in rising order as a rule, but any free one will do.
    pub(crate) fn insert(&mut self, qseq: u64, mut entry: Entry, rare: Option<Box<Rare>>) {
        if let Some(rare) = rare {
            entry.flags |= super::flag::RARE;
            self.rare.insert(qseq, rare);
        }
        let number = qseq / CHUNK;
        let at = self.place(number).unwrap_or_else(|at| {
            self.chunks.insert(at, (number, Box::default()));
            at
        });
        let chunk = &mut self.chunks[at].1;
        let place = (qseq % CHUNK) as usize;
        assert!(
            chunk.count == 0 || !chunk.lives(place),
            "a number is used once in a queue"
        );
        if chunk.slots.is_empty() {
            chunk.start = place as u16;
        }
        let dead = Entry::new(StoredId(0), 0, Timestamp(0), 0, 0);
        let start = usize::from(chunk.start);
        if place < start {
            chunk
                .slots
                .splice(0..0, std::iter::repeat_n(dead, start - place));
            chunk.start = place as u16;
        }
        let index = place - usize::from(chunk.start);
        if index >= chunk.slots.len() {
            chunk.slots.resize(index + 1, dead);
        }
        chunk.slots[index] = entry;
        chunk.live[place / 64] |= 1 << (place % 64);
        chunk.count += 1;
        self.len += 1;
        self.bytes += u64::from(entry.len);
    }

    pub(crate) fn get(&self, qseq: u64) -> Option<&Entry> {
        let (_, chunk) = &self.chunks[self.place(qseq / CHUNK).ok()?];
        let place = (qseq % CHUNK) as usize;
        chunk
            .lives(place)
            .then(|| &chunk.slots[place - usize::from(chunk.start)])
    }

    pub(crate) fn get_mut(&mut self, qseq: u64) -> Option<&mut Entry> {
        let at = self.place(qseq / CHUNK).ok()?;
        let chunk = &mut self.chunks[at].1;
        let place = (qseq % CHUNK) as usize;
        chunk
            .lives(place)
            .then(|| &mut chunk.slots[place - usize::from(chunk.start)])
    }

    pub(crate) fn rare(&self, qseq: u64) -> Option<&Rare> {
        self.rare.get(&qseq).map(|rare| &**rare)
    }

    /// Changes the rare side of a living entry, made when there is none and dropped when nothing is left in it.
    pub(crate) fn change_rare(&mut self, qseq: u64, change: impl FnOnce(&mut Rare)) {
        if self.get(qseq).is_none() {
            return;
        }
        if let Some(rare) = self.rare.get_mut(&qseq) {
            change(rare);
            if rare.is_empty() {
                self.rare.remove(&qseq);
                self.get_mut(qseq).expect("seen above").flags &= !super::flag::RARE;
            }
            return;
        }
        let mut rare = Rare::default();
        change(&mut rare);
        if let Some(rare) = rare.boxed() {
            self.rare.insert(qseq, rare);
            self.get_mut(qseq).expect("seen above").flags |= super::flag::RARE;
        }
    }

    pub(crate) fn remove(&mut self, qseq: u64) -> Option<(Entry, Option<Box<Rare>>)> {
        let at = self.place(qseq / CHUNK).ok()?;
        let chunk = &mut self.chunks[at].1;
        let place = (qseq % CHUNK) as usize;
        if !chunk.lives(place) {
            return None;
        }
        let entry = chunk.slots[place - usize::from(chunk.start)];
        chunk.live[place / 64] &= !(1 << (place % 64));
        chunk.count -= 1;
        if chunk.count == 0 {
            self.chunks.remove(at);
        }
        self.len -= 1;
        self.bytes -= u64::from(entry.len);
        let rare = (entry.flags & super::flag::RARE != 0)
            .then(|| self.rare.remove(&qseq))
            .flatten();
        Some((entry, rare))
    }

    /// The first living number at or behind `from`.
    pub(crate) fn next(&self, from: u64) -> Option<u64> {
        let mut place = (from % CHUNK) as usize;
        let (Ok(at) | Err(at)) = self.place(from / CHUNK);
        for (number, chunk) in self.chunks.range(at..) {
            if *number != from / CHUNK {
                place = 0;
            }
            if let Some(found) = chunk.next(place) {
                return Some(number * CHUNK + found as u64);
            }
        }
        None
    }

    /// All living entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.chunks.iter().flat_map(|(number, chunk)| {
            (0..CHUNK as usize)
                .filter(|place| chunk.lives(*place))
                .map(move |place| {
                    (
                        number * CHUNK + place as u64,
                        &chunk.slots[place - usize::from(chunk.start)],
                    )
                })
        })
    }

    /// The rare sides in order.
    pub(crate) fn iter_rare(&self) -> impl Iterator<Item = (u64, &Rare)> {
        self.rare.iter().map(|(qseq, rare)| (*qseq, &**rare))
    }
}

impl Wire for Entries {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.len);
        let (mut number, mut stored, mut time) = (0u64, 0u64, 0u64);
        for (qseq, entry) in self.iter() {
            put_u64(out, qseq - number);
            message::codec::put_i64(out, entry.stored.wrapping_sub(stored) as i64);
            message::codec::put_i64(out, entry.enqueued().0.wrapping_sub(time) as i64);
            put_u64(out, u64::from(entry.count()));
            put_u64(out, u64::from(entry.len));
            put_u64(out, u64::from(entry.flags));
            out.push(entry.priority);
            if entry.flags & super::flag::RARE != 0 {
                self.rare(qseq)
                    .expect("the flag says that there is one")
                    .put(out);
            }
            (number, stored, time) = (qseq, entry.stored, entry.enqueued().0);
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut entries = Self::default();
        let (mut number, mut stored, mut time) = (0u64, 0u64, 0u64);
        for at in 0..reader.u64()? {
            let step = reader.u64()?;
            if at > 0 && step == 0 {
                return Err(DecodeError::Bounds("an entry's number"));
            }
            number = number
                .checked_add(step)
                .ok_or(DecodeError::Bounds("an entry's number"))?;
            stored = stored.wrapping_add(reader.i64()? as u64);
            time = time.wrapping_add(reader.i64()? as u64);
            let count = reader.u32()?;
            let len = reader.u32()?;
            let flags = u16::read(reader)?;
            let priority = reader.u8()?;
            let mut entry = Entry::new(StoredId(stored), len, Timestamp(time), flags, priority);
            entry.set_count(count);
            let rare = if flags & super::flag::RARE != 0 {
                Some(Box::new(Rare::read(reader)?))
            } else {
                None
            };
            entries.insert(number, entry, rare);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_24_bytes() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    proptest! {
        #[test]
        fn entries_agree_with_a_map(steps in prop::collection::vec((any::<bool>(), 0u64..3000), 0..400)) {
            let mut entries = Entries::default();
            let mut naive = BTreeMap::new();
            for (add, qseq) in steps {
                if add {
                    if naive.contains_key(&qseq) { continue; }
                    let entry = Entry::new(StoredId(qseq * 7), qseq as u32, Timestamp(qseq), 0, 3);
                    entries.insert(qseq, entry, None);
                    naive.insert(qseq, entry);
                } else {
                    prop_assert_eq!(entries.remove(qseq).map(|(e, _)| e), naive.remove(&qseq));
                }
                prop_assert_eq!(entries.next(qseq), naive.range(qseq..).next().map(|(q, _)| *q));
            }
            let seen: Vec<_> = entries.iter().map(|(q, e)| (q, *e)).collect();
            prop_assert_eq!(seen, naive.iter().map(|(q, e)| (*q, *e)).collect::<Vec<_>>());
            let mut out = Vec::new();
            entries.put(&mut out);
            let back = Entries::read(&mut Reader::new(out.clone().into())).expect("what was written");
            let mut again = Vec::new();
            back.put(&mut again);
            prop_assert_eq!(out, again);
            prop_assert_eq!(entries.bytes(), naive.values().map(|e| u64::from(e.len)).sum::<u64>());
        }
    }
}
