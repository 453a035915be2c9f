//! Destinations to addresses and back.
//!
//! | destination | what it names |
//! |---|---|
//! | `/queue/NAME` | the queue, else the stream of that name, else a queue that is made on first SEND or SUBSCRIBE |
//! | `/amq/queue/NAME`, `/reply-queue/NAME` | a queue that exists |
//! | `/topic/KEY` | a topic in the root space (`amq.topic`) |
//! | `/exchange/NAME`, `/exchange/NAME/KEY` | an exchange and a routing key |
//! | `/temp-queue/NAME` | a queue of this connection, by a name that only it knows |
//! | `/temp-topic/NAME` | a topic of this connection, likewise |
//! | `/remote-temp-queue/NAME`, `/remote-temp-topic/NAME` | the same of another connection, by the name it was given (ActiveMQ) |
//!
//! A queue or exchange name is one opaque level. In a queue name `/` may stand for itself; `%2F` is read as `/` and is
//! what we write. In an exchange name `/` ends the name, so it must be written `%2F`. A key is cut into levels at `.` and
//! at `/`; we write `.`. A level that holds one of them shows `%2E` or `%2F` (see [`message::escape_level`]).
//!
//! In the dialect of RabbitMQ a level that holds `.` is shown as it is, and `%2E` means nothing: such a name is read back as
//! two levels, and is counted.
//!
//! In a SUBSCRIBE a level that is `*` is any one level and `#` any number of levels; in the dialect of ActiveMQ `>` at
//! the end is the same as `#`. A level that really is `*` or `#` can be published to, but not be named in a SUBSCRIBE.

use std::borrow::Cow;

use bytes::Bytes;
use message::{
    Address, FilterLevel, Kind, LEVELS_MAX, Levels, NAME_LEN_MAX, Name, Pattern, RESERVED, VhostId,
    escape_level, unescape_level,
};

use crate::Dialect;

/// What cuts a key into levels.
const IN_KEY: &[u8] = b"./";
/// What a name may not show.
const IN_NAME: &[u8] = b"/";
/// The first level of temporary topics.
const TEMPORARY: &[u8] = b"$temp-topic";
/// How each destination of several starts.
const PREFIXES: [&[u8]; 10] = [
    b"/queue/",
    b"/topic/",
    b"/exchange/",
    b"/stream/",
    b"/amq/queue/",
    b"/reply-queue/",
    b"/temp-",
    b"/remote-temp-",
    b"queue://",
    b"topic://",
];

/// A destination as a frame names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A queue.
    Queue {
        /// Its name.
        name: Name,
        /// Make it when there is none.
        create: bool,
    },
    /// A topic or a pattern in the root space, as text.
    Topic(Bytes),
    /// An exchange.
    Exchange {
        /// Its name.
        name: Name,
        /// The key as text, possibly empty.
        key: Bytes,
    },
    /// A stream.
    Stream(Name),
    /// A temporary queue or topic.
    Temporary(Temporary),
}

/// A temporary queue or topic of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Temporary {
    /// It is a topic.
    pub topic: bool,
    /// The connection's own name for it.
    pub name: Bytes,
}

/// Why a text is no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// None of the known prefixes.
    #[error(
        "a destination starts with /queue/, /topic/, /exchange/, /stream/, /amq/queue/, /reply-queue/, /temp-queue/, /temp-topic/, /remote-temp-queue/ or /remote-temp-topic/"
    )]
    Unknown,
    /// Nothing behind the prefix.
    #[error("the name is empty")]
    Empty,
    /// Several destinations at once.
    #[error("several destinations in one are not implemented")]
    Composite,
    /// Too long, or too many levels.
    #[error("the name is too long or has too many levels")]
    TooLong,
    /// A reserved name.
    #[error("names that start with $queue, $stream, $share, $SYS and $topic are reserved")]
    Reserved,
}

impl DestinationError {
    /// Understood, and not built.
    #[must_use]
    pub const fn is_not_built(self) -> bool {
        matches!(self, Self::Composite)
    }
}

fn name(text: Bytes) -> Result<Name, DestinationError> {
    let name = match unescape_level(&text, IN_NAME) {
        Cow::Borrowed(_) => text,
        Cow::Owned(name) => Bytes::from(name),
    };
    match name.len() {
        0 => Err(DestinationError::Empty),
        1..=NAME_LEN_MAX => Ok(name),
        _ => Err(DestinationError::TooLong),
    }
}

