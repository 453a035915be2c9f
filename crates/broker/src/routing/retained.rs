//! Topics found by pattern: where retained messages are kept, and how a new subscription finds those it asks for.
//!
//! Retained messages belong to no client session [MQTT3-3.1.2-7]. They live in the root space only, so a leading wildcard never finds a topic whose first level starts
//! with `$`. Topics are visited in the order of their levels. A pattern is followed with one position in it; past a `#`
//! that is not its last level the walk carries the set of positions, so that each topic is looked at once.
//!
//! A walk can be cut into slices: it says behind which topic the next one goes on, whatever came or went meanwhile.
//!
//! Absent on purpose: expiry, and what a retained message is.

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
    pub(crate) fn for_each(&self, mut show: impl FnMut(&Levels, &T)) {
        let show = |topic: &Levels, value: &T| {
            show(topic, value);
            true
        };
        Walk::new(&[], None, usize::MAX, show).everything(&self.root, false);
    }

    /// Shows topics that `pattern` matches and their values, in the order of the levels: those behind `after`, until `show`
    /// returns `false` or `visits_max` nodes have been looked at. Returns where to go on, if the walk did not come to its end.
    pub(crate) fn show_matches(
        &self,
        pattern: &Pattern,
        after: Option<&Levels>,
        visits_max: usize,
        show: impl FnMut(&Levels, &T) -> bool,
    ) -> Option<Levels> {
        self.walk(pattern, after, visits_max, show).1
    }

    /// Walks, and says how many nodes it visited and where it stopped.
    fn walk(
        &self,
        pattern: &Pattern,
        after: Option<&Levels>,
        visits_max: usize,
        show: impl FnMut(&Levels, &T) -> bool,
    ) -> (usize, Option<Levels>) {
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
            return (0, None);
        }
        let mut walk = Walk::new(&steps, after, visits_max, show);
        walk.at(&self.root, 0, after.is_some());
        (walk.visited, walk.stopped)
    }

    #[cfg(test)]
    fn count_nodes(&self) -> usize {
        fn count<T>(node: &Node<T>) -> usize {
            let mut sum = 1;
            node.children
                .from(&[])
                .for_each(|(_, child)| sum += count(child));
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
///
/// A walk that goes on behind a topic follows that topic's levels down: nodes on this `edge` were visited before, and of
/// their children those with lower names.
struct Walk<'t, 'p, F> {
    /// The pattern, without two `#` in a row.
    pattern: &'p [&'p FilterLevel],
    after: Option<&'p Levels>,
    visits_max: usize,
    /// The levels from the root to the node at hand.
    path: SmallVec<[&'t [u8]; 16]>,
    show: F,
    visited: usize,
    stopped: Option<Levels>,
}

impl<'t, 'p, F> Walk<'t, 'p, F> {
    fn new(
        pattern: &'p [&'p FilterLevel],
        after: Option<&'p Levels>,
        visits_max: usize,
        show: F,
    ) -> Self {
        Self {
            pattern,
            after,
            visits_max,
            path: SmallVec::new(),
            show,
            visited: 0,
            stopped: None,
        }
    }

    /// Visits the node at hand itself; `shows`: the pattern matches it.
    fn visit<T>(&mut self, node: &Node<T>, shows: bool, edge: bool)
    where
        F: FnMut(&Levels, &T) -> bool,
    {
        if edge {
            return;
        }
        self.visited += 1;
        let mut go_on = self.visited < self.visits_max;
        if shows && let Some(value) = &node.value {
            let topic = self.topic();
            go_on &= (self.show)(&topic, value);
        }
        if !go_on {
            self.stopped = Some(self.topic());
        }
    }

    fn topic(&self) -> Levels {
        Levels::collect(&self.path).expect("only valid topics are set")
    }

    /// Visits all children with `visit`, but at the root not those that wildcards do not find.
    fn each_child<T>(
        &mut self,
        node: &'t Node<T>,
        hide: bool,
        edge: bool,
        mut visit: impl FnMut(&mut Self, &'t [u8], &'t Node<T>, bool),
    ) {
        let hide = hide && self.path.is_empty();
        let first = self.edge_level(edge);
        for (name, child) in node.children.from(first.unwrap_or_default()) {
            if self.stopped.is_some() {
                return;
            }
            if !(hide && hides_from_wildcards(Some(name))) {
                self.path.push(name);
                visit(self, name, child, first == Some(name));
                self.path.pop();
            }
        }
    }

    /// The name at which the children of a node on the edge begin; none behind the edge's end.
    fn edge_level(&self, edge: bool) -> Option<&'p [u8]> {
        self.after
            .filter(|_| edge)
            .and_then(|after| after.level(self.path.len()))
    }

    /// Visits a node and everything below it.
    fn everything<T>(&mut self, node: &'t Node<T>, edge: bool)
    where
        F: FnMut(&Levels, &T) -> bool,
    {
        self.visit(node, true, edge);
        let hide = !self.pattern.is_empty();
        self.each_child(node, hide, edge, |walk, _, child, edge| {
            walk.everything(child, edge);
        });
    }

    /// Visits a node that the first `position` levels of the pattern lead to, and no others.
    fn at<T>(&mut self, node: &'t Node<T>, position: usize, edge: bool)
    where
        F: FnMut(&Levels, &T) -> bool,
    {
        match self.pattern.get(position) {
            None => self.visit(node, true, edge),
            Some(FilterLevel::Exact(level)) => {
                self.visit(node, false, edge);
                let first = self.edge_level(edge);
                if self.stopped.is_none()
                    && let Some((name, child)) = node.children.find_entry(level)
                    && first.is_none_or(|first| first <= name)
                {
                    self.path.push(name);
                    self.at(child, position + 1, first == Some(name));
                    self.path.pop();
                }
            }
            Some(FilterLevel::One) => {
                self.visit(node, false, edge);
                self.each_child(node, true, edge, |walk, _, child, edge| {
                    walk.at(child, position + 1, edge);
                });
            }
            Some(FilterLevel::Many) => {
                if position + 1 == self.pattern.len() {
                    self.everything(node, edge);
                } else {
                    let mut positions = Positions::NONE;
                    self.reach(&mut positions, position);
                    self.at_all(node, &positions, edge);
                }
            }
        }
    }

    /// Visits a node that each of `positions` leads to. One of them is a `#`, which leads to all children too.
    fn at_all<T>(&mut self, node: &'t Node<T>, positions: &Positions, edge: bool)
    where
        F: FnMut(&Levels, &T) -> bool,
    {
        self.visit(node, positions.contains(self.pattern.len()), edge);
        self.each_child(node, true, edge, |walk, name, child, edge| {
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
            walk.at_all(child, &reached, edge);
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
