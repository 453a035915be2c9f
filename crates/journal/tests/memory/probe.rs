//! A file system that lies is refused before anything rests on it, with what was seen.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use journal::vfs::{Access, Free, Lock, MemVfs, Vfs, VfsFile};
use journal::{Config, Direct, OpenError, probe};

use crate::history::{config, dir, payload, start};

/// What is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    /// The page cache cannot be bypassed.
    NoDirect,
    /// A descriptor goes on reading what was there when it was opened.
    Stale,
    /// Writes stay with the descriptor that wrote them.
    Kept,
    /// Reads past the page cache give zeros.
    Zeros,
    /// A write loses its second half.
    Torn,
    /// Descriptors that can write remember what they read: a fence that is never seen.
    StaleFence,
    /// A new file has another length than was written.
    Short,
    /// `link` takes a name that is taken, and moves it.
    LinkReplaces,
    /// It says that it did, and leaves the name where it was.
    LinkSaysYes,
    /// It fails for any reason but the right one.
    LinkFails,
    /// New names are listed later.
    Unlisted,
    /// Old ones are listed still.
    Undead,
    /// A lock is everybody's.
    Locks,
    /// A lock is nobody's.
    NeverLocks,
    /// No lie: another node makes it a journal between two looks.
    Neighbour,
}

struct Lying {
    inner: MemVfs,
    lie: Lie,
}

struct LyingFile {
    inner: Arc<dyn VfsFile>,
    lie: Lie,
    direct: bool,
    writes: bool,
    /// What it remembers.
    seen: Mutex<Option<Vec<u8>>>,
}

impl LyingFile {
    fn remembered(&self) -> std::sync::MutexGuard<'_, Option<Vec<u8>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.inner.len()?).expect("small")];
        self.inner.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl VfsFile for LyingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.inner.read_at(buf, offset)?;
        let at = usize::try_from(offset).expect("small");
        match self.lie {
            Lie::Zeros if self.direct && !self.writes => buf[..n].fill(0),
            Lie::StaleFence if self.writes && n == 4096 && self.remembered().is_none() => {
                *self.remembered() = Some(buf[..n].to_vec());
            }
            _ => {}
        }
        if let Some(seen) = &*self.remembered()
            && at + n <= seen.len()
        {
            buf[..n].copy_from_slice(&seen[at..at + n]);
        }
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(buf, offset)
    }

    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).expect("small");
        match self.lie {
            Lie::Kept => {
                let mut content = match self.remembered().take() {
                    Some(content) => content,
                    None => self.content()?,
                };
                content[at..at + buf.len()].copy_from_slice(buf);
                *self.remembered() = Some(content);
                Ok(())
            }
            Lie::Torn => self.inner.write_durable(&buf[..buf.len() / 2], offset),
            _ => self.inner.write_durable(buf, offset),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.len()? - u64::from(self.lie == Lie::Short))
    }
}

impl Vfs for Lying {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if self.lie == Lie::Neighbour && self.inner.list(crate::history::dir())?.is_empty() {
            start(&self.inner, 1).expect("opens").journal.shutdown();
        }
        let mut names = self.inner.list(dir)?;
        match self.lie {
            Lie::Unlisted => names.retain(|name| !name.ends_with("-name")),
            Lie::Undead => {
                let probed = names.iter().find(|name| name.ends_with("-data")).cloned();
                names.extend(probed.map(|name| name.replace("-data", "-name")));
            }
            _ => {}
        }
        Ok(names)
    }
    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn VfsFile>> {
        let file = LyingFile {
            inner: self.inner.open(path, access, false)?,
            lie: self.lie,
            direct,
            writes: access != Access::Read,
            seen: Mutex::default(),
        };
        if self.lie == Lie::Stale && access == Access::Read {
            let content = file.content()?;
            *file.remembered() = Some(content);
        }
        Ok(Arc::new(file))
    }
    fn create_zeroed(&self, path: &Path, len: u64, direct: bool) -> io::Result<()> {
        self.inner.create_zeroed(path, len, direct)
    }
    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.inner.allocate(path, len)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.inner.link(from, to) {
            Err(_) if self.lie == Lie::LinkSaysYes => Ok(()),
            Err(_) if self.lie == Lie::LinkFails => Err(io::Error::other("stale handle")),
            Err(_) if self.lie == Lie::LinkReplaces => {
                self.inner.unlink(to)?;
                self.inner.link(from, to)
            }
            linked => linked,
        }
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Free> {
        self.inner.space(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        match self.lie {
            Lie::Locks => Ok(Some(Box::new(()))),
            Lie::NeverLocks => Ok(None),
            _ => self.inner.lock(path),
        }
    }
    fn direct_works(&self, _dir: &Path) -> bool {
        self.lie != Lie::NoDirect
    }
    fn is_remote(&self, dir: &Path) -> bool {
        self.inner.is_remote(dir)
    }
}

