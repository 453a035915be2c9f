//! Kinesis over the real server: records in and out of other doors, shards that split and merge under a reader, restarts,
//! CBOR, and subscriptions.

use std::collections::BTreeMap;

use ::stomp::{
    Version as StompVersion,
    codec::{Frame, Verb},
};
use anyhow::{Context as _, ensure};
use serde_json::{Value as Json, json};

use crate::{
    client::{
        Amqp, Mqtt, Stomp, Transport, text as words, wait,
        wire::{Wire, blob, from_blob},
    },
    server::Server,
};

const ZERO: &str = "shardId-000000000000";
const VERSION: ::mqtt::codec::Version = ::mqtt::codec::Version::V5;

/// A server, and a client of it.
fn start() -> (Server, Wire) {
    let server = Server::start_with(&[
        "aws.signatures=accept",
        "aws.transitions=instant",
        "aws.minute_rules=false",
        "aws.shard_limits=false",
    ]);
    let kinesis = client(&server);
    (server, kinesis)
}

fn client(server: &Server) -> Wire {
    Wire::kinesis(server.door("aws"))
}

fn text(json: &Json) -> anyhow::Result<String> {
    Ok(json.as_str().with_context(|| json.to_string())?.to_owned())
}

fn create(kinesis: &mut Wire, stream: &str, shards: u32) -> anyhow::Result<()> {
    let create = json!({"StreamName": stream, "ShardCount": shards});
    kinesis.call("CreateStream", &create).map(|_| ())
}

/// An iterator of a type that needs nothing else.
fn iterator(kinesis: &mut Wire, stream: &str, shard: &str, kind: &str) -> anyhow::Result<Json> {
    let from = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": kind});
    Ok(kinesis.call("GetShardIterator", &from)?["ShardIterator"].clone())
}

/// Everything that a shard has, page by page to where it is now: the records, and whether it has ended.
fn read_shard(kinesis: &mut Wire, stream: &str, shard: &str) -> anyhow::Result<(Vec<Json>, bool)> {
    let mut iterator = iterator(kinesis, stream, shard, "TRIM_HORIZON")?;
    let mut records = Vec::new();
    loop {
        let page = kinesis.call(
            "GetRecords",
            &json!({"ShardIterator": iterator, "Limit": 7}),
        )?;
        let found = page["Records"].as_array().context("records")?;
        records.extend(found.iter().cloned());
        let next = &page["NextShardIterator"];
        if next.is_null() {
            ensure!(
                page["ChildShards"]
                    .as_array()
                    .is_some_and(|children| !children.is_empty()),
                "{page}"
            );
            return Ok((records, true));
        }
        if found.is_empty() {
            return Ok((records, false));
        }
        iterator = next.clone();
    }
}

/// The records of a stream as a reader of all shards meets them: no shard before its parents have been read to their ends.
fn read_stream(kinesis: &mut Wire, stream: &str) -> anyhow::Result<Vec<Json>> {
    let shards = kinesis.call("ListShards", &json!({"StreamName": stream}))?;
    let mut records = Vec::new();
    let mut ended = Vec::new();
    // Shards come in the order of their numbers, so parents before children.
    for shard in shards["Shards"].as_array().context("shards")? {
        let id = text(&shard["ShardId"])?;
        for parent in ["ParentShardId", "AdjacentParentShardId"] {
            if let Some(parent) = shard[parent].as_str() {
                ensure!(
                    ended.iter().any(|known| known == parent),
                    "{parent} of {id}"
                );
            }
        }
        let (found, end) = read_shard(kinesis, stream, &id)?;
        records.extend(found);
        if end {
            ended.push(id);
        }
    }
    Ok(records)
}

/// Chance that is the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

