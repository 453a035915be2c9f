//! The bindings of one exchange, and which targets they give a message to.
//!
//! | kind | a binding passes | what it looks at |
//! |---|---|---|
//! | direct | equal keys | the binding's key |
//! | fanout | everything | nothing |
//! | topic | matching keys; of their messages, if it says so, what satisfies a selector | the binding's filter |
//! | headers | matching properties | the binding's filter |
//!
//! A binding is kept once, as bytes in an ordered set, target first: what it *routes* by, then its whole identity.
//! ```text
//! target | route (with its length)  filter  key  arguments
//! ```
//! So all bindings of a target are neighbours, and among them all that route alike: an index entry is made with the
//! first of these and goes with the last, without counting.
//!
//! Absent on purpose: refusing. Whether a filter suits the kind is asked of [`Exchange::takes`] by whoever decides to
//! bind or unbind; a binding that does not suit harms nothing here, it just never passes anything by its filter.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use message::{
    Filter, FilterLevel, HeaderMatch, Levels, Message, Pattern, Properties, Reader, Selector,
    codec::put_bytes, put_filter, put_levels, read_filter,
};
use session::ExchangeKind;

use super::children::{Targets, make_set};
use super::headers::headers_match;
use super::trie::Trie;

/// One exchange.
#[derive(Debug)]
pub(crate) struct Exchange<T: Ord + Clone> {
    /// Every binding: its target, and the rest of it encoded.
    bindings: BTreeSet<(T, Box<[u8]>)>,
    index: Index<T>,
}

#[derive(Debug)]
enum Index<T: Ord + Clone> {
    Direct(BTreeMap<Levels, Targets<T>>),
    Fanout(Targets<T>),
    Topic {
        plain: Trie<T>,
        /// Those with a selector, which each message is held against.
        selected: Trie<(T, Selector)>,
    },
    /// By the encoded rule, so that equal rules are evaluated once.
    Headers(BTreeMap<Box<[u8]>, Rule<T>>),
}

/// A rule of a headers exchange and who is bound with it.
#[derive(Debug)]
struct Rule<T> {
    matching: HeaderMatch,
    arguments: Properties,
    targets: Targets<T>,
}

impl<T: Ord + Clone> Exchange<T> {
    /// One without bindings.
    pub(crate) fn new(kind: ExchangeKind) -> Self {
        Self {
            bindings: BTreeSet::new(),
            index: match kind {
                ExchangeKind::Direct => Index::Direct(BTreeMap::new()),
                ExchangeKind::Fanout => Index::Fanout(Targets::default()),
                ExchangeKind::Topic => Index::Topic {
                    plain: Trie::default(),
                    selected: Trie::default(),
                },
                ExchangeKind::Headers => Index::Headers(BTreeMap::new()),
            },
        }
    }

    /// Whether a binding with that filter means something here: a topic exchange looks at keys and a headers exchange at
    /// properties, and neither can do with the other's filter. To be asked before binding and before unbinding.
    pub(crate) const fn takes(&self, filter: &Filter) -> bool {
        match &self.index {
            Index::Direct(_) | Index::Fanout(_) => !matches!(filter, Filter::Selected { .. }),
            Index::Topic { .. } => !matches!(filter, Filter::Headers { .. }),
            Index::Headers(_) => matches!(filter, Filter::Headers { .. } | Filter::All),
        }
    }

    /// Adds a binding. Whether it was not there: equal in all fields is the same binding.
    /// [AMQP-queue.bind.duplicates].
    pub(crate) fn bind(
        &mut self,
        filter: &Filter,
        key: &Levels,
        arguments: &Bytes,
        target: T,
    ) -> bool {
        let route = self.route_of(filter, key);
        let binding = encode_binding(&route, filter, key, arguments);
        if !self.bindings.insert((target.clone(), binding)) {
            return false;
        }
        match &mut self.index {
            Index::Direct(keys) => {
                let Filter::Exact(key) = decode_route(&route) else {
                    unreachable!("a direct exchange routes by keys")
                };
                keys.entry(key).or_default().insert(target);
            }
            Index::Fanout(targets) => {
                targets.insert(target);
            }
            Index::Topic { plain, selected } => match decode_route(&route) {
                Filter::Pattern(pattern) => {
                    plain.insert(&pattern, target);
                }
                Filter::Selected { pattern, selector } => {
                    selected.insert(&pattern, (target, selector));
                }
                _ => unreachable!("a topic exchange routes by patterns"),
            },
            Index::Headers(rules) => {
                let rule = rules
                    .entry(route.into())
                    .or_insert_with_key(|route| Rule::new(route));
                rule.targets.insert(target);
            }
        }
        true
    }

