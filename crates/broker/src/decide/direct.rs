//! Deliveries that no queue will know of (QoS 0): gathered while a message is admitted, drafted when what they wait for is known.
//!
//! A fan-out shows most of its subscribers the same. Those who follow each other and see no difference share one delivery, one
//! change and one effect.

use std::sync::Arc;

use message::Timestamp;
use session::{ConsumerId, Delivery, SessionId};
use smallvec::SmallVec;

use super::{
    draft::Draft,
    publish::{Incoming, delivery_bytes},
};
use crate::{Effect, Wait, change::Kind};

/// One, and whom it is shown to.
struct Direct {
    delivery: Arc<Delivery>,
    /// It shows the message as it was published.
    plain: bool,
    bytes: u64,
    to: SmallVec<[SessionId; 2]>,
}

/// Those of one message.
pub(crate) struct Directs {
    /// How many it may have to be shown to.
    most: usize,
    first: Option<Direct>,
    others: Vec<Direct>,
}

impl Directs {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            first: None,
            others: Vec::new(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How many different ones.
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// One more connection is shown the message, with that retain flag and those identifiers of subscriptions.
    pub(super) fn show(
        &mut self,
        to: SessionId,
        incoming: &Incoming<'_>,
        (retain, identifiers): (bool, &[u32]),
        now: Timestamp,
    ) {
        if let Some(last) = self.others.last_mut().or(self.first.as_mut())
            && last.is_shown(incoming, retain, identifiers)
        {
            last.to.push(to);
            return;
        }
        let rare = incoming.rare;
        let delivery = Delivery {
            retain,
            subscriptions: few(identifiers),
            deaths: rare.and_then(|rare| rare.deaths.clone()),
            readdressed: rare.and_then(|rare| rare.readdressed.clone()),
            ..Delivery::first(ConsumerId::CLIENT, Arc::clone(incoming.message), now)
        };
        let room = if self.is_empty() { self.most } else { 1 };
        let mut direct = Direct {
            delivery: Arc::new(delivery),
            plain: rare.is_none(),
            bytes: delivery_bytes(incoming.message.body.len() as u32),
            to: SmallVec::with_capacity(room),
        };
        direct.to.push(to);
        match self.first {
            None => self.first = Some(direct),
            Some(_) => self.others.push(direct),
        }
    }

    /// Drafts them.
    pub(super) fn send(self, wait: Wait, draft: &mut Draft<'_>) {
        if let Some(first) = self.first {
            first.send(wait, draft);
        }
        if !self.others.is_empty() {
            for other in self.others {
                other.send(wait, draft);
            }
        }
    }
}

impl Direct {
    /// Whether another connection is to be shown just this.
    fn is_shown(&self, incoming: &Incoming<'_>, retain: bool, identifiers: &[u32]) -> bool {
        debug_assert!(Arc::ptr_eq(&self.delivery.message, incoming.message));
        self.plain
            && incoming.rare.is_none()
            && self.delivery.retain == retain
            && self.delivery.subscriptions.iter().eq(identifiers)
    }

    fn send(self, wait: Wait, draft: &mut Draft<'_>) {
        draft.change(Kind::Sent {
            to: few(&self.to),
            bytes: self.bytes,
        });
        draft.effect(Effect::Show {
            to: self.to,
            wait,
            delivery: self.delivery,
            bytes: self.bytes,
        });
    }
}

/// A copy of what nearly always is one or none.
fn few<T: Copy>(all: &[T]) -> SmallVec<[T; 2]> {
    let mut copy = SmallVec::new();
    match all {
        [] => {}
        [one] => copy.push(*one),
        many => copy.extend_from_slice(many),
    }
    copy
}
