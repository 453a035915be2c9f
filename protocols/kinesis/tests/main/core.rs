//! A naive core: streams as plain lists, in virtual time, answering the commands that the operations give.

use std::{collections::BTreeMap, sync::Arc};

use aws::{Answer, Call, Input, Operation, Settings, Transitions, Value, digest::md5};
use bytes::Bytes;
use message::{Message, Timestamp, VhostId};
use session::{
    Command, Event, Flow, GroupInfo, GroupShard, GroupTo, Growth, Listed, Notes, Publish,
    PublishOutcome, ReadStream, RecordPlace, Records, Refusal, RefusalKind, Secret, ShardInfo,
    ShardLimits, ShardNo, StreamAttributes, StreamId, StreamInfo, StreamRecord, StreamStart,
    StreamTo, Token, partition_key,
};

/// When tests begin.
pub(crate) const START: Timestamp = Timestamp(1_764_339_600_000);

struct Stream {
    info: StreamInfo,
    records: Vec<(ShardNo, StreamRecord)>,
    groups: BTreeMap<Bytes, BTreeMap<ShardNo, (Bytes, Timestamp, u64)>>,
}

/// What happens when time gets there.
type Later = Box<dyn FnOnce(&mut Core)>;

/// The core, and the caller before it.
pub(crate) struct Core {
    pub(crate) now: Timestamp,
    pub(crate) settings: Settings,
    streams: BTreeMap<Bytes, Stream>,
    incarnations: u64,
    requests: u64,
    later: Vec<(Timestamp, Later)>,
    /// Commands that are refused instead of being done: how many, and why.
    pub(crate) refusing: Vec<RefusalKind>,
    /// Changes that another one comes before.
    pub(crate) conflicts: u32,
    /// Streams that the caller has no right to look at.
    pub(crate) hidden: Vec<Bytes>,
}

impl Core {
    /// One that shows changes at once and limits nothing.
    pub(crate) fn new() -> Self {
        Self {
            now: START,
            settings: Settings {
                transitions: Transitions::Instant,
                minute_rules: false,
                shard_limits: false,
                ..Settings::default()
            },
            streams: BTreeMap::new(),
            incarnations: 0,
            requests: 0,
            later: Vec::new(),
            refusing: Vec::new(),
            conflicts: 0,
            hidden: Vec::new(),
        }
    }

    /// Lets something happen so many ms from now.
    pub(crate) fn after_ms(&mut self, ms: u64, what: impl FnOnce(&mut Self) + 'static) {
        self.later.push((self.now.plus_ms(ms), Box::new(what)));
    }

    fn advance(&mut self, to: Timestamp) {
        self.now = self.now.max(to);
        while let Some(at) = self.later.iter().position(|(time, _)| *time <= self.now) {
            let (_, what) = self.later.remove(at);
            what(self);
        }
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.advance(self.now.plus_ms(ms));
    }

    fn caller(&mut self) -> Arc<Call> {
        self.requests += 1;
        Arc::new(Call {
            account: "123456789012".into(),
            region: "us-east-1".into(),
            caller_account: "123456789012".into(),
            vhost: VhostId(0),
            vhost_name: "/".into(),
            // Two regions are one virtual host.
            vhost_of: |call, account, region| {
                let here = account == &*call.account && region == "us-west-2";
                here.then(|| Arc::clone(&call.vhost_name))
            },
            user: "guest".into(),
            access_key: "guest".into(),
            base_url: "http://127.0.0.1:4566".into(),
            path: "/".into(),
            request_id: format!("request-{}", self.requests).into(),
            now: self.now,
            random: [0; 32],
            secret: Secret([7; 32]),
            settings: Arc::new(self.settings.clone()),
            judge: aws::Judge::default(),
        })
    }

