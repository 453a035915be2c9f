//! What one step of a channel may touch besides the channel itself: the connection's facts, the time, and the output.

use std::sync::Arc;

use bytes::Bytes;
use message::{Timestamp, VhostId};
use session::{
    Command, ConsumerId, DeliveryId, DeliveryRange, Lane, Outcome, Output, Settle, Token,
};
use smallvec::smallvec;

use super::places::Places;
use crate::{
    codec::{self, FRAME_END, FRAME_OVERHEAD, Method, Short, connection},
    config::Config,
    message::{Envelope, Words},
};

/// How far back in the outgoing commands a settlement looks for one to join.
const FOLD_BACK: usize = 4;
/// Ranges of one settlement before another is begun.
const RANGES_MAX: usize = 512;

/// The facts of a connection that its channels share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) vhost: VhostId,
    pub(crate) vhost_name: Arc<str>,
    pub(crate) user: Arc<str>,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    /// The peer understands `basic.cancel` from us.
    pub(crate) cancel_notify: bool,
    /// The peer understands `connection.blocked`.
    pub(crate) blocked_notify: bool,
    /// Why publishes are refused, while they are.
    pub(crate) blocked: Option<&'static str>,
    /// The peer has been told so.
    pub(crate) blocked_told: bool,
    /// The peer has published.
    pub(crate) publishes: bool,
    /// Bodies of all channels that are not whole yet, in bytes.
    pub(crate) assembling: u64,
    /// Frames of all channels that wait behind an unanswered method, in bytes.
    pub(crate) deferred: usize,
    /// Staged in the transactions of all channels, in bytes.
    pub(crate) staged: usize,
    /// Where the peer publishes to.
    pub(crate) places: Places,
    /// Channels that hold back acks until the end of the batch.
    pub(crate) held: Vec<u16>,
    last_number: u64,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            frame_max: config.handshake_frame_len_max,
            channel_max: 0,
            config,
            vhost: VhostId::ROOT,
            vhost_name: Arc::from(""),
            user: Arc::from(""),
            cancel_notify: false,
            blocked_notify: false,
            blocked: None,
            blocked_told: false,
            publishes: false,
            assembling: 0,
            deferred: 0,
            staged: 0,
            places: Places::default(),
            held: Vec::new(),
            last_number: 0,
        }
    }

    /// A number that this connection has not used: for tokens, consumers and the births of channels.
    pub(crate) const fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

/// Channel and number in one token, so that an answer finds its channel.
pub(crate) fn token(channel: u16, number: u64) -> Token {
    Token(u64::from(channel) << 48 | number)
}

/// The reverse of [`token`].
pub(crate) const fn channel_of(token: Token) -> (u16, u64) {
    ((token.0 >> 48) as u16, token.0 & 0xFFFF_FFFF_FFFF)
}

/// Channel and number in one consumer id.
pub(crate) fn consumer_id(channel: u16, number: u32) -> ConsumerId {
    ConsumerId(u64::from(channel) << 32 | u64::from(number))
}

/// One step.
pub(crate) struct Step<'a> {
    pub(crate) shared: &'a mut Shared,
    pub(crate) now: Timestamp,
    pub(crate) out: &'a mut Output,
}

