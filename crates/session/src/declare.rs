//! Queues, exchanges and bindings: what is declared, and with which attributes.

use std::sync::Arc;

use bytes::Bytes;
use message::{Filter, Levels, Name, Timestamp};

use crate::QueueId;

/// What to do when a queue is at its length limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Drop, or dead-letter with reason `maxlen`, from the head.
    #[default]
    DropHead,
    /// Refuse the publish.
    RejectPublish,
    /// Refuse the publish and dead-letter it.
    RejectPublishDeadLetter,
}

/// A dead-letter exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The exchange to publish to; empty is the default exchange.
    pub exchange: Name,
    /// The routing key, else the message's own.
    pub key: Option<Levels>,
}

/// Move to a queue after that many deliveries (SQS redrive policy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    /// The queue that takes the message.
    pub target: Name,
}

/// A FIFO queue: groups are delivered in order, one holder at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fifo {
    /// Messages without a dedup id get the SHA-256 of their body as one (computed by the door, not by the core).
    pub dedup_by_content: bool,
    /// Deduplicate per group instead of per queue.
    pub dedup_per_group: bool,
}

/// What a queue does with messages: one set, seen through AMQP `x-` arguments and through SQS attribute names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueAttributes {
    /// The lease of a pull receiver, in ms (SQS VisibilityTimeout). `None`: 30,000.
    pub visibility_timeout_ms: Option<u64>,
    /// Delay of every message that names none, in ms.
    pub delay_ms: u64,
    /// From first enqueue; drop and count; never dead-letters. In ms.
    pub retention_ms: Option<u64>,
    /// From arrival here; dead-letters with reason `expired`. In ms.
    pub ttl_ms: Option<u64>,
    /// The queue goes when unused for so long, in ms.
    pub expires_ms: Option<u64>,
    /// Largest body that any door may put here, in bytes.
    pub message_len_max: Option<u64>,
    /// Most messages available or delayed (not in flight). What is released comes back though the queue is full again: it holds
    /// more until the next message comes, which makes room for all of it.
    pub length_max: Option<u64>,
    /// Most bytes of bodies of those.
    pub bytes_max: Option<u64>,
    /// What happens at those limits.
    pub overflow: Overflow,
    /// Where rejected, expired and dropped messages go.
    pub dead_letter: Option<DeadLetter>,
    /// A dead letter that has nowhere to go, or that one of its queues refuses, stays out of everybody's sight and is tried
    /// again every few seconds. Not what a full queue drops. After a restart such a message is available again.
    pub keep_dead_letters: bool,
    /// Where messages delivered too often go, before `dead_letter`.
    pub redrive: Option<Redrive>,
    /// A message is delivered at most so many times (counting the first), then dead-lettered with reason `deliveries`.
    pub deliveries_max: Option<u32>,
    /// Highest priority that is told apart, 1-255. `None`: priorities are ignored.
    pub priority_max: Option<u8>,
    /// Only one consumer receives at a time.
    pub single_active_consumer: bool,
    /// Ordered groups.
    pub fifo: Option<Fifo>,
    /// Deduplicate by dedup id within five minutes. FIFO queues always do.
    pub deduplicate: bool,
}

/// How a queue is declared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueOptions {
    /// It is in the journal and survives a restart.
    pub durable: bool,
    /// For the declaring session only; goes with it.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// What it does.
    pub attributes: QueueAttributes,
    /// The declaration as the protocol compares it (flags and arguments, canonical bytes). `None`: this door does not
    /// compare (STOMP, MQTT), and does not mind a stream of that name. Kept verbatim; two unequal declarations are `Inequivalent`, and so is `None` with an attribute
    /// that the queue does not have.
    pub declaration: Option<Bytes>,
}

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ExchangeKind {
    /// By equal key.
    Direct = 0,
    /// To every binding.
    Fanout = 1,
    /// By pattern over levels.
    Topic = 2,
    /// By properties.
    Headers = 3,
}

/// How an exchange is declared.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeOptions {
    /// How it routes.
    pub kind: ExchangeKind,
    /// It is in the journal and survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Not open to publishers.
    pub internal: bool,
    /// Where messages go that match no binding.
    pub alternate: Option<Name>,
    /// As in [`QueueOptions::declaration`].
    pub declaration: Option<Bytes>,
}

