//! ReceiveMessage.

use std::sync::Arc;

use aws::{Placed, Places, Signature, Signer, Value, digest};
use bytes::Bytes;
use message::{Address, Message, Timestamp, Value as Property, VhostId};
use session::{
    Command, ConsumerId, Death, DeathReason, Delivery, DeliveryId, Event, Fifo, First, Lease, Pull,
    QueueAttributes, QueueId, QueueInfo, RefusalKind, Secret, SubscriptionId, Via,
};

use crate::client::{Client, NOW, TOKEN, With, map, queue, refused};

pub(crate) fn delivery(message: Message) -> Delivery {
    Delivery {
        consumer: ConsumerId(0),
        id: Some(DeliveryId {
            queue: QueueId(5),
            qseq: 8,
        }),
        message: Arc::new(message),
        count: 2,
        redelivered: true,
        resent: false,
        qos: 1,
        retain: false,
        subscriptions: Default::default(),
        enqueued: Timestamp(1_699_999_999_000),
        deaths: None,
        readdressed: None,
        first_delivered: Some(Timestamp(1_699_999_999_500)),
        via: None,
        first: None,
        record: None,
    }
}

fn foreign(body: &'static [u8]) -> Message {
    Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::from_static(body))
}

pub(crate) fn pulled(deliveries: Vec<Delivery>) -> Event {
    Event::Pulled {
        token: TOKEN,
        deliveries,
        epoch: 4,
        remaining: 0,
    }
}

fn plain() -> QueueInfo {
    queue("q", QueueAttributes::default())
}

fn all() -> Value {
    map([
        ("QueueUrl", "q".into()),
        ("MessageAttributeNames", vec!["All".into()].into()),
        ("MessageSystemAttributeNames", vec!["All".into()].into()),
    ])
}

/// What a receive shows of one delivery.
fn shown_by(client: &Client, queue: &QueueInfo, input: Value, delivery: Delivery) -> Value {
    let mut dialogue = client.call("ReceiveMessage", input);
    dialogue.receive(queue, |_| pulled(vec![delivery]));
    let output = dialogue.output();
    output.list("Messages")[0].clone()
}

fn shown(input: Value, delivery: Delivery) -> Value {
    shown_by(&Client::default(), &plain(), input, delivery)
}

/// What a receive pulls, if there is nothing.
fn pulls_of(queue: &QueueInfo, input: Value) -> Vec<Pull> {
    let client = Client::default();
    let mut dialogue = client.call("ReceiveMessage", input);
    let mut pulls = Vec::new();
    dialogue.receive(queue, |pull| {
        pulls.push(pull.clone());
        pulled(vec![])
    });
    if dialogue.asks() {
        dialogue.answer(|command| {
            let Command::Pull(pull) = command else {
                panic!("{command:?}");
            };
            pulls.push(pull.clone());
            pulled(vec![])
        });
    }
    assert_eq!(dialogue.output(), Value::empty());
    pulls
}

#[test]
fn what_a_receive_does_not_say_the_queue_says() {
    let q = || map([("QueueUrl", "q".into())]);
    let pulls = pulls_of(&plain(), q());
    let [pull] = &pulls[..] else {
        panic!("{pulls:?}");
    };
    assert_eq!((pull.count, pull.lease, pull.wait_ms), (1, Lease::Queue, 0));
    assert_eq!(
        (pull.out_max, pull.bytes_max, pull.attempt.clone()),
        (Some(120_000), Some(1 << 20), None)
    );
    // How long to wait matters only when nothing is there.
    let mut set = plain();
    set.notes = vec![("sqs.ReceiveMessageWaitTimeSeconds".into(), "20".into())];
    let waits: Vec<u64> = pulls_of(&set, q())
        .iter()
        .map(|pull| pull.wait_ms)
        .collect();
    assert_eq!(waits, [0, 20_000]);
    let said = q()
        .with("MaxNumberOfMessages", 10i64)
        .with("VisibilityTimeout", 0i64)
        .with("WaitTimeSeconds", 0i64);
    let pulls = pulls_of(&set, said);
    let [pull] = &pulls[..] else {
        panic!("{pulls:?}");
    };
    assert_eq!(
        (pull.count, pull.lease, pull.wait_ms),
        (10, Lease::Ms(0), 0)
    );
    let pulls = pulls_of(&set, q().with("WaitTimeSeconds", 5i64));
    assert_eq!(
        pulls.iter().map(|pull| pull.wait_ms).collect::<Vec<_>>(),
        [5000]
    );
}

