//! Bodies of requests as they are read, and of answers as they are sent.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use session::Unserved;
use tokio::time::{Instant, timeout_at};

use super::{
    Gathered,
    drive::{Drive, Step},
    parts,
    untaken::Piece,
};
use crate::Server;

/// Why a body was not read.
pub(super) enum Unread {
    /// It is not served.
    Unserved(Unserved),
    /// The peer has gone.
    Gone,
}

/// Reads a body of at most `len_max` bytes, within its time, and within what all bodies may hold together.
pub(super) async fn read_body(
    mut body: Incoming,
    len_max: usize,
    server: &Arc<Server>,
) -> Result<Bytes, Unread> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let too_long = || Err(Unread::Unserved(Unserved::TooLong));
    // What says that it is too long is not even begun with.
    if body.size_hint().lower() > len_max as u64 {
        return too_long();
    }
    let limits = server.limits();
    let stall = Duration::from_millis(limits.stall_timeout_ms);
    // Most bodies have come with their heads: nobody looks at a clock for them.
    let mut until = None;
    let mut held = Held { server, len: 0 };
    let mut gathered = Gathered::new(server.spare_bodies());
    loop {
        let at_hand = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
        let frame = if let Poll::Ready(frame) = at_hand {
            frame
        } else {
            let now = Instant::now();
            let all = Duration::from_millis(limits.http_body_timeout_ms);
            let patience = (*until.get_or_insert(now + all)).min(now + stall);
            let Ok(frame) = timeout_at(patience, body.frame()).await else {
                return Err(Unread::Unserved(Unserved::TooSlow));
            };
            frame
        };
        match frame {
            None => return Ok(gathered.take()),
            Some(Err(_)) => return Err(Unread::Gone),
            Some(Ok(frame)) => {
                let Ok(bytes) = frame.into_data() else {
                    continue;
                };
                if gathered.len() + bytes.len() > len_max {
                    return too_long();
                }
                if !held.more(bytes.len()) {
                    return Err(Unread::Unserved(Unserved::Busy));
                }
                let behind = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
                gathered.push(bytes, behind);
            }
        }
    }
}

/// What a body that is being read takes of the budget of all.
struct Held<'a> {
    server: &'a Server,
    len: usize,
}

impl Held<'_> {
    fn more(&mut self, len: usize) -> bool {
        let bodies = self.server.bodies();
        let before = bodies.fetch_add(len, Ordering::Relaxed);
        self.len += len;
        before + len <= self.server.limits().http_bodies_len_max
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.server.bodies().fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// The body of an answer.
pub(crate) struct Answer {
    next: Option<Piece>,
    /// What makes the rest.
    drive: Option<Box<Drive>>,
}

impl Answer {
    /// One whose bytes are few.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::of(bytes.into())
    }

    pub(super) const fn of(piece: Piece) -> Self {
        Self {
            next: Some(piece),
            drive: None,
        }
    }

    pub(super) fn in_parts(first: Piece, drive: Drive) -> Self {
        Self {
            next: Some(first),
            drive: Some(Box::new(drive)),
        }
    }
}

impl Body for Answer {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        loop {
            if let Some(piece) = self.next.take().filter(|piece| piece.has_remaining()) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(drive) = &mut self.drive else {
                return Poll::Ready(None);
            };
            let (reply, last) = match ready!(drive.poll(cx)) {
                Step::Part(reply) => (reply, false),
                Step::Last(reply) => (reply, true),
            };
            // The head has gone out already.
            let (_, piece) = parts(reply);
            self.next = drive.hold(piece);
            // Without room for it the answer is cut short.
            if last || self.next.is_none() {
                self.drive = None;
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.drive.is_none() && !self.next.as_ref().is_some_and(Piece::has_remaining)
    }

    fn size_hint(&self) -> SizeHint {
        if self.drive.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.next.as_ref().map_or(0, Piece::remaining) as u64)
    }
}
