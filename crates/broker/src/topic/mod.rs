//! Topic objects and subscriptions: what is kept of them.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | both, and the indexes over them |
//! | `change.rs` | what happens to them |
//! | `template.rs` | partition keys made of topics |
//!
//! There may be millions of subscriptions: of each, what a publish needs is at hand, and the rest is kept as the bytes of
//! its record. Those that a publish matches are found in a trie per virtual host, beside the bindings of the root space: a
//! subscription is no binding, for two to one queue are two entries.

mod change;
mod template;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use message::{Filter, Levels, Name, Pattern, Policy, Reader, VhostId, md5};
use rustc_hash::FxHashMap;
use session::{PolicyScope, SubscriptionId, SubscriptionTarget, Via};

pub(crate) use change::{Numbered, Subscribed, TopicDeclared, TopicDeleted, TopicNo, Unsubscribed};
pub(crate) use template::KeyTemplate;

use crate::{
    change::pattern_of,
    durable::{Dedup, Seen},
    record::wire::{Wire, put_field},
    routing::Trie,
};

/// A topic object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topic {
    pub(crate) declared: TopicDeclared,
    /// Publishes so far, if it is FIFO.
    pub(crate) sequence: u64,
    pub(crate) dedup: Dedup,
    /// Subscriptions that are confirmed, and that are not. Not in snapshots: counted anew.
    pub(crate) confirmed: u64,
    pub(crate) pending: u64,
    /// Those with filter policies. The same.
    pub(crate) policies: u64,
}

/// Where a subscription delivers.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Queue { vhost: At, name: Name },
    Stream { name: Name, key: KeyTemplate },
}

/// A virtual host: one that was there when it was looked for is known by its number.
#[derive(Clone, Debug)]
pub(crate) enum At {
    Known(VhostId),
    Named(Arc<str>),
}

/// Which messages pass a subscription.
#[derive(Clone, Debug)]
pub(crate) enum Filtering {
    All,
    /// Those whose properties do.
    Attributes(Box<Policy>),
    /// Those whose bodies do.
    Body(Box<Policy>),
    /// None: its policy was written by a program that knew more of them.
    Nothing,
}

impl Filtering {
    fn new(policy: &Option<(Bytes, PolicyScope)>) -> Self {
        match policy {
            None => Self::All,
            Some((text, PolicyScope::Attributes)) => {
                Policy::of_attributes(text).map_or(Self::Nothing, |it| Self::Attributes(it.into()))
            }
            Some((text, PolicyScope::Body)) => {
                Policy::of_body(text).map_or(Self::Nothing, |it| Self::Body(it.into()))
            }
        }
    }
}

/// A subscription.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) vhost: VhostId,
    pub(crate) topic: Option<TopicNo>,
    pub(crate) confirmed: bool,
    /// Messages that come into its dead-letter queue instead.
    pub(crate) dead_letters: bool,
    /// What deliveries say. `None`: nothing.
    pub(crate) via: Option<Arc<Via>>,
    pub(crate) place: Place,
    pub(crate) filtering: Filtering,
    /// All of it, as in its record.
    whole: Box<[u8]>,
}

impl Subscription {
    /// All of it.
    pub(crate) fn whole(&self) -> Subscribed {
        let mut reader = Reader::new(Bytes::copy_from_slice(&self.whole));
        Subscribed::read(&mut reader).expect("encoded here")
    }

    /// The same as bytes.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.whole
    }
}

