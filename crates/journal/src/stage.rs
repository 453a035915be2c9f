//! Staging: records wait in the open batch until the journal thread takes it.
//!
//! The mutex is short: fixed fields and small bodies are copied, larger bodies kept by reference (RULES 9, 10). A batch is
//! closed when the next command does not fit; all records of one command lie in one batch (RULES 18). No timer: what
//! arrives during one write shares the next. Where several who stage little come at about the same time, somebody may be asked to have
//! it written once those have staged who are ready to ([`Gatherer`]): a write costs as much as deciding on several of them.
//!
//! Who stages next waits for all that is staged, so a connection that floods must not have much of it: a stage that says whose it is
//! has room for its share only. Half of the bound is shared alike by all who have something staged; the other half is left to those
//! who come then. While somebody else who stages little waits for confirmations, a share is an eighth of that.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use message::StoredId;

use crate::batch::{self, FRAME_LEN, MOVED};
use crate::config::Config;
use crate::id;
use crate::shared::Shared;

/// Bodies up to this length are copied into the batch under the lock.
const COPY_MAX: usize = 512;
/// Bytes staged that each may have, however many share.
const SHARE_MIN: usize = 64 * 1024;
/// For so many batches it is remembered that somebody waited, some seconds of a flood: its share is small already when who publishes now
/// and then does so again.
const AWAITED_BATCHES: u64 = 4096;

/// Who has staged so many bytes that are not durable waits for nobody's.
const GATHER_OWN_MAX: usize = 8 << 10;
/// So many staged bytes are worth a write.
const GATHER_BYTES_MAX: usize = 128 << 10;
/// Who stages so long after the first wakes the thread, whatever has become of the gatherer. If nobody does, the lease's renewal would.
const GATHER_LIMIT: Duration = Duration::from_millis(3);
/// From so many who staged something of a batch on the next one is gathered: see [`Staging`]'s `crowd`.
const GATHER_CROWD: usize = 5 * ONE_EACH / 4;
/// One who staged something of each batch, as `crowd` counts.
const ONE_EACH: usize = 256;

/// Turns of one batch that count, at most: what a slow write let come is no crowd.
const TURNS_MAX: usize = 8;

/// Asked, when the journal's thread has nothing to do, and several have lately staged something of each batch: will it call
/// [`crate::Journal::write_gathered`] soon, once others have had their turn? If not, the thread is woken at once. It is called by
/// whoever stages, under the node's lock: it must not block, stage, or let go of the last handle of the journal.
pub type Gatherer = Arc<dyn Fn() -> bool + Send + Sync>;

struct StagedFrame {
    kind: u8,
    flags: u8,
    /// How much of the batch's inline bytes belong to it.
    inline: usize,
    body: Bytes,
}

/// A batch that is not written yet.
pub(crate) struct OpenBatch {
    pub(crate) seq: u64,
    /// Bytes of plaintext payload.
    pub(crate) len: usize,
    frames: Vec<StagedFrame>,
    inline: Vec<u8>,
    wakers: Vec<Waker>,
    /// Survivors in it: old id, new id.
    pub(crate) moves: Vec<(StoredId, StoredId)>,
    /// Who staged how many bytes of it, as far as that was said.
    owned: Vec<(u64, usize)>,
}

impl OpenBatch {
    pub(crate) fn new(seq: u64) -> Self {
        Self {
            seq,
            len: 0,
            frames: Vec::new(),
            inline: Vec::new(),
            wakers: Vec::new(),
            moves: Vec::new(),
            owned: Vec::new(),
        }
    }

    /// An empty one in the memory of this one, whose batch is written.
    pub(crate) fn reused(mut self) -> Self {
        self.len = 0;
        self.frames.clear();
        self.inline.clear();
        self.wakers.clear();
        self.moves.clear();
        self.owned.clear();
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn records(&self) -> usize {
        self.frames.len()
    }

    /// Writes the plaintext payload: the one copy of a body that is to be durable.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut inline = &self.inline[..];
        let start = out.len();
        let mut at = 0;
        for frame in &self.frames {
            let (head, rest) = inline.split_at(frame.inline);
            inline = rest;
            let len = head.len() + frame.body.len();
            out.extend_from_slice(&[0; FRAME_LEN]);
            out.extend_from_slice(head);
            out.extend_from_slice(&frame.body);
            let place = &mut out[start + at..];
            batch::finish_frame(place, id::pack(self.seq, at), len, frame.kind, frame.flags);
            at += batch::framed_len(len);
            out.resize(start + at, 0);
        }
        assert_eq!(at, self.len, "the length was counted as frames were staged");
    }
}

