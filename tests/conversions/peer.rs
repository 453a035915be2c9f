//! One connection: a protocol's session, logged in as `guest`, and a core that agrees to everything and hands out nothing.

use std::sync::Arc;

use amqp091::codec::{
    Frame as AmqpFrame, Long, Method, PROTOCOL_HEADER, basic, channel, connection,
};
use bytes::{Buf, Bytes, BytesMut};
use message::{Address, Message, Timestamp, VhostId, decode_head, encode_head};
use mqtt::codec::{Connect, Packet};
use session::{
    Close, Command, ConsumerId, Declare, Delivery, DeliveryId, Event, Output, PublishOutcome,
    QueueId, Session, Wire,
};
use stomp::codec::{Frame as StompFrame, Verb};

use crate::head::{Head, Speech};

/// The time at which everything happens.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// The body of every message, unless a test says otherwise.
pub(crate) const BODY: &[u8] = b"21.5";

pub(crate) struct Peer {
    session: Box<dyn Session>,
    pub(crate) speech: Speech,
    wire: BytesMut,
    published: Vec<session::Publish>,
    pub(crate) settled: Vec<session::Settle>,
    /// At how many targets the core says that a message was safe.
    pub(crate) matched: u32,
    close: Option<Close>,
    consumer: ConsumerId,
    next: u64,
}

impl Peer {
    pub(crate) fn new(speech: Speech) -> Self {
        match speech {
            Speech::Mqtt(_) => Self::mqtt(speech, mqtt::Config::default()),
            Speech::Amqp => Self::log_in(
                speech,
                Box::new(amqp091::AmqpSession::new(Default::default())),
            ),
            Speech::Stomp(_) => Self::stomp(speech, stomp::Config::default()),
        }
    }

    pub(crate) fn mqtt(speech: Speech, config: mqtt::Config) -> Self {
        Self::log_in(
            speech,
            Box::new(mqtt::MqttSession::new(Arc::new(config), NOW)),
        )
    }

    pub(crate) fn stomp(speech: Speech, config: stomp::Config) -> Self {
        Self::log_in(speech, Box::new(stomp::StompSession::new(config)))
    }

    fn log_in(speech: Speech, session: Box<dyn Session>) -> Self {
        let mut peer = Self {
            session,
            speech,
            wire: BytesMut::new(),
            published: Vec::new(),
            settled: Vec::new(),
            matched: 1,
            close: None,
            consumer: ConsumerId::CLIENT,
            next: 0,
        };
        match speech {
            Speech::Mqtt(version) => {
                let connect = Packet::Connect(Box::new(Connect {
                    version,
                    clean_start: true,
                    keep_alive_s: 0,
                    properties: Default::default(),
                    client_id: "peer".into(),
                    will: None,
                    user_name: Some("guest".into()),
                    password: Some(Bytes::from_static(b"guest")),
                }));
                let mut out = BytesMut::new();
                connect.encode(version, &mut out);
                peer.feed(&out);
            }
            Speech::Amqp => peer.log_in_amqp(),
            Speech::Stomp(version) => {
                peer.feed_stomp(
                    &StompFrame::new(Verb::Connect)
                        .with("accept-version", version.as_str())
                        .with("login", "guest")
                        .with("passcode", "guest"),
                );
                peer.feed_stomp(
                    &StompFrame::new(Verb::Subscribe)
                        .with("id", "s")
                        .with("destination", "/topic/#"),
                );
            }
        }
        peer.wire.clear();
        peer
    }

    fn log_in_amqp(&mut self) {
        self.feed(&PROTOCOL_HEADER);
        let start = connection::StartOk {
            client_properties: Default::default(),
            mechanism: "PLAIN".into(),
            response: Long(Bytes::from_static(b"\0guest\0guest")),
            locale: "en_US".into(),
        };
        self.feed_method(0, start);
        let tune = connection::TuneOk {
            channel_max: 1,
            frame_max: 131_072,
            heartbeat: 0,
        };
        self.feed_method(0, tune);
        let open = connection::Open {
            virtual_host: "/".into(),
            ..Default::default()
        };
        self.feed_method(0, open);
        self.feed_method(1, channel::Open::default());
        let consume = basic::Consume {
            queue: "q".into(),
            consumer_tag: "c".into(),
            ..Default::default()
        };
        self.feed_method(1, consume);
    }

    fn feed_method(&mut self, channel: u16, method: impl Into<Method>) {
        let mut out = BytesMut::new();
        let method = method.into();
        AmqpFrame::Method { channel, method }.encode(&mut out);
        self.feed(&out);
    }

    fn feed_stomp(&mut self, frame: &StompFrame) {
        let Speech::Stomp(version) = self.speech else {
            unreachable!("only STOMP has such frames");
        };
        let mut wire = Wire::default();
        frame.encode(version, &mut wire);
        let bytes = wire.copy_to_bytes(wire.remaining());
        self.feed(&bytes);
    }

