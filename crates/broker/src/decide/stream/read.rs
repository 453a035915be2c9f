//! Reads: what a shard has from somewhere on, at once or when there is something.
//!
//! A read that finds nothing may wait; it is served in the round of deliveries as soon as a record comes, or its shard is
//! closed, and answered with nothing when its time is over.

use std::sync::Arc;

use message::Timestamp;
use session::{
    Event, ReadStream, Refusal, RefusalKind, SessionId, ShardNo, StreamId, StreamStart, Token,
};

use super::{Draft, no_stream};
use crate::{
    Broker, Content, Effect, Loaded, OutLane, PendingRecord, PendingRecords, Wait,
    change::Kind,
    counters::Tally,
    decide::refusal,
    soft::Attached,
    stream::{Shard, Slot, Stream, WaitingRead},
};

/// How long a read waits for a stream file, in ms.
const LOAD_MS_MAX: u64 = 600_000;

/// What one read found.
struct Found {
    records: PendingRecords,
    wait: Wait,
    /// Bytes of bodies and keys.
    bytes: u64,
}

impl Broker {
    pub(in crate::decide) fn decide_read(
        &self,
        from: SessionId,
        read: &ReadStream,
        draft: &mut Draft<'_>,
    ) {
        if let Err(refusal) = self.read_stream(from, read, draft) {
            self.refuse(from, read.lane, read.token, refusal, draft);
        }
    }

    fn read_stream(
        &self,
        from: SessionId,
        read: &ReadStream,
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        let Some(attached) = self.attached(from) else {
            return Ok(());
        };
        let found = self.stream_named(attached.vhost, &read.stream);
        let (id, stream) = found
            .filter(|(id, _)| read.id.is_none_or(|wanted| wanted == *id))
            .ok_or_else(|| no_stream(&read.stream))?;
        let shard = stream.shards.get(&read.shard).ok_or_else(|| {
            refusal(
                RefusalKind::NotFound,
                format!("no shard {} in the stream", read.shard.0),
            )
        })?;
        let limits = stream.declared.attributes.limits.filter(|_| read.limited);
        if let Some(limits) = limits
            && !self.soft.streams[&id]
                .bucket(read.shard)
                .gives(&limits, draft.now)
        {
            return Err(refusal(
                RefusalKind::RateExceeded,
                format!("shard {} gives no more in this second", read.shard.0),
            ));
        }
        let waiting = WaitingRead {
            session: from,
            token: read.token,
            lane: read.lane,
            shard: read.shard,
            from: start_in(stream, shard, read.from, draft.now),
            since: since_of(stream, read.from),
            count: read.count.min(self.config.read_count_max),
            bytes_max: read.bytes_max.min(self.config.read_bytes_max),
            limited: limits.is_some(),
            loading: false,
        };
        let load = self.load_of(id, stream, &waiting, draft.now);
        if load.is_some() {
            self.check_read_waits(attached, read.token)?;
            if limits.is_some() {
                draft.change(Kind::ReadCounted {
                    stream: id,
                    shard: read.shard,
                    reads: 1,
                    bytes: 0,
                });
            }
            self.serve(id, stream, shard, &waiting, draft);
            return Ok(());
        }
        let found = self.find(id, stream, shard, &waiting, draft.now);
        if limits.is_some() {
            draft.change(Kind::ReadCounted {
                stream: id,
                shard: read.shard,
                reads: 1,
                bytes: found.bytes,
            });
        }
        let nothing = found.records.records.is_empty() && !found.records.ended;
        if !nothing || read.wait_ms == 0 || read.count == 0 {
            answer(&waiting, found, draft);
            return Ok(());
        }
        self.check_read_waits(attached, read.token)?;
        draft.change(Kind::ReadWaits {
            stream: id,
            until: draft.now.plus_ms(read.wait_ms),
            read: Box::new(waiting),
        });
        Ok(())
    }

