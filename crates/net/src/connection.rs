//! One connection, from its first byte to its end: one task, one future, polled by hand.
//!
//! ```text
//!            read -> session.handle_bytes ──┐
//! link.poll_events -> session.handle_event ─┼─> commands -> link.submit
//!           clock -> session.handle_timeout ┘   wire     -> write -> link.drained
//!
//!  Open ── Close, end of file, reset, stall, panic, abort ──> Leaving ──> Flushing ──> Lingering ──> over
//!          commands that found no room are handed in, ───────┘  │             │
//!          then handle_hangup, once, and detach                 last words ───┘
//! ```
//!
//! Invariants
//! - All that is ready is taken in before one write (and before the session is told to `flush`), and the room of its events is given back (`drained`) only when the
//!   last of their bytes is with the kernel.
//! - Nothing is read while commands are left (RULES 12), while more than `wire_len_max` bytes wait for the socket, or while
//!   the session wants none; no event is taken above that limit either. (Nor is the peer's end noticed meanwhile.) So each side's slowness reaches the other.
//! - The core hears of the end before the peer does: what a connection held exclusively is free when the peer sees its last words.
//! - A panic of a session costs this connection only (RULES 15); its half-made output is not sent, and it is not called again.
//! - The work of one poll is bounded; then the others of this thread have their turn.
//! - One alarm, touched only when it must go off earlier than it is set to.
//!
//! Not here: anything about time or limits inside a protocol: the session's own timers do that.

mod wire;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use message::Timestamp;
use session::{Close, CloseReason, Command, Event, Link, Output, Session, Submitted};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Seat, Traffic,
    scratch::{Lent, READ_LEN_MIN, Scratch},
    server::Phase,
    stranger::TooMuch,
};

/// Bytes waiting at which a write does not wait for more work to be taken in.
const WRITE_LEN: usize = 64 * 1024;
/// The work of one poll: bytes in and out, events, commands. What commands cause lies in memory until those whom it is for
/// have their turn.
const WORK_BYTES_MAX: usize = 512 * 1024;
const WORK_EVENTS_MAX: usize = 1024;
const WORK_COMMANDS_MAX: u32 = 256;
/// How often the core may leave commands in one poll: it may want others to have their turn.
const WORK_LEFT_MAX: u32 = 2;
/// Bytes read and thrown away behind our last words. A client that closes right after a burst has its publishes still on
/// the way (of other channels, in its own buffers); a socket closed over them is reset, and the last words with it.
const LINGER_LEN_MAX: u32 = 16 * 1024 * 1024;

/// How much of a reason the log shows.
const REASON_LEN_MAX: usize = 200;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The session closed it.
    Closed(Close),
    /// The peer ended its side.
    Vanished,
    /// The socket failed.
    Reset,
    /// The peer took nothing for too long.
    Stalled,
    /// The session panicked.
    Panicked,
    /// The drain was over before the connection was.
    Aborted,
}

/// Serves one connection to its end. `input` holds what was read already. The future is the whole connection: spawn it.
///
/// To drop it before it is ready detaches the link and tells the session nothing.
pub fn serve_connection<I, S>(
    io: I,
    input: BytesMut,
    session: Box<S>,
    link: Arc<dyn Link>,
    seat: Seat,
) -> impl Future<Output = Ending>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Session + ?Sized,
{
    // Not an `async fn`, which would keep its arguments beside the future made of them.
    Connection {
        io,
        session,
        link,
        seat,
        held: !input.is_empty(),
        buffers: Lent::of(input),
        stage: Stage::Open,
        left: false,
        unread: false,
        submitted: 0,
        lefts: 0,
        unflushed: false,
        undrained: false,
        told: false,
        protocol: None,
        user: None,
        until: Timestamp::MAX,
        armed: Timestamp::MAX,
    }
}

/// What a connection is doing.
enum Stage {
    /// Serving.
    Open,
    /// Handing in the last commands. `hung`: those of `handle_hangup` are among them.
    Leaving { ending: Box<Ending>, hung: bool },
    /// Sending the last words.
    Flushing { ending: Box<Ending> },
    /// Our side is shut; waiting for the peer's.
    Lingering { ending: Box<Ending>, left: u32 },
}

