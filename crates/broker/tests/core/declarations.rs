//! Queues declared again, and names that are made up or reserved.

use session::*;

use crate::rig::*;

/// [AMQP-queue.declare.auto-delete.pre-existence]
#[test]
fn doors_11_unequal_declarations_are_refused_and_another_doors_queue_adopts_the_first() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    let declaration = |text: &str, ttl| QueueOptions {
        durable: false,
        declaration: Some(text.to_owned().into()),
        attributes: QueueAttributes {
            ttl_ms: ttl,
            ..QueueAttributes::default()
        },
        ..QueueOptions::default()
    };
    let adopted = rig.queue(a, "q", declaration("one", Some(5)));
    assert!(matches!(adopted, Event::Declared { .. }));
    let other = rig.queue(a, "q", declaration("two", Some(5)));
    assert!(
        matches!(other, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::Inequivalent)
    );
    rig.send(a, "q", "x");
    rig.tick(6);
    assert_eq!(rig.broker.counters().dropped_expired, 1);
    rig.check_replay();
}

/// The refusal of a declaration that is not adopted says what differs; that it says durable or not is all the same.
#[test]
fn doors_11_what_a_declaration_that_is_not_adopted_differs_in() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for (name, durable, auto_delete, property) in [
        ("q", true, true, Some("auto_delete")),
        ("q", true, false, None),
        ("r", false, false, None),
    ] {
        rig.durable_queue(a, name, QueueAttributes::default());
        let options = QueueOptions {
            durable,
            auto_delete,
            declaration: Some(format!("{durable} {auto_delete}").into()),
            ..QueueOptions::default()
        };
        let told = match rig.queue(a, name, options) {
            Event::Declared { .. } => None,
            Event::Refused { refusal, .. } => {
                assert_eq!(refusal.kind, RefusalKind::Inequivalent);
                refusal.unlike.map(|it| it.property)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(told, property, "{name}");
    }
    rig.check_replay();
}

#[test]
fn made_up_names_and_reserved_ones() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let Event::Declared { name, .. } = rig.queue(a, "", QueueOptions::default()) else {
        panic!("a name is made up");
    };
    assert!(name.starts_with(b"amq.gen-"));
    let reserved = rig.queue(a, "amq.mine", QueueOptions::default());
    assert!(
        matches!(reserved, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::AccessDenied)
    );
    let missing = rig.declare(
        a,
        Declare::Queue {
            name: "nope".into(),
            passive: true,
            options: Box::default(),
        },
    );
    assert!(
        matches!(missing, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::NotFound)
    );
}
