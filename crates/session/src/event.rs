//! What the core answers and delivers.

use std::sync::Arc;

use bytes::Bytes;
use message::{Levels, Message, Name, Timestamp, VhostId};
use smallvec::SmallVec;

use crate::{
    Active, Burst, ConsumerId, GroupInfo, QueueInfo, RecordPlace, Records, Refusal, StreamInfo,
    SubscriptionId, SubscriptionInfo, Token, TopicInfo,
};

/// A queue's incarnation: never reused, so a deleted and re-made queue is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// One delivery of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The queue. For deliveries through the client session this is the client session's own queue.
    pub queue: QueueId,
    /// The sequence number in the queue. MQTT's packet id is this modulo 65,535 plus 1.
    pub qseq: u64,
}

/// Why a message was dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DeathReason {
    /// Rejected by a consumer.
    Rejected = 0,
    /// Its time to live was over.
    Expired = 1,
    /// The queue was full.
    MaxLen = 2,
    /// Delivered too often.
    Deliveries = 3,
    /// Larger than its receiver takes.
    TooLarge = 4,
}

/// One line of a message's dead-letter history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The queue it left.
    pub queue: Name,
    /// Why.
    pub reason: DeathReason,
    /// How often, for the same queue and reason.
    pub count: u64,
    /// When it first happened.
    pub time: Timestamp,
    /// The exchange it had been published to; empty is the default exchange.
    pub exchange: Name,
    /// With which key.
    pub key: Levels,
    /// The time to live that was taken off it, in ms (it does not expire again).
    pub original_ttl_ms: Option<u64>,
}

/// One message on its way to a consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// To whom in this session. [`ConsumerId::CLIENT`]: the client session's own subscriptions.
    pub consumer: ConsumerId,
    /// What to settle. `None`: already settled (QoS 0, no-ack).
    pub id: Option<DeliveryId>,
    /// The message. It is what was published: `deaths`, `qos` and `retain` below win over its own fields.
    pub message: Arc<Message>,
    /// How often it has been delivered, this time included (at least 1).
    pub count: u32,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// Sent again within the same client session after a reconnect, with the same id (MQTT DUP).
    pub resent: bool,
    /// Quality of service to use: 0, 1, 2.
    pub qos: u8,
    /// The retain flag to show.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub subscriptions: SmallVec<[u32; 2]>,
    /// When it entered this queue (for `x-death`-like and age headers); what a redrive policy brought here from a plain queue
    /// keeps the time at which it entered that one.
    pub enqueued: Timestamp,
    /// The dead-letter history, newest first. `None`: never.
    pub deaths: Option<Arc<Vec<Death>>>,
    /// Where it was published when it was dead-lettered into this queue: exchange and key that replace the message's address on the wire.
    pub readdressed: Option<Arc<message::Address>>,
    /// When it was first delivered out of this queue, where that is known: to pulls with a lease in ms.
    pub first_delivered: Option<Timestamp>,
    /// The subscription that brought it here, unless that is a raw one: for those who show it in an envelope (SNS).
    pub via: Option<Arc<Via>>,
    /// Which message of the topic object it is, where it has no UUID of its own: for the same who show it so.
    pub first: Option<Box<First>>,
    /// Where it lies in its stream, if it came from one.
    pub record: Option<RecordPlace>,
}

impl Delivery {
    /// The first showing of a message that entered then, at QoS 0, of no queue.
    #[must_use]
    pub fn first(consumer: ConsumerId, message: Arc<Message>, enqueued: Timestamp) -> Self {
        Self {
            consumer,
            id: None,
            message,
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
}

/// Through which subscription of which topic object a message came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The subscription. It may have been deleted since.
    pub subscription: SubscriptionId,
    /// The name of the virtual host that it was in.
    pub vhost: Arc<str>,
    /// The topic object.
    pub topic: Name,
    /// Its number among the publishes to the topic, for FIFO topics.
    pub sequence: u64,
}

/// Where the subscriptions that it matched first brought a message, and when. The same in all queues that they brought it to, and
/// those that it was moved to since; another for each message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct First {
    /// The queue.
    pub queue: QueueId,
    /// Its number there. What is in memory only may have one again after a restart.
    pub qseq: u64,
    /// When.
    pub time: Timestamp,
}

