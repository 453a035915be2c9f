//! The AWS door as a whole: who is let in, into which virtual host, and how it ends.

use std::time::{Duration, Instant};

use ::mqtt::codec::Version as MqttVersion;

use crate::{
    client::{Aws, Mqtt, Transport, connect, get, present},
    server::{Dir, LIMIT, Server, serve_to_end, until},
};

const CREATE: &str = "AmazonSQS.CreateQueue";
const SEND: &str = "AmazonSQS.SendMessage";
const RECEIVE: &str = "AmazonSQS.ReceiveMessage";

fn url_of(aws: &mut Aws, queue: &str) -> anyhow::Result<String> {
    let answer = aws.done(CREATE, &format!("{{\"QueueName\":\"{queue}\"}}"))?;
    Ok(answer
        .text("QueueUrl")
        .expect("a queue has a URL")
        .to_owned())
}

#[test]
fn a_queue_is_made_filled_and_read_and_outlives_its_server() -> anyhow::Result<()> {
    let server = Server::start();
    let mut aws = Aws::guest(server.door("aws"));
    let url = url_of(&mut aws, "jobs")?;
    assert_eq!(
        url,
        format!("http://{}/000000000000/jobs", server.door("aws"))
    );
    aws.done(
        SEND,
        &format!("{{\"QueueUrl\":\"{url}\",\"MessageBody\":\"one\"}}"),
    )?;
    let server = server.restart();
    let mut aws = Aws::guest(server.door("aws"));
    // Any host will do in the URL.
    let answer = aws.done(
        RECEIVE,
        &format!("{{\"QueueUrl\":\"{url}\",\"WaitTimeSeconds\":5}}"),
    )?;
    assert_eq!(answer.text("Body"), Some("one"));
    // The same queue over MQTT.
    let mut mqtt = Mqtt::clean(Transport::tcp(server.door("mqtt")), MqttVersion::V5, "m")?;
    mqtt.publish("$queue/jobs", "two", 1)?;
    let answer = aws.done(
        RECEIVE,
        &format!("{{\"QueueUrl\":\"{url}\",\"WaitTimeSeconds\":5}}"),
    )?;
    assert_eq!(answer.text("Body"), Some("two"));
    server.stop();
    Ok(())
}

#[test]
fn only_who_has_a_key_is_let_in() -> anyhow::Result<()> {
    let server = Server::start_with(&[
        "auth.vhosts=['/','billing','archive']",
        "users=[{name='ada',password='x',vhosts=['billing']},{name='eve',password='x',rules=[{allow=['publish'],queue='out'}]}]",
        "aws.keys=[{id='ADA',secret='s',user='ada',account='111111111111'},{id='EVE',secret='t',user='eve'}]",
        "aws.vhosts=[{name='billing',account='111111111111',region='eu-west-1'},{name='archive',account='111111111111',region='eu-west-2'}]",
    ]);
    let door = server.door("aws");
    let list = |id, secret, region| {
        Aws::with(door, (id, secret), region).json("AmazonSQS.ListQueues", "{}")
    };
    assert_eq!(list("ADA", "s", "eu-west-1")?.status, 200);
    assert_eq!(list("guest", "guest", "us-east-1")?.status, 200);
    for (id, secret, region, said) in [
        ("ADA", "wrong", "eu-west-1", "SignatureDoesNotMatch"),
        ("NIX", "s", "eu-west-1", "InvalidClientTokenId"),
        (
            "ADA",
            "s",
            "us-east-1",
            "no virtual host is configured for account 111111111111",
        ),
        // The account is open to the key, and not to its user.
        ("ADA", "s", "eu-west-2", "AccessDenied"),
    ] {
        let answer = list(id, secret, region)?;
        let told = answer.head.contains(said) || answer.body.contains(said);
        assert!(answer.status >= 400 && told, "{answer:?}");
    }
    let mut late = Aws::guest(door);
    late.skew_s = -16 * 60;
    let answer = late.json("AmazonSQS.ListQueues", "{}")?;
    assert!(answer.body.contains("Signature expired"), "{answer:?}");
    let mut wrong = Aws::with(door, ("guest", "nix"), "us-east-1");
    let answer = wrong.query("sns", "Action=ListTopics&Version=2010-03-31")?;
    assert_eq!(answer.status, 403, "{answer:?}");
    let mut right = Aws::guest(door);
    let answer = right.query("sns", "Action=ListTopics&Version=2010-03-31")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Rules hold here as at every door.
    let mut guest = Aws::guest(door);
    let (inbox, out) = (url_of(&mut guest, "in")?, url_of(&mut guest, "out")?);
    let mut eve = Aws::with(door, ("EVE", "t"), "us-east-1");
    let message = |url: &str| format!("{{\"QueueUrl\":\"{url}\",\"MessageBody\":\"x\"}}");
    assert_eq!(eve.json(SEND, &message(&out))?.status, 200);
    assert!(
        eve.json(SEND, &message(&inbox))?
            .body
            .contains("AccessDenied")
    );
    let (_, metrics) = get(server.door("http"), "/metrics")?;
    assert!(metrics.contains("bascule_aws_requests_total{service=\"SQS\",result=\"served\"}"));
    assert!(!metrics.contains("bascule_refused_total{action=\"publish\",protocol=\"sqs\"} 0"));
    server.stop();
    Ok(())
}

