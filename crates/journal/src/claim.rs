//! One attempt to become the next epoch: one's own first segment, fence and lease, then the epoch record by link.
//!
//! Nothing here touches a file of another process but to unlink it, and that only after the link was won or for want of
//! room. What a claimant leaves that dies before its link is garbage for the next one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::aligned::Aligned;
use crate::batch::{self, ADOPTED, BLOCK, HEADER_LEN, Header};
use crate::config::Config;
use crate::error::OpenError;
use crate::layout::{
    EpochRecord, FORMAT_LEVEL, Paths, Uuid, parse_numbered_name, parse_segment_name,
};
use crate::reader::Batch;
use crate::room;
use crate::segment::{Place, Segment, SegmentHeader, SegmentId, data_end, salt_of, trailer_len};
use crate::spares;
use crate::survey::{self, Survey};
use crate::vfs::{Access, Lock, Vfs, VfsFile};

/// One attempt to become the next epoch.
pub(crate) struct Claim<'a> {
    pub(crate) vfs: &'a dyn Vfs,
    pub(crate) paths: &'a Paths,
    pub(crate) config: &'a Config,
    pub(crate) survey: &'a Survey,
    pub(crate) epoch: u64,
    pub(crate) uuid: Uuid,
    pub(crate) direct: bool,
    /// The writer of the last epoch may still be there: its fence is set, and it has yet to see that.
    pub(crate) may_live: bool,
}