/// What waits for the journal thread.
pub(crate) struct Staging {
    pub(crate) open: OpenBatch,
    pub(crate) sealed: VecDeque<OpenBatch>,
    /// Memory for the batch behind the open one.
    spare: Option<OpenBatch>,
    /// Payload bytes that are not durable: open, sealed and in flight.
    pub(crate) bytes: usize,
    /// Of them, how many each owner has staged. Who has none is not in it.
    owners: BTreeMap<u64, usize>,
    /// The last two who staged little and wait for its confirmation, and in which batch.
    awaited: [Option<(u64, u64)>; 2],
    /// The batch being written, and who waits for it.
    pub(crate) flight: Option<u64>,
    pub(crate) flight_wakers: Vec<Waker>,
    /// The thread waits for work.
    pub(crate) idle: bool,
    pub(crate) gatherer: Option<Gatherer>,
    /// Since when the gatherer lets others stage.
    gathering: Option<Instant>,
    /// How often another one staged something of a batch, on an average of the last sixteen or so, in 256ths.
    crowd: usize,
    pub(crate) closing: bool,
}

/// Who is to know that something was staged.
enum Wake {
    Nobody,
    Thread,
    Gatherer(Gatherer),
}

impl Staging {
    pub(crate) fn new(first_seq: u64) -> Self {
        Self {
            open: OpenBatch::new(first_seq),
            sealed: VecDeque::new(),
            spare: None,
            bytes: 0,
            owners: BTreeMap::new(),
            awaited: [None; 2],
            flight: None,
            flight_wakers: Vec::new(),
            idle: false,
            gatherer: None,
            gathering: None,
            crowd: 0,
            closing: false,
        }
    }

    fn seal(&mut self) {
        let seq = self.open.seq + 1;
        let next = match self.spare.take() {
            Some(spare) => OpenBatch { seq, ..spare },
            None => OpenBatch::new(seq),
        };
        self.sealed
            .push_back(std::mem::replace(&mut self.open, next));
    }

    /// The next batch to be written, if any; it is in flight then. `spare`: one that was written, for its memory.
    pub(crate) fn take(&mut self, spare: &mut Option<OpenBatch>) -> Option<OpenBatch> {
        if self.spare.is_none() {
            self.spare = spare.take();
        }
        if self.sealed.is_empty() {
            if self.open.is_empty() {
                return None;
            }
            self.seal();
        }
        let mut batch = self.sealed.pop_front()?;
        self.flight = Some(batch.seq);
        self.gathering = None;
        self.crowd =
            self.crowd - self.crowd / 16 + batch.owned.len().min(TURNS_MAX) * ONE_EACH / 16;
        self.flight_wakers = std::mem::take(&mut batch.wakers);
        Some(batch)
    }

    /// The batch in flight is durable: who waited for it.
    pub(crate) fn committed(&mut self, batch: &OpenBatch) -> Vec<Waker> {
        self.flight = None;
        self.bytes -= batch.len;
        for &(owner, bytes) in &batch.owned {
            if let Entry::Occupied(mut staged) = self.owners.entry(owner) {
                *staged.get_mut() -= bytes;
                if *staged.get() == 0 {
                    staged.remove();
                }
            }
        }
        std::mem::take(&mut self.flight_wakers)
    }

    /// Somebody has put so many bytes into the open batch.
    fn own(&mut self, owner: u64, bytes: usize) {
        if bytes == 0 {
            return;
        }
        *self.owners.entry(owner).or_default() += bytes;
        match self.open.owned.last_mut() {
            Some((last, sum)) if *last == owner => *sum += bytes,
            _ => self.open.owned.push((owner, bytes)),
        }
    }

    /// How many bytes one may have staged while others have some too. A batch in flight and half of the next let one alone write
    /// as fast as the disk does; who waits for a confirmation beside it waits for all of that, so then it is an eighth, and the disk
    /// is written to more often.
    fn share_max(&self, owner: u64, config: &Config) -> usize {
        let alike = config.staged_bytes_max / 2 / self.owners.len().max(1);
        let mut most = config.batch_len_max / 2 * 3;
        if self.is_awaited_by_another(owner) {
            most /= 8;
        }
        alike.min(most).max(SHARE_MIN)
    }

