//! DeleteMessage, ChangeMessageVisibility, and their batches.
//!
//! A handle that opens was made for this queue, so it is used at once; the queue is looked at only when no handle opens, to tell a
//! queue that is not there from a handle that is none.

use std::sync::Arc;

use aws::{Answer, ApiError, Call, Input, Value, seal::Sealer};
use session::{
    Command, Event, Flow, Receipt, ReceiptUse, Refusal, RefusalKind, UseReceipt, UseReceipts,
};

use crate::{
    asked::{LANE, TOKEN, ask_each, done, failed, look_at, unexpected},
    attributes::VISIBILITY_MAX,
    batch,
    handle::{self, Handle},
    queue, words,
};

/// What is to be done with a message.
#[derive(Clone, Copy)]
enum Act {
    Delete,
    /// Visible again so many seconds from now.
    Visibility(u64),
}

/// One use of a handle.
struct Use {
    text: String,
    handle: Handle,
    act: Act,
}

impl Use {
    /// `text`: the handle's.
    fn of(call: &Call, sealer: &Sealer, text: String, act: Act) -> Result<Self, ApiError> {
        let handle = Self::opened(call, sealer, &text, act)?;
        Ok(Self { text, handle, act })
    }

    fn opened(call: &Call, sealer: &Sealer, text: &str, act: Act) -> Result<Handle, ApiError> {
        let Some(handle) = Handle::open(sealer, text) else {
            return Err(words::invalid_handle());
        };
        let held_s = call.now.since(handle.received) / 1000;
        if let Act::Visibility(seconds) = act
            && held_s + seconds > VISIBILITY_MAX
        {
            return Err(words::invalid(
                "VisibilityTimeout",
                seconds,
                format!(
                    "Total VisibilityTimeout for the message is beyond the limit [{VISIBILITY_MAX} seconds]"
                ),
            ));
        }
        Ok(handle)
    }

    const fn asked(&self) -> (Receipt, ReceiptUse) {
        let to = match self.act {
            Act::Delete => ReceiptUse::Delete,
            Act::Visibility(seconds) => ReceiptUse::Visibility { ms: seconds * 1000 },
        };
        (self.handle.receipt, to)
    }

    fn answer(&self, refusal: Option<&Refusal>) -> Result<(), ApiError> {
        let Some(refusal) = refusal else {
            return Ok(());
        };
        match (self.act, refusal.kind) {
            // It was deleted before, which is what was asked for.
            (Act::Delete, RefusalKind::UnknownDelivery) => Ok(()),
            (Act::Delete, RefusalKind::NotOut) => Err(words::invalid(
                "ReceiptHandle",
                &self.text,
                "The receipt handle has expired.",
            )),
            (Act::Visibility(_), RefusalKind::UnknownDelivery) => Err(words::invalid(
                "ReceiptHandle",
                &self.text,
                "Message does not exist or is not available for visibility timeout change.",
            )),
            (Act::Visibility(_), RefusalKind::NotOut) => Err(words::not_in_flight()),
            _ => Err(words::refused(refusal)),
        }
    }
}

fn seconds(value: &Value) -> Result<u64, ApiError> {
    let Some(seconds) = value.int("VisibilityTimeout") else {
        return Err(words::missing("VisibilityTimeout"));
    };
    match u64::try_from(seconds) {
        Ok(seconds) if seconds <= VISIBILITY_MAX => Ok(seconds),
        _ => Err(words::invalid(
            "VisibilityTimeout",
            seconds,
            format!("VisibilityTimeout must be an integer between 0 and {VISIBILITY_MAX}"),
        )),
    }
}

fn act_of(value: &Value, visibility: bool) -> Result<Act, ApiError> {
    if visibility {
        seconds(value).map(Act::Visibility)
    } else {
        Ok(Act::Delete)
    }
}

