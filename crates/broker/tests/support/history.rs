//! Random histories: steps that mean something whatever was left out before them, and their translation into commands.
//!
//! A step names things by small numbers (the second connection, its third unsettled delivery); [`Play`] knows what these
//! stand for at the moment, so a history can be cut down step by step and still be played.

use bytes::Bytes;
use message::{HeaderMatch, Levels, Message, Properties, Timestamp, Value};
use session::{
    BindTarget, Binding, ClientExpiry, Command, ConsumerId, Credit, DeadLetter, Declare,
    DeliveryId, DeliveryRange, Event, ExchangeKind, Fifo, Lane, Lease, OpenClient, Operation,
    Outcome, Overflow, Publish, QueueOptions, Redrive, RetainReplay, SessionId, Settle, Source,
    Subscribe, Token, Transact, Will,
};
use smallvec::SmallVec;

use super::{MessageWith, Node, Random, build};

/// Connections at a time.
const SLOTS: u8 = 4;

/// A publish, in small numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// Which queue, exchange or topic.
    pub(crate) to: u8,
    pub(crate) key: u8,
    pub(crate) confirm: bool,
    pub(crate) qos: u8,
    pub(crate) mandatory: bool,
    pub(crate) priority: u8,
    pub(crate) ttl_ms: u64,
    pub(crate) delay_ms: u64,
    pub(crate) group: u8,
    pub(crate) dedup: u8,
    pub(crate) len: u8,
    pub(crate) copies: u8,
    pub(crate) retain: bool,
    pub(crate) inbound: u8,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Attach(u8),
    Detach(u8),
    Declare {
        by: u8,
        queue: u8,
        sort: u8,
    },
    Delete {
        by: u8,
        queue: u8,
        unused: bool,
        empty: bool,
    },
    Purge {
        by: u8,
        queue: u8,
    },
    Look {
        by: u8,
        queue: u8,
    },
    Exchange {
        by: u8,
        exchange: u8,
        sort: u8,
    },
    DeleteExchange {
        by: u8,
        exchange: u8,
        unused: bool,
    },
    Bind {
        by: u8,
        exchange: u8,
        target: u8,
        key: u8,
    },
    Unbind {
        by: u8,
        exchange: u8,
        target: u8,
        key: u8,
    },
    Publish {
        by: u8,
        sent: Sent,
    },
    Consume {
        by: u8,
        consumer: u8,
        queue: u8,
        credit: u8,
        priority: u8,
        group: u8,
        exclusive: bool,
    },
    Cancel {
        by: u8,
        consumer: u8,
    },
    Credit {
        by: u8,
        consumer: u8,
        credit: u8,
    },
    Window {
        by: u8,
        group: u8,
        window: u8,
    },
    Flow {
        by: u8,
        group: u8,
        active: bool,
    },
    Settle {
        by: u8,
        nth: u8,
        outcome: u8,
        upto: bool,
        answered: bool,
    },
    Pull {
        by: u8,
        queue: u8,
        count: u8,
        lease: u8,
    },
    Transact {
        by: u8,
        sent: Vec<Sent>,
        settled: Vec<(u8, u8)>,
    },
    Open {
        by: u8,
        client: u8,
        clean: bool,
        expiry: u8,
        window: u8,
        will: u8,
    },
    Close {
        by: u8,
        will: bool,
        expiry: u8,
    },
    Topic {
        by: u8,
        filter: u8,
        qos: u8,
        flags: u8,
    },
    Through {
        by: u8,
        source: u8,
        qos: u8,
    },
    Unsubscribe {
        by: u8,
        source: u8,
    },
    Release {
        by: u8,
        id: u8,
    },
    Pass(u16),
    Restart {
        snapshot: bool,
    },
}

/// What a step comes to at the moment.
pub(crate) enum Action {
    Attach(u8),
    Detach(SessionId),
    Give(SessionId, Command),
    Pass(u64),
    Restart(bool),
}

/// What the small numbers stand for.
#[derive(Default)]
pub(crate) struct Play {
    slots: Vec<Slot>,
    next_message: u64,
    next_token: u64,
    next_consumer: u64,
}

