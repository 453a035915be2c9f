//! What a client publishes: where to, and the command for it.

use std::sync::Arc;

use bytes::Bytes;
use message::Message;
use session::{Lane, Publish, Token};

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
