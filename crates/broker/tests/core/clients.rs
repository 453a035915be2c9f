//! Client sessions: subscriptions, resumption, wills, exactly-once, queues read through the session.

use std::sync::Arc;

use message::{Filter, Message};
use session::*;

use crate::rig::*;

fn qos(qos: u8) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    }
}

fn through(rig: &mut Rig, consumer: u64, source: Source, qos: u8) -> Subscribe {
    Subscribe {
        token: rig.token(),
        lane: Lane(0),
        consumer: ConsumerId(consumer),
        source,
        credit: Credit::Window(0),
        group: 0,
        exclusive: false,
        priority: 0,
        through_client: true,
        options: SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        },
    }
}

fn queue_source(name: &str) -> Source {
    Source::Queue {
        name: name.to_owned().into(),
        create: true,
    }
}

fn share_source(group: &str, filter: &str) -> Source {
    Source::Shared {
        group: group.to_owned().into(),
        filter: Filter::Pattern(pattern(filter)),
    }
}

fn texts(got: &[Delivery]) -> Vec<String> {
    got.iter().map(body).collect()
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_the_highest_qos_and_all_identifiers() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "c", true, ClientExpiry::WithConnection);
    rig.topic(
        a,
        "a/+",
        SubscriptionOptions {
            identifier: 1,
            ..qos(0)
        },
    );
    rig.topic(
        a,
        "a/#",
        SubscriptionOptions {
            identifier: 2,
            ..qos(2)
        },
    );
    rig.publish(a, to_topic("a/b", "x", 1));
    let got = rig.deliveries(a);
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].qos, &got[0].subscriptions[..]), (1, &[1, 2][..]));
    assert!(got[0].id.is_some());
}

/// [MQTT-3.8.3-3].
#[test]
fn no_local_keeps_a_client_from_its_own_messages() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    rig.open(a, "a", true, ClientExpiry::WithConnection);
    rig.open(b, "b", true, ClientExpiry::WithConnection);
    rig.topic(
        a,
        "t",
        SubscriptionOptions {
            no_local: true,
            ..qos(1)
        },
    );
    rig.publish(a, to_topic("t", "own", 1));
    rig.publish(b, to_topic("t", "other", 1));
    assert_eq!(rig.bodies(a), ["other"]);
}

#[test]
fn qos_0_goes_straight_out_and_is_dropped_and_counted_without_a_taker() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    rig.open(a, "a", true, ClientExpiry::Never);
    rig.topic(a, "t", qos(1));
    rig.open(b, "b", true, ClientExpiry::WithConnection);
    rig.publish_unconfirmed(b, to_topic("t", "x", 0));
    let got = rig.deliveries(a);
    assert_eq!((got.len(), got[0].id, got[0].qos), (1, None, 0));
    rig.detach(a);
    rig.publish_unconfirmed(b, to_topic("t", "y", 0));
    assert_eq!(rig.broker.counters().dropped_no_room, 1);
    rig.check_replay();
}

#[test]
fn subscribers_at_qos_0_are_shown_alike_only_what_is_alike() {
    let mut rig = Rig::new();
    let from = rig.attach(1);
    let identified = |identifier| SubscriptionOptions {
        identifier,
        ..qos(0)
    };
    let as_published = SubscriptionOptions {
        retain_as_published: true,
        ..qos(0)
    };
    let wishes = [
        qos(0),
        qos(0),
        identified(7),
        identified(7),
        identified(8),
        as_published,
        qos(0),
    ];
    let to: Vec<SessionId> = (2..).take(wishes.len()).map(|id| rig.attach(id)).collect();
    for ((at, session), options) in to.iter().enumerate().zip(wishes) {
        rig.open(
            *session,
            &format!("c{at}"),
            true,
            ClientExpiry::WithConnection,
        );
        rig.topic(*session, "t", options);
    }
    for (body, retain) in [("1", false), ("2", true)] {
        let message = Message {
            retain,
            ..to_topic("t", body, 0)
        };
        rig.publish_unconfirmed(from, message);
    }
    for (session, options) in to.iter().zip(wishes) {
        let got = rig.deliveries(*session);
        let identifiers = Vec::from_iter((options.identifier > 0).then_some(options.identifier));
        let shown = got
            .iter()
            .map(|it| (body(it), it.retain, it.subscriptions.to_vec()));
        let retained = options.retain_as_published;
        assert_eq!(
            Vec::from_iter(shown),
            [
                ("1".into(), false, identifiers.clone()),
                ("2".into(), retained, identifiers)
            ]
        );
    }
}

