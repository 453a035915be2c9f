//! Routing keys and binding keys as lists of levels, and back.
//!
//! A key is cut at every `.`; the empty key is no level at all. A `.` inside a level (from a protocol whose separator is
//! another) is written `%2E` by the reversible escape, so text to levels to text and levels to text to levels are both the
//! identity. The one list that has no text of its own is a single empty level: like keys over 255 bytes it is written as
//! the empty key and named in a header.

use std::borrow::Cow;

use bytes::Bytes;
use message::{Filter, FilterLevel, Levels, Pattern, RESERVED, escape_level, unescape_level};

use crate::codec::Short;

const SEPARATOR: u8 = b'.';
const SPECIAL: &[u8] = b".";

/// What a key on the default exchange starts with that means a topic of the root space.
pub(crate) const TOPIC_PREFIX: &[u8] = b"$topic/";
/// What a key or queue name starts with that means a stream.
pub(crate) const STREAM_PREFIX: &[u8] = b"$stream/";

/// Reads a routing key. Never copies a key without an escape.
#[must_use]
pub fn levels(key: &Bytes) -> Levels {
    const FITS: &str = "255 bytes are at most 256 levels";
    if key.is_empty() {
        return Levels::none();
    }
    if !key.contains(&b'%') {
        return Levels::split(key.clone(), SEPARATOR).expect(FITS);
    }
    Levels::collect(
        key.split(|byte| *byte == SEPARATOR)
            .map(|level| unescape_level(level, SPECIAL)),
    )
    .expect(FITS)
}

/// Writes levels as one text, however long it becomes.
#[must_use]
pub fn text(levels: &Levels) -> Vec<u8> {
    let mut out = Vec::with_capacity(levels.bytes_len() + levels.len());
    for (at, level) in levels.iter().enumerate() {
        if at > 0 {
            out.push(SEPARATOR);
        }
        out.extend_from_slice(&escape_level(level, SPECIAL));
    }
    out
}

/// Writes levels as a routing key. `None` when a key cannot say it: too long, or one empty level.
#[must_use]
pub fn routing_key(levels: &Levels) -> Option<Short> {
    let text = text(levels);
    if text.is_empty() && !levels.is_empty() {
        return None;
    }
    Short::new(Bytes::from(text))
}

/// Reads a binding key: `*` is any one level, `#` any number of them (3.1.3.3).
#[must_use]
pub fn filter(key: &Bytes) -> Filter {
    if key.is_empty() {
        return Filter::Exact(Levels::none());
    }
    let is_wildcard = |level: &[u8]| level == b"*" || level == b"#";
    if !key.split(|byte| *byte == SEPARATOR).any(is_wildcard) {
        return Filter::Exact(levels(key));
    }
    Filter::Pattern(Pattern(
        key.split(|byte| *byte == SEPARATOR)
            .map(|level| match level {
                b"*" => FilterLevel::One,
                b"#" => FilterLevel::Many,
                level => FilterLevel::Exact(match unescape_level(level, SPECIAL) {
                    Cow::Borrowed(level) => key.slice_ref(level),
                    Cow::Owned(level) => Bytes::from(level),
                }),
            })
            .collect(),
    ))
}

/// Whether a topic of the root space starts with a level that is reserved for every door.
#[must_use]
pub fn is_reserved(topic: &Levels) -> bool {
    topic
        .level(0)
        .is_some_and(|first| RESERVED.contains(&first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("%".to_owned()),
            Just("25".to_owned()),
            Just("2E".to_owned()),
            Just("%2E".to_owned()),
            Just("2F".to_owned()),
            Just(".".to_owned()),
            Just("/".to_owned()),
            "[a-z*#]{0,2}"
        ]
    }

    proptest! {
        #[test]
        fn doors_2_every_key_comes_back(pieces in prop::collection::vec(piece(), 0..12)) {
            let key = Bytes::from(pieces.concat());
            prop_assert_eq!(text(&levels(&key)), &key[..]);
        }

        #[test]
        fn doors_2_all_levels_come_back(wanted in prop::collection::vec(prop::collection::vec(piece(), 0..6), 0..6)) {
            let wanted = Levels::collect(wanted.iter().map(|level| level.concat())).expect("short");
            match routing_key(&wanted) {
                Some(key) => prop_assert_eq!(levels(key.bytes()), wanted),
                None => prop_assert!(wanted.len() == 1 && wanted.bytes_len() == 0),
            }
        }
    }

    #[test]
    fn doors_1_the_empty_key_is_no_level() {
        assert_eq!(levels(&Bytes::new()).len(), 0);
        assert_eq!(levels(&Bytes::from_static(b".")).len(), 2);
    }

    #[test]
    fn the_longest_key_is_256_levels() {
        let key = Bytes::from(vec![b'.'; 255]);
        assert_eq!(levels(&key).len(), 256);
        assert_eq!(routing_key(&levels(&key)).expect("255 bytes").bytes(), &key);
    }

    #[test]
    fn binding_keys_know_wildcards_only_as_whole_levels() {
        assert_eq!(
            filter(&Bytes::from_static(b"a.*b.c")),
            Filter::Exact(levels(&Bytes::from_static(b"a.*b.c")))
        );
        assert_eq!(
            filter(&Bytes::from_static(b"a%2Eb.*.#")),
            Filter::Pattern(Pattern(vec![
                FilterLevel::Exact(Bytes::from_static(b"a.b")),
                FilterLevel::One,
                FilterLevel::Many,
            ]))
        );
    }
}
