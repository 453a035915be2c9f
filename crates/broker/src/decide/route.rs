//! Who gets a message: exchanges, bindings, alternates, client sessions. Each queue and each client once a publish.

use bytes::Bytes;
use message::{
    Address, Kind as AddressKind, Levels, Message, Name, VhostId, escape_level, unescape_level,
};
use session::{QueueId, Refusal, RefusalKind, SessionId, SubscriptionId};
use smallvec::SmallVec;

use super::{refusal, shown, stream::StreamMatch};
use crate::{
    Broker,
    apply::ROOT,
    change::ClientNo,
    routing::make_set,
    soft::{Subscriber, Target},
};

/// Targets of one exchange that there is room for from the start.
const FOUND_EXPECTED: usize = 64;

/// A client session that a message matched: its subscriptions folded into one copy. And where it is, which lasts as long as what
/// is remembered of routes does: each change that makes a client session, ends it or moves it may reroute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientMatch {
    pub(crate) client: ClientNo,
    /// Its own queue.
    pub(crate) queue: QueueId,
    /// Its connection, if it has one.
    pub(crate) session: Option<SessionId>,
    /// The longest body that the connection takes.
    pub(crate) message_len_max: Option<u32>,
    /// The highest that was granted.
    pub(crate) qos: u8,
    pub(crate) retain_as_published: bool,
    pub(crate) identifiers: SmallVec<[u32; 2]>,
}

/// Everyone a message matched, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routed {
    pub(crate) queues: Vec<QueueId>,
    pub(crate) clients: Vec<ClientMatch>,
    pub(crate) streams: Vec<StreamMatch>,
    /// Subscriptions, each with the first key that it reads.
    pub(crate) subscriptions: Vec<(SubscriptionId, Levels)>,
    /// The publisher's own subscription matched, but does not want what it published itself.
    pub(crate) withheld: bool,
    /// It depends on the message or on its publisher, not on the address alone.
    pub(crate) varies: bool,
}

impl Routed {
    /// How many it leads to.
    pub(crate) fn len(&self) -> usize {
        self.queues.len() + self.clients.len() + self.streams.len() + self.subscriptions.len()
    }
}

/// The exchange and key that an address stands for, as AMQP would say it.
pub(crate) fn exchange_and_key(address: &Address) -> (Name, Levels) {
    match address.kind {
        AddressKind::Queue | AddressKind::Stream => {
            (Name::new(), Levels::one(address.name.clone()))
        }
        AddressKind::Topic => (Bytes::from_static(ROOT), address.key.clone()),
        AddressKind::Exchange => (address.name.clone(), address.key.clone()),
    }
}

/// The queue that a key names on the default exchange. A key of several levels was written with dots.
#[must_use]
pub fn queue_name(key: &Levels) -> Name {
    match key.len() {
        0 => Name::new(),
        1 => Bytes::copy_from_slice(key.level(0).unwrap_or_default()),
        _ => {
            let levels: Vec<_> = key.iter().map(|level| escape_level(level, b".")).collect();
            Bytes::from(levels.join(&b'.'))
        }
    }
}

/// The reverse: the key that the name of a queue becomes on an exchange that has a name.
pub(crate) fn key_of_queue(name: &Bytes) -> Levels {
    Levels::collect(
        name.split(|byte| *byte == b'.')
            .map(|level| unescape_level(level, b".")),
    )
    .unwrap_or_else(|| Levels::one(name.clone()))
}

/// The address of an exchange and a key.
pub(crate) fn address_of(vhost: VhostId, exchange: &Name, key: Levels) -> Address {
    if exchange.is_empty() {
        Address::queue(vhost, queue_name(&key))
    } else if exchange == ROOT {
        Address::topic(vhost, key)
    } else {
        Address::exchange(vhost, exchange.clone(), key)
    }
}

/// First levels of the root space that are not open to publishers (DOORS 5).
pub(crate) fn is_reserved(key: &Levels) -> bool {
    let Some(first) = key.level(0) else {
        return false;
    };
    match first {
        b"$queue" | b"$stream" | b"$share" | b"$topic" => true,
        b"$SYS" => {
            !(key.len() == 5
                && key.level(1) == Some(b"broker")
                && key.level(2) == Some(b"connection")
                && key.level(4) == Some(b"state"))
        }
        _ => false,
    }
}

