//! What a protocol asks of the core.

use std::sync::Arc;

use bytes::Bytes;
use message::{Filter, Message, Name};
use smallvec::SmallVec;

use crate::{
    Declare, GroupTo, ListSubscriptions, QueueId, ReadStream, StreamStart, StreamTo,
    SubscriptionTo, TopicTo,
};

/// One connection, from accept to close. Never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Chosen by the session and echoed in the reply; means nothing to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What keeps its own order within a connection: the replies of one channel. Chosen by the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u32);

/// A consumer, named by the session, unique within it. [`ConsumerId::CLIENT`] stands for the client session's own subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

impl ConsumerId {
    /// The client session itself: deliveries of its topic subscriptions.
    pub const CLIENT: Self = Self(u64::MAX);
}

/// How the peer says who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing was said.
    Anonymous,
    /// User and password.
    Plain {
        /// The user.
        user: String,
        /// The password. Not shown by `Debug`.
        password: Bytes,
    },
    /// The door has verified who it is by means of its own: a signature over the request.
    Vouched {
        /// The user.
        user: Arc<str>,
    },
    /// A part of the broker itself, such as what delivers to HTTP endpoints: no rule holds for it, and it may be in each virtual host
    /// that the store knows. No door gives it to a peer.
    Broker,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Broker => f.write_str("Broker"),
            Self::Vouched { user } => f.debug_struct("Vouched").field("user", user).finish(),
            Self::Plain { user, .. } => f
                .debug_struct("Plain")
                .field("user", user)
                .finish_non_exhaustive(),
        }
    }
}

/// Asks who the peer is. Verified outside the core; answered by `Authenticated` or `Refused`.
#[derive(Clone, Debug, PartialEq)]
pub struct Authenticate {
    /// Echoed.
    pub token: Token,
    /// Who.
    pub credentials: Credentials,
    /// The virtual host asked for; `None` is the listener's default.
    pub vhost: Option<String>,
    /// Fall back to the listener's default when no virtual host of that name exists (STOMP `host`).
    pub vhost_fallback: bool,
    /// A user `NAME:USER` is USER in the virtual host NAME, if there is one and no user has the whole name (RabbitMQ's MQTT).
    pub vhost_in_user: bool,
    /// The peer names its virtual host later and is verified again: that the default one is closed to it is no refused login.
    pub vhost_follows: bool,
    /// Make the virtual host if there is none of that name. Doors that let peers choose it freely (`serve --profile test`).
    pub vhost_create: bool,
    /// A node that is not the active one, which lets nobody in, verifies it all the same: only a login that would be right is refused as
    /// [`crate::RefusalKind::NotActive`]. For doors that tell who may know it what such a node knows.
    pub verified_anywhere: bool,
    /// The protocol and version, for logs and metrics: `MQTT 5`, `STOMP 1.2`.
    pub protocol: &'static str,
    /// The client's own name, for logs.
    pub client: Bytes,
}

/// When a client session ends after its connection has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientExpiry {
    /// With the connection: the session is soft and never in the journal.
    WithConnection,
    /// That many milliseconds later.
    AfterMs(u64),
    /// Never.
    Never,
}

/// A message to publish when the peer vanishes.
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    /// The message.
    pub message: Arc<Message>,
    /// How long to wait for the client to come back, in ms.
    pub delay_ms: u64,
    /// The message expires so long after it was published, in ms (its own `expiry` is then unset).
    pub ttl_ms: Option<u64>,
}

/// Opens or resumes a client session (MQTT CONNECT). Answered by `Opened`; any other connection of that client is closed.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenClient {
    /// Echoed.
    pub token: Token,
    /// The client id; empty asks for a made-up one.
    pub client_id: Bytes,
    /// Drop what an earlier session left.
    pub clean_start: bool,
    /// When it ends.
    pub expiry: ClientExpiry,
    /// Most deliveries out at a time (receive maximum), 1-65535.
    pub window: u16,
    /// The longest packet the peer takes, in bytes of body plus head; larger messages are discarded and counted.
    pub message_len_max: Option<u32>,
    /// What to publish when it vanishes.
    pub will: Option<Box<Will>>,
}

