//! Messages that no queue knows of, shown to several: together where they can be, and in the order in which all was decided.

use super::*;
use session::Burst;

fn topic(text: &'static str) -> Levels {
    Levels::split(Bytes::from_static(text.as_bytes()), b'/').expect("a short topic")
}

/// A client session that is shown what is published at these places.
fn subscriber(node: &Node, id: &'static str, topics: &[&'static str]) -> User {
    let mut user = User::attach(node);
    user.submit([Command::OpenClient(Box::new(OpenClient {
        token: Token(1),
        client_id: id.into(),
        clean_start: true,
        expiry: ClientExpiry::WithConnection,
        window: 10,
        message_len_max: None,
        will: None,
    }))]);
    assert!(matches!(user.next(), Event::Opened { .. }));
    for text in topics {
        let filter = Filter::Exact(topic(text));
        user.submit([Command::Subscribe(Box::new(Subscribe {
            token: Token(2),
            lane: Lane(0),
            consumer: ConsumerId::CLIENT,
            source: Source::Topic { filter },
            credit: Credit::Window(10),
            group: 0,
            exclusive: false,
            priority: 0,
            through_client: false,
            options: SubscriptionOptions::default(),
        }))]);
        assert!(matches!(user.next(), Event::Subscribed { .. }));
    }
    user
}

fn publish_to(text: &'static str, body: impl Into<Bytes>, token: Option<u64>) -> Command {
    let address = Address::topic(VhostId::ROOT, topic(text));
    Command::Publish(Publish {
        token: token.map(Token),
        lane: Lane(0),
        message: Arc::new(Message::new(address, body.into())),
        mandatory: false,
        create: false,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds: false,
    })
}

/// Events that are there.
fn heard(user: &User) -> Vec<Event> {
    let waker = Waker::noop();
    let mut events = Vec::new();
    while user
        .link
        .poll_events(&mut Context::from_waker(waker), &mut events)
        .is_ready()
    {
        user.link.drained();
    }
    events
}

fn burst(event: &Event) -> &Arc<Burst> {
    let Event::Burst(burst) = event else {
        panic!("not a burst: {event:?}");
    };
    burst
}

fn bodies(event: &Event) -> Vec<Bytes> {
    match event {
        Event::Delivery(delivery) => vec![delivery.message.body.clone()],
        event => {
            let each = burst(event).deliveries().iter();
            each.map(|it| it.message.body.clone()).collect()
        }
    }
}

#[test]
fn who_is_shown_the_same_is_shown_it_together() {
    let dir = directory("shown-together");
    let node = start(small(&dir));
    let users = ["one", "two"].map(|id| subscriber(&node, id, &["a", "b"]));
    let alone = subscriber(&node, "alone", &["c"]);
    let mut publisher = User::attach(&node);
    let long = vec![b'.'; 40_000];
    publisher.submit([
        publish_to("a", "1", None),
        publish_to("b", "2", None),
        publish_to("a", "3", None),
        // To others; what follows does not go with what was before.
        publish_to("c", "4", None),
        publish_to("c", "5", None),
        publish_to("a", "6", None),
        // A burst is handed out as a whole, and so is no longer than 64 KiB.
        publish_to("a", long.clone(), None),
        publish_to("a", long.clone(), None),
    ]);
    let [one, two] = [heard(&users[0]), heard(&users[1])];
    let shown: Vec<_> = one.iter().map(bodies).collect();
    assert_eq!(
        shown,
        [
            vec!["1".into(), "2".into(), "3".into()],
            vec!["6".into(), long.clone().into()],
            vec![Bytes::from(long)]
        ]
    );
    for (one, two) in one.iter().zip(&two) {
        assert!(Arc::ptr_eq(burst(one), burst(two)), "shared by both");
    }
    assert_eq!(one.len(), two.len());
    let shown: Vec<_> = heard(&alone).iter().map(bodies).collect();
    assert_eq!(shown, [["4", "5"]]);
    publisher.submit([publish_to("c", "7", None), publish_to("a", "8", None)]);
    assert!(
        matches!(&heard(&alone)[..], [Event::Delivery(_)]),
        "one message for one connection needs nothing around it"
    );
    assert_eq!(bodies(&heard(&users[0])[0]), ["8"]);
    node.shutdown();
}

#[test]
fn rules_a4_what_is_shown_together_does_not_come_behind_what_was_decided_later() {
    let dir = directory("shown-in-order");
    let node = start(small(&dir));
    let mut user = subscriber(&node, "one", &["a"]);
    let other = subscriber(&node, "two", &["a"]);
    user.submit([
        publish_to("a", "1", None),
        publish_to("a", "2", Some(5)),
        publish_to("a", "3", None),
        publish_to("a", "4", None),
        Command::Fence {
            token: Token(6),
            lane: Lane(0),
        },
    ]);
    let mut told = Vec::new();
    while !matches!(told.last(), Some(Event::Reached { .. })) {
        told.extend(heard(&user));
    }
    let words: Vec<String> = told
        .iter()
        .map(|event| match event {
            Event::Published { token, .. } => format!("published {}", token.0),
            Event::Reached { token } => format!("reached {}", token.0),
            event => format!("{:?}", bodies(event)),
        })
        .collect();
    assert_eq!(
        words,
        [
            r#"[b"1", b"2"]"#,
            "published 5",
            r#"[b"3", b"4"]"#,
            "reached 6"
        ]
    );
    let shown: Vec<_> = heard(&other).iter().flat_map(bodies).collect();
    assert_eq!(shown, ["1", "2", "3", "4"]);
    node.shutdown();
}