#[test]
fn a_session_outlives_its_connection_and_a_restart() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    assert!(!rig.open(a, "c", false, ClientExpiry::Never));
    rig.topic(a, "t", qos(1));
    rig.open(b, "p", true, ClientExpiry::WithConnection);
    rig.publish(b, to_topic("t", "1", 1));
    assert_eq!(rig.bodies(a), ["1"]);
    rig.detach(a);
    rig.publish(b, to_topic("t", "2", 1));
    rig.check_replay();
    rig.restart();
    let c = rig.attach(3);
    assert!(rig.open(c, "c", false, ClientExpiry::Never));
    let got = rig.deliveries(c);
    assert_eq!(texts(&got), ["1", "2"]);
    // DOORS 19: resent only what this session had been sent.
    assert_eq!((got[0].resent, got[1].resent), (true, false));
    rig.settle(c, &ids(&got), Outcome::Accept);
    rig.check_replay();
    let d = rig.attach(4);
    assert!(!rig.open(d, "c", true, ClientExpiry::Never));
    assert_eq!(rig.closed.last(), Some(&(c, CloseReason::TakenOver)));
    rig.publish(d, to_topic("t", "3", 1));
    assert!(rig.bodies(d).is_empty());
    rig.check_replay();
}

/// [MQTT-4.4.0-1], [MQTT3-4.4.0-1].
#[test]
fn rules_6_ids_out_are_the_same_after_a_takeover() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "c", false, ClientExpiry::Never);
    rig.topic(a, "t", qos(2));
    for n in 0..3 {
        rig.publish(a, to_topic("t", &n.to_string(), 2));
    }
    let before = ids(&rig.deliveries(a));
    rig.restart();
    let b = rig.attach(2);
    rig.open(b, "c", false, ClientExpiry::Never);
    assert_eq!(ids(&rig.deliveries(b)), before);
}

/// [MQTT-3.3.4-9], [MQTT-4.9.0-2].
#[test]
fn a_window_bounds_what_is_out_to_a_client() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open_with(a, "c", false, ClientExpiry::Never, 2, None);
    rig.topic(a, "t", qos(1));
    for n in 0..4 {
        rig.publish(a, to_topic("t", &n.to_string(), 1));
    }
    let got = rig.deliveries(a);
    assert_eq!(texts(&got), ["0", "1"]);
    rig.settle(a, &ids(&got)[..1], Outcome::Accept);
    assert_eq!(rig.bodies(a), ["2"]);
}

/// [MQTT-4.3.3-6].
#[test]
fn received_deliveries_are_not_sent_again_but_told_on_resuming() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "c", false, ClientExpiry::Never);
    rig.topic(a, "t", qos(2));
    rig.publish(a, to_topic("t", "1", 2));
    rig.publish(a, to_topic("t", "2", 2));
    let got = rig.deliveries(a);
    let told = rig.told[&a].last().cloned();
    assert!(told.is_some());
    rig.settle(a, &ids(&got)[..1], Outcome::Received);
    rig.check_replay();
    rig.detach(a);
    let b = rig.attach(2);
    rig.open(b, "c", false, ClientExpiry::Never);
    let resumed = |rig: &Rig, of| {
        rig.told[&of]
            .iter()
            .find_map(|told| match &told.event {
                Event::Resumed { received } => Some(received.clone()),
                _ => None,
            })
            .expect("resumed")
    };
    assert_eq!(resumed(&rig, b), ids(&got)[..1]);
    assert_eq!(rig.bodies(b), ["2"]);
    rig.restart();
    let c = rig.attach(3);
    rig.open(c, "c", false, ClientExpiry::Never);
    assert_eq!(resumed(&rig, c), ids(&got)[..1]);
    rig.settle(c, &ids(&got)[..1], Outcome::Accept);
    assert_eq!(rig.bodies(c), ["2"]);
    rig.check_replay();
}

