//! What a message pushes out of a full queue goes where its dead letters go, whether it was there before or came in front of it in the
//! same command: the outcome is that of as many commands, one after the other.

use message::{Filter, Message};
use session::*;

use crate::{
    many::{publish_all, publish_together},
    queues::dead_letter_to,
    rig::*,
    streams::{shown, to_stream},
    subscriptions::{fifo_publish, fifo_queue, into_queue, new},
    transactions::{publish_this, transact},
};

/// A way of publishing several.
type How = fn(&mut Rig, SessionId, &[Message]);

fn singly(rig: &mut Rig, a: SessionId, messages: &[Message]) {
    for message in messages {
        rig.publish(a, message.clone());
    }
}

fn all(rig: &mut Rig, a: SessionId, messages: &[Message]) {
    publish_all(rig, a, messages);
}

fn together(rig: &mut Rig, a: SessionId, messages: &[Message]) {
    publish_together(rig, a, messages);
}

fn transaction(rig: &mut Rig, a: SessionId, messages: &[Message]) {
    let operations = messages.iter().cloned().map(publish_this);
    let event = transact(rig, a, operations.collect());
    assert!(matches!(event, Event::Committed { .. }), "{event:?}");
}

const AT_ONCE: [How; 3] = [all, together, transaction];

fn to(exchange: &'static str, key: &str) -> Option<DeadLetter> {
    Some(DeadLetter {
        exchange: exchange.into(),
        key: Some(levels(key)),
    })
}

fn dropping(length_max: u64, dead_letter: Option<DeadLetter>) -> QueueAttributes {
    QueueAttributes {
        length_max: Some(length_max),
        overflow: Overflow::DropHead,
        dead_letter,
        ..QueueAttributes::default()
    }
}

fn durable(queue: &str, bodies: std::ops::Range<u32>) -> Vec<Message> {
    let mut messages: Vec<_> = bodies
        .map(|at| to_queue(queue, &format!("m{at}")))
        .collect();
    messages.iter_mut().for_each(|it| it.durable = true);
    messages
}

fn transient_queue(rig: &mut Rig, a: SessionId, name: &str, attributes: QueueAttributes) {
    let options = QueueOptions {
        attributes,
        ..QueueOptions::default()
    };
    rig.queue(a, name, options);
}

fn bind_stream(rig: &mut Rig, a: SessionId, stream: &str, key: &str) {
    let binding = Binding {
        exchange: "amq.topic".into(),
        target: BindTarget::Stream(stream.to_owned().into()),
        filter: Filter::Pattern(pattern(key)),
        key: levels(key),
        arguments: bytes::Bytes::new(),
    };
    rig.declare(a, Declare::Bind(Box::new(binding)));
}

/// What is in a stream.
fn in_stream(rig: &mut Rig, a: SessionId, name: &str) -> Vec<String> {
    let found = rig.read_shard(a, name, 0, StreamStart::First, 1000);
    shown(&found).into_iter().map(|(_, body)| body).collect()
}

/// Lets everything that is due happen, and says what is in these queues.
fn in_queues(rig: &mut Rig, names: &[&str]) -> Vec<Vec<String>> {
    rig.tick(0);
    let reader = rig.attach(99);
    names
        .iter()
        .map(|name| rig.taken_bodies(reader, name))
        .collect()
}

/// Dead letters of a queue of one go to a topic: to client sessions, a stream, and a queue of one whose dead letters go on.
fn play_topic(
    how: How,
    middle: fn(&mut Rig, SessionId, &str, QueueAttributes),
) -> Vec<Vec<String>> {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    rig.durable_queue(a, "end", QueueAttributes::default());
    middle(&mut rig, a, "dead", dropping(1, dead_letter_to("end")));
    rig.bind(a, "amq.topic", "dead", "dead/#");
    bind_stream(&mut rig, a, "s", "dead/#");
    rig.durable_queue(a, "first", dropping(1, to("amq.topic", "dead/x")));
    let clients = [(10, 0), (11, 1)].map(|(number, qos)| {
        let client = rig.attach(number);
        rig.open(client, &format!("c{number}"), true, ClientExpiry::Never);
        let options = SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
        rig.topic(client, "dead/#", options);
        client
    });
    rig.publish(a, durable("first", 0..1)[0].clone());
    how(&mut rig, a, &durable("first", 1..6));
    // What goes into a queue in memory takes its time.
    rig.tick(0);
    rig.check_replay();
    let mut found: Vec<Vec<String>> = Vec::new();
    for client in clients {
        let deliveries = rig.deliveries(client);
        assert!(deliveries.iter().all(|it| it.deaths.is_some()));
        found.push(deliveries.iter().map(body).collect());
    }
    found.push(in_stream(&mut rig, a, "s"));
    found.extend(in_queues(&mut rig, &["first", "dead", "end"]));
    let counters = rig.broker.counters();
    found.push(vec![format!(
        "{} dead letters, {} lost, {} dropped, {} published",
        counters.dead_lettered,
        counters.dropped_dead_letter,
        counters.dropped_max_len,
        counters.published
    )]);
    rig.check_replay();
    found
}

