//! What the handle, the two threads and readers share.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use message::StoredId;

use crate::aligned::Aligned;
use crate::batch::{self, BLOCK, FRAME_LEN, Frame};
use crate::cache::{BatchCache, Piece, Windows};
use crate::config::Config;
use crate::error::{Failure, ReadError};
use crate::id;
use crate::journal::Space;
use crate::layout::{Paths, Uuid, fence_is_clear};
use crate::lease::Watched;
use crate::loss::Loss;
use crate::scrub::{Health, Places};
use crate::segment::{self, Segment, SegmentId, data_end};
use crate::spares::Spares;
use crate::stage::Staging;
use crate::table::Table;
use crate::vfs::{Access, Free, Lock, Vfs};

/// How much more can be written before the disk is full, in bytes.
#[derive(Default)]
pub(crate) struct Place {
    /// In the segment that is written, behind its last batch.
    pub(crate) rest: AtomicU64,
    /// In the segments that are prepared.
    pub(crate) ahead: AtomicU64,
    /// On the disk above the level at which publishes are refused, as of the last look, less what was prepared since.
    pub(crate) free: AtomicU64,
    /// The disk is below that level.
    pub(crate) low: AtomicBool,
    /// The disk had no room for the reserve, or took of it what emptying needs: until it is whole again, publishes find no room. A quota
    /// ends while the disk says that there is some.
    pub(crate) short: AtomicBool,
}

impl Place {
    /// Whether so many bytes find a place in segments that are there, or for which there is room: with half as much again
    /// for what the ends of batches and segments waste.
    pub(crate) fn holds(&self, bytes: u64) -> bool {
        let [rest, ahead, free] =
            [&self.rest, &self.ahead, &self.free].map(|part| part.load(Ordering::Acquire));
        bytes.saturating_add(bytes / 2) <= rest + ahead + free
    }

    /// A file of so many bytes was made.
    pub(crate) fn took(&self, len: u64) {
        let less = |free: u64| Some(free.saturating_sub(len));
        let _ = self
            .free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// A segment of so many bytes is prepared.
    pub(crate) fn prepared(&self, len: u64) {
        self.ahead
            .fetch_add(data_end(len) - BLOCK as u64, Ordering::AcqRel);
    }

    /// It is not any more.
    pub(crate) fn unprepared(&self, len: u64) {
        self.ahead
            .fetch_sub(data_end(len) - BLOCK as u64, Ordering::AcqRel);
    }

    /// It is the one that is written now.
    pub(crate) fn begun(&self, len: u64) {
        let place = data_end(len) - BLOCK as u64;
        self.rest.store(place, Ordering::Release);
        self.ahead.fetch_sub(place, Ordering::AcqRel);
    }

    /// Of the segment that is written this is left.
    pub(crate) fn left(&self, segment: &Segment) {
        let left = data_end(segment.header.len).saturating_sub(segment.end());
        self.rest.store(left, Ordering::Release);
    }
}

/// What an entry of a queue takes in a snapshot, at most, in bytes.
const SNAPSHOT_ENTRY_LEN: u64 = 48;
/// A snapshot of next to nothing, in bytes.
const SNAPSHOT_LEN_LEAST: u64 = 64 << 10;

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) payload_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_micros: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) recycled: AtomicU64,
    pub(crate) unlinked: AtomicU64,
}

/// A snapshot that may be read while it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) seq: u64,
    pub(crate) writer: Uuid,
}

