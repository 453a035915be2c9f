//! The handle that the node holds, and what its parts share.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use message::StoredId;

use crate::batch::{self, FRAME_LEN, Frame};
use crate::cache::{BatchCache, Windows};
use crate::config::Config;
use crate::error::{Failure, ReadError, SnapshotError};
use crate::id;
use crate::layout::{Paths, Uuid};
use crate::replay::Replay;
use crate::segment::{Segment, SegmentId};
use crate::snapshot;
use crate::spares::{self, Spares};
use crate::stage::{Stage, Staging};
use crate::table::Table;
use crate::threads;
use crate::vfs::{Free, Lock, Vfs};

/// Whether there is room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Enough.
    Ok(Free),
    /// Getting scarce: survivors are moved sooner.
    High(Free),
    /// Publishes are refused; settling and consuming still work.
    Low(Free),
}

/// What the journal has done and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Batches committed since the start.
    pub batches: u64,
    /// Records committed since the start.
    pub records: u64,
    /// Bytes of records committed since the start.
    pub payload_bytes: u64,
    /// Bytes of batches written since the start, headers and padding included.
    pub written_bytes: u64,
    /// Durable writes since the start.
    pub syncs: u64,
    /// Time spent in steps (write and fence read), in microseconds.
    pub sync_micros: u64,
    /// Reads answered from committed batches in memory.
    pub cache_hits: u64,
    /// Reads that went to a segment.
    pub reads: u64,
    /// Bytes of committed batches in memory.
    pub cache_bytes: u64,
    /// Bytes staged and not durable.
    pub staged_bytes: u64,
    /// Segment files that are part of the journal.
    pub segments: u64,
    /// Bytes of those.
    pub segment_bytes: u64,
    /// References to stored records.
    pub live: u64,
    /// References to records that no segment holds: damage.
    pub dangling: u64,
    /// Segments used again since the start.
    pub recycled: u64,
    /// Segments unlinked since the start.
    pub unlinked: u64,
    /// The last snapshot's position, or 0.
    pub snapshot: u64,
    /// Whether the page cache is bypassed.
    pub direct: bool,
}

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
    pub(crate) epoch: u64,
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
    /// Snapshots on disk, oldest first.
    pub(crate) snapshots: Mutex<Vec<Kept>>,
    /// Sequences behind which replays read: nothing above the least of them is reclaimed.
    pub(crate) pins: Mutex<Vec<u64>>,
    /// Segments whose survivors are all moved once this batch is committed.
    pub(crate) evacuations: Mutex<Vec<(SegmentId, u64)>>,
    pub(crate) space: Mutex<Space>,
    pub(crate) lock: Mutex<Option<Lock>>,
    /// The background thread is to end.
    pub(crate) stopping: AtomicBool,
    /// The journal thread is to end once everything staged is written.
    pub(crate) closing: AtomicBool,
    /// References were counted again after the start: only then can anything be known to be dead.
    pub(crate) restored: AtomicBool,
}

impl Shared {
    /// Nothing commits any more; everyone who waits is woken.
    pub(crate) fn fail(&self, failure: Failure) {
        if failure != Failure::Closed {
            tracing::error!(%failure, "the journal failed");
        }
        let _ = self.failure.set(failure);
        let wakers = {
            let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
            staging.all_wakers()
        };
        self.work.notify_all();
        self.spares.changed.notify_all();
        for waker in wakers {
            waker.wake();
        }
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
        let percent = |p: u64| free.total / 100 * p;
        let config = &self.config;
        let low = config
            .space_low_bytes
            .max(percent(config.space_low_percent));
        let space = if free.free < low {
            Space::Low(free)
        } else if free.free < percent(config.space_high_percent) {
            Space::High(free)
        } else {
            Space::Ok(free)
        };
        let mut now = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::discriminant(&*now) != std::mem::discriminant(&space) {
            tracing::warn!(?space, "the free space changed");
        }
        *now = space;
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
        self.read_frame(&segment, at, stored)
    }