    fn check_read_waits(&self, attached: &Attached, token: Token) -> Result<(), Refusal> {
        if attached.rare.reads.len() as u64 >= self.config.pulls_waiting_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many reads of one connection wait",
            ));
        }
        if attached.rare.reads.contains_key(&token) {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                "a read of that token waits already",
            ));
        }
        Ok(())
    }

    pub(in crate::decide) fn decide_cancel_read(
        &self,
        from: SessionId,
        token: Token,
        draft: &mut Draft<'_>,
    ) {
        if self
            .attached(from)
            .is_some_and(|attached| attached.rare.reads.contains_key(&token))
        {
            draft.change(Kind::ReadEnds {
                session: from,
                token,
            });
        }
    }

    /// The time of a read is over.
    pub(in crate::decide) fn end_read(
        &self,
        session: SessionId,
        token: Token,
        draft: &mut Draft<'_>,
    ) {
        let found = self.attached(session).and_then(|attached| {
            let at = attached.rare.reads.get(&token)?;
            let waiting = self.soft.streams[&at.stream]
                .reads
                .get(&(at.shard, at.place))?;
            let stream = self.durable.streams.get(&at.stream)?;
            Some((at.stream, stream, stream.shards.get(&at.shard)?, waiting))
        });
        draft.change(Kind::ReadEnds { session, token });
        let Some((id, stream, shard, waiting)) = found else {
            return;
        };
        if waiting.loading {
            return self.refuse_slow_read(waiting, draft);
        }
        // What came this very instant still serves it.
        self.serve(id, stream, shard, waiting, draft);
    }

    fn refuse_slow_read(&self, waiting: &WaitingRead, draft: &mut Draft<'_>) {
        draft.reply(
            waiting.session,
            waiting.lane,
            Wait::Durable,
            Event::Refused {
                token: waiting.token,
                refusal: refusal(RefusalKind::Internal, "the disk did not answer in time"),
            },
        );
    }

    /// A stream's turn: a group whose shards change hands, or the read that has waited longest in a shard in which something happened.
    pub(in crate::decide) fn serve_reads(&self, id: StreamId, draft: &mut Draft<'_>) {
        let soft = &self.soft.streams[&id];
        if let Some(group) = soft.regroup.first() {
            self.assign(id, group, draft);
            return draft.change(Kind::StreamTurn {
                stream: id,
                rests: None,
            });
        }
        let woken = soft.woken.first().copied();
        let served = woken.is_some_and(|number| self.serve_shard(id, number, draft));
        draft.change(Kind::StreamTurn {
            stream: id,
            rests: woken.filter(|_| !served),
        });
    }

    fn serve_shard(&self, id: StreamId, number: ShardNo, draft: &mut Draft<'_>) -> bool {
        let Some(stream) = self.durable.streams.get(&id) else {
            return false;
        };
        let Some(shard) = stream.shards.get(&number) else {
            return false;
        };
        let waiting = self.soft.streams[&id]
            .reads
            .range((number, 0)..=(number, u64::MAX))
            .map(|(_, waiting)| waiting)
            .filter(|waiting| !waiting.loading)
            .find(|waiting| {
                shard.closed.is_some() || shard.offsets.at_or_behind(waiting.from).is_some()
            });
        let Some(waiting) = waiting else { return false };
        draft.change(Kind::ReadEnds {
            session: waiting.session,
            token: waiting.token,
        });
        self.serve(id, stream, shard, waiting, draft);
        true
    }

    /// Answers a read that does not wait, or asks for what it has to have out of a stream file.
    pub(super) fn serve(
        &self,
        id: StreamId,
        stream: &Stream,
        shard: &Shard,
        waiting: &WaitingRead,
        draft: &mut Draft<'_>,
    ) {
        if let Some(load) = self.load_of(id, stream, waiting, draft.now) {
            draft.change(Kind::ReadWaits {
                stream: id,
                until: draft.now.plus_ms(LOAD_MS_MAX),
                read: Box::new(WaitingRead {
                    loading: true,
                    ..waiting.clone()
                }),
            });
            return draft.effect(Effect::Load(Box::new(load)));
        }
        let found = self.find(id, stream, shard, waiting, draft.now);
        self.answer_counted(id, waiting, found, draft);
    }

    fn answer_counted(
        &self,
        id: StreamId,
        waiting: &WaitingRead,
        found: Found,
        draft: &mut Draft<'_>,
    ) {
        if waiting.limited && found.bytes > 0 {
            draft.change(Kind::ReadCounted {
                stream: id,
                shard: waiting.shard,
                reads: 0,
                bytes: found.bytes,
            });
        }
        answer(waiting, found, draft);
    }

    /// The stream is about to go: the reads that wait in it are refused.
    pub(super) fn refuse_reads(&self, id: StreamId, draft: &mut Draft<'_>) {
        for waiting in self.soft.streams[&id].reads.values() {
            self.refuse_read(waiting, draft);
        }
    }

    pub(super) fn refuse_read(&self, waiting: &WaitingRead, draft: &mut Draft<'_>) {
        draft.reply(
            waiting.session,
            waiting.lane,
            Wait::Durable,
            Event::Refused {
                token: waiting.token,
                refusal: refusal(RefusalKind::NotFound, "the stream or the shard was deleted"),
            },
        );
    }

    /// Answers a read with what came out of a stream file.
    pub(super) fn answer_loaded(
        &self,
        id: StreamId,
        stream: &Stream,
        shard: &Shard,
        read: &WaitingRead,
        loaded: &Loaded,
        draft: &mut Draft<'_>,
    ) {
        let count = read.count as usize;
        let records: Vec<_> = loaded
            .records
            .iter()
            .take(count)
            .map(|record| PendingRecord {
                offset: record.offset,
                time: record.time,
                key: record.key.clone(),
                content: Content::Resident(Arc::clone(&record.message)),
            })
            .collect();
        let bytes = loaded.records.iter().take(count);
        let bytes = bytes.map(|record| u64::from(record.len)).sum();
        // Without a count it is only asked where the first record is.
        let next = match (loaded.records.get(count), loaded.records.last()) {
            (Some(behind), _) => behind.offset,
            (None, Some(last)) => last.offset + 1,
            (None, None) => loaded.upto,
        };
        let rests = shard.last().is_some_and(|last| last >= next);
        let ended = shard.closed.is_some() && !rests;
        let next = match shard.closed {
            Some((_, end)) if ended => end,
            _ => next,
        };
        // What the next record in a file is only that knows: it came no earlier than the last one here.
        let behind = match loaded.records.get(count) {
            Some(behind) => Some(behind.time),
            None if stream.run_of(&[(read.shard, next)], Timestamp(0)).is_some() => {
                loaded.records.last().map(|record| record.time)
            }
            None => shard
                .offsets
                .at_or_behind(next)
                .and_then(|offset| Some(stream.records.get(offset)?.time())),
        };
        let found = Found {
            records: PendingRecords {
                stream: id,
                shard: shard.info(read.shard),
                records,
                next,
                ended,
                children: if ended {
                    stream.children(read.shard)
                } else {
                    Vec::new()
                },
                behind_ms: behind
                    .filter(|_| rests)
                    .map_or(0, |time| draft.now.since(time)),
            },
            // What lies in a file has been durable for long; that a shard is closed may not be.
            wait: if shard.closed.is_some() {
                Wait::Durable
            } else {
                Wait::Nothing
            },
            bytes,
        };
        self.answer_counted(id, read, found, draft);
    }

    fn find(
        &self,
        id: StreamId,
        stream: &Stream,
        shard: &Shard,
        read: &WaitingRead,
        now: Timestamp,
    ) -> Found {
        let from = read.from.max(stream.kept_from(now));
        let mut at = shard.offsets.seek(from);
        let count = shard.offsets.count_from(at, read.count as usize);
        let mut records = Vec::with_capacity(count);
        let mut bytes = 0;
        let mut last = None;
        while (records.len() as u32) < read.count
            && let Some(offset) = shard.offsets.get(at)
        {
            let slot = stream
                .records
                .get(offset)
                .expect("a shard names records that are there");
            let len = u64::from(slot.len());
            if !records.is_empty() && bytes + len > read.bytes_max {
                break;
            }
            bytes += len;
            records.push(self.pending_record(stream, offset, slot));
            last = Some((offset, slot.stored()));
            at = shard.offsets.behind(at);
        }
        let behind = shard
            .offsets
            .get(at)
            .and_then(|offset| stream.records.get(offset));
        let ended = shard.closed.is_some() && behind.is_none();
        let next = match (last, shard.closed) {
            (_, Some((_, end))) if ended => end.max(read.from),
            (Some((offset, _)), _) => offset + 1,
            (None, _) => read.from,
        };
        // RULES 3: that there is nothing, and that a shard is closed, rests on everything so far.
        let wait = match last {
            Some((_, stored)) if shard.closed.is_none() => Wait::Stored(stored),
            _ => Wait::Durable,
        };
        Found {
            records: PendingRecords {
                stream: id,
                shard: shard.info(read.shard),
                records,
                next,
                ended,
                children: if ended {
                    stream.children(read.shard)
                } else {
                    Vec::new()
                },
                behind_ms: behind.map_or(0, |slot| now.since(slot.time())),
            },
            wait,
            bytes,
        }
    }

    fn pending_record(&self, stream: &Stream, offset: u64, slot: &Slot) -> PendingRecord {
        PendingRecord {
            offset,
            time: slot.time(),
            key: stream.key_of(offset, slot),
            content: self.record_content(slot),
        }
    }

    /// The message of a record where it is: in memory if it still is.
    pub(super) fn record_content(&self, slot: &Slot) -> Content {
        self.content(crate::view::PlaceRef::Stored(slot.stored(), slot.len()))
    }
}

