//! What a node is given of the machine that it runs on: files, clocks, chance. The simulator gives it others.

use std::{
    io::{self, Read},
    sync::Arc,
};

use journal::{RealVfs, Vfs};
use rustix::time::{ClockId, clock_gettime};

/// A reading of the machine's two clocks, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Since the machine started (`CLOCK_BOOTTIME`): never set, goes on in suspend.
    pub boot_ms: u64,
    /// Since the Unix epoch, as far as the machine knows.
    pub wall_ms: u64,
}

/// The machine, to a node.
pub trait Host: Send + Sync {
    /// Where the journal lies.
    fn vfs(&self) -> Arc<dyn Vfs>;

    /// What the clocks say.
    fn clocks(&self) -> Clocks;

    /// One of them: asked for whenever a connection is looked after.
    fn boot_ms(&self) -> u64 {
        self.clocks().boot_ms
    }

    /// Bytes that nobody can guess.
    ///
    /// # Errors
    /// If the machine has none.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// The machine that this process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Host for Machine {
    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(RealVfs)
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            boot_ms: self.boot_ms(),
            wall_ms: ms(ClockId::Realtime),
        }
    }

    fn boot_ms(&self) -> u64 {
        ms(ClockId::Boottime)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        std::fs::File::open("/dev/urandom")?.read_exact(bytes)
    }
}

fn ms(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    (time.tv_sec.max(0) as u64) * 1000 + time.tv_nsec.max(0) as u64 / 1_000_000
}
