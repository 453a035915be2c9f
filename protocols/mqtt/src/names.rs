//! Topics and filters: text to levels and back (DOORS rules 2 to 5), and MQTT's words for what is not a topic.
//!
//! In a level `/`, `+` and `#` are written `%2F`, `%2B` and `%23`; the functions are inverse to each other. Not every
//! list of levels has a topic: none at all, one empty level, U+0000, bytes that are not UTF-8 and more than 65,535 bytes
//! have not, and are not delivered to MQTT.
//!
//! | text | means |
//! |---|---|
//! | `$queue/NAME` | the queue NAME; the whole rest is the name, `/` literal |
//! | `$stream/NAME`, `$stream/NAME/KEY` | the stream NAME, split at the first `/` |
//! | `$share/GROUP/FILTER` | a shared subscription |
//! | other first levels `$queue`, `$stream`, `$share`, `$SYS`, `$topic` | reserved: published to by no one |
//! | everything else | a topic in the root space |
//!
//! In the dialect of RabbitMQ (DOORS rule 2) a topic is the routing key that RabbitMQ makes of it, so `.` cuts levels as `/`
//! does and `%` means nothing; `.` and `/` inside a level of another protocol are both shown as `/`. Such names do not come
//! back, and are counted. `+` and `#`, which no topic name may hold, are escaped all the same, and `*` stays `*`.

use std::borrow::Cow;

use bytes::Bytes;
use message::{
    Address, Filter, FilterLevel, Kind, LEVELS_MAX, Levels, NAME_LEN_MAX, Name, Pattern, RESERVED,
    escape_level, unescape_level,
};
use session::Source;

/// What a level of a topic may not show.
const TOPIC_SPECIAL: &[u8] = b"/+#";
/// What the name of a queue may not show: `/` is literal there.
const QUEUE_SPECIAL: &[u8] = b"+#";

/// How topics become levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Each topic is its own list of levels, and comes back.
    #[default]
    Levels,
    /// As RabbitMQ exchanges `/` and `.`.
    RabbitMq,
}

/// How names are read and written by a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// How topics become levels.
    pub dialect: Dialect,
    /// Most levels of a topic or filter.
    pub levels_max: usize,
}

impl Names {
    /// The names of [`Dialect::Levels`].
    #[must_use]
    pub const fn new(levels_max: usize) -> Self {
        let dialect = Dialect::Levels;
        Self {
            dialect,
            levels_max,
        }
    }

    /// A topic's levels, which are compared as they are [MQTT-4.7.3-4]. The text is not copied unless something in it is escaped.
    /// `None` when there are too many levels.
    #[must_use]
    pub fn decode_topic(self, text: &Bytes) -> Option<Levels> {
        let levels = match self.dialect {
            Dialect::RabbitMq if text.contains(&b'.') => Levels::collect(self.split(text)),
            Dialect::Levels if text.contains(&b'%') => Levels::collect(
                self.split(text)
                    .map(|level| unescape_level(level, TOPIC_SPECIAL)),
            ),
            _ => Levels::split(text.clone(), b'/'),
        };
        levels.filter(|levels| levels.len() <= self.levels_max)
    }

    fn split(self, text: &[u8]) -> impl Iterator<Item = &[u8]> {
        text.split(move |b| *b == b'/' || (*b == b'.' && self.dialect == Dialect::RabbitMq))
    }

    /// The text that a client published to, if it is the topic as it stands, in ASCII: what nearly every topic is.
    pub(crate) fn plain_topic(self, levels: &Levels) -> Option<&[u8]> {
        if self.dialect != Dialect::Levels {
            return None;
        }
        let text = levels.joined_by(b'/')?;
        // Each delivery comes here, so all of it is one look at the text, without a branch within.
        let (mut odd, mut separators) = (text.is_empty(), 0);
        for byte in text {
            odd |=
                (*byte == b'%') | (*byte == b'+') | (*byte == b'#') | !(0x01..=0x7f).contains(byte);
            separators += usize::from(*byte == b'/');
        }
        (!odd && separators + 1 == levels.len()).then_some(text)
    }

