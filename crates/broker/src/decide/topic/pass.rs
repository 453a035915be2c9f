//! Messages that come to topic objects: what a FIFO one lets pass, and what subscriptions make of a message.
//!
//! Whatever becomes of a message at a subscription, its publisher is not to blame: what the target does not take goes into
//! the subscription's dead-letter queue, or is dropped and counted.
//!
//! A FIFO topic object looks at what is published at its address, through whichever door: a repeat is confirmed and reaches
//! nobody. What comes to the address over bindings between exchanges, or as a dead letter, passes without a number.

use std::{borrow::Cow, sync::Arc};

use message::{
    Address, Kind as AddressKind, Levels, Message, PolicyBody, Timestamp, Value, VhostId,
};
use session::{
    Brought, Death, DeathReason, DeliveryId, First, Original, QueueId, RefusalKind, SubscriptionId,
    Via,
};
use smallvec::SmallVec;

use crate::{
    Broker,
    apply::ROOT,
    change::Entrant,
    counters::Tally,
    decide::{
        dead_letter::with_death,
        draft::Draft,
        publish::{Admission, Incoming, dedup_key},
        route::exchange_and_key,
        stream::StreamMatch,
    },
    queue::Rare,
    stream::RecordEntrant,
    topic::{At, Filtering, Numbered, Place, Subscription},
};

/// What FIFO topic objects make of a publish.
#[derive(Default)]
pub(in crate::decide) struct Passing {
    pub(in crate::decide) numbered: Vec<Numbered>,
    /// The keys at which it repeats an earlier one.
    pub(in crate::decide) repeated: Vec<Levels>,
    /// The message that the last of them repeats.
    pub(in crate::decide) original: Option<Original>,
}

/// Where what came through subscriptions goes.
#[derive(Default)]
pub(in crate::decide) struct Through {
    pub(in crate::decide) targets: SmallVec<[Entrant; 1]>,
    pub(in crate::decide) records: Vec<RecordEntrant>,
    /// Whether streams keep it: not what is in memory only, and left a queue.
    pub(in crate::decide) is_kept: bool,
    /// Subscriptions that it passed, whatever became of it there.
    pub(in crate::decide) passed: u32,
}

impl Broker {
    /// Looks for FIFO topic objects at the address of a publish. `None`: there can be none.
    pub(in crate::decide) fn pass_topics(
        &self,
        message: &Message,
        draft: &Draft<'_>,
    ) -> Option<Passing> {
        if self.durable.topics.len() == 0 {
            return None;
        }
        let address = &message.address;
        let is_root = match address.kind {
            AddressKind::Topic => true,
            AddressKind::Exchange => address.name == ROOT,
            AddressKind::Queue | AddressKind::Stream => false,
        };
        if !is_root {
            return None;
        }
        let mut passing = Passing::default();
        for key in std::iter::once(&address.key).chain(&message.fields().carbon_copies) {
            let Some((number, topic)) = self.durable.topics.at(address.vhost, key) else {
                continue;
            };
            let Some(fifo) = topic.declared.fifo else {
                continue;
            };
            let again = |it: &Numbered| it.topic == number;
            if passing.numbered.iter().any(again) || passing.repeated.contains(key) {
                continue;
            }
            let dedup = dedup_key(message, fifo.dedup_per_group);
            if let Some(dedup) = &dedup {
                let seen = topic.dedup.find(dedup, draft.now, self.config.dedup_ms);
                let seen = seen.map(|seen| original(seen.qseq, seen.message_id));
                let seen = seen.or_else(|| draft.topic_dedup_of(number, dedup));
                if seen.is_some() {
                    passing.repeated.push(key.clone());
                    passing.original = seen;
                    continue;
                }
            }
            let message_id = match &message.fields().message_id {
                Some(Value::Uuid(id)) => Some(*id),
                _ => None,
            };
            passing.numbered.push(Numbered {
                topic: number,
                sequence: topic.sequence + draft.passed(number) + 1,
                message_id: message_id.filter(|_| dedup.is_some()),
                dedup,
            });
        }
        Some(passing)
    }

