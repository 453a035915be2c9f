//! Two processes' worth of roles in one: what a node shows of the pair while it changes.

use std::{
    path::Path,
    sync::Arc,
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

use journal::MemVfs;
use node::{Change, Host, Manners, Pair, Standby, Turn};
use session::{Active, Command, Event, Link, Peer, Port, RefusalKind, Role};

use super::{HANGS, directory, driven::Driven, full::Small, log_in, publish, small};

fn pair(dir: &Path, name: &str) -> Arc<Pair> {
    let users = auth::Users::new(&auth::Config::default(), [7; auth::KEY_LEN]);
    let own = Active {
        addresses: vec![("test".into(), format!("{name}:1").into())],
    };
    let users = Arc::new(users.expect("the default users are right"));
    Pair::new(small(dir), users, own)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < HANGS, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What a client is told that logs in: where the active node is.
fn told(link: &Arc<dyn Link>) -> Option<String> {
    link.submit(&mut [log_in("guest", "guest")].into());
    let mut events = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(link.poll_events(&mut cx, &mut events).is_ready());
    let [Event::Refused { refusal, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    let place = refusal.active.as_ref()?.at("test")?;
    Some(place.to_string())
}

/// How a node refuses a login that it verifies though it lets nobody in.
fn judged(link: &Arc<dyn Link>, password: &'static str) -> RefusalKind {
    let mut command = log_in("guest", password);
    let Command::Authenticate(authenticate) = &mut command else {
        unreachable!("a login")
    };
    authenticate.verified_anywhere = true;
    link.submit(&mut [command].into());
    let mut events = Vec::new();
    until("a login is judged", || {
        let mut cx = Context::from_waker(Waker::noop());
        link.poll_events(&mut cx, &mut events).is_ready()
    });
    let [Event::Refused { refusal, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    refusal.kind
}

#[test]
fn a_client_of_a_node_that_is_not_active_is_told_where_the_active_one_is_by_then() {
    let dir = directory("told");
    let first = pair(&dir, "first");
    let Ok(Change::Active(node)) = first.change(|| ()) else {
        panic!("nobody else has it");
    };
    first.serve(&node);
    let second = pair(&dir, "second");
    let changing = {
        let second = Arc::clone(&second);
        thread::spawn(move || second.change(|| ()))
    };
    until("it follows", || second.cluster().active.is_some());
    let peer = Peer {
        address: ([127, 0, 0, 1], 9).into(),
        listener: "test",
        default_vhost: "/".into(),
    };
    let link = second.attach(peer).expect("it refuses by a link");
    assert_eq!(told(&link).as_deref(), Some("first:1"));
    // What it knows of the pair is for who could log in.
    assert_eq!(judged(&link, "guest"), RefusalKind::NotActive);
    assert_eq!(judged(&link, "guess"), RefusalKind::BadCredentials);
    assert_eq!(told(&link).as_deref(), Some("first:1"), "nobody is let in");

    // A node that is between two roles knows of the epoch that it had.
    first.retire(&node, false);
    let between = first.cluster();
    assert_eq!((between.role, between.epoch), (Role::Starting, 1));

    node.shutdown();
    let Ok(Ok(Change::Active(node))) = changing.join() else {
        panic!("it takes over");
    };
    assert_eq!(told(&link), None, "nobody is, for the moment");
    second.serve(&node);
    assert_eq!(second.cluster().epoch, 2);
    assert_eq!(told(&link).as_deref(), Some("second:1"));
    node.shutdown();
}

#[test]
fn a_standby_that_finds_batches_at_each_look_makes_ready_all_the_same_and_reads_little_else() {
    let disk = MemVfs::new(false);
    let config = Driven::config();
    let mut active = Driven::start(disk.clone(), &config).expect("it starts");
    let host = Arc::new(Small::new(disk.clone()));
    let mut standby =
        Standby::open(&config, Arc::clone(&host) as _, Manners::default()).expect("it follows");
    let mut reads = 0;
    for number in 0..50 {
        active.ask(publish("jobs", number, 100));
        host.pass(10);
        let before = disk.reads();
        assert_eq!(standby.turn().expect("it reads"), Turn::More);
        reads += disk.reads() - before;
    }
    assert!(standby.is_ready());
    assert!(reads < 75, "{reads} reads for 50 batches");
}

#[test]
fn a_standby_that_makes_the_snapshots_in_time_makes_all_of_them() {
    let disk = MemVfs::new(false);
    let mut config = Driven::config();
    config.journal.snapshot_every_bytes = 128 << 10;
    let mut active = Driven::start(disk.clone(), &config).expect("it starts");
    let host = Arc::new(Small::new(disk));
    let mut standby =
        Standby::open(&config, Arc::clone(&host) as _, Manners::default()).expect("it follows");
    let mut number = 0;
    // Two snapshots become due in less time than passes between two looks at an idle standby's.
    for round in 0..100 {
        for _ in 0..10 {
            number += 1;
            active.ask(publish("jobs", number, 100));
        }
        active.host.pass(100);
        host.pass(100);
        standby.turn().expect("it reads");
        standby.registrar().write().expect("the disk takes it");
        active.steps.prepare();
        active.steps.renew_lease();
        // Before that it is not known to be there.
        if round >= 10 {
            active.steps.keep_house();
        }
    }
    let metrics = active.node.metrics();
    let made = metrics
        .lines()
        .find(|line| line.starts_with("bascule_snapshots_total"));
    assert_eq!(made, Some("bascule_snapshots_total 0"), "{metrics}");
    let snapshots = Path::new(super::driven::DIR).join("snap");
    let made = host.vfs().list(&snapshots).expect("it is there").len();
    assert_eq!(made, 2, "the newest that the standby made are kept");
}
