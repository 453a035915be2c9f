//! The clients: of each protocol one that publishes and one that consumes, for as long as it takes.
//!
//! They know both addresses and nothing of the pair. Whatever goes wrong, or does not go on, ends the connection, and the next
//! one is made at the other address.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::json;

use super::{
    history::{Refusal, Track},
    nodes::Doors,
};
use crate::load::{
    Socket,
    amqp::Amqp,
    aws::{Aws, SQS},
    mqtt::Mqtt,
    stomp::Stomp,
};

/// Messages that a publisher sends before it waits for their confirmations, and how long it rests then.
pub(crate) const BURST: usize = 8;
const REST: Duration = Duration::from_millis(20);
/// Messages by which a publisher may be ahead of its consumer.
const AHEAD_MAX: u64 = 2_000;
/// Between two connections.
const BACK_OFF: Duration = Duration::from_millis(4);
/// The same, and between two messages that are refused.
const REFUSED_BACK_OFF: Duration = Duration::from_millis(100);
/// The least body of what fills a disk.
const BULK_BYTES: usize = 60_000;
/// Groups of the FIFO queue, and for how long a message is out to a receiver that does not come back.
const GROUPS: u64 = 5;
const VISIBILITY_S: &str = "5";

const TOPIC: &str = "chaos/mqtt";
const QUEUE: &str = "chaos-amqp";
const BULK: &str = "chaos-bulk";
const DESTINATION: &str = "/queue/chaos-stomp";
const FIFO: &str = "chaos.fifo";
const SUBSCRIBER: &str = "chaos-sub";

/// What the clients are to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Run,
    /// Publish nothing but what was not confirmed.
    Drain,
    End,
}

/// What clients are told: all of them a phase, and the publisher and the consumer of a track whether they may.
#[derive(Default)]
struct Valves {
    publish: AtomicBool,
    consume: AtomicBool,
}

impl Valves {
    fn set(&self, publish: bool, consume: bool) {
        self.publish.store(publish, Ordering::Release);
        self.consume.store(consume, Ordering::Release);
    }

    fn publish(&self) -> bool {
        self.publish.load(Ordering::Acquire)
    }

    fn consume(&self) -> bool {
        self.consume.load(Ordering::Acquire)
    }
}

/// All clients and what they have seen.
pub(crate) struct Clients {
    /// They may be cut off from the nodes.
    apart: bool,
    /// Of those that publish and consume all the time.
    pub(crate) tracks: Vec<Arc<Track>>,
    /// Of those that fill a disk and empty it, where there is one to be filled.
    pub(crate) bulk: Option<Arc<Track>>,
    phase: Arc<AtomicU8>,
    steady: Arc<Valves>,
    filling: Arc<Valves>,
    threads: Vec<JoinHandle<()>>,
}

/// A connection that publishes.
trait Publisher {
    fn send(&mut self, number: u64, body: &str) -> anyhow::Result<()>;
    /// Waits for confirmations; the numbers of what they are for.
    fn confirmed(&mut self) -> anyhow::Result<Vec<u64>>;
}

/// A connection that consumes.
trait Consumer {
    /// Waits for messages, hands them to the track, and settles them.
    fn step(&mut self, track: &Track) -> anyhow::Result<()>;
}

/// What a thread needs besides its connection.
#[derive(Clone)]
struct Task {
    track: Arc<Track>,
    phase: Arc<AtomicU8>,
    valves: Arc<Valves>,
    addresses: [SocketAddr; 2],
    patience: Duration,
}

