//! Files that are written once, from start to end, and read like that, past the page cache where the file system allows it: what the
//! kernel writes back and reads ahead on its own is megabytes at once, and a batch that somebody waits for is written behind them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::aligned::Aligned;
use crate::batch::BLOCK;
use crate::vfs::{Access, IN_PASSING, Vfs, VfsFile};

/// How much is copied at once. More than some KiB the C library copies by a string instruction, which AMD's Zen 3 and 4 do at 3 GB/s
/// instead of 50 where the target's place in its page is a few bytes behind the source's: with blocks of one length it may always be.
const COPIED: usize = 1 << 10;

fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.chunks_mut(COPIED).zip(from.chunks(COPIED)) {
        to.copy_from_slice(from);
    }
}

/// A file that is written from its start to its end, in pieces that start and end at multiples of 4 KiB but for the last.
pub(crate) struct OutFile {
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    memory: Aligned,
    /// How much of the memory is to be written.
    len: usize,
    /// Where in the file the memory goes.
    at: u64,
}

impl OutFile {
    /// A new file, that is not there yet.
    pub(crate) fn create(vfs: &dyn Vfs, path: PathBuf, direct: bool) -> io::Result<Self> {
        let file = vfs.open(&path, Access::Create, direct)?;
        Ok(Self {
            path,
            file,
            memory: Aligned::zeroed(IN_PASSING),
            len: 0,
            at: 0,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next byte goes.
    pub(crate) const fn end(&self) -> u64 {
        self.at + self.len as u64
    }

    /// Appends bytes, which are written once there are enough.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = &mut self.memory[self.len..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            copy(&mut room[..now.len()], now);
            self.len += now.len();
            bytes = later;
            if self.len == IN_PASSING {
                self.file.write_at(&self.memory, self.at)?;
                self.at = self.end();
                self.len = 0;
            }
        }
        Ok(())
    }

    /// Writes what is left. All of it is durable once what is returned is synced. The file does not end at a multiple of 4 KiB: what is
    /// behind the last one goes through the page cache.
    pub(crate) fn complete(&self, vfs: &dyn Vfs) -> io::Result<Arc<dyn VfsFile>> {
        let (whole, rest) = self.memory[..self.len].split_at(self.len / BLOCK * BLOCK);
        if !whole.is_empty() {
            self.file.write_at(whole, self.at)?;
        }
        if rest.is_empty() {
            return Ok(Arc::clone(&self.file));
        }
        let end = vfs.open(&self.path, Access::Write, false)?;
        end.write_at(rest, self.at + whole.len() as u64)?;
        Ok(end)
    }
}

/// A file that is read from its start to its end.
pub(crate) struct InFile {
    file: Arc<dyn VfsFile>,
    memory: Aligned,
    /// Where in the file the memory is from: a multiple of 4 KiB.
    at: u64,
    /// How much of the memory was read.
    len: usize,
}

impl InFile {
    /// A file that is there.
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path, direct: bool) -> io::Result<Self> {
        let file = vfs.open(path, Access::Read, direct)?;
        Ok(Self {
            file,
            memory: Aligned::zeroed(IN_PASSING),
            at: 0,
            len: 0,
        })
    }

    /// Reads until the buffer is full or the file ends; returns how much there was.
    pub(crate) fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let from = offset + done as u64;
            if !(self.at..self.at + self.len as u64).contains(&from) {
                self.len = 0;
                self.at = from / BLOCK as u64 * BLOCK as u64;
                self.len = self.file.read_at(&mut self.memory, self.at)?;
            }
            let there = &self.memory[..self.len];
            let there = there.get((from - self.at) as usize..).unwrap_or_default();
            let n = there.len().min(buf.len() - done);
            if n == 0 {
                break;
            }
            buf[done..done + n].copy_from_slice(&there[..n]);
            done += n;
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::MemVfs;

    #[test]
    fn what_was_put_is_what_is_read_whatever_its_length() {
        let vfs = MemVfs::new(false);
        let long = IN_PASSING + 3 * BLOCK;
        for len in [0, 1, BLOCK, BLOCK + 1, IN_PASSING, long, long + 1] {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
            let path = PathBuf::from(format!("/{len}"));
            let mut out = OutFile::create(&vfs, path.clone(), true).expect("made");
            for part in bytes.chunks(5000) {
                out.put(part).expect("written");
            }
            assert_eq!(out.end(), len as u64);
            let file = out.complete(&vfs).expect("written");
            assert_eq!(file.len().expect("a length"), len as u64);
            let mut back = InFile::open(&vfs, &path, true).expect("it is there");
            for (part, bytes) in bytes.chunks(777).enumerate() {
                let mut read = [0; 777];
                let n = back.read_at(&mut read, part as u64 * 777).expect("read");
                assert!(read[..n] == *bytes, "{len} bytes, part {part}");
            }
            assert_eq!(back.read_at(&mut [0], len as u64).expect("read"), 0);
        }
    }
}
