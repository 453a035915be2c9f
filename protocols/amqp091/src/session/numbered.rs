//! A map by number that nearly always has one entry: the channels of a connection, the consumers of a channel. Every frame and every
//! event looks for its own.

use std::collections::BTreeMap;

/// See the module.
#[derive(Debug)]
pub(crate) struct Numbered<K, V> {
    /// One of them: looked at first.
    one: Option<(K, V)>,
    others: BTreeMap<K, V>,
}

impl<K: Copy + Ord, V> Numbered<K, V> {
    pub(crate) const fn new() -> Self {
        Self {
            one: None,
            others: BTreeMap::new(),
        }
    }

    #[inline]
    pub(crate) fn get(&self, number: K) -> Option<&V> {
        match &self.one {
            Some((one, value)) if *one == number => Some(value),
            _ => self.others.get(&number),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: K) -> Option<&mut V> {
        match &mut self.one {
            Some((one, value)) if *one == number => Some(value),
            _ => self.others.get_mut(&number),
        }
    }

    /// Puts one in the place of what had that number.
    pub(crate) fn insert(&mut self, number: K, value: V) {
        match &mut self.one {
            Some((one, place)) if *one == number => *place = value,
            None if !self.others.contains_key(&number) => self.one = Some((number, value)),
            _ => {
                self.others.insert(number, value);
            }
        }
    }

    pub(crate) fn remove(&mut self, number: K) -> Option<V> {
        match self.one.take_if(|(one, _)| *one == number) {
            Some((_, value)) => Some(value),
            None => self.others.remove(&number),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.one = None;
        self.others.clear();
    }

    /// In rising order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = K> {
        let one = self.one.as_ref().map(|(one, _)| *one);
        let mut numbers: Vec<K> = self.others.keys().copied().chain(one).collect();
        numbers.sort_unstable();
        numbers.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0_u8..4, 0_u16..6, any::<u8>()), 0..60)) {
            let (mut numbered, mut map) = (Numbered::new(), BTreeMap::new());
            for (what, number, value) in steps {
                match what {
                    0 | 1 => {
                        numbered.insert(number, value);
                        map.insert(number, value);
                    }
                    2 => prop_assert_eq!(numbered.remove(number), map.remove(&number)),
                    _ => prop_assert_eq!(numbered.get_mut(number), map.get_mut(&number)),
                }
                prop_assert!(numbered.numbers().eq(map.keys().copied()));
                prop_assert_eq!(numbered.get(number), map.get(&number));
            }
        }
    }
}
