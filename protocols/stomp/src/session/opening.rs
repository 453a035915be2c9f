//! Queues of the connection's own, whose names the core makes up: the frames behind wait for the name.
//!
//! Of a topic subscription: exclusive, and gone with it. A temporary queue: exclusive, and gone with the connection.

use bytes::Bytes;
use message::{Name, Timestamp};
use session::{Command, Declare, Output, QueueAttributes, QueueOptions, Source, Token};

use crate::{Dialect, codec::Frame, destination::Temporary, error::Fault};

use super::{
    conversation::{Conversation, LANE, Next},
    subscribing::{Ack, Bind, Request},
};

/// A queue of the connection's own is being made; the frames behind wait.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) token: Token,
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// Bind it and read it.
    Subscribe(Box<(Request, Bind)>),
    /// It is that temporary queue, or names that temporary topic; the frame that named it goes on.
    Temporary {
        temporary: Temporary,
        /// Read it at once, as RabbitMQ does for a `reply-to`.
        implicit: bool,
        frame: Box<Frame>,
    },
}

impl Opening {
    /// The receipt that its frame asked for.
    pub(super) fn receipt(self) -> Option<Bytes> {
        match self.then {
            Then::Subscribe(request) => request.0.receipt,
            Then::Temporary { frame, .. } => frame.receipt(),
        }
    }
}

impl Conversation {
    /// Asks for a queue of the connection's own; the core makes up its name.
    fn declare_private(
        &mut self,
        auto_delete: bool,
        attributes: QueueAttributes,
        out: &mut Output,
    ) -> Token {
        let token = self.token();
        let exclusive = true;
        out.commands.push_back(Command::Declare {
            token,
            lane: LANE,
            declare: Declare::Queue {
                name: Name::new(),
                passive: false,
                options: Box::new(QueueOptions {
                    exclusive,
                    auto_delete,
                    attributes,
                    ..QueueOptions::default()
                }),
            },
        });
        token
    }

    /// Makes the queue of a subscription to a topic or an exchange.
    pub(super) fn open_subscription(
        &mut self,
        request: Request,
        bind: Bind,
        attributes: QueueAttributes,
        out: &mut Output,
    ) {
        let token = self.declare_private(true, attributes, out);
        let then = Then::Subscribe(Box::new((request, bind)));
        self.opening = Some(Opening { token, then });
    }

    /// Makes a temporary queue or topic; `frame`, which named it, is seen again then. A topic is named after a queue of its
    /// own in which nothing ever is: so nobody else has its name while the connection lasts.
    pub(super) fn open_temporary(
        &mut self,
        temporary: Temporary,
        implicit: bool,
        frame: Frame,
        out: &mut Output,
    ) -> Result<(), Fault> {
        if self.temporary.len() >= self.config.temporary_queues_max {
            let max = self.config.temporary_queues_max;
            let detail = format!("more than {max} temporary queues and topics");
            return Err(Fault::peer("quota exceeded", detail));
        }
        let token = self.declare_private(false, QueueAttributes::default(), out);
        let frame = Box::new(frame);
        let name = Bytes::copy_from_slice(&temporary.name);
        let temporary = Temporary { name, ..temporary };
        let implicit = implicit && !temporary.topic && self.config.dialect != Dialect::ActiveMq;
        self.opening = Some(Opening {
            token,
            then: Then::Temporary {
                temporary,
                implicit,
                frame,
            },
        });
        Ok(())
    }

    /// The queue that `opening` waits for is there.
    pub(super) fn on_opened(
        &mut self,
        queue: Name,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<Next, Fault> {
        let opening = self.opening.take().expect("the caller has looked");
        match opening.then {
            Then::Subscribe(parts) => {
                let (request, bind) = *parts;
                self.bind(queue.clone(), bind, request.receipt.clone(), out);
                let source = Source::Queue {
                    name: queue,
                    create: false,
                };
                self.read(request, source, true, None, out)?;
                Ok(Next::Go)
            }
            Then::Temporary {
                temporary,
                implicit,
                frame,
            } => {
                let name = temporary.name.clone();
                self.temporary.insert(temporary, queue.clone());
                if implicit {
                    let id = Bytes::from([b"/temp-queue/", &name[..]].concat());
                    let request = Request {
                        id: id.clone(),
                        named: true,
                        destination: id,
                        ack: Ack::Auto,
                        prefetch: 0,
                        priority: 0,
                        exclusive: false,
                        implicit: true,
                        receipt: None,
                    };
                    let source = Source::Queue {
                        name: queue,
                        create: false,
                    };
                    self.read(request, source, false, None, out)?;
                }
                let receipt = frame.receipt();
                self.on_frame(*frame, now, out)
                    .map_err(|fault| fault.with_receipt(receipt))
            }
        }
    }
}
