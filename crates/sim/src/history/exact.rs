//! Publishes and deliveries that are handed over in two steps (MQTT QoS 2).
//!
//! *Exactly once*, towards the broker: a publish that somebody was told is taken (PUBREC) is not taken again, nor is one taken
//! for a repeat that is none; and its id is held until it is given back (PUBREL), and free then. From the broker: what it was told
//! is received (PUBREC), and said that it knows, is not sent again, but named when its session is resumed, until it is complete
//! (PUBCOMP); what is sent again before has the same id, and is marked so.

use std::collections::{BTreeMap, BTreeSet};

use session::{Delivery, DeliveryId};

use super::Origin;

/// An id of a client, in use.
#[derive(Debug)]
struct Held {
    number: u64,
    /// How often it was published.
    tries: u32,
    /// It is taken, and somebody was told so.
    taken: bool,
    /// How often it was given back.
    releases: u32,
}

/// A delivery to a session.
#[derive(Debug)]
struct Out {
    id: DeliveryId,
    /// Since which epoch the broker knows that it is received.
    received: Option<u64>,
    /// It was told so, and perhaps does not know.
    says_received: bool,
    /// It was told that it is complete, and perhaps does not know.
    says_complete: bool,
    /// It knows.
    complete: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Exact {
    held: BTreeMap<(usize, u16), Held>,
    out: BTreeMap<(usize, u64), Out>,
}

impl Exact {
    /// A client publishes a message under an id of its own, for the first time or again.
    pub(crate) fn publish(&mut self, client: usize, id: u16, number: u64) {
        let held = self.held.entry((client, id)).or_insert(Held {
            number,
            tries: 0,
            taken: false,
            releases: 0,
        });
        assert_eq!(held.number, number, "a client keeps its ids apart");
        held.tries += 1;
    }

    /// It is taken (PUBREC), and that for a repeat or not.
    pub(crate) fn taken(&mut self, client: usize, id: u16, repeat: bool) -> Result<(), String> {
        let Some(held) = self.held.get_mut(&(client, id)) else {
            return Err(format!("exactly once: {id} of {client} is taken, and free"));
        };
        if repeat && held.tries < 2 {
            return Err(format!(
                "exactly once: {held:?} of {client} is taken for a repeat"
            ));
        }
        if !repeat && held.taken {
            return Err(format!("exactly once: {held:?} of {client} is taken again"));
        }
        held.taken = true;
        Ok(())
    }

    /// It is refused: the id is free.
    pub(crate) fn refused(&mut self, client: usize, id: u16) -> Result<(), String> {
        match self.held.remove(&(client, id)) {
            Some(held) if held.taken => Err(format!(
                "exactly once: {held:?} of {client} was taken, and is refused"
            )),
            _ => Ok(()),
        }
    }

    /// The client gives its id back (PUBREL).
    pub(crate) fn release(&mut self, client: usize, id: u16) {
        if let Some(held) = self.held.get_mut(&(client, id)) {
            held.releases += 1;
        }
    }

    /// It is free (PUBCOMP), and was held or not.
    pub(crate) fn released(&mut self, client: usize, id: u16, known: bool) -> Result<(), String> {
        match self.held.remove(&(client, id)) {
            Some(held) if held.releases == 1 && !known => Err(format!(
                "exactly once: nobody holds the id of {held:?} of {client}"
            )),
            _ => Ok(()),
        }
    }

    /// A session gets a message.
    pub(crate) fn deliver(
        &mut self,
        (by, number): (usize, u64),
        delivery: &Delivery,
        from: Origin,
    ) -> Result<(), String> {
        let Some(id) = delivery.id.filter(|_| delivery.qos == 2) else {
            return Err(format!("exactly once: {number} is sent to {by} at less"));
        };
        let Some(out) = self.out.get(&(by, number)) else {
            let out = Out {
                id,
                received: None,
                says_received: false,
                says_complete: false,
                complete: false,
            };
            self.out.insert((by, number), out);
            return Ok(());
        };
        if out.received.is_some_and(|epoch| from.epoch >= epoch) {
            return Err(format!(
                "exactly once: {number} is received by {by}, and is sent again: {out:?}"
            ));
        }
        if out.id != id || !delivery.resent {
            return Err(format!(
                "exactly once: {number} is sent again to {by} as {id:?}, marked: {}, after {out:?}",
                delivery.resent
            ));
        }
        Ok(())
    }

    /// A session says that it has received a message (PUBREC), or that it is complete (PUBCOMP).
    pub(crate) fn says(&mut self, by: usize, id: DeliveryId, complete: bool) {
        if let Some(out) = self.find(by, id) {
            out.says_received = true;
            out.says_complete |= complete;
        }
    }

    /// The broker knows of it.
    pub(crate) fn knows(&mut self, by: usize, id: DeliveryId, complete: bool, from: Origin) {
        if let Some(out) = self.find(by, id) {
            out.received.get_or_insert(from.epoch);
            out.complete |= complete;
        }
    }

