//! Runs `../scripts/*.txt`. With `BLESS=1` in the environment what comes out is written into the scripts, to be read before it is kept.

use std::{collections::VecDeque, fs, path::Path, sync::Arc};

use amqp091::{AmqpSession, ChannelFlow, Config, codec};
use bytes::{Buf, Bytes, BytesMut};
use message::{Address, Levels, Message, Timestamp, VhostId};
use session::{
    Active, Close, CloseReason, Command, ConsumerId, Death, DeathReason, Delivery, DeliveryId,
    Event, Output, PublishOutcome, QueueId, Refusal, RefusalKind, Session, StreamInfo, Token,
};
use smallvec::SmallVec;

use crate::{script, show};

const START: u64 = 1_000_000;

/// A session and the far ends of it.
struct Stage {
    session: AmqpSession,
    now: Timestamp,
    input: BytesMut,
    wire: BytesMut,
    out: Output,
    tokens: VecDeque<Token>,
    consumers: Vec<ConsumerId>,
    published: Option<Arc<Message>>,
    /// What came out and has not been compared: lines with their sign.
    lines: Vec<String>,
    byte_by_byte: bool,
    over: bool,
}

impl Stage {
    fn new(byte_by_byte: bool) -> Self {
        Self::with(byte_by_byte, Config::default())
    }

