//! What a declaration says, in the form in which two are compared, and which of its words differs from what is there.
//!
//! ```text
//! "queue" 00 flags table          flags: 1 durable, 2 exclusive, 4 auto-delete
//! "exchange" 00 flags table       flags: 1 durable, 2 internal, 4 auto-delete, 8 and up the type
//! ```
//! The table holds the compared arguments only, sorted by name, integers of every width alike, so that equal declarations
//! are equal bytes. The first difference is told as RabbitMQ words it, in its order: flags first, then arguments.

use bytes::{Bytes, BytesMut};
use message::{Properties, Value};
use session::{ExchangeKind, Unlike};

use crate::{
    arguments::type_name,
    codec::{exchange, put_table, queue, read_table},
};

/// Compared arguments of queues, in the order in which differences are told.
const QUEUE_ARGUMENTS: [&[u8]; 14] = [
    b"x-expires",
    b"x-message-ttl",
    b"x-dead-letter-exchange",
    b"x-dead-letter-routing-key",
    b"x-max-length",
    b"x-max-length-bytes",
    b"x-max-priority",
    b"x-overflow",
    b"x-single-active-consumer",
    b"x-queue-type",
    b"x-delivery-limit",
    b"x-max-message-bytes",
    b"x-max-age",
    b"x-dead-letter-strategy",
];
const EXCHANGE_ARGUMENTS: [&[u8]; 1] = [b"alternate-exchange"];

const QUEUE: &[u8] = b"queue\0";
const EXCHANGE: &[u8] = b"exchange\0";

/// What a peer asked for, kept until the core has answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    flags: u8,
    arguments: Properties,
}

/// A queue's declaration, compared and kept. [AMQP-queue.declare.auto-delete.pre-existence]
pub(crate) fn of_queue(declare: &queue::Declare) -> Wanted {
    // An exclusive queue goes with its connection whatever else it is called, so durable or not is no difference.
    Wanted {
        flags: u8::from(declare.durable && !declare.exclusive)
            | u8::from(declare.exclusive) << 1
            | u8::from(declare.auto_delete) << 2,
        arguments: compared(&declare.arguments, &QUEUE_ARGUMENTS),
    }
}

/// An exchange's declaration.
pub(crate) fn of_exchange(declare: &exchange::Declare, kind: ExchangeKind) -> Wanted {
    Wanted {
        flags: u8::from(declare.durable)
            | u8::from(declare.internal) << 1
            | u8::from(declare.auto_delete) << 2
            | (kind as u8) << 3,
        arguments: compared(&declare.arguments, &EXCHANGE_ARGUMENTS),
    }
}

impl Wanted {
    /// The bytes that the core compares.
    pub(crate) fn queue_bytes(&self) -> Bytes {
        self.bytes(QUEUE)
    }

    /// The same of an exchange.
    pub(crate) fn exchange_bytes(&self) -> Bytes {
        self.bytes(EXCHANGE)
    }

    fn bytes(&self, what: &[u8]) -> Bytes {
        let mut out = BytesMut::from(what);
        out.extend_from_slice(&[self.flags]);
        out.extend_from_slice(&canonical(&self.arguments));
        out.freeze()
    }

    /// What differs from the queue that is there: `'durable' ... received 'true' but current is 'false'`, in two parts.
    pub(crate) fn unlike_queue(&self, known: &[u8]) -> Option<(String, String)> {
        let known = read(known, QUEUE)?;
        [("durable", 1), ("auto_delete", 4)]
            .into_iter()
            .find_map(|(name, bit)| flag(name, self.flags & bit != 0, known.flags & bit != 0))
            .or_else(|| self.unlike_arguments(&known, &QUEUE_ARGUMENTS))
    }