/// Where a read of a shard begins.
fn start_in(stream: &Stream, shard: &Shard, from: StreamStart, now: Timestamp) -> u64 {
    let kept = stream.kept_from(now);
    let end = stream.records.next();
    match from {
        // In a stream file only that knows where the first one is.
        StreamStart::First if kept < stream.records.first() => kept,
        StreamStart::First => shard.offsets.at_or_behind(kept).unwrap_or(end),
        StreamStart::Last => shard.last().filter(|last| *last >= kept).unwrap_or(end),
        StreamStart::Next => end,
        StreamStart::Offset(offset) => offset,
        StreamStart::Time(time) => {
            let since = since(stream, time).max(kept);
            if since < stream.records.first() {
                return since;
            }
            shard.offsets.at_or_behind(since).unwrap_or(end)
        }
    }
}

/// No record before this offset came at that time or later; within a run in a stream file only that knows better.
pub(super) fn since(stream: &Stream, time: Timestamp) -> u64 {
    let run = stream.files.iter().find(|run| run.last_time >= time);
    run.map_or_else(|| stream.records.since(time), |run| run.first)
}

/// What came before is to be passed over, where the offset could not say it.
pub(super) fn since_of(stream: &Stream, from: StreamStart) -> Timestamp {
    match (from, stream.files.back()) {
        (StreamStart::Time(time), Some(last)) if last.last_time >= time => time,
        _ => Timestamp(0),
    }
}

fn answer(read: &WaitingRead, found: Found, draft: &mut Draft<'_>) {
    draft.count(Tally::RecordsRead, found.records.records.len() as u64);
    draft.effect(Effect::Records {
        to: read.session,
        lane: OutLane::Reply(read.lane),
        wait: found.wait,
        token: read.token,
        records: Box::new(found.records),
    });
}
