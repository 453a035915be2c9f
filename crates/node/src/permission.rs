//! The permission question: which rights a command needs.
//!
//! | command | needs |
//! |---|---|
//! | publish, also in a transaction or beside others; a will | publish on the address and on each further key; publish or subscribe on a reply-to |
//! | the same, or subscribe, where it makes the queue | declare as well |
//! | subscribe, pull, use receipts | subscribe on the queue or the filter |
//! | declare a queue or exchange | declare; with a dead-letter target or alternate exchange subscribe, and publish on that |
//! | delete | declare |
//! | purge | subscribe |
//! | make, change, delete a stream | declare on it |
//! | read a stream, work on its consumer groups | subscribe on it |
//! | move messages out of a dead-letter queue | subscribe on it, publish on the target |
//! | bind, unbind | subscribe on the source with the key, publish on the target |
//! | make, change, delete a topic object | declare on its address |
//! | make or change a subscription | subscribe on what it reads; publish on its target and its dead-letter queue, in whatever virtual host they are |
//! | delete a subscription | subscribe on what it reads |
//!
//! Free of any: looking (passive declarations), lists, what is there from the start (`amq.` exchanges: the core refuses to change
//! them), and a queue that the core has named for this connection alone, which is a part of the connection.
//!
//! A subscription is a thing of its own, as the bindings of a durable queue are: other rules for who made it do not end it.
//!
//! Whoever names a reply-to makes others publish there with rights of their own: so it must be a place where the one who names
//! it may publish or read.

use auth::{Action, Denied, Keys, Principal, Rights, Users, What};
use broker::{Broker, Reading, queue_name};
use message::{Address, Filter, Kind, Message, Name, VhostId};
use session::{
    BindTarget, Binding, Command, Declare, ExchangeKind, MoveTo, Operation, Publish,
    QueueAttributes, QueueOptions, Refusal, RefusalKind, SessionId, Source, StreamTo,
    SubscriptionSettings, SubscriptionTarget, SubscriptionTo, TopicTo,
};

/// How much of a name the log and a refusal show, in bytes.
const SHOWN_LEN_MAX: usize = 200;
/// What stands for the name of a queue that the core is asked to name, and which others may use.
const MADE_UP: &[u8] = b"amq.gen-";

/// A refusal, and what it was about.
#[derive(Debug)]
pub(crate) struct Forbidden {
    pub(crate) action: Action,
    /// For people: `topic 'a/b'`.
    pub(crate) target: String,
    pub(crate) refusal: Refusal,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) session: SessionId,
    pub(crate) vhost: VhostId,
    pub(crate) principal: &'a Principal,
    pub(crate) broker: &'a Broker,
    pub(crate) users: &'a Users,
}

