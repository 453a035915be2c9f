//! Tags of streams and consumers, and the resource that an ARN names.

use std::sync::Arc;

use aws::{ApiError, Call, Input, MemberName, Subject, Value};
use session::{Notes, Object, StreamInfo};

use crate::{
    consumers, error, notes,
    state::{self, LIMITS_TAG},
    target::{Arn, Step, Target, done, nothing, or_refuse},
};

/// Tags of one resource.
const TAGS_MAX: usize = 50;
/// Characters of a tag's key and of its value.
const KEY_LEN_MAX: usize = 128;
const VALUE_LEN_MAX: usize = 256;

/// A stream, or a consumer of it.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    arn: String,
    /// The stream.
    pub(crate) target: Target,
    consumer: Option<(String, Option<u64>)>,
}

impl Resource {
    /// What `ResourceARN` names.
    pub(crate) fn of(call: &Call, value: &Value) -> Result<Self, ApiError> {
        let arn = value.text("ResourceARN").unwrap_or_default();
        let read = Arn::read(call, arn).ok_or_else(|| error::no_stream(call, arn))?;
        Ok(Self {
            arn: arn.to_owned(),
            target: Target::shown_as(read.stream, arn),
            consumer: read.consumer,
        })
    }

    /// It, for whom its policy lets in.
    pub(crate) fn subject(self) -> Subject {
        Subject {
            object: Object::Stream,
            name: self.target.core_name(),
            part: self.consumer.map(|(name, _)| name),
        }
    }

    /// The ARN.
    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    /// The note of that name below it; an error when it is a consumer that is not there.
    pub(crate) fn note(
        &self,
        call: &Call,
        stream: &StreamInfo,
        of_stream: &str,
        of_consumer: &str,
    ) -> Result<String, ApiError> {
        let Some((name, created_s)) = &self.consumer else {
            return Ok(of_stream.to_owned());
        };
        consumers::find(stream, name)
            .filter(|consumer| {
                created_s.is_none_or(|created_s| consumer.created.0 / 1000 == created_s)
            })
            .ok_or_else(|| consumers::not_found(call, &self.arn))?;
        Ok(format!("{}{name}/{of_consumer}", notes::CONSUMERS))
    }
}

/// `AddTagsToStream`.
pub(crate) fn add(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(
        Target::of(&call, &value)
            .map(|target| put_all(call, target, value, |_, _| Ok(notes::TAGS.to_owned()))),
    )
}

/// `RemoveTagsFromStream`.
pub(crate) fn remove(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(
        Target::of(&call, &value)
            .map(|target| take_all(call, target, value, |_, _| Ok(notes::TAGS.to_owned()))),
    )
}

/// `TagResource`.
pub(crate) fn tag(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Resource::of(&call, &value).map(|resource| {
        put_all(call, resource.target.clone(), value, move |call, stream| {
            resource.note(call, stream, notes::TAGS, "tag/")
        })
    }))
}

/// `UntagResource`.
pub(crate) fn untag(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Resource::of(&call, &value).map(|resource| {
        take_all(call, resource.target.clone(), value, move |call, stream| {
            resource.note(call, stream, notes::TAGS, "tag/")
        })
    }))
}

/// `ListTagsForResource`.
pub(crate) fn list_of_resource(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Resource::of(&call, &value).map(|resource| {
        let target = resource.target.clone();
        target.inspect(call.clone(), move |stream, _| {
            let prefix = resource.note(&call, &stream, notes::TAGS, "tag/")?;
            let tags = notes::below(&stream.notes, &prefix).map(show).collect();
            Ok(done(Ok(Value::from([("Tags", Value::List(tags))]))))
        })
    }))
}

