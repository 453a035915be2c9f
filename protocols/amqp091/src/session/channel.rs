//! One channel: its state, the content that is coming in, and which method waits for the core.
//!
//! ```text
//!            channel.open                   channel.close
//!  (none) ───────────────▶ Open ─────────────────────────▶ Leaving ── fence reached, close-ok ──▶ (none)
//!                           │ an exception: channel.close
//!                           └──────────▶ Expelled ── close-ok received and fence reached ──▶ (none)
//! ```
//! A synchronous method that the core must answer holds up the later frames of its channel, and of no other: they are
//! kept, decoded, until the answer is there. So a method sees what the one before it did (the name of a made-up queue, the
//! channel closed by a refusal), as with a broker that does one thing after another, while a slow
//! commit on one channel delays nobody else. Kept frames are counted; beyond `deferred_len_max` the connection is not read.
//!
//! A channel's number is free again only when everything of its lane has been answered: an answer or a returned message can never be
//! taken for one of its successor.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use session::{
    Binding, Command, DeliveryId, Lane, Operation, Outcome, StreamAttributes, Subscribe, Token,
};

use super::{
    numbered::Numbered,
    step::{Shared, Step, consumer_id, token},
    streams::Asked,
    unsettled::Unsettled,
};
use crate::{
    codec::{ContentHeader, Frame, Method, Short, basic, channel},
    equivalence::Wanted,
    error::{Fault, ReplyCode},
};

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    /// The peer closed it; the fence is on its way.
    Leaving,
    /// We closed it. Until `close-ok` every frame is ignored (1.4.2.5.2 rule "while closing"), after it kept for the successor.
    Expelled {
        close_ok: bool,
        reached: bool,
    },
}

/// A consumer as this side sees it.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) tag: Short,
    pub(crate) queue: Bytes,
}

/// A method that the core has to answer.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) token: Token,
    /// Class and method, for the fault.
    pub(crate) method: (u16, u16),
    pub(crate) pending: Pending,
}

/// What the answer will be.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    QueueDeclare {
        name: Bytes,
        no_wait: bool,
        /// `None`: it only looks.
        wanted: Option<Box<Wanted>>,
    },
    /// The hidden queue of direct reply-to; then comes the consumer.
    ReplyQueue {
        tag: Short,
        no_wait: bool,
    },
    QueuePurge {
        name: Bytes,
        no_wait: bool,
    },
    QueueDelete {
        name: Bytes,
        /// With `if-unused` or `if-empty`.
        conditions: bool,
        no_wait: bool,
    },
    /// Whether there is a queue of the name that a stream is to have.
    StreamMake {
        shown: Bytes,
        no_wait: bool,
        asked: Box<(Wanted, StreamAttributes)>,
    },
    /// A stream under the name of a queue, as the client writes it.
    StreamDeclare {
        shown: Bytes,
        no_wait: bool,
        /// `None`: it only looks.
        wanted: Option<Box<(Wanted, StreamAttributes)>>,
    },
    StreamDelete {
        no_wait: bool,
        /// It only looks, to refuse the conditions.
        refuses: bool,
    },
    /// What streams cannot do.
    StreamAsked {
        shown: Bytes,
        asked: Asked,
    },
    ExchangeDeclare {
        name: Bytes,
        no_wait: bool,
        wanted: Box<Wanted>,
    },
    ExchangeDelete {
        name: Bytes,
        no_wait: bool,
    },
    Bind {
        binding: Box<Binding>,
        remove: bool,
        retried: bool,
        arguments: message::Properties,
        reply: Option<Method>,
    },
    Consume {
        number: u32,
        tag: Short,
        queue: Bytes,
        no_wait: bool,
        /// The same of the stream of that name, if there is no such queue.
        or_stream: Option<Box<Subscribe>>,
    },
    Cancel {
        number: u32,
        tag: Short,
        no_wait: bool,
    },
    Get {
        queue: Bytes,
    },
    Commit,
    Fence,
}

/// A publish whose header or body is still coming.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) publish: basic::Publish,
    pub(crate) header: Option<ContentHeader>,
    pub(crate) body: BytesMut,
}

/// A publish that has not been confirmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outstanding {
    pub(crate) token: Token,
    pub(crate) sequence: u64,
    pub(crate) done: bool,
}

