//! MQTT 3.1.1 by hand: publish and receive at QoS 0 and 1; MQTT 5 to publish at QoS 1 and be told why not.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use anyhow::bail;

use super::{Confirmed, Ledger, Socket, body};

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

/// Appends a PUBLISH of MQTT 3.1.1: with a packet id at QoS 1, without at QoS 0.
pub(crate) fn publish(out: &mut Vec<u8>, topic: &str, id: Option<u16>, body: &[u8]) {
    let len = (topic.len() as u16).to_be_bytes();
    let topic = topic.as_bytes();
    match id {
        Some(id) => packet(out, 0x32, &[&len, topic, &id.to_be_bytes(), body]),
        None => packet(out, 0x30, &[&len, topic, body]),
    }
}

/// One connection.
pub(crate) struct Mqtt {
    socket: Socket,
    /// It speaks MQTT 5.
    five: bool,
}

impl Mqtt {
    /// Connects; a `persistent` session outlives the connection.
    pub(crate) fn connect(
        address: SocketAddr,
        client_id: &str,
        persistent: bool,
    ) -> anyhow::Result<Self> {
        Self::over(Socket::connect(address)?, client_id, persistent)
    }

    /// The same on a socket of the caller's.
    pub(crate) fn over(socket: Socket, client_id: &str, persistent: bool) -> anyhow::Result<Self> {
        let five = false;
        let flags = if persistent { 0 } else { 2 };
        Self { socket, five }.open(client_id, b"\x00\x04MQTT\x04", &[flags, 0, 0])
    }

    /// The same by MQTT 5, to publish: a clean start, no properties.
    pub(crate) fn over_5(socket: Socket, client_id: &str) -> anyhow::Result<Self> {
        let five = true;
        Self { socket, five }.open(client_id, b"\x00\x04MQTT\x05", &[2, 0, 0, 0])
    }

    fn open(mut self, client_id: &str, protocol: &[u8], flags: &[u8]) -> anyhow::Result<Self> {
        let mut out = Vec::new();
        let id_len = (client_id.len() as u16).to_be_bytes();
        packet(
            &mut out,
            0x10,
            &[protocol, flags, &id_len, client_id.as_bytes()],
        );
        self.socket.write(&out)?;
        let (first, payload) = self.packet()?;
        if first != 0x20 || payload[1] != 0 {
            bail!("CONNACK {first:#x} {payload:?}");
        }
        Ok(self)
    }

    /// The next packet: its first byte, and what comes after its length.
    pub(crate) fn packet(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        self.socket.fill(2)?;
        let (mut len, mut digits) = (0usize, 0);
        loop {
            self.socket.fill(2 + digits)?;
            let digit = self.socket.unread()[1 + digits];
            len |= ((digit & 127) as usize) << (7 * digits);
            digits += 1;
            if digit & 128 == 0 {
                break;
            }
        }
        self.socket.fill(1 + digits + len)?;
        let first = self.socket.unread()[0];
        let payload = self.socket.unread()[1 + digits..1 + digits + len].to_vec();
        self.socket.take(1 + digits + len);
        Ok((first, payload))
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) -> anyhow::Result<()> {
        let mut out = Vec::new();
        packet(
            &mut out,
            0x82,
            &[
                &[0, 1],
                &(filter.len() as u16).to_be_bytes(),
                filter.as_bytes(),
                &[qos],
            ],
        );
        self.socket.write(&out)?;
        let (first, payload) = self.packet()?;
        if first != 0x90 || payload[2] > 2 {
            bail!("SUBACK {first:#x} {payload:?}");
        }
        Ok(())
    }

    /// Subscribes at QoS 0 to all of them, a thousand a packet.
    pub(crate) fn subscribe_all(&mut self, filters: &[String]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        for filters in filters.chunks(1_000) {
            let mut list = vec![0, 1];
            for filter in filters {
                list.extend_from_slice(&(filter.len() as u16).to_be_bytes());
                list.extend_from_slice(filter.as_bytes());
                list.push(0);
            }
            out.clear();
            packet(&mut out, 0x82, &[&list]);
            self.socket.write(&out)?;
            let (first, payload) = self.packet()?;
            if first != 0x90 || payload.len() != 2 + filters.len() || payload[2..].contains(&0x80) {
                bail!("SUBACK {first:#x} of {} bytes", payload.len());
            }
        }
        Ok(())
    }

