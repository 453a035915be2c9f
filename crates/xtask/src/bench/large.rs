//! What takes minutes and gigabytes: many idle connections, millions of subscriptions, and what a flood on one connection does
//! to the others. A full queue is measured by `xtask memory` and `xtask restart`.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::load::{amqp::Amqp, mqtt::Mqtt, server::Server};

/// Connections that say nothing. A process may usually have 20,000 descriptors, and the broker keeps some back for its files.
const IDLE: u64 = 18_900;
/// Clients that subscribe, each to all topics: ten million subscriptions.
const CLIENTS: u64 = 100;
const TOPICS: u64 = 100_000;
/// Publishes under way in the measurements of matching.
const BURST: u64 = 20;
/// What a flood on one connection may make of the slowest hundredth of what others do.
const FAIR: Duration = Duration::from_millis(5);

type Run = fn(&Path, u64, &[&str]) -> anyhow::Result<()>;

const ALL: &[(&str, Run)] = &[
    ("idle", idle),
    ("subscriptions", subscriptions),
    ("fairness", fairness),
];

/// Runs those, or `all`; the seconds are how long a single figure takes, where it is one of time.
pub(super) fn run(arguments: &super::Arguments) -> anyhow::Result<()> {
    let names = &arguments.large;
    let settings: Vec<&str> = arguments.set.iter().map(String::as_str).collect();
    let known = |name: &String| name == "all" || ALL.iter().any(|(known, _)| known == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        bail!("nothing large is known as {name}");
    }
    for (name, run) in ALL {
        if names.iter().any(|asked| asked == "all" || asked == name) {
            run(&arguments.data, arguments.seconds, &settings)?;
        }
    }
    Ok(())
}

/// So many MQTT connections, without and with a subscription each: resident memory, of a server of its own, as a second crowd
/// would lie where the first one lay.
fn idle(data: &Path, _: u64, settings: &[&str]) -> anyhow::Result<()> {
    for subscribed in [false, true] {
        let server = Server::fresh(data, settings)?;
        // What the first one needs for all is not counted.
        drop(connection(server.mqtt, "first", subscribed)?);
        let before = server.rss()?;
        let began = Instant::now();
        let mut crowd = Vec::new();
        for number in 0..IDLE {
            let client = connection(server.mqtt, &format!("idle-{number}"), subscribed);
            crowd.push(client.with_context(|| format!("of {IDLE} connections {number} came"))?);
        }
        let took = began.elapsed().as_secs_f64();
        let each = server.rss()?.saturating_sub(before) as f64 / IDLE as f64;
        let with = if subscribed {
            "one subscription each"
        } else {
            "no subscription"
        };
        println!(
            "{IDLE} idle MQTT connections, {with}: {:.2} KiB each, {:.0} connected a second",
            each / 1024.0,
            IDLE as f64 / took
        );
    }
    Ok(())
}

fn connection(address: SocketAddr, id: &str, subscribed: bool) -> anyhow::Result<TcpStream> {
    let mut client = Mqtt::connect(address, id, false)?;
    if subscribed {
        client.subscribe(&format!("idle/{id}"), 0)?;
    }
    Ok(client.into_stream())
}

/// Ten million subscriptions: their memory, and what it takes to find the hundred that a topic has among them.
fn subscriptions(data: &Path, seconds: u64, settings: &[&str]) -> anyhow::Result<()> {
    // Each client has one more than the default allows.
    let settings = [&["limits.subscriptions_max=200000"], settings].concat();
    let server = Server::fresh(data, &settings)?;
    let mut crowd = Crowd::new(server.mqtt)?;
    for client in &mut crowd.clients {
        client.subscribe("alone", 0)?;
    }
    let alone = ["alone".to_owned()];
    crowd.row(&server, "100 subscriptions, one topic", &alone, seconds)?;
    let topics: Vec<String> = (0..TOPICS)
        .map(|number| format!("site/{}/room/{}/state", number / 500, number % 500))
        .collect();
    let (before, began) = (server.rss()?, Instant::now());
    for client in &mut crowd.clients {
        client.subscribe_all(&topics)?;
    }
    let (took, all) = (began.elapsed().as_secs_f64(), CLIENTS * TOPICS);
    let each = server.rss()?.saturating_sub(before) as f64 / all as f64;
    println!(
        "{all} subscriptions to {TOPICS} topics: {each:.1} bytes of memory each, {:.0} made a second",
        all as f64 / took
    );
    let one = crowd.row(&server, "beside them, one topic", &alone, seconds)?;
    let apart = crowd.row(&server, "beside them, the 100,000 topics", &topics, seconds)?;
    // The match alone is timed by `cargo run --release -p broker --example steps 200000 100000`.
    println!(
        "topics far apart instead of one: {:.1} us of CPU a publish, for the match, what it finds cold, and another name",
        apart - one
    );
    Ok(())
}

