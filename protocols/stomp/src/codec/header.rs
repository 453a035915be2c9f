//! Headers and their escapes (STOMP 1.2, "Value Encoding"; STOMP 1.1, the same without `\r`; STOMP 1.0 has none).
//!
//! CONNECT and CONNECTED frames are never escaped. NUL has no escape in any version, so no header may hold one.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use nom::{
    IResult, Parser,
    bytes::complete::{tag, take_while1},
    combinator::rest,
    sequence::separated_pair,
};

use super::{DecodeError, Verb, Version};

/// Which escapes apply to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// None: 1.0, CONNECT, CONNECTED.
    None,
    /// `\n`, `\c`, `\\`.
    V1_1,
    /// `\n`, `\c`, `\\`, `\r`.
    V1_2,
}

impl Escapes {
    /// [STOMP-frame-5].
    pub(crate) const fn of(version: Version, verb: Verb) -> Self {
        match (verb, version) {
            (Verb::Connect | Verb::Connected, _) | (_, Version::V1_0) => Self::None,
            (_, Version::V1_1) => Self::V1_1,
            (_, Version::V1_2) => Self::V1_2,
        }
    }

    /// Undoes the escapes. Shares `text` when there is none.
    /// [STOMP-frame-3], [STOMP-frame-4].
    pub(crate) fn undo(self, text: Bytes) -> Result<Bytes, DecodeError> {
        if self == Self::None || !text.contains(&b'\\') {
            return Ok(text);
        }
        let mut out = BytesMut::with_capacity(text.len());
        let mut bytes = text.iter();
        while let Some(byte) = bytes.next() {
            if *byte != b'\\' {
                out.put_u8(*byte);
                continue;
            }
            // STOMP 1.2, "Value Encoding": undefined escape sequences are fatal.
            out.put_u8(match (bytes.next(), self) {
                (Some(b'n'), _) => b'\n',
                (Some(b'c'), _) => b':',
                (Some(b'\\'), _) => b'\\',
                (Some(b'r'), Self::V1_2) => b'\r',
                (other, _) => return Err(DecodeError::UndefinedEscape(other.copied())),
            });
        }
        Ok(out.freeze())
    }

    /// Appends `text` escaped. `false`, with nothing appended, when these escapes cannot show it.
    fn put(self, text: &[u8], is_name: bool, out: &mut BytesMut) -> bool {
        let special = |byte: &u8| matches!(byte, b'\n' | b'\r' | b':' | b'\\' | 0);
        if !text.iter().any(special) {
            out.put_slice(text);
            return true;
        }
        let before = out.len();
        for byte in text {
            match (byte, self) {
                (b'\n', Self::V1_1 | Self::V1_2) => out.put_slice(b"\\n"),
                (b':', Self::V1_1 | Self::V1_2) => out.put_slice(b"\\c"),
                (b'\\', Self::V1_1 | Self::V1_2) => out.put_slice(b"\\\\"),
                (b'\r', Self::V1_2) => out.put_slice(b"\\r"),
                // A colon in a value is read as a part of the value: the first one ends the name.
                (b':', Self::None) if !is_name => out.put_u8(b':'),
                (b'\n' | b'\r' | b':' | 0, _) => {
                    out.truncate(before);
                    return false;
                }
                (other, _) => out.put_u8(*other),
            }
        }
        true
    }

    /// Whether a byte of a value can be written in no way.
    fn hides(self, byte: u8) -> bool {
        match byte {
            0 => true,
            b'\n' => self == Self::None,
            b'\r' => self != Self::V1_2,
            _ => false,
        }
    }

    /// Whether a value can be written.
    pub(crate) fn can_show(self, value: &[u8]) -> bool {
        std::str::from_utf8(value).is_ok() && !value.iter().any(|byte| self.hides(*byte))
    }

    /// Text for a header that must be written: what cannot be shown becomes a space.
    pub(super) fn showable(self, text: &[u8]) -> Cow<'_, [u8]> {
        if !text.iter().any(|byte| self.hides(*byte)) {
            return Cow::Borrowed(text);
        }
        let shown = |byte: &u8| if self.hides(*byte) { b' ' } else { *byte };
        text.iter().map(shown).collect()
    }

    /// Appends a header line. `false`, with nothing appended, when it cannot be written: an empty name, bytes that are
    /// not UTF-8, NUL, or characters that these escapes cannot show.
    pub(crate) fn put_line(self, name: &[u8], value: &[u8], out: &mut BytesMut) -> bool {
        let before = out.len();
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if !name.is_empty() && text(name) && text(value) && self.put(name, true, out) {
            out.put_u8(b':');
            if self.put(value, false, out) {
                out.put_u8(b'\n');
                return true;
            }
        }
        out.truncate(before);
        false
    }
}

fn line(input: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
    separated_pair(take_while1(|byte| byte != b':'), tag(":"), rest).parse(input)
}

/// Headers in their order. Of repeated ones the first counts (STOMP 1.2, "Repeated Header Entries").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(Bytes, Bytes)>);

impl Headers {
    /// The value of the first header of that name.
    /// [STOMP-frame-12].
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&Bytes> {
        self.0
            .iter()
            .find(|(n, _)| n == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// The same as text. Decoded headers are always UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.first(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether that header is `true`.
    #[must_use]
    pub fn is_true(&self, name: &str) -> bool {
        self.first(name).is_some_and(|value| value == "true")
    }

    /// Takes the padding off names and values, as 1.0 clients are used to: its examples show headers with it (STOMP 1.2,
    /// "Value Encoding", forbids it from then on).
    /// [STOMP-frame-6], [STOMP-frame-7].
    pub(crate) fn trim(&mut self) {
        for (name, value) in &mut self.0 {
            for text in [name, value] {
                let trimmed = text.trim_ascii();
                if trimmed.len() < text.len() {
                    *text = text.slice_ref(trimmed);
                }
            }
        }
    }

    /// Reads header lines: everything between the command line and the empty line.
    pub(super) fn decode(
        lines: &Bytes,
        escapes: Escapes,
        strip_cr: bool,
    ) -> Result<Self, DecodeError> {
        if std::str::from_utf8(lines).is_err() {
            return Err(DecodeError::NotUtf8);
        }
        let mut headers = Vec::new();
        for text in lines.split(|byte| *byte == b'\n') {
            let text = match text.strip_suffix(b"\r") {
                Some(stripped) if strip_cr => stripped,
                _ => text,
            };
            if text.is_empty() {
                continue;
            }
            // STOMP 1.2, "Augmented BNF": CR is no part of a header.
            if strip_cr && text.contains(&b'\r') {
                return Err(DecodeError::HeaderLine);
            }
            let Ok((_, (name, value))) = line(text) else {
                return Err(DecodeError::HeaderLine);
            };
            headers.push((
                escapes.undo(lines.slice_ref(name))?,
                escapes.undo(lines.slice_ref(value))?,
            ));
        }
        Ok(Self(headers))
    }
}

/// Header lines in the escapes of 1.2, copied as they are or written anew in another version's escapes; returns how many
/// had to be left out. The native head of a message is made of them.
pub(crate) fn put_lines_of_1_2(lines: &Bytes, version: Version, out: &mut BytesMut) -> u64 {
    if version == Version::V1_2 || !lines.contains(&b'\\') {
        out.put_slice(lines);
        return 0;
    }
    let Ok(headers) = Headers::decode(lines, Escapes::V1_2, false) else {
        return 1;
    };
    let escapes = Escapes::of(version, Verb::Message);
    let omitted = headers
        .0
        .iter()
        .filter(|(name, value)| !escapes.put_line(name, value, out));
    omitted.count() as u64
}
