//! Protocols of requests over HTTP, without I/O: a request goes in, its answer comes out, perhaps later and perhaps in parts.
//!
//! ```text
//! head ─► Exchange::begin ─► body, at most so long ─► Request::take ─► Asked::Login ─► Login::then ─► Flow<Reply>
//!              │                    │                     │                              (see `flow.rs`)
//!              └─► Reply            └─► Request::refuse   └─► Asked::Reply
//! ```
//! Whoever drives it (the HTTP serving in `net`, a test) reads the body, logs in as the request says, drives the flow, and sends
//! what comes. Here HTTP is the vocabulary of the crate `http`: no sockets, no parsing.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, request::Parts};
use message::{Name, Timestamp, VhostId};

use crate::{Authenticate, Flow, Peer, Refusal, Secret};

/// An HTTP protocol.
pub trait Exchange: Send + Sync + 'static {
    /// The head of a request has come. `Err`: it is answered at once, without its body.
    fn begin(&self, head: Parts, peer: &Peer, now: Timestamp) -> Result<Begun, Reply>;
}

/// A request whose body is to come.
pub struct Begun {
    /// The longest body that is taken, in bytes.
    pub body_len_max: usize,
    /// The request.
    pub request: Box<dyn Request>,
}

/// See [`Begun`].
pub trait Request: Send {
    /// The whole body has come.
    fn take(self: Box<Self>, body: Bytes, now: Timestamp) -> Asked;
    /// It is not served, for a reason that is not the protocol's.
    fn refuse(self: Box<Self>, why: Unserved) -> Reply;
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// Its body is longer than it may be.
    TooLong,
    /// Its body did not come in time.
    TooSlow,
    /// There are too many requests or connections at a time.
    Busy,
    /// The server is going down, or is not the active one.
    Stopping,
    /// A defect of ours.
    Internal,
}

/// What a request needs.
pub enum Asked {
    /// Nothing: this is the answer.
    Reply(Reply),
    /// A login, and then what the core says.
    Login(Box<Login>),
}

/// What a request does once the core has said who it is, or that it refuses.
pub type AfterLogin = Box<dyn FnOnce(Result<LoggedIn, Refusal>, Timestamp) -> Flow<Reply> + Send>;

/// As whom a request speaks to the core, and what it says.
pub struct Login {
    /// Who. Logins that are equal but for their tokens may share a link, one after the other.
    pub authenticate: Authenticate,
    /// Goes on.
    pub then: AfterLogin,
    /// The answer when that cannot be done or ends too early.
    pub refuse: Box<dyn FnOnce(Unserved) -> Reply + Send>,
}

/// Who a link speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The virtual host.
    pub vhost: VhostId,
    /// Its name.
    pub vhost_name: Arc<str>,
    /// The user.
    pub user: Arc<str>,
    /// The store's own secret.
    pub secret: Secret,
}

/// An answer, or a part of one. The first part is a `Head` or `Pieces`, with the first bytes of the body; an answer that is not in parts
/// has all of it there.
#[derive(Debug)]
pub enum Reply {
    /// Status, headers, and the first bytes of the body.
    Head(Box<Response<Bytes>>),
    /// The same of a long body that is not in one piece.
    Pieces(Box<Response<Vec<Bytes>>>),
    /// More of the body.
    More(Bytes),
}

/// What doors keep notes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A queue.
    Queue,
    /// A stream.
    Stream,
    /// A topic object.
    Topic,
}

/// What doors keep with objects, looked at without a command: for what must be known before a request's first one. As with every
/// answer of the core, what was confirmed before is seen.
pub trait Kept: Send + Sync + 'static {
    /// The note of that name. `None`: there is no such object, or it has no such note.
    fn note(&self, vhost: VhostId, object: Object, name: &Name, note: &str) -> Option<Bytes>;
}

/// Nothing is kept: for who has no core, as in tests.
impl Kept for () {
    fn note(&self, _: VhostId, _: Object, _: &Name, _: &str) -> Option<Bytes> {
        None
    }
}
