//! SUBSCRIBE and UNSUBSCRIBE: one command for each filter, one acknowledgement when all are answered.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use session::{
    Command, ConsumerId, Credit, Lane, Output, Refusal, RefusalKind, RetainReplay, Source,
    SubscriptionOptions,
};

use super::{Fault, reply::Reply, wire::Peer};
use crate::{
    Config,
    codec::{
        Options, Packet, Properties, Property, ReasonCode, SubAck, Subscribe, Text, Unsubscribe,
        Version,
    },
    names::{FilterError, Names},
};

/// An acknowledgement in the making.
#[derive(Debug)]
struct Pending {
    serial: u32,
    packet_id: u16,
    unsubscribe: bool,
    codes: Vec<u8>,
    /// Consumers by index of the filter: made by a SUBSCRIBE, or ended by an UNSUBSCRIBE.
    made: Vec<(u16, ConsumerId)>,
    /// Filters without an answer.
    left: usize,
}

#[derive(Debug)]
pub(super) struct Subscriptions {
    config: Arc<Config>,
    window: u16,
    next_serial: u32,
    next_consumer: u32,
    /// There while it is needed: most clients subscribe once, to topics, and are silent then.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    pending: VecDeque<Pending>,
    /// Consumers of queues and shared subscriptions, by filter.
    consumers: BTreeMap<Bytes, u32>,
}

impl Subscriptions {
    pub(super) const fn new(config: Arc<Config>, window: u16) -> Self {
        Self {
            config,
            window,
            next_serial: 0,
            next_consumer: 0,
            rare: None,
        }
    }

    fn begin(&mut self, packet_id: u16, unsubscribe: bool, count: usize) -> Pending {
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        Pending {
            serial,
            packet_id,
            unsubscribe,
            codes: Vec::with_capacity(count),
            made: Vec::new(),
            left: 0,
        }
    }

    /// [MQTT-2.2.1-3]: the identifier of a SUBSCRIBE or UNSUBSCRIBE that waits for its answer. Before MQTT 5 there is no word for it.
    fn is_in_use(&self, packet_id: u16, peer: &Peer) -> bool {
        peer.version == Version::V5
            && self
                .rare
                .iter()
                .flat_map(|rare| &rare.pending)
                .any(|pending| pending.packet_id == packet_id)
    }

    /// SUBSCRIBE.
    pub(super) fn on_subscribe(
        &mut self,
        subscribe: Subscribe,
        peer: &Peer,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let identifier = subscribe
            .properties
            .0
            .iter()
            .find_map(|property| match property {
                Property::SubscriptionIdentifier(value) => Some(*value),
                _ => None,
            });
        let mut pending = self.begin(subscribe.packet_id, false, subscribe.filters.len());
        if self.is_in_use(subscribe.packet_id, peer) {
            pending.codes = vec![ReasonCode::PACKET_IDENTIFIER_IN_USE.0; subscribe.filters.len()];
            return finish(pending, peer, out);
        }
        let filters = subscribe.filters.iter().map(|(filter, _)| filter);
        let sources = decode_sources(filters, self.config.names(), peer)?;
        // [MQTT-3.8.3-4]
        let shared = |source: &Option<Source>| matches!(source, Some(Source::Shared { .. }));
        let mut both = sources.iter().zip(&subscribe.filters);
        if both.any(|(source, (_, options))| shared(source) && options.no_local) {
            return Err(Fault::new(
                ReasonCode::PROTOCOL_ERROR,
                "No Local on a shared subscription",
            ));
        }
        for (index, ((filter, options), source)) in
            subscribe.filters.iter().zip(sources).enumerate()
        {
            let Some(source) = source else {
                pending.codes.push(ReasonCode::TOPIC_FILTER_INVALID.0);
                continue;
            };
            // What is asked for is granted [MQTT-3.8.4-7].
            pending.codes.push(options.qos);
            pending.left += 1;
            let reply = Reply::Filter {
                serial: pending.serial,
                index: index as u16,
            };
            let (consumer, made) = self.consumer_for(&source, filter.as_bytes());
            if made {
                pending.made.push((index as u16, consumer));
            }
            let options = subscription_options(*options, identifier.unwrap_or(0), &source);
            out.commands
                .push_back(Command::Subscribe(Box::new(session::Subscribe {
                    token: reply.token(),
                    lane: Lane::default(),
                    consumer,
                    credit: if options.qos == 0 {
                        Credit::Settled
                    } else {
                        Credit::Window(u32::from(self.window))
                    },
                    group: 0,
                    exclusive: false,
                    priority: 0,
                    // DOORS rule 19, RULES 6: packet identifiers come from the client session's own queue.
                    through_client: !matches!(source, Source::Topic { .. }),
                    options,
                    source,
                })));
        }
        self.keep_or_finish(pending, peer, out)
    }