fn one(input: &Input, visibility: bool) -> Flow<Answer> {
    let name = match queue::of_input(input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let text = input.value.text("ReceiptHandle").unwrap_or_default();
    let text = text.to_owned();
    let sealer = handle::sealer(&input.call, &name);
    let used =
        act_of(&input.value, visibility).and_then(|act| Use::of(&input.call, &sealer, text, act));
    match used {
        Ok(used) => {
            let (receipt, to) = used.asked();
            let command = Command::UseReceipt(UseReceipt {
                token: TOKEN,
                lane: LANE,
                receipt,
                to,
            });
            Flow::ask(command, move |event, _| {
                let answer = match &event {
                    Event::Settled { .. } => used.answer(None),
                    Event::Refused { refusal, .. } => used.answer(Some(refusal)),
                    other => Err(unexpected(other)),
                };
                done(answer.map(|()| Value::empty()))
            })
        }
        Err(error) => look_at(name, |_, _| failed(error)),
    }
}

pub(crate) fn delete(input: Input) -> Flow<Answer> {
    one(&input, false)
}

pub(crate) fn visibility(input: Input) -> Flow<Answer> {
    one(&input, true)
}

fn many(mut input: Input, visibility: bool, entry: &str) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let entries = match batch::entries(&mut input, entry) {
        Ok(entries) => entries,
        Err(error) => return look_at(name, |_, _| failed(error)),
    };
    let call = Arc::clone(&input.call);
    let sealer = handle::sealer(&call, &name);
    let uses: Vec<(String, Result<Use, ApiError>)> = entries
        .into_iter()
        .map(|(id, mut value)| {
            let used = act_of(&value, visibility).and_then(|act| {
                let text = match value.take("ReceiptHandle") {
                    Value::Text(text) => text,
                    _ => String::new(),
                };
                match Use::opened(&call, &sealer, &text, act) {
                    Ok(handle) => Ok(Use { text, handle, act }),
                    Err(error) if error.code == "ReceiptHandleIsInvalid" => {
                        Err(words::invalid_handle_of(&text))
                    }
                    Err(error) => Err(error),
                }
            });
            (id, used)
        })
        .collect();
    if uses.iter().all(|(_, used)| used.is_err()) {
        return look_at(name, |_, _| use_all(uses));
    }
    use_all(uses)
}

fn use_all(uses: Vec<(String, Result<Use, ApiError>)>) -> Flow<Answer> {
    // A message that is named again is in a command of its own, behind the one before: it finds what that left.
    let mut groups: Vec<Vec<(Receipt, ReceiptUse)>> = Vec::new();
    let mut group_of = Vec::with_capacity(uses.len());
    for used in uses.iter().filter_map(|(_, used)| used.as_ref().ok()) {
        let asked = used.asked();
        let same = |(known, _): &(Receipt, ReceiptUse)| {
            (known.queue, known.qseq) == (asked.0.queue, asked.0.qseq)
        };
        let free = groups.iter().position(|group| !group.iter().any(same));
        let at = free.unwrap_or_else(|| {
            groups.push(Vec::with_capacity(uses.len()));
            groups.len() - 1
        });
        groups[at].push(asked);
        group_of.push(at);
    }
    let command = |uses| {
        Command::UseReceipts(Box::new(UseReceipts {
            token: TOKEN,
            lane: LANE,
            uses,
        }))
    };
    let commands = groups.into_iter().map(command).collect();
    ask_each(commands, move |events| {
        let mut answers: Vec<_> = events.iter().map(Answers::of).collect();
        let mut group_of = group_of.into_iter();
        let mut results = batch::Results::of(uses.len());
        for (id, used) in uses {
            let result = used.and_then(|used| {
                let at = group_of.next().expect("each was asked in a group");
                answers[at].next(&used)
            });
            results.put(id, result);
        }
        done(results.answer())
    })
}

/// The answers to the uses of one command, one after the other.
enum Answers<'a> {
    Each(std::slice::Iter<'a, Result<u32, Refusal>>),
    /// All of them alike.
    Refused(&'a Refusal),
    Unexpected(&'a Event),
}

impl<'a> Answers<'a> {
    fn of(event: &'a Event) -> Self {
        match event {
            Event::SettledAll { outcomes, .. } => Self::Each(outcomes.iter()),
            Event::Refused { refusal, .. } => Self::Refused(refusal),
            other => Self::Unexpected(other),
        }
    }

    fn next(&mut self, used: &Use) -> Result<(), ApiError> {
        match self {
            Self::Each(outcomes) => {
                let outcome = outcomes.next().expect("one outcome for each use");
                used.answer(outcome.as_ref().err())
            }
            Self::Refused(refusal) => used.answer(Some(refusal)),
            Self::Unexpected(event) => Err(unexpected(event)),
        }
    }
}

pub(crate) fn delete_batch(input: Input) -> Flow<Answer> {
    many(input, false, "DeleteMessageBatchRequestEntry")
}

pub(crate) fn visibility_batch(input: Input) -> Flow<Answer> {
    many(input, true, "ChangeMessageVisibilityBatchRequestEntry")
}
