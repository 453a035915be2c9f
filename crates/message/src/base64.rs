//! Base64 with padding (RFC 4648, 4), read strictly: one text for each sequence of bytes, so that what is read is written alike.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=part.len()].copy_from_slice(part);
        let bits = u32::from_be_bytes(group);
        for at in 0..4 {
            if at <= part.len() {
                let digit = (bits >> (18 - 6 * at)) & 63;
                out.push(char::from(DIGITS[digit as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// The bytes of a text. `None` when no bytes have that text.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks(4) {
        let digits = group.iter().take_while(|byte| **byte != b'=').count();
        let mut bits = 0;
        for byte in &group[..digits] {
            let digit = DIGITS.iter().position(|known| known == byte)?;
            bits = bits << 6 | digit as u32;
        }
        bits <<= 6 * (4 - digits);
        let len = digits.checked_sub(1)?;
        out.extend_from_slice(bits.to_be_bytes().get(1..=len)?);
    }
    // Padding only at the end, and no bit set that is not shown.
    (encode(&out).as_bytes() == text).then_some(out)
}
