//! Stream files, as the node uses them: records of streams copied out of the journal, read back, and removed (RULES 25).
//!
//! The housekeeper writes a file from what the core says could go, makes it durable, and only then lets the core decide that
//! it went. A reader opens the file that the core names; an index or two dozen stay open. A file goes when no committed
//! state names it. A core that is rebuilt from an older snapshot passes through the record that let the file go before
//! anyone reads, so no snapshot keeps it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use broker::{
    Broker, FileId, Fileable, FileableStream, Load, LoadFor, Loaded, LoadedRecord, stored_here,
};
use bytes::Bytes;
use journal::{InOrder, Journal, ReadError, StreamFile, StreamFileId, StreamFileWriter};
use message::{
    DecodeError, LastAddress, Reader, Timestamp,
    codec::{put_bytes, put_u64},
    decode_head_like,
};
use session::{ShardNo, StreamId};
use smallvec::SmallVec;

use crate::{
    housekeeping::room_comes,
    node::Shared,
    stored::{Raw, raw},
};

/// Files that are kept open.
const OPEN_MAX: usize = 24;
/// Records asked for in one hold of the lock.
const ASKED_MAX: usize = 1024;
/// How long after a file that could not be written there is another try, in ms.
const RETRY_MS: u64 = 10_000;
/// Streams that keep their records no longer than this, in ms, have files of their own, and so on: the records of one file are
/// to go at about the same time.
const CLASSES: [u64; 2] = [2 * 86_400_000, 16 * 86_400_000];

const fn id_of(file: &FileId) -> StreamFileId {
    StreamFileId {
        epoch: file.epoch,
        number: file.number,
        writer: file.writer,
    }
}

const fn file_of(id: &StreamFileId) -> FileId {
    FileId {
        epoch: id.epoch,
        number: id.number,
        writer: id.writer,
    }
}

/// The open files.
pub(crate) struct StreamFiles {
    journal: Journal,
    /// Bytes of records in the journal above which those of streams kept alike are copied into a file.
    bytes_min: u64,
    next: AtomicU64,
    /// The last used is the last.
    open: Mutex<VecDeque<(FileId, Arc<StreamFile>)>>,
}

/// A record that has been read and waits for its turn.
struct Ahead {
    offset: u64,
    time: u64,
    payload: Bytes,
}