/// What the handle, the journal thread, the background thread and readers share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) paths: Paths,
    pub(crate) store: Uuid,
    pub(crate) writer: Uuid,
    /// 0 in a standby.
    pub(crate) epoch: AtomicU64,
    pub(crate) direct: bool,
    /// The longest record, framed, that can be stored at all.
    pub(crate) batch_len_hard: usize,
    pub(crate) staging: Mutex<Staging>,
    /// Wakes the journal thread.
    pub(crate) work: Condvar,
    pub(crate) committed: AtomicU64,
    pub(crate) newest: AtomicU64,
    pub(crate) failure: OnceLock<Failure>,
    pub(crate) table: Table,
    pub(crate) cache: BatchCache,
    pub(crate) windows: Windows,
    pub(crate) spares: Spares,
    pub(crate) counters: Counters,
    /// Bytes written since the last snapshot.
    pub(crate) snapshot_bytes: AtomicU64,
    /// Up to which batch the last replay read, and how many of `snapshot_bytes` that covers: more is written while a
    /// snapshot is made.
    pub(crate) replayed: Mutex<(u64, u64)>,
    /// Snapshots on disk, oldest first.
    pub(crate) snapshots: Mutex<Vec<Kept>>,
    /// Sequences behind which replays read: nothing above the least of them is reclaimed.
    pub(crate) pins: Mutex<Vec<u64>>,
    /// Segments whose survivors are all moved once this batch is committed.
    pub(crate) evacuations: Mutex<Vec<(SegmentId, u64)>>,
    /// Of closed epochs, and nobody's: to be unlinked, once whoever waits for this node has it.
    pub(crate) leftover: Mutex<Vec<PathBuf>>,
    pub(crate) space: Mutex<Space>,
    pub(crate) place: Place,
    /// The length of the newest snapshot, as far as it is known.
    pub(crate) snapshot_len: AtomicU64,
    /// The lock on one's own lease: it goes with the process.
    pub(crate) lock: Mutex<Option<Lock>>,
    /// What scrubbing has found.
    pub(crate) health: Mutex<Health>,
    /// Where damage was found. Locked before `health`.
    pub(crate) damaged: Mutex<Places>,
    /// What was given up, at this start or earlier ones.
    pub(crate) given_up: Vec<Loss>,
    /// Until when this node may show anything to anyone, by [`crate::boot_ms`].
    pub(crate) lease_until: AtomicU64,
    /// When it was last renewed.
    pub(crate) alive_at: AtomicU64,
    /// It is ended so that another node goes on, as an operator asked.
    pub(crate) hands_over: AtomicBool,
    /// Who waits for it to be renewed, each once.
    pub(crate) lease_wakers: Mutex<BTreeMap<u64, Waker>>,
    pub(crate) standby_near: AtomicBool,
    pub(crate) standbys: Mutex<Vec<Watched>>,
    /// The background thread is to end.
    pub(crate) stopping: AtomicBool,
    /// The journal thread is to end once everything staged is written.
    pub(crate) closing: AtomicBool,
    /// The last batch that was there when the epoch was opened.
    pub(crate) opened_at: AtomicU64,
    /// What the node's time is.
    pub(crate) told: ToldTime,
}

/// The node's time, which is said in the lease.
#[derive(Default)]
pub(crate) struct ToldTime {
    /// When the epoch was claimed, in ms since the Unix epoch.
    claimed_ms: AtomicU64,
    /// From the boot clock to the node's time, in ms, as it was last told; 0 before.
    from_boot_ms: AtomicU64,
}

impl ToldTime {
    pub(crate) fn claimed(&self, now_ms: u64) {
        self.claimed_ms.store(now_ms, Ordering::Release);
    }

    pub(crate) fn tell(&self, now_ms: u64, boot_ms: u64) {
        let from_boot = now_ms.saturating_sub(boot_ms);
        self.from_boot_ms.store(from_boot, Ordering::Release);
    }

    /// The node's time at a time of the boot clock, in ms; 0 if the node never said.
    pub(crate) fn at(&self, boot_ms: u64) -> u64 {
        match self.from_boot_ms.load(Ordering::Acquire) {
            0 => self.claimed_ms.load(Ordering::Acquire),
            from_boot => from_boot + boot_ms,
        }
    }
}

impl Shared {
    /// The epoch that is written; 0 in a standby.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// See [`crate::Journal::write_gathered`].
    pub(crate) fn write_gathered(&self) {
        let wakes = {
            let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
            staging.gathered()
        };
        if wakes {
            self.work.notify_one();
        }
    }

