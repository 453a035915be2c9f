//! SubscribeToShard: five minutes of a shard's records, pushed.
//!
//! ```text
//! inspect ─► lease the shard for the consumer ─► Output ─► read ─► still ours? ─► SubscribeToShardEvent ─► read …
//!               └ another's, younger than 5 s: ResourceInUseException      └ no: ResourceInUseException, the end
//! ```
//! Each consumer has a consumer group in the core. The lease that a subscription takes lasts for the five seconds in which
//! another one is refused; after that another one may take it, and the one before sees that it has changed hands and ends.
//! So that holds across connections and after a takeover.

use std::sync::Arc;

use aws::{Answer, ApiError, Call, Input, Manners, Value};
use bytes::Bytes;
use message::Timestamp;
use session::{
    Command, Event, Flow, GroupInfo, GroupTo, Lane, ReadStream, Records, RefusalKind, ShardNo,
    StreamId, StreamStart, Token,
};

use crate::{
    consumers::{self, Named},
    error, position,
    read::show_records,
    sequence::Sequence,
    shard, state,
    target::{Step, done, or_refuse},
};

/// For how long a subscription lasts, in ms.
const SUBSCRIPTION_MS: u64 = 300_000;
/// For how long another subscription to the same shard is refused, in ms.
const EXCLUSIVE_MS: u64 = 5_000;
/// How long an event without records is waited for, in ms.
const EVENT_MS: u64 = 5_000;
/// Most records of an event.
const RECORDS_MAX: u32 = 10_000;
/// Most bytes of data and keys of an event; one record always fits.
const BYTES_MAX: u64 = 1 << 20;

/// The type of the events.
pub(crate) const EVENT: &str = "SubscribeToShardEvent";

/// A subscription.
struct Subscription {
    call: Arc<Call>,
    stream: String,
    id: StreamId,
    shard: ShardNo,
    group: Bytes,
    from: StreamStart,
    /// How often the shard's lease had changed hands when it was taken.
    counter: u64,
    ends: Timestamp,
}

/// `SubscribeToShard`.
pub(crate) fn subscribe(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Named::of(&call, &value).map(|named| {
        named
            .target
            .clone()
            .inspect(call.clone(), move |stream, now| {
                let consumer = named.find(&call, &stream)?;
                let name = state::name(&stream);
                let id = value.text("ShardId").unwrap_or_default();
                let shard = shard::find(&stream, id)
                    .ok_or_else(|| error::no_such_shard(&call, &name, id))?;
                let position = value.member("StartingPosition").unwrap_or(&Value::Null);
                let kind = position.text("Type").unwrap_or_default();
                let words = (kind, "SequenceNumber", "SubscribeToShard");
                let subscription = Subscription {
                    from: position::find(&call, &stream, shard, position, words, now)?,
                    stream: name,
                    id: stream.id,
                    shard: shard.shard,
                    group: consumers::group_of(&consumer.name),
                    counter: 0,
                    ends: now.plus_ms(SUBSCRIPTION_MS),
                    call,
                };
                Ok(subscription.lease())
            })
    }))
}

impl Subscription {
    fn group(&self, to: GroupTo) -> Command {
        Command::Group {
            token: Token(0),
            lane: Lane(0),
            stream: Bytes::copy_from_slice(self.stream.as_bytes()),
            group: self.group.clone(),
            to: Box::new(to),
        }
    }

    /// Takes the shard from whoever had it, unless that was in the last seconds.
    fn lease(mut self) -> Step {
        let create = self.group(GroupTo::Create {
            start: StreamStart::Next,
        });
        let lease = self.group(GroupTo::Lease {
            shard: self.shard,
            owner: Bytes::copy_from_slice(self.call.request_id.as_bytes()),
            ms: EXCLUSIVE_MS,
        });
        Flow::ask_each([create, lease], move |[_, leased], _| match leased {
            Event::Group { group, .. } => {
                self.counter = self.counter_in(&group);
                Flow::part(Answer::Output(Value::empty()), move |now| self.read(now))
            }
            Event::Refused { refusal, .. } if refusal.kind == RefusalKind::InUse => {
                done(Err(self.in_use()))
            }
            event => done(Err(error::unexpected(&self.call, &self.stream, &event))),
        })
    }

    fn counter_in(&self, group: &GroupInfo) -> u64 {
        group
            .shards
            .iter()
            .find(|known| known.shard == self.shard)
            .map_or(0, |known| known.counter)
    }

    fn in_use(&self) -> ApiError {
        ApiError::sender(
            error::IN_USE,
            format!(
                "Another active subscription exists for this consumer on {} of stream {} under account {}.",
                shard::id(self.shard),
                self.stream,
                self.call.account
            ),
        )
    }

    fn read(self, now: Timestamp) -> Step {
        let left = self.ends.since(now);
        if left == 0 {
            return Flow::Done(Answer::End);
        }
        let read = ReadStream {
            token: Token(0),
            lane: Lane(0),
            stream: Bytes::copy_from_slice(self.stream.as_bytes()),
            id: Some(self.id),
            shard: self.shard,
            from: self.from,
            count: RECORDS_MAX,
            bytes_max: BYTES_MAX,
            wait_ms: left.min(EVENT_MS),
            limited: false,
        };
        Flow::ask(
            Command::ReadStream(Box::new(read)),
            move |event, _| match event {
                Event::Records { records, .. } => self.still_ours(records),
                Event::Refused { refusal, .. } if refusal.kind == RefusalKind::NotFound => {
                    let id = shard::id(self.shard);
                    done(Err(error::no_such_shard(&self.call, &self.stream, &id)))
                }
                event => done(Err(error::unexpected(&self.call, &self.stream, &event))),
            },
        )
    }

    /// Shows what was read, unless another subscription has come, or the consumer has gone.
    fn still_ours(mut self, records: Box<Records>) -> Step {
        Flow::ask(self.group(GroupTo::Inspect), move |event, _| match event {
            Event::Group { group, .. } if self.counter_in(&group) == self.counter => {
                self.from = StreamStart::Offset(records.next);
                let ended = records.ended;
                let shown = Answer::Event(EVENT, show(self.call.settings.manners, records));
                if ended {
                    Flow::part(shown, |_| Flow::Done(Answer::End))
                } else {
                    Flow::part(shown, move |now| self.read(now))
                }
            }
            Event::Group { .. } => done(Err(self.in_use())),
            Event::Refused { refusal, .. } if refusal.kind == RefusalKind::NotFound => done(Err(
                ApiError::sender(error::NOT_FOUND, "The consumer has been deregistered."),
            )),
            event => done(Err(error::unexpected(&self.call, &self.stream, &event))),
        })
    }
}

fn show(manners: Manners, records: Box<Records>) -> Value {
    let next =
        (!records.ended).then(|| Sequence::before(&records.shard, records.next).text(manners));
    let behind = records.behind_ms as i64;
    let children = shard::show_children(records.ended, &records.children);
    Value::from([
        ("Records", show_records(manners, records)),
        ("ContinuationSequenceNumber", next.into()),
        ("MillisBehindLatest", Value::Int(behind)),
        ("ChildShards", children),
    ])
}
