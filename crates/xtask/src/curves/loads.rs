//! The curves, and the load that is put on a server at each of their points.

use std::{net::TcpStream, sync::Arc};

use crate::{
    bench::direct,
    load::{
        Confirmed, Ledger,
        amqp::Amqp,
        body,
        mqtt::{self, Mqtt},
        server::Server,
    },
};

/// Runs so many messages, or a few more where they come in rounds; the ledger has what arrived.
pub(super) type Load = Box<dyn FnMut(u64) -> anyhow::Result<Ledger>>;
/// Makes what there is many of, which is not measured, and says what is.
pub(super) type SetUp = fn(&Server, u64) -> anyhow::Result<Load>;

/// One page of the page.
pub(super) struct Curve {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What is counted on the axis.
    pub(super) axis: &'static str,
    pub(super) lines: &'static [Way],
}

/// One way to use it.
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) xs: &'static [u64],
    pub(super) set_up: SetUp,
}

const TO_1000: &[u64] = &[1, 3, 10, 30, 100, 300, 1_000];
const IDLE: &[u64] = &[0, 100, 1_000, 3_000, 10_000, 18_000];
const QUEUES: &[u64] = &[10, 100, 1_000, 10_000, 100_000];
const TOPICS: &[u64] = &[1, 10, 100, 300, 1_000, 10_000, 100_000];
const SUBSCRIPTIONS: &[u64] = &[0, 100, 1_000, 10_000, 100_000, 1_000_000];
const WAITING: &[u64] = &[0, 1_000, 10_000, 100_000, 300_000, 1_000_000];
const BYTES: &[u64] = &[
    16, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216,
];

pub(super) const CURVES: &[Curve] = &[
    Curve {
        name: "connections",
        title: "Connections that all send and receive",
        axis: "connections",
        lines: &[
            Way {
                name: "MQTT QoS 0, 16 B, 1,000 under way in all",
                xs: TO_1000,
                set_up: |server, x| echoes(server, x, 1_000 / x, false),
            },
            Way {
                name: "MQTT QoS 0, 16 B, one under way each",
                xs: TO_1000,
                set_up: |server, x| echoes(server, x, 1, false),
            },
            Way {
                name: "MQTT QoS 1, 16 B, durable session, synced, one under way each",
                xs: TO_1000,
                set_up: |server, x| echoes(server, x, 1, true),
            },
        ],
    },
    Curve {
        name: "idle",
        title: "Idle connections beside those that work",
        axis: "idle connections",
        lines: &[
            Way {
                name: "MQTT QoS 0, 16 B, 1 to 1",
                xs: IDLE,
                set_up: |server, x| {
                    let (at, crowd) = (server.mqtt, idle(server, x)?);
                    Ok(Box::new(move |count| {
                        // They stay for as long as this does.
                        let _crowd = &crowd;
                        direct::mqtt(at, 0, count, 0, 16, 2_000, false)
                    }))
                },
            },
            Way {
                name: "MQTT QoS 0, 16 B, one under way",
                xs: IDLE,
                set_up: |server, x| {
                    let (crowd, mut load) = (idle(server, x)?, echoes(server, 1, 1, false)?);
                    Ok(Box::new(move |count| {
                        let _crowd = &crowd;
                        load(count)
                    }))
                },
            },
        ],
    },
    Curve {
        name: "queues",
        title: "Durable queues that a publisher sends to in turn, each with a consumer",
        axis: "queues",
        lines: &[Way {
            name: "AMQP, 100 B persistent, synced, window 1000",
            xs: QUEUES,
            set_up: queues,
        }],
    },
    Curve {
        name: "topics",
        title: "Topics that a publisher sends to in turn, all with one subscriber",
        axis: "topics",
        lines: &[Way {
            name: "MQTT QoS 0, 16 B",
            xs: TOPICS,
            set_up: |server, x| topics(server, 0, x),
        }],
    },
    Curve {
        name: "subscriptions",
        title: "Subscriptions of others that do not match",
        axis: "subscriptions",
        lines: &[
            Way {
                name: "MQTT QoS 0, 16 B, to one topic",
                xs: SUBSCRIPTIONS,
                set_up: |server, x| topics(server, x, 1),
            },
            Way {
                name: "the same to 10,000 topics in turn",
                xs: SUBSCRIPTIONS,
                set_up: |server, x| topics(server, x, 10_000),
            },
        ],
    },
    Curve {
        name: "fan-out",
        title: "Subscribers of one topic, a delivery",
        axis: "subscribers",
        lines: &[Way {
            name: "MQTT QoS 0, 16 B",
            xs: TO_1000,
            set_up: fan_out,
        }],
    },
    Curve {
        name: "backlog",
        title: "Messages that wait in the queue in front of those that are published",
        axis: "messages waiting",
        lines: &[
            Way {
                name: "AMQP, 1 KiB persistent, synced, window 1000",
                xs: WAITING,
                set_up: |server, x| backlog(server, x, 1_024),
            },
            Way {
                name: "AMQP, 16 B persistent, synced, window 1000",
                xs: WAITING,
                set_up: |server, x| backlog(server, x, 16),
            },
        ],
    },
    Curve {
        name: "bytes",
        title: "Bytes of a message",
        axis: "bytes",
        lines: &[
            Way {
                name: "MQTT QoS 0, at most 4 MiB under way",
                xs: BYTES,
                set_up: |server, x| {
                    let (at, window) = (server.mqtt, ((4 << 20) / x).clamp(1, 2_000));
                    Ok(Box::new(move |count| {
                        direct::mqtt(at, 0, count, 0, x as usize, window, false)
                    }))
                },
            },
            Way {
                name: "AMQP persistent, synced, window 100, at most 32 MiB of it",
                xs: BYTES,
                set_up: |server, x| {
                    let window = ((32 << 20) / x).clamp(1, 100);
                    amqp(server, x as usize, window, 200)
                },
            },
        ],
    },
    Curve {
        name: "window",
        title: "Messages under way: confirms that a publisher waits for, and prefetch",
        axis: "window",
        lines: &[
            Way {
                name: "AMQP, 1 KiB persistent, synced, window, prefetch 200",
                xs: TO_1000,
                set_up: |server, x| amqp(server, 1_024, x, 200),
            },
            Way {
                name: "AMQP, 1 KiB persistent, synced, window 1000, prefetch",
                xs: TO_1000,
                set_up: |server, x| amqp(server, 1_024, 1_000, x as u16),
            },
            Way {
                name: "MQTT QoS 1, 16 B, soft session, window",
                xs: TO_1000,
                set_up: |server, x| {
                    let at = server.mqtt;
                    Ok(Box::new(move |count| {
                        direct::mqtt(at, 0, count, 1, 16, x, false)
                    }))
                },
            },
        ],
    },
];

