//! Snapshots: the state behind a batch, written under a temporary name, synced, then linked.
//!
//! ```text
//! 0      magic "BSCLSNAP", level u32, zeros u32, store, sequence, LSN, chain hash, check u64
//! then   blocks: length u32, XXH3-64 of (the bytes) seeded with the block's number, bytes (64 KiB but for the last);
//!        a block of length 0 whose check is seeded with the number of blocks ends the file
//! inside the forwards: count u64, (old id, new id) pairs; then what the node wrote
//! ```
//! A snapshot counts only if it is whole and its chain hash is that of the journal at its position (RULES 21). The two newest
//! are kept, so that one that rotted costs time, not data; segments are reclaimed behind the older one only.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::hash::{xxh3_64, xxh3_64_with_seed};

use crate::batch::{self, u32_at, u64_at, u128_at};
use crate::error::{Corruption, ReadError, SnapshotError};
use crate::layout::{FORMAT_LEVEL, Paths, Position, Uuid, hex, parse_numbered_name};
use crate::passing::{InFile, OutFile};
use crate::reader::BatchReader;
use crate::segment::Segment;
use crate::shared::{Kept, Shared};
use crate::spares;
use crate::vfs::Vfs;

const MAGIC: [u8; 8] = *b"BSCLSNAP";
const HEADER: usize = 72;
const PIECE: usize = 64 << 10;
const PIECE_HEADER: usize = 12;
const KEPT: usize = 2;

pub(crate) fn path_of(paths: &Paths, kept: &Kept) -> PathBuf {
    paths
        .snapshots()
        .join(format!("{}-{}", kept.seq, hex(&kept.writer)))
}

/// Whose name a second copy of a snapshot bears: nobody else's.
fn second_copy(writer: Uuid) -> Uuid {
    writer.map(|byte| !byte)
}

/// Snapshots on disk by name, oldest first.
pub(crate) fn list(vfs: &dyn Vfs, paths: &Paths) -> io::Result<Vec<Kept>> {
    let mut found: Vec<Kept> = vfs
        .list(&paths.snapshots())?
        .iter()
        .filter_map(|name| {
            let (_, writer) = name.split_once('-')?;
            let writer = u128::from_str_radix(writer, 16).ok()?.to_be_bytes();
            Some(Kept {
                seq: parse_numbered_name(name)?,
                writer,
            })
        })
        .collect();
    found.sort_by_key(|kept| (kept.seq, kept.writer));
    Ok(found)
}

/// Looks which snapshots are there: another node may have made or removed some. One that is not known counts once it is
/// whole and fits the history.
pub(crate) fn adopt(shared: &Shared) {
    let found = match list(&*shared.vfs, &shared.paths) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "failed to look for snapshots");
            return;
        }
    };
    let known = shared
        .snapshots
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let newest = known.last().map_or(0, |kept| kept.seq);
    let committed = shared.committed.load(Ordering::Acquire);
    // Of the newest: they are looked at in order.
    let len = Cell::new(0);
    let adoptable = |kept: &Kept| {
        if known.contains(kept) {
            return true;
        }
        if kept.seq <= newest || kept.seq > committed {
            return false;
        }
        let source = SnapshotSource::whole(
            &*shared.vfs,
            &path_of(&shared.paths, kept),
            shared.direct,
            &shared.store,
        );
        source.is_ok_and(|source| {
            len.set(source.len);
            position_behind(shared, kept.seq).is_ok_and(|position| position == source.position)
        })
    };
    let kept: Vec<Kept> = found.into_iter().filter(adoptable).collect();
    // Who made it may have died before its name was durable, and segments are given back for it.
    if kept.last().is_some_and(|kept| kept.seq > newest)
        && let Err(error) = shared.vfs.sync_dir(&shared.paths.snapshots())
    {
        tracing::warn!(%error, "failed to make the name of a snapshot durable");
        return;
    }
    if kept.last().is_some_and(|kept| kept.seq > newest) {
        shared.snapshot_bytes.store(0, Ordering::Relaxed);
        shared.snapshot_len.store(len.get(), Ordering::Relaxed);
    }
    let mut snapshots = shared
        .snapshots
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    // Not if one was written meanwhile: the next look finds it.
    if *snapshots == known && !kept.is_empty() {
        *snapshots = kept;
    }
}

