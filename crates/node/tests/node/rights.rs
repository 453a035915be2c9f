//! Who may do what: users and rules, judged where commands are taken (DOORS 29).

use super::*;

fn is_denied(event: &Event) -> bool {
    matches!(event, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::AccessDenied)
}

/// Ada may do what the rules say, here and in the virtual host `b`; into `c` she may not come.
fn ada(rules: Vec<Rule>) -> Arc<auth::Users> {
    let config = auth::Config {
        vhosts: vec!["/".to_owned(), "b".to_owned(), "c".to_owned()],
        users: vec![auth::User {
            name: "ada".to_owned(),
            password: Some("x".to_owned()),
            vhosts: Some(vec!["/".to_owned(), "b".to_owned()]),
            rules,
            ..auth::User::default()
        }],
        ..auth::Config::default()
    };
    Arc::new(auth::Users::new(&config, [7; auth::KEY_LEN]).expect("the users are right"))
}

fn publishes(vhost: &str, queue: &str) -> Rule {
    Rule {
        vhosts: Some(vec![vhost.to_owned()]),
        allow: vec![Action::Publish],
        queue: Some(queue.to_owned()),
        ..Rule::default()
    }
}

fn make_queue(by: &mut User, name: &'static str) {
    by.submit([Command::Declare {
        token: Token(1),
        lane: Lane(0),
        declare: Declare::NewQueue {
            name: name.into(),
            unless_deleted_ms: 0,
            attributes: Box::default(),
            notes: Vec::new(),
        },
    }]);
    assert!(matches!(by.next(), Event::Declared { .. }));
}

