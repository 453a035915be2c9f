//! What a step of the core costs: nanoseconds per publish, delivery and settlement, without node, journal and sockets.
//!
//! `cargo run --release -p broker --example steps [rounds [topics]]`; a hundred clients subscribe to each of the topics. Records are
//! encoded, as the node does, and thrown away.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it measures time and prints it"
)]

use std::{collections::VecDeque, hint::black_box, sync::Arc, time::Instant};

use broker::{BodyAt, Broker, Config, Context, Decision, Effect, SessionInfo};
use bytes::Bytes;
use message::{
    Address, Filter, FilterLevel, Levels, Message, Pattern, StoredId, Timestamp, VhostId,
};
use session::{
    ClientExpiry, Command, ConsumerId, Credit, Declare, DeliveryRange, Lane, OpenClient, Outcome,
    Publish, QueueOptions, SessionId, Settle, Source, Subscribe, SubscriptionOptions, Token,
};
use smallvec::SmallVec;

struct Steps {
    broker: Broker,
    decision: Decision,
    effects: Vec<Effect>,
    record: Vec<u8>,
    stored: u64,
    /// Room to give back.
    sent: Vec<(SessionId, u64)>,
    delivered: VecDeque<session::DeliveryId>,
}

impl Steps {
    fn new() -> Self {
        let mut steps = Self {
            broker: Broker::new(Config::default()),
            decision: Decision::default(),
            effects: Vec::new(),
            record: Vec::new(),
            stored: 0,
            sent: Vec::new(),
            delivered: VecDeque::new(),
        };
        steps.run(|broker, cx, out| broker.decide_epoch(1, cx, out));
        steps.run(|broker, cx, out| broker.decide_vhosts(&["/"], cx, out));
        steps
    }

    fn run<R>(&mut self, decide: impl FnOnce(&Broker, &Context, &mut Decision) -> R) -> R {
        let now = Timestamp(1_000_000);
        let mut decision = std::mem::take(&mut self.decision);
        decision.clear();
        let decided = decide(&self.broker, &Context { now, random: 7 }, &mut decision);
        for change in &decision.changes {
            let mut stored = None;
            if change.is_durable() {
                self.record.clear();
                let body = change.message().map_or(BodyAt::None, |message| {
                    self.stored += 8;
                    stored = Some(StoredId(self.stored));
                    BodyAt::Inline {
                        len: message.body.len() as u64,
                    }
                });
                black_box(change.encode(now, b"head", body, &mut self.record));
            }
            self.broker.apply(change, now, stored, &mut self.effects);
        }
        for effect in self.effects.drain(..).chain(decision.effects.drain(..)) {
            match effect {
                Effect::Show { to, bytes, .. } => {
                    self.sent.extend(to.into_iter().map(|to| (to, bytes)));
                }
                Effect::Deliver {
                    to,
                    delivery,
                    bytes,
                    ..
                } => {
                    self.sent.push((to, bytes));
                    self.delivered.extend(delivery.id());
                }
                _ => {}
            }
        }
        self.decision = decision;
        decided
    }

    fn give(&mut self, from: SessionId, command: &Command) {
        self.run(|broker, cx, out| broker.decide(from, command, cx, out));
        while self.run(|broker, cx, out| broker.decide_deliveries(cx, 1024, out)) {}
        for (session, bytes) in self.sent.drain(..) {
            self.broker.returned_room(session, bytes);
        }
    }

    fn attach(&mut self, id: u64) -> SessionId {
        let who = SessionInfo {
            broker: false,
            vhost: VhostId::ROOT,
            user: "someone".into(),
        };
        self.run(|broker, cx, out| broker.decide_attach(SessionId(id), &who, cx, out));
        SessionId(id)
    }
}

fn publish(address: Address, durable: bool) -> Command {
    let mut message = Message::new(address, Bytes::from_static(&[7; 64]));
    message.durable = durable;
    message.qos = u8::from(durable);
    Command::Publish(Publish {
        token: Some(Token(1)),
        lane: Lane(0),
        message: Arc::new(message),
        mandatory: false,
        create: false,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds: false,
    })
}

fn subscribe(source: Source, consumer: ConsumerId) -> Command {
    Command::Subscribe(Box::new(Subscribe {
        token: Token(1),
        lane: Lane(0),
        consumer,
        source,
        credit: Credit::Window(100),
        group: 0,
        exclusive: false,
        priority: 0,
        through_client: false,
        options: SubscriptionOptions::default(),
    }))
}

fn open(steps: &mut Steps, session: SessionId, id: u64) {
    let open = Command::OpenClient(Box::new(OpenClient {
        token: Token(1),
        client_id: Bytes::from(format!("client-{id}")),
        clean_start: true,
        expiry: ClientExpiry::WithConnection,
        window: 100,
        message_len_max: None,
        will: None,
    }));
    steps.give(session, &open);
}

