//! What the steps of a history come to: commands, once it is known what their small numbers stand for.

use bytes::Bytes;
use message::{HeaderMatch, Levels, Properties, Timestamp, Value};
use session::{
    BindTarget, Binding, ClientExpiry, Command, ConsumerId, Credit, Declare, DeliveryId,
    DeliveryRange, Event, ExchangeKind, Lane, Lease, OpenClient, Operation, Outcome, Publish,
    RetainReplay, SessionId, Settle, Source, Subscribe, Token, Transact, Will,
};
use smallvec::SmallVec;

use super::{
    MessageWith, Node, build,
    history::{SLOTS, Sent, Step, options, queue_name},
};

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
            Event::Cancelled { consumer, .. } => {
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
        // What the receiver owns is settled by itself.
        let owned = slot.unsettled.iter().any(|(other, _, owned)| {
            *owned && other.queue == id.queue && (first..=id.qseq).contains(&other.qseq)
        });
        let first = if owned { id.qseq } else { first };
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
        if sent.group > 0 {
            message.group = Some(Bytes::copy_from_slice(&[b'g', sent.group]));
        }
        if sent.dedup > 0 && sent.dedup < 6 {
            message.fields_mut().dedup_id = Some(Bytes::copy_from_slice(&[b'd', sent.dedup]));
        }
        if sent.copies > 0 && sent.to < 12 {
            message.fields_mut().carbon_copies = vec![if sent.to < 6 {
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
