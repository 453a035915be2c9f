//! Full queues whose dead letters lead into each other: each message is in one place afterwards.

use session::*;

use crate::{queues::dead_letter_to, rig::*};

/// A queue of that many messages, or bytes, whose head makes room.
fn short(length_max: Option<u64>, bytes_max: Option<u64>, to: &str) -> QueueAttributes {
    QueueAttributes {
        length_max,
        bytes_max,
        dead_letter: dead_letter_to(to),
        ..QueueAttributes::default()
    }
}

/// How what is ready is taken out of a queue.
type Take = fn(&mut Rig, SessionId, &str) -> Vec<String>;

fn consumer(rig: &mut Rig, to: SessionId, queue: &str) -> Vec<String> {
    rig.consume(to, 1, queue, Credit::Window(0));
    rig.bodies(to)
}

fn settled_consumer(rig: &mut Rig, to: SessionId, queue: &str) -> Vec<String> {
    rig.consume(to, 1, queue, Credit::Settled);
    rig.bodies(to)
}

/// A client session: each of its deliveries is a change of its own.
fn client(rig: &mut Rig, to: SessionId, queue: &str) -> Vec<String> {
    rig.open(to, "c", true, ClientExpiry::Never);
    let mut subscribe = rig.consumer(1, queue, Credit::Window(0));
    subscribe.through_client = true;
    subscribe.options.qos = 1;
    rig.subscribe(to, subscribe);
    rig.bodies(to)
}

fn one_pull(rig: &mut Rig, to: SessionId, queue: &str) -> Vec<String> {
    let pulled = rig.pull(to, queue, 10, Lease::Connection);
    pulled.iter().map(body).collect()
}

fn timed_pull(rig: &mut Rig, to: SessionId, queue: &str) -> Vec<String> {
    let pulled = rig.pull(to, queue, 10, Lease::Ms(60_000));
    pulled.iter().map(body).collect()
}

/// Two queues of ten bytes. In the first are these, of which "large" is over by the time that somebody takes what is there: it goes into
/// the second, and three of what is in there come into the first instead.
fn taken_out_of_a_ring(take: Take, first: &[&str], durable: bool) {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for (name, other) in [("a", "b"), ("b", "a")] {
        let options = QueueOptions {
            durable: true,
            attributes: short(None, Some(10), other),
            ..QueueOptions::default()
        };
        rig.queue(a, name, options);
    }
    let second = ["b0", "b1", "b2", "b3", "b4"];
    let messages = first.iter().map(|body| ("a", *body));
    for (queue, body) in messages.chain(second.map(|body| ("b", body))) {
        let mut message = to_queue(queue, body);
        message.durable = durable;
        message.expiry = (body == "large").then(|| rig.now.plus_ms(50));
        match durable {
            true => drop(rig.publish(a, message)),
            false => rig.publish_unconfirmed(a, message),
        }
    }
    // Nobody has looked at what is due.
    rig.now = rig.now.plus_ms(51);
    let to = rig.attach(2);
    let mut all = take(&mut rig, to, "a");
    rig.tick(0);
    all.extend(rig.bodies(to));
    let b = rig.attach(3);
    all.extend(one_pull(&mut rig, b, "a"));
    all.extend(one_pull(&mut rig, b, "b"));
    rig.check_replay();
    let counters = rig.broker.counters();
    let lost = counters.dropped_cycle + counters.dropped_dead_letter + counters.dropped_max_len;
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(count, all.len(), "shown twice: of {first:?}, {all:?}");
    assert!(
        (count as u64) < first.len() as u64 + 5 || lost == 0,
        "{all:?}, and {lost} lost"
    );
    assert!(
        count as u64 + lost >= first.len() as u64 + 5,
        "of {first:?} {all:?} are left, and {lost} lost"
    );
}

#[test]
fn what_an_expired_message_pushes_out_of_a_ring_is_not_delivered_as_well() {
    let takes: [Take; 5] = [consumer, settled_consumer, client, one_pull, timed_pull];
    for take in takes {
        for durable in [true, false] {
            for first in [
                &["first", "large"][..],
                &["large", "after"],
                &["xx", "large", "yyy"],
            ] {
                taken_out_of_a_ring(take, first, durable);
            }
        }
    }
}

/// What is pulled and what is left of a queue, when what goes on the way takes all that was to be pulled: the pull finds what came instead.
#[test]
fn a_pull_whose_messages_are_all_pushed_out_finds_what_came_instead() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for (name, other) in [("a", "b"), ("b", "a")] {
        rig.durable_queue(a, name, short(None, Some(10), other));
    }
    let mut large = to_queue("a", "large");
    large.expiry = Some(rig.now.plus_ms(50));
    rig.send(a, "a", "first");
    rig.publish(a, large);
    for body in ["b0", "b1", "b2", "b3", "b4"] {
        rig.send(a, "b", body);
    }
    rig.now = rig.now.plus_ms(51);
    let found = ["a", "b"].map(|name| one_pull(&mut rig, a, name));
    assert_eq!(found[0], ["b0", "b1", "b2", "b3", "b4"]);
    assert_eq!(found[1], ["large", "first"]);
    rig.check_replay();
}
