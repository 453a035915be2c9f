//! Virtual hosts, queues, exchanges and bindings.

use std::sync::Arc;

use bytes::Bytes;
use message::{Filter, Levels, Name, Timestamp, VhostId};
use session::{BindTarget, Binding, ExchangeKind, ExchangeOptions, QueueId};

use super::Applying;
use crate::{
    Broker,
    change::{
        Bound, ExchangeDeclared, ExchangeDeleted, QueueDeclared, QueuePurged, SOFT_BIT, Share,
        Vhosts, is_soft,
    },
    durable::Queue,
    queue::{Groups, Order},
    record::wire::Wire,
    routing::Exchange,
    soft::{SoftQueue, Target, Timer},
};

/// The exchanges that every virtual host has (AMQP 0-9-1, 3.1.3): durable, and not to be deleted.
pub(crate) const PREDECLARED: [(&[u8], ExchangeKind); 5] = [
    // [AMQP-exchange.required-instances]
    (b"amq.direct", ExchangeKind::Direct),
    (b"amq.fanout", ExchangeKind::Fanout),
    (b"amq.headers", ExchangeKind::Headers),
    (b"amq.match", ExchangeKind::Headers),
    (b"amq.topic", ExchangeKind::Topic),
];

/// The name of the virtual host that is always there, and has number 0.
pub(crate) const ROOT_NAME: &str = "/";

/// The exchange that is the root topic space.
pub(crate) const ROOT: &[u8] = b"amq.topic";

/// A binding's identity.
pub(crate) fn binding_key(binding: &Binding) -> Vec<u8> {
    let mut key = Vec::new();
    binding.put(&mut key);
    key
}

impl Broker {
    pub(super) fn apply_vhosts(&mut self, it: &Vhosts) {
        let next = VhostId(self.durable.vhosts.len() as u32);
        let lossy = self.soft.lossy;
        let root = it.names.first().is_some_and(|name| **name == *ROOT_NAME);
        let first = match it.first {
            Some(first) => first,
            None if root => VhostId::ROOT,
            // How many are lost is not known: no number is right for sure, and the wrong one would be another tenant's.
            None if lossy => return self.pass_over(),
            None => next,
        };
        assert!(
            lossy || first == next,
            "virtual hosts are numbered in their order"
        );
        for (number, name) in (first.0..).zip(&it.names) {
            let vhost = VhostId(number);
            if lossy && (self.has_vhost(vhost) || u64::from(number) >= self.config.vhosts_max) {
                // The root may have been made up when its record was lost.
                if self.vhost_name(vhost).as_ref() != Some(name) {
                    self.pass_over();
                }
                continue;
            }
            self.make_vhost(vhost, name);
        }
    }

    /// Names a virtual host, and gives it what each has.
    fn make_vhost(&mut self, vhost: VhostId, name: &Arc<str>) {
        let vhosts = &mut self.durable.vhosts;
        match vhosts.get_mut(vhost.0 as usize) {
            // Its number was met in front of its name.
            Some(unnamed) => *unnamed = Arc::clone(name),
            None => vhosts.push(Arc::clone(name)),
        }
        for (name, kind) in PREDECLARED {
            let name = Bytes::from_static(name);
            let options = ExchangeOptions {
                kind,
                durable: true,
                auto_delete: false,
                internal: false,
                alternate: None,
                declaration: None,
            };
            self.durable
                .exchanges
                .insert((vhost, name.clone()), options);
            self.soft.routes.insert((vhost, name), Exchange::new(kind));
        }
    }

    /// Makes a queue, or changes what was declared about it.
    pub(crate) fn apply_queue_declared(&mut self, it: &QueueDeclared, now: Timestamp) {
        let soft = is_soft(it.queue);
        if soft {
            self.soft.next_queue = self.soft.next_queue.max((it.queue.0 & !SOFT_BIT) + 1);
        } else {
            self.durable.next_queue = self.durable.next_queue.max(it.queue.0 + 1);
        }
        let mut declared = QueueDeclared {
            owner: None,
            created: now,
            changed: now,
            version: 0,
            ..it.clone()
        };
        self.soft.shared_options.share(&mut declared);
        let queues = if soft {
            &mut self.soft.transient
        } else {
            &mut self.durable.queues
        };
        if let Some(queue) = queues.get_mut(&it.queue) {
            declared.created = queue.declared.created;
            declared.version = queue.declared.version + 1;
            queue.declared = declared;
            self.age_anew(it.queue, now);
        } else {
            queues.insert(
                it.queue,
                Box::new(Queue {
                    declared,
                    ..Queue::default()
                }),
            );
            self.counters.queues += 1;
        }
        self.index_queue(it, now);
    }

