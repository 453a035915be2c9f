//! Queues, exchanges and bindings: made, looked at, deleted.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use message::{Name, VhostId};
use session::{
    BindTarget, Binding, Declare, Event, ExchangeOptions, Lane, QueueAttributes, QueueId,
    QueueOptions, Refusal, RefusalKind, SessionId, Token, Unlike,
};

use super::{consumer_lane, draft::Draft, refusal, shown};
use crate::{
    Broker, Wait,
    apply::{PREDECLARED, binding_key},
    change::{
        Bound, ExchangeDeclared, ExchangeDeleted, Kind, QueueDeclared, QueueDeleted, is_soft,
    },
    record::wire::{Wire as _, put_field},
};

/// Bytes of arguments in one declaration: it must fit a record.
const DECLARE_LEN_MAX: usize = 256 * 1024;

/// Bytes of what may be long in a declaration.
fn declare_len(declare: &Declare) -> usize {
    match declare {
        Declare::Queue { options, .. } => options.declaration.as_ref().map_or(0, Bytes::len),
        Declare::Exchange { options, .. } => options.declaration.as_ref().map_or(0, Bytes::len),
        Declare::Bind(binding) | Declare::Unbind(binding) => {
            let levels = binding.key.iter().map(<[u8]>::len).sum::<usize>();
            let filter = match &binding.filter {
                message::Filter::Headers { .. } => binding.arguments.len(),
                message::Filter::Selected { selector, .. } => selector.text().len(),
                _ => 0,
            };
            binding.arguments.len() + levels + filter
        }
        Declare::NewQueue { notes, .. }
        | Declare::Alter { notes, .. }
        | Declare::PurgeAll {
            noted: Some((_, notes)),
            ..
        } => notes
            .iter()
            .map(|(name, note)| name.len() + note.len())
            .sum(),
        Declare::DeleteQueue { .. }
        | Declare::Purge { .. }
        | Declare::PurgeAll { noted: None, .. }
        | Declare::DeleteExchange { .. } => 0,
    }
}

/// Whether a queue may be made by that name: some are kept free for the core (`amq.`) and for other kinds of address.
///
/// # Errors
/// The refusal of whoever declares it.
pub fn check_queue_name(name: &Name) -> Result<(), Refusal> {
    // [AMQP-queue.declare.queue.reserved]
    if name.starts_with(b"amq.") {
        return Err(refusal(
            RefusalKind::AccessDenied,
            format!(
                "queue name '{}' starts with the reserved prefix 'amq.'",
                shown(name)
            ),
        ));
    }
    // DOORS 9: these would be read as other kinds of address.
    let reserved: [&[u8]; 3] = [b"$topic/", b"$stream/", b"$queue/"];
    if name.is_empty() || reserved.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(refusal(
            RefusalKind::InvalidName,
            format!("'{}' cannot name a queue", shown(name)),
        ));
    }
    if name.len() > message::NAME_LEN_MAX {
        return Err(refusal(RefusalKind::InvalidName, "the name is too long"));
    }
    Ok(())
}

/// Two random words out of one; the second differs with `salt` too.
pub(super) const fn two_words(random: u64, salt: u64) -> (u64, u64) {
    let second = random.rotate_left(32) ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (random, second)
}

/// 22 characters that differ from all others made, for made-up names.
fn made_up(prefix: &str, random: u64, salt: u64) -> Bytes {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut name = prefix.as_bytes().to_vec();
    let (first, second) = two_words(random, salt);
    for mut word in [first, second] {
        for _ in 0..11 {
            name.push(DIGITS[(word & 63) as usize]);
            word >>= 6;
        }
    }
    Bytes::from(name)
}

