//! Segments: preallocated, zero-filled files that hold batches.
//!
//! ```text
//! 0        header block: magic, level, cipher u32 (0), key id u64 (0), store, writer, epoch, number, salt,
//!          base sequence, base LSN, chain hash so far, length, check
//! 4096     batches, each at a multiple of 4 KiB; then zeros, or what an earlier use left (another salt: never valid)
//! end-T    trailer, written when the segment is full: magic, batches, last sequence, end, records, (block << 1 | adopted) u32 each, check
//! ```
//! The trailer is an index and no authority: without it the batch headers are read one after the other. The header of
//! segment n+1 is written after every batch of segment n was committed, so it proves them durable.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::forwards::Forwards;
use crate::hash::{xxh3_64, xxh3_64_with_seed};
use message::StoredId;

use crate::aligned::Aligned;
use crate::batch::{self, ADOPTED, BLOCK, HEADER_LEN, Header, u32_at, u64_at, u128_at};
use crate::error::{Corruption, ReadError};
use crate::layout::{FORMAT_LEVEL, Position, Uuid};
use crate::loss::Gap;
use crate::reader::BatchReader;
use crate::table::OPEN_MAX;
use crate::vfs::{Access, Vfs, VfsFile};

const SEGMENT_MAGIC: [u8; 8] = *b"BSCLSEG1";
const TRAILER_MAGIC: [u8; 8] = *b"BSCLTRLR";
const HEADER_USED: usize = 152;
const TRAILER_FIXED: usize = 40;

/// Which segment: epoch and number in the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The epoch that wrote it.
    pub epoch: u64,
    /// Its number in that epoch, from 1.
    pub number: u64,
}

/// A segment header, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) level: u32,
    pub(crate) store: Uuid,
    pub(crate) writer: Uuid,
    pub(crate) id: SegmentId,
    pub(crate) salt: u64,
    pub(crate) base: Position,
    pub(crate) len: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Aligned {
        let mut out = Aligned::zeroed(BLOCK);
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&self.level.to_le_bytes());
        // 12..16 cipher, 16..24 key id: 0 is plaintext (RULES 24).
        out[24..40].copy_from_slice(&self.store);
        out[40..56].copy_from_slice(&self.writer);
        out[56..64].copy_from_slice(&self.id.epoch.to_le_bytes());
        out[64..72].copy_from_slice(&self.id.number.to_le_bytes());
        out[72..80].copy_from_slice(&self.salt.to_le_bytes());
        out[80..88].copy_from_slice(&self.base.seq.to_le_bytes());
        out[88..96].copy_from_slice(&self.base.lsn.to_le_bytes());
        out[96..112].copy_from_slice(&self.base.chain.to_le_bytes());
        out[112..120].copy_from_slice(&self.len.to_le_bytes());
        let check = xxh3_64(&out[..HEADER_USED - 8]);
        out[HEADER_USED - 8..HEADER_USED].copy_from_slice(&check.to_le_bytes());
        out
    }

    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let raw = block.get(..HEADER_USED)?;
        if raw[..8] != SEGMENT_MAGIC
            || xxh3_64(&raw[..HEADER_USED - 8]) != u64_at(raw, HEADER_USED - 8)
        {
            return None;
        }
        Some(Self {
            level: u32_at(raw, 8),
            store: raw[24..40].try_into().ok()?,
            writer: raw[40..56].try_into().ok()?,
            id: SegmentId {
                epoch: u64_at(raw, 56),
                number: u64_at(raw, 64),
            },
            salt: u64_at(raw, 72),
            base: Position {
                seq: u64_at(raw, 80),
                lsn: u64_at(raw, 88),
                chain: u128_at(raw, 96),
            },
            len: u64_at(raw, 112),
        })
    }

    /// Whether this version can read the segment: known level, plaintext.
    pub(crate) fn is_known(&self, block: &[u8]) -> bool {
        self.level <= FORMAT_LEVEL && block[12..24].iter().all(|&b| b == 0)
    }
}

/// Bytes at the end of a segment of this length that are kept for the trailer.
pub(crate) fn trailer_len(segment_len: u64) -> u64 {
    let batches = segment_len / BLOCK as u64;
    (TRAILER_FIXED as u64 + 8 + 4 * batches).next_multiple_of(BLOCK as u64)
}

