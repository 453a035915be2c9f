//! RULES B: deadlines, what they record, and what a new epoch ends.

use session::{ClientExpiry, Event, Lease, RefusalKind, Will};

use crate::{support::*, *};

#[test]
fn rules_b8_the_ends_of_delays_and_leases_make_no_record() {
    let (mut node, session) = with_queues(vec![queue("jobs", |at| at.delay_ms = 100)]);
    node.give(session, publish(to_queue("jobs", "one").durable()));
    assert_eq!(node.look(session, "jobs").0, 0);
    let records = node.records.len();
    node.pass(100);
    assert_eq!(
        (node.look(session, "jobs").0, node.records.len()),
        (1, records)
    );
    node.give(session, pull("jobs", 1, Lease::Ms(50)));
    assert!(matches!(node.answer(session).event, Event::Pulled { .. }));
    let records = node.records.len();
    assert_eq!(node.look(session, "jobs").0, 0);
    node.pass(50);
    assert_eq!(
        (node.look(session, "jobs").0, node.records.len()),
        (1, records)
    );
}

#[test]
fn rules_b8_expiry_is_a_record() {
    let (mut node, session) = with_queues(vec![queue("jobs", |at| at.ttl_ms = Some(100))]);
    node.give(session, publish(to_queue("jobs", "one").durable()));
    let records = node.records.len();
    node.pass(200);
    assert_eq!(node.records.len(), records + 1);
    assert_eq!(node.replayed().counters().messages_ready, 0);
}

#[test]
fn rules_b8_an_epoch_ends_every_connection() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    node.declared(
        session,
        queue_with("mine", |options| options.exclusive = true),
    );
    node.give(session, publish(to_queue("jobs", "one").durable()));
    consume_on(&mut node, session, consume(1, "jobs"));
    let (_, _) = connect(
        &mut node,
        session::OpenClient {
            expiry: ClientExpiry::AfterMs(1000),
            will: Some(Box::new(Will {
                message: to_queue("jobs", "will").durable().into(),
                delay_ms: 500,
                ttl_ms: None,
            })),
            ..open("ann")
        },
    );
    node.restart();
    let session = node.attach();
    assert_eq!(node.look(session, "jobs"), (1, 0));
    let refusal = node.declare_refused(session, look("mine"));
    assert_eq!(refusal.kind, RefusalKind::NotFound);
    assert_eq!(node.broker.counters().clients, 1);
    // The will's delay and the session's expiry start with the epoch.
    node.pass(499);
    assert_eq!(node.look(session, "jobs").0, 1);
    node.pass(1);
    assert_eq!(node.look(session, "jobs").0, 2);
    node.pass(500);
    assert_eq!(node.broker.counters().clients, 0);
}

#[test]
fn rules_b8_time_never_goes_back() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    node.pass(5_000);
    node.give(session, publish(to_queue("jobs", "one").durable()));
    assert_eq!(node.replayed().last_time(), node.now);
}
