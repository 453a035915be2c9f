//! The handle that the node holds.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;

use bytes::Bytes;
use message::StoredId;

use crate::batch;
use crate::error::{Failure, ReadError, SnapshotError};
use crate::in_order::InOrder;
use crate::lease::StandbySeen;
use crate::loss::Loss;
use crate::replay::Replay;
use crate::segment::{Segment, SegmentId};
use crate::shared::Shared;
use crate::snapshot;
use crate::spares;
use crate::stage::{Gatherer, Stage};
use crate::table::Counting;
use crate::threads;
use crate::vfs::Free;

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
    /// Reads answered from memory: committed batches, and what was read of segments.
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
    /// Bytes of segment files that wait to be used.
    pub spare_bytes: u64,
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
        Stage::new(self.shared(), None)
    }

    /// The same for one of many who stage, each known by a number of its own: there is [`Stage::room`] for its share only.
    #[must_use]
    pub fn stage_of(&self, owner: u64) -> Stage<'_> {
        Stage::new(self.shared(), Some(owner))
    }

    /// Who is asked to gather what several stage at about the same time; without one, which is how a journal begins, the thread writes at
    /// once what there is. Who was asked before is rid of it: what waits for it is written.
    pub fn gather_by(&self, gatherer: Option<Gatherer>) {
        let shared = self.shared();
        let before = {
            let mut staging = shared
                .staging
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut staging.gatherer, gatherer)
        };
        drop(before);
        shared.write_gathered();
    }

    /// Has written what is staged: to be called by who was asked to gather it. Harmless otherwise.
    pub fn write_gathered(&self) {
        self.shared().write_gathered();
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
        self.shared().epoch()
    }

    /// Until when this node may show anything to anyone, in ms of [`crate::boot_ms`]: a node that was frozen may have a
    /// successor. What rests on a batch is safe to confirm all the same, as its fence was read.
    #[must_use]
    pub fn lease_until(&self) -> u64 {
        self.shared().lease_until.load(Ordering::Acquire)
    }

    /// When the lease was last renewed, in ms of [`crate::boot_ms`].
    #[must_use]
    pub fn alive_at(&self) -> u64 {
        self.shared().alive_at.load(Ordering::Acquire)
    }

    /// The end of this journal, which is to come, is a change of places that an operator asked for: whoever takes over says so.
    pub fn hand_over(&self) {
        self.shared().hands_over.store(true, Ordering::Release);
    }

    /// Tells the node's time and what [`crate::boot_ms`] was then. To be called every second or so: the lease says it, so that a standby goes
    /// by it, and the next start knows until when this node lived.
    pub fn tell_time(&self, now_ms: u64, boot_ms: u64) {
        self.shared().told.tell(now_ms, boot_ms);
    }

    /// Wakes `waker` once when the lease is renewed, or the journal fails; at once if it has failed. Of each `who` the last
    /// one counts: whoever asks again and again while the lease is over is kept once.
    pub fn on_renewal(&self, who: u64, waker: Waker) {
        let shared = self.shared();
        shared
            .lease_wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(who, waker);
        if shared.failure.get().is_some() {
            let wakers = std::mem::take(
                &mut *shared
                    .lease_wakers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            wakers.into_values().for_each(Waker::wake);
        }
    }

    /// Whoever asked for a renewal has gone.
    pub fn forget_renewal(&self, who: u64) {
        let mut wakers = self
            .shared()
            .lease_wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        wakers.remove(&who);
    }

    /// One of those who stage is gone ([`Journal::stage_of`]), and waits for no confirmation.
    pub fn forget_owner(&self, owner: u64) {
        self.shared()
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .forget(owner);
    }

    /// What was given up of this journal, at this start or earlier ones.
    #[must_use]
    pub fn given_up(&self) -> &[Loss] {
        &self.shared().given_up
    }

    /// The batches of that in order, first and last of each run.
    #[must_use]
    pub fn given_up_batches(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<_> = self.given_up().iter().filter_map(Loss::batches).collect();
        all.sort_unstable();
        // What was given up later may lie around what was before.
        all.dedup_by(|next, run| {
            let joins = next.0 <= run.1 + 1;
            if joins {
                run.1 = run.1.max(next.1);
            }
            joins
        });
        all
    }

    /// Whether a segment that is there covers any of those batches, damaged or not.
    #[must_use]
    pub fn covers_any(&self, (first, last): (u64, u64)) -> bool {
        let segments = self.shared().table.all();
        segments.iter().any(|segment| {
            segment.header.base.seq < last
                && segment.last_seq() >= first
                && !segment.gone.load(Ordering::Acquire)
        })
    }

    /// The standbys that are near, as of the last look, when the boot clock that it was given shows `now_ms`.
    #[must_use]
    pub fn standbys(&self, now_ms: u64) -> Vec<StandbySeen> {
        self.shared().standbys_seen(now_ms)
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

    /// Looks at the fence, as who does not find what must be there should: a successor gives back what this node still refers to. If it is
    /// set the journal has failed. Blocks.
    #[must_use]
    pub fn is_succeeded(&self) -> bool {
        self.shared().is_fenced()
    }

    /// A committed record if it is in memory: in a committed batch, or in what was read for another record. No I/O.
    #[must_use]
    pub fn cached(&self, stored: StoredId) -> Option<(u8, Bytes)> {
        self.shared().cached(stored)
    }

    /// The same for many that lie one behind the other.
    #[must_use]
    pub fn in_order(&self) -> InOrder<'_> {
        InOrder::new(self.shared())
    }

    /// One more reference to a record (one for each queue entry). After a start every reference of the restored state is
    /// counted before the first record is staged: until then nothing is reclaimed, as all records look dead.
    pub fn add_ref(&self, stored: StoredId) {
        self.shared().table.count(stored, 1);
    }

    /// The same for every reference of a restored state, that `each` shows.
    pub fn add_refs(&self, each: impl FnOnce(&mut dyn FnMut(StoredId))) {
        self.shared().table.count_all(each);
    }

    /// One reference less.
    pub fn drop_ref(&self, stored: StoredId) {
        self.shared().table.count(stored, -1);
    }

    /// The same one by one, up or down, while records are applied or a [`Stage`] is held. It is all counted once what this returns
    /// is dropped: in front of the stage, or of [`crate::Standby::tidy`].
    #[must_use]
    pub fn counting(&self) -> Counting<'_> {
        self.shared().table.counting()
    }

    /// Whether a segment holds this record, as far as can be told without reading. Of a standby's journal: a record may have
    /// been moved by a batch that it has yet to apply.
    #[must_use]
    pub fn holds(&self, stored: StoredId) -> bool {
        let found = self.shared().table.resolve(stored);
        found.is_some_and(|(segment, _)| !segment.gone.load(Ordering::Acquire))
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

    /// How much room there is on the disk, asked now: what a node that does not write it can know. It may take long.
    ///
    /// # Errors
    /// If the file system does not tell.
    pub fn free(&self) -> std::io::Result<Free> {
        self.shared().vfs.space(&self.shared().paths.root)
    }

    /// Looks at the free space again. The background thread does so every second.
    pub fn check_space(&self) {
        self.shared().check_space();
    }

    /// Whether a snapshot should be made: so much was written since the last one, or the older of the two that are kept is so
    /// far behind that it holds up the space of as much as two should be apart.
    #[must_use]
    pub fn snapshot_due(&self) -> bool {
        let shared = self.shared();
        let written = shared.snapshot_bytes.load(Ordering::Relaxed);
        written >= shared.snapshot_every() || self.older_snapshot_holds_up(2)
    }

    /// Whether segments can be given back once a snapshot, or a second one, covers them.
    #[must_use]
    pub fn snapshot_frees(&self) -> bool {
        let shared = self.shared();
        let newest = {
            let snapshots = shared
                .snapshots
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            snapshots.last().map_or(0, |kept| kept.seq)
        };
        shared.has_staged() && (newest < self.committed() || shared.held_up() > 0)
    }

    /// Whether the writer will soon wait for room: there is no segment behind the one that is written.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        let place = &self.shared().place;
        place.low.load(Ordering::Acquire) && place.ahead.load(Ordering::Acquire) == 0
    }

    /// Whether the older of the two snapshots that are kept is so far behind that it holds up the space of as much as that many
    /// snapshots should be apart.
    #[must_use]
    pub fn older_snapshot_holds_up(&self, snapshots: u64) -> bool {
        let shared = self.shared();
        let most = shared.snapshot_every().saturating_mul(snapshots);
        shared.has_staged() && shared.held_up() >= most
    }

    /// How many snapshots could have been made of what was written since the last one.
    #[must_use]
    pub fn snapshots_due(&self) -> u64 {
        let shared = self.shared();
        let bytes = shared.snapshot_bytes.load(Ordering::Relaxed);
        bytes / shared.snapshot_every()
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

    /// Looks for snapshots that a standby has made, and counts those that fit the history.
    pub fn adopt_snapshots(&self) {
        snapshot::adopt(self.shared());
    }

    /// The newest snapshot and what was committed behind it: what the snapshot maker reads (RULES 22).
    ///
    /// # Errors
    /// If the newest snapshot cannot be read.
    pub fn replay(&self) -> Result<Replay, ReadError> {
        Replay::live(self.shared())
    }

    /// Segments of which so little is referenced that their survivors should be moved, and how many references there are to what lies in
    /// each, at most.
    #[must_use]
    pub fn sparse_segments(&self) -> Vec<(SegmentId, u64)> {
        let shared = self.shared();
        if !shared.has_staged() {
            return Vec::new();
        }
        let sparse_percent = shared.config.sparse_percent;
        let has_room = matches!(self.space(), Space::Ok(_));
        let floor = shared.pinned_floor();
        let sparse = |(segment, live): &(Arc<Segment>, i64)| {
            let references = u64::try_from(*live).unwrap_or(0);
            references > 0
                && segment.sealed.load(Ordering::Acquire)
                && !segment.gone.load(Ordering::Acquire)
                && segment.last_seq() <= floor
                && match has_room {
                    true => segment.is_below(references, sparse_percent),
                    // To look at one in vain costs less than room that is missed.
                    false => references * 100 < segment.records() * sparse_percent * 2,
                }
                && *live <= segment.dense_at.load(Ordering::Relaxed) / 2
        };
        let found = shared.table.live().into_iter().filter(sparse);
        found
            .map(|(segment, live)| (segment.id(), live.unsigned_abs()))
            .collect()
    }

    fn segment(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.shared()
            .table
            .all()
            .into_iter()
            .find(|segment| segment.id() == id)
    }

    /// Whether there is a place for the survivors of a sparse segment, as far as can be told: four times their share of its records, and at
    /// most half of it.
    #[must_use]
    pub fn can_empty(&self, segment: SegmentId) -> bool {
        let Some(found) = self.segment(segment) else {
            return false;
        };
        let named = u64::try_from(found.named.load(Ordering::Acquire)).unwrap_or(0);
        let share = (found.header.len / found.records().max(1)).saturating_mul(4 * named);
        let len = share.min(found.header.len / 2);
        self.stage()
            .has_place(usize::try_from(len).unwrap_or(usize::MAX))
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

    /// Too much of the segment is referenced to move it, `live` bytes in `bytes` if that was seen: it is offered again when half of that is
    /// gone, and so much that its share is small.
    pub fn not_sparse(&self, segment: SegmentId, weighed: Option<(u64, u64)>) {
        let mut all = self.shared().table.live().into_iter();
        if let Some((segment, live)) = all.find(|(found, _)| found.id() == segment) {
            segment.dense_at.store(live, Ordering::Relaxed);
            if let Some((of, bytes)) = weighed {
                segment.weigh(u64::try_from(live).unwrap_or(0), of, bytes);
            }
        }
    }

    /// Unlinks or recycles segments that nobody needs: no reference, covered by a durable snapshot, not being read; and what was left
    /// of closed epochs.
    pub fn reclaim(&self) {
        let shared = self.shared();
        shared.unlink_leftover();
        if !shared.has_staged() {
            return;
        }
        self.apply_evacuations();
        let dead = shared.table.dead(shared.pinned_floor());
        // In this order: whatever let them go was staged before.
        let (newest, committed) = (self.newest(), self.committed());
        for segment in dead {
            let since = match segment.dead_at.load(Ordering::Acquire) {
                0 => newest,
                since => since,
            };
            if since > committed && !mutated!(ReclaimBeforeCommit) {
                // Should power fail, what let it go has not happened.
                segment.dead_at.store(since, Ordering::Release);
                continue;
            }
            segment.gone.store(true, Ordering::Release);
            // The table and the list of the dead hold it; whoever else does is reading.
            if Arc::strong_count(&segment) > 2 || !shared.table.is_dead(&segment) {
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
                    // An active before this one had done so.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => tracing::warn!(%error, "failed to unlink a segment"),
                }
            }
        }
        shared.table.sweep();
        spares::give_back_for_want_of_room(shared);
    }

    /// Unlinks segments that are kept for use again and that nobody needed since the last call. To be called about once a minute.
    pub fn give_back_spares(&self) {
        spares::give_back_unneeded(self.shared());
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
        let spare_bytes = shared.spares.lock().len();
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
            spare_bytes,
            live: shared.table.named(),
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
