//! Reading the batches of a segment in order, each verified: salt, epoch, sequence, chain, digest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::aligned::Reused;
use crate::batch::{self, ADOPTED, BLOCK, HEADER_LEN, Header};
use crate::layout::Position;
use crate::loss::Gap;
use crate::segment::{Place, SegmentHeader};
use crate::vfs::VfsFile;

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// A verified batch.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// The header in this segment.
    pub(crate) outer: Header,
    /// The header under which it was first written; the same unless adopted.
    pub(crate) header: Header,
    /// The first header's bytes, for whoever adopts the batch.
    pub(crate) header_bytes: Bytes,
    /// The plaintext records.
    pub(crate) payload: Bytes,
    /// Where it starts in the segment.
    pub(crate) offset: u64,
    /// The bytes of memory that were read for it: all of what it lies in, if it is the first there, else none.
    pub(crate) memory: usize,
}

impl Batch {
    pub(crate) fn place(&self) -> Place {
        Place::new(self.offset, self.outer.flags & ADOPTED != 0)
    }
}

/// Why a reader found no further batch.
pub(crate) enum Stop {
    /// What is there is no batch that continues the chain.
    Invalid { offset: u64, what: String },
    /// The file could not be read.
    Io(io::Error),
}

/// Reads the batches of a segment in order and verifies each: salt, epoch, sequence, chain, digest.
pub(crate) struct BatchReader {
    file: Arc<dyn VfsFile>,
    pub(crate) path: PathBuf,
    salt: u64,
    epoch: u64,
    /// Where batches end at the latest.
    limit: u64,
    pub(crate) offset: u64,
    /// Where the chain stands in front of `offset`.
    pub(crate) position: Position,
    chunk: Bytes,
    chunk_at: u64,
    /// The memory of `chunk`, until a batch in it has it.
    chunk_memory: usize,
    memory: Reused,
    /// How much is read at once.
    ahead: usize,
    /// Up to here nothing is read ahead: something there cannot be read.
    singly: u64,
    /// What was given up: it is passed over.
    gaps: Arc<[Gap]>,
}

impl BatchReader {
    pub(crate) fn new(
        file: Arc<dyn VfsFile>,
        path: &Path,
        header: &SegmentHeader,
        limit: u64,
        gaps: Arc<[Gap]>,
    ) -> Self {
        let mut reader = Self {
            file,
            path: path.to_owned(),
            salt: header.salt,
            epoch: header.id.epoch,
            limit,
            offset: BLOCK as u64,
            position: header.base,
            chunk: Bytes::new(),
            chunk_at: 0,
            chunk_memory: 0,
            memory: Reused::default(),
            ahead: CHUNK,
            singly: 0,
            gaps,
        };
        reader.pass_gaps();
        reader
    }

    /// Where a gap begins here, goes on behind it.
    pub(crate) fn pass_gaps(&mut self) {
        let here = |gap: &&Gap| gap.offset == self.offset && gap.before.seq == self.position.seq;
        if let Some(gap) = self.gaps.iter().find(here) {
            self.offset = gap.to;
            self.position = gap.after;
            // The next one may begin there.
            self.pass_gaps();
        }
    }

    /// Goes to the batch behind `seq`, where the gap ends in which that lies. `false`: it lies in none.
    pub(crate) fn enter_gap(&mut self, seq: u64) -> bool {
        let Some(gap) = self.gaps.iter().find(|gap| gap.follows(seq)) else {
            return false;
        };
        self.offset = gap.to;
        self.position = gap.after;
        self.pass_gaps();
        true
    }

    /// Goes to a batch of this segment with a sequence above `seq` and, if it is known, up to `last`, that lies at `offset` or
    /// behind it and is whole, whatever lies in front of it. `None`: there is none. Blocks that cannot be read are
    /// passed over.
    pub(crate) fn find_whole(
        &mut self,
        mut offset: u64,
        seq: u64,
        last: Option<u64>,
    ) -> Option<Gap> {
        let from = (self.position, self.offset);
        self.refresh(CHUNK);
        while offset + BLOCK as u64 <= self.limit {
            let header = self
                .bytes(offset, BLOCK)
                .ok()
                .and_then(|block| Header::decode(&block, self.salt))
                .filter(|header| {
                    header.epoch == self.epoch
                        && header.seq > seq
                        && last.is_none_or(|last| header.seq <= last)
                });
            if let Some(header) = header {
                let after = Position {
                    seq: header.seq - 1,
                    lsn: header.first_lsn,
                    chain: header.chain_before,
                };
                (self.position, self.offset) = (after, offset);
                let whole = self.next_batch().is_ok();
                (self.position, self.offset) = (after, offset);
                if whole {
                    return Some(Gap {
                        before: from.0,
                        after,
                        offset: from.1,
                        to: offset,
                    });
                }
            }
            offset += BLOCK as u64;
        }
        (self.position, self.offset) = from;
        None
    }