fn subscription(
    number: u8,
    to: (Option<&str>, &'static str),
    dead_letter: Option<(Option<&str>, &'static str)>,
) -> Command {
    let topic = Levels::split(Bytes::from_static(b"t"), b'/').expect("a short topic");
    Command::Subscription {
        token: Token(u64::from(number)),
        lane: Lane(0),
        to: Box::new(SubscriptionTo::Create(Box::new(NewSubscription {
            id: SubscriptionId([number; 16]),
            topic: None,
            filter: Some(Filter::Exact(topic)),
            target: SubscriptionTarget::Queue {
                vhost: to.0.map(Arc::from),
                name: to.1.into(),
            },
            settings: SubscriptionSettings {
                raw: true,
                dead_letter: dead_letter.map(|(vhost, name)| (vhost.map(Arc::from), name.into())),
                ..SubscriptionSettings::default()
            },
            confirmed: true,
            identity: Bytes::from(vec![number]),
            notes: Vec::new(),
        }))),
    }
}

#[test]
fn doors_29_a_subscription_delivers_where_its_maker_may_publish_and_outlives_the_right() {
    let dir = directory("elsewhere");
    let topic = Rule {
        allow: vec![Action::Subscribe],
        topic: Some("t".to_owned()),
        ..Rule::default()
    };
    let rules = vec![topic, publishes("/", "here"), publishes("b", "there")];
    let node = Node::start(small(&dir), ada(rules)).expect("the node starts");
    let mut guest = User::attach(&node);
    let here = Declare::NewQueue {
        name: "here".into(),
        unless_deleted_ms: 0,
        attributes: Box::default(),
        notes: Vec::new(),
    };
    guest.submit([Command::Declare {
        token: Token(1),
        lane: Lane(0),
        declare: here,
    }]);
    assert!(matches!(guest.next(), Event::Declared { .. }));
    let mut user = User::attach_as(&node, "ada", "x");
    let cases = [
        ((None, "here"), None, true),
        ((None, "there"), None, false),
        ((Some("b"), "there"), None, true),
        ((Some("b"), "here"), None, false),
        ((Some("c"), "there"), None, false),
        ((None, "here"), Some((Some("b"), "there")), true),
        ((None, "here"), Some((Some("b"), "here")), false),
        ((None, "here"), Some((None, "there")), false),
        ((None, "here"), Some((Some("c"), "there")), false),
    ];
    for (number, (to, dead_letter, may)) in (1..).zip(cases) {
        user.submit([subscription(number, to, dead_letter)]);
        let answer = user.next();
        assert_eq!(
            !is_denied(&answer),
            may,
            "{to:?} {dead_letter:?}: {answer:?}"
        );
        if may {
            assert!(matches!(answer, Event::Subscription { .. }), "{answer:?}");
        }
    }
    // Without the right no more are made; those that are there belong to their topic.
    node.reload(ada(vec![publishes("/", "none")]));
    user.submit([subscription(20, (None, "here"), None)]);
    assert!(is_denied(&user.next()));
    let topic = Levels::split(Bytes::from_static(b"t"), b'/').expect("a short topic");
    let mut message = Message::new(Address::topic(VhostId::ROOT, topic), "m".into());
    message.durable = true;
    guest.submit([
        consume("here", Credit::Window(5)),
        Command::Publish(Publish {
            token: Some(Token(3)),
            lane: Lane(0),
            message: Arc::new(message),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        }),
    ]);
    let mut delivered = 0;
    while delivered < 2 {
        delivered += usize::from(matches!(guest.next(), Event::Delivery(_)));
    }
}

#[test]
fn doors_29_streams_have_rules_of_their_own() {
    let dir = directory("stream-rules");
    let rule = |action, stream: &str| Rule {
        allow: vec![action],
        stream: Some(stream.to_owned()),
        ..Rule::default()
    };
    let rules = vec![rule(Action::Publish, "in"), rule(Action::Subscribe, "out")];
    let node = Node::start(small(&dir), ada(rules)).expect("the node starts");
    let make = |name: &'static str| Command::Stream {
        token: Token(1),
        lane: Lane(0),
        name: name.into(),
        to: Box::new(StreamTo::Create {
            attributes: StreamAttributes::default(),
            shards: 1,
            notes: Vec::new(),
        }),
    };
    let mut guest = User::attach(&node);
    for name in ["in", "out"] {
        guest.submit([make(name)]);
        assert!(!matches!(guest.next(), Event::Refused { .. }));
    }
    let mut user = User::attach_as(&node, "ada", "x");
    user.submit([make("in")]);
    assert!(is_denied(&user.next()));
    guest.submit([make("elsewhere")]);
    assert!(!matches!(guest.next(), Event::Refused { .. }));
    for (to, shown) in [(StreamTo::Inspect, false), (StreamTo::Count, true)] {
        user.submit([Command::Stream {
            token: Token(5),
            lane: Lane(0),
            name: "elsewhere".into(),
            to: Box::new(to),
        }]);
        let seen = user.next();
        assert_eq!(matches!(seen, Event::Stream { .. }), shown, "{seen:?}");
    }
    for (name, may_publish) in [("in", true), ("out", false)] {
        let look = Command::Stream {
            token: Token(2),
            lane: Lane(0),
            name: name.into(),
            to: Box::new(StreamTo::Inspect),
        };
        user.submit([look]);
        // Who may do anything with it may look at it.
        assert!(!matches!(user.next(), Event::Refused { .. }));
        let mut message = Message::new(
            Address {
                kind: message::Kind::Stream,
                ..Address::queue(VhostId::ROOT, name)
            },
            "m".into(),
        );
        message.durable = true;
        user.submit([
            Command::Publish(Publish {
                token: Some(Token(3)),
                lane: Lane(0),
                message: Arc::new(message),
                mandatory: false,
                create: false,
                inbound_id: None,
                or_stream: false,
                hash_key: None,
                folds: false,
            }),
            Command::ReadStream(Box::new(ReadStream {
                token: Token(4),
                lane: Lane(0),
                stream: name.into(),
                id: None,
                shard: ShardNo(0),
                from: StreamStart::First,
                count: 1,
                bytes_max: 1 << 20,
                wait_ms: 0,
                limited: false,
            })),
        ]);
        let (published, read) = (user.next(), user.next());
        let refused = matches!(&published, Event::Published {
            outcome: PublishOutcome::Refused(refusal), ..
        } if refusal.kind == RefusalKind::AccessDenied);
        assert_eq!(!refused, may_publish, "{name}: {published:?}");
        assert_eq!(is_denied(&read), may_publish, "{name}: {read:?}");
    }
}

#[test]
fn several_publishes_or_receipts_in_one_command_are_asked_for_each() {
    let dir = directory("rights-of-many");
    let node = Node::start(small(&dir), ada(vec![publishes("/", "open")])).expect("it starts");
    let mut guest = User::attach(&node);
    for name in ["open", "closed"] {
        make_queue(&mut guest, name);
    }
    let publish = |queue: &'static str| Publish {
        token: None,
        lane: Lane(0),
        message: Arc::new(Message::new(
            Address::queue(VhostId::ROOT, queue),
            "m".into(),
        )),
        mandatory: false,
        create: false,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds: false,
    };
    let all = |queues: &[&'static str]| {
        let publishes = queues.iter().map(|queue| publish(queue));
        let commands = session::PublishAll::commands(publishes);
        <[Command; 1]>::try_from(commands).expect("one command")
    };
    let mut user = User::attach_as(&node, "ada", "x");
    user.submit(all(&["open", "closed"]));
    assert!(is_denied(&user.next()));
    user.submit(all(&["open", "open"]));
    let Event::PublishedAll { outcomes, .. } = user.next() else {
        panic!("not published");
    };
    let taken = |it: &PublishOutcome| matches!(it, PublishOutcome::Accepted { matched: 1, .. });
    assert!(outcomes.len() == 2 && outcomes.iter().all(taken));
    // Who may publish only has no use for receipts; nothing was taken of what was refused.
    guest.submit([Command::Pull(session::Pull {
        token: Token(5),
        lane: Lane(0),
        queue: "open".into(),
        count: 10,
        lease: session::Lease::Ms(60_000),
        wait_ms: 0,
        out_max: None,
        bytes_max: None,
        attempt: None,
    })]);
    let Event::Pulled {
        deliveries, epoch, ..
    } = guest.next()
    else {
        panic!("not pulled");
    };
    assert_eq!(deliveries.len(), 2);
    let uses = || {
        let receipt = |delivery: &session::Delivery| {
            let id = delivery.id.expect("it is stored");
            let receipt = session::Receipt {
                queue: id.queue,
                qseq: id.qseq,
                count: delivery.count,
                epoch,
            };
            (receipt, session::ReceiptUse::Delete)
        };
        Command::UseReceipts(Box::new(session::UseReceipts {
            token: Token(6),
            lane: Lane(0),
            uses: deliveries.iter().map(receipt).collect(),
        }))
    };
    user.submit([uses()]);
    assert!(is_denied(&user.next()));
    guest.submit([uses()]);
    let Event::SettledAll { outcomes, .. } = guest.next() else {
        panic!("not settled");
    };
    assert!(
        outcomes.iter().all(|it| matches!(it, Ok(1))),
        "{outcomes:?}"
    );
}