    /// What the owner has put into the open batch is waited for. Who has much staged waits for itself most of all.
    fn await_by(&mut self, owner: u64, staged: usize) {
        self.forget(owner);
        if staged >= SHARE_MIN {
            return;
        }
        let [last, before] = &mut self.awaited;
        if last.is_some() {
            *before = *last;
        }
        *last = Some((owner, self.open.seq));
    }

    /// The owner waits for nothing any more.
    pub(crate) fn forget(&mut self, owner: u64) {
        for awaited in &mut self.awaited {
            awaited.take_if(|(id, _)| *id == owner);
        }
    }

    fn is_awaited_by_another(&self, owner: u64) -> bool {
        let since = self.open.seq.saturating_sub(AWAITED_BATCHES);
        let mut awaited = self.awaited.iter().flatten();
        awaited.any(|&(id, batch)| id != owner && batch >= since)
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.sealed.is_empty()
    }

    /// Something may have been staged by one who has so many bytes that are not durable.
    fn whom_to_wake(&mut self, own: usize) -> Wake {
        if !self.idle || self.is_empty() {
            return Wake::Nobody;
        }
        if own < GATHER_OWN_MAX && self.bytes < GATHER_BYTES_MAX && self.crowd >= GATHER_CROWD {
            match (&self.gathering, &self.gatherer) {
                (Some(since), _) if since.elapsed() < GATHER_LIMIT => return Wake::Nobody,
                (None, Some(gatherer)) => {
                    self.gathering = Some(Instant::now());
                    return Wake::Gatherer(Arc::clone(gatherer));
                }
                _ => {}
            }
        }
        self.idle = false;
        Wake::Thread
    }

    /// Nothing is waited for any more. Whether the thread must be woken.
    pub(crate) fn gathered(&mut self) -> bool {
        self.gathering = None;
        let wakes = self.idle && !self.is_empty();
        self.idle &= !wakes;
        wakes
    }

    /// Everyone who waits for anything.
    pub(crate) fn all_wakers(&mut self) -> Vec<Waker> {
        let mut wakers = std::mem::take(&mut self.flight_wakers);
        for batch in &mut self.sealed {
            wakers.append(&mut batch.wakers);
        }
        wakers.append(&mut self.open.wakers);
        wakers
    }

    /// Where whoever waits for a batch waits; `None` if it is not pending any more.
    fn wakers_of(&mut self, batch: u64) -> Option<&mut Vec<Waker>> {
        if self.open.seq == batch {
            return Some(&mut self.open.wakers);
        }
        if self.flight == Some(batch) {
            return Some(&mut self.flight_wakers);
        }
        self.sealed
            .iter_mut()
            .find(|sealed| sealed.seq == batch)
            .map(|sealed| &mut sealed.wakers)
    }

    /// Where whoever waits for the next commit waits; `None` if nothing is pending.
    fn oldest_wakers(&mut self) -> Option<&mut Vec<Waker>> {
        if self.flight.is_some() {
            return Some(&mut self.flight_wakers);
        }
        let oldest = self.sealed.front_mut().unwrap_or(&mut self.open);
        (!oldest.is_empty()).then_some(&mut oldest.wakers)
    }

    /// Where whoever waits for the newest record waits; `None` if nothing is pending.
    fn newest_wakers(&mut self) -> Option<&mut Vec<Waker>> {
        if !self.open.is_empty() {
            return Some(&mut self.open.wakers);
        }
        if let Some(batch) = self.sealed.back_mut() {
            return Some(&mut batch.wakers);
        }
        self.flight.is_some().then_some(&mut self.flight_wakers)
    }
}

/// A guard over the open batch. Held for a whole command, so that its records lie in one batch.
pub struct Stage<'a> {
    shared: &'a Shared,
    /// Always there until the guard is dropped.
    staging: Option<MutexGuard<'a, Staging>>,
    wakers: Vec<Waker>,
    /// The length of the open batch up to which it is kept open for the records of this command, also above the usual length.
    reserved: usize,
    owner: Option<Owner>,
}

