//! Streams as wholes.

use aws::Transitions;
use serde_json::json;
use session::{Growth, RefusalKind};

use crate::{
    core::{Core, START},
    error, text,
};

#[test]
fn a_stream_is_made_described_and_deleted() {
    let mut core = Core::new();
    core.create("orders", 2);
    let description = core.call("DescribeStream", json!({"StreamName": "orders"}));
    let description = &description["StreamDescription"];
    assert_eq!(
        description["StreamARN"],
        "arn:aws:kinesis:us-east-1:123456789012:stream/orders"
    );
    assert_eq!(description["StreamStatus"], "ACTIVE");
    assert_eq!(description["RetentionPeriodHours"], 24);
    assert_eq!(
        description["StreamModeDetails"]["StreamMode"],
        "PROVISIONED"
    );
    assert_eq!(
        description["EnhancedMonitoring"],
        json!([{"ShardLevelMetrics": []}])
    );
    assert_eq!(description["EncryptionType"], "NONE");
    assert_eq!(description["HasMoreShards"], false);
    assert_eq!(description["StreamCreationTimestamp"], START.0);
    let shards = description["Shards"].as_array().unwrap();
    assert_eq!(shards.len(), 2);
    assert_eq!(shards[0]["HashKeyRange"]["StartingHashKey"], "0");
    assert_eq!(
        shards[0]["HashKeyRange"]["EndingHashKey"],
        "170141183460469231731687303715884105727"
    );
    assert_eq!(
        shards[1]["HashKeyRange"]["EndingHashKey"],
        "340282366920938463463374607431768211455"
    );
    assert_eq!(
        text(&shards[0]["SequenceNumberRange"]["StartingSequenceNumber"]).len(),
        56
    );
    let arn = json!({"StreamARN": description["StreamARN"]});
    let summary = core.call("DescribeStreamSummary", arn.clone());
    let summary = &summary["StreamDescriptionSummary"];
    assert_eq!(summary["OpenShardCount"], 2);
    assert_eq!(summary["ConsumerCount"], 0);
    assert_eq!(summary["MaxRecordSizeInKiB"], 1024);
    let id = text(&summary["StreamId"]);
    core.call(
        "DescribeStream",
        json!({"StreamName": "orders", "StreamId": id}),
    );
    core.call("DeleteStream", arn.clone());
    assert_eq!(
        core.refusal("DescribeStream", arn),
        error(
            "ResourceNotFoundException",
            "Stream orders under account 123456789012 not found."
        )
    );
    core.create("orders", 1);
    assert_eq!(
        core.refusal(
            "DescribeStream",
            json!({"StreamName": "orders", "StreamId": id})
        )
        .0,
        "ResourceNotFoundException"
    );
}

#[test]
fn creating_is_refused_in_the_words_of_kinesis() {
    let mut core = Core::new();
    core.create("orders", 1);
    assert_eq!(
        core.refusal(
            "CreateStream",
            json!({"StreamName": "orders", "ShardCount": 1})
        ),
        error(
            "ResourceInUseException",
            "Stream orders under account 123456789012 already exists."
        )
    );
    assert_eq!(
        core.refusal("CreateStream", json!({"StreamName": "other"}))
            .0,
        "ValidationException"
    );
    core.settings.shards_max = 3;
    let (code, message) = core.refusal(
        "CreateStream",
        json!({"StreamName": "other", "ShardCount": 3}),
    );
    assert_eq!(code, "LimitExceededException");
    assert!(
        message.contains("Current shard count for the account: 1. Limit: 3."),
        "{message}"
    );
    core.call(
        "CreateStream",
        json!({"StreamName": "other", "ShardCount": 2}),
    );
    let limits = core.call("DescribeLimits", json!({}));
    assert_eq!(
        limits,
        json!({"ShardLimit": 3, "OpenShardCount": 3, "OnDemandStreamCount": 0, "OnDemandStreamCountLimit": 50})
    );
}

