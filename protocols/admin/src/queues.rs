//! Queues: listed and shown.

use message::Name;
use serde_json::{Value, json};
use session::{Command, Event, Flow, Lane, Listed, QueueInfo, Token};

use crate::{
    Reply, Request,
    streams::{page, text},
};

/// Durable queues that belong to no single connection, each with its counts, in pages. One that the asker may not look at, or
/// that is deleted meanwhile, is shown by its name.
pub(crate) fn list(request: &Request) -> Result<Flow<Reply>, Reply> {
    let command = page(request, Listed::Queues)?;
    Ok(Flow::ask(command, |event, _| match event {
        Event::Listed { names, more, .. } if names.is_empty() => {
            Flow::Done(Reply::ok(json!({ "queues": [], "more": more })))
        }
        Event::Listed { names, more, .. } => {
            let looks = names.iter().cloned().map(inspect).collect();
            Flow::ask_all(looks, move |events, _| {
                let queues: Vec<_> = names
                    .iter()
                    .zip(&events)
                    .map(|(name, event)| match event {
                        Event::Inspected { queue, .. } => show(queue),
                        _ => json!({ "name": text(name) }),
                    })
                    .collect();
                Flow::Done(Reply::ok(json!({ "queues": queues, "more": more })))
            })
        }
        Event::Refused { refusal, .. } => Flow::Done(Reply::refused(&refusal)),
        _ => Flow::Done(Reply::unexpected()),
    }))
}

/// Any queue, by its name.
pub(crate) fn one(request: &Request, queue: &str) -> Result<Flow<Reply>, Reply> {
    if request.method != "GET" {
        return Err(request.not_allowed("GET"));
    }
    request.knows(&[])?;
    let name = Name::copy_from_slice(queue.as_bytes());
    Ok(Flow::ask(inspect(name), |event, _| {
        Flow::Done(match event {
            Event::Inspected { queue, .. } => Reply::ok(show(&queue)),
            Event::Refused { refusal, .. } => Reply::refused(&refusal),
            _ => Reply::unexpected(),
        })
    }))
}

fn inspect(name: Name) -> Command {
    Command::Inspect {
        token: Token(0),
        lane: Lane(0),
        name,
    }
}

fn show(queue: &QueueInfo) -> Value {
    json!({
        "name": text(&queue.name),
        "durable": queue.options.durable,
        "available": queue.available,
        "delayed": queue.delayed,
        "out": queue.out,
        "consumers": queue.consumers,
        "created_ms": queue.created.0,
    })
}