/// Where batches end in a segment of this length, at the latest. A damaged file may be shorter than a trailer.
pub(crate) fn data_end(segment_len: u64) -> u64 {
    segment_len.saturating_sub(trailer_len(segment_len))
}

/// The salt of a segment: no two segments of one writer share it, and writers are random.
pub(crate) fn salt_of(writer: &Uuid, epoch: u64, number: u64) -> u64 {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(writer);
    bytes[16..24].copy_from_slice(&epoch.to_le_bytes());
    bytes[24..].copy_from_slice(&number.to_le_bytes());
    xxh3_64(&bytes)
}

/// Where a batch starts in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    /// Of a batch that was given up: no batch lies where the segment's header does.
    pub(crate) const LOST: Self = Self(0);

    pub(crate) fn new(offset: u64, adopted: bool) -> Self {
        let block = u32::try_from(offset / BLOCK as u64).expect("a segment has at most 256 MiB");
        Self(block << 1 | u32::from(adopted))
    }

    pub(crate) fn offset(self) -> u64 {
        u64::from(self.0 >> 1) * BLOCK as u64
    }

    /// Where the plaintext payload starts.
    pub(crate) fn payload(self) -> u64 {
        let headers = if self.0 & 1 == 1 { 2 } else { 1 };
        self.offset() + headers * HEADER_LEN as u64
    }
}

