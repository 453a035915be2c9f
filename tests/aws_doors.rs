//! One queue, topic or stream through two doors, one of them Amazon's: a test for each of the rules that say what then holds.
//!
//! DOORS 7, 8, 11 to 15, 20 to 23. What crosses in general is in `crossings.rs` and in `conformance/`.

use anyhow::Context as _;
use aws_sdk_kinesis::{
    primitives::Blob,
    types::{PutRecordsRequestEntry, ShardIteratorType},
};
use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName as Attribute,
};
use lapin::{
    BasicProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
        BasicRejectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use mqtt::codec::{Property, Version};

use crate::{
    client::{
        Amqp, Mqtt, Stomp, Transport,
        aws::{Sqs, bodies, kinesis, sns, string},
        connect, durable, persistent, table, text, wait,
    },
    server::Server,
};

/// Runs a test of SQS and AMQP on a server of its own.
fn on_both(work: impl AsyncFnOnce(&Sqs, &Amqp) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let server = Server::start();
    let sqs = Sqs::of(&server);
    wait(async {
        let amqp = Amqp::open(server.door("amqp")).await?;
        work(&sqs, &amqp).await
    })?;
    server.stop();
    Ok(())
}

/// Declares on a channel of its own, which a refusal closes.
async fn declared(
    amqp: &Amqp,
    name: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> anyhow::Result<lapin::Result<lapin::Queue>> {
    let channel = amqp.connection.create_channel().await?;
    Ok(channel.queue_declare(name.into(), options, arguments).await)
}

fn is_406(refused: lapin::Result<lapin::Queue>) -> bool {
    refused.is_err_and(|error| error.to_string().contains("PRECONDITION"))
}

/// An account and a region are a virtual host: the configured one is `/`, others appear when they are first named if the
/// server is for tests, and one does not see the other's queues.
#[test]
fn doors_7_account_and_region_choose_the_virtual_host() -> anyhow::Result<()> {
    let server = Server::start_with(&["aws.signatures=accept", "aws.vhosts_on_first_use=true"]);
    wait(async {
        let home = Sqs::of(&server);
        home.make("jobs", &[]).await?;
        let other = Sqs::of_account(&server, "111111111111", "eu-west-1");
        let refused = other.url("jobs").await;
        assert!(refused.is_err(), "a queue of another account is not seen");
        let url = other.make("jobs", &[]).await?;
        let arn = other.attribute(&url, "QueueArn").await?;
        assert_eq!(arn, "arn:aws:sqs:eu-west-1:111111111111:jobs");
        other.send(&url, "theirs").await?;
        let address = server.door("amqp");
        let amqp = format!("amqp://guest:guest@{address}/111111111111%2Feu-west-1");
        let properties = lapin::ConnectionProperties::default();
        let connection = lapin::Connection::connect(&amqp, properties).await?;
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..durable()
        };
        let queue = channel.queue_declare("jobs".into(), passive, FieldTable::default());
        assert_eq!(queue.await?.message_count(), 1);
        let amqp = Amqp::open(address).await?;
        assert_eq!(amqp.declare("jobs", &[]).await?, 0, "that is the other one");
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// With `aws.regions = "merge"` all regions are the one that is configured; else a pair that nobody configured is refused.
#[test]
fn doors_7_regions_may_be_one_and_unknown_ones_are_refused() -> anyhow::Result<()> {
    for merged in [true, false] {
        let regions = if merged { "merge" } else { "separate" };
        let server = Server::start_with(&[&format!("aws.regions={regions}")]);
        let (home, other) = (
            Sqs::of(&server),
            Sqs::of_account(&server, "guest", "eu-west-1"),
        );
        wait(async {
            let url = home.make("jobs", &[]).await?;
            let found = other.url("jobs").await;
            if !merged {
                let refused = format!("{:?}", found.expect_err("nobody configured it"));
                assert!(refused.contains("SignatureDoesNotMatch"), "{refused}");
                return Ok(());
            }
            assert_eq!(found?, url);
            other.send(&url, "from another region").await?;
            assert_eq!(bodies(&home.receive(&url).await?), ["from another region"]);
            let arn = other.attribute(&url, "QueueArn").await?;
            assert_eq!(arn, "arn:aws:sqs:us-east-1:000000000000:jobs");
            anyhow::Ok(())
        })?;
        server.stop();
    }
    Ok(())
}

#[test]
fn doors_8_only_create_topic_makes_a_topic_of_sns() -> anyhow::Result<()> {
    let server = Server::start();
    let (sqs, sns) = (Sqs::of(&server), sns(&server));
    wait(async {
        let transport = Transport::tcp(server.door("mqtt"));
        let mut mqtt = Mqtt::clean(transport, Version::V5, "doors-8")?;
        assert_eq!(mqtt.subscribe("sensors/1/temp", 1)?, 1);
        mqtt.publish("sensors/1/temp", "21", 1)?;
        assert_eq!(&mqtt.next()?.payload[..], b"21");
        assert!(sns.list_topics().send().await?.topics().is_empty());
        let amqp = Amqp::open(server.door("amqp")).await?;
        amqp.declare("dotted", &[]).await?;
        amqp.bind("dotted", "amq.topic", "orders%2Efifo").await?;
        amqp.declare("by-amqp", &[]).await?;

        // The alphabet of SNS is too small for the name; the address is not.
        let request = sns.create_topic().name("temperatures");
        let request = request.attributes("bascule.address", "sensors/1/temp");
        let topic = request.send().await?.topic_arn.context("an ARN")?;
        let url = sqs.make("readings", &[]).await?;
        let request = sns.subscribe().topic_arn(&topic).protocol("sqs");
        let request = request.endpoint(sqs.attribute(&url, "QueueArn").await?);
        request.send().await?;
        sns.publish().topic_arn(&topic).message("22").send().await?;
        assert_eq!(&mqtt.next()?.payload[..], b"22", "raw, without an envelope");
        mqtt.publish("sensors/1/temp", "23", 1)?;
        assert_eq!(&mqtt.next()?.payload[..], b"23");
        let mut readings = Vec::new();
        while readings.len() < 2 {
            readings.extend(sqs.receive(&url).await?);
        }
        assert!(
            bodies(&readings)
                .iter()
                .all(|body| body.contains("\"Type\""))
        );

        // One level, whatever is in it.
        let request = sns.create_topic().name("orders.fifo");
        let request = request.attributes("FifoTopic", "true");
        let fifo = request.send().await?.topic_arn.context("an ARN")?;
        let request = sns.publish().topic_arn(&fifo).message("1");
        let request = request.message_group_id("g").message_deduplication_id("1");
        request.send().await?;
        let mut dotted = amqp.consume("dotted").await?;
        assert_eq!(dotted.accept().await?.data, b"1");

        // With the object go its subscriptions, and nothing else.
        sns.delete_topic().topic_arn(&topic).send().await?;
        mqtt.publish("sensors/1/temp", "24", 1)?;
        assert_eq!(&mqtt.next()?.payload[..], b"24");
        let refused = sns.publish().topic_arn(&topic).message("m").send().await;
        let error = refused.expect_err("it is deleted").into_service_error();
        assert!(error.is_not_found_exception(), "{error:?}");

        // Queues of other doors are seen if they stay and have a legal name.
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let none = FieldTable::default();
        amqp.channel
            .queue_declare("mine-alone".into(), exclusive, none)
            .await?;
        amqp.declare("not.legal", &[]).await?;
        let listed = sqs
            .0
            .list_queues()
            .send()
            .await?
            .queue_urls
            .unwrap_or_default();
        let names: Vec<&str> = listed
            .iter()
            .filter_map(|url| url.rsplit('/').next())
            .collect();
        assert_eq!(names, ["by-amqp", "dotted", "readings"]);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn doors_11_a_queue_is_redeclared_by_another_door() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let url = sqs.make("from-sqs", &[]).await?;
        // The first declaration is adopted, whatever its flag; arguments apply where nothing was set.
        let soft = QueueDeclareOptions::default();
        let arguments = table(&[("x-max-length", AMQPValue::LongInt(5))]);
        declared(amqp, "from-sqs", soft, arguments.clone()).await??;
        sqs.send(&url, "still durable").await?;
        assert_eq!(bodies(&sqs.receive(&url).await?), ["still durable"]);
        // From then on declarations are compared with each other.
        declared(amqp, "from-sqs", soft, arguments).await??;
        let none = FieldTable::default();
        assert!(is_406(declared(amqp, "from-sqs", soft, none).await?));

        // What SQS has set is not changed by an argument.
        let fifty = [(Attribute::VisibilityTimeout, "50")];
        let dead = sqs.make("dead", &[]).await?;
        let arn = sqs.attribute(&dead, "QueueArn").await?;
        let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"3"}}"#);
        let counted = [(Attribute::RedrivePolicy, policy.as_str())];
        sqs.make("counted", &counted).await?;
        let limit = table(&[("x-delivery-limit", AMQPValue::LongInt(7))]);
        assert!(is_406(declared(amqp, "counted", durable(), limit).await?));

        // CreateQueue compares only the attributes that it names.
        amqp.declare("from-amqp", &[]).await?;
        sqs.make("from-amqp", &[]).await?;
        let refused = sqs.make("from-amqp", &fifty).await;
        let refused = format!("{:?}", refused.expect_err("its visibility is another"));
        assert!(refused.contains("QueueNameExists"), "{refused}");
        Ok(())
    })
}

#[test]
fn doors_12_retention_and_ttl_are_two_attributes() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let ttl = [("x-message-ttl", AMQPValue::LongInt(1000))];
        amqp.declare("kept", &ttl).await?;
        let url = sqs.url("kept").await?;
        let retention = sqs.attribute(&url, "MessageRetentionPeriod").await?;
        assert_eq!(retention, "1209600", "the longest that SQS can say");
        let own = sqs.attribute(&url, "bascule.retention").await?;
        assert_eq!(own, "unlimited");
        let url = sqs
            .make("short", &[(Attribute::MessageRetentionPeriod, "60")])
            .await?;
        amqp.publish("", "short", b"kept").await?;
        let retention = sqs.attribute(&url, "MessageRetentionPeriod").await?;
        assert_eq!(retention, "60");
        assert_eq!(bodies(&sqs.receive(&url).await?), ["kept"]);
        Ok(())
    })
}

