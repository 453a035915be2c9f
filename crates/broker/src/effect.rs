//! What the core asks of the node: to tell a connection something, to fetch a stored message, to count references.
//!
//! Effects are data. They carry what they wait for ([`Wait`]) and in whose order they stand ([`OutLane`]); when they
//! leave is the node's business (RULES 3, 4).

use std::sync::Arc;

use bytes::Bytes;
use message::{Address, Message, StoredId, Timestamp};
use session::{
    CloseReason, ConsumerId, Death, DeathReason, Delivery, DeliveryId, Event, First, Lane, QueueId,
    RecordPlace, Records, SessionId, ShardInfo, ShardNo, StreamId, StreamRecord, Token, Via,
};
use smallvec::SmallVec;

use crate::{
    FileId,
    change::{Change, Kind},
};

/// What came in with a command: the core has neither clock nor chance of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The core's time; never goes back.
    pub now: Timestamp,
    /// Entropy for names that the core makes up.
    pub random: u64,
}

/// Who is on a connection, once verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The virtual host.
    pub vhost: message::VhostId,
    /// The user.
    pub user: Arc<str>,
    /// It is a part of the broker itself, which sees the subscriptions of all virtual hosts.
    pub broker: bool,
}

/// How many deliveries take as long as looking at a slice of consumers.
const LOOKS_WORK: usize = 8;

/// What a `decide` came to: changes to apply, in order, and effects to route after that.
#[derive(Debug, Default)]
pub struct Decision {
    /// To apply and, where durable, to journal: in this order.
    pub changes: Vec<Change>,
    /// To route when all changes are applied.
    pub effects: Vec<Effect>,
}

impl Decision {
    /// Whether anything of it goes into the journal.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.changes.iter().any(Change::is_durable)
    }

    /// How much of what a hold of the lock may do it is, in deliveries.
    #[must_use]
    pub fn work(&self) -> usize {
        match self.changes[..] {
            [Change(Kind::Rest(_) | Kind::Wakes(_))] => LOOKS_WORK,
            _ => self.effects.len().max(self.changes.len()).max(1),
        }
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.effects.clear();
    }
}

/// Whose order an effect keeps within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutLane {
    /// The replies of one channel.
    Reply(Lane),
    /// The deliveries of one consumer, and what is said about the consumer itself.
    Consumer(ConsumerId),
}

/// What must be on stable storage before an effect may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    Nothing,
    /// Everything appended so far, the records of this decision included (RULES 3).
    Durable,
    /// The record that stores this message; what was appended behind it does not matter.
    Stored(StoredId),
}

/// Where a message's bytes are.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Resident(Arc<Message>),
    /// In the journal, with so many bytes of body.
    Stored(StoredId, u32),
}

/// A delivery without its message.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingDelivery {
    /// As in [`Delivery::consumer`].
    pub consumer: ConsumerId,
    /// As in [`Delivery::id`].
    pub id: Option<DeliveryId>,
    /// As in [`Delivery::count`].
    pub count: u32,
    /// As in [`Delivery::redelivered`].
    pub redelivered: bool,
    /// As in [`Delivery::resent`].
    pub resent: bool,
    /// As in [`Delivery::qos`].
    pub qos: u8,
    /// As in [`Delivery::retain`].
    pub retain: bool,
    /// As in [`Delivery::subscriptions`].
    pub subscriptions: SmallVec<[u32; 2]>,
    /// As in [`Delivery::enqueued`].
    pub enqueued: Timestamp,
    /// As in [`Delivery::deaths`].
    pub deaths: Option<Arc<Vec<Death>>>,
    /// As in [`Delivery::readdressed`].
    pub readdressed: Option<Arc<Address>>,
    /// As in [`Delivery::first_delivered`].
    pub first_delivered: Option<Timestamp>,
    /// As in [`Delivery::via`].
    pub via: Option<Arc<Via>>,
    /// As in [`Delivery::first`].
    pub first: Option<Box<First>>,
    /// As in [`Delivery::record`].
    pub record: Option<(RecordPlace, Option<Bytes>)>,
}

