//! A node's view of the one store: each call takes its time, and may be where the process is held up, or dies.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use journal::vfs::{Access, Free, Lock, Vfs, VfsFile};

use crate::rates::Place;
use crate::world::{Event, Inner, LateWrite, World};

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

impl Process {
    fn is_dead(&self, inner: &Inner) -> bool {
        let state = &inner.nodes[self.node];
        state.killed || state.incarnation != self.incarnation
    }

    /// How long something takes; at times the process stands still, or dies.
    fn linger(&self) -> io::Result<()> {
        let us = {
            let mut inner = self.world.lock();
            if self.is_dead(&inner) {
                return Err(dead());
            }
            let rates = inner.rates.clone();
            let mut us = match inner.random.below(4) {
                0 => 0,
                1 => inner.random.spread(1, rates.latency_max),
                _ => inner.random.spread(1, 1 + rates.latency_max / 20),
            };
            if inner.chaos {
                if inner.random.chance(rates.stall) {
                    us += inner.random.spread(1_000, rates.pause_max);
                }
                if inner.random.chance(rates.pause) {
                    let long = inner.random.spread(1_000, rates.pause_max);
                    let until = inner.now + long;
                    inner.nodes[self.node].paused_until = until;
                    let node = self.node;
                    inner.trace(
                        || format!("node {node} stands still for {long} us"),
                        &[1, long],
                    );
                }
                if inner.random.chance(rates.kill) {
                    let node = self.node;
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
        let choice = inner.random.below(4);
        match (choice, call.write) {
            (0, _) => {}
            (1, Some((bytes, offset))) => {
                let mut random = inner.random.fork();
                inner
                    .store
                    .write_torn(call.inode, bytes, offset, &mut random);
            }
            (2, Some((bytes, offset))) if inner.rates.place != Place::Local => {
                let us = inner.random.spread(1_000, 40_000_000);
                let number = inner.late.len();
                inner.late.push(Some(LateWrite {
                    inode: call.inode,
                    bytes: bytes.to_vec(),
                    offset,
                }));
                inner.after(us, Event::Late(number));
            }
            _ => {
                let _ = effect(&mut inner);
            }
        }
        let (node, kind) = (self.node, call.kind);
        let name = call.path.display().to_string();
        inner.trace(
            || format!("node {node} died in {kind:?} of {name}: {choice}"),
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
        if self.linger().is_err() {
            return Err(self.die(call, effect));
        }
        let done = {
            let mut inner = self.world.lock();
            inner.operations += 1;
            let mut done = None;
            if inner.chaos {
                let rates = inner.rates.clone();
                let writes = matches!(call.kind, Kind::WriteDurable | Kind::Sync | Kind::Write);
                if writes && inner.random.chance(rates.write_fails) {
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
                    done = Some(Err(io::Error::other("injected: the device failed")));
                }
            }
            let done = done.unwrap_or_else(|| effect(&mut inner));
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
            if call.kind == Kind::Link && inner.chaos {
                let rate = inner.rates.link_reply_lost;
                if inner.random.chance(rate) {
                    Err(io::ErrorKind::AlreadyExists.into())
                } else {
                    done
                }
            } else {
                done
            }
        };
        self.linger()?;
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
            names = inner.store.list(dir)?;
            Ok(names.len() as u64)
        })?;
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access, _direct: bool) -> io::Result<Arc<dyn VfsFile>> {
        let inode = self.on_path(Kind::Open, path, |inner| {
            let inode = match access {
                Access::Read | Access::Write => inner.store.find(path)?,
                Access::Create => inner.store.create(path)?,
            };
            Ok(inode as u64)
        })?;
        Ok(Arc::new(OpenFile {
            process: self.clone(),
            path: path.to_owned(),
            inode: inode as usize,
        }))
    }

    fn create_zeroed(&self, path: &Path, len: u64, _direct: bool) -> io::Result<()> {
        let made = self.on_path(Kind::Zero, path, |inner| {
            let inode = inner.store.create(path)?;
            inner.store.fill(inode, len).inspect_err(|_| {
                let _ = inner.store.unlink(path);
            })?;
            Ok(len)
        });
        made.map(drop)
    }

    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        let made = self.on_path(Kind::Allocate, path, |inner| {
            let inode = inner.store.create(path)?;
            inner.store.fill(inode, len).inspect_err(|_| {
                let _ = inner.store.unlink(path);
            })?;
            Ok(len)
        });
        made.map(drop)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on_path(Kind::Link, to, |inner| {
            inner.store.link(from, to).map(|()| 0)
        })
        .map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on_path(Kind::Rename, to, |inner| {
            inner.store.rename(from, to).map(|()| 0)
        })
        .map(drop)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.on_path(Kind::Unlink, path, |inner| {
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
        if self.world.lock().rates.place == Place::Reckless {
            return;
        }
        let us = u64::try_from(long.as_micros()).unwrap_or(u64::MAX);
        // Whoever dies meanwhile hears of it at the next call.
        let _ = self.world.sleep(self.node, us, false);
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
}

impl VfsFile for OpenFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.process.on_path(Kind::Read, &self.path, |inner| {
            Ok(inner.store.read(self.inode, buf, offset) as u64)
        })?;
        Ok(n as usize)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let call = Call {
            kind: Kind::Write,
            path: &self.path,
            inode: self.inode,
            write: Some((buf, offset)),
        };
        self.process
            .call(&call, |inner| {
                inner.store.write(self.inode, buf, offset)?;
                Ok(buf.len() as u64)
            })
            .map(drop)
    }

    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let call = Call {
            kind: Kind::WriteDurable,
            path: &self.path,
            inode: self.inode,
            write: Some((buf, offset)),
        };
        self.process
            .call(&call, |inner| {
                inner.store.write_durable(self.inode, buf, offset)?;
                Ok(buf.len() as u64)
            })
            .map(drop)
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
