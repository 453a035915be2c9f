//! DeleteQueue and PurgeQueue, and their rules of a minute ([`aws::Settings::minute_rules`]).
//!
//! When a queue was last purged is a note of the queue. Which queues were deleted within a minute the core knows, until it is
//! restarted.

use aws::{Answer, Input, Value};
use session::{Declare, Flow};

use crate::{
    asked::{declare, done, failed, look_at, purge_noting},
    queue, words,
};

/// How long a purge or a deletion is remembered, in ms.
pub(crate) const REMEMBERED_MS: u64 = 60_000;
/// The note of the last purge, in ms since 1970.
const PURGED: &str = "purged";

pub(crate) fn delete(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    look_at(name.clone(), move |_, _| {
        let deleted = Declare::DeleteQueue {
            name,
            if_unused: false,
            if_empty: false,
        };
        declare(deleted, |answer, _| match answer {
            Ok(()) => done(Ok(Value::empty())),
            Err(refusal) => failed(words::refused(&refusal)),
        })
    })
}

pub(crate) fn purge(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    if !input.call.settings.minute_rules {
        return look_at(name.clone(), move |_, _| {
            let purged = Declare::PurgeAll { name, noted: None };
            declare(purged, |answer, _| match answer {
                Ok(()) => done(Ok(Value::empty())),
                Err(refusal) => failed(words::refused(&refusal)),
            })
        });
    }
    let shown = String::from_utf8_lossy(&name).into_owned();
    purge_noting(name, move |_, made, now| {
        let last = made.note(PURGED).and_then(|text| text.parse().ok());
        if last.is_some_and(|last| now.since(message::Timestamp(last)) < REMEMBERED_MS) {
            return Err(words::purge_in_progress(&shown));
        }
        made.keep(PURGED, Some(&now.0.to_string()));
        Ok(())
    })
}
