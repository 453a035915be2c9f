//! A part of a journal is destroyed and given up: whatever lies outside of it is there, and nothing appears where it does not belong.
//!
//! The history is random: queues are made, published to, consumed from, and deleted; and of each thing it is known in which batch it lies.

use std::collections::{BTreeMap, BTreeSet};

use journal::{Loss, MemVfs, Vfs};
use node::StartError;

use super::{
    driven::{DIR, Driven},
    *,
};

/// What is destroyed at a time.
const BLOCK: usize = 4096;

/// Small numbers that look like chance and are not.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

/// Batches, first and last.
type Batches = (u64, u64);

/// A message, and what is known of it.
struct Sent {
    /// Which queue of that name it was sent to.
    life: u64,
    sent: Batches,
    settled: Option<Batches>,
}

/// A queue of some name.
struct Life {
    made: Batches,
    deleted: Option<Batches>,
}

/// What was done.
#[derive(Default)]
struct History {
    queues: BTreeMap<u64, Vec<Life>>,
    sent: BTreeMap<(u64, u64), Sent>,
    messages: u64,
}

fn name(queue: u64) -> String {
    format!("queue-{queue}")
}

/// A message that says to which queue it was sent.
fn message(queue: u64, number: u64, len: usize) -> Command {
    let Command::Publish(mut publish) = publish(&name(queue), number, len) else {
        unreachable!("it is a publish");
    };
    let message = Arc::get_mut(&mut publish.message).expect("nobody else has it");
    let mut body = message.body.to_vec();
    body.extend(queue.to_le_bytes());
    message.body = body.into();
    publish.create = false;
    Command::Publish(publish)
}

fn queue_of(body: &Bytes) -> u64 {
    let end = body[body.len() - 8..].try_into().expect("eight bytes");
    u64::from_le_bytes(end)
}

fn declare(queue: u64) -> Command {
    Command::Declare {
        token: Token(0),
        lane: Lane(0),
        declare: Declare::Queue {
            name: name(queue).into(),
            passive: false,
            options: Box::new(session::QueueOptions {
                durable: true,
                ..session::QueueOptions::default()
            }),
        },
    }
}

fn delete(queue: u64) -> Command {
    Command::Declare {
        token: Token(0),
        lane: Lane(0),
        declare: Declare::DeleteQueue {
            name: name(queue).into(),
            if_empty: false,
            if_unused: false,
        },
    }
}

fn consumes(queue: u64, credit: Credit) -> Command {
    let Command::Subscribe(mut subscribe) = consume(&name(queue), credit) else {
        unreachable!("it is a subscribe");
    };
    let Source::Queue { create, .. } = &mut subscribe.source else {
        unreachable!("of a queue");
    };
    *create = false;
    Command::Subscribe(subscribe)
}

fn settle(delivery: &session::Delivery) -> Command {
    let id = delivery.id.expect("to be settled");
    Command::Settle(Settle {
        token: Some(Token(0)),
        lane: Lane(1),
        deliveries: DeliveryRange {
            queue: id.queue,
            ranges: [(id.qseq, id.qseq)].into_iter().collect(),
        },
        outcome: Outcome::Accept,
    })
}

impl History {
    /// Asks for something, and says in which batches that lies.
    fn done(driven: &mut Driven, command: Command) -> (Event, Batches) {
        let before = driven.committed;
        let event = driven.ask(command);
        (event, (before + 1, driven.committed))
    }

