//! The arguments of declarations, bindings and consumers: RabbitMQ's `x-` names as attributes of the core.
//!
//! | argument | becomes |
//! |---|---|
//! | `x-message-ttl` `x-expires` | `ttl_ms`, `expires_ms` |
//! | `x-max-length` `x-max-length-bytes` `x-overflow` | `length_max`, `bytes_max`, `overflow` |
//! | `x-dead-letter-exchange` `x-dead-letter-routing-key` | `dead_letter` |
//! | `x-max-priority` `x-single-active-consumer` | `priority_max`, `single_active_consumer` |
//! | `x-delivery-limit` N | `deliveries_max` N + 1: the limit counts failed deliveries, the core all of them |
//! | `x-max-message-bytes` | `message_len_max` |
//! | `x-queue-type` | `classic` and `quorum` are accepted and not told apart; `stream`: see `session/streams.rs` |
//! | `x-max-age` of a stream | `retention_ms`; without, records are kept for ever |
//!
//! | `x-dead-letter-strategy` | `keep_dead_letters`, if it is `at-least-once`. RabbitMQ wants `x-overflow` = `reject-publish` besides and else falls back; here what a full queue drops is dropped, and the rest is kept |
//! | `x-consumer-timeout` | refused: deliveries are never taken back for being old |
//!
//! `x-cancel-on-ha-failover` of a consumer is a boolean and means nothing, because no queue is mirrored.
//! `x-queue-mode`, `x-queue-version`, `x-queue-leader-locator`, `x-quorum-initial-group-size`, `x-max-in-memory-length` and
//! `-bytes` say where and how a cluster keeps a queue; there is one way here, and they are checked as far as RabbitMQ checks
//! them. Arguments that nobody knows are accepted, as there, but not those that begin with `x-bascule` or `bascule.`: they would be ours,
//! and there are none. What a redeclaration compares: `equivalence.rs`.

use bytes::Bytes;
use message::{Filter, HeaderMatch, Name, Properties, Value};
use session::{
    DeadLetter, ExchangeKind, ExchangeOptions, Overflow, QueueAttributes, QueueOptions,
    StreamAttributes,
};

use crate::{
    codec::{exchange, queue},
    equivalence::{self, Wanted},
    error::{Fault, ReplyCode},
    key,
};

/// Ten years, in ms: the longest time to live that RabbitMQ takes.
pub(crate) const TTL_MS_MAX: u64 = 315_360_000_000;

/// Reads a queue declaration. `of` is the queue as texts name it: `queue 'q' in vhost '/'`.
/// [AMQP-queue.declare.durable.persistence], [AMQP-queue.declare.durable.types], [AMQP-queue.declare.exclusive.types].
pub(crate) fn queue_options(
    declare: &queue::Declare,
    of: &str,
) -> Result<(QueueOptions, Wanted), Fault> {
    let arguments = Arguments {
        table: &declare.arguments,
        of,
    };
    arguments.refuse_ours()?;
    let ms = |name| arguments.unsigned(name, TTL_MS_MAX);
    let mut attributes = QueueAttributes {
        // [RABBIT-ttl-1]
        ttl_ms: ms("x-message-ttl")?,
        // [RABBIT-expires-1]
        expires_ms: ms("x-expires")?,
        // [RABBIT-length-1]
        length_max: arguments.unsigned("x-max-length", i64::MAX as u64)?,
        bytes_max: arguments.unsigned("x-max-length-bytes", i64::MAX as u64)?,
        message_len_max: arguments.unsigned("x-max-message-bytes", i64::MAX as u64)?,
        // [AMQP-basic.06], [RABBIT-priority-1]
        priority_max: arguments.priority_max()?,
        // [RABBIT-single-active-1]
        single_active_consumer: arguments.bool("x-single-active-consumer")?.unwrap_or(false),
        ..QueueAttributes::default()
    };
    if attributes.expires_ms == Some(0) {
        return Err(arguments.invalid("x-expires", "{value_zero,0}"));
    }
    // A limit of -1 is none.
    // [AMQP-basic.deliver.01], [RABBIT-delivery-limit-1]
    if arguments.first("x-delivery-limit").and_then(Value::as_i64) != Some(-1) {
        attributes.deliveries_max = arguments
            .unsigned("x-delivery-limit", u64::from(u32::MAX) - 1)?
            .map(|n| n as u32 + 1);
    }
    // [AMQP-basic.02], [RABBIT-overflow-1]
    attributes.overflow = match arguments.text("x-overflow")? {
        None | Some(b"drop-head") => Overflow::DropHead,
        Some(b"reject-publish") => Overflow::RejectPublish,
        Some(b"reject-publish-dlx") => Overflow::RejectPublishDeadLetter,
        Some(_) => return Err(arguments.invalid("x-overflow", "invalid_overflow")),
    };
    let dead_key = arguments
        .bytes("x-dead-letter-routing-key")?
        .map(|text| key::levels(&text));
    // [RABBIT-dead-letter-1]
    attributes.dead_letter = match (arguments.exchange("x-dead-letter-exchange")?, dead_key) {
        (Some(exchange), key) => Some(DeadLetter { exchange, key }),
        (None, None) => None,
        (None, Some(_)) => {
            return Err(arguments.invalid(
                "x-dead-letter-routing-key",
                "routing_key_but_no_dlx_defined",
            ));
        }
    };
    // [RABBIT-dead-letter-3]
    attributes.keep_dead_letters = arguments.keep_dead_letters()?;
    // [RABBIT-queue-type-1]
    match arguments.text("x-queue-type")? {
        None | Some(b"classic") => {}
        Some(b"quorum") if !declare.durable || declare.exclusive => {
            let property = if declare.durable {
                "exclusive"
            } else {
                "non-durable"
            };
            return Err(Fault::new(
                ReplyCode::PreconditionFailed,
                format!("invalid property '{property}' for {of}"),
            ));
        }
        Some(b"quorum") => {}
        Some(other) => {
            let why = format!("\"unsupported queue type '{}'\"", lossy(other));
            return Err(arguments.invalid("x-queue-type", &why));
        }
    }
    arguments.check_hints()?;
    let wanted = equivalence::of_queue(declare);
    let options = QueueOptions {
        durable: declare.durable,
        exclusive: declare.exclusive,
        auto_delete: declare.auto_delete,
        attributes,
        declaration: Some(wanted.queue_bytes()),
    };
    Ok((options, wanted))
}

