//! `bascule serve`: composes node, listeners and protocols, takes them through the roles of a pair, and ends them in order.
//!
//! ```text
//! bind -> take the journal, or follow whoever has it -> serve -> table, "ready" (or "standby", and "ready" when it takes over)
//!      SIGHUP -> users, virtual hosts, rules and routes anew (`reload.rs`)
//!      SIGTERM, SIGINT -> drain -> node down -> exit 0       a second signal -> exit 1 at once
//!      the journal fails, or another node took over -> clients are sent away -> follow
//!      an end that takes too long, as a disk may hang -> exit 1
//! ```
//! Listeners are bound before the journal is opened: a port in use must not cost a takeover of oneself. What connects
//! meanwhile waits in the kernel. Once open, they stay open in every role.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::ToSocketAddrs as _,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use net::{Health, Http, Listener, Origins, Server};
use node::{Change, Node, Pair};
use session::{Gate, Port as _};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::JoinHandle,
};
use websocket::Protocol;

use crate::{
    cli::Sources,
    config::{Config, Place, loopback},
    deliver::Deliverer,
    descriptors,
    doors::{Doors, UPGRADE_PATHS},
    failure::Failure,
    gather::Gathering,
    log, pair,
    random::fill_random,
    reload::{Running, warn_of_passwords},
    routes, sys,
};

/// A thread looks at the sockets at least after so many tasks. A flood of small messages works for two milliseconds at a time, so with
/// the usual 61 of them connections that are never done would leave all others unheard for a tenth of a second. With three, a fan-out and
/// STOMP cost up to a twentieth more.
pub(crate) const POLLS_A_LOOK: u32 = 4;

/// What the drain may take; with the node's end behind it, an end in order takes less than five seconds.
const DRAIN_LIMIT: Duration = Duration::from_secs(4);
/// What the confirmation of what is in flight may take before another node goes on.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(1);
/// What an end in order may take, the drain included; then the process ends all the same.
const END_LIMIT: Duration = Duration::from_millis(4800);
/// How long connections have for writing out confirmations, once all that was in flight is durable.
const SETTLE: Duration = Duration::from_millis(50);
/// How often the journal is asked whether it has failed.
const FAILURE_CHECK: Duration = Duration::from_millis(100);

/// Serves until a signal comes. `accept_loss`: what is damaged in the journal is given up.
pub(crate) fn serve(sources: &Sources, accept_loss: bool) -> Result<(), Failure> {
    let mut config = Config::load(sources).map_err(Failure::setup)?;
    log::start(&config.log).map_err(Failure::setup)?;
    let wished = config.limits.connections_max;
    config.limits.connections_max = descriptors::connections_max(wished);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().event_interval(POLLS_A_LOOK);
    if config.threads > 0 {
        builder.worker_threads(config.threads);
    }
    let runtime = builder
        .build()
        .context("failed to start the threads")
        .map_err(Failure::setup)?;
    let result = runtime.block_on(run(&config, sources, wished, accept_loss));
    runtime.shutdown_background();
    result
}

/// `wished`: the connections that the configuration asks for; `config` has those that the system leaves room for.
async fn run(
    config: &Config,
    sources: &Sources,
    wished: u64,
    accept_loss: bool,
) -> Result<(), Failure> {
    let signals = Signals::new().map_err(Failure::setup)?;
    warn_of_passwords(config);
    let origins = Origins::from_list(&config.websocket.origins).expect("checked at the start");
    let mut key = [0u8; auth::KEY_LEN];
    fill_random(&mut key).map_err(Failure::setup)?;
    let users = auth::Users::new(&config.auth, key).map_err(Failure::setup)?;
    let listeners = bind(config).map_err(Failure::setup)?;
    let table = table(config, &listeners);
    let mut for_node = config.for_node();
    for_node.journal.accept_loss = accept_loss;
    let gate = for_node.gate.clone();
    let pair = Pair::new(
        for_node,
        Arc::new(users),
        pair::addresses(config, &listeners),
    );
    let server = Server::new(Arc::clone(&pair) as _, config.for_net());
    let mut seed = [0; 32];
    fill_random(&mut seed).map_err(Failure::setup)?;
    let asked = Arc::clone(&pair);
    let serves = Arc::new(move || asked.is_active());
    let doors = Doors::new(config, seed, Arc::clone(&pair) as _, serves);
    // What SIGHUP compares with is what was asked for, not what the system left room for.
    let mut asked = config.clone();
    asked.limits.connections_max = wished;
    let running = Running::new(sources, asked, doors.aws().clone());
    let mut life = Life {
        config,
        pair,
        gate,
        server,
        doors,
        running,
        signals,
        shut: Some(Shut {
            origins,
            listeners,
            table,
            wished,
        }),
        switchover: Arc::default(),
        served: false,
    };
    life.live().await
}

