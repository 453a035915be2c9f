//! Changes as records, and back.

use bytes::Bytes;
use message::{
    DecodeError, Filter, Name, Reader, StoredId, Timestamp,
    codec::{put_bytes, put_u64, take_bytes, take_u64},
};
use session::{Source, SubscriptionOptions};

use super::{
    foreign::fields,
    wire::{Wire, put_field, put_number},
};
use crate::change::{
    Change, ClientSubscribed, ClientUnsubscribed, DELIVERED_ITEMS_MAX, Delivered, Entrant,
    HandedOut, Kind, Published, Ranges, Replayed, Transaction,
};

/// The type of a record: never reused, an unknown one stops the reader (RULES 24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordKind(pub u8);

impl RecordKind {
    /// A part of a large body. Written and read by the node; no change of the core.
    pub const BODY_PART: Self = Self(0xF0);
    /// Stores a message.
    pub const PUBLISHED: Self = Self(10);
}

const EPOCH_OPEN: u8 = 2;
const VHOSTS: u8 = 3;
const QUEUE_DECLARED: u8 = 4;
const QUEUE_DELETED: u8 = 5;
const QUEUE_PURGED: u8 = 6;
const EXCHANGE_DECLARED: u8 = 7;
const EXCHANGE_DELETED: u8 = 8;
const BOUND: u8 = 9;
const PUBLISHED: u8 = RecordKind::PUBLISHED.0;
const DELIVERED: u8 = 11;
const SETTLED: u8 = 12;
const ENQUEUED: u8 = 13;
const RETAINED_GONE: u8 = 14;
const TRANSACTION: u8 = 15;
const CLIENT_OPENED: u8 = 16;
const CLIENT_AWAY: u8 = 17;
const CLIENT_ENDED: u8 = 18;
const CLIENT_SUBSCRIBED: u8 = 19;
const CLIENT_UNSUBSCRIBED: u8 = 20;
const INBOUND_TAKEN: u8 = 21;
const INBOUND_RELEASED: u8 = 22;
const UNBOUND: u8 = 23;
const WILL_DONE: u8 = 24;
const REPLAYED: u8 = 25;
const SECRET: u8 = 26;
const MOVE_STARTED: u8 = 27;
const MOVED: u8 = 28;
const STREAM_DECLARED: u8 = 40;
const STREAM_DELETED: u8 = 41;
const RESHARDED: u8 = 42;
const TRIMMED: u8 = 43;
const TOPIC_DECLARED: u8 = 60;
const TOPIC_DELETED: u8 = 61;
const SUBSCRIBED: u8 = 62;
const UNSUBSCRIBED: u8 = 63;
const GROUP_MADE: u8 = 44;
const GROUP_GONE: u8 = 45;
const GROUP_LEASED: u8 = 46;
const CHECKPOINTED: u8 = 47;
const STREAM_FILED: u8 = 48;
const RECORDS_LOST: u8 = 49;
const MENDED: u8 = 50;
const IN_FORCE: u8 = 51;

/// The field of the time, in every record.
const TIME: u64 = 31;

/// Where the body of a publish is, as its record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyAt<'a> {
    /// The record stores no message.
    None,
    /// Behind the fields, as the rest of the record: appended by the node.
    Inline {
        /// Bytes of it.
        len: u64,
    },
    /// In records of its own.
    Parts {
        /// Them, in order.
        parts: &'a [StoredId],
        /// Bytes altogether.
        len: u64,
    },
}

/// A message as its record holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// For `message::decode_head`.
    pub head: Bytes,
    /// The body.
    pub body: StoredBody,
}

/// Where the body of a stored message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredBody {
    /// Here.
    Inline(Bytes),
    /// In `BODY_PART` records.
    Parts {
        /// Them, in order.
        parts: Vec<StoredId>,
        /// Bytes altogether.
        len: u64,
    },
}

