//! The operating system's files, by rustix: `O_DIRECT|O_DSYNC` where it works, else buffered writes and `fdatasync`.
//!
//! The lock is `flock`: like an OFD lock it belongs to the open file, conflicts within one process too, and goes with the
//! last descriptor when the process dies: the proof of a death on one machine. Safety does not rest on it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::process::{Resource, getrlimit};

use super::{Access, Free, IN_PASSING, Lock, Vfs, VfsFile};
use crate::aligned::Aligned;
use crate::batch::BLOCK;

const NFS_MAGIC: u64 = 0x6969;

/// What rustix 1.1 calls `OFlags::DSYNC` is `O_SYNC` on Linux: then the file's times go to the disk too, which is a write of its own each
/// time the clock has ticked, and on a file system with a journal a commit of that.
const O_DSYNC: OFlags = OFlags::from_bits_retain(libc::O_DSYNC as u32);
const CIFS_MAGIC: u64 = 0xFF53_4D42;
const SMB2_MAGIC: u64 = 0xFE53_4D42;
const FUSE_MAGIC: u64 = 0x6573_5546;
const NINE_P_MAGIC: u64 = 0x0102_1997;
/// Names that are tried for the file by which O_DIRECT is found out.
const TRIAL_NAMES: u32 = 64;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

struct RealFile {
    file: File,
    /// Opened with `O_DIRECT`.
    direct: bool,
    /// Opened with `O_DSYNC`: a write that returned is durable.
    dsync: bool,
}

impl RealVfs {
    fn open_flags(path: &Path, flags: OFlags) -> io::Result<File> {
        let fd = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o640))?;
        Ok(File::from(fd))
    }

    fn flags(access: Access, direct: bool) -> OFlags {
        let mut flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
            Access::Create => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        if direct {
            flags |= OFlags::DIRECT;
        }
        // What is made is synced as a whole, or write by write by who asks for that.
        if direct && access == Access::Write {
            flags |= O_DSYNC;
        }
        flags
    }

    fn write_zeros(path: &Path, len: u64, direct: bool) -> io::Result<()> {
        let mut flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        if direct {
            flags |= OFlags::DIRECT;
        }
        let file = Self::open_flags(path, flags)?;
        // Extents in one piece where the file system can; it need not.
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
            Err(rustix::io::Errno::NOSPC) => return Err(io::ErrorKind::StorageFull.into()),
            Err(rustix::io::Errno::DQUOT) => return Err(io::ErrorKind::QuotaExceeded.into()),
            // At once: a direct write that ends at such a limit cannot go on from there.
            Err(rustix::io::Errno::FBIG) => return Err(io::ErrorKind::FileTooLarge.into()),
            Ok(()) | Err(_) => {}
        }
        let chunk = usize::try_from(len).unwrap_or(IN_PASSING).min(IN_PASSING);
        let zeros = Aligned::zeroed(chunk);
        let mut at = 0;
        while at < len {
            let n = usize::try_from(len - at).unwrap_or(chunk).min(chunk);
            write_all(&file, &zeros[..n], at)?;
            at += n as u64;
        }
        file.sync_all()
    }
}

/// A direct write that `RLIMIT_FSIZE` cuts off within a block is refused as one of an odd length; it is told as what it is.
fn write_all(file: &File, buf: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(buf, offset).map_err(|error| {
        let end = offset + buf.len() as u64;
        let limit = || getrlimit(Resource::Fsize).current;
        match error.kind() {
            io::ErrorKind::InvalidInput if limit().is_some_and(|max| end > max) => {
                io::ErrorKind::FileTooLarge.into()
            }
            _ => error,
        }
    })
}