/// The message that a publish repeats. It may have been consumed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// Where it lay. Of a publish to a FIFO topic object only `qseq` means something: its number there.
    pub place: DeliveryId,
    /// Its message id, if that was a UUID.
    pub message_id: Option<[u8; 16]>,
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq)]
pub enum PublishOutcome {
    /// Safe at that many targets (durable where both sides are). 0: nothing matched.
    Accepted {
        /// How many.
        matched: u32,
        /// Where it lies, if it was published to a queue.
        place: Option<DeliveryId>,
        /// Where it lies, if it was published to a stream.
        record: Option<RecordPlace>,
        /// Its number among the publishes to the topic object, if it was published to a FIFO one.
        sequence: Option<u64>,
    },
    /// The repeat of an exactly-once publish or of a dedup id: confirmed, not published again.
    Duplicate {
        /// The message that was published, where that is known: to a queue, within the time of its dedup id.
        of: Option<Original>,
    },
    /// At least one target refused (others may have kept it), or the whole publish was.
    Refused(Refusal),
}

/// A task that moves messages out of a dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTask {
    /// Its number.
    pub id: [u8; 16],
    /// The queue that it empties.
    pub source: Name,
    /// Where to; `None`: where each message came from.
    pub target: Option<Name>,
    /// Most messages a second.
    pub per_second: Option<u32>,
    /// How far it has come.
    pub state: MoveState,
    /// Messages that it has moved.
    pub moved: u64,
    /// Messages that were to be moved when it started.
    pub planned: u64,
    /// When it started.
    pub started: Timestamp,
    /// Why it failed.
    pub failure: Option<Arc<str>>,
}

/// How far a move task has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum MoveState {
    /// It moves messages.
    #[default]
    Running = 0,
    /// Everything was moved.
    Completed = 1,
    /// It was stopped.
    Cancelled = 2,
    /// It could not go on.
    Failed = 3,
}

/// A key of the store's own, kept in the journal: doors seal with it what they hand out and want to know again (receipt
/// handles, iterators, page tokens), also after a restart or a takeover.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Why the core ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Another connection opened the same client session.
    TakenOver,
    /// The server is going down in order.
    Shutdown,
    /// This node is no longer active. With where the active one is, if that is known.
    NotActive(Option<Arc<Active>>),
    /// An operator asked for it.
    Administrative,
    /// A defect of ours.
    Internal,
}

