//! The node that the tests put around the core.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::build::PublishWith as _;
use broker::{
    BodyAt, Broker, Change, Config, Content, Context, Decision, Effect, Fetch, OutLane,
    PendingDelivery, RecordKind, SessionInfo, StoredBody, Wait, decode_stored,
};
use bytes::Bytes;
use message::{Message, StoredId, Timestamp, VhostId};
use session::{
    Command, ConsumerId, Declare, Delivery, Event, Lane, PublishOutcome, Refusal, Secret,
    SessionId, Token,
};

/// Decisions that one command may cause before a test calls it endless.
/// A record must lie in one batch of the journal, whose headers take a little of its 2 MiB.
const RECORD_LEN_MAX: usize = (2 << 20) - (64 << 10);
const STEPS_MAX: usize = 200_000;

/// One record as it would lie in the journal.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    pub(crate) payload: Bytes,
}

/// What was said to a connection.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) to: SessionId,
    pub(crate) lane: OutLane,
    /// How many records must be on stable storage before it may leave; 0: none.
    pub(crate) after: usize,
    pub(crate) event: Event,
}

/// Without the places of messages, which a test of their own shows: what is compared here is what became of them.
fn placeless(event: Event) -> Event {
    let Event::Published { token, outcome } = event else {
        return event;
    };
    let outcome = match outcome {
        PublishOutcome::Accepted { matched, .. } => PublishOutcome::Accepted {
            matched,
            place: None,
            record: None,
            sequence: None,
        },
        PublishOutcome::Duplicate { .. } => PublishOutcome::Duplicate { of: None },
        refused @ PublishOutcome::Refused(_) => refused,
    };
    Event::Published { token, outcome }
}

/// What a connection can give.
pub(crate) trait Give {
    fn command(self) -> Command;
}

