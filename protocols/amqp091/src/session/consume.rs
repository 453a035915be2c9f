//! Consuming: `qos`, `consume`, `cancel`, `get`, and what is delivered.

use bytes::Bytes;
use message::Value;
use session::{
    Command, Credit, Declare, Delivery, Lease, Outcome, Pull, QueueOptions, Source, StreamStart,
    Subscribe, SubscriptionOptions, Token,
};

use super::{
    channel::{Channel, Consumer, Pending},
    step::{Step, consumer_id},
    streams::{self, Asked},
    topology::called,
};
use crate::{
    arguments,
    codec::{Short, basic, queue},
    error::{Fault, ReplyCode},
    key,
    message::{self as conversion, DIRECT_REPLY_TO},
};

/// What the queue behind a pseudo-queue is declared as, so that a passive declaration from elsewhere can tell it from other
/// exclusive queues.
pub(crate) const REPLY_QUEUE: &[u8] = b"reply-to";

/// What a consumer is started with.
struct Reader {
    queue: Bytes,
    tag: Short,
    credit: Credit,
    exclusive: bool,
    priority: i32,
    no_wait: bool,
    /// What was said of streams.
    start: Option<(StreamStart, Option<Bytes>)>,
}

impl Channel {
    /// [AMQP-basic.qos.prefetch-size.01], [AMQP-basic.qos.prefetch-count.01], [RABBIT-qos-1].
    pub(crate) fn on_qos(&mut self, qos: &basic::Qos, step: &mut Step<'_>) -> Result<(), Fault> {
        if qos.prefetch_size != 0 {
            return Err(Fault::new(
                ReplyCode::NotImplemented,
                format!("prefetch_size!=0 ({})", qos.prefetch_size),
            ));
        }
        // As in RabbitMQ: global is the whole channel, else each consumer that is started from here on.
        if qos.global {
            self.has_window = qos.prefetch_count != 0;
            step.command(Command::GroupWindow {
                group: u32::from(self.number),
                window: u32::from(qos.prefetch_count),
            });
        } else {
            self.prefetch = qos.prefetch_count;
        }
        step.send(self.number, basic::QosOk {});
        Ok(())
    }

    /// [AMQP-basic.09], [AMQP-basic.consume.consumer-tag.01], [AMQP-basic.consume.exclusive.01],
    /// [RABBIT-consumer-priority-1].
    pub(crate) fn on_consume(
        &mut self,
        consume: basic::Consume,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let queue = self.queue_meant(&consume.queue)?;
        // 1.8.3.3: a tag in use is a connection exception.
        if self.tags.contains_key(&consume.consumer_tag) {
            return Err(Fault::new(
                ReplyCode::NotAllowed,
                format!("attempt to reuse consumer tag '{}'", consume.consumer_tag),
            ));
        }
        let of = called("queue", &queue, step.shared);
        let priority = arguments::consumer_priority(&consume.arguments, &of)?;
        let start = streams::start(&consume.arguments, &of, step.now)?;
        let tag = if consume.consumer_tag.is_empty() {
            Short::cut(format!("amq.ctag-{}.{}", self.number, step.shared.number()))
        } else {
            Short::new(Bytes::copy_from_slice(&consume.consumer_tag)).unwrap_or_default()
        };
        if &queue[..] == DIRECT_REPLY_TO {
            return self.consume_replies(&consume, tag, step);
        }
        let credit = if consume.no_ack {
            Credit::Settled
        } else {
            Credit::Window(u32::from(self.prefetch))
        };
        self.subscribe(
            Reader {
                queue,
                tag,
                credit,
                exclusive: consume.exclusive,
                priority,
                no_wait: consume.no_wait,
                start,
            },
            step,
        );
        Ok(())
    }

    fn subscribe(&mut self, reader: Reader, step: &mut Step<'_>) {
        let number = step.shared.number() as u32;
        let subscribe = |source| {
            Box::new(Subscribe {
                token: Token(0),
                lane: self.lane(),
                consumer: consumer_id(self.number, number),
                source,
                credit: reader.credit,
                group: u32::from(self.number),
                exclusive: reader.exclusive,
                priority: reader.priority,
                through_client: false,
                options: SubscriptionOptions::default(),
            })
        };
        // DOORS 6: a bare name is the queue, if there is one; what only streams understand is said of a stream.
        let is_stream = reader.start.is_some() || reader.queue.starts_with(key::STREAM_PREFIX);
        let of_stream = subscribe(streams::source(&reader.queue, reader.start.clone()));
        let (asked, or_stream) = if is_stream {
            (of_stream, None)
        } else {
            let source = Source::Queue {
                name: reader.queue.clone(),
                create: false,
            };
            (subscribe(source), Some(of_stream))
        };
        self.start_consumer(
            Pending::Consume {
                number,
                tag: reader.tag,
                queue: Bytes::copy_from_slice(&reader.queue),
                no_wait: reader.no_wait,
                or_stream,
            },
            asked,
            step,
        );
    }

