//! Opening: a start is a takeover of oneself (JOURNAL 2.2, RULES 17).
//!
//! Lock, check FORMAT, fence the last epoch, and only then read its tail; write what is not proven durable into one's own
//! first segment, publish the next epoch by link, and hand out the history. Every step may be cut short: what was linked
//! counts, everything else is garbage for the next one.
//!
//! | case | what is done |
//! |---|---|
//! | no directory, an empty one, or one that a first start left half made | it is made |
//! | other files and no FORMAT | refused: foreign |
//! | FORMAT, an epoch record or a segment of a higher level | refused: newer version |
//! | held by another process | refused, with its pid if known |
//! | torn tail: the last batch is not whole and nothing says that it was durable | cut there |
//! | whole batches behind the last proof of durability | copied into the new epoch (adopted), then confirmed by it |
//! | a bad batch, but a later one in the segment, or a lease, a snapshot or a header that says it was durable | refused: damage |
//! | a bad checksum anywhere else: segment header, epoch record, FORMAT | refused: damage |
//! | the header of a segment about to be used is torn | the segment is garbage |
//! | a segment is missing: first, in the middle, or behind a sealed one | refused: damage |
//! | a segment is shorter than its header says | refused: damage |
//! | an epoch record is missing in the chain | refused: damage |
//! | batches with another salt (an earlier use of the file) | never valid |
//! | late writes of a closed epoch, behind its cut | not read; whole segments are unlinked |
//! | files of a claimant that lost or died before its link | not read, unlinked |
//! | two claimants for one epoch | link decides; the other one stands down |
//! | the fence is set by another | the running journal commits nothing more |
//! | a snapshot that is not whole, or whose chain hash is not the journal's | the older one is used |
//! | no usable snapshot and the first batches are reclaimed | refused: damage |

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use crate::aligned::Aligned;
use crate::batch::{self, ADOPTED, BLOCK, HEADER_LEN, Header};
use crate::cache::{BatchCache, Windows};
use crate::config::{Config, Direct};
use crate::engine::Engine;
use crate::error::{Corruption, OpenError};
use crate::id;
use crate::journal::{Counters, Journal, Kept, Shared, Space};
use crate::layout::{
    EpochRecord, FORMAT_LEVEL, Format, LeaseSlot, Paths, Uuid, fenced_block, hex,
    parse_numbered_name,
};
use crate::replay::Replay;
use crate::segment::{Place, Segment, SegmentHeader, SegmentId, data_end, salt_of, trailer_len};
use crate::snapshot::{self, SnapshotSource};
use crate::spares::Spares;
use crate::stage::Staging;
use crate::survey::{self, Survey, read_failed};
use crate::table::Table;
use crate::threads;
use crate::vfs::{Access, Free, Lock, Vfs, VfsFile};

/// An open journal and its history.
pub struct Opened {
    /// The handle.
    pub journal: Journal,
    /// The history, to be read once before anything is staged.
    pub replay: Replay,
    /// The epoch that was opened.
    pub epoch: u64,
}

/// Opens the journal in `dir`, making it if there is none, and starts its threads.
///
/// `uuid` is random and new at every start; `wall_now_ms` is for information only.
///
/// # Errors
/// See [`OpenError`]: what and where. Nothing is damaged by an error.
pub fn open(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    config: Config,
    wall_now_ms: u64,
    uuid: [u8; 16],
) -> Result<Opened, OpenError> {
    let (opened, engine) = open_stepped(vfs, dir, config, wall_now_ms, uuid)?;
    let threads = threads::start(engine).map_err(OpenError::io("start a thread for", dir))?;
    *opened
        .journal
        .handle
        .threads
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = threads;
    Ok(opened)
}

