//! Retained messages shown to new subscriptions in slices (RULES 9): nothing is missing or shown twice, whatever is in between.

use std::collections::BTreeSet;

use broker::{Config, Decision};
use proptest::prelude::*;
use session::{
    ClientExpiry, Command, ConsumerId, Credit, Lane, Outcome, SessionId, Source, Subscribe,
    SubscriptionOptions,
};

use crate::rig::{Rig, body, ids, pattern, to_topic};

pub(crate) const QOS1: SubscriptionOptions = SubscriptionOptions {
    qos: 1,
    no_local: false,
    retain_as_published: false,
    retain_replay: session::RetainReplay::Always,
    identifier: 0,
};

fn rig(slice: u32, held: u64, room: u64) -> Rig {
    Rig::with(Config {
        replay_slice: slice,
        replay_held_max: held,
        outbox_qos0_bytes_max: room,
        ..Config::default()
    })
}

/// Retains `count` messages at `t/00`, `t/01`... and returns their bodies.
fn retain(rig: &mut Rig, by: SessionId, count: u32, qos: impl Fn(u32) -> u8) -> Vec<String> {
    (0..count)
        .map(|number| {
            let text = format!("t/{number:03}");
            let mut message = to_topic(&text, &text, qos(number));
            message.retain = true;
            rig.publish(by, message);
            text
        })
        .collect()
}

/// A publisher, and how it retains.
fn publisher(rig: &mut Rig, count: u32, qos: impl Fn(u32) -> u8) -> (SessionId, Vec<String>) {
    let a = rig.attach(1);
    rig.open(a, "pub", true, ClientExpiry::WithConnection);
    let wanted = retain(rig, a, count, qos);
    (a, wanted)
}

/// Accepts what comes until nothing comes; what came.
fn drain(rig: &mut Rig, session: SessionId) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let got = rig.deliveries(session);
        if got.is_empty() {
            return all;
        }
        all.extend(got.iter().map(body));
        let owned: Vec<_> = got.into_iter().filter(|d| d.id.is_some()).collect();
        rig.settle(session, &ids(&owned), Outcome::Accept);
    }
}

/// Takes what is there, settles it and gives its room back; which retained messages were among it.
fn take(rig: &mut Rig, session: SessionId) -> Vec<String> {
    let got = rig.deliveries(session);
    // A message takes its length and 64 bytes.
    let room: usize = got.iter().map(|d| d.message.body.len() + 64).sum();
    let shown = got.iter().filter(|d| d.retain).map(body).collect();
    let owned: Vec<_> = got.into_iter().filter(|d| d.id.is_some()).collect();
    rig.settle(session, &ids(&owned), Outcome::Accept);
    rig.broker.returned_room(session, room as u64);
    rig.pump();
    shown
}

#[test]
fn rules_9_one_subscribe_decides_a_slice_of_the_retained_messages() {
    let mut rig = rig(5, 1024, 1 << 20);
    let (_, wanted) = publisher(&mut rig, 100, |number| (number % 2) as u8);
    let b = rig.attach(2);
    rig.open(b, "sub", true, ClientExpiry::WithConnection);
    let token = rig.token();
    let subscribe = Command::Subscribe(Box::new(Subscribe {
        token,
        lane: Lane(0),
        consumer: ConsumerId::CLIENT,
        source: Source::Topic {
            filter: message::Filter::Pattern(pattern("t/#")),
        },
        credit: Credit::Window(0),
        group: 0,
        exclusive: false,
        priority: 0,
        through_client: false,
        options: QOS1,
    }));
    let cx = rig.context();
    let mut decision = Decision::default();
    rig.broker.decide(b, &subscribe, &cx, &mut decision);
    // Eight, and two that make the session's own queue.
    assert!(decision.changes.len() <= 10, "{:?}", decision.changes);
    rig.command(b, subscribe);
    let mut got = drain(&mut rig, b);
    got.sort();
    assert_eq!(got, wanted);
    rig.check_replay();
}

#[test]
fn rules_13_retained_messages_wait_for_room_in_the_session_and_take_none_meanwhile() {
    let mut rig = rig(3, 6, 1 << 20);
    let (_, wanted) = publisher(&mut rig, 60, |_| 1);
    let b = rig.attach(2);
    rig.open_with(b, "sub", true, ClientExpiry::Never, 2, None);
    rig.topic(b, "t/#", QOS1);
    assert!(rig.broker.counters().messages_ready <= 6);
    let mut all = Vec::new();
    while all.len() < wanted.len() {
        let got = rig.deliveries(b);
        assert!(!got.is_empty() && got.len() <= 2, "{} came", got.len());
        assert!(rig.broker.counters().messages_ready <= 6);
        all.extend(got.iter().map(body));
        rig.settle(b, &ids(&got), Outcome::Accept);
    }
    assert_eq!(all, wanted);
    assert!(rig.deliveries(b).is_empty());
    rig.check_replay();
}

