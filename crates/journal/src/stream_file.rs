//! Stream files: records of streams that were copied out of the journal, so that their segments can go (RULES 25).
//!
//! ```text
//! 0       magic "BSCLSTRM", level u32, zeros u32, store, epoch u64, number u64, writer, check u64
//! then    blocks: length u32, records u32, XXH3-64 of (the bytes) seeded with the block's offset, bytes
//!         bytes of a block: records of one shard: sequence u64, time u64, length u32, payload
//! then    the index, an entry a block: stream u64, shard u32, records u32, first and last sequence, first and last time,
//!         offset u64, length u64
//! end     index offset u64, entries u64, XXH3-64 of the index, magic, check u64
//! ```
//! The index is sorted by stream, shard and sequence, the blocks of a shard by sequence; times do not fall within a shard. Records
//! come in the order in which they lie in the journal, so several shards have an open block. A file is written once, all but its end
//! past the page cache where that works, synced, and its directory synced, before any record names it: one without its end is
//! never read. Every byte that is read has been checked; damage is an error that names the file and the offset.
//!
//! Absent: knowledge of what a payload means, and of which files are needed. The node knows both.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::hash::{xxh3_64, xxh3_64_with_seed};
use bytes::Bytes;

use crate::batch::{u32_at, u64_at};
use crate::error::{Corruption, ReadError};
use crate::journal::Journal;
use crate::layout::{FORMAT_LEVEL, Uuid, hex};
use crate::passing::OutFile;
use crate::vfs::{Access, Vfs, VfsFile};

const MAGIC: [u8; 8] = *b"BSCLSTRM";
const HEADER: usize = 72;
const FOOTER: usize = 40;
const BLOCK_HEADER: usize = 16;
const RECORD_HEADER: usize = 20;
const ENTRY: usize = 64;
/// Bytes of records after which a block is closed; a longer record has one of its own.
const BLOCK_LEN: usize = 64 << 10;
/// Memory of open blocks, all together, from which on the largest is closed although it is not full.
const OPEN_LEN_MAX: usize = 8 << 20;

/// Which stream file: its name in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamFileId {
    /// The epoch in which it was written.
    pub epoch: u64,
    /// Its number in that epoch.
    pub number: u64,
    /// The writer of that epoch.
    pub writer: Uuid,
}

impl StreamFileId {
    fn name(&self) -> String {
        self.to_string()
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let id = Self {
            epoch: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
            writer: u128::from_str_radix(parts.next()?, 16).ok()?.to_be_bytes(),
        };
        (parts.next().is_none() && id.name() == name).then_some(id)
    }
}

impl fmt::Display for StreamFileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.epoch, self.number, hex(&self.writer))
    }
}

/// A shard of a stream.
type Place = (u64, u32);

/// What the index says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    place: Place,
    records: u32,
    first: u64,
    last: u64,
    first_time: u64,
    last_time: u64,
    offset: u64,
    len: u64,
}

impl Entry {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.place.0.to_le_bytes());
        out.extend_from_slice(&self.place.1.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        for word in [
            self.first,
            self.last,
            self.first_time,
            self.last_time,
            self.offset,
            self.len,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Self {
        Self {
            place: (u64_at(bytes, 0), u32_at(bytes, 8)),
            records: u32_at(bytes, 12),
            first: u64_at(bytes, 16),
            last: u64_at(bytes, 24),
            first_time: u64_at(bytes, 32),
            last_time: u64_at(bytes, 40),
            offset: u64_at(bytes, 48),
            len: u64_at(bytes, 56),
        }
    }
}

/// A block that is being filled.
struct Open {
    entry: Entry,
    /// Its header, to be written when it is closed, and its records.
    bytes: Vec<u8>,
}

impl Open {
    /// Adds a record. How much more memory it takes then.
    fn push(&mut self, (sequence, time, len): (u64, u64, usize), payload: &[&[u8]]) -> usize {
        let Self { entry, bytes: out } = self;
        let before = out.capacity();
        assert!(
            entry.records == 0 || entry.last < sequence && entry.last_time <= time,
            "the records of a shard are sorted"
        );
        entry.records += 1;
        entry.last = sequence;
        entry.last_time = time;
        out.reserve(RECORD_HEADER + len);
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&time.to_le_bytes());
        let len = u32::try_from(len).expect("a record is shorter than 4 GiB");
        out.extend_from_slice(&len.to_le_bytes());
        for part in payload {
            out.extend_from_slice(part);
        }
        out.capacity() - before
    }
}