/// See the module.
pub(crate) struct Node {
    pub(crate) broker: Broker,
    pub(crate) config: Config,
    pub(crate) now: Timestamp,
    /// The journal: record n has the id n + 1.
    pub(crate) records: Vec<Record>,
    /// Everything said and not yet taken.
    pub(crate) heard: Vec<Heard>,
    /// References to stored messages as the effects told them.
    pub(crate) references: BTreeMap<StoredId, i64>,
    /// Sockets take everything at once. Without, `drain` says when.
    pub(crate) drains: bool,
    /// Fetches are answered at once. Without, `answer_fetches` says when.
    pub(crate) answers: bool,
    /// Bodies longer than this go into records of their own.
    pub(crate) part_len: usize,
    pub(crate) fetches: VecDeque<(Fetch, StoredId)>,
    outbox: BTreeMap<SessionId, u64>,
    closed: Vec<SessionId>,
    pub(crate) epoch: u64,
    next_session: u64,
    next_token: u64,
    random: u64,
    /// Another core that is told nothing but the records.
    follower: Option<(Broker, usize)>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let mut node = Self {
            broker: Broker::new(config.clone()),
            config,
            now: Timestamp(1_000_000),
            records: Vec::new(),
            heard: Vec::new(),
            references: BTreeMap::new(),
            drains: true,
            answers: true,
            part_len: 256 << 10,
            fetches: VecDeque::new(),
            outbox: BTreeMap::new(),
            closed: Vec::new(),
            epoch: 0,
            next_session: 0,
            next_token: 0,
            random: 0,
            follower: None,
        };
        node.open_epoch();
        node
    }

    fn open_epoch(&mut self) {
        self.epoch += 1;
        let epoch = self.epoch;
        self.decided(|broker, cx, out| broker.decide_epoch(epoch, cx, out));
        self.decided(|broker, cx, out| broker.decide_vhosts(&["/"], cx, out));
        self.decided(|broker, cx, out| broker.decide_secret(Secret([epoch as u8; 32]), cx, out));
        assert_eq!(self.broker.secret(), Some(Secret([1; 32])), "made once");
        self.settle_down();
    }

    /// From here on another core is told the records, and must agree after every command.
    pub(crate) fn follow(&mut self) {
        self.follower = Some((Broker::new(self.config.clone()), 0));
        self.check_follower();
    }

    fn check_follower(&mut self) {
        let Some((mut broker, mut at)) = self.follower.take() else {
            return;
        };
        while at < self.records.len() {
            replay_one(&mut broker, &self.records[at], at, &mut Vec::new());
            at += 1;
        }
        assert!(
            encoded(&broker) == encoded(&self.broker),
            "after record {at} the replayed state differs from the live one"
        );
        self.follower = Some((broker, at));
    }

    fn cx(&mut self) -> Context {
        self.random += 1;
        Context {
            now: self.now,
            random: self.random.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        }
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    // ---- what connections do

    pub(crate) fn attach(&mut self) -> SessionId {
        self.attach_as("user")
    }

    pub(crate) fn attach_as(&mut self, user: &str) -> SessionId {
        self.next_session += 1;
        let id = SessionId(self.next_session);
        let who = SessionInfo {
            broker: false,
            vhost: VhostId::ROOT,
            user: user.into(),
        };
        self.decided(|broker, cx, out| broker.decide_attach(id, &who, cx, out));
        self.settle_down();
        id
    }

    pub(crate) fn detach(&mut self, session: SessionId) {
        self.decided(|broker, cx, out| broker.decide_detach(session, cx, out));
        self.outbox.remove(&session);
        self.settle_down();
        self.do_due();
    }

    /// Gives a command, and delivers what has become possible.
    pub(crate) fn give(&mut self, from: SessionId, command: impl Give) {
        let command = command.command();
        self.decided(|broker, cx, out| broker.decide(from, &command, cx, out));
        self.settle_down();
        self.do_due();
    }

    /// A command may leave something that was due long ago.
    fn do_due(&mut self) {
        if self.broker.next_deadline().is_some_and(|at| at <= self.now) {
            self.tick();
        }
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < STEPS_MAX, "deadlines do not end");
            match self.broker.next_deadline() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.tick();
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self) {
        for step in 0.. {
            assert!(step < STEPS_MAX, "ticks do not end");
            let mut more = false;
            self.decided(|broker, cx, out| more = broker.decide_tick(cx, 7, out));
            self.settle_down();
            let due = self.broker.next_deadline().is_some_and(|at| at <= self.now);
            if !more && !due {
                return;
            }
        }
    }

    /// The socket took everything.
    pub(crate) fn drain(&mut self, session: SessionId) {
        let bytes = self.outbox.remove(&session).unwrap_or(0);
        self.broker.returned_room(session, bytes);
        self.settle_down();
    }

    pub(crate) fn answer_fetches(&mut self) {
        while let Some((fetch, id)) = self.fetches.pop_front() {
            let message = Arc::new(self.stored(id));
            self.decided(|broker, cx, out| broker.decide_fetched(fetch, message, cx, out));
        }
        self.settle_down();
    }

    // ---- a step

    fn decided(&mut self, decide: impl FnOnce(&Broker, &Context, &mut Decision)) {
        let cx = self.cx();
        let mut decision = Decision::default();
        decide(&self.broker, &cx, &mut decision);
        self.perform(decision);
    }

    fn perform(&mut self, decision: Decision) {
        let mut effects = Vec::new();
        for mut change in decision.changes {
            if !change.is_durable() {
                self.broker.apply(&change, self.now, None, &mut effects);
                continue;
            }
            let payload;
            let kind;
            let message = change.message().map(Arc::clone);
            let mut out = Vec::new();
            if let Some(message) = &message {
                let mut head = Vec::new();
                message::encode_head(message, &mut head);
                let len = message.body.len() as u64;
                if message.body.len() > self.part_len {
                    let parts = self.put_parts(&message.body);
                    change.put_parts(parts.clone());
                    let body = BodyAt::Parts { parts: &parts, len };
                    kind = change.encode(self.now, &head, body, &mut out);
                } else {
                    kind = change.encode(self.now, &head, BodyAt::Inline { len }, &mut out);
                    out.extend_from_slice(&message.body);
                }
                payload = Bytes::from(out);
            } else {
                kind = change.encode(self.now, &[], BodyAt::None, &mut out);
                payload = Bytes::from(out);
            }
            assert!(payload.len() < RECORD_LEN_MAX, "no batch has room for it");
            let id = StoredId(self.records.len() as u64 + 1);
            self.broker.apply(
                &change,
                self.now,
                message.is_some().then_some(id),
                &mut effects,
            );
            self.records.push(Record { kind, payload });
        }
        for effect in effects.into_iter().chain(decision.effects) {
            self.route(effect);
        }
    }

    fn put_parts(&mut self, body: &Bytes) -> Vec<StoredId> {
        let mut rest = body.clone();
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let payload = rest.split_to(rest.len().min(self.part_len));
            self.records.push(Record {
                kind: RecordKind::BODY_PART,
                payload,
            });
            parts.push(StoredId(self.records.len() as u64));
        }
        parts
    }

    /// Delivers, answers fetches and hangs up until nothing more happens.
    fn settle_down(&mut self) {
        for step in 0.. {
            assert!(step < STEPS_MAX, "deliveries do not end");
            // Fetches first, so that it makes no difference to what follows whether a message was in memory.
            if self.answers
                && let Some((fetch, id)) = self.fetches.pop_front()
            {
                let message = Arc::new(self.stored(id));
                self.decided(|broker, cx, out| broker.decide_fetched(fetch, message, cx, out));
                continue;
            }
            let mut more = false;
            let limit = 1 + step % 5;
            self.decided(|broker, cx, out| more = broker.decide_deliveries(cx, limit, out));
            if more {
                continue;
            }
            if let Some(session) = self.closed.pop() {
                self.decided(|broker, cx, out| broker.decide_detach(session, cx, out));
                self.outbox.remove(&session);
                continue;
            }
            if self.drains && !self.outbox.is_empty() {
                for (session, bytes) in std::mem::take(&mut self.outbox) {
                    self.broker.returned_room(session, bytes);
                }
                continue;
            }
            break;
        }
        self.check_follower();
    }

    fn route(&mut self, effect: Effect) {
        match effect {
            Effect::Event {
                to,
                lane,
                wait,
                event,
            } => self.hear(to, lane, wait, event),
            Effect::Show {
                to,
                wait,
                delivery,
                bytes,
            } => {
                for to in to {
                    *self.outbox.entry(to).or_default() += bytes;
                    let event = Event::Delivery(Arc::clone(&delivery));
                    self.hear(to, OutLane::Consumer(ConsumerId::CLIENT), wait, event);
                }
            }
            Effect::Deliver {
                to,
                lane,
                wait,
                delivery,
                bytes,
            } => {
                *self.outbox.entry(to).or_default() += bytes;
                let delivery = delivery.into_delivery(|id, len| self.whole(id, len));
                self.hear(to, lane, wait, Event::Delivery(delivery));
            }
            Effect::Pulled {
                to,
                lane,
                wait,
                token,
                deliveries,
                epoch,
                remaining,
            } => {
                let deliveries = deliveries
                    .into_iter()
                    .map(|(delivery, content)| self.shown(delivery, content))
                    .collect();
                let event = Event::Pulled {
                    token,
                    deliveries,
                    epoch,
                    remaining,
                };
                self.hear(to, lane, wait, event);
            }
            Effect::Records {
                to,
                lane,
                wait,
                token,
                records,
            } => {
                let records = records.into_records(|content| match content {
                    Content::Resident(message) => message,
                    Content::Stored(id, _) => Arc::new(self.stored(id)),
                });
                let records = Box::new(records);
                self.hear(to, lane, wait, Event::Records { token, records });
            }
            Effect::Ref(id) => *self.references.entry(id).or_default() += 1,
            Effect::Unref(id) => {
                let count = self.references.entry(id).or_default();
                *count -= 1;
                assert!(*count >= 0, "a reference to {id:?} is given back twice");
                if *count == 0 {
                    self.references.remove(&id);
                }
            }
            Effect::Fetch { fetch, id, .. } => self.fetches.push_back((fetch, id)),
            Effect::Load(_) => unreachable!("nothing is in stream files here"),
            Effect::Close { session, reason } => {
                let lane = OutLane::Reply(Lane(0));
                self.hear(session, lane, Wait::Nothing, Event::Closing { reason });
                self.closed.push(session);
            }
        }
    }

    fn hear(&mut self, to: SessionId, lane: OutLane, wait: Wait, event: Event) {
        let after = match wait {
            Wait::Nothing => 0,
            Wait::Durable => self.records.len(),
            Wait::Stored(id) => id.0 as usize,
        };
        assert!(after <= self.records.len(), "waits for what is not written");
        self.heard.push(Heard {
            to,
            lane,
            after,
            event: placeless(event),
        });
    }

    fn shown(&self, delivery: PendingDelivery, content: Content) -> Delivery {
        let message = match content {
            Content::Resident(message) => message,
            Content::Stored(id, len) => self.whole(id, len),
        };
        delivery.into_delivery(message)
    }

    fn whole(&self, id: StoredId, len: u32) -> Arc<Message> {
        let message = self.stored(id);
        assert_eq!(message.body.len(), len as usize, "the length that was told");
        Arc::new(message)
    }

    /// A message out of the records.
    pub(crate) fn stored(&self, id: StoredId) -> Message {
        let record = &self.records[id.0 as usize - 1];
        assert_eq!(record.kind, RecordKind::PUBLISHED, "{id:?} is a publish");
        let stored = decode_stored(record.payload.clone()).expect("what was encoded decodes");
        let body = match stored.body {
            StoredBody::Inline(body) => body,
            StoredBody::Parts { parts, len } => {
                let parts: Vec<&[u8]> = parts
                    .iter()
                    .map(|part| &self.records[part.0 as usize - 1].payload[..])
                    .collect();
                let body = Bytes::from(parts.concat());
                assert_eq!(body.len() as u64, len, "the parts make up the body");
                body
            }
        };
        message::decode_head(stored.head, body).expect("what was encoded decodes")
    }

    // ---- after a crash

    /// The durable state as bytes.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        encoded(&self.broker)
    }

    /// A core that was told nothing but the records.
    pub(crate) fn replayed(&self) -> Broker {
        let mut broker = Broker::new(self.config.clone());
        let mut effects = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            replay_one(&mut broker, record, at, &mut effects);
        }
        broker
    }

    /// A core that was told the first records.
    pub(crate) fn replayed_upto(&self, upto: usize) -> Broker {
        let mut broker = Broker::new(self.config.clone());
        let mut effects = Vec::new();
        for (at, record) in self.records[..upto].iter().enumerate() {
            replay_one(&mut broker, record, at, &mut effects);
        }
        broker
    }

    /// A core that was told all records but some, which are lost and were given up: as it is before that is recorded, and what came
    /// of its references so far.
    pub(crate) fn replayed_without(&self, lost: std::ops::Range<usize>) -> (Broker, Vec<Effect>) {
        let mut broker = Broker::new(self.config.clone());
        let mut effects = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            if at == lost.start {
                broker.after_loss(lost.len() as u64);
            }
            if !lost.contains(&at) {
                replay_one(&mut broker, record, at, &mut effects);
            }
        }
        (broker, effects)
    }

    /// A core that loads a snapshot and is told the records behind it.
    pub(crate) fn replayed_from(&self, snapshot: &[u8], cut: usize) -> Broker {
        let mut broker = Broker::decode_snapshot(self.config.clone(), &mut &snapshot[..])
            .expect("what was encoded decodes");
        assert!(
            encoded(&broker) == snapshot,
            "a decoded snapshot encodes to the same bytes"
        );
        let mut effects = Vec::new();
        for (at, record) in self.records.iter().enumerate().skip(cut) {
            replay_one(&mut broker, record, at, &mut effects);
        }
        broker
    }

    /// The process is killed and starts again from its records.
    pub(crate) fn restart(&mut self) {
        let broker = self.replayed();
        self.start_with(broker);
    }

    /// The process is killed and starts again from a snapshot of its last moment.
    pub(crate) fn restart_from_snapshot(&mut self) {
        let broker = self.replayed_from(&self.snapshot(), self.records.len());
        self.start_with(broker);
    }

    fn start_with(&mut self, broker: Broker) {
        assert!(
            encoded(&broker) == self.snapshot(),
            "the replayed state differs from the live one"
        );
        self.broker = broker;
        self.now = self.now.max(self.broker.last_time());
        self.fetches.clear();
        self.outbox.clear();
        self.references.clear();
        let references = &mut self.references;
        self.broker
            .for_each_stored(|id| *references.entry(id).or_default() += 1);
        self.open_epoch();
        self.tick();
    }

    /// Every stored message that something durable refers to is counted, and known to be alive.
    pub(crate) fn check_references(&self) {
        let mut durable: BTreeMap<StoredId, i64> = BTreeMap::new();
        self.broker
            .for_each_stored(|id| *durable.entry(id).or_default() += 1);
        for (id, count) in &durable {
            let told = self.references.get(id).copied().unwrap_or(0);
            assert!(told >= *count, "{id:?} has {count} references, {told} told");
            let record = &self.records[id.0 as usize - 1];
            if record.kind == RecordKind::BODY_PART {
                assert!(self.broker.is_live_part(*id), "the part {id:?} is alive");
                continue;
            }
            let (_, change) = Change::decode(record.kind, record.payload.clone())
                .expect("what was encoded decodes");
            assert!(self.broker.is_live(&change, *id), "{id:?} is alive");
        }
    }

    // ---- what was heard

    /// Takes everything that a connection was told.
    pub(crate) fn take(&mut self, session: SessionId) -> Vec<Heard> {
        let (mine, others) = std::mem::take(&mut self.heard)
            .into_iter()
            .partition(|heard| heard.to == session);
        self.heard = others;
        mine
    }

    /// Takes the deliveries of a connection. Whatever else it was told stays.
    pub(crate) fn deliveries(&mut self, session: SessionId) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        self.heard.retain(|heard| match &heard.event {
            Event::Delivery(delivery) if heard.to == session => {
                deliveries.push((**delivery).clone());
                false
            }
            _ => true,
        });
        deliveries
    }

    /// Takes the bodies of the deliveries of a connection.
    pub(crate) fn bodies(&mut self, session: SessionId) -> Vec<String> {
        self.deliveries(session).iter().map(super::text).collect()
    }

    /// Takes the only event of a connection that is not a delivery.
    pub(crate) fn answer(&mut self, session: SessionId) -> Heard {
        let mut answers: Vec<Heard> = Vec::new();
        self.heard.retain(|heard| {
            let taken = heard.to == session && !matches!(heard.event, Event::Delivery(_));
            if taken {
                answers.push(heard.clone());
            }
            !taken
        });
        assert_eq!(answers.len(), 1, "one answer, not {answers:?}");
        answers.remove(0)
    }

    // ---- short forms that expect to succeed

    pub(crate) fn declare(&mut self, from: SessionId, declare: Declare) -> Event {
        let token = self.token();
        self.give(
            from,
            Command::Declare {
                token,
                lane: Lane(0),
                declare,
            },
        );
        self.answer(from).event
    }

    /// Declares, and expects success.
    pub(crate) fn declared(&mut self, from: SessionId, declare: Declare) -> (Bytes, u64, u32) {
        match self.declare(from, declare) {
            Event::Declared {
                name,
                messages,
                consumers,
                ..
            } => (name, messages, consumers),
            other => panic!("expected Declared, not {other:?}"),
        }
    }

    /// Deletes a queue under its consumers, who are told so first.
    pub(crate) fn declared_after_cancel(&mut self, from: SessionId, declare: Declare) {
        let token = self.token();
        let lane = Lane(0);
        self.give(
            from,
            Command::Declare {
                token,
                lane,
                declare,
            },
        );
        let heard = self.take(from);
        let cancelled = |heard: &Heard| matches!(heard.event, Event::Cancelled { .. });
        assert!(heard.iter().any(cancelled), "{heard:?}");
    }

    /// Declares, and expects a refusal.
    pub(crate) fn declare_refused(&mut self, from: SessionId, declare: Declare) -> Refusal {
        match self.declare(from, declare) {
            Event::Refused { refusal, .. } => refusal,
            other => panic!("expected Refused, not {other:?}"),
        }
    }

    /// Publishes with a confirm and gives its outcome.
    pub(crate) fn confirmed(&mut self, from: SessionId, message: Message) -> PublishOutcome {
        let token = self.token();
        let publish = super::publish(message).confirm(token);
        self.give(from, publish);
        match self.answer(from).event {
            Event::Published { outcome, .. } => outcome,
            other => panic!("expected Published, not {other:?}"),
        }
    }

    /// Messages available and consumers of a queue, by looking.
    pub(crate) fn look(&mut self, from: SessionId, queue: &str) -> (u64, u32) {
        let (_, messages, consumers) = self.declared(from, super::look(queue));
        (messages, consumers)
    }
}