    /// The connection, of which nothing more is asked but to be there.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.socket.into_stream()
    }

    /// Sends one PUBLISH at QoS 1.
    pub(crate) fn send(&mut self, topic: &str, id: u16, body: &[u8]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        let len = (topic.len() as u16).to_be_bytes();
        let properties: &[u8] = if self.five { &[0] } else { &[] };
        packet(
            &mut out,
            0x32,
            &[&len, topic.as_bytes(), &id.to_be_bytes(), properties, body],
        );
        self.socket.write(&out)
    }

    /// The packet id of the next PUBACK, which must say that it was taken.
    pub(crate) fn acked(&mut self) -> anyhow::Result<u16> {
        let (first, payload) = self.packet()?;
        match (first, payload.get(2)) {
            (0x40, Some(reason @ 0x80..)) => bail!("PUBACK with reason {reason:#x}"),
            (0x40, _) => Ok(u16::from_be_bytes(payload[..2].try_into()?)),
            _ => bail!("expected PUBACK, got {first:#x} {payload:?}"),
        }
    }

    /// The next PUBLISH at QoS 1: its packet id, whether it says that it may have come before, and its body.
    pub(crate) fn message(&mut self) -> anyhow::Result<(u16, bool, Vec<u8>)> {
        let (first, mut payload) = self.packet()?;
        if first & 0xF6 != 0x32 {
            bail!("expected PUBLISH at QoS 1, got {first:#x}");
        }
        let at = 2 + u16::from_be_bytes(payload[..2].try_into()?) as usize;
        let id = u16::from_be_bytes(payload[at..at + 2].try_into()?);
        Ok((id, first & 8 != 0, payload.split_off(at + 2)))
    }

    /// The next PUBLISH at QoS 0, whole.
    pub(crate) fn plain(&mut self) -> anyhow::Result<Vec<u8>> {
        match self.packet()? {
            (0x30, payload) => Ok(payload),
            (first, _) => bail!("expected PUBLISH at QoS 0, got {first:#x}"),
        }
    }

    /// Acknowledges it.
    pub(crate) fn ack(&mut self, id: u16) -> anyhow::Result<()> {
        let mut out = Vec::new();
        packet(&mut out, 0x40, &[&id.to_be_bytes()]);
        self.socket.write(&out)
    }

    /// Sends packets as they are.
    pub(crate) fn say(&mut self, packets: &[u8]) -> anyhow::Result<()> {
        self.socket.write(packets)
    }

    /// Sends a packet that comes back to it.
    pub(crate) fn echo(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        self.socket.write(packet)?;
        self.plain().map(drop)
    }

    /// Publishes `count` messages, at QoS 1 with at most `window` unconfirmed. At QoS 0 `window` is how far it may be ahead of `confirmed`.
    pub(crate) fn publish(
        self,
        topic: &str,
        qos: u8,
        count: u64,
        len: usize,
        window: u64,
        confirmed: &Arc<Confirmed>,
    ) -> anyhow::Result<()> {
        self.publish_to(&[topic.to_owned()], qos, count, len, window, confirmed)
    }

    /// The same to several topics in turn.
    pub(crate) fn publish_to(
        mut self,
        topics: &[String],
        qos: u8,
        count: u64,
        len: usize,
        window: u64,
        confirmed: &Arc<Confirmed>,
    ) -> anyhow::Result<()> {
        let mut writer = self.socket.writer()?;
        let reader = (qos > 0)
            .then(|| {
                let acks = Arc::clone(confirmed);
                std::thread::Builder::new().spawn(move || {
                    let result = self.count_acks(count, &acks);
                    acks.end(result.as_ref().err());
                    result
                })
            })
            .transpose()?;
        let heads: Vec<Vec<u8>> = topics
            .iter()
            .map(|topic| [&(topic.len() as u16).to_be_bytes(), topic.as_bytes()].concat())
            .collect();
        let mut heads = heads.iter().cycle();
        let (mut sent, mut out, mut text) = (0u64, Vec::new(), Vec::new());
        while sent < count {
            let done = confirmed.wait((sent + 1).saturating_sub(window))?;
            let now = (count - sent).min(done + window - sent).min(256);
            out.clear();
            for _ in 0..now {
                text.clear();
                body(0, sent, len, &mut text);
                let id = ((sent % 65_535 + 1) as u16).to_be_bytes();
                let id: &[u8] = if qos > 0 { &id } else { &[] };
                let head = heads.next().expect("there is a topic");
                packet(&mut out, 0x30 | qos << 1, &[head, id, &text]);
                sent += 1;
            }
            writer.write_all(&out)?;
        }
        confirmed.wait(count)?;
        match reader {
            Some(reader) => reader.join().expect("the reader does not panic"),
            None => Ok(()),
        }
    }

    fn count_acks(&mut self, count: u64, confirmed: &Confirmed) -> anyhow::Result<()> {
        let mut done = 0;
        while done < count {
            loop {
                let (first, _) = self.packet()?;
                if first != 0x40 {
                    bail!("expected PUBACK, got {first:#x}");
                }
                done += 1;
                if self.socket.unread().len() < 4 {
                    break;
                }
            }
            confirmed.set(done);
        }
        Ok(())
    }

    /// Receives `count` messages, acknowledging QoS 1. `seen` is told the count now and then.
    pub(crate) fn receive(
        mut self,
        count: u64,
        ledger: &mut Ledger,
        mut seen: impl FnMut(u64),
    ) -> anyhow::Result<()> {
        let mut acks = Vec::new();
        while ledger.received < count {
            let (first, payload) = self.packet()?;
            if first & 0xF0 != 0x30 {
                bail!("expected PUBLISH, got {first:#x}");
            }
            let mut at = 2 + u16::from_be_bytes(payload[..2].try_into()?) as usize;
            if first & 6 != 0 {
                packet(&mut acks, 0x40, &[&payload[at..at + 2]]);
                at += 2;
            }
            ledger.see(&payload[at..]);
            if self.socket.unread().len() < 8 {
                if !acks.is_empty() {
                    self.socket.write(&acks)?;
                    acks.clear();
                }
                seen(ledger.received);
            }
        }
        if !acks.is_empty() {
            self.socket.write(&acks)?;
        }
        seen(ledger.received);
        Ok(())
    }
}