#[derive(Default)]
struct Slot {
    session: Option<SessionId>,
    consumers: Vec<(u8, ConsumerId)>,
    unsettled: Vec<(DeliveryId, u8, bool)>,
}

/// Topics, keys of exchanges and filters that histories use.
const KEYS: [&str; 5] = ["a", "a.b", "a.b.c", "x.b", "$x.b"];
const FILTERS: [&str; 6] = ["a", "a.b", "#", "a.#", "*.b", "a.*"];
const EXCHANGES: [&str; 6] = [
    "direct",
    "fanout",
    "topic",
    "headers",
    "amq.topic",
    "amq.direct",
];

/// The queues of a history. The last is where dead letters go, the one before is made by whoever comes first.
pub(crate) const QUEUES: u8 = 6;

pub(crate) fn queue_name(number: u8) -> &'static str {
    ["q0", "q1", "q2", "q3", "made", "dead"][(number % QUEUES) as usize]
}

/// How many sorts of queue there are.
pub(crate) const SORTS: u8 = 24;

/// Times to live end in 1 and delays in 5, while commands come at full tens: nothing is due at the time of a command.
pub(crate) fn options(sort: u8) -> QueueOptions {
    let mut options = QueueOptions {
        durable: true,
        declaration: Some(Bytes::copy_from_slice(&[sort])),
        ..QueueOptions::default()
    };
    let at = &mut options.attributes;
    let dead = Some(DeadLetter {
        exchange: Bytes::new(),
        key: Some(build::key("dead")),
    });
    match sort {
        1 => options.durable = false,
        2 => at.priority_max = Some(3),
        3 => at.ttl_ms = Some(1001),
        4 => {
            at.length_max = Some(3);
            at.dead_letter = dead;
        }
        5 => {
            at.length_max = Some(3);
            at.overflow = Overflow::RejectPublish;
        }
        6 => at.bytes_max = Some(40),
        7 => {
            at.length_max = Some(2);
            at.overflow = Overflow::RejectPublishDeadLetter;
            at.dead_letter = dead;
        }
        8 => {
            at.deliveries_max = Some(2);
            at.dead_letter = dead;
        }
        9 => {
            at.deliveries_max = Some(3);
            at.redrive = Some(Redrive {
                target: build::name("dead"),
            });
            at.dead_letter = Some(DeadLetter {
                exchange: Bytes::new(),
                key: Some(build::key("q0")),
            });
        }
        10 => at.single_active_consumer = true,
        11 => {
            at.fifo = Some(Fifo {
                dedup_by_content: false,
                dedup_per_group: false,
            });
        }
        12 => at.deduplicate = true,
        13 => at.delay_ms = 205,
        14 => at.retention_ms = Some(2001),
        15 => options.exclusive = true,
        16 => options.auto_delete = true,
        17 => {
            at.ttl_ms = Some(801);
            at.dead_letter = dead;
        }
        18 => {
            // Round and round, but for the cut of cycles.
            at.ttl_ms = Some(601);
            at.dead_letter = Some(DeadLetter {
                exchange: Bytes::new(),
                key: None,
            });
        }
        19 => {
            at.fifo = Some(Fifo {
                dedup_by_content: false,
                dedup_per_group: true,
            });
            at.deliveries_max = Some(2);
            at.dead_letter = dead;
        }
        20 => at.message_len_max = Some(12),
        21 => {
            at.priority_max = Some(2);
            at.length_max = Some(4);
        }
        22 => {
            at.dead_letter = Some(DeadLetter {
                exchange: build::name("topic"),
                key: None,
            });
            options.durable = false;
        }
        23 => {
            at.length_max = Some(2);
            at.dead_letter = Some(DeadLetter {
                exchange: Bytes::new(),
                key: None,
            });
        }
        _ => {}
    }
    options
}

/// What a history is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Queues, consumers, settlements, attributes.
    Queues,
    /// Exchanges and bindings too.
    Exchanges,
    /// Client sessions and topics.
    Clients,
    /// All of it.
    Everything,
}

