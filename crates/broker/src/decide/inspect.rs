//! Queues as doors that manage them see them: looked at, listed, made with notes, altered.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use message::{Name, VhostId};
use session::{
    Event, Lane, List, Listed, Notes, QueueAttributes, QueueInfo, QueueOptions, Refusal,
    RefusalKind, SessionId, Token,
};

use super::{declare, draft::Draft, refusal, shown, stream::no_stream};
use crate::{
    Broker, Wait,
    change::{Kind, QueueDeclared},
};

/// Names of one list.
const LIST_MAX: u32 = 1000;
/// Names looked at for each that may be listed.
const LOOKS_EACH: usize = 100;

impl Broker {
    pub(super) fn decide_inspect(
        &self,
        from: SessionId,
        token: Token,
        lane: Lane,
        name: &Name,
        draft: &mut Draft<'_>,
    ) {
        let found = self.attached(from).and_then(|attached| {
            let id = self.named(attached.vhost, name)?;
            Some((id, self.queue(id)?))
        });
        let Some((id, queue)) = found else {
            return self.refuse(from, lane, token, missing(name), draft);
        };
        if let Err(refusal) = self.check_owner(id, from) {
            return self.refuse(from, lane, token, refusal, draft);
        }
        let soft = self.soft_queue(id);
        let it = &queue.declared;
        let info = QueueInfo {
            id,
            name: it.name.clone(),
            options: Arc::clone(&it.options),
            notes: it.notes.clone(),
            created: it.created,
            changed: it.changed,
            version: it.version,
            available: self.ready(id),
            delayed: soft.hidden.len() as u64,
            out: (soft.out.len() + soft.aside.len()) as u64,
            consumers: soft.consumers.len() as u32,
        };
        let queue = Box::new(info);
        draft.reply(from, lane, Wait::Durable, Event::Inspected { token, queue });
    }

    pub(super) fn decide_list(
        &self,
        from: SessionId,
        token: Token,
        lane: Lane,
        list: &List,
        draft: &mut Draft<'_>,
    ) {
        let Some(vhost) = self.attached(from).map(|attached| attached.vhost) else {
            return;
        };
        let limit = list.limit.clamp(1, LIST_MAX) as usize;
        match &list.of {
            Listed::Queues => {}
            Listed::Streams => {
                let (names, more) = self.list_streams(vhost, list, limit);
                let event = Event::Listed { token, names, more };
                return draft.reply(from, lane, Wait::Durable, event);
            }
            Listed::Topics => {
                let (names, more) = self.list_topics(vhost, list, limit);
                let event = Event::Listed { token, names, more };
                return draft.reply(from, lane, Wait::Durable, event);
            }
            Listed::Groups(stream) => {
                let Some((_, stream)) = self.stream_named(vhost, stream) else {
                    return self.refuse(from, lane, token, no_stream(stream), draft);
                };
                let (names, more) = self.list_groups(stream, list, limit);
                let event = Event::Listed { token, names, more };
                return draft.reply(from, lane, Wait::Durable, event);
            }
        }
        let first = list_from(list).map(|name| (vhost, name));
        let mut names = Vec::new();
        let mut more = false;
        let mut last = None;
        let known = self.soft.listed.range((first, Bound::Unbounded));
        for (looked, (at, name)) in known.enumerate() {
            if *at != vhost || !name.starts_with(&list.prefix) {
                break;
            }
            if names.len() == limit {
                more = true;
                break;
            }
            if looked == limit * LOOKS_EACH {
                // The list goes on behind a name that is not in it: told as the last, so that the asker can go on.
                more = true;
                names.extend(last);
                break;
            }
            last = Some(name.clone());
            if self.feeds(vhost, name, list.feeding.as_ref()) {
                names.push(name.clone());
                last = None;
            }
        }
        let event = Event::Listed { token, names, more };
        draft.reply(from, lane, Wait::Durable, event);
    }

    /// Whether a queue's redrive policy names that target; without one, always.
    fn feeds(&self, vhost: VhostId, name: &Name, target: Option<&Name>) -> bool {
        let Some(target) = target else { return true };
        self.named(vhost, name)
            .and_then(|id| self.queue(id))
            .and_then(|queue| queue.attributes().redrive.as_ref())
            .is_some_and(|redrive| redrive.target == *target)
    }