    /// The soft side of a queue and its names, made once.
    pub(crate) fn index_queue(&mut self, it: &QueueDeclared, now: Timestamp) {
        let attributes = &it.options.attributes;
        self.soft.queues.entry(it.queue).or_insert_with(|| {
            let order = if attributes.fifo.is_some() {
                Order::Groups(Box::<Groups>::default())
            } else if let Some(max) = attributes.priority_max {
                Order::priority(max)
            } else {
                Order::plain()
            };
            let mut soft = SoftQueue::new(order, now);
            soft.owner = it.owner;
            Box::new(soft)
        });
        if !it.name.is_empty() {
            self.soft
                .names
                .insert((it.vhost, it.name.clone()), it.queue);
            let options = &it.options;
            if options.durable && !options.exclusive && !options.auto_delete {
                self.soft.listed.insert((it.vhost, it.name.clone()));
            }
        }
        if let Some(share) = it.share.as_deref() {
            self.soft.shares.insert((it.vhost, share.clone()), it.queue);
            self.route_share(it.vhost, share, it.queue, true);
        }
        if let Some(owner) = it.owner
            && let Some(session) = self.soft.sessions.get_mut(&owner)
        {
            session.rare.change(|rare| rare.owned.insert(it.queue));
        }
        if let Some(expires) = attributes.expires_ms {
            self.soft
                .timers
                .insert((now.plus_ms(expires), Timer::Unused(it.queue)));
        }
    }

    fn route_share(&mut self, vhost: VhostId, share: &Share, queue: QueueId, bind: bool) {
        let root = self
            .soft
            .routes
            .get_mut(&(vhost, Bytes::from_static(ROOT)))
            .expect("the root space is never deleted");
        let filter = Filter::Pattern(share.pattern.clone());
        if bind {
            root.bind(
                &filter,
                &Levels::none(),
                &Bytes::new(),
                Target::Queue(queue),
            );
        } else {
            root.unbind(
                &filter,
                &Levels::none(),
                &Bytes::new(),
                &Target::Queue(queue),
            );
        }
    }

    /// A queue goes; `doomed`: what is in it stays for the time being, and nobody finds it.
    pub(crate) fn apply_queue_deleted(&mut self, id: QueueId, doomed: bool, at: &mut Applying<'_>) {
        let Some(queue) = self.any_queue(id) else {
            return;
        };
        let declared = queue.declared.clone();
        if !declared.doomed {
            let name = (declared.vhost, declared.name.clone());
            if self.soft.listed.contains(&name) {
                self.soft.deleted.add(name, at.now);
            }
            self.unlist_queue(id, &declared);
            self.forget_moves(id);
        }
        if doomed {
            let queue = self.queue_mut(id).expect("seen above");
            queue.declared.name = Name::new();
            queue.declared.client = None;
            queue.declared.share = None;
            queue.declared.doomed = true;
            return self.empty_doomed(id);
        }
        // Everything in it first: references, timers, credit.
        let mut from = 0;
        while let Some(qseq) = self.next_entry(id, from) {
            self.remove_entry(id, qseq, at);
            from = qseq + 1;
        }
        self.rest(id);
        self.leave_emptying_round(id);
        let soft = self.soft.queues.remove(&id);
        if let Some(age) = soft.and_then(|soft| soft.age_at) {
            self.soft.timers.remove(&(age, Timer::Age(id)));
        }
        if is_soft(id) {
            self.soft.transient.remove(&id);
        } else {
            self.durable.queues.remove(&id);
        }
        self.counters.queues -= 1;
    }

    /// Nobody finds a queue any more: no name, binding, share, consumer or pull leads to it.
    fn unlist_queue(&mut self, id: QueueId, declared: &QueueDeclared) {
        for key in self.soft.bound.remove(&id).unwrap_or_default() {
            self.drop_binding(declared.vhost, &key);
        }
        if let Some(share) = declared.share.as_deref() {
            self.soft.shares.remove(&(declared.vhost, share.clone()));
            self.route_share(declared.vhost, share, id, false);
        }
        self.soft.sharers.remove(&id);
        let soft = self.soft_queue_mut(id);
        let consumers = std::mem::take(&mut soft.consumers);
        soft.active.clear();
        soft.single = None;
        let owner = soft.owner.take();
        let pulls: Vec<_> = soft.pulls.iter().cloned().collect();
        for receiver in consumers.values() {
            if let Some(session) = self.soft.sessions.get_mut(&receiver.0)
                && session.remove_consumer(receiver.1).is_some()
            {
                self.counters.consumers -= 1;
            }
        }
        for pull in pulls {
            self.apply_pull_ends(pull.session, pull.token);
        }
        if let Some(session) = owner.and_then(|owner| self.soft.sessions.get_mut(&owner)) {
            session.rare.change(|rare| rare.owned.remove(&id));
        }
        self.rest(id);
        let name = (declared.vhost, declared.name.clone());
        if self.soft.names.get(&name) == Some(&id) {
            self.soft.names.remove(&name);
            self.soft.listed.remove(&name);
        }
    }

    pub(super) fn apply_queue_purged(&mut self, it: &QueuePurged, at: &mut Applying<'_>) {
        let mut from = it.from;
        while let Some(qseq) = self.next_entry(it.queue, from) {
            if qseq >= it.below {
                break;
            }
            if !it.kept.contains(qseq) {
                self.remove_entry(it.queue, qseq, at);
            }
            from = qseq + 1;
        }
        self.touch(it.queue);
    }