    /// Nothing commits any more; everyone who waits is woken.
    pub(crate) fn fail(&self, failure: Failure) {
        match &failure {
            Failure::Closed => {}
            // Nothing is wrong with it: whoever has the node says what that means.
            Failure::Fenced(_) => {
                tracing::info!(%failure, "this process does not write the journal any more");
            }
            _ => tracing::error!(%failure, "the journal failed"),
        }
        let _ = self.failure.set(failure);
        let mut wakers = {
            let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
            staging.all_wakers()
        };
        let renewal = std::mem::take(
            &mut *self
                .lease_wakers
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        wakers.extend(renewal.into_values());
        self.work.notify_all();
        self.spares.changed.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Looks at the own fence, apart from any commit. If it is set nothing commits any more.
    pub(crate) fn is_fenced(&self) -> bool {
        if self.epoch() == 0 {
            return false;
        }
        let path = self.paths.fence(self.epoch(), &self.writer);
        let mut block = Aligned::zeroed(BLOCK);
        let read = self
            .vfs
            .open(&path, Access::Read, self.direct)
            .and_then(|fence| fence.read_at(&mut block, 0));
        let is_set = match read {
            Ok(n) => !fence_is_clear(&block[..n]),
            // Fences of old epochs are given back (RULES 17).
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if is_set {
            self.fail(Failure::Fenced(format!(
                "another process took over from epoch {}",
                self.epoch()
            )));
        }
        is_set
    }

    /// Looks at the free space again.
    pub(crate) fn check_space(&self) {
        let free = match self.vfs.space(&self.paths.root) {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%error, "failed to ask for the free space");
                return;
            }
        };
        let low = self.low_len(free);
        // A quota may be used up while there is room on the disk.
        let above = match self.is_stuck() || self.place.short.load(Ordering::Acquire) {
            true => 0,
            false => free.free.saturating_sub(low),
        };
        self.place.low.store(above == 0, Ordering::Release);
        self.place.free.store(above, Ordering::Release);
        let space = if above == 0 {
            Space::Low(free)
        } else if free.free < free.total / 100 * self.config.space_high_percent {
            Space::High(free)
        } else {
            Space::Ok(free)
        };
        let mut now = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::discriminant(&*now) != std::mem::discriminant(&space) {
            match space {
                Space::Ok(_) => tracing::info!(
                    free = free.free,
                    total = free.total,
                    "there is room on the disk"
                ),
                Space::High(_) | Space::Low(_) => tracing::warn!(
                    free = free.free,
                    total = free.total,
                    low,
                    "the disk fills up"
                ),
            }
        }
        *now = space;
    }

    /// Files of closed epochs that [`crate::Journal::reclaim`] is to unlink.
    pub(crate) fn leave_for_later(&self, paths: Vec<PathBuf>) {
        let mut leftover = self.leftover.lock().unwrap_or_else(PoisonError::into_inner);
        leftover.extend(paths);
    }

    pub(crate) fn unlink_leftover(&self) {
        let leftover = {
            let mut leftover = self.leftover.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *leftover)
        };
        for path in leftover {
            match self.vfs.unlink(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "failed to unlink");
                }
                _ => {}
            }
        }
    }

    /// What must be free, or publishes are refused.
    fn low_len(&self, free: Free) -> u64 {
        let config = &self.config;
        let reserve = self.spares.lock().reserve;
        config
            .space_low_bytes
            .max(free.total / 100 * config.space_low_percent)
            .max(self.emptying_len())
            .saturating_add(config.reserve_len.saturating_sub(reserve))
    }

    /// There is no segment to go on in, and none could be made.
    fn is_stuck(&self) -> bool {
        let ready = self.spares.lock();
        ready.stuck && ready.spares.is_empty()
    }

    /// Whether the disk has room for what is missing of the reserve, as far as it says: not whether a quota has.
    pub(crate) fn has_room_for_reserve(&self) -> bool {
        let free = self.vfs.space(&self.paths.root);
        !self.is_stuck() && free.is_ok_and(|free| free.free > self.low_len(free))
    }

    /// Bytes of records after which a snapshot is due: where much is queued a snapshot is long, and the writing of it is not to be most of
    /// what the disk does.
    pub(crate) fn snapshot_every(&self) -> u64 {
        let last = self.snapshot_len.load(Ordering::Relaxed);
        self.config.snapshot_every_bytes.max(last / 2).max(1)
    }

    /// What a snapshot takes on the disk, at most, as far as can be told from the last one and from what is referred to.
    pub(crate) fn snapshot_need(&self) -> u64 {
        let last = self.snapshot_len.load(Ordering::Relaxed);
        let entries = self.table.named().saturating_mul(SNAPSHOT_ENTRY_LEN);
        let need = last.max(entries);
        need + need / 4 + SNAPSHOT_LEN_LEAST
    }

    /// What is kept free so that a full disk can be emptied: a snapshot, and a small segment for what is settled.
    fn emptying_len(&self) -> u64 {
        self.snapshot_need() + self.config.first_segment_len
    }

    /// Reads a committed record where it lies.
    pub(crate) fn read_record(&self, stored: StoredId) -> Result<(u8, Bytes), ReadError> {
        let seq = id::seq(stored);
        if seq == 0 || seq > self.committed.load(Ordering::Acquire) {
            return Err(ReadError::NotCommitted(stored));
        }
        if let Some(found) = self.cached(stored) {
            return Ok(found);
        }
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        let (segment, at) = self.table.resolve(stored).ok_or(ReadError::Gone(stored))?;
        if segment.gone.load(Ordering::Acquire) {
            return Err(ReadError::Gone(stored));
        }
        let vfs = &*self.vfs;
        let place = segment.place(vfs, id::seq(at))?;
        let bytes = |offset, len| self.windows.read(vfs, &segment, offset, len);
        frame(&segment, place, at, stored, bytes)
    }

    /// A committed record, if it is in memory: in a committed batch, or in what was read of a segment.
    pub(crate) fn cached(&self, stored: StoredId) -> Option<(u8, Bytes)> {
        if id::seq(stored) > self.committed.load(Ordering::Acquire) {
            return None;
        }
        let in_cache = self.cache.look(id::seq(stored), |batch| {
            let (kind, payload) = of_batch(stored, batch)?;
            Some((kind, batch.slice(payload)))
        });
        let found = in_cache.unwrap_or_else(|| self.held(stored))?;
        self.counters.cache_hits.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// A record in what was read of a segment. What is damaged is for [`Self::read_record`] to find.
    fn held(&self, stored: StoredId) -> Option<(u8, Bytes)> {
        let (segment, at) = self.table.resolve(stored)?;
        if segment.gone.load(Ordering::Acquire) {
            return None;
        }
        let place = segment.known_place(id::seq(at))?;
        let missing = || ReadError::Gone(stored);
        let bytes = |offset, len| {
            let held = self.windows.held(&segment, offset, len);
            held.ok_or_else(missing)
        };
        frame(&segment, place, at, stored, bytes).ok()
    }

    /// Where the frames of a batch begin in its payload, as far as their lengths lead.
    pub(crate) fn frames_of(&self, seq: u64) -> Result<Vec<usize>, ReadError> {
        let vfs = &*self.vfs;
        let unknown = || ReadError::Gone(id::pack(seq, 0));
        let segment = self.table.of_seq(seq).ok_or_else(unknown)?;
        let start = segment.place(vfs, seq)?.payload();
        let end = match seq < segment.last_seq() {
            true => segment.place(vfs, seq + 1)?.offset(),
            false => segment.end(),
        };
        let mut frames = Vec::new();
        let mut offset = 0;
        while start + offset + FRAME_LEN as u64 <= end {
            let header = self
                .windows
                .read(vfs, &segment, start + offset, FRAME_LEN)?;
            let Some(frame) = Frame::decode(&header) else {
                break;
            };
            frames.push(usize::try_from(offset).expect("a batch is shorter than 2 MiB"));
            offset += batch::framed_len(frame.len) as u64;
        }
        Ok(frames)
    }

    /// Whether a record was staged since the start: then the references of the restored state were counted.
    pub(crate) fn has_staged(&self) -> bool {
        self.newest.load(Ordering::Acquire) > self.opened_at.load(Ordering::Acquire)
    }

    /// Bytes of segments of which little or nothing is referenced, and that only the older snapshot needs.
    pub(crate) fn held_up(&self) -> u64 {
        let (floor, newest) = {
            let kept = self
                .snapshots
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let [oldest, .., newest] = kept.as_slice() else {
                return 0;
            };
            (oldest.seq, newest.seq)
        };
        let sparse = |(segment, live): &(Arc<Segment>, i64)| {
            let live = u64::try_from(*live).unwrap_or(0);
            segment.sealed.load(Ordering::Acquire)
                && !segment.gone.load(Ordering::Acquire)
                && (floor + 1..=newest).contains(&segment.last_seq())
                && segment.is_below(live, self.config.sparse_percent)
        };
        let found = self.table.live().into_iter().filter(sparse);
        found.map(|(segment, _)| segment.header.len).sum()
    }

    /// Behind this batch nothing may be reclaimed: the oldest snapshot, or what a replay has yet to read.
    pub(crate) fn pinned_floor(&self) -> u64 {
        let kept = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut floor = kept.first().map_or(0, |oldest| oldest.seq);
        if mutated!(ReclaimBeforeSnapshot) {
            floor = self.committed.load(Ordering::Acquire);
        }
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.iter().copied().fold(floor, u64::min)
    }
}