    pub(super) fn declare_new_queue(
        &self,
        vhost: VhostId,
        name: &Name,
        unless_deleted_ms: u64,
        (attributes, notes): (&QueueAttributes, &Notes),
        draft: &mut Draft<'_>,
    ) -> Result<(Name, u64, u32), Refusal> {
        if self.named(vhost, name).is_some() {
            return Err(refusal(
                RefusalKind::Inequivalent,
                format!("queue '{}' exists", shown(name)),
            ));
        }
        let deleted = self.soft.deleted.time(&(vhost, name.clone()));
        if deleted.is_some_and(|time| draft.now.since(time) < unless_deleted_ms) {
            return Err(refusal(
                RefusalKind::InUse,
                format!("queue '{}' was deleted a moment ago", shown(name)),
            ));
        }
        declare::check_queue_name(name)?;
        self.check_queue_room(draft)?;
        declare::check_attributes(attributes)?;
        let name = Bytes::copy_from_slice(name);
        let options = QueueOptions {
            durable: true,
            attributes: attributes.clone(),
            ..QueueOptions::default()
        };
        let queue = draft.new_queue(self, false);
        draft.change(Kind::QueueDeclared(Box::new(QueueDeclared {
            queue,
            vhost,
            name: name.clone(),
            options: Arc::new(declare::compact(&options)),
            notes: own(notes),
            ..QueueDeclared::default()
        })));
        Ok((name, 0, 0))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one command, and the draft"
    )]
    pub(super) fn declare_altered(
        &self,
        from: SessionId,
        vhost: VhostId,
        name: &Name,
        version: u64,
        attributes: &QueueAttributes,
        notes: &Notes,
        draft: &mut Draft<'_>,
    ) -> Result<(Name, u64, u32), Refusal> {
        let found = self.named(vhost, name);
        let Some((id, queue)) = found.and_then(|id| Some((id, self.queue(id)?))) else {
            return Err(missing(name));
        };
        self.check_owner(id, from)?;
        declare::check_attributes(attributes)?;
        let known = queue.attributes();
        let order = |it: &QueueAttributes| (it.fifo.is_some(), it.priority_max);
        if queue.declared.version != version || order(known) != order(attributes) {
            return Err(refusal(
                RefusalKind::Inequivalent,
                format!("queue '{}' is not what it was read as", shown(name)),
            ));
        }
        let options = QueueOptions {
            attributes: attributes.clone(),
            ..(*queue.declared.options).clone()
        };
        draft.change(Kind::QueueDeclared(Box::new(QueueDeclared {
            options: Arc::new(declare::compact(&options)),
            notes: own(notes),
            ..queue.declared.clone()
        })));
        Ok((name.clone(), self.ready(id), 0))
    }

    /// Changes what a door keeps with a queue, and nothing that the queue does.
    pub(super) fn declare_noted(
        &self,
        from: SessionId,
        vhost: VhostId,
        name: &Name,
        (version, notes): &(u64, Notes),
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        let found = self.named(vhost, name).and_then(|id| self.queue(id));
        let Some(queue) = found else {
            return Err(missing(name));
        };
        let attributes = queue.attributes();
        self.declare_altered(from, vhost, name, *version, attributes, notes, draft)?;
        Ok(())
    }
}

/// Where a list begins.
pub(super) fn list_from(list: &List) -> Bound<Name> {
    match &list.after {
        Some(after) if *after >= list.prefix => Bound::Excluded(after.clone()),
        _ => Bound::Included(list.prefix.clone()),
    }
}

/// Those names, in order, that have the list's prefix, at most so many, and whether there are more.
pub(super) fn list_page<'a>(
    names: impl Iterator<Item = &'a Name>,
    list: &List,
    limit: usize,
) -> (Vec<Name>, bool) {
    let mut names: Vec<Name> = names
        .take_while(|name| name.starts_with(&list.prefix))
        .take(limit + 1)
        .cloned()
        .collect();
    let more = names.len() > limit;
    names.truncate(limit);
    (names, more)
}

/// Notes in memory of their own: they outlive the request that they came in.
pub(super) fn own(notes: &Notes) -> Notes {
    let copy = |text: &Bytes| Bytes::copy_from_slice(text);
    let mut notes: Notes = notes.iter().map(|(k, v)| (copy(k), copy(v))).collect();
    notes.sort();
    notes.dedup_by(|b, a| a.0 == b.0);
    notes
}

fn missing(name: &Name) -> Refusal {
    refusal(RefusalKind::NotFound, format!("no queue '{}'", shown(name)))
}
