//! Protocols of requests over real sockets: bodies and their limits, logins, flows in steps and in parts, what waits.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use message::{Timestamp, VhostId};
use net::{Limits, Listener, Server};
use session::{
    Asked, Authenticate, Begun, Command, Credentials, Event, Exchange, Flow, Lane, Lease, Login,
    Peer, Pull, Refusal, RefusalKind, Reply, Request, Secret, Token, Unserved,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::toys::{ToyLink, ToyPort, until};

fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    Reply::Head(Box::new(response))
}

fn unserved(why: &Unserved) -> Reply {
    let status = match why {
        Unserved::TooLong => 413,
        Unserved::TooSlow => 408,
        Unserved::Busy | Unserved::Stopping => 503,
        Unserved::Internal => 500,
    };
    reply(status, format!("{why:?}"))
}

/// Does what the path says.
struct ToyExchange;

struct Toy {
    path: String,
}

impl Exchange for ToyExchange {
    fn begin(&self, head: Parts, _: &Peer, _: Timestamp) -> Result<Begun, Reply> {
        let path = head.uri.path().to_owned();
        if path == "/at-once" {
            return Err(reply(404, "no body was read"));
        }
        Ok(Begun {
            body_len_max: 10,
            request: Box::new(Toy { path }),
        })
    }
}

fn inspect(name: &str) -> Command {
    Command::Inspect {
        token: Token(0),
        lane: Lane(0),
        name: name.to_owned().into(),
    }
}

fn pull(wait_ms: u64) -> Command {
    Command::Pull(Pull {
        token: Token(0),
        lane: Lane(0),
        queue: "q".into(),
        count: 1,
        lease: Lease::Ms(1000),
        wait_ms,
        out_max: None,
        bytes_max: None,
        attempt: None,
    })
}

impl Request for Toy {
    fn take(self: Box<Self>, body: Bytes, _: Timestamp) -> Asked {
        let then: session::AfterLogin = match &*self.path {
            "/echo" => return Asked::Reply(reply(200, body)),
            "/two" => Box::new(|_, _| {
                Flow::ask_all(vec![inspect("a"), inspect("b")], |events, _| {
                    let tokens: Vec<_> = events.iter().map(|event| event.token()).collect();
                    assert!(tokens[0] < tokens[1], "in the order of the commands");
                    Flow::Done(reply(200, format!("{} answers", events.len())))
                })
            }),
            "/who" => Box::new(|known, _| {
                Flow::Done(match known {
                    Ok(known) => reply(200, known.user.to_string()),
                    Err(refusal) => reply(403, refusal.detail.to_string()),
                })
            }),
            "/parts" => Box::new(|_, now| {
                Flow::part(reply(200, "head,"), move |_| {
                    Flow::until(now.plus_ms(5), |_| {
                        Flow::part(Reply::More("more,".into()), |_| {
                            Flow::Done(Reply::More("end".into()))
                        })
                    })
                })
            }),
            "/wait" => {
                Box::new(|_, _| Flow::ask(pull(20_000), |_, _| Flow::Done(reply(200, "pulled"))))
            }
            "/panic" => Box::new(|_, _| panic!("a defect of the toy")),
            other => panic!("no toy goes by {other}"),
        };
        Asked::Login(Box::new(Login {
            authenticate: Authenticate {
                token: Token(0),
                credentials: Credentials::Vouched {
                    user: "guest".to_owned(),
                },
                vhost: None,
                vhost_fallback: false,
                vhost_in_user: false,
                vhost_follows: false,
                vhost_create: false,
                protocol: "toy",
                client: Bytes::new(),
            },
            then,
            refuse: Box::new(|why| unserved(&why)),
        }))
    }

    fn refuse(self: Box<Self>, why: Unserved) -> Reply {
        unserved(&why)
    }
}

struct Stage {
    address: SocketAddr,
    port: Arc<ToyPort>,
    server: Arc<Server>,
}

impl Stage {
    fn new(limits: Limits) -> Self {
        let port = ToyPort::new(2);
        let server = Server::new(Arc::clone(&port) as _, limits);
        let listener = Listener::bind("toy", "127.0.0.1:0").expect("a free port");
        let address = listener.address();
        tokio::spawn(listener.serve_exchange(Arc::clone(&server), Arc::new(ToyExchange)));
        Self {
            address,
            port,
            server,
        }
    }

    async fn open(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    /// The link that was made last, when it has been given `count` commands.
    async fn link(&self, count: usize) -> Arc<ToyLink> {
        until(|| {
            let links = self.port.links.lock().expect("no test panics with it");
            let link = links.last()?;
            (link.core().taken.len() >= count).then(|| Arc::clone(link))
        })
        .await
    }
}

async fn send(socket: &mut TcpStream, path: &str, body: &str) {
    let text = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(text.as_bytes()).await.expect("open");
}

/// Status and body of the next answer.
async fn answer(socket: &mut TcpStream) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let status = head[9..12].parse().expect("a status");
    let len = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next()?.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; len];
    socket.read_exact(&mut body).await.expect("a whole body");
    (status, String::from_utf8(body).expect("text"))
}

fn welcome(link: &ToyLink) {
    let token = match link.core().taken.last() {
        Some(Command::Authenticate(asked)) => asked.token,
        other => panic!("{other:?}"),
    };
    link.tell([Event::Authenticated {
        token,
        vhost: VhostId::ROOT,
        vhost_name: "/".into(),
        user: "guest".into(),
        secret: Secret([0; 32]),
    }]);
}

