//! What happened: the only way to change the core's state. Durable changes are the journal's records.
//!
//! A change says what happened, never what was asked (RULES 1): targets, numbers, deadlines are in it, so that `apply`
//! never routes, filters, picks or compares with a limit. Ids of things that live in memory only have the top bit set,
//! which is how a change knows whether it belongs in the journal.

use std::sync::Arc;

use bytes::Bytes;
use message::{Levels, Message, Name, Pattern, StoredId, Timestamp, VhostId};
use session::{
    Binding, ClientExpiry, ConsumerId, Credit, ExchangeOptions, MoveState, Notes, QueueId,
    QueueOptions, Secret, SessionId, ShardNo, Source, StreamId, SubscriptionOptions, Will,
};
use smallvec::SmallVec;

use crate::{
    counters::Tally,
    durable::Move,
    queue::Rare,
    record::{
        fields,
        wire::{Wire, put_field, wire_fields},
    },
    stream::{
        Assigned, Checkpointed, GroupGone, GroupLeased, GroupMade, Reader, RecordEntrant,
        RecordsLost, Resharded, StreamDeclared, StreamDeleted, StreamFiled, Trimmed, WaitingRead,
        Window,
    },
    topic::{Numbered, Subscribed, TopicDeclared, TopicDeleted, Unsubscribed},
};

/// The bit that marks an id as soft: it means nothing after a restart.
pub(crate) const SOFT_BIT: u64 = 1 << 63;

/// Whether a queue lives in memory only.
pub(crate) const fn is_soft(queue: QueueId) -> bool {
    queue.0 & SOFT_BIT != 0
}

/// A client session, made once and never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNo(pub(crate) u64);

impl ClientNo {
    pub(crate) const fn is_soft(self) -> bool {
        self.0 & SOFT_BIT != 0
    }
}

impl Wire for ClientNo {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn read(reader: &mut message::Reader) -> Result<Self, message::DecodeError> {
        Wire::read(reader).map(Self)
    }
}

/// A new epoch: every connection has ended (RULES 8).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EpochOpen {
    pub(crate) epoch: u64,
}
wire_fields!(EpochOpen { 1 => epoch });

/// Virtual hosts were made. They are numbered in the order in which they are made, from 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Vhosts {
    /// The number of the first of these; the others follow. An earlier version did not say: then it was the next one.
    pub(crate) first: Option<VhostId>,
    pub(crate) names: Vec<Arc<str>>,
}

/// What an earlier version reads ends behind the names.
impl Wire for Vhosts {
    fn put(&self, out: &mut Vec<u8>) {
        self.names.put(out);
        if self.first.is_some() {
            put_field(out, 1, |out| self.first.put(out));
        }
        out.push(0);
    }
    fn read(reader: &mut message::Reader) -> Result<Self, message::DecodeError> {
        let mut it = Self {
            first: None,
            names: Wire::read(reader)?,
        };
        if reader.is_empty() {
            return Ok(it);
        }
        fields(reader, |number, part| {
            if number == 1 {
                it.first = Wire::read(part)?;
            }
            Ok(())
        })?;
        Ok(it)
    }
}

/// What was lost of the history in front of it is known, and changes behind it fit the state again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Mended {
    /// Records that are lost; where that is not known, batches.
    pub(crate) records: u64,
    /// Records that were passed over.
    pub(crate) passed_over: u64,
}
wire_fields!(Mended { 1 => records, 2 => passed_over });

/// A shared subscription's queue: who shares it and what it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share {
    pub(crate) group: Bytes,
    pub(crate) pattern: Pattern,
}

impl Wire for Share {
    fn put(&self, out: &mut Vec<u8>) {
        self.group.put(out);
        message::Filter::Pattern(self.pattern.clone()).put(out);
    }
    fn read(reader: &mut message::Reader) -> Result<Self, message::DecodeError> {
        let group = Wire::read(reader)?;
        match message::Filter::read(reader)? {
            message::Filter::Pattern(pattern) => Ok(Self { group, pattern }),
            _ => Err(message::DecodeError::Bounds("a shared filter")),
        }
    }
}

