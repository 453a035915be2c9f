//! What is out to one subscription, and what an ACK covers.
//!
//! Deliveries are numbered from 1 in the order in which they are sent. A cumulative ACK covers its number and every
//! lower one (STOMP 1.2, "ACK": `ack:client`). In a transaction they are only set aside: COMMIT takes them out, ABORT
//! lays them back.

use std::collections::BTreeMap;

use session::{DeliveryId, DeliveryRange};
use smallvec::SmallVec;

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: DeliveryId,
    set_aside: bool,
}

/// The deliveries of one subscription: as much memory as there is out, however old the oldest is.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    last: u64,
    out: BTreeMap<u64, Entry>,
}

impl Ledger {
    /// The number of the next delivery. `None`: it is settled already.
    pub(super) fn push(&mut self, id: Option<DeliveryId>) -> u64 {
        self.last += 1;
        if let Some(id) = id {
            let set_aside = false;
            self.out.insert(self.last, Entry { id, set_aside });
        }
        self.last
    }

    /// Whether that delivery is out, and which it is.
    pub(super) fn find(&self, number: u64) -> Option<DeliveryId> {
        let entry = self.out.get(&number)?;
        (!entry.set_aside).then_some(entry.id)
    }

    /// The numbers that an ACK of `number` covers. Empty when `number` is not out.
    /// [STOMP-subscribe-8], [STOMP-subscribe-9].
    pub(super) fn covered(&self, number: u64, cumulative: bool) -> Vec<u64> {
        if self.find(number).is_none() {
            return Vec::new();
        }
        let first = if cumulative { 0 } else { number };
        self.out
            .range(first..=number)
            .filter(|(_, entry)| !entry.set_aside)
            .map(|(number, _)| *number)
            .collect()
    }

    /// Sets deliveries aside and says which they are.
    pub(super) fn set_aside(&mut self, numbers: &[u64]) -> Vec<DeliveryId> {
        self.mark(numbers, true)
    }

    /// Lays back what was set aside.
    pub(super) fn lay_back(&mut self, numbers: &[u64]) {
        self.mark(numbers, false);
    }

    fn mark(&mut self, numbers: &[u64], set_aside: bool) -> Vec<DeliveryId> {
        let mut ids = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some(entry) = self.out.get_mut(number) {
                entry.set_aside = set_aside;
                ids.push(entry.id);
            }
        }
        ids
    }

    /// Takes deliveries out, set aside or not.
    pub(super) fn take(&mut self, numbers: &[u64]) -> Vec<DeliveryId> {
        numbers
            .iter()
            .filter_map(|number| self.out.remove(number))
            .map(|entry| entry.id)
            .collect()
    }

    /// Whether nothing is out.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
}

/// Folds deliveries into exact ranges, one list a queue, queues in the order in which they appear.
pub(super) fn fold(mut ids: Vec<DeliveryId>) -> Vec<DeliveryRange> {
    ids.sort_unstable();
    let mut folded: Vec<DeliveryRange> = Vec::new();
    for id in ids {
        match folded.last_mut() {
            Some(range) if range.queue == id.queue => match range.ranges.last_mut() {
                Some((_, last)) if *last + 1 == id.qseq => *last = id.qseq,
                _ => range.ranges.push((id.qseq, id.qseq)),
            },
            _ => folded.push(DeliveryRange {
                queue: id.queue,
                ranges: SmallVec::from_slice(&[(id.qseq, id.qseq)]),
            }),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use session::QueueId;

    use super::*;

    fn id(qseq: u64) -> DeliveryId {
        let queue = QueueId(1);
        DeliveryId { queue, qseq }
    }

    #[test]
    fn a_cumulative_ack_covers_what_is_out_and_no_more() {
        let mut ledger = Ledger::default();
        for qseq in [10, 11, 12, 20] {
            ledger.push(Some(id(qseq)));
        }
        assert_eq!(ledger.take(&ledger.covered(2, false)), [id(11)]);
        assert_eq!(ledger.covered(2, true), [0u64; 0]);
        assert_eq!(ledger.covered(3, true), [1, 3]);
        assert_eq!(ledger.take(&[1, 3]), [id(10), id(12)]);
        assert_eq!(ledger.push(Some(id(21))), 5);
        assert_eq!(ledger.find(4), Some(id(20)));
        assert_eq!(ledger.find(9), None);
        assert_eq!(ledger.take(&[4, 5]).len(), 2);
        assert!(ledger.is_empty());
        assert_eq!(ledger.push(None), 6);
        assert_eq!(ledger.push(Some(id(22))), 7);
    }

    #[test]
    fn what_is_set_aside_comes_back() {
        let mut ledger = Ledger::default();
        ledger.push(Some(id(1)));
        ledger.push(Some(id(2)));
        assert_eq!(ledger.set_aside(&[1]), [id(1)]);
        assert_eq!(ledger.covered(2, true), [2]);
        ledger.lay_back(&[1]);
        assert_eq!(ledger.covered(2, true), [1, 2]);
    }

    #[test]
    fn ranges_are_exact() {
        let ranges = fold([5, 3, 4, 9, 8, 1].map(id).to_vec());
        assert_eq!(ranges.len(), 1);
        assert_eq!(&ranges[0].ranges[..], [(1, 1), (3, 5), (8, 9)]);
    }
}
