//! Opening: a start is a takeover of oneself (RULES 17).
//!
//! Check FORMAT, and that nobody serves; fence the last epoch, and only then read its tail; write what is not proven durable into one's own
//! first segment, publish the next epoch by link, and hand out the history. Every step may be cut short: what was linked
//! counts, everything else is garbage for the next one.
//!
//! | case | what is done |
//! |---|---|
//! | no directory, an empty one, or one that a first start left half made | it is made |
//! | other files and no FORMAT | refused: foreign |
//! | FORMAT, an epoch record or a segment of a higher level | refused: newer version |
//! | held by another process | refused, with its pid if known |
//! | the clock is far from the last sign of life | refused: the clock ([`Config::clock_off_max_ms`]) |
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
//! | damage, and the operator gives up what it costs ([`Config::accept_loss`]) | every byte is read; what is not whole is written down (loss.rs), and passed over from here on |
//! | damage that was given up at an earlier start | passed over |

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use crate::batch::BLOCK;
use crate::cache::{BatchCache, Windows};
use crate::claim::Claim;
use crate::config::{Config, Direct};
use crate::engine::{Buffers, Engine};
use crate::error::{Corruption, OpenError};
use crate::id;
use crate::journal::{Journal, Space};
use crate::layout::{FORMAT_LEVEL, Format, LeaseSlot, Paths, Uuid, fenced_block, hex};
use crate::lease::{self, LeaseCounts};
use crate::loss::{self, Loss};
use crate::probe;
use crate::replay::Replay;
use crate::segment::{SegmentId, data_end};
use crate::shared::{Counters, Kept, Place, Shared, ToldTime};
use crate::snapshot::{self, SnapshotSource};
use crate::spares::Spares;
use crate::stage::Staging;
use crate::survey::{self, Survey, read_failed};
use crate::table::Table;
use crate::threads;
use crate::vfs::{Access, Free, Lock, Vfs};

/// An open journal and its history.
pub struct Opened {
    /// The handle.
    pub journal: Journal,
    /// The history, to be read once, and its references counted ([`Journal::add_ref`]), before anything is staged.
    pub replay: Replay,
    /// The epoch that was opened.
    pub epoch: u64,
    /// When the last holder of the journal last said that it lived, by its time; 0 if that is not known.
    pub seen_ms: u64,
}

