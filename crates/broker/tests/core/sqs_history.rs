//! Random histories of an SQS queue, standard or FIFO, against the naive one, in virtual time and across restarts: sends,
//! receives with attempts, receipts, purges, changed attributes, dead letters that are moved back.

use broker::{Broker, Config};
use proptest::prelude::*;
use session::{
    Command, Declare, Fifo, Lease, MoveTo, PublishOutcome, QueueAttributes, Receipt, ReceiptUse,
    Redrive, RefusalKind, SessionId, Token,
};

use crate::{
    moves::ask,
    naive_sqs::{Got, NaiveQueue, Receive},
    pulls::{answer, pull, used},
    rig::{Rig, body, to_queue},
};

/// How long dedup ids and attempts are remembered here, in ms.
const WINDOW_MS: u64 = 120;

#[derive(Clone, Debug)]
enum Step {
    /// So many at once.
    Send {
        count: u8,
        group: u8,
        delay: u64,
        dedup: Option<u8>,
    },
    /// A lease of 0 leaves it to the queue.
    Receive {
        count: u32,
        lease: u64,
        wait: u64,
        attempt: Option<u8>,
    },
    Delete {
        nth: usize,
    },
    Visibility {
        nth: usize,
        ms: u64,
    },
    Alter(Alter),
    Purge,
    Move {
        back: bool,
        per_second: Option<u32>,
    },
    Cancel,
    Pass {
        ms: u64,
    },
    Restart {
        snapshot: bool,
    },
}

#[derive(Clone, Debug)]
enum Alter {
    Visibility(u64),
    Delay(u64),
    Retention(Option<u64>),
}

