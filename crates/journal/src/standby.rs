//! The standby: follows the journal that another process writes, and takes its place.
//!
//! ```text
//! read what is new -> held, until a later header, the lease or a roll proves it durable -> applied
//!   the next epoch is there -> what lies behind its cut is dropped, go on in its first segment
//! take over: set the fence -> read the tail -> apply what is proven, adopt the rest -> publish the next epoch by link
//! ```
//! Only what is proven durable is applied: the rest may be gone after a power cut, and another successor would not have it.
//! A standby pins nothing. Where the active has given a segment back that it had yet to read, it starts anew from a snapshot
//! ([`Polled::Behind`]). What it reads it reads past the page cache, or in the same kernel as the writer.

mod follow;
mod takeover;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use message::StoredId;

use crate::batch::BLOCK;
use crate::claim::Claim;
use crate::config::{Config, Direct};
use crate::error::{Corruption, OpenError, SnapshotError, StandbyError};
use crate::journal::Journal;
use crate::layout::{EpochRecord, Format, LeaseSlot, Mark, Paths, Position, Uuid};
use crate::lease::{self, Registrar};
use crate::reader::{Batch, BatchReader};
use crate::recovery;
use crate::replay::Replay;
use crate::room;
use crate::segment::Segment;
use crate::snapshot::{self, SnapshotSource};
use crate::spares;
use crate::survey;
use crate::vfs::{Access, Vfs};

pub use takeover::Taken;

/// How much is read at once where nothing may be there yet, and where something was.
const PEEK: usize = BLOCK;
const AHEAD: usize = 256 << 10;
/// How much is read at once, at the most, where that much came the last time.
const AGAIN_MAX: usize = 1 << 20;
/// Bytes of records held or handed out in one call of [`Standby::poll`].
const POLL_BYTES_MAX: usize = 4 << 20;
/// How often [`Standby::open`] looks again at files that go while it reads.
const OPEN_TRIES: usize = 8;
/// For how long there may be evidence of batches that cannot be read before the standby starts anew, or calls it damage, in ms.
const LOST_MS: u64 = 1_000;

/// What a call of [`Standby::poll`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Nothing new is there.
    Idle,
    /// Something was read or applied: there may be more.
    More,
    /// What was to be read next is gone, or damaged: open anew.
    Behind,
}

/// What is known of the process that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It renews its lease.
    Alive,
    /// It has ended in order.
    Ended,
    /// It has ended in order so that another node goes on, as an operator asked.
    HandedOver,
    /// Its lock is free: the process is gone.
    Dead,
    /// Its lease has lapsed: it hangs, or cannot reach the journal.
    Silent,
}

/// A batch that was read and is not proven durable.
struct Unapplied {
    segment: Arc<Segment>,
    batch: Batch,
    /// Behind it.
    after: Position,
}

/// What the lease said when it last moved.
#[derive(Default)]
struct LeaseSeen {
    slot: LeaseSlot,
    moved_at: u64,
    /// When this slot was first read.
    read_at: u64,
    /// It is not the first one that was read of its epoch.
    was_renewed: bool,
    /// The lease of this epoch was read.
    was_read: bool,
}

/// Follows the journal of another process. See the module.
pub struct Standby {
    journal: Journal,
    format: Format,
    /// The epoch that is followed.
    record: EpochRecord,
    /// Where `reader` reads.
    segment: Arc<Segment>,
    reader: BatchReader,
    /// Bytes that the last look at the journal found.
    came: usize,
    unapplied: VecDeque<Unapplied>,
    unapplied_bytes: usize,
    /// Behind the last batch that was applied.
    applied: Position,
    /// Up to here everything is proven durable.
    durable: u64,
    lease: LeaseSeen,
    /// Since when there has been evidence of what cannot be read.
    lost_since: Option<u64>,
    /// When everything that is known of was last applied.
    caught_up_at: u64,
    /// For which epoch one's own first files are ready.
    prepared: u64,
    registrar: Registrar,
    /// What was read and not applied when the next epoch showed: its cut.
    next: Option<EpochRecord>,
}

