//! Reading a journal directory without changing anything: what a start, `verify` and `dump` have in common.
//!
//! The result says which segments are part of the journal, where its history ends, what of the tail is proven durable, and
//! what lies about that belongs to nobody. The rows of the recovery table (recovery.rs) are decided here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::aligned::Aligned;
use crate::batch::BLOCK;
use crate::error::{Corruption, OpenError, ReadError};
use crate::layout::{
    EpochRecord, FORMAT_LEVEL, Format, LeaseSlot, Paths, Position, parse_segment_name,
};
use crate::reader::{Batch, Stop};
use crate::segment::{Segment, SegmentHeader, SegmentId};
use crate::shared::Kept;
use crate::snapshot;
use crate::vfs::{Access, Vfs};

/// Where the last epoch ends.
#[derive(Default)]
pub(crate) struct Tail {
    /// Up to here everything is proven durable.
    pub(crate) proven: Position,
    /// Where the proven part ends in the last epoch: segment number and offset; 0 if none of its files counts.
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// Valid batches behind that: whole, but perhaps not durable.
    pub(crate) unproven: Vec<Batch>,
    /// Behind the last valid batch.
    pub(crate) end: Position,
}

/// What a directory holds.
pub(crate) struct Survey {
    pub(crate) format: Format,
    /// The last epoch, 0 in a new journal.
    pub(crate) last: Option<EpochRecord>,
    /// Segments that are part of the journal, in order.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) tail: Tail,
    pub(crate) snapshots: Vec<Kept>,
    /// Segment files that belong to nobody.
    pub(crate) garbage: Vec<PathBuf>,
}

/// Reads a small file; `None` if it is not there.
pub(crate) fn read_small(vfs: &dyn Vfs, path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    let file = match vfs.open(path, Access::Read, false) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("open", path)(error)),
    };
    let mut bytes = vec![0; 2 * BLOCK];
    let n = file
        .read_at(&mut bytes, 0)
        .map_err(OpenError::io("read", path))?;
    bytes.truncate(n);
    Ok(Some(bytes))
}

/// Reads FORMAT; `None` if there is none.
pub(crate) fn read_format(vfs: &dyn Vfs, paths: &Paths) -> Result<Option<Format>, OpenError> {
    let path = paths.format();
    let Some(bytes) = read_small(vfs, &path)? else {
        return Ok(None);
    };
    let Some(format) = Format::decode(&bytes) else {
        return Err(Corruption::new(&path, 0, "it is not a FORMAT file of ours").into());
    };
    check_level(&path, format.level)?;
    Ok(Some(format))
}

fn check_level(path: &Path, level: u32) -> Result<(), OpenError> {
    if level > FORMAT_LEVEL {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: level,
            known: FORMAT_LEVEL,
        });
    }
    Ok(())
}

/// The published epochs in order. They are never deleted, so a gap is damage (RULES 17).
pub(crate) fn read_epochs(vfs: &dyn Vfs, paths: &Paths) -> Result<Vec<u64>, OpenError> {
    let dir = paths.epochs();
    let names = vfs.list(&dir).map_err(OpenError::io("list", &dir))?;
    let mut epochs: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    epochs.sort_unstable();
    for (expected, &found) in (1..).zip(&epochs) {
        if found != expected {
            let path = paths.epoch(expected);
            return Err(Corruption::new(
                &path,
                0,
                format!("it is missing, but epoch {found} is there"),
            )
            .into());
        }
    }
    Ok(epochs)
}

pub(crate) fn read_epoch(
    vfs: &dyn Vfs,
    paths: &Paths,
    epoch: u64,
) -> Result<EpochRecord, OpenError> {
    let path = paths.epoch(epoch);
    let bytes = read_small(vfs, &path)?.unwrap_or_default();
    let record = EpochRecord::decode(&bytes).filter(|record| record.epoch == epoch);
    let Some(record) = record else {
        return Err(
            Corruption::new(&path, 0, "the epoch record does not match its checksum").into(),
        );
    };
    check_level(&path, record.level)?;
    Ok(record)
}

/// Lengths that a segment header may state.
const SEGMENT_MIN: u64 = 64 << 10;
const SEGMENT_MAX: u64 = 512 << 20;

