//! Records in and out.

use bytes::Bytes;
use message::{Address, Levels, Message, VhostId};
use serde_json::{Value as Json, json};
use session::RefusalKind;

use crate::{
    ZERO,
    core::{Core, START},
    data, error, text,
};

#[test]
fn a_record_comes_back_as_it_was_put() {
    let mut core = Core::new();
    core.create("orders", 1);
    let number = core.put("orders", "k", "hello");
    let iterator = core.iterator("orders", ZERO, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let page = core.read(&iterator);
    assert_eq!(
        page["Records"],
        json!([{
            "SequenceNumber": number,
            "ApproximateArrivalTimestamp": START.0,
            "Data": "hello",
            "PartitionKey": "k",
        }])
    );
    assert_eq!(page["MillisBehindLatest"], 0);
    assert!(page.get("ChildShards").is_none());
    core.put("orders", "k", "again");
    let next = core.read(&text(&page["NextShardIterator"]));
    assert_eq!(data(&next), ["again"]);
}

#[test]
fn the_five_types_of_iterator_begin_where_they_say() {
    let mut core = Core::new();
    core.create("orders", 1);
    let mut numbers = Vec::new();
    for at in 0..4 {
        numbers.push(core.put("orders", "k", &at.to_string()));
        core.pass_ms(1000);
    }
    let mut read = |more: Json| {
        let iterator = core.iterator("orders", ZERO, more);
        data(&core.read(&iterator))
    };
    assert_eq!(
        read(json!({"ShardIteratorType": "TRIM_HORIZON"})),
        ["0", "1", "2", "3"]
    );
    assert_eq!(
        read(
            json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": numbers[1]})
        ),
        ["1", "2", "3"]
    );
    assert_eq!(
        read(
            json!({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": numbers[1]})
        ),
        ["2", "3"]
    );
    assert_eq!(
        read(json!({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": START.0 + 1001})),
        ["2", "3"]
    );
    // A clock that is a little ahead of ours is one.
    assert_eq!(
        read(json!({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": START.0 + 10_000})),
        Vec::<String>::new()
    );
    let latest = core.iterator("orders", ZERO, json!({"ShardIteratorType": "LATEST"}));
    core.put("orders", "k", "4");
    assert_eq!(data(&core.read(&latest)), ["4"]);
}

#[test]
fn iterators_are_refused_in_the_words_of_kinesis() {
    let mut core = Core::new();
    core.create("orders", 2);
    let number = core.put("orders", "k", "x");
    let shard = (0..2)
        .map(|at| format!("shardId-{at:012}"))
        .find(|shard| {
            let iterator = core.iterator(
                "orders",
                shard,
                json!({"ShardIteratorType": "TRIM_HORIZON"}),
            );
            data(&core.read(&iterator)).is_empty()
        })
        .unwrap();
    let mut refused = |more: Json| {
        let mut input = json!({"StreamName": "orders", "ShardId": shard});
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        core.refusal("GetShardIterator", input)
    };
    let (code, message) = refused(
        json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": number}),
    );
    assert_eq!(code, "InvalidArgumentException");
    assert!(
        message.starts_with("Invalid StartingSequenceNumber. It encodes shardId-00000000000"),
        "{message}"
    );
    let (_, message) =
        refused(json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "7"}));
    assert_eq!(
        message,
        format!(
            "StartingSequenceNumber 7 used in GetShardIterator on shard {shard} in stream orders under account 123456789012 is invalid."
        )
    );
    let (_, message) =
        refused(json!({"ShardIteratorType": "LATEST", "StartingSequenceNumber": number}));
    assert!(
        message.contains("Request specified LATEST and also a StartingSequenceNumber."),
        "{message}"
    );
    let (_, message) = refused(json!({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER"}));
    assert!(
        message.contains("Request specified AFTER_SEQUENCE_NUMBER and no StartingSequenceNumber."),
        "{message}"
    );
    let (_, message) = refused(json!({"ShardIteratorType": "AT_TIMESTAMP"}));
    assert!(
        message.starts_with("Must specify timestampInMillis"),
        "{message}"
    );
    let late = START.0 + 3_600_000;
    let (_, message) = refused(json!({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": late}));
    assert!(
        message.starts_with("The timestampInMillis parameter cannot be greater"),
        "{message}"
    );
    assert_eq!(
        refused(json!({"ShardIteratorType": "OLDEST"})),
        error(
            "InvalidArgumentException",
            "Invalid ShardIteratorType: OLDEST"
        )
    );
    assert_eq!(
        refused(json!({"ShardIteratorType": "LATEST", "ShardId": "123"})),
        error(
            "ResourceNotFoundException",
            "Shard 123 in stream orders under account 123456789012 does not exist"
        )
    );
}

#[test]
fn a_sequence_number_of_a_stream_that_was_deleted_is_none_of_the_new_one() {
    let mut core = Core::new();
    core.create("orders", 1);
    let number = core.put("orders", "k", "x");
    let iterator = core.iterator("orders", ZERO, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    core.call("DeleteStream", json!({"StreamName": "orders"}));
    core.pass_ms(1000);
    core.create("orders", 1);
    let (code, message) = core.refusal(
        "GetShardIterator",
        json!({"StreamName": "orders", "ShardId": ZERO, "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": number}),
    );
    assert_eq!(code, "InvalidArgumentException");
    assert!(
        message.ends_with("is invalid because it did not come from this stream."),
        "{message}"
    );
    assert_eq!(
        core.refusal("GetRecords", json!({"ShardIterator": iterator}))
            .0,
        "ResourceNotFoundException"
    );
    assert!(core.put("orders", "k", "x") > number);
}

#[test]
fn iterators_expire_and_cannot_be_made_up() {
    let mut core = Core::new();
    core.create("orders", 1);
    let iterator = core.iterator("orders", ZERO, json!({"ShardIteratorType": "LATEST"}));
    core.pass_ms(300_000);
    core.read(&iterator);
    core.pass_ms(1);
    assert_eq!(
        core.refusal("GetRecords", json!({"ShardIterator": iterator})),
        error(
            "ExpiredIteratorException",
            "Iterator expired. The iterator was created at time Fri Nov 28 14:20:00 UTC 2025 while right now it is Fri Nov 28 14:25:00 \
             UTC 2025 which is further in the future than the tolerated delay of 300000 milliseconds."
        )
    );
    let invalid = error("InvalidArgumentException", "Invalid ShardIterator.");
    for at in [0, 8, iterator.len() / 2, iterator.len() - 3] {
        let mut other = iterator.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        assert_eq!(
            core.refusal("GetRecords", json!({"ShardIterator": other})),
            invalid,
            "{at}"
        );
    }
    let names = core.call("ListShards", json!({"StreamName": "orders"}));
    assert!(names.get("NextToken").is_none());
    assert!(iterator.len() <= 512);
}

#[test]
fn limits_of_a_read() {
    let mut core = Core::new();
    core.create("orders", 1);
    for at in 0..5 {
        core.put("orders", "k", &at.to_string());
        core.pass_ms(100);
    }
    let iterator = core.iterator("orders", ZERO, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let page = core.call("GetRecords", json!({"ShardIterator": iterator, "Limit": 3}));
    assert_eq!(data(&page), ["0", "1", "2"]);
    assert_eq!(page["MillisBehindLatest"], 200);
    let rest = core.read(&text(&page["NextShardIterator"]));
    assert_eq!(data(&rest), ["3", "4"]);
    core.refusing = vec![RefusalKind::RateExceeded];
    assert_eq!(
        core.refusal("GetRecords", json!({"ShardIterator": iterator})),
        error(
            "ProvisionedThroughputExceededException",
            &format!("Rate exceeded for shard {ZERO} in stream orders under account 123456789012.")
        )
    );
    let other = "arn:aws:kinesis:us-east-1:123456789012:stream/other";
    assert_eq!(
        core.refusal(
            "GetRecords",
            json!({"ShardIterator": iterator, "StreamARN": other})
        )
        .0,
        "InvalidArgumentException"
    );
}

#[test]
fn an_old_iterator_goes_on_behind_what_was_trimmed() {
    let mut core = Core::new();
    core.create("orders", 1);
    let first = core.put("orders", "k", "0");
    core.put("orders", "k", "1");
    let iterator = core.iterator(
        "orders",
        ZERO,
        json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": first}),
    );
    core.trim("orders", 1);
    assert_eq!(data(&core.read(&iterator)), ["1"]);
}

#[test]
fn records_of_one_request_fail_one_by_one() {
    let mut core = Core::new();
    core.create("orders", 1);
    let record = |text: &str| json!({"PartitionKey": text, "Data": text});
    let put = json!({"StreamName": "orders", "Records": [record("a"), record("b"), record("c")]});
    let answer = core.call("PutRecords", put.clone());
    assert_eq!(answer["FailedRecordCount"], 0);
    let numbers: Vec<_> = (0..3)
        .map(|at| text(&answer["Records"][at]["SequenceNumber"]))
        .collect();
    assert!(numbers.is_sorted());
    assert_eq!(answer["Records"][2]["ShardId"], ZERO);
    core.refusing = vec![RefusalKind::RateExceeded];
    let answer = core.call("PutRecords", put.clone());
    assert_eq!(answer["FailedRecordCount"], 1);
    assert_eq!(
        answer["Records"][0],
        json!({
            "ErrorCode": "ProvisionedThroughputExceededException",
            "ErrorMessage": "Rate exceeded for shard shardId-000000000000 in stream orders under account 123456789012.",
        })
    );
    assert!(answer["Records"][1].get("ErrorCode").is_none());
    core.refusing = vec![RefusalKind::StorageFull, RefusalKind::RateExceeded];
    let answer = core.call("PutRecords", put);
    assert_eq!(answer["Records"][1]["ErrorCode"], "InternalFailure");
    let many = vec![record("a"); 501];
    assert_eq!(
        core.refusal(
            "PutRecords",
            json!({"StreamName": "orders", "Records": many})
        ),
        error(
            "ValidationException",
            "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length less than or equal to 500"
        )
    );
    core.refusing = vec![RefusalKind::StorageFull];
    assert_eq!(
        core.refusal(
            "PutRecord",
            json!({"StreamName": "orders", "PartitionKey": "k", "Data": "x"})
        )
        .0,
        "ServiceUnavailable"
    );
    for (operation, input) in [
        (
            "PutRecord",
            json!({"StreamName": "none", "PartitionKey": "k", "Data": "x"}),
        ),
        (
            "PutRecords",
            json!({"StreamName": "none", "Records": [record("a")]}),
        ),
    ] {
        assert_eq!(
            core.refusal(operation, input),
            error(
                "ResourceNotFoundException",
                "Stream none under account 123456789012 not found."
            )
        );
    }
}

#[test]
fn records_and_requests_have_a_largest_size() {
    const MIB: usize = 1 << 20;
    let mut core = Core::new();
    core.create("orders", 1);
    let puts = |sizes: &[usize]| {
        let records: Vec<_> = sizes
            .iter()
            .map(|size| json!({"PartitionKey": "key", "Data": "x".repeat(*size)}))
            .collect();
        json!({"StreamName": "orders", "Records": records})
    };
    core.call("PutRecords", puts(&[MIB - 3]));
    core.call("PutRecords", puts(&[MIB - 3; 5]));
    let too_long = |place: &str, max: usize| {
        error(
            "ValidationException",
            &format!(
                "1 validation error detected: Value at '{place}' failed to satisfy constraint: Member must have length less than or equal to {max}"
            ),
        )
    };
    assert_eq!(
        core.refusal("PutRecords", puts(&[1, MIB - 2])),
        too_long("records.2.member.data", MIB)
    );
    let one = json!({"StreamName": "orders", "PartitionKey": "key", "Data": "x".repeat(MIB - 2)});
    assert_eq!(
        core.refusal("PutRecord", one.clone()),
        too_long("data", MIB)
    );
    assert_eq!(
        core.refusal("PutRecords", puts(&[MIB; 5])),
        error(
            "InvalidArgumentException",
            "Records size exceeds 5 MB limit"
        )
    );
    let arn = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";
    core.call(
        "UpdateMaxRecordSize",
        json!({"StreamARN": arn, "MaxRecordSizeInKiB": 2048}),
    );
    core.call("PutRecord", one);
    core.call("PutRecords", puts(&[2 * MIB - 3; 5]));
    assert_eq!(
        core.refusal("PutRecords", puts(&[2 * MIB - 2])),
        too_long("records.1.member.data", 2 * MIB)
    );
    assert_eq!(
        core.refusal(
            "PutRecords",
            puts(&[2 * MIB - 3, 2 * MIB, 2 * MIB, 2 * MIB, 2 * MIB, 4])
        ),
        error(
            "InvalidArgumentException",
            "Records size exceeds 10 MB limit"
        )
    );
}

#[test]
fn a_hash_key_chooses_the_shard() {
    let mut core = Core::new();
    core.create("orders", 2);
    let put = |hash: &str| json!({"StreamName": "orders", "PartitionKey": "k", "Data": "x", "ExplicitHashKey": hash});
    let half = "170141183460469231731687303715884105728";
    assert_eq!(core.call("PutRecord", put("0"))["ShardId"], ZERO);
    assert_eq!(
        core.call("PutRecord", put(half))["ShardId"],
        "shardId-000000000001"
    );
    let (code, message) = core.refusal("PutRecord", put("340282366920938463463374607431768211456"));
    assert_eq!(code, "InvalidArgumentException");
    assert!(message.starts_with("Invalid ExplicitHashKey."), "{message}");
    let ordered = |after: &str| json!({"StreamName": "orders", "PartitionKey": "k", "Data": "x", "SequenceNumberForOrdering": after});
    let number = core.put("orders", "k", "x");
    assert!(text(&core.call("PutRecord", ordered(&number))["SequenceNumber"]) > number);
    assert_eq!(
        core.refusal("PutRecord", ordered("12")).0,
        "InvalidArgumentException"
    );
}

#[test]
fn messages_of_other_doors_are_records() {
    let mut core = Core::new();
    core.create("orders", 1);
    let address = |key: &str| {
        let key = Levels::one(Bytes::copy_from_slice(key.as_bytes()));
        Address::stream(VhostId(0), "orders", key)
    };
    core.publish_message(Message::new(address("sensor-1"), Bytes::from_static(b"21")));
    core.publish_message(Message::new(
        address(&"x".repeat(257)),
        Bytes::from_static(b"22"),
    ));
    let iterator = core.iterator("orders", ZERO, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let page = core.read(&iterator);
    assert_eq!(data(&page), ["21", "22"]);
    assert_eq!(page["Records"][0]["PartitionKey"], "sensor-1");
    // DOORS 20: over 256 characters, the SHA-256 in hex.
    assert_eq!(text(&page["Records"][1]["PartitionKey"]).len(), 64);
}

#[test]
fn tests_written_for_moto_find_its_manners() {
    let mut core = Core::new();
    core.settings.manners = aws::Manners::Moto;
    for at in 0..11 {
        core.create(&format!("s{at:02}"), 1);
    }
    let page = core.call("ListStreams", json!({}));
    assert_eq!(page["StreamNames"].as_array().unwrap().len(), 10);
    assert_eq!(page["HasMoreStreams"], true);
    for number in ["1", "2", "3"] {
        assert_eq!(core.put("s00", "k", number), number);
    }
    let mut read = |more: Json| {
        let iterator = core.iterator("s00", ZERO, more);
        data(&core.read(&iterator))
    };
    assert_eq!(
        read(json!({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": "1"})),
        ["2", "3"]
    );
    assert_eq!(
        read(json!({"ShardIteratorType": "LATEST", "StartingSequenceNumber": "1"})),
        Vec::<String>::new()
    );
    let stream = "arn:aws:kinesis:us-east-1:123456789012:stream/s00";
    let made = core.call(
        "RegisterStreamConsumer",
        json!({"StreamARN": stream, "ConsumerName": "c"}),
    );
    let arn = json!({"ConsumerARN": format!("{stream}/consumer/c")});
    assert_eq!(made["Consumer"]["ConsumerARN"], arn["ConsumerARN"]);
    core.call("DescribeStreamConsumer", arn.clone());
    core.call("DeregisterStreamConsumer", arn);
}
