//! The retained tree against a plain map that is filtered, and against a count of its steps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::samples::{amqp, levels, matches_by_table, passes, pattern, topic};
use super::*;

fn found<T: Clone>(tree: &RetainedTree<T>, pattern: &Pattern) -> Vec<(Levels, T)> {
    let mut found = Vec::new();
    let rest = tree.show_matches(pattern, None, usize::MAX, |topic, value| {
        found.push((topic.clone(), value.clone()));
        true
    });
    assert_eq!(rest, None);
    found
}

/// The same in slices of at most so many visits and so many topics, each of which goes on behind the one before.
fn found_in_slices<T: Clone>(
    tree: &RetainedTree<T>,
    pattern: &Pattern,
    visits: usize,
    topics: usize,
) -> Vec<(Levels, T)> {
    let mut found = Vec::new();
    let mut after: Option<Levels> = None;
    loop {
        let mut left = topics;
        let rest = tree.show_matches(pattern, after.as_ref(), visits, |topic, value| {
            found.push((topic.clone(), value.clone()));
            left -= 1;
            left > 0
        });
        let Some(rest) = rest else { return found };
        assert!(after.is_none_or(|after| after < rest), "no progress");
        after = Some(rest);
    }
}

/// The root, and each way down to a topic that has a value.
fn nodes_needed(map: &BTreeMap<Levels, u8>) -> usize {
    let ways: std::collections::BTreeSet<Vec<&[u8]>> = map
        .keys()
        .flat_map(|topic| (0..=topic.len()).map(|len| topic.iter().take(len).collect()))
        .collect();
    ways.len().max(1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_tree_finds_what_a_filter_over_all_topics_finds(
        changes in prop::collection::vec((prop::bool::weighted(0.7), topic(), any::<u8>()), 0..60),
        patterns in prop::collection::vec(pattern(), 1..12),
    ) {
        let mut tree = RetainedTree::default();
        let mut map = BTreeMap::new();
        for (set, topic, value) in changes {
            if set {
                prop_assert_eq!(tree.set(&topic, value), map.insert(topic, value));
            } else {
                prop_assert_eq!(tree.remove(&topic), map.remove(&topic));
            }
            prop_assert_eq!(tree.len(), map.len());
            prop_assert_eq!(tree.count_nodes(), nodes_needed(&map));
        }
        for topic in map.keys() {
            prop_assert_eq!(tree.get(topic), map.get(topic));
        }
        let mut all = Vec::new();
        tree.for_each(|topic, value| all.push((topic.clone(), *value)));
        prop_assert!(all.iter().map(|(topic, value)| (topic, value)).eq(map.iter()));
        for (at, pattern) in patterns.into_iter().enumerate() {
            let wanted: Vec<(Levels, u8)> = map
                .iter()
                .filter(|(topic, _)| passes(&pattern, topic, true))
                .map(|(topic, value)| (topic.clone(), *value))
                .collect();
            prop_assert_eq!(&found_in_slices(&tree, &pattern, at + 1, 1 + at % 3), &wanted, "pattern {:?}", &pattern);
            prop_assert_eq!(found(&tree, &pattern), wanted, "pattern {:?}", pattern);
        }
        tree.clear();
        prop_assert_eq!((tree.len(), tree.count_nodes()), (0, 1));
    }
}

#[test]
fn a_value_that_is_replaced_counts_once() {
    let mut tree = RetainedTree::default();
    assert_eq!(tree.set(&levels("a.b"), 1), None);
    assert_eq!(tree.set(&levels("a.b"), 2), Some(1));
    assert_eq!((tree.len(), tree.get(&levels("a.b"))), (1, Some(&2)));
    assert_eq!(tree.remove(&levels("a")), None);
    assert_eq!(tree.remove(&levels("a.b.c")), None);
    assert_eq!(tree.remove(&levels("a.b")), Some(2));
    assert_eq!(tree.len(), 0);
}

#[test]
fn doors_5_a_leading_wildcard_does_not_find_a_dollar_level() {
    let mut tree = RetainedTree::default();
    for topic in ["$s.x", "a.$s", "a"] {
        tree.set(&levels(topic), topic);
    }
    let names = |pattern| -> Vec<&str> {
        found(&tree, &amqp(pattern))
            .into_iter()
            .map(|(_, name)| name)
            .collect()
    };
    assert_eq!(names("#"), ["a", "a.$s"]);
    assert_eq!(names("*.#"), ["a", "a.$s"]);
    assert_eq!(names("#.x"), [""; 0]);
    assert_eq!(names("*.x"), [""; 0]);
    assert_eq!(names("$s.*"), ["$s.x"]);
    assert_eq!(names("$s.#"), ["$s.x"]);
}

#[test]
fn an_exact_pattern_looks_at_its_own_levels_only() {
    let mut tree = RetainedTree::default();
    for number in 0..10_000 {
        tree.set(&levels(&format!("a.{number}.b")), number);
    }
    assert_eq!(
        tree.walk(&amqp("a.77.b"), None, usize::MAX, |_, _| true).0,
        4
    );
    assert_eq!(
        tree.walk(&amqp("a.77.#"), None, usize::MAX, |_, _| true).0,
        4
    );
}

#[test]
fn many_hashes_visit_each_topic_once() {
    let mut tree = RetainedTree::default();
    for len in 1..=60 {
        for unit in ["a", "b", "a.b"] {
            let text = vec![unit; len].join(".");
            let topic: Vec<&str> = text.split('.').take(len).collect();
            tree.set(&levels(&topic.join(".")), len);
        }
    }
    let nodes = tree.count_nodes();
    for way in [
        vec!["#"; 20].join("."),
        vec!["#.a"; 20].join("."),
        vec!["#.a"; 20].join(".") + ".z",
        vec!["#.*"; 20].join("."),
        vec!["*.#.b.#"; 15].join("."),
    ] {
        let pattern = amqp(&way);
        let mut got = Vec::new();
        let (visited, _) = tree.walk(&pattern, None, usize::MAX, |topic, _| {
            got.push(topic.clone());
            true
        });
        assert!(visited <= nodes, "{visited} visits in {nodes} nodes");
        let mut wanted = Vec::new();
        tree.for_each(|topic, _| {
            if matches_by_table(&pattern, topic) {
                wanted.push(topic.clone());
            }
        });
        assert_eq!(got, wanted, "pattern {way}");
    }
}

#[test]
fn the_longest_topics_and_patterns_fit() {
    let mut tree = RetainedTree::default();
    let longest = Levels::collect(vec!["a"; LEVELS_MAX]).expect("the most levels");
    tree.set(&longest, ());
    let widest: Vec<FilterLevel> =
        std::iter::repeat_n([FilterLevel::Many, FilterLevel::One], LEVELS_MAX)
            .flatten()
            .chain([FilterLevel::Many])
            .collect();
    assert_eq!(found(&tree, &Pattern(widest)).len(), 1);
    assert_eq!(
        found(&tree, &Pattern(vec![FilterLevel::Many; 40_000])).len(),
        1
    );
    assert_eq!(
        found(&tree, &Pattern(vec![FilterLevel::One; 40_000])).len(),
        0
    );
    // More levels than any topic has, with a `#` before each.
    let wider = [FilterLevel::Many, FilterLevel::One]
        .into_iter()
        .cycle()
        .take(40_000)
        .collect();
    assert_eq!(found(&tree, &Pattern(wider)).len(), 0);
}
