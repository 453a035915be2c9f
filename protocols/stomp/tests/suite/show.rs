//! One line for each command, and an event from one line: the words of the dialogues.
//!
//! ```text
//! authenticated USER                     published #TOKEN MATCHED | published #TOKEN refused KIND DETAIL
//! publish-refused KIND DETAIL
//! refused #TOKEN KIND DETAIL             declared #TOKEN NAME
//! subscribed|settled|reached|unsubscribed|committed #TOKEN
//! cancelled CONSUMER                     blocked REASON | unblocked
//! closing REASON                         delivery CONSUMER QUEUE.QSEQ|settled ADDRESS [WORD...] BODY
//! ```
//! Words of a delivery: `redelivered`, `durable`, `retain`, `NAME=VALUE` (a text property), `NAME=#NUMBER`, `NAME=!HEX`
//! (bytes), `content-type:VALUE`, `correlation-id:VALUE`, `reply-to:ADDRESS`, `priority:N`, `expires:N`, `created:N`, `died:QUEUE`.

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;
use message::{
    Address, BodyKind, Filter, FilterLevel, Kind, Levels, Message, Timestamp, Value, VhostId,
};
use session::{
    Active, CloseReason, Command, ConsumerId, Credentials, Credit, Death, DeathReason, Declare,
    Delivery, DeliveryId, DeliveryRange, Event, Operation, Publish, PublishOutcome, QueueId,
    Refusal, RefusalKind, Settle, Source, Token, Unlike,
};

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn levels(levels: &Levels) -> String {
    let parts: Vec<String> = levels.iter().map(text).collect();
    format!("[{}]", parts.join(", "))
}

fn address(address: &Address) -> String {
    match address.kind {
        Kind::Queue => format!("queue {}", text(&address.name)),
        Kind::Topic => format!("topic {}", levels(&address.key)),
        Kind::Stream => format!("stream {}", text(&address.name)),
        Kind::Exchange => format!("exchange {} {}", text(&address.name), levels(&address.key)),
    }
}

fn token(token: Option<Token>) -> String {
    token.map_or_else(String::new, |token| format!(" #{}", token.0))
}

fn value(value: &Value) -> String {
    match value {
        Value::Text(value) => text(value),
        other => format!("{other:?}"),
    }
}

fn message(message: &Message) -> String {
    let mut out = address(&message.address);
    let mut word = |word: String| {
        let _ = write!(out, " {word}");
    };
    if message.durable {
        word("durable".to_owned());
    }
    if message.retain {
        word("retain".to_owned());
    }
    if let Some(priority) = message.priority {
        word(format!("priority:{priority}"));
    }
    if let Some(expiry) = message.expiry {
        word(format!("expires:{}", expiry.0));
    }
    if let Some(created) = message.created {
        word(format!("created:{}", created.0));
    }
    if message.delay_ms > 0 {
        word(format!("delay:{}", message.delay_ms));
    }
    let fields = message.fields();
    for (name, field) in [
        ("content-type", &fields.content_type),
        ("content-encoding", &fields.content_encoding),
        ("user-id", &fields.user_id),
        ("app-id", &fields.app_id),
        ("subject", &fields.subject),
        ("group", &message.group),
        ("dedup-id", &fields.dedup_id),
        ("traceparent", &fields.trace_parent),
        ("tracestate", &fields.trace_state),
    ] {
        if let Some(field) = field {
            word(format!("{name}:{}", text(field)));
        }
    }
    for (name, field) in [
        ("message-id", &fields.message_id),
        ("correlation-id", &fields.correlation_id),
    ] {
        if let Some(field) = field {
            word(format!("{name}:{}", value(field)));
        }
    }
    if let Some(reply_to) = &fields.reply_to {
        word(format!("reply-to:({})", address(reply_to)));
    }
    if let Some(sequence) = fields.group_sequence {
        word(format!("group-sequence:{sequence}"));
    }
    for (name, property) in &message.properties.0 {
        word(format!("{}={}", text(name), value(property)));
    }
    let kind = match message.body_kind {
        BodyKind::Text => "text",
        BodyKind::Bytes => "bytes",
        _ => "other",
    };
    word(format!("{kind} \"{}\"", text(&message.body)));
    out
}

fn publish(publish: &Publish) -> String {
    assert!(publish.or_stream, "a bare name may be a stream's");
    let create = if publish.create { " create" } else { "" };
    let message = message(&publish.message);
    format!("publish{}{create} {message}", token(publish.token))
}

