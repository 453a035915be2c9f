//! A session between a random client and a naive core: whatever they do, the session keeps its side of the contract.
//!
//! - It never panics, and what it writes is packets that its client can read, none longer than the client takes.
//! - A delivery is settled at most once, and only while it is out to this session.
//! - A publish is acknowledged at most once, and only after the core has answered.
//!
//! And the copies that must not be made: bodies point into the read buffer, and go out from where they are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::{Buf, Bytes, BytesMut};
use message::{Address, Levels, Message, Timestamp, VhostId};
use mqtt::{
    Config, MqttSession,
    codec::{Connect, Decoder, Limits, Packet, Properties, Property, Text, Version},
};
use proptest::{collection::vec, prelude::*};
use session::{
    Command, ConsumerId, Delivery, DeliveryId, Event, Outcome, Output, PublishOutcome, QueueId,
    Refusal, RefusalKind, Session, Token,
};

use crate::properties::packet;

#[derive(Clone, Debug)]
enum Deed {
    /// The client sends a packet.
    Send(Packet),
    /// The client acknowledges, in the right way or not: which kind, which of its deliveries.
    Acknowledge(u8, u8),
    /// The core answers the oldest question, well or badly.
    Answer(u8),
    /// The core delivers.
    Deliver(u8, u16),
    /// Bytes that mean nothing.
    Noise(Vec<u8>),
    /// Time passes, in ms.
    Wait(u16),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => packet().prop_map(Deed::Send),
        6 => (0u8..5, any::<u8>()).prop_map(|(kind, which)| Deed::Acknowledge(kind, which)),
        8 => any::<u8>().prop_map(Deed::Answer),
        8 => (0u8..3, 1u16..40_000).prop_map(|(qos, step)| Deed::Deliver(qos, step)),
        1 => vec(any::<u8>(), 1..4).prop_map(Deed::Noise),
        1 => any::<u16>().prop_map(Deed::Wait),
    ]
}

/// What the core owes an answer to.
#[derive(Debug)]
enum Question {
    Publish(Token),
    Subscribe(Token),
    Unsubscribe(Token),
    Received(Token),
    Release(u16),
}

struct World {
    session: MqttSession,
    version: Version,
    packet_len_max: u32,
    now: Timestamp,
    out: Output,
    input: BytesMut,
    client: Decoder,
    questions: VecDeque<Question>,
    /// Out to the session, by sequence number.
    out_to: BTreeSet<u64>,
    qseq: u64,
    /// Packet identifiers as the client saw them.
    seen: Vec<u16>,
    /// Publishes with an identifier that have no answer on the wire.
    owed: BTreeMap<u16, u32>,
    closed: bool,
}

impl World {
    fn new(version: Version, packet_len_max: u32) -> Self {
        let now = Timestamp(5_000);
        let mut world = Self {
            session: MqttSession::new(Config::default(), now),
            version,
            packet_len_max,
            now,
            out: Output::default(),
            input: BytesMut::new(),
            client: Decoder::new(version, Limits::default()),
            questions: VecDeque::new(),
            out_to: BTreeSet::new(),
            qseq: 0,
            seen: Vec::new(),
            owed: BTreeMap::new(),
            closed: false,
        };
        let mut properties = Properties::default();
        if version == Version::V5 {
            properties
                .0
                .push(Property::MaximumPacketSize(packet_len_max));
            properties.0.push(Property::TopicAliasMaximum(2));
        }
        world.send(&Packet::Connect(Box::new(Connect {
            version,
            clean_start: true,
            keep_alive_s: 30,
            properties,
            client_id: Text::from("c1"),
            will: None,
            user_name: None,
            password: None,
        })));
        let Some(Command::Authenticate(authenticate)) = world.out.commands.pop_front() else {
            panic!("a login is asked for first");
        };
        world.event(Event::Authenticated {
            token: authenticate.token,
            vhost: VhostId::ROOT,
            vhost_name: "/".into(),
            user: "guest".into(),
            secret: session::Secret([0; 32]),
        });
        let Some(Command::OpenClient(open)) = world.out.commands.pop_front() else {
            panic!("a session is asked for next");
        };
        world.event(Event::Opened {
            token: open.token,
            client_id: open.client_id,
            present: false,
        });
        world.settle_up();
        world
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes);
        self.bytes(&bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        assert!(self.session.wants_bytes());
        self.input.extend_from_slice(bytes);
        let result = self
            .session
            .handle_bytes(&mut self.input, self.now, &mut self.out);
        self.closed |= result.is_err();
    }

    fn event(&mut self, event: Event) {
        let result = self.session.handle_event(event, self.now, &mut self.out);
        self.closed |= result.is_err();
    }

