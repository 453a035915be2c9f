//! What clients asked, were told and were given, and whether that can be: checked as it comes, and at the end.
//!
//! | name | what must hold |
//! |---|---|
//! | *confirmed is there* | what was confirmed is received in the end, by each durable session that was there before |
//! | *nothing from nowhere* | what is received was sent, byte for byte |
//! | *order* | in a FIFO group, and from one sender to one session, nothing confirmed is overtaken by what was sent after it |
//! | *one active* | in one epoch one process confirms |
//! | *one voice* | once a node has shown anything to anyone, no node of an epoch before it does; where leases are waited for |
//! | *all or nothing* | of messages that one transaction sent, all are there or none |
//! | *no leaps* | the time that nodes serve by goes on as time does, but for what a start may believe of its clock (`world.rs`) |
//! | *not early* | a delayed message is not received before its time, as far as clocks agree |
//! | *once* | a message has one place in a queue; a repeat with the same dedup id makes no second one |
//! | *dense* | an offset of a stream shows one record for ever, and none is missing |
//! | *counts* | no two receives of a message have the same number, in one epoch, or at all in a FIFO queue |
//! | *one history*, *one state* | behind the same batch every process has the same history, and the same durable state (`world.rs`) |
//! | *gone is gone* | what was settled, and that confirmed, is not received by who asks for it later |

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use session::Delivery;

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A queue that is pulled from.
    Plain,
    /// A queue whose consumers are pushed to.
    Pushed,
    Fifo,
    Topic,
    Stream,
}

/// A message as it was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) target: Target,
    pub(crate) sender: usize,
    /// When it was first sent.
    pub(crate) at: u64,
    /// When it was confirmed, and in which epoch.
    pub(crate) confirmed: Option<(u64, u64)>,
    /// By whom it was received: sessions for topics, else 0.
    received: BTreeSet<usize>,
    /// Its place in the queue.
    place: Option<(u64, u64)>,
    /// Epoch and number of each receive.
    counts: BTreeSet<(u64, u32)>,
    /// When and in which epoch it was confirmed that it is settled.
    settled: Option<(u64, u64)>,
    len: usize,
    /// The first message of the transaction that it was sent in.
    together: Option<u64>,
    /// How long it is to wait before it is received, in ms.
    pub(crate) delay_ms: u64,
}

/// By how much the clocks of two nodes differ at most where none is set, in µs.
const CLOCKS_DIFFER_MAX: u64 = 2_000_000;

/// In which connection something happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) epoch: u64,
    pub(crate) node: usize,
    pub(crate) incarnation: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) sent: Vec<Sent>,
    actives: BTreeMap<u64, (usize, u64)>,
    /// The last epoch that was heard of by anyone.
    heard: u64,
    /// What a stream shows at each offset.
    stream: BTreeMap<u64, u64>,
    /// When each session was there for sure, and in which epoch.
    sessions: BTreeMap<usize, (u64, u64)>,
    /// Somebody sets wall clocks: nobody knows how long anything takes.
    clocks_are_set: bool,
    /// For how long the clock of some node stood still so far, in µs: another one that takes over is ahead by as much.
    pub(crate) clocks_stood: u64,
    pub(crate) confirmed: u64,
    pub(crate) received: u64,
    pub(crate) last_confirmed_at: u64,
}

/// The body of a message: its number, and bytes that only it has.
pub(crate) fn body(number: u64, len: usize) -> Bytes {
    let mut body = number.to_le_bytes().to_vec();
    let filler = (0..len.saturating_sub(8)).map(|i| (number as u8).wrapping_mul(31) ^ (i as u8));
    body.extend(filler);
    body.into()
}

impl History {
    pub(crate) fn new(clocks_are_set: bool) -> Self {
        Self {
            clocks_are_set,
            ..Self::default()
        }
    }

    /// A message is sent for the first time.
    pub(crate) fn send(&mut self, target: Target, sender: usize, at: u64, len: usize) -> u64 {
        self.sent.push(Sent {
            target,
            sender,
            at,
            confirmed: None,
            received: BTreeSet::new(),
            place: None,
            counts: BTreeSet::new(),
            settled: None,
            len,
            together: None,
            delay_ms: 0,
        });
        self.sent.len() as u64 - 1
    }