#[test]
fn limits_of_an_account_count_what_the_caller_may_not_see_too() {
    let mut core = Core::new();
    core.settings.shards_max = 6;
    let mode = json!({"StreamMode": "ON_DEMAND"});
    core.call(
        "CreateStream",
        json!({"StreamName": "orders", "StreamModeDetails": mode}),
    );
    core.hidden.push("orders".into());
    let limits = core.call("DescribeLimits", json!({}));
    assert_eq!(
        limits,
        json!({"ShardLimit": 6, "OpenShardCount": 4, "OnDemandStreamCount": 1, "OnDemandStreamCountLimit": 50})
    );
    let make = |shards| json!({"StreamName": "other", "ShardCount": shards});
    let (code, message) = core.refusal("CreateStream", make(3));
    assert_eq!(code, "LimitExceededException");
    assert!(
        message.contains("Current shard count for the account: 4. Limit: 6."),
        "{message}"
    );
    core.call("CreateStream", make(2));
    // Which one that is, is not told.
    let listed = core.call("ListStreams", json!({}));
    assert_eq!(listed["StreamNames"], json!(["other"]));
}

#[test]
fn on_demand_streams_have_four_shards_that_cannot_be_counted() {
    let mut core = Core::new();
    let mode = json!({"StreamMode": "ON_DEMAND"});
    core.call(
        "CreateStream",
        json!({"StreamName": "orders", "StreamModeDetails": mode}),
    );
    let shards = core.call("ListShards", json!({"StreamName": "orders"}));
    assert_eq!(shards["Shards"].as_array().unwrap().len(), 4);
    let on_demand = error(
        "ValidationException",
        "Request is invalid. Stream orders under account 123456789012 is in On-Demand mode.",
    );
    let count =
        json!({"StreamName": "orders", "TargetShardCount": 3, "ScalingType": "UNIFORM_SCALING"});
    assert_eq!(core.refusal("UpdateShardCount", count.clone()), on_demand);
    let merge = json!({"StreamName": "orders", "ShardToMerge": "0", "AdjacentShardToMerge": "1"});
    assert_eq!(core.refusal("MergeShards", merge), on_demand);
    assert_eq!(
        core.call("DescribeLimits", json!({}))["OnDemandStreamCount"],
        1
    );
    let arn = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";
    let warm = core.call(
        "UpdateStreamWarmThroughput",
        json!({"StreamARN": arn, "WarmThroughputMiBps": 100}),
    );
    assert_eq!(
        warm["WarmThroughput"],
        json!({"TargetMiBps": 100, "CurrentMiBps": 100})
    );
    let provisioned = json!({"StreamMode": "PROVISIONED"});
    core.call(
        "UpdateStreamMode",
        json!({"StreamARN": arn, "StreamModeDetails": provisioned}),
    );
    core.call("UpdateShardCount", count);
    let summary = core.call("DescribeStreamSummary", json!({"StreamName": "orders"}));
    assert_eq!(
        summary["StreamDescriptionSummary"]["StreamModeDetails"],
        provisioned
    );
    assert_eq!(summary["StreamDescriptionSummary"]["OpenShardCount"], 3);
    assert!(
        summary["StreamDescriptionSummary"]
            .get("WarmThroughput")
            .is_none()
    );
}

#[test]
fn streams_are_listed_by_pages() {
    let mut core = Core::new();
    for at in 0..5 {
        core.create(&format!("s{at}"), 1);
    }
    let page = core.call("ListStreams", json!({"Limit": 2}));
    assert_eq!(page["StreamNames"], json!(["s0", "s1"]));
    assert_eq!(page["HasMoreStreams"], true);
    assert_eq!(page["StreamSummaries"][1]["StreamName"], "s1");
    let next = core.call(
        "ListStreams",
        json!({"Limit": 3, "NextToken": page["NextToken"]}),
    );
    assert_eq!(next["StreamNames"], json!(["s2", "s3", "s4"]));
    assert_eq!(next["HasMoreStreams"], false);
    assert!(next.get("NextToken").is_none());
    let after = core.call("ListStreams", json!({"ExclusiveStartStreamName": "s3"}));
    assert_eq!(after["StreamNames"], json!(["s4"]));
    core.pass_ms(300_001);
    assert_eq!(
        core.refusal("ListStreams", json!({"NextToken": page["NextToken"]}))
            .0,
        "ExpiredNextTokenException"
    );
    assert_eq!(
        core.refusal("ListStreams", json!({"NextToken": "AAAA"})),
        error("InvalidArgumentException", "NextToken is invalid.")
    );
}

