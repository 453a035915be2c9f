//! Streams that keep their records for long: they lie in stream files, and are read over Kinesis and AMQP as if they did not.

use anyhow::{Context as _, ensure};
use lapin::types::AMQPValue;
use serde_json::{Value as Json, json};

use crate::{
    client::{
        Amqp, table, text as words, wait,
        wire::{Wire, blob, from_blob},
    },
    server::{Server, until},
};

const ZERO: &str = "shardId-000000000000";

fn client(server: &Server) -> Wire {
    Wire::kinesis(server.door("aws"))
}

fn text(json: &Json) -> anyhow::Result<String> {
    Ok(json.as_str().with_context(|| json.to_string())?.to_owned())
}

/// Reads a shard from a place on: sequence numbers, bodies, and arrivals in ms.
fn read_from(kinesis: &mut Wire, mut from: Json) -> anyhow::Result<Vec<(String, Vec<u8>, u64)>> {
    from["StreamName"] = json!("kept");
    from["ShardId"] = json!(ZERO);
    let mut iterator = kinesis.call("GetShardIterator", &from)?["ShardIterator"].clone();
    let mut all = Vec::new();
    loop {
        let page = kinesis.call("GetRecords", &json!({"ShardIterator": iterator}))?;
        let found = page["Records"].as_array().context("records")?;
        for record in found {
            let at = record["ApproximateArrivalTimestamp"].as_f64();
            all.push((
                text(&record["SequenceNumber"])?,
                from_blob(&record["Data"])?,
                (at.context("a time")? * 1000.0).round() as u64,
            ));
        }
        if found.is_empty() && page["MillisBehindLatest"] == 0 {
            return Ok(all);
        }
        iterator = page["NextShardIterator"].clone();
    }
}

/// A stream that keeps its records for a year: they lie in stream files, and are read over Kinesis and AMQP as if they did not.
#[test]
fn records_that_are_kept_for_long_leave_the_journal_and_are_read_from_anywhere()
-> anyhow::Result<()> {
    const TOTAL: usize = 600;
    let mut server = Server::start_with(&[
        "aws.signatures=accept",
        "aws.transitions=instant",
        "aws.minute_rules=false",
        "aws.shard_limits=false",
        "journal.segment_bytes=4_194_304",
        "journal.snapshot_every_bytes=1_048_576",
        "journal.stream_file_bytes=1_048_576",
        "journal.reserve_bytes=4_194_304",
        "memory.bodies_bytes_max=4_194_304",
    ]);
    let mut kinesis = client(&server);
    kinesis.call(
        "CreateStream",
        &json!({"StreamName": "kept", "ShardCount": 1}),
    )?;
    kinesis.call(
        "IncreaseStreamRetentionPeriod",
        &json!({"StreamName": "kept", "RetentionPeriodHours": 8760}),
    )?;
    let body = |number: usize| format!("{number} {}", "x".repeat(30_000)).into_bytes();
    for from in (0..TOTAL).step_by(100) {
        let records: Vec<Json> = (from..from + 100)
            .map(|number| json!({"PartitionKey": "k", "Data": blob(&body(number))}))
            .collect();
        let put = kinesis.call(
            "PutRecords",
            &json!({"StreamName": "kept", "Records": records}),
        )?;
        ensure!(put["FailedRecordCount"] == 0, "{put}");
    }
    // 18 MiB were written: what stays in the journal is a few segments.
    let data = server.dir().data();
    let of = |folder: &str| -> u64 {
        let entries = std::fs::read_dir(data.join(folder));
        let files = entries.into_iter().flatten().flatten();
        files
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum()
    };
    until("stream files", || {
        let spares = server.metric("journal_spare_bytes").ok()?;
        (of("streams") > 12 << 20 && of("seg").checked_sub(spares)? <= 8 << 20).then_some(())
    });
    for round in 0..2 {
        let all = read_from(&mut kinesis, json!({"ShardIteratorType": "TRIM_HORIZON"}))?;
        ensure!(all.len() == TOTAL, "{} records in round {round}", all.len());
        for (number, (_, data, _)) in all.iter().enumerate() {
            ensure!(*data == body(number), "record {number} in round {round}");
        }
        for number in [1, TOTAL / 3, TOTAL - 1] {
            let (sequence, _, at) = &all[number];
            let at_sequence = json!({
                "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence,
            });
            ensure!(read_from(&mut kinesis, at_sequence)? == all[number..]);
            let since = all.partition_point(|(_, _, time)| time < at);
            let at_time = json!({
                "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": *at as f64 / 1000.0,
            });
            ensure!(read_from(&mut kinesis, at_time)? == all[since..]);
        }
        let second = all[TOTAL / 2].2 / 1000;
        let since = all.partition_point(|(_, _, time)| time / 1000 < second);
        wait(async {
            for (start, begin) in [
                (words("first"), 0),
                (AMQPValue::LongLongInt(200), 200),
                (AMQPValue::Timestamp(second), since),
            ] {
                let amqp = Amqp::open(server.door("amqp")).await?;
                let prefetch = lapin::options::BasicQosOptions::default();
                amqp.channel.basic_qos(20, prefetch).await?;
                let mut reader = amqp
                    .consume_from("kept", <_>::default(), table(&[("x-stream-offset", start)]))
                    .await?;
                for number in begin..TOTAL {
                    let delivery = reader.accept().await?;
                    ensure!(delivery.data == body(number), "AMQP is given {number}");
                }
            }
            anyhow::Ok(())
        })?;
        if round == 0 {
            server = server.restart();
            kinesis = client(&server);
        }
    }
    server.stop();
    Ok(())
}
