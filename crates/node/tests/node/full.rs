//! A disk that publishers fill as fast as they can, and that consumers alone empty again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use node::{Clocks, Config, Host, Machine, Node, Steps};
use session::{
    Command, Credit, DeliveryRange, Event, Lane, Outcome, PublishOutcome, RefusalKind, Settle,
    Token,
};

use super::{HANGS, User, consume, directory, publish, small};

const DISK: u64 = 12 << 20;
const LEN: usize = 100 << 10;

/// A machine with a disk in memory, on which time passes as its driver says.
pub(super) struct Small {
    disk: journal::MemVfs,
    ms: AtomicU64,
}

impl Small {
    pub(super) const fn new(disk: journal::MemVfs) -> Self {
        Self {
            disk,
            ms: AtomicU64::new(1_000),
        }
    }

    /// So much time passes, in ms.
    pub(super) fn pass(&self, ms: u64) {
        self.ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Host for Small {
    fn vfs(&self) -> Arc<dyn journal::Vfs> {
        Arc::new(self.disk.clone())
    }

    fn clocks(&self) -> Clocks {
        let ms = self.ms.load(Ordering::SeqCst);
        Clocks {
            boot_ms: ms,
            wall_ms: 1_600_000_000_000 + ms,
        }
    }

    fn random(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        Machine.random(bytes)
    }
}

/// Takes the steps of a node until it is told to end: what looks at the disk comes far less often than publishes do.
fn drive(host: &Small, mut steps: Steps, ends: &AtomicBool) {
    let mut round = 0_u64;
    while !ends.load(Ordering::SeqCst) {
        round += 1;
        let mut idle = true;
        while let journal::Step::Committed(_) = steps.commit() {
            idle = false;
            steps.prepare();
        }
        while steps.verify() || steps.read() {
            idle = false;
        }
        if round.is_multiple_of(50) || idle {
            host.ms.fetch_add(100, Ordering::SeqCst);
            steps.renew_lease();
            while steps.prepare() {}
            steps.keep();
            steps.keep_house();
        }
        if idle {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

fn config() -> Config {
    let mut config = small(&directory("bounded"));
    config.data_dir = "/bounded".into();
    config.journal.reserve_len = 512 << 10;
    config.journal.space_high_percent = 0;
    config
}

/// Publishes as many at once, again and again, until one is refused. Returns how many were taken.
fn fill(user: &mut User, at_once: u64) -> u64 {
    let mut taken = 0;
    loop {
        user.submit((0..at_once).map(|number| publish("orders", number, LEN)));
        let mut answers = 0;
        let before = taken;
        while answers < at_once {
            match user.next() {
                Event::Published { outcome, .. } => {
                    answers += 1;
                    match outcome {
                        PublishOutcome::Accepted { .. } => taken += 1,
                        PublishOutcome::Refused(refusal) => {
                            assert_eq!(refusal.kind, RefusalKind::StorageFull);
                        }
                        other => panic!("unexpected {other:?}"),
                    }
                }
                Event::Blocked { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        if taken - before < at_once {
            return taken;
        }
    }
}

/// Takes and settles so many messages, one at a time.
fn empty(node: &Node, count: u64) {
    let mut user = User::attach(node);
    user.submit([consume("orders", Credit::Window(1))]);
    let mut settled = 0;
    while settled < count {
        match user.next() {
            Event::Delivery(delivery) => {
                let id = delivery.id.expect("to be settled");
                user.submit([Command::Settle(Settle {
                    token: Some(Token(settled)),
                    lane: Lane(2),
                    deliveries: DeliveryRange {
                        queue: id.queue,
                        ranges: [(id.qseq, id.qseq)].into_iter().collect(),
                    },
                    outcome: Outcome::Accept,
                })]);
            }
            Event::Settled { .. } => settled += 1,
            Event::Subscribed { .. } | Event::Blocked { .. } => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn rules_23_consumers_alone_empty_a_disk_that_is_full() {
    let host = Arc::new(Small::new(journal::MemVfs::new(false)));
    host.disk.set_free(Some(DISK));
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    let users = Arc::new(users.expect("the default users are right"));
    let (node, steps) =
        Node::start_stepped(&config(), users, Arc::clone(&host) as _).expect("it starts");
    let ends = Arc::new(AtomicBool::new(false));
    let driver = {
        let (host, ends) = (Arc::clone(&host), Arc::clone(&ends));
        thread::spawn(move || drive(&host, steps, &ends))
    };
    let mut user = User::attach(&node);
    let most = DISK / LEN as u64;
    for at_once in [1, 64, 7] {
        let began = Instant::now();
        let mut waiting = 0;
        // The room comes back by itself.
        while waiting < most / 3 {
            waiting += fill(&mut user, at_once);
            assert!(began.elapsed() < HANGS, "only {waiting} found room");
            thread::sleep(Duration::from_millis(10));
        }
        empty(&node, waiting);
    }
    assert_eq!(node.failure(), None);
    ends.store(true, Ordering::SeqCst);
    driver.join().expect("nothing panicked");
    node.shutdown();
}
