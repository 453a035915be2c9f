//! One process through its roles: it starts, is the active node or follows the one that is, takes over, and follows again.
//!
//! ```text
//!            nobody holds the journal          it failed, was fenced, or gave up in order
//! Starting ──────────────────────────► Active ──────────────────────────────────────────► Starting
//!     │ another process does              ▲
//!     └───────────────► Standby ──────────┘ the other one is gone
//! ```
//! The doors stay open all the time. What they are given by [`Port::attach`] is the active node's link, or one that refuses
//! everything and says where the active node is.

use std::{
    io::ErrorKind,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use message::{Name, Timestamp, VhostId};
use session::{
    Active, Cluster, Damage, DiskView, JournalView, Kept, Link, NotActive, Object, Peer, Port,
    SessionId, StandbyView, Takeover,
};

use crate::{
    Config, Machine, Node, Role, StartError,
    clock::Clock,
    recovery,
    scrub::Scrubbing,
    standby::{Manners, REGISTER_EVERY, Reason, Standby, Turn},
    threshold::{Outside, Threshold},
};

/// How long a standby rests between two looks, unless it is behind; twice that while batches come, as each look costs the machine
/// more than what it finds, but whether the active node's process lives is asked as often. It is the latency of what the standby knows, not of
/// anything that clients see.
const REST: Duration = Duration::from_millis(5);
/// Batches that may have come meanwhile.
const BEHIND: u64 = 64;
/// After so long without a look at the journal a standby counts as behind, whatever it saw then, in ms.
const UNSEEN_MS: u64 = 1_000;
/// By how much a standby is nicer than other processes: its active node may share the machine, and so may their clients. It stands
/// back for them, not for long; and not when it takes over.
const NICENESS: i32 = 5;
/// How long a standby whose clock does not agree with what it finds keeps its doors shut, until it knows the active node's time, in ms.
const SHUT_MS: u64 = 6_000;
/// How often a standby looks how much room there is on the disk, in ms.
const LOOK_AT_DISK_MS: u64 = 5_000;
/// How long it waits before it opens anew, when that failed: each time twice as long, but no more than that.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(8);

/// What [`Pair::change`] came to.
pub enum Change {
    /// This process is the active node; [`Pair::serve`] lets clients in.
    Active(Arc<Node>),
    /// It was stopped.
    Stopped,
}

enum State {
    Starting,
    Standby(Following),
    Active(Arc<Node>),
    Stopped,
}

/// What is shown of a standby.
struct Following {
    uuid: [u8; 16],
    epoch: u64,
    applied: u64,
    lag: session::Lag,
    /// When that was so, in ms of the boot clock.
    looked_at: u64,
    active: Option<Arc<Active>>,
    journal: journal::Journal,
    passed_over: u64,
    /// Bytes that are free on the disk, as of the last look.
    free: Option<u64>,
}

impl Following {
    /// How far it is behind. What it has not looked at for long it may be behind of: its storage does not answer, or it has much to do.
    fn lag_at(&self, now_ms: u64) -> session::Lag {
        let unseen_ms = now_ms.saturating_sub(self.looked_at);
        let mut lag = self.lag;
        if unseen_ms >= UNSEEN_MS {
            lag.ms += unseen_ms;
        }
        lag
    }
}

/// See the module.
pub struct Pair {
    /// For the links of clients that came to a node that is not active: they ask where the active one is by then.
    me: Weak<Self>,
    config: Config,
    /// One for all its roles: it never goes back.
    clock: Arc<Clock>,
    users: Mutex<Arc<auth::Users>>,
    vhosts: Mutex<Vec<String>>,
    /// Where this process' own doors are.
    own: Arc<Active>,
    state: Mutex<State>,
    /// The newest epoch that this process has seen, whatever it is by now.
    epoch: AtomicU64,
    manners: Mutex<Manners>,
    stopped: AtomicBool,
    /// The data directory was found fit.
    probed: AtomicBool,
    /// What is damaged is given up, once: an operator said so.
    accepts_loss: AtomicBool,
    next_refused: AtomicU64,
    threshold: Threshold,
    takeovers: AtomicU64,
    /// With when it began, in ms of the boot clock.
    last_takeover: Mutex<Option<(Takeover, u64)>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pair {
    /// One that has not started. `own`: where its doors are, as the other node's clients are told.
    #[must_use]
    pub fn new(mut config: Config, users: Arc<auth::Users>, own: Active) -> Arc<Self> {
        config.journal.note = encode(&own);
        let accepts_loss = config.journal.accept_loss;
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            clock: Arc::new(Clock::start(Arc::new(Machine))),
            users: Mutex::new(users),
            vhosts: Mutex::new(config.vhosts.clone()),
            config,
            own: Arc::new(own),
            state: Mutex::new(State::Starting),
            epoch: AtomicU64::new(0),
            manners: Mutex::default(),
            stopped: AtomicBool::new(false),
            probed: AtomicBool::new(false),
            accepts_loss: AtomicBool::new(accepts_loss),
            next_refused: AtomicU64::new(1),
            threshold: Threshold::default(),
            takeovers: AtomicU64::new(0),
            last_takeover: Mutex::new(None),
        })
    }

    /// Becomes the active node, sooner or later: at once if nobody holds the journal, else once the other node is gone. Blocks.
    /// `follows` is called once it is known that there is another one.
    ///
    /// # Errors
    /// If the journal can neither be opened nor followed.
    pub fn change(&self, mut follows: impl FnMut() + Send) -> Result<Change, StartError> {
        if !self.probed.swap(true, Ordering::AcqRel) {
            self.probe()?;
        }
        let mut told = false;
        let mut retry = RETRY;
        loop {
            if self.stopped.load(Ordering::Acquire) {
                *held(&self.state) = State::Stopped;
                return Ok(Change::Stopped);
            }
            let gave_up = held(&self.manners).clone();
            let opened = if gave_up.has_given_up() {
                // The other one first.
                Err(None)
            } else {
                Node::start_by(&self.config(), self.users(), Arc::clone(&self.clock)).map_err(Some)
            };
            match opened {
                Ok(node) => {
                    self.accepts_loss.store(false, Ordering::Release);
                    return Ok(Change::Active(Arc::new(node)));
                }
                Err(None) => {}
                Err(Some(StartError::Journal(
                    journal::OpenError::Held { .. } | journal::OpenError::Lost { .. },
                ))) => {}
                Err(Some(error)) => return Err(self.assessed(error)),
            }
            if self.accepts_loss.swap(false, Ordering::AcqRel) {
                tracing::warn!("another node has the journal: nothing is given up");
            }
            let mut now_shown = || {
                self.clock.show();
                if !std::mem::replace(&mut told, true) {
                    follows();
                }
            };
            match self.follow(&mut now_shown) {
                Ok(Some(change)) => return Ok(change),
                Ok(None) => retry = RETRY,
                // Nor would it fit the next time.
                Err(error @ StartError::Unfit { .. }) => return Err(error),
                Err(error) => {
                    *held(&self.state) = State::Starting;
                    now_shown();
                    tracing::warn!(%error, "the journal cannot be followed; the next try follows");
                    // It may have read all of the journal for that.
                    let until = self.clock.boot_ms() + retry.as_millis() as u64;
                    while self.clock.boot_ms() < until && !self.stopped.load(Ordering::Acquire) {
                        std::thread::park_timeout(RETRY);
                    }
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// The same error with what the damage costs, if it is damage.
    fn assessed(&self, error: StartError) -> StartError {
        let is_damage = matches!(
            error,
            StartError::Journal(journal::OpenError::Corrupt(_))
                | StartError::Replay { .. }
                | StartError::Unfit { .. }
        );
        if !is_damage || self.accepts_loss.load(Ordering::Acquire) {
            return error;
        }
        tracing::error!(%error, "every byte is read, to say what the damage costs");
        match recovery::assess(&self.config(), &**self.clock.host()) {
            Some(lost) => StartError::Damaged {
                error: Box::new(error),
                lost,
            },
            None => error,
        }
    }

    /// Tries what the journal rests on, once, before anything does.
    fn probe(&self) -> Result<(), StartError> {
        let host = self.clock.host();
        let (dir, uuid) = (&self.config.data_dir, recovery::fresh_uuid(&**host));
        match journal::probe(&*host.vfs(), dir, &self.config.journal, uuid) {
            // A start on a full disk works, and then it can be emptied.
            Err(journal::OpenError::Io { source, .. })
                if matches!(
                    source.kind(),
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded
                ) =>
            {
                tracing::warn!("there is no room to try what the data directory can do");
                Ok(())
            }
            tried => Ok(tried?),
        }
    }

    /// Follows the active node. `None`: open anew. `shown` is called again and again once the clock goes by that of the active node, or nobody knows
    /// that one: the doors may be open from there on.
    fn follow(&self, shown: &mut (impl FnMut() + Send)) -> Result<Option<Change>, StartError> {
        let manners = held(&self.manners).clone();
        let clock = Arc::clone(&self.clock);
        let mut standby = Standby::open_by(&self.config(), clock, manners)?;
        let registering = Registering::start(standby.registrar())?;
        let rate = self.config.scrub_bytes_per_s;
        let scrubbing = Scrubbing::start(standby.journal().clone(), rate)?;
        // A thread of its own: who is nice once may not be less so again.
        let followed = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("standby".to_owned());
            let following = thread.spawn_scoped(scope, || {
                stand_back();
                self.turns(&mut standby, shown)
            })?;
            following
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let reason = match followed {
            Ok(Some(reason)) => reason,
            ended => {
                standby.leave();
                return ended.map(|_| None);
            }
        };
        drop(registering);
        drop(scrubbing);
        *held(&self.manners) = standby.manners();
        *held(&self.state) = State::Starting;
        tracing::info!(reason = reason.as_str(), "taking over");
        let began = self.clock.boot_ms();
        let taken = Node::take_over(standby, reason, &self.config(), self.users());
        match taken {
            Ok((node, takeover)) => {
                held(&self.manners).took_over();
                self.takeovers.fetch_add(1, Ordering::Relaxed);
                *held(&self.last_takeover) = Some((takeover, began));
                Ok(Some(Change::Active(Arc::new(node))))
            }
            Err(StartError::Journal(journal::OpenError::Lost { epoch, .. })) => {
                tracing::info!(epoch, "another node was faster");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Looks at the journal again and again. Until the standby is to take over, or `None`: to be opened anew, or nothing more.
    fn turns(
        &self,
        standby: &mut Standby,
        shown: &mut impl FnMut(),
    ) -> Result<Option<Reason>, StartError> {
        let opened_at = self.clock.boot_ms();
        let mut note: (Vec<u8>, Option<Arc<Active>>) = (Vec::new(), None);
        let (mut free, mut asked_at) = (None, None);
        loop {
            if self.stopped.load(Ordering::Acquire) {
                return Ok(None);
            }
            let turn = standby.turn();
            if standby.note() != note.0 {
                note = (
                    standby.note().to_vec(),
                    decode(standby.note()).map(Arc::new),
                );
            }
            if self.clock.is_shown() || self.clock.boot_ms() - opened_at > SHUT_MS {
                shown();
            }
            let now_ms = self.clock.boot_ms();
            if asked_at.is_none_or(|at| now_ms.saturating_sub(at) >= LOOK_AT_DISK_MS) {
                asked_at = Some(now_ms);
                // What cannot be told is not known.
                free = standby.journal().free().ok().map(|disk| disk.free);
            }
            self.epoch.fetch_max(standby.epoch(), Ordering::Relaxed);
            *held(&self.state) = State::Standby(Following {
                uuid: standby.uuid(),
                epoch: standby.epoch(),
                applied: standby.applied(),
                lag: standby.lag(),
                looked_at: self.clock.boot_ms(),
                active: note.1.clone(),
                journal: standby.journal().clone(),
                passed_over: standby.passed_over(),
                free,
            });
            match turn {
                Ok(Turn::More) if standby.lag().batches > BEHIND => {}
                Ok(Turn::More) => {
                    std::thread::park_timeout(REST);
                    if !standby.is_active_dead() {
                        std::thread::park_timeout(REST);
                    }
                }
                Ok(Turn::Idle) => std::thread::park_timeout(REST),
                Ok(Turn::Behind) => {
                    tracing::info!("this standby fell behind, and reads the journal anew");
                    *held(&self.manners) = standby.manners();
                    return Ok(None);
                }
                Ok(Turn::TakeOver(reason)) => return Ok(Some(reason)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets clients in.
    pub fn serve(&self, node: &Arc<Node>) {
        self.epoch.fetch_max(node.epoch(), Ordering::Relaxed);
        *held(&self.state) = State::Active(Arc::clone(node));
        if let Some((takeover, began)) = &mut *held(&self.last_takeover)
            && takeover.activate_us == 0
        {
            let all = self.clock.boot_ms().saturating_sub(*began) * 1000;
            let before = takeover.fence_us + takeover.tail_us + takeover.publish_us;
            takeover.activate_us = all.saturating_sub(before).max(1);
            takeover.at = node.now();
            tracing::info!(
                reason = takeover.reason,
                detect_us = takeover.detect_us,
                fence_us = takeover.fence_us,
                tail_us = takeover.tail_us,
                publish_us = takeover.publish_us,
                activate_us = takeover.activate_us,
                "took over"
            );
        }
    }

    /// Lets no more clients in. `in_order`: the node is well, and ends so that another one goes on, which is let go first.
    pub fn retire(&self, node: &Arc<Node>, in_order: bool) {
        *held(&self.state) = State::Starting;
        let now_ms = self.clock.boot_ms();
        if in_order {
            held(&self.manners).gave_up(node.epoch(), now_ms);
        } else if node.is_fenced() {
            // As long as a standby waits for a sign of life.
            let failover_ms = self.config.journal.lease_ms / 4 * 5;
            held(&self.manners).succeeded(node.silent_ms(), failover_ms, now_ms);
        }
    }

    /// Ends [`Pair::change`], now or when it is called again.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// The active node, if this process is it.
    #[must_use]
    pub fn node(&self) -> Option<Arc<Node>> {
        match &*held(&self.state) {
            State::Active(node) => Some(Arc::clone(node)),
            _ => None,
        }
    }

    /// Whether this process serves, as far as it can know.
    #[must_use]
    pub fn is_active(&self) -> bool {
        let node = self.node();
        node.is_some_and(|node| node.role() == Role::Active && !node.is_silent())
    }

    /// The users and virtual hosts that are in force, here or once this process is the active node.
    #[must_use]
    pub fn users(&self) -> Arc<auth::Users> {
        Arc::clone(&held(&self.users))
    }

    /// Puts others in their place, and other virtual hosts: here they count from the next change of roles on.
    pub fn replace_users(&self, users: &Arc<auth::Users>, vhosts: &[String]) {
        *held(&self.users) = Arc::clone(users);
        *held(&self.vhosts) = vhosts.to_vec();
    }

    pub(crate) const fn threshold(&self) -> &Threshold {
        &self.threshold
    }

    /// How many logins may wait at a time that are verified though nobody is let in.
    pub(crate) const fn waiting_logins_max(&self) -> usize {
        self.config.verify_queue_max
    }

    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    fn config(&self) -> Config {
        let mut config = self.config.clone();
        config.vhosts.clone_from(&held(&self.vhosts));
        config.journal.accept_loss = self.accepts_loss.load(Ordering::Acquire);
        config
    }

    /// Where the active node's doors are, as far as is known.
    #[must_use]
    pub fn active(&self) -> Option<Arc<Active>> {
        match &*held(&self.state) {
            State::Active(_) => Some(Arc::clone(&self.own)),
            State::Standby(following) => following.active.clone(),
            State::Starting | State::Stopped => None,
        }
    }

    /// Where a standby's doors are that could take over from this node, if there is one.
    #[must_use]
    pub fn successor(&self) -> Option<Arc<Active>> {
        let standbys = self.node()?.standbys();
        let ready = standbys.into_iter().find(|standby| standby.ready)?;
        Some(Arc::new(decode(&ready.note).unwrap_or_default()))
    }

    /// What this process knows of the pair.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        let mut cluster = Cluster {
            role: session::Role::Starting,
            node: String::new(),
            epoch: self.epoch.load(Ordering::Relaxed),
            committed: 0,
            lag: None,
            active: None,
            standbys: Vec::new(),
            clock_ahead_ms: self.clock.wall_ahead_ms(),
            takeovers: self.takeovers.load(Ordering::Relaxed),
            last_takeover: held(&self.last_takeover)
                .as_ref()
                .map(|(takeover, _)| takeover.clone()),
            journal: JournalView::default(),
        };
        match &*held(&self.state) {
            State::Starting => {}
            State::Stopped => cluster.role = session::Role::Stopped,
            State::Standby(following) => {
                cluster.role = session::Role::Standby;
                cluster.node = hex(following.uuid);
                cluster.epoch = following.epoch;
                cluster.committed = following.applied + following.lag.batches;
                cluster.lag = Some(following.lag_at(self.clock.boot_ms()));
                cluster.active.clone_from(&following.active);
                cluster.journal = view(&following.journal, following.passed_over);
                cluster.journal.disk = following.free.map(|free_bytes| DiskView {
                    free_bytes,
                    low: None,
                });
            }
            State::Active(node) => {
                cluster.role = match node.role() {
                    // Asked of a lease that is over, it cannot know.
                    Role::Active if node.is_silent() => session::Role::Silent,
                    Role::Active => session::Role::Active,
                    Role::Stopped => session::Role::Stopped,
                };
                cluster.node = hex(node.uuid());
                cluster.epoch = node.epoch();
                cluster.committed = node.committed();
                let serves = cluster.role == session::Role::Active;
                cluster.active = serves.then(|| Arc::clone(&self.own));
                cluster.journal = view(node.journal(), node.passed_over());
                cluster.journal.disk = Some(disk(node.journal()));
                let standbys = node.standbys().into_iter();
                cluster.standbys = standbys
                    .map(|seen| StandbyView {
                        node: hex(seen.node),
                        lag_batches: node.lag_of(&seen),
                        seen_ms_ago: seen.seen_ms_ago,
                        addresses: Arc::new(decode(&seen.note).unwrap_or_default()),
                        can_take_over: seen.ready,
                    })
                    .collect();
            }
        }
        cluster
    }
}

/// Makes this thread nicer than others.
fn stand_back() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "the standby runs like any other process");
    }
}

/// A thread that writes again and again that a standby is there.
struct Registering {
    stopped: Arc<AtomicBool>,
    thread: std::thread::Thread,
}

impl Registering {
    fn start(registrar: journal::Registrar) -> Result<Self, StartError> {
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let thread = std::thread::Builder::new().name("registrar".to_owned());
        let thread = thread.spawn(move || {
            while !stop.load(Ordering::Acquire) {
                if let Err(error) = registrar.write() {
                    tracing::warn!(%error, "failed to say that this standby is there");
                }
                std::thread::park_timeout(REGISTER_EVERY);
            }
            registrar.remove();
        })?;
        Ok(Self {
            stopped,
            thread: thread.thread().clone(),
        })
    }
}

impl Drop for Registering {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// The disk under a journal, as of the last look.
fn disk(journal: &journal::Journal) -> DiskView {
    let (free, low) = match journal.space() {
        journal::Space::Ok(free) | journal::Space::High(free) => (free, false),
        journal::Space::Low(free) => (free, true),
    };
    DiskView {
        free_bytes: free.free,
        low: Some(low),
    }
}

/// How a journal is, for whoever asks.
fn view(journal: &journal::Journal, passed_over: u64) -> JournalView {
    let health = journal.health();
    let given_up = journal.given_up();
    let name = |path: &std::path::Path| {
        let parts: Vec<_> = path.iter().rev().take(2).collect();
        let parts = parts.iter().rev().map(|part| part.to_string_lossy());
        parts.collect::<Vec<_>>().join("/")
    };
    JournalView {
        given_up: given_up
            .iter()
            .rev()
            .take(JournalView::TOLD_MAX)
            .map(|loss| Damage {
                file: name(&loss.path),
                offset: loss.offset,
                what: loss.what.clone(),
                batches: loss.batches(),
                records: loss.records(),
                given_up: Some(Timestamp(loss.given_up_ms)),
                kept: loss.kept().map(|path| name(&path)),
            })
            .collect(),
        losses: given_up.len() as u64,
        passed_over,
        damaged: health
            .found
            .iter()
            .rev()
            .take(JournalView::TOLD_MAX)
            .map(|found| Damage {
                file: name(&found.path),
                offset: found.offset,
                what: found.what.clone(),
                batches: found.batches,
                records: 0,
                given_up: None,
                kept: None,
            })
            .collect(),
        damages: health.damages,
        damages_beyond: health.beyond,
        repaired: health.repaired,
        scrubbed_bytes: health.scrubbed_bytes,
        scrub_passes: health.passes,
        disk: None,
    }
}

fn hex(uuid: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(uuid))
}

impl Kept for Pair {
    /// Of the active node. There is nothing to judge by for who is not: it refuses everything.
    fn note(&self, vhost: VhostId, object: Object, name: &Name, note: &str) -> Option<Bytes> {
        let node = match &*held(&self.state) {
            State::Active(node) => Arc::clone(node),
            State::Standby(_) | State::Starting | State::Stopped => return None,
        };
        node.note(vhost, object, name, note)
    }
}

impl Port for Pair {
    fn attach(&self, peer: Peer) -> Option<Arc<dyn Link>> {
        match &*held(&self.state) {
            State::Stopped => return None,
            State::Active(node) => match node.role() {
                Role::Active => {
                    let node = Arc::clone(node);
                    return node.attach(peer);
                }
                Role::Stopped => {}
            },
            State::Standby(_) | State::Starting => {}
        }
        let id = SessionId(self.next_refused.fetch_add(1, Ordering::Relaxed));
        let me = Weak::clone(&self.me);
        let find = Arc::new(move || me.upgrade()?.active());
        Some(Arc::new(Outside {
            pair: Weak::clone(&self.me),
            peer,
            refusing: Arc::new(NotActive::new(id, find)),
        }))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A node's addresses in its lease: a line each, `listener host:port`.
fn encode(active: &Active) -> Vec<u8> {
    let lines = active.addresses.iter();
    let lines: Vec<String> = lines
        .map(|(listener, address)| format!("{listener} {address}\n"))
        .collect();
    lines.concat().into_bytes()
}

fn decode(note: &[u8]) -> Option<Active> {
    let text = std::str::from_utf8(note).ok()?;
    let addresses = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(listener, address)| (Arc::from(listener), Arc::from(address)))
        .collect();
    Some(Active { addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_from_a_lease() {
        let active = Active {
            addresses: vec![
                (Arc::from("mqtt"), Arc::from("a.example:1883")),
                (Arc::from("http"), Arc::from("[::1]:8161")),
            ],
        };
        assert_eq!(decode(&encode(&active)), Some(active));
        assert_eq!(decode(b""), Some(Active::default()));
        assert_eq!(decode(&[0xff]), None);
    }
}