/// A random history.
pub(crate) fn history(seed: u64, theme: Theme, len: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut steps = vec![
        Step::Attach(0),
        Step::Declare {
            by: 0,
            queue: 5,
            sort: random.pick(&[0, 0, 1, 2]),
        },
    ];
    // Most histories have few sorts of queue, so that each is met often.
    let sorts: Vec<u8> = (0..4)
        .map(|_| random.below(u64::from(SORTS)) as u8)
        .collect();
    for queue in 0..3 {
        steps.push(Step::Declare {
            by: 0,
            queue,
            sort: random.pick(&sorts),
        });
    }
    while steps.len() < len {
        steps.push(step(&mut random, theme, &sorts));
    }
    steps
}

fn step(random: &mut Random, theme: Theme, sorts: &[u8]) -> Step {
    let exchanges = matches!(theme, Theme::Exchanges | Theme::Everything);
    let clients = matches!(theme, Theme::Clients | Theme::Everything);
    let by = random.below(u64::from(SLOTS)) as u8;
    let queue = random.below(u64::from(QUEUES)) as u8;
    let consumer = random.below(3) as u8;
    if exchanges && random.one_in(4) {
        let exchange = random.below(6) as u8;
        let target = random.below(10) as u8;
        let key = random.below(6) as u8;
        return match random.below(8) {
            0 | 1 => Step::Exchange {
                by,
                exchange,
                sort: random.below(6) as u8,
            },
            2 => Step::DeleteExchange {
                by,
                exchange,
                unused: random.one_in(2),
            },
            3 => Step::Unbind {
                by,
                exchange,
                target,
                key,
            },
            _ => Step::Bind {
                by,
                exchange,
                target,
                key,
            },
        };
    }
    if clients && random.one_in(3) {
        return match random.below(12) {
            0..=3 => Step::Open {
                by,
                client: random.below(3) as u8,
                clean: random.one_in(4),
                expiry: random.below(4) as u8,
                window: random.pick(&[1, 2, 5, 200]),
                will: random.below(5) as u8,
            },
            4 => Step::Close {
                by,
                will: random.one_in(2),
                expiry: random.below(5) as u8,
            },
            5..=8 => Step::Topic {
                by,
                filter: random.below(6) as u8,
                qos: random.below(3) as u8,
                flags: random.below(64) as u8,
            },
            9 => Step::Through {
                by,
                source: random.below(6) as u8,
                qos: random.below(3) as u8,
            },
            10 => Step::Unsubscribe {
                by,
                source: random.below(12) as u8,
            },
            _ => Step::Release {
                by,
                id: random.below(3) as u8,
            },
        };
    }
    match random.below(40) {
        0 | 1 => Step::Attach(by),
        2 if random.one_in(2) => Step::Detach(by),
        2 | 3 => Step::Declare {
            by,
            queue: queue % 5,
            sort: random.pick(sorts),
        },
        4 if random.one_in(2) => Step::Delete {
            by,
            queue: queue % 5,
            unused: random.one_in(2),
            empty: random.one_in(2),
        },
        4 => Step::Purge { by, queue },
        5 => Step::Look { by, queue },
        6..=16 => Step::Publish {
            by,
            sent: sent(random, theme),
        },
        17..=20 => Step::Consume {
            by,
            consumer,
            queue,
            credit: random.below(7) as u8,
            priority: random.pick(&[0, 0, 0, 1, 2]),
            group: random.pick(&[0, 0, 1, 2]),
            exclusive: random.one_in(8),
        },
        21 => Step::Cancel { by, consumer },
        22 => Step::Credit {
            by,
            consumer,
            credit: random.below(7) as u8,
        },
        23 => Step::Window {
            by,
            group: random.below(3) as u8,
            window: random.below(4) as u8,
        },
        24 => Step::Flow {
            by,
            group: random.below(3) as u8,
            active: random.one_in(2),
        },
        25..=31 => Step::Settle {
            by,
            nth: random.below(6) as u8,
            outcome: random.below(10) as u8,
            upto: random.one_in(4),
            answered: random.one_in(2),
        },
        32 | 33 => Step::Pull {
            by,
            queue,
            count: random.pick(&[1, 1, 2, 5]),
            lease: random.below(3) as u8,
        },
        34 => Step::Transact {
            by,
            sent: (0..random.below(3)).map(|_| sent(random, theme)).collect(),
            settled: (0..random.below(3))
                .map(|nth| (nth as u8, random.below(5) as u8))
                .collect(),
        },
        35 if random.one_in(4) => Step::Restart {
            snapshot: random.one_in(2),
        },
        _ => Step::Pass(random.pick(&[10, 50, 200, 500, 1000, 3000])),
    }
}

