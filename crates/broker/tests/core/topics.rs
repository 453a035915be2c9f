//! Topic spaces: exchanges, bindings, retained messages, reserved names.

use std::sync::Arc;

use bytes::Bytes;
use message::{Filter, VhostId};
use session::*;

use crate::rig::*;

fn exchange(kind: ExchangeKind) -> ExchangeOptions {
    ExchangeOptions {
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        alternate: None,
        declaration: None,
    }
}

fn declare(rig: &mut Rig, from: SessionId, name: &str, options: ExchangeOptions) -> Event {
    rig.declare(
        from,
        Declare::Exchange {
            name: name.to_owned().into(),
            passive: false,
            options: Box::new(options),
        },
    )
}

fn bind_exchange(rig: &mut Rig, from: SessionId, source: &str, target: &str, key: &str) {
    let binding = Binding {
        exchange: source.to_owned().into(),
        target: BindTarget::Exchange(target.to_owned().into()),
        filter: Filter::Pattern(pattern(key)),
        key: levels(key),
        arguments: Bytes::new(),
    };
    let event = rig.declare(from, Declare::Bind(Box::new(binding)));
    assert!(matches!(event, Event::Declared { .. }), "{event:?}");
}

fn matched(outcome: PublishOutcome) -> u32 {
    match outcome {
        PublishOutcome::Accepted { matched, .. } => matched,
        other => panic!("{other:?}"),
    }
}

#[test]
fn exchanges_of_every_kind_route() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.bind(a, "amq.direct", "q", "a/b");
    rig.bind(a, "amq.fanout", "q", "whatever");
    rig.bind(a, "amq.topic", "q", "a/+");
    assert_eq!(
        matched(rig.publish(a, to_exchange("amq.direct", "a/b", "1"))),
        1
    );
    assert_eq!(
        matched(rig.publish(a, to_exchange("amq.direct", "a/c", "2"))),
        0
    );
    assert_eq!(
        matched(rig.publish(a, to_exchange("amq.fanout", "x", "3"))),
        1
    );
    assert_eq!(matched(rig.publish(a, to_topic("a/z", "4", 1))), 1);
    assert_eq!(matched(rig.publish(a, to_topic("b/z", "5", 1))), 0);
    assert_eq!(matched(rig.publish(a, to_queue("q", "6"))), 1);
    rig.consume(a, 1, "q", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["1", "3", "4", "6"]);
    rig.check_replay();
}

/// [AMQP-queue.bind.unique]
#[test]
fn each_queue_gets_a_publish_once_and_cycles_of_exchanges_end() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    declare(&mut rig, a, "x", exchange(ExchangeKind::Fanout));
    declare(&mut rig, a, "y", exchange(ExchangeKind::Fanout));
    bind_exchange(&mut rig, a, "x", "y", "k");
    bind_exchange(&mut rig, a, "y", "x", "k");
    rig.bind(a, "x", "q", "1");
    rig.bind(a, "x", "q", "2");
    rig.bind(a, "y", "q", "3");
    assert_eq!(matched(rig.publish(a, to_exchange("x", "k", "once"))), 1);
    rig.consume(a, 1, "q", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["once"]);
    rig.check_replay();
}

#[test]
fn an_alternate_exchange_takes_what_matches_nothing() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "rest", QueueAttributes::default());
    declare(&mut rig, a, "alt", exchange(ExchangeKind::Fanout));
    rig.bind(a, "alt", "rest", "x");
    let options = ExchangeOptions {
        alternate: Some("alt".into()),
        ..exchange(ExchangeKind::Direct)
    };
    declare(&mut rig, a, "x", options);
    assert_eq!(matched(rig.publish(a, to_exchange("x", "none", "alt"))), 1);
    rig.consume(a, 1, "rest", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["alt"]);
}

