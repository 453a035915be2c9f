//! Pulls with leases in ms and receipts. What a random history of them does is in `sqs_history.rs`.

use broker::{Broker, Config};
use message::Message;
use session::{
    Command, Event, Fifo, Lane, Lease, Pull, QueueAttributes, Receipt, ReceiptUse, RefusalKind,
    SessionId, Token, UseReceipt,
};

use crate::rig::{Rig, body, to_queue};

pub(crate) fn pull(rig: &mut Rig, count: u32, lease_ms: u64, wait_ms: u64) -> Pull {
    Pull {
        token: rig.token(),
        lane: Lane(0),
        queue: "q".into(),
        count,
        lease: Lease::Ms(lease_ms),
        wait_ms,
        out_max: None,
        bytes_max: None,
        attempt: None,
    }
}

/// The answer to a pull, if it has come: bodies and receipts.
pub(crate) fn answer(rig: &Rig, of: SessionId, to: Token) -> Option<Vec<(String, Receipt)>> {
    rig.told
        .get(&of)?
        .iter()
        .find_map(|told| match &told.event {
            Event::Pulled {
                token, deliveries, ..
            } if *token == to => Some(
                deliveries
                    .iter()
                    .map(|delivery| (body(delivery), rig.receipt(delivery)))
                    .collect(),
            ),
            _ => None,
        })
}

pub(crate) fn receive(
    rig: &mut Rig,
    by: SessionId,
    count: u32,
    lease_ms: u64,
) -> Vec<(String, Receipt)> {
    let pull = pull(rig, count, lease_ms, 0);
    let token = pull.token;
    rig.command(by, Command::Pull(pull));
    answer(rig, by, token).expect("answered at once")
}

/// How a receipt was used: how many it named, or why not.
pub(crate) fn used(
    rig: &mut Rig,
    by: SessionId,
    receipt: Receipt,
    to: ReceiptUse,
) -> Result<u32, RefusalKind> {
    let token = rig.token();
    let it = UseReceipt {
        token,
        lane: Lane(0),
        receipt,
        to,
    };
    rig.command(by, Command::UseReceipt(it));
    let answers = rig.told[&by].iter();
    let answer = answers.filter_map(|told| match &told.event {
        Event::Settled { token: to, known } if *to == token => Some(Ok(*known)),
        Event::Refused { token: to, refusal } if *to == token => Some(Err(refusal.kind)),
        _ => None,
    });
    answer.last().expect("every use is answered")
}

fn standard(rig: &mut Rig) -> SessionId {
    let a = rig.attach(1);
    rig.durable_queue(a, "q", QueueAttributes::default());
    a
}

#[test]
fn a_pull_that_waits_is_answered_by_the_next_message_or_when_its_time_is_over() {
    let mut rig = Rig::new();
    let a = standard(&mut rig);
    let (first, second) = (
        pull(&mut rig, 10, 1000, 20_000),
        pull(&mut rig, 1, 1000, 50),
    );
    let tokens = [first.token, second.token];
    rig.command(a, Command::Pull(first));
    rig.command(a, Command::Pull(second));
    assert!(tokens.iter().all(|token| answer(&rig, a, *token).is_none()));
    rig.send(a, "q", "one");
    let got = answer(&rig, a, tokens[0]).expect("served first");
    assert_eq!(got[0].0, "one");
    assert!(answer(&rig, a, tokens[1]).is_none());
    rig.tick(49);
    assert!(answer(&rig, a, tokens[1]).is_none());
    rig.tick(1);
    assert_eq!(answer(&rig, a, tokens[1]), Some(Vec::new()));
    rig.check_replay();
}

