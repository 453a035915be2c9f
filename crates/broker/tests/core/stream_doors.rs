//! Streams under the names of queues, and bound to exchanges (DOORS 6).

use session::*;

use crate::rig::{Rig, pattern, to_queue, to_topic};

fn publish(rig: &mut Rig, from: SessionId, name: &str, or_stream: bool) -> PublishOutcome {
    let token = rig.token();
    rig.command(
        from,
        Command::Publish(Publish {
            token: Some(token),
            lane: Lane(0),
            message: to_queue(name, "x").into(),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream,
            hash_key: None,
        }),
    );
    match rig.found(from, token) {
        Some(Event::Published { outcome, .. }) => outcome,
        other => panic!("{other:?}"),
    }
}

fn count(rig: &mut Rig, from: SessionId, name: &str) -> u64 {
    rig.info(from, name, StreamTo::Inspect).next_offset
}

fn bind(target: BindTarget) -> Box<Binding> {
    Box::new(Binding {
        exchange: "amq.topic".into(),
        target,
        filter: message::Filter::Pattern(pattern("a/+")),
        key: message::Levels::none(),
        arguments: bytes::Bytes::new(),
    })
}

#[test]
fn doors_6_a_bare_name_is_the_queue_else_the_stream_for_who_asks_so() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let outcome = publish(&mut rig, a, "s", true);
    assert!(matches!(
        outcome,
        PublishOutcome::Accepted { matched: 1, record: Some(place), .. } if place.offset == 0
    ));
    let outcome = publish(&mut rig, a, "s", false);
    assert!(matches!(
        outcome,
        PublishOutcome::Accepted { matched: 0, .. }
    ));
    rig.durable_queue(a, "s", QueueAttributes::default());
    let outcome = publish(&mut rig, a, "s", true);
    assert!(matches!(
        outcome,
        PublishOutcome::Accepted {
            matched: 1,
            record: None,
            ..
        }
    ));
    assert_eq!(count(&mut rig, a, "s"), 1);
    rig.check_replay();
}

#[test]
fn doors_6_who_compares_declarations_may_not_declare_the_other_kind() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let compared = QueueOptions {
        durable: true,
        declaration: Some("queue".into()),
        ..QueueOptions::default()
    };
    let Event::Refused { refusal, .. } = rig.queue(a, "s", compared) else {
        panic!("a queue is declared by the name of a stream")
    };
    assert_eq!(refusal.kind, RefusalKind::Inequivalent);
    let plain = QueueOptions {
        durable: true,
        ..QueueOptions::default()
    };
    assert!(matches!(rig.queue(a, "s", plain), Event::Declared { .. }));
}

#[test]
fn a_stream_is_bound_until_it_is_unbound_or_deleted_also_over_a_restart() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    rig.make(a, "gone", 1);
    for name in ["s", "gone"] {
        let declare = Declare::Bind(bind(BindTarget::Stream(name.into())));
        assert!(matches!(rig.declare(a, declare), Event::Declared { .. }));
    }
    let missing = Declare::Bind(bind(BindTarget::Stream("none".into())));
    assert!(matches!(rig.declare(a, missing), Event::Refused { .. }));
    let outcome = rig.publish(a, to_topic("a/b", "x", 1));
    assert!(matches!(
        outcome,
        PublishOutcome::Accepted { matched: 2, .. }
    ));
    rig.info(a, "gone", StreamTo::Delete);
    rig.make(a, "gone", 1);
    rig.check_replay();
    rig.restart();
    let a = rig.attach(2);
    let outcome = rig.publish(a, to_topic("a/c", "x", 1));
    assert!(matches!(
        outcome,
        PublishOutcome::Accepted { matched: 1, .. }
    ));
    assert_eq!(count(&mut rig, a, "s"), 2);
    assert_eq!(count(&mut rig, a, "gone"), 0);
    // By the name of a queue, as AMQP unbinds.
    let unbind = Declare::Unbind(bind(BindTarget::Queue("s".into())));
    assert!(matches!(rig.declare(a, unbind), Event::Declared { .. }));
    let outcome = rig.publish(a, to_topic("a/d", "x", 1));
    assert!(matches!(
        outcome,
        PublishOutcome::Accepted { matched: 0, .. }
    ));
    rig.check_replay();
}
