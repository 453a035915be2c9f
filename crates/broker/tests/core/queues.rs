//! Queues: leases, order, credit, expiry, limits, dead letters.

use session::*;

use crate::rig::*;

#[test]
fn a_message_goes_from_publisher_to_consumer_and_is_settled() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let b = rig.attach(2);
    rig.durable_queue(a, "jobs", QueueAttributes::default());
    rig.send(a, "jobs", "one");
    rig.send(a, "jobs", "two");
    rig.consume(b, 1, "jobs", Credit::Window(1));
    let got = rig.deliveries(b);
    assert_eq!(got.iter().map(body).collect::<Vec<_>>(), ["one"]);
    rig.check_replay();
    rig.settle(b, &ids(&got), Outcome::Accept);
    assert_eq!(rig.bodies(b), ["two"]);
    rig.check_replay();
    assert_eq!(rig.refs.len(), 1);
    rig.restart();
    let c = rig.attach(3);
    rig.consume(c, 1, "jobs", Credit::Window(0));
    let got = rig.deliveries(c);
    assert_eq!(got.len(), 1);
    assert_eq!(
        (body(&got[0]).as_str(), got[0].redelivered, got[0].count),
        ("two", true, 2)
    );
    rig.settle(c, &ids(&got), Outcome::Accept);
    rig.check_replay();
    assert!(rig.refs.is_empty());
}

fn bodies_of(got: &[Delivery]) -> Vec<String> {
    got.iter().map(body).collect()
}

/// [AMQP-basic.reject.requeue.01]
#[test]
fn a_released_message_comes_back_at_its_old_place() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    for n in 0..4 {
        rig.send(a, "q", &n.to_string());
    }
    rig.consume(a, 1, "q", Credit::Window(2));
    let got = rig.deliveries(a);
    assert_eq!(bodies_of(&got), ["0", "1"]);
    rig.settle(a, &ids(&got[..1]), Outcome::Release);
    let again = rig.deliveries(a);
    assert_eq!(bodies_of(&again), ["0"]);
    assert!(again[0].redelivered && !again[0].resent);
    assert_eq!(again[0].count, 2);
    rig.check_replay();
}

#[test]
fn consumers_with_credit_take_turns_and_higher_ones_go_first() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let b = rig.attach(2);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.consume(a, 1, "q", Credit::Window(0));
    rig.consume(b, 1, "q", Credit::Window(0));
    for n in 0..6 {
        rig.send(a, "q", &n.to_string());
    }
    assert_eq!(rig.bodies(a), ["0", "2", "4"]);
    assert_eq!(rig.bodies(b), ["1", "3", "5"]);
    let mut high = rig.consumer(2, "q", Credit::Window(2));
    high.priority = 5;
    rig.subscribe(b, high);
    for n in 6..10 {
        rig.send(a, "q", &n.to_string());
    }
    // The high one first, until its window is full.
    let b_got = rig.deliveries(b);
    let high: Vec<_> = b_got
        .iter()
        .filter(|d| d.consumer == ConsumerId(2))
        .map(body)
        .collect();
    assert_eq!(high, ["6", "7"]);
    rig.check_replay();
}

/// [RABBIT-single-active-1]
#[test]
fn a_single_active_consumer_is_followed_by_the_next() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    let attributes = QueueAttributes {
        single_active_consumer: true,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.consume(a, 1, "q", Credit::Window(0));
    rig.consume(b, 1, "q", Credit::Window(0));
    rig.send(b, "q", "x");
    rig.send(b, "q", "y");
    assert_eq!(rig.bodies(a), ["x", "y"]);
    assert!(rig.bodies(b).is_empty());
    rig.detach(a);
    assert_eq!(rig.bodies(b), ["x", "y"]);
}

#[test]
fn settled_credit_leaves_nothing_to_settle() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.send(a, "q", "x");
    rig.consume(a, 1, "q", Credit::Settled);
    let got = rig.deliveries(a);
    assert_eq!(bodies_of(&got), ["x"]);
    assert_eq!(got[0].id, None);
    assert!(rig.refs.is_empty());
    rig.check_replay();
}

