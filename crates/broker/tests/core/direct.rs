//! Deliveries that no queue knows of (QoS 0): to whom, together with whom, and where a client session is by then.

use std::sync::Arc;

use broker::{Decision, Effect};
use message::Message;
use session::*;

use crate::rig::*;

fn opened(rig: &mut Rig, number: u64, options: SubscriptionOptions) -> SessionId {
    let session = rig.attach(number);
    rig.open(
        session,
        &format!("c{number}"),
        true,
        ClientExpiry::WithConnection,
    );
    rig.topic(session, "t", options);
    session
}

fn with(retain_as_published: bool, identifier: u32) -> SubscriptionOptions {
    SubscriptionOptions {
        retain_as_published,
        identifier,
        ..SubscriptionOptions::default()
    }
}

fn publish(message: Message) -> Command {
    Command::Publish(Publish {
        token: None,
        lane: Lane(0),
        message: Arc::new(message),
        mandatory: false,
        create: false,
        or_stream: false,
        inbound_id: None,
        hash_key: None,
        folds: false,
    })
}

#[test]
fn those_who_see_no_difference_share_a_delivery_and_everyone_sees_their_own() {
    let mut rig = Rig::new();
    let plain = with(false, 0);
    let options = [
        plain,
        plain,
        with(true, 0),
        with(true, 0),
        with(true, 7),
        with(true, 8),
        plain,
    ];
    let who: Vec<SessionId> = (0..7)
        .map(|at| opened(&mut rig, at as u64 + 1, options[at]))
        .collect();
    let publisher = rig.attach(100);
    let mut message = to_topic("t", "x", 0);
    message.retain = true;

    let mut decision = Decision::default();
    let command = publish(message.clone());
    let context = rig.context();
    rig.broker
        .decide(publisher, &command, &context, &mut decision);
    let together: Vec<Vec<SessionId>> = (decision.effects.iter())
        .filter_map(|effect| match effect {
            Effect::Show { to, .. } => Some(to.to_vec()),
            _ => None,
        })
        .collect();
    let expected = [&who[..2], &who[2..4], &who[4..5], &who[5..6], &who[6..]];
    assert_eq!(together, expected);

    // The first one finds the route, the others know it.
    for _ in 0..3 {
        let before = rig.broker.counters().delivered;
        rig.command(publisher, publish(message.clone()));
        for (session, options) in who.iter().zip(options) {
            let got = rig.deliveries(*session);
            let [delivery] = &got[..] else {
                panic!("one each: {got:?}");
            };
            assert_eq!(delivery.retain, options.retain_as_published);
            let identifier = Some(options.identifier).filter(|it| *it != 0);
            assert_eq!(delivery.subscriptions[..], *identifier.as_slice());
            assert_eq!(delivery.consumer, ConsumerId::CLIENT);
        }
        assert_eq!(rig.broker.counters().delivered - before, 7);
    }
}

#[test]
fn a_known_route_leads_to_where_a_client_session_is() {
    let mut rig = Rig::new();
    let publisher = rig.attach(100);
    let first = rig.attach(1);
    rig.open(first, "c", false, ClientExpiry::Never);
    rig.topic(first, "t", with(false, 0));
    for body in ["1", "2"] {
        rig.publish_unconfirmed(publisher, to_topic("t", body, 0));
    }
    assert_eq!(rig.bodies(first), ["1", "2"]);

    // Taken over: the route is the same, the place is not.
    let second = rig.attach(2);
    assert!(rig.open(second, "c", false, ClientExpiry::Never));
    for body in ["3", "4"] {
        rig.publish_unconfirmed(publisher, to_topic("t", body, 0));
    }
    assert_eq!(rig.bodies(second), ["3", "4"]);
    assert_eq!(rig.bodies(first), [""; 0]);

    // Away: nobody has it, and that is counted.
    rig.detach(second);
    let before = rig.broker.counters().dropped_no_room;
    rig.publish_unconfirmed(publisher, to_topic("t", "5", 0));
    assert_eq!(rig.broker.counters().dropped_no_room, before + 1);

    // Back, and it takes no long ones.
    let third = rig.attach(3);
    let token = rig.token();
    rig.command(
        third,
        Command::OpenClient(Box::new(OpenClient {
            token,
            client_id: "c".into(),
            clean_start: false,
            expiry: ClientExpiry::Never,
            window: 10,
            message_len_max: Some(3),
            will: None,
        })),
    );
    for body in ["6", "long"] {
        rig.publish_unconfirmed(publisher, to_topic("t", body, 0));
    }
    assert_eq!(rig.bodies(third), ["6"]);
    assert_eq!(rig.broker.counters().dropped_too_large, 1);
}

