//! A node's view of the one store: each call takes its time, and may be where the process is held up, or dies.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use journal::Mark;
use journal::vfs::{Access, Free, Lock, Vfs, VfsFile};

use crate::rates::Place;
use crate::world::{Dead, Inner, World};

/// For how long a machine believes what it knows of a directory, and of a file that it has open, in µs.
const DIRECTORY_STALE_MAX: u64 = 30_000_000;
const FILE_STALE_MAX: u64 = 60_000_000;
/// Batches begin at multiples of this.
const BLOCK: u64 = 4096;

/// One process of a node, to the store.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    pub(crate) node: usize,
    pub(crate) incarnation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    CreateDir,
    List,
    Open,
    Zero,
    Allocate,
    Link,
    Rename,
    Unlink,
    SyncDir,
    Read,
    Write,
    WriteDurable,
    Sync,
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

/// What a call does to the store, and what becomes of it if the process dies while it is on its way.
struct Call<'a> {
    kind: Kind,
    path: &'a Path,
    inode: usize,
    /// A write's bytes and offset.
    write: Option<(&'a [u8], u64)>,
}

impl Call<'_> {
    fn is_in(&self, directory: &str) -> bool {
        self.path
            .parent()
            .is_some_and(|parent| parent.ends_with(directory))
    }
}

impl Process {
    fn is_dead(&self, inner: &Inner) -> bool {
        let state = &inner.nodes[self.node];
        state.killed || state.incarnation != self.incarnation
    }

    /// The node says what it has committed or applied.
    pub(crate) fn has(&self, mark: Mark) {
        self.world.lock().has(self.node, mark);
    }

    /// How long something takes; at times the process stands still, or dies.
    fn linger(&self) -> io::Result<()> {
        let us = {
            let mut inner = self.world.lock();
            if self.is_dead(&inner) {
                return Err(dead());
            }
            let latency_max = inner.rates.latency_max;
            let mut us = match inner.random.below(4) {
                0 => 0,
                1 => inner.random.spread(1, latency_max),
                _ => inner.random.spread(1, 1 + latency_max / 20),
            };
            if inner.chaos {
                let (stall, pause, kill, pause_max) = {
                    let rates = &inner.rates;
                    (rates.stall, rates.pause, rates.kill, rates.pause_max)
                };
                if inner.random.chance(stall) {
                    inner.fault("stall");
                    us += inner.random.spread(1_000, pause_max);
                }
                if inner.nodes[self.node].slow_until > inner.now && inner.random.percent(50) {
                    let slow_call_max = inner.rates.slow_call_max;
                    us += inner.random.spread(slow_call_max / 16, slow_call_max);
                }
                if inner.random.chance(pause) {
                    let long = inner.random.spread(1_000, pause_max);
                    inner.pause(self.node, long);
                }
                if inner.random.chance(kill) {
                    let node = self.node;
                    inner.fault("kill in a call");
                    inner.nodes[node].killed = true;
                    inner.trace(
                        || format!("node {node} is killed in a call"),
                        &[2, node as u64],
                    );
                    return Err(dead());
                }
            }
            if us == 0 && inner.nodes[self.node].paused_until <= inner.now {
                return Ok(());
            }
            us
        };
        self.world.sleep(self.node, us, false).map_err(|_| dead())
    }

    /// The process died while a call was on its way: it was done, or not, or in part, or is yet to be.
    fn die(
        &self,
        call: &Call<'_>,
        effect: impl FnOnce(&mut Inner) -> io::Result<u64>,
    ) -> io::Error {
        let mut inner = self.world.lock();
        if inner.nodes[self.node].incarnation != self.incarnation {
            return dead();
        }
        let late = inner.rates.late_percent;
        let is_late = inner.rates.place != Place::Local && inner.random.percent(late);
        let choice = inner.random.below(3);
        match (choice, call.write) {
            (_, Some((bytes, offset))) if is_late => {
                inner.fault("late write");
                let us = inner.random.spread(1_000, 40_000_000);
                inner.arrives_later(us, call.inode, bytes, offset);
            }
            (0, _) => {}
            (1, Some((bytes, offset))) => {
                let mut random = inner.random.fork();
                inner
                    .store
                    .write_torn(call.inode, bytes, offset, &mut random);
            }
            _ => {
                let _ = effect(&mut inner);
            }
        }
        let (node, kind) = (self.node, call.kind);
        let name = call.path.display().to_string();
        inner.trace(
            || format!("node {node} died in {kind:?} of {name}: {choice}, late: {is_late}"),
            &[3, choice],
        );
        dead()
    }

