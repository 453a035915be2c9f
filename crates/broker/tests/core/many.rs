//! Several publishes, or several receipts, in one command: what becomes of them is what becomes of as many commands.

use std::sync::Arc;

use broker::{Broker, OutLane};
use message::{Address, Levels, Message, VhostId};
use session::{
    Command, Credit, Event, Lane, Overflow, Publish, PublishAll, PublishOutcome, QueueAttributes,
    Receipt, ReceiptUse, RefusalKind, SessionId, ShardLimits, StreamStart, Token, UseReceipts,
};

use crate::{
    pulls::{receive, used},
    queues::dead_letter_to,
    rig::{Rig, to_queue},
    streams::{shown, to_stream},
};

fn publish_of(token: Option<Token>, message: &Message) -> Publish {
    Publish {
        token,
        lane: Lane(0),
        message: message.clone().into(),
        mandatory: false,
        create: false,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds: false,
    }
}

pub(crate) fn publish_all(
    rig: &mut Rig,
    from: SessionId,
    messages: &[Message],
) -> Vec<PublishOutcome> {
    let publishes = messages.iter().map(|message| publish_of(None, message));
    let mut all = Vec::new();
    for mut command in PublishAll::commands(publishes) {
        let token = rig.token();
        *command.token_mut().expect("it is answered") = token;
        rig.command(from, command);
        let Some(Event::PublishedAll { outcomes, .. }) = rig.found(from, token) else {
            panic!("{:?}", rig.found(from, token));
        };
        all.extend(outcomes);
    }
    all
}

/// The same in commands of their own that came together.
pub(crate) fn publish_together(
    rig: &mut Rig,
    from: SessionId,
    messages: &[Message],
) -> Vec<PublishOutcome> {
    let publishes: Vec<Publish> = messages
        .iter()
        .map(|message| publish_of(Some(rig.token()), message))
        .collect();
    // Who wants to know more than that it was accepted is told of each by itself.
    assert!(!publishes.iter().any(Broker::may_come_together));
    let folded = |publish: &Publish| Publish {
        folds: true,
        ..publish.clone()
    };
    let mut folds = publishes.iter().map(folded);
    assert!(folds.all(|publish| Broker::may_come_together(&publish)));
    let mut decided = 0;
    rig.run(|broker, cx, out| {
        decided = broker.decide_publishes(from, publishes.iter(), cx, out);
        if decided == 0 {
            out.clear();
        }
    });
    if decided == 0 {
        for publish in &publishes {
            rig.command(from, Command::Publish(publish.clone()));
        }
    } else {
        assert_eq!(decided, publishes.len());
    }
    let told = |publish: &Publish| {
        let token = publish.token.expect("set above");
        match rig.found(from, token) {
            Some(Event::Published { outcome, .. }) => outcome,
            other => panic!("{other:?}"),
        }
    };
    publishes.iter().map(told).collect()
}

#[test]
fn what_one_of_those_that_come_together_pushes_out_of_another_goes_where_it_would_by_itself() {
    let play = |together: bool| {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        let dropping = |to: &'static str| QueueAttributes {
            length_max: Some(1),
            overflow: Overflow::DropHead,
            dead_letter: dead_letter_to(to),
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, "end", QueueAttributes::default());
        rig.durable_queue(a, "second", dropping("end"));
        rig.durable_queue(a, "first", dropping("second"));
        let messages: Vec<Message> = (0..6)
            .map(|number| {
                let mut message = to_queue("first", &format!("m{number}"));
                message.durable = true;
                message
            })
            .collect();
        rig.publish(a, messages[0].clone());
        if together {
            publish_together(&mut rig, a, &messages[1..]);
        } else {
            for message in &messages[1..] {
                rig.publish(a, message.clone());
            }
        }
        let mut number = 1;
        ["first", "second", "end"].map(|name| {
            number += 1;
            let reader = rig.attach(number);
            rig.consume(reader, number, name, Credit::Window(10));
            rig.bodies(reader)
        })
    };
    let by_itself = play(false);
    assert_eq!(by_itself.each_ref().map(Vec::len), [1, 1, 4]);
    assert_eq!(play(true), by_itself);
}

