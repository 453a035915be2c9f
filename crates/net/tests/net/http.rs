//! HTTP over real sockets at port 0: requests written by hand, answers read as they come.

use std::{future::ready, net::SocketAddr, sync::Arc, time::Duration};

use http::{Response, request::Parts};
use message::Timestamp;
use net::{Health, Http, Limits, Listener, Origins, Server, UpgradeRefusal, Upgraded};
use session::{Begun, Exchange, Peer, Reply};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::toys::{Toy, ToyPort};

/// Says that it was asked.
struct NoApi;

impl Exchange for NoApi {
    fn begin(&self, head: Parts, _: &Peer, _: Timestamp) -> Result<Begun, Reply> {
        let said = format!("the api was asked for {}", head.uri.path());
        Err(Reply::Head(Box::new(Response::new(said.into()))))
    }
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn start(ready: bool, limits: Limits) -> (SocketAddr, Arc<Server>) {
    let server = Server::new(ToyPort::new(1), limits);
    let http = Http {
        health: Box::new(move |draining| Health {
            ready,
            body: match (draining, ready) {
                (true, _) => r#"{"role":"draining"}"#.to_owned(),
                (false, true) => r#"{"role":"active"}"#.to_owned(),
                (false, false) => r#"{"role":"standby"}"#.to_owned(),
            },
        }),
        metrics: Box::new(|| "up 1\n".to_owned()),
        upgrade_paths: &["/", "/toy"],
        origins: Origins::Own,
        choose: Box::new(|offer| match offer.protocols {
            Some("other") => Err(UpgradeRefusal("only toy is spoken here".to_owned())),
            offered => Ok(Upgraded {
                protocol: offered.map(|_| "toy"),
                session: Box::new(Toy::new()),
            }),
        }),
        api: ("/api/", Arc::new(NoApi)),
        accept_key: |key| format!("accepted-{key}"),
    };
    let listener = Listener::bind("http", "127.0.0.1:0").expect("a free port");
    let address = listener.address();
    tokio::spawn(listener.serve_http(Arc::clone(&server), Arc::new(http)));
    (address, server)
}

/// The whole answer to one request after which the server closes.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(request.as_bytes()).await.expect("open");
    let mut answer = String::new();
    let read = socket.read_to_string(&mut answer).await;
    read.expect("an answer, then the end");
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// Reads to the blank line behind the head of an answer.
async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("text").to_ascii_lowercase()
}

#[tokio::test]
async fn health_and_metrics() {
    let (active, _) = start(true, Limits::default());
    let (standby, _) = start(false, Limits::default());
    for (address, path, status, body) in [
        (active, "/health/live", 200, r#"{"status":"live"}"#),
        (standby, "/health/live", 200, r#"{"status":"live"}"#),
        (active, "/health/ready", 200, r#"{"role":"active"}"#),
        (standby, "/health/ready?x=1", 503, r#"{"role":"standby"}"#),
        (active, "/metrics", 200, "up 1\n"),
        (active, "/nothing", 404, "nothing is here\n"),
        (active, "/api", 404, "nothing is here\n"),
        (active, "/api/x?y", 200, "the api was asked for /api/x"),
    ] {
        let answer = ask(address, &get(path)).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    }
}

#[tokio::test]
async fn what_is_not_a_plain_get_is_refused() {
    let (address, _) = start(true, Limits::default());
    let long = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    for (request, status) in [
        (
            "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            405,
        ),
        (
            "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            413,
        ),
        (
            "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            413,
        ),
        (&get("/"), 426),
        ("nonsense\r\n\r\n", 400),
        (&long, 431),
    ] {
        let answer = ask(address, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_in_time_closes_the_connection() {
    // The clock runs ahead as soon as everyone waits.
    let (address, _) = start(true, Limits::default());
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost:")
        .await
        .expect("open");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("the end");
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
}

#[tokio::test]
async fn doors_28_an_upgraded_connection_is_served_by_its_session() {
    let (address, server) = start(true, Limits::default());
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    // An eager client sends the first bytes with the request.
    let request = upgrade(
        "/toy",
        "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: toy\r\n",
    );
    let request = format!("{request}echo early\n");
    socket.write_all(request.as_bytes()).await.expect("open");
    let answer = head(&mut socket).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-protocol: toy",
        &format!(
            "sec-websocket-accept: accepted-{}",
            KEY.to_ascii_lowercase()
        ),
    ] {
        assert!(answer.lines().any(|it| it == line), "{line}: {answer}");
    }
    socket.write_all(b"echo late\nquit\n").await.expect("open");
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.expect("text");
    assert_eq!(rest, "early\nlate\nbye\n");
    drop(socket);
    // The core takes one connection only, and it has been.
    let answer = ask(address, &upgrade("/", "Connection: close\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let drained = server.drain(ready(()), Duration::from_secs(60)).await;
    assert_eq!(drained.dropped, 0);
}

#[tokio::test]
async fn an_upgrade_without_a_subprotocol_names_none() {
    let (address, _) = start(true, Limits::default());
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let request = upgrade("/", "Origin: http://localhost:3000\r\n");
    socket.write_all(request.as_bytes()).await.expect("open");
    let answer = head(&mut socket).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(!answer.contains("sec-websocket-protocol"), "{answer}");
}

#[tokio::test]
async fn upgrades_that_are_not_in_order_are_refused() {
    let (address, _) = start(true, Limits::default());
    let good = upgrade("/", "Connection: close\r\n");
    for (request, status, words) in [
        (
            good.replace("Version: 13", "Version: 8"),
            426,
            "sec-websocket-version: 13",
        ),
        (
            good.replace("Sec-WebSocket-Key", "X"),
            400,
            "Sec-WebSocket-Key",
        ),
        (good.replace(KEY, "short"), 400, "Sec-WebSocket-Key"),
        (
            good.replace("Upgrade: websocket\r\n", ""),
            426,
            "upgrade: websocket",
        ),
        (
            good.replace("keep-alive, Upgrade", "close"),
            426,
            "upgrade: websocket",
        ),
        (
            good.replace("\r\n\r\n", "\r\nOrigin: http://evil.example\r\n\r\n"),
            403,
            "websocket.origins",
        ),
        (
            good.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: other\r\n\r\n"),
            400,
            "only toy",
        ),
        (good.replace("GET / ", "GET /elsewhere "), 404, "nothing"),
    ] {
        let answer = ask(address, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}{answer}"
        );
        assert!(answer.contains(words), "{request}{answer}");
    }
}

#[tokio::test]
async fn an_idle_http_connection_ends_with_the_drain() {
    let (address, server) = start(true, Limits::default());
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let request = get("/health/ready").replace("Connection: close\r\n", "");
    socket.write_all(request.as_bytes()).await.expect("open");
    let answer = head(&mut socket).await;
    assert!(answer.starts_with("http/1.1 200 "), "{answer}");
    let client = tokio::spawn(async move {
        let mut rest = String::new();
        socket.read_to_string(&mut rest).await.expect("the end");
        rest
    });
    let drained = server.drain(ready(()), Duration::from_secs(60)).await;
    assert_eq!(drained.dropped, 0);
    assert_eq!(client.await.expect("no panic"), r#"{"role":"active"}"#);
}
