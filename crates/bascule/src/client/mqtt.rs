//! The MQTT 5 client. A clean session without expiry; identifiers are given out in turn, since at most a window of them is in use.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use mqtt::codec::{
    Ack as AckPacket, Connect, Decoder, Farewell, Limits, Options, Packet, Properties, Property,
    Publish, ReasonCode, Subscribe, Text, Unsubscribe, Version,
};

use super::{Ack, Client, Outgoing, PATIENCE, Received, Transport, transport::Filled, url::Url};

/// Deliveries that may be out to us.
const WINDOW: u16 = 100;

pub(super) struct MqttClient {
    transport: Transport,
    decoder: Decoder,
    topic: Text,
    ack: Ack,
    /// The QoS and identifier of the delivery that `next` gave.
    current: Option<(u8, u16)>,
    /// Deliveries that came before the SUBACK.
    early: VecDeque<Packet>,
    /// Deliveries of QoS 2 that are half done.
    received: Vec<u16>,
    last_id: u16,
}

impl MqttClient {
    pub(super) fn open(transport: Transport, url: &Url) -> anyhow::Result<Self> {
        ensure!(
            url.vhost.is_none(),
            "MQTT has no way to name a virtual host"
        );
        let topic = url.path.strip_prefix('/').unwrap_or_default().to_owned();
        ensure!(
            !topic.is_empty(),
            "the URL names no topic: mqtt://host/topic"
        );
        let topic = Text::try_from(topic).context("the topic is not possible in MQTT")?;
        let mut client = Self {
            transport,
            decoder: Decoder::new(Version::V5, Limits::default()),
            topic,
            ack: Ack::Accept,
            current: None,
            early: VecDeque::new(),
            received: Vec::new(),
            last_id: 0,
        };
        let (user_name, password) = match &url.login {
            Some((user, password)) => (
                Some(Text::try_from(user.clone()).context("the user is not possible in MQTT")?),
                Some(Bytes::from(password.clone())),
            ),
            None => (None, None),
        };
        client.send(&Packet::Connect(Box::new(Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive_s: 0,
            properties: Properties(vec![Property::ReceiveMaximum(WINDOW)]),
            client_id: Text::default(),
            will: None,
            user_name,
            password,
        })))?;
        let Packet::ConnAck(ack) = client.answer()? else {
            bail!("the broker answered CONNECT with something else");
        };
        refused("the connection", ReasonCode(ack.code), &ack.properties)?;
        for property in &ack.properties.0 {
            if let Property::ServerKeepAlive(seconds) = property
                && *seconds > 0
            {
                // MQTT 5, 3.2.2.3.14: the client must use it; half of it is time enough for a PINGREQ.
                client.transport.idle = Some(Duration::from_secs(u64::from(*seconds)) / 2);
            }
        }
        Ok(client)
    }

    fn send(&mut self, packet: &Packet) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        packet.encode(Version::V5, &mut out);
        self.transport.send(&out)
    }

    /// One packet, or one read. Answers what must be answered whatever one is waiting for.
    fn step(&mut self) -> anyhow::Result<Option<Packet>> {
        match self.decoder.decode(&mut self.transport.input)? {
            Some(Packet::PingResp) => {}
            Some(Packet::PubRel(release)) => {
                self.received.retain(|id| *id != release.packet_id);
                let done = AckPacket::new(release.packet_id, ReasonCode::SUCCESS);
                self.send(&Packet::PubComp(done))?;
            }
            Some(Packet::Disconnect(farewell)) => {
                refused("the connection", farewell.reason, &farewell.properties)?;
                bail!("the broker closed the connection");
            }
            Some(packet) => return Ok(Some(packet)),
            None => {
                if self.transport.fill()? == Filled::Idle {
                    self.send(&Packet::PingReq)?;
                }
            }
        }
        Ok(None)
    }

    fn receive(&mut self) -> anyhow::Result<Packet> {
        loop {
            if let Some(packet) = self.step()? {
                return Ok(packet);
            }
        }
    }

    /// The next packet, soon.
    fn answer(&mut self) -> anyhow::Result<Packet> {
        let before = self.transport.deadline;
        let soon = Instant::now() + PATIENCE;
        self.transport.deadline = Some(before.map_or(soon, |deadline| deadline.min(soon)));
        let packet = self.receive();
        self.transport.deadline = before;
        packet
    }

    const fn id(&mut self) -> u16 {
        self.last_id = if self.last_id == u16::MAX {
            1
        } else {
            self.last_id + 1
        };
        self.last_id
    }

    /// Handles the answer to a publish: whether anything took the message, and whether the publish is over.
    fn confirmed(&mut self, packet: Packet) -> anyhow::Result<(bool, bool)> {
        let (ack, over) = match packet {
            Packet::PubRec(ack) => (ack, false),
            Packet::PubAck(ack) | Packet::PubComp(ack) => (ack, true),
            other => bail!("the broker sent {} to a publisher", other.name()),
        };
        refused("the message", ack.reason, &ack.properties)?;
        if !over {
            let release = AckPacket::new(ack.packet_id, ReasonCode::SUCCESS);
            self.send(&Packet::PubRel(release))?;
        }
        Ok((ack.reason != ReasonCode::NO_MATCHING_SUBSCRIBERS, over))
    }
}

