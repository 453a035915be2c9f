//! A set of positions in a list of levels, as bits. It is what keeps `#` from multiplying: a node is visited once with
//! the set of all positions at which it was reached, not once for each of them.

use message::LEVELS_MAX;

/// A pattern without two `#` in a row that can match a topic at all has at most `LEVELS_MAX` other levels and one `#`
/// around each, so positions 0 to `2 * LEVELS_MAX + 1`.
const WORDS: usize = (2 * LEVELS_MAX + 2).div_ceil(64);

/// The set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Positions([u64; WORDS]);

impl Positions {
    pub(super) const NONE: Self = Self([0; WORDS]);

    /// `first..=last`.
    pub(super) fn span(first: usize, last: usize) -> Self {
        let mut set = Self::NONE;
        for (at, word) in set.0.iter_mut().enumerate() {
            *word = below(last + 1, at) & !below(first, at);
        }
        set
    }

    pub(super) const fn insert(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }

    pub(super) const fn remove(&mut self, position: usize) {
        self.0[position / 64] &= !(1 << (position % 64));
    }

    pub(super) const fn contains(&self, position: usize) -> bool {
        self.0[position / 64] & 1 << (position % 64) != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The least of them.
    pub(super) fn first(&self) -> Option<usize> {
        let at = self.0.iter().position(|word| *word != 0)?;
        Some(at * 64 + self.0[at].trailing_zeros() as usize)
    }

    /// Each of them one further. The last possible position has no next one.
    pub(super) fn next(&self) -> Self {
        let mut set = Self::NONE;
        let mut carry = 0;
        for (to, from) in set.0.iter_mut().zip(self.0) {
            *to = from << 1 | carry;
            carry = from >> 63;
        }
        set
    }

    /// All of them, the least first.
    pub(super) fn iter(mut self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            let first = self.first()?;
            self.remove(first);
            Some(first)
        })
    }
}

/// The bits of word `at` that stand for positions below `end`.
fn below(end: usize, at: usize) -> u64 {
    match end.saturating_sub(at * 64) {
        count @ 0..64 => (1 << count) - 1,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn positions_behave_as_a_set(members in prop::collection::btree_set(0usize..WORDS * 64 - 1, 0..40)) {
            let mut set = Positions::NONE;
            for position in &members {
                set.insert(*position);
            }
            prop_assert_eq!(set.is_empty(), members.is_empty());
            prop_assert_eq!(set.first(), members.first().copied());
            prop_assert_eq!(&set.iter().collect::<BTreeSet<_>>(), &members);
            prop_assert_eq!(
                set.next().iter().collect::<BTreeSet<_>>(),
                members.iter().map(|position| position + 1).collect::<BTreeSet<_>>()
            );
            for position in &members {
                prop_assert!(set.contains(*position));
                set.remove(*position);
            }
            prop_assert!(set.is_empty());
        }

        #[test]
        fn a_span_holds_both_its_ends(first in 0usize..300, len in 0usize..250) {
            let set = Positions::span(first, first + len);
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), (first..=first + len).collect::<Vec<_>>());
        }
    }
}
