//! What is out under a lease with a deadline.
//!
//! *Held*: until the lease lapses nobody else gets it, and of a FIFO group nobody else gets anything; and the receipt of a FIFO
//! queue is good for as long. Receives of a FIFO queue are known to whoever takes over, others to the epoch alone (RULES 2).

use std::collections::BTreeMap;

use super::{Origin, Trust};

/// A clock that is set leans by so much at once, in µs: for as long as it agreed with the node's before (`node/src/clock.rs`).
const LEANT_MAX: u64 = 1_000_000;

/// One pull of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PullId {
    pub(crate) client: usize,
    pub(crate) token: u64,
}

#[derive(Debug)]
struct Out {
    pull: PullId,
    asked: u64,
    heard: u64,
    lease_ms: u64,
    epoch: u64,
}

impl Out {
    /// Whether another pull of the same cannot be: it was decided after this one, and this one lasts; or nobody knows which was first, and
    /// both last.
    fn excludes(&self, other: &Self, fifo: bool, trust: Trust) -> bool {
        let now = other.heard;
        let later = other.epoch > self.epoch || other.asked > self.heard;
        self.pull != other.pull
            && now < self.until(other.epoch, fifo, trust)
            && (later || now < other.until(other.epoch, fifo, trust))
    }

    /// Until when it is held for sure, for who acts in that epoch.
    fn until(&self, epoch: u64, fifo: bool, trust: Trust) -> u64 {
        let least = if epoch == self.epoch {
            // By one clock.
            Some((self.lease_ms * 1000 * 3 / 4).saturating_sub(LEANT_MAX))
        } else if epoch > self.epoch && fifo {
            trust.least_us(self.lease_ms)
        } else {
            None
        };
        least.map_or(0, |us| self.asked + us)
    }
}

/// See the module. By FIFO group, if it has one, and message.
#[derive(Default)]
pub(crate) struct Held {
    out: BTreeMap<(Option<usize>, u64), Out>,
    /// When somebody last asked for the end of it, with whatever receipt.
    given_up: BTreeMap<(Option<usize>, u64), u64>,
}

impl Held {
    /// A pull got a message, under a lease of so many ms.
    pub(crate) fn take(
        &mut self,
        (group, number): (Option<usize>, u64),
        pull: PullId,
        (asked, now): (u64, u64),
        lease_ms: u64,
        from: Origin,
        trust: Trust,
    ) -> Result<(), String> {
        let fifo = group.is_some();
        let range = match group {
            Some(_) => (group, 0)..=(group, u64::MAX),
            None => (group, number)..=(group, number),
        };
        let this = Out {
            pull,
            asked,
            heard: now,
            lease_ms,
            epoch: from.epoch,
        };
        for (place @ (_, other), out) in self.out.range(range) {
            let given_up = self.given_up.get(place);
            let lasts = given_up.is_none_or(|at| *at < out.asked);
            if lasts && out.excludes(&this, fifo, trust) {
                return Err(format!(
                    "held: {number} is received by {this:?} while {other} is out: {out:?}"
                ));
            }
        }
        let last = self.out.get(&(group, number));
        if last.is_none_or(|last| last.epoch <= this.epoch) {
            self.out.insert((group, number), this);
        }
        Ok(())
    }

    /// Whoever has it asks for its end. Returns until when its receipt is good for sure, for who acts in that epoch.
    pub(crate) fn give_up(
        &mut self,
        place: (Option<usize>, u64),
        pull: PullId,
        (epoch, now): (u64, u64),
        trust: Trust,
    ) -> u64 {
        let given_up = self.given_up.insert(place, now);
        let out = self.out.remove(&place);
        out.filter(|out| out.pull == pull && given_up.is_none_or(|at| at < out.asked))
            .map_or(0, |out| out.until(epoch, place.0.is_some(), trust))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::origin;
    use super::*;

    const fn pull(client: usize) -> PullId {
        PullId { client, token: 1 }
    }

    fn take(held: &mut Held, place: (Option<usize>, u64), by: usize, at: u64, epoch: u64) -> bool {
        let (times, trust) = ((at, at), Trust::default());
        held.take(place, pull(by), times, 8_000, origin(epoch), trust)
            .is_ok()
    }

    #[test]
    fn nobody_gets_what_is_out_before_its_lease_is_over() {
        let mut held = Held::default();
        assert!(take(&mut held, (None, 5), 1, 1_000_000, 1));
        assert!(take(&mut held, (None, 6), 2, 1_000_000, 1), "another one");
        assert!(!take(&mut held, (None, 5), 2, 5_900_000, 1));
        assert!(take(&mut held, (None, 5), 2, 5_900_000, 2), "a successor");
        held.give_up((None, 5), pull(2), (2, 5_900_000), Trust::default());
        assert!(take(&mut held, (None, 5), 1, 5_900_000, 2));
        // Asked for before its answer was heard of.
        held.give_up((None, 5), pull(2), (2, 6_000_000), Trust::default());
        assert!(take(&mut held, (None, 5), 1, 5_950_000, 2));
        assert!(take(&mut held, (None, 5), 2, 6_100_000, 2));
    }

    #[test]
    fn an_answer_that_comes_late_is_no_second_holder() {
        let trust = Trust::default();
        let mut held = Held::default();
        assert!(take(&mut held, (None, 5), 2, 9_000_000, 1));
        let late = (500_000, 10_000_000);
        let before = held.take((None, 5), pull(1), late, 8_000, origin(1), trust);
        assert!(before.is_ok(), "its lease was over before");
        let mut held = Held::default();
        assert!(take(&mut held, (None, 5), 2, 9_000_000, 1));
        let late = (8_000_000, 10_000_000);
        let both = held.take((None, 5), pull(1), late, 8_000, origin(1), trust);
        assert!(both.is_err(), "both last");
    }

    #[test]
    fn nobody_gets_anything_of_a_group_while_something_of_it_is_out() {
        let mut held = Held::default();
        let group = Some(3);
        assert!(take(&mut held, (group, 5), 1, 1_000_000, 1));
        assert!(take(&mut held, (group, 6), 1, 1_000_000, 1), "one pull");
        assert!(!take(&mut held, (group, 7), 2, 4_900_000, 2));
        assert!(take(&mut held, (Some(4), 8), 2, 4_900_000, 2));
        assert!(take(&mut held, (group, 7), 2, 5_100_000, 2));
    }

    #[test]
    fn a_receipt_is_good_for_as_long_as_its_lease() {
        let mut held = Held::default();
        let (group, trust) = (Some(3), Trust::default());
        assert!(take(&mut held, (group, 5), 1, 1_000_000, 1));
        let until = held.give_up((group, 5), pull(1), (2, 900_000), trust);
        assert_eq!(until, 1_000_000 + 4_000_000);
        assert_eq!(held.give_up((group, 5), pull(1), (2, 900_000), trust), 0);
        assert!(take(&mut held, (group, 5), 1, 1_000_000, 1));
        assert_eq!(held.give_up((group, 5), pull(2), (1, 1_000_000), trust), 0);
    }
}