impl Broker {
    pub(super) fn decide_declare(
        &self,
        from: SessionId,
        token: Token,
        lane: Lane,
        declare: &Declare,
        draft: &mut Draft<'_>,
    ) {
        let Some(vhost) = self.attached(from).map(|attached| attached.vhost) else {
            return;
        };
        if declare_len(declare) > DECLARE_LEN_MAX {
            let large = refusal(
                RefusalKind::TooLarge,
                "the arguments are longer than 256 KiB",
            );
            return self.refuse(from, lane, token, large, draft);
        }
        let answer = match declare {
            Declare::Queue {
                name,
                passive,
                options,
            } => self.declare_queue(from, vhost, name, *passive, options, draft),
            Declare::DeleteQueue {
                name,
                if_unused,
                if_empty,
            } => self.declare_deleted(from, vhost, name, *if_unused, *if_empty, draft),
            Declare::NewQueue {
                name,
                unless_deleted_ms,
                attributes,
                notes,
            } => {
                self.declare_new_queue(vhost, name, *unless_deleted_ms, (attributes, notes), draft)
            }
            Declare::Alter {
                name,
                version,
                attributes,
                notes,
            } => self.declare_altered(from, vhost, name, *version, attributes, notes, draft),
            Declare::Purge { name } | Declare::PurgeAll { name, .. } => {
                let all = matches!(declare, Declare::PurgeAll { .. });
                let noted = match declare {
                    Declare::PurgeAll {
                        noted: Some(noted), ..
                    } => self.declare_noted(from, vhost, name, noted, draft),
                    _ => Ok(()),
                };
                // Answered when it is done.
                let purged = noted.and_then(|()| {
                    self.declare_purged(from, (lane, token), vhost, (name, all), draft)
                });
                if let Err(refusal) = purged {
                    self.refuse(from, lane, token, refusal, draft);
                }
                return;
            }
            Declare::Exchange {
                name,
                passive,
                options,
            } => self.declare_exchange(vhost, name, *passive, options, draft),
            Declare::DeleteExchange { name, if_unused } => {
                self.declare_exchange_deleted(vhost, name, *if_unused, draft)
            }
            Declare::Bind(binding) => self.declare_bound(from, vhost, binding, draft),
            Declare::Unbind(binding) => self.declare_unbound(from, vhost, binding, draft),
        };
        match answer {
            Ok((name, messages, consumers)) => draft.reply(
                from,
                lane,
                Wait::Durable,
                Event::Declared {
                    token,
                    name,
                    messages,
                    consumers,
                },
            ),
            Err(refusal) => self.refuse(from, lane, token, refusal, draft),
        }
    }

    pub(super) fn check_queue_room(&self, draft: &Draft<'_>) -> Result<(), Refusal> {
        if self.counters.queues + draft.new_queues() >= self.config.queues_max {
            return Err(refusal(RefusalKind::QuotaExceeded, "too many queues"));
        }
        Ok(())
    }

