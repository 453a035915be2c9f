//! The two threads: one commits, one prepares segments, renews the lease file and looks at the free space.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::{Engine, Step};
use crate::error::Failure;
use crate::lease::boot_ms;
use crate::shared::Shared;
use crate::spares;

/// How often the background thread looks around when nobody asks.
const PERIOD: Duration = Duration::from_secs(1);

/// Starts both threads.
pub(crate) fn start(engine: Engine) -> std::io::Result<Vec<JoinHandle<()>>> {
    let shared = Arc::clone(&engine.shared);
    shared.spares.lock().background = true;
    let engine = Arc::new(Mutex::new(engine));
    let prepare = {
        let shared = Arc::clone(&shared);
        thread::Builder::new()
            .name("journal-prepare".into())
            .spawn(move || guarded(&shared, "journal-prepare", || prepare(&shared)))?
    };
    let commit = thread::Builder::new()
        .name("journal".into())
        .spawn(move || {
            guarded(&shared, "journal", || {
                commit(
                    &mut engine.lock().unwrap_or_else(PoisonError::into_inner),
                    &shared,
                );
            });
        })?;
    Ok(vec![commit, prepare])
}

/// Runs a thread. Should it panic, the journal has failed: whoever waits for it must not wait for ever.
fn guarded(shared: &Shared, name: &'static str, run: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        shared.fail(Failure::Broken(name));
    }
}

fn commit(engine: &mut Engine, shared: &Shared) {
    let started = Instant::now();
    let wall_ms = engine.wall_ms;
    let mut renewed = started;
    engine.renew_lease(boot_ms);
    loop {
        let batch = {
            let mut staging = shared
                .staging
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            loop {
                if shared.failure.get().is_some() {
                    return;
                }
                if let Some(batch) = staging.take(&mut engine.spare) {
                    break Some(batch);
                }
                if staging.closing {
                    break None;
                }
                staging.idle = true;
                let period = Duration::from_millis(engine.renewal_ms());
                let rest = period.saturating_sub(renewed.elapsed());
                let waited = shared.work.wait_timeout(staging, rest);
                (staging, _) = waited.unwrap_or_else(PoisonError::into_inner);
                staging.idle = false;
                if renewed.elapsed() >= period {
                    drop(staging);
                    renewed = Instant::now();
                    engine.renew_lease(boot_ms);
                    staging = shared
                        .staging
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let Some(batch) = batch else { break };
        let before = Instant::now();
        let elapsed = before.duration_since(started);
        engine.wall_ms = wall_ms + u64::try_from(elapsed.as_millis()).unwrap_or(0);
        if engine.commit(batch) == Step::Failed {
            return;
        }
        let micros = u64::try_from(before.elapsed().as_micros()).unwrap_or(0);
        shared
            .counters
            .sync_micros
            .fetch_add(micros, Ordering::Relaxed);
        if renewed.elapsed() >= Duration::from_millis(engine.renewal_ms()) {
            renewed = Instant::now();
            engine.renew_lease(boot_ms);
        }
    }
    engine.end_lease();
}

fn prepare(shared: &Shared) {
    let mut looked = Instant::now();
    while !shared.stopping.load(Ordering::Acquire) && shared.failure.get().is_none() {
        let (made, failed) = match spares::prepare_one(shared) {
            Ok(made) => (made, false),
            Err(error) => {
                let first = !std::mem::replace(&mut shared.spares.lock().stuck, true);
                if first {
                    tracing::warn!(%error, "failed to prepare a segment");
                }
                (false, first)
            }
        };
        if looked.elapsed() >= PERIOD || made || failed {
            looked = Instant::now();
            shared.check_space();
            shared.look_at_standbys(boot_ms());
        }
        if made {
            continue;
        }
        spares::make_reserve(shared);
        shared.table.trim();
        let ready = shared.spares.lock();
        if !(ready.wanted && ready.spares.is_empty() && !ready.stuck) {
            let _unused = shared.spares.changed.wait_timeout(ready, PERIOD);
        }
    }
}

/// Lets the journal thread write what is staged, then ends both.
pub(crate) fn stop(shared: &Shared, threads: &Mutex<Vec<JoinHandle<()>>>) {
    shared.closing.store(true, Ordering::Release);
    shared
        .staging
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .closing = true;
    shared.work.notify_all();
    let mut threads = std::mem::take(&mut *threads.lock().unwrap_or_else(PoisonError::into_inner));
    let me = thread::current().id();
    let join = |thread: JoinHandle<()>| {
        // The last handle may be dropped by a waker, on the journal thread itself.
        if thread.thread().id() != me && thread.join().is_err() {
            tracing::error!("a journal thread panicked");
        }
    };
    if !threads.is_empty() {
        join(threads.remove(0));
    }
    shared.stopping.store(true, Ordering::Release);
    {
        let _ready = shared.spares.lock();
        shared.spares.changed.notify_all();
    }
    threads.into_iter().for_each(join);
}

/// Laps of a clock, in microseconds.
pub(crate) struct Watch(Instant);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn lap(&mut self) -> u64 {
        let now = Instant::now();
        let us = now.duration_since(std::mem::replace(&mut self.0, now));
        u64::try_from(us.as_micros()).unwrap_or(u64::MAX)
    }
}