impl StreamFiles {
    pub(crate) fn new(journal: Journal, bytes_min: u64) -> Self {
        Self {
            journal,
            bytes_min: bytes_min.max(1),
            next: AtomicU64::new(1),
            open: Mutex::default(),
        }
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, VecDeque<(FileId, Arc<StreamFile>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, file: &FileId) -> Result<Arc<StreamFile>, ReadError> {
        let mut open = self.opened();
        if let Some(at) = open.iter().position(|(known, _)| known == file)
            && let Some(found) = open.remove(at)
        {
            let opened = Arc::clone(&found.1);
            open.push_back(found);
            return Ok(opened);
        }
        drop(open);
        let opened = self.journal.open_stream_file(&id_of(file))?;
        let mut open = self.opened();
        open.push_back((*file, Arc::clone(&opened)));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        Ok(opened)
    }

    /// Reads records of shards in the order of their offsets. Blocks.
    pub(crate) fn load(&self, load: &Load) -> Result<Loaded, String> {
        let failed = |error: ReadError| {
            let what = error.to_string();
            self.journal.note_unreadable(error, None);
            what
        };
        let file = self.open(&load.file).map_err(failed)?;
        let mut cursors = Vec::with_capacity(load.shards.len());
        let mut ahead: Vec<Option<Ahead>> = Vec::with_capacity(load.shards.len());
        let mut order = BinaryHeap::new();
        for (shard, from) in &load.shards {
            cursors.push(file.cursor((load.stream.0, shard.0), *from, load.since.0));
            ahead.push(None);
        }
        let mut advance = |at: usize,
                           ahead: &mut Vec<Option<Ahead>>,
                           order: &mut BinaryHeap<Reverse<(u64, usize)>>|
         -> Result<(), String> {
            let next = cursors[at].next_record().map_err(failed)?;
            if let Some(record) = next.filter(|record| record.sequence < load.upto) {
                order.push(Reverse((record.sequence, at)));
                ahead[at] = Some(Ahead {
                    offset: record.sequence,
                    time: record.time,
                    payload: record.payload,
                });
            }
            Ok(())
        };
        for at in 0..load.shards.len() {
            advance(at, &mut ahead, &mut order)?;
        }
        let mut loaded = Loaded {
            load: load.clone(),
            records: Vec::new(),
            upto: load.upto,
        };
        let mut bytes = 0;
        // What is read for an answer goes with it; a consumer may keep one record of a block for long.
        let shares = matches!(load.what, LoadFor::Read(..));
        let mut last = LastAddress::default();
        while let Some(Reverse((_, at))) = order.pop() {
            let Some(mut next) = ahead[at].take() else {
                continue;
            };
            if !shares {
                next.payload = Bytes::copy_from_slice(&next.payload);
            }
            let record = unpack(load.shards[at].0, next, &mut last)
                .map_err(|error| format!("a record of a stream file: {error}"))?;
            bytes += u64::from(record.len);
            let full = loaded.records.len() >= load.count as usize || bytes > load.bytes_max;
            if full && !loaded.records.is_empty() {
                loaded.upto = record.offset;
                break;
            }
            loaded.records.push(record);
            advance(at, &mut ahead, &mut order)?;
        }
        Ok(loaded)
    }
}

/// What goes into a file in front of the body: length, partition key, head.
fn put_front(record: &Fileable, head: &[u8], out: &mut Vec<u8>) {
    put_u64(out, u64::from(record.len));
    match &record.key {
        Some(key) => {
            out.push(1);
            put_bytes(out, key);
        }
        None => out.push(0),
    }
    put_bytes(out, head);
}

fn unpack(
    shard: ShardNo,
    record: Ahead,
    last: &mut LastAddress,
) -> Result<LoadedRecord, DecodeError> {
    let mut reader = Reader::new(record.payload);
    let len = reader.u32()?;
    let key = match reader.u8()? {
        0 => None,
        _ => Some(reader.bytes()?),
    };
    let head = reader.bytes()?;
    Ok(LoadedRecord {
        offset: record.offset,
        shard,
        time: Timestamp(record.time),
        len,
        key,
        message: Arc::new(decode_head_like(head, reader.rest(), last)?),
    })
}

/// Every file that the state names is there. Whether it is whole shows when it is read: nothing of it is read unchecked.
pub(crate) fn check(journal: &Journal, broker: &Broker) -> Result<(), String> {
    let named = broker.stream_files();
    if named.is_empty() {
        return Ok(());
    }
    let there = journal.stream_files().map_err(|error| error.to_string())?;
    match named
        .iter()
        .map(id_of)
        .find(|id| there.binary_search(id).is_err())
    {
        Some(id) => Err(format!("the stream file {id} is missing")),
        None => Ok(()),
    }
}

/// Part of a stream that goes into a file.
struct Part {
    stream: StreamId,
    first: u64,
    below: u64,
}

/// Takes as much of these streams as one file is to hold.
fn take_parts(streams: &mut Vec<FileableStream>, bytes_max: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut left = bytes_max;
    for it in streams.iter_mut() {
        if left == 0 {
            break;
        }
        let len = it.below - it.first;
        let count = if it.bytes <= left {
            len
        } else {
            let part = u128::from(len) * u128::from(left) / u128::from(it.bytes);
            (part as u64).max(1)
        };
        let bytes = (u128::from(it.bytes) * u128::from(count) / u128::from(len)) as u64;
        parts.push(Part {
            stream: it.stream,
            first: it.first,
            below: it.first + count,
        });
        it.first += count;
        it.bytes -= bytes;
        left = left.saturating_sub(bytes.max(1));
    }
    streams.retain(|it| it.first < it.below);
    parts
}

/// The housekeeper's side.
#[derive(Default)]
pub(crate) struct Filer {
    /// What was there before this epoch has been looked through.
    swept: bool,
    /// Up to where a snapshot covered the journal at the last look.
    covered: u64,
    failed: Option<Timestamp>,
    runs_gone: u64,
    named: BTreeSet<FileId>,
    /// Not named any more once this batch is committed.
    leaving: Vec<(FileId, u64)>,
}

impl Filer {
    /// Copies what is due, and removes what nobody needs.
    pub(crate) fn turn(&mut self, shared: &Shared, wait: &mut dyn FnMut()) {
        if !self.swept {
            self.swept = true;
            self.sweep(shared);
        }
        let rests = self
            .failed
            .is_some_and(|at| shared.clock.now().since(at) < RETRY_MS);
        let covered = shared.journal.covered_upto();
        let room = !matches!(shared.journal.space(), journal::Space::Low(_));
        if covered > self.covered && room && !rests {
            self.failed = None;
            match self.file(shared, covered, wait) {
                Ok(()) => self.covered = covered,
                Err(_) if shared.stopping.load(Ordering::Acquire) => return,
                Err(what) => {
                    tracing::error!(what, "failed to write a stream file; the next try follows");
                    self.failed = Some(shared.clock.now());
                }
            }
        }
        self.look(shared, false);
        self.remove(shared);
    }

