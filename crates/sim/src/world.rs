//! One clock, one store, and who runs: exactly one thread at a time, chosen by the seed.
//!
//! Each node runs on a thread of its own, so that it can be held up inside a blocking call of the file system. Whoever
//! holds the baton runs; a node gives it back when it sleeps, and the scheduler hands it to whom the next event wakes.
//! Nothing here depends on the machine's clock, or on which thread the machine would rather run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hasher as _};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use journal::Mark;
use node::Node;

use crate::random::Random;
use crate::rates::Rates;
use crate::store::Store;
use crate::vfs::Known;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The node's thread goes on, if this is the sleep that it is in.
    Wake { node: usize, sleep: u64 },
    /// A client has something to do.
    Client(usize),
    /// The node is started, unless it runs.
    Start(usize),
    /// Something goes wrong, perhaps.
    Chaos,
    /// A write of a process that is gone arrives.
    Late(usize),
    /// Nothing goes wrong any more.
    Calm,
    /// Enough.
    End,
}

/// The process of a node is dead: whatever it still asks for fails.
#[derive(Debug)]
pub(crate) struct Dead;

/// A node that serves, as clients find it.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) node: Arc<Node>,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u64,
}

#[derive(Default)]
pub(crate) struct NodeState {
    pub(crate) incarnation: u64,
    /// There is a thread.
    pub(crate) runs: bool,
    pub(crate) killed: bool,
    pub(crate) paused_until: u64,
    /// Until then its way to the store is slow.
    pub(crate) slow_until: u64,
    pub(crate) serving: Option<Serving>,
    /// The sleep that it is in.
    sleep: u64,
    /// It sleeps for want of work.
    idle: bool,
    /// Its clocks: since when it runs, and how wrong they are, in ms.
    pub(crate) boot_ms: u64,
    pub(crate) wall_ms: i64,
    /// How much faster they run, in parts per thousand.
    pub(crate) clock_rate: i64,
    /// For how long they stood still, in µs.
    pub(crate) stood_us: u64,
    /// What its machine knows of directories.
    pub(crate) known: Known,
    /// How far it has come, if it follows.
    pub(crate) follows: Option<u64>,
    /// The time that its process served by last, in ms, and when that was.
    pub(crate) served_at: Option<(u64, u64)>,
    /// The process and the batch whose state it showed last.
    pub(crate) shown: (u64, u64),
    /// Why its last incarnation ended.
    pub(crate) ended: String,
}

impl NodeState {
    /// The time since its machine started, by its own clock, in ms.
    pub(crate) fn clock_ms(&self, now: u64) -> u64 {
        let us = now.saturating_sub(self.stood_us);
        let faster = us as i64 * self.clock_rate / 1000;
        self.boot_ms + us.saturating_add_signed(faster) / 1000
    }

    /// How long it really takes until its clock has gone on by so much, in µs.
    pub(crate) const fn real_us(&self, us: u64) -> u64 {
        us * 1000 / (1000 + self.clock_rate) as u64 + 1
    }
}

/// A write that is on its way though whoever asked for it is gone.
pub(crate) struct LateWrite {
    pub(crate) inode: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) offset: u64,
}

