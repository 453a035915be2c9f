//! A publish of which everything has come: its three frames looked at in one go, and nothing taken. Each frame that is split off the
//! read buffer is counted by all who share it, so of a publish whose address is known only the body should be.
//!
//! ```text
//! 1 channel size [ 0 60 0 40 reserved:u16 exchange routing-key bits ] CE
//! 2 channel size [ 0 60 0 0 body_size:u64 properties ] CE
//! 3 channel size [ body ] CE
//! ```
//! Deliberately absent: saying what is wrong. Whatever is not as drawn here, though it be right, is read frame by frame.

use std::ops::Range;

use super::{BODY, FRAME_END, FRAME_OVERHEAD, HEADER, METHOD};

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WholePublish<'a> {
    pub(crate) channel: u16,
    pub(crate) exchange: &'a [u8],
    pub(crate) routing_key: &'a [u8],
    pub(crate) mandatory: bool,
    /// Where in the input its flags and values lie.
    pub(crate) properties: Range<usize>,
    /// Where its body lies, which is not empty.
    pub(crate) body: Range<usize>,
    /// Bytes of the three frames.
    pub(crate) len: usize,
}

/// Looks at the front of `input`. `None`: it is no such publish, or not all of it is there.
pub(crate) fn look_at_publish(input: &[u8], frame_max: u32) -> Option<WholePublish<'_>> {
    let (channel, method) = frame(input, 0, METHOD, frame_max)?;
    let [0, 60, 0, 40, _, _, strings @ ..] = &input[method.clone()] else {
        return None;
    };
    let (exchange, strings) = short(strings)?;
    let (routing_key, strings) = short(strings)?;
    // `immediate` is refused, and the other bits mean nothing.
    let mandatory = match strings {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    let (of, header) = frame(input, method.end + 1, HEADER, frame_max)?;
    let [0, 60, 0, 0, rest @ ..] = &input[header.clone()] else {
        return None;
    };
    let (size, flags) = rest.split_first_chunk()?;
    let properties = header.end - flags.len()..header.end;
    let (with, body) = frame(input, header.end + 1, BODY, frame_max)?;
    let whole = u64::from_be_bytes(*size) == body.len() as u64 && !body.is_empty();
    (whole && flags.len() >= 2 && of == channel && with == channel).then_some(WholePublish {
        channel,
        exchange,
        routing_key,
        mandatory,
        properties,
        len: body.end + 1,
        body,
    })
}

/// The channel of the frame at `at`, and where its payload lies.
fn frame(input: &[u8], at: usize, kind: u8, frame_max: u32) -> Option<(u16, Range<usize>)> {
    let (head, rest) = input.get(at..)?.split_first_chunk::<7>()?;
    let [is, c1, c2, size @ ..] = *head;
    let size = u32::from_be_bytes(size);
    let len = usize::try_from(size).ok()?;
    let fits = frame_max == 0 || u64::from(size) + FRAME_OVERHEAD as u64 <= u64::from(frame_max);
    let whole = is == kind && fits && rest.get(len) == Some(&FRAME_END);
    whole.then(|| (u16::from_be_bytes([c1, c2]), at + 7..at + 7 + len))
}

fn short(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = input.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{Frame, Method, Short, decode};

    /// Reads three frames one after the other, as a publish.
    fn one_by_one(input: &[u8], frame_max: u32) -> Option<(u16, [Bytes; 4], bool, usize)> {
        let mut rest = BytesMut::from(input);
        let mut next = || decode(&mut rest, frame_max).ok().flatten();
        let (first, second, third) = (next()?, next()?, next()?);
        let (
            Frame::Method {
                channel,
                method: Method::BasicPublish(publish),
            },
            Frame::Header {
                channel: of,
                header,
            },
            Frame::Body {
                channel: with,
                body,
            },
        ) = (first, second, third)
        else {
            return None;
        };
        let right = of == channel
            && with == channel
            && header.class_id == 60
            && header.body_size == body.len() as u64;
        let parts = [
            publish.exchange.into_bytes(),
            publish.routing_key.into_bytes(),
            header.properties,
            body,
        ];
        (right && !publish.immediate)
            .then(|| (channel, parts, publish.mandatory, input.len() - rest.len()))
    }

    fn in_one_go(input: &[u8], frame_max: u32) -> Option<(u16, [Bytes; 4], bool, usize)> {
        let it = look_at_publish(input, frame_max)?;
        let parts = [
            it.exchange,
            it.routing_key,
            &input[it.properties],
            &input[it.body],
        ];
        let parts = parts.map(Bytes::copy_from_slice);
        Some((it.channel, parts, it.mandatory, it.len))
    }

    fn bytes(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), range).prop_map(Bytes::from)
    }

    prop_compose! {
        fn published()(
            exchange in bytes(0..=4),
            routing_key in bytes(0..=255),
            (channel, mandatory) in any::<(u16, bool)>(),
            properties in bytes(2..=40),
            body in bytes(1..=300),
            behind in bytes(0..=20),
        ) -> Vec<u8> {
            let mut out = BytesMut::new();
            let short = |text| Short::new(text).expect("at most 255 bytes");
            let publish = crate::codec::basic::Publish {
                exchange: short(exchange),
                routing_key: short(routing_key),
                mandatory,
                ..Default::default()
            };
            crate::codec::encode_method(&mut out, channel, &publish.into());
            crate::codec::encode_header(&mut out, channel, 60, body.len() as u64, &properties);
            Frame::Body { channel, body }.encode(&mut out);
            out.extend_from_slice(&behind);
            out.to_vec()
        }
    }

    proptest! {
        #[test]
        fn a_publish_in_one_go_is_the_publish_of_its_frames(input in published(), frame_max in 0..700_u32) {
            let read = in_one_go(&input, frame_max);
            prop_assert_eq!(&read, &one_by_one(&input, frame_max));
            prop_assert!(frame_max != 0 || read.is_some());
        }

        #[test]
        fn what_is_not_whole_or_not_right_is_not_read_otherwise_than_frame_by_frame(
            mut input in published(),
            (at, bit) in (any::<prop::sample::Index>(), 0..8_u8),
            cut in any::<prop::sample::Index>(),
        ) {
            let at = at.index(input.len());
            input[at] ^= 1 << bit;
            for input in [&input[..], &input[..cut.index(input.len())]] {
                if let Some(read) = in_one_go(input, 0) {
                    prop_assert_eq!(Some(read), one_by_one(input, 0));
                }
            }
        }
    }
}