    /// Exclusive queues cost memory only, and go with their connection: one connection has so many.
    fn check_own_queue_room(&self, from: SessionId) -> Result<(), Refusal> {
        let owned = self.attached(from).map_or(0, |it| it.rare.owned.len());
        if owned as u64 >= self.config.connection_queues_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many exclusive queues on one connection",
            ));
        }
        Ok(())
    }

    /// Refuses what others may not do to an exclusive queue.
    pub(super) fn check_owner(&self, id: QueueId, from: SessionId) -> Result<(), Refusal> {
        match self.soft_queue(id).owner {
            Some(owner) if owner != from => Err(refusal(
                RefusalKind::Locked,
                format!(
                    "queue '{}' is exclusive to another connection",
                    shown(
                        &self
                            .queue(id)
                            .map_or_else(Name::new, |q| q.declared.name.clone())
                    )
                ),
            )
            .but_known(
                self.queue(id)
                    .and_then(|q| q.declared.options.declaration.clone()),
            )),
            _ => Ok(()),
        }
    }

    fn counts(&self, id: QueueId) -> (u64, u32) {
        (self.ready(id), self.soft_queue(id).consumers.len() as u32)
    }

    fn declare_queue(
        &self,
        from: SessionId,
        vhost: VhostId,
        name: &Name,
        passive: bool,
        options: &QueueOptions,
        draft: &mut Draft<'_>,
    ) -> Result<(Name, u64, u32), Refusal> {
        let existing = if name.is_empty() {
            None
        } else {
            self.named(vhost, name)
        };
        if let Some(id) = existing {
            self.check_owner(id, from)?;
            if !passive {
                self.redeclare(id, options, draft)?;
            }
            self.note_use(id, draft);
            let (messages, consumers) = self.counts(id);
            return Ok((name.clone(), messages, consumers));
        }
        if passive {
            return Err(refusal(
                RefusalKind::NotFound,
                format!("no queue '{}'", shown(name)),
            ));
        }
        // DOORS 6: who declares so reads and writes either kind by the bare name.
        if self.has_stream(vhost, name) {
            return Err(refusal(
                RefusalKind::Inequivalent,
                format!("'{}' is a stream", shown(name)),
            ));
        }
        let name = if name.is_empty() {
            self.free_name(vhost, "amq.gen-", draft)
        } else {
            check_queue_name(name)?;
            Bytes::copy_from_slice(name)
        };
        self.check_queue_room(draft)?;
        if options.exclusive {
            self.check_own_queue_room(from)?;
        }
        check_attributes(&options.attributes)?;
        // An exclusive queue goes with its connection, so it is never in the journal.
        let queue = draft.new_queue(self, !options.durable || options.exclusive);
        draft.change(Kind::QueueDeclared(Box::new(QueueDeclared {
            queue,
            vhost,
            name: name.clone(),
            options: Arc::new(compact(options)),
            owner: options.exclusive.then_some(from),
            ..QueueDeclared::default()
        })));
        Ok((name, 0, 0))
    }

    /// Declaring a queue again, looking at it and pulling from it keep it, though nothing comes of it (`expires_ms`).
    pub(super) fn note_use(&self, id: QueueId, draft: &mut Draft<'_>) {
        let expires = self.queue(id).and_then(|it| it.attributes().expires_ms);
        if expires.is_some() {
            draft.change(Kind::Used(id));
        }
    }

    fn free_name(&self, vhost: VhostId, prefix: &str, draft: &Draft<'_>) -> Name {
        (0..)
            .map(|salt| made_up(prefix, draft.random, salt + self.counters.enqueued))
            .find(|name| self.named(vhost, name).is_none())
            .expect("there are more names than queues")
    }

    /// DOORS 11: declarations are compared; a queue that another door made adopts the first declaration that fits. A door that
    /// compares none asks for what it names, and is told if the queue is otherwise.
    fn redeclare(
        &self,
        id: QueueId,
        options: &QueueOptions,
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        let queue = self.queue(id).expect("a name leads to a queue");
        let known = &queue.declared.options;
        let unequal = |what: &str| {
            refusal(
                RefusalKind::Inequivalent,
                format!("queue '{}' exists with {what}", shown(&queue.declared.name)),
            )
        };
        let unlike = |property| {
            unequal(&format!("another {property}")).but_unlike(Some(Unlike {
                property,
                current: number_of(&known.attributes, property),
            }))
        };
        let Some(declaration) = &options.declaration else {
            if options.exclusive && !known.exclusive {
                return Err(unequal("exclusive false"));
            }
            return match differs(&known.attributes, &options.attributes) {
                Some(what) => Err(unlike(what)),
                None => Ok(()),
            };
        };
        if options.exclusive != known.exclusive {
            return Err(refusal(
                RefusalKind::Locked,
                format!(
                    "queue '{}' is {}exclusive",
                    shown(&queue.declared.name),
                    if known.exclusive { "" } else { "not " }
                ),
            ));
        }
        match &known.declaration {
            Some(known) if known == declaration => Ok(()),
            Some(known) => Err(unequal("other properties").but_known(Some(known.clone()))),
            None => {
                if options.auto_delete {
                    return Err(unlike("auto_delete"));
                }
                let attributes = adopted(&known.attributes, &options.attributes).map_err(unlike)?;
                let mut declared = queue.declared.clone();
                declared.options = Arc::new(QueueOptions {
                    attributes,
                    declaration: Some(Bytes::copy_from_slice(declaration)),
                    ..(**known).clone()
                });
                draft.change(Kind::QueueDeclared(Box::new(declared)));
                Ok(())
            }
        }
    }

    fn declare_deleted(
        &self,
        from: SessionId,
        vhost: VhostId,
        name: &Name,
        if_unused: bool,
        if_empty: bool,
        draft: &mut Draft<'_>,
    ) -> Result<(Name, u64, u32), Refusal> {
        // Deleting what is not there succeeds, as RabbitMQ has it since 3.2.
        let Some(id) = self.named(vhost, name) else {
            return Ok((name.clone(), 0, 0));
        };
        self.check_owner(id, from)?;
        let (messages, consumers) = self.counts(id);
        if if_unused && consumers > 0 {
            return Err(refusal(
                RefusalKind::NotEmpty,
                format!("queue '{}' is in use", shown(name)),
            ));
        }
        if if_empty && self.total(id) > 0 {
            return Err(refusal(
                RefusalKind::NotEmpty,
                format!("queue '{}' is not empty", shown(name)),
            ));
        }
        self.delete_queue(id, draft);
        Ok((name.clone(), messages, 0))
    }

    /// Deletes a queue, tells its consumers, and takes along the auto-delete exchanges that it was the last to be bound to.
    pub(super) fn delete_queue(&self, id: QueueId, draft: &mut Draft<'_>) {
        let Some(queue) = self.queue(id) else { return };
        self.refuse_pulls(id, draft);
        self.tell_emptied(id, draft);
        for receiver in self.soft_queue(id).consumers.values() {
            draft.tell(
                receiver.0,
                consumer_lane(receiver.1),
                Wait::Durable,
                Event::Cancelled {
                    consumer: receiver.1,
                    revoked: false,
                },
            );
        }
        let bound: Vec<_> = self
            .soft
            .bound
            .get(&id)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        draft.change(Kind::QueueDeleted(QueueDeleted {
            queue: id,
            doomed: self.empties_slowly(id),
        }));
        self.drop_exchanges_left(queue.declared.vhost, bound, draft);
    }

    /// Auto-delete exchanges whose last binding goes with `removed` go too, and so on.
    pub(super) fn drop_exchanges_left(
        &self,
        vhost: VhostId,
        removed: Vec<Vec<u8>>,
        draft: &mut Draft<'_>,
    ) {
        let mut removed: BTreeSet<Vec<u8>> = removed.into_iter().collect();
        let mut dropped = BTreeSet::new();
        loop {
            let mut found = None;
            for key in &removed {
                let Ok(binding) = Binding::read(&mut message::Reader::new(key.clone().into()))
                else {
                    continue;
                };
                let name = binding.exchange;
                let auto_delete = self
                    .exchange(vhost, &name)
                    .is_some_and(|options| options.auto_delete);
                if auto_delete && !dropped.contains(&name) && self.last_go(vhost, &name, &removed) {
                    found = Some(name);
                    break;
                }
            }
            let Some(name) = found else { return };
            let options = self.exchange(vhost, &name).expect("seen above");
            draft.change(Kind::ExchangeDeleted(Box::new(ExchangeDeleted {
                vhost,
                name: name.clone(),
                soft: !options.durable,
            })));
            removed.extend(self.bindings_of_exchange(vhost, &name));
            dropped.insert(name);
        }
    }

    /// Whether every binding of an exchange is among `removed`. Their keys begin with its name, so no others are looked at.
    fn last_go(&self, vhost: VhostId, name: &Name, removed: &BTreeSet<Vec<u8>>) -> bool {
        let mut prefix = Vec::new();
        put_field(&mut prefix, 1, |out| name.put(out));
        [&self.durable.bindings, &self.soft.bindings]
            .into_iter()
            .all(|bindings| {
                bindings
                    .range((vhost, prefix.clone())..)
                    .take_while(|((at, key), _)| *at == vhost && key.starts_with(&prefix))
                    .all(|((_, key), _)| removed.contains(key))
            })
    }

    fn declare_exchange(
        &self,
        vhost: VhostId,
        name: &Name,
        passive: bool,
        options: &ExchangeOptions,
        draft: &mut Draft<'_>,
    ) -> Result<(Name, u64, u32), Refusal> {
        if name.is_empty() {
            return if passive {
                Ok((Name::new(), 0, 0))
            } else {
                Err(refusal(
                    RefusalKind::AccessDenied,
                    "the default exchange cannot be declared",
                ))
            };
        }
        if let Some(known) = self.exchange(vhost, name) {
            let equal = match (&known.declaration, &options.declaration) {
                (Some(known), Some(new)) => known == new,
                _ => {
                    known.kind == options.kind
                        && known.durable == options.durable
                        && known.auto_delete == options.auto_delete
                        && known.internal == options.internal
                        && known.alternate == options.alternate
                }
            };
            if passive || equal {
                return Ok((name.clone(), 0, 0));
            }
            return Err(refusal(
                RefusalKind::Inequivalent,
                format!("exchange '{}' exists with other properties", shown(name)),
            )
            .but_known(known.declaration.clone()));
        }
        if passive {
            return Err(refusal(
                RefusalKind::NotFound,
                format!("no exchange '{}'", shown(name)),
            ));
        }
        if name.starts_with(b"amq.") {
            return Err(refusal(
                RefusalKind::AccessDenied,
                format!(
                    "exchange name '{}' starts with the reserved prefix 'amq.'",
                    shown(name)
                ),
            ));
        }
        if self.counters.exchanges >= self.config.exchanges_max {
            return Err(refusal(RefusalKind::QuotaExceeded, "too many exchanges"));
        }
        let name = Bytes::copy_from_slice(name);
        let mut options = options.clone();
        options.alternate = options.alternate.map(|name| Bytes::copy_from_slice(&name));
        options.declaration = options
            .declaration
            .map(|bytes| Bytes::copy_from_slice(&bytes));
        draft.change(Kind::ExchangeDeclared(Box::new(ExchangeDeclared {
            vhost,
            name: name.clone(),
            options: Some(Box::new(options)),
        })));
        Ok((name, 0, 0))
    }

    fn declare_exchange_deleted(
        &self,
        vhost: VhostId,
        name: &Name,
        if_unused: bool,
        draft: &mut Draft<'_>,
    ) -> Result<(Name, u64, u32), Refusal> {
        if name.is_empty() || PREDECLARED.iter().any(|(fixed, _)| *name == *fixed) {
            return Err(refusal(
                RefusalKind::AccessDenied,
                format!("exchange '{}' cannot be deleted", shown(name)),
            ));
        }
        let Some(options) = self.exchange(vhost, name) else {
            return Ok((name.clone(), 0, 0));
        };
        let used = self
            .soft
            .routes
            .get(&(vhost, name.clone()))
            .is_some_and(|routes| !routes.is_empty());
        if if_unused && used {
            return Err(refusal(
                RefusalKind::NotEmpty,
                format!("exchange '{}' is in use", shown(name)),
            ));
        }
        draft.change(Kind::ExchangeDeleted(Box::new(ExchangeDeleted {
            vhost,
            name: name.clone(),
            soft: !options.durable,
        })));
        let bindings = self.bindings_of_exchange(vhost, name);
        self.drop_exchanges_left_but(vhost, name, bindings, draft);
        Ok((name.clone(), 0, 0))
    }

    /// As `drop_exchanges_left`, for bindings that go with an exchange that is being deleted already.
    fn drop_exchanges_left_but(
        &self,
        vhost: VhostId,
        name: &Name,
        bindings: Vec<Vec<u8>>,
        draft: &mut Draft<'_>,
    ) {
        let to_it = bindings
            .into_iter()
            .filter(|key| {
                Binding::read(&mut message::Reader::new(key.clone().into()))
                    .is_ok_and(|binding| binding.exchange != name)
            })
            .collect();
        self.drop_exchanges_left(vhost, to_it, draft);
    }

    fn declare_bound(
        &self,
        from: SessionId,
        vhost: VhostId,
        binding: &Binding,
        draft: &mut Draft<'_>,
    ) -> Result<(Name, u64, u32), Refusal> {
        let bound = self.binding(from, vhost, binding)?;
        let key = (
            vhost,
            binding_key(bound.binding.as_deref().expect("made with one")),
        );
        let known =
            self.durable.bindings.contains_key(&key) || self.soft.bindings.contains_key(&key);
        if !known {
            let bindings = self.durable.bindings.len() + self.soft.bindings.len();
            if bindings as u64 >= self.config.bindings_max {
                return Err(refusal(RefusalKind::QuotaExceeded, "too many bindings"));
            }
            draft.change(Kind::Bound(Box::new(bound)));
        }
        Ok((Name::new(), 0, 0))
    }

    fn declare_unbound(
        &self,
        from: SessionId,
        vhost: VhostId,
        binding: &Binding,
        draft: &mut Draft<'_>,
    ) -> Result<(Name, u64, u32), Refusal> {
        if let BindTarget::Queue(name) = &binding.target
            && let Some(id) = self.named(vhost, name)
        {
            self.check_owner(id, from)?;
        }
        // A reading that the exchange does not take would be another binding, and removing it nothing.
        let routes = self.soft.routes.get(&(vhost, binding.exchange.clone()));
        if routes.is_some_and(|routes| !routes.takes(&binding.filter)) {
            return Err(unsuitable(binding));
        }
        let find = |binding: &Binding| {
            let key = (vhost, binding_key(binding));
            let known = self
                .durable
                .bindings
                .get(&key)
                .or_else(|| self.soft.bindings.get(&key));
            known.map(|bound| (key, bound))
        };
        // DOORS 6: what goes by the name of a queue may be a stream.
        let of_stream = |name: &Name| {
            find(&Binding {
                target: BindTarget::Stream(name.clone()),
                ..binding.clone()
            })
        };
        let known = find(binding).or_else(|| match &binding.target {
            BindTarget::Queue(name) => of_stream(name),
            _ => None,
        });
        if let Some((key, bound)) = known {
            draft.change(Kind::Unbound(Box::new(bound.clone())));
            self.drop_exchanges_left(vhost, vec![key.1], draft);
        }
        Ok((Name::new(), 0, 0))
    }

    fn binding(
        &self,
        from: SessionId,
        vhost: VhostId,
        binding: &Binding,
    ) -> Result<Bound, Refusal> {
        if binding.exchange.is_empty() {
            return Err(refusal(
                RefusalKind::AccessDenied,
                "the default exchange has no bindings",
            ));
        }
        let missing = |what: &str, name: &Name| {
            refusal(
                RefusalKind::NotFound,
                format!("no {what} '{}'", shown(name)),
            )
        };
        let (Some(exchange), Some(routes)) = (
            self.exchange(vhost, &binding.exchange),
            self.soft.routes.get(&(vhost, binding.exchange.clone())),
        ) else {
            return Err(missing("exchange", &binding.exchange));
        };
        if !routes.takes(&binding.filter) {
            return Err(unsuitable(binding));
        }
        let mut stream = None;
        let (queue, durable) = match &binding.target {
            BindTarget::Queue(name) => {
                let id = self
                    .named(vhost, name)
                    .ok_or_else(|| missing("queue", name))?;
                self.check_owner(id, from)?;
                (Some(id), !is_soft(id))
            }
            BindTarget::Exchange(name) => {
                let target = self
                    .exchange(vhost, name)
                    .ok_or_else(|| missing("exchange", name))?;
                // [AMQP-queue.bind.transient-exchange], [AMQP-queue.bind.durable-exchange]
                (None, target.durable)
            }
            BindTarget::Stream(name) => {
                let found = self.stream_named(vhost, name);
                stream = Some(found.ok_or_else(|| missing("stream", name))?.0);
                (None, true)
            }
        };
        // What is kept must not pin the read buffer that it came in.
        let mut bytes = Vec::new();
        binding.put(&mut bytes);
        let own =
            Binding::read(&mut message::Reader::new(bytes.into())).expect("what was just written");
        Ok(Bound {
            vhost,
            binding: Some(Box::new(own)),
            queue,
            stream,
            soft: !(durable && exchange.durable),
        })
    }
}

