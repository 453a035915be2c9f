//! PutRecord and PutRecords.
//!
//! A record is a message to the stream whose group is the partition key, so every other door shows it as one. What the
//! core confirms is stored; a PutRecords asks for a few dozen records at a time ([`Flow::publish_all`]).

use std::sync::Arc;

use aws::{ApiError, Call, Field, Input, Rows, ShowRow, Value};
use bytes::{Bytes, BytesMut};
use message::{Address, Levels, Message};
use session::{
    Command, Event, Flow, Lane, Publish, PublishOutcome, RecordPlace, ShardNo, StreamInfo, Token,
};

use crate::{
    error,
    sequence::{Numbers, Sequence},
    shard,
    target::{Step, Target, done, or_refuse},
};

/// Records of one PutRecords.
const RECORDS_MAX: usize = 500;
/// The largest record, key included, that every stream takes, in bytes.
const RECORD_LEN: u64 = 1 << 20;
/// The largest PutRecords to a stream whose records are no larger than that, in bytes of data and keys.
const REQUEST_LEN: u64 = 5 << 20;
/// The largest PutRecords to a stream that takes larger records.
const LARGE_REQUEST_LEN: u64 = 10 << 20;

/// Ids of shards that are kept while an answer is written.
const IDS_MAX: usize = 16;
/// Memory for keys, in bytes; there is more of it when they need more.
const KEYS_LEN: usize = 4 << 10;

/// A record on its way in.
struct Put {
    data: Bytes,
    key: Bytes,
    hash: Option<u128>,
}

impl Put {
    /// Takes the members of a record out of an input. `keys` is memory for the keys of a request.
    fn take(value: Value, keys: &mut BytesMut) -> Result<Self, ApiError> {
        let mut put = Self {
            data: Bytes::new(),
            key: Bytes::new(),
            hash: None,
        };
        let Value::Map(members) = value else {
            return Ok(put);
        };
        for (name, value) in members {
            match (&*name, value) {
                ("Data", Value::Blob(data)) => put.data = data,
                ("PartitionKey", Value::Text(key)) => {
                    keys.extend_from_slice(key.as_bytes());
                    put.key = keys.split().freeze();
                }
                ("ExplicitHashKey", Value::Text(hash)) => {
                    let hash = hash.parse().map_err(|_| {
                        error::invalid(format!(
                            "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {hash}"
                        ))
                    })?;
                    put.hash = Some(hash);
                }
                _ => {}
            }
        }
        Ok(put)
    }

    fn len(&self) -> u64 {
        (self.data.len() + self.key.len()) as u64
    }

    /// `address`: the stream's, which all records of a request share.
    fn publish(self, address: &Arc<Address>) -> Publish {
        let mut message = Message::new(Arc::clone(address), self.data);
        message.durable = true;
        message.qos = 1;
        message.group = Some(self.key);
        Publish {
            token: Some(Token(0)),
            lane: Lane(0),
            message: Arc::new(message),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: self.hash,
            folds: false,
        }
    }
}

/// Where the records of a stream are published.
fn address(call: &Call, stream: Bytes) -> Arc<Address> {
    Arc::new(Address::stream(call.vhost, stream, Levels::none()))
}

/// `PutRecord`.
pub(crate) fn put_record(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(checked_put(call, value))
}

fn checked_put(call: Arc<Call>, value: Value) -> Result<Step, ApiError> {
    let target = Target::of(&call, &value)?;
    let name = target.name.clone();
    // Numbers grow within a shard, which is more than the order that is asked for with it.
    if let Some(after) = value.text("SequenceNumberForOrdering")
        && Sequence::read(after, call.settings.manners).is_none()
    {
        return Err(error::invalid(format!(
            "ExclusiveMinimumSequenceNumber {after} used in PutRecord on stream {name} under account {} is invalid.",
            call.account
        )));
    }
    let put = Put::take(value, &mut BytesMut::new())?;
    Ok(known_to_fit(
        call.clone(),
        target,
        false,
        vec![put],
        move |_, mut puts, stream| {
            let command = match puts.pop() {
                Some(put) => Command::Publish(put.publish(&address(&call, stream))),
                None => return done(Err(error::invalid("There is no record."))),
            };
            Flow::ask(command, move |event, _| {
                let Event::Published { outcome, .. } = &event else {
                    return done(Err(error::unexpected(&call, &name, &event)));
                };
                done(placed(&call, &name, outcome).map(|place| shown(&call, place)))
            })
        },
    ))
}

/// `PutRecords`.
pub(crate) fn put_records(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(checked_puts(call, value))
}

fn checked_puts(call: Arc<Call>, value: Value) -> Result<Step, ApiError> {
    let target = Target::of(&call, &value)?;
    let name = target.name.clone();
    let mut puts = Vec::new();
    if let Value::Map(members) = value {
        for (_, value) in members.into_iter().filter(|(name, _)| name == "Records") {
            if let Value::List(records) = value {
                let mut keys = BytesMut::with_capacity(KEYS_LEN);
                puts = Vec::with_capacity(records.len());
                for record in records {
                    puts.push(Put::take(record, &mut keys)?);
                }
            }
        }
    }
    if puts.len() > RECORDS_MAX {
        return Err(error::violations(&[format!(
            "Value at 'records' failed to satisfy constraint: Member must have length less than or equal to {RECORDS_MAX}"
        )]));
    }
    Ok(known_to_fit(
        call.clone(),
        target,
        true,
        puts,
        move |_, puts, stream| {
            let address = address(&call, stream);
            let publishes = puts.into_iter().map(|put| put.publish(&address));
            Flow::publish_all(publishes, move |outcomes, _| {
                done(match outcomes {
                    Ok(outcomes) => answered(call, name, outcomes),
                    Err(event) => Err(error::unexpected(&call, &name, &event)),
                })
            })
        },
    ))
}