    /// A session is resumed, and told what it had received.
    pub(crate) fn resume(&self, by: usize, received: &[DeliveryId]) -> Result<(), String> {
        let named: BTreeSet<_> = received.iter().map(|id| (id.queue, id.qseq)).collect();
        for ((_, number), out) in self.out.range((by, 0)..=(by, u64::MAX)) {
            let is_named = named.contains(&(out.id.queue, out.id.qseq));
            let must = out.received.is_some() && !out.says_complete;
            if must && !is_named || is_named && (out.complete || !out.says_received) {
                return Err(format!(
                    "exactly once: {number} is named to {by}: {is_named}, after {out:?}"
                ));
            }
        }
        Ok(())
    }

    fn find(&mut self, by: usize, id: DeliveryId) -> Option<&mut Out> {
        let mut all = self.out.range_mut((by, 0)..=(by, u64::MAX));
        all.find_map(|(_, out)| (out.id == id).then_some(out))
    }
}

#[cfg(test)]
mod tests {
    use session::QueueId;

    use super::super::tests::{delivery, origin};
    use super::*;

    const ID: DeliveryId = DeliveryId {
        queue: QueueId(7),
        qseq: 0,
    };

    fn sent(again: bool) -> Delivery {
        Delivery {
            qos: 2,
            resent: again,
            ..delivery(5, (7, 0), 1)
        }
    }

    #[test]
    fn a_publish_is_taken_once_and_none_is_taken_for_another() {
        let mut exact = Exact::default();
        exact.publish(1, 9, 5);
        assert!(exact.taken(1, 9, true).is_err(), "it is the first");
        assert!(exact.taken(1, 9, false).is_ok());
        exact.publish(1, 9, 5);
        assert!(exact.taken(1, 9, true).is_ok());
        assert!(exact.taken(1, 9, false).is_err(), "a second time");
        assert!(exact.refused(1, 9).is_err());
        let mut exact = Exact::default();
        exact.publish(1, 9, 5);
        exact.publish(1, 9, 5);
        assert!(exact.taken(1, 9, false).is_ok(), "the first got lost");
        assert!(exact.taken(1, 8, false).is_err(), "nobody sent it");
        exact.publish(1, 8, 6);
        assert!(exact.refused(1, 8).is_ok());
        exact.publish(1, 8, 7);
        assert!(exact.taken(1, 8, true).is_err(), "another one");
    }

    #[test]
    fn an_id_is_held_until_it_is_given_back() {
        let mut exact = Exact::default();
        exact.publish(1, 9, 5);
        assert!(exact.taken(1, 9, false).is_ok());
        exact.release(1, 9);
        assert!(exact.released(1, 9, false).is_err());
        exact.publish(1, 9, 6);
        exact.release(1, 9);
        exact.release(1, 9);
        assert!(exact.released(1, 9, false).is_ok(), "the first did it");
        exact.publish(1, 9, 7);
        assert!(exact.taken(1, 9, true).is_err(), "it was free");
    }

    #[test]
    fn what_is_received_is_not_sent_again() {
        let mut exact = Exact::default();
        let to = (3, 5);
        assert!(exact.deliver(to, &sent(false), origin(1)).is_ok());
        assert!(exact.deliver(to, &sent(true), origin(2)).is_ok());
        assert!(exact.deliver(to, &sent(false), origin(2)).is_err());
        let elsewhere = Delivery {
            qos: 2,
            resent: true,
            ..delivery(5, (7, 1), 1)
        };
        assert!(exact.deliver(to, &elsewhere, origin(2)).is_err());
        exact.says(3, ID, false);
        assert!(exact.deliver(to, &sent(true), origin(2)).is_ok());
        exact.knows(3, ID, false, origin(2));
        assert!(exact.deliver(to, &sent(true), origin(2)).is_err());
        assert!(exact.deliver(to, &sent(true), origin(3)).is_err());
        assert!(exact.deliver((4, 5), &sent(false), origin(3)).is_ok());
        assert!(
            exact
                .deliver((4, 6), &delivery(6, (7, 1), 1), origin(3))
                .is_err()
        );
    }

    #[test]
    fn what_is_received_is_named_until_it_is_complete() {
        let mut exact = Exact::default();
        assert!(exact.deliver((3, 5), &sent(false), origin(1)).is_ok());
        assert!(exact.resume(3, &[]).is_ok());
        assert!(exact.resume(3, &[ID]).is_err(), "nobody said so");
        exact.says(3, ID, false);
        assert!(exact.resume(3, &[]).is_ok() && exact.resume(3, &[ID]).is_ok());
        exact.knows(3, ID, false, origin(1));
        assert!(exact.resume(3, &[]).is_err());
        assert!(exact.resume(3, &[ID]).is_ok());
        assert!(exact.resume(4, &[]).is_ok(), "another session");
        exact.says(3, ID, true);
        assert!(exact.resume(3, &[]).is_ok() && exact.resume(3, &[ID]).is_ok());
        exact.knows(3, ID, true, origin(1));
        assert!(exact.resume(3, &[]).is_ok());
        assert!(exact.resume(3, &[ID]).is_err());
    }
}
