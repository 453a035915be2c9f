//! A map by number that nearly always has one entry: the channels of a connection, the consumers of a channel. Every frame and every
//! event looks for its own.

/// See the module.
#[derive(Debug)]
pub(crate) struct Numbered<K, V>(Vec<(K, V)>);

impl<K: Copy + Ord, V> Numbered<K, V> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    fn find(&self, number: K) -> Result<usize, usize> {
        match self.0.first() {
            Some((first, _)) if *first == number => Ok(0),
            _ => self.0.binary_search_by_key(&number, |(number, _)| *number),
        }
    }

    #[inline]
    pub(crate) fn get(&self, number: K) -> Option<&V> {
        self.find(number).ok().map(|at| &self.0[at].1)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: K) -> Option<&mut V> {
        self.find(number).ok().map(|at| &mut self.0[at].1)
    }

    /// Puts one in the place of what had that number.
    pub(crate) fn insert(&mut self, number: K, value: V) {
        match self.find(number) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (number, value)),
        }
    }

    pub(crate) fn remove(&mut self, number: K) -> Option<V> {
        self.find(number).ok().map(|at| self.0.remove(at).1)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// In rising order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = K> {
        self.0.iter().map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
