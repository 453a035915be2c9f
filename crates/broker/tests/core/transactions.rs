//! Transactions: all or nothing (RULES 7).

use std::sync::Arc;

use session::*;

use crate::{queues::dead_letter_to, retained::QOS1, rig::*};

fn publish(queue: &str, body: &str) -> Operation {
    publish_this(to_queue(queue, body))
}

pub(crate) fn publish_this(message: message::Message) -> Operation {
    Operation::Publish(Publish {
        token: None,
        lane: Lane(0),
        message: Arc::new(message),
        mandatory: true,
        create: false,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds: false,
    })
}

fn settle(id: DeliveryId, outcome: Outcome) -> Operation {
    Operation::Settle(Settle {
        token: None,
        lane: Lane(0),
        deliveries: DeliveryRange {
            queue: id.queue,
            ranges: smallvec::smallvec![(id.qseq, id.qseq)],
        },
        outcome,
    })
}

pub(crate) fn transact(rig: &mut Rig, from: SessionId, operations: Vec<Operation>) -> Event {
    let token = rig.token();
    rig.command(
        from,
        Command::Transact(Box::new(Transact {
            token,
            lane: Lane(0),
            operations,
        })),
    );
    rig.told[&from]
        .iter()
        .rev()
        .find(|told| {
            matches!(&told.event, Event::Committed { token: t, .. } | Event::Refused { token: t, .. } if *t == token)
        })
        .expect("an answer")
        .event
        .clone()
}

#[test]
fn rules_7_publishes_and_settlements_come_into_force_together() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for name in ["in", "out"] {
        rig.durable_queue(a, name, QueueAttributes::default());
    }
    rig.send(a, "in", "x");
    rig.consume(a, 1, "in", Credit::Window(0));
    let got = rig.deliveries(a);
    let journal = rig.journal.len();
    let event = transact(
        &mut rig,
        a,
        vec![
            publish("out", "1"),
            settle(ids(&got)[0], Outcome::Accept),
            publish("out", "2"),
            publish("none", "lost"),
        ],
    );
    assert!(
        matches!(&event, Event::Committed { returned, .. } if returned.len() == 1),
        "{event:?}"
    );
    rig.check_replay();
    // Cut before the transaction's own record: nothing of it is in force.
    let at = rig
        .journal
        .iter()
        .rposition(|(_, kind, _)| *kind == broker::RecordKind(15))
        .expect("one transaction record");
    assert!(at >= journal + 2);
    let mut cut = broker::Broker::new(broker::Config::default());
    Rig::replay(&mut cut, &rig.journal[..at]);
    assert_eq!(cut.counters().messages_ready, 1);
    rig.consume(a, 2, "out", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["1", "2"]);
}

#[test]
fn a_refused_step_refuses_the_whole() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        length_max: Some(1),
        overflow: Overflow::RejectPublish,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    let event = transact(&mut rig, a, vec![publish("q", "1"), publish("q", "2")]);
    assert!(
        matches!(&event, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::QueueFull),
        "{event:?}"
    );
    assert_eq!(rig.broker.counters().messages_ready, 0);
    let event = transact(
        &mut rig,
        a,
        vec![
            publish("q", "1"),
            settle(
                DeliveryId {
                    queue: QueueId(0),
                    qseq: 77,
                },
                Outcome::Accept,
            ),
        ],
    );
    assert!(
        matches!(&event, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::UnknownDelivery)
    );
    assert_eq!(rig.broker.counters().messages_ready, 0);
    rig.check_replay();
}

/// What is published in a transaction makes room at the head as what is published one by one.
#[test]
fn publishes_of_a_transaction_make_room_for_each_other() {
    for (dead_letters, max, of_dead) in [
        (false, None, &[][..]),
        (true, None, &["0", "1", "2", "3"]),
        (true, Some(3), &["1", "2", "3"]),
    ] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        let dead = QueueAttributes {
            length_max: max,
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, "dead", dead);
        let attributes = QueueAttributes {
            length_max: Some(2),
            dead_letter: dead_letter_to("dead").filter(|_| dead_letters),
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, "q", attributes);
        rig.send(a, "q", "0");
        let operations = ["1", "2", "3", "4", "5"].map(|body| publish("q", body));
        let event = transact(&mut rig, a, operations.into());
        assert!(
            matches!(&event, Event::Committed { returned, .. } if returned.is_empty()),
            "{event:?}"
        );
        rig.check_replay();
        rig.restart();
        let a = rig.attach(1);
        rig.consume(a, 1, "q", Credit::Window(0));
        assert_eq!(rig.bodies(a), ["4", "5"]);
        rig.consume(a, 2, "dead", Credit::Window(0));
        assert_eq!(rig.bodies(a), of_dead);
    }
}

