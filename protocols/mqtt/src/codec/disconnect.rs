//! DISCONNECT (MQTT 5, 3.14) and AUTH (3.15). Before MQTT 5 DISCONNECT is empty, only clients send it, and AUTH does not exist.

use bytes::BufMut;

use super::{
    Limits, ReasonCode, Version,
    fields::Reader,
    properties::{Place, Properties},
};
use crate::DecodeError;

/// DISCONNECT or AUTH: a reason and properties, both of which may be left out when there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Farewell {
    /// Why.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: Properties,
}

impl Default for ReasonCode {
    fn default() -> Self {
        Self::SUCCESS
    }
}

impl Farewell {
    pub(super) fn decode(
        reader: &mut Reader<'_>,
        packet: &'static str,
        version: Version,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let mut farewell = Self::default();
        let (place, known): (_, fn(u8) -> bool) = if packet == "AUTH" {
            // [MQTT-3.15.2-1]
            (Place::Auth, |code| matches!(code, 0 | 0x18 | 0x19))
        } else {
            // [MQTT-3.14.2-1]
            (Place::Disconnect, |code| {
                matches!(
                    code,
                    0 | 4 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2
                )
            })
        };
        if version == Version::V5 && !reader.is_empty() {
            farewell.reason = ReasonCode(reader.u8()?);
            if !reader.is_empty() {
                farewell.properties = Properties::decode(reader, place, limits.properties_max)?;
            }
        }
        reader.end()?;
        let code = farewell.reason.0;
        if known(code) {
            Ok(farewell)
        } else {
            Err(DecodeError::ReasonCode { packet, code })
        }
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V5 && (self.reason.0 != 0 || !self.properties.is_empty()) {
            out.put_u8(self.reason.0);
            if !self.properties.is_empty() {
                self.properties.encode(out);
            }
        }
    }
}
