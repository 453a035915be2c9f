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
//! | `x-queue-type` | `classic` and `quorum` are accepted and not told apart; `stream` is refused |
//!
//! Other arguments are accepted and mean nothing, as in RabbitMQ. What a redeclaration compares are the flags and the
//! arguments of this table, in one canonical form: sorted by name, integers of every width alike.

use bytes::{Bytes, BytesMut};
use message::{Filter, HeaderMatch, Name, Properties, Value};
use session::{DeadLetter, ExchangeKind, ExchangeOptions, Overflow, QueueAttributes, QueueOptions};

use crate::{
    codec::{exchange, put_table, queue},
    error::{Fault, ReplyCode},
    key,
};

/// Reads a queue declaration. `of` is the queue as texts name it: `queue 'q' in vhost '/'`.
/// [AMQP-queue.declare.durable.persistence], [AMQP-queue.declare.durable.types], [AMQP-queue.declare.exclusive.types].
pub(crate) fn queue_options(declare: &queue::Declare, of: &str) -> Result<QueueOptions, Fault> {
    let arguments = Arguments {
        table: &declare.arguments,
        of,
    };
    let ms = |name| arguments.unsigned(name, u64::from(u32::MAX));
    let mut attributes = QueueAttributes {
        // [RABBIT-ttl-1]
        ttl_ms: ms("x-message-ttl")?,
        // [RABBIT-expires-1]
        expires_ms: ms("x-expires")?,
        // [RABBIT-length-1]
        length_max: arguments.unsigned("x-max-length", i64::MAX as u64)?,
        bytes_max: arguments.unsigned("x-max-length-bytes", i64::MAX as u64)?,
        message_len_max: arguments.unsigned("x-max-message-bytes", i64::MAX as u64)?,
        priority_max: arguments
            // [AMQP-basic.06], [RABBIT-priority-1]
            .unsigned("x-max-priority", 255)?
            .map(|n| n as u8)
            .filter(|n| *n > 0),
        // [RABBIT-single-active-1]
        single_active_consumer: arguments.bool("x-single-active-consumer")?.unwrap_or(false),
        ..QueueAttributes::default()
    };
    if attributes.expires_ms == Some(0) {
        return Err(arguments.invalid("x-expires", "0", "{value_zero,0}"));
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
        Some(other) => {
            return Err(arguments.invalid("x-overflow", &lossy(other), "invalid_overflow"));
        }
    };
    let dead_key = arguments
        .bytes("x-dead-letter-routing-key")?
        .map(|text| key::levels(&text));
    // [RABBIT-dead-letter-1]
    attributes.dead_letter = match (arguments.bytes("x-dead-letter-exchange")?, dead_key) {
        (Some(exchange), key) => Some(DeadLetter { exchange, key }),
        (None, None) => None,
        (None, Some(_)) => {
            return Err(arguments.invalid(
                "x-dead-letter-routing-key",
                "",
                "routing_key_but_no_dlx_defined",
            ));
        }
    };
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
        Some(b"stream") => {
            return Err(Fault::new(
                ReplyCode::NotImplemented,
                "queues of type stream",
            ));
        }
        Some(other) => {
            return Err(arguments.invalid("x-queue-type", &lossy(other), "unsupported_queue_type"));
        }
    }
    let flags = u8::from(declare.durable)
        | u8::from(declare.exclusive) << 1
        | u8::from(declare.auto_delete) << 2;
    Ok(QueueOptions {
        durable: declare.durable,
        exclusive: declare.exclusive,
        auto_delete: declare.auto_delete,
        attributes,
        declaration: Some(declaration(
            b"queue",
            flags,
            &declare.arguments,
            &QUEUE_ARGUMENTS,
        )),
    })
}

const QUEUE_ARGUMENTS: [&[u8]; 12] = [
    b"x-message-ttl",
    b"x-expires",
    b"x-max-length",
    b"x-max-length-bytes",
    b"x-max-message-bytes",
    b"x-max-priority",
    b"x-single-active-consumer",
    b"x-delivery-limit",
    b"x-overflow",
    b"x-dead-letter-exchange",
    b"x-dead-letter-routing-key",
    b"x-queue-type",
];