/// What a segment file turned out to be.
enum Found {
    Part(SegmentHeader),
    /// Never used, or the file of a claimant that lost.
    Nobodys,
    /// It has a header that makes no sense.
    Damaged,
}

struct Surveyor<'a> {
    vfs: &'a dyn Vfs,
    paths: &'a Paths,
    direct: bool,
    /// Somebody may be writing: what follows the proven part is not judged, and not part of the result.
    live: bool,
    format: Format,
    records: BTreeMap<u64, EpochRecord>,
    garbage: Vec<PathBuf>,
    /// Names by epoch and number.
    files: BTreeMap<SegmentId, Vec<(PathBuf, u64)>>,
}

/// Reads the whole layout of a journal that nobody writes any more.
pub(crate) fn survey(vfs: &dyn Vfs, paths: &Paths, direct: bool) -> Result<Survey, OpenError> {
    surveyed(vfs, paths, direct, false)
}

/// The same of one that is being written: its tail ends with what is proven durable, and more may follow. Files may go while
/// it is read, which shows as an error: then it is to be read again.
pub(crate) fn survey_live(vfs: &dyn Vfs, paths: &Paths, direct: bool) -> Result<Survey, OpenError> {
    surveyed(vfs, paths, direct, true)
}

fn surveyed(vfs: &dyn Vfs, paths: &Paths, direct: bool, live: bool) -> Result<Survey, OpenError> {
    let Some(format) = read_format(vfs, paths)? else {
        return Err(OpenError::Absent {
            dir: paths.root.clone(),
        });
    };
    let epochs = read_epochs(vfs, paths)?;
    let snapshots =
        snapshot::list(vfs, paths).map_err(OpenError::io("list", &paths.snapshots()))?;
    let mut surveyor = Surveyor {
        vfs,
        paths,
        direct,
        live,
        format,
        records: BTreeMap::new(),
        garbage: Vec::new(),
        files: BTreeMap::new(),
    };
    surveyor.list_segments()?;
    let Some(&last_epoch) = epochs.last() else {
        surveyor.discard_all();
        let garbage = surveyor.garbage;
        return Ok(Survey {
            format,
            last: None,
            segments: Vec::new(),
            tail: Tail::default(),
            snapshots,
            garbage,
        });
    };
    surveyor.read_records(last_epoch)?;
    let mut segments = surveyor.closed_segments(last_epoch)?;
    let record = surveyor.records[&last_epoch].clone();
    let mut own = surveyor.last_segments(&record)?;
    let evidence = snapshots.last().map_or(0, |kept| kept.seq);
    let tail = surveyor.tail(&record, &mut own, evidence)?;
    segments.append(&mut own);
    Ok(Survey {
        format,
        last: Some(record),
        segments,
        tail,
        snapshots,
        garbage: surveyor.garbage,
    })
}

