//! A disk without room, as programs of the AWS SDKs meet it: what would be stored is refused so that they try again by themselves, what is
//! there is read and deleted, and with room everything goes on.
//!
//! The server takes its disk to be full because `journal.free_bytes_min` is more than there can be, so room comes with a restart, or because
//! the process may not make files as long as it needs.

use anyhow::Context as _;
use aws_sdk_kinesis::{
    primitives::Blob,
    types::{PutRecordsRequestEntry, ShardIteratorType},
};
use aws_sdk_sns::types::PublishBatchRequestEntry;
use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    types::SendMessageBatchRequestEntry,
};

use crate::{
    client::{
        aws::{Sqs, bodies, kinesis, sns},
        get, wait,
    },
    server::{Server, until},
};

/// A pebibyte.
const FULL: &str = "journal.free_bytes_min=1125899906842624";
const ROOM: &str = "journal.free_bytes_min=4194304";

/// The status and the code of a refusal.
fn told<T: std::fmt::Debug, E: ProvideErrorMetadata>(
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> (u16, String) {
    let error = answer.expect_err("refused");
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    let code = error.code().unwrap_or_default().to_owned();
    (status.unwrap_or_default(), code)
}

/// What every SDK tries again.
fn unavailable() -> (u16, String) {
    (503, "ServiceUnavailable".to_owned())
}

fn batch_entry(id: &str) -> anyhow::Result<SendMessageBatchRequestEntry> {
    let entry = SendMessageBatchRequestEntry::builder();
    Ok(entry.id(id).message_body(id).build()?)
}

fn record(key: &str) -> anyhow::Result<PutRecordsRequestEntry> {
    let entry = PutRecordsRequestEntry::builder().data(Blob::new(key));
    Ok(entry.partition_key(key).build()?)
}

#[test]
fn with_a_full_disk_sdks_are_told_to_try_again_while_they_read_and_delete() -> anyhow::Result<()> {
    let server = Server::start();
    let (url, topic) = wait(async {
        let sqs = Sqs::of(&server);
        let url = sqs.make("jobs", &[]).await?;
        for body in ["one", "two"] {
            let request = sqs.0.send_message().queue_url(&url);
            request.message_body(body).send().await?;
        }
        let made = sns(&server).create_topic().name("orders").send().await?;
        let topic = made.topic_arn().context("an ARN")?.to_owned();
        let request = sns(&server).subscribe().topic_arn(&topic).protocol("sqs");
        let queue = "arn:aws:sqs:us-east-1:000000000000:jobs";
        request.endpoint(queue).send().await?;
        let streams = kinesis(&server);
        let request = streams.create_stream().stream_name("clicks").shard_count(1);
        request.send().await?;
        let put = || {
            let request = streams.put_record().stream_name("clicks");
            request.partition_key("k").data(Blob::new("before")).send()
        };
        // It is made in a moment.
        while put().await.is_err() {}
        anyhow::Ok((url, topic))
    })?;

    let server = server.restart_with(&[FULL]);
    // It looks at the disk in its first moment.
    until("it takes the disk to be full", || {
        let is_told = server.log().contains("publishes are refused until");
        is_told.then_some(())
    });
    assert!(
        get(server.door("http"), "/metrics")?
            .1
            .contains("\nbascule_disk_low 1\n")
    );
    wait(async {
        let (sqs, topics, streams) = (Sqs::of(&server), sns(&server), kinesis(&server));
        let request = sqs.0.send_message().queue_url(&url).message_body("no");
        assert_eq!(told(request.send().await), unavailable());
        let request = sqs.0.send_message_batch().queue_url(&url);
        let request = request
            .entries(batch_entry("a")?)
            .entries(batch_entry("b")?);
        assert_eq!(told(request.send().await), unavailable());
        let request = topics.publish().topic_arn(&topic).message("no");
        assert_eq!(told(request.send().await), unavailable());
        let entry = PublishBatchRequestEntry::builder().id("a").message("no");
        let request = topics.publish_batch().topic_arn(&topic);
        let request = request.publish_batch_request_entries(entry.build()?);
        assert_eq!(told(request.send().await), unavailable());
        let request = streams.put_record().stream_name("clicks");
        let request = request.partition_key("k").data(Blob::new("no"));
        assert_eq!(told(request.send().await), unavailable());
        // None of them was taken, so the request as a whole has failed: SDKs try that again.
        let request = streams.put_records().stream_name("clicks");
        let request = request.records(record("a")?).records(record("b")?);
        assert_eq!(told(request.send().await), unavailable());

        let messages = sqs.receive(&url).await?;
        assert_eq!(bodies(&messages), ["one", "two"]);
        let handle = messages[1].receipt_handle().unwrap_or_default();
        let request = sqs.0.change_message_visibility().queue_url(&url);
        let request = request.receipt_handle(handle).visibility_timeout(0);
        request.send().await?;
        sqs.delete(&url, &messages[0]).await?;
        assert_eq!(bodies(&sqs.receive(&url).await?), ["two"]);
        assert_eq!(records(&streams).await?, ["before"]);
        anyhow::Ok(())
    })?;

    let server = server.restart_with(&[ROOM]);
    assert!(
        get(server.door("http"), "/metrics")?
            .1
            .contains("\nbascule_disk_low 0\n")
    );
    wait(async {
        let (sqs, topics, streams) = (Sqs::of(&server), sns(&server), kinesis(&server));
        let request = sqs.0.purge_queue().queue_url(&url);
        request.send().await?;
        let request = sqs.0.send_message().queue_url(&url).message_body("after");
        request.send().await?;
        let request = topics.publish().topic_arn(&topic).message("published");
        request.send().await?;
        let messages = sqs.receive(&url).await?;
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert_eq!(messages[0].body(), Some("after"));
        let request = streams.put_records().stream_name("clicks");
        let request = request.records(record("a")?).records(record("b")?);
        let answer = request.send().await?;
        assert_eq!(answer.failed_record_count(), Some(0));
        assert_eq!(records(&streams).await?, ["before", "a", "b"]);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn where_files_may_not_be_long_enough_publishes_are_refused_and_what_is_there_is_read()
-> anyhow::Result<()> {
    let server = Server::start();
    let url = wait(async {
        let sqs = Sqs::of(&server);
        let url = sqs.make("jobs", &[]).await?;
        let request = sqs.0.send_message().queue_url(&url);
        request.message_body("before").send().await?;
        anyhow::Ok(url)
    })?;

    let settings = [
        "journal.segment_bytes=16777216",
        "journal.reserve_bytes=16777216",
    ];
    let server = server.restart_with_file_len(6 << 20, &settings);
    until("it takes the disk to be full", || {
        let is_told = server.log().contains("publishes are refused until");
        is_told.then_some(())
    });
    wait(async {
        let sqs = Sqs::of(&server);
        let request = sqs.0.send_message().queue_url(&url).message_body("no");
        assert_eq!(told(request.send().await), unavailable());
        let messages = sqs.receive(&url).await?;
        assert_eq!(bodies(&messages), ["before"]);
        sqs.delete(&url, &messages[0]).await?;
        anyhow::Ok(())
    })?;

    let server = server.restart_with(&[]);
    wait(async {
        let sqs = Sqs::of(&server);
        let request = sqs.0.send_message().queue_url(&url).message_body("after");
        request.send().await?;
        assert_eq!(bodies(&sqs.receive(&url).await?), ["after"]);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// The records of the stream's one shard.
async fn records(streams: &aws_sdk_kinesis::Client) -> anyhow::Result<Vec<String>> {
    let request = streams.get_shard_iterator().stream_name("clicks");
    let request = request.shard_id("shardId-000000000000");
    let begin = request.shard_iterator_type(ShardIteratorType::TrimHorizon);
    let iterator = begin.send().await?;
    let request = streams.get_records();
    let iterator = iterator.shard_iterator().unwrap_or_default();
    let answer = request.shard_iterator(iterator).send().await?;
    let text = |record: &aws_sdk_kinesis::types::Record| {
        String::from_utf8_lossy(record.data().as_ref()).into_owned()
    };
    Ok(answer.records().iter().map(text).collect())
}