    fn turn(&mut self, driven: &mut Driven, dice: &mut Dice) {
        let queue = dice.below(6);
        let lives = self.queues.entry(queue).or_default();
        let is_there = lives.last().is_some_and(|life| life.deleted.is_none());
        if !is_there {
            let (event, made) = Self::done(driven, declare(queue));
            assert!(matches!(event, Event::Declared { .. }), "{event:?}");
            let deleted = None;
            lives.push(Life { made, deleted });
            return;
        }
        let life = lives.len() as u64 - 1;
        match dice.below(30) {
            0 => {
                let (event, deleted) = Self::done(driven, delete(queue));
                assert!(matches!(event, Event::Declared { .. }), "{event:?}");
                lives.last_mut().expect("it is there").deleted = Some(deleted);
            }
            1..=8 => {
                driven.connect();
                driven.submit([consumes(queue, Credit::Window(1))]);
                let events = driven.events();
                let delivery = events.iter().find_map(|event| match event {
                    Event::Delivery(delivery) => Some(delivery),
                    _ => None,
                });
                if let Some(delivery) = delivery {
                    let number = number_of(&delivery.message.body);
                    let before = driven.committed;
                    driven.submit([settle(delivery)]);
                    driven.events();
                    let sent = self.sent.get_mut(&(queue, number)).expect("it was sent");
                    sent.settled = Some((before + 1, driven.committed));
                }
                driven.connect();
                driven.events();
            }
            _ => {
                let len = [10, 200, 3000, 9000][dice.below(4) as usize];
                let number = self.messages;
                self.messages += 1;
                let (event, sent) = Self::done(driven, message(queue, number, len));
                assert!(
                    matches!(
                        event,
                        Event::Published {
                            outcome: PublishOutcome::Accepted { matched: 1, .. },
                            ..
                        }
                    ),
                    "{event:?}"
                );
                let sent = Sent {
                    life,
                    sent,
                    settled: None,
                };
                self.sent.insert((queue, number), sent);
            }
        }
    }

    /// What may be in a queue, and what must.
    fn expected(&self, queue: u64, lost: &[Batches]) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let is_whole =
            |(first, last): Batches| { lost.iter() }.all(|(from, to)| last < *from || first > *to);
        let lives = self.queues.get(&queue).map_or(&[][..], Vec::as_slice);
        let (mut may, mut must) = (BTreeSet::new(), BTreeSet::new());
        for (&(_, number), sent) in self.sent.range((queue, 0)..=(queue, u64::MAX)) {
            let life = &lives[sent.life as usize];
            // What only made it go is lost: it may be back. A later queue of that name says that this one had gone.
            let later = &lives[sent.life as usize + 1..];
            let is_gone = life.deleted.is_some_and(is_whole)
                || later.iter().any(|later| is_whole(later.made))
                || sent.settled.is_some_and(is_whole);
            if is_gone || !is_whole(sent.sent) {
                continue;
            }
            may.insert(number);
            if life.deleted.is_none() && sent.settled.is_none() && is_whole(life.made) {
                must.insert(number);
            }
        }
        (may, must)
    }
}

/// Everything that is in a queue, and stays there.
fn shown(driven: &mut Driven, queue: u64) -> BTreeSet<u64> {
    driven.connect();
    driven.submit([consumes(queue, Credit::Window(10_000))]);
    let mut numbers = BTreeSet::new();
    for event in driven.events() {
        match event {
            Event::Delivery(delivery) => {
                let body = &delivery.message.body;
                assert_eq!(queue_of(body), queue, "it belongs elsewhere");
                assert!(numbers.insert(number_of(body)), "twice");
            }
            Event::Subscribed { .. } | Event::Refused { .. } => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    driven.connect();
    driven.events();
    numbers
}

fn check(driven: &mut Driven, history: &History, lost: &[Batches], what: &str) {
    for queue in 0..6 {
        let there = shown(driven, queue);
        let (may, must) = history.expected(queue, lost);
        let missing: Vec<_> = must.difference(&there).collect();
        let extra: Vec<_> = there.difference(&may).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{what}, queue {queue}: {missing:?} are missing, {extra:?} should not be there; lost is {lost:?}"
        );
    }
}

/// Segments in the order in which they were written, but for the one that is written.
fn sealed(disk: &MemVfs) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("seg");
    let mut names = disk.list(&dir).expect("it is there");
    names.sort_by_key(|name| {
        let mut parts = name.split('-').map(|part| part.parse::<u64>().unwrap_or(0));
        (parts.next(), parts.next())
    });
    // The last ones are the one that is written, and one that is ready.
    names.truncate(names.len().saturating_sub(2));
    names.into_iter().map(|name| dir.join(name)).collect()
}

