//! Random histories of topic objects and subscriptions against the plainest model there is, through restarts.

use std::collections::BTreeMap;

use message::{Address, Message, Value, VhostId};
use session::*;

use crate::rig::*;
use crate::subscriptions::{id, into_queue, new};

/// How long a dedup id is remembered, in ms.
const DEDUP_MS: u64 = 5 * 60 * 1000;
const QUEUES: [&str; 5] = ["plain", "small", "full", "fifo", "dead"];
const TOPICS: [&str; 3] = ["t0", "t1", "fifo.topic"];
const COLORS: [&str; 2] = ["red", "blue"];

/// SplitMix64.
struct Random(u64);

impl Random {
    const fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % end
    }

    const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What a delivery shows: its body, through which subscription and with which number it came, and where it was not taken.
type Shown = (String, Option<(SubscriptionId, u64)>, Option<String>);

#[derive(Default)]
struct Queue {
    entries: Vec<Shown>,
    dedups: BTreeMap<String, u64>,
}

struct Sub {
    target: &'static str,
    color: Option<&'static str>,
    raw: bool,
    dead_letters: bool,
    confirmed: bool,
    version: u64,
}

impl Sub {
    fn settings(&self) -> SubscriptionSettings {
        SubscriptionSettings {
            policy: self.color.map(|color| {
                let text = format!(r#"{{"color": ["{color}"]}}"#);
                (text.into(), PolicyScope::Attributes)
            }),
            raw: self.raw,
            dead_letter: self.dead_letters.then(|| (None, "dead".into())),
        }
    }
}

#[derive(Default)]
struct Topic {
    subs: BTreeMap<u8, Sub>,
    sequence: u64,
    dedups: BTreeMap<String, u64>,
    deleted: u64,
}

#[derive(Default)]
struct Model {
    queues: BTreeMap<&'static str, Queue>,
    topics: BTreeMap<&'static str, Topic>,
    dropped: u64,
}

impl Model {
    /// Whether a queue takes a message: `Err` is no, and why does not matter here.
    fn put(&mut self, queue: &str, shown: Shown, dedup: Option<&str>, now: u64) -> Result<(), ()> {
        let Some(known) = self.queues.get_mut(queue) else {
            return Err(());
        };
        let too_long = queue == "small" && shown.0.len() > 1;
        if too_long || queue == "full" && known.entries.len() >= 2 {
            return Err(());
        }
        if let Some(dedup) = dedup.filter(|_| queue == "fifo") {
            if is_seen(&known.dedups, dedup, now) {
                return Ok(());
            }
            known.dedups.insert(dedup.to_owned(), now);
        }
        known.entries.push(shown);
        Ok(())
    }

    /// How many subscriptions a message passes; `None`: it repeats another.
    fn publish(
        &mut self,
        name: &'static str,
        body: &str,
        color: &str,
        dedup: Option<&str>,
        now: u64,
    ) -> Option<(u32, Option<u64>)> {
        let Some(mut topic) = self.topics.remove(name) else {
            return Some((0, None));
        };
        let is_fifo = name == "fifo.topic";
        if let Some(dedup) = dedup.filter(|_| is_fifo) {
            if is_seen(&topic.dedups, dedup, now) {
                self.topics.insert(name, topic);
                return None;
            }
            topic.dedups.insert(dedup.to_owned(), now);
        }
        if is_fifo {
            topic.sequence += 1;
        }
        let mut passed = 0;
        for (number, sub) in &topic.subs {
            if !sub.confirmed || sub.color.is_some_and(|wanted| wanted != color) {
                continue;
            }
            passed += 1;
            let via = (!sub.raw).then(|| (id(*number), topic.sequence));
            let shown = (body.to_owned(), via, None);
            if self.put(sub.target, shown, dedup, now).is_ok() {
                continue;
            }
            let shown = (body.to_owned(), via, Some(sub.target.to_owned()));
            let dead = sub.dead_letters && self.put("dead", shown, dedup, now).is_ok();
            self.dropped += u64::from(!dead);
        }
        let sequence = is_fifo.then_some(topic.sequence);
        self.topics.insert(name, topic);
        Some((passed, sequence))
    }
}

fn is_seen(dedups: &BTreeMap<String, u64>, dedup: &str, now: u64) -> bool {
    dedups.get(dedup).is_some_and(|seen| now < seen + DEDUP_MS)
}

fn attributes(queue: &str) -> QueueAttributes {
    let fifo = Fifo {
        dedup_by_content: false,
        dedup_per_group: false,
    };
    QueueAttributes {
        message_len_max: (queue == "small").then_some(1),
        length_max: (queue == "full").then_some(2),
        overflow: match queue {
            "full" => Overflow::RejectPublish,
            _ => Overflow::DropHead,
        },
        fifo: (queue == "fifo").then_some(fifo),
        ..QueueAttributes::default()
    }
}

struct Play {
    rig: Rig,
    model: Model,
    random: Random,
    me: SessionId,
    bodies: u64,
    /// What restarts forget, and this must not.
    dropped_before: u64,
}

impl Play {
    fn step(&mut self) {
        match self.random.below(20) {
            0 => self.make_or_delete_topic(),
            1..=3 => self.subscribe(),
            4 => self.alter(),
            5 => self.unsubscribe(),
            6 | 7 => self.make_or_delete_queue(),
            8 | 9 => {
                let queue = self.random.pick(&QUEUES);
                self.drain(queue);
            }
            10 => {
                let ms = self.random.below(DEDUP_MS);
                self.rig.tick(ms);
            }
            11 if self.random.one_in(3) => self.restart(),
            12 => self.check_topics(),
            _ => self.publish(),
        }
    }

