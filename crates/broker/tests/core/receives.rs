//! What a receive promises beyond the messages: bytes, first times, attempts; and how messages move to the queue that a
//! redrive policy names, and are purged while out.

use bytes::Bytes;
use session::{
    Command, Declare, Delivery, Event, Fifo, Lease, Pull, QueueAttributes, ReceiptUse, Redrive,
    RefusalKind, SessionId,
};

use crate::{
    pulls::{pull, receive, used},
    rig::{Rig, body, to_queue},
};

const FIFO: Fifo = Fifo {
    dedup_by_content: false,
    dedup_per_group: false,
};

pub(crate) fn fifo() -> QueueAttributes {
    QueueAttributes {
        fifo: Some(FIFO),
        ..QueueAttributes::default()
    }
}

/// Publishes a message of a group.
pub(crate) fn send_in(rig: &mut Rig, by: SessionId, queue: &str, group: &str, text: &str) {
    let mut message = to_queue(queue, text);
    message.durable = true;
    message.group = Some(Bytes::copy_from_slice(group.as_bytes()));
    rig.publish(by, message);
}

/// What a pull gets that is answered at once.
pub(crate) fn take(rig: &mut Rig, by: SessionId, pull: Pull) -> Vec<Delivery> {
    rig.command(by, Command::Pull(pull));
    match rig.last_event(by) {
        Event::Pulled { deliveries, .. } => deliveries,
        other => panic!("no answer to a pull: {other:?}"),
    }
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(body).collect()
}

fn attempt(rig: &mut Rig, name: &'static str, count: u32, lease_ms: u64) -> Pull {
    Pull {
        attempt: Some(Bytes::from_static(name.as_bytes())),
        ..pull(rig, count, lease_ms, 0)
    }
}

#[test]
fn doors_15_a_pull_stops_before_its_bytes_are_exceeded_but_gets_one_message_at_least() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for (queue, attributes) in [("q", QueueAttributes::default()), ("f", fifo())] {
        rig.durable_queue(a, queue, attributes);
        for text in ["12345678", "1234", "1234", "1"] {
            rig.send(a, queue, text);
        }
        let mut got = Vec::new();
        for _ in 0..3 {
            let limited = Pull {
                queue: queue.to_owned().into(),
                bytes_max: Some(5),
                ..pull(&mut rig, 10, 1000, 0)
            };
            let taken = take(&mut rig, a, limited);
            for delivery in &taken {
                let receipt = rig.receipt(delivery);
                assert_eq!(used(&mut rig, a, receipt, ReceiptUse::Delete), Ok(1));
            }
            got.push(texts(&taken));
        }
        assert_eq!(got, [vec!["12345678"], vec!["1234"], vec!["1234", "1"]]);
    }
    rig.check_replay();
}

#[test]
fn when_a_message_was_first_received_is_remembered_across_leases_and_restarts() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.send(a, "q", "m");
    rig.tick(70);
    let first = rig.now;
    let again = pull(&mut rig, 1, 100, 0);
    assert_eq!(take(&mut rig, a, again)[0].first_delivered, Some(first));
    rig.tick(100);
    let again = pull(&mut rig, 1, 100, 0);
    assert_eq!(take(&mut rig, a, again)[0].first_delivered, Some(first));
    rig.check_replay();
    rig.restart();
    rig.tick(100);
    let b = rig.attach(2);
    let again = pull(&mut rig, 1, 100, 0);
    let got = take(&mut rig, b, again);
    assert_eq!((got[0].first_delivered, got[0].count), (Some(first), 3));
    rig.check_replay();
}

#[test]
fn an_attempt_that_is_made_again_gets_the_same_receives_under_a_new_lease() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", fifo());
    for text in ["1", "2", "3"] {
        send_in(&mut rig, a, "q", "g", text);
    }
    let first = attempt(&mut rig, "one", 2, 1000);
    let got = take(&mut rig, a, first);
    assert_eq!(texts(&got), ["1", "2"]);
    rig.tick(900);
    // Another attempt finds the group locked; the same one gets the same again, by a connection of its own.
    let other = attempt(&mut rig, "two", 2, 1000);
    assert!(take(&mut rig, a, other).is_empty());
    rig.restart();
    let b = rig.attach(2);
    let same = attempt(&mut rig, "one", 2, 1000);
    assert_eq!(take(&mut rig, b, same), got);
    rig.check_replay();
    rig.tick(999);
    let none = pull(&mut rig, 10, 1000, 0);
    assert!(take(&mut rig, b, none).is_empty(), "the lease was renewed");
    // Its receipts are those of the first time.
    let receipt = rig.receipt(&got[0]);
    assert_eq!(used(&mut rig, b, receipt, ReceiptUse::Delete), Ok(1));
    // What it got is not what it was: the attempt is a new one.
    let same = attempt(&mut rig, "one", 2, 1000);
    assert!(take(&mut rig, b, same).is_empty());
    rig.tick(1);
    let same = attempt(&mut rig, "one", 2, 1000);
    let now = take(&mut rig, b, same);
    assert_eq!(texts(&now), ["2", "3"]);
    assert_eq!((now[0].count, now[1].count), (2, 1));
    rig.check_replay();
}