impl PendingDelivery {
    /// The first showing of a message that entered then, at QoS 0, of no queue.
    #[must_use]
    pub fn first(consumer: ConsumerId, enqueued: Timestamp) -> Self {
        Self {
            consumer,
            id: None,
            count: 1,
            redelivered: false,
            resent: false,
            qos: 0,
            retain: false,
            subscriptions: SmallVec::new(),
            enqueued,
            deaths: None,
            readdressed: None,
            first_delivered: None,
            via: None,
            first: None,
            record: None,
        }
    }

    /// The delivery, with its message.
    #[must_use]
    pub fn into_delivery(self, message: Arc<Message>) -> Delivery {
        let (message, record) = match self.record {
            Some((record, key)) => (keyed(message, key), Some(record)),
            None => (message, None),
        };
        Delivery {
            consumer: self.consumer,
            id: self.id,
            message,
            count: self.count,
            redelivered: self.redelivered,
            resent: self.resent,
            qos: self.qos,
            retain: self.retain,
            subscriptions: self.subscriptions,
            enqueued: self.enqueued,
            deaths: self.deaths,
            readdressed: self.readdressed,
            first_delivered: self.first_delivered,
            via: self.via,
            first: self.first,
            record,
        }
    }
}

/// A delivery that leaves the core: with its message, where that is in memory, so that it need not be touched again.
#[derive(Debug)]
pub enum Outgoing {
    /// All of it.
    Whole(Arc<Delivery>),
    /// Its message is in the journal, with so many bytes of body.
    Without(Box<PendingDelivery>, StoredId, u32),
}

impl Outgoing {
    pub(crate) fn new(delivery: PendingDelivery, content: Content) -> Self {
        match content {
            Content::Resident(message) => Self::Whole(Arc::new(delivery.into_delivery(message))),
            Content::Stored(id, len) => Self::Without(Box::new(delivery), id, len),
        }
    }

    /// The whole of it; `message` gives the message that is missing.
    #[must_use]
    pub fn into_delivery(
        self,
        message: impl FnOnce(StoredId, u32) -> Arc<Message>,
    ) -> Arc<Delivery> {
        match self {
            Self::Whole(delivery) => delivery,
            Self::Without(delivery, id, len) => Arc::new(delivery.into_delivery(message(id, len))),
        }
    }

    /// What to settle.
    #[must_use]
    pub fn id(&self) -> Option<DeliveryId> {
        match self {
            Self::Whole(delivery) => delivery.id,
            Self::Without(delivery, ..) => delivery.id,
        }
    }
}

/// A record without its message.
#[derive(Clone, Debug)]
pub struct PendingRecord {
    /// As in [`StreamRecord::offset`].
    pub offset: u64,
    /// As in [`StreamRecord::time`].
    pub time: Timestamp,
    /// The partition key that it is shown with, if it is not the message's own.
    pub key: Option<Bytes>,
    /// The message.
    pub content: Content,
}

/// A message that bears a partition key other than its own: its group is what readers take for the key.
fn keyed(message: Arc<Message>, key: Option<Bytes>) -> Arc<Message> {
    let Some(key) = key else { return message };
    let mut message = Arc::unwrap_or_clone(message);
    message.group = Some(key);
    Arc::new(message)
}

/// What a read found, without the messages.
#[derive(Clone, Debug)]
pub struct PendingRecords {
    /// As in [`Records::stream`].
    pub stream: StreamId,
    /// As in [`Records::shard`].
    pub shard: ShardInfo,
    /// The records, in order.
    pub records: Vec<PendingRecord>,
    /// As in [`Records::next`].
    pub next: u64,
    /// As in [`Records::ended`].
    pub ended: bool,
    /// As in [`Records::children`].
    pub children: Vec<ShardInfo>,
    /// As in [`Records::behind_ms`].
    pub behind_ms: u64,
}

impl PendingRecords {
    /// What was found; `message` gives each message.
    pub fn into_records(self, mut message: impl FnMut(Content) -> Arc<Message>) -> Records {
        Records {
            stream: self.stream,
            shard: self.shard,
            records: self
                .records
                .into_iter()
                .map(|record| StreamRecord {
                    offset: record.offset,
                    time: record.time,
                    message: keyed(message(record.content), record.key),
                })
                .collect(),
            next: self.next,
            ended: self.ended,
            children: self.children,
            behind_ms: self.behind_ms,
        }
    }
}

