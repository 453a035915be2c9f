//! Snapshots taken apart: what is in them of each object.

use std::collections::{BTreeMap, BTreeSet};

use broker::{Broker, Effect};
use message::{Reader, StoredId};

use super::encoded;

/// An object's section: its number and what the object is known by.
pub(crate) type Key = (u64, Vec<u8>);

/// Sections of objects: an exchange, a queue, a binding, what is retained in a place, a client session.
const OBJECTS: [u64; 5] = [3, 4, 5, 6, CLIENT];
const CLIENT: u64 = 7;
const LARGE: u64 = 8;
const EXTRA: u64 = 9;
const PREPARED: u64 = 10;

/// A field of a value that consists of fields; nothing if it is unset.
fn field(value: &[u8], wanted: u64) -> Vec<u8> {
    let mut reader = Reader::new(value.to_vec().into());
    loop {
        let number = reader.u64().expect("a field");
        if number == 0 {
            return Vec::new();
        }
        let part = reader.bytes().expect("a field's value");
        if number == wanted {
            return part.to_vec();
        }
    }
}

fn key(number: u64, value: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(value.to_vec().into());
    match number {
        3 => {
            reader.u64().expect("a virtual host");
            reader.bytes().expect("a name");
        }
        4 => return field(&field(value, 1), 1),
        6 => {
            reader.u64().expect("a virtual host");
            message::read_levels(&mut reader).expect("a place");
        }
        CLIENT => return field(value, 1),
        LARGE | EXTRA => {
            reader.u64().expect("a message");
        }
        _ => return value.to_vec(),
    }
    value[..value.len() - reader.rest().len()].to_vec()
}

/// All sections of a core's snapshot but the numbers at its front.
pub(crate) fn sections(broker: &Broker) -> BTreeMap<Key, Vec<u8>> {
    const START: usize = "BASCORE".len() + 1;
    let bytes = encoded(broker);
    let mut reader = Reader::new(bytes[START..].to_vec().into());
    let mut sections = BTreeMap::new();
    loop {
        let number = reader.u64().expect("a section");
        if number == 0 {
            return sections;
        }
        let value = reader.bytes().expect("a section's value").to_vec();
        if number > 1 {
            sections.insert((number, key(number, &value)), value);
        }
    }
}

/// Whether it is a client session, or the queue of one.
fn is_clients(key: &Key, value: &[u8]) -> bool {
    key.0 == CLIENT || key.0 == 4 && !field(&field(value, 1), 5).is_empty()
}

/// Objects that the records between two states did not touch are in `left` what they are in `whole`. `all`: nothing was passed over, so
/// that those which came later are, too, and client sessions with their queues, which may read out of a queue that is lost.
pub(crate) fn differences(
    (before, behind): (&Broker, &Broker),
    (whole, left): (&Broker, &Broker),
    all: bool,
) -> Vec<Key> {
    let (before, behind) = (sections(before), sections(behind));
    let (whole, left) = (sections(whole), sections(left));
    let is_prepared = |(key, _): &(&Key, &Vec<u8>)| key.0 == PREPARED;
    if !before
        .iter()
        .filter(is_prepared)
        .eq(behind.iter().filter(is_prepared))
    {
        // What a transaction that goes on does touch is not known.
        return Vec::new();
    }
    let keys: BTreeSet<&Key> = whole.keys().chain(left.keys()).collect();
    let is_untouched = |key: &&&Key| {
        OBJECTS.contains(&key.0)
            && before.get(**key) == behind.get(**key)
            && (all
                || before
                    .get(**key)
                    .is_some_and(|value| !is_clients(key, value)))
    };
    keys.iter()
        .filter(is_untouched)
        .filter(|key| whole.get(**key) != left.get(**key))
        .map(|key| (*key).clone())
        .collect()
}

/// What is counted of messages is what refers to them, and so is what a replay told of its references.
pub(crate) fn check_counts(broker: &Broker, effects: &[Effect]) -> Result<(), String> {
    let mut refs: BTreeMap<StoredId, i64> = BTreeMap::new();
    broker.for_each_stored(|id| *refs.entry(id).or_default() += 1);
    let mut told: BTreeMap<StoredId, i64> = BTreeMap::new();
    for effect in effects {
        let (id, by) = match effect {
            Effect::Ref(id) => (*id, 1),
            Effect::Unref(id) => (*id, -1),
            _ => continue,
        };
        let count = told.entry(id).or_default();
        *count += by;
        if *count < 0 {
            return Err(format!("a reference to {id:?} is given back twice"));
        }
    }
    told.retain(|_, count| *count > 0);
    if told != refs {
        return Err(format!("{told:?} are told, {refs:?} are there"));
    }
    for ((number, id), value) in &sections(broker) {
        let mut reader = Reader::new(id.clone().into());
        let rest = &value[id.len()..];
        let count = match *number {
            LARGE => field(rest, 1),
            EXTRA => rest.to_vec(),
            _ => continue,
        };
        let id = StoredId(reader.u64().expect("a message"));
        let count = Reader::new(count.into()).u64().unwrap_or(0) as i64;
        let known = refs.get(&id).copied().unwrap_or(0);
        if count == 0 || count > known || (*number == LARGE && count != known) {
            return Err(format!("{count} are counted of {id:?}, {known} are there"));
        }
    }
    Ok(())
}
