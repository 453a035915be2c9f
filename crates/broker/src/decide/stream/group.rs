//! Consumer groups: leases and checkpoints for those who read by themselves, and shards shared among the members that records
//! are pushed to.
//!
//! A shard is one member's at a time. It changes hands when members come and go, so that none has two more than another; a
//! member that is to give one up gets no more of it, and the other goes on when everything is settled. A shard is given
//! to nobody before its parents have been worked on.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use message::{Name, Timestamp};
use session::{
    Event, GroupInfo, GroupShard, GroupTo, Lane, QueueId, Refusal, RefusalKind, SessionId, ShardNo,
    StreamId, StreamStart, Token,
};

use super::{Draft, no_stream, read::since_of, reader::start_of};
use crate::{
    Broker, Wait,
    change::Kind,
    decide::{
        inspect::{list_from, list_page},
        refusal, shown,
    },
    stream::{
        Assigned, Checkpointed, Group, GroupGone, GroupLeased, GroupMade, Reads, Shard, Stream,
    },
};

/// The longest name of a group or an owner, in bytes.
const NAME_LEN_MAX: usize = 256;
/// The shortest and the longest lease, in ms.
const LEASE_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

/// A member that records are pushed to, while it is decided what it has.
struct Member {
    queue: QueueId,
    /// What it has and keeps.
    keeps: Vec<ShardNo>,
    /// How many that others are to give up will be its own.
    awaits: usize,
}

impl Member {
    const fn share(&self) -> usize {
        self.keeps.len() + self.awaits
    }
}

pub(super) fn checked_name(name: &Bytes) -> Result<Bytes, Refusal> {
    if !(1..=NAME_LEN_MAX).contains(&name.len()) {
        return Err(refusal(
            RefusalKind::InvalidName,
            "the names of groups and owners have 1 to 256 bytes",
        ));
    }
    Ok(Bytes::copy_from_slice(name))
}