/// [MQTT-4.3.3-10], [MQTT-4.3.3-12].
#[test]
fn inbound_ids_are_held_until_released_and_survive() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "c", false, ClientExpiry::Never);
    let publish = |rig: &mut Rig, from, id| {
        let token = rig.token();
        rig.command(
            from,
            Command::Publish(Publish {
                token: Some(token),
                lane: Lane(0),
                message: Arc::new(to_topic("t", "x", 2)),
                mandatory: false,
                create: false,
                inbound_id: Some(id),
                or_stream: false,
                hash_key: None,
                folds: false,
            }),
        );
        match rig.last_event(from) {
            Event::Published { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        publish(&mut rig, a, 5),
        PublishOutcome::Accepted {
            matched: 0,
            place: None,
            record: None,
            sequence: None
        }
    );
    assert_eq!(
        publish(&mut rig, a, 5),
        PublishOutcome::Duplicate { of: None }
    );
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    rig.open(b, "c", false, ClientExpiry::Never);
    assert_eq!(
        publish(&mut rig, b, 5),
        PublishOutcome::Duplicate { of: None }
    );
    rig.command(b, Command::ReleaseInbound { id: 5 });
    assert!(matches!(
        rig.last_event(b),
        Event::InboundReleased { id: 5, known: true }
    ));
    rig.command(b, Command::ReleaseInbound { id: 5 });
    assert!(matches!(
        rig.last_event(b),
        Event::InboundReleased {
            id: 5,
            known: false
        }
    ));
    assert_eq!(
        publish(&mut rig, b, 5),
        PublishOutcome::Accepted {
            matched: 0,
            place: None,
            record: None,
            sequence: None
        }
    );
    rig.check_replay();
}

fn will(topic: &str, delay_ms: u64) -> Option<Will> {
    Some(Will {
        message: Arc::new(to_topic(topic, "will", 1)),
        delay_ms,
        ttl_ms: None,
    })
}

/// [MQTT-3.1.2-8], [MQTT-3.1.3-9].
#[test]
fn a_will_is_published_once_after_its_delay_or_when_the_session_ends() {
    let mut rig = Rig::new();
    let w = rig.attach(9);
    rig.open(w, "watcher", false, ClientExpiry::Never);
    rig.topic(w, "w", qos(1));
    let a = rig.attach(1);
    rig.open_with(a, "a", true, ClientExpiry::AfterMs(100), 10, will("w", 0));
    rig.detach(a);
    assert_eq!(rig.bodies(w), ["will"]);
    let b = rig.attach(2);
    rig.open_with(b, "b", true, ClientExpiry::AfterMs(100), 10, will("w", 50));
    rig.detach(b);
    assert!(rig.bodies(w).is_empty());
    rig.tick(49);
    assert!(rig.bodies(w).is_empty());
    rig.tick(1);
    assert_eq!(rig.bodies(w), ["will"]);
    rig.tick(1000);
    assert!(rig.bodies(w).is_empty());
    // Delay longer than the session: when the session ends.
    let c = rig.attach(3);
    rig.open_with(
        c,
        "c",
        true,
        ClientExpiry::AfterMs(100),
        10,
        will("w", 5000),
    );
    rig.detach(c);
    rig.tick(100);
    assert_eq!(rig.bodies(w), ["will"]);
    rig.tick(10_000);
    assert!(rig.bodies(w).is_empty());
    // Back in time: none.
    let d = rig.attach(4);
    rig.open_with(d, "d", true, ClientExpiry::AfterMs(100), 10, will("w", 50));
    rig.detach(d);
    let d = rig.attach(5);
    rig.open(d, "d", false, ClientExpiry::AfterMs(100));
    rig.tick(1000);
    assert!(rig.bodies(w).is_empty());
    rig.command(
        d,
        Command::CloseClient {
            publish_will: false,
            expiry: None,
        },
    );
    rig.check_replay();
}

/// The queue `q`, in which there is room for one message.
fn one_place(rig: &mut Rig, from: SessionId) {
    let short = QueueAttributes {
        length_max: Some(1),
        ..QueueAttributes::default()
    };
    rig.durable_queue(from, "q", short);
}

#[test]
fn wills_that_are_due_together_fill_no_queue_beyond_its_limit() {
    let mut rig = Rig::new();
    let reader = rig.attach(9);
    one_place(&mut rig, reader);
    // Once their delay is over, and once their sessions are.
    for delay_ms in [50, 5000] {
        let mut gone = Vec::new();
        for (number, name) in (1..).zip(["first", "second", "third"]) {
            let from = rig.attach(number);
            let will = Will {
                message: Arc::new(to_queue("q", name)),
                delay_ms,
                ttl_ms: None,
            };
            rig.open_with(from, name, true, ClientExpiry::AfterMs(100), 10, Some(will));
            gone.push(from);
        }
        for from in gone {
            rig.detach(from);
        }
        rig.tick(100);
        let all = crate::pulls::pull(&mut rig, 10, 1000, 0);
        let taken = crate::receives::take(&mut rig, reader, all);
        assert_eq!(taken.iter().map(body).collect::<Vec<_>>(), ["third"]);
        for delivery in &taken {
            let receipt = rig.receipt(delivery);
            let deleted = crate::pulls::used(&mut rig, reader, receipt, ReceiptUse::Delete);
            assert_eq!(deleted, Ok(1));
        }
    }
    rig.check_replay();
}

#[test]
fn a_will_counts_what_comes_back_to_the_queue_at_its_own_time() {
    let mut rig = Rig::new();
    let reader = rig.attach(9);
    one_place(&mut rig, reader);
    rig.publish(reader, to_queue("q", "taken"));
    let all = crate::pulls::pull(&mut rig, 10, 50, 0);
    assert_eq!(crate::receives::take(&mut rig, reader, all).len(), 1);
    let from = rig.attach(1);
    let will = Will {
        message: Arc::new(to_queue("q", "will")),
        delay_ms: 50,
        ttl_ms: None,
    };
    rig.open_with(from, "a", true, ClientExpiry::Never, 10, Some(will));
    rig.detach(from);
    rig.tick(50);
    let all = crate::pulls::pull(&mut rig, 10, 1000, 0);
    let taken = crate::receives::take(&mut rig, reader, all);
    assert_eq!(taken.iter().map(body).collect::<Vec<_>>(), ["will"]);
    rig.check_replay();
}

/// [MQTT-3.1.2-10], [MQTT-3.14.4-3].
#[test]
fn a_will_that_waits_is_dropped_when_its_client_starts_anew() {
    let mut rig = Rig::new();
    let w = rig.attach(9);
    rig.open(w, "watcher", false, ClientExpiry::Never);
    rig.topic(w, "w", qos(1));
    let away = |rig: &mut Rig, number, delay| {
        let a = rig.attach(number);
        rig.open_with(
            a,
            "a",
            true,
            ClientExpiry::AfterMs(100),
            10,
            will("w", delay),
        );
        rig.detach(a);
    };
    // [MQTT-3.1.2-8] of MQTT 5: back before the delay is over.
    away(&mut rig, 1, 50);
    let a = rig.attach(2);
    rig.open(a, "a", true, ClientExpiry::WithConnection);
    rig.tick(1000);
    assert!(rig.bodies(w).is_empty());
    rig.detach(a);
    rig.check_replay();
    // Back when the session was over, though nobody had noticed: it ended before.
    away(&mut rig, 3, 5_000);
    rig.now = rig.now.plus_ms(100);
    let a = rig.attach(4);
    rig.open(a, "a", true, ClientExpiry::WithConnection);
    assert_eq!(rig.bodies(w), ["will"]);
    rig.detach(a);
    // The delay does not save a session that is taken over while its connection stands, and is not resumed (3.1.4).
    let a = rig.attach(5);
    rig.open_with(a, "a", true, ClientExpiry::AfterMs(100), 10, will("w", 50));
    let b = rig.attach(6);
    rig.open(b, "a", true, ClientExpiry::WithConnection);
    assert_eq!(rig.bodies(w), ["will"]);
    rig.tick(1000);
    assert!(rig.bodies(w).is_empty());
    rig.check_replay();
}

#[test]
fn doors_17_a_subscription_without_the_local_matches_all_the_same() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "a", true, ClientExpiry::WithConnection);
    let options = SubscriptionOptions {
        no_local: true,
        ..qos(1)
    };
    rig.topic(a, "w", options);
    let own = rig.publish(a, to_topic("w", "own", 1));
    assert_eq!(
        own,
        PublishOutcome::Accepted {
            matched: 1,
            place: None,
            record: None,
            sequence: None
        }
    );
    let none = rig.publish(a, to_topic("v", "none", 1));
    assert_eq!(
        none,
        PublishOutcome::Accepted {
            matched: 0,
            place: None,
            record: None,
            sequence: None
        }
    );
    assert!(rig.bodies(a).is_empty());
}

