//! The one store: files as every node sees them, and what of them power failing now would leave.
//!
//! What was written is seen at once by everyone who reads past caches. It lasts once it was synced; of the rest any subset
//! may be there after power failed, by sectors. Changes of a directory last once that was synced, and each by itself.
//! A sync that failed leaves pages that look clean and that no later sync writes. A store on a machine of its own may start anew by itself:
//! what was not synced is gone then, unless whoever wrote it is still there and writes it again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::random::Random;

const SECTOR: usize = 512;

struct Write {
    offset: usize,
    bytes: Vec<u8>,
    /// The process whose machine still has it, and writes it again should the store forget it.
    by: Option<u64>,
    /// A sync of it has failed.
    lost: bool,
}

#[derive(Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
}

impl Inode {
    fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(bytes);
    }
}

/// A change of a directory that is not synced.
enum Entry {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Unlink(PathBuf),
}

impl Entry {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Create(path, _) | Self::Rename(_, path, _) | Self::Unlink(path) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
        }
    }
}

/// See the module.
pub(crate) struct Store {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    entries: Vec<Entry>,
    directories: BTreeSet<PathBuf>,
    /// Bytes that fit.
    pub(crate) capacity: u64,
}

impl Store {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            entries: Vec::new(),
            directories: BTreeSet::new(),
            capacity,
        }
    }

    fn used(&self) -> u64 {
        let inodes: BTreeSet<usize> = self.names.values().copied().collect();
        inodes
            .into_iter()
            .map(|inode| self.inodes[inode].seen.len() as u64)
            .sum()
    }

    pub(crate) fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    pub(crate) fn create_dir(&mut self, dir: &Path) {
        self.directories.insert(dir.to_owned());
    }

    pub(crate) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.directories.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = self.names.keys().filter(|path| path.parent() == Some(dir));
        let mut found: Vec<String> = names
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        let inside = self
            .directories
            .iter()
            .filter(|path| path.parent() == Some(dir));
        found.extend(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())));
        Ok(found)
    }

    pub(crate) fn find(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, entry: Entry) {
        entry.apply(&mut self.names);
        self.entries.push(entry);
    }

    pub(crate) fn create(&mut self, path: &Path) -> io::Result<usize> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.change(Entry::Create(path.to_owned(), inode));
        Ok(inode)
    }

    /// Makes the file so long, with zeros that last.
    fn fill(&mut self, inode: usize, len: u64) -> io::Result<()> {
        if self.free() < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(len).expect("files here fit memory");
        let inode = &mut self.inodes[inode];
        inode.seen = vec![0; len];
        inode.durable = vec![0; len];
        Ok(())
    }

    /// Creates a file of so many zeros that last. Returns its length.
    pub(crate) fn create_filled(&mut self, path: &Path, len: u64) -> io::Result<u64> {
        let inode = self.create(path)?;
        self.fill(inode, len).inspect_err(|_| {
            let _ = self.unlink(path);
        })?;
        Ok(len)
    }

    pub(crate) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        if self.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Entry::Create(to.to_owned(), inode));
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        self.change(Entry::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    pub(crate) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.change(Entry::Unlink(path.to_owned()));
        Ok(())
    }

    pub(crate) fn sync_dir(&mut self, dir: &Path) {
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|entry| entry.directory() == Some(dir));
        self.entries = rest;
        for entry in synced {
            entry.apply(&mut self.durable_names);
        }
    }

    pub(crate) fn read(&self, inode: usize, buf: &mut [u8], offset: u64) -> usize {
        let seen = &self.inodes[inode].seen;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(seen.len());
        let n = buf.len().min(seen.len() - start);
        buf[..n].copy_from_slice(&seen[start..start + n]);
        n
    }

    pub(crate) fn len(&self, inode: usize) -> u64 {
        self.inodes[inode].seen.len() as u64
    }

    fn room(&self, inode: usize, end: usize) -> io::Result<()> {
        let more = end.saturating_sub(self.inodes[inode].seen.len()) as u64;
        if more > 0 && self.free() < more {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Writes what everyone sees and a power failure may undo; also a new start of the store, unless `by` would write it again.
    pub(crate) fn write(
        &mut self,
        inode: usize,
        bytes: &[u8],
        offset: u64,
        by: Option<u64>,
    ) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("files here fit memory");
        self.room(inode, offset + bytes.len())?;
        let inode = &mut self.inodes[inode];
        Inode::put(&mut inode.seen, offset, bytes);
        inode.unsynced.push(Write {
            offset,
            bytes: bytes.to_vec(),
            by,
            lost: false,
        });
        Ok(())
    }

    pub(crate) fn write_durable(
        &mut self,
        inode: usize,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("files here fit memory");
        let end = offset + bytes.len();
        self.room(inode, end)?;
        let inode = &mut self.inodes[inode];
        Inode::put(&mut inode.seen, offset, bytes);
        Inode::put(&mut inode.durable, offset, bytes);
        inode
            .unsynced
            .retain(|write| write.offset >= end || write.offset + write.bytes.len() <= offset);
        Ok(())
    }

    /// A write that whoever asked for it does not see the end of: some of its sectors, and perhaps not for good.
    pub(crate) fn write_torn(
        &mut self,
        inode: usize,
        bytes: &[u8],
        offset: u64,
        random: &mut Random,
    ) {
        if random.percent(40) {
            // All of it is seen, and nothing durable: it did not get further than a cache.
            let _ = self.write(inode, bytes, offset, None);
            return;
        }
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            if random.percent(50) {
                let offset = offset + (number * SECTOR) as u64;
                let written = if random.percent(50) {
                    self.write_durable(inode, sector, offset)
                } else {
                    self.write(inode, sector, offset, None)
                };
                if written.is_err() {
                    return;
                }
            }
        }
    }

    pub(crate) fn sync(&mut self, inode: usize) {
        let inode = &mut self.inodes[inode];
        for write in std::mem::take(&mut inode.unsynced) {
            if write.lost {
                inode.unsynced.push(write);
            } else {
                Inode::put(&mut inode.durable, write.offset, &write.bytes);
            }
        }
    }

    /// A sync that fails: its pages are clean from here on, and not on the disk.
    pub(crate) fn fail_sync(&mut self, inode: usize) {
        for write in &mut self.inodes[inode].unsynced {
            write.lost = true;
        }
    }

    /// Power fails: what was not synced is there or not, by sectors. `shorn`: one that was just being written may hold anything.
    pub(crate) fn fail_power(&mut self, shorn: bool, random: &mut Random) {
        for inode in &mut self.inodes {
            for write in std::mem::take(&mut inode.unsynced) {
                let whole = random.below(3);
                for (number, sector) in write.bytes.chunks(SECTOR).enumerate() {
                    let at = write.offset + number * SECTOR;
                    if !write.lost && (whole == 0 || whole == 1 && random.percent(50)) {
                        Inode::put(&mut inode.durable, at, sector);
                    } else if shorn && whole == 1 && random.percent(20) {
                        let garbage: Vec<u8> = sector.iter().map(|_| random.next() as u8).collect();
                        Inode::put(&mut inode.durable, at, &garbage);
                    }
                }
            }
            if inode.seen != inode.durable {
                inode.seen.clone_from(&inode.durable);
            }
        }
        for entry in std::mem::take(&mut self.entries) {
            if random.percent(50) {
                entry.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
    }

    /// The store's machine starts anew: what was not synced is gone, but for what `alive` processes write again. Directories last:
    /// such stores answer once a change of them does.
    pub(crate) fn restart(&mut self, alive: impl Fn(u64) -> bool) {
        for inode in &mut self.inodes {
            let before = inode.unsynced.len();
            inode
                .unsynced
                .retain(|write| !write.lost && write.by.is_some_and(&alive));
            if inode.unsynced.len() < before {
                inode.seen.clone_from(&inode.durable);
                for write in &inode.unsynced {
                    Inode::put(&mut inode.seen, write.offset, &write.bytes);
                }
            }
        }
    }

    /// Where in a file something is that no write of so many bytes at `offset` would touch; `None` if there is no such place.
    pub(crate) fn elsewhere(
        &self,
        inode: usize,
        (offset, len): (u64, u64),
        align: u64,
        random: &mut Random,
    ) -> Option<u64> {
        let before = offset / align;
        if before < 2 || self.len(inode) < offset + len {
            return None;
        }
        let at = random.between(1, before - 1) * align;
        (at + len <= offset).then_some(at)
    }

    /// Turns a bit of a file that is at rest, behind everyone's back. Returns the path.
    pub(crate) fn rot(&mut self, random: &mut Random, under: &str) -> Option<(PathBuf, u64)> {
        let candidates: Vec<(&PathBuf, usize)> = self
            .names
            .iter()
            .filter(|(path, _)| path.parent().is_some_and(|dir| dir.ends_with(under)))
            .map(|(path, &inode)| (path, inode))
            .collect();
        if candidates.is_empty() {
            return None;
        }
        let (path, number) = *random.pick(&candidates);
        let path = path.clone();
        let inode = &mut self.inodes[number];
        let used = inode.seen.iter().rposition(|&byte| byte != 0)? + 1;
        let at = random.below(used as u64) as usize;
        let bit = 1 << random.below(8);
        inode.seen[at] ^= bit;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= bit;
        }
        Some((path, at as u64))
    }
}