fn use_all(
    rig: &mut Rig,
    by: SessionId,
    uses: &[(Receipt, ReceiptUse)],
) -> Vec<Result<u32, RefusalKind>> {
    let token = rig.token();
    let command = Command::UseReceipts(Box::new(UseReceipts {
        token,
        lane: Lane(0),
        uses: uses.to_vec(),
    }));
    rig.command(by, command);
    let Some(Event::SettledAll { outcomes, .. }) = rig.found(by, token) else {
        panic!("{:?}", rig.found(by, token));
    };
    let kind = |outcome: Result<u32, session::Refusal>| outcome.map_err(|it| it.kind);
    outcomes.into_iter().map(kind).collect()
}

/// A queue that takes three, one that takes all, and a limited stream of two shards.
fn ready() -> (Rig, SessionId) {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(
        a,
        "three",
        QueueAttributes {
            length_max: Some(3),
            overflow: Overflow::RejectPublish,
            ..QueueAttributes::default()
        },
    );
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.make(a, "s", 2);
    rig.alter(a, "s", |it| {
        it.record_len_max = Some(100);
        it.limits = Some(ShardLimits {
            write_records: 3,
            write_bytes: 0,
            reads: 0,
            read_bytes: 0,
        });
    });
    (rig, a)
}

#[test]
fn publishes_of_one_command_are_judged_as_those_of_many() {
    let mut messages = Vec::new();
    for at in 0..5 {
        let body = at.to_string();
        messages.push(to_queue("three", &body));
        messages.push(to_stream("s", "a", &body));
        messages.push(to_queue("q", &body));
        messages.push(to_stream("s", "b", &body));
    }
    messages.push(to_stream("s", "b", &"x".repeat(200)));
    messages.push(to_queue("nowhere", "x"));
    messages.push(to_stream("nowhere", "k", "x"));
    messages
        .iter_mut()
        .for_each(|message| message.durable = true);

    let (mut one_by_one, a) = ready();
    let singly: Vec<_> = messages
        .iter()
        .map(|message| one_by_one.publish(a, message.clone()))
        .collect();
    let (mut at_once, a) = ready();
    assert_eq!(publish_all(&mut at_once, a, &messages), singly);
    let (mut together, b) = ready();
    assert_eq!(publish_together(&mut together, b, &messages), singly);
    assert_eq!(together.snapshot(), one_by_one.snapshot());
    together.check_replay();
    // The one that is full, either shard, the long one, and the stream that is not there.
    let refused = |it: &&PublishOutcome| matches!(it, PublishOutcome::Refused(_));
    assert_eq!(singly.iter().filter(refused).count(), 2 + 2 + 2 + 1 + 1);
    assert_eq!(at_once.snapshot(), one_by_one.snapshot());
    let found = at_once.read_shard(a, "s", 0, StreamStart::First, 10);
    let bodies: Vec<_> = shown(&found).into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, ["0", "1", "2"]);
    let counted = |rig: &Rig| {
        let counters = rig.broker.counters();
        (
            counters.published,
            counters.unmatched,
            counters.refused_publishes,
        )
    };
    assert_eq!(counted(&at_once), counted(&one_by_one));
    assert_eq!(counted(&together), counted(&one_by_one));
    at_once.check_replay();
}

#[test]
fn records_of_one_command_lie_in_the_shards_of_their_own_keys() {
    // As the Kinesis door makes them: one address, and the key is the group. One has no key, and one an address of its own.
    let address = Arc::new(Address::stream(VhostId::ROOT, "s", Levels::none()));
    let mut messages = Vec::new();
    for at in 0..30 {
        let mut message = Message::new(Arc::clone(&address), at.to_string().into());
        message.group = Some(format!("key {at}").into());
        message.durable = true;
        messages.push(message);
    }
    let alike = messages.clone();
    messages[11].group = None;
    let mut keyless = messages.clone();
    keyless.push(to_stream("s", "a", "x"));
    for messages in [alike, messages, keyless] {
        let [mut one_by_one, mut at_once] = [Rig::new(), Rig::new()];
        let shards = |outcomes: Vec<PublishOutcome>| -> Vec<u32> {
            let place = |outcome| match outcome {
                PublishOutcome::Accepted { record, .. } => record.expect("a record").shard.0,
                other => panic!("{other:?}"),
            };
            outcomes.into_iter().map(place).collect()
        };
        let a = one_by_one.attach(1);
        one_by_one.make(a, "s", 4);
        let singly = messages.iter().map(|it| one_by_one.publish(a, it.clone()));
        let singly = shards(singly.collect());
        let a = at_once.attach(1);
        at_once.make(a, "s", 4);
        assert_eq!(shards(publish_all(&mut at_once, a, &messages)), singly);
        assert!((0..4).all(|shard| singly.contains(&shard)), "{singly:?}");
    }
}

