//! What a step of the core costs while very many messages are in flight: it must not grow with them.
//!
//! `cargo run --release -p broker --example flight [messages]`. Each line is printed with a thousand messages out of one
//! queue and with a million, without and with a retention that they outlive.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it measures time and prints it"
)]

use std::{collections::VecDeque, sync::Arc, time::Instant};

use broker::{Broker, Config, Context, Decision, Effect, SessionInfo};
use bytes::Bytes;
use message::{Address, Message, StoredId, Timestamp, VhostId};
use session::{
    Command, ConsumerId, Credit, Declare, Lane, Lease, Publish, Pull, QueueAttributes,
    QueueOptions, Receipt, ReceiptUse, SessionId, Source, Subscribe, SubscriptionOptions, Token,
    UseReceipt,
};

const LEASE_MS: u64 = 60_000;
const RETENTION_MS: u64 = 1000;
/// How often each step is taken.
const STEPS: u64 = 1000;

struct Flight {
    broker: Broker,
    now: Timestamp,
    stored: u64,
    receipts: VecDeque<Receipt>,
    room: Vec<(SessionId, u64)>,
}

impl Flight {
    fn new() -> Self {
        let mut flight = Self {
            broker: Broker::new(Config::default()),
            now: Timestamp(1_000_000),
            stored: 0,
            receipts: VecDeque::new(),
            room: Vec::new(),
        };
        flight.run(|broker, cx, out| broker.decide_epoch(1, cx, out));
        flight.run(|broker, cx, out| broker.decide_vhosts(&["/"], cx, out));
        flight
    }

    fn run<R>(&mut self, decide: impl FnOnce(&Broker, &Context, &mut Decision) -> R) -> R {
        let mut decision = Decision::default();
        let cx = Context {
            now: self.now,
            random: 7,
        };
        let decided = decide(&self.broker, &cx, &mut decision);
        let mut effects = decision.effects;
        for change in &decision.changes {
            self.stored += 1;
            let stored = change.message().map(|_| StoredId(self.stored));
            self.broker.apply(change, self.now, stored, &mut effects);
        }
        for effect in effects {
            match effect {
                Effect::Pulled {
                    deliveries, epoch, ..
                } => {
                    for (delivery, _) in deliveries {
                        let id = delivery.id.expect("leased");
                        self.receipts.push_back(Receipt {
                            queue: id.queue,
                            qseq: id.qseq,
                            count: delivery.count,
                            epoch,
                        });
                    }
                }
                Effect::Show { to, bytes, .. } => {
                    self.room.extend(to.into_iter().map(|to| (to, bytes)));
                }
                Effect::Deliver { to, bytes, .. } => self.room.push((to, bytes)),
                _ => {}
            }
        }
        decided
    }

