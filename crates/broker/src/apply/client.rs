//! Client sessions: opened, away, ended; what they subscribe to; epochs, which end every connection.

use bytes::Bytes;
use message::{Pattern, VhostId};
use session::{ConsumerId, QueueId, Source, SubscriptionOptions};

use super::{Applying, declare::ROOT};
use crate::{
    Broker,
    change::{
        ClientAway, ClientEnded, ClientNo, ClientOpened, ClientSubscribed, ClientUnsubscribed,
        EpochOpen, SOFT_BIT, is_soft, pattern_of,
    },
    durable::{Client, ClientSource},
    queue::{Runs, flag},
    soft::{Connected, Subscriber, Target, Timer},
};

/// The target in the root space of a client session's subscription.
fn target_of(client: ClientNo, options: &SubscriptionOptions) -> Target {
    Target::Client(Subscriber {
        client,
        qos: options.qos,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        identifier: options.identifier,
    })
}

/// The queue of a source that is none.
const NO_QUEUE: QueueId = QueueId(u64::MAX);

impl Broker {
    pub(crate) fn client_mut(&mut self, number: ClientNo) -> Option<&mut Client> {
        if number.is_soft() {
            self.soft.clients.get_mut(&number).map(Box::as_mut)
        } else {
            self.durable.clients.get_mut(&number).map(Box::as_mut)
        }
    }

    pub(super) fn apply_client_opened(&mut self, it: &ClientOpened) {
        let clients = if it.client.is_soft() {
            self.soft.next_client = self.soft.next_client.max((it.client.0 & !SOFT_BIT) + 1);
            &mut self.soft.clients
        } else {
            self.durable.next_client = self.durable.next_client.max(it.client.0 + 1);
            &mut self.durable.clients
        };
        let count = clients.len();
        let client = clients.entry(it.client).or_default();
        let timers = [
            client.ends_at.map(|at| (at, Timer::ClientEnd(it.client))),
            client.will_at.map(|at| (at, Timer::Will(it.client))),
        ];
        if is_soft(it.queue) {
            self.soft.next_queue = self.soft.next_queue.max((it.queue.0 & !SOFT_BIT) + 1);
        }
        client.vhost = it.vhost;
        client.client_id.clone_from(&it.client_id);
        client.user.clone_from(&it.user);
        client.queue = it.queue;
        client.expiry_ms = it.expiry_ms;
        // A client that is back brings its will with it: the one that waited is gone [MQTT-3.1.3-9].
        client.will.clone_from(&it.will);
        client.away = false;
        client.ends_at = None;
        client.will_at = None;
        if clients.len() > count {
            self.counters.clients += 1;
        }
        for timer in timers.into_iter().flatten() {
            self.soft.timers.remove(&timer);
        }
        self.soft
            .client_ids
            .insert((it.vhost, it.client_id.clone()), it.client);
        let Some(session) = it.session else { return };
        self.leave_replay_round(it.client);
        let connected = Connected {
            session,
            queue: it.queue,
            message_len_max: it.message_len_max,
            replay_at: None,
            window: it.window,
        };
        self.soft.connected.insert(it.client, connected);
        if let Some(attached) = self.soft.sessions.get_mut(&session) {
            attached.client = Some(it.client);
        }
        if !self.soft.queues.contains_key(&it.queue) {
            // It is made when something comes into it.
            return;
        }
        let now = self.durable.time;
        self.apply_consumer_added(&connected.consumer(it.queue), now);
        // [MQTT-4.4.0-1]
        // What the receiver owns counts in its window again.
        let receiver = (session, ConsumerId::CLIENT);
        let credited = self.credited(receiver);
        let mut owned = Runs::default();
        if let Some(soft) = self.soft.queues.get_mut(&it.queue) {
            for (qseq, out) in soft.out.iter_mut() {
                if out.receiver.is_none() {
                    out.receiver = Some(receiver);
                    out.credited = credited;
                    owned.add(qseq);
                }
            }
        }
        if let Some(attached) = self.soft.sessions.get_mut(&session) {
            if let Some(consumer) = attached.consumers.get_mut(&ConsumerId::CLIENT) {
                consumer.out += owned.iter().count() as u32;
            }
            attached.touched.insert(it.queue, owned);
        }
        self.refresh(receiver);
        self.enter_replay_round(it.client);
    }