#[test]
fn exact_credit_runs_out() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    for n in 0..4 {
        rig.send(a, "q", &n.to_string());
    }
    rig.consume(a, 1, "q", Credit::Exactly(2));
    let got = rig.deliveries(a);
    assert_eq!(got.len(), 2);
    rig.settle(a, &ids(&got), Outcome::Accept);
    assert!(rig.bodies(a).is_empty());
    rig.command(
        a,
        Command::Credit {
            consumer: ConsumerId(1),
            credit: Credit::Exactly(1),
        },
    );
    assert_eq!(rig.bodies(a), ["2"]);
}

#[test]
fn group_windows_and_flow_hold_back_all_consumers_of_a_group() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.command(
        a,
        Command::GroupWindow {
            group: 1,
            window: 3,
        },
    );
    for consumer in [1, 2] {
        let mut subscribe = rig.consumer(consumer, "q", Credit::Window(0));
        subscribe.group = 1;
        rig.subscribe(a, subscribe);
    }
    for n in 0..6 {
        rig.send(a, "q", &n.to_string());
    }
    let got = rig.deliveries(a);
    assert_eq!(bodies_of(&got), ["0", "1", "2"]);
    rig.command(
        a,
        Command::GroupFlow {
            group: 1,
            active: false,
        },
    );
    rig.settle(a, &ids(&got), Outcome::Accept);
    assert!(rig.bodies(a).is_empty());
    rig.command(
        a,
        Command::GroupFlow {
            group: 1,
            active: true,
        },
    );
    assert_eq!(rig.bodies(a), ["3", "4", "5"]);
}

#[test]
fn rules_13_a_full_outbox_holds_back_until_it_is_drained() {
    let config = broker::Config {
        outbox_bytes_max: 300,
        ..broker::Config::default()
    };
    let mut rig = Rig::with(config);
    rig.drains = false;
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    for n in 0..6 {
        rig.send(a, "q", &format!("{n:0>100}"));
    }
    rig.consume(a, 1, "q", Credit::Window(0));
    assert_eq!(rig.deliveries(a).len(), 2);
    rig.broker.returned_room(a, 2 * 164);
    rig.pump();
    assert_eq!(rig.deliveries(a).len(), 2);
    // One message always fits.
    rig.broker.returned_room(a, 2 * 164);
    rig.pump();
    rig.broker.returned_room(a, 2 * 164);
    rig.deliveries(a);
    rig.send(a, "q", &"x".repeat(5000));
    assert_eq!(rig.deliveries(a).len(), 1);
}

#[test]
fn a_delayed_message_comes_when_its_delay_is_over() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.consume(a, 1, "q", Credit::Window(0));
    let mut late = to_queue("q", "late");
    late.durable = true;
    late.delay_ms = 500;
    rig.publish(a, late);
    rig.send(a, "q", "soon");
    assert_eq!(rig.bodies(a), ["soon"]);
    rig.check_replay();
    rig.tick(499);
    assert!(rig.bodies(a).is_empty());
    rig.tick(1);
    assert_eq!(rig.bodies(a), ["late"]);
    rig.check_replay();
}

#[test]
fn what_is_expired_is_never_delivered() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        ttl_ms: Some(1000),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    let mut short = to_queue("q", "short");
    short.durable = true;
    short.expiry = Some(rig.now.plus_ms(10));
    rig.publish(a, short);
    rig.send(a, "q", "long");
    rig.tick(11);
    assert_eq!(rig.broker.counters().dropped_expired, 1);
    rig.consume(a, 1, "q", Credit::Window(1));
    let got = rig.deliveries(a);
    assert_eq!(bodies_of(&got), ["long"]);
    rig.tick(1000);
    rig.settle(a, &ids(&got), Outcome::Release);
    assert!(rig.bodies(a).is_empty());
    rig.tick(1);
    assert_eq!(rig.broker.counters().dropped_expired, 2);
    assert!(rig.refs.is_empty());
    rig.check_replay();
}

#[test]
fn a_time_to_live_of_zero_means_at_once_or_not_at_all() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        ttl_ms: Some(0),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.consume(a, 1, "q", Credit::Window(1));
    rig.send(a, "q", "x");
    rig.send(a, "q", "y");
    rig.tick(0);
    assert_eq!(rig.bodies(a), ["x"]);
    assert_eq!(rig.broker.counters().dropped_expired, 1);
}

