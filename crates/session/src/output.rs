//! The shape of a protocol: what drives it and what it yields.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io::IoSlice,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use message::Timestamp;

use crate::{Command, Event, SessionId};

/// Bodies up to this many bytes are copied behind their head; longer ones are sent from where they are.
const COPY_MAX: usize = 1024;

/// Bytes on their way to the socket: heads in a buffer of our own, long bodies by reference.
#[derive(Debug, Default)]
pub struct Wire {
    done: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
    marks: Option<VecDeque<usize>>,
    written: usize,
}

impl Wire {
    /// One that remembers where frames end (see [`Wire::end_frame`]), for WebSocket.
    #[must_use]
    pub fn with_frame_marks() -> Self {
        Self {
            marks: Some(VecDeque::new()),
            ..Self::default()
        }
    }

    /// Appends bytes.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends whatever `write` appends to the buffer: the way to encode heads.
    #[inline]
    pub fn encode(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.len += self.tail.len() - before;
    }

    /// Appends a body: copied when short, shared when long.
    #[inline]
    pub fn put_body(&mut self, body: &Bytes) {
        if body.len() <= COPY_MAX {
            self.put(body);
        } else {
            self.share(body);
        }
    }

    fn share(&mut self, body: &Bytes) {
        if !self.tail.is_empty() {
            self.done.push_back(self.tail.split().freeze());
        }
        self.done.push_back(body.clone());
        self.len += body.len();
    }

    /// Appends whole frames, of which each has its end there.
    pub fn put_frames(&mut self, frames: &[u8], ends: &[usize]) {
        if let Some(marks) = &mut self.marks {
            let start = self.written + self.len;
            marks.extend(ends.iter().map(|end| start + end));
        }
        self.put(frames);
    }

    /// A frame ends here. Costs nothing unless marks were asked for.
    #[inline]
    pub fn end_frame(&mut self) {
        if let Some(marks) = &mut self.marks {
            marks.push_back(self.written + self.len);
        }
    }

    /// The next whole frame, with frame marks on.
    pub fn take_frame(&mut self) -> Option<Bytes> {
        let end = self.marks.as_mut()?.pop_front()?;
        Some(self.copy_to_bytes(end - self.written))
    }
}

impl Buf for Wire {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.done.front().map_or(&self.tail, |first| first)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        for chunk in self
            .done
            .iter()
            .map(|chunk| &chunk[..])
            .chain(std::iter::once(&self.tail[..]))
        {
            if used == dst.len() {
                break;
            }
            if !chunk.is_empty() {
                dst[used] = IoSlice::new(chunk);
                used += 1;
            }
        }
        used
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advanced past the end of the wire");
        self.len -= count;
        self.written += count;
        while count > 0 {
            let Some(first) = self.done.front_mut() else {
                self.tail.advance(count);
                if self.tail.is_empty() {
                    // From its start again: else what comes next is moved there, when it has come to the end.
                    let _ = self.tail.try_reclaim(self.tail.capacity() + 1);
                }
                return;
            };
            let step = count.min(first.len());
            first.advance(step);
            count -= step;
            if first.is_empty() {
                self.done.pop_front();
            }
        }
    }
}

/// What one step of a session yields. Reused from step to step; the loop takes everything out.
#[derive(Debug, Default)]
pub struct Output {
    /// Bytes for the peer.
    pub wire: Wire,
    /// Commands for the core, in order.
    pub commands: VecDeque<Command>,
}

/// The session is over. Its last words are in `Output::wire`; the loop sends them and closes the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// For the log.
    pub reason: Cow<'static, str>,
    /// The peer broke the protocol, as opposed to a goodbye in order.
    pub fault: bool,
}

impl Close {
    /// A goodbye in order.
    pub fn done(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: reason.into(),
            fault: false,
        }
    }

    /// The peer's fault.
    pub fn fault(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: reason.into(),
            fault: true,
        }
    }
}

