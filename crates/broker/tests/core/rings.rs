//! Full queues whose dead letters lead into each other, and messages that lead to several of them: each message is in one place
//! afterwards, no queue holds more than it may, and what is lost is counted once.

use std::collections::BTreeMap;

use message::Message;
use proptest::prelude::*;
use session::*;

use crate::{
    many::{publish_all, publish_together},
    queues::dead_letter_to,
    rig::*,
    transactions::{publish_this, transact},
};

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

/// A way of publishing.
type How = fn(&mut Rig, SessionId, Message);

fn singly(rig: &mut Rig, a: SessionId, message: Message) {
    rig.publish(a, message);
}

fn all(rig: &mut Rig, a: SessionId, message: Message) {
    publish_all(rig, a, &[message]);
}

fn together(rig: &mut Rig, a: SessionId, message: Message) {
    publish_together(rig, a, &[message]);
}

fn transaction(rig: &mut Rig, a: SessionId, message: Message) {
    let event = transact(rig, a, vec![publish_this(message)]);
    assert!(matches!(event, Event::Committed { .. }), "{event:?}");
}

fn unconfirmed(rig: &mut Rig, a: SessionId, message: Message) {
    rig.publish_unconfirmed(a, message);
}

/// It dies in a queue, and its dead letter leads to both.
fn dead_letter(rig: &mut Rig, a: SessionId, mut message: Message) {
    let attributes = QueueAttributes {
        dead_letter: Some(DeadLetter {
            exchange: "amq.topic".into(),
            key: Some(levels("t")),
        }),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "jobs", attributes);
    message.address = to_queue("jobs", "").address;
    message.expiry = Some(rig.now.plus_ms(50));
    rig.publish(a, message);
    rig.tick(51);
}

/// A full queue refuses it, and its dead letter leads to both.
fn refused(rig: &mut Rig, a: SessionId, mut message: Message) {
    let attributes = QueueAttributes {
        length_max: Some(0),
        overflow: Overflow::RejectPublishDeadLetter,
        dead_letter: Some(DeadLetter {
            exchange: "amq.topic".into(),
            key: Some(levels("t")),
        }),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "full", attributes);
    message.address = to_queue("full", "").address;
    rig.publish(a, message);
}

/// A message comes into a full queue, and into another one whose dead letters go into the first: what that one pushes out is the
/// newest in the first, which has room for one.
#[test]
fn a_message_that_leads_to_both_queues_of_a_chain_fills_neither_beyond_its_limit() {
    let ways: [How; 7] = [
        singly,
        all,
        together,
        transaction,
        unconfirmed,
        dead_letter,
        refused,
    ];
    for (at, how) in ways.into_iter().enumerate() {
        for durable in [true, false] {
            for (length_max, bytes_max) in [(Some(1), None), (None, Some(2))] {
                let mut rig = Rig::new();
                let a = rig.attach(1);
                rig.durable_queue(a, "end", QueueAttributes::default());
                rig.durable_queue(a, "late", short(length_max, bytes_max, "end"));
                rig.durable_queue(a, "early", short(length_max, bytes_max, "late"));
                for queue in ["late", "early"] {
                    rig.bind(a, "amq.topic", queue, "t");
                }
                for (queue, body) in [("late", "l0"), ("early", "e0")] {
                    let mut message = to_queue(queue, body);
                    message.durable = durable;
                    rig.publish_unconfirmed(a, message);
                }
                let mut message = to_topic("t", "m", 1);
                message.durable = durable;
                how(&mut rig, a, message);
                rig.check_replay();
                let held = rig.broker.counters().messages_ready;
                rig.tick(0);
                rig.check_replay();
                let b = rig.attach(2);
                let found = ["late", "early", "end"].map(|name| one_pull(&mut rig, b, name));
                assert_eq!(
                    found,
                    [vec!["e0"], vec!["m"], vec!["l0", "m"]],
                    "way {at}, durable: {durable}"
                );
                assert_eq!(held, 4, "way {at}, durable: {durable}");
                assert_eq!(rig.broker.counters().dropped_dead_letter, 0);
            }
        }
    }
}