impl Broker {
    pub(super) fn check_group_room(&self, stream: &Stream) -> Result<(), Refusal> {
        if stream.groups.len() as u64 >= self.config.stream_groups_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many consumer groups of one stream",
            ));
        }
        Ok(())
    }

    pub(in crate::decide) fn decide_group(
        &self,
        from: SessionId,
        (token, lane): (Token, Lane),
        name: &Name,
        group: &Bytes,
        to: &GroupTo,
        draft: &mut Draft<'_>,
    ) {
        match self.work_on_group(from, name, group, to, draft) {
            Ok(info) => {
                let group = Box::new(info);
                draft.reply(from, lane, Wait::Durable, Event::Group { token, group });
            }
            Err(refusal) => self.refuse(from, lane, token, refusal, draft),
        }
    }

    fn work_on_group(
        &self,
        from: SessionId,
        name: &Name,
        group: &Bytes,
        to: &GroupTo,
        draft: &mut Draft<'_>,
    ) -> Result<GroupInfo, Refusal> {
        let vhost = self
            .attached(from)
            .map(|attached| attached.vhost)
            .ok_or_else(|| no_stream(name))?;
        let (id, stream) = self
            .stream_named(vhost, name)
            .ok_or_else(|| no_stream(name))?;
        let group_name = checked_name(group)?;
        let known = stream.groups.get(&group_name);
        if let (GroupTo::Create { start }, None) = (to, known) {
            if matches!(start, StreamStart::Last | StreamStart::Offset(_)) {
                return Err(refusal(
                    RefusalKind::InvalidArgument,
                    "a group begins at the first record, at the next, or at a time",
                ));
            }
            self.check_group_room(stream)?;
            let group = Group {
                start: start_of(stream, *start, draft.now),
                since: since_of(stream, *start),
                ..Group::default()
            };
            let info = self.group_info(id, stream, &group_name, &group, draft.now);
            draft.change(Kind::GroupMade(Box::new(GroupMade {
                stream: id,
                group: group_name,
                start: group.start,
                since: group.since,
            })));
            return Ok(info);
        }
        let Some(known) = known else {
            return Err(refusal(
                RefusalKind::NotFound,
                format!("no group '{}'", shown(group)),
            ));
        };
        let mut after = known.clone();
        let shard_of = |number: ShardNo| {
            stream
                .shards
                .get(&number)
                .ok_or_else(|| refusal(RefusalKind::NotFound, format!("no shard {}", number.0)))
        };
        let held_by = |number: ShardNo, owner: &Bytes| match known.lease(number, draft.now) {
            Some((holder, _)) if holder == owner => Ok(()),
            _ => Err(refusal(
                RefusalKind::NotOut,
                format!("shard {} is not leased to '{}'", number.0, shown(owner)),
            )),
        };
        match to {
            GroupTo::Create { .. } | GroupTo::Inspect => {}
            GroupTo::Delete => {
                self.cancel_readers(id, |reader| reader.group() == Some(&group_name), draft);
                draft.change(Kind::GroupGone(Box::new(GroupGone {
                    stream: id,
                    group: group_name.clone(),
                })));
            }
            GroupTo::Lease { shard, owner, ms } => {
                let it = shard_of(*shard)?;
                let owner = checked_name(owner)?;
                if !LEASE_MS.contains(ms) {
                    return Err(refusal(
                        RefusalKind::InvalidArgument,
                        "a lease lasts 1,000 to 3,600,000 ms",
                    ));
                }
                let other = known
                    .lease(*shard, draft.now)
                    .is_some_and(|(holder, _)| *holder != owner);
                if other || self.member_with(id, &group_name, *shard).is_some() {
                    return Err(refusal(
                        RefusalKind::InUse,
                        format!("shard {} is leased to another", shard.0),
                    ));
                }
                let place = known.places.get(shard);
                let was = place.and_then(|place| Some(&place.lease.as_ref()?.0));
                let counter = place.map_or(0, |place| place.counter);
                let counter = counter + u64::from(was != Some(&owner));
                let lease = Some((owner, draft.now.plus_ms(*ms)));
                set_lease(&mut after, *shard, it, lease.clone(), counter);
                draft.change(Kind::GroupLeased(Box::new(GroupLeased {
                    stream: id,
                    group: group_name.clone(),
                    shard: *shard,
                    lease,
                    counter,
                })));
            }
            GroupTo::Yield { shard, owner } => {
                let it = shard_of(*shard)?;
                held_by(*shard, owner)?;
                let counter = known.places.get(shard).map_or(0, |place| place.counter);
                set_lease(&mut after, *shard, it, None, counter);
                draft.change(Kind::GroupLeased(Box::new(GroupLeased {
                    stream: id,
                    group: group_name.clone(),
                    shard: *shard,
                    lease: None,
                    counter,
                })));
            }
            GroupTo::Checkpoint { shard, owner, next } => {
                shard_of(*shard)?;
                held_by(*shard, owner)?;
                if *next > stream.records.next() {
                    return Err(refusal(
                        RefusalKind::InvalidArgument,
                        "a checkpoint is not behind the end of the stream",
                    ));
                }
                after.places.entry(*shard).or_default().next = *next;
                draft.change(Kind::Checkpointed(Box::new(Checkpointed {
                    stream: id,
                    group: group_name.clone(),
                    places: vec![(*shard, *next)],
                })));
            }
        }
        Ok(self.group_info(id, stream, &group_name, &after, draft.now))
    }

    fn group_info(
        &self,
        id: StreamId,
        stream: &Stream,
        name: &Bytes,
        group: &Group,
        now: Timestamp,
    ) -> GroupInfo {
        let shards = stream
            .shards
            .iter()
            .map(|(number, shard)| {
                let done = group.is_done(*number, shard);
                let next = group.next_in(*number, shard);
                let member = self.member_with(id, name, *number);
                let lease = match member {
                    Some(member) => Some((self.member_name(member), Timestamp(u64::MAX))),
                    None => group.lease(*number, now).cloned(),
                };
                GroupShard {
                    shard: *number,
                    next: match shard.closed {
                        Some((_, end)) if done => next.max(end),
                        _ => next,
                    },
                    lease,
                    counter: group.places.get(number).map_or(0, |place| place.counter),
                    ready: group.is_ready(stream, shard),
                    done,
                }
            })
            .collect();
        GroupInfo {
            stream: stream.declared.name.clone(),
            group: name.clone(),
            shards,
        }
    }

    /// The member that records of a shard are pushed to.
    fn member_with(&self, id: StreamId, group: &Bytes, shard: ShardNo) -> Option<QueueId> {
        let readers = self.soft.streams.get(&id)?.readers.iter().copied();
        readers
            .filter(|queue| {
                matches!(
                    self.reader(*queue).map(|reader| &reader.reads),
                    Some(Reads::Member { group: of, shards }) if of == group && shards.contains_key(&shard)
                )
            })
            .min()
    }

    /// What a member that records are pushed to is called.
    fn member_name(&self, queue: QueueId) -> Bytes {
        let receiver = self.soft_queue(queue).consumers.values().next();
        Bytes::from(match receiver {
            Some((session, consumer)) => {
                format!("connection {} consumer {}", session.0, consumer.0)
            }
            None => "a consumer that has left".to_owned(),
        })
    }

    /// Shares the shards of a group among its members.
    pub(super) fn assign(&self, id: StreamId, name: &Bytes, draft: &mut Draft<'_>) {
        let mut assigned = Assigned {
            stream: id,
            group: name.clone(),
            ..Assigned::default()
        };
        if let Some(stream) = self.durable.streams.get(&id)
            && let Some(group) = stream.groups.get(name)
        {
            self.share_out(id, stream, name, group, &mut assigned, draft.now);
        }
        draft.change(Kind::Assigned(Box::new(assigned)));
    }

    fn share_out(
        &self,
        id: StreamId,
        stream: &Stream,
        name: &Bytes,
        group: &Group,
        assigned: &mut Assigned,
        now: Timestamp,
    ) {
        let mut members: Vec<Member> = Vec::new();
        // Shards that a member still has something of, though it is to give them up.
        let mut held: BTreeMap<ShardNo, QueueId> = BTreeMap::new();
        for queue in &self.soft.streams[&id].readers {
            let Some(reader) = self.reader(*queue) else {
                continue;
            };
            let Reads::Member { group: of, shards } = &reader.reads else {
                continue;
            };
            if of != name {
                continue;
            }
            let here = !self.soft_queue(*queue).consumers.is_empty();
            let mut keeps = Vec::new();
            for (number, member) in shards {
                let over = stream
                    .shards
                    .get(number)
                    .is_none_or(|shard| group.is_done(*number, shard));
                if here && !member.leaving && !over {
                    keeps.push(*number);
                } else if reader.is_through(*number) {
                    assigned.takes.push((*queue, *number));
                } else {
                    held.insert(*number, *queue);
                }
            }
            if here {
                members.push(Member {
                    queue: *queue,
                    keeps,
                    awaits: 0,
                });
            }
        }
        if members.is_empty() {
            return;
        }
        let kept: BTreeSet<ShardNo> = members
            .iter()
            .flat_map(|member| member.keeps.iter().copied())
            .collect();
        let mut gives = BTreeMap::new();
        for (number, shard) in &stream.shards {
            let taken = held.contains_key(number) || kept.contains(number);
            if taken || group.is_done(*number, shard) || !group.is_ready(stream, shard) {
                continue;
            }
            if let Some((_, until)) = group.lease(*number, now) {
                assigned.again = assigned
                    .again
                    .map_or(Some(*until), |at| Some(at.min(*until)));
                continue;
            }
            let poorest = poorest(&mut members);
            poorest.keeps.push(*number);
            gives.insert(*number, (poorest.queue, group.next_in(*number, shard)));
        }
        for _ in &held {
            poorest(&mut members).awaits += 1;
        }
        self.balance(stream, group, &mut members, &mut gives, assigned);
        let gives = gives.into_iter();
        assigned.gives = gives.map(|(shard, (to, next))| (to, shard, next)).collect();
    }

    /// Takes shards from those who have two more than another.
    fn balance(
        &self,
        stream: &Stream,
        group: &Group,
        members: &mut [Member],
        gives: &mut BTreeMap<ShardNo, (QueueId, u64)>,
        assigned: &mut Assigned,
    ) {
        loop {
            let len = |at: &usize| members[*at].share();
            let all = || 0..members.len();
            let (Some(rich), Some(poor)) = (all().max_by_key(len), all().min_by_key(len)) else {
                return;
            };
            if members[rich].share() < members[poor].share() + 2 {
                return;
            }
            let Some(number) = members[rich].keeps.pop() else {
                return;
            };
            let queue = members[rich].queue;
            let through = self
                .reader(queue)
                .is_some_and(|reader| reader.is_through(number));
            if let Some((to, _)) = gives.get_mut(&number) {
                *to = members[poor].queue;
            } else if through && let Some(shard) = stream.shards.get(&number) {
                assigned.takes.push((queue, number));
                let next = group.next_in(number, shard);
                gives.insert(number, (members[poor].queue, next));
            } else {
                assigned.leaves.push((queue, number));
            }
            members[poor].keeps.push(number);
        }
    }

    /// The names of groups that a list shows, and whether there are more.
    pub(in crate::decide) fn list_groups(
        &self,
        stream: &Stream,
        list: &session::List,
        limit: usize,
    ) -> (Vec<Name>, bool) {
        let known = stream.groups.range((list_from(list), Bound::Unbounded));
        list_page(known.map(|(name, _)| name), list, limit)
    }
}

/// Whoever has fewest.
fn poorest(members: &mut [Member]) -> &mut Member {
    members
        .iter_mut()
        .min_by_key(|member| member.share())
        .expect("there is a member")
}

fn set_lease(
    group: &mut Group,
    number: ShardNo,
    shard: &Shard,
    lease: Option<(Bytes, Timestamp)>,
    counter: u64,
) {
    let next = group.next_in(number, shard);
    let place = group.places.entry(number).or_default();
    place.next = next;
    place.lease = lease;
    place.counter = counter;
}