/// Connections that say nothing.
fn idle(server: &Server, count: u64) -> anyhow::Result<Vec<TcpStream>> {
    (0..count)
        .map(|number| {
            let client = Mqtt::connect(server.mqtt, &format!("idle-{number}"), false)?;
            Ok(client.into_stream())
        })
        .collect()
}

/// MQTT clients that hear themselves, each with `each` messages under way. `durable`: at QoS 1, in sessions that are kept.
fn echoes(server: &Server, connections: u64, each: u64, durable: bool) -> anyhow::Result<Load> {
    let mut clients = Vec::new();
    for number in 0..connections as u32 {
        let topic = format!("echo/{number}");
        let mut client = Mqtt::connect(server.mqtt, &topic, durable)?;
        client.subscribe(&topic, u8::from(durable))?;
        clients.push(Echo {
            client,
            topic,
            number,
            durable,
            sent: 0,
            out: Vec::new(),
        });
    }
    let mut ledger = Ledger::default();
    Ok(Box::new(move |count| {
        let rounds = count.div_ceil(connections * each);
        // Two threads, or one of them would wait for what the other one sends.
        let half = clients.len().div_ceil(2);
        let received = std::thread::scope(|scope| {
            let threads: Vec<_> = clients
                .chunks_mut(half)
                .map(|clients| scope.spawn(move || Echo::all(clients, rounds, each)))
                .collect();
            let ledgers = threads
                .into_iter()
                .map(|thread| thread.join().expect("a client returns its errors"));
            ledgers.sum::<anyhow::Result<u64>>()
        })?;
        ledger.received = received;
        Ok(std::mem::take(&mut ledger))
    }))
}

struct Echo {
    client: Mqtt,
    topic: String,
    number: u32,
    durable: bool,
    sent: u64,
    /// What is to be written next.
    out: Vec<u8>,
}

