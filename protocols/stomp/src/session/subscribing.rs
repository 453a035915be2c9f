//! SUBSCRIBE and UNSUBSCRIBE.
//!
//! | destination | what is read |
//! |---|---|
//! | a queue | the queue, shared with its other consumers |
//! | a topic, an exchange | a queue of this connection, bound to it; gone with the subscription |
//! | the same, durable | a durable queue, bound to it, that stays: see `durable_queue` |
//! | a stream, a queue of type `stream` | the stream: see `streams.rs` |
//! | a temporary queue | that queue |
//!
//! A durable subscription of ActiveMQ's spelling is read by one connection at a time, as JMS has it.
//! A queue with options (`durable`, `auto-delete`, `exclusive`, RabbitMQ's `x-` arguments) is declared with them.

use std::collections::BTreeMap;

use bytes::Bytes;
use message::{Filter, Levels, Name};
use session::{
    BindTarget, Binding, Command, ConsumerId, Credit, Declare, Output, QueueOptions, Source,
    Subscribe, SubscriptionOptions,
};

use crate::{
    Dialect, Version,
    codec::{Escapes, Frame, Headers, Verb},
    destination::{self, Destination},
    error::Fault,
};

use super::{
    conversation::{Conversation, LANE, Waiting, of_destination, parse, required},
    ledger::Ledger,
    options::{first_number, queue_options, refuse_unbuilt, selector, virtual_topic},
    streams::speaks_of_stream,
};

/// The exchange that is the root space.
const ROOT_SPACE: &str = "amq.topic";

/// How deliveries are acknowledged (STOMP 1.2, "SUBSCRIBE ack Header").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    Auto,
    Client,
    ClientIndividual,
}

impl Ack {
    /// [STOMP-subscribe-6], [STOMP-subscribe-7].
    fn parse(text: Option<&str>) -> Result<Self, Fault> {
        match text {
            None | Some("auto") => Ok(Self::Auto),
            Some("client") => Ok(Self::Client),
            Some("client-individual") => Ok(Self::ClientIndividual),
            Some(other) => Err(Fault::invalid(
                "ack",
                other.as_bytes(),
                "auto, client or client-individual",
            )),
        }
    }

    /// [STOMP-nack-2].
    pub(super) const fn is_cumulative(self) -> bool {
        matches!(self, Self::Client)
    }
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The `id` header; in 1.0 without one, the destination.
    pub(super) id: Bytes,
    /// There was an `id` header.
    pub(super) named: bool,
    pub(super) destination: Bytes,
    pub(super) ack: Ack,
    /// It reads a topic or an exchange, through a queue made for it.
    pub(super) of_topic: bool,
    /// The durable queue made for it.
    durable_queue: Option<Name>,
    /// Made for a `reply-to`, not by a SUBSCRIBE.
    implicit: bool,
    pub(super) ledger: Ledger,
    /// UNSUBSCRIBE has come; what is out may still be acknowledged.
    pub(super) ended: bool,
    /// The core has said so too.
    pub(super) closed: bool,
}

/// The subscriptions of a connection.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    last: u64,
    by_consumer: BTreeMap<u64, Subscription>,
    by_id: BTreeMap<Bytes, u64>,
}

impl Subscriptions {
    pub(super) fn of(&mut self, consumer: ConsumerId) -> Option<&mut Subscription> {
        self.by_consumer.get_mut(&consumer.0)
    }

    fn named(&self, id: &Bytes) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    fn add(&mut self, subscription: Subscription) -> ConsumerId {
        self.last += 1;
        self.by_id.insert(subscription.id.clone(), self.last);
        self.by_consumer.insert(self.last, subscription);
        ConsumerId(self.last)
    }

    fn end(&mut self, id: &Bytes) -> Option<(ConsumerId, Option<Name>)> {
        let consumer = self.by_id.remove(id)?;
        let subscription = self.by_consumer.get_mut(&consumer)?;
        subscription.ended = true;
        Some((ConsumerId(consumer), subscription.durable_queue.clone()))
    }

