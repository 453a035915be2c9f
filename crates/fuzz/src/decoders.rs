//! Every decoder of bytes from a peer or from the disk.
//!
//! Each takes any bytes without a panic and within a bound on memory; what it accepts is written and read back as the same
//! value; and where the bytes come from a stream, it does not matter how they were split.

use bytes::{Buf, Bytes, BytesMut};
use message::{Message, Timestamp};
use session::{Close, Event, Output, Session, Wire};

use crate::memory::bounded;

/// MQTT packets: the first byte says the version, the second how the stream is split.
pub(crate) fn mqtt(input: &[u8]) {
    use mqtt::codec::{Decoder, Limits, Version};
    let [version, step, bytes @ ..] = input else {
        return;
    };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(version % 3)];
    let packets = bounded(input.len(), || {
        let mut decoder = Decoder::new(version, Limits::default());
        stream(bytes, usize::MAX, |buffer| decoder.decode(buffer))
    });
    let mut decoder = Decoder::new(version, Limits::default());
    let split = stream(bytes, usize::from(*step) + 1, |buffer| {
        decoder.decode(buffer)
    });
    assert_eq!(packets, split, "the split of the bytes matters");
    let mut version = version;
    for packet in packets.into_iter().flatten() {
        if let mqtt::codec::Packet::Connect(connect) = &packet {
            version = connect.version;
        }
        let mut again = BytesMut::new();
        packet.encode(version, &mut again);
        let back = Decoder::new(version, Limits::default()).decode(&mut again);
        assert_eq!(back, Ok(Some(packet)));
        assert!(again.is_empty(), "more was written than is read");
    }
}

