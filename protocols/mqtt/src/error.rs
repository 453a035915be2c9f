//! What a peer can get wrong in a packet, and the reason code that it is told (MQTT 5, 4.13).
//!
//! What a packet says that is well formed but does not fit the state of the connection is judged in `session.rs`.

use crate::{Manners, codec::ReasonCode};

/// Bytes that are not a packet of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The Remaining Length takes more than four bytes.
    #[error("remaining length takes more than four bytes")]
    RemainingLength,
    /// The packet is longer than the limit.
    #[error("packet of {len} bytes is longer than {max}")]
    TooLarge {
        /// Its length, fixed header included.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// More of something than the limit.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Packet type 0, or 15 before MQTT 5.
    #[error("packet type {0} is reserved")]
    PacketType(u8),
    /// Reserved flags of the fixed header.
    #[error("flags {flags:#06b} are not allowed in {packet}")]
    Flags {
        /// The packet.
        packet: &'static str,
        /// The flags.
        flags: u8,
    },
    /// The packet ends inside a field.
    #[error("packet ends inside a field")]
    Truncated,
    /// Bytes are left behind the last field.
    #[error("{0} bytes follow the last field")]
    Trailing(usize),
    /// A text is not UTF-8, or holds U+0000.
    #[error("text is not valid UTF-8 or holds U+0000")]
    Text,
    /// A Variable Byte Integer takes more than four bytes.
    #[error("variable byte integer takes more than four bytes")]
    VarInt,
    /// Packet identifier 0.
    #[error("packet identifier is 0")]
    PacketId,
    /// QoS 3.
    #[error("quality of service is 3")]
    Qos,
    /// DUP with QoS 0.
    #[error("DUP is set at quality of service 0")]
    Dup,
    /// The protocol name is none of ours.
    #[error("protocol name is not MQTT")]
    ProtocolName,
    /// The protocol level is none of ours.
    #[error("protocol level {0} is not supported")]
    ProtocolLevel(u8),
    /// Connect flags that are reserved or contradict each other.
    #[error("connect flags {0:#010b} contradict each other")]
    ConnectFlags(u8),
    /// An unknown property, or one that this packet may not carry.
    #[error("property {id:#04x} does not belong into {place}")]
    Property {
        /// Its identifier.
        id: u32,
        /// The packet.
        place: &'static str,
    },
    /// A property that may appear once appears again.
    #[error("property {0:#04x} appears twice")]
    PropertyTwice(u8),
    /// A property's value is out of its bounds.
    #[error("property {0:#04x} has a value that is not allowed")]
    PropertyValue(u8),
    /// A topic name that is empty (before MQTT 5) or holds a wildcard.
    #[error("topic name is empty or holds a wildcard")]
    TopicName,
    /// A SUBSCRIBE or UNSUBSCRIBE without a topic filter.
    #[error("no topic filter")]
    NoFilter,
    /// An empty topic filter.
    #[error("topic filter is empty")]
    EmptyFilter,
    /// Reserved bits or values in subscription options.
    #[error("subscription options {0:#010b} are not allowed")]
    SubscriptionOptions(u8),
    /// A reason or return code that this packet does not know.
    #[error("reason code {code:#04x} does not belong into {packet}")]
    ReasonCode {
        /// The packet.
        packet: &'static str,
        /// The code.
        code: u8,
    },
}

impl DecodeError {
    /// The reason code to tell an MQTT 5 peer, in a manners.
    #[must_use]
    pub const fn reason_in(&self, manners: Manners) -> ReasonCode {
        match (manners, self) {
            // 0x0B is the subscription identifier.
            (
                Manners::Mosquitto,
                Self::NoFilter | Self::SubscriptionOptions(_) | Self::PropertyValue(0x0b),
            ) => ReasonCode::MALFORMED_PACKET,
            _ => self.reason(),
        }
    }

    /// The reason code to tell an MQTT 5 peer.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::TooLarge { .. } => ReasonCode::PACKET_TOO_LARGE,
            Self::TooMany { .. } => ReasonCode::QUOTA_EXCEEDED,
            Self::ProtocolName | Self::ProtocolLevel(_) => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            // MQTT 5, 3.3.2.3.4: a Topic Alias of 0 is a Protocol Error with a code of its own.
            Self::PropertyValue(0x23) => ReasonCode::TOPIC_ALIAS_INVALID,
            // MQTT 5, 3.8.3.1: reserved bits make a packet malformed; QoS 3 and retain handling 3 are Protocol Errors.
            Self::SubscriptionOptions(byte) if *byte & 0xc0 == 0 => ReasonCode::PROTOCOL_ERROR,
            Self::PropertyTwice(_) | Self::PropertyValue(_) | Self::NoFilter => {
                ReasonCode::PROTOCOL_ERROR
            }
            // [MQTT-2.2.1-3] names no code for a packet identifier of 0: a field has a value that it cannot have.
            Self::PacketId
            | Self::RemainingLength
            | Self::PacketType(_)
            | Self::Flags { .. }
            | Self::Truncated
            | Self::Trailing(_)
            | Self::Text
            | Self::VarInt
            | Self::Qos
            | Self::Dup
            | Self::ConnectFlags(_)
            | Self::Property { .. }
            | Self::TopicName
            | Self::EmptyFilter
            | Self::SubscriptionOptions(_)
            | Self::ReasonCode { .. } => ReasonCode::MALFORMED_PACKET,
        }
    }
}
