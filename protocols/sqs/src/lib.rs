//! Amazon SQS (API version 2012-11-05), all of its operations, in JSON 1.0 and in the query protocol.
//!
//! Each operation is a function from an input to a [`session::Flow`]: it asks the core for what it needs and answers. There is no
//! state here. What SQS keeps with a queue and the core does not act on is in the queue's notes, and what clients hand back
//! (receipt handles, page tokens, task handles) is sealed with the store's secret.
//!
//! | file | what |
//! |---|---|
//! | `shapes.rs` | inputs and outputs |
//! | `words.rs` | errors |
//! | `asked.rs` | questions to the core; changing a queue that others may change too |
//! | `queue.rs` | names, URLs, ARNs |
//! | `attributes.rs`, `redrive.rs`, `policy.rs`, `tags.rs` | what is kept with a queue |
//! | `guard.rs` | whom its policy lets in |
//! | `create.rs`, `look.rs`, `remove.rs` | operations on queues |
//! | `send.rs`, `receive.rs`, `settle.rs`, `batch.rs`, `handle.rs` | operations on messages |
//! | `moves.rs` | moving dead letters back |
//!
//! Other than in AWS, and on purpose:
//!
//! - What an account's own callers may do is said by users and rules; its policy may deny it, and open a queue to other accounts.
//! - The encryption attributes are kept and shown; nothing is encrypted because of them.
//! - With `aws.manners = "moto"`: see [`aws::Manners`].
//! - `bascule.*` attributes: see `attributes.rs` for queues, `create.rs` for `bascule.address`, [`aws::Attributes`] for messages.
#![forbid(unsafe_code)]

mod asked;
mod attributes;
mod batch;
mod create;
mod guard;
mod handle;
mod look;
mod moves;
mod policy;
mod queue;
mod receive;
mod redrive;
mod remove;
mod send;
mod settle;
mod shapes;
mod tags;
mod words;

use aws::{ApiError, Operation, Service};

/// The service.
pub static SERVICE: Service = Service {
    name: "sqs",
    target: Some("AmazonSQS"),
    json_version: "1.0",
    cbor: false,
    query: Some(("2012-11-05", "http://queue.amazonaws.com/doc/2012-11-05/")),
    query_compatible: true,
    error_namespace: Some("com.amazonaws.sqs"),
    invalid_code: "InvalidParameterValue",
    violations,
    missing,
    operations: &[
        Operation::new(
            "AddPermission",
            shapes::ADD_PERMISSION,
            shapes::NOTHING,
            policy::add,
        ),
        Operation::new(
            "CancelMessageMoveTask",
            shapes::CANCEL_MOVE,
            shapes::CANCELLED_MOVE,
            moves::cancel,
        ),
        Operation::new(
            "ChangeMessageVisibility",
            shapes::CHANGE_VISIBILITY,
            shapes::NOTHING,
            settle::visibility,
        ),
        Operation::new(
            "ChangeMessageVisibilityBatch",
            shapes::CHANGE_VISIBILITY_BATCH,
            shapes::CHANGED_VISIBILITY_BATCH,
            settle::visibility_batch,
        ),
        Operation::new(
            "CreateQueue",
            shapes::CREATE_QUEUE,
            shapes::QUEUE_URL,
            create::create,
        ),
        Operation::new(
            "DeleteMessage",
            shapes::DELETE,
            shapes::NOTHING,
            settle::delete,
        ),
        Operation::new(
            "DeleteMessageBatch",
            shapes::DELETE_BATCH,
            shapes::DELETED_BATCH,
            settle::delete_batch,
        ),
        Operation::new(
            "DeleteQueue",
            shapes::QUEUE_ONLY,
            shapes::NOTHING,
            remove::delete,
        ),
        Operation::new(
            "GetQueueAttributes",
            shapes::GET_ATTRIBUTES,
            shapes::GOT_ATTRIBUTES,
            look::attributes,
        ),
        Operation::new(
            "GetQueueUrl",
            shapes::GET_QUEUE_URL,
            shapes::QUEUE_URL,
            look::url,
        ),
        Operation::new(
            "ListDeadLetterSourceQueues",
            shapes::LIST_SOURCES,
            shapes::LISTED_SOURCES,
            look::dead_letter_sources,
        ),
        Operation::new(
            "ListMessageMoveTasks",
            shapes::LIST_MOVES,
            shapes::LISTED_MOVES,
            moves::list,
        ),
        Operation::new(
            "ListQueueTags",
            shapes::QUEUE_ONLY,
            shapes::LISTED_TAGS,
            tags::list,
        ),
        Operation::new(
            "ListQueues",
            shapes::LIST_QUEUES,
            shapes::LISTED_QUEUES,
            look::list,
        ),
        Operation::new(
            "PurgeQueue",
            shapes::QUEUE_ONLY,
            shapes::NOTHING,
            remove::purge,
        ),
        Operation::new(
            "ReceiveMessage",
            shapes::RECEIVE,
            shapes::RECEIVED,
            receive::receive,
        ),
        Operation::new(
            "RemovePermission",
            shapes::REMOVE_PERMISSION,
            shapes::NOTHING,
            policy::remove,
        ),
        Operation::new("SendMessage", shapes::SEND, shapes::SENT_ONE, send::send),
        Operation::new(
            "SendMessageBatch",
            shapes::SEND_BATCH,
            shapes::SENT_BATCH,
            send::send_batch,
        ),
        Operation::new(
            "SetQueueAttributes",
            shapes::SET_ATTRIBUTES,
            shapes::NOTHING,
            create::set_attributes,
        ),
        Operation::new(
            "StartMessageMoveTask",
            shapes::START_MOVE,
            shapes::STARTED_MOVE,
            moves::start,
        ),
        Operation::new("TagQueue", shapes::TAG, shapes::NOTHING, tags::tag),
        Operation::new("UntagQueue", shapes::UNTAG, shapes::NOTHING, tags::untag),
    ],
    guard: Some(&guard::GUARD),
    pages: &[],
};

fn violations(all: &[String]) -> ApiError {
    words::invalid_parameter(all.join("; "))
}

fn missing(_: &Operation, member: &str) -> ApiError {
    words::missing(member)
}
