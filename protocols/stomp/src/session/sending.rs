//! SEND: where it goes, and what must be there before.
//!
//! | destination | what is done |
//! |---|---|
//! | a queue | it is made when there is none and no stream of that name either, with RabbitMQ's `x-` arguments if the frame names some |
//! | a temporary queue or topic | it is made first, and the frame is seen again |
//! | an exchange, without a receipt | the core is asked for it once, so that a SEND to none is not lost in silence |
//! | a stream | nothing; with `x-queue-type:stream` it is made when there is none |
//! | several, separated by commas (ActiveMQ) | one message each, all or none |
//!
//! In the dialect of ActiveMQ a queue that is made has `ActiveMQ.DLQ` for its dead letters, as that broker's users expect.

use std::sync::Arc;

use message::{Address, Kind, Name, Timestamp};
use session::{
    Command, DeadLetter, Declare, ExchangeKind, ExchangeOptions, Operation, Output, Publish,
    QueueOptions, Transact,
};
use smallvec::SmallVec;

use crate::{
    Dialect,
    codec::Frame,
    destination::{self, Destination, DestinationError, Temporary},
    error::Fault,
    message::{Publisher, ReplyTo, reply_to},
};

use super::{
    conversation::{Conversation, LANE, Waiting, of_destination, parse, required},
    options::queue_options,
    streams::asks_for_stream,
};

/// Most destinations in one SEND.
const DESTINATIONS_MAX: usize = 32;
/// Most names of queues and of exchanges that are remembered.
const NAMES_MAX: usize = 1_000;
/// Where ActiveMQ puts what was rejected or has expired.
const DEAD_LETTERS: &[u8] = b"ActiveMQ.DLQ";

impl Conversation {
    /// [STOMP-send-1], [STOMP-send-3].
    pub(super) fn on_send(
        &mut self,
        frame: Frame,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let text = required(&frame, "destination")?;
        let mut destinations: SmallVec<[Destination; 1]> = SmallVec::new();
        if text.contains(&b',') && self.config.dialect != Dialect::RabbitMq {
            for part in destination::parts(text) {
                if destinations.len() == DESTINATIONS_MAX {
                    let detail = format!("more than {DESTINATIONS_MAX} destinations in one");
                    return Err(Fault::peer("quota exceeded", detail));
                }
                destinations.push(parse(&part)?);
            }
        } else {
            destinations.push(parse(text)?);
        }
        let answers = reply_to(&frame.headers);
        // Temporary ones are made first, and the frame is seen again.
        if let Some(missing) = destinations.iter().find_map(|found| self.unmade(found)) {
            return self.open_temporary(missing, false, frame, out);
        }
        if let Some(missing) = answers.as_ref().and_then(|found| self.unmade(found)) {
            return self.open_temporary(missing, true, frame, out);
        }
        let answers = answers.and_then(|destination| {
            let as_it_came = !matches!(destination, Destination::Temporary(_));
            let (address, _) = self.address(destination).ok()?;
            Some(ReplyTo {
                address,
                as_it_came,
            })
        });
        if destinations.len() == 1 {
            let destination = destinations.remove(0);
            let (address, create) = self.address(destination).map_err(of_destination)?;
            return self.send_to_one(frame, address, create, answers, now, out);
        }
        let mut publishes = Vec::with_capacity(destinations.len());
        for destination in destinations {
            let (address, create) = self.address(destination).map_err(of_destination)?;
            let (address, create) = self.streamed(&frame, address, create, out)?;
            self.prepare(&frame, &address, create, out)?;
            let frame = frame.clone();
            publishes.push(self.publish_of(frame, address, create, answers.clone(), now)?);
        }
        let receipt = frame.receipt();
        self.check_storage(&publishes[0], receipt.is_some())?;
        if let Some(name) = frame.headers.first("transaction") {
            for publish in publishes {
                self.transactions.publish(name, publish, &self.config)?;
            }
            self.fence(receipt, out);
            return Ok(());
        }
        let token = self.await_answer(Waiting::Receipt(receipt));
        out.commands.push_back(Command::Transact(Box::new(Transact {
            token,
            lane: LANE,
            operations: publishes.into_iter().map(Operation::Publish).collect(),
        })));
        Ok(())
    }

    fn send_to_one(
        &mut self,
        frame: Frame,
        address: Address,
        create: bool,
        reply_to: Option<ReplyTo>,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let (address, create) = self.streamed(&frame, address, create, out)?;
        self.prepare(&frame, &address, create, out)?;
        let receipt = frame.receipt();
        let transaction = frame.headers.first("transaction").cloned();
        let mut publish = self.publish_of(frame, address, create, reply_to, now)?;
        self.check_storage(&publish, receipt.is_some())?;
        if let Some(name) = transaction {
            self.transactions.publish(&name, publish, &self.config)?;
            self.fence(receipt, out);
        } else {
            publish.token = self.await_receipt(receipt);
            if publish.token.is_none() {
                self.ask_for_exchange(&publish.message.address, out);
            }
            out.commands.push_back(Command::Publish(publish));
        }
        Ok(())
    }

    fn publish_of(
        &self,
        frame: Frame,
        address: Address,
        create: bool,
        reply_to: Option<ReplyTo>,
        now: Timestamp,
    ) -> Result<Publish, Fault> {
        let publisher = Publisher {
            dialect: self.config.dialect,
            user: &self.user,
            now,
        };
        Ok(Publish {
            token: None,
            lane: LANE,
            message: Arc::new(publisher.message(frame, address, reply_to)?),
            mandatory: false,
            create,
            inbound_id: None,
            or_stream: true,
            hash_key: None,
            folds: true,
        })
    }

