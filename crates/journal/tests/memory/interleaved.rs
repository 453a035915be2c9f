//! The flag principle at every interleaving of two processes on one store: between any two file operations
//! of one, the other does everything it wants to do.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use journal::vfs::{Access, Free, Lock, MemVfs, Vfs, VfsFile};
use journal::{Config, Holder, OpenError, Scrubber, Standby, Step};
use message::StoredId;

use crate::history::{Model, Running, config, dir, live_ids, payload, start};

type Meanwhile = Box<dyn FnOnce() + Send>;

/// Counts operations down and runs something in front of one of them.
#[derive(Clone, Default)]
struct Pause(Arc<Mutex<Option<(usize, Meanwhile)>>>);

impl Pause {
    fn arm(&self, operations: usize, meanwhile: impl FnOnce() + Send + 'static) {
        *self.0.lock().expect("not poisoned") = Some((operations, Box::new(meanwhile)));
    }

    /// Whether it has run.
    fn is_over(&self) -> bool {
        self.0.lock().expect("not poisoned").is_none()
    }

    fn operation(&self) {
        let mut armed = self.0.lock().expect("not poisoned");
        let due = match &mut *armed {
            Some((0, _)) => armed.take(),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        drop(armed);
        if let Some((_, meanwhile)) = due {
            meanwhile();
        }
    }
}

struct Paused {
    inner: MemVfs,
    pause: Pause,
    /// Counts how often a lease is waited for.
    wait: Pause,
    /// A directory, and what the next look at it shows: an old list.
    listed: Listed,
}

type Listed = Arc<Mutex<Option<(&'static str, Vec<String>)>>>;

struct PausedFile {
    inner: Arc<dyn VfsFile>,
    pause: Pause,
}

impl Vfs for Paused {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.pause.operation();
        self.inner.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.pause.operation();
        let mut listed = self.listed.lock().expect("not poisoned");
        if let Some((_, names)) = listed.take_if(|(name, _)| dir.ends_with(name)) {
            return Ok(names);
        }
        self.inner.list(dir)
    }
    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn VfsFile>> {
        self.pause.operation();
        let inner = self.inner.open(path, access, direct)?;
        Ok(Arc::new(PausedFile {
            inner,
            pause: self.pause.clone(),
        }))
    }
    fn create_zeroed(&self, path: &Path, len: u64, direct: bool) -> io::Result<()> {
        self.pause.operation();
        self.inner.create_zeroed(path, len, direct)
    }
    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.pause.operation();
        self.inner.allocate(path, len)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pause.operation();
        self.inner.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pause.operation();
        self.inner.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.pause.operation();
        self.inner.unlink(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.pause.operation();
        self.inner.sync_dir(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Free> {
        self.inner.space(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        self.inner.lock(path)
    }
    fn wait(&self, _long: Duration) {
        self.wait.operation();
    }
    fn direct_works(&self, dir: &Path) -> bool {
        self.inner.direct_works(dir)
    }
    fn is_remote(&self, dir: &Path) -> bool {
        self.inner.is_remote(dir)
    }
}

impl VfsFile for PausedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.pause.operation();
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.pause.operation();
        self.inner.write_at(buf, offset)
    }
    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.pause.operation();
        self.inner.write_durable(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.pause.operation();
        self.inner.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

/// Opens for a process that can be paused, and does not ask for the lock.
fn start_paused(vfs: &MemVfs, pause: &Pause, uuid: u128) -> Result<Running, OpenError> {
    let paused = Paused {
        inner: vfs.without_locks(),
        pause: pause.clone(),
        wait: Pause::default(),
        listed: Arc::default(),
    };
    let config = Config {
        segments_ahead: 1,
        ..config()
    };
    let (opened, engine) =
        journal::open_stepped(Arc::new(paused), dir(), config, 1, uuid.to_be_bytes())?;
    let live = live_ids(opened.replay);
    Ok(Running {
        journal: opened.journal,
        engine,
        live,
        epoch: opened.epoch,
    })
}

#[test]
fn a_takeover_between_any_two_operations_of_a_commit_loses_nothing() {
    for body in [100, 5000] {
        let mut operations = 0;
        loop {
            let vfs = MemVfs::new(false);
            let pause = Pause::default();
            let mut model = Model::default();
            let mut old = start_paused(&vfs, &pause, 1).expect("opens");
            for n in 0..13 {
                old.put(&mut model, payload(n, body));
                old.step_all();
            }
            let before = old.journal.committed();
            let taken = Arc::new(Mutex::new(None));
            let (store, keep) = (vfs.without_locks(), Arc::clone(&taken));
            pause.arm(operations, move || {
                *keep.lock().expect("free") = Some(start(&store, 2).expect("a takeover succeeds"));
            });
            // Three commits, one of them with a roll.
            for n in 20..23 {
                old.put(&mut model, payload(n, body));
                old.engine.step();
            }
            if !pause.is_over() {
                assert!(
                    operations > 6,
                    "each commit is at least a write and a fence read"
                );
                break;
            }
            let confirmed = old.journal.committed();
            let mut new = taken.lock().expect("free").take().expect("it ran");
            assert!(
                new.journal.committed() >= confirmed,
                "paused at {operations}: a confirmed batch is lost"
            );
            assert!(confirmed >= before);
            assert_eq!(
                old.engine.step(),
                Step::Failed,
                "paused at {operations}: the old one must stop"
            );
            new.check(&model);
            // Whatever the old one wrote after that is nowhere to be seen.
            let shown = new.journal.committed();
            model.forget_behind(shown);
            new.put(&mut model, payload(50, 100));
            new.step_all();
            start(&vfs.without_locks(), 3).expect("opens").check(&model);
            operations += 1;
        }
    }
}

#[test]
fn a_commit_between_any_two_operations_of_a_takeover_is_kept_or_never_confirmed() {
    let mut operations = 0;
    loop {
        let vfs = MemVfs::new(false);
        let mut model = Model::default();
        let mut old = start(&vfs, 1).expect("opens");
        for n in 0..3 {
            old.put(&mut model, payload(n, 100));
            old.step_all();
        }
        old.put(&mut model, payload(10, 2000));
        let old = Arc::new(Mutex::new(old));
        let pause = Pause::default();
        let writer = Arc::clone(&old);
        pause.arm(operations, move || {
            writer.lock().expect("free").engine.step();
        });
        let new = start_paused(&vfs, &pause, 2).expect("a takeover succeeds");
        if !pause.is_over() {
            assert!(operations > 20);
            break;
        }
        let old = old.lock().expect("free");
        let (confirmed, taken) = (old.journal.committed(), new.journal.committed());
        assert!(
            taken >= confirmed,
            "paused at {operations}: a confirmed batch is lost"
        );
        for (id, payload) in model.live(taken) {
            assert_eq!(new.journal.read(id).expect("readable").1, payload);
        }
        operations += 1;
    }
}

#[test]
fn of_two_claimants_one_wins_at_every_interleaving() {
    let mut operations = 0;
    loop {
        let vfs = MemVfs::new(false);
        let mut model = Model::default();
        let mut first = start(&vfs, 1).expect("opens");
        first.put(&mut model, payload(1, 100));
        first.step_all();
        let pause = Pause::default();
        let other = Arc::new(Mutex::new(None));
        let (store, keep) = (vfs.without_locks(), Arc::clone(&other));
        pause.arm(operations, move || {
            *keep.lock().expect("free") = Some(start(&store, 2).expect("the undisturbed one wins"));
        });
        let paused = start_paused(&vfs, &pause, 3);
        if !pause.is_over() {
            assert!(operations > 20);
            break;
        }
        let mut other = other.lock().expect("free").take().expect("it ran");
        let epochs: Vec<u64> = match &paused {
            Ok(won) => vec![won.epoch, other.epoch],
            Err(OpenError::Lost { .. }) => vec![other.epoch],
            // It lost the race while it was reading: files went away under its eyes.
            Err(OpenError::Io { .. } | OpenError::Corrupt(_)) => vec![other.epoch],
            Err(error) => panic!("paused at {operations}: {error}"),
        };
        assert!(epochs.iter().all(|epoch| *epoch >= 2));
        assert!(
            epochs.len() < 2 || epochs[0] != epochs[1],
            "two writers of one epoch"
        );
        match paused {
            Ok(won) => {
                // The later epoch deposed the other one.
                let (mut old, mut new) = if won.epoch < other.epoch {
                    (won, other)
                } else {
                    (other, won)
                };
                new.put(&mut model, payload(2, 100));
                assert_eq!(
                    new.engine.step(),
                    Step::Committed(2),
                    "paused at {operations}"
                );
                old.put(&mut Model::default(), payload(3, 100));
                assert_eq!(old.engine.step(), Step::Failed, "paused at {operations}");
            }
            Err(_) => {
                other.put(&mut model, payload(2, 100));
                assert_eq!(
                    other.engine.step(),
                    Step::Committed(2),
                    "paused at {operations}"
                );
            }
        }
        let last = start(&vfs.without_locks(), 4).expect("opens");
        last.check(&model);
        operations += 1;
    }
}

#[test]
fn rules_17_who_waited_for_a_lease_does_not_end_the_epoch_that_began_meanwhile() {
    let vfs = MemVfs::new(false).elsewhere();
    let mut model = Model::default();
    let mut old = start(&vfs, 1).expect("opens");
    old.put(&mut model, payload(1, 100));
    old.step_all();
    let wait = Pause::default();
    let faster = Arc::new(Mutex::new(None));
    let (store, keep) = (vfs.clone(), Arc::clone(&faster));
    wait.arm(0, move || {
        *keep.lock().expect("free") = Some(start(&store, 2).expect("a takeover succeeds"));
    });
    let slower = Paused {
        inner: vfs,
        pause: Pause::default(),
        wait,
        listed: Arc::default(),
    };
    let opened = journal::open_stepped(Arc::new(slower), dir(), config(), 1, [3; 16]);
    assert!(
        matches!(opened, Err(OpenError::Lost { epoch: 2, .. })),
        "nobody has watched the lease of epoch 2"
    );
    let mut faster = faster.lock().expect("free").take().expect("it ran");
    faster.put(&mut model, payload(2, 100));
    assert!(
        matches!(faster.engine.step(), Step::Committed(_)),
        "it goes on"
    );
    faster.check(&model);
}

/// Follows the journal from a machine whose lists of directories may be old.
fn follow(vfs: &MemVfs, listed: &Listed, pause: &Pause) -> (Standby, Vec<StoredId>) {
    let careless = Paused {
        inner: vfs.without_locks(),
        pause: pause.clone(),
        wait: Pause::default(),
        listed: Arc::clone(listed),
    };
    let (standby, replay) = Standby::open(Arc::new(careless), dir(), config(), [7; 16], 0)
        .expect("the journal is in order");
    let live = live_ids(replay);
    for &id in &live {
        standby.journal().add_ref(id);
    }
    (standby, live)
}

#[test]
fn a_segment_that_an_old_list_does_not_show_is_not_taken_for_gone() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut active = start(&vfs, 1).expect("opens");
    for n in 0..100 {
        active.put(&mut model, payload(n, 3000));
        active.step_all();
    }
    // Nothing in the first ones is needed any more, but what went on in them is, as long as there is no snapshot.
    for _ in 0..60 {
        active.delete(&mut model, 0);
    }
    active.put(&mut model, payload(100, 3000));
    active.step_all();
    active.put(&mut model, payload(101, 3000));
    active.step_all();
    let segments = vfs.list(&dir().join("seg")).expect("listed");
    assert!(segments.len() > 3, "several are in use");
    let listed = Listed::default();
    let (standby, live) = follow(&vfs, &listed, &Pause::default());
    *listed.lock().expect("free") = Some(("seg", Vec::new()));
    let journal = standby.journal().clone();
    let mut live: BTreeSet<StoredId> = live.into_iter().collect();
    let taken = standby.take_over_stepped(2, |id, _, _| {
        live.insert(id);
        journal.add_ref(id);
        Ok::<_, Infallible>(())
    });
    taken.expect("nobody else claims");
    assert!(listed.lock().expect("free").is_none(), "it was looked at");
    start(&vfs.without_locks(), 3)
        .expect("nothing is missing")
        .check(&model);
}

#[test]
fn rules_21_a_snapshot_proves_nothing_of_an_epoch_that_it_is_not_of() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut old = start(&vfs, 1).expect("opens");
    for n in 0..2 {
        old.put(&mut model, payload(n, 100));
        old.step_all();
    }
    let mut new = start(&vfs.without_locks(), 2).expect("a takeover succeeds");
    for n in 2..5 {
        new.put(&mut model, payload(n, 100));
        new.step_all();
    }
    new.snapshot();
    // Too late: nobody is told that it is there.
    old.put(&mut Model::default(), payload(9, 100));
    assert_eq!(old.engine.step(), Step::Failed);
    let listed = Listed::default();
    *listed.lock().expect("free") = Some(("epochs", vec!["1".to_owned()]));
    let (standby, _) = follow(&vfs, &listed, &Pause::default());
    assert_eq!(standby.epoch(), 1, "it has yet to hear of epoch 2");
    assert!(
        standby.applied() <= 2,
        "batch 3 of epoch 1 is no part of the history"
    );
}

#[test]
fn a_lease_that_gets_shorter_is_shorter_before_anyone_can_read_so() {
    let vfs = MemVfs::new(false);
    let pause = Pause::default();
    let mut active = start_paused(&vfs, &pause, 1).expect("opens");
    active.engine.renew_lease(|| 0);
    assert_eq!(active.journal.lease_until(), 4_000, "it is alone");
    let (standby, _) = follow(&vfs, &Listed::default(), &Pause::default());
    for now_ms in [1_000, 2_000] {
        standby.registrar().write().expect("written");
        active.engine.look_at_standbys(now_ms);
    }
    let seen = Arc::new(Mutex::new(0));
    let (journal, keep) = (active.journal.clone(), Arc::clone(&seen));
    // Between the write of the lease and the look at the fence.
    pause.arm(1, move || {
        *keep.lock().expect("free") = journal.lease_until();
    });
    active.engine.renew_lease(|| 2_000);
    assert!(pause.is_over());
    let until = active.journal.lease_until();
    assert!(until < 4_000, "a standby is near");
    assert_eq!(
        *seen.lock().expect("free"),
        until,
        "whoever has read the new lease may take over as soon as that is over"
    );
}

#[test]
fn a_lease_that_gets_longer_counts_so_once_no_short_one_can_arrive_again() {
    let vfs = MemVfs::new(false);
    let mut active = start(&vfs, 1).expect("opens");
    let (standby, _) = follow(&vfs, &Listed::default(), &Pause::default());
    for now_ms in [1_000, 2_000] {
        standby.registrar().write().expect("written");
        active.engine.look_at_standbys(now_ms);
    }
    active.engine.renew_lease(|| 2_000);
    let short_ms = active.journal.lease_until() - 2_000;
    assert!(short_ms < 4_000, "a standby is near");
    // It is near no more.
    active.engine.look_at_standbys(10_000);
    for now_ms in [10_000, 10_100, 31_999] {
        active.engine.renew_lease(|| now_ms);
        assert_eq!(active.journal.lease_until(), now_ms + short_ms);
        assert!(
            active.engine.renewal_ms() < short_ms,
            "or it would lapse in between"
        );
    }
    active.engine.renew_lease(|| 32_000);
    assert_eq!(active.journal.lease_until(), 32_000 + 4_000);
    assert_eq!(active.engine.renewal_ms(), 1_000);
}

#[test]
fn short_renewals_that_arrive_again_in_both_slots_let_nobody_in_early() {
    let vfs = MemVfs::new(false).elsewhere();
    let mut active = start(&vfs, 1).expect("opens");
    let (mut standby, _) = follow(&vfs, &Listed::default(), &Pause::default());
    for now_ms in [1_000, 2_000] {
        standby.registrar().write().expect("written");
        active.engine.look_at_standbys(now_ms);
    }
    for now_ms in [2_000, 2_100] {
        active.engine.renew_lease(|| now_ms);
    }
    let leases = dir().join("lease");
    let names = vfs.list(&leases).expect("listed");
    let lease = leases.join(&names[0]);
    let file = vfs.open(&lease, Access::Write, false).expect("is there");
    let mut short = vec![0; 8192];
    file.read_at(&mut short, 0).expect("readable");
    // It is near no more.
    active.engine.look_at_standbys(10_000);
    for now_ms in (10_000..30_000).step_by(100) {
        active.engine.renew_lease(|| now_ms);
    }
    file.write_durable(&short, 0).expect("written");
    let mut now_ms = 30_000;
    while standby.look_at_holder(|| now_ms).expect("readable") == Holder::Alive {
        now_ms += 50;
    }
    assert!(
        now_ms > active.journal.lease_until(),
        "it may show things yet"
    );
}

#[test]
fn a_standby_that_stood_still_counts_from_when_it_has_read_the_lease() {
    let vfs = MemVfs::new(false).elsewhere();
    let pause = Pause::default();
    let mut active = start(&vfs, 1).expect("opens");
    let (mut standby, _) = follow(&vfs, &Listed::default(), &pause);
    let clock = Arc::new(AtomicU64::new(1_000));
    let now_ms = || clock.load(Ordering::Relaxed);
    active.engine.renew_lease(now_ms);
    let seen = standby.look_at_holder(now_ms).expect("readable");
    assert_eq!(seen, Holder::Alive);
    active.engine.renew_lease(|| 9_900);
    // It stands still while it looks.
    let later = Arc::clone(&clock);
    pause.arm(1, move || later.store(10_000, Ordering::Relaxed));
    standby.look_at_holder(now_ms).expect("readable");
    clock.store(10_010, Ordering::Relaxed);
    let seen = standby.look_at_holder(now_ms).expect("readable");
    assert_eq!(seen, Holder::Alive, "its lease is good for seconds yet");
}

#[test]
fn a_lease_stands_still_only_up_to_when_it_was_read() {
    let vfs = MemVfs::new(false).elsewhere();
    let pause = Pause::default();
    let mut active = start(&vfs, 1).expect("opens");
    let (mut standby, _) = follow(&vfs, &Listed::default(), &pause);
    let clock = Arc::new(AtomicU64::new(1_000));
    let now_ms = || clock.load(Ordering::Relaxed);
    active.engine.renew_lease(now_ms);
    standby.look_at_holder(now_ms).expect("readable");
    clock.store(2_000, Ordering::Relaxed);
    // It stands still while it looks: what the holder did meanwhile it does not know.
    let later = Arc::clone(&clock);
    pause.arm(1, move || later.store(60_000, Ordering::Relaxed));
    let seen = standby.look_at_holder(now_ms).expect("readable");
    assert!(pause.is_over());
    assert_eq!(seen, Holder::Alive, "nobody has seen it stand still");
    let seen = standby.look_at_holder(now_ms).expect("readable");
    assert_eq!(seen, Holder::Silent);
}

/// Takes over from a holder that renews its lease after it was last looked at, or does not. How often it is waited for once the fence
/// is set.
fn waits_behind_the_fence(follows: bool, renews: bool) -> usize {
    const MANY: usize = 100;
    let vfs = MemVfs::new(false).elsewhere();
    let mut active = start(&vfs, 1).expect("opens");
    active.put(&mut Model::default(), payload(1, 100));
    active.step_all();
    active.engine.renew_lease(|| 0);
    let (pause, wait) = (Pause::default(), Pause::default());
    let challenger = Arc::new(Paused {
        inner: vfs,
        pause: pause.clone(),
        wait: wait.clone(),
        listed: Arc::default(),
    });
    let mut renew = move || {
        if renews {
            active.engine.renew_lease(|| 0);
        }
    };
    if follows {
        let opened = Standby::open(challenger, dir(), config(), [7; 16], 0);
        let (mut standby, replay) = opened.expect("the journal is in order");
        for id in live_ids(replay) {
            standby.journal().add_ref(id);
        }
        standby.look_at_holder(|| 0).expect("readable");
        renew();
        wait.arm(MANY, || ());
        let taken = standby.take_over_stepped(2, |_, _, _| Ok::<_, Infallible>(()));
        taken.expect("nobody else claims");
    } else {
        let (second, behind) = (pause.clone(), wait.clone());
        wait.arm(0, move || {
            // The second look opens the lease and reads it.
            second.arm(2, renew);
            behind.arm(MANY, || ());
        });
        journal::open_stepped(challenger, dir(), config(), 1, [3; 16]).expect("it was silent");
        assert!(pause.is_over());
    }
    let armed = wait.0.lock().expect("free");
    MANY - armed.as_ref().expect("there are fewer").0
}

#[test]
fn who_has_set_the_fence_waits_for_a_lease_that_was_renewed_just_before() {
    for follows in [false, true] {
        assert_eq!(waits_behind_the_fence(follows, true), 1);
        assert_eq!(waits_behind_the_fence(follows, false), 0);
    }
}

/// A segment loses its header, and then its name, on the way to its next use: a standby that reads it again meanwhile waits for
/// the second.
#[test]
fn a_segment_that_is_being_given_back_is_no_damage() {
    for renamed in [false, true] {
        let vfs = MemVfs::new(false);
        let mut model = Model::default();
        let mut active = start(&vfs, 1).expect("opens");
        for n in 0..40 {
            active.put(&mut model, payload(n, 3_000));
            active.step_all();
        }
        let first = dir().join("seg").join(&segments_by_number(&vfs)[0]);
        let wait = Pause::default();
        let paused = Paused {
            inner: vfs.clone(),
            pause: Pause::default(),
            wait: wait.clone(),
            listed: Arc::default(),
        };
        let (standby, _replay) = Standby::open(Arc::new(paused), dir(), config(), [7; 16], 0)
            .expect("the journal is in order");
        let file = vfs.open(&first, Access::Write, false).expect("there");
        file.write_at(&[0; 4096], 0).expect("written");
        let (from, to) = (first.clone(), dir().join("seg").join("elsewhere"));
        wait.arm(0, move || {
            if renamed {
                vfs.rename(&from, &to).expect("there");
            }
        });
        let mut scrubber = Scrubber::new(standby.journal().clone());
        let mut found = Vec::new();
        while let Some((_, more)) = scrubber.turn() {
            found.extend(more);
        }
        assert!(wait.is_over(), "it was waited for");
        let found: Vec<_> = found.iter().map(|one| (&*one.path, one.offset)).collect();
        assert_eq!(found, if renamed { vec![] } else { vec![(&*first, 0)] });
    }
}

/// Names of segments of one epoch, in order.
fn segments_by_number(vfs: &MemVfs) -> Vec<String> {
    let mut names = vfs.list(&dir().join("seg")).expect("listed");
    names.sort_by_key(|name| name.split('-').nth(1).and_then(|n| n.parse::<u64>().ok()));
    names
}
