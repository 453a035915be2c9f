//! The segment table: which file holds which batches, how many references keep it, where survivors went (RULES 20).
//!
//! References are counted by the segment that *named* the record, for ever. A file is kept while records named in it
//! are referenced and it was not evacuated, or while a segment with references has survivors lying in it.
//! References to batches that are not placed yet wait in `pending`: only the journal thread knows which file they get.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use message::StoredId;

use crate::id;
use crate::segment::Segment;

/// Segments up to which files and indexes are kept open whether used or not.
pub(crate) const OPEN_MAX: usize = 128;

/// All segments that are part of the journal, by their first batch.
#[derive(Default)]
pub(crate) struct Table {
    segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// Batches up to this one have a file.
    placed: AtomicU64,
    pending: Mutex<BTreeMap<u64, Pending>>,
    /// References to records that no segment holds.
    pub(crate) dangling: AtomicU64,
}

/// References to a batch that has no file yet.
#[derive(Clone, Copy, Default)]
struct Pending {
    /// What they come to.
    sum: i64,
    /// How many came.
    came: i64,
}

/// References that come and go one after the other, most of them neighbours. The table has them all once this is dropped;
/// until then none that came may be counted as gone elsewhere, unless another one is counted. What is of a segment holds that meanwhile, so
/// that it is not given back.
pub struct Counting<'a> {
    table: &'a Table,
    /// The segment that the last ones are of, what they come to, and how many came.
    run: Option<(Arc<Segment>, i64, i64)>,
    /// The same of the batch that has no file yet.
    unplaced: Option<(u64, Pending)>,
}

