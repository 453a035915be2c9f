//! Streams: made, resharded, trimmed, deleted; records that come; reads that wait, and whose turn that is.

use message::{StoredId, Timestamp};
use session::{SessionId, ShardNo, StreamId, Token};

use super::Applying;
use crate::{
    Broker,
    soft::Timer,
    stream::{
        Measured, ReadAt, RecordEntrant, Resharded, Shard, Slot, SoftStream, Stream,
        StreamDeclared, StreamDeleted, StreamFiled, Trimmed, WaitingRead,
    },
};

impl Broker {
    pub(super) fn apply_stream_declared(&mut self, it: &StreamDeclared, now: Timestamp) {
        let id = it.stream;
        if let Some(stream) = self.durable.streams.get_mut(&id) {
            let limits = stream.declared.attributes.limits;
            if !stream.files.is_empty() {
                // What is too old by now does not come back when more is kept.
                stream.hidden = stream.kept_time(now);
            }
            stream.declared.attributes.clone_from(&it.attributes);
            stream.declared.notes.clone_from(&it.notes);
            stream.declared.changed = now;
            stream.declared.version += 1;
            if limits != it.attributes.limits
                && let Some(soft) = self.soft.streams.get_mut(&id)
            {
                soft.buckets.clear();
            }
            self.measure_anew(id, None);
            return self.trim_anew(id, Some(now));
        }
        self.durable.next_stream = self.durable.next_stream.max(id.0 + 1);
        let declared = StreamDeclared {
            created: now,
            changed: now,
            version: 1,
            ..it.clone()
        };
        self.durable.streams.insert(id, Stream::new(declared));
        self.index_stream(id, now);
    }

    /// The soft side of a stream, from its durable side.
    pub(crate) fn index_stream(&mut self, id: StreamId, now: Timestamp) {
        let Some(stream) = self.durable.streams.get(&id) else {
            return;
        };
        self.counters.stream_records += stream.len();
        self.counters.stream_records_filed += stream.records.first() - stream.first();
        self.counters.stream_bytes += stream.bytes;
        let declared = &stream.declared;
        if !declared.doomed {
            self.counters.streams += 1;
            let key = (declared.vhost, declared.name.clone());
            self.soft.stream_names.insert(key, id);
        }
        self.soft.streams.insert(id, SoftStream::default());
        self.trim_anew(id, Some(now));
    }

    pub(super) fn apply_stream_deleted(&mut self, it: &StreamDeleted, at: &mut Applying<'_>) {
        let id = it.stream;
        let Some(stream) = self.durable.streams.get_mut(&id) else {
            return;
        };
        if !stream.declared.doomed {
            let key = (stream.declared.vhost, stream.declared.name.clone());
            stream.declared.doomed = true;
            stream.groups.clear();
            self.counters.streams -= 1;
            self.soft.stream_names.remove(&key);
            for binding in self.soft.stream_bound.remove(&id).unwrap_or_default() {
                self.drop_binding(key.0, &binding);
            }
            self.end_reads(id);
        }
        if it.doomed {
            return self.trim_anew(id, Some(at.now));
        }
        self.trim_anew(id, None);
        if let Some(soft) = self.soft.streams.get_mut(&id)
            && let Some(known) = soft.regroup_at.take()
        {
            self.soft.timers.remove(&(known, Timer::Regroup(id)));
        }
        self.measure_anew(id, None);
        self.leave_stream_round(id);
        self.trim(id, u64::MAX, at);
        self.durable.streams.remove(&id);
        self.soft.streams.remove(&id);
    }