impl Standby {
    /// Reads the journal in `dir` as far as it is proven durable. The history is to be read, and its references counted
    /// ([`Journal::add_ref`]), before the first [`Standby::poll`].
    ///
    /// # Errors
    /// If there is no journal, it is damaged, or its files keep going while they are read.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        config: Config,
        uuid: [u8; 16],
        now_ms: u64,
    ) -> Result<(Self, Replay), OpenError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_open(Arc::clone(&vfs), dir, config.clone(), uuid, now_ms) {
                // The active gives segments and snapshots back as it likes.
                Err(error @ (OpenError::Io { .. } | OpenError::Corrupt(_)))
                    if tries < OPEN_TRIES =>
                {
                    tracing::debug!(%error, "the journal changed while it was read");
                }
                opened => return opened,
            }
        }
    }

    fn try_open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        config: Config,
        uuid: Uuid,
        now_ms: u64,
    ) -> Result<(Self, Replay), OpenError> {
        let config = config.bounded();
        let paths = Paths::new(dir);
        recovery::check_not_foreign(&*vfs, &paths)?;
        let direct = config.direct == Direct::Auto && vfs.direct_works(dir);
        // An earlier version made no such directory.
        let standbys = paths.standbys();
        vfs.create_dir(&standbys)
            .map_err(OpenError::io("create", &standbys))?;
        let survey = survey::survey_live(&*vfs, &paths, direct)?;
        let absent = || OpenError::Absent {
            dir: dir.to_owned(),
        };
        let record = survey.last.clone().ok_or_else(absent)?;
        let segment = survey.segments.last().cloned().ok_or_else(absent)?;
        let (snapshot, snapshots) = recovery::choose_snapshot(&*vfs, &paths, &survey, None)?;
        let shared = recovery::share(
            Arc::clone(&vfs),
            paths,
            config,
            &survey,
            survey.given_up.clone(),
            None,
            (0, uuid, survey.format.store, direct),
        );
        shared.table.fill_gaps(&segment);
        *shared
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = snapshots;
        let covered = snapshot.as_ref().map_or(0, SnapshotSource::batch);
        let behind = survey.segments.iter();
        let behind = behind.filter(|segment| segment.last_seq() > covered);
        let behind = behind.map(|segment| segment.end()).sum();
        shared.snapshot_bytes.store(behind, Ordering::Relaxed);
        shared.check_space();
        if let Some(snapshot) = &snapshot {
            shared.snapshot_len.store(snapshot.len, Ordering::Relaxed);
            for &(old, new) in &snapshot.forwards {
                shared.table.forward(StoredId(old), StoredId(new));
            }
        }
        let mut reader = segment.reader(&*vfs).map_err(survey::read_failed)?;
        reader.offset = segment.end();
        reader.position = survey.tail.proven;
        let replay = Replay::new(&shared, snapshot, true);
        let registrar = Registrar::new(&shared);
        let mut standby = Self {
            journal: Journal::of(shared),
            format: survey.format,
            record,
            segment,
            reader,
            came: 0,
            unapplied: VecDeque::new(),
            unapplied_bytes: 0,
            applied: survey.tail.proven,
            durable: survey.tail.proven.seq,
            lease: LeaseSeen {
                moved_at: now_ms,
                ..LeaseSeen::default()
            },
            lost_since: None,
            caught_up_at: now_ms,
            prepared: 0,
            registrar,
            next: None,
        };
        standby.refuse_damage()?;
        Ok((standby, replay))
    }

    /// What the holder's lease says is durable can be read, or more of it than is read at a time. Where it cannot, nobody may take this for
    /// a standby: it would stop the holder, which serves, and could not take its place.
    fn refuse_damage(&mut self) -> Result<(), OpenError> {
        let (vfs, paths) = (self.vfs(), self.paths());
        let direct = self.journal.shared().direct;
        let (epoch, writer) = (self.record.epoch, self.record.writer);
        let slot = lease::read_slot(&*vfs, &paths, epoch, &writer, direct)?.unwrap_or_default();
        while self.fetch()? > 0 {}
        let reads_on = self.unapplied_bytes >= POLL_BYTES_MAX || self.look_for_epoch()?.is_some();
        if reads_on || self.reader.position.seq >= slot.durable_upto {
            return Ok(());
        }
        Err(self.damage(slot.durable_upto).into())
    }

    /// What is known to be durable cannot be read.
    fn damage(&self, durable: u64) -> Corruption {
        let (next, offset) = (self.reader.position.seq + 1, self.reader.offset);
        let what =
            format!("batch {next} cannot be read, but batch {durable} is known to be durable");
        Corruption::new(&self.segment.path, offset, what)
    }

    /// Whether there is evidence of batches that cannot be read.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.lost_since.is_some()
    }

    /// The journal as far as it was applied: to count references, to write snapshots. What the active has moved since may
    /// dangle until the move is applied: after a takeover [`Journal::holds`] tells.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The epoch that is followed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.record.epoch
    }

    /// The last batch that was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.seq
    }

    /// The history that was applied.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.applied.mark()
    }

    /// How many batches are known to be durable and are not applied.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.durable
            .max(self.lease.slot.durable_upto)
            .saturating_sub(self.applied.seq)
    }

    /// Bytes of records that were read and not applied.
    #[must_use]
    pub fn unapplied_bytes(&self) -> u64 {
        self.unapplied_bytes as u64
    }

    /// How long ago everything that was known of was applied, in ms.
    #[must_use]
    pub fn lag_ms(&self, now_ms: u64) -> u64 {
        match self.lag() {
            0 => 0,
            _ => now_ms.saturating_sub(self.caught_up_at),
        }
    }

    /// What the holder of the lease says of itself.
    #[must_use]
    pub fn note(&self) -> &[u8] {
        &self.lease.slot.note
    }

    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::clone(&self.journal.shared().vfs)
    }

    fn paths(&self) -> Paths {
        self.journal.shared().paths.clone()
    }

    /// Reads the lease, and says what is known of its holder. On a local file system a free lock is the proof of a death.
    ///
    /// A lease that has moved counts by the boot clock `now_ms` from after it was read: this process may have stood still in front of that, and
    /// the holder's time only began when it wrote. One that stands still does so up to before it was read.
    ///
    /// # Errors
    /// If the lease cannot be read.
    pub fn look_at_holder(&mut self, now_ms: impl Fn() -> u64) -> Result<Holder, OpenError> {
        let (vfs, paths) = (self.vfs(), self.paths());
        let (epoch, writer) = (self.record.epoch, self.record.writer);
        let direct = self.journal.shared().direct;
        let before_ms = now_ms();
        let slot = lease::read_slot(&*vfs, &paths, epoch, &writer, direct)?.unwrap_or_default();
        let now_ms = now_ms();
        if slot.counter != self.lease.slot.counter || !self.lease.was_read {
            self.durable = self.durable.max(slot.durable_upto);
            self.lease = LeaseSeen {
                slot,
                moved_at: now_ms,
                read_at: now_ms,
                was_renewed: self.lease.was_read,
                was_read: true,
            };
        }
        if self.lease.slot.ended {
            return Ok(match self.lease.slot.handed_over {
                true => Holder::HandedOver,
                false => Holder::Ended,
            });
        }
        if self.is_holder_dead()? {
            return Ok(Holder::Dead);
        }
        let still = before_ms.saturating_sub(self.lease.moved_at);
        if still > lease::patience_ms(&self.lease.slot) {
            return Ok(Holder::Silent);
        }
        Ok(Holder::Alive)
    }

    /// Whether the process that holds the lease is gone, as a free lock proves on a local file system; elsewhere nothing does. That costs
    /// less than a look at its lease.
    ///
    /// # Errors
    /// If its lock cannot be tried.
    pub fn is_holder_dead(&self) -> Result<bool, OpenError> {
        let (vfs, paths) = (self.vfs(), self.paths());
        if vfs.is_remote(&paths.root) {
            return Ok(false);
        }
        let path = paths.lease(self.record.epoch, &self.record.writer);
        match vfs.lock(&path) {
            Ok(free) => Ok(free.is_some()),
            // Two later epochs are there, which shows at the next poll.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(OpenError::io("lock", &path)(error)),
        }
    }

    /// For how long its holder has not renewed the lease, as far as was looked, in ms.
    #[must_use]
    pub const fn still_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.lease.moved_at)
    }

    /// The holder's time, in ms since the Unix epoch, and when it was that by the boot clock `look_at_holder` was given; as the lease says that was
    /// last seen to be renewed. `None`: none was, or its holder does not tell.
    #[must_use]
    pub const fn holder_time(&self) -> Option<(u64, u64)> {
        if self.lease.was_renewed && self.lease.slot.time_ms > 0 {
            return Some((self.lease.slot.time_ms, self.lease.read_at));
        }
        None
    }

    /// When the holder last said that it lived, by its own time; 0 if that is not known. That may be long ago.
    #[must_use]
    pub const fn seen_ms(&self) -> u64 {
        lease::seen_ms(&self.lease.slot, &self.record)
    }

    /// Refuses a clock that is too far from when the holder last lived ([`Config::clock_off_max_ms`]).
    ///
    /// # Errors
    /// [`OpenError::Clock`].
    pub fn check_clock(&self, clock_ms: u64) -> Result<(), OpenError> {
        lease::check_clock(
            &self.paths(),
            &self.journal.shared().config,
            clock_ms,
            self.seen_ms(),
        )
    }

    /// What writes that this standby is there, and how far it has come.
    #[must_use]
    pub fn registrar(&self) -> Registrar {
        self.registrar.clone()
    }

    /// What the [`Registrar`] says from here on.
    pub fn report(&self, ready: bool) {
        self.registrar
            .set(self.record.epoch, self.applied.seq, ready);
    }

    /// Takes one's own files away: this standby goes.
    pub fn leave(&self) {
        self.registrar.remove();
        self.withdraw();
    }

    /// Makes the files ready with which the next epoch begins (RULES 23), if they are not; on a full disk in the room that the active
    /// node keeps for it.
    ///
    /// # Errors
    /// If there is no room for them, or they cannot be written.
    pub fn prepare(&mut self) -> Result<(), OpenError> {
        let epoch = self.record.epoch + 1;
        if self.prepared == epoch {
            return Ok(());
        }
        self.withdraw();
        let (vfs, paths) = (self.vfs(), self.paths());
        let shared = self.journal.shared();
        let files = Claim::files(&paths, &shared.config, epoch, &shared.writer);
        for (path, len) in files {
            let mut made = vfs.create_zeroed(&path, len, shared.direct);
            if made.as_ref().is_err_and(spares::is_full)
                && room::take(&*vfs, &paths, &shared.writer)
            {
                made = vfs.create_zeroed(&path, len, shared.direct);
            }
            match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(OpenError::io("create", &path))?,
            }
        }
        // The record of the epoch that is followed must last, too: its writer may have died before it made sure.
        for dir in [
            paths.segments(),
            paths.fences(),
            paths.leases(),
            paths.epochs(),
        ] {
            vfs.sync_dir(&dir).map_err(OpenError::io("sync", &dir))?;
        }
        self.prepared = epoch;
        Ok(())
    }

    /// Whether [`Standby::prepare`] was done for the epoch that would come next.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.prepared == self.record.epoch + 1
    }

    fn withdraw(&self) {
        if self.prepared == 0 {
            return;
        }
        let (vfs, paths) = (self.vfs(), self.paths());
        let shared = self.journal.shared();
        for (path, _) in Claim::files(&paths, &shared.config, self.prepared, &shared.writer) {
            let _ = vfs.unlink(&path);
        }
    }

    /// Drops what the active has given back from the table. To be called every few seconds.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn tidy(&self) -> Result<(), OpenError> {
        let shared = self.journal.shared();
        let dir = shared.paths.segments();
        let names = shared.vfs.list(&dir).map_err(OpenError::io("list", &dir))?;
        let there: std::collections::BTreeSet<PathBuf> =
            names.iter().map(|name| dir.join(name)).collect();
        // Where something is yet to be applied from, records will be named.
        let first = self
            .unapplied
            .front()
            .map_or(&self.segment, |first| &first.segment);
        // A machine may go by an old list of the directory: what is not in it is looked for by its name.
        let is_gone = |path: &Path| {
            !there.contains(path)
                && shared
                    .vfs
                    .open(path, Access::Read, shared.direct)
                    .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        for segment in shared.table.all() {
            if segment.first_seq() < first.first_seq() && is_gone(&segment.path) {
                segment.gone.store(true, Ordering::Release);
                segment.close_file();
                segment.drop_index();
            }
        }
        shared.table.sweep();
        shared.table.trim();
        Ok(())
    }

    /// Writes a snapshot of the state behind the last batch that was applied, durably: a standby makes them for its active.
    ///
    /// # Errors
    /// If the file cannot be written. Then the older snapshots still stand.
    pub fn write_snapshot(
        &self,
        write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<(), SnapshotError> {
        snapshot::write_at(self.journal.shared(), self.applied, write)
    }

    /// Reads what is new, and hands out the records of batches that are proven durable, in order.
    ///
    /// # Errors
    /// If the journal cannot be read or does not add up, or `receive` refuses a record.
    pub fn poll<E>(
        &mut self,
        now_ms: u64,
        mut receive: impl FnMut(StoredId, u8, Bytes) -> Result<(), E>,
    ) -> Result<Polled, StandbyError<E>> {
        let read = self.fetch()?;
        let mut moved = read > 0;
        if moved {
            // A completed write is as good as a renewed lease.
            self.lease.moved_at = self.lease.moved_at.max(now_ms);
        }
        if !moved && self.next.is_none() {
            self.next = self.look_for_epoch()?;
        }
        if let Some(next) = self.next.take() {
            match self.follow(next, now_ms, &mut receive)? {
                Some(polled) => return Ok(polled),
                None => moved = true,
            }
        }
        moved |= self.apply_durable(&mut receive)?;
        if self.lag() == 0 {
            self.caught_up_at = now_ms;
        }
        if moved {
            self.lost_since = None;
            return Ok(Polled::More);
        }
        if self.lease.slot.durable_upto > self.reader.position.seq {
            let since = *self.lost_since.get_or_insert(now_ms);
            if now_ms.saturating_sub(since) > LOST_MS {
                let shared = self.journal.shared();
                let opened = shared
                    .vfs
                    .open(&self.segment.path, Access::Read, shared.direct);
                return match opened {
                    Ok(_) => {
                        let damage = self.damage(self.lease.slot.durable_upto);
                        Err(OpenError::from(damage).into())
                    }
                    // The holder has given it back.
                    Err(_) => Ok(Polled::Behind),
                };
            }
        } else {
            self.lost_since = None;
        }
        Ok(Polled::Idle)
    }
}