/// Subscribers of everything that is published here, and their publisher.
struct Crowd {
    clients: Vec<Mqtt>,
    publisher: Mqtt,
    /// How many were published.
    sent: u64,
}

impl Crowd {
    fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let clients =
            (0..CLIENTS).map(|number| Mqtt::connect(address, &format!("crowd-{number}"), false));
        Ok(Self {
            clients: clients.collect::<anyhow::Result<_>>()?,
            publisher: Mqtt::connect(address, "publisher", false)?,
            sent: 0,
        })
    }

    /// Publishes so many, to topics far apart, and receives each of them from each client.
    fn exchange(&mut self, topics: &[String], count: u64) -> anyhow::Result<()> {
        let mut packets = Vec::new();
        for _ in 0..count {
            // A step that has no divisor in common with the number of topics visits them all.
            let topic = &topics[(self.sent * 7_919 % topics.len() as u64) as usize];
            packets.extend_from_slice(&[0x30, (2 + topic.len() + 16) as u8, 0, topic.len() as u8]);
            packets.extend_from_slice(topic.as_bytes());
            packets.extend_from_slice(&[b'.'; 16]);
            self.sent += 1;
        }
        self.publisher.say(&packets)?;
        for client in &mut self.clients {
            for _ in 0..count {
                client.plain()?;
            }
        }
        Ok(())
    }

    /// Prints what a publish costs in bursts, which comes back, and how long it takes alone to its last subscriber.
    fn row(
        &mut self,
        server: &Server,
        name: &str,
        topics: &[String],
        seconds: u64,
    ) -> anyhow::Result<f64> {
        let limit = Duration::from_secs(seconds.max(1));
        let (mut published, began, cpu) = (0, Instant::now(), server.cpu_us()?);
        while began.elapsed() < limit {
            self.exchange(topics, BURST)?;
            published += BURST;
        }
        let rate = published as f64 / began.elapsed().as_secs_f64();
        let cpu = (server.cpu_us()? - cpu) as f64 / published as f64;
        let (mut waits, began) = (Vec::new(), Instant::now());
        while began.elapsed() < limit {
            let sent = Instant::now();
            self.exchange(topics, 1)?;
            waits.push(sent.elapsed());
        }
        let [half, most] = shares(&mut waits)?;
        println!(
            "{name}: {cpu:.1} us of CPU a publish to {CLIENTS} subscribers, {rate:.0} a second; \
             alone it is with all of them after {half:.0?}, 99 % after {most:.0?}"
        );
        Ok(cpu)
    }
}

/// The middle one, and that which a hundredth is above.
fn shares(waits: &mut [Duration]) -> anyhow::Result<[Duration; 2]> {
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len() * percent / 100).copied();
    Ok([
        at(50).context("nothing was measured")?,
        at(99).context("nothing was measured")?,
    ])
}