/// maxReceiveCount N and `x-delivery-limit` N - 1 are one number; one counts from 1 and the other from 0.
/// What expires is a dead letter, whoever published it; what is kept for too long is dropped, whatever the target of dead letters.
#[test]
fn doors_12_what_expires_is_a_dead_letter_and_what_is_too_old_is_not() -> anyhow::Result<()> {
    // So that a message can be too old before this test is.
    let server = Server::start_with(&["aws.manners=moto"]);
    let sqs = Sqs::of(&server);
    wait(async {
        let amqp = Amqp::open(server.door("amqp")).await?;
        amqp.declare("dead", &[]).await?;
        let dead = sqs.url("dead").await?;
        let to_dead = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ];
        let second = [(Attribute::MessageRetentionPeriod, "1")];
        let short = sqs.make("short", &second).await?;
        amqp.declare("short", &to_dead).await?;
        let [exchange, key] = to_dead;
        let ttl = ("x-message-ttl", AMQPValue::LongInt(1000));
        amqp.declare("brief", &[exchange, key, ttl]).await?;
        let brief = sqs.url("brief").await?;
        sqs.send(&short, "too old").await?;
        sqs.send(&brief, "expired").await?;
        let letters = sqs.receive(&dead).await?;
        assert_eq!(bodies(&letters), ["expired"]);
        sqs.delete(&dead, &letters[0]).await?;
        // The time of the other was over before.
        assert!(sqs.receive_within(&short, 0).await?.is_empty());
        assert!(sqs.receive_within(&dead, 1).await?.is_empty());
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn doors_13_deliveries_are_counted_once_for_all_doors() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let limit = [("x-delivery-limit", AMQPValue::LongInt(2))];
        amqp.declare("counted", &limit).await?;
        let url = sqs.url("counted").await?;
        amqp.publish("", "counted", b"again").await?;
        let again = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        for before in [None, Some(1)] {
            let get = amqp
                .channel
                .basic_get("counted".into(), BasicGetOptions::default());
            let delivery = get.await?.context("a message")?.delivery;
            let headers = delivery.properties.headers().clone().unwrap_or_default();
            let count = headers.inner().get("x-delivery-count");
            let count = count.and_then(AMQPValue::as_long_long_int);
            assert_eq!((delivery.redelivered, count), (before.is_some(), before));
            delivery.nack(again).await?;
        }
        let third = sqs.receive(&url).await?;
        assert_eq!(bodies(&third), ["again"]);
        let system = third[0].attributes().context("attributes")?;
        let count = &system[&MessageSystemAttributeName::ApproximateReceiveCount];
        assert_eq!(count, "3");
        // The limit is reached: the next release drops it.
        let request = sqs.0.change_message_visibility().queue_url(&url);
        let request = request.set_receipt_handle(third[0].receipt_handle.clone());
        request.visibility_timeout(0).send().await?;
        assert!(sqs.receive_within(&url, 1).await?.is_empty());
        Ok(())
    })
}

