//! How many topic objects, subscriptions and policies there may be.

use session::*;

use crate::{rig::*, subscriptions::*};

/// A number of each may be made in a virtual host, or of a topic; what goes makes room, also after a restart.
#[test]
fn fifo_topics_their_subscriptions_and_filter_policies_are_counted() {
    let mut rig = Rig::with(broker::Config {
        fifo_topics_max: 2,
        fifo_subscriptions_max: 2,
        topic_policies_max: 2,
        policies_max: 3,
        ..broker::Config::default()
    });
    let a = rig.attach(1);
    let create = |name: &str| TopicTo::Create {
        address: levels(name),
        fifo: Some(Fifo {
            dedup_by_content: false,
            dedup_per_group: false,
        }),
        notes: Vec::new(),
    };
    let many = |event: Event, policies: bool| {
        let Event::Refused { refusal, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(refusal.kind, RefusalKind::QuotaExceeded, "{refusal:?}");
        let known = refusal.known.as_deref();
        assert_eq!(known, policies.then_some(Refusal::POLICIES), "{refusal:?}");
    };
    let filtered = |number: u8, topic: &str| NewSubscription {
        settings: SubscriptionSettings {
            policy: Some((br#"{"a":["b"]}"#[..].into(), PolicyScope::Attributes)),
            ..SubscriptionSettings::default()
        },
        ..new(number, topic, into_queue("q"))
    };
    let made = |it: NewSubscription| SubscriptionTo::Create(Box::new(it));
    for name in ["f1", "f2"] {
        rig.new_topic(a, name, true);
    }
    many(rig.topic_object(a, "f3", create("f3")), false);
    for name in ["s1", "s2"] {
        rig.new_topic(a, name, false);
    }
    for number in [1, 2] {
        rig.subscribed(a, new(number, "f1", into_queue("q")));
    }
    let third = || made(new(3, "f1", into_queue("q")));
    many(rig.subscription(a, third()), false);
    for (number, topic) in [(10, "s1"), (11, "s1"), (12, "s2")] {
        rig.subscribed(a, filtered(number, topic));
    }
    // Of the topic, of all topics, and by a change; one without a policy and the change of a policy are none more.
    many(rig.subscription(a, made(filtered(13, "s1"))), true);
    many(rig.subscription(a, made(filtered(13, "s2"))), true);
    let plain = rig.subscribed(a, new(14, "s2", into_queue("q")));
    let alter = |of: &SubscriptionInfo, settings: &SubscriptionSettings| SubscriptionTo::Alter {
        id: of.id,
        version: of.version,
        settings: settings.clone(),
        confirmed: true,
        notes: Vec::new(),
        identity: None,
    };
    let policy = filtered(0, "").settings;
    many(rig.subscription(a, alter(&plain, &policy)), true);
    let same = subscription_of(rig.subscription(a, SubscriptionTo::Inspect { id: id(12) }));
    let same = subscription_of(rig.subscription(a, alter(&same, &policy)));

    rig.check_replay();
    rig.restart();
    let a = rig.attach(1);
    many(rig.topic_object(a, "f3", create("f3")), false);
    many(rig.subscription(a, third()), false);
    many(rig.subscription(a, alter(&plain, &policy)), true);
    // A policy that is taken away makes room, and so does a subscription that ends, and a topic.
    rig.subscription(a, alter(&same, &SubscriptionSettings::default()));
    subscription_of(rig.subscription(a, alter(&plain, &policy)));
    many(rig.subscription(a, made(filtered(15, "s2"))), true);
    rig.subscription(a, SubscriptionTo::Delete { id: id(10) });
    rig.subscribed(a, filtered(15, "s2"));
    many(rig.subscription(a, made(filtered(16, "s1"))), true);
    rig.topic_object(a, "s1", TopicTo::Delete);
    rig.new_topic(a, "s3", false);
    rig.subscribed(a, filtered(16, "s3"));
    rig.subscription(a, SubscriptionTo::Delete { id: id(1) });
    subscription_of(rig.subscription(a, third()));
    rig.topic_object(a, "f2", TopicTo::Delete);
    rig.new_topic(a, "f3", true);
    rig.check_replay();
}

/// So many of a virtual host may wait for their confirmation; who confirms or gives up makes room.
#[test]
fn subscriptions_that_nobody_has_confirmed_are_counted() {
    let mut rig = Rig::with(broker::Config {
        pending_subscriptions_max: 2,
        ..broker::Config::default()
    });
    let a = rig.attach(1);
    for name in ["s", "t"] {
        rig.new_topic(a, name, false);
    }
    let pending = |number: u8, topic: &str| NewSubscription {
        confirmed: false,
        ..new(number, topic, into_queue("q"))
    };
    let refused = |rig: &mut Rig, by: SessionId, it: NewSubscription| {
        let event = rig.subscription(by, SubscriptionTo::Create(Box::new(it)));
        assert!(
            matches!(&event, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::QuotaExceeded),
            "{event:?}"
        );
    };
    let first = rig.subscribed(a, pending(1, "s"));
    rig.subscribed(a, pending(2, "t"));
    refused(&mut rig, a, pending(3, "t"));
    // Asking for the same one again is none more, and what is confirmed at once does not count.
    rig.subscribed(a, pending(2, "t"));
    rig.subscribed(a, new(4, "t", into_queue("q")));
    rig.check_replay();
    rig.restart();
    let a = rig.attach(1);
    refused(&mut rig, a, pending(3, "t"));
    let confirm = SubscriptionTo::Alter {
        id: first.id,
        version: first.version,
        settings: first.settings,
        confirmed: true,
        notes: Vec::new(),
        identity: None,
    };
    subscription_of(rig.subscription(a, confirm));
    rig.subscribed(a, pending(3, "t"));
    refused(&mut rig, a, pending(5, "s"));
    rig.subscription(a, SubscriptionTo::Delete { id: id(2) });
    rig.subscribed(a, pending(5, "s"));
    rig.topic_object(a, "s", TopicTo::Delete);
    rig.subscribed(a, pending(6, "t"));
    rig.check_replay();
}
