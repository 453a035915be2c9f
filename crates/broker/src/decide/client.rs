//! Connections that come and go, client sessions, wills.

use std::sync::Arc;

use bytes::Bytes;
use message::{Message, VhostId};
use session::{
    ClientExpiry, CloseReason, ConsumerId, DeathReason, DeliveryId, Event, Lane, OpenClient,
    Outcome, QueueId, RefusalKind, SessionId, Will,
};

use super::{
    consumer_lane,
    declare::two_words,
    draft::Draft,
    publish::{Asked, Missing, Placed},
    refusal,
};
use crate::{
    Broker, Context, Decision, Effect, SessionInfo, Wait,
    change::{
        ClientAway, ClientEnded, ClientNo, ClientOpened, Inbound, Kind, QueueDeclared, Ranges,
        Settled, Settlement, expiry_ms, is_soft,
    },
    counters::Tally,
    durable::Client,
    queue::{Runs, flag},
};

/// How a client session loses its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// In order: the will is discarded.
    Quietly,
    /// The will is due, after its delay.
    WithWill,
}

/// An identifier for a client that brought none, in the form that MQTT users know: `auto-` and a UUID.
fn made_up_client_id(random: u64, salt: u64) -> Bytes {
    let (high, low) = two_words(random, salt);
    let text = format!(
        "auto-{:08X}-{:04X}-{:04X}-{:04X}-{:012X}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff,
    );
    Bytes::from(text)
}

impl Broker {
    /// A connection has been authenticated.
    pub fn decide_attach(
        &self,
        id: SessionId,
        who: &SessionInfo,
        cx: &Context,
        out: &mut Decision,
    ) {
        let mut draft = Draft::new(cx, out);
        draft.change(Kind::Attached {
            session: id,
            vhost: who.vhost,
            user: Arc::clone(&who.user),
            broker: who.broker,
        });
    }

    /// A connection is gone: what is out to it is available again, its exclusive queues go, its client session waits or ends.
    pub fn decide_detach(&self, id: SessionId, cx: &Context, out: &mut Decision) {
        let mut draft = Draft::new(cx, out);
        if let Some((number, _)) = self.client_of(id) {
            let expiry = self.client(number).and_then(|client| client.expiry_ms);
            self.leave(number, expiry, Leaving::WithWill, &mut draft);
        }
        self.detach(id, &mut draft);
        self.make_room(&mut draft);
    }

    /// Everything of a connection but its client session.
    fn detach(&self, id: SessionId, draft: &mut Draft<'_>) {
        let Some(attached) = self.attached(id) else {
            return;
        };
        for (queue, held) in attached.touched.iter() {
            self.dead_letter_spent(*queue, held, draft);
        }
        for queue in &attached.rare.owned {
            let effects = draft.effects_len();
            self.delete_queue(*queue, draft);
            let changes = draft.changes_len();
            draft.roll_back(changes, effects);
        }
        let mut read: Vec<QueueId> = attached
            .consumers
            .values()
            .map(|consumer| consumer.queue)
            .collect();
        read.sort_unstable();
        read.dedup();
        for queue in read {
            if !attached.rare.owned.contains(&queue) {
                self.drop_if_unused(queue, id, None, draft);
            }
        }
        draft.change(Kind::Detached(id));
    }

    /// What is out to a connection that goes and may not be delivered again is dead-lettered rather than released.
    fn dead_letter_spent(&self, id: QueueId, held: &Runs, draft: &mut Draft<'_>) {
        let Some(queue) = self
            .queue(id)
            .filter(|queue| queue.attributes().deliveries_max.is_some())
        else {
            return;
        };
        for qseq in held.iter() {
            let spent = self.entry(id, qseq).is_some_and(|view| {
                self.is_spent(queue, view.count) && view.flags & flag::LINKED == 0
            });
            if spent {
                self.dead_letter(id, qseq, DeathReason::Deliveries, draft);
            }
        }
    }

    pub(super) fn decide_open(&self, from: SessionId, open: &OpenClient, draft: &mut Draft<'_>) {
        let changes = draft.changes_len();
        let effects = draft.effects_len();
        if let Err(refusal) = self.open(from, open, draft) {
            draft.roll_back(changes, effects);
            self.refuse(from, Lane::default(), open.token, refusal, draft);
        }
    }