#[test]
fn doors_12_retention_drops_and_never_dead_letters() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "dead", QueueAttributes::default());
    let attributes = QueueAttributes {
        retention_ms: Some(100),
        dead_letter: Some(DeadLetter {
            exchange: "".into(),
            key: Some(levels("dead")),
        }),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.send(a, "q", "x");
    rig.tick(101);
    assert_eq!(rig.broker.counters().dropped_expired, 1);
    assert_eq!(rig.broker.counters().messages_ready, 0);
    rig.check_replay();
}

pub(crate) fn dead_letter_to(queue: &str) -> Option<DeadLetter> {
    Some(DeadLetter {
        exchange: "".into(),
        key: Some(levels(queue)),
    })
}

#[test]
fn a_full_queue_drops_from_its_head_and_dead_letters_what_it_drops() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "dead", QueueAttributes::default());
    let attributes = QueueAttributes {
        length_max: Some(2),
        dead_letter: dead_letter_to("dead"),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    for n in 0..5 {
        rig.send(a, "q", &n.to_string());
    }
    rig.consume(a, 1, "q", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["3", "4"]);
    rig.consume(a, 2, "dead", Credit::Window(0));
    let dead = rig.deliveries(a);
    assert_eq!(bodies_of(&dead), ["0", "1", "2"]);
    let deaths = dead[0].deaths.as_ref().expect("a history");
    assert_eq!(deaths.len(), 1);
    assert_eq!(deaths[0].reason, DeathReason::MaxLen);
    assert_eq!(&deaths[0].queue[..], b"q");
    assert_eq!(rig.broker.counters().dead_lettered, 3);
    rig.check_replay();
}

#[test]
fn a_full_queue_refuses_and_a_byte_limit_counts() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        bytes_max: Some(10),
        overflow: Overflow::RejectPublish,
        message_len_max: Some(8),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.send(a, "q", "12345678");
    let refused = |rig: &mut Rig, text: &str| match rig.publish(a, to_queue("q", text)) {
        PublishOutcome::Refused(refusal) => refusal.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut rig, "123"), RefusalKind::QueueFull);
    assert_eq!(refused(&mut rig, "123456789"), RefusalKind::TooLarge);
    rig.send(a, "q", "12");
}

#[test]
fn reject_publish_dead_letter_refuses_and_keeps_the_message_elsewhere() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "dead", QueueAttributes::default());
    let attributes = QueueAttributes {
        length_max: Some(1),
        overflow: Overflow::RejectPublishDeadLetter,
        dead_letter: dead_letter_to("dead"),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.send(a, "q", "kept");
    let outcome = rig.publish(a, to_queue("q", "over"));
    assert!(matches!(outcome, PublishOutcome::Refused(r) if r.kind == RefusalKind::QueueFull));
    rig.consume(a, 1, "dead", Credit::Window(0));
    let dead = rig.deliveries(a);
    assert_eq!(bodies_of(&dead), ["over"]);
    assert_eq!(
        dead[0].deaths.as_ref().expect("a history")[0].reason,
        DeathReason::MaxLen
    );
    rig.check_replay();
}

#[test]
fn doors_14_a_rejected_message_goes_to_its_dead_letter_exchange_and_a_spent_one_to_its_redrive_target()
 {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "dead", QueueAttributes::default());
    rig.durable_queue(a, "spent", QueueAttributes::default());
    let attributes = QueueAttributes {
        deliveries_max: Some(2),
        dead_letter: dead_letter_to("dead"),
        redrive: Some(Redrive {
            target: "spent".into(),
        }),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.send(a, "q", "rejected");
    rig.send(a, "q", "released");
    rig.consume(a, 1, "q", Credit::Window(1));
    let got = rig.deliveries(a);
    rig.settle(a, &ids(&got), Outcome::Reject);
    let got = rig.deliveries(a);
    rig.settle(a, &ids(&got), Outcome::Release);
    let got = rig.deliveries(a);
    assert_eq!((bodies_of(&got)[0].as_str(), got[0].count), ("released", 2));
    rig.settle(a, &ids(&got), Outcome::Release);
    assert!(rig.bodies(a).is_empty());
    rig.consume(a, 2, "dead", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["rejected"]);
    rig.consume(a, 3, "spent", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["released"]);
    rig.check_replay();
}

