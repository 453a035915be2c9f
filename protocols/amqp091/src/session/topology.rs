//! Exchanges, queues and bindings: methods to declarations.

use bytes::Bytes;
use message::{Filter, Properties};
use session::{BindTarget, Binding, Command, Declare};

use super::{
    channel::{Channel, Pending},
    step::{Shared, Step},
    streams::Asked,
};
use crate::{
    arguments,
    codec::{Method, Short, exchange, queue},
    equivalence,
    error::{Fault, ReplyCode},
    key,
    message::DIRECT_REPLY_TO,
};

/// How texts name a thing: `queue 'jobs' in vhost '/'`.
pub(crate) fn called(kind: &str, name: &[u8], shared: &Shared) -> String {
    format!(
        "{kind} '{}' in vhost '{}'",
        String::from_utf8_lossy(name),
        shared.vhost_name
    )
}

fn refused(text: impl Into<String>) -> Fault {
    Fault::new(ReplyCode::AccessRefused, text)
}

/// [AMQP-exchange.default-access], [AMQP-queue.bind.exchange.default-exchange],
/// [AMQP-queue.unbind.exchange.default-exchange].
fn check_not_default(exchange: &Short) -> Result<(), Fault> {
    if exchange.is_empty() {
        return Err(refused("operation not permitted on the default exchange"));
    }
    Ok(())
}

const PREDECLARED: [&[u8]; 6] = [
    b"amq.direct",
    b"amq.fanout",
    b"amq.topic",
    b"amq.headers",
    b"amq.match",
    b"",
];

/// Whether an exchange is there from the start and for ever.
/// [AMQP-exchange.declare.exchange.reserved].
pub(crate) fn is_predeclared(exchange: &[u8]) -> bool {
    PREDECLARED.contains(&exchange)
}

impl Channel {
    /// The queue that a method means: the one it names, or the one declared last on this channel.
    /// [AMQP-queue.bind.queue.queue-known], [AMQP-queue.unbind.queue.queue-known],
    /// [AMQP-queue.purge.queue.queue-known], [AMQP-queue.delete.queue.queue-known].
    pub(crate) fn queue_meant(&self, name: &Short) -> Result<Bytes, Fault> {
        if !name.is_empty() {
            return Ok(name.bytes().clone());
        }
        self.last_queue
            .clone()
            .ok_or_else(|| Fault::new(ReplyCode::NotFound, "no previously declared queue"))
    }

    fn declare(
        &mut self,
        step: &mut Step<'_>,
        method: (u16, u16),
        declare: Declare,
        pending: Pending,
    ) {
        let token = self.wait(step, method, pending);
        step.command(Command::Declare {
            token,
            lane: self.lane(),
            declare,
        });
    }

    /// [AMQP-exchange.declare.passive.not-found].
    pub(crate) fn on_exchange_declare(
        &mut self,
        declare: exchange::Declare,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        check_not_default(&declare.exchange)?;
        let name = declare.exchange.bytes().clone();
        let of = called("exchange", &name, step.shared);
        let (options, wanted) = arguments::exchange_options(&declare, &of)?;
        if !declare.passive && name.starts_with(b"amq.") && !is_predeclared(&name) {
            return Err(refused(format!(
                "exchange name '{}' contains reserved prefix 'amq.*'",
                declare.exchange
            )));
        }
        self.declare(
            step,
            (40, 10),
            Declare::Exchange {
                name: name.clone(),
                passive: declare.passive,
                options: Box::new(options),
            },
            Pending::ExchangeDeclare {
                name,
                no_wait: declare.no_wait,
                wanted: Box::new(wanted),
            },
        );
        Ok(())
    }

    /// [AMQP-exchange.delete.exchange.exists], [AMQP-exchange.delete.if-unused.in-use].
    pub(crate) fn on_exchange_delete(
        &mut self,
        delete: exchange::Delete,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        check_not_default(&delete.exchange)?;
        let name = delete.exchange.into_bytes();
        if name.starts_with(b"amq.") {
            return Err(refused(format!(
                "deletion of system {} not allowed",
                called("exchange", &name, step.shared)
            )));
        }
        self.declare(
            step,
            (40, 20),
            Declare::DeleteExchange {
                name: name.clone(),
                if_unused: delete.if_unused,
            },
            Pending::ExchangeDelete {
                name,
                no_wait: delete.no_wait,
            },
        );
        Ok(())
    }