    /// What the policy of that note is asked for by an operation: account and region as the input names them, the ARN, the note.
    pub(crate) fn about(
        &mut self,
        operation: &str,
        value: Value,
    ) -> (Option<String>, Option<(String, String)>) {
        let guard = kinesis::SERVICE.guard.expect("streams have policies");
        let operation = named(operation);
        let owner = (guard.owner)(operation, "/", &value);
        let owner = owner.map(|(account, region)| format!("{account} {}", region.unwrap_or("-")));
        let call = self.caller();
        let input = Input {
            call: Arc::clone(&call),
            value,
        };
        let subject = (guard.subject)(operation, &input).map(|subject| {
            let note = (guard.note)(&subject).into_owned();
            ((guard.arn)(&call, &subject, &()), note)
        });
        (owner, subject)
    }

    /// Everything that an operation answers.
    pub(crate) fn answers(&mut self, operation: &str, value: Value) -> Vec<Answer> {
        let operation = named(operation);
        let call = self.caller();
        let mut flow = (operation.run)(Input { call, value });
        let mut answers = Vec::new();
        loop {
            flow = match flow {
                Flow::Done(answer) => {
                    answers.push(answer);
                    return answers;
                }
                Flow::Part(answer, later) => {
                    answers.push(answer);
                    later(self.now)
                }
                Flow::Until(time, later) => {
                    self.advance(time);
                    later(self.now)
                }
                Flow::Ask(commands, then) => {
                    let events = commands
                        .into_iter()
                        .map(|command| self.answer(command))
                        .collect();
                    then(events, self.now)
                }
            };
        }
    }

    fn answer(&mut self, command: Command) -> Event {
        let token = Token(0);
        match &command {
            Command::Publish(publish) => {
                let outcome = self.outcome(publish);
                return Event::Published { token, outcome };
            }
            Command::PublishAll(all) => {
                let all = all.publishes.iter();
                let outcomes = all.map(|publish| self.outcome(publish)).collect();
                return Event::PublishedAll { token, outcomes };
            }
            _ => {}
        }
        if let Some(refusal) = self.refusal_by_test() {
            return Event::Refused { token, refusal };
        }
        let result = match command {
            Command::Stream { name, to, .. } => self.stream(name, *to),
            Command::ReadStream(read) => self.read_stream(*read),
            Command::List { list, .. } => {
                assert_eq!(list.of, Listed::Streams);
                let mut names: Vec<_> = self
                    .streams
                    .keys()
                    .filter(|name| list.after.as_ref().is_none_or(|after| *name > after))
                    .cloned()
                    .collect();
                let more = names.len() > list.limit as usize;
                names.truncate(list.limit as usize);
                Ok(Event::Listed { token, names, more })
            }
            Command::Group {
                stream, group, to, ..
            } => self.group(stream, group, *to),
            other => panic!("not a command of this door: {other:?}"),
        };
        result.unwrap_or_else(|kind| Event::Refused {
            token,
            refusal: Refusal::new(kind, "refused"),
        })
    }

