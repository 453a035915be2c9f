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
//! connection still carried is read. Only where the broker refuses one message and goes on with the next ([`Refusal::One`]) does
//! that not hold for those that were under way with it. And where a consumer's connection may live on at the broker without it, what
//! went there comes later, marked as delivered again ([`Track::with_rivals`]).
//!
//! [`trial`] shows of each history that a breach of each rule would have been seen in it.

mod trial;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Violations that are told one by one.
const TOLD_MAX: usize = 20;

/// What an error says by which the broker refuses to keep a message.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// This one; the next one may be taken.
    One(&'static str),
    /// It ends the connection, or nothing is sent before it is answered.
    Last(&'static str),
}

/// The way of one publisher's messages to one consumer.
pub(crate) struct Track {
    pub(crate) name: &'static str,
    /// How many groups its messages belong to in turn; each keeps its order.
    pub(crate) groups: u64,
    refusal: Refusal,
    /// Its consumer may have a rival: its own connection of before, of which the broker does not know that it is dead.
    rivals: bool,
    /// Bytes of a body, at least.
    len_min: usize,
    log: Mutex<Log>,
}

#[derive(Clone, Default)]
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
    /// When a message was last refused.
    refused: Option<Instant>,
    /// What was under way with one that was refused alone: it may have been taken before it.
    excused: BTreeSet<u64>,
}

#[derive(Clone)]
struct Confirmation {
    number: u64,
    sent: Instant,
    /// When the connection was made that it came over.
    connected: Instant,
    at: Instant,
}

#[derive(Clone)]
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
    pub(crate) fn new(name: &'static str, groups: u64, refusal: Refusal) -> Self {
        Self {
            name,
            groups,
            refusal,
            rivals: false,
            len_min: 64,
            log: Mutex::default(),
        }
    }

    /// One whose messages have a body of at least so many bytes.
    pub(crate) fn with_len_min(mut self, len_min: usize) -> Self {
        self.len_min = len_min;
        self
    }

    /// One whose consumer may be cut off.
    pub(crate) fn with_rivals(mut self, rivals: bool) -> Self {
        self.rivals = rivals;
        self
    }

    /// Whether it need not come in order for the first time.
    fn is_excused(&self, log: &Log, receipt: &Receipt) -> bool {
        log.excused.contains(&receipt.number) || self.rivals && receipt.redelivered
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of a message: no two tracks or numbers share one.
    pub(crate) fn body(&self, number: u64) -> String {
        format!("{} {number} {:.>2$}", self.name, number, self.len_min)
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
        self.note(&mut self.log(), body, redelivered, copy)
    }

    fn note(
        &self,
        log: &mut Log,
        body: &[u8],
        redelivered: bool,
        copy: Option<String>,
    ) -> Option<usize> {
        let text = String::from_utf8_lossy(body);
        let number = text.split(' ').nth(1).and_then(|word| word.parse().ok());
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

    /// A client has lost its connection; whether that was because a message was refused.
    pub(crate) fn trouble(&self, error: &anyhow::Error) -> bool {
        let mut log = self.log();
        log.trouble = format!("{error:#}");
        let (Refusal::One(words) | Refusal::Last(words)) = self.refusal;
        let refused = log.trouble.contains(words);
        if refused {
            log.refused = Some(Instant::now());
            if let Refusal::One(_) = self.refusal {
                let under_way = log.unconfirmed.clone();
                log.excused.extend(under_way);
            }
        }
        refused
    }

    /// Whether a message was refused after that.
    pub(crate) fn refused_after(&self, then: Instant) -> bool {
        self.log().refused.is_some_and(|at| at > then)
    }

    /// How many times something came that was sent.
    pub(crate) fn received_count(&self) -> usize {
        self.log().receipts.len()
    }

    /// How many messages were confirmed.
    pub(crate) fn confirmed_count(&self) -> usize {
        self.log().confirmed.len()
    }

    /// How many messages were confirmed and have not come.
    pub(crate) fn waiting(&self) -> usize {
        let log = self.log();
        let missing = |one: &&Confirmation| !log.distinct.contains(&one.number);
        log.confirmed.iter().filter(missing).count()
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
        self.judge_log(&self.log(), faults, told)
    }

    fn judge_log(&self, log: &Log, faults: &[Instant], told: &mut Vec<String>) -> Vec<Counts> {
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
                    if number < *newest && !self.is_excused(log, receipt) {
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
        let track = Track::new("track", groups, Refusal::Last("full"));
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
    fn the_order_of_what_was_under_way_with_a_refused_one_is_excused() {
        for (refusal, disordered) in [(Refusal::One("full"), 0), (Refusal::Last("full"), 1)] {
            let track = Track::new("track", 1, refusal);
            (0..2).for_each(|number| track.sent(number));
            assert!(!track.trouble(&anyhow::anyhow!("gone")));
            assert!(track.trouble(&anyhow::anyhow!("the disk is full")));
            (2..4).for_each(|number| track.sent(number));
            for number in [1, 0, 3, 2] {
                track.received(track.body(number).as_bytes(), false, None);
            }
            let counts = track.judge(&[], &mut Vec::new()).remove(0);
            assert_eq!(counts.disordered, disordered + 1, "2 came after 3");
        }
    }

    #[test]
    fn the_order_of_what_went_to_a_dead_connection_is_excused_where_there_may_be_one() {
        for (rivals, disordered) in [(true, 1), (false, 2)] {
            let track = Track::new("track", 1, Refusal::Last("full")).with_rivals(rivals);
            (0..4).for_each(|number| track.sent(number));
            for (number, redelivered) in [(1, false), (0, true), (3, false), (2, false)] {
                track.received(track.body(number).as_bytes(), redelivered, None);
            }
            let counts = track.judge(&[], &mut Vec::new()).remove(0);
            assert_eq!(counts.disordered, disordered);
        }
    }

    #[test]
    fn what_was_not_confirmed_is_sent_again_first() {
        let track = Track::new("track", 1, Refusal::Last("full"));
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