/// A queue was made, or its options changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QueueDeclared {
    pub(crate) queue: QueueId,
    pub(crate) vhost: VhostId,
    /// Empty for queues without a place in the namespace.
    pub(crate) name: Name,
    pub(crate) options: Arc<QueueOptions>,
    /// The client session whose own queue this is.
    pub(crate) client: Option<ClientNo>,
    /// Boxed, as few queues have one.
    pub(crate) share: Option<Box<Share>>,
    /// The connection that it is exclusive to. Soft queues only.
    pub(crate) owner: Option<SessionId>,
    pub(crate) notes: Notes,
    /// These three are the records' times and number: `apply` knows them.
    pub(crate) created: Timestamp,
    pub(crate) changed: Timestamp,
    pub(crate) version: u64,
    /// It was deleted, and what was in it goes in slices.
    pub(crate) doomed: bool,
}
wire_fields!(QueueDeclared {
    1 => queue, 2 => vhost, 3 => name, 4 => options, 5 => client, 6 => share, 7 => notes, 8 => created, 9 => changed,
    10 => version, 11 => doomed,
});

/// A queue is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QueueDeleted {
    pub(crate) queue: QueueId,
    /// Nobody finds it any more, but what is in it goes by records to come, the last of which is of this kind again.
    pub(crate) doomed: bool,
}
wire_fields!(QueueDeleted { 1 => queue, 2 => doomed });

/// What was available in a queue is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QueuePurged {
    pub(crate) queue: QueueId,
    /// Numbers from here on came later.
    pub(crate) below: u64,
    /// What was out and stays.
    pub(crate) kept: Ranges,
    /// Numbers below were purged by another record.
    pub(crate) from: u64,
}
wire_fields!(QueuePurged { 1 => queue, 2 => below, 3 => kept, 4 => from });

/// An exchange was made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExchangeDeclared {
    pub(crate) vhost: VhostId,
    pub(crate) name: Name,
    pub(crate) options: Option<Box<ExchangeOptions>>,
}
impl Default for ExchangeDeclared {
    fn default() -> Self {
        Self {
            vhost: VhostId::ROOT,
            name: Name::new(),
            options: None,
        }
    }
}
wire_fields!(ExchangeDeclared { 1 => vhost, 2 => name, 3 => options });

/// An exchange is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ExchangeDeleted {
    pub(crate) vhost: VhostId,
    pub(crate) name: Name,
    pub(crate) soft: bool,
}
wire_fields!(ExchangeDeleted { 1 => vhost, 2 => name });

/// A binding was made or is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bound {
    pub(crate) vhost: VhostId,
    pub(crate) binding: Option<Box<Binding>>,
    /// The queue it feeds, if it feeds one.
    pub(crate) queue: Option<QueueId>,
    /// The stream it feeds, if it feeds one.
    pub(crate) stream: Option<StreamId>,
    pub(crate) soft: bool,
}
wire_fields!(Bound { 1 => vhost, 2 => binding, 3 => queue, 4 => stream });

/// A message's place in a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Entrant {
    pub(crate) queue: QueueId,
    pub(crate) qseq: u64,
    pub(crate) flags: u16,
    pub(crate) priority: u8,
    pub(crate) rare: Option<Box<Rare>>,
    /// In memory only, though the queue may be durable.
    pub(crate) soft: bool,
}

impl Entrant {
    /// No fewer bytes than it takes in a record.
    pub(crate) fn len_bound(&self) -> usize {
        48 + self.rare.as_ref().map_or(0, |rare| rare.len_bound())
    }
}

/// A retained message was set, or cleared by an empty body.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Retain {
    pub(crate) vhost: VhostId,
    pub(crate) key: Levels,
    pub(crate) clear: bool,
    pub(crate) qos: u8,
    pub(crate) expiry: Option<Timestamp>,
}
wire_fields!(Retain { 1 => vhost, 2 => key, 3 => clear, 4 => qos, 5 => expiry });

