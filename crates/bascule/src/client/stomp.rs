//! The STOMP 1.2 client.

use std::{collections::VecDeque, time::Instant};

use anyhow::{bail, ensure};
use bytes::{Buf as _, Bytes};
use session::Wire;
use stomp::codec::{Decoder, Frame, Limits, Verb, Version};

use super::{Ack, Client, Outgoing, PATIENCE, Received, Transport, url::Url};

/// What we take from a broker.
const LIMITS: Limits = Limits {
    header_count_max: 10_000,
    header_len_max: 1 << 20,
    head_len_max: 4 << 20,
    body_len_max: 512 << 20,
};

/// Headers of a MESSAGE that say nothing about the message.
const OF_THE_DELIVERY: [&str; 5] = [
    "subscription",
    "message-id",
    "ack",
    "destination",
    "content-length",
];

pub(super) struct StompClient {
    transport: Transport,
    decoder: Decoder,
    destination: String,
    ack: Ack,
    /// The `ack` header of the MESSAGE that `next` gave.
    current: Option<Bytes>,
    /// Deliveries that came before a receipt.
    early: VecDeque<Frame>,
    receipts: u64,
}

impl StompClient {
    pub(super) fn open(transport: Transport, url: &Url) -> anyhow::Result<Self> {
        ensure!(
            url.path.len() > 1,
            "the URL names no destination: stomp://host/queue/name or stomp://host/topic/key"
        );
        let mut client = Self {
            transport,
            decoder: Decoder::new(Version::V1_2, LIMITS),
            destination: url.path.clone(),
            ack: Ack::Accept,
            current: None,
            early: VecDeque::new(),
            receipts: 0,
        };
        let (user, password) = url
            .login
            .clone()
            .unwrap_or_else(|| ("guest".to_owned(), "guest".to_owned()));
        let host = url.vhost.clone().unwrap_or_else(|| url.host.clone());
        client.send(
            &Frame::new(Verb::Connect)
                .with("accept-version", "1.2")
                .with("host", host)
                .with("login", user)
                .with("passcode", password)
                .with("heart-beat", "0,0"),
        )?;
        let answer = client.answer()?;
        ensure!(
            answer.verb == Verb::Connected,
            "the broker answered CONNECT with {}",
            answer.verb.as_str()
        );
        Ok(client)
    }

    fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let mut wire = Wire::default();
        let omitted = frame.encode(Version::V1_2, &mut wire);
        ensure!(omitted == 0, "a header is not possible in STOMP");
        let bytes = wire.copy_to_bytes(wire.remaining());
        self.transport.send(&bytes)
    }

    /// The next frame; an ERROR is our error.
    fn receive(&mut self) -> anyhow::Result<Frame> {
        loop {
            match self.decoder.decode(&mut self.transport.input)? {
                Some(frame) if frame.verb == Verb::Error => {
                    let what = frame.headers.text("message").unwrap_or("no reason given");
                    let detail = String::from_utf8_lossy(&frame.body);
                    let detail = detail.trim();
                    if detail.is_empty() || detail == what {
                        bail!("the broker refused: {what}");
                    }
                    bail!("the broker refused: {what}: {detail}");
                }
                Some(frame) => return Ok(frame),
                None => {
                    self.transport.fill()?;
                }
            }
        }
    }

    /// The next frame, soon.
    fn answer(&mut self) -> anyhow::Result<Frame> {
        let before = self.transport.deadline;
        let soon = Instant::now() + PATIENCE;
        self.transport.deadline = Some(before.map_or(soon, |deadline| deadline.min(soon)));
        let frame = self.receive();
        self.transport.deadline = before;
        frame
    }

    /// The frame with a `receipt` header of its own.
    fn with_receipt(&mut self, frame: Frame) -> Frame {
        self.receipts += 1;
        frame.with("receipt", self.receipts.to_string())
    }

    /// Reads until so many receipts have come. What is delivered meanwhile is kept for `next`.
    fn await_receipts(&mut self, mut count: u64) -> anyhow::Result<()> {
        while count > 0 {
            let frame = self.answer()?;
            match frame.verb {
                Verb::Receipt => count -= 1,
                Verb::Message => self.early.push_back(frame),
                other => bail!("the broker sent {} before a RECEIPT", other.as_str()),
            }
        }
        Ok(())
    }
}

impl Client for StompClient {
    fn publish(&mut self, message: &Outgoing, copies: u64) -> anyhow::Result<bool> {
        let mut plain = Frame::new(Verb::Send).with("destination", self.destination.clone());
        if message.qos > 0 {
            plain = plain.with("persistent", "true");
        }
        if message.retain {
            plain = plain.with("x-mqtt-retain", "true");
        }
        for (name, value) in &message.properties {
            plain
                .headers
                .0
                .push((Bytes::from(name.clone()), Bytes::from(value.clone())));
        }
        // An empty or binary body needs its length said; a text says itself that it is one.
        plain = plain
            .with("content-length", message.body.len().to_string())
            .with_body(message.body.clone());
        for _ in 0..copies {
            let frame = if message.qos > 0 {
                self.with_receipt(plain.clone())
            } else {
                plain.clone()
            };
            self.send(&frame)?;
        }
        if message.qos > 0 {
            self.await_receipts(copies)?;
        }
        Ok(true)
    }

    fn subscribe(&mut self, ack: Ack, _qos: u8) -> anyhow::Result<()> {
        self.ack = ack;
        let mode = if ack == Ack::None {
            "auto"
        } else {
            "client-individual"
        };
        let frame = Frame::new(Verb::Subscribe)
            .with("id", "0")
            .with("destination", self.destination.clone())
            .with("ack", mode)
            .with("prefetch-count", "100");
        let frame = self.with_receipt(frame);
        self.send(&frame)?;
        self.await_receipts(1)
    }

    fn next(&mut self) -> anyhow::Result<Received> {
        loop {
            let frame = match self.early.pop_front() {
                Some(early) => early,
                None => self.receive()?,
            };
            if frame.verb != Verb::Message {
                continue;
            }
            self.current = frame.headers.first("ack").cloned();
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            return Ok(Received {
                source: frame
                    .headers
                    .text("destination")
                    .unwrap_or_default()
                    .to_owned(),
                properties: frame
                    .headers
                    .0
                    .iter()
                    .filter(|(name, _)| !OF_THE_DELIVERY.iter().any(|of| name == of.as_bytes()))
                    .map(|(name, value)| (text(name), text(value)))
                    .collect(),
                body: frame.body,
            });
        }
    }

    fn settle(&mut self, _last: bool) -> anyhow::Result<()> {
        let Some(id) = self.current.take() else {
            return Ok(());
        };
        let frame = match self.ack {
            Ack::None => return Ok(()),
            Ack::Accept => Frame::new(Verb::Ack).with("id", id),
            Ack::Release => Frame::new(Verb::Nack).with("id", id),
            Ack::Reject => Frame::new(Verb::Nack)
                .with("id", id)
                .with("requeue", "false"),
        };
        self.send(&frame)
    }

    fn close(&mut self) -> anyhow::Result<()> {
        self.transport.deadline = Some(Instant::now() + PATIENCE);
        // STOMP 1.2, "DISCONNECT": its receipt says that everything before it has been processed.
        let frame = self.with_receipt(Frame::new(Verb::Disconnect));
        self.send(&frame)?;
        self.await_receipts(1)?;
        self.transport.close();
        Ok(())
    }
}