/// All topic objects and subscriptions. Apart from what `encode` writes everything is an index.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    pub(crate) next: u64,
    topics: BTreeMap<TopicNo, Topic>,
    subscriptions: FxHashMap<SubscriptionId, Box<Subscription>>,
    names: BTreeMap<(VhostId, Name), TopicNo>,
    /// The names of those that have subscriptions.
    subscribed: BTreeMap<(VhostId, Name), TopicNo>,
    addresses: FxHashMap<(VhostId, Levels), TopicNo>,
    /// Those of each topic.
    of_topic: BTreeMap<TopicNo, BTreeSet<SubscriptionId>>,
    /// Those of no topic.
    routes: BTreeSet<(VhostId, SubscriptionId)>,
    /// By a hash of what tells them apart.
    identities: BTreeSet<(TopicNo, u64, SubscriptionId)>,
    tries: BTreeMap<VhostId, Trie<SubscriptionId>>,
    /// Subscriptions with policies that look at bodies.
    pub(crate) of_bodies: u64,
    /// How many FIFO topics that are found each virtual host has, how many subscriptions with policies, and how many that are not
    /// confirmed.
    fifo: BTreeMap<VhostId, u64>,
    policies: BTreeMap<VhostId, u64>,
    pending: BTreeMap<VhostId, u64>,
    /// Topics that are deleted and still have subscriptions.
    doomed: BTreeSet<TopicNo>,
}

/// Counts one more, or one less.
fn count(counts: &mut BTreeMap<VhostId, u64>, vhost: VhostId, comes: bool) {
    let known = counts.entry(vhost).or_default();
    if comes {
        *known += 1;
        return;
    }
    *known -= 1;
    if *known == 0 {
        counts.remove(&vhost);
    }
}

fn identity_hash(identity: &[u8]) -> u64 {
    let digest: [u8; 16] = md5::one(identity);
    u64::from_le_bytes(digest[..8].try_into().expect("half of it"))
}

impl Topics {
    pub(crate) fn topic(&self, topic: TopicNo) -> Option<&Topic> {
        self.topics.get(&topic)
    }

    pub(crate) fn named(&self, vhost: VhostId, name: &Name) -> Option<(TopicNo, &Topic)> {
        let topic = *self.names.get(&(vhost, name.clone()))?;
        Some((topic, self.topics.get(&topic)?))
    }

    /// The topic object at an address.
    pub(crate) fn at(&self, vhost: VhostId, address: &Levels) -> Option<(TopicNo, &Topic)> {
        if self.addresses.is_empty() {
            return None;
        }
        let topic = *self.addresses.get(&(vhost, address.clone()))?;
        Some((topic, self.topics.get(&topic)?))
    }

    pub(crate) fn len(&self) -> u64 {
        self.topics.len() as u64
    }

    /// FIFO topics of a virtual host.
    pub(crate) fn fifo_len(&self, vhost: VhostId) -> u64 {
        self.fifo.get(&vhost).copied().unwrap_or_default()
    }

    /// Subscriptions of a virtual host that have filter policies.
    pub(crate) fn policies_len(&self, vhost: VhostId) -> u64 {
        self.policies.get(&vhost).copied().unwrap_or_default()
    }

    /// Subscriptions of a virtual host that are not confirmed.
    pub(crate) fn pending_len(&self, vhost: VhostId) -> u64 {
        self.pending.get(&vhost).copied().unwrap_or_default()
    }

    pub(crate) fn subscriptions_len(&self) -> u64 {
        self.subscriptions.len() as u64
    }

    pub(crate) fn subscription(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.subscriptions.get(&id).map(|it| &**it)
    }

    /// The subscription of a topic that such an identity tells from its others.
    pub(crate) fn identified(&self, topic: TopicNo, identity: &[u8]) -> Option<Subscribed> {
        let hash = identity_hash(identity);
        let first = (topic, hash, SubscriptionId([0; 16]));
        let last = (topic, hash, SubscriptionId([0xff; 16]));
        self.identities
            .range(first..=last)
            .filter_map(|(_, _, id)| self.subscription(*id))
            .map(Subscription::whole)
            .find(|known| known.identity == identity)
    }

    /// Names of topics from that one on, in their order, with their numbers.
    pub(crate) fn names_from(
        &self,
        from: std::ops::Bound<(VhostId, Name)>,
    ) -> impl Iterator<Item = (VhostId, &Name, TopicNo)> {
        self.names
            .range((from, std::ops::Bound::Unbounded))
            .map(|((vhost, name), topic)| (*vhost, name, *topic))
    }

