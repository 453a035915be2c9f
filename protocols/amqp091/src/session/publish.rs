//! Publishing: plain, confirmed, and staged in a transaction.
//!
//! Confirmed: every publish carries a token; its answer becomes `basic.ack` or `basic.nack`. Runs of acks in sequence are
//! held back to the end of the batch and told in one `multiple` ack, which is right because everything below them has been told.
//! Plain: no token, so nothing is stored for the sake of an answer; a refusal that is worth telling comes all the same
//! (`Event::PublishRefused`) and closes the channel.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Buf as _, Bytes, BytesMut};
use message::{Address, Message, Timestamp};
use session::{
    Command, Operation, Output, Publish, PublishOutcome, Refusal, RefusalKind, Transact,
};

use super::{
    AmqpSession, Phase,
    channel::{Channel, Content, Mode, Outstanding, Pending},
    step::{Shared, Step, settle_one, token},
};
use crate::{
    codec::{BasicProperties, basic, confirm, look_at_publish, tx},
    error::{Fault, ReplyCode, code_of},
    message::{self as conversion, Publisher},
};

/// What a staged publish counts for besides its body and properties, in bytes.
const OPERATION_LEN: usize = 512;

impl AmqpSession {
    /// Takes a publish off the front of `input`, if all of it is there, it goes where another one went, and nothing holds it up. `false`:
    /// nothing was taken.
    pub(super) fn take_publish(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> bool {
        let Self {
            phase: Phase::Running,
            channels,
            shared,
            ..
        } = self
        else {
            return false;
        };
        let Some(it) = look_at_publish(input, shared.frame_max) else {
            return false;
        };
        let number = it.channel;
        let Some(channel) = channels.get_mut(number) else {
            return false;
        };
        if channel.holds_frames()
            || channel.content.is_some()
            || it.body.len() as u64 > shared.config.message_len_max
        {
            return false;
        }
        let Some(address) = shared.places.find(it.exchange, it.routing_key) else {
            return false;
        };
        let (mandatory, header, body) = (it.mandatory, it.properties, it.body);
        let properties = match BasicProperties::known(&input[header.clone()]) {
            Some(known) => {
                input.advance(body.start);
                Bytes::from_static(known)
            }
            None => {
                input.advance(header.start);
                let properties = input.split_to(header.len()).freeze();
                input.advance(body.start - header.end);
                properties
            }
        };
        let body = input.split_to(body.len()).freeze();
        input.advance(1);
        let mut step = Step { shared, now, out };
        step.on_publishing();
        let published = channel.publish_to(address, mandatory, properties, body, &mut step);
        if let Err(fault) = published {
            self.fail(number, fault.by((60, 40)), now, out);
        }
        true
    }
}

impl Channel {
    /// [AMQP-basic.publish.immediate.01].
    pub(crate) fn on_publish(&mut self, publish: basic::Publish) -> Result<(), Fault> {
        if publish.immediate {
            return Err(Fault::new(ReplyCode::NotImplemented, "immediate=true"));
        }
        self.content = Some(Content {
            publish,
            header: None,
            body: BytesMut::new(),
        });
        Ok(())
    }

    /// The content is whole, and published.
    /// [AMQP-exchange.default-exchange], [AMQP-basic.01], [AMQP-basic.publish.exchange.default-exchange].
    pub(crate) fn publish(&mut self, body: Bytes, step: &mut Step<'_>) -> Result<(), Fault> {
        let Some(Content {
            publish,
            header: Some(header),
            body: _,
        }) = self.content.take()
        else {
            unreachable!("a method and a header were there before the content was whole");
        };
        let (places, vhost) = (&mut step.shared.places, step.shared.vhost);
        let address = places.address(vhost, &publish.exchange, &publish.routing_key)?;
        self.publish_to(address, publish.mandatory, header.properties, body, step)
    }

    fn publish_to(
        &mut self,
        address: Arc<Address>,
        mandatory: bool,
        properties: Bytes,
        body: Bytes,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let len = OPERATION_LEN + properties.len() + body.len();
        let by = Publisher {
            vhost: step.shared.vhost,
            user: &step.shared.user,
            reply_queue: self.reply_queue.as_ref(),
            now: step.now,
        };
        let message = conversion::from_publish(address, properties, body, by)?;
        let mut publish = Publish {
            token: None,
            lane: self.lane(),
            message: Arc::new(message),
            mandatory,
            create: false,
            inbound_id: None,
            or_stream: true,
            hash_key: None,
            folds: true,
        };
        match &mut self.mode {
            Mode::Plain => step.command(Command::Publish(publish)),
            Mode::Confirm {
                last, outstanding, ..
            } => {
                *last += 1;
                let token = token(self.number, step.shared.number());
                outstanding.push_back(Outstanding {
                    token,
                    sequence: *last,
                    done: false,
                });
                publish.token = Some(token);
                step.command(Command::Publish(publish));
            }
            Mode::Transaction {
                operations,
                len: total,
                ..
            } => {
                if step.shared.staged + len > step.shared.config.transaction_len_max {
                    return Err(too_large());
                }
                *total += len;
                step.shared.staged += len;
                stage(operations, Operation::Publish(publish), step)?;
            }
        }
        Ok(())
    }