struct Connection<I, S: ?Sized> {
    io: I,
    session: Box<S>,
    link: Arc<dyn Link>,
    seat: Seat,
    /// What is read and not used up, and what is not sent or not handed in. None while idle.
    buffers: Lent,
    stage: Stage,
    /// The session wanted no more bytes, so it may not have looked at all that were read.
    held: bool,
    /// Commands were left by the port.
    left: bool,
    /// Nothing has been read for want of room since the session was last told so.
    unread: bool,
    /// Commands handed in since this poll began, and how often some were left.
    submitted: u32,
    lefts: u32,
    /// Bytes were written and perhaps not flushed.
    unflushed: bool,
    /// Events were taken since the last `drained`, or it was asked for.
    undrained: bool,
    /// The session knows of the drain.
    told: bool,
    /// What the peer speaks, once it has tried to log in.
    protocol: Option<&'static str>,
    /// Who it is, once the core knows.
    user: Option<Arc<str>>,
    /// When the patience of this stage ends (while open: with a peer that takes nothing). [`Timestamp::MAX`]: never.
    until: Timestamp,
    /// What the alarm is set to. [`Timestamp::MAX`]: nothing, or it has gone off.
    armed: Timestamp,
}

impl<I, S> Future for Connection<I, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Session + ?Sized,
{
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let this = self.get_mut();
        let now = this.seat.now();
        let phase = this.seat.poll_phase(cx);
        let mut scratch = Scratch::borrow();
        scratch.lend(&mut this.buffers);
        let polled = this.poll_stages(now, phase, &mut scratch, cx);
        scratch.events.clear();
        scratch.reclaim(&mut this.buffers, this.seat.stranger().is_known());
        scratch.give_back();
        if polled.is_pending() {
            this.arm(now);
        }
        polled
    }
}

impl<I, S> Connection<I, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Session + ?Sized,
{
    fn poll_stages(
        &mut self,
        now: Timestamp,
        phase: Phase,
        scratch: &mut Scratch,
        cx: &mut Context<'_>,
    ) -> Poll<Ending> {
        if matches!(self.stage, Stage::Open) {
            let ending = ready!(self.poll_open(now, phase, scratch, cx));
            self.leave(ending, now);
        }
        if let Stage::Leaving { .. } = self.stage {
            ready!(self.poll_leaving(now, phase, scratch, cx));
        }
        if let Stage::Flushing { .. } = self.stage {
            ready!(self.poll_flushing(now, phase, cx));
        }
        self.poll_lingering(now, phase, scratch, cx)
    }

    // ---- open ----

    fn poll_open(
        &mut self,
        now: Timestamp,
        phase: Phase,
        scratch: &mut Scratch,
        cx: &mut Context<'_>,
    ) -> Poll<Ending> {
        match self.serve(now, phase, scratch, cx) {
            Ok(()) => Poll::Pending,
            Err(ending) => Poll::Ready(ending),
        }
    }

