//! Segments prepared ahead, so that a roll never waits; the reserve for a full disk (RULES 23).
//!
//! A spare has its final name and a zero header: at a start of another incarnation it is garbage. It is zero-filled by
//! really writing zeros, or is a segment of this very incarnation whose records are dead (RULES 16).

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::aligned::Aligned;
use crate::batch::BLOCK;
use crate::error::Failure;
use crate::journal::Space;
use crate::segment::{Segment, salt_of};
use crate::shared::Shared;
use crate::vfs::{Access, VfsFile};

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
    pub(crate) next_number: u64,
    /// Whether the reserve file is there.
    pub(crate) reserve: bool,
    /// A thread prepares spares; else whoever needs one makes it.
    pub(crate) background: bool,
    /// The writer waits for one.
    pub(crate) wanted: bool,
    /// One was used: from then on all that are configured are kept ready, before that a single one, so that a start is cheap.
    pub(crate) taken: bool,
    /// The last attempt to make one failed.
    pub(crate) stuck: bool,
}

/// The spares of one incarnation.
pub(crate) struct Spares {
    ready: Mutex<Ready>,
    /// One preparation at a time; `ready` is free meanwhile.
    making: Mutex<()>,
    pub(crate) changed: Condvar,
}

impl Spares {
    pub(crate) fn new(next_number: u64) -> Self {
        Self {
            ready: Mutex::new(Ready {
                spares: VecDeque::new(),
                next_number,
                reserve: false,
                background: false,
                wanted: false,
                taken: false,
                stuck: false,
            }),
            making: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next spare, waiting for it if a thread makes them.
pub(crate) fn take(shared: &Shared) -> Result<Spare, Failure> {
    let mut ready = shared.spares.lock();
    loop {
        if let Some(spare) = ready.spares.pop_front() {
            ready.wanted = false;
            ready.taken = true;
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
            let waited = shared
                .spares
                .changed
                .wait_timeout(ready, Duration::from_millis(200));
            (ready, _) = waited.unwrap_or_else(PoisonError::into_inner);
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

/// Makes one spare if one is missing. True if it did. With the disk full the reserve is given up for it, in pieces
/// no larger than the first segment, as only small records are written then.
pub(crate) fn prepare_one(shared: &Shared) -> io::Result<bool> {
    let _one_at_a_time = shared
        .spares
        .making
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let (number, wanted) = {
        let ready = shared.spares.lock();
        let ahead = if ready.taken {
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
    let mut len = shared.config.segment_len;
    let mut made = shared.vfs.create_zeroed(&path, len, shared.direct);
    if wanted && made.as_ref().is_err_and(is_full) {
        len = shared.config.first_segment_len;
        made = shared.vfs.create_zeroed(&path, len, shared.direct);
        if made.as_ref().is_err_and(is_full) && give_up_reserve(shared) {
            made = shared.vfs.create_zeroed(&path, len, shared.direct);
        }
    }
    made?;
    shared.vfs.sync_dir(&shared.paths.segments())?;
    let file = shared.vfs.open(&path, Access::Write, shared.direct)?;
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

fn add(shared: &Shared, spare: Spare) {
    let mut ready = shared.spares.lock();
    ready.next_number = spare.number + 1;
    ready.stuck = false;
    ready.spares.push_back(spare);
    drop(ready);
    shared.spares.changed.notify_all();
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Unlinks the reserve. False if there is none.
pub(crate) fn give_up_reserve(shared: &Shared) -> bool {
    let had = std::mem::take(&mut shared.spares.lock().reserve);
    if had {
        tracing::warn!("the disk is full: the reserve is given up for settling");
        let _ = shared.vfs.unlink(&shared.paths.reserve(&shared.writer));
    }
    had
}

/// Makes the reserve file if it is not there and there is plenty of room.
pub(crate) fn make_reserve(shared: &Shared) {
    let room = matches!(
        *shared.space.lock().unwrap_or_else(PoisonError::into_inner),
        Space::Ok(_)
    );
    if shared.config.reserve_len == 0 || !room || shared.spares.lock().reserve {
        return;
    }
    let path = shared.paths.reserve(&shared.writer);
    match shared.vfs.allocate(&path, shared.config.reserve_len) {
        Ok(()) => shared.spares.lock().reserve = true,
        Err(error) if is_full(&error) => {}
        Err(error) => tracing::warn!(%error, "failed to make the reserve"),
    }
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
    let number = {
        let ready = shared.spares.lock();
        if ready.spares.len() > shared.config.segments_ahead {
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