    /// The same, of those that have subscriptions.
    pub(crate) fn subscribed_from(
        &self,
        from: (VhostId, Name),
    ) -> impl Iterator<Item = (VhostId, &Name, TopicNo)> {
        self.subscribed
            .range(from..)
            .map(|((vhost, name), topic)| (*vhost, name, *topic))
    }

    /// The subscriptions of a topic behind `after`, in order.
    pub(crate) fn of_topic(
        &self,
        topic: TopicNo,
        after: Option<SubscriptionId>,
    ) -> impl Iterator<Item = SubscriptionId> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.of_topic
            .get(&topic)
            .into_iter()
            .flat_map(move |ids| ids.range((from, std::ops::Bound::Unbounded)))
            .copied()
    }

    /// Subscriptions without a topic of a virtual host behind `after`, in order.
    pub(crate) fn routes(
        &self,
        vhost: VhostId,
        after: Option<SubscriptionId>,
    ) -> impl Iterator<Item = SubscriptionId> {
        let from = match after {
            Some(id) => std::ops::Bound::Excluded((vhost, id)),
            None => std::ops::Bound::Included((vhost, SubscriptionId([0; 16]))),
        };
        self.routes
            .range((from, std::ops::Bound::Unbounded))
            .take_while(move |(at, _)| *at == vhost)
            .map(|(_, id)| *id)
    }

    /// The virtual hosts that have subscriptions without a topic.
    pub(crate) fn routed_vhosts(&self) -> impl Iterator<Item = VhostId> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let from = (VhostId(next), SubscriptionId([0; 16]));
            let (vhost, _) = *self.routes.range(from..).next()?;
            next = vhost.0.checked_add(1)?;
            Some(vhost)
        })
    }

    /// Whether any subscription may match in a virtual host.
    pub(crate) fn reads(&self, vhost: VhostId) -> bool {
        self.tries.contains_key(&vhost)
    }

    /// Confirmed subscriptions that read a topic.
    pub(crate) fn matching(
        &self,
        vhost: VhostId,
        key: &Levels,
        mut each: impl FnMut(SubscriptionId, &Subscription),
    ) {
        let Some(trie) = self.tries.get(&vhost) else {
            return;
        };
        trie.for_each_match(key, true, |id| {
            let Some(it) = self.subscription(*id) else {
                return;
            };
            let gone = |topic| !self.doomed.is_empty() && self.doomed.contains(&topic);
            if !it.topic.is_some_and(gone) {
                each(*id, it);
            }
        });
    }

    /// What a subscription reads.
    pub(crate) fn filter_of(&self, it: &Subscribed) -> Option<Filter> {
        match &it.filter {
            Some(filter) => Some(filter.clone()),
            None => {
                let topic = self.topics.get(&it.topic?)?;
                Some(Filter::Exact(topic.declared.address.clone()))
            }
        }
    }

    fn pattern(&self, it: &Subscribed) -> Pattern {
        self.filter_of(it)
            .as_ref()
            .and_then(pattern_of)
            .expect("what a subscription reads was looked at")
    }

    pub(crate) fn declare(&mut self, it: TopicDeclared) {
        let number = it.topic;
        self.next = self.next.max(number.0 + 1);
        if let Some(topic) = self.topics.get_mut(&number) {
            topic.declared = it;
            return;
        }
        self.index(&it);
        self.topics.insert(
            number,
            Topic {
                declared: it,
                ..Topic::default()
            },
        );
    }

    fn index(&mut self, it: &TopicDeclared) {
        if it.doomed {
            self.doomed.insert(it.topic);
            return;
        }
        if it.fifo.is_some() {
            count(&mut self.fifo, it.vhost, true);
        }
        self.names.insert((it.vhost, it.name.clone()), it.topic);
        self.addresses
            .insert((it.vhost, it.address.clone()), it.topic);
    }

    /// Nobody finds a topic any more.
    fn hide(&mut self, number: TopicNo) {
        let Some(topic) = self.topics.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut topic.declared.doomed, true) {
            return;
        }
        let it = &topic.declared;
        if it.fifo.is_some() {
            count(&mut self.fifo, it.vhost, false);
        }
        let name = (it.vhost, it.name.clone());
        self.names.remove(&name);
        self.subscribed.remove(&name);
        self.addresses.remove(&(it.vhost, it.address.clone()));
    }

    pub(crate) fn delete(&mut self, it: TopicDeleted) {
        self.hide(it.topic);
        if it.doomed {
            if self.topics.contains_key(&it.topic) {
                self.doomed.insert(it.topic);
            }
            return;
        }
        let ids = self.of_topic.get(&it.topic).cloned().unwrap_or_default();
        for id in ids {
            self.unsubscribe(id);
        }
        self.topics.remove(&it.topic);
        self.doomed.remove(&it.topic);
    }

    /// The first topic that is deleted and still has subscriptions.
    pub(crate) fn first_doomed(&self) -> Option<TopicNo> {
        self.doomed.first().copied()
    }

    /// A subscription comes, or is another from now on. `vhost` finds a virtual host by its name.
    pub(crate) fn subscribe(
        &mut self,
        mut it: Subscribed,
        vhost_name: &Arc<str>,
        vhost: impl Fn(&str) -> Option<VhostId>,
    ) {
        let id = it.id;
        it.version = match self.subscription(id) {
            Some(known) => known.whole().version + 1,
            None => it.version.max(1),
        };
        self.put(it, vhost_name, vhost);
    }

    /// The same, of that version.
    pub(crate) fn put(
        &mut self,
        it: Subscribed,
        vhost_name: &Arc<str>,
        vhost: impl Fn(&str) -> Option<VhostId>,
    ) {
        let id = it.id;
        if self.subscriptions.contains_key(&id) {
            self.forget(id);
        }
        let topic = it.topic.and_then(|topic| self.topics.get_mut(&topic));
        let name = topic.as_ref().map(|topic| topic.declared.name.clone());
        if let Some(topic) = topic {
            let count = if it.confirmed {
                &mut topic.confirmed
            } else {
                &mut topic.pending
            };
            *count += 1;
            topic.policies += u64::from(it.settings.policy.is_some());
        }
        if it.settings.policy.is_some() {
            count(&mut self.policies, it.vhost, true);
        }
        if !it.confirmed {
            count(&mut self.pending, it.vhost, true);
        }
        match it.topic {
            Some(topic) => {
                if let Some(name) = &name
                    && !self.doomed.contains(&topic)
                {
                    self.subscribed.insert((it.vhost, name.clone()), topic);
                }
                self.of_topic.entry(topic).or_default().insert(id);
                self.identities
                    .insert((topic, identity_hash(&it.identity), id));
            }
            None => {
                self.routes.insert((it.vhost, id));
            }
        }
        if it.confirmed {
            let pattern = self.pattern(&it);
            self.tries.entry(it.vhost).or_default().insert(&pattern, id);
        }
        let target = it.target.as_deref().expect("a subscription has a target");
        let place = match target {
            SubscriptionTarget::Queue { vhost: None, name } => Place::Queue {
                vhost: At::Known(it.vhost),
                name: name.clone(),
            },
            SubscriptionTarget::Queue {
                vhost: Some(at),
                name,
            } => Place::Queue {
                vhost: vhost(at).map_or_else(|| At::Named(Arc::clone(at)), At::Known),
                name: name.clone(),
            },
            SubscriptionTarget::Stream { name, key } => Place::Stream {
                name: name.clone(),
                key: KeyTemplate::new(key, &self.pattern(&it)),
            },
        };
        let mut whole = Vec::new();
        it.put(&mut whole);
        let via = name.filter(|_| !it.settings.raw).map(|topic| {
            Arc::new(Via {
                subscription: id,
                vhost: Arc::clone(vhost_name),
                topic,
                sequence: 0,
            })
        });
        let subscription = Subscription {
            vhost: it.vhost,
            topic: it.topic,
            confirmed: it.confirmed,
            dead_letters: it.settings.dead_letter.is_some(),
            via,
            place,
            filtering: Filtering::new(&it.settings.policy),
            whole: whole.into_boxed_slice(),
        };
        if matches!(subscription.filtering, Filtering::Body(_)) {
            self.of_bodies += 1;
        }
        self.subscriptions.insert(id, Box::new(subscription));
    }

    /// Takes a subscription out of every index.
    fn forget(&mut self, id: SubscriptionId) -> Option<Box<Subscription>> {
        let known = self.subscriptions.remove(&id)?;
        if matches!(known.filtering, Filtering::Body(_)) {
            self.of_bodies -= 1;
        }
        let it = known.whole();
        let has_policy = it.settings.policy.is_some();
        if has_policy {
            count(&mut self.policies, known.vhost, false);
        }
        if !known.confirmed {
            count(&mut self.pending, known.vhost, false);
        }
        if let Some(number) = known.topic {
            if let Some(topic) = self.topics.get_mut(&number) {
                let count = if known.confirmed {
                    &mut topic.confirmed
                } else {
                    &mut topic.pending
                };
                *count -= 1;
                topic.policies -= u64::from(has_policy);
            }
            if let Some(ids) = self.of_topic.get_mut(&number) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.of_topic.remove(&number);
                    if let Some(topic) = self.topics.get(&number).filter(|it| !it.declared.doomed) {
                        let name = (topic.declared.vhost, topic.declared.name.clone());
                        self.subscribed.remove(&name);
                    }
                }
            }
            self.identities
                .remove(&(number, identity_hash(&it.identity), id));
        } else {
            self.routes.remove(&(known.vhost, id));
        }
        if known.confirmed {
            let pattern = self.pattern(&it);
            if let Some(trie) = self.tries.get_mut(&known.vhost) {
                trie.remove(&pattern, &id);
                if trie.is_empty() {
                    self.tries.remove(&known.vhost);
                }
            }
        }
        Some(known)
    }

    pub(crate) fn unsubscribe(&mut self, id: SubscriptionId) {
        let Some(known) = self.forget(id) else { return };
        if let Some(topic) = known.topic.and_then(|topic| self.topics.get_mut(&topic)) {
            topic.declared.deleted += 1;
        }
    }

    pub(crate) fn number(&mut self, it: &Numbered, seen: Seen, keep_ms: u64) {
        let Some(topic) = self.topics.get_mut(&it.topic) else {
            return;
        };
        topic.sequence = topic.sequence.max(it.sequence);
        if let Some(id) = &it.dedup {
            topic.dedup.add(id, seen, keep_ms);
        }
    }

    /// So many numbers may have been given away by records that are lost, and so many of each topic's publishes.
    pub(crate) fn skip_numbers(&mut self, numbers: u64, sequences: u64) {
        self.next += numbers;
        for topic in self.topics.values_mut() {
            if topic.declared.fifo.is_some() {
                topic.sequence += sequences;
            }
        }
    }

    /// Every topic as the section of a snapshot.
    pub(crate) fn each_topic(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// Every subscription in an order that follows from what there is: those of topics by topic, then routes.
    pub(crate) fn each_subscription(&self) -> impl Iterator<Item = &Subscription> {
        self.of_topic
            .values()
            .flatten()
            .chain(self.routes.iter().map(|(_, id)| id))
            .filter_map(|id| self.subscription(*id))
    }

    /// A topic from a snapshot.
    pub(crate) fn restore(&mut self, topic: Topic) {
        self.index(&topic.declared);
        self.topics.insert(topic.declared.topic, topic);
    }
}

/// A topic in a snapshot.
pub(crate) fn put_topic(topic: &Topic, out: &mut Vec<u8>) {
    put_field(out, 1, |out| topic.declared.put(out));
    put_field(out, 2, |out| topic.sequence.put(out));
    put_field(out, 3, |out| topic.dedup.list().put(out));
    out.push(0);
}

/// Reads what [`put_topic`] wrote.
pub(crate) fn read_topic(reader: &mut Reader) -> Result<Topic, message::DecodeError> {
    let mut topic = Topic::default();
    crate::record::fields(reader, |number, part| {
        match number {
            1 => topic.declared = Wire::read(part)?,
            2 => topic.sequence = Wire::read(part)?,
            3 => topic.dedup = Dedup::from_list(Wire::read(part)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(topic)
}
