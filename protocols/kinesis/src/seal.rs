//! What is handed out and must come back unchanged: shard iterators and page tokens.
//!
//! Sealed with the store's secret ([`aws::seal`]), for the account and region that they were made in, and with the time.

use aws::{Call, seal};
use message::Timestamp;

/// What a token is for: none passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Iterator,
    Shards,
    Streams,
    Consumers,
}

impl Form {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Iterator => b"kinesis iterator",
            Self::Shards => b"kinesis shards",
            Self::Streams => b"kinesis streams",
            Self::Consumers => b"kinesis consumers",
        }
    }
}

/// Seals a content.
pub(crate) fn seal(call: &Call, form: Form, created: Timestamp, content: &[u8]) -> String {
    let content = [&created.0.to_be_bytes(), content].concat();
    seal::seal(&call.secret, &purpose(call, form), &content)
}

/// When it was sealed, and the content. `None`: this account's door did not seal it, or for something else.
pub(crate) fn open(call: &Call, form: Form, text: &str) -> Option<(Timestamp, Vec<u8>)> {
    let mut content = seal::open(&call.secret, &purpose(call, form), text)?;
    let rest = content.split_off(content.len().min(8));
    let created = u64::from_be_bytes(content.try_into().ok()?);
    Some((Timestamp(created), rest))
}

fn purpose(call: &Call, form: Form) -> [&[u8]; 3] {
    [form.name(), call.account.as_bytes(), call.region.as_bytes()]
}
