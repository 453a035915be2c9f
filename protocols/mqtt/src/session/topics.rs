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
        None => rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte))),
    };
    // The upper bits are the better ones.
    (hash >> 32) as u32 | 1
}

const fn place(hash: u32) -> usize {
    hash as usize >> 8 & (SLOTS - 1)
}
