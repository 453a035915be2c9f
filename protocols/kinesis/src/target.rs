//! Which stream a request is about: by name, by ARN, by the ARN of one of its consumers.

use std::sync::Arc;

use aws::{Answer, ApiError, Call, Manners, Value};
use bytes::Bytes;
use message::{Name, Timestamp};
use session::{
    Command, Event, Flow, Lane, Notes, RefusalKind, StreamAttributes, StreamInfo, StreamTo, Token,
};

use crate::{error, state};

/// How often a change is tried again that another one came before.
const CHANGES_MAX: u32 = 16;

/// The flow of an operation.
pub(crate) type Step = Flow<Answer>;

/// An answer, or the error that comes instead of it.
pub(crate) fn done(result: Result<Value, ApiError>) -> Step {
    Flow::Done(result.into())
}

/// The flow, or the error that comes instead of it.
pub(crate) fn or_refuse(result: Result<Step, ApiError>) -> Step {
    result.unwrap_or_else(|error| Flow::Done(Answer::Error(error)))
}

/// An output without members.
pub(crate) fn nothing() -> Value {
    Value::empty()
}

/// An ARN of ours, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arn {
    /// The stream's name.
    pub(crate) stream: String,
    /// The consumer's name, and when it was made, in seconds: with the manners of moto that is not said.
    pub(crate) consumer: Option<(String, Option<u64>)>,
}

impl Arn {
    /// Of this account and region, or of others that are the same virtual host (DOORS 7). `None`: it is of another one, or
    /// not of a stream.
    pub(crate) fn read(call: &Call, text: &str) -> Option<Self> {
        let (region, account, resource) = parts(text)?;
        let here = account == &*call.account && region == &*call.region;
        if !here && (call.vhost_of)(call, account, region)? != call.vhost_name {
            return None;
        }
        let Some((stream, consumer)) = resource.split_once('/') else {
            return Some(Self {
                stream: resource.to_owned(),
                consumer: None,
            });
        };
        let consumer = consumer.strip_prefix("consumer/")?;
        let (name, created_s) = match consumer.rsplit_once(':') {
            Some((name, created)) => (name, Some(created.parse().ok()?)),
            None if call.settings.manners == Manners::Moto => (consumer, None),
            None => return None,
        };
        Some(Self {
            stream: stream.to_owned(),
            consumer: Some((name.to_owned(), created_s)),
        })
    }
}

/// Region, account, and what stands behind `stream/` in an ARN.
pub(crate) fn parts(arn: &str) -> Option<(&str, &str, &str)> {
    let (_, rest) = arn.strip_prefix("arn:aws")?.split_once(":kinesis:")?;
    let (region, rest) = rest.split_once(':')?;
    let (account, resource) = rest.split_once(":stream/")?;
    Some((region, account, resource))
}

/// A stream that a request names.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its name.
    pub(crate) name: String,
    /// As errors name it: as the request did.
    shown: String,
    /// The id that it must have.
    id: Option<String>,
}

impl Target {
    /// The stream of `StreamName` or `StreamARN`.
    pub(crate) fn of(call: &Call, value: &Value) -> Result<Self, ApiError> {
        let by_arn = value
            .text("StreamARN")
            .map(|arn| match Arn::read(call, arn) {
                Some(Arn {
                    stream,
                    consumer: None,
                }) => Ok(stream),
                _ => Err(error::no_stream(call, arn)),
            })
            .transpose()?;
        let name = match (value.text("StreamName"), by_arn) {
            (Some(name), Some(other)) if name != other => {
                return Err(error::invalid(
                    "StreamName and StreamARN do not name the same stream.",
                ));
            }
            (Some(name), _) => name.to_owned(),
            (None, Some(name)) => name,
            (None, None) => {
                return Err(error::invalid(
                    "Either StreamName or StreamARN must be specified.",
                ));
            }
        };
        Ok(Self {
            shown: name.clone(),
            name,
            id: value.text("StreamId").map(str::to_owned),
        })
    }