#[test]
fn what_is_pushed_out_in_a_command_goes_to_topics_streams_and_further_queues() {
    let expected = play_topic(singly, Rig::durable_queue);
    assert_eq!(expected[0], ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(expected[1..3], [expected[0].clone(), expected[0].clone()]);
    assert_eq!(expected[3], ["m5"]);
    assert_eq!(expected[4], ["m4"]);
    assert_eq!(expected[5], ["m0", "m1", "m2", "m3"]);
    for how in AT_ONCE {
        let found = play_topic(how, Rig::durable_queue);
        assert_eq!(found, expected);
    }
}

#[test]
fn what_is_pushed_out_through_a_queue_in_memory_goes_on_too() {
    let expected = play_topic(singly, transient_queue);
    for how in AT_ONCE {
        let found = play_topic(how, transient_queue);
        assert_eq!(found, expected);
    }
}

/// A stream keeps what is stored; a queue takes it all the same.
#[test]
fn what_is_pushed_out_of_memory_does_not_enter_a_stream_by_a_subscription() {
    for how in [singly as How].into_iter().chain(AT_ONCE) {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        rig.make(a, "s", 1);
        rig.durable_queue(a, "jobs", QueueAttributes::default());
        let route = |number, target| NewSubscription {
            topic: None,
            filter: Some(Filter::Pattern(pattern("dead/+"))),
            ..new(number, "", target)
        };
        let stream = SubscriptionTarget::Stream {
            name: "s".into(),
            key: "{1}".into(),
        };
        rig.subscribed(a, route(1, stream));
        rig.subscribed(a, route(2, into_queue("jobs")));
        transient_queue(
            &mut rig,
            a,
            "q",
            dropping(1, to("amq.topic", "dead/letter")),
        );
        let messages: Vec<_> = (0..3).map(|at| to_queue("q", &format!("m{at}"))).collect();
        how(&mut rig, a, &messages);
        rig.check_replay();
        assert_eq!(in_stream(&mut rig, a, "s"), [""; 0]);
        assert_eq!(
            in_queues(&mut rig, &["q", "jobs"]),
            [vec!["m2"], vec!["m0", "m1"]]
        );
    }
}

/// A chain of queues of one, each the next one's dead letters, the second of them in memory if `soft`; the last is a stream.
fn play_chain(how: How, soft: bool) -> Vec<Vec<String>> {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let names = ["q0", "q1", "q2", "q3", "q4", "q5"];
    for (at, name) in names.iter().enumerate().rev() {
        let next = names.get(at + 1).unwrap_or(&"s");
        let attributes = dropping(1, dead_letter_to(next));
        if soft && at == 1 {
            transient_queue(&mut rig, a, name, attributes);
        } else {
            rig.durable_queue(a, name, attributes);
        }
    }
    how(&mut rig, a, &durable("q0", 0..10));
    rig.tick(0);
    rig.check_replay();
    let mut found = vec![in_stream(&mut rig, a, "s")];
    found.extend(in_queues(&mut rig, &names));
    assert_eq!(rig.broker.counters().dropped_dead_letter, 0);
    found
}

#[test]
fn a_chain_of_full_queues_loses_nothing_however_long_it_is() {
    for soft in [false, true] {
        let expected = play_chain(singly, soft);
        assert_eq!(expected[1..5], [["m9"], ["m8"], ["m7"], ["m6"]]);
        assert_eq!(expected.iter().map(Vec::len).sum::<usize>(), 10);
        for how in AT_ONCE {
            let found = play_chain(how, soft);
            // What goes deep, or into memory, takes its time there, and may be overtaken.
            let lens = |found: &[Vec<String>]| found.iter().map(Vec::len).collect::<Vec<_>>();
            let sorted = |found: &[Vec<String>]| {
                let mut all = found.concat();
                all.sort();
                all
            };
            assert_eq!(lens(&found), lens(&expected));
            assert_eq!(sorted(&found), sorted(&expected));
            assert_eq!(found[1..3], expected[1..3]);
            assert!(soft || found[3..] == expected[3..]);
        }
    }
}

#[test]
fn what_was_pushed_out_in_a_command_is_known_again() {
    for how in [singly as How, all, together, transaction] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        let attributes = QueueAttributes {
            length_max: Some(1),
            overflow: Overflow::DropHead,
            ..fifo_queue()
        };
        rig.durable_queue(a, "q", attributes);
        let message = |id: &str| {
            let mut message = to_queue("q", id);
            message.durable = true;
            message.fields_mut().dedup_id = Some(id.to_owned().into());
            message
        };
        how(&mut rig, a, &["a", "b"].map(message));
        let again = rig.publish(a, message("a"));
        assert!(
            matches!(again, PublishOutcome::Duplicate { of: Some(_) }),
            "{again:?}"
        );
        assert_eq!(in_queues(&mut rig, &["q"]), [["b"]]);
        rig.check_replay();
    }
}

