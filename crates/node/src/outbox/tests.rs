//! An outbox by itself: what leaves, when, and in which order; what it keeps when there is nothing to do.

use super::*;
use bytes::Bytes;
use message::{Address, VhostId};
use session::{ConsumerId, Lane, Token};
use std::sync::atomic::{AtomicU64, Ordering};

/// Messages that are on the disk until told otherwise.
#[derive(Default)]
struct Disk {
    asked: Mutex<Vec<(StoredId, OutLane, Arc<Outbox>)>>,
}

fn message() -> Arc<Message> {
    Arc::new(Message::new(
        Address::queue(VhostId::ROOT, "q"),
        Bytes::from_static(b"body"),
    ))
}

impl Messages for Disk {
    fn in_memory(&self) -> Finds<'_> {
        Box::new(|_| None)
    }
    fn fetch(&self, id: StoredId, lane: OutLane, outbox: Arc<Outbox>) {
        self.asked
            .lock()
            .expect("no panic holds it")
            .push((id, lane, outbox));
    }
}

#[derive(Default)]
struct Counting(AtomicU64);
impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn reply(number: u64) -> Item {
    Item::Event(Event::Reached {
        token: Token(number),
    })
}

fn delivery(qseq: u64) -> Item {
    let delivery = PendingDelivery {
        id: Some(DeliveryId {
            queue: session::QueueId(1),
            qseq,
        }),
        qos: 1,
        ..PendingDelivery::first(ConsumerId(1), message::Timestamp(0))
    };
    Item::Stored {
        delivery: Box::new(delivery),
        id: StoredId(qseq),
        bytes: 10,
        _held: None,
    }
}

