//! The clients: of each protocol one that publishes and one that consumes, for as long as it takes.
//!
//! They know both addresses and nothing of the pair. Whatever goes wrong, or does not go on, ends the connection, and the next
//! one is made at the other address.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::json;

use super::{history::Track, nodes::Doors};
use crate::load::{
    Socket,
    amqp::Amqp,
    aws::{Aws, SQS},
    mqtt::Mqtt,
    stomp::Stomp,
};

/// Messages that a publisher sends before it waits for their confirmations, and how long it rests then.
const BURST: usize = 8;
const REST: Duration = Duration::from_millis(20);
/// Messages by which a publisher may be ahead of its consumer.
const AHEAD_MAX: u64 = 2_000;
/// Between two connections.
const BACK_OFF: Duration = Duration::from_millis(4);
/// Groups of the FIFO queue, and for how long a message is out to a receiver that does not come back.
const GROUPS: u64 = 5;
const VISIBILITY_S: &str = "5";

const TOPIC: &str = "chaos/mqtt";
const QUEUE: &str = "chaos-amqp";
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

/// All clients and what they have seen.
pub(crate) struct Clients {
    pub(crate) tracks: Vec<Arc<Track>>,
    phase: Arc<AtomicU8>,
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
    addresses: [SocketAddr; 2],
    patience: Duration,
}

impl Clients {
    /// Makes what they need on the active node, then starts them. `patience`: how long a client waits for anything.
    pub(crate) fn start(
        active: &Doors,
        both: [&Doors; 2],
        patience: Duration,
    ) -> anyhow::Result<Self> {
        Mqtt::connect(active.mqtt, SUBSCRIBER, true)?.subscribe(TOPIC, 1)?;
        Amqp::connect(active.amqp)?.declare(QUEUE)?;
        let attributes = json!({"FifoQueue": "true", "VisibilityTimeout": VISIBILITY_S});
        let ask = json!({"QueueName": FIFO, "Attributes": attributes}).to_string();
        let made = Aws::connect(active.aws, SQS)?.call("CreateQueue", ask.as_bytes())?;
        let url = made["QueueUrl"].as_str().context("a queue has a URL")?;
        let mut clients = Self {
            tracks: Vec::new(),
            phase: Arc::new(AtomicU8::new(Phase::Run as u8)),
            threads: Vec::new(),
        };
        let addresses = both.map(|doors| doors.mqtt);
        clients.add("mqtt", 1, addresses, patience, mqtt_out, mqtt_in)?;
        let addresses = both.map(|doors| doors.amqp);
        clients.add("amqp", 1, addresses, patience, amqp_out, amqp_in)?;
        let addresses = both.map(|doors| doors.stomp);
        clients.add("stomp", 1, addresses, patience, stomp_out, stomp_in)?;
        let addresses = both.map(|doors| doors.aws);
        let (sends, receives) = (url.to_owned(), url.to_owned());
        clients.add(
            "sqs",
            GROUPS,
            addresses,
            patience,
            move |socket, address| sqs_out(socket, address, &sends),
            move |socket, address| sqs_in(socket, address, &receives),
        )?;
        Ok(clients)
    }

    fn add<P: Publisher, C: Consumer>(
        &mut self,
        name: &'static str,
        groups: u64,
        addresses: [SocketAddr; 2],
        patience: Duration,
        publisher: impl Fn(Socket, SocketAddr) -> anyhow::Result<P> + Send + 'static,
        consumer: impl Fn(Socket, SocketAddr) -> anyhow::Result<C> + Send + 'static,
    ) -> anyhow::Result<()> {
        let track = Arc::new(Track::new(name, groups));
        self.tracks.push(Arc::clone(&track));
        let task = Task {
            track,
            phase: Arc::clone(&self.phase),
            addresses,
            patience,
        };
        let other = task.clone();
        let thread = || std::thread::Builder::new();
        self.threads.push(thread().spawn(move || {
            other.again_and_again(|socket, address, began| {
                other.publish(publisher(socket, address)?, began)
            });
        })?);
        self.threads.push(thread().spawn(move || {
            task.again_and_again(|socket, address, _| {
                let mut connection = consumer(socket, address)?;
                while !task.is(Phase::End) {
                    connection.step(&task.track)?;
                }
                Ok(())
            });
        })?);
        Ok(())
    }

    fn turn(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// No new messages.
    pub(crate) fn drain(&self) {
        self.turn(Phase::Drain);
    }

    /// What is not settled in the queues that tell it.
    pub(crate) fn kept(active: &Doors) -> anyhow::Result<u64> {
        let mut kept = u64::from(Amqp::connect(active.amqp)?.declare(QUEUE)?);
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
                Err(error) => self.track.trouble(&error),
            }
            std::thread::sleep(BACK_OFF);
        }
    }

    fn publish(&self, mut connection: impl Publisher, began: Instant) -> anyhow::Result<()> {
        while !self.is(Phase::End) {
            let drains = self.is(Phase::Drain);
            let more = !drains && self.track.outstanding() < AHEAD_MAX;
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
    Ok(Window::new(Mqtt::over(socket, "chaos-pub", false)?))
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

fn amqp_out(socket: Socket, _: SocketAddr) -> anyhow::Result<Window<Amqp>> {
    let mut connection = Amqp::over(socket)?;
    connection.select()?;
    Ok(Window::new(connection))
}

impl Publisher for Window<Amqp> {
    fn send(&mut self, number: u64, body: &str) -> anyhow::Result<()> {
        self.push(number);
        self.connection.send(QUEUE, body.as_bytes())
    }

    fn confirmed(&mut self) -> anyhow::Result<Vec<u64>> {
        let (tag, all) = self.connection.acked()?;
        self.settle(tag, all)
    }
}

fn amqp_in(socket: Socket, _: SocketAddr) -> anyhow::Result<Amqp> {
    let mut connection = Amqp::over(socket)?;
    connection.subscribe(QUEUE, 50)?;
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
