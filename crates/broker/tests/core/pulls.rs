//! Pulls with leases in ms and receipts: what SQS promises, against a naive queue in virtual time, across restarts.

use broker::{Broker, Config};
use message::Message;
use proptest::prelude::*;
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
    rig.tick(1000);
    rig.command(a, Command::Pull(full));
    assert!(matches!(rig.last_event(a), Event::Pulled { deliveries, .. } if deliveries.len() == 1));
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
    message.fields_mut().group = Some("another than that of who sends".into());
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

/// One message of the naive queue.
#[derive(Clone, Debug)]
struct Naive {
    text: String,
    group: u8,
    count: u32,
    visible_at: u64,
    /// It was received, and is invisible for that.
    out: bool,
}

/// SQS as it is described: a list, looked at from the front.
#[derive(Debug, Default)]
struct NaiveQueue {
    fifo: bool,
    now: u64,
    messages: Vec<Naive>,
    dead: Vec<String>,
    deliveries_max: u32,
    waiting: Vec<(u64, u32, u64, u64)>,
}

impl NaiveQueue {
    fn pass(&mut self, ms: u64) {
        self.now += ms;
        for message in &mut self.messages {
            message.out &= message.visible_at > self.now;
        }
        // A lease that lapses after the last delivery allowed is the end of it.
        let (now, max) = (self.now, self.deliveries_max);
        let spent = |m: &Naive| m.count >= max && m.visible_at <= now && !m.out;
        self.dead.extend(
            self.messages
                .iter()
                .filter(|m| spent(m))
                .map(|m| m.text.clone()),
        );
        self.messages.retain(|m| !spent(m));
    }

    fn receive(&mut self, count: u32, lease: u64) -> Vec<(String, u32)> {
        let now = self.now;
        let mut order: Vec<usize> = Vec::new();
        let visible = |m: &Naive| m.visible_at <= now && !m.out;
        for (at, message) in self.messages.iter().enumerate() {
            if !visible(message) || order.contains(&at) {
                continue;
            }
            if !self.fifo {
                order.push(at);
                continue;
            }
            let mates = |other: &Naive| other.group == message.group;
            if self.messages.iter().any(|other| mates(other) && other.out) {
                continue;
            }
            let run = self.messages.iter().enumerate();
            order.extend(
                run.filter(|(_, m)| mates(m) && visible(m))
                    .map(|(at, _)| at),
            );
        }
        order.truncate(count as usize);
        order
            .into_iter()
            .map(|at| {
                let message = &mut self.messages[at];
                message.count += 1;
                message.out = true;
                message.visible_at = now + lease;
                (message.text.clone(), message.count)
            })
            .collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send { group: u8, delay: u64 },
    Receive { count: u32, lease: u64, wait: u64 },
    Delete { nth: usize },
    Visibility { nth: usize, ms: u64 },
    Pass { ms: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..3, prop_oneof![3 => Just(0), 1 => 1_u64..50]).prop_map(|(group, delay)| Step::Send { group, delay }),
        6 => (1_u32..5, 1_u64..60, prop_oneof![2 => Just(0), 1 => 1_u64..60])
            .prop_map(|(count, lease, wait)| Step::Receive { count, lease, wait }),
        4 => any::<usize>().prop_map(|nth| Step::Delete { nth }),
        3 => (any::<usize>(), 0_u64..60).prop_map(|(nth, ms)| Step::Visibility { nth, ms }),
        4 => (1_u64..40).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Restart),
    ]
}

/// The core and the naive queue, side by side.
struct Both {
    rig: Rig,
    naive: NaiveQueue,
    session: SessionId,
    sessions: u64,
    /// Receipts ever given, with the text that each is of.
    receipts: Vec<(String, Receipt)>,
    /// Tokens of pulls that wait, by the naive queue's number.
    tokens: Vec<(u64, Token)>,
    sent: u32,
}

impl Both {
    fn new(fifo: bool) -> Self {
        let mut rig = Rig::new();
        // The naive queue sees all at once what is due in one millisecond. Between two slices a message may be handed out
        // while an older one still waits for a mate of its group to come back.
        rig.tick_slice = usize::MAX;
        let session = rig.attach(1);
        rig.durable_queue(session, "dead", QueueAttributes::default());
        let attributes = QueueAttributes {
            fifo: fifo.then_some(Fifo {
                dedup_by_content: false,
                dedup_per_group: false,
            }),
            deliveries_max: Some(4),
            redrive: Some(session::Redrive {
                target: "dead".into(),
            }),
            ..QueueAttributes::default()
        };
        rig.durable_queue(session, "q", attributes);
        let naive = NaiveQueue {
            fifo,
            deliveries_max: 4,
            ..NaiveQueue::default()
        };
        Self {
            rig,
            naive,
            session,
            sessions: 1,
            receipts: Vec::new(),
            tokens: Vec::new(),
            sent: 0,
        }
    }

    fn got(&mut self, token: Token, wanted: &[(String, u32)]) -> Result<(), TestCaseError> {
        let got = answer(&self.rig, self.session, token);
        let shown: Option<Vec<(String, u32)>> = got.as_ref().map(|got| {
            got.iter()
                .map(|(text, r)| (text.clone(), r.count))
                .collect()
        });
        prop_assert_eq!(shown.as_deref(), Some(wanted));
        self.receipts.extend(got.unwrap_or_default());
        Ok(())
    }