    fn with(byte_by_byte: bool, config: Config) -> Self {
        Self {
            session: AmqpSession::new(config),
            now: Timestamp(START),
            input: BytesMut::new(),
            wire: BytesMut::new(),
            out: Output::default(),
            tokens: VecDeque::new(),
            consumers: Vec::new(),
            published: None,
            lines: Vec::new(),
            byte_by_byte,
            over: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let step = if self.byte_by_byte {
            1
        } else {
            bytes.len().max(1)
        };
        for part in bytes.chunks(step) {
            if self.over {
                return;
            }
            self.input.extend_from_slice(part);
            let result = self
                .session
                .handle_bytes(&mut self.input, self.now, &mut self.out);
            self.end(result);
        }
        self.collect();
    }

    fn event(&mut self, line: &str) {
        let event = self.parse_event(line);
        let result = match event {
            Some(event) => self.session.handle_event(event, self.now, &mut self.out),
            None => {
                self.session.flush(self.now, &mut self.out);
                Ok(())
            }
        };
        self.end(result);
        self.collect();
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        while !self.over {
            match self.session.poll_timeout() {
                Some(due) if due <= until => {
                    self.now = due.max(self.now);
                    let result = self.session.handle_timeout(self.now, &mut self.out);
                    self.end(result);
                }
                _ => break,
            }
        }
        self.now = until;
        self.collect();
    }

    fn end(&mut self, result: Result<(), Close>) {
        if let Err(close) = result {
            self.collect();
            self.over = true;
            let how = if close.fault { "fault" } else { "done" };
            self.lines.push(format!("x {how} {}", close.reason));
        }
    }

    fn collect(&mut self) {
        while self.out.wire.has_remaining() {
            let chunk = self.out.wire.copy_to_bytes(self.out.wire.remaining());
            self.wire.extend_from_slice(&chunk);
        }
        if self.wire.starts_with(&codec::PROTOCOL_HEADER) {
            self.wire.advance(8);
            self.lines.push("< header".into());
        }
        while let Some(frame) = codec::decode(&mut self.wire, 0).expect("our own frames are right")
        {
            let line = format!("< {}", show::frame(&frame));
            self.lines.push(line);
        }
        assert!(self.wire.is_empty(), "no half frame may leave");
        for command in self.out.commands.drain(..) {
            self.lines.push(format!("! {}", show::command(&command)));
            match &command {
                Command::Authenticate(ask) => self.tokens.push_back(ask.token),
                Command::Subscribe(subscribe) => {
                    self.consumers.push(subscribe.consumer);
                    self.tokens.push_back(subscribe.token);
                }
                Command::Declare { token, .. }
                | Command::Cancel { token, .. }
                | Command::Stream { token, .. }
                | Command::Fence { token, .. } => self.tokens.push_back(*token),
                Command::Pull(pull) => self.tokens.push_back(pull.token),
                Command::Transact(transact) => self.tokens.push_back(transact.token),
                Command::Publish(publish) => {
                    self.published = Some(publish.message.clone());
                    self.tokens.extend(publish.token);
                }
                _ => {}
            }
        }
    }

    fn parse_event(&mut self, line: &str) -> Option<Event> {
        let line = line.trim_start();
        let (which, rest) = match line.split_once(' ') {
            Some((digits, rest))
                if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
            {
                (digits.parse::<usize>().expect("digits") - 1, rest)
            }
            _ => (0, line),
        };
        let words: Vec<&str> = rest.split(' ').collect();
        let tokens = &mut self.tokens;
        let mut token = || {
            tokens
                .remove(which)
                .expect("a command with a token is open")
        };
        Some(match words[0] {
            "flush" => return None,
            "authenticated" => Event::Authenticated {
                token: token(),
                vhost: VhostId::ROOT,
                vhost_name: Arc::from(words[1]),
                user: Arc::from(words[2]),
                secret: session::Secret([0; 32]),
            },
            "refused" => Event::Refused {
                token: token(),
                refusal: refusal(&words[1..]),
            },
            "declared" => Event::Declared {
                token: token(),
                name: Bytes::from(words[1].to_owned()),
                messages: words[2].parse().expect("a number"),
                consumers: words[3].parse().expect("a number"),
            },
            "stream" => Event::Stream {
                token: token(),
                stream: Box::new(stream(&words[1..])),
            },
            "subscribed" => Event::Subscribed { token: token() },
            "unsubscribed" => Event::Unsubscribed {
                token: token(),
                existed: true,
            },
            "reached" => Event::Reached { token: token() },
            "published" => Event::Published {
                token: token(),
                outcome: match words[1] {
                    "refused" => PublishOutcome::Refused(refusal(&words[2..])),
                    matched => PublishOutcome::Accepted {
                        matched: matched.parse().expect("a number"),
                        place: None,
                        record: None,
                        sequence: None,
                    },
                },
            },
            // `accepted COUNT`: so many publishes that came together.
            "accepted" => {
                let count: usize = words[1].parse().expect("a number");
                Event::Accepted {
                    tokens: (0..count).map(|_| token()).collect(),
                }
            }
            "returned" => Event::Returned {
                token: None,
                lane: session::Lane(words[1].parse().expect("a lane")),
                message: self.published.clone().expect("something was published"),
            },
            "committed" => Event::Committed {
                token: token(),
                returned: if words.len() > 1 {
                    self.published.clone().into_iter().collect()
                } else {
                    Vec::new()
                },
            },
            "pulled" => {
                let token = token();
                let deliveries = if words[1] == "none" {
                    Vec::new()
                } else {
                    vec![self.delivery(ConsumerId(0), &words[1..])]
                };
                Event::Pulled {
                    token,
                    deliveries,
                    epoch: 1,
                    remaining: 7,
                }
            }
            // `delivery c1 q1:5 ...`: consumers are numbered in the order in which they were started.
            "delivery" => {
                let number: usize = words[1][1..].parse().expect("a consumer");
                let consumer = self.consumers[number - 1];
                Event::Delivery(Arc::new(self.delivery(consumer, &words[2..])))
            }
            "cancelled" => {
                let number: usize = words[1][1..].parse().expect("a consumer");
                Event::Cancelled {
                    consumer: self.consumers[number - 1],
                    revoked: false,
                }
            }
            // `publish-refused LANE KIND WHY`: a publish without a token.
            "publish-refused" => Event::PublishRefused {
                lane: session::Lane(words[1].parse().expect("a lane")),
                refusal: refusal(&words[2..]),
            },
            "blocked" => Event::Blocked {
                blocked: words[1] == "true",
                reason: "low on disk",
            },
            "closing" => Event::Closing {
                reason: match words.get(1) {
                    Some(&"NotActive") => CloseReason::NotActive(Some(active(words[2]))),
                    _ => CloseReason::Shutdown,
                },
            },
            other => panic!("a script cannot make happen {other}"),
        })
    }

    /// `q1:5 [count=N] [redelivered] [settled] [published | queue=NAME | topic=A/B] [died=QUEUE] [body=TEXT]`
    fn delivery(&self, consumer: ConsumerId, words: &[&str]) -> Delivery {
        let (queue, qseq) = words[0][1..].split_once(':').expect("queue and number");
        let mut message = Message::new(Address::queue(VhostId::ROOT, "jobs"), Bytes::new());
        let mut delivery = Delivery {
            consumer,
            id: Some(DeliveryId {
                queue: QueueId(queue.parse().expect("a number")),
                qseq: qseq.parse().expect("a number"),
            }),
            message: Arc::new(message.clone()),
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
        };
        for word in &words[1..] {
            let (name, text) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "count" => delivery.count = text.parse().expect("a number"),
                "record" => {
                    delivery.record = Some(session::RecordPlace {
                        stream: session::StreamId(1),
                        shard: session::ShardNo(0),
                        shard_opened: Timestamp(5_000),
                        offset: text.parse().expect("an offset"),
                    });
                }
                "redelivered" => delivery.redelivered = true,
                "settled" => delivery.id = None,
                "published" => {
                    message = Message::clone(self.published.as_ref().expect("something was"));
                }
                "queue" => message.address = Address::queue(VhostId::ROOT, text.to_owned()).into(),
                "topic" => {
                    let key = Levels::split(Bytes::from(text.to_owned()), b'/').expect("short");
                    message.address = Address::topic(VhostId::ROOT, key).into();
                }
                "died" => {
                    delivery.deaths = Some(Arc::new(vec![Death {
                        queue: Bytes::from(text.to_owned()),
                        reason: DeathReason::Expired,
                        count: 2,
                        time: Timestamp(5_000),
                        exchange: Bytes::new(),
                        key: Levels::one(Bytes::from(text.to_owned())),
                        original_ttl_ms: Some(60_000),
                    }]));
                    delivery.readdressed = Some(Arc::new(Address::exchange(
                        VhostId::ROOT,
                        "dlx",
                        Levels::one(Bytes::from(text.to_owned())),
                    )));
                }
                "header" => message.properties.push(
                    "big",
                    message::Value::text("x".repeat(text.parse().expect("a length"))),
                ),
                "body" => message.body = Bytes::from(text.to_owned()),
                "long" => message.body = vec![b'y'; text.parse().expect("a length")].into(),
                other => panic!("no such word of a delivery: {other}"),
            }
        }
        delivery.message = Arc::new(message);
        delivery
    }
}