    fn make_or_delete_topic(&mut self) {
        let name = self.random.pick(&TOPICS);
        if self.model.topics.contains_key(name) {
            if self.random.one_in(2) {
                self.rig.topic_object(self.me, name, TopicTo::Delete);
                self.model.topics.remove(name);
            }
        } else {
            self.rig.new_topic(self.me, name, name == "fifo.topic");
            self.model.topics.insert(name, Topic::default());
        }
    }

    fn subscribe(&mut self) {
        let name = self.random.pick(&TOPICS);
        // A number is of one topic only.
        let place = TOPICS.iter().position(|topic| *topic == name).expect("one");
        let number = (self.random.below(8) * 3) as u8 + place as u8;
        let sub = Sub {
            target: self.random.pick(&QUEUES),
            color: self.random.one_in(3).then(|| self.random.pick(&COLORS)),
            raw: self.random.one_in(2),
            dead_letters: self.random.one_in(2),
            confirmed: !self.random.one_in(4),
            version: 1,
        };
        let new = NewSubscription {
            settings: sub.settings(),
            confirmed: sub.confirmed,
            ..new(number, name, into_queue(sub.target))
        };
        let event = self
            .rig
            .subscription(self.me, SubscriptionTo::Create(Box::new(new)));
        match (self.model.topics.get_mut(name), event) {
            (None, Event::Refused { refusal, .. }) => {
                assert_eq!(refusal.kind, RefusalKind::NotFound);
            }
            (Some(topic), Event::Subscription { subscription, .. }) => {
                // One that is there is the answer, as it is.
                let known = topic.subs.entry(number).or_insert(sub);
                assert_eq!(subscription.version, known.version);
                assert_eq!(subscription.target, into_queue(known.target));
            }
            (_, other) => panic!("{other:?}"),
        }
    }

    /// A subscription that is there.
    fn any_sub(&mut self) -> Option<(&'static str, u8)> {
        let all: Vec<_> = self
            .model
            .topics
            .iter()
            .flat_map(|(name, topic)| topic.subs.keys().map(|number| (*name, *number)))
            .collect();
        let at = self.random.below(all.len().max(1) as u64) as usize;
        all.get(at).copied()
    }

    fn alter(&mut self) {
        let Some((name, number)) = self.any_sub() else {
            return;
        };
        let topic = self.model.topics.get_mut(name).expect("seen");
        let sub = topic.subs.get_mut(&number).expect("seen");
        sub.raw = !sub.raw;
        sub.confirmed = self.random.one_in(2);
        sub.color = self.random.one_in(2).then_some("red");
        let to = SubscriptionTo::Alter {
            id: id(number),
            version: sub.version,
            settings: sub.settings(),
            confirmed: sub.confirmed,
            notes: Vec::new(),
            identity: None,
        };
        sub.version += 1;
        let event = self.rig.subscription(self.me, to);
        assert!(matches!(event, Event::Subscription { .. }), "{event:?}");
    }

    fn unsubscribe(&mut self) {
        let Some((name, number)) = self.any_sub() else {
            return;
        };
        let topic = self.model.topics.get_mut(name).expect("seen");
        topic.subs.remove(&number);
        topic.deleted += 1;
        let to = SubscriptionTo::Delete { id: id(number) };
        let event = self.rig.subscription(self.me, to);
        assert!(matches!(event, Event::Subscription { .. }), "{event:?}");
    }

