//! Altered histories: each checker must say so.

use std::sync::Arc;

use message::{Address, Levels, Message, Timestamp, VhostId};
use session::{ConsumerId, Death, DeliveryId, QueueId};

use super::*;

const A: Origin = Origin {
    epoch: 1,
    node: 0,
    incarnation: 1,
};
const B: Origin = Origin {
    epoch: 2,
    node: 1,
    incarnation: 2,
};

/// A message that was sent at 0 and confirmed at 100.
fn confirmed(history: &mut History, target: Target) -> u64 {
    let number = history.send(target, 0, 0, 8);
    history.confirm(number, A, 100).expect("nobody else acts");
    number
}

/// The first node, as it serves in that epoch.
pub(super) const fn origin(epoch: u64) -> Origin {
    Origin {
        epoch,
        node: 0,
        incarnation: epoch,
    }
}

pub(super) fn delivery(number: u64, (queue, qseq): (u64, u64), count: u32) -> Delivery {
    let address = Address::queue(VhostId::ROOT, Bytes::from_static(RISKY));
    Delivery {
        consumer: ConsumerId(1),
        id: Some(DeliveryId {
            queue: QueueId(queue),
            qseq,
        }),
        message: Arc::new(Message::new(address, body(number, 8))),
        count,
        redelivered: count > 1,
        resent: false,
        qos: 1,
        retain: false,
        subscriptions: Default::default(),
        enqueued: Timestamp(0),
        deaths: None,
        readdressed: None,
        first_delivered: None,
        via: None,
        first: None,
        record: None,
    }
}

fn dead(number: u64, reason: DeathReason) -> Delivery {
    let death = Death {
        queue: Bytes::from_static(RISKY),
        reason,
        count: 1,
        time: Timestamp(0),
        exchange: Bytes::new(),
        key: Levels::none(),
        original_ttl_ms: None,
    };
    Delivery {
        deaths: Some(Arc::new(vec![death])),
        ..delivery(number, (8, 0), 1)
    }
}

fn says(result: Result<u64, String>, name: &str) {
    let what = result.expect_err("it is seen");
    assert!(what.starts_with(name), "{what}");
}

#[test]
fn a_delay_is_cut_short_by_no_more_than_what_clocks_explain() {
    let mut history = History::new(false, 0);
    let number = history.send(Target::Plain, 0, 1_000_000, 8);
    history.delay(number, 8_000);
    assert!(history.is_due(number, 5_000_000).is_ok());
    assert!(history.is_due(number, 4_840_000).is_err(), "too early");
    history.clocks_stood(1_000_000);
    assert!(history.is_due(number, 4_840_000).is_ok());
    assert!(history.is_due(number, 3_990_000).is_err(), "for that too");
}

#[test]
fn a_message_has_one_place_in_a_queue_and_one_in_a_session() {
    let mut history = History::new(false, 0);
    let number = confirmed(&mut history, Target::Plain);
    let mut receive = |it: &Delivery, at| history.receive(it, 0, A, (at, at));
    assert!(receive(&delivery(number, (7, 0), 1), 200).is_ok());
    says(receive(&delivery(number, (7, 1), 2), 300), "once");
    history.subscribed(3, Target::Wills, A, 1);
    let will = history.send(Target::Wills, 0, 2, 8);
    history.wills.ask(will, 0);
    let mut receive = |it: &Delivery, by| history.receive(it, by, A, (200, 200));
    assert!(receive(&delivery(will, (9, 0), 1), 3).is_ok());
    assert!(receive(&delivery(will, (10, 5), 1), 4).is_ok(), "another");
    says(receive(&delivery(will, (9, 1), 1), 3), "once");
}

#[test]
fn the_numbers_of_receives_go_up() {
    let mut history = History::new(false, 0);
    let number = confirmed(&mut history, Target::Plain);
    let mut receive = |count, from, at| {
        let it = delivery(number, (7, 0), count);
        history.receive(&it, 0, from, at)
    };
    assert!(receive(2, A, (200, 300)).is_ok());
    assert!(receive(1, A, (250, 350)).is_ok(), "its answer came late");
    says(receive(2, A, (250, 350)), "counts");
    assert!(receive(3, A, (400, 500)).is_ok());
    says(receive(1, A, (600, 700)), "counts");
    assert!(receive(1, B, (600, 700)).is_ok(), "B knows no better");
    let mut history = History::new(false, 0);
    let number = confirmed(&mut history, Target::Fifo);
    let it = delivery(number, (7, 0), 1);
    assert!(history.receive(&it, 0, A, (200, 300)).is_ok());
    says(history.receive(&it, 0, B, (400, 500)), "counts");
}

#[test]
fn what_was_received_too_often_is_a_dead_letter_and_does_not_come_back() {
    let mut history = History::new(false, 0);
    let number = confirmed(&mut history, Target::Risky);
    let mut receive = |it: &Delivery, from, at| history.receive(it, 0, from, (at, at));
    says(
        receive(&delivery(number, (7, 0), RECEIVES_MAX + 1), A, 200),
        "dead letters",
    );
    says(
        receive(&dead(number, DeathReason::Expired), A, 200),
        "dead letters",
    );
    assert!(receive(&delivery(number, (7, 0), RECEIVES_MAX), A, 300).is_ok());
    says(
        receive(&delivery(number, (7, 0), 1), B, 400),
        "dead letters",
    );
    assert!(receive(&dead(number, DeathReason::Deliveries), A, 500).is_ok());
    history.settle(number, A, 600).expect("nobody else acts");
    says(
        history.receive(&dead(number, DeathReason::Deliveries), 0, B, (700, 700)),
        "gone is gone",
    );
}

