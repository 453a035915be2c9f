//! What the client publishes to: topic names that were checked and split before. Nearly every PUBLISH goes where one before it
//! went, so an equal name costs a comparison and a reference to its address.
//!
//! ```text
//! name --hash--> slot { mark, topic }     a name that finds another mark leaves its own, one that finds its own is kept
//! ```
//! So a name that comes once costs no copy and drives out no other. What is kept is copied, or it would pin read buffers.
//!
//! Deliberately absent: whether the user may publish there. That is asked for each message, and the core's to say.

use std::sync::Arc;

use message::{Address, VhostId};

use crate::{
    codec::Text,
    names::{Names, SubjectError},
};

/// Topics that are kept at a time.
const SLOTS: usize = 8;
/// The longest topic name that is kept for its own sake, in bytes.
const LEN_MAX: usize = 256;

/// What a topic name names.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) address: Arc<Address>,
    /// It is shown with another name (`Names::is_ambiguous_topic`).
    pub(super) ambiguous: bool,
}

/// A topic name that is kept.
#[derive(Debug)]
pub(super) struct Topic {
    text: Text,
    named: Result<Named, SubjectError>,
}

impl Topic {
    pub(super) fn named(&self) -> Result<Named, SubjectError> {
        self.named.clone()
    }
}

/// The topic name of a PUBLISH.
#[derive(Debug)]
pub(super) enum Arrived {
    Known(Arc<Topic>),
    /// Any other, or none, with a topic alias.
    Text(Text),
}

impl Arrived {
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }
}

impl From<Text> for Arrived {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

#[derive(Debug, Default)]
struct Slot {
    /// Of the last name that came here and was not known.
    mark: u32,
    topic: Option<Arc<Topic>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Topics {
    names: Names,
    vhost: VhostId,
    /// None until something is published.
    slots: Option<Box<[Slot; SLOTS]>>,
}

impl Topics {
    pub(super) const fn new(names: Names, vhost: VhostId) -> Self {
        Self {
            names,
            vhost,
            slots: None,
        }
    }

    pub(super) const fn names(&self) -> Names {
        self.names
    }

    /// The topic of that name, if it is kept.
    pub(super) fn find(&self, name: &[u8]) -> Option<Arrived> {
        let slot = &self.slots.as_deref()?[place(hash(name))];
        let topic = slot.topic.as_ref()?;
        (**topic.text.as_bytes() == *name).then(|| Arrived::Known(Arc::clone(topic)))
    }

    /// What a topic names. One that came before is kept.
    pub(super) fn name(&mut self, arrived: Arrived) -> Result<Named, SubjectError> {
        let text = match arrived {
            Arrived::Known(topic) => return topic.named(),
            Arrived::Text(text) => text,
        };
        if text.as_bytes().len() <= LEN_MAX {
            let hash = hash(text.as_bytes());
            let slot = &mut self.slots.get_or_insert_default()[place(hash)];
            if slot.mark == hash {
                let topic = Topic::new(&text, self.names, self.vhost);
                return slot.topic.insert(Arc::new(topic)).named();
            }
            slot.mark = hash;
        }
        name(&text, self.names, self.vhost)
    }

