//! Buffers that start at a multiple of 4 KiB in memory, as `O_DIRECT` asks, without unsafe code: a larger vector, sliced.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use crate::batch::BLOCK;

/// Zeroed bytes whose first one lies at a multiple of 4 KiB.
pub(crate) struct Aligned {
    all: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn zeroed(len: usize) -> Self {
        let all = vec![0; len + BLOCK];
        let start = all.as_ptr().align_offset(BLOCK);
        assert!(start <= BLOCK, "a byte pointer can always be aligned");
        Self { all, start, len }
    }

    /// The capacity of the memory of `len` bytes.
    pub(crate) const fn capacity(len: usize) -> usize {
        len + BLOCK
    }

    /// What `fill` appends, and zeros behind it up to `len`: only they are written twice. `all` is memory that may be used.
    pub(crate) fn filled(mut all: Vec<u8>, len: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        all.clear();
        all.reserve(Self::capacity(len));
        let start = all.as_ptr().align_offset(BLOCK);
        assert!(start <= BLOCK, "a byte pointer can always be aligned");
        all.resize(start, 0);
        let place = all.as_ptr();
        fill(&mut all);
        assert!(all.len() <= start + len, "the length was counted before");
        all.resize(start + len, 0);
        assert_eq!(all.as_ptr(), place, "what fits the capacity is not moved");
        Self { all, start, len }
    }

    /// The bytes that its memory takes.
    pub(crate) const fn memory(&self) -> usize {
        self.all.capacity()
    }

    /// Its memory, with whatever is in it.
    pub(crate) fn into_memory(self) -> Vec<u8> {
        self.all
    }

    /// The same bytes, shared; nothing is copied.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from(self.all).slice(self.start..self.start + self.len)
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.all[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.all[self.start..self.start + self.len]
    }
}