struct Pieces {
    out: OutFile,
    number: u64,
    piece: Vec<u8>,
}

impl Pieces {
    fn put_piece(&mut self) -> io::Result<()> {
        let check = xxh3_64_with_seed(&self.piece, self.number);
        self.out.put(&(self.piece.len() as u32).to_le_bytes())?;
        self.out.put(&check.to_le_bytes())?;
        self.out.put(&self.piece)?;
        self.piece.clear();
        self.number += 1;
        Ok(())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..n]);
        if self.piece.len() == PIECE {
            self.put_piece()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The position behind a committed batch.
fn position_behind(shared: &Shared, seq: u64) -> Result<Position, ReadError> {
    if seq == 0 {
        return Ok(Position::default());
    }
    let unknown = || ReadError::NotCommitted(crate::id::pack(seq, 0));
    if seq > shared.committed.load(Ordering::Acquire) {
        return Err(unknown());
    }
    let segment = shared.table.of_seq(seq).ok_or_else(unknown)?;
    let vfs = &*shared.vfs;
    let gaps = segment.gaps();
    if let Some(gap) = gaps.iter().find(|gap| gap.after.seq == seq) {
        return Ok(gap.after);
    }
    let place = segment.place(vfs, seq)?;
    read_position(vfs, &segment, place.offset())
}

/// The position behind the batch at this offset, from its headers.
pub(crate) fn read_position(
    vfs: &dyn Vfs,
    segment: &Segment,
    offset: u64,
) -> Result<Position, ReadError> {
    let file = segment.file(vfs)?;
    let mut block = crate::aligned::Aligned::zeroed(batch::BLOCK);
    file.read_at(&mut block, offset)
        .map_err(|e| segment.io(e))?;
    let outer = batch::Header::decode(&block, segment.header.salt)
        .ok_or_else(|| segment.corrupt(offset, "no batch header"))?;
    let header = if outer.flags & batch::ADOPTED == 0 {
        outer
    } else {
        batch::Header::decode_inner(&block[batch::HEADER_LEN..])
            .ok_or_else(|| segment.corrupt(offset, "no header in an adopted batch"))?
    };
    Ok(Position {
        seq: header.seq,
        lsn: header.first_lsn + u64::from(header.records),
        chain: header.chain_after(),
    })
}

/// Writes a snapshot of the state behind batch `at`.
pub(crate) fn write(
    shared: &Arc<Shared>,
    at: u64,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), SnapshotError> {
    write_at(shared, position_behind(shared, at)?, content)
}

/// The same where the position is known.
pub(crate) fn write_at(
    shared: &Arc<Shared>,
    position: Position,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), SnapshotError> {
    let at = position.seq;
    let mut kept = Kept {
        seq: at,
        writer: shared.writer,
    };
    let known = |kept: &Kept| {
        shared
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(kept)
    };
    if known(&kept) {
        // Nothing was written since: a second copy takes the place of the older snapshot, which holds up space.
        kept.writer = second_copy(kept.writer);
    }
    let path = path_of(&shared.paths, &kept);
    let temporary = shared
        .paths
        .snapshots()
        .join(format!("tmp-{at}-{}", hex(&shared.writer)));
    let covered = {
        let (seq, bytes) = *shared
            .replayed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let written = shared.snapshot_bytes.load(Ordering::Relaxed);
        if seq == at {
            bytes.min(written)
        } else {
            written
        }
    };
    let vfs = &*shared.vfs;
    let _ = vfs.unlink(&temporary);
    let written = write_file(shared, &temporary, position, content).and_then(|len| {
        let named = match vfs.link(&temporary, &path) {
            // A snapshot of this very position is there.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            linked => linked.map(|()| true)?,
        };
        let synced = vfs.sync_dir(&shared.paths.snapshots());
        if synced.is_err() && named {
            // The next sync may say yes to what this one has lost: the name is made anew in front of that.
            let _ = vfs.unlink(&path);
        }
        synced.map(|()| len)
    });
    let _ = vfs.unlink(&temporary);
    let len = match written {
        Ok(len) => len,
        Err(source) => {
            // Of a file that may not be so long, no reserve makes a longer one.
            if spares::is_full(&source) && source.kind() != io::ErrorKind::FileTooLarge {
                // The next try has the room of spares, or of the reserve.
                if !spares::give_back_hoard(shared) {
                    spares::give_up_reserve(shared, shared.snapshot_need());
                }
            }
            return Err(SnapshotError::Io { path, source });
        }
    };
    shared.snapshot_bytes.fetch_sub(covered, Ordering::Relaxed);
    let mut snapshots = shared
        .snapshots
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    shared.snapshot_len.store(len, Ordering::Relaxed);
    if !snapshots.contains(&kept) {
        snapshots.push(kept);
        snapshots.sort_by_key(|kept| kept.seq);
    }
    while snapshots.len() > KEPT {
        let old = snapshots.remove(0);
        remove(shared, &old);
    }
    let kept = snapshots.clone();
    drop(snapshots);
    if kept.len() == KEPT {
        sweep(shared, &kept);
    }
    Ok(())
}

fn remove(shared: &Shared, old: &Kept) {
    // Another node may have done so.
    if let Err(error) = shared.vfs.unlink(&path_of(&shared.paths, old))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "failed to unlink an old snapshot");
    }
}