/// `at=HOST:PORT`: a node with its AMQP door there, and another elsewhere.
fn active(word: &str) -> Arc<Active> {
    let address = word.strip_prefix("at=").expect("at=HOST:PORT");
    let addresses = [("http", "other:8161"), ("amqp", address)];
    Arc::new(Active {
        addresses: addresses.map(|(name, at)| (name.into(), at.into())).into(),
    })
}

fn refusal(words: &[&str]) -> Refusal {
    if let ["NotActive", place] = words {
        return Refusal::not_active(Some(active(place)));
    }
    let kind = match words[0] {
        "BadCredentials" => RefusalKind::BadCredentials,
        "AccessDenied" => RefusalKind::AccessDenied,
        "NotFound" => RefusalKind::NotFound,
        "Inequivalent" => RefusalKind::Inequivalent,
        "Locked" => RefusalKind::Locked,
        "InUse" => RefusalKind::InUse,
        "NotEmpty" => RefusalKind::NotEmpty,
        "QueueFull" => RefusalKind::QueueFull,
        "StorageFull" => RefusalKind::StorageFull,
        "InvalidArgument" => RefusalKind::InvalidArgument,
        "NotImplemented" => RefusalKind::NotImplemented,
        other => panic!("unknown kind of refusal {other}"),
    };
    // `known=DECLARATION` as the last word: what is there.
    let known = words.last().and_then(|word| word.strip_prefix("known="));
    let known = known.map(|known| Bytes::from(known.to_owned()));
    Refusal::new(kind, words[1..].join(" ")).but_known(known)
}

/// The usual handshake, its output not compared.
fn login(stage: &mut Stage) {
    stage.feed(&script::bytes("header"));
    stage.feed(&script::bytes(
        "0 connection.start-ok mechanism=PLAIN response=\\0guest\\0guest @capabilities={consumer_cancel_notify:true,connection.blocked:true,authentication_failure_close:true}",
    ));
    stage.event("authenticated / guest");
    stage.feed(&script::bytes("0 connection.tune-ok frame_max=4096"));
    stage.feed(&script::bytes("0 connection.open vhost=/"));
    stage.feed(&script::bytes("1 channel.open"));
    assert_eq!(
        stage.lines.last().map(String::as_str),
        Some("< 1 channel.open-ok")
    );
    stage.lines.clear();
}