    fn act(&mut self, deed: Deed) {
        match deed {
            // Mostly nonsense from a client, and then a fault: too early an end would test little.
            Deed::Send(Packet::Connect(_) | Packet::ConnAck(_) | Packet::Disconnect(_)) => {}
            Deed::Send(packet) => self.send(&packet),
            Deed::Noise(bytes) => self.bytes(&bytes),
            Deed::Acknowledge(kind, which) => {
                let id = match self.seen.len() {
                    0 => return,
                    len => self.seen[usize::from(which) % len],
                };
                let first = [0x40, 0x50, 0x62, 0x70, 0x70][usize::from(kind)];
                self.bytes(&[first, 2, (id >> 8) as u8, id as u8]);
            }
            Deed::Deliver(qos, step) => {
                self.qseq += u64::from(step);
                // The core keeps what is out within one lap of the packet identifiers (RULES 6).
                if let Some(first) = self.out_to.first()
                    && self.qseq - first >= 65_535
                {
                    self.qseq -= u64::from(step);
                    return;
                }
                self.deliver(qos);
            }
            Deed::Answer(how) => self.answer(how),
            Deed::Wait(ms) => {
                self.now = self.now.plus_ms(u64::from(ms));
                if self
                    .session
                    .poll_timeout()
                    .is_some_and(|due| due <= self.now)
                {
                    let result = self.session.handle_timeout(self.now, &mut self.out);
                    self.closed |= result.is_err();
                }
            }
        }
        self.settle_up();
    }

    fn deliver(&mut self, qos: u8) {
        let id = (qos > 0).then_some(DeliveryId {
            queue: QueueId(1),
            qseq: self.qseq,
        });
        if qos > 0 {
            self.out_to.insert(self.qseq);
        }
        let topic = Levels::collect([&b"some"[..], &[b'a' + (self.qseq % 4) as u8]]);
        let body = Bytes::from(vec![7; (self.qseq % 90) as usize]);
        let message = Message::new(Address::topic(VhostId::ROOT, topic.expect("short")), body);
        self.event(Event::Delivery(Arc::new(Delivery {
            consumer: ConsumerId::CLIENT,
            id,
            message: Arc::new(message),
            count: 1,
            redelivered: false,
            resent: false,
            qos,
            retain: false,
            subscriptions: [3].into_iter().collect(),
            enqueued: self.now,
            first_delivered: None,
            via: None,
            first: None,
            record: None,
            deaths: None,
            readdressed: None,
        })));
    }

    fn answer(&mut self, how: u8) {
        let (well, even) = (!how.is_multiple_of(4), how.is_multiple_of(2));
        let refusal = || Refusal::new(RefusalKind::QuotaExceeded, "enough");
        let event = match self.questions.pop_front() {
            None => return,
            Some(Question::Publish(token)) => Event::Published {
                token,
                outcome: match how % 4 {
                    0 if self.version == Version::V5 => PublishOutcome::Refused(refusal()),
                    1 => PublishOutcome::Duplicate { of: None },
                    matched => PublishOutcome::Accepted {
                        matched: u32::from(matched == 3),
                        place: None,
                        record: None,
                        sequence: None,
                    },
                },
            },
            Some(Question::Subscribe(token)) if well => Event::Subscribed { token },
            Some(Question::Unsubscribe(token)) if well => Event::Unsubscribed {
                token,
                existed: even,
            },
            Some(Question::Received(token)) if well => Event::Settled { token, known: 1 },
            Some(
                Question::Subscribe(token)
                | Question::Unsubscribe(token)
                | Question::Received(token),
            ) => Event::Refused {
                token,
                refusal: refusal(),
            },
            Some(Question::Release(id)) => Event::InboundReleased { id, known: even },
        };
        self.event(event);
    }

