//! Two processes on one journal: the one that stands by refuses and says where the other is, and takes over when that one
//! dies, hangs, ends or is told to; what was confirmed is there, and a sleeper that wakes up confirms nothing.

use std::process::Command;

use ::mqtt::codec::{Packet, Version};

use crate::{
    client::{Amqp, Aws, Mqtt, Transport, connect, get, present, wait},
    server::{Server, binary, until},
};

const SEND: &str = "AmazonSQS.SendMessage";

fn role(server: &Server) -> String {
    let (_, health) = get(server.door("http"), "/health/ready").expect("its doors are open");
    let (_, rest) = health.split_once("\"role\":\"").expect("a role");
    rest.split('"').next().unwrap_or_default().to_owned()
}

fn becomes(server: &Server, wanted: &str) {
    until(&format!("it is {wanted}"), || {
        (role(server) == wanted).then_some(())
    });
}

/// The active one knows of a standby that could take over.
fn is_covered(active: &Server) {
    let ready = "bascule_standby_can_take_over{";
    until("a standby is ready", || {
        let (_, text) = get(active.door("http"), "/metrics").expect("metrics are served");
        text.lines()
            .any(|line| line.starts_with(ready) && line.ends_with(" 1"))
            .then_some(())
    });
}

/// A queue with messages that were confirmed, and a client session with one.
fn fill(active: &Server) -> anyhow::Result<()> {
    let client = wait(Amqp::open(active.door("amqp")))?;
    wait(client.declare("jobs", &[]))?;
    for n in 0..20 {
        wait(client.publish("", "jobs", format!("job {n}").as_bytes()))?;
    }
    let (mut mqtt, _) = Mqtt::open(
        Transport::tcp(active.door("mqtt")),
        connect(Version::V5, "sensor", false),
    )?;
    mqtt.subscribe("orders", 1)?;
    mqtt.disconnect()?;
    let mut other = Mqtt::clean(Transport::tcp(active.door("mqtt")), Version::V5, "other")?;
    other.publish("orders", "an order", 1)?;
    Ok(())
}

/// All of it is there, and more can be added.
fn check(active: &Server) -> anyhow::Result<()> {
    let client = wait(Amqp::open(active.door("amqp")))?;
    assert_eq!(wait(client.declare("jobs", &[]))?, 20);
    wait(client.publish("", "jobs", b"one more"))?;
    let (mut mqtt, ack) = Mqtt::open(
        Transport::tcp(active.door("mqtt")),
        connect(Version::V5, "sensor", false),
    )?;
    assert!(present(&ack), "the session outlives its node");
    let order = mqtt.next()?;
    assert_eq!(&order.payload[..], b"an order");
    Ok(())
}

#[test]
fn a_standby_takes_over_from_a_node_that_was_killed() -> anyhow::Result<()> {
    let mut active = Server::start();
    let standby = active.stand_by();
    fill(&active)?;
    let (_, ack) = Mqtt::open(
        Transport::tcp(standby.door("mqtt")),
        connect(Version::V5, "stray", true),
    )?;
    // [MQTT-3.2.2-15] Use another server, and which one.
    assert_eq!(ack.code, 0x9C);
    let place = active.door("mqtt").to_string();
    assert!(format!("{ack:?}").contains(&place), "{ack:?}");
    let mut aws = Aws::guest(standby.door("aws"));
    let refused = aws.json("AmazonSQS.ListQueues", "{}")?;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(role(&standby), "standby");
    active.kill();
    standby.becomes_ready();
    check(&standby)?;
    // And back again, to a process that comes as the standby.
    let third = standby.stand_by();
    is_covered(&standby);
    drop(standby);
    third.becomes_ready();
    let client = wait(Amqp::open(third.door("amqp")))?;
    assert_eq!(wait(client.declare("jobs", &[]))?, 21);
    third.stop();
    Ok(())
}