impl Clients {
    /// Makes what they need on the active node, then starts them. `patience`: how long a client waits for anything; `apart`: they
    /// may be cut off.
    pub(crate) fn start(
        active: &Doors,
        both: [&Doors; 2],
        patience: Duration,
        apart: bool,
    ) -> anyhow::Result<Self> {
        Mqtt::connect(active.mqtt, SUBSCRIBER, true)?.subscribe(TOPIC, 1)?;
        Amqp::connect(active.amqp)?.declare(QUEUE)?;
        Amqp::connect(active.amqp)?.declare(BULK)?;
        let attributes = json!({"FifoQueue": "true", "VisibilityTimeout": VISIBILITY_S});
        let ask = json!({"QueueName": FIFO, "Attributes": attributes}).to_string();
        let made = Aws::connect(active.aws, SQS)?.call("CreateQueue", ask.as_bytes())?;
        let url = made["QueueUrl"].as_str().context("a queue has a URL")?;
        let mut clients = Self {
            apart,
            tracks: Vec::new(),
            bulk: None,
            phase: Arc::new(AtomicU8::new(Phase::Run as u8)),
            steady: Arc::default(),
            filling: Arc::default(),
            threads: Vec::new(),
        };
        clients.hold(false);
        let addresses = both.map(|doors| doors.mqtt);
        let task = clients.steady(
            Track::new("mqtt", 1, Refusal::One("reason 0x97")),
            addresses,
            patience,
        );
        clients.add(task, mqtt_out, mqtt_in)?;
        let addresses = both.map(|doors| doors.amqp);
        let task = clients.steady(
            Track::new("amqp", 1, Refusal::One("(60, 120)")),
            addresses,
            patience,
        );
        clients.add(
            task,
            |socket, _| amqp_out(socket, QUEUE),
            |socket, _| amqp_in(socket, QUEUE),
        )?;
        if apart {
            let track = Track::new("bulk", 1, Refusal::One("(60, 120)")).with_len_min(BULK_BYTES);
            let mut task = clients.steady(track, addresses, patience);
            task.valves = Arc::clone(&clients.filling);
            clients.bulk = clients.tracks.pop();
            clients.add(
                task,
                |socket, _| amqp_out(socket, BULK),
                |socket, _| amqp_in(socket, BULK),
            )?;
        }
        let addresses = both.map(|doors| doors.stomp);
        let task = clients.steady(
            Track::new("stomp", 1, Refusal::Last("storage full")),
            addresses,
            patience,
        );
        clients.add(task, stomp_out, stomp_in)?;
        let addresses = both.map(|doors| doors.aws);
        let (sends, receives) = (url.to_owned(), url.to_owned());
        let task = clients.steady(
            Track::new("sqs", GROUPS, Refusal::Last("the disk is full")),
            addresses,
            patience,
        );
        clients.add(
            task,
            move |socket, address| sqs_out(socket, address, &sends),
            move |socket, address| sqs_in(socket, address, &receives),
        )?;
        Ok(clients)
    }

    fn steady(&mut self, track: Track, addresses: [SocketAddr; 2], patience: Duration) -> Task {
        let track = Arc::new(track.with_rivals(self.apart));
        self.tracks.push(Arc::clone(&track));
        Task {
            track,
            phase: Arc::clone(&self.phase),
            valves: Arc::clone(&self.steady),
            addresses,
            patience,
        }
    }

    fn add<P: Publisher, C: Consumer>(
        &mut self,
        task: Task,
        publisher: impl Fn(Socket, SocketAddr) -> anyhow::Result<P> + Send + 'static,
        consumer: impl Fn(Socket, SocketAddr) -> anyhow::Result<C> + Send + 'static,
    ) -> anyhow::Result<()> {
        let other = task.clone();
        let thread = || std::thread::Builder::new();
        self.threads.push(thread().spawn(move || {
            other.again_and_again(|socket, address, began| {
                other.publish(publisher(socket, address)?, began)
            });
        })?);
        self.threads.push(thread().spawn(move || {
            while !task.is(Phase::End) {
                if !task.valves.consume() {
                    std::thread::sleep(REST);
                    continue;
                }
                task.again_and_again(|socket, address, _| {
                    let mut connection = consumer(socket, address)?;
                    while !task.is(Phase::End) && task.valves.consume() {
                        connection.step(&task.track)?;
                    }
                    Ok(())
                });
            }
        })?);
        Ok(())
    }

    fn turn(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Those that consume all the time leave, or come back; those that publish go on.
    pub(crate) fn hold(&self, hold: bool) {
        self.steady.set(true, !hold);
    }

    /// Nothing is published that was not before, and everyone consumes.
    pub(crate) fn pause(&self) {
        self.steady.set(false, true);
    }

    /// Whether the disk is being filled, and whether it is being emptied.
    pub(crate) fn fill(&self, publish: bool, consume: bool) {
        self.filling.set(publish, consume);
    }

    /// No new messages, and everyone consumes.
    pub(crate) fn drain(&self) {
        self.hold(false);
        self.fill(true, true);
        self.turn(Phase::Drain);
    }

    /// What is not settled in the queues that tell it.
    pub(crate) fn kept(active: &Doors) -> anyhow::Result<u64> {
        let mut kept = u64::from(Amqp::connect(active.amqp)?.declare(QUEUE)?);
        kept += u64::from(Amqp::connect(active.amqp)?.declare(BULK)?);
        let mut aws = Aws::connect(active.aws, SQS)?;
        let url = aws.call(
            "GetQueueUrl",
            json!({"QueueName": FIFO}).to_string().as_bytes(),
        )?;
        let ask = json!({"QueueUrl": url["QueueUrl"], "AttributeNames": ["All"]}).to_string();
        let answer = aws.call("GetQueueAttributes", ask.as_bytes())?;
        for name in [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
        ] {
            let value = answer["Attributes"][name].as_str();
            kept += value.context("a queue counts")?.parse::<u64>()?;
        }
        Ok(kept)
    }

    /// Ends all of them.
    pub(crate) fn end(&mut self) {
        self.turn(Phase::End);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic");
        }
    }
}

