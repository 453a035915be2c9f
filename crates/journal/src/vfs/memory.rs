//! A file system in memory that records what was asked of it, and builds every image that a crash may leave behind.
//!
//! At a cut, what was synced is there; each other operation, and the one in flight, may have happened, not happened, or
//! (a write) have happened in part, by sectors of 512 bytes. Directory entries are reordered the same way.
//! Deliberately absent: permissions, times, sparse files, lying syncs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Access, Free, Lock, Vfs, VfsFile};
use crate::batch::BLOCK;

const SECTOR: usize = 512;

/// One recorded operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// A file was made under this name.
    Create(usize, PathBuf),
    /// Zeros were written from the start of the file.
    Zeros(usize, u64),
    /// Bytes were written; durable on return if the flag says so.
    Write(usize, u64, Bytes, bool),
    /// The file's contents were synced.
    Sync(usize),
    /// A second name.
    Link(PathBuf, PathBuf),
    /// Another name.
    Rename(PathBuf, PathBuf),
    /// A name less.
    Unlink(PathBuf),
    /// The entries of a directory were synced.
    SyncDir(PathBuf),
}

/// Which of the operations that were not synced at a cut happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of them.
    All,
    /// None of them.
    None,
    /// All but the one with this index.
    Dropped(usize),
    /// All, but of the write with this index only the sectors (of this many bytes) that the seed picks.
    Torn(usize, usize, u64),
    /// Each one, or each of its sectors, as the seed says.
    Random(u64),
}

#[derive(Clone, Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    contents: Vec<Vec<u8>>,
}

struct Disk {
    base: State,
    now: State,
    ops: Vec<Op>,
    recording: bool,
    free: Option<u64>,
    /// What a quota leaves, of which nobody is told before it is used up.
    quota: Option<u64>,
    /// How long a file may be.
    file_len_max: Option<u64>,
    /// Files that are open, and that may be.
    open: usize,
    open_max: Option<usize>,
    /// Durable writes and syncs that still succeed; then all fail.
    good_writes: Option<u64>,
    /// Bytes that were read of files, and in how many reads.
    bytes_read: u64,
    reads: u64,
}

/// A file system in memory that records.
#[derive(Clone)]
pub struct MemVfs {
    disk: Arc<Mutex<Disk>>,
    /// Paths that are locked, by whoever shares this list.
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// The files are seen from another machine.
    remote: bool,
}

struct MemFile {
    disk: Arc<Mutex<Disk>>,
    inode: usize,
    direct: bool,
}

impl MemFile {
    /// What `O_DIRECT` asks for, of which some file systems ask less.
    fn check(&self, buf: &[u8], offset: u64) {
        let start = buf.as_ptr().align_offset(BLOCK);
        assert!(
            !self.direct
                || (start == 0
                    && buf.len().is_multiple_of(BLOCK)
                    && offset.is_multiple_of(BLOCK as u64)),
            "{} bytes at {offset}, {start} bytes in front of a multiple in memory, are no blocks",
            buf.len()
        );
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        held(&self.disk).open -= 1;
    }
}

struct MemLock {
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
    path: PathBuf,
}

impl Drop for MemLock {
    fn drop(&mut self) {
        held(&self.locks).remove(&self.path);
    }
}

fn held<T>(disk: &Mutex<T>) -> MutexGuard<'_, T> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A small generator of our own, so that a seed means the same everywhere (SplitMix64).
fn next_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Default for MemVfs {
    fn default() -> Self {
        Self::new(true)
    }
}

impl MemVfs {
    /// An empty file system. Without `recording` it keeps no list of operations.
    #[must_use]
    pub fn new(recording: bool) -> Self {
        Self::of(State::default(), recording)
    }

    fn of(state: State, recording: bool) -> Self {
        Self {
            locks: Arc::default(),
            remote: false,
            disk: Arc::new(Mutex::new(Disk {
                base: if recording {
                    state.clone()
                } else {
                    State::default()
                },
                now: state,
                ops: Vec::new(),
                recording,
                free: None,
                quota: None,
                file_len_max: None,
                open: 0,
                open_max: None,
                good_writes: None,
                bytes_read: 0,
                reads: 0,
            })),
        }
    }

