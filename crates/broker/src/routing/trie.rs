//! Patterns found by topic: one trie for MQTT's `+` and `#` and for AMQP's `*` and `#`, which may stand anywhere.
//!
//! ```text
//! root --a--> . --+--> . --c--> {T}      a/+/c
//!      --#--> . --z--> {T}               #.z
//! ```
//! Each node is one level of a pattern and keeps its targets in order. A topic is walked from the root with one
//! position in it; it reaches those that it matches, and no others ([MQTT-3.3.2-3]). Only below a `#` that is not the last level of its pattern can a node be reached at several
//! positions: there the walk carries the *set* of them, so that each node is visited at most once and each pair of
//! pattern and target reported at most once, however the levels could be divided among several `#`.
//!
//! Absent on purpose: an order among different patterns that would mean anything. It follows from the patterns alone
//! (a pattern before those that go on from it, the named level before `+` before `#`), and no more is promised.

use message::{FilterLevel, Levels, Pattern};
use smallvec::SmallVec;

use super::children::{Children, Targets};
use super::hides_from_wildcards;
use super::positions::Positions;

/// A set of (pattern, target) pairs.
#[derive(Debug)]
pub(crate) struct Trie<T: Ord + Clone> {
    root: Box<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    exact: Children<Box<Self>>,
    one: Option<Box<Self>>,
    many: Option<Box<Self>>,
    targets: Targets<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            exact: Children::default(),
            one: None,
            many: None,
            targets: Targets::default(),
        }
    }
}

impl<T: Ord> Node<T> {
    fn is_leaf(&self) -> bool {
        self.exact.is_empty() && self.one.is_none() && self.many.is_none()
    }

    /// Whether something hangs on it besides the one way down that goes through a given child.
    fn is_shared(&self) -> bool {
        let wild = usize::from(self.one.is_some()) + usize::from(self.many.is_some());
        !self.targets.is_empty()
            || self.exact.is_fork()
            || wild + usize::from(!self.exact.is_empty()) > 1
    }

    fn child(&self, level: &FilterLevel) -> Option<&Self> {
        match level {
            FilterLevel::Exact(name) => self.exact.find(name).map(|node| &**node),
            FilterLevel::One => self.one.as_deref(),
            FilterLevel::Many => self.many.as_deref(),
        }
    }

    fn child_mut(&mut self, level: &FilterLevel) -> Option<&mut Self> {
        match level {
            FilterLevel::Exact(name) => self.exact.find_mut(name).map(|node| &mut **node),
            FilterLevel::One => self.one.as_deref_mut(),
            FilterLevel::Many => self.many.as_deref_mut(),
        }
    }

    fn take_child(&mut self, level: &FilterLevel) -> Option<Box<Self>> {
        match level {
            FilterLevel::Exact(name) => self.exact.remove(name),
            FilterLevel::One => self.one.take(),
            FilterLevel::Many => self.many.take(),
        }
    }
}

impl<T: Ord + Clone> Default for Trie<T> {
    fn default() -> Self {
        Self {
            root: Box::default(),
        }
    }
}

impl<T: Ord + Clone> Trie<T> {
    /// Adds a pair. Whether it was not there.
    pub(crate) fn insert(&mut self, pattern: &Pattern, target: T) -> bool {
        let mut node = &mut *self.root;
        for level in &pattern.0 {
            node = match level {
                FilterLevel::Exact(name) => node.exact.find_or_insert(name, Box::default),
                FilterLevel::One => node.one.get_or_insert_default(),
                FilterLevel::Many => node.many.get_or_insert_default(),
            };
        }
        node.targets.insert(target)
    }

    /// Takes a pair out, and the nodes that only it needed. Whether it was there.
    pub(crate) fn remove(&mut self, pattern: &Pattern, target: &T) -> bool {
        // Looks first, for the last node on the way that stays: the way is cut below it.
        let mut node = &*self.root;
        let mut cut = 0;
        for (depth, level) in pattern.0.iter().enumerate() {
            if node.is_shared() {
                cut = depth;
            }
            let Some(child) = node.child(level) else {
                return false;
            };
            node = child;
        }
        if !node.targets.contains(target) {
            return false;
        }
        let goes = node.is_leaf() && node.targets.is_only(target);
        let depth = if goes { cut } else { pattern.0.len() };
        let mut node = &mut *self.root;
        for level in &pattern.0[..depth] {
            node = node.child_mut(level).expect("the way was walked above");
        }
        match pattern.0.get(depth) {
            Some(level) => {
                let branch = node.take_child(level).expect("the way was walked above");
                dismantle(branch);
            }
            None => {
                node.targets.remove(target);
            }
        }
        true
    }