/// Does something to the shards of `orders`.
fn reshard(kinesis: &mut Wire, chance: &mut Chance) -> anyhow::Result<()> {
    let open = json!({"StreamName": "orders", "ShardFilter": {"Type": "AT_LATEST"}});
    let open = kinesis.call("ListShards", &open)?["Shards"].clone();
    let mut open: Vec<(u128, u128, Json)> = open
        .as_array()
        .context("shards")?
        .iter()
        .map(|shard| {
            let range = &shard["HashKeyRange"];
            let first = text(&range["StartingHashKey"])?.parse()?;
            Ok((
                first,
                text(&range["EndingHashKey"])?.parse()?,
                shard["ShardId"].clone(),
            ))
        })
        .collect::<anyhow::Result<_>>()?;
    open.sort_by_key(|(first, ..)| *first);
    let at = chance.below(open.len());
    let (first, last, shard) = &open[at];
    match (chance.below(3), open.get(at + 1)) {
        (0, Some((.., adjacent))) => {
            let merge = json!({"StreamName": "orders", "ShardToMerge": shard, "AdjacentShardToMerge": adjacent});
            kinesis.call("MergeShards", &merge)?;
        }
        (1, _) => {
            let count = json!({
                "StreamName": "orders", "TargetShardCount": 1 + chance.below(6), "ScalingType": "UNIFORM_SCALING",
            });
            kinesis.call("UpdateShardCount", &count)?;
        }
        _ => {
            let hash = first + (last - first) / 7 * (1 + chance.below(6) as u128);
            let split = json!({"StreamName": "orders", "ShardToSplit": shard, "NewStartingHashKey": hash.to_string()});
            kinesis.call("SplitShard", &split)?;
        }
    }
    Ok(())
}