#[test]
fn retention_goes_up_and_down_within_its_bounds() {
    let mut core = Core::new();
    core.create("orders", 1);
    let hours = |hours: u32| json!({"StreamName": "orders", "RetentionPeriodHours": hours});
    core.call("IncreaseStreamRetentionPeriod", hours(8760));
    core.call("DecreaseStreamRetentionPeriod", hours(30));
    let description = core.call("DescribeStream", json!({"StreamName": "orders"}));
    assert_eq!(description["StreamDescription"]["RetentionPeriodHours"], 30);
    for (operation, number, message) in [
        (
            "IncreaseStreamRetentionPeriod",
            25,
            "Requested retention period (25 hours) for stream orders can not be shorter than existing retention period (30 hours). Use DecreaseRetentionPeriod API.",
        ),
        (
            "DecreaseStreamRetentionPeriod",
            31,
            "Requested retention period (31 hours) for stream orders can not be longer than existing retention period (30 hours). Use IncreaseRetentionPeriod API.",
        ),
        (
            "DecreaseStreamRetentionPeriod",
            23,
            "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short.",
        ),
        (
            "IncreaseStreamRetentionPeriod",
            8761,
            "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) is too long.",
        ),
    ] {
        assert_eq!(
            core.refusal(operation, hours(number)),
            error("InvalidArgumentException", message)
        );
    }
}

#[test]
fn a_stream_of_another_door_that_keeps_records_forever_shows_the_longest_retention_of_aws() {
    let mut core = Core::new();
    core.create("orders", 1);
    core.keep_forever("orders");
    let name = json!({"StreamName": "orders"});
    for (operation, output) in [
        ("DescribeStream", "StreamDescription"),
        ("DescribeStreamSummary", "StreamDescriptionSummary"),
    ] {
        let shown = core.call(operation, name.clone());
        assert_eq!(shown[output]["RetentionPeriodHours"], 8760);
    }
    let hours = json!({"StreamName": "orders", "RetentionPeriodHours": 48});
    core.call("DecreaseStreamRetentionPeriod", hours);
    let shown = core.call("DescribeStream", name);
    assert_eq!(shown["StreamDescription"]["RetentionPeriodHours"], 48);
}

#[test]
fn changes_take_a_moment_unless_told_otherwise() {
    let mut core = Core::new();
    core.settings.transitions = Transitions::Brief;
    core.create("orders", 2);
    let status = |core: &mut Core| {
        let summary = core.call("DescribeStreamSummary", json!({"StreamName": "orders"}));
        text(&summary["StreamDescriptionSummary"]["StreamStatus"])
    };
    assert_eq!(status(&mut core), "CREATING");
    let hours = json!({"StreamName": "orders", "RetentionPeriodHours": 48});
    assert_eq!(
        core.refusal("IncreaseStreamRetentionPeriod", hours.clone()),
        error(
            "ResourceInUseException",
            "Stream orders under account 123456789012 not ACTIVE, instead in state CREATING"
        )
    );
    core.pass_ms(500);
    assert_eq!(status(&mut core), "ACTIVE");
    core.call("IncreaseStreamRetentionPeriod", hours);
    assert_eq!(status(&mut core), "UPDATING");
    core.pass_ms(500);
    core.call(
        "MergeShards",
        json!({"StreamName": "orders", "ShardToMerge": "shardId-000000000000", "AdjacentShardToMerge": "shardId-000000000001"}),
    );
    assert_eq!(status(&mut core), "UPDATING");
    core.pass_ms(500);
    core.call(
        "AddTagsToStream",
        json!({"StreamName": "orders", "Tags": {"a": "b"}}),
    );
    assert_eq!(status(&mut core), "ACTIVE");
}

