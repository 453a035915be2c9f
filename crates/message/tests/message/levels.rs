//! Levels are their levels: how they were cut, and from what, does not show.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use bytes::Bytes;
use message::{LEVELS_MAX, Levels, NAME_LEN_MAX};
use proptest::prelude::*;

fn hash(levels: &Levels) -> u64 {
    let mut hasher = DefaultHasher::new();
    levels.hash(&mut hasher);
    hasher.finish()
}

/// The same levels, built in every way that there is.
fn built(parts: &[Vec<u8>]) -> Vec<Levels> {
    let collected = Levels::collect(parts).expect("few and short");
    let mut all = vec![collected.compact(), collected];
    for separator in [b'.', b'/'] {
        if !parts.is_empty() {
            let text = Bytes::from(parts.join(&separator));
            all.push(Levels::split(text.clone(), separator).expect("few and short"));
            // The same as a part of a longer buffer.
            let buffer = Bytes::from([b"head", &text[..], b"tail"].concat());
            let part = buffer.slice(4..4 + text.len());
            all.push(Levels::split(part, separator).expect("few and short"));
        }
    }
    match parts {
        [] => all.push(Levels::none()),
        [only] => all.push(Levels::one(Bytes::from(only.clone()))),
        _ => {}
    }
    all
}

fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    // Neither separator occurs in them.
    prop::collection::vec(
        prop::collection::vec(prop::sample::select(&b"ab\xff"[..]), 0..3),
        0..6,
    )
}

proptest! {
    #[test]
    fn how_levels_were_built_does_not_show(a in parts(), b in parts()) {
        for one in built(&a) {
            prop_assert_eq!(one.len(), a.len());
            prop_assert_eq!(one.is_empty(), a.is_empty());
            prop_assert_eq!(one.bytes_len(), a.concat().len());
            // The text that is shown as it is, if any, is what joining them gives.
            for separator in [b'.', b'/'] {
                let joined = one.joined_by(separator);
                prop_assert!(joined.is_none_or(|text| text == a.join(&separator)));
            }
            prop_assert!(one.iter().eq(a.iter().map(|level| &level[..])));
            for at in 0..=a.len() {
                prop_assert_eq!(one.level(at), a.get(at).map(|level| &level[..]));
            }
            for same in built(&a) {
                prop_assert_eq!(&one, &same);
                prop_assert_eq!(hash(&one), hash(&same));
            }
            for other in built(&b) {
                prop_assert_eq!(one.cmp(&other), a.cmp(&b));
                prop_assert_eq!(one == other, a == b);
            }
        }
    }
}

#[test]
fn doors_1_no_level_is_not_one_empty_level() {
    let none = Levels::none();
    let empty = Levels::one(Bytes::new());
    assert_ne!(none, empty);
    assert_eq!((none.len(), empty.len()), (0, 1));
    assert_eq!(Levels::split(Bytes::new(), b'.'), Some(empty));
    // Nor are levels the same as their bytes run together.
    let split = |text: &'static str| Levels::split(Bytes::from_static(text.as_bytes()), b'.');
    assert_ne!(split("a.bc"), split("ab.c"));
    assert_ne!(split("a."), split("a"));
    assert_ne!(split(".a"), split("a."));
}

#[test]
fn the_number_of_levels_has_a_limit() {
    let most = "/".repeat(LEVELS_MAX - 1);
    let levels = Levels::split(Bytes::from(most.clone()), b'/').expect("the most levels");
    assert_eq!(levels.len(), LEVELS_MAX);
    assert_eq!(Levels::split(Bytes::from(most + "/"), b'/'), None);
    assert_eq!(Levels::collect(vec![b""; LEVELS_MAX]), Some(levels));
    assert_eq!(Levels::collect(vec![b""; LEVELS_MAX + 1]), None);
}

#[test]
fn the_length_of_levels_has_a_limit() {
    let longest = Bytes::from(vec![b'a'; NAME_LEN_MAX]);
    let longer = Bytes::from(vec![b'a'; NAME_LEN_MAX + 1]);
    let one = Levels::one(longest.clone());
    assert_eq!(one.bytes_len(), NAME_LEN_MAX);
    assert_eq!(Levels::split(longest.clone(), b'/'), Some(one.clone()));
    assert_eq!(Levels::split(longer.clone(), b'/'), None);
    assert_eq!(Levels::collect([&longest]), Some(one));
    assert_eq!(Levels::collect([&longer]), None);
    assert_eq!(Levels::collect([&longest[..], b"a"]), None);
    // The separators count in a text, but are not kept in levels.
    let at_the_end = Bytes::from([&longest[1..], b"/"].concat());
    let levels = Levels::split(at_the_end, b'/').expect("just as long");
    assert_eq!((levels.len(), levels.level(1)), (2, Some(&b""[..])));
}

#[test]
fn levels_show_the_text_that_they_were_cut_from() {
    let cut = |text: &'static str| Levels::split(Bytes::from_static(text.as_bytes()), b'/');
    for text in ["", "a", "a/b", "/", "a//b", "/a/"] {
        let levels = cut(text).expect("short");
        assert_eq!(levels.joined_by(b'/'), Some(text.as_bytes()));
        let one = levels.len() == 1;
        assert_eq!(levels.joined_by(b'.').is_some(), one, "{text}");
        assert_eq!(levels.compact().joined_by(b'/').is_some(), one, "{text}");
    }
    assert_eq!(Levels::none().joined_by(b'/'), None);
}

#[test]
fn a_form_is_the_levels_and_the_text_and_a_detached_copy_keeps_it() {
    let all = built(&[b"a".to_vec(), b"".to_vec(), b"bc".to_vec()]);
    for one in &all {
        let copy = one.detached();
        assert_eq!(copy, *one);
        assert!(copy.is_same_form(one));
        assert_eq!(copy.text(), one.text());
        for other in &all {
            assert_eq!(one.is_same_form(other), one.text() == other.text());
        }
    }
    // The same text, cut elsewhere.
    let parts = |parts: [&[u8]; 2]| Levels::collect(parts).expect("few and short");
    assert!(!parts([b"a", b"bc"]).is_same_form(&parts([b"ab", b"c"])));
}
