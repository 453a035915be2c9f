//! What holds up several consumers of a connection, an outbox that fills and drains and windows in common: nothing that somebody may
//! receive stays, who is held up takes nothing from others, and all have their turns.

use std::collections::{BTreeMap, BTreeSet};

use broker::Config;
use proptest::prelude::*;
use session::{
    Command, ConsumerId, Credit, Declare, Delivery, DeliveryId, Event, Fifo, Lane, Outcome,
    QueueAttributes, SessionId, Subscribe,
};

use crate::rig::{Rig, body, ids, to_queue};

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

#[test]
fn a_connection_goes_while_those_that_waited_are_looked_at_again() {
    let mut rig = rig();
    let (a, b) = (rig.attach(1), rig.attach(2));
    for number in 0..200 {
        let name = queue_name(number as usize);
        rig.durable_queue(a, &name, QueueAttributes::default());
        rig.consume(b, number, &name, Credit::Settled);
        rig.send(a, &name, &text(number as usize));
    }
    assert_eq!(rig.deliveries(b).len() as u64, ROOM / EACH);
    rig.broker.returned_room(b, ROOM);
    rig.detach(b);
    let b = rig.attach(2);
    rig.consume(b, 1, &queue_name(199), Credit::Settled);
    assert_eq!(drain(&mut rig, b), [199]);
}

/// Messages for two queues, of each as many as that.
fn backlog(rig: &mut Rig, from: SessionId, each: usize) {
    for number in 0..each {
        rig.send(from, "a", &text(number));
        rig.send(from, "b", &text(each + number));
    }
}

#[test]
fn who_fills_an_outbox_has_its_next_turn_behind_those_that_wait_for_room() {
    let mut rig = rig();
    let (a, b) = (rig.attach(1), rig.attach(2));
    for name in ["a", "b"] {
        rig.durable_queue(a, name, QueueAttributes::default());
    }
    const EACH_QUEUE: usize = 45;
    rig.consume(b, 1, "a", Credit::Settled);
    rig.consume(b, 2, "b", Credit::Settled);
    backlog(&mut rig, a, EACH_QUEUE);
    // Before the outbox was full for the first time they came in turn.
    assert_eq!(drain(&mut rig, b).len(), 10);
    let whole = (0..8).map(|_| {
        let got = drain(&mut rig, b);
        let of_b = got.iter().filter(|it| **it >= EACH_QUEUE).count();
        (got.len() - of_b, of_b)
    });
    let whole: Vec<_> = whole.collect();
    assert!(
        whole
            .chunks(2)
            .all(|two| two == [(0, 10), (10, 0)] || two == [(10, 0), (0, 10)]),
        "{whole:?}"
    );
}

#[test]
fn who_fills_a_window_in_common_has_its_next_turn_behind_those_that_wait_for_it() {
    let mut rig = rig();
    let (a, b) = (rig.attach(1), rig.attach(2));
    let window = Command::GroupWindow {
        group: 1,
        window: 1,
    };
    rig.command(b, window);
    const QUEUES: usize = 100;
    for number in 0..QUEUES {
        let name = queue_name(number);
        rig.durable_queue(a, &name, QueueAttributes::default());
        for _ in 0..3 {
            rig.send(a, &name, &text(number));
        }
        let consumer = rig.consumer(number as u64, &name, Credit::Window(0));
        rig.subscribe(
            b,
            Subscribe {
                group: 1,
                ..consumer
            },
        );
    }
    let mut seen = Vec::new();
    for _ in 0..3 * QUEUES {
        let got = rig.deliveries(b);
        assert_eq!(got.len(), 1, "behind {}", seen.len());
        seen.push(body(&got[0]).parse::<usize>().expect("a number"));
        rig.broker.returned_room(b, EACH);
        rig.settle(b, &ids(&got), Outcome::Accept);
    }
    // Behind the first, which came when nobody else was there.
    for round in seen[1..].chunks_exact(QUEUES) {
        let queues: BTreeSet<_> = round.iter().collect();
        assert_eq!(queues.len(), QUEUES, "each has its turn: {round:?}");
    }
    assert!(rig.deliveries(b).is_empty());
}

