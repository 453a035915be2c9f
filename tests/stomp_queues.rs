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
