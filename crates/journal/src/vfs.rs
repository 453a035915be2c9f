//! The engine's port to the file system: what it asks of one, and nothing else.
//!
//! [`RealVfs`] is the operating system's, [`MemVfs`] a recorder in memory that builds the images a crash may leave.
//! Directory entries are durable only behind [`Vfs::sync_dir`], contents only behind [`VfsFile::sync`] or
//! [`VfsFile::write_durable`]: the engine relies on nothing more.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

mod memory;
mod real;

pub use memory::{Cut, MemVfs, Op};
pub use real::RealVfs;

/// Bytes of one read or write that nobody waits for. Most disks do one thing after the other: what somebody waits for is behind one
/// of these, a quarter of a millisecond at a GB/s.
pub(crate) const IN_PASSING: usize = 256 << 10;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read.
    Read,
    /// To be read and written; it exists.
    Write,
    /// To be read and written; it must not exist.
    Create,
}

/// Free and total bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Bytes that an unprivileged process may still take.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

/// A held lock: given up when dropped.
pub type Lock = Box<dyn Any + Send + Sync>;

/// What the engine asks of a file system.
pub trait Vfs: Send + Sync {
    /// Makes the directory and its parents.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens a file. `direct` bypasses the page cache: offsets, lengths and memory are multiples of 4 KiB then.
    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn VfsFile>>;
    /// Creates a file of `len` zeros, really written (not merely allocated), and syncs it.
    fn create_zeroed(&self, path: &Path, len: u64, direct: bool) -> io::Result<()>;
    /// Creates a file that takes `len` bytes on the disk, whatever they are: nobody reads them.
    fn allocate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Puts a second name on a file, only if that name is free: the compare-and-swap of the epoch chain.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Free space where `dir` lies.
    fn space(&self, dir: &Path) -> io::Result<Free>;
    /// Locks a file that is there, until the lock is dropped or its process ends. `None`: another one holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
    /// Waits for so long, by the clock of whoever keeps the files: a simulated store has one of its own.
    fn wait(&self, long: Duration) {
        std::thread::sleep(long);
    }
    /// Whether the page cache can be bypassed in this directory. Found out by trying.
    fn direct_works(&self, dir: &Path) -> bool;
    /// Whether other machines may write here: then one's own fence is read past the page cache.
    fn is_remote(&self, dir: &Path) -> bool;
}

/// An open file.
#[expect(
    clippy::len_without_is_empty,
    reason = "nobody asks a file whether it is empty"
)]
pub trait VfsFile: Send + Sync {
    /// Reads until the buffer is full or the file ends; returns how much there was.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes it all; not durable before [`VfsFile::sync`].
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Writes it all; durable on return.
    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable. A failure is final: it must not be tried again.
    fn sync(&self) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
}
