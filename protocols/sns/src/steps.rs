//! Steps that operations are made of: look at an object of the core, change it, and try again when others changed it meanwhile.

use aws::{Answer, ApiError, Call, Value};
use bytes::Bytes;
use message::Name;
use session::{
    Command, Event, Fifo, Flow, Lane, Notes, Refusal, RefusalKind, SubscriptionId,
    SubscriptionInfo, SubscriptionSettings, SubscriptionTo, Token, TopicInfo, TopicTo,
};

use crate::faults;

/// How an operation goes.
pub(crate) type Run = Flow<Answer>;

/// How often a change is tried when others change the same object.
const TRIES_MAX: u32 = 20;

/// Ends with an error.
pub(crate) const fn fail(error: ApiError) -> Run {
    Flow::Done(Answer::Error(error))
}

/// Ends with an output.
pub(crate) const fn done(output: Value) -> Run {
    Flow::Done(Answer::Output(output))
}

/// Ends with nothing but success.
pub(crate) fn nothing() -> Run {
    done(Value::empty())
}

/// Goes on with a value, or ends with its error.
pub(crate) fn go<T>(result: Result<T, ApiError>, then: impl FnOnce(T) -> Run) -> Run {
    match result {
        Ok(value) => then(value),
        Err(error) => fail(error),
    }
}

/// An answer that does not belong to its question: a defect of ours.
pub(crate) fn unexpected(_: &Event) -> Refusal {
    Refusal::new(
        RefusalKind::Internal,
        "the core answered something that was not asked",
    )
}

/// Does something to a topic object.
pub(crate) fn topic(
    name: Name,
    to: TopicTo,
    then: impl FnOnce(Result<Box<TopicInfo>, Refusal>) -> Run + Send + 'static,
) -> Run {
    let command = Command::Topic {
        token: Token(0),
        lane: Lane(0),
        name,
        to: Box::new(to),
    };
    Flow::ask(command, |event, _| {
        then(match event {
            Event::Topic { topic, .. } => Ok(topic),
            Event::Refused { refusal, .. } => Err(refusal),
            other => Err(unexpected(&other)),
        })
    })
}

/// Does something to a subscription.
pub(crate) fn subscription(
    to: SubscriptionTo,
    then: impl FnOnce(Result<Box<SubscriptionInfo>, Refusal>) -> Run + Send + 'static,
) -> Run {
    let command = Command::Subscription {
        token: Token(0),
        lane: Lane(0),
        to: Box::new(to),
    };
    Flow::ask(command, |event, _| {
        then(match event {
            Event::Subscription { subscription, .. } => Ok(subscription),
            Event::Refused { refusal, .. } => Err(refusal),
            other => Err(unexpected(&other)),
        })
    })
}

/// What a topic object becomes. `None`: it stays as it is.
pub(crate) type Altered = Result<Option<(Option<Fifo>, Notes)>, ApiError>;

/// Changes a topic object: looks, lets `change` say what it becomes, and begins anew when it changed meanwhile.
pub(crate) fn alter_topic(
    name: Name,
    refused: impl Fn(&Refusal) -> ApiError + Send + 'static,
    change: impl Fn(&TopicInfo) -> Altered + Send + 'static,
    then: impl FnOnce() -> Run + Send + 'static,
) -> Run {
    try_topic(name, refused, change, then, TRIES_MAX)
}

fn try_topic(
    name: Name,
    refused: impl Fn(&Refusal) -> ApiError + Send + 'static,
    change: impl Fn(&TopicInfo) -> Altered + Send + 'static,
    then: impl FnOnce() -> Run + Send + 'static,
    tries: u32,
) -> Run {
    topic(name.clone(), TopicTo::Inspect, move |found| {
        let found = match found {
            Ok(found) => found,
            Err(refusal) => return fail(refused(&refusal)),
        };
        let (fifo, notes) = match change(&found) {
            Ok(Some(altered)) => altered,
            Ok(None) => return then(),
            Err(error) => return fail(error),
        };
        let alter = TopicTo::Alter {
            version: found.version,
            fifo,
            notes,
        };
        topic(name.clone(), alter, move |altered| match altered {
            Ok(_) => then(),
            Err(refusal) if refusal.kind == RefusalKind::Inequivalent && tries > 1 => {
                try_topic(name, refused, change, then, tries - 1)
            }
            Err(refusal) => fail(refused(&refusal)),
        })
    })
}

