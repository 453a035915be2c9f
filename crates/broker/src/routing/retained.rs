//! Topics found by pattern: where retained messages are kept, and how a new subscription finds those it asks for.
//!
//! Retained messages live in the root space only, so a leading wildcard never finds a topic whose first level starts
//! with `$`. Topics are visited in the order of their levels. A pattern is followed with one position in it; past a `#`
//! that is not its last level the walk carries the set of positions, so that each topic is looked at once.
//!
//! Absent on purpose: expiry, and what a retained message is. Reading in slices is the caller's.

use message::{FilterLevel, LEVELS_MAX, Levels, Pattern};
use smallvec::SmallVec;

use super::children::Children;
use super::hides_from_wildcards;
use super::positions::Positions;

/// One value for each topic that has one.
#[derive(Clone, Debug)]
pub(crate) struct RetainedTree<T> {
    root: Node<T>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Node<T> {
    children: Children<Box<Self>>,
    value: Option<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            children: Children::default(),
            value: None,
        }
    }
}

impl<T> Default for RetainedTree<T> {
    fn default() -> Self {
        Self {
            root: Node::default(),
            len: 0,
        }
    }
}

impl<T> RetainedTree<T> {
    /// Sets the value of a topic and returns the one it had.
    pub(crate) fn set(&mut self, topic: &Levels, value: T) -> Option<T> {
        let mut node = &mut self.root;
        for level in topic.iter() {
            node = node.children.find_or_insert(level, Box::default);
        }
        let before = node.value.replace(value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes the value of a topic out, and the nodes that only it needed.
    pub(crate) fn remove(&mut self, topic: &Levels) -> Option<T> {
        let value = remove_below(&mut self.root, topic, 0)?;
        self.len -= 1;
        Some(value)
    }

    /// The value of a topic.
    pub(crate) fn get(&self, topic: &Levels) -> Option<&T> {
        let mut node = &self.root;
        for level in topic.iter() {
            node = node.children.find(level)?;
        }
        node.value.as_ref()
    }

    /// How many topics have a value.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Takes everything out.
    #[cfg(test)]
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Shows every topic and its value, in the order of the levels.
    pub(crate) fn for_each(&self, show: impl FnMut(&Levels, &T)) {
        Walk::new(&[], show).everything(&self.root);
    }

    /// Shows every topic that `pattern` matches and its value, in the order of the levels.
    pub(crate) fn for_each_match(&self, pattern: &Pattern, show: impl FnMut(&Levels, &T)) {
        self.walk(pattern, show);
    }

    /// Walks, and says how many nodes it visited.
    fn walk(&self, pattern: &Pattern, show: impl FnMut(&Levels, &T)) -> usize {
        let mut steps: SmallVec<[&FilterLevel; 16]> = SmallVec::new();
        let mut named = 0;
        for level in &pattern.0 {
            let many = *level == FilterLevel::Many;
            // `#.#` asks for no more than `#`.
            if !(many && steps.last() == Some(&level)) {
                steps.push(level);
                named += usize::from(!many);
            }
        }
        if named > LEVELS_MAX {
            return 0;
        }
        let mut walk = Walk::new(&steps, show);
        walk.at(&self.root, 0);
        walk.visited
    }

    #[cfg(test)]
    fn count_nodes(&self) -> usize {
        fn count<T>(node: &Node<T>) -> usize {
            let mut sum = 1;
            node.children.for_each(|_, child| sum += count(child));
            sum
        }
        count(&self.root)
    }
}

/// Recursion is as deep as the topic has levels.
fn remove_below<T>(node: &mut Node<T>, topic: &Levels, depth: usize) -> Option<T> {
    let Some(level) = topic.level(depth) else {
        return node.value.take();
    };
    let child = node.children.find_mut(level)?;
    let value = remove_below(child, topic, depth + 1)?;
    if child.value.is_none() && child.children.is_empty() {
        node.children.remove(level);
    }
    Some(value)
}

/// One walk of one pattern. Recursion is as deep as the topics in the tree have levels.
struct Walk<'t, 'p, F> {
    /// The pattern, without two `#` in a row.
    pattern: &'p [&'p FilterLevel],
    /// The levels from the root to the node at hand.
    path: SmallVec<[&'t [u8]; 16]>,
    show: F,
    visited: usize,
}

impl<'t, 'p, F> Walk<'t, 'p, F> {
    fn new(pattern: &'p [&'p FilterLevel], show: F) -> Self {
        Self {
            pattern,
            path: SmallVec::new(),
            show,
            visited: 0,
        }
    }

    fn show<T>(&mut self, node: &Node<T>)
    where
        F: FnMut(&Levels, &T),
    {
        if let Some(value) = &node.value {
            let topic = Levels::collect(&self.path).expect("only valid topics are set");
            (self.show)(&topic, value);
        }
    }

    /// Visits all children with `visit`, but at the root not those that wildcards do not find.
    fn each_child<T>(
        &mut self,
        node: &'t Node<T>,
        hide: bool,
        mut visit: impl FnMut(&mut Self, &'t [u8], &'t Node<T>),
    ) {
        let hide = hide && self.path.is_empty();
        node.children.for_each(|name, child| {
            if !(hide && hides_from_wildcards(Some(name))) {
                self.path.push(name);
                visit(self, name, child);
                self.path.pop();
            }
        });
    }

    /// Visits a node and everything below it.
    fn everything<T>(&mut self, node: &'t Node<T>)
    where
        F: FnMut(&Levels, &T),
    {
        self.visited += 1;
        self.show(node);
        let hide = !self.pattern.is_empty();
        self.each_child(node, hide, |walk, _, child| walk.everything(child));
    }

    /// Visits a node that the first `position` levels of the pattern lead to, and no others.
    fn at<T>(&mut self, node: &'t Node<T>, position: usize)
    where
        F: FnMut(&Levels, &T),
    {
        self.visited += 1;
        match self.pattern.get(position) {
            None => self.show(node),
            Some(FilterLevel::Exact(level)) => {
                if let Some((name, child)) = node.children.find_entry(level) {
                    self.path.push(name);
                    self.at(child, position + 1);
                    self.path.pop();
                }
            }
            Some(FilterLevel::One) => {
                self.each_child(node, true, |walk, _, child| walk.at(child, position + 1));
            }
            Some(FilterLevel::Many) => {
                self.visited -= 1;
                if position + 1 == self.pattern.len() {
                    self.everything(node);
                } else {
                    let mut positions = Positions::NONE;
                    self.reach(&mut positions, position);
                    self.at_all(node, &positions);
                }
            }
        }
    }

    /// Visits a node that each of `positions` leads to. One of them is a `#`, which leads to all children too.
    fn at_all<T>(&mut self, node: &'t Node<T>, positions: &Positions)
    where
        F: FnMut(&Levels, &T),
    {
        self.visited += 1;
        if positions.contains(self.pattern.len()) {
            self.show(node);
        }
        self.each_child(node, true, |walk, name, child| {
            let mut reached = Positions::NONE;
            for position in positions.iter() {
                match walk.pattern.get(position) {
                    Some(FilterLevel::Exact(level)) if *level == name => {
                        walk.reach(&mut reached, position + 1);
                    }
                    Some(FilterLevel::One) => walk.reach(&mut reached, position + 1),
                    Some(FilterLevel::Many) => walk.reach(&mut reached, position),
                    Some(FilterLevel::Exact(_)) | None => {}
                }
            }
            walk.at_all(child, &reached);
        });
    }

    /// Adds `position`, and the one behind it when it is a `#`, which may stand for nothing.
    fn reach(&self, positions: &mut Positions, position: usize) {
        positions.insert(position);
        if matches!(self.pattern.get(position), Some(FilterLevel::Many)) {
            positions.insert(position + 1);
        }
    }
}

#[cfg(test)]
mod tests;
