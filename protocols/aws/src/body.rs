//! Bodies: SQS and SNS know texts only, and not every text (DOORS 22).

use std::borrow::Cow;

use bytes::Bytes;
use message::{BodyKind, base64};

/// The attribute that says that a body is base64.
pub const ENCODING: &str = "bascule.body";

/// How bodies are shown (queue attribute `bascule.body`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Showing {
    /// As they are if they are legal texts, else as base64.
    #[default]
    Auto,
    /// As base64, always.
    Base64,
    /// As texts: what is not legal is replaced by U+FFFD.
    Text,
}

impl Showing {
    /// Reads the name of one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "base64" => Some(Self::Base64),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}

/// Whether SQS takes a character: those of XML 1.0.
const fn is_legal(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether SQS takes a text as a body or as the value of an attribute.
#[must_use]
pub fn is_legal_text(text: &str) -> bool {
    // Control characters and U+FFFE, U+FFFF (EF BF BE, EF BF BF) are all that can be illegal in UTF-8.
    let space = |byte: u8| (byte == b'\t') | (byte == b'\n') | (byte == b'\r');
    let suspect = |byte: &u8| (*byte == 0xef) | ((*byte < b' ') & !space(*byte));
    // Without a branch within, a few instructions look at sixteen bytes.
    let (chunks, rest) = text.as_bytes().as_chunks::<16>();
    let plain = |chunk: &[u8; 16]| !chunk.iter().fold(false, |any, byte| any | suspect(byte));
    chunks.iter().all(plain) && !rest.iter().any(suspect) || text.chars().all(is_legal)
}

/// A body as a text, and whether that is base64.
#[must_use]
pub fn show(body: &[u8], showing: Showing) -> (Cow<'_, str>, bool) {
    let text = std::str::from_utf8(body);
    match (showing, text) {
        (Showing::Auto | Showing::Text, Ok(text)) if is_legal_text(text) => (text.into(), false),
        (Showing::Text, _) => {
            let text = String::from_utf8_lossy(body);
            let legal = |c| {
                if is_legal(c) {
                    c
                } else {
                    char::REPLACEMENT_CHARACTER
                }
            };
            (text.chars().map(legal).collect::<String>().into(), false)
        }
        (Showing::Auto | Showing::Base64, _) => (base64::encode(body).into(), true),
    }
}

/// The body of a text, which may be base64. `None`: it is none.
#[must_use]
pub fn read(text: Bytes, is_base64: bool) -> Option<(Bytes, BodyKind)> {
    if is_base64 {
        return base64::decode(&text).map(|body| (body.into(), BodyKind::Bytes));
    }
    Some((text, BodyKind::Text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_d22_a_body_is_shown_as_it_is_if_it_is_legal_else_as_base64() {
        fn auto(body: &[u8]) -> (Cow<'_, str>, bool) {
            show(body, Showing::Auto)
        }
        assert_eq!(
            auto("größe \t\r\n \u{fffd}".as_bytes()),
            ("größe \t\r\n \u{fffd}".into(), false)
        );
        assert_eq!(auto(b""), ("".into(), false));
        for illegal in [
            &b"\0"[..],
            b"a\x0bb",
            b"\xff\xfe",
            "\u{fffe}".as_bytes(),
            "\u{ffff}".as_bytes(),
        ] {
            let (text, encoded) = auto(illegal);
            assert!(encoded, "{illegal:?}");
            let (body, kind) = read(text.into_owned().into(), true).expect("base64");
            assert_eq!((&body[..], kind), (illegal, BodyKind::Bytes));
        }
        assert_eq!(show(b"a", Showing::Base64), ("YQ==".into(), true));
        assert_eq!(
            show(b"a\0\xff", Showing::Text),
            ("a\u{fffd}\u{fffd}".into(), false)
        );
        assert_eq!(read("no base64".into(), true), None);
    }
}
