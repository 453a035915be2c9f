//! SendMessage and SendMessageBatch.

use std::sync::Arc;

use aws::{ApiError, Value};
use bytes::Bytes;
use message::{Message, Value as Property};
use session::{
    Command, DeliveryId, Event, Fifo, Original, PublishOutcome, QueueAttributes, QueueId,
    QueueInfo, Refusal, RefusalKind,
};

use crate::client::{Client, Dialogue, NOW, TOKEN, With, map, queue};

fn one(body: &str) -> Value {
    map([("QueueUrl", "q".into()), ("MessageBody", body.into())])
}

fn fifo(body: &str) -> Value {
    map([
        ("QueueUrl", "q.fifo".into()),
        ("MessageBody", body.into()),
        ("MessageGroupId", "g".into()),
    ])
}

fn fifo_queue(dedup_by_content: bool) -> QueueInfo {
    let fifo = Fifo {
        dedup_by_content,
        dedup_per_group: false,
    };
    queue(
        "q.fifo",
        QueueAttributes {
            fifo: Some(fifo),
            ..QueueAttributes::default()
        },
    )
}

fn text(value: &str) -> Value {
    map([("DataType", "String".into()), ("StringValue", value.into())])
}

fn accepted(qseq: u64) -> Event {
    published(taken(qseq))
}

fn taken(qseq: u64) -> PublishOutcome {
    PublishOutcome::Accepted {
        matched: 1,
        place: Some(DeliveryId {
            queue: QueueId(5),
            qseq,
        }),
        record: None,
        sequence: None,
    }
}

fn published(outcome: PublishOutcome) -> Event {
    Event::Published {
        token: TOKEN,
        outcome,
    }
}

fn message_of(command: &Command) -> Arc<Message> {
    match command {
        Command::Publish(publish) => Arc::clone(&publish.message),
        other => panic!("{other:?}"),
    }
}

/// Sends; what was published, and the output.
fn sent(mut dialogue: Dialogue) -> (Arc<Message>, Value) {
    let mut message = None;
    dialogue.answer(|command| {
        message = Some(message_of(command));
        accepted(7)
    });
    (message.expect("published"), dialogue.output())
}

fn error(input: Value) -> ApiError {
    Client::default().error("SendMessage", input)
}

#[test]
fn a_small_message_is_one_question() {
    let client = Client::default();
    let (message, output) = sent(client.call("SendMessage", one("derp")));
    assert_eq!(message.address.name, "q");
    assert_eq!(message.body, "derp");
    assert!(message.durable);
    assert_eq!(message.created, Some(NOW));
    assert_eq!(message.delay_ms, 0);
    assert_eq!(
        output.text("MD5OfMessageBody"),
        Some("58fd9edd83341c29f1aebba81c31e257")
    );
    assert_eq!(output.text("SequenceNumber"), None);
    assert_eq!(output.text("MD5OfMessageAttributes"), None);
    let id = output.text("MessageId").expect("it has an id");
    let uuid = aws::digest::read_uuid(id).expect("a UUID");
    assert_eq!(message.fields().message_id, Some(Property::Uuid(uuid)));
}

#[test]
fn a_message_with_attributes_has_their_digests() {
    let client = Client::default();
    let input = one("derp")
        .with(
            "MessageAttributes",
            map([(
                "somevalue",
                map([
                    ("DataType", "String.custom".into()),
                    ("StringValue", "somevalue".into()),
                ]),
            )]),
        )
        .with(
            "MessageSystemAttributes",
            map([("AWSTraceHeader", text("Root=1"))]),
        );
    let (message, output) = sent(client.call("SendMessage", input));
    assert_eq!(
        output.text("MD5OfMessageAttributes"),
        Some("9e05cca738e70ff6c6041e82d5e77ef1")
    );
    assert_eq!(
        output.text("MD5OfMessageSystemAttributes").map(str::len),
        Some(32)
    );
    assert_eq!(
        message.properties.first(b"somevalue"),
        Some(&Property::text("somevalue"))
    );
    assert_eq!(
        message.properties.first(b"AWSTraceHeader"),
        Some(&Property::text("Root=1"))
    );
}