#[test]
fn of_those_that_wait_for_a_window_in_common_who_has_the_highest_priority_in_its_queue_is_first() {
    let mut rig = rig();
    let (a, b) = (rig.attach(1), rig.attach(2));
    for name in ["a", "b"] {
        rig.durable_queue(a, name, QueueAttributes::default());
    }
    let window = |window| Command::GroupWindow { group: 1, window };
    rig.command(b, window(1));
    for (number, queue, priority) in [(1, "a", 0), (2, "b", 0), (3, "a", 1), (4, "a", 1)] {
        let consumer = rig.consumer(number, queue, Credit::Window(0));
        rig.subscribe(
            b,
            Subscribe {
                group: 1,
                priority,
                ..consumer
            },
        );
    }
    const EACH_QUEUE: usize = 30;
    backlog(&mut rig, a, EACH_QUEUE);
    let mut to = BTreeMap::new();
    for _ in 0..EACH_QUEUE {
        let got = rig.deliveries(b);
        assert_eq!(got.len(), 1);
        *to.entry(got[0].consumer.0).or_insert(0) += 1;
        rig.broker.returned_room(b, EACH);
        rig.settle(b, &ids(&got), Outcome::Accept);
    }
    // Who is outranked in its own queue takes nothing, and keeps nobody in the other from having a turn.
    assert!(!to.contains_key(&1), "{to:?}");
    assert!((2..=4).all(|it| to[&it] >= 7), "{to:?}");
    // When those in front of it go, it has what is left.
    for consumer in [3, 4] {
        let token = rig.token();
        let cancel = Command::Cancel {
            token,
            lane: Lane(0),
            consumer: ConsumerId(consumer),
        };
        rig.command(b, cancel);
    }
    rig.command(b, window(0));
    let left = drain(&mut rig, b);
    assert!(left.iter().any(|it| *it < EACH_QUEUE), "{left:?}");
}

#[test]
fn who_owns_a_group_is_told_of_room_however_many_others_there_are() {
    let mut rig = rig();
    let (a, full, able) = (rig.attach(1), rig.attach(2), rig.attach(3));
    rig.durable_queue(a, "f", fifo());
    rig.durable_queue(a, "filled", QueueAttributes::default());
    let send = |rig: &mut Rig, number: usize| {
        let mut message = to_queue("f", &text(number));
        message.group = Some("g".into());
        rig.publish_unconfirmed(a, message);
    };
    rig.consume(full, 1, "f", Credit::Window(10));
    for number in 2..100 {
        rig.consume(full, number, "filled", Credit::Settled);
    }
    send(&mut rig, 0);
    assert_eq!(drain(&mut rig, full), [0]);
    for number in 0..100 {
        rig.consume(able, number, "f", Credit::Window(10));
    }
    // Who receives is behind all others.
    send(&mut rig, 12);
    assert_eq!(drain(&mut rig, full), [12]);
    for number in 1..=10 {
        rig.send(a, "filled", &text(number));
    }
    // All of its group goes to who has not settled the first.
    send(&mut rig, 11);
    assert!(rig.deliveries(able).is_empty());
    let filled: Vec<_> = (1..=10).collect();
    assert_eq!(drain(&mut rig, full), filled);
    assert_eq!(drain(&mut rig, full), [11]);
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        queue: usize,
        count: usize,
    },
    Drain {
        of: usize,
    },
    Subscribe {
        of: usize,
        queue: usize,
        count: u64,
        credit: Credit,
        group: u32,
    },
    Settle {
        of: usize,
        count: usize,
    },
    Window {
        of: usize,
        window: u32,
    },
    Flow {
        of: usize,
        active: bool,
    },
    /// To those that have so many deliveries to come.
    Credit {
        of: usize,
        share: u64,
        credit: u32,
    },
    Cancel {
        of: usize,
        share: u64,
    },
    Delete {
        queue: usize,
    },
    Replace {
        of: usize,
        drained: bool,
    },
}

