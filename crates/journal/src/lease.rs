//! The lease: whether the holder of an epoch lives, and until when it may show anything to anyone.
//!
//! Safety does not rest on it (that is the fence's): it says *when* to take over, and it closes the mouth of a holder that
//! was frozen. The holder writes its slot, then reads its fence, and from *before* the write on shows deliveries and soft
//! traffic for as long as the slot says; whoever has watched the slot stand still for five quarters of that may take its
//! place without two nodes talking at once. Who set the fence looks once more: between the last look and the fence any time may have
//! passed, and a lease that was renewed in it is waited for. Renewed only by a completed write: a holder whose disk hangs lets it lapse.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::aligned::Aligned;
use crate::batch::BLOCK;
use crate::config::Config;
use crate::error::OpenError;
use crate::layout::{EpochRecord, LeaseSlot, Paths, StandbySlot, Uuid};
use crate::room;
use crate::shared::Shared;
use crate::survey;
use crate::vfs::{Access, Vfs};

/// How long the lease of a holder lasts that knows of no standby, in ms.
pub(crate) const ALONE_MS: u64 = 4_000;
/// For how long a standby counts as near whose file stands still, in ms. It writes every second.
const NEAR_MS: u64 = 4_000;
/// After how long its file is removed, in ms.
const FORGOTTEN_MS: u64 = 120_000;

/// For how long a renewal that was answered may arrive once more and take the place of later ones, in ms. A network and a server that answer
/// others meanwhile keep a copy for far less; and all that a longer time costs is that a lease which got longer is renewed more often for it.
const AGAIN_MS: u64 = 30_000;

/// Time that does not stop in suspend and that nobody sets, in ms since the machine started.
pub fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000
        + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// How long a slot must stand still before its holder counts as gone, in ms.
pub(crate) fn patience_ms(slot: &LeaseSlot) -> u64 {
    let lasts = if slot.lasts_ms == 0 {
        ALONE_MS
    } else {
        slot.lasts_ms
    };
    if mutated!(ShortPatience) {
        return lasts / 2;
    }
    lasts + lasts / 4
}

/// For how long a lease counts: as long as the shortest renewal says that may yet be read.
pub(crate) struct LeaseCounts {
    /// What that renewal says, in ms.
    pub(crate) ms: u64,
    /// Until then it may arrive once more, by the boot clock.
    until_ms: u64,
}

impl Default for LeaseCounts {
    /// There is none.
    fn default() -> Self {
        Self {
            ms: u64::MAX,
            until_ms: 0,
        }
    }
}

impl LeaseCounts {
    /// For how long a renewal counts that says `lasts_ms`.
    pub(crate) const fn with(&self, lasts_ms: u64, now_ms: u64) -> u64 {
        if now_ms < self.until_ms && self.ms < lasts_ms {
            return self.ms;
        }
        lasts_ms
    }

    /// A renewal was written that says so, and none that says less may arrive again.
    pub(crate) const fn from_now(ms: u64, now_ms: u64) -> Self {
        Self {
            ms,
            until_ms: now_ms + AGAIN_MS,
        }
    }
}

/// Reads the newest slot of an epoch's lease past the page cache, if `direct`.
pub(crate) fn read_slot(
    vfs: &dyn Vfs,
    paths: &Paths,
    epoch: u64,
    writer: &Uuid,
    direct: bool,
) -> Result<Option<LeaseSlot>, OpenError> {
    let path = paths.lease(epoch, writer);
    let file = match vfs.open(&path, Access::Read, direct) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("open", &path)(error)),
    };
    let mut bytes = Aligned::zeroed(2 * BLOCK);
    let n = file
        .read_at(&mut bytes, 0)
        .map_err(OpenError::io("read", &path))?;
    Ok(LeaseSlot::newest(&bytes[..n]))
}

/// The last epoch, whose holder counts as gone.
#[derive(Default)]
pub(crate) struct Gone {
    /// 0 in a new journal. It is this one, and no later one, that may be taken over from.
    pub(crate) epoch: u64,
    writer: Uuid,
    /// What its lease said when that was found.
    slot: LeaseSlot,
    /// When its holder last said that it lived, by its own time; 0 if nobody knows.
    pub(crate) seen_ms: u64,
}

/// When the holder of an epoch last said that it lived, by its own time; 0 if that is not known.
pub(crate) const fn seen_ms(slot: &LeaseSlot, record: &EpochRecord) -> u64 {
    if slot.counter == 0 {
        // It ended before its first renewal.
        record.wall_ms
    } else {
        slot.time_ms
    }
}

/// Refuses a clock that is too far from when the last holder of the journal lived. Ahead of it everything with a time to live would
/// be over; behind it the node's time would go on from there, slowly, and be another one than the clock's for long.
pub(crate) fn check_clock(
    paths: &Paths,
    config: &Config,
    clock_ms: u64,
    seen_ms: u64,
) -> Result<(), OpenError> {
    if seen_ms == 0 || clock_ms.abs_diff(seen_ms) <= config.clock_off_max_ms {
        return Ok(());
    }
    Err(OpenError::Clock {
        dir: paths.root.clone(),
        clock_ms,
        seen_ms,
    })
}

