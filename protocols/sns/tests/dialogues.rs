//! Dialogues: an operation's input, what it asks of the core, what the core answers, and its answer.

use std::sync::Arc;

use aws::{Answer, ApiError, Call, Input, Settings, Value};
use bytes::Bytes;
use message::{Filter, Levels, Timestamp, VhostId};
use session::{
    Command, Event, Flow, PublishOutcome, Refusal, RefusalKind, Secret, SubscriptionId,
    SubscriptionInfo, SubscriptionSettings, SubscriptionTarget, SubscriptionTo, Token, TopicInfo,
};

const TOKEN: Token = Token(0);
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const TOPIC: &str = "arn:aws:sns:us-east-1:000000000000:news";
const ID: &str = "09090909-0909-0909-0909-090909090909";

/// The answer of an operation, if the core answers each command so. Without a key it has no signature.
fn run(
    operation: &str,
    key: &str,
    value: Value,
    mut core: impl FnMut(&Command) -> Event,
) -> Result<Value, ApiError> {
    let call = Call {
        account: "000000000000".into(),
        region: "us-east-1".into(),
        caller_account: "000000000000".into(),
        vhost: VhostId::ROOT,
        vhost_name: "/".into(),
        vhost_of: |call, _, _| Some(Arc::clone(&call.vhost_name)),
        user: key.into(),
        access_key: key.into(),
        base_url: "http://b".into(),
        path: "/".into(),
        request_id: "r".into(),
        now: NOW,
        random: [9; 32],
        secret: Secret([3; 32]),
        settings: Arc::new(Settings::default()),
        judge: aws::Judge::default(),
    };
    let mut operations = sns::SERVICE.operations.iter();
    let found = operations.find(|it| it.name == operation);
    let run = found.expect("an operation of the service").run;
    let mut flow = run(Input {
        call: Arc::new(call),
        value,
    });
    loop {
        flow = match flow {
            Flow::Ask(commands, then) => then(commands.iter().map(&mut core).collect(), NOW),
            Flow::Done(Answer::Output(output)) => return Ok(output),
            Flow::Done(Answer::Error(error)) => return Err(error),
            _ => panic!("neither a question nor an end"),
        };
    }
}

fn topic() -> Event {
    Event::Topic {
        token: TOKEN,
        topic: Box::new(TopicInfo {
            name: "news".into(),
            address: Levels::collect(["news"]).expect("one level"),
            fifo: None,
            notes: Vec::new(),
            created: NOW,
            version: 1,
            confirmed: 1,
            pending: 0,
            deleted: 0,
        }),
    }
}

/// A subscription of `news`, with its notes in the order of their names.
fn subscription(notes: &[(&'static str, &'static str)]) -> SubscriptionInfo {
    let notes = notes
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    SubscriptionInfo {
        id: SubscriptionId([9; 16]),
        vhost: "/".into(),
        topic: Some("news".into()),
        filter: Filter::All,
        target: SubscriptionTarget::Queue {
            vhost: None,
            name: "$sns".into(),
        },
        settings: SubscriptionSettings::default(),
        confirmed: true,
        identity: "i".into(),
        owner: "guest".into(),
        notes: notes.collect(),
        version: 1,
    }
}

fn told(found: SubscriptionInfo) -> Event {
    Event::Subscription {
        token: TOKEN,
        subscription: Box::new(found),
    }
}

fn refused(kind: RefusalKind) -> Event {
    Event::Published {
        token: TOKEN,
        outcome: PublishOutcome::Refused(Refusal::new(kind, "no room")),
    }
}

#[test]
fn a_subscription_reads_no_pattern_that_matches_nothing() {
    let subscribe = |pattern: &str| {
        let attributes = Value::Map(vec![("bascule.pattern".into(), pattern.into())]);
        let input = Value::from([
            ("TopicArn", TOPIC.into()),
            ("Protocol", "sqs".into()),
            ("Endpoint", "arn:aws:sqs:us-east-1:000000000000:jobs".into()),
            ("Attributes", attributes),
        ]);
        run("Subscribe", "guest", input, |command| match command {
            Command::Topic { .. } => topic(),
            _ => told(subscription(&[("bascule.pattern", "a/#")])),
        })
    };
    assert!(subscribe("a/#").is_ok());
    for nothing in ["$SYS/#", "$queue/jobs", "$share/g/a", "$topic/a"] {
        let error = subscribe(nothing).expect_err(nothing);
        assert_eq!(error.code, "InvalidParameter");
        assert!(error.message.contains("matches nothing"), "{error}");
    }
}