    fn stream(&mut self, name: Bytes, to: StreamTo) -> Result<Event, RefusalKind> {
        let now = self.now;
        let known = self.streams.get_mut(&name);
        match (to, known) {
            (StreamTo::Create { .. }, Some(_)) => return Err(RefusalKind::Inequivalent),
            (StreamTo::Ensure { .. }, Some(_)) => {}
            (
                StreamTo::Create {
                    attributes,
                    shards,
                    notes,
                }
                | StreamTo::Ensure {
                    attributes,
                    shards,
                    notes,
                    ..
                },
                None,
            ) => {
                self.incarnations += 1;
                let id = StreamId(self.incarnations);
                self.streams.insert(
                    name.clone(),
                    created(id, &name, attributes, shards, notes, now),
                );
            }
            (_, None) => return Err(RefusalKind::NotFound),
            // As of one that the caller has no right to.
            (StreamTo::Inspect, Some(_)) if self.hidden.contains(&name) => {
                return Err(RefusalKind::AccessDenied);
            }
            (StreamTo::Inspect | StreamTo::Count, Some(_)) => {}
            (
                StreamTo::Alter {
                    version,
                    attributes,
                    notes,
                },
                Some(stream),
            ) => {
                if self.conflicts > 0 || version != stream.info.version {
                    self.conflicts = self.conflicts.saturating_sub(1);
                    return Err(RefusalKind::Inequivalent);
                }
                assert!(
                    notes.is_sorted_by(|one, other| one.0 < other.0),
                    "{notes:?}"
                );
                stream.info.version += 1;
                stream.info.attributes = attributes;
                stream.info.notes = notes;
            }
            (StreamTo::Delete, Some(_)) => {
                let gone = self.streams.remove(&name).expect("it was there");
                return Ok(Event::Stream {
                    token: Token(0),
                    stream: Box::new(gone.info),
                });
            }
            (StreamTo::Split { shard, at }, Some(stream)) => {
                let parent = stream.close(shard, now)?;
                if at <= parent.first_hash || at > parent.last_hash {
                    return Err(RefusalKind::InvalidArgument);
                }
                stream.open(&[shard], parent.first_hash, at - 1, now);
                stream.open(&[shard], at, parent.last_hash, now);
            }
            (StreamTo::Merge { shard, adjacent }, Some(stream)) => {
                let one = stream.close(shard, now)?;
                let other = stream.close(adjacent, now)?;
                let (low, high) = if one.first_hash < other.first_hash {
                    (one, other)
                } else {
                    (other, one)
                };
                stream.open(
                    &[low.shard, high.shard],
                    low.first_hash,
                    high.last_hash,
                    now,
                );
            }
            (StreamTo::Resize { .. }, Some(_)) => panic!("not used by this door"),
        }
        Ok(Event::Stream {
            token: Token(0),
            stream: Box::new(self.streams[&name].info.clone()),
        })
    }

    fn refusal_by_test(&mut self) -> Option<Refusal> {
        let kind = self.refusing.pop()?;
        let shard = (kind == RefusalKind::RateExceeded).then(|| Bytes::from_static(b"0"));
        Some(Refusal::new(kind, "refused by the test").but_known(shard))
    }

    fn outcome(&mut self, publish: &Publish) -> PublishOutcome {
        if let Some(refusal) = self.refusal_by_test() {
            return PublishOutcome::Refused(refusal);
        }
        match self.publish(publish) {
            Ok(record) => PublishOutcome::Accepted {
                matched: 1,
                place: None,
                record: Some(record),
                sequence: None,
            },
            Err(kind) => PublishOutcome::Refused(Refusal::new(kind, "refused")),
        }
    }

    fn publish(&mut self, publish: &Publish) -> Result<RecordPlace, RefusalKind> {
        let now = self.now;
        let stream = self
            .streams
            .get_mut(&publish.message.address.name)
            .ok_or(RefusalKind::NotFound)?;
        let key = partition_key(&publish.message);
        let len = (publish.message.body.len() + key.len()) as u64;
        if stream
            .info
            .attributes
            .record_len_max
            .is_some_and(|max| len > max)
        {
            return Err(RefusalKind::TooLarge);
        }
        let hash = publish
            .hash_key
            .unwrap_or_else(|| u128::from_be_bytes(md5(&key)));
        let offset = stream.info.next_offset;
        let shard = stream
            .info
            .shards
            .iter_mut()
            .find(|shard| {
                shard.closed.is_none() && (shard.first_hash..=shard.last_hash).contains(&hash)
            })
            .expect("open shards own every hash");
        shard.records += 1;
        let place = RecordPlace {
            stream: stream.info.id,
            shard: shard.shard,
            shard_opened: shard.opened,
            offset,
        };
        let record = StreamRecord {
            offset,
            time: now,
            message: publish.message.clone(),
        };
        stream.info.next_offset += 1;
        stream.records.push((place.shard, record));
        Ok(place)
    }