/// Whose records are staged.
struct Owner {
    id: u64,
    /// Bytes of its own that are staged and counted.
    counted: usize,
    /// Bytes that this guard has put into the open batch and that are not counted yet.
    fresh: usize,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(shared: &'a Shared, owner: Option<u64>) -> Self {
        let staging = shared
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let owner = owner.map(|id| Owner {
            id,
            counted: staging.owners.get(&id).copied().unwrap_or(0),
            fresh: 0,
        });
        Self {
            shared,
            staging: Some(staging),
            wakers: Vec::new(),
            reserved: 0,
            owner,
        }
    }

    fn staging(&mut self) -> &mut Staging {
        self.staging.as_mut().expect("the guard is held until drop")
    }

    fn staged(&self) -> &Staging {
        self.staging.as_ref().expect("the guard is held until drop")
    }

    /// Whether there is room for more: what is staged and not durable is below its bound, what its owner has of it is below its share,
    /// and the journal has not failed.
    #[must_use]
    pub fn room(&self) -> bool {
        let (staged, config) = (self.staged(), &self.shared.config);
        self.shared.failure.get().is_none()
            && staged.bytes < config.staged_bytes_max
            && self.owner.as_ref().is_none_or(|owner| {
                let own = owner.counted + owner.fresh;
                // Asked for each command.
                own < SHARE_MIN || own < staged.share_max(owner.id, config)
            })
    }

    /// The owner of this guard waits for the confirmation of what it has staged. If that is little, others have less room for some
    /// thousand batches, or until it is gone ([`crate::Journal::forget_owner`]).
    pub fn awaited(&mut self) {
        if let Some(owner) = &self.owner {
            let (id, staged) = (owner.id, owner.counted + owner.fresh);
            self.staging().await_by(id, staged);
        }
    }

    /// Bytes of records in one batch, as a rule.
    #[must_use]
    pub fn batch_len_max(&self) -> usize {
        self.shared.config.batch_len_max
    }

    /// Whether the disk has a place for records of so many bytes, behind what is staged: in segments that are there, or above the level at
    /// which publishes are refused.
    #[must_use]
    pub fn has_place(&self, len: usize) -> bool {
        let staged = self.staged().bytes + len;
        self.shared.place.holds(staged as u64)
    }

    /// Whether a publish of so many bytes may be staged: it must not use up what settling needs on a disk that is full.
    #[must_use]
    pub fn takes_publish(&self, len: usize) -> bool {
        !self.shared.place.low.load(Ordering::Acquire) && self.has_place(len)
    }

    /// Makes sure that records with payloads of these lengths lie in one batch, and that [`Stage::next_id`] names the first
    /// of them: closes the open batch if they do not fit behind what it holds. False if no batch could ever hold them all:
    /// the command must be refused.
    pub fn reserve(&mut self, payload_lens: &[usize]) -> bool {
        let len: usize = payload_lens.iter().map(|&len| batch::framed_len(len)).sum();
        self.make_room(len);
        let fits = len <= self.shared.batch_len_hard;
        self.reserved = if fits {
            self.staged().open.len + len
        } else {
            0
        };
        fits
    }

    fn make_room(&mut self, len: usize) {
        let max = self.shared.config.batch_len_max;
        let open = &self.staged().open;
        if !open.is_empty() && open.len + len > max {
            self.count();
            self.staging().seal();
        }
    }

    /// Counts what this guard has put into the open batch as its owner's.
    fn count(&mut self) {
        let Some(owner) = &mut self.owner else {
            return;
        };
        let (id, fresh) = (owner.id, std::mem::take(&mut owner.fresh));
        owner.counted += fresh;
        self.staging().own(id, fresh);
    }

    /// The id that the next [`Stage::push`] gets, if its record fits (see [`Stage::reserve`]). The record is applied in
    /// memory before it is pushed (RULES 15), and needs its id then.
    #[must_use]
    pub fn next_id(&self) -> StoredId {
        let open = &self.staged().open;
        id::pack(open.seq, open.len)
    }

    /// Appends a record with the payload `head ++ body`.
    ///
    /// # Panics
    /// If the record alone is longer than a batch can be: callers split bodies over 256 KiB and ask [`Stage::reserve`].
    pub fn push(&mut self, kind: u8, head: &[u8], body: Option<Bytes>) -> StoredId {
        self.push_frame(kind, 0, head, &[], body)
    }