    fn call(
        &self,
        call: &Call<'_>,
        effect: impl FnOnce(&mut Inner) -> io::Result<u64>,
    ) -> io::Result<u64> {
        {
            let inner = self.world.lock();
            if self.is_dead(&inner) {
                return Err(dead());
            }
        }
        let is_held_up = self.is_late_to_fence(call).is_err();
        if is_held_up || self.linger().is_err() || self.is_seen_early(call).is_err() {
            return Err(self.die(call, effect));
        }
        let done = {
            let mut inner = self.world.lock();
            inner.operations += 1;
            let done = match self.fails(call, &mut inner) {
                Some(error) => Err(error),
                None => effect(&mut inner),
            };
            let (node, kind) = (self.node, call.kind);
            let told = done.as_ref().map_or(u64::MAX, |&n| n);
            let name = call
                .path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let offset = call.write.map(|(_, offset)| offset);
            inner.trace(
                || format!("node {node} {kind:?} {name:?} {offset:?} -> {done:?}"),
                &[4, node as u64, kind as u64, told, offset.unwrap_or(0)],
            );
            self.goes_wrong_after(call, &mut inner, done)
        };
        self.linger()?;
        done
    }

    /// At times a fence is set long after whoever sets it has looked whether it may.
    fn is_late_to_fence(&self, call: &Call<'_>) -> Result<(), Dead> {
        let us = {
            let mut inner = self.world.lock();
            let rate = inner.rates.slow_fence;
            if !inner.chaos || rate == 0 || call.write.is_none() || !call.is_in("fence") {
                return Ok(());
            }
            if !inner.random.chance(rate) {
                return Ok(());
            }
            inner.fault("late fence");
            inner.random.spread(100_000, 5_000_000)
        };
        self.world.sleep(self.node, us, false)
    }

    /// At times everyone sees a durable write while it is not durable yet.
    fn is_seen_early(&self, call: &Call<'_>) -> io::Result<()> {
        let Some((bytes, offset)) = call.write.filter(|_| call.kind == Kind::WriteDurable) else {
            return Ok(());
        };
        {
            let mut inner = self.world.lock();
            let rate = inner.rates.early_sight;
            if !inner.chaos || !inner.random.chance(rate) {
                return Ok(());
            }
            if inner.store.write(call.inode, bytes, offset, None).is_err() {
                return Ok(());
            }
            inner.fault("write seen early");
            let node = self.node;
            let name = call.path.display().to_string();
            inner.trace(
                || format!("a write of node {node} to {name} at {offset} is seen"),
                &[16, node as u64, offset],
            );
        }
        self.linger()
    }

    /// At times the device fails.
    fn fails(&self, call: &Call<'_>, inner: &mut Inner) -> Option<io::Error> {
        let writes = matches!(call.kind, Kind::WriteDurable | Kind::Sync | Kind::Write);
        let rate = inner.rates.write_fails;
        if !inner.chaos || !writes || !inner.random.chance(rate) {
            return None;
        }
        inner.fault("write or sync fails");
        if let Some((bytes, offset)) = call.write
            && inner.random.percent(50)
        {
            let mut random = inner.random.fork();
            inner
                .store
                .write_torn(call.inode, bytes, offset, &mut random);
        }
        // Its pages look clean from here on, and are not on the disk.
        inner.store.fail_sync(call.inode);
        Some(io::Error::other("injected: the device failed"))
    }

    /// What else may come of a call that was done.
    fn goes_wrong_after(
        &self,
        call: &Call<'_>,
        inner: &mut Inner,
        done: io::Result<u64>,
    ) -> io::Result<u64> {
        if !inner.chaos {
            return done;
        }
        if call.kind == Kind::Link {
            let rate = inner.rates.link_reply_lost;
            if inner.random.chance(rate) {
                inner.fault("answer to a link lost");
                return Err(io::ErrorKind::AlreadyExists.into());
            }
        }
        let kill_names = inner.rates.kill_names;
        if matches!(call.kind, Kind::Rename | Kind::Unlink)
            && kill_names > 0
            && inner.random.chance(kill_names)
        {
            let node = self.node;
            inner.fault("kill after a change of names");
            inner.nodes[node].killed = true;
            inner.trace(
                || format!("node {node} is killed, with that name changed"),
                &[18, node as u64],
            );
        }
        let Some((bytes, offset)) = call.write.filter(|_| done.is_ok()) else {
            return done;
        };
        let (late_renewal, stray) = (inner.rates.late_renewal, inner.rates.stray);
        if call.is_in("lease")
            && inner.rates.place != Place::Local
            && inner.random.chance(late_renewal)
        {
            inner.fault("renewal sent twice");
            let us = inner.random.spread(1_000, 5_000_000);
            inner.arrives_later(us, call.inode, bytes, offset);
        }
        if call.is_in("seg")
            && call.kind == Kind::WriteDurable
            && inner.damaged.is_none()
            && inner.random.chance(stray)
        {
            let mut random = inner.random.fork();
            let here = (offset, bytes.len() as u64);
            if let Some(at) = inner.store.elsewhere(call.inode, here, BLOCK, &mut random) {
                let _ = inner.store.write_durable(call.inode, bytes, at);
                let name = call.path.display().to_string();
                inner.damage("stray write", format!("{name} at {at}, of {offset}"));
            }
        }
        done
    }

