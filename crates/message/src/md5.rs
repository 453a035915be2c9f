//! MD5 (RFC 1321) of several texts at once.
//!
//! Each of its 64 steps needs what the one before it has made, so that one text alone leaves a processor waiting most of the time. Side
//! by side the same words of several texts lie in vectors: a block of each of twelve takes 650 ns, one alone 180 (when that was
//! measured). SQS's clients want the MD5 of every body, sent and received, ten at a time, and a record of a stream is put into the shard
//! that the MD5 of its key says.

use ::md5::{Digest as _, Md5};

/// Texts that go side by side.
const LANES: usize = 12;
const BLOCK_LEN: usize = 64;

/// The same word of each text.
type Word = [u32; LANES];
/// A, B, C and D.
type State = [Word; 4];

const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// `floor(2^32 * abs(sin(i + 1)))`
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a,
    0xa830_4613, 0xfd46_9501, 0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be,
    0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821, 0xf61e_2562, 0xc040_b340,
    0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8,
    0x676f_02d9, 0x8d2a_4c8a, 0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c,
    0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70, 0x289b_7ec6, 0xeaa1_27fa,
    0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92,
    0xffef_f47d, 0x8584_5dd1, 0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1,
    0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// The MD5 of a text.
#[must_use]
pub fn one(text: &[u8]) -> [u8; 16] {
    Md5::digest(text).into()
}

/// The MD5 of each text, in order.
#[must_use]
pub fn each<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<[u8; 16]> {
    let mut texts = texts.into_iter();
    let mut all = Vec::with_capacity(texts.size_hint().0);
    loop {
        let mut group = [&[][..]; LANES];
        let mut count = 0;
        for text in texts.by_ref().take(LANES) {
            group[count] = text;
            count += 1;
        }
        let group = &group[..count];
        let blocks = || group.iter().map(|text| blocks_of(text));
        // A block side by side costs as much as nearly four alone.
        let longest = blocks().max().unwrap_or(0);
        if 4 * longest <= blocks().sum() {
            all.extend_from_slice(&side_by_side(group)[..count]);
        } else {
            all.extend(group.iter().map(|text| one(text)));
        }
        if count < LANES {
            return all;
        }
    }
}

/// Up to so many texts.
fn side_by_side(texts: &[&[u8]]) -> [[u8; 16]; LANES] {
    let mut state = START.map(|word| [word; LANES]);
    let mut digests = [[0; 16]; LANES];
    let longest = texts.iter().map(|text| blocks_of(text)).max();
    for number in 0..longest.unwrap_or(0) {
        let mut words = [[0; LANES]; 16];
        for (lane, text) in texts.iter().enumerate() {
            let block = block(text, number);
            for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
                word[lane] = u32::from_le_bytes(*bytes);
            }
        }
        compress(&mut state, &words);
        for (lane, text) in texts.iter().enumerate() {
            // What comes behind the last block of a text is nothing to it.
            if number + 1 == blocks_of(text) {
                for (bytes, word) in digests[lane].as_chunks_mut().0.iter_mut().zip(&state) {
                    *bytes = word[lane].to_le_bytes();
                }
            }
        }
    }
    digests
}

/// Blocks of a text with what is put behind it: a bit, and its length.
const fn blocks_of(text: &[u8]) -> usize {
    (text.len() + 9).div_ceil(BLOCK_LEN)
}

/// That block of a text, from 0 on.
fn block(text: &[u8], number: usize) -> [u8; BLOCK_LEN] {
    let rest = text.get(number * BLOCK_LEN..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut block = [0; BLOCK_LEN];
    block[..rest.len()].copy_from_slice(rest);
    // The bit stands in the block in which the text ends, which is one of its own behind a text of whole blocks.
    if number == text.len() / BLOCK_LEN {
        block[rest.len()] = 0x80;
    }
    if number + 1 == blocks_of(text) {
        let bits = (text.len() as u64).wrapping_mul(8);
        block[BLOCK_LEN - 8..].copy_from_slice(&bits.to_le_bytes());
    }
    block
}

fn compress(state: &mut State, words: &[Word; 16]) {
    let before = *state;
    round::<0, 7, 12, 17, 22>(state, words, (0, 1));
    round::<1, 5, 9, 14, 20>(state, words, (1, 5));
    round::<2, 4, 11, 16, 23>(state, words, (5, 3));
    round::<3, 6, 10, 15, 21>(state, words, (0, 7));
    for (word, more) in state.iter_mut().flatten().zip(before.iter().flatten()) {
        *word = word.wrapping_add(*more);
    }
}

/// Sixteen steps, turned left by `P`, `Q`, `R`, `S` bits in turn. They take the words from one on, every so many.
fn round<const ROUND: usize, const P: u32, const Q: u32, const R: u32, const S: u32>(
    [a, b, c, d]: &mut State,
    words: &[Word; 16],
    (from, by): (usize, usize),
) {
    for four in 0..4 {
        let word = |nth: usize| &words[(from + by * (4 * four + nth)) % 16];
        let sine = |nth: usize| SINES[16 * ROUND + 4 * four + nth];
        step::<ROUND, P>(a, b, c, d, word(0), sine(0));
        step::<ROUND, Q>(d, a, b, c, word(1), sine(1));
        step::<ROUND, R>(c, d, a, b, word(2), sine(2));
        step::<ROUND, S>(b, c, d, a, word(3), sine(3));
    }
}

/// The step of all texts. Not inlined: it is vectors because what it makes goes to memory. Steps that are put together keep each text's
/// words in registers by themselves, and that is several times as many instructions.
#[inline(never)]
fn step<const ROUND: usize, const BITS: u32>(
    a: &mut Word,
    b: &Word,
    c: &Word,
    d: &Word,
    word: &Word,
    sine: u32,
) {
    for lane in 0..LANES {
        let (b, c, d) = (b[lane], c[lane], d[lane]);
        let mixed = match ROUND {
            0 => d ^ (b & (c ^ d)),
            1 => c ^ (d & (b ^ c)),
            2 => b ^ c ^ d,
            _ => c ^ (b | !d),
        };
        let sum = a[lane]
            .wrapping_add(mixed)
            .wrapping_add(word[lane])
            .wrapping_add(sine);
        a[lane] = b.wrapping_add(sum.rotate_left(BITS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_side_by_side_have_the_digests_that_they_have_alone() {
        let text: Vec<u8> = (0..1000_u32).map(|at| ((at * at) >> 3) as u8).collect();
        for count in 0..=2 * LANES + 1 {
            for len in (0..200).chain([255, 256, 1000]) {
                // Neighbours of other lengths, and long ones among short ones.
                let lens = (0..count).map(|at| match at {
                    3 => 1000,
                    _ => (len + at * 29) % (len + 1),
                });
                let texts: Vec<&[u8]> = lens.map(|len| &text[..len]).collect();
                let alone: Vec<_> = texts.iter().map(|text| one(text)).collect();
                assert_eq!(each(texts.iter().copied()), alone, "{count} of {len}");
                for group in texts.chunks(LANES) {
                    let alone = group.iter().map(|text| one(text));
                    assert!(alone.eq(side_by_side(group)[..group.len()].iter().copied()));
                }
            }
        }
    }
}
