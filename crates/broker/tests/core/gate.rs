//! Which queues take what topics bring: a door's word.

use std::sync::Arc;

use message::VhostId;
use session::*;

use crate::{
    rig::*,
    subscriptions::{dead_letters_to, into_queue, new, publish},
};

/// A queue with a note takes what topics bring if the note is the topic's name, one without takes nothing from elsewhere.
#[derive(Debug)]
struct ByNote;

impl Gate for ByNote {
    fn takes(&self, brought: &Brought<'_>) -> bool {
        match brought.notes.first() {
            Some((_, allowed)) => allowed == brought.topic,
            None => brought.from == brought.to,
        }
    }
}

#[test]
fn a_gate_says_which_queues_take_what_a_topic_brings() {
    let mut rig = Rig::new();
    rig.broker.set_gate(Some(Arc::new(ByNote)));
    rig.run(|broker, cx, out| broker.decide_vhosts(&["x"], cx, out));
    let a = rig.attach(1);
    let b = rig.attach_in(2, VhostId(1));
    let noted = |name: &str, note: &str| Declare::NewQueue {
        name: name.to_owned().into(),
        unless_deleted_ms: 0,
        attributes: Box::default(),
        notes: vec![("allows".into(), note.to_owned().into())],
    };
    rig.new_topic(a, "t", false);
    for name in ["dead", "here"] {
        rig.durable_queue(a, name, QueueAttributes::default());
    }
    rig.declare(a, noted("here-open", "t"));
    rig.declare(a, noted("here-shut", "u"));
    rig.durable_queue(b, "there", QueueAttributes::default());
    rig.declare(b, noted("there-open", "t"));
    for (number, name) in ["here", "here-open", "here-shut"].into_iter().enumerate() {
        let mut new = new(number as u8, "t", into_queue(name));
        new.settings = dead_letters_to("dead");
        rig.subscribed(a, new);
    }
    for (number, name) in [(3, "there"), (4, "there-open")] {
        let target = SubscriptionTarget::Queue {
            vhost: Some("x".into()),
            name: name.into(),
        };
        rig.subscribed(a, new(number, "t", target));
    }
    // Its dead-letter queue takes nothing either.
    let mut last = new(5, "t", into_queue("here-shut"));
    last.settings = dead_letters_to("here-shut");
    rig.subscribed(a, last);
    rig.publish(a, publish("t", "1"));
    for (who, queue, got) in [
        (a, "here", 1),
        (a, "here-open", 1),
        (a, "here-shut", 0),
        (a, "dead", 1),
        (b, "there", 0),
        (b, "there-open", 1),
    ] {
        assert_eq!(rig.take(who, queue).len(), got, "{queue}");
    }
    assert_eq!(rig.broker.counters().dropped_subscription, 2);
    rig.check_replay();
}
