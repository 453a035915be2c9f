//! One run: nodes and clients over one store while things go wrong, then a calm time in which everything must come right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use node::Config;
use session::Link;

use crate::client::{Client, Role, Turn};
use crate::history::{History, Target};
use crate::process;
use crate::random::Random;
use crate::rates::{Place, Theme};
use crate::vfs::Process;
use crate::world::{Event, World};

/// How often something may go wrong with more than one call, in µs.
const CHAOS_EVERY: u64 = 500_000;
/// Within this time after the last fault something is confirmed, in µs.
const PROGRESS_MAX: u64 = 2_000_000;
/// The same where whoever starts or stands by waits for a lease to lapse that nobody renews any more.
const PROGRESS_AFTER_LEASE_MAX: u64 = 12_000_000;
/// Within this time after the last fault everything that was confirmed has been received, in µs.
const DRAINED_MAX: u64 = 90_000_000;

/// How often there is a look at whether everything has been received, in µs.
const CHECK_EVERY: u64 = 50_000;

/// How wrong a wall clock is at most while nothing goes wrong, in ms.
const CLOCK_OFF_MAX: i64 = 3_600_000;

/// Bytes of the disk while nothing goes wrong.
const CALM_CAPACITY: u64 = 1 << 30;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Everything that happened, in a number: the same seed gives the same one.
    pub hash: u64,
    /// What must not be and was.
    pub violation: Option<String>,
    /// Everything that happened, if that was wanted.
    pub story: Vec<String>,
    /// Simulated time, in µs.
    pub time: u64,
    /// Processes that were started.
    pub incarnations: u64,
    /// The last epoch that served.
    pub epochs: u64,
    /// File operations.
    pub operations: u64,
    /// Takeovers by a node that followed.
    pub takeovers: u64,
    /// Durable states of two processes behind the same batch.
    pub states_compared: u64,
    /// What went wrong how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// What was seen how often that a run need not come to.
    pub seen: BTreeMap<&'static str, u64>,
    /// Messages that were confirmed.
    pub confirmed: u64,
    /// Messages that were received, repeats included.
    pub received: u64,
}

struct Simulation {
    seed: u64,
    world: Arc<World>,
    random: Random,
    config: Config,
    clients: Vec<Client>,
    history: History,
    threads: Vec<Option<JoinHandle<()>>>,
    hangups: Vec<(usize, u64, Arc<dyn Link>)>,
    incarnations: u64,
    epochs: u64,
    capacity: u64,
    calm_at: Option<u64>,
    progressed: bool,
    checked_at: u64,
}

/// Runs one simulation.
#[must_use]
pub fn run(seed: u64, story: bool) -> Report {
    let world = World::new(seed, story);
    let (mut random, rates, capacity) = {
        let mut inner = world.lock();
        let random = inner.random.fork();
        let rates = inner.rates.clone();
        inner.trace(|| format!("{rates:?}"), &[]);
        (random, rates, inner.store.capacity)
    };
    let clocks_are_set = rates.clock_jump > 0;
    let config = process::config(seed, &rates, &mut random);
    let mut simulation = Simulation {
        seed,
        clients: clients(&world, rates.theme, &mut random),
        world,
        random,
        config,
        history: History::new(clocks_are_set, rates.dedup_ms),
        threads: (0..rates.nodes).map(|_| None).collect(),
        hangups: Vec::new(),
        incarnations: 0,
        epochs: 0,
        capacity,
        calm_at: None,
        progressed: false,
        checked_at: 0,
    };
    {
        let mut inner = simulation.world.lock();
        inner.at(0, Event::Start(0));
        inner.at(CHAOS_EVERY, Event::Chaos);
        inner.at(rates.chaos, Event::Calm);
        for client in 0..simulation.clients.len() {
            inner.at(1_000 + client as u64 * 100, Event::Client(client));
        }
    }
    simulation.go_on();
    simulation.end()
}