    fn read_frame(
        &self,
        segment: &Arc<Segment>,
        at: StoredId,
        stored: StoredId,
    ) -> Result<(u8, Bytes), ReadError> {
        let vfs = &*self.vfs;
        let place = segment.place(vfs, id::seq(at))?;
        let offset = place.payload() + id::offset(at) as u64;
        let damaged = |what: &str| segment.corrupt(offset, format!("record {}: {what}", at.0));
        if offset + FRAME_LEN as u64 > segment.end() {
            return Err(damaged("outside of the segment"));
        }
        let header = self.windows.read(vfs, segment, offset, FRAME_LEN)?;
        let frame = Frame::decode(&header).ok_or_else(|| damaged("no frame"))?;
        if offset + (FRAME_LEN + frame.len) as u64 > segment.end() {
            return Err(damaged("longer than the segment"));
        }
        let payload = match frame.len {
            0 => Bytes::new(),
            len => self
                .windows
                .read(vfs, segment, offset + FRAME_LEN as u64, len)?,
        };
        if !frame.matches(at, &header, &payload) {
            return Err(damaged("the checksum does not match"));
        }
        let record = batch::unpack(at, frame, payload).ok_or_else(|| damaged("too short"))?;
        if record.origin.unwrap_or(at) != stored {
            return Err(damaged("another record lies there"));
        }
        // A small payload must not keep a window in memory.
        let payload = if record.payload.len() < (64 << 10) {
            Bytes::copy_from_slice(&record.payload)
        } else {
            record.payload
        };
        Ok((record.kind, payload))
    }

    pub(crate) fn cached(&self, stored: StoredId) -> Option<(u8, Bytes)> {
        if id::seq(stored) > self.committed.load(Ordering::Acquire) {
            return None;
        }
        let payload = self.cache.payload(id::seq(stored))?;
        let offset = id::offset(stored);
        let frame = Frame::decode(payload.get(offset..)?)?;
        let start = offset + FRAME_LEN;
        payload.get(start..start + frame.len)?;
        let record = batch::unpack(stored, frame, payload.slice(start..start + frame.len))?;
        self.counters.cache_hits.fetch_add(1, Ordering::Relaxed);
        Some((record.kind, record.payload))
    }

    fn pinned_floor(&self) -> u64 {
        let kept = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let floor = kept.first().map_or(0, |oldest| oldest.seq);
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.iter().copied().fold(floor, u64::min)
    }
}

/// The journal: a cheap handle.
#[derive(Clone)]
pub struct Journal {
    pub(crate) handle: Arc<Handle>,
}