/// What is not open yet.
struct Shut {
    origins: Origins,
    listeners: Vec<Listener>,
    table: String,
    /// The connections that the configuration asks for.
    wished: u64,
}

/// The process through its roles.
struct Life<'a> {
    config: &'a Config,
    pair: Arc<Pair>,
    gate: Option<Arc<dyn Gate>>,
    server: Arc<Server>,
    doors: Doors,
    running: Running,
    signals: Signals,
    shut: Option<Shut>,
    /// An operator asks this node to let the other one go on.
    switchover: Arc<Notify>,
    /// It was the active node before: what fails now is no fault of the set-up.
    served: bool,
}

/// Why a node is not the active one any more.
enum Ended {
    /// A signal.
    Signal,
    /// It failed, or another one took over.
    Failed,
    /// An operator wishes the other one to go on.
    Switchover,
}

impl Life<'_> {
    async fn live(&mut self) -> Result<(), Failure> {
        loop {
            let Some(node) = self.become_active().await? else {
                let nothing = std::future::ready(());
                self.server.drain(nothing, DRAIN_LIMIT).await;
                tracing::info!("ended");
                return Ok(());
            };
            // One that is deposed before it serves would wait for its routes for ever.
            let tasks = tokio::select! {
                tasks = self.serve(&node) => tasks?,
                () = failure(&node) => Vec::new(),
            };
            let ended = self.active(&node).await;
            // The task that gathers ends with the others, whenever it has its turn.
            node.gather_by(None);
            for task in tasks {
                task.abort();
            }
            match ended {
                Ended::Signal => {
                    if self.pair.successor().is_some() {
                        self.hand_over(&node, "a signal").await;
                    }
                    self.end(&node).await;
                    return Ok(());
                }
                Ended::Failed => {
                    self.pair.retire(&node, false);
                    node.expel(None);
                }
                Ended::Switchover => {
                    node.hand_over();
                    self.hand_over(&node, "switchover").await;
                }
            }
            self.served = true;
            let ended = Arc::clone(&node);
            drop(node);
            if tokio::task::spawn_blocking(move || ended.shutdown())
                .await
                .is_err()
            {
                tracing::error!("the end of the node panicked");
            }
        }
    }

    /// Takes the journal, or follows until it is free. `None`: a signal came.
    async fn become_active(&mut self) -> Result<Option<Arc<Node>>, Failure> {
        let follows = Arc::new(Notify::new());
        let (pair, told) = (Arc::clone(&self.pair), Arc::clone(&follows));
        let mut change = tokio::task::spawn_blocking(move || pair.change(|| told.notify_one()));
        loop {
            tokio::select! {
                changed = &mut change => {
                    let changed = changed.expect("a change of roles does not panic");
                    return match changed {
                        Ok(Change::Active(node)) => Ok(Some(node)),
                        Ok(Change::Stopped) => Ok(None),
                        Err(error) if self.served => Err(Failure::work(error)),
                        Err(error) => Err(Failure::setup(error)),
                    };
                }
                () = follows.notified() => {
                    tracing::info!(data = %self.config.data.display(), "standby");
                    self.open("standby").map_err(Failure::work)?;
                }
                signal = self.signals.next() => match signal {
                    Some(name) => {
                        tracing::info!(signal = name, "ending");
                        self.pair.stop();
                        self.limit_end();
                    }
                    None => tokio::task::block_in_place(|| self.running.reload(&self.pair)),
                },
            }
        }
    }

    /// Lets clients in. What must end with the node's time as the active one comes back.
    async fn serve(&mut self, node: &Arc<Node>) -> Result<Vec<JoinHandle<()>>, Failure> {
        // Before anybody is served: a message that a route is for must not miss it.
        let routed = routes::put_in_force(node, self.running.config()).await;
        let routed = match routed {
            Ok(routed) => routed,
            Err(error) if self.shut.is_none() => {
                tracing::error!(error = format!("{error:#}"), "not all routes are in force");
                routes::Changed::default()
            }
            Err(error) => return Err(Failure::work(error)),
        };
        let mut tasks = Vec::new();
        let deliverer = Deliverer::open(
            Arc::clone(node) as _,
            self.gate.clone(),
            self.config.sns.clone(),
            Arc::clone(self.doors.signing()),
            Arc::clone(self.doors.sns_counters()),
        );
        if self.shut.is_some() {
            let deliverer = deliverer
                .await
                .context("failed to start the delivery to endpoints of SNS");
            tasks.push(tokio::spawn(deliverer.map_err(Failure::work)?.run()));
        } else {
            // A takeover waits for nothing that can come later.
            tasks.push(tokio::spawn(async move {
                match deliverer.await {
                    Ok(deliverer) => deliverer.run().await,
                    Err(error) => {
                        tracing::error!(%error, "failed to start the delivery to endpoints of SNS")
                    }
                }
            }));
        }
        if self.config.mqtt.sys_interval_s > 0
            && let Some(vhost) = self.config.auth.vhosts.first()
        {
            let every = Duration::from_secs(self.config.mqtt.sys_interval_s);
            let server = Arc::clone(&self.server);
            let told = sys::tell(every, vhost.clone(), Arc::clone(node), server);
            tasks.push(tokio::spawn(told));
        }
        tasks.push(tokio::spawn(Gathering::new(node).run()));
        self.pair.serve(node);
        self.open("ready").map_err(Failure::work)?;
        if routed != routes::Changed::default() {
            let (made, gone) = (routed.made, routed.gone);
            tracing::info!(
                routes = self.config.routes.len(),
                made,
                gone,
                "routes are in force"
            );
        }
        tracing::info!(data = %self.config.data.display(), epoch = node.epoch(), "serving");
        Ok(tasks)
    }

    /// Opens the doors, if they are not, and says on standard output what this process is.
    fn open(&mut self, word: &str) -> io::Result<()> {
        let mut table = String::new();
        if let Some(shut) = self.shut.take() {
            open(
                &self.doors,
                shut.origins,
                shut.listeners,
                &self.pair,
                &self.server,
                &self.switchover,
            );
            table = shut.table;
            let connections_max = self.config.limits.connections_max;
            if connections_max < shut.wished {
                tracing::info!(
                    wished = shut.wished,
                    connections_max,
                    "fewer connections are taken than limits.connections_max says: the process may not open more files (ulimit -n)"
                );
            }
        }
        announce(&table, word)
    }

    async fn active(&mut self, node: &Arc<Node>) -> Ended {
        loop {
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Some(name) => {
                        tracing::info!(signal = name, "ending");
                        return Ended::Signal;
                    }
                    None => tokio::task::block_in_place(|| self.running.reload(&self.pair)),
                },
                () = failure(node) => return Ended::Failed,
                () = self.switchover.notified() => return Ended::Switchover,
            }
        }
    }

    /// Lets the other node go on: what was handed in is confirmed, then clients are sent there.
    async fn hand_over(&self, node: &Arc<Node>, reason: &str) {
        let successor = self.pair.successor();
        tracing::info!(reason, "handing over to the standby");
        self.pair.retire(node, true);
        let settled = async {
            std::future::poll_fn(|cx| node.poll_settled(cx)).await;
            tokio::time::sleep(SETTLE).await;
        };
        let _ = tokio::time::timeout(HAND_OVER_LIMIT, settled).await;
        node.expel(successor.as_ref());
    }

    /// Ends all connections and the node.
    async fn end(&self, node: &Arc<Node>) {
        self.limit_end();
        let settled = async {
            std::future::poll_fn(|cx| node.poll_settled(cx)).await;
            tokio::time::sleep(SETTLE).await;
        };
        let drained = self.server.drain(settled, DRAIN_LIMIT).await;
        if drained.dropped > 0 {
            tracing::warn!(
                connections = drained.dropped,
                "dropped what did not end in time"
            );
        }
        node.shutdown();
        tracing::info!("ended");
    }

    /// What remains may take for ever: a disk can hang.
    fn limit_end(&self) {
        let Ok(mut signals) = Signals::new() else {
            return;
        };
        tokio::spawn(async move {
            let name = tokio::select! {
                name = signals.ending() => name,
                () = tokio::time::sleep(END_LIMIT) => "none: an end in order takes too long",
            };
            tracing::warn!(signal = name, "ending at once");
            std::process::exit(1);
        });
    }
}