#[test]
fn what_a_receive_may_not_ask_for_is_refused() {
    let client = Client::default();
    for (name, value) in [
        ("MaxNumberOfMessages", 0i64),
        ("MaxNumberOfMessages", 11),
        ("WaitTimeSeconds", -1),
        ("WaitTimeSeconds", 21),
        ("VisibilityTimeout", -1),
        ("VisibilityTimeout", 43_201),
    ] {
        let mut dialogue = client.call(
            "ReceiveMessage",
            map([("QueueUrl", "q".into()), (name, value.into())]),
        );
        dialogue.look(&plain());
        let error = dialogue.error();
        assert_eq!(error.code, "InvalidParameterValue");
        assert!(
            error
                .message
                .starts_with(&format!("Value {value} for parameter {name} is invalid."))
        );
    }
    let names = map([
        ("QueueUrl", "q".into()),
        ("AttributeNames", vec!["Colour".into()].into()),
    ]);
    let mut dialogue = client.call("ReceiveMessage", names);
    dialogue.look(&plain());
    assert_eq!(dialogue.error().code, "InvalidAttributeName");
    // Attempts are for FIFO queues.
    let attempt = |url: &str| {
        map([
            ("QueueUrl", url.into()),
            ("ReceiveRequestAttemptId", "a".into()),
        ])
    };
    let mut dialogue = client.call("ReceiveMessage", attempt("q"));
    dialogue.look(&plain());
    assert_eq!(dialogue.error().code, "InvalidParameterValue");
    let fifo = Fifo {
        dedup_by_content: false,
        dedup_per_group: false,
    };
    let fifo = queue(
        "q.fifo",
        QueueAttributes {
            fifo: Some(fifo),
            ..QueueAttributes::default()
        },
    );
    assert_eq!(
        pulls_of(&fifo, attempt("q.fifo"))[0].attempt.as_deref(),
        Some(&b"a"[..])
    );
    // Too many in flight: an error, but from a FIFO queue nothing.
    let full = |queue: &QueueInfo| {
        let url = String::from_utf8_lossy(&queue.name).into_owned();
        let mut dialogue = client.call("ReceiveMessage", map([("QueueUrl", url.into())]));
        dialogue.receive(queue, |_| refused(RefusalKind::QuotaExceeded));
        dialogue
    };
    assert_eq!(full(&plain()).error().code, "OverLimit");
    assert_eq!(full(&fifo).output(), Value::empty());
    // Who waits because the queue says so is not told either.
    let mut set = plain();
    set.notes = vec![("sqs.ReceiveMessageWaitTimeSeconds".into(), "20".into())];
    let mut dialogue = full(&set);
    dialogue.answer(|command| {
        assert!(matches!(command, Command::Pull(pull) if pull.wait_ms == 20_000));
        pulled(vec![])
    });
    assert_eq!(dialogue.output(), Value::empty());
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let mut message = foreign(b"hello");
    for name in ["Custom1", "Custom2", "Other"] {
        message.properties.push(name, Property::text("v"));
    }
    let names = |wanted: &[&str]| {
        let wanted: Vec<Value> = wanted.iter().map(|name| (*name).into()).collect();
        let input = map([
            ("QueueUrl", "q".into()),
            ("MessageAttributeNames", wanted.into()),
        ]);
        let shown = shown(input, delivery(message.clone()));
        let names: Vec<String> = shown
            .map("MessageAttributes")
            .iter()
            .map(|(name, _)| name.to_string())
            .collect();
        assert_eq!(
            shown.text("MD5OfMessageAttributes").is_some(),
            !names.is_empty()
        );
        assert_eq!(shown.member("Attributes"), None);
        names
    };
    assert!(names(&[]).is_empty());
    assert_eq!(names(&["Custom.*"]), ["Custom1", "Custom2"]);
    assert_eq!(names(&[".*"]), ["Custom1", "Custom2", "Other"]);
    assert_eq!(names(&["All"]), ["Custom1", "Custom2", "Other"]);
    assert_eq!(names(&["Other", "none"]), ["Other"]);
}

#[test]
fn doors_b13_a_receive_is_counted_from_one_and_shows_where_a_dead_letter_came_from() {
    let mut message = foreign(b"hello");
    message.group = Some("g".into());
    let fields = message.fields_mut();
    fields.dedup_id = Some("d".into());
    fields.user_id = Some("someone".into());
    message
        .properties
        .push("AWSTraceHeader", Property::text("Root=1"));
    let mut dead = delivery(message);
    let death = Death {
        queue: "source".into(),
        reason: DeathReason::Deliveries,
        count: 1,
        time: NOW,
        exchange: Bytes::new(),
        key: message::Levels::none(),
        original_ttl_ms: None,
    };
    dead.deaths = Some(Arc::new(vec![death]));
    let shown = shown(all(), dead);
    assert_eq!(
        shown.member("Attributes"),
        Some(&map([
            ("SenderId", "someone".into()),
            ("SentTimestamp", "1699999999000".into()),
            ("ApproximateReceiveCount", "2".into()),
            ("ApproximateFirstReceiveTimestamp", "1699999999500".into()),
            ("MessageDeduplicationId", "d".into()),
            ("MessageGroupId", "g".into()),
            ("AWSTraceHeader", "Root=1".into()),
            (
                "DeadLetterQueueSourceArn",
                "arn:aws:sqs:us-east-1:000000000000:source".into()
            ),
        ]))
    );
    assert_eq!(shown.member("MessageAttributes"), None);
    assert_eq!(
        shown.text("MD5OfBody"),
        Some("5d41402abc4b2a76b9719d911017c592")
    );
}