    /// Takes a message to the targets of the subscriptions that it matched, in the order of their numbers.
    pub(in crate::decide) fn place_through(
        &self,
        matched: &[(SubscriptionId, Levels)],
        incoming: &Incoming<'_>,
        numbered: &[Numbered],
        through: &mut Through,
        draft: &mut Draft<'_>,
    ) {
        let mut body = None;
        let mut filtered = 0;
        let others = through.targets.len();
        for (id, key) in matched {
            let Some(it) = self.durable.topics.subscription(*id) else {
                continue;
            };
            if !passes(&it.filtering, incoming.message, &mut body, draft) {
                filtered += 1;
                continue;
            }
            through.passed += 1;
            let rare = Rare {
                via: it.via.as_ref().map(|via| numbered_via(it, via, numbered)),
                ..incoming.rare.cloned().unwrap_or_default()
            };
            let within = Incoming {
                rare: Some(&rare),
                ..*incoming
            };
            let refused = match &it.place {
                Place::Queue { vhost, name } => {
                    let queue = self.at(vhost).and_then(|vhost| {
                        let queue = self.named(vhost, name)?;
                        self.takes(it, vhost, queue, draft.now).then_some(queue)
                    });
                    match queue.map(|queue| self.admit(queue, &within, draft)) {
                        Some(Admission::Take(entrant)) => {
                            through.targets.push(entrant);
                            None
                        }
                        Some(Admission::Duplicate(_)) => None,
                        Some(Admission::Refuse(RefusalKind::TooLarge)) => {
                            Some(DeathReason::TooLarge)
                        }
                        Some(Admission::Refuse(_) | Admission::Discard(_)) => {
                            Some(DeathReason::MaxLen)
                        }
                        None => Some(DeathReason::Rejected),
                    }
                }
                Place::Stream {
                    name,
                    key: template,
                } => match self.stream_named(it.vhost, name) {
                    Some((stream, _)) if through.is_kept => {
                        let to = StreamMatch {
                            stream,
                            key: template.key(key),
                        };
                        match self.admit_record(&to, incoming.message, draft) {
                            Ok(record) => {
                                through.records.push(record);
                                None
                            }
                            Err(refusal) if refusal.kind == RefusalKind::TooLarge => {
                                Some(DeathReason::TooLarge)
                            }
                            Err(_) => Some(DeathReason::MaxLen),
                        }
                    }
                    _ => Some(DeathReason::Rejected),
                },
            };
            if let Some(reason) = refused {
                self.dead_letter_through(it, reason, &within, through, draft);
            }
        }
        if filtered > 0 {
            draft.count(Tally::Filtered, filtered);
        }
        say_which(incoming.message, &mut through.targets[others..], draft.now);
    }

    /// What the target of a subscription does not take goes into its dead-letter queue.
    fn dead_letter_through(
        &self,
        it: &Subscription,
        reason: DeathReason,
        incoming: &Incoming<'_>,
        through: &mut Through,
        draft: &mut Draft<'_>,
    ) {
        let found = self.dead_letter_queue(it, draft.now);
        let Some((queue, address)) = found else {
            return draft.count(Tally::DroppedSubscription, 1);
        };
        let rare = incoming.rare.cloned().unwrap_or_default();
        let own = rare.readdressed.as_deref();
        let (exchange, key) = exchange_and_key(own.unwrap_or(&incoming.message.address));
        let name = match &it.place {
            Place::Queue { name, .. } | Place::Stream { name, .. } => name.clone(),
        };
        let death = Death {
            queue: name,
            reason,
            count: 1,
            time: draft.now,
            exchange,
            key: key.compact(),
            original_ttl_ms: incoming.expiry.map(|expiry| expiry.since(draft.now)),
        };
        let rare = Rare {
            deaths: Some(Arc::new(with_death(rare.deaths.as_deref(), death))),
            readdressed: Some(Arc::new(address)),
            ..rare
        };
        let dead = Incoming {
            expiry: None,
            rare: Some(&rare),
            ..*incoming
        };
        match self.admit(queue, &dead, draft) {
            Admission::Take(entrant) => {
                through.targets.push(entrant);
                draft.count(Tally::DeadLettered, 1);
            }
            Admission::Duplicate(_) => {}
            Admission::Refuse(_) | Admission::Discard(_) => {
                draft.count(Tally::DroppedSubscription, 1);
            }
        }
    }

