//! A disk that is full: publishes are refused before they use up what emptying it needs, and then it can be emptied (RULES 23).

use journal::vfs::{MemVfs, Vfs};
use journal::{Config, Space};

use crate::history::{Dice, Model, Running, config, dir, payload, start, start_with};

const DISK: u64 = 1 << 20;

fn tight() -> Config {
    Config {
        segments_ahead: 2,
        reserve_len: 64 << 10,
        space_low_percent: 0,
        space_high_percent: 0,
        ..config()
    }
}

/// A turn of the background thread, and of the housekeeper if it has a reason.
fn keep(running: &mut Running) {
    while running.engine.prepare() {}
    running.engine.hold_reserve();
    running.journal.check_space();
    let low = matches!(running.journal.space(), Space::Low(_));
    if running.journal.snapshot_due() || low && running.journal.snapshot_frees() {
        running.snapshot();
    }
    for (segment, _) in running.journal.sparse_segments() {
        if running.journal.can_empty(segment) {
            running.empty(segment);
        }
    }
    running.step_all();
    running.journal.reclaim();
}

/// Publishes of `len` bytes until one is refused; so many are staged at once.
fn fill(running: &mut Running, model: &mut Model, len: usize, at_once: usize) -> u64 {
    let mut taken = 0;
    loop {
        for _ in 0..at_once {
            if !running.journal.stage().takes_publish(len) {
                running.step_all();
                return taken;
            }
            running.put(model, payload(taken, len));
            taken += 1;
        }
        running.step_all();
        while running.engine.prepare() {}
    }
}

/// Deletes all there is, each in a batch of its own, with the care that is taken of a journal.
fn empty(running: &mut Running, model: &mut Model) {
    while !running.live.is_empty() {
        running.delete(model, 0);
        running.step_all();
        assert_eq!(running.journal.failure(), None);
        keep(running);
    }
    running.check(model);
    for _ in 0..3 {
        keep(running);
    }
}

#[test]
fn rules_23_a_disk_that_publishes_have_filled_is_emptied_again_and_again() {
    for (len, at_once) in [(100, 7), (3000, 1), (9000, 20), (15_000, 3)] {
        let vfs = MemVfs::new(false);
        vfs.set_free(Some(DISK));
        let mut model = Model::default();
        let mut running = start_with(&vfs, 1, tight()).expect("opens");
        keep(&mut running);
        let mut rounds = Vec::new();
        for _ in 0..4 {
            rounds.push(fill(&mut running, &mut model, len, at_once));
            empty(&mut running, &mut model);
        }
        // A batch takes a block at least.
        let each = (len + 50).max(4096 / at_once);
        let least = DISK / 4 / each as u64;
        assert!(
            rounds.iter().all(|taken| *taken > least),
            "the room comes back each time: {len} {rounds:?}"
        );
        running.journal.shutdown();
        start_with(&vfs, 2, tight()).expect("opens").check(&model);
    }
}

#[test]
fn rules_23_a_quota_that_publishes_have_used_up_is_emptied_again_and_again() {
    for (len, at_once) in [(100, 7), (3000, 1), (15_000, 3)] {
        let vfs = MemVfs::new(false);
        vfs.set_quota(Some(DISK));
        let config = Config {
            // A small segment and a snapshot.
            reserve_len: 256 << 10,
            ..tight()
        };
        let mut model = Model::default();
        let mut running = start_with(&vfs, 1, config).expect("opens");
        keep(&mut running);
        for round in 0..4 {
            let taken = fill(&mut running, &mut model, len, at_once);
            assert!(taken > 20, "{len} {round}");
            assert_eq!(running.journal.failure(), None, "{len} {round}");
            assert!(matches!(running.journal.space(), Space::Low(_)));
            empty(&mut running, &mut model);
            assert!(running.journal.stage().takes_publish(len), "{len} {round}");
        }
        running.journal.shutdown();
        start(&vfs, 2).expect("opens").check(&model);
    }
}

