//! Memory of what was written and read: committed batches, oldest out first, and stretches of segments read back.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use crate::aligned::Aligned;
use crate::error::ReadError;
use crate::layout::Position;
use crate::segment::{Segment, SegmentId};
use crate::vfs::Vfs;

/// Where reads of a segment begin, and the bytes of one: what is read here and there.
const WINDOW: u64 = 256 << 10;
/// Bytes of a read where reading goes in order.
const IN_ORDER: u64 = 1 << 20;
/// Bytes kept.
const KEPT_MAX: usize = 12 << 20;
/// Stretches read in order whose memory is kept for the next ones: to have fresh pages costs more than to read into them.
const SPARES_MAX: usize = 2;
/// A piece shorter than this is copied out: it must not keep a stretch in memory.
const SHARED_MIN: usize = 64 << 10;

/// Payloads of committed batches. Sequences are dense, so it is a ring.
#[derive(Default)]
pub(crate) struct BatchCache {
    ring: RwLock<Ring>,
}

#[derive(Default)]
struct Ring {
    first: u64,
    batches: VecDeque<Batch>,
    bytes: usize,
}

struct Batch {
    payload: Bytes,
    /// What its buffer takes.
    capacity: usize,
    /// Where the history stands behind it.
    after: Position,
}

impl BatchCache {
    /// Adds the payload of the next batch, behind which the history stands at `after`, and whose buffer takes `capacity` bytes.
    /// Those that have to go for it come back: memory is given back outside the lock.
    #[must_use]
    pub(crate) fn push(
        &self,
        after: Position,
        payload: Bytes,
        capacity: usize,
        bytes_max: usize,
    ) -> Vec<Bytes> {
        let mut out = Vec::new();
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if ring.batches.is_empty() {
            ring.first = after.seq;
        }
        debug_assert_eq!(
            ring.first + ring.batches.len() as u64,
            after.seq,
            "sequences are dense"
        );
        ring.batches.push_back(Batch {
            payload,
            capacity,
            after,
        });
        ring.bytes += capacity;
        while ring.bytes > bytes_max {
            let Some(old) = ring.batches.pop_front() else {
                break;
            };
            ring.first += 1;
            ring.bytes -= old.capacity;
            out.push(old.payload);
        }
        drop(ring);
        out
    }

    pub(crate) fn payload(&self, seq: u64) -> Option<Bytes> {
        self.look(seq, Bytes::clone)
    }

    /// What `take` finds in the payload of a batch, which is not shared for that.
    pub(crate) fn look<T>(&self, seq: u64, take: impl FnOnce(&Bytes) -> T) -> Option<T> {
        self.with(seq, |batch| take(&batch.payload))
    }

    /// A batch, and where the history stands behind it.
    pub(crate) fn batch(&self, seq: u64) -> Option<(Bytes, Position)> {
        self.with(seq, |batch| (batch.payload.clone(), batch.after))
    }

    fn with<T>(&self, seq: u64, take: impl FnOnce(&Batch) -> T) -> Option<T> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let nth = usize::try_from(seq.checked_sub(ring.first)?).ok()?;
        ring.batches.get(nth).map(take)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.ring
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes
    }
}

/// Bytes of a segment as they were read, from a multiple of [`WINDOW`] on.
struct Stretch {
    segment: SegmentId,
    at: u64,
    /// How many of `memory` were read.
    len: usize,
    memory: Arc<Aligned>,
    /// When it was last asked for, by [`Read::now`].
    used: u64,
}

impl Stretch {
    fn holds(&self, segment: SegmentId, at: u64, len: usize) -> bool {
        let end = self.at + self.len as u64;
        self.segment == segment && (self.at..end).contains(&at) && at + len as u64 <= end
    }

    /// The bytes from `at` on, which lies in it.
    fn from(&self, at: u64) -> Piece {
        Piece::Shared(Arc::clone(&self.memory), (at - self.at) as usize..self.len)
    }
}

/// Bytes of a segment.
pub(crate) enum Piece {
    /// Where they were read to.
    Shared(Arc<Aligned>, Range<usize>),
    /// Put together from two stretches.
    Joined(Bytes),
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(memory, range) => &memory[range.clone()],
            Self::Joined(bytes) => bytes,
        }
    }
}