impl Vfs for RealVfs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn VfsFile>> {
        let flags = Self::flags(access, direct);
        Ok(Arc::new(RealFile {
            file: Self::open_flags(path, flags)?,
            direct,
            dsync: flags.contains(O_DSYNC),
        }))
    }

    fn create_zeroed(&self, path: &Path, len: u64, direct: bool) -> io::Result<()> {
        let written = Self::write_zeros(path, len, direct);
        if written
            .as_ref()
            .is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists)
        {
            let _ = fs::remove_file(path);
        }
        written
    }

    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = Self::open_flags(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => {
                fs::remove_file(path)?;
                self.create_zeroed(path, len, false)
            }
            Err(error) => {
                let _ = fs::remove_file(path);
                Err(error.into())
            }
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Free> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Free {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = Self::open_flags(path, OFlags::RDWR)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn direct_works(&self, dir: &Path) -> bool {
        for number in 0..TRIAL_NAMES {
            let path = dir.join(format!(
                "{}{}-{number}",
                crate::probe::PREFIX,
                std::process::id()
            ));
            let file = match self.open(&path, Access::Create, true) {
                // Another node's, which tries at the same time, or what a crash has left.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made,
            };
            let tried = || -> io::Result<bool> {
                drop(file?);
                // As segments are opened.
                let file = self.open(&path, Access::Write, true)?;
                let mut block = Aligned::zeroed(BLOCK);
                block.fill(0x5A);
                file.write_durable(&block, 0)?;
                let mut back = Aligned::zeroed(BLOCK);
                Ok(file.read_at(&mut back, 0)? == BLOCK && back[..] == block[..])
            };
            let works = tried().unwrap_or(false);
            let _ = fs::remove_file(&path);
            return works;
        }
        false
    }

    fn is_remote(&self, dir: &Path) -> bool {
        rustix::fs::statfs(dir).is_ok_and(|stat| {
            #[expect(
                clippy::cast_sign_loss,
                reason = "a magic number, signed on some machines only"
            )]
            #[allow(clippy::unnecessary_cast, reason = "its type differs between machines")]
            let kind = (stat.f_type as u64) & 0xFFFF_FFFF;
            [NFS_MAGIC, CIFS_MAGIC, SMB2_MAGIC, FUSE_MAGIC, NINE_P_MAGIC].contains(&kind)
        })
    }
}

impl VfsFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => {
                    done += n;
                    // To read from where a file ends in a block may be refused.
                    let is_odd = self.direct && !n.is_multiple_of(BLOCK);
                    if is_odd && offset + done as u64 >= self.len()? {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        write_all(&self.file, buf, offset)
    }

    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        write_all(&self.file, buf, offset)?;
        if self.dsync {
            Ok(())
        } else {
            self.file.sync_data()
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use rustix::process::setrlimit;

    use super::*;

    /// Says to this test binary that it is the process whose files may not be so long: where it makes some.
    const LIMITED: &str = "BASCULE_TEST_LIMITED_IN";

    #[test]
    fn what_is_written_is_synced_without_the_times_of_the_file() {
        let flags = RealVfs::flags(Access::Write, true).bits().cast_signed();
        assert_eq!(flags & libc::O_SYNC, libc::O_DSYNC);
        assert_ne!(libc::O_SYNC, libc::O_DSYNC);
    }

    /// A limit on the length of files need not be a multiple of a block, and a direct write that it cuts off fails for that; it is told as
    /// what it is, as one is that begins behind the limit.
    #[test]
    fn a_write_that_would_make_a_file_too_long_is_told_as_that() {
        let Some(dir) = std::env::var_os(LIMITED).map(PathBuf::from) else {
            return in_a_process_of_its_own(
                "vfs::real::tests::a_write_that_would_make_a_file_too_long_is_told_as_that",
            );
        };
        let works = RealVfs.direct_works(&dir);
        let mut limit = getrlimit(Resource::Fsize);
        limit.current = Some(2 * BLOCK as u64 + 100);
        setrlimit(Resource::Fsize, limit).expect("a limit may be made lower");
        let content = Aligned::zeroed(4 * BLOCK);
        let path = dir.join("file");
        let too_long = |written: io::Result<()>| {
            let error = written.expect_err("it may not be so long");
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
        };
        for direct in [false, works] {
            too_long(RealVfs.create_zeroed(&path, 4 * BLOCK as u64, direct));
            let file = RealVfs.open(&path, Access::Create, direct).expect("opens");
            file.write_at(&content[..2 * BLOCK], 0).expect("so long");
            too_long(file.write_at(&content, 0));
            too_long(file.write_at(&content[..BLOCK], 2 * BLOCK as u64));
            too_long(file.write_at(&content[..BLOCK], 3 * BLOCK as u64));
            let file = RealVfs.open(&path, Access::Write, direct).expect("opens");
            too_long(file.write_durable(&content, 0));
            // Nothing is too long here; not every file system minds that it is odd.
            if let Err(error) = file.write_durable(&content[..BLOCK], 1) {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            }
            fs::remove_file(&path).expect("it is there");
        }
    }

    /// Runs a test of this binary again in a process that no limit on the length of files kills, and says where it may make some.
    fn in_a_process_of_its_own(test: &str) {
        let dir = std::env::temp_dir().join(format!("bascule-limited-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let this = std::env::current_exe().expect("a test has a binary");
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        limited.arg(this).args(["--exact", test, "--nocapture"]);
        let ended = limited.env(LIMITED, &dir).output().expect("it runs");
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (told(&ended.stdout), told(&ended.stderr));
        let _ = fs::remove_dir_all(&dir);
        assert!(out.contains("1 passed"), "{out}{err}");
    }
}
