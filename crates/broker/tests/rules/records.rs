//! RULES A: records say what happened, effects wait for them, transactions are one.

use broker::{Broker, Change, Config, RecordKind};
use bytes::Bytes;
use session::{
    Command, Event, Lane, Operation, Outcome, Overflow, PublishOutcome, RefusalKind, Source,
    Subscribe,
};

use crate::{support::*, *};

/// The kind of a binding's record.
const BOUND: RecordKind = RecordKind(9);

#[test]
fn rules_a1_a_record_names_its_targets_so_that_a_replay_routes_nothing() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    node.declared(session, bind("amq.direct", "jobs", "k"));
    let sent = to_exchange("amq.direct", "k", "one").durable();
    assert_eq!(node.confirmed(session, sent), accepted(1));
    // Without the binding's record the message is in its queue all the same.
    let bindings = node.records.iter().filter(|record| record.kind == BOUND);
    assert_eq!(bindings.count(), 1);
    let mut broker = Broker::new(Config::default());
    for (at, record) in node.records.iter().enumerate() {
        if record.kind != BOUND {
            let (time, change) =
                Change::decode(record.kind, record.payload.clone()).expect("it was encoded");
            let id = message::StoredId(at as u64 + 1);
            broker.apply(&change, time, Some(id), &mut Vec::new());
        }
    }
    assert_eq!(broker.counters().messages_ready, 1);
}

#[test]
fn rules_a2_a_delivery_waits_for_its_message_but_not_for_its_own_record() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    consume_on(&mut node, session, consume(1, "jobs"));
    node.give(session, publish(to_queue("jobs", "one").durable()));
    let stored = node.records.len() - 1;
    assert_eq!(node.records[stored - 1].kind, RecordKind::PUBLISHED);
    assert_eq!(waits(&mut node, session), [stored]);
}

#[test]
fn rules_a2_a_group_delivery_waits_for_its_own_record() {
    let (mut node, session) = with_queues(vec![fifo()]);
    consume_on(&mut node, session, consume(1, "jobs"));
    node.give(session, publish(fifo_message("g", "one")));
    assert_eq!(waits(&mut node, session), [node.records.len()]);
}

#[test]
fn rules_a2_the_delivery_that_reaches_the_limit_waits_for_its_own_record() {
    let (mut node, session) = with_queues(vec![queue("jobs", |at| at.deliveries_max = Some(1))]);
    consume_on(&mut node, session, consume(1, "jobs"));
    node.give(session, publish(to_queue("jobs", "one").durable()));
    assert_eq!(waits(&mut node, session), [node.records.len()]);
}

#[test]
fn rules_a2_an_exactly_once_delivery_waits_for_its_own_record() {
    let mut node = Node::new();
    let (session, _) = connect(&mut node, open("ann"));
    consume_on(&mut node, session, subscribe("a", 2));
    node.give(session, publish(to_topic("a", "one").qos(2)));
    assert_eq!(waits(&mut node, session), [node.records.len()]);
}

#[test]
fn rules_a2_what_is_soft_makes_no_record() {
    let (mut node, session) =
        with_queues(vec![queue_with("jobs", |options| options.durable = false)]);
    let records = node.records.len();
    consume_on(&mut node, session, consume(1, "jobs"));
    assert_eq!(
        node.confirmed(session, to_queue("jobs", "one").durable()),
        accepted(1)
    );
    let delivery = only(node.deliveries(session));
    node.give(session, settle_delivery(&delivery, Outcome::Accept));
    assert_eq!(node.records.len(), records);
}

#[test]
fn rules_a2_what_was_out_to_a_connection_is_available_again_after_a_takeover() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    consume_on(&mut node, session, consume(1, "jobs"));
    for body in ["one", "two"] {
        node.give(session, publish(to_queue("jobs", body).durable()));
    }
    let first = node.deliveries(session);
    assert!(first.iter().all(|delivery| !delivery.redelivered));
    node.restart();
    let session = node.attach();
    consume_on(&mut node, session, consume(1, "jobs"));
    let again = node.deliveries(session);
    let shown: Vec<_> = again
        .iter()
        .map(|d| (text(d), d.count, d.redelivered))
        .collect();
    assert_eq!(
        shown,
        [("one".to_owned(), 2, true), ("two".to_owned(), 2, true)]
    );
}

