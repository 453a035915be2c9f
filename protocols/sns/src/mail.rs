//! Mails: RFC 5322 with one text part, base64 so that every text survives every server.

use std::fmt::Write as _;

use message::{Timestamp, base64};

/// The longest subject that is one line (RFC 5322, 2.1.1: 998 characters with its name).
const SUBJECT_LEN_MAX: usize = 900;

/// A mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The mailbox, checked when it was subscribed.
    pub to: String,
    /// Who sends: `"Name" <mailbox>` or a mailbox.
    pub from: String,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The id of the message.
    pub id: String,
    /// When it was published.
    pub time: Timestamp,
}

/// The sender: the operator's mailbox, named as the topic is displayed.
pub(crate) fn sender(mailbox: &str, shown: Option<&str>) -> String {
    match shown {
        Some(shown) => format!("{} <{mailbox}>", name(shown)),
        None => mailbox.to_owned(),
    }
}

/// A display name: words, else encoded.
fn name(text: &str) -> String {
    let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_alphanumeric();
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    encoded(text)
}

/// A subject: what is printable as it is (unless it looks encoded), else encoded.
fn subject(text: &str) -> String {
    let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if text.len() <= SUBJECT_LEN_MAX && text.bytes().all(is_plain) && !text.contains("=?") {
        return text.to_owned();
    }
    encoded(text)
}

/// A text as encoded words (RFC 2047).
fn encoded(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // A word is at most 75 characters, of whole code points.
        let mut end = rest.len().min(42);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, behind) = rest.split_at(end);
        words.push(format!("=?utf-8?B?{}?=", base64::encode(word.as_bytes())));
        rest = behind;
    }
    words.join("\r\n ")
}

/// `Sat, 28 Nov 2026 14:00:00 +0000`.
fn date(time: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = time.0 / 1000;
    let days = seconds / 86_400;
    let text = time.date_time();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let month: usize = part(5, 7).parse().unwrap_or(1);
    format!(
        "{}, {} {} {} {} +0000",
        DAYS[(days % 7) as usize],
        part(8, 10),
        MONTHS[(month - 1) % 12],
        part(0, 4),
        part(11, 19)
    )
}

impl Mail {
    /// The mailbox of the sender, for the envelope.
    #[must_use]
    pub fn sender(&self) -> &str {
        match self.from.rsplit_once('<') {
            Some((_, mailbox)) => mailbox.trim_end_matches('>'),
            None => &self.from,
        }
    }

    /// As it goes over the wire behind `DATA`, without the closing dot. No line begins with a dot.
    #[must_use]
    pub fn to_wire(&self) -> String {
        let domain = self.sender().rsplit('@').next().unwrap_or_default();
        let mut wire = format!(
            "From: {}\r\nTo: {}\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{}@{domain}>\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n",
            self.from,
            self.to,
            subject(&self.subject),
            date(self.time),
            self.id
        );
        let text = base64::encode(self.text.as_bytes());
        for line in text.as_bytes().chunks(76) {
            let line = std::str::from_utf8(line).unwrap_or_default();
            // Writing to a string does not fail.
            let _ = write!(wire, "{line}\r\n");
        }
        wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printable_is_a_subject_as_it_is() {
        let plain = "AWS Notification - Subscription Confirmation";
        assert_eq!(subject(plain), plain);
        assert_eq!(subject("=?x"), "=?utf-8?B?PT94?=");
        assert_eq!(subject("a\r\nBcc: b"), "=?utf-8?B?YQ0KQmNjOiBi?=");
        // A display name is words.
        assert_eq!(name("a-b"), "=?utf-8?B?YS1i?=");
    }

    #[test]
    fn a_mail_is_ascii_whatever_it_says() {
        let mail = Mail {
            to: "ops@example.org".into(),
            from: sender("sns@example.org", Some("Größe")),
            subject: "Temperatur über 30 °C: 東京東京東京東京東京東京東京東京東京".into(),
            text: ".\r\n..\nGrüße".into(),
            id: "22b80b92".into(),
            time: Timestamp(1_336_000_000_500),
        };
        let wire = mail.to_wire();
        assert!(wire.is_ascii(), "{wire}");
        assert!(wire.contains("Date: Wed, 02 May 2012 23:06:40 +0000\r\n"));
        assert!(wire.contains("From: =?utf-8?B?R3LDtsOfZQ==?= <sns@example.org>\r\n"));
        assert_eq!(mail.sender(), "sns@example.org");
        for line in wire.split("\r\n") {
            assert!(line.len() <= 78 && !line.starts_with('.'), "{line}");
            assert!(!line.contains(['\r', '\n']));
        }
    }
}
