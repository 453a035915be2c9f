//! What happens to topic objects and subscriptions.

use bytes::Bytes;
use message::{DecodeError, Filter, Levels, Name, Reader, Timestamp, VhostId};
use session::{
    Fifo, Notes, PolicyScope, SubscriptionId, SubscriptionSettings, SubscriptionTarget, Via,
};
use std::sync::Arc;

use crate::record::{
    fields,
    wire::{Wire, put_field, wire_fields, wire_ids},
};

/// A topic object's incarnation: never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicNo(pub(crate) u64);
wire_ids!(TopicNo);

/// A topic object was made, or changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TopicDeclared {
    pub(crate) topic: TopicNo,
    pub(crate) vhost: VhostId,
    pub(crate) name: Name,
    pub(crate) address: Levels,
    pub(crate) fifo: Option<Fifo>,
    pub(crate) notes: Notes,
    /// These three are the records' time and numbers: `apply` knows them.
    pub(crate) created: Timestamp,
    pub(crate) version: u64,
    pub(crate) deleted: u64,
    /// It was deleted, and its subscriptions go in slices.
    pub(crate) doomed: bool,
}
wire_fields!(TopicDeclared {
    1 => topic, 2 => vhost, 3 => name, 4 => address, 5 => fifo, 6 => notes, 7 => created, 8 => version, 9 => deleted,
    10 => doomed,
});

/// A topic object is gone, with its subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct TopicDeleted {
    pub(crate) topic: TopicNo,
    /// Nobody finds it any more, but its subscriptions go by records to come, the last of which is of this kind again.
    pub(crate) doomed: bool,
}
wire_fields!(TopicDeleted { 1 => topic, 2 => doomed });

/// A subscription was made, or changed: all of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Subscribed {
    pub(crate) id: SubscriptionId,
    pub(crate) vhost: VhostId,
    /// `None`: a route.
    pub(crate) topic: Option<TopicNo>,
    /// `None`: the topic's address.
    pub(crate) filter: Option<Filter>,
    pub(crate) target: Option<Box<SubscriptionTarget>>,
    pub(crate) settings: SubscriptionSettings,
    pub(crate) confirmed: bool,
    pub(crate) identity: Bytes,
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) notes: Notes,
    /// `apply` knows it.
    pub(crate) version: u64,
}
wire_fields!(Subscribed {
    1 => id, 2 => vhost, 3 => topic, 4 => filter, 5 => target, 6 => settings, 7 => confirmed, 8 => identity, 9 => owner,
    10 => notes, 11 => version,
});

/// Subscriptions are gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Unsubscribed {
    pub(crate) ids: Vec<SubscriptionId>,
}
wire_fields!(Unsubscribed { 1 => ids });

/// A publish to a FIFO topic object got its number there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Numbered {
    pub(crate) topic: TopicNo,
    pub(crate) sequence: u64,
    /// By which a repeat is known.
    pub(crate) dedup: Option<Bytes>,
    pub(crate) message_id: Option<[u8; 16]>,
}
wire_fields!(Numbered { 1 => topic, 2 => sequence, 3 => dedup, 4 => message_id });

impl Wire for SubscriptionId {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Wire::read(reader).map(Self)
    }
}

impl Wire for SubscriptionTarget {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Queue { vhost, name } => {
                out.push(0);
                vhost.put(out);
                name.put(out);
            }
            Self::Stream { name, key } => {
                out.push(1);
                name.put(out);
                key.put(out);
            }
        }
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(Self::Queue {
                vhost: Wire::read(reader)?,
                name: Wire::read(reader)?,
            }),
            1 => Ok(Self::Stream {
                name: Wire::read(reader)?,
                key: Wire::read(reader)?,
            }),
            tag => Err(DecodeError::Unknown {
                what: "subscription target",
                tag: u64::from(tag),
            }),
        }
    }
}

impl Wire for SubscriptionSettings {
    fn put(&self, out: &mut Vec<u8>) {
        if let Some((text, scope)) = &self.policy {
            put_field(out, 1, |out| text.put(out));
            put_field(out, 2, |out| {
                out.push(match scope {
                    PolicyScope::Attributes => 0,
                    PolicyScope::Body => 1,
                });
            });
        }
        if self.raw {
            put_field(out, 3, |out| self.raw.put(out));
        }
        if self.dead_letter.is_some() {
            put_field(out, 4, |out| self.dead_letter.put(out));
        }
        out.push(0);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        let (mut policy, mut scope) = (None, PolicyScope::Attributes);
        fields(reader, |number, part| {
            match number {
                1 => policy = Some(Wire::read(part)?),
                2 => {
                    scope = match part.u8()? {
                        0 => PolicyScope::Attributes,
                        1 => PolicyScope::Body,
                        tag => {
                            return Err(DecodeError::Unknown {
                                what: "policy scope",
                                tag: u64::from(tag),
                            });
                        }
                    }
                }
                3 => value.raw = Wire::read(part)?,
                4 => value.dead_letter = Wire::read(part)?,
                _ => {}
            }
            Ok(())
        })?;
        value.policy = policy.map(|text| (text, scope));
        Ok(value)
    }
}

impl Wire for Arc<Via> {
    fn put(&self, out: &mut Vec<u8>) {
        self.subscription.put(out);
        self.vhost.put(out);
        self.topic.put(out);
        self.sequence.put(out);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self::new(Via {
            subscription: Wire::read(reader)?,
            vhost: Wire::read(reader)?,
            topic: Wire::read(reader)?,
            sequence: Wire::read(reader)?,
        }))
    }
}
