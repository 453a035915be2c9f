//! The session around the inner session.
//!
//! | why it ends | close code (RFC 6455, 7.4.1) |
//! |---|---|
//! | the inner session is done | 1000 |
//! | the server goes away | 1001 |
//! | the peer broke the protocol, this one or the inner | 1002 |
//! | a text message where only binary is spoken | 1003 |
//! | a text message that is not UTF-8 | 1007 |
//! | a message or frame over its limit | 1009 |
//! | the peer closed | its own code |

use bytes::{Buf, Bytes, BytesMut};
use message::Timestamp;
use session::{Close, CloseReason, Event, Output, RefusalKind, Session, Wire};
use tokio_tungstenite::tungstenite::{
    self, Message,
    protocol::{Role, WebSocketConfig},
};

use crate::pipe::Pipe;

const OPCODE_TEXT: u8 = 1;
const OPCODE_BINARY: u8 = 2;
const OPCODE_CLOSE: u8 = 8;
const FIN: u8 = 0x80;
/// The longest payload of a control frame (RFC 6455, 5.5).
const CONTROL_LEN_MAX: usize = 125;

const DONE: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const NOT_UTF8: u16 = 1007;
const TOO_BIG: u16 = 1009;
/// 1012 and 1013 are registered with IANA: come back; go to another address.
const SERVICE_RESTART: u16 = 1012;
const TRY_AGAIN_LATER: u16 = 1013;

/// Which messages carry the inner protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Binary only; a text message ends the connection (MQTT, AMQP).
    Binary,
    /// Text when the frame's bytes are UTF-8, else binary; both are read (STOMP).
    TextIfUtf8,
    /// Not known: both are read, and text is sent only to a peer whose last message was text (see [`crate::Sniff`]).
    AsPeer,
}

/// The limits of a WebSocket listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest message, all its fragments together, in bytes. 1 to 1,073,741,824.
    pub message_len_max: usize,
    /// Longest frame, in bytes. 1 to 1,073,741,824.
    pub frame_len_max: usize,
    /// Longest message and frame of a peer that has not logged in, in bytes: it must be held whole. 1 to 1,073,741,824.
    pub login_len_max: usize,
}

impl Default for Config {
    /// The largest inner frame by default (a body of 16 MiB), with room for its head.
    fn default() -> Self {
        let len_max = 17 * 1024 * 1024;
        Self {
            message_len_max: len_max,
            frame_len_max: len_max,
            login_len_max: 256 * 1024,
        }
    }
}

/// A WebSocket connection, after its upgrade, around a session of type `S`.
#[derive(Debug)]
pub struct WebSocket<S> {
    inner: S,
    kind: Kind,
    config: Config,
    engine: tungstenite::WebSocket<Pipe>,
    /// Bytes for the inner session.
    input: BytesMut,
    /// What the inner session yields.
    output: Output,
    peer_sends_text: bool,
    closed: bool,
}

/// The end: a code for the peer and a reason for both.
struct End {
    code: u16,
    close: Close,
}

impl<S: Session> WebSocket<S> {
    /// Around `inner`.
    #[must_use]
    pub fn new(inner: S, kind: Kind, config: Config) -> Self {
        // What the engine allocates at once and keeps is small; longer frames make it grow while they last.
        let frame_len_max = config.frame_len_max.min(config.login_len_max);
        let limits = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0)
            .max_message_size(Some(config.message_len_max.min(config.login_len_max)))
            .max_frame_size(Some(frame_len_max));
        Self {
            inner,
            kind,
            config,
            engine: tungstenite::WebSocket::from_raw_socket(
                Pipe::new(frame_len_max),
                Role::Server,
                Some(limits),
            ),
            input: BytesMut::new(),
            output: Output {
                wire: Wire::with_frame_marks(),
                ..Output::default()
            },
            peer_sends_text: false,
            closed: false,
        }
    }

    /// Takes every whole message; their bytes follow each other in `input`.
    fn read(&mut self) -> Result<(), End> {
        loop {
            match self.engine.read() {
                Ok(Message::Text(text)) => {
                    // [MQTT-6.0.0-1]
                    if self.kind == Kind::Binary {
                        let close = Close::fault("a text message where only binary is spoken");
                        let code = UNSUPPORTED;
                        return Err(End { code, close });
                    }
                    self.peer_sends_text = true;
                    self.take(text.into());
                }
                Ok(Message::Binary(bytes)) => {
                    self.peer_sends_text = false;
                    self.take(bytes);
                }
                // A ping has been answered by the engine, a close will be by its next read.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {
                }
                Err(error) => return self.on_engine_error(error),
            }
        }
    }

    fn on_engine_error(&mut self, error: tungstenite::Error) -> Result<(), End> {
        let code = match &error {
            tungstenite::Error::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Ok(());
            }
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                // The engine has written its half of the closing handshake.
                self.closed = true;
                let close = Close::done("the peer closed the WebSocket");
                return Err(End { code: DONE, close });
            }
            tungstenite::Error::Capacity(_) => TOO_BIG,
            tungstenite::Error::Utf8(_) => NOT_UTF8,
            _ => PROTOCOL_ERROR,
        };
        let close = Close::fault(error.to_string());
        Err(End { code, close })
    }

    /// One stream of bytes, whatever the messages were [MQTT-6.0.0-2].
    fn take(&mut self, bytes: Bytes) {
        if self.input.is_empty() {
            self.input = bytes.into();
        } else {
            self.input.extend_from_slice(&bytes);
        }
    }

    /// Hands the inner session what has come for it, if it wants that now.
    fn feed(&mut self, now: Timestamp) -> Result<(), End> {
        if self.input.is_empty() || !self.inner.wants_bytes() {
            return Ok(());
        }
        let step = self
            .inner
            .handle_bytes(&mut self.input, now, &mut self.output);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        step.map_err(End::of_inner)
    }

    /// Moves what the inner session yielded to `out`, each of its frames as a message.
    fn drain(&mut self, out: &mut Output) {
        out.commands.append(&mut self.output.commands);
        // A pong goes first; nothing may follow a close (RFC 6455, 5.5.1).
        if !self.closed {
            self.drain_control(&mut out.wire);
        }
        while let Some(frame) = self.output.wire.take_frame() {
            self.put_message(&frame, &mut out.wire);
        }
        // Nothing may stay behind because an inner protocol did not mark its end.
        let rest = self.output.wire.remaining();
        if rest > 0 {
            let frame = self.output.wire.copy_to_bytes(rest);
            self.put_message(&frame, &mut out.wire);
        }
        if self.closed {
            self.drain_control(&mut out.wire);
        }
    }

    /// Moves the control frames that the engine wrote.
    fn drain_control(&mut self, wire: &mut Wire) {
        let control = &mut self.engine.get_mut().outgoing;
        if !control.is_empty() {
            wire.put(control);
            wire.end_frame();
            control.clear();
        }
    }

    fn put_message(&self, payload: &Bytes, wire: &mut Wire) {
        let text = match self.kind {
            Kind::Binary => false,
            Kind::TextIfUtf8 => true,
            Kind::AsPeer => self.peer_sends_text,
        };
        let opcode = if text && std::str::from_utf8(payload).is_ok() {
            OPCODE_TEXT
        } else {
            OPCODE_BINARY
        };
        put_frame(opcode, payload, wire);
    }

    /// Ends a step.
    fn finish(&mut self, step: Result<(), End>, out: &mut Output) -> Result<(), Close> {
        self.drain(out);
        let Err(End { code, close }) = step else {
            return Ok(());
        };
        if !self.closed {
            self.closed = true;
            let mut len = close.reason.len().min(CONTROL_LEN_MAX - 2);
            while !close.reason.is_char_boundary(len) {
                len -= 1;
            }
            let reason = &close.reason.as_bytes()[..len];
            let payload = Bytes::from([&code.to_be_bytes(), reason].concat());
            put_frame(OPCODE_CLOSE, &payload, &mut out.wire);
        }
        Err(close)
    }
}

