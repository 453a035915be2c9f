//! Consumers with enhanced fan-out: registered with a stream, each with an ARN of its own.
//!
//! A consumer is a note of its stream, so it goes with the stream. Its consumer group in the core exists to know whose
//! subscription to a shard lasts (see `subscribe.rs`).

use std::sync::Arc;

use aws::{ApiError, Call, Input, Manners, Subject, Value};
use bytes::Bytes;
use message::Timestamp;
use session::{Command, Flow, GroupTo, Lane, Notes, Object, StreamInfo, Token};

use crate::{
    account::{self, bad_token, open_token},
    error, notes,
    seal::{self, Form},
    state, tags,
    target::{Arn, Step, Target, done, nothing, or_refuse},
};

/// Consumers of one stream.
const CONSUMERS_MAX: usize = 20;

/// A registered consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumer {
    /// Its name.
    pub(crate) name: String,
    /// When it was registered.
    pub(crate) created: Timestamp,
}

impl Consumer {
    pub(crate) fn arn(&self, call: &Call, stream: &str) -> String {
        let arn = format!("{}/consumer/{}", state::arn(call, stream), self.name);
        match call.settings.manners {
            Manners::Standard => format!("{arn}:{}", self.created.0 / 1000),
            Manners::Moto => arn,
        }
    }

    fn show(&self, call: &Call, stream: &str) -> Value {
        Value::from([
            ("ConsumerName", self.name.as_str().into()),
            ("ConsumerARN", self.arn(call, stream).into()),
            ("ConsumerStatus", "ACTIVE".into()),
            ("ConsumerCreationTimestamp", self.created.into()),
        ])
    }
}

/// The consumers of a stream, in the order of their names.
pub(crate) fn all(kept: &Notes) -> impl Iterator<Item = Consumer> {
    notes::below(kept, notes::CONSUMERS)
        .filter(|(name, _)| !name.contains('/'))
        .filter_map(|(name, created)| {
            Some(Consumer {
                name: name.to_owned(),
                created: Timestamp(created.parse().ok()?),
            })
        })
}

/// How many there are.
pub(crate) fn count(stream: &StreamInfo) -> usize {
    all(&stream.notes).count()
}

/// The consumer of that name.
pub(crate) fn find(stream: &StreamInfo, name: &str) -> Option<Consumer> {
    all(&stream.notes).find(|consumer| consumer.name == name)
}

/// There is no such consumer.
pub(crate) fn not_found(call: &Call, consumer: &str) -> ApiError {
    ApiError::sender(
        error::NOT_FOUND,
        format!("Consumer {consumer}, account {} not found.", call.account),
    )
}

/// The group of a consumer in the core.
pub(crate) fn group_of(consumer: &str) -> Bytes {
    Bytes::from(format!("kinesis/consumer/{consumer}").into_bytes())
}

/// A consumer that a request names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// Its stream.
    pub(crate) target: Target,
    name: String,
    created_s: Option<u64>,
    shown: String,
}

impl Named {
    /// By `ConsumerARN`, or by `StreamARN` and `ConsumerName`.
    pub(crate) fn of(call: &Call, value: &Value) -> Result<Self, ApiError> {
        let stream = value
            .text("StreamARN")
            .map(|_| Target::of(call, value))
            .transpose()?;
        let Some(arn) = value.text("ConsumerARN") else {
            let (Some(target), Some(name)) = (stream, value.text("ConsumerName")) else {
                return Err(error::invalid(
                    "Either ConsumerARN or StreamARN and ConsumerName must be specified.",
                ));
            };
            return Ok(Self {
                target,
                name: name.to_owned(),
                created_s: None,
                shown: name.to_owned(),
            });
        };
        let Some(Arn {
            stream: of,
            consumer: Some((name, created_s)),
        }) = Arn::read(call, arn)
        else {
            return Err(not_found(call, arn));
        };
        if stream.is_some_and(|stream| stream.name != of)
            || value.text("ConsumerName").is_some_and(|said| said != name)
        {
            return Err(error::invalid(
                "ConsumerARN, StreamARN and ConsumerName do not name the same consumer.",
            ));
        }
        Ok(Self {
            target: Target::shown_as(of.clone(), &of),
            name,
            created_s,
            shown: arn.to_owned(),
        })
    }

    /// It, for whom its policy lets in.
    pub(crate) fn subject(self) -> Subject {
        Subject {
            object: Object::Stream,
            name: self.target.core_name(),
            part: Some(self.name),
        }
    }

    /// The consumer, if its stream has it.
    pub(crate) fn find(&self, call: &Call, stream: &StreamInfo) -> Result<Consumer, ApiError> {
        find(stream, &self.name)
            .filter(|known| {
                self.created_s
                    .is_none_or(|created_s| known.created.0 / 1000 == created_s)
            })
            .ok_or_else(|| not_found(call, &self.shown))
    }
}

