//! Where a message is published: a virtual host, a kind, a name, and for topics a list of levels.
//!
//! No delimiter is ever meaningful here. [`Levels`] may keep the text it was cut from, so that a topic is not copied
//! on its way in, but only the levels are compared, hashed, matched and stored.

use std::{fmt, hash::Hash, hash::Hasher};

use bytes::Bytes;
use smallvec::SmallVec;

/// The longest name of a queue, exchange or stream, and the longest single level, in bytes.
pub const NAME_LEN_MAX: usize = u16::MAX as usize;
/// The most levels that a topic or a pattern may have.
pub const LEVELS_MAX: usize = 256;

/// The number that stands for a virtual host. The core's durable state maps names to it; 0 is `/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VhostId(pub u32);

impl VhostId {
    /// The default virtual host, `/`.
    pub const ROOT: Self = Self(0);
}

/// The name of a queue, exchange or stream: one opaque level.
pub type Name = Bytes;

/// The levels of a topic or of a routing key. No level at all is the empty AMQP key; one empty level is not.
#[derive(Clone, Default)]
pub struct Levels {
    text: Bytes,
    /// `start..end` of each level in `text`.
    ranges: SmallVec<[(u16, u16); 6]>,
}

impl Levels {
    /// No level: the empty AMQP routing key.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One opaque level. Panics when it is longer than [`NAME_LEN_MAX`]: the codec has checked it.
    #[must_use]
    pub fn one(level: Bytes) -> Self {
        assert!(
            level.len() <= NAME_LEN_MAX,
            "the codec limits the length of a level"
        );
        let end = level.len() as u16;
        Self {
            text: level,
            ranges: SmallVec::from_slice(&[(0, end)]),
        }
    }

    /// Cuts `text` at every `separator` without copying it. `None` when it is too long or has too many levels.
    #[must_use]
    pub fn split(text: Bytes, separator: u8) -> Option<Self> {
        if text.len() > NAME_LEN_MAX {
            return None;
        }
        let mut ranges = SmallVec::new();
        let mut start = 0u16;
        for (at, byte) in text.iter().enumerate() {
            if *byte == separator {
                // One more level follows the separator.
                if ranges.len() + 1 == LEVELS_MAX {
                    return None;
                }
                ranges.push((start, at as u16));
                start = at as u16 + 1;
            }
        }
        ranges.push((start, text.len() as u16));
        Some(Self { text, ranges })
    }

    /// Builds from owned levels, copying them. `None` when they are too long together or too many.
    pub fn collect<I, L>(levels: I) -> Option<Self>
    where
        I: IntoIterator<Item = L>,
        L: AsRef<[u8]>,
    {
        let mut text = Vec::new();
        let mut ranges = SmallVec::new();
        for level in levels {
            let start = text.len();
            text.extend_from_slice(level.as_ref());
            if text.len() > NAME_LEN_MAX || ranges.len() == LEVELS_MAX {
                return None;
            }
            ranges.push((start as u16, text.len() as u16));
        }
        Some(Self {
            text: Bytes::from(text),
            ranges,
        })
    }

    /// How many levels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is no level at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The level at `index`, counted from 0.
    #[must_use]
    pub fn level(&self, index: usize) -> Option<&[u8]> {
        self.ranges
            .get(index)
            .map(|(start, end)| &self.text[*start as usize..*end as usize])
    }

    /// The levels in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ranges
            .iter()
            .map(|(start, end)| &self.text[*start as usize..*end as usize])
    }

    /// The bytes of all levels together, without separators.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.ranges
            .iter()
            .map(|(start, end)| (*end - *start) as usize)
            .sum()
    }

    /// The text that they were cut from, if that is the levels with `separator` between them and nothing else.
    #[must_use]
    pub fn joined_by(&self, separator: u8) -> Option<&[u8]> {
        let mut next = 0;
        for (start, end) in &self.ranges {
            if usize::from(*start) != next {
                return None;
            }
            next = usize::from(*end) + 1;
            let after = self.text.get(usize::from(*end));
            if after.is_some_and(|byte| *byte != separator) {
                return None;
            }
        }
        (next == self.text.len() + 1).then_some(&self.text[..])
    }

    /// The text that they were cut from. Equal levels may have been cut from different ones.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether these are the same levels cut from the same text: quicker to say than whether they are equal.
    #[must_use]
    pub fn is_same_form(&self, other: &Self) -> bool {
        self.text == other.text && self.ranges == other.ranges
    }

    /// A copy of the same form, for what outlives the read buffer and is compared with what comes in that form again.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            text: Bytes::copy_from_slice(&self.text),
            ranges: SmallVec::from_slice(&self.ranges),
        }
    }

    /// A copy that holds nothing but its levels: for state that outlives the read buffer.
    #[must_use]
    pub fn compact(&self) -> Self {
        Self::collect(self.iter()).expect("a part of a valid list of levels is valid")
    }
}

impl PartialEq for Levels {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}
impl Eq for Levels {}
impl PartialOrd for Levels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Levels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.iter().cmp(other.iter())
    }
}
impl Hash for Levels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        for level in self.iter() {
            level.hash(state);
        }
    }
}
impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                self.iter()
                    .map(|level| String::from_utf8_lossy(level).into_owned()),
            )
            .finish()
    }
}

/// What an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A queue: `name` is its name, `key` is empty.
    Queue,
    /// A topic in the root space (AMQP's `amq.topic`): `name` is empty, `key` is the topic.
    Topic,
    /// A stream: `name` is its name, `key` the partition key as one level, or empty.
    Stream,
    /// Another exchange: `name` is its name, `key` the routing key.
    Exchange,
}

/// Where a message is published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The virtual host.
    pub vhost: VhostId,
    /// What kind of thing `name` and `key` name.
    pub kind: Kind,
    /// See [`Kind`].
    pub name: Name,
    /// See [`Kind`].
    pub key: Levels,
}

impl Address {
    /// A queue.
    #[must_use]
    pub fn queue(vhost: VhostId, name: impl Into<Name>) -> Self {
        Self {
            vhost,
            kind: Kind::Queue,
            name: name.into(),
            key: Levels::none(),
        }
    }

    /// A topic in the root space.
    #[must_use]
    pub const fn topic(vhost: VhostId, key: Levels) -> Self {
        Self {
            vhost,
            kind: Kind::Topic,
            name: Name::new(),
            key,
        }
    }

    /// An exchange and a routing key.
    #[must_use]
    pub fn exchange(vhost: VhostId, name: impl Into<Name>, key: Levels) -> Self {
        Self {
            vhost,
            kind: Kind::Exchange,
            name: name.into(),
            key,
        }
    }

    /// A stream and a partition key.
    #[must_use]
    pub fn stream(vhost: VhostId, name: impl Into<Name>, key: Levels) -> Self {
        Self {
            vhost,
            kind: Kind::Stream,
            name: name.into(),
            key,
        }
    }
}