    /// Ends the oldest subscription to that destination.
    fn end_reading(&mut self, destination: &Bytes) -> Option<(ConsumerId, Option<Name>)> {
        let mut live = self.by_consumer.values().filter(|found| !found.ended);
        let id = live
            .find(|found| found.destination == destination)?
            .id
            .clone();
        self.end(&id)
    }

    fn end_implicit(&mut self, id: &Bytes) -> Option<ConsumerId> {
        let consumer = ConsumerId(self.named(id)?);
        if !self.of(consumer)?.implicit {
            return None;
        }
        self.end(id).map(|(consumer, _)| consumer)
    }

    /// Nothing more comes for it.
    pub(super) fn closed(&mut self, consumer: ConsumerId) {
        if let Some(subscription) = self.of(consumer) {
            subscription.closed = true;
        }
        self.forget_if_done(consumer);
    }

    /// Forgets a subscription that has ended and has nothing out.
    pub(super) fn forget_if_done(&mut self, consumer: ConsumerId) {
        if self
            .of(consumer)
            .is_some_and(|subscription| subscription.closed && subscription.ledger.is_empty())
        {
            self.by_consumer.remove(&consumer.0);
        }
    }
}

/// What a SUBSCRIBE asks for, apart from where.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: Bytes,
    pub(super) named: bool,
    pub(super) destination: Bytes,
    pub(super) ack: Ack,
    pub(super) prefetch: u32,
    pub(super) priority: i32,
    /// No other reader.
    pub(super) exclusive: bool,
    pub(super) implicit: bool,
    pub(super) receipt: Option<Bytes>,
}

/// What a topic subscription's queue is bound to.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) exchange: Name,
    pub(super) filter: Filter,
    pub(super) key: Levels,
}

/// A queue's messages go to whoever reads it; only what comes through a topic is looked at on its way.
fn refuse_selector(headers: &Headers) -> Result<(), Fault> {
    if selector(headers)?.is_some() {
        let detail = "a selector on a queue is not implemented, only one on a topic";
        return Err(Fault::not_built(detail));
    }
    Ok(())
}

/// The name of a durable subscription, ActiveMQ's and Artemis's way.
fn subscription_name(headers: &Headers) -> Option<&Bytes> {
    [
        "activemq.subscriptionName",
        "durable-subscription-name",
        "durable-subscriber-name",
    ]
    .iter()
    .find_map(|name| headers.first(name))
}

