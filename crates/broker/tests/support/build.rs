//! Commands and messages in few words, for tests that should read like a dialogue.

use bytes::Bytes;
use message::{Address, Filter, FilterLevel, Levels, Message, Pattern, VhostId};
use session::{
    BindTarget, Binding, ClientExpiry, Command, ConsumerId, Credit, Declare, Delivery, DeliveryId,
    DeliveryRange, ExchangeKind, ExchangeOptions, Lane, Lease, OpenClient, Outcome, Publish, Pull,
    QueueAttributes, QueueOptions, Settle, Source, Subscribe, SubscriptionOptions, Token, Transact,
};
use smallvec::SmallVec;

use super::node::Give;

/// Levels cut at the dots; the empty text is no level.
pub(crate) fn key(text: &str) -> Levels {
    if text.is_empty() {
        return Levels::none();
    }
    Levels::split(Bytes::copy_from_slice(text.as_bytes()), b'.').expect("short enough")
}

/// A pattern cut at the dots, with `*` and `#`.
pub(crate) fn pattern(text: &str) -> Pattern {
    Pattern(
        text.split('.')
            .map(|level| match level {
                "*" => FilterLevel::One,
                "#" => FilterLevel::Many,
                _ => FilterLevel::Exact(Bytes::copy_from_slice(level.as_bytes())),
            })
            .collect(),
    )
}

/// To a queue.
pub(crate) fn to_queue(queue: &str, body: &str) -> Message {
    message(Address::queue(VhostId::ROOT, name(queue)), body)
}

/// To a topic of the root space.
pub(crate) fn to_topic(topic: &str, body: &str) -> Message {
    message(Address::topic(VhostId::ROOT, key(topic)), body)
}

/// To an exchange.
pub(crate) fn to_exchange(exchange: &str, routing_key: &str, body: &str) -> Message {
    message(
        Address::exchange(VhostId::ROOT, name(exchange), key(routing_key)),
        body,
    )
}

fn message(address: Address, body: &str) -> Message {
    Message::new(address, Bytes::copy_from_slice(body.as_bytes()))
}