fn refused(link: &ToyLink, at: usize) -> Event {
    let mut command = link.core().taken[at].clone();
    Event::Refused {
        token: *command.token_mut().expect("it is answered"),
        refusal: Refusal::new(RefusalKind::NotFound, "none"),
    }
}

#[tokio::test]
async fn bodies_are_read_up_to_their_limit_and_one_announced_as_longer_is_not_read() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/echo", "0123456789").await;
    assert_eq!(answer(&mut socket).await, (200, "0123456789".to_owned()));
    let text = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n";
    socket.write_all(text.as_bytes()).await.expect("open");
    assert_eq!(answer(&mut socket).await, (413, "TooLong".to_owned()));

    let mut socket = stage.open().await;
    let text = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n";
    socket.write_all(text.as_bytes()).await.expect("open");
    assert_eq!(answer(&mut socket).await, (413, "TooLong".to_owned()));

    let mut socket = stage.open().await;
    let text = "POST /at-once HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    socket.write_all(text.as_bytes()).await.expect("open");
    assert_eq!(answer(&mut socket).await.0, 404);
}

#[tokio::test]
async fn bodies_of_all_requests_have_one_room() {
    let stage = Stage::new(Limits {
        http_bodies_len_max: 5,
        ..Limits::default()
    });
    let mut socket = stage.open().await;
    send(&mut socket, "/echo", "012345").await;
    assert_eq!(answer(&mut socket).await, (503, "Busy".to_owned()));
    // What was refused gives its room back.
    let mut socket = stage.open().await;
    send(&mut socket, "/echo", "01234").await;
    assert_eq!(answer(&mut socket).await.0, 200);
}

#[tokio::test]
async fn a_link_is_logged_in_once_and_serves_one_request_after_the_other() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/who", "").await;
    let link = stage.link(1).await;
    welcome(&link);
    assert_eq!(answer(&mut socket).await, (200, "guest".to_owned()));
    send(&mut socket, "/two", "").await;
    stage.link(3).await;
    // In the other order: each is told apart by its token.
    link.tell([refused(&link, 2), refused(&link, 1)]);
    assert_eq!(answer(&mut socket).await, (200, "2 answers".to_owned()));
    assert_eq!(stage.port.links.lock().expect("no panic").len(), 1);
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_and_asked_for_again() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/who", "").await;
    let link = stage.link(1).await;
    link.tell([refused(&link, 0)]);
    assert_eq!(answer(&mut socket).await, (403, "none".to_owned()));
    send(&mut socket, "/who", "").await;
    until(|| {
        let links = stage.port.links.lock().expect("no panic");
        (links.len() == 2).then_some(())
    })
    .await;
    welcome(&*stage.link(1).await);
    assert_eq!(answer(&mut socket).await.0, 200);
}

#[tokio::test]
async fn an_answer_may_come_in_parts() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    let text =
        "POST /parts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    socket.write_all(text.as_bytes()).await.expect("open");
    welcome(&*stage.link(1).await);
    let mut whole = String::new();
    socket.read_to_string(&mut whole).await.expect("to its end");
    assert!(whole.contains("transfer-encoding: chunked"), "{whole}");
    assert!(
        whole.ends_with("5\r\nhead,\r\n5\r\nmore,\r\n3\r\nend\r\n0\r\n\r\n"),
        "{whole}"
    );
}

#[tokio::test]
async fn what_waits_is_given_up_when_its_peer_goes_and_when_the_server_does() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/wait", "").await;
    welcome(&*stage.link(1).await);
    let link = stage.link(2).await;
    drop(socket);
    // The one in the list of links, and ours.
    until(|| (Arc::strong_count(&link) == 2).then_some(())).await;

    let mut socket = stage.open().await;
    send(&mut socket, "/wait", "").await;
    let second = until(|| {
        let links = stage.port.links.lock().expect("no panic");
        links.get(1).cloned()
    })
    .await;
    until(|| (second.core().taken.len() == 1).then_some(())).await;
    welcome(&second);
    until(|| (second.core().taken.len() == 2).then_some(())).await;
    let drained = stage
        .server
        .drain(std::future::ready(()), std::time::Duration::from_secs(20));
    let (told, drained) = tokio::join!(answer(&mut socket), drained);
    assert_eq!(told, (503, "Stopping".to_owned()));
    assert_eq!(drained.dropped, 0);
}

#[tokio::test]
async fn a_defect_costs_one_request() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    send(&mut socket, "/panic", "").await;
    welcome(&*stage.link(1).await);
    assert_eq!(answer(&mut socket).await, (500, "Internal".to_owned()));
    send(&mut socket, "/echo", "still").await;
    assert_eq!(answer(&mut socket).await, (200, "still".to_owned()));
}

/// RFC 9113, 3.4: a client that knows starts with the preface; the server's own settings are its first frame.
#[tokio::test]
async fn http_2_is_spoken_to_who_begins_with_it() {
    let stage = Stage::new(Limits::default());
    let mut socket = stage.open().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    socket.write_all(preface).await.expect("open");
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.expect("a frame");
    assert_eq!((head[3], head[4], &head[5..]), (4, 0, &[0; 4][..]));
}
