//! What is hostile or very large: records fit a batch, arguments at their bounds do no harm.

use std::sync::Arc;

use broker::Config;
use message::{Levels, Message};
use session::{
    Credit, Declare, Event, ExchangeKind, Operation, Outcome, Overflow, QueueAttributes,
    RefusalKind, Source,
};

use crate::{support::*, *};

/// A message with a routing key of so many bytes.
fn with_long_key(exchange_name: &str, len: usize) -> Message {
    to_exchange(exchange_name, "k", "x")
        .durable()
        .with(|message| {
            Arc::make_mut(&mut message.address).key = Levels::one(Bytes::from(vec![b'k'; len]));
        })
}

/// Dead letters go to the exchange `dead`, with the key that they came with.
fn to_dead_exchange() -> Option<DeadLetter> {
    Some(DeadLetter {
        exchange: name("dead"),
        key: None,
    })
}

/// A fanout exchange `dead` with so many queues, and `all` in front of `jobs`.
fn wide(jobs: impl FnOnce(&mut QueueAttributes), width: usize) -> (Node, SessionId) {
    let (mut node, session) = with_queues(vec![queue("jobs", |at| {
        at.dead_letter = to_dead_exchange();
        jobs(at);
    })]);
    for of in ["all", "dead"] {
        node.declared(session, exchange(of, ExchangeKind::Fanout));
    }
    node.declared(session, bind("all", "jobs", ""));
    for number in 0..width {
        let queue_name = format!("dead-{number}");
        node.declared(session, plain(&queue_name));
        node.declared(session, bind("dead", &queue_name, ""));
    }
    (node, session)
}

#[test]
fn a_dead_letter_with_a_long_key_for_many_queues_is_several_records() {
    let (mut node, session) = wide(|_| {}, 40);
    node.give(session, publish(with_long_key("all", 60_000)));
    consume_on(&mut node, session, consume(1, "jobs"));
    let delivery = only(node.deliveries(session));
    node.give(session, settle_delivery(&delivery, Outcome::Reject));
    for number in 0..40 {
        assert_eq!(node.look(session, &format!("dead-{number}")).0, 1);
    }
    assert_eq!(node.look(session, "jobs").0, 0);
}

#[test]
fn a_refused_publish_that_dead_letters_into_many_queues_is_several_records() {
    let full = |at: &mut QueueAttributes| {
        at.length_max = Some(0);
        at.overflow = Overflow::RejectPublishDeadLetter;
    };
    let (mut node, session) = wide(full, 40);
    node.give(session, publish(with_long_key("all", 60_000)));
    for number in 0..40 {
        assert_eq!(node.look(session, &format!("dead-{number}")).0, 1);
    }
}

#[test]
fn a_history_of_long_keys_forgets_its_oldest_deaths() {
    let (mut node, session) = with_queues(vec![]);
    for number in 0..20 {
        node.declared(
            session,
            queue(&format!("queue-{number}"), |at| {
                at.ttl_ms = Some(10);
                at.dead_letter = Some(DeadLetter {
                    exchange: name(&format!("exchange-{}", number + 1)),
                    key: None,
                });
            }),
        );
        let exchange_name = format!("exchange-{number}");
        node.declared(session, exchange(&exchange_name, ExchangeKind::Fanout));
        let queue_name = format!("queue-{number}");
        node.declared(session, bind(&exchange_name, &queue_name, ""));
    }
    node.declared(session, exchange("exchange-20", ExchangeKind::Fanout));
    node.declared(session, plain("end"));
    node.declared(session, bind("exchange-20", "end", ""));
    node.give(session, publish(with_long_key("exchange-0", 60_000)));
    node.pass(1000);
    consume_on(&mut node, session, consume(1, "end"));
    let deaths = only(node.deliveries(session)).deaths;
    let deaths = deaths.expect("it died twenty times");
    assert_eq!(deaths[0].queue, "queue-19");
    assert_eq!(deaths.len(), 4);
}

