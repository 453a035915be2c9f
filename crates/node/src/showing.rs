//! Messages that no queue knows of, gathered while a step lasts: who is shown one is mostly shown the next one as well, and
//! each connection is looked up, locked and woken once for all of them.
//!
//! What stands here is put into the outboxes before anything else goes to one of its connections, so each hears everything
//! in the order in which it was decided, and before the core's lock is free.

use std::sync::Arc;

use session::{Burst, Delivery, SessionId};
use smallvec::SmallVec;

use crate::outbox::Item;

/// Bytes of deliveries in one burst, as the core counts them, unless a single one has more: an outbox hands out a burst as a
/// whole.
const BYTES_MAX: u64 = 64 * 1024;
/// Connections that are looked through for one; whatever goes to anyone comes behind what more than these are shown.
const LOOKED_AT_MAX: usize = 128;

/// See the module.
#[derive(Default)]
pub(crate) struct Showing {
    /// None: nothing is shown.
    to: SmallVec<[SessionId; 2]>,
    /// The batch that all of it waits for.
    wait: u64,
    deliveries: Vec<Arc<Delivery>>,
    bytes: u64,
}

impl Showing {
    /// Whether a message for these connections may go with what is here.
    pub(crate) fn takes(&self, to: &[SessionId], wait: u64, bytes: u64) -> bool {
        self.wait == wait && self.bytes + bytes <= BYTES_MAX && *self.to == *to
    }

    /// Starts with a first message, in the place of what is gone.
    pub(crate) fn start(&mut self, to: SmallVec<[SessionId; 2]>, wait: u64) {
        (self.to, self.wait) = (to, wait);
    }

    pub(crate) fn add(&mut self, delivery: Arc<Delivery>, bytes: u64) {
        self.deliveries.push(delivery);
        self.bytes += bytes;
    }

    /// Whether what goes to that connection must come behind what is here.
    pub(crate) fn is_ahead_of(&self, to: SessionId) -> bool {
        self.to.len() > LOOKED_AT_MAX || self.to.contains(&to)
    }

    /// All that is here, with whom it is for and what it waits for.
    pub(crate) fn take(&mut self) -> Option<(SmallVec<[SessionId; 2]>, u64, Shown)> {
        if self.to.is_empty() {
            return None;
        }
        let to = std::mem::take(&mut self.to);
        let bytes = std::mem::take(&mut self.bytes);
        let what = match (&mut self.deliveries, &to[..]) {
            (one, [_]) if one.len() == 1 => What::One(one.pop()?),
            (all, _) => What::Burst(Arc::new(Burst::new(std::mem::take(all), to.len()))),
        };
        Some((to, self.wait, Shown { what, bytes }))
    }
}

/// What each of the connections is shown.
pub(crate) struct Shown {
    what: What,
    bytes: u64,
}

enum What {
    One(Arc<Delivery>),
    Burst(Arc<Burst>),
}

impl Shown {
    /// For one of them.
    pub(crate) fn item(&self) -> Item {
        let bytes = self.bytes;
        match &self.what {
            What::One(delivery) => Item::Delivery {
                delivery: Arc::clone(delivery),
                bytes,
            },
            What::Burst(burst) => Item::Burst {
                burst: Arc::clone(burst),
                bytes,
            },
        }
    }
}
