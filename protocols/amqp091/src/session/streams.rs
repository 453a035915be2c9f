//! Streams as RabbitMQ's users know them: queues of type `stream`.
//!
//! | method | does |
//! |---|---|
//! | `queue.declare` with `x-queue-type` = `stream` | makes the stream, with one shard; compared as a queue is (406) |
//! | `queue.declare` passive, `basic.consume`, `queue.delete` | the queue of that name, else the stream (DOORS 6) |
//! | `basic.get`, `queue.purge` | 540, as in RabbitMQ |
//! | the name `$stream/NAME` | always the stream |
//!
//! A consumer reads from `x-stream-offset` on: `first`, `last`, `next`, an offset, a timestamp, or an age such as `1h`. Acknowledging
//! makes room in its prefetch; nothing is taken out of a stream. With `x-consumer-group` it is a member of that group, which
//! shares the shards among its members and goes on where they have acknowledged.

use bytes::Bytes;
use message::{Name, Properties, Timestamp, Value};
use session::{Command, Declare, Source, StreamAttributes, StreamInfo, StreamStart, StreamTo};

use super::{
    channel::{Channel, Pending},
    step::Step,
    topology::called,
};
use crate::{
    arguments::{self, age_ms},
    codec::{Short, queue},
    equivalence::Wanted,
    error::{Fault, ReplyCode},
    key,
};

/// The note that keeps how AMQP clients declared a stream.
const DECLARATION: &[u8] = b"amqp091.declaration";

/// What a client wants to know of a stream that is not a queue, or do to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `queue.purge`.
    Purge,
    /// `basic.get`.
    Get,
}

impl Asked {
    const fn what(self) -> &'static str {
        match self {
            Self::Purge => "queue.purge",
            Self::Get => "basic.get",
        }
    }
}

/// The stream that a name means whatever queues there are.
pub(crate) fn stream_named(name: &Bytes) -> Option<Name> {
    name.strip_prefix(key::STREAM_PREFIX)
        .map(|rest| name.slice_ref(rest))
}

impl Channel {
    fn stream(
        &mut self,
        step: &mut Step<'_>,
        method: (u16, u16),
        ask: (Name, StreamTo),
        pending: Pending,
    ) {
        let token = self.wait(step, method, pending);
        let (name, to) = ask;
        step.command(Command::Stream {
            token,
            lane: self.lane(),
            name,
            to: Box::new(to),
        });
    }

    /// `queue.declare` of a stream. `shown` is the name as the client writes it.
    pub(crate) fn declare_stream(
        &mut self,
        declare: &queue::Declare,
        shown: Bytes,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let of = called("queue", &shown, step.shared);
        let name = stream_named(&shown).unwrap_or_else(|| shown.clone());
        if name.is_empty() {
            return Err(Fault::new(
                ReplyCode::PreconditionFailed,
                "a stream must be named",
            ));
        }
        let (attributes, wanted) = arguments::stream_options(declare, &of)?;
        let asked = (wanted, attributes);
        if stream_named(&shown).is_some() {
            self.make_stream(shown, declare.no_wait, asked, step);
            return Ok(());
        }
        // DOORS 6: a bare name is the queue, if there is one, and then no stream can be declared by it.
        let pending = Pending::StreamMake {
            shown: shown.clone(),
            no_wait: declare.no_wait,
            asked: Box::new(asked),
        };
        let token = self.wait(step, (50, 10), pending);
        step.command(Command::Declare {
            token,
            lane: self.lane(),
            declare: Declare::Queue {
                name: shown,
                passive: true,
                options: Box::default(),
            },
        });
        Ok(())
    }

    /// Makes the stream, if there is none.
    pub(crate) fn make_stream(
        &mut self,
        shown: Bytes,
        no_wait: bool,
        asked: (Wanted, StreamAttributes),
        step: &mut Step<'_>,
    ) {
        let name = stream_named(&shown).unwrap_or_else(|| shown.clone());
        let to = StreamTo::Ensure {
            attributes: asked.1.clone(),
            shards: 1,
            notes: vec![(Bytes::from_static(DECLARATION), asked.0.queue_bytes())],
            // Looked for before, so that the refusal is in RabbitMQ's words.
            bare_name: false,
        };
        let pending = Pending::StreamDeclare {
            shown,
            no_wait,
            wanted: Some(Box::new(asked)),
        };
        self.stream(step, (50, 10), (name, to), pending);
    }

    /// A passive `queue.declare` that found no queue, or names a stream.
    pub(crate) fn look_at_stream(&mut self, shown: Bytes, no_wait: bool, step: &mut Step<'_>) {
        let name = stream_named(&shown).unwrap_or_else(|| shown.clone());
        let pending = Pending::StreamDeclare {
            shown,
            no_wait,
            wanted: None,
        };
        self.stream(step, (50, 10), (name, StreamTo::Inspect), pending);
    }

    /// The stream is there.
    pub(crate) fn on_stream_declared(
        &mut self,
        (shown, no_wait): (Bytes, bool),
        wanted: Option<&(Wanted, StreamAttributes)>,
        stream: &StreamInfo,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        if let Some((wanted, attributes)) = wanted
            && let Some((argument, text)) = unlike(wanted, attributes, stream)
        {
            let it = called("queue", &shown, step.shared);
            return Err(Fault::new(
                ReplyCode::PreconditionFailed,
                format!("inequivalent arg '{argument}' for {it}: {text}"),
            ));
        }
        self.last_queue = Some(Bytes::copy_from_slice(&shown));
        if !no_wait {
            let records: u64 = stream.shards.iter().map(|shard| shard.records).sum();
            let method = queue::DeclareOk {
                queue: Short::new(shown).unwrap_or_default(),
                message_count: u32::try_from(records).unwrap_or(u32::MAX),
                consumer_count: stream.consumers,
            };
            step.send(self.number, method);
        }
        Ok(())
    }