/// The head is what would be delivered next, whether it was there before or comes with the transaction.
#[test]
fn the_head_that_makes_room_in_a_transaction_is_the_next_to_be_delivered() {
    let message = |body: &str, priority: u8, delay_ms: u64| {
        let mut message = to_queue("q", body);
        message.priority = Some(priority);
        message.delay_ms = delay_ms;
        message
    };
    for in_one in [true, false] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        rig.durable_queue(a, "dead", QueueAttributes::default());
        let attributes = QueueAttributes {
            length_max: Some(2),
            priority_max: Some(2),
            dead_letter: dead_letter_to("dead"),
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, "q", attributes);
        rig.publish(a, message("late", 0, 50));
        rig.publish(a, message("low", 0, 0));
        let messages = [
            ("high", 2, 0),
            ("higher than it may be", 9, 0),
            ("later", 0, 50),
            ("middle", 1, 0),
        ];
        let messages = messages.map(|(body, priority, delay)| message(body, priority, delay));
        if in_one {
            let operations = messages.map(publish_this);
            transact(&mut rig, a, operations.into());
        } else {
            for message in messages {
                rig.publish(a, message);
            }
        }
        rig.check_replay();
        rig.tick(60);
        rig.consume(a, 1, "q", Credit::Window(0));
        assert_eq!(rig.bodies(a), ["middle", "later"], "in one: {in_one}");
        rig.consume(a, 2, "dead", Credit::Window(0));
        let dead = ["low", "high", "higher than it may be", "late"];
        assert_eq!(rig.bodies(a), dead, "in one: {in_one}");
    }
}

/// What comes into a queue as a dead letter and leaves it again in the same transaction does not go round.
#[test]
fn what_leaves_two_queues_in_one_transaction_does_not_come_back() {
    for in_one in [true, false] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        for (name, other) in [("q", "r"), ("r", "q")] {
            let attributes = QueueAttributes {
                length_max: Some(1),
                dead_letter: dead_letter_to(other),
                ..QueueAttributes::default()
            };
            rig.durable_queue(a, name, attributes);
        }
        let sent = [("q", "1"), ("q", "2"), ("r", "3")];
        if in_one {
            let operations = sent.map(|(queue, body)| publish(queue, body));
            transact(&mut rig, a, operations.into());
        } else {
            for (queue, body) in sent {
                rig.send(a, queue, body);
            }
        }
        rig.check_replay();
        rig.consume(a, 1, "q", Credit::Window(0));
        assert_eq!(rig.bodies(a), ["2"], "in one: {in_one}");
        rig.consume(a, 2, "r", Credit::Window(0));
        assert_eq!(rig.bodies(a), ["3"], "in one: {in_one}");
    }
}

/// A history in which a transaction pushes something out and drops what it brought itself, and where its publishes are in it.
fn pushing_out() -> (Rig, Vec<usize>) {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let short = |dead_letter| QueueAttributes {
        length_max: Some(1),
        dead_letter,
        ..QueueAttributes::default()
    };
    for name in ["out", "dead"] {
        rig.durable_queue(a, name, QueueAttributes::default());
    }
    rig.durable_queue(a, "q", short(dead_letter_to("dead")));
    rig.durable_queue(a, "last", short(None));
    rig.send(a, "q", "0");
    let journal = rig.journal.len();
    let operations = [
        ("out", "first"),
        ("q", "1"),
        ("last", "2"),
        ("last", "3"),
        ("last", "4"),
    ];
    let operations = operations.map(|(queue, body)| publish(queue, body));
    transact(&mut rig, a, operations.into());
    rig.check_replay();
    let publishes = rig.journal.iter().enumerate().skip(journal);
    let publishes = publishes.filter(|(_, (_, kind, _))| *kind == broker::RecordKind::PUBLISHED);
    let publishes = publishes.map(|(at, _)| at).collect();
    (rig, publishes)
}