/// As [`open`], without threads: the caller steps the engine.
///
/// # Errors
/// As [`open`].
pub fn open_stepped(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    config: Config,
    wall_now_ms: u64,
    uuid: [u8; 16],
) -> Result<(Opened, Engine), OpenError> {
    let config = config.bounded();
    let paths = Paths::new(dir);
    vfs.create_dir(dir).map_err(OpenError::io("create", dir))?;
    check_not_foreign(&*vfs, &paths)?;
    let lock = take_lock(&*vfs, &paths)?;
    let format = make_format(&*vfs, &paths, uuid)?;
    let direct = config.direct == Direct::Auto && vfs.direct_works(dir);
    if !direct {
        tracing::info!(dir = %dir.display(), "the journal goes through the page cache, with fdatasync");
    }
    let fenced = set_fence(&*vfs, &paths)?;
    let survey = survey::survey(&*vfs, &paths, direct)?;
    let last = survey.last.as_ref().map_or(0, |last| last.epoch);
    if last != fenced {
        // Somebody was faster. Its fence is not set, so its tail may still grow: it must not be read.
        return Err(OpenError::Lost {
            dir: dir.to_owned(),
            epoch: last,
        });
    }
    let (snapshot, snapshots) = choose_snapshot(&*vfs, &paths, &survey)?;
    let epoch = last + 1;
    let claim = Claim {
        vfs: &*vfs,
        paths: &paths,
        config: &config,
        survey: &survey,
        epoch,
        uuid,
        direct,
    };
    let (segment, file) = claim.first_segment()?;
    let fence = claim.signal_file(&paths.fence(epoch, &uuid), 1, direct && vfs.is_remote(dir))?;
    let lease = claim.signal_file(&paths.lease(epoch, &uuid), 2, direct)?;
    claim.sync_dirs()?;
    claim.publish(
        wall_now_ms,
        snapshot.as_ref().map_or(0, SnapshotSource::batch),
    )?;
    claim.sweep(snapshot.as_ref().map_or(0, SnapshotSource::batch));
    let shared = share(
        Arc::clone(&vfs),
        paths,
        config,
        &survey,
        lock,
        (epoch, uuid, format.store, direct),
    );
    shared.table.insert(Arc::clone(&segment));
    shared.table.fill_gaps(&segment);
    *shared
        .snapshots
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = snapshots;
    shared.check_space();
    if let Some(snapshot) = &snapshot {
        for &(old, new) in &snapshot.forwards {
            shared
                .table
                .forward(message::StoredId(old), message::StoredId(new));
        }
    }
    let position = survey.tail.end;
    let replay = Replay::new(&shared, snapshot, true);
    let engine = Engine {
        shared: Arc::clone(&shared),
        fence,
        lease,
        segment,
        file,
        position,
        lease_slot: LeaseSlot::default(),
        wall_ms: wall_now_ms,
    };
    Ok((
        Opened {
            journal: Journal::of(shared),
            replay,
            epoch,
        },
        engine,
    ))
}

/// Names that a journal directory may hold before its FORMAT is there.
const EARLY: [&str; 7] = [
    "LOCK",
    "FORMAT.tmp",
    "epochs",
    "fence",
    "lease",
    "seg",
    "snap",
];

fn check_not_foreign(vfs: &dyn Vfs, paths: &Paths) -> Result<(), OpenError> {
    if survey::read_format(vfs, paths)?.is_some() {
        return Ok(());
    }
    let dir = &paths.root;
    let mut names = vfs.list(dir).map_err(OpenError::io("list", dir))?;
    names.sort_unstable();
    if let Some(found) = names
        .into_iter()
        .find(|name| !EARLY.contains(&name.as_str()))
    {
        return Err(OpenError::Foreign {
            dir: dir.clone(),
            found,
        });
    }
    let epochs = vfs.list(&paths.epochs()).unwrap_or_default();
    if epochs.iter().any(|name| name.parse::<u64>().is_ok()) {
        return Err(
            Corruption::new(&paths.format(), 0, "it is missing, but there are epochs").into(),
        );
    }
    Ok(())
}

fn take_lock(vfs: &dyn Vfs, paths: &Paths) -> Result<Lock, OpenError> {
    let path = paths.lock();
    let note = format!("{}\n", std::process::id());
    match vfs
        .lock(&path, &note)
        .map_err(OpenError::io("lock", &path))?
    {
        Ok(lock) => Ok(lock),
        Err(holder) => Err(OpenError::Held {
            dir: paths.root.clone(),
            holder: if holder.is_empty() {
                String::new()
            } else {
                format!(" (pid {holder})")
            },
        }),
    }
}

