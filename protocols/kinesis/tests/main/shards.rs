//! Shards: split, merged, counted, listed.

use serde_json::{Value as Json, json};

use crate::{
    ZERO,
    core::{Core, START},
    data, error, text,
};

const ONE: &str = "shardId-000000000001";

fn split(stream: &str, shard: &str, at: &str) -> Json {
    json!({"StreamName": stream, "ShardToSplit": shard, "NewStartingHashKey": at})
}

fn merge(stream: &str, shard: &str, adjacent: &str) -> Json {
    json!({"StreamName": stream, "ShardToMerge": shard, "AdjacentShardToMerge": adjacent})
}

fn ids(shards: &Json) -> Vec<String> {
    let shards = shards["Shards"].as_array().expect("shards");
    shards
        .iter()
        .map(|shard| {
            text(&shard["ShardId"])[8..]
                .trim_start_matches('0')
                .to_owned()
        })
        .collect()
}

#[test]
fn a_split_shard_is_read_to_its_end_and_then_its_children() {
    let mut core = Core::new();
    core.create("orders", 1);
    core.put("orders", "k", "before");
    let half = "170141183460469231731687303715884105728";
    core.call("SplitShard", split("orders", ZERO, half));
    let shards = core.call("ListShards", json!({"StreamName": "orders"}))["Shards"].clone();
    assert_eq!(shards.as_array().unwrap().len(), 3);
    assert!(
        shards[0]["SequenceNumberRange"]
            .get("EndingSequenceNumber")
            .is_some()
    );
    assert_eq!(shards[1]["ParentShardId"], ZERO);
    assert_eq!(shards[2]["HashKeyRange"]["StartingHashKey"], half);
    assert!(shards[2].get("AdjacentParentShardId").is_none());
    core.put("orders", "k", "after");
    let iterator = core.iterator("orders", ZERO, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let end = core.read(&iterator);
    assert_eq!(data(&end), ["before"]);
    assert!(end.get("NextShardIterator").is_none());
    let children = end["ChildShards"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!(children[0]["ParentShards"], json!([ZERO]));
    let read: Vec<_> = children
        .iter()
        .flat_map(|child| {
            let iterator = core.iterator(
                "orders",
                &text(&child["ShardId"]),
                json!({"ShardIteratorType": "TRIM_HORIZON"}),
            );
            data(&core.read(&iterator))
        })
        .collect();
    assert_eq!(read, ["after"]);
}

#[test]
fn numbers_of_a_closed_shard_lie_between_its_ends() {
    let mut core = Core::new();
    core.create("orders", 2);
    let number = core.put("orders", "k", "x");
    core.call("MergeShards", merge("orders", ZERO, ONE));
    let shards = core.call("ListShards", json!({"StreamName": "orders"}))["Shards"].clone();
    let iterator = core.iterator("orders", ZERO, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let at = usize::from(data(&core.read(&iterator)).is_empty());
    let range = &shards[at]["SequenceNumberRange"];
    assert!(text(&range["StartingSequenceNumber"]) < number);
    assert!(text(&range["EndingSequenceNumber"]) > number);
    assert_eq!(shards[2]["ParentShardId"], ZERO);
    assert_eq!(shards[2]["AdjacentParentShardId"], ONE);
    // The first number of a shard is good to begin with, too.
    let from = json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": range["StartingSequenceNumber"]});
    let iterator = core.iterator("orders", &text(&shards[at]["ShardId"]), from);
    assert_eq!(data(&core.read(&iterator)), ["x"]);
}

#[test]
fn splitting_and_merging_are_refused_in_the_words_of_kinesis() {
    let mut core = Core::new();
    core.create("orders", 4);
    assert_eq!(
        core.refusal("SplitShard", split("orders", "unknown", "1")),
        error(
            "ResourceNotFoundException",
            "Could not find shard unknown in stream orders under account 123456789012."
        )
    );
    for at in [
        "1",
        "0",
        "85070591730234615865843651857942052863",
        "340282366920938463463374607431768211456",
    ] {
        let (code, message) = core.refusal("SplitShard", split("orders", ZERO, at));
        assert_eq!(code, "InvalidArgumentException");
        assert_eq!(
            message,
            format!(
                "NewStartingHashKey {at} used in SplitShard() on shard {ZERO} in stream orders under account 123456789012 is not both \
                 greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey \
                 85070591730234615865843651857942052863."
            )
        );
    }
    core.call("SplitShard", split("orders", ZERO, "2"));
    assert_eq!(
        core.refusal("SplitShard", split("orders", ZERO, "2")),
        error(
            "InvalidArgumentException",
            &format!(
                "Shard {ZERO} in stream orders under account 123456789012 has already been merged or split, and thus is not eligible for merging or splitting."
            )
        )
    );
    assert_eq!(
        core.refusal("MergeShards", merge("orders", ZERO, ONE)).0,
        "InvalidArgumentException"
    );
    let (code, message) = core.refusal("MergeShards", merge("orders", ONE, "shardId-000000000003"));
    assert_eq!(code, "InvalidArgumentException");
    assert!(
        message.ends_with("are not an adjacent pair of shards eligible for merging"),
        "{message}"
    );
    // The upper one may be named first.
    core.call(
        "MergeShards",
        merge("orders", "shardId-000000000003", "shardId-000000000002"),
    );
    core.settings.shards_max = 4;
    assert_eq!(
        core.refusal(
            "SplitShard",
            split("orders", ONE, "100000000000000000000000000000000000000")
        )
        .0,
        "LimitExceededException"
    );
}

#[test]
fn updating_the_count_splits_and_merges_as_aws_does() {
    // As counted with AWS: shards before, shards wanted, shards that have been.
    for (before, wanted, all) in [
        (2, 4, 6),
        (4, 5, 15),
        (10, 13, 37),
        (4, 2, 6),
        (5, 3, 7),
        (10, 3, 17),
        (3, 3, 3),
        (1, 64, 127),
    ] {
        let mut core = Core::new();
        core.create("orders", before);
        let update = json!({"StreamName": "orders", "TargetShardCount": wanted, "ScalingType": "UNIFORM_SCALING"});
        let answer = core.call("UpdateShardCount", update);
        assert_eq!(answer["CurrentShardCount"], before);
        assert_eq!(answer["TargetShardCount"], wanted);
        let shards = core.call("ListShards", json!({"StreamName": "orders"}));
        assert_eq!(
            shards["Shards"].as_array().unwrap().len(),
            all,
            "{before} to {wanted}"
        );
        let open = core.call(
            "ListShards",
            json!({"StreamName": "orders", "ShardFilter": {"Type": "AT_LATEST"}}),
        );
        let mut ranges: Vec<(u128, u128)> = open["Shards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|shard| {
                let range = &shard["HashKeyRange"];
                (
                    text(&range["StartingHashKey"]).parse().unwrap(),
                    text(&range["EndingHashKey"]).parse().unwrap(),
                )
            })
            .collect();
        ranges.sort_unstable();
        assert_eq!(ranges.len(), wanted);
        assert_eq!((ranges[0].0, ranges[wanted - 1].1), (0, u128::MAX));
        assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        let widths = || ranges.iter().map(|(first, last)| last - first);
        assert!(
            widths().max().unwrap() / 2 <= widths().min().unwrap() + 64,
            "{before} to {wanted}"
        );
    }
}

#[test]
fn counts_are_limited_by_what_is_there_and_by_the_day() {
    let mut core = Core::new();
    core.settings.minute_rules = true;
    core.create("orders", 4);
    let update = |wanted: u32| json!({"StreamName": "orders", "TargetShardCount": wanted, "ScalingType": "UNIFORM_SCALING"});
    for wanted in [9, 1, 10_001] {
        assert_eq!(
            core.refusal("UpdateShardCount", update(wanted)).0,
            "LimitExceededException",
            "{wanted}"
        );
    }
    for at in 0..10 {
        core.call("UpdateShardCount", update(4 + at % 2));
    }
    let (code, message) = core.refusal("UpdateShardCount", update(4));
    assert_eq!(code, "LimitExceededException");
    assert!(
        message.contains("10 times in the last 24 hours"),
        "{message}"
    );
    core.pass_ms(24 * 3_600_000);
    core.call("UpdateShardCount", update(4));
}

#[test]
fn shards_are_listed_by_pages_and_filters() {
    let mut core = Core::new();
    core.create("orders", 2);
    core.pass_ms(1000);
    core.call("MergeShards", merge("orders", ZERO, ONE));
    core.pass_ms(1000);
    core.call(
        "SplitShard",
        split(
            "orders",
            "shardId-000000000002",
            "170141183460469231731687303715884105728",
        ),
    );
    let mut list = |filter: Json| {
        ids(&core.call(
            "ListShards",
            json!({"StreamName": "orders", "ShardFilter": filter}),
        ))
    };
    assert_eq!(
        list(json!({"Type": "FROM_TRIM_HORIZON"})),
        ["", "1", "2", "3", "4"]
    );
    assert_eq!(list(json!({"Type": "AT_TRIM_HORIZON"})), ["", "1"]);
    assert_eq!(list(json!({"Type": "AT_LATEST"})), ["3", "4"]);
    assert_eq!(
        list(json!({"Type": "AT_TIMESTAMP", "Timestamp": START.0 + 1500})),
        ["2"]
    );
    assert_eq!(
        list(json!({"Type": "FROM_TIMESTAMP", "Timestamp": START.0 + 1500})),
        ["2", "3", "4"]
    );
    assert_eq!(
        list(json!({"Type": "AFTER_SHARD_ID", "ShardId": ONE})),
        ["2", "3", "4"]
    );
    core.pass_ms(24 * 3_600_000 - 500);
    let mut list = |filter: Json| {
        ids(&core.call(
            "ListShards",
            json!({"StreamName": "orders", "ShardFilter": filter}),
        ))
    };
    assert_eq!(list(json!({"Type": "AT_TRIM_HORIZON"})), ["2"]);
    let first = core.call(
        "ListShards",
        json!({"StreamName": "orders", "MaxResults": 3}),
    );
    assert_eq!(ids(&first), ["", "1", "2"]);
    let token = first["NextToken"].clone();
    let rest = core.call("ListShards", json!({"NextToken": token, "MaxResults": 3}));
    assert_eq!(ids(&rest), ["3", "4"]);
    assert!(rest.get("NextToken").is_none());
    // With the name that it is of, a token is as good.
    core.call(
        "ListShards",
        json!({"NextToken": token, "StreamName": "orders"}),
    );
    let page = core.call(
        "DescribeStream",
        json!({"StreamName": "orders", "Limit": 2, "ExclusiveStartShardId": ONE}),
    );
    assert_eq!(ids(&page["StreamDescription"]), ["2", "3"]);
    assert_eq!(page["StreamDescription"]["HasMoreShards"], true);
    for (input, code) in [
        (json!({}), "InvalidArgumentException"),
        (json!({"NextToken": "x"}), "InvalidArgumentException"),
        (
            json!({"NextToken": token, "StreamName": "other"}),
            "InvalidArgumentException",
        ),
        (
            json!({"NextToken": token, "ShardFilter": {"Type": "AT_LATEST"}}),
            "InvalidArgumentException",
        ),
        (
            json!({"StreamName": "orders", "ShardFilter": {"Type": "AT_TIMESTAMP"}}),
            "InvalidArgumentException",
        ),
        (
            json!({"StreamName": "orders", "ShardFilter": {"Type": "AFTER_SHARD_ID"}}),
            "InvalidArgumentException",
        ),
        (
            json!({"StreamName": "orders", "ShardFilter": {"Type": "AT_LATEST", "ShardId": ONE}}),
            "InvalidArgumentException",
        ),
        (
            json!({"StreamName": "orders", "StreamCreationTimestamp": START.0 + 5000}),
            "ResourceNotFoundException",
        ),
        (json!({"StreamName": "other"}), "ResourceNotFoundException"),
    ] {
        assert_eq!(core.refusal("ListShards", input.clone()).0, code, "{input}");
    }
    core.pass_ms(300_001);
    assert_eq!(
        core.refusal("ListShards", json!({"NextToken": token})).0,
        "ExpiredNextTokenException"
    );
}
