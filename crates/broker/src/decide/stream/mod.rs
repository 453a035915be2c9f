//! Streams and consumer groups.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | streams made, changed, looked at, listed, deleted |
//! | `shards.rs` | shards split, merged, resized |
//! | `grow.rs` | shards split because much is written to them |
//! | `place.rs` | records that come: which shard, and whether it takes them |
//! | `read.rs` | reads, and reads that wait |
//! | `reader.rs` | records pushed to consumers |
//! | `group.rs` | consumer groups |
//! | `file.rs` | records that go into stream files, and come out of them |
//! | `trim.rs` | records that are too old, or too many |

mod file;
mod group;
mod grow;
mod place;
mod read;
mod reader;
mod shards;
mod trim;

use std::ops::Bound;

use bytes::Bytes;
use message::{Name, VhostId};
use session::{
    Event, Lane, Notes, Refusal, RefusalKind, SessionId, StreamAttributes, StreamId, StreamInfo,
    StreamTo, Token,
};

use super::{
    draft::Draft,
    inspect::{list_from, list_page, own},
    refusal, shown,
};
use crate::{
    Broker, Wait,
    change::Kind,
    stream::{
        NewShard, Resharded, SHARDS_OPEN_MAX, Stream, StreamDeclared, StreamDeleted, Trimmed,
        ranges,
    },
};

pub(crate) use place::StreamMatch;

impl Broker {
    /// A stream that has not been deleted.
    pub(crate) fn stream_named(&self, vhost: VhostId, name: &Name) -> Option<(StreamId, &Stream)> {
        let id = *self.soft.stream_names.get(&(vhost, name.clone()))?;
        Some((id, self.durable.streams.get(&id)?))
    }

    pub(super) fn decide_stream(
        &self,
        from: SessionId,
        (token, lane): (Token, Lane),
        name: &Name,
        to: &StreamTo,
        draft: &mut Draft<'_>,
    ) {
        let Some(vhost) = self.attached(from).map(|attached| attached.vhost) else {
            return;
        };
        let found = self.stream_named(vhost, name);
        let done = match (to, found) {
            // DOORS 6: who asks by a bare name means the queue, if there is one.
            (
                StreamTo::Ensure {
                    bare_name: true, ..
                },
                _,
            ) if self.has_queue(vhost, name) => Err(refusal(
                RefusalKind::Inequivalent,
                format!("'{}' is a queue, not a stream", shown(name)),
            )),
            (
                StreamTo::Create {
                    attributes,
                    shards,
                    notes,
                }
                | StreamTo::Ensure {
                    attributes,
                    shards,
                    notes,
                    ..
                },
                None,
            ) => self
                .new_stream(vhost, name, attributes, *shards, notes)
                .map(|(declared, resharded)| {
                    let info = new_info(&declared, &resharded, draft);
                    draft.change(Kind::StreamDeclared(Box::new(declared)));
                    draft.change(Kind::Resharded(Box::new(resharded)));
                    info
                }),
            (StreamTo::Create { .. }, Some(_)) => Err(refusal(
                RefusalKind::Inequivalent,
                format!("stream '{}' exists", shown(name)),
            )),
            (_, None) => Err(no_stream(name)),
            (StreamTo::Ensure { .. } | StreamTo::Inspect | StreamTo::Count, Some((id, stream))) => {
                Ok(self.stream_info(id, stream, draft))
            }
            (
                StreamTo::Alter {
                    version,
                    attributes,
                    notes,
                },
                Some((id, stream)),
            ) => self.alter(id, stream, *version, attributes, notes, draft),
            (StreamTo::Delete, Some((id, stream))) => {
                let info = self.stream_info(id, stream, draft);
                self.delete_stream(id, stream, draft);
                Ok(info)
            }
            (StreamTo::Split { shard, at }, Some((id, stream))) => {
                self.split(id, stream, *shard, *at, draft)
            }
            (StreamTo::Merge { shard, adjacent }, Some((id, stream))) => {
                self.merge(id, stream, *shard, *adjacent, draft)
            }
            (StreamTo::Resize { shards }, Some((id, stream))) => {
                self.resize(id, stream, *shards, draft)
            }
        };
        match done {
            Ok(stream) => {
                let stream = Box::new(stream);
                draft.reply(from, lane, Wait::Durable, Event::Stream { token, stream });
            }
            Err(refusal) => self.refuse(from, lane, token, refusal, draft),
        }
    }

    fn new_stream(
        &self,
        vhost: VhostId,
        name: &Name,
        attributes: &StreamAttributes,
        shards: u32,
        notes: &Notes,
    ) -> Result<(StreamDeclared, Resharded), Refusal> {
        check_name(name)?;
        check_attributes(attributes)?;
        check_shards(shards)?;
        if self.durable.streams.len() as u64 >= self.config.streams_max {
            return Err(refusal(RefusalKind::QuotaExceeded, "too many streams"));
        }
        let stream = StreamId(self.durable.next_stream);
        let declared = StreamDeclared {
            stream,
            vhost,
            name: Bytes::copy_from_slice(name),
            attributes: attributes.clone(),
            notes: own(notes),
            ..StreamDeclared::default()
        };
        let opens = ranges(shards)
            .into_iter()
            .zip(0..)
            .map(|((first_hash, last_hash), number)| NewShard {
                shard: session::ShardNo(number),
                first_hash,
                last_hash,
                ..NewShard::default()
            })
            .collect();
        let resharded = Resharded {
            stream,
            closes: Vec::new(),
            opens,
        };
        Ok((declared, resharded))
    }

