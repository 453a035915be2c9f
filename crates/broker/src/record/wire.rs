//! The trait that every stored value implements, and the macro for structures of numbered fields.

use std::sync::Arc;

use bytes::Bytes;
use message::{
    Address, DecodeError, Filter, Levels, Reader, StoredId, Timestamp, VhostId,
    codec::{put_bytes, put_i64, put_u64},
    put_address, put_filter, put_levels, read_address, read_filter, read_levels,
};
use session::QueueId;
use smallvec::SmallVec;

/// A value that can be stored and read back.
pub(crate) trait Wire: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads what `put` wrote.
    fn read(reader: &mut Reader) -> Result<Self, DecodeError>;
}

/// Appends one field: its number, the length of what `put` appends, and that.
pub(crate) fn put_field(out: &mut Vec<u8>, number: u64, put: impl FnOnce(&mut Vec<u8>)) {
    put_u64(out, number);
    let at = out.len();
    out.push(0);
    put(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        put_u64(&mut prefix, len as u64);
        out.splice(at..=at, prefix);
    }
}

/// The same for a number, which is what most fields of a message's record are. Field numbers are small.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u8, mut value: u64) {
    debug_assert!(number < 0x80, "one byte");
    let mut bytes = [0; 2 + 10];
    let mut end = 2;
    while value >= 0x80 {
        bytes[end] = value as u8 | 0x80;
        value >>= 7;
        end += 1;
    }
    bytes[end] = value as u8;
    bytes[..2].copy_from_slice(&[number, end as u8 - 1]);
    out.extend_from_slice(&bytes[..=end]);
}

/// Implements [`Wire`] for a structure with a default: `wire_fields!(Type { 1 => first, 2 => second })`.
macro_rules! wire_fields {
    ($name:ty { $($number:literal => $field:ident),* $(,)? }) => {
        impl $crate::record::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let unset = Self::default();
                $(if self.$field != unset.$field {
                    $crate::record::wire::put_field(out, $number, |out| {
                        $crate::record::wire::Wire::put(&self.$field, out);
                    });
                })*
                out.push(0);
            }
            fn read(reader: &mut message::Reader) -> Result<Self, message::DecodeError> {
                let mut value = Self::default();
                loop {
                    let number = reader.u64()?;
                    if number == 0 {
                        return Ok(value);
                    }
                    reader.part(|part| {
                        match number {
                            $($number => value.$field = $crate::record::wire::Wire::read(part)?,)*
                            _ => {}
                        }
                        Ok(())
                    })?;
                }
            }
        }
    };
}
pub(crate) use wire_fields;

macro_rules! wire_integers {
    ($($name:ty),*) => {$(
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                put_u64(out, u64::from(*self));
            }
            fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
                Self::try_from(reader.u64()?).map_err(|_| DecodeError::Bounds(stringify!($name)))
            }
        }
    )*};
}
wire_integers!(u8, u16, u32, u64);

macro_rules! wire_ids {
    ($($name:ident),*) => {$(
        impl $crate::record::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn read(reader: &mut message::Reader) -> Result<Self, message::DecodeError> {
                $crate::record::wire::Wire::read(reader).map(Self)
            }
        }
    )*};
}
pub(crate) use wire_ids;
wire_ids!(QueueId, StoredId, VhostId, Timestamp);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(reader.u8()? != 0)
    }
}

impl Wire for i32 {
    fn put(&self, out: &mut Vec<u8>) {
        put_i64(out, i64::from(*self));
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Self::try_from(reader.i64()?).map_err(|_| DecodeError::Bounds("i32"))
    }
}

impl Wire for [u8; 16] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self::try_from(reader.take(16)?).expect("16 were taken"))
    }
}

impl Wire for session::Secret {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let bytes = reader.take(32)?;
        Ok(Self(<[u8; 32]>::try_from(bytes).expect("32 were taken")))
    }
}

impl Wire for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self);
    }
    /// Copied: what is read from a record outlives the batch that it lay in.
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.slice().map(Self::copy_from_slice)
    }
}

impl Wire for Arc<str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        std::str::from_utf8(reader.slice()?)
            .map(Self::from)
            .map_err(|_| DecodeError::Bounds("a text"))
    }
}

impl Wire for Levels {
    fn put(&self, out: &mut Vec<u8>) {
        put_levels(out, self);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        read_levels(reader)
    }
}

impl Wire for Filter {
    fn put(&self, out: &mut Vec<u8>) {
        put_filter(out, self);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        read_filter(reader)
    }
}

impl Wire for Address {
    fn put(&self, out: &mut Vec<u8>) {
        put_address(out, self);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut address = read_address(reader)?;
        address.name = Bytes::copy_from_slice(&address.name);
        Ok(address)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.put(out);
            }
        }
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(None),
            _ => T::read(reader).map(Some),
        }
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        T::read(reader).map(Self::new)
    }
}

macro_rules! wire_shared {
    ($($name:ty),*) => {$(
        impl Wire for Arc<$name> {
            fn put(&self, out: &mut Vec<u8>) {
                (**self).put(out);
            }
            fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
                Wire::read(reader).map(Self::new)
            }
        }
    )*};
}
wire_shared!(Address, Vec<session::Death>, session::QueueOptions);

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.len() as u64);
        for value in self {
            value.put(out);
        }
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = reader.u64()?;
        let mut values = Self::new();
        for _ in 0..count {
            values.push(T::read(reader)?);
        }
        Ok(values)
    }
}

impl<A: smallvec::Array> Wire for SmallVec<A>
where
    A::Item: Wire,
{
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.len() as u64);
        for value in self {
            value.put(out);
        }
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = reader.u64()?;
        let mut values = Self::new();
        for _ in 0..count {
            values.push(A::Item::read(reader)?);
        }
        Ok(values)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok((A::read(reader)?, B::read(reader)?))
    }
}

/// Writes runs of numbers as ranges: `(first, last)` pairs, each relative to the one before.
pub(crate) fn put_ranges(out: &mut Vec<u8>, ranges: &[(u64, u64)]) {
    put_u64(out, ranges.len() as u64);
    let mut at = 0;
    for (first, last) in ranges {
        put_i64(out, first.wrapping_sub(at) as i64);
        put_u64(out, last - first);
        at = *last;
    }
}

/// Reads what [`put_ranges`] wrote.
pub(crate) fn read_ranges(reader: &mut Reader) -> Result<Vec<(u64, u64)>, DecodeError> {
    let count = reader.u64()?;
    let mut ranges = Vec::new();
    let mut at = 0u64;
    for _ in 0..count {
        let first = at.wrapping_add(reader.i64()? as u64);
        let last = first
            .checked_add(reader.u64()?)
            .ok_or(DecodeError::Bounds("a range"))?;
        ranges.push((first, last));
        at = last;
    }
    Ok(ranges)
}