/// Each target that is sent to has who receives from it.
fn clients(world: &Arc<World>, theme: Theme, random: &mut Random) -> Vec<Client> {
    let mut roles = Vec::new();
    let targets: &[(Role, Role)] = match theme {
        Theme::State => &[
            (Role::Sends(Target::Plain), Role::Pulls(Target::Plain)),
            (Role::Sends(Target::Fifo), Role::Pulls(Target::Fifo)),
            (Role::Sends(Target::Risky), Role::Pulls(Target::Risky)),
            (Role::Sends(Target::Stream), Role::Works),
            (Role::Retains, Role::Looks),
            (Role::Departs, Role::Follows(Target::Wills)),
        ],
        Theme::Steps => &[
            (Role::Hands, Role::Follows(Target::Exact)),
            (Role::Hands, Role::Follows(Target::Exact)),
            (Role::Sends(Target::Pushed), Role::Consumes),
            (Role::Sends(Target::Topic), Role::Follows(Target::Topic)),
            (Role::Sends(Target::Plain), Role::Pulls(Target::Plain)),
        ],
        _ => &[
            (Role::Sends(Target::Plain), Role::Pulls(Target::Plain)),
            (Role::Sends(Target::Pushed), Role::Consumes),
            (Role::Sends(Target::Fifo), Role::Pulls(Target::Fifo)),
            (Role::Sends(Target::Topic), Role::Follows(Target::Topic)),
            (Role::Sends(Target::Stream), Role::Reads),
        ],
    };
    while roles.is_empty() {
        for &(sender, receiver) in targets {
            if random.percent(45) {
                roles.extend((0..random.between(1, 2)).map(|_| sender));
                roles.extend((0..random.between(1, 2)).map(|_| receiver));
                if receiver == Role::Pulls(Target::Risky) {
                    roles.push(Role::Pulls(Target::Dead));
                }
            }
        }
    }
    let roles = roles.into_iter().enumerate();
    roles
        .map(|(number, role)| Client::new(world, number, role, random.fork()))
        .collect()
}

impl Simulation {
    fn go_on(&mut self) {
        loop {
            let event = {
                let mut inner = self.world.lock();
                self.world.hear(&mut inner);
                if inner.violation.is_some() {
                    return;
                }
                match inner.next() {
                    Some(Event::End) | None => return,
                    Some(event) => event,
                }
            };
            match event {
                Event::Wake { node, sleep } => {
                    let waits = World::waits_for(&self.world.lock(), node, sleep);
                    if waits {
                        self.resume(node);
                    }
                }
                Event::Client(client) => self.turn(client),
                Event::Start(node) => self.start(node),
                Event::Chaos => self.chaos(),
                Event::Late(number) => self.arrive(number),
                Event::Calm => self.calm(),
                Event::End => return,
            }
            if self.is_done() {
                return;
            }
        }
    }

    /// Lets a node run, and sees to it if it ended.
    fn resume(&mut self, node: usize) {
        self.world.run(node);
        self.drop_hangups();
        let mut inner = self.world.lock();
        if let Some(serving) = &inner.nodes[node].serving {
            self.epochs = self.epochs.max(serving.epoch);
        }
        if inner.nodes[node].runs {
            return;
        }
        let calm = !inner.chaos;
        let alone = inner.nodes.iter().all(|node| !node.runs);
        // Somebody starts it again, unless others serve by then.
        if alone || !calm && self.random.percent(60) {
            let us = if calm {
                self.random.between(1_000, 50_000)
            } else {
                self.random.spread(1_000, 3_000_000)
            };
            inner.after(us, Event::Start(node));
        }
        drop(inner);
        if let Some(thread) = self.threads[node].take() {
            thread.join().expect("its panics are caught");
        }
    }

    fn start(&mut self, node: usize) {
        let (incarnation, calm) = {
            let mut inner = self.world.lock();
            let others = inner.nodes.iter().any(|node| node.runs);
            let calm = !inner.chaos;
            if inner.nodes[node].runs || calm && others {
                return;
            }
            inner.go_on(node);
            let state = &mut inner.nodes[node];
            self.incarnations += 1;
            state.incarnation = self.incarnations;
            state.runs = true;
            state.killed = false;
            state.follows = None;
            state.served_at = None;
            (self.incarnations, calm)
        };
        let process = Process {
            world: Arc::clone(&self.world),
            node,
            incarnation,
        };
        let mut config = self.config.clone();
        if calm {
            // What an operator does who knows that it is the journal that was led astray.
            config.journal.clock_off_max_ms = u64::MAX;
            config.journal.staged_bytes_max = config.journal.staged_bytes_max.max(256 << 10);
        }
        let thread = std::thread::Builder::new()
            .name(format!("node {node}, SEED={}", self.seed))
            .stack_size(1 << 20)
            .spawn(move || process::live(&process, &config))
            .expect("a thread can be started");
        self.threads[node] = Some(thread);
        self.resume(node);
    }

    /// Ends a process without its doing anything about it.
    fn kill(&mut self, node: usize) {
        {
            let mut inner = self.world.lock();
            if !inner.nodes[node].runs {
                return;
            }
            inner.nodes[node].killed = true;
            inner.trace(|| format!("node {node} is killed"), &[8, node as u64]);
        }
        self.resume(node);
    }