/// Refuses to go on while the holder of the last epoch lives. On a local file system its lock says so at once; elsewhere a
/// lock proves nothing, and the lease must stand still first: this waits for it.
pub(crate) fn refuse_if_held(vfs: &dyn Vfs, paths: &Paths) -> Result<Gone, OpenError> {
    let Some(&last) = survey::read_epochs(vfs, paths)?.last() else {
        return Ok(Gone::default());
    };
    let record = survey::read_epoch(vfs, paths, last)?;
    let writer = record.writer;
    let remote = vfs.is_remote(&paths.root);
    let read = || read_slot(vfs, paths, last, &writer, remote);
    let slot = read()?.unwrap_or_default();
    let gone = Gone {
        epoch: last,
        writer,
        seen_ms: seen_ms(&slot, &record),
        slot,
    };
    if gone.slot.ended {
        return Ok(gone);
    }
    let held = if remote {
        vfs.wait(Duration::from_millis(patience_ms(&gone.slot)));
        !mutated!(NoSecondLook) && read()?.unwrap_or_default() != gone.slot
    } else {
        is_locked(vfs, paths, (last, &writer))?
    };
    if held {
        let holder = match gone.slot.pid {
            0 => String::new(),
            pid => format!(" (pid {pid})"),
        };
        return Err(OpenError::Held {
            dir: paths.root.clone(),
            holder,
        });
    }
    Ok(gone)
}

/// Whether the holder of an epoch has its lease locked. On a local file system it lives then, and else it does not.
fn is_locked(
    vfs: &dyn Vfs,
    paths: &Paths,
    (epoch, writer): (u64, &Uuid),
) -> Result<bool, OpenError> {
    let path = paths.lease(epoch, writer);
    match vfs.lock(&path) {
        Ok(lock) => Ok(lock.is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OpenError::io("lock", &path)(error)),
    }
}

/// The fence of that epoch is set. Its holder may have renewed the lease after it was last looked at, however short a time ago this
/// process thinks that was; then it is waited for.
pub(crate) fn look_behind_fence(
    vfs: &dyn Vfs,
    paths: &Paths,
    gone: &Gone,
) -> Result<(), OpenError> {
    // Elsewhere its lock was free.
    if gone.epoch == 0 || !vfs.is_remote(&paths.root) || mutated!(NoSecondLook) {
        return Ok(());
    }
    let slot = read_slot(vfs, paths, gone.epoch, &gone.writer, true)?.unwrap_or_default();
    outlast(vfs, paths, (gone.epoch, &gone.writer), &gone.slot, &slot)
}

/// Waits for the end of a lease that was renewed between when it was `seen` and `now`, with the fence set in between. Nothing makes it
/// longer any more: a renewal counts only if its holder found the fence clear behind it, and so it can be read here.
///
/// What would hide it is the renewal in front of the one that was seen, if that arrives again between this look and the hidden one, whose
/// place it has; of two hidden ones both need such luck. Both slots are then what they were, so no further look and no other order of looks
/// tells. Only to wait for a whole lease behind each fence would, and every takeover between two machines would take that much longer.
///
/// A write that was answered arrives again only where the protocol lets it: with NFS 3 and 4.0, whose servers remember for a while whom they
/// answered. From 4.1 on a slot of a session takes each number once, and a session ends with its server: mounted as config/PAIR.md asks, this
/// does not happen. Where it does, the one who was succeeded shows for what is left of its lease what its successor may show too; it
/// confirms nothing.
pub(crate) fn outlast(
    vfs: &dyn Vfs,
    paths: &Paths,
    (epoch, writer): (u64, &Uuid),
    seen: &LeaseSlot,
    now: &LeaseSlot,
) -> Result<(), OpenError> {
    if now.ended || now.counter == seen.counter {
        return Ok(());
    }
    if mutated!(NoLookBehindFence) {
        return Ok(());
    }
    if !vfs.is_remote(&paths.root) && !is_locked(vfs, paths, (epoch, writer))? {
        // Nobody is left who could show anything.
        return Ok(());
    }
    tracing::info!(
        epoch,
        "the lease was renewed just before the fence was set: it is waited for"
    );
    vfs.wait(Duration::from_millis(patience_ms(now)));
    Ok(())
}

/// A standby as the holder of the lease sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbySeen {
    /// Its process: sixteen random bytes.
    pub node: [u8; 16],
    /// The last batch that it has applied.
    pub applied: u64,
    /// The epoch that it follows.
    pub epoch: u64,
    /// It could take over.
    pub ready: bool,
    /// How long ago its file was seen to move, in ms.
    pub seen_ms_ago: u64,
    /// What it says of itself.
    pub note: Vec<u8>,
}

/// A standby's file, and when it was last seen to move.
pub(crate) struct Watched {
    node: Uuid,
    slot: StandbySlot,
    moved_at: u64,
}