    /// [RABBIT-confirms-3].
    pub(crate) fn on_confirm_select(
        &mut self,
        select: &confirm::Select,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        match self.mode {
            Mode::Transaction { .. } => {
                return Err(Fault::new(
                    ReplyCode::PreconditionFailed,
                    "cannot switch from tx to confirm mode",
                ));
            }
            Mode::Confirm { .. } => {}
            Mode::Plain => {
                self.mode = Mode::Confirm {
                    last: 0,
                    outstanding: VecDeque::new(),
                    held: None,
                };
            }
        }
        if !select.no_wait {
            step.send(self.number, confirm::SelectOk {});
        }
        Ok(())
    }

    /// The core has answered a publish.
    /// [RABBIT-confirms-1], [RABBIT-nack-2].
    pub(crate) fn on_published(
        &mut self,
        token: session::Token,
        outcome: PublishOutcome,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let refused = match outcome {
            PublishOutcome::Accepted { .. } | PublishOutcome::Duplicate { .. } => false,
            PublishOutcome::Refused(refusal) => {
                // What will be refused again ends the channel, as it does in RabbitMQ; that a queue is full is a nack.
                if !refusal.kind.is_want_of_room() {
                    return Err(refused_publish(refusal, step).by((60, 40)));
                }
                true
            }
        };
        self.confirm(token, refused, step);
        Ok(())
    }

    /// A publish was taken, or refused.
    pub(crate) fn confirm(&mut self, token: session::Token, refused: bool, step: &mut Step<'_>) {
        let Mode::Confirm {
            outstanding, held, ..
        } = &mut self.mode
        else {
            return;
        };
        // Nearly always it is the oldest.
        let at = match outstanding.front() {
            Some(first) if first.token == token => Ok(0),
            _ => outstanding.binary_search_by_key(&token, |one| one.token),
        };
        let Ok(at) = at else {
            return;
        };
        let sequence = outstanding[at].sequence;
        if refused {
            release_held(self.number, held, step);
            step.send(
                self.number,
                basic::Nack {
                    delivery_tag: sequence,
                    multiple: false,
                    requeue: false,
                },
            );
        } else if at == 0 {
            match held {
                Some((_, last)) => *last = sequence,
                None => {
                    *held = Some((sequence, sequence));
                    step.shared.held.push(self.number);
                }
            }
        } else {
            // Out of order: told alone, so that no later `multiple` can speak for one that is still open.
            step.send(
                self.number,
                basic::Ack {
                    delivery_tag: sequence,
                    multiple: false,
                },
            );
        }
        outstanding[at].done = true;
        while outstanding.front().is_some_and(|first| first.done) {
            outstanding.pop_front();
        }
    }

    /// Tells the acks that were held back.
    /// [RABBIT-confirms-2].
    pub(crate) fn flush(&mut self, step: &mut Step<'_>) {
        if let Mode::Confirm { held, .. } = &mut self.mode {
            release_held(self.number, held, step);
        }
    }

    /// A mandatory publish reached no queue.
    /// [AMQP-basic.publish.mandatory.01], [RABBIT-confirms-4].
    pub(crate) fn send_return(&self, message: &Message, step: &mut Step<'_>) {
        let envelope = conversion::of_return(message, step.now);
        if !step.header_fits(&envelope.properties) {
            return;
        }
        let method = basic::Return {
            reply_code: ReplyCode::NoRoute as u16,
            reply_text: ReplyCode::NoRoute.name().into(),
            exchange: envelope.exchange.clone(),
            routing_key: envelope.routing_key.clone(),
        };
        step.send_content(self.number, method, &envelope, &message.body);
    }

