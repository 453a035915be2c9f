//! The timer thread: turns due deadlines into records, fetches messages that the core asked for, and watches the disk.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Wake, Waker},
    time::Duration,
};

use message::Timestamp;
use session::Event;

use crate::{node::Shared, outbox::Fetched};

/// Deadlines turned into records in one hold of the lock.
const SLICE: usize = 256;
/// How often the disk is looked at, in ms.
const SPACE_EVERY_MS: u64 = 1000;

const REASON: &str = "low on disk";
/// What connections hear when publishes are refused from now on, and after a login while they are.
pub(crate) const BLOCKED: Event = Event::Blocked {
    blocked: true,
    reason: REASON,
};
const UNBLOCKED: Event = Event::Blocked {
    blocked: false,
    reason: REASON,
};

#[derive(Default)]
struct State {
    /// When the core next wants a tick.
    deadline: Option<Timestamp>,
    /// There is something to do now.
    nudged: bool,
    stopped: bool,
}

#[derive(Default)]
struct Bell {
    state: Mutex<State>,
    ring: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .nudged = true;
        self.ring.notify_one();
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Keeper {
    bell: Arc<Bell>,
}

impl Keeper {
    /// The core's next deadline after a step, and whether it asked for a message.
    pub(crate) fn deadline(&self, deadline: Option<Timestamp>, wanted: bool) {
        let mut state = self
            .bell
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let earlier = deadline.is_some_and(|new| state.deadline.is_none_or(|old| new < old));
        state.deadline = deadline;
        if earlier || wanted {
            state.nudged |= wanted;
            drop(state);
            self.bell.ring.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.bell
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopped = true;
        self.bell.ring.notify_one();
    }

    /// The thread.
    pub(crate) fn run(shared: &Shared) {
        let mut space_at = Timestamp(0);
        while shared.keeper.wait(shared, space_at) {
            work(shared, &mut space_at);
        }
    }

    /// When there is something to do; at once if it was nudged.
    pub(crate) fn due(&self, space_at: Timestamp) -> Timestamp {
        let state = self
            .bell
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if state.nudged {
            return Timestamp(0);
        }
        state.deadline.unwrap_or(Timestamp::MAX).min(space_at)
    }

    /// Waits for a deadline or a nudge. `false`: stop.
    fn wait(&self, shared: &Shared, space_at: Timestamp) -> bool {
        let mut state = self
            .bell
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.stopped {
                return false;
            }
            let now = shared.clock.now();
            let due = state.deadline.unwrap_or(Timestamp::MAX).min(space_at);
            if std::mem::take(&mut state.nudged) || due <= now {
                return true;
            }
            let wait = Duration::from_millis(due.since(now).clamp(1, SPACE_EVERY_MS));
            state = self
                .bell
                .ring
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// One turn of the thread, if something is due. False if not.
pub(crate) fn turn(shared: &Shared, space_at: &mut Timestamp) -> bool {
    if shared.keeper.due(*space_at) > shared.clock.now() {
        return false;
    }
    shared
        .keeper
        .bell
        .state
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .nudged = false;
    work(shared, space_at);
    true
}

fn work(shared: &Shared, space_at: &mut Timestamp) {
    let now = shared.clock.now();
    let committed = shared.journal.committed();
    shared.progress.note(shared.clock.boot_ms(), committed);
    if now >= *space_at {
        *space_at = now.plus_ms(SPACE_EVERY_MS);
        let boot_ms = shared.clock.boot_ms();
        shared.journal.tell_time(shared.clock.now().0, boot_ms);
        shared.clock.watch();
        watch_space(shared);
    }
    tick(shared);
    fetch(shared);
}

fn tick(shared: &Shared) {
    let mut more = true;
    while more {
        shared.stepped(|core, step| {
            core.decided(step, |broker, cx, out| {
                more = broker.decide_tick(cx, SLICE, out)
            });
            core.deliver(step)
        });
    }
}

/// Reads the messages that the core asked for and that are committed; the others ring the bell when they are.
fn fetch(shared: &Shared) {
    let committed = shared.journal.committed();
    let (ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut shared.core().wanted)
        .into_iter()
        .partition(|wanted| wanted.wait <= committed);
    if let Some(batch) = waiting.iter().map(|wanted| wanted.wait).min() {
        shared.core().wanted.extend(waiting);
        let waker = Waker::from(Arc::clone(&shared.keeper.bell));
        shared.journal.stage().on_commit_of(batch, waker);
    }
    for wanted in ready {
        let Fetched::Message(message) = shared.stored.read(wanted.id, || true) else {
            continue;
        };
        shared.stepped(|core, step| {
            core.decided(step, |broker, cx, out| {
                broker.decide_fetched(wanted.fetch, message, cx, out)
            });
            core.deliver(step)
        });
    }
}

/// Refuses publishes while the disk is full, and tells every connection when that changes.
fn watch_space(shared: &Shared) {
    let full = matches!(shared.journal.space(), journal::Space::Low { .. });
    shared.stepped(|core, step| {
        if core.blocked == full {
            return false;
        }
        core.blocked = full;
        if full {
            tracing::warn!("the disk is nearly full: publishes are refused until more is free than journal.free_bytes_min, and a twentieth of it");
        } else {
            tracing::info!("there is room on the disk again: publishes are taken");
        }
        let mut sessions: Vec<_> = core.connections.keys().copied().collect();
        sessions.sort_unstable();
        for session in sessions {
            core.tell(step, session, if full { BLOCKED } else { UNBLOCKED });
        }
        false
    });
}