#[test]
fn an_attempt_is_over_when_its_messages_change_or_after_five_minutes() {
    const FIVE_MINUTES: u64 = 5 * 60 * 1000;
    let later = ReceiptUse::Visibility { ms: 600_000 };
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", fifo());
    send_in(&mut rig, a, "q", "g", "m");
    let first = attempt(&mut rig, "x", 1, 2 * FIVE_MINUTES);
    assert_eq!(take(&mut rig, a, first).len(), 1);
    rig.tick(FIVE_MINUTES - 1);
    let same = attempt(&mut rig, "x", 1, 2 * FIVE_MINUTES);
    let got = take(&mut rig, a, same);
    assert_eq!(got.len(), 1);
    // It counts from the first time.
    rig.tick(1);
    let same = attempt(&mut rig, "x", 1, 2 * FIVE_MINUTES);
    assert!(take(&mut rig, a, same).is_empty());
    rig.tick(2 * FIVE_MINUTES);
    let fresh = attempt(&mut rig, "y", 1, 1000);
    let got = take(&mut rig, a, fresh);
    let receipt = rig.receipt(&got[0]);
    assert_eq!(used(&mut rig, a, receipt, later), Ok(1));
    let same = attempt(&mut rig, "y", 1, 1000);
    assert!(take(&mut rig, a, same).is_empty(), "its time was moved");
    rig.check_replay();
}

#[test]
fn an_attempt_means_nothing_to_a_queue_that_is_not_fifo() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.send(a, "q", "m");
    let first = attempt(&mut rig, "x", 1, 1000);
    assert_eq!(take(&mut rig, a, first).len(), 1);
    let same = attempt(&mut rig, "x", 1, 1000);
    assert!(take(&mut rig, a, same).is_empty());
    rig.check_replay();
}

fn redriven(rig: &mut Rig, by: SessionId, source: QueueAttributes, target: QueueAttributes) {
    rig.durable_queue(by, "dead", target);
    let source = QueueAttributes {
        deliveries_max: Some(2),
        redrive: Some(Redrive {
            target: "dead".into(),
        }),
        ..source
    };
    rig.durable_queue(by, "q", source);
}

/// Lets what is in `q` be received, and lapse, so often that it is spent.
fn spend(rig: &mut Rig, by: SessionId) {
    for _ in 0..2 {
        receive(rig, by, 10, 10);
        rig.tick(10);
    }
}

fn dead(rig: &mut Rig, by: SessionId, lease_ms: u64) -> Vec<Delivery> {
    let it = Pull {
        queue: "dead".into(),
        ..pull(rig, 10, lease_ms, 0)
    };
    take(rig, by, it)
}

/// A queue of more messages that are too old than one decision drops, with a `fresh` one behind them.
fn many_over(rig: &mut Rig, by: SessionId, kind: &QueueAttributes, fresh: bool) {
    let attributes = QueueAttributes {
        retention_ms: Some(1000),
        ..kind.clone()
    };
    rig.durable_queue(by, "q", attributes);
    for number in 0..700 {
        send_in(
            rig,
            by,
            "q",
            &format!("g{}", number % 70),
            &number.to_string(),
        );
    }
    // No timer has run since.
    rig.now = rig.now.plus_ms(2000);
    if fresh {
        send_in(rig, by, "q", "g", "fresh");
    }
    rig.changes_most = 0;
}

fn bodies_for(rig: &Rig, by: SessionId, to: session::Token) -> Option<Vec<String>> {
    rig.told[&by].iter().find_map(|told| match &told.event {
        Event::Pulled {
            token, deliveries, ..
        } if *token == to => Some(texts(deliveries)),
        _ => None,
    })
}

