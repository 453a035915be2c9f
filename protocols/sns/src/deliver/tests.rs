//! Deliveries through all their attempts, and subscriptions that nobody confirms, in time that the tests make up.

use std::sync::Mutex;

use aws::{Answer, Call, Input, Settings, Value};
use message::{Address, Filter, Levels, VhostId};
use session::{
    Command, ConsumerId, DeliveryId, Event, First, Flow, PublishOutcome, QueueId,
    SubscriptionSettings, SubscriptionTarget, Token, Via,
};

use super::*;
use crate::steps::set_note;

const SECRET: Secret = Secret([3; 32]);
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const TOPIC: &str = "arn:aws:sns:us-east-1:000000000000:news";

fn topic() -> TopicInfo {
    TopicInfo {
        name: "news".into(),
        address: Levels::collect(["news"]).expect("one level"),
        fifo: None,
        notes: Notes::new(),
        created: NOW,
        version: 1,
        confirmed: 0,
        pending: 0,
        deleted: 0,
    }
}

fn subscription(confirmed: bool, notes: &[(&str, &str)]) -> SubscriptionInfo {
    let mut kept = Notes::new();
    for (name, value) in [
        ("Protocol", "http"),
        ("Endpoint", "http://h/hook"),
        ("TopicArn", TOPIC),
        ("BaseUrl", "http://b"),
    ]
    .iter()
    .chain(notes)
    {
        set_note(&mut kept, name, value);
    }
    SubscriptionInfo {
        id: SubscriptionId([7; 16]),
        vhost: "/".into(),
        topic: Some("news".into()),
        filter: Filter::All,
        target: SubscriptionTarget::Queue {
            vhost: None,
            name: "$sns".into(),
        },
        settings: SubscriptionSettings {
            dead_letter: Some((None, "dead".into())),
            ..SubscriptionSettings::default()
        },
        confirmed,
        identity: "http\0http://h/hook".into(),
        owner: "guest".into(),
        notes: kept,
        version: 1,
    }
}

fn delivery(message: Message, topic: &str) -> Delivery {
    Delivery {
        consumer: ConsumerId(0),
        id: Some(DeliveryId {
            queue: QueueId(1),
            qseq: 1,
        }),
        message: Arc::new(message),
        count: 1,
        redelivered: false,
        resent: false,
        qos: 1,
        retain: false,
        subscriptions: [].into_iter().collect(),
        enqueued: NOW,
        deaths: None,
        readdressed: None,
        first_delivered: None,
        via: Some(Arc::new(Via {
            subscription: SubscriptionId([7; 16]),
            vhost: "/".into(),
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            sequence: 1,
        })),
        first: None,
        record: None,
    }
}

fn plan(delivery: &Delivery, found: Option<&SubscriptionInfo>) -> Result<Plan, Dropped> {
    let topic = topic();
    let known = Known {
        subscription: found,
        topic: Some(&topic),
        secret: SECRET,
        signer: None,
        mail_from: "sns@localhost",
    };
    let task = Task::of(delivery, &SECRET).expect("SNS has asked for it");
    task.plan(delivery, &known)
}

fn published() -> Delivery {
    let levels = Levels::collect(["news"]).expect("one level");
    let address = Address::topic(VhostId::ROOT, levels);
    delivery(Message::new(address, "hello".into()), "news")
}

#[test]
fn a_message_of_another_protocol_has_one_id_at_all_endpoints_and_another_than_the_next() {
    let id = |place: u64, qseq: u64| {
        let mut it = published();
        it.id = Some(DeliveryId {
            queue: QueueId(1),
            qseq: place,
        });
        it.first = Some(Box::new(First {
            queue: QueueId(2),
            qseq,
            time: NOW,
        }));
        let plan = plan(&it, Some(&subscription(true, &[]))).expect("it is sent");
        let Send::Http { headers, .. } = plan.send else {
            panic!("over HTTP");
        };
        let id = headers
            .iter()
            .find(|(name, _)| *name == "x-amz-sns-message-id");
        id.expect("a header").1.clone()
    };
    assert_eq!(id(1, 9), id(2, 9));
    assert_ne!(id(1, 9), id(1, 10));
}

/// When each attempt begins, in seconds, if every one has that outcome; and how it ends.
fn attempts(plan: &Plan, outcome: Outcome) -> (Vec<u64>, Verdict) {
    let (mut at_ms, mut begun) = (0, Vec::new());
    for attempt in 1.. {
        begun.push(at_ms / 1000);
        match judge(outcome, attempt, &plan.retries) {
            Verdict::Again(ms) => at_ms += ms,
            end => return (begun, end),
        }
    }
    unreachable!("retries come to an end");
}

#[test]
fn an_endpoint_that_fails_is_tried_as_the_policy_says_and_then_it_is_a_dead_letter() {
    let policy = r#"{"healthyRetryPolicy":{"numRetries":8,"numNoDelayRetries":2,"numMinDelayRetries":1,"numMaxDelayRetries":2,
        "minDelayTarget":10,"maxDelayTarget":100,"backoffFunction":"linear"},"throttlePolicy":{"maxReceivesPerSecond":5}}"#;
    let found = subscription(true, &[("DeliveryPolicy", policy)]);
    let plan = plan(&published(), Some(&found)).expect("it is sent");
    assert_eq!(plan.per_second, Some(5));
    for outcome in [
        Outcome::NoAnswer,
        Outcome::Status(500),
        Outcome::Status(429),
    ] {
        let (begun, end) = attempts(&plan, outcome);
        // Two at once, one after the least, three from the least to the greatest, two after the greatest.
        assert_eq!(begun, [0, 0, 0, 10, 20, 75, 175, 275, 375]);
        assert_eq!(end, Verdict::Dead);
    }
    for (outcome, verdict) in [
        (Outcome::Status(204), Verdict::Done),
        (Outcome::Status(404), Verdict::Dead),
        (Outcome::Status(301), Verdict::Dead),
        (Outcome::Status(410), Verdict::Gone),
        (Outcome::Never, Verdict::Dead),
    ] {
        assert_eq!(attempts(&plan, outcome), (vec![0], verdict), "{outcome:?}");
    }
    let dead = plan.dead_letter.expect("there is a queue for it");
    assert_eq!((&*dead.vhost, &dead.queue[..]), ("/", &b"dead"[..]));
    let Send::Http { url, body, .. } = plan.send else {
        panic!("{:?}", plan.send);
    };
    assert_eq!((&*url, body), ("http://h/hook", dead.body));
}

