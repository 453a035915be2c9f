//! Random histories of one stream against a naive one: a list of everything that was written.
//!
//! In virtual time, across restarts (from the journal, and from a snapshot): every read gives exactly what the naive stream
//! has there, retention is exact, a shard's limits hold; one that grows splits the shard that is hot, and none else; a consumer gets every record in the order of offsets; members of a
//! group lose nothing, share nothing, and see no child before its parents have been worked on.

use std::collections::{BTreeMap, BTreeSet};

use broker::{Broker, Config};
use md5::{Digest, Md5};
use message::Timestamp;
use proptest::prelude::*;
use session::*;

use crate::{
    rig::{Rig, body},
    streams::{read, to_stream},
};

const WRITES_MAX: u32 = 4;
const MINUTE: u64 = 60_000;
/// Of a stream that grows: a shard that took more than thirty bytes in a minute is split.
const GROWTH: Growth = Growth {
    write_records: 1,
    write_bytes: 1,
    shards_max: 8,
};

#[derive(Clone, Debug)]
enum Step {
    Write {
        key: u8,
        len: u8,
        hash: Option<u8>,
        count: u8,
    },
    Split {
        nth: u8,
        at: u8,
    },
    Merge {
        nth: u8,
    },
    Resize {
        shards: u8,
    },
    Read {
        nth: u8,
        start: u8,
        at: u8,
        count: u8,
        bytes: u8,
    },
    Wait {
        nth: u8,
        ms: u16,
    },
    Tick {
        ms: u16,
    },
    Keep {
        ms: u16,
        bytes: u8,
    },
    Limit {
        on: bool,
    },
    Grow {
        on: bool,
    },
    Burst {
        hash: u8,
    },
    Reader {
        start: u8,
        at: u8,
        window: u8,
    },
    Join {
        slot: u8,
        window: u8,
    },
    Leave {
        slot: u8,
    },
    Settle {
        slot: u8,
        nth: u8,
        outcome: u8,
    },
    File {
        count: u8,
    },
    Restart {
        snapshot: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (any::<u8>(), 0..20u8, prop::option::of(any::<u8>()), 1..5u8)
            .prop_map(|(key, len, hash, count)| Step::Write { key, len, hash, count }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(nth, at)| Step::Split { nth, at }),
        2 => any::<u8>().prop_map(|nth| Step::Merge { nth }),
        1 => (1..6u8).prop_map(|shards| Step::Resize { shards }),
        8 => (any::<u8>(), 0..5u8, any::<u8>(), 0..9u8, any::<u8>())
            .prop_map(|(nth, start, at, count, bytes)| Step::Read { nth, start, at, count, bytes }),
        3 => (any::<u8>(), 1..400u16).prop_map(|(nth, ms)| Step::Wait { nth, ms }),
        6 => (0..700u16).prop_map(|ms| Step::Tick { ms }),
        1 => (500..3000u16, any::<u8>()).prop_map(|(ms, bytes)| Step::Keep { ms, bytes }),
        1 => any::<bool>().prop_map(|on| Step::Limit { on }),
        1 => (0..4u8).prop_map(|on| Step::Grow { on: on > 0 }),
        1 => any::<u8>().prop_map(|hash| Step::Burst { hash }),
        2 => (0..5u8, any::<u8>(), 0..4u8).prop_map(|(start, at, window)| Step::Reader { start, at, window }),
        3 => (0..3u8, 1..5u8).prop_map(|(slot, window)| Step::Join { slot, window }),
        1 => (0..3u8).prop_map(|slot| Step::Leave { slot }),
        10 => (0..4u8, any::<u8>(), 0..4u8).prop_map(|(slot, nth, outcome)| Step::Settle { slot, nth, outcome }),
        3 => any::<u8>().prop_map(|count| Step::File { count }),
        1 => any::<bool>().prop_map(|snapshot| Step::Restart { snapshot }),
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Clone, Debug)]
struct Record {
    shard: usize,
    time: Timestamp,
    text: String,
    len: u64,
}

#[derive(Clone, Debug)]
struct Shard {
    range: (u128, u128),
    parents: Vec<usize>,
    closed: bool,
    /// When records were taken.
    taken: Vec<Timestamp>,
}

/// A read that waits.
struct Waiting {
    token: Token,
    shard: usize,
    from: u64,
    until: Timestamp,
}

