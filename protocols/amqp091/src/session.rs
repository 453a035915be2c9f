//! The session: one connection's state, driven by bytes, events and the time.
//!
//! ```text
//!  Header ─▶ Start ─▶ Verifying ─▶ Tune ─▶ Open ─▶ Entering ─▶ Running ─▶ Closing ─▶ over
//!                     (core asked)                 (core asked)          (connection.close sent, close-ok awaited)
//! ```
//! Invariants: while the core is asked who the peer is, nothing is read. Every exception ends the least that its code
//! allows: soft ones the channel, hard ones the connection. After `connection.close` in either direction no command is issued.
//!
//! | file | what |
//! |---|---|
//! | `handshake.rs` | header, start, tune, open |
//! | `keep_alive.rs` | heart-beats and deadlines |
//! | `numbered.rs` | channels and consumers by their numbers |
//! | `channel.rs` | a channel's life, incoming content, what waits for the core |
//! | `topology.rs` | exchanges, queues, bindings |
//! | `publish.rs` | publishing, confirms, transactions |
//! | `places.rs` | where was published to before |
//! | `consume.rs` | consumers, `get`, deliveries |
//! | `settle.rs` | `ack`, `nack`, `reject`, `recover` |
//! | `unsettled.rs` | the deliveries that a channel has to settle, by tag |
//! | `events.rs` | events of the core, each to its channel |
//! | `methods.rs` | which function a method goes to |
//! | `answer.rs` | the core's answers to methods that waited |
//! | `step.rs` | what a step may touch |

mod answer;
mod channel;
mod consume;
mod events;
mod handshake;
mod keep_alive;
mod methods;
mod numbered;
mod places;
mod publish;
mod settle;
mod step;
mod streams;
mod topology;
mod unsettled;

use bytes::BytesMut;
use message::Timestamp;
use session::{Close, Event, Output, Session};

use self::{
    channel::{Channel, Stage},
    handshake::Visitor,
    keep_alive::{Due, KeepAlive},
    methods::on_connection_method,
    numbered::Numbered,
    step::{Shared, Step},
};
use crate::{
    codec::{self, Frame, Method, Short, Taken, channel as channel_class, connection},
    config::Config,
    error::{DecodeError, Fault, ReplyCode},
};

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come.
    Header,
    /// `start` is out.
    Start,
    /// The core is asked for the user.
    Verifying,
    /// `tune` is out.
    Tune,
    /// Tuned.
    Open,
    /// The core is asked for the virtual host.
    Entering,
    /// Open.
    Running,
    /// `connection.close` is out; only its answer counts.
    Closing,
}

/// An AMQP 0-9-1 connection.
#[derive(Debug)]
pub struct AmqpSession {
    phase: Phase,
    shared: Shared,
    visitor: Option<Visitor>,
    wanted_vhost: String,
    keep_alive: KeepAlive,
    /// `false` until the first call has told what time it is.
    started: bool,
    channels: Numbered<u16, Box<Channel>>,
    /// Read and not looked at, because the core had to be asked first.
    held: BytesMut,
    /// Why `connection.close` is out, for the log.
    farewell: Option<Close>,
    /// Which listener it came through, as the configuration names it.
    listener: &'static str,
}