/// Tokens and qseqs of what may leave at that commit.
fn poll(outbox: &Arc<Outbox>, committed: u64, disk: &Disk, wakes: &Arc<Counting>) -> Vec<u64> {
    let waker = Waker::from(Arc::clone(wakes));
    let mut events = Vec::new();
    let ready = outbox.poll(
        &Context::from_waker(&waker),
        || committed,
        || true,
        disk,
        &mut events,
    );
    assert_eq!(ready.is_ready(), !events.is_empty());
    events
        .iter()
        .map(|event| match event {
            Event::Reached { token } => token.0,
            Event::Delivery(delivery) => delivery.id.expect("deliveries here have one").qseq,
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

const REPLY: OutLane = OutLane::Reply(Lane(0));
const OTHER: OutLane = OutLane::Reply(Lane(1));
const CONSUMER: OutLane = OutLane::Consumer(ConsumerId(1));

#[test]
fn rules_a4_an_effect_joins_the_tail_of_its_lane_and_overtakes_other_lanes() {
    let (outbox, disk, wakes) = (Arc::new(Outbox::default()), Disk::default(), Arc::default());
    outbox.push(REPLY, 7, 6, reply(1));
    outbox.push(REPLY, 0, 6, reply(2));
    outbox.push(OTHER, 0, 6, reply(3));
    assert_eq!(
        poll(&outbox, 6, &disk, &wakes),
        [3],
        "the other lane has nothing to wait for"
    );
    outbox.push(REPLY, 8, 6, reply(4));
    outbox.push(REPLY, 7, 6, reply(5));
    assert_eq!(poll(&outbox, 7, &disk, &wakes), [1, 2]);
    assert_eq!(poll(&outbox, 8, &disk, &wakes), [4, 5]);
}

#[test]
fn rules_a4_an_effect_does_not_overtake_what_became_safe_before_anyone_looked() {
    let (outbox, disk, wakes) = (Arc::new(Outbox::default()), Disk::default(), Arc::default());
    outbox.push(REPLY, 7, 6, reply(1));
    outbox.push(REPLY, 0, 7, reply(2));
    outbox.push(REPLY, 8, 7, reply(3));
    outbox.push(REPLY, 0, 8, reply(4));
    assert_eq!(poll(&outbox, 8, &disk, &wakes), [1, 2, 3, 4]);
}

#[test]
fn room_for_a_burst_is_left_to_others_by_who_has_nothing_to_do() {
    let (outbox, disk, wakes) = (Arc::new(Outbox::default()), Disk::default(), Arc::default());
    for number in 0..1000 {
        outbox.push(REPLY, 0, 1, reply(number));
    }
    assert_eq!(poll(&outbox, 1, &disk, &wakes).len(), 1000);
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    assert_eq!(outbox.lock().ready.capacity(), 0);
    outbox.push(REPLY, 0, 1, reply(1));
    assert!(outbox.lock().ready.capacity() >= 1000, "not allocated anew");
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [1]);
}

#[test]
fn what_waited_becomes_ready_as_it_lies_and_its_room_is_used_again() {
    let (outbox, disk, wakes) = (Arc::new(Outbox::default()), Disk::default(), Arc::default());
    for number in 0..1000 {
        outbox.push(REPLY, 0, 1, reply(number));
    }
    assert_eq!(poll(&outbox, 1, &disk, &wakes).len(), 1000);
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    for round in 0..3 {
        outbox.push(REPLY, 2 + round, 1 + round, reply(1));
        let room = outbox
            .lock()
            .waits
            .as_ref()
            .map(|waits| waits.waiting[0].1.capacity());
        assert!(room >= Some(1000), "not allocated anew in round {round}");
        outbox.push(OTHER, 0, 1 + round, reply(2));
        outbox.push(REPLY, 2 + round, 1 + round, reply(3));
        assert_eq!(poll(&outbox, 2 + round, &disk, &wakes), [2, 1, 3]);
        outbox.push(REPLY, 3 + round, 1 + round, reply(4));
        outbox.push(REPLY, 3 + round, 1 + round, reply(5));
        assert_eq!(poll(&outbox, 3 + round, &disk, &wakes), [4, 5]);
        assert_eq!(poll(&outbox, 3 + round, &disk, &wakes), [0u64; 0]);
    }
}

#[test]
fn rules_c14_a_read_holds_up_its_own_lane_only() {
    let (outbox, disk, wakes) = (Arc::new(Outbox::default()), Disk::default(), Arc::default());
    outbox.push(CONSUMER, 0, 1, delivery(10));
    outbox.push(CONSUMER, 0, 1, delivery(11));
    outbox.push(REPLY, 0, 1, reply(1));
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [1]);
    outbox.push(CONSUMER, 0, 1, delivery(12));
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    let mut seen = Vec::new();
    for expected in 10..=12 {
        let (id, lane, _) = disk
            .asked
            .lock()
            .expect("no panic holds it")
            .pop()
            .expect("the next is asked for");
        assert_eq!(id.0, expected);
        let before = wakes.0.load(Ordering::Relaxed);
        if let Some(next) = outbox.fetched(lane, id, Fetched::Message(message()), &disk) {
            disk.fetch(next, lane, Arc::clone(&outbox));
        }
        Waker::from(Arc::clone(&outbox)).wake();
        assert_eq!(
            wakes.0.load(Ordering::Relaxed),
            before + 1,
            "the task is woken once"
        );
        seen.extend(poll(&outbox, 1, &disk, &wakes));
        assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    }
    assert_eq!(seen, [10, 11, 12]);
    assert_eq!(outbox.drained(), 30);
    assert_eq!(outbox.drained(), 0);
}

#[test]
fn a_waiting_outbox_is_registered_once_a_batch_and_woken_by_the_commit() {
    let (outbox, disk, wakes) = (Arc::new(Outbox::default()), Disk::default(), Arc::default());
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    assert_eq!(outbox.push(REPLY, 2, 1, reply(1)).register, Some(2));
    assert_eq!(outbox.push(REPLY, 2, 1, reply(2)).register, None);
    assert_eq!(outbox.push(REPLY, 3, 1, reply(3)).register, Some(3));
    Waker::from(Arc::clone(&outbox)).wake();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert_eq!(poll(&outbox, 2, &disk, &wakes), [1, 2]);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "only another thread can see whether a lock is free"
)]
fn rules_c12_room_is_asked_for_without_the_lock_and_behind_the_waker() {
    let (outbox, disk, wakes) = (
        Arc::new(Outbox::default()),
        Disk::default(),
        Arc::new(Counting::default()),
    );
    let waker = Waker::from(Arc::clone(&wakes));
    outbox.left();
    let mut events = Vec::new();
    let cx = Context::from_waker(&waker);
    let full = || {
        // A step delivers under the journal's lock, which is what room asks for.
        let step = Arc::clone(&outbox);
        let free = std::thread::spawn(move || step.state.try_lock().is_ok());
        assert!(free.join().expect("no panic"), "the lock is free meanwhile");
        // Room is made before the answer is out.
        Waker::from(Arc::clone(&outbox)).wake();
        false
    };
    assert!(
        outbox
            .poll(&cx, || 1, full, &disk, &mut events)
            .is_pending()
    );
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "the task is woken");
    assert!(
        outbox
            .poll(&cx, || 1, || true, &disk, &mut events)
            .is_ready()
    );
    assert!(
        outbox
            .poll(&cx, || 1, || unreachable!(), &disk, &mut events)
            .is_pending(),
        "nothing is left any more"
    );
}