    fn dead_letter_queue(&self, it: &Subscription, now: Timestamp) -> Option<(QueueId, Address)> {
        if !it.dead_letters {
            return None;
        }
        let (vhost, name) = it.whole().settings.dead_letter?;
        let vhost = match vhost {
            Some(vhost) => self.vhost(&vhost)?,
            None => it.vhost,
        };
        let queue = self.named(vhost, &name)?;
        let taken = self.takes(it, vhost, queue, now);
        taken.then(|| (queue, Address::queue(vhost, name)))
    }

    /// Whether a queue takes what a subscription brings. A route is the operator's, so nobody is asked.
    fn takes(&self, it: &Subscription, vhost: VhostId, queue: QueueId, now: Timestamp) -> bool {
        let (Some(gate), Some(topic)) = (&self.gate, it.topic) else {
            return true;
        };
        let Some(queue) = self.queue(queue).map(|queue| &queue.declared) else {
            return false;
        };
        if vhost == it.vhost && queue.notes.is_empty() {
            return true;
        }
        let names = (self.vhost_name(it.vhost), self.vhost_name(vhost));
        let topic = self.durable.topics.topic(topic);
        let (Some(topic), (Some(from), Some(to))) = (topic, names) else {
            return false;
        };
        gate.takes(&Brought {
            from: &from,
            topic: &topic.declared.name,
            to: &to,
            queue: &queue.name,
            notes: &queue.notes,
            now,
        })
    }

    fn at(&self, vhost: &At) -> Option<VhostId> {
        match vhost {
            At::Known(vhost) => Some(*vhost),
            At::Named(name) => self.vhost(name),
        }
    }
}

/// A message that a FIFO topic object has let pass.
pub(in crate::decide) fn original(sequence: u64, message_id: Option<[u8; 16]>) -> Original {
    Original {
        place: DeliveryId {
            queue: QueueId::default(),
            qseq: sequence,
        },
        message_id,
    }
}

/// Whether a policy lets a message pass. Its body is read once, and not at all where that was done before the lock was taken.
fn passes<'a>(
    filtering: &Filtering,
    message: &Arc<Message>,
    read: &mut Option<Cow<'a, PolicyBody>>,
    draft: &Draft<'a>,
) -> bool {
    match filtering {
        Filtering::All => true,
        Filtering::Nothing => false,
        Filtering::Attributes(policy) => policy.passes_properties(&message.properties),
        Filtering::Body(policy) => policy.passes_body(read.get_or_insert_with(|| {
            let known = draft
                .bodies
                .iter()
                .find(|(known, _)| Arc::ptr_eq(known, message));
            match known {
                Some((_, body)) => Cow::Borrowed(body),
                None => Cow::Owned(PolicyBody::read(&message.body)),
            }
        })),
    }
}

/// Says of entries which message they are, for who shows them in an envelope. One with a UUID says it itself.
fn say_which(message: &Message, targets: &mut [Entrant], now: Timestamp) {
    if matches!(message.fields().message_id, Some(Value::Uuid(_))) {
        return;
    }
    let mut first = None;
    for target in targets {
        let place = First {
            queue: target.queue,
            qseq: target.qseq,
            time: now,
        };
        if let Some(rare) = target.rare.as_mut().filter(|rare| rare.via.is_some()) {
            // A dead letter that comes through a topic again is the same message still.
            let known = rare.first.or(first).unwrap_or(place);
            rare.first = Some(known);
            first = Some(known);
        }
    }
}

/// What a delivery says of a subscription: with the message's number in the topic, if it has one.
fn numbered_via(it: &Subscription, via: &Arc<Via>, numbered: &[Numbered]) -> Arc<Via> {
    let number = numbered
        .iter()
        .find(|number| Some(number.topic) == it.topic);
    match number {
        Some(number) => Arc::new(Via {
            sequence: number.sequence,
            ..(**via).clone()
        }),
        None => Arc::clone(via),
    }
}
