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
//! | *counts* | the numbers of the receives of a message go up, in one epoch, and of a FIFO queue in all |
//! | *one history*, *one state* | behind the same batch every process has the same history, and the same durable state (`world.rs`) |
//! | *redelivered* | what was shown and not settled comes again marked so, with a higher number, to whoever takes over too (`history/shown.rs`) |
//! | *exactly once* | what is handed over in two steps is published once, and delivered once (`history/exact.rs`) |
//! | *gone is gone* | what was settled, and that confirmed, is not received by who asks for it later |
//! | *never silent* | what a turned bit costs is told: by a node that does not start, by one that reads again, to who asks for it (`simulation.rs`) |
//! | *dead letters* | what was received too often goes to the dead-letter queue, says why, and does not come back |
//! | *remembered* | a repeat of a dedup id is a repeat for as long as it is remembered, and no longer |
//! | *last one kept* | who subscribes is shown what was retained last, once (`history/kept.rs`) |
//! | *will* | a will is sent when its client is gone, not before, nor after a goodbye (`history/wills.rs`) |
//! | *held*, *receipts* | what is out under a lease nobody else gets, and a receipt is good for as long (`history/held.rs`) |
//! | *one secret* | by which doors know what they sealed, the handles of receipts among them: every node that serves has the first one's |
//! | *one worker*, *checkpoint* | of a consumer group (`history/workers.rs`) |

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use session::{DeathReason, Delivery, Secret};

pub(crate) use self::held::PullId;
pub(crate) use self::workers::Workers;
use self::{exact::Exact, held::Held, kept::Kept, shown::Shown, wills::Wills};

mod exact;
mod held;
mod kept;
mod shown;
mod wills;
mod workers;

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
    /// A queue that lets nobody receive a message more than [`RECEIVES_MAX`] times.
    Risky,
    /// Where those go. Nobody sends there.
    Dead,
    /// A topic that keeps the last message of each sender.
    Kept,
    /// The topic of wills.
    Wills,
    /// A topic of what is published and delivered exactly once.
    Exact,
}

impl Target {
    /// Whether each session gets a message of its own.
    const fn is_followed(self) -> bool {
        matches!(self, Self::Topic | Self::Wills | Self::Exact)
    }
}

/// How often a message of [`Target::Risky`] may be received.
pub(crate) const RECEIVES_MAX: u32 = 3;
/// The name of that queue.
pub(crate) const RISKY: &[u8] = b"risky";

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
    /// Its places, by who has the queue: 0, or a session; and whether it is the dead-letter queue.
    places: BTreeMap<(usize, bool), (u64, u64)>,
    /// Of each receive, whether from the dead-letter queue, epoch, number, and when it was heard of.
    counts: BTreeMap<(bool, u64, u32), u64>,
    /// When it was first received from the dead-letter queue, or for the last time that is allowed, and in which epoch.
    spent: Option<(u64, u64)>,
    /// The message whose dedup id it has, and what was said of it.
    repeats: Option<u64>,
    is_repeat: bool,
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

/// What is known of the clocks that nodes go by: they run by a tenth too fast at most, and lean by as much; and what one did not count while
/// it stood still passes at once where another node takes over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trust {
    /// Somebody sets wall clocks: nobody knows how long anything takes.
    are_set: bool,
    /// For how long the clock of some node stood still so far, in µs.
    stood: u64,
}

impl Trust {
    pub(crate) const fn new(are_set: bool, stood: u64) -> Self {
        Self { are_set, stood }
    }

    /// How long it takes at least until so many ms have passed, in µs, whoever counts; unless nobody knows.
    pub(crate) const fn least_us(self, ms: u64) -> Option<u64> {
        if self.are_set {
            return None;
        }
        Some((ms * 1000 * 3 / 4).saturating_sub(CLOCKS_DIFFER_MAX + self.stood))
    }