impl Surveyor<'_> {
    fn list_segments(&mut self) -> Result<(), OpenError> {
        let dir = self.paths.segments();
        for name in self.vfs.list(&dir).map_err(OpenError::io("list", &dir))? {
            if let Some((epoch, number, salt)) = parse_segment_name(&name) {
                let id = SegmentId { epoch, number };
                self.files
                    .entry(id)
                    .or_default()
                    .push((dir.join(name), salt));
            }
        }
        Ok(())
    }

    fn discard_all(&mut self) {
        for (_, files) in std::mem::take(&mut self.files) {
            self.garbage.extend(files.into_iter().map(|(path, _)| path));
        }
    }

    /// Epoch records from the oldest that a segment needs to the last.
    fn read_records(&mut self, last_epoch: u64) -> Result<(), OpenError> {
        let oldest = self
            .files
            .keys()
            .next()
            .map_or(last_epoch, |id| id.epoch.min(last_epoch));
        for epoch in oldest.max(1)..=last_epoch {
            self.records
                .insert(epoch, read_epoch(self.vfs, self.paths, epoch)?);
        }
        Ok(())
    }

    /// Reads a segment's header and says whose it is.
    fn examine(&self, id: SegmentId, path: &Path, salt: u64) -> Result<Found, OpenError> {
        let Some(record) = self.records.get(&id.epoch) else {
            return Ok(Found::Nobodys);
        };
        let file = self
            .vfs
            .open(path, Access::Read, self.direct)
            .map_err(OpenError::io("open", path))?;
        let mut block = Aligned::zeroed(BLOCK);
        let n = file
            .read_at(&mut block, 0)
            .map_err(OpenError::io("read", path))?;
        if block[..n].iter().all(|&b| b == 0) {
            return Ok(Found::Nobodys);
        }
        let Some(header) = SegmentHeader::decode(&block[..n]) else {
            return Ok(Found::Damaged);
        };
        if header.level > FORMAT_LEVEL || !header.is_known(&block) {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found: header.level.max(FORMAT_LEVEL + 1),
                known: FORMAT_LEVEL,
            });
        }
        if header.id != id || header.salt != salt || header.writer != record.writer {
            return Ok(Found::Nobodys);
        }
        if header.store != self.format.store {
            return Err(Corruption::new(path, 24, "it belongs to another journal").into());
        }
        if !(SEGMENT_MIN..=SEGMENT_MAX).contains(&header.len) {
            let what = format!("a segment of {} bytes is none of ours", header.len);
            return Err(Corruption::new(path, 112, what).into());
        }
        let len = file.len().map_err(OpenError::io("read", path))?;
        if len < header.len {
            return Err(Corruption::new(
                path,
                len,
                format!("it is cut short: {} bytes are expected", header.len),
            )
            .into());
        }
        Ok(Found::Part(header))
    }

    fn part(&self, header: SegmentHeader, path: &Path) -> Arc<Segment> {
        Arc::new(Segment::new(header, path.to_owned(), self.direct, false))
    }

    /// The segments of closed epochs, up to the cut of each: what was written behind it came too late.
    fn closed_segments(&mut self, last_epoch: u64) -> Result<Vec<Arc<Segment>>, OpenError> {
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        let files: Vec<_> = self
            .files
            .iter()
            .filter(|(id, _)| id.epoch != last_epoch)
            .flat_map(|(id, files)| files.iter().map(|(path, salt)| (*id, path.clone(), *salt)))
            .collect();
        for (id, path, salt) in files {
            let Some(next) = self.records.get(&(id.epoch + 1)) else {
                self.garbage.push(path);
                continue;
            };
            if id.number > next.cut_segment {
                self.garbage.push(path);
                continue;
            }
            match self.examine(id, &path, salt)? {
                Found::Part(header) => segments.push(self.part(header, &path)),
                Found::Nobodys => self.garbage.push(path),
                Found::Damaged => {
                    return Err(Corruption::new(
                        &path,
                        0,
                        "the segment header does not match its checksum",
                    )
                    .into());
                }
            }
        }
        for i in 0..segments.len() {
            let segment = Arc::clone(&segments[i]);
            let cut = self.records[&(segment.id().epoch + 1)].clone();
            let next = segments.get(i + 1).filter(|next| {
                next.id().epoch == segment.id().epoch && next.id().number == segment.id().number + 1
            });
            if segment.id().number == cut.cut_segment {
                segment.set_end(
                    cut.cut.seq,
                    cut.cut_offset,
                    cut.cut.lsn.saturating_sub(segment.header.base.lsn),
                );
            } else if let Some(next) = next {
                self.end_at(&segment, next.header.base)?;
            } else {
                self.find_end(&segment)?;
            }
            segment.sealed.store(true, Ordering::Release);
        }
        Ok(segments)
    }

    /// The segment is followed by one that starts at `base`.
    fn end_at(&self, segment: &Segment, base: Position) -> Result<(), OpenError> {
        let records = base.lsn.saturating_sub(segment.header.base.lsn);
        match segment.read_trailer(self.vfs).map_err(read_failed)? {
            Some(trailer) if trailer.last_seq == base.seq => {
                segment.set_end(base.seq, trailer.end, records);
                segment.set_index(trailer.places);
            }
            _ => {
                segment.set_end(base.seq, segment.header.len, records);
                let places = segment.places(self.vfs).map_err(read_failed)?;
                if let Some(last) = places.last() {
                    segment.set_end(
                        base.seq,
                        last_end(self.vfs, segment, last.offset())?,
                        records,
                    );
                }
            }
        }
        Ok(())
    }

    /// The segment behind this one was reclaimed: the trailer says where it ends, or else the batches do.
    fn find_end(&self, segment: &Segment) -> Result<(), OpenError> {
        if let Some(trailer) = segment.read_trailer(self.vfs).map_err(read_failed)? {
            segment.set_end(trailer.last_seq, trailer.end, trailer.records);
            segment.set_index(trailer.places);
            return Ok(());
        }
        let mut reader = segment.reader(self.vfs).map_err(read_failed)?;
        let mut places = Vec::new();
        while let Ok(batch) = reader.next_batch() {
            places.push(batch.place());
        }
        let end = reader.position;
        segment.set_end(end.seq, reader.offset, end.lsn - segment.header.base.lsn);
        segment.set_index(places);
        Ok(())
    }

    /// The segments of the last epoch; how far the last one of them reaches is for [`Self::tail`] to say.
    fn last_segments(&mut self, record: &EpochRecord) -> Result<Vec<Arc<Segment>>, OpenError> {
        let files: Vec<_> = self
            .files
            .iter()
            .filter(|(id, _)| id.epoch == record.epoch)
            .flat_map(|(id, files)| files.iter().map(|(path, salt)| (*id, path.clone(), *salt)))
            .collect();
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        let mut damaged: Vec<(SegmentId, PathBuf, u64)> = Vec::new();
        for (id, path, salt) in files {
            match self.examine(id, &path, salt)? {
                Found::Part(header) => segments.push(self.part(header, &path)),
                Found::Nobodys => self.garbage.push(path),
                Found::Damaged => damaged.push((id, path, salt)),
            }
        }
        let Some(last) = segments.last() else {
            let path = self.paths.segment(record.epoch, 1, record.first_salt);
            return Err(Corruption::new(
                &path,
                0,
                "the first segment of the last epoch is missing",
            )
            .into());
        };
        for (id, path, salt) in damaged {
            if self.live {
                continue;
            }
            self.torn_header(last, id, &path, salt)?;
            self.garbage.push(path);
        }
        for i in 0..segments.len() - 1 {
            let (segment, next) = (&segments[i], &segments[i + 1]);
            if next.id().number == segment.id().number + 1 {
                self.end_at(segment, next.header.base)?;
            } else {
                self.find_end(segment)?;
            }
            segment.sealed.store(true, Ordering::Release);
        }
        Ok(segments)
    }

    /// A header may be torn only while its segment was about to be used: behind the last one, and without a batch.
    fn torn_header(
        &self,
        last: &Segment,
        id: SegmentId,
        path: &Path,
        salt: u64,
    ) -> Result<(), OpenError> {
        let damage = || Corruption::new(path, 0, "the segment header does not match its checksum");
        if id.number != last.id().number + 1 {
            return Err(damage().into());
        }
        let file = self
            .vfs
            .open(path, Access::Read, self.direct)
            .map_err(OpenError::io("open", path))?;
        let len = file.len().map_err(OpenError::io("read", path))?;
        let header = SegmentHeader {
            id,
            salt,
            len,
            ..last.header.clone()
        };
        let segment = Segment::new(header, path.to_owned(), self.direct, false);
        let mut reader = segment.reader(self.vfs).map_err(read_failed)?;
        let batch = reader
            .later_batch(BLOCK as u64, 0)
            .map_err(OpenError::io("read", path))?;
        if batch.is_some() {
            return Err(damage().into());
        }
        Ok(())
    }

    /// Reads the last segment to its end, and decides what is proven, what is not, and whether an end there is possible.
    fn tail(
        &self,
        record: &EpochRecord,
        segments: &mut Vec<Arc<Segment>>,
        snapshot: u64,
    ) -> Result<Tail, OpenError> {
        let segment = Arc::clone(segments.last().expect("the last epoch has a segment"));
        let base = segment.header.base;
        let lease = read_small(self.vfs, &self.paths.lease(record.epoch, &record.writer))?;
        let lease = lease
            .and_then(|file| LeaseSlot::newest(&file))
            .unwrap_or_default();
        // What else than the batches themselves says how much was durable.
        let mut durable = base
            .seq
            .max(lease.durable_upto)
            .max(record.adopted_upto)
            .max(snapshot);
        let mut reader = segment.reader(self.vfs).map_err(read_failed)?;
        let mut places = Vec::new();
        let mut recent: Vec<(Position, Batch)> = Vec::new();
        let (offset, what) = loop {
            let before = reader.position;
            match reader.next_batch() {
                Ok(batch) => {
                    durable = durable.max(batch.outer.durable_upto);
                    places.push(batch.place());
                    recent.retain(|(_, batch)| batch.header.seq > durable);
                    recent.push((before, batch));
                }
                Err(Stop::Invalid { offset, what }) => break (offset, what),
                Err(Stop::Io(error)) => return Err(OpenError::io("read", &segment.path)(error)),
            }
        };
        let end = reader.position;
        if !self.live {
            torn_not_damaged(self.vfs, &segment, &mut reader, durable, &what, |next| {
                self.files.contains_key(&next)
            })?;
        }
        if mutated!(AdoptByReference) {
            durable = durable.max(end.seq);
        }
        recent.retain(|(_, batch)| batch.header.seq > durable);
        let (proven, proven_end) = match recent.first() {
            Some((before, batch)) => (*before, batch.offset),
            None => (end, offset),
        };
        places.truncate(usize::try_from(proven.seq - base.seq).expect("a segment has few batches"));
        segment.set_end(proven.seq, proven_end, proven.lsn - base.lsn);
        segment.set_index(places);
        segment.sealed.store(!self.live, Ordering::Release);
        let mut tail = Tail {
            proven,
            segment: segment.id().number,
            offset: proven_end,
            unproven: recent.into_iter().map(|(_, batch)| batch).collect(),
            end,
        };
        if mutated!(DropTail) {
            tail.unproven.clear();
            tail.end = tail.proven;
        }
        if self.live {
            tail.unproven = Vec::new();
            tail.end = proven;
        } else if proven.seq == base.seq {
            // Nothing of the last segment counts; the one in front of it ends where this one starts.
            segments.pop();
            let previous = segments
                .last()
                .filter(|s| s.id().number + 1 == segment.id().number);
            tail.offset = previous.map_or(0, |previous| previous.end());
            tail.segment = segment.id().number - 1;
        }
        Ok(tail)
    }
}

