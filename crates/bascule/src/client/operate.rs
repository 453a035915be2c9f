//! `bascule status` and `bascule switchover`: what the nodes of a pair say of themselves, and a change of places.
//!
//! Both ask the HTTP listeners that are named with `--url`, else those of `pair.peers`, else the one of the configuration, on this machine: all of
//! them at the same time, since one of them may be frozen, or its machine gone.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    sync::mpsc,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use clap::Args;
use message::Timestamp;
use serde_json::{Value, json};
use session::Takeover;

use super::{http::Endpoint, url::Login};
use crate::{
    cli::Sources,
    config::{Config, Place},
    failure::Failure,
};

/// How long a node may take to answer who is active, before a change of places.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same while the nodes change places, when one that does not answer is asked again.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// How much longer the answer of a thread is waited for than the node's own.
const SLACK: Duration = Duration::from_millis(100);
/// The pause between two looks at the nodes while they change places.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a standby that cannot take over yet is waited for: one that has just become it, by the last change of places, is seen within two seconds.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two tries meanwhile.
const READY_PAUSE: Duration = Duration::from_millis(100);

/// Whom to ask.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// The HTTP listener of a node, such as http://user:password@host:8161. May be repeated. Without a login it is guest.
    #[arg(long, value_name = "URL")]
    url: Vec<Endpoint>,
    /// The configuration file whose pair.peers are asked when there is no --url; without them its listeners.http.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// USER:PASSWORD, for those that have no login of their own.
    #[arg(short, long, value_name = "LOGIN", value_parser = parse_login)]
    login: Option<Login>,
}

/// What `bascule status` is told.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    asked: Asked,
    /// As JSON: a list with an object for each node.
    #[arg(long)]
    json: bool,
    /// How long a node may take to answer, in seconds.
    #[arg(short, long, default_value_t = 1, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// What `bascule switchover` is told.
#[derive(Debug, Args)]
pub(crate) struct SwitchoverArgs {
    #[command(flatten)]
    asked: Asked,
    /// How long to wait for the other node to serve, in seconds.
    #[arg(short, long, default_value_t = 30, value_name = "SECONDS")]
    timeout: u64,
}

fn parse_login(text: &str) -> Result<Login, String> {
    let (user, password) = text.split_once(':').ok_or("a login is USER:PASSWORD")?;
    Ok((user.to_owned(), password.to_owned()))
}

impl Asked {
    fn endpoints(self) -> anyhow::Result<Vec<Endpoint>> {
        let login = self.login.as_ref();
        if !self.url.is_empty() {
            let urls = self.url.into_iter();
            return Ok(urls.map(|url| url.or_login(login)).collect());
        }
        let sources = Sources {
            config: self.config,
            ..Sources::default()
        };
        let config = Config::load(&sources)?;
        let peers = match &config.pair.peers[..] {
            [] => vec![own_listener(&config)?],
            peers => peers.to_vec(),
        };
        peers
            .iter()
            .map(|peer| {
                let endpoint: Endpoint = peer.parse().map_err(|fault: String| anyhow!(fault))?;
                Ok(endpoint.or_login(login))
            })
            .collect()
    }
}

/// The HTTP listener of a configuration, as this machine reaches it.
fn own_listener(config: &Config) -> anyhow::Result<String> {
    let Some(place) = config.listeners.http.0.first() else {
        bail!("listeners.http is off: there is nobody to ask; --url names a node");
    };
    if place.port() == 0 {
        bail!("listeners.http has port 0, so only the node knows where it listens; --url names it");
    }
    Ok(match place {
        Place::At(address) if address.ip().is_unspecified() => {
            format!("localhost:{}", address.port())
        }
        place => place.to_string(),
    })
}

/// Why a node does not say what it knows.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    /// It answers, but not to that login.
    #[error("the login was refused: {0}")]
    Login(String),
    /// It is there, or nobody says that it is not, and is silent.
    #[error(
        "no answer within {} s: its process, machine or storage stands still, or the network is cut",
        .0.as_secs_f64()
    )]
    Silent(Duration),
    /// It cannot be reached, or answers something else.
    #[error("no answer: {0:#}")]
    Failed(anyhow::Error),
}