const QUEUES: usize = 7;
/// One of them has a single active consumer, one is FIFO.
const SINGLE: usize = QUEUES - 2;
const FIFO: usize = QUEUES - 1;
/// Groups in it, and how many of one may be out at once.
const GROUPS: usize = 4;
const GROUP_MAX: usize = 10;
const CONNECTIONS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let of = || 0..CONNECTIONS;
    let queue = || 0..QUEUES;
    let credit = prop_oneof![
        Just(Credit::Settled),
        (0..5u32).prop_map(Credit::Window),
        (0..5u32).prop_map(Credit::Exactly),
    ];
    let step = prop_oneof![
        12 => (queue(), 1..15usize).prop_map(|(queue, count)| Step::Publish { queue, count }),
        8 => of().prop_map(|of| Step::Drain { of }),
        6 => (of(), queue(), 1..90u64, credit, 0..2u32)
            .prop_map(|(of, queue, count, credit, group)| Step::Subscribe { of, queue, count, credit, group }),
        8 => (of(), 1..30usize).prop_map(|(of, count)| Step::Settle { of, count }),
        2 => (of(), 0..6u32).prop_map(|(of, window)| Step::Window { of, window }),
        2 => (of(), any::<bool>()).prop_map(|(of, active)| Step::Flow { of, active }),
        4 => (of(), 1..4u64, 0..20u32).prop_map(|(of, share, credit)| Step::Credit { of, share, credit }),
        2 => (of(), 1..4u64).prop_map(|(of, share)| Step::Cancel { of, share }),
        1 => queue().prop_map(|queue| Step::Delete { queue }),
        1 => (of(), any::<bool>()).prop_map(|(of, drained)| Step::Replace { of, drained }),
    ];
    prop::collection::vec(step, 1..60)
}

struct Consumer {
    queue: usize,
    credit: Credit,
    group: u32,
}

/// What was delivered and not settled.
struct Unsettled {
    id: DeliveryId,
    queue: usize,
    consumer: u64,
    group: u32,
    body: String,
}

struct Connection {
    session: SessionId,
    /// In the order in which they came, over all connections.
    consumers: BTreeMap<u64, Consumer>,
    /// All that there ever were.
    ever: BTreeMap<u64, (usize, u32)>,
    unsettled: Vec<Unsettled>,
    /// The window of the group that there is, and whether it flows.
    window: u32,
    active: bool,
    used: u64,
}

impl Connection {
    fn new(session: SessionId) -> Self {
        Self {
            session,
            consumers: BTreeMap::new(),
            ever: BTreeMap::new(),
            unsettled: Vec::new(),
            window: 0,
            active: true,
            used: 0,
        }
    }

    /// What came for it.
    fn take(&mut self, got: &[Delivery]) {
        self.used += EACH * got.len() as u64;
        assert!(self.used < ROOM + EACH, "{} bytes in an outbox", self.used);
        for delivery in got {
            let (queue, group) = self.ever[&delivery.consumer.0];
            let consumer = self.consumers.get_mut(&delivery.consumer.0);
            if let Some(Credit::Exactly(left)) = consumer.map(|it| &mut it.credit) {
                assert_ne!(*left, 0, "more than a consumer asked for");
                *left -= 1;
            }
            if let Some(id) = delivery.id {
                self.unsettled.push(Unsettled {
                    id,
                    queue,
                    consumer: delivery.consumer.0,
                    group,
                    body: body(delivery),
                });
            }
        }
    }

    /// Whether one of its consumers may receive.
    fn may_receive(&self, id: u64) -> bool {
        let consumer = &self.consumers[&id];
        let out = self.unsettled.iter().filter(|it| it.consumer == id).count() as u32;
        let open = match consumer.credit {
            Credit::Window(window) => window == 0 || out < window,
            Credit::Exactly(left) => left > 0,
            Credit::Settled => true,
        };
        let shared = self.unsettled.iter().filter(|it| it.group == 1).count() as u32;
        let counts = consumer.credit != Credit::Settled && self.window != 0;
        let of_group = self.active && (!counts || shared < self.window);
        self.used < ROOM && open && (consumer.group == 0 || of_group)
    }
}

