//! What attacks cost a client in order: its round trips with and without each, and the server's memory.
//!
//! A person reads this; nothing is asserted about time. The tests that count and assert are in `tests/attacks.rs`. The rates of
//! accepting do not apply, since loopback is exempt: this is the raw cost.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::load::{mqtt::Mqtt, server::Server};

/// Runs every attack for so many seconds.
pub(crate) fn hostile(data: &Path, strangers: usize, seconds: u64) -> anyhow::Result<()> {
    let server = Server::fresh(data, &["limits.login_timeout_ms=600000"])?;
    let time = Duration::from_secs(seconds);
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>9}",
        "attack", "p50 us", "p99 us", "rss MiB", "attacks"
    );
    let row = |name: &str, count: u64| -> anyhow::Result<()> {
        let (half, most) = round_trips(server.mqtt, time)?;
        let rss = server.rss()? >> 20;
        println!("{name:<44} {half:>9} {most:>9} {rss:>9} {count:>9}");
        Ok(())
    };
    row("none", 0)?;
    {
        let crowd = crowd(&server, strangers);
        row("strangers with half a login of 4 KiB", crowd.len() as u64)?;
    }
    for (name, address, bytes) in [
        ("connect and go", server.mqtt, &b""[..]),
        (
            "wrong passwords",
            server.stomp,
            b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:wrong\n\n\0",
        ),
        ("garbage", server.amqp, b"garbage, and then some more"),
        ("10,000 headers", server.stomp, &headers()),
        (
            "metrics",
            server.http,
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ),
    ] {
        let flood = Flood::start(address, bytes.to_vec());
        row(name, 0)?;
        println!("{:<44} {:>39}", "", format!("{} connections", flood.end()));
    }
    let deaf = deaf(server.mqtt, 100)?;
    row("100 readers that never read", deaf.len() as u64)?;
    drop(deaf);
    row("none, afterwards", 0)
}

/// A client that hears itself at QoS 0: the middle and the hundredth slowest of its round trips, in microseconds.
fn round_trips(address: SocketAddr, time: Duration) -> anyhow::Result<(u64, u64)> {
    let mut client = Mqtt::connect(address, "good", false)?;
    client.subscribe("good", 0)?;
    let packet = b"\x30\x0a\x00\x04goodbody";
    let mut trips = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time {
        let sent = Instant::now();
        client.echo(packet)?;
        trips.push(sent.elapsed().as_micros() as u64);
    }
    trips.sort_unstable();
    let at = |share: usize| trips.get(trips.len() * share / 100).copied();
    Ok((
        at(50).context("it was answered")?,
        at(99).context("it was answered")?,
    ))
}

/// Connections that hold the start of a login and say no more.
fn crowd(server: &Server, count: usize) -> Vec<TcpStream> {
    let start = [
        &b"\x10\xff\x3f\x00\x04MQTT\x05\xc2\x00\x00\x00\x0f\xa0"[..],
        &[b'x'; 4_000],
    ]
    .concat();
    let mut crowd = Vec::new();
    for _ in 0..count {
        let Ok(mut stream) = TcpStream::connect(server.mqtt) else {
            println!(
                "only {} strangers: too few descriptors (ulimit -n)",
                crowd.len()
            );
            break;
        };
        let _ = stream.write_all(&start);
        crowd.push(stream);
    }
    crowd
}

fn headers() -> Vec<u8> {
    let lines: String = (0..10_000).map(|number| format!("h{number}:x\n")).collect();
    format!("CONNECT\n{lines}\n\0").into_bytes()
}

/// Subscribers with much to read.
fn deaf(address: SocketAddr, count: usize) -> anyhow::Result<Vec<Mqtt>> {
    let mut deaf = Vec::new();
    for number in 0..count {
        let mut client = Mqtt::connect(address, &format!("deaf-{number}"), false)?;
        client.subscribe("loud", 0)?;
        deaf.push(client);
    }
    let mut loud = Mqtt::connect(address, "loud", false)?;
    let mut packet = b"\x30\x86\x80\x04\x00\x04loud".to_vec();
    packet.resize(packet.len() + 65_536, b'x');
    for _ in 0..200 {
        loud.say(&packet)?;
    }
    Ok(deaf)
}

/// Two threads that dial, say something, and read to the end.
struct Flood {
    ends: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Flood {
    fn start(address: SocketAddr, bytes: Vec<u8>) -> Self {
        let (ends, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let threads = (0..2)
            .map(|_| {
                let (ends, count, bytes) = (Arc::clone(&ends), Arc::clone(&count), bytes.clone());
                thread::spawn(move || {
                    while !ends.load(Relaxed) {
                        let Ok(mut stream) = TcpStream::connect(address) else {
                            continue;
                        };
                        let _ = stream.write_all(&bytes);
                        if !bytes.is_empty() {
                            let _ = stream.read_to_end(&mut Vec::new());
                        }
                        count.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        Self {
            ends,
            count,
            threads,
        }
    }

    fn end(self) -> u64 {
        self.ends.store(true, Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        self.count.load(Relaxed)
    }
}