#[test]
fn a_full_outbox_drops_what_no_queue_keeps_and_the_others_have_it() {
    let mut rig = Rig::new();
    let who: Vec<SessionId> = (1..=3)
        .map(|number| opened(&mut rig, number, with(false, 0)))
        .collect();
    let publisher = rig.attach(100);
    // Nothing is drained: the room of each is used up to the last message that still begins within it.
    rig.drains = false;
    let body = "x".repeat(64 << 10);
    let mut came = 0;
    while rig.broker.counters().dropped_no_room == 0 {
        rig.publish_unconfirmed(publisher, to_topic("t", &body, 0));
        came += 1;
        assert!(came < 10_000, "an outbox has a limit");
    }
    assert_eq!(rig.broker.counters().dropped_no_room, 3);
    for session in &who {
        assert_eq!(rig.bodies(*session).len(), came - 1);
    }
    // One of them has room again.
    let used = (came as u64 - 1) * (body.len() as u64 + 64);
    rig.broker.returned_room(who[1], used);
    rig.publish_unconfirmed(publisher, to_topic("t", "again", 0));
    assert_eq!(rig.bodies(who[1]), ["again"]);
    assert_eq!(rig.bodies(who[0]), [""; 0]);
    assert_eq!(rig.broker.counters().dropped_no_room, 5);
}

#[test]
fn a_session_that_ends_with_its_connection_has_no_queue_before_something_comes_into_it() {
    let mut rig = Rig::new();
    let publisher = rig.attach(100);
    let granted = SubscriptionOptions {
        qos: 1,
        ..SubscriptionOptions::default()
    };
    let made = |rig: &Rig| {
        let counters = rig.broker.counters();
        (counters.queues, counters.consumers)
    };
    let (one, two) = (opened(&mut rig, 1, granted), opened(&mut rig, 2, granted));
    rig.publish_unconfirmed(publisher, to_topic("t", "0", 0));
    assert_eq!([rig.bodies(one), rig.bodies(two)], [["0"], ["0"]]);
    assert_eq!(made(&rig), (0, 0));

    // A transaction that is refused leaves nothing behind.
    let operation = |message: Message| {
        let Command::Publish(publish) = publish(message) else {
            unreachable!("it is one")
        };
        Operation::Publish(publish)
    };
    let transact = Transact {
        token: rig.token(),
        lane: Lane(0),
        operations: vec![
            operation(to_topic("t", "never", 1)),
            operation(to_exchange("there is none", "k", "never")),
        ],
    };
    rig.command(publisher, Command::Transact(Box::new(transact)));
    assert_eq!(made(&rig), (0, 0));
    assert!(rig.bodies(one).is_empty());

    for body in ["1", "2", "3"] {
        rig.publish(publisher, to_topic("t", body, 1));
    }
    assert_eq!(rig.bodies(one), ["1", "2", "3"]);
    assert_eq!(rig.bodies(two), ["1", "2", "3"]);
    assert_eq!(made(&rig), (2, 2));
    rig.detach(one);
    assert_eq!(made(&rig), (1, 1));

    // The window of a session holds from the first delivery on.
    let narrow = rig.attach(3);
    rig.open_with(narrow, "c3", true, ClientExpiry::WithConnection, 2, None);
    rig.topic(narrow, "t", granted);
    for body in ["4", "5", "6"] {
        rig.publish(publisher, to_topic("t", body, 1));
    }
    assert_eq!(rig.bodies(narrow), ["4", "5"]);
    rig.check_replay();
}