    fn alter(
        &self,
        id: StreamId,
        stream: &Stream,
        version: u64,
        attributes: &StreamAttributes,
        notes: &Notes,
        draft: &mut Draft<'_>,
    ) -> Result<StreamInfo, Refusal> {
        check_attributes(attributes)?;
        if stream.declared.version != version {
            return Err(refusal(
                RefusalKind::Inequivalent,
                format!(
                    "stream '{}' is not what it was read as",
                    shown(&stream.declared.name)
                ),
            ));
        }
        let declared = StreamDeclared {
            attributes: attributes.clone(),
            notes: own(notes),
            ..stream.declared.clone()
        };
        let mut info = self.stream_info(id, stream, draft);
        info.attributes = declared.attributes.clone();
        info.notes = declared.notes.clone();
        info.changed = draft.now;
        info.version += 1;
        // What is too old by now does not come back when more is kept.
        let kept = stream.kept_from(draft.now);
        if kept > stream.first() {
            draft.change(Kind::Trimmed(Box::new(Trimmed {
                stream: id,
                below: kept,
                forgets: Vec::new(),
            })));
        }
        draft.change(Kind::StreamDeclared(Box::new(declared)));
        Ok(info)
    }

    fn delete_stream(&self, id: StreamId, stream: &Stream, draft: &mut Draft<'_>) {
        self.refuse_reads(id, draft);
        self.cancel_readers(id, |_| true, draft);
        let bound: Vec<_> = self
            .soft
            .stream_bound
            .get(&id)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        draft.change(Kind::StreamDeleted(StreamDeleted {
            stream: id,
            doomed: stream.records.len() > u64::from(self.config.empty_slice),
        }));
        self.drop_exchanges_left(stream.declared.vhost, bound, draft);
    }

    /// A stream as it is.
    pub(super) fn stream_info(
        &self,
        id: StreamId,
        stream: &Stream,
        draft: &Draft<'_>,
    ) -> StreamInfo {
        let declared = &stream.declared;
        StreamInfo {
            id,
            name: declared.name.clone(),
            attributes: declared.attributes.clone(),
            notes: declared.notes.clone(),
            created: declared.created,
            changed: declared.changed,
            version: declared.version,
            shards: stream
                .shards
                .iter()
                .map(|(number, shard)| shard.info(*number))
                .collect(),
            first_offset: stream.kept_from(draft.now),
            next_offset: stream.records.next(),
            consumers: self.soft.streams[&id].readers.len() as u32,
        }
    }

    /// The names of streams that a list shows, and whether there are more.
    pub(super) fn list_streams(
        &self,
        vhost: VhostId,
        list: &session::List,
        limit: usize,
    ) -> (Vec<Name>, bool) {
        let first = list_from(list).map(|name| (vhost, name));
        let known = self.soft.stream_names.range((first, Bound::Unbounded));
        let here = known.map(|(key, _)| key).take_while(|(at, _)| *at == vhost);
        list_page(here.map(|(_, name)| name), list, limit)
    }
}

/// A stream that this decision makes.
fn new_info(declared: &StreamDeclared, resharded: &Resharded, draft: &Draft<'_>) -> StreamInfo {
    StreamInfo {
        id: declared.stream,
        name: declared.name.clone(),
        attributes: declared.attributes.clone(),
        notes: declared.notes.clone(),
        created: draft.now,
        changed: draft.now,
        version: 1,
        shards: resharded
            .opens
            .iter()
            .map(|new| shards::new_info(new, draft.now, 0))
            .collect(),
        first_offset: 0,
        next_offset: 0,
        consumers: 0,
    }
}

pub(in crate::decide) fn no_stream(name: &Name) -> Refusal {
    refusal(
        RefusalKind::NotFound,
        format!("no stream '{}'", shown(name)),
    )
}

fn check_name(name: &Name) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > message::NAME_LEN_MAX {
        return Err(refusal(
            RefusalKind::InvalidName,
            "the name of a stream is empty or too long",
        ));
    }
    Ok(())
}

fn check_attributes(attributes: &StreamAttributes) -> Result<(), Refusal> {
    if attributes.retention_ms == 0 || attributes.bytes_max == Some(0) {
        return Err(refusal(
            RefusalKind::InvalidArgument,
            "a stream that keeps nothing",
        ));
    }
    if let Some(growth) = &attributes.growth
        && (growth.write_records == 0 || growth.write_bytes == 0)
    {
        return Err(refusal(
            RefusalKind::InvalidArgument,
            "a stream grows by what its shards are made for, which is not nothing",
        ));
    }
    Ok(())
}

fn check_shards(shards: u32) -> Result<(), Refusal> {
    if !(1..=SHARDS_OPEN_MAX).contains(&shards) {
        return Err(refusal(
            RefusalKind::InvalidArgument,
            format!("a stream has 1 to {SHARDS_OPEN_MAX} open shards"),
        ));
    }
    Ok(())
}
