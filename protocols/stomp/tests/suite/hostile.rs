//! What a peer tries that wants to cost much: lengths that lie, heads without an end, floods.

use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use message::{Timestamp, VhostId};
use session::{Close, Command, Event, Output, Session as _};
use stomp::{Config, StompSession};

const NOW: Timestamp = Timestamp(1_000_000);

struct Peer {
    session: StompSession,
    input: BytesMut,
    out: Output,
    closed: Option<Close>,
}

impl Peer {
    fn stranger(config: Config) -> Self {
        Self {
            session: StompSession::new(Arc::new(config)),
            input: BytesMut::new(),
            out: Output::default(),
            closed: None,
        }
    }

    fn known(config: Config) -> Self {
        let mut peer = Self::stranger(config);
        peer.say(b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0");
        let Some(Command::Authenticate(ask)) = peer.out.commands.pop_front() else {
            panic!("asks who it is");
        };
        let event = Event::Authenticated {
            token: ask.token,
            vhost: VhostId::ROOT,
            vhost_name: "/".into(),
            user: "guest".into(),
            secret: session::Secret([0; 32]),
        };
        let told = peer.session.handle_event(event, NOW, &mut peer.out);
        assert_eq!(told, Ok(()));
        assert!(peer.heard().starts_with("CONNECTED"));
        peer
    }

    /// Says it unless the session has ended. True while it has not.
    fn say(&mut self, bytes: &[u8]) -> bool {
        if self.closed.is_none() {
            self.input.extend_from_slice(bytes);
            let step = self
                .session
                .handle_bytes(&mut self.input, NOW, &mut self.out);
            self.closed = step.err();
        }
        self.closed.is_none()
    }

    fn heard(&mut self) -> String {
        let wire = self.out.wire.copy_to_bytes(self.out.wire.remaining());
        String::from_utf8_lossy(&wire).into_owned()
    }

    /// How many pieces are taken before the end.
    fn endure(&mut self, first: &[u8], piece: &[u8], pieces_max: usize) -> usize {
        self.say(first);
        (0..pieces_max)
            .find(|_| !self.say(piece))
            .unwrap_or(pieces_max)
    }
}

#[test]
fn a_content_length_is_a_number_that_a_body_can_have() {
    for (value, message) in [
        ("-1", "content-length"),
        ("+1", "content-length"),
        ("0x10", "content-length"),
        ("1e3", "content-length"),
        ("", "content-length"),
        ("99999999999999999999999999", "a body is larger than 1000"),
        ("18446744073709551615", "a body is larger than 1000"),
        ("1001", "a body is larger than 1000"),
    ] {
        let mut peer = Peer::known(Config {
            body_len_max: 1000,
            ..Config::default()
        });
        let head = format!("SEND\ndestination:/queue/a\ncontent-length:{value}\n\n");
        assert!(!peer.say(head.as_bytes()), "{value}: waits for such a body");
        let heard = peer.heard();
        assert!(
            heard.starts_with("ERROR") && heard.contains(message),
            "{value}: {heard}"
        );
        assert!(peer.out.commands.is_empty(), "{value}");
    }
    let mut peer = Peer::known(Config {
        body_len_max: 1000,
        ..Config::default()
    });
    let frame = format!(
        "SEND\ndestination:/queue/a\ncontent-length:1000\n\n{}\0",
        "x".repeat(1000)
    );
    assert!(peer.say(frame.as_bytes()));
    assert_eq!(peer.out.commands.len(), 1);
}

#[test]
fn a_head_without_an_end_is_cut_at_its_limit() {
    let line = "x".repeat(999) + "\n";
    let header = "x:".to_owned() + &line;
    // (login, first words, then again and again, the most bytes that are taken)
    for (known, first, piece, taken_max) in [
        (false, "CONNECT\nlogin:", "xxxx", 16 << 10),
        (false, "CONNECT\n", "a:b\n", 101 * 4),
        (false, "CONNECT\n", &*header, 17 << 10),
        (false, "", "x", 100),
        (false, "CONNECT\n\n", "x", 1),
        (true, "SEND\nx:", "xxxx", (64 << 10) + 4),
        (true, "SEND\n", "a:b\n", 1_001 * 4),
        (true, "SEND\n", &*header, 257 << 10),
        (true, "", "x", 100),
        (
            true,
            "SUBSCRIBE\ndestination:/queue/a\nid:1\n\n",
            "x",
            1_001,
        ),
    ] {
        let config = Config {
            body_len_max: 1000,
            ..Config::default()
        };
        let mut peer = if known {
            Peer::known(config)
        } else {
            Peer::stranger(config)
        };
        let pieces = peer.endure(first.as_bytes(), piece.as_bytes(), 1 << 20);
        let taken = pieces * piece.len();
        assert!(taken <= taken_max, "{first:?}: {taken} bytes are taken");
        assert!(peer.heard().starts_with("ERROR"), "{first:?}");
    }
}

#[test]
fn ends_of_line_leave_nothing_behind() {
    let mut peer = Peer::known(Config::default());
    for _ in 0..1_000 {
        assert!(peer.say(&b"\n".repeat(1_000)));
        assert!(peer.say(&b"\r\n".repeat(500)));
    }
    assert!(peer.input.is_empty() && peer.out.commands.is_empty());
    assert_eq!(peer.heard(), "");
}

#[test]
fn what_is_opened_has_a_limit() {
    let config = || Config {
        subscriptions_max: 3,
        transactions_max: 3,
        transaction_operations_max: 5,
        transaction_bytes_max: 10_000,
        ..Config::default()
    };
    // (again and again, how often it is taken)
    let long = format!(
        "SEND\ndestination:/queue/a\ntransaction:t\n\n{}\0",
        "x".repeat(6_000)
    );
    for (before, frame, taken) in [
        ("", "SUBSCRIBE\nid:NUMBER\ndestination:/queue/a\n\n\0", 3),
        ("", "BEGIN\ntransaction:NUMBER\n\n\0", 3),
        (
            "BEGIN\ntransaction:t\n\n\0",
            "SEND\ndestination:/queue/a\ntransaction:t\n\nx\0",
            5,
        ),
        ("BEGIN\ntransaction:t\n\n\0", &long, 1),
    ] {
        let mut peer = Peer::known(config());
        assert!(peer.say(before.as_bytes()), "{before}");
        let count = (0..100)
            .find(|number: &u32| !peer.say(frame.replace("NUMBER", &number.to_string()).as_bytes()))
            .expect("there is a limit");
        assert_eq!(count, taken, "{frame}");
        assert!(peer.heard().contains("ERROR"), "{frame}");
    }
}
