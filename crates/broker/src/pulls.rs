//! Pulls that wait at a queue, in the order in which they came, and which of them make the same attempt.
//!
//! Few queues have any at a time, so the rest pay one word for it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::soft::Waiting;

#[derive(Debug, Default)]
struct Here {
    by_place: BTreeMap<u64, Waiting>,
    /// Those that name an attempt, by it.
    attempts: BTreeSet<(Bytes, u64)>,
    /// Those that do not wait for what comes.
    at_once: BTreeSet<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pulls(Option<Box<Here>>);

impl Pulls {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn get(&self, place: u64) -> Option<&Waiting> {
        self.0.as_ref()?.by_place.get(&place)
    }

    /// The one to be served next: of those that do not wait for what comes, or else of all, the one that has waited longest.
    pub(crate) fn first(&self) -> Option<&Waiting> {
        let here = self.0.as_ref()?;
        match here.at_once.first() {
            Some(place) => here.by_place.get(place),
            None => here.by_place.values().next(),
        }
    }

    /// Whether one waits that is answered though nothing is there.
    pub(crate) fn any_at_once(&self) -> bool {
        self.0.as_ref().is_some_and(|here| !here.at_once.is_empty())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.0.iter().flat_map(|here| here.by_place.values())
    }

    /// All that make one attempt, in the order in which they came.
    pub(crate) fn of_attempt<'a>(&'a self, name: &Bytes) -> impl Iterator<Item = &'a Waiting> {
        let range = (name.clone(), 0)..=(name.clone(), u64::MAX);
        self.0.iter().flat_map(move |here| {
            let places = here.attempts.range(range.clone());
            places.filter_map(|(_, place)| here.by_place.get(place))
        })
    }

    pub(crate) fn insert(&mut self, place: u64, pull: Waiting) {
        let here = self.0.get_or_insert_default();
        if let Some(attempt) = &pull.attempt {
            here.attempts.insert((attempt.clone(), place));
        }
        if pull.at_once {
            here.at_once.insert(place);
        }
        here.by_place.insert(place, pull);
    }

    pub(crate) fn remove(&mut self, place: u64) {
        let Some(here) = &mut self.0 else { return };
        if let Some(attempt) = here.by_place.remove(&place).and_then(|pull| pull.attempt) {
            here.attempts.remove(&(attempt, place));
        }
        here.at_once.remove(&place);
        if here.by_place.is_empty() {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use session::{Lane, Lease, SessionId, Token};

    use super::*;

    fn waiting(token: u64, attempt: Option<&'static str>) -> Waiting {
        Waiting {
            session: SessionId(1),
            token: Token(token),
            lane: Lane(0),
            count: 1,
            lease: Lease::Ms(1),
            out_max: None,
            bytes_max: None,
            attempt: attempt.map(|name| Bytes::from_static(name.as_bytes())),
            at_once: false,
        }
    }

    #[test]
    fn what_does_not_wait_for_more_is_served_first() {
        let mut pulls = Pulls::default();
        pulls.insert(1, waiting(1, None));
        let at_once = |token| Waiting {
            at_once: true,
            ..waiting(token, None)
        };
        assert!(!pulls.any_at_once());
        pulls.insert(2, at_once(2));
        pulls.insert(3, at_once(3));
        let mut served = Vec::new();
        while let Some(next) = pulls.first().map(|pull| pull.token.0) {
            served.push((next, pulls.any_at_once()));
            pulls.remove(next);
        }
        assert_eq!(served, [(2, true), (3, true), (1, false)]);
    }

    #[test]
    fn attempts_are_found_among_others_and_go_with_their_pulls() {
        let mut pulls = Pulls::default();
        let named = [None, Some("a"), Some("b"), Some("a"), Some("aa")];
        for (place, attempt) in (10..).zip(named) {
            pulls.insert(place, waiting(place, attempt));
        }
        let tokens = |pulls: &Pulls, name: &'static str| -> Vec<u64> {
            let name = Bytes::from_static(name.as_bytes());
            let of = pulls.of_attempt(&name);
            of.map(|pull| pull.token.0).collect()
        };
        assert_eq!(tokens(&pulls, "a"), [11, 13]);
        assert_eq!(tokens(&pulls, "b"), [12]);
        assert_eq!(pulls.first().map(|pull| pull.token), Some(Token(10)));
        pulls.remove(11);
        pulls.remove(11);
        assert_eq!(tokens(&pulls, "a"), [13]);
        assert!(pulls.get(11).is_none() && pulls.get(13).is_some());
        for place in [10, 12, 13, 14] {
            assert!(!pulls.is_empty());
            pulls.remove(place);
        }
        assert!(pulls.is_empty() && pulls.iter().next().is_none());
        assert!(tokens(&pulls, "a").is_empty());
    }
}
