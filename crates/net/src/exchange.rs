//! Serving protocols of requests over HTTP/1.1 and HTTP/2 ([`session::Exchange`]): the head, the body within its limits, and then
//! the flow of the answer.
//!
//! ```text
//! socket ─► HTTP/1.1, or HTTP/2 with prior knowledge ─► request ─► body ─► Drive ─► answer, whole or in parts
//!                                                                    │      └─ a link of this connection, one request at a time
//!                                                                    └─ counted in the budget of all bodies
//! ```
//! A connection keeps the links that its requests have logged in with; a request takes one that fits, or attaches another.
//! When the peer goes away while its answer is made, the link goes with it: what waits in the core is given up.
//! Requests of one HTTP/2 connection run side by side, each with a link of its own; what they are answered is bounded together (`untaken.rs`).

mod body;
mod drive;
mod untaken;

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use session::{Asked, Authenticate, Begun, Exchange, Link, LoggedIn, Peer, Reply, Unserved};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

pub(crate) use self::body::Answer;
use self::{
    body::{Unread, read_body},
    drive::{Drive, Step},
    untaken::{Piece, Untaken},
};
use crate::{
    Seat, Server, Traffic,
    http::{Patient, Waits, patiently, serve_requests},
    server::Phase,
};

/// Of a body that is being read, room is made for at most so many times what has come: who says that much comes and sends little
/// must not take memory, and who sends it must not have it copied again and again.
const AHEAD: usize = 8;
/// Memory of bodies that is kept for others: how much of it at most, of how many bytes each.
const SPARES_MAX: usize = 4;
const SPARE_LEN_MIN: usize = 64 << 10;
const SPARE_LEN_MAX: usize = 2 << 20;
/// Links that a connection keeps for its next requests.
const IDLE_LINKS_MAX: usize = 16;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 128;
/// What a peer may send of one request's body, and of all of them, before we have read it (HTTP/2).
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How often a silent HTTP/2 connection is asked whether it is still there, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How HTTP/2 begins (RFC 9113, 3.4). No method of HTTP/1.1 that is taken here begins so.
const PREFACE: &[u8] = b"PRI";
/// The pause between two looks at a peer that has sent one or two bytes.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);

/// A link that is not in use, and as whom it is logged in.
struct Idle {
    authenticate: Authenticate,
    logged_in: LoggedIn,
    link: Arc<dyn Link>,
}

/// What the requests of one connection share.
pub(crate) struct Shared {
    exchange: Arc<dyn Exchange>,
    server: Arc<Server>,
    traffic: Arc<Traffic>,
    peer: Peer,
    idle: Mutex<Vec<Idle>>,
    /// For tokens: no two commands of this connection have the same.
    count: AtomicU64,
    /// Over HTTP/2: what it was answered and has not taken. Over HTTP/1.1 that is one answer at a time.
    untaken: Option<Arc<Untaken>>,
}

impl Shared {
    pub(crate) fn new(exchange: Arc<dyn Exchange>, seat: &Seat) -> Self {
        Self {
            exchange,
            server: Arc::clone(seat.server()),
            traffic: Arc::clone(seat.traffic()),
            peer: seat.peer().clone(),
            idle: Mutex::default(),
            count: AtomicU64::new(0),
            untaken: None,
        }
    }

    /// Whether its peer takes so little of what it was answered that nothing more is begun.
    fn is_full(&self) -> bool {
        self.untaken.as_ref().is_some_and(|it| it.is_full())
    }

    /// Bytes of an answer on their way. `None`: there is no room for them.
    fn hold(&self, piece: Piece) -> Option<Piece> {
        match &self.untaken {
            Some(untaken) => untaken.hold(piece),
            None => Some(piece),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link that is logged in like that.
    fn take_idle(&self, authenticate: &Authenticate) -> Option<Idle> {
        let mut idle = self.idle();
        let at = idle
            .iter()
            .rposition(|link| link.authenticate == *authenticate)?;
        Some(idle.swap_remove(at))
    }

    fn give_back(&self, link: Idle) {
        let mut idle = self.idle();
        if idle.len() >= IDLE_LINKS_MAX {
            idle.remove(0);
        }
        idle.push(link);
    }
}

/// Serves one socket to its end.
pub(crate) async fn serve_socket(socket: TcpStream, exchange: Arc<dyn Exchange>, seat: Seat) {
    let mut shared = Shared::new(exchange, &seat);
    let limits = seat.limits();
    let patience = Duration::from_millis(limits.http_idle_timeout_ms);
    let Some(is_http2) = speaks_http2(&socket, Instant::now() + patience).await else {
        return;
    };
    if is_http2 {
        let untaken = Arc::new(Untaken::new(limits));
        shared.untaken = Some(Arc::clone(&untaken));
        let io = patiently(socket, &seat);
        serve_http2(io, Arc::new(shared), &untaken, seat).await;
    } else {
        serve_http1(socket, Arc::new(shared), seat).await;
    }
}

/// Looks at the first bytes. `None`: the peer sent nothing in time, or has gone.
async fn speaks_http2(socket: &TcpStream, until: Instant) -> Option<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let looked = timeout_at(until, socket.peek(&mut first)).await;
        let len = looked.ok()?.ok().filter(|len| *len > 0)?;
        if first[..len] != PREFACE[..len] {
            return Some(false);
        }
        if len == PREFACE.len() {
            return Some(true);
        }
        timeout_at(until, sleep(PREFACE_PAUSE)).await.ok()?;
    }
}

