//! Exchanges and bindings in the plainest way: a list of bindings, walked for every message.

use bytes::Bytes;
use message::{Address, Filter, Kind, Levels, Message, Name, Value, VhostId};
use session::{
    BindTarget, Binding, ConsumerId, Declare, ExchangeKind, ExchangeOptions, QueueOptions,
    RefusalKind, SessionId, Token,
};

use super::Model;

/// An exchange.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) name: Name,
    pub(crate) options: ExchangeOptions,
}

/// A binding, with the queue that it feeds.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) binding: Binding,
    pub(crate) queue: Option<u64>,
    pub(crate) durable: bool,
}

/// Who gets a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routed {
    pub(crate) queues: Vec<u64>,
    /// Client sessions with their matching subscriptions.
    pub(crate) clients: Vec<(u64, Vec<super::clients::Subscription>)>,
    /// A subscription matched that does not want what its own client published.
    pub(crate) withheld: bool,
}

const FIXED: [(&str, ExchangeKind); 5] = [
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
];

pub(crate) fn fixed() -> Vec<Exchange> {
    FIXED
        .iter()
        .map(|(name, kind)| Exchange {
            name: Bytes::copy_from_slice(name.as_bytes()),
            options: ExchangeOptions {
                kind: *kind,
                durable: true,
                auto_delete: false,
                internal: false,
                alternate: None,
                declaration: None,
            },
        })
        .collect()
}

pub(crate) fn exchange_and_key(address: &Address) -> (Name, Levels) {
    match address.kind {
        Kind::Queue | Kind::Stream => (Name::new(), Levels::one(address.name.clone())),
        Kind::Topic => (Name::from_static(b"amq.topic"), address.key.clone()),
        Kind::Exchange => (address.name.clone(), address.key.clone()),
    }
}

pub(crate) fn address_of(vhost: VhostId, exchange: &Name, key: Levels) -> Address {
    if exchange.is_empty() {
        let levels: Vec<&[u8]> = key.iter().collect();
        Address::queue(vhost, levels.join(&b'.'))
    } else if exchange == "amq.topic" {
        Address::topic(vhost, key)
    } else {
        Address::exchange(vhost, exchange.clone(), key)
    }
}

/// A wildcard does not match what starts with `$`, in the root space.
pub(crate) fn matches(pattern: &message::Pattern, key: &Levels, root: bool) -> bool {
    let hidden = root && key.level(0).is_some_and(|first| first.starts_with(b"$"));
    let wild = !matches!(
        pattern.0.first(),
        Some(message::FilterLevel::Exact(_)) | None
    );
    pattern.matches(key) && !(hidden && wild)
}

fn passes(exchange: &Exchange, binding: &Binding, key: &Levels, message: &Message) -> bool {
    match (exchange.options.kind, &binding.filter) {
        (ExchangeKind::Fanout, _) => true,
        (ExchangeKind::Direct, _) => binding.key == *key,
        (ExchangeKind::Topic, Filter::Pattern(pattern)) => {
            matches(pattern, key, exchange.name == "amq.topic")
        }
        (
            ExchangeKind::Headers,
            Filter::Headers {
                matching,
                arguments,
            },
        ) => {
            let fits =
                |(name, value): &(Bytes, Value)| message.properties.first(name) == Some(value);
            match matching {
                message::HeaderMatch::All => arguments.0.iter().all(fits),
                _ => arguments.0.iter().any(fits),
            }
        }
        _ => false,
    }
}

impl Model {
    pub(crate) fn exchange(&self, name: &[u8]) -> Option<&Exchange> {
        self.exchanges.iter().find(|exchange| exchange.name == name)
    }