impl Destination {
    /// Reads a destination.
    pub fn parse(text: &Bytes) -> Result<Self, DestinationError> {
        let after = |prefix: &str| {
            text.strip_prefix(prefix.as_bytes())
                .map(|r| text.slice_ref(r))
        };
        if text.contains(&b',') && parts(text).nth(1).is_some() {
            return Err(DestinationError::Composite);
        }
        if let Some(rest) = after("/queue/") {
            if rest.starts_with(b"$topic/") {
                return Err(DestinationError::Reserved);
            }
            let name = name(rest)?;
            return Ok(Self::Queue { name, create: true });
        }
        if let Some(rest) = after("/topic/") {
            return if rest.is_empty() {
                Err(DestinationError::Empty)
            } else {
                Ok(Self::Topic(rest))
            };
        }
        let existing = ["/amq/queue/", "/reply-queue/", "/remote-temp-queue/"];
        if let Some(rest) = existing.iter().find_map(|prefix| after(prefix)) {
            let name = name(rest)?;
            return Ok(Self::Queue {
                name,
                create: false,
            });
        }
        if let Some(rest) = after("/exchange/") {
            let end = rest.iter().position(|byte| *byte == b'/');
            let key = end.map_or_else(Bytes::new, |end| rest.slice(end + 1..));
            let name = name(rest.slice(..end.unwrap_or(rest.len())))?;
            return if name == "amq.topic" {
                Ok(Self::Topic(key))
            } else {
                Ok(Self::Exchange { name, key })
            };
        }
        for (prefix, topic) in [("/temp-queue/", false), ("/temp-topic/", true)] {
            if let Some(name) = after(prefix) {
                return if name.is_empty() {
                    Err(DestinationError::Empty)
                } else {
                    Ok(Self::Temporary(Temporary { topic, name }))
                };
            }
        }
        if let Some(rest) = after("/remote-temp-topic/") {
            return Ok(Self::Topic(temporary_topic(&name(rest)?)));
        }
        if let Some(rest) = after("/stream/") {
            return name(rest).map(Self::Stream);
        }
        Err(DestinationError::Unknown)
    }
}

/// The key of the temporary topic that goes by that name: a first level that no leading wildcard matches, and the name.
#[must_use]
pub fn temporary_topic(name: &Name) -> Bytes {
    [TEMPORARY, b".", &escape_level(name, IN_KEY)]
        .concat()
        .into()
}

/// Cuts a text that names several destinations, ActiveMQ's way: at each comma with another destination behind it. A comma
/// alone may be a part of a name.
pub fn parts(text: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = Some(text.clone());
    std::iter::from_fn(move || {
        let mut part = rest.take()?;
        let comma = part
            .iter()
            .enumerate()
            .find(|(at, byte)| {
                let behind = &part[at + 1..];
                **byte == b',' && PREFIXES.iter().any(|prefix| behind.starts_with(prefix))
            })
            .map(|(at, _)| at);
        if let Some(at) = comma {
            rest = Some(part.split_off(at).slice(1..));
        }
        Some(part)
    })
}

/// What a level of a key may not show.
const fn escaped(dialect: Dialect) -> &'static [u8] {
    match dialect {
        Dialect::Both | Dialect::ActiveMq => IN_KEY,
        Dialect::RabbitMq => b"/",
    }
}

/// The levels of a key. Empty text is no level.
pub fn levels(key: &Bytes, dialect: Dialect) -> Result<Levels, DestinationError> {
    if key.is_empty() {
        return Ok(Levels::none());
    }
    let levels = match (key.contains(&b'.'), key.contains(&b'/')) {
        _ if key.contains(&b'%') => {
            Levels::collect(split(key).map(|l| unescape_level(l, escaped(dialect))))
        }
        (_, false) => Levels::split(key.clone(), b'.'),
        (false, true) => Levels::split(key.clone(), b'/'),
        (true, true) => Levels::collect(split(key)),
    };
    levels.ok_or(DestinationError::TooLong)
}

/// The levels of a topic to publish to in the root space.
pub fn topic_levels(key: &Bytes, dialect: Dialect) -> Result<Levels, DestinationError> {
    let levels = levels(key, dialect)?;
    if levels
        .level(0)
        .is_some_and(|first| RESERVED.contains(&first))
    {
        return Err(DestinationError::Reserved);
    }
    Ok(levels)
}