    /// Appends a survivor: a record that was first written as `old` and keeps that id (RULES 20).
    ///
    /// # Panics
    /// As [`Stage::push`].
    pub fn push_moved(&mut self, old: StoredId, kind: u8, payload: Bytes) -> StoredId {
        let new = self.push_frame(kind, MOVED, &old.0.to_le_bytes(), &[], Some(payload));
        self.staging().open.moves.push((old, new));
        new
    }

    fn push_frame(
        &mut self,
        kind: u8,
        flags: u8,
        head: &[u8],
        more: &[u8],
        body: Option<Bytes>,
    ) -> StoredId {
        let body = body.unwrap_or_default();
        let framed = batch::framed_len(head.len() + more.len() + body.len());
        assert!(
            framed <= self.shared.batch_len_hard,
            "a record fits a batch"
        );
        if self.staged().open.len + framed > self.reserved {
            self.make_room(framed);
            self.reserved = 0;
        }
        let id = self.next_id();
        let shared = self.shared;
        let staging = self.staging();
        let open = &mut staging.open;
        let mut inline = head.len() + more.len();
        open.inline.extend_from_slice(head);
        open.inline.extend_from_slice(more);
        let body = if body.len() <= COPY_MAX {
            open.inline.extend_from_slice(&body);
            inline += body.len();
            Bytes::new()
        } else {
            body
        };
        open.frames.push(StagedFrame {
            kind,
            flags,
            inline,
            body,
        });
        open.len += framed;
        staging.bytes += framed;
        shared.newest.store(staging.open.seq, Ordering::Release);
        if let Some(owner) = &mut self.owner {
            owner.fresh += framed;
        }
        id
    }

    /// The sequence of the open batch.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.staged().open.seq
    }

    /// Wakes `waker` once when everything staged by the time this guard is dropped is committed, or the journal fails; at
    /// once if nothing is pending.
    pub fn on_commit(&mut self, waker: Waker) {
        self.wakers.push(waker);
    }

    /// Wakes `waker` once when the next batch is committed, or the journal fails: there may be [`Stage::room`] then; at once if nothing
    /// is pending.
    pub fn on_room(&mut self, waker: Waker) {
        let failed = self.shared.failure.get().is_some();
        match self.staging().oldest_wakers() {
            Some(waiting) if !failed => push_waker(waiting, waker),
            _ => self.wakers.push(waker),
        }
    }

    /// Wakes `waker` once when batch `batch` is committed, or the journal fails; at once if that has happened.
    pub fn on_commit_of(&mut self, batch: u64, waker: Waker) {
        let failed = self.shared.failure.get().is_some();
        match self.staging().wakers_of(batch) {
            Some(waiting) if !failed => push_waker(waiting, waker),
            _ => waker.wake(),
        }
    }
}

