//! Topic objects and their subscriptions.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | topic objects made, changed, looked at, listed, deleted |
//! | `subscription.rs` | subscriptions, the same |
//! | `pass.rs` | messages that pass a FIFO topic, and what subscriptions make of a message |

mod pass;
mod subscription;

use bytes::Bytes;
use message::{Levels, Name, VhostId};
use session::{
    Event, Fifo, Lane, Notes, Refusal, RefusalKind, SessionId, Token, TopicInfo, TopicTo,
};

pub(in crate::decide) use pass::{Passing, Through, original};
pub use subscription::SubscriptionPlace;

use super::{
    draft::Draft,
    inspect::{list_from, list_page, own},
    refusal,
    route::is_reserved,
    shown,
};
use crate::{
    Broker, Wait,
    change::Kind,
    topic::{Topic, TopicDeclared, TopicDeleted, TopicNo, Unsubscribed},
};

/// Bytes of a topic object or a subscription with everything that belongs to it: it must fit a record.
const RECORD_LEN_MAX: usize = 512 * 1024;

impl Broker {
    /// Where the topic object of that name sits.
    #[must_use]
    pub fn topic_address(&self, vhost: VhostId, name: &Name) -> Option<Levels> {
        let (_, topic) = self.durable.topics.named(vhost, name)?;
        Some(topic.declared.address.clone())
    }

    /// The virtual hosts that have subscriptions without a topic object.
    #[must_use]
    pub fn routed_vhosts(&self) -> Vec<std::sync::Arc<str>> {
        let vhosts = self.durable.topics.routed_vhosts();
        vhosts.filter_map(|vhost| self.vhost_name(vhost)).collect()
    }

    pub(super) fn decide_topic(
        &self,
        from: SessionId,
        (token, lane): (Token, Lane),
        name: &Name,
        to: &TopicTo,
        draft: &mut Draft<'_>,
    ) {
        let Some(vhost) = self.attached(from).map(|attached| attached.vhost) else {
            return;
        };
        let found = self.durable.topics.named(vhost, name);
        let done = match (to, found) {
            (
                TopicTo::Create {
                    address,
                    fifo,
                    notes,
                },
                None,
            ) => self.new_topic(vhost, name, address, *fifo, notes, draft),
            (TopicTo::Create { .. }, Some(_)) => Err(refusal(
                RefusalKind::Inequivalent,
                format!("topic '{}' exists", shown(name)),
            )),
            (_, None) => Err(no_topic(name)),
            (TopicTo::Inspect, Some((_, topic))) => Ok(info(topic)),
            (
                TopicTo::Alter {
                    version,
                    fifo,
                    notes,
                },
                Some((_, topic)),
            ) => alter(topic, *version, *fifo, notes, draft),
            (TopicTo::Delete, Some((number, topic))) => {
                self.delete_topic(number, topic, draft);
                Ok(info(topic))
            }
        };
        match done {
            Ok(topic) => {
                let topic = Box::new(topic);
                draft.reply(from, lane, Wait::Durable, Event::Topic { token, topic });
            }
            Err(refusal) => self.refuse(from, lane, token, refusal, draft),
        }
    }

    fn new_topic(
        &self,
        vhost: VhostId,
        name: &Name,
        address: &Levels,
        fifo: Option<Fifo>,
        notes: &Notes,
        draft: &mut Draft<'_>,
    ) -> Result<TopicInfo, Refusal> {
        if name.is_empty() || name.len() > message::NAME_LEN_MAX {
            return Err(refusal(
                RefusalKind::InvalidName,
                "the name of a topic is empty or too long",
            ));
        }
        if is_reserved(address) {
            return Err(refusal(
                RefusalKind::InvalidName,
                "the first level of the topic is reserved",
            ));
        }
        if let Some((_, other)) = self.durable.topics.at(vhost, address) {
            return Err(refusal(
                RefusalKind::InvalidArgument,
                format!("topic '{}' has that address", shown(&other.declared.name)),
            ));
        }
        if self.durable.topics.len() >= self.config.topics_max {
            return Err(refusal(RefusalKind::QuotaExceeded, "too many topics"));
        }
        if fifo.is_some() && self.durable.topics.fifo_len(vhost) >= self.config.fifo_topics_max {
            return Err(refusal(RefusalKind::QuotaExceeded, "too many FIFO topics"));
        }
        let declared = TopicDeclared {
            topic: TopicNo(self.durable.topics.next),
            vhost,
            name: Bytes::copy_from_slice(name),
            address: address.compact(),
            fifo,
            notes: own(notes),
            ..TopicDeclared::default()
        };
        check_len(&declared)?;
        let info = TopicInfo {
            created: draft.now,
            ..info(&Topic {
                declared: declared.clone(),
                ..Topic::default()
            })
        };
        draft.change(Kind::TopicDeclared(Box::new(declared)));
        Ok(info)
    }

