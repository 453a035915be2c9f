//! Several requests of one connection, one after the other and side by side, before a core that answers when the test lets it.

use std::{
    future::ready,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use message::{Timestamp, VhostId};
use net::{Limits, Listener, Server};
use session::{
    Active, Asked, Authenticate, Begun, CloseReason, Command, Credentials, Event, Exchange, Flow,
    Link, LoggedIn, Login, NotActive, Peer, Port, Reply, Request, Secret, SessionId, Token,
    Unserved,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::toys::{ToyPort, fence};

/// A request is answered with its path. By the path it asks the core, waits, sends parts, or panics.
struct Toys;

fn reply(status: u16, text: impl Into<String>) -> Reply {
    let mut response = Response::new(Bytes::from(text.into()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    Reply::Head(Box::new(response))
}

impl Exchange for Toys {
    fn begin(&self, head: Parts, _: &Peer, _: Timestamp) -> Result<Begun, Reply> {
        let path = head.uri.path().to_owned();
        if path == "/no" {
            return Err(reply(403, "no"));
        }
        Ok(Begun {
            body_len_max: 10,
            request: Box::new(Toy(path)),
        })
    }
}

struct Toy(String);

impl Request for Toy {
    fn take(self: Box<Self>, body: Bytes, _: Timestamp) -> Asked {
        if self.0 == "/body" {
            return Asked::Reply(reply(200, String::from_utf8_lossy(&body)));
        }
        let path = self.0;
        Asked::Login(Box::new(Login {
            authenticate: Authenticate {
                token: Token(0),
                credentials: Credentials::Vouched {
                    user: path.contains("other").to_string(),
                },
                vhost: None,
                vhost_fallback: false,
                vhost_in_user: false,
                vhost_follows: false,
                vhost_create: false,
                protocol: "TOY",
                client: Bytes::new(),
            },
            then: Box::new(move |logged_in, now| match logged_in {
                Err(refusal) => Flow::Done(reply(401, refusal.detail)),
                Ok(LoggedIn { .. }) => flow(path, now),
            }),
            refuse: Box::new(refused),
        }))
    }

    fn refuse(self: Box<Self>, why: Unserved) -> Reply {
        refused(why)
    }
}

fn refused(why: Unserved) -> Reply {
    let status = match why {
        Unserved::TooLong => 413,
        Unserved::TooSlow => 408,
        Unserved::Busy | Unserved::Stopping => 503,
        Unserved::Internal => 500,
    };
    reply(status, format!("{why:?}"))
}

fn flow(path: String, now: Timestamp) -> Flow<Reply> {
    match &*path {
        "/sleep" => Flow::until(now.plus_ms(50), |_| Flow::Done(reply(200, "slept"))),
        "/parts" => Flow::part(reply(200, "a"), |_| {
            Flow::ask(fence(0), |_, _| {
                Flow::part(Reply::More(Bytes::from_static(b"b")), |_| {
                    Flow::Done(Reply::More(Bytes::from_static(b"c")))
                })
            })
        }),
        _ => Flow::ask_all(vec![fence(0), fence(0)], move |events, _| {
            Flow::Done(reply(200, format!("{path} {}", events.len())))
        }),
    }
}

struct Served {
    address: SocketAddr,
    server: Arc<Server>,
    port: Arc<ToyPort>,
    /// The core answers fences too, not only logins.
    answers: Arc<AtomicBool>,
}

fn start(limits: Limits) -> Served {
    let port = ToyPort::new(100);
    let server = Server::new(Arc::clone(&port) as _, limits);
    let listener = Listener::bind("aws", "127.0.0.1:0").expect("a free port");
    let address = listener.address();
    tokio::spawn(listener.serve_exchange(Arc::clone(&server), Arc::new(Toys)));
    let answers = Arc::new(AtomicBool::new(true));
    let (links, lets) = (Arc::clone(&port), Arc::clone(&answers));
    tokio::spawn(async move {
        loop {
            let links = links.links.lock().expect("not poisoned").clone();
            for link in links {
                let holds = !lets.load(Ordering::SeqCst);
                let mut events = Vec::new();
                link.core().taken.retain_mut(|command| {
                    let is_fence = matches!(command, Command::Fence { .. });
                    if is_fence && holds {
                        return true;
                    }
                    let token = *command.token_mut().expect("only what is answered is asked");
                    events.push(match command {
                        Command::Fence { .. } => Event::Reached { token },
                        _ => Event::Authenticated {
                            token,
                            vhost: VhostId::ROOT,
                            vhost_name: "/".into(),
                            user: "ada".into(),
                            secret: Secret([0; 32]),
                        },
                    });
                    false
                });
                // In any order.
                events.reverse();
                if !events.is_empty() {
                    link.tell(events);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    Served {
        address,
        server,
        port,
        answers,
    }
}

impl Served {
    fn links(&self) -> usize {
        self.port.links.lock().expect("not poisoned").len()
    }

    async fn until(&self, what: impl Fn(&ToyPort) -> bool) {
        while !what(&self.port) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn waits(port: &ToyPort) -> bool {
        let links = port.links.lock().expect("not poisoned");
        links.iter().any(|link| !link.core().taken.is_empty())
    }
}

fn post(path: &str, body: &str) -> String {
    let len = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{body}")
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

/// One answer with a length: its status and body.
async fn answer(socket: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |len| len.parse().expect("a number"));
    let mut body = vec![0; len];
    socket.read_exact(&mut body).await.expect("a whole body");
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    (status, String::from_utf8(body).expect("text"))
}

async fn ask(socket: &mut TcpStream, request: &str) -> (String, String) {
    socket.write_all(request.as_bytes()).await.expect("open");
    answer(socket).await
}

fn said(status: &str, body: &str) -> (String, String) {
    (status.to_owned(), body.to_owned())
}

#[tokio::test]
async fn requests_of_a_connection_share_its_links() {
    let served = start(Limits::default());
    let mut socket = connect(served.address).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut socket, &post("/x", "")).await, said("200", "/x 2"));
    }
    assert_eq!(served.links(), 1);
    assert_eq!(
        ask(&mut socket, &post("/other", "")).await,
        said("200", "/other 2")
    );
    assert_eq!(ask(&mut socket, &post("/x", "")).await, said("200", "/x 2"));
    assert_eq!(served.links(), 2);
    // One that the core has closed meanwhile is not used again.
    for link in &*served.port.links.lock().expect("not poisoned") {
        link.tell([Event::Closing {
            reason: CloseReason::Administrative,
        }]);
    }
    assert_eq!(ask(&mut socket, &post("/x", "")).await, said("200", "/x 2"));
    assert_eq!(served.links(), 3);
    assert_eq!(
        ask(&mut socket, &post("/sleep", "")).await,
        said("200", "slept")
    );
}

/// A node that is not the active one.
struct Standby(Arc<Active>);

impl Port for Standby {
    fn attach(&self, _: Peer) -> Option<Arc<dyn Link>> {
        let active = Arc::clone(&self.0);
        let find = Arc::new(move || Some(Arc::clone(&active)));
        Some(Arc::new(NotActive::new(SessionId(1), find)))
    }

    fn now(&self) -> Timestamp {
        Timestamp(1)
    }
}

#[tokio::test]
async fn a_request_to_a_node_that_is_not_active_hears_where_its_listener_is() {
    let addresses = [("mqtt", "other:1883"), ("aws", "other:4566")];
    let active = Active {
        addresses: addresses.map(|(name, at)| (name.into(), at.into())).into(),
    };
    let server = Server::new(Arc::new(Standby(active.into())), Limits::default());
    let listener = Listener::bind("aws", "127.0.0.1:0").expect("a free port");
    let mut socket = connect(listener.address()).await;
    tokio::spawn(listener.serve_exchange(server, Arc::new(Toys)));
    for _ in 0..2 {
        assert_eq!(
            ask(&mut socket, &post("/x", "")).await,
            said("401", "this node is not the active one; other:4566 is")
        );
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_and_bodies_that_are_too_many() {
    let served = start(Limits {
        http_body_timeout_ms: 50,
        http_bodies_len_max: 8,
        ..Limits::default()
    });
    let mut socket = connect(served.address).await;
    let begun = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab";
    assert_eq!(ask(&mut socket, begun).await, said("408", "TooSlow"));
    let mut socket = connect(served.address).await;
    assert_eq!(
        ask(&mut socket, &post("/body", "0123456789")).await,
        said("503", "Busy")
    );
    // What was taken is given back.
    let mut socket = connect(served.address).await;
    assert_eq!(
        ask(&mut socket, &post("/body", "01234567")).await,
        said("200", "01234567")
    );
}

#[tokio::test]
async fn http2_with_prior_knowledge_asks_side_by_side() {
    let served = start(Limits::default());
    served.answers.store(false, Ordering::SeqCst);
    let io = TokioIo::new(connect(served.address).await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    let send = |path: &str| {
        let mut sender = sender.clone();
        let request = http::Request::post(format!("http://x{path}"))
            .body(Full::new(Bytes::from_static(b"0123")))
            .expect("a request");
        async move {
            let response = sender.send_request(request).await.expect("an answer");
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body");
            (status, body.to_bytes())
        }
    };
    let slow = tokio::spawn(send("/parts"));
    served.until(Served::waits).await;
    // Nothing waits behind it.
    assert_eq!(send("/body").await, (200, Bytes::from_static(b"0123")));
    assert_eq!(send("/no").await.0, 403);
    served.answers.store(true, Ordering::SeqCst);
    assert_eq!(send("/x").await, (200, Bytes::from_static(b"/x 2")));
    assert_eq!(
        slow.await.expect("no panic"),
        (200, Bytes::from_static(b"abc"))
    );
    let drained = served
        .server
        .drain(ready(()), Duration::from_secs(60))
        .await;
    assert_eq!(drained.dropped, 0);
}
