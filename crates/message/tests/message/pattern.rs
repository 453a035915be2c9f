//! A pattern matches what its definition says, and in bounded time.

use bytes::Bytes;
use message::{FilterLevel, LEVELS_MAX, Levels, Pattern};
use proptest::prelude::*;

/// The definition, by plain recursion.
fn defined(pattern: &[FilterLevel], topic: &[&[u8]]) -> bool {
    match pattern.split_first() {
        None => topic.is_empty(),
        Some((FilterLevel::Many, rest)) => {
            (0..=topic.len()).any(|skipped| defined(rest, &topic[skipped..]))
        }
        Some((level, rest)) => topic.split_first().is_some_and(|(first, others)| {
            let matches = match level {
                FilterLevel::Exact(name) => name == first,
                FilterLevel::One | FilterLevel::Many => true,
            };
            matches && defined(rest, others)
        }),
    }
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let level = prop_oneof![
        prop::sample::select(&["a", "b", ""][..]).prop_map(|name| FilterLevel::Exact(name.into())),
        Just(FilterLevel::One),
        Just(FilterLevel::Many),
    ];
    prop::collection::vec(level, 0..8).prop_map(Pattern)
}

fn topic() -> impl Strategy<Value = Levels> {
    prop::collection::vec(prop::sample::select(&["a", "b", ""][..]), 0..9)
        .prop_map(|levels| Levels::collect(levels).expect("few"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_pattern_matches_as_defined(pattern in pattern(), topic in topic()) {
        let levels: Vec<&[u8]> = topic.iter().collect();
        prop_assert_eq!(pattern.matches(&topic), defined(&pattern.0, &levels));
    }

    #[test]
    fn a_pattern_without_wildcards_is_a_topic(topic in topic(), other in topic()) {
        let exact = |level: &[u8]| FilterLevel::Exact(Bytes::copy_from_slice(level));
        let pattern = Pattern(topic.iter().map(exact).collect());
        prop_assert_eq!(pattern.matches(&other), topic == other);
        prop_assert_eq!(pattern.exact(), Some(topic));
    }
}

#[test]
fn a_pattern_with_a_wildcard_names_no_topic() {
    for wildcard in [FilterLevel::One, FilterLevel::Many] {
        assert_eq!(Pattern(vec![wildcard]).exact(), None);
    }
}

#[test]
fn many_hashes_come_to_an_end() {
    let a = FilterLevel::Exact(Bytes::from_static(b"a"));
    let z = FilterLevel::Exact(Bytes::from_static(b"z"));
    let topic = Levels::collect(vec!["a"; LEVELS_MAX]).expect("the most levels");
    let mut pattern = Pattern(
        [FilterLevel::Many, a]
            .into_iter()
            .cycle()
            .take(40)
            .collect(),
    );
    pattern.0.push(FilterLevel::Many);
    assert!(pattern.matches(&topic));
    pattern.0.push(z);
    assert!(!pattern.matches(&topic));
}