/// What a binding feeds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BindTarget {
    /// A queue.
    Queue(Name),
    /// Another exchange.
    Exchange(Name),
    /// A stream.
    Stream(Name),
}

/// A binding. Equal in all fields is the same binding.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange; empty name is not allowed (the default exchange has no bindings). `amq.topic` is the root space.
    pub exchange: Name,
    /// What it feeds.
    pub target: BindTarget,
    /// What passes. The core refuses a filter that does not suit the exchange, but takes `Pattern` and `Exact` for any
    /// of direct, fanout (ignored) and topic, so that a door need not know the exchange's kind: the door gives both.
    pub filter: Filter,
    /// For exchanges that are not of type topic: the key as levels, wildcard characters literal.
    pub key: Levels,
    /// The protocol's arguments, canonical bytes: part of the identity.
    pub arguments: Bytes,
}

/// What a door keeps with a queue and the core does not understand (policies, tags): in the order of the names, each once.
pub type Notes = Vec<(Bytes, Bytes)>;

/// A queue as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueInfo {
    /// Its incarnation.
    pub id: QueueId,
    /// Its name.
    pub name: Name,
    /// How it was declared.
    pub options: Arc<QueueOptions>,
    /// What doors keep with it.
    pub notes: Notes,
    /// When it was made.
    pub created: Timestamp,
    /// When its options or notes last changed.
    pub changed: Timestamp,
    /// How often they have: what [`Declare::Alter`] names.
    pub version: u64,
    /// Messages that could be delivered.
    pub available: u64,
    /// Messages that are delayed.
    pub delayed: u64,
    /// Messages that are out.
    pub out: u64,
    /// Consumers.
    pub consumers: u32,
}

/// What can be declared, looked at and deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Declare {
    /// A queue. An empty name asks for a made-up one. Answered by `Event::Declared` with the name and counts.
    Queue {
        /// The name.
        name: Name,
        /// Only look: refuse with `NotFound` when there is none.
        passive: bool,
        /// Its options.
        options: Box<QueueOptions>,
    },
    /// A new, durable queue with notes; `Inequivalent` when there is one of that name. Answered by `Event::Declared`.
    NewQueue {
        /// The name.
        name: Name,
        /// `InUse` when a durable queue of that name was deleted less than so many ms ago. A minute is remembered, and a restart
        /// may forget it.
        unless_deleted_ms: u64,
        /// What it does.
        attributes: Box<QueueAttributes>,
        /// What the door keeps with it.
        notes: Notes,
    },
    /// Changes a queue's attributes and notes to these; `Inequivalent` when it changed since the version was read. Whether
    /// it is FIFO cannot change. Answered by `Event::Declared`.
    Alter {
        /// The name.
        name: Name,
        /// [`QueueInfo::version`].
        version: u64,
        /// What it does from now on.
        attributes: Box<QueueAttributes>,
        /// What the door keeps with it from now on.
        notes: Notes,
    },
    /// Deletes a queue; its messages are dropped. `Event::Declared` carries how many.
    DeleteQueue {
        /// The name.
        name: Name,
        /// Refuse when it has consumers.
        if_unused: bool,
        /// Refuse when it has messages.
        if_empty: bool,
    },
    /// Drops the available messages of a queue.
    Purge {
        /// The name.
        name: Name,
    },
    /// Drops the messages of a queue, those that are out under a lease in ms too (SQS PurgeQueue); what is out to a
    /// connection stays.
    PurgeAll {
        /// The name.
        name: Name,
        /// What the door keeps with the queue from now on, and the [`QueueInfo::version`] that it was read with; `Inequivalent`
        /// when the queue changed since, and nothing is dropped. `None`: what it keeps stays.
        noted: Option<(u64, Notes)>,
    },
    /// An exchange.
    Exchange {
        /// The name.
        name: Name,
        /// Only look.
        passive: bool,
        /// Its options.
        options: Box<ExchangeOptions>,
    },
    /// Deletes an exchange and its bindings.
    DeleteExchange {
        /// The name.
        name: Name,
        /// Refuse when it has bindings.
        if_unused: bool,
    },
    /// Adds a binding; again is nothing.
    Bind(Box<Binding>),
    /// Removes a binding; none is nothing.
    Unbind(Box<Binding>),
}
