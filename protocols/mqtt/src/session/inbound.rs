//! What the client publishes: QoS 0 to 2, topic aliases, and the quota of its unacknowledged publishes (our Receive Maximum).
//!
//! Whether an exactly-once publish is a repeat is not known here: the core holds those identifiers, because they outlive
//! the connection. Here they only count against the quota.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use message::{Message, Timestamp, VhostId};
use session::{Command, Lane, Output, PublishOutcome, Refusal, RefusalKind};

use super::{
    Fault,
    reply::Reply,
    topics::{Arrived, Named, Topic, Topics},
    wire::{AckKind, Peer},
};
use crate::{
    Config, Manners,
    codec::{Decoder, Frame, Properties, Property, ReasonCode, Version},
    message::{PropertyFault, Publisher, stamp, take_properties},
    names::SubjectError,
};

#[derive(Debug)]
pub(super) struct Inbound {
    config: Arc<Config>,
    topics: Topics,
    user: Arc<str>,
    /// Publishes that wait for their PUBACK, or for a PUBREC that refuses them.
    unacked: usize,
    /// The session was resumed, so a PUBREL may belong to a PUBLISH of an earlier connection.
    resumed: bool,
    /// Publishes with an identifier that the core was given, and how many of those it has answered, in order.
    asked: u64,
    answered: u64,
    /// Made when it is needed for the first time.
    rare: Option<Box<Rare>>,
}

/// What most connections never have.
#[derive(Debug, Default)]
struct Rare {
    /// Exactly-once publishes of this connection without PUBCOMP, and how often each was repeated.
    exactly_once: BTreeMap<u16, u32>,
    /// Publishes that the session refused itself, each behind so many answers of the core.
    refused: VecDeque<Refused>,
    /// What topic alias n means, at n - 1; for this connection only [MQTT-3.3.2-7].
    aliases: Vec<Option<Arc<Topic>>>,
}

/// A publish that the core is not asked about.
#[derive(Debug)]
struct Refused {
    behind: u64,
    qos: u8,
    packet_id: u16,
    reason: ReasonCode,
}

impl Inbound {
    pub(super) fn new(config: &Arc<Config>, vhost: VhostId, user: Arc<str>, resumed: bool) -> Self {
        Self {
            topics: Topics::new(config.names(), vhost),
            config: Arc::clone(config),
            user,
            unacked: 0,
            resumed,
            asked: 0,
            answered: 0,
            rare: None,
        }
    }

    /// PUBLISH.
    pub(super) fn on_publish(
        &mut self,
        frame: Frame,
        decoder: &Decoder,
        peer: &Peer,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let publish = decoder
            .publish(frame, |name| self.topics.find(name))
            .map_err(|error| Fault::of_packet(&error, peer.manners))?;
        // The acknowledgements have no word for this; a packet that is too large as a whole ends the connection as well.
        if publish.payload.len() > self.config.body_len_max {
            return Err(Fault::new(
                ReasonCode::PACKET_TOO_LARGE,
                format!("the longest body is {} bytes", self.config.body_len_max),
            ));
        }
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        if let Some(packet_id) = packet_id {
            self.check_quota(qos, packet_id, peer)?;
        }
        let named = match peer.version {
            Version::V5 => self.resolve_alias(publish.topic, &publish.properties)?,
            _ => self.topics.name(publish.topic),
        };
        let Named { address, ambiguous } = match named {
            Ok(named) => named,
            // DOORS rule 5
            Err(SubjectError::Reserved) => {
                return self.refuse(qos, packet_id, ReasonCode::NOT_AUTHORIZED, peer, out);
            }
            // As Mosquitto: the connection of a client that sends hundreds of levels ends.
            Err(error @ SubjectError::Bounds) => {
                return Err(Fault::new(ReasonCode::MALFORMED_PACKET, error.to_string()));
            }
        };
        if ambiguous {
            self.config.counters.add_name_ambiguous();
        }
        let mut message = Message::new(address, publish.payload);
        stamp(&mut message, qos, publish.retain);
        if !publish.properties.is_empty() {
            let by = Publisher {
                names: self.topics.names(),
                user: &self.user,
                now,
            };
            match take_properties(&mut message, publish.properties, by) {
                Ok(()) => {}
                Err(fault @ (PropertyFault::PayloadFormat | PropertyFault::UserId)) => {
                    return self.refuse(qos, packet_id, fault.reason(), peer, out);
                }
                Err(fault @ PropertyFault::ResponseTopic) => {
                    return Err(Fault::new(
                        fault.reason(),
                        "response topic is empty or holds a wildcard",
                    ));
                }
            }
        }
        self.asked += u64::from(qos > 0);
        let token = packet_id.map(|id| match qos {
            1 => {
                // At least once: what has this identifier again is another message [MQTT-4.3.2-5].
                self.unacked += 1;
                Reply::PubAck(id).token()
            }
            _ => {
                let rare = self.rare.get_or_insert_default();
                rare.exactly_once
                    .entry(id)
                    .and_modify(|repeats| *repeats += 1)
                    .or_insert(0);
                Reply::PubRec(id).token()
            }
        });
        out.commands.push_back(Command::Publish(session::Publish {
            token,
            lane: Lane::default(),
            message: Arc::new(message),
            mandatory: false,
            // DOORS rule 10: publishing to `$queue/x` makes no queue.
            create: false,
            inbound_id: packet_id.filter(|_| qos == 2),
            or_stream: false,
            hash_key: None,
            folds: true,
        }));
        Ok(())
    }