    /// How long it takes at most.
    pub(crate) const fn most_us(self, ms: u64) -> Option<u64> {
        if self.are_set {
            return None;
        }
        Some(ms * 1000 * 5 / 4 + CLOCKS_DIFFER_MAX + self.stood)
    }
}

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
    /// What doors seal with, and in which epoch it was first heard of.
    secret: Option<(Secret, u64)>,
    /// What a stream shows at each offset.
    stream: BTreeMap<u64, u64>,
    /// When each session was there for sure, and in which epoch.
    sessions: BTreeMap<usize, Session>,
    /// What is known of clocks.
    pub(crate) trust: Trust,
    /// How long dedup ids are remembered, in ms.
    dedup_ms: u64,
    /// Something is damaged: what cannot be read is passed over, in order too.
    pub(crate) is_excused: bool,
    pub(crate) kept: Kept,
    pub(crate) wills: Wills,
    pub(crate) held: Held,
    pub(crate) shown: Shown,
    pub(crate) exact: Exact,
    pub(crate) workers: Option<Workers>,
    pub(crate) confirmed: u64,
    pub(crate) received: u64,
    /// How often what was seen that a run need not come to.
    pub(crate) seen: BTreeMap<&'static str, u64>,
    pub(crate) last_confirmed_at: u64,
}

/// A session that lasts.
#[derive(Clone, Copy, Debug)]
struct Session {
    follows: Target,
    /// When it was there for sure, and in which epoch.
    since: (u64, u64),
}

/// The body of a message: its number, and bytes that only it has.
pub(crate) fn body(number: u64, len: usize) -> Bytes {
    let mut body = number.to_le_bytes().to_vec();
    let filler = (0..len.saturating_sub(8)).map(|i| (number as u8).wrapping_mul(31) ^ (i as u8));
    body.extend(filler);
    body.into()
}

impl History {
    pub(crate) fn new(clocks_are_set: bool, dedup_ms: u64) -> Self {
        Self {
            trust: Trust::new(clocks_are_set, 0),
            dedup_ms,
            ..Self::default()
        }
    }

    /// For how long a clock stood still so far, in µs.
    pub(crate) fn clocks_stood(&mut self, us: u64) {
        self.trust.stood = us;
    }