#[test]
fn doors_d22_a_body_that_sqs_cannot_show_is_base64() {
    let q = || map([("QueueUrl", "q".into())]);
    let binary = shown(q(), delivery(foreign(b"\0\xff")));
    assert_eq!(binary.text("Body"), Some("AP8="));
    let mark = map([
        ("StringValue", "base64".into()),
        ("DataType", "String".into()),
    ]);
    // Told though nobody asked.
    assert_eq!(
        binary.member("MessageAttributes"),
        Some(&map([("bascule.body", mark)]))
    );
    assert_eq!(
        binary.text("MD5OfBody"),
        Some(&digest::hex(&digest::md5(b"AP8="))[..])
    );
    let text = shown(q(), delivery(foreign(b"text")));
    assert_eq!(
        (text.text("Body"), text.member("MessageAttributes")),
        (Some("text"), None)
    );
    assert_eq!(shown(q(), delivery(foreign(b""))).text("Body"), Some(""));
    let mut base64 = plain();
    base64.notes = vec![("sqs.bascule.body".into(), "base64".into())];
    let shown = shown_by(&Client::default(), &base64, q(), delivery(foreign(b"text")));
    assert_eq!(shown.text("Body"), Some("dGV4dA=="));
}

#[test]
fn a_message_without_an_id_of_its_own_has_one_that_no_other_has_in_any_queue_of_any_broker() {
    let id = |secret, queue, qseq, enqueued_ms| {
        let client = Client {
            secret: Secret([secret; 32]),
            ..Client::default()
        };
        let mut it = delivery(foreign(b"m"));
        it.id = Some(DeliveryId {
            queue: QueueId(queue),
            qseq,
        });
        it.enqueued = Timestamp(enqueued_ms);
        let shown = shown_by(&client, &plain(), all(), it);
        shown.text("MessageId").expect("an id").to_owned()
    };
    let one = id(3, 5, 1, 7);
    assert_eq!(one, id(3, 5, 1, 7));
    // Of another store, in a queue that was made anew, the next one, and one that was in memory before a restart.
    for other in [
        id(4, 5, 1, 7),
        id(3, 6, 1, 7),
        id(3, 5, 2, 7),
        id(3, 5, 1, 8),
    ] {
        assert_ne!(one, other);
    }
    assert_eq!(&one[14..15], "8", "a UUID of version 8");
}

#[test]
fn what_came_through_a_topic_is_in_its_envelope() {
    let mut message = foreign(b"{\"a\":1}");
    message.fields_mut().subject = Some("news".into());
    message.fields_mut().message_id = Some(Property::Uuid([0x22; 16]));
    message.properties.push("store", Property::text("books"));
    let mut it = delivery(message);
    it.via = Some(Arc::new(Via {
        subscription: SubscriptionId([0x33; 16]),
        vhost: "billing".into(),
        topic: "t".into(),
        sequence: 4,
    }));
    let mut client = Client::default();
    let place = |account: &str, region: &str, vhost: &str| Placed {
        account: account.into(),
        region: region.into(),
        vhost: vhost.into(),
    };
    let places = vec![
        place("000000000000", "us-east-1", "/"),
        place("111111111111", "eu-west-1", "billing"),
    ];
    client.settings.places = Places::new(places, false, false);
    client.settings.signer = Some(Signer {
        sign: Arc::new(|_, text, base| {
            assert!(text.starts_with("Message\n{\"a\":1}\n"));
            Some(Signature {
                version: "1",
                bytes: vec![1],
                certificate_url: format!("{base}/c.pem"),
            })
        }),
        certificate: Arc::new(|| None),
    });
    let shown = shown_by(&client, &plain(), all(), it);
    assert_eq!(
        shown.text("Body"),
        Some(
            r#"{
  "Type" : "Notification",
  "MessageId" : "22222222-2222-2222-2222-222222222222",
  "TopicArn" : "arn:aws:sns:eu-west-1:111111111111:t",
  "Subject" : "news",
  "Message" : "{\"a\":1}",
  "Timestamp" : "2023-11-14T22:13:19.000Z",
  "SignatureVersion" : "1",
  "Signature" : "AQ==",
  "SigningCertURL" : "http://127.0.0.1:4566/c.pem",
  "UnsubscribeURL" : "http://127.0.0.1:4566/?Action=Unsubscribe&Version=2010-03-31&SubscriptionArn=arn:aws:sns:eu-west-1:111111111111:t:33333333-3333-3333-3333-333333333333",
  "MessageAttributes" : {
    "store" : {"Type":"String","Value":"books"}
  }
}"#
        )
    );
    assert_eq!(shown.member("MessageAttributes"), None);
    assert_ne!(
        shown.text("MessageId"),
        Some("22222222-2222-2222-2222-222222222222")
    );
}

