//! What goes in: as the API reference has it.
//!
//! Three shapes are looser here, because the operations say more about them: the type of a shard iterator, the ARN of a
//! consumer, and how many records are put. The keys and values of maps are checked where they are used.

use aws::{Member, Shape};

use super::checks::{HASH, RESOURCE, SEQUENCE, STREAM, STREAM_ID as STREAM_ID_CHECK, WORD};

static STREAM_NAME: Shape = Shape::Text {
    min: 1,
    max: 128,
    check: Some(WORD),
};
static TAG_VALUE: Shape = Shape::text(0, 256);
static TAG_MAP: Shape = Shape::Map {
    of: &TAG_VALUE,
    min: 1,
    max: 200,
    key: "key",
    value: "value",
    flat: None,
};
static STREAM_ARN: Shape = Shape::Text {
    min: 1,
    max: 2048,
    check: Some(STREAM),
};
static STREAM_ID: Shape = Shape::Text {
    min: 1,
    max: 24,
    check: Some(STREAM_ID_CHECK),
};
pub(crate) static ADD_TAGS_TO_STREAM: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("Tags", &TAG_MAP),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static POSITIVE_INTEGER_OBJECT: Shape = Shape::Int {
    min: 1,
    max: i32::MAX as i64,
};
static STREAM_MODE: Shape = Shape::Choice(&["PROVISIONED", "ON_DEMAND"]);
static STREAM_MODE_DETAILS: Shape =
    Shape::Structure(&[Member::required("StreamMode", &STREAM_MODE)]);
