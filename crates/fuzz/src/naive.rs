//! A core that keeps the contract and nothing else: it answers in order, well or badly, and delivers within the credit.
//!
//! What it demands of a session (crates/session): a delivery is settled at most once and only while it is out, and no token
//! is used for two questions that are open at the same time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use message::{Address, Levels, Message, Properties, Timestamp, Value, VhostId};
use session::{
    Command, ConsumerId, Credit, Delivery, DeliveryId, Event, Lane, Operation, Outcome,
    PublishOutcome, QueueId, Refusal, RefusalKind, Settle, Source, Token,
};

/// What a session has asked.
#[derive(Debug)]
enum Ask {
    Authenticate,
    Open(Bytes),
    Declare,
    /// And in which lane, if it may be answered together with others.
    Publish(Option<Lane>),
    Subscribe(ConsumerId, Credit),
    Cancel(ConsumerId),
    Unsubscribe,
    Settled,
    Pull(u32),
    Commit(Vec<Operation>),
    Fence,
    Stream,
}

#[derive(Debug)]
struct Consumer {
    credit: Credit,
    out: u32,
}

/// The core of one session.
#[derive(Default)]
pub(crate) struct Core {
    open: VecDeque<(Token, Ask)>,
    releases: VecDeque<u16>,
    consumers: BTreeMap<ConsumerId, Consumer>,
    out: BTreeMap<u64, ConsumerId>,
    qseq: u64,
    /// How many deliveries may be out to a client session.
    window: u32,
    closed: bool,
}

const QUEUE: QueueId = QueueId(1);

impl Core {
    /// Whether a question is open.
    pub(crate) fn is_asked(&self) -> bool {
        !self.open.is_empty() || !self.releases.is_empty()
    }

    /// Takes a command.
    pub(crate) fn take(&mut self, command: Command) {
        let (token, ask) = match command {
            Command::Authenticate(it) => (it.token, Ask::Authenticate),
            Command::OpenClient(it) => {
                self.window = u32::from(it.window).min(64);
                (it.token, Ask::Open(it.client_id))
            }
            Command::Declare { token, .. } => (token, Ask::Declare),
            Command::Publish(it) => match it.token {
                Some(token) => {
                    let folds = it.folds && it.inbound_id.is_none() && !it.message.retain;
                    (token, Ask::Publish(folds.then_some(it.lane)))
                }
                None => return,
            },
            Command::ReleaseInbound { id } => return self.releases.push_back(id),
            Command::Subscribe(it) => {
                if let Source::Topic { .. } | Source::Shared { .. } = it.source
                    && it.consumer == ConsumerId::CLIENT
                {
                    self.consumers.entry(it.consumer).or_insert(Consumer {
                        credit: Credit::Window(self.window),
                        out: 0,
                    });
                }
                (it.token, Ask::Subscribe(it.consumer, it.credit))
            }
            Command::Cancel {
                token, consumer, ..
            } => (token, Ask::Cancel(consumer)),
            Command::Unsubscribe { token, .. } => (token, Ask::Unsubscribe),
            Command::Credit { consumer, credit } => {
                if let Some(it) = self.consumers.get_mut(&consumer) {
                    it.credit = credit;
                }
                return;
            }
            Command::Settle(it) => {
                self.settle(&it);
                match it.token {
                    Some(token) => (token, Ask::Settled),
                    None => return,
                }
            }
            Command::Pull(it) => (it.token, Ask::Pull(it.count)),
            Command::Transact(it) => (it.token, Ask::Commit(it.operations)),
            Command::Fence { token, .. } => (token, Ask::Fence),
            Command::Stream { token, .. } => (token, Ask::Stream),
            // Doors that manage queues, not those of messages.
            Command::Inspect { .. }
            | Command::List { .. }
            | Command::MoveTask { .. }
            | Command::ReadStream(_)
            | Command::CancelRead { .. }
            | Command::Group { .. }
            | Command::Topic { .. }
            | Command::Subscription { .. }
            | Command::ListSubscriptions(_)
            | Command::PublishAll(_)
            | Command::UseReceipts(_) => {
                panic!("no session of messages asks for that")
            }
            Command::CloseClient { .. } => {
                self.closed = true;
                return;
            }
            Command::UseReceipt(it) => (it.token, Ask::Settled),
            Command::CancelPull { .. }
            | Command::GroupWindow { .. }
            | Command::GroupFlow { .. } => {
                return;
            }
        };
        // A client that uses a packet id twice gets two answers: tokens are echoed, and mean nothing to the core.
        self.open.push_back((token, ask));
    }

