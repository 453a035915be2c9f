//! The shapes of inputs and outputs. SQS checks lengths, ranges and patterns in its operations, each with words of its own, so
//! there are no constraints here but what must be there.
//!
//! In the query protocol lists and maps are flattened under names of their own (`SendMessageBatchRequestEntry.1.Id`,
//! `Attribute.1.Name`); those are here too.

use aws::{Member, Shape};

const TEXT: &Shape = &Shape::TEXT;
const INT: &Shape = &Shape::INT;
const BOOL: &Shape = &Shape::Bool;

/// A list that is flattened.
const fn list(of: &'static Shape, element: &'static str) -> Shape {
    Shape::List {
        of,
        min: 0,
        max: u32::MAX,
        element,
        flat: true,
    }
}

/// A map that is flattened.
const fn map(of: &'static Shape, name: &'static str, key: &'static str) -> Shape {
    Shape::Map {
        of,
        min: 0,
        max: u32::MAX,
        key,
        value: "Value",
        flat: Some(name),
    }
}

const ATTRIBUTES: &Shape = &map(TEXT, "Attribute", "Name");
const TAGS: &Shape = &map(TEXT, "Tag", "Key");
const BLOB: &Shape = &Shape::BLOB;
const MESSAGE_ATTRIBUTE: &Shape = &Shape::Structure(&[
    Member::new("StringValue", TEXT),
    Member::new("BinaryValue", BLOB),
    Member::new("StringListValues", &list(TEXT, "StringListValue")),
    Member::new("BinaryListValues", &list(BLOB, "BinaryListValue")),
    Member::required("DataType", TEXT),
]);
const MESSAGE_ATTRIBUTES: &Shape = &map(MESSAGE_ATTRIBUTE, "MessageAttribute", "Name");
const SYSTEM_ATTRIBUTES: &Shape = &map(MESSAGE_ATTRIBUTE, "MessageSystemAttribute", "Name");
const ATTRIBUTE_NAMES: &Shape = &list(TEXT, "AttributeName");

/// Which queue: may be absent in the query protocol, where the path says it.
const QUEUE: Member = Member::new("QueueUrl", TEXT);

/// No output.
pub(crate) const NOTHING: &Shape = &Shape::EMPTY;
/// Only a queue.
pub(crate) const QUEUE_ONLY: &Shape = &Shape::Structure(&[QUEUE]);

pub(crate) const ADD_PERMISSION: &Shape = &Shape::Structure(&[
    QUEUE,
    Member::required("Label", TEXT),
    Member::new("AWSAccountIds", &list(TEXT, "AWSAccountId")),
    Member::new("Actions", &list(TEXT, "ActionName")),
]);
pub(crate) const REMOVE_PERMISSION: &Shape =
    &Shape::Structure(&[QUEUE, Member::required("Label", TEXT)]);

pub(crate) const CREATE_QUEUE: &Shape = &Shape::Structure(&[
    Member::required("QueueName", TEXT),
    Member::new("Attributes", ATTRIBUTES),
    Member::new("tags", TAGS),
]);
pub(crate) const QUEUE_URL: &Shape = &Shape::Structure(&[QUEUE]);
pub(crate) const GET_QUEUE_URL: &Shape = &Shape::Structure(&[
    Member::required("QueueName", TEXT),
    Member::new("QueueOwnerAWSAccountId", TEXT),
]);
pub(crate) const SET_ATTRIBUTES: &Shape =
    &Shape::Structure(&[QUEUE, Member::new("Attributes", ATTRIBUTES)]);
pub(crate) const GET_ATTRIBUTES: &Shape =
    &Shape::Structure(&[QUEUE, Member::new("AttributeNames", ATTRIBUTE_NAMES)]);
pub(crate) const GOT_ATTRIBUTES: &Shape =
    &Shape::Structure(&[Member::new("Attributes", ATTRIBUTES)]);

