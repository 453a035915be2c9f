//! The server in this process: the node without threads, its doors on loopback, and one turn of all of it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use aws::{Endpoint, EndpointConfig, Served as Service};
use journal::Vfs;
use net::{Limits, Listener, Server};
use node::{Clocks, Config, Host, Machine, Node, Steps};
use session::Port as _;
use tokio::runtime::Runtime;

use crate::{disk::Disk, meter};

/// How often the tasks of the runtime are polled in a turn before and after the journal's step: what is ready is taken in,
/// answered, and what that made ready is too.
const POLLS: usize = 4;
/// Long enough for a whole run, so that none gets another segment in its middle.
const SEGMENT_LEN: u64 = 32 << 20;
/// The longest request of the AWS door, in bytes.
const REQUEST_LEN_MAX: usize = 15 << 20;

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) messages: u64,
    /// How often the server had a turn.
    pub(crate) turns: u64,
    pub(crate) allocations: u64,
    pub(crate) allocated_bytes: u64,
    pub(crate) copied_bytes: u64,
    pub(crate) durable_writes: u64,
    pub(crate) durable_bytes: u64,
}

/// This machine, with its durable writes counted, and a clock that goes on by a millisecond a turn.
struct Here {
    disk: Disk,
    began_ms: u64,
    turned: Arc<AtomicU64>,
}

impl Host for Here {
    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(self.disk.clone())
    }

    fn clocks(&self) -> Clocks {
        let boot_ms = self.turned.load(Relaxed);
        Clocks {
            boot_ms,
            wall_ms: self.began_ms + boot_ms,
        }
    }

    fn random(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        Machine.random(bytes)
    }
}

/// See the module.
pub(crate) struct Served {
    runtime: Runtime,
    steps: Steps,
    disk: Disk,
    data: PathBuf,
    pub(crate) mqtt: SocketAddr,
    pub(crate) amqp: SocketAddr,
    pub(crate) aws: SocketAddr,
    turned: Arc<AtomicU64>,
    turns: u64,
    counts: bool,
    /// Turns that are not counted as such are metered too.
    meters_all: bool,
}

impl Served {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let data = std::env::temp_dir().join(format!("bascule-counts-{}", std::process::id()));
        let disk = Disk::default();
        let config = Config {
            data_dir: data.clone(),
            journal: journal::Config {
                segment_len: SEGMENT_LEN,
                first_segment_len: SEGMENT_LEN,
                reserve_len: 0,
                ..journal::Config::default()
            },
            ..Config::default()
        };
        let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN])?;
        let turned = Arc::new(AtomicU64::new(1));
        let here = Arc::new(Here {
            disk: disk.clone(),
            began_ms: u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?,
            turned: Arc::clone(&turned),
        });
        let (node, steps) = Node::start_stepped(&config, Arc::new(users), here)?;
        let node = Arc::new(node);
        let server = Server::new(Arc::clone(&node) as _, Limits::default());
        let entered = runtime.enter();
        let bind = |name| Listener::bind(name, "127.0.0.1:0").context("failed to open a door");
        let [mqtt, amqp, aws] = [bind("mqtt")?, bind("amqp")?, bind("aws")?];
        let places = [mqtt.address(), amqp.address(), aws.address()];
        let kept = Arc::clone(&node) as _;
        let speaks = Arc::new(mqtt::Config::default());
        tokio::spawn(mqtt.serve(Arc::clone(&server), move |_| {
            mqtt::MqttSession::new(Arc::clone(&speaks), node.now()).through("mqtt")
        }));
        tokio::spawn(amqp.serve(Arc::clone(&server), |_| {
            amqp091::AmqpSession::new(amqp091::Config::default()).through("amqp")
        }));
        tokio::spawn(aws.serve_exchange(server, Arc::new(endpoint(kept))));
        drop(entered);
        let [mqtt, amqp, aws] = places;
        Ok(Self {
            runtime,
            steps,
            disk,
            data,
            mqtt,
            amqp,
            aws,
            turned,
            turns: 0,
            counts: false,
            meters_all: false,
        })
    }

    /// From here on turns are counted.
    pub(crate) fn count(&mut self) {
        self.counts = true;
    }

    /// From here on all that the server allocates and frees is metered.
    #[cfg(test)]
    pub(crate) fn meter_all(&mut self) {
        self.meters_all = true;
    }

    pub(crate) fn counts(&self) -> bool {
        self.counts
    }

    pub(crate) fn renew_lease(&mut self) {
        self.steps.renew_lease();
    }

    /// One turn of the server, uncounted.
    pub(crate) fn work(&mut self) {
        if self.meters_all {
            meter::start();
        }
        self.go();
        meter::stop();
    }

    /// The same, counted. Under callgrind, instructions are those of this function and what it calls.
    #[inline(never)]
    pub(crate) fn turn(&mut self) {
        meter::start();
        self.go();
        meter::stop();
        self.turns += 1;
    }

    fn go(&mut self) {
        self.turned.fetch_add(1, Relaxed);
        self.runtime.block_on(polls());
        while self.steps.verify() {}
        while matches!(self.steps.commit(), journal::Step::Committed(_)) {}
        self.steps.keep();
        while self.steps.read() {}
        self.runtime.block_on(polls());
    }

    /// Everything counted so far; `messages` is for the caller to say.
    pub(crate) fn reading(&self) -> Counted {
        let meter::Reading {
            allocations,
            allocated_bytes,
            copied_bytes,
        } = meter::read();
        Counted {
            messages: 0,
            turns: self.turns,
            allocations,
            allocated_bytes,
            copied_bytes,
            durable_writes: self.disk.written.writes.load(Relaxed),
            durable_bytes: self.disk.written.bytes.load(Relaxed),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.data).ok();
    }
}

fn endpoint(kept: Arc<dyn session::Kept>) -> Endpoint {
    let serve = |service, label| Service {
        service,
        label,
        body_len_max: REQUEST_LEN_MAX,
    };
    Endpoint::new(EndpointConfig {
        services: vec![
            serve(&sqs::SERVICE, "SQS"),
            serve(&kinesis::SERVICE, "Kinesis"),
        ],
        keys: vec![aws::Key {
            id: "guest".into(),
            secret: "guest".into(),
            user: "guest".into(),
            account: "000000000000".into(),
        }],
        any_user: "guest".into(),
        settings: Arc::new(aws::Settings {
            shard_limits: false,
            ..aws::Settings::default()
        }),
        seed: [7; 32],
        kept,
        unreadable: |_, _| {},
        version: "1.2.3",
        serves: Arc::new(|| true),
    })
}

async fn polls() {
    for _ in 0..POLLS {
        tokio::task::yield_now().await;
    }
}
