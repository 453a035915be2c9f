//! Dialogues: an operation's input, what it asks of the core, what the core answers by script, and its answer.

mod client;
mod guard;
mod handles;
mod permissions;
mod queues;
mod receiving;
mod sending;

use client::{Client, With, map};

#[test]
fn all_operations_of_the_service_are_there() {
    let mut names: Vec<&str> = sqs::SERVICE.operations.iter().map(|it| it.name).collect();
    names.sort_unstable();
    let wanted = [
        "AddPermission",
        "CancelMessageMoveTask",
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
        "CreateQueue",
        "DeleteMessage",
        "DeleteMessageBatch",
        "DeleteQueue",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "ListQueues",
        "PurgeQueue",
        "ReceiveMessage",
        "RemovePermission",
        "SendMessage",
        "SendMessageBatch",
        "SetQueueAttributes",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn every_operation_on_a_queue_says_that_there_is_none() {
    let client = Client::default();
    let url = "http://any.host/000000000000/missing";
    for (operation, more) in [
        ("AddPermission", map([("Label", "l".into())])),
        (
            "ChangeMessageVisibility",
            map([
                ("ReceiptHandle", "x".into()),
                ("VisibilityTimeout", 1i64.into()),
            ]),
        ),
        ("ChangeMessageVisibilityBatch", map([])),
        ("DeleteMessage", map([("ReceiptHandle", "x".into())])),
        ("DeleteMessageBatch", map([])),
        ("DeleteQueue", map([])),
        ("GetQueueAttributes", map([])),
        ("ListDeadLetterSourceQueues", map([])),
        ("ListQueueTags", map([])),
        ("PurgeQueue", map([])),
        ("ReceiveMessage", map([])),
        ("RemovePermission", map([("Label", "l".into())])),
        ("SendMessageBatch", map([])),
        (
            "SetQueueAttributes",
            map([("Attributes", map([("DelaySeconds", "1".into())]))]),
        ),
        ("TagQueue", map([("Tags", map([("k", "v".into())]))])),
        ("UntagQueue", map([("TagKeys", vec!["k".into()].into())])),
    ] {
        let mut dialogue = client.call(operation, more.with("QueueUrl", url));
        dialogue.refuse_all(session::RefusalKind::NotFound);
        let error = dialogue.error();
        assert_eq!(error.code, "QueueDoesNotExist", "{operation}");
        assert_eq!(
            error.query_code.as_deref(),
            Some("AWS.SimpleQueueService.NonExistentQueue")
        );
        assert_eq!(error.message, "The specified queue does not exist.");
        assert_eq!(error.status, 400);
    }
}