/// The place at which the reader stopped is a torn tail only if nothing says that it was durable. `is_there` knows whether a
/// segment has a file.
pub(crate) fn torn_not_damaged(
    vfs: &dyn Vfs,
    segment: &Segment,
    reader: &mut crate::reader::BatchReader,
    durable: u64,
    what: &str,
    is_there: impl FnOnce(SegmentId) -> bool,
) -> Result<(), OpenError> {
    let (last, offset) = (reader.position.seq, reader.offset);
    let damaged =
        |why: String| Corruption::new(&segment.path, offset, format!("{what}, but {why}"));
    if durable > last {
        return Err(damaged(format!("batch {durable} is known to be durable")).into());
    }
    let later = reader
        .later_batch(offset + BLOCK as u64, last)
        .map_err(OpenError::io("read", &segment.path))?;
    if let Some(later) = later {
        return Err(damaged(format!("a later batch is at offset {later}")).into());
    }
    let id = segment.id();
    let next = SegmentId {
        number: id.number + 1,
        ..id
    };
    let sealed = segment.read_trailer(vfs).map_err(read_failed)?.is_some();
    if sealed && !is_there(next) {
        return Err(damaged(format!("segment {}-{} is missing", next.epoch, next.number)).into());
    }
    Ok(())
}

fn last_end(vfs: &dyn Vfs, segment: &Segment, offset: u64) -> Result<u64, OpenError> {
    let file = segment.file(vfs).map_err(read_failed)?;
    let mut block = Aligned::zeroed(BLOCK);
    file.read_at(&mut block, offset)
        .map_err(OpenError::io("read", &segment.path))?;
    let header = crate::batch::Header::decode(&block, segment.header.salt)
        .ok_or_else(|| Corruption::new(&segment.path, offset, "no batch header"))?;
    Ok(offset + header.padded_len() as u64)
}

/// A read error while surveying is an error of opening.
pub(crate) fn read_failed(error: ReadError) -> OpenError {
    match error {
        ReadError::Corrupt(corruption) => corruption.into(),
        ReadError::Io { path, source } => OpenError::Io {
            what: "read",
            path,
            source,
        },
        ReadError::NotCommitted(id) | ReadError::Gone(id) => {
            Corruption::new(Path::new(""), 0, format!("record {} is missing", id.0)).into()
        }
    }
}