/// What a node says of the pair, or why it says nothing.
fn look(endpoint: &Endpoint, patience: Duration) -> Result<Value, Unknown> {
    let deadline = Instant::now() + patience;
    match endpoint.ask("GET", "/api/cluster", deadline) {
        Ok((200, body)) => Ok(body),
        Ok((status @ (401 | 403), body)) => Err(Unknown::Login(reason(status, &body))),
        Ok((status, body)) => Err(Unknown::Failed(refused(status, &body))),
        Err(_) if Instant::now() >= deadline => Err(Unknown::Silent(patience)),
        Err(error) => Err(Unknown::Failed(error)),
    }
}

/// Nodes that are asked at the same time. Their answers come as they are given, each with the number of its node, until none is missing,
/// or with the time of those that are. Who does not answer keeps a thread until then, and nobody else waiting.
struct Asking {
    patience: Duration,
    sender: mpsc::Sender<(usize, Result<Value, Unknown>)>,
    answers: mpsc::Receiver<(usize, Result<Value, Unknown>)>,
    missing: usize,
    until: Instant,
}

impl Asking {
    /// Nobody, yet.
    fn new(patience: Duration) -> Self {
        let (sender, answers) = mpsc::channel();
        Self {
            patience,
            sender,
            answers,
            missing: 0,
            until: Instant::now(),
        }
    }

    /// All of them.
    fn all(endpoints: &[Endpoint], patience: Duration) -> Self {
        let mut asking = Self::new(patience);
        for (at, endpoint) in endpoints.iter().enumerate() {
            asking.ask(at, endpoint);
        }
        asking
    }

    fn ask(&mut self, at: usize, endpoint: &Endpoint) {
        let (endpoint, patience, sender) = (endpoint.clone(), self.patience, self.sender.clone());
        thread::spawn(move || {
            // Nobody may be interested any more.
            let _ = sender.send((at, look(&endpoint, patience)));
        });
        self.missing += 1;
        // Not even a look-up of the host's name is waited for any longer.
        self.until = Instant::now() + patience + SLACK;
    }
}

impl Iterator for Asking {
    type Item = (usize, Result<Value, Unknown>);

    fn next(&mut self) -> Option<Self::Item> {
        self.missing = self.missing.checked_sub(1)?;
        let left = self.until.saturating_duration_since(Instant::now());
        self.answers.recv_timeout(left).ok()
    }
}

fn reason(status: u16, body: &Value) -> String {
    let reason = body["reason"].as_str().unwrap_or("no reason is given");
    format!("{reason} ({status})")
}

fn refused(status: u16, body: &Value) -> anyhow::Error {
    anyhow!(reason(status, body))
}

fn is_active(cluster: &Value) -> bool {
    cluster["role"] == "active"
}

/// A node, and what it says.
type Seen = (Endpoint, Result<Value, Unknown>);

/// What each node says, in the order of the nodes.
fn seen(endpoints: Vec<Endpoint>, patience: Duration) -> Vec<Seen> {
    let mut said: Vec<_> = endpoints
        .iter()
        .map(|_| Err(Unknown::Silent(patience)))
        .collect();
    for (at, answer) in Asking::all(&endpoints, patience) {
        said[at] = answer;
    }
    endpoints.into_iter().zip(said).collect()
}

/// `bascule status`. Exit code 1 unless one of the nodes is active.
pub(crate) fn status(args: StatusArgs) -> Result<(), Failure> {
    let endpoints = args.asked.endpoints().map_err(Failure::setup)?;
    let seen = seen(endpoints, Duration::from_secs(args.timeout));
    let text = if args.json {
        let nodes: Vec<Value> = seen
            .iter()
            .map(|(endpoint, said)| match said {
                Ok(cluster) => json!({ "url": endpoint.to_string(), "cluster": cluster }),
                Err(error) => json!({ "url": endpoint.to_string(), "error": error.to_string() }),
            })
            .collect();
        format!("{:#}\n", Value::from(nodes))
    } else {
        let nodes = seen.iter().map(|(endpoint, said)| shown(endpoint, said));
        nodes
            .chain(has_ids(&seen).then(|| ABOUT_IDS.to_owned()))
            .collect()
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::work)?;
    verdict(&seen).map_err(Failure::work)
}

