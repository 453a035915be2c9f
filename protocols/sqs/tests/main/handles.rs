//! Receipt handles: DeleteMessage, ChangeMessageVisibility, and their batches; task handles.

use aws::{ApiError, Value};
use message::{Address, Message, VhostId};
use session::{
    Command, Event, MoveState, MoveTask, MoveTo, QueueAttributes, QueueId, Receipt, ReceiptUse,
    RefusalKind,
};

use crate::{
    client::{Client, Dialogue, NOW, TOKEN, With, map, named, queue, refused},
    receiving::{delivery, pulled},
};

/// A handle that a receive from `q` gives.
fn handle(client: &Client) -> String {
    handle_of(client, 8)
}

/// The same of a message of that number.
fn handle_of(client: &Client, qseq: u64) -> String {
    let mut dialogue = client.call("ReceiveMessage", map([("QueueUrl", "q".into())]));
    let message = Message::new(Address::queue(VhostId::ROOT, "q"), "m".into());
    let q = queue("q", QueueAttributes::default());
    let mut received = delivery(message);
    received.id = received.id.map(|id| session::DeliveryId { qseq, ..id });
    dialogue.receive(&q, |_| pulled(vec![received]));
    let output = dialogue.output();
    let handle = output.list("Messages")[0].text("ReceiptHandle");
    handle.expect("every message has one").to_owned()
}

fn with_handle(url: &str, handle: &str) -> Value {
    map([("QueueUrl", url.into()), ("ReceiptHandle", handle.into())])
}

fn used(dialogue: &mut Dialogue, event: Event) -> ReceiptUse {
    let mut to = None;
    dialogue.answer(|command| {
        let Command::UseReceipt(it) = command else {
            panic!("{command:?}");
        };
        assert_eq!(it.receipt, receipt(8));
        to = Some(it.to);
        event
    });
    to.expect("set above")
}

fn receipt(qseq: u64) -> Receipt {
    Receipt {
        queue: QueueId(5),
        qseq,
        count: 2,
        epoch: 4,
    }
}

fn settled() -> Event {
    Event::Settled {
        token: TOKEN,
        known: 1,
    }
}

fn invalid(client: &Client, url: &'static str, handle: &str) -> ApiError {
    let mut dialogue = client.call("DeleteMessage", with_handle(url, handle));
    dialogue.look(&queue(url, QueueAttributes::default()));
    dialogue.error()
}

#[test]
fn a_handle_names_one_receive_and_needs_no_look_at_the_queue() {
    let client = Client::default();
    let handle = handle(&client);
    let mut dialogue = client.call("DeleteMessage", with_handle("q", &handle));
    assert_eq!(used(&mut dialogue, settled()), ReceiptUse::Delete);
    assert_eq!(dialogue.output(), Value::empty());
    // Known again by another process with the same store, and for another caller.
    let other = Client {
        random: [1; 32],
        now: NOW.plus_ms(5000),
        ..Client::default()
    };
    let mut dialogue = other.call("DeleteMessage", with_handle("q", &handle));
    used(&mut dialogue, settled());
}

#[test]
fn a_handle_of_another_queue_or_none_is_refused() {
    let client = Client::default();
    let handle = handle(&client);
    let error = invalid(&client, "p", &handle);
    assert_eq!(error.code, "ReceiptHandleIsInvalid");
    assert_eq!(error.message, "The input receipt handle is invalid.");
    for other in ["", "unknown-stuff", &handle[4..], &format!("{handle}AAAA")] {
        assert_eq!(invalid(&client, "q", other).code, "ReceiptHandleIsInvalid");
    }
}

#[test]
fn deleting_again_succeeds_and_an_expired_handle_of_a_fifo_queue_does_not() {
    let client = Client::default();
    let handle = handle(&client);
    let deleted = |kind| {
        let mut dialogue = client.call("DeleteMessage", with_handle("q", &handle));
        used(&mut dialogue, refused(kind));
        dialogue
    };
    deleted(RefusalKind::UnknownDelivery).output();
    assert!(
        deleted(RefusalKind::NotOut)
            .error()
            .message
            .ends_with("The receipt handle has expired.")
    );
}