    /// The same files as seen by a process that does not see our locks: another host, or one that does not ask.
    #[must_use]
    pub fn without_locks(&self) -> Self {
        Self {
            disk: Arc::clone(&self.disk),
            locks: Arc::default(),
            remote: self.remote,
        }
    }

    /// The same files as another machine sees them, where locks prove nothing. It waits for nobody's lease.
    #[must_use]
    pub fn elsewhere(&self) -> Self {
        Self {
            remote: true,
            ..self.without_locks()
        }
    }

    /// The same contents in a file system of its own.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::of(held(&self.disk).now.clone(), false)
    }

    /// How many operations were recorded.
    #[must_use]
    pub fn ops_len(&self) -> usize {
        held(&self.disk).ops.len()
    }

    /// The recorded operation with this index.
    #[must_use]
    pub fn op(&self, index: usize) -> Option<Op> {
        held(&self.disk).ops.get(index).cloned()
    }

    /// How many bytes were read of files.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        held(&self.disk).bytes_read
    }

    /// How often a file was read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        held(&self.disk).reads
    }

    /// Says how many bytes are free: files cannot take more.
    pub fn set_free(&self, free: Option<u64>) {
        held(&self.disk).free = free;
    }

    /// Says how many bytes a quota leaves: files cannot take more, whatever is free.
    pub fn set_quota(&self, left: Option<u64>) {
        held(&self.disk).quota = left;
    }

    /// How many bytes the quota leaves.
    #[must_use]
    pub fn quota(&self) -> Option<u64> {
        held(&self.disk).quota
    }

    /// Says how long a file may be that is made or gets longer (`RLIMIT_FSIZE`).
    pub fn set_file_len_max(&self, len: Option<u64>) {
        held(&self.disk).file_len_max = len;
    }

    /// Says how many files may be open at a time; with as many no other one can be opened (`EMFILE`).
    pub fn set_open_max(&self, open: Option<usize>) {
        held(&self.disk).open_max = open;
    }

    /// Lets this many more durable writes and syncs succeed, then fails all.
    pub fn fail_after(&self, writes: Option<u64>) {
        held(&self.disk).good_writes = writes;
    }

    /// Changes a byte behind everyone's back.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip(&self, path: &Path, offset: usize) {
        let mut disk = held(&self.disk);
        let inode = disk.now.names[path];
        disk.now.contents[inode][offset] ^= 0x40;
    }

    /// Cuts a file short behind everyone's back.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn truncate(&self, path: &Path, len: usize) {
        let mut disk = held(&self.disk);
        let inode = disk.now.names[path];
        disk.now.contents[inode].truncate(len);
    }

    /// The operations that a crash in front of operation `at` may undo, that one in flight included.
    #[must_use]
    pub fn unsynced(&self, at: usize) -> Vec<usize> {
        let disk = held(&self.disk);
        let ops = &disk.ops[..at.min(disk.ops.len())];
        let mut pending: Vec<usize> = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            match op {
                Op::Sync(inode) => pending.retain(
                    |&i| !matches!(&ops[i], Op::Zeros(n, _) | Op::Write(n, ..) if n == inode),
                ),
                Op::SyncDir(dir) => pending.retain(|&i| entry_dir(&ops[i]) != Some(dir)),
                Op::Write(_, _, _, true) => {}
                _ => pending.push(index),
            }
        }
        let in_flight = disk.ops.get(at);
        if in_flight.is_some_and(|op| !matches!(op, Op::Sync(_) | Op::SyncDir(_))) {
            pending.push(at);
        }
        pending
    }

    /// What is on the disk after a crash in front of operation `at`, that one in flight.
    #[must_use]
    pub fn image(&self, at: usize, cut: Cut, recording: bool) -> Self {
        let pending: BTreeSet<usize> = self.unsynced(at).into_iter().collect();
        let disk = held(&self.disk);
        let mut seed = match cut {
            Cut::Torn(_, _, seed) | Cut::Random(seed) => seed,
            Cut::All | Cut::None | Cut::Dropped(_) => 0,
        };
        let mut state = disk.base.clone();
        for (index, op) in disk.ops.iter().enumerate().take(at + 1) {
            if index == at && !pending.contains(&at) {
                break;
            }
            let sector = match cut {
                _ if !pending.contains(&index) => None,
                Cut::All => None,
                Cut::None => continue,
                Cut::Dropped(i) if i == index => continue,
                Cut::Torn(i, sector, _) if i == index => Some(sector),
                Cut::Dropped(_) | Cut::Torn(..) => None,
                Cut::Random(_) => match next_random(&mut seed) % 3 {
                    0 => continue,
                    1 => None,
                    _ => Some(SECTOR),
                },
            };
            state.apply(op, sector, &mut seed);
        }
        state.dirs.clone_from(&disk.now.dirs);
        Self::of(state, recording)
    }

    /// What a process sees that starts after another one was killed in front of operation `at`: everything that it did,
    /// synced or not. What was not synced may still be undone by a crash later.
    #[must_use]
    pub fn killed(&self, at: usize) -> Self {
        let pending: BTreeSet<usize> = self.unsynced(at).into_iter().collect();
        let durable = self.image(at, Cut::None, true);
        let disk = held(&self.disk);
        let mut next = held(&durable.disk);
        for (index, op) in disk.ops.iter().enumerate() {
            if pending.contains(&index) {
                let op = match op.clone() {
                    Op::Write(inode, offset, bytes, _) => Op::Write(inode, offset, bytes, false),
                    op => op,
                };
                next.run(op);
            }
        }
        drop(next);
        durable
    }

    fn failing(disk: &mut Disk) -> io::Result<()> {
        match &mut disk.good_writes {
            Some(0) => Err(io::Error::other("injected failure")),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// The directory whose entry an operation changed.
fn entry_dir(op: &Op) -> Option<&Path> {
    match op {
        Op::Create(_, path) | Op::Link(_, path) | Op::Rename(_, path) | Op::Unlink(path) => {
            path.parent()
        }
        Op::Zeros(..) | Op::Write(..) | Op::Sync(_) | Op::SyncDir(_) => None,
    }
}

impl State {
    fn content(&mut self, inode: usize) -> &mut Vec<u8> {
        if self.contents.len() <= inode {
            self.contents.resize(inode + 1, Vec::new());
        }
        &mut self.contents[inode]
    }

    /// Applies an operation, of a write only some sectors if `sector` says how large they are.
    fn apply(&mut self, op: &Op, sector: Option<usize>, seed: &mut u64) {
        match op {
            Op::Create(inode, path) => {
                self.content(*inode);
                self.names.insert(path.clone(), *inode);
            }
            Op::Zeros(inode, len) => {
                let len = usize::try_from(*len).expect("test files fit memory");
                let content = self.content(*inode);
                if content.len() < len {
                    content.resize(len, 0);
                }
            }
            Op::Write(inode, offset, data, _) => {
                let start = usize::try_from(*offset).expect("test files fit memory");
                let content = self.content(*inode);
                if content.len() < start + data.len() {
                    content.resize(start + data.len(), 0);
                }
                let piece = sector.unwrap_or_else(|| data.len().max(1));
                for (i, chunk) in data.chunks(piece).enumerate() {
                    if sector.is_none() || next_random(seed) & 1 == 0 {
                        let at = start + i * piece;
                        content[at..at + chunk.len()].copy_from_slice(chunk);
                    }
                }
            }
            Op::Link(from, to) => {
                if let Some(&inode) = self.names.get(from) {
                    self.names.entry(to.clone()).or_insert(inode);
                }
            }
            Op::Rename(from, to) => {
                if let Some(inode) = self.names.remove(from) {
                    self.names.insert(to.clone(), inode);
                }
            }
            Op::Unlink(path) => {
                self.names.remove(path);
            }
            Op::Sync(_) | Op::SyncDir(_) => {}
        }
    }
}

impl Disk {
    fn run(&mut self, op: Op) {
        self.now.apply(&op, None, &mut 0);
        if self.recording {
            self.ops.push(op);
        }
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.now
            .names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn new_inode(&mut self, path: &Path) -> io::Result<usize> {
        if self.now.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.now.contents.len().max(self.base.contents.len());
        self.run(Op::Create(inode, path.to_owned()));
        Ok(inode)
    }

    /// Takes the room by which a write makes a file longer.
    fn grow(&mut self, inode: usize, end: u64) -> io::Result<()> {
        let len = self
            .now
            .contents
            .get(inode)
            .map_or(0, |content| content.len() as u64);
        let more = end.saturating_sub(len);
        if self.file_len_max.is_some_and(|max| end > max) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.quota.is_some_and(|left| left < more) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if let Some(free) = &mut self.free {
            *free = free.checked_sub(more).ok_or(io::ErrorKind::StorageFull)?;
        }
        if let Some(left) = &mut self.quota {
            *left -= more;
        }
        Ok(())
    }
}

impl Vfs for MemVfs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = held(&self.disk);
        for part in dir.ancestors() {
            disk.now.dirs.insert(part.to_owned());
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = held(&self.disk);
        if !disk.now.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = disk.now.names.keys().chain(&disk.now.dirs);
        Ok(names
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn VfsFile>> {
        let mut disk = held(&self.disk);
        if disk.open_max.is_some_and(|max| disk.open >= max) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let inode = match access {
            Access::Read | Access::Write => disk.inode(path)?,
            Access::Create => disk.new_inode(path)?,
        };
        disk.open += 1;
        Ok(Arc::new(MemFile {
            disk: Arc::clone(&self.disk),
            inode,
            direct,
        }))
    }

    fn create_zeroed(&self, path: &Path, len: u64, _direct: bool) -> io::Result<()> {
        let mut disk = held(&self.disk);
        if disk.now.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.grow(usize::MAX, len)?;
        let inode = disk.new_inode(path)?;
        disk.run(Op::Zeros(inode, len));
        Self::failing(&mut disk)?;
        disk.run(Op::Sync(inode));
        Ok(())
    }

    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.create_zeroed(path, len, false)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = held(&self.disk);
        disk.inode(from)?;
        if disk.now.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.run(Op::Link(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = held(&self.disk);
        disk.inode(from)?;
        disk.run(Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut disk = held(&self.disk);
        let inode = disk.inode(path)?;
        disk.run(Op::Unlink(path.to_owned()));
        let len = disk.now.contents[inode].len() as u64;
        let named = disk.now.names.values().any(|other| *other == inode);
        let disk = &mut *disk;
        for room in [&mut disk.free, &mut disk.quota] {
            if let Some(room) = room.as_mut().filter(|_| !named) {
                *room += len;
            }
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = held(&self.disk);
        Self::failing(&mut disk)?;
        disk.run(Op::SyncDir(dir.to_owned()));
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Free> {
        let free = held(&self.disk).free.unwrap_or(1 << 40);
        Ok(Free {
            free,
            total: 1 << 40,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        held(&self.disk).inode(path)?;
        if !held(&self.locks).insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemLock {
            locks: Arc::clone(&self.locks),
            path: path.to_owned(),
        })))
    }

    fn direct_works(&self, _dir: &Path) -> bool {
        true
    }

    fn is_remote(&self, _dir: &Path) -> bool {
        self.remote
    }

    fn wait(&self, _long: Duration) {}
}

impl VfsFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check(buf, offset);
        let mut disk = held(&self.disk);
        let content = &disk.now.contents[self.inode];
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let n = buf.len().min(content.len() - start);
        buf[..n].copy_from_slice(&content[start..start + n]);
        disk.bytes_read += n as u64;
        disk.reads += 1;
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check(buf, offset);
        let op = Op::Write(self.inode, offset, Bytes::copy_from_slice(buf), false);
        let mut disk = held(&self.disk);
        disk.grow(self.inode, offset + buf.len() as u64)?;
        disk.run(op);
        Ok(())
    }

    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check(buf, offset);
        let mut disk = held(&self.disk);
        MemVfs::failing(&mut disk)?;
        disk.grow(self.inode, offset + buf.len() as u64)?;
        disk.run(Op::Write(
            self.inode,
            offset,
            Bytes::copy_from_slice(buf),
            true,
        ));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = held(&self.disk);
        MemVfs::failing(&mut disk)?;
        disk.run(Op::Sync(self.inode));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(held(&self.disk).now.contents[self.inode].len() as u64)
    }
}
