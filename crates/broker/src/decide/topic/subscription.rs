//! Subscriptions: made, changed, looked at, listed, deleted.

use bytes::Bytes;
use message::{Filter, Name, Policy, VhostId};
use session::{
    Event, Lane, ListSubscriptions, NewSubscription, PolicyScope, Refusal, RefusalKind, SessionId,
    SubscriptionId, SubscriptionInfo, SubscriptionSettings, SubscriptionTarget, SubscriptionTo,
    Token,
};

use super::{check_len, no_topic};
use crate::{
    Broker, Wait,
    change::{Kind, pattern_of},
    decide::{draft::Draft, inspect::own, refusal, shown},
    record::wire::Wire as _,
    soft::Attached,
    topic::{Subscribed, Subscription, TopicNo, Unsubscribed},
};

/// Subscriptions of one list.
const LIST_MAX: u32 = 1000;
/// Bytes of what tells a subscription from others.
const IDENTITY_LEN_MAX: usize = 4096;

/// What a permission question needs to know of a subscription.
#[derive(Clone, Debug)]
pub struct SubscriptionPlace {
    /// What it reads.
    pub filter: Filter,
    /// Where it delivers.
    pub target: SubscriptionTarget,
}

impl Broker {
    /// A subscription, for who may see it in that virtual host.
    #[must_use]
    pub fn subscription_place(
        &self,
        vhost: VhostId,
        id: SubscriptionId,
    ) -> Option<SubscriptionPlace> {
        let found = self.durable.topics.subscription(id);
        let it = found.filter(|it| it.vhost == vhost)?.whole();
        Some(SubscriptionPlace {
            filter: self.durable.topics.filter_of(&it)?,
            target: *it.target?,
        })
    }

    pub(in crate::decide) fn decide_subscription(
        &self,
        from: SessionId,
        (token, lane): (Token, Lane),
        to: &SubscriptionTo,
        draft: &mut Draft<'_>,
    ) {
        let Some(attached) = self.attached(from) else {
            return;
        };
        let done = match to {
            SubscriptionTo::Create(new) => self.new_subscription(attached, new, draft),
            SubscriptionTo::Alter {
                id,
                version,
                settings,
                confirmed,
                notes,
                identity,
            } => self.seen(attached, *id).and_then(|known| {
                let known = known.whole();
                check_settings(settings)?;
                if known.settings.policy.is_none() {
                    self.check_policies(known.vhost, known.topic, settings)?;
                }
                if known.version != *version {
                    return Err(refusal(
                        RefusalKind::Inequivalent,
                        "the subscription is not what it was read as",
                    ));
                }
                let identity = identity.as_ref().unwrap_or(&known.identity);
                check_identity(identity)?;
                let other = known
                    .topic
                    .and_then(|topic| self.durable.topics.identified(topic, identity));
                if other.is_some_and(|other| other.id != *id) {
                    return Err(refusal(
                        RefusalKind::InUse,
                        "another subscription of the topic is told from its others by that",
                    ));
                }
                let it = compact(&Subscribed {
                    settings: settings.clone(),
                    confirmed: *confirmed,
                    identity: identity.clone(),
                    notes: own(notes),
                    version: known.version + 1,
                    ..known
                });
                check_len(&it)?;
                let info = self.subscription_info(&it);
                draft.change(Kind::Subscribed(Box::new(it)));
                Ok(info)
            }),
            SubscriptionTo::Delete { id } => self.seen(attached, *id).map(|known| {
                draft.change(Kind::Unsubscribed(Box::new(Unsubscribed {
                    ids: vec![*id],
                })));
                self.subscription_info(&known.whole())
            }),
            SubscriptionTo::Inspect { id } => self
                .seen(attached, *id)
                .map(|known| self.subscription_info(&known.whole())),
        };
        match done {
            Ok(subscription) => {
                let event = Event::Subscription {
                    token,
                    subscription: Box::new(subscription),
                };
                draft.reply(from, lane, Wait::Durable, event);
            }
            Err(refusal) => self.refuse(from, lane, token, refusal, draft),
        }
    }