#[test]
fn visibility_is_at_most_twelve_hours_from_the_receive() {
    let client = Client::default();
    let handle = handle(&client);
    let change = |client: &Client, seconds: i64| {
        client.call(
            "ChangeMessageVisibility",
            with_handle("q", &handle).with("VisibilityTimeout", seconds),
        )
    };
    let mut dialogue = change(&client, 43_200);
    assert_eq!(
        used(&mut dialogue, settled()),
        ReceiptUse::Visibility { ms: 43_200_000 }
    );
    dialogue.output();
    let mut dialogue = change(&client, 0);
    assert_eq!(
        used(&mut dialogue, refused(RefusalKind::NotOut)),
        ReceiptUse::Visibility { ms: 0 }
    );
    assert_eq!(
        dialogue.error().query_code.as_deref(),
        Some("AWS.SimpleQueueService.MessageNotInflight")
    );
    let mut dialogue = change(&client, 1);
    used(&mut dialogue, refused(RefusalKind::UnknownDelivery));
    assert_eq!(dialogue.error().code, "InvalidParameterValue");
    let later = Client {
        now: NOW.plus_ms(300_000),
        ..Client::default()
    };
    used(&mut change(&later, 42_900), settled());
    for (client, seconds) in [(&later, 42_901), (&client, 43_201), (&client, -1)] {
        let mut dialogue = change(client, seconds);
        dialogue.look(&queue("q", QueueAttributes::default()));
        assert_eq!(dialogue.error().code, "InvalidParameterValue", "{seconds}");
    }
}

#[test]
fn a_batch_of_handles_is_answered_entry_by_entry() {
    let client = Client::default();
    let handle = handle(&client);
    let entry = |id: &str, handle: &str| map([("Id", id.into()), ("ReceiptHandle", handle.into())]);
    let entries = vec![entry("1", "fake"), entry("2", &handle), entry("3", &handle)];
    let mut dialogue = client.call(
        "DeleteMessageBatch",
        map([("QueueUrl", "q".into()), ("Entries", entries.into())]),
    );
    // What is named again is used again, by itself.
    dialogue.answer_all(|commands| {
        for command in commands {
            let Command::UseReceipts(all) = command else {
                panic!("{command:?}");
            };
            assert_eq!(all.uses, [(receipt(8), ReceiptUse::Delete)]);
        }
        let settled = Event::SettledAll {
            token: TOKEN,
            outcomes: vec![Ok(1)],
        };
        vec![settled, refused(RefusalKind::StorageFull)]
    });
    let failed = |id: &str, sender: bool, code: &str, message: &str| {
        map([
            ("Id", id.into()),
            ("SenderFault", sender.into()),
            ("Code", code.into()),
            ("Message", message.into()),
        ])
    };
    assert_eq!(
        dialogue.output(),
        map([
            ("Successful", vec![map([("Id", "2".into())])].into()),
            (
                "Failed",
                vec![
                    failed(
                        "1",
                        true,
                        "ReceiptHandleIsInvalid",
                        "The input receipt handle \"fake\" is not a valid receipt handle."
                    ),
                    failed("3", false, "ServiceUnavailable", "refused"),
                ]
                .into()
            ),
        ])
    );
    // When none is good, the queue is looked at: perhaps there is none.
    let entries = vec![entry("1", "fake")];
    let input = map([("QueueUrl", "q".into()), ("Entries", entries.into())]);
    let mut dialogue = client.call("ChangeMessageVisibilityBatch", input);
    dialogue.look(&queue("q", QueueAttributes::default()));
    let output = dialogue.output();
    assert_eq!(
        output.list("Failed")[0].text("Code"),
        Some("MissingParameter")
    );
}

#[test]
fn the_receipts_of_a_batch_are_used_in_one_command() {
    let client = Client::default();
    let entries: Vec<Value> = (1..=3)
        .map(|qseq| {
            map([
                ("Id", qseq.to_string().into()),
                ("ReceiptHandle", handle_of(&client, qseq).into()),
                ("VisibilityTimeout", (qseq as i64).into()),
            ])
        })
        .collect();
    let input = map([("QueueUrl", "q".into()), ("Entries", entries.into())]);
    let mut dialogue = client.call("ChangeMessageVisibilityBatch", input.clone());
    dialogue.use_all(|uses| {
        let wanted = [1, 2, 3].map(|qseq| {
            let ms = qseq * 1000;
            (receipt(qseq), ReceiptUse::Visibility { ms })
        });
        assert_eq!(uses, wanted);
        vec![Ok(1), Err(RefusalKind::NotOut), Ok(1)]
    });
    let output = dialogue.output();
    let ids = |list: &str| -> Vec<String> {
        let list = output.list(list).iter();
        list.filter_map(|it| Some(it.text("Id")?.to_owned()))
            .collect()
    };
    assert_eq!(
        (ids("Successful"), ids("Failed")),
        (vec!["1".into(), "3".into()], vec!["2".into()])
    );
    let mut dialogue = client.call("DeleteMessageBatch", input);
    dialogue.use_all(|uses| vec![Ok(1); uses.len()]);
    assert_eq!(dialogue.output().list("Successful").len(), 3);
}