#[test]
fn rules_13_what_is_handed_out_is_bounded_and_the_rest_leaves_when_it_is_drained() {
    let (outbox, disk, wakes) = (
        Arc::new(Outbox::default()),
        Disk::default(),
        Arc::new(Counting::default()),
    );
    const BYTES: u64 = HANDED_OUT_MAX / 4;
    let direct = |qseq| match delivery(qseq) {
        Item::Stored { delivery, .. } => Item::Delivery {
            delivery: Arc::new(delivery.into_delivery(message())),
            bytes: BYTES,
        },
        _ => unreachable!(),
    };
    for qseq in 1..=10 {
        outbox.push(CONSUMER, 0, 1, direct(qseq));
    }
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [1, 2, 3, 4]);
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    assert!(outbox.push(REPLY, 0, 1, reply(100)).wake.is_none());
    Waker::from(Arc::clone(&outbox)).wake();
    assert_eq!(
        wakes.0.load(Ordering::Relaxed),
        0,
        "a reader that is behind is not woken to find that out"
    );
    assert_eq!(outbox.drained(), 4 * BYTES);
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [5, 6, 7, 8]);
    assert_eq!(outbox.drained(), 4 * BYTES);
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [9, 10, 100]);
    assert_eq!(outbox.drained(), 2 * BYTES);
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    assert!(outbox.push(REPLY, 0, 1, reply(101)).wake.is_some());
}

#[test]
fn lanes_that_wait_no_more_are_forgotten_under_steady_load() {
    let outbox = Arc::new(Outbox::default());
    for batch in 2..10_000u64 {
        let lane = OutLane::Consumer(ConsumerId(batch));
        outbox.push(lane, batch, batch - 2, reply(batch));
    }
    assert!(
        outbox
            .lock()
            .waits
            .as_ref()
            .is_some_and(|waits| waits.last_wait.len() <= LANES_KEPT + 1)
    );
}

#[test]
fn what_is_gone_before_it_is_read_is_left_out() {
    let (outbox, disk, wakes) = (
        Arc::new(Outbox::default()),
        Disk::default(),
        Arc::new(Counting::default()),
    );
    let pending = |qseq| match delivery(qseq) {
        Item::Stored { delivery, id, .. } => (*delivery, Content::Stored(id, 4)),
        _ => unreachable!("it is stored"),
    };
    let pulled = Item::Pulled {
        token: Token(1),
        deliveries: vec![pending(10), pending(11)],
        epoch: 1,
        remaining: 0,
        _held: None,
    };
    outbox.push(REPLY, 0, 1, pulled);
    outbox.push(CONSUMER, 0, 1, delivery(12));
    outbox.push(CONSUMER, 0, 1, delivery(13));
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    let place = |qseq| match delivery(qseq) {
        Item::Stored { delivery, .. } => delivery.id.into_iter().collect(),
        _ => Vec::new(),
    };
    assert_eq!(outbox.deliveries_of(REPLY, StoredId(10)), Some(place(10)));
    assert_eq!(
        outbox.deliveries_of(CONSUMER, StoredId(12)),
        Some(place(12))
    );
    assert_eq!(outbox.deliveries_of(OTHER, StoredId(12)), None);
    let next = outbox.fetched(REPLY, StoredId(10), Fetched::Gone, &disk);
    assert_eq!(next, Some(StoredId(11)), "the rest of the answer is read");
    let got = Fetched::Message(message());
    assert_eq!(outbox.fetched(REPLY, StoredId(11), got, &disk), None);
    let next = outbox.fetched(CONSUMER, StoredId(12), Fetched::Gone, &disk);
    assert_eq!(next, Some(StoredId(13)), "and so is what is behind it");
    let got = Fetched::Message(message());
    assert_eq!(outbox.fetched(CONSUMER, StoredId(13), got, &disk), None);
    let waker = Waker::from(Arc::clone(&wakes));
    let mut events = Vec::new();
    let cx = &Context::from_waker(&waker);
    let ready = outbox.poll(cx, || 1, || true, &disk, &mut events);
    assert!(ready.is_ready());
    let left: Vec<u64> = events
        .iter()
        .flat_map(|event| match event {
            Event::Pulled { deliveries, .. } => deliveries.clone(),
            Event::Delivery(delivery) => vec![Delivery::clone(delivery)],
            other => panic!("unexpected {other:?}"),
        })
        .map(|delivery| delivery.id.expect("deliveries here have one").qseq)
        .collect();
    assert_eq!(left, [11, 13]);
    assert_eq!(outbox.drained(), 20, "the room of both is given back");
}