#[test]
fn rules_9_a_receive_looks_behind_however_many_messages_that_are_over_a_few_at_a_time() {
    let plain = QueueAttributes::default();
    for (kind, lease, wait_ms) in [
        (plain.clone(), Lease::Ms(1000), 0),
        (plain.clone(), Lease::Ms(1000), 5),
        (plain, Lease::Settled, 0),
        (fifo(), Lease::Ms(1000), 0),
        (fifo(), Lease::Connection, 0),
    ] {
        for fresh in [true, false] {
            let mut rig = Rig::new();
            let a = rig.attach(1);
            many_over(&mut rig, a, &kind, fresh);
            let it = Pull {
                lease,
                ..pull(&mut rig, 1, 0, wait_ms)
            };
            let token = it.token;
            rig.command(a, Command::Pull(it));
            // Each is dropped and counted.
            assert!(rig.changes_most < 600, "{}", rig.changes_most);
            if !fresh && wait_ms > 0 {
                assert_eq!(bodies_for(&rig, a, token), None);
                rig.tick(wait_ms);
            }
            let got = bodies_for(&rig, a, token).expect("answered");
            assert_eq!(got, if fresh { vec!["fresh"] } else { vec![] });
            assert_eq!(rig.broker.counters().messages_ready, 0);
            rig.check_replay();
        }
    }
}

#[test]
fn a_receive_whose_time_is_over_while_others_are_in_its_way_gets_what_is_behind_them() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    many_over(&mut rig, a, &QueueAttributes::default(), true);
    let it = pull(&mut rig, 1, 1000, 5);
    let token = it.token;
    // Its time is over before the queue has its turn.
    let cx = rig.context();
    let mut decision = broker::Decision::default();
    let command = Command::Pull(it);
    rig.broker.decide(a, &command, &cx, &mut decision);
    rig.perform(decision);
    assert_eq!(bodies_for(&rig, a, token), None);
    rig.now = rig.now.plus_ms(5);
    rig.tick(0);
    assert_eq!(bodies_for(&rig, a, token), Some(vec!["fresh".to_owned()]));
    rig.check_replay();
}

#[test]
fn that_the_time_of_a_receive_is_over_is_no_answer_to_the_one_that_repeats_it() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", fifo());
    for text in ["1", "2"] {
        send_in(&mut rig, a, "q", "g", text);
    }
    let holds = pull(&mut rig, 1, 1000, 0);
    let held = take(&mut rig, a, holds);
    let waits = |rig: &mut Rig| {
        let it = Pull {
            wait_ms: 20,
            ..attempt(rig, "x", 1, 1000)
        };
        let token = it.token;
        rig.command(a, Command::Pull(it));
        token
    };
    let first = waits(&mut rig);
    rig.tick(18);
    let again = waits(&mut rig);
    rig.tick(2);
    assert_eq!(bodies_for(&rig, a, first), Some(vec![]));
    assert_eq!(bodies_for(&rig, a, again), None);
    let receipt = rig.receipt(&held[0]);
    assert_eq!(used(&mut rig, a, receipt, ReceiptUse::Delete), Ok(1));
    assert_eq!(bodies_for(&rig, a, again), Some(vec!["2".to_owned()]));
    rig.check_replay();
}

#[test]
fn doors_12_what_is_redriven_keeps_its_age_out_of_a_plain_queue_and_not_out_of_a_fifo_one() {
    for (is_fifo, goes_at) in [(false, 1000), (true, 1020)] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        let kind = if is_fifo {
            fifo()
        } else {
            QueueAttributes::default()
        };
        let kept = QueueAttributes {
            retention_ms: Some(1000),
            ..kind.clone()
        };
        redriven(&mut rig, a, kind, kept);
        let sent = rig.now;
        rig.send(a, "q", "m");
        spend(&mut rig, a);
        let got = dead(&mut rig, a, 1);
        let shown = sent.plus_ms(if is_fifo { 20 } else { 0 });
        assert_eq!((got[0].enqueued, got[0].count), (shown, 1));
        rig.check_replay();
        rig.restart();
        rig.tick(goes_at - 21);
        let b = rig.attach(2);
        assert_eq!(dead(&mut rig, b, 1).len(), 1, "one millisecond before");
        rig.tick(1);
        assert_eq!(rig.broker.counters().messages_ready, 0, "fifo {is_fifo}");
        rig.check_replay();
    }
}

#[test]
fn what_is_redriven_out_of_a_fifo_queue_keeps_its_order_wherever_its_messages_are() {
    let mut rig = Rig::with(broker::Config {
        // All but the last must be read from the journal to be shown.
        recent_count_max: 1,
        ..broker::Config::default()
    });
    // Nothing is read: nobody would answer.
    rig.fetches = false;
    let a = rig.attach(1);
    redriven(&mut rig, a, fifo(), fifo());
    for text in ["1", "2", "3", "4"] {
        send_in(&mut rig, a, "q", "g", text);
    }
    spend(&mut rig, a);
    let got = dead(&mut rig, a, 10);
    assert_eq!(texts(&got), ["1", "2", "3", "4"]);
    let deaths = got[0].deaths.as_deref().expect("a history");
    assert_eq!(deaths[0].queue, "q");
    rig.check_replay();
}

