//! Random histories: steps that mean something whatever was left out before them, and what
//! queues they are about.
//!
//! A step names things by small numbers (the second connection, its third unsettled delivery); [`super::Play`] knows what these
//! stand for at the moment, so a history can be cut down step by step and still be played.

use bytes::Bytes;

use session::{
    Credit, DeadLetter, Declare, Fifo, Overflow, Publish, QueueOptions, Redrive, Settle, Transact,
};

use super::{Random, build};

/// Connections at a time.
pub(super) const SLOTS: u8 = 4;

/// A publish, in small numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// Which queue, exchange or topic.
    pub(crate) to: u8,
    pub(crate) key: u8,
    pub(crate) confirm: bool,
    pub(crate) qos: u8,
    pub(crate) mandatory: bool,
    pub(crate) priority: u8,
    pub(crate) ttl_ms: u64,
    pub(crate) delay_ms: u64,
    pub(crate) group: u8,
    pub(crate) dedup: u8,
    pub(crate) len: u8,
    pub(crate) copies: u8,
    pub(crate) retain: bool,
    pub(crate) inbound: u8,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Attach(u8),
    Detach(u8),
    Declare {
        by: u8,
        queue: u8,
        sort: u8,
    },
    Delete {
        by: u8,
        queue: u8,
        unused: bool,
        empty: bool,
    },
    Purge {
        by: u8,
        queue: u8,
    },
    Look {
        by: u8,
        queue: u8,
    },
    Exchange {
        by: u8,
        exchange: u8,
        sort: u8,
    },
    DeleteExchange {
        by: u8,
        exchange: u8,
        unused: bool,
    },
    Bind {
        by: u8,
        exchange: u8,
        target: u8,
        key: u8,
    },
    Unbind {
        by: u8,
        exchange: u8,
        target: u8,
        key: u8,
    },
    Publish {
        by: u8,
        sent: Sent,
    },
    Consume {
        by: u8,
        consumer: u8,
        queue: u8,
        credit: u8,
        priority: u8,
        group: u8,
        exclusive: bool,
    },
    Cancel {
        by: u8,
        consumer: u8,
    },
    Credit {
        by: u8,
        consumer: u8,
        credit: u8,
    },
    Window {
        by: u8,
        group: u8,
        window: u8,
    },
    Flow {
        by: u8,
        group: u8,
        active: bool,
    },
    Settle {
        by: u8,
        nth: u8,
        outcome: u8,
        upto: bool,
        answered: bool,
    },
    Pull {
        by: u8,
        queue: u8,
        count: u8,
        lease: u8,
    },
    Transact {
        by: u8,
        sent: Vec<Sent>,
        settled: Vec<(u8, u8)>,
    },
    Open {
        by: u8,
        client: u8,
        clean: bool,
        expiry: u8,
        window: u8,
        will: u8,
    },
    Close {
        by: u8,
        will: bool,
        expiry: u8,
    },
    Topic {
        by: u8,
        filter: u8,
        qos: u8,
        flags: u8,
    },
    Through {
        by: u8,
        source: u8,
        qos: u8,
    },
    Unsubscribe {
        by: u8,
        source: u8,
    },
    Release {
        by: u8,
        id: u8,
    },
    Pass(u16),
    Restart {
        snapshot: bool,
    },
}

/// The queues of a history. The last is where dead letters go, the one before is made by whoever comes first.
pub(crate) const QUEUES: u8 = 6;

pub(crate) fn queue_name(number: u8) -> &'static str {
    ["q0", "q1", "q2", "q3", "made", "dead"][(number % QUEUES) as usize]
}

/// How many sorts of queue there are.
pub(crate) const SORTS: u8 = 24;