    /// `queue.delete` that found no queue, or names a stream. RabbitMQ refuses its conditions too.
    pub(crate) fn delete_stream(
        &mut self,
        shown: Bytes,
        (conditions, no_wait): (bool, bool),
        step: &mut Step<'_>,
    ) {
        let name = stream_named(&shown).unwrap_or_else(|| shown.clone());
        let (to, pending) = if conditions {
            // Whether there is one decides whether the conditions are refused.
            (
                StreamTo::Inspect,
                Pending::StreamDelete {
                    no_wait,
                    refuses: true,
                },
            )
        } else {
            (
                StreamTo::Delete,
                Pending::StreamDelete {
                    no_wait,
                    refuses: false,
                },
            )
        };
        self.stream(step, (50, 40), (name, to), pending);
    }

    /// What streams cannot do, of a name that no queue has: tells whether it is a stream.
    pub(crate) fn ask_of_stream(&mut self, shown: Bytes, asked: Asked, step: &mut Step<'_>) {
        let method = match asked {
            Asked::Purge => (50, 30),
            Asked::Get => (60, 70),
        };
        let name = stream_named(&shown).unwrap_or_else(|| shown.clone());
        let pending = Pending::StreamAsked { shown, asked };
        self.stream(step, method, (name, StreamTo::Inspect), pending);
    }
}

/// That streams cannot do it.
pub(crate) fn cannot(asked: Asked, shown: &[u8], step: &Step<'_>) -> Fault {
    Fault::new(
        ReplyCode::NotImplemented,
        format!(
            "{} is not supported by streams: {}",
            asked.what(),
            called("queue", shown, step.shared)
        ),
    )
}

/// Where a consumer begins, and in which group. `None`: no argument speaks of streams.
/// `x-stream-filter` and its kin are refused: records have no filter values here.
pub(crate) fn start(
    table: &Properties,
    of: &str,
    now: Timestamp,
) -> Result<Option<(StreamStart, Option<Bytes>)>, Fault> {
    let invalid = |name: &str, why: &str| {
        Fault::new(
            ReplyCode::PreconditionFailed,
            format!("invalid arg '{name}' for {of}: {why}"),
        )
    };
    for name in ["x-stream-filter", "x-stream-match-unfiltered"] {
        if table.first(name.as_bytes()).is_some() {
            return Err(invalid(name, "it is not implemented"));
        }
    }
    let group = match table.first(b"x-consumer-group") {
        None => None,
        Some(Value::Text(name) | Value::LongString(name)) if (1..=256).contains(&name.len()) => {
            Some(Bytes::copy_from_slice(name))
        }
        Some(_) => {
            return Err(invalid(
                "x-consumer-group",
                "expected 1 to 256 bytes of text",
            ));
        }
    };
    let name = "x-stream-offset";
    let from = match table.first(name.as_bytes()) {
        None => return Ok(group.map(|group| (StreamStart::Next, Some(group)))),
        Some(Value::Text(text) | Value::LongString(text)) => match &text[..] {
            b"first" => StreamStart::First,
            b"last" => StreamStart::Last,
            b"next" => StreamStart::Next,
            text => match age_ms(text) {
                Some(ms) => StreamStart::Time(Timestamp(now.0.saturating_sub(ms))),
                None => {
                    return Err(invalid(
                        name,
                        "expected first, last, next, an offset, a timestamp or an age such as 1h",
                    ));
                }
            },
        },
        Some(Value::TimeSeconds(seconds)) => {
            StreamStart::Time(Timestamp(seconds.saturating_mul(1000)))
        }
        Some(value) => match value.as_i64().map(u64::try_from) {
            Some(Ok(offset)) => StreamStart::Offset(offset),
            _ => return Err(invalid(name, "expected an offset that is not negative")),
        },
    };
    Ok(Some((from, group)))
}

/// What a consumer reads that found no queue, or names a stream.
pub(crate) fn source(shown: &Bytes, start: Option<(StreamStart, Option<Bytes>)>) -> Source {
    let (from, group) = start.unwrap_or_default();
    Source::Stream {
        name: Bytes::copy_from_slice(&stream_named(shown).unwrap_or_else(|| shown.clone())),
        from,
        group,
    }
}

/// What differs from the stream that is there. One that another door has made is taken as it is, unless an argument says
/// something else of it (DOORS 11).
fn unlike(
    wanted: &Wanted,
    attributes: &StreamAttributes,
    stream: &StreamInfo,
) -> Option<(String, String)> {
    let declared = stream
        .notes
        .iter()
        .find(|(name, _)| &name[..] == DECLARATION);
    if let Some((_, declared)) = declared {
        return wanted.unlike_queue(declared);
    }
    let differs = |name: &str, wanted: u64, there: Option<u64>| {
        let current = there.map_or_else(|| "none".to_owned(), |there| format!("'{there}'"));
        (
            name.to_owned(),
            format!("received '{wanted}' but current is {current}"),
        )
    };
    let there = &stream.attributes;
    if attributes.retention_ms != u64::MAX && attributes.retention_ms != there.retention_ms {
        return Some(differs(
            "x-max-age",
            attributes.retention_ms,
            Some(there.retention_ms),
        ));
    }
    match attributes.bytes_max {
        Some(bytes) if Some(bytes) != there.bytes_max => {
            Some(differs("x-max-length-bytes", bytes, there.bytes_max))
        }
        _ => None,
    }
}
