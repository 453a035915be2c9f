//! Frames, both directions (AMQP 0-9-1, 2.3.5 and 4.2.3). A client can be written on this as well as the server.
//!
//! ```text
//! type:u8 channel:u16 size:u32 payload[size] 0xCE          type 1 method, 2 content header, 3 body, 8 heartbeat
//! content header payload: class:u16 weight:u16 body_size:u64 flags:u16 properties...
//! ```
//! Invariants: a frame's size is checked before its bytes are waited for; a body is never copied, it is a slice of the
//! read buffer; what [`decode`] accepts, [`Frame::encode`] writes back byte for byte, up to bits that the specification does not use.
//!
//! | file | what |
//! |---|---|
//! | `wire.rs` | integers, bits, strings |
//! | `table.rs` | field tables and arrays |
//! | `method.rs` | all methods |
//! | `properties.rs` | the properties of a message |

mod method;
mod properties;
mod table;
mod wire;

use bytes::{BufMut, Bytes, BytesMut};
pub use method::{Method, access, basic, channel, confirm, connection, exchange, queue, tx};
pub use properties::BasicProperties;
pub(crate) use table::put_table;
use wire::Fields;
pub use wire::{Long, Short};

use crate::error::DecodeError;

/// What a client sends first, and what a server answers to anything else (4.2.2).
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// The last byte of every frame (4.2.3).
pub const FRAME_END: u8 = 0xCE;
/// Bytes of a frame that are not payload.
pub const FRAME_OVERHEAD: usize = 8;
/// The least that both sides must be able to send and receive as one frame (4.2.3, constant frame-min-size).
pub const FRAME_LEN_MIN: u32 = 4096;
/// The class of all messages.
pub const CLASS_BASIC: u16 = 60;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// A content header: what precedes a body.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentHeader {
    /// The class of the method that it belongs to.
    pub class_id: u16,
    /// Bytes of the whole body.
    pub body_size: u64,
    /// Property flags and values, undecoded: see [`BasicProperties::decode`].
    pub properties: Bytes,
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "`channel` is the channel, the other field the payload"
)]
pub enum Frame {
    /// Type 1.
    Method { channel: u16, method: Method },
    /// Type 2.
    Header { channel: u16, header: ContentHeader },
    /// Type 3.
    Body { channel: u16, body: Bytes },
    /// Type 8.
    Heartbeat,
}

impl Frame {
    /// Which channel it is on.
    #[must_use]
    pub const fn channel(&self) -> u16 {
        match self {
            Self::Method { channel, .. }
            | Self::Header { channel, .. }
            | Self::Body { channel, .. } => *channel,
            Self::Heartbeat => 0,
        }
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Method { channel, method } => encode_method(out, *channel, method),
            Self::Header { channel, header } => encode_header(
                out,
                *channel,
                header.class_id,
                header.body_size,
                &header.properties,
            ),
            Self::Body { channel, body } => {
                put_frame_start(out, BODY, *channel, body.len());
                out.put_slice(body);
                out.put_u8(FRAME_END);
            }
            Self::Heartbeat => {
                put_frame_start(out, HEARTBEAT, 0, 0);
                out.put_u8(FRAME_END);
            }
        }
    }
}

/// Takes one frame off the front of `input`, or nothing when it is not all there yet. `frame_max` bounds the whole frame,
/// its 8 bytes of overhead included (0: no bound).
/// [AMQP-4.2.3-1], [AMQP-4.2.3-2], [AMQP-4.2.3-3].
pub fn decode(input: &mut BytesMut, frame_max: u32) -> Result<Option<Frame>, DecodeError> {
    let Some(head) = input.first_chunk::<7>() else {
        return Ok(None);
    };
    let [kind, c1, c2, size @ ..] = *head;
    let (channel, size) = (u16::from_be_bytes([c1, c2]), u32::from_be_bytes(size));
    // AMQP 0-9-1, 4.2.3: an unknown type or a wrong end is fatal, and can be seen before the frame is whole.
    if !matches!(kind, METHOD | HEADER | BODY | HEARTBEAT) {
        return Err(DecodeError::FrameType(kind));
    }
    let len = u64::from(size) + FRAME_OVERHEAD as u64;
    if frame_max != 0 && len > u64::from(frame_max) {
        return Err(DecodeError::FrameTooLarge { len, frame_max });
    }
    let len = usize::try_from(len).map_err(|_| DecodeError::FrameTooLarge { len, frame_max })?;
    if input.len() < len {
        return Ok(None);
    }
    let frame = input.split_to(len).freeze();
    if frame[len - 1] != FRAME_END {
        return Err(DecodeError::FrameEnd(frame[len - 1]));
    }
    let payload = frame.slice(7..len - 1);
    Ok(Some(match kind {
        METHOD => Frame::Method {
            channel,
            method: Method::decode(payload)?,
        },
        HEADER => Frame::Header {
            channel,
            header: decode_header(payload)?,
        },
        BODY => Frame::Body {
            channel,
            body: payload,
        },
        // [AMQP-4.2.7-1]
        _ if channel != 0 => return Err(DecodeError::HeartbeatChannel(channel)),
        _ => Frame::Heartbeat,
    }))
}

/// Reads one field table that is all of `input`.
pub(crate) fn read_table(input: Bytes) -> Result<message::Properties, DecodeError> {
    table::read_table(&mut Fields::new(input))
}

fn decode_header(payload: Bytes) -> Result<ContentHeader, DecodeError> {
    let mut fields = Fields::new(payload);
    let class_id = fields.u16()?;
    // 4.2.6.1: the weight is not used and must be 0.
    let weight = fields.u16()?;
    if weight != 0 {
        return Err(DecodeError::Weight(weight));
    }
    let body_size = fields.u64()?;
    let properties = fields.rest();
    if properties.len() < 2 {
        return Err(DecodeError::Truncated);
    }
    Ok(ContentHeader {
        class_id,
        body_size,
        properties,
    })
}

pub(crate) fn put_frame_start(out: &mut BytesMut, kind: u8, channel: u16, len: usize) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(u32::try_from(len).expect("a payload is at most a negotiated frame long"));
}

/// Appends the start of a body frame; its payload and [`FRAME_END`] follow.
pub(crate) fn put_body_start(out: &mut BytesMut, channel: u16, len: usize) {
    put_frame_start(out, BODY, channel, len);
}

/// Appends a method frame.
pub fn encode_method(out: &mut BytesMut, channel: u16, method: &Method) {
    let at = out.len();
    put_frame_start(out, METHOD, channel, 0);
    method.encode(out);
    let len = u32::try_from(out.len() - at - 7).expect("a method is smaller than 4 GiB");
    out[at + 3..at + 7].copy_from_slice(&len.to_be_bytes());
    out.put_u8(FRAME_END);
}

/// Appends a content header frame. `properties` are flags and values.
pub fn encode_header(
    out: &mut BytesMut,
    channel: u16,
    class_id: u16,
    body_size: u64,
    properties: &[u8],
) {
    put_frame_start(out, HEADER, channel, 12 + properties.len());
    out.put_u16(class_id);
    out.put_u16(0);
    out.put_u64(body_size);
    out.put_slice(properties);
    out.put_u8(FRAME_END);
}