#[test]
fn a_frozen_node_that_wakes_up_confirms_nothing_and_stands_by() -> anyhow::Result<()> {
    let active = Server::start();
    let standby = active.stand_by();
    fill(&active)?;
    is_covered(&active);
    let mut sleeper = Mqtt::clean(Transport::tcp(active.door("mqtt")), Version::V5, "sleeper")?;
    // Not durable, and nobody's: it rests on the lease alone.
    sleeper.subscribe("soft", 0)?;
    active.freeze();
    sleeper.hand_in("orders", "lost", 1, false, Vec::new())?;
    sleeper.hand_in("soft", "lost", 0, false, Vec::new())?;
    standby.becomes_ready();
    check(&standby)?;
    active.thaw();
    // Whatever it is asked first: its lease is over, and it says so until it knows.
    let asked = role(&active);
    assert!(
        ["silent", "stopped", "starting", "standby"].contains(&&*asked),
        "{asked}"
    );
    match sleeper.packet_or_end() {
        Ok(Some(Packet::Disconnect(goodbye))) => assert_eq!(goodbye.reason.0, 0x9C, "{goodbye:?}"),
        Ok(Some(packet)) => panic!("a deposed node said {packet:?}"),
        // It may be gone without a word.
        Ok(None) | Err(_) => {}
    }
    becomes(&active, "standby");
    becomes(&standby, "active");
    is_covered(&standby);
    let client = wait(Amqp::open(standby.door("amqp")))?;
    assert_eq!(wait(client.declare("jobs", &[]))?, 21);
    // That is what a pair is for: no fault, and nothing for an operator to do.
    let log = active.log();
    assert!(log.contains("nothing needs to be done"), "{log}");
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
    Ok(())
}

#[test]
fn places_are_changed_as_often_as_an_operator_likes() -> anyhow::Result<()> {
    let first = Server::start();
    let second = first.stand_by();
    fill(&first)?;
    let (mut active, mut standby) = (&first, &second);
    let mut sent = 0;
    for _ in 0..3 {
        is_covered(active);
        let mut aws = Aws::guest(active.door("aws"));
        let made = aws.done("AmazonSQS.CreateQueue", "{\"QueueName\":\"q\"}")?;
        let url = made.text("QueueUrl").expect("a URL").to_owned();
        for _ in 0..10 {
            let body = format!("{{\"QueueUrl\":\"{url}\",\"MessageBody\":\"x\"}}");
            aws.done(SEND, &body)?;
            sent += 1;
        }
        let output = Command::new(binary())
            .args(["switchover", "--url"])
            .arg(format!("http://{}", active.door("http")))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        becomes(standby, "active");
        becomes(active, "standby");
        (active, standby) = (standby, active);
    }
    let mut aws = Aws::guest(active.door("aws"));
    let url = "http://localhost/000000000000/q";
    let asked =
        format!("{{\"QueueUrl\":\"{url}\",\"AttributeNames\":[\"ApproximateNumberOfMessages\"]}}");
    let attributes = aws.done("AmazonSQS.GetQueueAttributes", &asked)?;
    assert_eq!(
        attributes.text("ApproximateNumberOfMessages"),
        Some(&*sent.to_string())
    );
    check(active)?;
    Ok(())
}

#[test]
fn a_node_that_ends_in_order_is_followed_at_once_and_a_standby_that_ends_leaves_nothing()
-> anyhow::Result<()> {
    let first = Server::start();
    let second = first.stand_by();
    fill(&first)?;
    first.stop();
    second.becomes_ready();
    check(&second)?;
    let third = second.stand_by();
    let dir = second.dir().data();
    is_covered(&second);
    third.stop();
    until("its file is gone", || {
        let left = std::fs::read_dir(dir.join("standby")).expect("it is there");
        (left.count() == 0).then_some(())
    });
    becomes(&second, "active");
    second.stop();
    Ok(())
}
