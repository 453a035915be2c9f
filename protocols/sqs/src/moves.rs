//! StartMessageMoveTask, CancelMessageMoveTask, ListMessageMoveTasks: dead letters moved back.
//!
//! A task's handle is its number and its source, sealed: the source's policy says who may end it.

use std::sync::Arc;

use aws::{Answer, ApiError, Call, Input, Value, digest, seal};
use message::Name;
use session::{Command, Event, Flow, List, Listed, MoveState, MoveTask, MoveTo, RefusalKind};

use crate::{
    asked::{LANE, Made, TOKEN, done, failed, look, unexpected},
    attributes, guard, queue, words,
};

/// Most messages a second that can be asked for.
const RATE_MAX: i64 = 500;
/// Queues of one look at those that feed another.
const FEEDERS: u32 = 100;
/// Most tasks of one list.
const TASKS_MAX: i64 = 10;

fn no_such(parameter: &str) -> Flow<Answer> {
    failed(words::no_resource(format!(
        "The resource that you specified for the {parameter} parameter doesn't exist."
    )))
}

/// The queue that an ARN parameter names.
fn named(input: &Input, parameter: &str) -> Result<Option<Name>, Flow<Answer>> {
    let Some(arn) = input.value.text(parameter) else {
        return Ok(None);
    };
    if !arn.starts_with("arn:aws:sqs:") || arn.split(':').count() != 6 {
        let reason = "You must use this format to specify the ARN: arn:aws:sqs:<region>:<account-id>:<queue-name>";
        return Err(failed(words::invalid(parameter, arn, reason)));
    }
    match queue::of_arn(&input.call, arn) {
        Some(name) => Ok(Some(name)),
        None => Err(no_such(parameter)),
    }
}

const fn command(to: MoveTo) -> Command {
    Command::MoveTask {
        token: TOKEN,
        lane: LANE,
        to,
    }
}

pub(crate) fn start(input: Input) -> Flow<Answer> {
    let source = match named(&input, "SourceArn") {
        Ok(Some(source)) => source,
        Ok(None) => return failed(words::missing("SourceArn")),
        Err(flow) => return flow,
    };
    let target = match named(&input, "DestinationArn") {
        Ok(target) => target,
        Err(flow) => return flow,
    };
    let per_second = match input.value.int("MaxNumberOfMessagesPerSecond") {
        None => None,
        Some(rate) if (1..=RATE_MAX).contains(&rate) => Some(rate as u32),
        Some(rate) => {
            return failed(words::invalid(
                "MaxNumberOfMessagesPerSecond",
                rate,
                format!(
                    "MaxNumberOfMessagesPerSecond must be an integer between 1 and {RATE_MAX}."
                ),
            ));
        }
    };
    look(source.clone(), move |queue, _| {
        let Some(queue) = queue else {
            return no_such("SourceArn");
        };
        let fifo = queue.options.attributes.fifo.is_some();
        let call = Arc::clone(&input.call);
        let feeders = Feeders {
            of: source.clone(),
            sends: target.is_none().then_some(input),
            any: false,
        };
        let begin = {
            let call = Arc::clone(&call);
            move || {
                check_target(target.clone(), fifo, move || {
                    begin(call, source, target, per_second)
                })
            }
        };
        feeders.find(call, None, Box::new(begin))
    })
}

/// The queues whose dead letters come into one. Only what is the dead-letter queue of another can be emptied by a task.
struct Feeders {
    of: Name,
    /// Their messages go back to them: the caller must be allowed to send to each. `None`: they do not.
    sends: Option<Input>,
    any: bool,
}

type Then = Box<dyn FnOnce() -> Flow<Answer> + Send>;

impl Feeders {
    /// Looks at those behind that one.
    fn find(self, call: Arc<Call>, after: Option<Name>, then: Then) -> Flow<Answer> {
        let list = List {
            of: Listed::Queues,
            feeding: Some(self.of.clone()),
            after,
            limit: if self.sends.is_some() { FEEDERS } else { 1 },
            ..List::default()
        };
        let command = Command::List {
            token: TOKEN,
            lane: LANE,
            list: Box::new(list),
        };
        Flow::ask(command, move |event, _| {
            let Event::Listed {
                mut names, more, ..
            } = event
            else {
                return failed(unexpected(&event));
            };
            // It may stand for names that were only looked at.
            let last = names.pop_if(|_| more);
            self.see_each(names).map_or_else(failed, |this| match last {
                Some(last) => this.look_at(call, last, then),
                None => this.end(&call, then),
            })
        })
    }

    fn see_each(mut self, names: Vec<Name>) -> Result<Self, ApiError> {
        for name in names {
            self.any = true;
            if let Some(input) = &self.sends {
                guard::allow_send(input, name)?;
            }
        }
        Ok(self)
    }

    fn look_at(self, call: Arc<Call>, name: Name, then: Then) -> Flow<Answer> {
        look(name.clone(), move |found, _| {
            let feeds = found.is_some_and(|found| {
                attributes::redrive_target(&Made::of(&found)) == Some(&self.of)
            });
            let seen = self.see_each(if feeds {
                vec![name.clone()]
            } else {
                Vec::new()
            });
            seen.map_or_else(failed, |this| {
                if this.any && this.sends.is_none() {
                    this.end(&call, then)
                } else {
                    this.find(call, Some(name), then)
                }
            })
        })
    }

    fn end(self, call: &Call, then: Then) -> Flow<Answer> {
        if self.any {
            return then();
        }
        failed(words::invalid(
            "SourceArn",
            queue::arn(call, &self.of),
            "Source queue must be configured as a Dead Letter Queue.",
        ))
    }
}

