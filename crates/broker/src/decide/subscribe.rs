//! Consumers of queues, subscriptions of client sessions, and the retained messages that a subscription is shown.

use std::sync::Arc;

use bytes::Bytes;
use message::{Filter, Name, Pattern, VhostId};
use session::{
    ConsumerId, Credit, Event, Lane, QueueId, QueueOptions, Refusal, RefusalKind, RetainReplay,
    SessionId, Source, Subscribe, Token,
};

use super::{consumer_lane, draft::Draft, refusal, replay::Shown, shown};
use crate::{
    Broker, Wait,
    change::{
        ClientNo, ClientSubscribed, ClientUnsubscribed, ConsumerAdded, Kind, QueueDeclared,
        Replayed, Share, pattern_of,
    },
};

/// A source as it is kept and compared.
pub(super) fn normal(source: &Source) -> Source {
    match source {
        Source::Queue { name, .. } | Source::Named { name } => Source::Queue {
            name: Bytes::copy_from_slice(name),
            create: false,
        },
        Source::Topic { filter } => Source::Topic {
            filter: own_filter(filter),
        },
        Source::Shared { group, filter } => Source::Shared {
            group: Bytes::copy_from_slice(group),
            filter: own_filter(filter),
        },
        // A client session reads a stream as a topic: from the next record on.
        Source::Stream { name, .. } => Source::Stream {
            name: Bytes::copy_from_slice(name),
            from: session::StreamStart::Next,
            group: None,
        },
    }
}

/// A filter as a pattern in memory of its own.
fn own_filter(filter: &Filter) -> Filter {
    use message::FilterLevel;
    let Some(pattern) = pattern_of(filter) else {
        return filter.clone();
    };
    Filter::Pattern(Pattern(
        pattern
            .0
            .into_iter()
            .map(|level| match level {
                FilterLevel::Exact(text) => FilterLevel::Exact(Bytes::copy_from_slice(&text)),
                other => other,
            })
            .collect(),
    ))
}

impl Broker {
    pub(super) fn decide_subscribe(
        &self,
        from: SessionId,
        subscribe: &Subscribe,
        draft: &mut Draft<'_>,
    ) {
        let changes = draft.changes_len();
        let effects = draft.effects_len();
        let decided = match &subscribe.source {
            Source::Named { name } => self.subscribe_named(from, subscribe, name, draft),
            Source::Topic { filter } => self.subscribe_topic(from, subscribe, filter, draft),
            Source::Queue { .. } | Source::Shared { .. } => {
                self.subscribe_queue(from, subscribe, draft)
            }
            Source::Stream { .. } => self.subscribe_stream(from, subscribe, draft),
        };
        if let Err(refusal) = decided {
            draft.roll_back(changes, effects);
            self.refuse(from, subscribe.lane, subscribe.token, refusal, draft);
        }
    }