#[test]
fn a_repeat_in_a_command_is_told_of_what_it_repeats() {
    let play = |how: fn(&mut Rig, SessionId, &[Message]) -> Vec<PublishOutcome>| {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        rig.durable_queue(a, "q", fifo_queue());
        rig.new_topic(a, "t", true);
        rig.subscribed(a, new(1, "t", into_queue("q")));
        let mut messages = vec![
            fifo_publish("t", "g", "1", "a"),
            fifo_publish("t", "g", "2", "b"),
            fifo_publish("t", "g", "1", "c"),
        ];
        for (id, body) in [("3", "d"), ("3", "e")] {
            let mut message = fifo_publish("t", "g", id, body);
            message.address = to_queue("q", "").address;
            messages.push(message);
        }
        how(&mut rig, a, &messages)
    };
    let one_by_one = |rig: &mut Rig, a, messages: &[Message]| {
        let messages = messages.iter().cloned();
        messages.map(|message| rig.publish(a, message)).collect()
    };
    let expected = play(one_by_one);
    let repeats = expected
        .iter()
        .filter(|it| matches!(it, PublishOutcome::Duplicate { of: Some(_) }));
    assert_eq!(repeats.count(), 2);
    assert_eq!(play(publish_all), expected);
    assert_eq!(play(publish_together), expected);
}

/// Records have their offsets in the order in which they come, whatever is pushed out on the way.
#[test]
fn what_a_transaction_pushes_out_into_a_stream_comes_in_front_of_what_it_publishes_there_later() {
    for how in [singly as How, all, together, transaction] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        rig.make(a, "s", 1);
        rig.durable_queue(a, "q", dropping(1, dead_letter_to("s")));
        rig.send(a, "q", "0");
        let mut messages = durable("q", 1..2);
        messages.push(to_stream("s", "k", "own"));
        messages.extend(durable("q", 2..4));
        messages.push(to_stream("s", "k", "last"));
        how(&mut rig, a, &messages);
        rig.check_replay();
        assert_eq!(
            in_stream(&mut rig, a, "s"),
            ["0", "own", "m1", "m2", "last"]
        );
        rig.restart();
        let a = rig.attach(1);
        assert_eq!(in_queues(&mut rig, &["q"]), [["m3"]]);
        assert_eq!(in_stream(&mut rig, a, "s").len(), 5);
    }
}

/// A publish to a topic goes into a stream, and through a subscription into a full queue whose dead letters go into the same stream.
#[test]
fn what_a_publish_pushes_out_into_its_own_stream_is_in_front_of_it() {
    for how in [singly as How, all, together, transaction] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        rig.make(a, "s", 1);
        rig.durable_queue(a, "q", dropping(1, dead_letter_to("s")));
        rig.new_topic(a, "t", false);
        rig.subscribed(a, new(1, "t", into_queue("q")));
        bind_stream(&mut rig, a, "s", "t");
        let messages = ["0", "1", "2"].map(|body| to_topic("t", body, 1));
        how(&mut rig, a, &messages);
        rig.check_replay();
        assert_eq!(in_stream(&mut rig, a, "s"), ["0", "0", "1", "1", "2"]);
        assert_eq!(in_queues(&mut rig, &["q"]), [["2"]]);
    }
}

