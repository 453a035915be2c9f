//! The core's time (named invariant: *time never goes back*).
//!
//! It starts at the later of the wall clock and the last time in the journal, advances with `CLOCK_BOOTTIME` (which does
//! not stop in suspend and is not set by anyone), and leans towards the wall clock by at most a tenth of what has passed.
//!
//! ```text
//! a start          the wall clock is believed, unless it is too far from the last sign of life (the journal refuses it then)
//! while active     leans towards its own wall clock, however far that is set
//! while standby    is the active node's time, as the lease says it: leans towards that, not towards its own wall clock
//! a takeover       goes on from there
//! ```
//! So a clock that is wrong counts once, at a start, and within bounds. What is timed by it (visibility timeouts, delays, times to live) may
//! end a tenth of its time too soon or too late while it leans, and no more: it never leaps, however far the wall clock is set at once.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use message::Timestamp;

use crate::host::Host;

/// How far a wall clock is off before that is worth a line in the log, in ms.
const OFF_MS: u64 = 5_000;

#[derive(Debug, Default)]
struct State {
    /// `CLOCK_BOOTTIME` at the last reading, in ms.
    boot: u64,
    /// What was answered then, in ms.
    told: u64,
    /// Time that has passed and has not yet been leant against, in ms: a tenth of it may be used. While this clock agrees with the one that
    /// it leans towards, next to none: what passed then is not owed later, when that one is set and everything timed would leap.
    unleant: u64,
    /// The active node's time, and what `CLOCK_BOOTTIME` was then, in ms: what is leant towards instead of the wall.
    towards: Option<(u64, u64)>,
    /// It was held against another node's time, or against what the journal has.
    confirmed: bool,
    /// Somebody goes by it: no more jumps.
    shown: bool,
}

/// The core's clock.
pub(crate) struct Clock {
    host: Arc<dyn Host>,
    state: Mutex<State>,
    /// That the wall clock is off was said.
    off: AtomicBool,
}

impl Clock {
    /// Starts with the wall clock.
    pub(crate) fn start(host: Arc<dyn Host>) -> Self {
        let clocks = host.clocks();
        Self {
            host,
            state: Mutex::new(State {
                boot: clocks.boot_ms,
                told: clocks.wall_ms,
                ..State::default()
            }),
            off: AtomicBool::new(false),
        }
    }

    fn held<T>(&self, of: impl FnOnce(&mut State) -> T) -> T {
        of(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This node is the active one. `last`: the last time in the journal, which was held against this clock.
    pub(crate) fn lead(&self, last: Timestamp) {
        let clocks = self.host.clocks();
        self.held(|state| {
            // As of now: what has passed since the last reading has passed for the journal's time too.
            state.advance(clocks.boot_ms, clocks.wall_ms);
            state.told = state.told.max(last.0);
            state.towards = None;
            state.confirmed = true;
            state.shown = true;
        });
    }

    /// This node follows another one, whose clock showed `time` when the boot clock was at `boot_ms`. The first time this clock is set by
    /// that, if nobody goes by it yet; else it leans.
    pub(crate) fn follow(&self, time: u64, boot_ms: u64) {
        self.held(|state| {
            if !state.shown {
                state.told = time + state.boot.saturating_sub(boot_ms);
                state.shown = true;
            }
            state.towards = Some((time, boot_ms));
            state.confirmed = true;
        });
    }

    /// The last that is known of the active node's time is `seen_ms`, however old: if that is now, this clock is right.
    pub(crate) fn compare(&self, seen_ms: u64) {
        if self.now().0.abs_diff(seen_ms) <= OFF_MS {
            self.held(|state| {
                state.confirmed = true;
                state.shown = true;
            });
        }
    }

    /// Somebody goes by it from here on.
    pub(crate) fn show(&self) {
        self.held(|state| state.shown = true);
    }

    /// Whether it needs no more setting.
    pub(crate) fn is_shown(&self) -> bool {
        self.held(|state| state.shown)
    }

    /// Whether it was held against another node's time, or against what the journal has.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.held(|state| state.confirmed)
    }

    /// Time that nobody sets and that does not stop in suspend, in ms.
    pub(crate) fn boot_ms(&self) -> u64 {
        self.host.boot_ms()
    }

    /// Whose clocks it reads.
    pub(crate) const fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        let boot_ms = self.host.boot_ms();
        self.held(|state| {
            // Within the millisecond that was told last there is nothing to add, and the wall clock is not read for it.
            if boot_ms > state.boot {
                let clocks = self.host.clocks();
                state.advance(clocks.boot_ms, clocks.wall_ms);
            }
            Timestamp(state.told)
        })
    }

    /// How far the machine's wall clock is ahead of this one, in ms; negative: behind.
    pub(crate) fn wall_ahead_ms(&self) -> i64 {
        let now = self.now();
        let wall = self.host.clocks().wall_ms;
        i64::try_from(i128::from(wall) - i128::from(now.0)).unwrap_or(i64::MAX)
    }

    /// Says in the log that the wall clock went off, or came back. To be called every second or so.
    pub(crate) fn watch(&self) {
        let ahead_ms = self.wall_ahead_ms();
        let off = self.off.load(Ordering::Relaxed);
        if !off && ahead_ms.unsigned_abs() > OFF_MS {
            self.off.store(true, Ordering::Relaxed);
            tracing::warn!(
                ahead_ms,
                "this machine's clock is off the broker's time, which comes nearer by a tenth of what passes at most"
            );
        } else if off && ahead_ms.unsigned_abs() < OFF_MS / 2 {
            self.off.store(false, Ordering::Relaxed);
            tracing::info!(
                ahead_ms,
                "this machine's clock agrees with the broker's time again"
            );
        }
    }
}