#[test]
fn tags_are_kept_in_order_and_limited() {
    let mut core = Core::new();
    core.call(
        "CreateStream",
        json!({"StreamName": "orders", "ShardCount": 1, "Tags": {"b": "2", "a": "1"}}),
    );
    let stream = json!({"StreamName": "orders"});
    let arn = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";
    core.call(
        "AddTagsToStream",
        json!({"StreamName": "orders", "Tags": {"c": ""}}),
    );
    core.call(
        "TagResource",
        json!({"ResourceARN": arn, "Tags": {"d": "4"}}),
    );
    core.call(
        "RemoveTagsFromStream",
        json!({"StreamName": "orders", "TagKeys": ["a", "absent"]}),
    );
    let tags =
        json!([{"Key": "b", "Value": "2"}, {"Key": "c", "Value": ""}, {"Key": "d", "Value": "4"}]);
    assert_eq!(
        core.call("ListTagsForStream", stream),
        json!({"Tags": tags, "HasMoreTags": false})
    );
    assert_eq!(
        core.call("ListTagsForResource", json!({"ResourceARN": arn})),
        json!({"Tags": tags})
    );
    let page = core.call(
        "ListTagsForStream",
        json!({"StreamName": "orders", "ExclusiveStartTagKey": "b", "Limit": 1}),
    );
    assert_eq!(
        page,
        json!({"Tags": [{"Key": "c", "Value": ""}], "HasMoreTags": true})
    );
    core.call(
        "UntagResource",
        json!({"ResourceARN": arn, "TagKeys": ["b", "c", "d"]}),
    );
    assert_eq!(
        core.call("ListTagsForResource", json!({"ResourceARN": arn})),
        json!({"Tags": []})
    );
    let many: serde_json::Map<_, _> = (0..51).map(|at| (at.to_string(), json!("x"))).collect();
    let (code, message) = core.refusal("TagResource", json!({"ResourceARN": arn, "Tags": many}));
    assert_eq!(code, "InvalidArgumentException");
    assert!(message.contains("more than 50 tags"), "{message}");
    for key in ["a*", "aws:x", "AWS:x", ""] {
        let tags = json!({"ResourceARN": arn, "Tags": {key: "x"}});
        let (code, _) = core.refusal("TagResource", tags);
        assert!(
            matches!(&*code, "InvalidArgumentException" | "ValidationException"),
            "{key}: {code}"
        );
    }
}

#[test]
fn a_tag_says_what_shards_take() {
    let mut core = Core::new();
    core.settings.shard_limits = true;
    core.create("orders", 1);
    let limits = |core: &Core| core.limits("orders");
    let aws = limits(&core).expect("limited as with AWS");
    assert_eq!(
        (
            aws.write_records,
            aws.write_bytes,
            aws.reads,
            aws.read_bytes
        ),
        (1000, 1 << 20, 5, 2 << 20)
    );
    let tag = |value: &str| json!({"StreamName": "orders", "Tags": {"bascule.limits": value}});
    core.call("AddTagsToStream", tag("off"));
    assert_eq!(limits(&core), None);
    core.call("AddTagsToStream", tag("records=7 read-bytes=9"));
    let said = limits(&core).unwrap();
    assert_eq!(
        (
            said.write_records,
            said.write_bytes,
            said.reads,
            said.read_bytes
        ),
        (7, 0, 0, 9)
    );
    for bad in ["on", "records", "records=x", "speed=1", ""] {
        assert_eq!(
            core.refusal("AddTagsToStream", tag(bad)).0,
            "InvalidArgumentException",
            "{bad}"
        );
    }
    let typo = json!({"StreamName": "orders", "Tags": {"bascule.limit": "off"}});
    let (code, words) = core.refusal("AddTagsToStream", typo);
    assert_eq!(code, "InvalidArgumentException");
    assert!(words.contains("there is bascule.limits"), "{words}");
    core.call(
        "RemoveTagsFromStream",
        json!({"StreamName": "orders", "TagKeys": ["bascule.limits"]}),
    );
    assert_eq!(limits(&core), Some(aws));
    let mode = json!({"StreamMode": "ON_DEMAND"});
    core.call(
        "CreateStream",
        json!({"StreamName": "demand", "StreamModeDetails": mode}),
    );
    let demand = core.limits("demand").unwrap();
    assert_eq!(
        (demand.write_records, demand.write_bytes, demand.reads),
        (0, 0, 5)
    );
}