    /// A subscription that the connection may know of.
    fn seen(&self, attached: &Attached, id: SubscriptionId) -> Result<&Subscription, Refusal> {
        self.durable
            .topics
            .subscription(id)
            .filter(|it| attached.broker || it.vhost == attached.vhost)
            .filter(|it| {
                let topic = it.topic.and_then(|topic| self.durable.topics.topic(topic));
                topic.is_none_or(|topic| !topic.declared.doomed)
            })
            .ok_or_else(|| refusal(RefusalKind::NotFound, "no such subscription"))
    }

    fn new_subscription(
        &self,
        attached: &Attached,
        new: &NewSubscription,
        draft: &mut Draft<'_>,
    ) -> Result<SubscriptionInfo, Refusal> {
        let topic = match &new.topic {
            None => None,
            Some(name) => {
                let found = self.durable.topics.named(attached.vhost, name);
                Some(found.ok_or_else(|| no_topic(name))?.0)
            }
        };
        let known = topic.and_then(|topic| self.durable.topics.identified(topic, &new.identity));
        if let Some(known) = known {
            return Ok(self.subscription_info(&known));
        }
        if let Some(known) = self.durable.topics.subscription(new.id) {
            let known = known.whole();
            // A repeat of the same request.
            if known.topic == topic && known.vhost == attached.vhost {
                return Ok(self.subscription_info(&known));
            }
            return Err(refusal(
                RefusalKind::Inequivalent,
                "there is another subscription of that number",
            ));
        }
        self.check_new(topic, new)?;
        if !new.confirmed {
            self.check_pending(attached.vhost)?;
        }
        self.check_policies(attached.vhost, topic, &new.settings)?;
        let it = compact(&Subscribed {
            id: new.id,
            vhost: attached.vhost,
            topic,
            filter: new.filter.clone(),
            target: Some(Box::new(new.target.clone())),
            settings: new.settings.clone(),
            confirmed: new.confirmed,
            identity: new.identity.clone(),
            owner: Some(attached.user.clone()),
            notes: own(&new.notes),
            version: 1,
        });
        check_len(&it)?;
        let info = self.subscription_info(&it);
        draft.change(Kind::Subscribed(Box::new(it)));
        Ok(info)
    }