/// What a subscription becomes.
pub(crate) struct Becomes {
    pub(crate) settings: SubscriptionSettings,
    pub(crate) confirmed: bool,
    pub(crate) notes: Notes,
    /// `None`: it stays what it was.
    pub(crate) identity: Option<Bytes>,
}

/// `None`: it stays as it is.
pub(crate) type AlteredSubscription = Result<Option<Becomes>, ApiError>;

/// Changes a subscription, as [`alter_topic`] does a topic object.
pub(crate) fn alter_subscription(
    id: SubscriptionId,
    refused: impl Fn(&Refusal) -> ApiError + Send + 'static,
    change: impl Fn(&SubscriptionInfo) -> AlteredSubscription + Send + 'static,
    then: impl FnOnce(&SubscriptionInfo) -> Run + Send + 'static,
) -> Run {
    try_subscription(id, refused, change, then, TRIES_MAX)
}

fn try_subscription(
    id: SubscriptionId,
    refused: impl Fn(&Refusal) -> ApiError + Send + 'static,
    change: impl Fn(&SubscriptionInfo) -> AlteredSubscription + Send + 'static,
    then: impl FnOnce(&SubscriptionInfo) -> Run + Send + 'static,
    tries: u32,
) -> Run {
    subscription(SubscriptionTo::Inspect { id }, move |found| {
        let found = match found {
            Ok(found) => found,
            Err(refusal) => return fail(refused(&refusal)),
        };
        let becomes = match change(&found) {
            Ok(Some(becomes)) => becomes,
            Ok(None) => return then(&found),
            Err(error) => return fail(error),
        };
        let alter = SubscriptionTo::Alter {
            id,
            version: found.version,
            settings: becomes.settings,
            confirmed: becomes.confirmed,
            notes: becomes.notes,
            identity: becomes.identity,
        };
        subscription(alter, move |altered| match altered {
            Ok(altered) => then(&altered),
            Err(refusal) if refusal.kind == RefusalKind::Inequivalent && tries > 1 => {
                try_subscription(id, refused, change, then, tries - 1)
            }
            Err(refusal) => fail(refused(&refusal)),
        })
    })
}

/// The note of that name.
pub(crate) fn find<'a>(notes: &'a Notes, name: &str) -> Option<&'a Bytes> {
    let at = notes.binary_search_by(|(known, _)| known[..].cmp(name.as_bytes()));
    Some(&notes[at.ok()?].1)
}

/// Its text.
pub(crate) fn note<'a>(notes: &'a Notes, name: &str) -> Option<&'a str> {
    std::str::from_utf8(find(notes, name)?).ok()
}

/// Sets a note, or with an empty value takes it away.
pub(crate) fn set_note(notes: &mut Notes, name: &str, value: &str) {
    let found = notes.binary_search_by(|(known, _)| known[..].cmp(name.as_bytes()));
    match (found, value.is_empty()) {
        (Ok(at), true) => {
            notes.remove(at);
        }
        (Err(_), true) => {}
        (Ok(at), false) => notes[at].1 = Bytes::copy_from_slice(value.as_bytes()),
        (Err(at), false) => {
            let note = |text: &str| Bytes::copy_from_slice(text.as_bytes());
            notes.insert(at, (note(name), note(value)));
        }
    }
}

/// The notes whose names begin so, without that beginning.
pub(crate) fn notes_under<'a>(
    notes: &'a Notes,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    notes.iter().filter_map(move |(name, value)| {
        let name = std::str::from_utf8(name).ok()?.strip_prefix(prefix)?;
        Some((name, std::str::from_utf8(value).ok()?))
    })
}

/// The refusal of a call, as the operation has it where it knows no better.
pub(crate) fn refused_as(
    call: &std::sync::Arc<Call>,
    operation: &'static str,
    resource: &str,
    absent: fn() -> ApiError,
) -> impl Fn(&Refusal) -> ApiError + Send + 'static + use<> {
    let (call, resource) = (std::sync::Arc::clone(call), resource.to_owned());
    move |refusal| match refusal.kind {
        RefusalKind::NotFound => absent(),
        _ => faults::refused(&call, operation, &resource, refusal),
    }
}
