//! What is measured: bursts of a fixed size, one after the other, each waited for to its end.

use anyhow::{Context as _, ensure};

use crate::{
    client::{
        amqp::{Amqp, Come},
        aws::{Aws, KINESIS, SQS, strings},
        go,
        mqtt::Mqtt,
    },
    served::{Counted, Served},
};

/// Rounds that are not counted: buffers and caches grow to what they stay.
const WARM_UP: u64 = 8;
/// Acknowledgements of MQTT; messages.
const PUBACK: u8 = 0x40;
const PUBLISH: u8 = 0x30;

/// One of them.
pub(crate) struct Workload {
    /// For the command line and `recorded.toml`.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) title: &'static str,
    pub(crate) run: fn() -> anyhow::Result<Counted>,
}

pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "mqtt-qos0",
        title: "MQTT QoS 0, 16 B, bursts of 1000",
        run: || mqtt(0, false, 1000, 1),
    },
    Workload {
        name: "mqtt-qos0-fanout",
        title: "MQTT QoS 0, 16 B, 1 to 100, bursts of 100, per delivery",
        run: || mqtt(0, false, 100, 100),
    },
    Workload {
        name: "mqtt-qos1-durable",
        title: "MQTT QoS 1, 16 B, durable session, window 100",
        run: || mqtt(1, true, 100, 1),
    },
    Workload {
        name: "mqtt-qos1",
        title: "MQTT QoS 1, 16 B, soft session, window 100",
        run: || mqtt(1, false, 100, 1),
    },
    Workload {
        name: "amqp-persistent",
        title: "AMQP 0-9-1, 1 KiB persistent, confirms, single acknowledgements, window 100",
        run: amqp,
    },
    Workload {
        name: "sqs-batch",
        title: "SQS send, receive and delete, 100 B, batches of 10, 8 connections",
        run: sqs,
    },
    Workload {
        name: "kinesis",
        title: "Kinesis PutRecords 500 x 1 KiB and GetRecords",
        run: kinesis,
    },
];

/// Plays so many rounds of so many messages behind the first ones, and says what they cost.
fn rounds(
    served: &mut Served,
    (count, messages): (u64, u64),
    mut round: impl FnMut(&mut Served) -> anyhow::Result<()>,
) -> anyhow::Result<Counted> {
    for _ in 0..WARM_UP {
        round(served)?;
    }
    served.count();
    let before = served.reading();
    for _ in 0..count {
        round(served)?;
    }
    let after = served.reading();
    Ok(Counted {
        messages: messages * count,
        turns: after.turns - before.turns,
        allocations: after.allocations - before.allocations,
        allocated_bytes: after.allocated_bytes - before.allocated_bytes,
        copied_bytes: after.copied_bytes - before.copied_bytes,
        durable_writes: after.durable_writes - before.durable_writes,
        durable_bytes: after.durable_bytes - before.durable_bytes,
    })
}

fn mqtt(qos: u8, durable: bool, burst: u64, subscribers: usize) -> anyhow::Result<Counted> {
    let mut served = Served::start()?;
    let mut consumers = Vec::new();
    for number in 0..subscribers {
        let name = format!("counts-{number:03}");
        let mut consumer = Mqtt::connect(&mut served, &name, qos, durable)?;
        consumer.subscribe(&mut served)?;
        consumers.push(consumer);
    }
    let mut publisher = Mqtt::connect(&mut served, "counts-publisher", qos, false)?;
    let confirmations = if qos > 0 { burst } else { 0 };
    let mut ids = vec![Vec::new(); subscribers];
    let count = if subscribers > 1 { 4 } else { 24 };
    rounds(&mut served, (count, burst * subscribers as u64), |served| {
        publisher.publish(burst, 16)?;
        for (consumer, ids) in consumers.iter_mut().zip(&mut ids) {
            consumer.acknowledge(ids)?;
        }
        let (mut confirmed, mut received) = (0, vec![0; subscribers]);
        go(served, || {
            confirmed += publisher.look(PUBACK, &mut Vec::new())?;
            let came = consumers.iter_mut().zip(&mut ids).zip(&mut received);
            for ((consumer, ids), received) in came {
                *received += consumer.look(PUBLISH, ids)?;
                ensure!(*received <= burst, "a message came twice");
            }
            let whole = confirmed == confirmations && received.iter().all(|got| *got == burst);
            Ok(whole.then_some(()))
        })
    })
}

fn amqp() -> anyhow::Result<Counted> {
    const BURST: u64 = 100;
    let mut served = Served::start()?;
    let mut consumer = Amqp::connect(&mut served)?;
    consumer.declare(&mut served)?;
    consumer.consume(&mut served, 2 * BURST as u16)?;
    let mut publisher = Amqp::connect(&mut served)?;
    publisher.select(&mut served)?;
    let (mut published, mut consumed) = (Come::default(), Come::default());
    let mut sent = 0;
    rounds(&mut served, (24, BURST), |served| {
        publisher.publish(BURST, 1024)?;
        sent += BURST;
        consumer.acknowledge(&std::mem::take(&mut consumed.delivered))?;
        go(served, || {
            publisher.look(&mut published)?;
            consumer.look(&mut consumed)?;
            let came = consumed.delivered.len() as u64;
            ensure!(came <= BURST, "a message came twice");
            Ok((published.confirmed == sent && came == BURST).then_some(()))
        })
    })
}

