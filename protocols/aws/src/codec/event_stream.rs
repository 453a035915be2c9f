//! Event streams (`application/vnd.amazon.eventstream`): messages with headers and checksums.
//!
//! ```text
//! total length u32 | length of the headers u32 | CRC-32 of these u32
//! headers: length of the name u8, name, type u8 (7: text), length u16, text
//! payload
//! CRC-32 of all before u32
//! ```

use crc_fast::crc32_iso_hdlc;

/// The type of a header that is a text.
const TEXT: u8 = 7;
/// The prelude with its checksum, and the checksum at the end, in bytes.
const FRAME_LEN: usize = 16;

/// A message.
///
/// # Panics
/// When a name is longer than 255 bytes, a value than 65,535 or all of it than 4 GiB: none of ours is.
#[must_use]
pub fn encode(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let headers_len: usize = headers
        .iter()
        .map(|(name, value)| 1 + name.len() + 1 + 2 + value.len())
        .sum();
    let len = FRAME_LEN + headers_len + payload.len();
    let mut out = Vec::with_capacity(len);
    let number = |len: usize| {
        u32::try_from(len)
            .expect("messages are shorter")
            .to_be_bytes()
    };
    out.extend_from_slice(&number(len));
    out.extend_from_slice(&number(headers_len));
    let prelude = crc32_iso_hdlc(&out);
    out.extend_from_slice(&prelude.to_be_bytes());
    for (name, value) in headers {
        out.push(u8::try_from(name.len()).expect("names of headers are our own"));
        out.extend_from_slice(name.as_bytes());
        out.push(TEXT);
        let len = u16::try_from(value.len()).expect("values of headers are our own");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(payload);
    let checksum = crc32_iso_hdlc(&out);
    out.extend_from_slice(&checksum.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_of_a_message() {
        // A payload without headers, and the empty message, as the SDKs' own tests have them.
        let empty = [
            0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff,
        ];
        assert_eq!(encode(&[], b""), empty);
        let payload = encode(&[], b"{'foo':'bar'}");
        assert_eq!(
            payload[..12],
            [0, 0, 0, 0x1d, 0, 0, 0, 0, 0xfd, 0x52, 0x8c, 0x5a]
        );
        assert_eq!(payload[25..], [0xc3, 0x65, 0x39, 0x36]);
        let headers = encode(&[("content-type", "application/json")], b"{'foo':'bar'}");
        assert_eq!(
            headers[..12],
            [0, 0, 0, 0x3d, 0, 0, 0, 0x20, 0x07, 0xfd, 0x83, 0x96]
        );
        assert_eq!(
            &headers[12..44],
            b"\x0ccontent-type\x07\x00\x10application/json"
        );
        assert_eq!(headers[57..], [0x8d, 0x9c, 0x08, 0xb1]);
    }
}
