//! Taking the place of the process that writes: fence, tail, what is not proven anew, and the next epoch by link.
//!
//! The steps and their order are those of a start (`recovery.rs`), from what the standby knows already. A standby that fails
//! here is of no more use: its caller opens the journal anew.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use message::StoredId;

use super::follow::hand_out;
use super::{AHEAD, Standby};
use crate::claim::Claim;
use crate::engine::{Buffers, Engine};
use crate::error::{OpenError, StandbyError};
use crate::journal::Journal;
use crate::layout::{LeaseSlot, parse_segment_name};
use crate::lease::{self, LeaseCounts};
use crate::reader::{Batch, Stop};
use crate::recovery;
use crate::segment::salt_of;
use crate::snapshot;
use crate::stage::Staging;
use crate::survey::{self, Survey, Tail};
use crate::threads;
use crate::vfs::Access;

/// How long the parts of a takeover took, in microseconds, and what was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The epoch that was opened.
    pub epoch: u64,
    /// Setting the fence.
    pub fence_us: u64,
    /// Reading and applying the tail.
    pub tail_us: u64,
    /// Writing the unproven batches anew and publishing the epoch.
    pub publish_us: u64,
    /// Batches that were not proven durable, and were written anew.
    pub adopted: u64,
}

impl Standby {
    /// Takes the place of the process that writes, alive or not, and starts the journal's threads.
    ///
    /// # Errors
    /// If another one was faster, or the journal is damaged or cannot be written. This standby is of no more use then: open
    /// the journal anew.
    pub fn take_over<E>(
        self,
        now_ms: u64,
        receive: impl FnMut(StoredId, u8, Bytes) -> Result<(), E>,
    ) -> Result<(Journal, Taken), StandbyError<E>> {
        let before = lease::boot_ms();
        let journal = self.journal.clone();
        let dir = self.paths().root;
        let (engine, taken) = self.take_over_stepped(now_ms, receive)?;
        engine.shared.renewed(before + lease::ALONE_MS);
        let threads = threads::start(engine).map_err(OpenError::io("start a thread for", &dir))?;
        *journal
            .handle
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = threads;
        Ok((journal, taken))
    }

    /// As [`Standby::take_over`], without threads: the caller steps the engine.
    ///
    /// # Errors
    /// As [`Standby::take_over`].
    pub fn take_over_stepped<E>(
        mut self,
        now_ms: u64,
        mut receive: impl FnMut(StoredId, u8, Bytes) -> Result<(), E>,
    ) -> Result<(Engine, Taken), StandbyError<E>> {
        let (vfs, paths) = (self.vfs(), self.paths());
        let mut watch = threads::Watch::start();
        if !mutated!(TailBeforeFence) {
            recovery::fence(&*vfs, &paths, self.record.epoch, &self.record.writer)?;
        }
        let fence_us = watch.lap();
        // Only now: what is confirmed from here on saw the fence, and is not.
        self.refuse_if_lost()?;
        let tail = self.read_tail(&mut receive)?;
        if mutated!(TailBeforeFence) {
            recovery::fence(&*vfs, &paths, self.record.epoch, &self.record.writer)?;
        }
        self.tidy()?;
        let tail_us = watch.lap();
        let survey = self.as_survey(tail)?;
        let shared = Arc::clone(self.journal.shared());
        let epoch = self.record.epoch + 1;
        let claim = Claim {
            vfs: &*vfs,
            paths: &paths,
            config: &shared.config,
            survey: &survey,
            epoch,
            uuid: shared.writer,
            direct: shared.direct,
            may_live: true,
        };
        let (segment, file) = claim.first_segment()?;
        let remote = vfs.is_remote(&paths.root);
        let fence = claim.signal_file(
            &paths.fence(epoch, &shared.writer),
            1,
            shared.direct && remote && !mutated!(FenceThroughCache),
        )?;
        let lease = claim.signal_file(&paths.lease(epoch, &shared.writer), 2, shared.direct)?;
        let lock = claim.lock_lease()?;
        // What was prepared has names that last, and so have the files that the former writer used: it made sure first.
        if !self.is_prepared() {
            claim.sync_dirs()?;
        }
        let snapshots = shared
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let covered = snapshots.last().map_or(0, |kept| kept.seq);
        claim.publish(now_ms, covered)?;
        let publish_us = watch.lap();
        // The epoch is ours.
        self.registrar.remove();
        shared.table.cut(survey.tail.proven.seq);
        shared.table.insert(Arc::clone(&segment));
        for batch in &survey.tail.unproven {
            self.count(batch, &segment, batch.outer.padded_len() as u64);
            hand_out(&self.journal, batch, &segment, &mut receive)?;
        }
        shared.leave_for_later(claim.sweep(covered));
        let end = survey.tail.end;
        shared.epoch.store(epoch, Ordering::Release);
        shared.opened_at.store(end.seq, Ordering::Release);
        shared.told.claimed(now_ms);
        *shared
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Staging::new(end.seq + 1);
        *shared.lock.lock().unwrap_or_else(PoisonError::into_inner) = lock;
        shared.place.left(&segment);
        let taken = Taken {
            epoch,
            fence_us,
            tail_us,
            publish_us,
            adopted: survey.tail.unproven.len() as u64,
        };
        let engine = Engine {
            shared,
            fence,
            lease,
            segment,
            file,
            position: end,
            lease_slot: LeaseSlot::default(),
            lease_counts: LeaseCounts::default(),
            wall_ms: now_ms,
            spare: None,
            buffers: Buffers::default(),
        };
        Ok((engine, taken))
    }

