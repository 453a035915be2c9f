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
//! | `channel.rs` | a channel's life, incoming content, what waits for the core |
//! | `topology.rs` | exchanges, queues, bindings |
//! | `publish.rs` | publishing, confirms, transactions |
//! | `consume.rs` | consumers, `get`, deliveries |
//! | `settle.rs` | `ack`, `nack`, `reject`, `recover` |
//! | `answer.rs` | the core's answers |
//! | `step.rs` | what a step may touch |

mod answer;
mod channel;
mod consume;
mod handshake;
mod keep_alive;
mod publish;
mod settle;
mod step;
mod topology;

use std::collections::BTreeMap;

use bytes::BytesMut;
use message::Timestamp;
use session::{Close, CloseReason, ConsumerId, Delivery, Event, Outcome, Output, Session, Token};

use self::{
    answer::After,
    channel::{Channel, Stage},
    handshake::{Verdict, Visitor},
    keep_alive::{Due, KeepAlive},
    step::{Shared, Step, channel_of},
};
use crate::{
    codec::{self, Frame, Method, Short, access, basic, channel as channel_class, connection},
    config::Config,
    error::{Fault, ReplyCode},
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
    channels: BTreeMap<u16, Channel>,
    /// Read and not looked at, because the core had to be asked first.
    held: BytesMut,
    /// Why `connection.close` is out, for the log.
    farewell: Option<Close>,
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
            channels: BTreeMap::new(),
            held: BytesMut::new(),
            farewell: None,
        }
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
            let before = input.len();
            match codec::decode(input, self.shared.frame_max) {
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => {
                    let len = before - input.len();
                    self.on_frame(frame, len, now, out)?;
                }
                Err(error) => {
                    if self.phase == Phase::Start {
                        return Err(Close::fault(error.to_string()));
                    }
                    // What follows cannot be told apart into frames any more; only the answer to our close may still be.
                    input.clear();
                    self.fail(0, Fault::from(error), now, out);
                    return Ok(());
                }
            }
        }
        Ok(())
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
                    self.step(now, out).send(0, connection::CloseOk {});
                    return Err(Close::done("closed by the peer"));
                }
                if self.phase == Phase::Running {
                    on_connection_method(&method).map_err(|fault| fault.by(ids))
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
        if !self.channels.contains_key(&number) {
            return self.on_frame_without_channel(&frame, now, out);
        }
        let Self {
            channels, shared, ..
        } = self;
        let channel = channels
            .get_mut(&number)
            .expect("it is there, as has just been checked");
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
                self.channels.insert(number, Channel::new(number, born));
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
        let Some(mut channel) = self.channels.remove(&number) else {
            return Ok(());
        };
        channel.drop_content(&mut self.shared);
        for (frame, len) in channel.deferred {
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
        while let Some(channel) = channels.get_mut(&number)
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
            .get_mut(&number)
            .filter(|channel| channel.stage == Stage::Open);
        match channel {
            Some(channel) if !fault.code.is_hard() => {
                channel.expel(&fault, &mut Step { shared, now, out });
            }
            _ => self.close(&fault, now, out),
        }
    }

    /// Sends `connection.close` and waits for its answer. Consumers and leases go with the connection.
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

    fn on_event(&mut self, event: Event, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        if self.phase == Phase::Closing {
            return Ok(());
        }
        match event {
            Event::Delivery(delivery) => self.on_delivery(&delivery, now, out),
            Event::Published { token, outcome } => {
                let number = channel_of(token).0;
                let result = self.with_channel(token, now, out, |channel, step| {
                    if matches!(channel.stage, Stage::Expelled { .. }) {
                        return Ok(After::Stays);
                    }
                    channel
                        .on_published(token, outcome, step)
                        .map(|()| After::Stays)
                });
                if let Err(fault) = result {
                    self.fail(number, fault, now, out);
                }
            }
            Event::Returned { lane, message, .. } => {
                let Ok(number) = u16::try_from(lane.0) else {
                    return Ok(());
                };
                let Self {
                    channels, shared, ..
                } = self;
                if let Some(channel) = channels.get(&number)
                    && !matches!(channel.stage, Stage::Expelled { .. })
                {
                    channel.send_return(&message, &mut Step { shared, now, out });
                }
            }
            Event::Cancelled { consumer } => {
                let Self {
                    channels, shared, ..
                } = self;
                let (channel, number) = consumer_parts(consumer);
                if let Some(channel) = channels.get_mut(&channel)
                    && channel.stage == Stage::Open
                {
                    channel.on_cancelled(number, &mut Step { shared, now, out });
                }
            }
            Event::Blocked { blocked, reason } => {
                if self.shared.blocked_notify && self.phase == Phase::Running {
                    let mut step = self.step(now, out);
                    if blocked {
                        let reason = Short::cut(reason.to_owned());
                        step.send(0, connection::Blocked { reason });
                    } else {
                        step.send(0, connection::Unblocked {});
                    }
                }
            }
            Event::Closing { reason } => return self.on_closing(reason, now, out),
            Event::Authenticated { token, .. }
            | Event::Refused { token, .. }
            | Event::Declared { token, .. }
            | Event::Subscribed { token }
            | Event::Unsubscribed { token, .. }
            | Event::Pulled { token, .. }
            | Event::Committed { token, .. }
            | Event::Reached { token } => return self.on_answer(token, event, now, out),
            // No command of this session is answered so.
            Event::Settled { .. }
            | Event::Opened { .. }
            | Event::Resumed { .. }
            | Event::InboundReleased { .. } => {}
        }
        Ok(())
    }

    fn on_answer(
        &mut self,
        token: Token,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let number = channel_of(token).0;
        if number == 0 {
            match self.on_verdict(event, out) {
                Ok(()) => {}
                Err(Verdict::Close(close)) => return Err(close),
                Err(Verdict::Fault(fault)) => self.fail(0, fault, now, out),
            }
            let mut held = std::mem::take(&mut self.held);
            let result = self.read(&mut held, now, out);
            self.held = held;
            return result;
        }
        let result = self
            .with_channel(token, now, out, |channel, step| {
                channel.on_answer(token, event, step)
            })
            .and_then(|after| match after {
                After::Gone => self.remove_channel(number, now, out),
                After::Stays => self.resume_channel(number, now, out),
            });
        if let Err(fault) = result {
            self.fail(number, fault, now, out);
        }
        Ok(())
    }

    /// Runs `run` on the channel of a token, if that channel has not been succeeded by another.
    fn with_channel(
        &mut self,
        token: Token,
        now: Timestamp,
        out: &mut Output,
        run: impl FnOnce(&mut Channel, &mut Step<'_>) -> Result<After, Fault>,
    ) -> Result<After, Fault> {
        let (number, born) = channel_of(token);
        let Self {
            channels, shared, ..
        } = self;
        match channels.get_mut(&number) {
            Some(channel) if channel.born <= born => run(channel, &mut Step { shared, now, out }),
            _ => Ok(After::Stays),
        }
    }

    fn on_delivery(&mut self, delivery: &Delivery, now: Timestamp, out: &mut Output) {
        let Self {
            channels, shared, ..
        } = self;
        let (number, consumer) = consumer_parts(delivery.consumer);
        let mut step = Step { shared, now, out };
        match channels.get_mut(&number) {
            Some(channel) => channel.deliver(consumer, delivery, &mut step),
            None => {
                if let Some(id) = delivery.id {
                    step.settle(session::Lane(u32::from(number)), id, Outcome::Release);
                }
            }
        }
    }

    fn on_closing(
        &mut self,
        reason: CloseReason,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let text = match reason {
            CloseReason::TakenOver => "taken over by another connection",
            CloseReason::Shutdown => "broker forced connection closure with reason 'shutdown'",
            CloseReason::NotActive => "this node is no longer active",
            CloseReason::Administrative => "closed by an operator",
            CloseReason::Internal => "internal error",
        };
        if matches!(self.phase, Phase::Header | Phase::Start) {
            return Err(Close::done(text));
        }
        let code = match reason {
            CloseReason::Internal => ReplyCode::InternalError,
            _ => ReplyCode::ConnectionForced,
        };
        self.close(&Fault::new(code, text), now, out);
        Ok(())
    }

    fn flush_held(&mut self, now: Timestamp, out: &mut Output) {
        let Self {
            channels, shared, ..
        } = self;
        let mut held = std::mem::take(&mut shared.held);
        for number in held.drain(..) {
            if let Some(channel) = channels.get_mut(&number)
                && !matches!(channel.stage, Stage::Expelled { .. })
            {
                channel.flush(&mut Step {
                    shared: &mut *shared,
                    now,
                    out: &mut *out,
                });
            }
        }
        shared.held = held;
    }
}

/// The reverse of `step::consumer_id`.
const fn consumer_parts(consumer: ConsumerId) -> (u16, u32) {
    ((consumer.0 >> 32) as u16, consumer.0 as u32)
}

/// Methods of channel 0 on an open connection.
fn on_connection_method(method: &Method) -> Result<(), Fault> {
    match method {
        // Crossed our own closing, which was answered otherwise.
        Method::ConnectionCloseOk(_) => Ok(()),
        Method::ConnectionUpdateSecret(_) => Err(Fault::new(
            ReplyCode::NotImplemented,
            "connection.update-secret",
        )),
        method => Err(Fault::new(
            ReplyCode::CommandInvalid,
            format!("{} is not expected here", method.name()),
        )),
    }
}

impl Channel {
    /// A frame that nothing holds up.
    fn on_frame(&mut self, frame: Frame, step: &mut Step<'_>) -> Result<(), Fault> {
        let whole = match frame {
            Frame::Method { method, .. } => {
                let ids = method.ids();
                // 4.2.6: between a method with content and the end of its content nothing else comes on the channel.
                if self.content.is_some() {
                    return Err(Fault::new(
                        ReplyCode::UnexpectedFrame,
                        format!("expected content, got {} instead", method.name()),
                    )
                    .by(ids));
                }
                return self.on_method(method, step).map_err(|fault| fault.by(ids));
            }
            Frame::Header { header, .. } => self.on_header(header, step),
            Frame::Body { body, .. } => self.on_body(body, step),
            Frame::Heartbeat => Ok(None),
        };
        match whole {
            Ok(None) => Ok(()),
            Ok(Some((publish, header, body))) => self.publish(&publish, &header, body, step),
            Err(fault) => Err(fault),
        }
        .map_err(|fault| fault.by((60, 40)))
    }

    /// The flat table of methods.
    fn on_method(&mut self, method: Method, step: &mut Step<'_>) -> Result<(), Fault> {
        match method {
            Method::BasicPublish(publish) => self.on_publish(publish),
            Method::BasicAck(ack) => {
                self.settle(ack.delivery_tag, ack.multiple, Outcome::Accept, step)
            }
            Method::BasicNack(nack) => {
                let outcome = unless_requeued(nack.requeue);
                self.settle(nack.delivery_tag, nack.multiple, outcome, step)
            }
            Method::BasicReject(reject) => {
                let outcome = unless_requeued(reject.requeue);
                self.settle(reject.delivery_tag, false, outcome, step)
            }
            Method::BasicQos(qos) => self.on_qos(&qos, step),
            Method::BasicConsume(consume) => self.on_consume(consume, step),
            Method::BasicCancel(cancel) => {
                self.on_cancel(cancel, step);
                Ok(())
            }
            Method::BasicGet(get) => self.on_get(&get, step),
            Method::BasicRecover(recover) => {
                self.recover(recover.requeue, step)?;
                step.send(self.number, basic::RecoverOk {});
                Ok(())
            }
            Method::BasicRecoverAsync(recover) => self.recover(recover.requeue, step),
            // The answer to our own `basic.cancel`, from peers that send one in spite of no-wait.
            Method::BasicCancelOk(_) => Ok(()),
            Method::ExchangeDeclare(declare) => self.on_exchange_declare(declare, step),
            Method::ExchangeDelete(delete) => self.on_exchange_delete(delete, step),
            Method::ExchangeBind(bind) => self.on_exchange_bind(bind, step),
            Method::ExchangeUnbind(unbind) => self.on_exchange_unbind(unbind, step),
            Method::QueueDeclare(declare) => self.on_queue_declare(declare, step),
            Method::QueueBind(bind) => self.on_queue_bind(bind, step),
            Method::QueueUnbind(unbind) => self.on_queue_unbind(unbind, step),
            Method::QueuePurge(purge) => self.on_queue_purge(&purge, step),
            Method::QueueDelete(delete) => self.on_queue_delete(&delete, step),
            Method::ConfirmSelect(select) => self.on_confirm_select(&select, step),
            Method::TxSelect(_) => self.on_tx_select(step),
            Method::TxCommit(_) => self.on_tx_commit(step),
            Method::TxRollback(_) => self.on_tx_rollback(step),
            Method::ChannelFlow(flow) => {
                self.is_stopped = !flow.active;
                step.command(session::Command::GroupFlow {
                    group: u32::from(self.number),
                    active: flow.active,
                });
                let active = flow.active;
                step.send(self.number, channel_class::FlowOk { active });
                Ok(())
            }
            Method::ChannelClose(_) => {
                self.leave(step);
                Ok(())
            }
            // We never send `flow`; a stray answer, like that to a close that crossed, means nothing.
            Method::ChannelFlowOk(_) | Method::ChannelCloseOk(_) => Ok(()),
            Method::ChannelOpen(_) => Err(Fault::new(
                ReplyCode::ChannelError,
                "second 'channel.open' seen",
            )),
            Method::AccessRequest(_) => {
                step.send(self.number, access::RequestOk { reserved_1: 1 });
                Ok(())
            }
            method => Err(Fault::new(
                ReplyCode::CommandInvalid,
                format!("{} is not expected here", method.name()),
            )),
        }
    }
}

const fn unless_requeued(requeue: bool) -> Outcome {
    if requeue {
        Outcome::Release
    } else {
        Outcome::Reject
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
                if session.is_stalled() {
                    session.held = input.split();
                }
                return result;
            }
            // What was held back comes first; the two meet again without a copy when they are neighbours in memory.
            let mut bytes = std::mem::take(&mut session.held);
            bytes.unsplit(input.split());
            let result = session.read(&mut bytes, now, out);
            if session.is_stalled() {
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
