//! Where damage was found, so that each place is told once: no more of it than that, and of so many places at the most.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Found;

/// Places that are known at the most: a MiB where they lie in few files, four if each is in one of its own.
const PLACES_MAX: usize = 10_000;

/// What becomes of damage that somebody has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is a place of its own.
    New,
    /// It was met before, and reaches farther, or less far, than was known.
    Reach,
    /// It is known.
    Known,
    /// There are too many places: nobody can say whether it was met before.
    Beyond,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Places {
    files: BTreeMap<PathBuf, OfFile>,
    len: usize,
}

#[derive(Default)]
struct OfFile {
    /// By the first damaged batch: the last one, and where they begin. No two have a batch in common.
    batches: BTreeMap<u64, (u64, u64)>,
    /// Apart from batches.
    offsets: BTreeSet<u64>,
}

impl Places {
    /// `is_whole`: it says how far the damage reaches, not only where a reader met it.
    pub(super) fn note(&mut self, damage: &Found, is_whole: bool) -> Noted {
        self.note_within(damage, is_whole, PLACES_MAX)
    }

    fn note_within(&mut self, damage: &Found, is_whole: bool, max: usize) -> Noted {
        let there = self.files.get_mut(&damage.path);
        let known = match (there, damage.batches) {
            (None, _) => None,
            (Some(file), None) => file
                .offsets
                .contains(&damage.offset)
                .then_some(Noted::Known),
            (Some(file), Some(reach)) => {
                let is_known = file.overlapping(reach).map(|known| {
                    if !is_whole || known == (reach.0, (reach.1, damage.offset)) {
                        return Noted::Known;
                    }
                    Noted::Reach
                });
                if is_known == Some(Noted::Reach) {
                    while let Some((first, _)) = file.overlapping(reach) {
                        file.batches.remove(&first);
                        self.len -= 1;
                    }
                    file.batches.insert(reach.0, (reach.1, damage.offset));
                    self.len += 1;
                }
                is_known
            }
        };
        if let Some(known) = known {
            return known;
        }
        if self.len >= max {
            return Noted::Beyond;
        }
        let file = self.files.entry(damage.path.clone()).or_default();
        match damage.batches {
            Some((first, last)) => drop(file.batches.insert(first, (last, damage.offset))),
            None => drop(file.offsets.insert(damage.offset)),
        }
        self.len += 1;
        Noted::New
    }
}

impl OfFile {
    /// The last of those that have a batch in common with these.
    fn overlapping(&self, (first, last): (u64, u64)) -> Option<(u64, (u64, u64))> {
        let (&from, &(upto, offset)) = self.batches.range(..=last).next_back()?;
        (upto >= first).then_some((from, (upto, offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(path: &str, offset: u64, batches: Option<(u64, u64)>) -> Found {
        Found {
            path: path.into(),
            offset,
            what: "it does not match".to_owned(),
            batches,
            unopened: None,
            is_snapshot: false,
            beyond: false,
        }
    }

    #[test]
    fn a_place_is_a_batch_or_an_offset_of_a_file() {
        let mut places = Places::default();
        let mut note =
            |path, offset, batches, is_whole| places.note(&damage(path, offset, batches), is_whole);
        assert_eq!(note("a", 0, None, true), Noted::New);
        assert_eq!(note("a", 0, None, true), Noted::Known);
        assert_eq!(note("b", 0, None, true), Noted::New);
        assert_eq!(note("a", 0, Some((1, 2)), true), Noted::New);
        assert_eq!(note("b", 0, Some((1, 2)), true), Noted::New);
        assert_eq!(note("a", 0, Some((1, 2)), true), Noted::Known);
        assert_eq!(note("a", 9, Some((2, 2)), false), Noted::Known);
        assert_eq!(note("a", 9, Some((3, 3)), false), Noted::New);
        assert_eq!(note("a", 9, Some((4, 4)), false), Noted::New);
        // All of it is one place.
        assert_eq!(note("a", 8, Some((2, 5)), true), Noted::Reach);
        assert_eq!(note("a", 8, Some((2, 5)), true), Noted::Known);
        assert_eq!(note("a", 9, Some((4, 4)), false), Noted::Known);
        assert_eq!(note("a", 9, Some((6, 6)), true), Noted::New);
        assert_eq!(places.len, 5);
    }

    #[test]
    fn what_is_beyond_the_most_is_not_kept() {
        let mut places = Places::default();
        for first in 0..3 {
            let damage = damage("a", first, Some((first, first)));
            assert_eq!(places.note_within(&damage, true, 3), Noted::New);
            assert_eq!(places.note_within(&damage, true, 3), Noted::Known);
        }
        for _ in 0..2 {
            for more in [damage("a", 3, Some((3, 3))), damage("b", 3, None)] {
                assert_eq!(places.note_within(&more, true, 3), Noted::Beyond);
            }
        }
        // What turns out to be one place makes room for another.
        let whole = damage("a", 0, Some((0, 1)));
        assert_eq!(places.note_within(&whole, true, 3), Noted::Reach);
        let more = damage("b", 3, None);
        assert_eq!(places.note_within(&more, true, 3), Noted::New);
        assert_eq!(places.files.len(), 2);
    }
}
