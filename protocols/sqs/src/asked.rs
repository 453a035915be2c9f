//! What operations ask of the core, with the answers told apart.

use std::collections::BTreeMap;

use aws::{Answer, ApiError, Value};
use bytes::Bytes;
use message::{Name, Timestamp};
use session::{
    Command, Declare, Event, Flow, Lane, Notes, QueueAttributes, QueueInfo, Refusal, RefusalKind,
    Token,
};

use crate::words;

/// Tokens and lanes do not matter in a flow: who drives it sets them.
pub(crate) const TOKEN: Token = Token(0);
pub(crate) const LANE: Lane = Lane(0);
/// How often a change is tried again that someone else came before.
const TRIES: u32 = 16;

/// An answer.
pub(crate) fn done(result: Result<Value, ApiError>) -> Flow<Answer> {
    Flow::Done(result.into())
}

/// An error.
pub(crate) fn failed(error: ApiError) -> Flow<Answer> {
    Flow::Done(Answer::Error(error))
}

/// The answer that no command of this kind has.
pub(crate) fn unexpected(event: &Event) -> ApiError {
    match event {
        Event::Refused { refusal, .. } => words::refused(refusal),
        _ => ApiError::receiver(500, "InternalFailure", "an answer that was not asked for"),
    }
}

/// Asks several things, or nothing.
pub(crate) fn ask_each(
    commands: Vec<Command>,
    then: impl FnOnce(Vec<Event>) -> Flow<Answer> + Send + 'static,
) -> Flow<Answer> {
    if commands.is_empty() {
        return then(Vec::new());
    }
    Flow::ask_all(commands, |events, _| then(events))
}

/// Declares; what a refusal means is the caller's.
pub(crate) fn declare(
    declare: Declare,
    then: impl FnOnce(Result<(), Refusal>, Timestamp) -> Flow<Answer> + Send + 'static,
) -> Flow<Answer> {
    let command = Command::Declare {
        token: TOKEN,
        lane: LANE,
        declare,
    };
    Flow::ask(command, |event, now| match event {
        Event::Declared { .. } => then(Ok(()), now),
        Event::Refused { refusal, .. } => then(Err(refusal), now),
        other => failed(unexpected(&other)),
    })
}

/// Looks at a queue. One that is not for SQS (DOORS 8) is not there.
pub(crate) fn look(
    name: Name,
    then: impl FnOnce(Option<Box<QueueInfo>>, Timestamp) -> Flow<Answer> + Send + 'static,
) -> Flow<Answer> {
    let command = Command::Inspect {
        token: TOKEN,
        lane: LANE,
        name,
    };
    Flow::ask(command, |event, now| match event {
        Event::Inspected { queue, .. } if is_for_sqs(&queue) => then(Some(queue), now),
        Event::Inspected { .. } => then(None, now),
        Event::Refused { refusal, .. }
            if matches!(refusal.kind, RefusalKind::NotFound | RefusalKind::Locked) =>
        {
            then(None, now)
        }
        other => failed(unexpected(&other)),
    })
}

/// Looks at a queue that must be there.
pub(crate) fn look_at(
    name: Name,
    then: impl FnOnce(Box<QueueInfo>, Timestamp) -> Flow<Answer> + Send + 'static,
) -> Flow<Answer> {
    look(name, |queue, now| match queue {
        Some(queue) => then(queue, now),
        None => failed(words::no_queue()),
    })
}

/// DOORS 8: durable, and nobody's own.
fn is_for_sqs(queue: &QueueInfo) -> bool {
    let options = &queue.options;
    options.durable && !options.exclusive && !options.auto_delete
}

/// What can be changed about a queue: what the core does, and what this door keeps with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Made {
    pub(crate) attributes: QueueAttributes,
    /// Notes of all doors.
    notes: BTreeMap<Bytes, Bytes>,
}

/// Before the names of this door's notes.
const NOTE: &str = "sqs.";

impl Made {
    pub(crate) fn of(queue: &QueueInfo) -> Self {
        Self {
            attributes: queue.options.attributes.clone(),
            notes: queue.notes.iter().cloned().collect(),
        }
    }

    pub(crate) fn notes(&self) -> Notes {
        self.notes.clone().into_iter().collect()
    }

    pub(crate) fn note(&self, name: &str) -> Option<&str> {
        let value = self.notes.get([NOTE, name].concat().as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    /// Keeps a text; `None` forgets it.
    pub(crate) fn keep(&mut self, name: &str, value: Option<&str>) {
        let name = Bytes::from([NOTE, name].concat());
        match value {
            Some(value) => {
                let value = Bytes::copy_from_slice(value.as_bytes());
                self.notes.insert(name, value);
            }
            None => {
                self.notes.remove(&name);
            }
        }
    }

    /// The notes whose names begin so, without that.
    pub(crate) fn notes_with<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let start = [NOTE, prefix].concat();
        let from = Bytes::from(start.clone());
        self.notes.range(from..).map_while(move |(name, value)| {
            let name = std::str::from_utf8(name).ok()?.strip_prefix(&start[..])?;
            Some((name, std::str::from_utf8(value).ok()?))
        })
    }
}

/// Changes a queue: what `edit` makes of it as it is. Nothing happens if that is the same. When someone else has changed it
/// meanwhile, `edit` is asked again.
pub(crate) fn alter<F>(name: Name, edit: F) -> Flow<Answer>
where
    F: FnMut(&QueueInfo, &mut Made, Timestamp) -> Result<(), ApiError> + Send + 'static,
{
    let change = |name, version, made: Made| Declare::Alter {
        name,
        version,
        notes: made.notes(),
        attributes: Box::new(made.attributes),
    };
    change_try(name, edit, change, TRIES)
}

/// Purges a queue, and keeps with it what `edit` makes of the notes in the same step.
pub(crate) fn purge_noting<F>(name: Name, edit: F) -> Flow<Answer>
where
    F: FnMut(&QueueInfo, &mut Made, Timestamp) -> Result<(), ApiError> + Send + 'static,
{
    let change = |name, version, made: Made| Declare::PurgeAll {
        name,
        noted: Some((version, made.notes())),
    };
    change_try(name, edit, change, TRIES)
}

fn change_try<F>(
    name: Name,
    mut edit: F,
    change: fn(Name, u64, Made) -> Declare,
    tries: u32,
) -> Flow<Answer>
where
    F: FnMut(&QueueInfo, &mut Made, Timestamp) -> Result<(), ApiError> + Send + 'static,
{
    look_at(name.clone(), move |queue, now| {
        let known = Made::of(&queue);
        let mut made = known.clone();
        if let Err(error) = edit(&queue, &mut made, now) {
            return failed(error);
        }
        if made == known {
            return done(Ok(Value::empty()));
        }
        let changed = change(name.clone(), queue.version, made);
        declare(changed, move |answer, _| match answer {
            Ok(()) => done(Ok(Value::empty())),
            Err(refusal) if refusal.kind == RefusalKind::Inequivalent && tries > 1 => {
                change_try(name, edit, change, tries - 1)
            }
            Err(refusal) if refusal.kind == RefusalKind::Inequivalent => {
                failed(ApiError::receiver(
                    503,
                    "ServiceUnavailable",
                    "others change this queue all the time",
                ))
            }
            Err(refusal) => failed(words::refused(&refusal)),
        })
    })
}
