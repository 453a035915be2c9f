//! What a subscription asks for in a topic space.

use bytes::Bytes;

use crate::{Levels, Properties, Selector};

/// First levels of the root space that nobody publishes to (DOORS 5), but for what [`Filter::is_reserved`] leaves out.
pub const RESERVED: [&[u8]; 5] = [b"$queue", b"$stream", b"$share", b"$SYS", b"$topic"];

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

impl Filter {
    /// Whether it reads what is reserved in the root space (DOORS 5), where nothing is published that it could match. Open there is
    /// `$SYS/broker/connection/NAME/state` alone, where bridges say whether they are connected.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let levels: Vec<Option<&[u8]>> = match self {
            Self::Exact(levels) => levels.iter().map(Some).collect(),
            Self::Pattern(pattern) | Self::Selected { pattern, .. } => {
                let levels = pattern.0.iter().map(|level| match level {
                    FilterLevel::Exact(text) => Some(&text[..]),
                    FilterLevel::One | FilterLevel::Many => None,
                });
                levels.collect()
            }
            Self::All | Self::Headers { .. } => return false,
        };
        let first = levels.first().copied().flatten();
        let is_bridge_state = matches!(
            levels[..],
            [_, Some(b"broker"), Some(b"connection"), _, Some(b"state")]
        );
        first.is_some_and(|first| {
            RESERVED.contains(&first) && !(first == b"$SYS" && is_bridge_state)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_a5_what_is_reserved_is_told_by_the_first_level() {
        let pattern = |text: &'static str| {
            let level = |level| match level {
                "+" => FilterLevel::One,
                "#" => FilterLevel::Many,
                level => FilterLevel::Exact(Bytes::from_static(level.as_bytes())),
            };
            Filter::Pattern(Pattern(text.split('/').map(level).collect()))
        };
        for reserved in [
            "$SYS/#",
            "$SYS",
            "$SYS/broker/uptime",
            "$SYS/broker/connection/#",
            "$topic/a",
            "$queue/broker/connection/x/state",
        ] {
            assert!(pattern(reserved).is_reserved(), "{reserved}");
        }
        for open in [
            "$SYS/broker/connection/+/state",
            "#",
            "+/a",
            "$other/a",
            "a/$SYS",
        ] {
            assert!(!pattern(open).is_reserved(), "{open}");
        }
        let exact = Levels::collect(["$SYS", "x"]).expect("few levels");
        assert!(Filter::Exact(exact).is_reserved());
        assert!(!Filter::All.is_reserved());
    }
}