impl Conversation {
    /// [STOMP-subscribe-1], [STOMP-subscribe-2], [STOMP-subscribe-3], [STOMP-subscribe-4].
    pub(super) fn on_subscribe(&mut self, frame: Frame, out: &mut Output) -> Result<(), Fault> {
        let text = required(&frame, "destination")?.clone();
        let headers = &frame.headers;
        refuse_unbuilt(headers)?;
        let id = match headers.first("id") {
            Some(id) => Some(id.clone()),
            None if self.version == Version::V1_0 => None,
            // STOMP 1.1, "SUBSCRIBE": the id is required.
            None => return Err(Fault::missing("id", Verb::Subscribe)),
        };
        // Each MESSAGE says it again; 1.0 and 1.1 let characters in that they cannot write (CR).
        if let Some(id) = &id
            && !Escapes::of(self.version, Verb::Message).can_show(id)
        {
            return Err(Fault::invalid("id", id, "without a line end"));
        }
        let request = Request {
            named: id.is_some(),
            id: id.unwrap_or_else(|| text.clone()),
            destination: text.clone(),
            ack: Ack::parse(headers.text("ack"))?,
            prefetch: first_number(headers, &["prefetch-count", "activemq.prefetchSize"])?
                .unwrap_or(self.config.prefetch_default),
            priority: first_number(headers, &["x-priority", "activemq.priority"])?.unwrap_or(0),
            exclusive: false,
            implicit: false,
            receipt: frame.receipt(),
        };
        let destination = parse(&text)?;
        // A subscription made for a `reply-to` gives way to the peer's own.
        if matches!(destination, Destination::Temporary(_))
            && let Some(consumer) = self.subscriptions.end_implicit(&text)
        {
            self.cancel(consumer, None, out);
        }
        if self.subscriptions.named(&request.id).is_some() {
            let detail = format!("'{}' is in use", String::from_utf8_lossy(&request.id));
            return Err(Fault::peer("subscription exists", detail));
        }
        match destination {
            Destination::Queue { name, .. } if speaks_of_stream(headers) => {
                refuse_selector(headers)?;
                self.subscribe_stream(request, headers, (&name, true), out)
            }
            Destination::Queue { name, create } => {
                self.subscribe_queue(request, headers, name, create, out)
            }
            Destination::Topic(key) => self.subscribe_exchange(
                request,
                headers,
                Name::from_static(ROOT_SPACE.as_bytes()),
                &key,
                out,
            ),
            Destination::Exchange { name, key } => {
                self.subscribe_exchange(request, headers, name, &key, out)
            }
            Destination::Stream(name) => {
                refuse_selector(headers)?;
                self.subscribe_stream(request, headers, (&name, false), out)
            }
            Destination::Temporary(temporary) => {
                let Some(real) = self.temporary.get(&temporary) else {
                    return self.open_temporary(temporary, false, frame, out);
                };
                if temporary.topic {
                    let key = destination::temporary_topic(real);
                    let root = Name::from_static(ROOT_SPACE.as_bytes());
                    return self.subscribe_exchange(request, headers, root, &key, out);
                }
                refuse_selector(headers)?;
                let name = real.clone();
                let create = false;
                self.read(request, Source::Queue { name, create }, false, None, out)
            }
        }
    }

    fn subscribe_queue(
        &mut self,
        request: Request,
        headers: &Headers,
        name: Name,
        create: bool,
        out: &mut Output,
    ) -> Result<(), Fault> {
        refuse_selector(headers)?;
        let options = queue_options(headers, self.config.dialect)?;
        let virtual_topic = match self.config.dialect {
            Dialect::ActiveMq if create => virtual_topic(&name),
            _ => None,
        };
        if create && (options.is_some() || virtual_topic.is_some()) {
            let durable = true;
            let mut options = options.unwrap_or_else(|| QueueOptions {
                durable,
                ..QueueOptions::default()
            });
            self.keep_dead_letters(&mut options, out);
            self.declare(name.clone(), options, request.receipt.clone(), out);
        } else if create {
            self.make_queue(&name, out);
        }
        if let Some(topic) = virtual_topic {
            let bind = self.bind_to(Name::from_static(ROOT_SPACE.as_bytes()), &topic)?;
            self.bind(name.clone(), bind, request.receipt.clone(), out);
        }
        // DOORS 6: without a queue of that name it is the stream's.
        let source = if create {
            Source::Named { name }
        } else {
            Source::Queue { name, create }
        };
        self.read(request, source, false, None, out)
    }