/// Stops the threads with the last handle.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Journal {
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self {
            handle: Arc::new(Handle {
                shared,
                threads: Mutex::new(Vec::new()),
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// A guard over the open batch, to be held for a whole command.
    #[must_use]
    pub fn stage(&self) -> Stage<'_> {
        Stage::new(self.shared())
    }

    /// The newest batch that is durable behind a clear fence.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.shared().committed.load(Ordering::Acquire)
    }

    /// The newest batch that holds a record; equal to [`Journal::committed`] when nothing is pending.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.shared().newest.load(Ordering::Acquire)
    }

    /// The epoch that this journal writes.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared().epoch
    }

    /// Reads a committed record, from memory or disk. Blocks.
    ///
    /// # Errors
    /// If it is not committed, not there any more, damaged or unreadable.
    pub fn read(&self, stored: StoredId) -> Result<(u8, Bytes), ReadError> {
        match self.shared().read_record(stored) {
            // It may have been moved between the look-up and the read.
            Err(ReadError::Gone(_) | ReadError::Io { .. }) => self.shared().read_record(stored),
            read => read,
        }
    }

    /// A committed record if it is in memory. No I/O.
    #[must_use]
    pub fn cached(&self, stored: StoredId) -> Option<(u8, Bytes)> {
        self.shared().cached(stored)
    }

    /// One more reference to a record (one for each queue entry).
    pub fn add_ref(&self, stored: StoredId) {
        self.shared().table.count(stored, 1);
    }

    /// One reference less.
    pub fn drop_ref(&self, stored: StoredId) {
        self.shared().table.count(stored, -1);
    }

    /// Every reference that the restored state holds was counted by [`Journal::add_ref`]. Before this is said nothing is
    /// reclaimed or called sparse: all records would look dead.
    pub fn restored(&self) {
        self.shared().restored.store(true, Ordering::Release);
    }

    /// Whether there is room on the disk, as of the last look.
    #[must_use]
    pub fn space(&self) -> Space {
        *self
            .shared()
            .space
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the free space again. The background thread does so every second.
    pub fn check_space(&self) {
        self.shared().check_space();
    }

    /// Whether so much was written since the last snapshot that one should be made.
    #[must_use]
    pub fn snapshot_due(&self) -> bool {
        let shared = self.shared();
        shared.snapshot_bytes.load(Ordering::Relaxed) >= shared.config.snapshot_every_bytes
    }

    /// Writes a snapshot of the state behind batch `at`, durably. The two newest snapshots are kept.
    ///
    /// # Errors
    /// If `at` is not committed, or the file cannot be written. Then the older snapshots still stand.
    pub fn write_snapshot(
        &self,
        at: u64,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), SnapshotError> {
        snapshot::write(self.shared(), at, write)
    }

    /// The newest snapshot and what was committed behind it: what the snapshot maker reads (RULES 22).
    ///
    /// # Errors
    /// If the newest snapshot cannot be read.
    pub fn replay(&self) -> Result<Replay, ReadError> {
        Replay::live(self.shared())
    }

    /// Segments of which so little is referenced that their survivors should be moved.
    #[must_use]
    pub fn sparse_segments(&self) -> Vec<SegmentId> {
        let shared = self.shared();
        if !shared.restored.load(Ordering::Acquire) {
            return Vec::new();
        }
        let percent = match self.space() {
            Space::Ok(_) => shared.config.sparse_percent,
            Space::High(_) | Space::Low(_) => shared.config.sparse_percent * 2,
        };
        let floor = shared.pinned_floor();
        let sparse = |(segment, live): &(Arc<Segment>, i64)| {
            let share = u64::try_from(*live).unwrap_or(0) * 100;
            *live > 0
                && segment.sealed.load(Ordering::Acquire)
                && !segment.gone.load(Ordering::Acquire)
                && segment.last_seq() <= floor
                && share < segment.records() * percent
                && *live <= segment.dense_at.load(Ordering::Relaxed) / 2
        };
        let found = shared.table.live().into_iter().filter(sparse);
        found.map(|(segment, _)| segment.id()).collect()
    }

    fn segment(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.shared()
            .table
            .all()
            .into_iter()
            .find(|segment| segment.id() == id)
    }

    /// Reads the records that lie in a segment, each under the id of its first place, in order; those moved away
    /// are left out. What the receiver finds to be referenced it gives to [`Stage::push_moved`].
    ///
    /// # Errors
    /// If the segment is not there, damaged or unreadable.
    pub fn read_segment(
        &self,
        segment: SegmentId,
        mut receive: impl FnMut(StoredId, u8, Bytes),
    ) -> Result<(), ReadError> {
        let Some(found) = self.segment(segment) else {
            return Ok(());
        };
        let shared = self.shared();
        let mut reader = found.reader(&*shared.vfs)?;
        while reader.position.seq < found.last_seq() {
            let batch = crate::replay::committed_batch(&mut reader)?;
            for record in batch::records(batch.header.seq, &batch.payload) {
                let record =
                    record.ok_or_else(|| found.corrupt(batch.offset, "frames do not add up"))?;
                let logical = record.origin.unwrap_or(record.id);
                let here = shared
                    .table
                    .resolve(logical)
                    .is_some_and(|(_, at)| at == record.id);
                if here {
                    receive(logical, record.kind, record.payload);
                }
            }
        }
        Ok(())
    }

    /// All referenced records of the segment were given to [`Stage::push_moved`]: once those are committed, the file is
    /// no longer needed, whatever still refers to it by id.
    pub fn evacuated(&self, segment: SegmentId) {
        let entry = (segment, self.newest());
        self.shared()
            .evacuations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(entry);
    }

    /// Too much of the segment is referenced to move it: it is offered again when half of that is gone.
    pub fn not_sparse(&self, segment: SegmentId) {
        let mut all = self.shared().table.live().into_iter();
        if let Some((segment, live)) = all.find(|(found, _)| found.id() == segment) {
            segment.dense_at.store(live, Ordering::Relaxed);
        }
    }

    /// Unlinks or recycles segments that nobody needs: no reference, covered by a durable snapshot, not being read.
    pub fn reclaim(&self) {
        let shared = self.shared();
        if !shared.restored.load(Ordering::Acquire) {
            return;
        }
        self.apply_evacuations();
        for segment in shared.table.dead(shared.pinned_floor()) {
            segment.gone.store(true, Ordering::Release);
            // The table and the list of the dead hold it; whoever else does is reading.
            if Arc::strong_count(&segment) > 2 {
                segment.gone.store(false, Ordering::Release);
                continue;
            }
            shared.windows.forget(segment.id());
            segment.close_file();
            segment.drop_index();
            let recycled = spares::recycle(shared, &segment).unwrap_or_else(|error| {
                tracing::warn!(%error, "failed to recycle a segment");
                false
            });
            if !recycled {
                match shared.vfs.unlink(&segment.path) {
                    Ok(()) => {
                        shared.counters.unlinked.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => tracing::warn!(%error, "failed to unlink a segment"),
                }
            }
        }
        shared.table.sweep();
    }

    fn apply_evacuations(&self) {
        let shared = self.shared();
        let committed = self.committed();
        let mut evacuations = shared
            .evacuations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        evacuations.retain(|&(id, seq)| {
            if seq > committed {
                return true;
            }
            if let Some(segment) = self.segment(id) {
                shared.table.evacuated(&segment);
            }
            false
        });
    }

    /// Why nothing commits any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.shared().failure.get().cloned()
    }

    /// Writes what is staged, stops the threads and gives the directory up.
    pub fn shutdown(&self) {
        self.handle.stop();
    }

    /// What the journal has done and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let counters = &shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let segments = shared.table.all();
        let files = segments.iter().filter(|s| !s.gone.load(Ordering::Acquire));
        let snapshots = shared
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let staging = shared
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Stats {
            batches: get(&counters.batches),
            records: get(&counters.records),
            payload_bytes: get(&counters.payload_bytes),
            written_bytes: get(&counters.written_bytes),
            syncs: get(&counters.syncs),
            sync_micros: get(&counters.sync_micros),
            cache_hits: get(&counters.cache_hits),
            reads: get(&counters.reads),
            cache_bytes: shared.cache.bytes() as u64,
            staged_bytes: staging.bytes as u64,
            segments: files.clone().count() as u64,
            segment_bytes: files.map(|s| s.header.len).sum(),
            live: segments
                .iter()
                .map(|s| u64::try_from(s.named.load(Ordering::Acquire)).unwrap_or(0))
                .sum(),
            dangling: get(&shared.table.dangling),
            recycled: get(&counters.recycled),
            unlinked: get(&counters.unlinked),
            snapshot: snapshots.last().map_or(0, |kept| kept.seq),
            direct: shared.direct,
        }
    }
}

impl Handle {
    fn stop(&self) {
        threads::stop(&self.shared, &self.threads);
        self.shared.fail(Failure::Closed);
        let lock = self
            .shared
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(lock);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}
