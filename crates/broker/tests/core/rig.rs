//! A node without disk, threads or sockets: decides, encodes, applies, routes, as the real one does, and can replay
//! what it journaled at any time.

use std::{collections::BTreeMap, sync::Arc};

use broker::{
    BodyAt, Broker, Change, Config, Content, Context, Decision, Effect, FileId, Load, Loaded,
    LoadedRecord, OutLane, RecordKind, SessionInfo, Wait, decode_stored,
};
use bytes::Bytes;
use message::{
    Address, Filter, FilterLevel, Levels, Message, Pattern, StoredId, Timestamp, VhostId,
    decode_head, encode_head,
};
use session::*;

/// Something that a connection was told, in order.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) lane: OutLane,
    pub(crate) wait: Wait,
    pub(crate) event: Event,
}

pub(crate) struct Rig {
    pub(crate) broker: Broker,
    pub(crate) now: Timestamp,
    pub(crate) journal: Vec<(StoredId, RecordKind, Bytes)>,
    pub(crate) told: BTreeMap<SessionId, Vec<Told>>,
    pub(crate) refs: BTreeMap<StoredId, i64>,
    pub(crate) closed: Vec<(SessionId, CloseReason)>,
    /// Outboxes are drained at once.
    pub(crate) drains: bool,
    /// Messages are fetched at once.
    pub(crate) fetches: bool,
    pub(crate) parts_over: usize,
    /// How many timers a slice of a tick takes; between slices messages are handed out.
    pub(crate) tick_slice: usize,
    pub(crate) records_of_last: usize,
    /// The most changes that a decision has had.
    pub(crate) changes_most: usize,
    epoch: u64,
    /// Records out of stream files come at once.
    pub(crate) loads: bool,
    /// What is asked for while they do not.
    pub(crate) wanted: Vec<Load>,
    /// Stream files.
    pub(crate) files: BTreeMap<FileId, BTreeMap<(StreamId, u64), LoadedRecord>>,
    next_file: u64,
    next_record: u64,
    token: u64,
    random: u64,
    config: Config,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let mut rig = Self {
            broker: Broker::new(config.clone()),
            now: Timestamp(1_000_000),
            journal: Vec::new(),
            told: BTreeMap::new(),
            refs: BTreeMap::new(),
            closed: Vec::new(),
            drains: true,
            fetches: true,
            parts_over: usize::MAX,
            tick_slice: 5,
            records_of_last: 0,
            changes_most: 0,
            epoch: 1,
            loads: true,
            wanted: Vec::new(),
            files: BTreeMap::new(),
            next_file: 1,
            next_record: 1,
            token: 0,
            random: 1,
            config,
        };
        rig.run(|broker, cx, out| broker.decide_epoch(1, cx, out));
        rig.run(|broker, cx, out| broker.decide_vhosts(&["/"], cx, out));
        rig
    }

    pub(crate) fn token(&mut self) -> Token {
        self.token += 1;
        Token(self.token)
    }

    pub(crate) fn context(&mut self) -> Context {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Context {
            now: self.now,
            random: self.random,
        }
    }

    pub(crate) fn run(&mut self, decide: impl FnOnce(&Broker, &Context, &mut Decision)) {
        let cx = self.context();
        let mut decision = Decision::default();
        decide(&self.broker, &cx, &mut decision);
        self.perform(decision);
        self.pump();
    }

    pub(crate) fn pump(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "deliveries come to no end");
            let cx = self.context();
            let mut decision = Decision::default();
            if !self.broker.decide_deliveries(&cx, 7, &mut decision) {
                break;
            }
            assert!(!decision.changes.is_empty(), "a round without progress");
            self.perform(decision);
        }
    }

    pub(crate) fn perform(&mut self, mut decision: Decision) {
        let mut effects = Vec::new();
        self.records_of_last = 0;
        self.changes_most = self.changes_most.max(decision.changes.len());
        for change in &mut decision.changes {
            let mut stored = None;
            let mut record = None;
            if change.is_durable() {
                self.records_of_last += 1;
                let mut head = Vec::new();
                let mut body = Bytes::new();
                let mut parts = Vec::new();
                if let Some(message) = change.message() {
                    encode_head(message, &mut head);
                    body = message.body.clone();
                }
                if body.len() > self.parts_over {
                    let mut rest = body.clone();
                    while !rest.is_empty() {
                        let part = rest.split_to(rest.len().min(self.parts_over));
                        parts.push(self.record(RecordKind::BODY_PART, part));
                    }
                    change.put_parts(parts.clone());
                }
                let mut payload = Vec::new();
                let at = match (change.message().is_some(), parts.is_empty()) {
                    (false, _) => BodyAt::None,
                    (true, true) => BodyAt::Inline {
                        len: body.len() as u64,
                    },
                    (true, false) => BodyAt::Parts {
                        parts: &parts,
                        len: body.len() as u64,
                    },
                };
                let kind = change.encode(self.now, &head, at, &mut payload);
                if matches!(at, BodyAt::Inline { .. }) {
                    payload.extend_from_slice(&body);
                }
                let id = self.record(kind, payload.into());
                stored = change.message().is_some().then_some(id);
                record = Some(id);
            }
            let _ = record;
            self.broker.apply(change, self.now, stored, &mut effects);
        }
        // What left is read before it is let go: the node's outboxes hold it that long.
        let (gone, mut effects): (Vec<_>, Vec<_>) = effects
            .into_iter()
            .partition(|effect| matches!(effect, Effect::Unref(_)));
        effects.append(&mut decision.effects);
        for effect in effects.into_iter().chain(gone) {
            self.route(effect);
        }
    }

    fn record(&mut self, kind: RecordKind, payload: Bytes) -> StoredId {
        let id = StoredId(self.next_record);
        self.next_record += 1;
        self.journal.push((id, kind, payload));
        id
    }

    fn route(&mut self, effect: Effect) {
        match effect {
            Effect::Event {
                to,
                lane,
                wait,
                event,
            } => self.tell(to, lane, wait, event),
            Effect::Show {
                to,
                wait,
                delivery,
                bytes,
            } => {
                let lane = OutLane::Consumer(ConsumerId::CLIENT);
                for to in to {
                    self.tell(to, lane, wait, Event::Delivery(Arc::clone(&delivery)));
                    if self.drains {
                        self.broker.returned_room(to, bytes);
                    }
                }
            }
            Effect::Deliver {
                to,
                lane,
                wait,
                delivery,
                bytes,
            } => {
                let delivery =
                    delivery.into_delivery(|id, len| self.message(Content::Stored(id, len)));
                self.tell(to, lane, wait, Event::Delivery(delivery));
                if self.drains {
                    self.broker.returned_room(to, bytes);
                }
            }
            Effect::Pulled {
                to,
                lane,
                wait,
                token,
                deliveries,
                epoch,
                remaining,
            } => {
                let deliveries = deliveries
                    .into_iter()
                    .map(|(pending, content)| pending.into_delivery(self.message(content)))
                    .collect();
                self.tell(
                    to,
                    lane,
                    wait,
                    Event::Pulled {
                        token,
                        deliveries,
                        epoch,
                        remaining,
                    },
                );
            }
            Effect::Records {
                to,
                lane,
                wait,
                token,
                records,
            } => {
                let records = Box::new(records.into_records(|content| self.message(content)));
                self.tell(to, lane, wait, Event::Records { token, records });
            }
            Effect::Ref(id) => *self.refs.entry(id).or_default() += 1,
            Effect::Unref(id) => {
                let count = self.refs.entry(id).or_default();
                *count -= 1;
                assert!(*count >= 0, "more references gone than made");
                if *count == 0 {
                    self.refs.remove(&id);
                }
            }
            Effect::Fetch { fetch, id, .. } => {
                if self.fetches {
                    let message = self.message(Content::Stored(id, 0));
                    self.run(|broker, cx, out| broker.decide_fetched(fetch, message, cx, out));
                }
            }
            Effect::Load(load) if self.loads => self.load(&load),
            Effect::Load(load) => self.wanted.push(*load),
            Effect::Close { session, reason } => self.closed.push((session, reason)),
        }
    }

    /// Reads records out of a stream file, as a node does.
    pub(crate) fn load(&mut self, load: &Load) {
        let Some(file) = self.files.get(&load.file) else {
            return self.run(|broker, cx, out| broker.decide_not_loaded(load, cx, out));
        };
        assert!(
            load.count > 0 && !load.shards.is_empty(),
            "nothing is asked for"
        );
        let mut loaded = Loaded {
            load: load.clone(),
            records: Vec::new(),
            upto: load.upto,
        };
        let mut bytes = 0;
        for record in file.range((load.stream, 0)..(load.stream, load.upto)) {
            let record = record.1;
            let wanted = load
                .shards
                .iter()
                .any(|(shard, from)| *shard == record.shard && record.offset >= *from);
            if !wanted || record.time < load.since {
                continue;
            }
            bytes += u64::from(record.len);
            let full = loaded.records.len() as u32 == load.count || bytes > load.bytes_max;
            if full && !loaded.records.is_empty() {
                loaded.upto = record.offset;
                break;
            }
            loaded.records.push(record.clone());
        }
        self.run(|broker, cx, out| broker.decide_loaded(&loaded, cx, out));
    }

    /// Copies the oldest records of streams, at most so many of each, into a stream file, and removes files that are not
    /// needed.
    pub(crate) fn file(&mut self, count: u64) -> FileId {
        let id = FileId {
            epoch: 1,
            number: self.next_file,
            writer: [7; 16],
        };
        self.next_file += 1;
        let mut file = BTreeMap::new();
        let streams = self.broker.fileable(|_| true);
        for stream in &streams {
            let below = stream.below.min(stream.first + count);
            let records = self
                .broker
                .fileable_records(stream.stream, 0, below, usize::MAX);
            for record in records {
                let loaded = LoadedRecord {
                    offset: record.offset,
                    shard: record.shard,
                    time: record.time,
                    len: record.len,
                    key: record.key,
                    message: self.message(Content::Stored(record.stored, 0)),
                };
                file.insert((stream.stream, record.offset), loaded);
            }
        }
        self.files.insert(id, file);
        for stream in streams {
            let range = (stream.first, stream.below.min(stream.first + count));
            let mut more = true;
            while more {
                self.run(|broker, cx, out| {
                    more = broker.decide_filed(stream.stream, id, range, cx, out);
                });
            }
        }
        let named = self.broker.stream_files();
        self.files.retain(|file, _| named.contains(file));
        id
    }

    fn tell(&mut self, to: SessionId, lane: OutLane, wait: Wait, event: Event) {
        self.told
            .entry(to)
            .or_default()
            .push(Told { lane, wait, event });
    }

    pub(crate) fn message(&self, content: Content) -> Arc<Message> {
        match content {
            Content::Resident(message) => message,
            Content::Stored(id, _) => {
                assert!(
                    self.refs.contains_key(&id),
                    "a message is read that nobody refers to"
                );
                self.read(id)
            }
        }
    }

    pub(crate) fn read(&self, id: StoredId) -> Arc<Message> {
        let find = |id: StoredId| {
            let at = self
                .journal
                .binary_search_by_key(&id, |(id, _, _)| *id)
                .expect("a stored record");
            self.journal[at].2.clone()
        };
        let stored = decode_stored(find(id)).expect("a stored message");
        let body = match stored.body {
            broker::StoredBody::Inline(body) => body,
            broker::StoredBody::Parts { parts, len } => {
                let mut body = Vec::new();
                for part in parts {
                    assert!(
                        self.refs.contains_key(&part),
                        "a part is read that nobody refers to"
                    );
                    body.extend_from_slice(&find(part));
                }
                assert_eq!(body.len() as u64, len);
                body.into()
            }
        };
        Arc::new(decode_head(stored.head, body).expect("a stored head"))
    }

    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.broker.encode_snapshot(&mut bytes).expect("memory");
        bytes
    }

    /// The core that a replay of everything gives.
    pub(crate) fn replayed(&self) -> Broker {
        let mut broker = Broker::new(self.config.clone());
        Self::replay(&mut broker, &self.journal);
        broker
    }

    pub(crate) fn replay(broker: &mut Broker, journal: &[(StoredId, RecordKind, Bytes)]) {
        let mut effects = Vec::new();
        for (id, kind, payload) in journal {
            if *kind == RecordKind::BODY_PART {
                continue;
            }
            let (time, change) = Change::decode(*kind, payload.clone()).expect("a record");
            broker.apply(&change, time, Some(*id), &mut effects);
        }
    }

    /// Replayed state equals live state, whole and from a snapshot; references are counted the same.
    pub(crate) fn check_replay(&self) {
        let live = self.snapshot();
        let replayed = self.replayed();
        let mut bytes = Vec::new();
        replayed.encode_snapshot(&mut bytes).expect("memory");
        assert_eq!(live, bytes, "replayed state differs from live state");
        let again =
            Broker::decode_snapshot(self.config.clone(), &mut &live[..]).expect("a snapshot");
        let mut bytes = Vec::new();
        again.encode_snapshot(&mut bytes).expect("memory");
        assert_eq!(live, bytes, "a decoded snapshot differs");
        let mut refs: BTreeMap<StoredId, i64> = BTreeMap::new();
        again.for_each_stored(|id| *refs.entry(id).or_default() += 1);
        for (id, count) in &refs {
            assert!(
                self.refs.get(id).is_some_and(|live| live >= count),
                "a reference is not counted"
            );
        }
        for (id, kind, payload) in &self.journal {
            if *kind == RecordKind::BODY_PART {
                assert_eq!(self.broker.is_live_part(*id), refs.contains_key(id));
                continue;
            }
            let (_, change) = Change::decode(*kind, payload.clone()).expect("a record");
            if change.message().is_none() && *kind == RecordKind::PUBLISHED {
                assert_eq!(
                    self.broker.is_live(&change, *id),
                    refs.contains_key(id),
                    "liveness of {id:?}"
                );
            }
        }
    }

    /// A history of which a part is lost and given up is replayed to something whole, wherever the part begins.
    pub(crate) fn check_loss(&self) {
        let len = self.journal.len();
        for from in (1..len).step_by(len / 7 + 1) {
            for lost in [1, 3, len / 3 + 1] {
                let upto = (from + lost).min(len);
                let mut broker = Broker::new(self.config.clone());
                Self::replay(&mut broker, &self.journal[..from]);
                broker.after_loss(lost as u64);
                Self::replay(&mut broker, &self.journal[upto..]);
                Self::mend(&mut broker);
                self.give_up_some(broker);
            }
        }
        self.give_up_some(self.replayed());
    }

    /// The loss is recorded, as a start does first.
    pub(crate) fn mend(broker: &mut Broker) {
        let mut out = Decision::default();
        let now = broker.last_time();
        broker.decide_mended(&Context { now, random: 0 }, &mut out);
        for change in out.changes {
            broker.apply(&change, now, None, &mut Vec::new());
        }
        assert_eq!(broker.pending_loss(), None, "it is recorded");
    }

    /// Some of the messages cannot be read: once they are given up nothing refers to them, and the state is whole.
    fn give_up_some(&self, mut broker: Broker) {
        let lost = |id: StoredId| id.0 % 3 == 1;
        let mut found = broker.find_lost(lost);
        let (mut effects, now) = (Vec::new(), broker.last_time());
        while found.messages() > 0 {
            let mut out = Decision::default();
            broker.decide_lost(&mut found, &Context { now, random: 0 }, &mut out);
            for change in out.changes {
                // As it comes out of the journal.
                let mut payload = Vec::new();
                let kind = change.encode(now, &[], BodyAt::None, &mut payload);
                let (time, change) = Change::decode(kind, payload.into()).expect("a record");
                broker.apply(&change, time, None, &mut effects);
            }
        }
        broker.for_each_stored(|id| assert!(!lost(id), "{id:?} is still referred to"));
        let mut bytes = Vec::new();
        broker.encode_snapshot(&mut bytes).expect("memory");
        let again = Broker::decode_snapshot(self.config.clone(), &mut &bytes[..]);
        let mut twice = Vec::new();
        again
            .expect("a snapshot")
            .encode_snapshot(&mut twice)
            .expect("memory");
        assert_eq!(bytes, twice, "a decoded snapshot differs");
    }

    /// Kill and start again: only the journal survives.
    pub(crate) fn restart(&mut self) {
        self.restart_as(self.replayed());
    }

    /// The same with a core that was made in another way, from a snapshot.
    pub(crate) fn restart_as(&mut self, broker: Broker) {
        self.broker = broker;
        self.told.clear();
        self.refs.clear();
        let mut refs: BTreeMap<StoredId, i64> = BTreeMap::new();
        self.broker
            .for_each_stored(|id| *refs.entry(id).or_default() += 1);
        self.refs = refs;
        self.epoch += 1;
        let epoch = self.epoch;
        self.run(|broker, cx, out| broker.decide_epoch(epoch, cx, out));
    }

    pub(crate) fn tick(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        for round in 0.. {
            assert!(round < 10_000, "ticks come to no end");
            if self.broker.next_deadline().is_none_or(|at| at > self.now) {
                break;
            }
            let slice = self.tick_slice;
            self.run(|broker, cx, out| {
                broker.decide_tick(cx, slice, out);
            });
        }
        self.pump();
    }

    pub(crate) fn attach(&mut self, id: u64) -> SessionId {
        self.attach_in(id, VhostId::ROOT)
    }

    pub(crate) fn attach_in(&mut self, id: u64, vhost: VhostId) -> SessionId {
        let session = SessionId(id);
        let who = SessionInfo {
            broker: false,
            vhost,
            user: "guest".into(),
        };
        self.run(|broker, cx, out| broker.decide_attach(session, &who, cx, out));
        session
    }

    pub(crate) fn detach(&mut self, session: SessionId) {
        self.run(|broker, cx, out| broker.decide_detach(session, cx, out));
    }

    pub(crate) fn command(&mut self, from: SessionId, command: Command) {
        self.run(|broker, cx, out| broker.decide(from, &command, cx, out));
    }

    pub(crate) fn declare(&mut self, from: SessionId, declare: Declare) -> Event {
        let token = self.token();
        self.command(
            from,
            Command::Declare {
                token,
                lane: Lane(0),
                declare,
            },
        );
        self.last_event(from)
    }

    pub(crate) fn queue(&mut self, from: SessionId, name: &str, options: QueueOptions) -> Event {
        self.declare(
            from,
            Declare::Queue {
                name: name.to_owned().into(),
                passive: false,
                options: Box::new(options),
            },
        )
    }

    pub(crate) fn durable_queue(
        &mut self,
        from: SessionId,
        name: &str,
        attributes: QueueAttributes,
    ) {
        let options = QueueOptions {
            durable: true,
            attributes,
            ..QueueOptions::default()
        };
        let event = self.queue(from, name, options);
        assert!(matches!(event, Event::Declared { .. }), "{event:?}");
    }

    pub(crate) fn bind(
        &mut self,
        from: SessionId,
        exchange: &str,
        queue: &str,
        key: &str,
    ) -> Event {
        let binding = Binding {
            exchange: exchange.to_owned().into(),
            target: BindTarget::Queue(queue.to_owned().into()),
            filter: Filter::Pattern(pattern(key)),
            key: levels(key),
            arguments: Bytes::new(),
        };
        self.declare(from, Declare::Bind(Box::new(binding)))
    }

    /// Publishes with a confirmation, and gives it.
    pub(crate) fn publish(&mut self, from: SessionId, message: Message) -> PublishOutcome {
        let token = self.token();
        self.command(
            from,
            Command::Publish(Publish {
                token: Some(token),
                lane: Lane(0),
                message: Arc::new(message),
                mandatory: false,
                create: false,
                inbound_id: None,
                or_stream: false,
                hash_key: None,
                folds: false,
            }),
        );
        self.told[&from]
            .iter()
            .rev()
            .find_map(|told| match &told.event {
                Event::Published { token: t, outcome } if *t == token => Some(outcome.clone()),
                _ => None,
            })
            .expect("a confirmation")
    }

    pub(crate) fn publish_unconfirmed(&mut self, from: SessionId, message: Message) {
        self.command(
            from,
            Command::Publish(Publish {
                token: None,
                lane: Lane(0),
                message: Arc::new(message),
                mandatory: false,
                create: false,
                inbound_id: None,
                or_stream: false,
                hash_key: None,
                folds: false,
            }),
        );
    }

    pub(crate) fn send(&mut self, from: SessionId, queue: &str, body: &str) {
        let mut message = to_queue(queue, body);
        message.durable = true;
        let outcome = self.publish(from, message);
        assert!(
            matches!(outcome, PublishOutcome::Accepted { matched: 1, .. }),
            "{outcome:?}"
        );
    }

    pub(crate) fn subscribe(&mut self, from: SessionId, subscribe: Subscribe) -> Event {
        let token = subscribe.token;
        self.command(from, Command::Subscribe(Box::new(subscribe)));
        self.told[&from]
            .iter()
            .rev()
            .find_map(|told| match &told.event {
                Event::Subscribed { token: t } | Event::Refused { token: t, .. } if *t == token => {
                    Some(told.event.clone())
                }
                _ => None,
            })
            .expect("an answer")
    }

    pub(crate) fn consume(
        &mut self,
        from: SessionId,
        consumer: u64,
        queue: &str,
        credit: Credit,
    ) -> Event {
        let subscribe = self.consumer(consumer, queue, credit);
        self.subscribe(from, subscribe)
    }

    pub(crate) fn consumer(&mut self, consumer: u64, queue: &str, credit: Credit) -> Subscribe {
        Subscribe {
            token: self.token(),
            lane: Lane(0),
            consumer: ConsumerId(consumer),
            source: Source::Queue {
                name: queue.to_owned().into(),
                create: false,
            },
            credit,
            group: 0,
            exclusive: false,
            priority: 0,
            through_client: false,
            options: SubscriptionOptions::default(),
        }
    }

    pub(crate) fn settle(&mut self, from: SessionId, ids: &[DeliveryId], outcome: Outcome) {
        for id in ids {
            self.command(
                from,
                Command::Settle(Settle {
                    token: None,
                    lane: Lane(0),
                    deliveries: DeliveryRange {
                        queue: id.queue,
                        ranges: smallvec::SmallVec::from_slice(&[(id.qseq, id.qseq)]),
                    },
                    outcome,
                }),
            );
        }
    }

    pub(crate) fn open(
        &mut self,
        from: SessionId,
        client: &str,
        clean: bool,
        expiry: ClientExpiry,
    ) -> bool {
        self.open_with(from, client, clean, expiry, 100, None)
    }

    pub(crate) fn open_with(
        &mut self,
        from: SessionId,
        client: &str,
        clean: bool,
        expiry: ClientExpiry,
        window: u16,
        will: Option<Will>,
    ) -> bool {
        let token = self.token();
        self.command(
            from,
            Command::OpenClient(Box::new(OpenClient {
                token,
                client_id: client.to_owned().into(),
                clean_start: clean,
                expiry,
                window,
                message_len_max: None,
                will: will.map(Box::new),
            })),
        );
        self.told[&from]
            .iter()
            .find_map(|told| match &told.event {
                Event::Opened {
                    token: t, present, ..
                } if *t == token => Some(*present),
                _ => None,
            })
            .expect("an open client session")
    }

    pub(crate) fn topic(&mut self, from: SessionId, filter: &str, options: SubscriptionOptions) {
        let subscribe = Subscribe {
            token: self.token(),
            lane: Lane(0),
            consumer: ConsumerId::CLIENT,
            source: Source::Topic {
                filter: Filter::Pattern(pattern(filter)),
            },
            credit: Credit::Window(0),
            group: 0,
            exclusive: false,
            priority: 0,
            through_client: false,
            options,
        };
        let event = self.subscribe(from, subscribe);
        assert!(matches!(event, Event::Subscribed { .. }), "{event:?}");
    }

    /// The receipt of a delivery that was pulled in this epoch.
    pub(crate) fn receipt(&self, delivery: &Delivery) -> Receipt {
        let id = delivery.id.expect("leased");
        Receipt {
            queue: id.queue,
            qseq: id.qseq,
            count: delivery.count,
            epoch: self.epoch,
        }
    }

    pub(crate) fn last_event(&self, of: SessionId) -> Event {
        self.told[&of]
            .last()
            .expect("something was told")
            .event
            .clone()
    }

    /// Deliveries told so far, taken out.
    pub(crate) fn deliveries(&mut self, of: SessionId) -> Vec<Delivery> {
        let Some(told) = self.told.get_mut(&of) else {
            return Vec::new();
        };
        let (deliveries, rest) = std::mem::take(told)
            .into_iter()
            .partition(|told| matches!(told.event, Event::Delivery(_)));
        *told = rest;
        let deliveries: Vec<Told> = deliveries;
        deliveries
            .into_iter()
            .map(|told| match told.event {
                Event::Delivery(delivery) => Arc::unwrap_or_clone(delivery),
                _ => unreachable!("partitioned above"),
            })
            .collect()
    }

    pub(crate) fn bodies(&mut self, of: SessionId) -> Vec<String> {
        self.deliveries(of).iter().map(body).collect()
    }

    pub(crate) fn pull(
        &mut self,
        from: SessionId,
        queue: &str,
        count: u32,
        lease: Lease,
    ) -> Vec<Delivery> {
        let token = self.token();
        self.command(
            from,
            Command::Pull(Pull {
                token,
                lane: Lane(0),
                queue: queue.to_owned().into(),
                count,
                lease,
                wait_ms: 0,
                out_max: None,
                bytes_max: None,
                attempt: None,
            }),
        );
        match self.last_event(from) {
            Event::Pulled { deliveries, .. } => deliveries,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).expect("text")
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<DeliveryId> {
    deliveries
        .iter()
        .filter_map(|delivery| delivery.id)
        .collect()
}

pub(crate) fn levels(text: &str) -> Levels {
    Levels::split(text.to_owned().into(), b'/').expect("a short topic")
}

pub(crate) fn pattern(text: &str) -> Pattern {
    Pattern(
        text.split('/')
            .map(|level| match level {
                "+" => FilterLevel::One,
                "#" => FilterLevel::Many,
                text => FilterLevel::Exact(text.to_owned().into()),
            })
            .collect(),
    )
}

pub(crate) fn to_queue(queue: &str, body: &str) -> Message {
    Message::new(
        Address::queue(VhostId::ROOT, queue.to_owned()),
        body.to_owned().into(),
    )
}

pub(crate) fn to_topic(topic: &str, body: &str, qos: u8) -> Message {
    let mut message = Message::new(
        Address::topic(VhostId::ROOT, levels(topic)),
        body.to_owned().into(),
    );
    message.qos = qos;
    message.durable = qos > 0;
    message
}

pub(crate) fn to_exchange(exchange: &str, key: &str, body: &str) -> Message {
    let mut message = Message::new(
        Address::exchange(VhostId::ROOT, exchange.to_owned(), levels(key)),
        body.to_owned().into(),
    );
    message.durable = true;
    message
}