    /// Appends the topic that has these levels. `false`, and nothing appended: MQTT cannot write it.
    #[must_use]
    pub fn encode_topic(self, levels: &Levels, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if let Some(text) = self.plain_topic(levels) {
            out.extend_from_slice(text);
            return true;
        }
        for (at, level) in levels.iter().enumerate() {
            if at > 0 {
                out.push(b'/');
            }
            match self.dialect {
                Dialect::Levels => out.extend_from_slice(&escape_level(level, TOPIC_SPECIAL)),
                Dialect::RabbitMq => {
                    let from = out.len();
                    out.extend_from_slice(&escape_level(level, QUEUE_SPECIAL));
                    for byte in &mut out[from..] {
                        if *byte == b'.' {
                            *byte = b'/';
                        }
                    }
                }
            }
        }
        keep_if_text(out, start)
    }

    /// Whether a topic of this text, as a client published it, is shown to it with another text.
    #[must_use]
    pub fn is_ambiguous_topic(self, text: &[u8]) -> bool {
        self.dialect == Dialect::RabbitMq && text.contains(&b'.')
    }

    /// Whether these levels are shown as a topic that names others.
    #[must_use]
    pub fn is_ambiguous(self, levels: &Levels) -> bool {
        let lost = |byte: &u8| matches!(byte, b'.' | b'/' | b'+' | b'#');
        self.dialect == Dialect::RabbitMq && levels.iter().any(|level| level.iter().any(lost))
    }

    /// Appends the topic name under which a message with this address is shown. `false`: MQTT cannot write it.
    #[must_use]
    pub fn encode_address(self, address: &Address, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        match address.kind {
            // A message from another exchange reaches topic subscribers by its key.
            Kind::Topic | Kind::Exchange => return self.encode_topic(&address.key, out),
            Kind::Queue => {
                if address.name.is_empty() {
                    return false;
                }
                out.extend_from_slice(b"$queue/");
                out.extend_from_slice(&escape_level(&address.name, QUEUE_SPECIAL));
            }
            Kind::Stream => {
                out.extend_from_slice(b"$stream/");
                out.extend_from_slice(&escape_level(&address.name, TOPIC_SPECIAL));
                if let Some(key) = address.key.level(0) {
                    out.push(b'/');
                    out.extend_from_slice(&escape_level(key, QUEUE_SPECIAL));
                }
            }
        }
        keep_if_text(out, start)
    }

    /// What `text`, a topic name without wildcards, names.
    pub fn subject(self, text: &Bytes) -> Result<Subject, SubjectError> {
        if text.first() == Some(&b'$') {
            let (first, rest) = split_level(text);
            match first {
                b"$queue" => {
                    let rest = rest.filter(|rest| !rest.is_empty());
                    return rest
                        .map(|rest| Subject::Queue(unescaped(&text.slice_ref(rest), QUEUE_SPECIAL)))
                        .ok_or(SubjectError::Reserved);
                }
                b"$stream" => {
                    let (name, key) = split_level(rest.unwrap_or_default());
                    if name.is_empty() {
                        return Err(SubjectError::Reserved);
                    }
                    let name = unescaped(&text.slice_ref(name), TOPIC_SPECIAL);
                    let key = key.map_or_else(Levels::none, |key| {
                        Levels::one(unescaped(&text.slice_ref(key), QUEUE_SPECIAL))
                    });
                    return Ok(Subject::Stream(name, key));
                }
                _ => {}
            }
        }
        let levels = self.decode_topic(text).ok_or(SubjectError::Bounds)?;
        // Judged by the levels, so that no spelling of them gets past. Mosquitto's bridges say under $SYS whether they are
        // connected.
        if levels
            .level(0)
            .is_some_and(|first| RESERVED.contains(&first))
            && !is_bridge_state(text)
        {
            return Err(SubjectError::Reserved);
        }
        Ok(Subject::Topic(levels))
    }

