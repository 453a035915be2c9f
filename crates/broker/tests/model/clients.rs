//! Client sessions in the plainest way: a list of clients, each with its subscriptions and a queue of its own.

use std::sync::Arc;

use bytes::Bytes;
use message::{Filter, Levels, Message, Pattern, Timestamp};
use session::{
    ClientExpiry, ConsumerId, Credit, OpenClient, Publish, RefusalKind, RetainReplay, SessionId,
    Source, Subscribe, SubscriptionOptions, Token, Will,
};

use super::{
    Model,
    queues::{Consumer, Entry, Fresh, Incoming, Place},
    routing::{Routed, matches},
};

/// A subscription of a client session.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) pattern: Pattern,
    pub(crate) options: SubscriptionOptions,
}

/// A client session.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) name: Bytes,
    pub(crate) session: Option<SessionId>,
    pub(crate) durable: bool,
    /// `None`: it never ends by itself.
    pub(crate) expiry_ms: Option<u64>,
    pub(crate) ends_at: Option<Timestamp>,
    pub(crate) will: Option<Will>,
    pub(crate) will_at: Option<Timestamp>,
    pub(crate) queue: u64,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Exactly-once publishes that wait for their release.
    pub(crate) inbound: Vec<u16>,
}

/// A retained message.
#[derive(Clone, Debug)]
pub(crate) struct Retained {
    pub(crate) message: Arc<Message>,
    pub(crate) key: Levels,
}

fn expiry_ms(expiry: ClientExpiry) -> Option<u64> {
    match expiry {
        ClientExpiry::WithConnection => Some(0),
        ClientExpiry::AfterMs(ms) => Some(ms),
        ClientExpiry::Never => None,
    }
}

/// How a delivery is told that no queue knows of.
pub(crate) fn direct(message: &Message, retain: bool, identifiers: &[u32]) -> String {
    let body = String::from_utf8_lossy(&message.body);
    format!("given {body}, retain {retain}, identifiers {identifiers:?}")
}

