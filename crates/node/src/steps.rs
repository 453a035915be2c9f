//! The work of the node's threads, for whoever has none and takes it a step at a time: the simulator.
//!
//! Each step does what one turn of a thread's loop does, and blocks only in the file system.

use std::io;

use journal::{Engine, Health, Scrubber};
use message::Timestamp;

use crate::{
    housekeeping::Housekeeper,
    keeper,
    node::{Shared, Work},
    scrub,
};

/// What a node without threads wants done. See [`crate::Node::start_stepped`].
pub struct Steps {
    work: Work,
    engine: Engine,
    housekeeper: Housekeeper,
    scrubber: Option<Scrubber>,
    space_at: Timestamp,
}

impl Steps {
    pub(crate) fn new(work: Work, engine: Engine, broker: broker::Config) -> Self {
        let housekeeper = Housekeeper::new(&work.shared, broker);
        Self {
            work,
            engine,
            housekeeper,
            scrubber: None,
            space_at: Timestamp(0),
        }
    }

    fn shared(&self) -> &Shared {
        &self.work.shared
    }

    /// The journal thread: commits the next batch, if there is one.
    pub fn commit(&mut self) -> journal::Step {
        self.engine.step()
    }

    /// The history that is committed.
    #[must_use]
    pub fn mark(&self) -> journal::Mark {
        self.engine.mark()
    }

    /// Writes the durable state as a snapshot would have it, if nothing is staged: then it is what the history of [`Self::mark`] makes of
    /// an empty core, on every node. False if something is staged.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn encode_state(&self, sink: &mut dyn io::Write) -> io::Result<bool> {
        let core = self.shared().core();
        let journal = &self.shared().journal;
        if journal.newest() != journal.committed() {
            return Ok(false);
        }
        core.broker.encode_snapshot(sink).map(|()| true)
    }

    /// The journal thread: renews the lease. Returns after how many ms to do so again.
    pub fn renew_lease(&mut self) -> u64 {
        let clock = &self.work.shared.clock;
        self.engine.renew_lease(|| clock.boot_ms());
        self.engine.renewal_ms()
    }

    /// The journal's second thread: prepares a segment if one is missing, and looks at the free space. True if it did
    /// prepare one.
    pub fn prepare(&mut self) -> bool {
        let made = self.engine.prepare();
        self.engine.look_at_standbys(self.shared().clock.boot_ms());
        self.shared().journal.check_space();
        made
    }

    /// A thread of the password pool: verifies a login that waits. False if none does.
    pub fn verify(&mut self) -> bool {
        self.work.jobs.run_one(self.shared())
    }

    /// A reader: reads messages for one lane that waits. False if none does.
    pub fn read(&mut self) -> bool {
        self.work.reads.run_one(self.shared())
    }

    /// The keeper: what is due, what the core asked for, the disk. False if nothing was due.
    pub fn keep(&mut self) -> bool {
        keeper::turn(&self.work.shared, &mut self.space_at)
    }

    /// When the keeper has something to do next, as far as it knows.
    #[must_use]
    pub fn keep_at(&self) -> Timestamp {
        self.shared().keeper.due(self.space_at)
    }

    /// The scrubber: reads the next piece of what is sealed again.
    pub fn scrub(&mut self) {
        let engine = &mut self.engine;
        scrub::turn(&self.work.shared, &mut self.scrubber, &mut || {
            engine.step();
        });
    }

    /// What that has come to.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared().journal.health()
    }

    /// Snapshots, and the space that nobody needs any more.
    pub fn keep_house(&mut self) {
        let engine = &mut self.engine;
        self.housekeeper.turn(&self.work.shared, &mut || {
            engine.step();
        });
    }
}