    pub(super) fn apply_exchange_declared(&mut self, it: &ExchangeDeclared) {
        let Some(options) = it.options.as_deref() else {
            return;
        };
        let key = (it.vhost, it.name.clone());
        let map = if options.durable {
            &mut self.durable.exchanges
        } else {
            &mut self.soft.exchanges
        };
        if map.insert(key.clone(), options.clone()).is_none() {
            self.counters.exchanges += 1;
        }
        self.soft
            .routes
            .entry(key)
            .or_insert_with(|| Exchange::new(options.kind));
    }

    pub(super) fn apply_exchange_deleted(&mut self, it: &ExchangeDeleted) {
        // Bindings from it and to it, whichever side made them.
        for key in self.bindings_of_exchange(it.vhost, &it.name) {
            self.drop_binding(it.vhost, &key);
        }
        let key = (it.vhost, it.name.clone());
        let map = if it.soft {
            &mut self.soft.exchanges
        } else {
            &mut self.durable.exchanges
        };
        if map.remove(&key).is_some() {
            self.counters.exchanges -= 1;
        }
        self.soft.routes.remove(&key);
    }

    /// Keys of all bindings whose source or target is that exchange.
    pub(crate) fn bindings_of_exchange(&self, vhost: VhostId, name: &Name) -> Vec<Vec<u8>> {
        [&self.durable.bindings, &self.soft.bindings]
            .into_iter()
            .flat_map(|bindings| {
                bindings.range((vhost, Vec::new())..(VhostId(vhost.0 + 1), Vec::new()))
            })
            .filter(|(_, bound)| {
                bound.binding.as_ref().is_some_and(|binding| {
                    binding.exchange == name
                        || matches!(&binding.target, BindTarget::Exchange(target) if target == name)
                })
            })
            .map(|((_, key), _)| key.clone())
            .collect()
    }

    pub(super) fn apply_bound(&mut self, it: &Bound) {
        let Some(binding) = it.binding.as_deref() else {
            return;
        };
        let key = binding_key(binding);
        let map = if it.soft {
            &mut self.soft.bindings
        } else {
            &mut self.durable.bindings
        };
        map.insert((it.vhost, key), it.clone());
        self.index_binding(it);
    }

    /// Routes by a binding.
    pub(crate) fn index_binding(&mut self, it: &Bound) {
        let Some(binding) = it.binding.as_deref() else {
            return;
        };
        let target = match (&binding.target, it.queue) {
            (BindTarget::Queue(_), Some(queue)) => {
                self.soft
                    .bound
                    .entry(queue)
                    .or_default()
                    .insert(binding_key(binding));
                Target::Queue(queue)
            }
            (BindTarget::Stream(_), _) => {
                let Some(stream) = it.stream else { return };
                self.soft
                    .stream_bound
                    .entry(stream)
                    .or_default()
                    .insert(binding_key(binding));
                Target::Stream(stream)
            }
            (BindTarget::Exchange(name), _) => Target::Exchange(Box::new(name.clone())),
            (BindTarget::Queue(_), None) => return,
        };
        if let Some(exchange) = self
            .soft
            .routes
            .get_mut(&(it.vhost, binding.exchange.clone()))
        {
            exchange.bind(&binding.filter, &binding.key, &binding.arguments, target);
        }
    }

    pub(super) fn apply_unbound(&mut self, it: &Bound) {
        if let Some(binding) = it.binding.as_deref() {
            self.drop_binding(it.vhost, &binding_key(binding));
        }
    }

    /// Forgets a binding. An auto-delete exchange that loses its last one goes by a change of its own: whether it was the
    /// last may depend on soft bindings.
    pub(super) fn drop_binding(&mut self, vhost: VhostId, key: &[u8]) {
        let place = (vhost, key.to_vec());
        let Some(bound) = self
            .durable
            .bindings
            .remove(&place)
            .or_else(|| self.soft.bindings.remove(&place))
        else {
            return;
        };
        let Some(binding) = bound.binding.as_deref() else {
            return;
        };
        let target = match (&binding.target, bound.queue) {
            (BindTarget::Queue(_), Some(queue)) => {
                if let Some(bound) = self.soft.bound.get_mut(&queue) {
                    bound.remove(key);
                    if bound.is_empty() {
                        self.soft.bound.remove(&queue);
                    }
                }
                Target::Queue(queue)
            }
            (BindTarget::Stream(_), _) => {
                let Some(stream) = bound.stream else { return };
                if let Some(bound) = self.soft.stream_bound.get_mut(&stream) {
                    bound.remove(key);
                    if bound.is_empty() {
                        self.soft.stream_bound.remove(&stream);
                    }
                }
                Target::Stream(stream)
            }
            (BindTarget::Exchange(name), _) => Target::Exchange(Box::new(name.clone())),
            (BindTarget::Queue(_), None) => return,
        };
        let name = (vhost, binding.exchange.clone());
        if let Some(exchange) = self.soft.routes.get_mut(&name) {
            exchange.unbind(&binding.filter, &binding.key, &binding.arguments, &target);
        }
    }
}
