//! The content header's property list (AMQP 0-9-1, 4.2.6.1 and class basic).
//!
//! ```text
//! flags:u16  bit 15 content-type ... bit 2 cluster-id, bit 1 unused, bit 0: another word of flags follows (never, in class basic)
//! values     in the order of the flags, highest first
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use message::Properties;

use super::{
    table,
    wire::{Fields, Short, put_short},
};
use crate::error::DecodeError;

/// The properties of a message of class basic. Order of the fields = order on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields bear the names of the specification"
)]
pub struct BasicProperties {
    pub content_type: Option<Short>,
    pub content_encoding: Option<Short>,
    pub headers: Option<Properties>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<Short>,
    pub reply_to: Option<Short>,
    pub expiration: Option<Short>,
    pub message_id: Option<Short>,
    pub timestamp: Option<u64>,
    pub kind: Option<Short>,
    pub user_id: Option<Short>,
    pub app_id: Option<Short>,
    pub cluster_id: Option<Short>,
}

impl BasicProperties {
    /// The delivery mode, if it is all that is said.
    pub(crate) const fn mode_alone(input: &[u8]) -> Option<u8> {
        match input {
            [0x10, 0x00, mode] => Some(*mode),
            _ => None,
        }
    }

    /// The same bytes, if it is a known one and all that is said: they need not be kept.
    pub(crate) const fn known(input: &[u8]) -> Option<&'static [u8]> {
        match Self::mode_alone(input) {
            Some(1) => Some(&[0x10, 0x00, 1]),
            Some(2) => Some(&[0x10, 0x00, 2]),
            _ => None,
        }
    }

    /// Reads flags and values. Strings share `input`.
    pub fn decode(input: Bytes) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(input);
        let flags = fields.u16()?;
        if flags & 0b11 != 0 {
            return Err(DecodeError::PropertyFlags(flags));
        }
        let has = |bit: u16| flags & (1 << bit) != 0;
        let mut short = |bit| has(bit).then(|| fields.short()).transpose();
        let (content_type, content_encoding) = (short(15)?, short(14)?);
        let headers = has(13)
            .then(|| table::read_table(&mut fields))
            .transpose()?;
        let delivery_mode = has(12).then(|| fields.u8()).transpose()?;
        let priority = has(11).then(|| fields.u8()).transpose()?;
        let mut short = |bit| has(bit).then(|| fields.short()).transpose();
        let (correlation_id, reply_to, expiration, message_id) =
            (short(10)?, short(9)?, short(8)?, short(7)?);
        let timestamp = has(6).then(|| fields.u64()).transpose()?;
        let mut short = |bit| has(bit).then(|| fields.short()).transpose();
        let (kind, user_id, app_id, cluster_id) = (short(5)?, short(4)?, short(3)?, short(2)?);
        if !fields.is_empty() {
            return Err(DecodeError::TrailingProperties);
        }
        Ok(Self {
            content_type,
            content_encoding,
            headers,
            delivery_mode,
            priority,
            correlation_id,
            reply_to,
            expiration,
            message_id,
            timestamp,
            kind,
            user_id,
            app_id,
            cluster_id,
        })
    }

    /// Appends flags and values.
    pub fn encode(&self, out: &mut BytesMut) {
        let at = out.len();
        let mut flags = 0u16;
        out.put_u16(0);
        let short = |out: &mut BytesMut, flags: &mut u16, bit: u16, text: &Option<Short>| {
            if let Some(text) = text {
                *flags |= 1 << bit;
                put_short(out, text);
            }
        };
        short(out, &mut flags, 15, &self.content_type);
        short(out, &mut flags, 14, &self.content_encoding);
        if let Some(headers) = &self.headers {
            flags |= 1 << 13;
            table::put_table(out, headers);
        }
        if let Some(mode) = self.delivery_mode {
            flags |= 1 << 12;
            out.put_u8(mode);
        }
        if let Some(priority) = self.priority {
            flags |= 1 << 11;
            out.put_u8(priority);
        }
        short(out, &mut flags, 10, &self.correlation_id);
        short(out, &mut flags, 9, &self.reply_to);
        short(out, &mut flags, 8, &self.expiration);
        short(out, &mut flags, 7, &self.message_id);
        if let Some(seconds) = self.timestamp {
            flags |= 1 << 6;
            out.put_u64(seconds);
        }
        short(out, &mut flags, 5, &self.kind);
        short(out, &mut flags, 4, &self.user_id);
        short(out, &mut flags, 3, &self.app_id);
        short(out, &mut flags, 2, &self.cluster_id);
        out[at..at + 2].copy_from_slice(&flags.to_be_bytes());
    }

    /// Flags and values as bytes of their own.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}