/// A message was published.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Published {
    /// Live only; a replay does without.
    pub(crate) message: Option<Arc<Message>>,
    /// Bytes of body.
    pub(crate) len: u32,
    /// Where the body's parts lie, when it was too large for one record.
    pub(crate) parts: Vec<StoredId>,
    pub(crate) targets: SmallVec<[Entrant; 1]>,
    /// Its places in streams.
    pub(crate) records: Vec<RecordEntrant>,
    /// Its numbers among the publishes to FIFO topic objects.
    pub(crate) numbered: Vec<Numbered>,
    pub(crate) retain: Option<Box<Retain>>,
    /// The exactly-once id it came with.
    pub(crate) inbound: Option<(ClientNo, u16)>,
    /// Not in force before the transaction of that number.
    pub(crate) transaction: u64,
    /// Its place among the publishes of the transaction, from 1. The version before wrote none: 0.
    pub(crate) ordinal: u32,
    /// Live only: it is counted as one that a client published.
    pub(crate) counts: bool,
}

impl Published {
    /// Whether it is in the journal.
    pub(crate) fn is_durable(&self) -> bool {
        self.stores()
            || self.retain.is_some()
            || !self.numbered.is_empty()
            || self.inbound.is_some_and(|(client, _)| !client.is_soft())
    }

    /// Whether anything durable refers to the message.
    #[inline]
    pub(crate) fn stores(&self) -> bool {
        // Nearly always there is one target, and it says.
        self.targets.iter().any(|target| !target.soft)
            || !self.records.is_empty()
            || self.retain.as_ref().is_some_and(|retain| !retain.clear)
    }
}

/// One entry handed to one receiver.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HandedOut {
    pub(crate) qseq: u64,
    /// How often, this time included.
    pub(crate) count: u32,
    /// Live only.
    pub(crate) receiver: Option<(SessionId, ConsumerId)>,
    /// Room that it takes.
    pub(crate) bytes: u64,
    /// Gone from the queue as it leaves.
    pub(crate) settled: bool,
    /// Not a push lease: nobody's connection holds it (`visible_at` does, or a link).
    pub(crate) unowned: bool,
    /// In memory only.
    pub(crate) soft: bool,
}

/// The most entries that one [`Delivered`] hands out. Its record tells them as ranges, a few bytes for however many: a reader
/// must know where to stop.
pub(crate) const DELIVERED_ITEMS_MAX: usize = 16_384;

/// Entries of one queue were handed out, at most [`DELIVERED_ITEMS_MAX`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Delivered {
    pub(crate) queue: QueueId,
    pub(crate) items: SmallVec<[HandedOut; 4]>,
    /// For timed leases: when they lapse.
    pub(crate) visible_at: Option<Timestamp>,
    /// For deliveries through a client session: its entry, which refers to the only item.
    pub(crate) link: Option<Box<Entrant>>,
    /// Where the message of a link lies, and its length.
    pub(crate) linked: Option<(StoredId, u32)>,
    /// Live only: the message of a soft link.
    pub(crate) resident: Option<Arc<Message>>,
    /// The attempt that the pull named, which got just this.
    pub(crate) attempt: Option<Bytes>,
}

/// What became of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// Gone.
    #[default]
    Accept,
    /// Available again.
    Release,
    /// Available at that time.
    ReleaseAt(Timestamp),
    /// Owned by the receiver.
    Received,
    /// Out until that time instead.
    LeaseUntil(Timestamp),
}

impl Wire for Settlement {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Accept => out.push(0),
            Self::Release => out.push(1),
            Self::ReleaseAt(at) => {
                out.push(2);
                at.put(out);
            }
            Self::Received => out.push(3),
            Self::LeaseUntil(until) => {
                out.push(4);
                until.put(out);
            }
        }
    }
    fn read(reader: &mut message::Reader) -> Result<Self, message::DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Accept,
            1 => Self::Release,
            2 => Self::ReleaseAt(Wire::read(reader)?),
            3 => Self::Received,
            4 => Self::LeaseUntil(Wire::read(reader)?),
            tag => {
                return Err(message::DecodeError::Unknown {
                    what: "settlement",
                    tag: u64::from(tag),
                });
            }
        })
    }
}