/// Whether publishes are confirmed, staged, or neither.
#[derive(Debug)]
pub(crate) enum Mode {
    Plain,
    /// `confirm.select`.
    Confirm {
        last: u64,
        outstanding: VecDeque<Outstanding>,
        /// Confirmed and not yet told: first and last sequence number, all between them are confirmed or have been nacked.
        held: Option<(u64, u64)>,
    },
    /// `tx.select`.
    Transaction {
        operations: Vec<Operation>,
        len: usize,
        /// Deliveries that staged settlements have taken.
        taken: Vec<(u64, DeliveryId)>,
    },
}

/// One channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) number: u16,
    /// Tokens below this one belong to an earlier channel of the same number.
    pub(crate) born: u64,
    pub(crate) stage: Stage,
    pub(crate) content: Option<Content>,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) deferred: VecDeque<(Frame, usize)>,
    pub(crate) last_queue: Option<Bytes>,
    pub(crate) consumers: Numbered<u32, Consumer>,
    // [AMQP-basic.consume.consumer-tag.02]
    pub(crate) tags: BTreeMap<Short, u32>,
    pub(crate) prefetch: u16,
    /// The channel's own window or a stopped flow: undone before the number is used again.
    pub(crate) has_window: bool,
    pub(crate) is_stopped: bool,
    /// The queue behind `amq.rabbitmq.reply-to`.
    pub(crate) reply_queue: Option<Bytes>,
    pub(crate) unsettled: Unsettled,
    pub(crate) mode: Mode,
}

impl Channel {
    pub(crate) fn new(number: u16, born: u64) -> Self {
        Self {
            number,
            born,
            stage: Stage::Open,
            content: None,
            waiting: None,
            deferred: VecDeque::new(),
            last_queue: None,
            consumers: Numbered::new(),
            tags: BTreeMap::new(),
            prefetch: 0,
            has_window: false,
            // [AMQP-channel.flow.initial-state]
            is_stopped: false,
            reply_queue: None,
            unsettled: Unsettled::default(),
            mode: Mode::Plain,
        }
    }

    pub(crate) fn lane(&self) -> Lane {
        Lane(u32::from(self.number))
    }

    /// The next frame waits for the answer to an earlier one.
    pub(crate) const fn holds_frames(&self) -> bool {
        self.waiting.is_some() || !matches!(self.stage, Stage::Open)
    }

    /// Remembers which answer is awaited, and gives the token to ask with.
    pub(crate) fn wait(
        &mut self,
        step: &mut Step<'_>,
        method: (u16, u16),
        pending: Pending,
    ) -> Token {
        let token = token(self.number, step.shared.number());
        self.waiting = Some(Waiting {
            token,
            method,
            pending,
        });
        token
    }

    pub(crate) fn defer(&mut self, frame: Frame, len: usize, shared: &mut Shared) {
        shared.deferred += len;
        self.deferred.push_back((frame, len));
    }

    /// The peer closes the channel.
    pub(crate) fn leave(&mut self, step: &mut Step<'_>) {
        self.give_up(step);
        self.stage = Stage::Leaving;
        let token = self.wait(step, (20, 40), Pending::Fence);
        step.command(Command::Fence {
            token,
            lane: self.lane(),
        });
    }

    /// We close the channel because of an exception.
    /// [AMQP-channel.close.stability].
    pub(crate) fn expel(&mut self, fault: &Fault, step: &mut Step<'_>) {
        self.flush(step);
        self.give_up(step);
        self.stage = Stage::Expelled {
            close_ok: false,
            reached: false,
        };
        for (_, len) in self.deferred.drain(..) {
            step.shared.deferred -= len;
        }
        let token = self.wait(step, fault.method, Pending::Fence);
        step.command(Command::Fence {
            token,
            lane: self.lane(),
        });
        step.send(
            self.number,
            channel::Close {
                reply_code: fault.code as u16,
                reply_text: Short::cut(fault.reply_text()),
                class_id: fault.method.0,
                method_id: fault.method.1,
            },
        );
    }