    /// Where batches end at the latest.
    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Reads into the memory of the one that read in front of this.
    pub(crate) fn continues(&mut self, before: &Self) {
        self.memory = before.memory.clone();
    }

    /// Forgets what it has read ahead: it may have been written since. `ahead` bytes are read at once from here on.
    pub(crate) fn refresh(&mut self, ahead: usize) {
        self.chunk = Bytes::new();
        self.read_ahead(ahead);
    }

    /// `ahead` bytes are read at once from here on, behind what was read.
    pub(crate) const fn read_ahead(&mut self, ahead: usize) {
        self.ahead = ahead;
    }

    /// The bytes `[offset, offset + len)`, fewer at the end of the file. Where more cannot be read at once, only they are read.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let have = self.chunk_at + self.chunk.len() as u64;
        if offset < self.chunk_at || offset + len as u64 > have {
            let ahead = self.ahead.min((self.limit - offset) as usize);
            let all = len.max(ahead).next_multiple_of(BLOCK);
            let least = len.next_multiple_of(BLOCK);
            self.chunk = Bytes::new();
            let (file, memory) = (&*self.file, &self.memory);
            let read = |len| memory.fill(len, |buffer| file.read_at(buffer, offset));
            (self.chunk, self.chunk_memory) = if all == least || offset < self.singly {
                read(least)?
            } else {
                read(all).or_else(|_| {
                    self.singly = offset + all as u64;
                    read(least)
                })?
            };
            self.chunk_at = offset;
        }
        let start = (offset - self.chunk_at) as usize;
        let end = (start + len).min(self.chunk.len());
        Ok(self.chunk.slice(start.min(end)..end))
    }

    /// The next batch, or why there is none.
    pub(crate) fn next_batch(&mut self) -> Result<Batch, Stop> {
        self.pass_gaps();
        let offset = self.offset;
        let invalid = |what: String| Stop::Invalid { offset, what };
        if offset + BLOCK as u64 > self.limit {
            return Err(invalid("the segment is full".into()));
        }
        let head = self.bytes(offset, BLOCK).map_err(Stop::Io)?;
        let Some(outer) = Header::decode(&head, self.salt) else {
            return Err(invalid("no batch header".into()));
        };
        if mutated!(NoChainCheck) && outer.epoch == self.epoch {
            self.position = Position {
                seq: outer.seq.saturating_sub(1),
                lsn: outer.first_lsn,
                chain: outer.chain_before,
            };
        }
        let expected = self.position.seq + 1;
        if outer.epoch != self.epoch
            || outer.seq != expected
            || outer.first_lsn != self.position.lsn
            || outer.chain_before != self.position.chain
        {
            return Err(invalid(format!(
                "batch {} where batch {expected} continues the chain",
                outer.seq
            )));
        }
        let padded = outer.padded_len();
        if offset + padded as u64 > self.limit {
            return Err(invalid(format!(
                "batch {expected} is longer than the segment"
            )));
        }
        let all = self.bytes(offset, padded).map_err(Stop::Io)?;
        if all.len() < padded {
            return Err(invalid(format!("batch {expected} is cut short")));
        }
        let payload = all.slice(HEADER_LEN..HEADER_LEN + outer.payload_len as usize);
        if batch::digest(&payload) != outer.digest {
            return Err(invalid(format!(
                "batch {expected} does not match its digest"
            )));
        }
        let mut batch = Self::unwrap_adopted(outer, &all, payload, offset).ok_or_else(|| {
            invalid(format!(
                "adopted batch {expected} does not match its first header"
            ))
        })?;
        batch.memory = std::mem::take(&mut self.chunk_memory);
        self.offset += padded as u64;
        self.position = Position {
            seq: expected,
            lsn: batch.header.first_lsn + u64::from(batch.header.records),
            chain: batch.header.chain_after(),
        };
        self.pass_gaps();
        Ok(batch)
    }

    fn unwrap_adopted(outer: Header, all: &Bytes, payload: Bytes, offset: u64) -> Option<Batch> {
        if outer.flags & ADOPTED == 0 {
            let header_bytes = all.slice(..HEADER_LEN);
            return Some(Batch {
                header: outer.clone(),
                outer,
                header_bytes,
                payload,
                offset,
                memory: 0,
            });
        }
        let header = Header::decode_inner(&payload)?;
        let header_bytes = payload.slice(..HEADER_LEN);
        let payload = payload.slice(HEADER_LEN..);
        let same = header.seq == outer.seq
            && header.chain_before == outer.chain_before
            && header.first_lsn == outer.first_lsn
            && header.payload_len as usize == payload.len()
            && header.digest == batch::digest(&payload);
        same.then_some(Batch {
            outer,
            header,
            header_bytes,
            payload,
            offset,
            memory: 0,
        })
    }

    /// Whether any block from `offset` up to `end` starts a batch of this segment with a sequence above `seq`: then what is
    /// invalid in front of it was durable once.
    pub(crate) fn later_batch(
        &mut self,
        mut offset: u64,
        end: u64,
        seq: u64,
    ) -> io::Result<Option<u64>> {
        self.refresh(CHUNK);
        while offset < end && offset + BLOCK as u64 <= self.limit {
            let block = self.bytes(offset, BLOCK)?;
            let header = Header::decode(&block, self.salt);
            if header.is_some_and(|header| header.epoch == self.epoch && header.seq > seq) {
                return Ok(Some(offset));
            }
            offset += BLOCK as u64;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::segment::SegmentId;

    const LIMIT: u64 = 8 << 20;

    /// A file of which one block cannot be read; it counts what is read of it.
    struct Spotted {
        bytes: Vec<u8>,
        bad: u64,
        reads: Mutex<Vec<(u64, usize)>>,
    }

    impl VfsFile for Spotted {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let len = buf.len();
            self.reads.lock().expect("one thread").push((offset, len));
            if (offset..offset + len as u64).contains(&self.bad) {
                return Err(io::Error::other("a bad block"));
            }
            let start = (offset as usize).min(self.bytes.len());
            let n = len.min(self.bytes.len() - start);
            buf[..n].copy_from_slice(&self.bytes[start..start + n]);
            Ok(n)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            unreachable!("it is only read")
        }
        fn write_durable(&self, _: &[u8], _: u64) -> io::Result<()> {
            unreachable!("it is only read")
        }
        fn sync(&self) -> io::Result<()> {
            unreachable!("it is only read")
        }
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }
    }

    fn segment() -> SegmentHeader {
        SegmentHeader {
            level: 0,
            store: [1; 16],
            writer: [2; 16],
            id: SegmentId {
                epoch: 3,
                number: 4,
            },
            salt: 5,
            base: Position::default(),
            len: LIMIT,
        }
    }

    /// A segment with batches of one block at these offsets, and a bad block at another.
    fn spotted(offsets: &[u64], bad: u64) -> (Arc<Spotted>, BatchReader) {
        let mut bytes = vec![0; LIMIT as usize];
        let mut position = Position::default();
        for &at in offsets {
            let payload = [7; 100];
            let header = Header {
                flags: 0,
                epoch: 3,
                seq: position.seq + 1,
                first_lsn: position.lsn,
                payload_len: 100,
                records: 1,
                durable_upto: 0,
                chain_before: position.chain,
                digest: batch::digest(&payload),
                wall_ms: 0,
            };
            let at = at as usize;
            bytes[at..at + HEADER_LEN].copy_from_slice(&header.encode(5));
            bytes[at + HEADER_LEN..at + HEADER_LEN + 100].copy_from_slice(&payload);
            position = Position {
                seq: position.seq + 1,
                lsn: position.lsn + 1,
                chain: header.chain_after(),
            };
        }
        let file = Arc::new(Spotted {
            bytes,
            bad,
            reads: Mutex::default(),
        });
        let reader = BatchReader::new(
            Arc::clone(&file) as Arc<dyn VfsFile>,
            Path::new("seg"),
            &segment(),
            LIMIT,
            Arc::default(),
        );
        (file, reader)
    }

    #[test]
    fn a_segment_without_a_whole_batch_is_walked_in_large_pieces() {
        let (file, mut reader) = spotted(&[], u64::MAX);
        assert!(reader.find_whole(BLOCK as u64, 0, None).is_none());
        let reads = file.reads.lock().expect("one thread").len();
        assert_eq!(reads, 8, "a MiB each");
    }

    #[test]
    fn blocks_around_a_bad_one_are_read_singly_and_no_others() {
        let (bad, whole) = (2_500 << 10, (2_500 << 10) + 8 * BLOCK as u64);
        let (file, mut reader) = spotted(&[whole, 5 << 20], bad);
        let gap = reader.find_whole(BLOCK as u64, 0, None).expect("one");
        assert_eq!((gap.to, gap.after), (whole, Position::default()));
        let in_front = reader.find_whole(whole + BLOCK as u64, 1, None);
        assert_eq!(in_front.expect("another").to, 5 << 20);
        let reads = file.reads.lock().expect("one thread").len();
        assert!(reads < 256 + 16, "{reads} reads");
    }

    #[test]
    fn a_bad_block_behind_a_batch_does_not_touch_it() {
        let offsets: Vec<u64> = (1..100).map(|n| n * BLOCK as u64).collect();
        let (_, mut reader) = spotted(&offsets, 51 * BLOCK as u64);
        for seq in 1..=50 {
            let batch = reader
                .next_batch()
                .unwrap_or_else(|_| panic!("batch {seq}"));
            assert_eq!(batch.header.seq, seq);
        }
        assert!(matches!(reader.next_batch(), Err(Stop::Io(_))));
    }
}
