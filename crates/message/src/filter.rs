//! What a subscription asks for in a topic space.

use bytes::Bytes;

use crate::{Levels, Properties, Selector};

/// One level of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilterLevel {
    /// Exactly this level.
    Exact(Bytes),
    /// Any one level: MQTT `+`, AMQP `*`.
    One,
    /// Any number of levels, none too: `#`. AMQP allows it anywhere, MQTT only at the end.
    Many,
}

/// A topic filter with wildcards, or without.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(pub Vec<FilterLevel>);

impl Pattern {
    /// The topic that this pattern names, if it has no wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<Levels> {
        let levels: Option<Vec<&Bytes>> = self
            .0
            .iter()
            .map(|level| match level {
                FilterLevel::Exact(level) => Some(level),
                FilterLevel::One | FilterLevel::Many => None,
            })
            .collect();
        levels.and_then(Levels::collect)
    }

    /// Whether the pattern matches `topic`: in at most (levels of the pattern) x (levels of the topic) steps, without
    /// memory of its own. What matches nothing yet is given to the last `#` so far, one level at a time.
    ///
    /// The rule that a leading wildcard does not match a first level starting with `$` is of the root space, not of the pattern.
    #[must_use]
    pub fn matches(&self, topic: &Levels) -> bool {
        let (mut at, mut used) = (0, 0);
        // Behind the last `#`, and how many levels of the topic were used up to its end.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(at), topic.level(used)) {
                (None, None) => return true,
                (Some(FilterLevel::Many), _) => {
                    at += 1;
                    retry = Some((at, used));
                    continue;
                }
                (Some(FilterLevel::One), Some(_)) => {
                    at += 1;
                    used += 1;
                    continue;
                }
                (Some(FilterLevel::Exact(wanted)), Some(level)) if wanted == level => {
                    at += 1;
                    used += 1;
                    continue;
                }
                (None | Some(FilterLevel::One | FilterLevel::Exact(_)), _) => {}
            }
            match retry {
                Some((behind, end)) if end < topic.len() => {
                    retry = Some((behind, end + 1));
                    (at, used) = (behind, end + 1);
                }
                _ => return false,
            }
        }
    }
}

/// How the arguments of a headers binding are combined (AMQP 0-9-1, 3.1.3.4; `x-match`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeaderMatch {
    /// Every argument; those whose name starts with `x-` are left out.
    All,
    /// At least one argument; those whose name starts with `x-` are left out.
    Any,
    /// Every argument, `x-` names too.
    AllWithX,
    /// At least one argument, `x-` names too.
    AnyWithX,
}

/// What a subscription or binding asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Everything (fanout exchanges).
    All,
    /// One key (direct exchanges, queues on the default exchange).
    Exact(Levels),
    /// A pattern (topic exchanges, the root space).
    Pattern(Pattern),
    /// A pattern, and of what it matches only what satisfies a selector (topic exchanges, the root space).
    Selected {
        /// The pattern.
        pattern: Pattern,
        /// The selector.
        selector: Selector,
    },
    /// Typed properties (headers exchanges). A `Value::Null` argument asks only that the property is there.
    Headers {
        /// How the arguments are combined.
        matching: HeaderMatch,
        /// The arguments, without `x-match`.
        arguments: Properties,
    },
}