/// A message that has no room in a full queue goes to all that its dead letters go to.
#[test]
fn what_a_full_queue_refuses_is_dead_lettered_to_topics_too() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    bind_stream(&mut rig, a, "s", "dead/#");
    rig.durable_queue(a, "dead", QueueAttributes::default());
    rig.new_topic(a, "dead/x", false);
    rig.subscribed(a, new(1, "dead/x", into_queue("dead")));
    let refusing = QueueAttributes {
        overflow: Overflow::RejectPublishDeadLetter,
        ..dropping(1, to("amq.topic", "dead/x"))
    };
    rig.durable_queue(a, "q", refusing);
    let client = rig.attach(10);
    rig.open(client, "c", true, ClientExpiry::Never);
    rig.topic(
        client,
        "dead/#",
        SubscriptionOptions {
            qos: 1,
            ..Default::default()
        },
    );
    rig.send(a, "q", "0");
    let outcome = rig.publish(a, durable("q", 1..2)[0].clone());
    assert!(matches!(outcome, PublishOutcome::Refused(_)), "{outcome:?}");
    assert_eq!(rig.bodies(client), ["m1"]);
    assert_eq!(in_stream(&mut rig, a, "s"), ["m1"]);
    assert_eq!(in_queues(&mut rig, &["q", "dead"]), [["0"], ["m1"]]);
    assert_eq!(rig.broker.counters().dead_lettered, 1);
    rig.check_replay();
}

#[test]
fn what_is_pushed_out_of_a_very_wide_publish_is_found() {
    for how in [singly as How, all, transaction] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        rig.durable_queue(a, "dead", QueueAttributes::default());
        for at in 0..1500 {
            let name = format!("q{at}");
            rig.durable_queue(a, &name, dropping(1, dead_letter_to("dead")));
            rig.bind(a, "amq.topic", &name, "wide");
        }
        let messages = ["0", "1"].map(|body| to_topic("wide", body, 1));
        how(&mut rig, a, &messages);
        rig.check_replay();
        let found = in_queues(&mut rig, &["dead", "q0", "q1499"]);
        assert_eq!(found[0], vec!["0"; 1500]);
        assert_eq!(found[1..], [["1"], ["1"]]);
    }
}

/// What records of one command take is known when it ends: what is too many goes by one change, also of them.
#[test]
fn a_stream_keeps_no_more_bytes_after_a_command_than_after_many() {
    let play = |how: How, before: usize, bytes_max: u64| {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        rig.make(a, "s", 1);
        rig.make(a, "other", 1);
        rig.alter(a, "s", |it| it.bytes_max = Some(bytes_max));
        for at in 0..before {
            rig.write(a, "s", "k", &format!("{at:09}"));
        }
        let messages: Vec<_> = (0..10)
            .flat_map(|at| {
                let body = format!("{at:0width$}", width = 9 + at);
                [to_stream("s", "k", &body), to_stream("other", "k", &body)]
            })
            .collect();
        let journal = rig.journal.len();
        how(&mut rig, a, &messages);
        let trims = rig.journal[journal..].iter();
        let trims = trims.filter(|(_, kind, _)| kind.0 == 43).count();
        rig.check_replay();
        assert_eq!(in_stream(&mut rig, a, "other").len(), 10);
        (in_stream(&mut rig, a, "s"), trims)
    };
    for before in [0, 1, 5] {
        for bytes_max in [1, 10, 40, 100, 1000] {
            let (expected, _) = play(singly, before, bytes_max);
            assert!(!expected.is_empty());
            for how in [all, together] {
                let (found, trims) = play(how, before, bytes_max);
                assert_eq!(found, expected, "{before} in front, {bytes_max} bytes");
                assert!(trims <= 1, "{trims} changes");
            }
            let (found, _) = play(transaction, before, bytes_max);
            assert_eq!(found, expected, "{before} in front, {bytes_max} bytes");
        }
    }
}

/// What expires together goes into a stream by one decision.
#[test]
fn dead_letters_of_one_moment_trim_their_stream_once() {
    let mut rig = Rig::new();
    rig.tick_slice = 100;
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    rig.alter(a, "s", |it| it.bytes_max = Some(5));
    let short_lived = QueueAttributes {
        ttl_ms: Some(50),
        dead_letter: dead_letter_to("s"),
        ..QueueAttributes::default()
    };
    rig.durable_queue(a, "q", short_lived);
    rig.write(a, "s", "k", "old");
    for message in durable("q", 0..6) {
        rig.publish(a, message);
    }
    let journal = rig.journal.len();
    rig.tick(50);
    assert_eq!(in_stream(&mut rig, a, "s"), ["m4", "m5"]);
    let trims = rig.journal[journal..].iter();
    assert_eq!(trims.filter(|(_, kind, _)| kind.0 == 43).count(), 1);
    rig.check_replay();
}
