//! What comes out: as the API reference has it.

use aws::{Member, Shape};

static TEXT: Shape = Shape::TEXT;
static TIME: Shape = Shape::Time;
pub(crate) static MINIMUM_THROUGHPUT_BILLING_COMMITMENT: Shape = Shape::Structure(&[
    Member::new("Status", &TEXT),
    Member::new("StartedAt", &TIME),
    Member::new("EndedAt", &TIME),
    Member::new("EarliestAllowedEndAt", &TIME),
]);
pub(crate) static DESCRIBE_ACCOUNT_SETTINGS: Shape = Shape::Structure(&[Member::new(
    "MinimumThroughputBillingCommitment",
    &MINIMUM_THROUGHPUT_BILLING_COMMITMENT,
)]);
static INT: Shape = Shape::INT;
pub(crate) static DESCRIBE_LIMITS: Shape = Shape::Structure(&[
    Member::new("ShardLimit", &INT),
    Member::new("OpenShardCount", &INT),
    Member::new("OnDemandStreamCount", &INT),
    Member::new("OnDemandStreamCountLimit", &INT),
]);
static STREAM_MODE_DETAILS: Shape = Shape::Structure(&[Member::new("StreamMode", &TEXT)]);
static HASH_KEY_RANGE: Shape = Shape::Structure(&[
    Member::new("StartingHashKey", &TEXT),
    Member::new("EndingHashKey", &TEXT),
]);
static SEQUENCE_NUMBER_RANGE: Shape = Shape::Structure(&[
    Member::new("StartingSequenceNumber", &TEXT),
    Member::new("EndingSequenceNumber", &TEXT),
]);
static SHARD: Shape = Shape::Structure(&[
    Member::new("ShardId", &TEXT),
    Member::new("ParentShardId", &TEXT),
    Member::new("AdjacentParentShardId", &TEXT),
    Member::new("HashKeyRange", &HASH_KEY_RANGE),
    Member::new("SequenceNumberRange", &SEQUENCE_NUMBER_RANGE),
]);
static SHARD_LIST: Shape = Shape::list(&SHARD);
static BOOL: Shape = Shape::Bool;
static METRICS_NAME_LIST: Shape = Shape::list(&TEXT);
static ENHANCED_METRICS: Shape =
    Shape::Structure(&[Member::new("ShardLevelMetrics", &METRICS_NAME_LIST)]);
static ENHANCED_MONITORING_LIST: Shape = Shape::list(&ENHANCED_METRICS);
static STREAM_DESCRIPTION: Shape = Shape::Structure(&[
    Member::new("StreamName", &TEXT),
    Member::new("StreamARN", &TEXT),
    Member::new("StreamStatus", &TEXT),
    Member::new("StreamModeDetails", &STREAM_MODE_DETAILS),
    Member::new("Shards", &SHARD_LIST),
    Member::new("HasMoreShards", &BOOL),
    Member::new("RetentionPeriodHours", &INT),
    Member::new("StreamCreationTimestamp", &TIME),
    Member::new("EnhancedMonitoring", &ENHANCED_MONITORING_LIST),
    Member::new("EncryptionType", &TEXT),
    Member::new("KeyId", &TEXT),
]);
pub(crate) static DESCRIBE_STREAM: Shape =
    Shape::Structure(&[Member::new("StreamDescription", &STREAM_DESCRIPTION)]);
static CONSUMER_DESCRIPTION: Shape = Shape::Structure(&[
    Member::new("ConsumerName", &TEXT),
    Member::new("ConsumerARN", &TEXT),
    Member::new("ConsumerStatus", &TEXT),
    Member::new("ConsumerCreationTimestamp", &TIME),
    Member::new("StreamARN", &TEXT),
]);
pub(crate) static DESCRIBE_STREAM_CONSUMER: Shape =
    Shape::Structure(&[Member::new("ConsumerDescription", &CONSUMER_DESCRIPTION)]);
