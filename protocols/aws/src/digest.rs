//! Digests, as the services' clients compute them too.

use std::ops::Deref;

use hmac::{Hmac, KeyInit as _, Mac as _};
use message::md5;
use sha2::Digest as _;

/// MD5 (RFC 1321).
#[must_use]
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    md5::one(bytes)
}

/// The MD5 of each text, in order: several at once cost little more than one.
#[must_use]
pub fn md5_each<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<[u8; 16]> {
    md5::each(texts)
}

/// SHA-256 (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// HMAC with SHA-256 (RFC 2104) over the parts, one behind the other.
#[must_use]
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Mac::new(key);
    for part in parts {
        mac.update(part);
    }
    mac.finish()
}

/// The same bit by bit, with a key that was taken in.
#[derive(Clone)]
pub(crate) struct Mac(Hmac<sha2::Sha256>);

impl Mac {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("a key may have any length"))
    }

    pub(crate) fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    put_hex(bytes, &mut digits);
    ascii(digits)
}

/// The digits of bytes, into twice as many.
fn put_hex(bytes: &[u8], digits: &mut [u8]) {
    let (fours, rest) = bytes.as_chunks::<4>();
    let (eights, behind) = digits.as_chunks_mut::<8>();
    for (eight, four) in eights.iter_mut().zip(fours) {
        *eight = hex_of_four(*four);
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    behind.copy_from_slice(&hex_of_four(last)[..behind.len()]);
}

/// Eight digits at a time: each half of a byte comes to lie in a byte of its own, and becomes a digit there.
const fn hex_of_four(four: [u8; 4]) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut halves = u32::from_be_bytes(four) as u64;
    halves = (halves << 16 | halves) & 0x0000_ffff_0000_ffff;
    halves = (halves << 8 | halves) & 0x00ff_00ff_00ff_00ff;
    halves = (halves << 4 | halves) & 0x0f0f_0f0f_0f0f_0f0f;
    // Six more carries into the upper half from ten on.
    let letters = (halves + 6 * ONES) >> 4 & ONES;
    let digits = halves + b'0' as u64 * ONES + letters * (b'a' - b'9' - 1) as u64;
    digits.to_be_bytes()
}

fn ascii(digits: Vec<u8>) -> String {
    String::from_utf8(digits).expect("digits are ASCII")
}

/// A text of digits, in place.
#[derive(Clone, Copy, Debug)]
pub struct Digits<const N: usize>([u8; N]);

impl<const N: usize> Digits<N> {
    /// Its bytes: nobody has to look whether they are a text.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> Deref for Digits<N> {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

fn hex_in<const N: usize>(bytes: &[u8]) -> Digits<N> {
    let mut digits = [b'0'; N];
    put_hex(bytes, &mut digits);
    Digits(digits)
}

/// The same as [`hex`] of a digest of 16 bytes. Its length is known: no loop over four bytes at a time is left of it.
#[must_use]
pub fn hex_digits(bytes: &[u8; 16]) -> Digits<32> {
    let mut digits = [b'0'; 32];
    let (eights, _) = digits.as_chunks_mut::<8>();
    let (fours, _) = bytes.as_chunks::<4>();
    for at in 0..4 {
        eights[at] = hex_of_four(fours[at]);
    }
    Digits(digits)
}

/// [`sha256`] in hexadecimal digits.
#[must_use]
pub(crate) fn sha256_digits(bytes: &[u8]) -> Digits<64> {
    hex_in(&sha256(bytes))
}

/// The same as [`uuid_text`].
#[must_use]
pub fn uuid_digits(id: &[u8; 16]) -> Digits<36> {
    let plain = hex_digits(id);
    let mut digits = [b'-'; 36];
    digits[..8].copy_from_slice(&plain.0[..8]);
    digits[9..13].copy_from_slice(&plain.0[8..12]);
    digits[14..18].copy_from_slice(&plain.0[12..16]);
    digits[19..23].copy_from_slice(&plain.0[16..20]);
    digits[24..].copy_from_slice(&plain.0[20..]);
    Digits(digits)
}

/// A UUID as text.
#[must_use]
pub fn uuid_text(id: &[u8; 16]) -> String {
    str::to_owned(&uuid_digits(id))
}

/// The `nth` of random bytes that are all made of the same ones: no two of them are equal. Who knows one can guess the others, so they
/// are good for ids and for nothing that must be kept secret; a digest for each would cost more than all else that an id needs.
#[must_use]
pub const fn spread(seed: [u8; 16], nth: u64) -> [u8; 16] {
    /// Every bit of the input changes about half of those of the output, and no two inputs have the same (SplitMix64).
    const fn mix(mut bits: u64) -> u64 {
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }
    let seed = u128::from_be_bytes(seed);
    let step = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let low = mix((seed as u64).wrapping_add(step));
    let high = mix(((seed >> 64) as u64).wrapping_sub(step));
    ((high as u128) << 64 | low as u128).to_be_bytes()
}

/// A UUID of version 4 out of random bytes.
#[must_use]
pub const fn random_uuid(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// The text of a UUID, read.
#[must_use]
pub fn read_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut id = [0; 16];
    let mut digits = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16)? as u8;
        id[digits / 2] = id[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_their_standards() {
        assert_eq!(hex(&md5(b"abc")), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(&*hex_digits(&md5(b"abc")), hex(&md5(b"abc")));
        assert_eq!(
            hex(&sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        // RFC 4231, test case 2.
        let mac = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            hex(&mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn every_byte_has_its_digits_wherever_it_stands() {
        let bytes: Vec<u8> = (0..=255).collect();
        for from in 0..8 {
            for to in from..bytes.len() {
                let bytes = &bytes[from..to];
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hex(bytes), digits);
            }
        }
    }

    #[test]
    fn what_is_spread_of_one_seed_never_repeats() {
        let mut seen = std::collections::BTreeSet::new();
        for nth in (0..10_000).chain([u64::MAX - 1, u64::MAX]) {
            let id = random_uuid(spread([7; 16], nth));
            assert!(seen.insert(id), "{nth}");
            // It looks like nothing of its neighbours.
            let next = random_uuid(spread([7; 16], nth.wrapping_add(1)));
            let differ = (u128::from_be_bytes(id) ^ u128::from_be_bytes(next)).count_ones();
            assert!((25..=97).contains(&differ), "{nth}: {differ}");
        }
    }

    #[test]
    fn a_uuid_comes_back_from_its_text() {
        let id = random_uuid([0xff; 16]);
        let text = uuid_text(&id);
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let id: [u8; 16] = std::array::from_fn(|at| 17 * at as u8);
        assert_eq!(uuid_text(&id), "00112233-4455-6677-8899-aabbccddeeff");
        let id = random_uuid([0xff; 16]);
        assert_eq!(read_uuid(&text), Some(id));
        assert_eq!(read_uuid("ffffffff-ffff-4fff-bfff-fffffffffffg"), None);
        assert_eq!(read_uuid("ffffffffffff4fffbfffffffffffffff"), None);
    }
}
