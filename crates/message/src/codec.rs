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

/// Reads what the `put_` functions wrote, without copying byte strings. Only who takes a byte string to keep shares the input: that
/// is counted, and a record has many fields.
#[derive(Clone, Debug)]
pub struct Reader {
    all: Bytes,
    at: usize,
    /// Where what is to be read ends.
    end: usize,
}

impl Reader {
    /// Reads from the start of `input`.
    #[must_use]
    pub fn new(input: Bytes) -> Self {
        Self {
            at: 0,
            end: input.len(),
            all: input,
        }
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// How many bytes have not been read.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end - self.at
    }

    /// What has not been read, sharing the input.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.all.slice(self.at..self.end)
    }

    /// What has not been read.
    #[inline]
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.all[self.at..self.end]
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.unread().first().ok_or(DecodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// An unsigned integer.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        match self.unread().first() {
            // Most are small.
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long(),
        }
    }

    fn long(&mut self) -> Result<u64, DecodeError> {
        let mut rest = self.unread();
        let value = take_u64(&mut rest)?;
        self.at = self.end - rest.len();
        Ok(value)
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
        let len = self.slice()?.len();
        Ok(self.all.slice(self.at - len..self.at))
    }

    /// A byte string.
    #[inline]
    pub fn slice(&mut self) -> Result<&[u8], DecodeError> {
        let len = self.u64()?;
        self.take(usize::try_from(len).map_err(|_| DecodeError::Truncated)?)
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&[u8], DecodeError> {
        if len > self.len() {
            return Err(DecodeError::Truncated);
        }
        self.at += len;
        Ok(&self.all[self.at - len..self.at])
    }

    /// A byte string that `read` reads, as far as it likes: this reader goes on behind it.
    #[inline]
    pub fn part<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let len = usize::try_from(self.u64()?).map_err(|_| DecodeError::Truncated)?;
        if len > self.len() {
            return Err(DecodeError::Truncated);
        }
        let outer = std::mem::replace(&mut self.end, self.at + len);
        let value = read(self);
        self.at = std::mem::replace(&mut self.end, outer);
        value
    }
}

/// Takes what [`put_u64`] wrote from the front of bytes.
pub fn take_u64(from: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for (at, byte) in from.iter().enumerate() {
        let shift = 7 * at as u32;
        let part = u64::from(byte & 0x7f);
        if shift > 63 || (shift == 63 && part > 1) {
            return Err(DecodeError::Overlong);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            *from = &from[at + 1..];
            return Ok(value);
        }
    }
    Err(DecodeError::Truncated)
}

/// The same of what [`put_bytes`] wrote.
pub fn take_bytes<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let len = take_u64(from)?;
    let len = usize::try_from(len).map_err(|_| DecodeError::Truncated)?;
    let (bytes, rest) = from.split_at_checked(len).ok_or(DecodeError::Truncated)?;
    *from = rest;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_its_length_says_however_much_of_it_is_read() {
        let mut bytes = Vec::new();
        put_bytes(&mut bytes, &[1, 2, 3]);
        put_bytes(&mut bytes, &[2, 7, 8, 9]);
        bytes.push(5);
        let mut reader = Reader::new(bytes.into());
        assert_eq!(reader.part(|part| part.u8()), Ok(1));
        let inner = reader.part(|part| {
            let inner = part.part(|inner| {
                assert_eq!((inner.len(), inner.u8()), (2, Ok(7)));
                assert_eq!(inner.take(2), Err(DecodeError::Truncated));
                Ok(inner.rest())
            })?;
            assert_eq!(part.unread(), [9]);
            assert_eq!(part.part(|_| Ok(())), Err(DecodeError::Truncated));
            Ok(inner)
        });
        assert_eq!(inner, Ok(Bytes::from_static(&[8])));
        assert_eq!((reader.u8(), reader.is_empty()), (Ok(5), true));
        assert_eq!(reader.u64(), Err(DecodeError::Truncated));
    }
}
