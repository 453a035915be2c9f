//! An MQTT client of any version, over our codec. It answers QoS 1 and 2 by itself unless told not to.

use std::collections::VecDeque;

use ::mqtt::codec::{
    Ack, ConnAck, Connect, Decoder, Limits, Options, Packet, Properties, Property, Publish,
    ReasonCode, SubAck, Subscribe, Text, Unsubscribe, Version,
};
use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};

use super::Transport;

pub(crate) struct Mqtt {
    transport: Transport,
    input: BytesMut,
    decoder: Decoder,
    version: Version,
    last_id: u16,
    /// Deliveries that came while something else was waited for.
    early: VecDeque<Packet>,
}

/// A CONNECT of that client, as `guest`, that keeps its session for ever unless it is to be clean.
pub(crate) fn connect(version: Version, client_id: &str, clean: bool) -> Connect {
    let mut properties = Properties::default();
    if version == Version::V5 && !clean {
        properties.0.push(Property::SessionExpiryInterval(u32::MAX));
    }
    Connect {
        version,
        clean_start: clean,
        keep_alive_s: 0,
        properties,
        client_id: text(client_id),
        will: None,
        user_name: Some("guest".into()),
        password: Some(Bytes::from_static(b"guest")),
    }
}

/// Whether the server had a session; fails on a refusal.
pub(crate) fn present(ack: &ConnAck) -> bool {
    assert_eq!(ack.code, 0, "the connection is refused");
    ack.session_present
}

fn text(text: &str) -> Text {
    Text::try_from(text.to_owned()).expect("our own texts hold no U+0000")
}

impl Mqtt {
    /// Connects, and gives the answer whatever it is.
    pub(crate) fn open(transport: Transport, connect: Connect) -> anyhow::Result<(Self, ConnAck)> {
        let version = connect.version;
        let mut client = Self {
            transport,
            input: BytesMut::new(),
            decoder: Decoder::new(version, Limits::default()),
            version,
            last_id: 0,
            early: VecDeque::new(),
        };
        client.send(&Packet::Connect(Box::new(connect)))?;
        match client.packet()? {
            Packet::ConnAck(ack) => Ok((client, ack)),
            other => bail!("the server answered CONNECT with {}", other.name()),
        }
    }

    /// A clean session that was accepted.
    pub(crate) fn clean(
        transport: Transport,
        version: Version,
        client_id: &str,
    ) -> anyhow::Result<Self> {
        let (client, ack) = Self::open(transport, connect(version, client_id, true))?;
        ensure!(!present(&ack), "a clean session is empty");
        Ok(client)
    }