    /// Without a receipt nobody would hear that a message could not be stored.
    fn check_storage(&self, publish: &Publish, confirmed: bool) -> Result<(), Fault> {
        match self.blocked {
            Some(reason) if publish.message.durable && !confirmed => {
                Err(Fault::other("storage full", reason))
            }
            _ => Ok(()),
        }
    }

    /// The temporary destination that this is, if it is yet to be made.
    fn unmade(&self, destination: &Destination) -> Option<Temporary> {
        match destination {
            Destination::Temporary(temporary) if !self.temporary.contains_key(temporary) => {
                Some(temporary.clone())
            }
            _ => None,
        }
    }

    fn address(&self, destination: Destination) -> Result<(Address, bool), DestinationError> {
        if let Destination::Temporary(temporary) = &destination {
            let name = self
                .temporary
                .get(temporary)
                .expect("temporary destinations are made before they are addressed");
            let address = if temporary.topic {
                let key =
                    destination::levels(&destination::temporary_topic(name), self.config.dialect)?;
                Address::topic(self.vhost, key)
            } else {
                Address::queue(self.vhost, name.clone())
            };
            return Ok((address, false));
        }
        let address = destination::address(destination, self.vhost, self.config.dialect)?;
        Ok(address.expect("only temporary destinations have no address"))
    }

    /// Where a SEND goes that may speak of a stream: with `x-queue-type:stream` a queue is one, and it is made when there is none.
    fn streamed(
        &mut self,
        frame: &Frame,
        address: Address,
        create: bool,
        out: &mut Output,
    ) -> Result<(Address, bool), Fault> {
        if !asks_for_stream(&frame.headers) || !matches!(address.kind, Kind::Queue | Kind::Stream) {
            return Ok((address, create));
        }
        let named = (&address.name, address.kind == Kind::Queue);
        self.make_stream(named, &frame.headers, frame.receipt(), out)?;
        let address = Address::stream(address.vhost, address.name, message::Levels::none());
        Ok((address, false))
    }

    /// Declares the queue of a SEND where the plain one that its first message makes would not do.
    fn prepare(
        &mut self,
        frame: &Frame,
        address: &Address,
        create: bool,
        out: &mut Output,
    ) -> Result<(), Fault> {
        if !create || address.kind != Kind::Queue {
            return Ok(());
        }
        match queue_options(&frame.headers, self.config.dialect)? {
            Some(mut options) => {
                self.keep_dead_letters(&mut options, out);
                self.declare(address.name.clone(), options, frame.receipt(), out);
            }
            None => self.make_queue(&address.name, out),
        }
        Ok(())
    }

    /// Makes a queue as the dialect has it, once for each name. Another rule than the core's own holds for ActiveMQ only;
    /// whether the user may do without is asked again with the SEND or SUBSCRIBE itself.
    pub(super) fn make_queue(&mut self, name: &Name, out: &mut Output) {
        if self.config.dialect != Dialect::ActiveMq
            || name == DEAD_LETTERS
            || self.queues.contains(name)
        {
            return;
        }
        if self.queues.len() < NAMES_MAX {
            // Not a part of the read buffer, which it would keep alive.
            self.queues.insert(Name::copy_from_slice(name));
        }
        let mut options = QueueOptions {
            durable: true,
            ..QueueOptions::default()
        };
        self.keep_dead_letters(&mut options, out);
        self.attempt(name.clone(), options, out);
    }

    /// Gives a queue that is made in the dialect of ActiveMQ that broker's place for dead letters.
    pub(super) fn keep_dead_letters(&mut self, options: &mut QueueOptions, out: &mut Output) {
        if self.config.dialect != Dialect::ActiveMq || options.attributes.dead_letter.is_some() {
            return;
        }
        let target = Name::from_static(DEAD_LETTERS);
        options.attributes.dead_letter = Some(DeadLetter {
            exchange: Name::new(),
            key: Some(message::Levels::one(target.clone())),
        });
        if self.queues.insert(target.clone()) {
            let durable = true;
            let options = QueueOptions {
                durable,
                ..QueueOptions::default()
            };
            self.attempt(target, options, out);
        }
    }

    /// Declares a queue that nobody asked for: a refusal is no error.
    fn attempt(&mut self, name: Name, options: QueueOptions, out: &mut Output) {
        let token = self.await_answer(Waiting::Attempt);
        out.commands.push_back(Command::Declare {
            token,
            lane: LANE,
            declare: Declare::Queue {
                name,
                passive: false,
                options: Box::new(options),
            },
        });
    }

    /// A SEND without a receipt has no answer. So that one to an exchange that does not exist is not lost in silence,
    /// the core is asked for each exchange once.
    fn ask_for_exchange(&mut self, address: &Address, out: &mut Output) {
        if address.kind != Kind::Exchange
            || self.exchanges.len() >= NAMES_MAX
            || self.exchanges.contains(&address.name)
        {
            return;
        }
        // Not a part of the read buffer, which it would keep alive.
        let name = Name::copy_from_slice(&address.name);
        self.exchanges.insert(name.clone());
        let token = self.await_answer(Waiting::Part(None));
        out.commands.push_back(Command::Declare {
            token,
            lane: LANE,
            declare: Declare::Exchange {
                name,
                passive: true,
                options: Box::new(ExchangeOptions {
                    kind: ExchangeKind::Topic,
                    durable: false,
                    auto_delete: false,
                    internal: false,
                    alternate: None,
                    declaration: None,
                }),
            },
        });
    }
}
