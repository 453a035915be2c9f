//! What happens to streams. Times and the stream's next offset are the record's: `apply` knows them.

use bytes::Bytes;
use message::{DecodeError, Name, Reader, Timestamp, VhostId, codec::put_u64};
use session::{Growth, Notes, ShardLimits, ShardNo, StreamAttributes, StreamId};
use smallvec::SmallVec;

use crate::record::{
    fields,
    wire::{Wire, put_field, wire_fields, wire_ids},
};

wire_ids!(StreamId, ShardNo);

impl Wire for ShardLimits {
    fn put(&self, out: &mut Vec<u8>) {
        for limit in [
            self.write_records,
            self.write_bytes,
            self.reads,
            self.read_bytes,
        ] {
            limit.put(out);
        }
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            write_records: Wire::read(reader)?,
            write_bytes: Wire::read(reader)?,
            reads: Wire::read(reader)?,
            read_bytes: Wire::read(reader)?,
        })
    }
}

impl Wire for Growth {
    fn put(&self, out: &mut Vec<u8>) {
        for number in [self.write_records, self.write_bytes, self.shards_max] {
            number.put(out);
        }
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            write_records: Wire::read(reader)?,
            write_bytes: Wire::read(reader)?,
            shards_max: Wire::read(reader)?,
        })
    }
}

wire_fields!(StreamAttributes {
    1 => retention_ms, 2 => bytes_max, 3 => record_len_max, 4 => limits, 5 => growth,
});

/// A stream was made, or its attributes or notes changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StreamDeclared {
    pub(crate) stream: StreamId,
    pub(crate) vhost: VhostId,
    pub(crate) name: Name,
    pub(crate) attributes: StreamAttributes,
    pub(crate) notes: Notes,
    /// These three are the records' times and number.
    pub(crate) created: Timestamp,
    pub(crate) changed: Timestamp,
    pub(crate) version: u64,
    /// It was deleted, and what was in it goes in slices.
    pub(crate) doomed: bool,
}
wire_fields!(StreamDeclared {
    1 => stream, 2 => vhost, 3 => name, 4 => attributes, 5 => notes, 6 => created, 7 => changed, 8 => version, 9 => doomed,
});

/// A stream is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StreamDeleted {
    pub(crate) stream: StreamId,
    /// Nobody finds it any more, but what is in it goes by records to come, the last of which is of this kind again.
    pub(crate) doomed: bool,
}
wire_fields!(StreamDeleted { 1 => stream, 2 => doomed });

/// A shard that is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NewShard {
    pub(crate) shard: ShardNo,
    pub(crate) parents: SmallVec<[ShardNo; 2]>,
    pub(crate) first_hash: u128,
    pub(crate) last_hash: u128,
}

impl Wire for NewShard {
    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.parents.put(out);
        out.extend_from_slice(&self.first_hash.to_be_bytes());
        out.extend_from_slice(&self.last_hash.to_be_bytes());
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            shard: Wire::read(reader)?,
            parents: Wire::read(reader)?,
            first_hash: read_hash(reader)?,
            last_hash: read_hash(reader)?,
        })
    }
}

pub(super) fn read_hash(reader: &mut Reader) -> Result<u128, DecodeError> {
    let bytes = reader.take(16)?;
    Ok(u128::from_be_bytes(
        <[u8; 16]>::try_from(bytes).expect("16 were taken"),
    ))
}

/// Shards were closed and opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resharded {
    pub(crate) stream: StreamId,
    pub(crate) closes: Vec<ShardNo>,
    pub(crate) opens: Vec<NewShard>,
}
wire_fields!(Resharded { 1 => stream, 2 => closes, 3 => opens });

/// The oldest records are gone, and closed shards that nobody need know any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Trimmed {
    pub(crate) stream: StreamId,
    /// Offsets from here on stay.
    pub(crate) below: u64,
    pub(crate) forgets: Vec<ShardNo>,
}
wire_fields!(Trimmed { 1 => stream, 2 => below, 3 => forgets });

/// Records were lost to damage, and the operator has given them up: their offsets stay, and name nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RecordsLost {
    pub(crate) stream: StreamId,
    pub(crate) offsets: Vec<u64>,
}
wire_fields!(RecordsLost { 1 => stream, 2 => offsets });

/// A message's place in a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RecordEntrant {
    pub(crate) stream: StreamId,
    pub(crate) shard: ShardNo,
    pub(crate) offset: u64,
    /// Bytes of body and key.
    pub(crate) len: u32,
    /// The partition key, if it is not the message's own.
    pub(crate) key: Option<Bytes>,
}

impl Wire for RecordEntrant {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.stream.0);
        put_u64(out, u64::from(self.shard.0));
        put_u64(out, self.offset);
        put_u64(out, u64::from(self.len));
        if let Some(key) = &self.key {
            put_field(out, 1, |out| out.extend_from_slice(key));
        }
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut it = Self {
            stream: Wire::read(reader)?,
            shard: Wire::read(reader)?,
            offset: Wire::read(reader)?,
            len: Wire::read(reader)?,
            key: None,
        };
        fields(reader, |number, part| {
            if number == 1 {
                it.key = Some(Bytes::copy_from_slice(part.unread()));
            }
            Ok(())
        })?;
        Ok(it)
    }
}