    pub(crate) fn send(&mut self, packet: &Packet) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        packet.encode(self.version, &mut out);
        self.transport.send(&out)
    }

    /// The next packet of any kind; `None` when the server has closed the connection.
    pub(crate) fn packet_or_end(&mut self) -> anyhow::Result<Option<Packet>> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input)? {
                return Ok(Some(packet));
            }
            if !self.transport.fill(&mut self.input)? {
                return Ok(None);
            }
        }
    }

    /// The next packet of any kind.
    pub(crate) fn packet(&mut self) -> anyhow::Result<Packet> {
        self.packet_or_end()?
            .context("the server closed the MQTT connection")
    }

    /// The next packet that is no delivery.
    fn answer(&mut self) -> anyhow::Result<Packet> {
        loop {
            match self.packet()? {
                delivery @ (Packet::Publish(_) | Packet::PubRel(_)) => {
                    self.early.push_back(delivery);
                }
                other => return Ok(other),
            }
        }
    }

    const fn id(&mut self) -> u16 {
        self.last_id += 1;
        self.last_id
    }

    /// Subscribes; gives the code.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) -> anyhow::Result<u8> {
        let options = Options {
            qos,
            ..Options::default()
        };
        self.subscribe_with(filter, options, Vec::new())
    }

    /// The same with all options and properties.
    pub(crate) fn subscribe_with(
        &mut self,
        filter: &str,
        options: Options,
        properties: Vec<Property>,
    ) -> anyhow::Result<u8> {
        let packet_id = self.id();
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: Properties(properties),
            filters: vec![(text(filter), options)],
        }))?;
        match self.answer()? {
            Packet::SubAck(SubAck { codes, .. }) => {
                codes.first().copied().context("a SUBACK has codes")
            }
            other => bail!("the server answered SUBSCRIBE with {}", other.name()),
        }
    }

    /// Unsubscribes; gives the code, which only MQTT 5 has.
    pub(crate) fn unsubscribe(&mut self, filter: &str) -> anyhow::Result<Option<u8>> {
        let packet_id = self.id();
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: Properties::default(),
            filters: vec![text(filter)],
        }))?;
        match self.answer()? {
            Packet::UnsubAck(SubAck { codes, .. }) => Ok(codes.first().copied()),
            other => bail!("the server answered UNSUBSCRIBE with {}", other.name()),
        }
    }

    /// Publishes and waits until it is confirmed; gives the reason code of the last step.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        body: impl Into<Bytes>,
        qos: u8,
    ) -> anyhow::Result<ReasonCode> {
        self.publish_with(topic, body, qos, false, Vec::new())
    }

    /// The same with a retain flag and properties.
    pub(crate) fn publish_with(
        &mut self,
        topic: &str,
        body: impl Into<Bytes>,
        qos: u8,
        retain: bool,
        properties: Vec<Property>,
    ) -> anyhow::Result<ReasonCode> {
        let packet_id = self.hand_in(topic, body, qos, retain, properties)?;
        let Some(packet_id) = packet_id else {
            return Ok(ReasonCode::SUCCESS);
        };
        match self.answer()? {
            Packet::PubAck(ack) if qos == 1 && ack.packet_id == packet_id => Ok(ack.reason),
            Packet::PubRec(ack) if qos == 2 && ack.packet_id == packet_id => {
                if ack.reason.is_failure() {
                    return Ok(ack.reason);
                }
                self.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::SUCCESS)))?;
                match self.answer()? {
                    Packet::PubComp(done) if done.packet_id == packet_id => Ok(ack.reason),
                    other => bail!("the server answered PUBREL with {}", other.name()),
                }
            }
            other => bail!("the server answered PUBLISH with {}", other.name()),
        }
    }

    /// Publishes and waits for nothing.
    pub(crate) fn hand_in(
        &mut self,
        topic: &str,
        body: impl Into<Bytes>,
        qos: u8,
        retain: bool,
        properties: Vec<Property>,
    ) -> anyhow::Result<Option<u16>> {
        let packet_id = (qos > 0).then(|| self.id());
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            topic: text(topic),
            packet_id,
            properties: Properties(properties),
            payload: body.into(),
        }))?;
        Ok(packet_id)
    }

    /// The next delivery or PUBREL, not answered.
    pub(crate) fn unanswered(&mut self) -> anyhow::Result<Packet> {
        match self.early.pop_front() {
            Some(packet) => Ok(packet),
            None => self.packet(),
        }
    }

    /// The next PUBLISH, not answered.
    pub(crate) fn delivery(&mut self) -> anyhow::Result<Publish> {
        match self.unanswered()? {
            Packet::Publish(publish) => Ok(publish),
            other => bail!("{} came in place of a PUBLISH", other.name()),
        }
    }

    /// The next message, settled: at QoS 2 through all steps.
    pub(crate) fn next(&mut self) -> anyhow::Result<Publish> {
        loop {
            match self.unanswered()? {
                Packet::Publish(publish) => {
                    self.settle(&publish)?;
                    return Ok(publish);
                }
                Packet::PubRel(release) => self.complete(release.packet_id)?,
                other => bail!("{} came in place of a PUBLISH", other.name()),
            }
        }
    }

    /// PUBACK, or PUBREC.
    pub(crate) fn settle(&mut self, publish: &Publish) -> anyhow::Result<()> {
        let Some(packet_id) = publish.packet_id else {
            return Ok(());
        };
        let ack = Ack::new(packet_id, ReasonCode::SUCCESS);
        self.send(&match publish.qos {
            1 => Packet::PubAck(ack),
            _ => Packet::PubRec(ack),
        })
    }

    /// PUBCOMP.
    pub(crate) fn complete(&mut self, packet_id: u16) -> anyhow::Result<()> {
        self.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::SUCCESS)))
    }

    /// Waits until the server has handled everything that was sent before.
    pub(crate) fn ping(&mut self) -> anyhow::Result<()> {
        self.send(&Packet::PingReq)?;
        match self.answer()? {
            Packet::PingResp => Ok(()),
            other => bail!("the server answered PINGREQ with {}", other.name()),
        }
    }

    /// DISCONNECT, and the server's end of the connection.
    pub(crate) fn disconnect(mut self) -> anyhow::Result<()> {
        self.send(&Packet::Disconnect(Default::default()))?;
        while self.packet_or_end()?.is_some() {}
        Ok(())
    }
}