    /// [RABBIT-exchange-bindings-1].
    pub(crate) fn on_exchange_bind(
        &mut self,
        bind: exchange::Bind,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        check_not_default(&bind.source)?;
        check_not_default(&bind.destination)?;
        let reply = (!bind.no_wait).then(|| exchange::BindOk {}.into());
        let target = BindTarget::Exchange(bind.destination.into_bytes());
        self.bind(
            step,
            (40, 30),
            (bind.source, bind.routing_key, bind.arguments),
            target,
            reply,
        )
    }

    pub(crate) fn on_exchange_unbind(
        &mut self,
        unbind: exchange::Unbind,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        check_not_default(&unbind.source)?;
        check_not_default(&unbind.destination)?;
        let reply = (!unbind.no_wait).then(|| exchange::UnbindOk {}.into());
        let target = BindTarget::Exchange(unbind.destination.into_bytes());
        self.bind(
            step,
            (40, 40),
            (unbind.source, unbind.routing_key, unbind.arguments),
            target,
            reply,
        )
    }

    /// [AMQP-queue.declare.queue.default-name], [AMQP-queue.declare.passive.passive].
    pub(crate) fn on_queue_declare(
        &mut self,
        declare: queue::Declare,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let name = if declare.passive {
            self.queue_meant(&declare.queue)?
        } else {
            declare.queue.bytes().clone()
        };
        if &name[..] == DIRECT_REPLY_TO {
            self.listens(name, declare.no_wait, step);
            return Ok(());
        }
        if !declare.passive && name.starts_with(b"amq.") {
            return Err(refused(format!(
                "queue name '{}' contains reserved prefix 'amq.*'",
                declare.queue
            )));
        }
        // DOORS 6 and 9: such names would be read as something else.
        if name.starts_with(key::STREAM_PREFIX) && declare.passive {
            self.look_at_stream(name, declare.no_wait, step);
            return Ok(());
        }
        if !declare.passive
            && (name.starts_with(key::STREAM_PREFIX) || arguments::is_stream(&declare))
        {
            return self.declare_stream(&declare, name, step);
        }
        if name.starts_with(key::TOPIC_PREFIX) {
            return Err(refused(format!(
                "queue name '{}' is reserved",
                declare.queue
            )));
        }
        let (options, wanted) = if declare.passive {
            (session::QueueOptions::default(), None)
        } else {
            let of = called("queue", &name, step.shared);
            let (options, wanted) = arguments::queue_options(&declare, &of)?;
            (options, Some(Box::new(wanted)))
        };
        self.declare(
            step,
            (50, 10),
            Declare::Queue {
                name: name.clone(),
                passive: declare.passive,
                options: Box::new(options),
            },
            Pending::QueueDeclare {
                name,
                no_wait: declare.no_wait,
                wanted,
            },
        );
        Ok(())
    }

    /// [AMQP-queue.purge.02], [AMQP-queue.purge.queue.must-exist].
    pub(crate) fn on_queue_purge(
        &mut self,
        purge: &queue::Purge,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let name = self.queue_meant(&purge.queue)?;
        if name.starts_with(key::STREAM_PREFIX) {
            self.ask_of_stream(name, Asked::Purge, step);
            return Ok(());
        }
        self.declare(
            step,
            (50, 30),
            Declare::Purge { name: name.clone() },
            Pending::QueuePurge {
                name,
                no_wait: purge.no_wait,
            },
        );
        Ok(())
    }

    /// [AMQP-queue.delete.queue.must-exist], [AMQP-queue.delete.if-unused.in-use],
    /// [AMQP-queue.delete.if-empty.not-empty].
    pub(crate) fn on_queue_delete(
        &mut self,
        delete: &queue::Delete,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let name = self.queue_meant(&delete.queue)?;
        let conditions = delete.if_unused || delete.if_empty;
        if name.starts_with(key::STREAM_PREFIX) {
            self.delete_stream(name, (conditions, delete.no_wait), step);
            return Ok(());
        }
        self.declare(
            step,
            (50, 40),
            Declare::DeleteQueue {
                name: name.clone(),
                if_unused: delete.if_unused,
                if_empty: delete.if_empty,
            },
            Pending::QueueDelete {
                name,
                conditions,
                no_wait: delete.no_wait,
            },
        );
        Ok(())
    }