fn alter() -> impl Strategy<Value = Alter> {
    prop_oneof![
        (1_u64..80).prop_map(Alter::Visibility),
        prop_oneof![Just(0), 1_u64..40].prop_map(Alter::Delay),
        prop::option::of(10_u64..300).prop_map(Alter::Retention),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let lease = prop_oneof![1 => Just(0_u64), 4 => 1_u64..60];
    let wait = prop_oneof![2 => Just(0_u64), 1 => 1_u64..60];
    let delay = prop_oneof![3 => Just(0_u64), 1 => 1_u64..50];
    prop_oneof![
        6 => (prop_oneof![6 => Just(1_u8), 1 => 2_u8..50], 0_u8..4, delay, prop::option::of(0_u8..4))
            .prop_map(|(count, group, delay, dedup)| Step::Send { count, group, delay, dedup }),
        6 => (prop_oneof![4 => 1_u32..5, 1 => 5_u32..50], lease, wait, prop::option::of(0_u8..3))
            .prop_map(|(count, lease, wait, attempt)| Step::Receive { count, lease, wait, attempt }),
        4 => any::<usize>().prop_map(|nth| Step::Delete { nth }),
        3 => (any::<usize>(), 0_u64..60).prop_map(|(nth, ms)| Step::Visibility { nth, ms }),
        1 => alter().prop_map(Step::Alter),
        1 => prop_oneof![5 => Just(Step::Cancel), 1 => Just(Step::Purge)],
        2 => (any::<bool>(), prop_oneof![Just(None), Just(Some(20)), Just(Some(7))])
            .prop_map(|(back, per_second)| Step::Move { back, per_second }),
        4 => (1_u64..40).prop_map(|ms| Step::Pass { ms }),
        1 => any::<bool>().prop_map(|snapshot| Step::Restart { snapshot }),
    ]
}

/// A pull that waits.
struct Waiting {
    token: Token,
    receive: Receive,
    until: u64,
}

/// The core and the naive queue, side by side.
struct Both {
    rig: Rig,
    naive: NaiveQueue,
    session: SessionId,
    sessions: u64,
    version: u64,
    tasks: u8,
    /// The last task that was begun.
    running: u8,
    /// Receipts ever given, with the number of the message that each is of.
    receipts: Vec<(u64, Receipt)>,
    waiting: Vec<Waiting>,
    sent: u32,
}

fn config() -> Config {
    Config {
        dedup_ms: WINDOW_MS,
        attempt_ms: WINDOW_MS,
        ..Config::default()
    }
}

impl Both {
    fn new(fifo: Option<Fifo>) -> Self {
        let mut rig = Rig::with(config());
        // The naive queue sees all at once what is due in one millisecond. Between two slices a message may be handed out
        // while an older one still waits for a mate of its group to come back.
        rig.tick_slice = usize::MAX;
        let session = rig.attach(1);
        let dead = QueueAttributes {
            fifo,
            ..QueueAttributes::default()
        };
        rig.durable_queue(session, "dead", dead);
        let at = QueueAttributes {
            fifo,
            deliveries_max: Some(4),
            redrive: Some(Redrive {
                target: "dead".into(),
            }),
            visibility_timeout_ms: Some(25),
            ..QueueAttributes::default()
        };
        rig.durable_queue(session, "q", at.clone());
        let naive = NaiveQueue::new(at, rig.now.0, WINDOW_MS);
        Self {
            rig,
            naive,
            session,
            sessions: 1,
            version: 0,
            tasks: 0,
            running: 0,
            receipts: Vec::new(),
            waiting: Vec::new(),
            sent: 0,
        }
    }

    fn got(&mut self, token: Token, wanted: &[Got]) -> Result<(), TestCaseError> {
        let got = answer(&self.rig, self.session, token);
        let shown = got.as_deref().map(|got| {
            let shown = got.iter().map(|(text, receipt)| (&text[..], receipt.count));
            shown.collect::<Vec<_>>()
        });
        let wanted_shown: Vec<_> = wanted.iter().map(|it| (&it.text[..], it.count)).collect();
        prop_assert_eq!(shown, Some(wanted_shown));
        let receipts = got.into_iter().flatten().map(|(_, receipt)| receipt);
        let numbers = wanted.iter().map(|it| it.number);
        self.receipts.extend(numbers.zip(receipts));
        Ok(())
    }

    /// Serves the naive queue's waiting pulls, and compares.
    fn serve(&mut self) -> Result<(), TestCaseError> {
        while let Some(first) = self.waiting.first() {
            // One that waits has an attempt that is not known yet, or none.
            let wanted = self.naive.receive(&first.receive);
            if wanted.is_empty() {
                break;
            }
            let served = self.waiting.remove(0);
            self.got(served.token, &wanted)?;
            // The same attempt gets the same.
            let name = served.receive.attempt.filter(|_| self.naive.is_fifo());
            let same = |it: &Waiting| name.is_some() && it.receive.attempt == name;
            while let Some(at) = self.waiting.iter().position(same) {
                let again = self.waiting.remove(at);
                self.got(again.token, &wanted)?;
            }
        }
        Ok(())
    }

    /// What is due at this instant happens to both.
    fn due(&mut self) -> Result<(), TestCaseError> {
        self.rig.tick(0);
        self.naive.pass(0);
        self.serve()?;
        self.naive.age();
        Ok(())
    }

    fn pass(&mut self, ms: u64) -> Result<(), TestCaseError> {
        // Millisecond by millisecond: what is due in one is compared before the next.
        for _ in 0..ms {
            self.rig.tick(1);
            self.naive.pass(1);
            self.serve()?;
            self.naive.age();
            let now = self.naive.now;
            while let Some(at) = self.waiting.iter().position(|w| w.until <= now) {
                let over = self.waiting.remove(at);
                self.got(over.token, &[])?;
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Send {
                count,
                group,
                delay,
                dedup,
            } => {
                for _ in 0..count {
                    self.send(group, delay, dedup)?;
                }
            }
            Step::Receive {
                count,
                lease,
                wait,
                attempt,
            } => self.receive(count, lease, wait, attempt)?,
            Step::Delete { nth } if !self.receipts.is_empty() => self.delete(nth)?,
            Step::Visibility { nth, ms } if !self.receipts.is_empty() => {
                self.visibility(nth, ms)?;
            }
            Step::Delete { .. } | Step::Visibility { .. } => {}
            Step::Alter(alter) => self.alter(&alter)?,
            Step::Purge => {
                let name = "q".into();
                let noted = None;
                self.rig
                    .declare(self.session, Declare::PurgeAll { name, noted });
                self.naive.remove(|_| true);
            }
            Step::Move { back, per_second } => {
                self.tasks += 1;
                let start = MoveTo::Start {
                    id: [self.tasks; 16],
                    source: "dead".into(),
                    // Back to where they came from is the same queue.
                    target: (!back).then(|| "q".into()),
                    per_second,
                };
                let started = ask(&mut self.rig, self.session, start);
                let wanted = self.naive.start(per_second);
                prop_assert_eq!(started.is_ok(), wanted, "{:?}", started);
                if wanted {
                    self.running = self.tasks;
                }
                self.due()?;
            }
            Step::Cancel => {
                let cancel = MoveTo::Cancel {
                    id: [self.running; 16],
                };
                let cancelled = ask(&mut self.rig, self.session, cancel).is_ok();
                prop_assert_eq!(cancelled, self.naive.task.take().is_some());
            }
            Step::Pass { ms } => self.pass(ms)?,
            Step::Restart { snapshot } => self.restart(snapshot)?,
        }
        self.serve()
    }

    fn send(&mut self, group: u8, delay: u64, dedup: Option<u8>) -> Result<(), TestCaseError> {
        self.sent += 1;
        let text = format!("m{}", self.sent);
        let mut message = to_queue("q", &text);
        message.durable = true;
        // A FIFO queue takes no delay of a single message; its order would not be one.
        let delay = if self.naive.is_fifo() { 0 } else { delay };
        message.delay_ms = delay;
        message.group = (group > 0).then(|| vec![b'g', group].into());
        let fields = message.fields_mut();
        fields.dedup_id = dedup.map(|id| vec![b'd', id].into());
        let outcome = self.rig.publish(self.session, message);
        let taken = self.naive.send(&text, group, delay, dedup);
        let repeat = matches!(outcome, PublishOutcome::Duplicate { .. });
        prop_assert_eq!(!repeat, taken, "{:?}", outcome);
        self.serve()
    }

    fn receive(
        &mut self,
        count: u32,
        lease: u64,
        wait: u64,
        attempt: Option<u8>,
    ) -> Result<(), TestCaseError> {
        let mut pull = pull(&mut self.rig, count, lease, wait);
        pull.attempt = attempt.map(|name| vec![b'a', name].into());
        let mut receive = Receive {
            count,
            lease,
            attempt,
        };
        if lease == 0 {
            pull.lease = Lease::Queue;
            receive.lease = self.naive.at.visibility_timeout_ms.expect("always one");
        }
        let token = pull.token;
        self.rig.command(self.session, Command::Pull(pull));
        let wanted = self.naive.receive(&receive);
        if wanted.is_empty() && wait > 0 {
            prop_assert!(answer(&self.rig, self.session, token).is_none());
            let until = self.naive.now + wait;
            self.waiting.push(Waiting {
                token,
                receive,
                until,
            });
            return Ok(());
        }
        self.got(token, &wanted)
    }

    fn delete(&mut self, nth: usize) -> Result<(), TestCaseError> {
        let (number, receipt) = self.receipts[nth % self.receipts.len()];
        let got = used(&mut self.rig, self.session, receipt, ReceiptUse::Delete);
        let fifo = self.naive.is_fifo();
        let wanted = match self.naive.find(number) {
            None if fifo => Err(RefusalKind::UnknownDelivery),
            None => Ok(0),
            Some(m) if fifo && !(m.out && m.count == receipt.count) => Err(RefusalKind::NotOut),
            Some(_) => {
                self.naive.remove(|m| m.number == number);
                Ok(1)
            }
        };
        prop_assert_eq!(got, wanted);
        Ok(())
    }

    fn visibility(&mut self, nth: usize, ms: u64) -> Result<(), TestCaseError> {
        let (number, receipt) = self.receipts[nth % self.receipts.len()];
        let to = ReceiptUse::Visibility { ms };
        let got = used(&mut self.rig, self.session, receipt, to);
        let (now, fifo) = (self.naive.now, self.naive.is_fifo());
        let wanted = match self.naive.find(number) {
            None => Err(RefusalKind::UnknownDelivery),
            Some(m) if m.out && (m.count == receipt.count || !fifo) => {
                m.visible_at = now + ms;
                m.out = ms > 0;
                self.naive.forget(number);
                Ok(1)
            }
            Some(_) => Err(RefusalKind::NotOut),
        };
        prop_assert_eq!(got, wanted);
        // What comes back in the very millisecond in which it is too old may still be handed out, to who waits for it.
        self.naive.lapse();
        self.serve()?;
        self.due()
    }

    fn alter(&mut self, alter: &Alter) -> Result<(), TestCaseError> {
        let at = &mut self.naive.at;
        match alter {
            Alter::Visibility(ms) => at.visibility_timeout_ms = Some(*ms),
            Alter::Delay(ms) => at.delay_ms = *ms,
            Alter::Retention(ms) => at.retention_ms = *ms,
        }
        let alter = Declare::Alter {
            name: "q".into(),
            version: self.version,
            attributes: Box::new(at.clone()),
            notes: Vec::new(),
        };
        let event = self.rig.declare(self.session, alter);
        let declared = matches!(event, session::Event::Declared { .. });
        prop_assert!(declared, "{:?}", event);
        self.version += 1;
        self.due()
    }

    fn restart(&mut self, snapshot: bool) -> Result<(), TestCaseError> {
        self.rig.check_replay();
        if snapshot {
            self.naive.resume(self.rig.broker.last_time().0);
            let bytes = self.rig.snapshot();
            let broker = Broker::decode_snapshot(config(), &mut &bytes[..]);
            self.rig.restart_as(broker.expect("a snapshot"));
        } else {
            self.rig.restart();
        }
        self.waiting.clear();
        self.sessions += 1;
        self.session = self.rig.attach(self.sessions);
        // What was due while nobody looked.
        self.due()
    }

    /// All that a queue holds, in no order.
    fn all(&mut self, queue: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let got = self.rig.pull(self.session, queue, 100, Lease::Settled);
            if got.is_empty() {
                all.sort();
                return all;
            }
            all.extend(got.iter().map(body));
        }
    }
}

proptest! {
    #[test]
    fn random_uses_of_a_queue_agree_with_a_naive_sqs(
        fifo in any::<bool>(),
        dedup_per_group in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut both = Both::new(fifo.then_some(Fifo { dedup_by_content: false, dedup_per_group }));
        for step in steps {
            both.step(step)?;
        }
        both.rig.check_replay();
        // Nothing is lost: what was neither deleted nor too old is there, or in the dead-letter queue.
        both.pass(200)?;
        for (queue, messages) in [("q", both.naive.messages.clone()), ("dead", both.naive.dead.clone())] {
            let mut wanted: Vec<String> = messages.into_iter().map(|m| m.text).collect();
            wanted.sort();
            prop_assert_eq!(both.all(queue), wanted, "{}", queue);
        }
    }
}

#[test]
fn what_comes_back_as_its_retention_ends_may_still_be_handed_out() -> Result<(), TestCaseError> {
    let mut both = Both::new(None);
    let receive = |wait| Step::Receive {
        count: 1,
        lease: 0,
        wait,
        attempt: None,
    };
    for step in [
        Step::Send {
            count: 1,
            group: 0,
            delay: 0,
            dedup: None,
        },
        Step::Pass { ms: 9 },
        receive(0),
        Step::Alter(Alter::Retention(Some(25))),
        receive(0),
        receive(17),
        Step::Pass { ms: 16 },
        Step::Visibility { nth: 0, ms: 0 },
    ] {
        both.step(step)?;
    }
    both.pass(200)
}