fn bind(config: &Config) -> Result<Vec<Listener>, net::BindError> {
    let default_vhost = config.auth.vhosts.first().map_or("/", String::as_str);
    let mut listeners = Vec::new();
    for (name, endpoint) in config.listeners.by_name() {
        let first = listeners.len();
        for place in &endpoint.0 {
            match place {
                Place::At(address) => listeners.push(Listener::bind(name, &address.to_string())?),
                Place::Loopback(port) => bind_loopback(name, *port, &mut listeners)?,
                Place::Named(host, port) => bind_named(name, host, *port, &mut listeners)?,
            }
        }
        let traffic = listeners.get(first).map(|one| Arc::clone(one.traffic()));
        for listener in listeners.drain(first..).collect::<Vec<_>>() {
            let mut listener = listener.default_vhost(default_vhost);
            if let Some(traffic) = &traffic {
                listener = listener.counting_in(Arc::clone(traffic));
            }
            listeners.push(listener);
        }
    }
    Ok(listeners)
}

/// How many ports that the system chose may be taken in the other family.
const LOOPBACK_TRIES: usize = 64;

/// Both families, one port: a client that knows the name `localhost` may try either first. IPv6 may not be there.
fn bind_loopback(
    name: &'static str,
    port: u16,
    listeners: &mut Vec<Listener>,
) -> Result<(), net::BindError> {
    // Ports that the system chose and that something else has in the other family, held so that it chooses others.
    let mut taken = Vec::new();
    loop {
        let [first, _] = loopback(port);
        let first = Listener::bind(name, &first.to_string())?;
        // Port 0 was the system's choice; the other family has the same.
        let [_, second] = loopback(first.address().port());
        match Listener::bind(name, &second.to_string()) {
            Ok(second) => listeners.extend([first, second]),
            Err(error) if is_without(&error.source) => {
                tracing::debug!(listener = name, %error, "no IPv6 here");
                listeners.push(first);
            }
            Err(error)
                if port == 0
                    && error.source.kind() == io::ErrorKind::AddrInUse
                    && taken.len() < LOOPBACK_TRIES =>
            {
                taken.push(first);
                continue;
            }
            Err(error) => return Err(error),
        }
        return Ok(());
    }
}