/// The identifiers of subscriptions, each once.
pub(crate) fn identifiers(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.retain(|number| *number != 0);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

impl Model {
    fn client(&mut self, number: u64) -> Option<&mut Client> {
        self.clients.iter_mut().find(|c| c.number == number)
    }

    pub(crate) fn client_of(&self, session: SessionId) -> Option<u64> {
        let mut clients = self.clients.iter();
        let found = clients.find(|client| client.session == Some(session));
        found.map(|client| client.number)
    }

    // ---- messages

    /// Adds the clients that a message reaches in the root space. Whether there is any subscription that matches.
    pub(crate) fn route_clients(
        &self,
        keys: &[Levels],
        publisher: Option<u64>,
        routed: &mut Routed,
    ) -> bool {
        let mut found = false;
        for client in &self.clients {
            let mut matched = Vec::new();
            for subscription in &client.subscriptions {
                if keys
                    .iter()
                    .any(|key| matches(&subscription.pattern, key, true))
                {
                    found = true;
                    if subscription.options.no_local && publisher == Some(client.number) {
                        routed.withheld = true;
                    } else {
                        matched.push(subscription.clone());
                    }
                }
            }
            if !matched.is_empty() {
                routed.clients.push((client.number, matched));
            }
        }
        found
    }

    /// One copy a client: at the highest quality of service, with all identifiers.
    pub(crate) fn admit_clients(&mut self, routed: &Routed, incoming: &Incoming) {
        for (number, matched) in &routed.clients {
            let options = matched.iter().map(|subscription| subscription.options);
            let granted = options.clone().map(|o| o.qos).max().unwrap_or(0);
            let as_published = options.clone().any(|o| o.retain_as_published);
            let copy = Copy {
                message: &incoming.message,
                qos: granted.min(incoming.message.qos),
                retain: as_published && incoming.message.retain,
                identifiers: identifiers(options.map(|o| o.identifier).collect()),
                durable: incoming.durable,
                expiry: incoming.expiry,
            };
            self.give_client(*number, &copy, Some(incoming));
        }
    }

    fn give_client(&mut self, number: u64, copy: &Copy<'_>, incoming: Option<&Incoming>) {
        let Some(client) = self.client(number) else {
            return;
        };
        let (session, queue, durable) = (client.session, client.queue, client.durable);
        if copy.qos == 0 {
            // What is over already, or finds nobody, is dropped.
            if let Some(session) = session
                && copy.expiry.is_none_or(|expiry| expiry >= self.now)
            {
                let told = direct(copy.message, copy.retain, &copy.identifiers);
                self.say(session, told);
            }
            return;
        }
        self.next_arrival += 1;
        let (arrival, enqueued) = (self.next_arrival, self.now);
        let entry = Entry {
            arrival,
            qseq: None,
            message: Arc::clone(copy.message),
            durable: durable && copy.durable,
            enqueued,
            sent: None,
            expiry: copy.expiry,
            count: 0,
            deaths: incoming.map_or_else(Vec::new, |incoming| incoming.deaths.clone()),
            readdressed: incoming.and_then(|incoming| incoming.readdressed.clone()),
            place: Place::Ready,
            fresh: Fresh::AtHand,
            qos: copy.qos,
            retain: copy.retain,
            identifiers: copy.identifiers.clone(),
            received: false,
            resident: incoming.is_none_or(|incoming| incoming.resident),
        };
        let queue = self.queue(queue).expect("a client has a queue");
        queue.entries.push(entry);
    }

    /// Retains a message of the root space, or clears what was retained.
    pub(crate) fn retain(&mut self, message: &Arc<Message>, exchange: &[u8], key: &Levels) {
        let over = message.expiry.is_some_and(|expiry| expiry <= self.now);
        if !message.retain || exchange != b"amq.topic" {
            return;
        }
        self.retained.retain(|retained| retained.key != *key);
        if !message.body.is_empty() && !over {
            self.retained.push(Retained {
                message: Arc::clone(message),
                key: key.clone(),
            });
        }
    }

    /// Whether this is the repeat of an exactly-once publish.
    pub(crate) fn is_repeat(&mut self, from: SessionId, publish: &Publish) -> bool {
        let (Some(id), Some(number)) = (publish.inbound_id, self.client_of(from)) else {
            return false;
        };
        let client = self.client(number).expect("found above");
        client.inbound.contains(&id)
    }

    pub(crate) fn take_inbound(&mut self, from: SessionId, publish: &Publish) {
        if let (Some(id), Some(number)) = (publish.inbound_id, self.client_of(from)) {
            let client = self.client(number).expect("found above");
            client.inbound.push(id);
        }
    }

    pub(crate) fn release_inbound(&mut self, from: SessionId, id: u16) {
        let mut known = false;
        if let Some(number) = self.client_of(from) {
            let client = self.client(number).expect("found above");
            known = client.inbound.contains(&id);
            client.inbound.retain(|other| *other != id);
        }
        self.say(from, format!("{id} released, known {known}"));
    }

    // ---- subscriptions

    pub(crate) fn subscribe_topic(
        &mut self,
        from: SessionId,
        subscribe: &Subscribe,
    ) -> Result<(), RefusalKind> {
        let number = self.client_of(from).ok_or(RefusalKind::InvalidArgument)?;
        let Source::Topic {
            filter: Filter::Pattern(pattern),
        } = &subscribe.source
        else {
            return Err(RefusalKind::NotImplemented);
        };
        let options = subscribe.options;
        let client = self.client(number).expect("found above");
        let durable = client.durable;
        let known = client.subscriptions.iter().any(|s| s.pattern == *pattern);
        client.subscriptions.retain(|s| s.pattern != *pattern);
        client.subscriptions.push(Subscription {
            pattern: pattern.clone(),
            options,
        });
        self.say(from, format!("{:?} subscribed", subscribe.token));
        let replays = match options.retain_replay {
            RetainReplay::Always => true,
            RetainReplay::IfNew => !known,
            RetainReplay::Never => false,
        };
        if !replays {
            return Ok(());
        }
        let now = self.now;
        let over = |r: &Retained| r.message.expiry.is_some_and(|expiry| expiry <= now);
        let mut shown = self.retained.clone();
        shown.retain(|r| matches(pattern, &r.key, true));
        self.retained
            .retain(|r| !(over(r) && matches(pattern, &r.key, true)));
        shown.retain(|r| !over(r));
        shown.sort_by(|a, b| a.key.cmp(&b.key));
        for retained in shown {
            let copy = Copy {
                message: &retained.message,
                qos: options.qos.min(retained.message.qos),
                retain: true,
                identifiers: identifiers(vec![options.identifier]),
                durable,
                expiry: retained.message.expiry,
            };
            self.give_client(number, &copy, None);
        }
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, from: SessionId, token: Token, source: &Source) {
        let mut existed = false;
        if let (
            Some(number),
            Source::Topic {
                filter: Filter::Pattern(pattern),
            },
        ) = (self.client_of(from), source)
        {
            let client = self.client(number).expect("found above");
            existed = client.subscriptions.iter().any(|s| s.pattern == *pattern);
            client.subscriptions.retain(|s| s.pattern != *pattern);
        }
        self.say(from, format!("{token:?} unsubscribed, existed {existed}"));
    }

    // ---- coming and going

    pub(crate) fn open(&mut self, from: SessionId, open: &OpenClient) {
        let token = open.token;
        if self.client_of(from).is_some() {
            return self.say(from, format!("{token:?} refused InvalidArgument"));
        }
        let known = self
            .clients
            .iter()
            .find(|c| c.name == open.client_id)
            .cloned();
        let resumed = known.clone().filter(|c| !open.clean_start && c.durable);
        if let Some(client) = &known {
            if resumed.is_none() {
                // Back before its will's delay is over: the will is dropped.
                let waits = client.session.is_none() && client.will_at > Some(self.now);
                self.leave(client.number, Some(0), !waits);
            } else if client.session.is_some() {
                let expiry = client.expiry_ms.filter(|ms| *ms > 0);
                self.leave(client.number, expiry, true);
            }
            if let Some(old) = client.session {
                self.drop_connection(old);
                self.say(old, "closing TakenOver".to_owned());
            }
        }
        let number = match &resumed {
            Some(client) => client.number,
            None => {
                let durable = open.expiry != ClientExpiry::WithConnection;
                let queue = self.make_queue(&Bytes::new());
                self.queue(queue).expect("made just before").of_client = true;
                self.queue(queue).expect("made above").durable = durable;
                self.next_number += 1;
                self.clients.push(Client {
                    number: self.next_number,
                    name: open.client_id.clone(),
                    session: None,
                    durable,
                    expiry_ms: None,
                    ends_at: None,
                    will: None,
                    will_at: None,
                    queue,
                    subscriptions: Vec::new(),
                    inbound: Vec::new(),
                });
                self.next_number
            }
        };
        let client = self.client(number).expect("found or made");
        client.session = Some(from);
        client.expiry_ms = expiry_ms(open.expiry);
        client.ends_at = None;
        client.will = open.will.as_deref().cloned();
        client.will_at = None;
        let queue = client.queue;
        self.consumers.push(Consumer {
            session: from,
            id: ConsumerId::CLIENT,
            queue,
            credit: Credit::Window(u32::from(open.window)),
            group: 0,
            priority: 0,
            exclusive: false,
        });
        let mut received = 0;
        for entry in &mut self.queue(queue).expect("a client has a queue").entries {
            if entry.place == Place::Received {
                received += 1;
                entry.place = Place::Out {
                    to: (from, Some(ConsumerId::CLIENT)),
                    group: 0,
                };
            }
        }
        self.say(
            from,
            format!("{token:?} opened, present {}", resumed.is_some()),
        );
        if resumed.is_some() {
            self.say(from, format!("resumed {received}"));
        }
    }

    pub(crate) fn close(&mut self, from: SessionId, will: bool, expiry: Option<ClientExpiry>) {
        let Some(number) = self.client_of(from) else {
            return;
        };
        let client = self.client(number).expect("found above");
        let expiry = expiry.map_or(client.expiry_ms, expiry_ms);
        self.leave(number, expiry, will);
        self.drop_connection(from);
    }

    /// A client session loses its connection: its will is due, and it waits or ends.
    pub(crate) fn leave(&mut self, number: u64, expiry_ms: Option<u64>, with_will: bool) {
        let now = self.now;
        let Some(client) = self.client(number) else {
            return;
        };
        let ends = !client.durable || expiry_ms == Some(0);
        let will = client.will.clone().filter(|_| with_will);
        let due = will.as_ref().filter(|will| ends || will.delay_ms == 0);
        if let Some(will) = due {
            self.publish_will(number, will);
        }
        if ends {
            return self.end_client(number);
        }
        let client = self.client(number).expect("it waits");
        client.session = None;
        client.ends_at = expiry_ms.map(|ms| now.plus_ms(ms));
        client.will = will.filter(|will| will.delay_ms > 0);
        let delay = client.will.as_ref().map(|will| will.delay_ms);
        client.will_at = delay.map(|ms| now.plus_ms(ms.min(expiry_ms.unwrap_or(u64::MAX))));
    }

    fn publish_will(&mut self, number: u64, will: &Will) {
        let publish = Publish {
            token: None,
            lane: session::Lane(0),
            message: Arc::clone(&will.message),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        };
        // A full queue may refuse it: there is nobody to be told.
        let _refused = self.place(&publish, false, Some(number)).is_err();
    }

    fn end_client(&mut self, number: u64) {
        let at = self.clients.iter().position(|c| c.number == number);
        let client = self.clients.remove(at.expect("it ends once"));
        self.consumers.retain(|c| c.queue != client.queue);
        self.queues.retain(|queue| queue.number != client.queue);
        self.refresh();
    }

    // ---- time

    /// When something is due of a client: its end before its will.
    pub(crate) fn due_of_clients(&self) -> Option<(Timestamp, u8, u64)> {
        let ends = self
            .clients
            .iter()
            .filter_map(|c| Some((c.ends_at?, 3, c.number)));
        let wills = self
            .clients
            .iter()
            .filter_map(|c| Some((c.will_at?, 4, c.number)));
        ends.chain(wills).min()
    }

    pub(crate) fn happen_to_client(&mut self, what: u8, number: u64) {
        let client = self.client(number).expect("it is due");
        client.will_at = None;
        let will = client.will.take();
        if let Some(will) = will {
            self.publish_will(number, &will);
        }
        if what == 3 {
            self.end_client(number);
        }
    }

    pub(crate) fn restart_clients(&mut self) {
        let now = self.now;
        self.clients.retain(|client| client.durable);
        for client in &mut self.clients {
            if client.session.take().is_some() {
                client.ends_at = client.expiry_ms.map(|ms| now.plus_ms(ms));
                let delay = client.will.as_ref().map(|will| will.delay_ms);
                client.will_at = delay.map(|ms| now.plus_ms(ms));
            }
        }
    }
}

/// What a client is given.
struct Copy<'a> {
    message: &'a Arc<Message>,
    qos: u8,
    retain: bool,
    identifiers: Vec<u32>,
    durable: bool,
    expiry: Option<Timestamp>,
}