/// Asks for every publish, subscribe and declare.
pub(crate) fn permitted(asker: Asker<'_>, command: &Command) -> Result<(), Box<Forbidden>> {
    if let Command::Subscription { to, .. } = command {
        // Rights elsewhere are other rights.
        asker.elsewhere(to)?;
    }
    if asker.rights().is_all() {
        return Ok(());
    }
    match command {
        Command::Publish(publish) => asker.publish(publish),
        Command::PublishAll(all) => all
            .publishes
            .iter()
            .try_for_each(|publish| asker.publish(publish)),
        Command::Transact(transact) => {
            transact
                .operations
                .iter()
                .try_for_each(|operation| match operation {
                    Operation::Publish(publish) => asker.publish(publish),
                    Operation::Settle(_) => Ok(()),
                })
        }
        Command::OpenClient(open) => match &open.will {
            Some(will) => asker.message(&will.message),
            None => Ok(()),
        },
        Command::Subscribe(subscribe) => match &subscribe.source {
            Source::Queue { name, create } => {
                asker.read(name)?;
                asker.create(name, *create)
            }
            Source::Named { name } if asker.is_stream(name) => {
                asker.ask(Action::Subscribe, What::Stream(name))
            }
            Source::Named { name } => {
                asker.read(name)?;
                asker.create(name, true)
            }
            Source::Stream { name, .. } => asker.ask(Action::Subscribe, What::Stream(name)),
            Source::Topic { filter } | Source::Shared { filter, .. } => {
                asker.ask(Action::Subscribe, What::Topic(Keys::Of(filter)))
            }
        },
        Command::Pull(pull) => asker.read(&pull.queue),
        Command::Declare { declare, .. } => asker.declare(declare),
        Command::Inspect { name, .. } => asker.inspect(name),
        // A name shows nothing of what is in a queue.
        Command::List { .. } => Ok(()),
        Command::UseReceipt(used) => match asker.broker.name_of(used.receipt.queue) {
            Some(name) => asker.read(&name),
            None => Ok(()),
        },
        Command::UseReceipts(all) => {
            let mut known = None;
            all.uses.iter().try_for_each(|(receipt, _)| {
                // Mostly all are of one queue.
                if known.replace(receipt.queue) == Some(receipt.queue) {
                    return Ok(());
                }
                match asker.broker.name_of(receipt.queue) {
                    Some(name) => asker.read(&name),
                    None => Ok(()),
                }
            })
        }
        Command::Stream { name, to, .. } => match **to {
            StreamTo::Inspect => asker.look_at_stream(name),
            StreamTo::Count => Ok(()),
            _ => asker.ask(Action::Declare, What::Stream(name)),
        },
        Command::ReadStream(read) => asker.ask(Action::Subscribe, What::Stream(&read.stream)),
        Command::Group { stream, .. } => asker.ask(Action::Subscribe, What::Stream(stream)),
        Command::Topic { name, to, .. } => asker.topic(name, to),
        Command::Subscription { to, .. } => asker.subscription(to),
        Command::ListSubscriptions(_) => Ok(()),
        Command::MoveTask { to, .. } => match to {
            MoveTo::Start { source, target, .. } => {
                asker.read(source)?;
                match target {
                    Some(target) => asker.ask(Action::Publish, What::Queue(target)),
                    None => asker.ask(Action::Publish, What::EveryQueue),
                }
            }
            MoveTo::List { source } => asker.inspect(source),
            MoveTo::Cancel { .. } => Ok(()),
        },
        // What speaks of something that the connection has.
        Command::Authenticate(_)
        | Command::CloseClient { .. }
        | Command::ReleaseInbound { .. }
        | Command::Cancel { .. }
        | Command::Unsubscribe { .. }
        | Command::Credit { .. }
        | Command::GroupWindow { .. }
        | Command::GroupFlow { .. }
        | Command::Settle(_)
        | Command::CancelPull { .. }
        | Command::CancelRead { .. }
        | Command::Fence { .. } => Ok(()),
    }
}