    /// The consumer that reads `source`, and whether it was made for it. A filter that is subscribed to again keeps its
    /// consumer, which gets the new options: a shared subscription that ended in between would lose its messages.
    fn consumer_for(&mut self, source: &Source, filter: &Bytes) -> (ConsumerId, bool) {
        if matches!(source, Source::Topic { .. }) {
            return (ConsumerId::CLIENT, false);
        }
        if let Some(consumer) = self.consumer(filter) {
            return (consumer, false);
        }
        let number = self.next_consumer;
        self.next_consumer = number.wrapping_add(1);
        let rare = self.rare.get_or_insert_default();
        rare.consumers
            .insert(Bytes::copy_from_slice(filter), number);
        (ConsumerId(u64::from(number)), true)
    }

    /// The consumer of a filter that is no topic's.
    fn consumer(&self, filter: &Bytes) -> Option<ConsumerId> {
        let number = self.rare.as_ref()?.consumers.get(filter)?;
        Some(ConsumerId(u64::from(*number)))
    }

    /// UNSUBSCRIBE.
    pub(super) fn on_unsubscribe(
        &mut self,
        unsubscribe: &Unsubscribe,
        peer: &Peer,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let mut pending = self.begin(unsubscribe.packet_id, true, unsubscribe.filters.len());
        if self.is_in_use(unsubscribe.packet_id, peer) {
            pending.codes = vec![ReasonCode::PACKET_IDENTIFIER_IN_USE.0; unsubscribe.filters.len()];
            return finish(pending, peer, out);
        }
        let sources = decode_sources(unsubscribe.filters.iter(), self.config.names(), peer)?;
        for (index, (filter, source)) in unsubscribe.filters.iter().zip(sources).enumerate() {
            let Some(source) = source else {
                pending.codes.push(ReasonCode::TOPIC_FILTER_INVALID.0);
                continue;
            };
            pending.codes.push(ReasonCode::SUCCESS.0);
            pending.left += 1;
            let token = Reply::Filter {
                serial: pending.serial,
                index: index as u16,
            }
            .token();
            if let Some(consumer) = self.consumer(filter.as_bytes()) {
                pending.made.push((index as u16, consumer));
            }
            out.commands
                .push_back(Command::Unsubscribe { token, source });
        }
        self.keep_or_finish(pending, peer, out)
    }

    fn keep_or_finish(
        &mut self,
        pending: Pending,
        peer: &Peer,
        out: &mut Output,
    ) -> Result<(), Fault> {
        if pending.left == 0 {
            return finish(pending, peer, out);
        }
        let rare = self.rare.get_or_insert_default();
        rare.pending.push_back(pending);
        Ok(())
    }

    /// The core has answered for one filter: with a reason code, or with what was granted.
    pub(super) fn on_answer(
        &mut self,
        serial: u32,
        index: u16,
        answer: Answer<'_>,
        peer: &Peer,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let Some(rare) = &mut self.rare else {
            return Ok(());
        };
        let found = rare
            .pending
            .iter()
            .position(|pending| pending.serial == serial);
        let Some(at) = found else {
            return Ok(());
        };
        let pending = &mut rare.pending[at];
        let code = &mut pending.codes[usize::from(index)];
        let gone = match answer {
            Answer::Subscribed => false,
            Answer::Unsubscribed { existed } => {
                if !existed {
                    *code = ReasonCode::NO_SUBSCRIPTION_EXISTED.0;
                }
                true
            }
            Answer::Refused(refusal) => {
                *code = subscribe_reason(refusal, pending.unsubscribe).0;
                !pending.unsubscribe
            }
        };
        if gone {
            for (_, consumer) in pending.made.iter().filter(|(of, _)| *of == index) {
                rare.consumers
                    .retain(|_, number| ConsumerId(u64::from(*number)) != *consumer);
            }
        }
        pending.left -= 1;
        if pending.left == 0 {
            let pending = rare.pending.remove(at).expect("found just before");
            self.give_back();
            return finish(pending, peer, out);
        }
        Ok(())
    }

    /// The queue of a consumer was deleted.
    pub(super) fn on_cancelled(&mut self, consumer: ConsumerId) {
        if let Some(rare) = &mut self.rare {
            rare.consumers
                .retain(|_, number| ConsumerId(u64::from(*number)) != consumer);
        }
        self.give_back();
    }