impl Client for MqttClient {
    fn publish(&mut self, message: &Outgoing, copies: u64) -> anyhow::Result<bool> {
        let properties = publish_properties(&message.properties)?;
        for _ in 0..copies {
            let packet_id = (message.qos > 0).then(|| self.id());
            self.send(&Packet::Publish(Publish {
                dup: false,
                qos: message.qos,
                retain: message.retain,
                topic: self.topic.clone(),
                packet_id,
                properties: properties.clone(),
                payload: message.body.clone(),
            }))?;
        }
        let mut matched = true;
        let mut open = if message.qos > 0 { copies } else { 0 };
        while open > 0 {
            let packet = self.answer()?;
            let (took, over) = self.confirmed(packet)?;
            matched &= took;
            open -= u64::from(over);
        }
        Ok(matched)
    }

    fn subscribe(&mut self, ack: Ack, qos: u8) -> anyhow::Result<()> {
        ensure!(
            ack != Ack::Release,
            "MQTT has no way to give a message back: use --ack accept, none or reject"
        );
        self.ack = ack;
        let packet_id = self.id();
        let options = Options {
            qos: if ack == Ack::None { 0 } else { qos },
            ..Options::default()
        };
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: Properties::default(),
            filters: vec![(self.topic.clone(), options)],
        }))?;
        let granted = loop {
            match self.answer()? {
                Packet::SubAck(granted) => break granted,
                // MQTT 5, 3.8.4: deliveries may come before the SUBACK.
                early @ Packet::Publish(_) => self.early.push_back(early),
                other => bail!("the broker answered SUBSCRIBE with {}", other.name()),
            }
        };
        let code = granted.codes.first().copied().unwrap_or_default();
        refused("the subscription", ReasonCode(code), &granted.properties)
    }

    fn next(&mut self) -> anyhow::Result<Received> {
        loop {
            let packet = match self.early.pop_front() {
                Some(early) => early,
                None => self.receive()?,
            };
            if let Packet::Publish(publish) = packet {
                self.current = publish.packet_id.map(|id| (publish.qos, id));
                return Ok(Received {
                    source: publish.topic.as_str().to_owned(),
                    properties: received_properties(&publish),
                    body: publish.payload,
                });
            }
        }
    }

    fn settle(&mut self, last: bool) -> anyhow::Result<()> {
        if last {
            // Before the last acknowledgement frees the window: what were delivered then would be lost with the session.
            let packet_id = self.id();
            self.send(&Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties: Properties::default(),
                filters: vec![self.topic.clone()],
            }))?;
        }
        let Some((qos, id)) = self.current.take() else {
            return Ok(());
        };
        let reason = match self.ack {
            Ack::Reject => ReasonCode::UNSPECIFIED_ERROR,
            Ack::Accept | Ack::None | Ack::Release => ReasonCode::SUCCESS,
        };
        let ack = AckPacket::new(id, reason);
        if qos == 1 {
            return self.send(&Packet::PubAck(ack));
        }
        if !reason.is_failure() {
            self.received.push(id);
        }
        self.send(&Packet::PubRec(ack))
    }

    fn close(&mut self) -> anyhow::Result<()> {
        self.transport.deadline = Some(Instant::now() + PATIENCE);
        // Each is over when its PUBREL has come; deliveries that come too stay the broker's.
        while !self.received.is_empty() {
            self.step()?;
        }
        self.send(&Packet::Disconnect(Farewell::default()))?;
        self.transport.close();
        Ok(())
    }
}

/// An error in the broker's words, if the reason is a failure.
fn refused(what: &str, reason: ReasonCode, properties: &Properties) -> anyhow::Result<()> {
    if !reason.is_failure() {
        return Ok(());
    }
    let detail = properties.0.iter().find_map(|property| match property {
        Property::ReasonString(text) => Some(format!(": {}", text.as_str())),
        _ => None,
    });
    let server = properties.0.iter().find_map(|property| match property {
        Property::ServerReference(text) => Some(format!("; it names {}", text.as_str())),
        _ => None,
    });
    bail!(
        "the broker refused {what}: {} (0x{:02X}){}{}",
        reason.words(),
        reason.0,
        detail.unwrap_or_default(),
        server.unwrap_or_default()
    )
}

fn publish_properties(properties: &[(String, String)]) -> anyhow::Result<Properties> {
    let text = |text: &str| {
        Text::try_from(text.to_owned()).with_context(|| format!("{text:?} is not possible in MQTT"))
    };
    let mut list = Vec::new();
    for (name, value) in properties {
        list.push(match &**name {
            "content-type" => Property::ContentType(text(value)?),
            "correlation-id" => Property::CorrelationData(Bytes::from(value.clone())),
            "reply-to" => Property::ResponseTopic(text(value)?),
            _ => Property::UserProperty(text(name)?, text(value)?),
        });
    }
    Ok(Properties(list))
}

fn received_properties(publish: &Publish) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut add = |name: &str, value: &str| list.push((name.to_owned(), value.to_owned()));
    if publish.retain {
        add("retain", "true");
    }
    for property in &publish.properties.0 {
        match property {
            Property::ContentType(text) => add("content-type", text.as_str()),
            Property::CorrelationData(data) => {
                add("correlation-id", &String::from_utf8_lossy(data));
            }
            Property::ResponseTopic(text) => add("reply-to", text.as_str()),
            Property::MessageExpiryInterval(seconds) => add("expires-in", &seconds.to_string()),
            Property::UserProperty(name, value) => add(name.as_str(), value.as_str()),
            _ => {}
        }
    }
    list
}