impl<'a> Asker<'a> {
    const fn rights(&self) -> &'a Rights {
        &self.principal.rights
    }

    /// Whether it may still be read: asked again when rights have changed.
    pub(crate) fn may_read(&self, reading: Reading<'_>) -> bool {
        let asked = match reading {
            Reading::Topic(filter) => self.ask(Action::Subscribe, What::Topic(Keys::Of(filter))),
            Reading::Queue(name) => self.read(name),
            Reading::Stream(name) => self.ask(Action::Subscribe, What::Stream(name)),
            Reading::Binding(binding) => self.source(binding),
            Reading::Will(message) => self.message(message),
        };
        asked.is_ok()
    }

    fn ask(&self, action: Action, what: What<'_>) -> Result<(), Box<Forbidden>> {
        // RabbitMQ's words, which its users search for.
        let access = match action {
            Action::Publish => "write access",
            Action::Subscribe => "read access",
            Action::Declare => "configure access",
        };
        let denied = self.rights().ask(action, what);
        denied.map_err(|denied| Box::new(self.forbidden(denied, (action, access), what)))
    }

    fn forbidden(
        &self,
        denied: Denied,
        (action, access): (Action, &str),
        what: What<'_>,
    ) -> Forbidden {
        let mut target = what.to_string();
        target.truncate(target.floor_char_boundary(SHOWN_LEN_MAX));
        let refusal = if denied.withheld {
            Refusal::new(RefusalKind::Unexplained, "refused")
        } else {
            let Principal { user, vhost, .. } = self.principal;
            Refusal::new(
                RefusalKind::AccessDenied,
                format!("{access} to {target} in vhost '{vhost}' refused for user '{user}'"),
            )
        };
        Forbidden {
            action,
            target,
            refusal,
        }
    }

    fn publish(&self, publish: &Publish) -> Result<(), Box<Forbidden>> {
        self.message(&publish.message)?;
        let Address { kind, name, .. } = &*publish.message.address;
        if *kind != Kind::Queue || (publish.or_stream && self.is_stream(name)) {
            return Ok(());
        }
        self.create(name, publish.create)
    }

    /// Whether the bare name is a stream's (DOORS 6).
    fn is_stream(&self, name: &Name) -> bool {
        !self.broker.has_queue(self.vhost, name) && self.broker.has_stream(self.vhost, name)
    }

    fn message(&self, message: &Message) -> Result<(), Box<Forbidden>> {
        let address = &message.address;
        self.ask(Action::Publish, What::address(address))?;
        let Some(fields) = &message.fields else {
            return Ok(());
        };
        for key in &fields.carbon_copies {
            match address.kind {
                Kind::Queue => {
                    let name = queue_name(key);
                    self.ask(Action::Publish, What::Queue(&name))?;
                }
                Kind::Exchange => {
                    let what = What::exchange(&address.name, Keys::One(key));
                    self.ask(Action::Publish, what)?;
                }
                Kind::Topic => self.ask(Action::Publish, What::Topic(Keys::One(key)))?,
                Kind::Stream => {}
            }
        }
        fields.reply_to.as_ref().map_or(Ok(()), |to| self.reply(to))
    }

    fn reply(&self, to: &Address) -> Result<(), Box<Forbidden>> {
        if to.kind == Kind::Queue && self.is_own(&to.name) {
            return Ok(());
        }
        let what = What::address(to);
        if self.rights().permits(Action::Subscribe, what) {
            return Ok(());
        }
        self.ask(Action::Publish, what)
    }

    fn is_own(&self, name: &Name) -> bool {
        self.broker.is_own_queue(self.session, self.vhost, name)
    }

    /// Whether a queue may be read.
    fn read(&self, name: &Name) -> Result<(), Box<Forbidden>> {
        if self.is_own(name) {
            return Ok(());
        }
        self.ask(Action::Subscribe, What::Queue(name))
    }

    /// Whether a queue's attributes may be seen: by whoever may do anything with it.
    fn inspect(&self, name: &Name) -> Result<(), Box<Forbidden>> {
        if self.is_own(name) {
            return Ok(());
        }
        self.look(What::Queue(name))
    }

    /// Whether a stream's attributes may be seen: by whoever may do anything with it.
    fn look_at_stream(&self, name: &Name) -> Result<(), Box<Forbidden>> {
        self.look(What::Stream(name))
    }

    /// A name that is no topic object's is free: the core says that there is none.
    fn topic(&self, name: &Name, to: &TopicTo) -> Result<(), Box<Forbidden>> {
        let known = self.broker.topic_address(self.vhost, name);
        let address = match (to, known) {
            (TopicTo::Create { address, .. }, None) => address.clone(),
            (_, Some(address)) => address,
            (_, None) => return Ok(()),
        };
        let what = What::Topic(Keys::One(&address));
        match to {
            TopicTo::Inspect => self.look(what),
            TopicTo::Create { .. } | TopicTo::Alter { .. } | TopicTo::Delete => {
                self.ask(Action::Declare, what)
            }
        }
    }

    /// Whether something may be seen: by whoever may do anything with it. A refusal names no right, as each of them would do; it is
    /// counted as one to read.
    fn look(&self, what: What<'_>) -> Result<(), Box<Forbidden>> {
        let may = |action| self.rights().permits(action, what);
        if may(Action::Publish) || may(Action::Declare) {
            return Ok(());
        }
        let asked = (Action::Subscribe, "access");
        let denied = self.rights().ask(asked.0, what);
        denied.map_err(|denied| Box::new(self.forbidden(denied, asked, what)))
    }

    fn subscription(&self, to: &SubscriptionTo) -> Result<(), Box<Forbidden>> {
        let known = |id| self.broker.subscription_place(self.vhost, id);
        match to {
            SubscriptionTo::Create(new) => {
                let at = new.topic.as_ref().and_then(|name| {
                    let address = self.broker.topic_address(self.vhost, name)?;
                    Some(Filter::Exact(address))
                });
                // Neither: there is no such topic, as the core will say.
                if let Some(filter) = new.filter.as_ref().or(at.as_ref()) {
                    self.ask(Action::Subscribe, What::Topic(Keys::Of(filter)))?;
                }
                self.delivers(&new.target, &new.settings)
            }
            SubscriptionTo::Alter { id, settings, .. } => match known(*id) {
                Some(known) => {
                    self.ask(Action::Subscribe, What::Topic(Keys::Of(&known.filter)))?;
                    self.delivers(&known.target, settings)
                }
                None => Ok(()),
            },
            SubscriptionTo::Delete { id } => match known(*id) {
                Some(known) => self.ask(Action::Subscribe, What::Topic(Keys::Of(&known.filter))),
                None => Ok(()),
            },
            SubscriptionTo::Inspect { id } => match known(*id) {
                Some(known) => self.look(What::Topic(Keys::Of(&known.filter))),
                None => Ok(()),
            },
        }
    }

    /// Whether a subscription may deliver into its own virtual host.
    fn delivers(
        &self,
        target: &SubscriptionTarget,
        settings: &SubscriptionSettings,
    ) -> Result<(), Box<Forbidden>> {
        match target {
            SubscriptionTarget::Queue { vhost: None, name } => {
                self.ask(Action::Publish, What::Queue(name))?;
            }
            SubscriptionTarget::Queue { .. } => {}
            SubscriptionTarget::Stream { name, .. } => {
                self.ask(Action::Publish, What::Stream(name))?;
            }
        }
        match &settings.dead_letter {
            Some((None, name)) => self.ask(Action::Publish, What::Queue(name)),
            _ => Ok(()),
        }
    }

    /// Whether a subscription may deliver into other virtual hosts.
    fn elsewhere(&self, to: &SubscriptionTo) -> Result<(), Box<Forbidden>> {
        let target;
        let (target, settings) = match to {
            SubscriptionTo::Create(new) => (&new.target, &new.settings),
            SubscriptionTo::Alter { id, settings, .. } => {
                let Some(known) = self.broker.subscription_place(self.vhost, *id) else {
                    return Ok(());
                };
                target = known.target;
                (&target, settings)
            }
            SubscriptionTo::Delete { .. } | SubscriptionTo::Inspect { .. } => return Ok(()),
        };
        if let SubscriptionTarget::Queue {
            vhost: Some(vhost),
            name,
        } = target
        {
            self.publish_elsewhere(vhost, name)?;
        }
        match &settings.dead_letter {
            Some((Some(vhost), name)) => self.publish_elsewhere(vhost, name),
            _ => Ok(()),
        }
    }

    fn publish_elsewhere(&self, vhost: &str, name: &Name) -> Result<(), Box<Forbidden>> {
        let what = What::Queue(name);
        match self.users.elsewhere(self.principal, vhost) {
            Ok(there) => {
                let asker = Asker {
                    principal: &there,
                    ..*self
                };
                asker.ask(Action::Publish, what)
            }
            Err(refusal) => Err(Box::new(Forbidden {
                action: Action::Publish,
                target: what.to_string(),
                refusal,
            })),
        }
    }

    /// Whether a queue may be made on first use.
    fn create(&self, name: &Name, create: bool) -> Result<(), Box<Forbidden>> {
        if !create || self.broker.has_queue(self.vhost, name) {
            return Ok(());
        }
        self.ask(Action::Declare, What::Queue(name))
    }

    fn declare(&self, declare: &Declare) -> Result<(), Box<Forbidden>> {
        match declare {
            Declare::Queue { passive: true, .. } | Declare::Exchange { passive: true, .. } => {
                Ok(())
            }
            Declare::Queue { name, options, .. } => self.declare_queue(name, options),
            Declare::NewQueue {
                name, attributes, ..
            }
            | Declare::Alter {
                name, attributes, ..
            } => {
                self.ask(Action::Declare, What::Queue(name))?;
                self.dead_letters(name, false, attributes)
            }
            Declare::DeleteQueue { name, .. } if self.is_own(name) => Ok(()),
            Declare::DeleteQueue { name, .. } => self.ask(Action::Declare, What::Queue(name)),
            Declare::Purge { name } | Declare::PurgeAll { name, .. } => self.read(name),
            Declare::Exchange { name, options, .. } => {
                if name.is_empty() || name.starts_with(b"amq.") {
                    return Ok(());
                }
                let this = What::Exchange(name, Keys::All);
                self.ask(Action::Declare, this)?;
                let Some(alternate) = &options.alternate else {
                    return Ok(());
                };
                self.ask(Action::Subscribe, this)?;
                self.ask(Action::Publish, What::exchange(alternate, Keys::All))
            }
            Declare::DeleteExchange { name, .. } => {
                self.ask(Action::Declare, What::exchange(name, Keys::All))
            }
            Declare::Bind(binding) | Declare::Unbind(binding) => {
                self.source(binding)?;
                match &binding.target {
                    BindTarget::Queue(name) if self.is_own(name) => Ok(()),
                    BindTarget::Queue(name) => self.ask(Action::Publish, What::Queue(name)),
                    BindTarget::Stream(name) => self.ask(Action::Publish, What::Stream(name)),
                    BindTarget::Exchange(name) => {
                        self.ask(Action::Publish, What::exchange(name, Keys::All))
                    }
                }
            }
        }
    }

    fn declare_queue(&self, name: &Name, options: &QueueOptions) -> Result<(), Box<Forbidden>> {
        let is_own = name.is_empty() && options.exclusive;
        let this: &[u8] = if name.is_empty() { MADE_UP } else { name };
        if !is_own {
            self.ask(Action::Declare, What::Queue(this))?;
        }
        self.dead_letters(this, is_own, &options.attributes)
    }

    /// Whether what dies in a queue may go where its attributes say.
    fn dead_letters(
        &self,
        this: &[u8],
        is_own: bool,
        attributes: &QueueAttributes,
    ) -> Result<(), Box<Forbidden>> {
        if let Some(target) = &attributes.dead_letter {
            let key = target.key.as_ref();
            let name = key.map(queue_name);
            let what = match &name {
                // Without a key of the queue's own, each message's key says which queue it goes to.
                None if target.exchange.is_empty() => What::EveryQueue,
                Some(name) if target.exchange.is_empty() => What::Queue(name),
                _ => What::exchange(&target.exchange, key.map_or(Keys::All, Keys::One)),
            };
            self.ask(Action::Publish, what)?;
        }
        if let Some(redrive) = &attributes.redrive {
            self.ask(Action::Publish, What::Queue(&redrive.target))?;
        }
        // What dies in it is read out of it.
        let moves = attributes.dead_letter.is_some() || attributes.redrive.is_some();
        if moves && !is_own {
            self.ask(Action::Subscribe, What::Queue(this))?;
        }
        Ok(())
    }

    /// Whether a binding may take from its exchange. How the exchange routes decides what the key says.
    fn source(&self, binding: &Binding) -> Result<(), Box<Forbidden>> {
        let name = &binding.exchange;
        let everything = || What::exchange(name, Keys::All);
        match self.broker.exchange_kind(self.vhost, name) {
            Some(ExchangeKind::Fanout | ExchangeKind::Headers) => {
                self.ask(Action::Subscribe, everything())
            }
            Some(ExchangeKind::Direct) => {
                let exactly = Filter::Exact(binding.key.clone());
                let what = What::exchange(name, Keys::Of(&exactly));
                self.ask(Action::Subscribe, what)
            }
            Some(ExchangeKind::Topic) => {
                let what = What::exchange(name, Keys::Of(&binding.filter));
                self.ask(Action::Subscribe, what)
            }
            // Refused by the core, unless the operator does not even let it be asked for.
            None => self.ask(Action::Subscribe, everything()),
        }
    }
}