/// Writes a stream file. One that is dropped before [`StreamFileWriter::finish`] leaves nothing.
pub struct StreamFileWriter {
    vfs: Arc<dyn Vfs>,
    root: PathBuf,
    dir: PathBuf,
    id: StreamFileId,
    out: OutFile,
    open: BTreeMap<Place, Open>,
    /// The memory of open blocks.
    open_len: usize,
    /// That of a block that was closed as it was full, for the next one of its shard.
    spare: Vec<u8>,
    index: Vec<Entry>,
    finished: bool,
}

impl StreamFileWriter {
    fn create(journal: &Journal, number: u64) -> Result<Self, ReadError> {
        let shared = journal.shared();
        let id = StreamFileId {
            epoch: journal.epoch(),
            number,
            writer: shared.writer,
        };
        let dir = shared.paths.streams();
        let path = dir.join(id.name());
        let vfs = Arc::clone(&shared.vfs);
        let failed = |source| ReadError::Io {
            path: path.clone(),
            source,
        };
        vfs.create_dir(&dir).map_err(failed)?;
        let out = OutFile::create(&*vfs, path.clone(), shared.direct).map_err(failed)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&FORMAT_LEVEL.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&shared.store);
        header.extend_from_slice(&id.epoch.to_le_bytes());
        header.extend_from_slice(&id.number.to_le_bytes());
        header.extend_from_slice(&id.writer);
        header.extend_from_slice(&xxh3_64(&header).to_le_bytes());
        let mut writer = Self {
            vfs,
            root: shared.paths.root.clone(),
            dir,
            id,
            out,
            open: BTreeMap::new(),
            open_len: 0,
            spare: Vec::new(),
            index: Vec::new(),
            finished: false,
        };
        writer.put(&header)?;
        Ok(writer)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// If the file cannot be written.
    ///
    /// # Panics
    /// If it is not behind the one before it of its shard.
    pub fn push(
        &mut self,
        stream: u64,
        shard: u32,
        sequence: u64,
        time: u64,
        payload: &[&[u8]],
    ) -> Result<(), ReadError> {
        let place = (stream, shard);
        let len: usize = payload.iter().map(|part| part.len()).sum();
        let taken = RECORD_HEADER + len;
        let record = (sequence, time, len);
        let fits = |open: &Open| open.bytes.len() + taken <= BLOCK_HEADER + BLOCK_LEN;
        self.open_len += match self.open.get_mut(&place) {
            Some(open) if fits(open) => open.push(record, payload),
            _ => {
                self.close(place)?;
                self.begin(place, sequence, time).push(record, payload)
            }
        };
        if self.open_len > OPEN_LEN_MAX {
            let longest = self
                .open
                .iter()
                .max_by_key(|(_, open)| open.bytes.capacity());
            if let Some((place, _)) = longest {
                self.close(*place)?;
                self.spare = Vec::new();
            }
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let put = self.out.put(bytes);
        put.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            path: self.out.path().to_owned(),
            source,
        }
    }

    fn begin(&mut self, place: Place, sequence: u64, time: u64) -> &mut Open {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.resize(BLOCK_HEADER, 0);
        self.open_len += bytes.capacity();
        let entry = Entry {
            place,
            records: 0,
            first: sequence,
            last: sequence,
            first_time: time,
            last_time: time,
            offset: 0,
            len: 0,
        };
        let open = self.open.entry(place);
        open.or_insert(Open { entry, bytes })
    }

    /// Writes an open block, if there is one of that shard.
    fn close(&mut self, place: Place) -> Result<(), ReadError> {
        let Some(Open {
            mut entry,
            mut bytes,
        }) = self.open.remove(&place)
        else {
            return Ok(());
        };
        self.open_len -= bytes.capacity();
        entry.offset = self.out.end();
        entry.len = bytes.len() as u64;
        let (head, records) = bytes.split_at_mut(BLOCK_HEADER);
        let len = u32::try_from(records.len()).expect("a record is shorter than 4 GiB");
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[4..8].copy_from_slice(&entry.records.to_le_bytes());
        head[8..].copy_from_slice(&xxh3_64_with_seed(records, entry.offset).to_le_bytes());
        self.put(&bytes)?;
        self.index.push(entry);
        // What only a long record needed is given back.
        if bytes.capacity() <= 2 * BLOCK_LEN {
            bytes.clear();
            self.spare = bytes;
        }
        Ok(())
    }