/// `ListTagsForStream`.
pub(crate) fn list_of_stream(input: Input) -> Step {
    let Input { call, value } = input;
    or_refuse(Target::of(&call, &value).map(|target| {
        target.inspect(call, move |stream, _| {
            let after = value.text("ExclusiveStartTagKey").unwrap_or_default();
            let limit = value.int("Limit").map_or(TAGS_MAX, |limit| limit as usize);
            let mut behind =
                notes::below(&stream.notes, notes::TAGS).filter(|(key, _)| *key > after);
            let tags = behind.by_ref().take(limit).map(show).collect();
            Ok(done(Ok(Value::from([
                ("Tags", Value::List(tags)),
                ("HasMoreTags", behind.next().is_some().into()),
            ]))))
        })
    }))
}

fn show((key, value): (&str, &str)) -> Value {
    Value::from([("Key", key.into()), ("Value", value.into())])
}

fn put_all(
    call: Arc<Call>,
    target: Target,
    value: Value,
    place: impl Fn(&Call, &StreamInfo) -> Result<String, ApiError> + Send + 'static,
) -> Step {
    let changing = call.clone();
    target.change(call, move |stream, _, attributes, kept| {
        let prefix = place(&changing, stream)?;
        put(
            &changing,
            &state::name(stream),
            kept,
            &prefix,
            value.map("Tags"),
        )?;
        if prefix == notes::TAGS && value.map("Tags").iter().any(|(key, _)| key == LIMITS_TAG) {
            attributes.limits = state::limits(&changing.settings, kept)?;
        }
        Ok(nothing())
    })
}

fn take_all(
    call: Arc<Call>,
    target: Target,
    value: Value,
    place: impl Fn(&Call, &StreamInfo) -> Result<String, ApiError> + Send + 'static,
) -> Step {
    let changing = call.clone();
    target.change(call, move |stream, _, attributes, kept| {
        let prefix = place(&changing, stream)?;
        for key in value.list("TagKeys") {
            let Value::Text(key) = key else { continue };
            let taken = notes::remove(kept, &format!("{prefix}{key}"));
            if taken && prefix == notes::TAGS && key == LIMITS_TAG {
                attributes.limits = state::limits(&changing.settings, kept)?;
            }
        }
        Ok(nothing())
    })
}

/// Puts tags below a prefix.
pub(crate) fn put(
    call: &Call,
    stream: &str,
    kept: &mut Notes,
    prefix: &str,
    tags: &[(MemberName, Value)],
) -> Result<(), ApiError> {
    for (key, value) in tags {
        let Value::Text(value) = value else { continue };
        let (key_len, value_len) = (key.chars().count(), value.chars().count());
        if key_len == 0 || key_len > KEY_LEN_MAX || value_len > VALUE_LEN_MAX {
            return Err(error::invalid(format!(
                "Tag keys have 1 to {KEY_LEN_MAX} characters and tag values at most {VALUE_LEN_MAX}."
            )));
        }
        if key
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
        {
            return Err(error::invalid(
                "Tag keys that begin with aws: are reserved for AWS use.",
            ));
        }
        if key.starts_with("bascule.") && (prefix, &**key) != (notes::TAGS, LIMITS_TAG) {
            return Err(error::invalid(format!(
                "The tag {key} means nothing here: of those that begin with bascule. there is {LIMITS_TAG}, on streams."
            )));
        }
        if ![&**key, value]
            .into_iter()
            .all(|text| text.chars().all(is_tag))
        {
            return Err(error::invalid(
                "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @.",
            ));
        }
        notes::write(kept, &format!("{prefix}{key}"), value);
    }
    if notes::below(kept, prefix).count() > TAGS_MAX {
        return Err(error::invalid(format!(
            "Failed to add tags to stream {stream} under account {} because a given stream cannot have more than {TAGS_MAX} tags \
             associated with it.",
            call.account
        )));
    }
    Ok(())
}

fn is_tag(character: char) -> bool {
    character.is_alphanumeric()
        || character.is_whitespace()
        || matches!(
            character,
            '_' | '.' | '/' | '=' | '+' | '-' | '%' | '@' | ':'
        )
}
