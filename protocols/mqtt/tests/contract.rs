//! Commands and events of the contract as lines of text. Tokens are numbered as they appear: `t1`, `t2`, ..

use std::sync::Arc;

use bytes::Bytes;
use message::{Address, BodyKind, Filter, Kind, Levels, Message, Timestamp, Value, VhostId};
use session::{
    Active, ClientExpiry, CloseReason, Command, ConsumerId, Credentials, Credit, Death,
    DeathReason, Delivery, DeliveryId, DeliveryRange, Event, Outcome, PublishOutcome, QueueId,
    Refusal, RefusalKind, RetainReplay, Source, SubscriptionOptions, Token,
};

use crate::notation::{Words, escape};

/// The queue of the client session in every script.
const QUEUE: QueueId = QueueId(7);

/// What a script has to remember about the session's commands.
#[derive(Default)]
pub(crate) struct Memory {
    tokens: Vec<Token>,
    /// The last message published.
    pub(crate) published: Option<Arc<Message>>,
}

impl Memory {
    fn name(&mut self, token: Token) -> String {
        let at = self.tokens.iter().position(|t| *t == token);
        let at = at.unwrap_or_else(|| {
            self.tokens.push(token);
            self.tokens.len() - 1
        });
        format!("t{}", at + 1)
    }