/// Everything that a decoder takes off a stream, up to its first error.
fn stream<T, E>(
    bytes: &[u8],
    step: usize,
    mut decode: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> Vec<Result<T, E>> {
    let mut buffer = BytesMut::new();
    let mut found = Vec::new();
    for part in bytes.chunks(step.min(bytes.len()).max(1)) {
        buffer.extend_from_slice(part);
        loop {
            let before = buffer.len();
            match decode(&mut buffer) {
                Ok(Some(value)) => {
                    assert!(buffer.len() < before, "something was made of nothing");
                    found.push(Ok(value));
                }
                Ok(None) => break,
                Err(error) => {
                    found.push(Err(error));
                    return found;
                }
            }
        }
    }
    found
}

/// AMQP 0-9-1 frames: the first byte says the frame limit, the second how the stream is split.
pub(crate) fn amqp(input: &[u8]) {
    use amqp091::codec::{BasicProperties, Frame, decode};
    let [limit, step, bytes @ ..] = input else {
        return;
    };
    let frame_max = [0, 4096, 131_072][usize::from(limit % 3)];
    let frames = bounded(input.len(), || {
        stream(bytes, usize::MAX, |buffer| decode(buffer, frame_max))
    });
    let split = stream(bytes, usize::from(*step) + 1, |buffer| {
        decode(buffer, frame_max)
    });
    // As text: a table may hold a float that is no number, which is unlike itself.
    assert_eq!(
        format!("{frames:?}"),
        format!("{split:?}"),
        "the split of the bytes matters"
    );
    for frame in frames.into_iter().flatten() {
        if let Frame::Header { header, .. } = &frame {
            bounded(header.properties.len(), || {
                BasicProperties::decode(header.properties.clone()).is_ok()
            });
        }
        let mut again = BytesMut::new();
        frame.encode(&mut again);
        let back = decode(&mut again, 0);
        assert_eq!(
            format!("{back:?}"),
            format!("{:?}", Ok::<_, ()>(Some(frame)))
        );
    }
}

/// The properties of AMQP 0-9-1 messages, with their tables.
pub(crate) fn amqp_properties(input: &[u8]) {
    use amqp091::codec::BasicProperties;
    let bytes = Bytes::copy_from_slice(input);
    let decoded = bounded(input.len(), || BasicProperties::decode(bytes));
    if let Ok(properties) = decoded {
        let again = BasicProperties::decode(properties.to_bytes());
        assert_eq!(
            format!("{again:?}"),
            format!("{:?}", Ok::<_, ()>(properties))
        );
    }
}

/// STOMP frames: the first byte says the version, the second how the stream is split.
pub(crate) fn stomp(input: &[u8]) {
    use stomp::{
        Version,
        codec::{Decoder, Limits, Verb},
    };
    const LIMITS: Limits = Limits {
        header_count_max: 1_000,
        header_len_max: 64 << 10,
        head_len_max: 64 << 10,
        body_len_max: 1 << 20,
    };
    let [version, step, bytes @ ..] = input else {
        return;
    };
    let version = [Version::V1_0, Version::V1_1, Version::V1_2][usize::from(version % 3)];
    let frames = bounded(input.len(), || {
        let mut decoder = Decoder::new(version, LIMITS);
        stream(bytes, usize::MAX, |buffer| decoder.decode(buffer))
    });
    let mut decoder = Decoder::new(version, LIMITS);
    let split = stream(bytes, usize::from(*step) + 1, |buffer| {
        decoder.decode(buffer)
    });
    // How much of a wrong line is quoted may depend on how much of it had come.
    assert_eq!(frames.len(), split.len(), "the split of the bytes matters");
    for (whole, part) in frames.iter().zip(&split) {
        match (whole, part) {
            (Ok(whole), Ok(part)) => assert_eq!(whole, part),
            (Err(_), Err(_)) => {}
            _ => panic!("the split of the bytes matters: {whole:?}, {part:?}"),
        }
    }
    for frame in frames.into_iter().flatten() {
        // What a client may write beyond the escapes of its version cannot be written again.
        let mut wire = Wire::default();
        let omitted = frame.encode(version, &mut wire);
        let plain = |bytes: &Bytes| {
            !bytes
                .iter()
                .any(|byte| matches!(byte, b'\r' | b'\n' | b'\\'))
        };
        let all_plain = frame
            .headers
            .0
            .iter()
            .all(|(name, value)| plain(name) && plain(value));
        if omitted > 0 || matches!(frame.verb, Verb::Connect | Verb::Stomp) && !all_plain {
            continue;
        }
        if version != Version::V1_2 && !all_plain {
            continue;
        }
        let mut again = BytesMut::from(&wire.copy_to_bytes(wire.remaining())[..]);
        let mut wide = LIMITS;
        // Escapes and a content-length of our own make a head longer.
        wide.head_len_max *= 4;
        wide.header_len_max *= 4;
        wide.header_count_max += 1;
        let back = Decoder::new(version, wide).decode(&mut again);
        let Ok(Some(back)) = back else {
            panic!("{frame:?} was written and read as {back:?}");
        };
        assert_eq!((back.verb, &back.body), (frame.verb, &frame.body));
        for (name, value) in &frame.headers.0 {
            assert!(
                back.headers.0.contains(&(name.clone(), value.clone())),
                "{frame:?} became {back:?}"
            );
        }
    }
}

/// Takes everything and says nothing.
#[derive(Debug, Default)]
struct Sink(usize);

impl Session for Sink {
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        _now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        self.0 += input.len();
        input.clear();
        out.wire.put(b"seen");
        out.wire.end_frame();
        Ok(())
    }

    fn handle_event(&mut self, _: Event, _: Timestamp, _: &mut Output) -> Result<(), Close> {
        Ok(())
    }

    fn handle_timeout(&mut self, _: Timestamp, _: &mut Output) -> Result<(), Close> {
        Ok(())
    }

    fn handle_hangup(&mut self, _: Timestamp, _: &mut Output) {}

    fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }
}

