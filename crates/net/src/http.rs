//! HTTP on its own port: health, metrics, and the upgrade to WebSocket (DOORS 28).
//!
//! | request | answer |
//! |---|---|
//! | `GET /health/live` | 200 as long as the process answers |
//! | `GET /health/ready` | 200 or 503, and what the node says of itself, as JSON ([`Http::health`]) |
//! | `GET /metrics` | Prometheus text |
//! | `GET` on an upgrade path | 101, and the connection loop takes over; 426 without an upgrade |
//! | what begins as the API does | the API's ([`Http::api`]) |
//! | elsewhere a body | 413; another method: 405; another path: 404 |
//!
//! hyper parses and times the requests. A connection has one task here too: the answers that are not at hand at once are driven
//! where hyper polls them. When it is upgraded, hyper gives the socket back and a fresh, smaller task serves it.
//! Not here: WebSocket frames (the session that the binary makes wraps the protocol), and what the API says.

mod patience;
mod upgrade;

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use session::{Exchange, Link, Peer, Session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) use patience::Patient;
pub use upgrade::Origins;

use crate::{Seat, Server, Traffic, exchange, serve_connection, server::Phase};

/// Header lines of a request.
const HEADERS_MAX: usize = 100;
/// Bytes of a refused body that are read and thrown away, so that the answer arrives.
const LINGER_LEN_MAX: usize = 256 * 1024;

type Answer = Response<exchange::Answer>;

/// What the node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// It serves: 200, else 503.
    pub ready: bool,
    /// The answer's body: JSON.
    pub body: String,
}

/// A client that wants to speak WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// One of the upgrade paths.
    pub path: &'a str,
    /// The subprotocols it offers, as a list with commas; `None`: none named.
    pub protocols: Option<&'a str>,
    /// Who.
    pub peer: &'a Peer,
}

/// What it is given.
pub struct Upgraded {
    /// The subprotocol chosen, named in the answer.
    pub protocol: Option<&'static str>,
    /// The session, which speaks WebSocket frames.
    pub session: Box<dyn Session + Send>,
}

/// Why it is given nothing: a sentence for people. The answer is 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UpgradeRefusal(pub String);

/// Chooses the subprotocol of a client and makes its session.
pub type Choose = Box<dyn Fn(&Offer<'_>) -> Result<Upgraded, UpgradeRefusal> + Send + Sync>;

/// What the binary gives to HTTP.
pub struct Http {
    /// Asked for each `/health/ready`, and told whether the server drains.
    pub health: Box<dyn Fn(bool) -> Health + Send + Sync>,
    /// The whole text of `/metrics` (see [`Server::write_metrics`]).
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Where WebSocket is spoken.
    pub upgrade_paths: &'static [&'static str],
    /// Whose pages may open a WebSocket.
    pub origins: Origins,
    /// Chooses the subprotocol and makes the session.
    pub choose: Choose,
    /// What paths of the API start with, and what answers them.
    pub api: (&'static str, Arc<dyn Exchange>),
    /// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
    pub accept_key: fn(&str) -> String,
}

/// An upgrade that was answered with 101.
struct Granted {
    session: Box<dyn Session + Send>,
    link: Arc<dyn Link>,
}

/// Where the service leaves it for the connection.
type Slot = Arc<Mutex<Option<Granted>>>;

/// Serves HTTP on one socket, and whatever it is upgraded to.
pub(crate) async fn serve_socket(socket: TcpStream, http: Arc<Http>, mut seat: Seat) {
    let slot = Slot::default();
    let requests = Arc::new(exchange::Shared::new(Arc::clone(&http.api.1), &seat));
    let door = Arc::new(Door {
        http,
        server: Arc::clone(seat.server()),
        traffic: Arc::clone(seat.traffic()),
        peer: seat.peer().clone(),
        granted: Arc::clone(&slot),
    });
    let service = service_fn(move |request: Request<Incoming>| {
        let (door, requests) = (Arc::clone(&door), Arc::clone(&requests));
        // hyper gives the socket back of a service that can be moved only.
        Box::pin(async move {
            if request.uri().path().starts_with(door.http.api.0) {
                exchange::answer(requests, request).await
            } else {
                Ok::<_, Infallible>(door.answer(&request))
            }
        })
    });
    let waits = Waits {
        head_timeout_ms: seat.limits().http_head_timeout_ms,
        buffer_len: 8 * 1024,
    };
    let ended = serve_requests(socket, service, waits, &mut seat).await;
    let granted = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    match granted {
        Some(Granted { session, link }) if matches!(ended.served, Some(Ok(()))) => {
            let input = BytesMut::from(ended.unread);
            tokio::spawn(serve_connection(ended.socket, input, session, link, seat));
        }
        _ => ended.farewell(&seat).await,
    }
}

/// What differs between the doors that speak HTTP/1.1.
pub(crate) struct Waits {
    /// How long a request's head may take, from the answer before it on.
    pub(crate) head_timeout_ms: u64,
    /// The least buffer of a connection, in bytes.
    pub(crate) buffer_len: usize,
}

/// A connection whose requests have come to an end.
pub(crate) struct Ended {
    socket: TcpStream,
    /// What came behind the last request.
    unread: Bytes,
    /// How that was. `None`: the server aborted it.
    served: Option<hyper::Result<()>>,
}

/// Serves requests of HTTP/1.1 until the peer is done or is upgraded, or the server goes down.
pub(crate) async fn serve_requests<S>(
    socket: TcpStream,
    service: S,
    waits: Waits,
    seat: &mut Seat,
) -> Ended
where
    S: Service<Request<Incoming>, Response = Answer, Error = Infallible> + Unpin,
    S::Future: Unpin,
{
    let limits = seat.limits();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(waits.head_timeout_ms))
        .max_header_size(limits.http_head_len_max)
        .max_buf_size(limits.http_head_len_max.max(waits.buffer_len))
        .max_headers(HEADERS_MAX);
    let mut connection = builder.serve_connection(patiently(socket, seat), service);
    let mut told = false;
    let served = poll_fn(|cx| {
        let phase = seat.poll_phase(cx);
        if phase == Phase::Abort {
            return Poll::Ready(None);
        }
        if phase == Phase::Closing && !told {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(cx).map(Some)
    })
    .await;
    let parts = connection.into_parts();
    Ended {
        socket: parts.io.into_inner().into_inner(),
        unread: parts.read_buf,
        served,
    }
}

/// The socket of a peer that may stall for so long only.
pub(crate) fn patiently(socket: TcpStream, seat: &Seat) -> TokioIo<Patient<TcpStream>> {
    let stall = Duration::from_millis(seat.limits().stall_timeout_ms);
    TokioIo::new(Patient::new(socket, stall, Arc::clone(seat.traffic())))
}

impl Ended {
    /// Closes the socket so that the last answer arrives.
    pub(crate) async fn farewell(self, seat: &Seat) {
        match self.served {
            // Aborted: nobody waits.
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::debug!(peer = %seat.address(), %error, "failed to serve http");
            }
        }
        let patience = Duration::from_millis(seat.limits().linger_timeout_ms);
        let _ = tokio::time::timeout(patience, linger(self.socket)).await;
    }
}