static WARM_THROUGHPUT_OBJECT: Shape = Shape::Structure(&[
    Member::new("TargetMiBps", &INT),
    Member::new("CurrentMiBps", &INT),
]);
static STREAM_DESCRIPTION_SUMMARY: Shape = Shape::Structure(&[
    Member::new("StreamName", &TEXT),
    Member::new("StreamARN", &TEXT),
    Member::new("StreamId", &TEXT),
    Member::new("StreamStatus", &TEXT),
    Member::new("StreamModeDetails", &STREAM_MODE_DETAILS),
    Member::new("RetentionPeriodHours", &INT),
    Member::new("StreamCreationTimestamp", &TIME),
    Member::new("EnhancedMonitoring", &ENHANCED_MONITORING_LIST),
    Member::new("EncryptionType", &TEXT),
    Member::new("KeyId", &TEXT),
    Member::new("OpenShardCount", &INT),
    Member::new("ConsumerCount", &INT),
    Member::new("WarmThroughput", &WARM_THROUGHPUT_OBJECT),
    Member::new("MaxRecordSizeInKiB", &INT),
]);
pub(crate) static DESCRIBE_STREAM_SUMMARY: Shape = Shape::Structure(&[Member::new(
    "StreamDescriptionSummary",
    &STREAM_DESCRIPTION_SUMMARY,
)]);
pub(crate) static ENHANCED_MONITORING: Shape = Shape::Structure(&[
    Member::new("StreamName", &TEXT),
    Member::new("CurrentShardLevelMetrics", &METRICS_NAME_LIST),
    Member::new("DesiredShardLevelMetrics", &METRICS_NAME_LIST),
    Member::new("StreamARN", &TEXT),
]);
static BLOB: Shape = Shape::BLOB;
static RECORD: Shape = Shape::Structure(&[
    Member::new("SequenceNumber", &TEXT),
    Member::new("ApproximateArrivalTimestamp", &TIME),
    Member::new("Data", &BLOB),
    Member::new("PartitionKey", &TEXT),
    Member::new("EncryptionType", &TEXT),
]);
static RECORD_LIST: Shape = Shape::list(&RECORD);
static SHARD_ID_LIST: Shape = Shape::list(&TEXT);
static CHILD_SHARD: Shape = Shape::Structure(&[
    Member::new("ShardId", &TEXT),
    Member::new("ParentShards", &SHARD_ID_LIST),
    Member::new("HashKeyRange", &HASH_KEY_RANGE),
]);
static CHILD_SHARD_LIST: Shape = Shape::list(&CHILD_SHARD);
pub(crate) static GET_RECORDS: Shape = Shape::Structure(&[
    Member::new("Records", &RECORD_LIST),
    Member::new("NextShardIterator", &TEXT),
    Member::new("MillisBehindLatest", &INT),
    Member::new("ChildShards", &CHILD_SHARD_LIST),
]);
pub(crate) static GET_RESOURCE_POLICY: Shape = Shape::Structure(&[Member::new("Policy", &TEXT)]);
pub(crate) static GET_SHARD_ITERATOR: Shape =
    Shape::Structure(&[Member::new("ShardIterator", &TEXT)]);
