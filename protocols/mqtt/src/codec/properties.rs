//! Properties (MQTT 5, 2.2.2): kept in the order in which they came, so that a packet encodes back to the same bytes.

use bytes::{BufMut, Bytes};

use super::fields::{Reader, Text, put_binary, put_varint, varint_len};
use crate::DecodeError;

/// Where properties may stand. The discriminant is the bit in [`Property::places`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Place {
    Connect = 1,
    ConnAck = 1 << 1,
    Publish = 1 << 2,
    Will = 1 << 3,
    Ack = 1 << 4,
    Subscribe = 1 << 5,
    SubAck = 1 << 6,
    Unsubscribe = 1 << 7,
    Disconnect = 1 << 8,
    Auth = 1 << 9,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Will => "the will of CONNECT",
            Self::Ack => "an acknowledgement",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK or UNSUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

/// One property. The names are those of MQTT 5, table 2-4.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names, one for one")]
pub enum Property {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(Text),
    ResponseTopic(Text),
    CorrelationData(Bytes),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(Text),
    ServerKeepAlive(u16),
    AuthenticationMethod(Text),
    AuthenticationData(Bytes),
    RequestProblemInformation(u8),
    WillDelayInterval(u32),
    RequestResponseInformation(u8),
    ResponseInformation(Text),
    ServerReference(Text),
    ReasonString(Text),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(u8),
    UserProperty(Text, Text),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(u8),
    SubscriptionIdentifierAvailable(u8),
    SharedSubscriptionAvailable(u8),
}

impl Property {
    /// The identifier.
    #[must_use]
    pub const fn id(&self) -> u8 {
        match self {
            Self::PayloadFormatIndicator(_) => 0x01,
            Self::MessageExpiryInterval(_) => 0x02,
            Self::ContentType(_) => 0x03,
            Self::ResponseTopic(_) => 0x08,
            Self::CorrelationData(_) => 0x09,
            Self::SubscriptionIdentifier(_) => 0x0B,
            Self::SessionExpiryInterval(_) => 0x11,
            Self::AssignedClientIdentifier(_) => 0x12,
            Self::ServerKeepAlive(_) => 0x13,
            Self::AuthenticationMethod(_) => 0x15,
            Self::AuthenticationData(_) => 0x16,
            Self::RequestProblemInformation(_) => 0x17,
            Self::WillDelayInterval(_) => 0x18,
            Self::RequestResponseInformation(_) => 0x19,
            Self::ResponseInformation(_) => 0x1A,
            Self::ServerReference(_) => 0x1C,
            Self::ReasonString(_) => 0x1F,
            Self::ReceiveMaximum(_) => 0x21,
            Self::TopicAliasMaximum(_) => 0x22,
            Self::TopicAlias(_) => 0x23,
            Self::MaximumQos(_) => 0x24,
            Self::RetainAvailable(_) => 0x25,
            Self::UserProperty(..) => 0x26,
            Self::MaximumPacketSize(_) => 0x27,
            Self::WildcardSubscriptionAvailable(_) => 0x28,
            Self::SubscriptionIdentifierAvailable(_) => 0x29,
            Self::SharedSubscriptionAvailable(_) => 0x2A,
        }
    }

    /// The places where a property of this identifier may stand (table 2-4), as bits of [`Place`]; 0 for unknown ones.
    const fn places(id: u32) -> u16 {
        use Place::{Ack, Auth, ConnAck, Connect, Disconnect, Publish, SubAck, Subscribe, Will};
        match id {
            0x01 | 0x02 | 0x03 | 0x08 | 0x09 => Publish as u16 | Will as u16,
            0x0B => Publish as u16 | Subscribe as u16,
            0x11 => Connect as u16 | ConnAck as u16 | Disconnect as u16,
            0x12 | 0x13 | 0x1A | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => ConnAck as u16,
            0x15 | 0x16 => Connect as u16 | ConnAck as u16 | Auth as u16,
            0x17 | 0x19 => Connect as u16,
            0x18 => Will as u16,
            0x1C => ConnAck as u16 | Disconnect as u16,
            0x1F => ConnAck as u16 | Ack as u16 | SubAck as u16 | Disconnect as u16 | Auth as u16,
            0x21 | 0x22 | 0x27 => Connect as u16 | ConnAck as u16,
            0x23 => Publish as u16,
            0x26 => u16::MAX,
            _ => 0,
        }
    }

    /// Whether the value is in bounds.
    const fn is_allowed(&self) -> bool {
        match self {
            Self::PayloadFormatIndicator(flag)
            | Self::RequestProblemInformation(flag)
            | Self::RequestResponseInformation(flag)
            | Self::MaximumQos(flag)
            | Self::RetainAvailable(flag)
            | Self::WildcardSubscriptionAvailable(flag)
            | Self::SubscriptionIdentifierAvailable(flag)
            | Self::SharedSubscriptionAvailable(flag) => *flag <= 1,
            // [MQTT-3.3.2-8]
            Self::ReceiveMaximum(value) | Self::TopicAlias(value) => *value != 0,
            Self::SubscriptionIdentifier(value) | Self::MaximumPacketSize(value) => *value != 0,
            _ => true,
        }
    }