impl Echo {
    /// So many rounds of `each` messages on each connection: all are written to, then read from and written to in turn.
    fn all(clients: &mut [Self], rounds: u64, each: u64) -> anyhow::Result<u64> {
        for client in &mut *clients {
            client.write(each)?;
        }
        for round in 0..rounds {
            for client in &mut *clients {
                client.read(each)?;
                client.write(if round + 1 < rounds { each } else { 0 })?;
            }
        }
        Ok(rounds * each * clients.len() as u64)
    }

    fn write(&mut self, count: u64) -> anyhow::Result<()> {
        let mut text = Vec::new();
        for number in 0..count {
            text.clear();
            body(self.number, self.sent, 16, &mut text);
            let id = self.durable.then_some(number as u16 + 1);
            mqtt::publish(&mut self.out, &self.topic, id, &text);
            self.sent += 1;
        }
        self.client.say(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// What was written last comes back, and is confirmed.
    fn read(&mut self, count: u64) -> anyhow::Result<()> {
        let first = self.sent - count;
        let (mut came, mut confirmed) = (0, if self.durable { 0 } else { count });
        while came < count || confirmed < count {
            let (kind, payload) = self.client.packet()?;
            if kind == 0x40 {
                confirmed += 1;
                continue;
            }
            let mut at = 2 + self.topic.len();
            if kind & 6 != 0 {
                self.out.extend_from_slice(&[0x40, 2]);
                self.out.extend_from_slice(&payload[at..at + 2]);
                at += 2;
            }
            let sequence = u64::from_be_bytes(payload[at + 4..at + 12].try_into()?);
            anyhow::ensure!(
                kind & 0xF0 == 0x30 && sequence == first + came,
                "expected message {} of {}, got {kind:#x} {sequence}",
                first + came,
                self.topic
            );
            came += 1;
        }
        Ok(())
    }
}

/// What has come over one connection in all runs, told run by run.
#[derive(Default)]
struct Runs {
    ledger: Ledger,
}

impl Runs {
    /// What `receive` adds, which is told how many messages there are to be then.
    fn more(
        &mut self,
        count: u64,
        receive: impl FnOnce(u64, &mut Ledger) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ledger> {
        let before = (self.ledger.received, self.ledger.gaps, self.ledger.repeats);
        receive(before.0 + count, &mut self.ledger)?;
        Ok(Ledger::counted(
            self.ledger.received - before.0,
            self.ledger.gaps - before.1,
            self.ledger.repeats - before.2,
        ))
    }
}

/// Consumers of one connection, which may have no more than 65,535.
const CONSUMERS: usize = 50_000;

fn queues(server: &Server, count: u64) -> anyhow::Result<Load> {
    let (at, names) = (server.amqp, named("queue", count));
    Amqp::connect(at)?.declare_all(&names)?;
    let mut consumers = Vec::new();
    for names in names.chunks(CONSUMERS) {
        let mut consumer = Amqp::connect(at)?;
        consumer.subscribe_all(names, 200)?;
        consumers.push((consumer, names.len() as u64, Runs::default()));
    }
    let mut next = 0;
    Ok(Box::new(move |count| {
        let first = next;
        next += names.len() as u32;
        let (rounds, rest) = (count / names.len() as u64, count % names.len() as u64);
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                let confirmed = Arc::new(Confirmed::default());
                Amqp::connect(at)?.publish_to(&names, first, count, 100, 1_000, &confirmed)
            });
            let mut threads = Vec::new();
            let mut from = 0;
            for (consumer, queues, runs) in &mut consumers {
                // The last round may end in the middle.
                let share = rounds * *queues + rest.saturating_sub(from).min(*queues);
                from += *queues;
                threads.push(scope.spawn(move || {
                    runs.more(share, |count, ledger| {
                        consumer.receive(count, 1, ledger, |_| {})
                    })
                }));
            }
            let mut all = Ledger::default();
            for thread in threads {
                let ledger = thread.join().expect("a consumer returns its errors")?;
                all.received += ledger.received;
                all.gaps += ledger.gaps;
                all.repeats += ledger.repeats;
            }
            publishing.join().expect("a publisher returns its errors")?;
            Ok(all)
        })
    }))
}

fn named(what: &str, count: u64) -> Vec<String> {
    (0..count)
        .map(|number| format!("{what}/{number}"))
        .collect()
}

