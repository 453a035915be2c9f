//! AMQP binding keys as filters.

use bytes::Bytes;
use message::{Filter, FilterLevel, Pattern};

/// `a.*.#` as a filter.
pub(crate) fn filter_of(text: &str) -> Filter {
    let level = |word: &str| match word {
        "*" => FilterLevel::One,
        "#" => FilterLevel::Many,
        word => FilterLevel::Exact(Bytes::copy_from_slice(word.as_bytes())),
    };
    Filter::Pattern(Pattern(text.split('.').map(level).collect()))
}