#[test]
fn a_delay_of_none_is_not_no_delay() {
    let client = Client::default();
    let delay = |seconds: i64| {
        sent(client.call("SendMessage", one("m").with("DelaySeconds", seconds)))
            .0
            .delay_ms
    };
    assert_eq!(delay(0), Message::AT_ONCE);
    assert_eq!(delay(900), 900_000);
    for seconds in [-1i64, 901] {
        let error = error(one("m").with("DelaySeconds", seconds));
        assert_eq!(
            error.message,
            format!(
                "Value {seconds} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
            )
        );
    }
}

#[test]
fn what_is_no_message_is_refused() {
    assert_eq!(error(one("")).code, "MissingParameter");
    assert_eq!(error(one("a\u{1}")).code, "InvalidMessageContents");
    let many = Value::Map(
        (0..11)
            .map(|n| (format!("a{n}").into(), text("v")))
            .collect(),
    );
    assert!(
        error(one("m").with("MessageAttributes", many))
            .message
            .contains("[11] exceeds")
    );
    let colour = map([("Colour", text("red"))]);
    assert_eq!(
        error(one("m").with("MessageSystemAttributes", colour)).code,
        "InvalidParameterValue"
    );
    let long = "g".repeat(129);
    for group in ["", "two words", &long[..]] {
        assert_eq!(
            error(one("m").with("MessageGroupId", group)).code,
            "InvalidParameterValue"
        );
    }
    assert_eq!(
        error(one("m").with("MessageDeduplicationId", "d")).message,
        "Value d for parameter MessageDeduplicationId is invalid. Reason: The request include parameter that is not valid for this \
         queue type."
    );
}

#[test]
fn a_larger_message_is_judged_by_its_queue() {
    let client = Client::default();
    let large = "b".repeat(1025);
    let mut queue = queue("q", QueueAttributes::default());
    let mut dialogue = client.call("SendMessage", one(&large));
    dialogue.look(&queue);
    sent(dialogue);
    queue.notes = vec![("sqs.MaximumMessageSize".into(), "1024".into())];
    let mut dialogue = client.call("SendMessage", one(&large));
    dialogue.look(&queue);
    assert_eq!(
        dialogue.error().message,
        "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."
    );
    // Attributes count.
    let input = one(&"b".repeat(1018)).with("MessageAttributes", map([("a", text("1"))]));
    let mut dialogue = client.call("SendMessage", input);
    dialogue.look(&queue);
    assert_eq!(dialogue.error().code, "InvalidParameterValue");
}