/// Where a consumer reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A queue, shared with its other consumers.
    Queue {
        /// The name.
        name: Name,
        /// Make it (durable, plain) when there is none.
        create: bool,
    },
    /// What has that bare name (DOORS 6): the queue if there is one, else the stream if there is one, from its next record on,
    /// else a queue (durable, plain), which is made. Not through a client session.
    Named {
        /// The name.
        name: Name,
    },
    /// The root topic space, into the client session (needs `OpenClient`). Again with an equal filter replaces the options.
    Topic {
        /// The filter: `Exact` or `Pattern`.
        filter: Filter,
    },
    /// A shared subscription: one queue per (group, filter), round-robin among its client sessions.
    Shared {
        /// The share name.
        group: Bytes,
        /// The filter.
        filter: Filter,
    },
    /// A stream. With a client session (`through_client`) its records go into the session's own queue from the next one on,
    /// as those of a topic do; else they are pushed from `from` on, and settling moves the credit and the group's checkpoint.
    Stream {
        /// The name.
        name: Name,
        /// Where to begin.
        from: StreamStart,
        /// Read as a member of this consumer group: the shards are shared among its members, and `from` counts only where
        /// the group has no checkpoint. The group is made if there is none.
        group: Option<Bytes>,
    },
}

/// Which retained messages a new subscription is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainReplay {
    /// All that match.
    #[default]
    Always,
    /// All that match, if the subscription did not exist.
    IfNew,
    /// None.
    Never,
}

/// Options of a topic subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Highest quality of service: 0, 1 or 2.
    pub qos: u8,
    /// Not what the same client published.
    pub no_local: bool,
    /// Deliver with the retain flag as it was published.
    pub retain_as_published: bool,
    /// What to replay on subscribing.
    pub retain_replay: RetainReplay,
    /// Shown in each delivery that it caused. 0: none.
    pub identifier: u32,
}

/// How much may be out to a consumer at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    /// At most that many unsettled deliveries; settling one lets another go. 0: no limit but the outbox.
    Window(u32),
    /// Deliveries are settled as they leave (AMQP no-ack, STOMP ack:auto); only the outbox limits them.
    Settled,
    /// Exactly that many more deliveries, then none until more is granted (AMQP 1.0 link credit).
    Exactly(u32),
}

/// Starts a consumer. Answered by `Subscribed` or `Refused`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// Echoed.
    pub token: Token,
    /// The lane of the reply.
    pub lane: Lane,
    /// Its name in this session. For `Topic` sources [`ConsumerId::CLIENT`].
    pub consumer: ConsumerId,
    /// Where it reads.
    pub source: Source,
    /// How much may be out.
    pub credit: Credit,
    /// A further window shared by all consumers of that group (AMQP `basic.qos global`): see `Command::GroupWindow`.
    pub group: u32,
    /// No other consumer, now and while it lasts.
    pub exclusive: bool,
    /// Higher ones are served first (`x-priority`).
    pub priority: i32,
    /// Deliveries go through the client session's own queue, so that they have packet ids that survive a takeover (MQTT `$queue`, `$share`).
    pub through_client: bool,
    /// Topic options; for `through_client` consumers the QoS counts too.
    pub options: SubscriptionOptions,
}

/// Publishes one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// `Some`: confirm with `Published`. The publisher asked for it, so the message is journaled when any durable target takes it.
    pub token: Option<Token>,
    /// The lane of the confirmation.
    pub lane: Lane,
    /// The message; `address` says where to.
    pub message: Arc<Message>,
    /// Return it (`Returned`) when nothing matched.
    pub mandatory: bool,
    /// For `Kind::Queue`: make the queue (durable, plain) when there is none.
    pub create: bool,
    /// For `Kind::Queue`: it goes to the stream of that name, if there is one, when there is no such queue (DOORS 6). With
    /// `create` the queue is made only when there is neither.
    pub or_stream: bool,
    /// The client's id of an exactly-once publish: a repeat is confirmed again and not published.
    pub inbound_id: Option<u16>,
    /// For `Kind::Stream`: the hash that chooses the shard, instead of the MD5 of the partition key.
    pub hash_key: Option<u128>,
    /// No more than whether it was accepted is asked: where several publishes came together, one `Accepted` may answer them.
    pub folds: bool,
}

impl Publish {
    /// About the bytes of its message.
    #[must_use]
    pub fn message_len(&self) -> usize {
        self.message.body.len() + message::head_len_bound(&self.message)
    }
}