    pub(super) fn apply_client_away(&mut self, it: &ClientAway) {
        self.leave_replay_round(it.client);
        self.soft.connected.remove(&it.client);
        let Some(client) = self.client_mut(it.client) else {
            return;
        };
        client.away = true;
        client.ends_at = it.ends_at;
        client.will_at = it.will_at;
        if it.will_at.is_none() {
            client.will = None;
        }
        let timers = [
            it.ends_at.map(|at| (at, Timer::ClientEnd(it.client))),
            it.will_at.map(|at| (at, Timer::Will(it.client))),
        ];
        self.soft.timers.extend(timers.into_iter().flatten());
    }

    pub(super) fn apply_will_done(&mut self, number: ClientNo) {
        let Some(client) = self.client_mut(number) else {
            return;
        };
        client.will = None;
        if let Some(at) = client.will_at.take() {
            self.soft.timers.remove(&(at, Timer::Will(number)));
        }
    }

    pub(super) fn apply_client_ended(&mut self, it: &ClientEnded, at: &mut Applying<'_>) {
        let number = it.client;
        self.leave_replay_round(number);
        let clients = if number.is_soft() {
            &mut self.soft.clients
        } else {
            &mut self.durable.clients
        };
        let Some(client) = clients.remove(&number) else {
            return;
        };
        self.counters.clients -= 1;
        for (pattern, options) in client.subscriptions.iter() {
            self.route_client(client.vhost, &pattern, target_of(number, options), false);
        }
        for source in &client.rare.sources {
            self.leave_share(number, source);
            self.leave_stream(number, client.vhost, source);
        }
        for timer in [
            client.ends_at.map(|at| (at, Timer::ClientEnd(number))),
            client.will_at.map(|at| (at, Timer::Will(number))),
        ]
        .into_iter()
        .flatten()
        {
            self.soft.timers.remove(&timer);
        }
        let key = (client.vhost, client.client_id);
        if self.soft.client_ids.get(&key) == Some(&number) {
            self.soft.client_ids.remove(&key);
        }
        if let Some(connected) = self.soft.connected.remove(&number)
            && let Some(attached) = self.soft.sessions.get_mut(&connected.session)
        {
            attached.client = None;
        }
        self.apply_queue_deleted(client.queue, it.doomed, at);
    }

    fn route_client(&mut self, vhost: VhostId, pattern: &Pattern, target: Target, bind: bool) {
        let Some(root) = self.soft.routes.get_mut(&(vhost, Bytes::from_static(ROOT))) else {
            return;
        };
        if bind {
            root.subscribe(pattern, target);
        } else {
            root.unsubscribe(pattern, &target);
        }
    }

    /// What the indexes know of a client session.
    pub(crate) fn index_client(&mut self, number: ClientNo) {
        let Some(client) = self.client(number).cloned() else {
            return;
        };
        self.soft
            .client_ids
            .insert((client.vhost, client.client_id.clone()), number);
        for (pattern, options) in client.subscriptions.iter() {
            self.route_client(client.vhost, &pattern, target_of(number, options), true);
        }
        for source in &client.rare.sources {
            if let Source::Stream { name, .. } = &source.source {
                self.soft
                    .stream_clients
                    .entry((client.vhost, name.clone()))
                    .or_default()
                    .insert(number);
            }
            if matches!(source.source, Source::Shared { .. }) {
                self.soft
                    .sharers
                    .entry(source.queue)
                    .or_default()
                    .insert(number);
            }
        }
        let timers = [
            client.ends_at.map(|at| (at, Timer::ClientEnd(number))),
            client.will_at.map(|at| (at, Timer::Will(number))),
        ];
        self.soft.timers.extend(timers.into_iter().flatten());
    }

    fn leave_share(&mut self, number: ClientNo, source: &ClientSource) {
        if let Some(sharers) = self.soft.sharers.get_mut(&source.queue) {
            sharers.remove(&number);
            if sharers.is_empty() {
                self.soft.sharers.remove(&source.queue);
            }
        }
    }