    fn token(&self, name: &str) -> Token {
        let number: usize = name
            .strip_prefix('t')
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("{name} is not a token"));
        *self
            .tokens
            .get(number - 1)
            .unwrap_or_else(|| panic!("{name} was not given yet"))
    }

    /// A command as a line.
    pub(crate) fn show(&mut self, command: &Command) -> String {
        match command {
            Command::Authenticate(authenticate) => {
                let who = match &authenticate.credentials {
                    Credentials::Anonymous => "anonymous".to_owned(),
                    Credentials::Plain { user, password } => {
                        format!("user={user} pass={}", escape(password))
                    }
                    other => unreachable!("MQTT does not say {other:?}"),
                };
                format!(
                    "authenticate {} {who} client={} \"{}\"",
                    self.name(authenticate.token),
                    escape(&authenticate.client),
                    authenticate.protocol
                )
            }
            Command::OpenClient(open) => {
                let mut out = format!(
                    "open {} id={}",
                    self.name(open.token),
                    escape(&open.client_id)
                );
                out += if open.clean_start { " clean" } else { "" };
                out += &format!(" {} window={}", show_expiry(open.expiry), open.window);
                if let Some(len) = open.message_len_max {
                    out += &format!(" len={len}");
                }
                if let Some(will) = &open.will {
                    out += &format!(
                        " will({}) delay={}",
                        show_message(&will.message),
                        will.delay_ms
                    );
                    if let Some(ttl) = will.ttl_ms {
                        out += &format!(" ttl={ttl}");
                    }
                }
                out
            }
            Command::CloseClient {
                publish_will,
                expiry,
            } => {
                let mut out = "close-client".to_owned();
                out += if *publish_will { " publish-will" } else { "" };
                if let Some(expiry) = expiry {
                    out += &format!(" {}", show_expiry(*expiry));
                }
                out
            }
            Command::Publish(publish) => {
                self.published = Some(Arc::clone(&publish.message));
                let mut out = "publish".to_owned();
                if let Some(token) = publish.token {
                    out += &format!(" {}", self.name(token));
                }
                if let Some(id) = publish.inbound_id {
                    out += &format!(" inbound={id}");
                }
                assert!(!publish.create && !publish.mandatory);
                out + &format!(" {}", show_message(&publish.message))
            }
            Command::ReleaseInbound { id } => format!("release-inbound {id}"),
            Command::Subscribe(subscribe) => {
                let mut out = format!(
                    "subscribe {} {} {}",
                    self.name(subscribe.token),
                    show_consumer(subscribe.consumer),
                    show_source(&subscribe.source)
                );
                assert_eq!(
                    subscribe.through_client,
                    subscribe.consumer != ConsumerId::CLIENT
                );
                out += &show_options(subscribe.options);
                match subscribe.credit {
                    Credit::Settled => out + " credit=settled",
                    Credit::Window(window) => out + &format!(" window={window}"),
                    Credit::Exactly(_) => panic!("not asked for by MQTT"),
                }
            }
            Command::Unsubscribe { token, source } => {
                format!("unsubscribe {} {}", self.name(*token), show_source(source))
            }
            Command::Settle(settle) => {
                let mut out = format!("settle {}", show_outcome(settle.outcome));
                if let Some(token) = settle.token {
                    out += &format!(" {}", self.name(token));
                }
                out + &format!(" {}", show_range(&settle.deliveries))
            }
            other => panic!("not a command of MQTT: {other:?}"),
        }
    }

    /// The event that a line names.
    pub(crate) fn event(&self, line: &str, now: Timestamp) -> Event {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = Words::of(rest);
        let mut first = || {
            let (word, value) = words.0.remove(0);
            assert!(value.is_none(), "{word} has no value here");
            word
        };
        let event = match name {
            "authenticated" => Event::Authenticated {
                token: self.token(first()),
                vhost: VhostId::ROOT,
                vhost_name: "/".into(),
                user: "guest".into(),
                secret: session::Secret([0; 32]),
            },
            "refused" => Event::Refused {
                token: self.token(first()),
                refusal: refusal(first()),
            },
            // The node is not the active one; `at` says where that is.
            "not-active" => Event::Refused {
                token: self.token(first()),
                refusal: Refusal::not_active(words.bytes("at").as_deref().map(active)),
            },
            "opened" => Event::Opened {
                token: self.token(first()),
                present: words.flag("present"),
                client_id: words.bytes("id").expect("id="),
            },
            "published" => Event::Published {
                token: self.token(first()),
                outcome: match words.0.remove(0) {
                    ("matched", Some(matched)) => PublishOutcome::Accepted {
                        matched: matched.parse().expect("a number"),
                        place: None,
                        record: None,
                        sequence: None,
                    },
                    ("refused", Some(kind)) => PublishOutcome::Refused(refusal(kind)),
                    ("duplicate", None) => PublishOutcome::Duplicate { of: None },
                    other => panic!("no outcome {other:?}"),
                },
            },
            "accepted" => Event::Accepted {
                tokens: words
                    .0
                    .drain(..)
                    .map(|(token, _)| self.token(token))
                    .collect(),
            },
            "released" => Event::InboundReleased {
                id: first().parse().expect("a number"),
                known: !words.flag("unknown"),
            },
            "subscribed" => Event::Subscribed {
                token: self.token(first()),
            },
            "unsubscribed" => Event::Unsubscribed {
                token: self.token(first()),
                existed: !words.flag("missing"),
            },
            "settled" => Event::Settled {
                token: self.token(first()),
                known: 1,
            },
            "cancelled" => Event::Cancelled {
                consumer: consumer(first()),
                revoked: false,
            },
            "resumed" => Event::Resumed {
                received: first()
                    .split(',')
                    .map(|qseq| id(qseq.parse().expect("a number")))
                    .collect(),
            },
            "closing" => Event::Closing {
                reason: match first() {
                    "taken-over" => CloseReason::TakenOver,
                    "shutdown" => CloseReason::Shutdown,
                    "not-active" => {
                        CloseReason::NotActive(words.bytes("at").as_deref().map(active))
                    }
                    "administrative" => CloseReason::Administrative,
                    "internal" => CloseReason::Internal,
                    other => panic!("no reason {other}"),
                },
            },
            "blocked" => Event::Blocked {
                blocked: true,
                reason: "no room",
            },
            "delivery" => Event::Delivery(Arc::new(self.delivery(&mut words, now))),
            other => panic!("no event {other}"),
        };
        words.end();
        event
    }

    fn delivery(&self, w: &mut Words<'_>, now: Timestamp) -> Delivery {
        let consumer = w.take("to").map_or(ConsumerId::CLIENT, consumer);
        let message = if w.flag("published") {
            self.published.clone().expect("something was published")
        } else {
            Arc::new(message(w, now))
        };
        Delivery {
            consumer,
            id: w.number("qseq").map(id),
            message,
            count: 1,
            redelivered: w.flag("redelivered"),
            resent: w.flag("resent"),
            qos: w.number("qos").unwrap_or(0),
            retain: w.flag("retain"),
            subscriptions: w
                .take("subscriptions")
                .map(|list| {
                    list.split(',')
                        .map(|n| n.parse().expect("a number"))
                        .collect()
                })
                .unwrap_or_default(),
            enqueued: now,
            first_delivered: None,
            via: None,
            first: None,
            record: None,
            deaths: w.flag("aged").then(|| {
                Arc::new(vec![Death {
                    queue: Bytes::from_static(b"q"),
                    reason: DeathReason::Expired,
                    count: 1,
                    time: now,
                    exchange: Bytes::new(),
                    key: Levels::none(),
                    original_ttl_ms: Some(5000),
                }])
            }),
            readdressed: w.take("readdressed").map(|text| Arc::new(address(text))),
        }
    }
}