/// Whether a declaration asks for a stream.
pub(crate) fn is_stream(declare: &queue::Declare) -> bool {
    matches!(
        declare.arguments.first(b"x-queue-type"),
        Some(Value::Text(kind) | Value::LongString(kind)) if &kind[..] == b"stream"
    )
}

/// Arguments of queues that say nothing of streams: RabbitMQ refuses them.
const NOT_OF_STREAMS: [&str; 11] = [
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-priority",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-max-message-bytes",
];

/// Reads the declaration of a stream. `of` as for [`queue_options`].
pub(crate) fn stream_options(
    declare: &queue::Declare,
    of: &str,
) -> Result<(StreamAttributes, Wanted), Fault> {
    let arguments = Arguments {
        table: &declare.arguments,
        of,
    };
    arguments.refuse_ours()?;
    let properties = [
        (!declare.durable, "non-durable"),
        (declare.exclusive, "exclusive"),
        (declare.auto_delete, "auto-delete"),
    ];
    if let Some((_, property)) = properties.into_iter().find(|(is, _)| *is) {
        return Err(Fault::new(
            ReplyCode::PreconditionFailed,
            format!("invalid property '{property}' for {of}"),
        ));
    }
    for name in NOT_OF_STREAMS {
        if arguments.first(name).is_some() {
            return Err(arguments.invalid(name, "it means nothing for queues of type stream"));
        }
    }
    // How RabbitMQ cuts its files, builds its filters and places its replicas; there is one way here.
    for (name, max) in [
        ("x-stream-max-segment-size-bytes", 3_000_000_000),
        ("x-stream-filter-size-bytes", 255),
        ("x-initial-cluster-size", i64::MAX as u64),
    ] {
        arguments.unsigned(name, max)?;
    }
    arguments.check_hints()?;
    let retention_ms = match arguments.text("x-max-age")? {
        None => u64::MAX,
        Some(text) => age_ms(text)
            .filter(|ms| *ms > 0)
            .ok_or_else(|| arguments.invalid("x-max-age", "{error,invalid_max_age}"))?,
    };
    let attributes = StreamAttributes {
        retention_ms,
        bytes_max: arguments.unsigned("x-max-length-bytes", i64::MAX as u64)?,
        ..StreamAttributes::default()
    };
    Ok((attributes, equivalence::of_queue(declare)))
}

