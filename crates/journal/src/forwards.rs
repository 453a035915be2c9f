//! Where the survivors of one segment went, and how many of them lie in each other segment: there may be millions, so nobody
//! counts them to find out.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::id;
use message::StoredId;

/// See the module.
#[derive(Default)]
pub(crate) struct Forwards {
    /// The id of where a survivor lies, by that of its first place.
    to: BTreeMap<u64, u64>,
    /// How many lie in the segment that begins with this batch.
    hosts: BTreeMap<u64, i64>,
}

impl Forwards {
    pub(crate) fn is_empty(&self) -> bool {
        self.to.is_empty()
    }

    pub(crate) fn contains(&self, old: StoredId) -> bool {
        self.to.contains_key(&old.0)
    }

    /// Where a survivor lies now.
    pub(crate) fn of(&self, old: StoredId) -> Option<StoredId> {
        self.to.get(&old.0).copied().map(StoredId)
    }

    /// All of them: the old id, the new one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.to.iter().map(|(&old, &new)| (old, new))
    }

    /// How many lie in each segment, by its first batch.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (u64, i64)> {
        self.hosts.iter().map(|(&first, &count)| (first, count))
    }

    /// A survivor lies at `new` now, in the segment that begins with batch `host`. `host_of` says the same of where it lay.
    pub(crate) fn insert(
        &mut self,
        old: StoredId,
        new: StoredId,
        host: u64,
        host_of: impl Fn(StoredId) -> Option<u64>,
    ) {
        let before = self.to.insert(old.0, new.0).map(StoredId);
        if before == Some(new) {
            return;
        }
        *self.hosts.entry(host).or_default() += 1;
        if let Some(host) = before.and_then(host_of) {
            self.forget(host, 1);
        }
    }

    /// Nothing of what these batches hold is needed any more: those that lie there are forgotten.
    pub(crate) fn remove(&mut self, batches: RangeInclusive<u64>) {
        let Self { to, hosts } = self;
        if !hosts.contains_key(batches.start()) {
            return;
        }
        let mut gone = 0;
        to.retain(|_, to| {
            let goes = batches.contains(&id::seq(StoredId(*to)));
            gone += i64::from(goes);
            !goes
        });
        self.forget(*batches.start(), gone);
    }

    fn forget(&mut self, host: u64, count: i64) {
        if let Some(there) = self.hosts.get_mut(&host) {
            *there -= count;
            if *there <= 0 {
                self.hosts.remove(&host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survivors_are_counted_where_they_lie() {
        let at = |seq, offset| id::pack(seq, offset);
        let mut forwards = Forwards::default();
        let host_of = |id| id::seq(id) / 10 * 10;
        let mut insert = |old, (seq, offset)| {
            let new = at(seq, offset);
            forwards.insert(at(1, old), new, host_of(new), |old| Some(host_of(old)));
        };
        for (old, new) in [(0, (10, 0)), (8, (10, 8)), (16, (12, 0)), (24, (20, 0))] {
            insert(old, new);
        }
        // One is moved on, one is told of again.
        insert(8, (21, 0));
        insert(24, (20, 0));
        assert_eq!(forwards.hosts().collect::<Vec<_>>(), [(10, 2), (20, 2)]);
        assert_eq!(forwards.of(at(1, 8)), Some(at(21, 0)));
        forwards.remove(10..=12);
        assert_eq!(forwards.hosts().collect::<Vec<_>>(), [(20, 2)]);
        assert_eq!(forwards.of(at(1, 0)), None);
        forwards.remove(20..=25);
        assert!(forwards.is_empty() && forwards.hosts().next().is_none());
    }
}
