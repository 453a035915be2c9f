//! PUBLISH (MQTT 5, 3.3) and its four acknowledgements: PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7).

use bytes::{Buf, BufMut, Bytes};

use super::{
    Frame, Limits, ReasonCode, Version,
    fields::{Reader, Text, put_binary, put_varint, varint_len},
    properties::{Place, Properties},
};
use crate::DecodeError;

/// An application message. `T` is what its topic name was read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<T = Text> {
    /// Sent again.
    pub dup: bool,
    /// 0, 1 or 2.
    pub qos: u8,
    /// To be retained, or was retained.
    pub retain: bool,
    /// Topic name; empty with a topic alias.
    pub topic: T,
    /// `Some` exactly when `qos` is 1 or 2; never 0.
    pub packet_id: Option<u16>,
    /// Properties.
    pub properties: Properties,
    /// The body.
    pub payload: Bytes,
}

impl<T: From<Text>> Publish<T> {
    pub(super) fn decode(
        frame: Frame,
        version: Version,
        limits: &Limits,
        known: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Self, DecodeError> {
        let flags = frame.first() & 15;
        let qos = flags >> 1 & 3;
        // [MQTT-3.3.1-4]
        if qos == 3 {
            return Err(DecodeError::Qos);
        }
        // [MQTT-3.3.1-2]
        if flags & 8 != 0 && qos == 0 {
            return Err(DecodeError::Dup);
        }
        let mut reader = Reader::new(&frame.bytes, frame.header);
        let name = reader.borrowed()?;
        let topic = match known(name) {
            Some(topic) => topic,
            None => topic_name(frame.bytes.slice_ref(name), version)?.into(),
        };
        // [MQTT-2.2.1-2]
        let packet_id = (qos > 0).then(|| reader.packet_id()).transpose()?;
        let properties = if version == Version::V5 {
            Properties::decode(&mut reader, Place::Publish, limits.properties_max)?
        } else {
            Properties::default()
        };
        let body = reader.len();
        // An empty one pins no read buffer.
        let mut payload = if body > 0 { frame.bytes } else { Bytes::new() };
        payload.advance(payload.len() - body);
        Ok(Self {
            dup: flags & 8 != 0,
            qos,
            retain: flags & 1 != 0,
            topic,
            packet_id,
            properties,
            payload,
        })
    }
}

fn topic_name(name: Bytes, version: Version) -> Result<Text, DecodeError> {
    // [MQTT-3.3.2-1]
    let topic = Text::new(name)?;
    // [MQTT-3.3.2-2], [MQTT-4.7.0-1], [MQTT-4.7.3-1]; MQTT 5 allows no topic with an alias: that is the session's to judge.
    let empty = topic.is_empty() && version < Version::V5;
    if empty || topic.as_bytes().iter().any(|b| matches!(b, b'+' | b'#')) {
        return Err(DecodeError::TopicName);
    }
    Ok(topic)
}

impl Publish {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_binary(out, self.topic.as_bytes());
        if let Some(id) = self.packet_id {
            out.put_u16(id);
        }
        if version == Version::V5 {
            self.properties.encode(out);
        }
        out.put_slice(&self.payload);
    }

    pub(super) fn flags(&self) -> u8 {
        u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain)
    }
}

/// Everything of a PUBLISH but its body, from parts that are encoded already: the way to send without building a packet.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead<'a> {
    /// Sent again.
    pub dup: bool,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Was retained.
    pub retain: bool,
    /// Topic name, at most 65,535 bytes.
    pub topic: &'a [u8],
    /// Written when `qos` is 1 or 2.
    pub packet_id: u16,
    /// Encoded properties without their length, in two parts; `None` before MQTT 5.
    pub properties: Option<[&'a [u8]; 2]>,
    /// The body's length.
    pub payload_len: usize,
}

impl PublishHead<'_> {
    /// The Remaining Length.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        let packet_id = if self.qos > 0 { 2 } else { 0 };
        let properties = match self.properties {
            Some([first, second]) => {
                let len = first.len() + second.len();
                varint_len(len) + len
            }
            None => 0,
        };
        2 + self.topic.len() + packet_id + properties + self.payload_len
    }

    /// The length of the whole packet, fixed header and body included, when that is its Remaining Length.
    #[must_use]
    pub const fn packet_len(remaining: usize) -> usize {
        1 + varint_len(remaining) + remaining
    }

    /// Appends it, with that Remaining Length; the body follows.
    pub fn encode(&self, remaining: usize, out: &mut impl BufMut) {
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        // All in front of the topic at once.
        let mut start = [0; 7];
        let mut rest = &mut start[..];
        rest.put_u8(0x30 | flags);
        put_varint(&mut rest, remaining);
        rest.put_u16(self.topic.len() as u16);
        let left = rest.len();
        out.put_slice(&start[..start.len() - left]);
        out.put_slice(self.topic);
        if self.qos > 0 {
            out.put_u16(self.packet_id);
        }
        if let Some([first, second]) = self.properties {
            put_varint(out, first.len() + second.len());
            out.put_slice(first);
            out.put_slice(second);
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of the PUBLISH.
    pub packet_id: u16,
    /// Always success before MQTT 5.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: Properties,
}

impl Ack {
    /// A plain one.
    #[must_use]
    pub fn new(packet_id: u16, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: Properties::default(),
        }
    }

    pub(super) fn decode(
        reader: &mut Reader<'_>,
        packet: &'static str,
        version: Version,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let mut ack = Self::new(reader.packet_id()?, ReasonCode::SUCCESS);
        if version == Version::V5 && !reader.is_empty() {
            ack.reason = ReasonCode(reader.u8()?);
            // MQTT 5, 3.4.2.2.1: the property length may be left out with the properties.
            if !reader.is_empty() {
                ack.properties = Properties::decode(reader, Place::Ack, limits.properties_max)?;
            }
        }
        reader.end()?;
        let code = ack.reason.0;
        let known = match packet {
            // [MQTT-3.4.2-1], [MQTT-3.5.2-1]
            "PUBACK" | "PUBREC" => {
                matches!(
                    code,
                    0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
                )
            }
            // [MQTT-3.6.2-1], [MQTT-3.7.2-1]
            _ => matches!(code, 0 | 0x92),
        };
        if known {
            Ok(ack)
        } else {
            Err(DecodeError::ReasonCode { packet, code })
        }
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.put_u16(self.packet_id);
        if version == Version::V5 && (self.reason.0 != 0 || !self.properties.is_empty()) {
            out.put_u8(self.reason.0);
            if !self.properties.is_empty() {
                self.properties.encode(out);
            }
        }
    }
}