/// What everyone shares.
pub(crate) struct Inner {
    /// In µs.
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) rates: Rates,
    pub(crate) store: Store,
    pub(crate) nodes: Vec<NodeState>,
    /// Things go wrong.
    pub(crate) chaos: bool,
    pub(crate) late: Vec<Option<LateWrite>>,
    /// Paths that are locked, and by which node; where locks count.
    pub(crate) locks: BTreeMap<PathBuf, (usize, u64)>,
    /// What was damaged behind everyone's back, once: a node may refuse to start.
    pub(crate) damaged: Option<String>,
    /// The name of the file in which a bit turned.
    pub(crate) rotten: Option<String>,
    /// Somebody said so: a node that does not start, or reads again, or a connection that is ended for it.
    pub(crate) rot_is_told: bool,
    /// That was the last batch, which nothing said to be durable: nobody can tell, and it is gone.
    pub(crate) lost_the_last: bool,
    /// What went wrong how often.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// The hash over the history behind each batch, by whoever said so first.
    chains: BTreeMap<u64, u128>,
    /// A hash over the durable state behind some batches, and the process that had it first.
    states: BTreeMap<u64, (u64, u64)>,
    /// How often another process had it too.
    pub(crate) states_compared: u64,
    pub(crate) violation: Option<String>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbers: u64,
    hash: u64,
    /// The story so far, if it is wanted.
    pub(crate) story: Option<Vec<String>>,
    pub(crate) operations: u64,
    /// The last epoch that served.
    pub(crate) epoch: u64,
    /// The latest time that a node served by, in ms, and when that was.
    pub(crate) served_at: Option<(u64, u64)>,
    /// Of nodes that followed.
    pub(crate) takeovers: u64,
}

