//! A set of numbers that mostly follow each other: what is ready in a plain queue. A run costs as much as one number.

use std::collections::BTreeMap;

/// First and last number of each run; between two runs at least one is missing.
///
/// The first run lies apart: what is taken from the front and added to the only run there is, as in a queue in order, is
/// done without a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Runs {
    head: Option<(u64, u64)>,
    /// Those behind it.
    rest: BTreeMap<u64, u64>,
}

impl Runs {
    pub(crate) fn add(&mut self, number: u64) {
        let Some((first, last)) = self.head else {
            self.head = Some((number, number));
            return;
        };
        if number > last && number - last > 1 {
            self.add_behind(number);
        } else if number > last {
            let joined = number.checked_add(1).and_then(|n| self.rest.remove(&n));
            self.head = Some((first, joined.unwrap_or(number)));
        } else if number < first && first - number > 1 {
            self.rest.insert(first, last);
            self.head = Some((number, number));
        } else {
            self.head = Some((first.min(number), last));
        }
    }

    fn add_behind(&mut self, number: u64) {
        let joined = number.checked_add(1).and_then(|n| self.rest.remove(&n));
        let before = self.rest.range_mut(..=number).next_back();
        if let Some((_, last)) = before
            && *last >= number.saturating_sub(1)
        {
            *last = (*last).max(joined.unwrap_or(number));
        } else {
            self.rest.insert(number, joined.unwrap_or(number));
        }
    }

    pub(crate) fn remove(&mut self, number: u64) {
        let Some((first, last)) = self.head else {
            return;
        };
        if number > last {
            return self.remove_behind(number);
        }
        if number < first {
            return;
        }
        if number < last {
            if number == first {
                self.head = Some((number + 1, last));
            } else {
                self.head = Some((first, number - 1));
                self.rest.insert(number + 1, last);
            }
        } else if number > first {
            self.head = Some((first, number - 1));
        } else {
            self.head = self.rest.pop_first();
        }
    }

    fn remove_behind(&mut self, number: u64) {
        let Some((first, last)) = self.rest.range_mut(..=number).next_back() else {
            return;
        };
        let (first, end) = (*first, *last);
        if end < number {
            return;
        }
        if first == number {
            self.rest.remove(&first);
        } else {
            *last = number - 1;
        }
        if end > number {
            self.rest.insert(number + 1, end);
        }
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.next(number) == Some(number)
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        let rest = self.rest.iter().map(|(first, last)| (*first, *last));
        self.head
            .into_iter()
            .chain(rest)
            .flat_map(|(first, last)| first..=last)
    }

    /// The first number at or behind `from`.
    pub(crate) fn next(&self, from: u64) -> Option<u64> {
        let (first, last) = self.head?;
        if from <= last {
            return Some(from.max(first));
        }
        let before = self.rest.range(..=from).next_back();
        if before.is_some_and(|(_, last)| *last >= from) {
            return Some(from);
        }
        self.rest.range(from..).next().map(|(first, _)| *first)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_agree_with_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..40), 0..300)) {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            for (add, number) in steps {
                if add {
                    runs.add(number);
                    set.insert(number);
                } else {
                    runs.remove(number);
                    set.remove(&number);
                }
                for from in 0..41 {
                    prop_assert_eq!(runs.next(from), set.range(from..).next().copied());
                }
                prop_assert!(runs.iter().eq(set.iter().copied()));
                prop_assert!((0..41).all(|number| runs.contains(number) == set.contains(&number)));
                let ends = set.iter().filter(|number| !set.contains(&(**number + 1)));
                let entries = runs.rest.len() + usize::from(runs.head.is_some());
                prop_assert_eq!(entries, ends.count(), "one entry a run");
            }
        }
    }
}
