//! Reading the journal in order: the snapshot, then every committed batch behind it, each verified.
//!
//! A start reads it once and rebuilds the forwards of moved records by the way; the snapshot maker reads it again
//! and again (RULES 22). While a replay lives, nothing that it has yet to read is reclaimed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use message::StoredId;

use crate::batch;
use crate::error::{Corruption, ReadError, ReplayError};
use crate::layout::Position;
use crate::reader::{Batch, BatchReader, Stop};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::snapshot::{self, SnapshotSource};
use crate::vfs::IN_PASSING;

/// The history of the journal, to be read once.
pub struct Replay {
    shared: Arc<Shared>,
    snapshot: Option<SnapshotSource>,
    from: Position,
    upto: u64,
    /// The first one after a start: forwards are rebuilt.
    rebuild: bool,
}

impl Replay {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        snapshot: Option<SnapshotSource>,
        rebuild: bool,
    ) -> Self {
        let from = snapshot
            .as_ref()
            .map_or_else(Position::default, |s| s.position);
        shared
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(from.seq);
        let upto = shared.committed.load(Ordering::Acquire);
        Self {
            shared: Arc::clone(shared),
            snapshot,
            from,
            upto,
            rebuild,
        }
    }

    pub(crate) fn live(shared: &Arc<Shared>) -> Result<Self, ReadError> {
        let newest = snapshot::newest(shared)?;
        // In this order: what is committed in between counts as not covered.
        let bytes = shared.snapshot_bytes.load(Ordering::Relaxed);
        let replay = Self::new(shared, newest, false);
        *shared
            .replayed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = (replay.upto, bytes);
        Ok(replay)
    }

    /// The snapshot to begin with, if there is one. To be read before [`Replay::for_each`].
    pub fn snapshot(&mut self) -> Option<SnapshotSource> {
        self.snapshot.take()
    }

    /// The last batch that the snapshot covers, or 0.
    #[must_use]
    pub fn snapshot_batch(&self) -> u64 {
        self.from.seq
    }

    /// What was given up of the batches behind the snapshot, in order: the last of each gap, and how many records were lost, or
    /// batches where that is not known.
    #[must_use]
    pub fn lost(&self) -> Vec<(u64, u64)> {
        let gaps = self.shared.given_up.iter().filter_map(|loss| {
            let (first, last) = loss.batches()?;
            Some((last, loss.records().max(last + 1 - first)))
        });
        let mut gaps: Vec<_> = gaps
            .filter(|(last, _)| *last > self.from.seq && *last <= self.upto)
            .collect();
        gaps.sort_unstable();
        gaps
    }

    /// The last batch that [`Replay::for_each`] reads.
    #[must_use]
    pub fn last_batch(&self) -> u64 {
        self.upto
    }

    /// Hands out the records behind the snapshot in order. Survivors that were moved are not handed out again.
    /// Returns the last batch read.
    ///
    /// # Errors
    /// If the journal is damaged or unreadable, or `receive` refuses a record.
    pub fn for_each<E>(
        self,
        mut receive: impl FnMut(StoredId, u8, Bytes) -> Result<(), E>,
    ) -> Result<u64, ReplayError<E>> {
        let shared = Arc::clone(&self.shared);
        let mut position = self.from;
        let segments = shared.table.all();
        for segment in &segments {
            let last = segment.last_seq().min(self.upto);
            if last <= position.seq || segment.gone.load(Ordering::Acquire) {
                continue;
            }
            position = self.pass_gap(position, Some(segment));
            let mut reader = self.reader(segment, position)?;
            let mut is_ahead = false;
            while reader.position.seq < last {
                let seq = reader.position.seq + 1;
                // What this node has written and still has is what lies there: `scrub.rs` is who looks.
                let at = reader.offset;
                let payload = match shared.cache.batch(seq) {
                    Some((payload, after)) => {
                        reader.position = after;
                        is_ahead = true;
                        payload
                    }
                    None => {
                        if std::mem::take(&mut is_ahead) {
                            reader.offset = segment.place(&*shared.vfs, seq)?.offset();
                        }
                        committed_batch(&mut reader)?.payload
                    }
                };
                for record in batch::records(seq, &payload) {
                    let record = record.ok_or_else(|| {
                        segment.corrupt(at, format!("frames of batch {seq} do not add up"))
                    })?;
                    match record.origin {
                        Some(origin) if self.rebuild => shared.table.forward(origin, record.id),
                        Some(_) => {}
                        None => {
                            receive(record.id, record.kind, record.payload).map_err(|source| {
                                ReplayError::Apply {
                                    id: record.id,
                                    source,
                                }
                            })?
                        }
                    }
                }
            }
            position = reader.position;
            if segment.sealed.load(Ordering::Acquire) {
                segment.rest(segments.len());
            }
        }
        position = self.pass_gap(position, None);
        if position.seq < self.upto {
            let missing = Corruption::new(
                &shared.paths.segments(),
                0,
                format!("batches {} to {} are missing", position.seq + 1, self.upto),
            );
            return Err(ReadError::from(missing).into());
        }
        Ok(self.upto)
    }

    /// Where it goes on behind a gap between two segments, or behind the last, if there is one.
    fn pass_gap(&self, position: Position, next: Option<&Segment>) -> Position {
        let gaps = self.shared.given_up.iter().filter_map(|loss| loss.gap);
        let mut between = gaps.filter(|gap| gap.offset == 0 && gap.follows(position.seq));
        let passed = between.find(|gap| match next {
            Some(next) => next.header.base == gap.after,
            None => gap.after.seq <= self.upto,
        });
        passed.map_or(position, |gap| gap.after)
    }

    /// A reader at the batch behind `position`.
    fn reader(&self, segment: &Arc<Segment>, position: Position) -> Result<BatchReader, ReadError> {
        let vfs = &*self.shared.vfs;
        let mut reader = segment.reader(vfs)?;
        if !self.rebuild {
            reader.read_ahead(IN_PASSING);
        }
        if position.seq >= segment.header.base.seq && reader.enter_gap(position.seq) {
            return Ok(reader);
        }
        if position.seq > segment.header.base.seq {
            reader.offset = segment.place(vfs, position.seq + 1)?.offset();
        } else if position != segment.header.base {
            let what = if position.seq < segment.header.base.seq {
                format!(
                    "batches {} to {} are missing",
                    position.seq + 1,
                    segment.header.base.seq
                )
            } else {
                format!(
                    "it does not continue the chain behind batch {}",
                    position.seq
                )
            };
            return Err(segment.corrupt(0, what));
        }
        reader.position = position;
        Ok(reader)
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let mut pins = self
            .shared
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(i) = pins.iter().position(|&pin| pin == self.from.seq) {
            pins.swap_remove(i);
        }
    }
}

/// The next batch of a reader that stands in front of a committed one: anything else is damage.
pub(crate) fn committed_batch(reader: &mut BatchReader) -> Result<Batch, ReadError> {
    let path = reader.path.clone();
    reader.next_batch().map_err(|stop| match stop {
        Stop::Invalid { offset, what } => Corruption::new(&path, offset, what).into(),
        Stop::Io(source) => ReadError::Io { path, source },
    })
}