impl Inner {
    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse((time, self.numbers, event)));
    }

    pub(crate) fn after(&mut self, us: u64, event: Event) {
        self.at(self.now + us, event);
    }

    /// Takes the next event, and goes to its time.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse((time, _, event)) = self.events.pop()?;
        self.now = self.now.max(time);
        Some(event)
    }

    /// What happened goes into the hash of the run; it must be the same every time.
    pub(crate) fn trace(&mut self, what: impl FnOnce() -> String, fingerprint: &[u64]) {
        for &word in fingerprint.iter().chain(&[self.now]) {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(31);
        }
        if let Some(story) = &mut self.story {
            let what = what();
            let line = format!("{:>10} {what}", self.now);
            story.push(line);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Something goes wrong.
    pub(crate) fn fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    /// Something is damaged behind everyone's back.
    pub(crate) fn damage(&mut self, kind: &'static str, what: String) {
        self.fault(kind);
        self.trace(|| format!("{kind}: {what}"), &[12]);
        self.damaged = Some(format!("{kind}: {what}"));
    }

    /// A node ends a connection because it does not know what to do. One that has a successor looks for that when it misses files.
    pub(crate) fn is_at_a_loss(&mut self) -> Result<(), String> {
        self.rot_is_told |= self.rotten.is_some();
        if self.damaged.is_none() {
            return Err("a node ends a connection for a defect of its own".to_owned());
        }
        Ok(())
    }

    /// Somebody says what is wrong.
    pub(crate) fn tell(&mut self, what: &str) {
        let is_it = |name: &String| what.contains(name.as_str()) || what.contains("damaged");
        self.rot_is_told |= self.rotten.as_ref().is_some_and(is_it);
    }

    /// A node stands still for so long, in µs.
    pub(crate) fn pause(&mut self, node: usize, long: u64) {
        self.fault("pause");
        let (now, stops) = (self.now, self.rates.clocks_stop);
        let state = &mut self.nodes[node];
        let until = now + long;
        if stops {
            state.stood_us += until - state.paused_until.clamp(now, until);
        }
        state.paused_until = state.paused_until.max(until);
        self.trace(
            || format!("node {node} stands still for {long} us"),
            &[1, long],
        );
    }

    /// It goes on before its time.
    pub(crate) fn go_on(&mut self, node: usize) {
        let (now, stops) = (self.now, self.rates.clocks_stop);
        let state = &mut self.nodes[node];
        if stops {
            state.stood_us -= state.paused_until.saturating_sub(now);
        }
        state.paused_until = state.paused_until.min(now);
        self.awaken(node);
    }

    /// A write is on its way.
    pub(crate) fn arrives_later(&mut self, us: u64, inode: usize, bytes: &[u8], offset: u64) {
        let number = self.late.len();
        self.late.push(Some(LateWrite {
            inode,
            bytes: bytes.to_vec(),
            offset,
        }));
        self.after(us, Event::Late(number));
    }

    /// *One history*: a node says what it has committed or applied. The one exception: the last batch of all was damaged before anything said
    /// that it was durable, and looks like one that was never whole.
    pub(crate) fn has(&mut self, node: usize, mark: Mark) {
        let known = *self.chains.entry(mark.batch).or_insert(mark.chain);
        if known == mark.chain {
            return;
        }
        let is_last = self.chains.range(mark.batch + 1..).next().is_none();
        if self.damaged.is_some() && is_last {
            self.lost_the_last = true;
            return;
        }
        self.violate(format!(
            "one history: node {node} has another batch {} than one before it",
            mark.batch
        ));
    }

    /// *No leaps*: a node serves by a time. It goes on as time does, but for what a start believes of its clock, up to `leap_max_ms`.
    ///
    /// That is the time that anyone served by last, or its own: who was silent for a while has a successor that may go by an earlier one.
    pub(crate) fn serves_by(&mut self, node: usize, time_ms: u64, leap_max_ms: u64) {
        let own = self.nodes[node].served_at.replace((time_ms, self.now));
        let gone_on = |(last, then): (u64, u64)| {
            // Clocks run by a tenth too fast, and lean by as much.
            last + (self.now - then) / 1000 * 5 / 4
        };
        if let Some(due) = self.served_at.into_iter().chain(own).map(gone_on).max() {
            let leap = time_ms.saturating_sub(due + CLOCKS_DIFFER_MAX_MS);
            if leap > leap_max_ms && self.chaos {
                self.violate(format!(
                    "no leaps: node {node} serves by a time that is {leap} ms ahead of the last one"
                ));
            }
        }
        if self.served_at.is_none_or(|(last, _)| last <= time_ms) {
            self.served_at = Some((time_ms, self.now));
        }
    }

    /// *One state*: a process shows what the history up to a batch has made of it.
    pub(crate) fn is_in(&mut self, incarnation: u64, batch: u64, state: &[u8]) {
        let mut hasher = DefaultHasher::new();
        hasher.write(state);
        let own = (incarnation, hasher.finish());
        let first = *self.states.entry(batch).or_insert(own);
        if first.0 != own.0 {
            self.states_compared += 1;
        }
        if first.1 != own.1 && self.damaged.is_none() {
            self.violate(format!(
                "one state: process {incarnation} makes something else of batch {batch} and all before it than process {}",
                first.0
            ));
        }
    }

    /// What must not be; the first one counts.
    pub(crate) fn violate(&mut self, what: String) {
        if self.violation.is_none() {
            self.trace(|| format!("VIOLATION {what}"), &[0xBAD]);
            self.violation = Some(what);
        }
    }

    /// Whether clients can reach a node's process.
    pub(crate) fn reachable(&self, node: usize, incarnation: u64) -> bool {
        let state = &self.nodes[node];
        state.runs
            && !state.killed
            && state.incarnation == incarnation
            && state.paused_until <= self.now
    }

    /// A node that stood still goes on.
    fn awaken(&mut self, node: usize) {
        if self.nodes[node].runs {
            let sleep = self.nodes[node].sleep;
            self.after(1, Event::Wake { node, sleep });
        }
    }

    /// Work came for a node that sleeps for want of it.
    pub(crate) fn poke(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if state.runs && state.idle {
            state.idle = false;
            let sleep = state.sleep;
            let us = self.random.between(1, 50);
            self.after(us, Event::Wake { node, sleep });
        }
    }
}

/// By how much the clocks of two nodes differ at most where nobody sets them, in ms.
const CLOCKS_DIFFER_MAX_MS: u64 = 2_000;

/// A baton that somebody waits for.
#[derive(Default)]
struct Turn {
    mine: Mutex<bool>,
    given: Condvar,
}

impl Turn {
    fn give(&self) {
        *self.mine.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.given.notify_one();
    }

    fn wait(&self) {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        while !*mine {
            mine = self
                .given
                .wait(mine)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *mine = false;
    }
}

/// See the module.
pub(crate) struct World {
    inner: Mutex<Inner>,
    /// Clients that were woken.
    pub(crate) woken: Mutex<Vec<usize>>,
    scheduler: Turn,
    nodes: Vec<Turn>,
}

/// The longest that a client's connection takes to hear of an event, in µs.
const NETWORK_MAX: u64 = 400;

impl World {
    pub(crate) fn new(seed: u64, story: bool) -> Arc<Self> {
        let mut random = Random::new(seed);
        let rates = Rates::of(seed, &mut random);
        let nodes = rates.nodes;
        let capacity = random.between(8, 64) << 20;
        let inner = Inner {
            now: 0,
            random,
            rates,
            store: Store::new(capacity),
            nodes: Vec::new(),
            chaos: true,
            late: Vec::new(),
            locks: BTreeMap::new(),
            damaged: None,
            rotten: None,
            rot_is_told: false,
            lost_the_last: false,
            faults: BTreeMap::new(),
            chains: BTreeMap::new(),
            states: BTreeMap::new(),
            states_compared: 0,
            violation: None,
            events: BinaryHeap::new(),
            numbers: 0,
            hash: seed,
            story: story.then(Vec::new),
            operations: 0,
            epoch: 0,
            served_at: None,
            takeovers: 0,
        };
        let world = Self {
            inner: Mutex::new(inner),
            woken: Mutex::default(),
            scheduler: Turn::default(),
            nodes: (0..nodes).map(|_| Turn::default()).collect(),
        };
        let mut inner = world.lock();
        for _ in 0..nodes {
            let boot_ms = inner.random.below(1_000_000);
            let wall_ms = inner.random.below(2_000) as i64;
            let wrong = inner.rates.clock_rate_max;
            let clock_rate = inner.random.between(0, 2 * wrong) as i64 - wrong as i64;
            inner.nodes.push(NodeState {
                boot_ms,
                wall_ms,
                clock_rate,
                ..NodeState::default()
            });
        }
        drop(inner);
        Arc::new(world)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients that were woken meanwhile hear of it a little later.
    pub(crate) fn hear(&self, inner: &mut Inner) {
        let woken = std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
        for client in woken {
            let us = inner.random.between(10, NETWORK_MAX);
            inner.after(us, Event::Client(client));
        }
    }

    /// Sleeps, on a node's thread; longer if the process is paused.
    pub(crate) fn sleep(&self, node: usize, us: u64, idle: bool) -> Result<(), Dead> {
        let mut us = us;
        let mut inner = self.lock();
        loop {
            if inner.nodes[node].killed {
                return Err(Dead);
            }
            self.hear(&mut inner);
            let until = (inner.now + us).max(inner.nodes[node].paused_until);
            inner.numbers += 1;
            let sleep = inner.numbers;
            let state = &mut inner.nodes[node];
            state.sleep = sleep;
            state.idle = idle;
            inner.at(until, Event::Wake { node, sleep });
            // If nobody comes before, the baton need not change hands.
            let next = inner.events.peek().map(|Reverse((_, _, event))| *event);
            if next == Some(Event::Wake { node, sleep }) {
                inner.next();
            } else {
                drop(inner);
                self.scheduler.give();
                self.nodes[node].wait();
                inner = self.lock();
            }
            inner.nodes[node].idle = false;
            if inner.nodes[node].killed {
                return Err(Dead);
            }
            if inner.nodes[node].paused_until <= inner.now {
                return Ok(());
            }
            us = 0;
        }
    }

    /// A node's thread begins: it waits for its turn.
    pub(crate) fn begin(&self, node: usize) {
        self.nodes[node].wait();
    }

    /// A node's thread is over.
    pub(crate) fn finish(&self) {
        self.scheduler.give();
    }

    /// Lets a node's thread run until it sleeps or ends, on the scheduler's.
    pub(crate) fn run(&self, node: usize) {
        self.nodes[node].give();
        self.scheduler.wait();
    }

    /// Whether a node's thread waits for just this.
    pub(crate) fn waits_for(inner: &Inner, node: usize, sleep: u64) -> bool {
        let state = &inner.nodes[node];
        state.runs && state.sleep == sleep
    }
}