#[test]
fn rules_a3_a_refusal_that_read_durable_state_waits() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    let token = node.token();
    let declare = queue_with("jobs", |options| {
        options.declaration = Some(Bytes::from_static(b"other"));
        options.exclusive = true;
    });
    let lane = Lane(0);
    node.give(
        session,
        Command::Declare {
            token,
            lane,
            declare,
        },
    );
    let heard = node.answer(session);
    assert!(matches!(heard.event, Event::Refused { .. }));
    assert_eq!(heard.after, node.records.len());
}

#[test]
fn rules_a3_a_dedup_hit_waits_for_what_it_was_told_of() {
    let (mut node, session) = with_queues(vec![queue("jobs", |at| at.deduplicate = true)]);
    let message = to_queue("jobs", "one").durable().with(|message| {
        message.fields_mut().dedup_id = Some(Bytes::from_static(b"d"));
    });
    assert_eq!(node.confirmed(session, message.clone()), accepted(1));
    let token = node.token();
    node.give(session, publish(message).confirm(token));
    let heard = node.answer(session);
    let outcome = PublishOutcome::Duplicate { of: None };
    assert_eq!(heard.event, Event::Published { token, outcome });
    assert_eq!(heard.after, node.records.len());
}

#[test]
fn rules_a3_session_present_waits_for_the_session() {
    let mut node = Node::new();
    let (first, present) = connect(&mut node, open("ann"));
    assert!(!present);
    node.detach(first);
    let session = node.attach();
    node.give(session, open("ann"));
    let heard = node.take(session);
    let opened = heard
        .iter()
        .find(|heard| matches!(heard.event, Event::Opened { present: true, .. }));
    assert_eq!(opened.expect("it is present").after, node.records.len());
}

#[test]
fn rules_a3_what_touches_soft_state_alone_waits_for_nothing() {
    let (mut node, session) = with_queues(vec![
        plain("durable"),
        queue_with("soft", |options| options.durable = false),
    ]);
    node.give(session, publish(to_queue("durable", "x").durable()));
    let token = node.token();
    node.give(session, publish(to_queue("soft", "one")).confirm(token));
    assert_eq!(node.answer(session).after, 0);
    consume_on(&mut node, session, consume(1, "soft"));
    assert_eq!(waits(&mut node, session), [0]);
}

#[test]
fn rules_a4_a_publish_with_a_durable_target_waits_at_all_of_its_targets() {
    let (mut node, session) = with_queues(vec![
        plain("durable"),
        queue_with("soft", |options| options.durable = false),
    ]);
    for queue in ["durable", "soft"] {
        node.declared(session, bind("amq.fanout", queue, ""));
    }
    consume_on(&mut node, session, consume(1, "soft"));
    node.give(
        session,
        publish(to_exchange("amq.fanout", "", "one").durable()),
    );
    assert_eq!(waits(&mut node, session), [node.records.len()]);
}

/// [AMQP-basic.08], [AMQP-4.7-1]
#[test]
fn rules_a4_within_a_queue_nobody_overtakes() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    for (body, qos) in [("one", 1), ("two", 0), ("three", 1), ("four", 0)] {
        node.give(session, publish(to_queue("jobs", body).qos(qos)));
    }
    consume_on(&mut node, session, consume(1, "jobs").window(3));
    let out = node.deliveries(session);
    assert_eq!(
        out.iter().map(text).collect::<Vec<_>>(),
        ["one", "two", "three"]
    );
    // What comes back goes to its old place.
    node.give(session, settle_delivery(&out[1], Outcome::Release));
    assert_eq!(node.bodies(session), ["two"]);
}

