//! Tags of topics: TagResource, UntagResource, ListTagsForResource.

use aws::{ApiError, Input, Value};
use session::{Notes, TopicInfo};

use crate::{
    faults::{invalid, no_topic},
    names,
    steps::{
        Altered, Run, alter_topic, done, fail, go, notes_under, nothing, refused_as, set_note,
    },
    topics::{TAG, put_tag, with_topic},
};

/// Most tags of one topic.
const TAGS_MAX: usize = 50;

/// Reads `Tags`.
pub(crate) fn read(list: &[Value]) -> Result<Vec<(String, String)>, ApiError> {
    let mut tags: Vec<(String, String)> = Vec::new();
    for tag in list {
        let key = tag.text("Key").unwrap_or_default();
        if key.starts_with("aws:") {
            return Err(invalid(
                "Tags Reason: tag keys that begin with aws: are reserved for AWS use",
            ));
        }
        if tags.iter().any(|(known, _)| known == key) {
            return Err(invalid("Duplicated keys are not allowed."));
        }
        let value = tag.text("Value").unwrap_or_default();
        tags.push((key.to_owned(), value.to_owned()));
    }
    if tags.len() > TAGS_MAX {
        return Err(too_many());
    }
    Ok(tags)
}

fn too_many() -> ApiError {
    ApiError::sender(
        "TagLimitExceeded",
        "Could not complete request: tag quota of per resource exceeded",
    )
}

fn no_resource() -> ApiError {
    ApiError::sender("ResourceNotFound", "Resource does not exist").with_status(404)
}

/// The tags among notes, in the order of their keys.
pub(crate) fn of(notes: &Notes) -> Vec<(String, String)> {
    notes_under(notes, TAG)
        .map(|(key, value)| {
            (
                key.to_owned(),
                value.strip_prefix('=').unwrap_or(value).to_owned(),
            )
        })
        .collect()
}

fn alter(
    input: Input,
    operation: &'static str,
    change: impl Fn(&TopicInfo, &Value) -> Altered + Send + 'static,
) -> Run {
    let Input { call, value } = input;
    let arn = value.text("ResourceArn").unwrap_or_default().to_owned();
    // What is no ARN is no resource either.
    match names::topic_name(&call, &arn, "ResourceArn") {
        Ok(Some(name)) => {
            let refused = refused_as(&call, operation, &arn, no_resource);
            alter_topic(name, refused, move |found| change(found, &value), nothing)
        }
        Ok(None) | Err(_) => fail(no_resource()),
    }
}

/// `TagResource`.
pub(crate) fn tag(input: Input) -> Run {
    go(read(input.value.list("Tags")), |tags| {
        alter(input, "TagResource", move |found, _| {
            let mut notes = found.notes.clone();
            for (key, value) in &tags {
                put_tag(&mut notes, key, value);
            }
            if of(&notes).len() > TAGS_MAX {
                return Err(too_many());
            }
            Ok(Some((found.fifo, notes)))
        })
    })
}

/// `UntagResource`: keys that are not there are no error.
pub(crate) fn untag(input: Input) -> Run {
    alter(input, "UntagResource", |found, value| {
        let mut notes = found.notes.clone();
        for key in value.list("TagKeys") {
            if let Value::Text(key) = key {
                set_note(&mut notes, &format!("{TAG}{key}"), "");
            }
        }
        Ok((notes != found.notes).then_some((found.fifo, notes)))
    })
}

/// `ListTagsForResource`.
pub(crate) fn list(input: Input) -> Run {
    let Input { call, value } = input;
    let arn = value.text("ResourceArn").unwrap_or_default();
    if !matches!(names::topic_name(&call, arn, "ResourceArn"), Ok(Some(_))) {
        return fail(no_resource());
    }
    let shown = with_topic(&call, "ListTagsForResource", arn, |found| {
        let tags = of(&found.notes).into_iter().map(|(key, value)| {
            Value::from([("Key", Value::from(key)), ("Value", Value::from(value))])
        });
        done([("Tags", Value::List(tags.collect()))].into())
    });
    // The topic is a resource here.
    shown.map(|answer| match answer {
        aws::Answer::Error(error) if error == no_topic() => aws::Answer::Error(no_resource()),
        other => other,
    })
}