    /// The same of a queue that another door made, from what the core found.
    pub(crate) fn unlike_property(&self, unlike: Unlike) -> Option<(String, String)> {
        let told = |name, bit| {
            let wanted = self.flags & bit != 0;
            flag(name, wanted, !wanted)
        };
        let (name, current) = match unlike.property {
            "auto_delete" => return told("auto_delete", 4),
            "ttl_ms" => ("x-message-ttl", unlike.current),
            "expires_ms" => ("x-expires", unlike.current),
            "length_max" => ("x-max-length", unlike.current),
            "bytes_max" => ("x-max-length-bytes", unlike.current),
            "priority_max" => ("x-max-priority", unlike.current),
            // DOORS 13: the limit counts redeliveries.
            "deliveries_max" => ("x-delivery-limit", unlike.current.map(|n| n - 1)),
            "message_len_max" => ("x-max-message-bytes", unlike.current),
            "overflow" => ("x-overflow", None),
            "dead_letter" => ("x-dead-letter-exchange", None),
            _ => return None,
        };
        let wanted = self.arguments.first(name.as_bytes());
        let there = current.and_then(|n| i64::try_from(n).ok()).map(Value::I64);
        let text = match there {
            Some(there) => format!(
                "received {} but current is {}",
                shown(wanted, true),
                shown(Some(&there), wanted.is_some())
            ),
            None => format!("received {} but current is another", shown(wanted, true)),
        };
        Some((name.to_owned(), text))
    }

    /// What differs from the exchange that is there.
    pub(crate) fn unlike_exchange(&self, known: &[u8]) -> Option<(String, String)> {
        let known = read(known, EXCHANGE)?;
        let (wanted, there) = (self.flags >> 3, known.flags >> 3);
        if wanted != there {
            let text = format!(
                "received '{}' but current is '{}'",
                kind_name(wanted),
                kind_name(there)
            );
            return Some(("type".to_owned(), text));
        }
        [("durable", 1), ("auto_delete", 4), ("internal", 2)]
            .into_iter()
            .find_map(|(name, bit)| flag(name, self.flags & bit != 0, known.flags & bit != 0))
            .or_else(|| self.unlike_arguments(&known, &EXCHANGE_ARGUMENTS))
    }

    fn unlike_arguments(&self, known: &Self, names: &[&[u8]]) -> Option<(String, String)> {
        names.iter().find_map(|name| {
            let (wanted, there) = (self.arguments.first(name), known.arguments.first(name));
            let same = match (wanted, there) {
                (None, None) => true,
                (Some(wanted), Some(there)) => canonical_value(wanted) == canonical_value(there),
                _ => false,
            };
            if same {
                return None;
            }
            let both = wanted.is_some() && there.is_some();
            let text = format!(
                "received {} but current is {}",
                shown(wanted, both),
                shown(there, both)
            );
            Some((String::from_utf8_lossy(name).into_owned(), text))
        })
    }
}

/// The declaration of an exchange that is there from the start.
pub(crate) fn of_predeclared(name: &[u8]) -> Option<Bytes> {
    let kind = match name {
        b"amq.direct" => ExchangeKind::Direct,
        b"amq.fanout" => ExchangeKind::Fanout,
        b"amq.topic" => ExchangeKind::Topic,
        b"amq.headers" | b"amq.match" => ExchangeKind::Headers,
        _ => return None,
    };
    let declare = exchange::Declare {
        durable: true,
        ..exchange::Declare::default()
    };
    Some(of_exchange(&declare, kind).exchange_bytes())
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

fn canonical_value(value: &Value) -> Value {
    match value.as_i64() {
        Some(n) => Value::I64(n),
        None => value.clone(),
    }
}

fn compared(table: &Properties, names: &[&[u8]]) -> Properties {
    let is_compared = |(name, value): &&(Bytes, Value)| {
        // A queue is classic unless it says otherwise, so saying so is no difference.
        names.contains(&&name[..])
            && !(&name[..] == b"x-queue-type" && value.as_str() == Some("classic"))
    };
    Properties(table.0.iter().filter(is_compared).cloned().collect())
}

fn read(bytes: &[u8], what: &[u8]) -> Option<Wanted> {
    let (flags, table) = bytes.strip_prefix(what)?.split_first()?;
    let arguments = if table.is_empty() {
        Properties::default()
    } else {
        read_table(Bytes::copy_from_slice(table)).ok()?
    };
    Some(Wanted {
        flags: *flags,
        arguments,
    })
}

fn flag(name: &str, wanted: bool, there: bool) -> Option<(String, String)> {
    (wanted != there).then(|| {
        let text = format!("received '{wanted}' but current is '{there}'");
        (name.to_owned(), text)
    })
}

fn kind_name(kind: u8) -> &'static str {
    match kind {
        0 => "direct",
        1 => "fanout",
        2 => "topic",
        _ => "headers",
    }
}