#[test]
fn what_is_of_an_application_is_no_subscription() {
    for of in ["$sns/app/GCM/shop", "$sns", "$sns/sms", "a/b"] {
        let arn = format!("arn:aws:sns:us-east-1:000000000000:{of}:{ID}");
        let named = || Value::from([("SubscriptionArn", arn.as_str().into())]);
        // Whoever asks, the core is not even asked.
        let asked = |operation: &str, key: &str, input: Value| {
            run(operation, key, input, |command| panic!("{command:?}"))
        };
        for key in ["", "guest"] {
            assert_eq!(asked("Unsubscribe", key, named()), Ok(Value::empty()));
        }
        let shown = asked("GetSubscriptionAttributes", "guest", named());
        assert_eq!(shown.expect_err("there is none").code, "NotFound");
        let set = Value::from([
            ("SubscriptionArn", arn.as_str().into()),
            ("AttributeName", "RawMessageDelivery".into()),
            ("AttributeValue", "true".into()),
        ]);
        let set = asked("SetSubscriptionAttributes", "guest", set);
        assert_eq!(set.expect_err("there is none").code, "NotFound");
    }
    // What is one ends by a link.
    let mut is_deleted = false;
    let input = Value::from([("SubscriptionArn", format!("{TOPIC}:{ID}").into())]);
    let ended = run("Unsubscribe", "", input, |command| {
        let Command::Subscription { to, .. } = command else {
            panic!("{command:?}");
        };
        is_deleted |= matches!(**to, SubscriptionTo::Delete { .. });
        told(subscription(&[("Protocol", "sqs")]))
    });
    assert_eq!((ended, is_deleted), (Ok(Value::empty()), true));
}

#[test]
fn the_password_of_an_endpoint_is_not_shown() {
    let found = || {
        subscription(&[
            ("Endpoint", "https://ann:secret@h/hook"),
            ("Owner", "000000000000"),
            ("Protocol", "https"),
            ("TopicArn", TOPIC),
        ])
    };
    let core = |command: &Command| match command {
        Command::Topic { .. } => topic(),
        Command::Subscription { .. } => told(found()),
        Command::ListSubscriptions(_) => Event::ListedSubscriptions {
            token: TOKEN,
            subscriptions: vec![found()],
            more: false,
        },
        other => panic!("{other:?}"),
    };
    for (operation, input) in [
        ("ListSubscriptions", Value::empty()),
        (
            "ListSubscriptionsByTopic",
            Value::from([("TopicArn", TOPIC.into())]),
        ),
    ] {
        let output = run(operation, "guest", input, core).expect("it lists");
        let [shown] = output.list("Subscriptions") else {
            panic!("not one: {output:?}");
        };
        assert_eq!(shown.text("Endpoint"), Some("https://ann:****@h/hook"));
        assert_eq!(shown.text("TopicArn"), Some(TOPIC));
    }
    let input = Value::from([("SubscriptionArn", format!("{TOPIC}:{ID}").into())]);
    let output = run("GetSubscriptionAttributes", "guest", input, core).expect("it shows");
    let shown = output.map("Attributes").iter();
    let mut endpoints = shown.filter(|(name, _)| &**name == "Endpoint");
    let endpoint = endpoints.next().map(|(_, value)| value);
    assert_eq!(endpoint, Some(&"https://ann:****@h/hook".into()));
}

/// Whether SDKs try again that know nothing but codes and statuses: botocore's mode `standard` and the SDK of Rust.
fn is_tried_again(error: &ApiError) -> bool {
    error.status == 503 || error.query_code.as_deref() == Some("Throttling")
}