async fn serve_http1(socket: TcpStream, shared: Arc<Shared>, mut seat: Seat) {
    let waits = Waits {
        head_timeout_ms: seat.limits().http_idle_timeout_ms,
        buffer_len: 64 * 1024,
    };
    let service = service_fn(move |request| Box::pin(answer(Arc::clone(&shared), request)));
    let ended = serve_requests(socket, service, waits, &mut seat).await;
    ended.farewell(&seat).await;
}

async fn serve_http2(
    io: TokioIo<Patient<TcpStream>>,
    shared: Arc<Shared>,
    untaken: &Untaken,
    mut seat: Seat,
) {
    let server = Arc::clone(seat.server());
    let limits = server.limits();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.http_head_len_max).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(PING_EVERY))
        .keep_alive_timeout(PING_TIMEOUT);
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    let mut connection = builder.serve_connection(io, service);
    let mut stalled = pin!(untaken.stalled(limits));
    let mut told = false;
    let served = poll_fn(|cx| {
        let phase = seat.poll_phase(cx);
        if phase == Phase::Abort {
            return Poll::Ready(Ok(()));
        }
        if stalled.as_mut().poll(cx).is_ready() {
            tracing::debug!(peer = %seat.address(), "an http client does not take its answers");
            return Poll::Ready(Ok(()));
        }
        if phase == Phase::Closing && !told {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx)
    })
    .await;
    if let Err(error) = served {
        tracing::debug!(peer = %seat.address(), %error, "failed to serve http");
    }
}

/// Answers one request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (head, incoming) = request.into_parts();
    let closes = head.version < hyper::Version::HTTP_2;
    let port = shared.server.port();
    let begun = shared.exchange.begin(head, &shared.peer, port.now());
    let (asked, unread) = match begun {
        Err(reply) => (
            Asked::Reply(reply),
            !hyper::body::Body::is_end_stream(&incoming),
        ),
        Ok(Begun { request, .. }) if shared.server.is_draining() => {
            (Asked::Reply(request.refuse(Unserved::Stopping)), true)
        }
        Ok(Begun { request, .. }) if shared.is_full() => {
            (Asked::Reply(request.refuse(Unserved::Busy)), true)
        }
        Ok(Begun {
            body_len_max,
            request,
        }) => match read_body(incoming, body_len_max, &shared.server).await {
            Ok(body) => {
                let asked = request.take(body.clone(), port.now());
                shared.server.spare_bodies().give_back(body);
                (asked, false)
            }
            Err(Unread::Unserved(why)) => (Asked::Reply(request.refuse(why)), true),
            // Nobody will read the answer.
            Err(Unread::Gone) => (Asked::Reply(request.refuse(Unserved::TooSlow)), true),
        },
    };
    let mut response = match asked {
        Asked::Reply(reply) => whole(reply),
        Asked::Login(login) => {
            let mut drive = Drive::new(Arc::clone(&shared), *login);
            let (reply, more) = match poll_fn(|cx| drive.poll(cx)).await {
                Step::Last(reply) => (reply, false),
                Step::Part(reply) => (reply, true),
            };
            let (head, piece) = parts(reply);
            match shared.hold(piece) {
                Some(piece) if more => head.map(|()| Answer::in_parts(piece, drive)),
                Some(piece) => head.map(|()| Answer::of(piece)),
                None => whole(drive.refuse(Unserved::Busy)),
            }
        }
    };
    if unread && closes {
        // What is left of the body is not read.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}

/// A short one: a refusal, or a page.
fn whole(reply: Reply) -> Response<Answer> {
    let (head, piece) = parts(reply);
    head.map(|()| Answer::of(piece))
}

fn parts(reply: Reply) -> (Response<()>, Piece) {
    match reply {
        Reply::Head(response) => {
            let (head, bytes) = response.into_parts();
            (Response::from_parts(head, ()), bytes.into())
        }
        Reply::Pieces(response) => {
            let (head, all) = response.into_parts();
            (Response::from_parts(head, ()), all.into())
        }
        Reply::More(bytes) => (Response::new(()), bytes.into()),
    }
}

/// Memory of long bodies that were read, for the next ones: to have fresh pages costs as much as to fill them.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Vec<BytesMut>>);

impl Spares {
    /// Room for so many bytes.
    fn take(&self, len: usize) -> Option<BytesMut> {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = spares.iter().position(|spare| spare.capacity() >= len)?;
        Some(spares.swap_remove(at))
    }

    /// Keeps the memory of a body, if nobody else has a part of it.
    fn give_back(&self, body: Bytes) {
        if body.len() < SPARE_LEN_MIN {
            return;
        }
        let Ok(mut spare) = body.try_into_mut() else {
            return;
        };
        spare.clear();
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARES_MAX && spare.capacity() <= SPARE_LEN_MAX {
            spares.push(spare);
        }
    }
}

/// Bytes in one piece or several.
struct Gathered<'a> {
    first: Option<Bytes>,
    all: BytesMut,
    spares: &'a Spares,
}

