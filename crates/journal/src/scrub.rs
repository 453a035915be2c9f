//! Scrubbing: reading again, at leisure, what is sealed, before somebody needs it: segments, snapshots, stream files.
//!
//! A pass goes through all of them in turn, a piece at a time; its caller keeps the pace. What does not match is read once more by a
//! descriptor of its own, and is damage if it still does not: it is told, counted, and not touched. A file that goes
//! meanwhile is no damage; a standby hears of that only later, so it looks whether the name still leads to it. What is being
//! written is left out, and comes in a later pass.
//!
//! Damage that was told is known from then on, up to ten thousand places; of what is beyond that only the first is told, and none is
//! counted, but it is repaired as well.
//!
//! Absent: what a repair needs to know of the core, and the pace.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use message::StoredId;

use crate::aligned::Aligned;
use crate::batch::{self, BLOCK};
use crate::error::ReadError;
use crate::id;
use crate::journal::Journal;
use crate::reader::{BatchReader, Stop};
use crate::segment::{Segment, SegmentHeader};
use crate::shared::Kept;
use crate::snapshot::{self, SnapshotSource};
use crate::stream_file::{StreamFile, StreamFileId};

mod places;

pub(crate) use places::Places;

use places::Noted;

/// Damage that is kept for whoever asks; of what is more there is only where it is.
const KEPT_MAX: usize = 100;
/// How long a segment may have no header before it loses its name, on the way to its next use.
const BEING_GIVEN_BACK: Duration = Duration::from_millis(500);

/// Damage that was found in a running journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// The first offset that is wrong.
    pub offset: u64,
    /// How that shows.
    pub what: String,
    /// The batches that cannot be read whole, first and last, if it is a segment.
    pub batches: Option<(u64, u64)>,
    /// Of a stream file that could not be opened: it may be one that nobody has named yet.
    pub unopened: Option<StreamFileId>,
    /// Of a snapshot: it was given up for an older one, or none, and another is due.
    pub is_snapshot: bool,
    /// So much is damaged that nobody can say whether this was found before: it is neither counted nor to be told.
    pub beyond: bool,
}

/// What scrubbing has come to since the start.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Damage in the order in which it was found, the first hundred.
    pub found: Vec<Found>,
    /// How many places were met, each counted once; some may have turned out to be one.
    pub damages: u64,
    /// There are more, which are not.
    pub beyond: bool,
    /// Records of damaged batches that were copied forward.
    pub repaired: u64,
    /// Bytes that were read.
    pub scrubbed_bytes: u64,
    /// Passes that came to their end.
    pub passes: u64,
}

enum At {
    /// In front of the first segment that begins behind this batch.
    Segments(u64),
    Batches(Arc<str>, u64, Box<BatchReader>),
    Snapshots(Vec<Kept>),
    Pieces(Vec<Kept>, PathBuf, Box<SnapshotSource>),
    StreamFiles(Vec<StreamFileId>),
    Blocks(Vec<StreamFileId>, Box<StreamFile>, usize),
    End,
}

/// One pass, as far as it has come.
pub struct Scrubber {
    journal: Journal,
    at: At,
}