    /// DOORS 6: a bare name is the queue, if there is one, else the stream.
    fn subscribe_named(
        &self,
        from: SessionId,
        subscribe: &Subscribe,
        name: &Name,
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        if subscribe.through_client {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                "a client session reads a queue or a stream",
            ));
        }
        let vhost = self.attached(from).ok_or_else(not_attached)?.vhost;
        let is_stream = !self.has_queue(vhost, name) && self.has_stream(vhost, name);
        let name = name.clone();
        let source = if is_stream {
            Source::Stream {
                name,
                from: session::StreamStart::Next,
                group: None,
            }
        } else {
            Source::Queue { name, create: true }
        };
        let subscribe = Subscribe {
            source,
            ..subscribe.clone()
        };
        if is_stream {
            self.subscribe_stream(from, &subscribe, draft)
        } else {
            self.subscribe_queue(from, &subscribe, draft)
        }
    }

    fn subscribe_queue(
        &self,
        from: SessionId,
        subscribe: &Subscribe,
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        let attached = self.attached(from).ok_or_else(not_attached)?;
        if attached.consumers.len() as u64 >= self.config.consumers_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many consumers on one connection",
            ));
        }
        let client = self.client_of(from);
        if subscribe.through_client && client.is_none() {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                "there is no client session to deliver through",
            ));
        }
        let (id, shared) = match &subscribe.source {
            Source::Queue { name, create } => match self.named(attached.vhost, name) {
                Some(id) => (id, false),
                // DOORS 6: a queue that is made here would take the bare name from the stream.
                None if *create && self.has_stream(attached.vhost, name) => {
                    return Err(refusal(
                        RefusalKind::Inequivalent,
                        format!("'{}' is a stream", shown(name)),
                    ));
                }
                None if *create => (self.create_queue(attached.vhost, name, draft)?, false),
                None => {
                    return Err(refusal(
                        RefusalKind::NotFound,
                        format!("no queue '{}'", shown(name)),
                    ));
                }
            },
            Source::Shared { group, filter } => {
                if client.is_none() {
                    return Err(refusal(
                        RefusalKind::InvalidArgument,
                        "a shared subscription needs a client session",
                    ));
                }
                (self.share(attached.vhost, group, filter, draft)?, true)
            }
            Source::Named { .. } | Source::Topic { .. } | Source::Stream { .. } => {
                return Err(refusal(RefusalKind::InvalidArgument, "not a queue"));
            }
        };
        let replaced = self.replaced(from, subscribe, id);
        if self.soft.queues.contains_key(&id) {
            self.check_owner(id, from)?;
            let soft = self.soft_queue(id);
            let attributes = self.queue(id).map(|queue| queue.attributes());
            if subscribe.exclusive && attributes.is_some_and(|it| it.single_active_consumer) {
                return Err(refusal(
                    RefusalKind::InUse,
                    "the queue has a single active consumer, which stands in for an exclusive one",
                ));
            }
            let others = soft
                .consumers
                .values()
                .any(|receiver| Some(receiver.1) != replaced || receiver.0 != from);
            if others && (soft.exclusive || subscribe.exclusive) {
                return Err(refusal(RefusalKind::InUse, "the queue is in exclusive use"));
            }
        }
        if attached.consumers.contains_key(&subscribe.consumer)
            && replaced != Some(subscribe.consumer)
        {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                "there is a consumer of that name",
            ));
        }
        if let Some(old) = replaced {
            draft.change(Kind::ConsumerGone {
                session: from,
                consumer: old,
            });
        }
        if let (true, Some((number, client))) = (subscribe.through_client, client) {
            // What is out to this consumer counts in the window of its client session.
            self.make_own_queue(number, client, draft);
            let source = normal(&subscribe.source);
            let same = client.rare.sources.iter().any(|known| {
                known.source == source
                    && known.options == subscribe.options
                    && known.queue == id
                    && known.priority == subscribe.priority
            });
            if !same {
                draft.change(Kind::ClientSubscribed(Box::new(ClientSubscribed {
                    client: number,
                    source,
                    options: subscribe.options,
                    queue: Some(id),
                    priority: subscribe.priority,
                })));
            }
        }
        draft.change(Kind::ConsumerAdded(Box::new(ConsumerAdded {
            session: from,
            consumer: subscribe.consumer,
            queue: id,
            credit: subscribe.credit,
            group: subscribe.group,
            exclusive: subscribe.exclusive,
            priority: subscribe.priority,
            through_client: subscribe.through_client,
            qos: subscribe.options.qos.min(2),
            shared,
            identifier: subscribe.options.identifier,
        })));
        draft.tell(
            from,
            consumer_lane(subscribe.consumer),
            Wait::Durable,
            Event::Subscribed {
                token: subscribe.token,
            },
        );
        Ok(())
    }

    /// The consumer that a repeated subscription of a client session takes the place of.
    fn replaced(&self, from: SessionId, subscribe: &Subscribe, id: QueueId) -> Option<ConsumerId> {
        if !subscribe.through_client {
            return None;
        }
        self.attached(from)?
            .consumers
            .iter()
            .find(|(_, consumer)| consumer.through_client && consumer.queue == id)
            .map(|(consumer, _)| *consumer)
    }

    /// The queue of a shared subscription, made by the first that shares it (DOORS 19). Durable whoever that is: a durable
    /// session may join later, and must not lose what came before it. One that no durable session reads ends with the epoch.
    fn share(
        &self,
        vhost: VhostId,
        group: &Bytes,
        filter: &Filter,
        draft: &mut Draft<'_>,
    ) -> Result<QueueId, Refusal> {
        let Filter::Pattern(pattern) = own_filter(filter) else {
            return Err(refusal(
                RefusalKind::NotImplemented,
                "such filters are not built",
            ));
        };
        let share = Share {
            group: Bytes::copy_from_slice(group),
            pattern,
        };
        if let Some(id) = self.soft.shares.get(&(vhost, share.clone())) {
            return Ok(*id);
        }
        self.check_queue_room(draft)?;
        let queue = draft.new_queue(self, false);
        draft.change(Kind::QueueDeclared(Box::new(QueueDeclared {
            queue,
            vhost,
            options: Arc::new(QueueOptions {
                durable: true,
                ..QueueOptions::default()
            }),
            share: Some(Box::new(share)),
            ..QueueDeclared::default()
        })));
        Ok(queue)
    }

    fn subscribe_topic(
        &self,
        from: SessionId,
        subscribe: &Subscribe,
        filter: &Filter,
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        let (number, client) = self.client_of(from).ok_or_else(|| {
            refusal(
                RefusalKind::InvalidArgument,
                "a topic subscription needs a client session",
            )
        })?;
        let Filter::Pattern(pattern) = own_filter(filter) else {
            return Err(refusal(
                RefusalKind::NotImplemented,
                "such filters are not built",
            ));
        };
        let known = client.subscriptions.get(&pattern);
        if known.is_none()
            && client.subscriptions.len() as u64 >= self.config.client_subscriptions_max
        {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many subscriptions of one client session",
            ));
        }
        // [MQTT-3.8.4-3]: nothing is lost between the old and the new [MQTT-3.8.4-4], because it is one step.
        if known != Some(&subscribe.options) {
            draft.change(Kind::ClientSubscribed(Box::new(ClientSubscribed {
                client: number,
                source: Source::Topic {
                    filter: Filter::Pattern(pattern.clone()),
                },
                options: subscribe.options,
                queue: None,
                priority: 0,
            })));
        }
        draft.tell(
            from,
            consumer_lane(ConsumerId::CLIENT),
            Wait::Durable,
            Event::Subscribed {
                token: subscribe.token,
            },
        );
        let replay = match subscribe.options.retain_replay {
            // [MQTT-3.3.1-9], [MQTT-3.8.4-4]
            RetainReplay::Always => true,
            // [MQTT-3.3.1-10]
            RetainReplay::IfNew => known.is_none(),
            // [MQTT-3.3.1-11]
            RetainReplay::Never => false,
        };
        if replay {
            let to = Shown {
                session: from,
                client: number,
                pattern: &pattern,
                options: &subscribe.options,
            };
            let limit = self.config.replay_slice as usize;
            if let Some(upto) = self.show_retained(&to, None, limit, draft) {
                draft.change(Kind::Replayed(Box::new(Replayed {
                    client: number,
                    pattern,
                    upto: Some(upto),
                })));
            }
        }
        Ok(())
    }

    pub(super) fn decide_cancel(
        &self,
        from: SessionId,
        token: Token,
        _lane: Lane,
        consumer: ConsumerId,
        draft: &mut Draft<'_>,
    ) {
        let known = self.consumer((from, consumer));
        if let Some(known) = known {
            let queue = known.queue;
            draft.change(Kind::ConsumerGone {
                session: from,
                consumer,
            });
            self.drop_if_unused(queue, from, Some(consumer), draft);
        }
        draft.tell(
            from,
            consumer_lane(consumer),
            Wait::Durable,
            Event::Unsubscribed {
                token,
                existed: known.is_some(),
            },
        );
    }

    /// Deletes an auto-delete queue whose last consumers go with this session, or with that consumer of it.
    pub(super) fn drop_if_unused(
        &self,
        id: QueueId,
        from: SessionId,
        consumer: Option<ConsumerId>,
        draft: &mut Draft<'_>,
    ) {
        let Some(queue) = self.queue(id) else { return };
        let last = self.soft_queue(id).consumers.values().all(|receiver| {
            receiver.0 == from && consumer.is_none_or(|consumer| receiver.1 == consumer)
        });
        if queue.declared.options.auto_delete && last {
            let effects = draft.effects_len();
            self.delete_queue(id, draft);
            // Whoever cancelled need not be told.
            let changes = draft.changes_len();
            draft.roll_back(changes, effects);
        }
    }

    pub(super) fn decide_unsubscribe(
        &self,
        from: SessionId,
        token: Token,
        source: &Source,
        draft: &mut Draft<'_>,
    ) {
        let mut existed = false;
        let mut lane = ConsumerId::CLIENT;
        if let Some((number, client)) = self.client_of(from) {
            let source = normal(source);
            if let Source::Topic { filter } = &source {
                // [MQTT-3.10.4-1], [MQTT-3.10.4-2]: the queue of the client session, with what is in it, stays [MQTT-3.10.4-3].
                existed = pattern_of(filter)
                    .is_some_and(|pattern| client.subscriptions.get(&pattern).is_some());
            } else if let Some(known) = client
                .rare
                .sources
                .iter()
                .find(|known| known.source == source)
            {
                existed = true;
                let consumer = self.attached(from).and_then(|attached| {
                    attached
                        .consumers
                        .iter()
                        .find(|(_, consumer)| {
                            consumer.through_client && consumer.queue == known.queue
                        })
                        .map(|(consumer, _)| *consumer)
                });
                if let Some(consumer) = consumer {
                    lane = consumer;
                    draft.change(Kind::ConsumerGone {
                        session: from,
                        consumer,
                    });
                }
            }
            if existed {
                let queue = client
                    .rare
                    .sources
                    .iter()
                    .find(|known| known.source == source)
                    .map(|known| known.queue);
                draft.change(Kind::ClientUnsubscribed(Box::new(ClientUnsubscribed {
                    client: number,
                    source,
                })));
                if let Some(queue) = queue {
                    self.drop_share_left(queue, number, draft);
                }
            }
        }
        draft.tell(
            from,
            consumer_lane(lane),
            Wait::Durable,
            Event::Unsubscribed { token, existed },
        );
    }

    /// Deletes the queue of a shared subscription whose last client session leaves (DOORS 19).
    pub(super) fn drop_share_left(&self, queue: QueueId, leaver: ClientNo, draft: &mut Draft<'_>) {
        let is_share = self
            .queue(queue)
            .is_some_and(|queue| queue.declared.share.is_some());
        let last = self.soft.sharers.get(&queue).is_none_or(|sharers| {
            sharers
                .iter()
                .all(|sharer| *sharer == leaver || draft.has_left(*sharer))
        });
        if is_share && last {
            let effects = draft.effects_len();
            self.delete_queue(queue, draft);
            let changes = draft.changes_len();
            draft.roll_back(changes, effects);
        }
    }

    /// The consumers of a resumed client session for the queues that it reads through its own.
    pub(super) fn resume_sources(&self, from: SessionId, client: ClientNo, draft: &mut Draft<'_>) {
        /// Above every name that a session chooses, below [`ConsumerId::CLIENT`].
        const RESUMED: u64 = 1 << 62;
        let Some(client) = self.client(client) else {
            return;
        };
        for (at, source) in client.rare.sources.iter().enumerate() {
            let queue = match &source.source {
                Source::Queue { name, .. } => self.named(client.vhost, name),
                _ => self.queue(source.queue).map(|_| source.queue),
            };
            let Some(queue) = queue else { continue };
            draft.change(Kind::ConsumerAdded(Box::new(ConsumerAdded {
                session: from,
                consumer: ConsumerId(RESUMED + at as u64),
                queue,
                credit: Credit::Window(0),
                group: 0,
                exclusive: false,
                priority: source.priority,
                through_client: true,
                qos: source.options.qos.min(2),
                shared: matches!(source.source, Source::Shared { .. }),
                identifier: source.options.identifier,
            })));
        }
    }
}

pub(super) fn not_attached() -> Refusal {
    refusal(RefusalKind::AccessDenied, "not logged in")
}
