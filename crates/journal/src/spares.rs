//! Segments prepared ahead, so that a roll never waits; the reserve for a full disk (RULES 23).
//!
//! A spare has its final name and a zero header: at a start of another incarnation it is garbage. It is zero-filled by
//! really writing zeros, or is a segment of this very incarnation whose records are dead (RULES 16): of those more are kept than are to be
//! ready, the hoard, as some ten die at once where much is written. It goes when nobody needs it, and before the disk is full.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::aligned::Aligned;
use crate::batch::BLOCK;
use crate::error::Failure;
use crate::segment::{Segment, salt_of};
use crate::shared::Shared;
use crate::vfs::{Access, VfsFile};

/// Spares that are kept at most, in bytes. Not one of the hoard is while less is free above the level at which publishes are refused.
pub(crate) const HOARD_BYTES_MAX: u64 = 1 << 30;
/// And how many: each is open, and unlinked one by one when the next node takes over.
const HOARD_MAX: usize = 16;
/// How often who waits for a spare looks for one.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A segment that waits to be used.
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) len: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn VfsFile>,
}

pub(crate) struct Ready {
    pub(crate) spares: VecDeque<Spare>,
    /// One above that of the last spare.
    pub(crate) next_number: u64,
    /// The fewest spares that there were since somebody looked for those that nobody needs.
    fewest: usize,
    /// Bytes of the reserve file, 0 if there is none.
    pub(crate) reserve: u64,
    /// A thread prepares spares; else whoever needs one makes it.
    pub(crate) background: bool,
    /// The writer waits for one.
    pub(crate) wanted: bool,
    /// One was used: from then on all that are configured are kept ready, before that a single one, so that a start is cheap.
    pub(crate) taken: bool,
    /// The last attempt to make one failed, for want of room or otherwise.
    pub(crate) stuck: bool,
}

impl Ready {
    /// The bytes of all spares.
    pub(crate) fn len(&self) -> u64 {
        self.spares.iter().map(|spare| spare.len).sum()
    }
}

/// The spares of one incarnation.
pub(crate) struct Spares {
    ready: Mutex<Ready>,
    /// One preparation at a time; `ready` is free meanwhile.
    making: Mutex<()>,
    /// One changes the reserve at a time. Taken under `making`, never the other way round.
    reserving: Mutex<()>,
    pub(crate) changed: Condvar,
}

