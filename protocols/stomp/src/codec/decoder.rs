//! Frames off the front of a read buffer.
//!
//! The decoder remembers how far it looked, so a slow sender never makes it look twice, and checks each limit before it
//! waits for more. A body is a slice of the read buffer. EOL is LF or CR LF in 1.2; in older versions a CR before LF
//! counts as part of the EOL when the frame's command line ends so, because no command does.

use bytes::{Buf, Bytes, BytesMut};

use super::{DecodeError, Escapes, Frame, Headers, Limits, Verb, Version};

/// The longest command, with a CR behind it.
const COMMAND_LEN_MAX: usize = "UNSUBSCRIBE\r".len();

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
    /// What the frame being read asks for, once its headers are known.
    receipt: Option<Bytes>,
}

impl Decoder {
    /// Before the version is agreed, it is that of the latest: CONNECT has no escapes and may have CR LF.
    #[must_use]
    pub const fn new(version: Version, limits: Limits) -> Self {
        Self {
            version,
            limits,
            progress: Progress::Between,
            receipt: None,
        }
    }

    /// The `receipt` of the frame that was being read when it turned out to be none.
    pub(crate) fn receipt(&self) -> Option<Bytes> {
        self.receipt.clone()
    }

    /// Changes version and limits, for the frames that follow.
    pub const fn set(&mut self, version: Version, limits: Limits) {
        self.version = version;
        self.limits = limits;
    }

    /// The next frame, or `None` when it is not all there.
    /// [STOMP-frame-14].
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
                    self.receipt = headers.first("receipt").cloned();
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
    /// [STOMP-frame-1], [STOMP-frame-2], [STOMP-frame-13].
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

    /// [STOMP-frame-9].
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

    /// [STOMP-frame-15].
    const fn body_too_large(&self) -> DecodeError {
        DecodeError::TooLarge {
            what: "a body",
            limit: self.limits.body_len_max,
        }
    }

    /// Finds the end of the body and takes it off.
    /// [STOMP-frame-8].
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
        self.receipt = None;
        Ok(Some(frame))
    }
}