/// Ends our side and waits a little for the peer's: closing with bytes unread would destroy the answer on its way.
async fn linger(mut socket: TcpStream) {
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut buffer = BytesMut::with_capacity(8 * 1024);
    let mut left = LINGER_LEN_MAX;
    while let Ok(len @ 1..) = socket.read_buf(&mut buffer).await {
        buffer.clear();
        left = left.saturating_sub(len);
        if left == 0 {
            return;
        }
    }
}

/// Answers the requests of one connection.
struct Door {
    http: Arc<Http>,
    server: Arc<Server>,
    traffic: Arc<Traffic>,
    peer: Peer,
    granted: Slot,
}

impl Door {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let upgrades = self.http.upgrade_paths.contains(&path);
        if !upgrades && !matches!(path, "/health/live" | "/health/ready" | "/metrics") {
            return text(StatusCode::NOT_FOUND, "nothing is here");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here");
            set(&mut answer, header::ALLOW, "GET, HEAD");
            return answer;
        }
        if !request.body().is_end_stream() {
            let mut answer = text(StatusCode::PAYLOAD_TOO_LARGE, "no body is taken here");
            set(&mut answer, header::CONNECTION, "close");
            return answer;
        }
        match path {
            "/health/live" => json(StatusCode::OK, r#"{"status":"live"}"#.into()),
            "/health/ready" => self.ready(),
            "/metrics" => {
                let mut answer = whole((self.http.metrics)());
                set(
                    &mut answer,
                    header::CONTENT_TYPE,
                    "text/plain; version=0.0.4; charset=utf-8",
                );
                answer
            }
            _ => self.upgrade(request),
        }
    }

    fn ready(&self) -> Answer {
        let draining = self.server.is_draining();
        let Health { ready, body } = (self.http.health)(draining);
        let status = if ready && !draining {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        json(status, body)
    }

    fn upgrade(&self, request: &Request<Incoming>) -> Answer {
        let key = match upgrade::check(request, &self.http.origins, &self.peer) {
            Ok(key) => key,
            Err(refusal) => return *refusal,
        };
        let protocols = upgrade::protocols(request.headers());
        let offer = Offer {
            path: request.uri().path(),
            protocols: protocols.as_deref(),
            peer: &self.peer,
        };
        let upgraded = match (self.http.choose)(&offer) {
            Ok(upgraded) => upgraded,
            Err(refusal) => return text(StatusCode::BAD_REQUEST, &refusal.0),
        };
        let Some(link) = self.server.port().attach(self.peer.clone()) else {
            Traffic::add(&self.traffic.refused, 1);
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "no more connections are taken",
            );
        };
        let mut answer = whole(Bytes::new());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        set(&mut answer, header::UPGRADE, "websocket");
        set(&mut answer, header::CONNECTION, "Upgrade");
        set(
            &mut answer,
            header::SEC_WEBSOCKET_ACCEPT,
            &(self.http.accept_key)(key),
        );
        if let Some(protocol) = upgraded.protocol {
            set(&mut answer, header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let granted = Granted {
            session: upgraded.session,
            link,
        };
        *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(granted);
        answer
    }
}

fn whole(body: impl Into<Bytes>) -> Answer {
    Response::new(exchange::Answer::whole(body.into()))
}

fn text(status: StatusCode, words: &str) -> Answer {
    let mut answer = whole(format!("{words}\n"));
    *answer.status_mut() = status;
    set(
        &mut answer,
        header::CONTENT_TYPE,
        "text/plain; charset=utf-8",
    );
    answer
}

fn json(status: StatusCode, body: String) -> Answer {
    let mut answer = whole(body);
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE, "application/json");
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    answer
}

fn set(answer: &mut Answer, name: header::HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("our own words are visible ASCII");
    answer.headers_mut().insert(name, value);
}