fn range(range: &DeliveryRange) -> String {
    let parts: Vec<String> = range
        .ranges
        .iter()
        .map(|(first, last)| format!("{first}..{last}"))
        .collect();
    format!("{}:{}", range.queue.0, parts.join(","))
}

fn settle(settle: &Settle) -> String {
    let range = range(&settle.deliveries);
    format!("settle{} {:?} {range}", token(settle.token), settle.outcome)
}

fn filter(what: &Filter) -> String {
    match what {
        Filter::Pattern(pattern) => {
            let parts: Vec<String> = pattern
                .0
                .iter()
                .map(|level| match level {
                    FilterLevel::Exact(level) => format!("'{}'", text(level)),
                    FilterLevel::One => "*".to_owned(),
                    FilterLevel::Many => "#".to_owned(),
                })
                .collect();
            parts.join(" ")
        }
        Filter::Selected { pattern, selector } => {
            let pattern = filter(&Filter::Pattern(pattern.clone()));
            format!("{pattern} where {}", selector.text())
        }
        other => format!("{other:?}"),
    }
}

fn declare(declare: &Declare) -> String {
    match declare {
        Declare::Queue { name, options, .. } => {
            let mut out = format!("queue '{}'", text(name));
            for (flag, word) in [
                (options.durable, " durable"),
                (options.exclusive, " exclusive"),
                (options.auto_delete, " auto-delete"),
            ] {
                if flag {
                    out.push_str(word);
                }
            }
            if options.attributes != session::QueueAttributes::default() {
                let attributes = &options.attributes;
                let _ = write!(
                    out,
                    " ttl={:?} length={:?} deliveries={:?} dead-letter={}",
                    attributes.ttl_ms,
                    attributes.length_max,
                    attributes.deliveries_max,
                    attributes.dead_letter.is_some()
                );
            }
            out
        }
        Declare::Bind(binding) => format!(
            "bind {:?} to {} by {} or {}",
            binding.target,
            text(&binding.exchange),
            filter(&binding.filter),
            levels(&binding.key)
        ),
        Declare::Exchange {
            name,
            passive: true,
            ..
        } => format!("look for exchange '{}'", text(name)),
        Declare::DeleteQueue { name, .. } => format!("delete queue '{}'", text(name)),
        other => format!("{other:?}"),
    }
}

/// A command as one line.
pub(crate) fn command(command: &Command) -> String {
    match command {
        Command::Authenticate(ask) => {
            let who = match &ask.credentials {
                Credentials::Anonymous => "anonymous".to_owned(),
                Credentials::Plain { user, password } => format!("{user}:{}", text(password)),
                other => unreachable!("STOMP does not say {other:?}"),
            };
            let fallback = if ask.vhost_fallback {
                " or default"
            } else {
                ""
            };
            let vhost = ask.vhost.as_deref().unwrap_or("-");
            let client = text(&ask.client);
            format!(
                "authenticate {who} host {vhost}{fallback} {} client '{client}'",
                ask.protocol
            )
        }
        Command::Declare {
            token,
            declare: what,
            ..
        } => format!("declare #{} {}", token.0, declare(what)),
        Command::Publish(what) => publish(what),
        Command::Subscribe(what) => {
            let source = match &what.source {
                Source::Queue { name, create } => {
                    assert!(!create, "a bare name may be a stream's");
                    format!("queue '{}'", text(name))
                }
                Source::Named { name } => format!("named '{}'", text(name)),
                Source::Stream { name, from, group } => {
                    let group = group
                        .as_ref()
                        .map(|group| format!(" group '{}'", text(group)));
                    format!(
                        "stream '{}' from {from:?}{}",
                        text(name),
                        group.unwrap_or_default()
                    )
                }
                other => return format!("{other:?}"),
            };
            let credit = match what.credit {
                Credit::Window(window) => format!("window {window}"),
                other => format!("{other:?}"),
            };
            let priority = match what.priority {
                0 => String::new(),
                priority => format!(" priority {priority}"),
            };
            let exclusive = if what.exclusive { " exclusive" } else { "" };
            format!(
                "subscribe #{} consumer {} {source} {credit}{priority}{exclusive}",
                what.token.0, what.consumer.0,
            )
        }
        Command::Stream {
            token, name, to, ..
        } => format!("stream #{} '{}' {to:?}", token.0, text(name)),
        Command::Cancel {
            token, consumer, ..
        } => format!("cancel #{} consumer {}", token.0, consumer.0),
        Command::Settle(what) => settle(what),
        Command::Transact(what) => {
            let steps: Vec<String> = what
                .operations
                .iter()
                .map(|operation| match operation {
                    Operation::Publish(what) => publish(what),
                    Operation::Settle(what) => settle(what),
                })
                .collect();
            format!("transact #{} {{{}}}", what.token.0, steps.join("; "))
        }
        Command::Fence { token, .. } => format!("fence #{}", token.0),
        other => format!("{other:?}"),
    }
}