/// `NAME [records=N] [consumers=N] [retention=MS] [declared=BYTES]`: a stream with one shard.
fn stream(words: &[&str]) -> StreamInfo {
    let word = |name: &str| {
        words
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name| word(name).map_or(0, |digits| digits.parse().expect("a number"));
    let records = u64::from(number("records"));
    let retention = word("retention").map_or(u64::MAX, |ms| ms.parse().expect("ms"));
    let now = Timestamp(1_000_000);
    StreamInfo {
        id: session::StreamId(1),
        name: Bytes::from(words[0].to_owned()),
        attributes: session::StreamAttributes {
            retention_ms: retention,
            ..Default::default()
        },
        notes: word("declared")
            .map(|bytes| {
                let name = Bytes::from_static(b"amqp091.declaration");
                (name, Bytes::from(unhex(bytes)))
            })
            .into_iter()
            .collect(),
        created: now,
        changed: now,
        version: 0,
        shards: vec![session::ShardInfo {
            shard: session::ShardNo(0),
            parents: Default::default(),
            first_hash: 0,
            last_hash: u128::MAX,
            opened: now,
            first_offset: 0,
            closed: None,
            records,
        }],
        first_offset: 0,
        next_offset: records,
        consumers: number("consumers"),
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits"))
        .collect()
}

/// Runs a script and gives it back with what really came out.
fn run(script: &str, byte_by_byte: bool) -> String {
    let mut stage = Stage::new(byte_by_byte);
    let mut seen = String::new();
    let mut pending = BytesMut::new();
    for line in script.lines().chain(["#end"]) {
        if let Some(more) = line.strip_prefix("> ") {
            if pending.is_empty() {
                drain(&mut stage, &mut seen);
            }
            pending.extend_from_slice(&script::bytes(more));
            seen += &format!("{line}\n");
            continue;
        }
        if !pending.is_empty() {
            let bytes = pending.split();
            stage.feed(&bytes);
        }
        if line.starts_with(['<', '!', 'x']) {
            continue;
        }
        drain(&mut stage, &mut seen);
        if line == "#end" {
            break;
        }
        seen += &format!("{line}\n");
        if let Some(event) = line.strip_prefix('*') {
            stage.event(event);
        } else if let Some(ms) = line.strip_prefix('+') {
            stage.pass(ms.parse().expect("milliseconds"));
        } else if line == "= login" {
            login(&mut stage);
        } else {
            assert!(
                line.is_empty() || line.starts_with('#'),
                "not a line of a script: {line}"
            );
        }
    }
    seen
}

fn drain(stage: &mut Stage, seen: &mut String) {
    for line in stage.lines.drain(..) {
        *seen += &line;
        seen.push('\n');
    }
}

#[test]
fn every_dialogue_goes_as_written_also_byte_by_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the scripts are there")
        .map(|entry| entry.expect("a directory entry").path())
        .collect();
    paths.sort();
    let bless = std::env::var_os("BLESS").is_some();
    let mut count = 0;
    for path in paths {
        let file = fs::read_to_string(&path).expect("a script is text");
        let mut whole = String::new();
        for (at, script) in file.split("---\n").enumerate() {
            count += 1;
            let seen = run(script, false);
            let title = script.lines().next().unwrap_or_default();
            if bless {
                if at > 0 {
                    whole += "---\n";
                }
                whole += &seen;
            } else {
                assert_eq!(seen, script, "{}: {title}", path.display());
            }
            assert_eq!(
                run(script, true),
                seen,
                "byte by byte: {}: {title}",
                path.display()
            );
        }
        if bless {
            fs::write(&path, whole).expect("the script can be written");
        }
    }
    assert!(count > 30, "the scripts were found");
}

/// [AMQP-channel.flow.bidirectional], and as RabbitMQ where it is asked for: 540 for a stop, a yes to a start.
#[test]
fn a_flow_that_is_refused_ends_the_connection_with_540() {
    for byte_by_byte in [false, true] {
        let config = Config {
            channel_flow: ChannelFlow::Refuse,
            ..Config::default()
        };
        let mut stage = Stage::with(byte_by_byte, config);
        login(&mut stage);
        stage.feed(&script::bytes("1 channel.flow active"));
        assert_eq!(
            stage.lines,
            ["< 1 channel.flow-ok active: true", "! group 1 flow true"]
        );
        stage.lines.clear();
        stage.feed(&script::bytes("1 channel.flow"));
        assert_eq!(
            stage.lines,
            [
                "< 0 connection.close reply_code: 540, reply_text: \"NOT_IMPLEMENTED - active=false\", class_id: 20, method_id: 20"
            ]
        );
    }
}