/// What a message is fetched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// To be dead-lettered out of a queue.
    DeadLetter {
        /// The queue that it leaves.
        queue: QueueId,
        /// Its number there.
        qseq: u64,
        /// Why.
        reason: DeathReason,
    },
}

/// What records are read out of a stream file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadFor {
    /// A read that waits for them.
    Read(SessionId, Token),
    /// A consumer.
    Reader(QueueId),
}

/// Records to be read out of a stream file.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// What for.
    pub what: LoadFor,
    /// The stream.
    pub stream: StreamId,
    /// The file.
    pub file: FileId,
    /// Shards, and the first offset wanted of each.
    pub shards: SmallVec<[(ShardNo, u64); 1]>,
    /// Offsets from here on are not wanted, whatever the file holds.
    pub upto: u64,
    /// What came before is not wanted.
    pub since: Timestamp,
    /// Most records.
    pub count: u32,
    /// Most bytes of bodies and keys; one record always fits.
    pub bytes_max: u64,
}

/// A record out of a stream file.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedRecord {
    /// Its offset in the stream.
    pub offset: u64,
    /// Its shard.
    pub shard: ShardNo,
    /// When it came.
    pub time: Timestamp,
    /// Bytes of body and key.
    pub len: u32,
    /// The partition key that it is shown with, if it is not the message's own.
    pub key: Option<Bytes>,
    /// The message.
    pub message: Arc<Message>,
}

/// What a [`Load`] came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What was asked for.
    pub load: Load,
    /// In the order of their offsets.
    pub records: Vec<LoadedRecord>,
    /// Everything that was asked for below this offset is in `records`. No further than [`Load::upto`].
    pub upto: u64,
}

/// What the node is asked to do.
#[derive(Debug)]
pub enum Effect {
    /// Tell a connection.
    Event {
        /// Whom.
        to: SessionId,
        /// In whose order.
        lane: OutLane,
        /// After what.
        wait: Wait,
        /// What.
        event: Event,
    },
    /// Show a message of which no queue knows to each of these client sessions' connections, in the order of their subscriptions'
    /// deliveries ([`ConsumerId::CLIENT`]).
    Show {
        /// To whom.
        to: SmallVec<[SessionId; 2]>,
        /// After what.
        wait: Wait,
        /// What.
        delivery: Arc<Delivery>,
        /// The room that it takes in each outbox, until [`crate::Broker::returned_room`].
        bytes: u64,
    },
    /// Hand over a message.
    Deliver {
        /// To whom.
        to: SessionId,
        /// In whose order.
        lane: OutLane,
        /// After what.
        wait: Wait,
        /// What.
        delivery: Outgoing,
        /// The room that it takes in the outbox, until [`crate::Broker::returned_room`].
        bytes: u64,
    },
    /// Answer a pull (`Event::Pulled`) once all its messages are there. Takes no room in the outbox.
    Pulled {
        /// To whom.
        to: SessionId,
        /// In whose order.
        lane: OutLane,
        /// After what.
        wait: Wait,
        /// From the command.
        token: Token,
        /// What was taken.
        deliveries: Vec<(PendingDelivery, Content)>,
        /// In which epoch.
        epoch: u64,
        /// Messages still available.
        remaining: u64,
    },
    /// Answer a read (`Event::Records`) once all its messages are there. Takes no room in the outbox.
    Records {
        /// To whom.
        to: SessionId,
        /// In whose order.
        lane: OutLane,
        /// After what.
        wait: Wait,
        /// From the command.
        token: Token,
        /// What was found.
        records: Box<PendingRecords>,
    },
    /// A reference to a stored message is gone.
    Unref(StoredId),
    /// A reference to a stored message was made.
    Ref(StoredId),
    /// Read a stored message and call [`crate::Broker::decide_fetched`] with it.
    Fetch {
        /// What for.
        fetch: Fetch,
        /// Which.
        id: StoredId,
        /// After what.
        wait: Wait,
    },
    /// Read records out of a stream file and call [`crate::Broker::decide_loaded`] with them.
    Load(Box<Load>),
    /// End a connection.
    Close {
        /// Which.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
}