#[test]
fn doors_17_nothing_matched_is_success_and_mandatory_is_returned_first() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.command(
        a,
        Command::Publish(Publish {
            token: Some(Token(77)),
            lane: Lane(3),
            message: Arc::new(to_queue("none", "x")),
            mandatory: true,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        }),
    );
    let told = &rig.told[&a];
    assert!(matches!(told[told.len() - 2].event, Event::Returned { .. }));
    assert!(matches!(
        told[told.len() - 1].event,
        Event::Published {
            outcome: PublishOutcome::Accepted {
                matched: 0,
                place: None,
                record: None,
                sequence: None
            },
            ..
        }
    ));
}

#[test]
fn a_missing_exchange_is_not_found_and_an_internal_one_is_closed() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let kind = |outcome| match outcome {
        PublishOutcome::Refused(refusal) => refusal.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        kind(rig.publish(a, to_exchange("no", "k", "x"))),
        RefusalKind::NotFound
    );
    let options = ExchangeOptions {
        internal: true,
        ..exchange(ExchangeKind::Fanout)
    };
    declare(&mut rig, a, "in", options);
    assert_eq!(
        kind(rig.publish(a, to_exchange("in", "k", "x"))),
        RefusalKind::AccessDenied
    );
}

/// [AMQP-exchange.required-instances], [AMQP-exchange.declare.type.typed], [AMQP-exchange.declare.passive.equivalent]
#[test]
fn predeclared_exchanges_cannot_be_deleted_nor_redeclared_otherwise() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let gone = rig.declare(
        a,
        Declare::DeleteExchange {
            name: "amq.topic".into(),
            if_unused: false,
        },
    );
    assert!(
        matches!(gone, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::AccessDenied)
    );
    assert!(matches!(
        declare(&mut rig, a, "amq.topic", exchange(ExchangeKind::Topic)),
        Event::Declared { .. }
    ));
    let other = declare(&mut rig, a, "amq.topic", exchange(ExchangeKind::Direct));
    assert!(
        matches!(other, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::Inequivalent)
    );
    let new = declare(&mut rig, a, "amq.mine", exchange(ExchangeKind::Direct));
    assert!(
        matches!(new, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::AccessDenied)
    );
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding_and_take_others_along() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    let auto = || ExchangeOptions {
        auto_delete: true,
        ..exchange(ExchangeKind::Fanout)
    };
    declare(&mut rig, a, "x", auto());
    declare(&mut rig, a, "y", auto());
    bind_exchange(&mut rig, a, "x", "y", "k");
    rig.bind(a, "y", "q", "k");
    rig.queue(a, "soft", QueueOptions::default());
    rig.bind(a, "y", "soft", "k");
    rig.check_replay();
    let delete = |name: &'static str| Declare::DeleteQueue {
        name: name.into(),
        if_unused: false,
        if_empty: false,
    };
    rig.declare(a, delete("q"));
    assert_eq!(rig.broker.counters().exchanges, 2);
    rig.check_replay();
    rig.declare(a, delete("soft"));
    assert_eq!(rig.broker.counters().exchanges, 0);
    rig.check_replay();
}

/// [AMQP-queue.unbind.01]
#[test]
fn unbinding_ends_a_binding_and_again_is_nothing() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.bind(a, "amq.topic", "q", "a");
    let unbind = Declare::Unbind(Box::new(Binding {
        exchange: "amq.topic".into(),
        target: BindTarget::Queue("q".into()),
        filter: Filter::Pattern(pattern("a")),
        key: levels("a"),
        arguments: Bytes::new(),
    }));
    for _ in 0..2 {
        let event = rig.declare(a, unbind.clone());
        assert!(matches!(event, Event::Declared { .. }));
    }
    assert_eq!(matched(rig.publish(a, to_topic("a", "x", 1))), 0);
    rig.check_replay();
}

/// [RABBIT-cc-1]
#[test]
fn carbon_copies_are_further_keys_of_one_publish() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for name in ["one", "two"] {
        rig.durable_queue(a, name, QueueAttributes::default());
    }
    let mut message = to_queue("one", "x");
    message.fields_mut().carbon_copies = vec![levels("two"), levels("one"), levels("three")];
    assert_eq!(matched(rig.publish(a, message)), 2);
    rig.check_replay();
}

