//! AMQP 0-9-1 frame by frame, over our codec: for what lapin does not show, and over WebSocket.

use amqp091::codec::{Frame, Long, Method, PROTOCOL_HEADER, channel, connection, decode};
use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};

use message::{Properties, Value};

use super::Transport;

const FRAME_MAX: u32 = 131_072;

pub(crate) struct AmqpFrames {
    transport: Transport,
    input: BytesMut,
}

impl AmqpFrames {
    /// Sends the header and the login; gives the answer to it.
    pub(crate) fn login(
        transport: Transport,
        user: &str,
        password: &str,
    ) -> anyhow::Result<(Self, Method)> {
        let input = BytesMut::new();
        let mut client = Self { transport, input };
        client.transport.send(&PROTOCOL_HEADER)?;
        let Method::ConnectionStart(_) = client.method()? else {
            bail!("the server starts with connection.start");
        };
        client.say(
            0,
            connection::StartOk {
                client_properties: told_of_refusals(),
                mechanism: "PLAIN".into(),
                response: Long(Bytes::from(format!("\0{user}\0{password}"))),
                locale: "en_US".into(),
            },
        )?;
        let answer = client.method()?;
        Ok((client, answer))
    }

    /// Logs in as `guest` and opens channel 1.
    pub(crate) fn open(transport: Transport) -> anyhow::Result<Self> {
        let (mut client, answer) = Self::login(transport, "guest", "guest")?;
        let Method::ConnectionTune(tune) = answer else {
            bail!("refused: {answer:?}");
        };
        client.say(
            0,
            connection::TuneOk {
                channel_max: tune.channel_max,
                frame_max: FRAME_MAX,
                heartbeat: 0,
            },
        )?;
        let virtual_host = "/".into();
        client.say(
            0,
            connection::Open {
                virtual_host,
                ..connection::Open::default()
            },
        )?;
        client.say(1, channel::Open::default())?;
        for expected in ["connection.open-ok", "channel.open-ok"] {
            let method = client.method()?;
            anyhow::ensure!(
                method.name() == expected,
                "{method:?} in place of {expected}"
            );
        }
        Ok(client)
    }

    pub(crate) fn say(&mut self, channel: u16, method: impl Into<Method>) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        let method = method.into();
        Frame::Method { channel, method }.encode(&mut out);
        self.transport.send(&out)
    }

    /// Sends bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.transport.send(bytes)
    }

    /// The next frame; `None` when the server has closed the connection.
    pub(crate) fn frame_or_end(&mut self) -> anyhow::Result<Option<Frame>> {
        loop {
            match decode(&mut self.input, FRAME_MAX)? {
                Some(Frame::Heartbeat) => {}
                Some(frame) => return Ok(Some(frame)),
                None if self.transport.fill(&mut self.input)? => {}
                None => return Ok(None),
            }
        }
    }

    /// The next method.
    pub(crate) fn method(&mut self) -> anyhow::Result<Method> {
        let frame = self.frame_or_end()?;
        match frame.context("the server closed the AMQP connection")? {
            Frame::Method { method, .. } => Ok(method),
            other => bail!("{other:?} in place of a method"),
        }
    }
}

/// A client that wants to be told why its login failed (RabbitMQ's `authentication_failure_close`), not just disconnected.
fn told_of_refusals() -> Properties {
    let name = Value::text("authentication_failure_close");
    let mut properties = Properties::default();
    properties.push("capabilities", Value::Map(vec![(name, Value::Bool(true))]));
    properties
}