impl Broker {
    /// Routes by an exchange that may be missing.
    pub(crate) fn route(
        &self,
        vhost: VhostId,
        exchange: &Name,
        keys: &[&Levels],
        message: &Message,
        publisher: Option<ClientNo>,
    ) -> Result<Routed, Refusal> {
        let mut routed = Routed::default();
        let mut streams = Vec::new();
        if exchange.is_empty() {
            for key in keys {
                let name = queue_name(key);
                match self.named(vhost, &name) {
                    Some(queue) => routed.queues.push(queue),
                    // DOORS 6: a bare name is the queue, if there is one, else the stream.
                    None => {
                        let found = self.stream_named(vhost, &name);
                        streams.extend(found.map(|(stream, _)| stream));
                    }
                }
            }
            // [AMQP-queue.bind.unique]
            make_set(&mut routed.queues);
            make_set(&mut streams);
            routed.streams = streams.into_iter().map(StreamMatch::of).collect();
            return Ok(routed);
        }
        if self.exchange(vhost, exchange).is_none() {
            return Err(refusal(
                RefusalKind::NotFound,
                format!("no exchange '{}'", shown(exchange)),
            ));
        }
        let mut clients = Vec::new();
        let mut visited: SmallVec<[Name; 2]> = SmallVec::new();
        let mut open: SmallVec<[Name; 2]> = SmallVec::new();
        open.push(exchange.clone());
        let mut found = Vec::with_capacity(FOUND_EXPECTED);
        // Where the clients begin in it.
        let mut from = 0;
        while let Some(name) = open.pop() {
            if visited.contains(&name) {
                continue;
            }
            found.clear();
            // [AMQP-connection.open.virtual-host.separation]
            if let Some(routes) = self.soft.routes.get(&(vhost, name.clone())) {
                routed.varies |= !routes.looks_at_key_only();
                for key in keys {
                    routes.route(key, message, name == ROOT, &mut found);
                }
            }
            let mut read = false;
            if name == ROOT && self.durable.topics.reads(vhost) {
                for key in keys {
                    self.durable.topics.matching(vhost, key, |id, _| {
                        read = true;
                        routed.subscriptions.push((id, (*key).clone()));
                    });
                }
            }
            if found.is_empty()
                && !read
                && let Some(alternate) = self
                    .exchange(vhost, &name)
                    .and_then(|options| options.alternate.clone())
            {
                open.push(alternate);
            }
            visited.push(name);
            // Clients are the last of a set, and most of a large one.
            from = found.partition_point(|target| !matches!(target, Target::Client(_)));
            for target in &found[..from] {
                match target {
                    Target::Queue(queue) => routed.queues.push(*queue),
                    Target::Stream(stream) => streams.push(*stream),
                    Target::Exchange(next) => open.push((**next).clone()),
                    Target::Client(_) => {}
                }
            }
            if !open.is_empty() || visited.len() > 1 {
                clients.extend(found[from..].iter().filter_map(subscriber_of));
            }
        }
        make_set(&mut routed.queues);
        make_set(&mut streams);
        routed.streams = streams.into_iter().map(StreamMatch::of).collect();
        // Stable: of several keys that a subscription reads, the first counts.
        routed.subscriptions.sort_by_key(|(id, _)| *id);
        routed.subscriptions.dedup_by_key(|(id, _)| *id);
        // What one exchange found is a set, and is not moved.
        if visited.len() > 1 {
            make_set(&mut clients);
            self.fold(clients.iter(), publisher, &mut routed);
        } else {
            let subscribers = found[from..].iter().filter_map(subscriber_of);
            self.fold(subscribers, publisher, &mut routed);
        }
        Ok(routed)
    }

    /// Where a client session is, and what it is to be shown of a message that matched it in that way.
    pub(super) fn client_match(
        &self,
        number: ClientNo,
        qos: u8,
        retain_as_published: bool,
    ) -> Option<ClientMatch> {
        let (queue, session, message_len_max) = match self.soft.connected.get(&number) {
            Some(it) => (it.queue, Some(it.session), it.message_len_max),
            None => (self.client(number)?.queue, None, None),
        };
        Some(ClientMatch {
            client: number,
            queue,
            session,
            message_len_max,
            qos,
            retain_as_published,
            identifiers: SmallVec::new(),
        })
    }

    /// Overlapping subscriptions of one client give one copy, with the highest QoS and all identifiers
    /// ([MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4]). The subscribers are in the order of their clients.
    fn fold<'a>(
        &self,
        subscribers: impl Iterator<Item = &'a Subscriber>,
        publisher: Option<ClientNo>,
        routed: &mut Routed,
    ) {
        let folded = &mut routed.clients;
        folded.reserve(subscribers.size_hint().1.unwrap_or(0));
        for &Subscriber {
            client,
            qos,
            no_local,
            retain_as_published,
            identifier,
        } in subscribers
        {
            routed.varies |= no_local;
            // [MQTT-3.8.3-3]
            if no_local && publisher == Some(client) {
                routed.withheld = true;
                continue;
            }
            if folded.last().is_none_or(|last| last.client != client) {
                // One that is gone has no subscriptions.
                let Some(mut found) = self.client_match(client, qos, retain_as_published) else {
                    continue;
                };
                if identifier != 0 {
                    found.identifiers.push(identifier);
                }
                folded.push(found);
                continue;
            }
            let Some(last) = folded.last_mut() else {
                continue;
            };
            last.qos = last.qos.max(qos);
            last.retain_as_published |= retain_as_published;
            if identifier != 0 && !last.identifiers.contains(&identifier) {
                last.identifiers.push(identifier);
            }
        }
    }
}

const fn subscriber_of(target: &Target) -> Option<&Subscriber> {
    match target {
        Target::Client(subscriber) => Some(subscriber),
        _ => None,
    }
}
