//! Base64 with padding (RFC 4648, 4), read strictly: one text for each sequence of bytes, so that what is read is written alike.

use base64_simd::{AsOut as _, STANDARD};

/// The text of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode_to_string(bytes)
}

/// Appends the text of `bytes`.
pub fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    STANDARD.encode_append(bytes, out);
}

/// The bytes of a text. `None` when no bytes have that text.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode_to_vec(text).ok()
}

/// How many bytes a text would have. `None`: it cannot have any.
#[must_use]
pub fn decoded_len(text: &[u8]) -> Option<usize> {
    STANDARD.decoded_length(text).ok()
}

/// The same as [`decode`], into a place of [`decoded_len`].
#[must_use]
pub fn decode_to(text: &[u8], place: &mut [u8]) -> bool {
    STANDARD.decode(text, place.as_out()).is_ok()
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
            let len = decoded_len(text.as_bytes());
            assert_eq!(len, Some(bytes.len()));
            let mut place = vec![0; bytes.len()];
            assert!(decode_to(text.as_bytes(), &mut place));
            assert_eq!(place, bytes.as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(encode(&all).as_bytes()), Some(all));
        for wrong in [
            "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Z=g=", "Zm9vY===", "Zm 9", "Zm9v-_==",
            "=Zm9",
        ] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
            let mut place = vec![0; decoded_len(wrong.as_bytes()).unwrap_or_default()];
            assert!(!decode_to(wrong.as_bytes(), &mut place), "{wrong}");
        }
    }
}
