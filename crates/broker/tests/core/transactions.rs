//! Transactions: all or nothing (RULES 7).

use std::sync::Arc;

use session::*;

use crate::{queues::dead_letter_to, rig::*};

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
