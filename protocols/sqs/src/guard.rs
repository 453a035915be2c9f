//! Which queue a request is about, for the policy that guards it (`aws::Guard`).

use std::borrow::Cow;

use aws::{ApiError, Barred, Call, Guard, Input, Operation, Subject, Value, policy::QUEUE_NOTE};
use session::Object;

use crate::{policy::ACTIONS, queue, words};

/// How queues are guarded.
pub(crate) static GUARD: Guard = Guard {
    owner,
    subject,
    note: |_| Cow::Borrowed(QUEUE_NOTE),
    arn: |call, subject, _| queue::arn(call, &subject.name),
    // AWS opens to others what AddPermission can give them.
    opened: ACTIONS,
    seeing: &[],
    keys: &[],
    barred,
};

/// Operations on all queues of an account, or on one that is only going to be there, or on a task.
const OF_NO_QUEUE: [&str; 3] = ["CancelMessageMoveTask", "CreateQueue", "ListQueues"];
/// Operations on the queue of `SourceArn`, which is always the caller's.
const OF_SOURCE: [&str; 2] = ["ListMessageMoveTasks", "StartMessageMoveTask"];

fn owner<'a>(
    operation: &Operation,
    path: &'a str,
    value: &'a Value,
) -> Option<(&'a str, Option<&'a str>)> {
    let account = match operation.name {
        name if OF_NO_QUEUE.contains(&name) || OF_SOURCE.contains(&name) => None,
        "GetQueueUrl" => value.text("QueueOwnerAWSAccountId"),
        _ => queue::account_of(value.text("QueueUrl").unwrap_or(path)),
    };
    Some((account?, None))
}

fn subject(operation: &Operation, input: &Input) -> Option<Subject> {
    let name = match operation.name {
        name if OF_NO_QUEUE.contains(&name) => return None,
        name if OF_SOURCE.contains(&name) => {
            queue::of_arn(&input.call, input.value.text("SourceArn")?)?
        }
        "GetQueueUrl" => input.value.text("QueueName")?.to_owned().into(),
        _ => queue::of_input(input).ok()?,
    };
    Some(Subject::whole(Object::Queue, name))
}

fn barred(call: &Call, operation: &Operation, action: &str, arn: &str, why: Barred) -> ApiError {
    if operation.name == "GetQueueUrl" && why == Barred::NotAllowed {
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