    fn check_new(&self, topic: Option<TopicNo>, new: &NewSubscription) -> Result<(), Refusal> {
        let invalid = |what: &'static str| Err(refusal(RefusalKind::InvalidArgument, what));
        match &new.filter {
            None if topic.is_none() => return invalid("a route reads nothing"),
            Some(filter) if pattern_of(filter).is_none() => {
                return invalid("a subscription reads a topic or a pattern");
            }
            _ => {}
        }
        check_identity(&new.identity)?;
        let name = match &new.target {
            SubscriptionTarget::Queue { name, .. } | SubscriptionTarget::Stream { name, .. } => {
                name
            }
        };
        if name.is_empty() || name.len() > message::NAME_LEN_MAX {
            return Err(refusal(
                RefusalKind::InvalidName,
                format!("'{}' cannot be subscribed", shown(name)),
            ));
        }
        check_settings(&new.settings)?;
        if self.durable.topics.subscriptions_len() >= self.config.subscriptions_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many subscriptions",
            ));
        }
        let of = topic.and_then(|topic| self.durable.topics.topic(topic));
        let fifo = of.filter(|it| it.declared.fifo.is_some());
        let max = self.config.fifo_subscriptions_max;
        if fifo.is_some_and(|it| it.confirmed + it.pending >= max) {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many subscriptions of a FIFO topic",
            ));
        }
        Ok(())
    }

    /// Whether there may be one more subscription that is not confirmed.
    fn check_pending(&self, vhost: VhostId) -> Result<(), Refusal> {
        if self.durable.topics.pending_len(vhost) >= self.config.pending_subscriptions_max {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                "too many subscriptions that are not confirmed",
            ));
        }
        Ok(())
    }

    /// Whether there may be one more filter policy, if there is one in the settings.
    fn check_policies(
        &self,
        vhost: VhostId,
        topic: Option<TopicNo>,
        settings: &SubscriptionSettings,
    ) -> Result<(), Refusal> {
        let topics = &self.durable.topics;
        if settings.policy.is_none() {
            return Ok(());
        }
        let of_topic = topic.and_then(|topic| topics.topic(topic));
        let many = if of_topic.is_some_and(|it| it.policies >= self.config.topic_policies_max) {
            "too many filter policies of the topic"
        } else if topics.policies_len(vhost) >= self.config.policies_max {
            "too many filter policies"
        } else {
            return Ok(());
        };
        Err(refusal(RefusalKind::QuotaExceeded, many)
            .but_known(Some(Bytes::from_static(Refusal::POLICIES))))
    }

    fn subscription_info(&self, it: &Subscribed) -> SubscriptionInfo {
        let topics = &self.durable.topics;
        let topic = it.topic.and_then(|topic| topics.topic(topic));
        SubscriptionInfo {
            id: it.id,
            vhost: self.vhost_name(it.vhost).unwrap_or_default(),
            topic: topic.map(|topic| topic.declared.name.clone()),
            filter: topics.filter_of(it).unwrap_or(Filter::All),
            target: it
                .target
                .as_deref()
                .cloned()
                .expect("a subscription has a target"),
            settings: it.settings.clone(),
            confirmed: it.confirmed,
            identity: it.identity.clone(),
            owner: it.owner.clone().unwrap_or_default(),
            notes: it.notes.clone(),
            version: it.version,
        }
    }

    pub(in crate::decide) fn decide_list_subscriptions(
        &self,
        from: SessionId,
        it: &ListSubscriptions,
        draft: &mut Draft<'_>,
    ) {
        let Some(vhost) = self.attached(from).map(|attached| attached.vhost) else {
            return;
        };
        let topics = &self.durable.topics;
        let limit = it.limit.clamp(1, LIST_MAX) as usize;
        let behind = |name: &Name| match &it.after {
            Some((topic, id)) if topic == name => Some(*id),
            _ => None,
        };
        let ids: Vec<SubscriptionId> = match &it.topic {
            Some(name) if name.is_empty() => {
                topics.routes(vhost, behind(name)).take(limit + 1).collect()
            }
            Some(name) => match topics.named(vhost, name) {
                Some((topic, _)) => topics
                    .of_topic(topic, behind(name))
                    .take(limit + 1)
                    .collect(),
                None => return self.refuse(from, it.lane, it.token, no_topic(name), draft),
            },
            None => {
                let first = it.after.as_ref().map_or_else(Name::new, |it| it.0.clone());
                topics
                    .subscribed_from((vhost, first))
                    .take_while(|(at, ..)| *at == vhost)
                    .flat_map(|(_, name, topic)| topics.of_topic(topic, behind(name)))
                    .take(limit + 1)
                    .collect()
            }
        };
        let more = ids.len() > limit;
        let subscriptions = ids
            .iter()
            .take(limit)
            .filter_map(|id| topics.subscription(*id))
            .map(|known| self.subscription_info(&known.whole()))
            .collect();
        let event = Event::ListedSubscriptions {
            token: it.token,
            subscriptions,
            more,
        };
        draft.reply(from, it.lane, Wait::Durable, event);
    }
}

/// In memory of its own: it must not pin the read buffer that it came in.
fn compact(it: &Subscribed) -> Subscribed {
    let mut bytes = Vec::new();
    it.put(&mut bytes);
    Subscribed::read(&mut message::Reader::new(Bytes::from(bytes))).expect("what was just written")
}

fn check_identity(identity: &[u8]) -> Result<(), Refusal> {
    if identity.len() > IDENTITY_LEN_MAX {
        return Err(refusal(
            RefusalKind::InvalidArgument,
            "what tells the subscription from others is too long",
        ));
    }
    Ok(())
}

fn check_settings(settings: &SubscriptionSettings) -> Result<(), Refusal> {
    let checked = match &settings.policy {
        None => return Ok(()),
        Some((text, PolicyScope::Attributes)) => Policy::of_attributes(text),
        Some((text, PolicyScope::Body)) => Policy::of_body(text),
    };
    match checked {
        Ok(_) => Ok(()),
        Err(error) => Err(refusal(RefusalKind::InvalidArgument, error.to_string())),
    }
}