#[test]
fn rules_23_where_no_file_may_be_as_long_as_a_segment_publishes_are_refused_and_it_is_emptied() {
    let vfs = MemVfs::new(false);
    let config = Config {
        segment_len: 256 << 10,
        first_segment_len: 64 << 10,
        reserve_len: 128 << 10,
        ..tight()
    };
    let mut model = Model::default();
    let mut running = start_with(&vfs, 1, config.clone()).expect("opens");
    keep(&mut running);
    for n in 0..60 {
        assert!(running.journal.stage().takes_publish(3000));
        running.put(&mut model, payload(n, 3000));
        running.step_all();
        keep(&mut running);
    }
    running.journal.shutdown();
    // What is there may be longer; what is made may not.
    vfs.set_file_len_max(Some(96 << 10));
    let mut running = start_with(&vfs, 2, config).expect("opens");
    running.check(&model);
    keep(&mut running);
    assert!(matches!(running.journal.space(), Space::Low(_)));
    assert!(!running.journal.stage().takes_publish(1));
    empty(&mut running, &mut model);
    assert_eq!(running.journal.failure(), None);
}

#[test]
fn rules_23_where_a_quota_has_no_room_for_the_reserve_publishes_are_refused() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start_with(&vfs, 1, tight()).expect("opens");
    while running.engine.prepare() {}
    vfs.set_quota(Some(1000));
    running.engine.hold_reserve();
    assert!(!running.journal.stage().takes_publish(1));
    vfs.set_quota(Some(DISK));
    running.engine.hold_reserve();
    assert!(running.journal.stage().takes_publish(1));
    assert_eq!(vfs.quota(), Some(DISK - (64 << 10)));
    // Settling takes of it what it needs.
    vfs.set_quota(Some(0));
    while running.journal.stage().takes_publish(1) {
        running.put(&mut model, payload(1, 8000));
        running.step_all();
    }
    assert_eq!(running.journal.failure(), None);
    running.check(&model);
}

#[test]
fn rules_23_what_is_left_here_and_there_on_a_full_disk_is_moved_together() {
    let vfs = MemVfs::new(false);
    vfs.set_free(Some(DISK));
    let mut model = Model::default();
    let mut running = start_with(&vfs, 1, tight()).expect("opens");
    keep(&mut running);
    let mut dice = Dice(7);
    for _ in 0..4 {
        assert!(fill(&mut running, &mut model, 3000, 4) > 30);
        while running.live.len() > 20 {
            let nth = dice.below(running.live.len() as u64) as usize;
            running.delete(&mut model, nth);
            running.step_all();
            assert_eq!(running.journal.failure(), None);
            keep(&mut running);
        }
        running.check(&model);
        for _ in 0..3 {
            keep(&mut running);
        }
    }
    assert_eq!(running.live.len(), 20);
}

#[test]
fn of_the_reserve_only_that_much_is_given_up_which_is_needed_and_it_becomes_whole_again() {
    let vfs = MemVfs::new(false);
    vfs.set_free(Some(DISK));
    let config = Config {
        reserve_len: 256 << 10,
        ..tight()
    };
    let mut model = Model::default();
    let mut running = start_with(&vfs, 1, config).expect("opens");
    keep(&mut running);
    let reserve = || {
        let names = vfs.list(dir()).expect("listed").into_iter();
        let lens = names.filter(|name| name.starts_with("reserve-"));
        lens.map(|name| {
            let path = dir().join(name);
            let file = vfs.open(&path, journal::vfs::Access::Read, false);
            file.and_then(|file| file.len()).expect("it is there")
        })
        .sum::<u64>()
    };
    assert_eq!(reserve(), 256 << 10);
    // Somebody else fills the disk, but for a snapshot's room.
    let free = vfs.space(dir()).expect("known").free;
    let left = 100 << 10;
    vfs.set_free(Some(left));
    running.journal.check_space();
    let turn = |running: &mut Running, model: &mut Model| {
        running.put(model, payload(1, 8000));
        running.step_all();
        while running.engine.prepare() {}
    };
    let mut held = vec![reserve()];
    while held.last() != Some(&0) {
        turn(&mut running, &mut model);
        assert_eq!(running.journal.failure(), None);
        assert_eq!(vfs.space(dir()).expect("known").free, left);
        if held.last() != Some(&reserve()) {
            held.push(reserve());
        }
    }
    let pieces: Vec<_> = (0..=4).rev().map(|n| n * (64 << 10)).collect();
    assert_eq!(held, pieces);
    assert!(!running.journal.stage().takes_publish(1));
    vfs.set_free(Some(free));
    running.journal.check_space();
    running.engine.hold_reserve();
    assert_eq!(reserve(), 256 << 10);
    assert!(running.journal.stage().takes_publish(1));
    running.check(&model);
    running.journal.shutdown();
    start(&vfs, 2).expect("opens").check(&model);
}
