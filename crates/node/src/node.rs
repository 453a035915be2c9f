//! The node: start, attach, shutdown; who owns what.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

use bytes::Bytes;
use journal::{Gatherer, Journal};
use message::{Address, Levels, Message, Name, Timestamp, VhostId};
use session::{Authenticate, CloseReason, Event, Kept, Link, Object, Peer, Port, SessionId};

use crate::{
    Config, Host, Machine, Steps,
    audit::Audit,
    clock::Clock,
    heads::Heads,
    housekeeping,
    keeper::Keeper,
    link::{NodeLink, wake_all},
    outbox::Outbox,
    progress::Progress,
    recovery::{self, Recovered},
    reload::{self, Reloaded},
    scrub,
    standby::{Reason, Standby},
    step::{Connection, Core, Step},
    stored::{Reads, Stored},
    stream_files::StreamFiles,
    verify::{Job, Jobs, VerifyPool},
};

/// Why a node did not start. Each is one line that says what and where.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal could not be opened.
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    /// The journal was opened, but what it says cannot be replayed.
    #[error("the journal in {dir} cannot be replayed: {what}")]
    Replay {
        /// The data directory.
        dir: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A record does not fit what is in front of it.
    #[error("the journal in {dir} cannot be replayed: {what}")]
    Unfit {
        /// The data directory.
        dir: PathBuf,
        /// Which record.
        what: String,
    },
    /// The journal is damaged. What that costs was looked for, and nothing was changed.
    #[error(
        "{error}; {lost}. Nothing was changed: `bascule serve --accept-loss` gives that up for good, and serves the rest"
    )]
    Damaged {
        /// Why it was not opened.
        error: Box<Self>,
        /// What would be given up.
        lost: String,
    },
    /// No random bytes for the store's secret.
    #[error("failed to read random bytes from /dev/urandom: {0}")]
    Entropy(#[source] std::io::Error),
    /// A thread could not be started.
    #[error("failed to start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What a node is to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serving.
    Active,
    /// Not serving: the journal failed or another node took over.
    Stopped,
}

/// What every part of the node shares.
pub(crate) struct Shared {
    core: Mutex<Core>,
    pub(crate) journal: Journal,
    pub(crate) clock: Arc<Clock>,
    pub(crate) stored: Stored,
    pub(crate) stream_files: StreamFiles,
    pub(crate) keeper: Keeper,
    pub(crate) progress: Progress,
    verify: VerifyPool,
    pub(crate) audit: Audit,
    pub(crate) epoch: u64,
    uuid: [u8; 16],
    pub(crate) refused_unconfirmed: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) snapshot_ms: AtomicU64,
    pub(crate) moved: AtomicU64,
    /// Stream files written.
    pub(crate) filed: AtomicU64,
    pub(crate) stopping: AtomicBool,
    /// Bodies are read for filter policies before the lock is taken.
    pub(crate) reads_bodies: AtomicBool,
    /// The thread of ours that panicked: nobody does its work any more.
    broken: OnceLock<String>,
}

impl Shared {
    /// Takes the one lock. A poisoned one means that a panic passed [`crate::step`]'s guard: go no further.
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standbys that are near.
    pub(crate) fn standbys(&self) -> Vec<journal::StandbySeen> {
        self.journal.standbys(self.clock.boot_ms())
    }