    fn turn(&mut self, client: usize) {
        let now = {
            let inner = self.world.lock();
            let stood = inner.nodes.iter().map(|node| node.stood_us).max();
            self.history.is_excused = inner.damaged.is_some();
            self.history.clocks_stood(stood.unwrap_or(0));
            inner.now
        };
        let mut turn = Turn {
            world: &self.world,
            history: &mut self.history,
            hangups: &mut self.hangups,
            now,
        };
        let one = &mut self.clients[client];
        let before = one.timer;
        let concerned = one.turn(&mut turn);
        let timer = one.timer;
        let mut inner = self.world.lock();
        if timer != before {
            inner.at(timer, Event::Client(client));
        }
        match concerned {
            Ok(Some(node)) => inner.poke(node),
            Ok(None) => {}
            Err(what) => inner.violate(what),
        }
        drop(inner);
        self.drop_hangups();
    }

    /// A node hears of connections that are gone, unless it stands still.
    fn drop_hangups(&mut self) {
        let mut kept = Vec::new();
        for (node, incarnation, link) in std::mem::take(&mut self.hangups) {
            let paused = {
                let inner = self.world.lock();
                let state = &inner.nodes[node];
                state.incarnation == incarnation && state.runs && state.paused_until > inner.now
            };
            if paused {
                kept.push((node, incarnation, link));
            } else {
                drop(link);
                self.world.lock().poke(node);
            }
        }
        self.hangups = kept;
    }

    fn arrive(&mut self, number: usize) {
        let mut inner = self.world.lock();
        if let Some(late) = inner.late[number].take() {
            let (inode, offset) = (late.inode, late.offset);
            let _ = inner.store.write_durable(inode, &late.bytes, offset);
            inner.trace(
                || format!("a late write arrives in file {inode} at {offset}"),
                &[9, inode as u64, offset],
            );
        }
    }

    fn chaos(&mut self) {
        let rates = {
            let mut inner = self.world.lock();
            if !inner.chaos {
                return;
            }
            inner.after(CHAOS_EVERY, Event::Chaos);
            inner.rates.clone()
        };
        let nodes = rates.nodes as u64;
        if self.random.chance(rates.kill_all) {
            self.world.lock().fault("kill of all");
            self.kill_all();
        }
        if self.random.chance(rates.power_loss) {
            self.fail_power();
        }
        if rates.place != Place::Local && self.random.chance(rates.store_restart) {
            self.restart_store();
        }
        if rates.slow > 0 && self.random.chance(rates.slow) {
            let node = self.random.below(nodes) as usize;
            let long = self.random.spread(500_000, rates.slow_for_max);
            let mut inner = self.world.lock();
            inner.fault("slow way to the store");
            let until = inner.now + long;
            inner.nodes[node].slow_until = until;
            inner.trace(
                || format!("the way of node {node} to the store is slow for {long} us"),
                &[19, node as u64, long],
            );
        }
        if self.random.chance(rates.takeover) {
            let node = self.random.below(nodes) as usize;
            self.world.lock().after(1, Event::Start(node));
        }
        if self.random.chance(rates.clock_jump) {
            let node = self.random.below(nodes) as usize;
            let by = self.random.spread(1, rates.clock_jump_max) as i64;
            let by = if self.random.percent(50) { by } else { -by };
            let mut inner = self.world.lock();
            inner.fault("clock jump");
            inner.nodes[node].wall_ms = by;
            inner.trace(
                || format!("the wall clock of node {node} is {by} ms wrong"),
                &[10],
            );
        }
        let full = self.random.chance(rates.disk_full);
        let room = self.random.spread(1, 256 << 10);
        let mut inner = self.world.lock();
        inner.store.capacity = self.capacity;
        if full {
            inner.fault("disk full");
            inner.store.capacity = self.capacity - inner.store.free() + room;
            inner.trace(|| format!("the disk has {room} bytes left"), &[11, room]);
        }
        if inner.damaged.is_none() && self.random.chance(rates.rot) {
            let under = *self.random.pick(&["seg", "snap", "epochs"]);
            if let Some((path, at)) = inner.store.rot(&mut self.random, under) {
                let name = path.file_name().expect("it is a file");
                inner.rotten = Some(name.to_string_lossy().into_owned());
                inner.damage("turned bit", format!("{} at {at}", path.display()));
            }
        }
    }

    fn kill_all(&mut self) {
        for node in 0..self.threads.len() {
            self.kill(node);
        }
    }

    fn fail_power(&mut self) {
        self.kill_all();
        let mut inner = self.world.lock();
        inner.fault("power failure");
        inner.trace(|| "power fails".to_owned(), &[13]);
        let shorn = inner.rates.shorn;
        inner.store.fail_power(shorn, &mut self.random);
        inner.late.iter_mut().for_each(|late| *late = None);
    }