    /// Serves the naive queue's waiting pulls, and compares.
    fn serve(&mut self) -> Result<(), TestCaseError> {
        while let Some((number, count, lease, _)) = self.naive.waiting.first().copied() {
            let wanted = self.naive.receive(count, lease);
            if wanted.is_empty() {
                break;
            }
            self.naive.waiting.remove(0);
            let (_, token) = self.tokens[number as usize];
            self.got(token, &wanted)?;
        }
        Ok(())
    }

    fn pass(&mut self, ms: u64) -> Result<(), TestCaseError> {
        // Millisecond by millisecond: what is due in one is compared before the next.
        for _ in 0..ms {
            self.rig.tick(1);
            self.naive.pass(1);
            let now = self.naive.now;
            let over: Vec<_> = self
                .naive
                .waiting
                .iter()
                .filter(|w| w.3 <= now)
                .copied()
                .collect();
            self.serve()?;
            for (number, ..) in over {
                if self.naive.waiting.iter().any(|w| w.0 == number) {
                    self.naive.waiting.retain(|w| w.0 != number);
                    let (_, token) = self.tokens[number as usize];
                    self.got(token, &[])?;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Send { group, delay } => {
                self.sent += 1;
                let text = format!("m{}", self.sent);
                let mut message = to_queue("q", &text);
                message.durable = true;
                // A FIFO queue takes no delay of a single message; its order would not be one.
                let delay = if self.naive.fifo { 0 } else { delay };
                message.delay_ms = delay;
                message.fields_mut().group = Some(vec![b'g', group].into());
                self.rig.publish(self.session, message);
                self.naive.messages.push(Naive {
                    text,
                    group,
                    count: 0,
                    visible_at: self.naive.now + delay,
                    out: false,
                });
            }
            Step::Receive { count, lease, wait } => {
                let pull = pull(&mut self.rig, count, lease, wait);
                let token = pull.token;
                self.rig.command(self.session, Command::Pull(pull));
                let wanted = self.naive.receive(count, lease);
                if wanted.is_empty() && wait > 0 {
                    prop_assert!(answer(&self.rig, self.session, token).is_none());
                    let number = self.tokens.len() as u64;
                    let until = self.naive.now + wait;
                    self.naive.waiting.push((number, count, lease, until));
                    self.tokens.push((number, token));
                } else {
                    self.got(token, &wanted)?;
                }
            }
            Step::Delete { nth } if !self.receipts.is_empty() => {
                let (text, receipt) = self.receipts[nth % self.receipts.len()].clone();
                let got = used(&mut self.rig, self.session, receipt, ReceiptUse::Delete);
                let at = self.naive.messages.iter().position(|m| m.text == text);
                let wanted = match at {
                    None if self.naive.fifo => Err(RefusalKind::UnknownDelivery),
                    None => Ok(0),
                    Some(at) => {
                        let m = &self.naive.messages[at];
                        if self.naive.fifo && !(m.out && m.count == receipt.count) {
                            Err(RefusalKind::NotOut)
                        } else {
                            self.naive.messages.remove(at);
                            Ok(1)
                        }
                    }
                };
                prop_assert_eq!(got, wanted);
            }
            Step::Visibility { nth, ms } if !self.receipts.is_empty() => {
                let (text, receipt) = self.receipts[nth % self.receipts.len()].clone();
                let to = ReceiptUse::Visibility { ms };
                let got = used(&mut self.rig, self.session, receipt, to);
                let now = self.naive.now;
                let wanted = match self.naive.messages.iter_mut().find(|m| m.text == text) {
                    None => Err(RefusalKind::UnknownDelivery),
                    Some(m) if m.out && (m.count == receipt.count || !self.naive.fifo) => {
                        m.visible_at = now + ms;
                        m.out = ms > 0;
                        Ok(1)
                    }
                    Some(_) => Err(RefusalKind::NotOut),
                };
                prop_assert_eq!(got, wanted);
                self.naive.pass(0);
            }
            Step::Pass { ms } => self.pass(ms)?,
            Step::Restart => {
                self.rig.check_replay();
                self.rig.restart();
                // What was due while nobody looked.
                self.rig.tick(0);
                self.naive.waiting.clear();
                self.sessions += 1;
                self.session = self.rig.attach(self.sessions);
            }
            Step::Delete { .. } | Step::Visibility { .. } => {}
        }
        self.serve()
    }
}

proptest! {
    #[test]
    fn random_uses_of_a_queue_agree_with_a_naive_sqs(
        fifo in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut both = Both::new(fifo);
        for step in steps {
            both.step(step)?;
        }
        both.rig.check_replay();
        // Nothing is lost: what is not deleted is there, or in the dead-letter queue, in the order of its death.
        both.pass(200)?;
        let session = both.session;
        let mut left: Vec<String> = Vec::new();
        loop {
            let pull = Pull { queue: "dead".into(), ..pull(&mut both.rig, 100, 10_000, 0) };
            let token = pull.token;
            both.rig.command(session, Command::Pull(pull));
            let got = answer(&both.rig, session, token).expect("answered");
            if got.is_empty() {
                break;
            }
            left.extend(got.into_iter().map(|(text, _)| text));
        }
        left.sort();
        both.naive.dead.sort();
        prop_assert_eq!(left, std::mem::take(&mut both.naive.dead));
    }
}