/// One connection sends as fast as it can; what others do is held to 5 ms in 99 of 100 cases.
fn fairness(data: &Path, seconds: u64, settings: &[&str]) -> anyhow::Result<()> {
    let server = Server::fresh(data, settings)?;
    Amqp::connect(server.amqp)?.declare("flooded")?;
    Amqp::connect(server.amqp)?.declare("calm")?;
    println!(
        "| flood | flooded a second | MQTT QoS 0 there and back, p50, p99 | AMQP persistent to its confirmation, p50, p99 |\n|---|---|---|---|"
    );
    let mut slow = Vec::new();
    for kind in [None, Some(Kind::Qos0), Some(Kind::Persistent)] {
        let flood = kind.map(|kind| Flood::start(&server, kind)).transpose()?;
        // What is in buffers when it begins is not what it does for long.
        std::thread::sleep(Duration::from_millis(500));
        let before = flood.as_ref().map(|flood| flood.sent.load(Relaxed));
        let began = Instant::now();
        let trips = shares(&mut round_trips(&server, seconds)?)?;
        let confirms = shares(&mut confirmations(&server, seconds)?)?;
        let rate = match (&flood, before) {
            (Some(flood), Some(before)) => {
                (flood.sent.load(Relaxed) - before) as f64 / began.elapsed().as_secs_f64()
            }
            _ => 0.0,
        };
        let name = match kind {
            None => "none",
            Some(Kind::Qos0) => "MQTT QoS 0, 16 B, unconfirmed",
            Some(Kind::Persistent) => "AMQP, 1 KiB persistent, unconfirmed",
        };
        println!(
            "| {name} | {rate:.0} | {:.2?}, {:.2?} | {:.2?}, {:.2?} |",
            trips[0], trips[1], confirms[0], confirms[1]
        );
        if trips[1].max(confirms[1]) >= FAIR {
            slow.push(name);
        }
        if let Some(flood) = flood {
            flood.end()?;
        }
    }
    ensure!(
        slow.is_empty(),
        "the slowest hundredth took {FAIR:?} or more beside: {}",
        slow.join("; ")
    );
    Ok(())
}

fn round_trips(server: &Server, seconds: u64) -> anyhow::Result<Vec<Duration>> {
    let mut client = Mqtt::connect(server.mqtt, "calm", false)?;
    client.subscribe("calm", 0)?;
    let packet = b"\x30\x0a\x00\x04calmbody";
    timed(seconds, || client.echo(packet))
}

fn confirmations(server: &Server, seconds: u64) -> anyhow::Result<Vec<Duration>> {
    let mut client = Amqp::connect(server.amqp)?;
    client.select()?;
    timed(seconds, || {
        client.send("calm", &[b'.'; 1024])?;
        client.acked().map(drop)
    })
}

/// About a hundred times a second, as someone does who is not a flood.
fn timed(
    seconds: u64,
    mut act: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Duration>> {
    let (began, mut waits) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(seconds) {
        let sent = Instant::now();
        act()?;
        waits.push(sent.elapsed());
        std::thread::sleep(Duration::from_millis(10).saturating_sub(sent.elapsed()));
    }
    Ok(waits)
}

#[derive(Clone, Copy)]
enum Kind {
    /// To one subscriber that reads.
    Qos0,
    /// To a queue without a consumer, without confirms.
    Persistent,
}

/// One connection that sends without waiting for anything but its socket.
struct Flood {
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<anyhow::Result<()>>,
}

impl Flood {
    fn start(server: &Server, kind: Kind) -> anyhow::Result<Self> {
        let (ends, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (end, count) = (Arc::clone(&ends), Arc::clone(&sent));
        let sender = match kind {
            Kind::Qos0 => {
                let mut subscriber = Mqtt::connect(server.mqtt, "flooded", false)?;
                subscriber.subscribe("flood", 0)?;
                // Ends when its connection does, which is taken over then.
                std::thread::Builder::new().spawn(move || while subscriber.plain().is_ok() {})?;
                let mut flood = Mqtt::connect(server.mqtt, "flood", false)?;
                let burst = b"\x30\x17\x00\x05flood0123456789abcdef".repeat(256);
                std::thread::Builder::new().spawn(move || {
                    while !end.load(Relaxed) {
                        flood.say(&burst)?;
                        count.fetch_add(256, Relaxed);
                    }
                    Ok(())
                })?
            }
            Kind::Persistent => {
                let mut flood = Amqp::connect(server.amqp)?;
                std::thread::Builder::new().spawn(move || {
                    while !end.load(Relaxed) {
                        flood.send("flooded", &[b'.'; 1024])?;
                        count.fetch_add(1, Relaxed);
                    }
                    Ok(())
                })?
            }
        };
        Ok(Self { ends, sent, sender })
    }

    fn end(self) -> anyhow::Result<()> {
        self.ends.store(true, Relaxed);
        self.sender.join().expect("a flood returns its errors")
    }
}