#[test]
fn a_pull_that_waits_is_refused_when_its_queue_may_not_be_read_any_more() {
    let mut rig = Rig::new();
    let a = standard(&mut rig);
    rig.durable_queue(a, "other", QueueAttributes::default());
    let revoked = pull(&mut rig, 1, 1000, 1000);
    let kept = Pull {
        queue: "other".into(),
        ..pull(&mut rig, 1, 1000, 1000)
    };
    let (revoked_token, kept_token) = (revoked.token, kept.token);
    rig.command(a, Command::Pull(revoked));
    rig.command(a, Command::Pull(kept));
    rig.run(|broker, cx, out| {
        let may = |reading: broker::Reading<'_>| match reading {
            broker::Reading::Queue(name) => name != "q",
            _ => true,
        };
        assert!(!broker.decide_revoke(a, &may, cx, out));
    });
    let refused = rig.told[&a].iter().any(|told| {
        matches!(&told.event, Event::Refused { token, refusal }
            if *token == revoked_token && refusal.kind == RefusalKind::AccessDenied)
    });
    assert!(refused, "{:?}", rig.told[&a]);
    rig.send(a, "q", "secret");
    assert_eq!(answer(&rig, a, revoked_token), None);
    rig.send(a, "other", "open");
    let got = answer(&rig, a, kept_token).expect("goes on waiting");
    assert_eq!(got[0].0, "open");
    rig.check_replay();
}

#[test]
fn a_receipt_is_good_in_its_own_virtual_host_only() {
    let mut rig = Rig::new();
    let a = standard(&mut rig);
    rig.run(|broker, cx, out| broker.decide_vhosts(&["/", "elsewhere"], cx, out));
    let elsewhere = rig.broker.vhost("elsewhere").expect("made above");
    let stranger = rig.attach_in(2, elsewhere);
    rig.send(a, "q", "kept");
    let (_, receipt) = receive(&mut rig, a, 1, 1000).remove(0);
    let visible = ReceiptUse::Visibility { ms: 0 };
    assert_eq!(
        used(&mut rig, stranger, receipt, visible),
        Err(RefusalKind::UnknownDelivery)
    );
    // As if the message were gone already.
    assert_eq!(used(&mut rig, stranger, receipt, ReceiptUse::Delete), Ok(0));
    assert_eq!(used(&mut rig, a, receipt, ReceiptUse::Delete), Ok(1));
}

#[test]
fn what_waits_goes_with_its_connection_its_queue_or_by_its_own_wish() {
    let mut rig = Rig::new();
    let a = standard(&mut rig);
    let b = rig.attach(2);
    let gone = pull(&mut rig, 1, 1000, 1000);
    rig.command(b, Command::Pull(gone));
    rig.detach(b);
    let cancelled = pull(&mut rig, 1, 1000, 1000);
    let token = cancelled.token;
    rig.command(a, Command::Pull(cancelled));
    rig.command(a, Command::CancelPull { token });
    rig.send(a, "q", "kept");
    assert!(answer(&rig, a, token).is_none());
    assert_eq!(receive(&mut rig, a, 1, 10)[0].0, "kept");
    let waits = pull(&mut rig, 1, 1000, 1000);
    rig.command(a, Command::Pull(waits));
    let declare = session::Declare::DeleteQueue {
        name: "q".into(),
        if_unused: false,
        if_empty: false,
    };
    rig.declare(a, declare);
    assert!(rig.told[&a].iter().any(|told| matches!(
        &told.event,
        Event::Refused { refusal, .. } if refusal.kind == RefusalKind::NotFound
    )));
    rig.tick(2000);
    rig.check_replay();
}