#[test]
fn a_goodbye_in_order_discards_the_will_unless_it_asks_for_it() {
    let mut rig = Rig::new();
    let w = rig.attach(9);
    rig.open(w, "watcher", true, ClientExpiry::WithConnection);
    rig.topic(w, "w", qos(1));
    for publish_will in [false, true] {
        let a = rig.attach(1);
        rig.open_with(a, "a", true, ClientExpiry::WithConnection, 10, will("w", 0));
        rig.command(
            a,
            Command::CloseClient {
                publish_will,
                expiry: None,
            },
        );
        rig.detach(a);
        assert_eq!(rig.bodies(w).len(), usize::from(publish_will));
    }
    assert_eq!(rig.broker.counters().clients, 1);
    assert_eq!(rig.broker.counters().sessions, 1);
}

#[test]
fn rules_8_a_new_epoch_starts_session_expiry_and_will_delay() {
    let mut rig = Rig::new();
    let w = rig.attach(9);
    rig.open(w, "watcher", false, ClientExpiry::Never);
    rig.topic(w, "w", qos(1));
    let a = rig.attach(1);
    rig.open_with(a, "a", false, ClientExpiry::AfterMs(100), 10, will("w", 50));
    rig.restart();
    rig.tick(50);
    let w = rig.attach(10);
    rig.open(w, "watcher", false, ClientExpiry::Never);
    assert_eq!(rig.bodies(w), ["will"]);
    rig.tick(50);
    assert_eq!(rig.broker.counters().clients, 1);
    rig.check_replay();
}

