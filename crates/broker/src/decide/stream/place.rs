//! Records that come: which shard of the stream, at which offset, and whether the shard takes them.
//!
//! The hash that chooses the shard is computed here and never in `apply` (RULES 1): the change says where the record went.

use std::sync::Arc;

use bytes::Bytes;
use message::{Address, Levels, Message, md5};
use session::{Publish, RecordPlace, Refusal, RefusalKind, Source, StreamId, partition_key};
use smallvec::SmallVec;

use super::Draft;
use crate::{
    Broker,
    change::{ClientNo, Entrant},
    decide::{direct::Directs, publish::Incoming, refusal, shown},
    queue::Rare,
    stream::RecordEntrant,
};

/// A stream that a message matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamMatch {
    pub(crate) stream: StreamId,
    /// The partition key, unless it is the message's own.
    pub(crate) key: Option<Bytes>,
}

impl StreamMatch {
    /// With the message's own partition key.
    pub(crate) const fn of(stream: StreamId) -> Self {
        Self { stream, key: None }
    }
}

/// The hash of a partition key: its MD5 as a number.
pub(crate) fn hash_of(key: &[u8]) -> u128 {
    u128::from_be_bytes(md5::one(key))
}

impl Broker {
    /// Where a record that is about to come will lie.
    pub(crate) fn record_place(&self, record: &RecordEntrant) -> Option<RecordPlace> {
        let shard = self.durable.streams.get(&record.stream)?;
        Some(RecordPlace {
            stream: record.stream,
            shard: record.shard,
            shard_opened: shard.shards.get(&record.shard)?.opened,
            offset: record.offset,
        })
    }

    /// Client sessions that read a stream as a topic get what enters it.
    pub(crate) fn admit_stream_clients(
        &self,
        records: &[RecordEntrant],
        incoming: &Incoming<'_>,
        publisher: Option<ClientNo>,
        targets: &mut SmallVec<[Entrant; 1]>,
        direct: &mut Directs,
        draft: &mut Draft<'_>,
    ) {
        if self.soft.stream_clients.is_empty() {
            return;
        }
        for record in records {
            self.admit_clients_of(record, incoming, publisher, targets, direct, draft);
        }
    }

    fn admit_clients_of(
        &self,
        record: &RecordEntrant,
        incoming: &Incoming<'_>,
        publisher: Option<ClientNo>,
        targets: &mut SmallVec<[Entrant; 1]>,
        direct: &mut Directs,
        draft: &mut Draft<'_>,
    ) {
        let Some(declared) = self
            .durable
            .streams
            .get(&record.stream)
            .map(|it| &it.declared)
        else {
            return;
        };
        let key = (declared.vhost, declared.name.clone());
        let Some(clients) = self.soft.stream_clients.get(&key) else {
            return;
        };
        // They are shown the stream's own name and the key, whatever the message was published to and wherever it says its key.
        let address = &incoming.message.address;
        let of_stream = address.kind == message::Kind::Stream;
        let has_key = !address.key.is_empty() || incoming.message.group.is_none();
        let rare = (!(of_stream && has_key)).then(|| {
            let key = record.key.clone();
            let key = key.unwrap_or_else(|| partition_key(incoming.message));
            let levels = if key.is_empty() || key.len() > message::NAME_LEN_MAX {
                Levels::none()
            } else {
                Levels::one(key)
            };
            let address = Address::stream(declared.vhost, declared.name.clone(), levels);
            Rare {
                readdressed: Some(Arc::new(address)),
                ..incoming.rare.cloned().unwrap_or_default()
            }
        });
        let incoming = Incoming {
            rare: rare.as_ref().or(incoming.rare),
            ..*incoming
        };
        for number in clients {
            let options = self.client(*number).and_then(|client| {
                let mut sources = client.rare.sources.iter();
                let known = sources.find(
                    |known| matches!(&known.source, Source::Stream { name, .. } if *name == key.1),
                )?;
                Some(known.options)
            });
            let Some(options) = options.filter(|it| !it.no_local || publisher != Some(*number))
            else {
                continue;
            };
            let Some(mut matched) = self.client_match(*number, options.qos, false) else {
                continue;
            };
            if options.identifier != 0 {
                matched.identifiers.push(options.identifier);
            }
            self.admit_client(&matched, &incoming, targets, direct, draft);
        }
    }

