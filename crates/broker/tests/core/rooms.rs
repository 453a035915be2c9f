//! Outboxes that fill and drain, of connections with more consumers than are looked at in one go: nothing that somebody has room for
//! stays, and who has none takes nothing from others.

use std::collections::{BTreeMap, BTreeSet};

use broker::Config;
use proptest::prelude::*;
use session::{Command, ConsumerId, Credit, Declare, Event, Lane, QueueAttributes, SessionId};

use crate::rig::{Rig, body};

/// Bytes that an outbox may hold, and what each delivery of these tests takes of it.
const ROOM: u64 = 1000;
const EACH: u64 = 100;

fn rig() -> Rig {
    let mut rig = Rig::with(Config {
        outbox_bytes_max: ROOM,
        ..Config::default()
    });
    rig.drains = false;
    rig
}

/// A message takes its length and 64 bytes.
fn text(number: usize) -> String {
    format!("{number:0>36}")
}

/// What came for a connection, which has drained all of it.
fn drain(rig: &mut Rig, from: SessionId) -> Vec<usize> {
    let got = rig.deliveries(from);
    rig.broker.returned_room(from, EACH * got.len() as u64);
    rig.pump();
    let number = |body: String| body.parse().expect("a number");
    got.iter().map(body).map(number).collect()
}

fn queue_name(number: usize) -> String {
    format!("q{number}")
}

#[test]
fn a_connection_of_many_consumers_gets_all_of_them_piece_by_piece() {
    let mut rig = rig();
    let (a, b) = (rig.attach(1), rig.attach(2));
    const QUEUES: usize = 200;
    for number in 0..QUEUES {
        rig.durable_queue(a, &queue_name(number), QueueAttributes::default());
        rig.consume(b, number as u64, &queue_name(number), Credit::Window(0));
    }
    for round in 0..3 {
        for number in 0..QUEUES {
            rig.send(a, &queue_name(number), &text(round * QUEUES + number));
        }
    }
    let mut seen = Vec::new();
    loop {
        let got = drain(&mut rig, b);
        assert!(got.len() as u64 <= ROOM / EACH);
        if got.is_empty() {
            break;
        }
        seen.extend(got);
    }
    assert_eq!(seen.len(), 3 * QUEUES);
    for number in 0..QUEUES {
        let of_queue = seen.iter().filter(|it| *it % QUEUES == number);
        assert!(of_queue.is_sorted(), "{number}");
    }
}

#[test]
fn consumers_without_room_do_not_keep_a_queue_from_one_that_has() {
    let mut rig = rig();
    let (a, full, able) = (rig.attach(1), rig.attach(2), rig.attach(3));
    rig.durable_queue(a, "filled", QueueAttributes::default());
    rig.durable_queue(a, "shared", QueueAttributes::default());
    for number in 0..300 {
        rig.consume(full, number, "shared", Credit::Window(0));
    }
    rig.consume(full, 300, "filled", Credit::Window(0));
    rig.consume(able, 1, "shared", Credit::Window(0));
    for number in 0..10 {
        rig.send(a, "filled", &text(number));
    }
    for number in 10..15 {
        rig.send(a, "shared", &text(number));
    }
    assert_eq!(drain(&mut rig, able), [10, 11, 12, 13, 14]);
    for number in 15..30 {
        rig.send(a, "shared", &text(number));
    }
    let first: Vec<_> = (15..25).collect();
    assert_eq!(drain(&mut rig, able), first);
    assert_eq!(drain(&mut rig, able), [25, 26, 27, 28, 29]);
    let filled: Vec<_> = (0..10).collect();
    assert_eq!(drain(&mut rig, full), filled);
    // Each of them has its turn again.
    for number in 30..39 {
        rig.send(a, "shared", &text(number));
    }
    let (left, right) = (drain(&mut rig, full), drain(&mut rig, able));
    assert_eq!(left.len() + right.len(), 9);
    assert!(left.len() >= 8, "{left:?} {right:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Publish { queue: usize, count: usize },
    Drain { of: usize },
    Subscribe { of: usize, queue: usize, count: u64 },
    Cancel { of: usize, share: u64 },
    Replace { of: usize },
}

const QUEUES: usize = 6;
const CONNECTIONS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let of = || 0..CONNECTIONS;
    let queue = || 0..QUEUES;
    let step = prop_oneof![
        6 => (queue(), 1..15usize).prop_map(|(queue, count)| Step::Publish { queue, count }),
        4 => of().prop_map(|of| Step::Drain { of }),
        3 => (of(), queue(), 1..90u64).prop_map(|(of, queue, count)| Step::Subscribe { of, queue, count }),
        1 => (of(), 1..4u64).prop_map(|(of, share)| Step::Cancel { of, share }),
        1 => of().prop_map(|of| Step::Replace { of }),
    ];
    prop::collection::vec(step, 1..60)
}

