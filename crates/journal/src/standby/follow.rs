//! Reading on: batch after batch, segment after segment, epoch after epoch, and applying what is proven durable.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use message::StoredId;

use super::{AGAIN_MAX, AHEAD, LeaseSeen, PEEK, POLL_BYTES_MAX, Polled, Standby, Unapplied};
use crate::aligned::Aligned;
use crate::batch::{self, BLOCK};
use crate::error::{Corruption, OpenError, StandbyError};
use crate::journal::Journal;
use crate::layout::{EpochRecord, Position, Uuid};
use crate::loss;
use crate::reader::{Batch, Stop};
use crate::segment::{Segment, SegmentHeader, SegmentId, salt_of};
use crate::survey;
use crate::vfs::Access;

impl Standby {
    /// Reads batches until there are no more, or enough are unapplied. Returns how many. As much is there as came the last time, as a
    /// rule, and half of that again: one read for all of it.
    pub(super) fn fetch(&mut self) -> Result<usize, OpenError> {
        let expected = (self.came + self.came / 2).next_multiple_of(BLOCK);
        self.reader.refresh(expected.clamp(PEEK, AGAIN_MAX));
        self.came = 0;
        let mut read = 0;
        while self.unapplied_bytes < POLL_BYTES_MAX {
            if let Some(next) = &self.next
                && self.reader.position.seq >= next.cut.seq
            {
                break;
            }
            match self.reader.next_batch() {
                Ok(batch) => {
                    self.reader.read_ahead(AHEAD);
                    read += 1;
                    self.came += batch.outer.padded_len();
                    self.durable = self.durable.max(batch.outer.durable_upto);
                    self.unapplied_bytes += batch.payload.len();
                    self.unapplied.push_back(Unapplied {
                        segment: Arc::clone(&self.segment),
                        batch,
                        after: self.reader.position,
                    });
                }
                // Where something came there may be more in a moment: the next look goes on, or finds the next segment.
                Err(Stop::Invalid { .. }) => {
                    if read > 0 || !self.roll()? {
                        break;
                    }
                }
                Err(Stop::Io(error)) => {
                    return Err(OpenError::io("read", &self.segment.path.clone())(error));
                }
            }
        }
        Ok(read)
    }

    /// The segment of this epoch behind the one that is read, if it is in use.
    pub(super) fn next_segment(&self) -> Result<Option<Arc<Segment>>, OpenError> {
        let id = SegmentId {
            number: self.segment.id().number + 1,
            ..self.segment.id()
        };
        let salt = salt_of(&self.record.writer, id.epoch, id.number);
        self.open_segment(id, salt, self.record.writer)
    }

    /// Goes on in the next segment of this epoch, if it is there and begins where this one was read to.
    fn roll(&mut self) -> Result<bool, OpenError> {
        let Some(segment) = self.next_segment()? else {
            return Ok(false);
        };
        if segment.header.base != self.reader.position {
            return Ok(false);
        }
        // Its header was written once everything in front of it was committed.
        self.durable = self.durable.max(segment.header.base.seq);
        self.segment.sealed.store(true, Ordering::Release);
        self.enter(segment)?;
        Ok(true)
    }

    fn enter(&mut self, segment: Arc<Segment>) -> Result<(), OpenError> {
        segment.set_index(Vec::new());
        let mut reader = segment
            .reader(&*self.journal.shared().vfs)
            .map_err(survey::read_failed)?;
        reader.continues(&self.reader);
        reader.refresh(PEEK);
        self.reader = reader;
        self.journal.shared().table.insert(Arc::clone(&segment));
        self.segment = segment;
        Ok(())
    }