    /// A filter's levels, with wildcards or without.
    pub fn filter(self, text: &Bytes) -> Result<Filter, FilterError> {
        if text.is_empty() || text.len() > NAME_LEN_MAX {
            return Err(FilterError::Bounds);
        }
        if !text.iter().any(|b| matches!(b, b'+' | b'#')) {
            let levels = self.decode_topic(text);
            return levels.map(Filter::Exact).ok_or(FilterError::Bounds);
        }
        let mut pattern = Vec::new();
        for level in self.split(text) {
            // [MQTT-4.7.1-1]
            if pattern.last() == Some(&FilterLevel::Many) {
                return Err(FilterError::Wildcard);
            }
            pattern.push(match level {
                b"+" => FilterLevel::One,
                b"#" => FilterLevel::Many,
                // [MQTT-4.7.1-2]
                _ if level.iter().any(|b| matches!(b, b'+' | b'#')) => {
                    return Err(FilterError::Wildcard);
                }
                // Copied: a subscription outlives the read buffer.
                _ => FilterLevel::Exact(match self.dialect {
                    Dialect::Levels => {
                        Bytes::copy_from_slice(&unescape_level(level, TOPIC_SPECIAL))
                    }
                    Dialect::RabbitMq => Bytes::copy_from_slice(level),
                }),
            });
            if pattern.len() > self.levels_max {
                return Err(FilterError::Bounds);
            }
        }
        Ok(Filter::Pattern(Pattern(pattern)))
    }

    /// What a filter in SUBSCRIBE or UNSUBSCRIBE reads.
    pub fn source(self, text: &Bytes) -> Result<Source, FilterError> {
        let (first, rest) = split_level(text);
        let wild = |text: &[u8]| text.iter().any(|b| matches!(b, b'+' | b'#'));
        match first {
            b"$share" => {
                // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
                let (group, filter) = split_level(rest.unwrap_or_default());
                let filter = filter.filter(|filter| !filter.is_empty());
                let Some(filter) = filter.filter(|_| !group.is_empty() && !wild(group)) else {
                    return Err(FilterError::Share);
                };
                if matches!(split_level(filter).0, b"$queue" | b"$stream" | b"$share") {
                    return Err(FilterError::ShareOf);
                }
                Ok(Source::Shared {
                    group: Bytes::copy_from_slice(group),
                    filter: self.filter(&text.slice_ref(filter))?,
                })
            }
            b"$queue" => match rest {
                Some(rest) if !rest.is_empty() && !wild(rest) => Ok(Source::Queue {
                    name: Bytes::copy_from_slice(&unescape_level(rest, QUEUE_SPECIAL)),
                    create: true,
                }),
                _ => Err(FilterError::Name),
            },
            b"$stream" => {
                let (name, key) = split_level(rest.unwrap_or_default());
                if name.is_empty() || wild(name) || !matches!(key, None | Some(b"#")) {
                    return Err(FilterError::Name);
                }
                Ok(Source::Stream {
                    name: Bytes::copy_from_slice(&unescape_level(name, TOPIC_SPECIAL)),
                    from: session::StreamStart::Next,
                    group: None,
                })
            }
            _ => self.filter(text).map(|filter| Source::Topic { filter }),
        }
    }
}

/// As [`Names::decode_topic`], of the default dialect and without a limit of its own.
#[must_use]
pub fn decode_topic(text: &Bytes) -> Option<Levels> {
    Names::new(LEVELS_MAX).decode_topic(text)
}

/// As [`Names::encode_topic`], of the default dialect.
#[must_use]
pub fn encode_topic(levels: &Levels, out: &mut Vec<u8>) -> bool {
    Names::new(LEVELS_MAX).encode_topic(levels, out)
}

/// As [`Names::encode_address`], of the default dialect.
#[must_use]
pub fn encode_address(address: &Address, out: &mut Vec<u8>) -> bool {
    Names::new(LEVELS_MAX).encode_address(address, out)
}

/// As [`Names::filter`], of the default dialect.
pub fn decode_filter(text: &Bytes, levels_max: usize) -> Result<Filter, FilterError> {
    Names::new(levels_max).filter(text)
}