    /// Everyone that a message reaches from an exchange. `None`: there is no such exchange.
    pub(crate) fn route(
        &self,
        exchange: &Name,
        keys: &[Levels],
        message: &Message,
        publisher: Option<u64>,
    ) -> Option<Routed> {
        let mut routed = Routed::default();
        if exchange.is_empty() {
            for key in keys {
                let levels: Vec<&[u8]> = key.iter().collect();
                routed.queues.extend(self.named(&levels.join(&b'.')));
            }
            return Some(routed);
        }
        self.exchange(exchange)?;
        let mut seen: Vec<Name> = Vec::new();
        let mut open = vec![exchange.clone()];
        while let Some(name) = open.pop() {
            if seen.contains(&name) {
                continue;
            }
            seen.push(name.clone());
            let Some(exchange) = self.exchange(&name) else {
                continue;
            };
            let before = open.len();
            let mut found = false;
            for bound in self.bindings.iter().filter(|b| b.binding.exchange == name) {
                if !keys
                    .iter()
                    .any(|key| passes(exchange, &bound.binding, key, message))
                {
                    continue;
                }
                found = true;
                match &bound.binding.target {
                    BindTarget::Queue(_) => routed.queues.extend(bound.queue),
                    BindTarget::Exchange(next) => open.push(next.clone()),
                    BindTarget::Stream(_) => unreachable!("these histories have no streams"),
                }
            }
            if name == "amq.topic" {
                found |= self.route_clients(keys, publisher, &mut routed);
            }
            if !found {
                open.truncate(before);
                open.extend(exchange.options.alternate.clone());
            }
        }
        Some(routed)
    }

    pub(crate) fn declare(&mut self, from: SessionId, token: Token, declare: &Declare) {
        let said = match self.declared(from, declare) {
            Ok((messages, consumers)) => {
                format!("{token:?} declared {messages} messages {consumers} consumers")
            }
            Err(kind) => format!("{token:?} refused {kind:?}"),
        };
        self.say(from, said);
    }

    fn declared(
        &mut self,
        from: SessionId,
        declare: &Declare,
    ) -> Result<(u64, usize), RefusalKind> {
        match declare {
            Declare::Queue {
                name,
                passive,
                options,
            } => self.declare_queue(from, name, *passive, options),
            Declare::DeleteQueue {
                name,
                if_unused,
                if_empty,
            } => {
                let Some(number) = self.named(name) else {
                    return Ok((0, 0));
                };
                self.check_owner(number, from)?;
                let queue = self.queue_ref(number);
                let used = self.consumers.iter().any(|c| c.queue == number);
                if *if_unused && used || *if_empty && !queue.entries.is_empty() {
                    return Err(RefusalKind::NotEmpty);
                }
                let messages = queue.ready();
                self.delete_queue(number);
                Ok((messages, 0))
            }
            Declare::NewQueue { .. } | Declare::Alter { .. } => unreachable!("no step asks for it"),
            Declare::Purge { name } | Declare::PurgeAll { name, .. } => {
                let number = self.named(name).ok_or(RefusalKind::NotFound)?;
                self.check_owner(number, from)?;
                let entries = &mut self.queue(number).expect("named").entries;
                let before = entries.len();
                entries.retain(|entry| {
                    use super::queues::Place;
                    !matches!(entry.place, Place::Ready | Place::Hidden(_))
                });
                Ok(((before - entries.len()) as u64, 0))
            }
            Declare::Exchange { name, options, .. } => match self.exchange(name) {
                Some(known) if known.options == **options => Ok((0, 0)),
                Some(_) => Err(RefusalKind::Inequivalent),
                None if name.starts_with(b"amq.") => Err(RefusalKind::AccessDenied),
                None => {
                    self.exchanges.push(Exchange {
                        name: name.clone(),
                        options: (**options).clone(),
                    });
                    Ok((0, 0))
                }
            },
            Declare::DeleteExchange { name, if_unused } => {
                if FIXED.iter().any(|(fixed, _)| *name == fixed.as_bytes()) {
                    return Err(RefusalKind::AccessDenied);
                }
                let bound = |b: &Bound| b.binding.exchange == name;
                if *if_unused && self.bindings.iter().any(bound) {
                    return Err(RefusalKind::NotEmpty);
                }
                self.delete_exchange(name);
                Ok((0, 0))
            }
            Declare::Bind(binding) => self.bind(from, binding),
            Declare::Unbind(binding) => {
                if let BindTarget::Queue(name) = &binding.target
                    && let Some(number) = self.named(name)
                {
                    self.check_owner(number, from)?;
                }
                let kind = self.exchange(&binding.exchange).map(|e| e.options.kind);
                if kind.is_some_and(|kind| !suits(binding, kind)) {
                    return Err(RefusalKind::InvalidArgument);
                }
                let same = |b: &Bound| b.binding == **binding;
                if let Some(at) = self.bindings.iter().position(same) {
                    let gone = self.bindings.remove(at);
                    self.drop_unbound(vec![gone.binding.exchange]);
                }
                Ok((0, 0))
            }
        }
    }