impl Claim<'_> {
    /// Creates zeros, unless they were prepared ([`crate::Standby::prepare`]), giving up what earlier incarnations prepared if the disk is full (RULES 23).
    fn create_zeroed(&self, path: &Path, len: u64) -> Result<(), OpenError> {
        let mut made = self.vfs.create_zeroed(path, len, self.direct);
        if made
            .as_ref()
            .is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists)
        {
            // Named by this very incarnation, so it is its own.
            let there = self.vfs.open(path, Access::Read, false);
            if there
                .and_then(|file| file.len())
                .is_ok_and(|found| found >= len)
            {
                return Ok(());
            }
            self.unlink(path);
            made = self.vfs.create_zeroed(path, len, self.direct);
        }
        if made.as_ref().is_err_and(spares::is_full) {
            self.sweep_spares(false, |path| self.unlink(path));
            made = self.vfs.create_zeroed(path, len, self.direct);
        }
        made.map_err(OpenError::io("create", path))
    }

    /// The files with which an epoch of this writer begins, and their least lengths; the small ones first.
    pub(crate) fn files(
        paths: &Paths,
        config: &Config,
        epoch: u64,
        uuid: &Uuid,
    ) -> [(PathBuf, u64); 4] {
        let salt = salt_of(uuid, epoch, 1);
        [
            (paths.fence(epoch, uuid), BLOCK as u64),
            (paths.lease(epoch, uuid), 2 * BLOCK as u64),
            (paths.unpublished(uuid), BLOCK as u64),
            (paths.segment(epoch, 1, salt), config.first_segment_len),
        ]
    }

    /// One's own first segment, beginning with a copy of every batch that is not proven durable.
    pub(crate) fn first_segment(&self) -> Result<(Arc<Segment>, Arc<dyn VfsFile>), OpenError> {
        let tail = &self.survey.tail;
        let adopted: usize = tail.unproven.iter().map(adopted_len).sum();
        let needed = (BLOCK + adopted) as u64;
        let mut len = self.config.first_segment_len;
        while data_end(len) < needed {
            len += needed.next_multiple_of(BLOCK as u64) + trailer_len(needed);
        }
        let salt = salt_of(&self.uuid, self.epoch, 1);
        let path = self.paths.segment(self.epoch, 1, salt);
        self.create_zeroed(&path, len)?;
        let file = self
            .vfs
            .open(&path, Access::Write, self.direct)
            .map_err(OpenError::io("open", &path))?;
        let header = SegmentHeader {
            level: FORMAT_LEVEL,
            store: self.survey.format.store,
            writer: self.uuid,
            id: SegmentId {
                epoch: self.epoch,
                number: 1,
            },
            salt,
            base: tail.proven,
            len,
        };
        file.write_durable(&header.encode(), 0)
            .map_err(OpenError::io("write", &path))?;
        let segment = Arc::new(Segment::new(header, path.clone(), self.direct, true));
        segment.set_index(Vec::new());
        for batch in &tail.unproven {
            let bytes = adopt(batch, self.epoch, tail.proven.seq, salt);
            let offset = segment.end();
            file.write_durable(&bytes, offset)
                .map_err(OpenError::io("write", &path))?;
            segment.committed(
                Place::new(offset, true),
                u64::from(batch.header.records),
                offset + bytes.len() as u64,
            );
        }
        Ok((segment, file))
    }

    /// Fence and lease: they exist before the epoch is visible.
    pub(crate) fn signal_file(
        &self,
        path: &Path,
        blocks: u64,
        direct: bool,
    ) -> Result<Arc<dyn VfsFile>, OpenError> {
        self.create_zeroed(path, blocks * BLOCK as u64)?;
        self.vfs
            .open(path, Access::Write, direct)
            .map_err(OpenError::io("open", path))
    }

    /// The lock on one's own lease, before anyone can see the epoch: while it is held, the process lives. `None` where a lock
    /// proves nothing.
    pub(crate) fn lock_lease(&self) -> Result<Option<Lock>, OpenError> {
        if self.vfs.is_remote(&self.paths.root) {
            return Ok(None);
        }
        let path = self.paths.lease(self.epoch, &self.uuid);
        self.vfs.lock(&path).map_err(OpenError::io("lock", &path))
    }

    /// Names made now, and those that a killed process left unsynced: what was seen in them must last. So must the record of the epoch in
    /// front: of two that nobody synced a power failure may leave the later one.
    pub(crate) fn sync_dirs(&self) -> Result<(), OpenError> {
        if mutated!(SkipDirectorySync) {
            return Ok(());
        }
        for dir in [
            self.paths.segments(),
            self.paths.fences(),
            self.paths.leases(),
            self.paths.snapshots(),
            self.paths.epochs(),
            self.paths.root.clone(),
        ] {
            self.vfs
                .sync_dir(&dir)
                .map_err(OpenError::io("sync", &dir))?;
        }
        Ok(())
    }

    /// Puts the epoch record under its name, if that is free.
    pub(crate) fn publish(&self, wall_ms: u64, snapshot_hint: u64) -> Result<(), OpenError> {
        let tail = &self.survey.tail;
        let record = EpochRecord {
            level: FORMAT_LEVEL,
            epoch: self.epoch,
            writer: self.uuid,
            prev_epoch: self.epoch - 1,
            cut: tail.proven,
            cut_segment: tail.segment,
            cut_offset: tail.offset,
            adopted_upto: tail.end.seq,
            first_salt: salt_of(&self.uuid, self.epoch, 1),
            snapshot_hint,
            wall_ms,
        };
        let temporary = self.paths.unpublished(&self.uuid);
        let path = self.paths.epoch(self.epoch);
        let dir = self.paths.epochs();
        let prepared = || -> io::Result<()> {
            let file = match self.vfs.open(&temporary, Access::Create, false) {
                // Prepared, in a place of its own.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.vfs.open(&temporary, Access::Write, false)?
                }
                opened => opened?,
            };
            file.write_at(&record.encode(), 0)?;
            file.sync()
        };
        let mut written = prepared();
        if written.as_ref().is_err_and(spares::is_full) {
            self.sweep_spares(false, |path| self.unlink(path));
            let _ = self.vfs.unlink(&temporary);
            written = prepared();
        }
        written.map_err(OpenError::io("write", &temporary))?;
        if mutated!(NoCompareAndSwap) {
            let _ = self.vfs.unlink(&path);
        }
        let linked = self.vfs.link(&temporary, &path);
        // A retransmitted link may say that the name is taken, by oneself: what lies there decides.
        let winner =
            survey::read_small(self.vfs, &path)?.and_then(|bytes| EpochRecord::decode(&bytes));
        let _ = self.vfs.unlink(&temporary);
        if winner.as_ref() != Some(&record) {
            self.withdraw();
            if let Err(error) = linked
                && winner.is_none()
            {
                return Err(OpenError::io("link", &path)(error));
            }
            return Err(OpenError::Lost {
                dir: self.paths.root.clone(),
                epoch: self.epoch,
            });
        }
        self.vfs
            .sync_dir(&dir)
            .map_err(OpenError::io("sync", &dir))?;
        let highest = survey::read_epochs(self.vfs, self.paths)?
            .last()
            .copied()
            .unwrap_or(0);
        if highest > self.epoch {
            return Err(OpenError::Lost {
                dir: self.paths.root.clone(),
                epoch: highest,
            });
        }
        Ok(())
    }

    /// Takes away what was prepared for an epoch that this writer does not open.
    pub(crate) fn withdraw(&self) {
        let salt = salt_of(&self.uuid, self.epoch, 1);
        for path in [
            self.paths.segment(self.epoch, 1, salt),
            self.paths.fence(self.epoch, &self.uuid),
            self.paths.lease(self.epoch, &self.uuid),
        ] {
            let _ = self.vfs.unlink(&path);
        }
    }

    fn unlink(&self, path: &Path) {
        if let Err(error) = self.vfs.unlink(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "failed to unlink");
        }
    }

    /// Unlinks what belongs to nobody: spares of earlier incarnations are never reused (RULES 16).
    ///
    /// Before the epoch is `won`, not what another claimant has prepared, and not the spare that the writer of the last epoch would
    /// use next, if that one may live: it may be about to, which says in the segment in front that there is another one, and
    /// until the next epoch has cut that off, nobody could tell that it was never used.
    fn sweep_spares(&self, won: bool, mut unlink: impl FnMut(&Path)) {
        let last = self.survey.last.as_ref().map_or(0, |last| last.epoch);
        let number = |path: &PathBuf| {
            let (epoch, number, _) = parse_segment_name(path.file_name()?.to_str()?)?;
            (epoch == last).then_some(number)
        };
        let next = self.survey.garbage.iter().filter_map(number).min();
        for path in &self.survey.garbage {
            let name = path.file_name().and_then(|name| name.to_str());
            let epoch = name
                .and_then(parse_segment_name)
                .map_or(0, |(epoch, ..)| epoch);
            let is_next = next.is_some() && number(path) == next;
            if won || epoch <= last && !(self.may_live && is_next) {
                unlink(path);
            }
        }
        for name in self.vfs.list(&self.paths.root).unwrap_or_default() {
            let reserve = self.paths.reserve(&self.uuid);
            let path = self.paths.root.join(&name);
            if name.starts_with("reserve-") && path != reserve {
                unlink(&path);
            }
        }
        room::take(self.vfs, self.paths, &self.uuid);
    }

    /// After the epoch is ours: garbage, temporary files, and the signals of epochs that have two successors and are covered
    /// by a snapshot. Epoch records stay (RULES 17). Returned is what takes longest, ten milliseconds a segment on some disks, and may wait
    /// while there is room.
    pub(crate) fn sweep(&self, snapshot: u64) -> Vec<PathBuf> {
        let free = self.vfs.space(&self.paths.root);
        let waits = free.is_ok_and(|found| found.free >= spares::HOARD_BYTES_MAX);
        let mut leftover = Vec::new();
        let mut unlink = |path: &Path| match waits {
            true => leftover.push(path.to_owned()),
            false => self.unlink(path),
        };
        self.sweep_spares(true, &mut unlink);
        if let Some(previous) = &self.survey.last {
            // The last segment of the previous epoch, where nothing of it was proven, is named by nobody any more.
            let first = self.paths.segments();
            for name in self.vfs.list(&first).unwrap_or_default() {
                let parsed = parse_segment_name(&name);
                let dead = parsed.is_some_and(|(epoch, number, _)| {
                    epoch == previous.epoch && number > self.survey.tail.segment
                });
                if dead {
                    unlink(&first.join(name));
                }
            }
        }
        for dir in [self.paths.epochs(), self.paths.snapshots()] {
            for name in self.vfs.list(&dir).unwrap_or_default() {
                if name.starts_with("tmp-") {
                    self.unlink(&dir.join(name));
                }
            }
        }
        let covered = self
            .survey
            .last
            .as_ref()
            .is_some_and(|last| last.cut.seq <= snapshot);
        if mutated!(DeleteEpochRecord) && covered && self.epoch > 2 {
            self.unlink(&self.paths.epoch(self.epoch - 2));
        }
        for dir in [self.paths.fences(), self.paths.leases()] {
            for name in self.vfs.list(&dir).unwrap_or_default() {
                let epoch = parse_numbered_name(&name);
                if covered && epoch.is_some_and(|epoch| epoch + 2 <= self.epoch) {
                    self.unlink(&dir.join(name));
                }
            }
        }
        // Spares of the previous epoch are found both ways.
        leftover.sort_unstable();
        leftover.dedup();
        leftover
    }
}

fn adopted_len(batch: &Batch) -> usize {
    batch::padded_len(HEADER_LEN + batch.payload.len())
}

/// The batch in a new header: same place in the chain, and the old header and payload verbatim (RULES 19).
fn adopt(batch: &Batch, epoch: u64, durable_upto: u64, salt: u64) -> Aligned {
    let payload_len = HEADER_LEN + batch.payload.len();
    let mut bytes = Aligned::zeroed(batch::padded_len(payload_len));
    let payload = &mut bytes[HEADER_LEN..HEADER_LEN + payload_len];
    payload[..HEADER_LEN].copy_from_slice(&batch.header_bytes);
    payload[HEADER_LEN..].copy_from_slice(&batch.payload);
    let header = Header {
        flags: ADOPTED,
        epoch,
        payload_len: u32::try_from(payload_len).expect("a batch is shorter than 2 MiB"),
        digest: batch::digest(payload),
        durable_upto,
        ..batch.header.clone()
    };
    bytes[..HEADER_LEN].copy_from_slice(&header.encode(salt));
    bytes
}