    /// Files of epochs that are closed, and that no record names, were being written when their writer ended.
    fn sweep(&mut self, shared: &Shared) {
        {
            let core = shared.core();
            self.named = core.broker.stream_files();
            self.runs_gone = core.broker.stream_runs_gone();
        }
        let found = match shared.journal.stream_files() {
            Ok(found) => found,
            Err(error) => return tracing::warn!(%error, "failed to look for stream files"),
        };
        let epoch = shared.journal.epoch();
        let left = found
            .iter()
            .filter(|id| id.epoch < epoch)
            .map(file_of)
            .filter(|file| !self.named.contains(file));
        self.leaving.extend(left.map(|file| (file, 0)));
    }

    /// Looks which files are named no more.
    fn look(&mut self, shared: &Shared, anew: bool) {
        let (named, newest) = {
            let core = shared.core();
            let gone = core.broker.stream_runs_gone();
            if gone == self.runs_gone && !anew {
                return;
            }
            self.runs_gone = gone;
            (core.broker.stream_files(), shared.journal.newest())
        };
        let gone = self.named.difference(&named);
        self.leaving.extend(gone.map(|file| (*file, newest)));
        self.named = named;
    }

    fn remove(&mut self, shared: &Shared) {
        let committed = shared.journal.committed();
        self.leaving.retain(|(file, batch)| {
            if *batch > committed {
                return true;
            }
            shared
                .stream_files
                .opened()
                .retain(|(known, _)| known != file);
            match shared.journal.remove_stream_file(&id_of(file)) {
                Ok(()) => {
                    tracing::debug!(
                        epoch = file.epoch,
                        number = file.number,
                        "removed a stream file"
                    );
                }
                Err(error) => tracing::warn!(%error, "failed to remove a stream file"),
            }
            false
        });
    }