/// Opens the journal in `dir`, making it if there is none, and starts its threads.
///
/// `uuid` is random and new at every start; `now_ms` is the time, since the Unix epoch.
///
/// # Errors
/// See [`OpenError`]: what and where. Nothing is damaged by an error.
pub fn open(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    config: Config,
    now_ms: u64,
    uuid: [u8; 16],
) -> Result<Opened, OpenError> {
    let (opened, mut engine) = open_stepped(vfs, dir, config, now_ms, uuid)?;
    // Before anyone is told that it is open: who comes now reads there whose it is.
    engine.renew_lease(lease::boot_ms);
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
    now_ms: u64,
    uuid: [u8; 16],
) -> Result<(Opened, Engine), OpenError> {
    let config = config.bounded();
    let paths = Paths::new(dir);
    vfs.create_dir(dir).map_err(OpenError::io("create", dir))?;
    check_not_foreign(&*vfs, &paths)?;
    let format = make_format(&*vfs, &paths, uuid)?;
    let direct = config.direct == Direct::Auto && vfs.direct_works(dir);
    let early = mutated!(TailBeforeWait).then(|| survey::survey(&*vfs, &paths, direct));
    let gone = lease::refuse_if_held(&*vfs, &paths)?;
    lease::check_clock(&paths, &config, now_ms, gone.seen_ms)?;
    if !direct {
        tracing::info!(dir = %dir.display(), "the journal goes through the page cache, with fdatasync");
    }
    let early =
        early.or_else(|| mutated!(TailBeforeFence).then(|| survey::survey(&*vfs, &paths, direct)));
    set_fence(&*vfs, &paths, gone.epoch)?;
    lease::look_behind_fence(&*vfs, &paths, &gone)?;
    let survey = early.unwrap_or_else(|| match config.accept_loss {
        true => survey::survey_damaged(&*vfs, &paths, direct),
        false => survey::survey(&*vfs, &paths, direct),
    })?;
    let last = survey.last.as_ref().map_or(0, |last| last.epoch);
    if last != gone.epoch {
        // Somebody was faster. Its fence is not set, so its tail may still grow: it must not be read.
        return Err(lost(&paths, last));
    }
    let mut damage = survey.damage.clone();
    let accepted = config.accept_loss.then_some(&mut damage);
    let (snapshot, snapshots) = choose_snapshot(&*vfs, &paths, &survey, accepted)?;
    for loss in &mut damage {
        loss.given_up_ms = now_ms.max(1);
    }
    let epoch = last + 1;
    let claim = Claim {
        vfs: &*vfs,
        paths: &paths,
        config: &config,
        survey: &survey,
        epoch,
        uuid,
        direct,
        // Where locks prove something, its own was free.
        may_live: vfs.is_remote(dir),
    };
    let prepare = || -> Result<_, OpenError> {
        let (segment, file) = claim.first_segment()?;
        let past_cache = direct && vfs.is_remote(dir) && !mutated!(FenceThroughCache);
        let fence = claim.signal_file(&paths.fence(epoch, &uuid), 1, past_cache)?;
        let lease = claim.signal_file(&paths.lease(epoch, &uuid), 2, direct)?;
        let lock = claim.lock_lease()?;
        claim.sync_dirs()?;
        Ok((segment, file, fence, lease, lock))
    };
    // Tries that fail for want of room must not leave less of it each time.
    let (segment, file, fence, lease, lock) = prepare().inspect_err(|_| claim.withdraw())?;
    // Before anyone can see the epoch that goes on behind it.
    loss::write_all(&*vfs, &paths, &damage, epoch, &uuid)?;
    claim.publish(
        now_ms.max(gone.seen_ms),
        snapshot.as_ref().map_or(0, SnapshotSource::batch),
    )?;
    for loss in &damage {
        let kept = loss.kept().unwrap_or_default();
        tracing::error!(%loss, kept = %kept.display(), "given up, as the operator said");
    }
    let leftover = claim.sweep(snapshot.as_ref().map_or(0, SnapshotSource::batch));
    let given_up = [&survey.given_up[..], &damage[..]].concat();
    let shared = share(
        Arc::clone(&vfs),
        paths,
        config,
        &survey,
        given_up,
        lock,
        (epoch, uuid, format.store, direct),
    );
    shared.leave_for_later(leftover);
    shared.told.claimed(now_ms.max(gone.seen_ms));
    shared.table.insert(Arc::clone(&segment));
    shared.table.fill_gaps(&segment);
    *shared
        .snapshots
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = snapshots;
    let covered = snapshot.as_ref().map_or(0, SnapshotSource::batch);
    let behind = survey
        .segments
        .iter()
        .filter(|segment| segment.last_seq() > covered);
    let behind = behind.map(|segment| segment.end()).sum();
    shared.snapshot_bytes.store(behind, Ordering::Relaxed);
    shared.check_space();
    if let Some(snapshot) = &snapshot {
        shared.snapshot_len.store(snapshot.len, Ordering::Relaxed);
        for &(old, new) in &snapshot.forwards {
            shared
                .table
                .forward(message::StoredId(old), message::StoredId(new));
        }
    }
    shared.place.left(&segment);
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
        lease_counts: LeaseCounts::default(),
        wall_ms: now_ms,
        spare: None,
        buffers: Buffers::default(),
    };
    Ok((
        Opened {
            journal: Journal::of(shared),
            replay,
            epoch,
            seen_ms: gone.seen_ms,
        },
        engine,
    ))
}

/// A damaged journal as far as it can be read, by whoever does not open it.
pub struct Assessed {
    /// What cannot be read, in no particular order.
    pub damage: Vec<Loss>,
    /// The rest of the history, to be read once.
    pub replay: Replay,
    /// To read single records with.
    pub journal: Journal,
}