    /// The topic itself, for who keeps it.
    pub(super) fn keep(&self, arrived: Arrived) -> Arc<Topic> {
        match arrived {
            Arrived::Known(topic) => topic,
            Arrived::Text(text) => Arc::new(Topic::new(&text, self.names, self.vhost)),
        }
    }
}

impl Topic {
    fn new(text: &Text, names: Names, vhost: VhostId) -> Self {
        let text = text.copied();
        let named = name(&text, names, vhost);
        Self { text, named }
    }
}

fn name(text: &Text, names: Names, vhost: VhostId) -> Result<Named, SubjectError> {
    Ok(Named {
        address: Arc::new(names.subject(text.as_bytes())?.into_address(vhost)),
        ambiguous: names.is_ambiguous_topic(text.as_bytes()),
    })
}

/// Never 0, which marks nothing.
fn hash(name: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = name.as_chunks::<8>();
    let mut hash = words.iter().fold(name.len() as u64, |hash, word| {
        mix(hash, u64::from_le_bytes(*word))
    });
    hash = match name.last_chunk::<8>() {
        // What is left, and some of what was.
        Some(word) => mix(hash, u64::from_le_bytes(*word)),
        None => rest
            .iter()
            .fold(hash, |hash, byte| mix(hash, u64::from(*byte))),
    };
    // The upper bits are the better ones.
    (hash >> 32) as u32 | 1
}

const fn place(hash: u32) -> usize {
    hash as usize >> 8 & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Dialect;
    use bytes::Bytes;

    fn published(topics: &mut Topics, text: &str) -> (Result<Named, SubjectError>, bool) {
        let arrived = topics.find(text.as_bytes());
        let known = arrived.is_some();
        let arrived = arrived.unwrap_or_else(|| {
            let text = Bytes::copy_from_slice(text.as_bytes());
            Arrived::Text(Text::new(text).expect("a text"))
        });
        (topics.name(arrived), known)
    }

    fn parts(named: Result<Named, SubjectError>) -> Result<(Address, bool), SubjectError> {
        named.map(|it| ((*it.address).clone(), it.ambiguous))
    }

    #[test]
    fn what_is_kept_names_what_it_named_in_whatever_order_names_come() {
        for dialect in [Dialect::Levels, Dialect::RabbitMq] {
            let names = Names {
                dialect,
                levels_max: 8,
            };
            let mut texts = vec![
                "a".to_owned(),
                "a/b.c".into(),
                "a/%2F".into(),
                "$queue/q/r".into(),
                "$queue/".into(),
                "$stream/s/key".into(),
                "$SYS/x".into(),
                "a/a/a/a/a/a/a/a/a".into(),
                "e\u{301}/\u{1f600}".into(),
            ];
            texts.extend((0..40).map(|number| format!("site/{number}/temperature")));
            texts.extend((0..40).map(|number| "x".repeat(number)));
            let mut topics = Topics::new(names, VhostId(7));
            let (mut step, mut hits) = (1_usize, 0);
            for turn in 0..20_000_usize {
                // Runs of one name, names in turn, and none for long.
                step = step.wrapping_mul(25_173).wrapping_add(13_849) % 65_536;
                let text = &texts[match turn / 1000 % 3 {
                    0 => turn / 5 % texts.len(),
                    1 => turn % 6,
                    _ => step % texts.len(),
                }];
                let alone = Text::try_from(text.clone()).expect("a text");
                let expected = parts(name(&alone, names, VhostId(7)));
                let (named, known) = published(&mut topics, text);
                assert_eq!(parts(named), expected, "{text:?} in turn {turn}");
                hits += usize::from(known);
            }
            assert!(hits > 8_000, "only {hits} names were known");
        }
    }

    #[test]
    fn a_name_is_kept_when_it_comes_again_and_takes_bounded_room() {
        let mut topics = Topics::new(Names::new(8), VhostId::ROOT);
        assert!(topics.slots.is_none(), "nothing was published");
        assert!(!published(&mut topics, "a/b").1);
        assert!(!published(&mut topics, "a/b").1);
        let (first, known) = published(&mut topics, "a/b");
        assert!(known);
        let (second, _) = published(&mut topics, "a/b");
        let address = |named: Result<Named, SubjectError>| named.expect("a topic").address;
        assert!(Arc::ptr_eq(&address(first), &address(second)));
        // Names that come once drive out none.
        for number in 0..100 {
            assert!(!published(&mut topics, &format!("once/{number}")).1);
        }
        assert!(published(&mut topics, "a/b").1);
        let long = "l".repeat(LEN_MAX + 1);
        for _ in 0..4 {
            assert!(!published(&mut topics, &long).1, "too long to be kept");
        }
    }

    #[test]
    fn what_is_kept_pins_no_read_buffer() {
        let read = Bytes::from(b"0123a/b6789".to_vec());
        let mut topics = Topics::new(Names::new(8), VhostId::ROOT);
        for _ in 0..2 {
            let text = Text::new(read.slice(4..7)).expect("a text");
            topics.name(Arrived::Text(text)).expect("a topic");
        }
        let Some(Arrived::Known(topic)) = topics.find(b"a/b") else {
            panic!("it came twice");
        };
        drop(topics);
        assert!(read.is_unique(), "{topic:?} holds it");
    }
}
