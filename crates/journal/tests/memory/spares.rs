//! Segments that are ready to be used: those that died and are used again, and when they go (RULES 16, 23).

use journal::Space;
use journal::vfs::{MemVfs, Vfs};

use crate::history::{Model, Running, dir, payload, start};

#[test]
fn a_segment_whose_making_failed_half_way_is_made_again() {
    // Behind its zeros: the name could not be synced, then the file not opened.
    for broken in ["sync", "open"] {
        let vfs = MemVfs::new(false);
        let mut model = Model::default();
        let mut running = start(&vfs, 1).expect("opens");
        while running.engine.prepare() {}
        // The one that was ready is used.
        for n in 0..30 {
            running.put(&mut model, payload(n, 3000));
            running.step_all();
            if running.journal.stats().segments == 2 {
                break;
            }
        }
        match broken {
            "sync" => vfs.fail_after(Some(1)),
            _ => vfs.set_open_max(Some(0)),
        }
        assert!(!running.engine.prepare(), "{broken}");
        vfs.fail_after(None);
        vfs.set_open_max(None);
        assert!(running.engine.prepare(), "{broken}");
        for n in 0..60 {
            running.put(&mut model, payload(n, 3000));
            running.step_all();
        }
        assert_eq!(running.journal.failure(), None, "{broken}");
        running.check(&model);
    }
}

fn segment_files(vfs: &MemVfs) -> u64 {
    let files = vfs.list(&dir().join("seg"));
    files.expect("the directory is there").len() as u64
}

/// Writes `count` messages, lets all of them go, and has what that leaves dead given back.
fn come_and_go(running: &mut Running, model: &mut Model, count: u64) {
    for n in 0..count {
        running.put(model, payload(n, 3000));
        running.step_all();
    }
    while !running.live.is_empty() {
        running.delete(model, 0);
    }
    // The second lets go of what only the first needed.
    for _ in 0..2 {
        running.put(model, payload(0, 20));
        running.snapshot();
        running.journal.reclaim();
    }
}

#[test]
fn segments_that_die_at_once_are_used_again_and_given_back_when_nobody_needs_them() {
    let vfs = MemVfs::new(true);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    come_and_go(&mut running, &mut model, 200);
    let first = running.journal.stats();
    assert!(first.recycled >= 8, "{first:?}");
    let (before, segments) = (vfs.ops_len(), dir().join("seg"));
    come_and_go(&mut running, &mut model, 100);
    assert!(running.journal.stats().recycled > first.recycled);
    for at in before..vfs.ops_len() {
        let op = vfs.op(at).expect("recorded");
        if let journal::vfs::Op::Create(_, path) = &op {
            assert!(!path.starts_with(&segments), "there were enough: {op:?}");
        }
    }
    // Of those that are needed again and again none is given back, of the others all but the usual ones.
    let spares = |running: &Running| running.journal.stats().spare_bytes / (64 << 10);
    running.journal.give_back_spares();
    let there = spares(&running);
    assert!(there > 8, "{there}");
    for _ in 0..3 {
        come_and_go(&mut running, &mut model, 20 * (there - 3));
        running.journal.give_back_spares();
    }
    assert!(spares(&running) > 6, "{} of {there}", spares(&running));
    running.journal.give_back_spares();
    let in_use = running.journal.stats().segments;
    assert_eq!(spares(&running), 2, "one ahead, and one more");
    assert_eq!(segment_files(&vfs), in_use + 2);
    // Their numbers are given once more, without a gap: whoever follows goes from each to the next.
    for n in 0..200 {
        running.put(&mut model, payload(n, 3000));
        running.step_all();
    }
    let names = vfs.list(&segments).expect("listed");
    let parts = names.iter().map(|name| name.split('-'));
    let mut numbers: Vec<u64> = parts
        .map(|mut parts| parts.nth(1).and_then(|number| number.parse().ok()))
        .map(|number| number.expect("the epoch, and the number"))
        .collect();
    numbers.sort_unstable();
    let last = numbers.len() - 8..;
    let apart = |pair: &[u64]| pair[1] - pair[0];
    assert!(
        numbers[last].windows(2).all(|pair| apart(pair) == 1),
        "{numbers:?}"
    );
    running.journal.shutdown();
    start(&vfs, 2).expect("opens").check(&model);
}

#[test]
fn a_start_waits_for_no_unlinking_of_what_is_left_of_the_epoch_before() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    come_and_go(&mut running, &mut model, 200);
    running.journal.shutdown();
    let before = segment_files(&vfs);
    assert!(before > 8, "{before}");
    let running = start(&vfs, 2).expect("opens");
    running.check(&model);
    assert_eq!(
        segment_files(&vfs),
        before + 1,
        "all, and the one of this epoch"
    );
    running.journal.reclaim();
    assert_eq!(segment_files(&vfs), running.journal.stats().segments);
}

#[test]
fn no_more_than_sixteen_segments_wait_to_be_used() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    come_and_go(&mut running, &mut model, 600);
    let stats = running.journal.stats();
    assert_eq!(stats.spare_bytes, 16 * (64 << 10), "{stats:?}");
    assert!(stats.unlinked > 4, "{stats:?}");
}

#[test]
fn on_a_remote_file_system_dead_segments_are_not_kept() {
    let vfs = MemVfs::new(false).elsewhere();
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    come_and_go(&mut running, &mut model, 200);
    let stats = running.journal.stats();
    assert_eq!(stats.spare_bytes, 2 * (64 << 10), "{stats:?}");
}

#[test]
fn where_the_disk_fills_up_dead_segments_are_not_kept() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    come_and_go(&mut running, &mut model, 200);
    let kept = segment_files(&vfs);
    assert!(kept > 8, "{kept}");
    // Publishes are not refused yet.
    vfs.set_free(Some((1_u64 << 40) / 100 * 5 + (900 << 20)));
    running.journal.check_space();
    assert!(!matches!(running.journal.space(), Space::Low(_)));
    running.journal.reclaim();
    assert_eq!(segment_files(&vfs), running.journal.stats().segments + 2);
    let before = running.journal.stats().recycled;
    come_and_go(&mut running, &mut model, 200);
    assert_eq!(segment_files(&vfs), running.journal.stats().segments + 2);
    assert!(running.journal.stats().recycled - before <= 4);
    running.journal.shutdown();
    start(&vfs, 2).expect("opens").check(&model);
}
