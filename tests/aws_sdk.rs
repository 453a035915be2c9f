//! SQS, SNS and Kinesis through the AWS SDK for Rust: signed requests, typed errors, the event stream; through a crash, and to AMQP.
//!
//! DOORS 8, 11, 22, 23. Deliberately absent: what boto3 and the suites of `conformance/` show.

use anyhow::{Context as _, ensure};
use aws_sdk_kinesis::types::{
    ShardIteratorType, StartingPosition, StreamStatus, SubscribeToShardEventStream,
};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry};

use crate::{
    client::{
        Amqp,
        aws::{Sqs, bodies, kinesis, sns, string},
        persistent, table, text, wait,
    },
    server::Server,
};

#[test]
fn sqs_sends_receives_and_deletes_one_by_one_and_in_batches() -> anyhow::Result<()> {
    let server = Server::start();
    let sqs = Sqs::of(&server);
    wait(async {
        let url = sqs.make("jobs", &[]).await?;
        let request = sqs.0.send_message().queue_url(&url).message_body("Grüße ✓");
        let request = request.message_attributes("colour", string("blau")?);
        request.send().await?;
        let messages = sqs.receive(&url).await?;
        assert_eq!(bodies(&messages), ["Grüße ✓"]);
        let attributes = messages[0].message_attributes().context("attributes")?;
        assert_eq!(attributes["colour"], string("blau")?);
        sqs.delete(&url, &messages[0]).await?;

        let mut request = sqs.0.send_message_batch().queue_url(&url);
        for number in 0..10 {
            let entry = SendMessageBatchRequestEntry::builder().id(number.to_string());
            request = request.entries(entry.message_body(format!("b{number}")).build()?);
        }
        let answer = request.send().await?;
        assert_eq!((answer.successful().len(), answer.failed().len()), (10, 0));
        let mut got = Vec::new();
        while got.len() < 10 {
            let messages = sqs.receive(&url).await?;
            ensure!(!messages.is_empty(), "{got:?} came and no more");
            let mut request = sqs.0.delete_message_batch().queue_url(&url);
            for (at, message) in messages.iter().enumerate() {
                let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string());
                let handle = message.receipt_handle().context("a receipt handle")?;
                request = request.entries(entry.receipt_handle(handle).build()?);
            }
            assert!(request.send().await?.failed().is_empty());
            got.extend(bodies(&messages).into_iter().map(str::to_owned));
        }
        got.sort();
        let sent: Vec<String> = (0..10).map(|number| format!("b{number}")).collect();
        assert_eq!(got, sent);

        let refused = sqs.0.send_message().queue_url(format!("{url}-nobody"));
        let refused = refused.message_body("m").send().await;
        let error = refused.expect_err("nobody made it").into_service_error();
        assert!(error.is_queue_does_not_exist(), "{error:?}");
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// A receipt handle names a receive, whoever asks and when: also after kill -9 and a start on another port.
#[test]
fn what_was_confirmed_and_what_is_in_flight_outlive_a_crash() -> anyhow::Result<()> {
    let server = Server::start();
    let sqs = Sqs::of(&server);
    let send = async |sqs: &Sqs, url: &str, group: &str, id: &str| {
        let request = sqs.0.send_message().queue_url(url).message_body(id);
        let request = request.message_group_id(group);
        request.message_deduplication_id(id).send().await
    };
    let (url, first) = wait(async {
        let url = sqs.make("kept.fifo", &[]).await?;
        for id in ["0", "1", "2"] {
            send(&sqs, &url, "g", id).await?;
        }
        let request = sqs
            .0
            .receive_message()
            .queue_url(&url)
            .wait_time_seconds(10);
        let mut messages = request.send().await?.messages.unwrap_or_default();
        assert_eq!(bodies(&messages), ["0"]);
        anyhow::Ok((url, messages.remove(0)))
    })?;
    let server = server.restart();
    let sqs = Sqs::of(&server);
    wait(async {
        // The group is still locked by the one in flight.
        assert!(sqs.receive_within(&url, 0).await?.is_empty());
        sqs.delete(&url, &first).await?;
        assert_eq!(bodies(&sqs.receive(&url).await?), ["1", "2"]);
        // The deduplication window does not end with the process.
        send(&sqs, &url, "h", "2").await?;
        assert!(sqs.receive_within(&url, 0).await?.is_empty());
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn sns_reaches_queues_by_filter_and_amqp_by_name() -> anyhow::Result<()> {
    let server = Server::start();
    let (sqs, sns) = (Sqs::of(&server), sns(&server));
    wait(async {
        let topic = sns.create_topic().name("orders").send().await?;
        let topic = topic.topic_arn.context("a topic has an ARN")?;
        let url = sqs.make("blue-orders", &[]).await?;
        let request = sns.subscribe().topic_arn(&topic).protocol("sqs");
        let request = request.endpoint(sqs.attribute(&url, "QueueArn").await?);
        let request = request.attributes("RawMessageDelivery", "true");
        let policy = r#"{"colour": ["blau"]}"#;
        request.attributes("FilterPolicy", policy).send().await?;
        let amqp = Amqp::open(server.door("amqp")).await?;
        amqp.declare("all-orders", &[]).await?;
        amqp.bind("all-orders", "amq.topic", "orders").await?;
        for colour in ["rot", "blau"] {
            let value = aws_sdk_sns::types::MessageAttributeValue::builder();
            let value = value.data_type("String").string_value(colour).build()?;
            let request = sns.publish().topic_arn(&topic).message(colour);
            request.message_attributes("colour", value).send().await?;
        }
        assert_eq!(bodies(&sqs.receive(&url).await?), ["blau"]);
        let mut deliveries = amqp.consume("all-orders").await?;
        for colour in ["rot", "blau"] {
            let delivery = deliveries.accept().await?;
            assert_eq!(delivery.data, colour.as_bytes());
            let headers = delivery.properties.headers().clone().context("headers")?;
            assert_eq!(headers.inner().get("colour"), Some(&text(colour)));
        }
        let refused = sns.publish().topic_arn(format!("{topic}-nobody"));
        let refused = refused.message("m").send().await;
        let error = refused.expect_err("nobody made it").into_service_error();
        assert!(error.is_not_found_exception(), "{error:?}");
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn a_queue_of_sqs_is_a_queue_of_amqp() -> anyhow::Result<()> {
    let server = Server::start();
    let sqs = Sqs::of(&server);
    wait(async {
        let url = sqs.make("both", &[]).await?;
        let amqp = Amqp::open(server.door("amqp")).await?;
        let properties = persistent().with_headers(table(&[("colour", text("blau"))]));
        amqp.publish_with("", "both", b"from AMQP", properties)
            .await?;
        let messages = sqs.receive(&url).await?;
        assert_eq!(bodies(&messages), ["from AMQP"]);
        let attributes = messages[0].message_attributes().context("attributes")?;
        assert_eq!(attributes["colour"], string("blau")?);
        sqs.delete(&url, &messages[0]).await?;

        let request = sqs
            .0
            .send_message()
            .queue_url(&url)
            .message_body("from SQS");
        request
            .message_attributes("colour", string("blau")?)
            .send()
            .await?;
        let mut deliveries = amqp.consume("both").await?;
        let delivery = deliveries.accept().await?;
        assert_eq!(delivery.data, b"from SQS");
        let headers = delivery.properties.headers().clone().context("headers")?;
        assert_eq!(headers.inner().get("colour"), Some(&text("blau")));
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn kinesis_is_read_by_iterator_and_pushed_by_subscription() -> anyhow::Result<()> {
    let server = Server::start();
    let kinesis = kinesis(&server);
    wait(async {
        let request = kinesis.create_stream().stream_name("clicks");
        request.shard_count(1).send().await?;
        let summary = loop {
            let request = kinesis.describe_stream_summary().stream_name("clicks");
            let answer = request.send().await?.stream_description_summary;
            let summary = answer.context("a summary")?;
            if *summary.stream_status() == StreamStatus::Active {
                break summary;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        for number in 0..3 {
            let request = kinesis
                .put_record()
                .stream_name("clicks")
                .partition_key("k");
            let data = aws_sdk_kinesis::primitives::Blob::new(format!("r{number}"));
            request.data(data).send().await?;
        }
        let shards = kinesis.list_shards().stream_name("clicks").send().await?;
        let shard = shards.shards().first().context("a shard")?.shard_id();
        let request = kinesis.get_shard_iterator().stream_name("clicks");
        let request = request.shard_id(shard);
        let request = request.shard_iterator_type(ShardIteratorType::TrimHorizon);
        let iterator = request.send().await?.shard_iterator;
        let request = kinesis.get_records().set_shard_iterator(iterator);
        let records = request.send().await?.records;
        let got: Vec<&[u8]> = records
            .iter()
            .map(|record| record.data().as_ref())
            .collect();
        assert_eq!(got, [b"r0", b"r1", b"r2"]);

        let request = kinesis.register_stream_consumer().consumer_name("pushed");
        let consumer = request.stream_arn(summary.stream_arn()).send().await?;
        let arn = consumer.consumer.context("a consumer")?.consumer_arn;
        loop {
            let request = kinesis.describe_stream_consumer().consumer_arn(&arn);
            let told = request.send().await?.consumer_description;
            if told.context("a consumer")?.consumer_status().as_str() == "ACTIVE" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let from = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
        let request = kinesis.subscribe_to_shard().consumer_arn(&arn);
        let request = request.shard_id(shard).starting_position(from.build()?);
        let mut events = request.send().await?.event_stream;
        let mut got = Vec::new();
        while got.len() < 4 {
            let event = events.recv().await?.context("the subscription goes on")?;
            let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else {
                anyhow::bail!("an event that is none: {event:?}");
            };
            got.extend(event.records().iter().map(|record| record.data().clone()));
            if got.len() == 3 {
                // What comes later is pushed too.
                let request = kinesis
                    .put_record()
                    .stream_name("clicks")
                    .partition_key("k");
                let data = aws_sdk_kinesis::primitives::Blob::new("r3");
                request.data(data).send().await?;
            }
        }
        let got: Vec<&[u8]> = got.iter().map(AsRef::as_ref).collect();
        assert_eq!(got, [b"r0", b"r1", b"r2", b"r3"]);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
