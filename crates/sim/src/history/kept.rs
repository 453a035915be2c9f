//! What topics retain: each topic has one writer, whose updates have an order.
//!
//! *Last one kept*: who subscribes is shown what was retained last when it asked, or something that came later, each once; and
//! whoever is shown anything has been shown it, or what came later, in the end.

use std::collections::{BTreeMap, BTreeSet};

use session::{Delivery, DeliveryId};

use super::Origin;

/// An update of a topic.
#[derive(Debug)]
struct Update {
    /// What it keeps. `None`: nothing any more.
    number: Option<u64>,
    confirmed: Option<(u64, u64)>,
}

/// What one subscription was shown.
#[derive(Debug)]
struct Look {
    /// By topic, the first update that it may be shown: the last one confirmed before.
    least: BTreeMap<usize, usize>,
    /// Topics of which it has got that one, or a later one.
    seen: BTreeSet<usize>,
    /// What it was shown because it was retained, and as which delivery: that may come again.
    shown: BTreeMap<u64, Option<DeliveryId>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Kept {
    topics: BTreeMap<usize, Vec<Update>>,
    /// Who looks, and what it has seen. `None`: it has yet to look.
    looks: BTreeMap<usize, Option<Look>>,
}

impl Kept {
    /// A writer updates its topic. Returns the number of the update.
    pub(crate) fn update(&mut self, topic: usize, number: Option<u64>) -> usize {
        let updates = self.topics.entry(topic).or_default();
        updates.push(Update {
            number,
            confirmed: None,
        });
        updates.len() - 1
    }

    pub(crate) fn confirm(&mut self, topic: usize, update: usize, from: Origin, now: u64) {
        let updates = self.topics.entry(topic).or_default();
        if let Some(update) = updates.get_mut(update) {
            update.confirmed.get_or_insert((now, from.epoch));
        }
    }

    /// Somebody is to look, and has not yet, whatever it saw before.
    pub(crate) fn is_to_look(&mut self, by: usize) {
        self.looks.insert(by, None);
    }

    /// A subscription that was asked for at `asked` is there.
    pub(crate) fn look(&mut self, by: usize, asked: u64, from: Origin) {
        let last = |updates: &Vec<Update>| {
            updates.iter().rposition(|update| {
                update
                    .confirmed
                    .is_some_and(|(at, epoch)| at <= asked && epoch <= from.epoch)
            })
        };
        let topics = self.topics.iter();
        let least = topics
            .filter_map(|(&topic, updates)| Some((topic, last(updates)?)))
            .collect();
        let look = Look {
            least,
            seen: BTreeSet::new(),
            shown: BTreeMap::new(),
        };
        self.looks.insert(by, Some(look));
    }

    /// A subscription got a message of a topic.
    pub(crate) fn show(
        &mut self,
        by: usize,
        topic: usize,
        number: u64,
        delivery: &Delivery,
    ) -> Result<(), String> {
        let (id, retained) = (delivery.id, delivery.retain);
        let updates = self.topics.get(&topic).map_or(&[][..], Vec::as_slice);
        let Some(at) = updates
            .iter()
            .position(|update| update.number == Some(number))
        else {
            return Err(format!(
                "nothing from nowhere: topic {topic} shows {number}"
            ));
        };
        let Some(Some(look)) = self.looks.get_mut(&by) else {
            return Ok(());
        };
        let least = look.least.get(&topic).copied();
        if retained && least.is_some_and(|least| at < least) {
            return Err(format!(
                "last one kept: {by} is shown {number} of topic {topic}, update {at}, though {least:?} was confirmed before it asked"
            ));
        }
        if least.is_none_or(|least| at >= least) {
            look.seen.insert(topic);
        }
        if retained && *look.shown.entry(number).or_insert(id) != id {
            return Err(format!(
                "last one kept: {by} is shown {number} of topic {topic} twice"
            ));
        }
        Ok(())
    }

    /// Whether that one has seen all that it must.
    pub(crate) fn is_content(&self, by: usize) -> bool {
        self.lacks_one(by).is_none()
    }

    fn lacks_one(&self, by: usize) -> Option<String> {
        let Some(Some(look)) = self.looks.get(&by) else {
            return Some(format!("last one kept: {by} has yet to look"));
        };
        let lacking = look.least.iter().find(|(topic, least)| {
            // What was cleared meanwhile, perhaps, need not be there.
            let rest = &self.topics[topic][**least..];
            !look.seen.contains(topic) && rest.iter().all(|update| update.number.is_some())
        });
        lacking.map(|(topic, least)| {
            format!("last one kept: {by} never got update {least} of topic {topic}, or a later one")
        })
    }

    /// What somebody has yet to see.
    pub(crate) fn lacks(&self) -> Option<String> {
        self.looks.keys().find_map(|by| self.lacks_one(*by))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::delivery;
    use super::*;

    fn show(kept: &mut Kept, number: u64, qseq: u64, retain: bool) -> bool {
        let delivery = Delivery {
            retain,
            ..delivery(number, (3, qseq), 1)
        };
        kept.show(1, 7, number, &delivery).is_ok()
    }

    const A: Origin = Origin {
        epoch: 1,
        node: 0,
        incarnation: 1,
    };

    /// Topic 7 keeps 10 and then 11, both confirmed, and 1 looks at 300.
    fn looked() -> Kept {
        let mut kept = Kept::default();
        for (number, at) in [(10, 100), (11, 200)] {
            let update = kept.update(7, Some(number));
            kept.confirm(7, update, A, at);
        }
        kept.is_to_look(1);
        assert!(kept.lacks().is_some(), "it has yet to look");
        kept.look(1, 300, A);
        kept
    }

    #[test]
    fn the_last_one_is_shown_and_none_before_it() {
        let mut kept = looked();
        assert!(kept.lacks().is_some());
        assert!(!show(&mut kept, 10, 0, true), "an old one");
        assert!(!show(&mut kept, 12, 0, true), "one that nobody sent");
        assert!(show(&mut kept, 11, 0, true));
        assert_eq!(kept.lacks(), None);
        assert!(show(&mut kept, 11, 0, true), "the same delivery");
        assert!(!show(&mut kept, 11, 1, true), "twice");
    }

    #[test]
    fn a_later_one_does_as_well_and_what_may_be_cleared_need_not_be_there() {
        let mut kept = looked();
        kept.update(7, Some(12));
        assert!(show(&mut kept, 12, 0, false));
        assert_eq!(kept.lacks(), None);
        let mut kept = looked();
        kept.update(7, None);
        assert_eq!(kept.lacks(), None);
    }

    #[test]
    fn what_was_confirmed_after_it_was_asked_for_or_in_a_later_epoch_is_no_measure() {
        let mut kept = looked();
        let update = kept.update(7, Some(12));
        kept.confirm(7, update, A, 400);
        assert!(show(&mut kept, 11, 0, true));
        let mut kept = Kept::default();
        for (number, epoch) in [(10, 1), (11, 2)] {
            let update = kept.update(7, Some(number));
            kept.confirm(7, update, Origin { epoch, ..A }, 100);
        }
        kept.look(1, 300, A);
        assert!(show(&mut kept, 10, 0, true), "a deposed one showed it");
    }
}
