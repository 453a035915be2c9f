//! Questions to the core from a part of the broker: each is answered to whoever asked it.

use std::{
    collections::HashMap,
    collections::VecDeque,
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use message::VhostId;
use session::{
    Authenticate, Command, Credentials, Event, Link, Peer, Port, RefusalKind, Secret, Token,
};
use tokio::sync::{mpsc, oneshot};

/// Questions that wait to be asked.
const QUESTIONS_MAX: usize = 4096;

/// The core does not answer any more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the link to the core is gone")]
pub(super) struct Lost;

type Question = (Command, oneshot::Sender<Event>);

/// A link that is logged in. Cheap to clone; the link goes with the last of them.
#[derive(Clone)]
pub(super) struct Asker {
    questions: mpsc::Sender<Question>,
    vhost: VhostId,
    secret: Secret,
}

impl Asker {
    /// Logs in as the broker itself in the virtual host of that name. `None`: there is none.
    pub(super) async fn open(port: &dyn Port, vhost: &str) -> Result<Option<Self>, Lost> {
        let link = port
            .attach(Peer {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                listener: "sns",
                default_vhost: vhost.into(),
            })
            .ok_or(Lost)?;
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        tokio::spawn(answer(link, asked));
        let mut asker = Self {
            questions,
            vhost: VhostId::ROOT,
            secret: Secret([0; 32]),
        };
        let login = Authenticate {
            token: Token(0),
            credentials: Credentials::Broker,
            vhost: Some(vhost.to_owned()),
            vhost_fallback: false,
            vhost_in_user: false,
            vhost_follows: false,
            vhost_create: false,
            verified_anywhere: false,
            protocol: "SNS delivery",
            client: Bytes::new(),
        };
        match asker.ask(Command::Authenticate(Box::new(login))).await? {
            Event::Authenticated { vhost, secret, .. } => {
                (asker.vhost, asker.secret) = (vhost, secret);
                Ok(Some(asker))
            }
            Event::Refused { refusal, .. } if refusal.kind == RefusalKind::NotFound => Ok(None),
            _ => Err(Lost),
        }
    }

    /// One whose link is gone.
    pub(super) fn lost() -> Self {
        Self {
            questions: mpsc::channel(1).0,
            vhost: VhostId::ROOT,
            secret: Secret([0; 32]),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.questions.is_closed()
    }

    pub(super) const fn vhost(&self) -> VhostId {
        self.vhost
    }

    pub(super) const fn secret(&self) -> Secret {
        self.secret
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, command: Command) -> Result<Event, Lost> {
        let (answer, answered) = oneshot::channel();
        let question = (command, answer);
        self.questions.send(question).await.map_err(|_| Lost)?;
        answered.await.map_err(|_| Lost)
    }
}

/// Drives the link until nobody asks any more, or the core closes it.
async fn answer(link: Arc<dyn Link>, mut asked: mpsc::Receiver<Question>) {
    let mut waiting: HashMap<Token, oneshot::Sender<Event>> = HashMap::new();
    let mut commands = VecDeque::new();
    let mut events = Vec::new();
    let mut next = 1;
    loop {
        tokio::select! {
            () = poll_fn(|cx| link.poll_events(cx, &mut events)) => {
                for event in events.drain(..) {
                    if matches!(event, Event::Closing { .. }) {
                        link.detach();
                        return;
                    }
                    // Who asked may have gone.
                    if let Some(answer) = event.token().and_then(|token| waiting.remove(&token)) {
                        let _ = answer.send(event);
                    }
                }
                link.drained();
                // What was left for want of room.
                link.submit(&mut commands);
            }
            question = asked.recv(), if commands.len() < QUESTIONS_MAX => {
                let Some((mut command, answer)) = question else {
                    link.detach();
                    return;
                };
                let token = Token(next);
                next += 1;
                if let Some(place) = command.token_mut() {
                    *place = token;
                    waiting.insert(token, answer);
                }
                commands.push_back(command);
                link.submit(&mut commands);
            }
        }
    }
}