/// Times to live end in 1 and delays in 5, while commands come at full tens: nothing is due at the time of a command.
pub(crate) fn options(sort: u8) -> QueueOptions {
    let mut options = QueueOptions {
        durable: true,
        declaration: Some(Bytes::copy_from_slice(&[sort])),
        ..QueueOptions::default()
    };
    let at = &mut options.attributes;
    let dead = Some(DeadLetter {
        exchange: Bytes::new(),
        key: Some(build::key("dead")),
    });
    match sort {
        1 => options.durable = false,
        2 => at.priority_max = Some(3),
        3 => at.ttl_ms = Some(1001),
        4 => {
            at.length_max = Some(3);
            at.dead_letter = dead;
        }
        5 => {
            at.length_max = Some(3);
            at.overflow = Overflow::RejectPublish;
        }
        6 => at.bytes_max = Some(40),
        7 => {
            at.length_max = Some(2);
            at.overflow = Overflow::RejectPublishDeadLetter;
            at.dead_letter = dead;
        }
        8 => {
            at.deliveries_max = Some(2);
            at.dead_letter = dead;
        }
        9 => {
            at.deliveries_max = Some(3);
            at.redrive = Some(Redrive {
                target: build::name("dead"),
            });
            at.dead_letter = Some(DeadLetter {
                exchange: Bytes::new(),
                key: Some(build::key("q0")),
            });
        }
        10 => at.single_active_consumer = true,
        11 => {
            at.fifo = Some(Fifo {
                dedup_by_content: false,
                dedup_per_group: false,
            });
        }
        12 => at.deduplicate = true,
        13 => at.delay_ms = 205,
        14 => at.retention_ms = Some(2001),
        15 => options.exclusive = true,
        16 => options.auto_delete = true,
        17 => {
            at.ttl_ms = Some(801);
            at.dead_letter = dead;
        }
        18 => {
            // Round and round, but for the cut of cycles.
            at.ttl_ms = Some(601);
            at.dead_letter = Some(DeadLetter {
                exchange: Bytes::new(),
                key: None,
            });
        }
        19 => {
            at.fifo = Some(Fifo {
                dedup_by_content: false,
                dedup_per_group: true,
            });
            at.deliveries_max = Some(2);
            at.dead_letter = dead;
        }
        20 => at.message_len_max = Some(12),
        21 => {
            at.priority_max = Some(2);
            at.length_max = Some(4);
        }
        22 => {
            at.dead_letter = Some(DeadLetter {
                exchange: build::name("topic"),
                key: None,
            });
            options.durable = false;
        }
        23 => {
            at.length_max = Some(2);
            at.dead_letter = Some(DeadLetter {
                exchange: Bytes::new(),
                key: None,
            });
        }
        _ => {}
    }
    options
}

/// What a history is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Queues, consumers, settlements, attributes.
    Queues,
    /// Exchanges and bindings too.
    Exchanges,
    /// Client sessions and topics.
    Clients,
    /// All of it.
    Everything,
}

/// A random history.
pub(crate) fn history(seed: u64, theme: Theme, len: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut steps = vec![
        Step::Attach(0),
        Step::Declare {
            by: 0,
            queue: 5,
            sort: random.pick(&[0, 0, 1, 2]),
        },
    ];
    // Most histories have few sorts of queue, so that each is met often.
    let sorts: Vec<u8> = (0..4)
        .map(|_| random.below(u64::from(SORTS)) as u8)
        .collect();
    for queue in 0..3 {
        steps.push(Step::Declare {
            by: 0,
            queue,
            sort: random.pick(&sorts),
        });
    }
    while steps.len() < len {
        steps.push(step(&mut random, theme, &sorts));
    }
    steps
}