#[test]
fn doors_19_a_queue_read_through_a_client_session() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    rig.open(a, "c", false, ClientExpiry::Never);
    let subscribe = through(&mut rig, 5, queue_source("jobs"), 1);
    rig.subscribe(a, subscribe);
    rig.send(b, "jobs", "one");
    let got = rig.deliveries(a);
    assert_eq!(texts(&got), ["one"]);
    assert_eq!((got[0].qos, got[0].consumer), (1, ConsumerId(5)));
    rig.check_replay();
    // QoS 1: released at once when the connection goes, at its old place.
    rig.detach(a);
    let pulled = rig.pull(b, "jobs", 1, Lease::Connection);
    assert_eq!(texts(&pulled), ["one"]);
    assert_eq!(pulled[0].count, 2);
    rig.settle(b, &ids(&pulled), Outcome::Release);
    rig.check_replay();
    // The subscription is the session's: it is there again on resuming.
    let c = rig.attach(3);
    rig.open(c, "c", false, ClientExpiry::Never);
    let got = rig.deliveries(c);
    assert_eq!(texts(&got), ["one"]);
    rig.settle(c, &ids(&got), Outcome::Accept);
    assert!(rig.refs.is_empty());
    rig.check_replay();
}

#[test]
fn doors_19_qos_2_stays_with_the_session_until_it_ends() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    rig.durable_queue(b, "dead", QueueAttributes::default());
    let attributes = QueueAttributes {
        dead_letter: Some(DeadLetter {
            exchange: "".into(),
            key: Some(levels("dead")),
        }),
        ..QueueAttributes::default()
    };
    rig.durable_queue(b, "jobs", attributes);
    rig.open(a, "c", false, ClientExpiry::AfterMs(1000));
    let subscribe = through(&mut rig, 5, queue_source("jobs"), 2);
    rig.subscribe(a, subscribe);
    rig.send(b, "jobs", "one");
    assert_eq!(rig.bodies(a), ["one"]);
    rig.detach(a);
    assert!(rig.pull(b, "jobs", 1, Lease::Connection).is_empty());
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    assert!(rig.pull(b, "jobs", 1, Lease::Connection).is_empty());
    rig.tick(1000);
    let dead = rig.pull(b, "dead", 1, Lease::Connection);
    assert_eq!(texts(&dead), ["one"]);
    assert_eq!(
        dead[0].deaths.as_ref().expect("a history")[0].reason,
        DeathReason::Rejected
    );
    rig.check_replay();
}