#[test]
fn rules_a5_no_target_is_success_after_the_return() {
    let mut node = Node::new();
    let session = node.attach();
    let token = node.token();
    let sent = publish(to_exchange("amq.direct", "nowhere", "one")).mandatory();
    node.give(session, sent.confirm(token));
    let heard = node.take(session);
    assert!(matches!(heard[0].event, Event::Returned { .. }));
    let outcome = accepted(0);
    assert_eq!(heard[1].event, Event::Published { token, outcome });
}

#[test]
fn rules_a5_when_one_target_refuses_the_others_keep_it() {
    let (mut node, session) = with_queues(vec![
        plain("roomy"),
        queue("full", |at| {
            at.length_max = Some(1);
            at.overflow = Overflow::RejectPublish;
        }),
    ]);
    for queue in ["roomy", "full"] {
        node.declared(session, bind("amq.fanout", queue, ""));
    }
    let sent = to_exchange("amq.fanout", "", "one").durable();
    assert_eq!(node.confirmed(session, sent.clone()), accepted(2));
    let outcome = node.confirmed(session, sent);
    assert_eq!(refused(&outcome), Some(RefusalKind::QueueFull));
    assert_eq!(node.look(session, "roomy").0, 2);
    assert_eq!(node.look(session, "full").0, 1);
}

#[test]
fn rules_a5_a_confirm_waits_for_the_record_that_stores_the_message() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    let token = node.token();
    node.give(session, publish(to_queue("jobs", "one")).confirm(token));
    assert_eq!(node.answer(session).after, node.records.len());
}

#[test]
fn rules_a5_a_retained_update_is_part_of_the_publish() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    node.declared(session, bind("amq.topic", "jobs", "a"));
    let records = node.records.len();
    let sent = to_topic("a", "one").qos(1).retained();
    assert_eq!(node.confirmed(session, sent), accepted(1));
    assert_eq!(node.records.len(), records + 1);
    assert_eq!(node.broker.counters().retained, 1);
}

#[test]
fn rules_a6_a_queue_made_again_is_another_one() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    let mut ids = Vec::new();
    for _ in 0..2 {
        consume_on(&mut node, session, consume(1, "jobs"));
        node.give(session, publish(to_queue("jobs", "one").durable()));
        ids.push(only(node.deliveries(session)).id.expect("unsettled"));
        node.declared_after_cancel(session, delete("jobs"));
        node.declared(session, plain("jobs"));
    }
    assert_ne!(ids[0].queue, ids[1].queue);
    // A settlement of the first is of no consequence for the second.
    consume_on(&mut node, session, consume(1, "jobs"));
    node.give(session, publish(to_queue("jobs", "two").durable()));
    let mut stale = settle(ids[0], Outcome::Accept);
    stale.token = Some(node.token());
    node.give(session, stale);
    assert!(matches!(node.answer(session).event, Event::Refused { .. }));
}

#[test]
fn rules_a6_a_client_gets_the_same_numbers_after_a_takeover() {
    let mut node = Node::new();
    let (session, _) = connect(&mut node, open("ann"));
    consume_on(&mut node, session, subscribe("a", 1));
    node.give(session, publish(to_topic("a", "one").qos(1)));
    let first = only(node.deliveries(session));
    node.restart();
    let (session, present) = connect(&mut node, open("ann"));
    assert!(present);
    let again = only(node.deliveries(session));
    assert_eq!((again.id, again.resent), (first.id, true));
}

#[test]
fn rules_a6_a_shared_delivery_moves_into_the_clients_queue_by_record() {
    let mut node = Node::new();
    let (session, _) = connect(&mut node, open("ann"));
    let shared = Subscribe {
        source: Source::Shared {
            group: name("g"),
            filter: message::Filter::Pattern(pattern("a.#")),
        },
        through_client: true,
        ..consume(7, "")
    };
    consume_on(&mut node, session, shared.with(|s| s.options.qos = 2));
    node.give(session, publish(to_topic("a.b", "one").qos(2)));
    let first = only(node.deliveries(session));
    assert_eq!(first.qos, 2);
    node.restart();
    let (session, _) = connect(&mut node, open("ann"));
    let again = only(node.deliveries(session));
    assert_eq!((again.id, again.resent), (first.id, true));
    node.give(session, settle_delivery(&again, Outcome::Accept));
    let gauges = node.broker.counters();
    assert_eq!((gauges.messages_ready, gauges.messages_unacked), (0, 0));
}