#[test]
fn a_spent_message_is_dead_lettered_when_its_connection_goes() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    rig.durable_queue(a, "dead", QueueAttributes::default());
    let attributes = QueueAttributes {
        deliveries_max: Some(1),
        dead_letter: dead_letter_to("dead"),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.send(a, "q", "x");
    rig.consume(b, 1, "q", Credit::Window(0));
    // RULES 2: the delivery that reaches the limit waits for its own record.
    let told = rig.told[&b].last().expect("a delivery");
    assert_eq!(told.wait, broker::Wait::Durable);
    rig.detach(b);
    rig.consume(a, 1, "dead", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["x"]);
    rig.check_replay();
}

#[test]
fn a_dead_letter_cycle_without_a_rejection_is_cut() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        ttl_ms: Some(10),
        dead_letter: dead_letter_to("q"),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.send(a, "q", "x");
    rig.tick(11);
    assert_eq!(rig.broker.counters().dropped_cycle, 1);
    assert_eq!(rig.broker.counters().messages_ready, 0);
    // With a rejection in it the cycle goes on.
    rig.send(a, "q", "y");
    for _ in 0..3 {
        rig.consume(a, 1, "q", Credit::Window(0));
        let got = rig.deliveries(a);
        assert_eq!(bodies_of(&got), ["y"]);
        rig.command(
            a,
            Command::Cancel {
                token: Token(0),
                lane: Lane(0),
                consumer: ConsumerId(1),
            },
        );
        rig.settle(a, &ids(&got), Outcome::Reject);
    }
    rig.check_replay();
}

#[test]
fn dead_letters_of_a_replayed_queue_are_fetched_first() {
    let config = broker::Config {
        recent_bytes_max: 0,
        ..broker::Config::default()
    };
    let mut rig = Rig::with(config);
    let a = rig.attach(1);
    rig.durable_queue(a, "dead", QueueAttributes::default());
    let attributes = QueueAttributes {
        dead_letter: dead_letter_to("dead"),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.send(a, "q", "x");
    rig.consume(a, 1, "q", Credit::Window(0));
    let got = rig.deliveries(a);
    rig.settle(a, &ids(&got), Outcome::Reject);
    rig.consume(a, 2, "dead", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["x"]);
    rig.check_replay();
}

#[test]
fn priorities_are_told_apart_up_to_the_highest() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        priority_max: Some(5),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    for (body, priority) in [("low", 0), ("high", 9), ("mid", 3), ("high2", 5)] {
        let mut message = to_queue("q", body);
        message.durable = true;
        message.priority = Some(priority);
        rig.publish(a, message);
    }
    rig.consume(a, 1, "q", Credit::Window(1));
    let first = rig.deliveries(a);
    assert_eq!(bodies_of(&first), ["high"]);
    rig.restart();
    let b = rig.attach(2);
    rig.consume(b, 1, "q", Credit::Window(0));
    assert_eq!(rig.bodies(b), ["high", "high2", "mid", "low"]);
}

/// [AMQP-queue.declare.durable.types], [AMQP-queue.declare.exclusive.types]
#[test]
fn exclusive_queues_are_locked_and_go_with_their_connection() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    let options = QueueOptions {
        durable: true,
        exclusive: true,
        ..QueueOptions::default()
    };
    rig.queue(a, "mine", options.clone());
    let locked = rig.queue(b, "mine", options);
    assert!(
        matches!(&locked, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::Locked)
    );
    rig.detach(a);
    assert_eq!(rig.broker.counters().queues, 0);
    rig.check_replay();
}

