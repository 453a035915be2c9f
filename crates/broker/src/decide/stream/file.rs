//! Records that go into stream files, and come out of them (RULES 14, 25).
//!
//! What is to go is said by the node, which writes the file first; that it went is a record. What lies in a file is read by
//! the node too: a read or a consumer that gets there asks for it, waits, and goes on when it has come.

use std::collections::{BTreeMap, BTreeSet};

use message::{StoredId, Timestamp};
use session::{CloseReason, QueueId, SessionId, ShardNo, StreamId, Token};
use smallvec::smallvec;

use super::Draft;
use crate::{
    Broker, Context, Decision, Effect, FileId, Fileable, FileableStream, Load, LoadFor, Loaded,
    change::Kind,
    stream::{Run, RunShard, Stream, StreamFiled, WaitingRead, Window},
};

impl Broker {
    /// How much of each stream could go into a file: its oldest records, as far as `old` says yes to where they are stored.
    pub fn fileable(&self, old: impl Fn(StoredId) -> bool) -> Vec<FileableStream> {
        let streams = self.durable.streams.iter();
        streams
            .filter(|(_, stream)| !stream.declared.doomed)
            .filter_map(|(id, stream)| {
                let first = stream.records.first();
                let below = stream.records.partition(|slot| old(slot.stored()));
                let filed: u64 = stream.files.iter().map(|run| run.bytes).sum();
                let part = u128::from(stream.bytes - filed) * u128::from(below - first);
                (below > first).then(|| FileableStream {
                    stream: *id,
                    retention_ms: stream.declared.attributes.retention_ms,
                    first,
                    below,
                    bytes: (part / u128::from(stream.records.len())) as u64,
                })
            })
            .collect()
    }

    /// Records of a stream that are not in a file, in the order of their offsets, at most `limit`. Those that have gone since
    /// are left out.
    #[must_use]
    pub fn fileable_records(
        &self,
        id: StreamId,
        from: u64,
        below: u64,
        limit: usize,
    ) -> Vec<Fileable> {
        let Some(stream) = self.durable.streams.get(&id) else {
            return Vec::new();
        };
        let offsets = from.max(stream.records.first())..below;
        let lowest = stream.lowest_shard();
        let found = offsets.filter_map(|offset| {
            let slot = stream.records.get(offset).filter(|slot| !slot.is_lost())?;
            Some(Fileable {
                shard: slot.shard(lowest),
                offset,
                time: slot.time(),
                len: slot.len(),
                key: stream.key_of(offset, slot),
                stored: slot.stored(),
            })
        });
        let most = below.saturating_sub(from).min(limit as u64);
        let mut records = Vec::with_capacity(most as usize);
        records.extend(found.take(limit));
        records
    }

    /// The stream files that are named.
    #[must_use]
    pub fn stream_files(&self) -> BTreeSet<FileId> {
        let streams = self.durable.streams.values();
        streams
            .flat_map(|stream| stream.files.iter().map(|run| run.file))
            .collect()
    }

    /// How many runs in stream files have gone: when that has changed, fewer files may be named.
    #[must_use]
    pub const fn stream_runs_gone(&self) -> u64 {
        self.soft.runs_gone
    }

    /// A file holds the records of a stream from one offset on to another, whole and durable: they are taken out of the
    /// journal, a slice at a time. `true`: there are more.
    pub fn decide_filed(
        &self,
        id: StreamId,
        file: FileId,
        (from, below): (u64, u64),
        cx: &Context,
        out: &mut Decision,
    ) -> bool {
        let Some(stream) = self.durable.streams.get(&id) else {
            return false;
        };
        let first = stream.records.first();
        if stream.declared.doomed || first < from || first >= below {
            return false;
        }
        let below = below.min(stream.records.next());
        let upto = below.min(first + u64::from(self.config.empty_slice.max(1)));
        let mut run = Run {
            file,
            first,
            below: upto,
            ..Run::default()
        };
        let mut shards: BTreeMap<ShardNo, RunShard> = BTreeMap::new();
        let lowest = stream.lowest_shard();
        for offset in first..upto {
            let Some(slot) = stream.records.get(offset) else {
                return false;
            };
            if offset == first {
                run.first_time = slot.time();
            }
            run.last_time = slot.time();
            if slot.is_lost() {
                continue;
            }
            run.bytes += u64::from(slot.len());
            let shard = slot.shard(lowest);
            let it = shards.entry(shard).or_insert_with(|| RunShard {
                shard,
                ..RunShard::default()
            });
            it.count += 1;
            it.last = offset;
        }
        run.shards = shards.into_values().collect();
        let mut draft = Draft::new(cx, out);
        draft.change(Kind::StreamFiled(Box::new(StreamFiled { stream: id, run })));
        upto < below
    }