/// The pattern that a SUBSCRIBE names.
pub fn pattern(key: &Bytes, dialect: Dialect) -> Result<Pattern, DestinationError> {
    if key.len() > NAME_LEN_MAX {
        return Err(DestinationError::TooLong);
    }
    let mut pattern = Vec::new();
    if !key.is_empty() {
        for level in split(key) {
            pattern.push(match level {
                b"*" => FilterLevel::One,
                b"#" => FilterLevel::Many,
                level => FilterLevel::Exact(match unescape_level(level, escaped(dialect)) {
                    Cow::Borrowed(_) => key.slice_ref(level),
                    Cow::Owned(level) => Bytes::from(level),
                }),
            });
        }
        if dialect == Dialect::ActiveMq && pattern.last() == Some(&exact(b">")) {
            pattern.pop();
            pattern.push(FilterLevel::Many);
        }
    }
    if pattern.len() > LEVELS_MAX {
        return Err(DestinationError::TooLong);
    }
    Ok(Pattern(pattern))
}

const fn exact(level: &'static [u8]) -> FilterLevel {
    FilterLevel::Exact(Bytes::from_static(level))
}

fn split(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| IN_KEY.contains(byte))
}

/// Appends the text of a key. `false`: STOMP cannot write it (not UTF-8, or NUL in it).
fn put_key(levels: &Levels, dialect: Dialect, text: &mut Vec<u8>) -> bool {
    for (at, level) in levels.iter().enumerate() {
        if at > 0 {
            text.push(b'.');
        }
        if !writable(level) {
            return false;
        }
        text.extend_from_slice(&escape_level(level, escaped(dialect)));
    }
    true
}

/// The text of a key, or `None` when STOMP cannot write it: not UTF-8, or NUL in it.
#[must_use]
pub fn key_text(levels: &Levels, dialect: Dialect) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(levels.bytes_len() + levels.len());
    put_key(levels, dialect, &mut text).then_some(text)
}

/// Whether the text of that address is read back as another one.
#[must_use]
pub fn is_ambiguous(address: &Address, dialect: Dialect) -> bool {
    dialect == Dialect::RabbitMq && address.key.iter().any(|level| level.contains(&b'.'))
}

fn writable(text: &[u8]) -> bool {
    !text.contains(&0) && std::str::from_utf8(text).is_ok()
}

fn put_name(prefix: &str, name: &[u8], text: &mut Vec<u8>) -> bool {
    text.extend_from_slice(prefix.as_bytes());
    text.extend_from_slice(&escape_level(name, IN_NAME));
    !name.is_empty() && writable(name)
}

/// Appends the destination of a MESSAGE from that address. `false`: STOMP cannot write its name, and what was appended
/// means nothing.
#[must_use]
pub fn put_destination(address: &Address, dialect: Dialect, text: &mut Vec<u8>) -> bool {
    match address.kind {
        Kind::Queue => put_name("/queue/", &address.name, text),
        Kind::Topic => {
            text.extend_from_slice(b"/topic/");
            let before = text.len();
            put_key(&address.key, dialect, text) && text.len() > before
        }
        Kind::Exchange => {
            let named = put_name("/exchange/", &address.name, text);
            if !address.key.is_empty() {
                text.push(b'/');
            }
            named && put_key(&address.key, dialect, text)
        }
        Kind::Stream => put_name("/stream/", &address.name, text),
    }
}

/// The destination of a MESSAGE from that address, or `None` when STOMP cannot write its name.
#[must_use]
pub fn destination_text(address: &Address, dialect: Dialect) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    put_destination(address, dialect, &mut text).then_some(text)
}

/// The `reply-to` of a MESSAGE: as a destination, but a queue is one that must exist. ActiveMQ's clients are shown queues
/// as such, and those with names made up by the core as temporary queues, which is what they make them for.
#[must_use]
pub fn reply_to_text(address: &Address, dialect: Dialect) -> Option<Vec<u8>> {
    match address.kind {
        Kind::Queue => {
            let mut text = Vec::new();
            let prefix = match dialect {
                Dialect::ActiveMq if address.name.starts_with(b"amq.gen-") => "/remote-temp-queue/",
                Dialect::ActiveMq => "/queue/",
                Dialect::Both | Dialect::RabbitMq => "/reply-queue/",
            };
            put_name(prefix, &address.name, &mut text).then_some(text)
        }
        Kind::Topic | Kind::Exchange | Kind::Stream => destination_text(address, dialect),
    }
}