impl Scrubber {
    /// At the beginning of a pass.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        Self {
            journal,
            at: At::Segments(0),
        }
    }

    /// Reads the next piece: how many bytes that were, and what was found. `None`: the pass has come to its end.
    pub fn turn(&mut self) -> Option<(u64, Vec<Found>)> {
        let mut found = Vec::new();
        let at = std::mem::replace(&mut self.at, At::End);
        let read = match at {
            At::Segments(behind) => self.next_segment(behind, &mut found),
            At::Batches(name, first, reader) => self.next_batch(&name, first, reader, &mut found),
            At::Snapshots(list) => self.next_snapshot(list, &mut found),
            At::Pieces(list, path, source) => self.next_piece(list, path, source, &mut found),
            At::StreamFiles(list) => self.next_stream_file(list, &mut found),
            At::Blocks(list, file, block) => self.next_block(list, file, block, &mut found),
            At::End => return None,
        };
        let shared = self.journal.shared();
        let mut health = shared.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.scrubbed_bytes += read;
        health.passes += u64::from(matches!(self.at, At::End));
        Some((read, found))
    }

    fn next_segment(&mut self, behind: u64, found: &mut Vec<Found>) -> u64 {
        let shared = self.journal.shared();
        let next = shared.table.all().into_iter().find(|segment| {
            segment.first_seq() > behind
                && segment.sealed.load(Ordering::Acquire)
                && !segment.gone.load(Ordering::Acquire)
        });
        let Some(segment) = next else {
            self.at =
                At::Snapshots(snapshot::list(&*shared.vfs, &shared.paths).unwrap_or_default());
            return 0;
        };
        let first = segment.first_seq();
        let fault = match self.header(&segment) {
            Ok(true) => None,
            Ok(false) => Some("the segment header does not match its checksum".to_owned()),
            Err(error) if is_passing(&error) => None,
            Err(error) => Some(format!("it cannot be read: {error}")),
        };
        if let Some(what) = fault {
            if self.is_given_back(&segment) {
                self.at = At::Segments(first);
                return BLOCK as u64;
            }
            self.damage(&segment, 0, what, None, found);
        }
        self.at = match self.reader(&segment) {
            Ok(reader) => At::Batches(
                segment.path.to_string_lossy().into(),
                first,
                Box::new(reader),
            ),
            Err(_) => At::Segments(first),
        };
        BLOCK as u64
    }

    /// A descriptor of its own: the one of the segment may be closed for a while, or held for long.
    fn reader(&self, segment: &Segment) -> io::Result<BatchReader> {
        let shared = self.journal.shared();
        let access = crate::vfs::Access::Read;
        let file = shared.vfs.open(&segment.path, access, segment.direct)?;
        let limit = crate::segment::data_end(segment.header.len);
        let gaps = segment.gaps();
        Ok(BatchReader::new(
            file,
            &segment.path,
            &segment.header,
            limit,
            gaps,
        ))
    }

    fn header(&self, segment: &Segment) -> io::Result<bool> {
        let shared = self.journal.shared();
        let given_up = shared.given_up.iter();
        if given_up
            .filter(|loss| loss.header.is_some())
            .any(|loss| loss.segment == segment.id())
        {
            return Ok(true);
        }
        let block = self.header_block(segment)?;
        Ok(SegmentHeader::decode(&block).is_some_and(|header| header == segment.header))
    }

    fn header_block(&self, segment: &Segment) -> io::Result<Bytes> {
        let shared = self.journal.shared();
        let access = crate::vfs::Access::Read;
        let file = shared.vfs.open(&segment.path, access, segment.direct)?;
        let mut block = Aligned::zeroed(BLOCK);
        let n = file.read_at(&mut block, 0)?;
        Ok(block.freeze().slice(..n))
    }

    /// Whether another node has given the segment back: its name is gone, or leads to another one.
    fn is_given_back(&self, segment: &Segment) -> bool {
        let mut block = self.header_block(segment);
        let is_blank = |block: &Bytes| block.iter().all(|byte| *byte == 0);
        if !segment.own && block.as_ref().is_ok_and(is_blank) {
            self.journal.shared().vfs.wait(BEING_GIVEN_BACK);
            block = self.header_block(segment);
        }
        match block {
            Ok(block) => SegmentHeader::decode(&block).is_some_and(|it| it != segment.header),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// The segment, if it is still part of the journal.
    fn segment(&self, path: &str, first: u64) -> Option<Arc<Segment>> {
        let shared = self.journal.shared();
        let mut all = shared.table.all().into_iter();
        all.find(|segment| {
            segment.first_seq() == first
                && segment.path.to_string_lossy() == path
                && !segment.gone.load(Ordering::Acquire)
        })
    }

    fn next_batch(
        &mut self,
        name: &Arc<str>,
        first: u64,
        mut reader: Box<BatchReader>,
        found: &mut Vec<Found>,
    ) -> u64 {
        let Some(last) = self.segment(name, first).map(|segment| segment.last_seq()) else {
            self.at = At::Segments(first);
            return 0;
        };
        if reader.position.seq >= last {
            self.at = At::Segments(first);
            return 0;
        }
        let before = (reader.position, reader.offset);
        let what = match reader.next_batch() {
            Ok(batch) => {
                let read = batch.outer.padded_len() as u64;
                self.at = At::Batches(Arc::clone(name), first, reader);
                return read;
            }
            Err(Stop::Invalid { what, .. }) => what,
            Err(Stop::Io(error)) if is_passing(&error) => {
                self.at = At::Segments(first);
                return BLOCK as u64;
            }
            Err(Stop::Io(error)) => format!("it cannot be read: {error}"),
        };
        // Not held while it is read: it may be given back.
        let Some(segment) = self.segment(name, first) else {
            self.at = At::Segments(first);
            return BLOCK as u64;
        };
        let again = self.reader(&segment).map(|mut again| {
            (again.position, again.offset) = before;
            again.next_batch().is_ok()
        });
        if again.as_ref().is_err_and(is_passing) {
            self.at = At::Segments(first);
            return BLOCK as u64;
        }
        if matches!(again, Ok(true)) {
            tracing::warn!(
                path = &**name,
                offset = before.1,
                what,
                "misread, and read well again"
            );
            (reader.position, reader.offset) = before;
            reader.refresh(256 << 10);
            self.at = At::Batches(Arc::clone(name), first, reader);
            return BLOCK as u64;
        }
        if self.is_given_back(&segment) {
            self.at = At::Segments(first);
            return BLOCK as u64;
        }
        let gap = reader.find_whole(before.1 + BLOCK as u64, before.0.seq, Some(last));
        let upto = gap.map_or(last, |gap| gap.after.seq);
        self.damage(
            &segment,
            before.1,
            what,
            Some((before.0.seq + 1, upto)),
            found,
        );
        self.at = match gap {
            Some(_) => At::Batches(Arc::clone(name), first, reader),
            None => At::Segments(first),
        };
        BLOCK as u64
    }

    fn damage(
        &self,
        segment: &Segment,
        offset: u64,
        what: impl Into<String>,
        batches: Option<(u64, u64)>,
        found: &mut Vec<Found>,
    ) {
        if segment.gone.load(Ordering::Acquire) {
            return;
        }
        self.tell(
            Found {
                path: segment.path.clone(),
                offset,
                what: what.into(),
                batches,
                unopened: None,
                is_snapshot: false,
                beyond: false,
            },
            found,
        );
    }

    fn tell(&self, damage: Found, found: &mut Vec<Found>) {
        let noted = match damage.unopened {
            Some(_) => Noted::New,
            None => self.journal.note(&damage, true),
        };
        let beyond = noted == Noted::Beyond;
        if noted != Noted::Known {
            found.push(Found { beyond, ..damage });
        }
    }

    fn next_snapshot(&mut self, mut list: Vec<Kept>, found: &mut Vec<Found>) -> u64 {
        let shared = self.journal.shared();
        let Some(kept) = list.pop() else {
            self.at = At::StreamFiles(self.journal.stream_files().unwrap_or_default());
            return 0;
        };
        let path = snapshot::path_of(&shared.paths, &kept);
        match SnapshotSource::open(&*shared.vfs, &path, shared.direct, &shared.store) {
            Ok(source) => self.at = At::Pieces(list, path, Box::new(source)),
            Err(error) => {
                self.snapshot_damage(&path, 0, &error, found);
                self.at = At::Snapshots(list);
            }
        }
        BLOCK as u64
    }

    fn next_piece(
        &mut self,
        list: Vec<Kept>,
        path: PathBuf,
        mut source: Box<SnapshotSource>,
        found: &mut Vec<Found>,
    ) -> u64 {
        let before = source.offset();
        match source.next_piece() {
            Ok(true) => {
                let read = source.offset() - before;
                self.at = At::Pieces(list, path, source);
                return read;
            }
            Ok(false) => {}
            Err(error) => self.snapshot_damage(&path, before, &error, found),
        }
        self.at = At::Snapshots(list);
        BLOCK as u64
    }

    fn snapshot_damage(
        &self,
        path: &std::path::Path,
        offset: u64,
        error: &io::Error,
        found: &mut Vec<Found>,
    ) {
        let shared = self.journal.shared();
        // It may have given way to a newer one.
        let there = snapshot::list(&*shared.vfs, &shared.paths).unwrap_or_default();
        let there = there
            .iter()
            .any(|kept| snapshot::path_of(&shared.paths, kept) == path);
        let whole = match SnapshotSource::whole(&*shared.vfs, path, shared.direct, &shared.store) {
            Ok(_) => true,
            Err(again) => is_passing(&again),
        };
        if !there || whole || is_passing(error) || error.kind() == io::ErrorKind::NotFound {
            return;
        }
        self.tell(
            Found {
                path: path.to_owned(),
                offset,
                what: error.to_string(),
                batches: None,
                unopened: None,
                is_snapshot: true,
                beyond: false,
            },
            found,
        );
    }

    fn next_stream_file(&mut self, mut list: Vec<StreamFileId>, found: &mut Vec<Found>) -> u64 {
        let Some(id) = list.pop() else {
            self.at = At::End;
            return 0;
        };
        match StreamFile::open(&self.journal, &id) {
            Ok(file) => self.at = At::Blocks(list, Box::new(file), 0),
            Err(error) => {
                self.stream_damage(error, Some(id), found);
                self.at = At::StreamFiles(list);
            }
        }
        BLOCK as u64
    }

    fn next_block(
        &mut self,
        list: Vec<StreamFileId>,
        file: Box<StreamFile>,
        block: usize,
        found: &mut Vec<Found>,
    ) -> u64 {
        let Some(read) = file.verify_block(block) else {
            self.at = At::StreamFiles(list);
            return 0;
        };
        // One that went meanwhile stays readable to who has it open.
        let read = read.unwrap_or_else(|error| {
            self.stream_damage(error, None, found);
            BLOCK as u64
        });
        self.at = At::Blocks(list, file, block + 1);
        read
    }

    fn stream_damage(
        &self,
        error: ReadError,
        unopened: Option<StreamFileId>,
        found: &mut Vec<Found>,
    ) {
        if let Some(damage) = Found::of(error) {
            self.tell(Found { unopened, ..damage }, found);
        }
    }
}

/// Whether it says nothing of the file: this process, or the machine, has no more of something, or the server was away. The next pass comes.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::AGAIN,
        Errno::TIMEDOUT,
        Errno::STALE,
    ];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

