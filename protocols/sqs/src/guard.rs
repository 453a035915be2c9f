//! Which queue a request is about, for the policy that guards it (`aws::Guard`).

use std::borrow::Cow;

use aws::{
    ApiError, Barred, Call, Deed, Guard, Input, Operation, Subject, Value, policy::QUEUE_NOTE,
};
use message::Name;
use session::Object;

use crate::{moves, policy::ACTIONS, queue, words};

/// How queues are guarded.
pub(crate) static GUARD: Guard = Guard {
    owner,
    subject,
    deeds,
    note: |_| Cow::Borrowed(QUEUE_NOTE),
    arn: |call, subject, _| queue::arn(call, &subject.name),
    // AWS opens to others what AddPermission can give them.
    opened: ACTIONS,
    seeing: &[],
    keys: &[],
    barred,
};

/// Operations on all queues of an account, or on one that is only going to be there.
const OF_NO_QUEUE: [&str; 2] = ["CreateQueue", "ListQueues"];
/// Operations on a task, which is of its source's account: always the caller's.
const OF_TASKS: [&str; 3] = [
    "CancelMessageMoveTask",
    "ListMessageMoveTasks",
    "StartMessageMoveTask",
];

fn owner<'a>(
    operation: &Operation,
    path: &'a str,
    value: &'a Value,
) -> Option<(&'a str, Option<&'a str>)> {
    let account = match operation.name {
        name if OF_NO_QUEUE.contains(&name) || OF_TASKS.contains(&name) => None,
        "GetQueueUrl" => value.text("QueueOwnerAWSAccountId"),
        _ => queue::account_of(value.text("QueueUrl").unwrap_or(path)),
    };
    Some((account?, None))
}

fn subject(operation: &Operation, input: &Input) -> Option<Subject> {
    let name = match operation.name {
        name if OF_NO_QUEUE.contains(&name) => return None,
        name if OF_TASKS.contains(&name) => source(input)?,
        "GetQueueUrl" => input.value.text("QueueName")?.to_owned().into(),
        _ => queue::of_input(input).ok()?,
    };
    Some(of_queue(name))
}

/// The queue that a task moves messages out of.
fn source(input: &Input) -> Option<Name> {
    let text = |member| input.value.text(member);
    match text("TaskHandle") {
        Some(handle) => moves::source_of(&input.call, handle),
        None => queue::of_arn(&input.call, text("SourceArn")?),
    }
}

/// What a task does (Amazon SQS Developer Guide, "Troubleshooting dead-letter queue redrive"). Where a task without a destination sends to is
/// found out when it starts.
fn deeds(operation: &Operation, input: &Input) -> Vec<Deed> {
    let of_source: &[&'static str] = match operation.name {
        "StartMessageMoveTask" | "CancelMessageMoveTask" => {
            &["ReceiveMessage", "DeleteMessage", "GetQueueAttributes"]
        }
        "ListMessageMoveTasks" => &["GetQueueAttributes"],
        _ => return Vec::new(),
    };
    let source = source(input).into_iter().flat_map(|name| {
        let deed = move |action: &&'static str| (*action, of_queue(name.clone()));
        of_source.iter().map(deed)
    });
    let target = input.value.text("DestinationArn");
    let target = target.and_then(|arn| queue::of_arn(&input.call, arn));
    source
        .chain(target.map(|name| ("SendMessage", of_queue(name))))
        .collect()
}

const fn of_queue(name: Name) -> Subject {
    Subject::whole(Object::Queue, name)
}

/// Lets the caller send to a queue, or says why not.
pub(crate) fn allow_send(input: &Input, name: Name) -> Result<(), ApiError> {
    GUARD.allow("sqs", "SendMessage", input, Some(&of_queue(name)))
}

fn barred(call: &Call, action: &str, arn: &str, why: Barred) -> ApiError {
    if action == "sqs:GetQueueUrl" && why == Barred::NotAllowed {
        // Nobody learns so whether there is one.
        return words::no_queue();
    }
    let action = action.to_ascii_lowercase();
    ApiError::sender(
        "AccessDeniedException",
        format!(
            "User: {} is not authorized to perform: {action} on resource: {arn} {}",
            call.caller_arn(),
            why.because(&action)
        ),
    )
    .in_query("AccessDenied")
    .with_status(403)
}