    /// The hashes of the partition keys of publishes to one stream, where they choose a shard; else none. They are taken together.
    pub(crate) fn own_hashes(&self, publishes: &[Publish]) -> Vec<u128> {
        let several = publishes.first().is_some_and(|first| {
            let address = &first.message.address;
            let to_stream = address.kind == message::Kind::Stream && address.key.is_empty();
            let stream = || self.stream_named(address.vhost, &address.name);
            let alike =
                |it: &Publish| it.hash_key.is_none() && Arc::ptr_eq(&it.message.address, address);
            to_stream
                && publishes.iter().all(alike)
                && stream().is_some_and(|(_, stream)| stream.only_shard().is_none())
        });
        if !several {
            return Vec::new();
        }
        // Without a level in the address the group is the key; who has none has another one.
        let keys = publishes.iter().map_while(|it| it.message.group.as_deref());
        let digests = md5::each(keys).into_iter();
        digests.map(u128::from_be_bytes).collect()
    }

    /// Decides whether a message enters a stream, and in which shard.
    pub(crate) fn admit_record(
        &self,
        to: &StreamMatch,
        message: &Message,
        draft: &mut Draft<'_>,
    ) -> Result<RecordEntrant, Refusal> {
        let Some(stream) = self.durable.streams.get(&to.stream) else {
            return Err(refusal(RefusalKind::NotFound, "the stream is gone"));
        };
        let attributes = &stream.declared.attributes;
        let key = to.key.clone().unwrap_or_else(|| partition_key(message));
        let len = message.body.len() as u64 + key.len() as u64;
        if attributes.record_len_max.is_some_and(|max| len > max) {
            return Err(refusal(
                RefusalKind::TooLarge,
                format!(
                    "stream '{}' does not take records so large",
                    shown(&stream.declared.name)
                ),
            ));
        }
        let known = draft.own_hash.filter(|_| to.key.is_none());
        let shard = match (stream.only_shard(), draft.hash_key, known) {
            (Some(shard), _, _) => Some(shard),
            (None, Some(hash), _) => stream.shard_of(hash),
            (None, None, Some((of, hash))) if std::ptr::eq(of, message) => stream.shard_of(hash),
            (None, None, _) => stream.shard_of(hash_of(&key)),
        };
        let shard = shard.expect("the open shards own every hash");
        let (count, bytes) = draft.records(to.stream, shard);
        if let Some(limits) = &attributes.limits {
            let bucket = self.soft.streams[&to.stream].bucket(shard);
            // A transaction is one thing; several publishes come one after the other.
            let takes = if draft.many {
                bucket.takes_behind((count, bytes), limits, draft.now, (1, len))
            } else {
                bucket.takes(limits, draft.now, count + 1, bytes + len)
            };
            if !takes {
                return Err(refusal(
                    RefusalKind::RateExceeded,
                    format!(
                        "shard {} of stream '{}' takes no more in this second",
                        shard.0,
                        shown(&stream.declared.name)
                    ),
                )
                .but_known(Some(shard.0.to_string().into())));
            }
        }
        if attributes.limits.is_some() {
            draft.record_comes(to.stream, shard, len);
        }
        Ok(RecordEntrant {
            stream: to.stream,
            shard,
            // Given when its change is drafted.
            offset: 0,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            key: to.key.as_ref().map(|key| Bytes::copy_from_slice(key)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::hash_of;

    #[test]
    fn the_hash_is_the_md5_as_a_number_with_the_first_byte_the_highest() {
        assert_eq!(hash_of(b""), 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e);
        assert_eq!(hash_of(b"a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
    }
}
