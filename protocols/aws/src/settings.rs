//! What the operator chooses for the AWS doors.

use std::sync::Arc;

use crate::{Network, Places, Signer};

/// How long changes of state take, as clients see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transitions {
    /// A moment, as with AWS: a stream is `CREATING` first.
    #[default]
    Brief,
    /// None: what was made is `ACTIVE` in the answer (`aws.transitions = "instant"`).
    Instant,
}

/// Whose manners to follow where they differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manners {
    /// Those that AWS documents.
    #[default]
    Standard,
    /// Those of moto's server, for tests that were written against it (`aws.manners = "moto"`): Kinesis numbers the records of
    /// a stream from 1, takes a sequence number with LATEST, names consumers without their time, and lists ten streams on a page;
    /// SQS keeps messages for less than a minute where it is told to, takes any `FifoQueue` that is not `true` for `false`, and a
    /// deduplication id where none is meant; SNS counts pages by what was shown, has other words for a missing group and another
    /// form for `EffectiveDeliveryPolicy`, and takes any JSON object for a `Policy`. Resource policies neither open nor close anything.
    Moto,
}

/// The settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// See [`Transitions`].
    pub transitions: Transitions,
    /// A deleted queue's name is free after 60 s only, and a queue is purged once in 60 s (QueueDeletedRecently,
    /// PurgeQueueInProgress); a stream's shard count is at most doubled or halved at once, and ten times in 24 h.
    pub minute_rules: bool,
    /// Whether `aws.signatures` accepts any credentials.
    pub any_signature: bool,
    /// Where proxies that end TLS are: what they say in `X-Forwarded-Proto` is believed, and of nobody else.
    pub proxies: Arc<[Network]>,
    /// Accounts and regions, and their virtual hosts.
    pub places: Places,
    /// The largest SQS message, in bytes: 1 MiB as with AWS. One of SNS is no larger either, and at most 256 KiB.
    pub message_len_max: u32,
    /// Kinesis streams have the write and read limits of AWS unless they say otherwise.
    pub shard_limits: bool,
    /// Shards of all streams of one account and region together.
    pub shards_max: u32,
    /// See [`Manners`].
    pub manners: Manners,
    /// Signs notifications. `None`: they are not signed.
    pub signer: Option<Signer>,
    /// What SNS may deliver to beyond queues.
    pub sns: SnsSettings,
}

/// What SNS may deliver to beyond queues, and what the operator knows of phone numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnsSettings {
    /// The rules of which HTTP endpoints may be reached (`sns.endpoints`).
    pub endpoints: Arc<[String]>,
    /// Whether there is something that sends mail (`sns.email`).
    pub email: bool,
    /// Whether there is something that sends text messages (`sns.sms`).
    pub sms: bool,
    /// Whether there is something that sends push notifications (`sns.push`).
    pub push: bool,
    /// Push notifications are discarded, so nothing about their content matters (`sns.push = "discard"`).
    pub push_discarded: bool,
    /// Numbers that have opted out of text messages, until they opt in again (`sns.opted_out`).
    pub opted_out: Arc<[String]>,
}

impl Default for SnsSettings {
    fn default() -> Self {
        Self {
            endpoints: ["http://*".to_owned(), "https://*".to_owned()].into(),
            email: false,
            sms: false,
            push: false,
            push_discarded: false,
            opted_out: Arc::default(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            transitions: Transitions::default(),
            minute_rules: true,
            any_signature: false,
            proxies: Arc::default(),
            places: Places::default(),
            message_len_max: 1 << 20,
            shard_limits: true,
            shards_max: 6_000,
            manners: Manners::default(),
            signer: None,
            sns: SnsSettings::default(),
        }
    }
}