const WANT_OF_ROOM: [RefusalKind; 5] = [
    RefusalKind::QuotaExceeded,
    RefusalKind::RateExceeded,
    RefusalKind::QueueFull,
    RefusalKind::StorageFull,
    RefusalKind::NotActive,
];

#[test]
fn want_of_room_is_worded_so_that_clients_try_again() {
    for kind in WANT_OF_ROOM {
        assert!(kind.is_want_of_room());
        let input = Value::from([("TopicArn", TOPIC.into()), ("Message", "m".into())]);
        let answer = run("Publish", "guest", input, |command| match command {
            Command::Topic { .. } => topic(),
            _ => refused(kind),
        });
        let error = answer.expect_err("there is no room");
        assert!(is_tried_again(&error), "{kind:?}: {error:?}");
        let status = match kind {
            RefusalKind::StorageFull | RefusalKind::NotActive => 503,
            _ => 400,
        };
        assert_eq!(error.status, status, "{kind:?}");
    }
    // A limit that the model has a name for keeps it.
    let policies = Some(Bytes::from_static(Refusal::POLICIES));
    let full = Refusal::new(RefusalKind::QuotaExceeded, "too many").but_known(policies);
    let input = Value::from([
        ("SubscriptionArn", format!("{TOPIC}:{ID}").into()),
        ("AttributeName", "FilterPolicy".into()),
        ("AttributeValue", r#"{"a":["b"]}"#.into()),
    ]);
    let answer = run(
        "SetSubscriptionAttributes",
        "guest",
        input,
        |command| match command {
            Command::Topic { .. } => topic(),
            Command::Subscription { to, .. } if matches!(**to, SubscriptionTo::Inspect { .. }) => {
                told(subscription(&[("Protocol", "sqs"), ("TopicArn", TOPIC)]))
            }
            _ => Event::Refused {
                token: TOKEN,
                refusal: full.clone(),
            },
        },
    );
    let error = answer.expect_err("one too many");
    assert_eq!(error.code, "FilterPolicyLimitExceeded");
    assert_eq!(error.status, 403);
}

#[test]
fn a_batch_without_room_for_any_entry_is_refused_as_a_whole() {
    let entry = |id: &str| Value::from([("Id", id.into()), ("Message", "m".into())]);
    let answered = |entries: Vec<Value>, kinds: &[Option<RefusalKind>]| {
        let input = Value::from([
            ("TopicArn", TOPIC.into()),
            ("PublishBatchRequestEntries", entries.into()),
        ]);
        let mut kinds = kinds.iter();
        run("PublishBatch", "guest", input, |command| match command {
            Command::Topic { .. } => topic(),
            _ => match kinds.next().expect("one for each entry") {
                Some(kind) => refused(*kind),
                None => Event::Published {
                    token: TOKEN,
                    outcome: PublishOutcome::Accepted {
                        matched: 1,
                        place: None,
                        record: None,
                        sequence: None,
                    },
                },
            },
        })
    };
    let two = || vec![entry("a"), entry("b")];
    for kind in WANT_OF_ROOM {
        let error = answered(two(), &[Some(kind); 2]).expect_err("there is no room");
        assert!(is_tried_again(&error), "{kind:?}: {error:?}");
    }
    let queue_full = Some(RefusalKind::QueueFull);
    let both = [queue_full, Some(RefusalKind::StorageFull)];
    answered(two(), &both).expect_err("there is no room");
    for other in [None, Some(RefusalKind::TooLarge)] {
        let output = answered(two(), &[queue_full, other]).expect("entry by entry");
        assert_eq!(output.list("Failed")[0].text("Code"), Some("Throttling"));
        let good = usize::from(other.is_none());
        assert_eq!(output.list("Successful").len(), good);
        assert_eq!(output.list("Failed").len(), 2 - good);
    }
    // What will never be taken is told beside it.
    let bad = Value::from([("Id", "a".into()), ("Message", "".into())]);
    let output = answered(vec![bad, entry("b")], &[queue_full]).expect("entry by entry");
    assert_eq!(output.list("Failed").len(), 2);
}
