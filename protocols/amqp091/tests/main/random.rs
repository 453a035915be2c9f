//! Random frames of a logged-in peer and random answers of the core. The session must not panic, must keep its counters,
//! must write whole frames only, and must settle every delivery at most once.

use std::{collections::BTreeSet, sync::Arc};

use amqp091::{AmqpSession, Config, codec};
use bytes::{Buf, Bytes, BytesMut};
use message::{Address, Message, Timestamp, VhostId};
use proptest::prelude::*;
use session::{
    Command, ConsumerId, Delivery, DeliveryId, Event, Operation, Output, PublishOutcome, QueueId,
    Refusal, RefusalKind, Session, Settle, Token,
};
use smallvec::SmallVec;

use crate::script;

/// What the core may do next.
#[derive(Clone, Debug)]
enum Act {
    /// The peer sends one of [`LINES`] on channel 1 or 2.
    Send(usize, u16),
    /// The oldest or another open token is answered, well or not.
    Answer(usize, bool),
    /// A delivery to one of the consumers, also to those that are gone.
    Deliver(usize),
    Flush,
    Pass(u64),
}

/// So many of them end the connection, at least when they come twice.
const HARMFUL: usize = 4;

const LINES: [&str; 35] = [
    "channel.open",
    "body ab",
    "basic.qos size=1",
    "basic.consume queue=q tag=c",
    "channel.close",
    "channel.close-ok",
    "channel.close-ok",
    "channel.flow active",
    "queue.declare queue=q",
    "queue.declare",
    "queue.delete queue=q",
    "queue.bind queue=q exchange=amq.topic key=#",
    "queue.bind queue=q exchange=h @x-match=all",
    "exchange.declare exchange=e type=topic",
    "basic.qos count=3",
    "basic.qos count=3 global",
    "basic.consume queue=q",
    "basic.consume queue=amq.rabbitmq.reply-to no_ack",
    "basic.cancel tag=c",
    "basic.get queue=q",
    "basic.ack tag=1",
    "basic.ack tag=1",
    "basic.ack tag=2",
    "basic.ack tag=3",
    "basic.ack tag=2 multiple",
    "basic.ack tag=0 multiple",
    "basic.nack tag=2 multiple requeue",
    "basic.reject tag=3",
    "basic.recover requeue",
    "basic.publish key=q",
    "basic.publish exchange=e key=q",
    "confirm.select",
    "tx.select",
    "tx.commit",
    "tx.rollback",
];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => (HARMFUL..LINES.len(), 1u16..3).prop_map(|(line, channel)| Act::Send(line, channel)),
        1 => (0..LINES.len(), 1u16..3).prop_map(|(line, channel)| Act::Send(line, channel)),
        8 => (0usize..2, any::<bool>()).prop_map(|(at, well)| Act::Answer(at, well)),
        6 => (0usize..4).prop_map(Act::Deliver),
        1 => Just(Act::Flush),
        1 => (0u64..40_000).prop_map(Act::Pass),
    ]
}

struct Core {
    session: AmqpSession,
    out: Output,
    wire: BytesMut,
    now: Timestamp,
    open: Vec<(Token, Ask)>,
    consumers: Vec<ConsumerId>,
    next: u64,
    out_there: BTreeSet<u64>,
    commits: Vec<(Token, Vec<Operation>)>,
    over: bool,
}

/// How a token is answered.
#[derive(Clone, Copy)]
enum Ask {
    Authenticate,
    Declare,
    Subscribe,
    Cancel,
    Pull,
    Publish,
    Commit,
    Fence,
}

impl Core {
    fn feed(&mut self, line: &str) {
        if self.over {
            return;
        }
        let mut input = script::bytes(line);
        self.over |= self
            .session
            .handle_bytes(&mut input, self.now, &mut self.out)
            .is_err();
        self.collect();
    }

    fn tell(&mut self, event: Event) {
        if !self.over {
            self.over |= self
                .session
                .handle_event(event, self.now, &mut self.out)
                .is_err();
            self.collect();
        }
    }

    fn settle(&mut self, settle: &Settle) {
        for (first, last) in &settle.deliveries.ranges {
            for qseq in *first..=*last {
                assert!(
                    self.out_there.remove(&qseq),
                    "{qseq} was out, and once only"
                );
            }
        }
    }

    fn collect(&mut self) {
        let bytes = self.out.wire.copy_to_bytes(self.out.wire.remaining());
        self.wire.extend_from_slice(&bytes);
        while codec::decode(&mut self.wire, 4096)
            .expect("our frames are right and within the limit")
            .is_some()
        {}
        assert!(self.wire.is_empty(), "only whole frames leave");
        let commands: Vec<Command> = self.out.commands.drain(..).collect();
        for command in commands {
            let ask = match command {
                Command::Authenticate(ask) => (ask.token, Ask::Authenticate),
                Command::Declare { token, .. } => (token, Ask::Declare),
                Command::Subscribe(subscribe) => {
                    self.consumers.push(subscribe.consumer);
                    (subscribe.token, Ask::Subscribe)
                }
                Command::Cancel { token, .. } => (token, Ask::Cancel),
                Command::Pull(pull) => (pull.token, Ask::Pull),
                Command::Fence { token, .. } => (token, Ask::Fence),
                Command::Publish(publish) => match publish.token {
                    Some(token) => (token, Ask::Publish),
                    None => continue,
                },
                Command::Transact(transact) => {
                    let token = transact.token;
                    self.commits.push((token, transact.operations));
                    (token, Ask::Commit)
                }
                Command::Settle(settle) => {
                    self.settle(&settle);
                    continue;
                }
                _ => continue,
            };
            self.open.push(ask);
        }
    }