    /// A stream by its name, which errors call otherwise.
    pub(crate) fn shown_as(name: String, shown: &str) -> Self {
        Self {
            name,
            shown: shown.to_owned(),
            id: None,
        }
    }

    /// As the core names it.
    pub(crate) fn core_name(&self) -> Name {
        Bytes::copy_from_slice(self.name.as_bytes())
    }

    /// The command that does something to it.
    pub(crate) fn command(&self, to: StreamTo) -> Command {
        Command::Stream {
            token: Token(0),
            lane: Lane(0),
            name: self.core_name(),
            to: Box::new(to),
        }
    }

    /// Does something to it, and goes on with what it is then.
    pub(crate) fn ask(
        self,
        call: Arc<Call>,
        to: StreamTo,
        then: impl FnOnce(Box<StreamInfo>, Timestamp) -> Result<Step, ApiError> + Send + 'static,
    ) -> Step {
        Flow::ask(self.command(to), move |event, now| {
            or_refuse(
                self.stream(&call, event)
                    .and_then(|stream| then(stream, now)),
            )
        })
    }

    /// Looks at it.
    pub(crate) fn inspect(
        self,
        call: Arc<Call>,
        then: impl FnOnce(Box<StreamInfo>, Timestamp) -> Result<Step, ApiError> + Send + 'static,
    ) -> Step {
        self.ask(call, StreamTo::Inspect, then)
    }

    /// What an answer says about it.
    pub(crate) fn stream(&self, call: &Call, event: Event) -> Result<Box<StreamInfo>, ApiError> {
        match event {
            Event::Stream { stream, .. } => match &self.id {
                Some(id) if *id != state::stream_id(&stream) => {
                    Err(error::no_stream(call, &self.shown))
                }
                _ => Ok(stream),
            },
            event => Err(error::unexpected(call, &self.shown, &event)),
        }
    }

    /// Changes its attributes and notes, and answers with what the change returns. Done again when another change came
    /// between looking and changing.
    pub(crate) fn change(
        self,
        call: Arc<Call>,
        change: impl Fn(
            &StreamInfo,
            Timestamp,
            &mut StreamAttributes,
            &mut Notes,
        ) -> Result<Value, ApiError>
        + Send
        + 'static,
    ) -> Step {
        change_again(self, call, Box::new(change), CHANGES_MAX)
    }
}

type Change = Box<
    dyn Fn(&StreamInfo, Timestamp, &mut StreamAttributes, &mut Notes) -> Result<Value, ApiError>
        + Send,
>;

fn change_again(target: Target, call: Arc<Call>, change: Change, tries: u32) -> Step {
    let inspect = target.command(StreamTo::Inspect);
    Flow::ask(inspect, move |event, now| {
        let changed = target.stream(&call, event).and_then(|stream| {
            let mut attributes = stream.attributes.clone();
            let mut notes = stream.notes.clone();
            let answer = change(&stream, now, &mut attributes, &mut notes)?;
            let same = attributes == stream.attributes && notes == stream.notes;
            Ok((
                answer,
                (!same).then_some((stream.version, attributes, notes)),
            ))
        });
        let (answer, (version, attributes, notes)) = match changed {
            Err(error) => return done(Err(error)),
            Ok((answer, None)) => return done(Ok(answer)),
            Ok((answer, Some(changed))) => (answer, changed),
        };
        let alter = target.command(StreamTo::Alter {
            version,
            attributes,
            notes,
        });
        Flow::ask(alter, move |event, _| match event {
            Event::Refused { refusal, .. }
                if refusal.kind == RefusalKind::Inequivalent && tries > 1 =>
            {
                change_again(target, call, change, tries - 1)
            }
            event => done(target.stream(&call, event).map(|_| answer)),
        })
    })
}
