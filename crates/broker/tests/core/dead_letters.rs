//! Dead letters that leave one queue together and come into another one that is full.

use message::Filter;
use session::*;

use crate::{
    queues::dead_letter_to,
    rig::*,
    subscriptions::{dead_letters_to, into_queue, new},
};

/// A queue of that length, whose full head makes room, and three messages that leave another one for it in one decision.
fn three_dead_at_once(
    length_max: Option<u64>,
    bytes_max: Option<u64>,
    leave: impl FnOnce(&mut Rig, SessionId),
) -> Vec<String> {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let short = QueueAttributes {
        length_max,
        bytes_max,
        dead_letter: dead_letter_to("last"),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "last", QueueAttributes::default());
    rig.durable_queue(a, "dead", short);
    rig.durable_queue(
        a,
        "jobs",
        QueueAttributes {
            dead_letter: dead_letter_to("dead"),
            ..QueueAttributes::default()
        },
    );
    rig.durable_queue(
        a,
        "short-lived",
        QueueAttributes {
            ttl_ms: Some(50),
            dead_letter: dead_letter_to("dead"),
            ..QueueAttributes::default()
        },
    );
    rig.send(a, "dead", "zero");
    leave(&mut rig, a);
    let b = rig.attach(2);
    let kept = rig.pull(b, "dead", 10, Lease::Connection);
    let passed = rig.pull(b, "last", 10, Lease::Connection);
    let counters = rig.broker.counters();
    let lost = counters.dropped_dead_letter;
    assert_eq!(kept.len() as u64 + passed.len() as u64 + lost, 4);
    rig.check_replay();
    let mut kept: Vec<_> = kept.iter().map(body).collect();
    if lost == 0 {
        let passed: Vec<_> = passed.iter().map(body).collect();
        assert_eq!(passed, ["zero", "one", "two", "three"][..passed.len()]);
    } else {
        kept.insert(0, format!("{lost} lost"));
    }
    kept
}

#[test]
fn what_expires_together_fills_no_dead_letter_queue_beyond_its_limit() {
    // By their own time to live, and by the queue's.
    let own = |rig: &mut Rig, a| {
        for text in ["one", "two", "three"] {
            let mut message = to_queue("jobs", text);
            message.expiry = Some(rig.now.plus_ms(50));
            rig.publish(a, message);
        }
        rig.tick(100);
    };
    let the_queues = |rig: &mut Rig, a| {
        for text in ["one", "two", "three"] {
            rig.send(a, "short-lived", text);
        }
        rig.tick(100);
    };
    for (length_max, bytes_max, left) in [
        (Some(1), None, &["three"][..]),
        (Some(2), None, &["two", "three"]),
        (None, Some(6), &["three"]),
        (None, Some(8), &["two", "three"]),
    ] {
        assert_eq!(three_dead_at_once(length_max, bytes_max, own), left);
        assert_eq!(three_dead_at_once(length_max, bytes_max, the_queues), left);
    }
}

#[test]
fn what_is_rejected_together_fills_no_dead_letter_queue_beyond_its_limit() {
    let reject = |rig: &mut Rig, a| {
        for text in ["one", "two", "three"] {
            rig.send(a, "jobs", text);
        }
        let out = ids(&rig.pull(a, "jobs", 3, Lease::Connection));
        let ranges = (out[0].qseq, out[2].qseq);
        let reject = Settle {
            token: None,
            lane: Lane(0),
            deliveries: DeliveryRange {
                queue: out[0].queue,
                ranges: [ranges].into_iter().collect(),
            },
            outcome: Outcome::Reject,
        };
        rig.command(a, Command::Settle(reject));
    };
    // One command is one decision: what it moved there itself goes on like everything else.
    assert_eq!(three_dead_at_once(Some(1), None, reject), ["three"]);
    assert_eq!(three_dead_at_once(Some(2), None, reject), ["two", "three"]);
}