#[test]
fn a_transaction_that_drops_more_than_a_record_tells_is_refused() {
    let (mut node, session) = wide(|at| at.length_max = Some(1), 1);
    let operations = (0..40)
        .map(|_| Operation::Publish(publish(with_long_key("all", 60_000))))
        .collect();
    node.give(session, publish(with_long_key("all", 60_000)));
    let command = transact(&mut node, operations);
    node.give(session, command);
    let told = node.answer(session).event;
    // What comes with a transaction is dropped by none of it, so this one is taken.
    assert!(matches!(told, Event::Committed { .. }), "{told:?}");

    let (mut node, session) = wide(|_| {}, 1);
    for _ in 0..40 {
        node.give(session, publish(with_long_key("all", 60_000)));
    }
    consume_on(&mut node, session, consume(1, "jobs"));
    let out = node.deliveries(session);
    let reject = |delivery| Operation::Settle(settle_delivery(delivery, Outcome::Reject));
    let command = transact(&mut node, out.iter().map(reject).collect());
    node.give(session, command);
    let told = node.answer(session).event;
    assert!(
        matches!(&told, Event::Refused { refusal, .. } if refusal.kind == RefusalKind::QuotaExceeded),
        "{told:?}"
    );
    assert_eq!(node.look(session, "dead-0").0, 0);
}

#[test]
fn what_is_rejected_through_a_client_session_is_not_stuck_when_its_fetch_is_cut_off() {
    let mut node = Node::with(Config {
        recent_count_max: 0,
        ..Config::default()
    });
    let session = node.attach();
    node.declared(session, queue("jobs", |at| at.dead_letter = to_dead()));
    node.declared(session, plain("dead"));
    node.give(session, publish(to_queue("jobs", "one").durable().qos(1)));
    let (client, _) = connect(&mut node, open("ann"));
    let through = consume(1, "jobs").with(|subscribe| {
        subscribe.through_client = true;
        subscribe.options.qos = 1;
        subscribe.source = Source::Queue {
            name: name("jobs"),
            create: false,
        };
    });
    consume_on(&mut node, client, through);
    let delivery = only(node.deliveries(client));
    node.answers = false;
    node.give(client, settle_delivery(&delivery, Outcome::Reject));
    node.restart();
    let session = node.attach();
    assert_eq!(node.look(session, "jobs").0, 1);
}

#[test]
fn arguments_at_their_bounds_do_no_harm() {
    let extremes: [fn(&mut QueueAttributes); 9] = [
        |at| at.ttl_ms = Some(u64::MAX),
        |at| at.ttl_ms = Some(0),
        |at| at.delay_ms = u64::MAX,
        |at| at.retention_ms = Some(u64::MAX),
        |at| at.priority_max = Some(255),
        |at| at.length_max = Some(0),
        |at| at.bytes_max = Some(0),
        |at| at.expires_ms = Some(u64::MAX),
        |at| at.deliveries_max = Some(u32::MAX),
    ];
    for (number, extreme) in extremes.into_iter().enumerate() {
        let (mut node, session) = with_queues(vec![queue("jobs", |at| {
            at.dead_letter = Some(DeadLetter {
                exchange: Bytes::new(),
                key: Some(key("jobs")),
            });
            extreme(at);
        })]);
        for message in [
            to_queue("jobs", "plain"),
            to_queue("jobs", ""),
            to_queue("jobs", "late").with(|message| message.delay_ms = u64::MAX - 1),
            to_queue("jobs", "old").with(|message| message.expiry = Some(message::Timestamp(0))),
            to_queue("jobs", "first").with(|message| message.priority = Some(255)),
        ] {
            node.give(session, publish(message.clone()));
            node.give(session, publish(message.durable()));
        }
        node.pass(1000);
        consume_on(&mut node, session, consume(1, "jobs"));
        for delivery in node.deliveries(session) {
            node.give(
                session,
                settle_delivery(&delivery, Outcome::ReleaseAfterMs(u64::MAX)),
            );
        }
        node.pass(1000);
        node.detach(session);
        node.restart_from_snapshot();
        node.restart();
        let session = node.attach();
        node.declared(session, delete("jobs"));
        node.check_references();
        assert_eq!(node.broker.counters().messages_ready, 0, "case {number}");
    }
}

