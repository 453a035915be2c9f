//! `bascule serve` as an operator sees it: what it says, how it ends, what it refuses; and `pub` and `sub` against it.
#![expect(
    clippy::disallowed_methods,
    reason = "an end in order has five seconds"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const DOORS: [&str; 5] = ["mqtt", "amqp", "stomp", "http", "aws"];

/// A running server. Killed when dropped.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    table: String,
    data: PathBuf,
}

/// A data directory of its own, empty.
fn data(name: &str) -> PathBuf {
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
    // It may be left from an earlier run.
    let _ = std::fs::remove_dir_all(&data);
    data
}

/// `serve` on ports that the system chooses, with small files.
fn command(data: &PathBuf, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bascule"));
    command.arg("serve").arg("--data").arg(data);
    for door in DOORS {
        command
            .arg("--set")
            .arg(format!("listeners.{door}=127.0.0.1:0"));
    }
    for setting in [
        "journal.segment_bytes=4194304",
        "journal.reserve_bytes=4194304",
        "log.level=warn",
    ] {
        command.arg("--set").arg(setting);
    }
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    command
}

impl Server {
    fn start(data: PathBuf, settings: &[&str]) -> Self {
        Self::start_as("ready", data, settings)
    }

    /// Until it says that word: `ready`, or `standby` when there is an active node.
    fn start_as(word: &str, data: PathBuf, settings: &[&str]) -> Self {
        let mut child = command(&data, settings)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut table = String::new();
        loop {
            let mut line = String::new();
            let len = stdout.read_line(&mut line).expect("stdout is text");
            assert_ne!(len, 0, "the server ended before it was ready: {table}");
            if line.trim_end() == word {
                break;
            }
            table.push_str(&line);
        }
        Self {
            child,
            stdout,
            table,
            data,
        }
    }

    /// The address in the table's line of that door.
    fn address(&self, door: &str) -> &str {
        let mut lines = self.table.lines().map(str::split_whitespace);
        lines
            .find_map(|mut words| (words.next() == Some(door)).then(|| words.next())?)
            .expect("the table has a line for each door")
    }

    fn get(&self, path: &str) -> String {
        self.get_from("http", path)
    }

