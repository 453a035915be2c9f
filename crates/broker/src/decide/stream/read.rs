//! Reads: what a shard has from somewhere on, at once or when there is something.
//!
//! A read that finds nothing may wait; it is served in the round of deliveries as soon as a record comes, or its shard is
//! closed, and answered with nothing when its time is over.

use message::Timestamp;
use session::{
    Event, ReadStream, Refusal, RefusalKind, SessionId, ShardNo, StreamId, StreamStart, Token,
};

use super::{Draft, no_stream};
use crate::{
    Broker, Content, Effect, OutLane, PendingRecord, PendingRecords, Wait,
    change::Kind,
    counters::Tally,
    decide::refusal,
    stream::{Shard, Slot, Stream, WaitingRead},
};

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
            count: read.count.min(self.config.read_count_max),
            bytes_max: read.bytes_max.min(self.config.read_bytes_max),
            limited: limits.is_some(),
        };
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
        if attached.reads.len() as u64 >= self.config.pulls_waiting_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many reads of one connection wait",
            ));
        }
        if attached.reads.contains_key(&read.token) {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                "a read of that token waits already",
            ));
        }
        draft.change(Kind::ReadWaits {
            stream: id,
            until: draft.now.plus_ms(read.wait_ms),
            read: Box::new(waiting),
        });
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
            .is_some_and(|attached| attached.reads.contains_key(&token))
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
            let at = attached.reads.get(&token)?;
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
        // What came this very instant still serves it.
        self.serve(id, stream, shard, waiting, draft);
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

    fn serve(
        &self,
        id: StreamId,
        stream: &Stream,
        shard: &Shard,
        waiting: &WaitingRead,
        draft: &mut Draft<'_>,
    ) {
        let found = self.find(id, stream, shard, waiting, draft.now);
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
            draft.reply(
                waiting.session,
                waiting.lane,
                Wait::Durable,
                Event::Refused {
                    token: waiting.token,
                    refusal: refusal(RefusalKind::NotFound, "the stream was deleted"),
                },
            );
        }
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
        let mut records = Vec::new();
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
        StreamStart::First => shard.offsets.at_or_behind(kept).unwrap_or(end),
        StreamStart::Last => shard
            .offsets
            .last()
            .filter(|last| *last >= kept)
            .unwrap_or(end),
        StreamStart::Next => end,
        StreamStart::Offset(offset) => offset,
        StreamStart::Time(time) => {
            let since = stream.records.since(time).max(kept);
            shard.offsets.at_or_behind(since).unwrap_or(end)
        }
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