fn unsuitable(binding: &Binding) -> Refusal {
    refusal(
        RefusalKind::InvalidArgument,
        format!(
            "exchange '{}' does not take such a binding",
            shown(&binding.exchange)
        ),
    )
}

pub(super) fn check_attributes(attributes: &QueueAttributes) -> Result<(), Refusal> {
    let invalid = |what| Err(refusal(RefusalKind::InvalidArgument, what));
    if attributes.deliveries_max == Some(0) {
        return invalid("a message must be delivered at least once");
    }
    if attributes.expires_ms == Some(0) {
        return invalid("a queue cannot expire at once");
    }
    if attributes.fifo.is_some() && attributes.priority_max.is_some() {
        return invalid("ordered groups and priorities contradict each other");
    }
    Ok(())
}

/// The options in memory of their own: they must not pin the read buffer that they came in.
pub(super) fn compact(options: &QueueOptions) -> QueueOptions {
    let mut bytes = Vec::new();
    options.put(&mut bytes);
    QueueOptions::read(&mut message::Reader::new(bytes.into())).expect("what was just written")
}

/// An attribute that is a number.
fn number_of(attributes: &QueueAttributes, name: &str) -> Option<u64> {
    match name {
        "visibility_timeout_ms" => attributes.visibility_timeout_ms,
        "retention_ms" => attributes.retention_ms,
        "ttl_ms" => attributes.ttl_ms,
        "expires_ms" => attributes.expires_ms,
        "length_max" => attributes.length_max,
        "bytes_max" => attributes.bytes_max,
        "deliveries_max" => attributes.deliveries_max.map(u64::from),
        "priority_max" => attributes.priority_max.map(u64::from),
        _ => None,
    }
}