    /// Removes a binding. Whether it was there.
    pub(crate) fn unbind(
        &mut self,
        filter: &Filter,
        key: &Levels,
        arguments: &Bytes,
        target: &T,
    ) -> bool {
        let route = self.route_of(filter, key);
        let binding = encode_binding(&route, filter, key, arguments);
        let entry = (target.clone(), binding);
        if !self.bindings.remove(&entry) {
            return false;
        }
        self.forget_route(target, &entry.1);
        true
    }

    /// Has a topic exchange route by a pattern to a target that has no bindings, and whose patterns are kept elsewhere, each
    /// once: it is no binding.
    pub(crate) fn subscribe(&mut self, pattern: &Pattern, target: T) {
        if let Index::Topic { plain, .. } = &mut self.index {
            plain.insert(pattern, target);
        }
    }

    /// Takes back an [`Exchange::subscribe`].
    pub(crate) fn unsubscribe(&mut self, pattern: &Pattern, target: &T) {
        if let Index::Topic { plain, .. } = &mut self.index {
            plain.remove(pattern, target);
        }
    }

    /// Removes all bindings of a target, and says how many there were.
    #[cfg(test)]
    pub(crate) fn remove_target(&mut self, target: &T) -> usize {
        let mut count = 0;
        while let Some(entry) = self.first_binding(target, &[]).cloned() {
            self.bindings.remove(&entry);
            self.forget_route(target, &entry.1);
            count += 1;
        }
        count
    }

    /// Adds the targets that a message published with `key` is given to. `out` is a set: sorted, without repetition,
    /// together with what it held before (the targets of the message's other keys).
    ///
    /// In the root space a leading wildcard does not match a first level that starts with `$`.
    /// [AMQP-queue.bind.routing-key.direct-exchange-key-matching].
    pub(crate) fn route(
        &self,
        key: &Levels,
        message: &Message,
        root_space: bool,
        out: &mut Vec<T>,
    ) {
        // What is taken over from one set alone is one.
        let mut sets = usize::from(!out.is_empty());
        let mut add_all = |targets: &Targets<T>| {
            sets += 1;
            targets.add_to(out);
        };
        match &self.index {
            Index::Direct(keys) => {
                if let Some(targets) = keys.get(key) {
                    add_all(targets);
                }
            }
            Index::Fanout(targets) => add_all(targets),
            Index::Topic { plain, selected } => {
                plain.for_each_set(key, root_space, &mut add_all);
                selected.for_each_match(key, root_space, |(target, selector)| {
                    if selector.matches(message) {
                        sets += 1;
                        out.push(target.clone());
                    }
                });
            }
            Index::Headers(rules) => {
                for rule in rules.values() {
                    if headers_match(rule.matching, &rule.arguments, &message.properties) {
                        add_all(&rule.targets);
                    }
                }
            }
        }
        if sets > 1 {
            make_set(out);
        }
    }

    /// Whether it looks at nothing of a message but its key.
    pub(crate) fn looks_at_key_only(&self) -> bool {
        match &self.index {
            Index::Direct(_) | Index::Fanout(_) => true,
            Index::Topic { selected, .. } => selected.is_empty(),
            Index::Headers(_) => false,
        }
    }

    /// How many bindings there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// All bindings, by target and then in an order that follows from what they are: filter, key, arguments, target.
    #[cfg(test)]
    pub(crate) fn bindings(&self) -> impl Iterator<Item = (Filter, Levels, Bytes, &T)> {
        self.bindings.iter().map(|(target, binding)| {
            let (filter, key, arguments) = decode_binding(binding);
            (filter, key, arguments, target)
        })
    }

    /// The first binding of `target` whose encoded form is `from` or behind it.
    fn first_binding(&self, target: &T, from: &[u8]) -> Option<&(T, Box<[u8]>)> {
        let from = (target.clone(), Box::from(from));
        self.bindings
            .range((Bound::Included(&from), Bound::Unbounded))
            .next()
            .filter(|(other, _)| other == target)
    }