    /// Asks the core for a consumer.
    pub(crate) fn start_consumer(
        &mut self,
        pending: Pending,
        mut subscribe: Box<Subscribe>,
        step: &mut Step<'_>,
    ) {
        subscribe.token = self.wait(step, (60, 20), pending);
        step.command(Command::Subscribe(subscribe));
    }

    /// Direct reply-to: a made-up exclusive queue that goes with its consumer stands behind the pseudo-queue. Its name is put in the place of the
    /// pseudo-queue's in every message published on this channel.
    /// [RABBIT-reply-to-1].
    fn consume_replies(
        &mut self,
        consume: &basic::Consume,
        tag: Short,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let complaint = if !consume.no_ack {
            "reply consumer cannot acknowledge"
        } else if self.reply_queue.is_some() {
            "reply consumer already set"
        } else {
            let token = self.wait(
                step,
                (60, 20),
                Pending::ReplyQueue {
                    tag,
                    no_wait: consume.no_wait,
                },
            );
            step.command(Command::Declare {
                token,
                lane: self.lane(),
                declare: Declare::Queue {
                    name: Bytes::new(),
                    passive: false,
                    options: Box::new(QueueOptions {
                        exclusive: true,
                        auto_delete: true,
                        declaration: Some(Bytes::from_static(REPLY_QUEUE)),
                        ..QueueOptions::default()
                    }),
                },
            });
            return Ok(());
        };
        Err(Fault::new(ReplyCode::PreconditionFailed, complaint))
    }

    /// The queue behind the pseudo-queue is there.
    pub(crate) fn on_reply_queue(
        &mut self,
        name: &Bytes,
        (tag, no_wait): (Short, bool),
        step: &mut Step<'_>,
    ) {
        let queue = Bytes::copy_from_slice(name);
        self.reply_queue = Some(queue.clone());
        self.subscribe(
            Reader {
                queue,
                tag,
                credit: Credit::Settled,
                exclusive: false,
                priority: 0,
                no_wait,
                start: None,
            },
            step,
        );
    }

    /// Says that there is such a queue, empty, and with a consumer.
    pub(crate) fn listens(&mut self, name: Bytes, no_wait: bool, step: &mut Step<'_>) {
        self.last_queue = Some(Bytes::copy_from_slice(&name));
        if !no_wait {
            let method = queue::DeclareOk {
                queue: Short::new(name).unwrap_or_default(),
                message_count: 0,
                consumer_count: 1,
            };
            step.send(self.number, method);
        }
    }

    /// The consumer has gone and with it the queue; another may be started.
    fn forget_reply_queue(&mut self, queue: &Bytes) {
        if self.reply_queue.as_ref() == Some(queue) {
            self.reply_queue = None;
        }
    }

    /// The consumer is there.
    pub(crate) fn on_subscribed(
        &mut self,
        (number, tag, queue, no_wait): (u32, Short, Bytes, bool),
        step: &mut Step<'_>,
    ) {
        self.tags.insert(tag.clone(), number);
        let consumer = Consumer {
            tag: tag.clone(),
            queue,
        };
        self.consumers.insert(number, consumer);
        if !no_wait {
            step.send(self.number, basic::ConsumeOk { consumer_tag: tag });
        }
    }

    /// [AMQP-basic.cancel.01].
    pub(crate) fn on_cancel(&mut self, cancel: basic::Cancel, step: &mut Step<'_>) {
        let Some(number) = self.tags.get(&cancel.consumer_tag).copied() else {
            // 1.8.3.5: cancelling what is not there is no error.
            if !cancel.no_wait {
                step.send(
                    self.number,
                    basic::CancelOk {
                        consumer_tag: cancel.consumer_tag,
                    },
                );
            }
            return;
        };
        let token = self.wait(
            step,
            (60, 30),
            Pending::Cancel {
                number,
                tag: cancel.consumer_tag,
                no_wait: cancel.no_wait,
            },
        );
        step.command(Command::Cancel {
            token,
            lane: self.lane(),
            consumer: consumer_id(self.number, number),
        });
    }

    /// The consumer is gone, because the peer asked for it.
    pub(crate) fn on_unsubscribed(
        &mut self,
        (number, tag, no_wait): (u32, Short, bool),
        step: &mut Step<'_>,
    ) {
        self.forget_consumer(number);
        if !no_wait {
            step.send(self.number, basic::CancelOk { consumer_tag: tag });
        }
    }