/// Publishes several messages, each for itself: what becomes of one is nothing to the others. Answered by `PublishedAll`, or by `Refused`
/// when nothing of it was taken.
///
/// Who has many at once hands them in so: most of what a short message costs is what comes with its command and with its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishAll {
    /// Echoed.
    pub token: Token,
    /// The lane of the answer.
    pub lane: Lane,
    /// In the order in which they are published. Tokens and lanes of their own are not used; they are neither `mandatory` nor do they
    /// have an `inbound_id`.
    pub publishes: Vec<Publish>,
}

impl PublishAll {
    /// Most publishes of one command, and most bytes of their messages, for one that has more than one: what is handed in at once is
    /// done in one go, while others wait. A message that is longer is in a command of its own, and refused alone if it is too long.
    pub const PUBLISHES_MAX: usize = 64;
    /// See [`Self::PUBLISHES_MAX`].
    pub const LEN_MAX: usize = 64 << 10;

    /// Whether it is no longer than one may be: else it is refused.
    #[must_use]
    pub fn is_within_bounds(&self) -> bool {
        self.publishes.len() <= 1
            || self.publishes.len() <= Self::PUBLISHES_MAX
                && self
                    .publishes
                    .iter()
                    .map(Publish::message_len)
                    .sum::<usize>()
                    <= Self::LEN_MAX
    }

    /// Commands for these publishes, in their order.
    #[must_use]
    pub fn commands(publishes: impl IntoIterator<Item = Publish>) -> Vec<Command> {
        let mut all: Vec<Command> = Vec::new();
        let publishes = publishes.into_iter();
        let mut left = publishes.size_hint().0;
        let mut open: Vec<Publish> = Vec::new();
        let mut len = 0;
        let close = |publishes: Vec<Publish>| {
            Command::PublishAll(Box::new(Self {
                token: Token(0),
                lane: Lane(0),
                publishes,
            }))
        };
        for publish in publishes {
            let more = publish.message_len();
            if open.len() == Self::PUBLISHES_MAX || !open.is_empty() && len + more > Self::LEN_MAX {
                all.push(close(std::mem::take(&mut open)));
                len = 0;
            }
            if open.is_empty() {
                open.reserve(left.clamp(1, Self::PUBLISHES_MAX));
            }
            left = left.saturating_sub(1);
            len += more;
            open.push(publish);
        }
        if !open.is_empty() {
            all.push(close(open));
        }
        all
    }
}

/// Which deliveries: one queue, inclusive ranges of its sequence numbers, each of which was delivered to this session and is unsettled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRange {
    /// The queue.
    pub queue: QueueId,
    /// `first..=last`.
    pub ranges: SmallVec<[(u64, u64); 2]>,
}

/// What became of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: delete.
    Accept,
    /// Not done: available again, at its old place, marked redelivered.
    Release,
    /// Refused: dead-letter with reason `rejected`, or drop.
    Reject,
    /// Not done; visible again after so many ms (ChangeMessageVisibility, AMQP 1.0 modified).
    ReleaseAfterMs(u64),
    /// The exactly-once handshake is half done (PUBREC): owned by the receiver, waiting for `Accept` (PUBCOMP).
    Received,
}

/// Settles deliveries. Always taken by the port, never left for want of room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// `Some`: answer with `Settled` once it is durable.
    pub token: Option<Token>,
    /// The lane of the answer.
    pub lane: Lane,
    /// Which.
    pub deliveries: DeliveryRange,
    /// What became of them.
    pub outcome: Outcome,
}

/// How long a pulled message stays invisible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// As long as this connection lasts (basic.get).
    Connection,
    /// Until a deadline (SQS).
    Ms(u64),
    /// The same, for as long as the queue says ([`crate::QueueAttributes::visibility_timeout_ms`]).
    Queue,
    /// Not at all: it is settled as it leaves.
    Settled,
}