/// As [`Names::source`], of the default dialect.
pub fn decode_source(text: &Bytes, levels_max: usize) -> Result<Source, FilterError> {
    Names::new(levels_max).source(text)
}

/// Takes back what was appended unless it is a text that MQTT can write (1.5.4) and not empty [MQTT-4.7.3-1].
fn keep_if_text(out: &mut Vec<u8>, start: usize) -> bool {
    let text = &out[start..];
    let good = !text.is_empty()
        && text.len() <= 65_535
        && !text.contains(&0)
        && std::str::from_utf8(text).is_ok();
    if !good {
        out.truncate(start);
    }
    good
}

/// Why nothing can be published under a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// A reserved first level (DOORS rule 5).
    #[error("topic names starting with this level are reserved")]
    Reserved,
    /// Too many levels, or a name that is too long or empty.
    #[error("topic name has too many levels or an empty name")]
    Bounds,
}

/// What a topic name names, without the virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A topic in the root space.
    Topic(Levels),
    /// A queue.
    Queue(Name),
    /// A stream and the partition key, as one level or none.
    Stream(Name, Levels),
}

impl Subject {
    /// As [`Names::subject`], of the default dialect.
    pub fn decode(text: &Bytes, levels_max: usize) -> Result<Self, SubjectError> {
        Names::new(levels_max).subject(text)
    }

    /// The address in a virtual host.
    #[must_use]
    pub fn into_address(self, vhost: message::VhostId) -> Address {
        match self {
            Self::Topic(levels) => Address::topic(vhost, levels),
            Self::Queue(name) => Address::queue(vhost, name),
            Self::Stream(name, key) => Address::stream(vhost, name, key),
        }
    }
}

/// `$SYS/broker/connection/NAME/state` (DOORS rule 5).
fn is_bridge_state(text: &[u8]) -> bool {
    let levels: Vec<&[u8]> = text.split(|b| *b == b'/').take(6).collect();
    matches!(levels[..], [b"$SYS", b"broker", b"connection", _, b"state"])
}

fn unescaped(text: &Bytes, special: &[u8]) -> Bytes {
    match unescape_level(text, special) {
        Cow::Borrowed(_) => text.clone(),
        Cow::Owned(text) => Bytes::from(text),
    }
}

/// The text before the first `/`, and after it.
fn split_level(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|b| *b == b'/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// Why a topic filter is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// `#` not at the end, or a wildcard that shares its level.
    #[error("a wildcard must stand alone in its level, and # at the end")]
    Wildcard,
    /// Empty, or more levels than the limit.
    #[error("topic filter is empty or has too many levels")]
    Bounds,
    /// `$share` without group or filter, or with a wildcard in the group.
    #[error("a shared subscription is $share/GROUP/FILTER, with a group without wildcards")]
    Share,
    /// `$share` of something that is not a topic.
    #[error("only topics have shared subscriptions")]
    ShareOf,
    /// `$queue` or `$stream` with a wildcard or without a name.
    #[error("queues and streams are named without wildcards")]
    Name,
}

/// Appends the text of a filter. `false`: MQTT cannot write it (`#` before the end, a selector, headers, no level).
#[must_use]
pub fn encode_filter(filter: &Filter, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    match filter {
        Filter::Exact(levels) => return encode_topic(levels, out),
        Filter::Pattern(Pattern(levels)) => {
            for (at, level) in levels.iter().enumerate() {
                if at > 0 {
                    out.push(b'/');
                }
                match level {
                    FilterLevel::Exact(text) => {
                        out.extend_from_slice(&escape_level(text, TOPIC_SPECIAL));
                    }
                    FilterLevel::One => out.push(b'+'),
                    FilterLevel::Many if at + 1 == levels.len() => out.push(b'#'),
                    FilterLevel::Many => {
                        out.truncate(start);
                        return false;
                    }
                }
            }
        }
        Filter::All => out.push(b'#'),
        Filter::Selected { .. } | Filter::Headers { .. } => return false,
    }
    keep_if_text(out, start)
}
