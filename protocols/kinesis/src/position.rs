//! Where reading begins, as requests say it: the five types of a shard iterator.

use aws::{ApiError, Call, Manners, Value};
use message::Timestamp;
use session::{ShardInfo, StreamInfo, StreamStart};

use crate::{error, sequence::Sequence, shard, state};

/// How far ahead of ours a client's clock may be, in ms: as far as its signatures may.
const AHEAD_MS: u64 = 15 * 60 * 1000;

/// Finds it. `sequence` names the member of the request that has the sequence number, `operation` the request.
pub(crate) fn find(
    call: &Call,
    stream: &StreamInfo,
    shard: &ShardInfo,
    value: &Value,
    (kind, sequence, operation): (&str, &str, &str),
    now: Timestamp,
) -> Result<StreamStart, ApiError> {
    let said = value.text(sequence);
    match kind {
        "TRIM_HORIZON" | "LATEST"
            if said.is_some() && call.settings.manners == Manners::Standard =>
        {
            Err(error::invalid(format!(
                "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and {sequence} or (2) TRIM_HORIZON or LATEST and \
             no {sequence}. Request specified {kind} and also a {sequence}."
            )))
        }
        "TRIM_HORIZON" => Ok(StreamStart::First),
        "LATEST" => Ok(StreamStart::Offset(stream.next_offset)),
        "AT_TIMESTAMP" => {
            let time = value.time("Timestamp").ok_or_else(|| {
                error::invalid(
                    "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp \
                     parameter.",
                )
            })?;
            if time > now.plus_ms(AHEAD_MS) {
                return Err(error::invalid(format!(
                    "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: {}, \
                     currentTimestampInMillis: {}",
                    time.0, now.0
                )));
            }
            Ok(StreamStart::Time(time))
        }
        "AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER" => {
            let text = said.ok_or_else(|| {
                error::invalid(format!(
                    "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and {sequence} or (2) TRIM_HORIZON or \
                     LATEST and no {sequence}. Request specified {kind} and no {sequence}."
                ))
            })?;
            let number = numbered(call, stream, shard, text, (sequence, operation))?;
            Ok(StreamStart::Offset(if kind == "AT_SEQUENCE_NUMBER" {
                number.offset()
            } else {
                number.offset_behind()
            }))
        }
        _ => Err(error::invalid(format!("Invalid ShardIteratorType: {kind}"))),
    }
}

fn numbered(
    call: &Call,
    stream: &StreamInfo,
    shard: &ShardInfo,
    text: &str,
    (sequence, operation): (&str, &str),
) -> Result<Sequence, ApiError> {
    let invalid = |why: &str| {
        error::invalid(format!(
            "{sequence} {text} used in {operation} on shard {} in stream {} under account {} is invalid{why}.",
            shard::id(shard.shard),
            state::name(stream),
            call.account
        ))
    };
    let number = Sequence::read(text, call.settings.manners).ok_or_else(|| invalid(""))?;
    if let Some(other) = number.shard().filter(|said| *said != shard.shard) {
        return Err(error::invalid(format!(
            "Invalid {sequence}. It encodes {}, while it was used in a call to a shard with {}",
            shard::id(other),
            shard::id(shard.shard)
        )));
    }
    if !number.is_of(shard) {
        return Err(invalid(" because it did not come from this stream"));
    }
    Ok(number)
}