    fn make_or_delete_queue(&mut self) {
        let queue = self.random.pick(&QUEUES);
        if self.model.queues.contains_key(queue) {
            if self.random.one_in(3) {
                let declare = Declare::DeleteQueue {
                    name: queue.into(),
                    if_unused: false,
                    if_empty: false,
                };
                self.rig.declare(self.me, declare);
                self.model.queues.remove(queue);
            }
        } else {
            self.rig.durable_queue(self.me, queue, attributes(queue));
            self.model.queues.insert(queue, Queue::default());
        }
    }

    fn publish(&mut self) {
        let topic = self.random.pick(&TOPICS);
        let color = self.random.pick(&COLORS);
        self.bodies += 1;
        let body = match self.random.below(2) {
            0 => "x".to_owned(),
            _ => format!("body {}", self.bodies),
        };
        let dedup = (!self.random.one_in(3)).then(|| self.random.below(6).to_string());
        let address = match self.random.below(2) {
            0 => Address::topic(VhostId::ROOT, levels(topic)),
            _ => Address::exchange(VhostId::ROOT, "amq.topic", levels(topic)),
        };
        let mut message = Message::new(address, body.clone().into());
        message.properties.push("color", Value::text(color));
        message.group = Some("g".into());
        let fields = message.fields_mut();
        fields.dedup_id = dedup.clone().map(Into::into);
        let outcome = self.rig.publish(self.me, message);
        let now = self.rig.now.0;
        let expected = self
            .model
            .publish(topic, &body, color, dedup.as_deref(), now);
        match (outcome, expected) {
            (PublishOutcome::Duplicate { .. }, None) => {}
            (
                PublishOutcome::Accepted {
                    matched, sequence, ..
                },
                Some(expected),
            ) => assert_eq!((matched, sequence), expected),
            (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
        }
        let dropped = self.rig.broker.counters().dropped_subscription;
        assert_eq!(self.dropped_before + dropped, self.model.dropped);
    }

    fn drain(&mut self, queue: &'static str) {
        let Some(known) = self.model.queues.get_mut(queue) else {
            return;
        };
        let expected = std::mem::take(&mut known.entries);
        let taken: Vec<Shown> = self
            .rig
            .take(self.me, queue)
            .into_iter()
            .map(|it| {
                let body = String::from_utf8_lossy(&it.message.body).into_owned();
                let via = it.via.map(|via| (via.subscription, via.sequence));
                let death = it
                    .deaths
                    .map(|deaths| String::from_utf8_lossy(&deaths[0].queue).into_owned());
                (body, via, death)
            })
            .collect();
        assert_eq!(taken, expected, "{queue}");
    }

    fn restart(&mut self) {
        self.rig.check_replay();
        self.dropped_before = self.model.dropped;
        self.rig.restart();
        // Replayed changes count nothing that is no record.
        self.dropped_before -= self.rig.broker.counters().dropped_subscription;
        self.me = self.rig.attach(1);
    }

    fn check_topics(&mut self) {
        for name in TOPICS {
            let event = self.rig.topic_object(self.me, name, TopicTo::Inspect);
            match (self.model.topics.get(name), event) {
                (None, Event::Refused { .. }) => {}
                (Some(known), Event::Topic { topic, .. }) => {
                    let confirmed = known.subs.values().filter(|sub| sub.confirmed).count() as u64;
                    let pending = known.subs.len() as u64 - confirmed;
                    assert_eq!(
                        (topic.confirmed, topic.pending, topic.deleted),
                        (confirmed, pending, known.deleted)
                    );
                    let ids = known.subs.keys().map(|number| id(*number)).collect();
                    let listed = self.rig.subscriptions(self.me, Some(name), None, 1000);
                    assert_eq!(listed, (ids, false));
                }
                (_, other) => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn topics_and_subscriptions_agree_with_the_plainest_model_through_restarts() {
    for seed in 1..=60 {
        let mut rig = Rig::new();
        let me = rig.attach(1);
        let mut play = Play {
            rig,
            me,
            model: Model::default(),
            random: Random(seed),
            bodies: 0,
            dropped_before: 0,
        };
        for _ in 0..150 {
            play.step();
        }
        play.restart();
        play.check_topics();
        for queue in QUEUES {
            play.drain(queue);
        }
        play.rig.check_replay();
    }
}