/// A queue with a dead-letter exchange, which leads to `by-exchange`, and a redrive policy after one receive. Returns its URL, that of
/// the policy's queue, and the policy.
async fn with_both_targets(
    sqs: &Sqs,
    amqp: &Amqp,
    more: &[(&str, AMQPValue)],
) -> anyhow::Result<(String, String, String)> {
    amqp.declare("by-exchange", &[]).await?;
    let by_policy = sqs.make("by-policy", &[]).await?;
    let arn = sqs.attribute(&by_policy, "QueueArn").await?;
    let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"1"}}"#);
    let mut rows = vec![
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("by-exchange")),
    ];
    rows.extend_from_slice(more);
    amqp.declare("both", &rows).await?;
    let both = sqs.url("both").await?;
    let request = sqs.0.set_queue_attributes().queue_url(&both);
    let request = request.attributes(Attribute::RedrivePolicy, &policy);
    request.send().await?;
    Ok((both, by_policy, policy))
}

#[test]
fn doors_14_the_reason_chooses_the_dead_letter_target() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let (both, by_policy, policy) = with_both_targets(sqs, amqp, &[]).await?;
        let request = sqs.0.set_queue_attributes().queue_url(&both);
        request
            .attributes(Attribute::VisibilityTimeout, "0")
            .send()
            .await?;

        // Received too often: the policy's queue.
        sqs.send(&both, "too often").await?;
        assert_eq!(bodies(&sqs.receive(&both).await?), ["too often"]);
        assert!(sqs.receive_within(&both, 0).await?.is_empty());
        let dead = sqs.receive(&by_policy).await?;
        assert_eq!(bodies(&dead), ["too often"]);
        sqs.delete(&by_policy, &dead[0]).await?;

        // Rejected, expired: the exchange.
        let reject = BasicRejectOptions { requeue: false };
        let mut deliveries = amqp.consume("both").await?;
        amqp.publish("", "both", b"rejected").await?;
        deliveries.next().await?.reject(reject).await?;
        let mut by_exchange = amqp.consume("by-exchange").await?;
        assert_eq!(by_exchange.accept().await?.data, b"rejected");
        drop(deliveries);

        // Rejected where there is a policy alone: the policy's queue.
        let alone = sqs
            .make("alone", &[(Attribute::RedrivePolicy, &policy)])
            .await?;
        sqs.send(&alone, "unwanted").await?;
        let mut deliveries = amqp.consume("alone").await?;
        deliveries.next().await?.reject(reject).await?;
        assert_eq!(bodies(&sqs.receive(&by_policy).await?), ["unwanted"]);
        Ok(())
    })
}

