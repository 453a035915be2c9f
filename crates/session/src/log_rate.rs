//! How often a kind of line may stand in the log: a peer that can cause lines must not be able to fill a disk with them.
//!
//! A bucket of lines that refills with time. Who is refused a line is counted, and the next line that is allowed says how
//! many there were. The time is an argument, as everywhere.

use std::sync::{Mutex, PoisonError};

use message::Timestamp;

/// Lines that may come at once.
const BURST: u64 = 30;
/// Then one every so many ms.
const INTERVAL_MS: u64 = 1_000;

/// The budget of one kind of line.
#[derive(Debug, Default)]
pub struct LogRate(Mutex<Spent>);

#[derive(Debug, Default)]
struct Spent {
    /// When the bucket will be full again.
    full_at: Timestamp,
    left_out: u64,
}

impl LogRate {
    /// A full bucket.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Spent {
            full_at: Timestamp(0),
            left_out: 0,
        }))
    }

    /// Whether a line may be written now. `Some` is how many were left out since the last one; `None` leaves this one out.
    pub fn admit(&self, now: Timestamp) -> Option<u64> {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = spent.full_at.max(now);
        if full_at.since(now) > (BURST - 1) * INTERVAL_MS {
            spent.left_out += 1;
            return None;
        }
        spent.full_at = full_at.plus_ms(INTERVAL_MS);
        Some(std::mem::take(&mut spent.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_becomes_a_trickle_that_says_what_is_missing() {
        let rate = LogRate::new();
        let start = Timestamp(1_000_000);
        let admitted = |now: Timestamp, count: u64| -> Vec<u64> {
            (0..count).filter_map(|_| rate.admit(now)).collect()
        };
        assert_eq!(admitted(start, 1_000), vec![0; 30]);
        // One a second from then on; the first says that 970 are missing.
        assert_eq!(admitted(start.plus_ms(999), 10), []);
        assert_eq!(admitted(start.plus_ms(1_000), 10), [980]);
        assert_eq!(admitted(start.plus_ms(2_000), 1), [9]);
        // A pause fills the bucket, and no more than the bucket.
        assert_eq!(admitted(start.plus_ms(10_000_000), 100), vec![0; 30]);
    }
}
