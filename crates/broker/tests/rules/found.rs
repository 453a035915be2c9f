//! What the model found, reduced to its dialogue, and other rules of queues.

use broker::Config;
use session::{
    Command, ConsumerId, Credit, DeadLetter, Event, ExchangeKind, Lane, Lease, Operation, Outcome,
    Redrive,
};

use crate::{support::*, *};

#[test]
fn a_settled_delivery_behind_an_unsettled_one_hides_nothing_after_a_restart() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    for body in ["one", "two"] {
        node.give(session, publish(to_queue("jobs", body).durable()));
    }
    consume_on(&mut node, session, consume(1, "jobs").window(1));
    node.give(session, pull("jobs", 1, Lease::Settled));
    node.restart();
    let session = node.attach();
    consume_on(&mut node, session, consume(1, "jobs"));
    assert_eq!(node.bodies(session), ["one"]);
}

#[test]
fn what_was_delayed_and_then_delivered_is_available_after_a_restart() {
    let (mut node, session) = with_queues(vec![queue("jobs", |at| {
        at.delay_ms = 100;
        at.priority_max = Some(3);
    })]);
    node.give(session, publish(to_queue("jobs", "one").durable()));
    consume_on(&mut node, session, consume(1, "jobs"));
    node.pass(100);
    assert_eq!(node.bodies(session), ["one"]);
    node.restart();
    let session = node.attach();
    consume_on(&mut node, session, consume(1, "jobs"));
    assert_eq!(node.bodies(session), ["one"]);
}

#[test]
fn settling_what_a_cancelled_consumer_got_frees_its_groups_window() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    let (group, window) = (1, 1);
    node.give(session, Command::GroupWindow { group, window });
    for consumer in 1..3 {
        let subscribe = consume(consumer, "jobs").with(|s| s.group = group);
        consume_on(&mut node, session, subscribe);
    }
    for body in ["one", "two"] {
        node.give(session, publish(to_queue("jobs", body).durable()));
    }
    let first = only(node.deliveries(session));
    let (token, lane, consumer) = (node.token(), Lane(0), ConsumerId(1));
    node.give(
        session,
        Command::Cancel {
            token,
            lane,
            consumer,
        },
    );
    assert!(node.deliveries(session).is_empty());
    node.give(session, settle_delivery(&first, Outcome::Accept));
    assert_eq!(node.bodies(session), ["two"]);
}

#[test]
fn two_publishes_of_a_transaction_that_make_a_queue_make_one() {
    let mut node = Node::new();
    let session = node.attach();
    let operations = ["one", "two"]
        .map(|body| Operation::Publish(publish(to_queue("made", body).durable()).creating()));
    let both = transact(&mut node, operations.into());
    node.give(session, both);
    assert!(matches!(
        node.answer(session).event,
        Event::Committed { .. }
    ));
    assert_eq!(node.look(session, "made").0, 2);
}

#[test]
fn what_is_published_to_a_queue_finds_the_one_that_is_there_and_none_that_was() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    let put = |node: &mut Node, creating: bool| {
        let publish = publish(to_queue("jobs", "one").durable());
        let token = node.token();
        let publish = publish.confirm(token);
        node.give(
            session,
            if creating {
                publish.creating()
            } else {
                publish
            },
        );
        match node.answer(session).event {
            Event::Published {
                outcome: PublishOutcome::Accepted { matched, .. },
                ..
            } => matched,
            other => panic!("{other:?}"),
        }
    };
    // The second and the third come where one before them came.
    assert_eq!([(); 3].map(|()| put(&mut node, false)), [1; 3]);
    node.declared(session, delete("jobs"));
    assert_eq!([(); 3].map(|()| put(&mut node, false)), [0; 3]);
    assert_eq!([(); 2].map(|()| put(&mut node, true)), [1; 2]);
    assert_eq!(node.look(session, "jobs").0, 2);
    node.declared(session, delete("jobs"));
    node.declared(session, plain("jobs"));
    assert_eq!(put(&mut node, false), 1);
    assert_eq!(node.look(session, "jobs").0, 1);
}

#[test]
fn a_full_queue_drops_what_is_delayed_when_it_has_nothing_else() {
    let (mut node, session) = with_queues(vec![queue("jobs", |at| {
        at.delay_ms = 100;
        at.length_max = Some(1);
    })]);
    for body in ["one", "two"] {
        node.give(session, publish(to_queue("jobs", body).durable()));
    }
    node.pass(100);
    consume_on(&mut node, session, consume(1, "jobs"));
    assert_eq!(node.bodies(session), ["two"]);
}

#[test]
fn exactly_so_many_deliveries_then_none() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    consume_on(
        &mut node,
        session,
        consume(1, "jobs").credit(Credit::Exactly(2)),
    );
    for body in ["one", "two", "three"] {
        node.give(session, publish(to_queue("jobs", body).durable()));
    }
    let out = node.deliveries(session);
    assert_eq!(out.len(), 2);
    node.give(session, settle_delivery(&out[0], Outcome::Accept));
    assert!(node.deliveries(session).is_empty());
    let (consumer, credit) = (ConsumerId(1), Credit::Exactly(1));
    node.give(session, Command::Credit { consumer, credit });
    assert_eq!(node.bodies(session), ["three"]);
}

