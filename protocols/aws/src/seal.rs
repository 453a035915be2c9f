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
/// Bytes that SHA-256 takes in at a time.
const BLOCK_LEN: usize = 64;

/// What seals and opens texts for one purpose. Made once for many of them: taking the key in costs more than a short text.
pub struct Sealer(Mac);

impl Sealer {
    /// With this secret, for this purpose.
    #[must_use]
    pub fn new(secret: &Secret, purpose: &[&[u8]]) -> Self {
        Self::with(secret, purpose, 1)
    }

    /// For many short contents of one length: the purpose is made as long as whole blocks, which are taken in once for all of them. The
    /// number of parts must be the purpose's own: behind the last one there are only zeros.
    #[must_use]
    pub fn of_short(secret: &Secret, purpose: &[&[u8]]) -> Self {
        Self::with(secret, purpose, BLOCK_LEN)
    }

    /// The purpose, and zeros up to a multiple of that length: at least one.
    fn with(secret: &Secret, purpose: &[&[u8]], multiple: usize) -> Self {
        // Each part with its length, so that no two purposes run together.
        let mut head = Vec::with_capacity(2 * BLOCK_LEN);
        for part in purpose {
            message::codec::put_bytes(&mut head, part);
        }
        head.resize((head.len() + 1).next_multiple_of(multiple), 0);
        let mut mac = Mac::new(&secret.0);
        mac.update(&head);
        Self(mac)
    }

    fn tag(&self, content: &[u8]) -> [u8; TAG_LEN] {
        let mut mac = self.0.clone();
        mac.update(content);
        mac.finish()[..TAG_LEN]
            .try_into()
            .expect("a part of 32 bytes")
    }

    /// Puts the tag behind a content, where `closed` has [`TAG_LEN`] bytes for it: the base64 of that is the sealed text.
    ///
    /// # Panics
    /// If it has not.
    pub fn close(&self, closed: &mut [u8]) {
        let content_len = closed.len() - TAG_LEN;
        let (content, tag) = closed.split_at_mut(content_len);
        tag.copy_from_slice(&self.tag(content));
    }

    /// The sealed text of `content`.
    #[must_use]
    pub fn seal(&self, content: &[u8]) -> String {
        let mut closed = Vec::with_capacity(content.len() + TAG_LEN);
        closed.extend_from_slice(content);
        closed.extend_from_slice(&[0; TAG_LEN]);
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
        let short = Sealer::of_short(&secret, &[b"receipt", b"jobs"]);
        let shortly = short.seal(b"content");
        assert_eq!(short.open(&shortly).as_deref(), Some(&b"content"[..]));
        assert_eq!((sealer.open(&shortly), short.open(&text)), (None, None));
        for other in [
            [&b"receipt"[..], &b"jobs2"[..]],
            [&b"receiptj"[..], &b"obs"[..]],
        ] {
            assert_eq!(Sealer::of_short(&secret, &other).open(&shortly), None);
        }
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
