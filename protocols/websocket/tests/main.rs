//! WebSocket sessions against tungstenite's client role, over memory. The inner session is a toy: each of its frames is
//! a length byte and as many bytes, and it sends every frame back.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use message::Timestamp;
use proptest::prelude::*;
use session::{Close, CloseReason, Event, Output, Refusal, RefusalKind, Session, Token};
use tokio_tungstenite::tungstenite::{
    self, Message,
    protocol::{
        CloseFrame, Role,
        frame::{
            Frame,
            coding::{CloseCode, Data, OpCode},
        },
    },
};
use websocket::{Config, Kind, Protocol, Sniff, WebSocket};

const NOW: Timestamp = Timestamp(1_000_000);

/// Sends every frame back. `q` ends it in order, `!` is a fault, `w` waits for an event, `u` yields bytes without a frame mark.
#[derive(Debug, Default)]
struct Echo {
    waits: bool,
    hangups: usize,
}

impl Session for Echo {
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        _now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        while !self.waits {
            let Some(len) = input.first().map(|len| *len as usize) else {
                break;
            };
            if input.len() <= len {
                break;
            }
            let frame = input.split_to(len + 1).freeze();
            match &frame[1..] {
                b"q" => return Err(Close::done("bye")),
                b"!" => return Err(Close::fault("wrong")),
                b"w" => self.waits = true,
                b"u" => out.wire.put(b"unmarked"),
                body => {
                    out.wire.put_body(&frame.slice_ref(body));
                    out.wire.end_frame();
                }
            }
        }
        Ok(())
    }

    fn handle_event(
        &mut self,
        event: Event,
        _now: Timestamp,
        _out: &mut Output,
    ) -> Result<(), Close> {
        self.waits = false;
        match event {
            Event::Closing { .. } => Err(Close::done("closing")),
            Event::Refused { .. } => Err(Close::done("refused")),
            _ => Ok(()),
        }
    }

    fn handle_timeout(&mut self, _now: Timestamp, _out: &mut Output) -> Result<(), Close> {
        Err(Close::fault("too late"))
    }

    fn handle_hangup(&mut self, _now: Timestamp, _out: &mut Output) {
        self.hangups += 1;
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        Some(NOW)
    }

    fn wants_bytes(&self) -> bool {
        !self.waits
    }
}

/// The client's end of the pipe.
#[derive(Default)]
struct Pipe {
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = buffer.len().min(self.incoming.len());
        self.incoming.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

impl Write for Pipe {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pair<S> {
    client: tungstenite::WebSocket<Pipe>,
    server: WebSocket<S>,
    closed: Option<Close>,
    chunk: usize,
}

impl<S: Session> Pair<S> {
    fn new(inner: S, kind: Kind) -> Self {
        Self::with(inner, kind, Config::default())
    }

    fn with(inner: S, kind: Kind, config: Config) -> Self {
        Self {
            client: tungstenite::WebSocket::from_raw_socket(Pipe::default(), Role::Client, None),
            server: WebSocket::new(inner, kind, config),
            closed: None,
            chunk: usize::MAX,
        }
    }

    /// Sends, lets the server work, and returns what came back.
    fn send(&mut self, messages: impl IntoIterator<Item = Message>) -> Vec<Message> {
        for message in messages {
            self.client.write(message).expect("the client may write");
        }
        self.client.flush().expect("memory takes everything");
        self.raw()
    }

    /// Hands over what the client has written, in chunks.
    fn raw(&mut self) -> Vec<Message> {
        let mut bytes = std::mem::take(&mut self.client.get_mut().outgoing);
        let mut out = Output::default();
        let mut input = BytesMut::new();
        while !bytes.is_empty() && self.closed.is_none() {
            input.extend_from_slice(&bytes.split_to(self.chunk.min(bytes.len())));
            self.closed = self.server.handle_bytes(&mut input, NOW, &mut out).err();
        }
        self.receive(out)
    }

    fn event(&mut self, event: Event) -> Vec<Message> {
        let mut out = Output::default();
        self.closed = self.server.handle_event(event, NOW, &mut out).err();
        self.receive(out)
    }