    /// Runs one of our threads. Should it panic, the node is broken, and says so.
    fn guarded(&self, name: &str, run: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            let what = format!("the thread {name} panicked");
            tracing::error!(what, "the node is broken");
            self.broken.get_or_init(|| what);
        }
    }

    /// Work under the lock that nobody's commands caused. Repeats `deliver`-like work while it returns `true`.
    pub(crate) fn stepped(&self, work: impl FnOnce(&mut Core, &mut Step<'_, '_>) -> bool) {
        self.stepped_by(None, work);
    }

    /// The same, by the task of a connection, which looks into its own outbox right after.
    pub(crate) fn stepped_by(
        &self,
        own: Option<SessionId>,
        work: impl FnOnce(&mut Core, &mut Step<'_, '_>) -> bool,
    ) {
        let heads = Heads::default();
        let mut core = self.core();
        core.now = self.clock.now();
        let mut step = Step::begin(&self.journal, &heads, Vec::new(), own, None);
        let mut more = work(&mut core, &mut step);
        let mut wakers = self.finish(core, step);
        wake_all(&mut wakers);
        while more {
            let mut core = self.core();
            let mut step = Step::begin(&self.journal, &heads, wakers, own, None);
            more = core.deliver(&mut step);
            wakers = self.finish(core, step);
            wake_all(&mut wakers);
        }
    }

    /// Frees the lock and the open batch, and tells the keeper what changed. The tasks to wake come back.
    pub(crate) fn finish(
        &self,
        mut core: MutexGuard<'_, Core>,
        mut step: Step<'_, '_>,
    ) -> Vec<Waker> {
        core.show(&mut step);
        let Step {
            counting,
            stage,
            wakers,
            keeper_wanted,
            unconfirmed_refused,
            refused,
            ..
        } = step;
        drop(counting);
        drop(stage);
        // Told under the lock: of two steps the later one must have the last word.
        self.keeper
            .deadline(core.broker.next_deadline(), keeper_wanted);
        self.reads_bodies
            .store(core.broker.reads_bodies(), Ordering::Relaxed);
        let loads = std::mem::take(&mut core.loads);
        drop(core);
        for load in loads {
            self.stored.load(load);
        }
        if unconfirmed_refused > 0 {
            self.refused_unconfirmed
                .fetch_add(unconfirmed_refused, Ordering::Relaxed);
        }
        for refused in &refused {
            self.audit.permission(refused, self.clock.now());
        }
        wakers
    }

    /// Tells one connection something that rests on nothing.
    pub(crate) fn tell(&self, to: SessionId, event: Event) {
        self.stepped(|core, step| {
            core.tell(step, to, event);
            false
        });
    }

    /// Whether this node may show nothing to anyone, as it may have a successor.
    pub(crate) fn lease_is_over(&self) -> bool {
        self.clock.boot_ms() > self.journal.lease_until()
    }

    /// Queues a login. `false`: too many are waiting.
    pub(crate) fn verify(
        self: &Arc<Self>,
        session: SessionId,
        authenticate: Box<Authenticate>,
    ) -> bool {
        let peer = match self.core().connections.get(&session) {
            Some(connection) => connection.peer.clone(),
            None => return true,
        };
        self.verify.push(Job {
            session,
            peer,
            authenticate,
        })
    }

    /// A connection is gone: its logins need no verifying.
    pub(crate) fn forget_logins(&self, session: SessionId) {
        self.verify.forget(session);
    }
}

/// A recovered node and what its threads work on.
pub(crate) struct Work {
    pub(crate) shared: Arc<Shared>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) reads: Arc<Reads>,
}