/// The group of a message in the FIFO queue.
fn group_of(body: &str) -> usize {
    body.parse::<usize>().expect("a number") % GROUPS
}

/// Who has something of a group of the FIFO queue that is not settled, and how much.
fn owner_of(connections: &[Connection], group: usize) -> Option<((usize, u64), usize)> {
    let all = connections.iter().enumerate();
    let unsettled = all.flat_map(|(at, it)| it.unsettled.iter().map(move |it| (at, it)));
    let mut of_group = unsettled
        .filter(|(_, it)| it.queue == FIFO && group_of(&it.body) == group)
        .map(|(at, it)| (at, it.consumer));
    let owner = of_group.next()?;
    assert!(of_group.all(|it| it == owner), "two have group {group}");
    let count = |(at, consumer): (usize, u64)| {
        let own = connections[at].unsettled.iter();
        own.filter(|it| it.consumer == consumer && it.queue == FIFO && group_of(&it.body) == group)
            .count()
    };
    Some((owner, count(owner)))
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

fn fifo() -> QueueAttributes {
    QueueAttributes {
        fifo: Some(Fifo {
            dedup_by_content: true,
            dedup_per_group: false,
        }),
        ..QueueAttributes::default()
    }
}

fn make(rig: &mut Rig, from: SessionId, queue: usize) {
    let attributes = match queue {
        FIFO => fifo(),
        _ => QueueAttributes {
            single_active_consumer: queue == SINGLE,
            ..QueueAttributes::default()
        },
    };
    rig.durable_queue(from, &queue_name(queue), attributes);
}

/// The consumers that messages of a queue may go to.
fn readers(connections: &[Connection], queue: usize) -> Vec<(usize, u64)> {
    let all = connections.iter().enumerate();
    let all = all.flat_map(|(at, it)| it.consumers.iter().map(move |(id, it)| (at, *id, it.queue)));
    let mut of_queue: Vec<_> = all
        .filter(|(_, _, reads)| *reads == queue)
        .map(|(at, id, _)| (at, id))
        .collect();
    if queue == SINGLE {
        of_queue.sort_unstable_by_key(|(_, id)| *id);
        of_queue.truncate(1);
    }
    of_queue
}

fn play(steps: &[Step]) {
    let mut rig = rig();
    let a = rig.attach(1);
    (0..QUEUES).for_each(|queue| make(&mut rig, a, queue));
    let mut next_session = 2;
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| {
            next_session += 1;
            Connection::new(rig.attach(next_session))
        })
        .collect();
    let (mut published, mut next_consumer) = (0, 0);
    let mut seen = BTreeSet::new();
    // What is ready in the FIFO queue, as text sorts as its number does.
    let mut ready: BTreeSet<String> = BTreeSet::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Publish { queue, count } => {
                for _ in 0..*count {
                    let body = text(published);
                    let mut message = to_queue(&queue_name(*queue), &body);
                    if *queue == FIFO {
                        message.group = Some(format!("g{}", group_of(&body)).into());
                        ready.insert(body);
                    }
                    rig.publish_unconfirmed(a, message);
                    published += 1;
                }
            }
            Step::Drain { of } => {
                let it = &mut connections[*of];
                rig.broker.returned_room(it.session, it.used);
                it.used = 0;
                rig.pump();
            }
            Step::Subscribe {
                of,
                queue,
                count,
                credit,
                group,
            } => {
                for _ in 0..*count {
                    next_consumer += 1;
                    let consumer = rig.consumer(next_consumer, &queue_name(*queue), *credit);
                    let it = &mut connections[*of];
                    it.ever.insert(next_consumer, (*queue, *group));
                    it.consumers.insert(
                        next_consumer,
                        Consumer {
                            queue: *queue,
                            credit: *credit,
                            group: *group,
                        },
                    );
                    rig.subscribe(
                        it.session,
                        Subscribe {
                            group: *group,
                            ..consumer
                        },
                    );
                }
            }
            Step::Settle { of, count } => {
                let it = &mut connections[*of];
                let settled = it.unsettled.drain(..it.unsettled.len().min(*count));
                let settled: Vec<_> = settled.map(|it| it.id).collect();
                rig.settle(it.session, &settled, Outcome::Accept);
            }
            Step::Window { of, window } => {
                let it = &mut connections[*of];
                it.window = *window;
                let (group, window) = (1, *window);
                rig.command(it.session, Command::GroupWindow { group, window });
            }
            Step::Flow { of, active } => {
                let it = &mut connections[*of];
                it.active = *active;
                let (group, active) = (1, *active);
                rig.command(it.session, Command::GroupFlow { group, active });
            }
            Step::Credit { of, share, credit } => {
                let it = &mut connections[*of];
                let credit = Credit::Exactly(*credit);
                for (id, consumer) in &mut it.consumers {
                    if id % share == 0 && matches!(consumer.credit, Credit::Exactly(_)) {
                        consumer.credit = credit;
                        let consumer = ConsumerId(*id);
                        rig.command(it.session, Command::Credit { consumer, credit });
                    }
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
            Step::Delete { queue } => {
                let delete = Declare::DeleteQueue {
                    name: queue_name(*queue).into(),
                    if_unused: false,
                    if_empty: false,
                };
                rig.declare(a, delete);
                make(&mut rig, a, *queue);
                if *queue == FIFO {
                    ready.clear();
                }
                for it in &mut connections {
                    it.unsettled.retain(|it| it.queue != *queue);
                    it.consumers.retain(|_, consumer| consumer.queue != *queue);
                }
            }
            Step::Replace { of, drained } => {
                if *drained {
                    let it = &connections[*of];
                    rig.broker.returned_room(it.session, it.used);
                }
                rig.detach(connections[*of].session);
                next_session += 1;
                let gone = Connection::new(rig.attach(next_session));
                let gone = std::mem::replace(&mut connections[*of], gone);
                for it in gone.unsettled {
                    seen.remove(&it.body);
                    if it.queue == FIFO {
                        ready.insert(it.body);
                    }
                }
            }
        }
        let mut of_fifo = BTreeSet::new();
        for it in &mut connections {
            let got = rig.deliveries(it.session);
            it.take(&got);
            let mut last = [const { String::new() }; GROUPS];
            for delivery in &got {
                let body = body(delivery);
                if it.ever[&delivery.consumer.0].0 == FIFO {
                    let last = &mut last[group_of(&body)];
                    assert!(*last < body, "{body} behind {last}, behind step {at}");
                    last.clone_from(&body);
                    of_fifo.insert(body.clone());
                }
                assert!(seen.insert(body), "twice, behind step {at}");
            }
        }
        for group in 0..GROUPS {
            let of_group = |all: &BTreeSet<String>| -> Vec<String> {
                let of_group = all.iter().filter(|it| group_of(it) == group);
                of_group.cloned().collect()
            };
            let got = of_group(&of_fifo);
            let first = &of_group(&ready)[..got.len()];
            assert_eq!(first, got, "the first of group {group}, behind step {at}");
            got.iter().for_each(|it| assert!(ready.remove(it)));
        }
        for group in 0..GROUPS {
            let owner = owner_of(&connections, group);
            if !ready.iter().any(|it| group_of(it) == group) {
                continue;
            }
            let readers = readers(&connections, FIFO);
            let able = readers.iter().find(|(at, id)| {
                let gets = owner.is_none_or(|(owner, has)| owner == (*at, *id) && has < GROUP_MAX);
                gets && connections[*at].may_receive(*id)
            });
            assert_eq!(
                able, None,
                "group {group} waits behind step {at}, {owner:?}"
            );
        }
        for queue in 0..FIFO {
            let waits = waits(&mut rig, a, queue);
            let readers = readers(&connections, queue);
            let able = readers
                .iter()
                .find(|(at, id)| connections[*at].may_receive(*id));
            assert!(
                waits == 0 || able.is_none(),
                "{waits} in {queue} behind step {at}, for {able:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_random_times_nothing_waits_that_somebody_may_receive(steps in steps()) {
        play(&steps);
    }
}