/// Removes snapshots that are older than those that are kept and none of them: they were damaged, or of another history, and passed
/// over.
fn sweep(shared: &Shared, kept: &[Kept]) {
    let oldest = kept.first().map_or(0, |oldest| oldest.seq);
    let passed_over = |found: &Kept| found.seq < oldest;
    match list(&*shared.vfs, &shared.paths) {
        Ok(found) => {
            let found = found.into_iter().filter(passed_over);
            found.for_each(|old| remove(shared, &old));
        }
        Err(error) => tracing::warn!(%error, "failed to look for old snapshots"),
    }
}

/// Returns the file's length.
fn write_file(
    shared: &Shared,
    path: &Path,
    position: Position,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<u64> {
    let vfs = &*shared.vfs;
    let mut out = OutFile::create(vfs, path.to_owned(), shared.direct)?;
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&FORMAT_LEVEL.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&shared.store);
    header.extend_from_slice(&position.seq.to_le_bytes());
    header.extend_from_slice(&position.lsn.to_le_bytes());
    header.extend_from_slice(&position.chain.to_le_bytes());
    let check = xxh3_64(&header);
    header.extend_from_slice(&check.to_le_bytes());
    out.put(&header)?;
    let mut pieces = Pieces {
        out,
        number: 0,
        piece: Vec::with_capacity(PIECE),
    };
    write_forwards(shared, &mut pieces)?;
    content(&mut pieces)?;
    if !pieces.piece.is_empty() {
        pieces.put_piece()?;
    }
    pieces.put_piece()?;
    let file = pieces.out.complete(vfs)?;
    if !mutated!(NameSnapshotBeforeSync) {
        file.sync()?;
    }
    Ok(pieces.out.end())
}

fn write_forwards(shared: &Shared, out: &mut dyn Write) -> io::Result<()> {
    let mut pairs = Vec::new();
    for segment in shared.table.all() {
        let forwards = segment
            .forwards
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        pairs.extend(forwards.iter());
    }
    out.write_all(&(pairs.len() as u64).to_le_bytes())?;
    for (old, new) in pairs {
        out.write_all(&old.to_le_bytes())?;
        out.write_all(&new.to_le_bytes())?;
    }
    Ok(())
}

/// A whole and verified snapshot, to be read by the node.
pub struct SnapshotSource {
    pub(crate) position: Position,
    pub(crate) forwards: Vec<(u64, u64)>,
    /// Of the file, once it was found to be whole; 0 before.
    pub(crate) len: u64,
    path: PathBuf,
    file: InFile,
    at: u64,
    number: u64,
    piece: VecDeque<u8>,
    ended: bool,
}