#[test]
fn no_more_than_the_named_number_are_out() {
    let mut rig = Rig::new();
    let a = standard(&mut rig);
    for text in ["1", "2", "3"] {
        rig.send(a, "q", text);
    }
    assert_eq!(receive(&mut rig, a, 2, 1000).len(), 2);
    let full = Pull {
        out_max: Some(2),
        bytes_max: None,
        attempt: None,
        ..pull(&mut rig, 1, 1000, 0)
    };
    rig.command(a, Command::Pull(full.clone()));
    assert!(matches!(
        rig.last_event(a),
        Event::Refused { refusal, .. } if refusal.kind == RefusalKind::QuotaExceeded
    ));
    // One that waits gets what there is room for as soon as there is some, and no more than that.
    let waits = Pull {
        out_max: Some(3),
        ..pull(&mut rig, 10, 1000, 20_000)
    };
    let token = waits.token;
    for text in ["4", "5"] {
        rig.send(a, "q", text);
    }
    assert_eq!(receive(&mut rig, a, 1, 100).len(), 1);
    rig.command(a, Command::Pull(waits.clone()));
    assert_eq!(answer(&rig, a, token), None);
    rig.tick(99);
    assert_eq!(answer(&rig, a, token), None);
    rig.tick(1);
    let got = answer(&rig, a, token).expect("there is room for one");
    assert_eq!(got.iter().map(|it| &*it.0).collect::<Vec<_>>(), ["3"]);
    // What is settled makes room too; if nothing is, the wait ends with nothing.
    let settles = Pull {
        token: rig.token(),
        ..waits.clone()
    };
    let token = settles.token;
    rig.command(a, Command::Pull(settles));
    assert_eq!(answer(&rig, a, token), None);
    assert_eq!(used(&mut rig, a, got[0].1, ReceiptUse::Delete), Ok(1));
    let got = answer(&rig, a, token).expect("there is room for one again");
    assert_eq!(got.iter().map(|it| &*it.0).collect::<Vec<_>>(), ["4"]);
    let fails = Pull {
        token: rig.token(),
        wait_ms: 10,
        ..waits
    };
    let token = fails.token;
    rig.command(a, Command::Pull(fails));
    rig.tick(10);
    assert_eq!(answer(&rig, a, token), Some(Vec::new()));
    rig.tick(1000);
    rig.command(a, Command::Pull(full));
    assert!(matches!(rig.last_event(a), Event::Pulled { deliveries, .. } if deliveries.len() == 1));
    rig.check_replay();
}

#[test]
fn rules_6_a_receipt_names_one_receive() {
    let mut rig = Rig::new();
    let a = standard(&mut rig);
    rig.send(a, "q", "m");
    let old = receive(&mut rig, a, 1, 100)[0].1;
    rig.tick(100);
    let new = receive(&mut rig, a, 1, 100)[0].1;
    assert_eq!((old.count, new.count), (1, 2));
    let later = ReceiptUse::Visibility { ms: 500 };
    // An older receipt moves the time as well, as long as the message is out.
    assert_eq!(
        used(&mut rig, a, new, ReceiptUse::Visibility { ms: 50 }),
        Ok(1)
    );
    assert_eq!(used(&mut rig, a, old, later), Ok(1));
    rig.tick(499);
    assert!(receive(&mut rig, a, 1, 100).is_empty());
    rig.restart();
    let b = rig.attach(2);
    rig.tick(1);
    assert_eq!(used(&mut rig, b, new, later), Err(RefusalKind::NotOut));
    assert_eq!(receive(&mut rig, b, 1, 100)[0].1.count, 3);
    // Another connection, another epoch: whoever can name it may delete it, with an older receipt too.
    assert_eq!(used(&mut rig, b, new, ReceiptUse::Delete), Ok(1));
    assert_eq!(used(&mut rig, b, new, ReceiptUse::Delete), Ok(0));
    assert_eq!(
        used(&mut rig, b, new, later),
        Err(RefusalKind::UnknownDelivery)
    );
    rig.check_replay();
}

#[test]
fn rules_6_a_receipt_of_before_a_restart_names_no_other_message() {
    let later = ReceiptUse::Visibility { ms: 500 };
    for fifo in [false, true] {
        let mut rig = Rig::new();
        let a = rig.attach(1);
        let fifo = fifo.then_some(Fifo {
            dedup_by_content: false,
            dedup_per_group: false,
        });
        let attributes = QueueAttributes {
            fifo,
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, "q", attributes);
        rig.send(a, "q", "kept");
        let kept = receive(&mut rig, a, 1, 10_000)[0].1;
        rig.restart();
        let a = rig.attach(2);
        // Neither durable nor confirmed: it lives in memory only, and its number is given again.
        rig.publish_unconfirmed(a, in_group(to_queue("q", "lost")));
        let lost = receive(&mut rig, a, 1, 10_000)[0].1;
        assert_eq!(used(&mut rig, a, lost, later), Ok(1));
        rig.restart();
        let a = rig.attach(3);
        for durable in [false, true] {
            let mut message = in_group(to_queue("q", "another"));
            message.durable = durable;
            rig.publish_unconfirmed(a, message);
            let another = receive(&mut rig, a, 1, 10_000)[0].1;
            assert_eq!(another.qseq, lost.qseq);
            for old in [lost, Receipt { epoch: 0, ..lost }] {
                let gone = Err(RefusalKind::UnknownDelivery);
                let deleted = if fifo.is_some() { gone } else { Ok(0) };
                assert_eq!(used(&mut rig, a, old, ReceiptUse::Delete), deleted);
                assert_eq!(used(&mut rig, a, old, later), gone);
            }
            assert_eq!(used(&mut rig, a, another, later), Ok(1));
            if !durable {
                assert_eq!(used(&mut rig, a, another, ReceiptUse::Delete), Ok(1));
                rig.restart();
                rig.attach(a.0);
            }
        }
        // What existed durably then is what the receipt named: also when the core comes out of a snapshot.
        let from_snapshot = Broker::decode_snapshot(Config::default(), &mut &rig.snapshot()[..]);
        rig.restart_as(from_snapshot.expect("a snapshot"));
        let a = rig.attach(4);
        assert_eq!(used(&mut rig, a, kept, later), Ok(1));
        assert_eq!(used(&mut rig, a, kept, ReceiptUse::Delete), Ok(1));
        rig.check_replay();
    }
}

