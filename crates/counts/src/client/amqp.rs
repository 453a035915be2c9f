//! AMQP 0-9-1, as far as it is measured.

use anyhow::ensure;

use super::{Socket, wait};
use crate::served::Served;

/// The queue of all messages.
const QUEUE: &[u8] = b"counts";

/// One connection with channel 1 open.
pub(crate) struct Amqp {
    socket: Socket,
}

/// What has come since the last look.
#[derive(Default)]
pub(crate) struct Come {
    /// The last delivery tag that was confirmed.
    pub(crate) confirmed: u64,
    /// Tags of deliveries whose bodies have come.
    pub(crate) delivered: Vec<u64>,
    tag: u64,
}

impl Amqp {
    pub(crate) fn connect(served: &mut Served) -> anyhow::Result<Self> {
        let mut socket = Socket::connect(served.amqp)?;
        socket.say(b"AMQP\x00\x00\x09\x01")?;
        let mut this = Self { socket };
        this.expect(served, [10, 10])?;
        let login = b"\0guest\0guest";
        let len = (login.len() as u32).to_be_bytes();
        let start = [b"\0\0\0\0\x05PLAIN".as_slice(), &len, login, b"\x05en_US"];
        this.call(0, [10, 11], &start)?;
        let tune = this.expect(served, [10, 30])?;
        this.call(0, [10, 31], &[&tune[..6], &[0, 0]])?;
        this.call(0, [10, 40], &[b"\x01/\0\0"])?;
        this.expect(served, [10, 41])?;
        this.call(1, [20, 10], &[b"\0"])?;
        this.expect(served, [20, 11])?;
        Ok(this)
    }

    /// Makes the durable queue.
    pub(crate) fn declare(&mut self, served: &mut Served) -> anyhow::Result<()> {
        self.call(
            1,
            [50, 10],
            &[&[0, 0, QUEUE.len() as u8], QUEUE, &[2, 0, 0, 0, 0]],
        )?;
        self.expect(served, [50, 11]).map(drop)
    }

    /// Has what is published confirmed.
    pub(crate) fn select(&mut self, served: &mut Served) -> anyhow::Result<()> {
        self.call(1, [85, 10], &[&[0]])?;
        self.expect(served, [85, 11]).map(drop)
    }

    /// Consumes the queue, with at most `prefetch` messages unacknowledged.
    pub(crate) fn consume(&mut self, served: &mut Served, prefetch: u16) -> anyhow::Result<()> {
        self.call(1, [60, 10], &[&[0; 4], &prefetch.to_be_bytes(), &[0]])?;
        self.expect(served, [60, 11])?;
        let queue = [&[0, 0, QUEUE.len() as u8], QUEUE, b"\x01c\0\0\0\0\0"];
        self.call(1, [60, 20], &queue)?;
        self.expect(served, [60, 21]).map(drop)
    }

    /// Publishes so many persistent messages of so many bytes in one write.
    pub(crate) fn publish(&mut self, count: u64, len: usize) -> anyhow::Result<()> {
        let body = vec![b'.'; len];
        let size = (len as u64).to_be_bytes();
        let mut burst = Vec::new();
        for _ in 0..count {
            let publish = [&[0, 60, 0, 40, 0, 0, 0, QUEUE.len() as u8], QUEUE, &[0]];
            frame(&mut burst, 1, 1, &publish);
            frame(&mut burst, 2, 1, &[&[0, 60, 0, 0], &size, &[0x10, 0, 2]]);
            frame(&mut burst, 3, 1, &[&body]);
        }
        self.socket.say(&burst)
    }

    /// Acknowledges deliveries one by one, in one write.
    pub(crate) fn acknowledge(&mut self, tags: &[u64]) -> anyhow::Result<()> {
        let mut acks = Vec::new();
        for tag in tags {
            frame(
                &mut acks,
                1,
                1,
                &[&[0, 60, 0, 80], &tag.to_be_bytes(), &[0]],
            );
        }
        self.socket.say(&acks)
    }

    /// Takes in the confirmations and deliveries that have come.
    pub(crate) fn look(&mut self, come: &mut Come) -> anyhow::Result<()> {
        self.socket.pump()?;
        let mut at = 0;
        while let Some((kind, len)) = measure(&self.socket.unread()[at..]) {
            let payload = &self.socket.unread()[at + 7..at + 7 + len];
            match (kind, payload.get(..4)) {
                (1, Some([0, 60, 0, 80])) => {
                    come.confirmed = u64::from_be_bytes(payload[4..12].try_into()?);
                }
                (1, Some([0, 60, 0, 60])) => {
                    let from = 5 + usize::from(payload[4]);
                    come.tag = u64::from_be_bytes(payload[from..from + 8].try_into()?);
                }
                (2, _) => {}
                (3, _) => come.delivered.push(come.tag),
                other => ensure!(false, "frame {other:?} was not awaited"),
            }
            at += len + 8;
        }
        self.socket.take(at);
        Ok(())
    }

    fn call(&mut self, channel: u16, method: [u8; 2], arguments: &[&[u8]]) -> anyhow::Result<()> {
        let arguments = arguments.concat();
        let mut out = Vec::new();
        let name = [0, method[0], 0, method[1]];
        frame(&mut out, 1, channel, &[&name, &arguments]);
        self.socket.say(&out)
    }

    fn expect(&mut self, served: &mut Served, method: [u8; 2]) -> anyhow::Result<Vec<u8>> {
        let payload = wait(served, || {
            self.socket.pump()?;
            let Some((_, len)) = measure(self.socket.unread()) else {
                return Ok(None);
            };
            Ok(Some(self.socket.take(len + 8)[7..7 + len].to_vec()))
        })?;
        ensure!(
            payload[..4] == [0, method[0], 0, method[1]],
            "method {:?} is not {method:?}: {}",
            &payload[..4],
            String::from_utf8_lossy(&payload[4..])
        );
        Ok(payload[4..].to_vec())
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, parts: &[&[u8]]) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&(len as u32).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(0xCE);
}

/// The kind of the frame that is whole there, and the length of its payload.
fn measure(bytes: &[u8]) -> Option<(u8, usize)> {
    let len = u32::from_be_bytes(bytes.get(3..7)?.try_into().expect("four bytes")) as usize;
    (bytes.len() >= len + 8).then(|| (bytes[0], len))
}
