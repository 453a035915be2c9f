//! The password pool: verifying is slow on purpose, so it never happens under the lock nor on a connection's task.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use session::{Authenticate, Event, Peer, Refusal, RefusalKind, SessionId};

use crate::{keeper::BLOCKED, node::Shared};

/// A login that waits.
pub(crate) struct Job {
    pub(crate) session: SessionId,
    pub(crate) peer: Peer,
    pub(crate) authenticate: Box<Authenticate>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    stopped: bool,
}

/// The queue that the pool's threads work on.
#[derive(Default)]
pub(crate) struct Jobs {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

/// The node's end of the pool.
pub(crate) struct VerifyPool {
    jobs: Arc<Jobs>,
    queue_max: usize,
}

impl VerifyPool {
    pub(crate) fn new(queue_max: usize) -> (Self, Arc<Jobs>) {
        let jobs = Arc::new(Jobs::default());
        (
            Self {
                jobs: Arc::clone(&jobs),
                queue_max,
            },
            jobs,
        )
    }

    /// Queues a login. `false`: the queue is full.
    pub(crate) fn push(&self, job: Job) -> bool {
        let mut waiting = self
            .jobs
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.jobs.len() >= self.queue_max || waiting.stopped {
            return false;
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.jobs.more.notify_one();
        true
    }

    /// Drops the logins of a connection that is gone: they would keep others from waiting.
    pub(crate) fn forget(&self, session: SessionId) {
        let mut waiting = self
            .jobs
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while let Some(at) = waiting.jobs.iter().position(|job| job.session == session) {
            waiting.jobs.remove(at);
        }
    }

    pub(crate) fn stop(&self) {
        self.jobs
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopped = true;
        self.jobs.more.notify_all();
    }
}

impl Jobs {
    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if waiting.stopped {
                return None;
            }
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            waiting = self
                .more
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One thread of the pool.
    pub(crate) fn run(&self, shared: &Shared) {
        while let Some(job) = self.next() {
            verify(shared, &job);
        }
    }

    /// Verifies one login, if one waits.
    pub(crate) fn run_one(&self, shared: &Shared) -> bool {
        let job = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .jobs
            .pop_front();
        let Some(job) = job else { return false };
        verify(shared, &job);
        true
    }
}

fn verify(shared: &Shared, job: &Job) {
    loop {
        let users = {
            let core = shared.core();
            // Whoever has gone is not worth the work, which others wait for.
            if !core.connections.contains_key(&job.session) {
                return;
            }
            Arc::clone(&core.users)
        };
        let verified = catch_unwind(AssertUnwindSafe(|| {
            users.verify(&job.authenticate, &job.peer)
        }))
        .unwrap_or_else(|_| {
            Err(Refusal::new(
                RefusalKind::Internal,
                "verifying the credentials failed",
            ))
        });
        if admit(shared, job, &users, verified) {
            return;
        }
    }
}

/// Makes a verified peer known to the core, and answers it. `false`: the users are others by now, so ask them.
fn admit(
    shared: &Shared,
    job: &Job,
    users: &Arc<auth::Users>,
    verified: Result<auth::Principal, Refusal>,
) -> bool {
    let (session, token) = (job.session, job.authenticate.token);
    let mut current = true;
    let mut told = None;
    shared.stepped(|core, step| {
        let secret = core.broker.secret().expect("the start made one");
        current = Arc::ptr_eq(users, &core.users);
        if !current {
            return false;
        }
        let answer = verified.and_then(|principal| {
            if job.authenticate.vhost_create && core.broker.vhost(&principal.vhost).is_none() {
                core.decided(step, |broker, cx, out| {
                    broker.decide_vhosts(&[&*principal.vhost], cx, out);
                });
            }
            let vhost = core.broker.vhost(&principal.vhost).ok_or_else(|| {
                Refusal::new(
                    RefusalKind::NotFound,
                    format!("virtual host '{}' does not exist", principal.vhost),
                )
            })?;
            Ok((principal, vhost))
        });
        told = Some(answer.clone().map(|(principal, _)| principal));
        let event = match answer {
            Err(refusal) => Event::Refused { token, refusal },
            Ok((principal, vhost)) => {
                let principal = core.share(principal);
                let Some(connection) = core.connections.get_mut(&session) else {
                    return false;
                };
                let event = Event::Authenticated {
                    token,
                    vhost,
                    vhost_name: Arc::clone(&principal.vhost),
                    user: Arc::clone(&principal.user),
                    secret,
                };
                let info = broker::SessionInfo {
                    vhost,
                    user: Arc::clone(&principal.user),
                    broker: principal.broker,
                };
                let vhost_name = Arc::clone(&principal.vhost);
                connection.protocol = job.authenticate.protocol;
                connection.client = Box::from(&job.authenticate.client[..]);
                connection.vhost = vhost;
                let before = connection.principal.replace(principal);
                // AMQP 0-9-1 names its virtual host after the login, so it asks twice; nothing of the first is in use by then.
                let moved = before
                    .as_ref()
                    .is_some_and(|before| before.vhost != vhost_name);
                if moved {
                    core.decided(step, |broker, cx, out| {
                        broker.decide_detach(session, cx, out)
                    });
                }
                if before.is_none() || moved {
                    core.decided(step, |broker, cx, out| {
                        broker.decide_attach(session, &info, cx, out)
                    });
                }
                event
            }
        };
        core.tell(step, session, event);
        if core.blocked {
            core.tell(step, session, BLOCKED);
        }
        false
    });
    if let Some(told) = told {
        shared.audit.login(
            session,
            &job.peer,
            &job.authenticate,
            told,
            shared.clock.now(),
        );
    }
    current
}
