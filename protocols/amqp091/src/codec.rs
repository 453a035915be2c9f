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
//! | `publish.rs` | a publish in one go |

mod method;
mod properties;
mod publish;
mod table;
mod wire;

use bytes::{Buf as _, BufMut, Bytes, BytesMut};
pub use method::{Method, access, basic, channel, confirm, connection, exchange, queue, tx};
pub use properties::BasicProperties;
pub(crate) use publish::look_at_publish;
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
pub fn decode(input: &mut BytesMut, frame_max: u32) -> Result<Option<Frame>, DecodeError> {
    take(input, frame_max)?.map(Taken::decode).transpose()
}

/// A frame whose payload is yet to be read. A [`Frame`] has room for the longest method, and four of them come with a message
/// that is published and acknowledged: what a channel takes at once is read where it goes.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Its payload has no string, so that nothing of the input is kept for it.
    Ack {
        channel: u16,
        ack: basic::Ack,
    },
    Method {
        channel: u16,
        payload: Bytes,
    },
    Header {
        channel: u16,
        payload: Bytes,
    },
    Body {
        channel: u16,
        body: Bytes,
    },
    Heartbeat,
}

impl Taken {
    pub(crate) const fn channel(&self) -> u16 {
        match self {
            Self::Ack { channel, .. }
            | Self::Method { channel, .. }
            | Self::Header { channel, .. }
            | Self::Body { channel, .. } => *channel,
            Self::Heartbeat => 0,
        }
    }

    pub(crate) fn decode(self) -> Result<Frame, DecodeError> {
        Ok(match self {
            Self::Ack { channel, ack } => Frame::Method {
                channel,
                method: ack.into(),
            },
            Self::Method { channel, payload } => Frame::Method {
                channel,
                method: Method::decode(payload)?,
            },
            Self::Header { channel, payload } => Frame::Header {
                channel,
                header: decode_header(payload)?,
            },
            Self::Body { channel, body } => Frame::Body { channel, body },
            Self::Heartbeat => Frame::Heartbeat,
        })
    }
}

/// The same as [`decode`], as far as the kind of frame.
/// [AMQP-4.2.3-1], [AMQP-4.2.3-2], [AMQP-4.2.3-3].
pub(crate) fn take(input: &mut BytesMut, frame_max: u32) -> Result<Option<Taken>, DecodeError> {
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
    let end = input[len - 1];
    if end != FRAME_END {
        return Err(DecodeError::FrameEnd(end));
    }
    if kind == METHOD
        && let Some(ack) = method::decode_ack(&input[7..len - 1])
    {
        input.advance(len);
        return Ok(Some(Taken::Ack { channel, ack }));
    }
    input.advance(7);
    let payload = input.split_to(len - FRAME_OVERHEAD).freeze();
    input.advance(1);
    Ok(Some(match kind {
        METHOD => Taken::Method { channel, payload },
        HEADER => Taken::Header { channel, payload },
        BODY => Taken::Body {
            channel,
            body: payload,
        },
        // [AMQP-4.2.7-1]
        _ if channel != 0 => return Err(DecodeError::HeartbeatChannel(channel)),
        _ => Taken::Heartbeat,
    }))
}

/// Reads one field table that is all of `input`.
pub(crate) fn read_table(input: Bytes) -> Result<message::Properties, DecodeError> {
    table::read_table(&mut Fields::new(input))
}

/// Reads a content header frame's payload.
pub(crate) fn decode_header(payload: Bytes) -> Result<ContentHeader, DecodeError> {
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
    out.put_slice(&frame_start(kind, channel, len));
}

fn frame_start(kind: u8, channel: u16, len: usize) -> [u8; 7] {
    let [c1, c2] = channel.to_be_bytes();
    let len = u32::try_from(len).expect("a payload is at most a negotiated frame long");
    let [l1, l2, l3, l4] = len.to_be_bytes();
    [kind, c1, c2, l1, l2, l3, l4]
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

/// Appends a method frame of `basic.deliver`: the same as [`encode_method`] of its fields, which are borrowed here.
pub(crate) fn encode_deliver(
    out: &mut BytesMut,
    channel: u16,
    consumer_tag: &Short,
    (delivery_tag, redelivered): (u64, bool),
    (exchange, routing_key): (&[u8], &[u8]),
) {
    const CLASS_AND_METHOD: [u8; 4] = [0, 60, 0, 60];
    let strings = 3 + consumer_tag.len() + exchange.len() + routing_key.len();
    let len = CLASS_AND_METHOD.len() + strings + 8 + 1;
    out.reserve(len + FRAME_OVERHEAD);
    let mut head = [0; 7 + CLASS_AND_METHOD.len()];
    head[..7].copy_from_slice(&frame_start(METHOD, channel, len));
    head[7..].copy_from_slice(&CLASS_AND_METHOD);
    out.put_slice(&head);
    wire::put_short(out, consumer_tag);
    let mut middle = [u8::from(redelivered); 9];
    middle[..8].copy_from_slice(&delivery_tag.to_be_bytes());
    out.put_slice(&middle);
    wire::put_short(out, exchange);
    wire::put_short(out, routing_key);
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
    let mut head = [0; 7 + 12];
    head[..7].copy_from_slice(&frame_start(HEADER, channel, 12 + properties.len()));
    head[7..9].copy_from_slice(&class_id.to_be_bytes());
    head[11..].copy_from_slice(&body_size.to_be_bytes());
    out.put_slice(&head);
    out.put_slice(properties);
    out.put_u8(FRAME_END);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn short() -> impl Strategy<Value = Short> {
        prop::collection::vec(any::<u8>(), 0..=255)
            .prop_map(|text| Short::new(text.into()).expect("at most 255 bytes"))
    }

    proptest! {
        #[test]
        fn a_delivery_of_borrowed_fields_is_the_method_of_them(
            consumer_tag in short(),
            exchange in short(),
            routing_key in short(),
            (channel, delivery_tag, redelivered) in any::<(u16, u64, bool)>(),
        ) {
            let (mut borrowed, mut method) = (BytesMut::new(), BytesMut::new());
            let how = (delivery_tag, redelivered);
            encode_deliver(&mut borrowed, channel, &consumer_tag, how, (&exchange, &routing_key));
            let deliver = basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key };
            encode_method(&mut method, channel, &deliver.into());
            prop_assert_eq!(borrowed, method);
        }

        #[test]
        fn an_acknowledgement_without_strings_is_the_method(payload in prop::collection::vec(any::<u8>(), 9..=9)) {
            let payload = [&[0, 60, 0, 80], &payload[..]].concat();
            let decoded = Method::decode(payload.clone().into()).expect("it is whole");
            prop_assert_eq!(method::decode_ack(&payload).map(Method::from), Some(decoded));
            prop_assert_eq!(method::decode_ack(&payload[..12]), None);
            prop_assert_eq!(method::decode_ack(&[&payload[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn durable_properties_alone_are_read_as_all_others() {
        let durable = BasicProperties {
            delivery_mode: Some(2),
            ..BasicProperties::default()
        };
        let bytes = durable.to_bytes();
        assert_eq!(BasicProperties::mode_alone(&bytes), Some(2));
        assert_eq!(BasicProperties::known(&bytes), Some(&bytes[..]));
        assert_eq!(BasicProperties::decode(bytes), Ok(durable));
    }
}