/// A segment that is part of the journal.
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) path: PathBuf,
    pub(crate) direct: bool,
    /// Made by this process: only such a file is ever written again (RULES 16).
    pub(crate) own: bool,
    file: Mutex<Option<Arc<dyn VfsFile>>>,
    /// The last committed batch in it; `base.seq` (the one before the first) while there is none.
    last_seq: AtomicU64,
    /// Where committed batches end.
    end: AtomicU64,
    records: AtomicU64,
    pub(crate) sealed: AtomicBool,
    /// One place for each batch from the first; `None` until somebody asks.
    index: RwLock<Option<Arc<Vec<Place>>>>,
    /// References to records that were first written here, wherever they lie.
    pub(crate) named: AtomicI64,
    /// How many references there ever were to records that lie here, if this process has counted them all; else 0.
    referenced: AtomicU64,
    /// How many references to its records all of its bytes are worth, once it was read to find that out; before, 0.
    worth: AtomicU64,
    /// The newest batch when its last reference was seen to be gone, or 0: what let it go must be committed before the file goes.
    pub(crate) dead_at: AtomicU64,
    /// Where the survivors went, by the id of their first place.
    pub(crate) forwards: RwLock<Forwards>,
    /// All survivors were moved away.
    pub(crate) evacuated: AtomicBool,
    /// The file is unlinked.
    pub(crate) gone: AtomicBool,
    /// Read since the last look.
    pub(crate) used: AtomicBool,
    /// The number of references at which it was found to be too dense to be moved.
    pub(crate) dense_at: AtomicI64,
    /// What was given up in it, in order.
    gaps: RwLock<Arc<[Gap]>>,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, path: PathBuf, direct: bool, own: bool) -> Self {
        let base = header.base;
        Self {
            header,
            path,
            direct,
            own,
            file: Mutex::new(None),
            last_seq: AtomicU64::new(base.seq),
            end: AtomicU64::new(BLOCK as u64),
            records: AtomicU64::new(0),
            sealed: AtomicBool::new(false),
            index: RwLock::new(None),
            named: AtomicI64::new(0),
            referenced: AtomicU64::new(0),
            worth: AtomicU64::new(0),
            dead_at: AtomicU64::new(0),
            forwards: RwLock::default(),
            evacuated: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            used: AtomicBool::new(false),
            dense_at: AtomicI64::new(i64::MAX),
            gaps: RwLock::default(),
        }
    }

    /// What was given up in it.
    pub(crate) fn gaps(&self) -> Arc<[Gap]> {
        Arc::clone(&self.gaps.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_gaps(&self, mut gaps: Vec<Gap>) {
        gaps.sort_by_key(|gap| gap.offset);
        *self.gaps.write().unwrap_or_else(PoisonError::into_inner) = gaps.into();
    }

    /// An entry for batches whose file is gone: it only names records.
    pub(crate) fn without_file(like: &Self, base_seq: u64, last_seq: u64) -> Self {
        let id = SegmentId {
            epoch: 0,
            number: base_seq,
        };
        let base = Position {
            seq: base_seq,
            ..Position::default()
        };
        let header = SegmentHeader {
            id,
            base,
            ..like.header.clone()
        };
        let entry = Self::new(header, PathBuf::new(), false, false);
        entry.set_end(last_seq, BLOCK as u64, 0);
        entry.sealed.store(true, Ordering::Release);
        entry.evacuated.store(true, Ordering::Release);
        entry.gone.store(true, Ordering::Release);
        entry
    }

    /// Whether this record was moved from here.
    pub(crate) fn forwards_of(&self, stored: StoredId) -> bool {
        let forwards = self.forwards.read().unwrap_or_else(PoisonError::into_inner);
        forwards.contains(stored)
    }

    /// Whether none was.
    pub(crate) fn forwards_nothing(&self) -> bool {
        let forwards = self.forwards.read().unwrap_or_else(PoisonError::into_inner);
        forwards.is_empty()
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.header.id
    }

    /// The first batch that may lie in it.
    pub(crate) fn first_seq(&self) -> u64 {
        self.header.base.seq + 1
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// References to records that lie here were made. Of a segment that another process wrote, not all were seen.
    pub(crate) fn count_referenced(&self, by: u64) {
        if self.own {
            self.referenced.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// With `live` references to it, `of` bytes in `bytes` are referenced.
    pub(crate) fn weigh(&self, live: u64, of: u64, bytes: u64) {
        let worth = u128::from(live) * u128::from(bytes) / u128::from(of.max(1));
        let worth = u64::try_from(worth).unwrap_or(u64::MAX);
        self.worth.store(worth.max(1), Ordering::Relaxed);
    }

    /// Whether `live` references to what lies here are, as far as can be told, less than so many percent of it. Records that only say what
    /// became of messages are gone with them, so messages are counted, unless there are so few among the records that they cannot be
    /// much of it. Of what another process wrote only the records are known. Once it was weighed, that counts.
    pub(crate) fn is_below(&self, live: u64, percent: u64) -> bool {
        let below =
            |all: u64, percent: u64| u128::from(live) * 100 < u128::from(all) * u128::from(percent);
        match (
            self.worth.load(Ordering::Relaxed),
            self.referenced.load(Ordering::Relaxed),
        ) {
            (0, 0) => below(self.records(), percent),
            (0, all) => below(all, percent) || below(self.records(), percent / 4),
            (worth, _) => below(worth, percent),
        }
    }

    /// Sets where the committed part of a segment ends that was found on disk.
    pub(crate) fn set_end(&self, last_seq: u64, end: u64, records: u64) {
        self.end.store(end, Ordering::Release);
        self.records.store(records, Ordering::Relaxed);
        self.last_seq.store(last_seq, Ordering::Release);
    }

    pub(crate) fn set_index(&self, places: Vec<Place>) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(places));
    }

    /// Notes a batch that is committed: the index first, so that whoever sees `last_seq` finds it.
    pub(crate) fn committed(&self, place: Place, records: u64, end: u64) {
        {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let places = index.get_or_insert_default();
            Arc::make_mut(places).push(place);
        }
        self.records.fetch_add(records, Ordering::Relaxed);
        self.end.store(end, Ordering::Release);
        self.last_seq.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn file(&self, vfs: &dyn Vfs) -> Result<Arc<dyn VfsFile>, ReadError> {
        self.used.store(true, Ordering::Release);
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let file = vfs
            .open(&self.path, Access::Read, self.direct)
            .map_err(|e| self.io(e))?;
        *slot = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Lets go of what is kept to read it with, if it is one of too `many` for that: they may be more than a process may have files open.
    pub(crate) fn rest(&self, many: usize) {
        if many > OPEN_MAX {
            self.close_file();
            self.drop_index();
        }
    }

    /// Lets go of the descriptor; it is opened again when needed.
    pub(crate) fn close_file(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            path: self.path.clone(),
            source,
        }
    }

    pub(crate) fn corrupt(&self, offset: u64, what: impl Into<String>) -> ReadError {
        Corruption::new(&self.path, offset, what).into()
    }

    fn nth(&self, seq: u64) -> usize {
        usize::try_from(seq - self.first_seq()).expect("a segment has few batches")
    }

    /// Where batch `seq` of this segment lies, if the index is in memory and knows it.
    pub(crate) fn known_place(&self, seq: u64) -> Option<Place> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let place = index.as_ref()?.get(self.nth(seq)).copied();
        place.filter(|place| *place != Place::LOST)
    }

    /// Where batch `seq` lies, which must be committed and in this segment.
    pub(crate) fn place(&self, vfs: &dyn Vfs, seq: u64) -> Result<Place, ReadError> {
        if let Some(place) = self.known_place(seq) {
            return Ok(place);
        }
        let places = self.places(vfs)?;
        match places.get(self.nth(seq)).copied() {
            Some(Place::LOST) => Err(self.corrupt(0, format!("batch {seq} was given up"))),
            Some(place) => Ok(place),
            None => Err(self.corrupt(self.end(), format!("batch {seq} is missing"))),
        }
    }

    /// Where all batches lie: from memory, the trailer, or the batch headers.
    pub(crate) fn places(&self, vfs: &dyn Vfs) -> Result<Arc<Vec<Place>>, ReadError> {
        if let Some(places) = &*self.index.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(places));
        }
        let places = Arc::new(match self.read_trailer(vfs)? {
            Some(trailer) if trailer.last_seq >= self.last_seq() => {
                trailer.places_from(self.first_seq())
            }
            _ => self.scan_places(vfs)?,
        });
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(index.get_or_insert(places)))
    }

    /// Forgets the index of a sealed segment; it is read again when needed.
    pub(crate) fn drop_index(&self) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn scan_places(&self, vfs: &dyn Vfs) -> Result<Vec<Place>, ReadError> {
        let file = self.file(vfs)?;
        let mut places = Vec::new();
        let mut at = BLOCK as u64;
        let mut block = Aligned::zeroed(BLOCK);
        let gaps = self.gaps();
        let mut next = self.first_seq();
        while next <= self.last_seq() {
            let seq = next;
            if let Some(gap) = gaps.iter().find(|gap| gap.offset == at) {
                places.extend((seq..=gap.after.seq).map(|_| Place::LOST));
                at = gap.to;
                next = gap.after.seq + 1;
                continue;
            }
            next += 1;
            let n = file.read_at(&mut block, at).map_err(|e| self.io(e))?;
            let header = Header::decode(&block[..n], self.header.salt)
                .filter(|header| header.seq == seq)
                .ok_or_else(|| self.corrupt(at, format!("no header of batch {seq}")))?;
            places.push(Place::new(at, header.flags & ADOPTED != 0));
            at += header.padded_len() as u64;
        }
        Ok(places)
    }

    pub(crate) fn read_trailer(&self, vfs: &dyn Vfs) -> Result<Option<Trailer>, ReadError> {
        let file = self.file(vfs)?;
        let start = data_end(self.header.len);
        let mut bytes = Aligned::zeroed((self.header.len - start) as usize);
        let n = file.read_at(&mut bytes, start).map_err(|e| self.io(e))?;
        Ok(Trailer::decode(&bytes[..n], self.header.salt))
    }

    /// The trailer of this segment as it stands.
    pub(crate) fn trailer(&self) -> Trailer {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        Trailer {
            last_seq: self.last_seq(),
            end: self.end(),
            records: self.records(),
            places: index
                .as_ref()
                .map(|places| places.to_vec())
                .unwrap_or_default(),
        }
    }

    /// Reads batches in order from the first one on.
    pub(crate) fn reader(&self, vfs: &dyn Vfs) -> Result<BatchReader, ReadError> {
        Ok(BatchReader::new(
            self.file(vfs)?,
            &self.path,
            &self.header,
            data_end(self.header.len),
            self.gaps(),
        ))
    }
}