/// What an id is, for who wonders that it is another one than yesterday.
const ABOUT_IDS: &str = "(A node draws an id when it opens the journal, and another one when it steps down; its address is what stays.)\n";

/// Whether there is an id in what is shown. One that starts has none.
fn has_ids(seen: &[Seen]) -> bool {
    let has_id = |cluster: &Value| cluster["node"].as_str().is_some_and(|id| !id.is_empty());
    seen.iter().any(|(_, said)| said.as_ref().is_ok_and(has_id))
}

/// Whether one of the nodes is active, as far as they say what they are.
fn verdict(seen: &[Seen]) -> anyhow::Result<()> {
    if seen
        .iter()
        .any(|(_, said)| said.as_ref().is_ok_and(is_active))
    {
        return Ok(());
    }
    let refusals: Vec<&String> = seen
        .iter()
        .filter_map(|(_, said)| match said {
            Err(Unknown::Login(reason)) => Some(reason),
            _ => None,
        })
        .collect();
    match &refusals[..] {
        [] => bail!("no active node has answered"),
        [first, ..] if refusals.len() == seen.len() => bail!("the login was refused: {first}"),
        [first, ..] => bail!(
            "the login was refused by {} of {} nodes: {first}; none of the others is active",
            refusals.len(),
            seen.len()
        ),
    }
}

/// How far a clock is off before that is shown, in ms.
const CLOCK_OFF_MS: i64 = 1_000;

