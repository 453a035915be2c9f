//! AMQP 0-9-1 by hand: just enough to publish with confirms and to consume.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use anyhow::{Context as _, bail};

use super::{Confirmed, Ledger, Socket, body};

fn method(out: &mut Vec<u8>, channel: u16, class: u16, id: u16, arguments: &[u8]) {
    frame(
        out,
        1,
        channel,
        &[&class.to_be_bytes(), &id.to_be_bytes(), arguments],
    );
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

fn short(text: &str) -> Vec<u8> {
    let mut out = vec![text.len() as u8];
    out.extend_from_slice(text.as_bytes());
    out
}

/// `basic.publish` to a queue by the default exchange.
fn publish_arguments(queue: &str) -> Vec<u8> {
    let mut arguments = vec![0, 0, 0];
    arguments.extend(short(queue));
    arguments.push(0);
    arguments
}

/// The content header of a persistent message.
fn persistent_header(len: usize) -> Vec<u8> {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&(len as u64).to_be_bytes());
    header.extend_from_slice(&[0x10, 0x00, 2]);
    header
}

/// `basic.qos` of a consumer.
fn qos_arguments(prefetch: u16) -> Vec<u8> {
    let mut arguments = vec![0, 0, 0, 0];
    arguments.extend_from_slice(&prefetch.to_be_bytes());
    arguments.push(0);
    arguments
}

/// Bytes of a body in one frame, as the server takes them without being asked for more.
const PART_LEN: usize = 131_072 - 8;

/// One connection with channel 1 open.
pub(crate) struct Amqp {
    socket: Socket,
}