impl Change {
    /// Appends the record's fields and says its kind. `head` is the encoded head of [`Change::message`]; an inline body
    /// is appended by the caller, behind what this wrote. Soft targets and whatever else is soft are left out.
    ///
    /// # Panics
    /// When the change is not durable: it has no record.
    pub fn encode(
        &self,
        now: Timestamp,
        head: &[u8],
        body: BodyAt<'_>,
        out: &mut Vec<u8>,
    ) -> RecordKind {
        put_field(out, TIME, |out| now.put(out));
        if let Kind::Published(it) = &self.0 {
            put_published(it, head, body, out);
            return RecordKind(PUBLISHED);
        }
        RecordKind(put_kind(&self.0, out))
    }

    /// The body of the message lies in these records: told by the node before the change is encoded and applied, so that
    /// live and replayed changes are the same.
    pub fn put_parts(&mut self, parts: Vec<StoredId>) {
        if let Kind::Published(published) = &mut self.0 {
            published.parts = parts;
        }
    }

    /// Reads a record: for replay. The message's head is not decoded.
    pub fn decode(kind: RecordKind, payload: Bytes) -> Result<(Timestamp, Self), DecodeError> {
        let mut reader = Reader::new(payload);
        if reader.u64()? != TIME {
            return Err(DecodeError::Bounds("a record's first field"));
        }
        let now = reader.part(Timestamp::read)?;
        match kind.0 {
            PUBLISHED => {
                let mut published = read_published(&mut reader, |_| ())?;
                if published.parts.is_empty() {
                    published.len = u32::try_from(reader.len())
                        .map_err(|_| DecodeError::Bounds("the length of a body"))?;
                }
                Ok((now, Self(Kind::Published(Box::new(published)))))
            }
            // Numbers, and what is copied one by one.
            DELIVERED | SETTLED | ENQUEUED => Ok((now, Self(read_kind(kind.0, &mut reader)?))),
            // What is read lives long: it must not pin the batch that the record lay in.
            _ => {
                let mut own = Reader::new(Bytes::copy_from_slice(reader.unread()));
                Ok((now, Self(read_kind(kind.0, &mut own)?)))
            }
        }
    }
}