fn check_target(
    target: Option<Name>,
    fifo: bool,
    then: impl FnOnce() -> Flow<Answer> + Send + 'static,
) -> Flow<Answer> {
    let Some(target) = target else { return then() };
    look(target, move |queue, _| match queue {
        None => no_such("DestinationArn"),
        Some(queue) if queue.options.attributes.fifo.is_some() != fifo => {
            failed(words::invalid_parameter(
                "The source and the destination of a message move task must be queues of the same type.",
            ))
        }
        Some(_) => then(),
    })
}

fn begin(
    call: Arc<Call>,
    source: Name,
    target: Option<Name>,
    per_second: Option<u32>,
) -> Flow<Answer> {
    let id = call.random[..16].try_into().expect("a part of 32 bytes");
    let id = digest::random_uuid(id);
    let of = source.clone();
    let to = MoveTo::Start {
        id,
        source,
        target,
        per_second,
    };
    Flow::ask(command(to), move |event, _| match event {
        Event::MoveTasks { .. } => {
            let handle = handle(&call, id, &of);
            done(Ok(Value::from([("TaskHandle", handle.into())])))
        }
        Event::Refused { refusal, .. } if refusal.kind == RefusalKind::InUse => {
            failed(words::invalid_parameter(
                "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
            ))
        }
        Event::Refused { refusal, .. } if refusal.kind == RefusalKind::QuotaExceeded => {
            failed(words::too_many_tasks())
        }
        other => failed(unexpected(&other)),
    })
}

fn purpose(call: &Call) -> [&[u8]; 2] {
    [b"sqs task", call.vhost_name.as_bytes()]
}

fn handle(call: &Call, id: [u8; 16], source: &[u8]) -> String {
    seal::seal(&call.secret, &purpose(call), &[&id, source].concat())
}

/// The number of the task that a handle is of, and its source.
fn opened(call: &Call, handle: &str) -> Option<([u8; 16], Name)> {
    let opened = seal::open(&call.secret, &purpose(call), handle)?;
    let (id, source) = opened.split_first_chunk()?;
    Some((*id, Name::copy_from_slice(source)))
}

/// The source of the task that a handle is of.
pub(crate) fn source_of(call: &Call, handle: &str) -> Option<Name> {
    Some(opened(call, handle)?.1)
}

pub(crate) fn cancel(input: Input) -> Flow<Answer> {
    let call = &input.call;
    let text = input.value.text("TaskHandle").unwrap_or_default();
    let Some((id, _)) = opened(call, text) else {
        return failed(words::invalid(
            "TaskHandle",
            text,
            "The value is not a task handle.",
        ));
    };
    Flow::ask(command(MoveTo::Cancel { id }), |event, _| match event {
        Event::MoveTasks { tasks, .. } => {
            let moved = tasks.first().map_or(0, |task| task.moved);
            let moved = Value::Int(moved as i64);
            done(Ok(Value::from([(
                "ApproximateNumberOfMessagesMoved",
                moved,
            )])))
        }
        Event::Refused { refusal, .. } if refusal.kind == RefusalKind::NotFound => {
            failed(words::no_resource("Task does not exist."))
        }
        other => failed(unexpected(&other)),
    })
}

pub(crate) fn list(input: Input) -> Flow<Answer> {
    let source = match named(&input, "SourceArn") {
        Ok(Some(source)) => source,
        Ok(None) => return failed(words::missing("SourceArn")),
        Err(flow) => return flow,
    };
    let max = match input.value.int("MaxResults") {
        None => 1,
        Some(max) if (1..=TASKS_MAX).contains(&max) => max as usize,
        Some(max) => {
            let reason = format!("MaxResults must be an integer between 1 and {TASKS_MAX}.");
            return failed(words::invalid("MaxResults", max, reason));
        }
    };
    let call = input.call;
    look(source.clone(), move |queue, _| {
        if queue.is_none() {
            return no_such("SourceArn");
        }
        Flow::ask(command(MoveTo::List { source }), move |event, _| {
            let Event::MoveTasks { tasks, .. } = event else {
                return failed(unexpected(&event));
            };
            let results = tasks.iter().take(max).map(|task| shown(&call, task));
            let results: Vec<Value> = results.collect();
            done(Ok(Value::from([("Results", Value::List(results))])))
        })
    })
}

fn shown(call: &Call, task: &MoveTask) -> Value {
    let running = task.state == MoveState::Running;
    let status = match task.state {
        MoveState::Running => "RUNNING",
        MoveState::Completed => "COMPLETED",
        MoveState::Cancelled => "CANCELLED",
        MoveState::Failed => "FAILED",
    };
    let target = task.target.as_ref().map(|target| queue::arn(call, target));
    let failure = task.failure.as_ref().map(|why| why.to_string());
    Value::from([
        (
            "TaskHandle",
            running.then(|| handle(call, task.id, &task.source)).into(),
        ),
        ("Status", status.into()),
        ("SourceArn", queue::arn(call, &task.source).into()),
        ("DestinationArn", target.into()),
        (
            "MaxNumberOfMessagesPerSecond",
            task.per_second.map(i64::from).into(),
        ),
        (
            "ApproximateNumberOfMessagesMoved",
            Value::Int(task.moved as i64),
        ),
        (
            "ApproximateNumberOfMessagesToMove",
            running.then_some(task.planned as i64).into(),
        ),
        ("FailureReason", failure.into()),
        ("StartedTimestamp", Value::Int(task.started.0 as i64)),
    ])
}