/// A durable queue whose dead letters are kept until "dead" takes them.
fn keeping(rig: &mut Rig, a: SessionId) {
    let attributes = QueueAttributes {
        ttl_ms: Some(50),
        deliveries_max: Some(2),
        dead_letter: dead_letter_to("dead"),
        keep_dead_letters: true,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "jobs", attributes);
}

fn delete(rig: &mut Rig, from: SessionId, queue: &str) {
    let declare = Declare::DeleteQueue {
        name: queue.to_owned().into(),
        if_unused: false,
        if_empty: false,
    };
    rig.declare(from, declare);
}

fn bodies_in(rig: &mut Rig, queue: &str) -> Vec<String> {
    let b = rig.attach(2);
    let bodies = rig.pull(b, queue, 10, Lease::Connection);
    rig.settle(b, &ids(&bodies), Outcome::Accept);
    rig.detach(b);
    bodies.iter().map(body).collect()
}

#[test]
fn a_dead_letter_that_is_kept_waits_for_the_queue_that_it_is_for() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    keeping(&mut rig, a);
    for text in ["one", "two"] {
        rig.send(a, "jobs", text);
    }
    rig.tick(51);
    // In nobody's reach, and not lost.
    assert!(bodies_in(&mut rig, "jobs").is_empty());
    rig.tick(20_000);
    assert_eq!(rig.broker.counters().dropped_dead_letter, 0);
    rig.check_replay();
    rig.durable_queue(a, "dead", QueueAttributes::default());
    rig.tick(5_000);
    assert_eq!(bodies_in(&mut rig, "dead"), ["one", "two"]);
    assert_eq!(rig.broker.counters().dead_lettered, 2);
    rig.check_replay();
}

#[test]
fn a_dead_letter_that_is_kept_waits_for_room() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let short = QueueAttributes {
        length_max: Some(1),
        overflow: Overflow::RejectPublish,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "dead", short);
    keeping(&mut rig, a);
    rig.send(a, "dead", "zero");
    for text in ["one", "two"] {
        rig.send(a, "jobs", text);
    }
    rig.consume(a, 1, "jobs", Credit::Window(2));
    let got = rig.deliveries(a);
    rig.settle(a, &ids(&got), Outcome::Reject);
    for text in ["zero", "one", "two"] {
        assert!(rig.bodies(a).is_empty(), "shown again");
        assert_eq!(bodies_in(&mut rig, "dead"), [text]);
        rig.tick(5_000);
    }
    let counters = rig.broker.counters();
    assert_eq!(
        (counters.dead_lettered, counters.dropped_dead_letter),
        (2, 0)
    );
    rig.check_replay();
}

/// What is in nobody's reach takes no room: neither by its number nor by its bytes.
#[test]
fn a_dead_letter_that_is_kept_takes_no_room() {
    for (length_max, bytes_max) in [(Some(2), None), (None, Some(6))] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        let attributes = QueueAttributes {
            length_max,
            bytes_max,
            ttl_ms: Some(50),
            dead_letter: dead_letter_to("dead"),
            keep_dead_letters: true,
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, "jobs", attributes);
        for round in 0..2 {
            for text in ["one", "two"] {
                rig.send(a, "jobs", text);
            }
            let counters = rig.broker.counters();
            assert_eq!(
                (counters.messages_ready, counters.dropped_max_len),
                (2 + 2 * round, 0)
            );
            rig.tick(51);
        }
        rig.durable_queue(a, "dead", QueueAttributes::default());
        rig.tick(10_000);
        assert_eq!(bodies_in(&mut rig, "dead"), ["one", "two", "one", "two"]);
        assert_eq!(bodies_in(&mut rig, "jobs"), [""; 0]);
        for text in ["three", "four", "five"] {
            rig.send(a, "jobs", &text[..3]);
        }
        assert_eq!(bodies_in(&mut rig, "jobs"), ["fou", "fiv"]);
        rig.check_replay();
    }
}