pub(crate) static LIST_SHARDS: Shape = Shape::Structure(&[
    Member::new("Shards", &SHARD_LIST),
    Member::new("NextToken", &TEXT),
]);
static CONSUMER: Shape = Shape::Structure(&[
    Member::new("ConsumerName", &TEXT),
    Member::new("ConsumerARN", &TEXT),
    Member::new("ConsumerStatus", &TEXT),
    Member::new("ConsumerCreationTimestamp", &TIME),
]);
static CONSUMER_LIST: Shape = Shape::list(&CONSUMER);
pub(crate) static LIST_STREAM_CONSUMERS: Shape = Shape::Structure(&[
    Member::new("Consumers", &CONSUMER_LIST),
    Member::new("NextToken", &TEXT),
]);
static STREAM_NAME_LIST: Shape = Shape::list(&TEXT);
static STREAM_SUMMARY: Shape = Shape::Structure(&[
    Member::new("StreamName", &TEXT),
    Member::new("StreamARN", &TEXT),
    Member::new("StreamStatus", &TEXT),
    Member::new("StreamModeDetails", &STREAM_MODE_DETAILS),
    Member::new("StreamCreationTimestamp", &TIME),
]);
static STREAM_SUMMARY_LIST: Shape = Shape::list(&STREAM_SUMMARY);
pub(crate) static LIST_STREAMS: Shape = Shape::Structure(&[
    Member::new("StreamNames", &STREAM_NAME_LIST),
    Member::new("HasMoreStreams", &BOOL),
    Member::new("NextToken", &TEXT),
    Member::new("StreamSummaries", &STREAM_SUMMARY_LIST),
]);
static TAG: Shape = Shape::Structure(&[Member::new("Key", &TEXT), Member::new("Value", &TEXT)]);
static TAG_LIST: Shape = Shape::list(&TAG);
pub(crate) static LIST_TAGS_FOR_RESOURCE: Shape =
    Shape::Structure(&[Member::new("Tags", &TAG_LIST)]);
pub(crate) static LIST_TAGS_FOR_STREAM: Shape = Shape::Structure(&[
    Member::new("Tags", &TAG_LIST),
    Member::new("HasMoreTags", &BOOL),
]);
pub(crate) static PUT_RECORD: Shape = Shape::Structure(&[
    Member::new("ShardId", &TEXT),
    Member::new("SequenceNumber", &TEXT),
    Member::new("EncryptionType", &TEXT),
]);
static PUT_RECORDS_RESULT_ENTRY: Shape = Shape::Structure(&[
    Member::new("SequenceNumber", &TEXT),
    Member::new("ShardId", &TEXT),
    Member::new("ErrorCode", &TEXT),
    Member::new("ErrorMessage", &TEXT),
]);
static PUT_RECORDS_RESULT_ENTRY_LIST: Shape = Shape::list(&PUT_RECORDS_RESULT_ENTRY);
pub(crate) static PUT_RECORDS: Shape = Shape::Structure(&[
    Member::new("FailedRecordCount", &INT),
    Member::new("Records", &PUT_RECORDS_RESULT_ENTRY_LIST),
    Member::new("EncryptionType", &TEXT),
]);
pub(crate) static REGISTER_STREAM_CONSUMER: Shape =
    Shape::Structure(&[Member::new("Consumer", &CONSUMER)]);
pub(crate) static UPDATE_ACCOUNT_SETTINGS: Shape = Shape::Structure(&[Member::new(
    "MinimumThroughputBillingCommitment",
    &MINIMUM_THROUGHPUT_BILLING_COMMITMENT,
)]);
pub(crate) static UPDATE_SHARD_COUNT: Shape = Shape::Structure(&[
    Member::new("StreamName", &TEXT),
    Member::new("CurrentShardCount", &INT),
    Member::new("TargetShardCount", &INT),
    Member::new("StreamARN", &TEXT),
]);
pub(crate) static UPDATE_STREAM_WARM_THROUGHPUT: Shape = Shape::Structure(&[
    Member::new("StreamARN", &TEXT),
    Member::new("StreamName", &TEXT),
    Member::new("WarmThroughput", &WARM_THROUGHPUT_OBJECT),
]);
pub(crate) static SUBSCRIBE_TO_SHARD_EVENT: Shape = Shape::Structure(&[
    Member::new("Records", &RECORD_LIST),
    Member::new("ContinuationSequenceNumber", &TEXT),
    Member::new("MillisBehindLatest", &INT),
    Member::new("ChildShards", &CHILD_SHARD_LIST),
]);
