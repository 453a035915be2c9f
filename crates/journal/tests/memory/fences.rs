//! Epochs and fences: a deposed writer confirms nothing and damages nothing (RULES 16, 17, 21).

use journal::{Failure, Step};

use crate::history::{Model, dir, payload, start};
use journal::vfs::{Access, MemVfs, Vfs};

/// Another process takes over while the first one is paused: it does not ask for the lock.
fn take_over(vfs: &MemVfs, uuid: u128) -> crate::history::Running {
    start(&vfs.without_locks(), uuid).expect("a takeover opens")
}

#[test]
fn rules_21_a_fenced_writer_confirms_nothing_and_nothing_of_it_is_lost() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut old = start(&vfs, 1).expect("opens");
    old.put(&mut model, payload(1, 100));
    old.step_all();
    let confirmed = old.journal.committed();
    let new = take_over(&vfs, 2);
    assert_eq!(new.epoch, 2);
    assert_eq!(new.journal.committed(), confirmed);
    new.check(&model);
    let mut lost = Model::default();
    old.put(&mut lost, payload(2, 100));
    assert_eq!(old.engine.step(), Step::Failed);
    assert_eq!(old.journal.committed(), confirmed, "not confirmed");
    assert!(matches!(old.journal.failure(), Some(Failure::Fenced(_))));
    assert!(!old.journal.stage().room());
    new.check(&model);
}

#[test]
fn a_late_write_of_a_closed_epoch_is_ignored() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut old = start(&vfs, 1).expect("opens");
    old.put(&mut model, payload(1, 100));
    old.step_all();
    let mut new = take_over(&vfs, 2);
    new.put(&mut model, payload(2, 100));
    new.step_all();
    // The old writer wakes up: its write lands in its own file, behind the cut.
    let mut lost = Model::default();
    old.put(&mut lost, payload(3, 3000));
    assert_eq!(old.engine.step(), Step::Failed);
    new.put(&mut model, payload(4, 100));
    new.step_all();
    let third = take_over(&vfs, 3);
    assert_eq!(third.journal.committed(), 3);
    third.check(&model);
}

#[test]
fn rules_17_an_unreadable_fence_counts_as_set() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    let fence = vfs.list(&dir().join("fence")).expect("listed").remove(0);
    vfs.truncate(&dir().join("fence").join(fence), 100);
    running.put(&mut Model::default(), payload(1, 10));
    assert_eq!(running.engine.step(), Step::Failed);
    assert!(matches!(
        running.journal.failure(),
        Some(Failure::Fenced(_))
    ));
}

#[test]
fn rules_16_files_of_an_earlier_incarnation_are_unlinked_and_never_written() {
    let vfs = MemVfs::new(true);
    let mut model = Model::default();
    let mut first = start(&vfs, 1).expect("opens");
    first.put(&mut model, payload(1, 100));
    first.step_all();
    assert!(first.engine.prepare(), "a spare is prepared");
    let before = vfs.list(&dir().join("seg")).expect("listed").len();
    assert_eq!(before, 2);
    first.journal.shutdown();
    let second = start(&vfs, 2).expect("opens");
    second.journal.reclaim();
    let names = vfs.list(&dir().join("seg")).expect("listed");
    assert!(
        names.iter().all(|name| !name.starts_with("1-2-")),
        "the spare is gone: {names:?}"
    );
    second.check(&model);
}

#[test]
fn epoch_records_stay_and_old_fences_go_once_a_snapshot_covers_them() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    for uuid in 1..6 {
        let mut running = start(&vfs, uuid).expect("opens");
        running.put(&mut model, payload(uuid as u64, 100));
        running.snapshot();
        running.journal.shutdown();
    }
    assert_eq!(vfs.list(&dir().join("epochs")).expect("listed").len(), 5);
    assert!(vfs.list(&dir().join("fence")).expect("listed").len() <= 3);
}

#[test]
fn a_failed_write_is_final() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    running.put(&mut model, payload(1, 100));
    running.step_all();
    vfs.fail_after(Some(0));
    let mut lost = Model::default();
    running.put(&mut lost, payload(2, 100));
    assert_eq!(running.engine.step(), Step::Failed);
    vfs.fail_after(None);
    assert_eq!(running.engine.step(), Step::Failed, "it is not tried again");
    assert!(matches!(
        running.journal.failure(),
        Some(Failure::Write { .. })
    ));
    assert_eq!(running.journal.committed(), 1);
    running.journal.shutdown();
    start(&vfs, 2).expect("opens").check(&model);
}

#[test]
fn the_fence_is_there_before_the_epoch_is() {
    let vfs = MemVfs::new(true);
    start(&vfs, 1).expect("opens");
    for at in 0..=vfs.ops_len() {
        let image = vfs.image(at, journal::vfs::Cut::All, false);
        let epochs = image.list(&dir().join("epochs")).unwrap_or_default();
        if epochs.contains(&"1".to_owned()) {
            let fences = image.list(&dir().join("fence")).expect("listed");
            assert_eq!(fences.len(), 1);
            let path = dir().join("fence").join(&fences[0]);
            let len = image.open(&path, Access::Read, false).and_then(|f| f.len());
            assert_eq!(len.expect("there"), 4096);
        }
    }
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicU64);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn whoever_asks_again_and_again_for_a_renewal_is_kept_and_woken_once() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    let woken: [std::sync::Arc<Woken>; 3] = Default::default();
    for _ in 0..1_000 {
        for (who, woken) in (0..).zip(&woken) {
            running
                .journal
                .on_renewal(who, std::sync::Arc::clone(woken).into());
        }
    }
    running.journal.forget_renewal(2);
    running.engine.renew_lease(|| 1);
    let counts = woken.map(|woken| woken.0.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(counts, [1, 1, 0]);
}
