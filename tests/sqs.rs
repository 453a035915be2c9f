//! SQS over the real server: what outlives a restart, long polls, dead letters moved back, purging, FIFO queues, and the same
//! queue through other doors (DOORS 13, 15, 19, 20, 22, 23).

use std::{thread, time::Instant};

use ::stomp::{
    Version,
    codec::{Frame, Verb},
};
use anyhow::{Context as _, ensure};
use serde_json::{Value as Json, json};

use crate::{
    client::{Stomp, Transport, wire::Wire},
    server::{Server, until},
};

fn start() -> Server {
    Server::start_with(&["aws.signatures=accept", "aws.minute_rules=false"])
}

fn client(server: &Server) -> Wire {
    Wire::sqs(server.door("aws"))
}

fn stomp(server: &Server) -> anyhow::Result<Stomp> {
    Stomp::open(Transport::tcp(server.door("stomp")), Version::V1_2)
}

fn make(sqs: &mut Wire, name: &str, attributes: Json) -> anyhow::Result<()> {
    let made = sqs.call(
        "CreateQueue",
        &json!({"QueueName": name, "Attributes": attributes}),
    )?;
    let url = made["QueueUrl"].as_str().context("a URL")?;
    ensure!(url.ends_with(&format!("/000000000000/{name}")), "{url}");
    Ok(())
}

fn send(sqs: &mut Wire, queue: &str, body: &str) -> anyhow::Result<Json> {
    sqs.call(
        "SendMessage",
        &json!({"QueueUrl": queue, "MessageBody": body}),
    )
}

/// Up to ten messages with everything about them.
fn receive(sqs: &mut Wire, queue: &str, wait: u32) -> anyhow::Result<Vec<Json>> {
    let input = json!({
        "QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": wait,
        "MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"],
    });
    let answer = sqs.call("ReceiveMessage", &input)?;
    Ok(answer["Messages"].as_array().cloned().unwrap_or_default())
}

fn bodies(messages: &[Json]) -> Vec<&str> {
    let bodies = messages.iter().map(|it| it["Body"].as_str());
    bodies.map(Option::unwrap_or_default).collect()
}