    fn get_from(&self, door: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address(door)).expect("connects");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        )
        .expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        answer
    }

    /// A form, without a signature.
    fn post_to(&self, door: &str, form: &str) -> String {
        let mut stream = TcpStream::connect(self.address(door)).expect("connects");
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        )
        .expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        answer
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}/{path}", self.address(scheme))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the server is our child");
    }

    /// Ends it in order; what else it said on stdout.
    fn end(mut self) -> (PathBuf, String) {
        let began = Instant::now();
        self.signal(Signal::TERM);
        let mut rest = String::new();
        self.stdout
            .read_to_string(&mut rest)
            .expect("stdout is text");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(5));
        (self.data.clone(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bascule(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bascule"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn publish(url: &str, body: &str, more: &[&str]) {
    let output = bascule(&[&["pub", "--url", url, "-m", body], more].concat());
    assert!(
        output.status.success(),
        "{url}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A subscriber that has subscribed.
struct Subscriber(Child, BufReader<std::process::ChildStderr>);

fn subscribe(url: &str, more: &[&str]) -> Subscriber {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bascule"))
        .args(["sub", "--verbose", "--timeout", "60", "--url", url])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("stderr is text");
    assert_eq!(line, "subscribed\n", "{url}");
    Subscriber(child, stderr)
}

impl Subscriber {
    /// Its lines, once it has ended by itself.
    fn lines(mut self) -> Vec<String> {
        let output = self.0.wait_with_output().expect("it ends");
        let mut said = String::new();
        self.1.read_to_string(&mut said).expect("stderr is text");
        assert!(output.status.success(), "{said}");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// A start that must fail: exit code 2, and one line that says all of `words`.
fn refused(data: &PathBuf, settings: &[&str], words: &[&str]) {
    let mut child = command(data, settings)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("stdout is text");
    if !line.is_empty() {
        child.kill().expect("it serves");
        child.wait().expect("it was killed");
        panic!("it serves with {settings:?} in {}", data.display());
    }
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

#[test]
fn it_says_what_listens_where_and_ends_in_order() {
    let server = Server::start(data("table"), &["listeners.stomp=off"]);
    assert_eq!(server.address("stomp"), "off");
    for door in ["mqtt", "amqp", "http"] {
        TcpStream::connect(server.address(door)).expect(door);
    }
    assert!(
        server
            .table
            .contains("guest / guest from this machine only"),
        "{}",
        server.table
    );
    assert!(server.get("/health/live").starts_with("HTTP/1.1 200"));
    assert!(server.get("/health/ready").contains("active"));
    assert!(server.get("/metrics").contains("# TYPE"));
    let (_, rest) = server.end();
    assert_eq!(rest, "");
}

#[test]
fn a_node_says_what_it_knows_of_the_pair() {
    let users = "users=[{name='ada',password='x'},{name='root',password='x',administrator=true}]";
    let server = Server::start(data("pair"), &[users, "pair.advertise=a.example"]);
    let port = |door: &str| {
        let (_, port) = server.address(door).rsplit_once(':').expect("host:port");
        port.to_owned()
    };
    let ready = server.get("/health/ready");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let mqtt = format!("\"mqtt\":\"a.example:{}\"", port("mqtt"));
    for part in [
        "\"role\":\"active\"",
        "\"epoch\":1",
        "\"lag_ms\":null",
        &mqtt,
    ] {
        assert!(ready.contains(part), "{part} in {ready}");
    }
    let metrics = server.get("/metrics");
    for line in [
        "bascule_role{role=\"active\"} 1",
        "bascule_epoch 1",
        "bascule_takeovers_total 0",
    ] {
        assert!(
            metrics.lines().any(|one| one == line),
            "{line} in {metrics}"
        );
    }
    let ask = |command: &str, login: &str, more: &[&str]| {
        let url = format!("http://{login}@{}", server.address("http"));
        let output = bascule(&[&[command, "--url", &url], more].concat());
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            said(&output.stdout),
            said(&output.stderr),
        )
    };
    let patient = ["--timeout", "60"];
    let (code, said, _) = ask("status", "ada:x", &patient);
    assert_eq!(code, Some(0));
    assert!(said.contains(": active, epoch 1, "), "{said}");
    let (code, said, _) = ask("status", "guest:guest", &["--json", "--timeout", "60"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("\"role\": \"active\""), "{said}");
    // Without a login it is guest; a wrong one is told.
    let (code, said, error) = ask("status", "ada:y", &patient);
    let wrong = "the login was refused: user or password is wrong (401)\n";
    assert_eq!((code, error), (Some(1), format!("bascule: {wrong}")));
    assert!(said.ends_with(wrong), "{said}");
    let (code, _, error) = ask("switchover", "ada:x", &[]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("administrator") && error.contains("(403)"),
        "{error}"
    );
    let (code, _, error) = ask("switchover", "root:x", &[]);
    assert_eq!(code, Some(1));
    assert!(error.contains("this node has no standby (409)"), "{error}");
    assert!(error.contains("try again once"), "{error}");
}

#[test]
fn a_standby_sends_clients_to_the_active_node_and_changes_places_with_it() {
    let data = data("places-changed");
    let first = Server::start(data.clone(), &["aws.signatures=accept"]);
    let second = Server::start_as("standby", data, &["aws.signatures=accept"]);
    let http = |server: &Server| format!("http://{}", server.address("http"));
    let (first_url, second_url) = (http(&first), http(&second));
    let urls = ["--url", &first_url, "--url", &second_url];
    let status = || bascule(&[&["status", "--timeout", "60"], &urls[..]].concat());
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    // The active node looks for standbys now and then.
    let until = Instant::now() + Duration::from_secs(120);
    while !said(&status()).contains("can take over") {
        assert!(Instant::now() < until, "{}", said(&status()));
    }
    publish(&first.url("amqp", "jobs"), "one", &["--declare"]);

    let sent_away = |from: &Server, to: &Server| {
        for (scheme, path) in [("mqtt", "t"), ("amqp", "jobs"), ("stomp", "queue/jobs")] {
            let output = bascule(&["pub", "--url", &from.url(scheme, path), "-m", "x"]);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{scheme}: {error}");
            assert!(error.contains(to.address(scheme)), "{scheme}: {error}");
        }
        let streams = from.get("/api/streams");
        assert!(streams.starts_with("HTTP/1.1 503"), "{streams}");
        assert!(streams.contains(to.address("http")), "{streams}");
        let aws = from.post_to("aws", "Action=ListQueues&Version=2012-11-05");
        assert!(aws.starts_with("HTTP/1.1 503"), "{aws}");
        assert!(aws.contains(to.address("aws")), "{aws}");
        assert!(from.get("/health/ready").starts_with("HTTP/1.1 503"));
        assert!(to.get("/health/ready").starts_with("HTTP/1.1 200"));
        // What a node knows of the pair is for users, on either.
        for node in [from, to] {
            let stranger = node.get("/api/cluster");
            assert!(stranger.starts_with("HTTP/1.1 401"), "{stranger}");
            assert!(!stranger.contains("epoch"), "{stranger}");
            let url = format!("http://guest:guess@{}", node.address("http"));
            let wrong = bascule(&["status", "--timeout", "60", "--url", &url]);
            let error = String::from_utf8_lossy(&wrong.stderr);
            assert_eq!(
                error,
                "bascule: the login was refused: user or password is wrong (401)\n"
            );
        }
        // So ask scripts that wait for LocalStack.
        let path = "/_localstack/health";
        let served = to.get_from("aws", path);
        assert!(served.starts_with("HTTP/1.1 200"), "{served}");
        let services = r#"{"services":{"sqs":"running","sns":"running","kinesis":"running"},"edition":"bascule","#;
        assert!(served.contains(services), "{served}");
        assert!(from.get_from("aws", path).starts_with("HTTP/1.1 503"));
        // Either knows how much room there is; who does not write does not know how much is little.
        let seen = bascule(&["status", "--timeout", "60", "--json", "--url", &http(from)]);
        let seen: serde_json::Value = serde_json::from_slice(&seen.stdout).expect("JSON");
        let disk = &seen[0]["cluster"]["journal"]["disk"];
        assert!(disk["free_bytes"].as_u64() > Some(0), "{seen}");
        assert_eq!(disk["low"], serde_json::Value::Null);
        // What needs no login says the same on both.
        let metrics = from.get("/metrics");
        assert!(
            metrics.contains("bascule_role{role=\"standby\"} 1"),
            "{metrics}"
        );
    };
    sent_away(&second, &first);
    let changed = bascule(&["switchover", "--url", &http(&first), "--timeout", "120"]);
    let error = String::from_utf8_lossy(&changed.stderr);
    assert!(changed.status.success(), "{error}");
    assert!(
        said(&changed).starts_with(&http(&second)),
        "{}",
        said(&changed)
    );
    let until = Instant::now() + Duration::from_secs(120);
    while !said(&status()).contains(": standby, ") {
        assert!(Instant::now() < until, "{}", said(&status()));
    }
    sent_away(&first, &second);
    let got = subscribe(&second.url("amqp", "jobs"), &["-n", "1"]).lines();
    assert_eq!(got[1..], ["one"], "{got:?}");
    let shown = said(&status());
    // And back, and once more at once, when the other one, which is not named, is hardly known to be there.
    for (from, to) in [(&second_url, &first_url), (&first_url, &second_url)] {
        let until = Instant::now() + Duration::from_secs(120);
        let back = loop {
            let back = bascule(&["switchover", "--url", from, "--timeout", "60"]);
            if back.status.success() {
                break said(&back);
            }
            let error = String::from_utf8_lossy(&back.stderr);
            assert!(error.contains("(409); try again"), "{error}");
            assert!(Instant::now() < until, "{error}");
        };
        assert!(back.starts_with(&**to), "{back}");
    }
    let reason = "switchover: an operator had the nodes change places";
    assert!(shown.contains(reason), "{shown}");
}

#[test]
fn a_door_may_be_in_several_places_and_localhost_is_both_families() {
    let several = "listeners.amqp=['127.0.0.1:0', '127.0.0.2:0']";
    let server = Server::start(data("places"), &[several, "listeners.mqtt=localhost:0"]);
    let places = |door: &str| -> Vec<String> {
        let line = server
            .table
            .lines()
            .find(|line| line.trim_start().starts_with(door));
        let words = line
            .expect("a line for each door")
            .split_whitespace()
            .skip(1);
        words
            .map_while(|word| word.parse::<std::net::SocketAddr>().ok())
            .map(|address| address.to_string())
            .collect()
    };
    let amqp = places("amqp");
    assert_eq!(amqp.len(), 2, "{amqp:?}");
    assert!(amqp[1].starts_with("127.0.0.2:"), "{amqp:?}");
    let mqtt = places("mqtt");
    let port = mqtt[0].strip_prefix("127.0.0.1:").expect("IPv4 first");
    if TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(mqtt[1..], [format!("[::1]:{port}")]);
    }
    for address in amqp.iter().chain(&mqtt) {
        TcpStream::connect(address).expect(address);
    }
    // The row is there once the door's task has begun; the kernel lets clients in before.
    let rows = || {
        let metrics = server.get("/metrics");
        let rows = metrics.lines();
        let of_amqp = rows.filter(|line| line.contains("listener=\"amqp\""));
        let rows = of_amqp.filter(|line| line.contains("_accepted_total"));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut found = rows();
    while found.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        found = rows();
    }
    assert_eq!(found.len(), 1, "one door, one row: {found:?}");
}

#[test]
fn an_interrupt_ends_it_in_order_too() {
    let mut server = Server::start(data("interrupt"), &[]);
    server.signal(Signal::INT);
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_port_in_use_is_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("is bound").to_string();
    let data = data("port");
    let setting = format!("listeners.amqp={address}");
    refused(&data, &[&setting], &["amqp", &address]);
    assert!(!data.exists(), "nothing is made before every door is open");
}

#[test]
fn a_directory_that_cannot_be_served_is_exit_code_2() {
    let foreign = data("foreign");
    std::fs::create_dir_all(&foreign).expect("a directory is made");
    std::fs::write(foreign.join("thesis.txt"), "mine").expect("a file is written");
    refused(&foreign, &[], &["serve-foreign", "thesis.txt"]);
    let file = data("file");
    std::fs::write(&file, "not a directory").expect("a file is written");
    refused(&file, &[], &["serve-file"]);
}

#[test]
fn a_wrong_configuration_is_exit_code_2() {
    let data = data("configuration");
    for (setting, word) in [
        ("listeners.mqt=off", "did you mean listeners.mqtt?"),
        ("listeners.mqtt=here", "listeners.mqtt"),
        ("limits.connections_max=0", "out of bounds"),
        ("websocket.origins=['example.org']", "websocket.origins"),
        (
            "users=[{name='ada',password_hash='secret'}]",
            "password_hash",
        ),
    ] {
        refused(&data, &[setting], &[word]);
    }
}

#[test]
fn a_queue_crosses_between_all_protocols() {
    let server = Server::start(data("queue"), &[]);
    let doors = [
        ("mqtt", "$queue/jobs"),
        ("amqp", "queue/jobs"),
        ("stomp", "queue/jobs"),
    ];
    let login = |scheme: &str, path: &str| server.url(scheme, path);
    for (to, to_path) in doors {
        let subscriber = subscribe(&login(to, to_path), &["--count", "3", "--ack", "accept"]);
        for (from, from_path) in doors {
            publish(
                &login(from, from_path),
                &format!("from {from}"),
                &["-p", "colour=red"],
            );
        }
        let lines = subscriber.lines();
        let bodies: Vec<&str> = lines
            .iter()
            .skip(1)
            .step_by(2)
            .map(String::as_str)
            .collect();
        assert_eq!(bodies, ["from mqtt", "from amqp", "from stomp"], "to {to}");
        let heads: Vec<&String> = lines.iter().step_by(2).collect();
        assert!(
            heads.iter().all(|head| head.contains("colour=\"red\"")),
            "to {to}: {heads:?}"
        );
    }
    server.end();
}

#[test]
fn a_topic_crosses_between_all_protocols() {
    let server = Server::start(data("topic"), &[]);
    let filters = [
        ("mqtt", "sensors/+/temp"),
        ("amqp", "topic/sensors.*.temp"),
        ("stomp", "topic/sensors.*.temp"),
    ];
    let topics = [
        ("mqtt", "sensors/1/temp"),
        ("amqp", "topic/sensors.1.temp"),
        ("stomp", "topic/sensors.1.temp"),
    ];
    for (to, filter) in filters {
        for qos in ["0", "1", "2"] {
            let subscriber = subscribe(&server.url(to, filter), &["--count", "3", "--qos", qos]);
            for (from, topic) in topics {
                publish(
                    &server.url(from, topic),
                    &format!("from {from}"),
                    &["--qos", qos],
                );
            }
            let lines = subscriber.lines();
            let mut bodies: Vec<&str> = lines
                .iter()
                .skip(1)
                .step_by(2)
                .map(String::as_str)
                .collect();
            bodies.sort_unstable();
            assert_eq!(
                bodies,
                ["from amqp", "from mqtt", "from stomp"],
                "to {to} at {qos}"
            );
        }
    }
    server.end();
}

#[test]
fn what_was_confirmed_is_there_after_a_kill() {
    let server = Server::start(data("kill"), &[]);
    for n in 0..20 {
        publish(
            &server.url("stomp", "queue/kept"),
            &format!("message {n}"),
            &[],
        );
    }
    publish(&server.url("mqtt", "last/word"), "retained", &["--retain"]);
    let data = server.data.clone();
    server.signal(Signal::KILL);
    drop(server);
    let server = Server::start(data, &[]);
    let lines = subscribe(&server.url("amqp", "queue/kept"), &["--count", "20"]).lines();
    let bodies: Vec<String> = lines.into_iter().skip(1).step_by(2).collect();
    let expected: Vec<String> = (0..20).map(|n| format!("message {n}")).collect();
    assert_eq!(bodies, expected);
    let retained = subscribe(&server.url("mqtt", "last/+"), &["--count", "1"]).lines();
    assert_eq!(retained.last().map(String::as_str), Some("retained"));
    let (data, _) = server.end();
    let dir = data.to_str().expect("a path in UTF-8");
    assert!(bascule(&["journal", "verify", dir]).status.success());
}

#[test]
fn a_message_that_is_not_accepted_is_there_again() {
    let server = Server::start(data("release"), &[]);
    publish(&server.url("stomp", "queue/again"), "once more", &[]);
    for scheme in ["amqp", "stomp"] {
        let lines = subscribe(
            &server.url(scheme, "queue/again"),
            &["--count", "1", "--ack", "release"],
        )
        .lines();
        assert_eq!(lines[1], "once more", "{scheme}");
    }
    let lines = subscribe(
        &server.url("mqtt", "$queue/again"),
        &["--count", "1", "--qos", "2"],
    )
    .lines();
    assert_eq!(lines[1], "once more");
    let empty = bascule(&[
        "sub",
        "--url",
        &server.url("amqp", "queue/again"),
        "--count",
        "1",
        "--timeout",
        "1",
    ]);
    assert_eq!(empty.status.code(), Some(1), "it was accepted");
    server.end();
}

#[test]
fn refusals_come_in_the_brokers_words() {
    let server = Server::start(data("refusals"), &[]);
    for scheme in DOORS
        .iter()
        .filter(|door| !matches!(**door, "http" | "aws"))
    {
        let url = format!("{scheme}://guest:wrong@{}/queue/x", server.address(scheme));
        let output = bascule(&["pub", "-m", "x", "--url", &url]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.starts_with("bascule: the broker refused"),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let nowhere = bascule(&[
        "pub",
        "-m",
        "x",
        "--url",
        &server.url("amqp", "queue/nowhere"),
    ]);
    let stderr = String::from_utf8_lossy(&nowhere.stderr);
    assert!(
        nowhere.status.code() == Some(1) && stderr.contains("NO_ROUTE"),
        "{stderr}"
    );
    let reserved = bascule(&["pub", "-m", "x", "--url", &server.url("mqtt", "$SYS/x")]);
    assert_eq!(reserved.status.code(), Some(1));
    server.end();
}