    pub(super) fn apply_client_subscribed(&mut self, it: &ClientSubscribed) {
        let Some(vhost) = self.client(it.client).map(|client| client.vhost) else {
            return;
        };
        if let Source::Topic { filter } = &it.source {
            let Some(pattern) = pattern_of(filter) else {
                return;
            };
            let client = self.client_mut(it.client).expect("seen above");
            let old = client.subscriptions.insert(&pattern, it.options);
            if let Some(old) = old {
                self.route_client(vhost, &pattern, target_of(it.client, &old), false);
            }
            self.route_client(vhost, &pattern, target_of(it.client, &it.options), true);
            return;
        }
        if let Source::Stream { name, .. } = &it.source {
            self.soft
                .stream_clients
                .entry((vhost, name.clone()))
                .or_default()
                .insert(it.client);
        } else if it.queue.is_none() {
            return;
        }
        let queue = it.queue.unwrap_or(NO_QUEUE);
        let source = ClientSource {
            source: it.source.clone(),
            options: it.options,
            queue,
            priority: it.priority,
        };
        let client = self.client_mut(it.client).expect("seen above");
        client.rare.change(|rare| {
            rare.sources.retain(|other| other.source != it.source);
            rare.sources.push(source);
        });
        if matches!(it.source, Source::Shared { .. }) {
            self.soft
                .sharers
                .entry(queue)
                .or_default()
                .insert(it.client);
        }
    }

    pub(super) fn apply_client_unsubscribed(&mut self, it: &ClientUnsubscribed) {
        let Some(client) = self.client_mut(it.client) else {
            return;
        };
        let vhost = client.vhost;
        if let Source::Topic { filter } = &it.source {
            let Some(pattern) = pattern_of(filter) else {
                return;
            };
            client.rare.change(|rare| rare.replays.remove(&pattern));
            if let Some(old) = client.subscriptions.remove(&pattern) {
                self.route_client(vhost, &pattern, target_of(it.client, &old), false);
            }
            return;
        }
        let Some(at) = client
            .rare
            .sources
            .iter()
            .position(|source| source.source == it.source)
        else {
            return;
        };
        let gone = client.rare.change(|rare| rare.sources.remove(at));
        self.leave_share(it.client, &gone);
        self.leave_stream(it.client, vhost, &gone);
    }

    /// A client session reads a stream no longer.
    fn leave_stream(&mut self, number: ClientNo, vhost: VhostId, source: &ClientSource) {
        let Source::Stream { name, .. } = &source.source else {
            return;
        };
        let key = (vhost, name.clone());
        if let Some(clients) = self.soft.stream_clients.get_mut(&key) {
            clients.remove(&number);
            if clients.is_empty() {
                self.soft.stream_clients.remove(&key);
            }
        }
    }

    /// A new epoch: every connection has ended, session expiry and will delays start, links of QoS 1 are released
    /// (RULES 8, DOORS 19). Prepared publishes of an unfinished transaction are garbage.
    pub(super) fn apply_epoch(&mut self, it: &EpochOpen, at: &mut Applying<'_>) {
        self.durable.epoch = it.epoch;
        self.durable.prepared.clear();
        for number in self.durable.client_numbers() {
            let client = &self.durable.clients[&number];
            let queue = client.queue;
            if !client.away {
                let away = ClientAway {
                    client: number,
                    ends_at: client.expiry_ms.map(|ms| at.now.plus_ms(ms)),
                    will_at: client
                        .will
                        .as_ref()
                        .map(|will| at.now.plus_ms(will.delay_ms)),
                };
                self.apply_client_away(&away);
            }
            let links: Vec<_> = self
                .durable
                .queues
                .get(&queue)
                .into_iter()
                .flat_map(|queue| {
                    queue
                        .entries
                        .iter_rare()
                        .filter(|(qseq, _)| {
                            queue
                                .entries
                                .get(*qseq)
                                .is_some_and(|entry| entry.flags & flag::QOS < 2)
                        })
                        .filter_map(|(qseq, rare)| rare.origin.map(|origin| (qseq, origin)))
                })
                .collect();
            for (qseq, (origin, place)) in links {
                self.remove_entry(queue, qseq, at);
                if self.queue(origin).is_some() {
                    self.release(origin, place);
                }
            }
        }
    }
}
