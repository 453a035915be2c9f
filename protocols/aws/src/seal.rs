//! What a service hands out and wants to know again: receipt handles, iterators, page tokens, confirmation tokens.
//!
//! A sealed text is the base64 of the content and a tag over it, made with the store's own secret ([`Secret`]): nobody else can
//! make one, and it is good after a restart and after a takeover. The content is not hidden. A purpose, which is not in the text,
//! keeps one kind of token from being taken for another.

use message::base64;
use session::Secret;

use crate::digest::Mac;

/// Bytes of the tag.
pub const TAG_LEN: usize = 16;

/// What seals and opens texts for one purpose. Made once for many of them: taking the key in costs more than a short text.
pub struct Sealer(Mac);

impl Sealer {
    /// With this secret, for this purpose.
    #[must_use]
    pub fn new(secret: &Secret, purpose: &[&[u8]]) -> Self {
        // Each part with its length, so that no two purposes run together.
        let mut head = Vec::new();
        for part in purpose {
            message::codec::put_bytes(&mut head, part);
        }
        let mut mac = Mac::new(&secret.0);
        mac.update(&head);
        mac.update(b"\0");
        Self(mac)
    }

    fn tag(&self, content: &[u8]) -> [u8; TAG_LEN] {
        let mut mac = self.0.clone();
        mac.update(content);
        mac.finish()[..TAG_LEN]
            .try_into()
            .expect("a part of 32 bytes")
    }

    /// Appends the tag to a content: the base64 of that is the sealed text.
    pub fn close(&self, content: &mut Vec<u8>) {
        let tag = self.tag(content);
        content.extend_from_slice(&tag);
    }

    /// The sealed text of `content`.
    #[must_use]
    pub fn seal(&self, content: &[u8]) -> String {
        let mut closed = Vec::with_capacity(content.len() + TAG_LEN);
        closed.extend_from_slice(content);
        self.close(&mut closed);
        base64::encode(&closed)
    }

    /// The content of a text that was sealed so.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<Vec<u8>> {
        let mut bytes = base64::decode(text.as_bytes())?;
        let content_len = self.opened(&bytes)?.len();
        bytes.truncate(content_len);
        Some(bytes)
    }

    /// The same of a text whose content has a known length. `place` has [`TAG_LEN`] bytes more than that.
    pub fn open_in<'a>(&self, text: &str, place: &'a mut [u8]) -> Option<&'a [u8]> {
        let text = text.as_bytes();
        let fits = base64::decoded_len(text)? == place.len() && base64::decode_to(text, place);
        fits.then(|| self.opened(place))?
    }

    /// The content of what was closed so.
    fn opened<'a>(&self, closed: &'a [u8]) -> Option<&'a [u8]> {
        let content_len = closed.len().checked_sub(TAG_LEN)?;
        let (content, shown) = closed.split_at(content_len);
        // Every byte is looked at, so that the time tells nothing.
        let wrong = self
            .tag(content)
            .iter()
            .zip(shown)
            .fold(0, |wrong, (a, b)| wrong | (a ^ b));
        (wrong == 0).then_some(content)
    }
}

/// One text, sealed.
#[must_use]
pub fn seal(secret: &Secret, purpose: &[&[u8]], content: &[u8]) -> String {
    Sealer::new(secret, purpose).seal(content)
}

/// One text, opened.
#[must_use]
pub fn open(secret: &Secret, purpose: &[&[u8]], text: &str) -> Option<Vec<u8>> {
    Sealer::new(secret, purpose).open(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_secret_and_for_its_purpose_only() {
        let secret = Secret([7; 32]);
        let text = seal(&secret, &[b"receipt", b"jobs"], b"content");
        let open_with = |secret, purpose: &[&[u8]], text: &str| open(&secret, purpose, text);
        assert_eq!(
            open_with(secret, &[b"receipt", b"jobs"], &text).as_deref(),
            Some(&b"content"[..])
        );
        assert_eq!(
            open_with(Secret([8; 32]), &[b"receipt", b"jobs"], &text),
            None
        );
        let sealer = Sealer::new(&secret, &[b"receipt", b"jobs"]);
        let mut place = [0; 7 + TAG_LEN];
        assert_eq!(sealer.open_in(&text, &mut place), Some(&b"content"[..]));
        assert_eq!(sealer.open_in(&text, &mut [0; 8 + TAG_LEN]), None);
        let longer = sealer.seal(b"contents");
        assert_eq!(sealer.open_in(&longer, &mut place), None);
        assert_eq!(
            sealer
                .open_in(&text.replacen('A', "B", 1), &mut place)
                .is_some(),
            !text.contains('A')
        );
        assert_eq!(open_with(secret, &[b"receiptj", b"obs"], &text), None);
        assert_eq!(
            open_with(secret, &[b"receipt", b"jobs"], "bm90IG9uZQ=="),
            None
        );
        assert_eq!(
            open_with(secret, &[b"receipt", b"jobs"], "not base64"),
            None
        );
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("ASCII");
            assert_eq!(
                open_with(secret, &[b"receipt", b"jobs"], &other),
                None,
                "{at}"
            );
        }
    }
}