impl Shared {
    /// How long the lease lasts that the next renewal writes, in ms.
    pub(crate) fn lease_lasts_ms(&self) -> u64 {
        if self.standby_near.load(Ordering::Acquire) {
            self.config.lease_ms
        } else {
            ALONE_MS
        }
    }

    /// Looks at the files of the standbys: with one near, the lease is renewed more often. For one that has yet to come there is room.
    pub(crate) fn look_at_standbys(&self, now_ms: u64) {
        room::keep(self);
        let dir = self.paths.standbys();
        let names = match self.vfs.list(&dir) {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "failed to look for standbys");
                return;
            }
        };
        let mut watched = self.standbys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for name in names {
            let Some(node) = parse_node(&name).filter(|node| *node != self.writer) else {
                continue;
            };
            let file = survey::read_small(&*self.vfs, &dir.join(&name));
            let Some(slot) = file
                .ok()
                .flatten()
                .and_then(|file| StandbySlot::newest(&file))
            else {
                continue;
            };
            let before = watched.iter().find(|known| known.node == node);
            let moved_at = match before {
                Some(known) if known.slot.counter == slot.counter => known.moved_at,
                // Of a file that was there before, nobody knows how old it is: it must move first.
                None => now_ms.saturating_sub(NEAR_MS + 1),
                Some(_) => now_ms,
            };
            let still = now_ms.saturating_sub(moved_at);
            if slot.ended || still > FORGOTTEN_MS {
                let _ = self.vfs.unlink(&dir.join(&name));
                continue;
            }
            found.push(Watched {
                node,
                slot,
                moved_at,
            });
        }
        let near = found
            .iter()
            .any(|standby| now_ms.saturating_sub(standby.moved_at) <= NEAR_MS);
        *watched = found;
        drop(watched);
        if self.standby_near.swap(near, Ordering::AcqRel) != near {
            match near {
                true => tracing::info!("a standby is there"),
                false => tracing::info!("no standby is there any more"),
            }
            // The lease is due sooner, or later.
            self.work.notify_all();
        }
    }

    /// The standbys that are near.
    pub(crate) fn standbys_seen(&self, now_ms: u64) -> Vec<StandbySeen> {
        let watched = self.standbys.lock().unwrap_or_else(PoisonError::into_inner);
        watched
            .iter()
            .map(|standby| StandbySeen {
                node: standby.node,
                applied: standby.slot.applied,
                epoch: standby.slot.epoch,
                ready: standby.slot.ready,
                seen_ms_ago: now_ms.saturating_sub(standby.moved_at),
                note: standby.slot.note.clone(),
            })
            .filter(|standby| standby.seen_ms_ago <= NEAR_MS)
            .collect()
    }

    /// The lease is good until then: whoever waited to show something may go on.
    pub(crate) fn renewed(&self, until_ms: u64) {
        self.lease_until.store(until_ms, Ordering::Release);
        let wakers = std::mem::take(
            &mut *self
                .lease_wakers
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for waker in wakers.into_values() {
            waker.wake();
        }
    }
}

fn parse_node(name: &str) -> Option<Uuid> {
    (name.len() == 32)
        .then(|| u128::from_str_radix(name, 16).ok())
        .flatten()
        .map(u128::to_be_bytes)
}

/// Writes a standby's own file, in which it says that it is there. For a thread of its own: a write may take long, and what
/// the standby does meanwhile is not to wait for it.
#[derive(Clone)]
pub struct Registrar {
    vfs: Arc<dyn Vfs>,
    paths: Paths,
    direct: bool,
    node: Uuid,
    slot: Arc<Mutex<StandbySlot>>,
}

impl Registrar {
    pub(crate) fn new(shared: &Shared) -> Self {
        let slot = StandbySlot {
            note: shared.config.note.clone(),
            ..StandbySlot::default()
        };
        Self {
            vfs: Arc::clone(&shared.vfs),
            paths: shared.paths.clone(),
            direct: shared.direct,
            node: shared.writer,
            slot: Arc::new(Mutex::new(slot)),
        }
    }

    /// What the next write says.
    pub(crate) fn set(&self, epoch: u64, applied: u64, ready: bool) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.epoch = epoch;
        slot.applied = applied;
        slot.ready = ready;
    }

    /// Writes the next slot, durably: also the proof that this node can write.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self) -> std::io::Result<()> {
        let slot = {
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.counter += 1;
            slot.clone()
        };
        let path = self.paths.standby(&self.node);
        let file = match self.vfs.open(&path, Access::Write, self.direct) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.vfs
                    .create_zeroed(&path, 2 * BLOCK as u64, self.direct)?;
                self.vfs.open(&path, Access::Write, self.direct)?
            }
            opened => opened?,
        };
        let mut block = Aligned::zeroed(BLOCK);
        block.copy_from_slice(&slot.encode());
        file.write_durable(&block, (slot.counter % 2) * BLOCK as u64)
    }

    /// Takes the file away.
    pub fn remove(&self) {
        let _ = self.vfs.unlink(&self.paths.standby(&self.node));
    }
}
