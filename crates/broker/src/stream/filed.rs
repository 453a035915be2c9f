//! What lies in stream files: the oldest records of a stream, in runs without gaps (RULES 25).
//!
//! ```text
//! offsets   first ──── run ────┬──── run ────┬── records in the journal, a slot each ──► next
//!           one file each, all shards         Records::first()
//! ```
//! A run takes the same memory whether it is of ten records or of a million: where records lie within it only the file
//! knows, so `decide` asks the node for them ([`crate::Load`]). What is too old in a run is not shown; the run goes as a whole
//! when all of it is.

use message::{StoredId, Timestamp};
use session::{ShardNo, StreamId};

use super::Stream;
use crate::record::wire::wire_fields;

/// Which stream file, by what the node calls it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The epoch in which it was written.
    pub epoch: u64,
    /// Its number in that epoch.
    pub number: u64,
    /// Who wrote it.
    pub writer: [u8; 16],
}
wire_fields!(FileId { 1 => epoch, 2 => number, 3 => writer });

/// What a run has of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RunShard {
    pub(crate) shard: ShardNo,
    pub(crate) count: u64,
    pub(crate) last: u64,
}
wire_fields!(RunShard { 1 => shard, 2 => count, 3 => last });

/// Records of a stream, of all its shards, from one offset on to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) file: FileId,
    /// The first that is there.
    pub(crate) first: u64,
    pub(crate) below: u64,
    /// Bytes of body and key. Of a run that has lost its beginning: its share of what they were.
    pub(crate) bytes: u64,
    pub(crate) first_time: Timestamp,
    pub(crate) last_time: Timestamp,
    /// In the order of their numbers. A shard's count is with what the run has lost of it.
    pub(crate) shards: Vec<RunShard>,
}
wire_fields!(Run {
    1 => file, 2 => first, 3 => below, 4 => bytes, 5 => first_time, 6 => last_time, 7 => shards,
});

impl Run {
    pub(crate) const fn len(&self) -> u64 {
        self.below - self.first
    }

    /// Bytes of its oldest records, on the average.
    pub(crate) fn bytes_below(&self, offset: u64) -> u64 {
        let part = u128::from(self.bytes) * u128::from(offset - self.first);
        (part / u128::from(self.len().max(1))) as u64
    }

    /// Whether it has something of a shard from an offset on.
    pub(crate) fn has(&self, shard: ShardNo, from: u64) -> bool {
        let found = self.shards.binary_search_by_key(&shard, |it| it.shard);
        found.is_ok_and(|at| self.shards[at].last >= from.max(self.first))
    }

    fn take_in(&mut self, more: &Self) {
        self.below = more.below;
        self.bytes += more.bytes;
        self.last_time = more.last_time;
        for new in &more.shards {
            match self.shards.binary_search_by_key(&new.shard, |it| it.shard) {
                Ok(at) => {
                    self.shards[at].count += new.count;
                    self.shards[at].last = new.last;
                }
                Err(at) => self.shards.insert(at, *new),
            }
        }
    }
}

/// The oldest records that a stream has in the journal lie in a stream file, and are let go here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StreamFiled {
    pub(crate) stream: StreamId,
    pub(crate) run: Run,
}
wire_fields!(StreamFiled { 1 => stream, 2 => run });

/// A record that is to be copied into a stream file.
#[derive(Clone, Debug, PartialEq)]
pub struct Fileable {
    /// Its shard.
    pub shard: ShardNo,
    /// Its offset in the stream.
    pub offset: u64,
    /// When it came.
    pub time: Timestamp,
    /// Bytes of body and key.
    pub len: u32,
    /// Its partition key, if it is not the message's own.
    pub key: Option<bytes::Bytes>,
    /// Its message.
    pub stored: StoredId,
}

/// How much of a stream could be copied into a stream file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileableStream {
    /// The stream.
    pub stream: StreamId,
    /// How long it keeps records: those of streams that keep them alike go into one file.
    pub retention_ms: u64,
    /// The first offset that is not in a file.
    pub first: u64,
    /// Offsets below lie in the segments that were asked about.
    pub below: u64,
    /// Bytes of bodies and keys, about.
    pub bytes: u64,
}

impl Stream {
    /// The oldest record that is there; [`super::Records::next`] when there is none.
    pub(crate) fn first(&self) -> u64 {
        self.files
            .front()
            .map_or_else(|| self.records.first(), |run| run.first)
    }

    pub(crate) fn len(&self) -> u64 {
        self.records.next() - self.first()
    }

    /// What came earlier is too old at that time.
    pub(crate) fn kept_time(&self, now: Timestamp) -> Timestamp {
        let retention = self.declared.attributes.retention_ms;
        let kept = now.0.checked_sub(retention).map_or(0, |at| at + 1);
        Timestamp(kept).max(self.hidden)
    }

    /// The first run in which there may be something of these shards, each from its offset on, that did not come before that
    /// time.
    pub(crate) fn run_of(&self, shards: &[(ShardNo, u64)], since: Timestamp) -> Option<&Run> {
        self.files.iter().find(|run| {
            run.last_time >= since && shards.iter().any(|(shard, from)| run.has(*shard, *from))
        })
    }

    /// Puts a run behind those that are there. Records of it are not in the journal any more.
    pub(crate) fn push_run(&mut self, run: &Run) {
        for it in &run.shards {
            if let Some(shard) = self.shards.get_mut(&it.shard) {
                shard.filed += it.count;
                shard.filed_last = Some(it.last);
            }
        }
        match self.files.back_mut() {
            Some(last) if last.file == run.file && last.below == run.first => last.take_in(run),
            _ => self.files.push_back(run.clone()),
        }
    }

    /// Takes the oldest run, or the records of it below an offset. Gives how many went, their bytes, and
    /// whether that was all of the run.
    pub(crate) fn trim_run(&mut self, below: u64) -> Option<(u64, u64, bool)> {
        let run = self.files.front_mut().filter(|run| run.first < below)?;
        let upto = below.min(run.below);
        let (count, bytes) = (upto - run.first, run.bytes_below(upto));
        run.first = upto;
        run.bytes -= bytes;
        self.bytes -= bytes;
        run.shards.retain(|it| {
            if it.last >= upto {
                return true;
            }
            if let Some(shard) = self.shards.get_mut(&it.shard) {
                shard.filed -= it.count;
                if shard.filed == 0 {
                    shard.filed_last = None;
                }
            }
            false
        });
        let whole = run.len() == 0;
        if whole {
            self.files.pop_front();
        }
        Some((count, bytes, whole))
    }
}