    /// [MQTT-3.3.4-7]: more than our Receive Maximum. Before MQTT 5 there is none, and the port's room is the limit.
    fn check_quota(&self, qos: u8, packet_id: u16, peer: &Peer) -> Result<(), Fault> {
        let under_way = self.rare.as_ref().map(|rare| &rare.exactly_once);
        let repeats = under_way
            .and_then(|under_way| under_way.get(&packet_id))
            .filter(|_| qos == 2);
        if peer.manners == Manners::Mosquitto && repeats.is_some_and(|repeats| *repeats > 0) {
            return Err(Fault::new(
                ReasonCode::PROTOCOL_ERROR,
                "a publish was repeated instead of released",
            ));
        }
        let repeated = repeats.is_some();
        let out = self.unacked + under_way.map_or(0, BTreeMap::len);
        if peer.version == Version::V5 && !repeated && out >= usize::from(self.config.receive_max) {
            return Err(Fault::new(
                ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
                "more publishes unacknowledged than the receive maximum",
            ));
        }
        Ok(())
    }

    /// Topic Alias (MQTT 5, 3.3.2.3.4), and what else only the state of the connection can judge. Gives what the topic names.
    fn resolve_alias(
        &mut self,
        arrived: Arrived,
        properties: &Properties,
    ) -> Result<Result<Named, SubjectError>, Fault> {
        let mut alias = None;
        for property in &properties.0 {
            match property {
                Property::TopicAlias(value) => alias = Some(*value),
                // [MQTT-3.3.4-6]
                Property::SubscriptionIdentifier(_) => {
                    return Err(Fault::new(
                        ReasonCode::PROTOCOL_ERROR,
                        "a client's PUBLISH carries a subscription identifier",
                    ));
                }
                _ => {}
            }
        }
        let Some(alias) = alias else {
            if arrived.is_empty() {
                return Err(Fault::new(
                    ReasonCode::PROTOCOL_ERROR,
                    "PUBLISH with neither topic name nor topic alias",
                ));
            }
            return Ok(self.topics.name(arrived));
        };
        // [MQTT-3.3.2-9], [MQTT-3.2.2-17], [MQTT-3.2.2-18]; all below are taken [MQTT-3.3.2-12].
        if alias > self.config.topic_alias_in_max {
            return Err(Fault::new(
                ReasonCode::TOPIC_ALIAS_INVALID,
                "topic alias is above the topic alias maximum",
            ));
        }
        let at = usize::from(alias) - 1;
        if !arrived.is_empty() {
            let topic = self.topics.keep(arrived);
            let aliases = &mut self.rare.get_or_insert_default().aliases;
            if aliases.len() <= at {
                aliases.resize(at + 1, None);
            }
            aliases[at] = Some(topic);
        }
        let rare = self.rare.as_ref();
        match rare.and_then(|rare| rare.aliases.get(at)?.as_ref()) {
            Some(topic) => Ok(topic.named()),
            None => Err(Fault::new(
                ReasonCode::PROTOCOL_ERROR,
                "topic alias has no topic",
            )),
        }
    }

    /// Refuses one PUBLISH by itself, in its turn among the acknowledgements [MQTT-4.6.0-2], [MQTT-4.6.0-3]. Where there is no word for it
    /// (QoS 0, or before MQTT 5) the connection ends: nothing is dropped in silence [MQTT3-3.3.5-2].
    fn refuse(
        &mut self,
        qos: u8,
        packet_id: Option<u16>,
        reason: ReasonCode,
        peer: &Peer,
        out: &mut Output,
    ) -> Result<(), Fault> {
        match packet_id {
            Some(packet_id) if peer.version == Version::V5 => {
                self.unacked += 1;
                let rare = self.rare.get_or_insert_default();
                rare.refused.push_back(Refused {
                    behind: self.asked,
                    qos,
                    packet_id,
                    reason,
                });
                self.put_refused(peer, out);
                Ok(())
            }
            _ => Err(Fault::new(reason, reason.words())),
        }
    }

