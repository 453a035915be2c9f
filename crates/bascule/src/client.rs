//! `bascule pub` and `bascule sub`: one small client for each protocol, for trying things and for scripts; and, over HTTP,
//! `bascule status` and `bascule switchover` (`operate.rs`).
//!
//! Blocking sockets and the protocol crates' own codecs. A publish is over when the broker has confirmed it; what the broker
//! refuses is told in its words. Deliberately absent: TLS, reconnecting, several subscriptions.
//!
//! | URL | what the path names |
//! |---|---|
//! | `mqtt://host/TOPIC` | a topic or filter: `sensors/+/temp`, `$queue/jobs` |
//! | `amqp://host/NAME`, `/queue/NAME` | a queue; `sub` declares it when there is none |
//! | `amqp://host/topic/KEY`, `/exchange/NAME/KEY` | a key on `amq.topic`, a key on an exchange |
//! | `stomp://host/queue/NAME`, `/topic/KEY`, ... | the destination |

mod amqp;
mod http;
mod mqtt;
mod operate;
mod stomp;
mod transport;
mod url;

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};

#[cfg(test)]
pub(crate) use self::http::Endpoint;
pub(crate) use self::operate::{StatusArgs, SwitchoverArgs, status, switchover};
use self::{
    transport::{TimedOut, Transport},
    url::{Scheme, Url},
};
use crate::failure::Failure;

/// Most publishes that wait for their confirmations together.
const WINDOW: u64 = 100;
/// How long a publisher waits for the broker's next word.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `bascule pub` is told.
#[derive(Debug, Args)]
pub(crate) struct PubArgs {
    /// Where to: mqtt://user:password@host:port/topic, amqp://host/queue, stomp://host/topic/key. Login and port may be left out.
    #[arg(short, long)]
    url: Url,
    /// The body. Without -m and -f it is read from stdin.
    #[arg(short, long, conflicts_with = "file")]
    message: Option<String>,
    /// A file that holds the body.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// How many times.
    #[arg(short = 'n', long, default_value_t = 1)]
    count: u64,
    /// Keep it for later subscribers of the topic.
    #[arg(short, long)]
    retain: bool,
    /// 0: unconfirmed and not durable; 1 and 2: durable and confirmed.
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// A property. May be repeated. content-type, correlation-id and reply-to are the protocol's own.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse_property)]
    property: Vec<(String, String)>,
    /// AMQP: declare the queue, durable, when there is none. STOMP makes queues by itself; publishing over MQTT makes none.
    #[arg(long)]
    declare: bool,
}

/// What `bascule sub` is told.
#[derive(Debug, Args)]
pub(crate) struct SubArgs {
    /// Where from: mqtt://user:password@host:port/filter, amqp://host/queue, stomp://host/topic/key. Login and port may be left out.
    #[arg(short, long)]
    url: Url,
    /// End after so many messages.
    #[arg(short = 'n', long)]
    count: Option<u64>,
    /// End after so many seconds; with --count that is a failure.
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Before each body a line with where it was published and its properties; says on stderr when subscribed.
    #[arg(short, long)]
    verbose: bool,
    /// MQTT: the highest quality of service.
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// What becomes of a message that was printed.
    #[arg(short, long, value_enum, default_value_t = Ack::Accept)]
    ack: Ack,
}

/// What becomes of a message that was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ack {
    /// It is done.
    Accept,
    /// The broker counts it as done when it sends it, printed or not.
    None,
    /// It goes back (AMQP, STOMP).
    Release,
    /// It is refused: dead-lettered, or dropped.
    Reject,
}

/// What is published.
#[derive(Debug)]
struct Outgoing {
    body: Bytes,
    qos: u8,
    retain: bool,
    properties: Vec<(String, String)>,
}

/// What arrived.
#[derive(Debug)]
struct Received {
    source: String,
    properties: Vec<(String, String)>,
    body: Bytes,
}

