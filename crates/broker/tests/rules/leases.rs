//! DOORS C: confirms, durability, retained messages, leases, groups.

use bytes::Bytes;
use session::{ClientExpiry, Event, Outcome, PublishOutcome, Source, Subscribe};

use crate::{support::*, *};

#[test]
fn doors_c16_what_is_to_be_confirmed_is_journaled_and_its_flag_travels() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    assert_eq!(
        node.confirmed(session, to_queue("jobs", "kept")),
        accepted(1)
    );
    node.give(session, publish(to_queue("jobs", "lost")));
    assert_eq!(node.look(session, "jobs").0, 2);
    node.restart();
    let session = node.attach();
    consume_on(&mut node, session, consume(1, "jobs"));
    let delivery = only(node.deliveries(session));
    assert_eq!(
        (text(&delivery).as_str(), delivery.message.durable),
        ("kept", false)
    );
}

#[test]
fn doors_c17_published_says_how_many_matched() {
    let (mut node, session) = with_queues(vec![plain("one"), plain("two")]);
    for queue in ["one", "two"] {
        node.declared(session, bind("amq.topic", queue, "a.#"));
    }
    assert_eq!(node.confirmed(session, to_topic("a.b", "x")), accepted(2));
    // Also for a retained publish.
    assert_eq!(
        node.confirmed(session, to_topic("c", "x").retained()),
        accepted(0)
    );
}

#[test]
fn doors_c18_a_retained_message_is_durable_whatever_its_qos() {
    let mut node = Node::new();
    let session = node.attach();
    node.give(session, publish(to_topic("a.b", "one").retained()));
    node.give(session, publish(to_topic("a.c", "two").retained()));
    node.give(session, publish(to_topic("a.c", "").retained()));
    node.restart();
    let (session, _) = connect(&mut node, open("ann"));
    consume_on(&mut node, session, subscribe("a.#", 1));
    let shown = only(node.deliveries(session));
    assert_eq!((text(&shown).as_str(), shown.retain), ("one", true));
}

#[test]
fn doors_c18_a_retained_publish_at_qos_0_does_not_hold_up_live_deliveries() {
    let mut node = Node::new();
    let (session, _) = connect(&mut node, open("ann"));
    consume_on(&mut node, session, subscribe("a", 0));
    node.give(session, publish(to_topic("a", "live").retained()));
    let heard = node.take(session);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].after, 0);
    let Event::Delivery(delivery) = &heard[0].event else {
        panic!("a delivery, not {heard:?}");
    };
    assert!(!delivery.retain, "a live copy does not show the flag");
}

#[test]
fn doors_c18_nothing_is_retained_in_a_queue() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    node.give(session, publish(to_queue("jobs", "one").retained()));
    node.give(
        session,
        publish(to_exchange("amq.direct", "a", "two").retained()),
    );
    assert_eq!(node.broker.counters().retained, 0);
}

/// A client session's consumer of a queue.
fn through(queue: &str, qos: u8) -> Subscribe {
    consume(7, queue).with(|subscribe| {
        subscribe.through_client = true;
        subscribe.options.qos = qos;
    })
}

#[test]
fn doors_c19_at_qos_1_a_queues_delivery_is_released_at_once() {
    let (mut node, other) = with_queues(vec![plain("jobs")]);
    let (session, _) = connect(&mut node, open("ann"));
    consume_on(&mut node, session, through("jobs", 1));
    // The granted QoS counts, whatever the message's durability.
    node.give(other, publish(to_queue("jobs", "one")));
    assert_eq!(only(node.deliveries(session)).qos, 1);
    node.detach(session);
    assert_eq!(node.look(other, "jobs").0, 1);
    consume_on(&mut node, other, consume(1, "jobs"));
    assert!(only(node.deliveries(other)).redelivered);
}

#[test]
fn doors_c19_at_qos_2_it_stays_until_the_session_ends_and_is_then_dead_lettered() {
    let (mut node, other) = with_queues(vec![
        plain("dead"),
        queue("jobs", |at| at.dead_letter = to_dead()),
    ]);
    let kept = session::OpenClient {
        expiry: ClientExpiry::AfterMs(1000),
        ..open("ann")
    };
    let (session, _) = connect(&mut node, kept);
    consume_on(&mut node, session, through("jobs", 2));
    node.give(other, publish(to_queue("jobs", "one").durable()));
    assert_eq!(only(node.deliveries(session)).qos, 2);
    node.detach(session);
    assert_eq!(
        (node.look(other, "jobs").0, node.look(other, "dead").0),
        (0, 0)
    );
    node.pass(1001);
    assert_eq!(
        (node.look(other, "jobs").0, node.look(other, "dead").0),
        (0, 1)
    );
}

#[test]
fn doors_c19_a_rejected_delivery_is_dead_lettered_out_of_its_queue() {
    let (mut node, other) = with_queues(vec![
        plain("dead"),
        queue("jobs", |at| at.dead_letter = to_dead()),
    ]);
    let (session, _) = connect(&mut node, open("ann"));
    consume_on(&mut node, session, through("jobs", 1));
    node.give(other, publish(to_queue("jobs", "one").durable()));
    let delivery = only(node.deliveries(session));
    node.give(session, settle_delivery(&delivery, Outcome::Reject));
    assert_eq!(
        (node.look(other, "jobs").0, node.look(other, "dead").0),
        (0, 1)
    );
}