impl SnapshotSource {
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path, direct: bool, store: &Uuid) -> io::Result<Self> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut file = InFile::open(vfs, path, direct)?;
        let mut header = [0; HEADER];
        let n = file.read_at(&mut header, 0)?;
        if n < HEADER
            || header[..8] != MAGIC
            || xxh3_64(&header[..HEADER - 8]) != u64_at(&header, HEADER - 8)
        {
            return Err(damaged("the header is damaged"));
        }
        if u32_at(&header, 8) > FORMAT_LEVEL || header[16..32] != *store {
            return Err(damaged("it belongs to another version or journal"));
        }
        let position = Position {
            seq: u64_at(&header, 32),
            lsn: u64_at(&header, 40),
            chain: u128_at(&header, 48),
        };
        Ok(Self {
            position,
            forwards: Vec::new(),
            len: 0,
            path: path.to_owned(),
            file,
            at: HEADER as u64,
            number: 0,
            piece: VecDeque::new(),
            ended: false,
        })
    }

    /// The path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The batch behind which the state was taken.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.position.seq
    }

    /// Where the next piece begins.
    pub(crate) const fn offset(&self) -> u64 {
        self.at
    }

    /// Reads the next piece; false at the end.
    pub(crate) fn next_piece(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a block is damaged");
        let mut header = [0; PIECE_HEADER];
        if self.file.read_at(&mut header, self.at)? < PIECE_HEADER {
            return Err(damaged());
        }
        let len = u32_at(&header, 0) as usize;
        if len > PIECE {
            return Err(damaged());
        }
        let mut piece = vec![0; len];
        let n = self
            .file
            .read_at(&mut piece, self.at + PIECE_HEADER as u64)?;
        if n < len || xxh3_64_with_seed(&piece, self.number) != u64_at(&header, 4) {
            return Err(damaged());
        }
        self.at += (PIECE_HEADER + len) as u64;
        self.number += 1;
        self.ended = len == 0;
        self.piece = piece.into();
        Ok(!self.ended)
    }

    /// Reads it all once, to know that it is whole. Returns its length.
    fn verify(vfs: &dyn Vfs, path: &Path, direct: bool, store: &Uuid) -> io::Result<u64> {
        let mut source = Self::open(vfs, path, direct, store)?;
        while source.next_piece()? {}
        Ok(source.at)
    }

    fn read_forwards(&mut self) -> io::Result<()> {
        let mut word = [0; 8];
        self.read_exact(&mut word)?;
        for _ in 0..u64::from_le_bytes(word) {
            self.read_exact(&mut word)?;
            let old = u64::from_le_bytes(word);
            self.read_exact(&mut word)?;
            self.forwards.push((old, u64::from_le_bytes(word)));
        }
        Ok(())
    }

    /// Opens a snapshot that is whole.
    pub(crate) fn whole(
        vfs: &dyn Vfs,
        path: &Path,
        direct: bool,
        store: &Uuid,
    ) -> io::Result<Self> {
        let len = Self::verify(vfs, path, direct, store)?;
        let mut source = Self::open(vfs, path, direct, store)?;
        source.len = len;
        source.read_forwards()?;
        Ok(source)
    }
}

impl Read for SnapshotSource {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if !self.next_piece()? {
                return Ok(0);
            }
        }
        self.piece.read(buf)
    }
}

/// The newest snapshot of a running journal.
pub(crate) fn newest(shared: &Shared) -> Result<Option<SnapshotSource>, ReadError> {
    let kept = shared
        .snapshots
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .last()
        .copied();
    let Some(kept) = kept else { return Ok(None) };
    let path = path_of(&shared.paths, &kept);
    match SnapshotSource::whole(&*shared.vfs, &path, shared.direct, &shared.store) {
        Ok(source) => Ok(Some(source)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Corruption::new(&path, 0, error.to_string()).into())
        }
        Err(source) => Err(ReadError::Io { path, source }),
    }
}

/// Whether a snapshot's chain hash is that of the journal at its position: at the end, at a segment's base, or in front of
/// a batch.
pub(crate) fn fits(
    vfs: &dyn Vfs,
    position: Position,
    segments: &[Arc<Segment>],
    end: Position,
) -> Result<bool, ReadError> {
    if position.seq == end.seq {
        return Ok(position == end);
    }
    let next = position.seq + 1;
    for segment in segments {
        if segment.header.base.seq == position.seq {
            return Ok(segment.header.base == position);
        }
        let gaps = segment.gaps();
        if let Some(gap) = gaps.iter().find(|gap| gap.follows(position.seq)) {
            // Of what was given up nobody knows the chain.
            return Ok(gap.before.seq != position.seq || gap.before == position);
        }
        if segment.first_seq() <= next && next <= segment.last_seq() {
            let mut reader: BatchReader = segment.reader(vfs)?;
            reader.offset = segment.place(vfs, next)?.offset();
            reader.position = position;
            return Ok(reader.next_batch().is_ok());
        }
    }
    Ok(false)
}
