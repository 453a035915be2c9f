//! Fair queues: in a plain queue, a group that has very many messages out does not keep those of others waiting.
//!
//! A group is *noisy* while it has at least [`NOISY_OUT_MIN`] messages out and more than [`NOISY_SHARE_PERCENT`] of all that
//! are out of the queue, as Amazon documents it for SQS; how long messages are out is not looked at. What waits of others
//! goes first, in the order of the queue; when nothing does, the noisy group with the fewest out is next. A message
//! without a group is a group of its own, and never noisy. Only pulls with a lease in ms look at this; consumers of a
//! connection keep the order of the queue. So many groups at most are noisy at a time, so each step is O(log n).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Runs;

/// Messages that a noisy group has out, at least.
pub(crate) const NOISY_OUT_MIN: u64 = 30;
/// Of everything that is out, a noisy group has more than so much.
pub(crate) const NOISY_SHARE_PERCENT: u64 = 10;
/// Longer groups are not looked at, in bytes: SQS has none.
pub(crate) const FAIR_GROUP_LEN_MAX: usize = 128;

/// What one group has in the queue.
#[derive(Clone, Debug, Default)]
struct Tenant {
    ready: BTreeSet<u64>,
    out: u32,
}

/// The groups of a plain queue. Made when the first message with a group comes, gone with the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fair {
    tenants: BTreeMap<Bytes, Tenant>,
    /// The first ready number of each group.
    firsts: BTreeMap<u64, Bytes>,
    /// What is ready and has no group.
    loose: Runs,
}

impl Fair {
    pub(crate) fn new(loose: Runs) -> Self {
        Self {
            loose,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    pub(crate) fn add(&mut self, qseq: u64, group: &Bytes) {
        if group.is_empty() {
            return self.loose.add(qseq);
        }
        self.change(group, |tenant| {
            tenant.ready.insert(qseq);
        });
    }

    /// `keeps`: it is out from now on.
    pub(crate) fn remove(&mut self, qseq: u64, group: &Bytes, keeps: bool) {
        if group.is_empty() {
            return self.loose.remove(qseq);
        }
        self.change(group, |tenant| {
            tenant.ready.remove(&qseq);
            tenant.out += u32::from(keeps);
        });
    }

    pub(crate) fn returned(&mut self, group: &Bytes) {
        if !group.is_empty() {
            self.change(group, |tenant| tenant.out = tenant.out.saturating_sub(1));
        }
    }

    fn change(&mut self, name: &Bytes, change: impl FnOnce(&mut Tenant)) {
        let mut tenant = self.tenants.remove(name).unwrap_or_default();
        let before = tenant.ready.first().copied();
        change(&mut tenant);
        let after = tenant.ready.first().copied();
        if before != after {
            if let Some(first) = before {
                self.firsts.remove(&first);
            }
            if let Some(first) = after {
                self.firsts.insert(first, name.clone());
            }
        }
        if !tenant.ready.is_empty() || tenant.out > 0 {
            self.tenants.insert(name.clone(), tenant);
        }
    }

    /// What a pull takes, while so many are out of the queue.
    pub(crate) const fn walk(&self, out: u64) -> FairWalk<'_> {
        FairWalk {
            fair: self,
            out,
            at: 0,
            loose_at: 0,
            begun: BTreeMap::new(),
            taken: BTreeMap::new(),
            noisy: Vec::new(),
        }
    }
}

/// A walk over what is ready, in the order in which a pull takes it; what it took counts as out.
pub(crate) struct FairWalk<'a> {
    fair: &'a Fair,
    out: u64,
    /// Groups that were not looked at begin here.
    at: u64,
    loose_at: u64,
    /// The next of each group of which something was taken.
    begun: BTreeMap<u64, &'a Bytes>,
    /// How many were taken of a group.
    taken: BTreeMap<&'a Bytes, u64>,
    /// Groups that wait for others, each with its next.
    noisy: Vec<(u64, &'a Bytes)>,
}

impl<'a> FairWalk<'a> {
    fn out_of(&self, name: &Bytes) -> u64 {
        let tenant = self.fair.tenants.get(name);
        let out = tenant.map_or(0, |tenant| u64::from(tenant.out));
        out + self.taken.get(name).copied().unwrap_or_default()
    }

    fn is_noisy(&self, name: &Bytes) -> bool {
        let out = self.out_of(name);
        out >= NOISY_OUT_MIN && out * 100 > self.out * NOISY_SHARE_PERCENT
    }