#[test]
fn fifo_queues_want_a_group_and_a_deduplication_id() {
    let client = Client::default();
    let (message, output) =
        sent(client.call("SendMessage", fifo("m").with("MessageDeduplicationId", "d")));
    assert_eq!(message.group.as_deref(), Some(&b"g"[..]));
    assert_eq!(message.fields().dedup_id.as_deref(), Some(&b"d"[..]));
    assert_eq!(output.text("SequenceNumber"), Some("00000000000000000007"));

    let group = map([
        ("QueueUrl", "q.fifo".into()),
        ("MessageBody", "m".into()),
        ("MessageDeduplicationId", "d".into()),
    ]);
    let missing = error(group);
    assert_eq!(missing.code, "MissingParameter");
    assert_eq!(
        missing.message,
        "The request must contain the parameter MessageGroupId."
    );
    let delayed = fifo("m")
        .with("MessageDeduplicationId", "d")
        .with("DelaySeconds", 5i64);
    assert_eq!(
        error(delayed).message,
        "Value 5 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue \
         type."
    );
    // A FIFO queue's own delay holds for all its messages.
    let input = fifo("m")
        .with("MessageDeduplicationId", "d")
        .with("DelaySeconds", 0i64);
    assert_eq!(sent(client.call("SendMessage", input)).0.delay_ms, 0);

    let mut dialogue = client.call("SendMessage", fifo("m"));
    dialogue.look(&fifo_queue(false));
    assert!(
        dialogue
            .error()
            .message
            .starts_with("The queue should either have ContentBasedDeduplication")
    );
    let mut dialogue = client.call("SendMessage", fifo("abc"));
    dialogue.look(&fifo_queue(true));
    let (message, _) = sent(dialogue);
    assert_eq!(
        message.fields().dedup_id.as_deref(),
        Some(&b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"[..])
    );
}

#[test]
fn a_repeat_is_answered_with_the_original() {
    let client = Client::default();
    let mut dialogue = client.call("SendMessage", fifo("m").with("MessageDeduplicationId", "d"));
    dialogue.answer(|_| {
        published(PublishOutcome::Duplicate {
            of: Some(Original {
                place: DeliveryId {
                    queue: QueueId(5),
                    qseq: 3,
                },
                message_id: Some([0x11; 16]),
            }),
        })
    });
    let output = dialogue.output();
    assert_eq!(
        output.text("MessageId"),
        Some("11111111-1111-1111-1111-111111111111")
    );
    assert_eq!(output.text("SequenceNumber"), Some("00000000000000000003"));
}

#[test]
fn what_the_core_refuses_is_told_so_that_clients_do_what_helps() {
    let client = Client::default();
    let refused = |kind| {
        let mut dialogue = client.call("SendMessage", one("m"));
        dialogue.answer(|_| published(PublishOutcome::Refused(Refusal::new(kind, "no"))));
        let error = dialogue.error();
        (error.code.into_owned(), error.status)
    };
    assert_eq!(
        refused(RefusalKind::StorageFull),
        ("ServiceUnavailable".into(), 503)
    );
    assert_eq!(
        refused(RefusalKind::NotActive),
        ("ServiceUnavailable".into(), 503)
    );
    assert_eq!(
        refused(RefusalKind::QueueFull),
        ("ThrottlingException".into(), 400)
    );
    assert_eq!(
        refused(RefusalKind::AccessDenied),
        ("AccessDeniedException".into(), 403)
    );
    assert_eq!(
        refused(RefusalKind::TooLarge),
        ("InvalidParameterValue".into(), 400)
    );
    let mut dialogue = client.call("SendMessage", one("m"));
    dialogue.answer(|_| {
        published(PublishOutcome::Accepted {
            matched: 0,
            place: None,
            record: None,
            sequence: None,
        })
    });
    assert_eq!(dialogue.error().code, "QueueDoesNotExist");
}

#[test]
fn doors_d22_base64_is_decoded_on_the_way_in() {
    let client = Client::default();
    let input = |body: &str| {
        one(body).with(
            "MessageAttributes",
            map([("bascule.body", text("base64")), ("a", text("v"))]),
        )
    };
    let (message, output) = sent(client.call("SendMessage", input("AP8=")));
    assert_eq!(message.body, Bytes::from_static(b"\0\xff"));
    assert_eq!(message.body_kind, message::BodyKind::Bytes);
    assert_eq!(message.properties.0.len(), 1);
    // The digest is that of what was sent.
    assert_eq!(
        output.text("MD5OfMessageBody"),
        Some(&aws::digest::hex(&aws::digest::md5(b"AP8="))[..])
    );
    let refused = error(input("A"));
    assert_eq!(refused.code, "InvalidParameterValue");
    assert_eq!(
        refused.message,
        "Invalid value for the parameter MessageBody. Reason: It is not base64, though the message attribute bascule.body says so."
    );
}

fn entry(id: &str, body: &str) -> Value {
    map([("Id", id.into()), ("MessageBody", body.into())])
}

fn batch(url: &str, entries: Vec<Value>) -> Value {
    map([("QueueUrl", url.into()), ("Entries", entries.into())])
}

#[test]
fn a_batch_is_answered_entry_by_entry() {
    let client = Client::default();
    let entries = vec![
        entry("a", "1"),
        entry("b", "2").with("DelaySeconds", 1800i64),
        entry("c", "3"),
        entry("d", "4"),
    ];
    let mut dialogue = client.call("SendMessageBatch", batch("q", entries));
    dialogue.publish_all(|publishes| {
        let bodies: Vec<Bytes> = publishes.iter().map(|it| it.message.body.clone()).collect();
        assert_eq!(bodies, ["1", "3", "4"]);
        let full = PublishOutcome::Refused(Refusal::new(RefusalKind::StorageFull, "full"));
        vec![taken(1), full, taken(2)]
    });
    let output = dialogue.output();
    let ids = |name: &str| -> Vec<String> {
        output
            .list(name)
            .iter()
            .filter_map(|it| it.text("Id").map(str::to_owned))
            .collect()
    };
    assert_eq!(
        (ids("Successful"), ids("Failed")),
        (vec!["a".into(), "d".into()], vec!["b".into(), "c".into()])
    );
    let failed = output.list("Failed");
    assert_eq!(failed[0].text("Code"), Some("InvalidParameterValue"));
    assert!(failed[0].flag("SenderFault") && !failed[1].flag("SenderFault"));
    let message_ids: Vec<_> = output
        .list("Successful")
        .iter()
        .map(|it| it.text("MessageId"))
        .collect();
    assert_ne!(message_ids[0], message_ids[1]);
}

#[test]
fn a_batch_without_room_for_any_entry_is_refused_as_a_whole() {
    let client = Client::default();
    let answered = |entries: Vec<Value>, kinds: &[RefusalKind]| {
        let mut dialogue = client.call("SendMessageBatch", batch("q", entries));
        let refusal = |kind: &RefusalKind| PublishOutcome::Refused(Refusal::new(*kind, "no"));
        dialogue.publish_all(|_| kinds.iter().map(refusal).collect());
        dialogue
    };
    let two = || vec![entry("a", "1"), entry("b", "2")];
    for (kind, code, status) in [
        (RefusalKind::StorageFull, "ServiceUnavailable", 503),
        (RefusalKind::NotActive, "ServiceUnavailable", 503),
        (RefusalKind::QueueFull, "ThrottlingException", 400),
        (RefusalKind::RateExceeded, "ThrottlingException", 400),
    ] {
        let error = answered(two(), &[kind, kind]).error();
        assert_eq!((&*error.code, error.status), (code, status), "{kind:?}");
    }
    answered(two(), &[RefusalKind::QueueFull, RefusalKind::StorageFull]).error();
    // What will never be taken is told beside it.
    let mixed = [RefusalKind::StorageFull, RefusalKind::TooLarge];
    assert_eq!(answered(two(), &mixed).output().list("Failed").len(), 2);
    let entries = vec![
        entry("a", "1").with("DelaySeconds", 1800i64),
        entry("b", "2"),
    ];
    let output = answered(entries, &[RefusalKind::StorageFull]).output();
    assert_eq!(output.list("Failed").len(), 2);
}

#[test]
fn a_batch_that_is_none_is_refused_as_a_whole() {
    let client = Client::default();
    let refused = |entries: Vec<Value>| {
        let mut dialogue = client.call("SendMessageBatch", batch("q", entries));
        dialogue.look(&queue("q", QueueAttributes::default()));
        let error = dialogue.error();
        (
            error.query_code.unwrap_or_default().into_owned(),
            error.message.into_owned(),
        )
    };
    let named = |code: &str| format!("AWS.SimpleQueueService.{code}");
    assert_eq!(
        refused(vec![]),
        (
            named("EmptyBatchRequest"),
            "There should be at least one SendMessageBatchRequestEntry in the request.".into()
        )
    );
    let long = "i".repeat(81);
    for id in ["", ".!@", &long[..]] {
        assert_eq!(
            refused(vec![entry(id, "m")]).0,
            named("InvalidBatchEntryId")
        );
    }
    assert_eq!(
        refused(vec![
            entry("1", "m"),
            entry("2", "m"),
            entry("2", "m"),
            entry("1", "m")
        ]),
        (named("BatchEntryIdsNotDistinct"), "Id 2 repeated.".into())
    );
    let many = (0..11).map(|n| entry(&n.to_string(), "m")).collect();
    assert_eq!(
        refused(many),
        (
            named("TooManyEntriesInBatchRequest"),
            "Maximum number of entries per request are 10. You have sent 11.".into()
        )
    );
    let half = "b".repeat(1 << 19);
    assert_eq!(
        refused(vec![entry("1", &half), entry("2", &half), entry("3", "b")]),
        (
            named("BatchRequestTooLong"),
            "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes."
                .into()
        )
    );
    // So is one to a FIFO queue that lacks what each message there must have.
    let error = client.error(
        "SendMessageBatch",
        batch(
            "q.fifo",
            vec![entry("1", "m").with("MessageDeduplicationId", "d")],
        ),
    );
    assert_eq!(error.code, "MissingParameter");
    let without = entry("1", "m").with("MessageGroupId", "g");
    let mut dialogue = client.call("SendMessageBatch", batch("q.fifo", vec![without]));
    dialogue.look(&fifo_queue(false));
    assert_eq!(dialogue.error().code, "InvalidParameterValue");
    // And one to a queue that is not there.
    let mut dialogue = client.call("SendMessageBatch", batch("q", vec![entry("1", "m")]));
    dialogue.publish_all(|_| {
        vec![PublishOutcome::Accepted {
            matched: 0,
            place: None,
            record: None,
            sequence: None,
        }]
    });
    assert_eq!(dialogue.error().code, "QueueDoesNotExist");
}

#[test]
fn a_batch_that_the_core_refuses_as_a_whole_failed_in_each_entry() {
    let client = Client::default();
    let two = vec![entry("a", "1"), entry("b", "2")];
    let mut dialogue = client.call("SendMessageBatch", batch("q", two));
    dialogue.refuse(RefusalKind::AccessDenied);
    let output = dialogue.output();
    let failed = output.list("Failed");
    let ids: Vec<_> = failed.iter().filter_map(|it| it.text("Id")).collect();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn a_repeat_in_a_fifo_batch_is_told_of_the_message_that_it_repeats() {
    let client = Client::default();
    let message = |id: &str| {
        entry(id, "m")
            .with("MessageGroupId", "g")
            .with("MessageDeduplicationId", "d")
    };
    let entries = vec![message("a"), message("b")];
    let mut dialogue = client.call("SendMessageBatch", batch("q.fifo", entries));
    dialogue.answer_all(|commands| {
        let [Command::Publish(_), Command::Publish(_)] = commands else {
            panic!("{commands:?}");
        };
        let original = Original {
            place: DeliveryId {
                queue: QueueId(5),
                qseq: 7,
            },
            message_id: None,
        };
        let repeated = PublishOutcome::Duplicate { of: Some(original) };
        vec![accepted(7), published(repeated)]
    });
    let output = dialogue.output();
    let sent = output.list("Successful").iter();
    let numbers: Vec<_> = sent.filter_map(|it| it.text("SequenceNumber")).collect();
    assert_eq!(numbers, ["00000000000000000007"; 2]);
}

#[test]
fn short_bodies_of_a_batch_lie_behind_each_other_and_long_ones_by_themselves() {
    let client = Client::default();
    let bodies = [
        "a".repeat(100),
        "b".repeat(1025),
        "c".into(),
        "d".repeat(1024),
    ];
    let entries = (bodies.iter().zip(["a", "b", "c", "d"])).map(|(body, id)| entry(id, body));
    let mut dialogue = client.call("SendMessageBatch", batch("q", entries.collect()));
    dialogue.look(&queue("q", QueueAttributes::default()));
    dialogue.publish_all(|publishes| {
        let messages: Vec<&Message> = publishes.iter().map(|it| &*it.message).collect();
        let sent: Vec<&[u8]> = messages.iter().map(|it| &it.body[..]).collect();
        let all: Vec<&[u8]> = bodies.iter().map(|it| it.as_bytes()).collect();
        assert!(sent == all);
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| sent[at].as_ptr_range());
        assert_eq!((a.end, c.end), (c.start, d.start));
        assert_ne!((a.end, b.end), (b.start, c.start));
        let heads = messages
            .iter()
            .map(|it| it.native.as_ref().map(|it| it.head.as_ptr()));
        assert!(heads.is_sorted_by(|a, b| a.is_some() && a == b));
        (0..4).map(taken).collect()
    });
    assert_eq!(dialogue.output().list("Successful").len(), 4);
}