/// A protocol, without I/O. After each call every effect is in `out`; the loop writes, submits and re-arms the timer.
///
/// After an `Err` no method but `handle_hangup` is called. `handle_hangup` is called exactly once, last, however the
/// connection ended; commands it leaves are submitted, bytes are not sent. (The port is then told that the connection is
/// gone: leases are released, a will that was not discarded is published.)
pub trait Session {
    /// Bytes arrived, appended to `input`. The session takes whole frames off its front and leaves the rest.
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close>;
    /// The core answers or delivers.
    fn handle_event(&mut self, event: Event, now: Timestamp, out: &mut Output)
    -> Result<(), Close>;
    /// The time of `poll_timeout` has come.
    fn handle_timeout(&mut self, now: Timestamp, out: &mut Output) -> Result<(), Close>;
    /// What the peer sends was not read until now, for want of room in the core or towards the peer: that nothing came is
    /// not its fault. Called before `handle_timeout` while that is so, and before the first bytes after it.
    fn handle_unread(&mut self, _now: Timestamp) {}
    /// The connection is gone.
    fn handle_hangup(&mut self, now: Timestamp, out: &mut Output);
    /// Everything that was at hand has been handled (one read, or all events of one poll): what was held back to be folded
    /// into fewer frames is written now. A loop that never calls this is served all the same, by a timer that is due at once.
    fn flush(&mut self, _now: Timestamp, _out: &mut Output) {}
    /// When to call `handle_timeout` next.
    fn poll_timeout(&self) -> Option<Timestamp>;
    /// Whether the session wants more bytes now. `false` while it waits for an answer that must precede what follows (authentication).
    fn wants_bytes(&self) -> bool {
        true
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address and port.
    pub address: SocketAddr,
    /// The listener that it came through, as the configuration names it: `mqtt`, `amqp`, `stomp`, `http`.
    pub listener: &'static str,
    /// The virtual host for who names none.
    pub default_vhost: Arc<str>,
}

/// How far a `submit` came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Everything was taken.
    All,
    /// Some commands are left at the front, for want of room or so that others have their turn: stop reading; `poll_events`
    /// wakes the connection when to try again.
    Left,
}

/// The core as connections see it.
pub trait Port: Send + Sync + 'static {
    /// A connection was accepted. `None`: no more connections are taken (draining, or the limit is reached).
    fn attach(&self, peer: Peer) -> Option<Arc<dyn Link>>;
    /// The core's time: never goes back.
    fn now(&self) -> Timestamp;
}

/// One connection's way to and from the core. Dropping it without `detach` is the same as `detach`.
pub trait Link: Send + Sync {
    /// The connection's number, for logs.
    fn id(&self) -> SessionId;
    /// Takes commands from the front, decides and applies them; answers come through `poll_events`. Never waits. Commands
    /// that may be left (`Command::may_be_left`) stay when there is no room; those behind them that may not are taken all the same.
    fn submit(&self, commands: &mut VecDeque<Command>) -> Submitted;
    /// Moves the events that may leave now to `events`. Ready when there is at least one, when commands that were left
    /// should be submitted again, or when room is to be given back (`drained`) for what needs no event any more; else the task is
    /// woken later.
    fn poll_events(&self, cx: &mut Context<'_>, events: &mut Vec<Event>) -> Poll<()>;
    /// Everything that `poll_events` gave so far has been written to the socket: its room in the outbox is free again.
    fn drained(&self);
    /// The connection is gone: leases are released, exclusive queues go, a will is published unless `CloseClient` forbade it.
    fn detach(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_keeps_order_across_copied_and_shared_parts() {
        let mut wire = Wire::with_frame_marks();
        let body = Bytes::from(vec![7u8; 5000]);
        wire.put(b"head");
        wire.put_body(&body);
        wire.end_frame();
        wire.put(b"next");
        wire.put_body(&Bytes::from_static(b"short"));
        wire.end_frame();
        assert_eq!(wire.remaining(), 4 + 5000 + 9);
        let first = wire.take_frame().expect("a whole frame");
        assert_eq!((&first[..4], &first[4..]), (&b"head"[..], &body[..]));
        assert_eq!(&wire.take_frame().expect("a whole frame")[..], b"nextshort");
        assert!(wire.take_frame().is_none() && !wire.has_remaining());
        wire.put_frames(b"onethree", &[3, 8]);
        assert_eq!(&wire.take_frame().expect("a whole frame")[..], b"one");
        assert_eq!(&wire.take_frame().expect("a whole frame")[..], b"three");
        assert!(wire.take_frame().is_none() && !wire.has_remaining());
    }

    #[test]
    fn a_wire_that_was_emptied_is_filled_from_its_start_again() {
        let mut wire = Wire::default();
        wire.put(&[1; 50_000]);
        let start = wire.chunk().as_ptr();
        for len in [50_000, 10, 40_000, 50_000] {
            wire.advance(wire.remaining());
            wire.put(&[2; 10]);
            assert_eq!(wire.chunk().as_ptr(), start);
            wire.put(&vec![3; len - 10]);
            assert_eq!(wire.chunk().as_ptr(), start, "{len} bytes were moved");
        }
    }
}