    pub(crate) fn on_tx_select(&mut self, step: &mut Step<'_>) -> Result<(), Fault> {
        match self.mode {
            Mode::Confirm { .. } => {
                return Err(Fault::new(
                    ReplyCode::PreconditionFailed,
                    "cannot switch from confirm to tx mode",
                ));
            }
            Mode::Transaction { .. } => {}
            Mode::Plain => self.mode = empty_transaction(),
        }
        step.send(self.number, tx::SelectOk {});
        Ok(())
    }

    /// [AMQP-tx.commit.transacted].
    pub(crate) fn on_tx_commit(&mut self, step: &mut Step<'_>) -> Result<(), Fault> {
        let Mode::Transaction { operations, .. } = &mut self.mode else {
            return Err(not_transactional());
        };
        if operations.is_empty() {
            step.send(self.number, tx::CommitOk {});
            return Ok(());
        }
        let operations = std::mem::take(operations);
        let token = self.wait(step, (90, 20), Pending::Commit);
        step.command(Command::Transact(Box::new(Transact {
            token,
            lane: self.lane(),
            operations,
        })));
        Ok(())
    }

    /// [AMQP-tx.rollback.transacted].
    pub(crate) fn on_tx_rollback(&mut self, step: &mut Step<'_>) -> Result<(), Fault> {
        let Mode::Transaction { taken, .. } = &mut self.mode else {
            return Err(not_transactional());
        };
        // 1.10.2.5: acknowledgements are undone too; the deliveries are open again, and not sent again.
        self.unsettled.give_back(std::mem::take(taken));
        self.begin_again(step.shared);
        step.send(self.number, tx::RollbackOk {});
        Ok(())
    }

    /// A commit is durable.
    pub(crate) fn on_committed(&mut self, returned: &[Arc<Message>], step: &mut Step<'_>) {
        self.begin_again(step.shared);
        for message in returned {
            self.send_return(message, step);
        }
        step.send(self.number, tx::CommitOk {});
    }

    /// Forgets what was staged.
    pub(crate) fn begin_again(&mut self, shared: &mut Shared) {
        if let Mode::Transaction { len, .. } = &self.mode {
            shared.staged -= len;
            self.mode = empty_transaction();
        }
    }

    /// Stages the settlement of a delivery; the delivery comes back on rollback.
    pub(crate) fn stage_settle(
        &mut self,
        tag: u64,
        id: session::DeliveryId,
        outcome: session::Outcome,
        step: &Step<'_>,
    ) -> Result<(), Fault> {
        let lane = self.lane();
        let Mode::Transaction {
            operations, taken, ..
        } = &mut self.mode
        else {
            unreachable!("settlements are staged in a transaction only");
        };
        taken.push((tag, id));
        if let Some(Operation::Settle(settle)) = operations.last_mut()
            && settle.outcome == outcome
            && settle.deliveries.queue == id.queue
            && let Some((_, last)) = settle.deliveries.ranges.last_mut()
            && *last + 1 == id.qseq
        {
            *last = id.qseq;
            return Ok(());
        }
        stage(
            operations,
            Operation::Settle(settle_one(lane, id, outcome)),
            step,
        )
    }
}

const fn empty_transaction() -> Mode {
    Mode::Transaction {
        operations: Vec::new(),
        len: 0,
        taken: Vec::new(),
    }
}

fn stage(
    operations: &mut Vec<Operation>,
    operation: Operation,
    step: &Step<'_>,
) -> Result<(), Fault> {
    if operations.len() >= step.shared.config.transaction_operations_max {
        return Err(too_large());
    }
    operations.push(operation);
    Ok(())
}

fn too_large() -> Fault {
    Fault::new(ReplyCode::PreconditionFailed, "transaction is too large")
}

fn not_transactional() -> Fault {
    Fault::new(
        ReplyCode::PreconditionFailed,
        "channel is not transactional",
    )
}

/// A refusal that ends the channel of its publisher, in RabbitMQ's words.
/// [AMQP-basic.publish.exchange.must-exist].
pub(crate) fn refused_publish(refusal: Refusal, step: &Step<'_>) -> Fault {
    let vhost = &step.shared.vhost_name;
    let names_exchange = refusal.kind == RefusalKind::NotFound
        || refusal.detail.starts_with("cannot publish to internal");
    let text = if names_exchange {
        format!("{} in vhost '{vhost}'", refusal.detail)
    } else {
        refusal.detail.into_owned()
    };
    Fault::new(code_of(refusal.kind), text)
}

fn release_held(channel: u16, held: &mut Option<(u64, u64)>, step: &mut Step<'_>) {
    if let Some((first, last)) = held.take() {
        step.send(
            channel,
            basic::Ack {
                delivery_tag: last,
                multiple: last > first,
            },
        );
    }
}
