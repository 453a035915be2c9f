//! What a client publishes: where to, and the command for it.

use std::sync::Arc;

use bytes::Bytes;
use message::Message;
use session::{Event, Lane, Publish, PublishOutcome, Token};

use crate::history::{self, Target};

pub(super) fn name(target: Target) -> Bytes {
    Bytes::from_static(match target {
        Target::Plain => b"plain",
        Target::Pushed => b"pushed",
        Target::Fifo => b"orders.fifo",
        Target::Topic => b"news",
        Target::Stream => b"log",
        Target::Risky => history::RISKY,
        Target::Dead => b"dead",
        Target::Kept => b"kept",
        Target::Wills => b"wills",
        Target::Exact => b"exact",
    })
}

pub(super) fn published_as(token: Option<Token>, message: Message) -> Publish {
    Publish {
        token,
        lane: Lane(0),
        message: Arc::new(message),
        mandatory: false,
        create: false,
        or_stream: false,
        inbound_id: None,
        hash_key: None,
        folds: false,
    }
}

/// What is told of several publishes at once, for each by itself.
pub(super) fn apart(event: Event) -> Vec<Event> {
    let Event::Accepted { tokens } = event else {
        return vec![event];
    };
    let accepted = |token| Event::Published {
        token,
        outcome: PublishOutcome::Accepted {
            matched: 1,
            place: None,
            record: None,
            sequence: None,
        },
    };
    tokens.into_iter().map(accepted).collect()
}
