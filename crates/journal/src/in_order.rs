//! Reading many records, most of which lie one behind the other: what was found for one of them (its batch in memory, its segment,
//! the stretch that was read) is at hand for the next, so that each costs no lock and no look-up of its own.
//!
//! What is kept of a stretch is copied, many records into one piece of memory: a record must not keep a stretch in memory, and one of
//! its own for each would cost more than to copy it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use message::StoredId;

use crate::batch::FRAME_LEN;
use crate::error::ReadError;
use crate::id;
use crate::segment::{Place, Segment, SegmentId};
use crate::shared::{FrameSpot, Shared, of_batch};

/// The memory that records are copied into: the first, and up to how much it grows. What keeps one of them keeps no more than that.
const CHUNK_LEN_MIN: usize = 4 << 10;
const CHUNK_LEN_MAX: usize = 64 << 10;

/// See the module. It holds a batch or a stretch of a segment in memory: to be dropped when the records at hand are read.
pub struct InOrder<'a> {
    shared: &'a Shared,
    /// The batch that the last record was looked for in: its payload, if that is in memory.
    batch: Option<(u64, Option<Bytes>)>,
    /// The segment in which that batch was first written.
    origin: Option<Arc<Segment>>,
    /// Where a batch lies in its segment.
    place: Option<(SegmentId, u64, Place)>,
    /// What was read of a segment, from an offset on.
    stretch: Option<(SegmentId, u64, Bytes)>,
    chunk: BytesMut,
    chunk_len: usize,
}

/// Where a record was found.
enum In {
    /// In [`InOrder::batch`].
    Batch,
    /// In [`InOrder::stretch`].
    Stretch,
}

/// A record that was found: where, its kind, and where in that its payload is.
type Found = (In, u8, Range<usize>);