fn config() -> Config {
    let mut config = Driven::config();
    config.journal.segment_len = 64 << 10;
    config.journal.first_segment_len = 64 << 10;
    config.journal.batch_len_max = 16 << 10;
    config.journal.reserve_len = 0;
    config.journal.segments_ahead = 1;
    config
}

/// Destroys some blocks in the middle of a segment.
fn destroy(disk: &MemVfs, dice: &mut Dice) {
    let paths = sealed(disk);
    let path = &paths[dice.below(paths.len() as u64) as usize];
    let blocks = 2 + dice.below(4) as usize;
    let first = 2 + dice.below(9) as usize;
    for at in (first * BLOCK..(first + blocks) * BLOCK).step_by(64) {
        disk.flip(path, at + dice.below(64) as usize);
    }
}

/// A record that has its checksum and fits nothing.
fn put_what_does_not_fit(disk: &MemVfs) {
    let vfs = Arc::new(disk.clone());
    let opened = journal::open_stepped(
        vfs,
        Path::new(DIR),
        config().journal,
        1_600_000_002_000,
        [9; 16],
    );
    let (opened, mut engine) = opened.expect("it opens");
    let record = [31, 1, 1, 1, 1, b'x', 1, 2, 1, 70, 0];
    opened.journal.stage().push(3, &record, None);
    assert!(matches!(engine.step(), journal::Step::Committed(_)));
    opened.journal.shutdown();
}

#[test]
fn what_lies_outside_of_a_part_that_is_given_up_is_there_and_nothing_is_anothers() {
    let seeds = std::env::var("BASCULE_SEEDS").ok();
    let rounds = seeds.and_then(|text| text.parse().ok()).unwrap_or(60);
    let mut lost_some = 0_u64;
    for seed in 0..rounds {
        let what = format!("seed {seed}");
        let disk = MemVfs::new(false);
        let mut dice = Dice(seed * 2 + 1);
        let mut history = History::default();
        let mut driven = Driven::start(disk.clone(), &config()).expect("it starts");
        for _ in 0..120 {
            history.turn(&mut driven, &mut dice);
            while driven.steps.prepare() {}
        }
        check(&mut driven, &history, &[], &what);
        drop(driven);
        destroy(&disk, &mut dice);

        let refused = Driven::start(disk.clone(), &config()).err();
        let refused = refused.unwrap_or_else(|| panic!("{what}: it starts"));
        assert!(refused.to_string().contains("damaged"), "{what}: {refused}");
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let dir = Path::new(DIR);
        let seen = journal::assess(vfs, dir, config().journal, [8; 16]).expect("assessed");
        let lost: Vec<Batches> = seen.damage.iter().filter_map(Loss::batches).collect();
        lost_some += u64::from(!lost.is_empty());
        drop(seen);

        let mut accepting = config();
        accepting.journal.accept_loss = true;
        let mut driven = Driven::start(disk.clone(), &accepting)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        check(&mut driven, &history, &lost, &what);
        drop(driven);

        // Later starts do without the word, with a snapshot or none, and what comes then is whole.
        let mut again = Driven::start(disk.clone(), &config())
            .unwrap_or_else(|error| panic!("{what}, again: {error}"));
        check(&mut again, &history, &lost, &format!("{what}, again"));
        if seed % 2 == 0 {
            drop(again);
            let mut often = config();
            often.journal.snapshot_every_bytes = 1;
            again = Driven::start(disk.clone(), &often).expect("it starts");
            again.steps.keep_house();
        }
        drop(again);
        put_what_does_not_fit(&disk);
        let refused = Driven::start(disk, &config()).err();
        assert!(
            matches!(refused, Some(StartError::Unfit { .. })),
            "{what}: a later change that does not fit is a fault again: {refused:?}"
        );
    }
    assert!(lost_some > rounds / 2, "{lost_some}");
}
