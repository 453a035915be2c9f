//! Logins at a node that is not the active one. It lets nobody in, but for some doors it says first whether who asks could log in
//! ([`session::Authenticate::verified_anywhere`]): what a standby knows of the pair is not for strangers.
//!
//! A thread of its own, made by the first such login, as a password takes long on purpose; how many may wait is bounded.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock, Weak,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    task::{Context, Poll},
};

use session::{
    Authenticate, Command, Event, Link, NotActive, Peer, Refusal, RefusalKind, SessionId, Submitted,
};

use crate::{Pair, audit::Audit};

/// A login that waits.
struct Job {
    link: Weak<NotActive>,
    id: SessionId,
    peer: Peer,
    authenticate: Box<Authenticate>,
}

/// What verifies.
#[derive(Default)]
pub(crate) struct Threshold {
    /// `None`: the thread could not be started.
    jobs: OnceLock<Option<SyncSender<Job>>>,
}

impl Threshold {
    /// Queues a login. `false`: too many wait.
    fn push(&self, pair: &Weak<Pair>, waiting_max: usize, job: Job) -> bool {
        let jobs = self
            .jobs
            .get_or_init(|| start(Weak::clone(pair), waiting_max));
        jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }
}

fn start(pair: Weak<Pair>, waiting_max: usize) -> Option<SyncSender<Job>> {
    let (sender, jobs) = sync_channel(waiting_max);
    let thread = std::thread::Builder::new().name("threshold".to_owned());
    match thread.spawn(move || run(&jobs, &pair)) {
        // It ends with the last sender, which the pair has.
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::error!(%error, "failed to start the thread that verifies logins of a standby");
            None
        }
    }
}

fn run(jobs: &Receiver<Job>, pair: &Weak<Pair>) {
    let audit = Audit::default();
    while let Ok(job) = jobs.recv() {
        // Whoever has gone is not worth the work, which others wait for.
        let (Some(pair), Some(link)) = (pair.upgrade(), job.link.upgrade()) else {
            continue;
        };
        let users = pair.users();
        let verified = catch_unwind(AssertUnwindSafe(|| {
            users.verify(&job.authenticate, &job.peer)
        }));
        let refusal = match verified {
            Ok(Ok(_)) => Refusal::not_active(pair.active()),
            Ok(Err(refusal)) => {
                let refused = Err(refusal.clone());
                audit.login(
                    job.id,
                    &job.peer,
                    &job.authenticate,
                    refused,
                    pair.clock_now(),
                );
                refusal
            }
            Err(_) => Refusal::new(RefusalKind::Internal, "verifying the credentials failed"),
        };
        let token = job.authenticate.token;
        link.answer(Event::Refused { token, refusal });
    }
}

/// The link of a connection to a node that is not active.
pub(crate) struct Outside {
    pub(crate) pair: Weak<Pair>,
    pub(crate) peer: Peer,
    pub(crate) refusing: Arc<NotActive>,
}

impl Outside {
    fn verify(&self, authenticate: Box<Authenticate>) {
        let token = authenticate.token;
        let job = Job {
            link: Arc::downgrade(&self.refusing),
            id: self.refusing.id(),
            peer: self.peer.clone(),
            authenticate,
        };
        let taken = self.pair.upgrade().is_some_and(|pair| {
            let waiting_max = pair.waiting_logins_max();
            pair.threshold().push(&self.pair, waiting_max, job)
        });
        if !taken {
            let refusal = Refusal::new(RefusalKind::QuotaExceeded, "too many logins at a time");
            self.refusing.answer(Event::Refused { token, refusal });
        }
    }
}

impl Link for Outside {
    fn id(&self) -> SessionId {
        self.refusing.id()
    }

    fn submit(&self, commands: &mut VecDeque<Command>) -> Submitted {
        let mut others = VecDeque::with_capacity(commands.len());
        for command in commands.drain(..) {
            match command {
                Command::Authenticate(it) if it.verified_anywhere => self.verify(it),
                other => others.push_back(other),
            }
        }
        self.refusing.submit(&mut others)
    }

    fn poll_events(&self, cx: &mut Context<'_>, events: &mut Vec<Event>) -> Poll<()> {
        self.refusing.poll_events(cx, events)
    }

    fn drained(&self) {}

    fn detach(&self) {}
}