/// Inclusive ranges of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(pub(crate) SmallVec<[(u64, u64); 2]>);

impl Ranges {
    /// Adds a number above all that are in.
    pub(crate) fn push(&mut self, number: u64) {
        match self.0.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => self.0.push((number, number)),
        }
    }

    pub(crate) fn one(number: u64) -> Self {
        Self(SmallVec::from_slice(&[(number, number)]))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same numbers, in pieces that each fit a record.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Self> {
        /// Of at most 20 bytes each.
        const RANGES_MAX: usize = 50_000;
        self.0
            .chunks(RANGES_MAX)
            .map(|piece| Self(SmallVec::from_slice(piece)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// How many numbers are in.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().fold(0u64, |sum, (first, last)| {
            sum.saturating_add((last - first).saturating_add(1))
        })
    }

    /// Whether a number is in; the ranges are in rising order.
    pub(crate) fn contains(&self, number: u64) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= number);
        behind > 0 && number <= self.0[behind - 1].1
    }
}

impl Wire for Ranges {
    fn put(&self, out: &mut Vec<u8>) {
        crate::record::wire::put_ranges(out, &self.0);
    }
    fn read(reader: &mut message::Reader) -> Result<Self, message::DecodeError> {
        Ok(Self(crate::record::wire::read_ranges(reader)?.into()))
    }
}

/// Entries of one queue were settled, released or dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settled {
    pub(crate) queue: QueueId,
    pub(crate) ranges: Ranges,
    pub(crate) settlement: Settlement,
    /// The last delivery of each does not count: nobody had it.
    pub(crate) untried: bool,
    /// No stored entry is among them, or the record would say nothing.
    pub(crate) soft: bool,
}
wire_fields!(Settled { 1 => queue, 2 => ranges, 3 => settlement, 4 => untried });

/// A stored message entered further queues: dead-lettered, or retained and replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Enqueued {
    /// The entry it leaves.
    pub(crate) from: Option<(QueueId, u64)>,
    /// Where it lies, with the length of its body. `None`: in memory.
    pub(crate) stored: Option<(StoredId, u32)>,
    pub(crate) targets: SmallVec<[Entrant; 1]>,
    /// Its places in streams.
    pub(crate) records: Vec<RecordEntrant>,
    /// Live only: the message, unless it is stored and known where.
    pub(crate) message: Option<Arc<Message>>,
    /// The entry it leaves is in memory only.
    pub(crate) from_soft: bool,
    /// Further targets of the message that the last publish stored.
    pub(crate) continues: bool,
}
wire_fields!(Enqueued { 1 => from, 2 => stored, 3 => targets, 4 => continues, 20 => records });

/// A task that moves messages was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MoveStarted {
    /// The queue that it empties.
    pub(crate) queue: QueueId,
    pub(crate) number: u64,
    pub(crate) task: Move,
    /// Older ones that are remembered no longer.
    pub(crate) forgets: Vec<u64>,
}
wire_fields!(MoveStarted { 1 => queue, 2 => number, 3 => task, 4 => forgets });

/// How far a task that moves messages has come; the messages are in records of their own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moved {
    pub(crate) queue: QueueId,
    pub(crate) number: u64,
    /// Altogether.
    pub(crate) moved: u64,
    pub(crate) state: MoveState,
    pub(crate) failure: Option<Arc<str>>,
}
wire_fields!(Moved { 1 => queue, 2 => number, 3 => moved, 4 => state, 5 => failure });

/// A retained message's time was over.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RetainedGone {
    pub(crate) vhost: VhostId,
    pub(crate) key: Levels,
}
wire_fields!(RetainedGone { 1 => vhost, 2 => key });

/// Everything of a transaction is in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Transaction {
    pub(crate) transaction: u64,
    /// What goes with it, besides the publishes that bear its number. Those come before all of it, up to the first that a
    /// [`Kind::InForce`] names; from there on each is in the place of the one that names it. One that is lost leaves the others where they
    /// are. The version before wrote no places: there it is the last ones that are left, as many as there are [`Kind::InForce`], in their
    /// order; if one is lost, others are in force one place off.
    pub(crate) changes: Vec<Change>,
}