/// What is in the queues of [`pushing_out`].
fn left(mut rig: Rig) -> [Vec<String>; 4] {
    let a = rig.attach(1);
    ["out", "dead", "q", "last"].map(|name| {
        let pulled = rig.pull(a, name, 10, Lease::Connection);
        pulled.iter().map(body).collect()
    })
}

/// One of the publishes of a transaction is lost and given up: the others are in force each in its place.
#[test]
fn the_publishes_of_a_transaction_keep_their_places_when_one_is_lost() {
    for (lost, expected) in [
        (None, [&["first"][..], &["0"], &["1"], &["4"]]),
        (Some(0), [&[], &["0"], &["1"], &["4"]]),
        (Some(1), [&["first"], &["0"], &[], &["4"]]),
        (Some(2), [&["first"], &["0"], &["1"], &["4"]]),
        (Some(3), [&["first"], &["0"], &["1"], &["4"]]),
        (Some(4), [&["first"], &["0"], &["1"], &[]]),
    ] {
        let (mut rig, publishes) = pushing_out();
        assert_eq!(publishes.len(), 5);
        let mut broker = broker::Broker::new(broker::Config::default());
        let journal = &rig.journal;
        if let Some(lost) = lost {
            let at = publishes[lost];
            Rig::replay(&mut broker, &journal[..at]);
            broker.after_loss(1);
            Rig::replay(&mut broker, &journal[at + 1..]);
            Rig::mend(&mut broker);
        } else {
            Rig::replay(&mut broker, journal);
        }
        rig.restart_as(broker);
        assert_eq!(left(rig), expected, "without {lost:?}");
    }
}

/// Cut anywhere by a snapshot, they do too.
#[test]
fn the_publishes_of_a_transaction_keep_their_places_over_a_snapshot() {
    let (rig, publishes) = pushing_out();
    let config = broker::Config::default;
    let live = rig.snapshot();
    for at in publishes {
        let mut broker = broker::Broker::new(config());
        Rig::replay(&mut broker, &rig.journal[..at]);
        let mut bytes = Vec::new();
        broker.encode_snapshot(&mut bytes).expect("memory");
        let decoded = broker::Broker::decode_snapshot(config(), &mut &bytes[..]);
        let mut broker = decoded.expect("a snapshot");
        Rig::replay(&mut broker, &rig.journal[at..]);
        let mut bytes = Vec::new();
        broker.encode_snapshot(&mut bytes).expect("memory");
        assert_eq!(bytes, live);
    }
}

/// What is left of a history when `lost` of its records are given up, and the core goes through a snapshot in front of the record `cut`: none
/// is made behind a loss before that is recorded.
fn without(rig: &Rig, lost: std::ops::Range<usize>, cut: usize) -> broker::Broker {
    assert!(cut <= lost.start);
    let config = broker::Config::default;
    let mut broker = broker::Broker::new(config());
    Rig::replay(&mut broker, &rig.journal[..cut]);
    let snapshot = encoded(&broker);
    let decoded = broker::Broker::decode_snapshot(config(), &mut &snapshot[..]);
    let mut broker = decoded.expect("a snapshot");
    Rig::replay(&mut broker, &rig.journal[cut..lost.start]);
    broker.after_loss(lost.len() as u64);
    Rig::replay(&mut broker, &rig.journal[lost.end..]);
    Rig::mend(&mut broker);
    let snapshot = encoded(&broker);
    let decoded = broker::Broker::decode_snapshot(config(), &mut &snapshot[..]);
    let broker = decoded.expect("a snapshot");
    assert_eq!(encoded(&broker), snapshot);
    broker
}

fn encoded(broker: &broker::Broker) -> Vec<u8> {
    let mut bytes = Vec::new();
    broker.encode_snapshot(&mut bytes).expect("memory");
    bytes
}