    /// A message is sent for the first time.
    pub(crate) fn send(&mut self, target: Target, sender: usize, at: u64, len: usize) -> u64 {
        self.sent.push(Sent {
            target,
            sender,
            at,
            confirmed: None,
            received: BTreeSet::new(),
            places: BTreeMap::new(),
            counts: BTreeMap::new(),
            spent: None,
            repeats: None,
            is_repeat: false,
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

    /// *Not early*.
    fn is_due(&self, number: u64, now: u64) -> Result<(), String> {
        let sent = self.message(number);
        let least = self.trust.least_us(sent.delay_ms);
        if least.is_none_or(|least| now - sent.at >= least) {
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

    /// *One secret*: that of the node that somebody logs in to.
    pub(crate) fn unseals(&mut self, with: Secret, from: Origin) -> Result<(), String> {
        let (first, epoch) = *self.secret.get_or_insert((with, from.epoch));
        if first == with || self.is_excused {
            return Ok(());
        }
        Err(format!(
            "one secret: epoch {} cannot open the handles of receipts that epoch {epoch} gave",
            from.epoch
        ))
    }

    pub(crate) fn confirm(&mut self, number: u64, from: Origin, now: u64) -> Result<(), String> {
        let sent = &mut self.sent[number as usize];
        if sent.confirmed.is_none() {
            self.confirmed += 1;
            sent.confirmed = Some((now, from.epoch));
        }
        self.last_confirmed_at = now;
        self.shown.prove(from.epoch, sent.at);
        self.active(from)
    }

    /// A session is there from now on.
    pub(crate) fn subscribed(&mut self, session: usize, follows: Target, from: Origin, now: u64) {
        let since = (now, from.epoch);
        self.sessions
            .entry(session)
            .or_insert(Session { follows, since });
    }

    pub(crate) fn sees(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Something else than a publish was confirmed.
    pub(crate) const fn progress(&mut self, now: u64) {
        self.last_confirmed_at = now;
    }

    /// A message is sent with the dedup id of another one.
    pub(crate) fn repeat(&mut self, number: u64, of: u64) {
        self.sent[number as usize].repeats = Some(of);
    }

    /// The message whose dedup id that one has.
    pub(crate) fn dedup_of(&self, number: u64) -> u64 {
        self.message(number).repeats.unwrap_or(number)
    }

    /// *Remembered*: whether a message with the dedup id of one that was confirmed is taken for it.
    pub(crate) fn is_repeat(&mut self, number: u64, repeat: bool, now: u64) -> Result<(), String> {
        let sent = self.message(number);
        let Some(of) = sent.repeats else {
            return Ok(());
        };
        let first = self.message(of);
        let (oldest, youngest) = (now - first.at, first.confirmed.map(|(at, _)| sent.at - at));
        let remembered = self
            .trust
            .least_us(self.dedup_ms)
            .is_some_and(|least| oldest < least);
        let forgotten = self
            .trust
            .most_us(self.dedup_ms)
            .is_some_and(|most| youngest.is_some_and(|age| age > most));
        if remembered && !repeat || forgotten && repeat {
            return Err(format!(
                "remembered: {number} repeats {of} after {youngest:?} to {oldest} us, and is taken for a repeat: {repeat}"
            ));
        }
        if repeat && !self.message(number).received.is_empty() {
            return Err(format!(
                "remembered: {number} is a repeat, and was received"
            ));
        }
        self.sent[number as usize].is_repeat = repeat;
        self.sees(if repeat {
            "repeats that were known"
        } else {
            "repeats that were not"
        });
        Ok(())
    }

    /// A pull got a message, under a lease of so many ms.
    pub(crate) fn take(
        &mut self,
        number: u64,
        pull: PullId,
        times: (u64, u64),
        lease_ms: u64,
        from: Origin,
    ) -> Result<(), String> {
        let place = (self.group_of(number), number);
        let trust = self.trust;
        self.held.take(place, pull, times, lease_ms, from, trust)
    }

    /// Whoever has a message asks for the end of that, in an epoch and at a time. Until when its receipt is good for sure.
    pub(crate) fn give_up(&mut self, number: u64, pull: PullId, now: (u64, u64)) -> u64 {
        let place = (self.group_of(number), number);
        self.held.give_up(place, pull, now, self.trust)
    }

    /// *Receipts*: one was refused, that was good until then.
    pub(crate) fn refused(&self, number: u64, until: u64, now: u64) -> Result<(), String> {
        match self.message(number).target {
            Target::Fifo if now >= until => Ok(()),
            target => Err(format!(
                "receipts: that of {number} in {target:?} is refused, good until {until}"
            )),
        }
    }

    fn group_of(&self, number: u64) -> Option<usize> {
        let sent = self.message(number);
        (sent.target == Target::Fifo).then_some(sent.sender)
    }

    /// A client with a will is back: it is dropped, unless it was due.
    pub(crate) fn doubt_will(&mut self, will: u64) {
        if !self.wills.is_due(will) {
            self.wills.in_doubt(will);
            self.sent[will as usize].confirmed = None;
        }
    }

    /// The connection of a client with a will ends.
    pub(crate) fn leave(&mut self, will: u64, now: u64) {
        if let Some(epoch) = self.wills.left(will, now) {
            self.sent[will as usize].confirmed = Some((now, epoch));
        }
    }

    /// What must be there in the end besides messages.
    pub(crate) fn lacks(&self) -> Option<String> {
        let last = self.stream.last_key_value().map(|(offset, _)| *offset);
        let behind = self.workers.as_ref().and_then(|workers| {
            let next = workers.next();
            last.filter(|last| *last >= next)
                .map(|last| format!("checkpoint: {next}, though the stream goes to {last}"))
        });
        behind.or_else(|| self.kept.lacks())
    }

    /// Whether a session was there, for whoever is active in that epoch, when the message was sent.
    pub(crate) fn has_session(&self, number: u64, epoch: u64) -> bool {
        let sent = self.message(number);
        matches!(sent.target, Target::Topic | Target::Exact)
            && self
                .sessions
                .values()
                .any(|&session| is_for(sent, session, epoch))
    }

    pub(crate) fn number(&self, body: &Bytes) -> Result<u64, String> {
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
        if self.is_excused {
            return Ok(());
        }
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
        let by = if target.is_followed() { by } else { 0 };
        if target == Target::Exact {
            self.exact.deliver((by, number), delivery, from)?;
        }
        let sent = self.message(number);
        if target == Target::Wills {
            self.wills.receive(number, from, now, self.trust)?;
        }
        if sent.is_repeat {
            return Err(format!("remembered: {number} is a repeat, and is received"));
        }
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
        let dead = delivery.deaths.is_some();
        if target == Target::Risky {
            sent.is_spent(number, delivery, from, (asked, now))?;
        }
        if let Some(id) = delivery.id {
            let place = (id.queue.0, id.qseq);
            let first = *sent.places.entry((by, dead)).or_insert(place);
            if first != place {
                return Err(format!("once: {number} is at {first:?} and at {place:?}"));
            }
        }
        if delivery.id.is_some() && by == 0 {
            sent.is_counted(number, (dead, delivery.count), from, (asked, now))?;
        }
        if !self.is_excused {
            let times = (asked, now);
            self.shown
                .show((number, by), delivery, from, times, target)?;
        }
        let seen = match target {
            Target::Wills => Some("wills"),
            Target::Risky if dead => Some("dead letters"),
            _ => None,
        };
        let repeated = sent.received.contains(&by);
        if let Some(what) = seen {
            self.sees(what);
        }
        if repeated {
            return Ok(number);
        }
        if matches!(target, Target::Fifo | Target::Topic | Target::Exact) {
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
                target if target.is_followed() => self.sessions.iter().any(|(by, &session)| {
                    is_for(sent, session, epoch) && !sent.received.contains(by)
                }),
                // Who looks says what is missing.
                Target::Kept => false,
                _ => !sent.received.contains(&0),
            }
        };
        let all = self.sent.iter().enumerate().filter(missing);
        all.map(|(number, _)| number as u64).collect()
    }
}

/// Whether a session that was there at that time and in that epoch gets a message that another epoch confirms: an epoch that
/// was over before the session came knows nothing of it.
fn is_for(sent: &Sent, session: Session, epoch: u64) -> bool {
    let (since, since_epoch) = session.since;
    sent.target == session.follows && sent.at > since && epoch >= since_epoch
}

impl Sent {
    /// *Dead letters*.
    fn is_spent(
        &mut self,
        number: u64,
        delivery: &Delivery,
        from: Origin,
        (asked, now): (u64, u64),
    ) -> Result<(), String> {
        let count = delivery.count;
        if let Some(deaths) = &delivery.deaths {
            let told = deaths.iter().map(|it| (&it.queue[..], it.reason, it.count));
            if !told.eq([(RISKY, DeathReason::Deliveries, 1)]) {
                return Err(format!("dead letters: {number} tells of {deaths:?}"));
            }
            self.spent.get_or_insert((from.epoch, now));
            return Ok(());
        }
        let back = self
            .spent
            .is_some_and(|(epoch, at)| from.epoch > epoch || from.epoch == epoch && asked > at);
        if back || count > RECEIVES_MAX {
            return Err(format!(
                "dead letters: {number} is received as number {count} in epoch {}; it was spent in {:?}",
                from.epoch, self.spent
            ));
        }
        if count == RECEIVES_MAX {
            self.spent.get_or_insert((from.epoch, now));
        }
        Ok(())
    }

    /// *Counts*.
    fn is_counted(
        &mut self,
        number: u64,
        (dead, count): (bool, u32),
        from: Origin,
        (asked, now): (u64, u64),
    ) -> Result<(), String> {
        let epoch = if self.target == Target::Fifo {
            0
        } else {
            from.epoch
        };
        let earlier = self
            .counts
            .range((dead, epoch, count)..=(dead, epoch, u32::MAX));
        let back = { earlier }.any(|((.., other), heard)| *other == count || *heard < asked);
        if back {
            return Err(format!(
                "counts: {number} is received as number {count} in epoch {}, after {:?}",
                from.epoch, self.counts
            ));
        }
        self.counts.insert((dead, epoch, count), now);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