    /// Whether there is no pair.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_leaf() && self.root.targets.is_empty()
    }

    /// Reports each pair whose pattern matches `topic` once. Targets may repeat, for different patterns.
    ///
    /// In the root space a leading wildcard does not match a first level that starts with `$`.
    pub(crate) fn for_each_match(
        &self,
        topic: &Levels,
        root_space: bool,
        mut report: impl FnMut(&T),
    ) {
        self.for_each_set(topic, root_space, |targets| targets.for_each(&mut report));
    }

    /// The same, a pattern's targets at a time.
    pub(super) fn for_each_set(
        &self,
        topic: &Levels,
        root_space: bool,
        report: impl FnMut(&Targets<T>),
    ) {
        self.walk(topic, root_space, report);
    }

    /// Walks, and says how many nodes and names it looked at.
    fn walk(&self, topic: &Levels, root_space: bool, report: impl FnMut(&Targets<T>)) -> usize {
        let mut walk = Walk {
            topic,
            same: None,
            report,
            steps: 0,
        };
        if root_space && hides_from_wildcards(topic.level(0)) {
            let first = topic.level(0).expect("a hidden topic has a first level");
            walk.steps += 1;
            if let Some(child) = self.root.exact.find(first) {
                walk.at(child, 1);
            }
        } else {
            walk.at(&self.root, 0);
        }
        walk.steps
    }

    #[cfg(test)]
    pub(super) fn count_nodes(&self) -> usize {
        fn count<T>(node: &Node<T>) -> usize {
            let mut sum = 1;
            node.exact
                .from(&[])
                .for_each(|(_, child)| sum += count(child));
            let wild = [&node.one, &node.many];
            sum + wild
                .into_iter()
                .flatten()
                .map(|child| count(child))
                .sum::<usize>()
        }
        count(&self.root)
    }
}

impl<T: Ord + Clone> Drop for Trie<T> {
    fn drop(&mut self) {
        dismantle(std::mem::take(&mut self.root));
    }
}

/// Frees a branch without recursion: nothing here bounds how many levels a pattern has.
fn dismantle<T>(branch: Box<Node<T>>) {
    let mut left = vec![branch];
    while let Some(mut node) = left.pop() {
        left.extend(node.one.take());
        left.extend(node.many.take());
        node.exact.drain_into(&mut left);
    }
}

/// One walk of one topic.
struct Walk<'a, F> {
    topic: &'a Levels,
    /// For each position the next one with the same level, or the topic's length. Made when first needed.
    same: Option<SmallVec<[u16; 32]>>,
    report: F,
    steps: usize,
}

impl<'a, F> Walk<'a, F> {
    fn report<T: Ord>(&mut self, node: &Node<T>)
    where
        F: FnMut(&Targets<T>),
    {
        if !node.targets.is_empty() {
            (self.report)(&node.targets);
        }
    }

    /// Visits a node that is reached at one position: the first `position` levels are used up.
    fn at<T: Ord>(&mut self, node: &Node<T>, position: usize)
    where
        F: FnMut(&Targets<T>),
    {
        self.steps += 1;
        match self.topic.level(position) {
            None => self.report(node),
            Some(level) => {
                if let Some(child) = node.exact.find(level) {
                    self.at(child, position + 1);
                }
                if let Some(child) = &node.one {
                    self.at(child, position + 1);
                }
            }
        }
        if let Some(many) = &node.many {
            if many.is_leaf() {
                self.steps += 1;
                self.report(many);
            } else {
                self.at_all(many, Positions::span(position, self.topic.len()));
            }
        }
    }

    /// Visits a node that is reached at each of `positions`, of which there is at least one.
    ///
    /// A chain of `#` is a loop, and each other level uses one level of the topic, which bounds the recursion.
    fn at_all<T: Ord>(&mut self, mut node: &Node<T>, mut positions: Positions)
    where
        F: FnMut(&Targets<T>),
    {
        let end = self.topic.len();
        loop {
            self.steps += 1;
            if positions.contains(end) {
                self.report(node);
            }
            let Some(first) = positions.first() else {
                return;
            };
            positions.remove(end);
            if !node.exact.is_empty() {
                let mut left = positions;
                while let Some((level, reached)) = self.split_off_equal(&mut left) {
                    self.steps += 1;
                    if let Some(child) = node.exact.find(level) {
                        self.at_all(child, reached.next());
                    }
                }
            }
            if let Some(child) = &node.one
                && !positions.is_empty()
            {
                self.at_all(child, positions.next());
            }
            let Some(many) = &node.many else {
                return;
            };
            node = many;
            positions = Positions::span(first, end);
        }
    }

    /// Takes the first of `left`, and all others at which the topic has the same level.
    fn split_off_equal(&mut self, left: &mut Positions) -> Option<(&'a [u8], Positions)> {
        let topic = self.topic;
        let same = self.same.get_or_insert_with(|| link_equal(topic));
        let first = left.first()?;
        let mut equal = Positions::NONE;
        let mut position = first;
        while position < topic.len() {
            if left.contains(position) {
                equal.insert(position);
                left.remove(position);
            }
            position = same[position] as usize;
        }
        Some((topic.level(first)?, equal))
    }
}

/// For each position of `topic` the next one with the same level, or the topic's length.
fn link_equal(topic: &Levels) -> SmallVec<[u16; 32]> {
    let end = topic.len() as u16;
    let mut order: SmallVec<[u16; 32]> = (0..end).collect();
    order.sort_unstable_by_key(|position| (topic.level(*position as usize), *position));
    let mut next = SmallVec::from_elem(end, topic.len());
    for pair in order.windows(2) {
        if topic.level(pair[0] as usize) == topic.level(pair[1] as usize) {
            next[pair[0] as usize] = pair[1];
        }
    }
    next
}

#[cfg(test)]
mod tests;
