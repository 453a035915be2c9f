//! Which stream or consumer a request is about, for the policy that guards it (`aws::Guard`).

use std::borrow::Cow;

use aws::{ApiError, Call, Guard, Input, Operation, Subject, Value};
use message::{Name, Timestamp};
use session::{Kept, Object};

use crate::{
    consumers::{Consumer, Named},
    notes, read, shards, state,
    tags::Resource,
    target::{Target, parts},
};

/// How streams and their consumers are guarded.
pub(crate) static GUARD: Guard = Guard {
    owner,
    subject,
    deeds: |_, _| Vec::new(),
    note,
    arn,
    opened: &[
        "DescribeStreamConsumer",
        "DescribeStreamSummary",
        "GetRecords",
        "GetShardIterator",
        "ListShards",
        "PutRecord",
        "PutRecords",
        "SubscribeToShard",
    ],
    seeing: &[],
    keys: &[],
    barred: |call, action, arn, why| {
        ApiError::sender(
            "AccessDeniedException",
            format!(
                "User: {} is not authorized to perform: {action} on resource: {arn} {}",
                call.caller_arn(),
                why.because(action)
            ),
        )
    },
};

fn owner<'a>(_: &Operation, _: &'a str, value: &'a Value) -> Option<(&'a str, Option<&'a str>)> {
    let arn = ["ConsumerARN", "ResourceARN", "StreamARN"]
        .into_iter()
        .find_map(|member| value.text(member))?;
    let (region, account, _) = parts(arn)?;
    Some((account, Some(region)))
}

fn subject(operation: &Operation, input: &Input) -> Option<Subject> {
    let Input { call, value } = input;
    let whole = |stream: String| Subject::whole(Object::Stream, stream.into());
    let text = |member| value.text(member);
    if let Some(iterator) = text("ShardIterator") {
        return read::stream_of(call, iterator).map(whole);
    }
    if value.member("ResourceARN").is_some() {
        return Resource::of(call, value).ok().map(|it| it.subject());
    }
    // Of the operations on a consumer there is none on its stream.
    let of_consumer = text("ConsumerARN").is_some()
        || text("ConsumerName").is_some() && operation.name != "RegisterStreamConsumer";
    if of_consumer {
        return Named::of(call, value).ok().map(|it| it.subject());
    }
    match (text("StreamName"), text("StreamARN"), text("NextToken")) {
        (None, None, Some(token)) => shards::stream_of(call, token).map(whole),
        (None, None, None) => None,
        _ => Target::of(call, value).ok().map(|it| whole(it.name)),
    }
}

fn note(subject: &Subject) -> Cow<'static, str> {
    match &subject.part {
        None => Cow::Borrowed(notes::POLICY),
        Some(consumer) => format!("{}{consumer}/policy", notes::CONSUMERS).into(),
    }
}

fn arn(call: &Call, subject: &Subject, kept: &dyn Kept) -> String {
    let stream = String::from_utf8_lossy(&subject.name);
    let Some(consumer) = &subject.part else {
        return state::arn(call, &stream);
    };
    Consumer {
        name: consumer.clone(),
        created: registered(call, &subject.name, consumer, kept),
    }
    .arn(call, &stream)
}

/// When a consumer was registered, which its ARN says.
fn registered(call: &Call, stream: &Name, consumer: &str, kept: &dyn Kept) -> Timestamp {
    let note = [notes::CONSUMERS, consumer].concat();
    let created = kept.note(call.vhost, Object::Stream, stream, &note);
    let created = created.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
    // There is none: it has no policy either.
    Timestamp(created.unwrap_or_default())
}
