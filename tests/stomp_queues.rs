//! STOMP queues: durable through crashes, acknowledged, in transactions.

use ::stomp::{
    Version,
    codec::{Frame, Verb},
};

use crate::{
    client::{Stomp, Transport},
    server::Server,
};

fn open(server: &Server) -> anyhow::Result<Stomp> {
    Stomp::open(Transport::tcp(server.door("stomp")), Version::V1_2)
}

/// [STOMP-subscribe-10]
#[test]
fn a_queue_is_kept_through_crashes() -> anyhow::Result<()> {
    let server = Server::start();
    let mut client = open(&server)?;
    for number in 1..=10 {
        client.publish("/queue/kept", number.to_string())?;
    }
    let server = server.restart();
    let mut client = open(&server)?;
    client.subscribe("/queue/kept", "s1", "client-individual")?;
    for number in 1..=10 {
        let message = client.next()?;
        assert_eq!(message.body, number.to_string());
        assert_ne!(message.headers.text("redelivered"), Some("true"));
        if number <= 4 {
            client.settle(Verb::Ack, &message)?;
        }
    }
    // Behind this RECEIPT the acknowledgements are stored too.
    client.publish("/queue/other", "mark")?;
    let server = server.restart();
    let mut client = open(&server)?;
    client.subscribe("/queue/kept", "s1", "client")?;
    for number in 5..=10 {
        let message = client.next()?;
        assert_eq!(message.body, number.to_string());
        assert_eq!(message.headers.text("redelivered"), Some("true"));
        if number == 10 {
            // In mode `client` all before it too.
            client.settle(Verb::Ack, &message)?;
        }
    }
    client.publish("/queue/kept", "last")?;
    assert_eq!(client.next()?.body, "last");
    server.stop();
    Ok(())
}

#[test]
fn a_nacked_message_comes_again() -> anyhow::Result<()> {
    let server = Server::start();
    let mut client = open(&server)?;
    client.publish("/queue/again", "twice")?;
    client.subscribe("/queue/again", "s1", "client-individual")?;
    let message = client.next()?;
    client.settle(Verb::Nack, &message)?;
    let message = client.next()?;
    assert_eq!(message.body, "twice");
    assert_eq!(message.headers.text("redelivered"), Some("true"));
    server.stop();
    Ok(())
}

fn in_transaction(verb: Verb, name: &'static str) -> Frame {
    Frame::new(verb).with("transaction", name)
}

/// [STOMP-begin-2]
#[test]
fn a_transaction_is_all_or_nothing() -> anyhow::Result<()> {
    let server = Server::start();
    let mut watcher = open(&server)?;
    watcher.subscribe("/queue/out", "s1", "auto")?;
    let mut client = open(&server)?;
    client.publish("/queue/in", "work")?;
    client.subscribe("/queue/in", "s1", "client-individual")?;
    let mut message = client.next()?;
    for (name, end) in [("t1", Verb::Abort), ("t2", Verb::Commit)] {
        client.send(&in_transaction(Verb::Begin, name))?;
        for part in ["first", "second"] {
            let body = format!("{name} {part}");
            let send = in_transaction(Verb::Send, name).with("destination", "/queue/out");
            client.ask(send.with("persistent", "true").with_body(body))?;
        }
        let id = message.headers.text("ack").unwrap_or_default().to_owned();
        client.ask(in_transaction(Verb::Ack, name).with("id", id))?;
        if end == Verb::Abort {
            client.ask(in_transaction(end, name))?;
            // The acknowledgement is undone: the message is still ours.
            let id = message.headers.text("ack").unwrap_or_default().to_owned();
            client.ask(Frame::new(Verb::Nack).with("id", id))?;
            message = client.next()?;
            assert_eq!(message.body, "work");
        } else {
            client.ask(in_transaction(end, name))?;
        }
    }
    assert_eq!(
        watcher.next()?.body,
        "t2 first",
        "nothing of the aborted one"
    );
    assert_eq!(watcher.next()?.body, "t2 second");

    let server = server.restart();
    let mut client = open(&server)?;
    client.publish("/queue/in", "mark")?;
    client.subscribe("/queue/in", "s1", "auto")?;
    assert_eq!(
        client.next()?.body,
        "mark",
        "the acknowledgement was committed"
    );
    server.stop();
    Ok(())
}