impl Spares {
    pub(crate) fn new(next_number: u64) -> Self {
        Self {
            ready: Mutex::new(Ready {
                spares: VecDeque::new(),
                next_number,
                fewest: 0,
                reserve: 0,
                background: false,
                wanted: false,
                taken: false,
                stuck: false,
            }),
            making: Mutex::new(()),
            reserving: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next spare, waiting for it if a thread makes them. `lives` is called again and again while one is being made: so that who waits
/// can say that it lives. Not while there is no room for one: whoever comes may have some.
pub(crate) fn take(shared: &Shared, lives: &mut dyn FnMut()) -> Result<Spare, Failure> {
    let mut ready = shared.spares.lock();
    loop {
        if let Some(spare) = ready.spares.pop_front() {
            ready.wanted = false;
            ready.taken = true;
            ready.fewest = ready.fewest.min(ready.spares.len());
            shared.place.begun(spare.len);
            shared.spares.changed.notify_all();
            return Ok(spare);
        }
        if let Some(failure) = shared.failure.get() {
            return Err(failure.clone());
        }
        if ready.background {
            // Nobody will wait for the disk to be emptied while the process ends: what is staged was never confirmed.
            if ready.stuck && shared.closing.load(Ordering::Acquire) {
                return Err(Failure::Closed);
            }
            if !ready.wanted {
                ready.wanted = true;
                shared.spares.changed.notify_all();
            }
            let waited = shared.spares.changed.wait_timeout(ready, LOOK_EVERY);
            (ready, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if ready.spares.is_empty() && !ready.stuck {
                drop(ready);
                lives();
                ready = shared.spares.lock();
            }
        } else {
            drop(ready);
            prepare_one(shared).map_err(|error| Failure::Write {
                path: shared.paths.segments(),
                why: error.to_string(),
            })?;
            ready = shared.spares.lock();
        }
    }
}

/// Makes one spare if one is missing. True if it did. With the disk full there is one at most, no larger than the first
/// segment, as only small records are written then: of what is free beside a snapshot's room, or of the reserve.
pub(crate) fn prepare_one(shared: &Shared) -> io::Result<bool> {
    let _one_at_a_time = shared
        .spares
        .making
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let (number, wanted) = {
        let ready = shared.spares.lock();
        let ahead = if ready.taken && !shared.place.low.load(Ordering::Acquire) {
            shared.config.segments_ahead
        } else {
            1
        };
        if ready.spares.len() >= ahead {
            return Ok(false);
        }
        (ready.next_number, ready.spares.is_empty())
    };
    let salt = salt_of(&shared.writer, shared.epoch(), number);
    let path = shared.paths.segment(shared.epoch(), number, salt);
    let len = create(shared, &path, wanted)?;
    shared.vfs.sync_dir(&shared.paths.segments())?;
    let file = shared.vfs.open(&path, Access::Write, shared.direct)?;
    shared.place.took(len);
    add(
        shared,
        Spare {
            number,
            salt,
            len,
            path,
            file,
        },
    );
    Ok(true)
}

/// Creates the file of a spare, `wanted` if there is no other. Returns its length.
fn create(shared: &Shared, path: &Path, wanted: bool) -> io::Result<u64> {
    let made = |len| match shared.vfs.create_zeroed(path, len, shared.direct) {
        // Left by a try that failed behind this: the name is nobody else's, and nothing was written there.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            shared.vfs.unlink(path)?;
            shared.vfs.create_zeroed(path, len, shared.direct)
        }
        made => made,
    };
    let zeroed = |len| match leaves_room(shared, len) {
        true => made(len),
        false => Err(io::ErrorKind::StorageFull.into()),
    };
    let len = shared.config.segment_len;
    let whole = zeroed(len);
    if !wanted || !whole.as_ref().is_err_and(is_full) {
        return whole.map(|()| len);
    }
    let len = shared.config.first_segment_len;
    let mut small = zeroed(len);
    if small.as_ref().is_err_and(is_full) && give_up_reserve(shared, len) {
        small = made(len);
    }
    small.map(|()| len)
}

/// Whether a snapshot finds room beside a file of this length: without one no segment is ever given back.
fn leaves_room(shared: &Shared, len: u64) -> bool {
    if shared.place.free.load(Ordering::Acquire) >= len {
        return true;
    }
    let needed = len + shared.snapshot_need();
    let found = shared.vfs.space(&shared.paths.root);
    found.map_or(true, |found| found.free >= needed)
}

fn add(shared: &Shared, spare: Spare) {
    let mut ready = shared.spares.lock();
    ready.next_number = spare.number + 1;
    ready.stuck = false;
    shared.place.prepared(spare.len);
    ready.spares.push_back(spare);
    drop(ready);
    shared.spares.changed.notify_all();
}

/// Whether it is for want of room: on the disk, in a quota, or below the size at which the process's files end (`RLIMIT_FSIZE`), of which
/// smaller files may still be made.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Gives so many bytes of the reserve back to the file system. False if there is none.
pub(crate) fn give_up_reserve(shared: &Shared, len: u64) -> bool {
    let _one_at_a_time = shared
        .spares
        .reserving
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let had = std::mem::take(&mut shared.spares.lock().reserve);
    if had == 0 {
        return false;
    }
    let left = had.saturating_sub(len);
    tracing::warn!(
        left,
        "the disk is full: of the reserve is taken what emptying it needs"
    );
    let path = shared.paths.reserve(&shared.writer);
    let _ = shared.vfs.unlink(&path);
    if left > 0 && shared.vfs.allocate(&path, left).is_ok() {
        shared.spares.lock().reserve = left;
    }
    // Until it is whole again publishes are refused, also where a quota ended and the disk has room.
    shared.place.short.store(true, Ordering::Release);
    shared.check_space();
    true
}

/// Makes the reserve file, or makes it whole, if the disk is not low without it. Where a quota refuses that, publishes are refused too: they
/// would use up what is left, and then nothing could be deleted.
pub(crate) fn make_reserve(shared: &Shared) {
    let _one_at_a_time = shared
        .spares
        .reserving
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let held = shared.spares.lock().reserve;
    if held >= shared.config.reserve_len || !shared.has_room_for_reserve() {
        return;
    }
    let path = shared.paths.reserve(&shared.writer);
    // Whatever is there: what is not known of would be in the way for ever.
    let _ = shared.vfs.unlink(&path);
    let whole = shared.config.reserve_len;
    for len in [whole, held].into_iter().filter(|len| *len > 0) {
        let made = shared.vfs.allocate(&path, len);
        shared.spares.lock().reserve = if made.is_ok() { len } else { 0 };
        match made {
            Ok(()) => {
                shared.place.short.store(len < whole, Ordering::Release);
                break;
            }
            Err(error) if is_full(&error) => shared.place.short.store(true, Ordering::Release),
            Err(error) => tracing::warn!(%error, "failed to make the reserve"),
        }
    }
    shared.check_space();
}

/// How many spares are kept whether anyone needs them or not: those that are to be ready, and one that died, which saves the next one's
/// zeros.
fn always_kept(shared: &Shared) -> usize {
    shared.config.segments_ahead + 1
}

/// Whether there is room for more. On a remote file system there is none: a name of the hoard may come twice, and an answer to the first
/// unlink that is lost has it asked again, when the second file of that name is in use.
fn may_hoard(shared: &Shared) -> bool {
    shared.place.free.load(Ordering::Acquire) >= HOARD_BYTES_MAX
        && !shared.vfs.is_remote(&shared.paths.root)
}

/// Unlinks spares of the hoard that nobody needed since the last time.
pub(crate) fn give_back_unneeded(shared: &Shared) {
    give_back(shared, |ready| ready.fewest);
}

/// Unlinks the hoard, if there is no room for it any more.
pub(crate) fn give_back_for_want_of_room(shared: &Shared) {
    if shared.spares.lock().spares.len() > always_kept(shared) && !may_hoard(shared) {
        give_back_hoard(shared);
    }
}

/// Unlinks the hoard. False if there is none.
pub(crate) fn give_back_hoard(shared: &Shared) -> bool {
    give_back(shared, |ready| ready.spares.len())
}

/// Unlinks as many as are not needed, but for those that are always kept.
fn give_back(shared: &Shared, unneeded: impl FnOnce(&Ready) -> usize) -> bool {
    let always = always_kept(shared);
    {
        let mut ready = shared.spares.lock();
        if ready.spares.len() <= always {
            ready.fewest = ready.spares.len();
            return false;
        }
    }
    // Nobody makes one meanwhile: their numbers have no gaps, and those of the last are given once more.
    let _one_at_a_time = shared
        .spares
        .making
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let gone = {
        let mut ready = shared.spares.lock();
        let there = ready.spares.len();
        let unneeded = unneeded(&ready).min(there).saturating_sub(always);
        let gone = ready.spares.split_off(there - unneeded);
        if let Some(first) = gone.front() {
            ready.next_number = first.number;
        }
        ready.fewest = ready.spares.len();
        gone
    };
    let any = !gone.is_empty();
    for Spare {
        len, path, file, ..
    } in gone
    {
        shared.place.unprepared(len);
        drop(file);
        match shared.vfs.unlink(&path) {
            Ok(()) => {
                shared.counters.unlinked.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Who makes the next one of that number is rid of it.
            Err(error) => tracing::warn!(%error, "failed to unlink a spare segment"),
        }
    }
    any
}

/// Makes a spare of a dead segment of this incarnation. False if it is not wanted; then it is unlinked.
pub(crate) fn recycle(shared: &Shared, segment: &Segment) -> io::Result<bool> {
    let _one_at_a_time = shared
        .spares
        .making
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    // RULES 16: what another incarnation created is never written again.
    if !segment.own && !mutated!(RecycleClosedSegment)
        || segment.header.len != shared.config.segment_len
    {
        return Ok(false);
    }
    let hoards = may_hoard(shared);
    let number = {
        let ready = shared.spares.lock();
        let hoards = hoards
            && ready.spares.len() < HOARD_MAX
            && ready.len() + segment.header.len <= HOARD_BYTES_MAX;
        if ready.spares.len() >= always_kept(shared) && !hoards {
            return Ok(false);
        }
        ready.next_number
    };
    let salt = salt_of(&shared.writer, shared.epoch(), number);
    let path = shared.paths.segment(shared.epoch(), number, salt);
    let file = shared
        .vfs
        .open(&segment.path, Access::Write, shared.direct)?;
    // Without its header it is nobody's segment; the old batches never validate under another salt.
    file.write_durable(&Aligned::zeroed(BLOCK), 0)?;
    shared.vfs.rename(&segment.path, &path)?;
    shared.vfs.sync_dir(&shared.paths.segments())?;
    shared.counters.recycled.fetch_add(1, Ordering::Relaxed);
    add(
        shared,
        Spare {
            number,
            salt,
            len: segment.header.len,
            path,
            file,
        },
    );
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::vfs::MemVfs;

    #[test]
    fn who_waits_for_a_segment_says_that_it_lives_unless_there_is_no_room_for_one() {
        let config = crate::Config {
            segment_len: 64 << 10,
            first_segment_len: 64 << 10,
            ..crate::Config::default()
        };
        let vfs = Arc::new(MemVfs::new(false));
        let (opened, mut engine) =
            crate::open_stepped(vfs, Path::new("/j"), config, 1, [1; 16]).expect("it opens");
        let shared = opened.journal.shared();
        shared.spares.lock().background = true;
        let mut lived = 0;
        let taken = take(shared, &mut || {
            lived += 1;
            assert!(engine.prepare());
        });
        assert_eq!((taken.is_ok(), lived), (true, 1));
        // Whoever has room may take over.
        shared.spares.lock().stuck = true;
        let fails = std::thread::spawn({
            let shared = Arc::clone(shared);
            move || {
                std::thread::sleep(3 * LOOK_EVERY);
                shared.fail(Failure::Closed);
            }
        });
        let taken = take(shared, &mut || panic!("there is no room"));
        assert!(taken.is_err());
        fails.join().expect("it failed it");
    }
}
