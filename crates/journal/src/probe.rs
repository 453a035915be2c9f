//! Whether a directory keeps the promises that the journal rests on, found out by trying, before anything rests on them.
//!
//! | promise | what would break without it | how it is tried |
//! |---|---|---|
//! | a durable write is seen by another descriptor at once, by one that was open before too | a successor would miss what was confirmed | blocks of chance, written twice, read through two descriptors |
//! | a fence set by one process is seen by the other | a deposed writer would go on confirming | a file of zeros, opened as its owner does, written as a challenger does |
//! | `link` does not take a name that is taken | two nodes would own one epoch | the same name linked twice, then from another file |
//! | a name that was made is listed, one that was removed is not | epochs, snapshots and standbys would be overlooked | lists |
//! | on one machine: a lock is held by one at a time | two nodes would take over from each other without end | the same lock asked for twice |
//! | on a file system that other machines write: the page cache can be bypassed | reads would be answered by what this machine remembers | opening a file so |
//!
//! What a power cut leaves of a synced write cannot be tried, nor what another machine sees: mount options are for people
//! to get right.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::aligned::Aligned;
use crate::batch::BLOCK;
use crate::config::{Config, Direct};
use crate::error::OpenError;
use crate::layout::{Paths, Uuid, fence_is_clear, fenced_block, hex};
use crate::recovery;
use crate::vfs::{Access, Vfs, VfsFile};

/// Names of files that are there while a directory is tried.
pub(crate) const PREFIX: &str = "probe-";

/// Tries what the journal rests on in `dir`, which is made if it is not there. `uuid` is random: other nodes may try it at
/// the same time. What was there is not touched.
///
/// # Errors
/// [`OpenError::Unfit`] with what was seen, [`OpenError::Foreign`] or a file that could not be made, read or written.
pub fn probe(vfs: &dyn Vfs, dir: &Path, config: &Config, uuid: [u8; 16]) -> Result<(), OpenError> {
    vfs.create_dir(dir).map_err(OpenError::io("create", dir))?;
    recovery::check_not_foreign(vfs, &Paths::new(dir))?;
    let remote = vfs.is_remote(dir);
    let direct = config.direct == Direct::Auto && vfs.direct_works(dir);
    if remote && !direct {
        let what = match config.direct {
            Direct::Auto => "its file system does not let the page cache be bypassed (O_DIRECT)",
            Direct::Never => "journal.direct is \"never\"",
        };
        let what = format!(
            "other machines may write to it and {what}: what they wrote might not be seen here"
        );
        return Err(unfit(dir, what));
    }
    let probe = Probe {
        vfs,
        dir,
        uuid,
        direct,
        remote,
    };
    let found = probe.all();
    for path in probe.paths() {
        let _ = vfs.unlink(&path);
    }
    found
}

fn unfit(dir: &Path, what: impl Into<String>) -> OpenError {
    OpenError::Unfit {
        dir: dir.to_owned(),
        what: what.into(),
    }
}

struct Probe<'a> {
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    uuid: Uuid,
    direct: bool,
    remote: bool,
}

