//! Reading a journal directory without changing anything: what a start, `verify` and `dump` have in common.
//!
//! The result says which segments are part of the journal, where its history ends, what of the tail is proven durable, and
//! what lies about that belongs to nobody. The rows of the recovery table (recovery.rs) are decided here.

mod damaged;
mod files;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::aligned::Aligned;
use crate::batch::BLOCK;
use crate::error::{Corruption, OpenError, ReadError};
use crate::id;
use crate::layout::{
    EpochRecord, FORMAT_LEVEL, Format, LeaseSlot, Paths, Position, parse_segment_name,
};
use crate::loss::{self, Loss, StandIn};
use crate::reader::{Batch, Stop};
use crate::segment::{Place, Segment, SegmentHeader, SegmentId};
use crate::shared::Kept;
use crate::snapshot;
use crate::vfs::{Access, Vfs};

pub(crate) use files::{read_epoch, read_epochs, read_format, read_small, writer_of};

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
    /// What was given up at earlier starts.
    pub(crate) given_up: Vec<Loss>,
    /// What would have to be given up now. Only [`survey_damaged`] finds it; others refuse at the first.
    pub(crate) damage: Vec<Loss>,
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

/// How a directory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Nobody writes any more. The first damage ends it.
    Whole,
    /// Somebody may be writing: what follows the proven part is not judged, and not part of the result.
    Live,
    /// Nobody writes any more. Every byte is read, and damage is passed over and told.
    Damaged,
}

struct Surveyor<'a> {
    vfs: &'a dyn Vfs,
    paths: &'a Paths,
    direct: bool,
    manner: Manner,
    given_up: Vec<Loss>,
    damage: RefCell<Vec<Loss>>,
    format: Format,
    records: BTreeMap<u64, EpochRecord>,
    garbage: Vec<PathBuf>,
    /// Names by epoch and number.
    files: BTreeMap<SegmentId, Vec<(PathBuf, u64)>>,
}

/// Reads the whole layout of a journal that nobody writes any more.
pub(crate) fn survey(vfs: &dyn Vfs, paths: &Paths, direct: bool) -> Result<Survey, OpenError> {
    surveyed(vfs, paths, direct, Manner::Whole)
}

/// The same of one that is being written: its tail ends with what is proven durable, and more may follow. Files may go while
/// it is read, which shows as an error: then it is to be read again.
pub(crate) fn survey_live(vfs: &dyn Vfs, paths: &Paths, direct: bool) -> Result<Survey, OpenError> {
    surveyed(vfs, paths, direct, Manner::Live)
}

/// The same of one that is damaged and that nobody writes: what can be read, and what cannot. Reads every byte.
pub(crate) fn survey_damaged(
    vfs: &dyn Vfs,
    paths: &Paths,
    direct: bool,
) -> Result<Survey, OpenError> {
    surveyed(vfs, paths, direct, Manner::Damaged)
}

