//! Streams that keep much: their records lie in stream files (RULES 14, 25), and are read as if they did not.

use std::os::unix::fs::FileExt;

use message::Timestamp;
use session::CloseReason;

use super::*;

const LEN: usize = 4 << 10;

fn config(dir: &Path) -> Config {
    let mut config = small(dir);
    config.journal.cache_bytes_max = 256 << 10;
    config.journal.snapshot_every_bytes = 2 << 20;
    config.broker.recent_bytes_max = 0;
    config.stream_file_bytes = 1 << 20;
    config
}

fn stream(name: &str, to: StreamTo) -> Command {
    Command::Stream {
        token: Token(1_000_000),
        lane: Lane(0),
        name: Bytes::copy_from_slice(name.as_bytes()),
        to: Box::new(to),
    }
}

fn make(user: &mut User, name: &str, shards: u32) {
    let to = StreamTo::Create {
        attributes: StreamAttributes {
            retention_ms: 365 * 86_400_000,
            ..StreamAttributes::default()
        },
        shards,
        notes: Vec::new(),
    };
    user.submit([stream(name, to)]);
    assert!(matches!(user.next(), Event::Stream { .. }));
}

fn fill(user: &mut User, name: &str, numbers: std::ops::Range<u64>) {
    for from in numbers.clone().step_by(100) {
        let numbers = from..(from + 100).min(numbers.end);
        user.submit(numbers.clone().map(|number| {
            let Command::Publish(mut publish) = publish(name, number, LEN) else {
                unreachable!("it is a publish");
            };
            let message = Arc::get_mut(&mut publish.message).expect("nobody else has it");
            Arc::make_mut(&mut message.address).kind = message::Kind::Stream;
            message.group = Some(Bytes::from(format!("key {}", number % 7)));
            publish.create = false;
            Command::Publish(publish)
        }));
        for number in numbers {
            user.confirmed(number);
        }
    }
}

/// Waits until at least so many records lie in stream files, and what is in the journal goes.
fn filed(node: &Node, dir: &Path, at_least: u64) {
    let until = Instant::now() + HANGS;
    while node.counters().stream_records_filed < at_least || size_of(&dir.join("seg")) > 12 << 20 {
        assert!(
            Instant::now() < until,
            "{} filed, {} bytes of segments",
            node.counters().stream_records_filed,
            size_of(&dir.join("seg"))
        );
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Reads a shard to its end. Numbers and times.
fn read_all(user: &mut User, name: &str, shard: u32, from: StreamStart) -> Vec<(u64, u64)> {
    let mut start = from;
    let mut found = Vec::new();
    loop {
        user.submit([Command::ReadStream(Box::new(ReadStream {
            token: Token(2_000_000),
            lane: Lane(0),
            stream: Bytes::copy_from_slice(name.as_bytes()),
            id: None,
            shard: ShardNo(shard),
            from: start,
            count: 1000,
            bytes_max: 1 << 20,
            wait_ms: 0,
            limited: false,
        }))]);
        let Event::Records { records, .. } = user.next() else {
            panic!("records were to come");
        };
        for record in &records.records {
            assert_eq!(record.message.body.len(), LEN);
            found.push((number_of(&record.message.body), record.time.0));
        }
        start = StreamStart::Offset(records.next);
        if records.records.is_empty() {
            return found;
        }
    }
}

/// Reads it in every way in which a stream is read.
fn check(node: &Node, total: u64) {
    let mut user = User::attach(node);
    let all = read_all(&mut user, "log", 0, StreamStart::First);
    let numbers: Vec<u64> = all.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..total).collect::<Vec<_>>());
    for from in [1, total / 3, total / 2, total - 1] {
        let found = read_all(&mut user, "log", 0, StreamStart::Offset(from));
        assert_eq!(found, all[from as usize..], "from {from}");
        let time = all[from as usize].1;
        let since = all.partition_point(|(_, at)| *at < time);
        let found = read_all(&mut user, "log", 0, StreamStart::Time(Timestamp(time)));
        assert_eq!(found, all[since..], "since {time}");
    }
    // A consumer, by offset and by time, over the place where the files end.
    for (start, begin) in [
        (StreamStart::First, 0),
        (StreamStart::Offset(total / 4), total / 4),
        (
            StreamStart::Time(Timestamp(all[total as usize / 2].1)),
            all.partition_point(|(_, at)| *at < all[total as usize / 2].1) as u64,
        ),
    ] {
        let mut user = User::attach(node);
        let Command::Subscribe(mut subscribe) = consume("log", Credit::Window(50)) else {
            unreachable!("it is a subscription");
        };
        subscribe.source = Source::Stream {
            name: Bytes::from_static(b"log"),
            from: start,
            group: None,
        };
        user.submit([Command::Subscribe(subscribe)]);
        assert!(matches!(user.next(), Event::Subscribed { .. }));
        for number in begin..total {
            let Event::Delivery(delivery) = user.next() else {
                panic!("a delivery was to come");
            };
            assert_eq!(number_of(&delivery.message.body), number, "{start:?}");
            let id = delivery.id.expect("it is to be settled");
            user.submit([Command::Settle(Settle {
                token: None,
                lane: Lane(2),
                deliveries: DeliveryRange {
                    queue: id.queue,
                    ranges: [(id.qseq, id.qseq)].into_iter().collect(),
                },
                outcome: Outcome::Accept,
            })]);
        }
    }
}