    /// Takes in all that is ready, hands it on, writes. `Ok`: nothing more to do until the task is woken.
    fn serve(
        &mut self,
        now: Timestamp,
        phase: Phase,
        scratch: &mut Scratch,
        cx: &mut Context<'_>,
    ) -> Result<(), Ending> {
        if phase == Phase::Abort {
            return Err(Ending::Aborted);
        }
        if now >= self.until {
            return Err(Ending::Stalled);
        }
        let (mut bytes, mut events) = (0, 0);
        (self.submitted, self.lefts) = (0, 0);
        let (mut unfolded, mut timed) = (true, false);
        loop {
            // Bytes first: what needs no waiting is answered in the same round.
            let read_before = bytes;
            let mut moved = !self.left && !self.buffers.out.commands.is_empty();
            moved |= self.take_bytes(now, phase, scratch, &mut bytes, cx)?;
            // Who has sent something in time was not silent, however late it was read.
            if !std::mem::replace(&mut timed, true) {
                self.time_out(now)?;
                moved |= !self.left && !self.buffers.out.commands.is_empty();
            }
            if moved {
                self.submit();
            }
            let heard = self.take_events(now, phase, scratch, &mut events, cx)?;
            let asked = heard && !self.buffers.out.commands.is_empty();
            if asked {
                self.submit();
            }
            moved |= heard;
            unfolded |= moved;
            // All events were taken and gave nothing to do: there is hardly more behind a read that was not full.
            let settled = heard && !asked && bytes - read_before < READ_LEN_MIN;
            let busy = bytes >= WORK_BYTES_MAX
                || events >= WORK_EVENTS_MAX
                || self.submitted >= WORK_COMMANDS_MAX
                || self.lefts >= WORK_LEFT_MAX;
            if !moved || settled || busy || self.buffers.out.wire.remaining() >= WRITE_LEN {
                if std::mem::take(&mut unfolded) {
                    moved |= self.fold(now)?;
                }
                let was_full = self.is_full();
                moved |= self.write(now, &mut bytes, cx)?;
                // What was put off for want of room was not waited for either.
                moved |= was_full && !self.is_full();
            }
            if !moved {
                return Ok(());
            }
            if busy {
                cx.waker().wake_by_ref();
                return Ok(());
            }
        }
    }

    /// Tells the session if its time has come.
    fn time_out(&mut self, now: Timestamp) -> Result<(), Ending> {
        if self.session.poll_timeout().is_none_or(|due| now < due) {
            return Ok(());
        }
        if self.unread {
            self.session.handle_unread(now);
        }
        self.step(|session, _, out| session.handle_timeout(now, out))
    }

    /// Lets the session write what it held back, once for all that was at hand. True if that gave commands.
    fn fold(&mut self, now: Timestamp) -> Result<bool, Ending> {
        self.step(|session, _, out| {
            session.flush(now, out);
            Ok(())
        })?;
        let asks = !self.left && !self.buffers.out.commands.is_empty();
        if asks {
            self.submit();
        }
        Ok(asks)
    }

    /// Whether the socket is so slow that nothing more may be taken in.
    fn is_full(&self) -> bool {
        self.buffers.out.wire.remaining() > self.seat.limits().wire_len_max
    }

    fn take_events(
        &mut self,
        now: Timestamp,
        phase: Phase,
        scratch: &mut Scratch,
        count: &mut usize,
        cx: &mut Context<'_>,
    ) -> Result<bool, Ending> {
        if self.is_full() {
            return Ok(false);
        }
        if self.link.poll_events(cx, &mut scratch.events).is_ready() {
            *count += scratch.events.len();
            self.undrained = true;
            let mut known = None;
            let done = self.step(|session, _, out| {
                for event in scratch.events.drain(..) {
                    if let Event::Authenticated { user, .. } = &event {
                        known = Some(Arc::clone(user));
                    }
                    session.handle_event(event, now, out)?;
                }
                Ok(())
            });
            if known.is_some() {
                self.user = known;
                self.seat.make_known();
            }
            done?;
            return Ok(true);
        }
        if phase >= Phase::Closing && !self.told {
            // What was handed in is confirmed: the goodbye comes after it.
            self.told = true;
            let event = Event::Closing {
                reason: CloseReason::Shutdown,
            };
            self.step(|session, _, out| session.handle_event(event, now, out))?;
            return Ok(true);
        }
        Ok(false)
    }