    /// A segment that is in use, or nothing.
    fn open_segment(
        &self,
        id: SegmentId,
        salt: u64,
        writer: Uuid,
    ) -> Result<Option<Arc<Segment>>, OpenError> {
        let shared = self.journal.shared();
        let path = shared.paths.segment(id.epoch, id.number, salt);
        let file = match shared.vfs.open(&path, Access::Read, shared.direct) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io("open", &path)(error)),
        };
        let mut block = Aligned::zeroed(BLOCK);
        let n = file
            .read_at(&mut block, 0)
            .map_err(OpenError::io("read", &path))?;
        let Some(header) = SegmentHeader::decode(&block[..n]) else {
            return Ok(None);
        };
        if !header.is_known(&block) {
            return Err(OpenError::Newer {
                path,
                found: header.level,
                known: crate::layout::FORMAT_LEVEL,
            });
        }
        let ours = header.id == id
            && header.salt == salt
            && header.writer == writer
            && header.store == self.format.store;
        Ok(ours.then(|| Arc::new(Segment::new(header, path, shared.direct, false))))
    }

    pub(super) fn look_for_epoch(&self) -> Result<Option<EpochRecord>, OpenError> {
        let (vfs, paths) = (self.vfs(), self.paths());
        let next = self.record.epoch + 1;
        if survey::read_small(&*vfs, &paths.epoch(next))?.is_none() {
            return Ok(None);
        }
        survey::read_epoch(&*vfs, &paths, next).map(Some)
    }

    /// The next epoch is there: applies up to its cut, then goes on in its first segment. `Some`: not yet, or not at all.
    pub(super) fn follow<E>(
        &mut self,
        next: EpochRecord,
        now_ms: u64,
        receive: &mut impl FnMut(StoredId, u8, Bytes) -> Result<(), E>,
    ) -> Result<Option<Polled>, StandbyError<E>> {
        let cut = next.cut;
        // What lies behind the cut came too late, or was written anew in the next epoch.
        while !mutated!(ApplyPastFence)
            && self
                .unapplied
                .back()
                .is_some_and(|one| one.after.seq > cut.seq)
        {
            let dropped = self.unapplied.pop_back().expect("there is a back");
            self.unapplied_bytes -= dropped.batch.payload.len();
        }
        self.durable = if mutated!(ApplyPastFence) {
            u64::MAX
        } else {
            cut.seq
        };
        self.apply_durable(receive)?;
        if self.applied.seq > cut.seq {
            return Ok(Some(Polled::Behind));
        }
        if self.applied.seq < cut.seq {
            // Proven by the record, and not read yet.
            let more = self.reader.position.seq > self.applied.seq && self.unapplied.is_empty();
            self.next = Some(next);
            if more || self.fetch()? == 0 {
                return Ok(Some(Polled::Behind));
            }
            return Ok(Some(Polled::More));
        }
        if self.applied != cut {
            let path = self.paths().epoch(next.epoch);
            let what = format!(
                "it continues another history than batch {} that was followed",
                cut.seq
            );
            return Err(OpenError::from(Corruption::new(&path, 0, what)).into());
        }
        // What that writer gave up, this standby may have.
        let (vfs, paths) = (self.vfs(), self.paths());
        if loss::read_all(&*vfs, &paths)?.len() != self.journal.given_up().len() {
            return Ok(Some(Polled::Behind));
        }
        let id = SegmentId {
            epoch: next.epoch,
            number: 1,
        };
        let Some(first) = self.open_segment(id, next.first_salt, next.writer)? else {
            return Ok(Some(Polled::Behind));
        };
        if first.header.base != cut {
            return Ok(Some(Polled::Behind));
        }
        self.segment.sealed.store(true, Ordering::Release);
        self.journal.shared().table.cut(cut.seq);
        self.durable = cut.seq.max(next.adopted_upto);
        self.lease = LeaseSeen {
            moved_at: now_ms,
            ..LeaseSeen::default()
        };
        self.record = next;
        self.enter(first)?;
        Ok(None)
    }

    /// Hands out the records of batches that are proven durable.
    pub(super) fn apply_durable<E>(
        &mut self,
        receive: &mut impl FnMut(StoredId, u8, Bytes) -> Result<(), E>,
    ) -> Result<bool, StandbyError<E>> {
        let mut any = false;
        while self
            .unapplied
            .front()
            .is_some_and(|one| one.after.seq <= self.durable || mutated!(ApplyUnproven))
        {
            let first = self.unapplied.pop_front().expect("there is a front");
            self.unapplied_bytes -= first.batch.payload.len();
            self.apply(&first, receive)?;
            any = true;
        }
        Ok(any)
    }

    fn apply<E>(
        &mut self,
        unapplied: &Unapplied,
        receive: &mut impl FnMut(StoredId, u8, Bytes) -> Result<(), E>,
    ) -> Result<(), StandbyError<E>> {
        let batch = &unapplied.batch;
        let padded = batch.outer.padded_len() as u64;
        unapplied.segment.committed(
            batch.place(),
            u64::from(batch.header.records),
            batch.offset + padded,
        );
        self.count(batch, &unapplied.segment, padded);
        self.applied = unapplied.after;
        hand_out(&self.journal, batch, &unapplied.segment, receive)
    }

    /// The batch is part of the history: its records may be read and referred to. It is kept, as one that this node wrote: who takes
    /// over need not read the latest from the disk, and has them if they rot there.
    pub(super) fn count(&self, batch: &Batch, segment: &Arc<Segment>, padded: u64) {
        let shared = self.journal.shared();
        let seq = batch.header.seq;
        shared.table.place(seq, segment);
        let after = Position {
            seq,
            lsn: batch.header.first_lsn + u64::from(batch.header.records),
            chain: batch.header.chain_after(),
        };
        let max = shared.config.cache_bytes_max;
        let payload = batch.payload.clone();
        drop(shared.cache.push(after, payload, batch.memory, max));
        shared.snapshot_bytes.fetch_add(padded, Ordering::Relaxed);
        shared.newest.store(seq, Ordering::Release);
        shared.committed.store(seq, Ordering::Release);
    }
}

/// Hands out the records of a batch. Survivors were handed out when they were first written.
pub(super) fn hand_out<E>(
    journal: &Journal,
    batch: &Batch,
    segment: &Segment,
    receive: &mut impl FnMut(StoredId, u8, Bytes) -> Result<(), E>,
) -> Result<(), StandbyError<E>> {
    for record in batch::records(batch.header.seq, &batch.payload) {
        let Some(record) = record else {
            let corruption = Corruption::new(&segment.path, batch.offset, "frames do not add up");
            return Err(OpenError::from(corruption).into());
        };
        match record.origin {
            Some(origin) => journal.shared().table.forward(origin, record.id),
            None => receive(record.id, record.kind, record.payload).map_err(|source| {
                StandbyError::Apply {
                    id: record.id,
                    source,
                }
            })?,
        }
    }
    Ok(())
}