#[test]
fn a_declaration_that_fits_no_record_is_refused() {
    let mut node = Node::new();
    let session = node.attach();
    let declare = queue_with("jobs", |options| {
        options.declaration = Some(Bytes::from(vec![0; 300 * 1024]));
    });
    let refusal = node.declare_refused(session, declare);
    assert_eq!(refusal.kind, RefusalKind::TooLarge);
}

#[test]
fn a_purge_keeps_what_is_out_between_what_is_not() {
    let (mut node, session) = with_queues(vec![plain("jobs")]);
    for number in 0..10 {
        let body = number.to_string();
        node.give(session, publish(to_queue("jobs", &body).durable()));
    }
    consume_on(&mut node, session, consume(1, "jobs"));
    let out = node.deliveries(session);
    for delivery in out.iter().skip(1).step_by(2) {
        node.give(
            session,
            settle_delivery(delivery, Outcome::ReleaseAfterMs(50)),
        );
    }
    node.declared(session, Declare::Purge { name: name("jobs") });
    node.restart();
    let session = node.attach();
    assert_eq!(node.look(session, "jobs").0, 5);
}

#[test]
fn a_connection_has_so_many_exclusive_queues() {
    let mut node = Node::with(Config {
        connection_queues_max: 2,
        ..Config::default()
    });
    let (one, two) = (node.attach(), node.attach());
    let exclusive = |name: &str| {
        let Declare::Queue {
            name,
            passive,
            mut options,
        } = plain(name)
        else {
            unreachable!("a queue is declared");
        };
        options.exclusive = true;
        Declare::Queue {
            name,
            passive,
            options,
        }
    };
    node.declared(one, exclusive("a"));
    node.declared(one, exclusive("b"));
    let refusal = node.declare_refused(one, exclusive("c"));
    assert_eq!(refusal.kind, RefusalKind::QuotaExceeded, "{refusal}");
    // What is there may be declared again; others have their own account, and shared queues none.
    node.declared(one, exclusive("b"));
    node.declared(one, plain("shared"));
    node.declared(two, exclusive("c"));
    node.detach(one);
    node.declared(two, exclusive("a"));
}

#[test]
fn there_are_so_many_bindings() {
    let mut node = Node::with(Config {
        bindings_max: 2,
        ..Config::default()
    });
    let session = node.attach();
    node.declared(session, exchange("x", ExchangeKind::Topic));
    node.declared(session, plain("q"));
    for key in ["a", "b"] {
        node.declared(session, bind("x", "q", key));
    }
    let refusal = node.declare_refused(session, bind("x", "q", "c"));
    assert_eq!(refusal.kind, RefusalKind::QuotaExceeded, "{refusal}");
    node.declared(session, bind("x", "q", "b"));
}

#[test]
fn a_consumer_without_a_window_holds_so_many_deliveries() {
    let mut node = Node::with(Config {
        unsettled_max: 3,
        ..Config::default()
    });
    let session = node.attach();
    node.declared(session, plain("q"));
    for number in 0..10 {
        node.give(session, publish(to_queue("q", &number.to_string())));
    }
    let mut subscribe = consume(1, "q");
    subscribe.credit = Credit::Window(0);
    consume_on(&mut node, session, subscribe);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let deliveries = node.deliveries(session);
        assert!(deliveries.len() <= 3, "{} at a time", deliveries.len());
        for delivery in &deliveries {
            seen.push(text(delivery));
            node.give(session, settle_delivery(delivery, Outcome::Accept));
        }
    }
    let expected: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
    // What is settled as it leaves is not remembered, and not counted.
    for number in 0..10 {
        node.give(
            session,
            publish(to_queue("q2", &number.to_string())).creating(),
        );
    }
    let mut subscribe = consume(2, "q2");
    subscribe.credit = Credit::Settled;
    consume_on(&mut node, session, subscribe);
    assert_eq!(node.deliveries(session).len(), 10);
}