const PAGE: [Member; 2] = [
    Member::new("NextToken", TEXT),
    Member::new("MaxResults", INT),
];
const URLS: &Shape = &list(TEXT, "QueueUrl");
pub(crate) const LIST_QUEUES: &Shape =
    &Shape::Structure(&[Member::new("QueueNamePrefix", TEXT), PAGE[0], PAGE[1]]);
pub(crate) const LISTED_QUEUES: &Shape =
    &Shape::Structure(&[Member::new("QueueUrls", URLS), PAGE[0]]);
pub(crate) const LIST_SOURCES: &Shape = &Shape::Structure(&[QUEUE, PAGE[0], PAGE[1]]);
pub(crate) const LISTED_SOURCES: &Shape =
    &Shape::Structure(&[Member::new("queueUrls", URLS), PAGE[0]]);

pub(crate) const TAG: &Shape = &Shape::Structure(&[QUEUE, Member::new("Tags", TAGS)]);
pub(crate) const UNTAG: &Shape =
    &Shape::Structure(&[QUEUE, Member::new("TagKeys", &list(TEXT, "TagKey"))]);
pub(crate) const LISTED_TAGS: &Shape = &Shape::Structure(&[Member::new("Tags", TAGS)]);

/// What a message to be sent is made of, but for its body.
const SENT: [Member; 5] = [
    Member::new("DelaySeconds", INT),
    Member::new("MessageAttributes", MESSAGE_ATTRIBUTES),
    Member::new("MessageSystemAttributes", SYSTEM_ATTRIBUTES),
    Member::new("MessageDeduplicationId", TEXT),
    Member::new("MessageGroupId", TEXT),
];
const BODY: Member = Member::required("MessageBody", TEXT);
const ID: Member = Member::required("Id", TEXT);
/// What is answered of it.
const DIGESTS: [Member; 5] = [
    Member::new("MessageId", TEXT),
    Member::new("MD5OfMessageBody", TEXT),
    Member::new("MD5OfMessageAttributes", TEXT),
    Member::new("MD5OfMessageSystemAttributes", TEXT),
    Member::new("SequenceNumber", TEXT),
];
pub(crate) const SEND: &Shape =
    &Shape::Structure(&[QUEUE, BODY, SENT[0], SENT[1], SENT[2], SENT[3], SENT[4]]);
pub(crate) const SENT_ONE: &Shape = &Shape::Structure(&DIGESTS);
pub(crate) const SEND_BATCH: &Shape = &Shape::Structure(&[
    QUEUE,
    Member::new(
        "Entries",
        &list(
            &Shape::Structure(&[ID, BODY, SENT[0], SENT[1], SENT[2], SENT[3], SENT[4]]),
            "SendMessageBatchRequestEntry",
        ),
    ),
]);

/// Entries of a batch that failed.
const FAILED: Member = Member::new(
    "Failed",
    &list(
        &Shape::Structure(&[
            ID,
            Member::new("SenderFault", BOOL),
            Member::new("Code", TEXT),
            Member::new("Message", TEXT),
        ]),
        "BatchResultErrorEntry",
    ),
);
pub(crate) const SENT_BATCH: &Shape = &Shape::Structure(&[
    Member::new(
        "Successful",
        &list(
            &Shape::Structure(&[
                ID, DIGESTS[0], DIGESTS[1], DIGESTS[2], DIGESTS[3], DIGESTS[4],
            ]),
            "SendMessageBatchResultEntry",
        ),
    ),
    FAILED,
]);