/// One publisher, one subscriber of so many topics by one filter, and subscriptions of others beside them.
fn topics(server: &Server, others: u64, count: u64) -> anyhow::Result<Load> {
    let (at, names) = (server.mqtt, named("topic", count));
    let beside = named("beside/them", others);
    let mut crowd = Vec::new();
    for (number, filters) in beside.chunks(100_000).enumerate() {
        let mut client = Mqtt::connect(at, &format!("crowd-{number}"), false)?;
        client.subscribe_all(filters)?;
        crowd.push(client.into_stream());
    }
    Ok(Box::new(move |count| {
        let _crowd = &crowd;
        let mut consumer = Mqtt::connect(at, "subscriber", false)?;
        consumer.subscribe("topic/#", 0)?;
        let confirmed = Arc::new(Confirmed::default());
        let receiving = direct::receiving(consumer, count, Some(Arc::clone(&confirmed)))?;
        let publisher = Mqtt::connect(at, "publisher", false)?;
        publisher.publish_to(&names, 0, count, 16, 2_000, &confirmed)?;
        receiving.join().expect("a consumer returns its errors")
    }))
}

/// Messages to one topic in bursts, two of them under way.
fn fan_out(server: &Server, subscribers: u64) -> anyhow::Result<Load> {
    const BURST: u64 = 50;
    let mut clients = Vec::new();
    for number in 0..subscribers {
        let mut client = Mqtt::connect(server.mqtt, &format!("subscriber-{number}"), false)?;
        client.subscribe("fan-out", 0)?;
        clients.push((client, Ledger::default()));
    }
    let mut publisher = Mqtt::connect(server.mqtt, "publisher", false)?;
    let mut sent = 0;
    Ok(Box::new(move |count| {
        let bursts = count.div_ceil(BURST);
        let mut burst = |publisher: &mut Mqtt| {
            let (mut out, mut text) = (Vec::new(), Vec::new());
            for _ in 0..BURST {
                text.clear();
                body(0, sent, 16, &mut text);
                mqtt::publish(&mut out, "fan-out", None, &text);
                sent += 1;
            }
            publisher.say(&out)
        };
        burst(&mut publisher)?;
        let mut faults = [0, 0];
        for number in 0..bursts {
            if number + 1 < bursts {
                burst(&mut publisher)?;
            }
            for (client, ledger) in &mut clients {
                for _ in 0..BURST {
                    ledger.see(&client.plain()?[2 + "fan-out".len()..]);
                }
            }
        }
        for (_, ledger) in &mut clients {
            faults[0] += std::mem::take(&mut ledger.gaps);
            faults[1] += std::mem::take(&mut ledger.repeats);
        }
        let received = bursts * BURST * clients.len() as u64;
        Ok(Ledger::counted(received, faults[0], faults[1]))
    }))
}

/// A queue that keeps so many messages: as many are published as are consumed.
fn backlog(server: &Server, waiting: u64, len: usize) -> anyhow::Result<Load> {
    let at = server.amqp;
    let mut consumer = Amqp::connect(at)?;
    consumer.declare("backlog")?;
    let confirmed = Arc::new(Confirmed::default());
    Amqp::connect(at)?.publish("backlog", 0, waiting, len, 2_000, &confirmed)?;
    consumer.subscribe("backlog", 200)?;
    let (mut runs, mut publisher) = (Runs::default(), 0);
    Ok(Box::new(move |count| {
        publisher += 1;
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                let confirmed = Arc::new(Confirmed::default());
                Amqp::connect(at)?.publish("backlog", publisher, count, len, 1_000, &confirmed)
            });
            let ledger = runs.more(count, |count, ledger| {
                consumer.receive(count, 1, ledger, |_| {})
            })?;
            publishing.join().expect("a publisher returns its errors")?;
            Ok(ledger)
        })
    }))
}

/// One publisher, one consumer.
fn amqp(server: &Server, len: usize, window: u64, prefetch: u16) -> anyhow::Result<Load> {
    let at = server.amqp;
    let mut consumer = Amqp::connect(at)?;
    consumer.declare("one")?;
    consumer.subscribe("one", prefetch)?;
    let (mut runs, mut publisher) = (Runs::default(), 0);
    Ok(Box::new(move |count| {
        publisher += 1;
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                let confirmed = Arc::new(Confirmed::default());
                Amqp::connect(at)?.publish("one", publisher, count, len, window, &confirmed)
            });
            let ledger = runs.more(count, |count, ledger| {
                consumer.receive(count, 1, ledger, |_| {})
            })?;
            publishing.join().expect("a publisher returns its errors")?;
            Ok(ledger)
        })
    }))
}
