//! Wrong passwords, garbage, oversized frames, connections that never say a word: told, ended, and no harm to others.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

use ::mqtt::codec::{ReasonCode, Version as MqttVersion};
use ::stomp::{Version as StompVersion, codec::Verb};
use amqp091::codec::{Method, connection};
use bytes::Bytes;

use crate::{
    client::{AmqpFrames, Mqtt, Stomp, Transport, connect, dial},
    server::Server,
};

#[test]
fn a_wrong_password_is_refused_in_each_protocol_s_words() -> anyhow::Result<()> {
    let server = Server::start();
    let tcp = |door: &str| Transport::tcp(server.door(door));
    for (version, code) in [(MqttVersion::V311, 4), (MqttVersion::V5, 0x86)] {
        for user in ["guest", "nobody"] {
            let mut packet = connect(version, "stranger", true);
            packet.user_name = Some(user.into());
            packet.password = Some(Bytes::from_static(b"wrong"));
            let (mut client, ack) = Mqtt::open(tcp("mqtt"), packet)?;
            assert_eq!(ack.code, code, "{version:?}, {user}");
            assert!(client.packet_or_end()?.is_none(), "and the end");
        }
    }
    for user in ["guest", "nobody"] {
        let (mut client, answer) = Stomp::open_as(tcp("stomp"), StompVersion::V1_2, user, "wrong")?;
        assert_eq!(answer.verb, Verb::Error, "{user}");
        assert!(client.frame_or_end()?.is_none(), "and the end");
        let (mut client, answer) = AmqpFrames::login(tcp("amqp"), user, "wrong")?;
        let Method::ConnectionClose(close) = answer else {
            panic!("refused with connection.close, not {answer:?}");
        };
        assert_eq!(close.reply_code, 403, "access-refused");
        client.say(0, connection::CloseOk {})?;
        assert!(client.frame_or_end()?.is_none(), "and the end");
    }
    server.stop();
    Ok(())
}

/// Bytes without meaning, always the same ones (xorshift).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        for _ in 0..len {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.push((self.0 >> 32) as u8);
        }
        bytes
    }
}

/// Says it, ends its side, and reads until the server ends too.
fn say(stream: &mut TcpStream, bytes: &[u8]) {
    // The server may end the connection while we still write: both are as good.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

const DOORS: [&str; 4] = ["mqtt", "amqp", "stomp", "http"];

/// The starts of conversations of each protocol, as bytes that a client may send first.
const OPENINGS: [(&str, &[u8]); 6] = [
    ("mqtt", b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03abc"),
    ("mqtt", b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x03abc"),
    ("amqp", b"AMQP\x00\x00\x09\x01"),
    ("stomp", b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0"),
    ("http", b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
    ("http", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
];

/// Frames that announce more than anything may have.
const TOO_LARGE: [(&str, &[u8]); 6] = [
    ("mqtt", b"\x10\xff\xff\xff\x7f\x00\x04MQTT"),
    ("mqtt", b"\x10\xff\xff\xff\xff\xff"),
    ("amqp", b"AMQP\x00\x00\x09\x01\x01\x00\x00\xff\xff\xff\xff\x00"),
    ("stomp", b"CONNECT\ncontent-length:99999999999\n\n"),
    ("stomp", b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0SEND\ndestination:/queue/x\ncontent-length:99999999999\n\n"),
    ("http", b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"),
];

const GROWTH_MAX: u64 = 48 << 20;

#[test]
fn hostile_bytes_harm_nobody_else() -> anyhow::Result<()> {
    let server = Server::start();
    let tcp = |door: &str| Transport::tcp(server.door(door));
    let mut friend = Mqtt::clean(tcp("mqtt"), MqttVersion::V5, "friend")?;
    friend.subscribe("friend", 1)?;
    let mut round = |number: u32| -> anyhow::Result<()> {
        assert_eq!(
            friend.publish("friend", number.to_string(), 1)?,
            ReasonCode::SUCCESS
        );
        assert_eq!(friend.next()?.payload, number.to_string());
        Ok(())
    };
    round(0)?;
    let before = server.resident();
    // Connections that say nothing, or one byte, and stay.
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut stream = dial(server.door(DOORS[number % DOORS.len()]));
        if number % 8 >= 4 {
            stream.write_all(&[0x10])?;
        }
        silent.push(stream);
    }
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for number in 0..20 {
        for door in DOORS {
            say(
                &mut dial(server.door(door)),
                &noise.bytes(1 << (number % 15)),
            );
        }
        for (door, opening) in OPENINGS {
            let mut bytes = opening.to_vec();
            bytes.extend(noise.bytes(4096));
            say(&mut dial(server.door(door)), &bytes);
        }
        round(1 + number)?;
    }
    for (door, bytes) in TOO_LARGE {
        let mut stream = dial(server.door(door));
        stream.write_all(bytes)?;
        // The server ends it without waiting for what was announced.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    round(100)?;
    let after = server.resident();
    assert!(
        after < before + GROWTH_MAX,
        "resident: {before} bytes before, {after} after"
    );
    drop(silent);
    round(101)?;
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop();
    Ok(())
}
