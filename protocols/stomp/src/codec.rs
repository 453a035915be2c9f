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
//! The decoder remembers how far it looked, so a slow sender never makes it look twice, and checks each limit before it
//! waits for more. A body is a slice of the read buffer. EOL is LF or CR LF in 1.2; in older versions a CR before LF
//! counts as part of the EOL when the frame's command line ends so, because no command does.

mod header;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use session::Wire;

pub use header::Headers;
pub(crate) use header::{Escapes, put_lines_of_1_2};

/// The longest command, with a CR behind it.
const COMMAND_LEN_MAX: usize = "UNSUBSCRIBE\r".len();

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
                let value = header::showable(value, escapes);
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

#[derive(Debug)]
enum Progress {
    /// Between frames: line ends are skipped.
    Between,
    /// In the head: everything before `scanned` has been looked at; the line being read starts at `line_start`.
    Head {
        verb: Option<Verb>,
        strip_cr: bool,
        headers_start: usize,
        line_start: usize,
        scanned: usize,
        count: usize,
    },
    /// The head has been taken off.
    Body {
        verb: Verb,
        headers: Headers,
        content_length: Option<usize>,
        scanned: usize,
    },
}

/// Takes frames off the front of a read buffer.
#[derive(Debug)]
pub struct Decoder {
    version: Version,
    limits: Limits,
    progress: Progress,
}

impl Decoder {
    /// Before the version is agreed, it is that of the latest: CONNECT has no escapes and may have CR LF.
    #[must_use]
    pub const fn new(version: Version, limits: Limits) -> Self {
        Self {
            version,
            limits,
            progress: Progress::Between,
        }
    }

    /// Changes version and limits, for the frames that follow.
    pub const fn set(&mut self, version: Version, limits: Limits) {
        self.version = version;
        self.limits = limits;
    }

    /// The next frame, or `None` when it is not all there.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        loop {
            match &mut self.progress {
                Progress::Between => {
                    // STOMP 1.2, "Heart-beating": an EOL between frames is a heart-beat, or the trailer of a frame.
                    match &input[..] {
                        [] | [b'\r'] => return Ok(None),
                        [b'\n', ..] => input.advance(1),
                        [b'\r', b'\n', ..] => input.advance(2),
                        _ => {
                            self.progress = Progress::Head {
                                verb: None,
                                strip_cr: self.version == Version::V1_2,
                                headers_start: 0,
                                line_start: 0,
                                scanned: 0,
                                count: 0,
                            }
                        }
                    }
                }
                Progress::Head { .. } => {
                    let Some((verb, headers)) = self.head(input)? else {
                        return Ok(None);
                    };
                    let content_length = self.content_length(&headers)?;
                    self.progress = Progress::Body {
                        verb,
                        headers,
                        content_length,
                        scanned: 0,
                    };
                }
                Progress::Body { .. } => return self.body(input),
            }
        }
    }

    /// Finds the end of the head and reads it.
    fn head(&mut self, input: &mut BytesMut) -> Result<Option<(Verb, Headers)>, DecodeError> {
        let Progress::Head {
            verb,
            strip_cr,
            headers_start,
            line_start,
            scanned,
            count,
        } = &mut self.progress
        else {
            unreachable!("called in the head only");
        };
        let limits = &self.limits;
        let too_large = |what, limit| DecodeError::TooLarge { what, limit };
        loop {
            let found = input[*scanned..]
                .iter()
                .position(|byte| matches!(byte, b'\n' | 0));
            let line_end = found.map_or(input.len(), |at| *scanned + at);
            let mut line = &input[*line_start..line_end];
            let nul = found.is_some() && input[line_end] == 0;
            if verb.is_none() && (line.len() > COMMAND_LEN_MAX || nul) {
                let shown = &line[..line.len().min(COMMAND_LEN_MAX)];
                return Err(DecodeError::UnknownCommand(
                    shown.escape_ascii().to_string(),
                ));
            }
            if line.len() > limits.header_len_max {
                return Err(too_large("a header", limits.header_len_max));
            }
            if line_end > limits.head_len_max {
                return Err(too_large("the head of a frame", limits.head_len_max));
            }
            if found.is_none() {
                *scanned = input.len();
                return Ok(None);
            }
            if nul {
                return Err(DecodeError::NulInHeader);
            }
            let next = line_end + 1;
            (*scanned, *line_start) = (next, next);
            if let Some(stripped) = line.strip_suffix(b"\r")
                && (*strip_cr || verb.is_none())
            {
                *strip_cr = true;
                line = stripped;
            }
            let Some(verb) = *verb else {
                *verb = Verb::parse(line);
                if verb.is_none() {
                    return Err(DecodeError::UnknownCommand(line.escape_ascii().to_string()));
                }
                *headers_start = next;
                continue;
            };
            if !line.is_empty() {
                *count += 1;
                if *count > limits.header_count_max {
                    return Err(too_large("the number of headers", limits.header_count_max));
                }
                continue;
            }
            let (start, strip_cr) = (*headers_start, *strip_cr);
            let head = input.split_to(next).freeze();
            let escapes = Escapes::of(self.version, verb);
            let headers = Headers::decode(&head.slice(start..), escapes, strip_cr)?;
            return Ok(Some((verb, headers)));
        }
    }

    fn content_length(&self, headers: &Headers) -> Result<Option<usize>, DecodeError> {
        let Some(text) = headers.text("content-length") else {
            return Ok(None);
        };
        let digits = text.trim();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DecodeError::ContentLength(text.chars().take(32).collect()));
        }
        match digits.parse::<usize>() {
            Ok(len) if len <= self.limits.body_len_max => Ok(Some(len)),
            _ => Err(self.body_too_large()),
        }
    }

    const fn body_too_large(&self) -> DecodeError {
        DecodeError::TooLarge {
            what: "a body",
            limit: self.limits.body_len_max,
        }
    }

    /// Finds the end of the body and takes it off.
    fn body(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let body_len_max = self.limits.body_len_max;
        let Progress::Body {
            verb,
            headers,
            content_length,
            scanned,
        } = &mut self.progress
        else {
            unreachable!("called in the body only");
        };
        let len = if let Some(len) = *content_length {
            match input.get(len) {
                None => return Ok(None),
                Some(0) => len,
                Some(_) => return Err(DecodeError::NoNul(len)),
            }
        } else {
            let found = input[*scanned..].iter().position(|byte| *byte == 0);
            let len = found.map_or(input.len(), |at| *scanned + at);
            if len > body_len_max {
                return Err(self.body_too_large());
            }
            if found.is_none() {
                *scanned = input.len();
                return Ok(None);
            }
            len
        };
        if len > 0 && !verb.may_have_body() {
            return Err(DecodeError::Body(verb.as_str()));
        }
        let frame = Frame {
            verb: *verb,
            headers: std::mem::take(headers),
            body: input.split_to(len).freeze(),
        };
        input.advance(1);
        self.progress = Progress::Between;
        Ok(Some(frame))
    }
}
