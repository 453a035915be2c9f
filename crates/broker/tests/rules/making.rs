//! DOORS B: who makes a queue, and what it then is.

use bytes::Bytes;
use session::{DeathReason, Event, Outcome, Redrive, RefusalKind};

use crate::{support::*, *};

#[test]
fn doors_b10_a_queue_is_made_by_who_may_and_by_nobody_else() {
    let mut node = Node::new();
    let session = node.attach();
    assert_eq!(
        node.confirmed(session, to_queue("jobs", "lost")),
        accepted(0)
    );
    let token = node.token();
    node.give(
        session,
        publish(to_queue("jobs", "kept")).creating().confirm(token),
    );
    let outcome = accepted(1);
    assert_eq!(
        node.answer(session).event,
        Event::Published { token, outcome }
    );
    assert_eq!(node.look(session, "jobs").0, 1);
    node.restart();
    let session = node.attach();
    assert_eq!(node.look(session, "jobs").0, 1);
}

#[test]
fn doors_b11_only_declarations_are_compared() {
    let declared = |text: &'static str| {
        queue_with("jobs", |options| {
            options.declaration = Some(Bytes::from_static(text.as_bytes()));
        })
    };
    let (mut node, session) = with_queues(vec![declared("first")]);
    node.declared(session, declared("first"));
    // A door that does not compare may declare what it likes.
    node.declared(session, plain("jobs"));
    let refusal = node.declare_refused(session, declared("second"));
    assert_eq!(refusal.kind, RefusalKind::Inequivalent);
}

#[test]
fn doors_b11_a_queue_of_another_door_adopts_the_first_declaration() {
    let declared = |text: &'static str, change: fn(&mut session::QueueOptions)| {
        queue_with("jobs", |options| {
            options.declaration = Some(Bytes::from_static(text.as_bytes()));
            change(options);
        })
    };
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    let refusal = node.declare_refused(session, declared("x", |o| o.exclusive = true));
    assert_eq!(refusal.kind, RefusalKind::Locked);
    let adopts = declared("first", |options| {
        options.durable = false;
        options.attributes.length_max = Some(1);
    });
    node.declared(session, adopts.clone());
    node.declared(session, adopts);
    let refusal = node.declare_refused(session, declared("second", |_| {}));
    assert_eq!(refusal.kind, RefusalKind::Inequivalent);
    // It stays durable, and keeps what was asked for.
    for body in ["one", "two"] {
        node.give(session, publish(to_queue("jobs", body).durable()));
    }
    node.restart();
    let session = node.attach();
    assert_eq!(node.look(session, "jobs").0, 1);
}

#[test]
fn doors_b12_retention_drops_and_ttl_dead_letters() {
    let (mut node, session) = with_queues(vec![
        plain("dead"),
        queue("kept", |at| {
            at.retention_ms = Some(100);
            at.dead_letter = to_dead();
        }),
        queue("lives", |at| {
            at.ttl_ms = Some(100);
            at.dead_letter = to_dead();
        }),
    ]);
    node.give(session, publish(to_queue("kept", "dropped").durable()));
    node.give(session, publish(to_queue("lives", "expired").durable()));
    node.pass(200);
    consume_on(&mut node, session, consume(1, "dead"));
    let dead = only(node.deliveries(session));
    assert_eq!(text(&dead), "expired");
    let death = &dead.deaths.as_deref().expect("it died")[0];
    assert_eq!((death.reason, death.count), (DeathReason::Expired, 1));
    assert_eq!(node.broker.counters().dropped_expired, 1);
}

#[test]
fn doors_b13_deliveries_are_counted_from_one_and_limited() {
    let (mut node, session) = with_queues(vec![
        plain("dead"),
        queue("jobs", |at| {
            at.deliveries_max = Some(3);
            at.dead_letter = to_dead();
        }),
    ]);
    consume_on(&mut node, session, consume(1, "jobs"));
    node.give(session, publish(to_queue("jobs", "one").durable()));
    for count in 1..=3 {
        let delivery = only(node.deliveries(session));
        assert_eq!(delivery.count, count);
        node.give(session, settle_delivery(&delivery, Outcome::Release));
    }
    assert!(node.deliveries(session).is_empty());
    assert_eq!(node.look(session, "dead").0, 1);
}

#[test]
fn doors_b14_the_dead_letter_target_is_chosen_by_reason() {
    let (mut node, session) = with_queues(vec![
        plain("redrive"),
        plain("dead"),
        queue("jobs", |at| {
            at.deliveries_max = Some(1);
            at.length_max = Some(1);
            at.ttl_ms = Some(1000);
            at.dead_letter = to_dead();
            at.redrive = Some(Redrive {
                target: name("redrive"),
            });
        }),
    ]);
    // `maxlen` and `expired`
    for body in ["one", "two"] {
        node.give(session, publish(to_queue("jobs", body).durable()));
    }
    node.pass(1001);
    assert_eq!(node.look(session, "dead").0, 2);
    consume_on(&mut node, session, consume(1, "jobs"));
    for (outcome, dead, redriven) in [(Outcome::Reject, 3, 0), (Outcome::Release, 3, 1)] {
        node.give(session, publish(to_queue("jobs", "three").durable()));
        let delivery = only(node.deliveries(session));
        node.give(session, settle_delivery(&delivery, outcome));
        assert_eq!(node.look(session, "dead").0, dead);
        assert_eq!(node.look(session, "redrive").0, redriven);
    }
}

#[test]
fn doors_b14_rejected_without_a_dead_letter_exchange_goes_to_the_redrive_target() {
    let (mut node, session) = with_queues(vec![
        plain("redrive"),
        queue("jobs", |at| {
            at.ttl_ms = Some(1000);
            at.redrive = Some(Redrive {
                target: name("redrive"),
            });
        }),
        plain("nowhere"),
    ]);
    for (consumer, queue) in [(1, "jobs"), (2, "nowhere")] {
        consume_on(&mut node, session, consume(consumer, queue).window(1));
        for _ in 0..2 {
            node.give(session, publish(to_queue(queue, "one").durable()));
        }
        let delivery = only(node.deliveries(session));
        node.give(session, settle_delivery(&delivery, Outcome::Reject));
        node.deliveries(session);
    }
    assert_eq!(node.look(session, "redrive").0, 1);
    assert_eq!(node.broker.counters().dropped_rejected, 1);
}

#[test]
fn doors_b15_the_largest_message_binds_every_door() {
    let (mut node, session) = with_queues(vec![queue("jobs", |at| at.message_len_max = Some(3))]);
    assert_eq!(
        node.confirmed(session, to_queue("jobs", "one")),
        accepted(1)
    );
    let outcome = node.confirmed(session, to_queue("jobs", "three"));
    assert_eq!(refused(&outcome), Some(RefusalKind::TooLarge));
}

#[test]
fn doors_b15_a_client_is_not_sent_more_than_it_takes() {
    let mut node = Node::new();
    let opened = session::OpenClient {
        message_len_max: Some(100),
        ..open("ann")
    };
    let (session, _) = connect(&mut node, opened);
    consume_on(&mut node, session, subscribe("a", 1));
    node.give(session, publish(to_topic("a", &"x".repeat(200)).qos(1)));
    node.give(session, publish(to_topic("a", "small").qos(1)));
    assert_eq!(node.bodies(session), ["small"]);
    assert_eq!(node.broker.counters().dropped_too_large, 1);
}
