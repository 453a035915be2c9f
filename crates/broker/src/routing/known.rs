//! Routes that were found before: what an address leads to until anything changes that routing looks at.
//!
//! ```text
//! address --hash--> slot { address, round, what it leads to }      right while its round is the one that lasts
//! ```
//! A new round begins with each change that could matter; what an earlier round left is not looked at, and goes when its
//! slot is needed. Only what is the same for every message and every publisher is remembered.
//!
//! Who publishes to one place again and again does so under one shared address, and mostly several times in a row: of the
//! last one that was found that it is this one is seen without a look at what is in it.
//!
//! It is the second time in a row at its slot that an address is remembered: what is published to once, to one place among very many,
//! pushes nobody out, and what it leads to need not be kept.
//!
//! An address is known again in the form in which it came: the same levels cut from another text, as another protocol writes
//! them, have a slot of their own.
//!
//! Nothing depends on what is remembered: a core that has just been rebuilt finds the same again.

use std::{
    cell::{Cell, RefCell},
    hash::Hasher,
    ptr,
    sync::{Arc, Weak},
};

use message::Address;
use rustc_hash::FxHasher;

/// Addresses that are remembered at a time.
const SLOTS: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Known<R> {
    /// Empty until something is to be remembered.
    slots: RefCell<Vec<Option<Slot<R>>>>,
    /// The hash of the address that came last for each slot.
    came: RefCell<Vec<u64>>,
    /// The last one that was found.
    last: RefCell<Option<Last<R>>>,
    round: Cell<u64>,
}

#[derive(Debug)]
struct Last<R> {
    /// Weak, or it might pin the read buffer of who publishes there; and while it is remembered, no other can be in its place.
    address: Weak<Address>,
    round: u64,
    route: Arc<R>,
}

#[derive(Clone, Debug)]
struct Slot<R> {
    address: Address,
    round: u64,
    route: Arc<R>,
}

impl<R> Default for Known<R> {
    fn default() -> Self {
        Self {
            slots: RefCell::default(),
            came: RefCell::default(),
            last: RefCell::default(),
            round: Cell::default(),
        }
    }
}

impl<R: Clone> Known<R> {
    /// Something that routing looks at has changed.
    pub(crate) fn forget(&mut self) {
        *self.round.get_mut() += 1;
    }

    /// What is remembered of an address.
    pub(crate) fn find(&self, address: &Arc<Address>) -> Option<Arc<R>> {
        if let Some(last) = &*self.last.borrow()
            && ptr::eq(last.address.as_ptr(), Arc::as_ptr(address))
            && last.round == self.round.get()
        {
            return Some(Arc::clone(&last.route));
        }
        let route = self.find_equal(address)?;
        // One that nobody else has does not come again.
        if Arc::strong_count(address) > 1 {
            *self.last.borrow_mut() = Some(Last {
                address: Arc::downgrade(address),
                round: self.round.get(),
                route: Arc::clone(&route),
            });
        }
        Some(route)
    }

    fn find_equal(&self, address: &Address) -> Option<Arc<R>> {
        let slots = self.slots.borrow();
        let slot = slots.get(place(hash(address)))?.as_ref()?;
        let at = &slot.address;
        let is_it = slot.round == self.round.get()
            && (at.vhost, at.kind) == (address.vhost, address.kind)
            && at.key.is_same_form(&address.key)
            && at.name == address.name;
        is_it.then(|| Arc::clone(&slot.route))
    }

    /// Remembers what an address leads to, if no other one with its slot came since it did.
    pub(crate) fn add(&self, address: &Address, route: &Arc<R>) {
        let mut came = self.came.borrow_mut();
        let mut slots = self.slots.borrow_mut();
        if slots.is_empty() {
            slots.resize(SLOTS, None);
            came.resize(SLOTS, 0);
        }
        let hash = hash(address);
        let place = place(hash);
        if std::mem::replace(&mut came[place], hash) != hash {
            return;
        }
        slots[place] = Some(Slot {
            // Not the read buffers that it was cut from.
            address: Address {
                name: bytes::Bytes::copy_from_slice(&address.name),
                key: address.key.detached(),
                ..*address
            },
            round: self.round.get(),
            route: Arc::clone(route),
        });
    }
}

fn hash(address: &Address) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u32(address.vhost.0);
    hasher.write(&address.name);
    hasher.write(address.key.text());
    hasher.finish()
}