#[test]
fn doors_14_expiry_and_overflow_know_no_redrive_policy() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let length = ("x-max-length", AMQPValue::LongInt(1));
        let (both, by_policy, policy) = with_both_targets(sqs, amqp, &[length]).await?;
        let mut by_exchange = amqp.consume("by-exchange").await?;
        let brief = || persistent().with_expiration("1".into());
        amqp.publish_with("", "both", b"expired", brief()).await?;
        assert_eq!(by_exchange.accept().await?.data, b"expired");
        for body in ["one too many", "the last"] {
            sqs.send(&both, body).await?;
        }
        assert_eq!(by_exchange.accept().await?.data, b"one too many");
        assert_eq!(bodies(&sqs.receive(&both).await?), ["the last"]);

        // Where there is a policy alone, what expires goes nowhere.
        let alone = [(Attribute::RedrivePolicy, policy.as_str())];
        let alone = sqs.make("alone", &alone).await?;
        amqp.publish_with("", "alone", b"gone", brief()).await?;
        assert!(sqs.receive_within(&by_policy, 1).await?.is_empty());
        assert!(sqs.receive_within(&alone, 0).await?.is_empty());
        Ok(())
    })
}

#[test]
fn doors_15_the_size_of_sqs_binds_sqs() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let small = [(Attribute::MaximumMessageSize, "1024")];
        let url = sqs.make("small", &small).await?;
        let long = "x".repeat(1025);
        assert!(sqs.send(&url, &long).await.is_err());
        amqp.publish("", "small", long.as_bytes()).await?;
        assert_eq!(bodies(&sqs.receive(&url).await?), [long.as_str()]);

        // An answer is a mebibyte at most, but never nothing.
        let url = sqs.make("large", &[]).await?;
        let two = "y".repeat(2 << 20);
        for body in [&two, &two] {
            amqp.publish("", "large", body.as_bytes()).await?;
        }
        for _ in 0..2 {
            assert_eq!(bodies(&sqs.receive(&url).await?), [two.as_str()]);
        }
        Ok(())
    })
}

