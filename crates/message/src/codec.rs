//! The primitive readers and writers of everything the project itself stores: integers are LEB128, byte strings carry
//! their length. Records of the core and the message head are made of these, so there is one place that can be wrong.

use bytes::Bytes;

/// Stored bytes that cannot be what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("input ends inside a value")]
    Truncated,
    /// An integer is longer than 64 bits.
    #[error("integer is longer than 64 bits")]
    Overlong,
    /// An unknown type, tag or version.
    #[error("unknown {what} {tag}")]
    Unknown {
        /// What was being read.
        what: &'static str,
        /// The number found.
        tag: u64,
    },
    /// A value out of the bounds of its field.
    #[error("{0} is out of bounds")]
    Bounds(&'static str),
}

/// Appends an unsigned integer, 7 bits a byte, lowest first.
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer (zigzag).
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_` functions wrote, without copying byte strings.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads from the start of `input`.
    #[must_use]
    pub const fn new(input: Bytes) -> Self {
        Self { rest: input }
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.rest
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.rest.first().ok_or(DecodeError::Truncated)?;
        bytes::Buf::advance(&mut self.rest, 1);
        Ok(byte)
    }

    /// An unsigned integer.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        match self.rest.first() {
            // Most are small.
            Some(&byte) if byte < 0x80 => {
                bytes::Buf::advance(&mut self.rest, 1);
                Ok(u64::from(byte))
            }
            _ => self.long(),
        }
    }

    fn long(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().enumerate() {
            let shift = 7 * at as u32;
            let part = u64::from(byte & 0x7f);
            if shift > 63 || (shift == 63 && part > 1) {
                return Err(DecodeError::Overlong);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                bytes::Buf::advance(&mut self.rest, at + 1);
                return Ok(value);
            }
        }
        Err(DecodeError::Truncated)
    }

    /// An unsigned integer that must fit in 32 bits.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.u64()?).map_err(|_| DecodeError::Bounds("a 32-bit integer"))
    }

    /// A signed integer.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        let value = self.u64()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A byte string, sharing the input.
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = usize::try_from(self.u64()?).map_err(|_| DecodeError::Truncated)?;
        self.take(len)
    }

    /// The next `len` bytes, sharing the input.
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.rest.split_to(len))
    }
}
