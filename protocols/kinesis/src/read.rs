//! Shard iterators and GetRecords.

use std::{borrow::Cow, sync::Arc};

use aws::{ApiError, Call, Field, Input, Manners, Rows, ShowRow, Value, digest};
use bytes::Bytes;
use message::Timestamp;
use session::{
    Command, Event, Flow, Lane, ReadStream, Records, RefusalKind, ShardNo, StreamId, StreamRecord,
    StreamStart, Token, partition_key,
};

use crate::{
    error, position,
    seal::{self, Form},
    sequence::{Numbers, Sequence},
    shard,
    target::{Arn, Step, Target, done, or_refuse},
};

/// For how long an iterator is good, in ms.
const ITERATOR_MS: u64 = 300_000;
/// Most records of one GetRecords.
const RECORDS_MAX: u32 = 10_000;
/// Most bytes of data and keys of one GetRecords.
const BYTES_MAX: u64 = 10 << 20;
/// Characters of a partition key; longer ones of other doors are shown by their SHA-256 in hex (DOORS 20).
const KEY_LEN_MAX: usize = 256;

/// What an iterator says.
#[derive(Clone, Debug, PartialEq)]
struct Iterator {
    stream: String,
    id: StreamId,
    shard: ShardNo,
    from: StreamStart,
}

impl Iterator {
    fn seal(&self, call: &Call, now: Timestamp) -> String {
        let (kind, number) = match self.from {
            StreamStart::First => (0, 0),
            StreamStart::Offset(offset) => (1, offset),
            StreamStart::Time(time) => (2, time.0),
            // What comes next has an offset by the time that an iterator is made.
            StreamStart::Last | StreamStart::Next => (1, u64::MAX),
        };
        let mut content = Vec::with_capacity(21 + self.stream.len());
        content.extend(self.id.0.to_be_bytes());
        content.extend(self.shard.0.to_be_bytes());
        content.push(kind);
        content.extend(number.to_be_bytes());
        content.extend(self.stream.as_bytes());
        seal::seal(call, Form::Iterator, now, &content)
    }

    /// When it was made, and what it says.
    fn open(call: &Call, text: &str) -> Option<(Timestamp, Self)> {
        let (created, content) = seal::open(call, Form::Iterator, text)?;
        let (id, rest) = content.split_first_chunk()?;
        let (shard, rest) = rest.split_first_chunk()?;
        let (&[kind], rest) = rest.split_first_chunk()?;
        let (number, name) = rest.split_first_chunk()?;
        let number = u64::from_be_bytes(*number);
        let from = match kind {
            0 => StreamStart::First,
            1 => StreamStart::Offset(number),
            2 => StreamStart::Time(Timestamp(number)),
            _ => return None,
        };
        let iterator = Self {
            stream: String::from_utf8(name.to_vec()).ok()?,
            id: StreamId(u64::from_be_bytes(*id)),
            shard: ShardNo(u32::from_be_bytes(*shard)),
            from,
        };
        Some((created, iterator))
    }
}

/// The stream that an iterator reads.
pub(crate) fn stream_of(call: &Call, iterator: &str) -> Option<String> {
    Iterator::open(call, iterator).map(|(_, iterator)| iterator.stream)
}

/// `GetShardIterator`.
pub(crate) fn get_shard_iterator(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        target.inspect(call.clone(), move |stream, now| {
            let name = crate::state::name(&stream);
            let id = value.text("ShardId").unwrap_or_default();
            let shard =
                shard::find(&stream, id).ok_or_else(|| error::no_such_shard(&call, &name, id))?;
            let kind = value.text("ShardIteratorType").unwrap_or_default();
            let words = (kind, "StartingSequenceNumber", "GetShardIterator");
            let iterator = Iterator {
                from: position::find(&call, &stream, shard, &value, words, now)?,
                id: stream.id,
                shard: shard.shard,
                stream: name,
            };
            Ok(done(Ok(Value::from([(
                "ShardIterator",
                iterator.seal(&call, now).into(),
            )]))))
        })
    }))
}

/// `GetRecords`.
pub(crate) fn get_records(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(checked_get(call, &value))
}

