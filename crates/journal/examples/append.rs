//! Measures the journal on this disk: group commit with a number of producers, then replay and reading back.
//!
//! `cargo run --release -p journal --example append -- DIR [PRODUCERS] [RECORDS] [BYTES]`
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the clock and starts threads"
)]
#![expect(clippy::print_stdout, reason = "its result goes to the terminal")]

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::task::{Wake, Waker};
use std::time::Instant;

use bytes::Bytes;
use journal::{Config, Journal, RealVfs};

struct Signal(mpsc::Sender<()>);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

fn produce(journal: &Journal, records: usize, window: usize, body: &Bytes) -> Vec<u128> {
    let (sender, receiver) = mpsc::channel();
    let waker = Waker::from(Arc::new(Signal(sender)));
    let mut times = Vec::with_capacity(records / window);
    for _ in 0..records / window {
        let start = Instant::now();
        {
            let mut stage = journal.stage();
            for _ in 0..window {
                stage.reserve(&[24 + body.len()]);
                stage.push(1, &[0; 24], Some(body.clone()));
            }
            stage.on_commit(waker.clone());
        }
        receiver.recv().expect("the journal wakes its waiters");
        times.push(start.elapsed().as_micros());
    }
    times
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("a directory"));
    let mut number = |default: usize| {
        arguments
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(default)
    };
    let (producers, records, bytes) = (number(8), number(20_000), number(1024));
    let window = number(1);
    let uuid = |n: u32| (u128::from(std::process::id()) << 32 | u128::from(n)).to_be_bytes();
    let opening = Instant::now();
    let opened =
        journal::open(Arc::new(RealVfs), &dir, Config::default(), 0, uuid(1)).expect("opens");
    println!("opened in {:?}", opening.elapsed());
    let journal = opened.journal;
    let body = Bytes::from(vec![7; bytes]);
    let start = Instant::now();
    let threads: Vec<_> = (0..producers)
        .map(|_| {
            let (journal, body) = (journal.clone(), body.clone());
            std::thread::spawn(move || produce(&journal, records, window, &body))
        })
        .collect();
    let mut times: Vec<u128> = threads
        .into_iter()
        .flat_map(|t| t.join().expect("no panic"))
        .collect();
    let elapsed = start.elapsed();
    times.sort_unstable();
    let stats = journal.stats();
    println!(
        "{producers} producers, window {window}, {bytes} B: {:.0} records/s, {:.0} MB/s; p50 {} us, p99 {} us; {:.1} records a batch, {} us a step; direct: {}",
        stats.records as f64 / elapsed.as_secs_f64(),
        stats.written_bytes as f64 / elapsed.as_secs_f64() / 1e6,
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        stats.records as f64 / stats.batches as f64,
        stats.sync_micros / stats.batches.max(1),
        stats.direct,
    );
    journal.shutdown();
    let opening = Instant::now();
    let opened =
        journal::open(Arc::new(RealVfs), &dir, Config::default(), 0, uuid(2)).expect("opens");
    println!("opened again in {:?}", opening.elapsed());
    let start = Instant::now();
    let (mut count, mut total) = (0_u64, 0_u64);
    let mut ids = Vec::new();
    opened
        .replay
        .for_each(|id, _, payload| {
            count += 1;
            total += payload.len() as u64;
            ids.push(id);
            Ok::<_, Infallible>(())
        })
        .expect("whole");
    let elapsed = start.elapsed().as_secs_f64();
    println!(
        "replayed {count} records at {:.0} records/s, {:.0} MB/s",
        count as f64 / elapsed,
        total as f64 / elapsed / 1e6
    );
    let start = Instant::now();
    for id in &ids {
        opened.journal.read(*id).expect("stored");
    }
    let elapsed = start.elapsed().as_secs_f64();
    println!(
        "read back in order: {:.0} records/s, {:.0} MB/s",
        count as f64 / elapsed,
        total as f64 / elapsed / 1e6
    );
}
