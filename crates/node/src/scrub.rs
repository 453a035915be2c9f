//! The thread that reads again what is sealed, at a low rate: by the standby, or by a node that has none.
//!
//! What it finds is said in the log, counted and shown. The active node then copies forward what can still be read of a
//! damaged batch, out of memory or frame by frame, as it empties a sparse segment: from then on its messages lie elsewhere.
//! A damaged snapshot is given up for a new one. What cannot be read is told again at the next start, if it is needed there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use broker::{Change, RecordKind};
use journal::{Found, Journal, Scrubber, boot_ms};

use crate::{
    housekeeping::room_comes,
    node::{Shared, StartError},
    step::BODY_PART,
};

/// From the beginning of a pass to that of the next, at the least, in ms.
const PASS_EVERY_MS: u64 = 24 * 60 * 60 * 1000;
/// What is read between two rests, at the least: as much as this takes at the rate, in ms.
const REST_MIN_MS: u64 = 100;
/// How often there is a look at whether it is this node's turn.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest rest after one piece, in ms: of a low rate and a long piece.
const REST_MAX_MS: u64 = 60_000;

/// Reads until `stopping`, no more than so many bytes a second; 0 reads nothing. `rests`: it is another node's turn. `react`: what
/// was found and has been told.
fn run(
    journal: &Journal,
    bytes_per_s: u64,
    stopping: &AtomicBool,
    rests: impl Fn() -> bool,
    mut react: impl FnMut(Found),
) {
    if bytes_per_s == 0 {
        return;
    }
    let mut began: Option<u64> = None;
    // Time that was spent at this rate and not rested for, in µs.
    let mut owed_us = 0;
    let mut scrubber = None;
    while !stopping.load(Ordering::Acquire) && journal.failure().is_none() {
        if scrubber.is_none()
            && began.is_none_or(|began| boot_ms().saturating_sub(began) >= PASS_EVERY_MS)
        {
            began = Some(boot_ms());
            scrubber = Some(Scrubber::new(journal.clone()));
        }
        let turn = match &mut scrubber {
            Some(scrubber) if !rests() => scrubber.turn(),
            Some(_) => {
                std::thread::park_timeout(LOOK_EVERY);
                continue;
            }
            None => None,
        };
        let Some((read, found)) = turn else {
            scrubber = None;
            std::thread::park_timeout(LOOK_EVERY);
            continue;
        };
        for found in found {
            if found.unopened.is_none() && !found.beyond {
                tell(&found);
            }
            react(found);
        }
        owed_us += read.saturating_mul(1_000_000) / bytes_per_s;
        let rest_ms = (owed_us / 1000).min(REST_MAX_MS);
        // One wake-up for many short batches.
        if rest_ms < REST_MIN_MS {
            continue;
        }
        owed_us = 0;
        let until = boot_ms() + rest_ms;
        while !stopping.load(Ordering::Acquire) && boot_ms() < until {
            std::thread::park_timeout(Duration::from_millis(until - boot_ms().min(until)));
        }
    }
}

fn tell(found: &Found) {
    let (first, last) = found.batches.unwrap_or_default();
    tracing::error!(
        path = %found.path.display(),
        offset = found.offset,
        what = found.what,
        first_batch = first,
        last_batch = last,
        "the journal is damaged"
    );
}

/// The active node's.
pub(crate) fn run_active(shared: &Shared, bytes_per_s: u64) {
    let rests = || shared.standbys().iter().any(|other| other.ready);
    let journal = &shared.journal;
    run(journal, bytes_per_s, &shared.stopping, rests, |found| {
        react(shared, &found, &mut || {
            std::thread::park_timeout(Duration::from_millis(1));
        });
    });
}

/// The active node's next piece of a pass, for who has no thread for it. `wait` is called until there is room in the open batch.
pub(crate) fn turn(shared: &Shared, scrubber: &mut Option<Scrubber>, wait: &mut dyn FnMut()) {
    let next = scrubber
        .get_or_insert_with(|| Scrubber::new(shared.journal.clone()))
        .turn();
    let Some((_, found)) = next else {
        *scrubber = None;
        return;
    };
    for found in found {
        react(shared, &found, wait);
    }
}

/// What the active node does about damage.
fn react(shared: &Shared, found: &Found, wait: &mut dyn FnMut()) {
    let journal = &shared.journal;
    if found.is_snapshot {
        journal.give_up_snapshot(&found.path);
    }
    if let Some(id) = &found.unopened {
        let named = shared.core().broker.stream_files();
        let named = named
            .iter()
            .any(|file| (file.epoch, file.number, file.writer) == (id.epoch, id.number, id.writer));
        // Others are being written, or were left by a process that was killed.
        if named && journal.note_damage(found) {
            tell(found);
        }
    }
    if let Some((first, last)) = found.batches {
        for batch in first..=last {
            copy_forward(shared, batch, wait);
        }
    }
}

/// Copies forward what can be read of a damaged batch and is referred to.
fn copy_forward(shared: &Shared, batch: u64, wait: &mut dyn FnMut()) {
    let mut moved = 0;
    for (id, kind, payload) in shared.journal.salvage(batch) {
        let change = match kind {
            BODY_PART => None,
            kind => match Change::decode(RecordKind(kind), payload.clone()) {
                Ok((_, change)) => Some(change),
                Err(_) => continue,
            },
        };
        if !room_comes(&shared.journal, wait) {
            tracing::warn!(
                batch,
                "the disk is full: what can be read of a damaged batch stays there"
            );
            break;
        }
        shared.stepped(|core, step| {
            let is_live = match &change {
                Some(change) => core.broker.is_live(change, id),
                None => core.broker.is_live_part(id),
            };
            if is_live {
                step.stage.push_moved(id, kind, payload.clone());
                moved += 1;
            }
            false
        });
    }
    if moved > 0 {
        shared.journal.note_repaired(moved);
        tracing::info!(
            batch,
            records = moved,
            "copied forward out of a damaged batch"
        );
    }
}

/// The thread of a standby; it ends when this is dropped.
pub(crate) struct Scrubbing {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubbing {
    pub(crate) fn start(journal: Journal, bytes_per_s: u64) -> Result<Self, StartError> {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new().name("scrub".to_owned());
        let thread = thread.spawn(move || run(&journal, bytes_per_s, &stop, || false, drop))?;
        Ok(Self {
            stopping,
            thread: Some(thread),
        })
    }
}

impl Drop for Scrubbing {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // It is not waited for: a disk may hang, and a takeover must not.
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}
