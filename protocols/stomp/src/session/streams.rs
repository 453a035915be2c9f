//! Streams: `/stream/NAME`, in the words of RabbitMQ's STOMP clients.
//!
//! | header of a SUBSCRIBE | means |
//! |---|---|
//! | `x-stream-offset` | where to begin: `first`, `last`, `next` (without the header), `offset=N`, `timestamp=SECONDS`; `:` instead of `=` too |
//! | `x-consumer-group` | read as a member of that group, which goes on where its members have acknowledged |
//! | `x-queue-type:stream` | make the stream, with one shard, if there is none; on `/queue/NAME` and `/amq/queue/NAME` too (and in a SEND), where a queue of that name is an ERROR |
//! | `x-max-age`, `x-max-length-bytes` | what it keeps, if it is made: an age such as `7D`, bytes of bodies |
//!
//! A MESSAGE says in `x-stream-offset` where it lies. Acknowledging makes room for more; nothing is taken out of a stream. The
//! partition key of a SEND is its `JMSXGroupID`.

use bytes::Bytes;
use message::{Name, Timestamp};
use session::{Command, Output, Source, StreamAttributes, StreamStart, StreamTo};

use crate::{codec::Headers, error::Fault};

use super::{
    conversation::{Conversation, LANE, Waiting},
    options::first_number,
    subscribing::Request,
};

const OFFSET: &str = "x-stream-offset";
const GROUP: &str = "x-consumer-group";

/// The longest name of a consumer group, in bytes.
const GROUP_LEN_MAX: usize = 256;

/// Options of queues that say nothing of streams.
const NOT_OF_STREAMS: [&str; 9] = [
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-priority",
    "x-single-active-consumer",
    "x-delivery-limit",
];

/// Whether a frame asks for a stream to be made.
pub(super) fn asks_for_stream(headers: &Headers) -> bool {
    headers.text("x-queue-type") == Some("stream")
}

/// Whether the headers of a SUBSCRIBE speak of a stream.
pub(super) fn speaks_of_stream(headers: &Headers) -> bool {
    asks_for_stream(headers) || headers.first(OFFSET).is_some() || headers.first(GROUP).is_some()
}

fn start(headers: &Headers) -> Result<StreamStart, Fault> {
    let Some(value) = headers.first(OFFSET) else {
        return Ok(StreamStart::Next);
    };
    let wanted = "first, last, next, offset=N or timestamp=SECONDS";
    let invalid = || Fault::invalid(OFFSET, value, wanted);
    let text = std::str::from_utf8(value).map_err(|_| invalid())?;
    match text.trim() {
        "first" => Ok(StreamStart::First),
        "last" => Ok(StreamStart::Last),
        "next" => Ok(StreamStart::Next),
        text => {
            let (word, digits) = text.split_once(['=', ':']).ok_or_else(invalid)?;
            let number: u64 = digits.parse().map_err(|_| invalid())?;
            match word {
                "offset" => Ok(StreamStart::Offset(number)),
                "timestamp" => Ok(StreamStart::Time(Timestamp(number.saturating_mul(1000)))),
                _ => Err(invalid()),
            }
        }
    }
}

fn group(headers: &Headers) -> Result<Option<Bytes>, Fault> {
    match headers.first(GROUP) {
        None => Ok(None),
        Some(name) if (1..=GROUP_LEN_MAX).contains(&name.len()) => {
            Ok(Some(Bytes::copy_from_slice(name)))
        }
        Some(name) => Err(Fault::invalid(GROUP, name, "1 to 256 bytes")),
    }
}

/// An age: a number and one of Y, M, D, h, m, s, as in RabbitMQ (a year is 365 days, a month 30). In ms.
fn age_ms(value: &Bytes) -> Result<u64, Fault> {
    let invalid = || Fault::invalid("x-max-age", value, "an age such as 7D or 12h");
    let text = std::str::from_utf8(value).map_err(|_| invalid())?.trim();
    let unit = text.chars().next_back().ok_or_else(invalid)?;
    let unit_ms: u64 = match unit {
        'Y' => 365 * 86_400_000,
        'M' => 30 * 86_400_000,
        'D' => 86_400_000,
        'h' => 3_600_000,
        'm' => 60_000,
        's' => 1_000,
        _ => return Err(invalid()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| invalid())?;
    number
        .checked_mul(unit_ms)
        .filter(|ms| *ms > 0)
        .ok_or_else(invalid)
}

impl Conversation {
    /// Makes a stream as the headers of a frame say, if there is none. `bare_name`: a queue may have that name too, and then it means
    /// the queue (DOORS 6).
    pub(super) fn make_stream(
        &mut self,
        (name, bare_name): (&Name, bool),
        headers: &Headers,
        receipt: Option<Bytes>,
        out: &mut Output,
    ) -> Result<(), Fault> {
        for option in NOT_OF_STREAMS {
            if let Some(value) = headers.first(option) {
                return Err(Fault::invalid(
                    option,
                    value,
                    "absent: it means nothing for a stream",
                ));
            }
        }
        let flags = [
            ("durable", "false"),
            ("exclusive", "true"),
            ("auto-delete", "true"),
        ];
        if let Some((option, value)) = flags
            .into_iter()
            .find(|(option, value)| headers.text(option) == Some(value))
        {
            let wanted = "otherwise: a stream is durable and everybody's";
            return Err(Fault::invalid(option, value.as_bytes(), wanted));
        }
        let retention_ms = headers.first("x-max-age").map_or(Ok(u64::MAX), age_ms)?;
        let attributes = StreamAttributes {
            retention_ms,
            bytes_max: first_number(headers, &["x-max-length-bytes"])?,
            ..StreamAttributes::default()
        };
        let token = self.await_answer(Waiting::Part(receipt));
        out.commands.push_back(Command::Stream {
            token,
            lane: LANE,
            name: Name::copy_from_slice(name),
            to: Box::new(StreamTo::Ensure {
                attributes,
                shards: 1,
                notes: Vec::new(),
                bare_name,
            }),
        });
        Ok(())
    }

    pub(super) fn subscribe_stream(
        &mut self,
        request: Request,
        headers: &Headers,
        (name, bare_name): (&Name, bool),
        out: &mut Output,
    ) -> Result<(), Fault> {
        let source = Source::Stream {
            name: Name::copy_from_slice(name),
            from: start(headers)?,
            group: group(headers)?,
        };
        if asks_for_stream(headers) {
            self.make_stream((name, bare_name), headers, request.receipt.clone(), out)?;
        }
        self.read(request, source, false, None, out)
    }
}