    /// What the shards of a stream take and give.
    pub(crate) fn limits(&self, name: &str) -> Option<ShardLimits> {
        self.streams[name.as_bytes()].info.attributes.limits
    }

    /// How the shards of a stream follow what is written.
    pub(crate) fn growth(&self, name: &str) -> Option<Growth> {
        self.streams[name.as_bytes()].info.attributes.growth
    }

    /// Takes the age limit of a stream away, as another door can.
    pub(crate) fn keep_forever(&mut self, name: &str) {
        let stream = self.streams.get_mut(name.as_bytes()).expect("it is there");
        stream.info.attributes.retention_ms = u64::MAX;
    }

    /// Publishes as another door would.
    pub(crate) fn publish_message(&mut self, message: Message) {
        let publish = Publish {
            token: None,
            lane: session::Lane(0),
            message: Arc::new(message),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        };
        self.publish(&publish).expect("the stream is there");
    }

    /// Drops records below an offset, as retention does.
    pub(crate) fn trim(&mut self, name: &str, below: u64) {
        let stream = self.streams.get_mut(name.as_bytes()).expect("it is there");
        stream.records.retain(|(_, record)| record.offset >= below);
        stream.info.first_offset = below;
    }

    fn read_stream(&mut self, read: ReadStream) -> Result<Event, RefusalKind> {
        let deadline = self.now.plus_ms(read.wait_ms);
        loop {
            let found = self.read_now(&read)?;
            if !found.records.is_empty() || found.ended || self.now >= deadline {
                return Ok(Event::Records {
                    token: Token(0),
                    records: Box::new(found),
                });
            }
            let next = self.later.iter().map(|(time, _)| *time).min();
            self.advance(next.unwrap_or(deadline).min(deadline));
        }
    }

    fn read_now(&self, read: &ReadStream) -> Result<Records, RefusalKind> {
        let stream = self
            .streams
            .get(&read.stream)
            .ok_or(RefusalKind::NotFound)?;
        if read.id.is_some_and(|id| id != stream.info.id) {
            return Err(RefusalKind::NotFound);
        }
        let shard = stream
            .info
            .shards
            .iter()
            .find(|shard| shard.shard == read.shard)
            .ok_or(RefusalKind::NotFound)?;
        let mut left = read.bytes_max;
        let mut records = Vec::new();
        let mut behind_ms = 0;
        let mut next = match read.from {
            StreamStart::Offset(offset) => offset,
            _ => 0,
        };
        for (_, record) in stream.records.iter().filter(|(of, _)| *of == read.shard) {
            let before = match read.from {
                StreamStart::First => false,
                StreamStart::Offset(offset) => record.offset < offset,
                StreamStart::Time(time) => record.time < time,
                StreamStart::Next | StreamStart::Last => true,
            };
            if before {
                continue;
            }
            let len = (record.message.body.len() + partition_key(&record.message).len()) as u64;
            if records.len() == read.count as usize || (len > left && !records.is_empty()) {
                behind_ms = self.now.since(record.time);
                break;
            }
            left = left.saturating_sub(len);
            next = record.offset + 1;
            records.push(record.clone());
        }
        if records.is_empty() {
            next = next.max(stream.info.next_offset);
        }
        let has_more = stream
            .records
            .iter()
            .any(|(of, record)| *of == read.shard && record.offset >= next);
        let ended = shard.closed.is_some() && !has_more;
        let children = stream
            .info
            .shards
            .iter()
            .filter(|child| child.parents.contains(&read.shard))
            .cloned();
        Ok(Records {
            stream: stream.info.id,
            shard: shard.clone(),
            records,
            next,
            ended,
            children: if ended {
                children.collect()
            } else {
                Vec::new()
            },
            behind_ms,
        })
    }