#[test]
fn auto_delete_queues_go_with_their_last_consumer() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    let options = QueueOptions {
        durable: true,
        auto_delete: true,
        ..QueueOptions::default()
    };
    rig.queue(a, "q", options);
    rig.consume(a, 1, "q", Credit::Window(0));
    rig.consume(b, 1, "q", Credit::Window(0));
    rig.detach(a);
    assert_eq!(rig.broker.counters().queues, 1);
    rig.command(
        b,
        Command::Cancel {
            token: Token(9),
            lane: Lane(0),
            consumer: ConsumerId(1),
        },
    );
    assert_eq!(rig.broker.counters().queues, 0);
    assert!(matches!(
        rig.last_event(b),
        Event::Unsubscribed { existed: true, .. }
    ));
    rig.check_replay();
}

/// [RABBIT-expires-1]
#[test]
fn a_queue_unused_for_too_long_goes() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        expires_ms: Some(100),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.consume(a, 1, "q", Credit::Window(0));
    rig.tick(300);
    assert_eq!(rig.broker.counters().queues, 1);
    rig.command(
        a,
        Command::Cancel {
            token: Token(9),
            lane: Lane(0),
            consumer: ConsumerId(1),
        },
    );
    rig.tick(99);
    assert_eq!(rig.broker.counters().queues, 1);
    rig.tick(101);
    assert_eq!(rig.broker.counters().queues, 0);
    rig.check_replay();
}

#[test]
fn consumers_are_told_when_their_queue_is_deleted() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.send(a, "q", "x");
    rig.consume(b, 7, "q", Credit::Window(0));
    let answer = rig.declare(
        a,
        Declare::DeleteQueue {
            name: "q".into(),
            if_unused: true,
            if_empty: false,
        },
    );
    assert!(
        matches!(answer, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::NotEmpty)
    );
    rig.declare(
        a,
        Declare::DeleteQueue {
            name: "q".into(),
            if_unused: false,
            if_empty: false,
        },
    );
    assert!(
        matches!(rig.last_event(b), Event::Cancelled { consumer, revoked: false } if consumer == ConsumerId(7))
    );
    assert!(rig.refs.is_empty());
    rig.check_replay();
}

#[test]
fn pulls_lease_for_the_connection_for_a_time_or_not_at_all() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    rig.durable_queue(a, "q", QueueAttributes::default());
    for n in 0..3 {
        rig.send(a, "q", &n.to_string());
    }
    assert_eq!(bodies_of(&rig.pull(a, "q", 1, Lease::Settled)), ["0"]);
    assert_eq!(bodies_of(&rig.pull(b, "q", 1, Lease::Connection)), ["1"]);
    assert_eq!(bodies_of(&rig.pull(a, "q", 5, Lease::Ms(50))), ["2"]);
    assert!(rig.pull(a, "q", 5, Lease::Connection).is_empty());
    rig.check_replay();
    rig.detach(b);
    rig.tick(50);
    let got = rig.pull(a, "q", 5, Lease::Ms(50));
    assert_eq!(bodies_of(&got), ["1", "2"]);
    assert_eq!(got[1].count, 2);
    rig.settle(a, &ids(&got), Outcome::Accept);
    rig.tick(100);
    assert!(rig.pull(a, "q", 5, Lease::Connection).is_empty());
    assert!(rig.refs.is_empty());
    rig.check_replay();
}

#[test]
fn a_timed_lease_outlives_a_restart() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.send(a, "q", "x");
    rig.pull(a, "q", 1, Lease::Ms(1000));
    rig.restart();
    let b = rig.attach(2);
    assert!(rig.pull(b, "q", 1, Lease::Connection).is_empty());
    rig.tick(1000);
    let got = rig.pull(b, "q", 1, Lease::Connection);
    assert_eq!((got.len(), got[0].count), (1, 2));
}

