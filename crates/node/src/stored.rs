//! Messages read back from the journal: from the batch cache at once, else by a small pool of readers.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::Wake,
};

use broker::{Load, OutLane, StoredBody, decode_stored};
use bytes::Bytes;
use journal::{Journal, ReadError};
use message::{LastAddress, Message, StoredId, decode_head, decode_head_like};
use session::DeliveryId;
use smallvec::SmallVec;

use crate::{
    node::Shared,
    outbox::{Fetched, Finds, Messages, Outbox},
};

/// Messages read in a row for one lane, before the others have their turn.
const RUN_MAX: usize = 64;

struct Read {
    id: StoredId,
    lane: OutLane,
    outbox: Arc<Outbox>,
}

/// What a reader does next.
enum Job {
    Read(Read),
    /// Records out of a stream file, for the core.
    Load(Load),
}

#[derive(Default)]
struct Waiting {
    reads: VecDeque<Job>,
    stopped: bool,
}

/// The queue that the readers work on. Its length is bounded by the lanes and the consumers and reads of streams there are: each
/// has one read at a time.
#[derive(Default)]
pub(crate) struct Reads {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

/// Stored messages.
pub(crate) struct Stored {
    journal: Journal,
    reads: Arc<Reads>,
}

impl Stored {
    pub(crate) fn new(journal: Journal) -> (Self, Arc<Reads>) {
        let reads = Arc::new(Reads::default());
        (
            Self {
                journal,
                reads: Arc::clone(&reads),
            },
            reads,
        )
    }

    /// Reads a message from the disk if it must. Of one that is not in the journal `is_held` says whether something refers to it all the same.
    pub(crate) fn read(&self, id: StoredId, is_held: impl FnOnce() -> bool) -> Fetched {
        let failed = Cell::new(None);
        let read = |id| {
            self.journal
                .read(id)
                .map(|(_, payload)| payload)
                .map_err(|error| {
                    let what = error.to_string();
                    failed.set(Some((id, error)));
                    what
                })
        };
        let what = match read(id).and_then(|payload| build(payload, read, None)) {
            Ok(message) => return Fetched::Message(Arc::new(message)),
            Err(what) => what,
        };
        let failed = failed.take();
        if matches!(failed, Some((_, ReadError::Gone(_)))) && !is_held() {
            return Fetched::Gone;
        }
        if self.journal.is_succeeded() {
            return Fetched::Succeeded;
        }
        tracing::error!(id = id.0, what, "a stored message cannot be read");
        if let Some((id, error)) = failed {
            self.journal.note_unreadable(error, Some(id));
        }
        Fetched::Unreadable
    }

    /// Reads records out of a stream file in the background, then tells the core.
    pub(crate) fn load(&self, load: Load) {
        self.reads
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reads
            .push_back(Job::Load(load));
        self.reads.more.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.reads
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopped = true;
        self.reads.more.notify_all();
    }
}

/// A message as it is stored: its head, and its body in one piece or in parts.
pub(crate) struct Raw {
    pub(crate) head: Bytes,
    pub(crate) body: SmallVec<[Bytes; 1]>,
}

/// Reads a stored message without decoding it. Blocks.
pub(crate) fn raw(journal: &Journal, id: StoredId) -> Result<Raw, String> {
    let read = |id| {
        let read = journal.read(id).map_err(|error| error.to_string());
        read.map(|(_, payload)| payload)
    };
    unpack(read(id)?, read)
}

/// Takes a record apart; `part` reads the parts of a long body.
fn unpack(
    payload: Bytes,
    part: impl FnMut(StoredId) -> Result<Bytes, String>,
) -> Result<Raw, String> {
    let stored = decode_stored(payload).map_err(|error| error.to_string())?;
    let body = match stored.body {
        StoredBody::Inline(body) => SmallVec::from([body]),
        StoredBody::Parts { parts, len } => {
            let body = parts
                .into_iter()
                .map(part)
                .collect::<Result<SmallVec<[Bytes; 1]>, _>>()?;
            let there: u64 = body.iter().map(|part| part.len() as u64).sum();
            if there != len {
                return Err(format!("a body of {len} bytes has parts of {there}"));
            }
            body
        }
    };
    Ok(Raw {
        head: stored.head,
        body,
    })
}

/// Builds the message from its record; `part` reads the parts of a long body. `last`: the address of the one before it.
#[inline]
fn build(
    payload: Bytes,
    part: impl FnMut(StoredId) -> Result<Bytes, String>,
    last: Option<&mut LastAddress>,
) -> Result<Message, String> {
    let Raw { head, mut body } = unpack(payload, part)?;
    let body = match body.len() {
        1 => body.remove(0),
        _ => body.concat().into(),
    };
    let message = match last {
        Some(last) => decode_head_like(head, body, last),
        None => decode_head(head, body),
    };
    message.map_err(|error| error.to_string())
}

impl Messages for Stored {
    fn in_memory(&self) -> Finds<'_> {
        let mut journal = self.journal.in_order();
        let mut last = LastAddress::default();
        Box::new(move |id| {
            let (_, payload) = journal.cached(id)?;
            let part = |part| {
                let found = journal.cached(part).ok_or_else(String::new)?;
                Ok(found.1)
            };
            build(payload, part, Some(&mut last)).ok().map(Arc::new)
        })
    }

