//! A STOMP connection from accept to close.
//!
//! ```text
//!   Fresh --CONNECT--> Greeting --Authenticated--> Conversation --DISCONNECT--> Over
//!     |                   |                             |
//!     +---- timeout ------+------- ERROR ---------------+--> Over
//! ```
//!
//! Every error is an ERROR frame and the end of the connection (STOMP 1.2, "ERROR"): there is no smaller scope.

mod conversation;
mod handshake;
mod heart_beat;
mod ledger;
mod opening;
mod options;
mod sending;
mod streams;
mod subscribing;
mod transaction;

use std::sync::Arc;

use bytes::BytesMut;
use message::Timestamp;
use session::{Close, Event, Output, Session};

use crate::{
    Config,
    codec::{Decoder, Version},
    error::Fault,
};

use conversation::{Conversation, Next};
use handshake::Greeting;
use heart_beat::HeartBeat;

#[derive(Debug)]
enum State {
    /// Nothing is known of the peer. The deadline is set when the session first learns the time.
    Fresh { deadline: Option<Timestamp> },
    /// CONNECT has come; the core is asked who the peer is.
    Greeting(Box<Greeting>),
    /// CONNECTED.
    Conversation(Box<Conversation>, HeartBeat),
    /// Nothing more is said.
    Over,
}

/// One STOMP connection.
#[derive(Debug)]
pub struct StompSession {
    config: Arc<Config>,
    decoder: Decoder,
    version: Version,
    state: State,
    /// Which listener it came through, as the configuration names it.
    listener: &'static str,
}

impl StompSession {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(config: impl Into<Arc<Config>>) -> Self {
        let config = config.into();
        Self {
            decoder: Decoder::new(Version::V1_2, config.limits_before_login()),
            version: Version::V1_2,
            state: State::Fresh { deadline: None },
            listener: "stomp",
            config,
        }
    }

    /// One that came through that listener: the same of another node is what it may be told to use instead. `stomp` unless set.
    #[must_use]
    pub const fn through(mut self, listener: &'static str) -> Self {
        self.listener = listener;
        self
    }

    fn deadline(&self, now: Timestamp) -> Timestamp {
        now.plus_ms(self.config.connect_timeout_ms)
    }

    fn end(&mut self, fault: Fault, out: &mut Output) -> Close {
        self.state = State::Over;
        fault.close(self.version, &mut out.wire)
    }

    /// Reads frames while they are wanted.
    fn read(&mut self, input: &mut BytesMut, now: Timestamp, out: &mut Output) -> Step {
        while self.wants_bytes() {
            let decoded = self.decoder.decode(input).map_err(|error| {
                // What is malformed may have asked for a receipt before it went wrong.
                Fault::from(error).with_receipt(self.decoder.receipt())
            })?;
            let Some(mut frame) = decoded else {
                break;
            };
            if self.version == Version::V1_0 {
                frame.headers.trim();
            }
            let receipt = frame.receipt();
            let next = match &mut self.state {
                State::Fresh { deadline } => {
                    let deadline = deadline.unwrap_or(now);
                    let greeting =
                        handshake::greet(&self.config, &mut frame, deadline, &mut out.commands)
                            .map_err(|fault| fault.with_receipt(receipt))?;
                    self.version = greeting.version;
                    self.state = State::Greeting(Box::new(greeting));
                    Ok(Next::Go)
                }
                State::Conversation(conversation, _) => conversation
                    .on_frame(frame, now, out)
                    .map_err(|fault| fault.with_receipt(receipt)),
                State::Greeting(_) | State::Over => unreachable!("no bytes are wanted"),
            }?;
            if let Next::Over = next {
                return Ok(Next::Over);
            }
        }
        Ok(Next::Go)
    }