/// A segment's trailer, decoded.
pub(crate) struct Trailer {
    pub(crate) last_seq: u64,
    pub(crate) end: u64,
    pub(crate) records: u64,
    pub(crate) places: Vec<Place>,
}

impl Trailer {
    /// Where batches lie from this one on: a segment whose header was given up may begin later than it did.
    pub(crate) fn places_from(mut self, first_seq: u64) -> Vec<Place> {
        let first = (self.last_seq + 1).saturating_sub(self.places.len() as u64);
        let before = usize::try_from(first_seq.saturating_sub(first)).unwrap_or(usize::MAX);
        self.places.drain(..before.min(self.places.len()));
        self.places
    }

    pub(crate) fn encode(&self, salt: u64) -> Aligned {
        let used = TRAILER_FIXED + 4 * self.places.len();
        let mut out = Aligned::zeroed((used + 8).next_multiple_of(BLOCK));
        out[..8].copy_from_slice(&TRAILER_MAGIC);
        out[8..16].copy_from_slice(&(self.places.len() as u64).to_le_bytes());
        out[16..24].copy_from_slice(&self.last_seq.to_le_bytes());
        out[24..32].copy_from_slice(&self.end.to_le_bytes());
        out[32..40].copy_from_slice(&self.records.to_le_bytes());
        for (i, place) in self.places.iter().enumerate() {
            let at = TRAILER_FIXED + 4 * i;
            out[at..at + 4].copy_from_slice(&place.0.to_le_bytes());
        }
        let check = xxh3_64_with_seed(&out[..used], batch::seed(salt));
        out[used..used + 8].copy_from_slice(&check.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        if bytes.get(..8)? != TRAILER_MAGIC {
            return None;
        }
        let count = usize::try_from(u64_at(bytes.get(..TRAILER_FIXED)?, 8)).ok()?;
        let used = TRAILER_FIXED.checked_add(count.checked_mul(4)?)?;
        let check = bytes.get(used..used.checked_add(8)?)?;
        if xxh3_64_with_seed(&bytes[..used], batch::seed(salt)) != u64_at(check, 0) {
            return None;
        }
        Some(Self {
            last_seq: u64_at(bytes, 16),
            end: u64_at(bytes, 24),
            records: u64_at(bytes, 32),
            places: (0..count)
                .map(|i| Place(u32_at(bytes, TRAILER_FIXED + 4 * i)))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_shorter_than_a_trailer_has_no_room_for_batches() {
        for len in [0, 1, 4_095] {
            assert_eq!(data_end(len), 0);
        }
        assert!(data_end(64 << 10) > 0);
    }

    fn header() -> SegmentHeader {
        SegmentHeader {
            level: FORMAT_LEVEL,
            store: [1; 16],
            writer: [2; 16],
            id: SegmentId {
                epoch: 3,
                number: 4,
            },
            salt: 5,
            base: Position {
                seq: 6,
                lsn: 7,
                chain: 8,
            },
            len: 64 << 10,
        }
    }

    #[test]
    fn a_segment_header_comes_back_and_damage_shows() {
        let block = header().encode();
        assert_eq!(SegmentHeader::decode(&block), Some(header()));
        assert!(header().is_known(&block));
        for at in 0..HEADER_USED {
            let mut bad = block.to_vec();
            bad[at] ^= 1;
            assert_eq!(SegmentHeader::decode(&bad), None, "byte {at} is covered");
        }
    }

    #[test]
    fn rules_24_a_segment_with_a_cipher_or_a_key_is_not_known() {
        for at in [12, 16, 23] {
            let mut block = header().encode();
            block[at] = 1;
            assert!(!header().is_known(&block));
        }
    }

    #[test]
    fn a_trailer_fits_every_segment_and_comes_back() {
        for len in [64 << 10, 4 << 20, 64 << 20, 256_u64 << 20] {
            let batches = (data_end(len) - BLOCK as u64) / BLOCK as u64;
            let places = (0..batches)
                .map(|n| Place::new((n + 1) * BLOCK as u64, n % 3 == 0))
                .collect();
            let trailer = Trailer {
                last_seq: 9,
                end: data_end(len),
                records: 77,
                places,
            };
            let bytes = trailer.encode(5);
            assert!(bytes.len() as u64 <= trailer_len(len));
            let back = Trailer::decode(&bytes, 5).expect("whole");
            assert_eq!(
                (back.last_seq, back.end, back.records),
                (9, data_end(len), 77)
            );
            assert_eq!(back.places, trailer.places);
            assert!(Trailer::decode(&bytes, 6).is_none(), "another salt");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(SegmentHeader::decode(&bytes).is_none());
            prop_assert!(Trailer::decode(&bytes, 0).is_none());
            let mut marked = TRAILER_MAGIC.to_vec();
            marked.extend_from_slice(&bytes);
            prop_assert!(Trailer::decode(&marked, 0).is_none());
        }
    }
}