    fn on_path(
        &self,
        kind: Kind,
        path: &Path,
        effect: impl FnOnce(&mut Inner) -> io::Result<u64>,
    ) -> io::Result<u64> {
        let call = Call {
            kind,
            path,
            inode: 0,
            write: None,
        };
        self.call(&call, effect)
    }

    /// A call that changes a directory: what this machine knows of it is not believed any more.
    fn on_name(
        &self,
        kind: Kind,
        path: &Path,
        effect: impl FnOnce(&mut Inner) -> io::Result<u64>,
    ) -> io::Result<u64> {
        self.on_path(kind, path, |inner| {
            if let Some(dir) = path.parent() {
                inner.nodes[self.node].known.forget(dir);
            }
            effect(inner)
        })
    }

    /// Whether the machine goes by what it knows, this time, rather than ask the store.
    fn believes_cache(&self, inner: &mut Inner) -> bool {
        let rate = inner.rates.stale;
        inner.chaos && inner.rates.place != Place::Local && inner.random.chance(rate)
    }
}

/// What a machine knows of directories, and when it heard of it.
#[derive(Default)]
pub(crate) struct Known {
    lists: BTreeMap<PathBuf, (u64, Vec<String>)>,
    /// Names that were not there.
    absent: BTreeMap<PathBuf, u64>,
}

impl Known {
    fn forget(&mut self, dir: &Path) {
        self.lists.remove(dir);
        self.absent.retain(|path, _| path.parent() != Some(dir));
    }
}

struct Held {
    process: Process,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.process.world.lock();
        let holder = (self.process.node, self.process.incarnation);
        if inner.locks.get(&self.path) == Some(&holder) {
            inner.locks.remove(&self.path);
        }
    }
}

impl Vfs for Process {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.on_path(Kind::CreateDir, dir, |inner| {
            inner.store.create_dir(dir);
            Ok(0)
        })
        .map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        self.on_path(Kind::List, dir, |inner| {
            let oldest = inner.now.saturating_sub(DIRECTORY_STALE_MAX);
            let known = inner.nodes[self.node].known.lists.get(dir).cloned();
            let known = known.filter(|(at, _)| *at >= oldest);
            names = match known {
                Some((_, known)) if self.believes_cache(inner) => {
                    inner.fault("stale directory");
                    known
                }
                _ => {
                    let names = inner.store.list(dir)?;
                    if inner.rates.stale > 0 {
                        let heard = (inner.now, names.clone());
                        let known = &mut inner.nodes[self.node].known;
                        known.lists.insert(dir.to_owned(), heard);
                    }
                    names
                }
            };
            Ok(names.len() as u64)
        })?;
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn VfsFile>> {
        let inode = self.on_path(Kind::Open, path, |inner| {
            if access == Access::Create {
                if let Some(dir) = path.parent() {
                    inner.nodes[self.node].known.forget(dir);
                }
                return Ok(inner.store.create(path)? as u64);
            }
            let oldest = inner.now.saturating_sub(DIRECTORY_STALE_MAX);
            let absent = inner.nodes[self.node].known.absent.get(path).copied();
            if absent.is_some_and(|at| at >= oldest) && self.believes_cache(inner) {
                inner.fault("stale directory");
                return Err(io::ErrorKind::NotFound.into());
            }
            let found = inner.store.find(path);
            let now = inner.now;
            let known = &mut inner.nodes[self.node].known;
            match &found {
                Ok(_) => known.absent.remove(path),
                Err(_) => known.absent.insert(path.to_owned(), now),
            };
            Ok(found? as u64)
        })?;
        Ok(Arc::new(OpenFile {
            process: self.clone(),
            path: path.to_owned(),
            inode: inode as usize,
            direct,
            cache: Mutex::default(),
        }))
    }

