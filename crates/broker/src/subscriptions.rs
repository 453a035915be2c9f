//! What a client session subscribes to: patterns, and the options of each.
//!
//! There may be millions, and a pattern is taken apart only when it is used: it is kept as the bytes of its encoding, which
//! for a topic of five levels take a tenth of what its levels do as values of their own.

use bytes::Bytes;
use message::{Pattern, Reader, put_pattern, read_pattern};
use session::SubscriptionOptions;

use crate::few::Few;

/// In an order that follows from the patterns, and means nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Subscriptions(Few<Box<[u8]>, SubscriptionOptions>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, pattern: &Pattern) -> Option<&SubscriptionOptions> {
        self.0.get(&encoded(pattern))
    }

    /// Adds one; what it had before comes back.
    pub(crate) fn insert(
        &mut self,
        pattern: &Pattern,
        options: SubscriptionOptions,
    ) -> Option<SubscriptionOptions> {
        self.0.insert(encoded(pattern), options)
    }

    pub(crate) fn remove(&mut self, pattern: &Pattern) -> Option<SubscriptionOptions> {
        self.0.remove(&encoded(pattern))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Pattern, &SubscriptionOptions)> {
        self.0
            .iter()
            .map(|(pattern, options)| (decoded(pattern), options))
    }
}

fn encoded(pattern: &Pattern) -> Box<[u8]> {
    let mut out = Vec::with_capacity(64);
    put_pattern(&mut out, pattern);
    out.into()
}

fn decoded(pattern: &[u8]) -> Pattern {
    let mut reader = Reader::new(Bytes::copy_from_slice(pattern));
    read_pattern(&mut reader).expect("encoded here")
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::FilterLevel;

    #[test]
    fn subscriptions_are_found_by_their_patterns_and_come_back_as_they_were() {
        let exact = |text: &'static str| FilterLevel::Exact(Bytes::from_static(text.as_bytes()));
        let patterns = [
            Pattern(vec![]),
            Pattern(vec![exact("")]),
            Pattern(vec![exact("a"), exact("b")]),
            Pattern(vec![exact("a/b")]),
            Pattern(vec![exact("a"), FilterLevel::One, FilterLevel::Many]),
            Pattern(vec![FilterLevel::Many]),
        ];
        let of = |identifier| SubscriptionOptions {
            identifier,
            ..SubscriptionOptions::default()
        };
        let mut known = Subscriptions::default();
        for (number, pattern) in patterns.iter().enumerate() {
            assert_eq!(known.insert(pattern, of(number as u32)), None);
        }
        assert_eq!(known.insert(&patterns[2], of(20)), Some(of(2)));
        assert_eq!(known.remove(&patterns[3]), Some(of(3)));
        assert_eq!(known.remove(&patterns[3]), None);
        assert_eq!(known.len(), 5);
        for (number, pattern) in patterns.iter().enumerate() {
            let expected = [of(0), of(1), of(20), of(3), of(4), of(5)][number];
            let found = known.get(pattern);
            assert_eq!(found, (number != 3).then_some(&expected));
            let shown = known.iter().filter(|(shown, _)| shown == pattern);
            assert_eq!(shown.count(), usize::from(number != 3));
        }
    }
}
