//! What few entries have, kept beside the queue so that the others stay small.

use std::sync::Arc;

use bytes::Bytes;
use message::{Address, Levels, Timestamp};
use session::{Death, First, QueueId, Via};
use smallvec::SmallVec;

use crate::record::wire::wire_fields;

/// Bits of an entry.
pub(crate) mod flag {
    /// Quality of service of the delivery.
    pub(crate) const QOS: u16 = 0b11;
    /// Show the retain flag.
    pub(crate) const RETAIN: u16 = 1 << 2;
    /// The receiver owns it (`Outcome::Received`).
    pub(crate) const RECEIVED: u16 = 1 << 3;
    /// The stored message is referred to from here although its own record does not name this entry.
    pub(crate) const EXTRA: u16 = 1 << 4;
    /// Leased to a client session: an entry of that session's own queue refers to it.
    pub(crate) const LINKED: u16 = 1 << 5;
    /// There is a [`super::Rare`].
    pub(crate) const RARE: u16 = 1 << 6;
    /// Until `visible_at` it is leased, not delayed: whoever knows its number may settle it.
    pub(crate) const LEASED: u16 = 1 << 7;
}

/// The rare side of an entry. Boxed: most entries have none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rare {
    /// When it expires by its own time to live; the queue's is computed from its arrival.
    pub(crate) expiry: Option<Timestamp>,
    /// Invisible until then: delayed, or leased to a pull.
    pub(crate) visible_at: Option<Timestamp>,
    /// Where it has died before, newest first.
    pub(crate) deaths: Option<Arc<Vec<Death>>>,
    /// The address that replaces the message's own.
    pub(crate) readdressed: Option<Arc<Address>>,
    /// Identifiers of the subscriptions that matched.
    pub(crate) subscriptions: SmallVec<[u32; 2]>,
    /// Its group, in FIFO queues.
    pub(crate) group: Option<Bytes>,
    /// Its dedup id, where the queue deduplicates.
    pub(crate) dedup: Option<Bytes>,
    /// Its message id, if that is a UUID, for who repeats the dedup id.
    pub(crate) message_id: Option<[u8; 16]>,
    /// The entry that is leased while this one is in a client session's queue.
    pub(crate) origin: Option<(QueueId, u64)>,
    /// The consumer to show instead of the client session itself, plus one.
    pub(crate) consumer: u64,
    /// The subscription that it came through, unless that is a raw one or a route.
    pub(crate) via: Option<Arc<Via>>,
    /// Where the first of those subscriptions brought it, unless it has a UUID of its own.
    pub(crate) first: Option<First>,
    /// When it first went out of this queue under a lease with a deadline.
    pub(crate) first_delivered: Option<Timestamp>,
    /// When it entered the queue that a redrive policy moved it out of: its retention counts from there (DOORS 12).
    pub(crate) sent: Option<Timestamp>,
}

/// The group of what has none.
static NO_GROUP: Bytes = Bytes::new();

impl Rare {
    /// The group of an entry that may have no rare side.
    pub(crate) fn group_of(rare: Option<&Self>) -> &Bytes {
        Self::group_or_none(rare.and_then(|rare| rare.group.as_ref()))
    }

    /// That group, or the one of what has none.
    pub(crate) fn group_or_none(group: Option<&Bytes>) -> &Bytes {
        group.unwrap_or(&NO_GROUP)
    }

    /// Boxed, unless there is nothing to say.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        if self.is_empty() {
            return None;
        }
        Some(Box::new(self))
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            expiry,
            visible_at,
            deaths,
            readdressed,
            subscriptions,
            group,
            dedup,
            message_id,
            origin,
            consumer,
            via,
            first,
            first_delivered,
            sent,
        } = self;
        expiry.is_none()
            && visible_at.is_none()
            && deaths.is_none()
            && readdressed.is_none()
            && subscriptions.is_empty()
            && group.is_none()
            && dedup.is_none()
            && message_id.is_none()
            && origin.is_none()
            && *consumer == 0
            && via.is_none()
            && first.is_none()
            && first_delivered.is_none()
            && sent.is_none()
    }

    /// No fewer bytes than it takes in a record.
    pub(crate) fn len_bound(&self) -> usize {
        let deaths = self.deaths.iter().flat_map(|deaths| deaths.iter());
        160 + deaths.map(death_len_bound).sum::<usize>()
            + self.readdressed.as_ref().map_or(0, |address| {
                16 + address.name.len() + levels_len_bound(&address.key)
            })
            + self.subscriptions.len() * 5
            + self.group.as_ref().map_or(0, Bytes::len)
            + self.dedup.as_ref().map_or(0, Bytes::len)
            + self
                .via
                .as_ref()
                .map_or(0, |via| 48 + via.vhost.len() + via.topic.len())
    }
}

/// No fewer bytes than a death takes in a record.
pub(crate) fn death_len_bound(death: &Death) -> usize {
    80 + death.queue.len() + death.exchange.len() + levels_len_bound(&death.key)
}

fn levels_len_bound(levels: &Levels) -> usize {
    levels.iter().map(|level| level.len() + 5).sum::<usize>() + 5
}

wire_fields!(Rare {
    1 => expiry, 2 => visible_at, 3 => deaths, 4 => readdressed, 5 => subscriptions, 6 => group, 7 => dedup, 8 => origin,
    9 => consumer, 10 => message_id, 11 => first_delivered, 12 => sent, 13 => first, 30 => via,
});
wire_fields!(First { 1 => queue, 2 => qseq, 3 => time });
