//! The small ordered collections that nodes are made of: children by name, and sets of targets.
//!
//! Most nodes have one child and one target, a few have hundreds of thousands. Both collections start as a sorted list
//! of exactly the size needed and become a B-tree when they grow. A hash table is deliberately not used: clients
//! choose the names, and names that collide would make every lookup under the node's lock as long as the table.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, Deref},
};

use smallvec::SmallVec;

/// The longest sorted list of children; a longer one becomes a tree.
const LIST_LEN_MAX: usize = 16;
/// The same of targets, which are small: a tree of them takes twice the memory, and is slower to walk.
const TARGETS_LEN_MAX: usize = 256;

/// The longest name that needs no memory of its own, in bytes.
const SHORT_LEN_MAX: usize = 14;

/// The name of a level. Nearly all are short, and lie where they are compared: among very many nodes each look at memory elsewhere
/// costs as much as all the rest of a step.
#[derive(Clone, Debug)]
pub(super) enum LevelName {
    Short { len: u8, text: [u8; SHORT_LEN_MAX] },
    Long(Box<Box<[u8]>>),
}

/// As much as a pointer to a name takes, and its length.
const _: () = assert!(size_of::<LevelName>() == 16);

impl From<&[u8]> for LevelName {
    fn from(name: &[u8]) -> Self {
        if name.len() > SHORT_LEN_MAX {
            return Self::Long(Box::new(name.into()));
        }
        let mut text = [0; SHORT_LEN_MAX];
        text[..name.len()].copy_from_slice(name);
        Self::Short {
            len: name.len() as u8,
            text,
        }
    }
}

impl Deref for LevelName {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { len, text } => &text[..usize::from(*len)],
            Self::Long(name) => name,
        }
    }
}

impl Borrow<[u8]> for LevelName {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for LevelName {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for LevelName {}

impl PartialOrd for LevelName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LevelName {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(other)
    }
}

/// Nodes by the name of their level, in the order of the names.
#[derive(Clone, Debug)]
pub(super) enum Children<N> {
    /// Sorted by name.
    List(Vec<(LevelName, N)>),
    /// Many.
    Tree(BTreeMap<LevelName, N>),
}

impl<N> Default for Children<N> {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl<N> Children<N> {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::List(list) => list.is_empty(),
            Self::Tree(tree) => tree.is_empty(),
        }
    }

    /// Whether there are at least two.
    pub(super) fn is_fork(&self) -> bool {
        match self {
            Self::List(list) => list.len() > 1,
            Self::Tree(tree) => tree.len() > 1,
        }
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&N> {
        self.find_entry(name).map(|(_, child)| child)
    }

    /// The child of that name, with the name as it is kept here.
    pub(super) fn find_entry(&self, name: &[u8]) -> Option<(&[u8], &N)> {
        match self {
            Self::List(list) => {
                let at = list.binary_search_by(|(key, _)| (**key).cmp(name)).ok()?;
                Some((&*list[at].0, &list[at].1))
            }
            Self::Tree(tree) => tree.get_key_value(name).map(|(key, child)| (&**key, child)),
        }
    }

    pub(super) fn find_mut(&mut self, name: &[u8]) -> Option<&mut N> {
        match self {
            Self::List(list) => {
                let at = list.binary_search_by(|(key, _)| (**key).cmp(name)).ok()?;
                Some(&mut list[at].1)
            }
            Self::Tree(tree) => tree.get_mut(name),
        }
    }

    /// The child of that name, made when there is none. The name is copied: it outlives the read buffer it came in.
    pub(super) fn find_or_insert(&mut self, name: &[u8], make: impl FnOnce() -> N) -> &mut N {
        if let Self::List(list) = self
            && list.len() == LIST_LEN_MAX
            && self.find(name).is_none()
        {
            let Self::List(list) = std::mem::take(self) else {
                unreachable!("checked above")
            };
            *self = Self::Tree(list.into_iter().collect());
        }
        match self {
            Self::List(list) => {
                let at = match list.binary_search_by(|(key, _)| (**key).cmp(name)) {
                    Ok(at) => at,
                    Err(at) => {
                        if list.len() < 2 {
                            list.reserve_exact(1);
                        }
                        list.insert(at, (name.into(), make()));
                        at
                    }
                };
                &mut list[at].1
            }
            Self::Tree(tree) => tree.entry(name.into()).or_insert_with(make),
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<N> {
        match self {
            Self::List(list) => {
                let at = list.binary_search_by(|(key, _)| (**key).cmp(name)).ok()?;
                let (_, child) = list.remove(at);
                if list.len() * 2 < list.capacity() {
                    list.shrink_to_fit();
                }
                Some(child)
            }
            Self::Tree(tree) => tree.remove(name),
        }
    }

    /// Those whose names are not below `first`, in the order of their names.
    pub(super) fn from<'a>(&'a self, first: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a N)> {
        let (list, tree) = match self {
            Self::List(list) => {
                let at = list.partition_point(|(name, _)| **name < *first);
                (Some(list[at..].iter()), None)
            }
            Self::Tree(tree) => {
                let from = (Bound::Included(first), Bound::Unbounded);
                (None, Some(tree.range::<[u8], _>(from)))
            }
        };
        let list = list.into_iter().flatten();
        let tree = tree.into_iter().flatten();
        list.map(|(name, child)| (&**name, child))
            .chain(tree.map(|(name, child)| (&**name, child)))
    }

    /// Moves all of them out.
    pub(super) fn drain_into(&mut self, out: &mut Vec<N>) {
        match std::mem::take(self) {
            Self::List(list) => out.extend(list.into_iter().map(|(_, child)| child)),
            Self::Tree(tree) => out.extend(tree.into_values()),
        }
    }
}

/// Makes a list a set: in order, each once. Mostly it is one, found in order at one place, and that is seen in one pass.
pub(crate) fn make_set<T: Ord>(list: &mut Vec<T>) {
    if !list.is_sorted_by(|one, next| one < next) {
        list.sort_unstable();
        list.dedup();
    }
}

/// A set of targets, in their order.
#[derive(Clone, Debug)]
pub(super) enum Targets<T> {
    /// Sorted.
    List(SmallVec<[T; 1]>),
    /// Many.
    Tree(BTreeSet<T>),
}

impl<T> Default for Targets<T> {
    fn default() -> Self {
        Self::List(SmallVec::new())
    }
}

impl<T: Ord> Targets<T> {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::List(list) => list.is_empty(),
            Self::Tree(tree) => tree.is_empty(),
        }
    }