    fn give(&mut self, from: SessionId, command: &Command) {
        self.run(|broker, cx, out| broker.decide(from, command, cx, out));
        while self.run(|broker, cx, out| broker.decide_deliveries(cx, 1024, out)) {}
        for (session, bytes) in std::mem::take(&mut self.room) {
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

    fn publish(&mut self, from: SessionId) {
        let mut message = Message::new(
            Address::queue(VhostId::ROOT, "q"),
            Bytes::from_static(&[7; 64]),
        );
        message.durable = true;
        let publish = Publish {
            token: Some(Token(1)),
            lane: Lane(0),
            message: Arc::new(message),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        };
        self.give(from, &Command::Publish(publish));
    }

    fn receive(&mut self, from: SessionId) {
        let pull = Pull {
            token: Token(1),
            lane: Lane(0),
            queue: "q".into(),
            count: 1,
            lease: Lease::Ms(LEASE_MS),
            wait_ms: 0,
            out_max: None,
            bytes_max: None,
            attempt: None,
        };
        self.give(from, &Command::Pull(pull));
    }

    fn use_receipt(&mut self, from: SessionId, to: ReceiptUse) {
        let receipt = self.receipts.pop_front().expect("received");
        let it = UseReceipt {
            token: Token(1),
            lane: Lane(0),
            receipt,
            to,
        };
        self.give(from, &Command::UseReceipt(it));
        if to != ReceiptUse::Delete {
            self.receipts.push_back(receipt);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        while self.broker.next_deadline().is_some_and(|at| at <= self.now) {
            self.run(|broker, cx, out| broker.decide_tick(cx, 256, out));
        }
    }

    /// Prints what one of so many steps takes, on average.
    fn measure(&mut self, what: &str, steps: u64, mut step: impl FnMut(&mut Self, u64)) {
        let begun = Instant::now();
        for at in 0..steps {
            step(self, at);
        }
        let each = begun.elapsed().as_nanos() / u128::from(steps);
        println!("  {what:<44} {each:>9} ns");
    }
}

fn fly(messages: u64, attributes: &QueueAttributes) {
    let mut flight = Flight::new();
    let sender = flight.attach(1);
    let options = QueueOptions {
        durable: true,
        attributes: attributes.clone(),
        ..QueueOptions::default()
    };
    let declare = Command::Declare {
        token: Token(1),
        lane: Lane(0),
        declare: Declare::Queue {
            name: "q".into(),
            passive: false,
            options: Box::new(options),
        },
    };
    flight.give(sender, &declare);
    // A millisecond holds a hundred of them, so that their leases lapse one after the other.
    for at in 0..messages {
        flight.publish(sender);
        flight.receive(sender);
        if at % 100 == 99 {
            flight.now = flight.now.plus_ms(1);
        }
    }
    let kept = attributes
        .retention_ms
        .map_or("for ever", |_| "for a second");
    println!("{messages} in flight, messages are kept {kept}");
    flight.measure("publish and receive", STEPS, |flight, _| {
        flight.publish(sender);
        flight.receive(sender);
    });
    flight.measure("receive nothing", STEPS, |flight, _| flight.receive(sender));
    let steps = STEPS.min(messages / 4);
    flight.measure("change visibility", steps, |flight, _| {
        flight.use_receipt(sender, ReceiptUse::Visibility { ms: 10 * LEASE_MS });
    });
    flight.measure("delete", steps, |flight, _| {
        flight.use_receipt(sender, ReceiptUse::Delete);
    });
    flight.measure(
        "a consumer comes, gets ten, and its connection ends",
        100,
        |flight, at| {
            let consumer = flight.attach(2 + at);
            for _ in 0..10 {
                flight.publish(sender);
            }
            let subscribe = Subscribe {
                token: Token(1),
                lane: Lane(0),
                consumer: ConsumerId(1),
                source: Source::Queue {
                    name: "q".into(),
                    create: false,
                },
                credit: Credit::Window(10),
                group: 0,
                exclusive: false,
                priority: 0,
                through_client: false,
                options: SubscriptionOptions::default(),
            };
            flight.give(consumer, &Command::Subscribe(Box::new(subscribe)));
            flight.run(|broker, cx, out| broker.decide_detach(consumer, cx, out));
            for _ in 0..10 {
                flight.receive(sender);
            }
        },
    );
    if attributes.retention_ms.is_some() {
        flight.measure("a message waits until it is too old", 100, |flight, _| {
            flight.publish(sender);
            flight.pass(RETENTION_MS / 50);
        });
    }
    // The first that lapse: neither deleted nor changed.
    let at = Timestamp(1_000_000 + LEASE_MS + 2 * steps / 100);
    flight.pass(at.since(flight.now));
    flight.measure(
        "a millisecond with a hundred leases that lapse",
        4,
        |flight, _| {
            flight.pass(1);
        },
    );
}

fn main() {
    let messages = std::env::args().nth(1);
    let messages = messages.and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    for retention_ms in [None, Some(RETENTION_MS)] {
        let attributes = QueueAttributes {
            deliveries_max: Some(100),
            retention_ms,
            ..QueueAttributes::default()
        };
        for messages in [1000, messages] {
            fly(messages, &attributes);
        }
    }
}