#[test]
fn a_stream_that_keeps_much_lies_in_files_and_is_read_from_anywhere_before_and_after_a_restart() {
    const TOTAL: u64 = 6000;
    let (dir, copy) = (directory("filed"), directory("filed-copy"));
    let node = start(config(&dir));
    let mut user = User::attach(&node);
    make(&mut user, "log", 1);
    make(&mut user, "other", 3);
    fill(&mut user, "other", 0..300);
    fill(&mut user, "log", 0..TOTAL);
    // 24 MiB, with a threshold of 1: of the index no more than a quarter is in memory.
    filed(&node, &dir, TOTAL * 3 / 4);
    assert!(size_of(&dir.join("streams")) > 16 << 20);
    check(&node, TOTAL);
    let other = |node: &Node| -> Vec<Vec<(u64, u64)>> {
        let mut user = User::attach(node);
        (0..3)
            .map(|shard| read_all(&mut user, "other", shard, StreamStart::First))
            .collect()
    };
    let shards = other(&node);
    let mut numbers: Vec<u64> = shards.iter().flatten().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    drop(user);
    killed(&dir, &copy);
    node.shutdown();
    for dir in [&dir, &copy] {
        let again = start(config(dir));
        assert!(again.counters().stream_records_filed >= TOTAL * 3 / 4);
        check(&again, TOTAL);
        assert_eq!(other(&again), shards);
        again.shutdown();
    }
}

fn stream_files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir.join("streams"))
        .map(|entries| {
            entries
                .map(|entry| entry.expect("readable").path())
                .collect()
        })
        .unwrap_or_default();
    found.sort();
    found
}

#[test]
fn stream_files_that_nobody_needs_are_removed() {
    let dir = directory("filed-gone");
    let node = start(config(&dir));
    let mut user = User::attach(&node);
    make(&mut user, "log", 2);
    fill(&mut user, "log", 0..2500);
    filed(&node, &dir, 1000);
    let until = Instant::now() + HANGS;
    user.submit([stream("log", StreamTo::Delete)]);
    assert!(matches!(user.next(), Event::Stream { .. }));
    while !stream_files(&dir).is_empty() {
        assert!(Instant::now() < until, "files of a deleted stream stay");
        thread::park_timeout(Duration::from_millis(20));
    }
    drop(user);
    node.shutdown();
    // One that its writer did not come to name.
    let left = dir.join("streams").join(format!("1-7-{:032x}", 9));
    std::fs::write(&left, b"half a file").expect("written");
    let again = start(config(&dir));
    while left.exists() {
        assert!(Instant::now() < until, "a file that nobody named stays");
        thread::park_timeout(Duration::from_millis(20));
    }
    again.shutdown();
}

#[test]
fn a_stream_file_that_is_missing_or_damaged_is_not_passed_over() {
    let dir = directory("filed-damaged");
    let node = start(config(&dir));
    let mut user = User::attach(&node);
    make(&mut user, "log", 1);
    fill(&mut user, "log", 0..2500);
    filed(&node, &dir, 1000);
    drop(user);
    node.shutdown();
    let first = stream_files(&dir).remove(0);
    let whole = std::fs::read(&first).expect("readable");
    // A flipped bit in the middle: whoever reads there is told nothing wrong, and nothing is skipped.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&first)
        .expect("there");
    let at = whole.len() as u64 / 2;
    file.write_all_at(&[whole[at as usize] ^ 1], at)
        .expect("written");
    let again = start(config(&dir));
    let mut user = User::attach(&again);
    let mut next = 0;
    loop {
        user.submit([Command::ReadStream(Box::new(ReadStream {
            token: Token(2_000_000),
            lane: Lane(0),
            stream: Bytes::from_static(b"log"),
            id: None,
            shard: ShardNo(0),
            from: StreamStart::Offset(next),
            count: 10,
            bytes_max: 1 << 20,
            wait_ms: 0,
            limited: false,
        }))]);
        match user.next() {
            Event::Records { records, .. } => {
                for record in &records.records {
                    assert_eq!(number_of(&record.message.body), next, "nothing is skipped");
                    next += 1;
                }
            }
            Event::Closing { reason } => {
                assert_eq!(reason, CloseReason::Internal);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(next < 1000, "it was read over");
    drop(user);
    again.shutdown();
    std::fs::remove_file(&first).expect("removed");
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    let users = users.expect("the default users are right");
    let refused = Node::start(config(&dir), Arc::new(users)).err();
    let what = refused.expect("it does not start").to_string();
    let name = first.file_name().and_then(|name| name.to_str());
    assert!(what.contains(name.expect("a name")), "{what}");
    std::fs::write(&first, &whole).expect("written");
    let again = start(config(&dir));
    let all = read_all(&mut User::attach(&again), "log", 0, StreamStart::First);
    assert_eq!(all.len(), 2500);
    again.shutdown();
}
