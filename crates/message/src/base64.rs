//! Base64 with padding (RFC 4648, 4), read strictly: one text for each sequence of bytes, so that what is read is written alike.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What each digit stands for; 255: it is none.
const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut at = 0;
    while at < 64 {
        values[DIGITS[at] as usize] = at as u8;
        at += 1;
    }
    values
};

/// The text of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    encode_into(bytes, &mut out);
    String::from_utf8(out).expect("digits are ASCII")
}

/// Appends the text of `bytes`.
pub fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    let digit = |bits: u32, at: u32| DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
    let mut groups = bytes.chunks_exact(3);
    for group in &mut groups {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        out.extend_from_slice(&[0, 1, 2, 3].map(|at| digit(bits, at)));
    }
    match *groups.remainder() {
        [a] => {
            let bits = u32::from_be_bytes([0, a, 0, 0]);
            out.extend_from_slice(&[digit(bits, 0), digit(bits, 1), b'=', b'=']);
        }
        [a, b] => {
            let bits = u32::from_be_bytes([0, a, b, 0]);
            out.extend_from_slice(&[digit(bits, 0), digit(bits, 1), digit(bits, 2), b'=']);
        }
        _ => {}
    }
}

/// The bytes of a text. `None` when no bytes have that text.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    // Padding only at the end.
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=');
    let digits = &text[..text.len() - padding.count()];
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut all = 0;
    let mut groups = digits.chunks_exact(4);
    for group in &mut groups {
        let values = [0, 1, 2, 3].map(|at: usize| VALUES[usize::from(group[at])]);
        all |= values[0] | values[1] | values[2] | values[3];
        let [a, b, c, d] = values.map(u32::from);
        let bits = (a << 18 | b << 12 | c << 6 | d) & 0x00ff_ffff;
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    let rest = groups.remainder();
    let value = |at: usize| VALUES[usize::from(rest[at])];
    // No bit may be set that is not shown, so that no other text has the same bytes.
    let hidden = match rest.len() {
        0 => 0,
        2 => {
            all |= value(0) | value(1);
            out.push(value(0) << 2 | value(1) >> 4);
            value(1) & 0b1111
        }
        3 => {
            all |= value(0) | value(1) | value(2);
            out.push(value(0) << 2 | value(1) >> 4);
            out.push(value(1) << 4 | value(2) >> 2);
            value(2) & 0b11
        }
        _ => return None,
    };
    // The values of digits are below 64.
    (all < 64 && hidden == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_10_and_nothing_else_has_the_same_bytes() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(encode(&all).as_bytes()), Some(all));
        for wrong in [
            "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Z=g=", "Zm9vY===", "Zm 9", "Zm9v-_==",
            "=Zm9",
        ] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
