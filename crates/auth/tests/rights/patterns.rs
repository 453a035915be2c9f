//! Covering and overlapping against brute force: every name over a small alphabet, up to a length.
//!
//! The names hold one letter that no pattern spells out, and are longer than the patterns, so that what holds for them
//! holds for all names.

use auth::{
    Action::{Publish, Subscribe},
    Keys, What,
};
use message::{Filter, Levels};
use proptest::prelude::*;

use super::{Ada, words::filter_of};

/// Longer than any pattern below has levels, by one for each of its `#` and one more.
const NAME_LEN_MAX: usize = 7;

fn names() -> Vec<Levels> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..NAME_LEN_MAX {
        let until = all.len();
        for at in from..until {
            for letter in ["a", "b", "z"] {
                let mut longer: Vec<&str> = all[at].clone();
                longer.push(letter);
                all.push(longer);
            }
        }
        from = until;
    }
    all.into_iter()
        .map(|name| Levels::collect(name).expect("short"))
        .collect()
}

fn pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![3 => Just("a"), 2 => Just("b"), 2 => Just("*"), 2 => Just("#")],
        1..5,
    )
    .prop_map(|words| words.join("."))
}

fn matches(filter: &Filter, name: &Levels) -> bool {
    let Filter::Pattern(pattern) = filter else {
        unreachable!("made as patterns");
    };
    pattern.matches(name)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn covering_overlapping_and_matching_are_those_of_the_names(rule in pattern(), asked in pattern()) {
        thread_local! {
            static NAMES: Vec<Levels> = names();
        }
        let (ours, theirs) = (filter_of(&rule), filter_of(&asked));
        let allow = Ada::under(&format!("{{allow = ['publish', 'subscribe'], exchange = 'x', key = '{rule}'}}"));
        let deny = Ada::under(&format!("{{deny = ['subscribe'], exchange = 'x', key = '{rule}'}}"));
        let (mut covers, mut overlaps) = (true, false);
        NAMES.with(|names| {
            for name in names {
                let (own, given) = (matches(&ours, name), matches(&theirs, name));
                covers &= own || !given;
                overlaps |= own && given;
                let publish = allow.may(Publish, What::Exchange(b"x", Keys::One(name)));
                assert_eq!(publish, own, "{rule} {name:?}");
            }
        });
        let whole = What::Exchange(b"x", Keys::Of(&theirs));
        prop_assert_eq!(allow.may(Subscribe, whole), covers, "{} covers {}", rule, asked);
        prop_assert_eq!(deny.may(Subscribe, whole), !overlaps, "{} overlaps {}", rule, asked);
    }
}

#[test]
fn a_filter_made_to_cost_time_is_refused_in_little() {
    // Every `#` of the filter doubles what a naive search looks at.
    let rule = ["#.*.a", "#.*.*.b", "#.*.*.*.c", "#.*.*.*.*.d.#"].join(".");
    let ada = Ada::under(&format!(
        "{{allow = ['subscribe'], exchange = 'x', key = '{rule}'}}"
    ));
    let asked = filter_of(&["#", "*", "#", "a"].repeat(60).join("."));
    assert!(!ada.may(Subscribe, What::Exchange(b"x", Keys::Of(&asked))));
}
