//! Every packet of MQTT 3.1, 3.1.1 and 5.0, in both directions: the server decodes what clients send, clients and tests the rest.
//!
//! ```text
//! byte 1     type << 4 | flags
//! byte 2..   Remaining Length: 1 to 4 bytes, 7 bits each, lowest first
//! then       variable header (with properties in MQTT 5), payload
//! ```
//! The frame's end is found first and its length judged before the rest is waited for; then exactly that slice is frozen
//! and parsed. Fields and bodies share the read buffer. The version is state of the connection: CONNECT sets it.
//!
//! Deliberately absent: what depends on the state of the connection (order of packets, aliases, identifiers in use).

mod connect;
mod disconnect;
mod fields;
mod properties;
mod publish;
mod reason;
mod subscribe;

use bytes::{BufMut, Bytes, BytesMut};

pub use connect::{ConnAck, Connect, Will};
pub use disconnect::Farewell;
pub use fields::{Text, VARINT_MAX};
pub(crate) use fields::{put_binary, put_varint};
pub use properties::{Properties, Property};
pub use publish::{Ack, Publish, PublishHead};
pub use reason::ReasonCode;
pub use subscribe::{Options, SubAck, Subscribe, Unsubscribe};

use crate::DecodeError;
use fields::{Reader, Varint, decode_varint};

/// Protocol name and level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `MQIsdp`, 3.
    V31,
    /// `MQTT`, 4.
    V311,
    /// `MQTT`, 5.
    V5,
}

impl Version {
    /// For logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V31 => "MQTT 3.1",
            Self::V311 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5",
        }
    }
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names, one for one")]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe),
    UnsubAck(SubAck),
    PingReq,
    PingResp,
    Disconnect(Farewell),
    Auth(Farewell),
}

/// One whole packet, of which no more is known than its kind and its length.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Bytes,
    /// How long its fixed header is.
    header: usize,
}

impl Frame {
    fn first(&self) -> u8 {
        self.bytes[0]
    }

    pub(crate) fn is_publish(&self) -> bool {
        self.first() >> 4 == 3
    }
}

/// What a decoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest packet, in bytes, fixed header included.
    pub packet_len_max: usize,
    /// Most properties in a packet.
    pub properties_max: usize,
    /// Most topic filters in a packet.
    pub filters_max: usize,
}

impl Default for Limits {
    /// What a client may well use: the longest packet of the protocol, and counts that no honest peer reaches.
    fn default() -> Self {
        Self {
            packet_len_max: VARINT_MAX as usize + 5,
            properties_max: 65_535,
            filters_max: 65_535,
        }
    }
}

/// Takes packets off the front of a buffer.
#[derive(Clone, Debug)]
pub struct Decoder {
    version: Version,
    limits: Limits,
    /// The bytes without which looking again is pointless.
    wanted: usize,
    /// What a CONNECT said before it turned out to be malformed, or a whole one.
    announced: Option<Version>,
}

impl Decoder {
    /// One for a connection of that version. A server starts with any: a CONNECT sets it.
    #[must_use]
    pub const fn new(version: Version, limits: Limits) -> Self {
        Self {
            version,
            limits,
            wanted: 2,
            announced: None,
        }
    }

    /// Other limits, from the next packet on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The version in force.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The version that a CONNECT announced, even if the rest of it was malformed.
    #[must_use]
    pub const fn announced(&self) -> Option<Version> {
        self.announced
    }