/// A consumer on a connection of its own.
struct Consumer {
    session: SessionId,
    /// The first offset that it was not handed.
    cursor: u64,
    out: Vec<DeliveryId>,
    released: BTreeSet<u64>,
}

struct Play {
    rig: Rig,
    admin: SessionId,
    next_session: u64,
    shards: Vec<Shard>,
    records: Vec<Record>,
    /// Everything below went for want of room.
    trimmed: u64,
    /// What came before went, when less was kept.
    hidden: Timestamp,
    /// Records were copied into stream files: of those it is not known how long each is, nor where the oldest is that is shown.
    filed: bool,
    keep_ms: u64,
    bytes_max: Option<u64>,
    limited: bool,
    grows: bool,
    /// It keeps less from this step on: what went with it may just have been delivered.
    shrinks: bool,
    waiting: Vec<Waiting>,
    readers: Vec<Consumer>,
    members: BTreeMap<u8, Consumer>,
    /// What members have accepted, and what was delivered to any of them.
    accepted: BTreeSet<u64>,
    handed: BTreeSet<u64>,
}

fn hash(key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(key.as_bytes()).into())
}

impl Play {
    fn new() -> Self {
        let mut rig = Rig::with(Config {
            empty_slice: 5,
            ..Config::default()
        });
        let admin = rig.attach(1);
        rig.make(admin, "s", 2);
        rig.alter(admin, "s", |it| it.retention_ms = 2000);
        let half = 1 << 127;
        let shard = |range| Shard {
            range,
            parents: Vec::new(),
            closed: false,
            taken: Vec::new(),
        };
        Self {
            rig,
            admin,
            next_session: 10,
            shards: vec![shard((0, half - 1)), shard((half, u128::MAX))],
            records: Vec::new(),
            trimmed: 0,
            hidden: Timestamp(0),
            filed: false,
            keep_ms: 2000,
            bytes_max: None,
            limited: false,
            grows: false,
            shrinks: false,
            waiting: Vec::new(),
            readers: Vec::new(),
            members: BTreeMap::new(),
            accepted: BTreeSet::new(),
            handed: BTreeSet::new(),
        }
    }

    fn attach(&mut self) -> SessionId {
        self.next_session += 1;
        self.rig.attach(self.next_session)
    }

    fn end(&self) -> u64 {
        self.records.len() as u64
    }

    fn is_kept(&self, offset: u64) -> bool {
        offset >= self.trimmed
            && self.records[offset as usize].time >= self.hidden
            && self.records[offset as usize].time.plus_ms(self.keep_ms) > self.rig.now
    }

    fn kept(&self, shard: usize) -> Vec<u64> {
        (0..self.end())
            .filter(|offset| self.records[*offset as usize].shard == shard && self.is_kept(*offset))
            .collect()
    }

    fn tick(&mut self, ms: u64) {
        self.rig.tick(ms);
        self.grown();
    }

    /// Takes up the splits that what was written has made.
    fn grown(&mut self) {
        let admin = self.admin;
        let info = self.rig.info(admin, "s", StreamTo::Inspect);
        let known = self.shards.len();
        let new = info.shards.iter().filter(|it| it.shard.0 as usize >= known);
        let new: Vec<&ShardInfo> = new.collect();
        for halves in new.chunks(2) {
            let [low, high] = halves else {
                panic!("{halves:?} are no halves");
            };
            let [parent] = low.parents[..] else {
                panic!("{low:?} comes from no split");
            };
            assert_eq!(low.parents, high.parents);
            let parent = parent.0 as usize;
            assert!(self.grows && !self.shards[parent].closed);
            self.shards[parent].closed = true;
            let lately =
                |it: &&Record| it.shard == parent && it.time.plus_ms(3 * MINUTE) > self.rig.now;
            let bytes: u64 = self.records.iter().filter(lately).map(|it| it.len).sum();
            assert!(bytes > 30, "shard {parent} took {bytes} bytes only");
            let (first, last) = self.shards[parent].range;
            let middle = first + (last - first) / 2;
            for (half, range) in [(low, (first, middle)), (high, (middle + 1, last))] {
                assert_eq!((half.first_hash, half.last_hash), range);
                assert_eq!(half.first_offset, self.end());
                self.shards.push(Shard {
                    range,
                    parents: vec![parent],
                    closed: false,
                    taken: Vec::new(),
                });
            }
        }
        assert!(new.is_empty() || self.open().len() <= GROWTH.shards_max as usize);
    }