/// The memory of a stretch, for a long piece of it.
struct Owner(Arc<Aligned>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Piece {
    /// A part of it, by itself.
    pub(crate) fn bytes(&self, part: Range<usize>) -> Bytes {
        match self {
            _ if part.len() < SHARED_MIN => Bytes::copy_from_slice(&self[part]),
            Self::Shared(memory, range) => Bytes::from_owner(Owner(Arc::clone(memory)))
                .slice(range.start + part.start..range.start + part.end),
            Self::Joined(bytes) => bytes.slice(part),
        }
    }

    /// All of it, shared: it keeps a stretch in memory.
    pub(crate) fn lend(self) -> Bytes {
        match self {
            Self::Shared(memory, range) => Bytes::from_owner(Owner(memory)).slice(range),
            Self::Joined(bytes) => bytes,
        }
    }
}

#[derive(Default)]
struct Read {
    /// Whoever was asked for last stands last, so that the next of its records is found at once.
    stretches: Vec<Stretch>,
    bytes: usize,
    /// Counts what was asked for.
    now: u64,
    spares: Vec<Aligned>,
}

impl Read {
    /// All that is here of a segment from `at` on, if that is `len` bytes or more.
    fn find(&mut self, segment: SegmentId, at: u64, len: usize) -> Option<Piece> {
        let mut stretches = self.stretches.iter();
        let i = stretches.rposition(|stretch| stretch.holds(segment, at, len))?;
        self.now += 1;
        self.stretches[i].used = self.now;
        let last = self.stretches.len() - 1;
        self.stretches.swap(i, last);
        Some(self.stretches[last].from(at))
    }

    fn remove(&mut self, i: usize) {
        let stretch = self.stretches.remove(i);
        self.bytes -= stretch.len;
        // Whoever was handed a piece of it may still look at it.
        if stretch.memory.len() == IN_ORDER as usize
            && self.spares.len() < SPARES_MAX
            && let Ok(memory) = Arc::try_unwrap(stretch.memory)
        {
            self.spares.push(memory);
        }
    }

    fn keep(&mut self, stretch: Stretch) {
        // The same as far as it was committed then.
        let older = |old: &Stretch| {
            old.segment == stretch.segment && old.at == stretch.at && old.len <= stretch.len
        };
        if let Some(i) = self.stretches.iter().position(older) {
            self.remove(i);
        }
        self.bytes += stretch.len;
        self.stretches.push(stretch);
        while self.bytes > KEPT_MAX {
            let oldest = self.stretches.iter().enumerate();
            let Some((i, _)) = oldest.min_by_key(|(_, stretch)| stretch.used) else {
                break;
            };
            self.remove(i);
        }
    }
}

/// Stretches of segments, so that reading in order costs one read for many records.
#[derive(Default)]
pub(crate) struct Windows {
    read: Mutex<Read>,
}

impl Windows {
    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes `[at, at + len)` of a segment, and perhaps more of those behind them, if they are in memory.
    pub(crate) fn held(&self, segment: &Segment, at: u64, len: usize) -> Option<Piece> {
        self.lock().find(segment.id(), at, len)
    }

    /// The bytes `[at, at + len)` of a segment, and perhaps more of those behind them. They end before the segment's committed
    /// end.
    pub(crate) fn read(
        &self,
        vfs: &dyn Vfs,
        segment: &Segment,
        at: u64,
        len: usize,
    ) -> Result<Piece, ReadError> {
        if let Some(piece) = self.held(segment, at, len) {
            return Ok(piece);
        }
        let first = self.from(vfs, segment, at)?;
        if first.len() >= len {
            return Ok(first);
        }
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&first);
        while out.len() < len {
            let next = self.from(vfs, segment, at + out.len() as u64)?;
            out.extend_from_slice(&next[..next.len().min(len - out.len())]);
        }
        Ok(Piece::Joined(out.into()))
    }

    /// What is at hand from `at` on, one byte or more: read, if there is none.
    fn from(&self, vfs: &dyn Vfs, segment: &Segment, at: u64) -> Result<Piece, ReadError> {
        let start = at / WINDOW * WINDOW;
        let (in_order, spare) = {
            let mut read = self.lock();
            if let Some(piece) = read.find(segment.id(), at, 1) {
                return Ok(piece);
            }
            let in_order = start > 0
                && read
                    .stretches
                    .iter()
                    .any(|stretch| stretch.holds(segment.id(), start - 1, 1));
            (in_order, in_order.then(|| read.spares.pop()).flatten())
        };
        // Only what is committed when the read starts is kept: the rest of a window may change.
        let committed = segment.end();
        let most = if in_order { IN_ORDER } else { WINDOW };
        let len = (committed.saturating_sub(start)).min(most) as usize;
        let mut memory = match spare {
            Some(spare) if spare.len() == len => spare,
            _ => Aligned::zeroed(len),
        };
        let n = segment
            .file(vfs)?
            .read_at(&mut memory, start)
            .map_err(|e| segment.io(e))?;
        if start + n as u64 <= at {
            return Err(segment.corrupt(start + n as u64, "the segment is cut short"));
        }
        let mut read = self.lock();
        read.now += 1;
        let stretch = Stretch {
            segment: segment.id(),
            at: start,
            len: n,
            memory: Arc::new(memory),
            used: read.now,
        };
        let piece = stretch.from(at);
        read.keep(stretch);
        Ok(piece)
    }

    /// Forgets a segment that is gone.
    pub(crate) fn forget(&self, segment: SegmentId) {
        let mut read = self.lock();
        while let Some(i) = read.stretches.iter().position(|one| one.segment == segment) {
            read.remove(i);
        }
    }
}