    /// Bytes from the client; every question that they cause is answered.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        assert_eq!(self.close, None, "{:?} is still there", self.speech);
        let mut input = BytesMut::from(bytes);
        let mut out = Output::default();
        loop {
            let done = self.session.handle_bytes(&mut input, NOW, &mut out);
            self.take(&mut out, done);
            while let Some(command) = out.commands.pop_front() {
                let Some(event) = self.answer(command) else {
                    continue;
                };
                let done = self.session.handle_event(event, NOW, &mut out);
                self.take(&mut out, done);
            }
            // What waited for an answer is read then.
            let done = self.session.handle_bytes(&mut input, NOW, &mut out);
            self.take(&mut out, done);
            if out.commands.is_empty() {
                return;
            }
        }
    }

    fn take(&mut self, out: &mut Output, done: Result<(), Close>) {
        let bytes = out.wire.copy_to_bytes(out.wire.remaining());
        self.wire.extend_from_slice(&bytes);
        if let Err(close) = done {
            self.close = Some(close);
        }
    }

    fn answer(&mut self, command: Command) -> Option<Event> {
        Some(match command {
            Command::Authenticate(asked) => Event::Authenticated {
                token: asked.token,
                vhost: VhostId::ROOT,
                vhost_name: "/".into(),
                user: "guest".into(),
                secret: session::Secret([0; 32]),
            },
            Command::OpenClient(asked) => Event::Opened {
                token: asked.token,
                client_id: asked.client_id,
                present: false,
            },
            Command::Declare { token, declare, .. } => Event::Declared {
                token,
                name: match declare {
                    Declare::Queue { name, .. } if !name.is_empty() => name,
                    _ => Bytes::from_static(b"amq.gen-1"),
                },
                messages: 0,
                consumers: 0,
            },
            Command::Subscribe(asked) => {
                self.consumer = asked.consumer;
                Event::Subscribed { token: asked.token }
            }
            Command::Publish(publish) => {
                let token = publish.token;
                self.published.push(publish);
                let matched = self.matched;
                Event::Published {
                    token: token?,
                    outcome: PublishOutcome::Accepted {
                        matched,
                        place: None,
                        record: None,
                        sequence: None,
                    },
                }
            }
            Command::Settle(settle) => {
                self.settled.push(settle);
                return None;
            }
            _ => return None,
        })
    }

    /// The publish that bytes from the client caused, and what the session answered.
    pub(crate) fn publish_raw(&mut self, bytes: &[u8]) -> (session::Publish, Bytes) {
        self.feed(bytes);
        let publish = self.published.pop().expect("it is a publish");
        (publish, std::mem::take(&mut self.wire).freeze())
    }

    /// Publishes through the client's bytes. `Err`: the words in which it was refused.
    pub(crate) fn publish(
        &mut self,
        head: &Head,
        to: &str,
        body: &[u8],
    ) -> Result<Message, String> {
        let bytes = head.publish(to, body);
        self.feed(&bytes);
        if let Some(close) = &self.close {
            return Err(close.reason.to_string());
        }
        let answer = std::mem::take(&mut self.wire);
        let Some(publish) = self.published.pop() else {
            return Err(format!("{answer:?}"));
        };
        Ok(stored(&publish.message))
    }

    /// Delivers a message, and gives the client's bytes.
    pub(crate) fn deliver(&mut self, message: Message) -> Bytes {
        self.deliver_as(message, |_| {})
    }

    /// The same, with what the core says of it changed.
    pub(crate) fn deliver_as(
        &mut self,
        message: Message,
        change: impl FnOnce(&mut Delivery),
    ) -> Bytes {
        self.next += 1;
        let mut delivery = Delivery {
            consumer: self.consumer,
            id: Some(DeliveryId {
                queue: QueueId(1),
                qseq: self.next,
            }),
            count: 1,
            redelivered: false,
            resent: false,
            // As the core does for a subscription that was granted 2.
            qos: message.qos,
            retain: message.retain,
            message: Arc::new(message),
            subscriptions: Default::default(),
            enqueued: NOW,
            deaths: None,
            readdressed: None,
            first_delivered: None,
            via: None,
            first: None,
            record: None,
        };
        change(&mut delivery);
        let mut out = Output::default();
        let event = Event::Delivery(Arc::new(delivery));
        let done = self.session.handle_event(event, NOW, &mut out);
        self.session.flush(NOW, &mut out);
        self.take(&mut out, done);
        while let Some(command) = out.commands.pop_front() {
            self.answer(command);
        }
        assert_eq!(self.close, None, "{:?} takes every delivery", self.speech);
        std::mem::take(&mut self.wire).freeze()
    }
}

/// The message as it comes back from the journal.
pub(crate) fn stored(message: &Message) -> Message {
    let mut head = Vec::new();
    encode_head(message, &mut head);
    let back = decode_head(Bytes::from(head), message.body.clone()).expect("a head of our own");
    assert_eq!(&back, message, "the journal keeps everything");
    back
}

/// The topic that samples are published to.
pub(crate) fn topic(levels: &[&str]) -> Address {
    let levels = message::Levels::collect(levels).expect("few levels");
    Address::topic(VhostId::ROOT, levels)
}
