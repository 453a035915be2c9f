//! What was shown and not settled.
//!
//! *Redelivered*: it comes again marked so, and with a higher number. In one epoch that is so of every delivery. Who takes over knows
//! of those whose records were durable (RULES 2): where they are awaited of each that anyone heard of, else of those that somebody
//! heard of before a publish was sent that the same epoch confirmed, for its record lies behind theirs.

use std::collections::BTreeMap;

use session::Delivery;

use super::{Origin, Target};

/// One showing of a message.
#[derive(Clone, Copy, Debug)]
struct Showing {
    epoch: u64,
    /// When somebody heard of it.
    heard: u64,
    count: u32,
}

/// A message, who has the queue that it is in, and whether that is the dead-letter queue.
type Place = (u64, usize, bool);

/// See the module.
#[derive(Default)]
pub(crate) struct Shown {
    showings: BTreeMap<Place, Vec<Showing>>,
    /// By epoch, when the last publish was sent, of those that it confirmed.
    proven: BTreeMap<u64, u64>,
    /// How often a successor knew of one.
    pub(crate) passed_on: u64,
}

impl Shown {
    /// An epoch confirms a publish that was sent then, or later.
    pub(crate) fn prove(&mut self, epoch: u64, sent: u64) {
        let proven = self.proven.entry(epoch).or_default();
        *proven = sent.max(*proven);
    }

    /// A message is shown to who asked at `asked`.
    pub(crate) fn show(
        &mut self,
        (number, by): (u64, usize),
        delivery: &Delivery,
        from: Origin,
        (asked, now): (u64, u64),
        target: Target,
    ) -> Result<(), String> {
        if delivery.id.is_none() {
            return Ok(());
        }
        let place = (number, by, delivery.deaths.is_some());
        let is_awaited = matches!(target, Target::Fifo | Target::Exact);
        let count = delivery.count;
        let showings = self.showings.entry(place).or_default();
        for before in &*showings {
            let proven = self.proven.get(&before.epoch);
            let is_known = if before.epoch == from.epoch {
                before.heard < asked
            } else {
                before.epoch < from.epoch
                    && (is_awaited || proven.is_some_and(|sent| before.heard < *sent))
            };
            if is_known && (count <= before.count || !delivery.redelivered) {
                return Err(format!(
                    "redelivered: {number} is shown by {from:?} as number {count}, marked: {}, after {before:?}",
                    delivery.redelivered
                ));
            }
            self.passed_on += u64::from(is_known && before.epoch < from.epoch);
        }
        showings.push(Showing {
            epoch: from.epoch,
            heard: now,
            count,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{delivery, origin};
    use super::*;

    fn show(shown: &mut Shown, it: &Delivery, epoch: u64, at: u64, target: Target) -> bool {
        let times = (at, at);
        shown.show((5, 0), it, origin(epoch), times, target).is_ok()
    }

    #[test]
    fn a_successor_knows_of_a_showing_that_a_later_confirmation_proves() {
        let first = delivery(5, (7, 0), 1);
        let mut shown = Shown::default();
        assert!(show(&mut shown, &first, 1, 200, Target::Pushed));
        shown.prove(1, 150);
        assert!(show(&mut shown, &first, 2, 300, Target::Pushed));
        let mut shown = Shown::default();
        assert!(show(&mut shown, &first, 1, 200, Target::Pushed));
        shown.prove(1, 250);
        shown.prove(1, 150);
        assert!(!show(&mut shown, &first, 2, 300, Target::Pushed));
        let unmarked = Delivery {
            redelivered: false,
            ..delivery(5, (7, 0), 2)
        };
        assert!(!show(&mut shown, &unmarked, 2, 300, Target::Pushed));
        assert_eq!(shown.passed_on, 0);
        let second = delivery(5, (7, 0), 2);
        assert!(show(&mut shown, &second, 2, 300, Target::Pushed));
        assert_eq!(shown.passed_on, 1);
        assert!(
            !show(&mut shown, &first, 1, 350, Target::Pushed),
            "in one epoch"
        );
    }

    #[test]
    fn what_is_awaited_needs_no_proof_and_what_is_of_one_epoch_neither() {
        let first = delivery(5, (7, 0), 1);
        for target in [Target::Fifo, Target::Exact] {
            let mut shown = Shown::default();
            assert!(show(&mut shown, &first, 1, 200, target));
            assert!(!show(&mut shown, &first, 2, 300, target));
        }
        let mut shown = Shown::default();
        assert!(show(&mut shown, &first, 1, 200, Target::Plain));
        let late = shown.show((5, 0), &first, origin(1), (150, 300), Target::Plain);
        assert!(late.is_ok(), "it was asked for before");
        assert!(!show(&mut shown, &first, 1, 300, Target::Plain));
        let mut others = |by, at| {
            let it = (5, by);
            let times = (at, at);
            shown.show(it, &first, origin(1), times, Target::Topic)
        };
        assert!(others(1, 400).is_ok() && others(2, 400).is_ok(), "of two");
        assert!(others(2, 500).is_err());
    }
}