#[test]
fn without_a_policy_there_are_three_retries_and_mail_has_fifty_in_six_hours() {
    let found = subscription(true, &[]);
    let by_default = plan(&published(), Some(&found)).expect("it is sent");
    let (begun, _) = attempts(&by_default, Outcome::NoAnswer);
    assert_eq!(begun, [0, 20, 40, 60]);
    let mailbox = [("Protocol", "email"), ("Endpoint", "ada@example.org")];
    let found = subscription(true, &mailbox);
    let mail = plan(&published(), Some(&found)).expect("it is sent");
    let (begun, end) = attempts(&mail, Outcome::NoAnswer);
    assert_eq!((begun.len(), end), (51, Verdict::Dead));
    let last = begun.last().expect("there are some");
    assert!((5 * 3600..7 * 3600).contains(last), "{last}");
}

#[test]
fn nothing_is_sent_to_who_has_not_confirmed_or_is_gone() {
    let pending = subscription(false, &[]);
    assert_eq!(plan(&published(), Some(&pending)), Err(Dropped::Gone));
    assert_eq!(plan(&published(), None), Err(Dropped::Gone));
}

/// What Subscribe publishes for the deliverer.
fn asked_by_subscribe() -> Vec<Message> {
    let call = Call {
        account: "000000000000".into(),
        region: "us-east-1".into(),
        caller_account: "000000000000".into(),
        vhost: VhostId::ROOT,
        vhost_name: "/".into(),
        vhost_of: |call, _, _| Some(Arc::clone(&call.vhost_name)),
        user: "guest".into(),
        access_key: "guest".into(),
        base_url: "http://b".into(),
        path: "/".into(),
        request_id: "r".into(),
        now: NOW,
        random: [9; 32],
        secret: SECRET,
        settings: Arc::new(Settings::default()),
        judge: aws::Judge::default(),
    };
    let members = [
        ("TopicArn", TOPIC.into()),
        ("Protocol", "http".into()),
        ("Endpoint", "http://h/hook".into()),
    ];
    let input = Input {
        call: Arc::new(call),
        value: Value::from(members),
    };
    let published = Mutex::new(Vec::new());
    let token = Token(0);
    let answer = |command: &Command| match command {
        Command::Topic { .. } => Event::Topic {
            token,
            topic: Box::new(topic()),
        },
        Command::Subscription { to, .. } => {
            let SubscriptionTo::Create(new) = &**to else {
                panic!("{to:?}");
            };
            let mut made = subscription(new.confirmed, &[]);
            made.id = new.id;
            Event::Subscription {
                token,
                subscription: Box::new(made),
            }
        }
        Command::Publish(publish) => {
            let mut published = published.lock().expect("nobody panicked");
            published.push((*publish.message).clone());
            Event::Published {
                token,
                outcome: PublishOutcome::Accepted {
                    matched: 1,
                    place: None,
                    record: None,
                    sequence: None,
                },
            }
        }
        other => panic!("{other:?}"),
    };
    let mut flow = subscriptions::subscribe(input);
    loop {
        flow = match flow {
            Flow::Ask(commands, then) => then(commands.iter().map(answer).collect(), NOW),
            Flow::Done(Answer::Output(_)) => break,
            Flow::Done(other) => panic!("{other:?}"),
            _ => panic!("it waits"),
        };
    }
    published.into_inner().expect("nobody panicked")
}

#[test]
fn a_subscription_that_nobody_confirms_in_two_days_is_deleted() {
    let [confirm, lapse] = &asked_by_subscribe()[..] else {
        panic!("a question, and its end");
    };
    assert_eq!(
        (confirm.delay_ms, lapse.delay_ms),
        (0, 2 * 24 * 3600 * 1000)
    );
    let lapse = delivery(lapse.clone(), "$sns");
    let task = Task::of(&lapse, &SECRET).expect("SNS has asked for it");
    let Needs::Subscription(id) = task.needs(&lapse) else {
        panic!("it looks at the subscription");
    };
    let pending = subscription(false, &[]);
    assert_eq!(plan(&lapse, Some(&pending)), Err(Dropped::Lapsed(id)));
    let confirmed = subscription(true, &[]);
    assert_eq!(plan(&lapse, Some(&confirmed)), Err(Dropped::Confirmed));
    assert_eq!(plan(&lapse, None), Err(Dropped::Gone));
    // It is claimed as it was read, so that who confirms it at that moment wins or loses, and nothing in between.
    let SubscriptionTo::Alter {
        version,
        confirmed,
        notes,
        ..
    } = lapsed(&pending)
    else {
        panic!("it is claimed first");
    };
    assert_eq!((version, confirmed), (pending.version, false));
    assert!(note(&notes, "Lapsed").is_some());
    // Nobody else can ask for it.
    let mut forged = (*lapse.message).clone();
    forged.body = "x".into();
    assert_eq!(Task::of(&delivery(forged, "$sns"), &SECRET), None);
}
