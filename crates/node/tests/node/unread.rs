//! Messages that cannot be read when a consumer is to get them: damaged ones, and those that a successor gave back.

use journal::{MemVfs, Vfs as _};

use super::{
    driven::{DIR, Driven},
    *,
};

const LEN: usize = 20 << 10;

/// A node with three messages, that keeps nothing in memory that is committed.
fn with_messages(disk: &MemVfs) -> Driven {
    let mut driven = start(disk);
    for number in 0..3 {
        let event = driven.ask(publish("orders", number, LEN));
        assert!(matches!(event, Event::Published { .. }), "{event:?}");
    }
    driven
}

fn start(disk: &MemVfs) -> Driven {
    let mut config = Driven::config();
    config.journal.cache_bytes_max = 0;
    config.broker.recent_bytes_max = 0;
    Driven::start(disk.clone(), &config).expect("it starts")
}

fn segments(disk: &MemVfs, epoch: u64) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("seg");
    let names = disk.list(&dir).expect("it is there").into_iter();
    let of_epoch = names.filter(|name| name.starts_with(&format!("{epoch}-")));
    of_epoch.map(|name| dir.join(name)).collect()
}

#[test]
fn a_damaged_message_that_a_consumer_was_to_get_is_noted() {
    let disk = MemVfs::new(false);
    let mut driven = with_messages(&disk);
    for segment in segments(&disk, 1) {
        let len = disk
            .open(&segment, journal::vfs::Access::Read, false)
            .and_then(|file| file.len())
            .expect("it is there");
        // In each message, wherever it lies.
        for at in (0..len).step_by(LEN / 2) {
            disk.flip(&segment, at as usize + 3000);
        }
    }
    for _ in 0..2 {
        assert!(driven.steps.health().damages < 2);
        driven.submit([consume("orders", Credit::Window(1))]);
        let events = driven.events();
        let reason = CloseReason::Internal;
        assert!(events.contains(&Event::Closing { reason }), "{events:?}");
        let health = driven.steps.health();
        assert_eq!(health.damages, 1, "{:?}", health.found);
        assert!(segments(&disk, 1).contains(&health.found[0].path));
        let (first, last) = health.found[0].batches.expect("a message lies in one");
        assert!(first == last && first > 0);
        // It is known.
        driven.connect();
    }
}

#[test]
fn a_node_whose_successor_gave_its_segments_back_says_that_it_is_not_active() {
    let disk = MemVfs::new(false);
    let mut driven = with_messages(&disk);
    let _successor = start(&disk.elsewhere());
    for segment in segments(&disk, 1) {
        disk.unlink(&segment).expect("it is there");
    }
    assert_eq!(driven.node.role(), Role::Active, "it does not know");
    // That takes no record, whose commit would tell.
    driven.submit([consume("orders", Credit::Window(1))]);
    let mut events = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        let _ = driven.link.poll_events(&mut cx, &mut events);
        while driven.steps.read() {}
    }
    let _ = driven.link.poll_events(&mut cx, &mut events);
    assert!(
        matches!(events[..], [Event::Subscribed { .. }]),
        "{events:?}"
    );
    events.clear();
    assert_eq!(driven.node.role(), Role::Stopped);
    let failure = driven.node.failure().expect("it has one");
    assert!(failure.contains("another process took over"), "{failure}");
    driven.node.expel(None);
    assert!(driven.link.poll_events(&mut cx, &mut events).is_ready());
    let reason = CloseReason::NotActive(None);
    assert_eq!(events, [Event::Closing { reason }]);
}
