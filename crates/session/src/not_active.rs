//! The link of a connection to a node that is not active: everything is refused, and the active node named.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{Active, Command, Event, Link, PublishOutcome, Refusal, SessionId, Submitted};

/// Where the active node is by now, if that is known.
pub type FindActive = Arc<dyn Fn() -> Option<Arc<Active>> + Send + Sync>;

/// See the module. What a [`crate::Port`] gives instead of a link to the core while it has none.
pub struct NotActive {
    id: SessionId,
    find: FindActive,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    events: Vec<Event>,
    waker: Option<Waker>,
}

impl NotActive {
    /// For one connection. `find` is asked when something is refused.
    #[must_use]
    pub fn new(id: SessionId, find: FindActive) -> Self {
        Self {
            id,
            find,
            answers: Mutex::default(),
        }
    }

    /// The answer, unless none was asked for.
    fn refuse(&self, mut command: Command) -> Option<Event> {
        let unasked = match &command {
            Command::Publish(publish) => publish.token.is_none(),
            Command::Settle(settle) => settle.token.is_none(),
            _ => false,
        };
        let token = *command.token_mut().filter(|_| !unasked)?;
        let refusal = Refusal::not_active((self.find)());
        Some(match command {
            Command::Publish(_) => {
                let outcome = PublishOutcome::Refused(refusal);
                Event::Published { token, outcome }
            }
            _ => Event::Refused { token, refusal },
        })
    }

    /// Answers something in another way than by the refusal of everything.
    pub fn answer(&self, event: Event) {
        self.tell(vec![event]);
    }

    fn tell(&self, mut events: Vec<Event>) {
        let waker = {
            let mut answers = self.answers();
            answers.events.append(&mut events);
            let waits = !answers.events.is_empty();
            answers.waker.take_if(|_| waits)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link for NotActive {
    fn id(&self) -> SessionId {
        self.id
    }

    fn submit(&self, commands: &mut VecDeque<Command>) -> Submitted {
        let refused = commands
            .drain(..)
            .filter_map(|command| self.refuse(command))
            .collect();
        self.tell(refused);
        Submitted::All
    }

    fn poll_events(&self, cx: &mut Context<'_>, events: &mut Vec<Event>) -> Poll<()> {
        let mut answers = self.answers();
        if answers.events.is_empty() {
            answers.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        events.append(&mut answers.events);
        Poll::Ready(())
    }

    fn drained(&self) {}

    fn detach(&self) {}
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;

    use super::*;
    use crate::{Authenticate, Credentials, RefusalKind, Token};

    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn everything_that_waits_for_an_answer_is_refused_with_the_place_of_the_active_node() {
        let active = Arc::new(Active {
            addresses: vec![("mqtt".into(), "other:1883".into())],
        });
        let known = Arc::clone(&active);
        let link = NotActive::new(SessionId(7), Arc::new(move || Some(Arc::clone(&known))));
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut events = Vec::new();
        assert!(link.poll_events(&mut cx, &mut events).is_pending());

        let authenticate = Authenticate {
            token: Token(3),
            credentials: Credentials::Anonymous,
            vhost: None,
            vhost_fallback: false,
            vhost_in_user: false,
            vhost_follows: false,
            vhost_create: false,
            verified_anywhere: false,
            protocol: "MQTT 5",
            client: Bytes::new(),
        };
        let mut commands = VecDeque::from([
            Command::Authenticate(Box::new(authenticate)),
            Command::ReleaseInbound { id: 1 },
        ]);
        assert_eq!(link.submit(&mut commands), Submitted::All);
        assert!(commands.is_empty());
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);

        assert!(link.poll_events(&mut cx, &mut events).is_ready());
        let [Event::Refused { token, refusal }] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!((*token, refusal.kind), (Token(3), RefusalKind::NotActive));
        assert_eq!(refusal.active.as_ref(), Some(&active));
        assert!(link.poll_events(&mut cx, &mut events).is_pending());
    }
}
