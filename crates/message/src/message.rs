//! The message itself.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Address, Properties, Timestamp};

/// Where a message is stored in the journal: made by the node, opaque to everyone else. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredId(pub u64);

/// What the body's bytes are, as the publisher said. Never guessed at delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BodyKind {
    /// Bytes.
    #[default]
    Bytes = 0,
    /// UTF-8 text.
    Text = 1,
    /// An encoded AMQP 1.0 `amqp-value` section's value.
    AmqpValue = 2,
    /// Encoded AMQP 1.0 `amqp-sequence` sections.
    AmqpSequence = 3,
    /// An encoded AMQP 1.0 map (JMS MapMessage).
    Map = 4,
}

/// Which protocol's encoding a [`Native`] head is in. Each protocol crate owns one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NativeForm(pub u8);

impl NativeForm {
    /// MQTT 5 PUBLISH properties, end-to-end ones only.
    pub const MQTT5: Self = Self(1);
    /// AMQP 0-9-1 content header: property flags and property list.
    pub const AMQP091: Self = Self(2);
    /// STOMP frame headers.
    pub const STOMP: Self = Self(3);
    /// Message attributes of SQS and SNS, and who sent them.
    pub const AWS: Self = Self(4);
}

/// The publisher's own encoded head: end-to-end fields only, so that the same protocol can send it out as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Native {
    /// Whose encoding it is.
    pub form: NativeForm,
    /// The bytes.
    pub head: Bytes,
}

/// Typed fields that several protocols share and that most messages do not carry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    /// MIME content type.
    pub content_type: Option<Bytes>,
    /// MIME content encoding.
    pub content_encoding: Option<Bytes>,
    /// The application's id for the message. `Text`, `Bytes`, `U64` or `Uuid`.
    pub message_id: Option<crate::Value>,
    /// The application's id of the exchange it belongs to. Types as `message_id`.
    pub correlation_id: Option<crate::Value>,
    /// Where to reply.
    pub reply_to: Option<Address>,
    /// The user who published, if the publisher set it (and it was checked there).
    pub user_id: Option<Bytes>,
    /// The publishing application (AMQP 0-9-1 `app-id`).
    pub app_id: Option<Bytes>,
    /// Subject or type (AMQP 1.0 `subject`, AMQP 0-9-1 `type`, STOMP/JMS `type`, SNS subject).
    pub subject: Option<Bytes>,
    /// Position in the group (JMSXGroupSeq).
    pub group_sequence: Option<u32>,
    /// Deduplication id.
    pub dedup_id: Option<Bytes>,
    /// W3C `traceparent`.
    pub trace_parent: Option<Bytes>,
    /// W3C `tracestate`.
    pub trace_state: Option<Bytes>,
    /// Further routing keys, with the first one the addresses of one publish (AMQP `CC` and `BCC`).
    pub carbon_copies: Vec<crate::Levels>,
}

/// One message: immutable once accepted, shared by reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Where it was published. Shared by the messages that one connection publishes to one place, so that each of them costs a
    /// reference, and who has seen the last one need not look at what is in it.
    pub address: Arc<Address>,
    /// The publisher's durable flag (delivery mode 2, QoS 1 and 2, `persistent:true`). Travels unchanged.
    pub durable: bool,
    /// Published with at-most-once, at-least-once or exactly-once (0, 1, 2); other protocols: 1 when durable, else 0.
    pub qos: u8,
    /// Published to be retained (MQTT retain; boolean property `x-mqtt-retain` elsewhere).
    pub retain: bool,
    /// Priority, if the publisher set one. 0 is the lowest.
    pub priority: Option<u8>,
    /// When it expires.
    pub expiry: Option<Timestamp>,
    /// How long it stays invisible after it was accepted, in milliseconds. 0: as long as its queue says; [`Message::AT_ONCE`]: not
    /// at all, whatever its queue says.
    pub delay_ms: u64,
    /// When the publisher says that it was made.
    pub created: Option<Timestamp>,
    /// What the body's bytes are.
    pub body_kind: BodyKind,
    /// FIFO message group, JMSXGroupID, partition key: apart, as the records of a stream have one and nothing else.
    pub group: Option<Bytes>,
    /// The rarer typed fields.
    pub fields: Option<Box<Fields>>,
    /// The application's own properties.
    pub properties: Properties,
    /// The publisher's own encoded head.
    pub native: Option<Native>,
    /// The body.
    pub body: Bytes,
}

impl Message {
    /// The [`Message::delay_ms`] of a message whose publisher wants no delay, not even its queue's.
    pub const AT_ONCE: u64 = u64::MAX;

    /// A plain message: not durable, bytes, no property.
    #[must_use]
    pub fn new(address: impl Into<Arc<Address>>, body: Bytes) -> Self {
        Self {
            address: address.into(),
            durable: false,
            qos: 0,
            retain: false,
            priority: None,
            expiry: None,
            delay_ms: 0,
            created: None,
            body_kind: BodyKind::Bytes,
            group: None,
            fields: None,
            properties: Properties::default(),
            native: None,
            body,
        }
    }

    /// The rarer fields, made on first use.
    pub fn fields_mut(&mut self) -> &mut Fields {
        self.fields.get_or_insert_with(Box::default)
    }

    /// The rarer fields, or the empty ones.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        static NONE: std::sync::OnceLock<Fields> = std::sync::OnceLock::new();
        self.fields
            .as_deref()
            .unwrap_or_else(|| NONE.get_or_init(Fields::default))
    }
}