impl Task {
    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) >= phase as u8
    }

    /// Connects at one address after the other, until a connection ends well. `talk` is told when it began.
    fn again_and_again(&self, talk: impl Fn(Socket, SocketAddr, Instant) -> anyhow::Result<()>) {
        for address in self.addresses.iter().cycle() {
            let began = Instant::now();
            let talked = Socket::connect_within(*address, self.patience)
                .and_then(|socket| talk(socket, *address, began));
            match talked {
                Ok(()) => return,
                Err(_) if self.is(Phase::End) => return,
                Err(error) if self.track.trouble(&error) => std::thread::sleep(REFUSED_BACK_OFF),
                Err(_) => std::thread::sleep(BACK_OFF),
            }
        }
    }

    fn publish(&self, mut connection: impl Publisher, began: Instant) -> anyhow::Result<()> {
        while !self.is(Phase::End) {
            let drains = self.is(Phase::Drain);
            let valves = &self.valves;
            // While nobody consumes it goes on and on.
            let ahead = !valves.consume() || self.track.outstanding() < AHEAD_MAX;
            let more = !drains && ahead && valves.publish();
            let burst = self.track.burst(BURST, more);
            if burst.is_empty() && drains {
                return Ok(());
            }
            for number in &burst {
                self.track.sent(*number);
                connection.send(*number, &self.track.body(*number))?;
            }
            let mut waits = burst.len();
            while waits > 0 {
                for number in connection.confirmed()? {
                    self.track.confirmed(number, began);
                    waits -= 1;
                }
            }
            std::thread::sleep(REST);
        }
        Ok(())
    }
}

/// What was sent and is not confirmed, in order, with a number of the connection's own.
struct Window<C> {
    connection: C,
    next: u64,
    sent: VecDeque<(u64, u64)>,
}

impl<C> Window<C> {
    fn new(connection: C) -> Self {
        Self {
            connection,
            next: 1,
            sent: VecDeque::new(),
        }
    }

    /// The connection's own number of what is sent.
    fn push(&mut self, number: u64) -> u64 {
        let own = self.next;
        self.next += 1;
        self.sent.push_back((own, number));
        own
    }

    /// What is confirmed by naming `own`, or by `all` up to it.
    fn settle(&mut self, own: u64, all: bool) -> anyhow::Result<Vec<u64>> {
        let known = self.sent.iter().any(|(each, _)| *each == own);
        ensure!(known, "{own} is confirmed, which is not waited for");
        let mut settled = Vec::new();
        self.sent.retain(|(each, number)| {
            let named = *each == own || all && *each < own;
            if named {
                settled.push(*number);
            }
            !named
        });
        Ok(settled)
    }
}

fn mqtt_out(socket: Socket, _: SocketAddr) -> anyhow::Result<Window<Mqtt>> {
    Ok(Window::new(Mqtt::over_5(socket, "chaos-pub")?))
}

impl Publisher for Window<Mqtt> {
    fn send(&mut self, number: u64, body: &str) -> anyhow::Result<()> {
        // Far fewer than 65,535 are out at a time.
        let id = (self.push(number) - 1) % 65_535 + 1;
        if let Some(last) = self.sent.back_mut() {
            last.0 = id;
        }
        self.connection.send(TOPIC, id as u16, body.as_bytes())
    }

    fn confirmed(&mut self) -> anyhow::Result<Vec<u64>> {
        let id = self.connection.acked()?;
        self.settle(id.into(), false)
    }
}

/// Subscribes to nothing: the session has its subscription, or has lost it.
fn mqtt_in(socket: Socket, _: SocketAddr) -> anyhow::Result<Mqtt> {
    Mqtt::over(socket, SUBSCRIBER, true)
}

impl Consumer for Mqtt {
    fn step(&mut self, track: &Track) -> anyhow::Result<()> {
        let (id, duplicate, body) = self.message()?;
        track.received(&body, duplicate, None);
        self.ack(id)
    }
}

/// A channel that publishes to one queue.
struct Channel {
    amqp: Amqp,
    queue: &'static str,
}

fn amqp_out(socket: Socket, queue: &'static str) -> anyhow::Result<Window<Channel>> {
    let mut amqp = Amqp::over(socket)?;
    amqp.select()?;
    Ok(Window::new(Channel { amqp, queue }))
}

