//! Consumers of streams and consumer groups: records handed out and settled, checkpoints, shards that change hands.

use message::Timestamp;
use session::{QueueId, StreamId};

use super::Applying;
use crate::{
    Broker,
    change::{Ranges, ReaderSent, SOFT_BIT},
    queue::Order,
    soft::{Out, SoftQueue, Timer},
    stream::{
        Assigned, Checkpointed, Group, GroupGone, GroupLeased, GroupMade, MemberShard, Reader,
        Reads, Window,
    },
};

impl Broker {
    pub(super) fn apply_reader_added(&mut self, id: QueueId, reader: &Reader, now: Timestamp) {
        self.soft.next_queue = self.soft.next_queue.max((id.0 & !SOFT_BIT) + 1);
        let Some(stream) = self.soft.streams.get_mut(&reader.stream) else {
            return;
        };
        stream.readers.insert(id);
        let mut queue = SoftQueue::new(Order::plain(), now);
        queue.reader = Some(Box::new(reader.clone()));
        self.soft.queues.insert(id, Box::new(queue));
        self.regroup_of(id);
    }

    /// A consumer of a stream is gone, and nothing of it is out any more.
    pub(super) fn remove_reader(&mut self, id: QueueId) {
        let Some(reader) = self.reader(id) else {
            return;
        };
        let stream = reader.stream;
        self.regroup_of(id);
        self.rest(id);
        if let Some(soft) = self.soft.streams.get_mut(&stream) {
            soft.readers.remove(&id);
        }
        self.soft.queues.remove(&id);
    }

    /// The consumer that reads by way of that queue has gone: what is out to it may still be settled.
    pub(super) fn reader_left(&mut self, id: QueueId) {
        let left = self
            .soft
            .queues
            .get(&id)
            .filter(|queue| queue.reader.is_some() && queue.consumers.is_empty());
        let Some(left) = left else { return };
        if left.out.is_empty() {
            self.remove_reader(id);
        } else {
            // Others go on with its shards as soon as it has settled what is out to it.
            self.regroup_of(id);
        }
    }

    pub(crate) fn reader(&self, id: QueueId) -> Option<&Reader> {
        self.soft.queues.get(&id)?.reader.as_deref()
    }

    fn reader_mut(&mut self, id: QueueId) -> Option<&mut Reader> {
        self.soft.queues.get_mut(&id)?.reader.as_deref_mut()
    }

    /// Whether a queue that stands for a consumer of a stream has something to hand out.
    pub(super) fn reader_wants(&self, reader: &Reader) -> bool {
        self.durable
            .streams
            .get(&reader.stream)
            .is_some_and(|stream| !stream.declared.doomed && reader.wants(stream))
    }

    /// A record came: those who have nothing to do so far look at it.
    pub(super) fn wake_readers(&mut self, id: StreamId) {
        let Some(soft) = self.soft.streams.get(&id) else {
            return;
        };
        if soft.readers.is_empty() {
            return;
        }
        let idle: Vec<QueueId> = soft
            .readers
            .iter()
            .copied()
            .filter(|id| {
                let queue = self.soft.queues.get(id);
                queue.is_some_and(|queue| queue.pump_at.is_none())
            })
            .collect();
        for queue in idle {
            self.touch(queue);
        }
    }

    /// It gets nothing before records came out of a stream file.
    pub(super) fn apply_reader_loads(&mut self, id: QueueId) {
        if let Some(reader) = self.reader_mut(id) {
            reader.loading = true;
        }
        self.rest(id);
    }

    pub(super) fn apply_reader_loaded(&mut self, id: QueueId, window: Option<&Window>) {
        if let Some(reader) = self.reader_mut(id) {
            reader.loading = false;
            reader.window = window.cloned();
        }
        self.touch(id);
    }

    pub(super) fn apply_reader_sent(&mut self, it: &ReaderSent) {
        let credited = if it.settled {
            None
        } else {
            self.credited(it.receiver)
        };
        for record in &it.records {
            self.counters.delivered += 1;
            self.counters.redelivered += u64::from(record.count > 1);
            let Some(reader) = self.reader_mut(it.queue) else {
                return;
            };
            if reader.again.remove(&record.offset).is_none() {
                match &mut reader.reads {
                    Reads::Everything(cursor) => *cursor = record.offset + 1,
                    Reads::Member { shards, .. } => {
                        if let Some(member) = shards.get_mut(&record.shard) {
                            member.cursor = record.offset + 1;
                        }
                    }
                }
            }
            if !it.settled {
                let handed = (record.shard, record.count);
                reader.unsettled.insert(record.offset, handed);
                self.soft_queue_mut(it.queue).out.insert(
                    record.offset,
                    Out {
                        receiver: Some(it.receiver),
                        credited,
                    },
                );
            }
            let keeps = (!it.settled).then_some(record.offset);
            self.hand_out(it.queue, it.receiver, record.bytes, keeps);
        }
        if let Some(reader) = self.reader_mut(it.queue) {
            reader.pass(it.passed);
        }
        if let Some(reader) = self.reader_mut(it.queue)
            && reader
                .again
                .first_key_value()
                .is_some_and(|(at, _)| *at < it.kept)
        {
            reader.again = reader.again.split_off(&it.kept);
        }
        self.next_round(it.queue);
    }