#[test]
fn rules_a6_the_id_of_an_exactly_once_publish_rides_in_its_record() {
    let (mut node, observer) = with_queues(vec![plain("jobs")]);
    node.declared(observer, bind("amq.topic", "jobs", "a"));
    let (session, _) = connect(&mut node, open("ann"));
    let records = node.records.len();
    let sent = |node: &mut Node, session| {
        let token = node.token();
        let publish = publish(to_topic("a", "one").qos(2)).inbound(5);
        node.give(session, publish.confirm(token));
        node.answer(session).event
    };
    sent(&mut node, session);
    assert_eq!(node.records.len(), records + 1);
    node.restart();
    let (session, _) = connect(&mut node, open("ann"));
    let event = sent(&mut node, session);
    assert!(
        matches!(
            event,
            Event::Published {
                outcome: PublishOutcome::Duplicate { of: None },
                ..
            }
        ),
        "{event:?}"
    );
    assert_eq!(node.look(session, "jobs").0, 1);
    node.give(session, Command::ReleaseInbound { id: 5 });
    let released = node.answer(session);
    let (id, known) = (5, true);
    assert_eq!(released.event, Event::InboundReleased { id, known });
    assert_eq!(released.after, node.records.len());
}

#[test]
fn rules_a7_a_transaction_is_all_or_nothing() {
    let (mut node, session) = with_queues(vec![
        plain("jobs"),
        queue("none", |at| {
            at.length_max = Some(0);
            at.overflow = Overflow::RejectPublish;
        }),
    ]);
    let both = vec![
        Operation::Publish(publish(to_queue("jobs", "one").durable())),
        Operation::Publish(publish(to_queue("none", "two").durable())),
    ];
    let refused = transact(&mut node, both);
    node.give(session, refused);
    assert!(matches!(node.answer(session).event, Event::Refused { .. }));
    assert_eq!(node.look(session, "jobs").0, 0);
}

#[test]
fn rules_a7_without_its_last_record_a_transaction_never_was() {
    let (mut node, session) = with_queues(vec![plain("jobs"), plain("done")]);
    consume_on(&mut node, session, consume(1, "done"));
    node.give(session, publish(to_queue("done", "settled").durable()));
    let settled = only(node.deliveries(session));
    let before = (node.records.len(), node.broker.counters().messages_ready);
    let committed = transact(
        &mut node,
        vec![
            Operation::Publish(publish(to_queue("jobs", "one").durable())),
            Operation::Publish(publish(to_queue("jobs", "two").durable())),
            Operation::Settle(settle_delivery(&settled, Outcome::Accept)),
        ],
    );
    node.give(session, committed);
    let heard = node.answer(session);
    assert!(matches!(heard.event, Event::Committed { .. }));
    assert_eq!(heard.after, node.records.len());
    for cut in before.0..node.records.len() {
        let mut part = Node::new();
        part.records.clone_from(&node.records);
        part.records.truncate(cut);
        part.broker = part.replayed();
        assert_eq!(part.broker.counters().messages_ready, 1, "cut at {cut}");
    }
    assert_eq!(node.replayed().counters().messages_ready, 2);
}

#[test]
fn rules_a7_a_transaction_is_bounded() {
    let mut node = Node::with(Config {
        transaction_operations_max: 2,
        ..Config::default()
    });
    let session = node.attach();
    node.declared(session, plain("jobs"));
    let publish = Operation::Publish(publish(to_queue("jobs", "one")));
    let large = transact(&mut node, vec![publish.clone(), publish.clone(), publish]);
    node.give(session, large);
    let Event::Refused { refusal, .. } = node.answer(session).event else {
        panic!("it is too large");
    };
    assert_eq!(refusal.kind, RefusalKind::QuotaExceeded);
}