impl Step<'_> {
    pub(crate) fn command(&mut self, command: Command) {
        self.out.commands.push_back(command);
    }

    /// Sends a method.
    pub(crate) fn send(&mut self, channel: u16, method: impl Into<Method>) {
        let method = method.into();
        self.out
            .wire
            .encode(|out| codec::encode_method(out, channel, &method));
        self.out.wire.end_frame();
    }

    /// The peer publishes.
    pub(crate) fn on_publishing(&mut self) {
        self.shared.publishes = true;
        self.tell_blocked();
    }

    /// Tells a peer that publishes, once, that publishes are refused or are taken again. Who only consumes is not told: clients
    /// give up connections that stay blocked, and these are the ones that make room.
    /// [RABBIT-blocked-1].
    pub(crate) fn tell_blocked(&mut self) {
        let told = self.shared.blocked_told;
        match self.shared.blocked {
            Some(reason) if !told && self.shared.publishes && self.shared.blocked_notify => {
                self.shared.blocked_told = true;
                let reason = Short::cut(reason.to_owned());
                self.send(0, connection::Blocked { reason });
            }
            None if told => {
                self.shared.blocked_told = false;
                self.send(0, connection::Unblocked {});
            }
            _ => {}
        }
    }

    /// Whether a content header with these properties fits into a frame.
    pub(crate) fn header_fits(&self, properties: &[u8]) -> bool {
        properties.len() + 12 + FRAME_OVERHEAD <= self.shared.frame_max as usize
    }

    /// Sends a method with content.
    pub(crate) fn send_content(
        &mut self,
        channel: u16,
        method: impl Into<Method>,
        envelope: &Envelope,
        body: &Bytes,
    ) {
        let method = method.into();
        let wire = &mut self.out.wire;
        wire.encode(|out| codec::encode_method(out, channel, &method));
        self.put_content(channel, &envelope.properties, body);
    }

    /// Sends a `basic.deliver` with its content.
    pub(crate) fn send_delivery(
        &mut self,
        channel: u16,
        consumer_tag: &Short,
        how: (u64, bool),
        words: Words<'_>,
        body: &Bytes,
    ) {
        let place = (words.exchange, words.routing_key);
        let wire = &mut self.out.wire;
        wire.encode(|out| codec::encode_deliver(out, channel, consumer_tag, how, place));
        self.put_content(channel, words.properties, body);
    }

    /// A header, and the body cut to the negotiated frame size.
    /// [AMQP-4.2.6.2-2].
    fn put_content(&mut self, channel: u16, properties: &[u8], body: &Bytes) {
        let part_max = (self.shared.frame_max as usize)
            .saturating_sub(FRAME_OVERHEAD)
            .max(1);
        let wire = &mut self.out.wire;
        wire.encode(|out| {
            let len = body.len() as u64;
            codec::encode_header(out, channel, codec::CLASS_BASIC, len, properties);
        });
        let mut at = 0;
        while at < body.len() {
            let end = body.len().min(at + part_max);
            wire.encode(|out| codec::put_body_start(out, channel, end - at));
            if at == 0 && end == body.len() {
                wire.put_body(body);
            } else {
                wire.put_body(&body.slice(at..end));
            }
            wire.put(&[FRAME_END]);
            at = end;
        }
        wire.end_frame();
    }

    /// Settles one delivery. Joins a settlement that is already on its way out, so that the acknowledgements of one read
    /// become few commands with exact ranges; nothing but settlements is passed over, so no order changes.
    pub(crate) fn settle(&mut self, lane: Lane, id: DeliveryId, outcome: Outcome) {
        for command in self.out.commands.iter_mut().rev().take(FOLD_BACK) {
            let Command::Settle(settle) = command else {
                break;
            };
            let same = settle.token.is_none()
                && settle.lane == lane
                && settle.outcome == outcome
                && settle.deliveries.queue == id.queue;
            if !same {
                continue;
            }
            let ranges = &mut settle.deliveries.ranges;
            if let Some((_, last)) = ranges.last_mut()
                && *last + 1 == id.qseq
            {
                *last = id.qseq;
                return;
            }
            if ranges.len() < RANGES_MAX {
                ranges.push((id.qseq, id.qseq));
                return;
            }
        }
        self.command(Command::Settle(settle_one(lane, id, outcome)));
    }
}

/// A settlement of one delivery, without an answer.
pub(crate) fn settle_one(lane: Lane, id: DeliveryId, outcome: Outcome) -> Settle {
    Settle {
        token: None,
        lane,
        deliveries: DeliveryRange {
            queue: id.queue,
            ranges: smallvec![(id.qseq, id.qseq)],
        },
        outcome,
    }
}