/// Reads a damaged journal that nobody serves, every byte of it, and changes nothing: what would be left of it.
///
/// # Errors
/// If there is more wrong than can be passed over: FORMAT, an epoch record, a file that belongs to another journal.
pub fn assess(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    config: Config,
    uuid: [u8; 16],
) -> Result<Assessed, OpenError> {
    let config = config.bounded();
    let paths = Paths::new(dir);
    let direct = config.direct == Direct::Auto && vfs.direct_works(dir);
    let survey = survey::survey_damaged(&*vfs, &paths, direct)?;
    let mut damage = survey.damage.clone();
    let (snapshot, snapshots) = choose_snapshot(&*vfs, &paths, &survey, Some(&mut damage))?;
    let given_up = [&survey.given_up[..], &damage[..]].concat();
    let shared = share(
        vfs,
        paths,
        config,
        &survey,
        given_up,
        None,
        (0, uuid, survey.format.store, direct),
    );
    if let Some(segment) = survey.segments.last() {
        shared.table.fill_gaps(segment);
    }
    *shared
        .snapshots
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = snapshots;
    for &(old, new) in snapshot.iter().flat_map(|snapshot| &snapshot.forwards) {
        shared
            .table
            .forward(message::StoredId(old), message::StoredId(new));
    }
    // What is whole and not proven would be adopted: it is no loss, and not told here.
    shared
        .committed
        .store(survey.tail.proven.seq, Ordering::Release);
    let replay = Replay::new(&shared, snapshot, true);
    Ok(Assessed {
        damage,
        replay,
        journal: Journal::of(shared),
    })
}

/// Names that a journal directory may hold before its FORMAT is there.
const EARLY: [&str; 8] = [
    "epochs", "fence", "lease", "lost", "standby", "seg", "snap", "streams",
];

/// A FORMAT file that has not got its name yet, and by whom.
const FORMAT_TMP: &str = "FORMAT.tmp-";

pub(crate) fn check_not_foreign(vfs: &dyn Vfs, paths: &Paths) -> Result<(), OpenError> {
    if survey::read_format(vfs, paths)?.is_some() {
        return Ok(());
    }
    let looked = look_for_foreign(vfs, paths);
    // Another node that starts at the same time may have made it a journal meanwhile.
    if looked.is_err() && survey::read_format(vfs, paths)?.is_some() {
        return Ok(());
    }
    looked
}

/// Whether a directory without FORMAT holds what is not ours, or has lost it.
fn look_for_foreign(vfs: &dyn Vfs, paths: &Paths) -> Result<(), OpenError> {
    let dir = &paths.root;
    let mut names = vfs.list(dir).map_err(OpenError::io("list", dir))?;
    names.sort_unstable();
    if let Some(found) = names.into_iter().find(|name| {
        !EARLY.contains(&name.as_str())
            && !name.starts_with(FORMAT_TMP)
            && !name.starts_with(probe::PREFIX)
    }) {
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
    let temporary = paths.root.join(format!("{FORMAT_TMP}{}", hex(&uuid)));
    let path = paths.format();
    let made = || -> io::Result<()> {
        let file = vfs.open(&temporary, Access::Create, false)?;
        file.write_at(&format.encode(), 0)?;
        file.sync()?;
        // Of two first starts at a time one names the store.
        let linked = vfs.link(&temporary, &path);
        let _ = vfs.unlink(&temporary);
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        vfs.sync_dir(&paths.root)?;
        // The directory itself may be new: its own entry has to last, too.
        paths
            .root
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .map_or(Ok(()), |p| vfs.sync_dir(p))
    };
    made().map_err(OpenError::io("create", &path))?;
    survey::read_format(vfs, paths)?
        .ok_or_else(|| Corruption::new(&path, 0, "it is gone as soon as it was made").into())
}

pub(crate) fn lost(paths: &Paths, epoch: u64) -> OpenError {
    OpenError::Lost {
        dir: paths.root.clone(),
        epoch,
    }
}

/// Sets the fence of the last epoch, whoever its writer was: from here on that epoch confirms nothing more. Only then may
/// its tail be read. It must be the one whose holder is `gone`: of another one that began meanwhile, nobody has watched the lease.
fn set_fence(vfs: &dyn Vfs, paths: &Paths, gone: u64) -> Result<(), OpenError> {
    let last = survey::read_epochs(vfs, paths)?
        .last()
        .copied()
        .unwrap_or(0);
    if last != gone {
        return Err(lost(paths, last));
    }
    if gone == 0 {
        return Ok(());
    }
    let record = survey::read_epoch(vfs, paths, gone)?;
    fence(vfs, paths, gone, &record.writer)
}

/// Sets the fence of one epoch.
pub(crate) fn fence(
    vfs: &dyn Vfs,
    paths: &Paths,
    epoch: u64,
    writer: &Uuid,
) -> Result<(), OpenError> {
    let path = paths.fence(epoch, writer);
    let file = match vfs.open(&path, Access::Write, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Corruption::new(&path, 0, "the fence of the last epoch is missing").into());
        }
        Err(error) => return Err(OpenError::io("open", &path)(error)),
    };
    file.write_durable(&fenced_block(), 0)
        .map_err(OpenError::io("write", &path))
}