/// Reads FORMAT, or makes the directory a journal: FORMAT comes last and whole.
fn make_format(vfs: &dyn Vfs, paths: &Paths, uuid: Uuid) -> Result<Format, OpenError> {
    for dir in paths.directories() {
        vfs.create_dir(&dir)
            .map_err(OpenError::io("create", &dir))?;
    }
    if let Some(format) = survey::read_format(vfs, paths)? {
        return Ok(format);
    }
    let format = Format {
        level: FORMAT_LEVEL,
        store: uuid,
    };
    let temporary = paths.root.join("FORMAT.tmp");
    let path = paths.format();
    let _ = vfs.unlink(&temporary);
    let made = || -> io::Result<()> {
        let file = vfs.open(&temporary, Access::Create, false)?;
        file.write_at(&format.encode(), 0)?;
        file.sync()?;
        vfs.rename(&temporary, &path)?;
        vfs.sync_dir(&paths.root)?;
        // The directory itself may be new: its own entry has to last, too.
        paths
            .root
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .map_or(Ok(()), |p| vfs.sync_dir(p))
    };
    made().map_err(OpenError::io("create", &path))?;
    Ok(format)
}

/// Sets the fence of the last epoch, whoever its writer was: from here on that epoch confirms nothing more. Only then may
/// its tail be read. Returns that epoch, 0 in a new journal.
fn set_fence(vfs: &dyn Vfs, paths: &Paths) -> Result<u64, OpenError> {
    let Some(&last) = survey::read_epochs(vfs, paths)?.last() else {
        return Ok(0);
    };
    let record = survey::read_epoch(vfs, paths, last)?;
    let path = paths.fence(last, &record.writer);
    let file = match vfs.open(&path, Access::Write, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Corruption::new(&path, 0, "the fence of the last epoch is missing").into());
        }
        Err(error) => return Err(OpenError::io("open", &path)(error)),
    };
    file.write_durable(&fenced_block(), 0)
        .map_err(OpenError::io("write", &path))?;
    Ok(last)
}

/// The newest snapshot that is whole and continues the chain, and all that are kept.
fn choose_snapshot(
    vfs: &dyn Vfs,
    paths: &Paths,
    survey: &Survey,
) -> Result<(Option<SnapshotSource>, Vec<Kept>), OpenError> {
    let mut kept = survey.snapshots.clone();
    while let Some(newest) = kept.last() {
        let path = snapshot::path_of(paths, newest);
        match SnapshotSource::whole(vfs, &path, &survey.format.store) {
            Ok(source) => {
                let fits =
                    snapshot::fits(vfs, source.position, &survey.segments, survey.tail.proven);
                if fits.map_err(read_failed)? {
                    covers(paths, survey, source.batch())?;
                    return Ok((Some(source), kept));
                }
                tracing::error!(path = %path.display(), "the snapshot does not belong to this history; an older one is used");
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the snapshot is unusable; an older one is used")
            }
        }
        kept.pop();
    }
    covers(paths, survey, 0)?;
    Ok((None, kept))
}

/// Every batch behind `from` is there.
fn covers(paths: &Paths, survey: &Survey, from: u64) -> Result<(), OpenError> {
    let mut have = from;
    for segment in &survey.segments {
        if segment.last_seq() <= have {
            continue;
        }
        if segment.header.base.seq > have {
            break;
        }
        have = segment.last_seq();
    }
    let upto = survey.tail.proven.seq;
    if have < upto {
        let what = format!(
            "batches {} to {upto} are neither in a segment nor in a usable snapshot",
            have + 1
        );
        return Err(Corruption::new(&paths.segments(), 0, what).into());
    }
    Ok(())
}

/// One attempt to become the next epoch.
struct Claim<'a> {
    vfs: &'a dyn Vfs,
    paths: &'a Paths,
    config: &'a Config,
    survey: &'a Survey,
    epoch: u64,
    uuid: Uuid,
    direct: bool,
}