#[test]
fn a_dead_letter_that_is_kept_is_there_after_a_restart_and_goes_with_its_queue() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    keeping(&mut rig, a);
    rig.send(a, "jobs", "one");
    rig.tick(51);
    rig.restart();
    let a = rig.attach(1);
    rig.tick(0);
    rig.durable_queue(a, "dead", QueueAttributes::default());
    rig.tick(5_000);
    assert_eq!(bodies_in(&mut rig, "dead"), ["one"]);
    rig.send(a, "jobs", "two");
    rig.send(a, "dead", "three");
    delete(&mut rig, a, "dead");
    rig.tick(51);
    delete(&mut rig, a, "jobs");
    rig.tick(5_000);
    assert_eq!(rig.broker.counters().messages_ready, 0);
    rig.check_replay();
}

#[test]
fn many_dead_letters_that_are_kept_are_tried_again_more_seldom() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    keeping(&mut rig, a);
    for number in 0..6_000 {
        rig.send(a, "jobs", &number.to_string());
    }
    rig.tick(51);
    // All are looked at once more, and there are six thousand of them by then.
    rig.tick(6_000);
    rig.durable_queue(a, "dead", QueueAttributes::default());
    rig.tick(5_100);
    assert_eq!(rig.broker.counters().dead_lettered, 0);
    rig.tick(900);
    assert_eq!(rig.broker.counters().dead_lettered, 6_000);
}

/// Where a dead letter that is published at "t" finds somebody who does not take it.
type Refuser = fn(&mut Rig, SessionId);

fn full(rig: &mut Rig, a: SessionId, name: &str) {
    let attributes = QueueAttributes {
        length_max: Some(1),
        overflow: Overflow::RejectPublish,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, name, attributes);
    rig.send(a, name, "there before");
}

/// A subscription of a topic object whose queue is full.
fn full_subscription(rig: &mut Rig, a: SessionId) {
    full(rig, a, "full");
    rig.new_topic(a, "t", false);
    rig.subscribed(a, new(1, "t", into_queue("full")));
}

/// The same with a dead-letter queue of its own, which is full too.
fn full_dead_letter_queue(rig: &mut Rig, a: SessionId) {
    full(rig, a, "full");
    full(rig, a, "full too");
    rig.new_topic(a, "t", false);
    let mut new = new(1, "t", into_queue("full"));
    new.settings = dead_letters_to("full too");
    rig.subscribed(a, new);
}

/// Where these tests' dead letters go: to whoever subscribed to `t`.
fn through_t() -> Option<DeadLetter> {
    Some(DeadLetter {
        exchange: "amq.topic".into(),
        key: Some(levels("t")),
    })
}

