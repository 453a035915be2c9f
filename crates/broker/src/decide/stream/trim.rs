//! Records that are too old, or too many: they go by records of their own, in slices (RULES 8, 9). What is too old is not
//! shown from that very millisecond on; that it goes for good may take a second more.

use message::Timestamp;
use session::StreamId;

use super::Draft;
use crate::{
    Broker,
    change::Kind,
    decide::tick::postpone,
    soft::Timer,
    stream::{Stream, StreamDeleted, Trimmed},
};

/// How long after one look at a stream's oldest records there is another, in ms.
const LOOK_EVERY_MS: u64 = 1000;

impl Broker {
    /// Makes room in streams that hold more bytes than they may with the records of this decision: last of all (`dead_letter.rs`).
    #[inline]
    pub(in crate::decide) fn trim_streams(&self, draft: &mut Draft<'_>) {
        if draft.has_records() {
            self.trim_each(draft);
        }
    }

    #[inline(never)]
    fn trim_each(&self, draft: &mut Draft<'_>) {
        for (id, _) in draft.take_streams() {
            let Some(stream) = self.durable.streams.get(&id) else {
                continue;
            };
            let Some(max) = stream.declared.attributes.bytes_max else {
                continue;
            };
            let below = self.too_many(stream, max, &draft.record_lens(id));
            if below > stream.first() {
                self.trim_slice(id, below, Vec::new(), draft);
            }
        }
    }

    /// The first offset that may stay, one slice at a time, when records of those lengths come.
    fn too_many(&self, stream: &Stream, max: u64, comes: &[u32]) -> u64 {
        let mut bytes = stream.bytes + comes.iter().map(|len| u64::from(*len)).sum::<u64>();
        let mut below = stream.first();
        // The newest stays, however large.
        let next = stream.records.next();
        let any = stream.len() > 0 || !comes.is_empty();
        let newest = next + comes.len() as u64 - u64::from(any);
        for run in &stream.files {
            if bytes <= max {
                break;
            }
            let over = bytes - max;
            if run.bytes <= over {
                bytes -= run.bytes;
                below = run.below;
            } else {
                // How long each of its records is only the file knows: they count alike.
                let count = u128::from(over) * u128::from(run.len());
                let count = count.div_ceil(u128::from(run.bytes)) as u64;
                below = run.first + count;
                bytes = max;
            }
        }
        below = below.min(newest);
        if below < stream.records.first() {
            return below;
        }
        let end = newest.min(self.reach(stream));
        while bytes > max && below < end {
            let len = match stream.records.get(below) {
                Some(slot) => slot.len(),
                None => comes[(below - next) as usize],
            };
            bytes -= u64::from(len);
            below += 1;
        }
        below
    }

    /// How far one slice goes: runs in stream files are no work.
    fn reach(&self, stream: &Stream) -> u64 {
        stream.records.first() + u64::from(self.config.empty_slice.max(1))
    }

    /// The oldest records of a stream may be too old. Gives how much of a tick's slice that took.
    pub(in crate::decide) fn due_trim(
        &self,
        timer: (Timestamp, Timer),
        id: StreamId,
        left: usize,
        draft: &mut Draft<'_>,
    ) -> usize {
        let Some(stream) = self.durable.streams.get(&id) else {
            postpone(timer, None, draft);
            return 1;
        };
        let slice = u64::from(self.config.empty_slice.max(1));
        let first = stream.first();
        let reach = self.reach(stream);
        if stream.declared.doomed {
            if stream.records.len() <= slice {
                draft.change(Kind::StreamDeleted(StreamDeleted {
                    stream: id,
                    doomed: false,
                }));
                postpone(timer, None, draft);
                return left;
            }
            self.trim_slice(id, reach, Vec::new(), draft);
            postpone(timer, Some(draft.now), draft);
            return left;
        }
        let attributes = &stream.declared.attributes;
        let wanted = match attributes.bytes_max {
            Some(max) => stream
                .kept_from(draft.now)
                .max(self.too_many(stream, max, &[])),
            None => stream.kept_from(draft.now),
        };
        let below = wanted.min(reach);
        if below < wanted {
            self.trim_slice(id, below, Vec::new(), draft);
            postpone(timer, Some(draft.now), draft);
            return left;
        }
        let over = |at: Timestamp| at.plus_ms(attributes.retention_ms) <= draft.now;
        let forgets: Vec<_> = stream
            .shards
            .iter()
            .filter(|(_, shard)| {
                shard.closed.is_some_and(|(at, _)| over(at))
                    && shard.last().is_none_or(|last| last < below)
            })
            .map(|(number, _)| *number)
            .collect();
        let due = self.next_due(stream, below, draft.now);
        let full = attributes
            .bytes_max
            .is_some_and(|max| self.too_many(stream, max, &[]) == reach);
        if below > first || !forgets.is_empty() {
            self.trim_slice(id, below, forgets, draft);
        }
        postpone(timer, if full { Some(draft.now) } else { due }, draft);
        left.min(below.saturating_sub(stream.records.first()) as usize)
    }

    fn trim_slice(
        &self,
        id: StreamId,
        below: u64,
        forgets: Vec<session::ShardNo>,
        draft: &mut Draft<'_>,
    ) {
        draft.change(Kind::Trimmed(Box::new(Trimmed {
            stream: id,
            below,
            forgets,
        })));
    }

    /// When the oldest record that stays, or a closed shard, is too old.
    fn next_due(&self, stream: &Stream, below: u64, now: Timestamp) -> Option<Timestamp> {
        let retention = stream.declared.attributes.retention_ms;
        // A run goes when the last of it is too old.
        let run = stream.files.iter().find(|run| run.below > below);
        let oldest = run.map(|run| run.last_time);
        let oldest = oldest.or_else(|| stream.records.get(below).map(|slot| slot.time()));
        let closed = stream
            .shards
            .values()
            .filter_map(|shard| Some(shard.closed?.0.plus_ms(retention)))
            .filter(|due| *due > now)
            .min();
        let oldest = oldest.map(|time| time.plus_ms(retention));
        let due = match (oldest, closed) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        due.filter(|due| *due < Timestamp::MAX)
            .map(|due| due.max(now.plus_ms(LOOK_EVERY_MS)))
    }
}
