//! The workloads that are run against an address, whoever listens there: ours and other brokers get the same bytes.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::load::{Confirmed, Ledger, Socket, amqp::Amqp, mqtt::Mqtt, stomp::Stomp};

/// Subscribers of the fan-out.
pub(super) const SUBSCRIBERS: u64 = 100;
/// Pairs of a publisher and a consumer in the workloads of many.
pub(super) const MANY: u64 = 8;
/// Messages a second of the paced workload.
pub(super) const PACE: u64 = 2_000;
/// How long a client waits for the next bytes before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

fn patient(address: SocketAddr) -> anyhow::Result<Socket> {
    Socket::connect_within(address, PATIENCE)
}

/// Receives so many in a thread of its own; how far it has come is told to `counted`.
pub(crate) fn receiving(
    consumer: Mqtt,
    count: u64,
    counted: Option<Arc<Confirmed>>,
) -> std::io::Result<JoinHandle<anyhow::Result<Ledger>>> {
    std::thread::Builder::new().spawn(move || {
        let mut ledger = Ledger::default();
        let result = consumer.receive(count, &mut ledger, |received| {
            if let Some(counted) = &counted {
                counted.set(received);
            }
        });
        if let Some(counted) = &counted {
            counted.end(result.as_ref().err());
        }
        result.map(|()| ledger)
    })
}

/// `number` keeps the topics of several at once apart.
pub(crate) fn mqtt(
    address: SocketAddr,
    number: u64,
    count: u64,
    qos: u8,
    len: usize,
    window: u64,
    durable: bool,
) -> anyhow::Result<Ledger> {
    let kind = if durable { "durable" } else { "soft" };
    let topic = format!("bench/{kind}/{number}");
    let id = format!("bench-{kind}-{number}");
    if durable {
        // The last acknowledgements of the run before may not have been read: its session goes, with what is left in it.
        drop(Mqtt::over(patient(address)?, &id, false)?);
    }
    let mut consumer = Mqtt::over(patient(address)?, &id, durable)?;
    consumer.subscribe(&topic, qos)?;
    let confirmed = Arc::new(Confirmed::default());
    // At QoS 0 nothing confirms: the consumer's own count keeps the publisher from running away.
    let counted = (qos == 0).then(|| Arc::clone(&confirmed));
    let receiving = receiving(consumer, count, counted)?;
    Mqtt::over(
        patient(address)?,
        &format!("bench-publisher-{number}"),
        false,
    )?
    .publish(&topic, qos, count, len, window, &confirmed)?;
    receiving.join().expect("the consumer does not panic")
}

pub(super) fn fan_out(address: SocketAddr, count: u64) -> anyhow::Result<Ledger> {
    let confirmed = Arc::new(Confirmed::default());
    let mut threads = Vec::new();
    for number in 0..SUBSCRIBERS {
        let mut consumer = Mqtt::over(patient(address)?, &format!("bench-{number}"), false)?;
        consumer.subscribe("bench/fan-out", 0)?;
        // One of them, no faster than the others, keeps the publisher from running away.
        let counted = (number == 0).then(|| Arc::clone(&confirmed));
        threads.push(receiving(consumer, count, counted)?);
    }
    Mqtt::over(patient(address)?, "bench-publisher", false)?.publish(
        "bench/fan-out",
        0,
        count,
        16,
        500,
        &confirmed,
    )?;
    sum(threads)
}

fn sum(threads: Vec<JoinHandle<anyhow::Result<Ledger>>>) -> anyhow::Result<Ledger> {
    let (mut received, mut gaps, mut repeats) = (0, 0, 0);
    for thread in threads {
        let ledger = thread.join().expect("a consumer does not panic")?;
        received += ledger.received;
        gaps += ledger.gaps;
        repeats += ledger.repeats;
    }
    Ok(Ledger::counted(received, gaps, repeats))
}

/// The same `MANY` times at once, each for its share of the messages.
pub(super) fn many(
    count: u64,
    run: impl Fn(u64, u64) -> anyhow::Result<Ledger> + Clone + Send + 'static,
) -> anyhow::Result<Ledger> {
    let mut threads = Vec::new();
    for number in 0..MANY {
        let run = run.clone();
        let share = count / MANY + u64::from(number < count % MANY);
        threads.push(std::thread::Builder::new().spawn(move || run(number, share))?);
    }
    sum(threads)
}

