//! System calls and wake-ups of a whole server while its clients wait for each message: everything that one message causes
//! has happened before the next one comes, so nothing depends on how fast either is. What a message costs alone is the most
//! that it costs.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::json;

use super::Table;
use crate::{
    binary,
    load::{
        amqp::Amqp,
        aws::{Aws, KINESIS, SQS},
        body,
        mqtt::Mqtt,
        server::Server,
    },
};

/// What is counted.
const SYSTEM_CALLS: &str = "system_calls";
const WAKE_UPS: &str = "wake_ups";
/// Rounds that are not counted, and that are.
const WARM_UP: u32 = 20;
const ROUNDS: u32 = 200;
/// How long strace has to get hold of the server.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether that is counted here.
pub(super) fn is_of(what: &str) -> bool {
    [SYSTEM_CALLS, WAKE_UPS].contains(&what)
}

/// Plays a round, and says how many messages that was.
type Round = Box<dyn FnMut() -> anyhow::Result<u32>>;

/// Gets the clients ready.
type Open = fn(&Server) -> anyhow::Result<Round>;

/// By name, as in the crate `counts`.
const WORKLOADS: &[(&str, Open)] = &[
    ("alone-mqtt-qos0", |server| mqtt_qos0(server, 1)),
    ("alone-mqtt-qos0-fanout", |server| mqtt_qos0(server, 100)),
    ("alone-mqtt-qos1-durable", mqtt_qos1),
    ("alone-amqp-persistent", amqp),
    ("alone-sqs-batch", sqs),
    ("alone-kinesis", kinesis),
];

pub(super) fn measure(wanted: impl Fn(&str) -> bool) -> anyhow::Result<Table> {
    let mut found = Table::new();
    for (name, open) in WORKLOADS.iter().filter(|(name, _)| wanted(name)) {
        let settings = ["--set", "aws.shard_limits=false", "--set", "threads=1"];
        let settings = settings.map(str::to_owned).to_vec();
        let server = Server::start(&binary(false), Path::new("target/counts-data"), settings)?;
        let counts = of(&server, open).with_context(|| format!("failed to count {name}"))?;
        found.insert((*name).to_owned(), counts);
    }
    Ok(found)
}

fn of(server: &Server, open: &Open) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut round = open(server)?;
    for _ in 0..WARM_UP {
        round()?;
    }
    let mut play = || -> anyhow::Result<f64> {
        let messages = (0..ROUNDS).map(|_| round()).sum::<anyhow::Result<u32>>()?;
        Ok(f64::from(messages))
    };
    let before = wake_ups(server.pid())?;
    let messages = play()?;
    let woken = (wake_ups(server.pid())? - before) as f64 / messages;
    let (messages, calls) = system_calls(server.pid(), &mut play)?;
    Ok(BTreeMap::from([
        (WAKE_UPS.to_owned(), woken),
        (SYSTEM_CALLS.to_owned(), calls as f64 / messages),
    ]))
}

/// How often threads of a process have gone to sleep.
fn wake_ups(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended since.
        let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        let line = (status.lines()).find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.map_or(Ok(0), |count| count.trim().parse::<u64>())?;
    }
    Ok(sum)
}