    /// The open shard that owns a hash.
    fn owner(&self, of: u128) -> usize {
        let owns = |shard: &usize| {
            let (first, last) = self.shards[*shard].range;
            (first..=last).contains(&of)
        };
        self.open()
            .into_iter()
            .find(owns)
            .expect("the open shards own everything")
    }

    fn open(&self) -> Vec<usize> {
        let mut open: Vec<usize> = (0..self.shards.len())
            .filter(|shard| !self.shards[*shard].closed)
            .collect();
        open.sort_by_key(|shard| self.shards[*shard].range);
        open
    }

    /// The shards that the core still knows.
    fn known(&mut self) -> Vec<usize> {
        let admin = self.admin;
        let info = self.rig.info(admin, "s", StreamTo::Inspect);
        let known: Vec<usize> = info.shards.iter().map(|it| it.shard.0 as usize).collect();
        for shard in 0..self.shards.len() {
            if !self.shards[shard].closed || !self.kept(shard).is_empty() {
                assert!(
                    known.contains(&shard),
                    "shard {shard} was forgotten too early"
                );
            }
        }
        assert_eq!(info.next_offset, self.end());
        let first = (0..self.end()).find(|offset| self.is_kept(*offset));
        let first = first.unwrap_or_else(|| self.end());
        if self.filed {
            assert!(info.first_offset <= first);
        } else {
            assert_eq!(info.first_offset, first);
        }
        known
    }

    fn write(&mut self, key: u8, len: u8, hash_key: Option<u8>) {
        let (key, text) = (
            format!("k{}", key % 16),
            format!("{}{}", self.end(), "x".repeat(usize::from(len))),
        );
        let hash_key = hash_key.map(|it| u128::from(it) << 120);
        let of = hash_key.unwrap_or_else(|| hash(&key));
        let shard = self.owner(of);
        let token = self.rig.token();
        self.rig.command(
            self.admin,
            Command::Publish(Publish {
                token: Some(token),
                lane: Lane(0),
                message: to_stream("s", &key, &text).into(),
                mandatory: false,
                create: false,
                inbound_id: None,
                or_stream: false,
                hash_key,
                folds: false,
            }),
        );
        let Some(Event::Published { outcome, .. }) = self.rig.found(self.admin, token) else {
            panic!("no answer to a publish");
        };
        let now = self.rig.now;
        let lately = |ms: u64| {
            let times = self.shards[shard].taken.iter();
            times.filter(|at| at.plus_ms(ms) > now).count() as u32
        };
        match outcome {
            PublishOutcome::Accepted {
                record: Some(place),
                ..
            } => {
                assert_eq!((place.offset, place.shard.0 as usize), (self.end(), shard));
                assert!(!self.limited || lately(1000) < 2 * WRITES_MAX);
            }
            PublishOutcome::Refused(refusal) if refusal.kind == RefusalKind::RateExceeded => {
                assert!(self.limited && lately(1000) >= WRITES_MAX);
                return;
            }
            other => panic!("{other:?}"),
        }
        self.shards[shard].taken.push(now);
        self.records.push(Record {
            shard,
            time: now,
            len: (text.len() + key.len()) as u64,
            text,
        });
        if self.filed {
            self.tick(0);
            let admin = self.admin;
            let first = self.rig.info(admin, "s", StreamTo::Inspect).first_offset;
            self.trimmed = self.trimmed.max(first);
        } else if let Some(max) = self.bytes_max {
            let bytes =
                |from: u64| -> u64 { self.records[from as usize..].iter().map(|it| it.len).sum() };
            // What is too old counts for as long as it has not gone, so the core may drop more here, not less.
            while bytes(self.trimmed) > max && self.trimmed + 1 < self.end() {
                self.trimmed += 1;
            }
            self.rig.tick(0);
            let admin = self.admin;
            let first = self.rig.info(admin, "s", StreamTo::Inspect).first_offset;
            assert!(bytes(first) <= max || first + 1 >= self.end());
            self.grown();
        }
    }