fn in_group(mut message: Message) -> Message {
    message.group = Some("another than that of who sends".into());
    message
}

fn taken(rig: &mut Rig, by: SessionId, queue: &'static str, lease: Lease) -> usize {
    let mut pull = pull(rig, 1, 0, 0);
    pull.queue = queue.into();
    pull.lease = lease;
    let token = pull.token;
    rig.command(by, Command::Pull(pull));
    answer(rig, by, token).expect("answered").len()
}

#[test]
fn a_pull_may_leave_its_time_to_the_queue() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for (name, own, lasts) in [("own", Some(200), 200), ("none", None, 30_000)] {
        let attributes = QueueAttributes {
            visibility_timeout_ms: own,
            ..QueueAttributes::default()
        };
        rig.durable_queue(a, name, attributes);
        rig.send(a, name, "m");
        assert_eq!(taken(&mut rig, a, name, Lease::Queue), 1);
        rig.tick(lasts - 1);
        assert_eq!(taken(&mut rig, a, name, Lease::Queue), 0);
        rig.tick(1);
        assert_eq!(taken(&mut rig, a, name, Lease::Queue), 1);
    }
    rig.check_replay();
}

#[test]
fn what_was_put_back_untried_was_not_received_that_time_also_after_a_restart() {
    let mut rig = Rig::new();
    let a = standard(&mut rig);
    rig.send(a, "q", "m");
    let back = ReceiptUse::PutBack { ms: 50 };
    for _ in 0..3 {
        let (_, receipt) = receive(&mut rig, a, 1, 1000)[0].clone();
        assert_eq!(receipt.count, 1);
        assert_eq!(used(&mut rig, a, receipt, back), Ok(1));
        rig.tick(49);
        assert_eq!(receive(&mut rig, a, 1, 1000), []);
        rig.tick(1);
        rig.check_replay();
    }
    let (_, tried) = receive(&mut rig, a, 1, 10)[0].clone();
    rig.tick(10);
    assert_eq!(
        used(&mut rig, a, tried, back),
        Err(RefusalKind::NotOut),
        "nobody has it"
    );
    let (_, again) = receive(&mut rig, a, 1, 10)[0].clone();
    assert_eq!((tried.count, again.count), (1, 2));
    assert_eq!(
        used(&mut rig, a, tried, back),
        Err(RefusalKind::NotOut),
        "another receive lasts"
    );
    rig.check_replay();
}

#[test]
fn a_visibility_of_0_makes_a_message_available_at_once() {
    let mut rig = Rig::new();
    let a = standard(&mut rig);
    rig.send(a, "q", "m");
    let receipt = receive(&mut rig, a, 1, 10_000)[0].1;
    let waits = pull(&mut rig, 1, 100, 5000);
    let token = waits.token;
    rig.command(a, Command::Pull(waits));
    let now = ReceiptUse::Visibility { ms: 0 };
    assert_eq!(used(&mut rig, a, receipt, now), Ok(1));
    assert_eq!(answer(&rig, a, token).expect("answered").len(), 1);
    rig.check_replay();
}