/// A client session was opened or resumed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClientOpened {
    pub(crate) client: ClientNo,
    pub(crate) vhost: VhostId,
    pub(crate) client_id: Bytes,
    pub(crate) user: Option<Arc<str>>,
    /// Its own queue.
    pub(crate) queue: QueueId,
    pub(crate) expiry_ms: Option<u64>,
    pub(crate) will: Option<Box<Will>>,
    /// Live only.
    pub(crate) session: Option<SessionId>,
    pub(crate) window: u16,
    pub(crate) message_len_max: Option<u32>,
}
wire_fields!(ClientOpened { 1 => client, 2 => vhost, 3 => client_id, 4 => user, 5 => queue, 6 => expiry_ms, 7 => will });

/// A client session lost its connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClientAway {
    pub(crate) client: ClientNo,
    /// When the session ends.
    pub(crate) ends_at: Option<Timestamp>,
    /// When its will is due; without, there is none any more.
    pub(crate) will_at: Option<Timestamp>,
}
wire_fields!(ClientAway { 1 => client, 2 => ends_at, 3 => will_at });

/// A client session ended, with its queue and subscriptions; or only its will was published.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClientEnded {
    pub(crate) client: ClientNo,
    /// As in [`QueueDeleted`], of the session's queue.
    pub(crate) doomed: bool,
}
wire_fields!(ClientEnded { 1 => client, 2 => doomed });

/// A client session's subscription: what it reads and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientSubscribed {
    pub(crate) client: ClientNo,
    pub(crate) source: Source,
    pub(crate) options: SubscriptionOptions,
    /// The queue read, for sources other than topics.
    pub(crate) queue: Option<QueueId>,
    pub(crate) priority: i32,
}

/// A subscription of a client session has been shown the retained messages up to a topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Replayed {
    pub(crate) client: ClientNo,
    pub(crate) pattern: Pattern,
    /// The topic; without, it has been shown all.
    pub(crate) upto: Option<Levels>,
}

/// A client session's subscription is gone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientUnsubscribed {
    pub(crate) client: ClientNo,
    pub(crate) source: Source,
}

/// An exactly-once id is taken, or free again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Inbound {
    pub(crate) client: ClientNo,
    pub(crate) id: u16,
}
wire_fields!(Inbound { 1 => client, 2 => id });

/// A consumer was added to a queue. Soft.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConsumerAdded {
    pub(crate) session: SessionId,
    pub(crate) consumer: ConsumerId,
    pub(crate) queue: QueueId,
    pub(crate) credit: Credit,
    pub(crate) group: u32,
    pub(crate) exclusive: bool,
    pub(crate) priority: i32,
    pub(crate) through_client: bool,
    pub(crate) qos: u8,
    pub(crate) shared: bool,
    pub(crate) identifier: u32,
}

/// A record handed to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentRecord {
    pub(crate) offset: u64,
    pub(crate) shard: ShardNo,
    /// How often, this time included.
    pub(crate) count: u32,
    /// Room that it takes.
    pub(crate) bytes: u64,
}

/// Records were handed to a consumer. Soft.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReaderSent {
    pub(crate) queue: QueueId,
    pub(crate) receiver: (SessionId, ConsumerId),
    pub(crate) records: SmallVec<[SentRecord; 4]>,
    /// They are settled as they leave.
    pub(crate) settled: bool,
    /// What was given back below this is too old to be handed out again.
    pub(crate) kept: u64,
    /// Everything in stream files below this has been handed out, or is too old.
    pub(crate) passed: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Change(pub(crate) Kind);