    /// Answers the refused publishes whose turn has come.
    fn put_refused(&mut self, peer: &Peer, out: &mut Output) {
        let Some(rare) = &mut self.rare else { return };
        while let Some(first) = rare.refused.front()
            && first.behind <= self.answered
        {
            self.unacked = self.unacked.saturating_sub(1);
            let kind = match first.qos {
                2 => AckKind::Rec,
                _ => AckKind::Ack,
            };
            peer.put_ack(kind, first.packet_id, first.reason, "", out);
            rare.refused.pop_front();
        }
    }

    /// The core has a PUBLISH of QoS 1 or 2 safe, or refuses it: PUBACK or PUBREC [MQTT-3.3.4-1], of its identifier
    /// [MQTT-2.2.1-5], and not before the message is ours [MQTT-4.3.2-4], [MQTT-4.3.3-8].
    pub(super) fn on_published(
        &mut self,
        kind: AckKind,
        packet_id: u16,
        outcome: &PublishOutcome,
        peer: &Peer,
        out: &mut Output,
    ) -> Result<(), Fault> {
        self.answered += 1;
        if kind == AckKind::Ack {
            self.unacked = self.unacked.saturating_sub(1);
        }
        let (reason, why) = match outcome {
            // DOORS rule 17
            PublishOutcome::Accepted { matched: 0, .. }
                if kind == AckKind::Ack || peer.manners == Manners::Standard =>
            {
                (ReasonCode::NO_MATCHING_SUBSCRIBERS, "")
            }
            PublishOutcome::Accepted { .. } | PublishOutcome::Duplicate { .. } => {
                (ReasonCode::SUCCESS, "")
            }
            // [MQTT3-3.3.5-2]: what is not permitted is acknowledged all the same, or the connection closed. As
            // in Mosquitto it is acknowledged: a client that was closed would send it again for ever.
            PublishOutcome::Refused(refusal)
                if peer.version < Version::V5 && is_forbidden(refusal.kind) =>
            {
                (ReasonCode::SUCCESS, "")
            }
            PublishOutcome::Refused(refusal) => {
                // [MQTT-4.3.3-9]
                self.forget(packet_id);
                let reason = publish_reason(refusal);
                // MQTT 3.1.1 cannot refuse a publish: closing is left, so that the client still has it.
                if peer.version < Version::V5 {
                    return Err(Fault::ours(reason, refusal.detail.to_string()));
                }
                (reason, &*refusal.detail)
            }
        };
        peer.put_ack(kind, packet_id, reason, why, out);
        self.put_refused(peer, out);
        Ok(())
    }

    /// An exactly-once publish is under way no longer.
    fn forget(&mut self, packet_id: u16) {
        if let Some(rare) = &mut self.rare {
            rare.exactly_once.remove(&packet_id);
        }
    }

    /// The exactly-once identifier is free again: PUBCOMP [MQTT-4.3.3-11].
    pub(super) fn on_released(
        &mut self,
        packet_id: u16,
        known: bool,
        peer: &Peer,
        out: &mut Output,
    ) {
        self.forget(packet_id);
        // MQTT 5, 3.7.2.1: an identifier that is not known is no error during recovery.
        let reason = if known || self.resumed {
            ReasonCode::SUCCESS
        } else {
            ReasonCode::PACKET_IDENTIFIER_NOT_FOUND
        };
        peer.put_ack(AckKind::Comp, packet_id, reason, "", out);
    }
}

/// Whether a refusal is one of permission.
const fn is_forbidden(kind: RefusalKind) -> bool {
    matches!(kind, RefusalKind::AccessDenied | RefusalKind::Unexplained)
}

/// The reason code of PUBACK and PUBREC for a refusal (MQTT 5, table 3-4).
fn publish_reason(refusal: &Refusal) -> ReasonCode {
    match refusal.kind {
        RefusalKind::AccessDenied | RefusalKind::BadCredentials => ReasonCode::NOT_AUTHORIZED,
        RefusalKind::QuotaExceeded
        | RefusalKind::RateExceeded
        | RefusalKind::TooLarge
        | RefusalKind::QueueFull
        | RefusalKind::StorageFull => ReasonCode::QUOTA_EXCEEDED,
        RefusalKind::NotFound | RefusalKind::InvalidName => ReasonCode::TOPIC_NAME_INVALID,
        RefusalKind::Inequivalent
        | RefusalKind::Locked
        | RefusalKind::InUse
        | RefusalKind::NotEmpty
        | RefusalKind::InvalidArgument
        | RefusalKind::NotImplemented
        | RefusalKind::NotActive => ReasonCode::IMPLEMENTATION_SPECIFIC,
        RefusalKind::UnknownDelivery
        | RefusalKind::NotOut
        | RefusalKind::Unexplained
        | RefusalKind::Internal => ReasonCode::UNSPECIFIED_ERROR,
    }
}