    fn subscribe_exchange(
        &mut self,
        mut request: Request,
        headers: &Headers,
        exchange: Name,
        key: &Bytes,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let mut bind = self.bind_to(exchange, key)?;
        if let (Some(selector), Filter::Pattern(pattern)) = (selector(headers)?, &bind.filter) {
            let pattern = pattern.clone();
            bind.filter = Filter::Selected { pattern, selector };
        }
        if let Some(queue) = self.durable_queue(headers, &request.id, &request.destination)? {
            let mut options = queue_options(headers, self.config.dialect)?.unwrap_or_default();
            (options.durable, options.auto_delete) = (true, false);
            request.exclusive = subscription_name(headers).is_some();
            self.keep_dead_letters(&mut options, out);
            self.declare(queue.clone(), options, request.receipt.clone(), out);
            self.bind(queue.clone(), bind, request.receipt.clone(), out);
            let source = Source::Queue {
                name: queue.clone(),
                create: false,
            };
            return self.read(request, source, true, Some(queue), out);
        }
        let mut options = queue_options(headers, self.config.dialect)?.unwrap_or_default();
        // ActiveMQ keeps so many for a slow consumer and drops the oldest; -1 is all.
        let pending = first_number::<i64>(headers, &["activemq.maximumPendingMessageLimit"])?;
        if let Some(limit @ 0..) = pending {
            // None at all would keep the next one from its reader too.
            let limit = limit.unsigned_abs().max(1);
            options.attributes.length_max.get_or_insert(limit);
        }
        self.keep_dead_letters(&mut options, out);
        // RabbitMQ: a queue of that name, which others may read too.
        if let Some(queue) = headers.first("x-queue-name") {
            let queue = Name::copy_from_slice(queue);
            (options.durable, options.auto_delete) = (false, true);
            self.declare(queue.clone(), options, request.receipt.clone(), out);
            self.bind(queue.clone(), bind, request.receipt.clone(), out);
            let create = false;
            let source = Source::Queue {
                name: queue,
                create,
            };
            return self.read(request, source, true, None, out);
        }
        self.open_subscription(request, bind, options.attributes, out);
        Ok(())
    }

    /// The name of the durable queue behind a subscription to a topic, if it is a durable one.
    ///
    /// RabbitMQ's way: `durable:true` and not `auto-delete:true`; named by `x-queue-name`, else by id and destination.
    /// ActiveMQ's: `activemq.subscriptionName` (Artemis: `durable-subscription-name`) and a `client-id` in CONNECT.
    fn durable_queue(
        &self,
        headers: &Headers,
        id: &Bytes,
        destination: &Bytes,
    ) -> Result<Option<Name>, Fault> {
        if let Some(name) = subscription_name(headers) {
            if self.client.is_empty() {
                let detail = "a durable subscription needs the header 'client-id' in CONNECT";
                return Err(Fault::peer("missing header", detail));
            }
            return Ok(Some([&self.client[..], b".", name].concat().into()));
        }
        // RabbitMQ takes `persistent` for `durable` here.
        let durable = headers.is_true("durable") || headers.is_true("persistent");
        if !durable || headers.is_true("auto-delete") {
            return Ok(None);
        }
        Ok(Some(headers.first("x-queue-name").cloned().unwrap_or_else(
            || {
                [b"stomp-subscription-", &id[..], b"-", destination]
                    .concat()
                    .into()
            },
        )))
    }

    fn bind_to(&self, exchange: Name, key: &Bytes) -> Result<Bind, Fault> {
        let pattern = destination::pattern(key, self.config.dialect).map_err(of_destination)?;
        Ok(Bind {
            exchange,
            filter: Filter::Pattern(pattern),
            key: destination::levels(key, self.config.dialect).map_err(of_destination)?,
        })
    }

    /// Binds a queue. If that is refused, the SUBSCRIBE that asked for `receipt` is.
    pub(super) fn bind(
        &mut self,
        queue: Name,
        bind: Bind,
        receipt: Option<Bytes>,
        out: &mut Output,
    ) {
        let token = self.await_answer(Waiting::Part(receipt));
        out.commands.push_back(Command::Declare {
            token,
            lane: LANE,
            declare: Declare::Bind(Box::new(Binding {
                exchange: bind.exchange,
                target: BindTarget::Queue(queue),
                filter: bind.filter,
                key: bind.key,
                arguments: Bytes::new(),
            })),
        });
    }

    /// Declares a queue. If that is refused, the frame that asked for `receipt` is.
    pub(super) fn declare(
        &mut self,
        name: Name,
        options: QueueOptions,
        receipt: Option<Bytes>,
        out: &mut Output,
    ) {
        let token = self.await_answer(Waiting::Part(receipt));
        let passive = false;
        out.commands.push_back(Command::Declare {
            token,
            lane: LANE,
            declare: Declare::Queue {
                name,
                passive,
                options: Box::new(options),
            },
        });
    }

