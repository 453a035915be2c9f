//! Drives one operation: shows what it asks of the core, and gives it answers.

use std::sync::Arc;

use aws::{Answer, ApiError, Call, Input, Operation, Settings, Value};
use message::{Name, Timestamp, VhostId};
use session::{
    Command, Declare, Event, Flow, Publish, PublishOutcome, Pull, QueueAttributes, QueueId,
    QueueInfo, QueueOptions, Receipt, ReceiptUse, Refusal, RefusalKind, Secret, Token,
};

pub(crate) const TOKEN: Token = Token(0);
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// An operation of the service.
pub(crate) fn named(operation: &str) -> &'static Operation {
    let mut operations = sqs::SERVICE.operations.iter();
    let found = operations.find(|it| it.name == operation);
    found.expect("an operation of the service")
}

/// Who calls.
pub(crate) struct Client {
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    pub(crate) path: &'static str,
    pub(crate) random: [u8; 32],
    pub(crate) secret: Secret,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            now: NOW,
            path: "/",
            random: [9; 32],
            secret: Secret([3; 32]),
        }
    }
}

/// A structure.
pub(crate) fn map<const N: usize>(members: [(&'static str, Value); N]) -> Value {
    Value::from(members)
}

/// Building inputs.
pub(crate) trait With {
    /// With one member more.
    fn with(self, name: &str, value: impl Into<Value>) -> Self;
}

impl With for Value {
    fn with(self, name: &str, value: impl Into<Self>) -> Self {
        let Self::Map(mut members) = self else {
            panic!("not a structure");
        };
        members.push((name.to_owned().into(), value.into()));
        Self::Map(members)
    }
}

impl Client {
    pub(crate) fn call(&self, operation: &str, value: Value) -> Dialogue {
        Dialogue {
            flow: Some((named(operation).run)(self.input(value))),
            now: self.now,
        }
    }

    pub(crate) fn input(&self, value: Value) -> Input {
        let call = Call {
            account: "000000000000".into(),
            region: "us-east-1".into(),
            caller_account: "000000000000".into(),
            vhost: VhostId::ROOT,
            vhost_name: "/".into(),
            vhost_of: |call, account, region| {
                let here = account == &call.account[..] && region == &call.region[..];
                here.then(|| Arc::clone(&call.vhost_name))
            },
            user: "guest".into(),
            access_key: "guest".into(),
            base_url: "http://127.0.0.1:4566".into(),
            path: self.path.into(),
            request_id: "r".into(),
            now: self.now,
            random: self.random,
            secret: self.secret,
            settings: Arc::new(self.settings.clone()),
            judge: aws::Judge::default(),
        };
        Input {
            call: Arc::new(call),
            value,
        }
    }

    /// An operation that asks the core nothing.
    pub(crate) fn error(&self, operation: &str, value: Value) -> ApiError {
        self.call(operation, value).error()
    }
}

/// An operation on its way.
pub(crate) struct Dialogue {
    flow: Option<Flow<Answer>>,
    now: Timestamp,
}

impl Dialogue {
    /// What it asks, and then goes on with the answers.
    pub(crate) fn answer_all(&mut self, events: impl FnOnce(&[Command]) -> Vec<Event>) {
        let Some(Flow::Ask(commands, then)) = self.flow.take() else {
            panic!("it asks nothing");
        };
        let events = events(&commands);
        assert_eq!(events.len(), commands.len(), "{commands:?}");
        self.flow = Some(then(events, self.now));
    }

    /// The one thing that it asks.
    pub(crate) fn answer(&mut self, event: impl FnOnce(&Command) -> Event) {
        self.answer_all(|commands| {
            let [command] = commands else {
                panic!("not one: {commands:?}");
            };
            vec![event(command)]
        });
    }

    pub(crate) fn refuse(&mut self, kind: RefusalKind) {
        self.answer(|_| refused(kind));
    }

    pub(crate) fn refuse_all(&mut self, kind: RefusalKind) {
        self.answer_all(|commands| commands.iter().map(|_| refused(kind)).collect());
    }

    /// It publishes several messages in one command: what they are, and what becomes of each.
    pub(crate) fn publish_all(&mut self, outcomes: impl FnOnce(&[Publish]) -> Vec<PublishOutcome>) {
        self.answer(|command| {
            let Command::PublishAll(all) = command else {
                panic!("{command:?}");
            };
            Event::PublishedAll {
                token: TOKEN,
                outcomes: outcomes(&all.publishes),
            }
        });
    }

    /// It uses receipts, each command's in its own list: of which messages, and what becomes of them.
    pub(crate) fn use_all(
        &mut self,
        outcomes: impl Fn(&[(Receipt, ReceiptUse)]) -> Vec<Result<u32, RefusalKind>>,
    ) {
        self.answer_all(|commands| {
            let answer = |command: &Command| {
                let Command::UseReceipts(all) = command else {
                    panic!("{command:?}");
                };
                let refusal = |kind| Refusal::new(kind, "refused");
                let outcomes = outcomes(&all.uses).into_iter();
                Event::SettledAll {
                    token: TOKEN,
                    outcomes: outcomes.map(|it| it.map_err(refusal)).collect(),
                }
            };
            commands.iter().map(answer).collect()
        });
    }

    /// It looks at a queue, which is that.
    pub(crate) fn look(&mut self, queue: &QueueInfo) {
        self.answer(|command| {
            let Command::Inspect { name, .. } = command else {
                panic!("{command:?}");
            };
            assert_eq!(*name, queue.name);
            Event::Inspected {
                token: TOKEN,
                queue: Box::new(queue.clone()),
            }
        });
    }

    /// It looks at a queue and pulls from it at once.
    pub(crate) fn receive(&mut self, queue: &QueueInfo, pulled: impl FnOnce(&Pull) -> Event) {
        self.answer_all(|commands| {
            let [Command::Inspect { name, .. }, Command::Pull(pull)] = commands else {
                panic!("{commands:?}");
            };
            assert_eq!((name, &pull.queue), (&queue.name, &queue.name));
            let looked = Event::Inspected {
                token: TOKEN,
                queue: Box::new(queue.clone()),
            };
            vec![looked, pulled(pull)]
        });
    }

    /// It declares, which succeeds.
    pub(crate) fn declares(&mut self) -> Declare {
        let mut declared = None;
        self.answer(|command| {
            let Command::Declare { declare, .. } = command else {
                panic!("{command:?}");
            };
            declared = Some(declare.clone());
            Event::Declared {
                token: TOKEN,
                name: Name::new(),
                messages: 0,
                consumers: 0,
            }
        });
        declared.expect("set above")
    }

    /// Whether it asks something.
    pub(crate) const fn asks(&self) -> bool {
        matches!(self.flow, Some(Flow::Ask(..)))
    }

    fn end(self) -> Answer {
        match self.flow {
            Some(Flow::Done(answer)) => answer,
            Some(Flow::Ask(commands, _)) => panic!("it asks {commands:?}"),
            _ => panic!("it waits"),
        }
    }

    pub(crate) fn output(self) -> Value {
        match self.end() {
            Answer::Output(Value::Map(members)) => {
                // Rows as the lists that they are.
                let listed = members.into_iter().map(|(name, value)| match value {
                    Value::Rows(rows) => (name, rows.list()),
                    value => (name, value),
                });
                Value::Map(listed.collect())
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn error(self) -> ApiError {
        match self.end() {
            Answer::Error(error) => error,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn refused(kind: RefusalKind) -> Event {
    Event::Refused {
        token: TOKEN,
        refusal: Refusal::new(kind, "refused"),
    }
}

/// A queue.
pub(crate) fn queue(name: &'static str, attributes: QueueAttributes) -> QueueInfo {
    QueueInfo {
        id: QueueId(5),
        name: name.into(),
        options: Arc::new(QueueOptions {
            durable: true,
            attributes,
            ..QueueOptions::default()
        }),
        notes: Vec::new(),
        created: Timestamp(1_600_000_000_000),
        changed: Timestamp(1_650_000_000_000),
        version: 4,
        available: 3,
        delayed: 2,
        out: 1,
        consumers: 0,
    }
}

/// A queue as a declaration makes it.
pub(crate) fn made(declare: &Declare) -> QueueInfo {
    let (Declare::NewQueue {
        name,
        attributes,
        notes,
        ..
    }
    | Declare::Alter {
        name,
        attributes,
        notes,
        ..
    }) = declare
    else {
        panic!("{declare:?}");
    };
    let mut info = queue("q", (**attributes).clone());
    info.name = name.clone();
    info.notes = notes.clone();
    info
}
