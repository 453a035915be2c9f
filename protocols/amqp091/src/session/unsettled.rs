//! The deliveries of a channel that are to be settled, by their tags.
//!
//! Tags rise, and most are settled in their order: so they lie in a ring. What is settled out of order leaves its place
//! empty, and there are never more empty places than others.

use std::collections::VecDeque;

use session::DeliveryId;

/// Places whose memory is kept while there are no deliveries.
const KEPT_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    last: u64,
    /// By tag, rising. The first one is not empty.
    places: VecDeque<(u64, Option<DeliveryId>)>,
    empty: usize,
}

impl Unsettled {
    /// The tag of the next delivery, which is remembered if it is to be settled.
    /// [AMQP-delivery-tag.non-zero].
    pub(crate) fn tag(&mut self, id: Option<DeliveryId>) -> u64 {
        self.last += 1;
        if id.is_some() {
            self.places.push_back((self.last, id));
        }
        self.last
    }

    fn find(&self, tag: u64) -> Option<usize> {
        let (first, _) = self.places.front()?;
        // Where it lies if every delivery since is to be settled.
        let near = usize::try_from(tag.checked_sub(*first)?).ok()?;
        let at = match self.places.get(near) {
            Some((there, _)) if *there == tag => near,
            _ => self
                .places
                .binary_search_by_key(&tag, |(tag, _)| *tag)
                .ok()?,
        };
        self.places[at].1.is_some().then_some(at)
    }

    /// Takes one.
    pub(crate) fn take(&mut self, tag: u64) -> Option<DeliveryId> {
        let at = self.find(tag)?;
        let id = self.places[at].1.take();
        self.empty += 1;
        self.tidy();
        id
    }

    fn tidy(&mut self) {
        while let Some((_, None)) = self.places.front() {
            self.places.pop_front();
            self.empty -= 1;
        }
        if self.empty * 2 > self.places.len() {
            self.places.retain(|(_, id)| id.is_some());
            self.empty = 0;
        }
        if self.places.is_empty() && self.places.capacity() > KEPT_MAX {
            self.places = VecDeque::new();
        }
    }

    /// Takes this one and all before it. `None`: it is not there, and nothing is taken.
    pub(crate) fn take_upto(&mut self, tag: u64) -> Option<Vec<(u64, DeliveryId)>> {
        let at = self.find(tag)?;
        let taken: Vec<_> = filled(self.places.drain(..=at)).collect();
        self.empty -= at + 1 - taken.len();
        self.tidy();
        Some(taken)
    }

    /// Takes all, in the order of their tags.
    pub(crate) fn take_all(&mut self) -> Vec<(u64, DeliveryId)> {
        self.empty = 0;
        filled(std::mem::take(&mut self.places)).collect()
    }

    /// What was taken is to be settled again.
    pub(crate) fn give_back(&mut self, taken: Vec<(u64, DeliveryId)>) {
        let mut all = self.take_all();
        all.extend(taken);
        all.sort_unstable_by_key(|(tag, _)| *tag);
        self.places = all.into_iter().map(|(tag, id)| (tag, Some(id))).collect();
    }
}

fn filled(
    places: impl IntoIterator<Item = (u64, Option<DeliveryId>)>,
) -> impl Iterator<Item = (u64, DeliveryId)> {
    let places = places.into_iter();
    places.filter_map(|(tag, id)| Some((tag, id?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use session::QueueId;

    use super::*;

    fn id(qseq: u64) -> DeliveryId {
        DeliveryId {
            queue: QueueId(1),
            qseq,
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Tag(bool),
        Take(u64),
        Upto(u64),
        All,
        GiveBack,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => any::<bool>().prop_map(Op::Tag),
            6 => (0..40_u64).prop_map(Op::Take),
            2 => (0..40_u64).prop_map(Op::Upto),
            1 => Just(Op::All),
            1 => Just(Op::GiveBack),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map_that_holds_few_empty_places(ops in prop::collection::vec(op(), 0..200)) {
            let (mut ring, mut map) = (Unsettled::default(), BTreeMap::new());
            let (mut last, mut taken) = (0, Vec::new());
            for op in ops {
                match op {
                    Op::Tag(is_settled) => {
                        last += 1;
                        prop_assert_eq!(ring.tag((!is_settled).then_some(id(last))), last);
                        if !is_settled {
                            map.insert(last, id(last));
                        }
                    }
                    // Counted from the newest, so that most are there.
                    Op::Take(back) => {
                        let tag = last.saturating_sub(back);
                        let got = ring.take(tag);
                        prop_assert_eq!(got, map.remove(&tag));
                        taken.extend(got.map(|id| (tag, id)));
                    }
                    Op::Upto(back) => {
                        let tag = last.saturating_sub(back);
                        let expected = map.contains_key(&tag).then(|| {
                            let later = map.split_off(&(tag + 1));
                            std::mem::replace(&mut map, later).into_iter().collect::<Vec<_>>()
                        });
                        let got = ring.take_upto(tag);
                        prop_assert_eq!(&got, &expected);
                        taken.extend(got.into_iter().flatten());
                    }
                    Op::All => {
                        let all: Vec<_> = std::mem::take(&mut map).into_iter().collect();
                        prop_assert_eq!(ring.take_all(), all);
                    }
                    Op::GiveBack => {
                        map.extend(taken.iter().copied());
                        ring.give_back(std::mem::take(&mut taken));
                    }
                }
                let empty = ring.places.iter().filter(|(_, id)| id.is_none()).count();
                prop_assert_eq!(ring.empty, empty);
                prop_assert_eq!(ring.places.len(), map.len() + empty);
                prop_assert!(empty * 2 <= ring.places.len());
                prop_assert!(ring.places.front().is_none_or(|(_, id)| id.is_some()));
            }
        }
    }
}