/// The kinds of change; the first group is durable, or durable where its ids are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    EpochOpen(EpochOpen),
    Vhosts(Vhosts),
    Mended(Mended),
    /// The store's own secret was made.
    Secret(Secret),
    QueueDeclared(Box<QueueDeclared>),
    QueueDeleted(QueueDeleted),
    QueuePurged(Box<QueuePurged>),
    ExchangeDeclared(Box<ExchangeDeclared>),
    ExchangeDeleted(Box<ExchangeDeleted>),
    Bound(Box<Bound>),
    Unbound(Box<Bound>),
    Published(Box<Published>),
    Delivered(Box<Delivered>),
    Settled(Settled),
    Enqueued(Box<Enqueued>),
    /// In a transaction: its publish of that place has its turn. The version before wrote none, 0: the next one.
    InForce(u32),
    RetainedGone(Box<RetainedGone>),
    MoveStarted(Box<MoveStarted>),
    Moved(Box<Moved>),
    Transaction(Box<Transaction>),
    ClientOpened(Box<ClientOpened>),
    ClientAway(ClientAway),
    WillDone(ClientEnded),
    ClientEnded(ClientEnded),
    ClientSubscribed(Box<ClientSubscribed>),
    ClientUnsubscribed(Box<ClientUnsubscribed>),
    Replayed(Box<Replayed>),
    InboundTaken(Inbound),
    InboundReleased(Inbound),
    StreamDeclared(Box<StreamDeclared>),
    StreamDeleted(StreamDeleted),
    Resharded(Box<Resharded>),
    Trimmed(Box<Trimmed>),
    RecordsLost(Box<RecordsLost>),
    StreamFiled(Box<StreamFiled>),
    TopicDeclared(Box<TopicDeclared>),
    TopicDeleted(TopicDeleted),
    Subscribed(Box<Subscribed>),
    Unsubscribed(Box<Unsubscribed>),
    GroupMade(Box<GroupMade>),
    GroupGone(Box<GroupGone>),
    GroupLeased(Box<GroupLeased>),
    Checkpointed(Box<Checkpointed>),
    // Soft from here on.
    Attached {
        session: SessionId,
        vhost: VhostId,
        user: Arc<str>,
        /// It is a part of the broker itself.
        broker: bool,
    },
    Detached(SessionId),
    ConsumerAdded(Box<ConsumerAdded>),
    ConsumerGone {
        session: SessionId,
        consumer: ConsumerId,
    },
    CreditSet {
        session: SessionId,
        consumer: ConsumerId,
        credit: Credit,
    },
    GroupWindow {
        session: SessionId,
        group: u32,
        window: u32,
    },
    GroupFlow {
        session: SessionId,
        group: u32,
        active: bool,
    },
    /// A pull waits for a message.
    PullWaits {
        queue: QueueId,
        until: Timestamp,
        pull: Box<crate::soft::Waiting>,
    },
    /// A pull waits no longer.
    PullEnds {
        session: SessionId,
        token: session::Token,
    },
    /// A read waits for a record.
    ReadWaits {
        stream: StreamId,
        until: Timestamp,
        read: Box<WaitingRead>,
    },
    /// A read waits no longer.
    ReadEnds {
        session: SessionId,
        token: session::Token,
    },
    /// A consumer of a stream, before it is added as a consumer of that queue.
    ReaderAdded {
        queue: QueueId,
        reader: Box<Reader>,
    },
    /// A consumer waits for records out of a stream file.
    ReaderLoads(QueueId),
    /// They came; or there is none to be had, and it looks again.
    ReaderLoaded {
        queue: QueueId,
        window: Option<Box<Window>>,
    },
    /// Records were handed to a consumer.
    ReaderSent(Box<ReaderSent>),
    /// Records that were out to a consumer are settled, or to be handed out again.
    ReaderSettled {
        queue: QueueId,
        ranges: Ranges,
        again: bool,
    },
    /// Shards changed hands among the members of a group.
    Assigned(Box<Assigned>),
    /// Members of a group may have to change shards.
    Regroup(StreamId),
    /// Limited reads took that from a shard.
    ReadCounted {
        stream: StreamId,
        shard: ShardNo,
        reads: u64,
        bytes: u64,
    },
    /// A stream had its turn in the round; in that shard there is nothing to do for the time being.
    StreamTurn {
        stream: StreamId,
        rests: Option<ShardNo>,
    },
    /// A delivery that no queue knows of took so much room in each of these outboxes.
    Sent {
        to: SmallVec<[SessionId; 2]>,
        bytes: u64,
    },
    /// The time for which an entry was hidden is over.
    Visible {
        queue: QueueId,
        qseq: u64,
    },
    /// An entry is set aside until its message has been fetched.
    SetAside {
        queue: QueueId,
        qseq: u64,
    },
    /// A queue that goes when it is unused has been used.
    Used(QueueId),
    /// Nothing can be delivered from that queue for the time being, or some of those that it was to be delivered to may not receive.
    Rest(QueueId),
    /// The next of those that something of their connection held up are looked at again. Its place in the round.
    Wakes(u64),
    /// A queue is to be emptied of what is available in it now, for whom that is to be told then.
    Empties {
        queue: QueueId,
        /// Also of what is out under a lease with a deadline.
        all: bool,
        waiter: crate::soft::Waiter,
    },
    /// A queue has been emptied up to that number; or as far as it is to be.
    Emptied {
        queue: QueueId,
        upto: Option<u64>,
    },
    /// There is no room for further retained messages of that client session.
    ReplayRests(ClientNo),
    /// The wheel of timers turns towards that time.
    Turned(Timestamp),
    /// A deadline needs no record: look again later, or never.
    Postponed {
        was: (Timestamp, crate::soft::Timer),
        until: Option<Timestamp>,
    },
    Counted(Tally, u64),
}

