//! Consumers with enhanced fan-out, and what is pushed to them.

use aws::Answer;
use serde_json::{Value as Json, json};

use crate::{
    ZERO,
    core::{Core, START},
    data, error, input, output, text,
};

const ARN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";

fn register(core: &mut Core, name: &str) -> String {
    let answer = core.call(
        "RegisterStreamConsumer",
        json!({"StreamARN": ARN, "ConsumerName": name}),
    );
    text(&answer["Consumer"]["ConsumerARN"])
}

/// The events of a subscription, and its error if it ends with one.
fn subscribe(
    core: &mut Core,
    consumer: &str,
    position: Json,
) -> Result<Vec<Json>, (String, String)> {
    let answers = core.answers(
        "SubscribeToShard",
        input(&json!({"ConsumerARN": consumer, "ShardId": ZERO, "StartingPosition": position})),
    );
    let mut events = Vec::new();
    let mut opened = false;
    for answer in answers {
        match answer {
            Answer::Output(_) => {
                assert!(!opened);
                opened = true;
            }
            Answer::Event(kind, event) => {
                assert_eq!((kind, opened), ("SubscribeToShardEvent", true));
                events.push(output(&event));
            }
            Answer::End => assert!(opened),
            Answer::Error(error) => {
                return Err((error.code.into_owned(), error.message.into_owned()));
            }
        }
    }
    Ok(events)
}

#[test]
fn consumers_are_registered_shown_and_deregistered() {
    let mut core = Core::new();
    core.create("orders", 1);
    assert_eq!(
        core.call("ListStreamConsumers", json!({"StreamARN": ARN})),
        json!({"Consumers": []})
    );
    let one = register(&mut core, "one");
    assert_eq!(one, format!("{ARN}/consumer/one:{}", START.0 / 1000));
    let shown = core.call("DescribeStreamConsumer", json!({"ConsumerARN": one}));
    assert_eq!(
        shown["ConsumerDescription"],
        json!({
            "ConsumerName": "one",
            "ConsumerARN": one,
            "ConsumerStatus": "ACTIVE",
            "ConsumerCreationTimestamp": START.0,
            "StreamARN": ARN,
        })
    );
    assert_eq!(
        core.call(
            "DescribeStreamConsumer",
            json!({"StreamARN": ARN, "ConsumerName": "one"})
        ),
        shown
    );
    assert_eq!(
        core.refusal(
            "RegisterStreamConsumer",
            json!({"StreamARN": ARN, "ConsumerName": "one"})
        )
        .0,
        "ResourceInUseException"
    );
    core.call(
        "TagResource",
        json!({"ResourceARN": one, "Tags": {"a": "b"}}),
    );
    assert_eq!(
        core.call("ListTagsForResource", json!({"ResourceARN": one}))["Tags"],
        json!([{"Key": "a", "Value": "b"}])
    );
    assert_eq!(
        core.call("ListTagsForResource", json!({"ResourceARN": ARN}))["Tags"],
        json!([])
    );
    assert_eq!(
        core.refusal("DeleteStream", json!({"StreamName": "orders"}))
            .0,
        "ResourceInUseException"
    );
    core.call("DeregisterStreamConsumer", json!({"ConsumerARN": one}));
    for (operation, input) in [
        ("DescribeStreamConsumer", json!({"ConsumerARN": one})),
        ("DeregisterStreamConsumer", json!({"ConsumerARN": one})),
        (
            "TagResource",
            json!({"ResourceARN": one, "Tags": {"a": "b"}}),
        ),
    ] {
        assert_eq!(
            core.refusal(operation, input),
            error(
                "ResourceNotFoundException",
                &format!("Consumer {one}, account 123456789012 not found.")
            ),
            "{operation}"
        );
    }
    register(&mut core, "two");
    core.call(
        "DeleteStream",
        json!({"StreamName": "orders", "EnforceConsumerDeletion": true}),
    );
}