    /// Takes the target out of the index entry of a binding that is gone, unless another binding of it routes alike.
    fn forget_route(&mut self, target: &T, gone: &[u8]) {
        let mut reader = Reader::new(Bytes::copy_from_slice(gone));
        let route = reader.bytes().expect("a binding starts with its route");
        let prefix = &gone[..gone.len() - reader.len()];
        if self
            .first_binding(target, prefix)
            .is_some_and(|(_, other)| other.starts_with(prefix))
        {
            return;
        }
        match &mut self.index {
            Index::Direct(keys) => {
                let Filter::Exact(key) = decode_route(&route) else {
                    unreachable!("a direct exchange routes by keys")
                };
                if let Some(targets) = keys.get_mut(&key) {
                    targets.remove(target);
                    if targets.is_empty() {
                        keys.remove(&key);
                    }
                }
            }
            Index::Fanout(targets) => {
                targets.remove(target);
            }
            Index::Topic { plain, selected } => match decode_route(&route) {
                Filter::Pattern(pattern) => {
                    plain.remove(&pattern, target);
                }
                Filter::Selected { pattern, selector } => {
                    selected.remove(&pattern, &(target.clone(), selector));
                }
                _ => unreachable!("a topic exchange routes by patterns"),
            },
            Index::Headers(rules) => {
                if let Some(rule) = rules.get_mut(&route[..]) {
                    rule.targets.remove(target);
                    if rule.targets.is_empty() {
                        rules.remove(&route[..]);
                    }
                }
            }
        }
    }

    /// What a binding routes by here, encoded as a filter.
    fn route_of(&self, filter: &Filter, key: &Levels) -> Vec<u8> {
        let mut out = Vec::new();
        let rule = |matching| Filter::Headers {
            matching,
            arguments: Properties::default(),
        };
        match (&self.index, filter) {
            (Index::Direct(_), _) => put_filter(&mut out, &Filter::Exact(key.clone())),
            (Index::Fanout(_), _) => put_filter(&mut out, &Filter::All),
            (Index::Topic { .. }, Filter::Pattern(_) | Filter::Selected { .. })
            | (Index::Headers(_), Filter::Headers { .. }) => put_filter(&mut out, filter),
            (Index::Topic { .. }, Filter::Exact(levels)) => {
                put_filter(&mut out, &Filter::Pattern(literal(levels)));
            }
            (Index::Topic { .. }, Filter::All) => {
                put_filter(&mut out, &Filter::Pattern(Pattern(vec![FilterLevel::Many])));
            }
            (Index::Headers(_), Filter::All) => put_filter(&mut out, &rule(HeaderMatch::All)),
            // Not taken: nothing but the key itself, and nothing at all.
            (Index::Topic { .. }, Filter::Headers { .. }) => {
                put_filter(&mut out, &Filter::Pattern(literal(key)));
            }
            (
                Index::Headers(_),
                Filter::Exact(_) | Filter::Pattern(_) | Filter::Selected { .. },
            ) => {
                put_filter(&mut out, &rule(HeaderMatch::Any));
            }
        }
        out
    }
}

impl<T> Rule<T> {
    /// The rule of an encoded route, without targets. It keeps a copy, not the read buffer that the binding came in.
    fn new(route: &[u8]) -> Self {
        let Filter::Headers {
            matching,
            arguments,
        } = decode_route(route)
        else {
            unreachable!("a headers exchange routes by properties")
        };
        Self {
            matching,
            arguments,
            targets: Targets::default(),
        }
    }
}

fn decode_route(route: &[u8]) -> Filter {
    let mut reader = Reader::new(Bytes::copy_from_slice(route));
    read_filter(&mut reader).expect("encoded here")
}

/// The pattern that matches exactly these levels.
fn literal(levels: &Levels) -> Pattern {
    let exact = |level: &[u8]| FilterLevel::Exact(Bytes::copy_from_slice(level));
    Pattern(levels.iter().map(exact).collect())
}

fn encode_binding(route: &[u8], filter: &Filter, key: &Levels, arguments: &Bytes) -> Box<[u8]> {
    let mut out = Vec::with_capacity(2 * route.len() + key.bytes_len() + arguments.len() + 16);
    put_bytes(&mut out, route);
    put_filter(&mut out, filter);
    put_levels(&mut out, key);
    put_bytes(&mut out, arguments);
    out.into_boxed_slice()
}

#[cfg(test)]
fn decode_binding(binding: &[u8]) -> (Filter, Levels, Bytes) {
    let mut reader = Reader::new(Bytes::copy_from_slice(binding));
    reader.bytes().expect("encoded here");
    let filter = read_filter(&mut reader).expect("encoded here");
    let key = message::read_levels(&mut reader).expect("encoded here");
    let arguments = reader.bytes().expect("encoded here");
    (filter, key, arguments)
}

#[cfg(test)]
mod tests;
