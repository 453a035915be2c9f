//! Everything between CONNECTED and the end.
//!
//! A RECEIPT says that the frame has been processed (STOMP 1.2, "RECEIPT"): that of SEND and COMMIT comes when the
//! messages are safe, that of SUBSCRIBE when the subscription is there, that of ACK when it is durable, and any other
//! when everything before it has been answered.
//!
//! A SUBSCRIBE that needs a queue made by the core holds up the frames behind it, so that a SEND that follows it is
//! seen by it. Everything else is handed on at once: the core decides commands in their order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use bytes::Bytes;
use message::{Name, Timestamp, VhostId};
use session::{
    Command, ConsumerId, Delivery, DeliveryId, Event, Lane, Outcome, Output, PublishOutcome,
    Refusal, Settle, Token, Transact,
};

use crate::{
    Config, Dialect,
    codec::{Escapes, Frame, Verb, Version},
    destination::{Destination, DestinationError, Temporary, is_ambiguous},
    error::Fault,
    message::{Envelope, delivery_address, put_delivery_destination},
};

use super::{
    handshake::Welcome, ledger::fold, opening::Opening, subscribing::Subscriptions,
    transaction::Transactions,
};

/// STOMP has one order for everything.
pub(super) const LANE: Lane = Lane(0);

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Go,
    Over,
}

/// What an answer of the core is waited for.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Then the receipt is sent, if one was asked for.
    Receipt(Option<Bytes>),
    /// Then the subscription is there, and the receipt is sent.
    Subscribed(ConsumerId, Option<Bytes>),
    /// Then the subscription is forgotten, and the receipt is sent.
    Unsubscribed(ConsumerId, Option<Bytes>),
    /// Nothing, unless it is refused: then that frame's receipt is named.
    Part(Option<Bytes>),
    /// Nothing, even if it is refused.
    Attempt,
    /// Then the receipt is sent, if one was asked for, and the connection ends.
    Goodbye(Option<Bytes>),
}

impl Waiting {
    const fn has_receipt(&self) -> bool {
        matches!(
            self,
            Self::Receipt(Some(_))
                | Self::Subscribed(_, Some(_))
                | Self::Unsubscribed(_, Some(_))
                | Self::Goodbye(Some(_))
        )
    }
}

/// A connection that has logged in.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) config: Arc<Config>,
    pub(super) version: Version,
    pub(super) vhost: VhostId,
    pub(super) user: Arc<str>,
    pub(super) client: Bytes,
    /// Tells the message ids of this connection from those of others.
    session: String,
    next_token: u64,
    waiting: BTreeMap<Token, Waiting>,
    pub(super) subscriptions: Subscriptions,
    pub(super) transactions: Transactions,
    /// Temporary queues and topics, and the names that the core made up for them.
    pub(super) temporary: BTreeMap<Temporary, Name>,
    /// The frames behind this wait.
    pub(super) opening: Option<Opening>,
    /// Exchanges that the core has been asked for.
    pub(super) exchanges: BTreeSet<Name>,
    /// Queues that have been made as the dialect has it.
    pub(super) queues: BTreeSet<Name>,
    pub(super) blocked: Option<&'static str>,
    leaving: bool,
    /// Room for a destination and a message id.
    scratch: (Vec<u8>, String),
}

impl Conversation {
    pub(super) fn new(
        config: Arc<Config>,
        version: Version,
        welcome: Welcome,
        session: String,
    ) -> Self {
        Self {
            config,
            version,
            vhost: welcome.vhost,
            user: welcome.user,
            client: welcome.client,
            session,
            next_token: 1,
            waiting: BTreeMap::new(),
            subscriptions: Subscriptions::default(),
            transactions: Transactions::default(),
            temporary: BTreeMap::new(),
            opening: None,
            exchanges: BTreeSet::new(),
            queues: BTreeSet::new(),
            blocked: None,
            leaving: false,
            scratch: Default::default(),
        }
    }