/// Of the records of a transaction some lie in front of a snapshot, and of those behind it some are lost: what is left is what would be
/// left without the snapshot.
#[test]
fn a_transaction_that_is_damaged_behind_a_snapshot_is_the_same() {
    let (rig, publishes) = pushing_out();
    let (first, journal) = (publishes[0], rig.journal.len());
    for from in first..journal {
        for upto in from + 1..=journal {
            let whole = encoded(&without(&rig, from..upto, first));
            for cut in first + 1..=from {
                let cut_there = encoded(&without(&rig, from..upto, cut));
                assert_eq!(
                    cut_there, whole,
                    "without {from}..{upto}, cut in front of {cut}"
                );
            }
        }
    }
    // The publishes that are there keep their places; without its own record nothing of it is in force.
    for (lost, expected) in [
        (
            publishes[1]..publishes[2],
            [&["first"][..], &["0"], &[], &["4"]],
        ),
        (
            publishes[1]..publishes[4],
            [&["first"], &["0"], &[], &["4"]],
        ),
        (
            publishes[4]..publishes[4] + 1,
            [&["first"], &["0"], &["1"], &[]],
        ),
        (journal - 1..journal, [&[], &[], &["0"], &[]]),
        (publishes[3]..journal, [&[], &[], &["0"], &[]]),
    ] {
        for cut in first..=lost.start {
            let (mut rig, _) = pushing_out();
            let broker = without(&rig, lost.clone(), cut);
            rig.restart_as(broker);
            assert_eq!(
                left(rig),
                expected,
                "without {lost:?}, cut in front of {cut}"
            );
        }
    }
}

/// What the version before wrote of [`pushing_out`]: its publishes have no places in their transaction. Identity, kind, payload.
#[rustfmt::skip]
const WITHOUT_PLACES: [(u64, u8, &str); 13] = [
    (1, 2, "1f03c0843d01010100"),
    (2, 3, "1f03c0843d01012f0102010000"),
    (3, 4, "1f03c0843d0304036f757404040101010000"),
    (4, 4, "1f03c0843d0101010305046465616404040101010000"),
    (5, 4, "1f03c0843d01010203020171041b0101010415070201010a0e0101010002070101046465616400000000"),
    (6, 4, "1f03c0843d0101030305046c617374040b010101040507020101000000"),
    (7, 10, "1f03c0843d01090101000000017100000204010102000030"),
    (8, 10, "1f03c0843d010b0100000000036f75740000020100070101006669727374"),
    (9, 10, "1f03c0843d01090100000000017100000207010102020101000701010031"),
    (10, 10, "1f03c0843d010c0100000000046c61737400000204010103000701010032"),
    (11, 10, "1f03c0843d010c0100000000046c61737400000207010103020101000701010033"),
    (12, 10, "1f03c0843d010c0100000000046c61737400000207010103020102000701010034"),
    (13, 15, "1f03c0843d01010102410d01030102000203010701033301010101052c01031d0101010201710201020301010403c0843d05010006030101710701000004090100000464656164000000000202330002023300020a0c01010302030100000002023300020a0c0101030203010200000202330000"),
];

#[test]
fn a_transaction_of_the_version_before_is_read() {
    let (mut rig, _) = pushing_out();
    let live = rig.snapshot();
    let digit = |hex: u8| (hex as char).to_digit(16).expect("a digit") as u8;
    let of = |(id, kind, hex): (u64, u8, &str)| {
        let payload = hex.as_bytes().chunks_exact(2);
        let payload: Vec<u8> = payload.map(|it| digit(it[0]) << 4 | digit(it[1])).collect();
        let kind = broker::RecordKind(kind);
        (message::StoredId(id), kind, payload.into())
    };
    let journal = WITHOUT_PLACES.map(of);
    assert_eq!(journal.len(), rig.journal.len());
    rig.journal = journal.to_vec();
    assert_eq!(rig.snapshot(), live);
    rig.check_replay();
    // Where it was cut by a snapshot, too.
    for at in 8..journal.len() {
        let mut broker = broker::Broker::new(broker::Config::default());
        Rig::replay(&mut broker, &journal[..at]);
        let mut bytes = Vec::new();
        broker.encode_snapshot(&mut bytes).expect("memory");
        let decoded = broker::Broker::decode_snapshot(broker::Config::default(), &mut &bytes[..]);
        let mut broker = decoded.expect("a snapshot");
        Rig::replay(&mut broker, &journal[at..]);
        let mut bytes = Vec::new();
        broker.encode_snapshot(&mut bytes).expect("memory");
        assert_eq!(bytes, live);
    }
}

#[test]
fn too_large_a_transaction_is_refused() {
    let config = broker::Config {
        transaction_operations_max: 2,
        ..broker::Config::default()
    };
    let mut rig = Rig::with(config);
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    let event = transact(
        &mut rig,
        a,
        vec![publish("q", "1"), publish("q", "2"), publish("q", "3")],
    );
    assert!(
        matches!(&event, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::QuotaExceeded)
    );
}