    fn on_event(&mut self, event: Event, now: Timestamp, out: &mut Output) -> Step {
        match (&mut self.state, event) {
            (_, Event::Closing { reason }) => Err(handshake::closing(reason, self.listener)),
            (State::Conversation(conversation, _), event) => conversation.on_event(event, now, out),
            (State::Greeting(greeting), event) => {
                let Some(welcome) = greeting.on_event(event, self.listener)? else {
                    return Ok(Next::Go);
                };
                // Milliseconds since 1970 tell those of different processes apart, the number those of one.
                let session = format!("{:x}.{}", now.0, self.config.counters.next_session());
                let heart_beat =
                    greeting.welcome(&self.config, &welcome, &session, now, &mut out.wire);
                self.decoder.set(greeting.version, self.config.limits());
                let config = Arc::clone(&self.config);
                let conversation = Conversation::new(config, greeting.version, welcome, session);
                self.state = State::Conversation(Box::new(conversation), heart_beat);
                Ok(Next::Go)
            }
            (State::Fresh { .. } | State::Over, _) => Ok(Next::Go),
        }
    }

    /// Turns the outcome of a step into what the loop wants to know.
    fn finish(
        &mut self,
        step: Step,
        sent_before: usize,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        if let State::Conversation(_, heart_beat) = &mut self.state
            && bytes::Buf::remaining(&out.wire) > sent_before
        {
            heart_beat.sent(now);
        }
        match step {
            Ok(Next::Go) => Ok(()),
            Ok(Next::Over) => {
                self.state = State::Over;
                Err(Close::done("disconnected"))
            }
            Err(fault) => Err(self.end(fault, out)),
        }
    }
}

/// What a step comes to.
type Step = Result<Next, Fault>;

impl Session for StompSession {
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let sent_before = bytes::Buf::remaining(&out.wire);
        let first_deadline = self.deadline(now);
        match &mut self.state {
            State::Fresh { deadline } => {
                deadline.get_or_insert(first_deadline);
            }
            State::Conversation(_, heart_beat) => heart_beat.received(now),
            State::Greeting(_) | State::Over => {}
        }
        let step = self.read(input, now, out);
        self.finish(step, sent_before, now, out)
    }

    fn handle_event(
        &mut self,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let sent_before = bytes::Buf::remaining(&out.wire);
        let step = self.on_event(event, now, out);
        self.finish(step, sent_before, now, out)
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        let first_deadline = self.deadline(now);
        let late = match &mut self.state {
            State::Fresh { deadline } => *deadline.get_or_insert(first_deadline) <= now,
            State::Greeting(greeting) => greeting.deadline <= now,
            State::Conversation(conversation, heart_beat) => {
                if !conversation.wants_bytes() {
                    // What the peer sends is not being read.
                    heart_beat.received(now);
                } else if heart_beat.silent_too_long(now) {
                    let fault = heart_beat.fault();
                    return Err(self.end(fault, out));
                }
                heart_beat.beat(now, &mut out.wire);
                false
            }
            State::Over => false,
        };
        if late {
            let detail = format!(
                "no successful login within {} ms",
                self.config.connect_timeout_ms
            );
            return Err(self.end(Fault::peer("login timeout", detail), out));
        }
        Ok(())
    }

    fn handle_unread(&mut self, now: Timestamp) {
        if let State::Conversation(_, heart_beat) = &mut self.state {
            heart_beat.received(now);
        }
    }

    // [STOMP-begin-3]
    fn handle_hangup(&mut self, _now: Timestamp, _out: &mut Output) {
        // Transactions that were not committed are aborted by being forgotten (STOMP 1.2, "ABORT" and "DISCONNECT");
        // the core releases what is out.
        self.state = State::Over;
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        match &self.state {
            // The epoch is long past: the session is called at once and learns the time.
            State::Fresh { deadline } => Some(deadline.unwrap_or_default()),
            State::Greeting(greeting) => Some(greeting.deadline),
            State::Conversation(_, heart_beat) => heart_beat.deadline(),
            State::Over => None,
        }
    }

    fn wants_bytes(&self) -> bool {
        match &self.state {
            State::Fresh { .. } => true,
            State::Greeting(_) | State::Over => false,
            State::Conversation(conversation, _) => conversation.wants_bytes(),
        }
    }
}
