//! A set of numbers that mostly follow each other: what is ready in a plain queue. A run costs as much as one number.

use std::collections::BTreeMap;

/// First and last number of each run; between two runs at least one is missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Runs {
    runs: BTreeMap<u64, u64>,
}

impl Runs {
    pub(crate) fn add(&mut self, number: u64) {
        let joined = number.checked_add(1).and_then(|n| self.runs.remove(&n));
        let before = self.runs.range_mut(..=number).next_back();
        if let Some((_, last)) = before
            && *last >= number.saturating_sub(1)
        {
            *last = (*last).max(joined.unwrap_or(number));
        } else {
            self.runs.insert(number, joined.unwrap_or(number));
        }
    }

    pub(crate) fn remove(&mut self, number: u64) {
        let Some((first, last)) = self.runs.range_mut(..=number).next_back() else {
            return;
        };
        let (first, end) = (*first, *last);
        if end < number {
            return;
        }
        if first == number {
            self.runs.remove(&first);
        } else {
            *last = number - 1;
        }
        if end > number {
            self.runs.insert(number + 1, end);
        }
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The first number at or behind `from`.
    pub(crate) fn next(&self, from: u64) -> Option<u64> {
        let before = self.runs.range(..=from).next_back();
        if before.is_some_and(|(_, last)| *last >= from) {
            return Some(from);
        }
        self.runs.range(from..).next().map(|(first, _)| *first)
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
                let ends = set.iter().filter(|number| !set.contains(&(**number + 1)));
                prop_assert_eq!(runs.runs.len(), ends.count(), "one entry a run");
            }
        }
    }
}
