//! XXH3, of which every check of the journal is made but the records' own; with the widest vectors that the processor has, which is
//! found out when it runs.

use twox_hash::{XxHash3_64, XxHash3_128};

/// XXH3 in 64 bits.
pub(crate) fn xxh3_64(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// The same with a seed.
pub(crate) fn xxh3_64_with_seed(bytes: &[u8], seed: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// XXH3 in 128 bits.
pub(crate) fn xxh3_128(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_values_are_right() {
        // Those of the reference implementation for nothing, and for nothing with a seed.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(xxh3_128(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
        assert_eq!(xxh3_64_with_seed(b"", 0), xxh3_64(b""));
        assert_ne!(xxh3_64_with_seed(b"a", 1), xxh3_64(b"a"));
    }
}