fn place(hash: u64) -> usize {
    // The upper bits are the better ones.
    (hash >> 32) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use message::{Levels, VhostId};

    fn topic(text: &str) -> Arc<Address> {
        let text = Bytes::copy_from_slice(text.as_bytes());
        let levels = Levels::split(text, b'/').expect("short");
        Arc::new(Address::topic(VhostId::ROOT, levels))
    }

    fn remember<R: Clone>(known: &Known<R>, address: &Address, route: &Arc<R>) {
        known.add(address, route);
        known.add(address, route);
    }

    #[test]
    fn what_comes_once_is_not_remembered_and_pushes_nobody_out() {
        let known = Known::default();
        let often = topic("often");
        known.add(&often, &Arc::new(0));
        assert_eq!(known.find(&often), None);
        known.add(&often, &Arc::new(0));
        for number in 1..=4 * SLOTS {
            let once = topic(&format!("once/{number}"));
            known.add(&once, &Arc::new(number));
            assert_eq!(known.find(&once), None);
            assert_eq!(known.find(&often).as_deref(), Some(&0));
        }
    }

    #[test]
    fn a_route_is_known_until_something_changes_and_never_taken_for_anothers() {
        let mut known = Known::default();
        assert_eq!(known.find(&topic("a/b")), None);
        // More addresses than there are slots: some are forgotten, none is mistaken.
        for number in 0..2 * SLOTS {
            remember(&known, &topic(&format!("a/{number}")), &Arc::new(number));
        }
        let found = |known: &Known<usize>, number| known.find(&topic(&format!("a/{number}")));
        let right = |number| found(&known, number).is_none_or(|it| *it == number);
        assert!((0..2 * SLOTS).all(right));
        let kept = (0..2 * SLOTS).filter(|number| found(&known, *number).is_some());
        assert!((SLOTS / 2..=SLOTS).contains(&kept.count()));

        let key = topic("a/b").key.clone();
        let queue = Arc::new(Address::exchange(VhostId::ROOT, "x", key));
        remember(&known, &queue, &Arc::new(1));
        assert_eq!(known.find(&queue).as_deref(), Some(&1));
        for other in [
            (*topic("a/b")).clone(),
            Address {
                vhost: VhostId(1),
                ..(*queue).clone()
            },
            Address {
                name: Bytes::from_static(b"y"),
                ..(*queue).clone()
            },
            Address {
                key: topic("ab").key.clone(),
                ..(*queue).clone()
            },
        ] {
            assert_eq!(known.find(&Arc::new(other)), None);
        }
        // Equal, but of another form: it is found anew, and has a slot of its own.
        let collected = Arc::new(Address {
            key: queue.key.compact(),
            ..(*queue).clone()
        });
        assert_eq!(collected, queue);
        assert_eq!(known.find(&collected), None);
        remember(&known, &collected, &Arc::new(1));
        assert_eq!(known.find(&collected).as_deref(), Some(&1));
        known.forget();
        assert_eq!(known.find(&queue), None);
        remember(&known, &queue, &Arc::new(2));
        assert_eq!(known.find(&queue).as_deref(), Some(&2));
    }

    #[test]
    fn an_address_that_several_share_is_known_by_itself_until_something_changes_or_it_is_gone() {
        let mut known = Known::default();
        let (here, there) = (topic("a/b"), topic("c"));
        let shares = [Arc::clone(&here), Arc::clone(&there)];
        remember(&known, &here, &Arc::new(1));
        remember(&known, &there, &Arc::new(2));
        for _ in 0..3 {
            assert_eq!(known.find(&here).as_deref(), Some(&1));
            assert_eq!(known.find(&here).as_deref(), Some(&1));
            assert_eq!(known.find(&there).as_deref(), Some(&2));
        }
        known.forget();
        assert_eq!(known.find(&there), None);
        remember(&known, &there, &Arc::new(3));
        assert_eq!(known.find(&there).as_deref(), Some(&3));
        // Nothing else can come to lie where it lay.
        drop((here, there, shares));
        let others: Vec<_> = (0..1000).map(|at| topic(&format!("d/{at}"))).collect();
        assert!(others.iter().all(|other| known.find(other).is_none()));
    }

    #[test]
    fn the_last_address_pins_no_read_buffer() {
        let read = Bytes::from(b"0123a/b6789".to_vec());
        let known = Known::default();
        let levels = Levels::split(read.slice(4..7), b'/').expect("short");
        let address = Arc::new(Address::topic(VhostId::ROOT, levels));
        remember(&known, &address, &Arc::new(1));
        let shared = Arc::clone(&address);
        assert_eq!(known.find(&address).as_deref(), Some(&1));
        drop((address, shared));
        assert!(read.is_unique());
    }
}