impl Found {
    /// Whether it is damage to the same batch or, apart from batches, at the same place.
    fn is_of(&self, other: &Self) -> bool {
        let same = match (self.batches, other.batches) {
            (Some((first, last)), Some(others)) => first <= others.1 && others.0 <= last,
            (None, None) => self.offset == other.offset,
            _ => false,
        };
        same && self.path == other.path
    }

    /// What a read that failed says of the file; nothing where that may be gone.
    fn of(error: ReadError) -> Option<Self> {
        let (path, offset, what) = match error {
            ReadError::Corrupt(corruption) => (corruption.path, corruption.offset, corruption.what),
            ReadError::Io { source, .. }
                if source.kind() == io::ErrorKind::NotFound || is_passing(&source) =>
            {
                return None;
            }
            ReadError::Io { path, source } => (path, 0, format!("it cannot be read: {source}")),
            ReadError::NotCommitted(_) | ReadError::Gone(_) => return None,
        };
        Some(Self {
            path,
            offset,
            what,
            batches: None,
            unopened: None,
            is_snapshot: false,
            beyond: false,
        })
    }
}

impl Journal {
    /// What scrubbing has come to.
    #[must_use]
    pub fn health(&self) -> Health {
        let health = self.shared().health.lock();
        health.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts damage and keeps it for whoever asks. `false`: it is known. What a reader has met of a batch is not counted again when
    /// that batch is found, but told: where it begins, and whether others are damaged with it, only now is known.
    pub fn note_damage(&self, damage: &Found) -> bool {
        matches!(self.note(damage, true), Noted::New | Noted::Reach)
    }

    /// `is_whole`: it says how far the damage reaches, not only where a reader met it.
    fn note(&self, damage: &Found, is_whole: bool) -> Noted {
        let shared = self.shared();
        let places = shared.damaged.lock();
        let mut places = places.unwrap_or_else(PoisonError::into_inner);
        let noted = places.note(damage, is_whole);
        let mut health = shared.health.lock().unwrap_or_else(PoisonError::into_inner);
        match noted {
            Noted::New => {
                health.damages += 1;
                if health.found.len() < KEPT_MAX {
                    health.found.push(damage.clone());
                }
            }
            Noted::Reach => {
                // Several that readers met may have turned out to be one.
                let known = health.found.iter().position(|known| known.is_of(damage));
                health.found.retain(|known| !known.is_of(damage));
                if let Some(at) = known {
                    health.found.insert(at, damage.clone());
                }
            }
            Noted::Beyond if !health.beyond => {
                health.beyond = true;
                tracing::error!(
                    places = health.damages,
                    path = %damage.path.display(),
                    offset = damage.offset,
                    "so much of the journal is damaged that further places are neither counted nor told"
                );
            }
            Noted::Beyond | Noted::Known => {}
        }
        noted
    }

    /// Somebody wanted to read a record, or out of a stream file, and could not. `false`: it says nothing of a file, or is known.
    pub fn note_unreadable(&self, error: ReadError, record: Option<StoredId>) -> bool {
        let place = record.and_then(|record| self.shared().table.resolve(record));
        let batch = place.map(|(_, at)| id::seq(at));
        let damage = Found::of(error).map(|damage| Found {
            batches: batch.map(|batch| (batch, batch)),
            ..damage
        });
        damage.is_some_and(|damage| self.note(&damage, false) == Noted::New)
    }

    /// What can still be read of a damaged batch: out of memory if it is there, else whatever frames of it are whole. Survivors
    /// that were moved there are left out, and what lies elsewhere already.
    #[must_use]
    pub fn salvage(&self, batch: u64) -> Vec<(StoredId, u8, Bytes)> {
        let shared = self.shared();
        let stays = |id| {
            let lies = shared.table.resolve(id);
            lies.is_none_or(|(_, at)| at == id)
        };
        if let Some(payload) = shared.cache.payload(batch) {
            let records = batch::records(batch, &payload).flatten();
            let own = records.filter(|record| record.origin.is_none() && stays(record.id));
            return own
                .map(|record| (record.id, record.kind, record.payload))
                .collect();
        }
        let mut records = Vec::new();
        for offset in shared.frames_of(batch).unwrap_or_default() {
            let id = id::pack(batch, offset);
            if stays(id)
                && let Ok((kind, payload)) = shared.read_record(id)
            {
                records.push((id, kind, payload));
            }
        }
        records
    }

    /// Records of damaged batches were copied forward.
    pub fn note_repaired(&self, records: u64) {
        let health = self.shared().health.lock();
        health.unwrap_or_else(PoisonError::into_inner).repaired += records;
    }

    /// A snapshot is damaged: it is not one to start from any more, and another is due.
    pub fn give_up_snapshot(&self, path: &std::path::Path) {
        let shared = self.shared();
        let mut snapshots = shared
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        snapshots.retain(|kept| snapshot::path_of(&shared.paths, kept) != *path);
        drop(snapshots);
        let due = shared.snapshot_every();
        shared.snapshot_bytes.fetch_max(due, Ordering::Relaxed);
        if let Err(error) = shared.vfs.unlink(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "failed to unlink a damaged snapshot");
        }
    }
}
