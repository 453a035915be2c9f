//! The checkers themselves are checked: a history is taken as it was recorded, one event of it is changed, and the rule that this
//! breaks must say so. A checker that cannot fail shows nothing.
//!
//! | change | rule that must see it |
//! |---|---|
//! | a confirmed message never came | lost |
//! | a message came with another byte; one came that was not sent | invented |
//! | a message came before the one that was sent before it | disordered |
//! | a message came again under another name | duplicates |
//! | a message came again after its removal | duplicates |

use std::collections::{BTreeMap, BTreeSet};

use super::{Counts, Log, Track};
use crate::chaos::faults::Chance;

/// Events of each kind that are changed, one at a time.
const TRIALS: u64 = 8;

/// One event that is changed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Change {
    Drop,
    Alter,
    Invent,
    Swap,
    Copy,
    Return,
}

impl Change {
    const ALL: [Self; 6] = [
        Self::Drop,
        Self::Alter,
        Self::Invent,
        Self::Swap,
        Self::Copy,
        Self::Return,
    ];

    const fn count(self, counts: &Counts) -> u64 {
        match self {
            Self::Drop => counts.lost,
            Self::Alter | Self::Invent => counts.invented,
            Self::Swap => counts.disordered,
            Self::Copy | Self::Return => counts.duplicates,
        }
    }
}

impl Track {
    /// How many changes were tried and seen. Tells of those that were not, and of kinds that there was nothing to try on.
    pub(crate) fn try_checkers(&self, chance: &mut Chance, told: &mut Vec<String>) -> u64 {
        let log = self.log();
        let before = self.counts(&log);
        let mut seen = 0;
        for change in Change::ALL {
            // Names and removals are seen where the protocol shows them.
            let named = log.receipts.iter().any(|receipt| receipt.copy.is_some());
            if matches!(change, Change::Copy | Change::Return) && !named {
                continue;
            }
            for _ in 0..TRIALS {
                let mut log = log.clone();
                if !self.change(&mut log, change, chance) {
                    told.push(format!("{}: nothing to try {change:?} on", self.name));
                    break;
                }
                if change.count(&self.counts(&log)) > change.count(&before) {
                    seen += 1;
                } else {
                    told.push(format!("{}: the checkers miss {change:?}", self.name));
                }
            }
        }
        seen
    }

    fn counts(&self, log: &Log) -> Counts {
        self.judge_log(log, &[], &mut Vec::new()).remove(0)
    }

    /// Changes one event. `false`: there is none of the kind.
    fn change(&self, log: &mut Log, change: Change, chance: &mut Chance) -> bool {
        // The first receipts of what was confirmed, in the order in which they came.
        let mut seen = BTreeSet::new();
        let confirmed: BTreeSet<u64> = log.confirmed.iter().map(|one| one.number).collect();
        let firsts: Vec<usize> = (0..log.receipts.len())
            .filter(|at| seen.insert(log.receipts[*at].number))
            .filter(|at| confirmed.contains(&log.receipts[*at].number))
            .collect();
        let mut pick = |from: &[usize]| {
            (!from.is_empty()).then(|| from[chance.within(0..from.len() as u64) as usize])
        };
        match change {
            Change::Drop => {
                let Some(at) = pick(&firsts) else {
                    return false;
                };
                let number = log.receipts[at].number;
                log.receipts.retain(|receipt| receipt.number != number);
                log.distinct.remove(&number);
            }
            Change::Alter => {
                let Some(at) = pick(&firsts) else {
                    return false;
                };
                let mut body = self.body(log.receipts[at].number).into_bytes();
                let last = body.len() - 1;
                body[last] ^= 1;
                self.note(log, &body, false, None);
            }
            Change::Invent => {
                let body = self.body(log.sent.len() as u64);
                self.note(log, body.as_bytes(), false, None);
            }
            Change::Swap => {
                let places: BTreeMap<u64, usize> = firsts
                    .iter()
                    .map(|at| (log.receipts[*at].number, *at))
                    .collect();
                let later: Vec<usize> = places
                    .iter()
                    .filter(|(number, at)| {
                        let before = number
                            .checked_sub(self.groups)
                            .filter(|before| !log.excused.contains(before));
                        before
                            .and_then(|before| places.get(&before))
                            .is_some_and(|before| before < at)
                    })
                    .map(|(_, at)| *at)
                    .collect();
                let Some(at) = pick(&later) else {
                    return false;
                };
                let number = log.receipts[at].number;
                log.receipts[places[&(number - self.groups)]].number = number;
                log.receipts[at].number = number - self.groups;
                // A mark could excuse it.
                log.receipts[at].redelivered = false;
            }
            Change::Copy | Change::Return => {
                let receipts = log.receipts.iter().enumerate();
                let last: BTreeMap<u64, usize> =
                    receipts.map(|(at, receipt)| (receipt.number, at)).collect();
                let removed: Vec<usize> = last
                    .into_values()
                    .filter(|at| log.receipts[*at].removed)
                    .collect();
                let Some(at) = pick(&removed) else {
                    return false;
                };
                let mut again = log.receipts[at].clone();
                again.removed = false;
                if change == Change::Copy {
                    log.receipts[at].removed = false;
                    again.copy = Some("another".to_owned());
                }
                log.receipts.push(again);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{super::Refusal, *};

    #[test]
    fn every_change_of_a_history_in_order_is_seen() {
        let track = Track::new("track", 2, Refusal::One("full"));
        for number in 0..50 {
            track.sent(number);
            track.confirmed(number, Instant::now());
            let copy = Some(format!("copy of {number}"));
            let receipt = track.received(track.body(number).as_bytes(), false, copy);
            track.removed(receipt.expect("it was sent"));
        }
        let mut told = Vec::new();
        let seen = track.try_checkers(&mut Chance::new(1), &mut told);
        assert_eq!((seen, told), (6 * TRIALS, Vec::<String>::new()));
    }

    #[test]
    fn a_history_without_events_shows_nothing() {
        let track = Track::new("track", 1, Refusal::One("full"));
        let mut told = Vec::new();
        assert_eq!(track.try_checkers(&mut Chance::new(1), &mut told), TRIALS);
        assert_eq!(told.len(), 3, "{told:?}");
    }
}