    /// Keeps no room for nothing.
    fn give_back(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        if rare.pending.is_empty() {
            rare.pending = VecDeque::new();
            if rare.consumers.is_empty() {
                self.rare = None;
            }
        }
    }
}

/// What the filters of one packet read; `None` is a well-formed filter that is not allowed. All are judged before any of
/// them takes effect: a malformed one ends the connection.
fn decode_sources<'a>(
    filters: impl Iterator<Item = &'a Text>,
    names: Names,
    peer: &Peer,
) -> Result<Vec<Option<Source>>, Fault> {
    let decoded = filters.map(|filter| match names.source(filter.as_bytes()) {
        Ok(source) => Ok(Some(source)),
        // [MQTT-4.7.1-1], [MQTT-4.7.1-2], and hundreds of levels, at which Mosquitto too ends the connection.
        Err(error @ (FilterError::Wildcard | FilterError::Bounds)) => Err(error),
        // [MQTT-4.8.2-1], [MQTT-4.8.2-2]; before MQTT 5 there are no rules for them.
        Err(error @ FilterError::Share) if peer.version == Version::V5 => Err(error),
        Err(FilterError::Share | FilterError::ShareOf | FilterError::Name) => Ok(None),
    });
    decoded
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::new(ReasonCode::MALFORMED_PACKET, error.to_string()))
}

/// What the core said about a filter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer<'a> {
    Subscribed,
    Unsubscribed { existed: bool },
    Refused(&'a Refusal),
}

fn subscription_options(options: Options, identifier: u32, source: &Source) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: options.qos,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        // MQTT 5, 4.8.2: no retained message for a shared subscription; DOORS rule 18: none in a queue.
        retain_replay: match (source, options.retain_handling) {
            (Source::Topic { .. }, 0) => RetainReplay::Always,
            (Source::Topic { .. }, 1) => RetainReplay::IfNew,
            _ => RetainReplay::Never,
        },
        identifier,
    }
}

/// SUBACK or UNSUBACK: one [MQTT-3.8.4-1], [MQTT-3.8.4-5], [MQTT-3.10.4-4], [MQTT-3.10.4-6], of the request's identifier
/// [MQTT-2.2.1-6], [MQTT-3.8.4-2], [MQTT-3.10.4-5], with a code for each filter [MQTT-3.8.4-6], in their order [MQTT-3.9.3-1],
/// [MQTT-3.11.3-1].
fn finish(mut pending: Pending, peer: &Peer, out: &mut Output) -> Result<(), Fault> {
    if peer.version < Version::V5 {
        // One failure code [MQTT3-3.9.3-2]; an UNSUBACK says nothing (MQTT 3.1.1, 3.11).
        for code in &mut pending.codes {
            *code = (*code).min(ReasonCode::UNSPECIFIED_ERROR.0);
        }
        if pending.unsubscribe {
            pending.codes.clear();
        }
    }
    let ack = SubAck {
        packet_id: pending.packet_id,
        properties: Properties::default(),
        codes: pending.codes,
    };
    let packet = if pending.unsubscribe {
        Packet::UnsubAck(ack)
    } else {
        Packet::SubAck(ack)
    };
    peer.put_answer(&packet, out)
}

/// The reason code of SUBACK or UNSUBACK for a refusal (MQTT 5, tables 3-8 and 3-9).
fn subscribe_reason(refusal: &Refusal, unsubscribe: bool) -> ReasonCode {
    match refusal.kind {
        RefusalKind::AccessDenied | RefusalKind::BadCredentials => ReasonCode::NOT_AUTHORIZED,
        RefusalKind::NotFound if unsubscribe => ReasonCode::NO_SUBSCRIPTION_EXISTED,
        RefusalKind::NotFound | RefusalKind::InvalidName | RefusalKind::InvalidArgument => {
            ReasonCode::TOPIC_FILTER_INVALID
        }
        RefusalKind::QuotaExceeded
        | RefusalKind::RateExceeded
        | RefusalKind::QueueFull
        | RefusalKind::StorageFull
            if !unsubscribe =>
        {
            ReasonCode::QUOTA_EXCEEDED
        }
        RefusalKind::UnknownDelivery
        | RefusalKind::NotOut
        | RefusalKind::Unexplained
        | RefusalKind::Internal => ReasonCode::UNSPECIFIED_ERROR,
        _ => ReasonCode::IMPLEMENTATION_SPECIFIC,
    }
}