fn step(random: &mut Random, theme: Theme, sorts: &[u8]) -> Step {
    let exchanges = matches!(theme, Theme::Exchanges | Theme::Everything);
    let clients = matches!(theme, Theme::Clients | Theme::Everything);
    let by = random.below(u64::from(SLOTS)) as u8;
    let queue = random.below(u64::from(QUEUES)) as u8;
    let consumer = random.below(3) as u8;
    if exchanges && random.one_in(4) {
        let exchange = random.below(6) as u8;
        let target = random.below(10) as u8;
        let key = random.below(6) as u8;
        return match random.below(8) {
            0 | 1 => Step::Exchange {
                by,
                exchange,
                sort: random.below(6) as u8,
            },
            2 => Step::DeleteExchange {
                by,
                exchange,
                unused: random.one_in(2),
            },
            3 => Step::Unbind {
                by,
                exchange,
                target,
                key,
            },
            _ => Step::Bind {
                by,
                exchange,
                target,
                key,
            },
        };
    }
    if clients && random.one_in(3) {
        return match random.below(12) {
            0..=3 => Step::Open {
                by,
                client: random.below(3) as u8,
                clean: random.one_in(4),
                expiry: random.below(4) as u8,
                window: random.pick(&[1, 2, 5, 200]),
                will: random.below(5) as u8,
            },
            4 => Step::Close {
                by,
                will: random.one_in(2),
                expiry: random.below(5) as u8,
            },
            5..=8 => Step::Topic {
                by,
                filter: random.below(6) as u8,
                qos: random.below(3) as u8,
                flags: random.below(64) as u8,
            },
            9 => Step::Through {
                by,
                source: random.below(6) as u8,
                qos: random.below(3) as u8,
            },
            10 => Step::Unsubscribe {
                by,
                source: random.below(12) as u8,
            },
            _ => Step::Release {
                by,
                id: random.below(3) as u8,
            },
        };
    }
    match random.below(40) {
        0 | 1 => Step::Attach(by),
        2 if random.one_in(2) => Step::Detach(by),
        2 | 3 => Step::Declare {
            by,
            queue: queue % 5,
            sort: random.pick(sorts),
        },
        4 if random.one_in(2) => Step::Delete {
            by,
            queue: queue % 5,
            unused: random.one_in(2),
            empty: random.one_in(2),
        },
        4 => Step::Purge { by, queue },
        5 => Step::Look { by, queue },
        6..=16 => Step::Publish {
            by,
            sent: sent(random, theme),
        },
        17..=20 => Step::Consume {
            by,
            consumer,
            queue,
            credit: random.below(7) as u8,
            priority: random.pick(&[0, 0, 0, 1, 2]),
            group: random.pick(&[0, 0, 1, 2]),
            exclusive: random.one_in(8),
        },
        21 => Step::Cancel { by, consumer },
        22 => Step::Credit {
            by,
            consumer,
            credit: random.below(7) as u8,
        },
        23 => Step::Window {
            by,
            group: random.below(3) as u8,
            window: random.below(4) as u8,
        },
        24 => Step::Flow {
            by,
            group: random.below(3) as u8,
            active: random.one_in(2),
        },
        25..=31 => Step::Settle {
            by,
            nth: random.below(6) as u8,
            outcome: random.below(10) as u8,
            upto: random.one_in(4),
            answered: random.one_in(2),
        },
        32 | 33 => Step::Pull {
            by,
            queue,
            count: random.pick(&[1, 1, 2, 5]),
            lease: random.below(3) as u8,
        },
        34 => Step::Transact {
            by,
            sent: (0..random.below(5)).map(|_| sent(random, theme)).collect(),
            settled: (0..random.below(3))
                .map(|nth| (nth as u8, random.below(5) as u8))
                .collect(),
        },
        35 if random.one_in(4) => Step::Restart {
            snapshot: random.one_in(2),
        },
        _ => Step::Pass(random.pick(&[10, 50, 200, 500, 1000, 3000])),
    }
}

fn sent(random: &mut Random, theme: Theme) -> Sent {
    let to = match theme {
        Theme::Queues => random.below(6),
        Theme::Exchanges => random.below(12),
        Theme::Clients => random.pick(&[0, 1, 5, 16, 16, 16, 16]),
        Theme::Everything => random.pick(&[0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 16, 16, 16]),
    };
    Sent {
        to: to as u8,
        key: random.below(5) as u8,
        confirm: random.one_in(2),
        qos: random.pick(&[0, 1, 1, 2]),
        mandatory: random.one_in(4),
        priority: random.below(5) as u8,
        ttl_ms: if random.one_in(6) {
            random.pick(&[101, 1001])
        } else {
            0
        },
        delay_ms: if random.one_in(8) { 305 } else { 0 },
        group: random.below(3) as u8,
        dedup: random.below(12) as u8,
        len: random.pick(&[0, 0, 0, 10, 30]),
        copies: if random.one_in(6) {
            1 + random.below(3) as u8
        } else {
            0
        },
        retain: theme != Theme::Queues && random.one_in(5),
        inbound: if random.one_in(3) {
            1 + random.below(3) as u8
        } else {
            0
        },
    }
}