/// Takes messages without a consumer. Answered by `Pulled`.
///
/// From a FIFO queue a pull with a lease in ms takes whole runs of groups that nobody holds any of, as SQS does; one
/// with a lease of the connection takes one message at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Pull {
    /// Echoed. Unique among the pulls of this session that wait.
    pub token: Token,
    /// The lane of the answer.
    pub lane: Lane,
    /// The queue.
    pub queue: Name,
    /// Most messages.
    pub count: u32,
    /// For how long.
    pub lease: Lease,
    /// How long to wait for the first message, in ms (long polling). 0: the answer comes at once.
    pub wait_ms: u64,
    /// At most so many messages of the queue are out with what is taken. While they are, a pull that does not wait is refused with
    /// `QuotaExceeded` (SQS `OverLimit`), and one that waits does so until there is room.
    pub out_max: Option<u64>,
    /// Most bytes of bodies; one message always fits.
    pub bytes_max: Option<u64>,
    /// A pull from a FIFO queue that names an attempt again within five minutes gets what that attempt got, as long as
    /// nothing of it was settled or changed (SQS ReceiveRequestAttemptId).
    pub attempt: Option<Bytes>,
}

/// What names one receive of one message, for whoever shows it: no connection holds the lease (an SQS receipt handle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The queue.
    pub queue: QueueId,
    /// The sequence number in the queue.
    pub qseq: u64,
    /// Which receive it was: [`crate::Delivery::count`].
    pub count: u32,
    /// In which epoch. What lived in memory only then is forgotten, and its number may be another message's.
    pub epoch: u64,
}

/// What the shower of a receipt wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptUse {
    /// Delete the message. From a FIFO queue only while the receive of the receipt is the one that lasts; else a message
    /// that is gone, or out to a consumer, stays as it is, and that is success.
    Delete,
    /// Let the lease lapse so many ms from now; 0: at once. In a FIFO queue only while the receive of the receipt is the one
    /// that lasts, in others while any is.
    Visibility {
        /// The new time.
        ms: u64,
    },
    /// Not tried: available again so many ms from now, as if it had not been received that time. Only while the receive of the receipt is
    /// the one that lasts.
    PutBack {
        /// How long it rests.
        ms: u64,
    },
}

/// Uses a receipt. Answered by `Settled`, or refused: `UnknownDelivery` when there is no such message, `NotOut` when it is
/// not out to that receive any more. Always taken by the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseReceipt {
    /// Echoed.
    pub token: Token,
    /// The lane of the answer.
    pub lane: Lane,
    /// The receive.
    pub receipt: Receipt,
    /// What to do.
    pub to: ReceiptUse,
}

/// Uses several receipts alike, each for itself. Answered by `SettledAll`, or by `Refused` when none was used. Always taken by the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseReceipts {
    /// Echoed.
    pub token: Token,
    /// The lane of the answer.
    pub lane: Lane,
    /// The receives, of different messages, and what to do; no more than [`Self::USES_MAX`]. What is repeated is refused with
    /// `InvalidArgument`.
    pub uses: Vec<(Receipt, ReceiptUse)>,
}

impl UseReceipts {
    /// Most receipts of one command.
    pub const USES_MAX: usize = 64;
}

/// What can be done about moving messages out of a dead-letter queue (SQS StartMessageMoveTask and its kin).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveTo {
    /// Starts. `InUse` while another task moves out of that queue.
    Start {
        /// The task's number, made up by the door.
        id: [u8; 16],
        /// The queue to empty.
        source: Name,
        /// Where to; `None`: each message back to the queue that it came from.
        target: Option<Name>,
        /// Most messages a second. `None`: as fast as it goes.
        per_second: Option<u32>,
    },
    /// Stops a task that runs. What was moved stays moved.
    Cancel {
        /// Which.
        id: [u8; 16],
    },
    /// Lists the tasks of a queue, newest first; at most ten are remembered.
    List {
        /// The queue that they empty.
        source: Name,
    },
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A publish; its token is not used.
    Publish(Publish),
    /// A settlement; its token is not used.
    Settle(Settle),
}

/// Commits a transaction that the session has staged: all or nothing, one record. Answered by `Committed` or `Refused`.
#[derive(Clone, Debug, PartialEq)]
pub struct Transact {
    /// Echoed.
    pub token: Token,
    /// The lane of the answer.
    pub lane: Lane,
    /// At most 10,000, together at most 64 MiB.
    pub operations: Vec<Operation>,
}

/// What is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// Durable queues that are neither exclusive nor auto-delete.
    #[default]
    Queues,
    /// Streams.
    Streams,
    /// Topic objects.
    Topics,
    /// Consumer groups of the stream of that name.
    Groups(Name),
}

