//! The data types of MQTT (MQTT 5, 1.5), read by nom's complete parsers from exactly one packet, without copying.

use bytes::{BufMut, Bytes};
use nom::{
    Parser,
    multi::length_data,
    number::complete::{be_u8, be_u16, be_u32},
};

use crate::DecodeError;

/// A UTF-8 Encoded String (1.5.4): valid UTF-8, without U+0000. Shares the read buffer.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    /// Checks `bytes`.
    pub fn new(bytes: Bytes) -> Result<Self, DecodeError> {
        // [MQTT-1.5.4-1] (surrogates cannot be UTF-8 to Rust either), [MQTT-1.5.4-2], and so [MQTT-4.7.3-2], [MQTT-4.7.3-3].
        // A byte order mark stays what it is [MQTT-1.5.4-3].
        if std::str::from_utf8(&bytes).is_err() || bytes.contains(&0) || bytes.len() > 65_535 {
            return Err(DecodeError::Text);
        }
        Ok(Self(bytes))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made")
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A copy that pins no read buffer.
    pub(crate) fn copied(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Whether there is no character.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::new(Bytes::from_static(text.as_bytes())).expect("our own texts hold no U+0000")
    }
}

impl TryFrom<String> for Text {
    type Error = DecodeError;

    fn try_from(text: String) -> Result<Self, DecodeError> {
        Self::new(Bytes::from(text))
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Reads one packet. `rest` always points into `packet`, so a field can share it.
pub(super) struct Reader<'a> {
    packet: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `packet` from `at`.
    pub(super) fn new(packet: &'a Bytes, at: usize) -> Self {
        Self {
            packet,
            rest: &packet[at..],
        }
    }

    fn run<T>(
        &mut self,
        mut parser: impl Parser<&'a [u8], Output = T, Error = ()>,
    ) -> Result<T, DecodeError> {
        let (rest, value) = parser
            .parse(self.rest)
            .map_err(|_: nom::Err<()>| DecodeError::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub(super) const fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.run(be_u8)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.run(be_u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.run(be_u32)
    }

    /// Binary Data (1.5.6).
    pub(super) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let bytes = self.borrowed()?;
        Ok(self.packet.slice_ref(bytes))
    }

    /// The same, where it lies.
    pub(super) fn borrowed(&mut self) -> Result<&'a [u8], DecodeError> {
        self.run(length_data(be_u16))
    }

    /// UTF-8 Encoded String (1.5.4).
    pub(super) fn text(&mut self) -> Result<Text, DecodeError> {
        Text::new(self.binary()?)
    }

    /// A packet identifier: never 0.
    pub(super) fn packet_id(&mut self) -> Result<u16, DecodeError> {
        match self.u16()? {
            // [MQTT-2.2.1-3], [MQTT3-2.3.1-1]
            0 => Err(DecodeError::PacketId),
            id => Ok(id),
        }
    }

    /// Variable Byte Integer (1.5.5).
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        match decode_varint(self.rest) {
            Varint::Whole { value, len } => {
                self.rest = &self.rest[len..];
                Ok(value)
            }
            Varint::Partial => Err(DecodeError::Truncated),
            Varint::Overlong => Err(DecodeError::VarInt),
        }
    }

    /// The next `len` bytes, to be read on their own.
    pub(super) fn part(&mut self, len: usize) -> Result<Self, DecodeError> {
        let part = self.run(nom::bytes::complete::take(len))?;
        Ok(Reader {
            packet: self.packet,
            rest: part,
        })
    }

    /// All that is left.
    pub(super) fn remainder(&mut self) -> Bytes {
        let rest = self.packet.slice_ref(self.rest);
        self.rest = &[];
        rest
    }

    /// Checks that nothing is left.
    pub(super) const fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

/// What stands at the front of a byte string that should be a Variable Byte Integer.
pub(super) enum Varint {
    /// It.
    Whole {
        /// Its value.
        value: u32,
        /// How many bytes it takes.
        len: usize,
    },
    /// Its beginning.
    Partial,
    /// A fourth byte that says that a fifth follows.
    Overlong,
}

pub(super) fn decode_varint(input: &[u8]) -> Varint {
    // Most are short.
    if let Some(&byte) = input.first()
        && byte & 0x80 == 0
    {
        let value = u32::from(byte);
        return Varint::Whole { value, len: 1 };
    }
    let mut value = 0;
    for (at, byte) in input.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Varint::Whole { value, len: at + 1 };
        }
    }
    if input.len() < 4 {
        Varint::Partial
    } else {
        Varint::Overlong
    }
}

/// The largest Variable Byte Integer.
pub const VARINT_MAX: u32 = 268_435_455;

/// How many bytes a Variable Byte Integer takes.
pub(crate) const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// Appends a Variable Byte Integer, in as few bytes as there can be [MQTT-1.5.5-1].
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: usize) {
    debug_assert!(
        value <= VARINT_MAX as usize,
        "packets are limited to what a Remaining Length can say"
    );
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends a length of two bytes and the bytes; longer ones are cut by no one: types and limits keep them shorter.
pub(crate) fn put_binary(out: &mut impl BufMut, bytes: &[u8]) {
    debug_assert!(bytes.len() <= 65_535, "the longest field has 65,535 bytes");
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}
