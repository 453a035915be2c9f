//! Wall clocks that are wrong, or are set: at a start, while the node runs, on the node that takes over.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
};

use bytes::Bytes;
use journal::OpenError;
use message::{Address, Message, Timestamp, VhostId};
use node::{
    Clocks, Config, Host, Machine, Manners, Node, Reason, Standby, StartError, Steps, Turn,
};
use session::{Command, Event, Lane, Link, Peer, Port, Publish, PublishOutcome, Token};

use super::{directory, log_in, small};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
/// When these tests begin.
const BEGAN: u64 = 1_700_000_000_000;

/// This machine, with clocks that the test sets.
struct Set {
    boot_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl Set {
    fn at(wall_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            boot_ms: AtomicU64::new(1_000),
            wall_ms: AtomicU64::new(wall_ms),
        })
    }

    fn pass(&self, ms: u64) {
        self.boot_ms.fetch_add(ms, Ordering::SeqCst);
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }

    fn set_wall(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Host for Set {
    fn vfs(&self) -> Arc<dyn journal::Vfs> {
        Machine.vfs()
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            boot_ms: self.boot_ms.load(Ordering::SeqCst),
            wall_ms: self.wall_ms.load(Ordering::SeqCst),
        }
    }

    fn random(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        Machine.random(bytes)
    }
}

fn users() -> Arc<auth::Users> {
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    Arc::new(users.expect("the default users are right"))
}

/// A node whose threads are the test.
struct Turned {
    node: Node,
    steps: Steps,
    host: Arc<Set>,
}

impl Turned {
    fn start(config: &Config, host: &Arc<Set>) -> Result<Self, StartError> {
        let (node, steps) = Node::start_stepped(config, users(), Arc::clone(host) as _)?;
        let mut turned = Self {
            node,
            steps,
            host: Arc::clone(host),
        };
        turned.work();
        Ok(turned)
    }

    fn work(&mut self) {
        self.steps.renew_lease();
        loop {
            let mut busy = self.steps.verify() | self.steps.keep() | self.steps.read();
            busy |= matches!(self.steps.commit(), journal::Step::Committed(_));
            if !busy {
                return;
            }
        }
    }

    /// Time goes on, and the node does what is due meanwhile.
    fn live(&mut self, ms: u64) {
        let step = (ms / 200).max(1_000).min(ms);
        for _ in 0..ms / step {
            self.host.pass(step);
            self.work();
        }
    }

    fn now(&self) -> u64 {
        self.node.now().0
    }

    /// A durable message that lives so long.
    fn publish(&mut self, lives_ms: u64) {
        let peer = Peer {
            address: ([127, 0, 0, 1], 9).into(),
            listener: "test",
            default_vhost: "/".into(),
        };
        let link = self.node.attach(peer).expect("there is room");
        let address = Address::queue(VhostId::ROOT, Bytes::from_static(b"jobs"));
        let mut message = Message::new(address, Bytes::from_static(b"a job"));
        message.durable = true;
        message.expiry = Some(Timestamp(self.now() + lives_ms));
        let publish = Command::Publish(Publish {
            token: Some(Token(1)),
            lane: Lane(0),
            message: Arc::new(message),
            mandatory: false,
            create: true,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        });
        assert!(matches!(
            self.ask(&link, log_in("guest", "guest"))[..],
            [Event::Authenticated { .. }]
        ));
        assert!(matches!(
            self.ask(&link, publish)[..],
            [Event::Published {
                outcome: PublishOutcome::Accepted { matched: 1, .. },
                ..
            }]
        ));
    }

    fn ask(&mut self, link: &Arc<dyn Link>, command: Command) -> Vec<Event> {
        link.submit(&mut [command].into());
        self.work();
        let mut events = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(link.poll_events(&mut cx, &mut events).is_ready());
        link.drained();
        events
    }

    fn ready(&self) -> u64 {
        self.node.counters().messages_ready
    }
}