#[test]
fn doors_5_reserved_first_levels_are_refused_to_publishers() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for topic in ["$queue/x", "$stream/x", "$share/x", "$SYS/x", "$topic/x"] {
        let outcome = rig.publish(a, to_topic(topic, "x", 1));
        assert!(
            matches!(outcome, PublishOutcome::Refused(r) if r.kind == RefusalKind::AccessDenied)
        );
        let outcome = rig.publish(a, to_exchange("amq.topic", topic, "x"));
        assert!(
            matches!(outcome, PublishOutcome::Refused(r) if r.kind == RefusalKind::AccessDenied)
        );
    }
    assert_eq!(
        matched(rig.publish(a, to_topic("$SYS/broker/connection/b/state", "1", 1))),
        0
    );
    assert_eq!(matched(rig.publish(a, to_topic("$other/x", "1", 1))), 0);
}

#[test]
fn doors_18_retained_messages_are_durable_whatever_their_qos_and_replayed_on_subscribing() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "pub", true, ClientExpiry::WithConnection);
    let mut message = to_topic("t/1", "kept", 0);
    message.retain = true;
    rig.publish_unconfirmed(a, message);
    let mut message = to_topic("t/2", "kept2", 1);
    message.retain = true;
    rig.publish(a, message);
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    rig.open(b, "sub", true, ClientExpiry::WithConnection);
    let options = SubscriptionOptions {
        qos: 1,
        identifier: 4,
        ..SubscriptionOptions::default()
    };
    rig.topic(b, "t/#", options);
    let got = rig.deliveries(b);
    let mut seen: Vec<_> = got.iter().map(|d| (body(d), d.qos, d.retain)).collect();
    seen.sort();
    assert_eq!(
        seen,
        [("kept".to_owned(), 0, true), ("kept2".to_owned(), 1, true)]
    );
    assert_eq!(got[0].subscriptions[..], [4]);
    // An empty body clears.
    let mut message = to_topic("t/1", "", 0);
    message.retain = true;
    rig.publish_unconfirmed(b, message);
    assert_eq!(rig.broker.counters().retained, 1);
    rig.deliveries(b);
    let never = SubscriptionOptions {
        retain_replay: RetainReplay::IfNew,
        ..options
    };
    rig.topic(b, "t/#", never);
    assert!(rig.deliveries(b).is_empty());
    rig.check_replay();
}

#[test]
fn a_retained_message_expires() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "c", true, ClientExpiry::WithConnection);
    let mut message = to_topic("t", "x", 1);
    message.retain = true;
    message.expiry = Some(rig.now.plus_ms(10));
    rig.publish(a, message);
    rig.tick(10);
    rig.topic(a, "t", SubscriptionOptions::default());
    assert!(rig.deliveries(a).is_empty());
    assert_eq!(rig.broker.counters().retained, 0);
    assert!(rig.refs.is_empty());
    rig.check_replay();
}

/// [MQTT-3.3.1-5]
#[test]
fn a_retained_message_that_is_over_already_replaces_what_was_there() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.open(a, "c", true, ClientExpiry::WithConnection);
    let mut message = to_topic("t", "old", 1);
    message.retain = true;
    rig.publish(a, message.clone());
    message.body = "new".into();
    message.expiry = Some(rig.now);
    rig.publish(a, message);
    assert_eq!(rig.broker.counters().retained, 0);
    rig.topic(a, "t", SubscriptionOptions::default());
    assert!(rig.deliveries(a).is_empty());
    rig.check_replay();
}

#[test]
fn rules_9_a_very_wide_publish_is_several_records_and_one_message() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for n in 0..2500 {
        let name = format!("q{n}");
        rig.durable_queue(a, &name, QueueAttributes::default());
        rig.bind(a, "amq.fanout", &name, "x");
    }
    let before = rig.journal.len();
    assert_eq!(
        matched(rig.publish(a, to_exchange("amq.fanout", "x", "wide"))),
        2500
    );
    assert_eq!(rig.journal.len(), before + 3);
    rig.check_replay();
    let got = rig.pull(a, "q2499", 1, Lease::Connection);
    assert_eq!(body(&got[0]), "wide");
}

