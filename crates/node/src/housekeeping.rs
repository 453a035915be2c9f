//! The background thread that bounds recovery and gives space back.
//!
//! A snapshot is made as a standby would make it: load the last one, replay the committed batches, write, free. The live
//! core is never walked (invariant: *one snapshot maker*). With a standby near, that one makes them. Then records of streams
//! that a snapshot covers are copied into stream files, if there are enough of them. Then sparse segments are emptied by
//! moving what is still referred to, and what nobody refers to is given back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use broker::{Change, RecordKind};
use bytes::Bytes;
use journal::{Journal, SegmentId};
use message::{StoredId, Timestamp};

use crate::{
    node::Shared,
    recovery::{self, Stoppable, Unreplayed},
    step::{BODY_PART, Core, Step},
    stream_files::Filer,
};

/// How often there is a look at whether something is to be done.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Records asked about in one hold of the lock.
const ASKED_MAX: usize = 128;
/// And bytes of them.
const ASKED_BYTES_MAX: usize = 512 * 1024;
/// How often there is a look at whether the journal has room for survivors.
const ROOM_EVERY: Duration = Duration::from_millis(1);

/// How long after a snapshot that failed there is another try, in ms: each replays the journal.
const SNAPSHOT_RETRY_MS: u64 = 10_000;

/// How often there is a snapshot for the sake of space, in ms.
const SNAPSHOT_WHEN_LOW_MS: u64 = 10_000;

/// Both, while the journal has no segment left to go on in.
const SNAPSHOT_WHEN_PRESSED_MS: u64 = 1_000;

/// For how long a sparse segment is watched before it is emptied, in ms: one whose messages are being taken is soon empty by itself.
const WATCHED_MS: u64 = 2_000;
/// So many of those times its messages may take to be gone at the pace at which they go.
const GONE_WITHIN: u64 = 8;

/// How often there is a look for snapshots that a standby has made while none is due, in ms. Once one is, each turn looks.
const ADOPT_EVERY_MS: u64 = 2_000;

/// How often there is a look for segments that are kept for use again and that nobody needs, in ms.
const GIVE_BACK_EVERY_MS: u64 = 60_000;

