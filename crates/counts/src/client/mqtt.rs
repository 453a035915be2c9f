//! MQTT 3.1.1, as far as it is measured.

use std::net::SocketAddr;

use anyhow::ensure;

use super::{Socket, wait};
use crate::served::Served;

/// The topic of all messages.
const TOPIC: &[u8] = b"counts/topic";

/// One connection.
pub(crate) struct Mqtt {
    socket: Socket,
    qos: u8,
    sent: u64,
}

impl Mqtt {
    /// Connects; a `durable` session outlives the connection.
    pub(crate) fn connect(
        served: &mut Served,
        name: &str,
        qos: u8,
        durable: bool,
    ) -> anyhow::Result<Self> {
        let address: SocketAddr = served.mqtt;
        let mut socket = Socket::connect(address)?;
        let mut hello = Vec::new();
        let len = (name.len() as u16).to_be_bytes();
        let flags = if durable { 0 } else { 2 };
        let head = [b"\x00\x04MQTT\x04".as_slice(), &[flags, 0, 0], &len].concat();
        packet(&mut hello, 0x10, &[&head, name.as_bytes()]);
        socket.say(&hello)?;
        let mut this = Self {
            socket,
            qos,
            sent: 0,
        };
        let (kind, answer) = this.wait(served)?;
        ensure!(kind == 0x20 && answer[1] == 0, "CONNACK {answer:?}");
        Ok(this)
    }

    /// Asks for what is published.
    pub(crate) fn subscribe(&mut self, served: &mut Served) -> anyhow::Result<()> {
        let mut ask = Vec::new();
        let len = (TOPIC.len() as u16).to_be_bytes();
        packet(&mut ask, 0x82, &[&[0, 1], &len, TOPIC, &[self.qos]]);
        self.socket.say(&ask)?;
        let (kind, answer) = self.wait(served)?;
        ensure!(kind == 0x90 && answer[2] <= 2, "SUBACK {answer:?}");
        Ok(())
    }

    fn wait(&mut self, served: &mut Served) -> anyhow::Result<(u8, Vec<u8>)> {
        wait(served, || {
            self.socket.pump()?;
            Ok(self.packet())
        })
    }

    fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (kind, head, len) = measure(self.socket.unread())?;
        let whole = self.socket.take(head + len);
        Some((kind, whole[head..].to_vec()))
    }

    /// Publishes so many messages of so many bytes in one write.
    pub(crate) fn publish(&mut self, count: u64, len: usize) -> anyhow::Result<()> {
        let mut burst = Vec::new();
        let body = vec![b'.'; len];
        let topic_len = (TOPIC.len() as u16).to_be_bytes();
        for _ in 0..count {
            let id = packet_id(self.sent);
            let id: &[u8] = if self.qos > 0 { &id } else { &[] };
            let parts: [&[u8]; 4] = [&topic_len, TOPIC, id, &body];
            packet(&mut burst, 0x30 | self.qos << 1, &parts);
            self.sent += 1;
        }
        self.socket.say(&burst)
    }

    /// How many packets of that kind have come since the last look; the packet ids that PUBLISH had.
    pub(crate) fn look(&mut self, kind: u8, ids: &mut Vec<[u8; 2]>) -> anyhow::Result<u64> {
        self.socket.pump()?;
        let (mut at, mut count) = (0, 0);
        while let Some((first, head, len)) = measure(&self.socket.unread()[at..]) {
            ensure!(first & 0xF0 == kind, "packet {first:#x} is not {kind:#x}");
            if kind == 0x30 && first & 6 != 0 {
                let from = at + head + 2 + TOPIC.len();
                ids.push([self.socket.unread()[from], self.socket.unread()[from + 1]]);
            }
            at += head + len;
            count += 1;
        }
        self.socket.take(at);
        Ok(count)
    }

    /// Acknowledges messages, one packet each, in one write.
    pub(crate) fn acknowledge(&mut self, ids: &mut Vec<[u8; 2]>) -> anyhow::Result<()> {
        let mut acks = Vec::new();
        for id in ids.drain(..) {
            packet(&mut acks, 0x40, &[&id]);
        }
        self.socket.say(&acks)
    }
}

fn packet_id(number: u64) -> [u8; 2] {
    ((number % 65_535 + 1) as u16).to_be_bytes()
}

fn packet(out: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    out.push(first);
    let mut len: usize = parts.iter().map(|part| part.len()).sum();
    while len >= 128 {
        out.push(len as u8 | 128);
        len >>= 7;
    }
    out.push(len as u8);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The first byte of the packet that is whole there, and the lengths of its head and its rest.
fn measure(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let mut len = 0;
    for (at, digit) in bytes.iter().skip(1).take(4).enumerate() {
        len |= usize::from(digit & 127) << (7 * at);
        if digit & 128 == 0 {
            let head = 2 + at;
            return (bytes.len() >= head + len).then_some((bytes[0], head, len));
        }
    }
    None
}