    pub(super) fn apply_reader_settled(&mut self, id: QueueId, ranges: &Ranges, again: bool) {
        for offset in ranges.iter() {
            let Some(queue) = self.soft.queues.get_mut(&id) else {
                return;
            };
            let Some(out) = queue.out.remove(offset) else {
                continue;
            };
            if let Some(reader) = queue.reader.as_deref_mut()
                && let Some(handed) = reader.unsettled.remove(&offset)
                && again
            {
                reader.again.insert(offset, handed);
            }
            if let Some(receiver) = out.receiver {
                self.let_go(receiver, id, offset);
            }
            if let (Some(receiver), Some(credited)) = (out.receiver, out.credited) {
                self.return_credit(receiver, credited, 1);
            }
        }
        let leaves = self.reader(id).is_some_and(|reader| match &reader.reads {
            Reads::Everything(_) => false,
            Reads::Member { shards, .. } => shards.values().any(|member| member.leaving),
        });
        if leaves {
            self.regroup_of(id);
        }
        self.touch(id);
        self.reader_left(id);
    }

    pub(super) fn apply_group_made(&mut self, it: &GroupMade) {
        if let Some(stream) = self.durable.streams.get_mut(&it.stream) {
            stream.groups.entry(it.group.clone()).or_insert(Group {
                start: it.start,
                since: it.since,
                ..Group::default()
            });
        }
    }

    pub(super) fn apply_group_gone(&mut self, it: &GroupGone) {
        if let Some(stream) = self.durable.streams.get_mut(&it.stream) {
            stream.groups.remove(&it.group);
        }
    }

    pub(super) fn apply_group_leased(&mut self, it: &GroupLeased) {
        let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
            return;
        };
        let (Some(group), Some(shard)) = (
            stream.groups.get_mut(&it.group),
            stream.shards.get(&it.shard),
        ) else {
            return;
        };
        let next = group.next_in(it.shard, shard);
        let place = group.places.entry(it.shard).or_default();
        place.next = next;
        place.lease.clone_from(&it.lease);
        place.counter = it.counter;
        self.regroup(it.stream, &it.group);
    }

    pub(super) fn apply_checkpointed(&mut self, it: &Checkpointed) {
        let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
            return;
        };
        let mut ends = false;
        let Some(group) = stream.groups.get_mut(&it.group) else {
            return;
        };
        for (number, next) in &it.places {
            if let Some(shard) = stream.shards.get(number) {
                ends |= shard.closed.is_some();
                group.places.entry(*number).or_default().next = *next;
            }
        }
        if ends {
            self.regroup(it.stream, &it.group);
        }
    }

    pub(super) fn apply_assigned(&mut self, it: &Assigned, at: &Applying<'_>) {
        let shards = |broker: &mut Self, id: QueueId, change: &dyn Fn(&mut Reads)| {
            if let Some(reader) = broker.reader_mut(id) {
                change(&mut reader.reads);
            }
            broker.touch(id);
        };
        for (id, shard) in &it.takes {
            shards(self, *id, &|reads| {
                if let Reads::Member { shards, .. } = reads {
                    shards.remove(shard);
                }
            });
        }
        for (id, shard) in &it.leaves {
            shards(self, *id, &|reads| {
                if let Reads::Member { shards, .. } = reads
                    && let Some(member) = shards.get_mut(shard)
                {
                    member.leaving = true;
                }
            });
        }
        for (id, shard, cursor) in &it.gives {
            shards(self, *id, &|reads| {
                if let Reads::Member { shards, .. } = reads {
                    let member = MemberShard {
                        cursor: *cursor,
                        leaving: false,
                    };
                    shards.insert(*shard, member);
                }
            });
        }
        let Some(soft) = self.soft.streams.get_mut(&it.stream) else {
            return;
        };
        soft.regroup.remove(&it.group);
        if let Some(again) = it.again.filter(|again| *again > at.now)
            && soft.regroup_at.is_none_or(|known| again < known)
        {
            if let Some(known) = soft.regroup_at.replace(again) {
                self.soft.timers.remove(&(known, Timer::Regroup(it.stream)));
            }
            self.soft.timers.insert((again, Timer::Regroup(it.stream)));
        }
    }

    /// The shards of a group may have to change hands, if it has members that records are pushed to.
    fn regroup(&mut self, id: StreamId, group: &bytes::Bytes) {
        let Some(soft) = self.soft.streams.get(&id) else {
            return;
        };
        let member = |id: &QueueId| self.reader(*id).and_then(Reader::group) == Some(group);
        if let Some(member) = soft.readers.iter().copied().find(member) {
            self.regroup_of(member);
        }
    }

    /// The same for the group of one member.
    fn regroup_of(&mut self, id: QueueId) {
        let Some(reader) = self.reader(id) else {
            return;
        };
        let stream = reader.stream;
        if let (Some(group), Some(soft)) =
            (reader.group().cloned(), self.soft.streams.get_mut(&stream))
        {
            soft.regroup.insert(group);
            self.enter_stream_round(stream);
        }
    }

    /// The same for all groups of a stream.
    pub(super) fn regroup_all(&mut self, id: StreamId) {
        let Some(soft) = self.soft.streams.get_mut(&id) else {
            return;
        };
        if let Some(known) = soft.regroup_at.take() {
            self.soft.timers.remove(&(known, Timer::Regroup(id)));
        }
        let members: Vec<QueueId> = self.soft.streams[&id].readers.iter().copied().collect();
        for member in members {
            self.regroup_of(member);
        }
    }
}