#[test]
fn doors_15_the_size_of_a_queue_and_of_a_client_bind_every_door() -> anyhow::Result<()> {
    let server = Server::start();
    let sqs = Sqs::of(&server);
    wait(async {
        let amqp = Amqp::open(server.door("amqp")).await?;
        let bound = [("x-max-message-bytes", AMQPValue::LongInt(1000))];
        amqp.declare("bounded", &bound).await?;
        let url = sqs.url("bounded").await?;
        let transport = || Transport::tcp(server.door("mqtt"));
        let mut mqtt = Mqtt::clean(transport(), Version::V5, "doors-15")?;
        let stomp = || {
            let transport = Transport::tcp(server.door("stomp"));
            Stomp::open(transport, stomp::Version::V1_2)
        };
        let (fits, long) = ("x".repeat(1000), "x".repeat(1001));
        // As with RabbitMQ, that closes the channel.
        let strict = Amqp::open(server.door("amqp")).await?;
        let refused = strict.publish_with("", "bounded", long.as_bytes(), persistent());
        let refused = refused.await.expect_err("it is too long").to_string();
        assert!(refused.contains("PRECONDITION"), "{refused}");
        assert!(sqs.send(&url, &long).await.is_err());
        let refused = mqtt.publish("$queue/bounded", long.clone(), 1)?;
        assert!(refused.is_failure(), "{refused:?}");
        assert!(stomp()?.publish("/queue/bounded", long).is_err());
        amqp.publish("", "bounded", fits.as_bytes()).await?;
        sqs.send(&url, &fits).await?;
        assert!(
            !mqtt
                .publish("$queue/bounded", fits.clone(), 1)?
                .is_failure()
        );
        stomp()?.publish("/queue/bounded", fits)?;
        let count = sqs.attribute(&url, "ApproximateNumberOfMessages").await?;
        assert_eq!(count, "4");

        // What a client of MQTT does not take out of a queue is a dead letter.
        amqp.declare("dead", &[]).await?;
        let to_dead = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ];
        amqp.declare("large", &to_dead).await?;
        let mut small = connect(Version::V5, "doors-15-small", true);
        small.properties.0.push(Property::MaximumPacketSize(200));
        let (mut mqtt, _) = Mqtt::open(transport(), small)?;
        mqtt.subscribe("$queue/large", 1)?;
        let (url, dead) = (sqs.url("large").await?, sqs.url("dead").await?);
        let long = "y".repeat(500);
        sqs.send(&url, &long).await?;
        assert_eq!(bodies(&sqs.receive(&dead).await?), [long.as_str()]);
        sqs.send(&url, "short").await?;
        assert_eq!(&mqtt.next()?.payload[..], b"short");
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn doors_20_a_door_without_groups_has_one_group() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let url = sqs.make("ordered.fifo", &[]).await?;
        for body in ["1", "2", "3"] {
            amqp.publish("", "ordered.fifo", body.as_bytes()).await?;
        }
        let request = sqs
            .0
            .receive_message()
            .queue_url(&url)
            .wait_time_seconds(10);
        let first = request.send().await?.messages.unwrap_or_default();
        assert_eq!(bodies(&first), ["1"]);
        // One group, locked: also for AMQP.
        assert!(sqs.receive_within(&url, 0).await?.is_empty());
        let mut deliveries = amqp.consume("ordered.fifo").await?;
        sqs.delete(&url, &first[0]).await?;
        for body in ["2", "3"] {
            assert_eq!(deliveries.accept().await?.data, body.as_bytes());
        }
        // A duplicate is confirmed, and is not there.
        let request = sqs.0.send_message().queue_url(&url).message_body("4");
        let request = request.message_group_id("g").message_deduplication_id("4");
        for _ in 0..2 {
            request.clone().send().await?;
        }
        amqp.publish("", "ordered.fifo", b"5").await?;
        for body in ["4", "5"] {
            assert_eq!(deliveries.accept().await?.data, body.as_bytes());
        }
        Ok(())
    })
}

