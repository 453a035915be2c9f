//! The heads of publishes, encoded before the lock was taken, and their bodies, read for filter policies.
//!
//! The messages are held too: one that is dropped within the step would leave its place in memory to another, and the
//! other would be journaled with its head.

use std::{cell::Cell, ops::Range, sync::Arc};

use message::{Message, PolicyBody};
use session::Command;

use crate::step::each_message;

/// Bytes of encoded heads for which a thread keeps the memory.
const HEADS_KEPT: usize = 256 * 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct Heads {
    bytes: Vec<u8>,
    by_message: Vec<(Arc<Message>, Range<usize>)>,
    /// Where the address of the last one is.
    address: Range<usize>,
    /// Where the last one was found: they are asked for in the order in which they were added.
    found: Cell<usize>,
    /// One was asked for.
    asked: Cell<bool>,
    /// Bodies, read for filter policies.
    bodies: Vec<(Arc<Message>, PolicyBody)>,
    /// The next one.
    body: Cell<usize>,
}

impl Heads {
    /// Forgets everything but its memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.by_message.clear();
        self.found.set(0);
        self.asked.set(false);
        self.bodies.clear();
        self.body.set(0);
    }

    /// Whether a head was asked for since the last [`Heads::clear`].
    pub(crate) const fn was_asked(&self) -> bool {
        self.asked.get()
    }

    /// Whether a head was encoded since then.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_message.is_empty()
    }

    /// Gives back what only uncommonly long heads needed.
    pub(crate) fn trim(&mut self) {
        self.clear();
        self.bytes.shrink_to(HEADS_KEPT);
    }

    /// Encodes a head.
    pub(crate) fn add(&mut self, message: &Arc<Message>) {
        let start = self.bytes.len();
        // Who publishes to one place does so under one shared address.
        let same = |(last, _): &(Arc<Message>, _)| Arc::ptr_eq(&last.address, &message.address);
        let known = self.by_message.last().is_some_and(same);
        let known = known.then(|| self.address.clone());
        self.address = message::encode_head_like(message, known, &mut self.bytes);
        self.by_message
            .push((Arc::clone(message), start..self.bytes.len()));
    }

    /// Reads a body.
    pub(crate) fn add_body(&mut self, message: &Arc<Message>) {
        let body = PolicyBody::read(&message.body);
        self.bodies.push((Arc::clone(message), body));
    }

    /// Whether bodies were read.
    pub(crate) fn has_bodies(&self) -> bool {
        !self.bodies.is_empty()
    }

    /// The bodies of a command's messages, which were added one after the other.
    pub(crate) fn bodies_of(&self, command: &Command) -> &[(Arc<Message>, PolicyBody)] {
        let mut first = None;
        let mut count = 0;
        if !self.bodies.is_empty() {
            each_message(command, |message| {
                first.get_or_insert(message);
                count += 1;
            });
        }
        let ahead = &self.bodies[self.body.get()..];
        let found = first.and_then(|first| {
            let at = ahead
                .iter()
                .position(|(known, _)| Arc::ptr_eq(known, first))?;
            ahead.get(at..at + count).map(|found| (at, found))
        });
        let Some((at, found)) = found else {
            return &[];
        };
        self.body.set(self.body.get() + at + count);
        found
    }

    pub(crate) fn find(&self, message: &Arc<Message>) -> Option<&[u8]> {
        self.asked.set(true);
        let is_it = |(known, _): &(Arc<Message>, Range<usize>)| Arc::ptr_eq(known, message);
        let (before, after) = self.by_message.split_at(self.found.get());
        let found = after.iter().position(is_it);
        let at = match found {
            Some(at) => self.found.get() + at,
            None => before.iter().position(is_it)?,
        };
        self.found.set(at);
        Some(&self.bytes[self.by_message[at].1.clone()])
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use message::{Address, VhostId};

    use super::*;

    fn named(name: &'static str) -> Arc<Message> {
        let address = Address::queue(VhostId::ROOT, name);
        Arc::new(Message::new(address, Bytes::new()))
    }

    fn encoded(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        message::encode_head(message, &mut out);
        out
    }

    #[test]
    fn heads_of_one_address_are_those_that_each_has_alone() {
        let shared = |name: &'static str, address: &Arc<Address>| {
            let mut message = Message::new(Address::queue(VhostId::ROOT, name), Bytes::new());
            message.address = Arc::clone(address);
            message.priority = Some(name.len() as u8);
            Arc::new(message)
        };
        let (one, other) = (named("one").address.clone(), named("other").address.clone());
        let mut heads = Heads::default();
        for round in [&["a", "bb"][..], &["ccc"]] {
            heads.clear();
            for name in round {
                let messages = [&one, &one, &other, &one, &one].map(|at| shared(name, at));
                messages.iter().for_each(|message| heads.add(message));
                for message in &messages {
                    assert_eq!(heads.find(message), Some(&encoded(message)[..]));
                }
            }
        }
    }

    #[test]
    fn a_head_is_found_for_its_own_message_only_in_any_order() {
        let mut heads = Heads::default();
        let messages = [named("a"), named("b"), named("c")];
        messages.iter().for_each(|message| heads.add(message));
        for at in [0, 1, 2, 1, 1, 0, 2] {
            let head = encoded(&messages[at]);
            assert_eq!(heads.find(&messages[at]), Some(&head[..]));
        }
        // What was dropped stays held, so that no other message takes its place in memory.
        drop(messages);
        let others: Vec<_> = (0..1000).map(|_| named("other")).collect();
        assert!(others.iter().all(|other| heads.find(other).is_none()));
        heads.clear();
        assert_eq!(heads.find(&others[0]), None);
    }
}
