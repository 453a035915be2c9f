//! Errors in the words of SQS. In the query protocol most codes begin with `AWS.SimpleQueueService.`, and clients that came from it
//! go on looking for those.

use std::fmt::Display;

use aws::ApiError;
use session::{Refusal, RefusalKind};

/// One whose code in the query protocol has the service's name before it.
fn named(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::sender(code, message.into()).in_query(format!("AWS.SimpleQueueService.{code}"))
}

pub(crate) fn no_queue() -> ApiError {
    ApiError::sender("QueueDoesNotExist", "The specified queue does not exist.")
        .in_query("AWS.SimpleQueueService.NonExistentQueue")
}

pub(crate) fn queue_exists(attribute: &str) -> ApiError {
    ApiError::sender(
        "QueueNameExists",
        format!("A queue already exists with the same name and a different value for attribute {attribute}"),
    )
    .in_query("QueueAlreadyExists")
}

pub(crate) fn deleted_recently() -> ApiError {
    named(
        "QueueDeletedRecently",
        "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
    )
}

pub(crate) fn purge_in_progress(queue: &str) -> ApiError {
    named(
        "PurgeQueueInProgress",
        format!("Only one PurgeQueue operation on {queue} is allowed every 60 seconds."),
    )
}

pub(crate) fn unknown_attribute(name: &str) -> ApiError {
    ApiError::sender("InvalidAttributeName", format!("Unknown Attribute {name}."))
}

pub(crate) fn invalid_attribute(name: &str) -> ApiError {
    ApiError::sender(
        "InvalidAttributeValue",
        format!("Invalid value for the parameter {name}."),
    )
}

pub(crate) fn invalid_attribute_because(name: &str, reason: &str) -> ApiError {
    ApiError::sender(
        "InvalidAttributeValue",
        format!("Invalid value for the parameter {name}. Reason: {reason}"),
    )
}

/// A parameter's value is not one that it may have.
pub(crate) fn invalid(parameter: &str, value: impl Display, reason: impl Display) -> ApiError {
    invalid_parameter(format!(
        "Value {value} for parameter {parameter} is invalid. Reason: {reason}"
    ))
}

pub(crate) fn invalid_parameter(message: impl Into<String>) -> ApiError {
    ApiError::sender("InvalidParameterValue", message.into())
}

pub(crate) fn not_for_this_type(parameter: &str, value: impl Display) -> ApiError {
    invalid(
        parameter,
        value,
        "The request include parameter that is not valid for this queue type.",
    )
}

pub(crate) fn missing(parameter: &str) -> ApiError {
    ApiError::sender(
        "MissingParameter",
        format!("The request must contain the parameter {parameter}."),
    )
}

pub(crate) fn invalid_contents() -> ApiError {
    ApiError::sender(
        "InvalidMessageContents",
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to \
         #x10FFFF",
    )
}

pub(crate) fn too_long(max: u64) -> ApiError {
    invalid_parameter(format!(
        "One or more parameters are invalid. Reason: Message must be shorter than {max} bytes."
    ))
}

pub(crate) fn invalid_handle() -> ApiError {
    ApiError::sender(
        "ReceiptHandleIsInvalid",
        "The input receipt handle is invalid.",
    )
}

/// The same for an entry of a batch.
pub(crate) fn invalid_handle_of(handle: &str) -> ApiError {
    ApiError::sender(
        "ReceiptHandleIsInvalid",
        format!("The input receipt handle \"{handle}\" is not a valid receipt handle."),
    )
}

pub(crate) fn not_in_flight() -> ApiError {
    named(
        "MessageNotInflight",
        "The specified message isn't in flight.",
    )
}

pub(crate) fn too_many_in_flight() -> ApiError {
    ApiError::sender(
        "OverLimit",
        "Too many messages of this queue are in flight.",
    )
    .with_status(403)
}

pub(crate) fn too_many_tasks() -> ApiError {
    ApiError::sender(
        "OverLimit",
        "Too many message move tasks of this account are active. The maximum is 100.",
    )
    .with_status(403)
}

pub(crate) fn too_many_actions(count: usize) -> ApiError {
    ApiError::sender(
        "OverLimit",
        format!("{count} Actions were found, maximum allowed is 7."),
    )
    .with_status(403)
}

pub(crate) fn empty_batch(entry: &str) -> ApiError {
    named(
        "EmptyBatchRequest",
        format!("There should be at least one {entry} in the request."),
    )
}

pub(crate) fn too_many_entries(count: usize) -> ApiError {
    named(
        "TooManyEntriesInBatchRequest",
        format!("Maximum number of entries per request are 10. You have sent {count}."),
    )
}

pub(crate) fn repeated_entry(id: &str) -> ApiError {
    named("BatchEntryIdsNotDistinct", format!("Id {id} repeated."))
}

pub(crate) fn invalid_entry_id() -> ApiError {
    named(
        "InvalidBatchEntryId",
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
    )
}

pub(crate) fn batch_too_long(max: u64, sent: u64) -> ApiError {
    named(
        "BatchRequestTooLong",
        format!("Batch requests cannot be longer than {max} bytes. You have sent {sent} bytes."),
    )
}

pub(crate) fn no_resource(message: impl Into<String>) -> ApiError {
    ApiError::sender("ResourceNotFoundException", message.into()).with_status(404)
}

/// What the core refused, where an operation has no words of its own for it.
pub(crate) fn refused(refusal: &Refusal) -> ApiError {
    let detail = refusal.detail.clone();
    match refusal.kind {
        RefusalKind::NotFound => no_queue(),
        RefusalKind::Locked => ApiError::sender("AccessDeniedException", detail)
            .in_query("AccessDenied")
            .with_status(403),
        RefusalKind::TooLarge | RefusalKind::InvalidName | RefusalKind::InvalidArgument => {
            invalid_parameter(detail)
        }
        RefusalKind::NotImplemented => ApiError::sender("UnsupportedOperation", detail)
            .in_query("AWS.SimpleQueueService.UnsupportedOperation"),
        _ => ApiError::refused(refusal),
    }
}