/// The address that a destination names for a publisher. `None` for a temporary queue, which only the session knows.
pub fn address(
    destination: Destination,
    vhost: VhostId,
    dialect: Dialect,
) -> Result<Option<(Address, bool)>, DestinationError> {
    Ok(Some(match destination {
        Destination::Queue { name, create } => (Address::queue(vhost, name), create),
        Destination::Topic(key) => (Address::topic(vhost, topic_levels(&key, dialect)?), false),
        Destination::Exchange { name, key } => (
            Address::exchange(vhost, name, levels(&key, dialect)?),
            false,
        ),
        Destination::Stream(name) => (Address::stream(vhost, name, Levels::none()), false),
        Destination::Temporary(_) => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &'static str) -> Result<Destination, DestinationError> {
        Destination::parse(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn doors_a1_a_queue_name_is_one_opaque_level() {
        for text in ["/queue/a/b.c", "/queue/a%2Fb.c"] {
            let create = true;
            let name = Bytes::from_static(b"a/b.c");
            assert_eq!(parse(text), Ok(Destination::Queue { name, create }));
        }
        let address = Address::queue(VhostId::ROOT, "a/b.c");
        assert_eq!(
            destination_text(&address, Dialect::Both).expect("text"),
            b"/queue/a%2Fb.c"
        );
        for (dialect, text) in [
            (Dialect::Both, "/reply-queue/a%2Fb.c"),
            (Dialect::RabbitMq, "/reply-queue/a%2Fb.c"),
            (Dialect::ActiveMq, "/queue/a%2Fb.c"),
        ] {
            let shown = reply_to_text(&address, dialect).expect("text");
            assert_eq!(shown, text.as_bytes());
        }
        let made_up = Address::queue(VhostId::ROOT, "amq.gen-7");
        let shown = reply_to_text(&made_up, Dialect::ActiveMq).expect("text");
        assert_eq!(shown, b"/remote-temp-queue/amq.gen-7");
    }

    #[test]
    fn temporary_destinations_have_names_for_others() {
        let queue = Destination::Queue {
            name: Bytes::from_static(b"amq.gen-7"),
            create: false,
        };
        assert_eq!(parse("/remote-temp-queue/amq.gen-7"), Ok(queue));
        let key = Bytes::from_static(b"$temp-topic.amq%2Egen-7");
        assert_eq!(temporary_topic(&Bytes::from_static(b"amq.gen-7")), key);
        assert_eq!(
            parse("/remote-temp-topic/amq.gen-7"),
            Ok(Destination::Topic(key.clone()))
        );
        let levels = topic_levels(&key, Dialect::Both).expect("levels");
        let expected = Levels::collect(["$temp-topic", "amq.gen-7"]);
        assert_eq!(Some(levels), expected);
    }

    #[test]
    fn a_comma_separates_when_a_destination_is_behind_it() {
        let cut = |text: &'static str| -> Vec<Bytes> {
            parts(&Bytes::from_static(text.as_bytes())).collect()
        };
        assert_eq!(cut("/queue/a,b,"), ["/queue/a,b,"]);
        assert_eq!(
            cut("/queue/a,x,/topic/b,/exchange/c/d,queue://e"),
            ["/queue/a,x", "/topic/b", "/exchange/c/d", "queue://e"]
        );
    }

    #[test]
    fn doors_a1_both_separators_cut_a_topic_into_levels() {
        for text in ["a.b.c", "a/b/c", "a/b.c"] {
            let levels =
                levels(&Bytes::from_static(text.as_bytes()), Dialect::Both).expect("levels");
            assert_eq!(levels, Levels::collect(["a", "b", "c"]).expect("levels"));
        }
    }

    #[test]
    fn doors_a5_reserved_first_levels_are_refused() {
        for text in ["$SYS/broker", "$queue.x", "$share", "$stream/x", "$topic"] {
            let key = Bytes::from_static(text.as_bytes());
            assert_eq!(
                topic_levels(&key, Dialect::Both),
                Err(DestinationError::Reserved)
            );
        }
        assert!(topic_levels(&Bytes::from_static(b"$other/x"), Dialect::Both).is_ok());
    }

    #[test]
    fn the_wildcards_of_each_dialect() {
        use FilterLevel::{Many, One};
        let key = Bytes::from_static(b"a.*.#");
        let both = pattern(&key, Dialect::Both).expect("pattern");
        assert_eq!(both.0, [exact(b"a"), One, Many]);
        let key = Bytes::from_static(b"a.>");
        let both = pattern(&key, Dialect::Both).expect("pattern");
        assert_eq!(both.0, [exact(b"a"), exact(b">")]);
        let activemq = pattern(&key, Dialect::ActiveMq).expect("pattern");
        assert_eq!(activemq.0, [exact(b"a"), Many]);
    }

    #[test]
    fn what_is_no_destination() {
        for (text, error) in [
            ("jobs", DestinationError::Unknown),
            ("/queue/", DestinationError::Empty),
            ("/topic/", DestinationError::Empty),
            ("/exchange/", DestinationError::Empty),
            ("/exchange//key", DestinationError::Empty),
            ("/temp-queue/", DestinationError::Empty),
            ("/queue/a,/queue/b", DestinationError::Composite),
            ("/queue/$topic/a", DestinationError::Reserved),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert!(parse("/queue/a,b").is_ok());
    }

    #[test]
    fn doors_a2_rabbitmq_shows_dots_as_they_are() {
        let dialect = Dialect::RabbitMq;
        let read = |text: &'static str| {
            levels(&Bytes::from_static(text.as_bytes()), dialect).expect("short")
        };
        let of = |levels: &[&str]| Levels::collect(levels).expect("short");
        for (text, names) in [
            ("a.b", &["a", "b"][..]),
            ("a%2Eb", &["a%2Eb"]),
            ("a%2Fb.c", &["a/b", "c"]),
        ] {
            assert_eq!(read(text), of(names));
            let topic = Address::topic(VhostId::ROOT, of(names));
            let shown = destination_text(&topic, dialect).expect("text");
            assert_eq!(shown, ["/topic/", text].concat().as_bytes());
            assert!(!is_ambiguous(&topic, dialect));
        }
        let lost = Address::topic(VhostId::ROOT, of(&["a.b", "c"]));
        let shown = destination_text(&lost, dialect).expect("text");
        assert_eq!(shown, b"/topic/a.b.c");
        assert!(is_ambiguous(&lost, dialect) && !is_ambiguous(&lost, Dialect::Both));
        let key = Bytes::from_static(b"a%2Eb.*");
        let pattern = pattern(&key, dialect).expect("short");
        assert_eq!(pattern.0[0], exact(b"a%2Eb"));
    }

    fn level() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                Just("%".to_owned()),
                Just("2".to_owned()),
                Just("5".to_owned()),
                Just("E".to_owned()),
                Just("F".to_owned()),
                Just(".".to_owned()),
                Just("/".to_owned()),
                "[a-zé*#>: ]",
            ],
            0..6,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn doors_a2_levels_to_text_and_back(names in proptest::collection::vec(level(), 1..5)) {
            let topic = Levels::collect(&names).expect("short");
            let text = key_text(&topic, Dialect::Both).expect("UTF-8");
            prop_assume!(!text.is_empty());
            prop_assert_eq!(levels(&Bytes::from(text), Dialect::Both).expect("short"), topic);
        }

        #[test]
        fn doors_a2_text_to_levels_and_back(text in level()) {
            let text = text.replace('/', ".");
            prop_assume!(!text.is_empty());
            let topic = levels(&Bytes::from(text.clone()), Dialect::Both).expect("short");
            prop_assert_eq!(key_text(&topic, Dialect::Both).expect("UTF-8"), text.into_bytes());
        }

        #[test]
        fn doors_a2_names_to_text_and_back(queue in level(), exchange in level(), key in level()) {
            prop_assume!(!queue.is_empty() && !exchange.is_empty() && !key.is_empty());
            prop_assume!(exchange != "amq.topic");
            let key = levels(&Bytes::from(key), Dialect::Both).expect("short");
            for address in [
                Address::queue(VhostId::ROOT, queue),
                Address::exchange(VhostId::ROOT, exchange, key),
            ] {
                let text = Bytes::from(destination_text(&address, Dialect::Both).expect("UTF-8"));
                let parsed = Destination::parse(&text).expect("a destination");
                let (back, _) = super::address(parsed, VhostId::ROOT, Dialect::Both).expect("short").expect("not temporary");
                prop_assert_eq!(back, address);
            }
        }
    }
}
