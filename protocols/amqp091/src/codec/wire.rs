//! The primitive types of the wire: integers, bits, short and long strings (AMQP 0-9-1, 4.2.5).
//!
//! Invariant: reading never copies. Strings are slices of the frame that they came in. Bits that follow one another share
//! an octet, lowest first (4.2.5.2), so a [`Fields`] and a [`Sink`] remember where in an octet they stand.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use message::Properties;
use nom::{
    Parser,
    multi::length_data,
    number::complete::{be_u8, be_u16, be_u32, be_u64},
};

use super::table;
use crate::error::DecodeError;

/// A short string: at most 255 bytes (4.2.5.3). The specification asks for UTF-8; nothing here relies on it.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Short(Bytes);

impl Short {
    /// The most bytes that one holds.
    pub const LEN_MAX: usize = 255;

    /// `None` when `text` is too long.
    #[must_use]
    pub fn new(text: Bytes) -> Option<Self> {
        (text.len() <= Self::LEN_MAX).then_some(Self(text))
    }

    /// The start of `text`, at most 255 bytes of it, cut between characters: for texts that people read.
    #[must_use]
    pub fn cut(mut text: String) -> Self {
        let mut end = text.len().min(Self::LEN_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Self(Bytes::from(text))
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl std::ops::Deref for Short {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&'static str> for Short {
    /// For names that the program itself knows: they are short.
    fn from(text: &'static str) -> Self {
        Self::new(Bytes::from_static(text.as_bytes())).expect("a name written here is short")
    }
}

impl std::fmt::Debug for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// A long string: octets with a 32-bit length (4.2.5.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Long(pub Bytes);

/// Reads the fields of one frame in their order.
#[derive(Debug)]
pub(crate) struct Fields {
    rest: Bytes,
    octet: u8,
    bits_left: u8,
}

impl Fields {
    pub(crate) const fn new(input: Bytes) -> Self {
        Self {
            rest: input,
            octet: 0,
            bits_left: 0,
        }
    }

    /// Runs one of nom's complete parsers and moves past what it took.
    fn parse<'a, T>(
        rest: &'a Bytes,
        mut parser: impl Parser<&'a [u8], Output = T, Error = ()>,
    ) -> Result<(usize, T), DecodeError> {
        match parser.parse(&rest[..]) {
            Ok((left, value)) => Ok((rest.len() - left.len(), value)),
            Err(_) => Err(DecodeError::Truncated),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.bits_left = 0;
        let (taken, value) = Self::parse(&self.rest, be_u8)?;
        self.rest.advance(taken);
        Ok(value)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.bits_left = 0;
        let (taken, value) = Self::parse(&self.rest, be_u16)?;
        self.rest.advance(taken);
        Ok(value)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.bits_left = 0;
        let (taken, value) = Self::parse(&self.rest, be_u32)?;
        self.rest.advance(taken);
        Ok(value)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.bits_left = 0;
        let (taken, value) = Self::parse(&self.rest, be_u64)?;
        self.rest.advance(taken);
        Ok(value)
    }

    pub(crate) fn bit(&mut self) -> Result<bool, DecodeError> {
        if self.bits_left == 0 {
            self.octet = self.u8()?;
            self.bits_left = 8;
        }
        self.bits_left -= 1;
        let bit = self.octet & 1 != 0;
        self.octet >>= 1;
        Ok(bit)
    }

    pub(crate) fn short(&mut self) -> Result<Short, DecodeError> {
        self.bits_left = 0;
        let (taken, text) = Self::parse(&self.rest, length_data(be_u8))?;
        let text = match text.len() {
            // Most exchanges are the one without a name.
            0 => Bytes::new(),
            len => self.rest.slice(1..=len),
        };
        self.rest.advance(taken);
        Ok(Short(text))
    }

    pub(crate) fn long(&mut self) -> Result<Bytes, DecodeError> {
        self.bits_left = 0;
        let (taken, text) = Self::parse(&self.rest, length_data(be_u32))?;
        let text = self.rest.slice_ref(text);
        self.rest.advance(taken);
        Ok(text)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    pub(crate) fn rest(self) -> Bytes {
        self.rest
    }
}

/// Writes the fields of one frame in their order.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    pub(crate) out: &'a mut BytesMut,
    /// How many bits of the last octet are used; 0: none is open.
    bits: u8,
}

impl<'a> Sink<'a> {
    pub(crate) const fn new(out: &'a mut BytesMut) -> Self {
        Self { out, bits: 0 }
    }

    fn bit(&mut self, bit: bool) {
        if self.bits == 0 || self.bits == 8 {
            self.out.put_u8(0);
            self.bits = 0;
        }
        let last = self.out.len() - 1;
        self.out[last] |= u8::from(bit) << self.bits;
        self.bits += 1;
    }
}

/// A type that a method's argument can have.
pub(crate) trait Field: Sized {
    fn read(fields: &mut Fields) -> Result<Self, DecodeError>;
    fn write(&self, sink: &mut Sink<'_>);
}

macro_rules! number {
    ($type:ident, $put:ident) => {
        impl Field for $type {
            fn read(fields: &mut Fields) -> Result<Self, DecodeError> {
                fields.$type()
            }
            fn write(&self, sink: &mut Sink<'_>) {
                sink.bits = 0;
                sink.out.$put(*self);
            }
        }
    };
}
number!(u8, put_u8);
number!(u16, put_u16);
number!(u32, put_u32);
number!(u64, put_u64);

impl Field for bool {
    fn read(fields: &mut Fields) -> Result<Self, DecodeError> {
        fields.bit()
    }
    fn write(&self, sink: &mut Sink<'_>) {
        sink.bit(*self);
    }
}

impl Field for Short {
    fn read(fields: &mut Fields) -> Result<Self, DecodeError> {
        fields.short()
    }
    fn write(&self, sink: &mut Sink<'_>) {
        sink.bits = 0;
        put_short(sink.out, &self.0);
    }
}

impl Field for Long {
    fn read(fields: &mut Fields) -> Result<Self, DecodeError> {
        fields.long().map(Self)
    }
    fn write(&self, sink: &mut Sink<'_>) {
        sink.bits = 0;
        put_long(sink.out, &self.0);
    }
}

impl Field for Properties {
    fn read(fields: &mut Fields) -> Result<Self, DecodeError> {
        table::read_table(fields)
    }
    fn write(&self, sink: &mut Sink<'_>) {
        sink.bits = 0;
        table::put_table(sink.out, self);
    }
}

/// Appends a short string; `text` fits, its caller has seen to that.
pub(crate) fn put_short(out: &mut BytesMut, text: &[u8]) {
    let len = u8::try_from(text.len()).expect("a short string has at most 255 bytes");
    out.put_u8(len);
    out.put_slice(text);
}

/// Appends a long string.
pub(crate) fn put_long(out: &mut BytesMut, text: &[u8]) {
    let len = u32::try_from(text.len()).expect("a message is smaller than 4 GiB");
    out.put_u32(len);
    out.put_slice(text);
}
