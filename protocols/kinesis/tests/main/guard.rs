//! Which stream or consumer each operation is about: what whose policy is asked for.

use serde_json::json;

use crate::{ZERO, core::Core, input, text};

#[test]
fn each_operation_is_about_the_stream_or_the_consumer_that_it_names() {
    let mut core = Core::new();
    core.create("orders", 2);
    let page = core.call(
        "ListShards",
        json!({"StreamName": "orders", "MaxResults": 1}),
    );
    let token = text(&page["NextToken"]);
    let iterator = core.iterator("orders", ZERO, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let stream = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";
    let consumer = format!("{stream}/consumer/pushed:0");
    let elsewhere = "arn:aws:kinesis:us-east-1:222222222222:stream/orders";
    let home = Some("123456789012 us-east-1".to_owned());
    let of_stream = Some((stream.to_owned(), "kinesis/policy".to_owned()));
    let note = "kinesis/consumer/pushed/policy".to_owned();
    let of_consumer = Some((consumer.clone(), note));
    for (operation, value, owner, about) in [
        (
            "PutRecord",
            json!({"StreamName": "orders"}),
            None,
            of_stream.clone(),
        ),
        (
            "PutRecord",
            json!({"StreamARN": stream}),
            home.clone(),
            of_stream.clone(),
        ),
        (
            "ListShards",
            json!({"NextToken": token}),
            None,
            of_stream.clone(),
        ),
        (
            "GetRecords",
            json!({"ShardIterator": iterator}),
            None,
            of_stream.clone(),
        ),
        (
            "GetRecords",
            json!({"ShardIterator": "made up"}),
            None,
            None,
        ),
        (
            "PutResourcePolicy",
            json!({"ResourceARN": stream}),
            home.clone(),
            of_stream.clone(),
        ),
        (
            "PutResourcePolicy",
            json!({"ResourceARN": consumer}),
            home.clone(),
            of_consumer.clone(),
        ),
        (
            "SubscribeToShard",
            json!({"ConsumerARN": consumer}),
            home.clone(),
            of_consumer.clone(),
        ),
        (
            "DescribeStreamConsumer",
            json!({"StreamARN": stream, "ConsumerName": "pushed"}),
            home.clone(),
            of_consumer,
        ),
        (
            "RegisterStreamConsumer",
            json!({"StreamARN": stream, "ConsumerName": "pushed"}),
            home,
            of_stream,
        ),
        (
            "PutRecord",
            json!({"StreamARN": elsewhere}),
            Some("222222222222 us-east-1".to_owned()),
            None,
        ),
        ("ListStreams", json!({}), None, None),
    ] {
        let found = core.about(operation, input(&value));
        assert_eq!(found, (owner, about), "{operation} {value}");
    }
}