/// Reads the message of a stored publish.
pub fn decode_stored(payload: Bytes) -> Result<StoredMessage, DecodeError> {
    let mut reader = Reader::new(payload);
    if reader.u64()? != TIME {
        return Err(DecodeError::Bounds("a record's first field"));
    }
    reader.slice()?;
    let (mut head, mut len) = (Bytes::new(), 0u32);
    let mut parts: Vec<StoredId> = Vec::new();
    // Where it went is not asked.
    fields(&mut reader, |number, part| {
        match number {
            1 => head = part.rest(),
            5 => parts = Wire::read(part)?,
            6 => len = Wire::read(part)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(StoredMessage {
        head,
        body: if parts.is_empty() {
            StoredBody::Inline(reader.rest())
        } else {
            StoredBody::Parts {
                parts,
                len: u64::from(len),
            }
        },
    })
}

/// A head and a body, where they lie.
type HeadAndBody<'a> = (&'a [u8], &'a [u8]);

/// The head and the body of a stored publish. `None`: the body lies elsewhere, as [`decode_stored`] says.
pub fn stored_here(payload: &[u8]) -> Result<Option<HeadAndBody<'_>>, DecodeError> {
    let mut rest = payload;
    if take_u64(&mut rest)? != TIME {
        return Err(DecodeError::Bounds("a record's first field"));
    }
    take_bytes(&mut rest)?;
    let mut head = &[][..];
    loop {
        match take_u64(&mut rest)? {
            0 => return Ok(Some((head, rest))),
            1 => head = take_bytes(&mut rest)?,
            5 => return Ok(None),
            _ => {
                take_bytes(&mut rest)?;
            }
        }
    }
}

/// A publish without its message, for snapshots.
pub(crate) fn put_published_bare(it: &Published, out: &mut Vec<u8>) {
    let body = if it.parts.is_empty() {
        BodyAt::None
    } else {
        BodyAt::Parts {
            parts: &it.parts,
            len: u64::from(it.len),
        }
    };
    put_published(it, &[], body, out);
}

// By hand, as each message has one: fields of which nearly all are numbers.
impl Wire for Entrant {
    fn put(&self, out: &mut Vec<u8>) {
        let numbers = [
            (1, self.queue.0),
            (2, self.qseq),
            (3, u64::from(self.flags)),
            (4, u64::from(self.priority)),
        ];
        for (number, value) in numbers {
            if value != 0 {
                put_number(out, number, value);
            }
        }
        if self.rare.is_some() {
            put_field(out, 5, |out| self.rare.put(out));
        }
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        fields(reader, |number, part| {
            match number {
                1 => it.queue = Wire::read(part)?,
                2 => it.qseq = Wire::read(part)?,
                3 => it.flags = Wire::read(part)?,
                4 => it.priority = Wire::read(part)?,
                5 => it.rare = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(it)
    }
}

/// Reads what [`put_published_bare`] wrote.
pub(crate) fn get_published_bare(reader: &mut Reader) -> Result<Published, DecodeError> {
    read_published(reader, |_| ())
}

fn put_published(it: &Published, head: &[u8], body: BodyAt<'_>, out: &mut Vec<u8>) {
    put_u64(out, 1);
    put_bytes(out, head);
    for target in it.targets.iter().filter(|target| !target.soft) {
        put_field(out, 2, |out| target.put(out));
    }
    if let Some(retain) = &it.retain {
        put_field(out, 3, |out| retain.put(out));
    }
    if let Some(inbound) = it.inbound.filter(|(client, _)| !client.is_soft()) {
        put_field(out, 4, |out| inbound.put(out));
    }
    if let BodyAt::Parts { parts, len } = body {
        put_field(out, 5, |out| {
            put_u64(out, parts.len() as u64);
            for part in parts {
                part.put(out);
            }
        });
        put_field(out, 6, |out| len.put(out));
    }
    if it.transaction != 0 {
        put_field(out, 7, |out| it.transaction.put(out));
        put_field(out, 8, |out| it.ordinal.put(out));
    }
    for record in &it.records {
        put_field(out, 20, |out| record.put(out));
    }
    for numbered in &it.numbered {
        put_field(out, 30, |out| numbered.put(out));
    }
    out.push(0);
}

/// Reads a publish up to its body; `head` is shown the head of its message.
fn read_published(
    reader: &mut Reader,
    mut head: impl FnMut(&Reader),
) -> Result<Published, DecodeError> {
    let mut it = Published::default();
    fields(reader, |number, part| {
        match number {
            1 => head(part),
            2 => it.targets.push(Wire::read(part)?),
            3 => {
                // The key lives long: it must not pin the batch that the record lay in.
                let mut own = Reader::new(Bytes::copy_from_slice(part.unread()));
                it.retain = Some(Wire::read(&mut own)?);
            }
            4 => it.inbound = Some(Wire::read(part)?),
            5 => it.parts = Wire::read(part)?,
            6 => it.len = Wire::read(part)?,
            7 => it.transaction = Wire::read(part)?,
            8 => it.ordinal = Wire::read(part)?,
            20 => it.records.push(Wire::read(part)?),
            30 => it.numbered.push(Wire::read(part)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(it)
}

fn put_kind(kind: &Kind, out: &mut Vec<u8>) -> u8 {
    match kind {
        Kind::EpochOpen(it) => put(it, EPOCH_OPEN, out),
        Kind::Vhosts(it) => put(it, VHOSTS, out),
        Kind::Mended(it) => put(it, MENDED, out),
        Kind::InForce(ordinal) => {
            put_number(out, 1, u64::from(*ordinal));
            out.push(0);
            IN_FORCE
        }
        Kind::Secret(it) => put(it, SECRET, out),
        Kind::MoveStarted(it) => put(&**it, MOVE_STARTED, out),
        Kind::Moved(it) => put(&**it, MOVED, out),
        Kind::QueueDeclared(it) => put(&**it, QUEUE_DECLARED, out),
        Kind::QueueDeleted(it) => put(it, QUEUE_DELETED, out),
        Kind::QueuePurged(it) => put(&**it, QUEUE_PURGED, out),
        Kind::ExchangeDeclared(it) => put(&**it, EXCHANGE_DECLARED, out),
        Kind::ExchangeDeleted(it) => put(&**it, EXCHANGE_DELETED, out),
        Kind::Bound(it) => put(&**it, BOUND, out),
        Kind::Unbound(it) => put(&**it, UNBOUND, out),
        Kind::Delivered(it) => put(&**it, DELIVERED, out),
        Kind::Settled(it) => put(it, SETTLED, out),
        Kind::Enqueued(it) => {
            let mut durable = (**it).clone();
            durable.targets.retain(|target| !target.soft);
            if durable.from_soft {
                durable.from = None;
            }
            put(&durable, ENQUEUED, out)
        }
        Kind::RetainedGone(it) => put(&**it, RETAINED_GONE, out),
        Kind::Transaction(it) => put(&**it, TRANSACTION, out),
        Kind::ClientOpened(it) => put(&**it, CLIENT_OPENED, out),
        Kind::ClientAway(it) => put(it, CLIENT_AWAY, out),
        Kind::WillDone(it) => put(it, WILL_DONE, out),
        Kind::ClientEnded(it) => put(it, CLIENT_ENDED, out),
        Kind::ClientSubscribed(it) => put(&**it, CLIENT_SUBSCRIBED, out),
        Kind::ClientUnsubscribed(it) => put(&**it, CLIENT_UNSUBSCRIBED, out),
        Kind::Replayed(it) => put(&**it, REPLAYED, out),
        Kind::InboundTaken(it) => put(it, INBOUND_TAKEN, out),
        Kind::InboundReleased(it) => put(it, INBOUND_RELEASED, out),
        Kind::StreamDeclared(it) => put(&**it, STREAM_DECLARED, out),
        Kind::StreamDeleted(it) => put(it, STREAM_DELETED, out),
        Kind::Resharded(it) => put(&**it, RESHARDED, out),
        Kind::Trimmed(it) => put(&**it, TRIMMED, out),
        Kind::StreamFiled(it) => put(&**it, STREAM_FILED, out),
        Kind::RecordsLost(it) => put(&**it, RECORDS_LOST, out),
        Kind::TopicDeclared(it) => put(&**it, TOPIC_DECLARED, out),
        Kind::TopicDeleted(it) => put(it, TOPIC_DELETED, out),
        Kind::Subscribed(it) => put(&**it, SUBSCRIBED, out),
        Kind::Unsubscribed(it) => put(&**it, UNSUBSCRIBED, out),
        Kind::GroupMade(it) => put(&**it, GROUP_MADE, out),
        Kind::GroupGone(it) => put(&**it, GROUP_GONE, out),
        Kind::GroupLeased(it) => put(&**it, GROUP_LEASED, out),
        Kind::Checkpointed(it) => put(&**it, CHECKPOINTED, out),
        Kind::Published(_)
        | Kind::Attached { .. }
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
        | Kind::Counted(..) => unreachable!("a soft change has no record"),
    }
}

fn put(value: &impl Wire, kind: u8, out: &mut Vec<u8>) -> u8 {
    value.put(out);
    kind
}

fn read_kind(kind: u8, r: &mut Reader) -> Result<Kind, DecodeError> {
    Ok(match kind {
        EPOCH_OPEN => Kind::EpochOpen(Wire::read(r)?),
        VHOSTS => Kind::Vhosts(Wire::read(r)?),
        MENDED => Kind::Mended(Wire::read(r)?),
        IN_FORCE => {
            let mut ordinal = 0;
            fields(r, |number, part| {
                if number == 1 {
                    ordinal = Wire::read(part)?;
                }
                Ok(())
            })?;
            Kind::InForce(ordinal)
        }
        SECRET => Kind::Secret(Wire::read(r)?),
        MOVE_STARTED => Kind::MoveStarted(Wire::read(r)?),
        MOVED => Kind::Moved(Wire::read(r)?),
        QUEUE_DECLARED => Kind::QueueDeclared(Wire::read(r)?),
        QUEUE_DELETED => Kind::QueueDeleted(Wire::read(r)?),
        QUEUE_PURGED => Kind::QueuePurged(Wire::read(r)?),
        EXCHANGE_DECLARED => Kind::ExchangeDeclared(Wire::read(r)?),
        EXCHANGE_DELETED => Kind::ExchangeDeleted(Wire::read(r)?),
        BOUND => Kind::Bound(Wire::read(r)?),
        UNBOUND => Kind::Unbound(Wire::read(r)?),
        DELIVERED => Kind::Delivered(Wire::read(r)?),
        SETTLED => Kind::Settled(Wire::read(r)?),
        ENQUEUED => Kind::Enqueued(Wire::read(r)?),
        RETAINED_GONE => Kind::RetainedGone(Wire::read(r)?),
        TRANSACTION => Kind::Transaction(Wire::read(r)?),
        CLIENT_OPENED => Kind::ClientOpened(Wire::read(r)?),
        CLIENT_AWAY => Kind::ClientAway(Wire::read(r)?),
        WILL_DONE => Kind::WillDone(Wire::read(r)?),
        CLIENT_ENDED => Kind::ClientEnded(Wire::read(r)?),
        CLIENT_SUBSCRIBED => Kind::ClientSubscribed(Wire::read(r)?),
        CLIENT_UNSUBSCRIBED => Kind::ClientUnsubscribed(Wire::read(r)?),
        REPLAYED => Kind::Replayed(Wire::read(r)?),
        INBOUND_TAKEN => Kind::InboundTaken(Wire::read(r)?),
        INBOUND_RELEASED => Kind::InboundReleased(Wire::read(r)?),
        STREAM_DECLARED => Kind::StreamDeclared(Wire::read(r)?),
        STREAM_DELETED => Kind::StreamDeleted(Wire::read(r)?),
        RESHARDED => Kind::Resharded(Wire::read(r)?),
        TRIMMED => Kind::Trimmed(Wire::read(r)?),
        STREAM_FILED => Kind::StreamFiled(Wire::read(r)?),
        RECORDS_LOST => Kind::RecordsLost(Wire::read(r)?),
        TOPIC_DECLARED => Kind::TopicDeclared(Wire::read(r)?),
        TOPIC_DELETED => Kind::TopicDeleted(Wire::read(r)?),
        SUBSCRIBED => Kind::Subscribed(Wire::read(r)?),
        UNSUBSCRIBED => Kind::Unsubscribed(Wire::read(r)?),
        GROUP_MADE => Kind::GroupMade(Wire::read(r)?),
        GROUP_GONE => Kind::GroupGone(Wire::read(r)?),
        GROUP_LEASED => Kind::GroupLeased(Wire::read(r)?),
        CHECKPOINTED => Kind::Checkpointed(Wire::read(r)?),
        tag => {
            return Err(DecodeError::Unknown {
                what: "record type",
                tag: u64::from(tag),
            });
        }
    })
}

impl Wire for Delivered {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.queue.put(out));
        for settled in [false, true] {
            let mut ranges = Ranges::default();
            let mut counts = Vec::new();
            for item in self
                .items
                .iter()
                .filter(|i| !i.soft && i.settled == settled)
            {
                ranges.push(item.qseq);
                counts.push(item.count);
            }
            if counts.is_empty() {
                continue;
            }
            put_field(out, if settled { 3 } else { 2 }, |out| {
                ranges.put(out);
                if !settled {
                    // One count for all, as a rule.
                    let same = counts.iter().all(|count| *count == counts[0]);
                    out.push(u8::from(same));
                    for count in counts.iter().take(if same { 1 } else { counts.len() }) {
                        count.put(out);
                    }
                }
            });
        }
        if self.visible_at.is_some() {
            put_field(out, 4, |out| self.visible_at.put(out));
        }
        if let Some(link) = self.link.as_ref().filter(|link| !link.soft) {
            put_field(out, 5, |out| link.put(out));
            put_field(out, 6, |out| self.linked.put(out));
        }
        if self.attempt.is_some() {
            put_field(out, 7, |out| self.attempt.put(out));
        }
        out.push(0);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        fields(reader, |number, part| {
            match number {
                1 => it.queue = Wire::read(part)?,
                2 | 3 => {
                    let settled = number == 3;
                    let ranges = Ranges::read(part)?;
                    let room = DELIVERED_ITEMS_MAX - it.items.len();
                    if ranges.count() > room as u64 {
                        return Err(DecodeError::Bounds("the entries of a delivery"));
                    }
                    let same = settled || part.u8()? == 1;
                    let mut count = if settled { 1 } else { part.u32()? };
                    let mut first = true;
                    for qseq in ranges.iter() {
                        if !same && !first {
                            count = part.u32()?;
                        }
                        first = false;
                        it.items.push(HandedOut {
                            qseq,
                            count,
                            receiver: None,
                            bytes: 0,
                            settled,
                            unowned: false,
                            soft: false,
                        });
                    }
                }
                4 => it.visible_at = Wire::read(part)?,
                5 => it.link = Some(Wire::read(part)?),
                6 => it.linked = Wire::read(part)?,
                7 => it.attempt = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(it)
    }
}

impl Wire for Transaction {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.transaction.put(out));
        for change in self.changes.iter().filter(|change| change.is_durable()) {
            put_field(out, 2, |out| {
                let at = out.len();
                out.push(0);
                out[at] = put_kind(&change.0, out);
            });
        }
        out.push(0);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        fields(reader, |number, part| {
            match number {
                1 => it.transaction = Wire::read(part)?,
                2 => {
                    let kind = part.u8()?;
                    // What a session does in a transaction is publishing and settling: it holds no deliveries, which cost
                    // more than their bytes, and no transactions, which would nest without end.
                    if matches!(kind, TRANSACTION | DELIVERED) {
                        return Err(DecodeError::Unknown {
                            what: "change in a transaction",
                            tag: u64::from(kind),
                        });
                    }
                    it.changes.push(Change(read_kind(kind, part)?));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(it)
    }
}

impl Wire for Source {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Queue { name, create } => {
                out.push(0);
                name.put(out);
                create.put(out);
            }
            // Nothing is kept by a bare name: a client session reads a queue or a stream.
            Self::Named { name } => {
                out.push(0);
                name.put(out);
                true.put(out);
            }
            Self::Topic { filter } => {
                out.push(1);
                filter.put(out);
            }
            Self::Shared { group, filter } => {
                out.push(2);
                group.put(out);
                filter.put(out);
            }
            // A client session reads a stream as a topic: where to begin and in which group are a connection's matters.
            Self::Stream { name, .. } => {
                out.push(3);
                name.put(out);
            }
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Queue {
                name: Wire::read(reader)?,
                create: Wire::read(reader)?,
            },
            1 => Self::Topic {
                filter: Wire::read(reader)?,
            },
            2 => Self::Shared {
                group: Wire::read(reader)?,
                filter: Wire::read(reader)?,
            },
            3 => Self::Stream {
                name: Wire::read(reader)?,
                from: session::StreamStart::Next,
                group: None,
            },
            tag => {
                return Err(DecodeError::Unknown {
                    what: "source",
                    tag: u64::from(tag),
                });
            }
        })
    }
}

impl Wire for ClientSubscribed {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.client.put(out));
        put_field(out, 2, |out| self.source.put(out));
        put_field(out, 3, |out| self.options.put(out));
        put_field(out, 4, |out| self.queue.put(out));
        put_field(out, 5, |out| self.priority.put(out));
        out.push(0);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut it = Self {
            client: Default::default(),
            source: Source::Queue {
                name: Name::new(),
                create: false,
            },
            options: SubscriptionOptions::default(),
            queue: None,
            priority: 0,
        };
        fields(reader, |number, part| {
            match number {
                1 => it.client = Wire::read(part)?,
                2 => it.source = Wire::read(part)?,
                3 => it.options = Wire::read(part)?,
                4 => it.queue = Wire::read(part)?,
                5 => it.priority = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(it)
    }
}

impl Wire for Replayed {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.client.put(out));
        put_field(out, 2, |out| Filter::Pattern(self.pattern.clone()).put(out));
        put_field(out, 3, |out| self.upto.put(out));
        out.push(0);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        fields(reader, |number, part| {
            match number {
                1 => it.client = Wire::read(part)?,
                2 => {
                    let Filter::Pattern(pattern) = Filter::read(part)? else {
                        return Err(DecodeError::Bounds("a subscription's filter"));
                    };
                    it.pattern = pattern;
                }
                3 => it.upto = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(it)
    }
}

impl Wire for ClientUnsubscribed {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(out, 1, |out| self.client.put(out));
        put_field(out, 2, |out| self.source.put(out));
        out.push(0);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut it = Self {
            client: Default::default(),
            source: Source::Queue {
                name: Name::new(),
                create: false,
            },
        };
        fields(reader, |number, part| {
            match number {
                1 => it.client = Wire::read(part)?,
                2 => it.source = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::wire::put_ranges;

    /// A record of deliveries with these ranges, all with one count.
    fn delivered(ranges: &[(u64, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        put_field(&mut out, TIME, |out| Timestamp(7).put(out));
        put_field(&mut out, 2, |out| {
            put_ranges(out, ranges);
            out.push(1);
            1u32.put(out);
        });
        out.push(0);
        out
    }

    fn read(kind: u8, record: Vec<u8>) -> Result<Change, DecodeError> {
        Change::decode(RecordKind(kind), record.into()).map(|(_, change)| change)
    }

    /// What is read of a record lives long, and the batch that it lay in does not.
    #[test]
    fn no_change_pins_the_batch_that_its_record_lay_in() {
        let entrant = || Entrant {
            rare: Some(Box::new(crate::queue::Rare {
                group: Some(Bytes::from_static(b"a group")),
                dedup: Some(Bytes::from_static(b"once")),
                ..Default::default()
            })),
            ..Default::default()
        };
        let published = Published {
            targets: [entrant()].into_iter().collect(),
            ..Published::default()
        };
        let enqueued = crate::change::Enqueued {
            targets: [entrant()].into_iter().collect(),
            ..Default::default()
        };
        let linked = Delivered {
            link: Some(Box::new(entrant())),
            linked: Some((StoredId(7), 1)),
            ..Delivered::default()
        };
        let unsubscribed = ClientUnsubscribed {
            client: Default::default(),
            source: Source::Topic {
                filter: Filter::Pattern(message::Pattern(vec![message::FilterLevel::Exact(
                    Bytes::from_static(b"a level"),
                )])),
            },
        };
        for kind in [
            Kind::Published(Box::new(published)),
            Kind::Enqueued(Box::new(enqueued)),
            Kind::Delivered(Box::new(linked)),
            Kind::ClientUnsubscribed(Box::new(unsubscribed)),
        ] {
            let mut record = Vec::new();
            let kind = Change(kind).encode(Timestamp(7), &[], BodyAt::None, &mut record);
            let batch = Bytes::from(record);
            let (_, change) = Change::decode(kind, batch.clone()).expect("what was written");
            assert!(batch.is_unique(), "kind {}: {change:?}", kind.0);
        }
    }

    #[test]
    fn deliveries_are_counted_before_they_are_spread() {
        let most = DELIVERED_ITEMS_MAX as u64;
        let Ok(Change(Kind::Delivered(it))) = read(DELIVERED, delivered(&[(1, most)])) else {
            panic!("as many as one record holds");
        };
        assert_eq!(it.items.len(), DELIVERED_ITEMS_MAX);
        let told = Err(DecodeError::Bounds("the entries of a delivery"));
        for ranges in [
            &[(0, most)][..],
            &[(0, u64::MAX)],
            &[(1, most), (most + 2, most + 2)],
            &[(0, u64::MAX), (0, u64::MAX), (5, 5)],
        ] {
            assert_eq!(read(DELIVERED, delivered(ranges)), told, "{ranges:?}");
        }
    }

    #[test]
    fn deliveries_of_two_fields_are_counted_together() {
        let half = DELIVERED_ITEMS_MAX as u64 / 2;
        for (second, fits) in [(half, true), (half + 1, false)] {
            let mut record = delivered(&[(1, half)]);
            record.pop();
            put_field(&mut record, 3, |out| put_ranges(out, &[(1, second)]));
            record.push(0);
            assert_eq!(read(DELIVERED, record).is_ok(), fits, "{second} more");
        }
    }

    #[test]
    fn a_transaction_holds_neither_transactions_nor_deliveries() {
        for (kind, fits) in [(SETTLED, true), (TRANSACTION, false), (DELIVERED, false)] {
            let mut record = Vec::new();
            put_field(&mut record, TIME, |out| Timestamp(7).put(out));
            put_field(&mut record, 2, |out| out.extend([kind, 0]));
            record.push(0);
            assert_eq!(read(TRANSACTION, record).is_ok(), fits, "{kind}");
        }
    }
}
