//! The broker's own core, without threads and disk, behind doors that are driven by hand. It journals into memory; what a
//! replay makes of that must be what there is.

use std::{collections::VecDeque, sync::Arc};

use broker::{
    BodyAt, Broker, Change, Config, Content, Context, Decision, Effect, RecordKind, SessionInfo,
    StoredBody, decode_stored,
};
use bytes::Bytes;
use message::{Message, StoredId, Timestamp, VhostId, decode_head, encode_head};
use session::{Command, Event, Secret, SessionId, Token};

/// The one session that asks.
const SESSION: SessionId = SessionId(1);
pub(crate) const SECRET: Secret = Secret([5; 32]);

pub(crate) struct Core {
    broker: Broker,
    pub(crate) now: Timestamp,
    journal: Vec<(StoredId, RecordKind, Bytes)>,
    told: VecDeque<Event>,
    token: u64,
    random: u64,
    epoch: u64,
}

impl Core {
    pub(crate) fn new(now: Timestamp) -> Self {
        let mut core = Self {
            broker: Broker::new(Config::default()),
            now,
            journal: Vec::new(),
            told: VecDeque::new(),
            token: 0,
            random: 1,
            epoch: 0,
        };
        core.begin();
        core.run(|broker, cx, out| broker.decide_vhosts(&["/"], cx, out));
        core.run(|broker, cx, out| broker.decide_secret(SECRET, cx, out));
        core.attach();
        core
    }

    fn begin(&mut self) {
        self.epoch += 1;
        let epoch = self.epoch;
        self.run(|broker, cx, out| broker.decide_epoch(epoch, cx, out));
    }

    fn attach(&mut self) {
        let who = SessionInfo {
            vhost: VhostId::ROOT,
            user: "guest".into(),
            broker: false,
        };
        self.run(|broker, cx, out| broker.decide_attach(SESSION, &who, cx, out));
    }

    fn run(&mut self, decide: impl FnOnce(&Broker, &Context, &mut Decision)) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) | 1;
        let cx = Context {
            now: self.now,
            random: self.random,
        };
        let mut decision = Decision::default();
        decide(&self.broker, &cx, &mut decision);
        self.perform(decision);
        for round in 0.. {
            assert!(round < 100_000, "deliveries come to no end");
            let mut decision = Decision::default();
            if !self.broker.decide_deliveries(&cx, 7, &mut decision) {
                break;
            }
            self.perform(decision);
        }
    }

    fn perform(&mut self, mut decision: Decision) {
        let mut effects = Vec::new();
        for change in &mut decision.changes {
            let mut stored = None;
            if change.is_durable() {
                let (mut head, mut body) = (Vec::new(), None);
                if let Some(message) = change.message() {
                    encode_head(message, &mut head);
                    body = Some(message.body.clone());
                }
                let at = body.as_ref().map_or(BodyAt::None, |body| BodyAt::Inline {
                    len: body.len() as u64,
                });
                let mut payload = Vec::new();
                let kind = change.encode(self.now, &head, at, &mut payload);
                let id = StoredId(self.journal.len() as u64 + 1);
                if let Some(body) = body {
                    payload.extend_from_slice(&body);
                    stored = Some(id);
                }
                self.journal.push((id, kind, payload.into()));
            }
            self.broker.apply(change, self.now, stored, &mut effects);
        }
        effects.append(&mut decision.effects);
        effects.into_iter().for_each(|effect| self.route(effect));
    }

    fn route(&mut self, effect: Effect) {
        match effect {
            Effect::Event { event, .. } => self.told.push_back(event),
            Effect::Show { .. } | Effect::Deliver { .. } => panic!("nobody consumes"),
            Effect::Pulled {
                token,
                deliveries,
                epoch,
                remaining,
                ..
            } => {
                let deliveries = deliveries
                    .into_iter()
                    .map(|(pending, content)| pending.into_delivery(self.message(content)))
                    .collect();
                self.told.push_back(Event::Pulled {
                    token,
                    deliveries,
                    epoch,
                    remaining,
                });
            }
            Effect::Records { token, records, .. } => {
                let records = Box::new(records.into_records(|content| self.message(content)));
                self.told.push_back(Event::Records { token, records });
            }
            Effect::Fetch { fetch, id, .. } => {
                let message = self.message(Content::Stored(id, 0));
                self.run(|broker, cx, out| broker.decide_fetched(fetch, message, cx, out));
            }
            Effect::Load(_) => panic!("no stream file was made"),
            Effect::Ref(_) | Effect::Unref(_) => {}
            Effect::Close { reason, .. } => panic!("the session is closed: {reason:?}"),
        }
    }

    fn message(&self, content: Content) -> Arc<Message> {
        let id = match content {
            Content::Resident(message) => return message,
            Content::Stored(id, _) => id,
        };
        let (_, _, payload) = &self.journal[id.0 as usize - 1];
        let stored = decode_stored(payload.clone()).expect("a stored message");
        let StoredBody::Inline(body) = stored.body else {
            panic!("bodies are stored whole");
        };
        Arc::new(decode_head(stored.head, body).expect("a stored head"))
    }

    /// Asks, and waits for the answers, in the order of the commands; time passes until they come. `None`: they do not come
    /// within ten minutes.
    pub(crate) fn ask(&mut self, commands: Vec<Command>) -> Option<Vec<Event>> {
        let first = self.token;
        let mut answers: Vec<Option<Event>> = commands.iter().map(|_| None).collect();
        for mut command in commands {
            let token = command.token_mut();
            *token.expect("a flow asks only what is answered") = Token(self.token);
            self.token += 1;
            self.run(|broker, cx, out| broker.decide(SESSION, &command, cx, out));
        }
        let end = self.now.plus_ms(600_000);
        loop {
            for event in self.told.drain(..) {
                let place = event
                    .token()
                    .and_then(|Token(number)| number.checked_sub(first))
                    .and_then(|at| answers.get_mut(at as usize));
                if let Some(place) = place {
                    assert!(place.is_none(), "two answers to one command: {event:?}");
                    *place = Some(event);
                }
            }
            if answers.iter().all(Option::is_some) {
                return Some(answers.into_iter().flatten().collect());
            }
            let next = self.broker.next_deadline().filter(|at| *at <= end)?;
            self.pass(next.max(self.now).0 - self.now.0);
        }
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        for round in 0.. {
            assert!(round < 100_000, "ticks come to no end");
            if self.broker.next_deadline().is_none_or(|at| at > self.now) {
                break;
            }
            self.run(|broker, cx, out| {
                broker.decide_tick(cx, 100, out);
            });
        }
    }

    fn snapshot(broker: &Broker) -> Vec<u8> {
        let mut bytes = Vec::new();
        broker.encode_snapshot(&mut bytes).expect("memory takes it");
        bytes
    }

    /// What a replay of the journal makes: the same.
    fn replayed(&self) -> Broker {
        let mut broker = Broker::new(Config::default());
        let mut effects = Vec::new();
        for (id, kind, payload) in &self.journal {
            let (time, change) = Change::decode(*kind, payload.clone()).expect("a record");
            broker.apply(&change, time, Some(*id), &mut effects);
        }
        assert!(
            Self::snapshot(&broker) == Self::snapshot(&self.broker),
            "a replay makes something else"
        );
        broker
    }

    /// The process ends and begins again, with its journal.
    pub(crate) fn restart(&mut self) {
        self.broker = self.replayed();
        self.told.clear();
        self.begin();
        self.attach();
    }
}
