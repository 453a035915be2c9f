//! What the tests of this folder draw from: topics and patterns over so few names that they collide all the time.

use bytes::Bytes;
use message::{FilterLevel, Levels, Pattern};
use proptest::prelude::*;

/// Names: two ordinary ones, one that wildcards do not find at the front of the root space, and the empty one.
const NAMES: [&str; 4] = ["a", "b", "$c", ""];

pub(super) fn topic() -> impl Strategy<Value = Levels> {
    let name = prop::sample::select(&NAMES[..]);
    prop::collection::vec(name, 0..7)
        .prop_map(|names| Levels::collect(names).expect("few and short"))
}

pub(super) fn pattern() -> impl Strategy<Value = Pattern> {
    let level = prop_oneof![
        3 => prop::sample::select(&NAMES[..]).prop_map(|name| FilterLevel::Exact(name.into())),
        2 => Just(FilterLevel::One),
        2 => Just(FilterLevel::Many),
    ];
    prop::collection::vec(level, 0..6).prop_map(Pattern)
}

/// Levels separated by dots; no level at all for the empty text.
pub(super) fn levels(text: &str) -> Levels {
    if text.is_empty() {
        return Levels::none();
    }
    Levels::split(Bytes::copy_from_slice(text.as_bytes()), b'.').expect("a short text")
}

/// A pattern as AMQP writes it.
pub(super) fn amqp(text: &str) -> Pattern {
    let level = |level: &[u8]| match level {
        b"*" => FilterLevel::One,
        b"#" => FilterLevel::Many,
        name => FilterLevel::Exact(Bytes::copy_from_slice(name)),
    };
    Pattern(levels(text).iter().map(level).collect())
}

/// The definition: the pattern matches, and in the root space no leading wildcard finds a first level with `$`.
pub(super) fn passes(pattern: &Pattern, topic: &Levels, root_space: bool) -> bool {
    let wild = matches!(
        pattern.0.first(),
        Some(FilterLevel::One | FilterLevel::Many)
    );
    let hidden = topic
        .level(0)
        .is_some_and(|first| first.first() == Some(&b'$'));
    pattern.matches(topic) && !(root_space && wild && hidden)
}

/// The same as [`Pattern::matches`] for patterns on which that would not come back: a table, level by level.
pub(super) fn matches_by_table(pattern: &Pattern, topic: &Levels) -> bool {
    // `row[n]`: the levels of the pattern so far match the first n levels of the topic.
    let mut row = vec![false; topic.len() + 1];
    row[0] = true;
    for level in &pattern.0 {
        let mut next = vec![false; topic.len() + 1];
        for n in 0..=topic.len() {
            next[n] = match level {
                FilterLevel::Many => row[n] || (n > 0 && next[n - 1]),
                FilterLevel::One => n > 0 && row[n - 1],
                FilterLevel::Exact(name) => {
                    n > 0 && row[n - 1] && topic.level(n - 1) == Some(&name[..])
                }
            };
        }
        row = next;
    }
    row[topic.len()]
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_definition(pattern in pattern(), topic in topic()) {
        prop_assert_eq!(matches_by_table(&pattern, &topic), pattern.matches(&topic));
    }
}