    /// Takes what the session yielded, and judges it.
    fn settle_up(&mut self) {
        while let Some(command) = self.out.commands.pop_front() {
            match command {
                Command::Publish(publish) => {
                    assert_eq!(publish.token.is_some(), publish.message.qos > 0);
                    assert_eq!(publish.inbound_id.is_some(), publish.message.qos == 2);
                    self.questions.extend(publish.token.map(Question::Publish));
                }
                Command::Subscribe(subscribe) => {
                    self.questions
                        .push_back(Question::Subscribe(subscribe.token));
                }
                Command::Unsubscribe { token, .. } => {
                    self.questions.push_back(Question::Unsubscribe(token));
                }
                Command::ReleaseInbound { id } => self.questions.push_back(Question::Release(id)),
                Command::Settle(settle) => {
                    for (first, last) in &settle.deliveries.ranges {
                        for qseq in *first..=*last {
                            let known = if settle.outcome == Outcome::Received {
                                self.out_to.contains(&qseq)
                            } else {
                                self.out_to.remove(&qseq)
                            };
                            assert!(known, "{qseq} is not out");
                        }
                    }
                    self.questions.extend(settle.token.map(Question::Received));
                }
                Command::CloseClient { .. } => {}
                other => panic!("not asked for by this client: {other:?}"),
            }
        }
        let len = self.out.wire.remaining();
        let mut wire = BytesMut::from(&self.out.wire.copy_to_bytes(len)[..]);
        while !wire.is_empty() {
            let before = wire.len();
            let packet = self
                .client
                .decode(&mut wire)
                .expect("packets")
                .expect("whole packets");
            if self.version == Version::V5 {
                assert!(before - wire.len() <= self.packet_len_max as usize);
            }
            if let Packet::Publish(publish) = packet {
                self.seen.extend(publish.packet_id);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_session_keeps_the_contract_whatever_happens(
        version in prop::sample::select(&[Version::V311, Version::V5]),
        packet_len_max in 40u32..120,
        deeds in vec(deed(), 1..120),
    ) {
        let mut world = World::new(version, packet_len_max);
        for deed in deeds {
            if world.closed {
                break;
            }
            let deed = match deed {
                // An older client sends what it can.
                Deed::Send(packet) if version < Version::V5 && matches!(packet, Packet::Auth(_)) => continue,
                deed => deed,
            };
            world.act(deed);
        }
    }

    #[test]
    fn every_publish_is_acknowledged_once_in_order(
        publishes in vec((1u8..3, any::<bool>()), 1..30),
        early in vec(any::<bool>(), 30),
    ) {
        let mut world = World::new(Version::V5, 1_000_000);
        let mut answers = Vec::new();
        let mut collect = |world: &mut World| {
            let len = world.out.wire.remaining();
            let mut wire = BytesMut::from(&world.out.wire.copy_to_bytes(len)[..]);
            while let Some(packet) = world.client.decode(&mut wire).expect("packets") {
                match packet {
                    Packet::PubAck(ack) | Packet::PubRec(ack) => answers.push(ack.packet_id),
                    other => panic!("unexpected {other:?}"),
                }
            }
            world.settle_up();
        };
        for (at, (qos, reserved)) in publishes.iter().enumerate() {
            let topic = if *reserved { "$SYS/x" } else { "a" };
            let id = at as u16 + 1;
            world.owed.insert(id, 1);
            world.send(&Packet::Publish(mqtt::codec::Publish {
                dup: false,
                qos: *qos,
                retain: false,
                topic: Text::from(topic),
                packet_id: Some(id),
                properties: Properties::default(),
                payload: Bytes::new(),
            }));
            collect(&mut world);
            if early[at] {
                world.answer(2);
                collect(&mut world);
            }
        }
        while !world.questions.is_empty() {
            world.answer(3);
            collect(&mut world);
        }
        let expected: Vec<u16> = world.owed.keys().copied().collect();
        prop_assert_eq!(answers, expected);
    }
}

#[test]
fn a_published_body_points_into_the_read_buffer_and_leaves_from_there() {
    let mut world = World::new(Version::V5, 1_000_000);
    let mut bytes = BytesMut::with_capacity(8192);
    bytes.extend_from_slice(&[0x30, 0x85, 0x20, 0, 1, b'a', 0]);
    bytes.extend_from_slice(&[9; 4097]);
    let start = bytes.as_ptr() as usize;
    let result = world
        .session
        .handle_bytes(&mut bytes, world.now, &mut world.out);
    assert_eq!(result, Ok(()));
    let Some(Command::Publish(publish)) = world.out.commands.pop_front() else {
        panic!("a publish");
    };
    let body = &publish.message.body;
    assert_eq!(
        body.as_ptr() as usize,
        start + 7,
        "not copied on the way in"
    );
    let delivery = Delivery {
        consumer: ConsumerId::CLIENT,
        id: None,
        message: Arc::clone(&publish.message),
        count: 1,
        redelivered: false,
        resent: false,
        qos: 0,
        retain: false,
        subscriptions: [].into_iter().collect(),
        enqueued: world.now,
        deaths: None,
        readdressed: None,
        first_delivered: None,
        via: None,
        first: None,
        record: None,
    };
    world.event(Event::Delivery(Arc::new(delivery)));
    let head = world.out.wire.chunk().len();
    world.out.wire.advance(head);
    assert_eq!(
        world.out.wire.chunk().as_ptr(),
        body.as_ptr(),
        "not copied on the way out"
    );
}