fn read_token(word: &str) -> Token {
    let number = word
        .strip_prefix('#')
        .and_then(|number| number.parse().ok());
    Token(number.unwrap_or_else(|| panic!("'{word}' is no token")))
}

/// `at=HOST:PORT`: a node with its STOMP door there, and another elsewhere.
fn active(word: &str) -> Arc<Active> {
    let address = word.strip_prefix("at=").expect("at=HOST:PORT");
    let addresses = [("http", "other:8161"), ("stomp", address)];
    Arc::new(Active {
        addresses: addresses.map(|(name, at)| (name.into(), at.into())).into(),
    })
}

fn read_refusal(words: &[&str]) -> Refusal {
    if words[0] == "NotActive" {
        return Refusal::not_active(words.get(1).map(|at| active(at)));
    }
    let kind = match words[0] {
        "BadCredentials" => RefusalKind::BadCredentials,
        "AccessDenied" => RefusalKind::AccessDenied,
        "Unexplained" => RefusalKind::Unexplained,
        "NotFound" => RefusalKind::NotFound,
        "InUse" => RefusalKind::InUse,
        "InvalidArgument" => RefusalKind::InvalidArgument,
        "QueueFull" => RefusalKind::QueueFull,
        "Locked" => RefusalKind::Locked,
        "Inequivalent" => RefusalKind::Inequivalent,
        other => panic!("unknown refusal {other}"),
    };
    let refusal = Refusal::new(kind, words[1..].join(" "));
    let mut known = ["length_max", "auto_delete"].into_iter();
    let property = known.find(|it| words.last() == Some(it));
    refusal.but_unlike(property.map(|property| Unlike {
        property,
        current: None,
    }))
}

/// `queue:NAME`, `topic:A.B`, `exchange:NAME:KEY`.
fn read_address(word: &str) -> Address {
    let (kind, rest) = word.split_once(':').expect("kind:name");
    let bytes = |text: &str| Bytes::from(unescape(text));
    let key = |text: &str| Levels::split(bytes(text), b'.').expect("short");
    match kind {
        "queue" => Address::queue(VhostId::ROOT, bytes(rest)),
        "topic" => Address::topic(VhostId::ROOT, key(rest)),
        "stream" => Address::stream(VhostId::ROOT, bytes(rest), Levels::none()),
        "exchange" => {
            let (name, rest) = rest.split_once(':').expect("exchange:name:key");
            Address::exchange(VhostId::ROOT, bytes(name), key(rest))
        }
        other => panic!("unknown kind {other}"),
    }
}

/// Undoes `\n`, `\r`, `\0`, `\s` (a space), `\\` and `\xHH`.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b's') => out.push(b' '),
            Some(b'0') => out.push(0),
            Some(b'x') => {
                let digits = [bytes.next(), bytes.next()].map(|digit| {
                    let digit = digit.and_then(|digit| (digit as char).to_digit(16));
                    digit.expect("two hexadecimal digits") as u8
                });
                out.push(digits[0] << 4 | digits[1]);
            }
            Some(other) => out.push(other),
            None => panic!("a backslash at the end of '{text}'"),
        }
    }
    out
}