    /// Ends the consumers, gives back what is out, forgets what was staged.
    fn give_up(&mut self, step: &mut Step<'_>) {
        self.drop_content(step.shared);
        let mut numbers: Vec<u32> = self.consumers.numbers().collect();
        if let Some(Waiting {
            pending: Pending::Consume { number, .. },
            ..
        }) = self.waiting.take()
        {
            numbers.push(number);
        }
        for number in numbers {
            // No one waits for this answer: its token is older than the successor of this channel.
            let token = token(self.number, step.shared.number());
            step.command(Command::Cancel {
                token,
                lane: self.lane(),
                consumer: consumer_id(self.number, number),
            });
        }
        self.consumers.clear();
        self.tags.clear();
        let group = u32::from(self.number);
        if self.has_window {
            step.command(Command::GroupWindow { group, window: 0 });
        }
        if self.is_stopped {
            step.command(Command::GroupFlow {
                group,
                active: true,
            });
        }
        // Confirms that are still to come are told until `close-ok`; what a transaction staged is forgotten.
        if let Mode::Transaction { taken, .. } = &mut self.mode {
            self.unsettled.give_back(std::mem::take(taken));
            self.begin_again(step.shared);
            self.mode = Mode::Plain;
        }
        for (_, id) in self.unsettled.take_all() {
            step.settle(self.lane(), id, Outcome::Release);
        }
    }

    pub(crate) fn drop_content(&mut self, shared: &mut Shared) {
        if let Some(content) = self.content.take() {
            shared.assembling -= content.body.len() as u64;
        }
    }

    /// A content header (4.2.6.1). Publishes when there is no body to wait for.
    pub(crate) fn on_header(
        &mut self,
        header: ContentHeader,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        let Some(content) = &mut self.content else {
            return Err(without_method());
        };
        if content.header.is_some() {
            return Err(unexpected(BODY_EXPECTED));
        }
        if header.class_id != crate::codec::CLASS_BASIC {
            return Err(unexpected(&format!(
                "expected content header for class 60, got one for class {} instead",
                header.class_id
            )));
        }
        let len_max = step.shared.config.message_len_max;
        if header.body_size > len_max {
            self.content = None;
            return Err(Fault::new(
                ReplyCode::PreconditionFailed,
                format!(
                    "message size {} is larger than configured max size {len_max}",
                    header.body_size
                ),
            ));
        }
        let is_whole = header.body_size == 0;
        content.header = Some(header);
        if is_whole {
            return self.publish(Bytes::new(), step);
        }
        Ok(())
    }

    /// A part of a body (4.2.6.2). Publishes when the body is whole. A body in one frame is not copied.
    /// [AMQP-4.2.6.2-1].
    pub(crate) fn on_body(&mut self, part: Bytes, step: &mut Step<'_>) -> Result<(), Fault> {
        let Some(content) = &mut self.content else {
            return Err(without_method());
        };
        let Some(header) = &content.header else {
            return Err(unexpected(HEADER_EXPECTED));
        };
        let have = content.body.len() as u64;
        let len = part.len() as u64;
        if have + len > header.body_size {
            return Err(Fault::new(
                ReplyCode::FrameError,
                "content body frame exceeds remaining content size",
            ));
        }
        let whole = have + len == header.body_size;
        let body = if whole && have == 0 {
            part
        } else {
            if step.shared.assembling + len > step.shared.config.assembling_len_max {
                return Err(Fault::new(
                    ReplyCode::ResourceError,
                    "too many bytes in bodies that are not complete",
                ));
            }
            step.shared.assembling += len;
            content.body.extend_from_slice(&part);
            if !whole {
                return Ok(());
            }
            step.shared.assembling -= content.body.len() as u64;
            content.body.split().freeze()
        };
        self.publish(body, step)
    }
}

const HEADER_EXPECTED: &str =
    "expected content header for class 60, got non content header frame instead";
const BODY_EXPECTED: &str = "expected content body, got non content body frame instead";

/// Content that no method announced, so none is to blame.
fn without_method() -> Fault {
    unexpected("expected method frame, got non method frame instead").by_none()
}

/// [AMQP-4.2.6-1].
fn unexpected(text: &str) -> Fault {
    Fault::new(ReplyCode::UnexpectedFrame, text).by((60, 40))
}

impl Content {
    /// A method in the place of this content's next frame (4.2.6).
    pub(crate) fn broken_off(&self) -> Fault {
        unexpected(if self.header.is_some() {
            BODY_EXPECTED
        } else {
            HEADER_EXPECTED
        })
    }
}