/// A node in lines for people.
fn shown(endpoint: &Endpoint, said: &Result<Value, Unknown>) -> String {
    let cluster = match said {
        Ok(cluster) => cluster,
        Err(error) => return format!("{endpoint}: {error}\n"),
    };
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut out = format!(
        "{endpoint}: {}, epoch {}, {} batches",
        word(&cluster["role"]),
        cluster["epoch"],
        cluster["committed"],
    );
    // One that starts has no id yet.
    match word(&cluster["node"]) {
        id if id.is_empty() => out.push('\n'),
        id => out.push_str(&format!(", id {id}\n")),
    }
    let mut line = |text: String| writeln!(out, "  {text}").expect("writing to a string succeeds");
    if cluster["role"] == "silent" {
        line(
            "its lease is over: another node may have taken its place, and it serves nobody until it knows"
                .to_owned(),
        );
    }
    if let lag @ Value::Object(_) = &cluster["lag"] {
        line(format!(
            "{} batches ({} bytes) behind, for {} ms",
            lag["batches"], lag["bytes"], lag["ms"]
        ));
    }
    if let Value::Object(addresses) = &cluster["active"]
        && !is_active(cluster)
    {
        let places: Vec<String> = addresses
            .iter()
            .map(|(listener, address)| format!("{listener} {}", word(address)))
            .collect();
        line(format!("the active node: {}", places.join(", ")));
    }
    for standby in cluster["standbys"].as_array().into_iter().flatten() {
        line(format!(
            "standby {}: {} batches behind, seen {} ms ago, {}",
            word(&standby["node"]),
            standby["lag_batches"],
            standby["seen_ms_ago"],
            if standby["can_take_over"] == true {
                "can take over"
            } else {
                "cannot take over"
            }
        ));
    }
    if let Some(ahead) = cluster["clock_ahead_ms"].as_i64()
        && ahead.abs() >= CLOCK_OFF_MS
    {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let ms = ahead.unsigned_abs();
        line(format!(
            "its machine's clock is {ms} ms {way} the broker's time"
        ));
    }
    if let takeover @ Value::Object(_) = &cluster["last_takeover"] {
        let ms = |us: u64| format!("{} ms", us as f64 / 1e3);
        let phases: Vec<(&str, u64)> = Takeover::PHASES
            .into_iter()
            .filter_map(|phase| Some((phase, takeover["phases_us"][phase].as_u64()?)))
            .collect();
        let sum = phases.iter().map(|(_, us)| us).sum();
        let parts: Vec<String> = phases
            .iter()
            .map(|(phase, us)| format!("{phase} {}", ms(*us)))
            .collect();
        line(format!(
            "last takeover: {}, took {} ({}): {}",
            Timestamp(takeover["at_ms"].as_u64().unwrap_or(0)).date_time(),
            ms(sum),
            parts.join(", "),
            word(&takeover["reason"])
        ));
    }
    let journal = &cluster["journal"];
    if journal["disk"]["low"] == true {
        let free_mib = journal["disk"]["free_bytes"].as_u64().unwrap_or(0) >> 20;
        line(format!(
            "the disk is nearly full, {free_mib} MiB are free: publishes are refused"
        ));
    }
    for (list, all, told) in [
        ("damaged", "damages", "damaged"),
        ("given_up", "losses", "given up"),
    ] {
        let places = journal[list].as_array().map_or(&[][..], Vec::as_slice);
        for place in places {
            let batches = match (&place["first_batch"], &place["last_batch"]) {
                (Value::Null, _) => String::new(),
                (first, last) => format!(", batches {first} to {last}"),
            };
            let kept = match &place["kept"] {
                Value::String(kept) => format!(", kept as {kept}"),
                _ => String::new(),
            };
            line(format!(
                "{told}: {} at offset {}: {}{batches}{kept}",
                word(&place["file"]),
                place["offset"],
                word(&place["what"]),
            ));
        }
        let rest = journal[all].as_u64().unwrap_or(0);
        let rest = rest.saturating_sub(places.len() as u64);
        if rest > 0 {
            line(format!("{told}: {rest} places more, which the log names"));
        }
    }
    if journal["damages_beyond"] == true {
        let told = "damaged: so many places that the others are neither counted nor in the log";
        line(told.to_owned());
    }
    let passed_over = journal["passed_over_records"].as_u64().unwrap_or(0);
    if passed_over > 0 {
        line(format!(
            "passed over: {passed_over} records that rest on what was given up"
        ));
    }
    out
}

/// `bascule switchover`.
pub(crate) fn switchover(args: SwitchoverArgs) -> Result<(), Failure> {
    let endpoints = args.asked.endpoints().map_err(Failure::setup)?;
    let said =
        change_places(endpoints, Duration::from_secs(args.timeout)).map_err(Failure::work)?;
    io::stdout()
        .write_all(said.as_bytes())
        .map_err(Failure::work)
}

/// The active node and what it says, among those that were named and those that these name. Nobody waits for one that is silent once the active
/// one has answered.
fn find_active(endpoints: &mut Vec<Endpoint>) -> anyhow::Result<(Endpoint, Value)> {
    let mut said: Vec<Option<Result<Value, Unknown>>> = Vec::new();
    let mut asking = Asking::new(PATIENCE);
    loop {
        while let Some(endpoint) = endpoints.get(said.len()) {
            asking.ask(said.len(), endpoint);
            said.push(None);
        }
        let Some((at, answer)) = asking.next() else {
            break;
        };
        let endpoint = endpoints[at].clone();
        match &answer {
            Ok(cluster) if !is_active(cluster) => add(endpoints, &cluster["active"], &endpoint),
            _ => {}
        }
        match answer {
            Ok(cluster) if is_active(&cluster) => return Ok((endpoint, cluster)),
            answer => said[at] = Some(answer),
        }
    }
    let (mut login, mut others) = (String::new(), String::new());
    for (endpoint, said) in endpoints.iter().zip(said) {
        let told = match said.unwrap_or(Err(Unknown::Silent(PATIENCE))) {
            Ok(cluster) => format!(" is {}", cluster["role"].as_str().unwrap_or("no node")),
            Err(Unknown::Login(reason)) if login.is_empty() => {
                login = format!("the login was refused by {endpoint}: {reason}");
                continue;
            }
            Err(error) => format!(": {error}"),
        };
        write!(others, "; {endpoint}{told}").expect("writing to a string succeeds");
    }
    if login.is_empty() {
        bail!("no active node has answered{others}");
    }
    bail!("{login}{others}");
}

