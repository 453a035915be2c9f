//! The core's answers to methods that waited for them.

use bytes::Bytes;
use session::{Command, Event, Refusal, RefusalKind};

use super::{
    channel::{Channel, Pending, Stage, Waiting},
    consume::REPLY_QUEUE,
    publish::refused_publish,
    step::Step,
    streams::{Asked, cannot, stream_named},
    topology::{binding_command, called, reread},
};
use crate::{
    codec::{Short, channel, exchange, queue},
    equivalence::of_predeclared,
    error::{Fault, ReplyCode, code_of},
};

/// Whether the channel is still there after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Stays,
    Gone,
}

impl Channel {
    /// An event with a token of this channel.
    pub(crate) fn on_answer(
        &mut self,
        token: session::Token,
        event: Event,
        step: &mut Step<'_>,
    ) -> Result<After, Fault> {
        let waiting = match self.waiting.take() {
            Some(waiting) if waiting.token == token => waiting,
            other => {
                self.waiting = other;
                self.on_other_answer(event, step);
                return Ok(After::Stays);
            }
        };
        let method = waiting.method;
        match event {
            Event::Reached { .. } => return Ok(self.on_reached(step)),
            Event::Refused { refusal, .. } => {
                self.on_refused(waiting, refusal, step)
                    .map_err(|fault| fault.by(method))?;
            }
            event => self
                .on_done(waiting.pending, event, step)
                .map_err(|fault| fault.by(method))?,
        }
        Ok(After::Stays)
    }

    /// Answers that no method waits for: what became of an earlier channel of this number, cancels of a closing channel.
    fn on_other_answer(&self, event: Event, step: &mut Step<'_>) {
        if let Event::Pulled { deliveries, .. } = event {
            for delivery in &deliveries {
                self.release(delivery, step);
            }
        }
    }

    fn on_reached(&mut self, step: &mut Step<'_>) -> After {
        match &mut self.stage {
            Stage::Leaving => {
                self.flush(step);
                step.send(self.number, channel::CloseOk {});
                After::Gone
            }
            Stage::Expelled { close_ok: true, .. } => After::Gone,
            Stage::Expelled { reached, .. } => {
                *reached = true;
                After::Stays
            }
            Stage::Open => After::Stays,
        }
    }

    fn on_done(
        &mut self,
        pending: Pending,
        event: Event,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        match (pending, event) {
            (
                Pending::QueueDeclare { no_wait, .. },
                Event::Declared {
                    name,
                    messages,
                    consumers,
                    ..
                },
            ) => {
                let name = Bytes::copy_from_slice(&name);
                self.last_queue = Some(name.clone());
                if !no_wait {
                    let method = queue::DeclareOk {
                        queue: Short::new(name).unwrap_or_default(),
                        message_count: count(messages),
                        consumer_count: consumers,
                    };
                    step.send(self.number, method);
                }
            }
            (Pending::ReplyQueue { tag, no_wait }, Event::Declared { name, .. }) => {
                self.on_reply_queue(&name, (tag, no_wait), step);
            }
            (Pending::QueuePurge { no_wait: false, .. }, Event::Declared { messages, .. }) => {
                let message_count = count(messages);
                step.send(self.number, queue::PurgeOk { message_count });
            }
            (Pending::QueueDelete { no_wait: false, .. }, Event::Declared { messages, .. }) => {
                let message_count = count(messages);
                step.send(self.number, queue::DeleteOk { message_count });
            }
            (Pending::ExchangeDeclare { no_wait: false, .. }, Event::Declared { .. }) => {
                step.send(self.number, exchange::DeclareOk {});
            }
            (Pending::ExchangeDelete { no_wait: false, .. }, Event::Declared { .. }) => {
                step.send(self.number, exchange::DeleteOk {});
            }
            (
                Pending::Bind {
                    reply: Some(reply), ..
                },
                Event::Declared { .. },
            ) => step.send(self.number, reply),
            (
                Pending::Consume {
                    number,
                    tag,
                    queue,
                    no_wait,
                    ..
                },
                Event::Subscribed { .. },
            ) => self.on_subscribed((number, tag, queue, no_wait), step),
            (
                Pending::Cancel {
                    number,
                    tag,
                    no_wait,
                },
                Event::Unsubscribed { .. },
            ) => self.on_unsubscribed((number, tag, no_wait), step),
            (
                Pending::Get { .. },
                Event::Pulled {
                    deliveries,
                    remaining,
                    ..
                },
            ) => self.on_pulled(deliveries, remaining, step),
            (Pending::Commit, Event::Committed { returned, .. }) => {
                self.on_committed(&returned, step);
            }
            (
                Pending::StreamDeclare {
                    shown,
                    no_wait,
                    wanted,
                },
                Event::Stream { stream, .. },
            ) => {
                self.on_stream_declared((shown, no_wait), wanted.as_deref(), &stream, step)?;
            }
            (Pending::StreamMake { shown, .. }, Event::Declared { .. }) => {
                let it = called("queue", &shown, step.shared);
                return Err(Fault::new(
                    ReplyCode::PreconditionFailed,
                    format!(
                        "inequivalent arg 'x-queue-type' for {it}: received 'stream' but it is a queue"
                    ),
                ));
            }
            (Pending::StreamDelete { refuses: true, .. }, Event::Stream { .. }) => {
                return Err(Fault::new(
                    ReplyCode::NotImplemented,
                    "cannot delete a stream if it is unused or empty only",
                ));
            }
            (
                Pending::StreamDelete {
                    no_wait: false,
                    refuses: false,
                },
                Event::Stream { .. },
            ) => step.send(self.number, queue::DeleteOk { message_count: 0 }),
            (Pending::StreamAsked { shown, asked }, Event::Stream { .. }) => {
                return Err(cannot(asked, &shown, step));
            }
            // Without a reply to send there is nothing to do.
            _ => {}
        }
        Ok(())
    }

