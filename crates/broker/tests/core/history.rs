//! Random histories: replayed state equals live state at every cut, nothing is lost, nothing settled comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use broker::{Broker, Config};
use proptest::prelude::*;
use session::*;

use crate::rig::*;

#[derive(Clone, Debug)]
enum Step {
    Publish {
        queue: u8,
        durable: bool,
        confirmed: bool,
        ttl: u8,
        delay: u8,
        priority: u8,
        group: u8,
    },
    Topic {
        topic: u8,
        qos: u8,
        retain: bool,
        empty: bool,
    },
    Consume {
        session: u8,
        queue: u8,
        window: u8,
        settled: bool,
    },
    Cancel {
        session: u8,
        queue: u8,
    },
    Settle {
        session: u8,
        nth: u8,
        outcome: u8,
    },
    Pull {
        session: u8,
        queue: u8,
        ms: u8,
    },
    Open {
        session: u8,
        client: u8,
        clean: bool,
        durable: bool,
        will: bool,
    },
    Subscribe {
        session: u8,
        filter: u8,
        qos: u8,
    },
    Unsubscribe {
        session: u8,
        filter: u8,
    },
    Through {
        session: u8,
        queue: u8,
        qos: u8,
    },
    Share {
        session: u8,
        filter: u8,
        qos: u8,
    },
    Detach {
        session: u8,
    },
    Tick {
        ms: u8,
    },
    Purge {
        queue: u8,
    },
    Delete {
        queue: u8,
    },
    Transact {
        session: u8,
        queue: u8,
        count: u8,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let queue = 0..6u8;
    let session = 0..3u8;
    let step = prop_oneof![
        8 => (queue.clone(), any::<bool>(), any::<bool>(), 0..4u8, 0..4u8, 0..4u8, 0..3u8)
            .prop_map(|(queue, durable, confirmed, ttl, delay, priority, group)| Step::Publish { queue, durable, confirmed, ttl, delay, priority, group }),
        5 => (0..3u8, 0..3u8, any::<bool>(), any::<bool>()).prop_map(|(topic, qos, retain, empty)| Step::Topic { topic, qos, retain, empty }),
        4 => (session.clone(), queue.clone(), 0..4u8, any::<bool>()).prop_map(|(session, queue, window, settled)| Step::Consume { session, queue, window, settled }),
        1 => (session.clone(), queue.clone()).prop_map(|(session, queue)| Step::Cancel { session, queue }),
        8 => (session.clone(), any::<u8>(), 0..5u8).prop_map(|(session, nth, outcome)| Step::Settle { session, nth, outcome }),
        2 => (session.clone(), queue.clone(), 0..60u8).prop_map(|(session, queue, ms)| Step::Pull { session, queue, ms }),
        3 => (session.clone(), 0..2u8, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(session, client, clean, durable, will)| Step::Open { session, client, clean, durable, will }),
        3 => (session.clone(), 0..3u8, 0..3u8).prop_map(|(session, filter, qos)| Step::Subscribe { session, filter, qos }),
        1 => (session.clone(), 0..3u8).prop_map(|(session, filter)| Step::Unsubscribe { session, filter }),
        2 => (session.clone(), queue.clone(), 0..3u8).prop_map(|(session, queue, qos)| Step::Through { session, queue, qos }),
        2 => (session.clone(), 0..3u8, 0..3u8).prop_map(|(session, filter, qos)| Step::Share { session, filter, qos }),
        1 => session.clone().prop_map(|session| Step::Detach { session }),
        3 => (0..60u8).prop_map(|ms| Step::Tick { ms }),
        1 => queue.clone().prop_map(|queue| Step::Purge { queue }),
        1 => queue.clone().prop_map(|queue| Step::Delete { queue }),
        1 => (session, queue, 1..4u8).prop_map(|(session, queue, count)| Step::Transact { session, queue, count }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// Queues of several characters.
fn declare_queues(rig: &mut Rig, from: SessionId) {
    let dead = || {
        Some(DeadLetter {
            exchange: "".into(),
            key: Some(levels("q0")),
        })
    };
    let kinds = [
        QueueAttributes::default(),
        QueueAttributes {
            ttl_ms: Some(40),
            dead_letter: dead(),
            ..QueueAttributes::default()
        },
        QueueAttributes {
            priority_max: Some(3),
            length_max: Some(4),
            dead_letter: dead(),
            ..QueueAttributes::default()
        },
        QueueAttributes {
            fifo: Some(Fifo {
                dedup_by_content: false,
                dedup_per_group: false,
            }),
            deliveries_max: Some(2),
            dead_letter: dead(),
            ..QueueAttributes::default()
        },
        QueueAttributes {
            length_max: Some(3),
            overflow: Overflow::RejectPublish,
            retention_ms: Some(90),
            ..QueueAttributes::default()
        },
    ];
    for (n, attributes) in kinds.into_iter().enumerate() {
        rig.durable_queue(from, &format!("q{n}"), attributes);
        rig.bind(from, "amq.topic", &format!("q{n}"), &format!("t/{n}"));
    }
    rig.queue(from, "q5", QueueOptions::default());
    rig.bind(from, "amq.topic", "q5", "t/#");
}

struct Play {
    rig: Rig,
    next_session: u64,
    sessions: Vec<SessionId>,
    /// What each connection was shown and has not settled.
    out: BTreeMap<SessionId, Vec<DeliveryId>>,
    published: u64,
    /// Settled for good: must never be shown again.
    accepted: BTreeSet<DeliveryId>,
    /// Delivered, of messages that a restart forgets, and with them their numbers: others get those.
    passing: BTreeSet<DeliveryId>,
    admin: SessionId,
}

impl Play {
    fn new(config: Config) -> Self {
        let mut play = Self {
            rig: Rig::with(config),
            next_session: 100,
            sessions: Vec::new(),
            out: BTreeMap::new(),
            published: 0,
            accepted: BTreeSet::new(),
            passing: BTreeSet::new(),
            admin: SessionId(0),
        };
        play.admin = play.attach();
        let admin = play.admin;
        declare_queues(&mut play.rig, admin);
        play.sessions = (0..3).map(|_| play.attach()).collect();
        play
    }

    fn attach(&mut self) -> SessionId {
        self.next_session += 1;
        self.rig.attach(self.next_session)
    }

    fn collect(&mut self) {
        for (closed, _) in std::mem::take(&mut self.rig.closed) {
            if let Some(at) = self.sessions.iter().position(|session| *session == closed) {
                self.rig.detach(closed);
                self.out.remove(&closed);
                self.sessions[at] = self.attach();
            }
        }
        for session in self.sessions.clone() {
            for delivery in self.rig.deliveries(session) {
                let Some(id) = delivery.id else { continue };
                assert!(
                    !self.accepted.contains(&id),
                    "{id:?} was settled and comes back"
                );
                if !delivery.message.durable {
                    self.passing.insert(id);
                }
                let out = self.out.entry(session).or_default();
                out.retain(|known| *known != id);
                out.push(id);
            }
            if let Some(told) = self.rig.told.get_mut(&session) {
                told.clear();
            }
        }
    }

    fn body(&mut self) -> String {
        self.published += 1;
        self.published.to_string()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish {
                queue,
                durable,
                confirmed,
                ttl,
                delay,
                priority,
                group,
            } => {
                let mut message = to_queue(&format!("q{queue}"), &self.body());
                message.durable = *durable;
                message.qos = u8::from(*durable);
                message.expiry = (*ttl == 1).then(|| self.rig.now.plus_ms(20));
                message.delay_ms = if *delay == 1 { 15 } else { 0 };
                message.priority = Some(*priority);
                message.group = Some(format!("g{group}").into());
                if *confirmed {
                    self.rig.publish(self.admin, message);
                } else {
                    self.rig.publish_unconfirmed(self.admin, message);
                }
            }
            Step::Topic {
                topic,
                qos,
                retain,
                empty,
            } => {
                let text = if *empty { String::new() } else { self.body() };
                let mut message = to_topic(&format!("t/{topic}"), &text, *qos);
                message.retain = *retain;
                if *qos > 0 {
                    self.rig.publish(self.admin, message);
                } else {
                    self.rig.publish_unconfirmed(self.admin, message);
                }
            }
            Step::Consume {
                session,
                queue,
                window,
                settled,
            } => {
                let session = self.sessions[usize::from(*session)];
                let credit = if *settled {
                    Credit::Settled
                } else {
                    Credit::Window(u32::from(*window))
                };
                self.rig
                    .consume(session, u64::from(*queue), &format!("q{queue}"), credit);
            }
            Step::Cancel { session, queue } => {
                let session = self.sessions[usize::from(*session)];
                let token = self.rig.token();
                self.rig.command(
                    session,
                    Command::Cancel {
                        token,
                        lane: Lane(0),
                        consumer: ConsumerId(u64::from(*queue)),
                    },
                );
            }
            Step::Settle {
                session,
                nth,
                outcome,
            } => {
                let session = self.sessions[usize::from(*session)];
                let Some(out) = self.out.get_mut(&session).filter(|out| !out.is_empty()) else {
                    return;
                };
                let id = out[usize::from(*nth) % out.len()];
                let outcome = [
                    Outcome::Accept,
                    Outcome::Release,
                    Outcome::Reject,
                    Outcome::ReleaseAfterMs(10),
                    Outcome::Received,
                ][usize::from(*outcome)];
                if outcome != Outcome::Received {
                    out.retain(|known| *known != id);
                }
                let settled = self.rig.broker.counters().settled;
                self.rig.settle(session, &[id], outcome);
                // A lease that has lapsed settles nothing.
                let known = self.rig.broker.counters().settled > settled;
                if outcome == Outcome::Accept && known {
                    self.accepted.insert(id);
                }
            }
            Step::Pull { session, queue, ms } => {
                let session = self.sessions[usize::from(*session)];
                let token = self.rig.token();
                let lease = if *ms < 20 {
                    Lease::Connection
                } else {
                    Lease::Ms(u64::from(*ms))
                };
                self.rig.command(
                    session,
                    Command::Pull(Pull {
                        token,
                        lane: Lane(0),
                        queue: format!("q{queue}").into(),
                        count: 2,
                        lease,
                        wait_ms: 0,
                        out_max: None,
                        bytes_max: None,
                        attempt: None,
                    }),
                );
                if let Event::Pulled { deliveries, .. } = self.rig.last_event(session) {
                    self.out
                        .entry(session)
                        .or_default()
                        .extend(ids(&deliveries));
                }
            }
            Step::Open {
                session,
                client,
                clean,
                durable,
                will,
            } => {
                let session = self.sessions[usize::from(*session)];
                let token = self.rig.token();
                let will = will.then(|| {
                    Box::new(Will {
                        message: Arc::new(to_topic("t/0", "will", 1)),
                        delay_ms: 30 * u64::from(*client),
                        ttl_ms: None,
                    })
                });
                self.rig.command(
                    session,
                    Command::OpenClient(Box::new(OpenClient {
                        token,
                        client_id: format!("c{client}").into(),
                        clean_start: *clean,
                        expiry: if *durable {
                            ClientExpiry::AfterMs(100)
                        } else {
                            ClientExpiry::WithConnection
                        },
                        window: 3,
                        message_len_max: None,
                        will,
                    })),
                );
            }
            Step::Subscribe {
                session,
                filter,
                qos,
            } => {
                let source = Source::Topic {
                    filter: message::Filter::Pattern(pattern(
                        ["t/+", "t/1", "#"][usize::from(*filter)],
                    )),
                };
                self.subscribe(*session, source, ConsumerId::CLIENT, *qos, false);
            }
            Step::Unsubscribe { session, filter } => {
                let session = self.sessions[usize::from(*session)];
                let token = self.rig.token();
                let source = Source::Topic {
                    filter: message::Filter::Pattern(pattern(
                        ["t/+", "t/1", "#"][usize::from(*filter)],
                    )),
                };
                self.rig
                    .command(session, Command::Unsubscribe { token, source });
            }
            Step::Through {
                session,
                queue,
                qos,
            } => {
                let source = Source::Queue {
                    name: format!("q{queue}").into(),
                    create: true,
                };
                self.subscribe(
                    *session,
                    source,
                    ConsumerId(50 + u64::from(*queue)),
                    *qos,
                    true,
                );
            }
            Step::Share {
                session,
                filter,
                qos,
            } => {
                let source = Source::Shared {
                    group: "g".into(),
                    filter: message::Filter::Pattern(pattern(
                        ["t/+", "t/1", "#"][usize::from(*filter)],
                    )),
                };
                self.subscribe(
                    *session,
                    source,
                    ConsumerId(70 + u64::from(*filter)),
                    *qos,
                    true,
                );
            }
            Step::Detach { session } => {
                let at = usize::from(*session);
                self.rig.detach(self.sessions[at]);
                self.out.remove(&self.sessions[at]);
                self.sessions[at] = self.attach();
            }
            Step::Tick { ms } => self.rig.tick(u64::from(*ms)),
            Step::Purge { queue } => {
                self.rig.declare(
                    self.admin,
                    Declare::Purge {
                        name: format!("q{queue}").into(),
                    },
                );
            }
            Step::Delete { queue } => {
                self.rig.declare(
                    self.admin,
                    Declare::DeleteQueue {
                        name: format!("q{queue}").into(),
                        if_unused: false,
                        if_empty: false,
                    },
                );
                declare_queues_again(&mut self.rig, self.admin);
            }
            Step::Transact {
                session,
                queue,
                count,
            } => {
                let session = self.sessions[usize::from(*session)];
                let mut operations: Vec<Operation> = (0..*count)
                    .map(|_| {
                        Operation::Publish(Publish {
                            token: None,
                            lane: Lane(0),
                            message: Arc::new(to_queue(&format!("q{queue}"), &self.body())),
                            mandatory: false,
                            create: true,
                            inbound_id: None,
                            or_stream: false,
                            hash_key: None,
                            folds: false,
                        })
                    })
                    .collect();
                if let Some(id) = self.out.get(&session).and_then(|out| out.first().copied()) {
                    operations.push(Operation::Settle(Settle {
                        token: None,
                        lane: Lane(0),
                        deliveries: DeliveryRange {
                            queue: id.queue,
                            ranges: smallvec::smallvec![(id.qseq, id.qseq)],
                        },
                        outcome: Outcome::Reject,
                    }));
                }
                let token = self.rig.token();
                self.rig.command(
                    session,
                    Command::Transact(Box::new(Transact {
                        token,
                        lane: Lane(0),
                        operations,
                    })),
                );
            }
            Step::Restart => {
                self.rig.restart();
                self.out.clear();
                // Numbers of soft queues and soft messages are given again.
                let passing = std::mem::take(&mut self.passing);
                self.accepted
                    .retain(|id| id.queue.0 >> 63 == 0 && !passing.contains(id));
                self.admin = self.attach();
                declare_queues_again(&mut self.rig, self.admin);
                self.sessions = (0..3).map(|_| self.attach()).collect();
            }
        }
        self.collect();
    }

    fn subscribe(
        &mut self,
        session: u8,
        source: Source,
        consumer: ConsumerId,
        qos: u8,
        through_client: bool,
    ) {
        let session = self.sessions[usize::from(session)];
        let token = self.rig.token();
        self.rig.command(
            session,
            Command::Subscribe(Box::new(Subscribe {
                token,
                lane: Lane(0),
                consumer,
                source,
                credit: Credit::Window(0),
                group: 0,
                exclusive: false,
                priority: 0,
                through_client,
                options: SubscriptionOptions {
                    qos,
                    ..SubscriptionOptions::default()
                },
            })),
        );
    }
}

fn declare_queues_again(rig: &mut Rig, from: SessionId) {
    for n in 0..6 {
        let options = QueueOptions {
            durable: n < 5,
            ..QueueOptions::default()
        };
        rig.queue(from, &format!("q{n}"), options);
        rig.bind(from, "amq.topic", &format!("q{n}"), "t/0");
    }
}

fn gauges(broker: &Broker) -> [u64; 5] {
    let counters = broker.counters();
    [
        counters.queues,
        counters.exchanges,
        counters.clients,
        counters.retained,
        counters.messages_ready + counters.messages_unacked,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn replayed_state_equals_live_state(steps in steps(), recent in any::<bool>()) {
        let config = Config { recent_bytes_max: if recent { 1 << 20 } else { 0 }, ..Config::default() };
        let mut play = Play::new(config);
        for step in &steps {
            play.step(step);
            play.rig.check_replay();
        }
        // From a snapshot in the middle, and on: the same.
        let replayed = play.rig.replayed();
        let again = Broker::decode_snapshot(Config::default(), &mut &play.rig.snapshot()[..]).expect("a snapshot");
        prop_assert_eq!(gauges(&replayed), gauges(&again));
        let cut = play.rig.journal.len() / 2;
        let mut front = Broker::new(Config::default());
        Rig::replay(&mut front, &play.rig.journal[..cut]);
        let mut bytes = Vec::new();
        front.encode_snapshot(&mut bytes).expect("memory");
        let mut back = Broker::decode_snapshot(Config::default(), &mut &bytes[..]).expect("a snapshot");
        Rig::replay(&mut back, &play.rig.journal[cut..]);
        let mut ends = [Vec::new(), Vec::new()];
        back.encode_snapshot(&mut ends[0]).expect("memory");
        replayed.encode_snapshot(&mut ends[1]).expect("memory");
        prop_assert_eq!(&ends[0], &ends[1]);
        prop_assert_eq!(gauges(&replayed), gauges(&back));
        // Everything gone: nothing is referred to any more.
        for session in play.sessions.clone() {
            play.rig.detach(session);
        }
        play.rig.tick(1000);
        for n in 0..6 {
            let name = format!("q{n}").into();
            play.rig.declare(play.admin, Declare::DeleteQueue { name, if_unused: false, if_empty: false });
        }
        let retained = play.rig.broker.counters().retained;
        prop_assert_eq!(play.rig.refs.len() as u64, retained);
        prop_assert_eq!(play.rig.broker.counters().transient_bytes, 0);
        prop_assert_eq!(play.rig.broker.counters().messages_ready, 0);
        prop_assert_eq!(play.rig.broker.counters().messages_unacked, 0);
    }
}

/// A replay turns no timers: that of a delay which was over when a client session got the message is not due once more.
#[test]
fn what_was_delayed_and_is_with_a_client_session_stays_there_after_a_restart() {
    let mut play = Play::new(Config::default());
    for step in [
        Step::Open {
            session: 1,
            client: 0,
            clean: false,
            durable: true,
            will: false,
        },
        Step::Publish {
            queue: 4,
            durable: false,
            confirmed: true,
            ttl: 2,
            delay: 1,
            priority: 0,
            group: 0,
        },
        Step::Through {
            session: 1,
            queue: 4,
            qos: 2,
        },
        Step::Tick { ms: 15 },
        Step::Restart,
        Step::Tick { ms: 0 },
    ] {
        play.step(&step);
        play.rig.check_replay();
    }
    let counters = play.rig.broker.counters();
    assert_eq!((counters.messages_ready, counters.messages_unacked), (1, 1));
}