fn sent(random: &mut Random, theme: Theme) -> Sent {
    let to = match theme {
        Theme::Queues => random.below(6),
        Theme::Exchanges => random.below(12),
        Theme::Clients => random.pick(&[0, 1, 5, 16, 16, 16, 16]),
        Theme::Everything => random.pick(&[0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 16, 16, 16]),
    };
    Sent {
        to: to as u8,
        key: random.below(5) as u8,
        confirm: random.one_in(2),
        qos: random.pick(&[0, 1, 1, 2]),
        mandatory: random.one_in(4),
        priority: random.below(5) as u8,
        ttl_ms: if random.one_in(6) {
            random.pick(&[101, 1001])
        } else {
            0
        },
        delay_ms: if random.one_in(8) { 305 } else { 0 },
        group: random.below(3) as u8,
        dedup: random.below(12) as u8,
        len: random.pick(&[0, 0, 0, 10, 30]),
        copies: if random.one_in(6) {
            1 + random.below(3) as u8
        } else {
            0
        },
        retain: theme != Theme::Queues && random.one_in(5),
        inbound: if random.one_in(3) {
            1 + random.below(3) as u8
        } else {
            0
        },
    }
}

impl Play {
    pub(crate) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            ..Self::default()
        }
    }

    /// What a step comes to. `None`: nothing, as things stand.
    pub(crate) fn action(&mut self, step: &Step, node: &Node) -> Option<Action> {
        Some(match step {
            Step::Attach(slot) => {
                if self.slots[(slot % SLOTS) as usize].session.is_some() {
                    return None;
                }
                Action::Attach(*slot)
            }
            Step::Detach(slot) => Action::Detach(self.session(*slot)?),
            Step::Pass(ms) => Action::Pass(u64::from(*ms)),
            Step::Restart { snapshot } => Action::Restart(*snapshot),
            other => match self.command(other, node.now) {
                Some((session, command)) => Action::Give(session, command),
                // Nobody is there to give it.
                None if self.slots.iter().all(|slot| slot.session.is_none()) => Action::Attach(0),
                None => return None,
            },
        })
    }

    /// The connection of that slot, or of the next one that has any.
    fn at(&self, by: u8) -> usize {
        (0..SLOTS)
            .map(|next| ((by + next) % SLOTS) as usize)
            .find(|at| self.slots[*at].session.is_some())
            .unwrap_or(0)
    }

    fn session(&self, by: u8) -> Option<SessionId> {
        self.slots[self.at(by)].session
    }

    /// A connection came.
    pub(crate) fn attached(&mut self, slot: u8, session: SessionId) {
        self.slots[(slot % SLOTS) as usize] = Slot {
            session: Some(session),
            ..Slot::default()
        };
    }

    /// A connection went.
    pub(crate) fn detached(&mut self, session: SessionId) {
        for slot in &mut self.slots {
            if slot.session == Some(session) {
                *slot = Slot::default();
            }
        }
    }

    /// All connections went.
    pub(crate) fn all_detached(&mut self) {
        for slot in &mut self.slots {
            *slot = Slot::default();
        }
    }

    /// What a connection was told: deliveries to settle later.
    pub(crate) fn hears(&mut self, session: SessionId, event: &Event) {
        let Some(slot) = self
            .slots
            .iter_mut()
            .find(|slot| slot.session == Some(session))
        else {
            return;
        };
        let deliveries: Vec<_> = match event {
            Event::Delivery(delivery) => vec![&**delivery],
            Event::Pulled { deliveries, .. } => deliveries.iter().collect(),
            Event::Resumed { received } => {
                for id in received {
                    slot.unsettled.retain(|(known, ..)| known != id);
                    slot.unsettled.push((*id, 2, true));
                }
                return;
            }
            Event::Cancelled { consumer } => {
                slot.consumers.retain(|(_, id)| id != consumer);
                return;
            }
            Event::Closing { .. } => {
                *slot = Slot::default();
                return;
            }
            _ => return,
        };
        for delivery in deliveries {
            if let Some(id) = delivery.id {
                slot.unsettled.retain(|(known, ..)| *known != id);
                // Only a client session comes to own what it was given.
                let plain = matches!(event, Event::Pulled { .. })
                    || slot
                        .consumers
                        .iter()
                        .any(|(_, id)| *id == delivery.consumer);
                let qos = if plain { 0 } else { delivery.qos };
                slot.unsettled.push((id, qos, false));
            }
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn consumer(&self, by: u8, consumer: u8) -> Option<ConsumerId> {
        self.slots[self.at(by)]
            .consumers
            .iter()
            .find(|(number, _)| *number == consumer)
            .map(|(_, id)| *id)
    }

    fn declare(&mut self, by: u8, declare: Declare) -> Option<(SessionId, Command)> {
        let session = self.session(by)?;
        let token = self.token();
        let lane = Lane(0);
        Some((
            session,
            Command::Declare {
                token,
                lane,
                declare,
            },
        ))
    }

    fn command(&mut self, step: &Step, now: Timestamp) -> Option<(SessionId, Command)> {
        match step {
            Step::Declare { by, queue, sort } => {
                if queue_name(*queue) == "made" {
                    return None;
                }
                let declare = Declare::Queue {
                    name: build::name(queue_name(*queue)),
                    passive: false,
                    options: Box::new(options(*sort)),
                };
                self.declare(*by, declare)
            }
            Step::Delete {
                by,
                queue,
                unused,
                empty,
            } => {
                let declare = Declare::DeleteQueue {
                    name: build::name(queue_name(*queue)),
                    if_unused: *unused,
                    if_empty: *empty,
                };
                self.declare(*by, declare)
            }
            Step::Purge { by, queue } => {
                let name = build::name(queue_name(*queue));
                self.declare(*by, Declare::Purge { name })
            }
            Step::Look { by, queue } => self.declare(*by, build::look(queue_name(*queue))),
            Step::Exchange { by, exchange, sort } => self.declare_exchange(*by, *exchange, *sort),
            Step::DeleteExchange {
                by,
                exchange,
                unused,
            } => {
                let declare = Declare::DeleteExchange {
                    name: build::name(exchange_name(*exchange)),
                    if_unused: *unused,
                };
                self.declare(*by, declare)
            }
            Step::Bind {
                by,
                exchange,
                target,
                key,
            } => {
                let binding = binding(*exchange, *target, *key);
                self.declare(*by, Declare::Bind(Box::new(binding)))
            }
            Step::Unbind {
                by,
                exchange,
                target,
                key,
            } => {
                let binding = binding(*exchange, *target, *key);
                self.declare(*by, Declare::Unbind(Box::new(binding)))
            }
            Step::Publish { by, sent } => {
                let session = self.session(*by)?;
                let publish = self.publish(sent, now);
                Some((session, Command::Publish(publish)))
            }
            Step::Consume { .. } => self.consume(step),
            Step::Cancel { by, consumer } => {
                let session = self.session(*by)?;
                let token = self.token();
                let id = self.consumer(*by, *consumer).unwrap_or(ConsumerId(999));
                let at = self.at(*by);
                self.slots[at]
                    .consumers
                    .retain(|(number, _)| number != consumer);
                Some((
                    session,
                    Command::Cancel {
                        token,
                        lane: Lane(0),
                        consumer: id,
                    },
                ))
            }
            Step::Credit {
                by,
                consumer,
                credit,
            } => Some((
                self.session(*by)?,
                Command::Credit {
                    consumer: self.consumer(*by, *consumer)?,
                    credit: self::credit(*credit),
                },
            )),
            Step::Window { by, group, window } => Some((
                self.session(*by)?,
                Command::GroupWindow {
                    group: u32::from(*group),
                    window: u32::from(*window),
                },
            )),
            Step::Flow { by, group, active } => Some((
                self.session(*by)?,
                Command::GroupFlow {
                    group: u32::from(*group),
                    active: *active,
                },
            )),
            Step::Settle {
                by,
                nth,
                outcome,
                upto,
                answered,
            } => {
                let session = self.session(*by)?;
                let token = answered.then(|| self.token());
                let mut settle = self.settle(*by, *nth, *outcome, *upto)?;
                settle.token = token;
                Some((session, Command::Settle(settle)))
            }
            Step::Pull {
                by,
                queue,
                count,
                lease,
            } => {
                let session = self.session(*by)?;
                let lease =
                    [Lease::Connection, Lease::Ms(405), Lease::Settled][*lease as usize % 3];
                let mut pull = build::pull(queue_name(*queue), u32::from(*count), lease);
                pull.token = self.token();
                Some((session, Command::Pull(pull)))
            }
            Step::Transact { by, sent, settled } => {
                let session = self.session(*by)?;
                let mut operations: Vec<Operation> = Vec::new();
                for sent in sent {
                    let mut publish = self.publish(sent, now);
                    publish.inbound_id = None;
                    publish.token = None;
                    operations.push(Operation::Publish(publish));
                }
                for (nth, outcome) in settled {
                    operations.extend(
                        self.settle(*by, *nth, *outcome, false)
                            .map(Operation::Settle),
                    );
                }
                let token = self.token();
                Some((
                    session,
                    Command::Transact(Box::new(Transact {
                        token,
                        lane: Lane(0),
                        operations,
                    })),
                ))
            }
            _ => self.client_command(step),
        }
    }

    fn client_command(&mut self, step: &Step) -> Option<(SessionId, Command)> {
        match step {
            Step::Open {
                by,
                client,
                clean,
                expiry,
                window,
                will,
            } => {
                let session = self.session(*by)?;
                self.next_message += 1;
                let mut message = build::to_topic("a.b", &format!("m{}", self.next_message));
                if *will == 2 {
                    message = message.retained();
                }
                let open = OpenClient {
                    token: self.token(),
                    client_id: build::name(["ann", "bob", "cid"][*client as usize % 3]),
                    clean_start: *clean,
                    expiry: self::expiry(*expiry),
                    window: u16::from(*window),
                    message_len_max: None,
                    will: (*will > 0 && *will < 4).then(|| {
                        Box::new(Will {
                            message: message.qos(will % 3).into(),
                            delay_ms: if *will == 3 { 351 } else { 0 },
                            ttl_ms: None,
                        })
                    }),
                };
                Some((session, Command::OpenClient(Box::new(open))))
            }
            Step::Close { by, will, expiry } => {
                let at = self.at(*by);
                let slot = &mut self.slots[at];
                slot.consumers.clear();
                slot.unsettled.clear();
                Some((
                    self.session(*by)?,
                    Command::CloseClient {
                        publish_will: *will,
                        expiry: (*expiry < 4).then(|| self::expiry(*expiry)),
                    },
                ))
            }
            Step::Topic {
                by,
                filter,
                qos,
                flags,
            } => {
                let session = self.session(*by)?;
                let mut subscribe = build::subscribe(FILTERS[*filter as usize % 6], *qos);
                subscribe.token = self.token();
                subscribe.options.no_local = flags & 1 != 0;
                subscribe.options.retain_as_published = flags & 2 != 0;
                subscribe.options.identifier = u32::from(flags >> 4);
                subscribe.options.retain_replay = match flags >> 2 & 3 {
                    0 => RetainReplay::Never,
                    1 => RetainReplay::IfNew,
                    _ => RetainReplay::Always,
                };
                Some((session, Command::Subscribe(Box::new(subscribe))))
            }
            Step::Through { by, source, qos } => {
                let session = self.session(*by)?;
                self.next_consumer += 1;
                let mut subscribe = Subscribe {
                    source: through(*source),
                    through_client: true,
                    token: self.token(),
                    ..build::consume(self.next_consumer, "")
                };
                subscribe.options.qos = *qos;
                Some((session, Command::Subscribe(Box::new(subscribe))))
            }
            Step::Unsubscribe { by, source } => {
                let session = self.session(*by)?;
                let token = self.token();
                let source = if *source < 6 {
                    Source::Topic {
                        filter: message::Filter::Pattern(build::pattern(FILTERS[*source as usize])),
                    }
                } else {
                    through(*source)
                };
                Some((session, Command::Unsubscribe { token, source }))
            }
            Step::Release { by, id } => Some((
                self.session(*by)?,
                Command::ReleaseInbound {
                    id: 1 + u16::from(*id),
                },
            )),
            _ => None,
        }
    }

    fn declare_exchange(&mut self, by: u8, exchange: u8, sort: u8) -> Option<(SessionId, Command)> {
        let kind = [
            ExchangeKind::Direct,
            ExchangeKind::Fanout,
            ExchangeKind::Topic,
            ExchangeKind::Headers,
        ][exchange as usize % 4];
        let declare = build::exchange_with(exchange_name(exchange % 4), kind, |options| {
            options.durable = sort != 1;
            options.auto_delete = sort == 2;
            options.internal = sort == 3;
            if sort >= 4 {
                options.alternate = Some(build::name(exchange_name(sort + exchange)));
            }
        });
        self.declare(by, declare)
    }

    fn consume(&mut self, step: &Step) -> Option<(SessionId, Command)> {
        let Step::Consume {
            by,
            consumer,
            queue,
            credit,
            priority,
            group,
            exclusive,
        } = step
        else {
            return None;
        };
        let session = self.session(*by)?;
        let id = self.consumer(*by, *consumer).unwrap_or_else(|| {
            self.next_consumer += 1;
            ConsumerId(self.next_consumer)
        });
        let mut subscribe = build::consume(id.0, queue_name(*queue));
        if let Source::Queue { create, .. } = &mut subscribe.source {
            *create = queue_name(*queue) == "made";
        }
        subscribe.token = self.token();
        subscribe.credit = self::credit(*credit);
        subscribe.priority = i32::from(*priority);
        subscribe.group = u32::from(*group);
        subscribe.exclusive = *exclusive;
        let at = self.at(*by);
        let consumers = &mut self.slots[at].consumers;
        consumers.retain(|(number, _)| number != consumer);
        consumers.push((*consumer, id));
        Some((session, Command::Subscribe(Box::new(subscribe))))
    }

    fn settle(&mut self, by: u8, nth: u8, outcome: u8, upto: bool) -> Option<Settle> {
        let at = self.at(by);
        let slot = &mut self.slots[at];
        if slot.unsettled.is_empty() {
            return None;
        }
        let at = nth as usize % slot.unsettled.len();
        let (id, qos, received) = slot.unsettled[at];
        let outcome = match outcome {
            0..=3 => Outcome::Accept,
            4 | 5 => Outcome::Release,
            6 | 7 => Outcome::Reject,
            8 => Outcome::ReleaseAfterMs(255),
            _ if qos == 2 => Outcome::Received,
            _ => Outcome::Accept,
        };
        // What the receiver owns is only ever done.
        let outcome = if received { Outcome::Accept } else { outcome };
        let first = if upto {
            slot.unsettled[..=at]
                .iter()
                .filter(|(other, ..)| other.queue == id.queue)
                .map(|(other, ..)| other.qseq)
                .min()
                .unwrap_or(id.qseq)
                .min(id.qseq)
        } else {
            id.qseq
        };
        let range = first..=id.qseq;
        if outcome == Outcome::Received {
            for known in &mut slot.unsettled {
                if known.0 == id {
                    known.2 = true;
                }
            }
        } else {
            slot.unsettled
                .retain(|(other, ..)| other.queue != id.queue || !range.contains(&other.qseq));
        }
        let range = if outcome == Outcome::Received {
            (id.qseq, id.qseq)
        } else {
            (first, id.qseq)
        };
        Some(Settle {
            token: None,
            lane: Lane(0),
            deliveries: DeliveryRange {
                queue: id.queue,
                ranges: SmallVec::from_slice(&[range]),
            },
            outcome,
        })
    }

    fn publish(&mut self, sent: &Sent, now: Timestamp) -> Publish {
        self.next_message += 1;
        let body = format!("m{}{}", self.next_message, ".".repeat(sent.len as usize));
        let key = KEYS[sent.key as usize % KEYS.len()];
        let mut message = match sent.to {
            0..6 => build::to_queue(queue_name(sent.to), &body),
            6..12 => build::to_exchange(exchange_name(sent.to), key, &body),
            _ => build::to_topic(key, &body),
        }
        .qos(sent.qos);
        if sent.retain {
            message.retain = true;
            if sent.len == 30 {
                message.body = Bytes::new();
            }
        }
        message.priority = Some(sent.priority);
        message.delay_ms = if sent.to < 12 { sent.delay_ms } else { 0 };
        if sent.ttl_ms > 0 {
            message.expiry = Some(now.plus_ms(sent.ttl_ms));
        }
        message
            .properties
            .push("h", Value::U32(u32::from(sent.key)));
        let fields = message.fields_mut();
        if sent.group > 0 {
            fields.group = Some(Bytes::copy_from_slice(&[b'g', sent.group]));
        }
        if sent.dedup > 0 && sent.dedup < 6 {
            fields.dedup_id = Some(Bytes::copy_from_slice(&[b'd', sent.dedup]));
        }
        if sent.copies > 0 && sent.to < 12 {
            fields.carbon_copies = vec![if sent.to < 6 {
                build::key(queue_name(sent.copies))
            } else {
                build::key(KEYS[sent.copies as usize])
            }];
        }
        let token = sent.confirm.then(|| self.token());
        Publish {
            token,
            mandatory: sent.mandatory,
            create: queue_name(sent.to) == "made" && sent.to < 6,
            inbound_id: (sent.inbound > 0 && sent.qos == 2 && sent.to >= 12)
                .then_some(u16::from(sent.inbound)),
            ..build::publish(message)
        }
    }
}

fn exchange_name(number: u8) -> &'static str {
    EXCHANGES[number as usize % EXCHANGES.len()]
}

