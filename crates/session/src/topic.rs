//! Topics as objects with subscriptions (SNS), and durable subscriptions from the root topic space to queues and streams.
//!
//! A topic object sits on an address of the root space: whoever publishes there reaches its subscriptions, through
//! whichever protocol; publishing neither needs nor makes one (DOORS 8). A subscription without a topic object is a
//! configured route.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use message::{Filter, Levels, Name, Timestamp};

use crate::{Fifo, Lane, Notes, Token};

/// A subscription's number: a UUID, chosen by the door, unique over all virtual hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub [u8; 16]);

/// A topic object as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicInfo {
    /// Its name: one opaque word.
    pub name: Name,
    /// Where it sits in the root space.
    pub address: Levels,
    /// Set for FIFO topics: a publish with a dedup id of the last five minutes is confirmed and not passed on.
    pub fifo: Option<Fifo>,
    /// What doors keep with it.
    pub notes: Notes,
    /// When it was made.
    pub created: Timestamp,
    /// How often it has changed: what [`TopicTo::Alter`] names.
    pub version: u64,
    /// Subscriptions that are confirmed.
    pub confirmed: u64,
    /// Subscriptions that wait for their confirmation.
    pub pending: u64,
    /// Subscriptions that have been deleted.
    pub deleted: u64,
}

/// What can be done to a topic object.
#[derive(Clone, Debug, PartialEq)]
pub enum TopicTo {
    /// Makes it. `Inequivalent` when there is one of that name: look at it. `InvalidArgument` when another topic object has that
    /// address.
    Create {
        /// Where it sits.
        address: Levels,
        /// Whether it is a FIFO topic.
        fifo: Option<Fifo>,
        /// What the door keeps with it.
        notes: Notes,
    },
    /// Changes it. `Inequivalent` when it changed since the version was read. Whether it is FIFO cannot change.
    Alter {
        /// [`TopicInfo::version`].
        version: u64,
        /// How it deduplicates from now on.
        fifo: Option<Fifo>,
        /// What the door keeps with it from now on.
        notes: Notes,
    },
    /// Deletes it and its subscriptions; none is `NotFound`. The answer shows it as it was.
    Delete,
    /// Only looks.
    Inspect,
}

/// Where a subscription delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionTarget {
    /// A queue, which need not be there: what comes while it is not goes to the dead-letter queue, or is dropped and counted.
    Queue {
        /// The virtual host; `None` is the subscription's own.
        vhost: Option<Arc<str>>,
        /// The queue.
        name: Name,
    },
    /// A stream, which need not be there.
    Stream {
        /// The stream.
        name: Name,
        /// The partition key: `{1}` stands for what the first wildcard of the filter matched, `{0}` for the whole topic
        /// as MQTT writes it, and so on; everything else is literal. Empty: the message's own (see `partition_key`).
        key: Bytes,
    },
}

/// What a filter policy looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyScope {
    /// The message's properties.
    #[default]
    Attributes,
    /// The body, which must be a JSON object.
    Body,
}

/// How a subscription delivers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionSettings {
    /// A filter policy as JSON text that `message::Policy` has accepted, and what it looks at. `None`: everything passes.
    pub policy: Option<(Bytes, PolicyScope)>,
    /// Receivers see the message itself; else deliveries say through which subscription they came ([`crate::Delivery::via`]).
    pub raw: bool,
    /// Where messages go that the target does not take: a queue, in a virtual host (`None`: the subscription's own).
    pub dead_letter: Option<(Option<Arc<str>>, Name)>,
}

/// A subscription as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionInfo {
    /// Its number.
    pub id: SubscriptionId,
    /// The name of the virtual host that it is in.
    pub vhost: Arc<str>,
    /// The topic object that it belongs to. `None`: a route.
    pub topic: Option<Name>,
    /// What it reads of the root space.
    pub filter: Filter,
    /// Where it delivers.
    pub target: SubscriptionTarget,
    /// How.
    pub settings: SubscriptionSettings,
    /// It delivers. One that waits for its confirmation does not.
    pub confirmed: bool,
    /// What tells it from the topic's other subscriptions.
    pub identity: Bytes,
    /// Who made it.
    pub owner: Arc<str>,
    /// What doors keep with it.
    pub notes: Notes,
    /// How often it has changed: what [`SubscriptionTo::Alter`] names.
    pub version: u64,
}

/// What can be done to a subscription.
#[derive(Clone, Debug, PartialEq)]
pub enum SubscriptionTo {
    /// Makes it. When the topic has one of that identity, that one is the answer, unchanged: compare [`SubscriptionInfo::id`].
    Create(Box<NewSubscription>),
    /// Changes it. `Inequivalent` when it changed since the version was read.
    Alter {
        /// Which.
        id: SubscriptionId,
        /// [`SubscriptionInfo::version`].
        version: u64,
        /// How it delivers from now on.
        settings: SubscriptionSettings,
        /// Whether it delivers from now on.
        confirmed: bool,
        /// What the door keeps with it from now on.
        notes: Notes,
        /// What tells it from the topic's others from now on; `None`: what has. `InUse` when that is another's.
        identity: Option<Bytes>,
    },
    /// Deletes it. The answer shows it as it was.
    Delete {
        /// Which.
        id: SubscriptionId,
    },
    /// Only looks. The broker itself ([`crate::Credentials::Broker`]) sees those of all virtual hosts.
    Inspect {
        /// Which.
        id: SubscriptionId,
    },
}

/// A subscription to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSubscription {
    /// Its number.
    pub id: SubscriptionId,
    /// The topic object; `NotFound` when there is none. `None`: a route.
    pub topic: Option<Name>,
    /// What it reads of the root space. `None`: exactly the topic's address. A topic's subscription may read a pattern instead.
    pub filter: Option<Filter>,
    /// Where it delivers.
    pub target: SubscriptionTarget,
    /// How.
    pub settings: SubscriptionSettings,
    /// Whether it delivers from the start.
    pub confirmed: bool,
    /// What tells it from the topic's other subscriptions (protocol and endpoint).
    pub identity: Bytes,
    /// What the door keeps with it.
    pub notes: Notes,
}

/// Lists subscriptions of topic objects in the order of their topics' names and their own numbers. Answered by
/// `Event::ListedSubscriptions`.
#[derive(Clone, Debug, PartialEq)]
pub struct ListSubscriptions {
    /// Echoed.
    pub token: Token,
    /// The lane of the answer.
    pub lane: Lane,
    /// Of this topic only; `NotFound` when there is none. The empty name: subscriptions without a topic object.
    pub topic: Option<Name>,
    /// Those behind this one of that topic.
    pub after: Option<(Name, SubscriptionId)>,
    /// Most, 1 to 1,000.
    pub limit: u32,
}

/// What a subscription of a topic object brings to a queue that is there.
#[derive(Clone, Copy, Debug)]
pub struct Brought<'a> {
    /// The name of the virtual host of the topic.
    pub from: &'a str,
    /// The topic.
    pub topic: &'a Name,
    /// The name of the virtual host of the queue.
    pub to: &'a str,
    /// The queue.
    pub queue: &'a Name,
    /// What doors keep with the queue.
    pub notes: &'a Notes,
    /// The core's time.
    pub now: Timestamp,
}

/// Says whether a queue takes what a topic object brings it: a door's word, for the doors alone know what they keep with a queue. It is asked
/// while the core decides, for each message and queue of another virtual host, or with notes, so it answers from memory.
pub trait Gate: fmt::Debug + Send + Sync {
    /// What is not taken goes where the subscription's dead letters do.
    fn takes(&self, brought: &Brought<'_>) -> bool;
}
