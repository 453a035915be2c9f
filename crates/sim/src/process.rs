//! The process of a node: the node's own code, stepped, with the machine that the simulation gives it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use journal::{Mark, Step, Vfs};
use node::{Clocks, Config, Host, Manners, Node, REGISTER_EVERY, Role, Standby, Steps, Turn};

use crate::random::Random;
use crate::rates::{Place, Rates, Theme};
use crate::vfs::Process;
use crate::world::Serving;

/// When the simulated world began, in ms since the Unix epoch.
const BEGAN_MS: u64 = 1_700_000_000_000;

/// Behind one of so many batches the durable states of processes are compared: it costs.
const STATES_EVERY: u64 = 8;

/// Pieces that are read again at a time.
const SCRUBBED: usize = 20;

/// The machine of one node.
struct Machine {
    process: Process,
    random: Mutex<Random>,
}

impl Host for Machine {
    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(self.process.clone())
    }

    fn clocks(&self) -> Clocks {
        let inner = self.process.world.lock();
        let state = &inner.nodes[self.process.node];
        Clocks {
            boot_ms: state.clock_ms(inner.now),
            wall_ms: (BEGAN_MS + inner.now / 1000).saturating_add_signed(state.wall_ms),
        }
    }

    fn random(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.fill_with(|| random.next() as u8);
        Ok(())
    }
}

impl Process {
    /// What the history up to there has made of this process, if `encode` can tell.
    fn is_in(&self, mark: Mark, encode: impl FnOnce(&mut Vec<u8>) -> std::io::Result<bool>) {
        let shown = (self.incarnation, mark.batch);
        if !mark.batch.is_multiple_of(STATES_EVERY)
            || self.world.lock().nodes[self.node].shown == shown
        {
            return;
        }
        let mut state = Vec::new();
        if encode(&mut state).expect("memory takes it") {
            let mut inner = self.world.lock();
            inner.nodes[self.node].shown = shown;
            inner.is_in(self.incarnation, mark.batch, &state);
        }
    }
}

/// The life of a process, on a thread of its own.
pub(crate) fn live(process: &Process, config: &Config) {
    process.world.begin(process.node);
    let ended = catch_unwind(AssertUnwindSafe(|| serve(process, config)));
    let node = process.node;
    // The node goes with it, and gives up its lock; not under ours.
    let serving = process.world.lock().nodes[node].serving.take();
    drop(serving);
    let mut inner = process.world.lock();
    let ended = ended.unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("something");
        inner.violate(format!("node {node} panicked: {what}"));
        "panic".to_owned()
    });
    inner.trace(|| format!("node {node} ended: {ended}"), &[6, node as u64]);
    inner.tell(&ended);
    let state = &mut inner.nodes[node];
    state.runs = false;
    state.ended = ended;
    let holder = (node, process.incarnation);
    inner.locks.retain(|_, held| *held != holder);
    drop(inner);
    process.world.finish();
}

fn users() -> Arc<auth::Users> {
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    Arc::new(users.expect("the default users are right"))
}

/// Serves until it must not, or is killed. Returns why it ended.
fn serve(process: &Process, config: &Config) -> String {
    let (mut random, now) = {
        let mut inner = process.world.lock();
        (inner.random.fork(), inner.now)
    };
    // How often there is a look around the house, in µs.
    let house_every = random.spread(5_000, 250_000);
    let machine = Arc::new(Machine {
        process: process.clone(),
        random: Mutex::new(random.fork()),
    });
    let follows = {
        let inner = process.world.lock();
        let others = inner.nodes.iter().filter(|node| node.runs).count() > 1;
        others && random.percent(inner.rates.stands_by)
    };
    let begun = if follows {
        stand_by(process, config, &machine, &mut random)
    } else {
        Node::start_stepped(config, users(), machine).map_err(|error| refused(&error))
    };
    let (node, mut steps) = match begun {
        Ok(begun) => begun,
        Err(error) => return format!("failed to start: {error}"),
    };
    process.has(steps.mark());
    let node = Arc::new(node);
    let mut leap_max_ms = config.journal.clock_off_max_ms;
    {
        let time = session::Port::now(&*node).0;
        let mut inner = process.world.lock();
        inner.serves_by(process.node, time, leap_max_ms);
        let (at, epoch) = (process.node, node.epoch());
        let took = inner.now - now;
        inner.trace(
            || format!("node {at} serves epoch {epoch} after {took} us"),
            &[7, at as u64, epoch],
        );
        inner.epoch = inner.epoch.max(epoch);
        inner.nodes[at].serving = Some(Serving {
            node: Arc::clone(&node),
            epoch,
            incarnation: process.incarnation,
        });
    }
    let mut renew_at = now;
    let mut house_at = now;
    leap_max_ms = 0;
    loop {
        let time = session::Port::now(&*node).0;
        let now = {
            let mut inner = process.world.lock();
            inner.serves_by(process.node, time, leap_max_ms);
            inner.now
        };
        // What the threads of a node would do side by side comes in any order.
        if random.percent(50) {
            work(process, &mut steps);
        }
        if now >= renew_at {
            renew_at = now + steps.renew_lease() * 1000;
        }
        // A node that has failed says so at once: that its other threads are slow delays nothing, and while it waits clients ask and ask.
        if now >= house_at && node.failure().is_none() {
            steps.prepare();
            steps.keep_house();
            process.has(steps.mark());
            scrub(process, &mut steps);
            house_at = now + house_every;
        }
        let busy = work(process, &mut steps);
        if node.role() != Role::Active {
            return node.failure().unwrap_or_default();
        }
        let us = if busy {
            0
        } else {
            let due = steps.keep_at().since(session::Port::now(&*node));
            let now = process.world.lock().now;
            due.saturating_mul(1000)
                .min(renew_at.saturating_sub(now))
                .min(house_at.saturating_sub(now))
                .max(1)
        };
        if process.world.sleep(process.node, us, !busy).is_err() {
            return "killed".to_owned();
        }
    }
}

