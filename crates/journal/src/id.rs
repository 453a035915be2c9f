//! What a [`StoredId`] is made of: 46 bits of batch sequence and 18 bits of offset in units of 8 bytes (RULES 20).
//!
//! An id names the place where a record was *first* written, for ever: 2^46 batches at ten thousand a second last
//! 223 years, and 2^18 units of 8 bytes reach 2 MiB, twice the largest batch. Sequence 0 is never used.

use message::StoredId;

const OFFSET_BITS: u32 = 18;
/// Records start at multiples of this many bytes in a batch.
pub(crate) const RECORD_ALIGN: usize = 8;
/// Bytes of plaintext that an id can reach.
pub(crate) const REACH: usize = RECORD_ALIGN << OFFSET_BITS;
const SEQ_MAX: u64 = (1 << (64 - OFFSET_BITS)) - 1;

/// The id of the record at `offset` in batch `seq`.
pub(crate) fn pack(seq: u64, offset: usize) -> StoredId {
    assert!(seq <= SEQ_MAX, "batch sequences are used up");
    assert!(
        offset < REACH && offset.is_multiple_of(RECORD_ALIGN),
        "a record starts at a multiple of 8 below 2 MiB"
    );
    StoredId(seq << OFFSET_BITS | (offset / RECORD_ALIGN) as u64)
}

/// The batch of an id.
pub(crate) fn seq(id: StoredId) -> u64 {
    id.0 >> OFFSET_BITS
}

/// The offset of an id in its batch's plaintext.
pub(crate) fn offset(id: StoredId) -> usize {
    ((id.0 & ((1 << OFFSET_BITS) - 1)) as usize) * RECORD_ALIGN
}

/// The batch sequence in which the record was first written.
#[must_use]
pub fn batch_of(id: StoredId) -> u64 {
    seq(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_and_sorts_by_place() {
        for (s, o) in [(1, 0), (1, 8), (7, REACH - 8), (SEQ_MAX, 16)] {
            let id = pack(s, o);
            assert_eq!((seq(id), offset(id)), (s, o));
        }
        assert!(pack(1, REACH - 8) < pack(2, 0));
    }

    #[test]
    #[should_panic(expected = "used up")]
    fn sequences_that_do_not_fit_are_refused() {
        let _ = pack(SEQ_MAX + 1, 0);
    }
}
