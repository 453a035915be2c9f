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
    fn the_values_are_those_of_another_implementation() {
        // Nothing has the published one; the others are of a scalar implementation in Rust, by which earlier journals were written.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(xxh3_128(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
        let known: [(usize, u64, u64, u128); 6] = [
            (
                1,
                0xc44b_dff4_074e_ecdb,
                0x2c45_aa60_ff5d_c0e5,
                0xa6cd_5e93_9200_0f6a_c44b_dff4_074e_ecdb,
            ),
            (
                17,
                0xc56f_339d_36cc_73d7,
                0x46d0_a30c_c809_6767,
                0x340f_6f92_02ad_1131_a378_e808_8222_1151,
            ),
            (
                129,
                0xc72a_f4c6_ac4d_ea94,
                0xd9fc_8671_f168_d78c,
                0x4f3f_783d_604d_0184_c830_2247_7e6b_f25a,
            ),
            (
                241,
                0x1877_3c51_2b00_8a63,
                0x8beb_9b4b_4448_525b,
                0x8e7e_1f2f_e415_6df9_1877_3c51_2b00_8a63,
            ),
            (
                1025,
                0x7775_793e_9ae6_0f68,
                0x5f74_2b50_2d7d_1d4a,
                0x8cbc_3409_03ac_3d45_7775_793e_9ae6_0f68,
            ),
            (
                70_000,
                0xacd6_f39a_c598_8619,
                0xb292_276e_e730_4cf3,
                0xfadf_be88_1891_fab7_acd6_f39a_c598_8619,
            ),
        ];
        for (len, plain, seeded, long) in known {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31) as u8).collect();
            assert_eq!(xxh3_64(&bytes), plain, "{len}");
            assert_eq!(xxh3_64_with_seed(&bytes, 7), seeded, "{len}");
            assert_eq!(xxh3_128(&bytes), long, "{len}");
        }
    }
}