fn id(qseq: u64) -> DeliveryId {
    DeliveryId { queue: QUEUE, qseq }
}

fn consumer(text: &str) -> ConsumerId {
    let number = text.strip_prefix('c').expect("c0, c1, ..");
    ConsumerId(number.parse().expect("a number"))
}

fn show_consumer(consumer: ConsumerId) -> String {
    if consumer == ConsumerId::CLIENT {
        "client".to_owned()
    } else {
        format!("c{}", consumer.0)
    }
}

/// A node with its MQTT door there, and others elsewhere.
fn active(address: &[u8]) -> Arc<Active> {
    let address = std::str::from_utf8(address).expect("host:port");
    let addresses = [
        ("http", "other:8161"),
        ("mqtt", address),
        ("amqp", "other:5672"),
    ];
    Arc::new(Active {
        addresses: addresses.map(|(name, at)| (name.into(), at.into())).into(),
    })
}

fn refusal(kind: &str) -> Refusal {
    let kind = match kind {
        "bad-credentials" => RefusalKind::BadCredentials,
        "access-denied" => RefusalKind::AccessDenied,
        "unexplained" => RefusalKind::Unexplained,
        "not-found" => RefusalKind::NotFound,
        "queue-full" => RefusalKind::QueueFull,
        "storage-full" => RefusalKind::StorageFull,
        "quota-exceeded" => RefusalKind::QuotaExceeded,
        "too-large" => RefusalKind::TooLarge,
        "invalid-name" => RefusalKind::InvalidName,
        "not-implemented" => RefusalKind::NotImplemented,
        "not-active" => RefusalKind::NotActive,
        "in-use" => RefusalKind::InUse,
        "inequivalent" => RefusalKind::Inequivalent,
        "internal" => RefusalKind::Internal,
        other => panic!("no refusal {other}"),
    };
    Refusal::new(kind, "because")
}

/// `topic:a/b`, `queue:jobs` or `exchange:logs:a/b`; levels cut at `/`, without escapes.
fn address(text: &str) -> Address {
    let levels = |text: &str| {
        if text.is_empty() {
            Levels::none()
        } else {
            Levels::collect(text.split('/').map(crate::notation::unescape)).expect("short")
        }
    };
    match text.split_once(':').expect("kind:name") {
        ("topic", key) => Address::topic(VhostId::ROOT, levels(key)),
        ("queue", name) => {
            Address::queue(VhostId::ROOT, Bytes::from(crate::notation::unescape(name)))
        }
        ("exchange", rest) => {
            let (name, key) = rest.split_once(':').expect("exchange:name:key");
            Address::exchange(VhostId::ROOT, name.to_owned(), levels(key))
        }
        (other, _) => panic!("no kind {other}"),
    }
}

/// A message as another protocol makes it.
fn message(w: &mut Words<'_>, now: Timestamp) -> Message {
    let mut message = Message::new(
        address(w.take("at").expect("at=")),
        w.bytes("body").unwrap_or_default(),
    );
    if let Some(len) = w.number("len") {
        message.body = Bytes::from(vec![b'x'; len]);
    }
    if w.flag("text") {
        message.body_kind = BodyKind::Text;
    }
    message.priority = w.number("priority");
    message.expiry = w.number("expires").map(|ms| now.plus_ms(ms));
    if let Some(text) = w.bytes("type") {
        message.fields_mut().content_type = Some(text);
    }
    if let Some(text) = w.bytes("group") {
        message.group = Some(text);
    }
    if let Some(text) = w.bytes("message-id") {
        message.fields_mut().message_id = Some(Value::Text(text));
    }
    if let Some(text) = w.bytes("correlation") {
        message.fields_mut().correlation_id = Some(Value::Text(text));
    }
    if let Some(text) = w.take("reply") {
        message.fields_mut().reply_to = Some(address(text));
    }
    while let Some(property) = w.take("property") {
        let (name, value) = property.split_once(':').expect("name:value");
        let value = match value.parse::<i64>() {
            Ok(number) => Value::I64(number),
            Err(_) => Value::text(value),
        };
        message.properties.push(name.to_owned(), value);
    }
    message
}