fn through(source: u8) -> Source {
    match source % 6 {
        0..=2 => Source::Queue {
            name: build::name(queue_name(source % 3)),
            create: false,
        },
        3 => Source::Queue {
            name: build::name("made"),
            create: true,
        },
        4 => Source::Shared {
            group: build::name("g"),
            filter: message::Filter::Pattern(build::pattern("a.#")),
        },
        _ => Source::Shared {
            group: build::name("g"),
            filter: message::Filter::Pattern(build::pattern("a.b")),
        },
    }
}

/// A binding that suits the exchange, or nearly.
fn binding(exchange: u8, target: u8, key: u8) -> Binding {
    let target = if target < 6 {
        BindTarget::Queue(build::name(queue_name(target)))
    } else {
        BindTarget::Exchange(build::name(exchange_name(target - 6)))
    };
    let text = FILTERS[key as usize % FILTERS.len()];
    let mut binding = build::binding(exchange_name(exchange), target, text);
    if exchange_name(exchange) == "headers" {
        let mut arguments = Properties::default();
        arguments.push("h", Value::U32(u32::from(key % 3)));
        if key > 3 {
            arguments.push("other", Value::Bool(true));
        }
        binding.filter = message::Filter::Headers {
            matching: if key.is_multiple_of(2) {
                HeaderMatch::All
            } else {
                HeaderMatch::Any
            },
            arguments,
        };
        binding.key = Levels::none();
    }
    binding
}

