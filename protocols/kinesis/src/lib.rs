//! Amazon Kinesis Data Streams: streams over HTTP.
//!
//! The API of version 2013-12-02, all of its operations, as a table ([`SERVICE`]) over the envelope in `aws`. A stream is the
//! stream that AMQP, MQTT and STOMP clients of the same name use; a record is a message whose group is the partition key.
//!
//! | file | what |
//! |---|---|
//! | `put.rs` | PutRecord, PutRecords |
//! | `read.rs`, `position.rs` | GetShardIterator, GetRecords; where reading begins |
//! | `subscribe.rs` | SubscribeToShard |
//! | `stream.rs` | making, describing, changing and deleting streams |
//! | `reshard.rs` | SplitShard, MergeShards, UpdateShardCount |
//! | `shards.rs`, `shard.rs` | ListShards; a shard as clients see it |
//! | `account.rs` | ListStreams, DescribeLimits, account settings |
//! | `consumers.rs` | consumers with enhanced fan-out |
//! | `tags.rs`, `policy.rs`, `monitoring.rs` | what is kept with streams and consumers |
//! | `guard.rs` | whom the policies of streams and consumers let in |
//! | `sequence.rs` | sequence numbers |
//! | `seal.rs` | iterators and page tokens |
//! | `notes.rs`, `state.rs` | what this door keeps with a stream, and what that makes of it |
//! | `target.rs` | which stream a request is about, and changing it |
//! | `shapes/` | inputs and outputs, with their constraints |
//! | `error.rs` | errors in the words of Kinesis |
//!
//! What differs from AWS, and what is only kept and shown, is listed in the README.
#![forbid(unsafe_code)]

mod account;
mod consumers;
mod error;
mod guard;
mod monitoring;
mod notes;
mod policy;
mod position;
mod put;
mod read;
mod reshard;
mod seal;
mod sequence;
mod shapes;
mod shard;
mod shards;
mod state;
mod stream;
mod subscribe;
mod tags;
mod target;

use aws::{Operation, Service, Shape};

use shapes::{input, output};

/// Kinesis Data Streams.
pub static SERVICE: Service = Service {
    name: "kinesis",
    target: Some("Kinesis_20131202"),
    json_version: "1.1",
    cbor: true,
    query: None,
    query_compatible: false,
    error_namespace: None,
    invalid_code: error::VALIDATION,
    violations: error::violations,
    missing: error::missing,
    operations: &OPERATIONS,
    guard: Some(&guard::GUARD),
    pages: &[],
};

static NONE: Shape = Shape::EMPTY;

