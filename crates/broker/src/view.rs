//! Reading across the two kinds of state: a queue, an entry, an exchange, a client session, wherever it lies.

use std::sync::Arc;

use bytes::Bytes;
use message::{Message, Name, StoredId, Timestamp, VhostId};
use session::{ExchangeOptions, Object, QueueId, SessionId};

use crate::{
    Broker, Content, Wait,
    change::{ClientNo, is_soft},
    durable::{Client, Queue},
    queue::{Rare, flag},
    soft::{Attached, Place, SoftQueue},
};

/// An entry, stored or in memory.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) len: u32,
    pub(crate) enqueued: Timestamp,
    pub(crate) count: u32,
    pub(crate) flags: u16,
    pub(crate) priority: u8,
    pub(crate) rare: Option<&'a Rare>,
    pub(crate) place: PlaceRef<'a>,
    /// In memory only.
    pub(crate) soft: bool,
    /// What its delivery waits for.
    pub(crate) wait: Wait,
}

/// Where an entry's message is.
#[derive(Clone, Copy)]
pub(crate) enum PlaceRef<'a> {
    /// In memory only; or it is stored by a change of the decision at hand, if its entry is.
    Resident(&'a Arc<Message>),
    Stored(StoredId, u32),
}

impl View<'_> {
    pub(crate) fn group(&self) -> Bytes {
        self.rare
            .and_then(|rare| rare.group.clone())
            .unwrap_or_default()
    }

    /// From when its retention counts.
    pub(crate) fn sent(&self) -> Timestamp {
        self.rare
            .and_then(|rare| rare.sent)
            .unwrap_or(self.enqueued)
    }

    /// When it expires, in a queue with that time to live.
    pub(crate) fn expiry(&self, ttl_ms: Option<u64>) -> Option<Timestamp> {
        let own = self.rare.and_then(|rare| rare.expiry);
        let here = ttl_ms.map(|ms| self.enqueued.plus_ms(ms));
        match (own, here) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Broker {
    /// A queue that has not been deleted.
    pub(crate) fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.any_queue(id).filter(|queue| !queue.declared.doomed)
    }

    /// A queue, also one that was deleted and still has something in it.
    pub(crate) fn any_queue(&self, id: QueueId) -> Option<&Queue> {
        if is_soft(id) {
            self.soft.transient.get(&id).map(Box::as_ref)
        } else {
            self.durable.queues.get(&id).map(Box::as_ref)
        }
    }

    pub(crate) fn soft_queue(&self, id: QueueId) -> &SoftQueue {
        self.soft
            .queues
            .get(&id)
            .expect("every queue has a soft side")
    }

    pub(crate) fn named(&self, vhost: VhostId, name: &Name) -> Option<QueueId> {
        self.soft.names.get(&(vhost, name.clone())).copied()
    }

    /// What a door keeps with an object, by the note's name.
    #[must_use]
    pub fn note(&self, vhost: VhostId, object: Object, name: &Name, note: &str) -> Option<&Bytes> {
        let notes = match object {
            Object::Queue => &self.queue(self.named(vhost, name)?)?.declared.notes,
            Object::Stream => &self.stream_named(vhost, name)?.1.declared.notes,
            Object::Topic => &self.durable.topics.named(vhost, name)?.1.declared.notes,
        };
        let at = notes.binary_search_by(|(known, _)| known[..].cmp(note.as_bytes()));
        Some(&notes[at.ok()?].1)
    }

    pub(crate) fn exchange(&self, vhost: VhostId, name: &Name) -> Option<&ExchangeOptions> {
        let key = (vhost, name.clone());
        self.durable
            .exchanges
            .get(&key)
            .or_else(|| self.soft.exchanges.get(&key))
    }

    pub(crate) fn client(&self, number: ClientNo) -> Option<&Client> {
        if number.is_soft() {
            self.soft.clients.get(&number).map(Box::as_ref)
        } else {
            self.durable.clients.get(&number).map(Box::as_ref)
        }
    }

    /// The connection of a client session.
    pub(crate) fn connection_of(&self, client: ClientNo) -> Option<SessionId> {
        Some(self.soft.connected.get(&client)?.session)
    }

    pub(crate) fn attached(&self, session: SessionId) -> Option<&Attached> {
        self.soft.sessions.get(&session).map(Box::as_ref)
    }

    /// The client session of a connection.
    pub(crate) fn client_of(&self, session: SessionId) -> Option<(ClientNo, &Client)> {
        let number = self.attached(session)?.client?;
        Some((number, self.client(number)?))
    }

    pub(crate) fn entry(&self, id: QueueId, qseq: u64) -> Option<View<'_>> {
        let queue = self.any_queue(id)?;
        stored_in(queue, qseq).or_else(|| soft_in(self.soft_queue(id), qseq))
    }

    /// The message where it is: in memory if it still is.
    pub(crate) fn content(&self, place: PlaceRef<'_>) -> Content {
        match place {
            PlaceRef::Resident(message) => Content::Resident(Arc::clone(message)),
            PlaceRef::Stored(id, len) => self.soft.recent.get(id).map_or_else(
                || Content::Stored(id, len),
                |message| Content::Resident(Arc::clone(message)),
            ),
        }
    }

    /// The message, if it is in memory.
    pub(crate) fn resident(&self, place: PlaceRef<'_>) -> Option<Arc<Message>> {
        match self.content(place) {
            Content::Resident(message) => Some(message),
            Content::Stored(..) => None,
        }
    }

    /// Whether an entry that was delivered so often is not to be delivered again. While the queue that its redrive policy
    /// names is gone, and there is nowhere else to go, it stays and is, as with SQS.
    pub(crate) fn is_spent(&self, queue: &Queue, count: u32) -> bool {
        let attributes = queue.attributes();
        let somewhere = |target: &Name| self.named(queue.declared.vhost, target).is_some();
        attributes.deliveries_max.is_some_and(|max| count >= max)
            && (attributes.dead_letter.is_some()
                || attributes
                    .redrive
                    .as_ref()
                    .is_none_or(|redrive| somewhere(&redrive.target)))
    }

    /// Entries of a queue.
    pub(crate) fn total(&self, id: QueueId) -> u64 {
        self.any_queue(id).map_or(0, |queue| queue.entries.len())
            + self
                .soft
                .queues
                .get(&id)
                .map_or(0, |soft| soft.messages.len() as u64)
    }

    /// Entries available or delayed, and their bytes: what length limits count. None of a queue that has yet to be made.
    pub(crate) fn held(&self, id: QueueId) -> (u64, u64) {
        let soft = self.soft.queues.get(&id);
        soft.map_or((0, 0), |soft| self.held_in(id, soft))
    }

    /// No fewer than the entries that [`Self::held`] counts, seen at a glance.
    pub(crate) fn most_held(&self, id: QueueId, soft: &SoftQueue) -> u64 {
        let stored = if is_soft(id) {
            0
        } else {
            self.durable
                .queues
                .get(&id)
                .map_or(0, |queue| queue.entries.len())
        };
        stored + soft.messages.len() as u64
    }

    fn held_in(&self, id: QueueId, soft: &SoftQueue) -> (u64, u64) {
        self.queue(id).map_or((0, 0), |queue| held_at(queue, soft))
    }

    /// Whether an entry is among those.
    pub(crate) fn is_held(&self, id: QueueId, qseq: u64) -> bool {
        let soft = self.soft_queue(id);
        !soft.out.contains(qseq) && !soft.aside.contains(&qseq)
    }

    /// Entries that could be delivered now.
    pub(crate) fn ready(&self, id: QueueId) -> u64 {
        self.ready_in(id, self.soft_queue(id))
    }

    /// The same, where the soft side of the queue is at hand.
    pub(crate) fn ready_in(&self, id: QueueId, soft: &SoftQueue) -> u64 {
        let (held, _) = self.held_in(id, soft);
        held.saturating_sub(soft.hidden.len() as u64)
    }

    /// The first entry at or behind `from` in the order of arrival, ready or not.
    pub(crate) fn next_entry(&self, id: QueueId, from: u64) -> Option<u64> {
        let stored = self.any_queue(id)?.entries.next(from);
        let soft = self.soft_queue(id).messages.next(from);
        match (stored, soft) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// The entry of a queue whose two sides are at hand.
pub(crate) fn entry_in<'a>(queue: &'a Queue, soft: &'a SoftQueue, qseq: u64) -> Option<View<'a>> {
    stored_in(queue, qseq).or_else(|| soft_in(soft, qseq))
}

fn stored_in(queue: &Queue, qseq: u64) -> Option<View<'_>> {
    if queue.entries.len() == 0 {
        return None;
    }
    let entry = queue.entries.get(qseq)?;
    Some(View {
        len: entry.len,
        enqueued: entry.enqueued(),
        count: entry.count(),
        flags: entry.flags,
        priority: entry.priority,
        rare: (entry.flags & flag::RARE != 0)
            .then(|| queue.entries.rare(qseq))
            .flatten(),
        place: PlaceRef::Stored(entry.stored(), entry.len),
        soft: false,
        wait: Wait::Stored(entry.stored()),
    })
}

fn soft_in(soft: &SoftQueue, qseq: u64) -> Option<View<'_>> {
    let entry = soft.messages.get(qseq)?;
    Some(View {
        len: entry.len,
        enqueued: entry.enqueued,
        count: entry.count,
        flags: entry.flags,
        priority: entry.priority,
        rare: entry.rare.as_deref(),
        place: match &entry.place {
            Place::Resident(message) => PlaceRef::Resident(message),
            Place::Stored(id, len) => PlaceRef::Stored(*id, *len),
        },
        soft: true,
        wait: entry.wait.map_or(Wait::Nothing, Wait::Stored),
    })
}

/// What length limits count of a queue: entries available or delayed, and their bytes.
fn held_at(queue: &Queue, soft: &SoftQueue) -> (u64, u64) {
    let entries = queue.entries.len() + soft.messages.len() as u64;
    let bytes = queue.entries.bytes() + soft.message_bytes;
    (
        entries.saturating_sub((soft.out.len() + soft.aside.len()) as u64),
        bytes.saturating_sub(soft.out_bytes),
    )
}