#[test]
fn a_redrive_is_no_send_so_equal_dedup_ids_are_both_kept() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let by_group = QueueAttributes {
        fifo: Some(Fifo {
            dedup_per_group: true,
            ..FIFO
        }),
        ..QueueAttributes::default()
    };
    redriven(&mut rig, a, by_group, fifo());
    for group in ["a", "b"] {
        let mut message = to_queue("q", group);
        message.durable = true;
        message.group = Some(group.into());
        message.fields_mut().dedup_id = Some("same".into());
        rig.publish(a, message);
    }
    spend(&mut rig, a);
    assert_eq!(dead(&mut rig, a, 10).len(), 2);
    rig.check_replay();
}

#[test]
fn while_the_target_of_its_redrive_policy_is_gone_a_message_stays() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    redriven(
        &mut rig,
        a,
        QueueAttributes::default(),
        QueueAttributes::default(),
    );
    rig.send(a, "q", "m");
    let delete = Declare::DeleteQueue {
        name: "dead".into(),
        if_unused: false,
        if_empty: false,
    };
    rig.declare(a, delete);
    spend(&mut rig, a);
    let got = receive(&mut rig, a, 1, 10);
    assert_eq!((got[0].0.as_str(), got[0].1.count), ("m", 3));
    rig.durable_queue(a, "dead", QueueAttributes::default());
    rig.tick(10);
    assert_eq!(texts(&dead(&mut rig, a, 10)), ["m"]);
    rig.check_replay();
}

#[test]
fn a_purge_of_everything_drops_what_is_leased_and_not_what_a_connection_holds() {
    let mut rig = Rig::with(broker::Config {
        empty_slice: 2,
        ..broker::Config::default()
    });
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    for number in 0..9 {
        rig.send(a, "q", &number.to_string());
    }
    let held = rig.pull(a, "q", 1, Lease::Connection);
    let (_, leased) = receive(&mut rig, a, 4, 1000).remove(0);
    let all = Declare::PurgeAll {
        name: "q".into(),
        noted: None,
    };
    rig.declare(a, all);
    assert_eq!(rig.broker.counters().messages_ready, 0);
    assert_eq!(rig.broker.counters().messages_unacked, held.len() as u64);
    let later = ReceiptUse::Visibility { ms: 10 };
    assert_eq!(
        used(&mut rig, a, leased, later),
        Err(RefusalKind::UnknownDelivery)
    );
    rig.check_replay();
    rig.detach(a);
    let b = rig.attach(2);
    assert_eq!(receive(&mut rig, b, 10, 10).len(), 1);
}

#[test]
fn a_group_with_very_many_messages_out_does_not_hold_up_others_that_are_pulled() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    for number in 0..60 {
        send_in(&mut rig, a, "q", "noisy", &format!("n{number}"));
    }
    let many = pull(&mut rig, 50, 1000, 0);
    assert_eq!(take(&mut rig, a, many).len(), 50);
    send_in(&mut rig, a, "q", "quiet", "q0");
    rig.send(a, "q", "alone");
    // After a restart too.
    rig.restart();
    let a = rig.attach(2);
    let some = pull(&mut rig, 4, 2000, 0);
    let got = take(&mut rig, a, some);
    assert_eq!(texts(&got), ["q0", "alone", "n50", "n51"]);
    // Nothing is left behind, and a consumer of a connection sees the order of the queue.
    rig.tick(1000);
    let rest = pull(&mut rig, 100, 1, 0);
    assert_eq!(take(&mut rig, a, rest).len(), 58);
    rig.tick(1000);
    let order = rig.pull(a, "q", 100, Lease::Settled);
    let order: Vec<_> = order.iter().map(body).collect();
    let noisy = (0..60).map(|number| format!("n{number}"));
    let all: Vec<_> = noisy.chain(["q0".into(), "alone".into()]).collect();
    assert_eq!(order, all);
    rig.check_replay();
}

#[test]
fn each_of_a_thousand_delayed_messages_is_available_at_its_own_millisecond() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    let delayed = |rig: &mut Rig, ms| {
        for _ in 0..1000 {
            let mut message = to_queue("q", "later");
            message.durable = true;
            message.delay_ms = ms;
            rig.publish(a, message);
        }
    };
    delayed(&mut rig, 5000);
    rig.send(a, "q", "one");
    delayed(&mut rig, 5001);
    rig.send(a, "q", "two");
    assert_eq!(receive(&mut rig, a, 10, 10_000).len(), 2);
    rig.tick(4999);
    assert!(receive(&mut rig, a, 10, 10_000).is_empty());
    rig.tick(1);
    let mut got = 0;
    while !receive(&mut rig, a, 1000, 60_000).is_empty() {
        got += 1;
    }
    assert_eq!(got, 1);
    rig.tick(1);
    assert_eq!(receive(&mut rig, a, 1000, 60_000).len(), 1000);
    rig.check_replay();
}