impl Kind {
    /// Whether routing may find something else after it: unless it is one of the many that messages and consumers cause.
    pub(crate) const fn may_reroute(&self) -> bool {
        !matches!(
            self,
            Self::Published(_)
                | Self::Delivered(_)
                | Self::Settled(_)
                | Self::Enqueued(_)
                | Self::RetainedGone(_)
                | Self::Moved(_)
                | Self::InboundTaken(_)
                | Self::InboundReleased(_)
                | Self::Checkpointed(_)
                | Self::CreditSet { .. }
                | Self::GroupWindow { .. }
                | Self::GroupFlow { .. }
                | Self::PullWaits { .. }
                | Self::PullEnds { .. }
                | Self::ReadWaits { .. }
                | Self::ReadEnds { .. }
                | Self::ReadCounted { .. }
                | Self::ReaderLoads(_)
                | Self::ReaderLoaded { .. }
                | Self::ReaderSent(_)
                | Self::ReaderSettled { .. }
                | Self::StreamTurn { .. }
                | Self::Sent { .. }
                | Self::Visible { .. }
                | Self::SetAside { .. }
                | Self::Used(_)
                | Self::Rest(_)
                | Self::Wakes(_)
                | Self::ReplayRests(_)
                | Self::Turned(_)
                | Self::Postponed { .. }
                | Self::Counted(..)
        )
    }
}

impl Change {
    /// Whether it goes into the journal.
    #[must_use]
    #[inline]
    pub fn is_durable(&self) -> bool {
        // What every message causes is told apart at a glance.
        match &self.0 {
            Kind::Sent { .. } | Kind::Counted(..) => false,
            Kind::Published(it) => it.is_durable(),
            _ => self.is_recorded(),
        }
    }

