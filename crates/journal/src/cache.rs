//! Memory of what was written and read: committed batches, oldest out first, and windows of segments read back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use crate::aligned::Aligned;
use crate::error::ReadError;
use crate::segment::{Segment, SegmentId};
use crate::vfs::Vfs;

/// Bytes of a window, and the alignment of its offset.
const WINDOW: u64 = 256 << 10;
/// Windows read at once where reading goes in order: 1 MiB.
const IN_ORDER: u64 = 4;
/// Windows kept.
const WINDOWS_MAX: usize = 48;

/// Payloads of committed batches. Sequences are dense, so it is a ring.
#[derive(Default)]
pub(crate) struct BatchCache {
    ring: RwLock<Ring>,
}

#[derive(Default)]
struct Ring {
    first: u64,
    payloads: VecDeque<(Bytes, usize)>,
    bytes: usize,
}

impl BatchCache {
    /// Adds the payload of the next batch, whose buffer takes `capacity` bytes. Those that have to go for it come back: memory
    /// is given back outside the lock.
    #[must_use]
    pub(crate) fn push(
        &self,
        seq: u64,
        payload: Bytes,
        capacity: usize,
        bytes_max: usize,
    ) -> Vec<Bytes> {
        let mut out = Vec::new();
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if ring.payloads.is_empty() {
            ring.first = seq;
        }
        debug_assert_eq!(
            ring.first + ring.payloads.len() as u64,
            seq,
            "sequences are dense"
        );
        ring.payloads.push_back((payload, capacity));
        ring.bytes += capacity;
        while ring.bytes > bytes_max {
            let Some((old, capacity)) = ring.payloads.pop_front() else {
                break;
            };
            ring.first += 1;
            ring.bytes -= capacity;
            out.push(old);
        }
        drop(ring);
        out
    }

    pub(crate) fn payload(&self, seq: u64) -> Option<Bytes> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let nth = usize::try_from(seq.checked_sub(ring.first)?).ok()?;
        ring.payloads.get(nth).map(|(payload, _)| payload.clone())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.ring
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes
    }
}

struct Window {
    segment: SegmentId,
    number: u64,
    bytes: Bytes,
}

/// Windows of segments, so that reading in order costs one read for many records.
#[derive(Default)]
pub(crate) struct Windows {
    recent: Mutex<VecDeque<Window>>,
}

impl Windows {
    /// The bytes `[at, at + len)` of a segment. They end before the segment's committed end.
    pub(crate) fn read(
        &self,
        vfs: &dyn Vfs,
        segment: &Arc<Segment>,
        at: u64,
        len: usize,
    ) -> Result<Bytes, ReadError> {
        let end = at + len as u64;
        let (first, last) = (at / WINDOW, (end - 1) / WINDOW);
        if first == last {
            let window = self.window(vfs, segment, first, end)?;
            let start = (at - first * WINDOW) as usize;
            return Ok(window.slice(start..start + len));
        }
        let mut out = Vec::with_capacity(len);
        for number in first..=last {
            let from = at.max(number * WINDOW);
            let to = end.min((number + 1) * WINDOW);
            let window = self.window(vfs, segment, number, to)?;
            let start = (from - number * WINDOW) as usize;
            out.extend_from_slice(&window[start..start + (to - from) as usize]);
        }
        Ok(out.into())
    }

    /// Window `number`, valid at least up to `needed`.
    fn window(
        &self,
        vfs: &dyn Vfs,
        segment: &Arc<Segment>,
        number: u64,
        needed: u64,
    ) -> Result<Bytes, ReadError> {
        let id = segment.id();
        let needed = (needed - number * WINDOW) as usize;
        let in_order = {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let found = recent
                .iter()
                .position(|w| w.segment == id && w.number == number);
            if let Some(i) = found {
                let window = recent.remove(i).expect("it was just found there");
                let bytes = window.bytes.clone();
                if bytes.len() >= needed {
                    recent.push_back(window);
                    return Ok(bytes);
                }
            }
            number > 0
                && recent
                    .iter()
                    .any(|w| w.segment == id && w.number == number - 1)
        };
        // Only what is committed when the read starts is kept: the rest of a window may change.
        let committed = segment.end();
        let start = number * WINDOW;
        let windows = if in_order { IN_ORDER } else { 1 };
        let len = (committed.saturating_sub(start)).min(windows * WINDOW) as usize;
        let mut buffer = Aligned::zeroed(len);
        let n = segment
            .file(vfs)?
            .read_at(&mut buffer, start)
            .map_err(|e| segment.io(e))?;
        if n < needed {
            return Err(segment.corrupt(start + n as u64, "the segment is cut short"));
        }
        let all = buffer.freeze();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for (i, from) in (0..n).step_by(WINDOW as usize).enumerate().rev() {
            let bytes = all.slice(from..n.min(from + WINDOW as usize));
            let number = number + i as u64;
            recent.retain(|w| w.segment != id || w.number != number);
            recent.push_back(Window {
                segment: id,
                number,
                bytes,
            });
        }
        while recent.len() > WINDOWS_MAX {
            recent.pop_front();
        }
        Ok(all.slice(..n.min(WINDOW as usize)))
    }

    /// Forgets a segment that is gone.
    pub(crate) fn forget(&self, segment: SegmentId) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|w| w.segment != segment);
    }
}