/// Which names to list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// Of what.
    pub of: Listed,
    /// Names that begin so.
    pub prefix: Bytes,
    /// Only queues whose redrive target is this queue (SQS ListDeadLetterSourceQueues).
    pub feeding: Option<Name>,
    /// Names behind this one.
    pub after: Option<Name>,
    /// Most names, 1 to 1,000; at most 100 times as many are looked at.
    pub limit: u32,
}

/// What a protocol asks of the core.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Who the peer is. Must come first.
    Authenticate(Box<Authenticate>),
    /// Opens a client session.
    OpenClient(Box<OpenClient>),
    /// The peer says goodbye in order. `Hangup` need not follow; the session ends.
    CloseClient {
        /// Publish the will all the same.
        publish_will: bool,
        /// A new expiry, if the peer gave one.
        expiry: Option<ClientExpiry>,
    },
    /// Declares, looks or deletes. Answered by `Declared` or `Refused`.
    Declare {
        /// Echoed.
        token: Token,
        /// The lane of the answer.
        lane: Lane,
        /// What.
        declare: Declare,
    },
    /// Publishes.
    Publish(Publish),
    /// Publishes several messages.
    PublishAll(Box<PublishAll>),
    /// The exactly-once publish of that id is complete on the client's side (PUBREL). Answered by `InboundReleased` once durable.
    ReleaseInbound {
        /// The client's id.
        id: u16,
    },
    /// Starts a consumer.
    Subscribe(Box<Subscribe>),
    /// Ends a consumer of a queue; what is out to it stays out until settled. Answered by `Unsubscribed`.
    Cancel {
        /// Echoed.
        token: Token,
        /// The lane of the answer.
        lane: Lane,
        /// Which.
        consumer: ConsumerId,
    },
    /// Ends a subscription of the client session. Answered by `Unsubscribed`.
    Unsubscribe {
        /// Echoed.
        token: Token,
        /// Its source: `Topic`, `Shared`, or the `Queue` of a consumer that goes through the client session.
        source: Source,
    },
    /// Changes what may be out to a consumer.
    Credit {
        /// Which.
        consumer: ConsumerId,
        /// The new credit.
        credit: Credit,
    },
    /// The window shared by a group of consumers; 0: none.
    GroupWindow {
        /// The group, chosen by the session. Group 0 never has a window.
        group: u32,
        /// Most unsettled deliveries.
        window: u32,
    },
    /// Stops or restarts delivery to all consumers of a group (AMQP `channel.flow`).
    GroupFlow {
        /// The group.
        group: u32,
        /// Whether to deliver.
        active: bool,
    },
    /// Settles.
    Settle(Settle),
    /// Takes messages.
    Pull(Pull),
    /// Looks at a queue. Answered by `Inspected`.
    Inspect {
        /// Echoed.
        token: Token,
        /// The lane of the answer.
        lane: Lane,
        /// The queue.
        name: Name,
    },
    /// Lists names in their order. Answered by `Listed`.
    List {
        /// Echoed.
        token: Token,
        /// The lane of the answer.
        lane: Lane,
        /// Which, and where to begin.
        list: Box<List>,
    },
    /// Gives up a pull that waits. It is not answered any more.
    CancelPull {
        /// Which.
        token: Token,
    },
    /// Settles by receipt.
    UseReceipt(UseReceipt),
    /// Settles several by receipt.
    UseReceipts(Box<UseReceipts>),
    /// Moves what waits in a dead-letter queue elsewhere. Answered by `MoveTasks`.
    MoveTask {
        /// Echoed.
        token: Token,
        /// The lane of the answer.
        lane: Lane,
        /// What.
        to: MoveTo,
    },
    /// Makes, changes, looks at or deletes a stream. Answered by `Event::Stream`.
    Stream {
        /// Echoed.
        token: Token,
        /// The lane of the answer.
        lane: Lane,
        /// The stream.
        name: Name,
        /// What.
        to: Box<StreamTo>,
    },
    /// Reads a shard.
    ReadStream(Box<ReadStream>),
    /// Gives up a read that waits. It is not answered any more.
    CancelRead {
        /// Which.
        token: Token,
    },
    /// Works on a consumer group of a stream. Answered by `Event::Group`.
    Group {
        /// Echoed.
        token: Token,
        /// The lane of the answer.
        lane: Lane,
        /// The stream.
        stream: Name,
        /// The group; 1 to 256 bytes.
        group: Bytes,
        /// What.
        to: Box<GroupTo>,
    },
    /// Makes, changes, looks at or deletes a topic object. Answered by `Event::Topic`.
    Topic {
        /// Echoed.
        token: Token,
        /// The lane of the answer.
        lane: Lane,
        /// The topic.
        name: Name,
        /// What.
        to: Box<TopicTo>,
    },
    /// Makes, changes, looks at or deletes a subscription. Answered by `Event::Subscription`.
    Subscription {
        /// Echoed.
        token: Token,
        /// The lane of the answer.
        lane: Lane,
        /// What.
        to: Box<SubscriptionTo>,
    },
    /// Lists subscriptions.
    ListSubscriptions(Box<ListSubscriptions>),
    /// Commits.
    Transact(Box<Transact>),
    /// Answered by `Event::Reached` in that lane once everything before it in the lane has been answered and is durable.
    Fence {
        /// Echoed.
        token: Token,
        /// The lane.
        lane: Lane,
    },
}