    fn file(
        &mut self,
        shared: &Shared,
        covered: u64,
        wait: &mut dyn FnMut(),
    ) -> Result<(), String> {
        let all = shared
            .core()
            .broker
            .fileable(|id| journal::batch_of(id) <= covered);
        let bytes_min = shared.stream_files.bytes_min;
        for class in 0..=CLASSES.len() {
            let mut streams: Vec<_> = all
                .iter()
                .copied()
                .filter(|it| CLASSES.partition_point(|max| *max < it.retention_ms) == class)
                .collect();
            while streams.iter().map(|it| it.bytes).sum::<u64>() >= bytes_min {
                let parts = take_parts(&mut streams, bytes_min);
                let file = write(shared, &parts)?;
                self.named.insert(file);
                let named = parts.iter().all(|part| name(shared, &file, part, wait));
                // What was copied may all be gone by now.
                self.look(shared, true);
                if !named {
                    return Err("the disk is full".to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Copies records into a file, and makes it durable.
fn write(shared: &Shared, parts: &[Part]) -> Result<FileId, String> {
    let number = shared.stream_files.next.fetch_add(1, Ordering::Relaxed);
    let failed = |error: ReadError| error.to_string();
    let mut copying = Copying {
        shared,
        journal: shared.journal.in_order(),
        writer: shared.journal.create_stream_file(number).map_err(failed)?,
        front: Vec::new(),
    };
    for part in parts {
        let mut from = part.first;
        loop {
            let records =
                shared
                    .core()
                    .broker
                    .fileable_records(part.stream, from, part.below, ASKED_MAX);
            let Some(last) = records.last() else { break };
            from = last.offset + 1;
            for record in &records {
                if shared.stopping.load(Ordering::Relaxed) {
                    return Err("the node is stopping".to_owned());
                }
                copying.copy(part.stream, record)?;
            }
        }
    }
    let writer = copying.writer;
    let id = writer.finish().map_err(failed)?;
    shared.filed.fetch_add(1, Ordering::Relaxed);
    Ok(file_of(&id))
}

/// Copies records in the order in which they came, which is that of the journal.
struct Copying<'a> {
    shared: &'a Shared,
    journal: InOrder<'a>,
    writer: StreamFileWriter,
    /// Memory for what goes in front of a body.
    front: Vec<u8>,
}

impl Copying<'_> {
    fn copy(&mut self, stream: StreamId, record: &Fileable) -> Result<(), String> {
        let Self {
            shared,
            journal,
            writer,
            front,
        } = self;
        let mut put = |head: &[u8], body: &[&[u8]]| {
            front.clear();
            put_front(record, head, front);
            let mut payload: SmallVec<[&[u8]; 4]> = SmallVec::new();
            payload.push(front);
            payload.extend_from_slice(body);
            let (shard, time) = (record.shard.0, record.time.0);
            writer
                .push(stream.0, shard, record.offset, time, &payload)
                .map_err(|error| error.to_string())
        };
        let copied = journal.look(record.stored, |_, stored| match stored_here(stored) {
            Ok(Some((head, body))) => put(head, &[body]).map(|()| true),
            Ok(None) => Ok(false),
            Err(error) => Err(error.to_string()),
        });
        let raw = match copied {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => raw(&shared.journal, record.stored),
            Ok(Err(what)) => return Err(what),
            Err(error) => Err(error.to_string()),
        };
        match raw {
            Ok(Raw { head, body }) => {
                let body: SmallVec<[&[u8]; 4]> = body.iter().map(|part| &part[..]).collect();
                put(&head, &body)
            }
            Err(what) => {
                let core = shared.core();
                if core
                    .broker
                    .holds_record(stream, record.offset, record.stored)
                {
                    return Err(what);
                }
                // It has become too old meanwhile.
                Ok(())
            }
        }
    }
}

/// Lets the core decide that a part of a stream lies in the file, a slice at a time. `false`: not all of it, as the disk is full. The rest
/// stays where it is.
fn name(shared: &Shared, file: &FileId, part: &Part, wait: &mut dyn FnMut()) -> bool {
    let mut more = true;
    while more && !shared.stopping.load(Ordering::Relaxed) {
        if !room_comes(&shared.journal, wait) {
            return false;
        }
        shared.stepped(|core, step| {
            core.decided(step, |broker, cx, out| {
                more = broker.decide_filed(part.stream, *file, (part.first, part.below), cx, out);
            });
            core.deliver(step)
        });
    }
    true
}