    /// Starts the consumer.
    pub(super) fn read(
        &mut self,
        request: Request,
        source: Source,
        of_topic: bool,
        durable_queue: Option<Name>,
        out: &mut Output,
    ) -> Result<(), Fault> {
        if self.subscriptions.by_consumer.len() >= self.config.subscriptions_max {
            let max = self.config.subscriptions_max;
            let detail = format!("more than {max} subscriptions");
            return Err(Fault::peer("quota exceeded", detail));
        }
        // What lasts as long as the subscription must not keep a read buffer alive.
        let consumer = self.subscriptions.add(Subscription {
            id: Bytes::copy_from_slice(&request.id),
            named: request.named,
            destination: Bytes::copy_from_slice(&request.destination),
            ack: request.ack,
            of_topic,
            durable_queue,
            implicit: request.implicit,
            ledger: Ledger::default(),
            ended: false,
            closed: false,
        });
        let token = self.await_answer(Waiting::Subscribed(consumer, request.receipt));
        out.commands
            .push_back(Command::Subscribe(Box::new(Subscribe {
                token,
                lane: LANE,
                consumer,
                source,
                credit: match request.ack {
                    Ack::Auto => Credit::Settled,
                    Ack::Client | Ack::ClientIndividual => Credit::Window(request.prefetch),
                },
                group: 0,
                exclusive: request.exclusive,
                priority: request.priority,
                through_client: false,
                options: SubscriptionOptions::default(),
            })));
        Ok(())
    }

    pub(super) fn cancel(
        &mut self,
        consumer: ConsumerId,
        receipt: Option<Bytes>,
        out: &mut Output,
    ) {
        let token = self.await_answer(Waiting::Unsubscribed(consumer, receipt));
        out.commands.push_back(Command::Cancel {
            token,
            lane: LANE,
            consumer,
        });
    }

    /// [STOMP-unsubscribe-1], [STOMP-unsubscribe-2].
    pub(super) fn on_unsubscribe(&mut self, frame: &Frame, out: &mut Output) -> Result<(), Fault> {
        let headers = &frame.headers;
        let destination = headers.first("destination");
        // STOMP 1.1, "UNSUBSCRIBE": the id is required; 1.0 takes the destination instead.
        let id = match (headers.first("id"), destination) {
            (Some(id), _) => id,
            (None, Some(destination)) if self.version == Version::V1_0 => destination,
            (None, _) => return Err(Fault::missing("id", Verb::Unsubscribe)),
        };
        let ended = match self.subscriptions.end(id) {
            // STOMP 1.0, "UNSUBSCRIBE": the destination will do, though the SUBSCRIBE had an id.
            None if headers.first("id").is_none() => self.subscriptions.end_reading(id),
            ended => ended,
        };
        let stays = Bytes::new();
        let durable = self.durable_queue(headers, id, destination.unwrap_or(&stays))?;
        let (consumer, queue) = match ended {
            Some((consumer, queue)) => (Some(consumer), durable.and(queue)),
            // A durable subscription may be ended by a connection that does not read it.
            None if durable.is_some() => (None, durable),
            None => {
                let detail = format!("'{}' is not subscribed", String::from_utf8_lossy(id));
                return Err(Fault::peer("no such subscription", detail));
            }
        };
        let mut receipt = frame.receipt();
        if let Some(consumer) = consumer {
            let last = queue.is_none();
            let receipt = if last { receipt.take() } else { None };
            self.cancel(consumer, receipt, out);
        }
        if let Some(name) = queue {
            let token = self.await_answer(Waiting::Receipt(receipt));
            let (if_unused, if_empty) = (false, false);
            out.commands.push_back(Command::Declare {
                token,
                lane: LANE,
                declare: Declare::DeleteQueue {
                    name,
                    if_unused,
                    if_empty,
                },
            });
        }
        Ok(())
    }
}