#[test]
fn twenty_consumers_are_listed_by_pages() {
    let mut core = Core::new();
    core.create("orders", 1);
    for at in 0..20 {
        register(&mut core, &format!("c{at:02}"));
    }
    assert_eq!(
        core.refusal(
            "RegisterStreamConsumer",
            json!({"StreamARN": ARN, "ConsumerName": "more"})
        )
        .0,
        "LimitExceededException"
    );
    let names = |page: &Json| -> Vec<_> {
        let all = page["Consumers"].as_array().unwrap();
        all.iter()
            .map(|consumer| text(&consumer["ConsumerName"]))
            .collect()
    };
    let first = core.call(
        "ListStreamConsumers",
        json!({"StreamARN": ARN, "MaxResults": 12}),
    );
    assert_eq!(names(&first).last().unwrap(), "c11");
    let second = core.call(
        "ListStreamConsumers",
        json!({"StreamARN": ARN, "NextToken": first["NextToken"]}),
    );
    assert_eq!(names(&second).len(), 8);
    assert!(second.get("NextToken").is_none());
    assert_eq!(
        core.refusal(
            "ListStreamConsumers",
            json!({"StreamARN": ARN, "NextToken": "x"})
        )
        .0,
        "InvalidArgumentException"
    );
}

#[test]
fn records_are_pushed_for_five_minutes() {
    let mut core = Core::new();
    core.create("orders", 1);
    let consumer = register(&mut core, "one");
    core.put("orders", "k", "old");
    core.after_ms(7_000, |core| {
        core.put("orders", "k", "new");
    });
    let events = subscribe(&mut core, &consumer, json!({"Type": "TRIM_HORIZON"})).unwrap();
    assert_eq!(core.now.0, START.0 + 300_000);
    let read: Vec<_> = events.iter().flat_map(data).collect();
    assert_eq!(read, ["old", "new"]);
    assert_eq!(events[0]["MillisBehindLatest"], 0);
    assert!(events[0].get("ChildShards").is_none());
    // Nothing came for five seconds, so an event without records did.
    assert_eq!(data(&events[1]), Vec::<String>::new());
    assert!((60..=62).contains(&events.len()), "{}", events.len());
    // Each says where to go on.
    let number = events[0]["ContinuationSequenceNumber"].clone();
    let again = subscribe(
        &mut core,
        &consumer,
        json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number}),
    )
    .unwrap();
    assert_eq!(again.iter().flat_map(data).collect::<Vec<_>>(), ["new"]);
}

#[test]
fn the_end_of_a_shard_names_its_children() {
    let mut core = Core::new();
    core.create("orders", 1);
    let consumer = register(&mut core, "one");
    core.put("orders", "k", "last");
    core.call(
        "SplitShard",
        json!({"StreamName": "orders", "ShardToSplit": ZERO, "NewStartingHashKey": "170141183460469231731687303715884105728"}),
    );
    let events = subscribe(&mut core, &consumer, json!({"Type": "TRIM_HORIZON"})).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(data(&events[0]), ["last"]);
    assert!(events[0].get("ContinuationSequenceNumber").is_none());
    assert_eq!(events[0]["ChildShards"].as_array().unwrap().len(), 2);
}

#[test]
fn a_later_subscription_takes_the_shard_over() {
    let mut core = Core::new();
    core.create("orders", 1);
    let consumer = register(&mut core, "one");
    let (early, late) = (consumer.clone(), consumer.clone());
    let position = || json!({"Type": "LATEST"});
    core.after_ms(4_900, move |core| {
        let refused = subscribe(core, &early, position()).unwrap_err();
        assert_eq!(refused.0, "ResourceInUseException");
    });
    core.after_ms(5_100, move |core| {
        subscribe(core, &late, position()).unwrap();
    });
    let ended = subscribe(&mut core, &consumer, position()).unwrap_err();
    assert_eq!(ended.0, "ResourceInUseException");
    assert!(
        ended.1.starts_with("Another active subscription exists"),
        "{}",
        ended.1
    );
}

#[test]
fn a_subscription_ends_with_its_consumer() {
    let mut core = Core::new();
    core.create("orders", 1);
    let consumer = register(&mut core, "one");
    let gone = consumer.clone();
    core.after_ms(2_000, move |core| {
        core.call("DeregisterStreamConsumer", json!({"ConsumerARN": gone}));
    });
    let ended = subscribe(&mut core, &consumer, json!({"Type": "LATEST"})).unwrap_err();
    assert_eq!(
        ended,
        error(
            "ResourceNotFoundException",
            "The consumer has been deregistered."
        )
    );
    assert_eq!(
        subscribe(&mut core, &consumer, json!({"Type": "LATEST"}))
            .unwrap_err()
            .0,
        "ResourceNotFoundException"
    );
}
