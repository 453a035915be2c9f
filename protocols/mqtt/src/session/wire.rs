//! Packets on their way out.

use std::sync::Arc;

use bytes::BufMut;
use session::Output;

use super::Fault;
use crate::{
    Config, Manners,
    codec::{Ack, Connect, Packet, Properties, Property, ReasonCode, Text, Version},
};

/// How this client wants to be written to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) version: Version,
    /// Its Maximum Packet Size.
    pub(super) packet_len_max: u32,
    /// It wants reason strings (Request Problem Information) outside CONNACK and DISCONNECT too.
    pub(super) wants_reasons: bool,
    /// Reasons are told in words (`Config::reason_strings`).
    pub(super) reason_strings: bool,
    pub(super) manners: Manners,
}

pub(super) fn put_packet(packet: &Packet, version: Version, out: &mut Output) {
    out.wire.encode(|buffer| packet.encode(version, buffer));
    out.wire.end_frame();
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckKind {
    Ack,
    Rec,
    Rel,
    Comp,
}

impl Peer {
    /// One of which no more is known than its version.
    pub(super) const fn new(version: Version, config: &Config) -> Self {
        Self {
            version,
            packet_len_max: u32::MAX,
            wants_reasons: true,
            reason_strings: config.reason_strings,
            manners: config.manners,
        }
    }

    /// What CONNECT says of it.
    pub(super) fn of(connect: &Connect, config: &Config) -> Self {
        let mut peer = Self::new(connect.version, config);
        for property in &connect.properties.0 {
            match property {
                Property::MaximumPacketSize(len) => peer.packet_len_max = *len,
                Property::RequestProblemInformation(flag) => peer.wants_reasons = *flag == 1,
                _ => {}
            }
        }
        peer
    }

    /// The longest PUBLISH that the client is sent, in bytes.
    pub(super) const fn publish_len_max(&self) -> usize {
        let uncounted = matches!(self.manners, Manners::Mosquitto) as usize;
        (self.packet_len_max as usize).saturating_add(uncounted)
    }

    /// Writes an answer that cannot be shortened. One that is longer than the client takes ends the connection: there is no
    /// other way not to send it [MQTT-3.1.2-24].
    pub(super) fn put_answer(&self, packet: &Packet, out: &mut Output) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        if bytes.len() > self.packet_len_max as usize {
            return Err(Fault::new(
                ReasonCode::PACKET_TOO_LARGE,
                format!("{} is longer than the client takes", packet.name()),
            ));
        }
        out.wire.put(&bytes);
        out.wire.end_frame();
        Ok(())
    }

    /// Writes an acknowledgement; without a reason to tell these are four bytes. A client may want no reason strings [MQTT-3.1.2-29].
    pub(super) fn put_ack(
        &self,
        kind: AckKind,
        packet_id: u16,
        reason: ReasonCode,
        why: &str,
        out: &mut Output,
    ) {
        let first = match kind {
            AckKind::Ack => 0x40,
            AckKind::Rec => 0x50,
            AckKind::Rel => 0x62,
            AckKind::Comp => 0x70,
        };
        let plain = self.version < Version::V5 || reason == ReasonCode::SUCCESS;
        if plain || why.is_empty() || !self.wants_reasons || !self.reason_strings {
            out.wire.encode(|buffer| {
                buffer.put_u8(first);
                buffer.put_u8(if plain { 2 } else { 3 });
                buffer.put_u16(packet_id);
                if !plain {
                    buffer.put_u8(reason.0);
                }
            });
            out.wire.end_frame();
            return;
        }
        let ack = Ack {
            packet_id,
            reason,
            properties: self.reason_string(why, 16),
        };
        let packet = match kind {
            AckKind::Ack => Packet::PubAck(ack),
            AckKind::Rec => Packet::PubRec(ack),
            AckKind::Rel => Packet::PubRel(ack),
            AckKind::Comp => Packet::PubComp(ack),
        };
        put_packet(&packet, self.version, out);
    }

    /// What CONNACK and DISCONNECT say beside the code: the server to use instead (MQTT 5, 4.11), and a reason string. Of what
    /// would make the packet longer than the client takes, nothing [MQTT-3.1.2-24].
    pub(super) fn reasons(&self, why: &str, server: Option<&Arc<str>>) -> Properties {
        /// What stands around the two texts, at most.
        const AROUND: usize = 16;
        let server = server
            .filter(|server| server.len() + AROUND <= self.packet_len_max as usize)
            .and_then(|server| Text::try_from(server.to_string()).ok());
        let server_len = server
            .as_ref()
            .map_or(0, |server| 3 + server.as_str().len());
        let mut properties = self.reason_string(why, AROUND + server_len);
        properties.0.extend(server.map(Property::ServerReference));
        properties
    }

    /// A reason string, if the packet around it, of `around` bytes, stays below what the client takes:
    /// [MQTT-3.4.2-2], [MQTT-3.5.2-2], [MQTT-3.6.2-2], [MQTT-3.7.2-2].
    pub(super) fn reason_string(&self, why: &str, around: usize) -> Properties {
        if !self.reason_strings {
            return Properties::default();
        }
        let fits = why.len() + around <= self.packet_len_max as usize;
        match Text::try_from(why.to_owned()) {
            Ok(text) if fits && !why.is_empty() => Properties(vec![Property::ReasonString(text)]),
            _ => Properties::default(),
        }
    }
}