impl End {
    fn of_inner(close: Close) -> Self {
        let code = if close.fault { PROTOCOL_ERROR } else { DONE };
        Self { code, close }
    }
}

/// Writes an unmasked frame (RFC 6455, 5.2).
fn put_frame(opcode: u8, payload: &Bytes, wire: &mut Wire) {
    let first = FIN | opcode;
    match payload.len() {
        len @ ..=125 => wire.put(&[first, len as u8]),
        len @ 126..=0xffff => {
            wire.put(&[first, 126]);
            wire.put(&(len as u16).to_be_bytes());
        }
        len => {
            wire.put(&[first, 127]);
            wire.put(&(len as u64).to_be_bytes());
        }
    }
    wire.put_body(payload);
    wire.end_frame();
}

impl<S: Session> Session for WebSocket<S> {
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let incoming = &mut self.engine.get_mut().incoming;
        if incoming.is_empty() {
            *incoming = input.split();
        } else {
            incoming.unsplit(input.split());
        }
        let read = self.read();
        let incoming = &mut self.engine.get_mut().incoming;
        if incoming.is_empty() {
            // An empty part of the read buffer would keep all of it alive.
            *incoming = BytesMut::new();
        }
        // What came before the end counts: a DISCONNECT, then a close.
        let step = self.feed(now).and(read);
        self.finish(step, out)
    }

    fn handle_event(
        &mut self,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let code = match &event {
            Event::Closing {
                reason: CloseReason::Shutdown,
            } => Some(GOING_AWAY),
            // Whoever was served here finds another node soon; whoever comes to this one should go there at once.
            Event::Closing {
                reason: CloseReason::NotActive(_),
            } => Some(SERVICE_RESTART),
            Event::Refused { refusal, .. } if refusal.kind == RefusalKind::NotActive => {
                Some(TRY_AGAIN_LATER)
            }
            _ => None,
        };
        if let Event::Authenticated { .. } = event {
            let config = self.config;
            self.engine.set_config(|limits| {
                limits.max_message_size = Some(config.message_len_max);
                limits.max_frame_size = Some(config.frame_len_max);
            });
            self.engine.get_mut().frame_len_max = config.frame_len_max as u64;
        }
        let step = self
            .inner
            .handle_event(event, now, &mut self.output)
            .map_err(|close| End {
                code: code.unwrap_or_else(|| End::of_inner(close.clone()).code),
                close,
            });
        // The event may be what the inner session waited for before it read on.
        let step = step.and_then(|()| self.feed(now));
        self.finish(step, out)
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        let step = self
            .inner
            .handle_timeout(now, &mut self.output)
            .map_err(End::of_inner);
        self.finish(step, out)
    }

    fn handle_unread(&mut self, now: Timestamp) {
        self.inner.handle_unread(now);
    }

    fn handle_hangup(&mut self, now: Timestamp, out: &mut Output) {
        self.inner.handle_hangup(now, &mut self.output);
        out.commands.append(&mut self.output.commands);
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.inner.poll_timeout()
    }

    fn wants_bytes(&self) -> bool {
        !self.closed && self.inner.wants_bytes()
    }
}
