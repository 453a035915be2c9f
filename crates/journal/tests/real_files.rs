//! The journal on the operating system's files, with its threads.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Wake, Waker};

use bytes::Bytes;
use journal::{Config, Direct, Failure, Journal, OpenError, Opened, RealVfs};
use message::StoredId;

struct Signal(mpsc::Sender<()>);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

fn directory(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn small() -> Config {
    Config {
        segment_len: 1 << 20,
        first_segment_len: 256 << 10,
        reserve_len: 64 << 10,
        ..Config::default()
    }
}

fn open(dir: &Path, config: Config, start: u8) -> Opened {
    journal::open(Arc::new(RealVfs), dir, config, 1, [start; 16]).expect("the journal opens")
}

/// Stages a record and waits until it is committed.
fn commit(journal: &Journal, kind: u8, head: &[u8], body: Option<Bytes>) -> StoredId {
    let (sender, receiver) = mpsc::channel();
    let id = {
        let mut stage = journal.stage();
        assert!(stage.reserve(&[head.len() + body.as_ref().map_or(0, Bytes::len)]));
        let expected = stage.next_id();
        let id = stage.push(kind, head, body);
        assert_eq!(id, expected);
        stage.on_commit(Waker::from(Arc::new(Signal(sender))));
        id
    };
    receiver.recv().expect("the waker is woken");
    assert_eq!(journal.failure(), None);
    assert!(journal.committed() >= journal::batch_of(id));
    id
}

fn records(opened: Opened) -> Vec<(StoredId, u8, Bytes)> {
    let mut all = Vec::new();
    opened
        .replay
        .for_each(|id, kind, payload| {
            all.push((id, kind, payload));
            Ok::<_, std::convert::Infallible>(())
        })
        .expect("the history is whole");
    all
}

fn what_is_committed_comes_back(name: &str, direct: Direct) {
    let dir = directory(name);
    let config = Config { direct, ..small() };
    let mut written = Vec::new();
    for start in 1..4_u8 {
        let opened = open(&dir, config.clone(), start);
        let journal = opened.journal.clone();
        assert_eq!(opened.epoch, u64::from(start));
        assert_eq!(records(opened), written, "start {start}");
        for n in 0..40_usize {
            let body = Bytes::from(vec![n as u8; n * 1500]);
            let id = commit(&journal, 7, &n.to_le_bytes(), Some(body.clone()));
            let mut payload = n.to_le_bytes().to_vec();
            payload.extend_from_slice(&body);
            let payload = Bytes::from(payload);
            assert_eq!(journal.read(id).expect("committed"), (7, payload.clone()));
            written.push((id, 7, payload));
        }
        journal.shutdown();
    }
    let report = journal::verify(&dir).expect("the journal is understood");
    assert_eq!(report.damaged, []);
    assert_eq!(report.records, 120);
    let opened = open(&dir, config, 9);
    assert!(
        written
            .iter()
            .all(|(id, ..)| opened.journal.cached(*id).is_none()),
        "nothing is in memory after a start"
    );
    for (id, kind, payload) in &written {
        let (read_kind, read) = opened.journal.read(*id).expect("stored");
        assert_eq!((read_kind, &read), (*kind, payload));
    }
}

/// Snapshots whose files end in a block, between blocks and between pieces come back while the journal runs and after a start.
#[test]
fn a_snapshot_of_any_length_is_read_back() {
    let dir = directory("snapshots");
    let (mut start, mut lens) = (1, Vec::new());
    // The file has 104 bytes more, and 12 for each whole piece of 64 KiB: of one block, of one piece, of 256 KiB.
    let (block, piece, passing) = (4_096 - 104, 65_536 - 8, 262_144 - 92 - 48);
    for len in [0, 1, block, block + 1, piece, piece + 1, passing, 300_001] {
        let content: Vec<u8> = (0..len).map(|at: usize| (at / 7) as u8).collect();
        let opened = open(&dir, small(), start);
        let journal = opened.journal.clone();
        drop(records(opened));
        commit(&journal, 7, b"one more", None);
        journal
            .write_snapshot(journal.committed(), |out| out.write_all(&content))
            .expect("written");
        let read = |replay: &mut journal::Replay| {
            let mut read = Vec::new();
            let mut snapshot = replay.snapshot().expect("one");
            snapshot.read_to_end(&mut read).expect("whole");
            read
        };
        let files = std::fs::read_dir(dir.join("snap")).expect("a directory");
        lens.extend(files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len()));
        let mut live = journal.replay().expect("a replay");
        assert!(read(&mut live) == content, "{len} bytes, running");
        drop(live);
        journal.shutdown();
        start += 1;
        let mut opened = open(&dir, small(), start);
        assert!(read(&mut opened.replay) == content, "{len} bytes, started");
        opened.journal.shutdown();
        start += 1;
    }
    assert!(lens.contains(&4_096) && lens.contains(&262_144), "{lens:?}");
    let report = journal::verify(&dir).expect("the journal is understood");
    assert_eq!(report.damaged, []);
}

#[test]
fn what_is_committed_comes_back_directly() {
    what_is_committed_comes_back("direct", Direct::Auto);
}

#[test]
fn what_is_committed_comes_back_through_the_page_cache() {
    what_is_committed_comes_back("buffered", Direct::Never);
}

