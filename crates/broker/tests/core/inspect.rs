//! Queues as doors that manage them see them: looked at, listed, made with notes, altered.

use bytes::Bytes;
use session::{
    Command, Credit, Declare, DeliveryId, Event, Fifo, Lane, Lease, List, Notes, Overflow,
    PublishOutcome, QueueAttributes, QueueInfo, QueueOptions, Redrive, RefusalKind, SessionId,
};

use crate::rig::{Rig, to_queue};

fn look(rig: &mut Rig, by: SessionId, name: &str) -> Result<QueueInfo, RefusalKind> {
    let token = rig.token();
    let lane = Lane(0);
    let name = name.to_owned().into();
    rig.command(by, Command::Inspect { token, lane, name });
    match rig.last_event(by) {
        Event::Inspected { queue, .. } => Ok(*queue),
        Event::Refused { refusal, .. } => Err(refusal.kind),
        other => panic!("{other:?}"),
    }
}

fn declared(rig: &mut Rig, by: SessionId, declare: Declare) -> Result<(), RefusalKind> {
    match rig.declare(by, declare) {
        Event::Declared { .. } => Ok(()),
        Event::Refused { refusal, .. } => Err(refusal.kind),
        other => panic!("{other:?}"),
    }
}

fn new_queue(name: &str, attributes: QueueAttributes, notes: Notes) -> Declare {
    Declare::NewQueue {
        name: name.to_owned().into(),
        unless_deleted_ms: 0,
        attributes: Box::new(attributes),
        notes,
    }
}

#[test]
fn a_name_may_be_wanted_only_when_its_queue_has_been_gone_for_a_while() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let wanted = |name: &str| Declare::NewQueue {
        name: name.to_owned().into(),
        unless_deleted_ms: 60_000,
        attributes: Box::default(),
        notes: Vec::new(),
    };
    let deleted = |name: &str| Declare::DeleteQueue {
        name: name.to_owned().into(),
        if_unused: false,
        if_empty: false,
    };
    assert_eq!(declared(&mut rig, a, wanted("q")), Ok(()));
    assert_eq!(declared(&mut rig, a, deleted("q")), Ok(()));
    assert_eq!(declared(&mut rig, a, wanted("q")), Err(RefusalKind::InUse));
    assert_eq!(declared(&mut rig, a, wanted("other")), Ok(()));
    rig.tick(30_000);
    // Who does not mind has it at once; deleted again, it is so from then on.
    let plain = QueueAttributes::default();
    assert_eq!(
        declared(&mut rig, a, new_queue("q", plain, Vec::new())),
        Ok(())
    );
    assert_eq!(declared(&mut rig, a, deleted("q")), Ok(()));
    rig.tick(59_999);
    assert_eq!(declared(&mut rig, a, wanted("q")), Err(RefusalKind::InUse));
    rig.tick(1);
    assert_eq!(declared(&mut rig, a, wanted("q")), Ok(()));
    rig.check_replay();
}

fn note(name: &'static str, text: &'static str) -> (Bytes, Bytes) {
    (name.into(), text.into())
}