/// [STOMP-begin-3]
#[test]
fn a_transaction_ends_with_its_connection() -> anyhow::Result<()> {
    let server = Server::start();
    let mut client = open(&server)?;
    client.send(&in_transaction(Verb::Begin, "t"))?;
    let send = in_transaction(Verb::Send, "t").with("destination", "/queue/out");
    client.ask(send.with_body("never"))?;
    // Without a word.
    drop(client);
    let mut client = open(&server)?;
    client.publish("/queue/out", "mark")?;
    client.subscribe("/queue/out", "s1", "auto")?;
    assert_eq!(client.next()?.body, "mark");
    // The name is free again, and holds nothing.
    client.send(&in_transaction(Verb::Begin, "t"))?;
    client.ask(in_transaction(Verb::Commit, "t"))?;
    client.publish("/queue/out", "last")?;
    assert_eq!(client.next()?.body, "last");
    server.stop();
    Ok(())
}

/// A durable subscription of a topic gathers while nobody is there, through a crash, until UNSUBSCRIBE.
#[test]
fn a_durable_subscription_of_a_topic_gathers_messages() -> anyhow::Result<()> {
    let subscribe = || {
        Frame::new(Verb::Subscribe)
            .with("destination", "/topic/news.*")
            .with("id", "reader-1")
            .with("durable", "true")
            .with("auto-delete", "false")
            .with("ack", "client-individual")
    };
    let server = Server::start();
    let mut client = open(&server)?;
    client.ask(subscribe())?;
    client.ask(Frame::new(Verb::Disconnect))?;
    let mut publisher = open(&server)?;
    publisher.publish("/topic/news.one", "1")?;
    let server = server.restart();
    let mut publisher = open(&server)?;
    publisher.publish("/topic/news.two", "2")?;
    let mut client = open(&server)?;
    client.ask(subscribe())?;
    for body in ["1", "2"] {
        let message = client.next()?;
        assert_eq!(message.body, body);
        client.settle(Verb::Ack, &message)?;
    }
    publisher.publish("/topic/news.three", "3")?;
    assert_eq!(
        client.next()?.headers.text("destination"),
        Some("/topic/news.three")
    );
    server.stop();
    Ok(())
}

/// A temporary queue is reached by its reply address from another protocol's side of the bridge too.
#[test]
fn doors_9_a_reply_comes_back() -> anyhow::Result<()> {
    let server = Server::start();
    let mut client = open(&server)?;
    let mut service = open(&server)?;
    service.subscribe("/queue/service", "s1", "auto")?;
    client.ask(
        Frame::new(Verb::Send)
            .with("destination", "/queue/service")
            .with("reply-to", "/temp-queue/answers")
            .with("correlation-id", "17")
            .with_body("question"),
    )?;
    let question = service.next()?;
    let address = question
        .headers
        .text("reply-to")
        .unwrap_or_default()
        .to_owned();
    let answer = Frame::new(Verb::Send).with("destination", address);
    service.ask(answer.with("correlation-id", "17").with_body("answer"))?;
    let answer = client.next()?;
    assert_eq!(answer.body, "answer");
    assert_eq!(answer.headers.text("correlation-id"), Some("17"));
    server.stop();
    Ok(())
}

/// SUBSCRIBE with further headers.
fn subscribe(
    client: &mut Stomp,
    id: &'static str,
    destination: &'static str,
    headers: &[(&'static str, &'static str)],
) -> anyhow::Result<()> {
    let frame = Frame::new(Verb::Subscribe)
        .with("id", id)
        .with("destination", destination);
    client.ask(
        headers
            .iter()
            .fold(frame, |frame, (name, value)| frame.with(name, *value)),
    )
}

#[test]
fn a_selector_picks_from_a_topic_and_is_kept_through_a_crash() -> anyhow::Result<()> {
    let server = Server::start();
    let durable = [
        ("selector", "kind = 'heat' AND degrees > 20"),
        ("durable", "true"),
        ("auto-delete", "false"),
    ];
    let mut client = open(&server)?;
    subscribe(&mut client, "kept", "/topic/sensors.*", &durable)?;
    drop(client);
    let server = server.restart();
    let mut client = open(&server)?;
    let plain = [("selector", "kind <> 'heat'")];
    subscribe(&mut client, "live", "/topic/#", &plain)?;
    for (kind, degrees) in [
        ("heat", "19"),
        ("cold", "3"),
        ("heat", "21"),
        ("heat", "30"),
    ] {
        let send = Frame::new(Verb::Send)
            .with("destination", "/topic/sensors.hall")
            .with("persistent", "true")
            .with("kind", kind)
            .with("degrees", degrees);
        client.ask(send.with_body(degrees))?;
    }
    assert_eq!(client.next()?.body, "3");
    let server = server.restart();
    let mut client = open(&server)?;
    subscribe(&mut client, "kept", "/topic/sensors.*", &durable)?;
    for degrees in ["21", "30"] {
        let message = client.next()?;
        assert_eq!(message.headers.text("subscription"), Some("kept"));
        assert_eq!(message.body, degrees);
    }
    server.stop();
    Ok(())
}