#[test]
fn rules_17_a_second_start_on_the_same_directory_is_refused() {
    let dir = directory("held");
    let opened = open(&dir, small(), 1);
    let second = journal::open(Arc::new(RealVfs), &dir, small(), 1, [2; 16]);
    let Err(OpenError::Held { holder, .. }) = second else {
        panic!("it must be refused")
    };
    assert_eq!(holder, format!(" (pid {})", std::process::id()));
    commit(&opened.journal, 1, b"still ours", None);
    opened.journal.shutdown();
    open(&dir, small(), 3);
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let dir = directory("foreign");
    std::fs::create_dir_all(&dir).expect("made");
    std::fs::write(dir.join("holiday.jpg"), b"x").expect("written");
    let opened = journal::open(Arc::new(RealVfs), &dir, small(), 1, [1; 16]);
    let Err(error) = opened else {
        panic!("it must be refused")
    };
    assert!(matches!(&error, OpenError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("holiday.jpg"));
    assert_eq!(std::fs::read_dir(&dir).expect("there").count(), 1);
}

#[test]
fn verify_of_nothing_says_so() {
    let dir = directory("absent");
    std::fs::create_dir_all(&dir).expect("made");
    assert!(matches!(
        journal::verify(&dir),
        Err(OpenError::Absent { .. })
    ));
}

#[test]
fn verify_and_dump_change_nothing_and_say_where_damage_is() {
    let dir = directory("inspect");
    let opened = open(&dir, small(), 1);
    let ids: Vec<StoredId> = (0..5_u8)
        .map(|n| {
            commit(
                &opened.journal,
                n,
                b"head ",
                Some(Bytes::from(vec![n; 6000])),
            )
        })
        .collect();
    // It is in use: neither asks for the lock.
    let report = journal::verify(&dir).expect("understood");
    assert_eq!((report.records, report.last_batch, report.epoch), (5, 5, 1));
    let mut dumped = Vec::new();
    journal::dump(&dir, |record| {
        dumped.push((record.id, record.kind, record.payload.len()));
        true
    })
    .expect("whole");
    let expected: Vec<_> = ids
        .iter()
        .zip(0..5)
        .map(|(id, kind)| (*id, kind, 6005))
        .collect();
    assert_eq!(dumped, expected);
    opened.journal.shutdown();
    let second = open(&dir, small(), 2);
    commit(&second.journal, 9, b"", None);
    second.journal.shutdown();
    let name = std::fs::read_dir(dir.join("seg"))
        .expect("listed")
        .map(|entry| entry.expect("listed").path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("1-1-"))
        })
        .expect("the first segment is there");
    let mut bytes = std::fs::read(&name).expect("read");
    bytes[4096 + 3000] ^= 1;
    std::fs::write(&name, &bytes).expect("written");
    let report = journal::verify(&dir).expect("understood");
    assert_eq!(report.damaged.len(), 1);
    assert_eq!(
        (&report.damaged[0].path, report.damaged[0].offset),
        (&name, 4096)
    );
    let error = journal::dump(&dir, |_| true)
        .expect_err("damaged")
        .to_string();
    assert!(
        error.contains("1-1-") && error.contains("offset 4096"),
        "{error}"
    );
}

#[test]
fn many_producers_share_batches_and_all_are_woken() {
    let dir = directory("producers");
    let opened = open(&dir, small(), 1);
    let journal = opened.journal;
    let threads: Vec<_> = (0..8_u8)
        .map(|kind| {
            let journal = journal.clone();
            std::thread::Builder::new()
                .spawn(move || {
                    (0..40)
                        .map(|n: u32| commit(&journal, kind, &n.to_le_bytes(), None))
                        .collect::<Vec<_>>()
                })
                .expect("a thread starts")
        })
        .collect();
    for thread in threads {
        let ids = thread.join().expect("no panic");
        assert!(ids.is_sorted(), "order per producer");
    }
    assert_eq!(journal.stats().records, 320);
    journal.shutdown();
    let mut next = [0_u32; 8];
    for (_, kind, payload) in records(open(&dir, small(), 2)) {
        assert_eq!(payload[..], next[usize::from(kind)].to_le_bytes());
        next[usize::from(kind)] += 1;
    }
    assert_eq!(next, [40; 8]);
}

#[test]
fn the_last_handle_stops_the_threads_and_gives_the_directory_up() {
    let dir = directory("dropped");
    let opened = open(&dir, small(), 1);
    commit(&opened.journal, 1, b"x", None);
    drop(opened);
    assert_eq!(records(open(&dir, small(), 2)).len(), 1);
}

#[test]
fn a_journal_whose_thread_panics_has_failed_and_wakes_who_waits() {
    struct Boom;
    impl Wake for Boom {
        fn wake(self: Arc<Self>) {
            panic!("a waker of somebody else's");
        }
    }
    let opened = open(&directory("boom"), small(), 1);
    let journal = &opened.journal;
    {
        let mut stage = journal.stage();
        stage.push(1, b"first", None);
        stage.on_commit(Waker::from(Arc::new(Boom)));
    }
    while journal.failure().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(journal.failure(), Some(Failure::Broken("journal")));
    let (sender, receiver) = mpsc::channel();
    {
        let mut stage = journal.stage();
        stage.push(1, b"second", None);
        stage.on_commit(Waker::from(Arc::new(Signal(sender))));
    }
    receiver.recv().expect("whoever waits is woken");
    journal.shutdown();
}