/// Why it does not start. That a history does not fit itself is no reason that there can be.
fn refused(error: &node::StartError) -> String {
    assert!(!matches!(error, node::StartError::Unfit { .. }), "{error}");
    error.to_string()
}

/// Follows the active node until it is gone, or, where nobody waits for leases, until chance says so; then takes its place.
fn stand_by(
    process: &Process,
    config: &Config,
    machine: &Arc<Machine>,
    random: &mut Random,
) -> Result<(Node, Steps), String> {
    let told = |error: node::StartError| refused(&error);
    let host = || Arc::clone(machine) as Arc<dyn Host>;
    let open = || Standby::open(config, host(), Manners::default()).map_err(told);
    let reckless = process.world.lock().rates.place == Place::Reckless;
    let mut standby = open()?;
    let mut register_at = 0;
    loop {
        let now = process.world.lock().now;
        if now >= register_at {
            // It may fail as the disk does: then nobody knows of this one.
            let _ = standby.registrar().write();
            register_at = now + REGISTER_EVERY.as_micros() as u64;
        }
        let turn = standby.turn();
        let applied = standby.applied();
        let calm = {
            let mut inner = process.world.lock();
            let at = process.node;
            inner.trace(
                || format!("node {at} follows, at batch {applied}"),
                &[15, at as u64, applied],
            );
            inner.has(at, standby.mark());
            inner.nodes[at].follows = Some(applied);
            !inner.chaos
        };
        let turn = turn.map_err(told)?;
        process.is_in(standby.mark(), |state| {
            standby.encode_state(state).map(|()| true)
        });
        let us = match turn {
            Turn::TakeOver(_) => break,
            Turn::Idle => random.between(1_000, 5_000),
            Turn::More => 0,
            Turn::Behind => {
                standby.leave();
                standby = open()?;
                0
            }
        };
        if reckless && !calm && random.chance(3_000) {
            break;
        }
        if process.world.sleep(process.node, us, false).is_err() {
            return Err("killed while it followed".to_owned());
        }
    }
    let taken = Node::take_over_stepped(standby, config, users()).map_err(told)?;
    process.world.lock().takeovers += 1;
    Ok(taken)
}

/// Reads on where the last time ended: more than nodes do, so that a pass comes to its end in a run.
fn scrub(process: &Process, steps: &mut Steps) {
    if process.world.lock().rates.theme != Theme::Rot {
        return;
    }
    for _ in 0..SCRUBBED {
        steps.scrub();
    }
    let mut inner = process.world.lock();
    for found in steps.health().found {
        inner.tell(&found.path.display().to_string());
    }
}

/// What the threads of a node would do now. False if there was nothing.
fn work(process: &Process, steps: &mut Steps) -> bool {
    let mut busy = false;
    while steps.verify() {
        busy = true;
    }
    if matches!(steps.commit(), Step::Committed(_)) {
        process.has(steps.mark());
        process.is_in(steps.mark(), |state| steps.encode_state(state));
        busy = true;
    }
    busy |= steps.keep();
    while steps.read() {
        busy = true;
    }
    busy
}

/// What a node is started with.
pub(crate) fn config(seed: u64, rates: &Rates, random: &mut Random) -> Config {
    let segment_len = if random.percent(50) {
        64 << 10
    } else {
        random.spread(64 << 10, 256 << 10)
    };
    let mut config = Config {
        data_dir: Path::new("/data").to_owned(),
        journal: journal::Config {
            segment_len,
            first_segment_len: 64 << 10,
            batch_len_max: random.spread(8 << 10, 32 << 10) as usize,
            staged_bytes_max: random.spread(32 << 10, 1 << 20) as usize,
            cache_bytes_max: random.spread(16 << 10, 4 << 20) as usize,
            snapshot_every_bytes: random.spread(16 << 10, 1 << 20),
            segments_ahead: random.between(1, 2) as usize,
            reserve_len: random.below(2) * (128 << 10),
            space_high_percent: 15,
            space_low_percent: random.below(2) * 5,
            space_low_bytes: 0,
            sparse_percent: random.between(20, 60),
            // What is kept in streams is not over at a blow, and clocks that are years off are refused.
            clock_off_max_ms: 7_200_000,
            ..journal::Config::default()
        },
        broker: broker::Config {
            recent_bytes_max: random.below(2) * (64 << 10),
            dedup_ms: rates.dedup_ms,
            replay_slice: rates.replay_slice,
            ..broker::Config::default()
        },
        ..Config::default()
    };
    match rates.theme {
        Theme::House => {
            config.journal.segment_len = 64 << 10;
            config.journal.snapshot_every_bytes = Theme::random(seed).spread(16 << 10, 128 << 10);
        }
        Theme::Rot => config.journal.segment_len = 64 << 10,
        Theme::Any | Theme::Leases | Theme::State | Theme::Steps => {}
    }
    config
}
