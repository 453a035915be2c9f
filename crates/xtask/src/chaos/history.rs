//! What clients did and were told, and what follows from it.
//!
//! | rule | of |
//! |---|---|
//! | what was confirmed is received | all |
//! | what is received was sent, and is what was sent | all |
//! | what is received for the first time comes in the order in which it was sent | each group of a track |
//! | one deduplication id is one message | SQS FIFO |
//! | what was deleted does not come back | SQS, which confirms that |
//!
//! A publisher sends what was not confirmed again, in order, before anything else. So a message may be there twice, but of two
//! messages the first copy of the earlier one stands before the first copy of the later one, however late what a lost
//! connection still carried is read.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Violations that are told one by one.
const TOLD_MAX: usize = 20;

/// The way of one publisher's messages to one consumer.
pub(crate) struct Track {
    pub(crate) name: &'static str,
    /// How many groups its messages belong to in turn; each keeps its order.
    pub(crate) groups: u64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// When each was sent last.
    sent: Vec<Instant>,
    unconfirmed: BTreeSet<u64>,
    /// By time.
    confirmed: Vec<Confirmation>,
    receipts: Vec<Receipt>,
    distinct: BTreeSet<u64>,
    /// What was received and had not been sent, or not so.
    invented: Vec<(Instant, String)>,
    /// Why a client last lost its connection.
    trouble: String,
}

struct Confirmation {
    number: u64,
    sent: Instant,
    /// When the connection was made that it came over.
    connected: Instant,
    at: Instant,
}

struct Receipt {
    number: u64,
    at: Instant,
    redelivered: bool,
    /// The name that the broker gave the message, where it shows one.
    copy: Option<String>,
    /// Its removal was confirmed.
    removed: bool,
}

/// What the rules say of what happened after one fault, or before the first.
#[derive(Clone, Copy, Default, PartialEq, Debug, serde::Serialize)]
pub(crate) struct Counts {
    pub(crate) confirmed: u64,
    pub(crate) lost: u64,
    pub(crate) invented: u64,
    pub(crate) disordered: u64,
    /// Copies where there must be one, and what came back after its removal.
    pub(crate) duplicates: u64,
    /// Received again as the protocol allows.
    pub(crate) repeats: u64,
    /// Those of them that were marked as redelivered.
    pub(crate) marked: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.confirmed += other.confirmed;
        self.lost += other.lost;
        self.invented += other.invented;
        self.disordered += other.disordered;
        self.duplicates += other.duplicates;
        self.repeats += other.repeats;
        self.marked += other.marked;
    }

    pub(crate) fn violations(&self) -> u64 {
        self.lost + self.invented + self.disordered + self.duplicates
    }
}