impl Work {
    /// Puts the node together, and opens an epoch in the core.
    fn of(
        mut recovered: Recovered,
        config: &Config,
        users: Arc<auth::Users>,
        clock: Arc<Clock>,
    ) -> Self {
        recovered.broker.set_gate(config.gate.clone());
        clock.lead(recovered.last);
        recovered.journal.tell_time(clock.now().0, clock.boot_ms());
        let (verify, jobs) = VerifyPool::new(config.verify_queue_max);
        let (stored, reads) = Stored::new(recovered.journal.clone());
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(
                recovered.broker,
                Arc::clone(&users),
                recovered.seed,
            )),
            stream_files: StreamFiles::new(recovered.journal.clone(), config.stream_file_bytes),
            journal: recovered.journal,
            clock,
            stored,
            keeper: Keeper::default(),
            progress: Progress::default(),
            verify,
            audit: Audit::default(),
            epoch: recovered.epoch,
            uuid: recovered.uuid,
            refused_unconfirmed: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            snapshot_ms: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            filed: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            reads_bodies: AtomicBool::new(false),
            broken: OnceLock::new(),
        });
        let epoch = recovered.epoch;
        let vhosts: Vec<&str> = config.vhosts.iter().map(String::as_str).collect();
        shared.stepped(|core, step| {
            core.decided(step, |broker, cx, out| broker.decide_mended(cx, out));
            core.decided(step, |broker, cx, out| broker.decide_epoch(epoch, cx, out));
            core.decided(step, |broker, cx, out| {
                broker.decide_vhosts(&vhosts, cx, out)
            });
            core.decided(step, |broker, cx, out| {
                broker.decide_secret(recovered.fresh_secret, cx, out);
            });
            false
        });
        // Before anyone can be shown that it cannot be read.
        while recovered.lost.messages() > 0 {
            shared.stepped(|core, step| {
                core.decided(step, |broker, cx, out| {
                    broker.decide_lost(&mut recovered.lost, cx, out);
                });
                false
            });
        }
        reload::look_at_absent(&shared, &users);
        Self {
            shared,
            jobs,
            reads,
        }
    }

    fn node(&self, config: &Config, threads: Vec<std::thread::JoinHandle<()>>) -> Node {
        Node {
            shared: Arc::clone(&self.shared),
            next_session: AtomicU64::new(1),
            connections_max: config.connections_max as u64,
            threads: Mutex::new(threads),
        }
    }

    fn start_threads(self, config: &Config) -> Result<Node, StartError> {
        let Self {
            shared,
            jobs,
            reads,
        } = &self;
        let mut threads = Vec::new();
        let mut start = |name: String, run: Box<dyn FnOnce() + Send>| -> Result<(), StartError> {
            let shared = Arc::clone(shared);
            let guarded = {
                let name = name.clone();
                move || shared.guarded(&name, run)
            };
            threads.push(std::thread::Builder::new().name(name).spawn(guarded)?);
            Ok(())
        };
        for number in 0..config.verify_threads.max(1) {
            let (shared, jobs) = (Arc::clone(shared), Arc::clone(jobs));
            start(
                format!("verify-{number}"),
                Box::new(move || jobs.run(&shared)),
            )?;
        }
        for number in 0..config.reader_threads.max(1) {
            let (shared, reads) = (Arc::clone(shared), Arc::clone(reads));
            start(
                format!("reader-{number}"),
                Box::new(move || reads.run(&shared)),
            )?;
        }
        {
            let shared = Arc::clone(shared);
            start("keeper".to_owned(), Box::new(move || Keeper::run(&shared)))?;
        }
        {
            let shared = Arc::clone(shared);
            let broker = config.broker.clone();
            start(
                "housekeeping".to_owned(),
                Box::new(move || housekeeping::run(&shared, &broker)),
            )?;
        }
        {
            let shared = Arc::clone(shared);
            let rate = config.scrub_bytes_per_s;
            start(
                "scrub".to_owned(),
                Box::new(move || scrub::run_active(&shared, rate)),
            )?;
        }
        Ok(self.node(config, threads))
    }
}

/// A running node. Dropping it stops its threads.
pub struct Node {
    shared: Arc<Shared>,
    next_session: AtomicU64,
    connections_max: u64,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Node {
    /// Opens the journal (a takeover of oneself), rebuilds the core from it, opens an epoch and starts the threads.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn start(config: Config, users: Arc<auth::Users>) -> Result<Self, StartError> {
        let clock = Arc::new(Clock::start(Arc::new(Machine)));
        Self::start_by(&config, users, clock)
    }

    /// The same, by a clock that others read too.
    pub(crate) fn start_by(
        config: &Config,
        users: Arc<auth::Users>,
        clock: Arc<Clock>,
    ) -> Result<Self, StartError> {
        let recovered = recovery::recover(config, &clock, false)?;
        let work = Work::of(recovered, config, users, clock);
        work.start_threads(config)
    }