/// What `work` says, and the system calls of a process meanwhile.
fn system_calls(
    pid: u32,
    work: &mut dyn FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<(f64, u64)> {
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-U", "calls,name", "-p", &pid.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start strace")?;
    let began = Instant::now();
    let traced = || -> anyhow::Result<bool> {
        let mut all = true;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = std::fs::read_to_string(task?.path().join("status"))?;
            all &= !status.contains("TracerPid:\t0");
        }
        Ok(all)
    };
    while !traced()? {
        let lives = strace.try_wait()?.is_none();
        ensure!(
            lives && began.elapsed() < PATIENCE,
            "strace does not get hold of the server: is ptrace allowed?"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let worked = work();
    let id = rustix::process::Pid::from_child(&strace);
    rustix::process::kill_process(id, rustix::process::Signal::INT)?;
    let told = String::from_utf8(strace.wait_with_output()?.stderr)?;
    let total = (told.lines().rev()).find_map(|line| line.trim().strip_suffix("total"));
    let total = total.with_context(|| format!("strace sums up: {told}"))?;
    Ok((worked?, total.trim().parse()?))
}

fn mqtt_qos0(server: &Server, subscribers: u32) -> anyhow::Result<Round> {
    let mut consumers = Vec::new();
    for number in 0..subscribers {
        let mut consumer = Mqtt::connect(server.mqtt, &format!("counts-{number}"), false)?;
        consumer.subscribe("counts", 0)?;
        consumers.push(consumer);
    }
    let mut publisher = Mqtt::connect(server.mqtt, "counts-publisher", false)?;
    let packet = [b"\x30\x18\x00\x06counts".as_slice(), &[b'.'; 16]].concat();
    Ok(Box::new(move || {
        publisher.say(&packet)?;
        for consumer in &mut consumers {
            consumer.plain()?;
        }
        Ok(subscribers)
    }))
}

fn mqtt_qos1(server: &Server) -> anyhow::Result<Round> {
    let mut consumer = Mqtt::connect(server.mqtt, "counts-durable", true)?;
    consumer.subscribe("counts", 1)?;
    let mut publisher = Mqtt::connect(server.mqtt, "counts-publisher", false)?;
    Ok(Box::new(move || {
        publisher.send("counts", 1, &[b'.'; 16])?;
        publisher.acked()?;
        let (id, again, _) = consumer.message()?;
        ensure!(!again, "a message came twice");
        consumer.ack(id)?;
        Ok(1)
    }))
}

fn amqp(server: &Server) -> anyhow::Result<Round> {
    let mut consumer = Amqp::connect(server.amqp)?;
    consumer.declare("counts")?;
    consumer.subscribe("counts", 200)?;
    let mut publisher = Amqp::connect(server.amqp)?;
    publisher.select()?;
    let mut text = Vec::new();
    body(0, 0, 1024, &mut text);
    Ok(Box::new(move || {
        publisher.send("counts", &text)?;
        publisher.acked()?;
        let (tag, again, _) = consumer.message()?;
        ensure!(!again, "a message came twice");
        consumer.ack(tag)?;
        Ok(1)
    }))
}

fn sqs(server: &Server) -> anyhow::Result<Round> {
    let mut aws = Aws::connect(server.aws, SQS)?;
    let made = aws.call("CreateQueue", br#"{"QueueName":"counts"}"#)?;
    let url = made["QueueUrl"].as_str().context("a queue has a url")?;
    let body = ".".repeat(100);
    let entries: Vec<_> = (0..10)
        .map(|id| json!({"Id": id.to_string(), "MessageBody": body}))
        .collect();
    let send = json!({"QueueUrl": url, "Entries": entries}).to_string();
    let receive = json!({"QueueUrl": url, "MaxNumberOfMessages": 10}).to_string();
    let url = url.to_owned();
    Ok(Box::new(move || {
        aws.call("SendMessageBatch", send.as_bytes())?;
        let got = aws.call("ReceiveMessage", receive.as_bytes())?;
        let got = got["Messages"].as_array().context("messages came")?;
        ensure!(got.len() == 10, "{} messages came", got.len());
        let entries: Vec<_> = (got.iter().enumerate())
            .map(|(id, message)| {
                json!({"Id": id.to_string(), "ReceiptHandle": message["ReceiptHandle"]})
            })
            .collect();
        let delete = json!({"QueueUrl": url, "Entries": entries}).to_string();
        aws.call("DeleteMessageBatch", delete.as_bytes())?;
        Ok(10)
    }))
}

fn kinesis(server: &Server) -> anyhow::Result<Round> {
    let mut aws = Aws::connect(server.aws, KINESIS)?;
    aws.call("CreateStream", br#"{"StreamName":"counts","ShardCount":1}"#)?;
    let began = Instant::now();
    let ask = br#"{"StreamName":"counts"}"#;
    while aws.call("DescribeStreamSummary", ask)?["StreamDescriptionSummary"]["StreamStatus"]
        != "ACTIVE"
    {
        ensure!(began.elapsed() < PATIENCE, "the stream stays inactive");
        std::thread::sleep(Duration::from_millis(10));
    }
    let ask = json!({"StreamName": "counts", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"});
    let told = aws.call("GetShardIterator", ask.to_string().as_bytes())?;
    let mut iterator = told["ShardIterator"].clone();
    let data = format!("{}==", "A".repeat(1366));
    let records: Vec<_> = (0..10)
        .map(|key| json!({"PartitionKey": key.to_string(), "Data": data}))
        .collect();
    let put = json!({"StreamName": "counts", "Records": records}).to_string();
    Ok(Box::new(move || {
        aws.call("PutRecords", put.as_bytes())?;
        let get = json!({"ShardIterator": iterator}).to_string();
        let got = aws.call("GetRecords", get.as_bytes())?;
        let records = got["Records"].as_array().context("records came")?;
        ensure!(records.len() == 10, "{} records came", records.len());
        iterator = got["NextShardIterator"].clone();
        Ok(10)
    }))
}