#[test]
fn doors_7_an_arn_of_another_region_that_is_the_same_virtual_host_is_of_this_stream() {
    let mut core = Core::new();
    core.create("orders", 1);
    let arn = |region: &str, account: &str| json!({"StreamARN": format!("arn:aws:kinesis:{region}:{account}:stream/orders")});
    for region in ["us-east-1", "us-west-2"] {
        let shown = core.call("DescribeStreamSummary", arn(region, "123456789012"));
        assert_eq!(shown["StreamDescriptionSummary"]["OpenShardCount"], 1);
    }
    for (region, account) in [("eu-west-1", "123456789012"), ("us-west-2", "210987654321")] {
        assert_eq!(
            core.refusal("DescribeStreamSummary", arn(region, account))
                .0,
            "ResourceNotFoundException"
        );
    }
}

#[test]
fn on_demand_streams_grow_while_they_are_that() {
    let mut core = Core::new();
    core.settings.shards_max = 77;
    let mode = |mode: &str| json!({"StreamMode": mode});
    core.call(
        "CreateStream",
        json!({"StreamName": "orders", "StreamModeDetails": mode("ON_DEMAND")}),
    );
    let growth = Growth {
        write_records: 1_000,
        write_bytes: 1 << 20,
        shards_max: 77,
    };
    assert_eq!(core.growth("orders"), Some(growth));
    let arn = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";
    let change = |to: &str| json!({"StreamARN": arn, "StreamModeDetails": mode(to)});
    core.call("UpdateStreamMode", change("PROVISIONED"));
    assert_eq!(core.growth("orders"), None);
    core.settings.shards_max = 78;
    core.call("UpdateStreamMode", change("ON_DEMAND"));
    let growth = Growth {
        shards_max: 78,
        ..growth
    };
    assert_eq!(core.growth("orders"), Some(growth));
    core.create("provisioned", 1);
    assert_eq!(core.growth("provisioned"), None);
}

#[test]
fn policies_are_kept() {
    let mut core = Core::new();
    core.create("orders", 1);
    let arn = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";
    let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
    let resource = json!({"ResourceARN": arn});
    assert_eq!(
        core.call("GetResourcePolicy", resource.clone()),
        json!({"Policy": "{}"})
    );
    core.call(
        "PutResourcePolicy",
        json!({"ResourceARN": arn, "Policy": policy}),
    );
    assert_eq!(
        core.call("GetResourcePolicy", resource.clone()),
        json!({"Policy": policy})
    );
    core.call("DeleteResourcePolicy", resource.clone());
    assert_eq!(
        core.refusal("DeleteResourcePolicy", resource),
        error(
            "ResourceNotFoundException",
            &format!("No resource policy found for resource ARN {arn}.")
        )
    );
    for other in [
        "arn:aws:kinesis:us-east-1:123456789012:stream/other",
        "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
    ] {
        assert_eq!(
            core.refusal("GetResourcePolicy", json!({"ResourceARN": other})),
            error(
                "ResourceNotFoundException",
                &format!("Stream {other} under account 123456789012 not found.")
            )
        );
    }
    for policy in [
        "no",
        r#"{"Version":"2012-10-17"}"#,
        r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"sqs:SendMessage"}}"#,
        r#"{"Statement":{"Effect":"Allow","Principal":{"Federated":"x"},"Action":"kinesis:*"}}"#,
    ] {
        assert_eq!(
            core.refusal(
                "PutResourcePolicy",
                json!({"ResourceARN": arn, "Policy": policy})
            )
            .0,
            "InvalidArgumentException",
            "{policy}"
        );
    }
}