    /// These are sent in one transaction.
    pub(crate) fn together(&mut self, numbers: &[u64]) {
        for &number in numbers {
            self.sent[number as usize].together = numbers.first().copied();
        }
    }

    /// The message is to wait.
    pub(crate) fn delay(&mut self, number: u64, delay_ms: u64) {
        self.sent[number as usize].delay_ms = delay_ms;
    }

    /// *Not early*: clocks run by a tenth too fast at most, and lean by as much; and what one did not count while it stood
    /// still passes at once where another node takes over.
    fn is_due(&self, number: u64, now: u64) -> Result<(), String> {
        let sent = self.message(number);
        let least =
            (sent.delay_ms * 1000 * 3 / 4).saturating_sub(CLOCKS_DIFFER_MAX + self.clocks_stood);
        if self.clocks_are_set || now - sent.at >= least {
            return Ok(());
        }
        Err(format!(
            "not early: {number} was to wait for {} ms, and is received after {} us",
            sent.delay_ms,
            now - sent.at
        ))
    }

    pub(crate) fn message(&self, number: u64) -> &Sent {
        &self.sent[number as usize]
    }

    pub(crate) fn len_of(&self, number: u64) -> usize {
        self.message(number).len
    }

    fn active(&mut self, from: Origin) -> Result<(), String> {
        let process = (from.node, from.incarnation);
        let active = *self.actives.entry(from.epoch).or_insert(process);
        if active != process {
            return Err(format!(
                "one active: {active:?} and {process:?} both act in epoch {}",
                from.epoch
            ));
        }
        Ok(())
    }

    /// Something was shown to a client, other than a goodbye.
    pub(crate) fn hear(&mut self, from: Origin) -> Result<(), String> {
        if from.epoch < self.heard {
            return Err(format!(
                "one voice: node {} of epoch {} shows something after epoch {} did",
                from.node, from.epoch, self.heard
            ));
        }
        self.heard = from.epoch;
        Ok(())
    }

    pub(crate) fn confirm(&mut self, number: u64, from: Origin, now: u64) -> Result<(), String> {
        let sent = &mut self.sent[number as usize];
        if sent.confirmed.is_none() {
            self.confirmed += 1;
            sent.confirmed = Some((now, from.epoch));
        }
        self.last_confirmed_at = now;
        self.active(from)
    }

    /// A session is there from now on.
    pub(crate) fn subscribed(&mut self, session: usize, from: Origin, now: u64) {
        self.sessions.entry(session).or_insert((now, from.epoch));
    }

    /// Whether a session was there, for whoever is active in that epoch, when the message was sent.
    pub(crate) fn has_session(&self, number: u64, epoch: u64) -> bool {
        let sent = self.message(number);
        sent.target == Target::Topic
            && self
                .sessions
                .values()
                .any(|&session| is_for(sent, session, epoch))
    }