    pub(super) fn apply_resharded(&mut self, it: &Resharded, now: Timestamp) {
        let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
            return;
        };
        let offset = stream.records.next();
        for number in &it.closes {
            if let Some(shard) = stream.shards.get_mut(number) {
                shard.closed = Some((now, offset));
            }
        }
        for new in &it.opens {
            stream.next_shard = stream.next_shard.max(new.shard.0 + 1);
            stream.shards.insert(
                new.shard,
                Shard {
                    parents: new.parents.clone(),
                    first_hash: new.first_hash,
                    last_hash: new.last_hash,
                    opened: now,
                    first_offset: offset,
                    ..Shard::default()
                },
            );
        }
        if !it.closes.is_empty() {
            stream.declared.changed = now;
            stream.declared.version += 1;
        }
        stream.index_open();
        let retention = stream.declared.attributes.retention_ms;
        let due = now.plus_ms(retention);
        if self.soft.streams[&it.stream].trim_at.is_none() && due < Timestamp::MAX {
            self.trim_anew(it.stream, Some(due));
        }
        for shard in &it.closes {
            self.wake_reads(it.stream, *shard);
        }
        self.regroup_all(it.stream);
    }

    /// A message gets its place in a stream.
    pub(super) fn insert_record(
        &mut self,
        it: &RecordEntrant,
        id: StoredId,
        extra: bool,
        at: &mut Applying<'_>,
    ) {
        let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
            return;
        };
        if self.soft.lossy {
            let before = stream.records.len();
            let has_place = stream.bridge_loss(it, at.now);
            self.counters.stream_records += stream.records.len() - before;
            if !has_place {
                return self.pass_over();
            }
        }
        assert_eq!(
            it.offset,
            stream.records.next(),
            "the offsets of a stream have no gaps"
        );
        let slot = Slot::new(id, it.len, at.now, it.shard, extra, it.key.is_some());
        let shard = stream
            .shards
            .get_mut(&it.shard)
            .expect("a record's shard is there");
        shard.offsets.push(it.offset);
        stream.records.push(slot);
        stream.bytes += u64::from(slot.len());
        if let Some(key) = &it.key {
            stream.keys.push_back((it.offset, key.clone()));
        }
        let declared = &stream.declared;
        let (limits, doomed) = (declared.attributes.limits, declared.doomed);
        let grows = declared.attributes.growth.is_some() && !doomed;
        let due = at.now.plus_ms(declared.attributes.retention_ms);
        self.counters.records_written += 1;
        self.counters.stream_records += 1;
        self.counters.stream_bytes += u64::from(slot.len());
        if extra {
            *self.durable.extra.entry(id).or_default() += 1;
            self.soft.recent.refer(id);
        }
        self.make_ref(id, at);
        let soft = self
            .soft
            .streams
            .get_mut(&it.stream)
            .expect("every stream has a soft side");
        if let Some(limits) = limits {
            soft.buckets.entry(it.shard).or_default().wrote(
                &limits,
                at.now,
                1,
                u64::from(slot.len()),
            );
        }
        if grows && let Some(due) = soft.measured.wrote(it.shard, at.now, u64::from(slot.len())) {
            soft.grow_at = Some(due);
            self.soft.timers.insert((due, Timer::Grow(it.stream)));
        }
        if soft.trim_at.is_none() && !doomed && due < Timestamp::MAX {
            self.trim_anew(it.stream, Some(due));
        }
        self.wake_reads(it.stream, it.shard);
        self.wake_readers(it.stream);
    }

    pub(super) fn apply_trimmed(&mut self, it: &Trimmed, at: &mut Applying<'_>) {
        self.trim(it.stream, it.below, at);
        let more = self.durable.streams.get(&it.stream).is_some_and(|stream| {
            let max = stream.declared.attributes.bytes_max;
            stream.len() > 1 && max.is_some_and(|max| stream.bytes > max)
        });
        if more {
            // A slice was not enough.
            self.trim_anew(it.stream, Some(at.now));
        }
        if let Some(stream) = self.durable.streams.get_mut(&it.stream) {
            for shard in &it.forgets {
                stream.shards.remove(shard);
                for group in stream.groups.values_mut() {
                    group.places.remove(shard);
                }
            }
            // What nobody can read any more has been worked on.
            if stream.shards.len() > stream.open_len() as usize || !it.forgets.is_empty() {
                self.regroup_all(it.stream);
            }
        }
        if let Some(soft) = self.soft.streams.get_mut(&it.stream) {
            for shard in &it.forgets {
                soft.buckets.remove(shard);
            }
        }
    }

    /// Takes out the records below an offset.
    fn trim(&mut self, id: StreamId, below: u64, at: &mut Applying<'_>) {
        while let Some(stream) = self.durable.streams.get_mut(&id)
            && let Some((count, bytes, whole)) = stream.trim_run(below)
        {
            self.counters.stream_records -= count;
            self.counters.stream_records_filed -= count;
            self.counters.stream_bytes -= bytes;
            self.soft.runs_gone += u64::from(whole);
        }
        let (count, bytes) = self.let_records_go(id, below, at);
        self.counters.stream_records -= count;
        self.counters.stream_bytes -= bytes;
    }

    /// The oldest records in the journal have been copied into a stream file.
    pub(super) fn apply_stream_filed(&mut self, it: &StreamFiled, at: &mut Applying<'_>) {
        if self.soft.lossy && !self.bridge_filed(it, at) {
            return self.pass_over();
        }
        let Some(stream) = self.durable.streams.get(&it.stream) else {
            return;
        };
        assert_eq!(
            it.run.first,
            stream.records.first(),
            "a run begins where the one before it ends"
        );
        let (count, bytes) = self.let_records_go(it.stream, it.run.below, at);
        let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
            return;
        };
        // The file has what was lost here, too.
        let filed = if self.soft.lossy {
            it.run.bytes.max(bytes)
        } else {
            bytes
        };
        stream.bytes += filed;
        self.counters.stream_bytes += filed - bytes;
        stream.push_run(&it.run);
        self.counters.stream_records_filed += count;
    }

    /// Takes records out of the journal's index below an offset: how many, and their bytes.
    pub(super) fn let_records_go(
        &mut self,
        id: StreamId,
        below: u64,
        at: &mut Applying<'_>,
    ) -> (u64, u64) {
        let (mut count, mut bytes) = (0, 0);
        while let Some(stream) = self.durable.streams.get_mut(&id)
            && stream.records.first() < below
            && let Some((offset, slot)) = stream.records.pop()
        {
            count += 1;
            if slot.is_lost() {
                continue;
            }
            let shard = stream.shard_at(&slot);
            let first = stream
                .shards
                .get_mut(&shard)
                .and_then(|shard| shard.offsets.pop());
            assert_eq!(
                first,
                Some(offset),
                "the oldest record of a stream is the oldest of its shard"
            );
            stream.bytes -= u64::from(slot.len());
            if slot.keyed() {
                stream.keys.pop_front();
            }
            bytes += u64::from(slot.len());
            self.drop_slot(&slot, at);
        }
        (count, bytes)
    }

    /// A record of a stream refers to what is stored no more.
    pub(super) fn drop_slot(&mut self, slot: &Slot, at: &mut Applying<'_>) {
        let stored = slot.stored();
        if slot.extra()
            && let Some(extra) = self.durable.extra.get_mut(&stored)
        {
            *extra -= 1;
            if *extra == 0 {
                self.durable.extra.remove(&stored);
            }
        }
        self.drop_ref(stored, at);
    }

    /// Sets when the oldest records of a stream are looked at.
    pub(super) fn trim_anew(&mut self, id: StreamId, due: Option<Timestamp>) {
        let Some(soft) = self.soft.streams.get_mut(&id) else {
            return;
        };
        if let Some(known) = soft.trim_at.take() {
            self.soft.timers.remove(&(known, Timer::Trim(id)));
        }
        soft.trim_at = due;
        if let Some(due) = due {
            self.soft.timers.insert((due, Timer::Trim(id)));
        }
    }

    /// Forgets what was written to a growing stream, or says when it is looked at.
    pub(super) fn measure_anew(&mut self, id: StreamId, due: Option<Timestamp>) {
        let Some(soft) = self.soft.streams.get_mut(&id) else {
            return;
        };
        if let Some(known) = soft.grow_at.take() {
            self.soft.timers.remove(&(known, Timer::Grow(id)));
        }
        soft.grow_at = due;
        match due {
            Some(due) => self.soft.timers.insert((due, Timer::Grow(id))),
            None => soft.measured = Measured::default(),
        }
    }

    pub(super) fn apply_read_waits(&mut self, id: StreamId, until: Timestamp, read: &WaitingRead) {
        let place = self.soft.next_place;
        let (Some(attached), Some(soft)) = (
            self.soft.sessions.get_mut(&read.session),
            self.soft.streams.get_mut(&id),
        ) else {
            return;
        };
        self.soft.next_place += 1;
        let at = ReadAt {
            stream: id,
            shard: read.shard,
            place,
            until,
        };
        attached
            .rare
            .change(|rare| rare.reads.insert(read.token, at));
        soft.reads.insert((read.shard, place), read.clone());
        let timer = Timer::Read(read.session, read.token);
        self.soft.timers.insert((until, timer));
    }

    pub(super) fn apply_read_ends(&mut self, session: SessionId, token: Token) {
        let Some(at) = self
            .soft
            .sessions
            .get_mut(&session)
            .and_then(|attached| attached.rare.change(|rare| rare.reads.remove(&token)))
        else {
            return;
        };
        let timer = Timer::Read(session, token);
        self.soft.timers.remove(&(at.until, timer));
        if let Some(soft) = self.soft.streams.get_mut(&at.stream) {
            soft.reads.remove(&(at.shard, at.place));
        }
    }

    /// All reads that wait in a stream end.
    fn end_reads(&mut self, id: StreamId) {
        let reads: Vec<_> = self.soft.streams[&id]
            .reads
            .values()
            .map(|read| (read.session, read.token))
            .collect();
        for (session, token) in reads {
            self.apply_read_ends(session, token);
        }
    }

    pub(super) fn apply_read_counted(
        &mut self,
        id: StreamId,
        shard: ShardNo,
        (reads, bytes): (u64, u64),
        now: Timestamp,
    ) {
        let limits = self
            .durable
            .streams
            .get(&id)
            .and_then(|stream| stream.declared.attributes.limits);
        if let (Some(limits), Some(soft)) = (limits, self.soft.streams.get_mut(&id)) {
            let bucket = soft.buckets.entry(shard).or_default();
            bucket.read(&limits, now, reads, bytes);
        }
    }

    /// Something happened in a shard: reads that wait there are looked at.
    fn wake_reads(&mut self, id: StreamId, shard: ShardNo) {
        let Some(soft) = self.soft.streams.get_mut(&id) else {
            return;
        };
        if soft
            .reads
            .range((shard, 0)..=(shard, u64::MAX))
            .next()
            .is_none()
        {
            return;
        }
        soft.woken.insert(shard);
        self.enter_stream_round(id);
    }

    pub(super) fn enter_stream_round(&mut self, id: StreamId) {
        let place = self.soft.next_place;
        let Some(soft) = self.soft.streams.get_mut(&id) else {
            return;
        };
        if soft.pump_at.is_none() {
            soft.pump_at = Some(place);
            self.soft.next_place += 1;
            self.soft.stream_pump.insert(place, id);
        }
    }

    fn leave_stream_round(&mut self, id: StreamId) {
        if let Some(soft) = self.soft.streams.get_mut(&id)
            && let Some(place) = soft.pump_at.take()
        {
            self.soft.stream_pump.remove(&place);
        }
    }

    pub(super) fn apply_stream_turn(&mut self, id: StreamId, rests: Option<ShardNo>) {
        self.leave_stream_round(id);
        let Some(soft) = self.soft.streams.get_mut(&id) else {
            return;
        };
        if let Some(shard) = rests {
            soft.woken.remove(&shard);
        }
        if !soft.woken.is_empty() || !soft.regroup.is_empty() {
            self.enter_stream_round(id);
        }
    }
}