/// One request on each connection, answered together.
fn ask_all(
    served: &mut Served,
    fleet: &mut [Aws],
    operation: &str,
    bodies: &[String],
) -> anyhow::Result<Vec<String>> {
    for (connection, body) in fleet.iter_mut().zip(bodies) {
        connection.ask(operation, body)?;
    }
    let mut answers = vec![None; fleet.len()];
    go(served, || {
        for (connection, answer) in fleet.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                *answer = connection.answer()?;
            }
        }
        Ok(answers.iter().all(Option::is_some).then_some(()))
    })?;
    Ok(answers.into_iter().flatten().collect())
}

fn sqs() -> anyhow::Result<Counted> {
    const BATCH: usize = 10;
    const CONNECTIONS: usize = 8;
    let mut served = Served::start()?;
    let mut fleet = Vec::new();
    for _ in 0..CONNECTIONS {
        fleet.push(Aws::connect(&served, SQS)?);
    }
    let made = fleet[0].call(&mut served, "CreateQueue", r#"{"QueueName":"counts"}"#)?;
    let url = *strings(&made, "QueueUrl")
        .first()
        .context("a queue has a url")?;
    let body = ".".repeat(100);
    let entries: Vec<String> = (0..BATCH)
        .map(|id| format!(r#"{{"Id":"{id}","MessageBody":"{body}"}}"#))
        .collect();
    let send = format!(
        r#"{{"QueueUrl":"{url}","Entries":[{}]}}"#,
        entries.join(",")
    );
    let receive = format!(r#"{{"QueueUrl":"{url}","MaxNumberOfMessages":{BATCH}}}"#);
    rounds(&mut served, (8, (BATCH * CONNECTIONS) as u64), |served| {
        let sends = vec![send.clone(); CONNECTIONS];
        for answer in ask_all(served, &mut fleet, "SendMessageBatch", &sends)? {
            ensure!(strings(&answer, "MessageId").len() == BATCH, "{answer}");
        }
        let receives = vec![receive.clone(); CONNECTIONS];
        let mut deletes = Vec::new();
        for answer in ask_all(served, &mut fleet, "ReceiveMessage", &receives)? {
            let handles = strings(&answer, "ReceiptHandle");
            ensure!(handles.len() == BATCH, "{answer}");
            let entries: Vec<String> = (handles.iter().enumerate())
                .map(|(id, handle)| format!(r#"{{"Id":"{id}","ReceiptHandle":"{handle}"}}"#))
                .collect();
            let entries = entries.join(",");
            deletes.push(format!(r#"{{"QueueUrl":"{url}","Entries":[{entries}]}}"#));
        }
        for answer in ask_all(served, &mut fleet, "DeleteMessageBatch", &deletes)? {
            ensure!(strings(&answer, "Id").len() == BATCH, "{answer}");
            ensure!(!answer.contains("\"Code\""), "{answer}");
        }
        Ok(())
    })
}

fn kinesis() -> anyhow::Result<Counted> {
    const RECORDS: usize = 500;
    let mut served = Served::start()?;
    let mut fleet = [Aws::connect(&served, KINESIS)?];
    let ask = r#"{"StreamName":"counts","ShardCount":1}"#;
    fleet[0].call(&mut served, "CreateStream", ask)?;
    let ask = r#"{"StreamName":"counts"}"#;
    loop {
        let told = fleet[0].call(&mut served, "DescribeStreamSummary", ask)?;
        if strings(&told, "StreamStatus") == ["ACTIVE"] {
            break;
        }
    }
    let ask = r#"{"StreamName":"counts","ShardId":"shardId-000000000000","ShardIteratorType":"TRIM_HORIZON"}"#;
    let told = fleet[0].call(&mut served, "GetShardIterator", ask)?;
    let mut iterator = (strings(&told, "ShardIterator").first())
        .context("a shard has an iterator")?
        .to_string();
    // 1,024 bytes in base64.
    let data = format!("{}==", "A".repeat(1366));
    let records: Vec<String> = (0..RECORDS)
        .map(|key| format!(r#"{{"PartitionKey":"{key:03}","Data":"{data}"}}"#))
        .collect();
    let put = format!(
        r#"{{"StreamName":"counts","Records":[{}]}}"#,
        records.join(",")
    );
    rounds(&mut served, (8, RECORDS as u64), |served| {
        let answer = &ask_all(served, &mut fleet, "PutRecords", std::slice::from_ref(&put))?[0];
        ensure!(answer.contains("\"FailedRecordCount\":0"), "{answer}");
        let get = format!(r#"{{"ShardIterator":"{iterator}"}}"#);
        let answer = &ask_all(served, &mut fleet, "GetRecords", &[get])?[0];
        let got = strings(answer, "Data").len();
        ensure!(got == RECORDS, "{got} records came");
        iterator = (strings(answer, "NextShardIterator").first())
            .context("an open shard has a next iterator")?
            .to_string();
        Ok(())
    })
}