impl<'a> InOrder<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            batch: None,
            origin: None,
            place: None,
            stretch: None,
            chunk: BytesMut::new(),
            chunk_len: CHUNK_LEN_MIN,
        }
    }

    /// As [`crate::Journal::cached`].
    #[must_use]
    pub fn cached(&mut self, stored: StoredId) -> Option<(u8, Bytes)> {
        if id::seq(stored) > self.shared.committed.load(Ordering::Acquire) {
            return None;
        }
        let (place, kind, payload) = self.find(stored, false).ok()?;
        let hits = &self.shared.counters.cache_hits;
        hits.fetch_add(1, Ordering::Relaxed);
        Some((kind, self.keep(&place, payload)))
    }

    /// What `look` finds in the kind and the payload of a record, which is read from the disk if it must: nothing of it is copied.
    /// Blocks.
    ///
    /// # Errors
    /// As [`crate::Journal::read`].
    pub fn look<T>(
        &mut self,
        stored: StoredId,
        look: impl FnOnce(u8, &[u8]) -> T,
    ) -> Result<T, ReadError> {
        let seq = id::seq(stored);
        if seq == 0 || seq > self.shared.committed.load(Ordering::Acquire) {
            return Err(ReadError::NotCommitted(stored));
        }
        let found = match self.find(stored, true) {
            // It may have been moved between the look-up and the read.
            Err(ReadError::Gone(_) | ReadError::Io { .. }) => {
                (self.origin, self.place, self.stretch) = (None, None, None);
                self.find(stored, true)
            }
            found => found,
        };
        let (place, kind, payload) = found?;
        Ok(look(kind, &self.lies(&place)[payload]))
    }

    fn lies(&self, place: &In) -> &Bytes {
        let lies = match place {
            In::Batch => self.batch.as_ref().and_then(|(_, batch)| batch.as_ref()),
            In::Stretch => self.stretch.as_ref().map(|(.., bytes)| bytes),
        };
        lies.expect("what was found there stays there until the next is looked for")
    }

    /// A payload by itself: it may keep a batch that the cache has too, and of what was read no more than a chunk.
    fn keep(&mut self, place: &In, payload: Range<usize>) -> Bytes {
        if matches!(place, In::Batch) || payload.len() >= CHUNK_LEN_MAX {
            return self.lies(place).slice(payload);
        }
        if self.chunk.capacity() < payload.len() {
            self.chunk = BytesMut::with_capacity(self.chunk_len.max(payload.len()));
            self.chunk_len = (2 * self.chunk_len).min(CHUNK_LEN_MAX);
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.extend_from_slice(&self.lies(place)[payload]);
        let kept = chunk.split().freeze();
        self.chunk = chunk;
        kept
    }

    fn find(&mut self, stored: StoredId, may_read: bool) -> Result<Found, ReadError> {
        let seq = id::seq(stored);
        if !matches!(&self.batch, Some((known, _)) if *known == seq) {
            self.batch = Some((seq, self.shared.cache.payload(seq)));
        }
        if let Some((_, Some(batch))) = &self.batch
            && let Some((kind, payload)) = of_batch(stored, batch)
        {
            return Ok((In::Batch, kind, payload));
        }
        self.find_in_segment(stored, may_read)
    }

    /// Where a record lies: its own id, or where it was moved.
    fn resolve(&mut self, stored: StoredId) -> Option<(Arc<Segment>, StoredId)> {
        let seq = id::seq(stored);
        let holds = |segment: &&Arc<Segment>| {
            (segment.first_seq()..=segment.last_seq()).contains(&seq)
                && !segment.gone.load(Ordering::Acquire)
        };
        if let Some(origin) = self.origin.as_ref().filter(holds)
            && origin.forwards_nothing()
        {
            return Some((Arc::clone(origin), stored));
        }
        let (segment, at) = self.shared.table.resolve(stored)?;
        if at == stored {
            self.origin = Some(Arc::clone(&segment));
        }
        Some((segment, at))
    }

    /// In its segment: in what was read of that, or, if it `may_read`, on the disk.
    fn find_in_segment(&mut self, stored: StoredId, may_read: bool) -> Result<Found, ReadError> {
        let missing = || ReadError::Gone(stored);
        let (segment, at) = self.resolve(stored).ok_or_else(missing)?;
        if segment.gone.load(Ordering::Acquire) {
            return Err(missing());
        }
        let seq = id::seq(at);
        let place = match self.place {
            Some((of, known, place)) if of == segment.id() && known == seq => place,
            _ if may_read => segment.place(&*self.shared.vfs, seq)?,
            _ => segment.known_place(seq).ok_or_else(missing)?,
        };
        self.place = Some((segment.id(), seq, place));
        let spot = FrameSpot::new(&segment, place, at)?;
        let cover = |this: &mut Self, len| match this.cover(&segment, spot.offset, len, may_read) {
            Ok(Some(skip)) => Ok(skip),
            Ok(None) => Err(missing()),
            Err(error) => Err(error),
        };
        let skip = cover(self, FRAME_LEN)?;
        let len = spot.len(&self.lies(&In::Stretch)[skip..])?;
        let skip = cover(self, len)?;
        let (kind, payload) = spot.record(&self.lies(&In::Stretch)[skip..], stored)?;
        let payload = skip + payload.start..skip + payload.end;
        Ok((In::Stretch, kind, payload))
    }

    /// Sees to it that bytes of a segment are in the stretch at hand, and says from where on. `None`: they are not in memory.
    fn cover(
        &mut self,
        segment: &Segment,
        offset: u64,
        len: usize,
        may_read: bool,
    ) -> Result<Option<usize>, ReadError> {
        if let Some((of, from, bytes)) = &self.stretch
            && *of == segment.id()
            && let Some(skip) = offset.checked_sub(*from)
            && skip + len as u64 <= bytes.len() as u64
        {
            return Ok(Some(skip as usize));
        }
        let Shared {
            windows,
            counters,
            vfs,
            ..
        } = self.shared;
        let piece = match windows.held(segment, offset, len) {
            Some(piece) => piece,
            None if may_read => {
                counters.reads.fetch_add(1, Ordering::Relaxed);
                windows.read(&**vfs, segment, offset, len)?
            }
            None => return Ok(None),
        };
        self.stretch = Some((segment.id(), offset, piece.lend()));
        Ok(Some(0))
    }
}
