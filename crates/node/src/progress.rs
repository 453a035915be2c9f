//! How far the journal had come at moments not long ago. A standby says of itself once a second how far it is: compared with where the
//! journal is by now, one that has kept up would look a second of batches behind.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Moments that are kept. A standby counts as near for four seconds after its last word.
const KEPT: usize = 64;
/// They are at least so far apart, in ms.
const APART_MS: u64 = 100;

/// A moment, in ms of the boot clock, and the batches that were committed by then.
type Moment = (u64, u64);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<VecDeque<Moment>>);

impl Progress {
    /// So many batches are committed now.
    pub(crate) fn note(&self, now_ms: u64, committed: u64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.back().is_some_and(|(at, _)| now_ms < at + APART_MS) {
            return;
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((now_ms, committed));
    }

    /// Batches that were committed at that time, or somewhat earlier. `None`: it is too long ago.
    pub(crate) fn at(&self, ms: u64) -> Option<u64> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, committed) = kept.iter().rev().find(|(at, _)| *at <= ms)?;
        Some(*committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_when_is_known_for_a_while() {
        let progress = Progress::default();
        assert_eq!(progress.at(1_000), None);
        for moment in 1..=100 {
            progress.note(moment * 1_000, moment * 10);
            // Too soon after it.
            progress.note(moment * 1_000 + 99, moment * 10 + 9);
        }
        assert_eq!(progress.at(u64::MAX), Some(1_000));
        assert_eq!(progress.at(100_000), Some(1_000));
        assert_eq!(progress.at(99_999), Some(990));
        assert_eq!(progress.at(37_000), Some(370));
        assert_eq!(progress.at(36_999), None);
    }
}