    fn after(&self, qseq: u64, name: &Bytes) -> Option<u64> {
        let tenant = self.fair.tenants.get(name)?;
        tenant.ready.range(qseq + 1..).next().copied()
    }

    fn take(&mut self, name: &'a Bytes) {
        self.out += 1;
        *self.taken.entry(name).or_default() += 1;
    }

    pub(crate) fn next(&mut self) -> Option<u64> {
        loop {
            let fresh = self.fair.firsts.range(self.at..).next();
            let begun = self
                .begun
                .first_key_value()
                .map(|(qseq, name)| (*qseq, *name));
            let loose = self.fair.loose.next(self.loose_at);
            let grouped = match (fresh, begun) {
                (Some((a, _)), Some((b, name))) if b < *a => Some((b, name)),
                (Some((a, name)), _) => Some((*a, name)),
                (None, begun) => begun,
            };
            if let Some(loose) = loose
                && grouped.is_none_or(|(qseq, _)| loose < qseq)
            {
                self.loose_at = loose + 1;
                self.out += 1;
                return Some(loose);
            }
            let Some((qseq, name)) = grouped else {
                return self.next_noisy();
            };
            if self.begun.remove(&qseq).is_none() {
                self.at = qseq + 1;
            }
            if self.is_noisy(name) {
                self.noisy.push((qseq, name));
                continue;
            }
            self.take(name);
            if let Some(next) = self.after(qseq, name) {
                self.begun.insert(next, name);
            }
            return Some(qseq);
        }
    }

    fn next_noisy(&mut self) -> Option<u64> {
        let all = self.noisy.iter().enumerate();
        let (at, _) = all.min_by_key(|(_, (qseq, name))| (self.out_of(name), *qseq))?;
        let (qseq, name) = self.noisy.swap_remove(at);
        self.take(name);
        if let Some(next) = self.after(qseq, name) {
            self.noisy.push((next, name));
        }
        Some(qseq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    /// A group with so many out, and what is ready of it.
    fn with(fair: &mut Fair, group: &'static str, out: u64, ready: &[u64]) {
        for number in 0..out {
            let number = 1_000_000 + number;
            fair.add(number, &name(group));
            fair.remove(number, &name(group), true);
        }
        for qseq in ready {
            fair.add(*qseq, &name(group));
        }
    }

    fn order(fair: &Fair, out: u64) -> Vec<u64> {
        let mut walk = fair.walk(out);
        std::iter::from_fn(|| walk.next()).collect()
    }

    #[test]
    fn while_no_group_is_noisy_the_order_is_that_of_the_queue() {
        let mut fair = Fair::new(Runs::default());
        with(&mut fair, "a", NOISY_OUT_MIN - 4, &[1, 2, 5]);
        with(&mut fair, "b", 0, &[3, 6]);
        fair.add(4, &Bytes::new());
        assert_eq!(order(&fair, NOISY_OUT_MIN - 4), [1, 2, 3, 4, 5, 6]);
        // Many, but a small part of what is out.
        with(&mut fair, "a", 20, &[]);
        assert_eq!(order(&fair, 1000), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_noisy_group_waits_for_the_others_and_of_two_the_one_with_fewer_out_goes_first() {
        let mut fair = Fair::new(Runs::default());
        with(&mut fair, "a", 40, &[1, 2]);
        with(&mut fair, "b", 39, &[3, 4, 5]);
        with(&mut fair, "c", 1, &[6]);
        fair.add(7, &Bytes::new());
        assert_eq!(order(&fair, 80), [6, 7, 3, 1, 4, 2, 5]);
        for _ in 0..39 {
            fair.returned(&name("a"));
        }
        assert_eq!(order(&fair, 41), [1, 2, 6, 7, 3, 4, 5]);
    }

    #[test]
    fn what_a_pull_takes_counts_at_once_and_nothing_is_left_of_a_group_that_is_gone() {
        let mut fair = Fair::new(Runs::default());
        with(&mut fair, "a", NOISY_OUT_MIN - 1, &[1, 2]);
        with(&mut fair, "b", 0, &[3]);
        assert_eq!(order(&fair, NOISY_OUT_MIN - 1), [1, 3, 2]);
        for qseq in [1, 2] {
            fair.remove(qseq, &name("a"), false);
        }
        for _ in 1..NOISY_OUT_MIN {
            fair.returned(&name("a"));
        }
        fair.remove(3, &name("b"), false);
        assert!(fair.is_empty());
    }
}