    fn take_bytes(
        &mut self,
        now: Timestamp,
        phase: Phase,
        scratch: &mut Scratch,
        count: &mut usize,
        cx: &mut Context<'_>,
    ) -> Result<bool, Ending> {
        let reads = phase == Phase::Open || self.told;
        if self.left || self.is_full() {
            self.unread = true;
            return Ok(false);
        }
        if !reads || !self.session.wants_bytes() {
            return Ok(false);
        }
        if std::mem::take(&mut self.unread) {
            self.session.handle_unread(now);
        }
        if !self.held {
            let stranger = self.seat.stranger();
            if let Err(too_much) = stranger.check(self.seat.limits()) {
                return Err(self.too_much(too_much));
            }
            scratch.lend_input(&mut self.buffers.input, stranger.is_known());
            match wire::poll_read(&mut self.io, &mut self.buffers.input, cx) {
                Poll::Pending => return Ok(false),
                // Nothing is read before the session has used up what came earlier, so the end comes last.
                Poll::Ready(Ok(0)) => return Err(Ending::Vanished),
                Poll::Ready(Ok(len)) => {
                    *count += len;
                    let heard = self.seat.hear(len);
                    heard.map_err(|too_much| self.too_much(too_much))?;
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(peer = %self.seat.address(), %error, "failed to read");
                    return Err(Ending::Reset);
                }
            }
        }
        self.step(|session, input, out| session.handle_bytes(input, now, out))?;
        // Also when `input` is empty: a session that wraps another may hold the bytes itself.
        self.held = !self.session.wants_bytes();
        Ok(true)
    }

    /// The end of a stranger that says too much. In none of the protocols' words: their own limits are lower.
    fn too_much(&self, too_much: TooMuch) -> Ending {
        let limits = self.seat.limits();
        let (len, key, whose) = match too_much {
            TooMuch::Own => (limits.login_len_max, "limits.login_bytes_max", ""),
            TooMuch::Pool => (
                limits.login_pool_len_max,
                "memory.logins_bytes_max",
                " of all who log in",
            ),
        };
        Ending::Closed(Close::fault(format!(
            "more than {len} bytes{whose} before the login ({key})"
        )))
    }

    fn submit(&mut self) {
        if self.user.is_none()
            && let Some(Command::Authenticate(asked)) = self.buffers.out.commands.front()
        {
            self.protocol = Some(asked.protocol);
        }
        let count = self.buffers.out.commands.len();
        self.left =
            count > 0 && self.link.submit(&mut self.buffers.out.commands) == Submitted::Left;
        let taken = count - self.buffers.out.commands.len();
        self.submitted = self
            .submitted
            .saturating_add(u32::try_from(taken).unwrap_or(u32::MAX));
        self.lefts += u32::from(self.left);
    }