/// WebSocket frames, and the header fields of the upgrade.
pub(crate) fn websocket(input: &[u8]) {
    use websocket::{Config, Kind, WebSocket, accept_key, choose_subprotocol};
    let [kind, step, bytes @ ..] = input else {
        return;
    };
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = choose_subprotocol(text);
        assert_eq!(accept_key(text).len(), 28);
    }
    let kind = [Kind::Binary, Kind::TextIfUtf8, Kind::AsPeer][usize::from(kind % 3)];
    bounded(input.len(), || {
        let mut session = WebSocket::new(Sink::default(), kind, Config::default());
        let mut out = Output::default();
        let mut buffer = BytesMut::new();
        for part in bytes.chunks(usize::from(*step) + 1) {
            buffer.extend_from_slice(part);
            let step = session.handle_bytes(&mut buffer, Timestamp(1), &mut out);
            if step.is_err() {
                assert!(!session.wants_bytes(), "it ended and wants more");
                break;
            }
        }
        assert!(out.commands.is_empty());
    });
}

/// Topics and filters of MQTT.
pub(crate) fn names(input: &[u8]) {
    use mqtt::{Subject, decode_filter, decode_source, decode_topic, encode_topic};
    let [levels_max, bytes @ ..] = input else {
        return;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let text = Bytes::copy_from_slice(text.as_bytes());
    let levels_max = usize::from(*levels_max);
    bounded(input.len(), || {
        let _ = decode_filter(&text, levels_max);
        let _ = decode_source(&text, levels_max);
        let _ = Subject::decode(&text, levels_max);
        let wild = text.iter().any(|byte| matches!(byte, b'+' | b'#' | 0));
        if let (false, Some(levels)) = (wild || text.is_empty(), decode_topic(&text)) {
            let mut out = Vec::new();
            assert!(encode_topic(&levels, &mut out));
            assert_eq!(out, text);
        }
    });
}

/// The head of a stored message.
pub(crate) fn head(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let decoded: Result<Message, _> =
        bounded(input.len(), || message::decode_head(bytes, Bytes::new()));
    if let Ok(message) = decoded {
        let mut again = Vec::new();
        message::encode_head(&message, &mut again);
        assert!(again.len() <= message::head_len_bound(&message));
        let back = message::decode_head(again.into(), Bytes::new());
        assert_eq!(format!("{back:?}"), format!("{:?}", Ok::<_, ()>(message)));
    }
}

/// The kind of a record of deliveries (crates/broker/src/record/codec.rs).
const DELIVERED: u8 = 11;

/// The core's records: the first byte is the kind.
pub(crate) fn record(input: &[u8]) {
    use broker::{BodyAt, Change, RecordKind};
    let [kind, bytes @ ..] = input else {
        return;
    };
    // A record of deliveries holds ranges that are spread out when it is read: up to 16,384 entries of less than 128 bytes,
    // in a list that may grow by doubling.
    let spread = if *kind == DELIVERED { 4 << 20 } else { 0 };
    let kind = RecordKind(*kind);
    let payload = Bytes::copy_from_slice(bytes);
    let stored = bounded(input.len(), || broker::decode_stored(payload.clone()));
    let decoded = bounded(input.len() + spread / 16, || Change::decode(kind, payload));
    // A publish's head and body are written by the node, from the message; without one there is nothing to compare.
    let (Ok((now, change)), false) = (decoded, stored.is_ok()) else {
        return;
    };
    let mut again = Vec::new();
    let written = change.encode(now, &[], BodyAt::None, &mut again);
    assert_eq!(written, kind);
    let back = Change::decode(kind, again.clone().into());
    if kind.0 == DELIVERED {
        // What is settled is written behind what is not, wherever it stood.
        let (now, change) = back.expect("what was written is read");
        let mut last = Vec::new();
        change.encode(now, &[], BodyAt::None, &mut last);
        assert_eq!(last, again);
        return;
    }
    assert_eq!(
        format!("{back:?}"),
        format!("{:?}", Ok::<_, ()>((now, change)))
    );
}

/// Users and virtual hosts as the operator writes them.
pub(crate) fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(config) = toml::from_str::<auth::Config>(text) else {
        return;
    };
    let checked = config.check();
    let users = auth::Users::new(&config, [7; 32]);
    assert_eq!(checked.is_ok(), users.is_ok(), "{checked:?}");
    let again = toml::to_string(&config).expect("what was read can be written");
    assert_eq!(toml::from_str::<auth::Config>(&again).as_ref(), Ok(&config));
}