impl Probe<'_> {
    fn path(&self, which: &str) -> PathBuf {
        self.dir
            .join(format!("{PREFIX}{}-{which}", hex(&self.uuid)))
    }

    fn paths(&self) -> [PathBuf; 4] {
        ["data", "fence", "name", "other"].map(|which| self.path(which))
    }

    fn all(&self) -> Result<(), OpenError> {
        self.writes_are_seen()?;
        self.fences_are_seen()?;
        self.names_are_taken_once()?;
        self.names_are_listed()?;
        if !self.remote {
            self.locks_are_held_once()?;
        }
        Ok(())
    }

    fn unfit(&self, what: impl Into<String>) -> OpenError {
        unfit(self.dir, what)
    }

    fn open(
        &self,
        path: &Path,
        access: Access,
        direct: bool,
    ) -> Result<Arc<dyn VfsFile>, OpenError> {
        self.vfs
            .open(path, access, direct)
            .map_err(OpenError::io("open", path))
    }

    /// Two blocks that nobody has written before.
    fn blocks(&self, round: u8) -> Aligned {
        let mut blocks = Aligned::zeroed(2 * BLOCK);
        for (at, byte) in blocks.iter_mut().enumerate() {
            *byte = self.uuid[at % 16] ^ (at / 16) as u8 ^ round;
        }
        blocks
    }

    fn writes_are_seen(&self) -> Result<(), OpenError> {
        let path = self.path("data");
        let len = 2 * BLOCK as u64;
        self.vfs
            .create_zeroed(&path, len, self.direct)
            .map_err(OpenError::io("create", &path))?;
        let writer = self.open(&path, Access::Write, self.direct)?;
        let before = self.open(&path, Access::Read, self.direct)?;
        let found = before.len().map_err(OpenError::io("read", &path))?;
        if found != len {
            return Err(self.unfit(format!("a file of {len} bytes is said to have {found}")));
        }
        for round in [0, 1] {
            let wrote = self.blocks(round);
            // The second one first: no write goes behind what is there.
            for at in [BLOCK, 0] {
                writer
                    .write_durable(&wrote[at..at + BLOCK], at as u64)
                    .map_err(OpenError::io("write", &path))?;
            }
            let after = self.open(&path, Access::Read, self.direct)?;
            for (reader, which) in [
                (&writer, "the descriptor that wrote it"),
                (&before, "a descriptor that was open before"),
                (&after, "a descriptor opened since"),
            ] {
                let mut read = Aligned::zeroed(2 * BLOCK);
                let n = reader
                    .read_at(&mut read, 0)
                    .map_err(OpenError::io("read", &path))?;
                if n < read.len() {
                    return Err(self.unfit(format!(
                        "of {} bytes that were written and synced, {which} reads {n}",
                        wrote.len()
                    )));
                }
                let differs = (0..n).find(|&at| read[at] != wrote[at]);
                if let Some(at) = differs {
                    return Err(self.unfit(format!(
                        "a block was written and synced, and {which} does not read it: {:#04x} in place of {:#04x} at offset {at}",
                        read[at], wrote[at]
                    )));
                }
            }
        }
        Ok(())
    }

    fn fences_are_seen(&self) -> Result<(), OpenError> {
        let path = self.path("fence");
        self.vfs
            .create_zeroed(&path, BLOCK as u64, self.direct)
            .map_err(OpenError::io("create", &path))?;
        let owner = self.open(&path, Access::Write, self.direct && self.remote)?;
        let is_clear = || {
            let mut block = Aligned::zeroed(BLOCK);
            owner
                .read_at(&mut block, 0)
                .map(|n| fence_is_clear(&block[..n]))
                .map_err(OpenError::io("read", &path))
        };
        if !is_clear()? {
            return Err(self.unfit("a file of zeros does not read as zeros"));
        }
        self.open(&path, Access::Write, false)?
            .write_durable(&fenced_block(), 0)
            .map_err(OpenError::io("write", &path))?;
        if is_clear()? {
            return Err(self.unfit(
                "a fence that was set through one descriptor still looks clear through another",
            ));
        }
        Ok(())
    }

    fn names_are_taken_once(&self) -> Result<(), OpenError> {
        let (from, other, name) = (self.path("data"), self.path("fence"), self.path("name"));
        self.vfs
            .link(&from, &name)
            .map_err(OpenError::io("link", &name))?;
        for again in [&from, &other] {
            match self.vfs.link(again, &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(self.unfit(format!(
                        "linking to a name that is taken fails with \"{error}\", not because it is taken"
                    )));
                }
                Ok(()) => {
                    return Err(self.unfit("a name that was taken could be linked to again"));
                }
            }
        }
        let mut block = Aligned::zeroed(BLOCK);
        self.open(&name, Access::Read, self.direct)?
            .read_at(&mut block, 0)
            .map_err(OpenError::io("read", &name))?;
        if block[..] != self.blocks(1)[..BLOCK] {
            return Err(self.unfit("a link does not lead to the file that was linked first"));
        }
        Ok(())
    }

    fn names_are_listed(&self) -> Result<(), OpenError> {
        let (name, dir) = (self.path("name"), self.dir);
        let listed = || -> Result<bool, OpenError> {
            let names = self.vfs.list(dir).map_err(OpenError::io("list", dir))?;
            Ok(names.iter().any(|found| dir.join(found) == name))
        };
        self.vfs.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
        if !listed()? {
            return Err(self.unfit("a file that was made is not listed"));
        }
        self.vfs
            .unlink(&name)
            .map_err(OpenError::io("unlink", &name))?;
        if listed()? {
            return Err(self.unfit("a file that was removed is still listed"));
        }
        match self.vfs.open(&name, Access::Read, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(OpenError::io("open", &name)(error)),
            Ok(_) => Err(self.unfit("a file that was removed can still be opened")),
        }
    }

    fn locks_are_held_once(&self) -> Result<(), OpenError> {
        let path = self.path("data");
        let lock = || self.vfs.lock(&path).map_err(OpenError::io("lock", &path));
        let Some(first) = lock()? else {
            return Err(self.unfit("a lock that nobody holds is refused"));
        };
        if lock()?.is_some() {
            return Err(self.unfit("a lock that is held was given again"));
        }
        drop(first);
        if lock()?.is_none() {
            return Err(self.unfit("a lock that was given up is still held"));
        }
        Ok(())
    }
}