/// The record of a frame whose batch is at `place` in a segment; `bytes` gives bytes of that.
fn frame(
    segment: &Segment,
    place: segment::Place,
    at: StoredId,
    stored: StoredId,
    bytes: impl Fn(u64, usize) -> Result<Piece, ReadError>,
) -> Result<(u8, Bytes), ReadError> {
    let spot = FrameSpot::new(segment, place, at)?;
    let mut piece = bytes(spot.offset, FRAME_LEN)?;
    let len = spot.len(&piece)?;
    if piece.len() < len {
        piece = bytes(spot.offset, len)?;
    }
    let (kind, payload) = spot.record(&piece, stored)?;
    Ok((kind, piece.bytes(payload)))
}

/// Where a frame lies.
pub(crate) struct FrameSpot<'a> {
    segment: &'a Segment,
    at: StoredId,
    /// In the segment.
    pub(crate) offset: u64,
}

impl<'a> FrameSpot<'a> {
    pub(crate) fn new(
        segment: &'a Segment,
        place: segment::Place,
        at: StoredId,
    ) -> Result<Self, ReadError> {
        let offset = place.payload() + id::offset(at) as u64;
        let spot = Self {
            segment,
            at,
            offset,
        };
        if offset + FRAME_LEN as u64 > segment.end() {
            return Err(spot.damaged("outside of the segment"));
        }
        Ok(spot)
    }