/// Adds the node that `from` has named by its listeners, with the login of `from`.
fn add(endpoints: &mut Vec<Endpoint>, addresses: &Value, from: &Endpoint) {
    let Some(Ok(endpoint)) = addresses["http"].as_str().map(str::parse::<Endpoint>) else {
        return;
    };
    let endpoint = endpoint.or_login(from.login());
    let is_known = |known: &Endpoint| known.to_string() == endpoint.to_string();
    if !endpoints.iter().any(is_known) {
        endpoints.push(endpoint);
    }
}

/// Adds the standbys of the active node.
fn add_standbys(endpoints: &mut Vec<Endpoint>, cluster: &Value, active: &Endpoint) {
    for standby in cluster["standbys"].as_array().into_iter().flatten() {
        add(endpoints, &standby["addresses"], active);
    }
}

/// Asks the active node to hand over, and waits until another one is active.
fn change_places(mut endpoints: Vec<Endpoint>, timeout: Duration) -> anyhow::Result<String> {
    let (active, before) = find_active(&mut endpoints)?;
    // The other one need not have been named.
    add_standbys(&mut endpoints, &before, &active);
    let deadline = Instant::now() + timeout;
    let (begun, taken) = begin(&active, deadline, READY_WITHIN)?;
    // It may have become known only while it was waited for.
    add_standbys(&mut endpoints, &taken, &active);
    loop {
        for (at, said) in Asking::all(&endpoints, SHORT_PATIENCE) {
            let endpoint = endpoints[at].clone();
            match said {
                Ok(cluster) if is_active(&cluster) && cluster["node"] != before["node"] => {
                    let ms = begun.elapsed().as_millis();
                    return Ok(format!("{endpoint} is active, after {ms} ms\n"));
                }
                // The former one says who is, once it follows.
                Ok(cluster) if !is_active(&cluster) => {
                    add(&mut endpoints, &cluster["active"], &endpoint);
                }
                _ => {}
            }
        }
        if Instant::now() >= deadline {
            bail!(
                "no other node has become active within {} s; {active} was",
                timeout.as_secs()
            );
        }
        sleep(PAUSE);
    }
}

