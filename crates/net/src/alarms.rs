//! When the connections of a server are to be woken: one timer for all of them, as one each takes more memory than all the
//! rest of what the loop knows of an idle connection.
//!
//! ```text
//! Watch -- set, cancel --> the book: (ms, slot), in order         one task sleeps up to the first of it,
//!   ^                                                             or until an earlier one is set
//!   +----- wakes the slot -- `rung` moves on <--- gone off ---+
//! ```
//! Invariants
//! - An alarm is set behind `rung`, under the book's lock, and `rung` moves on under it. So whoever compares the two knows
//!   whether its alarm has gone off, without the lock.
//! - `rung` moves on before anyone is woken: who is woken sees that its alarm has gone off.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::Server;

/// No alarm.
pub(crate) const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Alarms {
    /// Alarms are in ms since then.
    origin: Instant,
    /// Those up to here have gone off.
    rung: AtomicU64,
    book: Mutex<Book>,
    /// There is one before what the task sleeps up to, or the server is gone.
    earlier: Notify,
}

#[derive(Debug)]
struct Book {
    due: BTreeSet<(u64, u32)>,
    /// What the task sleeps up to.
    next: u64,
    /// There is a task.
    is_driven: bool,
}

impl Alarms {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            rung: AtomicU64::new(0),
            book: Mutex::new(Book {
                due: BTreeSet::new(),
                next: NEVER,
                is_driven: false,
            }),
            earlier: Notify::new(),
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has that slot woken in so many ms, in place of its alarm `old`. The alarm comes back.
    pub(crate) fn set(self: &Arc<Self>, server: &Arc<Server>, slot: u32, old: u64, ms: u64) -> u64 {
        let mut book = self.book();
        if old != NEVER {
            book.due.remove(&(old, slot));
        }
        let at = (self.origin.elapsed() + Duration::from_millis(ms)).as_micros();
        let at = u64::try_from(at.div_ceil(1000)).unwrap_or(NEVER - 1);
        let at = at.max(self.rung.load(Ordering::Relaxed) + 1);
        book.due.insert((at, slot));
        if at < book.next {
            book.next = at;
            self.earlier.notify_one();
        }
        if !std::mem::replace(&mut book.is_driven, true) {
            tokio::spawn(Arc::clone(self).drive(Arc::downgrade(server)));
        }
        at
    }

    /// That slot needs its alarm no longer.
    pub(crate) fn cancel(&self, slot: u32, alarm: u64) {
        self.book().due.remove(&(alarm, slot));
    }

    /// Whether that alarm has gone off.
    pub(crate) fn has_rung(&self, alarm: u64) -> bool {
        self.rung.load(Ordering::Acquire) >= alarm
    }

    /// The server is gone.
    pub(crate) fn end(&self) {
        self.earlier.notify_one();
    }

    async fn drive(self: Arc<Self>, server: Weak<Server>) {
        let driving = Driving(self);
        let alarms = &driving.0;
        loop {
            let earlier = alarms.earlier.notified();
            let next = alarms.book().next;
            if next == NEVER {
                earlier.await;
            } else {
                let _ = timeout_at(alarms.origin + Duration::from_millis(next), earlier).await;
            }
            let Some(server) = server.upgrade() else {
                return;
            };
            server.wake(alarms.ring());
        }
    }

    /// The slots whose alarms go off.
    fn ring(&self) -> impl Iterator<Item = u32> {
        let mut book = self.book();
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(NEVER - 1);
        let later = book.due.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut book.due, later);
        book.next = book.due.first().map_or(NEVER, |(at, _)| *at);
        self.rung.store(now, Ordering::Release);
        due.into_iter().map(|(_, slot)| slot)
    }
}

/// The task: should its runtime end, the next one that sets an alarm starts another.
struct Driving(Arc<Alarms>);

impl Drop for Driving {
    fn drop(&mut self) {
        let mut book = self.0.book();
        book.is_driven = false;
        book.next = NEVER;
    }
}