#[test]
fn who_may_not_is_told_which_right_is_missing_and_who_may_read_may_purge() -> anyhow::Result<()> {
    let server = Server::start_with(&[
        "users=[{name='eve',password='x',rules=[{allow=['subscribe'],queue='in'},{allow=['declare'],queue='out'}]}]",
        "aws.keys=[{id='EVE',secret='t',user='eve'}]",
    ]);
    let door = server.door("aws");
    let mut guest = Aws::guest(door);
    for name in ["in", "out", "none"] {
        url_of(&mut guest, name)?;
        guest.done(
            SEND,
            &format!("{{\"QueueUrl\":\"{name}\",\"MessageBody\":\"x\"}}"),
        )?;
    }
    let one = |name: &str| format!("{{\"QueueUrl\":\"{name}\"}}");
    let mut eve = Aws::with(door, ("EVE", "t"), "us-east-1");
    for (operation, name, said) in [
        (RECEIVE, "none", "\"read access to queue 'none'"),
        (RECEIVE, "out", "\"read access to queue 'out'"),
        (
            "AmazonSQS.GetQueueAttributes",
            "none",
            "\"access to queue 'none'",
        ),
        (
            "AmazonSQS.DeleteQueue",
            "in",
            "\"configure access to queue 'in'",
        ),
        (
            "AmazonSQS.PurgeQueue",
            "out",
            "\"read access to queue 'out'",
        ),
    ] {
        let answer = eve.json(operation, &one(name))?;
        let told = answer.status == 403 && answer.body.contains(said);
        assert!(told, "{operation} {name}: {answer:?}");
    }
    eve.done("AmazonSQS.PurgeQueue", &one("in"))?;
    let answer = eve.done(RECEIVE, &one("in"))?;
    assert_eq!(answer.body, "{}");
    let answer = eve.json("AmazonSQS.PurgeQueue", &one("in"))?;
    assert!(answer.body.contains("PurgeQueueInProgress"), "{answer:?}");
    // A purge that was refused is none.
    guest.done("AmazonSQS.PurgeQueue", &one("out"))?;
    server.stop();
    Ok(())
}

#[test]
fn the_test_profile_lets_anybody_in_and_makes_accounts_on_first_use() -> anyhow::Result<()> {
    let server = Server::start_with(&[
        "aws.signatures=accept",
        "aws.vhosts_on_first_use=true",
        "aws.minute_rules=false",
    ]);
    let door = server.door("aws");
    let mut here = Aws::with(door, ("123456789012", "whatever"), "eu-west-1");
    let mut there = Aws::with(door, ("123456789012", "whatever"), "eu-west-2");
    assert!(url_of(&mut here, "jobs")?.ends_with("/123456789012/jobs"));
    let answer = there.done("AmazonSQS.ListQueues", "{}")?;
    assert_eq!(answer.body, "{}");
    // It is a virtual host like others.
    let mut login = connect(MqttVersion::V5, "m", true);
    let user = "123456789012/eu-west-1:guest".to_owned();
    login.user_name = Some(user.try_into().expect("no U+0000"));
    let (mut mqtt, ack) = Mqtt::open(Transport::tcp(server.door("mqtt")), login)?;
    assert!(!present(&ack));
    mqtt.publish("$queue/jobs", "over MQTT", 1)?;
    let answer = here.done(RECEIVE, "{\"QueueUrl\":\"jobs\",\"WaitTimeSeconds\":5}")?;
    assert_eq!(answer.text("Body"), Some("over MQTT"));
    server.stop();
    Ok(())
}

#[test]
fn a_long_poll_wakes_at_once_and_one_that_is_left_takes_nothing() -> anyhow::Result<()> {
    let server = Server::start();
    let door = server.door("aws");
    let mut aws = Aws::guest(door);
    let url = url_of(&mut aws, "jobs")?;
    let receive = format!("{{\"QueueUrl\":\"{url}\",\"WaitTimeSeconds\":20}}");
    let mut gone = Aws::guest(door);
    gone.send(RECEIVE, &receive)?;
    let mut waits = Aws::guest(door);
    drop(gone);
    waits.send(RECEIVE, &receive)?;
    // Only once the server has seen that one is gone does it take nothing.
    let left = "bascule_connections_open{listener=\"aws\"} 2\n";
    let came = "bascule_connections_accepted_total{listener=\"aws\"} 3\n";
    until("the server sees who has left", || {
        let (_, text) = get(server.door("http"), "/metrics").expect("metrics are served");
        (text.contains(left) && text.contains(came)).then_some(())
    });
    let begun = Instant::now();
    aws.done(
        SEND,
        &format!("{{\"QueueUrl\":\"{url}\",\"MessageBody\":\"x\"}}"),
    )?;
    assert_eq!(waits.answer()?.text("Body"), Some("x"));
    assert!(begun.elapsed() < Duration::from_secs(15));
    // Whoever waits when the server ends is told to come again.
    waits.send(RECEIVE, &receive)?;
    aws.done("AmazonSQS.ListQueues", "{}")?;
    server.terminate();
    let answer = waits.answer()?;
    assert!(answer.status == 503 || answer.body == "{}", "{answer:?}");
    assert!(begun.elapsed() < LIMIT);
    Ok(())
}

#[test]
fn accepting_everybody_is_for_loopback_only() {
    let data = Dir::new();
    let output = serve_to_end(
        &data.data(),
        &["aws.signatures=accept", "listeners.aws=0.0.0.0:0"],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("loopback addresses only"), "{said}");
}