    fn restart_store(&self) {
        let mut inner = self.world.lock();
        inner.fault("store restart");
        inner.trace(|| "the store starts anew".to_owned(), &[17]);
        let alive: Vec<u64> = inner
            .nodes
            .iter()
            .filter(|node| node.runs && !node.killed)
            .map(|node| node.incarnation)
            .collect();
        inner.store.restart(|by| alive.contains(&by));
    }

    /// From here on nothing goes wrong. What is on its way arrives; at times everyone starts anew then, from what the store has.
    fn calm(&mut self) {
        let late = self.world.lock().late.len();
        for number in 0..late {
            self.arrive(number);
        }
        if self.random.percent(40) {
            self.kill_all();
        }
        let mut inner = self.world.lock();
        let now = inner.now;
        inner.chaos = false;
        inner.store.capacity = self.capacity;
        inner.rates.latency_max = inner.rates.latency_max.min(200);
        inner.trace(|| "calm".to_owned(), &[14]);
        inner.after(DRAINED_MAX, Event::End);
        inner.store.capacity = CALM_CAPACITY;
        self.calm_at = Some(now);
        let mut anyone = false;
        for node in 0..inner.nodes.len() {
            inner.nodes[node].wall_ms %= CLOCK_OFF_MAX;
            // Who stands still goes on, whatever it is in the middle of.
            inner.go_on(node);
            anyone |= inner.nodes[node].runs;
        }
        if !anyone {
            inner.after(1_000, Event::Start(0));
        }
    }

    fn is_done(&mut self) -> bool {
        if self.world.lock().lost_the_last {
            return true;
        }
        let Some(calm_at) = self.calm_at else {
            return false;
        };
        let mut inner = self.world.lock();
        if !self.progressed {
            self.progressed = self.history.last_confirmed_at > calm_at;
            if self.progressed {
                for client in &mut self.clients {
                    client.drain(&mut self.history);
                }
                return false;
            }
            let waits = inner.rates.place == Place::Remote
                || inner.rates.place == Place::Reckless && inner.rates.stands_by > 0;
            let limit = if waits {
                PROGRESS_AFTER_LEASE_MAX
            } else {
                PROGRESS_MAX
            };
            if inner.now > calm_at + limit {
                if inner.damaged.is_some() && (inner.rotten.is_none() || inner.rot_is_told) {
                    // It is refused, as it should be.
                    return true;
                }
                let ended: Vec<_> = inner.nodes.iter().map(|node| node.ended.clone()).collect();
                inner.violate(format!(
                    "nothing was confirmed within {limit} us after the last fault; nodes ended so: {ended:?}"
                ));
            }
            return false;
        }
        if inner.now < self.checked_at + CHECK_EVERY {
            return false;
        }
        self.checked_at = inner.now;
        self.history.missing().is_empty() && self.history.lacks().is_none()
    }

    fn end(mut self) -> Report {
        {
            let mut inner = self.world.lock();
            let missing = self.history.missing();
            if let Some(name) = inner.rotten.clone()
                && !missing.is_empty()
                && !inner.rot_is_told
                && !inner.lost_the_last
            {
                let many = missing.len();
                inner.violate(format!(
                    "never silent: a bit of {name} turned, {many} messages are missing, and nobody says so"
                ));
            }
            if inner.damaged.is_none()
                && let Some(what) = self.history.lacks()
            {
                inner.violate(what);
            }
            if inner.violation.is_none() && inner.damaged.is_none() && !missing.is_empty() {
                let some: Vec<_> = missing.iter().take(5).collect();
                let first = self.history.message(missing[0]);
                inner.violate(format!(
                    "confirmed is there: {} are missing, such as {some:?}; the first: {first:?}",
                    missing.len()
                ));
            }
        }
        self.kill_all();
        self.clients.clear();
        self.hangups.clear();
        let passed_on = self.history.shown.passed_on;
        if passed_on > 0 {
            let seen = &mut self.history.seen;
            seen.insert("showings that a successor knew of", passed_on);
        }
        let mut inner = self.world.lock();
        Report {
            seed: self.seed,
            hash: inner.hash(),
            violation: inner.violation.clone(),
            story: inner.story.take().unwrap_or_default(),
            time: inner.now,
            incarnations: self.incarnations,
            epochs: self.epochs,
            operations: inner.operations,
            takeovers: inner.takeovers,
            states_compared: inner.states_compared,
            faults: std::mem::take(&mut inner.faults),
            seen: std::mem::take(&mut self.history.seen),
            confirmed: self.history.confirmed,
            received: self.history.received,
        }
    }
}