#[test]
fn monitoring_and_encryption_are_kept() {
    let mut core = Core::new();
    core.create("orders", 1);
    let metrics = |names: &[&str]| json!({"StreamName": "orders", "ShardLevelMetrics": names});
    let enabled = core.call(
        "EnableEnhancedMonitoring",
        metrics(&["OutgoingBytes", "IncomingBytes"]),
    );
    assert_eq!(enabled["CurrentShardLevelMetrics"], json!([]));
    assert_eq!(
        enabled["DesiredShardLevelMetrics"],
        json!(["IncomingBytes", "OutgoingBytes"])
    );
    assert_eq!(
        core.call("EnableEnhancedMonitoring", metrics(&["ALL"]))["DesiredShardLevelMetrics"],
        json!(["ALL"])
    );
    let fewer = core.call("DisableEnhancedMonitoring", metrics(&["IncomingBytes"]));
    assert_eq!(
        fewer["DesiredShardLevelMetrics"].as_array().unwrap().len(),
        6
    );
    let none = core.call("DisableEnhancedMonitoring", metrics(&["ALL"]));
    assert_eq!(none["DesiredShardLevelMetrics"], json!([]));
    let key = json!({"StreamName": "orders", "EncryptionType": "KMS", "KeyId": "alias/mine"});
    core.call("StartStreamEncryption", key.clone());
    let shown = core.call("DescribeStream", json!({"StreamName": "orders"}));
    assert_eq!(shown["StreamDescription"]["EncryptionType"], "KMS");
    assert_eq!(shown["StreamDescription"]["KeyId"], "alias/mine");
    core.call("StopStreamEncryption", key);
    let shown = core.call("DescribeStream", json!({"StreamName": "orders"}));
    assert_eq!(shown["StreamDescription"]["EncryptionType"], "NONE");
    assert!(shown["StreamDescription"].get("KeyId").is_none());
}

#[test]
fn accounts_commit_to_nothing() {
    let mut core = Core::new();
    let disabled = json!({"MinimumThroughputBillingCommitment": {"Status": "DISABLED"}});
    assert_eq!(core.call("DescribeAccountSettings", json!({})), disabled);
    assert_eq!(
        core.call("UpdateAccountSettings", disabled.clone()),
        disabled
    );
    let enabled = json!({"MinimumThroughputBillingCommitment": {"Status": "ENABLED"}});
    assert_eq!(
        core.refusal("UpdateAccountSettings", enabled).0,
        "ValidationException"
    );
}

#[test]
fn names_and_arns_must_agree() {
    let mut core = Core::new();
    core.create("orders", 1);
    for (input, code) in [
        (json!({}), "InvalidArgumentException"),
        (
            json!({"StreamName": "other", "StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/orders"}),
            "InvalidArgumentException",
        ),
        (
            json!({"StreamARN": "arn:aws:kinesis:us-east-1:999999999999:stream/orders"}),
            "ResourceNotFoundException",
        ),
        (
            json!({"StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/orders/consumer/c:1"}),
            "ResourceNotFoundException",
        ),
    ] {
        assert_eq!(
            core.refusal("DescribeStream", input.clone()).0,
            code,
            "{input}"
        );
    }
}

#[test]
fn what_the_core_refuses_has_a_name() {
    let mut core = Core::new();
    core.create("orders", 1);
    for (kind, code) in [
        (RefusalKind::NotFound, "ResourceNotFoundException"),
        (RefusalKind::AccessDenied, "AccessDeniedException"),
        (RefusalKind::StorageFull, "ServiceUnavailable"),
        (RefusalKind::NotActive, "ServiceUnavailable"),
        (RefusalKind::QuotaExceeded, "LimitExceededException"),
        (RefusalKind::Internal, "InternalFailure"),
    ] {
        core.refusing = vec![kind];
        assert_eq!(
            core.refusal("DescribeStream", json!({"StreamName": "orders"}))
                .0,
            code
        );
    }
}

#[test]
fn a_change_that_another_came_before_is_done_again() {
    let mut core = Core::new();
    core.create("orders", 1);
    // Refused last to first: the look passes, the change meets another one.
    core.conflicts = 2;
    core.call(
        "AddTagsToStream",
        json!({"StreamName": "orders", "Tags": {"a": "b"}}),
    );
    let tags = core.call("ListTagsForStream", json!({"StreamName": "orders"}));
    assert_eq!(tags["Tags"], json!([{"Key": "a", "Value": "b"}]));
    core.conflicts = 100;
    assert_eq!(
        core.refusal(
            "AddTagsToStream",
            json!({"StreamName": "orders", "Tags": {"c": "d"}})
        )
        .0,
        "ResourceInUseException"
    );
}
