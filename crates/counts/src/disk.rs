//! The operating system's files, with their durable writes counted.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use journal::{
    RealVfs, Vfs,
    vfs::{Access, Free, Lock, VfsFile},
};

use crate::meter;

/// What was made durable.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) writes: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// The file system, counted.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) written: Arc<Written>,
}

struct Counted {
    file: Arc<dyn VfsFile>,
    written: Arc<Written>,
}

impl Vfs for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealVfs.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealVfs.list(dir)
    }

    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn VfsFile>> {
        let file = RealVfs.open(path, access, direct)?;
        let written = Arc::clone(&self.written);
        Ok(Arc::new(Counted { file, written }))
    }

    fn create_zeroed(&self, path: &Path, len: u64, direct: bool) -> io::Result<()> {
        RealVfs.create_zeroed(path, len, direct)
    }

    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        RealVfs.allocate(path, len)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealVfs.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealVfs.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealVfs.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealVfs.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Free> {
        RealVfs.space(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        RealVfs.lock(path)
    }

    fn direct_works(&self, dir: &Path) -> bool {
        RealVfs.direct_works(dir)
    }

    fn is_remote(&self, dir: &Path) -> bool {
        RealVfs.is_remote(dir)
    }
}

impl Counted {
    fn count(&self, len: usize) {
        if meter::is_on() {
            self.written.writes.fetch_add(1, Relaxed);
            self.written.bytes.fetch_add(len as u64, Relaxed);
        }
    }
}

impl VfsFile for Counted {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(buf, offset)
    }

    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.count(buf.len());
        self.file.write_durable(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.count(0);
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