#[test]
fn doors_20_a_group_has_one_holder_and_is_delivered_in_order() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    let attributes = QueueAttributes {
        fifo: Some(Fifo {
            dedup_by_content: false,
            dedup_per_group: false,
        }),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    let send = |rig: &mut Rig, group: &str, body: &str| {
        let mut message = to_queue("q", body);
        message.group = Some(group.to_owned().into());
        rig.publish(a, message);
    };
    for n in 0..3 {
        send(&mut rig, "g", &format!("g{n}"));
        send(&mut rig, "h", &format!("h{n}"));
    }
    rig.consume(a, 1, "q", Credit::Window(1));
    rig.consume(b, 1, "q", Credit::Window(1));
    let (got_a, got_b) = (rig.deliveries(a), rig.deliveries(b));
    assert_eq!(
        (bodies_of(&got_a), bodies_of(&got_b)),
        (vec!["g0".to_owned()], vec!["h0".to_owned()])
    );
    rig.settle(a, &ids(&got_a), Outcome::Release);
    let got_a = rig.deliveries(a);
    assert_eq!(bodies_of(&got_a), ["g0"]);
    rig.settle(a, &ids(&got_a), Outcome::Accept);
    assert_eq!(rig.bodies(a), ["g1"]);
    rig.check_replay();
    rig.restart();
    let c = rig.attach(3);
    rig.consume(c, 1, "q", Credit::Window(0));
    assert_eq!(rig.bodies(c), ["h0", "g1", "h1", "g2", "h2"]);
}

#[test]
fn a_dedup_id_is_remembered_for_five_minutes() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        deduplicate: true,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    let message = || {
        let mut message = to_queue("q", "x");
        message.fields_mut().dedup_id = Some("one".into());
        message
    };
    assert!(matches!(
        rig.publish(a, message()),
        PublishOutcome::Accepted { matched: 1, .. }
    ));
    assert!(matches!(
        rig.publish(a, message()),
        PublishOutcome::Duplicate { .. }
    ));
    // RULES 3: a duplicate rests on durable state.
    assert_eq!(
        rig.told[&a].last().expect("told").wait,
        broker::Wait::Durable
    );
    rig.check_replay();
    rig.restart();
    let a = rig.attach(1);
    assert!(matches!(
        rig.publish(a, message()),
        PublishOutcome::Duplicate { .. }
    ));
    rig.tick(5 * 60 * 1000);
    assert!(matches!(
        rig.publish(a, message()),
        PublishOutcome::Accepted { matched: 1, .. }
    ));
    rig.check_replay();
}

/// [AMQP-queue.purge.02]
#[test]
fn a_purge_drops_what_is_available_and_leaves_what_is_out() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    for n in 0..3 {
        rig.send(a, "q", &n.to_string());
    }
    rig.consume(a, 1, "q", Credit::Window(1));
    let got = rig.deliveries(a);
    let answer = rig.declare(a, Declare::Purge { name: "q".into() });
    assert!(matches!(answer, Event::Declared { messages: 2, .. }));
    rig.check_replay();
    rig.settle(a, &ids(&got), Outcome::Release);
    assert_eq!(rig.bodies(a), ["0"]);
}

#[test]
fn doors_16_unconfirmed_transient_publishes_skip_the_journal() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    let before = rig.journal.len();
    rig.publish_unconfirmed(a, to_queue("q", "soft"));
    assert_eq!(rig.journal.len(), before);
    assert!(matches!(
        rig.publish(a, to_queue("q", "stored")),
        PublishOutcome::Accepted { matched: 1, .. }
    ));
    assert_eq!(rig.journal.len(), before + 1);
    rig.consume(a, 1, "q", Credit::Window(0));
    let got = rig.deliveries(a);
    assert_eq!(bodies_of(&got), ["soft", "stored"]);
    assert!(!got[1].message.durable);
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    rig.consume(b, 1, "q", Credit::Window(0));
    assert_eq!(rig.bodies(b), ["stored"]);
}

#[test]
fn bodies_in_parts_are_counted_with_their_message() {
    let mut rig = Rig::new();
    rig.parts_over = 10;
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    let text = "0123456789".repeat(5);
    rig.send(a, "q", &text);
    assert_eq!(rig.refs.len(), 6);
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    rig.consume(b, 1, "q", Credit::Window(0));
    let got = rig.deliveries(b);
    assert_eq!(bodies_of(&got), [text]);
    rig.settle(b, &ids(&got), Outcome::Accept);
    assert!(rig.refs.is_empty());
    rig.check_replay();
}

