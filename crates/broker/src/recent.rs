//! Messages only just stored, so that their first delivery needs no read.
//!
//! ```text
//! line: id, message, references      ids rise; one that nothing refers to any more leaves its place empty
//! ```
//! They come at one end, and who is handed them and settles them mostly does so in the same order: each is looked for behind
//! the one that was found last. Only what is referred to counts against the bounds, and the oldest of that goes first; what is not taken for
//! long goes too.

use std::{cell::Cell, collections::VecDeque, sync::Arc};

use message::{Message, StoredId};

/// Empty places that are let be, besides as many as there are others.
const EMPTY_MAX: usize = 64;
/// A message that nobody takes goes after as many others as may be kept, times this: it may keep all of the read buffer that it came in.
const KEPT_FOR: u64 = 8;
/// What a message takes besides its body, about.
const OVERHEAD: u64 = 256;

#[derive(Debug)]
struct Place {
    id: StoredId,
    /// `None`: nothing refers to it.
    message: Option<Arc<Message>>,
    /// How many were added before it.
    added: u64,
    /// Entries that refer to it: it goes with the last.
    refs: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    line: VecDeque<Place>,
    /// Places that are not empty.
    count: usize,
    /// How many were added.
    added: u64,
    /// What those take.
    bytes: u64,
    /// Places that have gone from the front.
    passed: usize,
    /// Where the last one was that was asked for, counted from the first place there ever was. A guess.
    found: Cell<usize>,
    /// The same of what was let go.
    left: usize,
}

impl Recent {
    /// Adds a message with so many references.
    pub(crate) fn add(
        &mut self,
        id: StoredId,
        message: &Arc<Message>,
        refs: u32,
        bytes_max: u64,
        count_max: u64,
    ) {
        let bytes = taken(message);
        if bytes > bytes_max {
            return;
        }
        let place = Place {
            id,
            message: Some(Arc::clone(message)),
            added: self.added,
            refs,
        };
        self.added += 1;
        match self.line.back() {
            Some(last) if last.id >= id => match self.search(id) {
                Ok(at) => {
                    self.empty(at);
                    self.line[at] = place;
                }
                Err(at) => self.line.insert(at, place),
            },
            _ => self.line.push_back(place),
        }
        self.count += 1;
        self.bytes += bytes;
        let oldest = self
            .added
            .saturating_sub(KEPT_FOR.saturating_mul(count_max));
        while self.bytes > bytes_max
            || self.count as u64 > count_max
            || self.line.front().is_some_and(|it| it.added < oldest)
        {
            self.empty(0);
            self.trim();
        }
    }

    pub(crate) fn get(&self, id: StoredId) -> Option<&Arc<Message>> {
        let at = self.find(id, self.found.get())?;
        self.found.set(self.passed + at);
        self.line[at].message.as_ref()
    }

    /// One more entry refers to it.
    pub(crate) fn refer(&mut self, id: StoredId) {
        if let Some(at) = self.find(id, self.left) {
            self.line[at].refs += 1;
        }
    }

    /// One entry less refers to it.
    pub(crate) fn forget(&mut self, id: StoredId) {
        let Some(at) = self.find(id, self.left) else {
            return;
        };
        self.left = self.passed + at;
        let refs = &mut self.line[at].refs;
        *refs = refs.saturating_sub(1);
        if *refs == 0 {
            self.empty(at);
            self.trim();
        }
    }

    /// Where a message is. `near`: where the one in front of it was, perhaps.
    fn find(&self, id: StoredId, near: usize) -> Option<usize> {
        // The one behind it, or the same again.
        let next = near.wrapping_sub(self.passed).wrapping_add(1);
        for at in [next, next.wrapping_sub(1)] {
            if self.line.get(at).is_some_and(|place| place.id == id) {
                return Some(at);
            }
        }
        // What is not kept any more is mostly older than all that is.
        match (self.line.front(), self.line.back()) {
            (Some(first), Some(last)) if first.id <= id && id <= last.id => self.search(id).ok(),
            _ => None,
        }
    }