/// Nothing is sent for them, so nothing else would have the connection drain.
#[test]
fn rules_13_the_room_of_messages_that_are_gone_is_given_back_though_nothing_leaves() {
    let (outbox, disk, wakes) = (
        Arc::new(Outbox::default()),
        Disk::default(),
        Arc::new(Counting::default()),
    );
    outbox.push(CONSUMER, 0, 1, delivery(12));
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    assert_eq!(
        outbox.fetched(CONSUMER, StoredId(12), Fetched::Gone, &disk),
        None
    );
    outbox.wake_by_ref();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    let waker = Waker::from(Arc::clone(&wakes));
    let (cx, mut events) = (Context::from_waker(&waker), Vec::new());
    let mut look = || outbox.poll(&cx, || 1, || true, &disk, &mut events);
    assert!(look().is_ready(), "the connection is told to drain");
    assert_eq!(outbox.drained(), 10);
    assert!(look().is_pending(), "once");
    assert!(events.is_empty());
}

#[test]
fn an_unreadable_message_closes_the_connection() {
    let (outbox, disk, wakes) = (
        Arc::new(Outbox::default()),
        Disk::default(),
        Arc::new(Counting::default()),
    );
    outbox.push(CONSUMER, 0, 1, delivery(10));
    assert_eq!(poll(&outbox, 1, &disk, &wakes), [0u64; 0]);
    outbox.fetched(CONSUMER, StoredId(10), Fetched::Unreadable, &disk);
    let waker = Waker::from(Arc::clone(&wakes));
    let mut events = Vec::new();
    assert!(
        outbox
            .poll(
                &Context::from_waker(&waker),
                || 1,
                || true,
                &disk,
                &mut events
            )
            .is_ready()
    );
    assert_eq!(
        events,
        [Event::Closing {
            reason: CloseReason::Internal
        }]
    );
}

#[test]
fn what_is_put_in_together_leaves_as_what_is_put_in_one_by_one() {
    let (outbox, disk, wakes) = (Arc::new(Outbox::default()), Disk::default(), Arc::default());
    assert_eq!(poll(&outbox, 6, &disk, &wakes), []);
    let mut filling = outbox.fill();
    for (lane, wait, number) in [
        (REPLY, 8, 1),
        (REPLY, 0, 2),
        (OTHER, 6, 3),
        (OTHER, 7, 4),
        (REPLY, 7, 5),
    ] {
        filling.push(lane, wait, 6, reply(number));
    }
    let filled = filling.end();
    assert!(filled.wake.is_some(), "one may leave at once");
    assert_eq!(filled.register[..], [8, 7]);
    assert_eq!(poll(&outbox, 6, &disk, &wakes), [3]);
    assert_eq!(poll(&outbox, 7, &disk, &wakes), [4]);
    assert_eq!(poll(&outbox, 8, &disk, &wakes), [1, 2, 5]);
    outbox.close();
    let mut filling = outbox.fill();
    filling.push(REPLY, 9, 8, reply(6));
    assert!(filling.end().register.is_empty(), "nothing is kept");
}