    fn reshard(&mut self, to: StreamTo, closes: &[usize], opens: Vec<((u128, u128), Vec<usize>)>) {
        let admin = self.admin;
        let info = self.rig.info(admin, "s", to);
        for shard in closes {
            self.shards[*shard].closed = true;
        }
        for (range, parents) in opens {
            let number = self.shards.len();
            let known = info.shards.iter().find(|it| it.shard.0 as usize == number);
            let known = known.expect("a new shard");
            assert_eq!((known.first_hash, known.last_hash), range);
            let told: Vec<usize> = known.parents.iter().map(|it| it.0 as usize).collect();
            assert_eq!(told, parents);
            assert_eq!(known.first_offset, self.end());
            self.shards.push(Shard {
                range,
                parents,
                closed: false,
                taken: Vec::new(),
            });
        }
    }

    fn resize(&mut self, count: u8) {
        let size = u128::MAX / u128::from(count);
        let size = if count.is_power_of_two() && count > 1 {
            size + 1
        } else {
            size
        };
        let mut closes = BTreeSet::new();
        let mut opens = Vec::new();
        for at in 0..u128::from(count) {
            let last = at + 1 == u128::from(count);
            let range = (
                at * size,
                if last { u128::MAX } else { (at + 1) * size - 1 },
            );
            let open = self.open();
            if open.iter().any(|shard| self.shards[*shard].range == range) {
                continue;
            }
            let overlapping: Vec<usize> = open
                .into_iter()
                .filter(|shard| {
                    let own = self.shards[*shard].range;
                    own.0 <= range.1 && range.0 <= own.1
                })
                .collect();
            closes.extend(overlapping.iter().copied());
            opens.push((range, overlapping));
        }
        let closes: Vec<usize> = closes.into_iter().collect();
        let to = StreamTo::Resize {
            shards: u32::from(count),
        };
        self.reshard(to, &closes, opens);
    }

    fn start(&self, shard: Option<usize>, start: u8, at: u8) -> (StreamStart, u64) {
        let kept: Vec<u64> = (0..self.end())
            .filter(|offset| {
                self.is_kept(*offset)
                    && shard.is_none_or(|shard| self.records[*offset as usize].shard == shard)
            })
            .collect();
        let some = u64::from(at) % (self.end() + 3);
        let time = Timestamp(self.rig.now.0.saturating_sub(u64::from(at) * 10));
        let end = self.end();
        match start {
            0 => (StreamStart::First, kept.first().copied().unwrap_or(end)),
            1 => (StreamStart::Last, kept.last().copied().unwrap_or(end)),
            2 => (StreamStart::Next, end),
            3 => (StreamStart::Offset(some), some),
            _ => {
                let since = |offset: &&u64| self.records[**offset as usize].time >= time;
                let first = kept.iter().find(since).copied();
                (StreamStart::Time(time), first.unwrap_or(end))
            }
        }
    }

    /// Compares what a read found with what it should have.
    fn check_found(&self, found: &Records, shard: usize, from: u64, count: usize, bytes_max: u64) {
        let mut bytes = 0;
        let all: Vec<u64> = self
            .kept(shard)
            .into_iter()
            .filter(|at| *at >= from)
            .collect();
        let taken: Vec<u64> = all
            .iter()
            .copied()
            .take(count)
            .enumerate()
            .take_while(|(nth, offset)| {
                bytes += self.records[*offset as usize].len;
                *nth == 0 || bytes <= bytes_max
            })
            .map(|(_, offset)| offset)
            .collect();
        let told: Vec<u64> = found.records.iter().map(|it| it.offset).collect();
        if self.filed {
            // A read ends where a file does.
            assert!(taken.starts_with(&told) && told.is_empty() == taken.is_empty());
        } else {
            assert_eq!(told, taken, "a read of shard {shard} from {from}");
        }
        let taken = told;
        for record in &found.records {
            let naive = &self.records[record.offset as usize];
            assert_eq!(record.time, naive.time);
            assert_eq!(record.message.body, naive.text);
        }
        let rest = all.get(taken.len());
        assert_eq!(found.ended, self.shards[shard].closed && rest.is_none());
        let behind = rest.map_or(0, |at| self.rig.now.since(self.records[*at as usize].time));
        if self.filed {
            assert!(rest.is_some() || found.behind_ms == 0);
        } else {
            assert_eq!(found.behind_ms, behind);
        }
        if let Some(last) = taken.last()
            && !found.ended
        {
            assert_eq!(found.next, last + 1);
        }
        assert!(rest.is_none_or(|rest| found.next <= *rest));
        let children: Vec<u32> = found.children.iter().map(|it| it.shard.0).collect();
        let parents = |child: &u32| self.shards[*child as usize].parents.contains(&shard);
        assert!(children.iter().all(parents) && (found.ended || children.is_empty()));
    }

