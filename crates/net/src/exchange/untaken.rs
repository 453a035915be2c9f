//! What an HTTP/2 connection was answered and has not taken. Its peer opens the windows of its streams as it likes, so that without a
//! bound it could have answers made and kept for as many requests as it may send at a time.
//!
//! | of a peer that does not take them | what happens |
//! |---|---|
//! | answers of more than `http_answers_len_max` | requests are refused as for want of room, before they are begun |
//! | an answer that does not fit beside them | is not sent; a refusal is |
//! | a quarter of `wire_len_max`, of which nothing is taken for `stall_timeout_ms` | the connection ends, as over HTTP/1.1 |

use std::{
    collections::VecDeque,
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::time::{Instant, sleep};

use crate::Limits;

/// Answers that are no longer than this are sent however much waits: what was done is not called refused for want of room.
const SHORT_LEN_MAX: usize = 64 * 1024;

/// What waits for the peer of one connection.
pub(super) struct Untaken {
    len: AtomicUsize,
    len_max: usize,
    /// Bytes that went to the socket, ever.
    taken: AtomicU64,
}

impl Untaken {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self {
            len: AtomicUsize::new(0),
            len_max: limits.http_answers_len_max,
            taken: AtomicU64::new(0),
        }
    }

    /// Whether nothing more is begun.
    pub(super) fn is_full(&self) -> bool {
        self.len.load(Ordering::Relaxed) >= self.len_max
    }

    /// Counts bytes of an answer. `None`: there is no room. One answer of any length fits beside short ones.
    pub(super) fn hold(self: &Arc<Self>, mut piece: Piece) -> Option<Piece> {
        let len = piece.len;
        let before = self.len.fetch_add(len, Ordering::Relaxed);
        piece.counted = Some(Arc::clone(self));
        let fits = len <= SHORT_LEN_MAX || before <= SHORT_LEN_MAX || before + len <= self.len_max;
        fits.then_some(piece)
    }

    /// Comes back when the peer has taken nothing for as long as it may, while much waited for it.
    pub(super) async fn stalled(&self, limits: &Limits) {
        let patience = Duration::from_millis(limits.stall_timeout_ms);
        let much = limits.wire_len_max / 4;
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            sleep(patience / 4).await;
            let taken = self.taken.load(Ordering::Relaxed);
            if taken != seen || self.len.load(Ordering::Relaxed) < much {
                (seen, since) = (taken, Instant::now());
            } else if since.elapsed() >= patience {
                return;
            }
        }
    }
}

/// Bytes of an answer, counted until they go to the socket or nowhere.
pub(crate) struct Piece {
    first: Bytes,
    /// Behind it; none is empty.
    more: VecDeque<Bytes>,
    /// All of them.
    len: usize,
    counted: Option<Arc<Untaken>>,
}

/// Counted nowhere as yet.
impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self {
            len: bytes.len(),
            first: bytes,
            more: VecDeque::new(),
            counted: None,
        }
    }
}

/// Counted nowhere as yet.
impl From<Vec<Bytes>> for Piece {
    fn from(all: Vec<Bytes>) -> Self {
        let mut more = VecDeque::from(all);
        more.retain(|bytes| !bytes.is_empty());
        Self {
            len: more.iter().map(Bytes::len).sum(),
            first: more.pop_front().unwrap_or_default(),
            more,
            counted: None,
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        &self.first
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let all = std::iter::once(&self.first).chain(&self.more);
        let there = all.filter(|bytes| !bytes.is_empty());
        let pairs = into.iter_mut().zip(there);
        pairs
            .map(|(slice, bytes)| *slice = IoSlice::new(bytes))
            .count()
    }

    fn advance(&mut self, len: usize) {
        assert!(len <= self.len, "advanced past the end of an answer");
        self.len -= len;
        let mut left = len;
        while left >= self.first.len() && !self.more.is_empty() {
            left -= self.first.len();
            // What was sent is given back at once.
            self.first = self.more.pop_front().unwrap_or_default();
        }
        self.first.advance(left);
        if let Some(untaken) = &self.counted {
            untaken.len.fetch_sub(len, Ordering::Relaxed);
            untaken.taken.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(untaken) = &self.counted {
            untaken.len.fetch_sub(self.len, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(len: usize) -> Piece {
        Bytes::from(vec![0; len]).into()
    }

    #[test]
    fn an_answer_in_pieces_is_one_answer() {
        let limits = Limits::default();
        let untaken = Arc::new(Untaken::new(&limits));
        let text = b"one answer in pieces";
        let cut = |ends: &[usize]| {
            let mut from = 0;
            let cut = ends.iter().map(|end| {
                let bytes = Bytes::from_static(&text[from..*end]);
                from = *end;
                bytes
            });
            cut.collect::<Vec<_>>()
        };
        for ends in [&[20][..], &[0, 3, 3, 10, 20, 20], &[1, 19, 20]] {
            for step in 1..=text.len() {
                let piece = Piece::from(cut(ends));
                let mut piece = untaken.hold(piece).expect("room");
                let mut sent = Vec::new();
                while piece.has_remaining() {
                    let mut slices = [IoSlice::new(&[]); 2];
                    let count = piece.chunks_vectored(&mut slices);
                    let seen: Vec<u8> = slices[..count].iter().flat_map(|it| it.to_vec()).collect();
                    let len = step.min(seen.len());
                    assert!(seen.starts_with(piece.chunk()) && len > 0);
                    sent.extend_from_slice(&seen[..len]);
                    piece.advance(len);
                    assert_eq!(piece.remaining(), text.len() - sent.len());
                    let left = untaken.len.load(Ordering::Relaxed);
                    assert_eq!(left, piece.remaining());
                }
                assert_eq!(sent, text);
            }
        }
        let piece = Piece::from(cut(&[5, 20]));
        drop(untaken.hold(piece));
        assert_eq!(untaken.len.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_taken_or_dropped_makes_room() {
        let limits = Limits {
            http_answers_len_max: 2 * SHORT_LEN_MAX,
            ..Limits::default()
        };
        let untaken = Arc::new(Untaken::new(&limits));
        // One always fits.
        let mut long = untaken.hold(of(10 * SHORT_LEN_MAX)).expect("it is alone");
        assert!(untaken.is_full());
        let short = untaken.hold(of(SHORT_LEN_MAX)).expect("it is short");
        assert!(untaken.hold(of(SHORT_LEN_MAX + 1)).is_none());
        long.advance(9 * SHORT_LEN_MAX);
        assert!(untaken.is_full());
        drop(short);
        assert!(!untaken.is_full());
        assert!(untaken.hold(of(SHORT_LEN_MAX + 1)).is_some());
        drop(long);
        assert_eq!(untaken.len.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_something_now_and_then_does_not_stall() {
        let limits = Limits::default();
        let untaken = Arc::new(Untaken::new(&limits));
        let mut piece = untaken.hold(of(limits.wire_len_max)).expect("room");
        let mut stalled = std::pin::pin!(untaken.stalled(&limits));
        let patience = Duration::from_millis(limits.stall_timeout_ms);
        for _ in 0..10 {
            let waited = tokio::time::timeout(patience - patience / 8, &mut stalled).await;
            assert!(waited.is_err(), "something was taken");
            piece.advance(1);
        }
        let begun = Instant::now();
        stalled.await;
        assert!(begun.elapsed() <= patience * 3 / 2, "{:?}", begun.elapsed());
        // Little may wait for as long as it likes.
        piece.advance(limits.wire_len_max * 7 / 8);
        let little = tokio::time::timeout(100 * patience, untaken.stalled(&limits)).await;
        assert!(little.is_err());
    }
}