#[test]
fn settling_what_is_not_out_is_refused_only_when_an_answer_was_asked_for() {
    let mut rig = Rig::new();
    let (a, b) = (rig.attach(1), rig.attach(2));
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.send(a, "q", "x");
    rig.consume(a, 1, "q", Credit::Window(0));
    let got = rig.deliveries(a);
    let settle = |token| {
        Command::Settle(Settle {
            token,
            lane: Lane(0),
            deliveries: DeliveryRange {
                queue: ids(&got)[0].queue,
                ranges: smallvec::smallvec![(0, u64::MAX)],
            },
            outcome: Outcome::Accept,
        })
    };
    rig.command(b, settle(Some(Token(5))));
    assert!(
        matches!(rig.last_event(b), Event::Refused { refusal, .. } if refusal.kind == RefusalKind::UnknownDelivery)
    );
    rig.command(a, settle(Some(Token(6))));
    assert!(matches!(rig.last_event(a), Event::Settled { known: 1, .. }));
}

#[test]
fn rules_4_a_consumer_is_confirmed_in_its_own_lane_before_its_first_delivery() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.send(a, "q", "x");
    rig.consume(a, 4, "q", Credit::Window(0));
    let told = &rig.told[&a];
    let lane = broker::OutLane::Consumer(ConsumerId(4));
    let of_lane: Vec<_> = told.iter().filter(|told| told.lane == lane).collect();
    assert!(matches!(of_lane[0].event, Event::Subscribed { .. }));
    assert!(matches!(of_lane[1].event, Event::Delivery(_)));
}

#[test]
fn rules_3_a_refusal_that_read_durable_state_waits() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let missing = rig.declare(
        a,
        Declare::Queue {
            name: "nope".into(),
            passive: true,
            options: Box::default(),
        },
    );
    assert!(matches!(missing, Event::Refused { .. }));
    assert_eq!(
        rig.told[&a].last().expect("told").wait,
        broker::Wait::Durable
    );
}

#[test]
fn rules_2_a_release_writes_no_record_and_an_accept_writes_one() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.send(a, "q", "x");
    rig.consume(a, 1, "q", Credit::Exactly(1));
    let got = rig.deliveries(a);
    let before = rig.journal.len();
    rig.settle(a, &ids(&got), Outcome::Release);
    assert_eq!(rig.journal.len(), before);
    rig.command(
        a,
        Command::Credit {
            consumer: ConsumerId(1),
            credit: Credit::Exactly(1),
        },
    );
    let got = rig.deliveries(a);
    let before = rig.journal.len();
    rig.settle(a, &ids(&got), Outcome::Accept);
    assert_eq!(rig.journal.len(), before + 1);
}

#[test]
fn an_exclusive_consumer_receives_after_a_restart() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let attributes = QueueAttributes {
        deduplicate: true,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", attributes);
    rig.consume(a, 1, "q", Credit::Window(1));
    rig.send(a, "q", "x");
    rig.pull(a, "q", 1, Lease::Settled);
    rig.restart();
    rig.told.clear();
    let b = rig.attach(2);
    let mut subscribe = rig.consumer(1, "q", Credit::Exactly(2));
    subscribe.exclusive = true;
    subscribe.group = 2;
    let event = rig.subscribe(b, subscribe);
    assert!(matches!(event, Event::Subscribed { .. }), "{event:?}");
    assert_eq!(rig.bodies(b), ["x"]);
}

#[test]
fn a_cancelled_consumers_deliveries_still_count_in_their_group_until_they_are_settled() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.command(
        a,
        Command::GroupWindow {
            group: 1,
            window: 1,
        },
    );
    let mut subscribe = rig.consumer(1, "q", Credit::Window(0));
    subscribe.group = 1;
    rig.subscribe(a, subscribe.clone());
    rig.send(a, "q", "x");
    rig.send(a, "q", "y");
    let got = rig.deliveries(a);
    let cancel = Command::Cancel {
        token: Token(0),
        lane: Lane(0),
        consumer: ConsumerId(1),
    };
    rig.command(a, cancel);
    rig.subscribe(a, subscribe);
    assert!(rig.deliveries(a).is_empty());
    rig.settle(a, &ids(&got), Outcome::Accept);
    assert_eq!(rig.bodies(a), ["y"]);
}
