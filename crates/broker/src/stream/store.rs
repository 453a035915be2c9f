//! A stream in a snapshot: what it is, then its records in pieces, so that a long one is never in memory twice.

use message::{DecodeError, Reader, Timestamp, codec::put_u64};
use session::{ShardNo, StreamId};

use super::{
    Group, GroupPlace, Records, Run, Shard, Slot, Stream,
    change::{StreamDeclared, read_hash},
    index::{put_slots, read_slots},
};
use crate::record::{
    fields,
    wire::{Wire, put_field},
};

/// Records in one piece.
const PIECE: usize = 1 << 16;

fn put_shard(number: ShardNo, shard: &Shard, out: &mut Vec<u8>) {
    number.put(out);
    shard.parents.put(out);
    out.extend_from_slice(&shard.first_hash.to_be_bytes());
    out.extend_from_slice(&shard.last_hash.to_be_bytes());
    shard.opened.put(out);
    shard.first_offset.put(out);
    shard.closed.put(out);
}

fn read_shard(reader: &mut Reader) -> Result<(ShardNo, Shard), DecodeError> {
    Ok((
        Wire::read(reader)?,
        Shard {
            parents: Wire::read(reader)?,
            first_hash: read_hash(reader)?,
            last_hash: read_hash(reader)?,
            opened: Wire::read(reader)?,
            first_offset: Wire::read(reader)?,
            closed: Wire::read(reader)?,
            ..Shard::default()
        },
    ))
}

/// Everything but the records.
pub(crate) fn put_stream(stream: &Stream, out: &mut Vec<u8>) {
    put_field(out, 1, |out| stream.declared.put(out));
    put_field(out, 2, |out| stream.next_shard.put(out));
    put_field(out, 3, |out| stream.records.first().put(out));
    for (number, shard) in &stream.shards {
        put_field(out, 4, |out| put_shard(*number, shard, out));
    }
    for (name, group) in &stream.groups {
        put_field(out, 6, |out| {
            name.put(out);
            group.start.put(out);
            put_u64(out, group.places.len() as u64);
            for (shard, place) in &group.places {
                shard.put(out);
                place.put(out);
            }
        });
    }
    for (name, group) in &stream.groups {
        if group.since != Timestamp(0) {
            put_field(out, 9, |out| {
                name.put(out);
                group.since.put(out);
            });
        }
    }
    if stream.hidden != Timestamp(0) {
        put_field(out, 8, |out| stream.hidden.put(out));
    }
    for (offset, key) in &stream.keys {
        put_field(out, 5, |out| {
            offset.put(out);
            key.put(out);
        });
    }
    out.push(0);
}

/// Reads what [`put_stream`] wrote.
pub(crate) fn read_stream(reader: &mut Reader) -> Result<Stream, DecodeError> {
    let mut stream = Stream::default();
    fields(reader, |number, part| {
        match number {
            1 => stream.declared = StreamDeclared::read(part)?,
            2 => stream.next_shard = Wire::read(part)?,
            3 => stream.records = Records::starting_at(Wire::read(part)?),
            4 => {
                let (number, shard) = read_shard(part)?;
                stream.shards.insert(number, shard);
            }
            5 => stream
                .keys
                .push_back((Wire::read(part)?, Wire::read(part)?)),
            6 => {
                let name = Wire::read(part)?;
                let start = Wire::read(part)?;
                let places: Vec<(ShardNo, GroupPlace)> = Wire::read(part)?;
                let places = places.into_iter().collect();
                let group = Group {
                    start,
                    places,
                    ..Group::default()
                };
                stream.groups.insert(name, group);
            }
            8 => stream.hidden = Wire::read(part)?,
            9 => {
                let name: bytes::Bytes = Wire::read(part)?;
                let group = stream.groups.get_mut(&name);
                let group = group.ok_or(DecodeError::Bounds("a group's start"))?;
                group.since = Wire::read(part)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    stream.index_open();
    Ok(stream)
}

/// Reads a run into its stream, behind the runs before it.
pub(crate) fn read_run(
    reader: &mut Reader,
    streams: &mut std::collections::BTreeMap<StreamId, Stream>,
) -> Result<(), DecodeError> {
    let id = StreamId::read(reader)?;
    let run = Run::read(reader)?;
    let stream = streams
        .get_mut(&id)
        .ok_or(DecodeError::Bounds("a run without a stream"))?;
    stream.bytes += run.bytes;
    stream.push_run(&run);
    Ok(())
}

/// The records of a stream in pieces.
pub(crate) fn put_records(
    id: StreamId,
    stream: &Stream,
    mut piece: impl FnMut(&dyn Fn(&mut Vec<u8>)) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut slots: Vec<Slot> = Vec::new();
    let mut records = stream.records.iter().map(|(_, slot)| *slot);
    loop {
        slots.clear();
        slots.extend(records.by_ref().take(PIECE));
        if slots.is_empty() {
            return Ok(());
        }
        piece(&|out| {
            id.put(out);
            put_u64(out, slots.len() as u64);
            put_slots(out, slots.iter());
        })?;
    }
}

/// Reads a piece into its stream, behind the pieces before it.
pub(crate) fn read_records(
    reader: &mut Reader,
    streams: &mut std::collections::BTreeMap<StreamId, Stream>,
) -> Result<(), DecodeError> {
    let id = StreamId::read(reader)?;
    let stream = streams
        .get_mut(&id)
        .ok_or(DecodeError::Bounds("records without a stream"))?;
    let count = reader.u64()?;
    let mut strays = false;
    read_slots(reader, count, |slot| {
        let shard = stream.shard_at(&slot);
        let offset = stream.records.next();
        stream.records.push(slot);
        stream.bytes += u64::from(slot.len());
        if slot.is_lost() {
            return;
        }
        match stream.shards.get_mut(&shard) {
            Some(shard) => shard.offsets.push(offset),
            None => strays = true,
        }
    })?;
    if strays {
        return Err(DecodeError::Bounds("a record's shard"));
    }
    Ok(())
}
