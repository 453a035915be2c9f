//! The protocol inside, recognised by its first bytes: for clients that name no subprotocol.
//!
//! | first bytes | protocol |
//! |---|---|
//! | `0x10` | MQTT: the fixed header of CONNECT |
//! | `AMQP` | AMQP: the protocol header |
//! | `C`, `S`, LF, CR | STOMP: CONNECT, STOMP or a heart-beat |

use bytes::BytesMut;
use message::Timestamp;
use session::{Close, Event, Output, Session};

use crate::Protocol;

/// A session that is made when the first bytes say which.
#[derive(Debug)]
pub struct Sniff<S, F> {
    state: State<S, F>,
    timeout_ms: u64,
}

#[derive(Debug)]
enum State<S, F> {
    Waiting {
        make: Option<F>,
        deadline: Option<Timestamp>,
    },
    Known(S),
}

impl<S, F: FnOnce(Protocol) -> S> Sniff<S, F> {
    /// `make` makes the session. Without a byte within `timeout_ms` the connection ends.
    pub const fn new(make: F, timeout_ms: u64) -> Self {
        Self {
            state: State::Waiting {
                make: Some(make),
                deadline: None,
            },
            timeout_ms,
        }
    }
}

/// `Ok(None)`: more bytes are needed.
fn recognise(first: &[u8]) -> Result<Option<Protocol>, Close> {
    const AMQP: &[u8] = b"AMQP";
    Ok(match first {
        [] => None,
        [0x10, ..] => Some(Protocol::Mqtt),
        [b'C' | b'S' | b'\n' | b'\r', ..] => Some(Protocol::Stomp),
        _ if first.starts_with(AMQP) => Some(Protocol::Amqp),
        _ if AMQP.starts_with(first) => None,
        _ => return Err(Close::fault("the first bytes are those of no protocol")),
    })
}

impl<S: Session, F: FnOnce(Protocol) -> S> Session for Sniff<S, F> {
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        if let State::Waiting { make, deadline } = &mut self.state {
            deadline.get_or_insert(now.plus_ms(self.timeout_ms));
            let Some(protocol) = recognise(input)? else {
                return Ok(());
            };
            let make = make.take().expect("it is taken only here, and replaced");
            self.state = State::Known(make(protocol));
        }
        match &mut self.state {
            State::Known(session) => session.handle_bytes(input, now, out),
            State::Waiting { .. } => Ok(()),
        }
    }

    fn handle_event(
        &mut self,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        match &mut self.state {
            State::Known(session) => session.handle_event(event, now, out),
            State::Waiting { .. } if matches!(event, Event::Closing { .. }) => {
                Err(Close::done("the server closes the connection"))
            }
            State::Waiting { .. } => Ok(()),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        let timeout = now.plus_ms(self.timeout_ms);
        match &mut self.state {
            State::Known(session) => session.handle_timeout(now, out),
            State::Waiting { deadline, .. } => {
                if *deadline.get_or_insert(timeout) <= now {
                    return Err(Close::fault("nothing came"));
                }
                Ok(())
            }
        }
    }

    fn handle_unread(&mut self, now: Timestamp) {
        if let State::Known(session) = &mut self.state {
            session.handle_unread(now);
        }
    }

    fn handle_hangup(&mut self, now: Timestamp, out: &mut Output) {
        if let State::Known(session) = &mut self.state {
            session.handle_hangup(now, out);
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        match &self.state {
            State::Known(session) => session.poll_timeout(),
            // The epoch is long past: the session is called at once and learns the time.
            State::Waiting { deadline, .. } => Some(deadline.unwrap_or_default()),
        }
    }

    fn wants_bytes(&self) -> bool {
        match &self.state {
            State::Known(session) => session.wants_bytes(),
            State::Waiting { .. } => true,
        }
    }
}
