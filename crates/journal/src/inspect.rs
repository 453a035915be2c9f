//! `verify` and `dump`: reading a journal without a lock and without changing it.
//!
//! A journal that is being written while it is read may show a torn tail; nothing else differs.

use std::path::Path;

use bytes::Bytes;
use message::StoredId;

use crate::batch;
use crate::error::{Corruption, OpenError};
use crate::layout::Paths;
use crate::reader::Batch;
use crate::replay::committed_batch;
use crate::segment::SegmentId;
use crate::snapshot::{self, SnapshotSource};
use crate::survey::{self, Survey, read_failed};
use crate::vfs::{RealVfs, Vfs};

/// What `verify` found. Damage is in `damaged`; an empty list means that every checksum holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The last epoch.
    pub epoch: u64,
    /// Segments that are part of the journal.
    pub segments: u64,
    /// Batches read, the unproven tail included.
    pub batches: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of records.
    pub payload_bytes: u64,
    /// The first batch that is there.
    pub first_batch: u64,
    /// The last whole batch.
    pub last_batch: u64,
    /// Whole batches at the end that the next start writes again.
    pub unproven: u64,
    /// Positions of snapshots that are whole.
    pub snapshots: Vec<u64>,
    /// Segment files that belong to nobody: prepared ones, and what a crash left.
    pub unused_files: u64,
    /// Everything that does not match.
    pub damaged: Vec<Corruption>,
}

/// One record of a dump.
#[derive(Clone, Debug)]
pub struct DumpRecord {
    /// Where it lies.
    pub segment: SegmentId,
    /// Its batch.
    pub batch: u64,
    /// Its id: where it was first written.
    pub id: StoredId,
    /// Whether it was moved to where it lies.
    pub moved: bool,
    /// Its kind.
    pub kind: u8,
    /// Its payload.
    pub payload: Bytes,
}

/// Reads and verifies everything in a journal directory.
///
/// # Errors
/// If there is no journal, or it cannot be understood at all.
pub fn verify(dir: &Path) -> Result<Report, OpenError> {
    verify_in(&RealVfs, dir)
}

pub(crate) fn verify_in(vfs: &dyn Vfs, dir: &Path) -> Result<Report, OpenError> {
    let paths = Paths::new(dir);
    let survey = survey::survey(vfs, &paths, false)?;
    let mut report = Report {
        epoch: survey.last.as_ref().map_or(0, |last| last.epoch),
        segments: survey.segments.len() as u64,
        last_batch: survey.tail.end.seq,
        unproven: survey.tail.unproven.len() as u64,
        unused_files: survey.garbage.len() as u64,
        first_batch: survey.segments.first().map_or(0, |s| s.first_seq()),
        ..Report::default()
    };
    let mut damaged = Vec::new();
    walk(vfs, &survey, &mut damaged, |_, batch| {
        report.batches += 1;
        report.payload_bytes += batch.payload.len() as u64;
        for record in batch::records(batch.header.seq, &batch.payload) {
            if record.is_none() {
                return Some("frames do not add up");
            }
            report.records += 1;
        }
        None
    })?;
    for kept in &survey.snapshots {
        let path = snapshot::path_of(&paths, kept);
        let whole = SnapshotSource::whole(vfs, &path, false, &survey.format.store);
        match whole {
            Ok(source) => {
                match snapshot::fits(vfs, source.position, &survey.segments, survey.tail.proven) {
                    Ok(true) => report.snapshots.push(kept.seq),
                    Ok(false) => damaged.push(Corruption::new(
                        &path,
                        0,
                        "its chain hash is not the journal's",
                    )),
                    Err(error) => damaged.push(Corruption::new(&path, 0, error.to_string())),
                }
            }
            Err(error) => damaged.push(Corruption::new(&path, 0, error.to_string())),
        }
    }
    report.damaged = damaged;
    Ok(report)
}

/// Hands out every record that lies in a journal directory, in order, until the receiver says false.
///
/// # Errors
/// If there is no journal, it cannot be understood, or it is damaged (what lies before the damage was handed out).
pub fn dump(dir: &Path, receive: impl FnMut(DumpRecord) -> bool) -> Result<(), OpenError> {
    dump_in(&RealVfs, dir, receive)
}

pub(crate) fn dump_in(
    vfs: &dyn Vfs,
    dir: &Path,
    mut receive: impl FnMut(DumpRecord) -> bool,
) -> Result<(), OpenError> {
    let survey = survey::survey(vfs, &Paths::new(dir), false)?;
    let mut damaged = Vec::new();
    let mut more = true;
    walk(vfs, &survey, &mut damaged, |segment, batch| {
        for record in batch::records(batch.header.seq, &batch.payload) {
            let Some(record) = record else {
                return Some("frames do not add up");
            };
            more = more
                && receive(DumpRecord {
                    segment,
                    batch: batch.header.seq,
                    id: record.origin.unwrap_or(record.id),
                    moved: record.origin.is_some(),
                    kind: record.kind,
                    payload: record.payload,
                });
        }
        None
    })?;
    damaged
        .into_iter()
        .next()
        .map_or(Ok(()), |damage| Err(damage.into()))
}

/// Every batch in order; damage ends a segment, not the walk.
fn walk(
    vfs: &dyn Vfs,
    survey: &Survey,
    damaged: &mut Vec<Corruption>,
    mut receive: impl FnMut(SegmentId, &Batch) -> Option<&'static str>,
) -> Result<(), OpenError> {
    for segment in &survey.segments {
        let mut reader = segment.reader(vfs).map_err(read_failed)?;
        while reader.position.seq < segment.last_seq() {
            match committed_batch(&mut reader) {
                Ok(batch) => {
                    if let Some(what) = receive(segment.id(), &batch) {
                        damaged.push(Corruption::new(&segment.path, batch.offset, what));
                    }
                }
                Err(crate::error::ReadError::Corrupt(corruption)) => {
                    damaged.push(corruption);
                    break;
                }
                Err(error) => return Err(read_failed(error)),
            }
        }
    }
    let last = survey.last.as_ref().map_or(0, |last| last.epoch);
    for batch in &survey.tail.unproven {
        let number = survey.tail.segment.max(1);
        receive(
            SegmentId {
                epoch: last,
                number,
            },
            batch,
        );
    }
    Ok(())
}
