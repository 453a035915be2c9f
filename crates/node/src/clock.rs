//! The core's time (named invariant: *time never goes back*).
//!
//! It starts at the later of the wall clock and the last time in the journal, advances with `CLOCK_BOOTTIME` (which does
//! not stop in suspend and is not set by anyone), and leans towards the wall clock by at most a tenth of what has passed.

use std::sync::{Arc, Mutex, PoisonError};

use message::Timestamp;

use crate::host::Host;

#[derive(Debug)]
struct State {
    /// `CLOCK_BOOTTIME` at the last reading, in ms.
    boot: u64,
    /// What was answered then, in ms.
    told: u64,
    /// Time that has passed and has not yet been leant against, in ms: a tenth of it may be used.
    unleant: u64,
}

/// The core's clock.
pub(crate) struct Clock {
    host: Arc<dyn Host>,
    state: Mutex<State>,
}

impl Clock {
    /// Starts no earlier than `last`, the last time in the journal.
    pub(crate) fn starting_after(last: Timestamp, host: Arc<dyn Host>) -> Self {
        let clocks = host.clocks();
        Self {
            host,
            state: Mutex::new(State {
                boot: clocks.boot_ms,
                told: clocks.wall_ms.max(last.0),
                unleant: 0,
            }),
        }
    }

    /// From here on no earlier than `last`.
    pub(crate) fn come_to(&self, last: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.told = state.told.max(last.0);
    }

    /// Time that nobody sets and that does not stop in suspend, in ms.
    pub(crate) fn boot_ms(&self) -> u64 {
        self.host.clocks().boot_ms
    }

    /// Whose clocks it reads.
    pub(crate) const fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        let clocks = self.host.clocks();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Timestamp(state.advance(clocks.boot_ms, clocks.wall_ms))
    }
}

impl State {
    fn advance(&mut self, boot: u64, wall: u64) -> u64 {
        let passed = boot.saturating_sub(self.boot);
        self.boot = self.boot.max(boot);
        self.unleant += passed;
        let next = self.told + passed;
        let lean_max = self.unleant / 10;
        let leant = if wall >= next {
            let lean = lean_max.min(wall - next);
            self.unleant -= lean * 10;
            next + lean
        } else {
            // Ahead of the wall: go slower, never back.
            let lean = lean_max.min(next - wall).min(passed);
            self.unleant -= lean * 10;
            next - lean
        };
        // What the wall agrees with needs no leaning later.
        self.unleant = self.unleant.min(10_000);
        self.told = self.told.max(leant);
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Machine;

    #[test]
    fn rules_b8_time_never_goes_back_and_leans_by_at_most_a_tenth() {
        let mut state = State {
            boot: 1_000,
            told: 50_000,
            unleant: 0,
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
    fn rules_b8_time_starts_after_the_last_journaled_time() {
        let far = Timestamp(Machine.clocks().wall_ms + 1_000_000);
        assert!(Clock::starting_after(far, Arc::new(Machine)).now() >= far);
    }
}
