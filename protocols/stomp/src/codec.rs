//! Frames, for the server and for a client (STOMP 1.2, "STOMP Frames" and "Augmented BNF").
//!
//! ```text
//! COMMAND EOL
//! *( name ":" value EOL )
//! EOL
//! body                      content-length bytes, or up to the first NUL
//! NUL *( EOL )
//! ```
//!
//! We write LF and always a `content-length` before a body; what is read is told in `codec/decoder.rs`.

mod decoder;
mod header;

use bytes::{BufMut, Bytes, BytesMut};
use session::Wire;

pub use decoder::Decoder;
pub use header::Headers;
pub(crate) use header::{Escapes, put_lines_of_1_2};

/// A version of STOMP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// STOMP 1.0.
    V1_0,
    /// STOMP 1.1.
    V1_1,
    /// STOMP 1.2.
    #[default]
    V1_2,
}

impl Version {
    /// What an ERROR says when there is no common version.
    pub const ALL: &'static str = "1.2,1.1,1.0";

    /// As in the `version` header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }

    /// Protocol and version, for logs.
    #[must_use]
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::V1_0 => "STOMP 1.0",
            Self::V1_1 => "STOMP 1.1",
            Self::V1_2 => "STOMP 1.2",
        }
    }

    /// The highest version in an `accept-version` header; without the header it is 1.0 (STOMP 1.2, "Protocol Negotiation").
    #[must_use]
    pub fn highest_common(accept: Option<&str>) -> Option<Self> {
        let Some(accept) = accept else {
            return Some(Self::V1_0);
        };
        let offered = accept.split(',').filter_map(|text| match text.trim() {
            "1.0" => Some(Self::V1_0),
            "1.1" => Some(Self::V1_1),
            "1.2" => Some(Self::V1_2),
            _ => None,
        });
        offered.max()
    }
}

/// What the specification calls a frame's command. (`Command` is the core's word.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the specification's words")]
pub enum Verb {
    Connect,
    Stomp,
    Connected,
    Send,
    Subscribe,
    Unsubscribe,
    Ack,
    Nack,
    Begin,
    Commit,
    Abort,
    Disconnect,
    Message,
    Receipt,
    Error,
}

impl Verb {
    /// As on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Stomp => "STOMP",
            Self::Connected => "CONNECTED",
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Abort => "ABORT",
            Self::Disconnect => "DISCONNECT",
            Self::Message => "MESSAGE",
            Self::Receipt => "RECEIPT",
            Self::Error => "ERROR",
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"CONNECT" => Self::Connect,
            b"STOMP" => Self::Stomp,
            b"CONNECTED" => Self::Connected,
            b"SEND" => Self::Send,
            b"SUBSCRIBE" => Self::Subscribe,
            b"UNSUBSCRIBE" => Self::Unsubscribe,
            b"ACK" => Self::Ack,
            b"NACK" => Self::Nack,
            b"BEGIN" => Self::Begin,
            b"COMMIT" => Self::Commit,
            b"ABORT" => Self::Abort,
            b"DISCONNECT" => Self::Disconnect,
            b"MESSAGE" => Self::Message,
            b"RECEIPT" => Self::Receipt,
            b"ERROR" => Self::Error,
            _ => return None,
        })
    }

    /// STOMP 1.2, "Body": all other frames must not have one.
    const fn may_have_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }
}

/// What cannot be a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The command line.
    #[error("'{0}' is not a STOMP command")]
    UnknownCommand(String),
    /// A limit is passed, or would be.
    #[error("{what} is larger than {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A header line without a colon or without a name.
    #[error("a header line is not 'name:value'")]
    HeaderLine,
    /// Headers must be UTF-8.
    #[error("the headers are not UTF-8")]
    NotUtf8,
    /// A NUL before the empty line: the frame ends inside its headers.
    #[error("the frame ends inside its headers: the empty line is missing")]
    NulInHeader,
    /// An escape that the version does not define.
    #[error("undefined escape in a header: a backslash and {}", shown(*.0))]
    UndefinedEscape(Option<u8>),
    /// `content-length` is not a number.
    #[error("content-length '{0}' is not a number of bytes")]
    ContentLength(String),
    /// The byte after a body of `content-length` bytes is not NUL.
    #[error("no NUL after a body of {0} bytes, which content-length promised")]
    NoNul(usize),
    /// A frame that must not have a body has one.
    #[error("{0} must not have a body")]
    Body(&'static str),
}

fn shown(byte: Option<u8>) -> String {
    byte.map_or_else(
        || "the end of the line".to_owned(),
        |byte| format!("'{}'", byte.escape_ascii()),
    )
}

/// What a frame may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most headers.
    pub header_count_max: usize,
    /// Longest header line, in bytes.
    pub header_len_max: usize,
    /// Longest command line and headers together, in bytes.
    pub head_len_max: usize,
    /// Longest body, in bytes.
    pub body_len_max: usize,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its command.
    pub verb: Verb,
    /// Its headers, without escapes.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
}

impl Frame {
    /// One without headers and body.
    #[must_use]
    pub fn new(verb: Verb) -> Self {
        Self {
            verb,
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Bytes>) -> Self {
        self.headers
            .0
            .push((Bytes::from_static(name.as_bytes()), value.into()));
        self
    }

    /// Sets the body. `content-length` is written by [`Frame::encode`].
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The receipt that the frame asks for.
    #[must_use]
    pub fn receipt(&self) -> Option<Bytes> {
        self.headers.first("receipt").cloned()
    }

    /// Writes the frame. `content-length` is added to a frame with a body that does not name it. Characters that the
    /// version cannot show (1.0: line ends; 1.1: CR) become spaces; returns how many headers could not be written at all.
    pub fn encode(&self, version: Version, wire: &mut Wire) -> u64 {
        let escapes = Escapes::of(version, self.verb);
        let mut omitted = 0;
        wire.encode(|out| {
            put_command(self.verb, out);
            for (name, value) in &self.headers.0 {
                let value = escapes.showable(value);
                if !escapes.put_line(name, &value, out) {
                    omitted += 1;
                }
            }
            if !self.body.is_empty() && self.headers.first("content-length").is_none() {
                put_content_length(self.body.len(), out);
            }
            out.put_u8(b'\n');
        });
        put_body_and_end(&self.body, wire);
        omitted
    }
}

/// Writes a command line.
pub(crate) fn put_command(verb: Verb, out: &mut BytesMut) {
    out.put_slice(verb.as_str().as_bytes());
    out.put_u8(b'\n');
}

/// Writes a `content-length` line.
pub(crate) fn put_content_length(len: usize, out: &mut BytesMut) {
    out.put_slice(b"content-length:");
    put_number(len as u64, out);
    out.put_u8(b'\n');
}

/// Writes a number in decimal.
pub(crate) fn put_number(mut number: u64, out: &mut BytesMut) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// Writes the body and the NUL behind it.
pub(crate) fn put_body_and_end(body: &Bytes, wire: &mut Wire) {
    wire.put_body(body);
    wire.put(b"\0");
    wire.end_frame();
}