    fn receive(&mut self, mut out: Output) -> Vec<Message> {
        let bytes = out.wire.copy_to_bytes(out.wire.remaining());
        self.client.get_mut().incoming.extend_from_slice(&bytes);
        let mut messages = Vec::new();
        while let Ok(message) = self.client.read() {
            messages.push(message);
        }
        messages
    }
}

fn frame(body: &[u8]) -> Bytes {
    let len = u8::try_from(body.len()).expect("short");
    Bytes::from([&[len], body].concat())
}

fn binary(bytes: impl Into<Bytes>) -> Message {
    Message::Binary(bytes.into())
}

fn text(frame: &Bytes) -> Message {
    let text = std::str::from_utf8(frame).expect("UTF-8");
    Message::text(text)
}

fn code(messages: &[Message]) -> u16 {
    match messages.last() {
        Some(Message::Close(Some(close))) => close.code.into(),
        other => panic!("no close but {other:?}"),
    }
}

#[test]
fn each_inner_frame_is_a_message() {
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    let both = [frame(b"one"), frame(b"two")].concat();
    assert_eq!(pair.send([binary(both)]), [binary("one"), binary("two")]);
}

/// [MQTT-6.0.0-2], [MQTT3-6.0.0-2].
#[test]
fn messages_and_fragments_are_one_stream() {
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    let parts = [
        Frame::message(&b"\x03o"[..], OpCode::Data(Data::Binary), false),
        Frame::message(&b"n"[..], OpCode::Data(Data::Continue), false),
        Frame::message(&b"e\x03"[..], OpCode::Data(Data::Continue), true),
        Frame::message(&b"two"[..], OpCode::Data(Data::Binary), true),
    ];
    let sent = pair.send(parts.map(Message::Frame));
    assert_eq!(sent, [binary("one"), binary("two")]);
}

#[test]
fn long_frames_have_long_lengths() {
    #[derive(Debug)]
    struct Long(usize);
    impl Session for Long {
        fn handle_bytes(
            &mut self,
            input: &mut BytesMut,
            _now: Timestamp,
            out: &mut Output,
        ) -> Result<(), Close> {
            input.clear();
            out.wire.put_body(&Bytes::from(vec![7; self.0]));
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
    for len in [1, 125, 126, 65_535, 65_536, 200_000] {
        let mut pair = Pair::new(Long(len), Kind::Binary);
        assert_eq!(pair.send([binary("x")]), [binary(vec![7; len])]);
    }
}

/// [MQTT-6.0.0-1], [MQTT3-6.0.0-1].
#[test]
fn doors_e28_text_is_refused_where_only_binary_is_spoken() {
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    assert_eq!(code(&pair.send([text(&frame(b"one"))])), 1003);
    assert!(pair.closed.expect("closed").fault);
}

#[test]
fn doors_e28_text_if_the_bytes_are_utf8_and_both_are_read() {
    let mut pair = Pair::new(Echo::default(), Kind::TextIfUtf8);
    let sent = pair.send([
        text(&frame(b"one")),
        binary(frame(b"two")),
        binary(frame(b"\xff")),
    ]);
    assert_eq!(
        sent,
        [
            Message::text("one"),
            Message::text("two"),
            binary(&b"\xff"[..])
        ]
    );
}

#[test]
fn doors_e28_without_a_subprotocol_the_answer_is_of_the_peers_kind() {
    let mut pair = Pair::new(Echo::default(), Kind::AsPeer);
    assert_eq!(pair.send([binary(frame(b"one"))]), [binary("one")]);
    assert_eq!(pair.send([text(&frame(b"two"))]), [Message::text("two")]);
}

#[test]
fn doors_e28_the_first_bytes_tell_the_protocol() {
    for (first, expected) in [
        (&b"\x10\x0c"[..], Some(Protocol::Mqtt)),
        (b"AMQP\0\0\x09\x01", Some(Protocol::Amqp)),
        (b"CONNECT\n", Some(Protocol::Stomp)),
        (b"STOMP\n", Some(Protocol::Stomp)),
        (b"\nCONNECT\n", Some(Protocol::Stomp)),
        (b"AMQ", None),
    ] {
        let seen = std::cell::Cell::new(None);
        let sniff = Sniff::new(
            |protocol| {
                seen.set(Some(protocol));
                Echo::default()
            },
            10_000,
        );
        let mut pair = Pair::new(sniff, Kind::AsPeer);
        pair.chunk = 1;
        pair.send([binary(first)]);
        assert_eq!(seen.get(), expected, "{first:?}");
        assert!(pair.closed.is_none());
    }
    for first in [&b"GET / HTTP/1.1"[..], b"AMQQ", b"\x20"] {
        let sniff = Sniff::new(|_| Echo::default(), 10_000);
        let mut pair = Pair::new(sniff, Kind::AsPeer);
        assert_eq!(code(&pair.send([binary(first)])), 1002);
    }
}

#[test]
fn who_says_nothing_is_closed_in_time() {
    let mut sniff = Sniff::new(|_| Echo::default(), 10_000);
    let mut out = Output::default();
    assert!(sniff.poll_timeout() <= Some(NOW));
    assert_eq!(sniff.handle_timeout(NOW, &mut out), Ok(()));
    let deadline = sniff.poll_timeout().expect("a deadline");
    assert_eq!(deadline, NOW.plus_ms(10_000));
    assert!(sniff.handle_timeout(deadline, &mut out).is_err());
}

#[test]
fn pings_are_answered_in_their_place() {
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    let ping = Message::Ping(Bytes::from_static(b"?"));
    assert_eq!(
        pair.send([ping, binary(frame(b"one"))]),
        [Message::Pong(Bytes::from_static(b"?")), binary("one")]
    );
}

#[test]
fn the_inner_end_is_a_close() {
    for (last, expected) in [(&b"q"[..], 1000), (b"!", 1002)] {
        let mut pair = Pair::new(Echo::default(), Kind::Binary);
        let sent = pair.send([binary(frame(b"one")), binary(frame(last))]);
        assert_eq!(sent[0], binary("one"));
        assert_eq!(code(&sent), expected);
        assert_eq!(pair.closed.expect("closed").fault, expected == 1002);
        assert!(!pair.server.wants_bytes());
    }
}

#[test]
fn a_shutdown_is_going_away() {
    for (reason, expected) in [
        (CloseReason::Shutdown, 1001),
        (CloseReason::NotActive(None), 1012),
        (CloseReason::TakenOver, 1000),
    ] {
        let mut pair = Pair::new(Echo::default(), Kind::Binary);
        assert_eq!(code(&pair.event(Event::Closing { reason })), expected);
    }
}

#[test]
fn who_comes_to_a_node_that_is_not_active_is_sent_to_another_address() {
    for (kind, expected) in [
        (RefusalKind::NotActive, 1013),
        (RefusalKind::BadCredentials, 1000),
    ] {
        let mut pair = Pair::new(Echo::default(), Kind::Binary);
        let refused = Event::Refused {
            token: Token(0),
            refusal: Refusal::new(kind, "no"),
        };
        assert_eq!(code(&pair.event(refused)), expected);
    }
}

#[test]
fn the_peers_close_is_answered_once_and_what_came_before_counts() {
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "bye".into(),
    };
    let sent = pair.send([binary(frame(b"one")), Message::Close(Some(close))]);
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(sent.contains(&binary("one")));
    assert_eq!(code(&sent), 1000);
    assert!(!pair.closed.expect("closed").fault);
}

#[test]
fn too_long_is_told_before_it_has_come() {
    let config = Config {
        login_len_max: 1 << 20,
        message_len_max: 100,
        frame_len_max: 60,
    };
    let mut pair = Pair::with(Echo::default(), Kind::Binary, config);
    let start = Frame::message(vec![0; 61], OpCode::Data(Data::Binary), true);
    pair.chunk = 8;
    assert_eq!(code(&pair.send([Message::Frame(start)])), 1009);
    let mut pair = Pair::with(Echo::default(), Kind::Binary, config);
    let parts = [
        Frame::message(vec![1; 60], OpCode::Data(Data::Binary), false),
        Frame::message(vec![1; 41], OpCode::Data(Data::Continue), false),
    ];
    assert_eq!(code(&pair.send(parts.map(Message::Frame))), 1009);
}

#[test]
fn a_stranger_sends_no_long_messages() {
    let long = || vec![0; 1024 * 1024 + 1];
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    assert_eq!(code(&pair.send([binary(long())])), 1009);
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    pair.event(Event::Authenticated {
        token: Token(0),
        vhost: message::VhostId::ROOT,
        vhost_name: "/".into(),
        user: "guest".into(),
        secret: session::Secret([0; 32]),
    });
    pair.send([binary(long())]);
    assert_eq!(pair.closed, None);
}

#[test]
fn a_stranger_s_limit_ends_with_its_login() {
    let config = Config {
        message_len_max: 100,
        frame_len_max: 100,
        login_len_max: 50,
    };
    let sent = |len: usize, known: bool| {
        let mut pair = Pair::with(Echo::default(), Kind::Binary, config);
        if known {
            pair.event(Event::Authenticated {
                token: Token(0),
                vhost: message::VhostId::ROOT,
                vhost_name: "/".into(),
                user: "guest".into(),
                secret: session::Secret([0; 32]),
            });
        }
        pair.send([binary(vec![0; len])]);
        pair.closed.is_none()
    };
    assert_eq!([sent(50, false), sent(51, false)], [true, false]);
    assert_eq!([sent(100, true), sent(101, true)], [true, false]);
}

#[test]
fn a_flood_of_pings_yields_no_more_than_it_was() {
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    let mut flood = BytesMut::new();
    for _ in 0..2_000 {
        flood.extend_from_slice(&[0x89, 0xfd, 0, 0, 0, 0]);
        flood.extend_from_slice(&[7; 125]);
    }
    let len = flood.len();
    let mut out = Output::default();
    let step = pair.server.handle_bytes(&mut flood, NOW, &mut out);
    assert_eq!(step, Ok(()));
    assert!(out.wire.remaining() <= len, "{}", out.wire.remaining());
    assert!(
        out.wire.has_remaining(),
        "the last one is answered at least"
    );
    assert!(out.commands.is_empty());
}

#[test]
fn a_message_of_a_thousand_pieces_is_one_message() {
    let config = Config {
        message_len_max: 1_001,
        frame_len_max: 10,
        login_len_max: 1 << 20,
    };
    let pieces = |count: usize| {
        let mut frames = vec![Frame::message(vec![200], OpCode::Data(Data::Binary), false)];
        for number in 1..count {
            let last = number == count - 1;
            let part = Frame::message(vec![1], OpCode::Data(Data::Continue), last);
            frames.push(part);
            // Empty ones, and pings between them, count for nothing.
            if !last {
                frames.push(Frame::message(vec![], OpCode::Data(Data::Continue), false));
                frames.push(Frame::ping(vec![1]));
            }
        }
        frames.into_iter().map(Message::Frame)
    };
    let mut pair = Pair::with(Echo::default(), Kind::Binary, config);
    let sent = pair.send(pieces(1_001));
    assert_eq!(pair.closed, None);
    assert_eq!(
        sent.iter().filter(|it| it.is_binary()).count(),
        401,
        "200 ones in one, then by twos"
    );
    let mut pair = Pair::with(Echo::default(), Kind::Binary, config);
    assert_eq!(code(&pair.send(pieces(1_002))), 1009);
}

#[test]
fn rfc_6455_violations_are_1002_or_1007() {
    for (bytes, expected) in [
        (&b"\x82\x01x"[..], 1002),
        (b"\xc2\x80\0\0\0\0", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x80\x80\0\0\0\0", 1002),
        (b"\x09\x80\0\0\0\0", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
    ] {
        let mut pair = Pair::new(Echo::default(), Kind::TextIfUtf8);
        pair.client.get_mut().outgoing.extend_from_slice(bytes);
        assert_eq!(code(&pair.raw()), expected, "{bytes:x?}");
    }
}

#[test]
fn what_came_while_the_inner_session_waited_is_read_after_the_event() {
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    let sent = pair.send([binary(frame(b"w")), binary(frame(b"one"))]);
    assert_eq!((sent, pair.server.wants_bytes()), (vec![], false));
    let event = Event::Blocked {
        blocked: false,
        reason: "",
    };
    assert_eq!(pair.event(event), [binary("one")]);
    assert!(pair.server.wants_bytes());
}

#[test]
fn bytes_without_a_frame_mark_are_sent_all_the_same() {
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    assert_eq!(pair.send([binary(frame(b"u"))]), [binary("unmarked")]);
}

#[test]
fn a_timeout_of_the_inner_session_closes() {
    let mut pair = Pair::new(Echo::default(), Kind::Binary);
    assert_eq!(pair.server.poll_timeout(), Some(NOW));
    let mut out = Output::default();
    assert!(pair.server.handle_timeout(NOW, &mut out).is_err());
    assert_eq!(code(&pair.receive(out)), 1002);
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 2..200), 1..8),
        cut in 1usize..40,
        chunk in 1usize..50,
    ) {
        let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        let mut pair = Pair::new(Echo::default(), Kind::Binary);
        pair.chunk = chunk;
        let sent = pair.send(stream.chunks(cut).map(|part| binary(part.to_vec())));
        let expected: Vec<Message> = bodies.into_iter().map(binary).collect();
        prop_assert_eq!(sent, expected);
    }
}