/// Reads an exchange declaration. `of` is the exchange as texts name it.
/// [AMQP-exchange.required-types], [AMQP-exchange.recommended-types], [AMQP-exchange.declare.durable.support].
pub(crate) fn exchange_options(
    declare: &exchange::Declare,
    of: &str,
) -> Result<ExchangeOptions, Fault> {
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
                ReplyCode::CommandInvalid,
                format!("unknown exchange type '{}'", lossy(other)),
            ));
        }
    };
    let arguments = Arguments {
        table: &declare.arguments,
        of,
    };
    // [RABBIT-alternate-1]
    let alternate = arguments.bytes("alternate-exchange")?;
    let flags = u8::from(declare.durable)
        | u8::from(declare.internal) << 1
        | u8::from(declare.auto_delete) << 2
        | (kind as u8) << 3;
    Ok(ExchangeOptions {
        kind,
        durable: declare.durable,
        auto_delete: declare.auto_delete,
        internal: declare.internal,
        alternate,
        declaration: Some(declaration(
            b"exchange",
            flags,
            &declare.arguments,
            &[b"alternate-exchange"],
        )),
    })
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
            other => return Err(x_match(&lossy(other))),
        },
        Some(other) => return Err(x_match(&format!("{other:?}"))),
    };
    let mut arguments = table.clone();
    while arguments.take(b"x-match").is_some() {}
    Ok(Some(Filter::Headers {
        matching,
        arguments,
    }))
}

fn x_match(value: &str) -> Fault {
    Fault::new(
        ReplyCode::PreconditionFailed,
        format!(
            "Invalid x-match field value {value}; expected all, any, all-with-x, or any-with-x"
        ),
    )
}

/// A table as bytes that are equal when the tables mean the same: for the identity of bindings.
pub(crate) fn canonical(table: &Properties) -> Bytes {
    let mut sorted: Vec<(Bytes, Value)> = table
        .0
        .iter()
        .map(|(name, value)| (name.clone(), canonical_value(value)))
        .collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = BytesMut::new();
    if !sorted.is_empty() {
        put_table(&mut out, &Properties(sorted));
    }
    out.freeze()
}

/// [AMQP-queue.declare.auto-delete.pre-existence].
fn declaration(what: &[u8], flags: u8, table: &Properties, compared: &[&[u8]]) -> Bytes {
    let compared = Properties(
        table
            .0
            .iter()
            .filter(|(name, value)| {
                // A queue is classic unless it says otherwise, so saying so is no difference.
                compared.contains(&&name[..])
                    && !(&name[..] == b"x-queue-type" && value.as_str() == Some("classic"))
            })
            .cloned()
            .collect(),
    );
    let mut out = BytesMut::from(what);
    out.extend_from_slice(&[0, flags]);
    out.extend_from_slice(&canonical(&compared));
    out.freeze()
}

fn canonical_value(value: &Value) -> Value {
    match value.as_i64() {
        Some(n) => Value::I64(n),
        None => value.clone(),
    }
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

    fn invalid(&self, name: &str, value: &str, why: &str) -> Fault {
        Fault::new(
            ReplyCode::PreconditionFailed,
            format!("invalid arg '{name}' for {}: {value:?} {why}", self.of),
        )
    }

    fn unacceptable(&self, name: &str, value: &Value) -> Fault {
        Fault::new(
            ReplyCode::PreconditionFailed,
            format!(
                "invalid arg '{name}' for {}: {{unacceptable_type,{}}}",
                self.of,
                type_name(value)
            ),
        )
    }

    fn unsigned(&self, name: &str, max: u64) -> Result<Option<u64>, Fault> {
        let Some(value) = self.first(name) else {
            return Ok(None);
        };
        let Some(n) = value.as_i64() else {
            return Err(self.unacceptable(name, value));
        };
        match u64::try_from(n) {
            Ok(n) if n <= max => Ok(Some(n)),
            Ok(n) => Err(self.out_of_range(name, &format!("value_too_large,{n}"))),
            Err(_) => Err(self.out_of_range(name, &format!("value_negative,{n}"))),
        }
    }

    fn out_of_range(&self, name: &str, why: &str) -> Fault {
        Fault::new(
            ReplyCode::PreconditionFailed,
            format!("invalid arg '{name}' for {}: {{{why}}}", self.of),
        )
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
            Some(_) => Err(self.out_of_range(name, "value_too_long")),
        }
    }
}

/// RabbitMQ's word for a value's type.
const fn type_name(value: &Value) -> &'static str {
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
