//! What a connection reads and may not read any more, and what a permission question needs to know of the core.
//!
//! A queue that the core named and that is exclusive to a connection is a part of that connection: it may be read as long as
//! what it is bound to may be. Any other queue is a thing of its own, and so are its bindings. So is a
//! subscription of a topic object: nobody's session, kept for the topic, and what its maker may is asked when it is made or
//! altered.

use std::sync::Arc;

use bytes::Bytes;
use message::{Filter, Message, Name, VhostId};
use session::{Binding, ConsumerId, Event, ExchangeKind, QueueId, RefusalKind, SessionId, Source};

use super::{consumer_lane, draft::Draft, refusal, shown};
use crate::{
    Broker, Context, Decision, Wait,
    change::{ClientEnded, ClientNo, ClientUnsubscribed, Kind},
    durable::Client,
    record::wire::Wire as _,
};

/// What queues start with that the core names itself.
const MADE_UP: &[u8] = b"amq.gen-";

/// Something that a connection reads.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'a> {
    /// A topic filter of its client session, shared or not.
    Topic(&'a Filter),
    /// A queue.
    Queue(&'a Name),
    /// A stream.
    Stream(&'a Name),
    /// What feeds a queue of its own.
    Binding(&'a Binding),
    /// Not read, but kept for it as its subscriptions are: the will of its client session.
    Will(&'a Message),
}

impl Broker {
    /// Whether there is a queue of that name.
    #[must_use]
    pub fn has_queue(&self, vhost: VhostId, name: &Name) -> bool {
        self.named(vhost, name).is_some()
    }

    /// Whether there is a stream of that name.
    #[must_use]
    pub fn has_stream(&self, vhost: VhostId, name: &Name) -> bool {
        self.stream_named(vhost, name).is_some()
    }

    /// The name of a queue.
    #[must_use]
    pub fn name_of(&self, queue: QueueId) -> Option<Name> {
        self.queue(queue).map(|queue| queue.declared.name.clone())
    }

    /// Whether the queue was named by the core, for that connection alone.
    #[must_use]
    pub fn is_own_queue(&self, session: SessionId, vhost: VhostId, name: &Name) -> bool {
        name.starts_with(MADE_UP)
            && self
                .named(vhost, name)
                .is_some_and(|id| self.soft_queue(id).owner == Some(session))
    }

    /// The client id of the connection's client session.
    #[must_use]
    pub fn client_id(&self, session: SessionId) -> Option<Bytes> {
        self.client_of(session)
            .map(|(_, client)| client.client_id.clone())
    }

    /// How an exchange routes.
    #[must_use]
    pub fn exchange_kind(&self, vhost: VhostId, name: &Name) -> Option<ExchangeKind> {
        self.exchange(vhost, name).map(|options| options.kind)
    }

    /// Ends what the connection reads and `may` says no to. Consumers of queues are cancelled and told so. `true`: a
    /// subscription of its client session has ended, for which there is no word.
    pub fn decide_revoke(
        &self,
        session: SessionId,
        may: &dyn Fn(Reading<'_>) -> bool,
        cx: &Context,
        out: &mut Decision,
    ) -> bool {
        let mut draft = Draft::new(cx, out);
        self.revoke_pulls(session, may, &mut draft);
        self.revoke_consumers(session, may, &mut draft);
        self.client_of(session).is_some_and(|(number, client)| {
            self.revoke_subscriptions(number, client, may, &mut draft)
        })
    }

    /// The client sessions that outlive their connections, in no order.
    #[must_use]
    pub fn client_sessions(&self) -> Vec<ClientNo> {
        self.durable.clients.keys().copied().collect()
    }

    /// Where a client session that is away lives, whose it is, and its client id.
    #[must_use]
    pub fn away(&self, number: ClientNo) -> Option<(VhostId, Arc<str>, Bytes)> {
        let client = self.client(number).filter(|client| client.away)?;
        let user = client.user.clone()?;
        Some((client.vhost, user, client.client_id.clone()))
    }

    /// The same as [`Self::decide_revoke`] for a client session that is away.
    pub fn decide_revoke_away(
        &self,
        number: ClientNo,
        may: &dyn Fn(Reading<'_>) -> bool,
        cx: &Context,
        out: &mut Decision,
    ) {
        if let Some(client) = self.client(number).filter(|client| client.away) {
            self.revoke_subscriptions(number, client, may, &mut Draft::new(cx, out));
        }
    }

    /// Pulls that wait for messages of a queue that may not be read are answered with a refusal.
    fn revoke_pulls(
        &self,
        session: SessionId,
        may: &dyn Fn(Reading<'_>) -> bool,
        draft: &mut Draft<'_>,
    ) {
        let Some(attached) = self.attached(session) else {
            return;
        };
        for (token, at) in &attached.rare.pulls {
            let (Some(queue), Some(waiting)) = (
                self.queue(at.queue),
                self.soft_queue(at.queue).pulls.get(at.place),
            ) else {
                continue;
            };
            if may(Reading::Queue(&queue.declared.name)) {
                continue;
            }
            let (session, token) = (session, *token);
            draft.change(Kind::PullEnds { session, token });
            let revoked = refusal(
                RefusalKind::AccessDenied,
                format!(
                    "queue '{}' may not be read any more",
                    shown(&queue.declared.name)
                ),
            );
            self.refuse(session, waiting.lane, token, revoked, draft);
        }
        for (token, at) in &attached.rare.reads {
            let (Some(stream), Some(waiting)) = (
                self.durable.streams.get(&at.stream),
                self.soft.streams[&at.stream]
                    .reads
                    .get(&(at.shard, at.place)),
            ) else {
                continue;
            };
            let name = &stream.declared.name;
            if may(Reading::Stream(name)) {
                continue;
            }
            let (session, token) = (session, *token);
            draft.change(Kind::ReadEnds { session, token });
            let revoked = refusal(
                RefusalKind::AccessDenied,
                format!("stream '{}' may not be read any more", shown(name)),
            );
            self.refuse(session, waiting.lane, token, revoked, draft);
        }
    }

    fn revoke_consumers(
        &self,
        session: SessionId,
        may: &dyn Fn(Reading<'_>) -> bool,
        draft: &mut Draft<'_>,
    ) {
        let Some(attached) = self.attached(session) else {
            return;
        };
        let is_own = |id: QueueId| {
            let queue = self.queue(id);
            attached.rare.owned.contains(&id)
                && queue.is_some_and(|queue| queue.declared.name.starts_with(MADE_UP))
        };
        let mut cut = Vec::new();
        for id in attached.rare.owned.iter().filter(|id| is_own(**id)) {
            for key in self.soft.bound.get(id).into_iter().flatten() {
                let binding = Binding::read(&mut message::Reader::new(key.clone().into()));
                if binding.is_ok_and(|binding| may(Reading::Binding(&binding))) {
                    continue;
                }
                let key = (attached.vhost, key.clone());
                let durable = self.durable.bindings.get(&key);
                if let Some(bound) = durable.or_else(|| self.soft.bindings.get(&key)) {
                    draft.change(Kind::Unbound(Box::new(bound.clone())));
                }
                cut.push(*id);
            }
        }
        for (consumer, reads) in attached.consumers.iter() {
            // What comes through the client session is judged by its subscriptions.
            if reads.through_client || *consumer == ConsumerId::CLIENT {
                continue;
            }
            let id = reads.queue;
            let allowed = if is_own(id) {
                !cut.contains(&id)
            } else if let Some(reader) = self.reader(id) {
                let stream = self.durable.streams.get(&reader.stream);
                stream.is_some_and(|stream| may(Reading::Stream(&stream.declared.name)))
            } else {
                self.queue(id)
                    .is_some_and(|queue| may(Reading::Queue(&queue.declared.name)))
            };
            if !allowed {
                self.revoke_consumer(session, *consumer, id, draft);
            }
        }
    }

    fn revoke_consumer(
        &self,
        session: SessionId,
        consumer: ConsumerId,
        queue: QueueId,
        draft: &mut Draft<'_>,
    ) {
        draft.change(Kind::ConsumerGone { session, consumer });
        self.drop_if_unused(queue, session, Some(consumer), draft);
        draft.tell(
            session,
            consumer_lane(consumer),
            Wait::Durable,
            Event::Cancelled {
                consumer,
                revoked: true,
            },
        );
    }

    fn revoke_subscriptions(
        &self,
        number: ClientNo,
        client: &Client,
        may: &dyn Fn(Reading<'_>) -> bool,
        draft: &mut Draft<'_>,
    ) -> bool {
        let session = self.connection_of(number);
        if let Some(will) = &client.will
            && !may(Reading::Will(&will.message))
        {
            draft.change(Kind::WillDone(ClientEnded {
                client: number,
                doomed: false,
            }));
        }
        let end = |source: Source, draft: &mut Draft<'_>| {
            draft.change(Kind::ClientUnsubscribed(Box::new(ClientUnsubscribed {
                client: number,
                source,
            })));
        };
        let mut ended = false;
        for (pattern, _) in client.subscriptions.iter() {
            let filter = Filter::Pattern(pattern);
            if !may(Reading::Topic(&filter)) {
                end(Source::Topic { filter }, draft);
                ended = true;
            }
        }
        for known in &client.rare.sources {
            let allowed = match &known.source {
                Source::Shared { filter, .. } | Source::Topic { filter } => {
                    may(Reading::Topic(filter))
                }
                Source::Queue { name, .. } | Source::Named { name } => may(Reading::Queue(name)),
                Source::Stream { name, .. } => may(Reading::Stream(name)),
            };
            if allowed {
                continue;
            }
            let attached = session.and_then(|session| Some((session, self.attached(session)?)));
            for (session, (consumer, reads)) in attached
                .into_iter()
                .flat_map(|(session, it)| it.consumers.iter().map(move |it| (session, it)))
            {
                if reads.through_client && reads.queue == known.queue {
                    let consumer = *consumer;
                    draft.change(Kind::ConsumerGone { session, consumer });
                }
            }
            end(known.source.clone(), draft);
            self.drop_share_left(known.queue, number, draft);
            ended = true;
        }
        ended
    }
}