struct Connection {
    session: SessionId,
    consumers: BTreeMap<u64, usize>,
    used: u64,
}

impl Connection {
    fn new(session: SessionId) -> Self {
        Self {
            session,
            consumers: BTreeMap::new(),
            used: 0,
        }
    }
}

/// How many messages wait in a queue.
fn waits(rig: &mut Rig, from: SessionId, queue: usize) -> u64 {
    let declare = Declare::Queue {
        name: queue_name(queue).into(),
        passive: true,
        options: Box::default(),
    };
    match rig.declare(from, declare) {
        Event::Declared { messages, .. } => messages,
        other => panic!("{other:?}"),
    }
}

fn play(steps: &[Step]) {
    let mut rig = rig();
    let a = rig.attach(1);
    for number in 0..QUEUES {
        rig.durable_queue(a, &queue_name(number), QueueAttributes::default());
    }
    let mut next_session = 2;
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| {
            next_session += 1;
            Connection::new(rig.attach(next_session))
        })
        .collect();
    let (mut published, mut next_consumer) = (0, 0);
    let mut seen = BTreeSet::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Publish { queue, count } => {
                for _ in 0..*count {
                    rig.send(a, &queue_name(*queue), &text(published));
                    published += 1;
                }
            }
            Step::Drain { of } => {
                let it = &mut connections[*of];
                rig.broker.returned_room(it.session, it.used);
                it.used = 0;
                rig.pump();
            }
            Step::Subscribe { of, queue, count } => {
                for _ in 0..*count {
                    next_consumer += 1;
                    let session = connections[*of].session;
                    let name = queue_name(*queue);
                    rig.consume(session, next_consumer, &name, Credit::Settled);
                    connections[*of].consumers.insert(next_consumer, *queue);
                }
            }
            Step::Cancel { of, share } => {
                let it = &mut connections[*of];
                let gone = it.consumers.extract_if(.., |id, _| id % share == 0);
                for (id, _) in gone.collect::<Vec<_>>() {
                    let token = rig.token();
                    let cancel = Command::Cancel {
                        token,
                        lane: Lane(0),
                        consumer: ConsumerId(id),
                    };
                    rig.command(it.session, cancel);
                }
            }
            Step::Replace { of } => {
                rig.detach(connections[*of].session);
                next_session += 1;
                connections[*of] = Connection::new(rig.attach(next_session));
            }
        }
        for it in &mut connections {
            let got = rig.deliveries(it.session);
            it.used += EACH * got.len() as u64;
            assert!(it.used < ROOM + EACH, "{} bytes in an outbox", it.used);
            for delivery in &got {
                assert!(seen.insert(body(delivery)), "twice, behind step {at}");
            }
        }
        for queue in 0..QUEUES {
            let able = |it: &Connection| {
                it.used < ROOM && it.consumers.values().any(|reads| *reads == queue)
            };
            let waits = waits(&mut rig, a, queue);
            assert!(
                waits == 0 || !connections.iter().any(able),
                "{waits} in {queue} behind step {at}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_random_times_nothing_waits_that_somebody_has_room_for(steps in steps()) {
        play(&steps);
    }
}