    fn declare_queue(
        &mut self,
        from: SessionId,
        name: &Name,
        passive: bool,
        options: &QueueOptions,
    ) -> Result<(u64, usize), RefusalKind> {
        if let Some(number) = self.named(name) {
            self.check_owner(number, from)?;
            let queue = self.queue_ref(number);
            if !passive && options.declaration.is_some() {
                let exclusive = queue.owner.is_some();
                if exclusive != options.exclusive {
                    return Err(RefusalKind::Locked);
                }
            }
            if !passive && queue.declaration != options.declaration {
                return Err(RefusalKind::Inequivalent);
            }
            let consumers = self.consumers.iter().filter(|c| c.queue == number);
            return Ok((queue.ready(), consumers.count()));
        }
        if passive {
            return Err(RefusalKind::NotFound);
        }
        let number = self.make_queue(name);
        let queue = self.queue(number).expect("made above");
        queue.durable = options.durable && !options.exclusive;
        queue.owner = options.exclusive.then_some(from);
        queue.auto_delete = options.auto_delete;
        queue.at = options.attributes.clone();
        queue.declaration.clone_from(&options.declaration);
        Ok((0, 0))
    }

    fn bind(&mut self, from: SessionId, binding: &Binding) -> Result<(u64, usize), RefusalKind> {
        let exchange = self.exchange(&binding.exchange);
        let options = exchange.ok_or(RefusalKind::NotFound)?.options.clone();
        if !suits(binding, options.kind) {
            return Err(RefusalKind::InvalidArgument);
        }
        let (queue, durable) = match &binding.target {
            BindTarget::Queue(name) => {
                let number = self.named(name).ok_or(RefusalKind::NotFound)?;
                self.check_owner(number, from)?;
                (Some(number), self.queue_ref(number).durable)
            }
            BindTarget::Exchange(name) => {
                let target = self.exchange(name).ok_or(RefusalKind::NotFound)?;
                (None, target.options.durable)
            }
            BindTarget::Stream(_) => unreachable!("these histories have no streams"),
        };
        if !self.bindings.iter().any(|b| b.binding == *binding) {
            self.bindings.push(Bound {
                binding: binding.clone(),
                queue,
                durable: durable && options.durable,
            });
        }
        Ok((0, 0))
    }

    /// The bindings of a queue go with it.
    pub(crate) fn unbind_queue(&mut self, number: u64) {
        let (gone, left) = std::mem::take(&mut self.bindings)
            .into_iter()
            .partition(|b| b.queue == Some(number));
        self.bindings = left;
        let gone: Vec<Bound> = gone;
        self.drop_unbound(gone.into_iter().map(|b| b.binding.exchange).collect());
    }

    fn delete_exchange(&mut self, name: &Name) {
        self.exchanges.retain(|exchange| exchange.name != name);
        let to_it = BindTarget::Exchange(name.clone());
        let (gone, left) = std::mem::take(&mut self.bindings)
            .into_iter()
            .partition(|b| b.binding.exchange == name || b.binding.target == to_it);
        self.bindings = left;
        let gone: Vec<Bound> = gone;
        self.drop_unbound(gone.into_iter().map(|b| b.binding.exchange).collect());
    }

    /// Auto-delete exchanges that have lost their last binding go.
    fn drop_unbound(&mut self, lost: Vec<Name>) {
        for name in lost {
            let goes = self.exchange(&name).is_some_and(|e| e.options.auto_delete);
            if goes && !self.bindings.iter().any(|b| b.binding.exchange == name) {
                self.delete_exchange(&name);
            }
        }
    }

    pub(crate) fn restart_routing(&mut self) {
        let queues: Vec<u64> = self.queues.iter().map(|queue| queue.number).collect();
        self.exchanges.retain(|exchange| exchange.options.durable);
        self.bindings
            .retain(|b| b.durable && b.queue.is_none_or(|queue| queues.contains(&queue)));
    }

    pub(crate) fn cancel(&mut self, from: SessionId, token: Token, consumer: ConsumerId) {
        let existed = self.consumer_goes(from, consumer);
        self.say(from, format!("{token:?} unsubscribed, existed {existed}"));
    }
}

/// Whether an exchange of that type takes such a binding.
fn suits(binding: &Binding, kind: ExchangeKind) -> bool {
    let headers = matches!(binding.filter, Filter::Headers { .. });
    match kind {
        ExchangeKind::Topic => !headers,
        ExchangeKind::Headers => headers,
        _ => true,
    }
}