/// What of `wanted` is named and not so. Not where dead letters go: a door may name that though nobody asked for it, for
/// queues that it makes, and a queue that is there keeps its own.
fn differs(known: &QueueAttributes, wanted: &QueueAttributes) -> Option<&'static str> {
    fn other<T: PartialEq>(known: &Option<T>, wanted: &Option<T>) -> bool {
        wanted.is_some() && known != wanted
    }
    let named = [
        ("ttl_ms", other(&known.ttl_ms, &wanted.ttl_ms)),
        ("expires_ms", other(&known.expires_ms, &wanted.expires_ms)),
        ("length_max", other(&known.length_max, &wanted.length_max)),
        ("bytes_max", other(&known.bytes_max, &wanted.bytes_max)),
        (
            "overflow",
            wanted.overflow != session::Overflow::default() && known.overflow != wanted.overflow,
        ),
        (
            "deliveries_max",
            other(&known.deliveries_max, &wanted.deliveries_max),
        ),
        (
            "priority_max",
            other(&known.priority_max, &wanted.priority_max),
        ),
        (
            "single_active_consumer",
            wanted.single_active_consumer && !known.single_active_consumer,
        ),
    ];
    let mut named = named.into_iter();
    named.find_map(|(what, differs)| differs.then_some(what))
}