    /// The next packet; `None` until all of it is there.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        match self.frame(input)? {
            Some(frame) => self.packet(frame).map(Some),
            None => Ok(None),
        }
    }

    /// The next packet, unread; `None` until all of it is there.
    pub(crate) fn frame(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        if input.len() < self.wanted {
            return Ok(None);
        }
        let (remaining, header) = match decode_varint(&input[1..]) {
            Varint::Whole { value, len } => (value as usize, 1 + len),
            Varint::Partial => {
                self.wanted = input.len() + 1;
                return Ok(None);
            }
            Varint::Overlong => return Err(DecodeError::RemainingLength),
        };
        let len = header + remaining;
        // [MQTT-3.2.2-15]
        if len > self.limits.packet_len_max {
            return Err(DecodeError::TooLarge {
                len,
                max: self.limits.packet_len_max,
            });
        }
        if input.len() < len {
            self.wanted = len;
            return Ok(None);
        }
        self.wanted = 2;
        let bytes = input.split_to(len).freeze();
        Ok(Some(Frame { bytes, header }))
    }

    /// Reads a PUBLISH: its topic is what `known` knows under that name, or else a text that is checked.
    pub(crate) fn publish<T: From<Text>>(
        &self,
        frame: Frame,
        known: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Publish<T>, DecodeError> {
        Publish::decode(frame, self.version, &self.limits, known)
    }

    /// Reads a packet.
    pub(crate) fn packet(&mut self, frame: Frame) -> Result<Packet, DecodeError> {
        if frame.is_publish() {
            return self.publish(frame, |_| None).map(Packet::Publish);
        }
        let first = frame.first();
        let (kind, flags) = (first >> 4, first & 15);
        let (version, limits) = (self.version, &self.limits);
        // MQTT 5, table 2-2 [MQTT-2.1.3-1]: PUBREL [MQTT-3.6.1-1], SUBSCRIBE [MQTT-3.8.1-1], UNSUBSCRIBE [MQTT-3.10.1-1],
        // DISCONNECT [MQTT-3.14.1-1], AUTH [MQTT-3.15.1-1]; MQTT 3.1 used three of these flags for DUP and QoS, and its clients may set DUP.
        let fixed = if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
        let dup_of_old = version == Version::V31 && matches!(kind, 6 | 8 | 10) && flags == 0x0a;
        if flags != fixed && !dup_of_old {
            return Err(DecodeError::Flags {
                packet: name(kind),
                flags,
            });
        }
        let reader = &mut Reader::new(&frame.bytes, frame.header);
        Ok(match kind {
            1 => {
                let version = Connect::decode_version(reader)?;
                self.announced = Some(version);
                let connect = Connect::decode(reader, version, limits)?;
                self.version = version;
                Packet::Connect(Box::new(connect))
            }
            2 => Packet::ConnAck(ConnAck::decode(reader, version, limits)?),
            4 => Packet::PubAck(Ack::decode(reader, name(kind), version, limits)?),
            5 => Packet::PubRec(Ack::decode(reader, name(kind), version, limits)?),
            6 => Packet::PubRel(Ack::decode(reader, name(kind), version, limits)?),
            7 => Packet::PubComp(Ack::decode(reader, name(kind), version, limits)?),
            8 => Packet::Subscribe(Subscribe::decode(reader, version, limits)?),
            9 => Packet::SubAck(SubAck::decode(reader, name(kind), version, limits)?),
            10 => Packet::Unsubscribe(Unsubscribe::decode(reader, version, limits)?),
            11 => Packet::UnsubAck(SubAck::decode(reader, name(kind), version, limits)?),
            12 => {
                reader.end()?;
                Packet::PingReq
            }
            13 => {
                reader.end()?;
                Packet::PingResp
            }
            14 => Packet::Disconnect(Farewell::decode(reader, name(kind), version, limits)?),
            15 if version == Version::V5 => {
                Packet::Auth(Farewell::decode(reader, name(kind), version, limits)?)
            }
            _ => return Err(DecodeError::PacketType(kind)),
        })
    }
}

/// The names of the packet types (MQTT 5, 2.1.2).
const fn name(kind: u8) -> &'static str {
    match kind {
        1 => "CONNECT",
        2 => "CONNACK",
        3 => "PUBLISH",
        4 => "PUBACK",
        5 => "PUBREC",
        6 => "PUBREL",
        7 => "PUBCOMP",
        8 => "SUBSCRIBE",
        9 => "SUBACK",
        10 => "UNSUBSCRIBE",
        11 => "UNSUBACK",
        12 => "PINGREQ",
        13 => "PINGRESP",
        14 => "DISCONNECT",
        15 => "AUTH",
        _ => "a reserved packet",
    }
}

impl Packet {
    /// Its type (MQTT 5, 2.1.2).
    const fn kind(&self) -> u8 {
        match self {
            Self::Connect(_) => 1,
            Self::ConnAck(_) => 2,
            Self::Publish(_) => 3,
            Self::PubAck(_) => 4,
            Self::PubRec(_) => 5,
            Self::PubRel(_) => 6,
            Self::PubComp(_) => 7,
            Self::Subscribe(_) => 8,
            Self::SubAck(_) => 9,
            Self::Unsubscribe(_) => 10,
            Self::UnsubAck(_) => 11,
            Self::PingReq => 12,
            Self::PingResp => 13,
            Self::Disconnect(_) => 14,
            Self::Auth(_) => 15,
        }
    }

    /// Its name in the specification.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        name(self.kind())
    }

    /// Appends the packet in the form of `version`. Properties are left out before MQTT 5.
    pub fn encode(&self, version: Version, out: &mut impl BufMut) {
        let mut body = Vec::new();
        let flags = match self {
            Self::Publish(publish) => {
                publish.encode(version, &mut body);
                publish.flags()
            }
            Self::PubRel(ack) => {
                ack.encode(version, &mut body);
                2
            }
            Self::Subscribe(subscribe) => {
                subscribe.encode(version, &mut body);
                2
            }
            Self::Unsubscribe(unsubscribe) => {
                unsubscribe.encode(version, &mut body);
                2
            }
            Self::Connect(connect) => {
                connect.encode(&mut body);
                0
            }
            Self::ConnAck(ack) => {
                ack.encode(version, &mut body);
                0
            }
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubComp(ack) => {
                ack.encode(version, &mut body);
                0
            }
            Self::SubAck(ack) | Self::UnsubAck(ack) => {
                ack.encode(version, &mut body);
                0
            }
            Self::Disconnect(farewell) | Self::Auth(farewell) => {
                farewell.encode(version, &mut body);
                0
            }
            Self::PingReq | Self::PingResp => 0,
        };
        out.put_u8(self.kind() << 4 | flags);
        put_varint(out, body.len());
        out.put_slice(&body);
    }
}