/// Has the active node begin to hand over, once its standby can take over. When that was, and what it knew then.
fn begin(
    active: &Endpoint,
    deadline: Instant,
    ready_within: Duration,
) -> anyhow::Result<(Instant, Value)> {
    let patient_until = Instant::now() + ready_within;
    loop {
        let begun = Instant::now();
        let (status, body) = active.ask("POST", "/api/cluster/switchover", deadline)?;
        match status {
            202 => return Ok((begun, body)),
            409 if Instant::now() + READY_PAUSE < patient_until.min(deadline) => {
                sleep(READY_PAUSE);
            }
            409 => bail!(
                "{}; try again once `bascule status` names a standby that can take over",
                reason(status, &body)
            ),
            _ => return Err(refused(status, &body)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::TcpListener,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    use super::*;

    /// A node as far as this client knows it. `active`: the number of the node that is.
    struct Toy {
        number: usize,
        active: Arc<AtomicUsize>,
        /// Where the other one is, if this one knows.
        other: Option<String>,
        /// Free on its disk, which is little.
        free_bytes: u64,
        /// The answer to POST.
        status: u16,
        /// POSTs that are answered with 409 before that.
        unready: AtomicUsize,
    }

    impl Toy {
        fn cluster(&self) -> Value {
            let is_active = self.active.load(Ordering::SeqCst) == self.number;
            let standbys: Vec<Value> = self
                .other
                .iter()
                .filter(|_| is_active && self.unready.load(Ordering::SeqCst) == 0)
                .map(|other| {
                    json!({
                        "node": "bb", "lag_batches": 3, "seen_ms_ago": 9, "can_take_over": true,
                        "addresses": { "http": other, "mqtt": "b:1883" },
                    })
                })
                .collect();
            json!({
                "role": if is_active { "active" } else { "standby" },
                "node": format!("node{}", self.number),
                "epoch": 7, "committed": 1000,
                "lag": (!is_active).then(|| json!({ "batches": 1, "bytes": 4096, "ms": 2 })),
                "active": if is_active {
                    json!({ "mqtt": "a:1883" })
                } else {
                    json!({ "mqtt": "a:1883", "http": self.other })
                },
                "clock_ahead_ms": if is_active { 999 } else { -2000 },
                "standbys": standbys, "takeovers": 0,
                "last_takeover": {
                    "at_ms": 1, "reason": "asked for", "phases_us": { "detect": 1500, "fence": 500 },
                },
                "journal": {
                    "damaged": [{
                        "file": "snap/7-aa", "offset": 72, "what": "a block is damaged", "first_batch": null,
                    }],
                    "damages": 3,
                    "damages_beyond": true,
                    "given_up": [{
                        "file": "seg/1-2-00", "offset": 8192, "what": "no batch header", "first_batch": 3,
                        "last_batch": 4, "kept": "lost/1-2-00.damaged",
                    }],
                    "losses": 1,
                    "passed_over_records": 6,
                    "disk": is_active.then(|| json!({ "free_bytes": self.free_bytes, "low": true })),
                },
            })
        }

        /// Serves; the address comes back.
        fn start(self, listener: TcpListener) -> Endpoint {
            let address = listener.local_addr().expect("bound").to_string();
            thread::spawn(move || {
                for socket in listener.incoming() {
                    let mut socket = socket.expect("accepted");
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        socket.read_exact(&mut byte).expect("a whole head");
                        request.push(byte[0]);
                    }
                    let request = String::from_utf8(request).expect("text");
                    // ada:x
                    assert!(
                        request.contains("Authorization: Basic YWRhOng=\r\n"),
                        "{request}"
                    );
                    let (status, body) = if request.starts_with("GET /api/cluster ") {
                        (200, self.cluster())
                    } else {
                        assert!(request.starts_with("POST /api/cluster/switchover "));
                        let left = self.unready.load(Ordering::SeqCst);
                        self.unready.store(left.saturating_sub(1), Ordering::SeqCst);
                        let status = if left > 0 { 409 } else { self.status };
                        if status == 202 {
                            self.active.store(2, Ordering::SeqCst);
                            (status, json!({ "role": "starting", "standbys": [] }))
                        } else {
                            (status, json!({ "error": "x", "reason": "not now" }))
                        }
                    };
                    let body = body.to_string();
                    let len = body.len();
                    write!(
                        socket,
                        "HTTP/1.1 {status} X\r\nContent-Length: {len}\r\n\r\n{body}"
                    )
                    .expect("answered");
                }
            });
            format!("http://ada:x@{address}")
                .parse()
                .expect("an endpoint")
        }
    }

    /// Two nodes, the first of them active and with that answer to POST.
    fn pair(status: u16) -> [Endpoint; 2] {
        pair_after(0, status)
    }

    /// The same after so many answers that its standby is not ready.
    fn pair_after(unready: usize, status: u16) -> [Endpoint; 2] {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (first, second) = (bind(), bind());
        let address = |of: &TcpListener| of.local_addr().expect("bound").to_string();
        let (at_first, at_second) = (address(&first), address(&second));
        let active = Arc::new(AtomicUsize::new(1));
        let toy = |number, other| Toy {
            number,
            active: Arc::clone(&active),
            other: Some(other),
            free_bytes: 7 << 20,
            status,
            unready: AtomicUsize::new(unready),
        };
        [
            toy(1, at_second).start(first),
            toy(2, at_first).start(second),
        ]
    }

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn the_other_node_need_not_be_named_for_a_change_of_places() {
        let [first, second] = pair(202);
        let said = change_places(vec![first], LIMIT).expect("changed");
        assert!(
            said.starts_with(&format!("{second} is active, after ")),
            "{said}"
        );
    }

    #[test]
    fn a_change_of_places_that_cannot_be_says_why() {
        let [first, _] = pair(409);
        let deadline = Instant::now() + LIMIT;
        let patience = Duration::from_millis(300);
        let error = begin(&first, deadline, patience).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "not now (409); try again once `bascule status` names a standby that can take over"
        );
        let [first, second] = pair(403);
        let error = change_places(vec![second, first], LIMIT).expect_err("refused");
        assert_eq!(error.to_string(), "not now (403)");
    }

    #[test]
    fn a_standby_that_is_not_ready_yet_is_waited_for() {
        let [first, second] = pair_after(3, 202);
        let said = change_places(vec![first], LIMIT).expect("changed");
        assert!(
            said.starts_with(&format!("{second} is active, after ")),
            "{said}"
        );
    }

    #[test]
    fn a_standby_that_is_asked_for_a_change_of_places_names_the_active_node() {
        let [_, second] = pair(202);
        let said = change_places(vec![second.clone()], LIMIT).expect("changed");
        assert!(
            said.starts_with(&format!("{second} is active, after ")),
            "{said}"
        );
    }

    #[test]
    fn without_an_active_node_it_is_said_what_each_is() {
        let dead = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let gone = dead.local_addr().expect("bound").to_string();
        drop(dead);
        let standby = Toy {
            number: 2,
            active: Arc::new(AtomicUsize::new(1)),
            other: Some(gone.clone()),
            free_bytes: 0,
            status: 202,
            unready: AtomicUsize::new(0),
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let standby = standby.start(listener);
        let error = change_places(vec![standby.clone()], LIMIT).expect_err("no active node");
        let begin = format!("no active node has answered; {standby} is standby; http://{gone}: ");
        assert!(error.to_string().starts_with(&begin), "{error}");
    }

    /// What accepts and says nothing, as the kernel does for a process that stands still.
    fn frozen() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let endpoint = address.to_string().parse().expect("an endpoint");
        (listener, endpoint)
    }

    #[test]
    fn nodes_are_asked_at_the_same_time_and_a_silent_one_is_said_to_be() {
        let [first, second] = pair(202);
        let frozen: Vec<_> = (0..5).map(|_| frozen()).collect();
        let mut endpoints: Vec<_> = frozen.iter().map(|(_, at)| at.clone()).collect();
        endpoints.extend([first, second]);
        let patience = Duration::from_secs(3);
        let begun = Instant::now();
        let seen = seen(endpoints, patience);
        assert!(begun.elapsed() < 2 * patience, "{:?}", begun.elapsed());
        for (endpoint, said) in &seen[..5] {
            assert_eq!(
                shown(endpoint, said),
                format!(
                    "{endpoint}: no answer within 3 s: its process, machine or storage stands still, or the network is cut\n"
                )
            );
        }
        assert!(seen[5].1.as_ref().is_ok_and(is_active));
        assert!(seen[6].1.is_ok());
        verdict(&seen).expect("one of them is active");
    }

    #[test]
    fn a_change_of_places_does_not_wait_for_a_node_that_is_silent() {
        let [_, second] = pair(202);
        let (_listener, frozen) = frozen();
        let begun = Instant::now();
        // The standby names the active node.
        let said = change_places(vec![frozen, second.clone()], LIMIT).expect("changed");
        assert!(said.starts_with(&format!("{second} is active, after ")));
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_login_that_is_refused_is_told_as_what_it_is() {
        let node = |number: u16| -> Endpoint {
            let at = format!("10.0.0.{number}:8161");
            at.parse().expect("an endpoint")
        };
        let login = || Err(Unknown::Login("user or password is wrong (401)".to_owned()));
        let failed = || Err(Unknown::Failed(anyhow!("gone")));
        let standby = || Ok(json!({ "role": "standby" }));
        let active = || Ok(json!({ "role": "active" }));
        let told = |said: Vec<Result<Value, Unknown>>| {
            let seen: Vec<Seen> = (1..).map(node).zip(said).collect();
            verdict(&seen).map_err(|error| error.to_string())
        };
        let wrong = "user or password is wrong (401)";
        assert_eq!(told(vec![login(), active()]), Ok(()));
        assert_eq!(
            told(vec![login(), login()]),
            Err(format!("the login was refused: {wrong}"))
        );
        assert_eq!(
            told(vec![standby(), login(), failed()]),
            Err(format!(
                "the login was refused by 1 of 3 nodes: {wrong}; none of the others is active"
            ))
        );
        assert_eq!(
            told(vec![standby(), failed()]),
            Err("no active node has answered".to_owned())
        );
    }

    #[test]
    fn without_a_url_the_listener_of_the_configuration_is_asked() {
        let asked = |http: &str| {
            let sources = Sources {
                set: vec![format!("listeners.http={http}")],
                ..Sources::default()
            };
            own_listener(&Config::load(&sources).expect("right")).map_err(|error| error.to_string())
        };
        for (http, at) in [
            ("localhost:8161", "localhost:8161"),
            ("0.0.0.0:9000", "localhost:9000"),
            ("[::]:9000", "localhost:9000"),
            ("10.0.0.7:9000", "10.0.0.7:9000"),
            ("['a.example:1','localhost:2']", "a.example:1"),
        ] {
            assert_eq!(asked(http).as_deref(), Ok(at));
        }
        assert!(
            asked("off")
                .expect_err("off")
                .contains("listeners.http is off")
        );
        assert!(asked("localhost:0").expect_err("0").contains("port 0"));
    }

    #[test]
    fn a_node_that_starts_has_no_id() {
        let [first, _] = pair(202);
        let starting = json!({ "role": "starting", "node": "", "epoch": 0, "committed": 0 });
        assert!(shown(&first, &Ok(starting.clone())).ends_with(": starting, epoch 0, 0 batches\n"));
        assert!(!has_ids(&[(first.clone(), Ok(starting))]));
        let standby = json!({ "role": "standby", "node": "aa", "epoch": 1, "committed": 0 });
        assert!(has_ids(&[(first, Ok(standby))]));
    }

    #[test]
    fn a_node_whose_lease_is_over_is_not_taken_for_the_active_one() {
        let [first, _] = pair(202);
        let silent =
            json!({ "role": "silent", "node": "aa", "epoch": 7, "committed": 9, "active": null });
        let text = shown(&first, &Ok(silent.clone()));
        assert!(text.contains(": silent, epoch 7, "), "{text}");
        assert!(text.contains("  its lease is over: "), "{text}");
        verdict(&[(first, Ok(silent))]).expect_err("none is active");
    }

    #[test]
    fn a_status_has_what_people_ask_for() {
        let [first, second] = pair(202);
        let text = shown(&first, &look(&first, LIMIT));
        for part in [
            ": active, epoch 7, 1000 batches, id node1\n",
            "  standby bb: 3 batches behind, seen 9 ms ago, can take over\n",
            "  last takeover: 1970-01-01T00:00:00.001Z, took 2 ms (detect 1.5 ms, fence 0.5 ms): asked for\n",
            "  damaged: snap/7-aa at offset 72: a block is damaged\n  damaged: 2 places more, which the log names\n",
            "  damaged: so many places that the others are neither counted nor in the log\n",
            "  given up: seg/1-2-00 at offset 8192: no batch header, batches 3 to 4, kept as lost/1-2-00.damaged\n",
            "  passed over: 6 records that rest on what was given up\n",
            "  the disk is nearly full, 7 MiB are free: publishes are refused\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = shown(&second, &look(&second, LIMIT));
        for part in [
            ": standby, epoch 7, 1000 batches, id node2\n",
            "  1 batches (4096 bytes) behind, for 2 ms\n",
            "  its machine's clock is 2000 ms behind the broker's time\n",
            "  the active node: http ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let error = Err(Unknown::Failed(anyhow!("gone")));
        assert_eq!(shown(&first, &error), format!("{first}: no answer: gone\n"));
    }
}