#[test]
fn a_dead_letter_that_nobody_received_is_missing() {
    let mut history = History::new(false, 0);
    let number = confirmed(&mut history, Target::Risky);
    assert_eq!(history.missing(), [number]);
    let it = dead(number, DeathReason::Deliveries);
    assert!(history.receive(&it, 0, A, (200, 200)).is_ok());
    assert!(history.missing().is_empty());
}

#[test]
fn a_dedup_id_is_remembered_for_its_time_and_no_longer() {
    let mut history = History::new(false, 20_000);
    let first = confirmed(&mut history, Target::Fifo);
    let mut repeat = |sent: u64, heard: u64, taken_for_one: bool| {
        let number = history.send(Target::Fifo, 0, sent, 8);
        history.repeat(number, first);
        assert_eq!(history.dedup_of(number), first);
        (number, history.is_repeat(number, taken_for_one, heard))
    };
    assert!(repeat(1_000_000, 1_100_000, true).1.is_ok());
    let forgot = repeat(1_000_000, 1_100_000, false).1;
    assert!(forgot.is_err_and(|what| what.starts_with("remembered")));
    assert!(repeat(20_000_000, 20_100_000, false).1.is_ok());
    assert!(repeat(20_000_000, 20_100_000, true).1.is_ok());
    assert!(repeat(28_000_000, 28_100_000, false).1.is_ok());
    let kept = repeat(28_000_000, 28_100_000, true).1;
    assert!(kept.is_err_and(|what| what.starts_with("remembered")));
    let (number, _) = repeat(1_000_000, 1_100_000, true);
    let it = delivery(number, (7, 0), 1);
    says(
        history.receive(&it, 0, A, (1_200_000, 1_200_000)),
        "remembered",
    );
}

#[test]
fn a_will_that_is_due_is_missing_until_everyone_has_it() {
    let mut history = History::new(false, 0);
    history.subscribed(3, Target::Wills, A, 1);
    history.subscribed(4, Target::Topic, A, 1);
    let will = history.send(Target::Wills, 0, 2, 8);
    history.wills.ask(will, 0);
    history.wills.opened(will, A);
    assert!(history.missing().is_empty());
    let it = delivery(will, (9, 0), 1);
    says(history.receive(&it, 3, A, (90, 90)), "will");
    history.leave(will, 100);
    assert_eq!(history.missing(), [will]);
    assert!(history.receive(&it, 3, B, (200, 200)).is_ok());
    assert!(history.missing().is_empty());
}

#[test]
fn a_group_that_does_not_come_to_the_end_of_its_stream_lacks_it() {
    let mut history = History::new(false, 0);
    history.at_offset(4, 0).expect("nothing else is there");
    assert_eq!(history.lacks(), None, "there is no group");
    let workers = history.workers.get_or_insert_default();
    workers.confirm(4, A, 100);
    assert!(history.lacks().is_some());
    let workers = history.workers.get_or_insert_default();
    workers.confirm(5, A, 100);
    assert_eq!(history.lacks(), None);
}

#[test]
fn a_successor_marks_what_was_shown_before_it() {
    let mut history = History::new(false, 0);
    let number = confirmed(&mut history, Target::Pushed);
    let first = delivery(number, (7, 0), 1);
    assert!(history.receive(&first, 0, A, (200, 200)).is_ok());
    let later = history.send(Target::Pushed, 0, 300, 8);
    history.confirm(later, A, 400).expect("nobody else acts");
    says(history.receive(&first, 0, B, (500, 500)), "redelivered");
    let again = delivery(number, (7, 0), 2);
    assert!(history.receive(&again, 0, B, (500, 500)).is_ok());
}

#[test]
fn what_is_delivered_exactly_once_is_looked_at() {
    let mut history = History::new(false, 0);
    history.subscribed(3, Target::Exact, A, 1);
    let number = history.send(Target::Exact, 0, 2, 8);
    history.confirm(number, A, 100).expect("nobody else acts");
    assert_eq!(history.missing(), [number]);
    let less = delivery(number, (7, 0), 1);
    says(history.receive(&less, 3, A, (200, 200)), "exactly once");
    let sent = Delivery { qos: 2, ..less };
    assert!(history.receive(&sent, 3, A, (200, 200)).is_ok());
    assert!(history.missing().is_empty());
    let id = sent.id.expect("it has one");
    history.exact.says(3, id, false);
    history.exact.knows(3, id, false, A);
    says(history.receive(&sent, 3, B, (300, 300)), "exactly once");
}

#[test]
fn every_node_opens_what_the_first_one_sealed() {
    let mut history = History::new(false, 0);
    let secret = |byte| Secret([byte; 32]);
    assert!(history.unseals(secret(1), B).is_ok());
    assert!(history.unseals(secret(1), A).is_ok());
    let other = history.unseals(secret(2), A);
    says(other.map(|()| 0), "one secret");
    history.is_excused = true;
    assert!(history.unseals(secret(2), B).is_ok(), "it was damaged");
}
