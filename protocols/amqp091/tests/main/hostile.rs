//! What a peer tries that wants to cost much: lengths that lie, tables without a bottom, floods of what is remembered.

use amqp091::{
    AmqpSession, Config,
    codec::{self, Frame},
};
use bytes::{Buf as _, BufMut as _, BytesMut};
use message::{Timestamp, VhostId};
use session::{Close, Command, Event, Output, Session as _};

use crate::{script, show};

const NOW: Timestamp = Timestamp(1_000_000);

/// A session and what it has said.
struct Peer {
    session: AmqpSession,
    out: Output,
    closed: Option<Close>,
}

impl Peer {
    fn stranger(config: Config) -> Self {
        Self {
            session: AmqpSession::new(config),
            out: Output::default(),
            closed: None,
        }
    }

    /// Logged in, with channel 1 open.
    fn known(config: Config) -> Self {
        let mut peer = Self::stranger(config);
        peer.say("header");
        peer.say("0 connection.start-ok mechanism=PLAIN response=\\0guest\\0guest");
        let asked = peer.commands();
        let [Command::Authenticate(ask)] = &asked[..] else {
            panic!("asks who it is: {asked:?}");
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
        peer.say("0 connection.tune-ok frame_max=131072 channel_max=2047");
        peer.say("0 connection.open vhost=/");
        peer.say("1 channel.open");
        assert!(peer.heard().last().expect("answers").contains("open-ok"));
        peer
    }

    fn say(&mut self, line: &str) {
        self.send(&mut script::bytes(line));
    }

    fn send(&mut self, input: &mut BytesMut) {
        if self.closed.is_none() {
            self.closed = self.session.handle_bytes(input, NOW, &mut self.out).err();
        }
    }

    fn commands(&mut self) -> Vec<Command> {
        self.out.commands.drain(..).collect()
    }

    /// The frames that came since the last time, as text.
    fn heard(&mut self) -> Vec<String> {
        let mut wire = BytesMut::from(&self.out.wire.copy_to_bytes(self.out.wire.remaining())[..]);
        if wire.starts_with(&codec::PROTOCOL_HEADER) {
            wire.advance(8);
        }
        let mut frames = Vec::new();
        while let Some(frame) = codec::decode(&mut wire, 0).expect("our own frames are right") {
            frames.push(show::frame(&frame));
        }
        frames
    }
}

/// A method frame on channel 1 with these bytes as its payload.
fn method(payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_slice(&[1, 0, 1]);
    frame.put_u32(u32::try_from(payload.len()).expect("short"));
    frame.put_slice(payload);
    frame.put_u8(codec::FRAME_END);
    frame
}

/// `queue.declare` of `q` with a table whose length and content are given.
fn declare(table_len: u32, table: &[u8]) -> BytesMut {
    let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
    payload.extend_from_slice(&table_len.to_be_bytes());
    payload.extend_from_slice(table);
    method(&payload)
}

/// Tables, or arrays, so deep in one another.
fn nested(depth: usize, letter: u8) -> Vec<u8> {
    let mut inner = vec![];
    for _ in 0..depth {
        let mut outer = if letter == b'F' {
            vec![1, b'k']
        } else {
            vec![]
        };
        outer.push(letter);
        outer.extend_from_slice(&u32::try_from(inner.len()).expect("short").to_be_bytes());
        outer.extend_from_slice(&inner);
        inner = outer;
    }
    match letter {
        b'F' => inner,
        _ => [&[1, b'k'][..], &inner].concat(),
    }
}

#[test]
fn lengths_that_lie_are_a_syntax_or_frame_error_and_the_end() {
    let long = |len: u32| [&[1, b'k', b'S'][..], &len.to_be_bytes(), b"short"].concat();
    let table = |bytes: &[u8]| declare(u32::try_from(bytes.len()).expect("short"), bytes);
    for (what, mut bytes) in [
        ("a table beyond its frame", declare(u32::MAX, &[])),
        ("a table one byte beyond its frame", declare(2, &[0])),
        ("a long string beyond its table", table(&long(u32::MAX))),
        ("a long string one byte beyond its table", table(&long(6))),
        ("a name beyond its table", table(&[255, b'k'])),
        (
            "an array beyond its table",
            table(&[1, b'k', b'A', 0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "a table beyond the one around it",
            table(&[1, b'k', b'F', 0, 0, 0, 1]),
        ),
        ("a value without a letter", table(&[1, b'k'])),
        ("a letter that nobody knows", table(&[1, b'k', b'?'])),
        ("half a number", table(&[1, b'k', b'l', 0, 0, 0])),
        ("no method", method(&[0, 50])),
        ("33 tables in one another", table(&nested(33, b'F'))),
        ("33 arrays in one another", table(&nested(33, b'A'))),
        ("10,000 tables in one another", table(&nested(10_000, b'F'))),
        (
            "a frame longer than agreed",
            BytesMut::from(&[1, 0, 1, 0xff, 0xff, 0xff, 0xff][..]),
        ),
    ] {
        let mut peer = Peer::known(Config::default());
        peer.send(&mut bytes);
        let heard = peer.heard();
        let told = heard
            .last()
            .unwrap_or_else(|| panic!("{what}: told nothing"));
        let code = ["reply_code: 501", "reply_code: 502"];
        assert!(
            told.starts_with("0 connection.close") && code.iter().any(|code| told.contains(code)),
            "{what}: {told}"
        );
        assert!(peer.commands().is_empty(), "{what}");
        assert!(bytes.is_empty(), "{what}: nothing is kept");
    }
    // What is just allowed.
    let mut peer = Peer::known(Config::default());
    peer.send(&mut table(&nested(31, b'F')));
    assert!(matches!(peer.commands()[..], [Command::Declare { .. }]));
}

#[test]
fn a_stranger_s_frame_is_short() {
    let mut peer = Peer::stranger(Config::default());
    peer.say("header");
    peer.heard();
    let mut bytes = BytesMut::from(&[1, 0, 0, 0, 0, 0x10, 0][..]);
    peer.send(&mut bytes);
    assert!(peer.closed.as_ref().is_some_and(|close| close.fault));
    assert!(
        peer.heard().is_empty(),
        "before it is known nothing is said"
    );
}

#[test]
fn transactions_of_all_channels_share_one_account() {
    let config = Config {
        transaction_len_max: 10_000,
        ..Config::default()
    };
    let mut peer = Peer::known(config);
    let mut staged = 0;
    let mut channel = 1;
    while staged < 100 {
        if channel > 1 {
            peer.say(&format!("{channel} channel.open"));
        }
        peer.say(&format!("{channel} tx.select"));
        peer.say(&format!("{channel} basic.publish key=q"));
        peer.say(&format!("{channel} header 1"));
        peer.say(&format!("{channel} body x"));
        if peer.heard().iter().any(|it| it.contains("channel.close")) {
            break;
        }
        staged += 1;
        channel += 1;
    }
    assert_eq!(
        staged, 19,
        "each counts 512 bytes, its two flag bytes and its body"
    );
    // What is rolled back, committed or closed is free again.
    peer.say("1 tx.rollback");
    peer.say("2 channel.close");
    peer.say("3 tx.commit");
    let commands = peer.commands();
    let token = commands
        .iter()
        .find_map(|command| match command {
            Command::Transact(transact) => Some(transact.token),
            _ => None,
        })
        .expect("a commit");
    let returned = vec![];
    let told = peer
        .session
        .handle_event(Event::Committed { token, returned }, NOW, &mut peer.out);
    assert_eq!(told, Ok(()));
    for number in [1, 3, 4] {
        peer.heard();
        peer.say(&format!("{number} basic.publish key=q"));
        peer.say(&format!("{number} header 1"));
        peer.say(&format!("{number} body x"));
        assert_eq!(peer.heard(), Vec::<String>::new(), "channel {number}");
    }
}

#[test]
fn frames_that_wait_count_for_what_they_take() {
    let config = Config::default();
    let room = config.deferred_len_max / size_of::<Frame>();
    let mut peer = Peer::known(config);
    peer.say("1 queue.declare queue=q");
    let mut sent = 0;
    while peer.session.wants_bytes() {
        peer.say("1 basic.ack tag=1");
        sent += 1;
        assert!(sent <= room, "more than {room} frames are kept");
    }
}

#[test]
fn a_body_is_no_longer_than_its_header_says() {
    let mut peer = Peer::known(Config::default());
    peer.say("1 basic.publish key=q");
    peer.say("1 header 5");
    peer.say("1 body toolong");
    let heard = peer.heard();
    let told = heard.last().expect("an answer");
    assert!(
        told.contains("connection.close") && told.contains("reply_code: 50"),
        "{told}"
    );
    // A header that promises more than a message may have ends the channel before a byte of it has come.
    let mut peer = Peer::known(Config::default());
    peer.say("1 basic.publish key=q");
    peer.say("1 header 18446744073709551615");
    let heard = peer.heard();
    let told = heard.last().expect("an answer");
    assert!(
        told.contains("1 channel.close reply_code: 406") || told.contains("311"),
        "{told}"
    );
}
