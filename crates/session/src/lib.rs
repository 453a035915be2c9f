//! The contract between a protocol and the core. Protocol-free: no protocol's word appears in a type here.
//!
//! A protocol is a [`Session`]: bytes, [`Event`]s and the time go in; bytes and [`Command`]s come out, through [`Output`].
//! The connection loop hands the commands to a [`Port`] and brings the events back.
//!
//! | idea | what it is called in the protocols |
//! |---|---|
//! | [`Credit`] | prefetch, receive maximum, ack mode `auto`, batch size, long polling |
//! | [`Settle`] | PUBACK, `basic.ack`/`nack`/`reject`, ACK/NACK, DeleteMessage, a lapsed visibility timeout |
//! | [`Lane`] | a channel, a client session: what keeps its own order |
//!
//! | file | what |
//! |---|---|
//! | `burst.rs` | [`Burst`]: deliveries that came together |
//! | `cluster.rs` | the pair: which node is active, and where |
//! | `command.rs` | what a protocol asks of the core |
//! | `declare.rs` | queues, exchanges and bindings: options and attributes |
//! | `event.rs` | what the core answers and delivers |
//! | `exchange.rs` | [`Exchange`]: protocols of requests over HTTP |
//! | `flow.rs` | [`Flow`]: a request that is answered once, in steps |
//! | `stream.rs` | streams: what is asked and answered about them |
//! | `topic.rs` | topic objects and durable subscriptions |
//! | `refusal.rs` | why something was refused, in the core's words |
//! | `log_rate.rs` | [`LogRate`]: how often a peer can cause a line in the log |
//! | `origin.rs` | hosts as browsers write them |
//! | `not_active.rs` | [`NotActive`]: the link to a node that is not active |
//! | `output.rs` | [`Output`], [`Wire`], [`Close`], [`Session`], [`Port`], [`Link`] |
#![forbid(unsafe_code)]

mod burst;
mod cluster;
mod command;
mod declare;
mod event;
mod exchange;
mod flow;
mod log_rate;
mod not_active;
mod origin;
mod output;
mod refusal;
mod stream;
mod topic;

pub use burst::{Burst, Frames};
pub use cluster::{
    Active, Cluster, Damage, DiskView, JournalView, Lag, Role, StandbyView, Takeover,
    not_active_words,
};
pub use command::{
    Authenticate, ClientExpiry, Command, ConsumerId, Credentials, Credit, DeliveryRange, Lane,
    Lease, List, Listed, MoveTo, OpenClient, Operation, Outcome, Publish, PublishAll, Pull,
    Receipt, ReceiptUse, RetainReplay, SessionId, Settle, Source, Subscribe, SubscriptionOptions,
    Token, Transact, UseReceipt, UseReceipts, Will,
};
pub use declare::{
    BindTarget, Binding, DeadLetter, Declare, ExchangeKind, ExchangeOptions, Fifo, Notes, Overflow,
    QueueAttributes, QueueInfo, QueueOptions, Redrive,
};
pub use event::{
    CloseReason, Death, DeathReason, Delivery, DeliveryId, Event, First, MoveState, MoveTask,
    Original, PublishOutcome, QueueId, Secret, Via,
};
pub use exchange::{
    AfterLogin, Asked, Begun, Exchange, Kept, LoggedIn, Login, Object, Reply, Request, Unserved,
};
pub use flow::{Flow, Later, Then};
pub use log_rate::LogRate;
pub use not_active::{FindActive, NotActive};
pub use origin::{address_of_host, host_of, is_loopback_host};
pub use output::{Close, Link, Output, Peer, Port, Session, Submitted, Wire};
pub use refusal::{Refusal, RefusalKind, Unlike};
pub use stream::{
    GroupInfo, GroupShard, GroupTo, Growth, ReadStream, RecordPlace, Records, ShardInfo,
    ShardLimits, ShardNo, StreamAttributes, StreamId, StreamInfo, StreamRecord, StreamStart,
    StreamTo, partition_key,
};
pub use topic::{
    Brought, Gate, ListSubscriptions, NewSubscription, PolicyScope, SubscriptionId,
    SubscriptionInfo, SubscriptionSettings, SubscriptionTarget, SubscriptionTo, TopicInfo, TopicTo,
};