/// [AMQP-connection.open.virtual-host.separation]
#[test]
fn virtual_hosts_have_nothing_in_common() {
    let mut rig = Rig::new();
    let other = VhostId(7);
    let (a, b) = (rig.attach(1), rig.attach_in(2, other));
    for session in [a, b] {
        rig.durable_queue(session, "q", QueueAttributes::default());
        declare(&mut rig, session, "x", exchange(ExchangeKind::Direct));
        rig.bind(session, "x", "q", "k");
    }
    let mut there = to_exchange("x", "k", "there");
    Arc::make_mut(&mut there.address).vhost = other;
    assert_eq!(matched(rig.publish(a, to_exchange("x", "k", "here"))), 1);
    assert_eq!(matched(rig.publish(b, there)), 1);
    for (session, body) in [(a, "here"), (b, "there")] {
        rig.consume(session, 1, "q", Credit::Window(0));
        assert_eq!(rig.bodies(session), [body]);
    }
    rig.command(
        b,
        Command::Declare {
            token: Token(77),
            lane: Lane(0),
            declare: Declare::DeleteExchange {
                name: "x".into(),
                if_unused: false,
            },
        },
    );
    assert_eq!(matched(rig.publish(a, to_exchange("x", "k", "still"))), 1);
    rig.check_replay();
}

/// [AMQP-queue.bind.duplicates], [AMQP-queue.bind.transient-exchange]
#[test]
fn a_durable_queue_is_bound_to_a_transient_exchange_as_often_as_one_likes() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let transient = ExchangeOptions {
        durable: false,
        ..exchange(ExchangeKind::Direct)
    };
    declare(&mut rig, a, "x", transient);
    rig.durable_queue(a, "q", QueueAttributes::default());
    for _ in 0..3 {
        let event = rig.bind(a, "x", "q", "k");
        assert!(matches!(event, Event::Declared { .. }), "{event:?}");
    }
    assert_eq!(matched(rig.publish(a, to_exchange("x", "k", "once"))), 1);
    rig.consume(a, 1, "q", Credit::Window(0));
    assert_eq!(rig.bodies(a), ["once"]);
    rig.check_replay();
}

#[test]
fn what_a_topic_leads_to_is_found_anew_after_every_change() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    // Twice: the second finds what the first has left.
    let reached = |rig: &mut Rig, from| {
        let once = matched(rig.publish(from, to_topic("a", "x", 0)));
        assert_eq!(matched(rig.publish(from, to_topic("a", "x", 0))), once);
        once
    };
    assert_eq!(reached(&mut rig, a), 0);
    rig.durable_queue(a, "q", QueueAttributes::default());
    assert_eq!(reached(&mut rig, a), 0);
    rig.bind(a, "amq.topic", "q", "a");
    assert_eq!(reached(&mut rig, a), 1);
    let b = rig.attach(2);
    rig.open(b, "b", true, ClientExpiry::WithConnection);
    assert_eq!(reached(&mut rig, a), 1);
    rig.topic(b, "+", SubscriptionOptions::default());
    assert_eq!((reached(&mut rig, a), reached(&mut rig, b)), (2, 2));
    assert_eq!(rig.deliveries(b).len(), 4);
    // Who publishes makes a difference from now on.
    let no_local = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::default()
    };
    rig.topic(b, "+", no_local);
    for (from, delivered) in [(a, 2), (b, 0), (a, 2)] {
        assert_eq!(reached(&mut rig, from), 2);
        assert_eq!(rig.deliveries(b).len(), delivered);
    }
    rig.topic(b, "+", SubscriptionOptions::default());
    assert_eq!(reached(&mut rig, a), 2);
    rig.detach(b);
    assert_eq!(reached(&mut rig, a), 1);
    rig.declare(
        a,
        Declare::DeleteQueue {
            name: "q".into(),
            if_unused: false,
            if_empty: false,
        },
    );
    assert_eq!(reached(&mut rig, a), 0);
    rig.check_replay();
}
