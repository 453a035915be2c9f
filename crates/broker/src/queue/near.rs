//! A map by numbers that mostly lie close together: what is out of a queue, and what is in one in memory only.
//!
//! ```text
//! page n: numbers n*8 .. n*8+7, a place each
//! pages : in order; one that was emptied keeps its place until it is the first or the last, or too many are empty
//! ```
//! What is out of a queue in order is a few pages that follow each other: they come at one end and go at the other, and the
//! place of each is known from the first one's.

use std::{collections::VecDeque, ops::RangeInclusive};

const PAGE: u64 = 8;
/// Empty pages that are let be, besides as many as there are others.
const EMPTY_MAX: usize = 16;

#[derive(Clone, Debug)]
struct Page<V> {
    taken: u8,
    slots: [Option<V>; PAGE as usize],
}

impl<V> Default for Page<V> {
    fn default() -> Self {
        Self {
            taken: 0,
            slots: [const { None }; PAGE as usize],
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Near<V> {
    pages: VecDeque<(u64, Option<Box<Page<V>>>)>,
    empty: usize,
    len: usize,
}

impl<V> Default for Near<V> {
    fn default() -> Self {
        Self {
            pages: VecDeque::new(),
            empty: 0,
            len: 0,
        }
    }
}

impl<V> Near<V> {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the page of that number is, or would be.
    fn find(&self, page: u64) -> Result<usize, usize> {
        let Some((first, _)) = self.pages.front() else {
            return Err(0);
        };
        if page < *first {
            return Err(0);
        }
        let at = (page - first) as usize;
        match self.pages.get(at) {
            Some((there, _)) if *there == page => Ok(at),
            _ => self.search(page),
        }
    }

    #[inline(never)]
    fn search(&self, page: u64) -> Result<usize, usize> {
        match self.pages.back() {
            Some((last, _)) if page <= *last => self
                .pages
                .binary_search_by_key(&page, |(number, _)| *number),
            _ => Err(self.pages.len()),
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<&V> {
        let at = self.find(number / PAGE).ok()?;
        let page = self.pages[at].1.as_ref()?;
        page.slots[(number % PAGE) as usize].as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        let at = self.find(number / PAGE).ok()?;
        let page = self.pages[at].1.as_mut()?;
        page.slots[(number % PAGE) as usize].as_mut()
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    pub(crate) fn insert(&mut self, number: u64, value: V) -> Option<V> {
        let at = match self.find(number / PAGE) {
            Ok(at) => at,
            Err(at) => {
                self.pages.insert(at, (number / PAGE, None));
                self.empty += 1;
                at
            }
        };
        let page = &mut self.pages[at].1;
        if page.is_none() {
            self.empty -= 1;
        }
        let page = page.get_or_insert_default();
        let place = (number % PAGE) as usize;
        let old = page.slots[place].replace(value);
        page.taken |= 1 << place;
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<V> {
        let at = self.find(number / PAGE).ok()?;
        let page = self.pages[at].1.as_mut()?;
        let place = (number % PAGE) as usize;
        let gone = page.slots[place].take()?;
        page.taken &= !(1 << place);
        self.len -= 1;
        if page.taken == 0 {
            self.pages[at].1 = None;
            self.empty += 1;
            self.trim();
        }
        Some(gone)
    }

    /// The first number at or behind `from`.
    pub(crate) fn next(&self, from: u64) -> Option<u64> {
        self.range(from..=u64::MAX).next().map(|(number, _)| number)
    }

    /// Lets go of empty pages.
    fn trim(&mut self) {
        if self.len == 0 {
            return *self = Self::default();
        }
        while self.pages.front().is_some_and(|(_, page)| page.is_none()) {
            self.pages.pop_front();
            self.empty -= 1;
        }
        while self.pages.back().is_some_and(|(_, page)| page.is_none()) {
            self.pages.pop_back();
            self.empty -= 1;
        }
        if self.empty > EMPTY_MAX && self.empty > self.pages.len() / 2 {
            self.pages.retain(|(_, page)| page.is_some());
            self.empty = 0;
        }
    }

    /// In order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.pages.iter().flat_map(|(number, page)| {
            let slots = page.iter().flat_map(|page| page.slots.iter().enumerate());
            slots.filter_map(move |(place, slot)| {
                Some((number * PAGE + place as u64, slot.as_ref()?))
            })
        })
    }

    /// In order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut V)> {
        self.pages.iter_mut().flat_map(|(number, page)| {
            let slots = page
                .iter_mut()
                .flat_map(|page| page.slots.iter_mut().enumerate());
            let start = *number * PAGE;
            slots.filter_map(move |(place, slot)| Some((start + place as u64, slot.as_mut()?)))
        })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> {
        self.iter().map(|(number, _)| number)
    }

    /// Those in a range, in order.
    pub(crate) fn range(&self, range: RangeInclusive<u64>) -> impl Iterator<Item = (u64, &V)> {
        let (first, last) = range.into_inner();
        let from = self.find(first / PAGE).unwrap_or_else(|at| at);
        let pages = self.pages.range(from..);
        let pages = pages.take_while(move |(number, _)| *number <= last / PAGE);
        pages.flat_map(move |(number, page)| {
            let start = number * PAGE;
            let from = first.saturating_sub(start).min(PAGE) as usize;
            // Behind the last one, or the page's own end.
            let end = (last - start).min(PAGE - 1) as usize + 1;
            let slots = page.as_ref().and_then(|page| page.slots.get(from..end));
            let slots = slots.into_iter().flatten().enumerate();
            slots.filter_map(move |(place, slot)| {
                Some((start + (from + place) as u64, slot.as_ref()?))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(
            steps in prop::collection::vec(
                (0_u8..4, prop_oneof![0_u64..80, 0_u64..2000, u64::MAX - 40..=u64::MAX], any::<u16>(), 0_u64..60),
                0..300,
            ),
        ) {
            let (mut near, mut tree) = (Near::default(), BTreeMap::new());
            for (what, number, value, more) in steps {
                match what {
                    0 | 1 => prop_assert_eq!(near.insert(number, value), tree.insert(number, value)),
                    2 => prop_assert_eq!(near.remove(number), tree.remove(&number)),
                    _ => {
                        let some = tree.keys().nth(more as usize % tree.len().max(1)).copied();
                        let number = some.unwrap_or(number);
                        prop_assert_eq!(near.remove(number), tree.remove(&number));
                    }
                }
                prop_assert_eq!(near.get(number), tree.get(&number));
                prop_assert_eq!(near.get_mut(number), tree.get_mut(&number));
                prop_assert_eq!(near.contains(number), tree.contains_key(&number));
                prop_assert_eq!((near.len(), near.is_empty()), (tree.len(), tree.is_empty()));
                let last = number.saturating_add(more);
                let range = near.range(number..=last);
                prop_assert!(range.eq(tree.range(number..=last).map(|(at, value)| (*at, value))));
                let next = tree.range(number..).next().map(|(at, _)| *at);
                prop_assert_eq!(near.next(number), next);
                prop_assert!(near.iter().eq(tree.iter().map(|(at, value)| (*at, value))));
                prop_assert!(near.keys().eq(tree.keys().copied()));
                prop_assert!(near.iter_mut().map(|(at, _)| at).eq(tree.keys().copied()));
                let pages: std::collections::BTreeSet<u64> = tree.keys().map(|at| at / PAGE).collect();
                let kept = near.pages.iter().filter(|(_, page)| page.is_some());
                prop_assert!(kept.map(|(number, _)| *number).eq(pages.iter().copied()));
                prop_assert_eq!(near.empty, near.pages.len() - pages.len());
                prop_assert!(near.empty <= EMPTY_MAX.max(pages.len()), "empty pages go");
                let ends = [near.pages.front(), near.pages.back()];
                prop_assert!(ends.into_iter().flatten().all(|(_, page)| page.is_some()));
            }
        }
    }
}