impl Track {
    pub(crate) fn new(name: &'static str, groups: u64) -> Self {
        Self {
            name,
            groups,
            log: Mutex::default(),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of a message: no two tracks or numbers share one.
    pub(crate) fn body(&self, number: u64) -> String {
        format!("{} {number} {:.>64}", self.name, number)
    }

    /// What is to be sent next: what was not confirmed, then, if `more`, what was never sent, up to `count`.
    pub(crate) fn burst(&self, count: usize, more: bool) -> Vec<u64> {
        let log = self.log();
        let mut burst: Vec<u64> = log.unconfirmed.iter().copied().take(count).collect();
        let next = log.sent.len() as u64;
        let fresh = if more { count - burst.len() } else { 0 };
        burst.extend(next..next + fresh as u64);
        burst
    }

    /// It is about to be sent.
    pub(crate) fn sent(&self, number: u64) {
        let mut log = self.log();
        let at = Instant::now();
        match log.sent.get_mut(number as usize) {
            Some(sent) => *sent = at,
            None => {
                log.sent.push(at);
                log.unconfirmed.insert(number);
            }
        }
    }

    pub(crate) fn confirmed(&self, number: u64, connected: Instant) {
        let mut log = self.log();
        if log.unconfirmed.remove(&number) {
            let sent = log.sent[number as usize];
            let at = Instant::now();
            log.confirmed.push(Confirmation {
                number,
                sent,
                connected,
                at,
            });
        }
    }

    /// Something came; whoever removes it names what this returns.
    pub(crate) fn received(
        &self,
        body: &[u8],
        redelivered: bool,
        copy: Option<String>,
    ) -> Option<usize> {
        let text = String::from_utf8_lossy(body);
        let number = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut log = self.log();
        let at = Instant::now();
        let known = number.filter(|number| {
            (*number as usize) < log.sent.len() && self.body(*number).as_bytes() == body
        });
        let Some(number) = known else {
            log.invented.push((at, text.into_owned()));
            return None;
        };
        log.distinct.insert(number);
        log.receipts.push(Receipt {
            number,
            at,
            redelivered,
            copy,
            removed: false,
        });
        Some(log.receipts.len() - 1)
    }

    /// The broker has confirmed that it is gone.
    pub(crate) fn removed(&self, receipt: usize) {
        self.log().receipts[receipt].removed = true;
    }

    pub(crate) fn trouble(&self, error: &anyhow::Error) {
        self.log().trouble = format!("{error:#}");
    }

    /// Why a client last lost its connection.
    pub(crate) fn last_trouble(&self) -> String {
        self.log().trouble.clone()
    }

    /// How many were sent and have not come.
    pub(crate) fn outstanding(&self) -> u64 {
        let log = self.log();
        (log.sent.len() - log.distinct.len()) as u64
    }

    pub(crate) fn unconfirmed(&self) -> usize {
        self.log().unconfirmed.len()
    }

    /// When a message was confirmed first that was sent after `fault`; if `anew`, over a connection that was made after it too.
    pub(crate) fn served_after(&self, fault: Instant, anew: bool) -> Option<Instant> {
        let log = self.log();
        let from = log.confirmed.partition_point(|one| one.at <= fault);
        let served = log.confirmed[from..]
            .iter()
            .find(|one| one.sent > fault && (!anew || one.connected > fault));
        served.map(|one| one.at)
    }

    /// Holds what happened against the rules. `faults`: when they were, in order; the counts are of the time before the first,
    /// then of the times from one to the next. What was lost counts where it was confirmed, all else where it was received.
    pub(crate) fn judge(&self, faults: &[Instant], told: &mut Vec<String>) -> Vec<Counts> {
        let log = self.log();
        let mut counts = vec![Counts::default(); faults.len() + 1];
        let slot = |at: Instant| faults.partition_point(|fault| *fault <= at);
        let mut tell = |what: String| {
            if told.len() < TOLD_MAX {
                told.push(format!("{}: {what}", self.name));
            }
        };
        for one in &log.confirmed {
            let counts = &mut counts[slot(one.at)];
            counts.confirmed += 1;
            if !log.distinct.contains(&one.number) {
                counts.lost += 1;
                tell(format!("{} was confirmed and never came", one.number));
            }
        }
        for (at, text) in &log.invented {
            counts[slot(*at)].invented += 1;
            tell(format!("never sent, but received: {text:?}"));
        }
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        let mut before: BTreeMap<u64, &Receipt> = BTreeMap::new();
        for receipt in &log.receipts {
            let (number, counts) = (receipt.number, &mut counts[slot(receipt.at)]);
            match before.entry(number) {
                Entry::Vacant(entry) => {
                    entry.insert(receipt);
                    let newest = newest.entry(number % self.groups).or_insert(number);
                    if number < *newest {
                        counts.disordered += 1;
                        tell(format!("{number} came after {newest}"));
                    }
                    *newest = number.max(*newest);
                }
                Entry::Occupied(mut entry) => {
                    let earlier = entry.insert(receipt);
                    if receipt.copy != earlier.copy {
                        counts.duplicates += 1;
                        tell(format!("{number} is there twice"));
                    } else if earlier.removed {
                        counts.duplicates += 1;
                        tell(format!("{number} came back after its removal"));
                    } else {
                        counts.repeats += 1;
                        counts.marked += u64::from(receipt.redelivered);
                    }
                }
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A track on which `sent` messages were sent and confirmed, and those came; `true`: and were removed.
    fn judged(groups: u64, sent: u64, came: &[(u64, &str, bool)]) -> Counts {
        let track = Track::new("track", groups);
        for number in 0..sent {
            track.sent(number);
            track.confirmed(number, Instant::now());
        }
        for (number, copy, removed) in came {
            let copy = (!copy.is_empty()).then(|| (*copy).to_owned());
            let receipt = track.received(track.body(*number).as_bytes(), false, copy);
            if let (Some(receipt), true) = (receipt, *removed) {
                track.removed(receipt);
            }
        }
        let mut told = Vec::new();
        let counts = track.judge(&[], &mut told).remove(0);
        assert_eq!(told.len() as u64, counts.violations(), "{told:?}");
        counts
    }

    #[test]
    fn each_rule_is_held_and_what_is_allowed_is_not_counted() {
        let all = Counts {
            confirmed: 3,
            ..Counts::default()
        };
        let [a, b, c] = [(0, "", false), (1, "", false), (2, "", false)];
        assert_eq!(judged(1, 3, &[a, b, c]), all);
        let repeats = Counts { repeats: 2, ..all };
        assert_eq!(judged(1, 3, &[a, b, a, b, c]), repeats);
        let lost = Counts { lost: 1, ..all };
        assert_eq!(judged(1, 3, &[a, c]), lost);
        let disordered = Counts {
            disordered: 1,
            ..all
        };
        assert_eq!(judged(1, 3, &[a, c, b]), disordered);
        assert_eq!(judged(3, 3, &[c, b, a]), all, "other groups");
        let invented = Counts { invented: 1, ..all };
        assert_eq!(judged(1, 3, &[a, b, c, (3, "", false)]), invented);
        let named = |number, copy, removed| (number, copy, removed);
        let twice = Counts {
            duplicates: 1,
            ..all
        };
        let [a, b, c] = [
            named(0, "a", false),
            named(1, "b", true),
            named(2, "c", true),
        ];
        assert_eq!(judged(1, 3, &[a, (0, "x", false), b, c]), twice);
        assert_eq!(judged(1, 3, &[a, b, b, c]), twice, "it was removed");
    }

    #[test]
    fn what_was_not_confirmed_is_sent_again_first() {
        let track = Track::new("track", 1);
        let start = Instant::now();
        for number in track.burst(4, true) {
            track.sent(number);
        }
        track.confirmed(0, start);
        track.confirmed(2, start);
        assert_eq!(track.burst(4, true), [1, 3, 4, 5]);
        assert_eq!(track.burst(4, false), [1, 3]);
        let fault = Instant::now();
        assert_eq!(track.served_after(fault, false), None);
        while Instant::now() == fault {}
        track.confirmed(1, fault);
        assert_eq!(track.served_after(fault, false), None, "sent before");
        track.sent(3);
        track.confirmed(3, fault);
        assert_eq!(track.served_after(fault, true), None, "connected before");
        assert!(track.served_after(fault, false).is_some());
    }
}