#[rustfmt::skip]
static OPERATIONS: [Operation; 39] = [
    Operation::new("AddTagsToStream", &input::ADD_TAGS_TO_STREAM, &NONE, tags::add),
    Operation::new("CreateStream", &input::CREATE_STREAM, &NONE, stream::create),
    Operation::new("DecreaseStreamRetentionPeriod", &input::DECREASE_STREAM_RETENTION_PERIOD, &NONE, stream::decrease_retention),
    Operation::new("DeleteResourcePolicy", &input::DELETE_RESOURCE_POLICY, &NONE, policy::delete),
    Operation::new("DeleteStream", &input::DELETE_STREAM, &NONE, stream::delete),
    Operation::new("DeregisterStreamConsumer", &input::DEREGISTER_STREAM_CONSUMER, &NONE, consumers::deregister),
    Operation::new("DescribeAccountSettings", &NONE, &output::DESCRIBE_ACCOUNT_SETTINGS, account::describe_account_settings),
    Operation::new("DescribeLimits", &NONE, &output::DESCRIBE_LIMITS, account::describe_limits),
    Operation::new("DescribeStream", &input::DESCRIBE_STREAM, &output::DESCRIBE_STREAM, stream::describe),
    Operation::new("DescribeStreamConsumer", &input::DESCRIBE_STREAM_CONSUMER, &output::DESCRIBE_STREAM_CONSUMER, consumers::describe),
    Operation::new("DescribeStreamSummary", &input::DESCRIBE_STREAM_SUMMARY, &output::DESCRIBE_STREAM_SUMMARY, stream::describe_summary),
    Operation::new("DisableEnhancedMonitoring", &input::DISABLE_ENHANCED_MONITORING, &output::ENHANCED_MONITORING, monitoring::disable),
    Operation::new("EnableEnhancedMonitoring", &input::ENABLE_ENHANCED_MONITORING, &output::ENHANCED_MONITORING, monitoring::enable),
    Operation::new("GetRecords", &input::GET_RECORDS, &output::GET_RECORDS, read::get_records),
    Operation::new("GetResourcePolicy", &input::GET_RESOURCE_POLICY, &output::GET_RESOURCE_POLICY, policy::get),
    Operation::new("GetShardIterator", &input::GET_SHARD_ITERATOR, &output::GET_SHARD_ITERATOR, read::get_shard_iterator),
    Operation::new("IncreaseStreamRetentionPeriod", &input::INCREASE_STREAM_RETENTION_PERIOD, &NONE, stream::increase_retention),
    Operation::new("ListShards", &input::LIST_SHARDS, &output::LIST_SHARDS, shards::list),
    Operation::new("ListStreamConsumers", &input::LIST_STREAM_CONSUMERS, &output::LIST_STREAM_CONSUMERS, consumers::list),
    Operation::new("ListStreams", &input::LIST_STREAMS, &output::LIST_STREAMS, account::list_streams),
    Operation::new("ListTagsForResource", &input::LIST_TAGS_FOR_RESOURCE, &output::LIST_TAGS_FOR_RESOURCE, tags::list_of_resource),
    Operation::new("ListTagsForStream", &input::LIST_TAGS_FOR_STREAM, &output::LIST_TAGS_FOR_STREAM, tags::list_of_stream),
    Operation::new("MergeShards", &input::MERGE_SHARDS, &NONE, reshard::merge),
    Operation::new("PutRecord", &input::PUT_RECORD, &output::PUT_RECORD, put::put_record),
    Operation::new("PutRecords", &input::PUT_RECORDS, &output::PUT_RECORDS, put::put_records),
    Operation::new("PutResourcePolicy", &input::PUT_RESOURCE_POLICY, &NONE, policy::put),
    Operation::new("RegisterStreamConsumer", &input::REGISTER_STREAM_CONSUMER, &output::REGISTER_STREAM_CONSUMER, consumers::register),
    Operation::new("RemoveTagsFromStream", &input::REMOVE_TAGS_FROM_STREAM, &NONE, tags::remove),
    Operation::new("SplitShard", &input::SPLIT_SHARD, &NONE, reshard::split),
    Operation::new("StartStreamEncryption", &input::START_STREAM_ENCRYPTION, &NONE, monitoring::start_encryption),
    Operation::new("StopStreamEncryption", &input::STOP_STREAM_ENCRYPTION, &NONE, monitoring::stop_encryption),
    Operation::new("SubscribeToShard", &input::SUBSCRIBE_TO_SHARD, &output::SUBSCRIBE_TO_SHARD_EVENT, subscribe::subscribe),
    Operation::new("TagResource", &input::TAG_RESOURCE, &NONE, tags::tag),
    Operation::new("UntagResource", &input::UNTAG_RESOURCE, &NONE, tags::untag),
    Operation::new("UpdateAccountSettings", &input::UPDATE_ACCOUNT_SETTINGS, &output::UPDATE_ACCOUNT_SETTINGS, account::update_account_settings),
    Operation::new("UpdateMaxRecordSize", &input::UPDATE_MAX_RECORD_SIZE, &NONE, stream::update_record_size),
    Operation::new("UpdateShardCount", &input::UPDATE_SHARD_COUNT, &output::UPDATE_SHARD_COUNT, reshard::update_count),
    Operation::new("UpdateStreamMode", &input::UPDATE_STREAM_MODE, &NONE, stream::update_mode),
    Operation::new("UpdateStreamWarmThroughput", &input::UPDATE_STREAM_WARM_THROUGHPUT, &output::UPDATE_STREAM_WARM_THROUGHPUT, stream::update_warm_throughput),
];