    /// Makes the file durable: then a record may name it.
    ///
    /// # Errors
    /// If that fails; the file is gone then.
    pub fn finish(mut self) -> Result<StreamFileId, ReadError> {
        while let Some((place, _)) = self.open.first_key_value() {
            self.close(*place)?;
        }
        self.index
            .sort_unstable_by_key(|entry| (entry.place, entry.first));
        let mut end = Vec::with_capacity(self.index.len() * ENTRY + FOOTER);
        self.index.iter().for_each(|entry| entry.put(&mut end));
        let (check, entries) = (xxh3_64(&end), self.index.len() as u64);
        let footer = end.len();
        end.extend_from_slice(&self.out.end().to_le_bytes());
        end.extend_from_slice(&entries.to_le_bytes());
        end.extend_from_slice(&check.to_le_bytes());
        end.extend_from_slice(&MAGIC);
        let check = xxh3_64(&end[footer..]);
        end.extend_from_slice(&check.to_le_bytes());
        self.put(&end)?;
        self.out
            .complete(&*self.vfs)
            .and_then(|file| file.sync())
            .and_then(|()| self.vfs.sync_dir(&self.dir))
            .and_then(|()| self.vfs.sync_dir(&self.root))
            .map_err(|source| self.failed(source))?;
        self.finished = true;
        Ok(self.id)
    }
}

impl Drop for StreamFileWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.vfs.unlink(self.out.path())
        {
            tracing::warn!(%error, path = %self.out.path().display(), "failed to unlink an unfinished stream file");
        }
    }
}

/// A record of a stream file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiledRecord {
    /// As it was written.
    pub sequence: u64,
    /// As it was written.
    pub time: u64,
    /// As it was written.
    pub payload: Bytes,
}

/// An open stream file: its index is in memory, its records are not.
pub struct StreamFile {
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    index: Vec<Entry>,
}

impl StreamFile {
    pub(crate) fn open(journal: &Journal, id: &StreamFileId) -> Result<Self, ReadError> {
        let shared = journal.shared();
        let path = shared.paths.streams().join(id.name());
        let failed = |source| ReadError::Io {
            path: path.clone(),
            source,
        };
        let file = shared
            .vfs
            .open(&path, Access::Read, false)
            .map_err(failed)?;
        let mut header = [0; HEADER];
        let n = file.read_at(&mut header, 0).map_err(failed)?;
        let damaged = |offset: u64, what: &str| Corruption::new(&path, offset, what);
        if n < HEADER
            || header[..8] != MAGIC
            || xxh3_64(&header[..HEADER - 8]) != u64_at(&header, HEADER - 8)
        {
            return Err(damaged(0, "the header does not match").into());
        }
        if u32_at(&header, 8) > FORMAT_LEVEL
            || header[16..32] != shared.store
            || u64_at(&header, 32) != id.epoch
            || u64_at(&header, 40) != id.number
        {
            return Err(damaged(0, "it belongs to another version, journal or name").into());
        }
        let index = Self::read_index(&path, &*file)?;
        Ok(Self { path, file, index })
    }

    fn read_index(path: &Path, file: &dyn VfsFile) -> Result<Vec<Entry>, ReadError> {
        let failed = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let damaged =
            |offset: u64, what: &str| ReadError::from(Corruption::new(path, offset, what));
        let len = file.len().map_err(failed)?;
        let at = len.saturating_sub(FOOTER as u64).max(HEADER as u64);
        let mut footer = [0; FOOTER];
        let n = file.read_at(&mut footer, at).map_err(failed)?;
        if n < FOOTER
            || footer[24..32] != MAGIC
            || xxh3_64(&footer[..FOOTER - 8]) != u64_at(&footer, FOOTER - 8)
        {
            return Err(damaged(at, "it does not end as a stream file does"));
        }
        let (start, entries) = (u64_at(&footer, 0), u64_at(&footer, 8));
        if entries
            .checked_mul(ENTRY as u64)
            .and_then(|bytes| bytes.checked_add(start))
            != Some(at)
        {
            return Err(damaged(at, "the index does not end where the file does"));
        }
        let bytes =
            usize::try_from(at - start).map_err(|_| damaged(at, "the index is too long"))?;
        let mut index = vec![0; bytes];
        let n = file.read_at(&mut index, start).map_err(failed)?;
        if n < bytes || xxh3_64(&index) != u64_at(&footer, 16) {
            return Err(damaged(start, "the index does not match"));
        }
        Ok(index.chunks_exact(ENTRY).map(Entry::read).collect())
    }

    /// Shards of a stream of which it holds records.
    #[must_use]
    pub fn shards(&self, stream: u64) -> Vec<u32> {
        let mut shards: Vec<u32> = self
            .blocks(|place| place.0.cmp(&stream))
            .iter()
            .map(|entry| entry.place.1)
            .collect();
        shards.dedup();
        shards
    }

    fn blocks(&self, of: impl Fn(Place) -> std::cmp::Ordering) -> &[Entry] {
        let first = self.index.partition_point(|entry| of(entry.place).is_lt());
        let count = self.index[first..].partition_point(|entry| of(entry.place).is_eq());
        &self.index[first..first + count]
    }