    /// Somebody else may have published the next epoch: its tail is not fenced, and ours has a cut that we do not know.
    fn refuse_if_lost(&self) -> Result<(), OpenError> {
        let (vfs, paths) = (self.vfs(), self.paths());
        let last = survey::read_epochs(&*vfs, &paths)?.last().copied();
        match last {
            Some(last) if last == self.record.epoch => Ok(()),
            last => Err(recovery::lost(&paths, last.unwrap_or(0))),
        }
    }

    /// Reads the fenced epoch to its end: applies what is proven durable, the rest is to be adopted.
    fn read_tail<E>(
        &mut self,
        receive: &mut impl FnMut(StoredId, u8, Bytes) -> Result<(), E>,
    ) -> Result<Tail, StandbyError<E>> {
        let (vfs, paths) = (self.vfs(), self.paths());
        let direct = self.journal.shared().direct;
        let slot = lease::read_slot(
            &*vfs,
            &paths,
            self.record.epoch,
            &self.record.writer,
            direct,
        )?
        .unwrap_or_default();
        let holder = (self.record.epoch, &self.record.writer);
        lease::outlast(&*vfs, &paths, holder, &self.lease.slot, &slot)?;
        let snapshots =
            snapshot::list(&*vfs, &paths).map_err(OpenError::io("list", &paths.snapshots()))?;
        let snapshot = snapshots.last().map_or(0, |kept| kept.seq);
        self.durable = self
            .durable
            .max(slot.durable_upto)
            .max(self.record.adopted_upto)
            .max(snapshot);
        // A write of the former active may still land: it is not confirmed, and adopted all the same where it was seen.
        let what = loop {
            while self.fetch()? > 0 {
                self.apply_durable(receive)?;
            }
            self.reader.refresh(AHEAD);
            let before = (self.reader.offset, self.reader.position);
            match self.reader.next_batch() {
                Err(Stop::Invalid { what, .. }) => break what,
                Err(Stop::Io(error)) => {
                    return Err(OpenError::io("read", &self.segment.path)(error).into());
                }
                Ok(_) => (self.reader.offset, self.reader.position) = before,
            }
        };
        if let Some(next) = self.next_segment()? {
            // Its header was written once everything in front of it was committed.
            self.durable = self.durable.max(next.header.base.seq);
        }
        let segment = Arc::clone(&self.segment);
        let known = (self.durable, survey::LATER_WITHIN);
        survey::torn_not_damaged(&*vfs, &segment, &mut self.reader, known, &what, |next| {
            let salt = salt_of(&self.record.writer, next.epoch, next.number);
            let path = paths.segment(next.epoch, next.number, salt);
            vfs.open(&path, Access::Read, direct).is_ok()
        })?;
        #[cfg(feature = "mutations")]
        if mutated!(AdoptByReference) || mutated!(AdoptAfterSync) && survey::synced(&*vfs, &segment)
        {
            self.durable = self.durable.max(self.reader.position.seq);
        }
        self.apply_durable(receive)?;
        if mutated!(DropTail) {
            self.unapplied.clear();
            self.reader.position = self.applied;
        }
        let end = self.reader.position;
        let unproven: Vec<Batch> = self.unapplied.drain(..).map(|batch| batch.batch).collect();
        self.unapplied_bytes = 0;
        let mut tail = Tail {
            proven: self.applied,
            segment: segment.id().number,
            offset: segment.end(),
            unproven,
            end,
        };
        if self.applied.seq == segment.header.base.seq {
            // Nothing of the last segment counts; the one in front of it ends where this one starts.
            let all = self.journal.shared().table.all();
            let previous = all.iter().find(|other| {
                other.id().epoch == segment.id().epoch
                    && other.id().number + 1 == segment.id().number
            });
            tail.offset = previous.map_or(0, |previous| previous.end());
            tail.segment = segment.id().number - 1;
        }
        segment.sealed.store(true, Ordering::Release);
        Ok(tail)
    }

    /// What a start would have found.
    fn as_survey(&self, tail: Tail) -> Result<Survey, OpenError> {
        let shared = self.journal.shared();
        let table = shared.table.all();
        let dir = shared.paths.segments();
        let names = shared.vfs.list(&dir).map_err(OpenError::io("list", &dir))?;
        let epoch = self.record.epoch + 1;
        let own = Claim::files(&shared.paths, &shared.config, epoch, &shared.writer);
        let known = |path: &PathBuf| {
            table.iter().any(|segment| segment.path == *path)
                || own.iter().any(|(own, _)| own == path)
        };
        let garbage = names
            .iter()
            .filter(|name| parse_segment_name(name).is_some())
            .map(|name| dir.join(name))
            .filter(|path| !known(path))
            .collect();
        Ok(Survey {
            format: self.format,
            last: Some(self.record.clone()),
            // A claim needs none: they are in the table.
            segments: Vec::new(),
            tail,
            snapshots: shared
                .snapshots
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            garbage,
            given_up: Vec::new(),
            damage: Vec::new(),
        })
    }
}