/// The attributes of a queue that another door made, with what a declaration adds; or which of them contradict each other.
fn adopted(
    known: &QueueAttributes,
    new: &QueueAttributes,
) -> Result<QueueAttributes, &'static str> {
    fn merge<T: Clone + PartialEq>(
        what: &'static str,
        known: &Option<T>,
        new: &Option<T>,
    ) -> Result<Option<T>, &'static str> {
        match (known, new) {
            (Some(known), Some(new)) if known != new => Err(what),
            (Some(known), _) => Ok(Some(known.clone())),
            (None, new) => Ok(new.clone()),
        }
    }
    // The order in which entries lie cannot change under them.
    if known.priority_max != new.priority_max && new.priority_max.is_some() {
        return Err("priority_max");
    }
    if known.fifo != new.fifo && new.fifo.is_some() {
        return Err("order");
    }
    let default = session::Overflow::default();
    let overflow = match (known.overflow, new.overflow) {
        (known, new) if new == default || known == new => known,
        (known, new) if known == default => new,
        _ => return Err("overflow"),
    };
    Ok(QueueAttributes {
        visibility_timeout_ms: merge(
            "visibility_timeout_ms",
            &known.visibility_timeout_ms,
            &new.visibility_timeout_ms,
        )?,
        delay_ms: known.delay_ms.max(new.delay_ms),
        retention_ms: merge("retention_ms", &known.retention_ms, &new.retention_ms)?,
        ttl_ms: merge("ttl_ms", &known.ttl_ms, &new.ttl_ms)?,
        expires_ms: merge("expires_ms", &known.expires_ms, &new.expires_ms)?,
        message_len_max: merge(
            "message_len_max",
            &known.message_len_max,
            &new.message_len_max,
        )?,
        length_max: merge("length_max", &known.length_max, &new.length_max)?,
        bytes_max: merge("bytes_max", &known.bytes_max, &new.bytes_max)?,
        overflow,
        dead_letter: merge("dead_letter", &known.dead_letter, &new.dead_letter)?,
        keep_dead_letters: known.keep_dead_letters || new.keep_dead_letters,
        redrive: merge("redrive", &known.redrive, &new.redrive)?,
        deliveries_max: merge("deliveries_max", &known.deliveries_max, &new.deliveries_max)?,
        priority_max: known.priority_max,
        single_active_consumer: known.single_active_consumer || new.single_active_consumer,
        fifo: known.fifo,
        deduplicate: known.deduplicate || new.deduplicate,
    })
}