    fn settle(&mut self, settle: &Settle) {
        assert_eq!(settle.deliveries.queue, QUEUE);
        for (first, last) in &settle.deliveries.ranges {
            for qseq in *first..=*last {
                let consumer = if settle.outcome == Outcome::Received {
                    assert!(self.out.contains_key(&qseq), "{qseq} is not out");
                    continue;
                } else {
                    self.out.remove(&qseq)
                };
                let Some(consumer) = consumer else {
                    panic!("{qseq} is settled and not out: {settle:?}");
                };
                if let Some(consumer) = self.consumers.get_mut(&consumer) {
                    consumer.out -= 1;
                }
            }
        }
    }

    /// Answers the oldest question.
    pub(crate) fn answer(&mut self, how: u8) -> Option<Event> {
        let well = !how.is_multiple_of(4);
        let refusal = || {
            let kinds = [
                RefusalKind::NotFound,
                RefusalKind::QuotaExceeded,
                RefusalKind::QueueFull,
            ];
            Refusal::new(kinds[usize::from(how / 4) % kinds.len()], "no")
        };
        if let Some(id) = self.releases.pop_front() {
            return Some(Event::InboundReleased { id, known: well });
        }
        let (token, ask) = self.open.pop_front()?;
        if let (Ask::Cancel(consumer), _) = (&ask, ()) {
            self.consumers.remove(consumer);
        }
        Some(match ask {
            // It came together with those behind it.
            Ask::Publish(Some(lane)) if how % 4 == 3 && how & 64 != 0 => {
                let mut tokens = vec![token];
                while let Some((token, Ask::Publish(Some(next)))) = self.open.front()
                    && *next == lane
                {
                    tokens.push(*token);
                    self.open.pop_front();
                }
                Event::Accepted { tokens }
            }
            Ask::Publish(_) => Event::Published {
                token,
                outcome: match how % 4 {
                    0 => PublishOutcome::Refused(refusal()),
                    1 => PublishOutcome::Duplicate { of: None },
                    matched => PublishOutcome::Accepted {
                        place: None,
                        matched: u32::from(matched == 3),
                        record: None,
                        sequence: None,
                    },
                },
            },
            _ if !well => Event::Refused {
                token,
                refusal: refusal(),
            },
            Ask::Authenticate => Event::Authenticated {
                token,
                vhost: VhostId::ROOT,
                vhost_name: "/".into(),
                user: "guest".into(),
                secret: session::Secret([0; 32]),
            },
            Ask::Open(client_id) => Event::Opened {
                token,
                client_id,
                present: false,
            },
            Ask::Declare => Event::Declared {
                token,
                name: Bytes::from_static(b"q"),
                messages: 3,
                consumers: 1,
            },
            Ask::Subscribe(consumer, credit) => {
                let it = Consumer { credit, out: 0 };
                self.consumers.entry(consumer).or_insert(it);
                Event::Subscribed { token }
            }
            Ask::Cancel(_) | Ask::Unsubscribe => Event::Unsubscribed {
                token,
                existed: true,
            },
            Ask::Settled => Event::Settled { token, known: 1 },
            Ask::Pull(count) => {
                let pulled = count.min(u32::from(how % 3));
                Event::Pulled {
                    token,
                    deliveries: (0..pulled)
                        .map(|_| self.message(ConsumerId(0), how))
                        .collect(),
                    epoch: 1,
                    remaining: 7,
                }
            }
            Ask::Commit(operations) => {
                for operation in &operations {
                    if let Operation::Settle(settle) = operation {
                        self.settle(settle);
                    }
                }
                Event::Committed {
                    token,
                    returned: Vec::new(),
                }
            }
            Ask::Fence => Event::Reached { token },
            // It has no streams.
            Ask::Stream => Event::Refused {
                token,
                refusal: refusal(),
            },
        })
    }

