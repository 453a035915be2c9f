//! The workloads of SQS and Kinesis, signed requests on connections that are kept.
//!
//! Nothing promises an order between the connections: what arrives is ticked off by number, so that loss and repetition are
//! seen. Bodies are 100 bytes of text; the data of records is 100 bytes or what is asked for.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::load::{
    Confirmed, Ledger,
    aws::{Aws, Fleet, KINESIS, SQS, Service},
};

/// Bytes of a message or record.
const LEN: usize = 100;
/// Digits that the number of a message has in its body.
const DIGITS: usize = 12;
/// Threads that send, each with that many connections.
const SENDERS: usize = 2;
const CONNECTIONS: usize = 32;
/// Messages of a batch, as many as SQS takes.
const BATCH: u64 = 10;
/// Records of one PutRecords, as many as Kinesis takes.
const RECORDS: u64 = 500;
const SHARDS: u64 = 4;
/// How many requests who receives or reads is behind at most, where that goes on at the same time: else a run would measure the backlog
/// that the clients let grow. More than the senders have in hand, who would wait for each other.
const BEHIND_MAX: u64 = 400;
/// How long nothing may arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// A name that no run before had.
fn name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("bench-{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// SendMessage alone, `batch` at a time; the queue counts what it has.
pub(super) fn send(address: SocketAddr, count: u64, batch: u64) -> anyhow::Result<Ledger> {
    let queue = Queue::new(address)?;
    queue.send(count, batch, None)?;
    let kept = queue.kept()?;
    queue.delete()?;
    Ok(Ledger::counted(
        kept,
        count.saturating_sub(kept),
        kept.saturating_sub(count),
    ))
}

/// Sent, received and deleted, all in batches of ten, all at once.
pub(super) fn through(address: SocketAddr, count: u64) -> anyhow::Result<Ledger> {
    let queue = Arc::new(Queue::new(address)?);
    let received = Arc::new(Confirmed::default());
    let receiving = {
        let queue = Arc::clone(&queue);
        beside(&received, move |received| queue.receive(count, received))?
    };
    queue.send(count, BATCH, Some(&received))?;
    let ledger = receiving.join().expect("the receiver does not panic")?;
    let kept = queue.kept()?;
    ensure!(kept == 0, "{kept} messages are left after all were deleted");
    queue.delete()?;
    Ok(ledger)
}

/// Starts who receives or reads, and tells in `come` how much came. Whoever waits for that learns when it ended, and why.
fn beside(
    come: &Arc<Confirmed>,
    run: impl FnOnce(&Confirmed) -> anyhow::Result<Ledger> + Send + 'static,
) -> io::Result<JoinHandle<anyhow::Result<Ledger>>> {
    let come = Arc::clone(come);
    std::thread::Builder::new().spawn(move || {
        let ledger = run(&come);
        come.end(ledger.as_ref().err());
        ledger
    })
}

struct Queue {
    address: SocketAddr,
    url: String,
}

impl Queue {
    fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let asked = json!({"QueueName": name("queue")}).to_string();
        let made = Aws::connect(address, SQS)?.call("CreateQueue", asked.as_bytes())?;
        let url = made["QueueUrl"].as_str().context("CreateQueue names it")?;
        Ok(Self {
            address,
            url: url.to_owned(),
        })
    }

    /// Sends numbers 0 to `count`, each confirmed; not far ahead of what was received, if that is told.
    fn send(&self, count: u64, batch: u64, received: Option<&Confirmed>) -> anyhow::Result<()> {
        let operation = if batch == 1 {
            "SendMessage"
        } else {
            "SendMessageBatch"
        };
        let body = |first: u64, out: &mut Vec<u8>| -> anyhow::Result<()> {
            if let Some(received) = received {
                received.wait(first.saturating_sub(BEHIND_MAX * batch))?;
            }
            write!(out, "{{\"QueueUrl\":\"{}\",", self.url)?;
            if batch == 1 {
                write!(out, "\"MessageBody\":\"{first:0DIGITS$}")?;
                out.resize(out.len() + LEN - DIGITS, b'.');
                out.extend_from_slice(b"\"}");
                return Ok(());
            }
            out.extend_from_slice(b"\"Entries\":[");
            for number in first..(first + batch).min(count) {
                let comma = if number == first { "" } else { "," };
                write!(
                    out,
                    "{comma}{{\"Id\":\"{number}\",\"MessageBody\":\"{number:0DIGITS$}"
                )?;
                out.resize(out.len() + LEN - DIGITS, b'.');
                out.extend_from_slice(b"\"}");
            }
            out.extend_from_slice(b"]}");
            Ok(())
        };
        let see = |answer: &[u8]| {
            let failed = find(answer, b"\"Failed\":[{").is_some();
            ensure!(!failed, "not all of a batch was taken: {}", text(answer));
            Ok(())
        };
        spread(self.address, SQS, operation, count, batch, body, see)
    }

    /// Receives and deletes until each of `count` numbers has come, and tells how many have.
    fn receive(&self, count: u64, received: &Confirmed) -> anyhow::Result<Ledger> {
        let mut fleet = Fleet::connect(self.address, SQS, CONNECTIONS)?;
        let mut ticks = Ticks::new(count);
        let ask = json!({"QueueUrl": self.url, "MaxNumberOfMessages": BATCH}).to_string();
        let asks = vec![ask; fleet.len()];
        let mut last = Instant::now();
        while ticks.distinct < count {
            let mut deletes: Vec<Vec<u8>> = Vec::new();
            fleet.round("ReceiveMessage", &asks, |_, answer| {
                let mut out = format!("{{\"QueueUrl\":\"{}\",\"Entries\":[", self.url).into_bytes();
                let mut entries = 0;
                let (mut bodies, mut handles) = (answer, answer);
                while let Some(body) = next_string(&mut bodies, b"\"Body\":\"") {
                    ticks.tick(body)?;
                    let handle = next_string(&mut handles, b"\"ReceiptHandle\":\"")
                        .context("a message has a receipt handle")?;
                    let comma = if entries == 0 { "" } else { "," };
                    write!(out, "{comma}{{\"Id\":\"{entries}\",\"ReceiptHandle\":\"")?;
                    out.extend_from_slice(handle);
                    out.extend_from_slice(b"\"}");
                    entries += 1;
                }
                if entries > 0 {
                    out.extend_from_slice(b"]}");
                    deletes.push(out);
                }
                Ok(())
            })?;
            if deletes.is_empty() {
                ensure!(
                    last.elapsed() < PATIENCE,
                    "{} of {count} messages came",
                    ticks.distinct
                );
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            last = Instant::now();
            received.set(ticks.distinct);
            fleet.round("DeleteMessageBatch", &deletes, |_, answer| {
                let failed = find(answer, b"\"Failed\":[{").is_some();
                ensure!(!failed, "not all were deleted: {}", text(answer));
                Ok(())
            })?;
        }
        Ok(ticks.ledger())
    }

    /// How many messages it has, in any state.
    fn kept(&self) -> anyhow::Result<u64> {
        let ask = json!({"QueueUrl": self.url, "AttributeNames": ["All"]}).to_string();
        let answer = Aws::connect(self.address, SQS)?.call("GetQueueAttributes", ask.as_bytes())?;
        [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
        ]
        .iter()
        .map(|name| {
            let value = answer["Attributes"][name].as_str();
            Ok(value.context("a queue counts")?.parse::<u64>()?)
        })
        .sum()
    }

    fn delete(&self) -> anyhow::Result<()> {
        let ask = json!({"QueueUrl": self.url}).to_string();
        Aws::connect(self.address, SQS)?.call("DeleteQueue", ask.as_bytes())?;
        Ok(())
    }
}

/// PutRecords alone, 500 at a time, to a stream of [`SHARDS`] shards.
pub(super) fn put(address: SocketAddr, count: u64) -> anyhow::Result<Ledger> {
    let stream = Stream::new(address)?;
    stream.put(count, LEN, None)?;
    stream.delete()?;
    Ok(Ledger::counted(count, 0, 0))
}

/// The same with data of `len` bytes, and with a reader of all shards at the same time, from the first record on.
pub(super) fn put_and_get(address: SocketAddr, count: u64, len: usize) -> anyhow::Result<Ledger> {
    let stream = Arc::new(Stream::new(address)?);
    let read = Arc::new(Confirmed::default());
    let reading = {
        let stream = Arc::clone(&stream);
        beside(&read, move |read| stream.get(count, read))?
    };
    stream.put(count, len, Some(&read))?;
    let ledger = reading.join().expect("the reader does not panic")?;
    stream.delete()?;
    Ok(ledger)
}

struct Stream {
    address: SocketAddr,
    name: String,
    shards: Vec<String>,
}

impl Stream {
    fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let name = name("stream");
        let mut aws = Aws::connect(address, KINESIS)?;
        let asked = json!({"StreamName": name, "ShardCount": SHARDS}).to_string();
        aws.call("CreateStream", asked.as_bytes())?;
        let asked = json!({"StreamName": name}).to_string();
        let began = Instant::now();
        loop {
            let told = aws.call("DescribeStreamSummary", asked.as_bytes())?;
            if told["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE" {
                break;
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "the stream does not become active"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let told = aws.call("ListShards", asked.as_bytes())?;
        let shards = told["Shards"].as_array().context("a stream has shards")?;
        let ids = shards
            .iter()
            .filter_map(|shard| Some(shard["ShardId"].as_str()?.to_owned()));
        Ok(Self {
            address,
            name,
            shards: ids.collect(),
        })
    }

    fn put(&self, count: u64, len: usize, read: Option<&Confirmed>) -> anyhow::Result<()> {
        // In base64, without the padding.
        let digits = (len * 4).div_ceil(3);
        let padding = &"=="[..digits.next_multiple_of(4) - digits];
        let body = |first: u64, out: &mut Vec<u8>| -> anyhow::Result<()> {
            if let Some(read) = read {
                read.wait(first.saturating_sub(BEHIND_MAX * RECORDS))?;
            }
            write!(out, "{{\"StreamName\":\"{}\",\"Records\":[", self.name)?;
            for number in first..(first + RECORDS).min(count) {
                let comma = if number == first { "" } else { "," };
                write!(out, "{comma}{{\"PartitionKey\":\"{number}\",\"Data\":\"")?;
                // Digits that are base64 by themselves: three characters of them are not two bytes of text, and nobody asks.
                write!(out, "{number:0DIGITS$}")?;
                out.resize(out.len() + digits - DIGITS, b'A');
                write!(out, "{padding}\"}}")?;
            }
            out.extend_from_slice(b"]}");
            Ok(())
        };
        let see = |answer: &[u8]| {
            let whole = find(answer, b"\"FailedRecordCount\":0").is_some();
            ensure!(whole, "not all records were taken: {}", text(answer));
            Ok(())
        };
        spread(
            self.address,
            KINESIS,
            "PutRecords",
            count,
            RECORDS,
            body,
            see,
        )
    }

    fn get(&self, count: u64, read: &Confirmed) -> anyhow::Result<Ledger> {
        let mut fleet = Fleet::connect(self.address, KINESIS, self.shards.len())?;
        let asks: Vec<String> = self
            .shards
            .iter()
            .map(|shard| {
                json!({"StreamName": self.name, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"})
                    .to_string()
            })
            .collect();
        let mut iterators = vec![String::new(); asks.len()];
        fleet.round("GetShardIterator", &asks, |at, answer| {
            let told: Value = serde_json::from_slice(answer)?;
            let iterator = told["ShardIterator"].as_str();
            iterators[at] = iterator.context("an iterator")?.to_owned();
            Ok(())
        })?;
        let mut ticks = Ticks::new(count);
        let mut last = Instant::now();
        while ticks.distinct < count {
            let asks: Vec<String> = iterators
                .iter()
                .map(|iterator| format!("{{\"ShardIterator\":\"{iterator}\"}}"))
                .collect();
            let before = ticks.distinct;
            fleet.round("GetRecords", &asks, |at, mut answer| {
                let mut whole = answer;
                while let Some(data) = next_string(&mut answer, b"\"Data\":\"") {
                    ticks.tick(data)?;
                }
                let next = next_string(&mut whole, b"\"NextShardIterator\":\"");
                iterators[at] = text(next.context("an open shard has a next iterator")?);
                Ok(())
            })?;
            read.set(ticks.distinct);
            if ticks.distinct > before {
                last = Instant::now();
            } else {
                ensure!(
                    last.elapsed() < PATIENCE,
                    "{} of {count} records came",
                    ticks.distinct
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(ticks.ledger())
    }

    fn delete(&self) -> anyhow::Result<()> {
        let ask = json!({"StreamName": self.name}).to_string();
        Aws::connect(self.address, KINESIS)?.call("DeleteStream", ask.as_bytes())?;
        Ok(())
    }
}

/// Numbers 0 to `count`, `batch` a request, over all senders and their connections.
fn spread(
    address: SocketAddr,
    service: Service,
    operation: &str,
    count: u64,
    batch: u64,
    body: impl Fn(u64, &mut Vec<u8>) -> anyhow::Result<()> + Sync,
    see: impl Fn(&[u8]) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let next = AtomicU64::new(0);
    let work = || -> anyhow::Result<()> {
        let mut fleet = Fleet::connect(address, service, CONNECTIONS)?;
        let mut bodies = vec![Vec::new(); fleet.len()];
        loop {
            let mut filled = 0;
            for out in &mut bodies {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= count {
                    break;
                }
                out.clear();
                body(first, out)?;
                filled += 1;
            }
            if filled == 0 {
                return Ok(());
            }
            fleet.round(operation, &bodies[..filled], |_, answer| see(answer))?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SENDERS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().expect("a sender returns its errors")?;
        }
        Ok(())
    })
}

/// Which numbers have come.
struct Ticks {
    seen: Vec<bool>,
    distinct: u64,
    all: u64,
}

impl Ticks {
    fn new(count: u64) -> Self {
        Self {
            seen: vec![false; count as usize],
            distinct: 0,
            all: 0,
        }
    }

    fn tick(&mut self, body: &[u8]) -> anyhow::Result<()> {
        let digits = body.get(..DIGITS).context("a body of ours is longer")?;
        let number: usize = std::str::from_utf8(digits)?.parse()?;
        let seen = self.seen.get_mut(number).context("a number of this run")?;
        self.distinct += u64::from(!*seen);
        self.all += 1;
        *seen = true;
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        let missing = self.seen.len() as u64 - self.distinct;
        Ledger::counted(self.distinct, missing, self.all - self.distinct)
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

/// The string after the next `key` in the text, which is then behind it. Ours hold nothing that JSON escapes.
fn next_string<'a>(text: &mut &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let from = find(text, key)? + key.len();
    let len = memchr::memchr(b'"', &text[from..])?;
    let string = &text[from..from + len];
    *text = &text[from + len..];
    Some(string)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