#[test]
fn doors_19_a_shared_subscription_is_one_queue_in_turns_and_goes_with_its_last_session() {
    for expiry in [ClientExpiry::WithConnection, ClientExpiry::Never] {
        let mut rig = Rig::new();
        let (a, b, p) = (rig.attach(1), rig.attach(2), rig.attach(3));
        rig.open(a, "a", true, expiry);
        rig.open(b, "b", true, expiry);
        for session in [a, b] {
            let subscribe = through(&mut rig, 1, share_source("g", "t/#"), 1);
            rig.subscribe(session, subscribe);
        }
        for n in 0..4 {
            assert_eq!(
                rig.publish(p, to_topic("t/x", &n.to_string(), 1)),
                PublishOutcome::Accepted {
                    matched: 1,
                    place: None,
                    record: None,
                    sequence: None
                }
            );
        }
        let (got_a, got_b) = (rig.deliveries(a), rig.deliveries(b));
        assert_eq!(texts(&got_a), ["0", "2"]);
        assert_eq!(texts(&got_b), ["1", "3"]);
        rig.settle(a, &ids(&got_a)[..1], Outcome::Accept);
        rig.check_replay();
        // What a leaves goes to b.
        rig.command(
            a,
            Command::CloseClient {
                publish_will: false,
                expiry: Some(ClientExpiry::WithConnection),
            },
        );
        assert_eq!(rig.bodies(b), ["2"]);
        rig.check_replay();
        let token = rig.token();
        rig.command(
            b,
            Command::Unsubscribe {
                token,
                source: share_source("g", "t/#"),
            },
        );
        assert!(matches!(
            rig.last_event(b),
            Event::Unsubscribed { existed: true, .. }
        ));
        assert_eq!(
            rig.publish(p, to_topic("t/x", "x", 1)),
            PublishOutcome::Accepted {
                matched: 0,
                place: None,
                record: None,
                sequence: None
            }
        );
        rig.check_replay();
    }
}

#[test]
fn an_unsubscribed_topic_is_silent() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "c", false, ClientExpiry::Never);
    rig.topic(a, "t", qos(1));
    for existed in [true, false] {
        let token = rig.token();
        rig.command(
            a,
            Command::Unsubscribe {
                token,
                source: Source::Topic {
                    filter: Filter::Pattern(pattern("t")),
                },
            },
        );
        assert!(
            matches!(rig.last_event(a), Event::Unsubscribed { existed: e, .. } if e == existed)
        );
    }
    rig.publish(a, to_topic("t", "x", 1));
    assert!(rig.bodies(a).is_empty());
    rig.check_replay();
}

/// [MQTT-4.1.0-2].
#[test]
fn a_session_ends_when_its_time_is_over() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "c", false, ClientExpiry::AfterMs(100));
    rig.topic(a, "t", qos(1));
    rig.publish(a, to_topic("t", "x", 1));
    rig.detach(a);
    rig.tick(99);
    assert_eq!(rig.broker.counters().clients, 1);
    rig.tick(1);
    assert_eq!(
        (rig.broker.counters().clients, rig.broker.counters().queues),
        (0, 0)
    );
    assert!(rig.refs.is_empty());
    let b = rig.attach(2);
    assert!(!rig.open(b, "c", false, ClientExpiry::AfterMs(100)));
    rig.check_replay();
}

/// [MQTT-3.3.2-5], [MQTT-4.3.3-7]: what waits expires, what was sent does not.
#[test]
fn a_message_that_was_sent_to_a_client_does_not_expire() {
    for level in [1, 2] {
        let mut rig = Rig::new();
        let (a, b) = (rig.attach(1), rig.attach(2));
        rig.open_with(a, "c", false, ClientExpiry::Never, 1, None);
        rig.topic(a, "t", qos(level));
        for body in ["sent", "waits"] {
            let mut message = to_topic("t", body, level);
            message.expiry = Some(rig.now.plus_ms(100));
            rig.publish(b, message);
        }
        let sent = rig.deliveries(a);
        assert_eq!(texts(&sent), ["sent"], "the window is 1");
        rig.detach(a);
        rig.tick(1000);
        let a = rig.attach(3);
        assert!(rig.open(a, "c", false, ClientExpiry::Never));
        let again = rig.deliveries(a);
        assert_eq!(texts(&again), ["sent"], "QoS {level}");
        assert_eq!(ids(&again), ids(&sent));
        assert!(again[0].resent);
        rig.settle(a, &ids(&again), Outcome::Accept);
        assert!(rig.bodies(a).is_empty());
        assert_eq!(rig.broker.counters().dropped_expired, 1);
        rig.check_replay();
    }
}