/// QoS 0 to so many subscribers: nanoseconds per publish.
fn fan_out(width: u64, rounds: u64) -> f64 {
    let mut steps = Steps::new();
    for id in 1..=width {
        let session = steps.attach(id);
        open(&mut steps, session, id);
        let level = |text: &'static [u8]| FilterLevel::Exact(Bytes::from_static(text));
        let pattern = Pattern(vec![level(b"site"), FilterLevel::One, level(b"state")]);
        let filter = Filter::Pattern(pattern);
        steps.give(
            session,
            &subscribe(Source::Topic { filter }, ConsumerId::CLIENT),
        );
    }
    let publisher = steps.attach(width + 1);
    let key =
        Levels::split(Bytes::from_static(b"site/seven/state"), b'/').expect("three short levels");
    let command = publish(Address::topic(VhostId::ROOT, key), false);
    let start = Instant::now();
    for _ in 0..rounds {
        steps.give(publisher, &command);
    }
    let taken = start.elapsed().as_nanos() as f64 / rounds as f64;
    assert_eq!(
        steps.broker.counters().delivered,
        width * rounds,
        "each got each"
    );
    taken
}

/// What deciding a publish to a hundred subscribers takes, each of whom subscribes to so many topics: to one topic, whose route
/// is known, and to topics far apart, which are found anew. The difference is the match.
fn matching(topics: u64, rounds: u64) -> [f64; 2] {
    const CLIENTS: u64 = 100;
    let mut steps = Steps::new();
    let topic = |number: u64| {
        let text = format!("site/{}/room/{}/state", number / 500, number % 500);
        Levels::split(Bytes::from(text), b'/').expect("five short levels")
    };
    for id in 1..=CLIENTS {
        let session = steps.attach(id);
        open(&mut steps, session, id);
        for number in 0..topics {
            let filter = Filter::Exact(topic(number));
            let source = Source::Topic { filter };
            steps.give(session, &subscribe(source, ConsumerId::CLIENT));
        }
    }
    let publisher = steps.attach(CLIENTS + 1);
    let commands: Vec<Command> = (0..topics)
        .map(|number| publish(Address::topic(VhostId::ROOT, topic(number)), false))
        .collect();
    // A step that has no divisor in common with the number of topics visits them all.
    [0, 7_919].map(|step| {
        let cx = Context {
            now: Timestamp(1_000_000),
            random: 7,
        };
        let mut at = 0;
        let start = Instant::now();
        for _ in 0..rounds {
            steps.decision.clear();
            let command = &commands[at as usize];
            (steps.broker).decide(publisher, command, &cx, &mut steps.decision);
            at = (at + step) % topics;
        }
        let taken = start.elapsed().as_nanos() as f64 / rounds as f64;
        let shown =
            steps.decision.effects.iter().any(
                |effect| matches!(effect, Effect::Show { to, .. } if to.len() as u64 == CLIENTS),
            );
        assert!(shown, "each is shown it");
        taken
    })
}

/// Published to a durable queue, delivered and acknowledged at once, above so many that stay.
fn durable_queue(backlog: u64, rounds: u64) -> f64 {
    let mut steps = Steps::new();
    let session = steps.attach(1);
    let name = Bytes::from_static(b"jobs");
    let options = Box::new(QueueOptions {
        durable: true,
        ..QueueOptions::default()
    });
    steps.give(
        session,
        &Command::Declare {
            token: Token(1),
            lane: Lane(0),
            declare: Declare::Queue {
                name: name.clone(),
                passive: false,
                options,
            },
        },
    );
    let command = publish(Address::queue(VhostId::ROOT, name.clone()), true);
    for _ in 0..backlog {
        steps.give(session, &command);
    }
    let source = Source::Queue {
        name,
        create: false,
    };
    steps.give(session, &subscribe(source, ConsumerId(1)));
    let start = Instant::now();
    for _ in 0..rounds {
        steps.give(session, &command);
        let id = steps.delivered.pop_front().expect("there is room for one");
        let settle = Settle {
            token: None,
            lane: Lane(0),
            deliveries: DeliveryRange {
                queue: id.queue,
                ranges: SmallVec::from_slice(&[(id.qseq, id.qseq)]),
            },
            outcome: Outcome::Accept,
        };
        steps.give(session, &Command::Settle(settle));
    }
    start.elapsed().as_nanos() as f64 / rounds as f64
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(200_000);
    println!("QoS 0, 1 subscriber       {:8.0} ns", fan_out(1, rounds));
    let wide = fan_out(100, rounds / 50);
    println!(
        "QoS 0, 100 subscribers    {wide:8.0} ns, {:.0} each",
        wide / 100.0
    );
    let topics = std::env::args()
        .nth(2)
        .and_then(|topics| topics.parse().ok())
        .unwrap_or(1_000);
    let [one, apart] = matching(topics, rounds / 10);
    println!(
        "decided for 100 of {} subscriptions to {topics} topics: one topic {one:.0} ns, topics far apart {apart:.0}, \
         the match {:.0} ns",
        100 * topics,
        apart - one
    );
    println!(
        "durable queue, empty      {:8.0} ns",
        durable_queue(0, rounds)
    );
    println!(
        "durable queue, behind 1 M {:8.0} ns",
        durable_queue(1_000_000, rounds)
    );
}