    fn forget_consumer(&mut self, number: u32) -> Option<Short> {
        let consumer = self.consumers.remove(number)?;
        self.tags.remove(&consumer.tag);
        self.forget_reply_queue(&consumer.queue);
        Some(consumer.tag)
    }

    /// The consumer is gone, because its queue is.
    /// [RABBIT-cancel-notify-1].
    pub(crate) fn on_cancelled(&mut self, number: u32, step: &mut Step<'_>) {
        let Some(consumer_tag) = self.forget_consumer(number) else {
            return;
        };
        if step.shared.cancel_notify {
            step.send(
                self.number,
                basic::Cancel {
                    consumer_tag,
                    no_wait: true,
                },
            );
        }
    }

    pub(crate) fn on_get(&mut self, get: &basic::Get, step: &mut Step<'_>) -> Result<(), Fault> {
        let queue = self.queue_meant(&get.queue)?;
        if queue.starts_with(key::STREAM_PREFIX) {
            self.ask_of_stream(queue, Asked::Get, step);
            return Ok(());
        }
        if &queue[..] == DIRECT_REPLY_TO {
            return Err(Fault::new(
                ReplyCode::NotImplemented,
                "basic.get from this kind of queue",
            ));
        }
        let token = self.wait(
            step,
            (60, 70),
            Pending::Get {
                queue: queue.clone(),
            },
        );
        step.command(Command::Pull(Pull {
            token,
            lane: self.lane(),
            queue,
            count: 1,
            lease: if get.no_ack {
                Lease::Settled
            } else {
                Lease::Connection
            },
            wait_ms: 0,
            out_max: None,
            bytes_max: None,
            attempt: None,
        }));
        Ok(())
    }

    /// What a `get` took.
    pub(crate) fn on_pulled(
        &mut self,
        deliveries: Vec<Delivery>,
        remaining: u64,
        step: &mut Step<'_>,
    ) {
        let mut deliveries = deliveries.into_iter();
        let Some(delivery) = deliveries.next() else {
            step.send(self.number, basic::GetEmpty::default());
            return;
        };
        debug_assert!(deliveries.next().is_none(), "one message was asked for");
        let envelope = conversion::of_delivery(&delivery, step.now);
        if !step.header_fits(&envelope.properties) {
            self.refuse_delivery(&delivery, step);
            step.send(self.number, basic::GetEmpty::default());
            return;
        }
        let method = basic::GetOk {
            delivery_tag: self.unsettled.tag(delivery.id),
            redelivered: delivery.redelivered,
            exchange: envelope.exchange.clone(),
            routing_key: envelope.routing_key.clone(),
            message_count: u32::try_from(remaining).unwrap_or(u32::MAX),
        };
        step.send_content(self.number, method, &envelope, &delivery.message.body);
    }

    /// A delivery to one of the channel's consumers.
    /// [AMQP-redelivered.implementation].
    pub(crate) fn deliver(&mut self, number: u32, delivery: &Delivery, step: &mut Step<'_>) {
        let Some(consumer) = self.consumers.get(number) else {
            self.release(delivery, step);
            return;
        };
        let made;
        let words = match conversion::as_published(delivery) {
            Some(words) => words,
            None => {
                made = conversion::of_delivery(delivery, step.now);
                made.words()
            }
        };
        if !step.header_fits(words.properties) {
            self.refuse_delivery(delivery, step);
            return;
        }
        let how = (self.unsettled.tag(delivery.id), delivery.redelivered);
        let body = &delivery.message.body;
        step.send_delivery(self.number, &consumer.tag, how, words, body);
    }

    /// Gives back what came for a consumer that is no more.
    pub(crate) fn release(&self, delivery: &Delivery, step: &mut Step<'_>) {
        if let Some(id) = delivery.id {
            step.settle(self.lane(), id, Outcome::Release);
        }
    }

    /// A head larger than the peer's frames can never be delivered to it; left alone it would block the queue for ever.
    fn refuse_delivery(&self, delivery: &Delivery, step: &mut Step<'_>) {
        if let Some(id) = delivery.id {
            step.settle(self.lane(), id, Outcome::Reject);
        }
    }
}

/// Whether a peer's properties announce a capability.
pub(crate) fn has_capability(properties: &message::Properties, name: &str) -> bool {
    let Some(Value::Map(capabilities)) = properties.first(b"capabilities") else {
        return false;
    };
    capabilities
        .iter()
        .any(|(key, value)| key.as_str() == Some(name) && *value == Value::Bool(true))
}