/// One connection that has logged in.
trait Client {
    /// Publishes so many copies and waits for their confirmations. `false`: nothing took the message.
    fn publish(&mut self, message: &Outgoing, copies: u64) -> anyhow::Result<bool>;
    /// Starts the one subscription.
    fn subscribe(&mut self, ack: Ack, qos: u8) -> anyhow::Result<()>;
    /// Waits for the next message.
    fn next(&mut self) -> anyhow::Result<Received>;
    /// Settles the message that `next` gave. After the `last` one no more are wanted.
    fn settle(&mut self, last: bool) -> anyhow::Result<()>;
    /// Says goodbye, so that everything before it counts.
    fn close(&mut self) -> anyhow::Result<()>;
}

/// `declare`: an AMQP queue is made when there is none.
fn connect(url: &Url, declare: bool, deadline: Option<Instant>) -> anyhow::Result<Box<dyn Client>> {
    let transport = Transport::connect(&url.host, url.port, deadline)?;
    Ok(match url.scheme {
        Scheme::Mqtt => Box::new(mqtt::MqttClient::open(transport, url)?),
        Scheme::Amqp => Box::new(amqp::AmqpClient::open(transport, url, declare)?),
        Scheme::Stomp => Box::new(stomp::StompClient::open(transport, url)?),
    })
}

/// Logs in, for tests of doors.
#[cfg(test)]
pub(crate) fn log_in(url: &str) -> anyhow::Result<()> {
    let url = url.parse().map_err(|fault: String| anyhow!(fault))?;
    connect(&url, false, None).map(drop)
}

/// `bascule pub`.
pub(crate) fn publish(args: PubArgs) -> Result<(), Failure> {
    let body = read_body(&args).map_err(Failure::setup)?;
    run_publish(args, body).map_err(Failure::work)
}

fn run_publish(args: PubArgs, body: Bytes) -> anyhow::Result<()> {
    let mut client = connect(&args.url, args.declare, None)?;
    let message = Outgoing {
        body,
        qos: args.qos,
        retain: args.retain,
        properties: args.property,
    };
    let mut left = args.count;
    let mut unmatched = false;
    while left > 0 {
        let copies = left.min(WINDOW);
        unmatched |= !client.publish(&message, copies)?;
        left -= copies;
    }
    client.close()?;
    if unmatched && !args.retain {
        eprintln!("bascule: published, but nobody is subscribed and no queue took it");
    }
    Ok(())
}

fn read_body(args: &PubArgs) -> anyhow::Result<Bytes> {
    if let Some(message) = &args.message {
        return Ok(Bytes::copy_from_slice(message.as_bytes()));
    }
    if let Some(file) = &args.file {
        let body = std::fs::read(file)
            .with_context(|| format!("failed to read the body from {}", file.display()))?;
        return Ok(body.into());
    }
    if io::stdin().is_terminal() {
        bail!("give the body with -m or -f, or pipe it in");
    }
    let mut body = Vec::new();
    io::stdin()
        .read_to_end(&mut body)
        .context("failed to read the body from stdin")?;
    Ok(body.into())
}

/// `bascule sub`.
pub(crate) fn subscribe(args: &SubArgs) -> Result<(), Failure> {
    let deadline = args
        .timeout
        .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    run_subscribe(args, deadline).map_err(Failure::work)
}

fn run_subscribe(args: &SubArgs, deadline: Option<Instant>) -> anyhow::Result<()> {
    let mut client = connect(&args.url, true, deadline)?;
    client.subscribe(args.ack, args.qos)?;
    if args.verbose {
        eprintln!("subscribed");
    }
    let mut printed = 0;
    while args.count.is_none_or(|count| printed < count) {
        let received = match client.next() {
            Err(error) if error.is::<TimedOut>() => match args.count {
                Some(count) => {
                    return Err(anyhow!("{printed} of {count} messages came in time"));
                }
                None => break,
            },
            other => other?,
        };
        print(&received, args.verbose)?;
        printed += 1;
        client.settle(args.count == Some(printed))?;
    }
    client.close()
}

fn print(received: &Received, verbose: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if verbose {
        write!(out, "# {}", received.source)?;
        for (name, value) in &received.properties {
            write!(out, " {name}={value:?}")?;
        }
        writeln!(out)?;
    }
    out.write_all(&received.body)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a property is NAME=VALUE".to_owned()),
    }
}
