//! The committing side: one step = write + fence read (RULES 26), looped by the journal thread or stepped by a test.
//!
//! ```text
//! take the open batch -> gather into one aligned buffer, hash -> write, durable on return -> read my own fence
//!   -> clear: committed, cache, forwards, wake        -> set or unreadable: fenced, nothing of it was ever confirmed
//! ```
//! *Safe before confirm*: `committed` moves behind the fence read only. A failed write is final: it is
//! never tried again, and nothing commits after it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::aligned::Aligned;
use crate::batch::{self, BLOCK, HEADER_LEN, Header};
use crate::error::Failure;
use crate::layout::{FORMAT_LEVEL, LeaseSlot, Mark, Position, fence_is_clear};
use crate::lease::{self, LeaseCounts};
use crate::segment::{Place, Segment, SegmentHeader, SegmentId, data_end};
use crate::shared::Shared;
use crate::spares;
use crate::stage::OpenBatch;
use crate::vfs::VfsFile;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing was staged.
    Idle,
    /// This batch is committed.
    Committed(u64),
    /// The journal has failed, now or before.
    Failed,
}

/// Writes batches. There is one for each epoch that was opened.
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) fence: Arc<dyn VfsFile>,
    pub(crate) lease: Arc<dyn VfsFile>,
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn VfsFile>,
    /// Behind the last batch that was committed.
    pub(crate) position: Position,
    pub(crate) lease_slot: LeaseSlot,
    pub(crate) lease_counts: LeaseCounts,
    /// For information only.
    pub(crate) wall_ms: u64,
    /// Memory of the last batch that was written.
    pub(crate) spare: Option<OpenBatch>,
    pub(crate) buffers: Buffers,
}

/// Memory that batches were written from, for the next ones: to have fresh pages costs as much as to fill them.
#[derive(Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<u8>>,
    /// For the fence.
    block: Option<Aligned>,
}

/// Buffers that are kept.
const BUFFERS_MAX: usize = 2;
/// A payload shorter than this is in memory that is had for little.
const RECLAIMED_MIN: usize = 64 * 1024;

impl Buffers {
    /// One that has room for `len` bytes and wastes no more than that; else an empty one.
    fn take(&mut self, len: usize) -> Vec<u8> {
        let fits = |free: &Vec<u8>| free.capacity() >= len && free.capacity() <= 2 * len;
        match self.free.iter().position(fits) {
            Some(at) => self.free.swap_remove(at),
            None => Vec::new(),
        }
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if self.free.len() == BUFFERS_MAX {
            self.free.remove(0);
        }
        self.free.push(buffer);
    }

    /// What the cache keeps of a batch buffer, and what that takes: the buffer itself, or a copy where most of it is padding.
    fn cached(&mut self, buffer: Aligned, len: usize) -> (bytes::Bytes, usize) {
        let payload = HEADER_LEN..HEADER_LEN + len;
        let capacity = buffer.memory();
        if len * 2 < capacity {
            let copy = bytes::Bytes::copy_from_slice(&buffer[payload]);
            self.keep(buffer.into_memory());
            return (copy, len);
        }
        (buffer.freeze().slice(payload), capacity)
    }

    /// Keeps the memory of a payload that has left the cache, if nobody else has a part of it.
    fn reclaim(&mut self, payload: bytes::Bytes) {
        if payload.len() >= RECLAIMED_MIN
            && let Ok(mut payload) = payload.try_into_mut()
        {
            payload.clear();
            self.keep(payload.into());
        }
    }
}

impl Engine {
    /// Commits the next batch, if there is one.
    pub fn step(&mut self) -> Step {
        if self.shared.failure.get().is_some() {
            return Step::Failed;
        }
        let batch = {
            let mut staging = self
                .shared
                .staging
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            staging.take(&mut self.spare)
        };
        batch.map_or(Step::Idle, |batch| self.commit(batch))
    }