static NATURAL_INTEGER_OBJECT: Shape = Shape::Int {
    min: 0,
    max: i32::MAX as i64,
};
static MAX_RECORD_SIZE_IN_KIB: Shape = Shape::Int {
    min: 1024,
    max: 10240,
};
pub(crate) static CREATE_STREAM: Shape = Shape::Structure(&[
    Member::required("StreamName", &STREAM_NAME),
    Member::new("ShardCount", &POSITIVE_INTEGER_OBJECT),
    Member::new("StreamModeDetails", &STREAM_MODE_DETAILS),
    Member::new("Tags", &TAG_MAP),
    Member::new("WarmThroughputMiBps", &NATURAL_INTEGER_OBJECT),
    Member::new("MaxRecordSizeInKiB", &MAX_RECORD_SIZE_IN_KIB),
]);
static INT: Shape = Shape::INT;
pub(crate) static DECREASE_STREAM_RETENTION_PERIOD: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("RetentionPeriodHours", &INT),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static RESOURCE_ARN: Shape = Shape::Text {
    min: 1,
    max: 2048,
    check: Some(RESOURCE),
};
pub(crate) static DELETE_RESOURCE_POLICY: Shape = Shape::Structure(&[
    Member::required("ResourceARN", &RESOURCE_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static BOOL: Shape = Shape::Bool;
pub(crate) static DELETE_STREAM: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::new("EnforceConsumerDeletion", &BOOL),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static CONSUMER_NAME: Shape = Shape::Text {
    min: 1,
    max: 128,
    check: Some(WORD),
};
static CONSUMER_ARN: Shape = Shape::text(1, 2048);
pub(crate) static DEREGISTER_STREAM_CONSUMER: Shape = Shape::Structure(&[
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("ConsumerName", &CONSUMER_NAME),
    Member::new("ConsumerARN", &CONSUMER_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static DESCRIBE_STREAM_INPUT_LIMIT: Shape = Shape::Int { min: 1, max: 10000 };
static SHARD_ID: Shape = Shape::Text {
    min: 1,
    max: 128,
    check: Some(WORD),
};
pub(crate) static DESCRIBE_STREAM: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::new("Limit", &DESCRIBE_STREAM_INPUT_LIMIT),
    Member::new("ExclusiveStartShardId", &SHARD_ID),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static DESCRIBE_STREAM_CONSUMER: Shape = Shape::Structure(&[
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("ConsumerName", &CONSUMER_NAME),
    Member::new("ConsumerARN", &CONSUMER_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static DESCRIBE_STREAM_SUMMARY: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static METRICS_NAME: Shape = Shape::Choice(&[
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
    "ALL",
]);
static METRICS_NAME_LIST: Shape = Shape::List {
    of: &METRICS_NAME,
    min: 1,
    max: 7,
    element: "member",
    flat: false,
};
pub(crate) static DISABLE_ENHANCED_MONITORING: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("ShardLevelMetrics", &METRICS_NAME_LIST),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static ENABLE_ENHANCED_MONITORING: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("ShardLevelMetrics", &METRICS_NAME_LIST),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static SHARD_ITERATOR: Shape = Shape::text(1, 512);
static GET_RECORDS_INPUT_LIMIT: Shape = Shape::Int { min: 1, max: 10000 };
pub(crate) static GET_RECORDS: Shape = Shape::Structure(&[
    Member::required("ShardIterator", &SHARD_ITERATOR),
    Member::new("Limit", &GET_RECORDS_INPUT_LIMIT),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static GET_RESOURCE_POLICY: Shape = Shape::Structure(&[
    Member::required("ResourceARN", &RESOURCE_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static POSITION_TYPE: Shape = Shape::Choice(&[
    "AT_SEQUENCE_NUMBER",
    "AFTER_SEQUENCE_NUMBER",
    "TRIM_HORIZON",
    "LATEST",
    "AT_TIMESTAMP",
]);
static SEQUENCE_NUMBER: Shape = Shape::Text {
    min: 0,
    max: u32::MAX,
    check: Some(SEQUENCE),
};
static TIME: Shape = Shape::Time;
pub(crate) static GET_SHARD_ITERATOR: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("ShardId", &SHARD_ID),
    Member::required("ShardIteratorType", &TEXT),
    Member::new("StartingSequenceNumber", &SEQUENCE_NUMBER),
    Member::new("Timestamp", &TIME),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static INCREASE_STREAM_RETENTION_PERIOD: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("RetentionPeriodHours", &INT),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static NEXT_TOKEN: Shape = Shape::text(1, 1048576);
static LIST_SHARDS_INPUT_LIMIT: Shape = Shape::Int { min: 1, max: 10000 };
static SHARD_FILTER_TYPE: Shape = Shape::Choice(&[
    "AFTER_SHARD_ID",
    "AT_TRIM_HORIZON",
    "FROM_TRIM_HORIZON",
    "AT_LATEST",
    "AT_TIMESTAMP",
    "FROM_TIMESTAMP",
]);
static SHARD_FILTER: Shape = Shape::Structure(&[
    Member::required("Type", &SHARD_FILTER_TYPE),
    Member::new("ShardId", &SHARD_ID),
    Member::new("Timestamp", &TIME),
]);
pub(crate) static LIST_SHARDS: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::new("NextToken", &NEXT_TOKEN),
    Member::new("ExclusiveStartShardId", &SHARD_ID),
    Member::new("MaxResults", &LIST_SHARDS_INPUT_LIMIT),
    Member::new("StreamCreationTimestamp", &TIME),
    Member::new("ShardFilter", &SHARD_FILTER),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static LIST_STREAM_CONSUMERS_INPUT_LIMIT: Shape = Shape::Int { min: 1, max: 10000 };
pub(crate) static LIST_STREAM_CONSUMERS: Shape = Shape::Structure(&[
    Member::required("StreamARN", &STREAM_ARN),
    Member::new("NextToken", &NEXT_TOKEN),
    Member::new("MaxResults", &LIST_STREAM_CONSUMERS_INPUT_LIMIT),
    Member::new("StreamCreationTimestamp", &TIME),
    Member::new("StreamId", &STREAM_ID),
]);
static LIST_STREAMS_INPUT_LIMIT: Shape = Shape::Int { min: 1, max: 10000 };
pub(crate) static LIST_STREAMS: Shape = Shape::Structure(&[
    Member::new("Limit", &LIST_STREAMS_INPUT_LIMIT),
    Member::new("ExclusiveStartStreamName", &STREAM_NAME),
    Member::new("NextToken", &NEXT_TOKEN),
]);
pub(crate) static LIST_TAGS_FOR_RESOURCE: Shape = Shape::Structure(&[
    Member::required("ResourceARN", &RESOURCE_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static TAG_KEY: Shape = Shape::text(1, 128);
static LIST_TAGS_FOR_STREAM_INPUT_LIMIT: Shape = Shape::Int { min: 1, max: 50 };
pub(crate) static LIST_TAGS_FOR_STREAM: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::new("ExclusiveStartTagKey", &TAG_KEY),
    Member::new("Limit", &LIST_TAGS_FOR_STREAM_INPUT_LIMIT),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static MERGE_SHARDS: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("ShardToMerge", &SHARD_ID),
    Member::required("AdjacentShardToMerge", &SHARD_ID),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static DATA: Shape = Shape::Blob {
    min: 0,
    max: 10485760,
};
static PARTITION_KEY: Shape = Shape::text(1, 256);
static HASH_KEY: Shape = Shape::Text {
    min: 0,
    max: u32::MAX,
    check: Some(HASH),
};
pub(crate) static PUT_RECORD: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("Data", &DATA),
    Member::required("PartitionKey", &PARTITION_KEY),
    Member::new("ExplicitHashKey", &HASH_KEY),
    Member::new("SequenceNumberForOrdering", &SEQUENCE_NUMBER),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static PUT_RECORDS_REQUEST_ENTRY: Shape = Shape::Structure(&[
    Member::required("Data", &DATA),
    Member::new("ExplicitHashKey", &HASH_KEY),
    Member::required("PartitionKey", &PARTITION_KEY),
]);
static PUT_RECORDS_REQUEST_ENTRY_LIST: Shape = Shape::List {
    of: &PUT_RECORDS_REQUEST_ENTRY,
    min: 1,
    max: u32::MAX,
    element: "member",
    flat: false,
};
pub(crate) static PUT_RECORDS: Shape = Shape::Structure(&[
    Member::required("Records", &PUT_RECORDS_REQUEST_ENTRY_LIST),
    Member::new("StreamName", &STREAM_NAME),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static TEXT: Shape = Shape::TEXT;
pub(crate) static PUT_RESOURCE_POLICY: Shape = Shape::Structure(&[
    Member::required("ResourceARN", &RESOURCE_ARN),
    Member::new("StreamId", &STREAM_ID),
    Member::required("Policy", &TEXT),
]);
pub(crate) static REGISTER_STREAM_CONSUMER: Shape = Shape::Structure(&[
    Member::required("StreamARN", &STREAM_ARN),
    Member::required("ConsumerName", &CONSUMER_NAME),
    Member::new("StreamId", &STREAM_ID),
    Member::new("Tags", &TAG_MAP),
]);
static TAG_KEY_LIST: Shape = Shape::List {
    of: &TAG_KEY,
    min: 1,
    max: 50,
    element: "member",
    flat: false,
};
pub(crate) static REMOVE_TAGS_FROM_STREAM: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("TagKeys", &TAG_KEY_LIST),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static SPLIT_SHARD: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("ShardToSplit", &SHARD_ID),
    Member::required("NewStartingHashKey", &HASH_KEY),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static ENCRYPTION_TYPE: Shape = Shape::Choice(&["NONE", "KMS"]);
static KEY_ID: Shape = Shape::text(1, 2048);
pub(crate) static START_STREAM_ENCRYPTION: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("EncryptionType", &ENCRYPTION_TYPE),
    Member::required("KeyId", &KEY_ID),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static STOP_STREAM_ENCRYPTION: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("EncryptionType", &ENCRYPTION_TYPE),
    Member::required("KeyId", &KEY_ID),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static STARTING_POSITION: Shape = Shape::Structure(&[
    Member::required("Type", &POSITION_TYPE),
    Member::new("SequenceNumber", &SEQUENCE_NUMBER),
    Member::new("Timestamp", &TIME),
]);
pub(crate) static SUBSCRIBE_TO_SHARD: Shape = Shape::Structure(&[
    Member::required("ConsumerARN", &CONSUMER_ARN),
    Member::new("StreamId", &STREAM_ID),
    Member::required("ShardId", &SHARD_ID),
    Member::required("StartingPosition", &STARTING_POSITION),
]);
pub(crate) static TAG_RESOURCE: Shape = Shape::Structure(&[
    Member::required("Tags", &TAG_MAP),
    Member::required("ResourceARN", &RESOURCE_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static UNTAG_RESOURCE: Shape = Shape::Structure(&[
    Member::required("TagKeys", &TAG_KEY_LIST),
    Member::required("ResourceARN", &RESOURCE_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
static MINIMUM_THROUGHPUT_BILLING_COMMITMENT_INPUT_STATUS: Shape =
    Shape::Choice(&["ENABLED", "DISABLED"]);
pub(crate) static MINIMUM_THROUGHPUT_BILLING_COMMITMENT: Shape =
    Shape::Structure(&[Member::required(
        "Status",
        &MINIMUM_THROUGHPUT_BILLING_COMMITMENT_INPUT_STATUS,
    )]);
pub(crate) static UPDATE_ACCOUNT_SETTINGS: Shape = Shape::Structure(&[Member::required(
    "MinimumThroughputBillingCommitment",
    &MINIMUM_THROUGHPUT_BILLING_COMMITMENT,
)]);
pub(crate) static UPDATE_MAX_RECORD_SIZE: Shape = Shape::Structure(&[
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
    Member::required("MaxRecordSizeInKiB", &MAX_RECORD_SIZE_IN_KIB),
]);
static SCALING_TYPE: Shape = Shape::Choice(&["UNIFORM_SCALING"]);
pub(crate) static UPDATE_SHARD_COUNT: Shape = Shape::Structure(&[
    Member::new("StreamName", &STREAM_NAME),
    Member::required("TargetShardCount", &POSITIVE_INTEGER_OBJECT),
    Member::required("ScalingType", &SCALING_TYPE),
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
]);
pub(crate) static UPDATE_STREAM_MODE: Shape = Shape::Structure(&[
    Member::required("StreamARN", &STREAM_ARN),
    Member::new("StreamId", &STREAM_ID),
    Member::required("StreamModeDetails", &STREAM_MODE_DETAILS),
    Member::new("WarmThroughputMiBps", &NATURAL_INTEGER_OBJECT),
]);
pub(crate) static UPDATE_STREAM_WARM_THROUGHPUT: Shape = Shape::Structure(&[
    Member::new("StreamARN", &STREAM_ARN),
    Member::new("StreamName", &STREAM_NAME),
    Member::new("StreamId", &STREAM_ID),
    Member::required("WarmThroughputMiBps", &NATURAL_INTEGER_OBJECT),
]);