    fn create_zeroed(&self, path: &Path, len: u64, _direct: bool) -> io::Result<()> {
        self.on_name(Kind::Zero, path, |inner| {
            inner.store.create_filled(path, len)
        })
        .map(drop)
    }

    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.on_name(Kind::Allocate, path, |inner| {
            inner.store.create_filled(path, len)
        })
        .map(drop)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on_name(Kind::Link, to, |inner| {
            inner.store.link(from, to).map(|()| 0)
        })
        .map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on_name(Kind::Rename, to, |inner| {
            inner.store.rename(from, to).map(|()| 0)
        })
        .map(drop)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.on_name(Kind::Unlink, path, |inner| {
            inner.store.unlink(path).map(|()| 0)
        })
        .map(drop)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.on_path(Kind::SyncDir, dir, |inner| {
            inner.store.sync_dir(dir);
            Ok(0)
        })
        .map(drop)
    }

    fn space(&self, _dir: &Path) -> io::Result<Free> {
        let inner = self.world.lock();
        Ok(Free {
            free: inner.store.free(),
            total: inner.store.capacity,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let mut inner = self.world.lock();
        if self.is_dead(&inner) {
            return Err(dead());
        }
        inner.store.find(path)?;
        if inner.rates.place != Place::Local {
            return Ok(Some(Box::new(())));
        }
        if inner.locks.contains_key(path) {
            return Ok(None);
        }
        inner
            .locks
            .insert(path.to_owned(), (self.node, self.incarnation));
        Ok(Some(Box::new(Held {
            process: self.clone(),
            path: path.to_owned(),
        })))
    }

    fn wait(&self, long: Duration) {
        let until = {
            let inner = self.world.lock();
            if inner.rates.place == Place::Reckless {
                return;
            }
            let us = u64::try_from(long.as_micros()).unwrap_or(u64::MAX);
            inner.now + inner.nodes[self.node].real_us(us)
        };
        // Whoever stands still is sent on when nothing goes wrong any more, and may be woken out of a sleep for it; time is not.
        loop {
            let us = until.saturating_sub(self.world.lock().now);
            // Whoever dies meanwhile hears of it at the next call.
            if us == 0 || self.world.sleep(self.node, us, false).is_err() {
                return;
            }
        }
    }

    fn direct_works(&self, _dir: &Path) -> bool {
        true
    }

    fn is_remote(&self, _dir: &Path) -> bool {
        self.world.lock().rates.place != Place::Local
    }
}

struct OpenFile {
    process: Process,
    path: PathBuf,
    inode: usize,
    /// Past the machine's cache.
    direct: bool,
    /// What was read by offset and length, and when: a cache that was made sure of when the file was opened.
    cache: Mutex<Cache>,
}

type Cache = BTreeMap<(u64, usize), (u64, Vec<u8>)>;

impl OpenFile {
    fn cached(&self, buf: &mut [u8], offset: u64, inner: &mut Inner) -> Option<usize> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, bytes) = cache.get(&(offset, buf.len()))?;
        if at + FILE_STALE_MAX < inner.now || !self.process.believes_cache(inner) {
            return None;
        }
        inner.fault("stale read");
        buf[..bytes.len()].copy_from_slice(bytes);
        Some(bytes.len())
    }

    fn write(&self, kind: Kind, buf: &[u8], offset: u64) -> io::Result<()> {
        let call = Call {
            kind,
            path: &self.path,
            inode: self.inode,
            write: Some((buf, offset)),
        };
        let (inode, by) = (self.inode, Some(self.process.incarnation));
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.process
            .call(&call, |inner| {
                match kind {
                    Kind::WriteDurable => inner.store.write_durable(inode, buf, offset)?,
                    _ => inner.store.write(inode, buf, offset, by)?,
                }
                Ok(buf.len() as u64)
            })
            .map(drop)
    }
}

impl VfsFile for OpenFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.process.on_path(Kind::Read, &self.path, |inner| {
            if !self.direct
                && let Some(n) = self.cached(buf, offset, inner)
            {
                return Ok(n as u64);
            }
            let n = inner.store.read(self.inode, buf, offset);
            if !self.direct && inner.rates.stale > 0 {
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                cache.insert((offset, buf.len()), (inner.now, buf[..n].to_vec()));
            }
            Ok(n as u64)
        })?;
        Ok(n as usize)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write(Kind::Write, buf, offset)
    }

    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write(Kind::WriteDurable, buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let call = Call {
            kind: Kind::Sync,
            path: &self.path,
            inode: self.inode,
            write: None,
        };
        self.process
            .call(&call, |inner| {
                inner.store.sync(self.inode);
                Ok(0)
            })
            .map(drop)
    }

    fn len(&self) -> io::Result<u64> {
        self.process.on_path(Kind::Read, &self.path, |inner| {
            Ok(inner.store.len(self.inode))
        })
    }
}