fn show_levels(levels: &Levels) -> String {
    let levels: Vec<String> = levels.iter().map(escape).collect();
    levels.join("|")
}

fn show_address(address: &Address) -> String {
    match address.kind {
        Kind::Topic => format!("topic:{}", show_levels(&address.key)),
        Kind::Queue => format!("queue:{}", escape(&address.name)),
        Kind::Stream => format!(
            "stream:{}:{}",
            escape(&address.name),
            show_levels(&address.key)
        ),
        Kind::Exchange => panic!("not published to by MQTT"),
    }
}

fn show_message(message: &Message) -> String {
    let mut out = format!("{} qos={}", show_address(&message.address), message.qos);
    assert_eq!(message.durable, message.qos > 0);
    out += if message.retain { " retain" } else { "" };
    if message.body_kind == BodyKind::Text {
        out += " text";
    }
    if let Some(priority) = message.priority {
        out += &format!(" priority={priority}");
    }
    if let Some(expiry) = message.expiry {
        out += &format!(" expiry={}", expiry.0);
    }
    let fields = message.fields();
    for (name, field) in [
        ("type", &fields.content_type),
        ("group", &message.group),
        ("dedup", &fields.dedup_id),
    ] {
        if let Some(field) = field {
            out += &format!(" {name}={}", escape(field));
        }
    }
    match &fields.correlation_id {
        Some(Value::Text(text)) => out += &format!(" correlation={}", escape(text)),
        Some(Value::Bytes(bytes)) => out += &format!(" correlation-bytes={}", escape(bytes)),
        Some(other) => panic!("{other:?} is not a correlation id of MQTT"),
        None => {}
    }
    if let Some(reply_to) = &fields.reply_to {
        out += &format!(" reply={}", show_address(reply_to));
    }
    for (name, value) in &message.properties.0 {
        let Value::Text(value) = value else {
            panic!("user properties are text");
        };
        out += &format!(" property={}:{}", escape(name), escape(value));
    }
    if let Some(native) = &message.native {
        out += &format!(" native={}", native.head.len());
    }
    out + &format!(" body={}", escape(&message.body))
}

fn show_expiry(expiry: ClientExpiry) -> String {
    match expiry {
        ClientExpiry::WithConnection => "expiry=connection".to_owned(),
        ClientExpiry::AfterMs(ms) => format!("expiry={ms}ms"),
        ClientExpiry::Never => "expiry=never".to_owned(),
    }
}

fn show_filter(filter: &Filter) -> String {
    match filter {
        Filter::Exact(levels) => format!("exact:{}", show_levels(levels)),
        Filter::Pattern(_) => {
            let mut out = Vec::new();
            assert!(mqtt::encode_filter(filter, &mut out));
            format!("pattern:{}", escape(&out))
        }
        other => panic!("{other:?} is not a filter of MQTT"),
    }
}

fn show_source(source: &Source) -> String {
    match source {
        Source::Topic { filter } => show_filter(filter),
        Source::Shared { group, filter } => {
            format!("shared:{}:{}", escape(group), show_filter(filter))
        }
        Source::Named { name } => panic!(
            "MQTT names a queue or a stream, not '{}'",
            String::from_utf8_lossy(name)
        ),
        Source::Queue { name, create } => {
            format!(
                "queue:{}{}",
                escape(name),
                if *create { "" } else { " no-create" }
            )
        }
        Source::Stream { name, .. } => format!("stream:{}", escape(name)),
    }
}

fn show_options(options: SubscriptionOptions) -> String {
    let mut out = format!(" qos={}", options.qos);
    out += if options.no_local { " no-local" } else { "" };
    if options.retain_as_published {
        out += " retain-as-published";
    }
    out += match options.retain_replay {
        RetainReplay::Always => "",
        RetainReplay::IfNew => " replay=if-new",
        RetainReplay::Never => " replay=never",
    };
    if options.identifier != 0 {
        out += &format!(" identifier={}", options.identifier);
    }
    out
}

const fn show_outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accept => "accept",
        Outcome::Release => "release",
        Outcome::Reject => "reject",
        Outcome::ReleaseAfterMs(_) => "release-after",
        Outcome::Received => "received",
    }
}

fn show_range(range: &DeliveryRange) -> String {
    assert_eq!(range.queue, QUEUE);
    let ranges: Vec<String> = range
        .ranges
        .iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    ranges.join(",")
}
