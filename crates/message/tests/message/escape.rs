//! The escape of separators: a bijection, in both directions, for each protocol's set of special characters.

use std::borrow::Cow;

use message::{escape_level, unescape_level};
use proptest::prelude::*;

/// AMQP keys, MQTT topics, STOMP topics, `$queue` names in MQTT, names in STOMP destinations.
const SETS: [&[u8]; 5] = [b".", b"/+#", b"./", b"+#", b"/"];

/// Pieces that look like escapes, are escapes, or nearly are.
fn tricky() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(&[
            "%", "25", "2E", "2F", "2B", "23", "2", "5", "E", "2e", "%25", "%2E", "%2F", "%252E", "%%", ".", "/", "+", "#",
        ][..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn doors_2_every_level_comes_back_from_its_text(level in tricky()) {
        for special in SETS {
            let text = escape_level(&level, special);
            prop_assert!(!text.iter().any(|byte| special.contains(byte)), "{:?} shows", special);
            let back = unescape_level(&text, special);
            prop_assert_eq!(&*back, &level[..], "text {:?}", text);
        }
    }

    #[test]
    fn doors_2_every_text_comes_back_from_its_level(text in tricky()) {
        for special in SETS {
            let text: Vec<u8> = text.iter().copied().filter(|byte| !special.contains(byte)).collect();
            let level = unescape_level(&text, special);
            let back = escape_level(&level, special);
            prop_assert_eq!(&*back, &text[..], "level {:?}", level);
        }
    }
}

#[test]
fn doors_2_levels_and_their_texts() {
    for (special, level, text) in [
        (&b"."[..], "1.5", "1%2E5"),
        (b".", "a/b", "a/b"),
        (b".", "100%", "100%"),
        (b".", "%2E", "%252E"),
        (b".", "%252E", "%25252E"),
        (b".", "%25", "%25"),
        (b".", "%2e", "%2e"),
        (b".", "%2F", "%2F"),
        (b".", "%25.", "%25%2E"),
        (b".", "%.2E", "%%2E2E"),
        (b"/+#", "a/b+c#", "a%2Fb%2Bc%23"),
        (b"/+#", "%23", "%2523"),
        (b"./", "a.b/c", "a%2Eb%2Fc"),
        (b"./", "", ""),
    ] {
        assert_eq!(&*escape_level(level.as_bytes(), special), text.as_bytes());
        assert_eq!(&*unescape_level(text.as_bytes(), special), level.as_bytes());
    }
}

#[test]
fn an_ordinary_level_is_not_copied() {
    assert!(matches!(escape_level(b"orders", b"./"), Cow::Borrowed(_)));
    assert!(matches!(unescape_level(b"orders", b"./"), Cow::Borrowed(_)));
}

#[test]
fn every_single_byte_comes_back() {
    for special in SETS {
        for byte in 0..=u8::MAX {
            let text = escape_level(&[byte], special).into_owned();
            assert_eq!(&*unescape_level(&text, special), [byte]);
        }
    }
}
