//! A message from one STOMP connection to another, of every pair of versions: its own headers go out as they came.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use message::{Message, Timestamp};
use session::{Command, Event, Output, Session};
use stomp::{
    Config, StompSession, Version,
    codec::{Decoder, Frame, Limits, Verb},
};

use crate::show;

const NOW: Timestamp = Timestamp(1_000_000);
const VERSIONS: [Version; 3] = [Version::V1_0, Version::V1_1, Version::V1_2];

struct Peer {
    session: StompSession,
    config: Arc<Config>,
    version: Version,
}

impl Peer {
    fn new(version: Version) -> Self {
        let config = Arc::new(Config::default());
        let mut peer = Self {
            session: StompSession::new(Arc::clone(&config)),
            config,
            version,
        };
        peer.send(&Frame::new(Verb::Connect).with("accept-version", version.as_str()));
        peer.event(show::event("authenticated guest"));
        peer
    }

    fn send(&mut self, frame: &Frame) -> Output {
        let mut out = Output::default();
        frame.encode(self.version, &mut out.wire);
        let mut input = BytesMut::from(&out.wire.copy_to_bytes(out.wire.remaining())[..]);
        self.session
            .handle_bytes(&mut input, NOW, &mut out)
            .expect("no error");
        out
    }

    fn event(&mut self, event: Event) -> Output {
        let mut out = Output::default();
        self.session
            .handle_event(event, NOW, &mut out)
            .expect("no error");
        out
    }

    /// The message that a SEND becomes.
    fn publish(&mut self, frame: &Frame) -> Arc<Message> {
        let mut out = self.send(frame);
        match out.commands.pop_back() {
            Some(Command::Publish(publish)) => publish.message,
            other => panic!("no publish but {other:?}"),
        }
    }

    /// The MESSAGE that a message becomes.
    fn receive(&mut self, message: &Arc<Message>) -> Frame {
        self.send(
            &Frame::new(Verb::Subscribe)
                .with("id", "s")
                .with("destination", "/queue/a"),
        );
        let Event::Delivery(mut delivery) = show::event("delivery 1 settled queue:a x") else {
            unreachable!("it is one");
        };
        delivery.message = Arc::clone(message);
        let mut out = self.event(Event::Delivery(delivery));
        let mut bytes = BytesMut::from(&out.wire.copy_to_bytes(out.wire.remaining())[..]);
        let limits = Limits {
            header_count_max: 100,
            header_len_max: 10_000,
            head_len_max: 10_000,
            body_len_max: 1_000_000,
        };
        Decoder::new(self.version, limits)
            .decode(&mut bytes)
            .expect("a right frame")
            .expect("a whole frame")
    }
}

fn send() -> Frame {
    Frame::new(Verb::Send).with("destination", "/queue/a")
}

#[test]
fn doors_d24_headers_go_out_as_they_came_between_all_versions() {
    let own = [
        ("content-type", "text/plain"),
        ("content-encoding", "identity"),
        ("correlation-id", "c-1"),
        ("type", "order"),
        ("JMSXGroupID", "g"),
        ("x-deduplication-id", "d"),
        ("app-id", "shop"),
        ("colour", " blue "),
        ("colour", "red"),
        ("note", "größer: \\o/"),
        ("x-property-ack", "mine"),
        ("empty", ""),
    ];
    for from in VERSIONS {
        for to in VERSIONS {
            let frame = own
                .iter()
                .fold(send(), |frame, (name, value)| frame.with(name, *value));
            let frame = frame
                .with("persistent", "true")
                .with("priority", "3")
                .with("expires", "2000000")
                .with("reply-to", "/queue/answers")
                .with("receipt", "r")
                .with_body(&b"\0\xff binary"[..]);
            let message = Peer::new(from).publish(&frame);
            let received = Peer::new(to).receive(&message);
            let headers = &received.headers;
            let theirs: Vec<(&str, &str)> = headers
                .0
                .iter()
                .map(|(name, value)| {
                    let text = |bytes| std::str::from_utf8(bytes).expect("UTF-8");
                    (text(name), text(value))
                })
                .filter(|header| own.contains(header))
                .collect();
            assert_eq!(theirs, own, "{from:?} to {to:?}");
            for (name, value) in [
                ("destination", "/queue/a"),
                ("persistent", "true"),
                ("priority", "3"),
                ("expires", "2000000"),
                ("reply-to", "/reply-queue/answers"),
                ("content-length", "9"),
            ] {
                assert_eq!(headers.text(name), Some(value), "{from:?} to {to:?}");
            }
            assert_eq!(headers.first("receipt"), None);
            assert_eq!(headers.0.len(), own.len() + 8, "{headers:?}");
            assert_eq!(received.body, message.body);
        }
    }
}

#[test]
fn doors_d25_what_a_version_cannot_show_is_left_out_and_counted() {
    let frame = send()
        .with("line", "a\nb")
        .with("return", "a\rb")
        .with("na:me", "x")
        .with("kept", "\\");
    let message = Peer::new(Version::V1_2).publish(&frame);
    for (to, kept) in [
        (Version::V1_0, &["kept"][..]),
        (Version::V1_1, &["line", "na:me", "kept"]),
        (Version::V1_2, &["line", "return", "na:me", "kept"]),
    ] {
        let mut peer = Peer::new(to);
        let received = peer.receive(&message);
        for name in ["line", "return", "na:me", "kept"] {
            let found = received.headers.first(name);
            assert_eq!(found.is_some(), kept.contains(&name), "{name} to {to:?}");
            assert!(found.is_none_or(|value| Some(value) == frame.headers.first(name)));
        }
        let omitted = peer.config.counters.headers_omitted();
        assert_eq!(omitted, 4 - kept.len() as u64, "to {to:?}");
    }
}

#[test]
fn a_long_body_crosses() {
    let body = vec![7; 200_000];
    let message = Peer::new(Version::V1_2).publish(&send().with_body(body.clone()));
    assert_eq!(message.body, body);
    let received = Peer::new(Version::V1_1).receive(&message);
    assert_eq!(received.body, body);
}