fn delete(sqs: &mut Wire, queue: &str, message: &Json) -> anyhow::Result<()> {
    let input = json!({"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]});
    sqs.call("DeleteMessage", &input)?;
    Ok(())
}

fn attribute(sqs: &mut Wire, queue: &str, name: &str) -> anyhow::Result<Json> {
    let input = json!({"QueueUrl": queue, "AttributeNames": [name]});
    Ok(sqs.call("GetQueueAttributes", &input)?["Attributes"][name].clone())
}

#[test]
fn handles_and_what_is_in_flight_outlive_a_restart() -> anyhow::Result<()> {
    let server = start();
    let mut sqs = client(&server);
    make(&mut sqs, "jobs", json!({"VisibilityTimeout": "600"}))?;
    for body in ["first", "second", "third"] {
        send(&mut sqs, "jobs", body)?;
    }
    let before = receive(&mut sqs, "jobs", 0)?;
    assert_eq!(bodies(&before), ["first", "second", "third"]);
    let server = server.restart();
    let mut sqs = client(&server);
    // All are out still, and the old handles are good.
    assert_eq!(receive(&mut sqs, "jobs", 0)?, [] as [Json; 0]);
    delete(&mut sqs, "jobs", &before[0])?;
    let change = json!({"QueueUrl": "jobs", "ReceiptHandle": before[1]["ReceiptHandle"], "VisibilityTimeout": 0});
    sqs.call("ChangeMessageVisibility", &change)?;
    let again = receive(&mut sqs, "jobs", 10)?;
    assert_eq!(bodies(&again), ["second"]);
    let counted = |message: &Json| message["Attributes"]["ApproximateReceiveCount"].clone();
    assert_eq!(
        (counted(&before[1]), counted(&again[0])),
        (json!("1"), json!("2"))
    );
    for name in ["MessageId", "MD5OfBody"] {
        assert_eq!(again[0][name], before[1][name]);
    }
    let sent = |message: &Json| message["Attributes"]["SentTimestamp"].clone();
    assert_eq!(sent(&again[0]), sent(&before[1]));
    server.stop();
    Ok(())
}

#[test]
fn a_long_poll_wakes_at_once_whoever_publishes() -> anyhow::Result<()> {
    let server = start();
    let mut sqs = client(&server);
    make(
        &mut sqs,
        "jobs",
        json!({"ReceiveMessageWaitTimeSeconds": "20"}),
    )?;
    for by_stomp in [true, false] {
        let mut poller = client(&server);
        let began = Instant::now();
        let poll = thread::spawn(move || {
            // Ten seconds in one, as long as the queue says in the other.
            let input = if by_stomp {
                json!({"QueueUrl": "jobs", "WaitTimeSeconds": 10})
            } else {
                json!({"QueueUrl": "jobs"})
            };
            poller.call("ReceiveMessage", &input)
        });
        if by_stomp {
            stomp(&server)?.publish("/queue/jobs", "wake")?;
        } else {
            send(&mut sqs, "jobs", "wake")?;
        }
        let answer = poll.join().expect("the poll ends")?;
        assert_eq!(answer["Messages"][0]["Body"], "wake");
        // Less than half of the time that it would have waited, on however slow a machine.
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    }
    server.stop();
    Ok(())
}

#[test]
fn dead_letters_are_counted_shown_and_moved_back() -> anyhow::Result<()> {
    let server = start();
    let mut sqs = client(&server);
    make(&mut sqs, "dead", json!({}))?;
    let dead_arn = attribute(&mut sqs, "dead", "QueueArn")?;
    let policy = json!({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2}).to_string();
    make(
        &mut sqs,
        "jobs",
        json!({"RedrivePolicy": policy, "VisibilityTimeout": "0"}),
    )?;
    let id = send(&mut sqs, "jobs", "poison")?["MessageId"].clone();
    let mut received = 0;
    let dead = until("the message dies", || {
        received += receive(&mut sqs, "jobs", 0).ok()?.len();
        let dead = receive(&mut sqs, "dead", 0).ok()?;
        dead.first().cloned()
    });
    let dead = dead.context("until gives what it found")?;
    // DOORS 13: N receives, and then no more.
    assert_eq!(received, 2);
    assert_eq!(dead["MessageId"], id);
    assert_eq!(
        dead["Attributes"]["DeadLetterQueueSourceArn"],
        attribute(&mut sqs, "jobs", "QueueArn")?
    );
    let sources = sqs.call("ListDeadLetterSourceQueues", &json!({"QueueUrl": "dead"}))?;
    let sources = sources["queueUrls"].as_array().context("a list")?;
    assert!(matches!(&sources[..], [Json::String(url)] if url.ends_with("/jobs")));

    let release =
        json!({"QueueUrl": "dead", "ReceiptHandle": dead["ReceiptHandle"], "VisibilityTimeout": 0});
    sqs.call("ChangeMessageVisibility", &release)?;
    let started = sqs.call("StartMessageMoveTask", &json!({"SourceArn": dead_arn}))?;
    assert!(started["TaskHandle"].is_string());
    let task = until("the task is done", || {
        let tasks = sqs.call("ListMessageMoveTasks", &json!({"SourceArn": dead_arn}));
        let task = tasks.ok()?["Results"][0].clone();
        (task["Status"] == "COMPLETED").then_some(task)
    });
    let task = task.context("until gives what it found")?;
    assert_eq!(task["ApproximateNumberOfMessagesMoved"], 1);
    let back = receive(&mut sqs, "jobs", 10)?;
    assert_eq!(bodies(&back), ["poison"]);
    server.stop();
    Ok(())
}

#[test]
fn a_fifo_queue_orders_by_group_and_knows_repeats_also_after_a_restart() -> anyhow::Result<()> {
    let server = start();
    let mut sqs = client(&server);
    let attributes = json!({"FifoQueue": "true", "VisibilityTimeout": "600"});
    make(&mut sqs, "jobs.fifo", attributes)?;
    let message = |group: &str, number: u32| {
        json!({
            "QueueUrl": "jobs.fifo", "MessageBody": format!("{group}{number}"),
            "MessageGroupId": group, "MessageDeduplicationId": format!("{group}-{number}"),
        })
    };
    let mut sent = Vec::new();
    for (group, number) in [("a", 1), ("a", 2), ("b", 1), ("a", 3)] {
        sent.push(sqs.call("SendMessage", &message(group, number))?);
    }
    let sequences: Vec<&str> = sent
        .iter()
        .filter_map(|it| it["SequenceNumber"].as_str())
        .collect();
    assert!(
        sequences.len() == 4 && sequences.is_sorted(),
        "{sequences:?}"
    );
    let first = json!({"QueueUrl": "jobs.fifo", "MaxNumberOfMessages": 2});
    let held = sqs.call("ReceiveMessage", &first)?["Messages"].clone();
    let held = held.as_array().context("messages")?;
    assert_eq!(bodies(held), ["a1", "a2"]);
    // The group is locked, the other is not.
    let others = receive(&mut sqs, "jobs.fifo", 0)?;
    assert_eq!(bodies(&others), ["b1"]);
    let server = server.restart();
    let mut sqs = client(&server);
    assert_eq!(receive(&mut sqs, "jobs.fifo", 0)?, [] as [Json; 0]);
    let repeat = sqs.call("SendMessage", &message("a", 3))?;
    for name in ["MessageId", "SequenceNumber"] {
        assert_eq!(repeat[name], sent[3][name]);
    }
    for message in held {
        delete(&mut sqs, "jobs.fifo", message)?;
    }
    let last = receive(&mut sqs, "jobs.fifo", 10)?;
    assert_eq!(bodies(&last), ["a3"]);
    assert_eq!(
        last[0]["Attributes"]["SequenceNumber"],
        sent[3]["SequenceNumber"]
    );
    server.stop();
    Ok(())
}

#[test]
fn purging_takes_what_is_in_flight_and_the_rules_of_a_minute_hold() -> anyhow::Result<()> {
    let server = Server::start_with(&["aws.signatures=accept"]);
    let mut sqs = client(&server);
    make(&mut sqs, "jobs", json!({}))?;
    for body in ["out", "waiting"] {
        send(&mut sqs, "jobs", body)?;
    }
    let one = json!({"QueueUrl": "jobs"});
    sqs.call("ReceiveMessage", &one)?;
    sqs.call("PurgeQueue", &one)?;
    for name in [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
    ] {
        assert_eq!(attribute(&mut sqs, "jobs", name)?, "0");
    }
    let (status, code, _) = sqs.refusal("PurgeQueue", &one)?;
    assert_eq!(
        (status, &code[..]),
        (400, "com.amazonaws.sqs#PurgeQueueInProgress")
    );
    sqs.call("DeleteQueue", &one)?;
    let (status, code, message) = sqs.refusal("CreateQueue", &json!({"QueueName": "jobs"}))?;
    assert_eq!(
        (status, &code[..]),
        (400, "com.amazonaws.sqs#QueueDeletedRecently")
    );
    assert!(message.starts_with("You must wait 60 seconds"), "{message}");
    let (_, code, _) = sqs.refusal(
        "SendMessage",
        &json!({"QueueUrl": "jobs", "MessageBody": "m"}),
    )?;
    assert_eq!(code, "com.amazonaws.sqs#QueueDoesNotExist");
    server.stop();
    Ok(())
}

#[test]
fn one_queue_through_sqs_and_stomp() -> anyhow::Result<()> {
    let server = start();
    let mut sqs = client(&server);
    // DOORS 15: the limit is that of SendMessage.
    make(&mut sqs, "jobs", json!({"MaximumMessageSize": "1024"}))?;
    let mut stomp = stomp(&server)?;
    let frame = Frame::new(Verb::Send)
        .with("destination", "/queue/jobs")
        .with("persistent", "true")
        .with("colour", "blau")
        .with("correlation-id", "c1")
        .with("content-type", "application/octet-stream")
        .with_body(vec![0xff; 2000]);
    stomp.ask(frame)?;
    let large = "b".repeat(1025);
    let (_, code, _) = sqs.refusal(
        "SendMessage",
        &json!({"QueueUrl": "jobs", "MessageBody": large}),
    )?;
    assert_eq!(code, "com.amazonaws.sqs#InvalidParameterValue");
    let messages = receive(&mut sqs, "jobs", 10)?;
    let [message] = &messages[..] else {
        anyhow::bail!("{messages:?}");
    };
    // DOORS 22, 23.
    assert_eq!(message["Body"], message::base64::encode(&[0xff; 2000]));
    let text = |value: &str| json!({"DataType": "String", "StringValue": value});
    assert_eq!(
        message["MessageAttributes"],
        json!({
            "colour": text("blau"), "bascule.correlation-id": text("c1"),
            "bascule.content-type": text("application/octet-stream"), "bascule.body": text("base64"),
        })
    );
    delete(&mut sqs, "jobs", message)?;

    let attributes = json!({
        "colour": text("grün"), "count": {"DataType": "Number", "StringValue": "7"},
        "bascule.correlation-id": text("c2"), "bascule.body": text("base64"),
    });
    let input = json!({"QueueUrl": "jobs", "MessageBody": "AP8=", "MessageAttributes": attributes});
    sqs.call("SendMessage", &input)?;
    stomp.subscribe("/queue/jobs", "s", "client-individual")?;
    let got = stomp.next()?;
    assert_eq!(&got.body[..], b"\0\xff");
    for (name, value) in [("colour", "grün"), ("count", "7"), ("correlation-id", "c2")] {
        assert_eq!(got.headers.text(name), Some(value), "{name}");
    }
    // Out to a consumer it is nobody else's.
    assert_eq!(receive(&mut sqs, "jobs", 0)?, [] as [Json; 0]);
    // DOORS 19: its lease ends with its connection.
    drop(stomp);
    let again = receive(&mut sqs, "jobs", 20)?;
    assert_eq!(again[0]["Attributes"]["ApproximateReceiveCount"], "2");
    server.stop();
    Ok(())
}