impl Publisher for Window<Channel> {
    fn send(&mut self, number: u64, body: &str) -> anyhow::Result<()> {
        self.push(number);
        let Channel { amqp, queue } = &mut self.connection;
        amqp.send(queue, body.as_bytes())
    }

    fn confirmed(&mut self) -> anyhow::Result<Vec<u64>> {
        let (tag, all) = self.connection.amqp.acked()?;
        self.settle(tag, all)
    }
}

fn amqp_in(socket: Socket, queue: &str) -> anyhow::Result<Amqp> {
    let mut connection = Amqp::over(socket)?;
    connection.subscribe(queue, 50)?;
    Ok(connection)
}

impl Consumer for Amqp {
    fn step(&mut self, track: &Track) -> anyhow::Result<()> {
        let (tag, redelivered, body) = self.message()?;
        track.received(&body, redelivered, None);
        self.ack(tag)
    }
}

fn stomp_out(socket: Socket, _: SocketAddr) -> anyhow::Result<Window<Stomp>> {
    Ok(Window::new(Stomp::over(socket)?))
}

impl Publisher for Window<Stomp> {
    fn send(&mut self, number: u64, body: &str) -> anyhow::Result<()> {
        let receipt = self.push(number);
        self.connection.send(DESTINATION, receipt, body)
    }

    fn confirmed(&mut self) -> anyhow::Result<Vec<u64>> {
        let receipt = self.connection.acked()?;
        self.settle(receipt, false)
    }
}

fn stomp_in(socket: Socket, _: SocketAddr) -> anyhow::Result<Stomp> {
    let mut connection = Stomp::over(socket)?;
    connection.subscribe(DESTINATION)?;
    Ok(connection)
}

impl Consumer for Stomp {
    fn step(&mut self, track: &Track) -> anyhow::Result<()> {
        let (id, redelivered, body) = self.message()?;
        track.received(&body, redelivered, None);
        self.ack(&id)
    }
}

/// A connection to SQS and the URL of the queue, whichever node's name is in it.
struct Queue {
    aws: Aws,
    url: String,
}

fn sqs_out(socket: Socket, address: SocketAddr, url: &str) -> anyhow::Result<Window<Queue>> {
    Ok(Window::new(sqs_in(socket, address, url)?))
}

impl Publisher for Window<Queue> {
    fn send(&mut self, number: u64, body: &str) -> anyhow::Result<()> {
        let ask = json!({
            "QueueUrl": self.connection.url,
            "MessageBody": body,
            "MessageGroupId": (number % GROUPS).to_string(),
            "MessageDeduplicationId": number.to_string(),
        });
        let ask = ask.to_string();
        self.connection.aws.call("SendMessage", ask.as_bytes())?;
        self.push(number);
        Ok(())
    }

    /// The answer of the call has confirmed it.
    fn confirmed(&mut self) -> anyhow::Result<Vec<u64>> {
        Ok(self.sent.drain(..).map(|(_, number)| number).collect())
    }
}

fn sqs_in(socket: Socket, address: SocketAddr, url: &str) -> anyhow::Result<Queue> {
    Ok(Queue {
        aws: Aws::over(socket, address, SQS)?,
        url: url.to_owned(),
    })
}

impl Consumer for Queue {
    fn step(&mut self, track: &Track) -> anyhow::Result<()> {
        let ask = json!({
            "QueueUrl": self.url,
            "MaxNumberOfMessages": 10,
            "AttributeNames": ["ApproximateReceiveCount"],
        });
        let answer = self
            .aws
            .call("ReceiveMessage", ask.to_string().as_bytes())?;
        let Some(messages) = answer["Messages"]
            .as_array()
            .filter(|some| !some.is_empty())
        else {
            std::thread::sleep(REST);
            return Ok(());
        };
        let mut receipts = Vec::new();
        for message in messages {
            let text = |name: &str| message[name].as_str().context("a message has all of it");
            let count = message["Attributes"]["ApproximateReceiveCount"].as_str();
            let again = count.context("a message counts its receives")? != "1";
            let copy = text("MessageId")?.to_owned();
            let receipt = track.received(text("Body")?.as_bytes(), again, Some(copy));
            receipts.push((receipt, text("ReceiptHandle")?));
        }
        for (receipt, handle) in receipts {
            let ask = json!({"QueueUrl": self.url, "ReceiptHandle": handle}).to_string();
            self.aws.call("DeleteMessage", ask.as_bytes())?;
            if let Some(receipt) = receipt {
                track.removed(receipt);
            }
        }
        Ok(())
    }
}
