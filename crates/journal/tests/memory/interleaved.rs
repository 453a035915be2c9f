//! The flag principle at every interleaving of two processes on one store: between any two file operations
//! of one, the other does everything it wants to do.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use journal::vfs::{Access, Free, Lock, MemVfs, Vfs, VfsFile};
use journal::{Config, OpenError, Step};

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
}

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