fn checked_get(call: Arc<Call>, value: &Value) -> Result<Step, ApiError> {
    let (created, iterator) = value
        .text("ShardIterator")
        .and_then(|text| Iterator::open(&call, text))
        .ok_or_else(|| error::invalid("Invalid ShardIterator."))?;
    if let Some(arn) = value.text("StreamARN")
        && Arn::read(&call, arn).is_none_or(|arn| arn.stream != iterator.stream)
    {
        return Err(error::invalid(
            "StreamARN and ShardIterator do not name the same stream.",
        ));
    }
    if call.now.since(created) > ITERATOR_MS {
        return Err(ApiError::sender(
            "ExpiredIteratorException",
            format!(
                "Iterator expired. The iterator was created at time {} while right now it is {} which is further in the future than \
                 the tolerated delay of {ITERATOR_MS} milliseconds.",
                date(created),
                date(call.now)
            ),
        ));
    }
    let limit = value.int("Limit").map_or(RECORDS_MAX, |limit| limit as u32);
    let read = ReadStream {
        token: Token(0),
        lane: Lane(0),
        stream: Bytes::copy_from_slice(iterator.stream.as_bytes()),
        id: Some(iterator.id),
        shard: iterator.shard,
        from: iterator.from,
        count: limit.min(RECORDS_MAX),
        bytes_max: BYTES_MAX,
        wait_ms: 0,
        limited: true,
    };
    Ok(Flow::ask(
        Command::ReadStream(Box::new(read)),
        move |event, now| {
            done(match event {
                Event::Records { records, .. } => Ok(shown(&call, iterator, records, now)),
                Event::Refused { refusal, .. } => {
                    let id = shard::id(iterator.shard);
                    Err(match refusal.kind {
                        RefusalKind::NotFound => error::no_such_shard(&call, &iterator.stream, &id),
                        RefusalKind::RateExceeded => error::rate(&call, &iterator.stream, &id),
                        _ => error::refused(&call, &iterator.stream, &refusal),
                    })
                }
                event => Err(error::unexpected(&call, &iterator.stream, &event)),
            })
        },
    ))
}

fn shown(call: &Call, iterator: Iterator, records: Box<Records>, now: Timestamp) -> Value {
    let next = (!records.ended).then(|| {
        Iterator {
            from: StreamStart::Offset(records.next),
            ..iterator
        }
        .seal(call, now)
    });
    let behind = records.behind_ms as i64;
    let children = shard::show_children(records.ended, &records.children);
    Value::from([
        ("Records", show_records(call.settings.manners, records)),
        ("NextShardIterator", next.into()),
        ("MillisBehindLatest", Value::Int(behind)),
        ("ChildShards", children),
    ])
}

/// Records as clients see them.
pub(crate) fn show_records(manners: Manners, records: Box<Records>) -> Value {
    Value::Rows(Arc::new(Shown { manners, records }))
}

/// Records that were read.
#[derive(Debug)]
struct Shown {
    manners: Manners,
    records: Box<Records>,
}

impl Rows for Shown {
    fn count(&self) -> usize {
        self.records.records.len()
    }

    fn len_hint(&self) -> usize {
        // Names and quotes, a number, a time, and the key.
        const ABOUT: usize = 160;
        let len = |record: &StreamRecord| record.message.body.len().div_ceil(3) * 4 + ABOUT;
        self.records.records.iter().map(len).sum()
    }

    fn each(&self, show: &mut ShowRow<'_>) {
        let Records { shard, records, .. } = &*self.records;
        let mut numbers = Numbers::default();
        for record in records {
            let number = numbers.digits(Sequence::at(shard, record.offset), self.manners);
            let key = partition_key(&record.message);
            show(&[
                ("SequenceNumber", Field::Plain(number.as_bytes())),
                ("ApproximateArrivalTimestamp", Field::Time(record.time)),
                ("Data", Field::Blob(&record.message.body)),
                ("PartitionKey", Field::Text(&shown_key(&key))),
            ]);
        }
    }
}

/// A partition key as clients see it: what other doors made longer than 256 characters, or not as text, is shown by its
/// SHA-256 in hex; what has none at all, as `-`.
fn shown_key(key: &Bytes) -> Cow<'_, str> {
    match std::str::from_utf8(key) {
        Ok("") => "-".into(),
        Ok(text) if text.len() <= KEY_LEN_MAX || text.chars().count() <= KEY_LEN_MAX => text.into(),
        _ => digest::hex(&digest::sha256(key)).into(),
    }
}

/// `Thu Jan 22 01:22:02 UTC 2015`.
fn date(time: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = time.0 / 1000;
    let days = seconds / 86_400;
    // Years that begin in March, so that the day that is not always there is the last of one.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = year + era * 400 + u64::from(month < 2);
    format!(
        "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_in_the_errors_of_kinesis() {
        for (ms, text) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (1_421_889_722_000, "Thu Jan 22 01:22:02 UTC 2015"),
            (951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000"),
            (951_868_799_999, "Tue Feb 29 23:59:59 UTC 2000"),
            (4_107_542_400_000, "Mon Mar 01 00:00:00 UTC 2100"),
        ] {
            assert_eq!(date(Timestamp(ms)), text);
        }
    }

    #[test]
    fn keys_that_are_too_long_or_no_text_are_shown_by_their_hash() {
        let key = |bytes: &[u8]| shown_key(&Bytes::copy_from_slice(bytes)).into_owned();
        assert_eq!(key(b"k"), "k");
        assert_eq!(key(b""), "-");
        assert_eq!(key("\u{e4}".repeat(256).as_bytes()), "\u{e4}".repeat(256));
        assert_eq!(key("\u{e4}".repeat(257).as_bytes()).len(), 64);
        assert_eq!(
            key(&[0xFF]),
            "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89"
        );
    }
}
