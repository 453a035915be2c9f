//! Topic objects and subscriptions.

use std::sync::Arc;

use message::Timestamp;

use crate::{
    Broker,
    durable::Seen,
    soft::Timer,
    topic::{Numbered, Subscribed, TopicDeclared, TopicDeleted, Unsubscribed},
};

impl Broker {
    pub(super) fn apply_topic_declared(&mut self, it: &TopicDeclared, now: Timestamp) {
        let mut declared = TopicDeclared {
            created: now,
            version: 0,
            deleted: 0,
            ..it.clone()
        };
        match self.durable.topics.topic(it.topic) {
            Some(known) => {
                declared.created = known.declared.created;
                declared.version = known.declared.version + 1;
                declared.deleted = known.declared.deleted;
                declared.doomed = known.declared.doomed;
            }
            None => self.counters.topics += 1,
        }
        self.durable.topics.declare(declared);
    }

    pub(super) fn apply_topic_deleted(&mut self, it: TopicDeleted, now: Timestamp) {
        let Some(topic) = self.durable.topics.topic(it.topic) else {
            return;
        };
        if !topic.declared.doomed {
            self.counters.topics -= 1;
        }
        self.durable.topics.delete(it);
        self.counters.subscriptions = self.durable.topics.subscriptions_len();
        self.doom_topics(now);
    }

    /// Topics that are deleted and still have subscriptions lose them in slices.
    pub(crate) fn doom_topics(&mut self, now: Timestamp) {
        if let Some(topic) = self.durable.topics.first_doomed() {
            self.soft.timers.insert((now, Timer::DoomedTopic(topic)));
        }
    }

    pub(super) fn apply_subscribed(&mut self, it: &Subscribed) {
        if it.target.is_none() || self.durable.topics.filter_of(it).is_none() {
            return;
        }
        let Some(name) = self.vhost_name(it.vhost) else {
            return;
        };
        let vhosts = &self.durable.vhosts;
        let find = |name: &str| crate::vhost_in(vhosts, name);
        self.durable.topics.subscribe(it.clone(), &name, find);
        self.counters.subscriptions = self.durable.topics.subscriptions_len();
    }

    pub(super) fn apply_unsubscribed(&mut self, it: &Unsubscribed) {
        for id in &it.ids {
            self.durable.topics.unsubscribe(*id);
        }
        self.counters.subscriptions = self.durable.topics.subscriptions_len();
    }

    pub(super) fn apply_numbered(&mut self, it: &Numbered, now: Timestamp) {
        let seen = Seen {
            time: now,
            qseq: it.sequence,
            message_id: it.message_id,
        };
        let keep_ms = self.config.dedup_ms;
        self.durable.topics.number(it, seen, keep_ms);
    }

    /// What an entry says of the subscription that it came through is the same for all of them, as long as nothing numbers
    /// them: they share it.
    pub(super) fn share_via(&self, via: &mut Arc<session::Via>) {
        let known = self.durable.topics.subscription(via.subscription);
        if let Some(shared) = known.and_then(|known| known.via.as_ref())
            && !Arc::ptr_eq(shared, via)
            && **shared == **via
        {
            *via = Arc::clone(shared);
        }
    }
}