pub(crate) const RECEIVE: &Shape = &Shape::Structure(&[
    QUEUE,
    Member::new("AttributeNames", ATTRIBUTE_NAMES),
    Member::new(
        "MessageSystemAttributeNames",
        &list(TEXT, "MessageSystemAttributeName"),
    ),
    Member::new("MessageAttributeNames", &list(TEXT, "MessageAttributeName")),
    Member::new("MaxNumberOfMessages", INT),
    Member::new("VisibilityTimeout", INT),
    Member::new("WaitTimeSeconds", INT),
    Member::new("ReceiveRequestAttemptId", TEXT),
]);
pub(crate) const RECEIVED: &Shape = &Shape::Structure(&[Member::new(
    "Messages",
    &list(
        &Shape::Structure(&[
            Member::new("MessageId", TEXT),
            Member::new("ReceiptHandle", TEXT),
            Member::new("MD5OfBody", TEXT),
            Member::new("Body", TEXT),
            Member::new("Attributes", ATTRIBUTES),
            Member::new("MD5OfMessageAttributes", TEXT),
            Member::new("MessageAttributes", MESSAGE_ATTRIBUTES),
        ]),
        "Message",
    ),
)]);

const HANDLE: Member = Member::required("ReceiptHandle", TEXT);
const VISIBILITY: Member = Member::new("VisibilityTimeout", INT);
pub(crate) const DELETE: &Shape = &Shape::Structure(&[QUEUE, HANDLE]);
pub(crate) const CHANGE_VISIBILITY: &Shape =
    &Shape::Structure(&[QUEUE, HANDLE, Member::required("VisibilityTimeout", INT)]);
pub(crate) const DELETE_BATCH: &Shape = &Shape::Structure(&[
    QUEUE,
    Member::new(
        "Entries",
        &list(
            &Shape::Structure(&[ID, HANDLE]),
            "DeleteMessageBatchRequestEntry",
        ),
    ),
]);
pub(crate) const CHANGE_VISIBILITY_BATCH: &Shape = &Shape::Structure(&[
    QUEUE,
    Member::new(
        "Entries",
        &list(
            &Shape::Structure(&[ID, HANDLE, VISIBILITY]),
            "ChangeMessageVisibilityBatchRequestEntry",
        ),
    ),
]);
pub(crate) const DELETED_BATCH: &Shape = &Shape::Structure(&[
    Member::new(
        "Successful",
        &list(&Shape::Structure(&[ID]), "DeleteMessageBatchResultEntry"),
    ),
    FAILED,
]);
pub(crate) const CHANGED_VISIBILITY_BATCH: &Shape = &Shape::Structure(&[
    Member::new(
        "Successful",
        &list(
            &Shape::Structure(&[ID]),
            "ChangeMessageVisibilityBatchResultEntry",
        ),
    ),
    FAILED,
]);

const SOURCE: Member = Member::required("SourceArn", TEXT);
const TASK: Member = Member::new("TaskHandle", TEXT);
const RATE: Member = Member::new("MaxNumberOfMessagesPerSecond", INT);
const MOVED: Member = Member::new("ApproximateNumberOfMessagesMoved", INT);
pub(crate) const START_MOVE: &Shape =
    &Shape::Structure(&[SOURCE, Member::new("DestinationArn", TEXT), RATE]);
pub(crate) const STARTED_MOVE: &Shape = &Shape::Structure(&[TASK]);
pub(crate) const CANCEL_MOVE: &Shape = &Shape::Structure(&[Member::required("TaskHandle", TEXT)]);
pub(crate) const CANCELLED_MOVE: &Shape = &Shape::Structure(&[MOVED]);
pub(crate) const LIST_MOVES: &Shape = &Shape::Structure(&[SOURCE, Member::new("MaxResults", INT)]);
pub(crate) const LISTED_MOVES: &Shape = &Shape::Structure(&[Member::new(
    "Results",
    &list(
        &Shape::Structure(&[
            TASK,
            Member::new("Status", TEXT),
            Member::new("SourceArn", TEXT),
            Member::new("DestinationArn", TEXT),
            RATE,
            MOVED,
            Member::new("ApproximateNumberOfMessagesToMove", INT),
            Member::new("FailureReason", TEXT),
            Member::new("StartedTimestamp", INT),
        ]),
        "ListMessageMoveTasksResultEntry",
    ),
)]);