    fn group(&mut self, stream: Bytes, group: Bytes, to: GroupTo) -> Result<Event, RefusalKind> {
        let now = self.now;
        let known = self.streams.get_mut(&stream).ok_or(RefusalKind::NotFound)?;
        match to {
            GroupTo::Create { .. } => {
                known.groups.entry(group.clone()).or_default();
            }
            GroupTo::Delete => {
                known.groups.remove(&group).ok_or(RefusalKind::NotFound)?;
                return Ok(group_event(stream, group, Vec::new()));
            }
            GroupTo::Inspect => {}
            GroupTo::Lease { shard, owner, ms } => {
                let leases = known.groups.get_mut(&group).ok_or(RefusalKind::NotFound)?;
                let counter = match leases.get(&shard) {
                    Some((holder, until, _)) if *holder != owner && *until > now => {
                        return Err(RefusalKind::InUse);
                    }
                    Some((_, _, counter)) => counter + 1,
                    None => 1,
                };
                leases.insert(shard, (owner, now.plus_ms(ms), counter));
            }
            other => panic!("not used by this door: {other:?}"),
        }
        let leases = known.groups.get(&group).ok_or(RefusalKind::NotFound)?;
        let shards = leases
            .iter()
            .map(|(shard, (owner, until, counter))| GroupShard {
                shard: *shard,
                next: 0,
                lease: (*until > now).then(|| (owner.clone(), *until)),
                counter: *counter,
                ready: true,
                done: false,
            })
            .collect();
        Ok(group_event(stream, group, shards))
    }
}

fn group_event(stream: Bytes, group: Bytes, shards: Vec<GroupShard>) -> Event {
    Event::Group {
        token: Token(0),
        group: Box::new(GroupInfo {
            stream,
            group,
            shards,
        }),
    }
}

fn created(
    id: StreamId,
    name: &Bytes,
    attributes: StreamAttributes,
    shards: u32,
    notes: Notes,
    now: Timestamp,
) -> Stream {
    let mut stream = Stream {
        info: StreamInfo {
            id,
            name: name.clone(),
            attributes,
            notes,
            created: now,
            changed: now,
            version: 1,
            shards: Vec::new(),
            first_offset: 0,
            next_offset: 0,
            consumers: 0,
        },
        records: Vec::new(),
        groups: BTreeMap::new(),
    };
    // Floor of 2^128 / shards, without 2^128.
    let width = if shards == 1 {
        u128::MAX
    } else {
        u128::MAX / u128::from(shards) + u128::from(shards.is_power_of_two())
    };
    for at in 0..u128::from(shards) {
        let last = if at + 1 == u128::from(shards) {
            u128::MAX
        } else {
            width * (at + 1) - 1
        };
        stream.open(&[], width * at, last, now);
    }
    stream
}

impl Stream {
    fn open(&mut self, parents: &[ShardNo], first_hash: u128, last_hash: u128, now: Timestamp) {
        self.info.shards.push(ShardInfo {
            shard: ShardNo(self.info.shards.len() as u32),
            parents: parents.iter().copied().collect(),
            first_hash,
            last_hash,
            opened: now,
            first_offset: self.info.next_offset,
            closed: None,
            records: 0,
        });
        self.info.version += 1;
    }

    fn close(&mut self, shard: ShardNo, now: Timestamp) -> Result<ShardInfo, RefusalKind> {
        let next = self.info.next_offset;
        let shard = self
            .info
            .shards
            .get_mut(shard.0 as usize)
            .ok_or(RefusalKind::NotFound)?;
        if shard.closed.is_some() {
            return Err(RefusalKind::InUse);
        }
        shard.closed = Some((now, next));
        Ok(shard.clone())
    }
}

/// An operation of the service.
fn named(operation: &str) -> &'static Operation {
    let mut operations = kinesis::SERVICE.operations.iter();
    let found = operations.find(|known| known.name == operation);
    found.unwrap_or_else(|| panic!("no operation {operation}"))
}
