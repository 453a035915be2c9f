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
            folds: false,
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

/// As AWS makes it, which may make both kinds of one name.
fn make_queue(rig: &mut Rig, from: SessionId, name: &str) {
    let new = Declare::NewQueue {
        name: name.to_owned().into(),
        unless_deleted_ms: 0,
        attributes: Box::default(),
        notes: Vec::new(),
    };
    assert!(matches!(rig.declare(from, new), Event::Declared { .. }));
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
    make_queue(&mut rig, a, "s");
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
    // STOMP compares none, and reads and writes by the bare name all the same.
    let plain = QueueOptions {
        durable: true,
        ..QueueOptions::default()
    };
    let Event::Refused { refusal, .. } = rig.queue(a, "s", plain) else {
        panic!("a queue is declared by the name of a stream")
    };
    assert_eq!(refusal.detail, "'s' is a stream");
    make_queue(&mut rig, a, "s");
}

/// A queue under the name of a stream would take the bare name over.
#[test]
fn doors_6_who_makes_queues_makes_none_by_the_name_of_a_stream() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let send = |rig: &mut Rig, name: &str| {
        let token = rig.token();
        let publish = Publish {
            token: Some(token),
            lane: Lane(0),
            message: to_queue(name, "x").into(),
            mandatory: false,
            create: true,
            inbound_id: None,
            or_stream: true,
            hash_key: None,
            folds: false,
        };
        rig.command(a, Command::Publish(publish));
        match rig.found(a, token) {
            Some(Event::Published {
                outcome: PublishOutcome::Accepted { record, place, .. },
                ..
            }) => (record.map(|it| it.offset), place.is_some()),
            other => panic!("{other:?}"),
        }
    };
    let read = |rig: &mut Rig, consumer, name: &str| {
        let subscribe = Subscribe {
            source: Source::Named {
                name: name.to_owned().into(),
            },
            ..rig.consumer(consumer, name, Credit::Settled)
        };
        let answer = rig.subscribe(a, subscribe);
        assert!(matches!(answer, Event::Subscribed { .. }), "{answer:?}");
    };
    assert_eq!(send(&mut rig, "s"), (Some(0), false));
    read(&mut rig, 1, "s");
    assert_eq!(send(&mut rig, "s"), (Some(1), false));
    let records = |rig: &mut Rig| -> Vec<_> {
        let got = rig.deliveries(a);
        got.iter().map(|it| it.record.map(|it| it.offset)).collect()
    };
    assert_eq!(records(&mut rig), [Some(1)], "from the next record on");
    // Where there is neither it is a queue.
    read(&mut rig, 2, "q");
    assert_eq!(send(&mut rig, "q"), (None, true));
    assert_eq!(send(&mut rig, "other"), (None, true));
    assert_eq!(records(&mut rig), [None]);
    // Where there are both it is the queue.
    make_queue(&mut rig, a, "s");
    assert_eq!(send(&mut rig, "s"), (None, true));
    assert_eq!(count(&mut rig, a, "s"), 2);
    read(&mut rig, 3, "s");
    assert_eq!(records(&mut rig), [None]);
    rig.check_replay();
}

#[test]
fn doors_6_no_consumer_makes_a_queue_by_the_name_of_a_stream() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let subscribe = |rig: &mut Rig, consumer| {
        let source = Source::Queue {
            name: "s".into(),
            create: true,
        };
        let subscribe = Subscribe {
            source,
            ..rig.consumer(consumer, "s", Credit::Settled)
        };
        rig.subscribe(a, subscribe)
    };
    let Event::Refused { refusal, .. } = subscribe(&mut rig, 1) else {
        panic!("a queue is made by the name of a stream")
    };
    assert_eq!(refusal.kind, RefusalKind::Inequivalent);
    make_queue(&mut rig, a, "s");
    let read = subscribe(&mut rig, 2);
    assert!(matches!(read, Event::Subscribed { .. }), "{read:?}");
}

#[test]
fn doors_6_no_stream_is_made_by_the_bare_name_of_a_queue() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let ensure = |rig: &mut Rig, name: &str, bare_name| {
        let to = StreamTo::Ensure {
            attributes: StreamAttributes::default(),
            shards: 1,
            notes: Vec::new(),
            bare_name,
        };
        rig.stream(a, name, to)
    };
    for name in ["q", "both"] {
        make_queue(&mut rig, a, name);
    }
    rig.make(a, "both", 1);
    for name in ["q", "both"] {
        let Event::Refused { refusal, .. } = ensure(&mut rig, name, true) else {
            panic!("{name} is read as a stream")
        };
        assert_eq!(refusal.kind, RefusalKind::Inequivalent);
        assert!(matches!(
            ensure(&mut rig, name, false),
            Event::Stream { .. }
        ));
    }
    assert!(matches!(ensure(&mut rig, "s", true), Event::Stream { .. }));
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