    /// The history that is committed.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.position.mark()
    }

    pub(crate) fn commit(&mut self, batch: OpenBatch) -> Step {
        match self.write(&batch) {
            Ok(()) => {
                let seq = batch.seq;
                self.spare = Some(batch.reused());
                Step::Committed(seq)
            }
            Err(failure) => {
                self.shared.fail(failure);
                Step::Failed
            }
        }
    }

    fn write(&mut self, open: &OpenBatch) -> Result<(), Failure> {
        assert_eq!(
            open.seq,
            self.position.seq + 1,
            "batches are written in order"
        );
        let len = batch::padded_len(open.len);
        if self.segment.end() + len as u64 > data_end(self.segment.header.len) {
            self.roll()?;
        }
        let buffer = self.buffers.take(Aligned::capacity(len));
        let mut buffer = Aligned::filled(buffer, len, |out| {
            out.resize(out.len() + HEADER_LEN, 0);
            open.encode(out);
        });
        let header = Header {
            flags: 0,
            epoch: self.shared.epoch(),
            seq: open.seq,
            first_lsn: self.position.lsn,
            payload_len: u32::try_from(open.len).expect("a batch is shorter than 2 MiB"),
            records: u32::try_from(open.records()).expect("a batch holds few records"),
            // RULES 21: only what was committed behind a clear fence read.
            durable_upto: if mutated!(StampBeforeWrite) {
                open.seq
            } else {
                self.position.seq
            },
            chain_before: self.position.chain,
            digest: batch::digest(&buffer[HEADER_LEN..HEADER_LEN + open.len]),
            wall_ms: self.wall_ms,
        };
        buffer[..HEADER_LEN].copy_from_slice(&header.encode(self.segment.header.salt));
        let offset = self.segment.end();
        if mutated!(CheckBeforeWrite) {
            self.check_fence()?;
        }
        self.write_durable(&self.file, &self.segment.path, &buffer, offset)?;
        if mutated!(StampBeforeFence) {
            self.lease_slot.counter += 1;
            self.lease_slot.durable_upto = open.seq;
            self.put_lease_slot()?;
        }
        if mutated!(ConfirmBeforeFence) {
            self.publish(open, &header, offset, buffer);
            return self.check_fence();
        }
        if !mutated!(CheckBeforeWrite) {
            self.check_fence()?;
        }
        self.publish(open, &header, offset, buffer);
        Ok(())
    }

    fn write_durable(
        &self,
        file: &Arc<dyn VfsFile>,
        path: &std::path::Path,
        bytes: &[u8],
        offset: u64,
    ) -> Result<(), Failure> {
        self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        let mut written = file.write_durable(bytes, offset);
        if mutated!(RetrySync) {
            written = written.or_else(|_| file.sync());
        }
        if mutated!(IgnoreFailedWrite) {
            written = Ok(());
        }
        written.map_err(|error| Failure::Write {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    /// The flag principle: the batch is durable, so either this read sees the fence or the challenger's read of the tail
    /// sees the batch. Any error counts as set (RULES 17).
    fn check_fence(&mut self) -> Result<(), Failure> {
        let block = &mut self.buffers.block;
        let block = block.get_or_insert_with(|| Aligned::zeroed(BLOCK));
        match self.fence.read_at(block, 0) {
            Ok(n) if fence_is_clear(&block[..n]) || mutated!(SkipFenceCheck) => Ok(()),
            Ok(_) => Err(Failure::Fenced(format!(
                "another process took over from epoch {}",
                self.shared.epoch()
            ))),
            Err(error) => Err(Failure::FenceUnread(format!(
                "the fence cannot be read: {error}"
            ))),
        }
    }

    /// The batch is committed: everyone may know.
    fn publish(&mut self, open: &OpenBatch, header: &Header, offset: u64, buffer: Aligned) {
        let shared = &*self.shared;
        let len = buffer.len();
        self.position = Position {
            seq: header.seq,
            lsn: header.first_lsn + u64::from(header.records),
            chain: header.chain_after(),
        };
        self.segment.committed(
            Place::new(offset, false),
            u64::from(header.records),
            offset + len as u64,
        );
        shared.place.left(&self.segment);
        shared.table.place(header.seq, &self.segment);
        for &(old, new) in &open.moves {
            shared.table.forward(old, new);
        }
        let (payload, capacity) = self.buffers.cached(buffer, open.len);
        let max = shared.config.cache_bytes_max;
        let out = shared.cache.push(self.position, payload, capacity, max);
        for payload in out {
            self.buffers.reclaim(payload);
        }
        let counters = &shared.counters;
        counters.batches.fetch_add(1, Ordering::Relaxed);
        counters
            .records
            .fetch_add(u64::from(header.records), Ordering::Relaxed);
        counters
            .payload_bytes
            .fetch_add(open.len as u64, Ordering::Relaxed);
        counters
            .written_bytes
            .fetch_add(len as u64, Ordering::Relaxed);
        shared
            .snapshot_bytes
            .fetch_add(len as u64, Ordering::Relaxed);
        shared.committed.store(header.seq, Ordering::Release);
        let wakers = {
            let mut staging = shared
                .staging
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            staging.committed(open)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Goes on in the next segment. Every batch of this one is committed, which the next header proves.
    fn roll(&mut self) -> Result<(), Failure> {
        // The next segment has a durable name before the trailer says that there is one.
        let shared = Arc::clone(&self.shared);
        let mut renewed = lease::boot_ms();
        let spare = spares::take(&shared, &mut || {
            let now = lease::boot_ms();
            if now.saturating_sub(renewed) >= self.renewal_ms() {
                renewed = now;
                self.renew_lease(lease::boot_ms);
            }
        })?;
        let old = &self.segment;
        let trailer = old.trailer().encode(old.header.salt);
        self.write_durable(&self.file, &old.path, &trailer, data_end(old.header.len))?;
        let header = SegmentHeader {
            level: FORMAT_LEVEL,
            store: self.shared.store,
            writer: self.shared.writer,
            id: SegmentId {
                epoch: self.shared.epoch(),
                number: spare.number,
            },
            salt: spare.salt,
            base: self.position,
            len: spare.len,
        };
        self.write_durable(&spare.file, &spare.path, &header.encode(), 0)?;
        old.sealed.store(true, Ordering::Release);
        let segment = Arc::new(Segment::new(header, spare.path, self.shared.direct, true));
        segment.set_index(Vec::new());
        self.shared.table.insert(Arc::clone(&segment));
        self.segment = segment;
        self.file = spare.file;
        Ok(())
    }

    /// Says in the lease that this node lives and can write, and what is committed; then reads the fence. Until the lease is
    /// over, the node may show things: counted by the boot clock `now_ms` from before the write, as whoever watches the lease may see
    /// it as soon as that has begun.
    ///
    /// Renewals that were sent twice may take the place of later ones in both slots, and then those say how long the lease lasts: so it
    /// counts no longer than any renewal says that may yet arrive again.
    pub fn renew_lease(&mut self, now_ms: impl Fn() -> u64) {
        let mut from = now_ms();
        let lasts_ms = self.shared.lease_lasts_ms();
        let counts_ms = self.lease_counts.with(lasts_ms, from);
        // One that is shorter than the last one counts from before anyone can read it.
        self.shared
            .lease_until
            .fetch_min(from + counts_ms, Ordering::AcqRel);
        self.lease_slot.time_ms = self.shared.told.at(from);
        if !self.write_lease(lasts_ms, false) {
            return;
        }
        if mutated!(LeaseFromEndOfWrite) {
            from = now_ms();
        }
        if counts_ms == lasts_ms {
            self.lease_counts = LeaseCounts::from_now(counts_ms, now_ms());
        }
        self.shared.alive_at.store(from, Ordering::Release);
        self.shared.renewed(from + counts_ms);
    }

    /// Says in the lease that this node confirms and shows nothing more: whoever waits need wait no longer.
    pub fn end_lease(&mut self) {
        self.shared.renewed(0);
        self.write_lease(self.shared.lease_lasts_ms(), true);
    }

    /// Writes the next slot, and reads the fence. False if the journal has failed.
    fn write_lease(&mut self, lasts_ms: u64, ended: bool) -> bool {
        if self.shared.failure.get().is_some() {
            return false;
        }
        self.lease_slot = LeaseSlot {
            counter: self.lease_slot.counter + 1,
            durable_upto: self.shared.committed.load(Ordering::Acquire),
            lasts_ms,
            ended,
            handed_over: ended && self.shared.hands_over.load(Ordering::Acquire),
            pid: std::process::id(),
            time_ms: self.lease_slot.time_ms,
            note: self.shared.config.note.clone(),
        };
        let renewed = if ended {
            // A successor may have set the fence, as it should.
            self.put_lease_slot()
        } else if mutated!(BlindRenewal) {
            self.check_fence().and_then(|()| self.put_lease_slot())
        } else {
            self.put_lease_slot().and_then(|()| self.check_fence())
        };
        renewed.map_err(|failure| self.shared.fail(failure)).is_ok()
    }

    fn put_lease_slot(&self) -> Result<(), Failure> {
        let mut slot = Aligned::zeroed(BLOCK);
        slot.copy_from_slice(&self.lease_slot.encode());
        let offset = (self.lease_slot.counter % 2) * BLOCK as u64;
        let written = self.lease.write_durable(&slot, offset);
        written.map_err(|error| Failure::Write {
            path: self
                .shared
                .paths
                .lease(self.shared.epoch(), &self.shared.writer),
            why: error.to_string(),
        })
    }

    /// How long from one renewal of the lease to the next, in ms.
    #[must_use]
    pub fn renewal_ms(&self) -> u64 {
        self.shared.lease_lasts_ms().min(self.lease_counts.ms) / 4
    }

    /// Looks for standbys: with one near, the lease is shorter.
    pub fn look_at_standbys(&self, now_ms: u64) {
        self.shared.look_at_standbys(now_ms);
    }

    /// Prepares one segment ahead if one is missing. True if it did.
    pub fn prepare(&mut self) -> bool {
        let made = spares::prepare_one(&self.shared);
        self.shared.spares.lock().stuck |= made.is_err();
        made.is_ok_and(|made| made)
    }

    /// Makes the reserve, or makes it whole again, if there is room.
    pub fn hold_reserve(&mut self) {
        spares::make_reserve(&self.shared);
    }
}
