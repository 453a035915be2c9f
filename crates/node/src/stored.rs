//! Messages read back from the journal: from the batch cache at once, else by a small pool of readers.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::Wake,
};

use broker::{OutLane, StoredBody, decode_stored};
use bytes::{Bytes, BytesMut};
use journal::Journal;
use message::{Message, StoredId, decode_head};

use crate::{
    node::Shared,
    outbox::{Messages, Outbox},
};

/// Messages read in a row for one lane, before the others have their turn.
const RUN_MAX: usize = 64;

struct Read {
    id: StoredId,
    lane: OutLane,
    outbox: Arc<Outbox>,
}

#[derive(Default)]
struct Waiting {
    reads: VecDeque<Read>,
    stopped: bool,
}

/// The queue that the readers work on. Its length is bounded by the lanes there are: a lane has one read at a time.
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

    /// Reads a message from the disk if it must. `None`: it cannot be read; that has been logged.
    pub(crate) fn read(&self, id: StoredId) -> Option<Arc<Message>> {
        let got = self
            .journal
            .read(id)
            .map_err(|error| error.to_string())
            .and_then(|(_, payload)| {
                build(payload, |part| {
                    self.journal
                        .read(part)
                        .map(|(_, payload)| payload)
                        .map_err(|error| error.to_string())
                })
            });
        match got {
            Ok(message) => Some(Arc::new(message)),
            Err(what) => {
                tracing::error!(id = id.0, what, "a stored message cannot be read");
                None
            }
        }
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

/// Builds the message from its record; `part` reads the parts of a long body.
fn build(
    payload: Bytes,
    part: impl Fn(StoredId) -> Result<Bytes, String>,
) -> Result<Message, String> {
    let stored = decode_stored(payload).map_err(|error| error.to_string())?;
    let body = match stored.body {
        StoredBody::Inline(body) => body,
        StoredBody::Parts { parts, len } => {
            let mut body = BytesMut::with_capacity(
                usize::try_from(len).map_err(|_| "the body is too long".to_owned())?,
            );
            for id in parts {
                body.extend_from_slice(&part(id)?);
            }
            if body.len() as u64 != len {
                return Err(format!("a body of {len} bytes has parts of {}", body.len()));
            }
            body.freeze()
        }
    };
    decode_head(stored.head, body).map_err(|error| error.to_string())
}

impl Messages for Stored {
    fn cached(&self, id: StoredId) -> Option<Arc<Message>> {
        let (_, payload) = self.journal.cached(id)?;
        build(payload, |part| {
            self.journal
                .cached(part)
                .map(|(_, payload)| payload)
                .ok_or_else(String::new)
        })
        .ok()
        .map(Arc::new)
    }

    fn fetch(&self, id: StoredId, lane: OutLane, outbox: Arc<Outbox>) {
        self.reads
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reads
            .push_back(Read { id, lane, outbox });
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
            read_run(shared, read);
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
        read_run(shared, read);
        true
    }
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
        let message = shared.stored.read(id);
        match outbox.fetched(lane, id, message, &shared.stored) {
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