    /// What a read has to have out of a stream file before anything else, if so.
    pub(super) fn load_of(
        &self,
        id: StreamId,
        stream: &Stream,
        read: &WaitingRead,
        now: Timestamp,
    ) -> Option<Load> {
        let since = read.since.max(stream.kept_time(now));
        let run = stream.run_of(&[(read.shard, read.from)], since)?;
        Some(Load {
            what: LoadFor::Read(read.session, read.token),
            stream: id,
            file: run.file,
            shards: smallvec![(read.shard, read.from.max(run.first))],
            upto: run.below,
            since,
            count: read.count.max(1),
            bytes_max: read.bytes_max,
        })
    }

    /// Records came out of a stream file.
    pub fn decide_loaded(&self, loaded: &Loaded, cx: &Context, out: &mut Decision) {
        let mut draft = Draft::new(cx, out);
        match loaded.load.what {
            LoadFor::Read(session, token) => {
                self.loaded_for_read((session, token), Some(loaded), &mut draft);
            }
            LoadFor::Reader(queue) => {
                let window = Window {
                    records: loaded
                        .records
                        .iter()
                        .map(|record| (record.offset, record.clone()))
                        .collect(),
                    shards: loaded.load.shards.clone(),
                    upto: loaded.upto,
                };
                self.loaded_for_reader(queue, Some(window), &mut draft);
            }
        }
    }

    /// A stream file could not be read. If it is not needed any more, whoever waits for it looks again; else its connection
    /// ends, as with any stored message that cannot be read.
    pub fn decide_not_loaded(&self, load: &Load, cx: &Context, out: &mut Decision) {
        let mut draft = Draft::new(cx, out);
        let named = self
            .durable
            .streams
            .get(&load.stream)
            .is_some_and(|stream| stream.files.iter().any(|run| run.file == load.file));
        match load.what {
            LoadFor::Read(session, _) if named => draft.effect(Effect::Close {
                session,
                reason: CloseReason::Internal,
            }),
            LoadFor::Reader(queue) if named => {
                let consumers = self
                    .soft
                    .queues
                    .get(&queue)
                    .map(|queue| queue.consumers.values());
                for (session, _) in consumers.into_iter().flatten() {
                    draft.effect(Effect::Close {
                        session: *session,
                        reason: CloseReason::Internal,
                    });
                }
            }
            LoadFor::Read(session, token) => {
                self.loaded_for_read((session, token), None, &mut draft);
            }
            LoadFor::Reader(queue) => self.loaded_for_reader(queue, None, &mut draft),
        }
    }

    fn loaded_for_reader(&self, queue: QueueId, window: Option<Window>, draft: &mut Draft<'_>) {
        if self.reader(queue).is_some_and(|reader| reader.loading) {
            draft.change(Kind::ReaderLoaded {
                queue,
                window: window.map(Box::new),
            });
        }
    }

    fn loaded_for_read(
        &self,
        (session, token): (SessionId, Token),
        loaded: Option<&Loaded>,
        draft: &mut Draft<'_>,
    ) {
        let found = self.attached(session).and_then(|attached| {
            let at = attached.rare.reads.get(&token)?;
            let waiting = self.soft.streams[&at.stream]
                .reads
                .get(&(at.shard, at.place))
                .filter(|waiting| waiting.loading)?;
            let stream = self.durable.streams.get(&at.stream)?;
            Some((at.stream, stream, stream.shards.get(&at.shard), waiting))
        });
        let Some((id, stream, shard, waiting)) = found else {
            return;
        };
        draft.change(Kind::ReadEnds { session, token });
        let Some(shard) = shard else {
            return self.refuse_read(waiting, draft);
        };
        let mut read = WaitingRead {
            loading: false,
            ..waiting.clone()
        };
        match loaded {
            Some(loaded) if !loaded.records.is_empty() => {
                self.answer_loaded(id, stream, shard, &read, loaded, draft);
            }
            Some(loaded) => {
                // All of it has become too old.
                read.from = read.from.max(loaded.upto);
                self.serve(id, stream, shard, &read, draft);
            }
            None => self.serve(id, stream, shard, &read, draft),
        }
    }
}