/// What the core tells a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The peer is who it says.
    Authenticated {
        /// From the command.
        token: Token,
        /// The virtual host that this session is in.
        vhost: VhostId,
        /// Its name.
        vhost_name: Arc<str>,
        /// The user.
        user: Arc<str>,
        /// The store's own secret.
        secret: Secret,
    },
    /// A command was refused. `Publish` is answered by `Published` instead.
    Refused {
        /// From the command.
        token: Token,
        /// Why.
        refusal: Refusal,
    },
    /// The client session is open. `Resumed` follows, then what was in flight as deliveries with `resent`.
    Opened {
        /// From the command.
        token: Token,
        /// The client id in use.
        client_id: Bytes,
        /// There was a session to resume.
        present: bool,
    },
    /// Deliveries of the client session that had reached `Outcome::Received`: send PUBREL for them again.
    Resumed {
        /// Them.
        received: Vec<DeliveryId>,
    },
    /// Declared, looked at or deleted.
    Declared {
        /// From the command.
        token: Token,
        /// The name, made up if it was empty.
        name: Name,
        /// Messages available (declare), dropped (purge, delete); else 0.
        messages: u64,
        /// Consumers; else 0.
        consumers: u32,
    },
    /// What an `Inspect` found.
    Inspected {
        /// From the command.
        token: Token,
        /// The queue.
        queue: Box<QueueInfo>,
    },
    /// What a `List` found.
    Listed {
        /// From the command.
        token: Token,
        /// Names, in their order.
        names: Vec<Name>,
        /// There are more behind the last.
        more: bool,
    },
    /// A publish with a token is done.
    Published {
        /// From the command.
        token: Token,
        /// What became of it.
        outcome: PublishOutcome,
    },
    /// Publishes that came together in one lane, and that may be answered so ([`crate::Publish::folds`]), are done: each was accepted by something.
    Accepted {
        /// From their commands, in their order.
        tokens: Vec<Token>,
    },
    /// The publishes of a `PublishAll` are done.
    PublishedAll {
        /// From the command.
        token: Token,
        /// What became of each, in their order.
        outcomes: Vec<PublishOutcome>,
    },
    /// A publish without a token was refused, for a reason that the next one will meet as well: no such exchange, no right,
    /// too large. That a queue or the disk is full is not told: nobody asked for an answer.
    PublishRefused {
        /// The lane of the publish.
        lane: crate::Lane,
        /// Why.
        refusal: Refusal,
    },
    /// A mandatory publish matched nothing. Comes before its `Published`, in its lane.
    Returned {
        /// From the command, if it had one.
        token: Option<Token>,
        /// The lane of the publish.
        lane: crate::Lane,
        /// The message.
        message: Arc<Message>,
    },
    /// The exactly-once id is free again.
    InboundReleased {
        /// The client's id.
        id: u16,
        /// It was held.
        known: bool,
    },
    /// A consumer or subscription is there.
    Subscribed {
        /// From the command.
        token: Token,
    },
    /// A consumer or subscription is gone.
    Unsubscribed {
        /// From the command.
        token: Token,
        /// There was one.
        existed: bool,
    },
    /// A consumer is ended: its queue, stream or group is gone.
    Cancelled {
        /// Which.
        consumer: ConsumerId,
        /// Not gone: the user may not read it any more.
        revoked: bool,
    },
    /// A message.
    Delivery(Arc<Delivery>),
    /// Messages for the client session's own subscriptions that no queue knows of: as many deliveries, in order.
    Burst(Arc<Burst>),
    /// A settlement with a token is durable.
    Settled {
        /// From the command.
        token: Token,
        /// Deliveries that were out to this session.
        known: u32,
    },
    /// The settlements of a `UseReceipts` are durable.
    SettledAll {
        /// From the command.
        token: Token,
        /// For each, in their order, how many messages were out to that receive, or why it was refused.
        outcomes: Vec<Result<u32, Refusal>>,
    },
    /// What a pull took; none when the queue is empty.
    Pulled {
        /// From the command.
        token: Token,
        /// The messages, `consumer` without meaning.
        deliveries: Vec<Delivery>,
        /// The epoch, for receipts: [`crate::Receipt::epoch`].
        epoch: u64,
        /// Messages still available.
        remaining: u64,
    },
    /// A transaction is durable.
    Committed {
        /// From the command.
        token: Token,
        /// Mandatory publishes in it that matched nothing.
        returned: Vec<Arc<Message>>,
    },
    /// The tasks that move messages out of a queue: the one that was started or stopped, or all that are remembered.
    MoveTasks {
        /// From the command.
        token: Token,
        /// Them.
        tasks: Vec<MoveTask>,
    },
    /// A stream as it is.
    Stream {
        /// From the command.
        token: Token,
        /// It.
        stream: Box<StreamInfo>,
    },
    /// What a read found.
    Records {
        /// From the command.
        token: Token,
        /// It.
        records: Box<Records>,
    },
    /// A consumer group as it is.
    Group {
        /// From the command.
        token: Token,
        /// It.
        group: Box<GroupInfo>,
    },
    /// A topic object as it is.
    Topic {
        /// From the command.
        token: Token,
        /// It.
        topic: Box<TopicInfo>,
    },
    /// A subscription as it is.
    Subscription {
        /// From the command.
        token: Token,
        /// It.
        subscription: Box<SubscriptionInfo>,
    },
    /// What a `ListSubscriptions` found.
    ListedSubscriptions {
        /// From the command.
        token: Token,
        /// Them.
        subscriptions: Vec<SubscriptionInfo>,
        /// There are more behind the last.
        more: bool,
    },
    /// A `Fence` was reached.
    Reached {
        /// From the command.
        token: Token,
    },
    /// Publishing is refused for want of storage, or is possible again.
    Blocked {
        /// Which.
        blocked: bool,
        /// For people.
        reason: &'static str,
    },
    /// The connection is to be closed, in the protocol's words.
    Closing {
        /// Why.
        reason: CloseReason,
    },
}

impl Event {
    /// The token of the command that it answers. `None`: it answers none, or one without a token.
    #[must_use]
    pub const fn token(&self) -> Option<Token> {
        match self {
            Self::Authenticated { token, .. }
            | Self::Refused { token, .. }
            | Self::Opened { token, .. }
            | Self::Declared { token, .. }
            | Self::Inspected { token, .. }
            | Self::Listed { token, .. }
            | Self::Published { token, .. }
            | Self::PublishedAll { token, .. }
            | Self::Subscribed { token }
            | Self::Unsubscribed { token, .. }
            | Self::Settled { token, .. }
            | Self::SettledAll { token, .. }
            | Self::Pulled { token, .. }
            | Self::Committed { token, .. }
            | Self::MoveTasks { token, .. }
            | Self::Stream { token, .. }
            | Self::Records { token, .. }
            | Self::Group { token, .. }
            | Self::Topic { token, .. }
            | Self::Subscription { token, .. }
            | Self::ListedSubscriptions { token, .. }
            | Self::Reached { token } => Some(*token),
            Self::Resumed { .. }
            | Self::PublishRefused { .. }
            | Self::Returned { .. }
            | Self::InboundReleased { .. }
            | Self::Accepted { .. }
            | Self::Cancelled { .. }
            | Self::Delivery(_)
            | Self::Burst(_)
            | Self::Blocked { .. }
            | Self::Closing { .. } => None,
        }
    }
}