#[test]
fn each_of_several_receipts_is_asked_for_and_no_command_is_longer_than_one_may_be() {
    let dir = directory("rights-of-receipts");
    let rule = Rule {
        allow: vec![Action::Subscribe],
        ..publishes("/", "open")
    };
    let node = Node::start(small(&dir), ada(vec![rule])).expect("it starts");
    let mut guest = User::attach(&node);
    let [open, closed] = ["open", "closed"].map(|name| {
        make_queue(&mut guest, name);
        guest.submit([Command::Inspect {
            token: Token(2),
            lane: Lane(0),
            name: name.into(),
        }]);
        let Event::Inspected { queue, .. } = guest.next() else {
            panic!("not looked at");
        };
        queue.id
    });
    let receipt = |queue: session::QueueId| {
        let receipt = session::Receipt {
            queue,
            qseq: 1,
            count: 1,
            epoch: 1,
        };
        (receipt, session::ReceiptUse::Delete)
    };
    let uses = |queues: &[session::QueueId]| {
        Command::UseReceipts(Box::new(session::UseReceipts {
            token: Token(3),
            lane: Lane(0),
            uses: queues.iter().map(|queue| receipt(*queue)).collect(),
        }))
    };
    let mut reader = User::attach_as(&node, "ada", "x");
    reader.submit([uses(&[open, closed])]);
    assert!(is_denied(&reader.next()));
    reader.submit([uses(&[open])]);
    assert!(matches!(reader.next(), Event::SettledAll { .. }));

    let is_too_large = |event: &Event| matches!(event, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::TooLarge);
    guest.submit([uses(&vec![open; session::UseReceipts::USES_MAX + 1])]);
    assert!(is_too_large(&guest.next()));
    let publishes = |count: usize, len: usize| {
        let address = Address::queue(VhostId::ROOT, "open");
        let publish = Publish {
            token: None,
            lane: Lane(0),
            message: Arc::new(Message::new(address, vec![0; len].into())),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        };
        Command::PublishAll(Box::new(session::PublishAll {
            token: Token(4),
            lane: Lane(0),
            publishes: vec![publish; count],
        }))
    };
    for (count, len) in [(session::PublishAll::PUBLISHES_MAX + 1, 0), (2, 40 << 10)] {
        guest.submit([publishes(count, len)]);
        assert!(is_too_large(&guest.next()), "{count} of {len}");
    }
    guest.submit([publishes(1, 80 << 10)]);
    assert!(matches!(guest.next(), Event::PublishedAll { .. }));
}
