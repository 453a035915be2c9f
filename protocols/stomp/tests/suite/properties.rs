//! Round trips, splits, and what must never happen whatever comes.

use bytes::{Buf, Bytes, BytesMut};
use message::Timestamp;
use proptest::prelude::*;
use session::{Output, Session, Wire};
use stomp::{
    Config, StompSession, Version,
    codec::{Decoder, Frame, Headers, Limits, Verb},
};

use crate::show;

const WIDE: Limits = Limits {
    header_count_max: 100,
    header_len_max: 10_000,
    head_len_max: 100_000,
    body_len_max: 100_000,
};

fn encode(frames: &[Frame], version: Version) -> BytesMut {
    let mut wire = Wire::default();
    for frame in frames {
        frame.encode(version, &mut wire);
        wire.put(b"\n");
    }
    BytesMut::from(&wire.copy_to_bytes(wire.remaining())[..])
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        Just(Verb::Send),
        Just(Verb::Message),
        Just(Verb::Ack),
        Just(Verb::Error)
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let header = ("[a-z:\\\\\n\r é]{1,6}", "[a-z:\\\\\n\r é]{0,8}");
    let headers = proptest::collection::vec(header, 0..5);
    let body = proptest::collection::vec(any::<u8>(), 0..2000);
    (verb(), headers, body).prop_map(|(verb, headers, body)| {
        let headers = headers
            .into_iter()
            .map(|(name, value)| (Bytes::from(name), Bytes::from(value)))
            .collect();
        let mut frame = Frame::new(verb);
        frame.headers = Headers(headers);
        if matches!(verb, Verb::Ack) {
            return frame;
        }
        let len = body.len().to_string();
        frame.with("content-length", len).with_body(body)
    })
}

proptest! {
    #[test]
    fn frames_of_1_2_round_trip(frames in proptest::collection::vec(frame(), 1..4)) {
        let mut bytes = encode(&frames, Version::V1_2);
        let mut decoder = Decoder::new(Version::V1_2, WIDE);
        for frame in &frames {
            let decoded = decoder.decode(&mut bytes).expect("right");
            prop_assert_eq!(decoded.as_ref(), Some(frame));
        }
        prop_assert_eq!(decoder.decode(&mut bytes).expect("right"), None);
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn any_split_gives_the_same(
        frames in proptest::collection::vec(frame(), 1..4),
        cuts in proptest::collection::vec(1usize..60, 1..20),
    ) {
        let bytes = encode(&frames, Version::V1_2);
        let mut decoder = Decoder::new(Version::V1_2, WIDE);
        let (mut input, mut rest, mut found) = (BytesMut::new(), &bytes[..], Vec::new());
        for cut in cuts.iter().cycle() {
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            input.extend_from_slice(part);
            rest = after;
            while let Some(frame) = decoder.decode(&mut input).expect("right") {
                found.push(frame);
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn any_bytes_are_frames_or_an_error_and_the_split_does_not_matter(
        bytes in proptest::collection::vec(
            prop_oneof![
                any::<u8>().prop_map(|byte| vec![byte]),
                Just(b"\n".to_vec()), Just(b"\0".to_vec()), Just(b":".to_vec()), Just(b"\r\n".to_vec()),
                Just(b"SEND\n".to_vec()), Just(b"CONNECT\r\n".to_vec()), Just(b"ACK\n\n\0".to_vec()),
                Just(b"content-length:3\n".to_vec()), Just(b"a:\\c\n".to_vec()),
            ],
            0..30,
        ),
        step in 1usize..5,
    ) {
        let bytes = bytes.concat();
        let run = |step: usize| {
            let mut decoder = Decoder::new(Version::V1_1, WIDE);
            let (mut input, mut found) = (BytesMut::new(), Vec::new());
            for part in bytes.chunks(step) {
                input.extend_from_slice(part);
                loop {
                    match decoder.decode(&mut input) {
                        Ok(Some(frame)) => found.push(Ok(frame)),
                        Ok(None) => break,
                        // How much of a wrong line is quoted may depend on how much had come.
                        Err(error) => {
                            found.push(Err(std::mem::discriminant(&error)));
                            return found;
                        }
                    }
                }
            }
            found
        };
        prop_assert_eq!(run(step), run(usize::MAX));
    }

    #[test]
    fn a_session_survives_whatever_comes(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("SEND\ndestination:/queue/a\nreceipt:r\n\nx\0".to_owned()),
                Just("SEND\ndestination:/topic/a\ntransaction:t\n\nx\0".to_owned()),
                Just("SEND\ndestination:/queue/a\nreply-to:/temp-queue/t\n\nx\0".to_owned()),
                Just("SUBSCRIBE\nid:1\ndestination:/queue/a\nack:client\n\n\0".to_owned()),
                Just("SUBSCRIBE\nid:2\ndestination:/topic/a\n\n\0".to_owned()),
                Just("UNSUBSCRIBE\nid:1\n\n\0".to_owned()),
                Just("ACK\nid:1-1-7.1\n\n\0".to_owned()),
                Just("NACK\nid:1-2-7.2\ntransaction:t\n\n\0".to_owned()),
                Just("BEGIN\ntransaction:t\n\n\0".to_owned()),
                Just("COMMIT\ntransaction:t\n\n\0".to_owned()),
                Just("ABORT\ntransaction:t\n\n\0".to_owned()),
                Just("\n".to_owned()),
                Just("* delivery 1 7.1 queue:a x".to_owned()),
                Just("* delivery 1 7.2 queue:a x".to_owned()),
                Just("* delivery 2 settled topic:a x".to_owned()),
                (0u64..8).prop_map(|token| format!("* declared #{token} q")),
                (0u64..8).prop_map(|token| format!("* reached #{token}")),
                (0u64..8).prop_map(|token| format!("* unsubscribed #{token}")),
                "[A-Z]{2,8}\n[a-z]{0,4}:[a-z]{0,4}\n\n\0",
            ],
            0..40,
        ),
    ) {
        let mut session = StompSession::new(Config::default());
        let (mut input, mut out, now) = (BytesMut::new(), Output::default(), Timestamp(1));
        input.extend_from_slice(b"CONNECT\naccept-version:1.2\n\n\0");
        session.handle_bytes(&mut input, now, &mut out).expect("a greeting");
        session.handle_event(show::event("authenticated guest"), now, &mut out).expect("welcome");
        for part in parts {
            let step = match part.strip_prefix("* ") {
                Some(line) => session.handle_event(show::event(line), now, &mut out),
                None => {
                    input.extend_from_slice(part.as_bytes());
                    Ok(())
                }
            };
            let step = step.and_then(|()| {
                if session.wants_bytes() { session.handle_bytes(&mut input, now, &mut out) } else { Ok(()) }
            });
            if step.is_err() {
                break;
            }
        }
        session.handle_hangup(now, &mut out);
        prop_assert_eq!(session.poll_timeout(), None);
    }
}
