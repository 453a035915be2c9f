//! What the housekeeper does to segments whose messages are being taken: nothing, as they are soon empty by themselves.

use journal::MemVfs;

use super::{driven::Driven, *};

const LEN: usize = 1 << 10;
/// Messages that wait all the time: some six segments of them.
const WAITING: u64 = 6 << 10;
/// Taken after that, and as many published.
const PASSED: u64 = 24 << 10;
const AT_ONCE: u64 = 32;

/// What it came to.
#[derive(Debug)]
struct House {
    /// Bytes that the housekeeper read.
    read: u64,
    /// Records that it moved.
    moved: u64,
    /// Bytes of segments at the end.
    segments: u64,
}

/// The figure of that name.
fn figure(driven: &Driven, name: &str) -> u64 {
    let text = driven.node.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.trim().parse().ok());
    number.expect("it is told")
}

/// A queue in which as much waits all the time, while one message of `one_stays_of` goes into another that nobody reads.
fn house(sparse_percent: u64, one_stays_of: u64) -> House {
    let disk = MemVfs::new(false);
    let mut config = Driven::config();
    config.journal.sparse_percent = sparse_percent;
    config.journal.snapshot_every_bytes = 1 << 20;
    config.journal.cache_bytes_max = 256 << 20;
    let mut driven = Driven::start(disk.clone(), &config).expect("it starts");
    let (mut next, mut gone, mut read) = (0, 0, 0);
    while next < WAITING + PASSED {
        if next == WAITING {
            driven.submit([consume("orders", Credit::Window(AT_ONCE as u32))]);
        }
        driven.submit((next..next + AT_ONCE).map(|n| {
            let stays = n % one_stays_of == one_stays_of - 1;
            publish(if stays { "old" } else { "orders" }, n, LEN)
        }));
        next += AT_ONCE;
        let taken: Vec<_> = driven
            .events()
            .into_iter()
            .filter_map(|event| match event {
                Event::Delivery(delivery) => delivery.id,
                _ => None,
            })
            .collect();
        gone += taken.len() as u64;
        if let (Some(first), Some(last)) = (taken.first(), taken.last()) {
            driven.submit([Command::Settle(Settle {
                token: None,
                lane: Lane(2),
                deliveries: DeliveryRange {
                    queue: first.queue,
                    ranges: [(first.qseq, last.qseq)].into_iter().collect(),
                },
                outcome: Outcome::Accept,
            })]);
        }
        driven.host.pass(100);
        driven.steps.renew_lease();
        while driven.steps.prepare() {}
        let before = disk.bytes_read();
        driven.steps.keep_house();
        read += disk.bytes_read() - before;
    }
    assert!(gone > PASSED * 9 / 10, "{gone} were taken");
    House {
        read,
        moved: figure(&driven, "bascule_journal_moved_total "),
        segments: figure(&driven, "bascule_journal_segment_bytes "),
    }
}

#[test]
fn segments_of_a_queue_that_is_being_taken_are_not_read_again() {
    // Snapshots are read in any case.
    let never = house(0, u64::MAX);
    let house = house(30, u64::MAX);
    println!("{never:?} {house:?}");
    let published = (WAITING + PASSED) * LEN as u64;
    let more = house.read.saturating_sub(never.read) * 1024 / (published >> 10);
    println!("{more} bytes read for each MiB published");
    assert!(more < 10_000, "{more} bytes for each MiB published");
    assert_eq!(house.moved, 0);
}

#[test]
fn what_stays_here_and_there_is_moved_together() {
    let house = house(30, 50);
    println!("{house:?}");
    assert!(house.moved > 100, "{house:?}");
    let waiting = WAITING * LEN as u64;
    assert!(house.segments < 4 * waiting, "{house:?}, {waiting} wait");
}