impl AmqpSession {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            phase: Phase::Header,
            shared: Shared::new(config),
            visitor: None,
            wanted_vhost: String::new(),
            keep_alive: KeepAlive::default(),
            started: false,
            channels: Numbered::new(),
            held: BytesMut::new(),
            farewell: None,
            listener: "amqp",
        }
    }

    /// One that came through that listener: the same of another node is what it may be told to use instead. `amqp` unless set.
    #[must_use]
    pub const fn through(mut self, listener: &'static str) -> Self {
        self.listener = listener;
        self
    }

    /// Whether frames wait for an answer of the core.
    const fn is_stalled(&self) -> bool {
        matches!(self.phase, Phase::Verifying | Phase::Entering)
    }

    fn begin(&mut self, now: Timestamp) {
        if !self.started {
            self.started = true;
            let deadline = now.plus_ms(self.shared.config.handshake_timeout_ms);
            self.keep_alive.set_deadline(Some(deadline));
        }
    }

    /// Runs one entry point and notes whether it wrote anything.
    fn noting_output(
        &mut self,
        now: Timestamp,
        out: &mut Output,
        run: impl FnOnce(&mut Self, &mut Output) -> Result<(), Close>,
    ) -> Result<(), Close> {
        self.begin(now);
        let before = bytes::Buf::remaining(&out.wire);
        let result = run(self, out);
        if bytes::Buf::remaining(&out.wire) != before {
            self.keep_alive.on_sent(now);
        }
        result
    }

    /// Takes whole frames off `input` until there is none or the core must be asked.
    fn read(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        while !self.is_stalled() && !input.is_empty() {
            if self.phase == Phase::Header {
                if !self.on_protocol_header(input, out)? {
                    return Ok(());
                }
                continue;
            }
            if self.take_publish(input, now, out) {
                continue;
            }
            let before = input.len();
            let read = match codec::take(input, self.shared.frame_max) {
                Ok(None) => return Ok(()),
                Ok(Some(taken)) => {
                    let len = before - input.len() + size_of::<Frame>();
                    self.on_taken(taken, len, now, out)?
                }
                Err(error) => Err(error),
            };
            if let Err(error) = read {
                if self.phase == Phase::Start {
                    return Err(Close::fault(error.to_string()));
                }
                // What follows cannot be told apart into frames any more; only the answer to our close may still be.
                input.clear();
                self.fail(0, Fault::from(error), now, out);
                return Ok(());
            }
        }
        Ok(())
    }

    /// A frame goes to its channel, if that is open and nothing holds it up; all others are looked at more closely.
    fn on_taken(
        &mut self,
        taken: Taken,
        len: usize,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<Result<(), DecodeError>, Close> {
        let number = taken.channel();
        if self.phase == Phase::Running
            && let Some(channel) = self.channels.get_mut(number)
            && !channel.holds_frames()
        {
            let shared = &mut self.shared;
            match channel.on_taken(taken, &mut Step { shared, now, out }) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => self.fail(number, fault, now, out),
                Err(error) => return Ok(Err(error)),
            }
            return Ok(Ok(()));
        }
        match taken.decode() {
            Ok(frame) => self.on_frame(frame, len, now, out).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    fn on_frame(
        &mut self,
        frame: Frame,
        len: usize,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let number = frame.channel();
        if self.phase == Phase::Closing {
            return match frame {
                Frame::Method {
                    channel: 0,
                    method: Method::ConnectionCloseOk(_),
                } => Err(match &self.farewell {
                    Some(close) => close.clone(),
                    None => Close::fault("closed after an exception"),
                }),
                Frame::Method {
                    channel: 0,
                    method: Method::ConnectionClose(_),
                } => {
                    self.step(now, out).send(0, connection::CloseOk {});
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        let result = match frame {
            Frame::Heartbeat => Ok(()),
            Frame::Method { channel: 0, method } => {
                let ids = method.ids();
                if matches!(method, Method::ConnectionClose(_)) && self.phase != Phase::Start {
                    self.flush_held(now, out);
                    self.step(now, out).send(0, connection::CloseOk {});
                    return Err(Close::done("closed by the peer"));
                }
                if self.phase == Phase::Running {
                    on_connection_method(&method, &mut self.step(now, out))
                        .map_err(|fault| fault.by(ids))
                } else {
                    self.on_handshake(method, now, out)
                        .map_err(|fault| fault.by(ids))
                }
            }
            _ if self.phase != Phase::Running => Err(Fault::new(
                ReplyCode::CommandInvalid,
                "the connection is not open",
            )),
            frame if number == 0 => Err(Fault::new(
                ReplyCode::UnexpectedFrame,
                format!("content on channel 0: {frame:?}"),
            )),
            frame => self.on_channel_frame(frame, len, now, out),
        };
        if let Err(fault) = result {
            if self.phase == Phase::Start {
                return Err(Close::fault(fault.reply_text()));
            }
            self.fail(number, fault, now, out);
        }
        Ok(())
    }

    fn on_channel_frame(
        &mut self,
        frame: Frame,
        len: usize,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let number = frame.channel();
        let Self {
            channels, shared, ..
        } = self;
        let Some(channel) = channels.get_mut(number) else {
            return self.on_frame_without_channel(&frame, now, out);
        };
        let mut step = Step { shared, now, out };
        if let Stage::Expelled { close_ok, reached } = &mut channel.stage
            && !*close_ok
        {
            match frame {
                Frame::Method {
                    method: Method::ChannelCloseOk(_),
                    ..
                } => {
                    *close_ok = true;
                    if *reached {
                        self.remove_channel(number, now, out)?;
                    }
                }
                // Both sides closed at the same time.
                Frame::Method {
                    method: Method::ChannelClose(_),
                    ..
                } => step.send(number, channel_class::CloseOk {}),
                _ => {}
            }
            return Ok(());
        }
        if channel.holds_frames() {
            channel.defer(frame, len, shared);
            return Ok(());
        }
        channel.on_frame(frame, &mut step)
    }

    /// A frame on a channel that is not open: only `channel.open` may come.
    /// [AMQP-4.3-1].
    fn on_frame_without_channel(
        &mut self,
        frame: &Frame,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let number = frame.channel();
        match frame {
            Frame::Method {
                method: Method::ChannelOpen(_),
                ..
            } => {
                if number > self.shared.channel_max {
                    return Err(Fault::new(
                        ReplyCode::ChannelError,
                        format!(
                            "channel {number} is beyond the negotiated channel_max {}",
                            self.shared.channel_max
                        ),
                    )
                    .by((20, 10)));
                }
                let born = self.shared.number();
                let channel = Box::new(Channel::new(number, born));
                self.channels.insert(number, channel);
                self.step(now, out)
                    .send(number, channel_class::OpenOk::default());
                Ok(())
            }
            // The answer to a close that crossed ours.
            Frame::Method {
                method: Method::ChannelCloseOk(_),
                ..
            } => Ok(()),
            Frame::Method { method, .. } => {
                Err(Fault::new(ReplyCode::ChannelError, "expected 'channel.open'").by(method.ids()))
            }
            _ => Err(Fault::new(
                ReplyCode::ChannelError,
                "expected 'channel.open'",
            )),
        }
    }

    /// The channel is over; what came for its successor meanwhile is looked at.
    fn remove_channel(
        &mut self,
        number: u16,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let Some(mut channel) = self.channels.remove(number) else {
            return Ok(());
        };
        channel.drop_content(&mut self.shared);
        for (frame, len) in std::mem::take(&mut channel.deferred) {
            self.shared.deferred -= len;
            self.on_channel_frame(frame, len, now, out)?;
        }
        Ok(())
    }

    /// After an answer: the frames that waited behind it, until one waits again.
    fn resume_channel(
        &mut self,
        number: u16,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let Self {
            channels, shared, ..
        } = self;
        while let Some(channel) = channels.get_mut(number)
            && !channel.holds_frames()
            && let Some((frame, len)) = channel.deferred.pop_front()
        {
            shared.deferred -= len;
            channel.on_frame(
                frame,
                &mut Step {
                    shared: &mut *shared,
                    now,
                    out: &mut *out,
                },
            )?;
        }
        Ok(())
    }

    fn step<'a>(&'a mut self, now: Timestamp, out: &'a mut Output) -> Step<'a> {
        Step {
            shared: &mut self.shared,
            now,
            out,
        }
    }

    /// An exception: the channel's end, or the connection's (2.2.3, 1.1 reply codes).
    fn fail(&mut self, number: u16, fault: Fault, now: Timestamp, out: &mut Output) {
        let Self {
            channels, shared, ..
        } = self;
        let channel = channels
            .get_mut(number)
            .filter(|channel| channel.stage == Stage::Open);
        match channel {
            Some(channel) if !fault.code.is_hard() => {
                channel.expel(&fault, &mut Step { shared, now, out });
            }
            _ => self.close(&fault, now, out),
        }
    }

    /// Sends `connection.close` and waits for its answer. Consumers and leases go with the connection.
    /// [AMQP-connection.close.stability].
    fn close(&mut self, fault: &Fault, now: Timestamp, out: &mut Output) {
        if self.phase == Phase::Closing {
            return;
        }
        self.phase = Phase::Closing;
        self.farewell = Some(match fault.code {
            ReplyCode::ConnectionForced => Close::done(fault.text.clone()),
            _ => Close::fault(fault.reply_text()),
        });
        self.channels.clear();
        self.shared.held.clear();
        self.shared.deferred = 0;
        self.shared.staged = 0;
        self.keep_alive.stop();
        let deadline = now.plus_ms(self.shared.config.close_timeout_ms);
        self.keep_alive.set_deadline(Some(deadline));
        self.step(now, out).send(
            0,
            connection::Close {
                reply_code: fault.code as u16,
                reply_text: Short::cut(fault.reply_text()),
                class_id: fault.method.0,
                method_id: fault.method.1,
            },
        );
    }
}

impl Session for AmqpSession {
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        if !input.is_empty() {
            self.keep_alive.on_heard(now);
        }
        self.noting_output(now, out, |session, out| {
            if session.held.is_empty() {
                let result = session.read(input, now, out);
                // What is split off a read buffer keeps all of it, even if it is nothing.
                if session.is_stalled() && !input.is_empty() {
                    session.held = input.split();
                }
                return result;
            }
            // What was held back comes first; the two meet again without a copy when they are neighbours in memory.
            let mut bytes = std::mem::take(&mut session.held);
            bytes.unsplit(input.split());
            let result = session.read(&mut bytes, now, out);
            if session.is_stalled() && !bytes.is_empty() {
                session.held = bytes;
            } else {
                *input = bytes;
            }
            result
        })
    }

    fn handle_event(
        &mut self,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        self.noting_output(now, out, |session, out| session.on_event(event, now, out))
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        let listening = self.wants_bytes();
        self.noting_output(now, out, |session, out| {
            session.flush_held(now, out);
            match session.keep_alive.due(now, listening) {
                Due::Nothing => Ok(()),
                Due::Speak => {
                    out.wire.encode(|out| Frame::Heartbeat.encode(out));
                    out.wire.end_frame();
                    Ok(())
                }
                Due::Silent => Err(Close::fault("missed heartbeats from client")),
                Due::Late if session.phase == Phase::Closing => {
                    Err(Close::fault("no answer to connection.close"))
                }
                Due::Late => Err(Close::fault("the handshake took too long")),
            }
        })
    }

    fn handle_unread(&mut self, now: Timestamp) {
        self.keep_alive.on_heard(now);
    }

    fn handle_hangup(&mut self, _now: Timestamp, _out: &mut Output) {
        // Consumers, leases and exclusive queues go with the connection; what a transaction staged was never in the core.
        self.channels.clear();
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        if !self.started || !self.shared.held.is_empty() {
            return Some(Timestamp(0));
        }
        self.keep_alive.next()
    }

    fn flush(&mut self, now: Timestamp, out: &mut Output) {
        // Writing what was held back cannot fail.
        let _ = self.noting_output(now, out, |session, out| {
            session.flush_held(now, out);
            Ok(())
        });
    }

    fn wants_bytes(&self) -> bool {
        !self.is_stalled() && self.shared.deferred <= self.shared.config.deferred_len_max
    }
}
