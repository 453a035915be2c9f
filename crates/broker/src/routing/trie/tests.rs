//! The trie against the definition of a match, and against a count of its steps.

use std::collections::BTreeSet;

use bytes::Bytes;
use message::LEVELS_MAX;
use proptest::prelude::*;

use super::super::samples::{amqp, levels, matches_by_table, passes, pattern, topic};
use super::*;

fn found<T: Ord + Clone>(trie: &Trie<T>, topic: &Levels, root_space: bool) -> Vec<T> {
    let mut found = Vec::new();
    trie.for_each_match(topic, root_space, |target| found.push(target.clone()));
    found
}

fn matched(patterns: &[&str], topic: &str, root_space: bool) -> Vec<String> {
    let mut trie = Trie::default();
    for pattern in patterns {
        trie.insert(&amqp(pattern), (*pattern).to_owned());
    }
    found(&trie, &levels(topic), root_space)
}

/// The root, and each way down that some pattern needs.
fn nodes_needed(pairs: &BTreeSet<(Pattern, u8)>) -> usize {
    let ways: BTreeSet<&[FilterLevel]> = pairs
        .iter()
        .flat_map(|(pattern, _)| (0..=pattern.0.len()).map(|len| &pattern.0[..len]))
        .collect();
    ways.len().max(1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_trie_finds_what_the_definition_says(
        changes in prop::collection::vec((prop::bool::weighted(0.65), pattern(), 0u8..3), 0..60),
        topics in prop::collection::vec((topic(), any::<bool>()), 1..12),
    ) {
        let mut trie = Trie::default();
        let mut pairs = BTreeSet::new();
        for (add, pattern, target) in changes {
            if add {
                prop_assert_eq!(trie.insert(&pattern, target), pairs.insert((pattern, target)));
            } else {
                prop_assert_eq!(trie.remove(&pattern, &target), pairs.remove(&(pattern, target)));
            }
            prop_assert_eq!(trie.count_nodes(), nodes_needed(&pairs));
        }
        for (topic, root_space) in topics {
            let mut got = found(&trie, &topic, root_space);
            got.sort_unstable();
            let mut wanted: Vec<u8> = pairs
                .iter()
                .filter(|(pattern, _)| passes(pattern, &topic, root_space))
                .map(|(_, target)| *target)
                .collect();
            wanted.sort_unstable();
            prop_assert_eq!(got, wanted, "topic {:?}, root space {}", topic, root_space);
        }
    }

    #[test]
    fn taking_everything_out_leaves_only_the_root(
        pairs in prop::collection::btree_set((pattern(), 0u8..3), 0..60),
    ) {
        let mut trie = Trie::default();
        for (pattern, target) in &pairs {
            trie.insert(pattern, *target);
        }
        for (pattern, target) in pairs.iter().rev() {
            prop_assert!(trie.remove(pattern, target));
            prop_assert!(!trie.remove(pattern, target));
        }
        prop_assert_eq!(trie.count_nodes(), 1);
    }

    #[test]
    fn the_order_of_results_does_not_depend_on_history(
        kept in prop::collection::btree_set((pattern(), 0u8..3), 0..40),
        passing in prop::collection::btree_set((pattern(), 0u8..3), 0..40),
        topic in topic(),
    ) {
        let mut plain = Trie::default();
        for (pattern, target) in &kept {
            plain.insert(pattern, *target);
        }
        let mut other = Trie::default();
        for (pattern, target) in kept.union(&passing).collect::<Vec<_>>().into_iter().rev() {
            other.insert(pattern, *target);
        }
        for (pattern, target) in passing.difference(&kept) {
            other.remove(pattern, target);
        }
        prop_assert_eq!(found(&plain, &topic, false), found(&other, &topic, false));
    }
}

#[test]
fn a_hash_matches_the_parent_level_and_no_level() {
    let patterns = ["#", "a.#", "a.b.#", "a.b.c.#", "#.a.b", "a.#.b"];
    assert_eq!(
        matched(&patterns, "a.b", false),
        ["a.b.#", "a.#", "a.#.b", "#", "#.a.b"]
    );
    assert_eq!(matched(&["#", "*", "a"], "", false), ["#"]);
}

/// [MQTT-4.7.2-1], [MQTT3-4.7.2-1].
#[test]
fn doors_5_a_leading_wildcard_does_not_match_a_dollar_level_in_the_root_space() {
    let patterns = ["#", "*.x", "*.#", "#.x", "$s.x", "$s.*", "$s.#"];
    assert_eq!(
        matched(&patterns, "$s.x", true),
        ["$s.x", "$s.*", "$s.#"],
        "the root space"
    );
    assert_eq!(
        matched(&patterns, "$s.x", false).len(),
        patterns.len(),
        "another exchange"
    );
    // Only the first level hides.
    assert_eq!(matched(&["#", "*.*", "a.*"], "a.$s", true).len(), 3);
}

#[test]
fn a_pair_is_reported_once_however_the_levels_are_divided() {
    assert_eq!(
        matched(&["#.a.#", "#.#", "#.#.#.a.#"], "a.a.a.a", false).len(),
        3
    );
}

#[test]
fn many_hashes_cost_no_more_than_their_nodes() {
    let topics = ["a", "b", "a.b", "x", "a.a.b.x"].map(|unit| {
        let all = vec![unit; 60].join(".");
        levels(&all.split('.').take(60).collect::<Vec<_>>().join("."))
    });
    let ways = [
        vec!["#"; 20].join("."),
        vec!["#.a"; 20].join("."),
        vec!["#.a"; 20].join(".") + ".z",
        vec!["#.*"; 20].join("."),
        vec!["#.a.*"; 20].join(".") + ".#",
        vec!["*.#.b.#"; 20].join("."),
    ];
    let mut trie = Trie::default();
    for way in &ways {
        trie.insert(&amqp(way), way.clone());
    }
    let nodes = trie.count_nodes();
    for topic in &topics {
        let mut got = Vec::new();
        let steps = trie.walk(topic, false, |ways| ways.add_to(&mut got));
        got.sort();
        let mut wanted: Vec<String> = ways
            .iter()
            .filter(|way| matches_by_table(&amqp(way), topic))
            .cloned()
            .collect();
        wanted.sort();
        assert_eq!(got, wanted, "topic {topic:?}");
        // A visit of each node at most, and a look-up of each of the few different levels there.
        assert!(steps <= nodes * 4, "{steps} steps in {nodes} nodes");
    }
}

#[test]
fn a_wide_tree_of_hashes_visits_each_node_once() {
    // All patterns of `#` and then five of {a, *}, each followed by `#`: every node is reached in very many ways.
    let mut trie = Trie::default();
    for bits in 0..32u32 {
        let ways: Vec<&str> = (0..5)
            .map(|at| if bits >> at & 1 == 0 { "a.#" } else { "*.#" })
            .collect();
        trie.insert(&amqp(&format!("#.{}", ways.join("."))), bits);
    }
    let topic = Levels::collect(vec!["a"; LEVELS_MAX]).expect("the most levels");
    let mut count = 0;
    let steps = trie.walk(&topic, false, |targets| targets.for_each(|_| count += 1));
    assert_eq!(count, 32);
    assert!(steps <= 2 * trie.count_nodes(), "{steps} steps");
}

#[test]
fn a_hundred_thousand_subscriptions_are_not_looked_through() {
    let mut trie = Trie::default();
    for device in 0..50_000u32 {
        trie.insert(&amqp(&format!("devices.{device}.command")), device);
        trie.insert(&amqp(&format!("devices.{device}.state.#")), device);
    }
    trie.insert(&amqp("devices.*.command"), 77);
    let mut got = Vec::new();
    let steps = trie.walk(&levels("devices.123.command"), true, |targets| {
        targets.add_to(&mut got);
    });
    assert_eq!(got, [123, 77]);
    assert!(steps < 10, "{steps} steps");
    for device in 0..50_000u32 {
        assert!(trie.remove(&amqp(&format!("devices.{device}.command")), &device));
        assert!(trie.remove(&amqp(&format!("devices.{device}.state.#")), &device));
    }
    assert_eq!(trie.count_nodes(), 4);
}

#[test]
fn a_hundred_thousand_targets_of_one_pattern_stay_in_order() {
    let mut trie = Trie::default();
    for target in (0..100_000u32).rev() {
        assert!(trie.insert(&amqp("news.#"), target));
    }
    assert!(
        found(&trie, &levels("news.today"), true)
            .into_iter()
            .eq(0..100_000)
    );
    for target in 0..100_000 {
        assert!(trie.remove(&amqp("news.#"), &target));
    }
    assert_eq!(trie.count_nodes(), 1);
}

#[test]
fn a_pattern_of_any_length_neither_overflows_the_stack_nor_matches_wrongly() {
    let topic = Levels::collect(vec!["a"; LEVELS_MAX]).expect("the most levels");
    let exact = FilterLevel::Exact(Bytes::from_static(b"a"));
    for (level, matches) in [
        (FilterLevel::Many, true),
        (FilterLevel::One, false),
        (exact, false),
    ] {
        let long = Pattern(vec![level; 40_000]);
        let mut trie = Trie::default();
        assert!(trie.insert(&long, 1));
        assert_eq!(!found(&trie, &topic, true).is_empty(), matches);
        assert!(trie.remove(&long, &1));
        assert!(trie.root.is_leaf());
        trie.insert(&long, 2);
        drop(trie);
    }
}
