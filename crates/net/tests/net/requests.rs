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
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use message::{Timestamp, VhostId};
use net::{Limits, Listener, Server};
use session::{
    Active, CloseReason, Command, Event, Link, NotActive, Peer, Port, Secret, SessionId,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    toy_exchange::{LARGE_LEN, ToyExchange, answer, ask, said},
    toys::ToyPort,
};

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
    tokio::spawn(listener.serve_exchange(Arc::clone(&server), Arc::new(ToyExchange)));
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

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

#[tokio::test]
async fn requests_of_a_connection_share_its_links() {
    let served = start(Limits::default());
    let mut socket = connect(served.address).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut socket, "/x", "").await, said(200, "/x 2"));
    }
    assert_eq!(served.links(), 1);
    assert_eq!(ask(&mut socket, "/other", "").await, said(200, "/other 2"));
    assert_eq!(ask(&mut socket, "/x", "").await, said(200, "/x 2"));
    assert_eq!(served.links(), 2);
    // One that the core has closed meanwhile is not used again.
    for link in &*served.port.links.lock().expect("not poisoned") {
        link.tell([Event::Closing {
            reason: CloseReason::Administrative,
        }]);
    }
    assert_eq!(ask(&mut socket, "/x", "").await, said(200, "/x 2"));
    assert_eq!(served.links(), 3);
    assert_eq!(ask(&mut socket, "/sleep", "").await, said(200, "slept"));
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
    tokio::spawn(listener.serve_exchange(server, Arc::new(ToyExchange)));
    for _ in 0..2 {
        assert_eq!(
            ask(&mut socket, "/x", "").await,
            said(401, "this node is not the active one; other:4566 is")
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
    socket.write_all(begun.as_bytes()).await.expect("open");
    assert_eq!(answer(&mut socket).await, said(408, "TooSlow"));
    let mut socket = connect(served.address).await;
    assert_eq!(
        ask(&mut socket, "/body", "0123456789").await,
        said(503, "Busy")
    );
    // What was taken is given back.
    let mut socket = connect(served.address).await;
    assert_eq!(
        ask(&mut socket, "/body", "01234567").await,
        said(200, "01234567")
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

/// A client of HTTP/2 that lets a stream have 1,000 bytes at a time, until it reads them; and its connection.
async fn narrow(address: SocketAddr) -> (Narrow, tokio::task::JoinHandle<hyper::Result<()>>) {
    let io = TokioIo::new(connect(address).await);
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1_000)
        .handshake(io)
        .await
        .expect("HTTP/2 is spoken");
    (Narrow(sender), tokio::spawn(connection))
}

struct Narrow(hyper::client::conn::http2::SendRequest<Full<Bytes>>);

impl Narrow {
    async fn ask(&mut self, path: &str) -> http::Response<hyper::body::Incoming> {
        let request = http::Request::post(format!("http://x{path}"))
            .body(Full::new(Bytes::from_static(b"0123")))
            .expect("a request");
        self.0.send_request(request).await.expect("an answer")
    }
}

async fn taken(response: http::Response<hyper::body::Incoming>) -> (u16, Bytes) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body");
    (status, body.to_bytes())
}

#[tokio::test]
async fn answers_that_an_http2_client_does_not_take_are_bounded_over_all_its_requests() {
    let served = start(Limits {
        http_answers_len_max: 2 * LARGE_LEN,
        ..Limits::default()
    });
    let (mut client, _connection) = narrow(served.address).await;
    let first = client.ask("/large").await;
    let second = client.ask("/large").await;
    assert_eq!(
        (first.status(), second.status()),
        (http::StatusCode::OK, http::StatusCode::OK)
    );
    let third = taken(client.ask("/large").await).await;
    assert_eq!(third, (503, Bytes::from_static(b"Busy")));
    // What is short goes beside them.
    let short = taken(client.ask("/who").await).await;
    assert_eq!(short, (200, Bytes::from_static(b"ada")));
    assert_eq!(taken(first).await.1.len(), LARGE_LEN);
    let fourth = client.ask("/large").await;
    assert_eq!(fourth.status(), http::StatusCode::OK);
    // What is given up makes room too.
    drop((second, fourth));
    let room = async {
        while client.ask("/large").await.status() != http::StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    room.await;
}

#[tokio::test]
async fn with_too_much_untaken_nothing_more_is_begun() {
    let served = start(Limits {
        http_answers_len_max: LARGE_LEN / 2,
        ..Limits::default()
    });
    let (mut client, _connection) = narrow(served.address).await;
    let large = client.ask("/large").await;
    assert_eq!(large.status(), http::StatusCode::OK, "one always fits");
    let links = served.links();
    let refused = taken(client.ask("/other").await).await;
    assert_eq!(refused, (503, Bytes::from_static(b"Busy")));
    assert_eq!(served.links(), links, "the core was not asked");
    assert_eq!(taken(large).await.1.len(), LARGE_LEN);
    let other = taken(client.ask("/other").await).await;
    assert_eq!(other, (200, Bytes::from_static(b"/other 2")));
}

#[tokio::test]
async fn an_http2_client_that_takes_nothing_for_too_long_is_let_go() {
    let served = start(Limits {
        stall_timeout_ms: 100,
        ..Limits::default()
    });
    let (mut client, connection) = narrow(served.address).await;
    let _untaken = client.ask("/large").await;
    let ended = tokio::time::timeout(Duration::from_secs(60), connection).await;
    drop(ended.expect("it ends"));
}