/// Whether the system has no such address or no such family of addresses.
fn is_without(error: &io::Error) -> bool {
    let code = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    code == Some(rustix::io::Errno::AFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Every address that a name has.
fn bind_named(
    name: &'static str,
    host: &str,
    port: u16,
    listeners: &mut Vec<Listener>,
) -> Result<(), net::BindError> {
    let failed = |source| net::BindError {
        listener: name,
        address: format!("{host}:{port}"),
        source,
    };
    let mut port = port;
    let mut seen = Vec::new();
    for mut address in (host, port).to_socket_addrs().map_err(failed)? {
        address.set_port(port);
        if seen.contains(&address) {
            continue;
        }
        seen.push(address);
        let listener = Listener::bind(name, &address.to_string())?;
        port = listener.address().port();
        listeners.push(listener);
    }
    if seen.is_empty() {
        return Err(failed(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        )));
    }
    Ok(())
}

/// Starts accepting.
fn open(
    doors: &Doors,
    origins: Origins,
    listeners: Vec<Listener>,
    pair: &Arc<Pair>,
    server: &Arc<Server>,
    switchover: &Arc<Notify>,
) {
    let http = Arc::new(http(origins, doors, pair, server, switchover));
    let aws = Arc::new(doors.aws().clone());
    for listener in listeners {
        let server = Arc::clone(server);
        let protocol = match listener.name() {
            "mqtt" => Protocol::Mqtt,
            "amqp" => Protocol::Amqp,
            "stomp" => Protocol::Stomp,
            "aws" => {
                let aws = Arc::clone(&aws);
                tokio::spawn(listener.serve_exchange(server, aws));
                continue;
            }
            _ => {
                tokio::spawn(listener.serve_http(server, Arc::clone(&http)));
                continue;
            }
        };
        let (doors, pair) = (doors.clone(), Arc::clone(pair));
        tokio::spawn(listener.serve(server, move |peer| {
            doors.open(protocol, peer.listener, pair.now())
        }));
    }
}

fn http(
    origins: Origins,
    doors: &Doors,
    pair: &Arc<Pair>,
    server: &Arc<Server>,
    switchover: &Arc<Notify>,
) -> Http {
    let health = {
        let pair = Arc::clone(pair);
        move |draining| {
            let cluster = pair.cluster();
            Health {
                ready: admin::is_ready(&cluster),
                body: admin::health(&cluster, draining).to_string(),
            }
        }
    };
    let operator = {
        let (shown, asked, knows) = (Arc::clone(pair), Arc::clone(pair), Arc::clone(pair));
        let switchover = Arc::clone(switchover);
        admin::Operator {
            cluster: Box::new(move || shown.cluster()),
            switch_over: Box::new(move || {
                if asked.successor().is_none() {
                    let words = match asked.cluster().standbys.len() {
                        0 => "this node has no standby",
                        _ => "its standby is not ready to take over yet",
                    };
                    return Err(words.to_owned());
                }
                switchover.notify_one();
                Ok(())
            }),
            is_administrator: Box::new(move |user| knows.users().is_administrator(user)),
        }
    };
    let metrics = {
        let (pair, doors) = (Arc::clone(pair), doors.clone());
        let server = Arc::clone(server);
        move || {
            let mut text = pair.node().map_or_else(String::new, |node| node.metrics());
            pair::write_metrics(&pair.cluster(), &mut text);
            server.write_metrics(&mut text);
            mqtt_metrics(doors.mqtt_counters(), &mut text);
            stomp_metrics(doors.stomp_counters(), &mut text);
            aws_metrics(doors.aws(), &mut text);
            doors.sns_counters().write(&mut text);
            text
        }
    };
    let choose = {
        let (pair, doors) = (Arc::clone(pair), doors.clone());
        move |offer: &net::Offer<'_>| doors.upgrade(offer, pair.now())
    };
    Http {
        health: Box::new(health),
        metrics: Box::new(metrics),
        upgrade_paths: UPGRADE_PATHS,
        origins,
        choose: Box::new(choose),
        api: (admin::PREFIX, Arc::new(admin::Door::new(operator))),
        accept_key: websocket::accept_key,
    }
}

fn mqtt_metrics(counters: &mqtt::Counters, text: &mut String) {
    let rows = [
        (
            "properties_omitted",
            "Properties left out of a PUBLISH because MQTT cannot write them.",
            counters.properties_omitted(),
        ),
        (
            "deliveries_unnameable",
            "Deliveries dropped because MQTT cannot write the topic.",
            counters.deliveries_unnameable(),
        ),
        (
            "names_ambiguous",
            "Topics that the rabbitmq dialect does not bring back.",
            counters.names_ambiguous(),
        ),
    ];
    write_counters("mqtt", &rows, text);
}

fn stomp_metrics(counters: &stomp::Counters, text: &mut String) {
    let rows = [
        (
            "headers_omitted",
            "Headers left out of a MESSAGE because STOMP cannot write them.",
            counters.headers_omitted(),
        ),
        (
            "deliveries_unnameable",
            "Deliveries dropped because STOMP cannot write the topic.",
            counters.deliveries_unnameable(),
        ),
        (
            "names_ambiguous",
            "Destinations that the rabbitmq dialect does not bring back.",
            counters.names_ambiguous(),
        ),
    ];
    write_counters("stomp", &rows, text);
}

fn aws_metrics(endpoint: &aws::Endpoint, text: &mut String) {
    text.push_str(
        "# HELP bascule_aws_requests_total Requests of the AWS services: served, refused, and failed through no fault of theirs.\n\
         # TYPE bascule_aws_requests_total counter\n",
    );
    for (service, result, count) in endpoint.counts() {
        writeln!(
            text,
            "bascule_aws_requests_total{{service=\"{service}\",result=\"{result}\"}} {count}"
        )
        .expect("writing to a string succeeds");
    }
}

fn write_counters(protocol: &str, rows: &[(&str, &str, u64)], text: &mut String) {
    for (name, help, value) in rows {
        let name = format!("bascule_{protocol}_{name}_total");
        writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}"
        )
        .expect("writing to a string succeeds");
    }
}

