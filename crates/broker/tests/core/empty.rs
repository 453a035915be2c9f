//! Purging and deleting in slices (RULES 9): what is answered, what stays, and that it goes on after a crash.

use broker::{Broker, Config, Decision};
use session::{
    ClientExpiry, Command, Declare, Event, Lane, Lease, QueueAttributes, ReceiptUse, RefusalKind,
    SessionId, SubscriptionOptions, Token, UseReceipt,
};

use crate::rig::{Rig, body, to_queue, to_topic};

fn rig() -> Rig {
    Rig::with(Config {
        empty_slice: 3,
        ..Config::default()
    })
}

fn filled(rig: &mut Rig, count: u32) -> SessionId {
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    for number in 0..count {
        rig.send(a, "q", &number.to_string());
    }
    a
}

fn declare(token: u64, declare: Declare) -> Command {
    Command::Declare {
        token: Token(token),
        lane: Lane(0),
        declare,
    }
}

fn purge(token: u64) -> Command {
    declare(token, Declare::Purge { name: "q".into() })
}

fn delete(token: u64) -> Command {
    let delete = Declare::DeleteQueue {
        name: "q".into(),
        if_unused: false,
        if_empty: false,
    };
    declare(token, delete)
}

/// How many messages an answer tells of.
fn answered(rig: &Rig, of: SessionId, to: u64) -> Option<u64> {
    rig.told[&of].iter().find_map(|told| match &told.event {
        Event::Declared {
            token, messages, ..
        } if *token == Token(to) => Some(*messages),
        _ => None,
    })
}

/// Decides and applies one thing, without what follows from it.
fn only(rig: &mut Rig, decide: impl FnOnce(&Broker, &broker::Context, &mut Decision)) {
    let cx = rig.context();
    let mut decision = Decision::default();
    decide(&rig.broker, &cx, &mut decision);
    rig.perform(decision);
}

fn slice(rig: &mut Rig) {
    let before = rig.broker.counters().messages_ready;
    only(rig, |broker, cx, out| {
        broker.decide_deliveries(cx, 100, out);
    });
    let after = rig.broker.counters().messages_ready;
    assert!(before - after <= 3, "{before} to {after}");
}

#[test]
fn a_purge_drops_what_was_available_when_it_began_and_then_says_how_many() {
    let mut rig = rig();
    let a = filled(&mut rig, 20);
    let out = rig.pull(a, "q", 2, Lease::Connection);
    assert_eq!(out.len(), 2);
    let command = purge(700);
    only(&mut rig, |broker, cx, out| {
        broker.decide(a, &command, cx, out);
    });
    slice(&mut rig);
    assert_eq!(answered(&rig, a, 700), None);
    let late = session::Publish {
        token: None,
        lane: Lane(0),
        message: std::sync::Arc::new({
            let mut message = to_queue("q", "late");
            message.durable = true;
            message
        }),
        mandatory: false,
        create: false,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds: false,
    };
    only(&mut rig, |broker, cx, out| {
        broker.decide(a, &Command::Publish(late.clone()), cx, out);
    });
    rig.check_replay();
    rig.pump();
    assert_eq!(answered(&rig, a, 700), Some(18));
    assert_eq!(rig.broker.counters().messages_unacked, 2);
    let left = rig.pull(a, "q", 10, Lease::Connection);
    assert_eq!(left.iter().map(body).collect::<Vec<_>>(), ["late"]);
    rig.check_replay();
}

#[test]
fn two_purges_at_a_time_and_a_delete_are_all_answered() {
    let mut rig = rig();
    let a = filled(&mut rig, 20);
    for command in [purge(701), purge(702)] {
        only(&mut rig, |broker, cx, out| {
            broker.decide(a, &command, cx, out);
        });
        slice(&mut rig);
    }
    assert_eq!(answered(&rig, a, 701), None);
    rig.command(a, delete(703));
    for (token, messages) in [(701, 20), (702, 17), (703, 14)] {
        assert_eq!(answered(&rig, a, token), Some(messages));
    }
    assert!(rig.refs.is_empty(), "{:?}", rig.refs);
    rig.check_replay();
}

#[test]
fn a_deleted_queue_is_gone_at_once_and_its_messages_after_a_crash_too() {
    let mut rig = rig();
    let a = filled(&mut rig, 20);
    let leased = rig.pull(a, "q", 1, Lease::Ms(1000));
    let command = delete(700);
    only(&mut rig, |broker, cx, out| {
        broker.decide(a, &command, cx, out);
    });
    assert_eq!(answered(&rig, a, 700), Some(19));
    slice(&mut rig);
    let left = rig.broker.counters().messages_ready;
    assert!(left > 10, "{left}");
    // Its receipts mean nothing any more, and another queue may have its name.
    let it = UseReceipt {
        token: Token(800),
        lane: Lane(0),
        receipt: rig.receipt(&leased[0]),
        to: ReceiptUse::Visibility { ms: 5 },
    };
    only(&mut rig, |broker, cx, out| {
        broker.decide(a, &Command::UseReceipt(it), cx, out);
    });
    assert!(matches!(
        rig.last_event(a),
        Event::Refused { refusal, .. } if refusal.kind == RefusalKind::UnknownDelivery
    ));
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    rig.durable_queue(b, "q", QueueAttributes::default());
    assert!(rig.pull(b, "q", 1, Lease::Connection).is_empty());
    rig.tick(2000);
    let counters = rig.broker.counters();
    assert_eq!(
        (
            counters.messages_ready,
            counters.messages_unacked,
            counters.queues
        ),
        (0, 0, 1)
    );
    assert!(rig.refs.is_empty(), "{:?}", rig.refs);
    rig.check_replay();
}

#[test]
fn what_is_in_a_deleted_queue_is_not_dead_lettered() {
    let mut rig = rig();
    let a = rig.attach(1);
    rig.durable_queue(a, "dead", QueueAttributes::default());
    let attributes = QueueAttributes {
        ttl_ms: Some(10),
        dead_letter: Some(session::DeadLetter {
            exchange: "".into(),
            key: Some(crate::rig::levels("dead")),
        }),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    for number in 0..20 {
        rig.send(a, "q", &number.to_string());
    }
    let command = delete(700);
    only(&mut rig, |broker, cx, out| {
        broker.decide(a, &command, cx, out);
    });
    rig.now = rig.now.plus_ms(50);
    only(&mut rig, |broker, cx, out| {
        broker.decide_tick(cx, 100, out);
    });
    rig.tick(50);
    assert!(rig.pull(a, "dead", 10, Lease::Connection).is_empty());
    assert!(rig.broker.next_deadline().is_none());
    rig.check_replay();
}

#[test]
fn a_client_session_that_ends_with_much_in_it_is_gone_at_once() {
    for expiry in [ClientExpiry::WithConnection, ClientExpiry::Never] {
        let mut rig = rig();
        let a = rig.attach(1);
        rig.open(a, "pub", true, ClientExpiry::WithConnection);
        let b = rig.attach(2);
        rig.open_with(b, "sub", true, expiry, 1, None);
        let options = SubscriptionOptions {
            qos: 1,
            ..SubscriptionOptions::default()
        };
        rig.topic(b, "t", options);
        for number in 0..20 {
            rig.publish(a, to_topic("t", &number.to_string(), 1));
        }
        let c = rig.attach(3);
        assert!(!rig.open(c, "sub", true, ClientExpiry::WithConnection));
        let counters = rig.broker.counters();
        assert_eq!((counters.messages_ready, counters.messages_unacked), (0, 0));
        assert!(rig.refs.is_empty(), "{:?}", rig.refs);
        rig.check_replay();
    }
}
