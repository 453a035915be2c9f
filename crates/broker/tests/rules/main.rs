//! One short test for each rule of the core, named after it: RULES A and B, DOORS B and C.
//!
//! | file | what |
//! |---|---|
//! | `records.rs` | RULES A: records and effects |
//! | `time.rs` | RULES B: time |
//! | `making.rs` | DOORS B: who makes a queue, and what it then is |
//! | `leases.rs` | DOORS C: confirms, durability, leases |
//! | `bounds.rs` | what is hostile or very large |
//! | `found.rs` | what the model found, and other rules of queues |

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod found;
mod leases;
mod making;
mod records;
mod time;

use bytes::Bytes;
use message::Message;
use session::{
    DeadLetter, Declare, Delivery, Event, Fifo, Lane, Operation, PublishOutcome, RefusalKind,
    SessionId, Subscribe, Transact,
};
use support::*;

fn accepted(matched: u32) -> PublishOutcome {
    PublishOutcome::Accepted {
        matched,
        place: None,
        record: None,
        sequence: None,
    }
}

fn refused(outcome: &PublishOutcome) -> Option<RefusalKind> {
    match outcome {
        PublishOutcome::Refused(refusal) => Some(refusal.kind),
        _ => None,
    }
}

/// Dead letters go to the queue `dead`.
fn to_dead() -> Option<DeadLetter> {
    Some(DeadLetter {
        exchange: Bytes::new(),
        key: Some(key("dead")),
    })
}

/// A node with a connection and these queues.
fn with_queues(queues: Vec<Declare>) -> (Node, SessionId) {
    let mut node = Node::new();
    let session = node.attach();
    for queue in queues {
        node.declared(session, queue);
    }
    (node, session)
}

/// Starts a consumer and forgets that it was confirmed.
fn consume_on(node: &mut Node, session: SessionId, subscribe: Subscribe) {
    node.give(session, subscribe);
    assert!(matches!(
        node.answer(session).event,
        Event::Subscribed { .. }
    ));
}

/// Opens a client session on a connection of its own.
fn connect(node: &mut Node, open: session::OpenClient) -> (SessionId, bool) {
    let session = node.attach();
    node.give(session, open);
    let mut present = None;
    node.heard.retain(|heard| match &heard.event {
        Event::Opened { present: is, .. } if heard.to == session => {
            present = Some(*is);
            false
        }
        Event::Resumed { .. } => false,
        _ => true,
    });
    (session, present.expect("the session opened"))
}

/// The delivery lane's waits, in order.
fn waits(node: &mut Node, session: SessionId) -> Vec<usize> {
    let heard = node.take(session).into_iter();
    heard
        .filter(|heard| matches!(heard.event, Event::Delivery(_)))
        .map(|heard| heard.after)
        .collect()
}

fn only(mut deliveries: Vec<Delivery>) -> Delivery {
    assert_eq!(deliveries.len(), 1, "one delivery, not {deliveries:?}");
    deliveries.remove(0)
}

fn fifo_message(group: &'static str, body: &str) -> Message {
    to_queue("jobs", body).durable().with(|message| {
        message.group = Some(Bytes::from_static(group.as_bytes()));
    })
}

fn fifo() -> Declare {
    queue("jobs", |at| {
        at.fifo = Some(Fifo {
            dedup_by_content: false,
            dedup_per_group: false,
        });
    })
}

fn transact(node: &mut Node, operations: Vec<Operation>) -> Transact {
    Transact {
        token: node.token(),
        lane: Lane(0),
        operations,
    }
}