/// Topics, and what is published to them to be retained.
type Retains<'a> = &'a [(&'a str, &'a str)];

/// A publish that a topic is to retain. An empty one clears it.
fn retained(topic: &str, body: &str) -> Operation {
    let mut message = to_topic(topic, body, 1);
    message.retain = true;
    let Operation::Publish(publish) = publish_this(message) else {
        unreachable!("it publishes");
    };
    Operation::Publish(Publish {
        mandatory: false,
        ..publish
    })
}

/// What a new subscriber of everything is shown.
fn shown(rig: &mut Rig, number: u64) -> Vec<String> {
    let to = rig.attach(number);
    rig.open(
        to,
        &format!("c{number}"),
        true,
        ClientExpiry::WithConnection,
    );
    rig.topic(to, "#", QOS1);
    let mut shown = rig.bodies(to);
    shown.sort();
    rig.detach(to);
    shown
}

#[test]
fn what_a_transaction_retains_it_can_clear_and_set_anew() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.publish(a, {
        let mut message = to_topic("there", "before", 1);
        message.retain = true;
        message
    });
    let cases: [(Retains<'_>, &[&str]); 5] = [
        (&[("t", "one"), ("t", "")], &["before"]),
        (&[("t", "one"), ("t", ""), ("t", "two")], &["before", "two"]),
        (&[("t", ""), ("t", ""), ("u", "")], &["before"]),
        (&[("there", ""), ("there", "again")], &["again"]),
        (&[("there", ""), ("t", "three"), ("there", "")], &["three"]),
    ];
    for (at, (published, left)) in cases.into_iter().enumerate() {
        let operations = published.iter().map(|(topic, body)| retained(topic, body));
        let done = transact(&mut rig, a, operations.collect());
        assert!(matches!(done, Event::Committed { .. }), "{done:?}");
        rig.check_replay();
        assert_eq!(shown(&mut rig, 10 + at as u64), left, "{published:?}");
        assert_eq!(rig.broker.counters().retained, left.len() as u64);
    }
}

#[test]
fn a_transaction_retains_no_more_than_there_may_be() {
    let mut rig = Rig::with(broker::Config {
        retained_max: 3,
        ..broker::Config::default()
    });
    let a = rig.attach(1);
    let cases: [(Retains<'_>, bool, u64); 6] = [
        (&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")], false, 0),
        (&[("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")], true, 2),
        (&[("c", "1"), ("c", ""), ("d", "1")], true, 3),
        (&[("e", "1"), ("a", "")], false, 3),
        (&[("a", ""), ("e", "1")], true, 3),
        (&[("e", "2"), ("b", "3"), ("d", "2")], true, 3),
    ];
    for (published, is_done, count) in cases {
        let operations = published.iter().map(|(topic, body)| retained(topic, body));
        let done = transact(&mut rig, a, operations.collect());
        let committed = matches!(done, Event::Committed { .. });
        assert_eq!(committed, is_done, "{published:?}: {done:?}");
        assert_eq!(rig.broker.counters().retained, count, "{published:?}");
        rig.check_replay();
    }
}

#[test]
fn what_a_transaction_pushes_out_goes_into_a_queue_that_it_has_made() {
    // A key of several levels is a name with dots, and its first level none.
    for (key, named, other) in [
        ("dead", "dead", "other"),
        ("dead/jobs", "dead.jobs", "dead"),
    ] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        let jobs = QueueAttributes {
            length_max: Some(1),
            dead_letter: dead_letter_to(key),
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, "jobs", jobs);
        let makes = |queue: &str| {
            let Operation::Publish(publish) = publish(queue, "first") else {
                unreachable!("it publishes");
            };
            Operation::Publish(Publish {
                create: true,
                ..publish
            })
        };
        let operations = vec![
            makes(other),
            makes(named),
            publish("jobs", "one"),
            publish("jobs", "two"),
        ];
        let done = transact(&mut rig, a, operations);
        assert!(matches!(done, Event::Committed { .. }), "{done:?}");
        rig.check_replay();
        let mut left = |queue: &str| -> Vec<String> {
            let got = rig.pull(a, queue, 10, Lease::Connection);
            got.iter().map(body).collect()
        };
        assert_eq!(left(named), ["first", "one"]);
        assert_eq!(left(other), ["first"]);
        assert_eq!(left("jobs"), ["two"]);
    }
}