    fn is_recorded(&self) -> bool {
        match &self.0 {
            Kind::EpochOpen(_)
            | Kind::InForce(_)
            | Kind::Vhosts(_)
            | Kind::Mended(_)
            | Kind::Secret(_)
            | Kind::MoveStarted(_)
            | Kind::Moved(_)
            | Kind::RetainedGone(_)
            | Kind::StreamDeclared(_)
            | Kind::StreamDeleted(_)
            | Kind::Resharded(_)
            | Kind::Trimmed(_)
            | Kind::RecordsLost(_)
            | Kind::StreamFiled(_)
            | Kind::TopicDeclared(_)
            | Kind::TopicDeleted(_)
            | Kind::Subscribed(_)
            | Kind::Unsubscribed(_)
            | Kind::GroupMade(_)
            | Kind::GroupGone(_)
            | Kind::GroupLeased(_)
            | Kind::Checkpointed(_) => true,
            Kind::Transaction(it) => it.transaction != 0 || it.changes.iter().any(Self::is_durable),
            Kind::QueueDeclared(it) => !is_soft(it.queue),
            Kind::QueueDeleted(it) => !is_soft(it.queue),
            Kind::QueuePurged(it) => !is_soft(it.queue),
            Kind::ExchangeDeclared(it) => it.options.as_ref().is_some_and(|o| o.durable),
            Kind::ExchangeDeleted(it) => !it.soft,
            Kind::Bound(it) | Kind::Unbound(it) => !it.soft,
            Kind::Published(it) => it.is_durable(),
            Kind::Delivered(it) => it.items.iter().any(|item| !item.soft),
            Kind::Settled(it) => !it.soft,
            Kind::Enqueued(it) => {
                (it.from.is_some() && !it.from_soft)
                    || !it.records.is_empty()
                    || it.targets.iter().any(|t| !t.soft)
            }
            Kind::ClientOpened(it) => !it.client.is_soft(),
            Kind::ClientAway(it) => !it.client.is_soft(),
            Kind::WillDone(it) | Kind::ClientEnded(it) => !it.client.is_soft(),
            Kind::ClientSubscribed(it) => !it.client.is_soft(),
            Kind::ClientUnsubscribed(it) => !it.client.is_soft(),
            Kind::Replayed(it) => !it.client.is_soft(),
            Kind::InboundTaken(it) | Kind::InboundReleased(it) => !it.client.is_soft(),
            Kind::Attached { .. }
            | Kind::Detached(_)
            | Kind::ConsumerAdded(_)
            | Kind::ConsumerGone { .. }
            | Kind::CreditSet { .. }
            | Kind::GroupWindow { .. }
            | Kind::GroupFlow { .. }
            | Kind::PullWaits { .. }
            | Kind::PullEnds { .. }
            | Kind::ReadWaits { .. }
            | Kind::ReadEnds { .. }
            | Kind::ReaderAdded { .. }
            | Kind::ReaderLoads(_)
            | Kind::ReaderLoaded { .. }
            | Kind::ReaderSent(_)
            | Kind::ReaderSettled { .. }
            | Kind::Assigned(_)
            | Kind::Regroup(_)
            | Kind::ReadCounted { .. }
            | Kind::StreamTurn { .. }
            | Kind::Sent { .. }
            | Kind::Visible { .. }
            | Kind::SetAside { .. }
            | Kind::Used(_)
            | Kind::Rest(_)
            | Kind::Wakes(_)
            | Kind::ReplayRests(_)
            | Kind::Empties { .. }
            | Kind::Emptied { .. }
            | Kind::Turned(_)
            | Kind::Postponed { .. }
            | Kind::Counted(..) => false,
        }
    }

    /// The message whose head and body are stored with the record.
    #[must_use]
    pub fn message(&self) -> Option<&Arc<Message>> {
        match &self.0 {
            Kind::Published(it) if it.stores() => it.message.as_ref(),
            _ => None,
        }
    }

    /// Whether the record must lie in one batch with the other records of its decision. The publishes of a transaction
    /// need not: they are not in force before its last record.
    #[must_use]
    pub fn shares_batch(&self) -> bool {
        !matches!(&self.0, Kind::Published(it) if it.transaction != 0)
    }
}

/// The name that a topic source has as a key: its filter as a pattern.
pub(crate) fn pattern_of(filter: &message::Filter) -> Option<Pattern> {
    match filter {
        message::Filter::Pattern(pattern) => Some(pattern.clone()),
        message::Filter::Exact(levels) => Some(Pattern(
            levels
                .iter()
                .map(|level| message::FilterLevel::Exact(Bytes::copy_from_slice(level)))
                .collect(),
        )),
        message::Filter::All => Some(Pattern(vec![message::FilterLevel::Many])),
        message::Filter::Selected { .. } | message::Filter::Headers { .. } => None,
    }
}

/// The canonical pattern of a client's expiry in the records.
pub(crate) const fn expiry_ms(expiry: ClientExpiry) -> Option<u64> {
    match expiry {
        ClientExpiry::WithConnection => Some(0),
        ClientExpiry::AfterMs(ms) => Some(ms),
        ClientExpiry::Never => None,
    }
}
