//! The flat tables of methods: of an open channel, and of channel 0 on an open connection.

use session::Outcome;

use super::{channel::Channel, step::Step};
use crate::{
    ChannelFlow,
    codec::{self, Frame, Method, Taken, access, basic, channel as channel_class, connection},
    error::{DecodeError, Fault, ReplyCode},
};

/// Methods of channel 0 on an open connection.
pub(super) fn on_connection_method(method: &Method, step: &mut Step<'_>) -> Result<(), Fault> {
    match method {
        // Crossed our own closing, which was answered otherwise.
        Method::ConnectionCloseOk(_) => Ok(()),
        // A login by password does not expire, so there is nothing to renew: RabbitMQ says yes to it too.
        Method::ConnectionUpdateSecret(_) => {
            step.send(0, connection::UpdateSecretOk {});
            Ok(())
        }
        method => Err(Fault::new(
            ReplyCode::CommandInvalid,
            format!("{} is not expected here", method.name()),
        )),
    }
}

impl Channel {
    /// A frame that nothing holds up.
    pub(super) fn on_frame(&mut self, frame: Frame, step: &mut Step<'_>) -> Result<(), Fault> {
        match frame {
            Frame::Method { method, .. } => self.on_whole_method(method, step),
            Frame::Header { header, .. } => self.on_header(header, step).map_err(of_publish),
            Frame::Body { body, .. } => self.on_body(body, step).map_err(of_publish),
            Frame::Heartbeat => Ok(()),
        }
    }

    /// The same, before its payload is read. The outer error is one of reading it.
    pub(super) fn on_taken(
        &mut self,
        taken: Taken,
        step: &mut Step<'_>,
    ) -> Result<Result<(), Fault>, DecodeError> {
        Ok(match taken {
            Taken::Ack { ack, .. } if self.content.is_none() => self
                .settle(ack.delivery_tag, ack.multiple, Outcome::Accept, step)
                .map_err(|fault| fault.by((60, 80))),
            Taken::Ack { ack, .. } => self.on_whole_method(ack.into(), step),
            Taken::Method { payload, .. } => self.on_whole_method(Method::decode(payload)?, step),
            Taken::Header { payload, .. } => {
                let header = codec::decode_header(payload)?;
                self.on_header(header, step).map_err(of_publish)
            }
            Taken::Body { body, .. } => self.on_body(body, step).map_err(of_publish),
            Taken::Heartbeat => Ok(()),
        })
    }

    fn on_whole_method(&mut self, method: Method, step: &mut Step<'_>) -> Result<(), Fault> {
        let ids = method.ids();
        // 4.2.6: between a method with content and the end of its content nothing else comes on the channel.
        if let Some(content) = &self.content {
            return Err(content.broken_off());
        }
        self.on_method(method, step).map_err(|fault| fault.by(ids))
    }

    /// The flat table of methods.
    fn on_method(&mut self, method: Method, step: &mut Step<'_>) -> Result<(), Fault> {
        match method {
            Method::BasicPublish(publish) => {
                step.on_publishing();
                self.on_publish(publish)
            }
            Method::BasicAck(ack) => {
                self.settle(ack.delivery_tag, ack.multiple, Outcome::Accept, step)
            }
            // [RABBIT-nack-1]
            Method::BasicNack(nack) => {
                let outcome = unless_requeued(nack.requeue);
                self.settle(nack.delivery_tag, nack.multiple, outcome, step)
            }
            Method::BasicReject(reject) => {
                let outcome = unless_requeued(reject.requeue);
                self.settle(reject.delivery_tag, false, outcome, step)
            }
            Method::BasicQos(qos) => self.on_qos(&qos, step),
            Method::BasicConsume(consume) => self.on_consume(consume, step),
            Method::BasicCancel(cancel) => {
                self.on_cancel(cancel, step);
                Ok(())
            }
            Method::BasicGet(get) => self.on_get(&get, step),
            Method::BasicRecover(recover) => {
                self.recover(recover.requeue, step)?;
                step.send(self.number, basic::RecoverOk {});
                Ok(())
            }
            Method::BasicRecoverAsync(recover) => self.recover(recover.requeue, step),
            // The answer to our own `basic.cancel`, from peers that send one in spite of no-wait.
            Method::BasicCancelOk(_) => Ok(()),
            Method::ExchangeDeclare(declare) => self.on_exchange_declare(declare, step),
            Method::ExchangeDelete(delete) => self.on_exchange_delete(delete, step),
            Method::ExchangeBind(bind) => self.on_exchange_bind(bind, step),
            Method::ExchangeUnbind(unbind) => self.on_exchange_unbind(unbind, step),
            Method::QueueDeclare(declare) => self.on_queue_declare(declare, step),
            Method::QueueBind(bind) => self.on_queue_bind(bind, step),
            Method::QueueUnbind(unbind) => self.on_queue_unbind(unbind, step),
            Method::QueuePurge(purge) => self.on_queue_purge(&purge, step),
            Method::QueueDelete(delete) => self.on_queue_delete(&delete, step),
            Method::ConfirmSelect(select) => self.on_confirm_select(&select, step),
            Method::TxSelect(_) => self.on_tx_select(step),
            Method::TxCommit(_) => self.on_tx_commit(step),
            Method::TxRollback(_) => self.on_tx_rollback(step),
            Method::ChannelFlow(flow) => self.on_flow(flow.active, step),
            Method::ChannelClose(_) => {
                self.leave(step);
                Ok(())
            }
            // We never send `flow`; a stray answer, like that to a close that crossed, means nothing.
            Method::ChannelFlowOk(_) | Method::ChannelCloseOk(_) => Ok(()),
            Method::ChannelOpen(_) => Err(Fault::new(
                // [AMQP-channel.open.state]
                ReplyCode::ChannelError,
                "second 'channel.open' seen",
            )),
            Method::AccessRequest(_) => {
                step.send(self.number, access::RequestOk { reserved_1: 1 });
                Ok(())
            }
            method => Err(Fault::new(
                ReplyCode::CommandInvalid,
                format!("{} is not expected here", method.name()),
            )),
        }
    }

    /// [AMQP-channel.flow.bidirectional].
    fn on_flow(&mut self, active: bool, step: &mut Step<'_>) -> Result<(), Fault> {
        if !active && step.shared.config.channel_flow == ChannelFlow::Refuse {
            return Err(Fault::new(ReplyCode::NotImplemented, "active=false"));
        }
        self.is_stopped = !active;
        step.command(session::Command::GroupFlow {
            group: u32::from(self.number),
            active,
        });
        step.send(self.number, channel_class::FlowOk { active });
        Ok(())
    }
}

/// Content belongs to `basic.publish`.
fn of_publish(fault: Fault) -> Fault {
    fault.by((60, 40))
}

/// [AMQP-basic.reject.02], [AMQP-basic.reject.requeue.01].
const fn unless_requeued(requeue: bool) -> Outcome {
    if requeue {
        Outcome::Release
    } else {
        Outcome::Reject
    }
}