/// An age as RabbitMQ writes it, in ms: a number and one of Y, M, D, h, m, s (a year is 365 days, a month 30).
pub(crate) fn age_ms(text: &[u8]) -> Option<u64> {
    let (unit, digits) = text.split_last()?;
    let unit_ms: u64 = match unit {
        b'Y' => 365 * 86_400_000,
        b'M' => 30 * 86_400_000,
        b'D' => 86_400_000,
        b'h' => 3_600_000,
        b'm' => 60_000,
        b's' => 1_000,
        _ => return None,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    number.checked_mul(unit_ms)
}

/// Reads an exchange declaration. `of` is the exchange as texts name it.
/// [AMQP-exchange.required-types], [AMQP-exchange.recommended-types], [AMQP-exchange.declare.durable.support].
pub(crate) fn exchange_options(
    declare: &exchange::Declare,
    of: &str,
) -> Result<(ExchangeOptions, Wanted), Fault> {
    let kind = match &declare.kind[..] {
        b"direct" => ExchangeKind::Direct,
        b"fanout" => ExchangeKind::Fanout,
        b"topic" => ExchangeKind::Topic,
        b"headers" => ExchangeKind::Headers,
        // A passive declare looks for the name only, and may leave the type empty.
        _ if declare.passive => ExchangeKind::Direct,
        other => {
            return Err(Fault::new(
                // [AMQP-exchange.declare.type.support]
                ReplyCode::PreconditionFailed,
                format!("unknown exchange type '{}'", lossy(other)),
            ));
        }
    };
    let arguments = Arguments {
        table: &declare.arguments,
        of,
    };
    arguments.refuse_ours()?;
    // [RABBIT-alternate-1]
    let alternate = arguments.exchange("alternate-exchange")?;
    let wanted = equivalence::of_exchange(declare, kind);
    let options = ExchangeOptions {
        kind,
        durable: declare.durable,
        auto_delete: declare.auto_delete,
        internal: declare.internal,
        alternate,
        declaration: Some(wanted.exchange_bytes()),
    };
    Ok((options, wanted))
}

/// A consumer's priority. `of` is its queue as texts name it.
pub(crate) fn consumer_priority(table: &Properties, of: &str) -> Result<i32, Fault> {
    let arguments = Arguments { table, of };
    arguments.refuse_ours()?;
    arguments.check_not_timed()?;
    // It speaks of mirrored queues only, of which there are none: nothing follows from it, as in RabbitMQ for other queues.
    arguments.bool("x-cancel-on-ha-failover")?;
    let Some(value) = arguments.first("x-priority") else {
        return Ok(0);
    };
    let n = arguments.integer("x-priority", value)?;
    // Nobody ranks consumers finer; what is beyond either end counts as the end.
    Ok(n.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
}

/// The headers filter that a binding's arguments spell, if they hold `x-match` or `always` is set.
pub(crate) fn headers_filter(table: &Properties, always: bool) -> Result<Option<Filter>, Fault> {
    let matching = match table.first(b"x-match") {
        None if !always => return Ok(None),
        None => HeaderMatch::All,
        Some(Value::Text(text)) => match &text[..] {
            b"all" => HeaderMatch::All,
            b"any" => HeaderMatch::Any,
            b"all-with-x" => HeaderMatch::AllWithX,
            b"any-with-x" => HeaderMatch::AnyWithX,
            other => {
                return Err(x_match(
                    &format!("value <<\"{}\">>", lossy(other)),
                    "all, any, all-with-x, or any-with-x",
                ));
            }
        },
        Some(other) => {
            return Err(x_match(&format!("type {}", type_name(other)), "longstr"));
        }
    };
    let mut arguments = table.clone();
    while arguments.take(b"x-match").is_some() {}
    Ok(Some(Filter::Headers {
        matching,
        arguments,
    }))
}

fn x_match(what: &str, expected: &str) -> Fault {
    Fault::new(
        ReplyCode::PreconditionFailed,
        format!("Invalid x-match field {what}; expected {expected}"),
    )
}

pub(crate) fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Typed access to a table of arguments, with RabbitMQ's complaints.
struct Arguments<'a> {
    table: &'a Properties,
    of: &'a str,
}

impl Arguments<'_> {
    fn first(&self, name: &str) -> Option<&Value> {
        self.table.first(name.as_bytes())
    }

    fn invalid(&self, name: &str, why: &str) -> Fault {
        Fault::new(
            ReplyCode::PreconditionFailed,
            format!("invalid arg '{name}' for {}: {why}", self.of),
        )
    }

    /// What is named as this broker's own and is not known: a slip, and never another broker's argument.
    fn refuse_ours(&self) -> Result<(), Fault> {
        let is_ours = |name: &[u8]| name.starts_with(b"x-bascule") || name.starts_with(b"bascule.");
        match self.table.0.iter().find(|(name, _)| is_ours(name)) {
            Some((name, _)) => Err(self.invalid(&lossy(name), "there is no such argument")),
            None => Ok(()),
        }
    }

    fn unacceptable(&self, name: &str, value: &Value) -> Fault {
        let why = format!("{{unacceptable_type,{}}}", type_name(value));
        self.invalid(name, &why)
    }

    fn integer(&self, name: &str, value: &Value) -> Result<i64, Fault> {
        value.as_i64().ok_or_else(|| {
            let why = format!("\"expected integer, got {}\"", type_name(value));
            self.invalid(name, &why)
        })
    }

    fn unsigned(&self, name: &str, max: u64) -> Result<Option<u64>, Fault> {
        let Some(value) = self.first(name) else {
            return Ok(None);
        };
        let n = self.integer(name, value)?;
        match u64::try_from(n) {
            Ok(n) if n <= max => Ok(Some(n)),
            Ok(n) => Err(self.invalid(name, &format!("{{value_too_large,{n}}}"))),
            Err(_) => Err(self.invalid(name, &format!("{{value_negative,{n}}}"))),
        }
    }

    fn priority_max(&self) -> Result<Option<u8>, Fault> {
        let name = "x-max-priority";
        match self.unsigned(name, i64::MAX as u64)? {
            None | Some(0) => Ok(None),
            Some(n) => match u8::try_from(n) {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(self.invalid(name, &format!("{{max_value_exceeded,{n}}}"))),
            },
        }
    }

    /// What says nothing here beyond being well formed, and what is not built.
    fn check_hints(&self) -> Result<(), Fault> {
        for name in [
            "x-max-in-memory-length",
            "x-max-in-memory-bytes",
            "x-queue-version",
        ] {
            self.unsigned(name, i64::MAX as u64)?;
        }
        let name = "x-quorum-initial-group-size";
        if self.unsigned(name, i64::MAX as u64)? == Some(0) {
            return Err(self.invalid(name, "{value_zero,0}"));
        }
        match self.text("x-queue-leader-locator")? {
            None | Some(b"client-local" | b"balanced") => {}
            Some(_) => {
                return Err(self.invalid("x-queue-leader-locator", "invalid_queue_locator_arg"));
            }
        }
        self.check_not_timed()
    }

    /// Whether dead letters are kept until they are taken.
    fn keep_dead_letters(&self) -> Result<bool, Fault> {
        let name = "x-dead-letter-strategy";
        match self.text(name)? {
            None | Some(b"at-most-once") => Ok(false),
            Some(b"at-least-once") => Ok(true),
            Some(_) => Err(self.invalid(name, "invalid_dlx_strategy")),
        }
    }

    fn check_not_timed(&self) -> Result<(), Fault> {
        let name = "x-consumer-timeout";
        match self.first(name) {
            None => Ok(()),
            Some(_) => Err(self.invalid(name, "it is not implemented")),
        }
    }

    fn bool(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.first(name) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(self.unacceptable(name, other)),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&[u8]>, Fault> {
        match self.first(name) {
            None => Ok(None),
            Some(Value::Text(text) | Value::LongString(text)) => Ok(Some(text)),
            Some(other) => Err(self.unacceptable(name, other)),
        }
    }

    /// A name: at most a short string long.
    fn bytes(&self, name: &str) -> Result<Option<Name>, Fault> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) if text.len() <= crate::codec::Short::LEN_MAX => {
                Ok(Some(Bytes::copy_from_slice(text)))
            }
            Some(_) => Err(self.invalid(name, "{value_too_long}")),
        }
    }

    /// An exchange's name.
    fn exchange(&self, name: &str) -> Result<Option<Name>, Fault> {
        match self.first(name) {
            None | Some(Value::Text(_) | Value::LongString(_)) => self.bytes(name),
            Some(other) => Err(Fault::new(
                ReplyCode::PreconditionFailed,
                format!(
                    "invalid type '{}' for arg '{name}' in {}",
                    type_name(other),
                    self.of
                ),
            )),
        }
    }
}

/// RabbitMQ's word for a value's type.
pub(crate) const fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "void",
        Value::Bool(_) => "bool",
        Value::I8(_) => "byte",
        Value::U8(_) => "unsignedbyte",
        Value::I16(_) => "short",
        Value::U16(_) => "unsignedshort",
        Value::I32(_) => "signedint",
        Value::U32(_) => "unsignedint",
        Value::I64(_) | Value::U64(_) => "long",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::TimeSeconds(_) | Value::Time(_) => "timestamp",
        Value::List(_) | Value::Array(_) => "array",
        Value::Map(_) => "table",
        Value::Bytes(_) => "binary",
        _ => "longstr",
    }
}