#[test]
fn an_outbox_without_room_stops_deliveries_but_takes_one_of_any_size() {
    let mut node = Node::with(Config {
        outbox_bytes_max: 1000,
        ..Config::default()
    });
    node.drains = false;
    let session = node.attach();
    node.declared(session, plain("jobs"));
    consume_on(&mut node, session, consume(1, "jobs"));
    let large = "x".repeat(5000);
    for body in [&large[..], "two"] {
        node.give(session, publish(to_queue("jobs", body).durable()));
    }
    assert_eq!(node.deliveries(session).len(), 1);
    node.drain(session);
    assert_eq!(node.bodies(session), ["two"]);
}

#[test]
fn an_exchange_that_feeds_itself_gives_each_queue_one_copy() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    for exchange_name in ["a", "b"] {
        node.declared(session, exchange(exchange_name, ExchangeKind::Fanout));
        node.declared(session, bind(exchange_name, "jobs", ""));
    }
    node.declared(session, bind_exchange("a", "b", ""));
    node.declared(session, bind_exchange("b", "a", ""));
    assert_eq!(
        node.confirmed(session, to_exchange("a", "k", "one")),
        accepted(1)
    );
    assert_eq!(node.look(session, "jobs").0, 1);
}

#[test]
fn an_unconfirmed_publish_that_will_be_refused_again_is_told_and_one_for_want_of_room_is_not() {
    let (mut node, session) = with_queues(vec![queue("full", |at| {
        at.length_max = Some(0);
        at.overflow = session::Overflow::RejectPublish;
    })]);
    node.take(session);
    let message = to_exchange("nowhere", "k", "lost");
    node.give(session, publish(message));
    let Event::PublishRefused { refusal, lane } = node.answer(session).event else {
        panic!("told without having been asked");
    };
    assert_eq!(refusal.kind, RefusalKind::NotFound);
    assert_eq!((&*refusal.detail, lane), ("no exchange 'nowhere'", Lane(0)));
    node.give(session, publish(to_queue("full", "dropped")));
    assert!(node.take(session).is_empty());
}

#[test]
fn looking_at_a_queue_and_pulling_nothing_from_it_keep_it() {
    let (mut node, session) = with_queues(vec![queue("kept", |at| at.expires_ms = Some(100))]);
    let pull_nothing = |node: &mut Node| {
        node.give(session, pull("kept", 1, Lease::Settled));
        node.answer(session);
    };
    node.pass(60);
    pull_nothing(&mut node);
    node.pass(60);
    let again = queue("kept", |at| at.expires_ms = Some(100));
    node.declared(session, again);
    node.pass(60);
    assert_eq!(node.look(session, "kept"), (0, 0));
    node.pass(99);
    assert_eq!(node.look(session, "kept"), (0, 0), "looking is use");
    node.pass(101);
    let gone = node.declare_refused(session, look("kept"));
    assert_eq!(gone.kind, RefusalKind::NotFound);
}

#[test]
fn a_redeclaration_is_told_what_is_there() {
    let declared = |text: &'static str, exclusive: bool| {
        queue_with("jobs", |options| {
            options.declaration = Some(text.into());
            options.exclusive = exclusive;
        })
    };
    let (mut node, session) = with_queues(vec![declared("one", false)]);
    let refused = node.declare_refused(session, declared("two", false));
    assert_eq!(refused.kind, RefusalKind::Inequivalent);
    assert_eq!(refused.known.as_deref(), Some(&b"one"[..]));
    let refused = node.declare_refused(session, declared("one", true));
    assert_eq!(refused.kind, RefusalKind::Locked);
}

#[test]
fn a_queue_with_a_single_active_consumer_has_no_exclusive_one() {
    let (mut node, session) =
        with_queues(vec![queue("one", |at| at.single_active_consumer = true)]);
    node.give(session, consume(1, "one").with(|s| s.exclusive = true));
    let Event::Refused { refusal, .. } = node.answer(session).event else {
        panic!("refused");
    };
    assert_eq!(refusal.kind, RefusalKind::InUse);
}

#[test]
fn a_queue_that_takes_a_message_itself_is_not_its_dead_letter_target_too() {
    for full in ["a-full", "z-full"] {
        let rejects = queue(full, |at| {
            at.length_max = Some(0);
            at.overflow = session::Overflow::RejectPublishDeadLetter;
            at.dead_letter = Some(DeadLetter {
                exchange: name(""),
                key: Some(key("m-dead")),
            });
        });
        let (mut node, session) = with_queues(vec![
            rejects,
            plain("m-dead"),
            exchange("all", ExchangeKind::Fanout),
            bind("all", full, ""),
            bind("all", "m-dead", ""),
        ]);
        node.confirmed(session, to_exchange("all", "", "once").durable());
        assert_eq!(node.look(session, "m-dead").0, 1, "{full}");
    }
}

#[test]
fn a_message_that_is_redriven_keeps_its_priority() {
    let (mut node, session) = with_queues(vec![
        queue("redrive", |at| at.priority_max = Some(3)),
        queue("jobs", |at| {
            at.deliveries_max = Some(1);
            at.redrive = Some(Redrive {
                target: name("redrive"),
            });
        }),
    ]);
    consume_on(&mut node, session, consume(1, "jobs"));
    for (body, priority) in [("low", 1), ("high", 2), ("above", 9)] {
        let message = to_queue("jobs", body).durable();
        let message = message.with(|message| message.priority = Some(priority));
        node.give(session, publish(message));
        let delivery = only(node.deliveries(session));
        node.give(session, settle_delivery(&delivery, Outcome::Release));
    }
    consume_on(&mut node, session, consume(2, "redrive"));
    assert_eq!(node.bodies(session), ["above", "high", "low"]);
}
