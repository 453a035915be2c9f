//! What a client publishes: where to, and the command for it.

use std::sync::Arc;

use bytes::Bytes;
use message::Message;
use session::{Command, Event, Lane, Publish, PublishAll, PublishOutcome, Token};

use super::{Asked, Client, Turn};
use crate::history::{self, History, Origin, Target};

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

impl Client {
    /// Publishes several by one command: each is taken or refused by itself.
    pub(super) fn publish_all(&mut self, numbers: Vec<u64>, history: &History) {
        let publishes = numbers
            .iter()
            .map(|&number| self.message(None, number, history))
            .collect();
        let token = self.ask(Asked::PublishAll(numbers));
        self.push(Command::PublishAll(Box::new(PublishAll {
            token,
            lane: Lane(0),
            publishes,
        })));
    }

    /// What became of each of them.
    pub(super) fn published_all(
        &mut self,
        numbers: &[u64],
        outcomes: &[PublishOutcome],
        origin: Origin,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        if numbers.len() != outcomes.len() {
            return Err(format!(
                "each is answered: {} of {} are",
                outcomes.len(),
                numbers.len()
            ));
        }
        turn.history.sees("publishes of one command");
        for (number, outcome) in numbers.iter().zip(outcomes) {
            self.published(*number, outcome, origin, turn)?;
        }
        Ok(())
    }
}