impl State {
    fn advance(&mut self, boot: u64, wall: u64) -> u64 {
        let passed = boot.saturating_sub(self.boot);
        self.boot = self.boot.max(boot);
        self.unleant += passed;
        let towards = match self.towards {
            Some((time, then)) => time + self.boot.saturating_sub(then),
            None => wall,
        };
        let next = self.told + passed;
        let lean_max = self.unleant / 10;
        let leant = if towards >= next {
            let lean = lean_max.min(towards - next);
            self.unleant -= lean * 10;
            next + lean
        } else {
            // Ahead of it: go slower, never back.
            let lean = lean_max.min(next - towards).min(passed);
            self.unleant -= lean * 10;
            next - lean
        };
        if leant == towards {
            self.unleant = self.unleant.min(10);
        }
        self.told = self.told.max(leant);
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Clocks, Machine};

    #[test]
    fn rules_b8_time_never_goes_back_and_leans_by_at_most_a_tenth() {
        let mut state = State {
            boot: 1_000,
            told: 50_000,
            ..State::default()
        };
        // The wall jumps an hour ahead: ten seconds of real time give at most eleven.
        let mut last = 50_000;
        for step in 1..=100u64 {
            let told = state.advance(1_000 + step * 100, 50_000 + 3_600_000 + step * 100);
            assert!(
                told >= last && told <= 50_000 + step * 110,
                "at step {step}: {told}"
            );
            last = told;
        }
        assert!(last > 60_900, "it leans: {last}");
        // The wall falls an hour back: time goes on, at nine tenths.
        let start = last;
        for step in 1..=100u64 {
            let told = state.advance(11_000 + step * 100, 10_000);
            assert!(
                told >= last && told >= start + step * 90 - 10,
                "at step {step}: {told}"
            );
            last = told;
        }
    }

    #[test]
    fn rules_b8_a_wall_clock_that_is_set_makes_no_leap() {
        for set in [3_600_000_i64, -3_600_000] {
            let mut state = State {
                boot: 1_000,
                told: 50_000,
                ..State::default()
            };
            for second in 1..=60u64 {
                state.advance(1_000 + second * 1_000, 50_000 + second * 1_000);
            }
            let wall = 110_000_u64.saturating_add_signed(set);
            // The keeper looks every second; others all the time.
            let mut last = 110_000;
            for ms in 1..=2_000u64 {
                let told = state.advance(61_000 + ms, wall + ms);
                assert!(told >= last, "{set} {ms}");
                assert!(
                    told.abs_diff(110_000 + ms) <= ms / 10 + 2,
                    "{set} {ms}: {told}"
                );
                last = told;
            }
        }
    }

    /// A machine whose clocks are set by hand, in ms.
    struct Slow(Mutex<u64>);

    impl Host for Slow {
        fn vfs(&self) -> Arc<dyn journal::Vfs> {
            unreachable!("a clock reads no file")
        }

        fn clocks(&self) -> Clocks {
            let passed = *self.0.lock().expect("nobody panics with it");
            Clocks {
                boot_ms: passed,
                wall_ms: 1_000_000 + passed,
            }
        }

        fn random(&self, _: &mut [u8]) -> std::io::Result<()> {
            unreachable!("a clock needs no chance")
        }
    }

    /// One that counts how often all its clocks are read.
    struct Counting(Slow, Mutex<u32>);

    impl Host for Counting {
        fn vfs(&self) -> Arc<dyn journal::Vfs> {
            self.0.vfs()
        }

        fn clocks(&self) -> Clocks {
            *self.1.lock().expect("nobody panics with it") += 1;
            self.0.clocks()
        }

        fn boot_ms(&self) -> u64 {
            self.0.clocks().boot_ms
        }

        fn random(&self, bytes: &mut [u8]) -> std::io::Result<()> {
            self.0.random(bytes)
        }
    }

    #[test]
    fn the_wall_clock_is_read_once_a_millisecond() {
        let host = Arc::new(Counting(Slow(Mutex::new(0)), Mutex::new(0)));
        let clock = Clock::start(Arc::clone(&host) as Arc<dyn Host>);
        for ms in 1..=5 {
            *host.0.0.lock().expect("nobody panics with it") = ms;
            for _ in 0..100 {
                assert_eq!(clock.now(), Timestamp(1_000_000 + ms));
            }
        }
        assert_eq!(*host.1.lock().expect("nobody panics with it"), 1 + 5);
    }

    #[test]
    fn a_start_that_takes_long_does_not_count_its_time_twice() {
        let host = Arc::new(Slow(Mutex::new(0)));
        let clock = Clock::start(Arc::clone(&host) as Arc<dyn Host>);
        // Meanwhile the other node went on, half a second ahead.
        *host.0.lock().expect("nobody panics with it") = 6_000;
        clock.lead(Timestamp(1_006_500));
        assert_eq!(clock.now(), Timestamp(1_006_500));
    }

    #[test]
    fn rules_b8_time_starts_after_the_last_journaled_time() {
        let far = Timestamp(Machine.clocks().wall_ms + 1_000_000);
        let clock = Clock::start(Arc::new(Machine));
        clock.lead(far);
        assert!(clock.now() >= far);
    }
}