#[test]
fn rules_13_retained_messages_of_qos_0_wait_for_room_in_the_outbox() {
    // A message takes its length and 64 bytes.
    let mut rig = rig(3, 6, 5 * 69);
    rig.drains = false;
    let (_, wanted) = publisher(&mut rig, 40, |_| 0);
    let b = rig.attach(2);
    rig.open(b, "sub", true, ClientExpiry::WithConnection);
    rig.topic(b, "t/#", QOS1);
    let mut all = Vec::new();
    while all.len() < wanted.len() {
        let got = rig.deliveries(b);
        assert!(!got.is_empty() && got.len() <= 5, "{} came", got.len());
        all.extend(got.iter().map(body));
        rig.broker.returned_room(b, 69 * got.len() as u64);
        rig.pump();
    }
    assert_eq!(all, wanted);
}

#[test]
fn a_lost_connection_or_a_crash_does_not_end_the_showing_to_a_durable_session() {
    for crash in [false, true] {
        let mut rig = rig(3, 6, 1 << 20);
        let (_, wanted) = publisher(&mut rig, 50, |_| 1);
        let b = rig.attach(2);
        rig.open_with(b, "sub", true, ClientExpiry::Never, 4, None);
        rig.topic(b, "t/#", QOS1);
        let first = rig.deliveries(b);
        rig.settle(b, &ids(&first), Outcome::Accept);
        rig.deliveries(b);
        rig.detach(b);
        rig.check_replay();
        if crash {
            rig.restart();
        }
        let c = rig.attach(3);
        assert!(rig.open_with(c, "sub", false, ClientExpiry::Never, 4, None));
        let mut all: Vec<String> = first.iter().map(body).collect();
        all.extend(drain(&mut rig, c));
        assert_eq!(all, wanted, "crash {crash}");
        rig.check_replay();
    }
}

#[test]
fn unsubscribing_ends_the_showing() {
    let mut rig = rig(3, 6, 1 << 20);
    publisher(&mut rig, 50, |_| 1);
    let b = rig.attach(2);
    rig.open_with(b, "sub", true, ClientExpiry::Never, 4, None);
    rig.topic(b, "t/#", QOS1);
    let token = rig.token();
    let source = Source::Topic {
        filter: message::Filter::Pattern(pattern("t/#")),
    };
    rig.command(b, Command::Unsubscribe { token, source });
    assert!(drain(&mut rig, b).len() <= 4 + 6);
    rig.check_replay();
}

proptest! {
    #[test]
    fn whatever_happens_meanwhile_each_message_that_stays_is_shown_once(
        slice in 1_u32..6,
        held in 1_u64..8,
        window in 1_u16..6,
        durable in any::<bool>(),
        gone in prop::collection::btree_set(0_u32..40, 0..20),
        steps in prop::collection::vec(0_u8..3, 0..30),
    ) {
        let mut rig = rig(slice, held, 300);
        rig.drains = false;
        let (a, wanted) = publisher(&mut rig, 40, |number| (number % 3) as u8);
        let b = rig.attach(2);
        let expiry = if durable { ClientExpiry::Never } else { ClientExpiry::WithConnection };
        rig.open_with(b, "sub", true, expiry, window, None);
        // Its own, so that what the publisher does is not told.
        rig.topic(b, "t/#", SubscriptionOptions { qos: 2, ..QOS1 });
        let mut all = Vec::new();
        let mut gone = gone.into_iter();
        let mut cleared = BTreeSet::new();
        for step in steps {
            if step == 0 && let Some(number) = gone.next() {
                let topic = format!("t/{number:03}");
                let mut message = to_topic(&topic, "", 0);
                message.retain = true;
                rig.publish_unconfirmed(a, message);
                cleared.insert(topic);
            } else {
                all.extend(take(&mut rig, b));
            }
        }
        for _ in 0..200 {
            all.extend(take(&mut rig, b));
        }
        let seen: BTreeSet<String> = all.iter().cloned().collect();
        prop_assert_eq!(seen.len(), all.len(), "something was shown twice");
        for topic in wanted.iter().filter(|topic| !cleared.contains(*topic)) {
            prop_assert!(seen.contains(topic), "{} was not shown", topic);
        }
        rig.check_replay();
    }
}