/// Adds a waker that is not there: one connection often stages several commands in a row.
fn push_waker(waiting: &mut Vec<Waker>, waker: Waker) {
    if !waiting.last().is_some_and(|last| last.will_wake(&waker)) {
        waiting.push(waker);
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.count();
        let Some(mut staging) = self.staging.take() else {
            return;
        };
        if !self.wakers.is_empty()
            && self.shared.failure.get().is_none()
            && let Some(waiting) = staging.newest_wakers()
        {
            for waker in self.wakers.drain(..) {
                push_waker(waiting, waker);
            }
        }
        let own = self.owner.as_ref().map_or(0, |owner| owner.counted);
        let wake = staging.whom_to_wake(own);
        drop(staging);
        match wake {
            Wake::Nobody => {}
            Wake::Thread => self.shared.work.notify_one(),
            Wake::Gatherer(gatherer) => {
                if !gatherer() {
                    self.shared.write_gathered();
                }
            }
        }
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stages something of each of these owners' in the open batch.
    fn stage(staging: &mut Staging, owners: &[u64]) {
        for &owner in owners {
            staging.open.frames.push(StagedFrame {
                kind: 1,
                flags: 0,
                inline: 0,
                body: Bytes::new(),
            });
            staging.own(owner, 100);
        }
    }

    /// The thread writes batches of which these owners each staged something, and waits for the next.
    fn write(staging: &mut Staging, owners: &[u64], batches: usize) {
        for _ in 0..batches {
            stage(staging, owners);
            let batch = staging.take(&mut None).expect("something is staged");
            staging.flight = None;
            staging.owners.clear();
            assert!(!batch.is_empty());
        }
        staging.idle = true;
    }

    fn gathering() -> Staging {
        Staging {
            gatherer: Some(Arc::new(|| true)),
            ..Staging::new(1)
        }
    }

    /// Two have staged something of each of the last batches, and one of them of the next.
    fn crowd() -> Staging {
        let mut staging = gathering();
        write(&mut staging, &[7, 8], 30);
        stage(&mut staging, &[7]);
        staging
    }

    #[test]
    fn one_who_stages_alone_is_written_at_once() {
        let mut staging = gathering();
        write(&mut staging, &[7], 100);
        assert!(matches!(staging.whom_to_wake(0), Wake::Nobody));
        stage(&mut staging, &[7]);
        assert!(matches!(staging.whom_to_wake(100), Wake::Thread));
        assert!(!staging.idle, "it is woken once");
        assert!(matches!(staging.whom_to_wake(100), Wake::Nobody));
    }

    #[test]
    fn where_several_stage_the_first_asks_for_the_others_to_be_gathered() {
        let mut staging = crowd();
        assert!(matches!(staging.whom_to_wake(100), Wake::Gatherer(_)));
        // However long this thread may stand still.
        staging.gathering = Instant::now().checked_add(Duration::from_secs(3600));
        stage(&mut staging, &[8]);
        assert!(matches!(staging.whom_to_wake(100), Wake::Nobody));
        assert!(staging.idle && staging.gathered(), "the thread is woken");
        assert!(!staging.gathered(), "and once is enough");
        // When those others have gone, the average forgets them.
        write(&mut staging, &[7], 40);
        stage(&mut staging, &[7]);
        assert!(matches!(staging.whom_to_wake(100), Wake::Thread));
    }

    #[test]
    fn much_is_written_at_once_and_so_is_what_was_gathered_for_long() {
        let mut staging = crowd();
        assert!(matches!(staging.whom_to_wake(GATHER_OWN_MAX), Wake::Thread));
        let mut staging = crowd();
        assert!(matches!(staging.whom_to_wake(100), Wake::Gatherer(_)));
        staging.bytes = GATHER_BYTES_MAX;
        assert!(matches!(staging.whom_to_wake(100), Wake::Thread));
        let mut staging = crowd();
        assert!(matches!(staging.whom_to_wake(100), Wake::Gatherer(_)));
        staging.gathering = Instant::now().checked_sub(GATHER_LIMIT);
        assert!(matches!(staging.whom_to_wake(100), Wake::Thread));
        let mut staging = crowd();
        staging.gatherer = None;
        assert!(matches!(staging.whom_to_wake(100), Wake::Thread));
    }

    #[test]
    fn a_batch_that_is_taken_is_gathered_no_more() {
        let mut staging = crowd();
        assert!(matches!(staging.whom_to_wake(100), Wake::Gatherer(_)));
        // The thread came for the lease's sake.
        write(&mut staging, &[8], 1);
        stage(&mut staging, &[7]);
        assert!(matches!(staging.whom_to_wake(100), Wake::Gatherer(_)));
    }

    #[test]
    fn what_is_gathered_is_written_when_the_gatherer_says_so_or_does_not_gather() {
        let vfs = Arc::new(crate::MemVfs::new(false));
        let (opened, mut engine) = crate::open_stepped(
            vfs,
            std::path::Path::new("/j"),
            Config::default(),
            1,
            [1; 16],
        )
        .expect("it opens");
        let journal = opened.journal;
        // Stages something while the thread waits, as it seems, and several have lately done so. Whether the thread was woken.
        let mut woken = |gathers: Option<bool>, then: &dyn Fn()| {
            journal.gather_by(gathers.map(|gathers| Arc::new(move || gathers) as Gatherer));
            {
                let mut staging = journal.shared().staging.lock().expect("no one panics");
                (staging.idle, staging.crowd) = (true, 2 * ONE_EACH);
            }
            journal.stage_of(1).push(1, b"something", None);
            then();
            let idle = journal.shared().staging.lock().expect("no one panics").idle;
            assert!(matches!(engine.step(), crate::Step::Committed(_)));
            !idle
        };
        assert!(woken(None, &|| {}));
        assert!(woken(Some(false), &|| {}));
        assert!(!woken(Some(true), &|| {}));
        assert!(woken(Some(true), &|| journal.write_gathered()));
        assert!(woken(Some(true), &|| journal.gather_by(None)));
    }
}