#[test]
fn what_is_accepted_together_is_told_together_where_that_will_do() {
    let (mut rig, a) = ready();
    let publishes: Vec<Publish> = [
        (0, "q", true),
        (0, "three", true),
        (0, "q", false),
        (0, "q", true),
        (0, "nowhere", true),
        (0, "q", true),
        (0, "q", true),
        (1, "q", true),
    ]
    .into_iter()
    .map(|(lane, queue, folds)| Publish {
        token: Some(rig.token()),
        lane: Lane(lane),
        message: to_queue(queue, "x").into(),
        mandatory: false,
        create: false,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds,
    })
    .collect();
    let before = rig.told[&a].len();
    rig.run(|broker, cx, out| {
        assert_eq!(broker.decide_publishes(a, publishes.iter(), cx, out), 8);
    });
    let first = publishes[0].token.expect("set above").0;
    let told: Vec<(u32, Vec<u64>)> = rig.told[&a][before..]
        .iter()
        .map(|told| {
            let tokens = match &told.event {
                Event::Accepted { tokens } => tokens.iter().map(|it| it.0 - first).collect(),
                Event::Published { token, .. } => vec![100 + token.0 - first],
                other => panic!("{other:?}"),
            };
            match told.lane {
                OutLane::Reply(lane) => (lane.0, tokens),
                OutLane::Consumer(_) => panic!("a reply"),
            }
        })
        .collect();
    let expected = [
        (0, vec![0, 1]),
        (0, vec![102]),
        (0, vec![3]),
        (0, vec![104]),
        (0, vec![5, 6]),
        (1, vec![7]),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_comes_together_pushes_out_what_came_in_front_of_it() {
    let pushed = |publish: fn(&mut Rig, SessionId, &[Message]) -> Vec<PublishOutcome>| {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        rig.durable_queue(
            a,
            "two",
            QueueAttributes {
                length_max: Some(2),
                overflow: Overflow::DropHead,
                ..QueueAttributes::default()
            },
        );
        let mut messages = ["0", "1", "2", "3", "4"].map(|body| to_queue("two", body));
        messages[..4].iter_mut().for_each(|it| it.durable = true);
        publish(&mut rig, a, &messages[..1]);
        publish(&mut rig, a, &messages[1..]);
        rig.consume(a, 1, "two", Credit::Settled);
        rig.check_replay();
        rig.bodies(a)
    };
    let singly = |rig: &mut Rig, a, messages: &[Message]| {
        let messages = messages.iter().cloned();
        messages.map(|message| rig.publish(a, message)).collect()
    };
    assert_eq!(pushed(singly), ["3", "4"]);
    assert_eq!(pushed(publish_together), ["3", "4"]);
}

#[test]
fn what_is_refused_is_no_original_of_what_comes_in_the_same_command() {
    let judged = |publish: fn(&mut Rig, SessionId, &[Message]) -> Vec<PublishOutcome>| {
        let (mut rig, a) = ready();
        rig.durable_queue(
            a,
            "one",
            QueueAttributes {
                length_max: Some(1),
                overflow: Overflow::RejectPublish,
                deduplicate: true,
                ..QueueAttributes::default()
            },
        );
        let messages = ["a", "b", "b", "a"].map(|id| {
            let mut message = to_queue("one", id);
            message.durable = true;
            message.fields_mut().dedup_id = Some(id.into());
            message
        });
        let outcomes = publish(&mut rig, a, &messages);
        let told = |it: &PublishOutcome| match it {
            PublishOutcome::Accepted { .. } => "taken",
            PublishOutcome::Duplicate { .. } => "repeated",
            PublishOutcome::Refused(_) => "refused",
        };
        outcomes.iter().map(told).collect::<Vec<_>>()
    };
    let singly = |rig: &mut Rig, a, messages: &[Message]| {
        let messages = messages.iter().cloned();
        messages.map(|message| rig.publish(a, message)).collect()
    };
    assert_eq!(judged(singly), ["taken", "refused", "refused", "repeated"]);
    assert_eq!(judged(publish_all), judged(singly));
    assert_eq!(judged(publish_together), judged(singly));
}

#[test]
fn a_command_has_no_more_publishes_than_are_done_in_one_go() {
    let publish = |len: usize| Publish {
        token: None,
        lane: Lane(0),
        message: to_queue("q", &"x".repeat(len)).into(),
        mandatory: false,
        create: false,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds: false,
    };
    let counts = |lens: &[usize]| -> Vec<usize> {
        let commands = PublishAll::commands(lens.iter().map(|len| publish(*len)));
        let count = |command: &Command| match command {
            Command::PublishAll(all) => all.publishes.len(),
            other => panic!("{other:?}"),
        };
        commands.iter().map(count).collect()
    };
    assert_eq!(counts(&[]), [0; 0]);
    assert_eq!(counts(&[10; 130]), [64, 64, 2]);
    let long = PublishAll::LEN_MAX;
    assert_eq!(counts(&[1, long, 1, 1]), [1, 1, 2]);
    assert_eq!(counts(&[long / 3; 4]), [2, 2]);
}

#[test]
fn receipts_of_one_command_are_one_record_and_each_is_answered() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    for at in 0..6 {
        rig.send(a, "q", &at.to_string());
    }
    let mut got = receive(&mut rig, a, 6, 30_000);
    assert_eq!(got.len(), 6);
    let receipts: Vec<Receipt> = got.drain(..).map(|(_, receipt)| receipt).collect();
    assert_eq!(used(&mut rig, a, receipts[1], ReceiptUse::Delete), Ok(1));

    let unknown = Receipt {
        qseq: 1_000_000,
        ..receipts[0]
    };
    let delete = |receipt| (receipt, ReceiptUse::Delete);
    let asked = [
        delete(receipts[0]),
        // It is gone, which is what was asked for.
        delete(receipts[1]),
        delete(receipts[2]),
        delete(receipts[2]),
        (unknown, ReceiptUse::Visibility { ms: 5 }),
        delete(receipts[3]),
    ];
    assert_eq!(
        use_all(&mut rig, a, &asked),
        [
            Ok(1),
            Ok(0),
            Ok(1),
            Err(RefusalKind::InvalidArgument),
            Err(RefusalKind::UnknownDelivery),
            Ok(1)
        ]
    );
    assert_eq!(rig.records_of_last, 1);
    // Those that rest come back together.
    let shown = ReceiptUse::Visibility { ms: 0 };
    assert_eq!(
        use_all(&mut rig, a, &[(receipts[4], shown), (receipts[5], shown)]),
        [Ok(1), Ok(1)]
    );
    assert_eq!(rig.records_of_last, 1);
    rig.check_replay();
    let again = receive(&mut rig, a, 10, 30_000);
    let bodies: Vec<_> = again.iter().map(|(body, _)| &body[..]).collect();
    assert_eq!(bodies, ["4", "5"]);
    // Behind a number that is higher there is another record.
    let receipts: Vec<Receipt> = again.into_iter().map(|(_, receipt)| receipt).collect();
    let asked = [delete(receipts[1]), delete(receipts[0])];
    assert_eq!(use_all(&mut rig, a, &asked), [Ok(1), Ok(1)]);
    assert_eq!(rig.records_of_last, 2);
    rig.check_replay();
    rig.restart();
    let a = rig.attach(1);
    rig.tick(60_000);
    assert_eq!(receive(&mut rig, a, 10, 1000).len(), 0);
}