    /// Writes; true if the room of events was given back, so that there may be more of them.
    fn write(
        &mut self,
        now: Timestamp,
        count: &mut usize,
        cx: &mut Context<'_>,
    ) -> Result<bool, Ending> {
        let mut written = 0;
        let polled = if self.unflushed || self.buffers.out.wire.has_remaining() {
            self.unflushed = true;
            wire::poll_write(&mut self.io, &mut self.buffers.out.wire, cx, &mut written)
        } else {
            Poll::Ready(Ok(()))
        };
        if written > 0 {
            *count += written;
            Traffic::add(&self.seat.traffic().bytes_out, written);
            self.until = Timestamp::MAX;
        }
        match polled {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                let undrained = std::mem::take(&mut self.undrained);
                if undrained {
                    self.link.drained();
                }
                Ok(undrained)
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(peer = %self.seat.address(), %error, "failed to write");
                self.take_the_rest(now, cx)?;
                Err(Ending::Reset)
            }
            Poll::Pending => {
                let limits = self.seat.limits();
                if self.until == Timestamp::MAX
                    && self.buffers.out.wire.remaining() >= limits.wire_len_max / 4
                {
                    self.until = now.plus_ms(limits.stall_timeout_ms);
                }
                Ok(false)
            }
        }
    }

    /// The peer takes no more, but what it sent before counts: a publisher may send and go.
    fn take_the_rest(&mut self, now: Timestamp, cx: &mut Context<'_>) -> Result<(), Ending> {
        let mut bytes = 0;
        while !self.left && self.session.wants_bytes() && bytes < WORK_BYTES_MAX {
            self.buffers.input.reserve(READ_LEN_MIN);
            let Poll::Ready(Ok(len @ 1..)) =
                wire::poll_read(&mut self.io, &mut self.buffers.input, cx)
            else {
                break;
            };
            bytes += len;
            if self.seat.hear(len).is_err() {
                break;
            }
            self.step(|session, input, out| session.handle_bytes(input, now, out))?;
            self.submit();
        }
        Ok(())
    }

    /// One call of the session. `Err`: it closed the connection, or panicked.
    fn step(
        &mut self,
        call: impl FnOnce(&mut S, &mut BytesMut, &mut Output) -> Result<(), Close>,
    ) -> Result<(), Ending> {
        let (session, buffers) = (&mut *self.session, &mut *self.buffers);
        let (input, out) = (&mut buffers.input, &mut buffers.out);
        // Whatever it leaves half done is not used again: the session is not called any more.
        match catch_unwind(AssertUnwindSafe(|| call(session, input, out))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(close)) => Err(Ending::Closed(close)),
            Err(panic) => {
                tracing::error!(
                    peer = %self.seat.address(),
                    listener = self.seat.peer().listener,
                    session = self.link.id().0,
                    panic = words(&*panic),
                    "a session panicked; its connection is closed"
                );
                Err(Ending::Panicked)
            }
        }
    }

    // ---- leaving ----

    fn leave(&mut self, ending: Ending, now: Timestamp) {
        let traffic = self.seat.traffic();
        match &ending {
            Ending::Closed(close) => {
                if close.fault {
                    Traffic::add(&traffic.faults, 1);
                    self.tell(now, &close.reason);
                } else {
                    tracing::debug!(
                        peer = %self.seat.address(), session = self.link.id().0,
                        reason = ?close.reason, "closed"
                    );
                }
            }
            Ending::Panicked => Traffic::add(&traffic.panics, 1),
            Ending::Stalled => {
                Traffic::add(&traffic.stalled, 1);
                self.tell(now, "the peer takes nothing");
            }
            Ending::Vanished | Ending::Reset | Ending::Aborted => {
                tracing::debug!(
                    peer = %self.seat.address(), session = self.link.id().0,
                    ?ending, "closed"
                );
            }
        }
        match &ending {
            Ending::Closed(_) | Ending::Vanished => {}
            // Nobody reads it, or nobody should.
            _ => self.buffers.out.wire = session::Wire::default(),
        }
        if ending == Ending::Panicked {
            self.buffers.out.commands.clear();
        }
        self.buffers.input = BytesMut::new();
        // Nothing that a stranger sent is held any longer.
        self.seat.make_known();
        self.until = now.plus_ms(self.seat.limits().stall_timeout_ms);
        self.stage = Stage::Leaving {
            hung: ending == Ending::Panicked,
            ending: Box::new(ending),
        };
        self.submit();
    }

    /// The line of the log about a connection that ended through its peer's fault.
    fn tell(&self, now: Timestamp, reason: &str) {
        let Some(left_out) = self.seat.server().endings().admit(now) else {
            return;
        };
        // What a stranger wrote may be quoted there: it is shown escaped, and not in all its length.
        let reason = &reason[..reason.floor_char_boundary(REASON_LEN_MAX)];
        tracing::info!(
            peer = %self.seat.address(),
            listener = self.seat.peer().listener,
            session = self.link.id().0,
            protocol = self.protocol,
            user = self.user.as_deref(),
            reason = ?reason,
            left_out,
            "closed a connection: its peer is at fault"
        );
    }

    /// Hands in what is left, tells the session, detaches.
    fn poll_leaving(
        &mut self,
        now: Timestamp,
        phase: Phase,
        scratch: &mut Scratch,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let late = phase == Phase::Abort || now >= self.until;
        loop {
            if self.left && late {
                self.drop_commands();
            }
            if self.left {
                // Answers have nobody to go to; only the call to try again counts.
                ready!(self.link.poll_events(cx, &mut scratch.events));
                scratch.events.clear();
                self.submit();
                continue;
            }
            let Stage::Leaving { ending, hung } = &mut self.stage else {
                unreachable!("called in this stage only");
            };
            if *hung {
                let ending = std::mem::replace(ending, Box::new(Ending::Aborted));
                self.link.detach();
                self.until = now.plus_ms(self.seat.limits().close_timeout_ms);
                self.stage = Stage::Flushing { ending };
                return Poll::Ready(());
            }
            *hung = true;
            // Its bytes are not sent.
            let mut last = Output::default();
            let hangup = |session: &mut S, _: &mut BytesMut, _: &mut Output| {
                session.handle_hangup(now, &mut last);
                Ok(())
            };
            if self.step(hangup).is_ok() {
                self.buffers.out.commands.append(&mut last.commands);
                self.submit();
            } else {
                Traffic::add(&self.seat.traffic().panics, 1);
            }
        }
    }

    /// Gives up commands that found no room in time.
    fn drop_commands(&mut self) {
        let count = self.buffers.out.commands.len();
        self.buffers
            .out
            .commands
            .retain(|command| !Command::may_be_left(command));
        let dropped = count - self.buffers.out.commands.len();
        self.submit();
        self.buffers.out.commands.clear();
        self.left = false;
        Traffic::add(&self.seat.traffic().commands_dropped, dropped);
        tracing::warn!(
            peer = %self.seat.address(), session = self.link.id().0, dropped,
            "the peer has gone, and the last of what it sent found no room"
        );
    }

    fn poll_flushing(&mut self, now: Timestamp, phase: Phase, cx: &mut Context<'_>) -> Poll<()> {
        let late = phase == Phase::Abort || now >= self.until;
        let mut written = 0;
        let sent = if late {
            false
        } else {
            let polled =
                wire::poll_write(&mut self.io, &mut self.buffers.out.wire, cx, &mut written);
            Traffic::add(&self.seat.traffic().bytes_out, written);
            ready!(polled).is_ok() && ready!(Pin::new(&mut self.io).poll_shutdown(cx)).is_ok()
        };
        self.buffers.out.wire = session::Wire::default();
        let Stage::Flushing { ending } = &mut self.stage else {
            unreachable!("called in this stage only");
        };
        let ending = std::mem::replace(ending, Box::new(Ending::Aborted));
        // Who closes on the peer lets it read the reason; the others have gone.
        let lingers = sent && matches!(*ending, Ending::Closed(_));
        self.until = now.plus_ms(self.seat.limits().linger_timeout_ms);
        self.stage = Stage::Lingering {
            ending,
            left: if lingers { LINGER_LEN_MAX } else { 0 },
        };
        Poll::Ready(())
    }

    fn poll_lingering(
        &mut self,
        now: Timestamp,
        phase: Phase,
        scratch: &mut Scratch,
        cx: &mut Context<'_>,
    ) -> Poll<Ending> {
        let late = phase == Phase::Abort || now >= self.until;
        let Stage::Lingering { ending, left } = &mut self.stage else {
            unreachable!("the last stage");
        };
        let mut work = 0;
        while *left > 0 && !late {
            if work >= WORK_BYTES_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            scratch.lend_input(&mut self.buffers.input, true);
            match wire::poll_read(&mut self.io, &mut self.buffers.input, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(len @ 1..)) => {
                    work += len;
                    *left = left.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
                }
                Poll::Ready(_) => break,
            }
            self.buffers.input.clear();
        }
        Poll::Ready(std::mem::replace(&mut **ending, Ending::Aborted))
    }

    // ---- time ----

    /// Sets the alarm if it must go off earlier than it would. A deadline that moves later is noticed when it goes off.
    fn arm(&mut self, now: Timestamp) {
        if self.seat.take_alarm() {
            self.armed = Timestamp::MAX;
        }
        let due = match self.stage {
            Stage::Open => self.session.poll_timeout(),
            _ => None,
        };
        let due = due.map_or(self.until, |due| due.min(self.until));
        if self.armed <= due {
            return;
        }
        // At least a millisecond: a session that is late with its own deadline must not spin. At most a day: the clock's end is far.
        let wait = due.since(now).clamp(1, 86_400_000);
        self.armed = now.plus_ms(wait);
        self.seat.set_alarm(wait);
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    if let Some(words) = panic.downcast_ref::<&str>() {
        words
    } else if let Some(words) = panic.downcast_ref::<String>() {
        words
    } else {
        "no words"
    }
}