    fn on_refused(
        &mut self,
        waiting: Waiting,
        refusal: Refusal,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        match waiting.pending {
            // DOORS 6: a name that no queue has may be a stream's.
            Pending::QueueDeclare {
                name,
                no_wait,
                wanted: None,
            } if refusal.kind == RefusalKind::NotFound => {
                self.look_at_stream(name, no_wait, step);
                Ok(())
            }
            Pending::QueueDelete {
                name,
                conditions,
                no_wait,
            } if refusal.kind == RefusalKind::NotFound => {
                self.delete_stream(name, (conditions, no_wait), step);
                Ok(())
            }
            Pending::StreamMake {
                shown,
                no_wait,
                asked,
            } if refusal.kind == RefusalKind::NotFound => {
                self.make_stream(shown, no_wait, *asked, step);
                Ok(())
            }
            Pending::QueuePurge { name, .. } if refusal.kind == RefusalKind::NotFound => {
                self.ask_of_stream(name, Asked::Purge, step);
                Ok(())
            }
            Pending::Get { queue } if refusal.kind == RefusalKind::NotFound => {
                self.ask_of_stream(queue, Asked::Get, step);
                Ok(())
            }
            Pending::Consume {
                number,
                tag,
                queue,
                no_wait,
                or_stream: Some(subscribe),
            } if refusal.kind == RefusalKind::NotFound => {
                let pending = Pending::Consume {
                    number,
                    tag,
                    queue,
                    no_wait,
                    or_stream: None,
                };
                self.start_consumer(pending, subscribe, step);
                Ok(())
            }
            // As in RabbitMQ: deleting what is not there succeeds.
            Pending::StreamDelete { no_wait, .. } if refusal.kind == RefusalKind::NotFound => {
                if !no_wait {
                    step.send(self.number, queue::DeleteOk { message_count: 0 });
                }
                Ok(())
            }
            Pending::ExchangeDelete { no_wait, .. } if refusal.kind == RefusalKind::NotFound => {
                if !no_wait {
                    step.send(self.number, exchange::DeleteOk {});
                }
                Ok(())
            }
            // The same of a binding, when its queue or exchange is gone.
            // [AMQP-queue.unbind.queue.must-exist], [AMQP-queue.unbind.exchange.must-exist]
            Pending::Bind {
                remove: true,
                reply,
                ..
            } if refusal.kind == RefusalKind::NotFound => {
                if let Some(reply) = reply {
                    step.send(self.number, reply);
                }
                Ok(())
            }
            // Who is asked to answer looks whether the asker still listens.
            // [RABBIT-reply-to-1]
            Pending::QueueDeclare {
                name,
                no_wait,
                wanted: None,
            } if refusal.kind == RefusalKind::Locked
                && refusal.known.as_deref() == Some(REPLY_QUEUE) =>
            {
                self.listens(name, no_wait, step);
                Ok(())
            }
            Pending::Bind {
                binding,
                remove,
                retried: false,
                arguments,
                reply,
            } if matches!(
                refusal.kind,
                RefusalKind::InvalidArgument | RefusalKind::Inequivalent
            ) =>
            {
                let Some(again) = reread(binding.clone(), &arguments)? else {
                    return Err(phrase(&refusal, "exchange", &binding.exchange, step));
                };
                let token = self.wait(
                    step,
                    waiting.method,
                    Pending::Bind {
                        binding: again.clone(),
                        remove,
                        retried: true,
                        arguments,
                        reply,
                    },
                );
                step.command(Command::Declare {
                    token,
                    lane: self.lane(),
                    declare: binding_command(again, remove),
                });
                Ok(())
            }
            // DOORS 6: what has the name may be a stream.
            Pending::Bind {
                mut binding,
                remove: false,
                retried,
                arguments,
                reply,
            } if refusal.kind == RefusalKind::NotFound
                && matches!(&binding.target, session::BindTarget::Queue(_))
                && !refusal.detail.contains("exchange") =>
            {
                if let session::BindTarget::Queue(name) = binding.target {
                    let name = stream_named(&name).unwrap_or(name);
                    binding.target = session::BindTarget::Stream(name);
                }
                let again = Pending::Bind {
                    binding: binding.clone(),
                    remove: false,
                    retried,
                    arguments,
                    reply,
                };
                let token = self.wait(step, waiting.method, again);
                step.command(Command::Declare {
                    token,
                    lane: self.lane(),
                    declare: binding_command(binding, false),
                });
                Ok(())
            }
            Pending::Bind { binding, .. } => {
                let (kind, name) = match &binding.target {
                    session::BindTarget::Queue(name) | session::BindTarget::Stream(name)
                        if !refusal.detail.contains("exchange") =>
                    {
                        ("queue", name.clone())
                    }
                    session::BindTarget::Exchange(name)
                        if refusal.detail.contains(&*String::from_utf8_lossy(name)) =>
                    {
                        ("exchange", name.clone())
                    }
                    _ => ("exchange", binding.exchange.clone()),
                };
                Err(phrase(&refusal, kind, &name, step))
            }
            Pending::QueueDeclare {
                name,
                wanted: Some(wanted),
                ..
            } if refusal.kind == RefusalKind::Inequivalent => {
                let known = refusal.known.as_deref();
                let unlike = known
                    .and_then(|known| wanted.unlike_queue(known))
                    .or_else(|| wanted.unlike_property(*refusal.unlike.as_deref()?));
                Err(inequivalent(&refusal, unlike, "queue", &name, step))
            }
            Pending::ExchangeDeclare { name, wanted, .. }
                if refusal.kind == RefusalKind::Inequivalent =>
            {
                let known = refusal.known.clone().or_else(|| of_predeclared(&name));
                let unlike = known.and_then(|known| wanted.unlike_exchange(&known));
                Err(inequivalent(&refusal, unlike, "exchange", &name, step))
            }
            Pending::QueueDeclare { name, .. }
            | Pending::QueuePurge { name, .. }
            | Pending::QueueDelete { name, .. }
            | Pending::Get { queue: name, .. }
            | Pending::StreamDeclare { shown: name, .. }
            | Pending::StreamMake { shown: name, .. }
            | Pending::StreamAsked { shown: name, .. }
            | Pending::Consume { queue: name, .. } => Err(phrase(&refusal, "queue", &name, step)),
            Pending::ExchangeDeclare { name, .. } | Pending::ExchangeDelete { name, .. } => {
                Err(phrase(&refusal, "exchange", &name, step))
            }
            Pending::Commit => Err(refused_publish(refusal, step)),
            Pending::StreamDelete { .. }
            | Pending::ReplyQueue { .. }
            | Pending::Cancel { .. }
            | Pending::Fence => Err(Fault::from(refusal)),
        }
    }
}