fn list(rig: &mut Rig, by: SessionId, list: List) -> (Vec<String>, bool) {
    let token = rig.token();
    let lane = Lane(0);
    let list = Box::new(list);
    rig.command(by, Command::List { token, lane, list });
    match rig.last_event(by) {
        Event::Listed { names, more, .. } => (
            names
                .iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
            more,
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_queue_shows_what_it_is_and_what_is_in_it() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let made = rig.now;
    let attributes = QueueAttributes {
        visibility_timeout_ms: Some(5000),
        ..QueueAttributes::default()
    };
    let notes = vec![note("tag:b", "2"), note("tag:a", "1")];
    assert_eq!(
        declared(
            &mut rig,
            a,
            new_queue("q", attributes.clone(), notes.clone())
        ),
        Ok(())
    );
    let again = declared(&mut rig, a, new_queue("q", attributes.clone(), notes));
    assert_eq!(again, Err(RefusalKind::Inequivalent));
    rig.send(a, "q", "1");
    rig.send(a, "q", "2");
    rig.send(a, "q", "3");
    let mut delayed = to_queue("q", "later");
    delayed.delay_ms = 1000;
    rig.publish(a, delayed);
    rig.pull(a, "q", 1, Lease::Ms(100));
    rig.tick(10);
    let info = look(&mut rig, a, "q").expect("it is there");
    assert_eq!((info.available, info.delayed, info.out), (2, 1, 1));
    assert_eq!(info.options.attributes, attributes);
    assert_eq!(info.notes, [note("tag:a", "1"), note("tag:b", "2")]);
    assert_eq!((info.created, info.changed, info.version), (made, made, 0));
    assert_eq!(look(&mut rig, a, "none"), Err(RefusalKind::NotFound));
    rig.check_replay();
}

#[test]
fn altering_names_the_version_that_was_read_and_survives_a_restart() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let plain = QueueAttributes::default();
    assert_eq!(
        declared(&mut rig, a, new_queue("q", plain.clone(), Vec::new())),
        Ok(())
    );
    rig.send(a, "q", "old");
    rig.tick(50);
    let alter = |version, attributes: &QueueAttributes, notes: Notes| Declare::Alter {
        name: "q".into(),
        version,
        attributes: Box::new(attributes.clone()),
        notes,
    };
    let kept = QueueAttributes {
        retention_ms: Some(60),
        ..plain.clone()
    };
    let notes = vec![note("policy", "{}")];
    assert_eq!(
        declared(&mut rig, a, alter(0, &kept, notes.clone())),
        Ok(())
    );
    let stale = declared(&mut rig, a, alter(0, &plain, Vec::new()));
    assert_eq!(stale, Err(RefusalKind::Inequivalent));
    let fifo = QueueAttributes {
        fifo: Some(Fifo {
            dedup_by_content: false,
            dedup_per_group: false,
        }),
        ..kept
    };
    let other = declared(&mut rig, a, alter(1, &fifo, Vec::new()));
    assert_eq!(
        other,
        Err(RefusalKind::Inequivalent),
        "an order does not change"
    );
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    let info = look(&mut rig, b, "q").expect("it is there");
    assert_eq!((info.version, info.notes), (1, notes));
    assert!(info.changed > info.created);
    // What was there before ages by the new time.
    rig.tick(9);
    assert_eq!(look(&mut rig, b, "q").map(|info| info.available), Ok(1));
    rig.tick(2);
    assert_eq!(look(&mut rig, b, "q").map(|info| info.available), Ok(0));
}

#[test]
fn a_purge_that_is_noted_does_both_or_nothing() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        delay_ms: 1,
        ..QueueAttributes::default()
    };
    let made = new_queue("q", attributes.clone(), vec![note("tag:a", "1")]);
    assert_eq!(declared(&mut rig, a, made), Ok(()));
    rig.send(a, "q", "old");
    rig.tick(5);
    let purge = |version, notes: Notes| Declare::PurgeAll {
        name: "q".into(),
        noted: Some((version, notes)),
    };
    let notes = vec![note("purged", "5"), note("tag:a", "1")];
    let stale = declared(&mut rig, a, purge(7, notes.clone()));
    assert_eq!(stale, Err(RefusalKind::Inequivalent));
    let info = look(&mut rig, a, "q").expect("it is there");
    assert_eq!((info.available, info.notes.len()), (1, 1));
    assert_eq!(declared(&mut rig, a, purge(0, notes.clone())), Ok(()));
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    let info = look(&mut rig, b, "q").expect("it is there");
    assert_eq!((info.available, info.version), (0, 1));
    assert_eq!(
        (info.notes, info.options.attributes.clone()),
        (notes, attributes)
    );
    let mut other = purge(0, Vec::new());
    if let Declare::PurgeAll { name, .. } = &mut other {
        *name = "none".into();
    }
    assert_eq!(declared(&mut rig, b, other), Err(RefusalKind::NotFound));
}