/// The durable state as bytes.
pub(crate) fn encoded(broker: &Broker) -> Vec<u8> {
    let mut bytes = Vec::new();
    broker
        .encode_snapshot(&mut bytes)
        .expect("a vector takes everything");
    bytes
}

/// The record of a loss, with which a start begins.
pub(crate) fn mended(broker: &Broker) -> Record {
    let mut out = Decision::default();
    let now = broker.last_time();
    broker.decide_mended(&Context { now, random: 0 }, &mut out);
    let mut payload = Vec::new();
    let kind = out.changes[0].encode(now, &[], BodyAt::None, &mut payload);
    let payload = payload.into();
    Record { kind, payload }
}

/// The loss is recorded.
pub(crate) fn mend(broker: &mut Broker, effects: &mut Vec<Effect>) {
    let record = mended(broker);
    let (time, change) =
        Change::decode(record.kind, record.payload).expect("what was encoded decodes");
    broker.apply(&change, time, None, effects);
    assert_eq!(broker.pending_loss(), None, "it is recorded");
}

fn replay_one(broker: &mut Broker, record: &Record, at: usize, effects: &mut Vec<Effect>) {
    if record.kind == RecordKind::BODY_PART {
        return;
    }
    let (time, change) =
        Change::decode(record.kind, record.payload.clone()).expect("what was encoded decodes");
    assert!(change.is_durable(), "record {at} holds a durable change");
    broker.apply(&change, time, Some(StoredId(at as u64 + 1)), effects);
}