/// What listens where, and how to log in.
fn table(config: &Config, listeners: &[Listener]) -> String {
    let mut table = format!(
        "Bascule {}, data in {}\n\n",
        env!("CARGO_PKG_VERSION"),
        config.data.display()
    );
    for (name, _) in config.listeners.by_name() {
        let places: Vec<String> = listeners
            .iter()
            .filter(|listener| listener.name() == name)
            .map(|listener| listener.address().to_string())
            .collect();
        let place = if places.is_empty() {
            "off".to_owned()
        } else {
            places.join(" ")
        };
        let speaks = match name {
            "mqtt" => "MQTT 3.1.1 and 5",
            "amqp" => "AMQP 0-9-1",
            "stomp" => "STOMP 1.0, 1.1 and 1.2",
            "aws" => "SQS, SNS and Kinesis for the AWS SDKs (endpoint URL http://ADDRESS)",
            _ => "/health/ready, /metrics, and WebSocket at /mqtt, /amqp, /stomp and /ws",
        };
        writeln!(table, "  {name:<6} {place:<30} {speaks}").expect("writing to a string succeeds");
    }
    table.push_str("\n  log in: ");
    table.push_str(&logins(&config.auth));
    table.push('\n');
    table
}

fn logins(auth: &auth::Config) -> String {
    let mut ways = Vec::new();
    let own_guest = auth.users.iter().any(|user| user.name == "guest");
    if auth.guest && !own_guest {
        ways.push("guest / guest from this machine only".to_owned());
    }
    match auth.users.len() {
        0 => {}
        1 => ways.push("the configured user".to_owned()),
        many => ways.push(format!("one of {many} configured users")),
    }
    if !auth.anonymous.protocols.is_empty() {
        let scope = if auth.anonymous.loopback_only {
            " from this machine only"
        } else {
            ""
        };
        ways.push(format!(
            "without a login in {}{scope}",
            auth.anonymous.protocols.join(" and ")
        ));
    }
    if ways.is_empty() {
        ways.push("nobody can: there are no users".to_owned());
    }
    ways.join(", or ")
}