/// What a start says to a wall clock, and the node if it goes on.
fn start_at(config: &Config, wall_ms: u64) -> Result<Turned, OpenError> {
    match Turned::start(config, &Set::at(wall_ms)) {
        Ok(turned) => Ok(turned),
        Err(StartError::Journal(error @ OpenError::Clock { .. })) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn with(dir: &Path, off_max_ms: u64) -> Config {
    let mut config = small(dir);
    config.journal.clock_off_max_ms = off_max_ms;
    config
}

#[test]
fn a_start_whose_clock_is_far_from_the_last_sign_of_life_is_refused_and_harms_nothing() {
    let dir = directory("clock-start");
    let config = with(&dir, 31 * DAY);
    let mut node = start_at(&config, BEGAN).expect("a new journal has seen no time");
    node.publish(400 * DAY);
    // Nothing is written for longer than the bound; that it lived all the time counts.
    node.live(60 * DAY);
    drop(node);
    let last = BEGAN + 60 * DAY;
    let refused = |wall| match start_at(&config, wall) {
        Ok(_) => panic!("{wall} is believed"),
        Err(error) => error.to_string(),
    };
    let said = refused(last + YEAR);
    for word in [
        "is at 2025-01-12T",
        "365 days after the last sign of life",
        "clock-start (2024-01-13T",
        "journal.clock_off_max_s",
    ] {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    refused(last + 31 * DAY + 60_000);
    let said = refused(last - 32 * DAY);
    assert!(
        said.contains("32 days before the last sign of life"),
        "{said}"
    );
    refused(0);
    // No epoch was begun, and nothing was lost.
    let node = start_at(&config, last + 30 * DAY).expect("a month off is no wonder");
    assert_eq!((node.node.epoch(), node.ready()), (2, 1));
    assert!(node.now() >= last + 30 * DAY);
    drop(node);
    // Whoever knows better says so.
    let willing = with(&dir, u64::MAX);
    let mut node = start_at(&willing, last + 2 * YEAR).expect("as the operator says");
    node.live(60_000);
    assert_eq!(node.ready(), 0, "its time is over");
}

#[test]
fn a_clock_that_is_a_little_behind_at_a_start_makes_time_stand_on_not_go_back() {
    let dir = directory("clock-behind");
    let config = with(&dir, 31 * DAY);
    let mut node = start_at(&config, BEGAN).expect("it starts");
    node.live(2 * HOUR);
    let last = node.now();
    drop(node);
    let mut node = start_at(&config, BEGAN + HOUR).expect("an hour behind is not much");
    assert!(node.now() + 5_000 >= last, "{} after {last}", node.now());
    // It goes on at nine tenths, until the wall clock has come up.
    let began = node.now();
    node.live(HOUR);
    let passed = node.now() - began;
    assert!(
        (HOUR * 89 / 100..=HOUR * 91 / 100).contains(&passed),
        "{passed}"
    );
    node.live(20 * HOUR);
    assert!(
        node.now().abs_diff(node.host.clocks().wall_ms) <= 2,
        "it caught up"
    );
}

#[test]
fn rules_b8_a_wall_clock_that_is_set_while_the_node_runs_neither_ends_lives_nor_draws_them_out() {
    for (name, ahead) in [("forth", true), ("back", false)] {
        let dir = directory(&format!("clock-set-{name}"));
        let config = with(&dir, 31 * DAY);
        let mut node = start_at(&config, BEGAN + YEAR).expect("it starts");
        node.publish(10 * HOUR);
        let wall = if ahead { BEGAN + 2 * YEAR } else { BEGAN };
        node.host.set_wall(wall);
        node.live(9 * HOUR);
        assert_eq!(
            node.ready(),
            1,
            "{name}: nine tenths of its life are never all of it"
        );
        node.live(2 * HOUR + HOUR / 4);
        assert_eq!(
            node.ready(),
            0,
            "{name}: eleven hours and a quarter are more than ten ninths of it"
        );
        // And the next start does not believe that clock.
        let wall = node.host.clocks().wall_ms;
        drop(node);
        assert!(start_at(&config, wall).is_err(), "{name}");
    }
}

#[test]
fn a_standby_goes_by_the_active_nodes_time_however_wrong_its_own_clock_is() {
    for (name, wall) in [("ahead", BEGAN + YEAR), ("behind", BEGAN - YEAR)] {
        let dir = directory(&format!("clock-standby-{name}"));
        let config = with(&dir, 31 * DAY);
        let mut active = start_at(&config, BEGAN).expect("it starts");
        active.publish(HOUR);
        let host = Set::at(wall);
        let mut standby =
            Standby::open(&config, Arc::clone(&host) as _, Manners::default()).expect("it follows");
        for _ in 0..600 {
            active.live(1_000);
            host.pass(1_000);
            while standby.turn().expect("it reads") != Turn::Idle {}
        }
        let before = active.now();
        drop(active);
        let reason = loop {
            host.pass(5);
            if let Turn::TakeOver(reason) = standby.turn().expect("it reads") {
                break reason;
            }
        };
        assert_eq!(reason, Reason::Dead);
        let (node, steps) =
            Node::take_over_stepped(standby, &config, users()).expect("it takes over");
        let mut node = Turned { node, steps, host };
        node.work();
        let after = node.now();
        assert!(
            (before..before + 3_000).contains(&after),
            "{name}: {after} after {before}"
        );
        assert_eq!(node.ready(), 1, "{name}");
        // Its own clock counts from here on, by a tenth at most: 50 minutes are left.
        node.live(44 * 60_000);
        assert_eq!(node.ready(), 1, "{name}");
        node.live(13 * 60_000);
        assert_eq!(node.ready(), 0, "{name}");
    }
}

#[test]
fn a_standby_that_never_saw_its_active_node_alive_does_not_take_over_with_a_clock_that_is_off() {
    let dir = directory("clock-unseen");
    let config = with(&dir, 31 * DAY);
    let mut active = start_at(&config, BEGAN).expect("it starts");
    active.publish(HOUR);
    // From here on it hangs.
    let host = Set::at(BEGAN + YEAR);
    let mut standby =
        Standby::open(&config, Arc::clone(&host) as _, Manners::default()).expect("it follows");
    loop {
        host.pass(5);
        if let Turn::TakeOver(reason) = standby.turn().expect("it reads") {
            assert_eq!(reason, Reason::Silent);
            break;
        }
    }
    let Err(error) = Node::take_over_stepped(standby, &config, users()) else {
        panic!("it takes over");
    };
    assert!(error.to_string().contains("365 days after"), "{error}");
    // Who hangs was not fenced.
    active.publish(HOUR);
}