    fn open(
        &self,
        from: SessionId,
        open: &OpenClient,
        draft: &mut Draft<'_>,
    ) -> Result<(), session::Refusal> {
        let Some(attached) = self.attached(from) else {
            return Ok(());
        };
        if attached.client.is_some() {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                "this connection has a client session",
            ));
        }
        self.check_will(open.will.as_deref())?;
        let client_id = if open.client_id.is_empty() {
            made_up_client_id(draft.random, from.0)
        } else {
            Bytes::copy_from_slice(&open.client_id)
        };
        let vhost = attached.vhost;
        let known = self
            .soft
            .client_ids
            .get(&(vhost, client_id.clone()))
            .copied()
            .and_then(|number| Some((number, self.client(number)?)));
        // Another user must not inherit what was meant for the first.
        // [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.4-4].
        let resumed = known.filter(|(number, client)| {
            !open.clean_start
                && !number.is_soft()
                && client.ends_at.is_none_or(|ends_at| ends_at > draft.now)
                && client
                    .user
                    .as_ref()
                    .is_none_or(|user| *user == attached.user)
        });
        let old_session = known.and_then(|(number, _)| self.connection_of(number));
        if let Some((number, client)) = known {
            if resumed.is_some() {
                if old_session.is_some() {
                    self.leave(
                        number,
                        client.expiry_ms.filter(|ms| *ms > 0),
                        Leaving::WithWill,
                        draft,
                    );
                }
            } else {
                // [MQTT-3.1.2-8] of MQTT 5: a will that waits for its delay is gone when its client is back, also when the
                // client starts anew. What is due already, and what another user left behind, is published.
                let waiting = client.will_at.is_some_and(|will_at| will_at > draft.now)
                    && client.ends_at.is_none_or(|ends_at| ends_at > draft.now);
                let same = client
                    .user
                    .as_ref()
                    .is_none_or(|user| *user == attached.user);
                let leaving = if old_session.is_none() && waiting && same {
                    Leaving::Quietly
                } else {
                    Leaving::WithWill
                };
                self.leave(number, Some(0), leaving, draft);
            }
        } else if self.counters.clients >= self.config.clients_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many client sessions",
            ));
        }
        if let Some(old) = old_session {
            self.detach(old, draft);
            draft.effect(Effect::Close {
                session: old,
                reason: CloseReason::TakenOver,
            });
        }
        let soft = open.expiry == ClientExpiry::WithConnection;
        let (number, queue) = match resumed {
            // [MQTT-3.1.2-5]
            Some((number, client)) => (number, client.queue),
            None => {
                // [MQTT-3.1.2-6]
                self.check_queue_room(draft)?;
                let number = draft.new_client(self, soft);
                let queue = draft.new_queue(self, soft);
                if !soft {
                    draft.change(self.own_queue(number, vhost, queue));
                }
                (number, queue)
            }
        };
        draft.change(Kind::ClientOpened(Box::new(ClientOpened {
            client: number,
            vhost,
            client_id: client_id.clone(),
            user: Some(Arc::clone(&attached.user)),
            queue,
            expiry_ms: expiry_ms(open.expiry),
            will: open.will.clone(),
            session: Some(from),
            window: open.window.max(1),
            message_len_max: open.message_len_max,
        })));
        draft.reply(
            from,
            Lane::default(),
            if soft && resumed.is_none() && known.is_none() {
                Wait::Nothing
            } else {
                Wait::Durable
            },
            Event::Opened {
                token: open.token,
                client_id,
                present: resumed.is_some(),
            },
        );
        if resumed.is_some() {
            self.resume_sources(from, number, draft);
            let received: Vec<DeliveryId> = self
                .soft_queue(queue)
                .out
                .keys()
                .filter(|qseq| self.is_received(queue, *qseq))
                .map(|qseq| DeliveryId { queue, qseq })
                .collect();
            draft.tell(
                from,
                consumer_lane(ConsumerId::CLIENT),
                Wait::Durable,
                Event::Resumed { received },
            );
        }
        Ok(())
    }

    /// Makes the own queue of a client session that is to have something in it, if there is none. That of a session which ends
    /// with its connection is made only then: most never have anything in theirs, and a hundred thousand of them are idle.
    pub(super) fn make_own_queue(&self, number: ClientNo, client: &Client, draft: &mut Draft<'_>) {
        let queue = client.queue;
        if !is_soft(queue) || self.soft.queues.contains_key(&queue) || !draft.makes_own(queue) {
            return;
        }
        draft.change(self.own_queue(number, client.vhost, queue));
        if let Some(connected) = self.soft.connected.get(&number) {
            draft.change(Kind::ConsumerAdded(Box::new(connected.consumer(queue))));
        }
    }

    fn own_queue(&self, number: ClientNo, vhost: VhostId, queue: QueueId) -> Kind {
        Kind::QueueDeclared(Box::new(QueueDeclared {
            queue,
            vhost,
            options: Arc::clone(self.soft.shared_options.of_clients(!number.is_soft())),
            client: Some(number),
            ..QueueDeclared::default()
        }))
    }

    fn check_will(&self, will: Option<&Will>) -> Result<(), session::Refusal> {
        let Some(will) = will else { return Ok(()) };
        if will.message.body.len() as u64 > self.config.will_len_max {
            return Err(refusal(RefusalKind::TooLarge, "the will is too large"));
        }
        Ok(())
    }

    pub(super) fn decide_close(
        &self,
        from: SessionId,
        publish_will: bool,
        expiry: Option<ClientExpiry>,
        draft: &mut Draft<'_>,
    ) {
        let Some((number, client)) = self.client_of(from) else {
            return;
        };
        let expiry = expiry.map_or(client.expiry_ms, expiry_ms);
        let leaving = if publish_will {
            Leaving::WithWill
        } else {
            Leaving::Quietly
        };
        self.leave(number, expiry, leaving, draft);
        self.detach(from, draft);
        let Some(attached) = self.attached(from) else {
            return;
        };
        // The connection stands until the node says that it is gone; it has nothing any more.
        draft.change(Kind::Attached {
            session: from,
            vhost: attached.vhost,
            user: Arc::clone(&attached.user),
            broker: attached.broker,
        });
    }

    /// [MQTT-3.1.2-7], [MQTT-3.1.2-8], [MQTT3-3.1.2-12]: the will is part of the client session, and due here unless it was discarded.
    /// A client session loses its connection: it waits `expiry_ms` (`None`: for ever), or ends at once.
    fn leave(
        &self,
        number: ClientNo,
        expiry_ms: Option<u64>,
        leaving: Leaving,
        draft: &mut Draft<'_>,
    ) {
        let Some(client) = self.client(number) else {
            return;
        };
        let ends = number.is_soft() || expiry_ms == Some(0);
        let will = client
            .will
            .as_deref()
            .filter(|_| leaving == Leaving::WithWill);
        if let Some(will) = will
            && (ends || will.delay_ms == 0)
        {
            self.publish_will(number, will, draft);
        }
        if ends {
            self.end_client(number, draft);
            return;
        }
        self.drop_links(number, false, draft);
        draft.change(Kind::ClientAway(ClientAway {
            client: number,
            ends_at: expiry_ms.map(|ms| draft.now.plus_ms(ms)),
            will_at: will.filter(|will| will.delay_ms > 0).map(|will| {
                draft
                    .now
                    .plus_ms(will.delay_ms.min(expiry_ms.unwrap_or(u64::MAX)))
            }),
        }));
    }

    /// A client session ends, and not while its connection stands [MQTT-4.1.0-1], with its queue, its subscriptions, and the shared queues that it was the last to read.
    pub(super) fn end_client(&self, number: ClientNo, draft: &mut Draft<'_>) {
        let Some(client) = self.client(number) else {
            return;
        };
        self.drop_links(number, true, draft);
        draft.leaves(number);
        draft.change(Kind::ClientEnded(ClientEnded {
            client: number,
            doomed: self.empties_slowly(client.queue),
        }));
        for source in &client.rare.sources {
            self.drop_share_left(source.queue, number, draft);
        }
    }

    /// DOORS 19: deliveries of QoS 1 that came out of other queues are released at once; those of QoS 2 stay until the
    /// session ends, then they are dead-lettered, or discarded out of a shared queue ([MQTT-4.8.2-4], [MQTT-4.8.2-5]).
    fn drop_links(&self, number: ClientNo, ends: bool, draft: &mut Draft<'_>) {
        let Some(client) = self.client(number) else {
            return;
        };
        let id = client.queue;
        let Some(queue) = self.queue(id) else { return };
        let stored = queue
            .entries
            .iter_rare()
            .filter_map(|(qseq, rare)| Some((qseq, rare.origin?)));
        let soft = self
            .soft_queue(id)
            .messages
            .iter()
            .filter_map(|(qseq, entry)| Some((qseq, entry.rare.as_ref()?.origin?)));
        let links: Vec<_> = stored.chain(soft).collect();
        let mut released = Ranges::default();
        let mut released_soft = Ranges::default();
        for (qseq, (origin, place)) in links {
            let Some(view) = self.entry(id, qseq) else {
                continue;
            };
            let exactly_once = view.flags & flag::QOS == 2;
            if exactly_once && !ends {
                continue;
            }
            if let Some(from) = self.queue(origin) {
                let outcome = if !exactly_once {
                    Outcome::Release
                } else if from.declared.share.is_some() {
                    Outcome::Accept
                } else {
                    Outcome::Reject
                };
                self.settle_origin(origin, place, view.soft, outcome, draft);
            }
            // When the session ends its queue goes as a whole.
            if !ends && draft.entry_goes(self, id, qseq, view.len) {
                if view.soft {
                    released_soft.push(qseq);
                } else {
                    released.push(qseq);
                }
            }
        }
        for (ranges, soft) in [(released, false), (released_soft, true)] {
            for ranges in ranges.pieces() {
                draft.change(Kind::Settled(Settled {
                    queue: id,
                    ranges,
                    settlement: Settlement::Accept,
                    untried: false,
                    soft,
                }));
            }
        }
    }

    /// Publishes a will, once: the change that follows takes it from its session.
    pub(super) fn publish_will(&self, number: ClientNo, will: &Will, draft: &mut Draft<'_>) {
        let message: Arc<Message> = match will.ttl_ms {
            Some(ttl) => {
                let mut message = Message::clone(&will.message);
                message.expiry = Some(draft.now.plus_ms(ttl));
                Arc::new(message)
            }
            None => Arc::clone(&will.message),
        };
        draft.count(Tally::Will, 1);
        let asked = Asked {
            confirmed: false,
            missing: Missing::Nothing,
            inbound: None,
            publisher: Some(number),
        };
        let mut placed = Placed::default();
        self.place(&message, &asked, &mut placed, draft);
        if placed.refused.is_some() {
            draft.count(Tally::RefusedPublish, 1);
        }
    }

    pub(super) fn decide_release_inbound(&self, from: SessionId, id: u16, draft: &mut Draft<'_>) {
        let mut known = false;
        if let Some((number, client)) = self.client_of(from) {
            known = client.rare.inbound.contains(&id);
            if known {
                // [MQTT-4.3.3-12]
                draft.change(Kind::InboundReleased(Inbound { client: number, id }));
            }
        }
        draft.reply(
            from,
            Lane::default(),
            Wait::Durable,
            Event::InboundReleased { id, known },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::made_up_client_id;

    #[test]
    fn made_up_identifiers_have_the_form_that_mosquitto_gives_them() {
        let names = [(1, 1), (1, 2), (2, 1), (u64::MAX, u64::MAX)]
            .map(|(random, salt)| made_up_client_id(random, salt));
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{name:?} is made up twice");
            let text = std::str::from_utf8(name).expect("ASCII");
            let lens: Vec<usize> = text.split('-').map(str::len).collect();
            assert_eq!(lens, [4, 8, 4, 4, 4, 12], "{text}");
            assert!(text.starts_with("auto-"));
            let digits = text[5..].bytes().filter(|b| *b != b'-');
            assert!({ digits }.all(|b| b.is_ascii_hexdigit()), "{text}");
        }
    }
}