    fn fetch(&self, id: StoredId, lane: OutLane, outbox: Arc<Outbox>) {
        self.reads
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reads
            .push_back(Job::Read(Read { id, lane, outbox }));
        self.reads.more.notify_one();
    }
}

impl Reads {
    /// One reader.
    pub(crate) fn run(&self, shared: &Shared) {
        loop {
            let read = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                loop {
                    if waiting.stopped {
                        return;
                    }
                    if let Some(read) = waiting.reads.pop_front() {
                        break read;
                    }
                    waiting = self
                        .more
                        .wait(waiting)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            };
            work(shared, read);
        }
    }

    /// Reads for one lane, if one waits.
    pub(crate) fn run_one(&self, shared: &Shared) -> bool {
        let read = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reads
            .pop_front();
        let Some(read) = read else { return false };
        work(shared, read);
        true
    }
}

fn work(shared: &Shared, job: Job) {
    match job {
        Job::Read(read) => read_run(shared, read),
        Job::Load(load) => load_records(shared, &load),
    }
}

fn load_records(shared: &Shared, load: &Load) {
    let loaded = shared.stream_files.load(load);
    if loaded.is_err() && shared.journal.is_succeeded() {
        // Every connection is about to hear of that.
        return;
    }
    if let Err(what) = &loaded
        && shared.core().broker.stream_files().contains(&load.file)
    {
        tracing::error!(what, "a stream file cannot be read");
    }
    shared.stepped(|core, step| {
        core.decided(step, |broker, cx, out| match &loaded {
            Ok(loaded) => broker.decide_loaded(loaded, cx, out),
            Err(_) => broker.decide_not_loaded(load, cx, out),
        });
        core.deliver(step)
    });
}

/// Reads what a lane asked for, and what it asks for next.
fn read_run(shared: &Shared, read: Read) {
    let Read {
        mut id,
        lane,
        outbox,
    } = read;
    // Reading on in order is cheap: the window that the next message lies in has just been read.
    let mut run = 1;
    loop {
        let fetched = shared.stored.read(id, || {
            // The outbox's lock is given back before the node's is taken.
            let deliveries = outbox.deliveries_of(lane, id);
            let core = shared.core();
            let is_held = |at: &DeliveryId| core.broker.holds(at.queue, at.qseq, id);
            deliveries.is_none_or(|deliveries| deliveries.iter().any(is_held))
        });
        match outbox.fetched(lane, id, fetched, &shared.stored) {
            Some(next) if run < RUN_MAX => {
                id = next;
                run += 1;
            }
            Some(next) => {
                shared.stored.fetch(next, lane, Arc::clone(&outbox));
                break;
            }
            None => break,
        }
    }
    outbox.wake();
}
