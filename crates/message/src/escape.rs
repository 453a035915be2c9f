//! The reversible escape of characters that a protocol cannot show inside a level.
//!
//! Each protocol has a set `S` of such characters (AMQP keys `.`; MQTT `/`, `+`, `#`; STOMP topics `.` and `/`). In a
//! level each member of `S` is written `%XX`, upper case. A literal text that looks like such an escape, `%`, then any
//! number of `25`, then the `XX` of a member of `S`, gains one `25`; reading takes it away. Every other `%` is itself.

use std::borrow::Cow;

const fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

/// The end of `(25)*XX` at the start of `text`: how long it is, and which member of `special` XX names.
fn escape_tail(text: &[u8], special: &[u8]) -> Option<(usize, u8)> {
    let mut at = 0;
    loop {
        let pair = text.get(at..at + 2)?;
        if let Some(byte) = special.iter().find(|byte| hex(**byte) == pair) {
            return Some((at + 2, *byte));
        }
        if pair != b"25" {
            return None;
        }
        at += 2;
    }
}

/// Writes a level so that no member of `special` shows. Borrows when there is nothing to escape.
///
/// `special` must not hold `%` nor a hexadecimal digit.
#[must_use]
pub fn escape_level<'a>(level: &'a [u8], special: &[u8]) -> Cow<'a, [u8]> {
    debug_assert!(
        !special
            .iter()
            .any(|byte| *byte == b'%' || byte.is_ascii_hexdigit()),
        "such a set could not be read back"
    );
    if !level
        .iter()
        .any(|byte| *byte == b'%' || special.contains(byte))
    {
        return Cow::Borrowed(level);
    }
    let mut out = Vec::with_capacity(level.len() + 8);
    for (at, byte) in level.iter().enumerate() {
        if special.contains(byte) {
            out.push(b'%');
            out.extend_from_slice(&hex(*byte));
        } else {
            out.push(*byte);
            if *byte == b'%' && escape_tail(&level[at + 1..], special).is_some() {
                out.extend_from_slice(b"25");
            }
        }
    }
    Cow::Owned(out)
}

/// Reads a level back. Borrows when there is nothing to undo.
#[must_use]
pub fn unescape_level<'a>(text: &'a [u8], special: &[u8]) -> Cow<'a, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at] == b'%')
            .then(|| escape_tail(&text[at + 1..], special))
            .flatten()
        {
            Some((2, byte)) => {
                out.push(byte);
                at += 3;
            }
            Some((len, _)) => {
                out.push(b'%');
                out.extend_from_slice(&text[at + 3..at + 1 + len]);
                at += 1 + len;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}