    fn decode(reader: &mut Reader<'_>, place: Place) -> Result<Self, DecodeError> {
        let id = reader.varint()?;
        // MQTT 5, 2.2.2.2: an identifier that is not valid for its packet makes the packet malformed.
        if Self::places(id) & place as u16 == 0 {
            return Err(DecodeError::Property {
                id,
                place: place.name(),
            });
        }
        let property = match id {
            0x01 => Self::PayloadFormatIndicator(reader.u8()?),
            0x02 => Self::MessageExpiryInterval(reader.u32()?),
            // [MQTT-3.3.2-19]
            0x03 => Self::ContentType(reader.text()?),
            // [MQTT-3.3.2-13]
            0x08 => Self::ResponseTopic(reader.text()?),
            0x09 => Self::CorrelationData(reader.binary()?),
            0x0B => Self::SubscriptionIdentifier(reader.varint()?),
            0x11 => Self::SessionExpiryInterval(reader.u32()?),
            0x12 => Self::AssignedClientIdentifier(reader.text()?),
            0x13 => Self::ServerKeepAlive(reader.u16()?),
            0x15 => Self::AuthenticationMethod(reader.text()?),
            0x16 => Self::AuthenticationData(reader.binary()?),
            0x17 => Self::RequestProblemInformation(reader.u8()?),
            0x18 => Self::WillDelayInterval(reader.u32()?),
            0x19 => Self::RequestResponseInformation(reader.u8()?),
            0x1A => Self::ResponseInformation(reader.text()?),
            0x1C => Self::ServerReference(reader.text()?),
            0x1F => Self::ReasonString(reader.text()?),
            0x21 => Self::ReceiveMaximum(reader.u16()?),
            0x22 => Self::TopicAliasMaximum(reader.u16()?),
            0x23 => Self::TopicAlias(reader.u16()?),
            0x24 => Self::MaximumQos(reader.u8()?),
            0x25 => Self::RetainAvailable(reader.u8()?),
            // [MQTT-1.5.7-1]
            0x26 => Self::UserProperty(reader.text()?, reader.text()?),
            0x27 => Self::MaximumPacketSize(reader.u32()?),
            0x28 => Self::WildcardSubscriptionAvailable(reader.u8()?),
            0x29 => Self::SubscriptionIdentifierAvailable(reader.u8()?),
            0x2A => Self::SharedSubscriptionAvailable(reader.u8()?),
            _ => unreachable!("unknown identifiers have no place"),
        };
        if !property.is_allowed() {
            return Err(DecodeError::PropertyValue(property.id()));
        }
        Ok(property)
    }

    /// Appends identifier and value.
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(self.id());
        match self {
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::MaximumQos(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => out.put_u8(*value),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => out.put_u16(*value),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value)
            | Self::MaximumPacketSize(value) => out.put_u32(*value),
            Self::SubscriptionIdentifier(value) => put_varint(out, *value as usize),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => put_binary(out, text.as_bytes()),
            Self::CorrelationData(bytes) | Self::AuthenticationData(bytes) => {
                put_binary(out, bytes);
            }
            Self::UserProperty(name, value) => {
                put_binary(out, name.as_bytes());
                put_binary(out, value.as_bytes());
            }
        }
    }

    /// How many bytes [`Property::encode`] appends.
    pub(crate) fn encoded_len(&self) -> usize {
        1 + match self {
            Self::PayloadFormatIndicator(_)
            | Self::RequestProblemInformation(_)
            | Self::RequestResponseInformation(_)
            | Self::MaximumQos(_)
            | Self::RetainAvailable(_)
            | Self::WildcardSubscriptionAvailable(_)
            | Self::SubscriptionIdentifierAvailable(_)
            | Self::SharedSubscriptionAvailable(_) => 1,
            Self::ServerKeepAlive(_)
            | Self::ReceiveMaximum(_)
            | Self::TopicAliasMaximum(_)
            | Self::TopicAlias(_) => 2,
            Self::MessageExpiryInterval(_)
            | Self::SessionExpiryInterval(_)
            | Self::WillDelayInterval(_)
            | Self::MaximumPacketSize(_) => 4,
            Self::SubscriptionIdentifier(value) => varint_len(*value as usize),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => 2 + text.as_bytes().len(),
            Self::CorrelationData(bytes) | Self::AuthenticationData(bytes) => 2 + bytes.len(),
            Self::UserProperty(name, value) => 4 + name.as_bytes().len() + value.as_bytes().len(),
        }
    }
}

/// The properties of one packet, in order. Always empty before MQTT 5.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<Property>);

impl Properties {
    /// Reads the length and the properties.
    pub(super) fn decode(
        reader: &mut Reader<'_>,
        place: Place,
        count_max: usize,
    ) -> Result<Self, DecodeError> {
        let len = reader.varint()? as usize;
        if len == 0 {
            return Ok(Self::default());
        }
        let mut part = reader.part(len)?;
        let mut seen = 0u64;
        let mut properties = Vec::new();
        while !part.is_empty() {
            let property = Property::decode(&mut part, place)?;
            let id = property.id();
            // Only user properties repeat, and subscription identifiers in a PUBLISH from the server (3.3.2.3.8).
            let repeats = id == 0x26 || (id == 0x0B && place == Place::Publish);
            if !repeats && seen & 1 << id != 0 {
                return Err(DecodeError::PropertyTwice(id));
            }
            seen |= 1 << id;
            if properties.len() == count_max {
                return Err(DecodeError::TooMany {
                    what: "properties",
                    max: count_max,
                });
            }
            properties.push(property);
        }
        Ok(Self(properties))
    }

    /// Appends the length, 0 where there is none [MQTT-2.2.2-1], and the properties.
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        put_varint(out, self.content_len());
        for property in &self.0 {
            property.encode(out);
        }
    }

    fn content_len(&self) -> usize {
        self.0.iter().map(Property::encoded_len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