fn surveyed(
    vfs: &dyn Vfs,
    paths: &Paths,
    direct: bool,
    manner: Manner,
) -> Result<Survey, OpenError> {
    let Some(format) = read_format(vfs, paths)? else {
        return Err(OpenError::Absent {
            dir: paths.root.clone(),
        });
    };
    // In this order: a snapshot that is found is then of an epoch that is found.
    let snapshots =
        snapshot::list(vfs, paths).map_err(OpenError::io("list", &paths.snapshots()))?;
    let epochs = read_epochs(vfs, paths)?;
    let mut surveyor = Surveyor {
        vfs,
        paths,
        direct,
        manner,
        given_up: loss::read_all(vfs, paths)?,
        damage: RefCell::default(),
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
            given_up: surveyor.given_up,
            damage: Vec::new(),
        });
    };
    surveyor.read_records(last_epoch)?;
    let mut segments = surveyor.closed_segments(last_epoch)?;
    let record = surveyor.records[&last_epoch].clone();
    let mut own = surveyor.last_segments(&record)?;
    // That there is a snapshot proves batches of the last epoch; but while somebody may be writing, there may be another epoch by now, and
    // what is read here may have come too late for it.
    let newest = snapshots.last().filter(|_| manner != Manner::Live);
    let evidence = newest.map_or(0, |kept| kept.seq);
    let tail = surveyor.tail(&record, &mut own, evidence)?;
    segments.append(&mut own);
    Ok(Survey {
        format,
        last: Some(record),
        segments,
        tail,
        snapshots,
        garbage: surveyor.garbage,
        given_up: surveyor.given_up,
        damage: surveyor.damage.into_inner(),
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
        let n = match file.read_at(&mut block, 0) {
            Ok(n) => n,
            Err(_) if self.tolerates() => {
                // As good as anything else that is not a header.
                block.fill(0xFF);
                BLOCK
            }
            Err(error) => return Err(OpenError::io("read", path)(error)),
        };
        let noted = |loss: &&Loss| loss.segment == id && loss.salt == salt;
        let noted = self.given_up.iter().filter(noted);
        if let Some(header) = noted.filter_map(|loss| loss.header).next_back() {
            return Ok(Found::Part(self.stand_in(id, salt, header, record)));
        }
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
            let what = format!("it is cut short: {} bytes are expected", header.len);
            let instead = StandIn {
                base: header.base,
                len: header.len,
            };
            self.damaged(&header, path, len, what, Some(instead), None)?;
        }
        Ok(Found::Part(header))
    }

    fn part(&self, header: SegmentHeader, path: &Path) -> Arc<Segment> {
        let segment = Segment::new(header, path.to_owned(), self.direct, false);
        let here = |loss: &&Loss| {
            loss.segment == segment.id() && loss.salt == segment.header.salt && loss.salt != 0
        };
        let gaps = self
            .given_up
            .iter()
            .filter(here)
            .filter_map(|loss| loss.gap);
        segment.set_gaps(gaps.collect());
        Arc::new(segment)
    }

    fn stand_in(
        &self,
        id: SegmentId,
        salt: u64,
        header: StandIn,
        record: &EpochRecord,
    ) -> SegmentHeader {
        SegmentHeader {
            level: record.level,
            store: self.format.store,
            writer: record.writer,
            id,
            salt,
            base: header.base,
            len: header.len,
        }
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
                Found::Damaged if self.tolerates() => {
                    segments.extend(self.rebuilt(id, &path, salt)?);
                }
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
            if self.tolerates() {
                let base = next.map(|next| next.header.base);
                let ends = (segment.id().number == cut.cut_segment).then_some(cut.cut);
                let said = segment.read_trailer(self.vfs).ok().flatten();
                let said = said.map_or(0, |trailer| trailer.last_seq);
                self.walk(&segment, ends.or(base), said, |_, _| ())?;
            } else if segment.id().number == cut.cut_segment {
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
            segment.rest(segments.len());
        }
        Ok(segments)
    }

    /// The segment is followed by one that starts at `base`.
    fn end_at(&self, segment: &Segment, base: Position) -> Result<(), OpenError> {
        let records = base.lsn.saturating_sub(segment.header.base.lsn);
        match segment.read_trailer(self.vfs).map_err(read_failed)? {
            Some(trailer) if trailer.last_seq == base.seq => {
                segment.set_end(base.seq, trailer.end, records);
                segment.set_index(trailer.places_from(segment.first_seq()));
            }
            _ => {
                segment.set_end(base.seq, segment.header.len, records);
                let places = segment.places(self.vfs).map_err(read_failed)?;
                let whole = places.iter().rev().find(|place| **place != Place::LOST);
                if let Some(last) = whole {
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
            segment.set_index(trailer.places_from(segment.first_seq()));
            return Ok(());
        }
        let mut reader = segment.reader(self.vfs).map_err(read_failed)?;
        let mut places = Vec::new();
        while let Ok(batch) = reader.next_batch() {
            put_place(&mut places, segment, &batch);
        }
        let end = reader.position;
        pad_places(&mut places, segment, end.seq);
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
        if self.tolerates() && !damaged.is_empty() {
            let last = segments.last().map_or(0, |last| last.id().number);
            for (id, path, salt) in std::mem::take(&mut damaged) {
                match self.rebuilt(id, &path, salt)? {
                    Some(segment) => segments.push(segment),
                    // It was about to be used.
                    None if id.number > last => {
                        self.damage.borrow_mut().pop();
                        self.garbage.push(path);
                    }
                    None => {}
                }
            }
            segments.sort_by_key(|segment| segment.id());
        }
        let Some(last) = segments.last() else {
            if self.tolerates() {
                return Ok(segments);
            }
            let path = self.paths.segment(record.epoch, 1, record.first_salt);
            return Err(Corruption::new(
                &path,
                0,
                "the first segment of the last epoch is missing",
            )
            .into());
        };
        for (id, path, salt) in damaged {
            if self.manner == Manner::Live {
                continue;
            }
            self.torn_header(last, id, &path, salt)?;
            self.garbage.push(path);
        }
        for i in 0..segments.len() - 1 {
            let (segment, next) = (&segments[i], &segments[i + 1]);
            if self.tolerates() {
                let follows = next.id().number == segment.id().number + 1;
                let said = segment.read_trailer(self.vfs).ok().flatten();
                let said = said.map_or(0, |trailer| trailer.last_seq);
                let end = follows.then_some(next.header.base);
                self.walk(segment, end, said, |_, _| ())?;
            } else if next.id().number == segment.id().number + 1 {
                self.end_at(segment, next.header.base)?;
            } else {
                self.find_end(segment)?;
            }
            segment.sealed.store(true, Ordering::Release);
            segment.rest(segments.len());
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
            .later_batch(BLOCK as u64, u64::MAX, 0)
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
        let base = segments
            .last()
            .map_or(record.cut, |segment| segment.header.base);
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
        let Some(segment) = segments.last().map(Arc::clone) else {
            return self.nothing_left(record, durable);
        };
        let mut recent: Vec<(Position, Batch)> = Vec::new();
        let mut keep = |before: Position, batch: Batch, durable: &mut u64| {
            *durable = (*durable).max(batch.outer.durable_upto);
            recent.retain(|(_, batch)| batch.header.seq > *durable);
            recent.push((before, batch));
        };
        let (end, offset) = if self.tolerates() {
            let known = durable;
            let (end, offset, what) = self.walk(&segment, None, known, |before, batch| {
                keep(before, batch, &mut durable);
            })?;
            self.sealed_in_vain(&segment, offset, &what)?;
            (end, offset)
        } else {
            let mut reader = segment.reader(self.vfs).map_err(read_failed)?;
            let mut places = Vec::new();
            let (offset, what) = loop {
                let before = reader.position;
                match reader.next_batch() {
                    Ok(batch) => {
                        put_place(&mut places, &segment, &batch);
                        keep(before, batch, &mut durable);
                    }
                    Err(Stop::Invalid { offset, what }) => break (offset, what),
                    Err(Stop::Io(error)) => {
                        return Err(OpenError::io("read", &segment.path)(error));
                    }
                }
            };
            if self.manner == Manner::Whole {
                torn_not_damaged(
                    self.vfs,
                    &segment,
                    &mut reader,
                    (durable, ANYWHERE),
                    &what,
                    |next| self.files.contains_key(&next),
                )?;
            }
            pad_places(&mut places, &segment, reader.position.seq);
            segment.set_index(places);
            (reader.position, offset)
        };
        #[cfg(feature = "mutations")]
        if mutated!(AdoptByReference) || mutated!(AdoptAfterSync) && synced(self.vfs, &segment) {
            durable = durable.max(end.seq);
        }
        recent.retain(|(_, batch)| batch.header.seq > durable);
        let (proven, proven_end) = match recent.first() {
            Some((before, batch)) => (*before, batch.offset),
            None => (end, offset),
        };
        let places = segment.places(self.vfs).map_err(read_failed)?;
        let count = usize::try_from(proven.seq - base.seq).expect("a segment has few batches");
        let proven_places = places[..count].to_vec();
        segment.set_end(proven.seq, proven_end, proven.lsn.saturating_sub(base.lsn));
        segment.set_index(proven_places);
        segment
            .sealed
            .store(self.manner != Manner::Live, Ordering::Release);
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
        if self.manner == Manner::Live {
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

/// Notes where a batch lies, and that those in front of it that were not read are lost.
fn put_place(places: &mut Vec<Place>, segment: &Segment, batch: &Batch) {
    pad_places(places, segment, batch.header.seq - 1);
    places.push(batch.place());
}

/// What was not read up to this batch is lost.
fn pad_places(places: &mut Vec<Place>, segment: &Segment, upto: u64) {
    let count = upto.saturating_sub(segment.header.base.seq);
    let count = usize::try_from(count).expect("a segment has few batches");
    places.resize(count.max(places.len()), Place::LOST);
}

/// How far behind a batch that cannot be read the header of a later one is looked for by who followed the writer.
///
/// The writer puts a batch right behind the one in front of it, and only once that one is durable. So the first later batch, if
/// there ever was one, begins within the longest batch ([`id::REACH`]) of the place, and the one after that within twice as much.
/// A later one still would have to be found only where all in front of it are lost, and whatever was written longer ago than
/// the lease was last renewed is known to be durable from there: a standby that cannot read it is not fit to take over.
/// What is written in one such moment is all that this could miss, and all of more than 4 MiB of it lost but for its end. A start,
/// which may know much less, reads all.
pub(crate) const LATER_WITHIN: u64 = 2 * id::REACH as u64;
/// The rest of the segment, however long.
const ANYWHERE: u64 = u64::MAX;

/// The place at which the reader stopped is a torn tail only if nothing says that it was durable: a later batch `within` so many
/// bytes does. `is_there` knows whether a segment has a file.
pub(crate) fn torn_not_damaged(
    vfs: &dyn Vfs,
    segment: &Segment,
    reader: &mut crate::reader::BatchReader,
    (durable, within): (u64, u64),
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
        .later_batch(offset + BLOCK as u64, offset.saturating_add(within), last)
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

/// The file is synced, or the mutation is none.
#[cfg(feature = "mutations")]
pub(crate) fn synced(vfs: &dyn Vfs, segment: &Segment) -> bool {
    vfs.open(&segment.path, Access::Write, false)
        .and_then(|file| file.sync())
        .is_ok()
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