#[test]
fn a_batch_of_handles_without_room_for_any_is_refused_as_a_whole() {
    let client = Client::default();
    let handle = handle(&client);
    let answered = |kinds: &[RefusalKind]| {
        let entry = |id: usize| {
            map([
                ("Id", id.to_string().into()),
                ("ReceiptHandle", handle.as_str().into()),
            ])
        };
        let entries: Vec<Value> = (0..kinds.len()).map(entry).collect();
        let input = map([("QueueUrl", "q".into()), ("Entries", entries.into())]);
        let mut dialogue = client.call("DeleteMessageBatch", input);
        dialogue.answer_all(|_| kinds.iter().map(|kind| refused(*kind)).collect());
        dialogue
    };
    let error = answered(&[RefusalKind::StorageFull; 2]).error();
    assert_eq!((&*error.code, error.status), ("ServiceUnavailable", 503));
    let error = answered(&[RefusalKind::RateExceeded]).error();
    assert_eq!(error.code, "ThrottlingException");
    let mixed = [RefusalKind::StorageFull, RefusalKind::NotOut];
    assert_eq!(answered(&mixed).output().list("Failed").len(), 2);
}

fn dead() -> Value {
    map([(
        "SourceArn",
        "arn:aws:sqs:us-east-1:000000000000:dead".into(),
    )])
}

fn task(state: MoveState) -> MoveTask {
    MoveTask {
        id: [7; 16],
        source: "dead".into(),
        target: None,
        per_second: Some(50),
        state,
        moved: 3,
        planned: 9,
        started: NOW,
        failure: None,
    }
}

fn tasks(tasks: Vec<MoveTask>) -> Event {
    Event::MoveTasks {
        token: TOKEN,
        tasks,
    }
}

#[test]
fn dead_letters_are_moved_back_by_tasks() {
    let client = Client::default();
    let dead_queue = queue("dead", QueueAttributes::default());
    let sources = |dialogue: &mut Dialogue, names: Vec<message::Name>| {
        dialogue.answer(|command| {
            assert!(matches!(command, Command::List { .. }));
            Event::Listed {
                token: TOKEN,
                names,
                more: false,
            }
        });
    };
    let mut dialogue = client.call(
        "StartMessageMoveTask",
        dead().with("MaxNumberOfMessagesPerSecond", 50i64),
    );
    dialogue.look(&dead_queue);
    sources(&mut dialogue, vec!["q".into()]);
    let mut number = None;
    dialogue.answer(|command| {
        let Command::MoveTask {
            to:
                MoveTo::Start {
                    id,
                    source,
                    target: None,
                    per_second: Some(50),
                },
            ..
        } = command
        else {
            panic!("{command:?}");
        };
        assert_eq!(source, "dead");
        number = Some(*id);
        tasks(vec![task(MoveState::Running)])
    });
    let output = dialogue.output();
    let handle = output.text("TaskHandle").expect("it has one").to_owned();
    let cancel = |handle: &str| map([("TaskHandle", handle.into())]);
    // Its source's policy says who may end it.
    let guard = sqs::SERVICE.guard.expect("queues have policies");
    let input = client.input(cancel(&handle));
    let operation = named("CancelMessageMoveTask");
    let subject = (guard.subject)(operation, &input).expect("a queue");
    assert_eq!(subject.name, "dead");
    let deeds = (guard.deeds)(operation, &input);
    assert!(deeds.iter().all(|(_, subject)| subject.name == "dead"));
    let deeds: Vec<&str> = deeds.iter().map(|(action, _)| *action).collect();
    assert_eq!(
        deeds,
        ["ReceiveMessage", "DeleteMessage", "GetQueueAttributes"]
    );
    let mut dialogue = client.call("CancelMessageMoveTask", cancel(&handle));
    dialogue.answer(|command| {
        assert!(matches!(command, Command::MoveTask { to: MoveTo::Cancel { id }, .. } if Some(*id) == number));
        tasks(vec![task(MoveState::Cancelled)])
    });
    assert_eq!(
        dialogue.output(),
        map([("ApproximateNumberOfMessagesMoved", 3i64.into())])
    );
    let mut dialogue = client.call("CancelMessageMoveTask", cancel(&handle));
    dialogue.refuse(RefusalKind::NotFound);
    let error = dialogue.error();
    assert_eq!(
        (&error.code[..], error.status),
        ("ResourceNotFoundException", 404)
    );
    assert_eq!(
        client.error("CancelMessageMoveTask", cancel("x")).code,
        "InvalidParameterValue"
    );

    let mut dialogue = client.call("ListMessageMoveTasks", dead().with("MaxResults", 10i64));
    dialogue.look(&dead_queue);
    dialogue.answer(|_| tasks(vec![task(MoveState::Running), task(MoveState::Completed)]));
    let output = dialogue.output();
    let results = output.list("Results");
    assert_eq!(results[0].text("Status"), Some("RUNNING"));
    assert!(results[0].text("TaskHandle").is_some());
    assert_eq!(results[0].int("ApproximateNumberOfMessagesToMove"), Some(9));
    assert_eq!(results[1].text("Status"), Some("COMPLETED"));
    assert_eq!(results[1].text("TaskHandle"), None);

    // Not a dead-letter queue; a target that is not there; another task.
    let mut dialogue = client.call("StartMessageMoveTask", dead());
    dialogue.look(&dead_queue);
    sources(&mut dialogue, vec![]);
    assert!(
        dialogue
            .error()
            .message
            .ends_with("must be configured as a Dead Letter Queue.")
    );
    let target = dead().with("DestinationArn", "arn:aws:sqs:us-east-1:000000000000:t");
    let mut dialogue = client.call("StartMessageMoveTask", target);
    dialogue.look(&dead_queue);
    sources(&mut dialogue, vec!["q".into()]);
    dialogue.refuse(RefusalKind::NotFound);
    assert!(
        dialogue
            .error()
            .message
            .contains("DestinationArn parameter doesn't exist")
    );
    let mut dialogue = client.call("StartMessageMoveTask", dead());
    dialogue.look(&dead_queue);
    sources(&mut dialogue, vec!["q".into()]);
    dialogue.refuse(RefusalKind::InUse);
    assert!(
        dialogue
            .error()
            .message
            .starts_with("There is already a task running.")
    );
    let rate = dead().with("MaxNumberOfMessagesPerSecond", 501i64);
    assert_eq!(
        client.error("StartMessageMoveTask", rate).code,
        "InvalidParameterValue"
    );
    let arn = map([("SourceArn", "dead".into())]);
    assert_eq!(
        client.error("StartMessageMoveTask", arn).code,
        "InvalidParameterValue"
    );
}

