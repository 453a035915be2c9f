//! An ordered map that nearly always has a few entries: a connection's consumers, a queue's receivers, a client's subscriptions.
//!
//! A `BTreeMap` of one entry takes a node with room for eleven, and a hundred thousand idle connections have one entry each.
//! Up to [`LINE_LEN_MAX`] entries lie in a sorted vector that grows by doubling from one; above, in a tree.

use std::{collections::BTreeMap, mem};

/// Entries that a vector holds at most; more go into a tree, and stay there until it is empty.
const LINE_LEN_MAX: usize = 16;

#[derive(Clone, Debug)]
#[expect(
    clippy::box_collection,
    reason = "a tree would cost those that have none a word"
)]
pub(crate) enum Few<K, V> {
    Line(Vec<(K, V)>),
    Tree(Box<BTreeMap<K, V>>),
}

impl<K: Ord, V: PartialEq> PartialEq for Few<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self::Line(Vec::new())
    }
}

impl<K: Ord, V> Few<K, V> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Line(line) => line.len(),
            Self::Tree(tree) => tree.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::Line(line) => {
                let at = find(line, key).ok()?;
                line.get(at).map(|(_, value)| value)
            }
            Self::Tree(tree) => tree.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::Line(line) => {
                let at = find(line, key).ok()?;
                line.get_mut(at).map(|(_, value)| value)
            }
            Self::Tree(tree) => tree.get_mut(key),
        }
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::Line(line) => match find(line, &key) {
                Ok(at) => Some(mem::replace(&mut line[at].1, value)),
                Err(at) if line.len() < LINE_LEN_MAX => {
                    if line.len() == line.capacity() {
                        line.reserve_exact(line.len().max(1));
                    }
                    line.insert(at, (key, value));
                    None
                }
                Err(_) => {
                    let mut tree: BTreeMap<K, V> = mem::take(line).into_iter().collect();
                    tree.insert(key, value);
                    *self = Self::Tree(Box::new(tree));
                    None
                }
            },
            Self::Tree(tree) => tree.insert(key, value),
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::Line(line) => {
                let at = find(line, key).ok()?;
                Some(line.remove(at).1)
            }
            Self::Tree(tree) => {
                let gone = tree.remove(key);
                if tree.is_empty() {
                    *self = Self::default();
                }
                gone
            }
        }
    }

    /// The value of a key, made if it is missing.
    pub(crate) fn get_or_default(&mut self, key: K) -> &mut V
    where
        K: Copy,
        V: Default,
    {
        if matches!(self, Self::Line(line) if find(line, &key).is_err()) {
            self.insert(key, V::default());
        }
        match self {
            Self::Tree(tree) => tree.entry(key).or_default(),
            Self::Line(line) => {
                let at = find(line, &key).expect("it was inserted just now");
                &mut line[at].1
            }
        }
    }

    pub(crate) fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// In the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (line, tree) = match self {
            Self::Line(line) => (line.as_slice(), None),
            Self::Tree(tree) => ([].as_slice(), Some(&**tree)),
        };
        let line = line.iter().map(|(key, value)| (key, value));
        line.chain(tree.into_iter().flatten())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Everything, in the order of the keys.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (K, V)> {
        let (line, tree) = match self {
            Self::Line(line) => (line, BTreeMap::new()),
            Self::Tree(tree) => (Vec::new(), *tree),
        };
        line.into_iter().chain(tree)
    }
}

/// Where a key is in a line, or would be.
fn find<K: Ord, V>(line: &[(K, V)], key: &K) -> Result<usize, usize> {
    // Numbers that only grow are looked up at the end most often, and put there.
    match line.last() {
        Some((last, _)) if last < key => Err(line.len()),
        _ => line.binary_search_by(|(it, _)| it.cmp(key)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is the map that a tree is, on both sides of the bound.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0_u8..40, any::<u16>()), 0..200)) {
            let mut few = Few::default();
            let mut tree = BTreeMap::new();
            for (add, key, value) in steps {
                if add {
                    prop_assert_eq!(few.insert(key, value), tree.insert(key, value));
                } else {
                    prop_assert_eq!(few.remove(&key), tree.remove(&key));
                }
                prop_assert_eq!(few.len(), tree.len());
                prop_assert_eq!(few.get(&key), tree.get(&key));
                prop_assert_eq!(few.first_key_value(), tree.first_key_value());
                prop_assert!(few.iter().eq(tree.iter()));
            }
            *few.get_or_default(50) += 1;
            *tree.entry(50).or_default() += 1;
            prop_assert_eq!(few.get_mut(&50), tree.get_mut(&50));
            prop_assert!(few.into_entries().eq(tree));
        }
    }
}
