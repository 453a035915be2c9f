//! CONNECT (MQTT 5, 3.1) and CONNACK (3.2).

use bytes::{BufMut, Bytes};

use super::{
    Limits, ReasonCode, Version,
    fields::{Reader, Text, put_binary},
    properties::{Place, Properties},
};
use crate::DecodeError;

/// The message that the server publishes when the client vanishes (3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Will properties.
    pub properties: Properties,
    /// Where to.
    pub topic: Text,
    /// The body.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// To be retained.
    pub retain: bool,
}

/// The first packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Protocol name and level.
    pub version: Version,
    /// Clean Start; Clean Session before MQTT 5.
    pub clean_start: bool,
    /// Keep alive in seconds; 0 is off.
    pub keep_alive_s: u16,
    /// Properties.
    pub properties: Properties,
    /// Client identifier; empty asks for one.
    pub client_id: Text,
    /// Will.
    pub will: Option<Will>,
    /// User name.
    pub user_name: Option<Text>,
    /// Password.
    pub password: Option<Bytes>,
}

impl Connect {
    /// Protocol name and level, the first fields.
    pub(super) fn decode_version(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
        let name = reader.binary()?;
        let level = reader.u8()?;
        match (&name[..], level) {
            (b"MQIsdp", 3) => Ok(Version::V31),
            (b"MQTT", 4) => Ok(Version::V311),
            (b"MQTT", 5) => Ok(Version::V5),
            // [MQTT-3.1.2-2]
            (b"MQTT" | b"MQIsdp", _) => Err(DecodeError::ProtocolLevel(level)),
            // [MQTT-3.1.2-1]
            _ => Err(DecodeError::ProtocolName),
        }
    }

    /// The fields behind them.
    pub(super) fn decode(
        reader: &mut Reader<'_>,
        version: Version,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        let has = |bit: u8| flags & bit != 0;
        let qos = flags >> 3 & 3;
        // [MQTT-3.1.2-3] the reserved bit; [MQTT-3.1.2-11], [MQTT-3.1.2-13] the will's bits without a will
        if has(0x01)
            || (!has(0x04) && (qos != 0 || has(0x20)))
            // [MQTT3-3.1.2-22]: a password needs a user name; MQTT 5 lifts that.
            || (version < Version::V5 && has(0x40) && !has(0x80))
        {
            return Err(DecodeError::ConnectFlags(flags));
        }
        // [MQTT-3.1.2-12]
        if qos == 3 {
            return Err(DecodeError::Qos);
        }
        let keep_alive_s = reader.u16()?;
        let properties = |reader: &mut Reader<'_>, place| {
            if version == Version::V5 {
                Properties::decode(reader, place, limits.properties_max)
            } else {
                Ok(Properties::default())
            }
        };
        // The flags say which fields there are, in this order [MQTT-3.1.3-1]: the client identifier first [MQTT-3.1.3-3], as text
        // [MQTT-3.1.3-4]; properties, topic and payload of the will [MQTT-3.1.2-9], its topic as text [MQTT-3.1.3-11]; a user
        // name or none [MQTT-3.1.2-16], [MQTT-3.1.2-17], as text [MQTT-3.1.3-12]; a password or none [MQTT-3.1.2-18],
        // [MQTT-3.1.2-19]; and nothing else [MQTT-3.1.4-1].
        let connect = Self {
            version,
            clean_start: has(0x02),
            keep_alive_s,
            properties: properties(reader, Place::Connect)?,
            client_id: reader.text()?,
            will: if has(0x04) {
                Some(Will {
                    properties: properties(reader, Place::Will)?,
                    topic: reader.text()?,
                    payload: reader.binary()?,
                    qos,
                    retain: has(0x20),
                })
            } else {
                None
            },
            user_name: has(0x80).then(|| reader.text()).transpose()?,
            password: has(0x40).then(|| reader.binary()).transpose()?,
        };
        reader.end()?;
        Ok(connect)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (name, level): (&[u8], u8) = match self.version {
            Version::V31 => (b"MQIsdp", 3),
            Version::V311 => (b"MQTT", 4),
            Version::V5 => (b"MQTT", 5),
        };
        put_binary(out, name);
        out.put_u8(level);
        let mut flags = u8::from(self.clean_start) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.password.is_some()) << 6 | u8::from(self.user_name.is_some()) << 7;
        out.put_u8(flags);
        out.put_u16(self.keep_alive_s);
        let v5 = self.version == Version::V5;
        if v5 {
            self.properties.encode(out);
        }
        put_binary(out, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            if v5 {
                will.properties.encode(out);
            }
            put_binary(out, will.topic.as_bytes());
            put_binary(out, &will.payload);
        }
        if let Some(name) = &self.user_name {
            put_binary(out, name.as_bytes());
        }
        if let Some(password) = &self.password {
            put_binary(out, password);
        }
    }
}

/// The answer to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// A session was there to resume.
    pub session_present: bool,
    /// The reason code; before MQTT 5 the return code (0 to 5).
    pub code: u8,
    /// Properties.
    pub properties: Properties,
}

impl ConnAck {
    /// A refusal, in the words of `version`. `None`: that version has no word for it.
    #[must_use]
    pub fn refusal(version: Version, reason: ReasonCode, properties: Properties) -> Option<Self> {
        // [MQTT-3.2.2-6], [MQTT-3.2.2-8]; without a word for it there is none [MQTT3-3.2.2-6].
        Some(if version == Version::V5 {
            Self {
                session_present: false,
                code: reason.0,
                properties,
            }
        } else {
            Self {
                session_present: false,
                code: reason.return_code()?,
                properties: Properties::default(),
            }
        })
    }

    pub(super) fn decode(
        reader: &mut Reader<'_>,
        version: Version,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        // [MQTT-3.2.2-1]
        if flags & 0xfe != 0 {
            return Err(DecodeError::Flags {
                packet: "CONNACK",
                flags,
            });
        }
        let code = reader.u8()?;
        let properties = if version == Version::V5 {
            Properties::decode(reader, Place::ConnAck, limits.properties_max)?
        } else {
            Properties::default()
        };
        reader.end()?;
        let known = match version {
            Version::V5 => {
                matches!(code, 0 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
            }
            Version::V31 | Version::V311 => code <= 5,
        };
        if !known {
            return Err(DecodeError::ReasonCode {
                packet: "CONNACK",
                code,
            });
        }
        Ok(Self {
            session_present: flags == 1,
            code,
            properties,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.session_present));
        out.put_u8(self.code);
        if version == Version::V5 {
            self.properties.encode(out);
        }
    }
}
