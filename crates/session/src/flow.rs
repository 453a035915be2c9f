//! A request that is answered once, in as many steps as it takes: the sans-I/O shape of the HTTP protocols.
//!
//! A step asks the core something and says what to do with the answers. Whoever drives it (the loop in `net`, a test) gives
//! the commands their tokens, submits them, and goes on when each has been answered.
//!
//! ```text
//! request ─► Flow::Ask(commands, then) ─► events ─► then(events, now) ─► Flow::Ask … ─► Flow::Done(answer)
//! ```

use message::Timestamp;

use crate::{Command, Event, Publish, PublishAll, PublishOutcome};

/// What to do with the answers.
pub type Then<T> = Box<dyn FnOnce(Vec<Event>, Timestamp) -> Flow<T> + Send>;

/// What to do later.
pub type Later<T> = Box<dyn FnOnce(Timestamp) -> Flow<T> + Send>;

/// How far a request has come.
pub enum Flow<T> {
    /// It is answered.
    Done(T),
    /// The core is asked. Each command must be one that is answered by exactly one event; their tokens and lanes do not
    /// matter. The events come in the order of the commands. When the peer goes away meanwhile, waiting pulls are given up.
    Ask(Vec<Command>, Then<T>),
    /// Nothing happens until then.
    Until(Timestamp, Later<T>),
    /// A part of an answer that goes on: it is sent before the flow continues, which is not before the peer has room for more.
    Part(T, Later<T>),
}

impl<T: 'static> Flow<T> {
    /// Asks one thing.
    pub fn ask(
        command: Command,
        then: impl FnOnce(Event, Timestamp) -> Self + Send + 'static,
    ) -> Self {
        Self::Ask(
            vec![command],
            Box::new(move |mut events, now| {
                let event = events.pop().expect("one answer to one command");
                then(event, now)
            }),
        )
    }

    /// Asks so many things at once.
    pub fn ask_each<const N: usize>(
        commands: [Command; N],
        then: impl FnOnce([Event; N], Timestamp) -> Self + Send + 'static,
    ) -> Self {
        Self::Ask(
            commands.into(),
            Box::new(move |events, now| {
                let events = <[Event; N]>::try_from(events);
                then(events.expect("one answer to each command"), now)
            }),
        )
    }

    /// Asks several things at once.
    pub fn ask_all(
        commands: Vec<Command>,
        then: impl FnOnce(Vec<Event>, Timestamp) -> Self + Send + 'static,
    ) -> Self {
        Self::Ask(commands, Box::new(then))
    }

    /// Publishes several messages, and says what became of each, in their order. `Err`: an event that answers something else.
    pub fn publish_all(
        publishes: impl IntoIterator<Item = Publish>,
        then: impl FnOnce(Result<Vec<PublishOutcome>, Event>, Timestamp) -> Self + Send + 'static,
    ) -> Self {
        let commands = PublishAll::commands(publishes);
        let count = |command: &Command| match command {
            Command::PublishAll(all) => all.publishes.len(),
            _ => 0,
        };
        let counts: Vec<usize> = commands.iter().map(count).collect();
        Self::ask_all(commands, move |events, now| {
            let mut all = Vec::with_capacity(counts.iter().sum());
            for (count, event) in counts.into_iter().zip(events) {
                match event {
                    Event::PublishedAll { outcomes, .. } => all.extend(outcomes),
                    Event::Refused { refusal, .. } => {
                        let refused = PublishOutcome::Refused(refusal);
                        all.extend(std::iter::repeat_n(refused, count));
                    }
                    event => return then(Err(event), now),
                }
            }
            then(Ok(all), now)
        })
    }

    /// Waits.
    pub fn until(at: Timestamp, then: impl FnOnce(Timestamp) -> Self + Send + 'static) -> Self {
        Self::Until(at, Box::new(then))
    }

    /// Sends a part of the answer.
    pub fn part(part: T, then: impl FnOnce(Timestamp) -> Self + Send + 'static) -> Self {
        Self::Part(part, Box::new(then))
    }

    /// The same flow with other answers. The mapping is used for each part and for the end.
    pub fn map<U: 'static>(self, mut f: impl FnMut(T) -> U + Send + 'static) -> Flow<U>
    where
        T: Send,
    {
        match self {
            Self::Done(answer) => Flow::Done(f(answer)),
            Self::Ask(commands, then) => Flow::Ask(
                commands,
                Box::new(move |events, now| then(events, now).map(f)),
            ),
            Self::Until(at, then) => Flow::Until(at, Box::new(move |now| then(now).map(f))),
            Self::Part(part, then) => {
                let part = f(part);
                Flow::Part(part, Box::new(move |now| then(now).map(f)))
            }
        }
    }
}
