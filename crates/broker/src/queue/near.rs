//! A map by numbers that mostly lie close together: what is out of a queue.
//!
//! ```text
//! page n: numbers n*8 .. n*8+7, a place each, and a bit each whether it is taken
//! ```
//! What is out of a queue in order is a few pages, of which one is made and one goes with every 8 entries; a number alone
//! costs a page.

use std::ops::RangeInclusive;

use crate::few::Few;

const PAGE: u64 = 8;

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
    pages: Few<u64, Box<Page<V>>>,
    len: usize,
}

impl<V> Default for Near<V> {
    fn default() -> Self {
        Self {
            pages: Few::default(),
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

    pub(crate) fn get(&self, number: u64) -> Option<&V> {
        self.pages.get(&(number / PAGE))?.slots[(number % PAGE) as usize].as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        self.pages.get_mut(&(number / PAGE))?.slots[(number % PAGE) as usize].as_mut()
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    pub(crate) fn insert(&mut self, number: u64, value: V) -> Option<V> {
        let page = self.pages.get_or_default(number / PAGE);
        let place = (number % PAGE) as usize;
        let old = page.slots[place].replace(value);
        page.taken |= 1 << place;
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<V> {
        let page = self.pages.get_mut(&(number / PAGE))?;
        let place = (number % PAGE) as usize;
        let gone = page.slots[place].take()?;
        page.taken &= !(1 << place);
        if page.taken == 0 {
            self.pages.remove(&(number / PAGE));
        }
        self.len -= 1;
        Some(gone)
    }

    /// In order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.pages.iter().flat_map(|(number, page)| {
            let slots = page.slots.iter().enumerate();
            slots.filter_map(move |(place, slot)| {
                Some((number * PAGE + place as u64, slot.as_ref()?))
            })
        })
    }

    /// In order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut V)> {
        self.pages.iter_mut().flat_map(|(number, page)| {
            let slots = page.slots.iter_mut().enumerate();
            slots.filter_map(move |(place, slot)| {
                Some((number * PAGE + place as u64, slot.as_mut()?))
            })
        })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> {
        self.iter().map(|(number, _)| number)
    }

    /// Those in a range, in order.
    pub(crate) fn range(&self, range: RangeInclusive<u64>) -> impl Iterator<Item = (u64, &V)> {
        let (first, last) = range.into_inner();
        let pages = self.pages.range(first / PAGE, last / PAGE);
        pages.flat_map(move |(number, page)| {
            let start = number * PAGE;
            let from = first.saturating_sub(start).min(PAGE) as usize;
            // Behind the last one, or the page's own end.
            let end = (last - start).min(PAGE - 1) as usize + 1;
            let slots = page.slots.iter().enumerate().take(end).skip(from);
            slots.filter_map(move |(place, slot)| Some((start + place as u64, slot.as_ref()?)))
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
                prop_assert!(near.iter().eq(tree.iter().map(|(at, value)| (*at, value))));
                prop_assert!(near.keys().eq(tree.keys().copied()));
                prop_assert!(near.iter_mut().map(|(at, _)| at).eq(tree.keys().copied()));
                let pages: std::collections::BTreeSet<u64> = tree.keys().map(|at| at / PAGE).collect();
                prop_assert!(near.pages.keys().eq(pages.iter()), "no page is empty");
            }
        }
    }
}