/// A subscription with a policy that lets nothing of these tests pass.
fn picky_subscription(rig: &mut Rig, a: SessionId) {
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.new_topic(a, "t", false);
    let mut picky = new(1, "t", into_queue("q"));
    picky.settings.policy = Some((r#"{"store": ["x"]}"#.into(), PolicyScope::Attributes));
    rig.subscribed(a, picky);
}

/// A route into a queue that does not take anything so large.
fn small_route(rig: &mut Rig, a: SessionId) {
    let attributes = QueueAttributes {
        message_len_max: Some(1),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "small", attributes);
    let mut route = new(1, "t", into_queue("small"));
    route.topic = None;
    route.filter = Some(Filter::Pattern(pattern("t")));
    rig.subscribed(a, route);
}

/// A client session of MQTT whose queue is full.
fn full_client(rig: &mut Rig, _: SessionId) {
    let b = rig.attach(7);
    rig.open(b, "c", false, ClientExpiry::Never);
    let options = SubscriptionOptions {
        qos: 1,
        ..SubscriptionOptions::default()
    };
    rig.topic(b, "t", options);
    rig.detach(b);
    let c = rig.attach(8);
    rig.publish(c, to_topic("t", "there before", 1));
}

/// A client session that is away, and wants it at QoS 0 only.
fn absent_client(rig: &mut Rig, _: SessionId) {
    let b = rig.attach(7);
    rig.open(b, "c", false, ClientExpiry::Never);
    rig.topic(b, "t", SubscriptionOptions::default());
    rig.detach(b);
}

/// What is counted as dropped, by name.
fn drops(rig: &Rig) -> Vec<(&'static str, u64)> {
    let metrics = rig.broker.counters().metrics().into_iter();
    metrics
        .filter(|it| (it.name.starts_with("dropped") || it.name == "filtered") && it.value > 0)
        .map(|it| (it.name, it.value))
        .collect()
}

/// Whoever does not take a dead letter is counted under the name of what he is, and once: not as a dead letter that has nowhere to go as
/// well. One that is kept is not lost, however often it is tried.
#[test]
fn a_dead_letter_that_a_subscriber_does_not_take_is_counted_once() {
    let cases: [(Refuser, &str); 5] = [
        (full_subscription, "dropped_subscription"),
        (full_dead_letter_queue, "dropped_subscription"),
        (small_route, "dropped_subscription"),
        (full_client, "dropped_client_full"),
        (absent_client, "dropped_no_room"),
    ];
    for (refuser, name) in cases {
        for keeps in [false, true] {
            let config = broker::Config {
                client_queue_length_max: 1,
                ..broker::Config::default()
            };
            let mut rig = Rig::with(config);
            let a = rig.attach(1);
            refuser(&mut rig, a);
            let attributes = QueueAttributes {
                ttl_ms: Some(50),
                dead_letter: through_t(),
                keep_dead_letters: keeps,
                ..QueueAttributes::default()
            };
            rig.durable_queue(a, "jobs", attributes);
            let mut message = to_queue("jobs", "one");
            message.qos = 1;
            rig.publish(a, message);
            rig.tick(51);
            for _ in 0..3 {
                rig.tick(5_000);
            }
            let expected = if keeps { vec![] } else { vec![(name, 1)] };
            assert_eq!(drops(&rig), expected, "{name}, kept: {keeps}");
            rig.check_replay();
            if !keeps {
                continue;
            }
            // It goes once somebody takes it, and who does not is counted then.
            rig.durable_queue(a, "dead", QueueAttributes::default());
            rig.bind(a, "amq.topic", "dead", "t");
            rig.tick(5_000);
            assert_eq!(bodies_in(&mut rig, "dead"), ["one"]);
            assert_eq!(drops(&rig), [(name, 1)], "{name}, taken by another");
            assert_eq!(rig.broker.counters().dead_lettered, 1);
            rig.check_replay();
        }
    }
}

/// Nobody told the publisher: what a queue has no room for at all, and goes nowhere else, is counted as lost.
#[test]
fn what_is_too_large_for_its_queue_and_filtered_behind_it_is_counted_as_lost() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    picky_subscription(&mut rig, a);
    let attributes = QueueAttributes {
        bytes_max: Some(1),
        dead_letter: through_t(),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "jobs", attributes);
    rig.send(a, "jobs", "too large");
    assert_eq!(drops(&rig), [("dropped_dead_letter", 1), ("filtered", 1)]);
    rig.check_replay();
}

/// A policy that lets a dead letter not pass is no refusal: there is nowhere to go, and that is counted once too.
#[test]
fn a_dead_letter_that_no_policy_lets_pass_has_nowhere_to_go() {
    for keeps in [false, true] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        picky_subscription(&mut rig, a);
        let attributes = QueueAttributes {
            ttl_ms: Some(50),
            dead_letter: through_t(),
            keep_dead_letters: keeps,
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, "jobs", attributes);
        rig.send(a, "jobs", "one");
        rig.tick(51);
        for _ in 0..3 {
            rig.tick(5_000);
        }
        let expected = match keeps {
            true => vec![],
            false => vec![("dropped_dead_letter", 1), ("filtered", 1)],
        };
        assert_eq!(drops(&rig), expected, "kept: {keeps}");
        rig.check_replay();
    }
}