/// A ring of queues of one, all of which a message leads to: it comes to an end.
#[test]
fn a_message_that_leads_to_all_of_a_ring_leaves_one_in_each() {
    for how in [singly as How, all, together, transaction, unconfirmed] {
        for durable in [true, false] {
            let mut rig = Rig::new();
            let a = rig.attach(1);
            let names = ["r0", "r1", "r2", "r3"];
            for (at, name) in names.iter().enumerate() {
                let next = names[(at + 3) % 4];
                rig.durable_queue(a, name, short(Some(1), None, next));
                rig.bind(a, "amq.topic", name, "t");
            }
            for body in ["one", "two", "three"] {
                let mut message = to_topic("t", body, 1);
                message.durable = durable;
                how(&mut rig, a, message);
                rig.tick(0);
                rig.check_replay();
                assert_eq!(rig.broker.counters().messages_ready, 4);
            }
        }
    }
}

/// What was in flight is not dropped because others took its place meanwhile; the next one makes room.
#[test]
fn what_is_released_into_a_full_queue_is_there_until_the_next_one_comes() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "jobs", short(Some(2), None, "dead"));
    rig.durable_queue(a, "dead", QueueAttributes::default());
    for body in ["one", "two"] {
        rig.send(a, "jobs", body);
    }
    let got = rig.pull(a, "jobs", 2, Lease::Connection);
    rig.send(a, "jobs", "three");
    rig.settle(a, &ids(&got), Outcome::Release);
    rig.tick(1);
    assert_eq!(held(&mut rig, a, "jobs"), 3);
    assert_eq!(held(&mut rig, a, "dead"), 0);
    rig.send(a, "jobs", "four");
    rig.check_replay();
    let bodies = |got: Vec<Delivery>| -> Vec<_> { got.iter().map(body).collect() };
    let jobs = rig.pull(a, "jobs", 10, Lease::Connection);
    assert_eq!(bodies(jobs), ["three", "four"]);
    let dead = rig.pull(a, "dead", 10, Lease::Connection);
    assert_eq!(bodies(dead), ["one", "two"]);
}

/// The counters of what became of a message that is rejected in "jobs", whose dead letters lead to queues which are full and refuse,
/// or are open: dead-lettered, lost, cut as a cycle.
fn counted(full: usize, open: usize, cycle: bool, keeps: bool) -> (u64, u64, u64) {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let dead_letter = Some(DeadLetter {
        exchange: "amq.topic".into(),
        key: Some(levels("dead")),
    });
    let jobs = QueueAttributes {
        ttl_ms: Some(50),
        dead_letter,
        keep_dead_letters: keeps,
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "jobs", jobs);
    if cycle {
        rig.bind(a, "amq.topic", "jobs", "dead");
    }
    for at in 0..full + open {
        let name = format!("dead-{at}");
        let attributes = QueueAttributes {
            length_max: (at < full).then_some(1),
            overflow: Overflow::RejectPublish,
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, &name, attributes);
        rig.bind(a, "amq.topic", &name, "dead");
        if at < full {
            rig.send(a, &name, "there before");
        }
    }
    rig.send(a, "jobs", "x");
    rig.tick(51);
    rig.check_replay();
    let counters = rig.broker.counters();
    (
        counters.dead_lettered,
        counters.dropped_dead_letter,
        counters.dropped_cycle,
    )
}