    fn number(&self, body: &Bytes) -> Result<u64, String> {
        let number = body
            .get(..8)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes);
        match number {
            Some(number)
                if self
                    .sent
                    .get(number as usize)
                    .is_some_and(|sent| self::body(number, sent.len) == body) =>
            {
                Ok(number)
            }
            _ => Err(format!("nothing from nowhere: {} bytes", body.len())),
        }
    }

    /// Whether everything of the same sender that was confirmed before this one was sent has been received there.
    fn in_order(&self, number: u64, by: usize) -> Result<(), String> {
        let this = self.message(number);
        let session = self.sessions.get(&by).copied();
        for (earlier, sent) in self.sent[..number as usize].iter().enumerate() {
            let before = sent.target == this.target
                && sent.sender == this.sender
                && sent.confirmed.is_some_and(|(at, epoch)| {
                    at <= this.at && session.is_none_or(|session| is_for(sent, session, epoch))
                });
            if before && !sent.received.contains(&by) {
                return Err(format!(
                    "order: {number} of sender {} is received by {by} before {earlier}",
                    this.sender
                ));
            }
        }
        Ok(())
    }

    /// A delivery that was asked for at `asked`. Returns the message's number.
    pub(crate) fn receive(
        &mut self,
        delivery: &Delivery,
        by: usize,
        from: Origin,
        (asked, now): (u64, u64),
    ) -> Result<u64, String> {
        let number = self.number(&delivery.message.body)?;
        self.is_due(number, now)?;
        let target = self.message(number).target;
        let by = if target == Target::Topic { by } else { 0 };
        self.received += 1;
        let sent = &mut self.sent[number as usize];
        if let Some((epoch, at)) = sent.settled
            && by == 0
            && (from.epoch > epoch || from.epoch == epoch && asked > at)
        {
            return Err(format!(
                "gone is gone: {number} was settled in epoch {epoch}, and is received in {}",
                from.epoch
            ));
        }
        if let Some(id) = delivery.id
            && by == 0
        {
            let place = (id.queue.0, id.qseq);
            if *sent.place.get_or_insert(place) != place {
                return Err(format!(
                    "once: {number} is at {:?} and at {place:?}",
                    sent.place
                ));
            }
            let epoch = if target == Target::Fifo {
                0
            } else {
                from.epoch
            };
            if !sent.counts.insert((epoch, delivery.count)) {
                return Err(format!(
                    "counts: {number} is received as number {} twice in epoch {}",
                    delivery.count, from.epoch
                ));
            }
        }
        if sent.received.contains(&by) {
            return Ok(number);
        }
        if matches!(target, Target::Fifo | Target::Topic) {
            self.in_order(number, by)?;
        }
        self.sent[number as usize].received.insert(by);
        Ok(number)
    }

    /// That a message is settled was confirmed.
    pub(crate) fn settle(&mut self, number: u64, from: Origin, now: u64) -> Result<(), String> {
        let sent = &mut self.sent[number as usize];
        if sent.settled.is_none_or(|(epoch, _)| epoch > from.epoch) {
            sent.settled = Some((from.epoch, now));
        }
        self.active(from)
    }

    /// A stream told where a record lies, or showed it.
    pub(crate) fn at_offset(&mut self, offset: u64, number: u64) -> Result<(), String> {
        let there = *self.stream.entry(offset).or_insert(number);
        if there != number {
            return Err(format!("dense: offset {offset} is {there} and {number}"));
        }
        Ok(())
    }

    /// A read of a stream showed a record where the next one was to be `next`.
    pub(crate) fn read(&mut self, next: u64, offset: u64, body: &Bytes) -> Result<(), String> {
        let number = self.number(body)?;
        if offset != next {
            return Err(format!("dense: offset {offset} follows {next} - 1"));
        }
        self.sent[number as usize].received.insert(0);
        self.received += 1;
        self.at_offset(offset, number)
    }

    /// Confirmed messages that nobody, or not everybody, has received, and what else must be there.
    pub(crate) fn missing(&self) -> Vec<u64> {
        // Where one of a transaction is there, all must be.
        let there: BTreeSet<u64> = self
            .sent
            .iter()
            .filter(|sent| !sent.received.is_empty())
            .filter_map(|sent| sent.together)
            .collect();
        let missing = |(_, sent): &(usize, &Sent)| {
            if sent.together.is_some_and(|first| there.contains(&first)) {
                return sent.received.is_empty();
            }
            let Some((_, epoch)) = sent.confirmed else {
                return false;
            };
            match sent.target {
                Target::Topic => self.sessions.iter().any(|(by, &session)| {
                    is_for(sent, session, epoch) && !sent.received.contains(by)
                }),
                _ => !sent.received.contains(&0),
            }
        };
        let all = self.sent.iter().enumerate().filter(missing);
        all.map(|(number, _)| number as u64).collect()
    }
}

/// Whether a session that was there at that time and in that epoch gets a message that another epoch confirms: an epoch that
/// was over before the session came knows nothing of it.
fn is_for(sent: &Sent, (since, since_epoch): (u64, u64), epoch: u64) -> bool {
    sent.at > since && epoch >= since_epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_cut_short_by_no_more_than_what_clocks_explain() {
        let mut history = History::new(false);
        let number = history.send(Target::Plain, 0, 1_000_000, 8);
        history.delay(number, 8_000);
        assert!(history.is_due(number, 5_000_000).is_ok());
        assert!(history.is_due(number, 4_840_000).is_err(), "too early");
        history.clocks_stood = 1_000_000;
        assert!(history.is_due(number, 4_840_000).is_ok());
        assert!(history.is_due(number, 3_990_000).is_err(), "for that too");
    }
}
