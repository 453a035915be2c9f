//! What was lost to damage and given up by an operator.
//!
//! Two things are bridged. Records of the journal that are lost leave the state behind them unknown: while a history with such a
//! gap is replayed, what later records say of things that were never made is passed over ([`Broker::after_loss`]). And what
//! the state refers to, but cannot be read any more, is let go by records like any other (`decide/lost.rs`).

use message::{StoredId, Timestamp, VhostId};

use super::Applying;
use crate::{
    Broker,
    change::Kind,
    stream::{RecordEntrant, RecordsLost, Slot, Stream, StreamFiled},
};

/// How many numbers of each kind a lost record may have given away, at most.
const NUMBERS_A_RECORD: u64 = 1_024;

impl Broker {
    /// So many records of the history that is being replayed are lost, and were given up. What follows may not fit the state
    /// that is there, until [`Broker::history_ends`]. Numbers that lost records may have given away are not given again.
    pub fn after_loss(&mut self, records: u64) {
        self.soft.lossy = true;
        let numbers = records.max(1).saturating_mul(NUMBERS_A_RECORD);
        let durable = &mut self.durable;
        for next in [
            &mut durable.next_queue,
            &mut durable.next_client,
            &mut durable.next_transaction,
            &mut durable.next_stream,
            &mut durable.next_move,
        ] {
            *next += numbers;
        }
    }

    /// From here on every change fits the state, or that is a fault.
    pub fn history_ends(&mut self) {
        self.soft.lossy = false;
    }

    /// Whether a change behind a gap has what it rests on. Asked before anything of it is applied.
    pub(super) fn rests_on_what_is_there(&self, kind: &Kind) -> bool {
        let vhost = match kind {
            Kind::QueueDeclared(it) => it.vhost,
            Kind::ExchangeDeclared(it) => it.vhost,
            Kind::Bound(it) => it.vhost,
            Kind::ClientOpened(it) => it.vhost,
            Kind::StreamDeclared(it) => it.vhost,
            Kind::TopicDeclared(it) => it.vhost,
            Kind::Subscribed(it) => it.vhost,
            Kind::Published(it) => match &it.retain {
                Some(retain) => retain.vhost,
                None => return true,
            },
            _ => return true,
        };
        let VhostId(number) = vhost;
        (number as usize) < self.durable.vhosts.len()
    }

    pub(super) fn apply_records_lost(&mut self, it: &RecordsLost, at: &mut Applying<'_>) {
        for offset in &it.offsets {
            let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
                return;
            };
            let Some(slot) = stream.records.get(*offset).copied() else {
                continue;
            };
            if slot.is_lost() {
                continue;
            }
            let shard = stream.shard_at(&slot);
            let lost = Slot::lost(slot.stored(), slot.time(), shard);
            stream.records.replace(*offset, lost);
            stream.bytes -= u64::from(slot.len());
            self.counters.stream_bytes -= u64::from(slot.len());
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
        let Some(stream) = self.durable.streams.get_mut(&it.stream) else {
            return;
        };
        let lost = |offset: u64| it.offsets.contains(&offset);
        stream.keys.retain(|(offset, _)| !lost(*offset));
        let records = &stream.records;
        let there = |offset: u64| records.get(offset).is_some_and(|slot| !slot.is_lost());
        for shard in stream.shards.values_mut() {
            shard.offsets.retain(there);
        }
    }

    /// A run whose beginning does not fit, since records are lost: what lies between cannot be read in its order any more.
    /// `false`: nothing of it can be used.
    pub(super) fn bridge_filed(&mut self, it: &StreamFiled, at: &mut Applying<'_>) -> bool {
        let Some(stream) = self.durable.streams.get(&it.stream) else {
            return false;
        };
        if it.run.first < stream.records.first() || it.run.below > stream.records.next() {
            return false;
        }
        let (count, bytes) = self.let_records_go(it.stream, it.run.first, at);
        self.counters.stream_records -= count;
        self.counters.stream_bytes -= bytes;
        true
    }
}

impl Stream {
    /// Fills the offsets in front of a record that are lost. `false`: the record itself has no place.
    pub(super) fn bridge_loss(&mut self, it: &RecordEntrant, id: StoredId, now: Timestamp) -> bool {
        if it.offset < self.records.next() {
            return false;
        }
        let has_shard = self.shards.contains_key(&it.shard);
        if self.records.len() == 0 && self.files.is_empty() {
            self.records = crate::stream::Records::starting_at(it.offset);
        }
        let upto = it.offset + u64::from(!has_shard);
        while self.records.next() < upto {
            self.records.push(Slot::lost(id, now, it.shard));
        }
        has_shard
    }
}
