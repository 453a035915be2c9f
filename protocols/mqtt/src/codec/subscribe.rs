//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (MQTT 5, 3.8 to 3.11).

use bytes::BufMut;

use super::{
    Limits, Version,
    fields::{Reader, Text, put_binary},
    properties::{Place, Properties},
};
use crate::DecodeError;

/// Subscription options (3.8.3.1). Before MQTT 5 only the QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Most that may be delivered: 0, 1 or 2.
    pub qos: u8,
    /// Not what this client published itself.
    pub no_local: bool,
    /// Keep the retain flag as published.
    pub retain_as_published: bool,
    /// 0: send retained messages; 1: only if the subscription is new; 2: never.
    pub retain_handling: u8,
}

impl Options {
    fn decode(byte: u8, version: Version) -> Result<Self, DecodeError> {
        let options = Self {
            qos: byte & 3,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling: byte >> 4 & 3,
        };
        let reserved = if version == Version::V5 { 0xc0 } else { 0xfc };
        // [MQTT-3.8.3-5], [MQTT3-3.8.3-4]
        if byte & reserved != 0 || options.qos == 3 || options.retain_handling == 3 {
            return Err(DecodeError::SubscriptionOptions(byte));
        }
        Ok(options)
    }

    fn encode(self, version: Version) -> u8 {
        if version == Version::V5 {
            self.qos
                | u8::from(self.no_local) << 2
                | u8::from(self.retain_as_published) << 3
                | self.retain_handling << 4
        } else {
            self.qos
        }
    }
}

/// Asks for subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Echoed in SUBACK.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties,
    /// At least one.
    pub filters: Vec<(Text, Options)>,
}

fn too_many(limits: &Limits) -> DecodeError {
    DecodeError::TooMany {
        what: "topic filters",
        max: limits.filters_max,
    }
}

fn filter(reader: &mut Reader<'_>) -> Result<Text, DecodeError> {
    // [MQTT-3.8.3-1], [MQTT-3.10.3-1]
    let filter = reader.text()?;
    // [MQTT-4.7.3-1]
    if filter.is_empty() {
        return Err(DecodeError::EmptyFilter);
    }
    Ok(filter)
}

fn properties(
    reader: &mut Reader<'_>,
    place: Place,
    version: Version,
    limits: &Limits,
) -> Result<Properties, DecodeError> {
    if version == Version::V5 {
        Properties::decode(reader, place, limits.properties_max)
    } else {
        Ok(Properties::default())
    }
}

impl Subscribe {
    pub(super) fn decode(
        reader: &mut Reader<'_>,
        version: Version,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = properties(reader, Place::Subscribe, version, limits)?;
        // [MQTT-3.8.3-2]
        if reader.is_empty() {
            return Err(DecodeError::NoFilter);
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            if filters.len() == limits.filters_max {
                return Err(too_many(limits));
            }
            let filter = filter(reader)?;
            filters.push((filter, Options::decode(reader.u8()?, version)?));
        }
        Ok(Self {
            packet_id,
            properties,
            filters,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.put_u16(self.packet_id);
        if version == Version::V5 {
            self.properties.encode(out);
        }
        for (filter, options) in &self.filters {
            put_binary(out, filter.as_bytes());
            out.put_u8(options.encode(version));
        }
    }
}

/// Ends subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Echoed in UNSUBACK.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties,
    /// At least one.
    pub filters: Vec<Text>,
}

impl Unsubscribe {
    pub(super) fn decode(
        reader: &mut Reader<'_>,
        version: Version,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = properties(reader, Place::Unsubscribe, version, limits)?;
        // [MQTT-3.10.3-2]
        if reader.is_empty() {
            return Err(DecodeError::NoFilter);
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            if filters.len() == limits.filters_max {
                return Err(too_many(limits));
            }
            filters.push(filter(reader)?);
        }
        Ok(Self {
            packet_id,
            properties,
            filters,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.put_u16(self.packet_id);
        if version == Version::V5 {
            self.properties.encode(out);
        }
        for filter in &self.filters {
            put_binary(out, filter.as_bytes());
        }
    }
}

/// SUBACK or UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Of the SUBSCRIBE or UNSUBSCRIBE.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties,
    /// One for each filter, in order. An UNSUBACK before MQTT 5 has none.
    pub codes: Vec<u8>,
}

impl SubAck {
    pub(super) fn decode(
        reader: &mut Reader<'_>,
        packet: &'static str,
        version: Version,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = properties(reader, Place::SubAck, version, limits)?;
        let codes = reader.remainder().to_vec();
        let unknown = codes.iter().find(|code| match (packet, version) {
            // [MQTT-3.9.3-2]
            ("SUBACK", Version::V5) => !matches!(
                code,
                0..=2 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2
            ),
            ("SUBACK", _) => !matches!(code, 0..=2 | 0x80),
            // [MQTT-3.11.3-2]
            (_, Version::V5) => !matches!(code, 0 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
            (_, _) => false,
        });
        if let Some(code) = unknown {
            return Err(DecodeError::ReasonCode {
                packet,
                code: *code,
            });
        }
        if packet == "UNSUBACK" && version < Version::V5 && !codes.is_empty() {
            return Err(DecodeError::Trailing(codes.len()));
        }
        if codes.is_empty() && (packet == "SUBACK" || version == Version::V5) {
            return Err(DecodeError::Truncated);
        }
        Ok(Self {
            packet_id,
            properties,
            codes,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.put_u16(self.packet_id);
        if version == Version::V5 {
            self.properties.encode(out);
        }
        out.put_slice(&self.codes);
    }
}
