//! A message from one STOMP connection to another, of every pair of versions: its own headers go out as they came.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use message::{Address, Levels, Message, Timestamp, VhostId};
use proptest::prelude::*;
use session::{Command, Event, Output, Session};
use stomp::{
    Config, Dialect, StompSession, Version,
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
        Self::with(version, Config::default())
    }

    fn with(version: Version, config: Config) -> Self {
        let config = Arc::new(config);
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
        Arc::make_mut(&mut delivery).message = Arc::clone(message);
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
            // 1.0 clients pad their headers (STOMP 1.2, "Value Encoding").
            let own = own.map(|(name, value)| match from {
                Version::V1_0 => (name, value.trim()),
                Version::V1_1 | Version::V1_2 => (name, value),
            });
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
                ("reply-to", "/queue/answers"),
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
fn doors_a2_the_dialect_of_rabbitmq_counts_names_that_do_not_come_back() {
    for (dialect, shown, count) in [
        (Dialect::Both, "/topic/a%2Eb.c", 0),
        (Dialect::RabbitMq, "/topic/a.b.c", 1),
    ] {
        let key = Levels::collect(["a.b", "c"]).expect("short");
        let topic = Address::topic(VhostId::ROOT, key);
        let config = Config {
            dialect,
            ..Config::default()
        };
        let mut peer = Peer::with(Version::V1_2, config);
        let received = peer.receive(&Arc::new(Message::new(topic, "x".into())));
        assert_eq!(received.headers.text("destination"), Some(shown));
        assert_eq!(peer.config.counters.names_ambiguous(), count);
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

fn rough() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b":".to_vec()),
        Just(b"\\".to_vec()),
        Just(b"\0".to_vec()),
        Just(b"\xff".to_vec()),
        Just(b"ack".to_vec()),
        Just(b"x-property-".to_vec()),
        "[a-z]".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

fn typed(value: Vec<u8>) -> message::Value {
    match String::from_utf8(value) {
        Ok(text) => message::Value::text(text),
        Err(bytes) => message::Value::Bytes(bytes.into_bytes().into()),
    }
}

proptest! {
    /// Whatever another protocol's names and values hold, none of it becomes a header of ours or a part of the body.
    #[test]
    fn nothing_of_a_message_is_taken_for_something_else(
        properties in proptest::collection::vec((rough(), rough()), 0..6),
        content_type in rough(),
        levels in proptest::collection::vec(rough(), 1..4),
        body in rough(),
    ) {
        let topic = Address::topic(VhostId::ROOT, Levels::collect(&levels).expect("short"));
        let mut message = Message::new(topic, body.clone().into());
        message.fields_mut().content_type = Some(content_type.clone().into());
        let properties: Vec<(Vec<u8>, message::Value)> = properties
            .into_iter()
            .map(|(name, value)| (name, typed(value)))
            .collect();
        for (name, value) in &properties {
            message.properties.push(name.clone(), value.clone());
        }
        let message = Arc::new(message);
        for version in VERSIONS {
            // The subscription is to a queue, so a topic that cannot be written is shown by its name.
            let received = Peer::new(version).receive(&message);
            prop_assert_eq!(&received.body, &body);
            let mut headers = received.headers.0.iter();
            for name in ["destination", "message-id", "subscription", "content-length"] {
                prop_assert_eq!(&headers.next().expect("ours").0, name);
            }
            for (name, value) in headers {
                if name == "content-type" {
                    prop_assert_eq!(value, &content_type);
                    continue;
                }
                let theirs = properties.iter().any(|(n, v)| {
                    let text = v.to_plain_text().unwrap_or_else(|| v.to_json());
                    value == text.as_bytes()
                        && (name == n || name[..] == [b"x-property-", &n[..]].concat())
                });
                prop_assert!(theirs || name == message::JSON_NAMES, "{:?}: {:?}", name, value);
            }
        }
    }

    /// A property of any name comes back from STOMP under the same name.
    #[test]
    fn doors_d25_names_come_back(name in "(ack|type|x-property-){0,2}[a-z\n:]{0,3}") {
        prop_assume!(!name.is_empty());
        let mut message = Message::new(Address::queue(VhostId::ROOT, "a"), "x".into());
        message.properties.push(name.clone(), message::Value::text("value"));
        let received = Peer::new(Version::V1_2).receive(&Arc::new(message));
        let mut frame = send();
        frame.headers.0.extend(received.headers.0.into_iter().skip(4));
        let back = Peer::new(Version::V1_2).publish(&frame);
        prop_assert_eq!(back.properties.first(name.as_bytes()), Some(&message::Value::text("value")));
    }
}