#[test]
fn lists_are_in_order_in_pages_and_leave_out_what_does_not_stay() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for name in ["b2", "a1", "b1", "b3", "c"] {
        rig.durable_queue(a, name, QueueAttributes::default());
    }
    rig.queue(a, "b0-soft", QueueOptions::default());
    let auto_delete = QueueOptions {
        durable: true,
        auto_delete: true,
        ..QueueOptions::default()
    };
    rig.queue(a, "b0-auto", auto_delete);
    let page = |after: Option<&str>| List {
        prefix: "b".into(),
        after: after.map(|name| name.to_owned().into()),
        limit: 2,
        ..List::default()
    };
    let names = |all: &[&str]| {
        all.iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&mut rig, a, page(None)), (names(&["b1", "b2"]), true));
    assert_eq!(list(&mut rig, a, page(Some("b2"))), (names(&["b3"]), false));
    let fed = QueueAttributes {
        redrive: Some(Redrive { target: "c".into() }),
        deliveries_max: Some(3),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "source", fed);
    let feeding = List {
        feeding: Some("c".into()),
        limit: 10,
        ..List::default()
    };
    assert_eq!(list(&mut rig, a, feeding), (names(&["source"]), false));
    rig.declare(
        a,
        Declare::DeleteQueue {
            name: "b1".into(),
            if_unused: false,
            if_empty: false,
        },
    );
    assert_eq!(list(&mut rig, a, page(None)), (names(&["b2", "b3"]), false));
}

#[test]
fn a_publish_to_a_queue_tells_its_place_and_a_repeat_the_original() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        deduplicate: true,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    let message = || {
        let mut message = to_queue("q", "m");
        let fields = message.fields_mut();
        fields.dedup_id = Some("d".into());
        fields.message_id = Some(message::Value::Uuid([7; 16]));
        message
    };
    let PublishOutcome::Accepted { place, .. } = rig.publish(a, message()) else {
        panic!("it is new");
    };
    let place: DeliveryId = place.expect("a queue has places");
    rig.pull(a, "q", 1, Lease::Settled);
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    let PublishOutcome::Duplicate { of } = rig.publish(b, message()) else {
        panic!("it repeats");
    };
    let of = of.expect("its original is known");
    assert_eq!((of.place, of.message_id), (place, Some([7; 16])));
}

#[test]
fn doors_11_who_compares_nothing_is_told_that_a_queue_is_not_as_it_asks() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let with = |attributes| QueueOptions {
        durable: true,
        attributes,
        ..QueueOptions::default()
    };
    let none = QueueAttributes::default;
    let limit = |length_max| QueueAttributes {
        length_max,
        ..none()
    };
    let single = QueueAttributes {
        single_active_consumer: true,
        ..none()
    };
    let overflow = QueueAttributes {
        overflow: Overflow::RejectPublish,
        ..none()
    };
    let alone = QueueOptions {
        exclusive: true,
        ..QueueOptions::default()
    };
    rig.durable_queue(a, "q", limit(Some(5)));
    for (asked, fits) in [
        (with(none()), true),
        (with(limit(Some(5))), true),
        (with(limit(Some(6))), false),
        (with(single), false),
        (with(overflow), false),
        (alone, false),
    ] {
        match rig.queue(a, "q", asked.clone()) {
            Event::Declared { .. } => assert!(fits, "{asked:?}"),
            Event::Refused { refusal, .. } => {
                assert_eq!(refusal.kind, RefusalKind::Inequivalent);
                assert!(!fits, "{asked:?}: {}", refusal.detail);
            }
            other => panic!("{other:?}"),
        }
    }
    rig.check_replay();
}

#[test]
fn a_message_may_want_no_delay_though_its_queue_has_one() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        delay_ms: 500,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.consume(a, 1, "q", Credit::Window(0));
    rig.send(a, "q", "late");
    let mut soon = to_queue("q", "soon");
    soon.durable = true;
    soon.delay_ms = message::Message::AT_ONCE;
    rig.publish(a, soon);
    assert_eq!(rig.bodies(a), ["soon"]);
    rig.check_replay();
    rig.tick(500);
    assert_eq!(rig.bodies(a), ["late"]);
    rig.check_replay();
}