/// `RegisterStreamConsumer`.
pub(crate) fn register(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        let changing = call.clone();
        target.change(call, move |stream, now, _, kept| {
            state::active(&changing, stream, now)?;
            let name = value.text("ConsumerName").unwrap_or_default().to_owned();
            let of = state::name(stream);
            if find(stream, &name).is_some() {
                return Err(ApiError::sender(
                    error::IN_USE,
                    format!(
                        "Consumer {name} under stream {of} already exists for account {}.",
                        changing.account
                    ),
                ));
            }
            if count(stream) >= CONSUMERS_MAX {
                return Err(ApiError::sender(
                    error::LIMIT,
                    format!(
                        "Stream {of} under account {} has {CONSUMERS_MAX} consumers registered, which is the limit.",
                        changing.account
                    ),
                ));
            }
            let consumer = Consumer { name, created: now };
            let note = format!("{}{}", notes::CONSUMERS, consumer.name);
            notes::write(kept, &note, &now.0.to_string());
            tags::put(&changing, &of, kept, &format!("{note}/tag/"), value.map("Tags"))?;
            Ok(Value::from([("Consumer", consumer.show(&changing, &of))]))
        })
    }))
}

/// `DeregisterStreamConsumer`.
pub(crate) fn deregister(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(checked_deregister(call, &value))
}

fn checked_deregister(call: Arc<Call>, value: &Value) -> Result<Step, ApiError> {
    let named = Named::of(&call, value)?;
    let group = Command::Group {
        token: Token(0),
        lane: Lane(0),
        stream: named.target.core_name(),
        group: group_of(&named.name),
        to: Box::new(GroupTo::Delete),
    };
    let changing = call.clone();
    let target = named.target.clone();
    let change = target.change(call, move |stream, _, _, kept| {
        let consumer = named.find(&changing, stream)?;
        let note = format!("{}{}", notes::CONSUMERS, consumer.name);
        let below = format!("{note}/");
        kept.retain(|(name, _)| {
            name[..] != *note.as_bytes() && !name.starts_with(below.as_bytes())
        });
        Ok(nothing())
    });
    // What it was subscribed to ends when its group has gone; it need not have one.
    Ok(then_ask(change, group))
}

/// Asks one thing more when an operation has succeeded, whatever that is answered.
fn then_ask(step: Step, command: Command) -> Step {
    match step {
        Flow::Done(aws::Answer::Output(value)) => Flow::ask(command, move |_, _| done(Ok(value))),
        Flow::Ask(commands, then) => Flow::ask_all(commands, move |events, now| {
            then_ask(then(events, now), command)
        }),
        other => other,
    }
}

/// `DescribeStreamConsumer`.
pub(crate) fn describe(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Named::of(&call, &value).map(|named| {
        named
            .target
            .clone()
            .inspect(call.clone(), move |stream, _| {
                let consumer = named.find(&call, &stream)?;
                let of = state::name(&stream);
                let mut shown = consumer.show(&call, &of);
                if let Value::Map(members) = &mut shown {
                    members.push(("StreamARN".into(), state::arn(&call, &of).into()));
                }
                Ok(done(Ok(Value::from([("ConsumerDescription", shown)]))))
            })
    }))
}

/// `ListStreamConsumers`.
pub(crate) fn list(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(checked_list(call, &value))
}

fn checked_list(call: Arc<Call>, value: &Value) -> Result<Step, ApiError> {
    let target = Target::of(&call, value)?;
    let most = account::page_len(value, "MaxResults");
    let created = value.time("StreamCreationTimestamp");
    // A token is the name of the stream and that of the last consumer shown.
    let after = match value.text("NextToken") {
        None => String::new(),
        Some(token) => {
            let content = open_token(&call, Form::Consumers, token, call.now)?;
            let content = String::from_utf8(content).map_err(|_| bad_token())?;
            let (of, last) = content.split_once('/').ok_or_else(bad_token)?;
            if of != target.name {
                return Err(bad_token());
            }
            last.to_owned()
        }
    };
    Ok(target.inspect(call.clone(), move |stream, _| {
        let of = state::name(&stream);
        if created.is_some_and(|created| created.0 / 1000 != stream.created.0 / 1000) {
            return Err(error::no_stream(&call, &of));
        }
        let mut behind = all(&stream.notes).filter(|consumer| consumer.name > after);
        let page: Vec<_> = behind.by_ref().take(most).collect();
        let next = behind.next().and_then(|_| page.last()).map(|last| {
            let content = format!("{of}/{}", last.name);
            seal::seal(&call, Form::Consumers, call.now, content.as_bytes())
        });
        let shown = page.iter().map(|consumer| consumer.show(&call, &of));
        Ok(done(Ok(Value::from([
            ("Consumers", Value::List(shown.collect())),
            ("NextToken", next.into()),
        ]))))
    }))
}