pub(crate) fn name(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The body of a delivery as text.
pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

/// What tests change about a message.
pub(crate) trait MessageWith: Sized {
    fn with(self, change: impl FnOnce(&mut Self)) -> Self;
    /// Durable.
    fn durable(self) -> Self;
    /// Durable at that quality of service, or not durable at 0.
    fn qos(self, qos: u8) -> Self;
    fn retained(self) -> Self;
}

impl MessageWith for Message {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
    fn durable(self) -> Self {
        self.qos(1)
    }
    fn qos(self, qos: u8) -> Self {
        self.with(|message| {
            message.durable = qos > 0;
            message.qos = qos;
        })
    }
    fn retained(self) -> Self {
        self.with(|message| message.retain = true)
    }
}

/// A publish without a confirm.
pub(crate) fn publish(message: Message) -> Publish {
    Publish {
        token: None,
        lane: Lane(0),
        message: message.into(),
        mandatory: false,
        create: false,
        inbound_id: None,
        or_stream: false,
        hash_key: None,
        folds: false,
    }
}

/// What tests change about a publish.
pub(crate) trait PublishWith: Sized {
    fn confirm(self, token: Token) -> Self;
    fn mandatory(self) -> Self;
    fn creating(self) -> Self;
    fn inbound(self, id: u16) -> Self;
}

impl PublishWith for Publish {
    fn confirm(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }
    fn mandatory(mut self) -> Self {
        self.mandatory = true;
        self
    }
    fn creating(mut self) -> Self {
        self.create = true;
        self
    }
    fn inbound(mut self, id: u16) -> Self {
        self.inbound_id = Some(id);
        self
    }
}

macro_rules! given {
    ($($type:ty => $command:expr;)*) => {
        $(impl Give for $type {
            fn command(self) -> Command {
                let make: fn($type) -> Command = $command;
                make(self)
            }
        })*
    };
}

given! {
    Publish => Command::Publish;
    Subscribe => |subscribe| Command::Subscribe(Box::new(subscribe));
    Settle => Command::Settle;
    Pull => Command::Pull;
    OpenClient => |open| Command::OpenClient(Box::new(open));
    Transact => |transact| Command::Transact(Box::new(transact));
    Command => |command| command;
}

// ---- declarations

/// A durable queue, with these attributes.
pub(crate) fn queue(queue: &str, change: impl FnOnce(&mut QueueAttributes)) -> Declare {
    queue_with(queue, |options| change(&mut options.attributes))
}

/// A durable queue, with these options.
pub(crate) fn queue_with(queue: &str, change: impl FnOnce(&mut QueueOptions)) -> Declare {
    let mut options = QueueOptions {
        durable: true,
        ..QueueOptions::default()
    };
    change(&mut options);
    Declare::Queue {
        name: name(queue),
        passive: false,
        options: Box::new(options),
    }
}

/// A durable queue without anything special.
pub(crate) fn plain(queue_name: &str) -> Declare {
    queue(queue_name, |_| {})
}

/// Only looks at a queue.
pub(crate) fn look(queue: &str) -> Declare {
    Declare::Queue {
        name: name(queue),
        passive: true,
        options: Box::default(),
    }
}

pub(crate) fn delete(queue: &str) -> Declare {
    Declare::DeleteQueue {
        name: name(queue),
        if_unused: false,
        if_empty: false,
    }
}

/// A durable exchange.
pub(crate) fn exchange(exchange: &str, kind: ExchangeKind) -> Declare {
    exchange_with(exchange, kind, |_| {})
}

pub(crate) fn exchange_with(
    exchange: &str,
    kind: ExchangeKind,
    change: impl FnOnce(&mut ExchangeOptions),
) -> Declare {
    let mut options = ExchangeOptions {
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        alternate: None,
        declaration: None,
    };
    change(&mut options);
    Declare::Exchange {
        name: name(exchange),
        passive: false,
        options: Box::new(options),
    }
}

/// A binding as a door makes it that does not know the exchange's kind: pattern and key.
pub(crate) fn binding(exchange: &str, target: BindTarget, routing_key: &str) -> Binding {
    Binding {
        exchange: name(exchange),
        target,
        filter: if routing_key.is_empty() {
            Filter::Pattern(Pattern::default())
        } else {
            Filter::Pattern(pattern(routing_key))
        },
        key: key(routing_key),
        arguments: Bytes::new(),
    }
}

pub(crate) fn bind(exchange: &str, queue: &str, routing_key: &str) -> Declare {
    Declare::Bind(Box::new(binding(
        exchange,
        BindTarget::Queue(name(queue)),
        routing_key,
    )))
}

pub(crate) fn bind_exchange(exchange: &str, to: &str, routing_key: &str) -> Declare {
    Declare::Bind(Box::new(binding(
        exchange,
        BindTarget::Exchange(name(to)),
        routing_key,
    )))
}

// ---- receiving

/// A consumer of a queue without a window.
pub(crate) fn consume(consumer: u64, queue: &str) -> Subscribe {
    Subscribe {
        token: Token(0),
        lane: Lane(0),
        consumer: ConsumerId(consumer),
        source: Source::Queue {
            name: name(queue),
            create: false,
        },
        credit: Credit::Window(0),
        group: 0,
        exclusive: false,
        priority: 0,
        through_client: false,
        options: SubscriptionOptions::default(),
    }
}

/// A client session's subscription to topics.
pub(crate) fn subscribe(filter: &str, qos: u8) -> Subscribe {
    Subscribe {
        consumer: ConsumerId::CLIENT,
        source: Source::Topic {
            filter: Filter::Pattern(pattern(filter)),
        },
        options: SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        },
        ..consume(0, "")
    }
}

/// What tests change about a subscription.
pub(crate) trait SubscribeWith: Sized {
    fn with(self, change: impl FnOnce(&mut Self)) -> Self;
    fn window(self, window: u32) -> Self;
    fn credit(self, credit: Credit) -> Self;
}

impl SubscribeWith for Subscribe {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
    fn window(self, window: u32) -> Self {
        self.credit(Credit::Window(window))
    }
    fn credit(self, credit: Credit) -> Self {
        self.with(|subscribe| subscribe.credit = credit)
    }
}

/// Settles one delivery without an answer.
pub(crate) fn settle(id: DeliveryId, outcome: Outcome) -> Settle {
    Settle {
        token: None,
        lane: Lane(0),
        deliveries: DeliveryRange {
            queue: id.queue,
            ranges: SmallVec::from_slice(&[(id.qseq, id.qseq)]),
        },
        outcome,
    }
}

/// Settles a delivery without an answer.
pub(crate) fn settle_delivery(delivery: &Delivery, outcome: Outcome) -> Settle {
    settle(delivery.id.expect("it is not settled yet"), outcome)
}

pub(crate) fn pull(queue: &str, count: u32, lease: Lease) -> Pull {
    Pull {
        token: Token(0),
        lane: Lane(0),
        queue: name(queue),
        count,
        lease,
        wait_ms: 0,
        out_max: None,
        bytes_max: None,
        attempt: None,
    }
}

/// A client session that is kept for ever.
pub(crate) fn open(client: &str) -> OpenClient {
    OpenClient {
        token: Token(0),
        client_id: name(client),
        clean_start: false,
        expiry: ClientExpiry::Never,
        window: 65_535,
        message_len_max: None,
        will: None,
    }
}