    pub(super) const fn wants_bytes(&self) -> bool {
        self.opening.is_none() && !self.leaving
    }

    pub(super) fn token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
    }

    /// A token whose answer is waited for.
    pub(super) fn await_answer(&mut self, waiting: Waiting) -> Token {
        let token = self.token();
        self.waiting.insert(token, waiting);
        token
    }

    /// A token if a receipt was asked for.
    /// [STOMP-receipt-1].
    pub(super) fn await_receipt(&mut self, receipt: Option<Bytes>) -> Option<Token> {
        receipt.map(|receipt| self.await_answer(Waiting::Receipt(Some(receipt))))
    }

    /// The receipt of a frame that has no answer of its own.
    /// [STOMP-receipt-2].
    pub(super) fn fence(&mut self, receipt: Option<Bytes>, out: &mut Output) {
        if let Some(token) = self.await_receipt(receipt) {
            let lane = LANE;
            out.commands.push_back(Command::Fence { token, lane });
        }
    }

    pub(super) fn on_frame(
        &mut self,
        frame: Frame,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<Next, Fault> {
        match frame.verb {
            Verb::Send => self.on_send(frame, now, out)?,
            Verb::Subscribe => self.on_subscribe(frame, out)?,
            Verb::Unsubscribe => self.on_unsubscribe(&frame, out)?,
            Verb::Ack => self.on_ack(&frame, Outcome::Accept, out)?,
            // [STOMP-nack-1]
            Verb::Nack => {
                // STOMP 1.0 has no NACK.
                if self.version == Version::V1_0 {
                    return Err(Fault::peer("unknown command", "STOMP 1.0 has no NACK"));
                }
                let reject = match frame.headers.text("requeue") {
                    Some("false") => true,
                    Some("true") => false,
                    _ => self.config.rejects_on_nack(),
                };
                let outcome = if reject {
                    Outcome::Reject
                } else {
                    Outcome::Release
                };
                self.on_ack(&frame, outcome, out)?;
            }
            Verb::Begin => {
                let name = required(&frame, "transaction")?;
                self.transactions.begin(name, &self.config)?;
                self.fence(frame.receipt(), out);
            }
            Verb::Commit => self.on_commit(&frame, out)?,
            // [STOMP-abort-1]
            Verb::Abort => {
                let transaction = self.transactions.take(required(&frame, "transaction")?)?;
                for (consumer, numbers) in transaction.set_aside {
                    if let Some(subscription) = self.subscriptions.of(ConsumerId(consumer)) {
                        subscription.ledger.lay_back(&numbers);
                    }
                }
                self.fence(frame.receipt(), out);
            }
            // [STOMP-disconnect-1]
            Verb::Disconnect => {
                let receipt = frame.receipt();
                // Nobody waits for anything.
                if receipt.is_none() && !self.waiting.values().any(Waiting::has_receipt) {
                    return Ok(Next::Over);
                }
                // STOMP 1.2, "DISCONNECT": its receipt says that every frame before it has been processed. Without one,
                // those that were asked for earlier are still given.
                let token = self.await_answer(Waiting::Goodbye(receipt));
                let lane = LANE;
                out.commands.push_back(Command::Fence { token, lane });
                self.leaving = true;
            }
            Verb::Connect | Verb::Stomp => {
                return Err(Fault::peer("already connected", "CONNECT came twice"));
            }
            // [STOMP-frame-16]
            Verb::Connected | Verb::Message | Verb::Receipt | Verb::Error => {
                let detail = format!("{} is a frame of the server", frame.verb.as_str());
                return Err(Fault::peer("unexpected frame", detail));
            }
        }
        Ok(Next::Go)
    }

    /// [STOMP-ack-1], [STOMP-ack-2].
    fn on_ack(&mut self, frame: &Frame, outcome: Outcome, out: &mut Output) -> Result<(), Fault> {
        // STOMP 1.2, "ACK": `id`. STOMP 1.1: `message-id` and `subscription`. STOMP 1.0: `message-id`.
        let id = match self.version {
            Version::V1_2 => required(frame, "id")?,
            Version::V1_1 | Version::V1_0 => required(frame, "message-id")?,
        };
        let subscription = match self.version {
            Version::V1_1 => Some(required(frame, "subscription")?),
            Version::V1_0 | Version::V1_2 => None,
        };
        let unknown = || {
            let detail = format!("'{}' is not out", String::from_utf8_lossy(id));
            Fault::peer("no such message", detail)
        };
        let (consumer, number) = read_message_id(id).ok_or_else(unknown)?;
        let found = self
            .subscriptions
            .of(ConsumerId(consumer))
            .filter(|found| subscription.is_none_or(|named| found.id == *named))
            .ok_or_else(unknown)?;
        let delivery = found.ledger.find(number).ok_or_else(unknown)?;
        let text = &mut self.scratch.1;
        text.clear();
        put_message_id(consumer, number, Some(delivery), &self.session, text);
        if text.as_bytes() != id {
            return Err(unknown());
        }
        let numbers = found.ledger.covered(number, found.ack.is_cumulative());
        let receipt = frame.receipt();
        let settle = |deliveries| Settle {
            token: None,
            lane: LANE,
            deliveries,
            outcome,
        };
        if let Some(name) = frame.headers.first("transaction") {
            let settles = fold(found.ledger.set_aside(&numbers))
                .into_iter()
                .map(settle);
            self.transactions
                .settle(name, consumer, numbers, settles, &self.config)?;
            self.fence(receipt, out);
            return Ok(());
        }
        let mut ranges = fold(found.ledger.take(&numbers)).into_iter().peekable();
        self.subscriptions.forget_if_done(ConsumerId(consumer));
        while let Some(range) = ranges.next() {
            let mut settle = settle(range);
            if ranges.peek().is_none() {
                settle.token = self.await_receipt(receipt.clone());
            }
            out.commands.push_back(Command::Settle(settle));
        }
        Ok(())
    }

    /// [STOMP-begin-2].
    fn on_commit(&mut self, frame: &Frame, out: &mut Output) -> Result<(), Fault> {
        let transaction = self.transactions.take(required(frame, "transaction")?)?;
        for (consumer, numbers) in transaction.set_aside {
            let consumer = ConsumerId(consumer);
            if let Some(subscription) = self.subscriptions.of(consumer) {
                subscription.ledger.take(&numbers);
                self.subscriptions.forget_if_done(consumer);
            }
        }
        if transaction.operations.is_empty() {
            self.fence(frame.receipt(), out);
            return Ok(());
        }
        let token = self.await_answer(Waiting::Receipt(frame.receipt()));
        out.commands.push_back(Command::Transact(Box::new(Transact {
            token,
            lane: LANE,
            operations: transaction.operations,
        })));
        Ok(())
    }

    pub(super) fn on_event(
        &mut self,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<Next, Fault> {
        match event {
            Event::Delivery(delivery) => self.on_delivery(&delivery, out),
            Event::Published { token, outcome } => match outcome {
                PublishOutcome::Accepted { .. } | PublishOutcome::Duplicate { .. } => {
                    return Ok(self.on_answer(token, out));
                }
                PublishOutcome::Refused(refusal) => self.on_refusal(token, refusal)?,
            },
            Event::Accepted { tokens } => {
                let mut next = Next::Go;
                for token in tokens {
                    next = self.on_answer(token, out);
                }
                return Ok(next);
            }
            Event::Refused { token, refusal } => self.on_refusal(token, refusal)?,
            Event::Declared { token, name, .. } => {
                if self
                    .opening
                    .as_ref()
                    .is_some_and(|opening| opening.token == token)
                {
                    return self.on_opened(name, now, out);
                }
                return Ok(self.on_answer(token, out));
            }
            Event::Subscribed { token }
            | Event::Unsubscribed { token, .. }
            | Event::Settled { token, .. }
            | Event::Committed { token, .. }
            | Event::Stream { token, .. }
            | Event::Reached { token } => return Ok(self.on_answer(token, out)),
            Event::Cancelled { consumer, revoked } => {
                if let Some(subscription) = self.subscriptions.of(consumer)
                    && !subscription.ended
                {
                    let id = String::from_utf8_lossy(&subscription.id);
                    if revoked {
                        let destination = String::from_utf8_lossy(&subscription.destination);
                        let detail = format!(
                            "'{destination}' of subscription '{id}' may not be read any more"
                        );
                        return Err(Fault::other("subscription cancelled", detail));
                    }
                    let detail = format!("the queue of subscription '{id}' is gone");
                    return Err(Fault::other("subscription cancelled", detail));
                }
            }
            // A SEND without a receipt. STOMP 1.2, "ERROR": whatever goes wrong is told so.
            Event::PublishRefused { refusal, .. } => return Err(Fault::from(refusal)),
            Event::Blocked { blocked, reason } => self.blocked = blocked.then_some(reason),
            // Nothing that this session asks is answered so, and it has no client session.
            Event::Burst(_)
            | Event::Authenticated { .. }
            | Event::Opened { .. }
            | Event::Resumed { .. }
            | Event::Returned { .. }
            | Event::InboundReleased { .. }
            | Event::Pulled { .. }
            | Event::Inspected { .. }
            | Event::Listed { .. }
            | Event::MoveTasks { .. }
            | Event::Records { .. }
            | Event::Group { .. }
            | Event::Topic { .. }
            | Event::Subscription { .. }
            | Event::ListedSubscriptions { .. }
            | Event::PublishedAll { .. }
            | Event::SettledAll { .. }
            | Event::Closing { .. } => {}
        }
        Ok(Next::Go)
    }

    fn on_answer(&mut self, token: Token, out: &mut Output) -> Next {
        let (receipt, next) = match self.waiting.remove(&token) {
            Some(Waiting::Receipt(receipt)) => (receipt, Next::Go),
            Some(Waiting::Subscribed(consumer, receipt)) => {
                // A SUBSCRIBE for which there was no room may be decided after the UNSUBSCRIBE that followed it.
                if self.subscriptions.of(consumer).is_none_or(|s| s.closed) {
                    self.cancel(consumer, None, out);
                }
                (receipt, Next::Go)
            }
            Some(Waiting::Unsubscribed(consumer, receipt)) => {
                self.subscriptions.closed(consumer);
                (receipt, Next::Go)
            }
            Some(Waiting::Goodbye(receipt)) => (receipt, Next::Over),
            Some(Waiting::Part(_) | Waiting::Attempt) | None => (None, Next::Go),
        };
        if let Some(receipt) = receipt {
            Frame::new(Verb::Receipt)
                .with("receipt-id", receipt)
                .encode(self.version, &mut out.wire);
        }
        next
    }

    /// [STOMP-send-4], [STOMP-subscribe-5].
    fn on_refusal(&mut self, token: Token, refusal: Refusal) -> Result<(), Fault> {
        let opening = self.opening.take_if(|opening| opening.token == token);
        let receipt = match self.waiting.remove(&token) {
            Some(
                Waiting::Receipt(receipt)
                | Waiting::Subscribed(_, receipt)
                | Waiting::Unsubscribed(_, receipt)
                | Waiting::Part(receipt)
                | Waiting::Goodbye(receipt),
            ) => receipt,
            Some(Waiting::Attempt) => return Ok(()),
            None => opening.and_then(Opening::receipt),
        };
        Err(Fault::from(refusal).with_receipt(receipt))
    }

    /// [STOMP-message-1], [STOMP-message-2], [STOMP-message-3].
    fn on_delivery(&mut self, delivery: &Delivery, out: &mut Output) {
        let settle = |id: DeliveryId, outcome| {
            let deliveries = fold(vec![id]).pop().expect("one delivery is one range");
            Command::Settle(Settle {
                token: None,
                lane: LANE,
                deliveries,
                outcome,
            })
        };
        let found = self.subscriptions.of(delivery.consumer);
        let (subscription, id) = match (found, delivery.id) {
            (Some(subscription), id) if !subscription.ended || id.is_none() => (subscription, id),
            // It was on its way when the subscription ended.
            (_, Some(id)) => {
                out.commands.push_back(settle(id, Outcome::Release));
                return;
            }
            (_, None) => return,
        };
        let (destination, message_id) = &mut self.scratch;
        destination.clear();
        let escapes = Escapes::of(self.version, Verb::Message);
        if !put_delivery_destination(delivery, self.config.dialect, destination)
            || !escapes.can_show(destination)
        {
            // A topic whose name cannot be written is not delivered. A queue has a name that the peer itself wrote.
            if subscription.of_topic {
                self.config.counters.add_delivery_unnameable();
                if let Some(id) = id {
                    out.commands.push_back(settle(id, Outcome::Accept));
                }
                return;
            }
            destination.clear();
            destination.extend_from_slice(&subscription.destination);
        } else if is_ambiguous(delivery_address(delivery), self.config.dialect) {
            self.config.counters.add_name_ambiguous();
        }
        // ActiveMQ shows who made a temporary destination its own name for it.
        if self.config.dialect == Dialect::ActiveMq
            && subscription.destination.starts_with(b"/temp-")
        {
            destination.clear();
            destination.extend_from_slice(&subscription.destination);
        }
        let number = subscription.ledger.push(id);
        message_id.clear();
        put_message_id(delivery.consumer.0, number, id, &self.session, message_id);
        let envelope = Envelope {
            version: self.version,
            dialect: self.config.dialect,
            destination,
            subscription: subscription.named.then_some(&subscription.id[..]),
            message_id: message_id.as_bytes(),
            acknowledged: self.version == Version::V1_2 && id.is_some(),
        };
        let omitted = envelope.encode(delivery, &mut out.wire);
        self.config.counters.add_headers_omitted(omitted);
    }
}

/// The id of one delivery: consumer, number, and what makes it differ from those of other connections.
fn put_message_id(
    consumer: u64,
    number: u64,
    id: Option<DeliveryId>,
    session: &str,
    text: &mut String,
) {
    let result = match id {
        Some(id) => write!(text, "{consumer}-{number}-{:x}.{:x}", id.queue.0, id.qseq),
        None => write!(text, "{consumer}-{number}-{session}"),
    };
    result.expect("a string takes everything");
}

/// Consumer and number of a message id.
fn read_message_id(text: &[u8]) -> Option<(u64, u64)> {
    let mut parts = std::str::from_utf8(text).ok()?.splitn(3, '-');
    let consumer = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    Some((consumer, number))
}

/// The value of a header that must be there.
pub(super) fn required<'a>(frame: &'a Frame, name: &'static str) -> Result<&'a Bytes, Fault> {
    frame
        .headers
        .first(name)
        .ok_or_else(|| Fault::missing(name, frame.verb))
}

/// Reads a destination, or says what is wrong with it.
pub(super) fn parse(text: &Bytes) -> Result<Destination, Fault> {
    Destination::parse(text).map_err(|error| {
        let mut fault = of_destination(error);
        fault.detail = format!("'{}': {error}", String::from_utf8_lossy(text)).into();
        fault
    })
}

pub(super) fn of_destination(error: DestinationError) -> Fault {
    if error.is_not_built() {
        Fault::not_built(error.to_string())
    } else if error == DestinationError::Reserved {
        Fault::other("access denied", error.to_string())
    } else {
        Fault::peer("invalid destination", error.to_string())
    }
}