    fn delivery(&mut self, consumer: ConsumerId) -> Delivery {
        self.next += 1;
        self.out_there.insert(self.next);
        Delivery {
            consumer,
            id: Some(DeliveryId {
                queue: QueueId(1),
                qseq: self.next,
            }),
            message: Arc::new(Message::new(
                Address::queue(VhostId::ROOT, "q"),
                Bytes::from_static(b"body"),
            )),
            count: 1,
            redelivered: false,
            resent: false,
            qos: 1,
            retain: false,
            subscriptions: SmallVec::new(),
            enqueued: self.now,
            deaths: None,
            readdressed: None,
            first_delivered: None,
            via: None,
            first: None,
            record: None,
        }
    }

    fn answer(&mut self, at: usize, well: bool) {
        if self.open.is_empty() {
            return;
        }
        let (token, ask) = self.open.remove(at % self.open.len());
        if let Some(commit) = self.commits.iter().position(|(of, _)| *of == token) {
            // A refused commit has settled nothing.
            for operation in self.commits.remove(commit).1 {
                if let (Operation::Settle(settle), true) = (operation, well) {
                    self.settle(&settle);
                }
            }
        }
        let refusal = Refusal::new(RefusalKind::NotFound, "no queue");
        let event = match ask {
            Ask::Fence => Event::Reached { token },
            Ask::Publish if well => Event::Published {
                token,
                outcome: PublishOutcome::Accepted {
                    matched: 1,
                    place: None,
                    record: None,
                    sequence: None,
                },
            },
            Ask::Publish => Event::Published {
                token,
                outcome: PublishOutcome::Refused(Refusal::new(RefusalKind::QueueFull, "full")),
            },
            _ if !well => Event::Refused { token, refusal },
            Ask::Authenticate => Event::Authenticated {
                token,
                vhost: VhostId::ROOT,
                vhost_name: Arc::from("/"),
                user: Arc::from("guest"),
                secret: session::Secret([0; 32]),
            },
            Ask::Declare => Event::Declared {
                token,
                name: Bytes::from_static(b"q"),
                messages: 0,
                consumers: 0,
            },
            Ask::Subscribe => Event::Subscribed { token },
            Ask::Cancel => Event::Unsubscribed {
                token,
                existed: true,
            },
            Ask::Pull => {
                let delivery = self.delivery(ConsumerId(0));
                Event::Pulled {
                    token,
                    deliveries: vec![delivery],
                    epoch: 1,
                    remaining: 0,
                }
            }
            Ask::Commit => Event::Committed {
                token,
                returned: Vec::new(),
            },
        };
        self.tell(event);
    }
}

fn logged_in() -> Core {
    let mut core = Core {
        session: AmqpSession::new(Config::default()),
        out: Output::default(),
        wire: BytesMut::new(),
        now: Timestamp(1_000_000),
        open: Vec::new(),
        consumers: Vec::new(),
        next: 0,
        out_there: BTreeSet::new(),
        commits: Vec::new(),
        over: false,
    };
    core.feed("header");
    core.feed("0 connection.start-ok mechanism=PLAIN response=\\0guest\\0guest");
    core.answer(0, true);
    core.feed("0 connection.tune-ok frame_max=4096 heartbeat=60");
    core.feed("0 connection.open vhost=/");
    for channel in [1, 2] {
        core.feed(&format!("{channel} channel.open"));
        core.feed(&format!("{channel} basic.consume queue=q tag=first"));
        core.answer(0, true);
    }
    assert!(!core.over);
    core
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_session_survives_any_conversation(acts in prop::collection::vec(act(), 1..80)) {
        let mut core = logged_in();
        for act in acts {
            match act {
                Act::Send(line, channel) => {
                    core.feed(&format!("{channel} {}", LINES[line]));
                    if LINES[line].starts_with("basic.publish") {
                        core.feed(&format!("{channel} header 3"));
                        core.feed(&format!("{channel} body abc"));
                    }
                }
                Act::Answer(at, well) => core.answer(at, well),
                Act::Deliver(at) => {
                    if let Some(consumer) = core.consumers.get(at).copied() {
                        let delivery = core.delivery(consumer);
                        core.tell(Event::Delivery(Arc::new(delivery)));
                    }
                }
                Act::Flush => core.session.flush(core.now, &mut core.out),
                Act::Pass(ms) => {
                    core.now = core.now.plus_ms(ms);
                    if !core.over && core.session.poll_timeout().is_some_and(|due| due <= core.now) {
                        core.over |= core
                            .session
                            .handle_timeout(core.now, &mut core.out)
                            .is_err();
                    }
                }
            }
            core.collect();
        }
        // However it went: once everything is answered and the peer has closed, nothing is held up.
        for _ in 0..200 {
            core.answer(0, true);
        }
        prop_assert!(core.over || core.session.wants_bytes());
    }
}
