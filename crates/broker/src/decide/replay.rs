//! Retained messages shown to a new subscription, in slices: one command holds up nobody, however many match (RULES 9).
//!
//! The first slice belongs to the SUBSCRIBE; what it leaves is a topic behind which the next goes on, in turn with the
//! deliveries of queues, as far as the client session's queue and outbox have room. For a durable session that topic is in
//! the journal, so that neither a lost connection nor a crash ends the showing.

use message::{Levels, Pattern};
use session::{ConsumerId, SessionId, SubscriptionOptions};
use smallvec::{SmallVec, smallvec};

use super::{draft::Draft, publish::delivery_bytes};
use crate::{
    Broker, Content, Effect, OutLane, Outgoing, PendingDelivery, Wait,
    change::{ClientNo, Enqueued, Entrant, Kind, Replayed, RetainedGone, is_soft},
    counters::Tally,
    queue::{Rare, flag},
};

/// Nodes of the tree of retained topics looked at for each message that may be shown.
const VISITS_EACH: usize = 16;

/// The subscription that is shown something.
pub(super) struct Shown<'a> {
    pub(super) session: SessionId,
    pub(super) client: ClientNo,
    pub(super) pattern: &'a Pattern,
    pub(super) options: &'a SubscriptionOptions,
}

impl Broker {
    /// The next slice of the client session whose turn it is.
    pub(super) fn go_on_showing(&self, number: ClientNo, limit: usize, draft: &mut Draft<'_>) {
        let rest = Kind::ReplayRests(number);
        let Some(client) = self.client(number) else {
            return draft.change(rest);
        };
        let session = self.connection_of(number);
        let (Some(session), Some((pattern, after))) =
            (session, client.rare.replays.first_key_value())
        else {
            return draft.change(rest);
        };
        let done = Replayed {
            client: number,
            pattern: pattern.clone(),
            upto: None,
        };
        let Some(options) = client.subscriptions.get(pattern) else {
            return draft.change(Kind::Replayed(Box::new(done)));
        };
        let to = Shown {
            session,
            client: number,
            pattern,
            options,
        };
        let limit = limit.min(self.config.replay_slice as usize);
        let upto = self.show_retained(&to, Some(after), limit, draft);
        if upto.as_ref() == Some(after) {
            return draft.change(rest);
        }
        draft.change(Kind::Replayed(Box::new(Replayed { upto, ..done })));
    }

    /// Shows the retained messages that match, behind `after` in the order of their topics (DOORS 18). Returns up to where
    /// that is done, unless all are.
    pub(super) fn show_retained(
        &self,
        to: &Shown<'_>,
        after: Option<&Levels>,
        limit: usize,
        draft: &mut Draft<'_>,
    ) -> Option<Levels> {
        let (client, attached) = (self.client(to.client)?, self.attached(to.session)?);
        let tree = self.durable.retained.get(&client.vhost)?;
        let max = self
            .soft
            .connected
            .get(&to.client)
            .and_then(|connected| connected.message_len_max);
        let mut room_used = attached.room_used;
        let mut identifiers: SmallVec<[u32; 2]> = SmallVec::new();
        if to.options.identifier != 0 {
            identifiers.push(to.options.identifier);
        }
        let mut left = limit.max(1);
        // Where it goes on when there is no room for the next: behind the one before.
        let mut shown = after.cloned();
        let mut full = false;
        let upto = tree.show_matches(to.pattern, after, left * VISITS_EACH, |key, retained| {
            // [MQTT-3.8.4-8]; each is marked [MQTT3-3.3.1-8].
            let qos = to.options.qos.min(retained.qos);
            let over = retained.expiry.is_some_and(|expiry| expiry <= draft.now);
            let too_large = max.is_some_and(|max| retained.len > max);
            if over {
                draft.change(Kind::RetainedGone(Box::new(RetainedGone {
                    vhost: client.vhost,
                    key: key.clone(),
                })));
            } else if too_large {
                draft.count(Tally::DroppedTooLarge, 1);
            } else if qos == 0 {
                full = room_used >= self.config.outbox_qos0_bytes_max;
                if full {
                    return false;
                }
                let bytes = delivery_bytes(retained.len);
                room_used += bytes;
                let delivery = PendingDelivery {
                    retain: true,
                    subscriptions: identifiers.clone(),
                    ..PendingDelivery::first(ConsumerId::CLIENT, retained.since)
                };
                let content = Content::Stored(retained.stored, retained.len);
                draft.change(Kind::Sent {
                    to: smallvec![to.session],
                    bytes,
                });
                draft.effect(Effect::Deliver {
                    to: to.session,
                    lane: OutLane::Consumer(ConsumerId::CLIENT),
                    wait: Wait::Stored(retained.stored),
                    delivery: Outgoing::new(delivery, content),
                    bytes,
                });
            } else {
                full = draft.held(self, client.queue).0 >= self.config.replay_held_max;
                if full {
                    return false;
                }
                self.make_own_queue(to.client, client, draft);
                draft.entry_comes(client.queue, retained.len, false);
                let rare = Rare {
                    expiry: retained.expiry,
                    subscriptions: identifiers.clone(),
                    ..Rare::default()
                };
                let entrant = Entrant {
                    queue: client.queue,
                    qseq: draft.number(self, client.queue),
                    flags: u16::from(qos) | flag::RETAIN,
                    priority: 0,
                    rare: rare.boxed(),
                    soft: is_soft(client.queue),
                };
                draft.change(Kind::Enqueued(Box::new(Enqueued {
                    stored: Some((retained.stored, retained.len)),
                    targets: SmallVec::from_iter([entrant]),
                    ..Enqueued::default()
                })));
            }
            shown = Some(key.clone());
            left -= 1;
            left > 0
        });
        if full {
            // An empty topic is in front of all: nothing was shown yet.
            return Some(shown.unwrap_or_else(Levels::none));
        }
        upto
    }
}
