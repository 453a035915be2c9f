//! A STOMP client of any version, over our codec.

use std::collections::VecDeque;

use ::stomp::{
    Version,
    codec::{Decoder, Frame, Limits, Verb},
};
use anyhow::{Context as _, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use session::Wire;

use super::Transport;

const LIMITS: Limits = Limits {
    header_count_max: 1000,
    header_len_max: 65_535,
    head_len_max: 1 << 20,
    body_len_max: 64 << 20,
};

pub(crate) struct Stomp {
    transport: Transport,
    input: BytesMut,
    decoder: Decoder,
    version: Version,
    receipts: u32,
    /// Messages that came while a RECEIPT was waited for.
    early: VecDeque<Frame>,
}

impl Stomp {
    /// Connects, and gives the answer whatever it is.
    pub(crate) fn open_as(
        transport: Transport,
        version: Version,
        user: &str,
        password: &str,
    ) -> anyhow::Result<(Self, Frame)> {
        let mut client = Self {
            transport,
            input: BytesMut::new(),
            decoder: Decoder::new(version, LIMITS),
            version,
            receipts: 0,
            early: VecDeque::new(),
        };
        client.send(
            &Frame::new(Verb::Connect)
                .with("accept-version", version.as_str())
                .with("host", "/")
                .with("login", user.to_owned())
                .with("passcode", password.to_owned()),
        )?;
        let answer = client.frame()?;
        Ok((client, answer))
    }

    /// Connects as `guest`.
    pub(crate) fn open(transport: Transport, version: Version) -> anyhow::Result<Self> {
        let (client, answer) = Self::open_as(transport, version, "guest", "guest")?;
        ensure!(
            answer.verb == Verb::Connected,
            "the connection is refused: {answer:?}"
        );
        Ok(client)
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let mut wire = Wire::default();
        frame.encode(self.version, &mut wire);
        let bytes = wire.copy_to_bytes(wire.remaining());
        self.transport.send(&bytes)
    }

    /// The next frame of any kind; `None` when the server has closed the connection.
    pub(crate) fn frame_or_end(&mut self) -> anyhow::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input)? {
                return Ok(Some(frame));
            }
            if !self.transport.fill(&mut self.input)? {
                return Ok(None);
            }
        }
    }

    /// The next frame of any kind.
    pub(crate) fn frame(&mut self) -> anyhow::Result<Frame> {
        self.frame_or_end()?
            .context("the server closed the STOMP connection")
    }

    /// Sends a frame and waits for its RECEIPT.
    pub(crate) fn ask(&mut self, frame: Frame) -> anyhow::Result<()> {
        self.receipts += 1;
        let receipt = format!("r{}", self.receipts);
        self.send(&frame.with("receipt", receipt.clone()))?;
        loop {
            let frame = self.frame()?;
            match frame.verb {
                Verb::Message => self.early.push_back(frame),
                Verb::Receipt if frame.headers.text("receipt-id") == Some(&receipt) => {
                    return Ok(());
                }
                _ => bail!("{frame:?} came in place of RECEIPT {receipt}"),
            }
        }
    }

    /// Subscribes as `id`.
    pub(crate) fn subscribe(
        &mut self,
        destination: &str,
        id: &'static str,
        ack: &'static str,
    ) -> anyhow::Result<()> {
        self.ask(
            Frame::new(Verb::Subscribe)
                .with("destination", destination.to_owned())
                .with("id", id)
                .with("ack", ack),
        )
    }

    /// Publishes and waits for the RECEIPT.
    pub(crate) fn publish(
        &mut self,
        destination: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<()> {
        self.ask(
            Frame::new(Verb::Send)
                .with("destination", destination.to_owned())
                .with("persistent", "true")
                .with_body(body),
        )
    }

    /// The next MESSAGE.
    pub(crate) fn next(&mut self) -> anyhow::Result<Frame> {
        if let Some(frame) = self.early.pop_front() {
            return Ok(frame);
        }
        let frame = self.frame()?;
        ensure!(
            frame.verb == Verb::Message,
            "{frame:?} came in place of a MESSAGE"
        );
        Ok(frame)
    }

    /// ACK or NACK of a MESSAGE (STOMP 1.2), with a RECEIPT.
    pub(crate) fn settle(&mut self, verb: Verb, message: &Frame) -> anyhow::Result<()> {
        let id = message
            .headers
            .first("ack")
            .context("a MESSAGE to be acknowledged has an ack")?;
        self.ask(Frame::new(verb).with("id", id.clone()))
    }
}
