//! Buffers that start at a multiple of 4 KiB in memory, as `O_DIRECT` asks, without unsafe code: a larger vector, sliced.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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

    /// Bytes in memory that is there and suffices, with whatever is in it: to be read into.
    fn reused(all: Vec<u8>, len: usize) -> Self {
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

/// Memory that one reader uses again and again: a page from the system is cleared first, which costs more than reading it.
#[derive(Clone, Default)]
pub(crate) struct Reused {
    free: Arc<Free>,
}

/// Pieces that nobody refers to.
type Free = Mutex<Vec<Vec<u8>>>;

/// Bytes of pieces that are kept, the largest that there were: of what was read lately parts may still be referred to, and a standby holds
/// some MiB until they are proven durable.
const FREE_BYTES_MAX: usize = 16 << 20;
/// And pieces: the fitting one is looked for among all.
const FREE_MAX: usize = 64;
/// How many times what is wanted a piece may have: who keeps what was read keeps all of it.
const SLACK: usize = 16;

impl Reused {
    /// What `read` fills from the start, which says how much that is; and the bytes of its memory, which comes back here once nobody
    /// refers to it.
    pub(crate) fn fill<E>(
        &self,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(Bytes, usize), E> {
        let capacity = Aligned::capacity(len);
        let free = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = free.iter().enumerate();
            let fits = fits.filter(|(_, memory)| {
                (capacity..=capacity.saturating_mul(SLACK)).contains(&memory.len())
            });
            let least = fits.min_by_key(|(_, memory)| memory.len());
            let at = least.map(|(at, _)| at);
            at.map(|at| free.swap_remove(at))
        };
        // One that is a little longer than the last one is to fit the next time.
        let fresh = || vec![0; Aligned::capacity(len.next_power_of_two())];
        let mut lent = Lent {
            memory: Aligned::reused(free.unwrap_or_else(fresh), len),
            free: Arc::downgrade(&self.free),
        };
        let n = read(&mut lent.memory)?;
        let taken = lent.memory.memory();
        Ok((Bytes::from_owner(lent).slice(..n), taken))
    }
}

struct Lent {
    memory: Aligned,
    free: Weak<Free>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(free) = self.free.upgrade() else {
            return;
        };
        let memory = std::mem::take(&mut self.memory.all);
        let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(memory);
        let mut over = Vec::new();
        while free.len() > FREE_MAX || free.iter().map(Vec::len).sum::<usize>() > FREE_BYTES_MAX {
            let least = free.iter().enumerate();
            let least = least.min_by_key(|(_, memory)| memory.len());
            let at = least.map_or(0, |(at, _)| at);
            over.push(free.swap_remove(at));
        }
        // They are given back outside the lock.
        drop(free);
        drop(over);
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn read(reused: &Reused, len: usize, byte: u8) -> Bytes {
        let read = reused.fill(len, |buffer| {
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().align_offset(BLOCK), 0);
            buffer[..100].fill(byte);
            Ok::<_, Infallible>(100)
        });
        let (bytes, memory) = read.expect("it cannot fail");
        assert!(memory >= len + BLOCK);
        bytes
    }

    #[test]
    fn memory_that_nobody_refers_to_is_used_again() {
        let reused = Reused::default();
        let first = read(&reused, 64 << 10, 1);
        let at = first.as_ptr();
        let part = first.slice(40..44);
        drop(first);
        let second = read(&reused, 64 << 10, 2);
        assert_ne!(second.as_ptr(), at, "a part of it is held");
        assert_eq!(part[..], [1; 4]);
        drop(part);
        let third = read(&reused, 4096, 3);
        assert_eq!((third.as_ptr(), third.len()), (at, 100));
        drop((third, second));
        let larger = read(&reused, 128 << 10, 4);
        assert_eq!(larger[..], [4; 100]);
        drop(reused);
        assert_eq!(larger[99], 4, "whoever refers to it keeps it");
    }

    #[test]
    fn as_much_as_a_standby_holds_back_needs_no_fresh_memory_and_more_is_not_kept() {
        let reused = Reused::default();
        let mut fresh = 0;
        for round in 0..10 {
            let held: Vec<Bytes> = (0..5).map(|_| read(&reused, 1 << 20, 1)).collect();
            let all: std::collections::BTreeSet<_> =
                held.iter().map(|bytes| bytes.as_ptr()).collect();
            assert_eq!(all.len(), 5, "each has its own");
            drop(held);
            let free = reused.free.lock().expect("one thread");
            fresh += usize::from(round > 0 && free.len() != 5);
        }
        assert_eq!(fresh, 0);
        drop(
            (0..20)
                .map(|_| read(&reused, 1 << 20, 1))
                .collect::<Vec<_>>(),
        );
        let free = reused.free.lock().expect("one thread");
        assert!(free.iter().map(Vec::len).sum::<usize>() <= FREE_BYTES_MAX);
    }

    #[test]
    fn reads_of_changing_lengths_need_no_fresh_memory() {
        let reused = Reused::default();
        let mut fresh = 0;
        let mut held = Bytes::new();
        for round in 0..100 {
            // Longer and shorter ones in no order, of each of which a part is held until the next one was read.
            let len = (40 + 97 * round % 360) * 1024;
            let all = reused.fill(len, |buffer| {
                fresh += usize::from(buffer[0] == 0);
                buffer[0] = 1;
                Ok::<_, Infallible>(len)
            });
            held = all.expect("it cannot fail").0.slice(len - 4..);
        }
        assert_eq!(held.len(), 4);
        assert!(fresh <= 6, "{fresh} of 100");
    }
}