fn tried(inner: &MemVfs, lie: Lie, config: &Config) -> Result<(), String> {
    let vfs = Lying {
        inner: inner.clone(),
        lie,
    };
    let found = probe(&vfs, dir(), config, [7; 16]);
    assert!(
        inner
            .list(dir())
            .expect("listed")
            .iter()
            .all(|name| !name.starts_with("probe")),
        "it leaves nothing: {lie:?}"
    );
    found.map_err(|error| {
        assert!(matches!(error, OpenError::Unfit { .. }), "{lie:?}: {error}");
        error.to_string()
    })
}

#[test]
fn a_directory_that_lies_is_refused_with_what_was_seen() {
    let local = MemVfs::new(false);
    let remote = MemVfs::new(false).elsewhere();
    tried(&local, Lie::None, &config()).expect("fit");
    tried(&remote, Lie::None, &config()).expect("fit");
    // In one kernel the page cache is the same for all.
    tried(&local, Lie::NoDirect, &config()).expect("fit for one machine");
    for (vfs, lie, words) in [
        (
            &remote,
            Lie::NoDirect,
            "does not let the page cache be bypassed",
        ),
        (
            &local,
            Lie::Stale,
            "a descriptor that was open before does not read it",
        ),
        (
            &local,
            Lie::Kept,
            "a descriptor that was open before does not read it",
        ),
        (
            &local,
            Lie::Zeros,
            "a descriptor that was open before does not read it: 0x00",
        ),
        (
            &local,
            Lie::Torn,
            "the descriptor that wrote it does not read it",
        ),
        (&local, Lie::StaleFence, "still looks clear"),
        (&remote, Lie::StaleFence, "still looks clear"),
        (&local, Lie::Short, "is said to have 8191"),
        (&local, Lie::LinkReplaces, "could be linked to again"),
        (&remote, Lie::LinkSaysYes, "could be linked to again"),
        (&local, Lie::LinkFails, "stale handle"),
        (&local, Lie::Unlisted, "that was made is not listed"),
        (&local, Lie::Undead, "that was removed is still listed"),
        (&local, Lie::Locks, "a lock that is held was given again"),
        (
            &local,
            Lie::NeverLocks,
            "a lock that nobody holds is refused",
        ),
    ] {
        let said = tried(vfs, lie, &config()).expect_err("it lies");
        assert!(said.contains(words), "{lie:?}: {said}");
        assert!(said.starts_with("/j is not fit for a journal: "), "{said}");
    }
    // Where a lock proves nothing it is not asked for.
    tried(&remote, Lie::Locks, &config()).expect("fit");
}

#[test]
fn a_shared_directory_is_not_read_through_the_page_cache() {
    let never = Config {
        direct: Direct::Never,
        ..config()
    };
    let said = tried(&MemVfs::new(false).elsewhere(), Lie::None, &never).expect_err("refused");
    assert!(said.contains("journal.direct is \"never\""), "{said}");
    tried(&MemVfs::new(false), Lie::None, &never).expect("fit for one machine");
}

#[test]
fn a_directory_that_another_node_makes_a_journal_meanwhile_is_one() {
    tried(&MemVfs::new(false), Lie::Neighbour, &config()).expect("fit");
}

#[test]
fn what_is_there_stays_as_it_was() {
    let vfs = MemVfs::new(false);
    let mut model = crate::history::Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    running.put(&mut model, payload(1, 100));
    running.step_all();
    // Somebody is serving, and what a killed process was trying lies about.
    vfs.create_zeroed(&dir().join("probe-00-data"), 4096, false)
        .expect("made");
    probe(&vfs, dir(), &config(), [7; 16]).expect("fit");
    running.put(&mut model, payload(2, 100));
    running.step_all();
    running.journal.shutdown();
    start(&vfs, 2).expect("opens").check(&model);

    let foreign = MemVfs::new(false);
    foreign.create_dir(dir()).expect("made");
    foreign
        .open(&dir().join("letter.txt"), Access::Create, false)
        .expect("made");
    let refused = probe(&foreign, dir(), &config(), [7; 16]);
    assert!(matches!(refused, Err(OpenError::Foreign { .. })));
    assert_eq!(foreign.list(dir()).expect("listed"), ["letter.txt"]);
}
