//! Reading on behind damage: what cannot be read is told, and what follows is found again.

use std::path::Path;
use std::sync::Arc;

use super::{Manner, Surveyor, Tail, pad_places, put_place, read_failed};
use crate::batch::BLOCK;
use crate::error::{Corruption, OpenError};
use crate::layout::{EpochRecord, Position};
use crate::loss::{Gap, LOSSES_MAX, Loss, StandIn};
use crate::reader::{Batch, Stop};
use crate::segment::{Segment, SegmentHeader, SegmentId};
use crate::vfs::Access;

impl Surveyor<'_> {
    /// Damage is passed over.
    pub(super) fn tolerates(&self) -> bool {
        self.manner == Manner::Damaged
    }

    /// A segment is damaged: an error, or something to pass over.
    pub(super) fn damaged(
        &self,
        segment: &SegmentHeader,
        path: &Path,
        offset: u64,
        what: impl Into<String>,
        header: Option<StandIn>,
        gap: Option<Gap>,
    ) -> Result<(), OpenError> {
        let corruption = Corruption::new(path, offset, what);
        if !self.tolerates() || self.damage.borrow().len() == LOSSES_MAX {
            return Err(corruption.into());
        }
        self.damage.borrow_mut().push(Loss {
            path: corruption.path,
            segment: segment.id,
            offset,
            what: corruption.what,
            given_up_ms: 0,
            salt: segment.salt,
            header,
            gap,
        });
        Ok(())
    }

    /// A segment whose header is damaged, from what its batches say of where it begins. `None`: there is none in it.
    pub(super) fn rebuilt(
        &self,
        id: SegmentId,
        path: &Path,
        salt: u64,
    ) -> Result<Option<Arc<Segment>>, OpenError> {
        let record = &self.records[&id.epoch];
        let file = self
            .vfs
            .open(path, Access::Read, self.direct)
            .map_err(OpenError::io("open", path))?;
        let len = file.len().map_err(OpenError::io("read", path))?;
        let len = len - len % BLOCK as u64;
        let nowhere = StandIn {
            base: Position::default(),
            len,
        };
        let what = "the segment header does not match its checksum";
        let trial = self.part(self.stand_in(id, salt, nowhere, record), path);
        let mut reader = trial.reader(self.vfs).map_err(read_failed)?;
        let Some(found) = reader.find_whole(BLOCK as u64, 0, None) else {
            self.damaged(&trial.header, path, 0, what, None, None)?;
            return Ok(None);
        };
        let instead = StandIn {
            base: found.after,
            len,
        };
        // What lies in front of the first whole batch is lost too, but belongs to the gap behind the segment before.
        let gap = (found.to > BLOCK as u64).then_some(Gap {
            before: found.after,
            ..found
        });
        let header = self.stand_in(id, salt, instead, record);
        self.damaged(&header, path, 0, what, Some(instead), gap)?;
        let segment = self.part(header, path);
        segment.set_gaps(gap.into_iter().collect());
        Ok(Some(segment))
    }

    /// Reads a segment to where it ends, passing over what cannot be read. `end`: where the next one goes on, if that is
    /// known; `durable`: up to where batches are known to have been. Returns what lies where, the end and its offset.
    pub(super) fn walk(
        &self,
        segment: &Segment,
        end: Option<Position>,
        durable: u64,
        mut receive: impl FnMut(Position, Batch),
    ) -> Result<(Position, u64, String), OpenError> {
        let mut reader = segment.reader(self.vfs).map_err(read_failed)?;
        let mut gaps = segment.gaps().to_vec();
        let mut places = Vec::new();
        let last = end.map(|end| end.seq);
        let what = loop {
            if end.is_some_and(|end| reader.position.seq >= end.seq) {
                break String::new();
            }
            let (before, offset) = (reader.position, reader.offset);
            let what = match reader.next_batch() {
                Ok(batch) => {
                    put_place(&mut places, segment, &batch);
                    receive(before, batch);
                    continue;
                }
                Err(Stop::Invalid { what, .. }) => what,
                Err(Stop::Io(error)) => format!("it cannot be read: {error}"),
            };
            let next = offset + BLOCK as u64;
            let gap = reader.find_whole(next, before.seq, last).or_else(|| {
                let after = end.or_else(|| {
                    (durable > before.seq).then_some(Position {
                        seq: durable,
                        ..before
                    })
                })?;
                Some(Gap {
                    before,
                    after,
                    offset,
                    to: reader.limit(),
                })
            });
            let Some(gap) = gap else { break what };
            let what = match end {
                Some(end) if gap.to == reader.limit() => {
                    format!(
                        "{what}, and the next segment begins behind batch {}",
                        end.seq
                    )
                }
                _ => what,
            };
            self.damaged(
                &segment.header,
                &segment.path,
                offset,
                what,
                None,
                Some(gap),
            )?;
            gaps.push(gap);
            if gap.to == reader.limit() {
                (reader.position, reader.offset) = (gap.after, gap.offset);
                break String::new();
            }
        };
        let (position, offset) = (reader.position, reader.offset);
        pad_places(&mut places, segment, position.seq);
        segment.set_gaps(gaps);
        let records = position.lsn.saturating_sub(segment.header.base.lsn);
        segment.set_end(position.seq, offset, records);
        segment.set_index(places);
        Ok((position, offset, what))
    }

    /// The last epoch has no segment that can be read.
    pub(super) fn nothing_left(
        &self,
        record: &EpochRecord,
        durable: u64,
    ) -> Result<Tail, OpenError> {
        let proven = Position {
            seq: durable.max(record.cut.seq),
            ..record.cut
        };
        let id = SegmentId {
            epoch: record.epoch,
            number: 1,
        };
        let path = self.paths.segment(record.epoch, 1, record.first_salt);
        let header = self.stand_in(
            id,
            record.first_salt,
            StandIn {
                base: record.cut,
                len: 0,
            },
            record,
        );
        let known = self.damage.borrow();
        let told = known.iter().any(|loss| loss.segment.epoch == record.epoch);
        drop(known);
        if !told {
            let what = "the first segment of the last epoch is missing";
            self.damaged(&header, &path, 0, what, None, None)?;
        }
        Ok(Tail {
            proven,
            end: proven,
            ..Tail::default()
        })
    }

    /// The last segment that is there says that there is another one.
    pub(super) fn sealed_in_vain(
        &self,
        segment: &Segment,
        offset: u64,
        what: &str,
    ) -> Result<(), OpenError> {
        let id = segment.id();
        let next = SegmentId {
            number: id.number + 1,
            ..id
        };
        let sealed = segment
            .read_trailer(self.vfs)
            .map_err(read_failed)?
            .is_some();
        if sealed && !self.files.contains_key(&next) {
            let what = format!(
                "{what}, but segment {}-{} is missing",
                next.epoch, next.number
            );
            self.damaged(&segment.header, &segment.path, offset, what, None, None)?;
        }
        Ok(())
    }
}