#[test]
fn doors_c19_a_share_is_one_queue_that_goes_with_its_last_session() {
    let mut node = Node::new();
    let queues = node.broker.counters().queues;
    let shared = Subscribe {
        source: Source::Shared {
            group: name("g"),
            filter: message::Filter::Pattern(pattern("a")),
        },
        through_client: true,
        ..consume(7, "")
    };
    let shared = shared.with(|s| s.options.qos = 1);
    let mut sessions = Vec::new();
    for client in ["ann", "bob"] {
        let ends = session::OpenClient {
            expiry: ClientExpiry::WithConnection,
            ..open(client)
        };
        let (session, _) = connect(&mut node, ends);
        consume_on(&mut node, session, shared.clone());
        sessions.push(session);
    }
    for body in ["one", "two", "three", "four"] {
        node.give(sessions[0], publish(to_topic("a", body).qos(1)));
    }
    // Round-robin.
    assert_eq!(node.bodies(sessions[0]), ["one", "three"]);
    assert_eq!(node.bodies(sessions[1]), ["two", "four"]);
    for session in sessions {
        node.detach(session);
    }
    assert_eq!(node.broker.counters().queues, queues);
}

#[test]
fn doors_c20_a_group_belongs_to_one_consumer_while_it_holds_any_of_it() {
    let (mut node, first) = with_queues(vec![fifo()]);
    let second = node.attach();
    consume_on(&mut node, first, consume(1, "jobs"));
    node.give(first, publish(fifo_message("g", "one")));
    consume_on(&mut node, second, consume(1, "jobs"));
    for body in ["two", "three"] {
        node.give(first, publish(fifo_message("g", body)));
    }
    node.give(first, publish(fifo_message("h", "other")));
    let held = node.deliveries(first);
    assert_eq!(
        held.iter().map(text).collect::<Vec<_>>(),
        ["one", "two", "three"]
    );
    assert_eq!(node.bodies(second), ["other"]);
    // A release redelivers that one first.
    node.give(first, settle_delivery(&held[0], Outcome::Release));
    assert_eq!(node.bodies(first), ["one"]);
}

#[test]
fn doors_c20_ten_of_a_group_are_out_at_a_time() {
    let (mut node, session) = with_queues(vec![fifo()]);
    consume_on(&mut node, session, consume(1, "jobs"));
    for number in 0..12 {
        node.give(session, publish(fifo_message("g", &number.to_string())));
    }
    let out = node.deliveries(session);
    assert_eq!(out.len(), 10);
    node.give(session, settle_delivery(&out[0], Outcome::Accept));
    assert_eq!(node.bodies(session), ["10"]);
}

#[test]
fn doors_c20_without_a_group_all_is_one_group() {
    let (mut node, first) = with_queues(vec![fifo()]);
    let second = node.attach();
    consume_on(&mut node, first, consume(1, "jobs"));
    consume_on(&mut node, second, consume(1, "jobs"));
    for body in ["one", "two"] {
        node.give(first, publish(to_queue("jobs", body).durable()));
    }
    assert_eq!(node.bodies(first), ["one", "two"]);
    assert!(node.deliveries(second).is_empty());
}

#[test]
fn doors_c20_a_duplicate_is_confirmed_and_counted() {
    let (mut node, session) = with_queues(vec![fifo()]);
    let message = fifo_message("g", "one").with(|message| {
        message.fields_mut().dedup_id = Some(Bytes::from_static(b"d"));
    });
    assert_eq!(node.confirmed(session, message.clone()), accepted(1));
    let again = node.confirmed(session, message.clone());
    assert!(matches!(again, PublishOutcome::Duplicate { .. }));
    assert_eq!(node.broker.counters().duplicates, 1);
    node.pass(5 * 60 * 1000);
    assert_eq!(node.confirmed(session, message), accepted(1));
}

#[test]
fn doors_c20_groups_are_a_hint_elsewhere() {
    let (mut node, first) = with_queues(vec![plain("jobs")]);
    let second = node.attach();
    for session in [first, second] {
        consume_on(&mut node, session, consume(1, "jobs"));
    }
    for body in ["one", "two"] {
        node.give(first, publish(fifo_message("g", body)));
    }
    assert_eq!(node.bodies(first), ["one"]);
    assert_eq!(node.bodies(second), ["two"]);
}

#[test]
fn doors_c19_what_waits_in_a_shared_queue_survives_for_the_durable_session_that_joined() {
    let mut node = Node::new();
    let share = |window| {
        let source = Source::Shared {
            group: name("g"),
            filter: message::Filter::Pattern(pattern("a")),
        };
        consume(1, "").window(window).with(|subscribe| {
            subscribe.source = source;
            subscribe.through_client = true;
            subscribe.options.qos = 1;
        })
    };
    let clean = open("clean");
    let clean = session::OpenClient {
        expiry: ClientExpiry::WithConnection,
        ..clean
    };
    let (first, _) = connect(&mut node, clean);
    consume_on(&mut node, first, share(0));
    let (second, _) = connect(&mut node, open("kept"));
    consume_on(&mut node, second, share(0));
    node.detach(first);
    node.detach(second);
    let publisher = node.attach();
    let told = node.confirmed(publisher, to_topic("a", "one").qos(1));
    assert_eq!(told, accepted(1));
    node.restart();
    let (session, present) = connect(&mut node, open("kept"));
    assert!(present);
    assert_eq!(node.bodies(session), ["one"]);
}
