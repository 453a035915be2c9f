//! Where outputs are written: a buffer, or pieces of a bounded length.
//!
//! An answer may have many MiB. In one buffer it would be memory that the system hands out and takes back each time, and clears
//! in between, which costs more than to write it.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use message::base64;

/// The longest piece, in bytes: no longer than what the allocator keeps at hand.
const PIECE_LEN_MAX: usize = 128 << 10;
/// The shortest piece behind the first one, in bytes.
const PIECE_LEN_MIN: usize = 4 << 10;

/// Takes bytes, one behind the other.
pub trait Sink {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Appends the base64 of bytes.
    fn put_base64(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_base64(&mut self, bytes: &[u8]) {
        base64::encode_into(bytes, self);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Pieces {
    done: Vec<Bytes>,
    last: Vec<u8>,
    /// How many bytes are still to come, about.
    behind: usize,
    /// The CRC-32 of those that are done, if it is wanted. Taken piece by piece: what was only just written is at hand.
    check: Option<Digest>,
}

impl Pieces {
    /// For about so many bytes.
    #[must_use]
    pub fn with_hint(len: usize) -> Self {
        let first = len.min(PIECE_LEN_MAX);
        Self {
            done: Vec::new(),
            last: Vec::with_capacity(first),
            behind: len - first,
            check: None,
        }
    }

    /// The same, if it `is_checked` with a CRC-32 of all of it.
    #[must_use]
    pub fn checked(mut self, is_checked: bool) -> Self {
        self.check = is_checked.then(|| Digest::new(CrcAlgorithm::Crc32IsoHdlc));
        self
    }

    fn room(&self) -> usize {
        self.last.capacity() - self.last.len()
    }

    /// Appends what there is no room for in this piece.
    #[cold]
    fn put_split(&mut self, mut bytes: &[u8]) {
        while bytes.len() > self.room() {
            let (fits, more) = bytes.split_at(self.room());
            self.last.extend_from_slice(fits);
            bytes = more;
            self.turn();
        }
        self.last.extend_from_slice(bytes);
    }

    /// Begins another piece.
    fn turn(&mut self) {
        let len = self.behind.clamp(PIECE_LEN_MIN, PIECE_LEN_MAX);
        self.behind = self.behind.saturating_sub(len);
        let full = std::mem::replace(&mut self.last, Vec::with_capacity(len));
        if !full.is_empty() {
            if let Some(check) = &mut self.check {
                check.update(&full);
            }
            self.done.push(full.into());
        }
    }

    /// The last piece, which alone may be empty, those before it, and the CRC-32 of all.
    #[must_use]
    pub fn take(self) -> (Vec<Bytes>, Bytes, Option<u32>) {
        let check = self.check.map(|mut check| {
            check.update(&self.last);
            check.finalize() as u32
        });
        (self.done, self.last.into(), check)
    }
}

impl Sink for Pieces {
    // Most of what is put are a few bytes that are known beforehand: within its caller that is one store.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            return self.put_split(bytes);
        }
        self.last.extend_from_slice(bytes);
    }

    fn put_base64(&mut self, mut bytes: &[u8]) {
        while bytes.len().div_ceil(3) * 4 > self.room() {
            // Three bytes are four characters.
            let (fits, more) = bytes.split_at(self.room() / 4 * 3);
            base64::encode_into(fits, &mut self.last);
            bytes = more;
            self.turn();
        }
        base64::encode_into(bytes, &mut self.last);
    }
}

#[cfg(test)]
mod tests {
    use crc_fast::crc32_iso_hdlc;

    use super::*;

    #[test]
    fn pieces_are_what_one_buffer_would_be() {
        let blob: Vec<u8> = (0..700_001_u32).map(|at| at as u8).collect();
        for hint in [0, 1, 5000, PIECE_LEN_MAX, 2_000_000] {
            let mut whole = Vec::new();
            let mut pieces = Pieces::with_hint(hint).checked(true);
            for len in [0, 1, 2, 3, 1000, 5001, 300_000, 700_001] {
                whole.put(&blob[..len]);
                pieces.put(&blob[..len]);
                whole.put_base64(&blob[..len]);
                pieces.put_base64(&blob[..len]);
            }
            let (mut pieces, last, check) = pieces.take();
            pieces.push(last);
            assert_eq!(check, Some(crc32_iso_hdlc(&whole)), "{hint}");
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE_LEN_MAX));
            assert!(pieces.concat() == whole, "{hint}");
        }
        let nothing = (Vec::new(), Bytes::new(), None);
        assert_eq!(Pieces::with_hint(0).take(), nothing);
    }
}