/// That something is there and is not what was declared, with the first word that differs.
fn inequivalent(
    refusal: &Refusal,
    unlike: Option<(String, String)>,
    kind: &str,
    name: &[u8],
    step: &Step<'_>,
) -> Fault {
    let Some((argument, text)) = unlike else {
        return phrase(refusal, kind, name, step);
    };
    let it = called(kind, name, step.shared);
    Fault::new(
        ReplyCode::PreconditionFailed,
        format!("inequivalent arg '{argument}' for {it}: {text}"),
    )
}

/// A refusal in RabbitMQ's words.
/// [AMQP-exchange.declare.type.typed], [AMQP-exchange.declare.passive.equivalent],
/// [AMQP-queue.declare.passive.equivalent].
fn phrase(refusal: &Refusal, kind: &str, name: &[u8], step: &Step<'_>) -> Fault {
    let it = called(kind, name, step.shared);
    let text = match refusal.kind {
        RefusalKind::NotFound => format!("no {it}"),
        // A rule of the operator: it says which access.
        RefusalKind::AccessDenied if refusal.detail.contains(" access to ") => {
            refusal.detail.to_string()
        }
        RefusalKind::Unexplained => refusal.detail.to_string(),
        RefusalKind::AccessDenied => {
            format!("access to {it} refused for user '{}'", step.shared.user)
        }
        RefusalKind::Locked => format!(
            "cannot obtain exclusive access to locked {it}. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
        ),
        RefusalKind::InUse => format!("{it} in exclusive use"),
        RefusalKind::Inequivalent => format!("inequivalent arg for {it}: {}", refusal.detail),
        RefusalKind::NotEmpty
            if refusal.detail.contains("use") || refusal.detail.contains("consumer") =>
        {
            format!("{it} in use")
        }
        RefusalKind::NotEmpty => format!("{it} not empty"),
        _ => format!("{it}: {}", refusal.detail),
    };
    let code = match refusal.kind {
        RefusalKind::StorageFull | RefusalKind::QuotaExceeded => ReplyCode::PreconditionFailed,
        kind => code_of(kind),
    };
    Fault::new(code, text)
}