/// Ten of a group at a time, all to one consumer, in order; what it releases comes to it again, first.
#[test]
fn doors_20_a_group_is_of_one_consumer_and_what_it_releases_comes_first() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let url = sqs.make("ordered.fifo", &[]).await?;
        for number in 0..12 {
            let request = sqs.0.send_message().queue_url(&url);
            let request = request
                .message_body(number.to_string())
                .message_group_id("g");
            let request = request.message_deduplication_id(number.to_string());
            request.send().await?;
        }
        let mut deliveries = amqp.consume("ordered.fifo").await?;
        let mut held = Vec::new();
        for number in 0..10 {
            let delivery = deliveries.next().await?;
            assert_eq!(delivery.data, number.to_string().as_bytes());
            held.push(delivery);
        }
        // The group is held, so nobody else gets any of it.
        assert!(sqs.receive_within(&url, 0).await?.is_empty());
        let again = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        held[0].nack(again).await?;
        let delivery = deliveries.next().await?;
        assert_eq!(
            (&delivery.data[..], delivery.redelivered),
            (&b"0"[..], true)
        );
        held[0] = delivery;
        for delivery in held {
            delivery.ack(BasicAckOptions::default()).await?;
        }
        for number in 10..12 {
            let delivery = deliveries.accept().await?;
            assert_eq!(delivery.data, number.to_string().as_bytes());
        }
        Ok(())
    })
}