    fn settle_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for it in waiting {
            let ready = self.shards[it.shard].closed
                || self.kept(it.shard).iter().any(|offset| *offset >= it.from)
                || it.until <= self.rig.now;
            match self.rig.found(self.admin, it.token) {
                Some(Event::Records { .. }) => assert!(ready, "a read was answered too early"),
                Some(other) => panic!("{other:?}"),
                None => {
                    assert!(!ready, "a read is not answered");
                    self.waiting.push(it);
                }
            }
        }
    }

    fn settle_deliveries(&mut self) {
        for at in 0..self.readers.len() {
            let session = self.readers[at].session;
            for delivery in self.rig.deliveries(session) {
                let offset = self.check_delivery(&delivery);
                let reader = &mut self.readers[at];
                if delivery.redelivered {
                    assert!(reader.released.remove(&offset), "delivered twice");
                } else {
                    let skipped = reader.cursor..offset;
                    assert!(offset >= reader.cursor, "out of order");
                    reader.cursor = offset + 1;
                    for offset in skipped {
                        assert!(!self.is_kept(offset), "{offset} was left out");
                    }
                }
                self.readers[at].out.push(delivery.id.expect("a window"));
            }
        }
        let slots: Vec<u8> = self.members.keys().copied().collect();
        for slot in slots {
            let session = self.members[&slot].session;
            for delivery in self.rig.deliveries(session) {
                let offset = self.check_delivery(&delivery);
                for member in self.members.values() {
                    assert!(
                        member.out.iter().all(|id| id.qseq != offset),
                        "{offset} is out to two members"
                    );
                }
                let shard = self.records[offset as usize].shard;
                for parent in &self.shards[shard].parents {
                    for offset in self.kept(*parent) {
                        assert!(
                            self.accepted.contains(&offset),
                            "a child before its parent's {offset}"
                        );
                    }
                }
                self.handed.insert(offset);
                let member = self.members.get_mut(&slot).expect("seen above");
                member.out.push(delivery.id.expect("a window"));
            }
        }
    }

    fn check_delivery(&self, delivery: &Delivery) -> u64 {
        let place = delivery.record.expect("a record");
        let naive = &self.records[place.offset as usize];
        assert_eq!(body(delivery), naive.text);
        assert_eq!(
            (place.shard.0 as usize, delivery.enqueued),
            (naive.shard, naive.time)
        );
        let kept = self.is_kept(place.offset) || self.shrinks;
        assert!(kept, "too old to be delivered");
        place.offset
    }

    /// What a consumer that has credit and nothing out must have been handed.
    fn check_rest(&self) {
        for reader in self.readers.iter().filter(|it| it.out.is_empty()) {
            for offset in reader.cursor..self.end() {
                assert!(!self.is_kept(offset), "{offset} was not pushed");
            }
        }
    }

    fn subscribe(
        &mut self,
        start: StreamStart,
        window: u8,
        group: Option<&'static str>,
    ) -> SessionId {
        let session = self.attach();
        let mut subscribe = self
            .rig
            .consumer(1, "", Credit::Window(u32::from(window) + 1));
        subscribe.source = Source::Stream {
            name: "s".into(),
            from: start,
            group: group.map(Into::into),
        };
        let event = self.rig.subscribe(session, subscribe);
        assert!(matches!(event, Event::Subscribed { .. }), "{event:?}");
        session
    }

    fn settle(&mut self, slot: u8, nth: u8, outcome: u8) {
        let member = slot < 3;
        let consumer = if member {
            self.members.get_mut(&slot)
        } else {
            let count = self.readers.len().max(1);
            self.readers.get_mut(usize::from(nth) % count)
        };
        let Some(consumer) = consumer.filter(|it| !it.out.is_empty()) else {
            return;
        };
        let at = usize::from(nth) % consumer.out.len();
        let id = consumer.out.remove(at);
        let session = consumer.session;
        if outcome == 0 {
            consumer.released.insert(id.qseq);
        } else if member {
            self.accepted.insert(id.qseq);
        }
        let outcome = if outcome == 0 {
            Outcome::Release
        } else {
            Outcome::Accept
        };
        self.rig.settle(session, &[id], outcome);
    }

    fn restart(&mut self, snapshot: bool) {
        if snapshot {
            let bytes = self.rig.snapshot();
            let config = Config {
                empty_slice: 5,
                ..Config::default()
            };
            self.rig
                .restart_as(Broker::decode_snapshot(config, &mut &bytes[..]).expect("a snapshot"));
        } else {
            self.rig.restart();
        }
        self.admin = self.attach();
        self.waiting.clear();
        self.readers.clear();
        self.members.clear();
        // Whether a restart remembers what was just written depends on where its snapshot was.
        self.tick(1000);
    }

    fn step(&mut self, step: &Step) {
        let known = self.known();
        match step {
            Step::Write {
                key,
                len,
                hash,
                count,
            } => {
                for nth in 0..*count {
                    self.write(key.wrapping_add(nth), *len, *hash);
                    self.settle_waiting();
                    self.settle_deliveries();
                }
            }
            Step::Split { nth, at } => {
                let open = self.open();
                let shard = open[usize::from(*nth) % open.len()];
                let (first, last) = self.shards[shard].range;
                let at = first + (last - first) / 256 * u128::from(*at) + 1;
                if at > last {
                    return;
                }
                let to = StreamTo::Split {
                    shard: ShardNo(shard as u32),
                    at,
                };
                let opens = vec![((first, at - 1), vec![shard]), ((at, last), vec![shard])];
                self.reshard(to, &[shard], opens);
            }
            Step::Merge { nth } => {
                let open = self.open();
                if open.len() < 2 {
                    return;
                }
                let at = usize::from(*nth) % (open.len() - 1);
                let (low, high) = (open[at], open[at + 1]);
                let range = (self.shards[low].range.0, self.shards[high].range.1);
                let to = StreamTo::Merge {
                    shard: ShardNo(high as u32),
                    adjacent: ShardNo(low as u32),
                };
                self.reshard(to, &[low, high], vec![(range, vec![low, high])]);
            }
            Step::Resize { shards } => self.resize(*shards),
            Step::Read {
                nth,
                start,
                at,
                count,
                bytes,
            } => {
                let shard = known[usize::from(*nth) % known.len()];
                let (start, from) = self.start(Some(shard), *start, *at);
                let asked = ReadStream {
                    bytes_max: u64::from(*bytes),
                    ..read("s", shard as u32, start, u32::from(*count))
                };
                let token = self.rig.begin_read(self.admin, asked);
                let Some(Event::Records { records, .. }) = self.rig.found(self.admin, token) else {
                    panic!("a read without an answer");
                };
                let bytes = u64::from(*bytes);
                self.check_found(&records, shard, from, usize::from(*count), bytes);
            }
            Step::Wait { nth, ms } => {
                let shard = known[usize::from(*nth) % known.len()];
                let asked = ReadStream {
                    wait_ms: u64::from(*ms),
                    ..read("s", shard as u32, StreamStart::Next, 10)
                };
                self.waiting.push(Waiting {
                    token: self.rig.begin_read(self.admin, asked),
                    shard,
                    from: self.end(),
                    until: self.rig.now.plus_ms(u64::from(*ms)),
                });
            }
            Step::Tick { ms } => self.tick(u64::from(*ms)),
            Step::Keep { ms, bytes } => {
                self.shrinks = true;
                // What has gone does not come back when more is to be kept.
                self.tick(0);
                let admin = self.admin;
                self.trimmed = self.rig.info(admin, "s", StreamTo::Inspect).first_offset;
                let hidden = self.rig.now.0 + 1 - self.keep_ms;
                self.hidden = self.hidden.max(Timestamp(hidden));
                self.keep_ms = u64::from(*ms);
                self.bytes_max = bytes.is_multiple_of(4).then_some(u64::from(*bytes) + 1);
                let (keep, max) = (self.keep_ms, self.bytes_max);
                self.rig.alter(admin, "s", |it| {
                    it.retention_ms = keep;
                    it.bytes_max = max;
                });
                self.tick(0);
                let first = self.rig.info(admin, "s", StreamTo::Inspect).first_offset;
                assert!(first >= self.trimmed, "what had gone came back");
                self.trimmed = first;
            }
            Step::Limit { on } => {
                if self.limited == *on {
                    return;
                }
                self.limited = *on;
                let limits = on.then_some(ShardLimits {
                    write_records: WRITES_MAX,
                    write_bytes: 0,
                    reads: 0,
                    read_bytes: 0,
                });
                let admin = self.admin;
                self.rig.alter(admin, "s", |it| it.limits = limits);
                self.shards.iter_mut().for_each(|shard| shard.taken.clear());
            }
            Step::Grow { on } => {
                self.grows = *on;
                let admin = self.admin;
                self.rig
                    .alter(admin, "s", |it| it.growth = on.then_some(GROWTH));
            }
            Step::Burst { hash } => {
                // What came before is not measured any more.
                self.tick(2 * MINUTE);
                let hot = self.owner(u128::from(*hash) << 120);
                let has_room = self.open().len() < GROWTH.shards_max as usize;
                for nth in 0..WRITES_MAX {
                    self.write(nth as u8, 19, Some(*hash));
                    self.settle_waiting();
                    self.settle_deliveries();
                }
                self.tick(MINUTE);
                assert_eq!(self.shards[hot].closed, self.grows && has_room);
            }
            Step::Reader { start, at, window } => {
                let (start, cursor) = self.start(None, *start, *at);
                let session = self.subscribe(start, *window, None);
                self.readers.push(Consumer {
                    session,
                    cursor,
                    out: Vec::new(),
                    released: BTreeSet::new(),
                });
            }
            Step::Join { slot, window } => {
                self.step(&Step::Leave { slot: *slot });
                let session = self.subscribe(StreamStart::First, *window, Some("g"));
                let member = Consumer {
                    session,
                    cursor: 0,
                    out: Vec::new(),
                    released: BTreeSet::new(),
                };
                self.members.insert(*slot, member);
            }
            Step::Leave { slot } => {
                if let Some(member) = self.members.remove(slot) {
                    self.rig.detach(member.session);
                }
            }
            Step::Settle { slot, nth, outcome } => self.settle(*slot, *nth, *outcome),
            Step::File { count } => {
                let before = self.rig.broker.counters().stream_records;
                self.rig.file(u64::from(*count) % 12 + 1);
                self.filed |= !self.rig.files.is_empty();
                assert_eq!(self.rig.broker.counters().stream_records, before);
            }
            Step::Restart { snapshot } => self.restart(*snapshot),
        }
        self.settle_waiting();
        self.settle_deliveries();
        self.check_rest();
        self.shrinks = false;
    }

    /// One member that settles everything has seen everything that is still kept.
    fn end_of_group(&mut self) {
        for slot in 0..3 {
            self.step(&Step::Leave { slot });
        }
        self.step(&Step::Join { slot: 0, window: 3 });
        // What is too old goes within a second; only then may the children of its shard be worked on.
        for pause in [0, 1001, 0] {
            self.step(&Step::Tick { ms: pause });
            while !self.members[&0].out.is_empty() {
                self.step(&Step::Settle {
                    slot: 0,
                    nth: 0,
                    outcome: 1,
                });
            }
        }
        let info = self.rig.info(self.admin, "s", StreamTo::Inspect);
        let admin = self.admin;
        let token = self.rig.token();
        self.rig.command(
            admin,
            Command::Group {
                token,
                lane: Lane(0),
                stream: "s".into(),
                group: "g".into(),
                to: Box::new(GroupTo::Inspect),
            },
        );
        let Some(Event::Group { group, .. }) = self.rig.found(admin, token) else {
            panic!("the group is gone");
        };
        for (shard, place) in info.shards.iter().zip(&group.shards) {
            let number = shard.shard.0 as usize;
            assert!(
                place.ready && place.done == shard.closed.is_some(),
                "{place:?}"
            );
            for offset in self
                .kept(number)
                .into_iter()
                .filter(|at| *at >= self.group_start())
            {
                assert!(
                    self.handed.contains(&offset),
                    "{offset} was lost to the group"
                );
                assert!(offset < place.next, "{offset} is not behind the checkpoint");
            }
        }
    }

    /// The group begins at what was kept when it was made; what its first member saw.
    fn group_start(&self) -> u64 {
        self.handed.first().copied().unwrap_or(0)
    }
}

fn play(steps: &[Step]) {
    let mut play = Play::new();
    for step in steps {
        play.step(step);
    }
    play.rig.check_replay();
    play.end_of_group();
    play.rig.check_replay();
    play.rig.check_loss();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_stream_agrees_with_a_naive_one(steps in steps()) {
        play(&steps);
    }
}