    /// A delivery to one of the consumers that has credit.
    pub(crate) fn deliver(&mut self, which: u8, how: u8) -> Option<Event> {
        if self.closed {
            return None;
        }
        let ready: Vec<ConsumerId> = self
            .consumers
            .iter()
            .filter(|(_, it)| match it.credit {
                Credit::Window(0) | Credit::Settled => true,
                Credit::Window(credit) => it.out < credit,
                Credit::Exactly(more) => more > 0,
            })
            .map(|(id, _)| *id)
            .collect();
        let consumer = *ready.get(usize::from(which) % ready.len().max(1))?;
        if self.out.len() >= 10_000 {
            return None;
        }
        let mut delivery = self.message(consumer, how);
        let it = self
            .consumers
            .get_mut(&consumer)
            .expect("it was found there");
        if it.credit == Credit::Settled || (consumer == ConsumerId::CLIENT && delivery.qos == 0) {
            let id = delivery.id.take().expect("it was just made");
            self.out.remove(&id.qseq);
        } else {
            it.out += 1;
            if let Credit::Exactly(more) = &mut it.credit {
                *more -= 1;
            }
        }
        Some(Event::Delivery(Arc::new(delivery)))
    }

    /// The core takes a consumer away, as when its queue is deleted.
    pub(crate) fn cancel(&mut self, which: u8) -> Option<Event> {
        let ids: BTreeSet<ConsumerId> = self.consumers.keys().copied().collect();
        let consumer = *ids.iter().nth(usize::from(which) % ids.len().max(1))?;
        if consumer == ConsumerId::CLIENT {
            return None;
        }
        self.consumers.remove(&consumer);
        Some(Event::Cancelled {
            consumer,
            revoked: false,
        })
    }

    fn message(&mut self, consumer: ConsumerId, how: u8) -> Delivery {
        self.qseq += 1;
        self.out.insert(self.qseq, consumer);
        let topic = Levels::collect([&b"some"[..], b"to.pic"]).expect("short");
        let address = match how % 3 {
            0 => Address::topic(VhostId::ROOT, topic),
            1 => Address::queue(VhostId::ROOT, "q"),
            _ => Address::exchange(VhostId::ROOT, "e", topic),
        };
        let body = Bytes::from(vec![how; usize::from(how) * 9]);
        let mut message = Message::new(address, body);
        if how & 8 != 0 {
            let mut properties = Properties::default();
            properties.push("a:b", Value::text("line\nline"));
            properties.push("content-length", Value::text("5"));
            properties.push("\u{e9}", Value::Bytes(Bytes::from_static(b"\xff\0")));
            message.properties = properties;
        }
        message.durable = how & 16 != 0;
        Delivery {
            consumer,
            id: Some(DeliveryId {
                queue: QUEUE,
                qseq: self.qseq,
            }),
            message: Arc::new(message),
            count: 1,
            redelivered: how & 32 != 0,
            resent: how & 32 != 0,
            qos: how % 3,
            retain: how & 64 != 0,
            subscriptions: [].into_iter().collect(),
            enqueued: Timestamp(900_000),
            deaths: None,
            readdressed: None,
            first_delivered: None,
            via: None,
            first: None,
            record: None,
        }
    }
}
