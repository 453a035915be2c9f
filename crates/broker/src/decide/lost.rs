//! What the state refers to and cannot be read any more: found, told, and let go by records.

use std::sync::Arc;

use message::{Levels, StoredId, VhostId};
use session::{QueueId, StreamId};

use crate::{
    Broker, Context, Decision,
    change::{Kind, Mended, Ranges, RetainedGone, Settled, Settlement},
    decide::Draft,
    stream::RecordsLost,
};

/// Entries or records that one change lets go.
const SLICE: usize = 1_000;

/// What lies in messages that are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Entries of queues, by queue.
    pub entries: Vec<(QueueId, Vec<u64>)>,
    /// Retained messages.
    pub retained: Vec<(VhostId, Levels)>,
    /// Records of streams, by stream.
    pub records: Vec<(StreamId, Vec<u64>)>,
    /// Queues and streams with something lost, by name.
    pub names: Vec<Arc<str>>,
}

impl Lost {
    /// How many messages, counted where they were: in each queue, stream and topic.
    #[must_use]
    pub fn messages(&self) -> u64 {
        let entries: usize = self.entries.iter().map(|(_, lost)| lost.len()).sum();
        let records: usize = self.records.iter().map(|(_, lost)| lost.len()).sum();
        (entries + records + self.retained.len()) as u64
    }
}

impl Broker {
    /// Looks for everything that refers to a message which `lost` says cannot be read.
    pub fn find_lost(&self, lost: impl Fn(StoredId) -> bool) -> Lost {
        let is_lost = |id: StoredId| {
            lost(id)
                || self
                    .durable
                    .large
                    .get(&id)
                    .is_some_and(|large| large.parts.iter().any(|part| lost(*part)))
        };
        let mut found = Lost::default();
        for id in self.durable.queue_ids() {
            let queue = &self.durable.queues[&id];
            let entries = queue.entries.iter();
            let entries: Vec<u64> = entries
                .filter(|(_, entry)| is_lost(entry.stored()))
                .map(|(qseq, _)| qseq)
                .collect();
            if !entries.is_empty() {
                let name = String::from_utf8_lossy(&queue.declared.name).into_owned();
                found.names.push(name.into());
                found.entries.push((id, entries));
            }
        }
        for (id, stream) in &self.durable.streams {
            let records = stream.records.iter();
            let records: Vec<u64> = records
                .filter(|(_, slot)| !slot.is_lost() && is_lost(slot.stored()))
                .map(|(offset, _)| offset)
                .collect();
            if !records.is_empty() {
                let name = String::from_utf8_lossy(&stream.declared.name).into_owned();
                found.names.push(name.into());
                found.records.push((*id, records));
            }
        }
        for (vhost, tree) in &self.durable.retained {
            tree.for_each(|key, retained| {
                if is_lost(retained.stored) {
                    found.retained.push((*vhost, key.clone()));
                }
            });
        }
        found
    }

    /// Records what was lost of the history and passed over, if anything: the first decision of a start. The state is whole again
    /// with it, and every change behind it fits.
    pub fn decide_mended(&self, cx: &Context, out: &mut Decision) {
        if let Some(loss) = self.pending_loss() {
            Draft::new(cx, out).change(Kind::Mended(Mended {
                records: loss.records,
                passed_over: loss.passed_over,
            }));
        }
    }

    /// Lets go of what [`Broker::find_lost`] found, a slice at a time. `true`: there is more, in `lost`.
    pub fn decide_lost(&self, lost: &mut Lost, cx: &Context, out: &mut Decision) -> bool {
        let mut draft = Draft::new(cx, out);
        if let Some((queue, entries)) = lost.entries.last_mut() {
            let rest = entries.split_off(entries.len().saturating_sub(SLICE));
            let mut ranges: Vec<(u64, u64)> = Vec::new();
            for qseq in rest {
                match ranges.last_mut() {
                    Some((_, last)) if *last + 1 == qseq => *last = qseq,
                    _ => ranges.push((qseq, qseq)),
                }
            }
            draft.change(Kind::Settled(Settled {
                queue: *queue,
                ranges: Ranges(ranges.into()),
                settlement: Settlement::Accept,
                untried: false,
                soft: false,
            }));
            if entries.is_empty() {
                lost.entries.pop();
            }
        } else if let Some((stream, records)) = lost.records.last_mut() {
            let offsets = records.split_off(records.len().saturating_sub(SLICE));
            draft.change(Kind::RecordsLost(Box::new(RecordsLost {
                stream: *stream,
                offsets,
            })));
            if records.is_empty() {
                lost.records.pop();
            }
        } else {
            for (vhost, key) in lost
                .retained
                .drain(lost.retained.len().saturating_sub(SLICE)..)
            {
                draft.change(Kind::RetainedGone(Box::new(RetainedGone { vhost, key })));
            }
        }
        lost.messages() > 0
    }
}