/// A queue that does not take a dead letter is counted, and a dead letter that nobody takes not once more.
#[test]
fn a_dead_letter_that_is_refused_is_counted_once_for_each_queue() {
    assert_eq!(counted(0, 1, false, false), (1, 0, 0));
    assert_eq!(counted(1, 0, false, false), (0, 1, 0));
    assert_eq!(counted(2, 0, false, false), (0, 2, 0));
    assert_eq!(counted(1, 1, false, false), (1, 1, 0));
    // Nowhere to go.
    assert_eq!(counted(0, 0, false, false), (0, 1, 0));
    // Back where it came from.
    assert_eq!(counted(0, 0, true, false), (0, 0, 1));
    assert_eq!(counted(1, 0, true, false), (0, 1, 1));
    // What is kept is not lost.
    assert_eq!(counted(1, 0, false, true), (0, 0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    /// To one queue, or to all.
    Publish {
        to: usize,
        len: usize,
        durable: bool,
        ttl: u64,
        priority: u8,
    },
    Transact {
        to: [usize; 3],
    },
    /// Time that nobody has looked at.
    Wait {
        ms: u64,
    },
    Tick,
    Consume {
        queue: usize,
        settled: bool,
    },
    Pull {
        queue: usize,
        count: u32,
        release: bool,
    },
}

const RING: [&str; 3] = ["r0", "r1", "r2"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let to = || 0..=RING.len();
    let step = prop_oneof![
        6 => (to(), 1..6usize, any::<bool>(), 0..60u64, 0..3u8).prop_map(|(to, len, durable, ttl, priority)| Step::Publish { to, len, durable, ttl, priority }),
        1 => [to(), to(), to()].prop_map(|to| Step::Transact { to }),
        2 => (1..40u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Tick),
        1 => (0..RING.len(), any::<bool>()).prop_map(|(queue, settled)| Step::Consume { queue, settled }),
        1 => (0..RING.len(), 1..6u32, any::<bool>()).prop_map(|(queue, count, release)| Step::Pull { queue, count, release }),
    ];
    prop::collection::vec(step, 1..40)
}

/// How much a queue of the ring may hold, and which priorities it knows.
fn limits() -> impl Strategy<Value = [(Option<u64>, Option<u64>, Option<u8>); 3]> {
    let limit = || {
        let some = |from| prop_oneof![1 => Just(None), 2 => (from..from + 6u64).prop_map(Some)];
        (some(1), some(5), prop_oneof![Just(None), Just(Some(2))])
    };
    [limit(), limit(), limit()]
}

/// What was published, and what was seen of it.
#[derive(Default)]
struct Seen {
    published: u64,
    /// How many queues each message came into, and how often it was shown for good.
    copies: BTreeMap<String, (usize, usize)>,
}

impl Seen {
    fn message(&mut self, to: usize, len: usize) -> Message {
        self.published += 1;
        let body = format!("{:0len$}", self.published);
        let (message, copies) = match RING.get(to) {
            Some(name) => (to_queue(name, &body), 1),
            None => (to_topic("t", &body, 1), RING.len()),
        };
        self.copies.insert(body, (copies, 0));
        message
    }

    fn shown(&mut self, bodies: Vec<String>) {
        for body in bodies {
            let (copies, shown) = self.copies.get_mut(&body).expect("it was published");
            *shown += 1;
            assert!(*shown <= *copies, "{body} was shown {shown} times");
        }
    }
}

fn held(rig: &mut Rig, from: SessionId, queue: &str) -> u64 {
    let declare = Declare::Queue {
        name: queue.to_owned().into(),
        passive: true,
        options: Box::default(),
    };
    match rig.declare(from, declare) {
        Event::Declared { messages, .. } => messages,
        other => panic!("{other:?}"),
    }
}

fn play(limits: &[(Option<u64>, Option<u64>, Option<u8>); 3], steps: &[Step]) {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for (at, (name, (length_max, bytes_max, priority_max))) in RING.iter().zip(limits).enumerate() {
        let attributes = QueueAttributes {
            priority_max: *priority_max,
            ..short(*length_max, *bytes_max, RING[(at + 1) % RING.len()])
        };
        rig.durable_queue(a, name, attributes);
        rig.bind(a, "amq.topic", name, "t");
    }
    let mut seen = Seen::default();
    // What each queue held behind the step before.
    let mut held_before = [0; RING.len()];
    for (number, step) in steps.iter().enumerate() {
        let to = rig.attach(100 + number as u64);
        match step {
            Step::Publish {
                to,
                len,
                durable,
                ttl,
                priority,
            } => {
                let mut message = seen.message(*to, *len);
                message.durable = *durable;
                message.expiry = (*ttl < 30).then(|| rig.now.plus_ms(*ttl));
                message.priority = Some(*priority);
                match durable {
                    true => drop(rig.publish(a, message)),
                    false => rig.publish_unconfirmed(a, message),
                }
            }
            Step::Transact { to } => {
                let operations = to.map(|to| publish_this(seen.message(to, 3)));
                transact(&mut rig, a, operations.into());
            }
            Step::Wait { ms } => rig.now = rig.now.plus_ms(*ms),
            Step::Tick => rig.tick(0),
            Step::Consume { queue, settled } => {
                let bodies = match settled {
                    true => settled_consumer(&mut rig, to, RING[*queue]),
                    false => {
                        rig.consume(to, 1, RING[*queue], Credit::Window(0));
                        let got = rig.deliveries(to);
                        rig.settle(to, &ids(&got), Outcome::Accept);
                        got.iter().map(body).collect()
                    }
                };
                seen.shown(bodies);
                let rest = rig.bodies(to);
                seen.shown(rest);
            }
            Step::Pull {
                queue,
                count,
                release,
            } => {
                let got = rig.pull(to, RING[*queue], *count, Lease::Connection);
                let outcome = match release {
                    true => Outcome::Release,
                    false => Outcome::Accept,
                };
                rig.settle(to, &ids(&got), outcome);
                if !release {
                    seen.shown(got.iter().map(body).collect());
                }
            }
        }
        rig.detach(to);
        rig.check_replay();
        let mut ready = 0;
        for (at, (name, (length_max, _, _))) in RING.iter().zip(limits).enumerate() {
            let held = held(&mut rig, a, name);
            ready += held;
            // What is released comes back, whatever came meanwhile: its queue holds so much until something comes into it.
            let is_released =
                matches!(step, Step::Pull { queue, release: true, .. } if *queue == at);
            if !is_released && let Some(max) = length_max {
                let most = held_before[at].max(*max);
                assert!(held <= most, "{held} in {name} behind step {number}");
            }
            held_before[at] = held;
        }
        // What is set aside is in nobody's reach.
        assert!(ready <= rig.broker.counters().messages_ready);
    }
    rig.tick(0);
    let counters = rig.broker.counters();
    let lost = counters.dropped_cycle + counters.dropped_dead_letter + counters.dropped_max_len;
    let left = counters.messages_ready;
    let shown: usize = seen.copies.values().map(|(_, shown)| shown).sum();
    let copies: usize = seen.copies.values().map(|(copies, _)| copies).sum();
    assert_eq!(
        shown as u64 + left + lost,
        copies as u64,
        "none is missing, none too many"
    );
    // What comes next makes room in a queue that something was released into.
    for name in RING {
        rig.send(a, name, "x");
    }
    for (at, (name, (length_max, bytes_max, _))) in RING.iter().zip(limits).enumerate() {
        let to = rig.attach(1_000 + at as u64);
        let held = rig.pull(to, name, 1_000, Lease::Connection);
        let held: Vec<_> = held.iter().map(body).collect();
        let bytes: usize = held.iter().map(String::len).sum();
        assert!(
            length_max.is_none_or(|max| held.len() as u64 <= max)
                && bytes_max.is_none_or(|max| bytes as u64 <= max),
            "{bytes} bytes in {name}: {held:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_rings_keep_each_message_in_one_place(limits in limits(), steps in steps()) {
        play(&limits, &steps);
    }
}