impl Claim<'_> {
    /// Creates zeros, giving up what earlier incarnations prepared if the disk is full (RULES 23).
    fn create_zeroed(&self, path: &Path, len: u64) -> Result<(), OpenError> {
        let mut made = self.vfs.create_zeroed(path, len, self.direct);
        if made
            .as_ref()
            .is_err_and(|e| e.kind() == io::ErrorKind::StorageFull)
        {
            self.sweep_spares();
            made = self.vfs.create_zeroed(path, len, self.direct);
        }
        made.map_err(OpenError::io("create", path))
    }

    /// One's own first segment, beginning with a copy of every batch that is not proven durable.
    fn first_segment(&self) -> Result<(Arc<Segment>, Arc<dyn VfsFile>), OpenError> {
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
    fn signal_file(
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

    /// Names made now, and those that a killed process left unsynced: what was seen in them must last.
    fn sync_dirs(&self) -> Result<(), OpenError> {
        for dir in [
            self.paths.segments(),
            self.paths.fences(),
            self.paths.leases(),
            self.paths.snapshots(),
            self.paths.root.clone(),
        ] {
            self.vfs
                .sync_dir(&dir)
                .map_err(OpenError::io("sync", &dir))?;
        }
        Ok(())
    }

    /// Puts the epoch record under its name, if that is free.
    fn publish(&self, wall_ms: u64, snapshot_hint: u64) -> Result<(), OpenError> {
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
        let temporary = self.paths.epochs().join(format!("tmp-{}", hex(&self.uuid)));
        let path = self.paths.epoch(self.epoch);
        let dir = self.paths.epochs();
        let prepared = || -> io::Result<()> {
            let file = self.vfs.open(&temporary, Access::Create, false)?;
            file.write_at(&record.encode(), 0)?;
            file.sync()
        };
        prepared().map_err(OpenError::io("write", &temporary))?;
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

    fn withdraw(&self) {
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
    fn sweep_spares(&self) {
        for path in &self.survey.garbage {
            self.unlink(path);
        }
        for name in self.vfs.list(&self.paths.root).unwrap_or_default() {
            let reserve = self.paths.reserve(&self.uuid);
            let path = self.paths.root.join(&name);
            if name.starts_with("reserve-") && path != reserve {
                self.unlink(&path);
            }
        }
    }

    /// After the epoch is ours: garbage, temporary files, and the signals of epochs that have two successors and are covered
    /// by a snapshot. Epoch records stay (RULES 17).
    fn sweep(&self, snapshot: u64) {
        self.sweep_spares();
        if let Some(previous) = &self.survey.last {
            // The last segment of the previous epoch, where nothing of it was proven, is named by nobody any more.
            let first = self.paths.segments();
            for name in self.vfs.list(&first).unwrap_or_default() {
                let parsed = crate::layout::parse_segment_name(&name);
                let dead = parsed.is_some_and(|(epoch, number, _)| {
                    epoch == previous.epoch && number > self.survey.tail.segment
                });
                if dead {
                    self.unlink(&first.join(name));
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
        for dir in [self.paths.fences(), self.paths.leases()] {
            for name in self.vfs.list(&dir).unwrap_or_default() {
                let epoch = parse_numbered_name(&name);
                if covered && epoch.is_some_and(|epoch| epoch + 2 <= self.epoch) {
                    self.unlink(&dir.join(name));
                }
            }
        }
    }
}

fn adopted_len(batch: &crate::segment::Batch) -> usize {
    batch::padded_len(HEADER_LEN + batch.payload.len())
}

/// The batch in a new header: same place in the chain, and the old header and payload verbatim (RULES 19).
fn adopt(batch: &crate::segment::Batch, epoch: u64, durable_upto: u64, salt: u64) -> Aligned {
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

fn share(
    vfs: Arc<dyn Vfs>,
    paths: Paths,
    config: Config,
    survey: &Survey,
    lock: Lock,
    (epoch, writer, store, direct): (u64, Uuid, Uuid, bool),
) -> Arc<Shared> {
    let table = Table::default();
    for segment in &survey.segments {
        table.insert(Arc::clone(segment));
    }
    let committed = survey.tail.end.seq;
    table.set_placed(committed);
    let smallest = data_end(config.segment_len.min(config.first_segment_len));
    let room = usize::try_from(smallest).unwrap_or(usize::MAX) - 4 * BLOCK;
    let written = survey.segments.iter().map(|s| s.end()).sum::<u64>();
    Arc::new(Shared {
        batch_len_hard: room.min(id::REACH - 2 * BLOCK),
        config,
        vfs,
        paths,
        store,
        writer,
        epoch,
        direct,
        staging: Mutex::new(Staging::new(committed + 1)),
        work: Condvar::new(),
        committed: AtomicU64::new(committed),
        newest: AtomicU64::new(committed),
        failure: OnceLock::new(),
        table,
        cache: BatchCache::default(),
        windows: Windows::default(),
        spares: Spares::new(2),
        counters: Counters::default(),
        snapshot_bytes: AtomicU64::new(written),
        snapshots: Mutex::default(),
        pins: Mutex::default(),
        evacuations: Mutex::default(),
        space: Mutex::new(Space::Ok(Free { free: 0, total: 0 })),
        lock: Mutex::new(Some(lock)),
        stopping: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        restored: AtomicBool::new(false),
    })
}