#[test]
fn several_destinations_and_temporary_ones() -> anyhow::Result<()> {
    let server = Server::start();
    let mut asker = open(&server)?;
    asker.subscribe("/temp-topic/answers", "t", "auto")?;
    asker.subscribe("/temp-queue/answers", "q", "auto")?;
    let mut answerer = open(&server)?;
    answerer.subscribe("/queue/first", "1", "auto")?;
    answerer.subscribe("/topic/second", "2", "auto")?;
    for (reply_to, id) in [("/temp-topic/answers", "t"), ("/temp-queue/answers", "q")] {
        let ask = Frame::new(Verb::Send)
            .with("destination", "/queue/first,/topic/second")
            .with("reply-to", reply_to);
        asker.ask(ask.with_body("ask"))?;
        for _ in 0..2 {
            let message = answerer.next()?;
            assert_eq!(message.body, "ask");
            let reply_to = message.headers.text("reply-to").unwrap_or_default();
            let reply = message.headers.text("destination").unwrap_or_default();
            answerer.publish(reply_to, reply.to_owned())?;
        }
        let mut answers = [asker.next()?, asker.next()?].map(|answer| {
            assert_eq!(answer.headers.text("subscription"), Some(id));
            answer.body
        });
        answers.sort();
        assert_eq!(answers, ["/queue/first", "/topic/second"]);
    }
    server.stop();
    Ok(())
}

/// What ActiveMQ's users rely on: a list of destinations, NACK and expiry into `ActiveMQ.DLQ`, virtual topics, one reader
/// of a durable subscription.
#[test]
fn doors_27_the_dialect_of_activemq() -> anyhow::Result<()> {
    let server = Server::start_with(&["stomp.dialect=activemq"]);
    let mut reader = open(&server)?;
    let group = "/queue/Consumer.billing.VirtualTopic.Orders";
    reader.subscribe("/queue/jobs", "jobs", "client-individual")?;
    reader.subscribe(group, "group", "client-individual")?;
    let mut client = open(&server)?;
    client.publish("/queue/jobs,/topic/VirtualTopic.Orders", "work")?;
    for _ in 0..2 {
        let message = reader.next()?;
        assert_eq!(message.body, "work");
        reader.settle(Verb::Nack, &message)?;
    }
    let late = Frame::new(Verb::Send)
        .with("destination", "/queue/unread")
        .with("persistent", "true")
        .with("expires", "1");
    client.ask(late.with_body("late"))?;
    client.subscribe("/queue/unread", "unread", "auto")?;
    client.subscribe("/queue/ActiveMQ.DLQ", "dead", "auto")?;
    let mut dead = Vec::new();
    for _ in 0..3 {
        let message = client.next()?;
        assert_eq!(message.headers.text("subscription"), Some("dead"));
        let reason = message.headers.text("x-first-death-reason");
        dead.push((message.body.clone(), reason.unwrap_or_default().to_owned()));
    }
    dead.sort();
    let dead: Vec<_> = dead
        .iter()
        .map(|(body, why)| (&body[..], &why[..]))
        .collect();
    let (late, work) = ((&b"late"[..], "expired"), (&b"work"[..], "rejected"));
    assert_eq!(dead, [late, work, work]);
    server.stop();
    Ok(())
}

#[test]
fn options_that_a_queue_does_not_have_are_told() -> anyhow::Result<()> {
    let server = Server::start();
    let mut client = open(&server)?;
    subscribe(&mut client, "1", "/queue/asked", &[("x-max-length", "9")])?;
    subscribe(&mut client, "2", "/queue/asked", &[("x-max-length", "9")])?;
    subscribe(&mut client, "3", "/queue/asked", &[])?;
    for (name, value) in [
        ("x-max-length", "8"),
        ("x-message-ttl", "5"),
        ("exclusive", "true"),
    ] {
        let mut client = open(&server)?;
        let frame = Frame::new(Verb::Subscribe)
            .with("id", "s")
            .with("destination", "/queue/asked")
            .with("receipt", "r")
            .with(name, value);
        client.send(&frame)?;
        let error = client.frame()?;
        assert_eq!(error.verb, Verb::Error, "{name}");
        assert_eq!(error.headers.text("message"), Some("declared otherwise"));
        assert_eq!(error.headers.text("receipt-id"), Some("r"));
    }
    server.stop();
    Ok(())
}