/// The newest snapshot that is whole and continues the chain, and all that are kept.
pub(crate) fn choose_snapshot(
    vfs: &dyn Vfs,
    paths: &Paths,
    survey: &Survey,
    mut damage: Option<&mut Vec<Loss>>,
) -> Result<(Option<SnapshotSource>, Vec<Kept>), OpenError> {
    let mut kept = survey.snapshots.clone();
    while let Some(newest) = kept.last() {
        let path = snapshot::path_of(paths, newest);
        // Through the page cache: it is read twice, and no batch waits behind it.
        match SnapshotSource::whole(vfs, &path, false, &survey.format.store) {
            Ok(source) => {
                let fits =
                    snapshot::fits(vfs, source.position, &survey.segments, survey.tail.proven);
                if fits.map_err(read_failed)? {
                    covers(paths, survey, source.batch(), damage.as_deref_mut())?;
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
    covers(paths, survey, 0, damage)?;
    Ok((None, kept))
}

/// Every batch behind `from` is there, or was given up; else that is an error, or added to `damage`.
fn covers(
    paths: &Paths,
    survey: &Survey,
    from: u64,
    mut damage: Option<&mut Vec<Loss>>,
) -> Result<(), OpenError> {
    let mut have = from;
    let mut segments = survey.segments.iter();
    let upto = survey.tail.proven;
    while have < upto.seq {
        let next = segments.find(|segment| segment.last_seq() > have);
        let base = next.map_or(upto, |segment| segment.header.base);
        let known = |loss: &Loss| {
            let gap = loss.gap.filter(|gap| gap.offset == 0);
            gap.is_some_and(|gap| gap.follows(have) && gap.after == base)
        };
        let last = next.map_or(upto.seq, |segment| segment.last_seq());
        if base.seq <= have || survey.given_up.iter().any(known) {
            have = last;
            continue;
        }
        if let Some(damage) = damage.as_deref_mut() {
            let last_id = survey.segments.last().map(|segment| segment.id());
            let near = next.map(|segment| segment.id()).or(last_id);
            let near = near.unwrap_or_else(|| SegmentId {
                epoch: survey.last.as_ref().map_or(0, |last| last.epoch),
                number: 1,
            });
            damage.push(loss::between(&paths.segments(), have, base, near));
            have = last;
            continue;
        }
        let upto = upto.seq;
        let what = format!(
            "batches {} to {upto} are neither in a segment nor in a usable snapshot",
            have + 1
        );
        return Err(Corruption::new(&paths.segments(), 0, what).into());
    }
    Ok(())
}

pub(crate) fn share(
    vfs: Arc<dyn Vfs>,
    paths: Paths,
    config: Config,
    survey: &Survey,
    given_up: Vec<Loss>,
    lock: Option<Lock>,
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

    Arc::new(Shared {
        batch_len_hard: room.min(id::REACH - 2 * BLOCK),
        config,
        vfs,
        paths,
        store,
        writer,
        epoch: AtomicU64::new(epoch),
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
        snapshot_bytes: AtomicU64::new(0),
        replayed: Mutex::default(),
        snapshots: Mutex::default(),
        pins: Mutex::default(),
        evacuations: Mutex::default(),
        leftover: Mutex::default(),
        space: Mutex::new(Space::Ok(Free { free: 0, total: 0 })),
        place: Place::default(),
        snapshot_len: AtomicU64::new(0),
        lock: Mutex::new(lock),
        health: Mutex::default(),
        damaged: Mutex::default(),
        given_up,
        lease_until: AtomicU64::new(0),
        alive_at: AtomicU64::new(0),
        hands_over: AtomicBool::new(false),
        lease_wakers: Mutex::default(),
        standby_near: AtomicBool::new(false),
        standbys: Mutex::default(),
        stopping: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        opened_at: AtomicU64::new(committed),
        told: ToldTime::default(),
    })
}