/// The thread.
pub(crate) fn run(shared: &Shared, config: &broker::Config) {
    let mut housekeeper = Housekeeper::new(shared, config.clone());
    while !shared.stopping.load(Ordering::Acquire) && shared.journal.failure().is_none() {
        housekeeper.turn(shared, &mut || std::thread::park_timeout(ROOM_EVERY));
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// See the module.
pub(crate) struct Housekeeper {
    config: broker::Config,
    /// When the last snapshot failed.
    failed: Option<Timestamp>,
    made: Timestamp,
    /// When there was a look for those of a standby.
    adopted: Timestamp,
    /// When there was a look for segments that nobody needs.
    gave_back: Timestamp,
    filer: Filer,
    watched: Watched,
}

/// Sparse segments, and how many references there were to them, and when.
#[derive(Default)]
struct Watched(BTreeMap<SegmentId, (u64, Timestamp)>);

impl Watched {
    /// Forgets segments that are no longer sparse.
    fn keep(&mut self, sparse: &[(SegmentId, u64)]) {
        let sparse: BTreeSet<_> = sparse.iter().map(|(id, _)| *id).collect();
        self.0.retain(|segment, _| sparse.contains(segment));
    }

    /// Whether a segment to which there are `live` references keeps them: they did not go, or go too slowly to be waited for.
    fn is_still(&mut self, segment: SegmentId, live: u64, now: Timestamp) -> bool {
        let (before, since) = *self.0.entry(segment).or_insert((live, now));
        if now.since(since) < WATCHED_MS {
            return false;
        }
        if before.saturating_sub(live) * GONE_WITHIN < before {
            return true;
        }
        self.0.insert(segment, (live, now));
        false
    }
}

impl Housekeeper {
    pub(crate) fn new(shared: &Shared, config: broker::Config) -> Self {
        Self {
            config,
            failed: None,
            made: shared.clock.now(),
            adopted: shared.clock.now(),
            gave_back: shared.clock.now(),
            filer: Filer::default(),
            watched: Watched::default(),
        }
    }

    /// Does what is to be done. `wait` lets the journal commit, so that there is room for survivors.
    pub(crate) fn turn(&mut self, shared: &Shared, wait: &mut dyn FnMut()) {
        let now = shared.clock.now();
        let pause = |usual| match shared.journal.is_pressed() {
            true => SNAPSHOT_WHEN_PRESSED_MS,
            false => usual,
        };
        let rests = self
            .failed
            .is_some_and(|at| now.since(at) < pause(SNAPSHOT_RETRY_MS));
        // A standby makes them, from a core that it has already; a second one in time shows that it does not.
        let standby = shared.standbys().iter().any(|other| other.ready);
        let wanted = shared.journal.snapshots_due() >= 1;
        if standby && (wanted || now.since(self.adopted) >= ADOPT_EVERY_MS) {
            self.adopted = now;
            shared.journal.adopt_snapshots();
        }
        let missed = u64::from(standby);
        let due = shared.journal.snapshots_due() > missed
            || shared.journal.older_snapshot_holds_up(2 + missed);
        // Worth it only for the space: with publishes refused little is written, so that none is due for long.
        let frees = matches!(shared.journal.space(), journal::Space::Low(_))
            && now.since(self.made) >= pause(SNAPSHOT_WHEN_LOW_MS)
            && shared.journal.snapshot_frees();
        if (due || frees) && !rests {
            self.failed = (!snapshot(shared, &self.config)).then(|| shared.clock.now());
            self.made = shared.clock.now();
        }
        // First: what is copied need not be moved.
        self.filer.turn(shared, wait);
        let sparse = shared.journal.sparse_segments();
        self.watched.keep(&sparse);
        let has_room = matches!(shared.journal.space(), journal::Space::Ok(_));
        for (segment, live) in sparse {
            if shared.stopping.load(Ordering::Acquire) {
                return;
            }
            let is_still = self.watched.is_still(segment, live, shared.clock.now());
            if (is_still || !has_room) && shared.journal.can_empty(segment) {
                empty(shared, segment, wait);
            }
        }
        shared.journal.reclaim();
        if now.since(self.gave_back) >= GIVE_BACK_EVERY_MS {
            self.gave_back = now;
            shared.journal.give_back_spares();
        }
    }
}

/// `false`: it failed.
fn snapshot(shared: &Shared, config: &broker::Config) -> bool {
    let began = shared.clock.now();
    let made = shared
        .journal
        .replay()
        .map_err(|error| error.to_string())
        .and_then(|replay| {
            let at = replay.last_batch();
            let in_time = shared.journal.snapshots_due() < 2;
            let replayed = recovery::replay(replay, config.clone(), &shared.stopping, in_time);
            let (broker, _) = replayed.map_err(|why| match why {
                Unreplayed::Unread(what) => what,
                // It was applied here when it was new: memory and journal have parted.
                unfit @ Unreplayed::Unfit { .. } => panic!("{unfit}"),
            })?;
            if broker.pending_loss().is_some() {
                // The record of it, the first of this epoch, was not committed yet when the replay began.
                return Err("what was given up is not recorded yet".to_owned());
            }
            shared
                .journal
                .write_snapshot(at, |sink| {
                    broker.encode_snapshot(&mut Stoppable::new(sink, &shared.stopping, in_time))
                })
                .map_err(|error| error.to_string())
        });
    let done = made.is_ok();
    match made {
        Ok(_) => {
            shared.snapshots.fetch_add(1, Ordering::Relaxed);
            let ms = shared.clock.now().since(began);
            shared.snapshot_ms.store(ms, Ordering::Relaxed);
            tracing::debug!(ms, "snapshot written");
        }
        Err(_) if shared.stopping.load(Ordering::Acquire) => {}
        Err(what) => tracing::warn!(what, "failed to write a snapshot; the next try follows"),
    }
    done
}

/// A record read from a sparse segment, decoded outside the lock. `None`: a part of a body.
type Survivor = (StoredId, u8, Bytes, Option<Change>);

/// Empties a sparse segment, unless too much of it is still referred to.
fn empty(shared: &Shared, segment: SegmentId, wait: &mut dyn FnMut()) {
    let (mut live, mut total) = (0u64, 0u64);
    let weighed = each(
        shared,
        segment,
        wait,
        |core, (id, _, payload, change), _| {
            total += payload.len() as u64;
            if is_live(core, *id, change.as_ref()) {
                live += payload.len() as u64;
            }
        },
    );
    let moved = weighed.and_then(|all| {
        if all && live * 2 > total {
            shared.journal.not_sparse(segment, Some((live, total)));
        }
        if !all || live * 2 > total {
            return Ok(());
        }
        each(
            shared,
            segment,
            wait,
            |core, (id, kind, payload, change), step| {
                if is_live(core, *id, change.as_ref()) {
                    step.stage.push_moved(*id, *kind, payload.clone());
                    shared.moved.fetch_add(1, Ordering::Relaxed);
                }
            },
        )
        .map(|all| {
            if all {
                shared.journal.evacuated(segment);
            }
        })
    });
    if let Err(what) = moved {
        tracing::error!(what, "a sparse segment cannot be emptied; it stays");
        shared.journal.not_sparse(segment, None);
    }
}

fn is_live(core: &Core, id: StoredId, change: Option<&Change>) -> bool {
    match change {
        Some(change) => core.broker.is_live(change, id),
        None => core.broker.is_live_part(id),
    }
}

/// Waits until the journal has room for more, or has failed. `false`: it waits for space on the disk itself, which nobody may give back
/// while somebody waits here.
pub(crate) fn room_comes(journal: &Journal, wait: &mut dyn FnMut()) -> bool {
    while !journal.stage().room() && journal.failure().is_none() {
        if journal.is_pressed() {
            return false;
        }
        wait();
    }
    true
}

/// Reads a segment, and shows its records under the lock, a few at a time, while the journal has room for more. `false`: not all,
/// as it waits for space on the disk itself, which nobody gives back meanwhile.
fn each(
    shared: &Shared,
    segment: SegmentId,
    wait: &mut dyn FnMut(),
    mut show: impl FnMut(&Core, &Survivor, &mut Step<'_, '_>),
) -> Result<bool, String> {
    let mut waiting: Vec<Survivor> = Vec::with_capacity(ASKED_MAX);
    let mut bytes = 0;
    let mut fault = None;
    let mut all = true;
    let mut hand_over = |waiting: &mut Vec<Survivor>| {
        all = all && room_comes(&shared.journal, wait);
        if !all {
            return waiting.clear();
        }
        shared.stepped(|core, step| {
            for survivor in waiting.drain(..) {
                show(core, &survivor, step);
            }
            false
        });
    };
    shared
        .journal
        .read_segment(segment, |id, kind, payload| {
            let change = match kind {
                BODY_PART => None,
                kind => match Change::decode(RecordKind(kind), payload.clone()) {
                    Ok((_, change)) => Some(change),
                    Err(error) => {
                        fault.get_or_insert_with(|| {
                            format!("record {}, kind {kind}: {error}", id.0)
                        });
                        return;
                    }
                },
            };
            bytes += payload.len();
            waiting.push((id, kind, payload, change));
            if waiting.len() == ASKED_MAX || bytes > ASKED_BYTES_MAX {
                hand_over(&mut waiting);
                bytes = 0;
            }
        })
        .map_err(|error| error.to_string())?;
    hand_over(&mut waiting);
    fault.map_or(Ok(all), Err)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use journal::{Config, MemVfs};

    use super::*;

    #[test]
    fn who_waits_for_room_gives_up_when_the_disk_is_full() {
        let disk = MemVfs::new(false);
        let config = Config {
            segment_len: 64 << 10,
            first_segment_len: 64 << 10,
            segments_ahead: 1,
            reserve_len: 0,
            batch_len_max: 16 << 10,
            staged_bytes_max: 32 << 10,
            ..Config::default()
        };
        let vfs = Arc::new(disk.clone());
        let opened = journal::open(vfs, Path::new("/j"), config, 1, [1; 16]).expect("it opens");
        let journal = opened.journal;
        disk.set_free(Some(0));
        journal.check_space();
        let rest = || std::thread::park_timeout(ROOM_EVERY);
        // What is there is used up; then nothing goes on.
        let mut staged = 0;
        while !journal.is_pressed() || journal.stage().room() {
            if journal.stage().room() {
                journal.stage().push(1, &[7; 4000], None);
                staged += 1;
            } else {
                rest();
            }
            assert!(staged < 100, "the disk is full");
        }
        let mut waits = 0;
        let comes = room_comes(&journal, &mut || {
            waits += 1;
            assert!(waits < 1000, "nobody gives room back");
            rest();
        });
        assert!(!comes);
        disk.set_free(None);
        while journal.is_pressed() {
            rest();
        }
        assert!(room_comes(&journal, &mut || rest()));
        assert_eq!(journal.failure(), None);
        journal.shutdown();
    }
}