    /// Whether `target` is in it, and nothing else.
    pub(super) fn is_only(&self, target: &T) -> bool {
        match self {
            Self::List(list) => list.len() == 1 && list[0] == *target,
            Self::Tree(tree) => tree.len() == 1 && tree.contains(target),
        }
    }

    pub(super) fn contains(&self, target: &T) -> bool {
        match self {
            Self::List(list) => list.binary_search(target).is_ok(),
            Self::Tree(tree) => tree.contains(target),
        }
    }

    /// Adds it. Whether it was not there.
    pub(super) fn insert(&mut self, target: T) -> bool {
        match self {
            Self::List(list) => {
                let Err(at) = list.binary_search(&target) else {
                    return false;
                };
                if list.len() < TARGETS_LEN_MAX {
                    list.insert(at, target);
                } else {
                    let mut tree: BTreeSet<T> = std::mem::take(list).into_iter().collect();
                    tree.insert(target);
                    *self = Self::Tree(tree);
                }
                true
            }
            Self::Tree(tree) => tree.insert(target),
        }
    }

    /// Takes it out. Whether it was there.
    pub(super) fn remove(&mut self, target: &T) -> bool {
        match self {
            Self::List(list) => {
                let Ok(at) = list.binary_search(target) else {
                    return false;
                };
                list.remove(at);
                if list.len() * 2 < list.capacity() {
                    list.shrink_to_fit();
                }
                true
            }
            Self::Tree(tree) => tree.remove(target),
        }
    }

    /// Adds them to a list, in their order.
    pub(super) fn add_to(&self, out: &mut Vec<T>)
    where
        T: Clone,
    {
        match self {
            Self::List(list) => out.extend_from_slice(list),
            Self::Tree(tree) => out.extend(tree.iter().cloned()),
        }
    }

    pub(super) fn for_each(&self, visit: impl FnMut(&T)) {
        match self {
            Self::List(list) => list.iter().for_each(visit),
            Self::Tree(tree) => tree.iter().for_each(visit),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn children_behave_as_a_map(changes in prop::collection::vec((any::<bool>(), 0u8..40), 0..200)) {
            let mut children = Children::default();
            let mut map = BTreeMap::new();
            for (number, (add, name)) in changes.into_iter().enumerate() {
                let name = [name];
                if add {
                    let made = *children.find_or_insert(&name, || number);
                    prop_assert_eq!(made, *map.entry(name).or_insert(number));
                } else {
                    prop_assert_eq!(children.remove(&name), map.remove(&name));
                }
                prop_assert_eq!(children.find(&name), map.get(&name));
                prop_assert_eq!(children.find_mut(&name), map.get_mut(&name));
                prop_assert_eq!(children.is_empty(), map.is_empty());
                prop_assert_eq!(children.is_fork(), map.len() > 1);
            }
            let mut shown = Vec::new();
            children.from(&[]).for_each(|(name, number)| shown.push((name, *number)));
            prop_assert!(shown.into_iter().eq(map.iter().map(|(name, number)| (&name[..], *number))));
            let mut drained = Vec::new();
            children.drain_into(&mut drained);
            prop_assert!(children.is_empty() && drained.into_iter().eq(map.into_values()));
        }

        #[test]
        fn targets_behave_as_a_set(changes in prop::collection::vec((prop::bool::weighted(0.8), 0u16..600), 0..1_000)) {
            let mut targets = Targets::default();
            let mut set = BTreeSet::new();
            for (add, target) in changes {
                if add {
                    prop_assert_eq!(targets.insert(target), set.insert(target));
                } else {
                    prop_assert_eq!(targets.remove(&target), set.remove(&target));
                }
                prop_assert_eq!(targets.contains(&target), set.contains(&target));
                prop_assert_eq!(targets.is_only(&target), set.len() == 1 && set.contains(&target));
                prop_assert_eq!(targets.is_empty(), set.is_empty());
            }
            let mut shown = Vec::new();
            targets.for_each(|target| shown.push(*target));
            let mut added = Vec::new();
            targets.add_to(&mut added);
            prop_assert_eq!(&added, &shown);
            prop_assert!(shown.into_iter().eq(set));
        }
    }
}