#[test]
fn records_of_a_key_keep_their_order_through_splits_merges_and_restarts() -> anyhow::Result<()> {
    for seed in 1..=3 {
        keeps_order(seed).with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

fn keeps_order(seed: u64) -> anyhow::Result<()> {
    let mut chance = Chance(seed);
    let (mut server, mut kinesis) = start();
    create(&mut kinesis, "orders", 2)?;
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    for round in 0..12 {
        let mut records = Vec::new();
        for at in 0..=chance.below(60) {
            let (key, data) = (format!("key-{}", chance.below(9)), format!("{round}/{at}"));
            records.push(json!({"PartitionKey": key, "Data": blob(data.as_bytes())}));
            sent.entry(key).or_default().push(data);
        }
        let put = kinesis.call(
            "PutRecords",
            &json!({"StreamName": "orders", "Records": records}),
        )?;
        ensure!(put["FailedRecordCount"] == 0, "{put}");
        for entry in put["Records"].as_array().context("entries")? {
            let number = text(&entry["SequenceNumber"])?;
            let known = numbers.insert(number, entry["ShardId"].clone());
            ensure!(known.is_none(), "a number twice");
        }
        if round % 5 == 4 {
            server = server.restart();
            kinesis = client(&server);
        }
        reshard(&mut kinesis, &mut chance)?;
    }
    server = server.restart();
    kinesis = client(&server);
    let mut read: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in read_stream(&mut kinesis, "orders")? {
        let data = String::from_utf8(from_blob(&record["Data"])?)?;
        read.entry(text(&record["PartitionKey"])?)
            .or_default()
            .push(data);
        let known = numbers.remove(&text(&record["SequenceNumber"])?);
        ensure!(known.is_some(), "{record}");
    }
    ensure!(numbers.is_empty(), "not read: {numbers:?}");
    ensure!(read == sent);
    server.stop();
    Ok(())
}

#[test]
fn an_iterator_and_a_sequence_number_are_good_after_a_restart() -> anyhow::Result<()> {
    let (mut server, mut kinesis) = start();
    create(&mut kinesis, "orders", 1)?;
    let record = |data: &str| json!({"StreamName": "orders", "PartitionKey": "k", "Data": blob(data.as_bytes())});
    let first = kinesis.call("PutRecord", &record("one"))?["SequenceNumber"].clone();
    let latest = iterator(&mut kinesis, "orders", ZERO, "LATEST")?;
    server = server.restart();
    kinesis = client(&server);
    let second = kinesis.call("PutRecord", &record("two"))?["SequenceNumber"].clone();
    ensure!(text(&second)? > text(&first)?);
    let page = kinesis.call("GetRecords", &json!({"ShardIterator": latest}))?;
    ensure!(
        page["Records"].as_array().context("records")?.len() == 1,
        "{page}"
    );
    ensure!(page["Records"][0]["SequenceNumber"] == second, "{page}");
    let after = json!({
        "StreamName": "orders", "ShardId": ZERO, "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": first,
    });
    let after = kinesis.call("GetShardIterator", &after)?["ShardIterator"].clone();
    let page = kinesis.call("GetRecords", &json!({"ShardIterator": after}))?;
    ensure!(page["Records"][0]["Data"] == blob(b"two"), "{page}");
    server.stop();
    Ok(())
}

#[test]
fn mqtt_and_kinesis_meet_in_one_stream() -> anyhow::Result<()> {
    let (server, mut kinesis) = start();
    create(&mut kinesis, "clicks", 1)?;
    let mut mqtt = Mqtt::clean(Transport::tcp(server.door("mqtt")), VERSION, "sensor")?;
    mqtt.publish("$stream/clicks/sensor-7", "21.5", 1)?;
    let (records, _) = read_shard(&mut kinesis, "clicks", ZERO)?;
    ensure!(records.len() == 1, "{records:?}");
    ensure!(records[0]["PartitionKey"] == "sensor-7");
    ensure!(records[0]["Data"] == blob(b"21.5"));
    mqtt.subscribe("$stream/clicks", 1)?;
    let bytes: Vec<u8> = (0..=255).collect();
    let put = json!({"StreamName": "clicks", "PartitionKey": "k", "Data": blob(&bytes)});
    kinesis.call("PutRecord", &put)?;
    ensure!(mqtt.next()?.payload[..] == bytes[..]);
    // DOORS 20: a partition key of over 256 characters is its SHA-256 in hex.
    mqtt.publish(&format!("$stream/clicks/{}", "k".repeat(300)), "long", 1)?;
    let (records, _) = read_shard(&mut kinesis, "clicks", ZERO)?;
    let key = text(&records[2]["PartitionKey"])?;
    ensure!(
        key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{key}"
    );
    server.stop();
    Ok(())
}

#[test]
fn amqp_and_stomp_and_kinesis_meet_in_one_stream() -> anyhow::Result<()> {
    let (server, mut kinesis) = start();
    let amqp = wait(Amqp::open(server.door("amqp")))?;
    wait(amqp.declare("clicks", &[("x-queue-type", words("stream"))]))?;
    let mut stomp = Stomp::open(Transport::tcp(server.door("stomp")), StompVersion::V1_2)?;
    wait(amqp.publish("", "clicks", b"from AMQP"))?;
    stomp.ask(
        Frame::new(Verb::Send)
            .with("destination", "/stream/clicks")
            .with("JMSXGroupID", "sensor-2")
            .with_body("from STOMP"),
    )?;
    let put =
        json!({"StreamName": "clicks", "PartitionKey": "user-1", "Data": blob(b"from Kinesis")});
    let put = kinesis.call("PutRecord", &put)?;
    let (records, _) = read_shard(&mut kinesis, "clicks", ZERO)?;
    let bodies: Vec<_> = records
        .iter()
        .map(|record| record["Data"].clone())
        .collect();
    ensure!(
        bodies
            == [
                blob(b"from AMQP"),
                blob(b"from STOMP"),
                blob(b"from Kinesis")
            ]
    );
    ensure!(records[1]["PartitionKey"] == "sensor-2", "{}", records[1]);
    ensure!(records[2]["SequenceNumber"] == put["SequenceNumber"]);
    let subscribe = Frame::new(Verb::Subscribe)
        .with("destination", "/stream/clicks")
        .with("id", "s")
        .with("x-stream-offset", "offset=2");
    stomp.ask(subscribe)?;
    let message = stomp.next()?;
    ensure!(message.body == &b"from Kinesis"[..]);
    ensure!(message.headers.text("JMSXGroupID") == Some("user-1"));
    // Made by AMQP, it is a stream as any other here.
    let summary = kinesis.call("DescribeStreamSummary", &json!({"StreamName": "clicks"}))?;
    ensure!(
        summary["StreamDescriptionSummary"]["OpenShardCount"] == 1,
        "{summary}"
    );
    let tags = json!({"StreamName": "clicks", "Tags": {"team": "web"}});
    kinesis.call("AddTagsToStream", &tags)?;
    kinesis.call("DeleteStream", &json!({"StreamName": "clicks"}))?;
    server.stop();
    Ok(())
}

#[test]
fn limits_of_a_shard_are_told_record_by_record() -> anyhow::Result<()> {
    let (server, mut kinesis) = start();
    let tags = json!({"bascule.limits": "records=3 reads=2"});
    kinesis.call(
        "CreateStream",
        &json!({"StreamName": "orders", "ShardCount": 1, "Tags": tags}),
    )?;
    let records = vec![json!({"PartitionKey": "k", "Data": blob(b"x")}); 5];
    let put = kinesis.call(
        "PutRecords",
        &json!({"StreamName": "orders", "Records": records}),
    )?;
    ensure!(put["FailedRecordCount"] == 2, "{put}");
    ensure!(
        put["Records"][4]["ErrorCode"] == "ProvisionedThroughputExceededException",
        "{put}"
    );
    let message = text(&put["Records"][4]["ErrorMessage"])?;
    ensure!(
        message.starts_with(
            "Rate exceeded for shard shardId-000000000000 in stream orders under account "
        ),
        "{message}"
    );
    let iterator = iterator(&mut kinesis, "orders", ZERO, "TRIM_HORIZON")?;
    let read = json!({"ShardIterator": iterator});
    kinesis.call("GetRecords", &read)?;
    kinesis.call("GetRecords", &read)?;
    let (status, code, _) = kinesis.refusal("GetRecords", &read)?;
    ensure!(
        (status, &*code) == (400, "ProvisionedThroughputExceededException"),
        "{code}"
    );
    kinesis.call(
        "AddTagsToStream",
        &json!({"StreamName": "orders", "Tags": {"bascule.limits": "off"}}),
    )?;
    kinesis.call("GetRecords", &read)?;
    server.stop();
    Ok(())
}

#[test]
fn records_are_pushed_to_a_consumer() -> anyhow::Result<()> {
    let (server, mut kinesis) = start();
    create(&mut kinesis, "orders", 1)?;
    let stream = kinesis.call("DescribeStreamSummary", &json!({"StreamName": "orders"}))?;
    let stream = stream["StreamDescriptionSummary"]["StreamARN"].clone();
    let register = json!({"StreamARN": stream, "ConsumerName": "pushed"});
    let consumer =
        kinesis.call("RegisterStreamConsumer", &register)?["Consumer"]["ConsumerARN"].clone();
    let put = |data: &str| json!({"StreamName": "orders", "PartitionKey": "k", "Data": blob(data.as_bytes())});
    kinesis.call("PutRecord", &put("before"))?;
    let mut pushed = client(&server);
    let subscribe = json!({"ConsumerARN": consumer, "ShardId": ZERO, "StartingPosition": {"Type": "TRIM_HORIZON"}});
    let mut events = pushed.subscribe("SubscribeToShard", &subscribe)?;
    let mut next = || -> anyhow::Result<Json> {
        loop {
            let (kind, event) = events.next()?.context("an event")?;
            if kind != "initial-response" {
                ensure!(kind == "SubscribeToShardEvent", "{kind}");
                return Ok(event);
            }
        }
    };
    ensure!(next()?["Records"][0]["Data"] == blob(b"before"));
    // Within five seconds another subscription is refused.
    let (_, code, _) = client(&server).refusal("SubscribeToShard", &subscribe)?;
    ensure!(code == "ResourceInUseException", "{code}");
    kinesis.call("PutRecord", &put("after"))?;
    ensure!(next()?["Records"][0]["Data"] == blob(b"after"));
    // The end of the shard is the end of the subscription.
    let split = json!({"StreamName": "orders", "ShardToSplit": ZERO, "NewStartingHashKey": "85070591730234615865843651857942052864"});
    kinesis.call("SplitShard", &split)?;
    let last = next()?;
    ensure!(
        last["ChildShards"]
            .as_array()
            .is_some_and(|children| children.len() == 2),
        "{last}"
    );
    ensure!(
        last.get("ContinuationSequenceNumber")
            .is_none_or(Json::is_null),
        "{last}"
    );
    ensure!(events.next()?.is_none());
    server.stop();
    Ok(())
}

#[test]
fn requests_in_cbor_are_answered_in_cbor() -> anyhow::Result<()> {
    let (server, mut kinesis) = start();
    create(&mut kinesis, "orders", 1)?;
    // {"StreamName": "orders", "PartitionKey": "k", "Data": h'00ff'}
    let mut put = vec![0xA3];
    for (name, value) in [
        ("StreamName", [&[0x66][..], b"orders"].concat()),
        ("PartitionKey", vec![0x61, b'k']),
        ("Data", vec![0x42, 0x00, 0xFF]),
    ] {
        put.push(0x60 + name.len() as u8);
        put.extend(name.as_bytes());
        put.extend(value);
    }
    let answer = kinesis.post("PutRecord", "application/x-amz-cbor-1.1", &put)?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(
        answer.content_type == "application/x-amz-cbor-1.1",
        "{answer:?}"
    );
    // A map whose texts are readable in it, the number of 56 digits with its length in a byte of its own.
    let has = |part: &[u8]| answer.body.windows(part.len()).any(|window| window == part);
    ensure!(has(b"\x67ShardId\x74shardId-000000000000"), "{answer:?}");
    ensure!(has(b"\x6ESequenceNumber\x78\x38496"), "{answer:?}");
    let (records, _) = read_shard(&mut kinesis, "orders", ZERO)?;
    ensure!(from_blob(&records[0]["Data"])? == [0x00, 0xFF]);
    // {"StreamName": "orders", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 1(1), as the Java SDK has it in ms}
    let mut from =
        b"\xA4\x6AStreamName\x66orders\x67ShardId\x610\x71ShardIteratorType\x6CAT_TIMESTAMP"
            .to_vec();
    from.extend(b"\x69Timestamp\xC1\x1B");
    let arrived = records[0]["ApproximateArrivalTimestamp"]
        .as_f64()
        .context("a time")?;
    for (ms, count) in [(0, 1), (1, 0)] {
        let time = (arrived * 1000.0).round() as u64 + ms;
        let request = [&from[..], &time.to_be_bytes()].concat();
        let answer = kinesis.post("GetShardIterator", "application/x-amz-cbor-1.1", &request)?;
        ensure!(answer.status == 200, "{answer:?}");
        // One member, a text of at least 256 bytes or fewer: the iterator is what follows its head.
        let text_at = 2 + "ShardIterator".len();
        let head_len = match answer.body[text_at] {
            0x78 => 2,
            0x79 => 3,
            other => anyhow::bail!("not a text: {other:x}"),
        };
        let iterator = std::str::from_utf8(&answer.body[text_at + head_len..])?;
        let page = kinesis.call("GetRecords", &json!({"ShardIterator": iterator}))?;
        ensure!(
            page["Records"].as_array().context("records")?.len() == count,
            "{ms}: {page}"
        );
    }
    let broken = kinesis.post("PutRecord", "application/x-amz-cbor-1.1", &put[..20])?;
    ensure!(broken.status == 400, "{broken:?}");
    server.stop();
    Ok(())
}

#[test]
fn inputs_are_refused_in_the_words_of_kinesis() -> anyhow::Result<()> {
    let (server, mut kinesis) = start();
    create(&mut kinesis, "orders", 1)?;
    let records = vec![json!({"PartitionKey": "k", "Data": ""}); 501];
    for (operation, input, message) in [
        (
            "PutRecords",
            json!({"StreamName": "orders", "Records": records}),
            "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length less than or equal to 500",
        ),
        (
            "SplitShard",
            json!({"StreamName": "orders", "ShardToSplit": "?", "NewStartingHashKey": "1"}),
            "1 validation error detected: Value '?' at 'shardToSplit' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
        ),
        (
            "MergeShards",
            json!({"StreamName": "orders", "ShardToMerge": "0"}),
            "1 validation error detected: Value null at 'adjacentShardToMerge' failed to satisfy constraint: Member must not be null",
        ),
    ] {
        let (status, code, said) = kinesis.refusal(operation, &input)?;
        ensure!(
            (status, &*code, &*said) == (400, "ValidationException", message),
            "{code}: {said}"
        );
    }
    let (_, code, _) = kinesis.refusal("PutRecord", &json!({"StreamName": 7}))?;
    ensure!(code == "SerializationException", "{code}");
    server.stop();
    Ok(())
}