impl Counting<'_> {
    /// References to a record come or go.
    pub fn count(&mut self, stored: StoredId, by: i64) {
        let seq = id::seq(stored);
        if let Some((batch, pending)) = &mut self.unplaced
            && *batch == seq
        {
            pending.sum += by;
            pending.came += by.max(0);
            return;
        }
        if let Some((segment, sum, came)) = &mut self.run
            && (segment.first_seq()..=segment.last_seq()).contains(&seq)
        {
            *sum += by;
            *came += by.max(0);
            return;
        }
        self.count_anew(stored, by);
    }

    #[inline(never)]
    fn count_anew(&mut self, stored: StoredId, by: i64) {
        let seq = id::seq(stored);
        let pending = Pending {
            sum: by,
            came: by.max(0),
        };
        if seq > self.table.placed.load(Ordering::Acquire) {
            if let Some((batch, before)) = self.unplaced.replace((seq, pending)) {
                self.table.count_batch(batch, before);
            }
            return;
        }
        self.flush();
        let found = self.table.of_seq(seq);
        match found.filter(|segment| !segment.gone.load(Ordering::Acquire)) {
            Some(segment) => self.run = Some((segment, pending.sum, pending.came)),
            None => self.table.count(stored, by),
        }
    }

    fn flush(&mut self) {
        if let Some((batch, pending)) = self.unplaced.take() {
            self.table.count_batch(batch, pending);
        }
        if let Some((segment, sum, came)) = self.run.take() {
            segment.named.fetch_add(sum, Ordering::AcqRel);
            if came > 0 {
                segment.count_referenced(came.unsigned_abs());
                segment.dead_at.store(0, Ordering::Release);
            }
        }
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Table {
    pub(crate) fn set_placed(&self, seq: u64) {
        self.placed.store(seq, Ordering::Release);
    }

    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        self.write().insert(segment.first_seq(), segment);
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a start: batches that no file holds any more still name survivors that were moved. One entry without a file
    /// stands for each gap.
    pub(crate) fn fill_gaps(&self, like: &Segment) {
        let mut segments = self.write();
        let mut gaps = Vec::new();
        let mut have = 0;
        for segment in segments.values() {
            if segment.header.base.seq > have {
                gaps.push((have, segment.header.base.seq));
            }
            have = have.max(segment.last_seq());
        }
        for (base, last) in gaps {
            segments.insert(base + 1, Arc::new(Segment::without_file(like, base, last)));
        }
    }

    /// Forgets segments that begin behind this batch: their epoch ends before them.
    pub(crate) fn cut(&self, seq: u64) {
        self.write().split_off(&(seq + 1));
    }

    /// Closes files and forgets indexes that were not used since the last call, if there are many.
    pub(crate) fn trim(&self) {
        let segments = self.read();
        if segments.len() <= OPEN_MAX {
            return;
        }
        for segment in segments.values() {
            if segment.sealed.load(Ordering::Acquire) && !segment.used.swap(false, Ordering::AcqRel)
            {
                segment.close_file();
                segment.drop_index();
            }
        }
    }

    /// Every segment, in order.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.read().values().cloned().collect()
    }

    /// The segment in which a batch was first written, its file there or not.
    pub(crate) fn of_seq(&self, seq: u64) -> Option<Arc<Segment>> {
        let segments = self.read();
        let (_, segment) = segments.range(..=seq).next_back()?;
        (seq <= segment.last_seq()).then(|| Arc::clone(segment))
    }

    /// Counts references to a record up or down.
    pub(crate) fn count(&self, stored: StoredId, by: i64) {
        let seq = id::seq(stored);
        if seq > self.placed.load(Ordering::Acquire) {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if seq > self.placed.load(Ordering::Acquire) {
                let pending = pending.entry(seq).or_default();
                pending.sum += by;
                pending.came += by.max(0);
                return;
            }
        }
        let segments = self.read();
        let found = segments
            .range(..=seq)
            .next_back()
            .map(|(_, segment)| segment);
        match found.filter(|segment| seq <= segment.last_seq()) {
            Some(segment) => {
                segment.named.fetch_add(by, Ordering::AcqRel);
                if by > 0 {
                    segment.count_referenced(by.unsigned_abs());
                    segment.dead_at.store(0, Ordering::Release);
                }
                if by > 0 && segment.gone.load(Ordering::Acquire) && !segment.forwards_of(stored) {
                    self.dangling.fetch_add(1, Ordering::Relaxed);
                }
            }
            None => {
                self.dangling.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts references to records of one batch, which had no file when the first of them came or went.
    fn count_batch(&self, seq: u64, Pending { sum, came }: Pending) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if seq > self.placed.load(Ordering::Acquire) {
            let pending = pending.entry(seq).or_default();
            pending.sum += sum;
            pending.came += came;
            return;
        }
        drop(pending);
        match self.of_seq(seq) {
            Some(segment) => {
                segment.named.fetch_add(sum, Ordering::AcqRel);
                if came > 0 {
                    segment.count_referenced(came.unsigned_abs());
                    segment.dead_at.store(0, Ordering::Release);
                }
            }
            None => {
                self.dangling.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts many references up, most of them to neighbours: the segment is looked up once for each run of them.
    pub(crate) fn count_all(&self, each: impl FnOnce(&mut dyn FnMut(StoredId))) {
        let mut counting = self.counting();
        each(&mut |stored| counting.count(stored, 1));
    }

    /// Counts up and down, with what is counted for one segment in a row told to it at once.
    pub(crate) const fn counting(&self) -> Counting<'_> {
        Counting {
            table: self,
            run: None,
            unplaced: None,
        }
    }

    /// A batch was committed into this segment: references that waited for it are counted there.
    pub(crate) fn place(&self, seq: u64, segment: &Segment) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        self.placed.store(seq, Ordering::Release);
        if let Some(Pending { sum, came }) = pending.remove(&seq) {
            segment.named.fetch_add(sum, Ordering::AcqRel);
            segment.count_referenced(came.unsigned_abs());
        }
    }

    /// Where a record lies: its own id, or where it was moved.
    pub(crate) fn resolve(&self, stored: StoredId) -> Option<(Arc<Segment>, StoredId)> {
        let origin = self.of_seq(id::seq(stored))?;
        let moved = {
            let forwards = origin
                .forwards
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            forwards.of(stored)
        };
        match moved {
            Some(to) => Some((self.of_seq(id::seq(to))?, to)),
            None => Some((origin, stored)),
        }
    }

    /// A move is committed: once its batch has a segment.
    pub(crate) fn forward(&self, old: StoredId, new: StoredId) {
        let segments = self.read();
        let of_seq = |seq| {
            let (_, segment) = segments.range(..=seq).next_back()?;
            (seq <= segment.last_seq()).then_some(segment)
        };
        // Behind what is proven nothing is known: a move there is told of again with its batch.
        let Some(host) = of_seq(id::seq(new)) else {
            return;
        };
        host.count_referenced(1);
        if let Some(origin) = of_seq(id::seq(old)) {
            let host_of = |old| of_seq(id::seq(old)).map(|host| host.first_seq());
            origin
                .forwards
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(old, new, host.first_seq(), host_of);
        }
    }

    /// How many records that lie in each segment are referenced, at most: those named there, and survivors of others. What
    /// became of single survivors is not known, so of each origin's no more count than it has references.
    pub(crate) fn live(&self) -> Vec<(Arc<Segment>, i64)> {
        let segments = self.read();
        let mut live: BTreeMap<u64, i64> = BTreeMap::new();
        for segment in segments.values() {
            let named = segment.named.load(Ordering::Acquire);
            if named <= 0 {
                continue;
            }
            if !segment.evacuated.load(Ordering::Acquire) {
                *live.entry(segment.first_seq()).or_insert(0) += named;
            }
            let forwards = segment
                .forwards
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            for (first, moved) in forwards.hosts() {
                *live.entry(first).or_insert(0) += moved.min(named);
            }
        }
        let count = |segment: &Arc<Segment>| live.get(&segment.first_seq()).copied().unwrap_or(0);
        segments
            .values()
            .map(|segment| (Arc::clone(segment), count(segment)))
            .collect()
    }

    /// References to records, all together.
    pub(crate) fn named(&self) -> u64 {
        let segments = self.read();
        let each = segments.values();
        each.map(|segment| u64::try_from(segment.named.load(Ordering::Acquire)).unwrap_or(0))
            .sum()
    }

    /// Segments whose files nobody needs: no reference, and covered by a snapshot (`floor`).
    pub(crate) fn dead(&self, floor: u64) -> Vec<Arc<Segment>> {
        let dead = |(segment, live): &(Arc<Segment>, i64)| {
            segment.sealed.load(Ordering::Acquire)
                && !segment.gone.load(Ordering::Acquire)
                && segment.last_seq() <= floor
                && *live == 0
        };
        let found = self.live().into_iter().filter(dead);
        found.map(|(segment, _)| segment).collect()
    }

    /// Whether nobody refers to a segment that is about to be given back: who held it may have counted last.
    pub(crate) fn is_dead(&self, segment: &Arc<Segment>) -> bool {
        let is_it = |(other, live): (Arc<Segment>, i64)| live == 0 && Arc::ptr_eq(&other, segment);
        self.live().into_iter().any(is_it)
    }

    /// All survivors of `segment` were moved and the moves are committed: forwards that still lead into it are dead.
    pub(crate) fn evacuated(&self, segment: &Segment) {
        let range = segment.first_seq()..=segment.last_seq();
        for other in self.read().values() {
            let mut forwards = other
                .forwards
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            forwards.remove(range.clone());
        }
        segment.evacuated.store(true, Ordering::Release);
    }

    /// Drops entries whose file is gone and whose records nobody refers to.
    pub(crate) fn sweep(&self) {
        self.write().retain(|_, segment| {
            !segment.gone.load(Ordering::Acquire) || segment.named.load(Ordering::Acquire) > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::layout::Position;
    use crate::segment::{SegmentHeader, SegmentId};

    #[test]
    fn references_to_batches_without_a_file_wait_for_it() {
        let table = Table::default();
        let mut counting = table.counting();
        for (seq, at, by) in [(3, 0, 1), (3, 8, 1), (4, 0, 1), (3, 0, -1), (3, 16, 1)] {
            counting.count(id::pack(seq, at), by);
        }
        let counted = |table: &Table| table.pending.lock().expect("no panic").len();
        assert_eq!(
            counted(&table),
            2,
            "what goes to another batch and back is counted, the last is not"
        );
        drop(counting);
        let pending = table.pending.lock().expect("no panic");
        let sums: Vec<_> = pending
            .iter()
            .map(|(seq, it)| (*seq, it.sum, it.came))
            .collect();
        assert_eq!(sums, [(3, 2, 3), (4, 1, 1)]);
        assert_eq!(table.dangling.load(Ordering::Relaxed), 0);
    }
    fn segment(base: u64, last: u64) -> Arc<Segment> {
        let header = SegmentHeader {
            level: 1,
            store: [0; 16],
            writer: [0; 16],
            id: SegmentId {
                epoch: 1,
                number: base,
            },
            salt: 0,
            base: Position {
                seq: base,
                ..Position::default()
            },
            len: 1 << 20,
        };
        let segment = Segment::new(header, PathBuf::new(), false, false);
        segment.set_end(last, 8192, 1);
        Arc::new(segment)
    }

    /// A snapshot may tell of a move that is not proven yet where it is read.
    #[test]
    fn a_survivor_is_alive_where_it_lies_once_its_batch_is_there() {
        let table = Table::default();
        let (origin, host) = (segment(0, 5), segment(5, 5));
        table.insert(Arc::clone(&origin));
        table.insert(Arc::clone(&host));
        origin.named.store(1, Ordering::Release);
        let (old, new) = (id::pack(3, 0), id::pack(6, 0));
        let lies_at = |table: &Table| table.resolve(old).map(|(_, id)| id);
        let live = |table: &Table| table.live().last().map(|(_, live)| *live);
        table.forward(old, new);
        assert_eq!((lies_at(&table), live(&table)), (Some(old), Some(0)));
        host.set_end(6, 8192, 1);
        table.forward(old, new);
        table.forward(old, new);
        assert_eq!((lies_at(&table), live(&table)), (Some(new), Some(1)));
    }
}