/// `kind` is an `x-queue-type`; without one the queue is what the broker makes of a durable one.
pub(super) fn amqp(
    address: SocketAddr,
    kind: Option<&'static str>,
    number: u64,
    count: u64,
    window: u64,
) -> anyhow::Result<Ledger> {
    let queue = format!("bench-{}-{number}", kind.unwrap_or("plain"));
    let mut consumer = Amqp::over(patient(address)?)?;
    consumer.declare_as(&queue, kind)?;
    consumer.purge(&queue)?;
    let from = queue.clone();
    let receiving = std::thread::Builder::new().spawn(move || -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        consumer.consume(&from, count, 200, 1, &mut ledger, |_| {})?;
        Ok(ledger)
    })?;
    Amqp::over(patient(address)?)?.publish(
        &queue,
        0,
        count,
        1024,
        window,
        &Arc::new(Confirmed::default()),
    )?;
    receiving.join().expect("the consumer does not panic")
}

/// One message at a time: how long each waits for its confirmation. Nobody consumes.
pub(super) fn amqp_confirms(
    address: SocketAddr,
    kind: Option<&'static str>,
    count: u64,
) -> anyhow::Result<(Ledger, Vec<Duration>)> {
    let queue = format!("bench-{}-confirms", kind.unwrap_or("plain"));
    let mut publisher = Amqp::over(patient(address)?)?;
    publisher.declare_as(&queue, kind)?;
    publisher.purge(&queue)?;
    publisher.select()?;
    let mut waits = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        publisher.send(&queue, &[b'.'; 1024])?;
        publisher.acked()?;
        waits.push(began.elapsed());
    }
    Ok((Ledger::counted(count, 0, 0), waits))
}

/// `PACE` messages a second: how long each takes from its publisher to its consumer.
pub(super) fn amqp_paced(
    address: SocketAddr,
    kind: Option<&'static str>,
    count: u64,
) -> anyhow::Result<(Ledger, Vec<Duration>)> {
    let queue = format!("bench-{}-paced", kind.unwrap_or("plain"));
    let mut consumer = Amqp::over(patient(address)?)?;
    consumer.declare_as(&queue, kind)?;
    consumer.purge(&queue)?;
    consumer.subscribe(&queue, 200)?;
    let mut publisher = Amqp::over(patient(address)?)?;
    let base = Instant::now();
    let receiving =
        std::thread::Builder::new().spawn(move || -> anyhow::Result<(Ledger, Vec<Duration>)> {
            let (mut ledger, mut waits) = (Ledger::default(), Vec::new());
            while ledger.received < count {
                let (tag, _, body) = consumer.message()?;
                let sent = Duration::from_nanos(u64::from_be_bytes(body[12..20].try_into()?));
                waits.push(base.elapsed().saturating_sub(sent));
                ledger.see(&body);
                consumer.ack(tag)?;
            }
            // What was acknowledged last is handled before this is answered.
            consumer.declare_as(&queue, kind)?;
            Ok((ledger, waits))
        })?;
    let mut text = Vec::new();
    let queue = format!("bench-{}-paced", kind.unwrap_or("plain"));
    for sequence in 0..count {
        let due = Duration::from_micros(sequence * 1_000_000 / PACE);
        std::thread::sleep(due.saturating_sub(base.elapsed()));
        text.clear();
        crate::load::body(0, sequence, 1024, &mut text);
        text[12..20].copy_from_slice(&(base.elapsed().as_nanos() as u64).to_be_bytes());
        publisher.send(&queue, &text)?;
    }
    receiving.join().expect("the consumer does not panic")
}

pub(super) fn stomp(address: SocketAddr, number: u64, count: u64) -> anyhow::Result<Ledger> {
    let destination = format!("/queue/bench-stomp-{number}");
    let from = destination.clone();
    let consumer = Stomp::over(patient(address)?)?;
    let (ready, is_ready) = mpsc::channel();
    let receiving = std::thread::Builder::new().spawn(move || -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        consumer.receive(&from, count, &mut ledger, || {
            ready.send(()).ok();
        })?;
        Ok(ledger)
    })?;
    is_ready.recv()?;
    Stomp::over(patient(address)?)?.publish(
        &destination,
        count,
        1024,
        100,
        &Arc::new(Confirmed::default()),
    )?;
    receiving.join().expect("the consumer does not panic")
}