impl Command {
    /// Whether a port may leave it for want of room (see `Port::submit`). Settling, cancelling and saying goodbye are always taken.
    #[must_use]
    pub const fn may_be_left(&self) -> bool {
        matches!(
            self,
            Self::Publish(_)
                | Self::PublishAll(_)
                | Self::Declare { .. }
                | Self::Subscribe(_)
                | Self::OpenClient(_)
                | Self::Transact(_)
                | Self::Pull(_)
                | Self::Stream { .. }
                | Self::ReadStream(_)
                | Self::Topic { .. }
                | Self::Subscription { .. }
                | Self::MoveTask { .. }
        )
    }

    /// Whether it brings messages.
    #[must_use]
    pub fn brings_messages(&self) -> bool {
        match self {
            Self::Publish(_) | Self::PublishAll(_) => true,
            Self::Transact(transact) => transact
                .operations
                .iter()
                .any(|operation| matches!(operation, Operation::Publish(_))),
            _ => false,
        }
    }

    /// Whether it publishes or settles, and its sender is told what came of it and may wait for that.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        match self {
            Self::Publish(publish) => publish.token.is_some(),
            Self::Settle(settle) => settle.token.is_some(),
            Self::PublishAll(_)
            | Self::Transact(_)
            | Self::UseReceipt(_)
            | Self::UseReceipts(_) => true,
            _ => false,
        }
    }

    /// The token that its answer echoes, to be set by whoever drives a [`crate::Flow`]. `None`: it is not answered.
    pub fn token_mut(&mut self) -> Option<&mut Token> {
        match self {
            Self::Authenticate(it) => Some(&mut it.token),
            Self::OpenClient(it) => Some(&mut it.token),
            Self::Declare { token, .. }
            | Self::Cancel { token, .. }
            | Self::Unsubscribe { token, .. }
            | Self::Inspect { token, .. }
            | Self::List { token, .. }
            | Self::MoveTask { token, .. }
            | Self::Stream { token, .. }
            | Self::Group { token, .. }
            | Self::Topic { token, .. }
            | Self::Subscription { token, .. }
            | Self::Fence { token, .. } => Some(token),
            Self::Publish(it) => Some(it.token.get_or_insert(Token(0))),
            Self::Subscribe(it) => Some(&mut it.token),
            Self::Settle(it) => Some(it.token.get_or_insert(Token(0))),
            Self::Pull(it) => Some(&mut it.token),
            Self::PublishAll(it) => Some(&mut it.token),
            Self::UseReceipt(it) => Some(&mut it.token),
            Self::UseReceipts(it) => Some(&mut it.token),
            Self::ReadStream(it) => Some(&mut it.token),
            Self::ListSubscriptions(it) => Some(&mut it.token),
            Self::Transact(it) => Some(&mut it.token),
            Self::CloseClient { .. }
            | Self::ReleaseInbound { .. }
            | Self::Credit { .. }
            | Self::GroupWindow { .. }
            | Self::GroupFlow { .. }
            | Self::CancelPull { .. }
            | Self::CancelRead { .. } => None,
        }
    }
}