    /// As [`Node::start`], on another machine than this one, and without threads: the caller takes their steps.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_stepped(
        config: &Config,
        users: Arc<auth::Users>,
        host: Arc<dyn Host>,
    ) -> Result<(Self, Steps), StartError> {
        let clock = Arc::new(Clock::start(host));
        let recovered = recovery::recover(config, &clock, true)?;
        Ok(Self::stepped(recovered, config, users, clock))
    }

    /// Takes the place of the node that a standby follows, which confirms nothing more from here on, whatever it is doing.
    ///
    /// # Errors
    /// If another one was faster, or the journal is damaged or cannot be written.
    pub(crate) fn take_over(
        standby: Standby,
        reason: Reason,
        config: &Config,
        users: Arc<auth::Users>,
    ) -> Result<(Self, session::Takeover), StartError> {
        let clock = Arc::clone(standby.clock());
        let (recovered, takeover) = standby.take_over(false)?;
        let at = recovered.last;
        let work = Work::of(recovered, config, users, clock);
        let node = work.start_threads(config)?;
        Ok((node, takeover.told(reason, at)))
    }

    /// Takes the place of the node that a standby follows, without threads: the caller takes their steps.
    ///
    /// # Errors
    /// If another one was faster, or the journal is damaged or cannot be written.
    pub fn take_over_stepped(
        standby: Standby,
        config: &Config,
        users: Arc<auth::Users>,
    ) -> Result<(Self, Steps), StartError> {
        let clock = Arc::clone(standby.clock());
        let (recovered, _) = standby.take_over(true)?;
        Ok(Self::stepped(recovered, config, users, clock))
    }

    fn stepped(
        mut recovered: Recovered,
        config: &Config,
        users: Arc<auth::Users>,
        clock: Arc<Clock>,
    ) -> (Self, Steps) {
        let mut engine = recovered.engine.take().expect("a stepped journal has one");
        engine.renew_lease(|| clock.boot_ms());
        let work = Work::of(recovered, config, users, clock);
        let node = work.node(config, Vec::new());
        let steps = Steps::new(work, engine, config.broker.clone());
        (node, steps)
    }

    /// This process, sixteen random bytes.
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        self.shared.uuid
    }

    /// The journal, to be asked how it is.
    pub(crate) fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Records that were passed over in the life of the journal, because what they rest on was lost and given up.
    pub(crate) fn passed_over(&self) -> u64 {
        self.shared.core().broker.passed_over()
    }

    /// The standbys that are near.
    #[must_use]
    pub fn standbys(&self) -> Vec<journal::StandbySeen> {
        self.shared.standbys()
    }

    /// Batches that a standby had not applied when it last said how far it is.
    #[must_use]
    pub fn lag_of(&self, standby: &journal::StandbySeen) -> u64 {
        let said_at = self
            .shared
            .clock
            .boot_ms()
            .saturating_sub(standby.seen_ms_ago);
        let by_then = self.shared.progress.at(said_at);
        by_then
            .unwrap_or_else(|| self.committed())
            .saturating_sub(standby.applied)
    }

    /// Who is asked to have written together what several connections hand in at about the same time: see [`journal::Journal::gather_by`].
    pub fn gather_by(&self, gatherer: Option<Gatherer>) {
        self.shared.journal.gather_by(gatherer);
    }

    /// Has written what was gathered.
    pub fn write_gathered(&self) {
        self.shared.journal.write_gathered();
    }

    /// This node is about to end so that another one goes on, as an operator asked: that one says so.
    pub fn hand_over(&self) {
        self.shared.journal.hand_over();
    }

    /// Tells every connection that this node is not the active one any more, and where that is, if known. Nothing else that
    /// waits for them leaves: what was not confirmed by now never is.
    pub fn expel(&self, active: Option<&Arc<session::Active>>) {
        let outboxes: Vec<Arc<Outbox>> = {
            let core = self.shared.core();
            let connections = core.connections.values();
            connections
                .map(|connection| Arc::clone(&connection.outbox))
                .collect()
        };
        for outbox in outboxes {
            let reason = CloseReason::NotActive(active.cloned());
            if let Some(waker) = outbox.expel(Event::Closing { reason }) {
                waker.wake();
            }
        }
    }

    /// What this node is to its clients.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.failure().is_some() || self.shared.stopping.load(Ordering::Acquire) {
            Role::Stopped
        } else {
            Role::Active
        }
    }

    /// Why this node can serve no more: its journal has failed, or a thread of its own.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let journal = self.shared.journal.failure();
        journal
            .map(|failure| format!("the journal failed: {failure}"))
            .or_else(|| self.shared.broken.get().cloned())
    }

    /// Whether its lease is over: then it confirms and shows nothing to anyone, until it has renewed it and seen that nobody took its place.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        // One that has only just taken the journal has it for itself.
        self.shared.journal.alive_at() > 0 && self.shared.lease_is_over()
    }

    /// Whether this node can serve no more because another one took its place: what a pair is for, and no fault.
    #[must_use]
    pub fn was_succeeded(&self) -> bool {
        let failure = self.shared.journal.failure();
        matches!(failure, Some(journal::Failure::Fenced(_)))
    }

    /// Whether another one may have taken its place, for all that it can read.
    pub(crate) fn is_fenced(&self) -> bool {
        let unread = self.shared.journal.failure();
        self.was_succeeded() || matches!(unread, Some(journal::Failure::FenceUnread(_)))
    }

    /// For how long it has given no sign of life, in ms of the boot clock.
    #[must_use]
    pub fn silent_ms(&self) -> u64 {
        let now_ms = self.shared.clock.boot_ms();
        now_ms.saturating_sub(self.shared.journal.alive_at())
    }

    /// Puts others in the place of the users and virtual hosts that there were, and looks at each connection again. Live
    /// connections go on, with the rights that they have from here on; see `reload.rs` for those that do not.
    pub fn reload(&self, users: Arc<auth::Users>) -> Reloaded {
        reload::reload(&self.shared, users)
    }

    /// The users and virtual hosts that are in force.
    #[must_use]
    pub fn users(&self) -> Arc<auth::Users> {
        Arc::clone(&self.shared.core().users)
    }

    /// The epoch that this node opened.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Batches of the journal that are committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.shared.journal.committed()
    }

    /// The core's counters.
    #[must_use]
    pub fn counters(&self) -> broker::Counters {
        self.shared.core().broker.counters().clone()
    }

    /// The virtual hosts that have subscriptions without a topic object.
    #[must_use]
    pub fn routed_vhosts(&self) -> Vec<Arc<str>> {
        self.shared.core().broker.routed_vhosts()
    }

    /// Tells the subscribers of topics that only the broker itself publishes to, in one virtual host. Nothing is kept for
    /// later subscribers, and where nobody subscribes nothing happens.
    pub fn report(&self, vhost: &str, topics: Vec<(Levels, Bytes)>) {
        self.shared.stepped(|core, step| {
            let Some(vhost) = core.broker.vhost(vhost) else {
                return false;
            };
            let messages: Vec<Arc<Message>> = topics
                .into_iter()
                .map(|(levels, body)| Message::new(Address::topic(vhost, levels), body))
                .map(Arc::new)
                .collect();
            core.decided(step, |broker, cx, out| {
                broker.decide_report(&messages, cx, out);
            });
            core.deliver(step)
        });
    }

    /// All counters and gauges as Prometheus text.
    #[must_use]
    pub fn metrics(&self) -> String {
        crate::metrics::text(&self.shared)
    }

    /// Ready when everything that was appended before the call is committed, or nothing commits any more.
    pub fn poll_settled(&self, cx: &std::task::Context<'_>) -> std::task::Poll<()> {
        let journal = &self.shared.journal;
        let settled = journal.newest() <= journal.committed() || journal.failure().is_some();
        if settled {
            return std::task::Poll::Ready(());
        }
        journal.stage().on_commit(cx.waker().clone());
        std::task::Poll::Pending
    }

    /// Writes and confirms what is in flight, then stops all threads. No connection may be left.
    pub fn shutdown(&self) {
        if self.shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        self.shared.verify.stop();
        self.shared.stored.stop();
        self.shared.keeper.stop();
        self.shared.journal.shutdown();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the node had panicked");
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Kept for Node {
    fn note(&self, vhost: VhostId, object: Object, name: &Name, note: &str) -> Option<Bytes> {
        self.shared
            .core()
            .broker
            .note(vhost, object, name, note)
            .cloned()
    }
}

impl Port for Node {
    fn attach(&self, peer: Peer) -> Option<Arc<dyn Link>> {
        if self.role() != Role::Active {
            return None;
        }
        let mut core = self.shared.core();
        if core.connections.len() as u64 >= self.connections_max {
            return None;
        }
        let id = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let outbox = Arc::new(Outbox::default());
        core.connections.insert(
            id,
            Box::new(Connection {
                outbox: Arc::clone(&outbox),
                peer,
                protocol: "",
                client: Box::default(),
                principal: None,
                vhost: VhostId::ROOT,
            }),
        );
        drop(core);
        Some(Arc::new(NodeLink::new(
            id,
            Arc::clone(&self.shared),
            outbox,
        )))
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}