impl Amqp {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Self::over(Socket::connect(address)?)
    }

    /// The same on a socket of the caller's.
    pub(crate) fn over(socket: Socket) -> anyhow::Result<Self> {
        let mut this = Self { socket };
        this.socket.write(b"AMQP\x00\x00\x09\x01")?;
        this.expect(10, 10)?;
        let mut arguments = vec![0, 0, 0, 0];
        arguments.extend(short("PLAIN"));
        let login = b"\0guest\0guest";
        arguments.extend_from_slice(&(login.len() as u32).to_be_bytes());
        arguments.extend_from_slice(login);
        arguments.extend(short("en_US"));
        this.call(0, 10, 11, &arguments)?;
        let tune = this.expect(10, 30)?;
        let mut tune_ok = tune[..6].to_vec();
        tune_ok.extend_from_slice(&[0, 0]);
        this.call(0, 10, 31, &tune_ok)?;
        let mut open = short("/");
        open.extend_from_slice(&[0, 0]);
        this.call(0, 10, 40, &open)?;
        this.expect(10, 41)?;
        this.call(1, 20, 10, &[0])?;
        this.expect(20, 11)?;
        Ok(this)
    }

    fn call(&mut self, channel: u16, class: u16, id: u16, arguments: &[u8]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        method(&mut out, channel, class, id, arguments);
        self.socket.write(&out)
    }

    /// The next frame: its kind and payload.
    fn frame(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        self.socket.fill(7)?;
        let head = self.socket.unread();
        let kind = head[0];
        let len = u32::from_be_bytes(head[3..7].try_into()?) as usize;
        self.socket.fill(len + 8)?;
        let payload = self.socket.unread()[7..7 + len].to_vec();
        self.socket.take(len + 8);
        Ok((kind, payload))
    }

    fn expect(&mut self, class: u16, id: u16) -> anyhow::Result<Vec<u8>> {
        loop {
            let (kind, payload) = self.frame()?;
            if kind == 8 {
                continue;
            }
            let got = (
                u16::from_be_bytes(payload[..2].try_into()?),
                u16::from_be_bytes(payload[2..4].try_into()?),
            );
            if got != (class, id) {
                bail!(
                    "expected method {class}.{id}, got {got:?}: {}",
                    String::from_utf8_lossy(&payload[4..])
                );
            }
            return Ok(payload[4..].to_vec());
        }
    }

    /// Declares a durable queue; returns how many messages are in it.
    pub(crate) fn declare(&mut self, queue: &str) -> anyhow::Result<u32> {
        self.declare_as(queue, None)
    }

    /// The same with an `x-queue-type`, as RabbitMQ knows it.
    pub(crate) fn declare_as(&mut self, queue: &str, kind: Option<&str>) -> anyhow::Result<u32> {
        let mut table = Vec::new();
        if let Some(kind) = kind {
            table.extend(short("x-queue-type"));
            table.push(b'S');
            table.extend_from_slice(&(kind.len() as u32).to_be_bytes());
            table.extend_from_slice(kind.as_bytes());
        }
        let mut arguments = vec![0, 0];
        arguments.extend(short(queue));
        arguments.push(0b10);
        arguments.extend_from_slice(&(table.len() as u32).to_be_bytes());
        arguments.extend_from_slice(&table);
        self.call(1, 50, 10, &arguments)?;
        let reply = self.expect(50, 11)?;
        let at = 1 + reply[0] as usize;
        Ok(u32::from_be_bytes(reply[at..at + 4].try_into()?))
    }

    pub(crate) fn purge(&mut self, queue: &str) -> anyhow::Result<()> {
        let mut arguments = vec![0, 0];
        arguments.extend(short(queue));
        arguments.push(0);
        self.call(1, 50, 30, &arguments)?;
        self.expect(50, 31)?;
        Ok(())
    }

    /// Has what is published confirmed from here on.
    pub(crate) fn select(&mut self) -> anyhow::Result<()> {
        self.call(1, 85, 10, &[0])?;
        self.expect(85, 11)?;
        Ok(())
    }

    /// Publishes one persistent message.
    pub(crate) fn send(&mut self, queue: &str, body: &[u8]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        method(&mut out, 1, 60, 40, &publish_arguments(queue));
        frame(&mut out, 2, 1, &[&persistent_header(body.len())]);
        frame(&mut out, 3, 1, &[body]);
        self.socket.write(&out)
    }

    /// The next `basic.ack`: its tag, and whether it is for all before it too.
    pub(crate) fn acked(&mut self) -> anyhow::Result<(u64, bool)> {
        let arguments = self.expect(60, 80)?;
        let tag = u64::from_be_bytes(arguments[..8].try_into()?);
        Ok((tag, arguments[8] & 1 == 1))
    }

    /// Asks for the messages of a queue, at most `prefetch` of them unacknowledged.
    pub(crate) fn subscribe(&mut self, queue: &str, prefetch: u16) -> anyhow::Result<()> {
        self.call(1, 60, 10, &qos_arguments(prefetch))?;
        self.expect(60, 11)?;
        let mut arguments = vec![0, 0];
        arguments.extend(short(queue));
        arguments.extend(short("load"));
        arguments.push(0);
        arguments.extend_from_slice(&[0; 4]);
        self.call(1, 60, 20, &arguments)?;
        self.expect(60, 21)?;
        Ok(())
    }

    /// The next message: its tag, whether it is redelivered, and its body.
    pub(crate) fn message(&mut self) -> anyhow::Result<(u64, bool, Vec<u8>)> {
        let arguments = self.expect(60, 60)?;
        let at = 1 + arguments[0] as usize;
        let tag = u64::from_be_bytes(arguments[at..at + 8].try_into()?);
        let redelivered = arguments[at + 8] != 0;
        let (_, header) = self.frame()?;
        let len = u64::from_be_bytes(header[4..12].try_into()?);
        let mut body = Vec::new();
        while (body.len() as u64) < len {
            body.extend(self.frame()?.1);
        }
        Ok((tag, redelivered, body))
    }

    /// Acknowledges one message.
    pub(crate) fn ack(&mut self, tag: u64) -> anyhow::Result<()> {
        let mut arguments = tag.to_be_bytes().to_vec();
        arguments.push(0);
        self.call(1, 60, 80, &arguments)
    }

    /// Declares durable queues, all at once.
    pub(crate) fn declare_all(&mut self, queues: &[String]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        for queue in queues {
            let mut arguments = vec![0, 0];
            arguments.extend(short(queue));
            // Durable, and not answered.
            arguments.push(0b1_0010);
            arguments.extend_from_slice(&[0; 4]);
            method(&mut out, 1, 50, 10, &arguments);
        }
        self.socket.write(&out)?;
        // Answered in its turn.
        let last = queues.last().context("a queue to declare")?;
        self.declare(last).map(drop)
    }

    /// Publishes `count` persistent messages with at most `window` unconfirmed. `confirmed` may be watched from elsewhere.
    pub(crate) fn publish(
        self,
        queue: &str,
        publisher: u32,
        count: u64,
        len: usize,
        window: u64,
        confirmed: &Arc<Confirmed>,
    ) -> anyhow::Result<()> {
        self.publish_to(
            &[queue.to_owned()],
            publisher,
            count,
            len,
            window,
            confirmed,
        )
    }

    /// The same to several queues in turn, each with the bodies of a publisher of its own: `publisher` and the numbers after it.
    pub(crate) fn publish_to(
        mut self,
        queues: &[String],
        publisher: u32,
        count: u64,
        len: usize,
        window: u64,
        confirmed: &Arc<Confirmed>,
    ) -> anyhow::Result<()> {
        self.select()?;
        let mut writer: TcpStream = self.socket.writer()?;
        let acks = Arc::clone(confirmed);
        let reader = std::thread::Builder::new().spawn(move || {
            let result = self.count_acks(count, &acks);
            acks.end(result.as_ref().err());
            result
        })?;
        let publishes: Vec<_> = queues
            .iter()
            .map(|queue| publish_arguments(queue))
            .collect();
        let header = persistent_header(len.max(12));
        let (mut sent, mut out, mut text) = (0u64, Vec::new(), Vec::new());
        while sent < count {
            let done = confirmed.wait((sent + 1).saturating_sub(window))?;
            let now = (count - sent).min(done + window - sent).min(256);
            out.clear();
            for _ in 0..now {
                let at = (sent % publishes.len() as u64) as usize;
                method(&mut out, 1, 60, 40, &publishes[at]);
                frame(&mut out, 2, 1, &[&header]);
                text.clear();
                let sequence = sent / publishes.len() as u64;
                body(publisher + at as u32, sequence, len, &mut text);
                for part in text.chunks(PART_LEN) {
                    frame(&mut out, 3, 1, &[part]);
                }
                sent += 1;
            }
            writer.write_all(&out)?;
        }
        confirmed.wait(count)?;
        reader.join().expect("the reader does not panic")
    }

    fn count_acks(&mut self, count: u64, confirmed: &Confirmed) -> anyhow::Result<()> {
        let (mut contiguous, mut above) = (0u64, std::collections::BTreeSet::new());
        while contiguous < count {
            // All frames that are at hand, then one notice.
            loop {
                let (kind, payload) = self.frame()?;
                if kind == 1 {
                    if payload[..4] != [0, 60, 0, 80] {
                        bail!(
                            "expected basic.ack, got {:?}: {}",
                            &payload[..4],
                            String::from_utf8_lossy(&payload[4..])
                        );
                    }
                    let tag = u64::from_be_bytes(payload[4..12].try_into()?);
                    if payload[12] & 1 == 1 {
                        contiguous = contiguous.max(tag);
                    } else {
                        above.insert(tag);
                    }
                    while above.remove(&(contiguous + 1)) {
                        contiguous += 1;
                    }
                }
                if self.socket.unread().len() < 8 {
                    break;
                }
            }
            above.retain(|tag| *tag > contiguous);
            confirmed.set(contiguous);
        }
        Ok(())
    }

    /// Consumes `count` messages, acknowledging every `every` of them. `seen` is told when acknowledgements were sent.
    pub(crate) fn consume(
        mut self,
        queue: &str,
        count: u64,
        prefetch: u16,
        every: u64,
        ledger: &mut Ledger,
        seen: impl FnMut(&Ledger),
    ) -> anyhow::Result<()> {
        self.subscribe(queue, prefetch)?;
        self.receive(count, every, ledger, seen)?;
        // A synchronous method behind the last acknowledgement: when it is answered, that one has been handled.
        self.call(1, 60, 10, &qos_arguments(prefetch))?;
        loop {
            let (kind, payload) = self.frame()?;
            if kind == 1 && payload[..4] == [0, 60, 0, 11] {
                return Ok(());
            }
        }
    }

    /// Asks for the messages of all these queues, which have none yet, at most `prefetch` of each unacknowledged.
    pub(crate) fn subscribe_all(&mut self, queues: &[String], prefetch: u16) -> anyhow::Result<()> {
        self.call(1, 60, 10, &qos_arguments(prefetch))?;
        self.expect(60, 11)?;
        let mut out = Vec::new();
        for (number, queue) in queues.iter().enumerate() {
            let mut arguments = vec![0, 0];
            arguments.extend(short(queue));
            arguments.extend(short(&format!("load-{number}")));
            // Not answered.
            arguments.push(0b1000);
            arguments.extend_from_slice(&[0; 4]);
            method(&mut out, 1, 60, 20, &arguments);
        }
        self.socket.write(&out)?;
        // When this is answered, those have been handled.
        self.declare(&queues[0]).map(drop)
    }

    /// Receives until the ledger has `count` messages, acknowledging every `every` of them. What came together is acknowledged
    /// with one write, so that the client's system calls are not what is measured.
    pub(crate) fn receive(
        &mut self,
        count: u64,
        every: u64,
        ledger: &mut Ledger,
        mut seen: impl FnMut(&Ledger),
    ) -> anyhow::Result<()> {
        let (mut tag, mut acked) = (0u64, 0u64);
        let (mut whole, mut len, mut acks) = (Vec::new(), 0, Vec::new());
        while ledger.received < count {
            if !acks.is_empty() && !self.is_frame_at_hand() {
                self.socket.write(&acks)?;
                acks.clear();
                seen(ledger);
            }
            let (kind, payload) = self.frame()?;
            match kind {
                1 => {
                    if payload[..4] != [0, 60, 0, 60] {
                        bail!("expected basic.deliver, got {:?}", &payload[..4]);
                    }
                    let at = 5 + payload[4] as usize;
                    tag = u64::from_be_bytes(payload[at..at + 8].try_into()?);
                    whole.clear();
                }
                2 => len = u64::from_be_bytes(payload[4..12].try_into()?),
                3 => {
                    whole.extend_from_slice(&payload);
                    if (whole.len() as u64) < len {
                        continue;
                    }
                    ledger.see(&whole);
                    if tag - acked >= every || ledger.received == count {
                        let mut ack = tag.to_be_bytes().to_vec();
                        ack.push(u8::from(every > 1));
                        method(&mut acks, 1, 60, 80, &ack);
                        acked = tag;
                    }
                }
                _ => {}
            }
        }
        self.socket.write(&acks)?;
        seen(ledger);
        Ok(())
    }

    /// Whether the next frame need not be waited for.
    fn is_frame_at_hand(&self) -> bool {
        let unread = self.socket.unread();
        match unread.get(3..7).and_then(|len| len.try_into().ok()) {
            Some(len) => unread.len() - 7 > u32::from_be_bytes(len) as usize,
            None => false,
        }
    }
}