impl<'a> Gathered<'a> {
    fn new(spares: &'a Spares) -> Self {
        Self {
            first: None,
            all: BytesMut::new(),
            spares,
        }
    }

    fn len(&self) -> usize {
        self.first.as_ref().map_or(self.all.len(), Bytes::len)
    }

    /// Adds a piece. So many bytes are said to come behind it: room is made for them, but not for many times what has come.
    fn push(&mut self, bytes: Bytes, behind: usize) {
        if self.first.is_none() && self.all.is_empty() {
            self.first = Some(bytes);
            return;
        }
        let come = self.len() + bytes.len();
        let needed = bytes.len() + self.first.as_ref().map_or(0, Bytes::len);
        if self.all.is_empty()
            && come + behind >= SPARE_LEN_MIN
            && let Some(spare) = self.spares.take(come + behind)
        {
            self.all = spare;
        }
        if self.all.capacity() - self.all.len() < needed {
            self.all.reserve(needed + behind.min(AHEAD * come));
        }
        if let Some(first) = self.first.take() {
            self.all.extend_from_slice(&first);
        }
        self.all.extend_from_slice(&bytes);
    }

    fn take(self) -> Bytes {
        self.first.unwrap_or_else(|| self.all.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_gathered_without_room_for_what_is_only_said_to_come() {
        const PIECE: usize = 1000;
        const LEN: usize = 10 << 20;
        let spares = Spares::default();
        let mut gathered = Gathered::new(&spares);
        let (mut left, mut moves, mut room) = (LEN, 0, 0);
        while left > 0 {
            let len = left.min(PIECE);
            left -= len;
            gathered.push(Bytes::from(vec![b'x'; len]), left);
            if gathered.all.capacity() > room {
                room = gathered.all.capacity();
                moves += 1;
            }
            assert!(room <= (AHEAD + 1) * gathered.len() + PIECE);
        }
        assert!(moves < 10, "{moves} times moved");
        assert!(gathered.take().iter().eq(std::iter::repeat_n(&b'x', LEN)));
    }

    #[test]
    fn the_memory_of_a_body_serves_the_next_one_if_nobody_has_a_part_of_it() {
        const LEN: usize = 2 * SPARE_LEN_MIN;
        let spares = Spares::default();
        let gather = |byte, len| {
            let mut gathered = Gathered::new(&spares);
            gathered.push(Bytes::from(vec![byte; len / 2]), len / 2);
            gathered.push(Bytes::from(vec![byte; len / 2]), 0);
            let body = gathered.take();
            assert!(body.iter().eq(std::iter::repeat_n(&byte, len)));
            body
        };
        let kept = || spares.0.lock().unwrap().len();
        let first = gather(b'a', LEN);
        let place = first.as_ptr();
        spares.give_back(first);
        let second = gather(b'b', LEN);
        assert_eq!((second.as_ptr(), kept()), (place, 0));
        let part = second.slice(5..6);
        spares.give_back(second);
        assert_eq!((&part[..], kept()), (&b"b"[..], 0));
        let other = gather(b'c', LEN);
        assert!(other.as_ptr() != place);
        // Neither what is had for little nor what is too much.
        spares.give_back(gather(b'd', SPARE_LEN_MIN / 2));
        spares.give_back(gather(b'd', 2 * SPARE_LEN_MAX));
        assert_eq!(kept(), 0);
        let many: Vec<_> = (0..2 * SPARES_MAX).map(|_| gather(b'e', LEN)).collect();
        many.into_iter().for_each(|body| spares.give_back(body));
        assert_eq!(kept(), SPARES_MAX);
    }
}
