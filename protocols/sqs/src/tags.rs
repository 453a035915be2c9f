//! Tags: notes of the queue, one each.

use aws::{Answer, ApiError, Input, MemberName, Value};
use session::Flow;

use crate::{
    asked::{Made, alter, done, failed, look_at},
    queue, words,
};

/// Before the names of the notes.
const NOTE: &str = "tag.";
/// Most tags of a queue.
const TAGS_MAX: usize = 50;
/// The longest key and the longest value, in characters.
const KEY_LEN_MAX: usize = 128;
const VALUE_LEN_MAX: usize = 256;

/// Adds tags to a queue; `shown` is its name in messages.
pub(crate) fn add(
    made: &mut Made,
    tags: &[(MemberName, Value)],
    shown: &str,
) -> Result<(), ApiError> {
    for (key, value) in tags {
        let Value::Text(value) = value else { continue };
        if !(1..=KEY_LEN_MAX).contains(&key.chars().count()) {
            return Err(words::invalid_parameter(
                "Tag keys must be between 1 and 128 characters in length.",
            ));
        }
        if value.chars().count() > VALUE_LEN_MAX {
            return Err(words::invalid_parameter(
                "Tag values must be between 0 and 256 characters in length.",
            ));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(words::invalid_parameter(
                "Tag keys that begin with 'aws:' are reserved for internal use.",
            ));
        }
        made.keep(&[NOTE, key].concat(), Some(value));
    }
    if made.notes_with(NOTE).count() > TAGS_MAX {
        return Err(words::invalid_parameter(format!(
            "Too many tags added for queue {shown}."
        )));
    }
    Ok(())
}

pub(crate) fn tag(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let tags = input.value.map("Tags").to_vec();
    if tags.is_empty() {
        return failed(words::missing("Tags"));
    }
    let shown = String::from_utf8_lossy(&name).into_owned();
    alter(name, move |_, made, _| add(made, &tags, &shown))
}

pub(crate) fn untag(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    let keys = input.value.list("TagKeys").to_vec();
    let fits = |key: &Value| matches!(key, Value::Text(key) if (1..=KEY_LEN_MAX).contains(&key.chars().count()));
    alter(name, move |_, made, _| {
        if keys.is_empty() || !keys.iter().all(fits) {
            return Err(words::invalid_parameter(
                "Tag keys must be between 1 and 128 characters in length.",
            ));
        }
        for key in &keys {
            if let Value::Text(key) = key {
                made.keep(&[NOTE, key].concat(), None);
            }
        }
        Ok(())
    })
}

pub(crate) fn list(input: Input) -> Flow<Answer> {
    let name = match queue::of_input(&input) {
        Ok(name) => name,
        Err(error) => return failed(error),
    };
    look_at(name, |queue, _| {
        let made = Made::of(&queue);
        let tags: Vec<(MemberName, Value)> = made
            .notes_with(NOTE)
            .map(|(key, value)| (key.to_owned().into(), value.into()))
            .collect();
        if tags.is_empty() {
            return done(Ok(Value::empty()));
        }
        done(Ok(Value::from([("Tags", Value::Map(tags))])))
    })
}