    fn delete_topic(&self, number: TopicNo, topic: &Topic, draft: &mut Draft<'_>) {
        let subscriptions = topic.confirmed + topic.pending;
        draft.change(Kind::TopicDeleted(TopicDeleted {
            topic: number,
            doomed: subscriptions > u64::from(self.config.empty_slice),
        }));
    }

    /// A slice of the subscriptions of a topic that is deleted. Gives how many.
    pub(super) fn due_doomed_topic(
        &self,
        timer: (message::Timestamp, crate::soft::Timer),
        topic: TopicNo,
        left: usize,
        draft: &mut Draft<'_>,
    ) -> usize {
        if self.durable.topics.topic(topic).is_none() {
            super::tick::postpone(timer, None, draft);
            return 1;
        }
        let slice = left.min(self.config.empty_slice as usize).max(1);
        let ids: Vec<_> = self
            .durable
            .topics
            .of_topic(topic, None)
            .take(slice)
            .collect();
        let gone = ids.len();
        super::tick::postpone(timer, (gone == slice).then_some(timer.0), draft);
        if !ids.is_empty() {
            draft.change(Kind::Unsubscribed(Box::new(Unsubscribed { ids })));
        }
        if gone < slice {
            draft.change(Kind::TopicDeleted(TopicDeleted {
                topic,
                doomed: false,
            }));
        }
        gone
    }

    /// The names of topic objects that a list shows, and whether there are more.
    pub(super) fn list_topics(
        &self,
        vhost: VhostId,
        list: &session::List,
        limit: usize,
    ) -> (Vec<Name>, bool) {
        let first = list_from(list).map(|name| (vhost, name));
        let known = self.durable.topics.names_from(first);
        let here = known.take_while(|(at, ..)| *at == vhost);
        list_page(here.map(|(_, name, _)| name), list, limit)
    }
}

fn info(topic: &Topic) -> TopicInfo {
    let it = &topic.declared;
    TopicInfo {
        name: it.name.clone(),
        address: it.address.clone(),
        fifo: it.fifo,
        notes: it.notes.clone(),
        created: it.created,
        version: it.version,
        confirmed: topic.confirmed,
        pending: topic.pending,
        deleted: it.deleted,
    }
}

fn alter(
    topic: &Topic,
    version: u64,
    fifo: Option<Fifo>,
    notes: &Notes,
    draft: &mut Draft<'_>,
) -> Result<TopicInfo, Refusal> {
    let known = &topic.declared;
    if known.version != version || known.fifo.is_some() != fifo.is_some() {
        return Err(refusal(
            RefusalKind::Inequivalent,
            format!("topic '{}' is not what it was read as", shown(&known.name)),
        ));
    }
    let declared = TopicDeclared {
        fifo,
        notes: own(notes),
        ..known.clone()
    };
    check_len(&declared)?;
    let info = TopicInfo {
        fifo,
        notes: declared.notes.clone(),
        version: version + 1,
        ..info(topic)
    };
    draft.change(Kind::TopicDeclared(Box::new(declared)));
    Ok(info)
}

fn no_topic(name: &Name) -> Refusal {
    refusal(RefusalKind::NotFound, format!("no topic '{}'", shown(name)))
}

fn check_len(it: &impl crate::record::wire::Wire) -> Result<(), Refusal> {
    let mut record = Vec::new();
    it.put(&mut record);
    if record.len() > RECORD_LEN_MAX {
        return Err(refusal(
            RefusalKind::TooLarge,
            "what is kept with a topic or a subscription is longer than 512 KiB",
        ));
    }
    Ok(())
}