fn credit(number: u8) -> Credit {
    match number {
        0 => Credit::Window(0),
        1 | 2 => Credit::Window(1),
        3 => Credit::Window(3),
        4 => Credit::Settled,
        5 => Credit::Exactly(2),
        _ => Credit::Exactly(0),
    }
}

fn expiry(number: u8) -> ClientExpiry {
    match number {
        0 => ClientExpiry::WithConnection,
        1 => ClientExpiry::AfterMs(701),
        2 => ClientExpiry::AfterMs(30_001),
        _ => ClientExpiry::Never,
    }
}

/// Plays a step on the core alone, without looking at what comes of it.
pub(crate) fn play_on(node: &mut Node, play: &mut Play, step: &Step) {
    match play.action(step, node) {
        None => return,
        Some(Action::Attach(slot)) => {
            let session = node.attach();
            play.attached(slot, session);
        }
        Some(Action::Detach(session)) => {
            node.detach(session);
            play.detached(session);
        }
        Some(Action::Give(session, command)) => node.give(session, command),
        Some(Action::Pass(ms)) => node.pass(ms),
        Some(Action::Restart(snapshot)) => {
            if snapshot {
                node.restart_from_snapshot();
            } else {
                node.restart();
            }
            play.all_detached();
        }
    }
    for heard in std::mem::take(&mut node.heard) {
        play.hears(heard.to, &heard.event);
    }
}