fn delivery(words: &[&str]) -> Delivery {
    let consumer = ConsumerId(words[0].parse().expect("a consumer"));
    let id = (words[1] != "settled").then(|| {
        let (queue, qseq) = words[1].split_once('.').expect("queue.qseq");
        DeliveryId {
            queue: QueueId(queue.parse().expect("a queue")),
            qseq: qseq.parse().expect("a number"),
        }
    });
    let mut message = Message::new(read_address(words[2]), Bytes::new());
    let mut delivery = Delivery {
        consumer,
        id,
        message: Arc::new(message.clone()),
        count: 1,
        redelivered: false,
        resent: false,
        qos: 0,
        retain: false,
        subscriptions: Default::default(),
        enqueued: Timestamp(0),
        deaths: None,
        readdressed: None,
        first_delivered: None,
        via: None,
        first: None,
        record: None,
    };
    let (body, options) = words[3..].split_last().expect("a body");
    for word in options {
        if let Some((name, value)) = word.split_once('=') {
            let value = match (value.strip_prefix('#'), value.strip_prefix('!')) {
                (Some(number), _) => Value::I64(number.parse().expect("a number")),
                (_, Some(bytes)) => Value::Bytes(Bytes::from(unescape(bytes))),
                _ => Value::Text(Bytes::from(unescape(value))),
            };
            message.properties.push(unescape(name), value);
            continue;
        }
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let bytes = || Bytes::from(unescape(value));
        let number = || value.parse().expect("a number");
        match name {
            "record" => {
                delivery.record = Some(session::RecordPlace {
                    stream: session::StreamId(1),
                    shard: session::ShardNo(0),
                    shard_opened: Timestamp(0),
                    offset: number(),
                });
            }
            "redelivered" => (delivery.redelivered, delivery.count) = (true, 2),
            "durable" => message.durable = true,
            "retain" => delivery.retain = true,
            "content-type" => message.fields_mut().content_type = Some(bytes()),
            "correlation-id" => {
                message.fields_mut().correlation_id = Some(Value::Text(bytes()));
            }
            "message-id" => message.fields_mut().message_id = Some(Value::Text(bytes())),
            "reply-to" => message.fields_mut().reply_to = Some(read_address(value)),
            "priority" => message.priority = Some(value.parse().expect("a number")),
            "expires" => message.expiry = Some(Timestamp(number())),
            "created" => message.created = Some(Timestamp(number())),
            "readdressed" => delivery.readdressed = Some(Arc::new(read_address(value))),
            "died" => {
                delivery.deaths = Some(Arc::new(vec![Death {
                    queue: bytes(),
                    reason: DeathReason::Expired,
                    count: 1,
                    time: Timestamp(0),
                    exchange: Bytes::new(),
                    key: Levels::none(),
                    original_ttl_ms: None,
                }]));
            }
            other => panic!("unknown word {other}"),
        }
    }
    message.body = Bytes::from(unescape(body));
    delivery.message = Arc::new(message);
    delivery
}

/// An event from one line.
pub(crate) fn event(line: &str) -> Event {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[0] {
        "authenticated" => Event::Authenticated {
            token: Token(0),
            vhost: VhostId::ROOT,
            vhost_name: "/".into(),
            user: words[1].into(),
            secret: session::Secret([0; 32]),
        },
        "published" => Event::Published {
            token: read_token(words[1]),
            outcome: match words[2] {
                "refused" => PublishOutcome::Refused(read_refusal(&words[3..])),
                "duplicate" => PublishOutcome::Duplicate { of: None },
                matched => PublishOutcome::Accepted {
                    matched: matched.parse().expect("a number"),
                    place: None,
                    record: None,
                    sequence: None,
                },
            },
        },
        "accepted" => Event::Accepted {
            tokens: words[1..].iter().map(|word| read_token(word)).collect(),
        },
        "publish-refused" => Event::PublishRefused {
            lane: session::Lane(0),
            refusal: read_refusal(&words[1..]),
        },
        "refused" => Event::Refused {
            token: read_token(words[1]),
            refusal: read_refusal(&words[2..]),
        },
        "declared" => Event::Declared {
            token: read_token(words[1]),
            name: Bytes::from(words[2].to_owned()),
            messages: 0,
            consumers: 0,
        },
        "subscribed" => Event::Subscribed {
            token: read_token(words[1]),
        },
        "unsubscribed" => Event::Unsubscribed {
            token: read_token(words[1]),
            existed: true,
        },
        "settled" => Event::Settled {
            token: read_token(words[1]),
            known: 1,
        },
        "reached" => Event::Reached {
            token: read_token(words[1]),
        },
        "committed" => Event::Committed {
            token: read_token(words[1]),
            returned: Vec::new(),
        },
        "cancelled" => Event::Cancelled {
            consumer: ConsumerId(words[1].parse().expect("a number")),
            revoked: words.get(2) == Some(&"revoked"),
        },
        "blocked" | "unblocked" => Event::Blocked {
            blocked: words[0] == "blocked",
            reason: "the disk is full",
        },
        "closing" => Event::Closing {
            reason: match words[1] {
                "Shutdown" => CloseReason::Shutdown,
                "NotActive" => CloseReason::NotActive(words.get(2).map(|at| active(at))),
                "TakenOver" => CloseReason::TakenOver,
                "Administrative" => CloseReason::Administrative,
                "Internal" => CloseReason::Internal,
                other => panic!("unknown reason {other}"),
            },
        },
        "delivery" => Event::Delivery(Arc::new(delivery(&words[1..]))),
        other => panic!("unknown event {other}"),
    }
}
