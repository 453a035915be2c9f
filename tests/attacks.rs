//! Attacks on a real server: thousands of strangers, slow ones, floods, peers that never read, no descriptors left.
//!
//! What is asserted is counted: bytes of resident memory, connections, answers. How fast the machine is decides only how long
//! a test takes. `cargo xtask hostile` measures what an attack costs the others in time.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use ::mqtt::codec::{Packet, Publish, ReasonCode, Version as MqttVersion};
use bytes::BytesMut;

use crate::{
    client::{Mqtt, Transport, dial, get, pattern},
    server::{LIMIT, Server, until},
};

const DOORS: [&str; 4] = ["mqtt", "amqp", "stomp", "http"];

/// A WebSocket handshake at that path.
fn handshake(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A masked WebSocket frame, with a mask of zeros.
fn web_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// An upgraded connection, byte by byte in our hands, and the head of the answer.
fn web(server: &Server, path: &str, more: &str) -> (TcpStream, String) {
    let mut stream = dial(server.door("http"));
    stream
        .write_all(handshake(path, more).as_bytes())
        .expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head is text");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (stream, head.to_ascii_lowercase())
}

/// Writes it all, unless the server ends the connection before, and reads to the end.
fn say(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// The sum of a metric over its labels.
fn metric(server: &Server, name: &str) -> u64 {
    let (status, text) = get(server.door("http"), "/metrics").expect("metrics are served");
    assert_eq!(status, 200);
    let values = text.lines().filter_map(|line| {
        let (key, value) = line.rsplit_once(' ')?;
        (key.split('{').next() == Some(name)).then(|| value.parse::<f64>().expect("a number"))
    });
    values.sum::<f64>() as u64
}

/// A client in order, to whom none of this may matter.
struct Friend(Mqtt, u32);

impl Friend {
    fn of(server: &Server) -> Self {
        let transport = Transport::tcp(server.door("mqtt"));
        let mut client = Mqtt::clean(transport, MqttVersion::V5, "friend").expect("it is let in");
        assert_eq!(client.subscribe("friend", 1).expect("answered"), 1);
        Self(client, 0)
    }

    /// Publishes and hears itself.
    fn talks(&mut self) {
        self.1 += 1;
        let body = self.1.to_string();
        let code = self.0.publish("friend", body.clone(), 1).expect("answered");
        assert_eq!(code, ReasonCode::SUCCESS);
        assert_eq!(self.0.next().expect("delivered").payload, body);
    }
}

/// Strangers of each door: silent ones, and ones that keep the start of a login of 4 KiB lying.
#[test]
fn two_thousand_strangers_cost_little_and_hold_up_nobody() {
    const STRANGERS: usize = 2_000;
    const EACH_MAX: u64 = 24 << 10;
    let server = Server::start_with(&["limits.login_timeout_ms=600000"]);
    let mut friend = Friend::of(&server);
    let filler = "x".repeat(4_000);
    let start_ok = [&[1, 0, 0, 0, 0, 0x0f, 0xf8][..], filler.as_bytes()].concat();
    let starts: [Vec<u8>; 4] = [
        [
            b"\x10\xff\x3f\x00\x04MQTT\x05\xc2\x00\x00\x00\x0f\xa0",
            filler.as_bytes(),
        ]
        .concat(),
        [b"AMQP\x00\x00\x09\x01", &start_ok[..]].concat(),
        format!("CONNECT\naccept-version:1.2\nlogin:{filler}").into_bytes(),
        [
            handshake("/mqtt", "").as_bytes(),
            &web_frame(0x02, &pattern(4_000))[..3_000],
        ]
        .concat(),
    ];
    friend.talks();
    let before = server.resident();
    let mut strangers = Vec::new();
    for number in 0..STRANGERS {
        let kind = number % DOORS.len();
        let mut stream = dial(server.door(DOORS[kind]));
        if number % 8 >= 4 {
            stream.write_all(&starts[kind]).expect("the server reads");
        }
        strangers.push(stream);
        if number % 100 == 0 {
            friend.talks();
        }
    }
    // Whatever was sent has been read when one who came later has been answered at each door.
    until("all are in", || {
        (metric(&server, "bascule_connections_open") > STRANGERS as u64).then_some(())
    });
    friend.talks();
    let grown = server.resident().saturating_sub(before);
    assert!(
        grown < STRANGERS as u64 * EACH_MAX,
        "{} bytes for each stranger",
        grown / STRANGERS as u64
    );
    drop(strangers);
    until("they are gone", || {
        (metric(&server, "bascule_connections_open") <= 2).then_some(())
    });
    friend.talks();
    server.stop();
}

/// One byte now and then is not enough: the deadline is for the whole login.
#[test]
fn who_does_not_log_in_in_time_is_disconnected() {
    let server = Server::start_with(&["limits.login_timeout_ms=1000"]);
    let login = "CONNECT\naccept-version:1.2\nlogin:".to_owned() + &"x".repeat(10_000);
    let slow = |door: &str, bytes: &[u8]| {
        let mut stream = dial(server.door(door));
        let patience = Some(Duration::from_millis(50));
        stream
            .set_read_timeout(patience)
            .expect("sockets take options");
        let mut bytes = bytes.iter();
        until("the server ends it", || {
            if let Some(byte) = bytes.next() {
                let _ = stream.write_all(&[*byte]);
            }
            match stream.read(&mut [0; 4096]) {
                Ok(0) => Some(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(()),
                // An answer (connection.start), or nothing yet.
                Ok(_) | Err(_) => None,
            }
        });
    };
    for (door, bytes) in [
        (
            "mqtt",
            b"\x10\xff\x3f\x00\x04MQTT\x05\xc2\x00\x00\x00\x0f\xa0".to_vec(),
        ),
        ("mqtt", vec![]),
        (
            "amqp",
            b"AMQP\x00\x00\x09\x01\x01\x00\x00\x00\x00\x0f\xf8".to_vec(),
        ),
        ("amqp", vec![]),
        ("stomp", login.into_bytes()),
        ("stomp", vec![b'\n'; 10_000]),
    ] {
        slow(door, &bytes);
    }
    // And behind an upgrade.
    let (mut stream, _) = web(&server, "/ws", "");
    let answer = say(&mut stream, &web_frame(0x02, b"AM"));
    assert_eq!(answer.first(), Some(&0x88), "a close frame: {answer:x?}");
    let told = server.log();
    assert!(told.contains("its peer is at fault"), "{told}");
    server.stop();
}

/// More than a login may have: told where the protocol has words, and not waited for.
#[test]
fn a_login_without_an_end_is_cut() {
    const GROWTH_MAX: u64 = 32 << 20;
    let server = Server::start();
    let mut friend = Friend::of(&server);
    friend.talks();
    let before = server.resident();
    let many_headers = || {
        let lines: String = (0..10_000).map(|number| format!("h{number}:x\n")).collect();
        format!("CONNECT\n{lines}\n\0").into_bytes()
    };
    let long_header = || [b"CONNECT\nx:", &vec![b'x'; 10 << 20][..]].concat();
    let announced = |len: u64| {
        let mut frame = vec![0x82, 0xff];
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame
    };
    let answered = |door: &str, bytes: Vec<u8>| say(&mut dial(server.door(door)), &bytes);
    let shows = |answer: &[u8], words: &str| {
        let text = String::from_utf8_lossy(answer);
        assert!(text.contains(words), "{words} in {text}");
    };
    for _ in 0..5 {
        shows(&answered("stomp", many_headers()), "ERROR");
        shows(&answered("stomp", long_header()), "ERROR");
        // A CONNECT of 200 MiB: MQTT 5 would have a word, but its version has not come yet.
        assert_eq!(answered("mqtt", b"\x10\x80\x80\x80\x64".to_vec()), b"");
        // AMQP: a start-ok of 16 MiB.
        let start_ok = b"AMQP\x00\x00\x09\x01\x01\x00\x00\x01\x00\x00\x00".to_vec();
        assert_eq!(
            answered("amqp", start_ok).first(),
            Some(&1),
            "connection.start"
        );
        // Heart-beats for ever.
        let heart_beats = b"\x08\x00\x00\x00\x00\x00\x00\xce".repeat(100_000);
        let flood = [&b"AMQP\x00\x00\x09\x01"[..], &heart_beats].concat();
        assert_eq!(
            answered("amqp", flood).first(),
            Some(&1),
            "connection.start"
        );
        assert_eq!(answered("stomp", b"\n".repeat(1 << 20)), b"");
        let head = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
        shows(&answered("http", head.into_bytes()), "431");
        let lines: String = (0..200).map(|number| format!("x{number}: y\r\n")).collect();
        let head = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        shows(&answered("http", head.into_bytes()), "HTTP/1.1 4");
        // RFC 6455, 7.4.1: 1009, told at the length.
        let (mut stream, _) = web(&server, "/mqtt", "");
        assert_eq!(
            say(&mut stream, &announced(1 << 40))[2..4],
            1009_u16.to_be_bytes()
        );
        friend.talks();
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes more");
    server.stop();
}

#[test]
fn websocket_floods_and_tricks_end_in_order() {
    const GROWTH_MAX: u64 = 32 << 20;
    let server = Server::start();
    let mut friend = Friend::of(&server);
    friend.talks();
    let before = server.resident();
    // Compression is not agreed to, so it cannot be used: compressed frames have a bit that means nothing here (RFC 7692, 6).
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (mut stream, head) = web(&server, "/mqtt", offer);
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    let close = |answer: Vec<u8>| {
        let at = answer.len() - usize::from(answer[1]).min(answer.len() - 2) - 2;
        assert_eq!(answer[at], 0x88, "a close frame: {answer:x?}");
        u16::from_be_bytes([answer[at + 2], answer[at + 3]])
    };
    assert_eq!(close(say(&mut stream, &web_frame(0xc2, b"xx"))), 1002);
    // RFC 6455, 5.1: an unmasked frame.
    let (mut stream, _) = web(&server, "/mqtt", "");
    assert_eq!(close(say(&mut stream, b"\x82\x02xx")), 1002);
    // A message of one-byte fragments without an end is cut where a login must have ended.
    let (mut stream, _) = web(&server, "/mqtt", "");
    let mut flood = web_frame(0x02, b"\x10");
    for _ in 0..300_000 {
        flood.extend_from_slice(&web_frame(0x00, b"\xff"));
    }
    say(&mut stream, &flood);
    // Empty fragments, pings: the same.
    for frame in [web_frame(0x00, b""), web_frame(0x89, &[7; 100])] {
        let (mut stream, _) = web(&server, "/mqtt", "");
        let mut flood = web_frame(0x02, b"\x10");
        while flood.len() < 4 << 20 {
            flood.extend_from_slice(&frame);
        }
        say(&mut stream, &flood);
        friend.talks();
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes more");
    // A byte a message is slow, and right.
    let (mut stream, _) = web(&server, "/mqtt", "");
    for byte in b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03abc" {
        stream
            .write_all(&web_frame(0x82, &[*byte]))
            .expect("the server reads");
    }
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, *b"\x82\x04\x20\x02\x00\x00");
    server.stop();
}

/// Sends without reading until the server takes no more, for at most so many bytes; gives how many it took.
fn flood(stream: &mut TcpStream, packet: &[u8], len_max: usize) -> usize {
    let block = packet.repeat((64 << 10) / packet.len());
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("sockets take options");
    let mut sent = 0;
    while sent < len_max {
        // A part of a packet may have been taken: the stream is good for reading only.
        match stream.write(&block[sent % packet.len()..]) {
            Ok(len) => sent += len,
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "{error}"
                );
                break;
            }
        }
    }
    sent
}

fn mqtt_login(address: SocketAddr, client_id: &str) -> TcpStream {
    let mut stream = dial(address);
    let len = 12 + client_id.len() as u8;
    let head = [
        0x10,
        len,
        0,
        4,
        b'M',
        b'Q',
        b'T',
        b'T',
        4,
        2,
        0,
        0,
        0,
        len - 12,
    ];
    stream.write_all(&head).expect("the server reads");
    stream
        .write_all(client_id.as_bytes())
        .expect("the server reads");
    let mut ack = [0; 4];
    stream.read_exact(&mut ack).expect("an answer");
    assert_eq!(ack, [0x20, 2, 0, 0]);
    stream
}

/// A peer that asks and never reads the answers is read no further, and what it did before counts.
#[test]
fn answers_that_nobody_reads_stop_the_questions() {
    const GROWTH_MAX: u64 = 48 << 20;
    let server = Server::start();
    let mut friend = Friend::of(&server);
    friend.talks();
    let before = server.resident();
    let mut publish = BytesMut::new();
    Packet::Publish(Publish {
        dup: false,
        qos: 1,
        retain: false,
        topic: "flood".into(),
        packet_id: Some(7),
        properties: ::mqtt::codec::Properties::default(),
        payload: "x".into(),
    })
    .encode(MqttVersion::V311, &mut publish);
    // Short answers, of which the kernel's buffers alone hold a million: what counts is memory, and that none is missing.
    for (packet, answer) in [
        (&publish[..], &b"\x40\x02\x00\x07"[..]),
        (b"\xc0\x00", b"\xd0\x00"),
    ] {
        let mut stream = mqtt_login(server.door("mqtt"), "flood");
        let sent = flood(&mut stream, packet, 1 << 20);
        friend.talks();
        let answers = sent / packet.len();
        let mut wanted = answers * answer.len();
        let mut part = vec![0; 64 << 10];
        while wanted > 0 {
            let len = part.len().min(wanted);
            stream.read_exact(&mut part[..len]).expect("answers");
            assert!(part[..len].chunks(answer.len()).all(|it| it == answer));
            wanted -= len;
        }
    }
    // Long ones: a receipt of 8 KiB for each frame.
    const LEN_MAX: usize = 256 << 20;
    let receipt = "r".repeat(8 << 10);
    let mut stream = dial(server.door("stomp"));
    stream
        .write_all(b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0")
        .expect("the server reads");
    let mut connected = Vec::new();
    while connected.last() != Some(&0) {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        connected.push(byte[0]);
    }
    let frame = format!("SEND\ndestination:/topic/flood\nreceipt:{receipt}\n\n\0");
    let sent = flood(&mut stream, frame.as_bytes(), LEN_MAX);
    friend.talks();
    assert!(sent < LEN_MAX, "it is read all the same");
    let grown = server.resident().saturating_sub(before);
    assert!(
        grown < GROWTH_MAX,
        "{grown} bytes more after {sent} were sent"
    );
    let wanted = sent / frame.len();
    let (mut receipts, mut part) = (0, vec![0; 64 << 10]);
    while receipts < wanted {
        let len = stream.read(&mut part).expect("receipts");
        assert_ne!(len, 0, "the server ended it after {receipts} of {wanted}");
        receipts += part[..len].iter().filter(|&&byte| byte == 0).count();
    }
    assert_eq!(receipts, wanted);
    server.stop();
}

/// A reader that takes nothing of much that waits for it is not waited for any longer than the limit says.
#[test]
fn a_peer_that_takes_nothing_is_disconnected() -> anyhow::Result<()> {
    let server = Server::start_with(&["limits.stall_timeout_ms=1000"]);
    let mut friend = Friend::of(&server);
    let mut deaf = Mqtt::clean(Transport::tcp(server.door("mqtt")), MqttVersion::V5, "deaf")?;
    deaf.subscribe("large", 1)?;
    until("it is disconnected", || {
        let code = friend
            .0
            .publish("large", pattern(1 << 20), 1)
            .expect("answered");
        let stalled = metric(&server, "bascule_connections_stalled_total");
        // 0x10: nobody is subscribed any more.
        (code != ReasonCode::SUCCESS || stalled > 0).then_some(())
    });
    until("it is counted", || {
        (metric(&server, "bascule_connections_stalled_total") == 1).then_some(())
    });
    assert!(server.log().contains("takes nothing"), "{}", server.log());
    friend.talks();
    server.stop();
    Ok(())
}

/// Without descriptors nobody new comes in, whoever is in is served, and it is over when others have gone.
#[test]
fn a_process_out_of_descriptors_serves_on_and_recovers() {
    // Some twenty are the server's own: fewer connections fit than the half of all that it would take.
    let server = Server::start_with_open_files(32, &[]);
    let mut friend = Friend::of(&server);
    friend.talks();
    let waiting: Vec<TcpStream> = (0..100).map(|_| dial(server.door("stomp"))).collect();
    // Nobody else can ask for the metrics, so the log must tell.
    until("accepts fail", || {
        server.log().contains("failed to accept").then_some(())
    });
    for _ in 0..20 {
        friend.talks();
    }
    drop(waiting);
    until("others are let in again", || {
        let mut stream = TcpStream::connect_timeout(&server.door("http"), LIMIT).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream
            .write_all(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200 ").then_some(())
    });
    assert!(
        metric(&server, "bascule_accept_failures_total") > 0,
        "{}",
        server.log()
    );
    friend.talks();
    server.stop();
}

/// The limits of an address reach from the configuration to the listener.
#[test]
fn an_address_with_too_many_connections_is_turned_away() -> anyhow::Result<()> {
    let server = Server::start_with(&[
        "limits.address_connections_max=3",
        "limits.loopback_limited=true",
    ]);
    let open = |name: &str| {
        let transport = Transport::tcp(server.door("mqtt"));
        Mqtt::clean(transport, MqttVersion::V5, name)
    };
    let (one, two, three) = (open("one")?, open("two")?, open("three")?);
    let mut turned_away = dial(server.door("amqp"));
    assert_eq!(say(&mut turned_away, b""), b"");
    drop((one, two));
    until("there is room again", || open("four").ok());
    assert!(server.log().contains("limits.address_connections_max"));
    drop(three);
    // The page needs a place of its own.
    let served = until("the metrics are served", || {
        get(server.door("http"), "/metrics").ok()
    });
    let (_, page) = served.expect("until gives up by itself");
    let limited =
        |line: &str| line.starts_with("bascule_connections_limited_total") && !line.ends_with(" 0");
    assert!(page.lines().any(limited), "{page}");
    server.stop();
    Ok(())
}

#[test]
fn a_flood_of_retained_messages_ends_at_its_limit() -> anyhow::Result<()> {
    let server = Server::start_with(&["limits.retained_max=3"]);
    let transport = Transport::tcp(server.door("mqtt"));
    let mut client = Mqtt::clean(transport, MqttVersion::V5, "hoarder")?;
    let mut retain =
        |topic: &str, body: &'static str| client.publish_with(topic, body, 1, true, Vec::new());
    let quota = ReasonCode::QUOTA_EXCEEDED;
    for topic in ["a", "b", "c"] {
        assert_ne!(retain(topic, "x")?, quota, "{topic}");
    }
    assert_eq!(retain("d", "x")?, quota);
    // What is there may change, and what is cleared makes room.
    assert_ne!(retain("a", "y")?, quota);
    assert_ne!(retain("b", "")?, quota);
    assert_ne!(retain("d", "x")?, quota);
    server.stop();
    Ok(())
}

#[test]
fn a_client_session_has_so_many_subscriptions() -> anyhow::Result<()> {
    let server = Server::start_with(&["limits.subscriptions_max=3"]);
    let transport = Transport::tcp(server.door("mqtt"));
    let mut client = Mqtt::clean(transport, MqttVersion::V5, "greedy")?;
    for (filter, code) in [("a", 1), ("b/#", 1), ("c/+", 1), ("d", 0x97), ("a", 1)] {
        assert_eq!(client.subscribe(filter, 1)?, code, "{filter}");
    }
    server.stop();
    Ok(())
}
