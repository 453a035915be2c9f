//! A protocol of requests that does what the path says, and a client that writes HTTP/1.1 by hand.

use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use message::Timestamp;
use session::{
    Asked, Authenticate, Begun, Command, Credentials, Exchange, Flow, Lane, Lease, LoggedIn, Login,
    Peer, Pull, Reply, Request, Token, Unserved,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::toys::fence;

/// | path | answer |
/// |---|---|
/// | `/no` | 403 before the body is read |
/// | `/body` | the body, without a login |
/// | `/who` | the user |
/// | `/large` | [`LARGE_LEN`] bytes |
/// | `/sleep` | 50 ms later |
/// | `/wait` | when a message has come |
/// | `/parts` | `a`, then `b` and `c` when the core was asked something |
/// | `/steps` | `head,`, at once `more,` and then `end` |
/// | `/panic` | none |
/// | others | the path, and how many answers came from the core; with `other` in it as another user |
pub(crate) struct ToyExchange;

/// A long answer.
pub(crate) const LARGE_LEN: usize = 300_000;

impl Exchange for ToyExchange {
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
            return Asked::Reply(reply(200, body));
        }
        let path = self.0;
        Asked::Login(Box::new(Login {
            authenticate: Authenticate {
                token: Token(0),
                credentials: Credentials::Vouched {
                    user: path.contains("other").to_string().into(),
                },
                vhost: None,
                vhost_fallback: false,
                vhost_in_user: false,
                vhost_follows: false,
                vhost_create: false,
                verified_anywhere: false,
                protocol: "TOY",
                client: Bytes::new(),
            },
            then: Box::new(move |logged_in, now| match logged_in {
                Err(refusal) => Flow::Done(reply(401, refusal.detail.to_string())),
                Ok(logged_in) => flow(path, &logged_in, now),
            }),
            refuse: Box::new(refused),
        }))
    }

    fn refuse(self: Box<Self>, why: Unserved) -> Reply {
        refused(why)
    }
}

fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    Reply::Head(Box::new(response))
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

fn flow(path: String, logged_in: &LoggedIn, now: Timestamp) -> Flow<Reply> {
    match &*path {
        "/who" => Flow::Done(reply(200, logged_in.user.to_string())),
        "/large" => Flow::Done(reply(200, vec![b'x'; LARGE_LEN])),
        "/sleep" => Flow::until(now.plus_ms(50), |_| Flow::Done(reply(200, "slept"))),
        "/wait" => Flow::ask(pull(), |_, _| Flow::Done(reply(200, "pulled"))),
        "/parts" => Flow::part(reply(200, "a"), |_| {
            Flow::ask(fence(0), |_, _| {
                Flow::part(Reply::More("b".into()), |_| {
                    Flow::Done(Reply::More("c".into()))
                })
            })
        }),
        "/steps" => Flow::part(reply(200, "head,"), move |_| {
            Flow::until(now.plus_ms(5), |_| {
                Flow::part(Reply::More("more,".into()), |_| {
                    Flow::Done(Reply::More("end".into()))
                })
            })
        }),
        "/panic" => panic!("a defect of the toy"),
        _ => Flow::ask_all(vec![fence(0), fence(0)], move |events, _| {
            let tokens: Vec<_> = events.iter().map(|event| event.token()).collect();
            assert!(tokens[0] < tokens[1], "in the order of the commands");
            Flow::Done(reply(200, format!("{path} {}", events.len())))
        }),
    }
}

fn pull() -> Command {
    Command::Pull(Pull {
        token: Token(0),
        lane: Lane(0),
        queue: "q".into(),
        count: 1,
        lease: Lease::Ms(1000),
        wait_ms: 20_000,
        out_max: None,
        bytes_max: None,
        attempt: None,
    })
}

/// Sends a request with a body.
pub(crate) async fn send(socket: &mut TcpStream, path: &str, body: &str) {
    let text = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(text.as_bytes()).await.expect("open");
}

/// Status and body of the next answer that has a length.
pub(crate) async fn answer(socket: &mut TcpStream) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let status = head[9..12].parse().expect("a status");
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |len| len.parse().expect("a number"));
    let mut body = vec![0; len];
    socket.read_exact(&mut body).await.expect("a whole body");
    (status, String::from_utf8(body).expect("text"))
}

/// Sends a request and takes its answer.
pub(crate) async fn ask(socket: &mut TcpStream, path: &str, body: &str) -> (u16, String) {
    send(socket, path, body).await;
    answer(socket).await
}

/// An answer to compare with.
pub(crate) fn said(status: u16, body: &str) -> (u16, String) {
    (status, body.to_owned())
}