#[test]
fn doors_21_offsets_are_dense_across_the_shards_of_kinesis() -> anyhow::Result<()> {
    let server = Server::start_with(&["aws.transitions=instant"]);
    let kinesis = kinesis(&server);
    wait(async {
        let request = kinesis.create_stream().stream_name("clicks");
        request.shard_count(2).send().await?;
        let mut request = kinesis.put_records().stream_name("clicks");
        for number in 0..20 {
            let entry = PutRecordsRequestEntry::builder().partition_key(number.to_string());
            let entry = entry.data(Blob::new(number.to_string())).build()?;
            request = request.records(entry);
        }
        let answer = request.send().await?;
        assert_eq!(answer.failed_record_count, Some(0));
        let mut shards: Vec<&str> = answer
            .records()
            .iter()
            .filter_map(|record| record.shard_id())
            .collect();
        shards.sort_unstable();
        shards.dedup();
        assert_eq!(shards.len(), 2, "the keys reach both shards");

        let amqp = Amqp::open(server.door("amqp")).await?;
        amqp.channel
            .basic_qos(5, BasicQosOptions::default())
            .await?;
        let from = table(&[("x-stream-offset", text("first"))]);
        let mut deliveries = amqp
            .consume_from("clicks", BasicConsumeOptions::default(), from)
            .await?;
        for number in 0..20_i64 {
            let delivery = deliveries.accept().await?;
            let headers = delivery.properties.headers().clone().context("headers")?;
            let offset = headers.inner().get("x-stream-offset");
            let offset = offset.and_then(AMQPValue::as_long_long_int);
            assert_eq!(offset, Some(number));
            assert_eq!(delivery.data, number.to_string().as_bytes());
        }
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// A stream made through AMQP has one shard for Kinesis; its numbers grow with the offsets that AMQP shows, whoever wrote.
#[test]
fn doors_21_a_stream_of_amqp_is_one_shard_and_its_numbers_grow() -> anyhow::Result<()> {
    let server = Server::start_with(&["aws.transitions=instant"]);
    let kinesis = kinesis(&server);
    wait(async {
        let amqp = Amqp::open(server.door("amqp")).await?;
        amqp.declare("log", &[("x-queue-type", text("stream"))])
            .await?;
        let mut told = Vec::new();
        for number in 0..3 {
            let request = kinesis.put_record().stream_name("log").partition_key("k");
            let answer = request.data(Blob::new(format!("k{number}"))).send().await?;
            told.push(answer.sequence_number);
            amqp.publish("", "log", format!("a{number}").as_bytes())
                .await?;
        }
        let shards = kinesis.list_shards().stream_name("log").send().await?;
        let [shard] = shards.shards() else {
            anyhow::bail!("{:?}", shards.shards());
        };
        let request = kinesis.get_shard_iterator().stream_name("log");
        let request = request.shard_id(&shard.shard_id);
        let request = request.shard_iterator_type(ShardIteratorType::TrimHorizon);
        let from = request.send().await?.shard_iterator;
        let request = kinesis.get_records().set_shard_iterator(from);
        let records = request.send().await?.records;
        let read: Vec<&[u8]> = records.iter().map(|it| it.data.as_ref()).collect();
        assert_eq!(read, [b"k0", b"a0", b"k1", b"a1", b"k2", b"a2"]);
        let numbers = records.iter().map(|it| &it.sequence_number);
        assert!(
            numbers.is_sorted_by(|a, b| a.len() == b.len() && a < b),
            "{records:?}"
        );
        let of_kinesis = records.iter().step_by(2).map(|it| &it.sequence_number);
        assert!(of_kinesis.eq(&told), "{told:?}");
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn doors_22_what_sqs_cannot_write_is_base64() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let url = sqs.make("bodies", &[]).await?;
        let bytes: Vec<u8> = (0..=255).collect();
        amqp.publish("", "bodies", &bytes).await?;
        let messages = sqs.receive(&url).await?;
        let attributes = messages[0].message_attributes().context("attributes")?;
        assert_eq!(attributes["bascule.body"], string("base64")?);
        // Sent as it came, it is what it was.
        let request = sqs.0.send_message().queue_url(&url);
        let request = request.set_message_body(messages[0].body.clone());
        let request = request.message_attributes("bascule.body", string("base64")?);
        request.send().await?;
        sqs.delete(&url, &messages[0]).await?;
        let delivery = amqp.get("bodies").await?.context("a message")?;
        assert_eq!(delivery.data, bytes);
        let text = "Grüße ✓ \t\r\n";
        amqp.publish("", "bodies", text.as_bytes()).await?;
        let messages = sqs.receive(&url).await?;
        assert_eq!(bodies(&messages), [text]);
        assert!(
            messages[0]
                .message_attributes()
                .is_none_or(|map| map.is_empty())
        );
        Ok(())
    })
}

#[test]
fn doors_22_a_queue_says_how_bodies_are_shown_and_sns_reads_them_back() -> anyhow::Result<()> {
    let server = Server::start();
    let (sqs, sns) = (Sqs::of(&server), sns(&server));
    wait(async {
        let amqp = Amqp::open(server.door("amqp")).await?;
        let shown = |value| [(Attribute::from("bascule.body"), value)];
        for (way, body, expected) in [
            ("base64", &b"text"[..], "dGV4dA=="),
            ("text", &b"a\xffb"[..], "a\u{fffd}b"),
            ("auto", &b"text"[..], "text"),
            ("auto", &b""[..], ""),
        ] {
            let url = sqs.make(way, &shown(way)).await?;
            amqp.publish("", way, body).await?;
            let messages = sqs.receive(&url).await?;
            assert_eq!(bodies(&messages), [expected], "{way}");
            sqs.delete(&url, &messages[0]).await?;
        }
        assert!(sqs.make("other", &shown("other")).await.is_err());

        amqp.declare("bytes", &[]).await?;
        amqp.bind("bytes", "amq.topic", "photos").await?;
        let topic = sns.create_topic().name("photos").send().await?.topic_arn;
        let mark = aws_sdk_sns::types::MessageAttributeValue::builder();
        let mark = mark.data_type("String").string_value("base64").build()?;
        let request = sns.publish().set_topic_arn(topic).message("AP8B");
        request
            .message_attributes("bascule.body", mark)
            .send()
            .await?;
        let delivery = amqp.get("bytes").await?.context("a message")?;
        assert_eq!(delivery.data, [0, 0xff, 1]);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn doors_23_headers_are_attributes_of_their_type() -> anyhow::Result<()> {
    on_both(async |sqs, amqp| {
        let url = sqs.make("typed", &[]).await?;
        let headers = table(&[
            ("text", text("blau")),
            ("number", AMQPValue::LongInt(-7)),
            ("ratio", AMQPValue::Double(1.5)),
            ("flag", AMQPValue::Boolean(true)),
            ("raw", AMQPValue::ByteArray(vec![0, 255].into())),
            ("not legal!", text("not shown")),
        ]);
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_headers(headers)
            .with_content_type("text/plain".into())
            .with_correlation_id("c-1".into());
        amqp.publish_with("", "typed", b"m", properties).await?;
        let messages = sqs.receive(&url).await?;
        let attributes = messages[0].message_attributes().context("attributes")?;
        let number = |value: &str| {
            let builder = MessageAttributeValue::builder().data_type("Number");
            builder.string_value(value).build()
        };
        assert_eq!(attributes["text"], string("blau")?);
        assert_eq!(attributes["number"], number("-7")?);
        assert_eq!(attributes["ratio"], number("1.5")?);
        assert_eq!(attributes["flag"], string("true")?);
        let raw = attributes["raw"].binary_value().context("it is binary")?;
        assert_eq!(raw.as_ref(), [0, 255]);
        assert_eq!(attributes["bascule.content-type"], string("text/plain")?);
        assert_eq!(attributes["bascule.correlation-id"], string("c-1")?);
        assert!(!attributes.contains_key("not legal!"));

        // And back.
        let request = sqs.0.send_message().queue_url(&url).message_body("m");
        let request = request.set_message_attributes(Some(attributes.clone()));
        request.send().await?;
        sqs.delete(&url, &messages[0]).await?;
        let delivery = amqp.get("typed").await?.context("a message")?;
        let properties = &delivery.properties;
        assert_eq!(
            properties.content_type().as_ref().map(|text| text.as_str()),
            Some("text/plain")
        );
        assert_eq!(
            properties
                .correlation_id()
                .as_ref()
                .map(|text| text.as_str()),
            Some("c-1")
        );
        let headers = properties.headers().clone().context("headers")?;
        assert_eq!(headers.inner().get("text"), Some(&text("blau")));

        // More than ten come out, though no more than ten go in.
        let rows: Vec<(String, AMQPValue)> =
            (0..12).map(|n| (format!("h{n}"), text("v"))).collect();
        let rows: Vec<(&str, AMQPValue)> = rows
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        amqp.publish_with("", "typed", b"m", persistent().with_headers(table(&rows)))
            .await?;
        let messages = sqs.receive(&url).await?;
        let attributes = messages[0].message_attributes().context("attributes")?;
        assert_eq!(attributes.len(), 12);
        Ok(())
    })
}

/// A name that MQTT repeats is a list to all others, and a filter policy is satisfied by any of its values; a map is JSON.
#[test]
fn doors_23_a_repeated_name_is_a_list_and_a_map_is_json() -> anyhow::Result<()> {
    let server = Server::start();
    let (sqs, sns) = (Sqs::of(&server), sns(&server));
    wait(async {
        let amqp = Amqp::open(server.door("amqp")).await?;
        let url = sqs.make("reds", &[]).await?;
        let topic = sns.create_topic().name("paint").send().await?.topic_arn;
        let request = sns.subscribe().set_topic_arn(topic).protocol("sqs");
        let request = request.endpoint(sqs.attribute(&url, "QueueArn").await?);
        let request = request.attributes("RawMessageDelivery", "true");
        let request = request.attributes("FilterPolicy", r#"{"colour":["red"]}"#);
        request.send().await?;
        amqp.declare("all", &[]).await?;
        amqp.bind("all", "amq.topic", "paint").await?;
        let transport = Transport::tcp(server.door("mqtt"));
        let mut mqtt = Mqtt::clean(transport, Version::V5, "doors-23")?;
        let colours = |colours: &[&'static str]| {
            let colours = colours.iter();
            colours
                .map(|colour| Property::UserProperty("colour".into(), (*colour).into()))
                .collect()
        };
        mqtt.publish_with("paint", "not this", 1, false, colours(&["blue", "green"]))?;
        mqtt.publish_with("paint", "this", 1, false, colours(&["blue", "red"]))?;
        let messages = sqs.receive(&url).await?;
        assert_eq!(bodies(&messages), ["this"]);
        let attributes = messages[0].message_attributes().context("attributes")?;
        let colour = &attributes["colour"];
        assert_eq!(colour.data_type, "String.Array");
        assert_eq!(colour.string_value(), Some(r#"["blue","red"]"#));
        for expected in [["blue", "green"], ["blue", "red"]] {
            let delivery = amqp.get("all").await?.context("a message")?;
            let headers = delivery.properties.headers().clone().context("headers")?;
            let Some(AMQPValue::FieldArray(list)) = headers.inner().get("colour") else {
                anyhow::bail!("{headers:?}");
            };
            assert_eq!(list.as_slice(), expected.map(text));
        }

        // A filter of SNS reads the list of its own clients in the same way, and AMQP's map is JSON.
        let inner = table(&[
            ("deep", AMQPValue::Boolean(true)),
            ("n", AMQPValue::LongInt(1)),
        ]);
        let headers = table(&[
            ("map", AMQPValue::FieldTable(inner)),
            ("colour", text("red")),
        ]);
        let properties = persistent().with_headers(headers);
        amqp.publish_with("amq.topic", "paint", b"mapped", properties)
            .await?;
        sqs.delete(&url, &messages[0]).await?;
        let messages = sqs.receive(&url).await?;
        assert_eq!(bodies(&messages), ["mapped"]);
        let attributes = messages[0].message_attributes().context("attributes")?;
        assert_eq!(attributes["map"], string(r#"{"deep":true,"n":1}"#)?);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