/// Checks lengths, looking at the stream when they depend on it, and goes on.
fn known_to_fit(
    call: Arc<Call>,
    target: Target,
    many: bool,
    puts: Vec<Put>,
    then: impl FnOnce(Arc<Call>, Vec<Put>, Bytes) -> Step + Send + 'static,
) -> Step {
    let name = target.core_name();
    let total: u64 = puts.iter().map(Put::len).sum();
    if total <= REQUEST_LEN && puts.iter().all(|put| put.len() <= RECORD_LEN) {
        return then(call, puts, name);
    }
    target.inspect(call.clone(), move |stream, _| {
        fits(&stream, many, &puts, total)?;
        Ok(then(call, puts, name))
    })
}

fn fits(stream: &StreamInfo, many: bool, puts: &[Put], total: u64) -> Result<(), ApiError> {
    let record_max = stream
        .attributes
        .record_len_max
        .unwrap_or(LARGE_REQUEST_LEN);
    let request_max = if record_max > RECORD_LEN {
        LARGE_REQUEST_LEN
    } else {
        REQUEST_LEN
    };
    if total > request_max && puts.len() > 1 {
        return Err(error::invalid(format!(
            "Records size exceeds {} MB limit",
            request_max >> 20
        )));
    }
    let Some(at) = puts.iter().position(|put| put.len() > record_max) else {
        return Ok(());
    };
    let place = if many {
        format!("records.{}.member.data", at + 1)
    } else {
        "data".to_owned()
    };
    Err(error::violations(&[format!(
        "Value at '{place}' failed to satisfy constraint: Member must have length less than or equal to {record_max}"
    )]))
}

fn placed(call: &Call, name: &str, outcome: &PublishOutcome) -> Result<RecordPlace, ApiError> {
    match outcome {
        PublishOutcome::Accepted {
            record: Some(place),
            ..
        } => Ok(*place),
        PublishOutcome::Refused(refusal) => Err(error::refused(call, name, refusal)),
        _ => Err(error::no_stream(call, name)),
    }
}

fn shown(call: &Call, place: RecordPlace) -> Value {
    Value::from([
        ("ShardId", shard::id(place.shard).into()),
        (
            "SequenceNumber",
            Sequence::of(&place).text(call.settings.manners).into(),
        ),
    ])
}

/// One entry a record. When nothing was taken, and not for want of throughput, the request as a whole has failed.
fn answered(
    call: Arc<Call>,
    name: String,
    outcomes: Vec<PublishOutcome>,
) -> Result<Value, ApiError> {
    let errors = || {
        let placed = outcomes.iter().map(|outcome| placed(&call, &name, outcome));
        placed.filter_map(Result::err)
    };
    let failed = errors().count();
    if failed == outcomes.len()
        && let Some(error) = errors().last().filter(|it| it.code != error::THROUGHPUT)
    {
        return Err(error);
    }
    let entries = Entries {
        call,
        name,
        outcomes,
    };
    Ok(Value::from([
        ("FailedRecordCount", Value::Int(failed as i64)),
        ("Records", Value::Rows(Arc::new(entries))),
    ]))
}

/// What became of the records of a PutRecords.
#[derive(Debug)]
struct Entries {
    call: Arc<Call>,
    name: String,
    outcomes: Vec<PublishOutcome>,
}

impl Rows for Entries {
    fn count(&self) -> usize {
        self.outcomes.len()
    }

    fn len_hint(&self) -> usize {
        // Names and quotes, a shard, and a number.
        const ABOUT: usize = 128;
        self.outcomes.len() * ABOUT
    }

    fn each(&self, show: &mut ShowRow<'_>) {
        // Most streams have few shards.
        let mut known: Vec<(ShardNo, String)> = Vec::new();
        let mut numbers = Numbers::default();
        for outcome in &self.outcomes {
            match placed(&self.call, &self.name, outcome) {
                Ok(place) => {
                    let at = known.iter().position(|(shard, _)| *shard == place.shard);
                    let at = at.unwrap_or_else(|| {
                        if known.len() == IDS_MAX {
                            known.clear();
                        }
                        known.push((place.shard, shard::id(place.shard)));
                        known.len() - 1
                    });
                    let id = &known[at].1;
                    let manners = self.call.settings.manners;
                    let number = numbers.digits(Sequence::of(&place), manners);
                    show(&[
                        ("ShardId", Field::Plain(id.as_bytes())),
                        ("SequenceNumber", Field::Plain(number.as_bytes())),
                    ]);
                }
                Err(error) => {
                    let code = match &*error.code {
                        error::THROUGHPUT => error::THROUGHPUT,
                        _ => error::INTERNAL,
                    };
                    show(&[
                        ("ErrorCode", Field::Text(code)),
                        ("ErrorMessage", Field::Text(&error.message)),
                    ]);
                }
            }
        }
    }
}