    fn damaged(&self, what: &str) -> ReadError {
        let what = format!("record {}: {what}", self.at.0);
        self.segment.corrupt(self.offset, what)
    }

    fn header(&self, bytes: &[u8]) -> Result<Frame, ReadError> {
        Frame::decode(bytes).ok_or_else(|| self.damaged("no frame"))
    }

    /// How long it is, by its header.
    pub(crate) fn len(&self, bytes: &[u8]) -> Result<usize, ReadError> {
        let len = FRAME_LEN + self.header(bytes)?.len;
        if self.offset + len as u64 > self.segment.end() {
            return Err(self.damaged("longer than the segment"));
        }
        Ok(len)
    }

    /// The kind of the record in it, and where in the bytes its payload is. They hold all of it.
    pub(crate) fn record(
        &self,
        bytes: &[u8],
        stored: StoredId,
    ) -> Result<(u8, Range<usize>), ReadError> {
        let frame = self.header(bytes)?;
        let end = FRAME_LEN + frame.len;
        let (header, payload) = bytes[..end].split_at(FRAME_LEN);
        if !frame.matches(self.at, header, payload) {
            return Err(self.damaged("the checksum does not match"));
        }
        let (origin, skip) = frame
            .origin(payload)
            .ok_or_else(|| self.damaged("too short"))?;
        if origin.unwrap_or(self.at) != stored {
            return Err(self.damaged("another record lies there"));
        }
        Ok((frame.kind, FRAME_LEN + skip..end))
    }
}

/// A record of a committed batch, which is in memory: its kind, and where in that its payload is.
pub(crate) fn of_batch(stored: StoredId, batch: &[u8]) -> Option<(u8, Range<usize>)> {
    let offset = id::offset(stored);
    let frame = Frame::decode(batch.get(offset..)?)?;
    let start = offset + FRAME_LEN;
    let end = start + frame.len;
    let (_, skip) = frame.origin(batch.get(start..end)?)?;
    Some((frame.kind, start + skip..end))
}