#[test]
fn a_queue_is_a_target_only_if_another_one_says_so_and_tasks_are_limited() {
    let client = Client::default();
    let dead_queue = queue("dead", QueueAttributes::default());
    let source = QueueAttributes {
        redrive: Some(session::Redrive {
            target: "dead".into(),
        }),
        ..QueueAttributes::default()
    };
    let listed =
        |dialogue: &mut Dialogue, wanted: Option<&str>, names: Vec<message::Name>, more| {
            dialogue.answer(|command| {
                let Command::List { list, .. } = command else {
                    panic!("{command:?}");
                };
                assert_eq!(list.after.as_deref(), wanted.map(str::as_bytes));
                Event::Listed {
                    token: TOKEN,
                    names,
                    more,
                }
            });
        };
    // A list of many stops at a name that it has only looked at.
    let mut dialogue = client.call("StartMessageMoveTask", dead());
    dialogue.look(&dead_queue);
    listed(&mut dialogue, None, vec!["a".into()], true);
    dialogue.look(&queue("a", QueueAttributes::default()));
    listed(&mut dialogue, Some("a"), vec![], false);
    assert_eq!(dialogue.error().code, "InvalidParameterValue");
    let mut dialogue = client.call("StartMessageMoveTask", dead());
    dialogue.look(&dead_queue);
    listed(&mut dialogue, None, vec!["b".into()], true);
    dialogue.look(&queue("b", source.clone()));
    // They go back to each of them, so all are looked at.
    listed(&mut dialogue, Some("b"), vec!["c".into(), "d".into()], true);
    dialogue.look(&queue("d", QueueAttributes::default()));
    listed(&mut dialogue, Some("d"), vec![], false);
    dialogue.answer(|command| {
        assert!(matches!(command, Command::MoveTask { .. }));
        refused(RefusalKind::QuotaExceeded)
    });
    let error = dialogue.error();
    assert_eq!((&*error.code, error.status), ("OverLimit", 403));
    // With a destination one is enough.
    let target = dead().with("DestinationArn", "arn:aws:sqs:us-east-1:000000000000:t");
    let mut dialogue = client.call("StartMessageMoveTask", target);
    dialogue.look(&dead_queue);
    listed(&mut dialogue, None, vec!["b".into()], true);
    dialogue.look(&queue("b", source));
    dialogue.look(&queue("t", QueueAttributes::default()));
    dialogue.answer(|_| tasks(vec![task(MoveState::Running)]));
    assert!(dialogue.output().text("TaskHandle").is_some());
}