fn announce(table: &str, word: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(table.as_bytes())?;
    writeln!(out, "\n{word}")?;
    out.flush()
}

/// Comes back when nothing can be confirmed any more.
async fn failure(node: &Node) {
    let mut tick = tokio::time::interval(FAILURE_CHECK);
    loop {
        tick.tick().await;
        let Some(failure) = node.failure() else {
            continue;
        };
        if node.was_succeeded() {
            tracing::warn!(
                epoch = node.epoch(),
                silent_ms = node.silent_ms(),
                "another node took this one's place, as it gave no sign of life (it was paused, or its storage hung): it follows \
                 that one now, and has confirmed nothing since; nothing needs to be done"
            );
        } else {
            tracing::error!(failure, "this node is not the active one any more");
        }
        return;
    }
}

/// The signals that end us, and the one that makes us read the configuration again.
struct Signals {
    term: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// A write that a limit on the length of files cuts off (`RLIMIT_FSIZE`): it is to fail as on a full disk, and not to end us.
    _too_long: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("failed to watch for signals");
        Ok(Self {
            term: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            hang_up: watch(SignalKind::hangup())?,
            _too_long: watch(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// The signal that ends us, or `None` to read the configuration again.
    async fn next(&mut self) -> Option<&'static str> {
        tokio::select! {
            _ = self.term.recv() => Some("SIGTERM"),
            _ = self.interrupt.recv() => Some("SIGINT"),
            _ = self.hang_up.recv() => None,
        }
    }

    async fn ending(&mut self) -> &'static str {
        loop {
            if let Some(name) = self.next().await {
                return name;
            }
        }
    }
}
