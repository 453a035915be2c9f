//! Settlements of many deliveries in one command.

use session::*;
use smallvec::SmallVec;

use crate::rig::*;

/// A settlement of ranges, counted from the first delivery's number.
fn settle(of: &Delivery, ranges: &[(u64, u64)], outcome: Outcome) -> Command {
    let DeliveryId { queue, qseq } = of.id.expect("it is to be settled");
    let ranges = ranges
        .iter()
        .map(|(first, last)| (qseq + first, qseq + last));
    Command::Settle(Settle {
        token: Some(Token(77)),
        lane: Lane(0),
        deliveries: DeliveryRange {
            queue,
            ranges: SmallVec::from_iter(ranges),
        },
        outcome,
    })
}

#[test]
fn a_delivery_that_one_command_names_twice_is_settled_once() {
    let cases: [&[(u64, u64)]; 5] = [
        &[(0, 3)],
        &[(1, 3), (0, 2)],
        &[(0, 1), (1, 3), (1, 1)],
        // Behind a range that is none, and that hides the higher one.
        &[(0, 3), (4, 0), (1, 2)],
        &[(2, 3), (0, 0), (1, 1), (0, 3)],
    ];
    for ranges in cases {
        for outcome in [Outcome::Accept, Outcome::Reject] {
            let mut rig = Rig::new();
            let a = rig.attach(1);
            rig.durable_queue(a, "q", QueueAttributes::default());
            for text in ["0", "1", "2", "3"] {
                rig.send(a, "q", text);
            }
            rig.consume(a, 1, "q", Credit::Window(0));
            let got = rig.deliveries(a);
            let before = rig.broker.counters().settled;
            rig.command(a, settle(&got[0], ranges, outcome));
            assert!(
                matches!(rig.last_event(a), Event::Settled { known: 4, .. }),
                "{ranges:?}"
            );
            assert_eq!(rig.broker.counters().settled - before, 4, "{ranges:?}");
            assert_eq!(rig.broker.counters().messages_unacked, 0);
            assert!(rig.refs.is_empty());
            rig.check_replay();
        }
    }
}

#[test]
fn one_command_gives_each_consumer_and_their_group_its_credit_back() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    rig.command(
        a,
        Command::GroupWindow {
            group: 1,
            window: 3,
        },
    );
    for (consumer, group, window) in [(1, 1, 2), (2, 1, 2), (3, 0, 2)] {
        let mut subscribe = rig.consumer(consumer, "q", Credit::Window(window));
        subscribe.group = group;
        rig.subscribe(a, subscribe);
    }
    for number in 0..20 {
        rig.send(a, "q", &number.to_string());
    }
    let mut next = 0;
    while next < 20 {
        let got = rig.deliveries(a);
        // Three of the group and two of the one that is in none, until there are no more.
        assert_eq!(got.len(), 5);
        let grouped = got.iter().filter(|it| it.consumer != ConsumerId(3));
        assert_eq!(grouped.count(), 3);
        for delivery in &got {
            assert_eq!(body(delivery), next.to_string());
            next += 1;
        }
        rig.command(a, settle(&got[0], &[(0, 4)], Outcome::Accept));
        assert!(matches!(rig.last_event(a), Event::Settled { known: 5, .. }) || next < 20);
    }
    assert!(rig.refs.is_empty());
    rig.check_replay();
}