/// Which message an envelope in a queue says that it holds.
fn id_in_envelope(qseq: u64, first: Option<Box<First>>) -> String {
    let mut it = delivery(foreign(b"m"));
    it.id = Some(DeliveryId {
        queue: QueueId(5),
        qseq,
    });
    it.via = Some(Arc::new(Via {
        subscription: SubscriptionId([0x33; 16]),
        vhost: "/".into(),
        topic: "t".into(),
        sequence: 0,
    }));
    it.first = first;
    let shown = shown(all(), it);
    let body = shown.text("Body").expect("an envelope");
    let (_, id) = body.split_once("\"MessageId\" : \"").expect("an id");
    id[..36].to_owned()
}

#[test]
fn a_message_of_another_protocol_has_one_id_in_all_envelopes_and_another_than_the_next() {
    let first = |qseq| {
        Some(Box::new(First {
            queue: QueueId(2),
            qseq,
            time: NOW,
        }))
    };
    assert_eq!(id_in_envelope(1, first(9)), id_in_envelope(2, first(9)));
    assert_ne!(id_in_envelope(1, first(9)), id_in_envelope(1, first(10)));
    // What was kept before that was known.
    assert_eq!(id_in_envelope(1, None), id_in_envelope(1, None));
    assert_ne!(id_in_envelope(1, None), id_in_envelope(2, None));
}

#[test]
fn what_was_sent_comes_back_as_it_was() {
    let client = Client::default();
    let text =
        |kind: &str, value: &str| map([("DataType", kind.into()), ("StringValue", value.into())]);
    let attributes = || {
        let bytes = map([
            ("BinaryValue", Bytes::from_static(b"\0\x01").into()),
            ("DataType", "Binary.png".into()),
        ]);
        map([
            ("a", text("Number.int", "007")),
            ("b", bytes),
            ("c", text("String", "größe")),
        ])
    };
    let input = map([("QueueUrl", "q".into()), ("MessageBody", "derp".into())])
        .with("MessageAttributes", attributes())
        .with(
            "MessageSystemAttributes",
            map([("AWSTraceHeader", text("String", "Root=1"))]),
        )
        .with("MessageGroupId", "tenant");
    let mut dialogue = client.call("SendMessage", input);
    let mut message = None;
    dialogue.answer(|command| {
        let Command::Publish(publish) = command else {
            panic!("{command:?}");
        };
        message = Some(Message::clone(&publish.message));
        Event::Published {
            token: TOKEN,
            outcome: session::PublishOutcome::Accepted {
                matched: 1,
                place: None,
                record: None,
                sequence: None,
            },
        }
    });
    let sent = dialogue.output();
    let received = shown(all(), delivery(message.expect("published")));
    assert_eq!(received.text("MessageId"), sent.text("MessageId"));
    assert_eq!(received.text("MD5OfBody"), sent.text("MD5OfMessageBody"));
    assert_eq!(
        received.text("MD5OfMessageAttributes"),
        sent.text("MD5OfMessageAttributes")
    );
    let bytes = received
        .member("MessageAttributes")
        .and_then(|all| all.member("b"));
    assert_eq!(bytes, attributes().member("b"));
    let number = received
        .member("MessageAttributes")
        .and_then(|all| all.member("a"));
    assert_eq!(number.and_then(|it| it.text("StringValue")), Some("007"));
    assert_eq!(
        number.and_then(|it| it.text("DataType")),
        Some("Number.int")
    );
    let system = received.member("Attributes").expect("asked for");
    assert_eq!(system.text("AWSTraceHeader"), Some("Root=1"));
    assert_eq!(system.text("SenderId"), Some("guest"));
    assert_eq!(system.text("MessageGroupId"), Some("tenant"));
    assert_eq!(system.text("SentTimestamp"), Some(&NOW.0.to_string()[..]));
}