    fn search(&self, id: StoredId) -> Result<usize, usize> {
        self.line.binary_search_by_key(&id, |place| place.id)
    }

    fn empty(&mut self, at: usize) {
        if let Some(gone) = self.line[at].message.take() {
            self.count -= 1;
            self.bytes -= taken(&gone);
        }
    }

    /// Lets go of empty places.
    fn trim(&mut self) {
        while self.line.front().is_some_and(|it| it.message.is_none()) {
            self.line.pop_front();
            self.passed = self.passed.wrapping_add(1);
        }
        if self.line.len() - self.count > self.count + EMPTY_MAX {
            self.line.retain(|place| place.message.is_some());
        }
    }
}

fn taken(message: &Message) -> u64 {
    message.body.len() as u64 + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use message::{Address, VhostId};
    use proptest::prelude::*;

    use super::*;

    fn message(len: usize) -> Arc<Message> {
        let address = Address::queue(VhostId::ROOT, "q");
        Arc::new(Message::new(address, Bytes::from(vec![0; len])))
    }

    proptest! {
        #[test]
        fn the_newest_that_are_referred_to_are_known(
            steps in prop::collection::vec((0_u8..8, 0_u64..40, 1_u32..4, 0_usize..300), 0..400),
        ) {
            const BYTES_MAX: u64 = 2600;
            const COUNT_MAX: u64 = 8;
            let (mut recent, mut naive) = (Recent::default(), BTreeMap::new());
            let mut next = 0;
            for (what, number, refs, len) in steps {
                let id = StoredId(number);
                match what {
                    // Most rise.
                    0..=3 => {
                        next += 1 + number % 3;
                        let id = StoredId(if what == 3 { number } else { next });
                        let message = message(len);
                        recent.add(id, &message, refs, BYTES_MAX, COUNT_MAX);
                        naive.insert(id, (message, refs));
                        let bytes = |all: &BTreeMap<StoredId, (Arc<Message>, u32)>| {
                            all.values().map(|(it, _)| taken(it)).sum::<u64>()
                        };
                        while naive.len() as u64 > COUNT_MAX || bytes(&naive) > BYTES_MAX {
                            naive.pop_first();
                        }
                    }
                    4 => {
                        recent.refer(id);
                        if let Some((_, refs)) = naive.get_mut(&id) {
                            *refs += 1;
                        }
                    }
                    _ => {
                        // In order, or any.
                        let first = naive.keys().nth(number as usize % 2).copied();
                        let id = first.filter(|_| what < 7).unwrap_or(id);
                        recent.forget(id);
                        if let Some((_, refs)) = naive.get_mut(&id) {
                            *refs -= 1;
                            if *refs == 0 {
                                naive.remove(&id);
                            }
                        }
                    }
                }
                prop_assert_eq!(recent.count, naive.len());
                prop_assert!(recent.line.len() <= 2 * recent.count + EMPTY_MAX);
                for id in (0..130).map(StoredId) {
                    let known = naive.get(&id).map(|(message, _)| message);
                    let found = recent.get(id);
                    prop_assert_eq!(found.map(Arc::as_ptr), known.map(Arc::as_ptr));
                }
            }
        }
    }

    #[test]
    fn what_nobody_takes_goes_in_time_though_there_is_room() {
        const COUNT_MAX: u64 = 4;
        let mut recent = Recent::default();
        let (stays, passes) = (message(1), message(2));
        recent.add(StoredId(1), &stays, 1, 10_000, COUNT_MAX);
        for number in 2..=KEPT_FOR * COUNT_MAX {
            recent.add(StoredId(number), &passes, 1, 10_000, COUNT_MAX);
            recent.forget(StoredId(number));
            assert!(recent.get(StoredId(1)).is_some(), "{number}");
        }
        recent.add(StoredId(1_000), &passes, 1, 10_000, COUNT_MAX);
        assert!(recent.get(StoredId(1)).is_none());
        assert!(recent.get(StoredId(1_000)).is_some());
    }
}