    /// The records of a shard from a sequence on, those left out that came before that time.
    #[must_use]
    pub fn cursor(
        self: &Arc<Self>,
        (stream, shard): (u64, u32),
        from: u64,
        since: u64,
    ) -> StreamFileCursor {
        let blocks = self.blocks(|place| place.cmp(&(stream, shard)));
        let skip = blocks.partition_point(|entry| entry.last < from || entry.last_time < since);
        StreamFileCursor {
            file: Arc::clone(self),
            blocks: blocks[skip..].iter().copied().collect(),
            block: Bytes::new(),
            at: 0,
            from,
            since,
        }
    }

    /// Reads and checks one of its blocks: how many bytes that is. `None`: there is none of that number.
    pub(crate) fn verify_block(&self, number: usize) -> Option<Result<u64, ReadError>> {
        let entry = self.index.get(number)?;
        Some(self.read_block(entry).map(|_| entry.len))
    }

    fn read_block(&self, entry: &Entry) -> Result<Bytes, ReadError> {
        let damaged = |what: &str| ReadError::from(Corruption::new(&self.path, entry.offset, what));
        let len = usize::try_from(entry.len)
            .ok()
            .filter(|len| *len >= BLOCK_HEADER)
            .ok_or_else(|| damaged("a block of no length"))?;
        let mut block = vec![0; len];
        let n = self
            .file
            .read_at(&mut block, entry.offset)
            .map_err(|source| ReadError::Io {
                path: self.path.clone(),
                source,
            })?;
        let bytes = &block[BLOCK_HEADER..];
        if n < len
            || u32_at(&block, 0) as usize != bytes.len()
            || u32_at(&block, 4) != entry.records
            || xxh3_64_with_seed(bytes, entry.offset) != u64_at(&block, 8)
        {
            return Err(damaged("a block does not match"));
        }
        Ok(Bytes::from(block).slice(BLOCK_HEADER..))
    }
}

/// Reads the records of a shard in a stream file, one block in memory at a time.
pub struct StreamFileCursor {
    file: Arc<StreamFile>,
    blocks: VecDeque<Entry>,
    block: Bytes,
    at: u64,
    from: u64,
    since: u64,
}

impl StreamFileCursor {
    /// The next record. Its payload keeps the block in memory that it lies in.
    ///
    /// # Errors
    /// If the file is damaged or unreadable.
    pub fn next_record(&mut self) -> Result<Option<FiledRecord>, ReadError> {
        loop {
            if self.block.is_empty() {
                let Some(entry) = self.blocks.pop_front() else {
                    return Ok(None);
                };
                self.at = entry.offset;
                self.block = self.file.read_block(&entry)?;
            }
            let damaged = || Corruption::new(&self.file.path, self.at, "the records do not add up");
            if self.block.len() < RECORD_HEADER {
                return Err(damaged().into());
            }
            let head = self.block.split_to(RECORD_HEADER);
            let len = u32_at(&head, 16) as usize;
            if self.block.len() < len {
                return Err(damaged().into());
            }
            let record = FiledRecord {
                sequence: u64_at(&head, 0),
                time: u64_at(&head, 8),
                payload: self.block.split_to(len),
            };
            if record.sequence >= self.from && record.time >= self.since {
                return Ok(Some(record));
            }
        }
    }
}

impl Journal {
    /// Begins a stream file of this epoch. Its number must not have been used in it.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create_stream_file(&self, number: u64) -> Result<StreamFileWriter, ReadError> {
        StreamFileWriter::create(self, number)
    }

    /// Opens a stream file that a committed record names. Blocks.
    ///
    /// # Errors
    /// If it is not there, not whole, or unreadable.
    pub fn open_stream_file(&self, id: &StreamFileId) -> Result<Arc<StreamFile>, ReadError> {
        StreamFile::open(self, id).map(Arc::new)
    }

    /// The stream files that are there, named or not, whole or not.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn stream_files(&self) -> Result<Vec<StreamFileId>, ReadError> {
        let shared = self.shared();
        let dir = shared.paths.streams();
        let names = match shared.vfs.list(&dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(ReadError::Io { path: dir, source }),
        };
        let mut found: Vec<_> = names
            .iter()
            .filter_map(|name| StreamFileId::parse(name))
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Removes a stream file that nothing committed names.
    ///
    /// # Errors
    /// If that fails; not if it is gone already.
    pub fn remove_stream_file(&self, id: &StreamFileId) -> Result<(), ReadError> {
        let shared = self.shared();
        let path = shared.paths.streams().join(id.name());
        match shared.vfs.unlink(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ReadError::Io { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Batches up to this one are covered by the newest snapshot: what is copied out of them need not be replayed any more.
    #[must_use]
    pub fn covered_upto(&self) -> u64 {
        let snapshots = self.shared().snapshots.lock();
        let snapshots = snapshots.unwrap_or_else(PoisonError::into_inner);
        snapshots.last().map_or(0, |kept| kept.seq)
    }
}