/// A value as RabbitMQ shows it: with its type where the other side has none.
fn shown(value: Option<&Value>, bare: bool) -> String {
    let Some(value) = value else {
        return "none".to_owned();
    };
    let text = match value {
        Value::Text(text) | Value::LongString(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Bool(b) => b.to_string(),
        other => other
            .as_i64()
            .map_or_else(|| format!("{other:?}"), |n| n.to_string()),
    };
    if bare {
        format!("'{text}'")
    } else {
        format!("the value '{text}' of type '{}'", type_name(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments: names and values.
    type Rows<'a> = &'a [(&'static str, Value)];

    fn declare(durable: bool, rows: Rows<'_>) -> queue::Declare {
        let mut declare = queue::Declare {
            durable,
            ..queue::Declare::default()
        };
        for (name, value) in rows {
            declare.arguments.push(*name, value.clone());
        }
        declare
    }

    #[test]
    fn the_first_difference_is_told_with_both_values() {
        let cases: [(Rows<'_>, Rows<'_>, &str); 5] = [
            (
                &[("x-max-length", Value::I32(5))],
                &[("x-max-length", Value::I64(6))],
                "received '5' but current is '6'",
            ),
            (
                &[("x-max-length", Value::I32(5))],
                &[],
                "received the value '5' of type 'signedint' but current is none",
            ),
            (
                &[],
                &[("x-max-length", Value::I64(6))],
                "received none but current is the value '6' of type 'long'",
            ),
            (
                &[("x-overflow", Value::text("drop-head"))],
                &[("x-overflow", Value::text("reject-publish"))],
                "received 'drop-head' but current is 'reject-publish'",
            ),
            (
                &[("x-single-active-consumer", Value::Bool(true))],
                &[("x-single-active-consumer", Value::Bool(false))],
                "received 'true' but current is 'false'",
            ),
        ];
        for (wanted, there, text) in cases {
            let there = of_queue(&declare(true, there)).queue_bytes();
            let unlike = of_queue(&declare(true, wanted)).unlike_queue(&there);
            assert_eq!(unlike.map(|(_, text)| text).as_deref(), Some(text));
        }
    }

    #[test]
    fn widths_order_and_the_default_type_are_no_difference() {
        let one = declare(
            true,
            &[
                ("x-max-length", Value::I32(5)),
                ("x-expires", Value::U16(9)),
                ("x-queue-type", Value::text("classic")),
                ("x-anything", Value::Bool(true)),
            ],
        );
        let other = declare(
            true,
            &[
                ("x-expires", Value::I64(9)),
                ("x-max-length", Value::I64(5)),
            ],
        );
        let known = of_queue(&other).queue_bytes();
        assert_eq!(of_queue(&one).queue_bytes(), known);
        assert_eq!(of_queue(&one).unlike_queue(&known), None);
    }

    #[test]
    fn flags_come_before_arguments() {
        let there = of_queue(&declare(false, &[])).queue_bytes();
        let wanted = of_queue(&declare(true, &[("x-expires", Value::I64(9))]));
        let (name, text) = wanted.unlike_queue(&there).expect("they differ");
        assert_eq!(
            (&*name, &*text),
            ("durable", "received 'true' but current is 'false'")
        );
    }
}