    pub(crate) fn on_queue_bind(
        &mut self,
        bind: queue::Bind,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let name = self.queue_meant(&bind.queue)?;
        check_not_default(&bind.exchange)?;
        // 1.7.2.3.2: with neither queue nor key given, the key is the queue's name.
        let key = if bind.queue.is_empty() && bind.routing_key.is_empty() {
            Short::new(name.clone()).unwrap_or_default()
        } else {
            bind.routing_key
        };
        let reply = (!bind.no_wait).then(|| queue::BindOk {}.into());
        let target = BindTarget::Queue(name);
        self.bind(
            step,
            (50, 20),
            (bind.exchange, key, bind.arguments),
            target,
            reply,
        )
    }

    /// [AMQP-queue.unbind.01], [AMQP-queue.unbind.queue.must-exist], [AMQP-queue.unbind.exchange.must-exist].
    pub(crate) fn on_queue_unbind(
        &mut self,
        unbind: queue::Unbind,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let name = self.queue_meant(&unbind.queue)?;
        check_not_default(&unbind.exchange)?;
        let key = if unbind.queue.is_empty() && unbind.routing_key.is_empty() {
            Short::new(name.clone()).unwrap_or_default()
        } else {
            unbind.routing_key
        };
        let target = BindTarget::Queue(name);
        let reply = Some(queue::UnbindOk {}.into());
        self.bind(
            step,
            (50, 50),
            (unbind.exchange, key, unbind.arguments),
            target,
            reply,
        )
    }

    /// Adds or removes a binding.
    ///
    /// The filter depends on the exchange's type, which this side does not know. `x-match` or a well-known name speaks for
    /// a headers exchange; when the core then finds the filter unsuitable, the other reading is tried once.
    /// [AMQP-queue.bind.queue.must-exist], [AMQP-queue.bind.exchange.exchange-existence].
    fn bind(
        &mut self,
        step: &mut Step<'_>,
        method: (u16, u16),
        (source, key, arguments): (Short, Short, Properties),
        target: BindTarget,
        reply: Option<Method>,
    ) -> Result<(), Fault> {
        let remove = matches!(method, (40, 40) | (50, 50));
        let is_headers = matches!(&source[..], b"amq.headers" | b"amq.match");
        let filter = match arguments::headers_filter(&arguments, is_headers) {
            // Only exchanges of type headers read `x-match`; whether this is one, the core will say.
            Err(_) if !is_headers => None,
            filter => filter?,
        };
        let binding = Box::new(Binding {
            exchange: source.into_bytes(),
            target,
            filter: filter.unwrap_or_else(|| key::filter(key.bytes())),
            key: key::levels(key.bytes()),
            arguments: equivalence::canonical(&arguments),
        });
        let declare = binding_command(binding.clone(), remove);
        self.declare(
            step,
            method,
            declare,
            Pending::Bind {
                binding,
                remove,
                retried: false,
                arguments,
                reply,
            },
        );
        Ok(())
    }
}

/// The declaration that adds or removes a binding.
pub(crate) const fn binding_command(binding: Box<Binding>, remove: bool) -> Declare {
    if remove {
        Declare::Unbind(binding)
    } else {
        Declare::Bind(binding)
    }
}

/// The same binding, read for the other kind of exchange. `None`: there is no other reading.
pub(crate) fn reread(
    mut binding: Box<Binding>,
    arguments: &Properties,
) -> Result<Option<Box<Binding>>, Fault> {
    binding.filter = match binding.filter {
        Filter::Headers { .. } => {
            let text = key::text(&binding.key);
            key::filter(&Bytes::from(text))
        }
        _ => match arguments::headers_filter(arguments, true)? {
            Some(filter) => filter,
            None => return Ok(None),
        },
    };
    Ok(Some(binding))
}
