//! Streams: made, written, read, resharded, trimmed, deleted.

use std::sync::Arc;

use broker::Config;
use message::{Address, Levels, Message, Timestamp, VhostId};
use session::*;

use crate::rig::Rig;

const DAY: u64 = 24 * 3_600_000;

pub(crate) fn to_stream(stream: &str, key: &str, body: &str) -> Message {
    let key = Levels::one(key.to_owned().into());
    Message::new(
        Address::stream(VhostId::ROOT, stream.to_owned(), key),
        body.to_owned().into(),
    )
}

pub(crate) fn attributes() -> StreamAttributes {
    StreamAttributes::default()
}

impl Rig {
    pub(crate) fn stream(&mut self, from: SessionId, name: &str, to: StreamTo) -> Event {
        let token = self.token();
        let name = name.to_owned().into();
        let to = Box::new(to);
        let lane = Lane(0);
        self.command(
            from,
            Command::Stream {
                token,
                lane,
                name,
                to,
            },
        );
        self.found(from, token).expect("an answer")
    }

    pub(crate) fn info(&mut self, from: SessionId, name: &str, to: StreamTo) -> StreamInfo {
        match self.stream(from, name, to) {
            Event::Stream { stream, .. } => *stream,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn make(&mut self, from: SessionId, name: &str, shards: u32) -> StreamInfo {
        let to = StreamTo::Create {
            attributes: attributes(),
            shards,
            notes: Vec::new(),
        };
        self.info(from, name, to)
    }

    pub(crate) fn alter(
        &mut self,
        from: SessionId,
        name: &str,
        change: impl FnOnce(&mut StreamAttributes),
    ) -> StreamInfo {
        let info = self.info(from, name, StreamTo::Inspect);
        let mut attributes = info.attributes;
        change(&mut attributes);
        let to = StreamTo::Alter {
            version: info.version,
            attributes,
            notes: info.notes,
        };
        self.info(from, name, to)
    }

    pub(crate) fn write(
        &mut self,
        from: SessionId,
        name: &str,
        key: &str,
        body: &str,
    ) -> RecordPlace {
        match self.publish(from, to_stream(name, key, body)) {
            PublishOutcome::Accepted {
                record: Some(record),
                matched: 1,
                ..
            } => record,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn begin_read(&mut self, from: SessionId, read: ReadStream) -> Token {
        let token = self.token();
        let read = ReadStream { token, ..read };
        self.command(from, Command::ReadStream(Box::new(read)));
        token
    }

    pub(crate) fn found(&self, of: SessionId, token: Token) -> Option<Event> {
        let told = self.told.get(&of)?;
        told.iter()
            .map(|told| &told.event)
            .find(|event| event.token() == Some(token))
            .cloned()
    }

    pub(crate) fn read_shard(
        &mut self,
        from: SessionId,
        name: &str,
        shard: u32,
        start: StreamStart,
        count: u32,
    ) -> Records {
        let token = self.begin_read(from, read(name, shard, start, count));
        match self.found(from, token) {
            Some(Event::Records { records, .. }) => *records,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn read(name: &str, shard: u32, from: StreamStart, count: u32) -> ReadStream {
    ReadStream {
        token: Token(0),
        lane: Lane(0),
        stream: name.to_owned().into(),
        id: None,
        shard: ShardNo(shard),
        from,
        count,
        bytes_max: 1 << 20,
        wait_ms: 0,
        limited: false,
    }
}

pub(crate) fn shown(records: &Records) -> Vec<(u64, String)> {
    records
        .records
        .iter()
        .map(|it| {
            (
                it.offset,
                String::from_utf8_lossy(&it.message.body).into_owned(),
            )
        })
        .collect()
}

fn refused(event: &Event) -> RefusalKind {
    match event {
        Event::Refused { refusal, .. } => refusal.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_have_dense_offsets_over_all_shards_and_lie_where_the_md5_of_their_key_says() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let info = rig.make(a, "s", 2);
    assert_eq!(info.shards.len(), 2);
    assert_eq!(
        (info.first_offset, info.next_offset, info.version),
        (0, 0, 1)
    );
    // md5("a") = 0x0cc1..., md5("b") = 0x92eb...
    for (at, key) in ["a", "b", "a", "b", "b"].iter().enumerate() {
        let place = rig.write(a, "s", key, &at.to_string());
        assert_eq!(place.offset, at as u64);
        assert_eq!(place.shard, ShardNo(u32::from(*key == "b")));
        assert_eq!(place.shard_opened, info.shards[0].opened);
    }
    let found = rig.read_shard(a, "s", 0, StreamStart::First, 10);
    assert_eq!(shown(&found), [(0, "0".into()), (2, "2".into())]);
    assert_eq!((found.next, found.ended, found.behind_ms), (3, false, 0));
    let found = rig.read_shard(a, "s", 1, StreamStart::Offset(2), 2);
    assert_eq!(shown(&found), [(3, "3".into()), (4, "4".into())]);
    assert_eq!(found.shard.records, 3);
    let info = rig.info(a, "s", StreamTo::Inspect);
    assert_eq!((info.first_offset, info.next_offset), (0, 5));
    rig.check_replay();
    rig.restart();
    let a = rig.attach(1);
    let found = rig.read_shard(a, "s", 1, StreamStart::First, 10);
    assert_eq!(shown(&found).len(), 3);
    assert_eq!(rig.write(a, "s", "a", "x").offset, 5);
}

#[test]
fn a_hash_key_chooses_the_shard_instead_of_the_key() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 4);
    for (hash, shard) in [(0, 0), (1 << 126, 1), ((1 << 127) - 1, 1), (u128::MAX, 3)] {
        let token = rig.token();
        rig.command(
            a,
            Command::Publish(Publish {
                token: Some(token),
                lane: Lane(0),
                message: to_stream("s", "a", "x").into(),
                mandatory: false,
                create: false,
                inbound_id: None,
                or_stream: false,
                hash_key: Some(hash),
                folds: false,
            }),
        );
        let Some(Event::Published {
            outcome: PublishOutcome::Accepted { record, .. },
            ..
        }) = rig.found(a, token)
        else {
            panic!("not accepted");
        };
        assert_eq!(record.map(|it| it.shard), Some(ShardNo(shard)));
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let PublishOutcome::Refused(refusal) = rig.publish(a, to_stream("s", "k", "x")) else {
        panic!("not refused");
    };
    assert_eq!(refusal.kind, RefusalKind::NotFound);
    for to in [
        StreamTo::Inspect,
        StreamTo::Delete,
        StreamTo::Resize { shards: 2 },
    ] {
        assert_eq!(refused(&rig.stream(a, "s", to)), RefusalKind::NotFound);
    }
    let info = rig.make(a, "s", 1);
    for missing in [
        ReadStream {
            id: Some(StreamId(info.id.0 + 1)),
            ..read("s", 0, StreamStart::First, 1)
        },
        read("t", 0, StreamStart::First, 1),
        read("s", 1, StreamStart::First, 1),
    ] {
        let token = rig.begin_read(a, missing);
        let event = rig.found(a, token).expect("an answer");
        assert_eq!(refused(&event), RefusalKind::NotFound);
    }
}

#[test]
fn a_stream_is_made_once_and_ensured_as_often_as_one_likes() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let info = rig.make(a, "s", 3);
    let again = StreamTo::Create {
        attributes: attributes(),
        shards: 3,
        notes: Vec::new(),
    };
    assert_eq!(
        refused(&rig.stream(a, "s", again)),
        RefusalKind::Inequivalent
    );
    let ensured = rig.info(
        a,
        "s",
        StreamTo::Ensure {
            attributes: attributes(),
            shards: 1,
            notes: Vec::new(),
            bare_name: false,
        },
    );
    assert_eq!(ensured, info);
    for (shards, retention_ms) in [(0, DAY), (10_001, DAY), (1, 0)] {
        let to = StreamTo::Create {
            attributes: StreamAttributes {
                retention_ms,
                ..attributes()
            },
            shards,
            notes: Vec::new(),
        };
        assert_eq!(
            refused(&rig.stream(a, "t", to)),
            RefusalKind::InvalidArgument
        );
    }
    let stale = StreamTo::Alter {
        version: 7,
        attributes: attributes(),
        notes: Vec::new(),
    };
    assert_eq!(
        refused(&rig.stream(a, "s", stale)),
        RefusalKind::Inequivalent
    );
    let altered = rig.alter(a, "s", |it| it.retention_ms = 2 * DAY);
    assert_eq!(
        (altered.version, altered.attributes.retention_ms),
        (2, 2 * DAY)
    );
    assert_eq!(rig.info(a, "s", StreamTo::Inspect), altered);
    rig.check_replay();
}

#[test]
fn every_way_to_begin_and_what_is_behind() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let empty = rig.read_shard(a, "s", 0, StreamStart::Last, 10);
    assert_eq!(
        (empty.next, empty.behind_ms, empty.records.len()),
        (0, 0, 0)
    );
    let begin = rig.now;
    for at in 0..5 {
        rig.write(a, "s", "k", &at.to_string());
        rig.tick(1000);
    }
    let offsets =
        |found: Records| -> Vec<u64> { found.records.iter().map(|it| it.offset).collect() };
    let mut of = |start| offsets(rig.read_shard(a, "s", 0, start, 10));
    assert_eq!(of(StreamStart::First), [0, 1, 2, 3, 4]);
    assert_eq!(of(StreamStart::Last), [4]);
    assert_eq!(of(StreamStart::Next), [0u64; 0]);
    assert_eq!(of(StreamStart::Offset(3)), [3, 4]);
    assert_eq!(of(StreamStart::Time(begin.plus_ms(1001))), [2, 3, 4]);
    assert_eq!(of(StreamStart::Time(begin.plus_ms(2000))), [2, 3, 4]);
    assert_eq!(of(StreamStart::Time(begin.plus_ms(9000))), [0u64; 0]);
    let found = rig.read_shard(a, "s", 0, StreamStart::First, 2);
    assert_eq!((found.next, found.behind_ms), (2, 3000));
    let found = rig.read_shard(a, "s", 0, StreamStart::Offset(4), 0);
    assert_eq!(
        (found.next, found.behind_ms, found.records.len()),
        (4, 1000, 0)
    );
    let short = ReadStream {
        bytes_max: 1,
        ..read("s", 0, StreamStart::First, 10)
    };
    let token = rig.begin_read(a, short);
    let Some(Event::Records { records, .. }) = rig.found(a, token) else {
        panic!("no records");
    };
    assert_eq!(records.records.len(), 1, "one always fits");
}

#[test]
fn a_read_waits_and_is_woken_by_a_publish_to_its_shard_a_split_or_its_time() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 2);
    let waiting = |shard| ReadStream {
        wait_ms: 5000,
        ..read("s", shard, StreamStart::Next, 10)
    };
    let first = rig.begin_read(a, waiting(0));
    let second = rig.begin_read(a, waiting(0));
    let other = rig.begin_read(a, waiting(1));
    rig.write(a, "s", "b", "for 1");
    assert!(rig.found(a, first).is_none());
    assert!(
        matches!(rig.found(a, other), Some(Event::Records { records, .. }) if records.records.len() == 1)
    );
    rig.write(a, "s", "a", "for 0");
    for token in [first, second] {
        let Some(Event::Records { records, .. }) = rig.found(a, token) else {
            panic!("not woken");
        };
        assert_eq!(shown(&records), [(1, "for 0".into())]);
    }
    let late = rig.begin_read(a, waiting(0));
    rig.tick(4999);
    assert!(rig.found(a, late).is_none());
    rig.tick(1);
    let Some(Event::Records { records, .. }) = rig.found(a, late) else {
        panic!("not over");
    };
    assert_eq!((records.records.len(), records.next), (0, 2));
    let split = rig.begin_read(a, waiting(0));
    let given_up = rig.begin_read(a, waiting(1));
    rig.command(a, Command::CancelRead { token: given_up });
    rig.info(
        a,
        "s",
        StreamTo::Split {
            shard: ShardNo(0),
            at: 1000,
        },
    );
    let Some(Event::Records { records, .. }) = rig.found(a, split) else {
        panic!("not woken");
    };
    assert!(records.ended);
    assert_eq!(records.children.len(), 2);
    rig.write(a, "s", "b", "y");
    rig.tick(9000);
    assert!(rig.found(a, given_up).is_none());
    let gone = rig.begin_read(a, waiting(1));
    rig.info(a, "s", StreamTo::Delete);
    assert_eq!(
        refused(&rig.found(a, gone).expect("an answer")),
        RefusalKind::NotFound
    );
    rig.check_replay();
    assert!(rig.refs.is_empty(), "everything was let go");
}

#[test]
fn a_record_stays_in_memory_for_who_waits_for_it_but_not_for_who_may_come() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let in_memory = |rig: &mut Rig, offset| {
        let mut found = || {
            rig.read_shard(a, "s", 0, StreamStart::Offset(offset), 1)
                .records
        };
        // Read from the journal it is another one each time.
        Arc::ptr_eq(&found()[0].message, &found()[0].message)
    };
    rig.write(a, "s", "k", "nobody waits");
    assert!(!in_memory(&mut rig, 0));
    let waiting = ReadStream {
        wait_ms: 5000,
        ..read("s", 0, StreamStart::Next, 1)
    };
    let token = rig.begin_read(a, waiting);
    rig.write(a, "s", "k", "somebody waits");
    assert!(matches!(rig.found(a, token), Some(Event::Records { .. })));
    assert!(in_memory(&mut rig, 1));
}

#[test]
fn a_record_goes_to_the_stream_that_has_the_name_when_it_comes() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let message = || {
        let address = Address::stream(VhostId::ROOT, "s".to_owned(), Levels::none());
        let mut message = Message::new(address, "x".into());
        message.group = Some("key".into());
        message
    };
    let place = |outcome| match outcome {
        PublishOutcome::Accepted { record, .. } => record.map(|it: RecordPlace| it.stream),
        PublishOutcome::Refused(refusal) => {
            assert_eq!(refusal.kind, RefusalKind::NotFound);
            None
        }
        other => panic!("{other:?}"),
    };
    // Twice each time: where it went is remembered.
    let twice = |rig: &mut Rig, to| {
        for _ in 0..2 {
            assert_eq!(place(rig.publish(a, message())), to);
        }
    };
    twice(&mut rig, None);
    let first = rig.make(a, "s", 2).id;
    twice(&mut rig, Some(first));
    rig.info(a, "s", StreamTo::Delete);
    twice(&mut rig, None);
    let second = rig.make(a, "s", 1).id;
    assert_ne!(first, second);
    twice(&mut rig, Some(second));
    rig.check_replay();
    rig.restart();
    let a = rig.attach(1);
    assert_eq!(place(rig.publish(a, message())), Some(second));
}

#[test]
fn shards_are_split_merged_and_resized_and_their_parents_stay_readable() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    rig.write(a, "s", "a", "old");
    let info = rig.info(
        a,
        "s",
        StreamTo::Split {
            shard: ShardNo(0),
            at: 1 << 127,
        },
    );
    assert_eq!(info.shards.len(), 3);
    assert_eq!(info.shards[0].closed, Some((rig.now, 1)));
    assert_eq!(info.shards[2].parents[..], [ShardNo(0)]);
    assert_eq!(
        (info.shards[1].last_hash + 1, info.shards[2].first_hash),
        (1 << 127, 1 << 127)
    );
    assert_eq!(info.shards[2].first_offset, 1);
    assert_eq!(rig.info(a, "s", StreamTo::Inspect), info);
    assert_eq!(rig.write(a, "s", "a", "low").shard, ShardNo(1));
    assert_eq!(rig.write(a, "s", "b", "high").shard, ShardNo(2));
    let split = |shard, at| StreamTo::Split {
        shard: ShardNo(shard),
        at,
    };
    for (to, kind) in [
        (split(0, 5), RefusalKind::InUse),
        (split(9, 5), RefusalKind::NotFound),
        (split(1, 0), RefusalKind::InvalidArgument),
        (split(1, 1 << 127), RefusalKind::InvalidArgument),
        (
            StreamTo::Merge {
                shard: ShardNo(1),
                adjacent: ShardNo(1),
            },
            RefusalKind::InvalidArgument,
        ),
    ] {
        assert_eq!(refused(&rig.stream(a, "s", to)), kind);
    }
    let info = rig.info(
        a,
        "s",
        StreamTo::Merge {
            shard: ShardNo(2),
            adjacent: ShardNo(1),
        },
    );
    assert_eq!(info.shards[3].parents[..], [ShardNo(1), ShardNo(2)]);
    assert_eq!(
        (info.shards[3].first_hash, info.shards[3].last_hash),
        (0, u128::MAX)
    );
    let found = rig.read_shard(a, "s", 0, StreamStart::First, 10);
    assert_eq!(shown(&found), [(0, "old".into())]);
    assert!(found.ended);
    assert_eq!(found.next, 1);
    assert_eq!(
        found
            .children
            .iter()
            .map(|it| it.shard.0)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let info = rig.info(a, "s", StreamTo::Resize { shards: 3 });
    assert_eq!(
        info.shards.iter().filter(|it| it.closed.is_none()).count(),
        3
    );
    assert_eq!(info.shards[6].parents[..], [ShardNo(3)]);
    let same = rig.info(a, "s", StreamTo::Resize { shards: 3 });
    assert_eq!(same, info);
    let info = rig.info(a, "s", StreamTo::Resize { shards: 2 });
    // The middle one of three overlaps both halves.
    assert_eq!(info.shards[7].parents[..], [ShardNo(4), ShardNo(5)]);
    assert_eq!(info.shards[8].parents[..], [ShardNo(5), ShardNo(6)]);
    rig.check_replay();
    // Closed shards are forgotten when nothing in them is kept any more.
    rig.tick(DAY + 2000);
    rig.tick(2000);
    let info = rig.info(a, "s", StreamTo::Inspect);
    assert_eq!(
        info.shards.iter().map(|it| it.shard.0).collect::<Vec<_>>(),
        [7, 8]
    );
    assert_eq!(info.next_offset, 3);
    rig.write(a, "s", "a", "new");
    rig.check_replay();
}

#[test]
fn retention_by_age_is_exact_to_the_millisecond_and_survives_a_restart() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 2);
    rig.alter(a, "s", |it| it.retention_ms = 10_000);
    for at in 0..20 {
        rig.write(a, "s", &at.to_string(), "x");
        rig.now = rig.now.plus_ms(1000);
    }
    // The 11th came exactly ten seconds ago.
    let info = rig.info(a, "s", StreamTo::Inspect);
    assert_eq!(info.first_offset, 11);
    rig.now = rig.now.plus_ms(999);
    assert_eq!(rig.info(a, "s", StreamTo::Inspect).first_offset, 11);
    rig.now = rig.now.plus_ms(1);
    assert_eq!(rig.info(a, "s", StreamTo::Inspect).first_offset, 12);
    let mut seen = 0;
    for shard in 0..2 {
        let found = rig.read_shard(a, "s", shard, StreamStart::First, 100);
        assert!(found.records.iter().all(|it| it.offset >= 12));
        seen += found.records.len();
    }
    assert_eq!(seen, 8);
    rig.tick(0);
    assert_eq!(rig.refs.len(), 8, "what is too old is let go");
    rig.check_replay();
    rig.restart();
    rig.tick(8000);
    rig.tick(1000);
    assert!(rig.refs.is_empty());
    rig.check_replay();
}

#[test]
fn retention_by_bytes_keeps_the_newest() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    rig.alter(a, "s", |it| it.bytes_max = Some(30));
    for at in 0..10 {
        rig.write(a, "s", "k", &format!("{at:09}"));
    }
    let found = rig.read_shard(a, "s", 0, StreamStart::First, 100);
    assert_eq!(shown(&found).first().map(|it| it.0), Some(7));
    rig.write(a, "s", "k", &"long".repeat(100));
    assert_eq!(rig.info(a, "s", StreamTo::Inspect).first_offset, 10);
    rig.alter(a, "s", |it| it.bytes_max = Some(5));
    rig.tick(1);
    assert_eq!(rig.info(a, "s", StreamTo::Inspect).first_offset, 10);
    rig.check_replay();
}

#[test]
fn a_long_stream_goes_in_slices_also_after_a_restart() {
    let mut rig = Rig::with(Config {
        empty_slice: 10,
        ..Config::default()
    });
    let a = rig.attach(1);
    let first = rig.make(a, "s", 2);
    for at in 0..95 {
        rig.write(a, "s", &at.to_string(), "x");
    }
    rig.info(a, "s", StreamTo::Delete);
    assert!(rig.records_of_last <= 1);
    assert_eq!(rig.refs.len(), 95, "nothing has gone yet");
    let again = rig.make(a, "s", 1);
    assert_ne!(first.id, again.id);
    rig.check_replay();
    rig.restart();
    let a = rig.attach(1);
    rig.tick(1);
    assert!(rig.refs.is_empty());
    rig.check_replay();
    assert_eq!(rig.info(a, "s", StreamTo::Inspect).next_offset, 0);
}

#[test]
fn limits_of_a_shard_hold_for_writes_and_limited_reads_only() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 2);
    rig.alter(a, "s", |it| {
        it.record_len_max = Some(100);
        it.limits = Some(ShardLimits {
            write_records: 3,
            write_bytes: 0,
            reads: 5,
            read_bytes: 0,
        });
    });
    for _ in 0..3 {
        rig.write(a, "s", "a", "x");
    }
    let PublishOutcome::Refused(refusal) = rig.publish(a, to_stream("s", "a", "x")) else {
        panic!("not refused");
    };
    assert_eq!(refusal.kind, RefusalKind::RateExceeded);
    assert_eq!(refusal.known.as_deref(), Some(&b"0"[..]), "the shard");
    rig.write(a, "s", "b", "the other shard");
    rig.tick(334);
    assert_eq!(
        rig.write(a, "s", "a", "x").offset,
        4,
        "the refused one has no offset"
    );
    let large = to_stream("s", "a", &"x".repeat(100));
    let PublishOutcome::Refused(refusal) = rig.publish(a, large) else {
        panic!("not refused");
    };
    assert_eq!(refusal.kind, RefusalKind::TooLarge);
    let limited = |limited| ReadStream {
        limited,
        ..read("s", 0, StreamStart::First, 1)
    };
    for _ in 0..5 {
        let token = rig.begin_read(a, limited(true));
        assert!(matches!(rig.found(a, token), Some(Event::Records { .. })));
    }
    let token = rig.begin_read(a, limited(true));
    let event = rig.found(a, token).expect("an answer");
    assert_eq!(refused(&event), RefusalKind::RateExceeded);
    let token = rig.begin_read(a, limited(false));
    assert!(matches!(rig.found(a, token), Some(Event::Records { .. })));
    rig.alter(a, "s", |it| it.limits = None);
    for _ in 0..10 {
        rig.write(a, "s", "a", "x");
    }
    rig.check_replay();
}

#[test]
fn streams_are_listed_in_the_order_of_their_names() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for name in ["b", "a", "c1", "c2"] {
        rig.make(a, name, 1);
    }
    let mut list = |prefix: &'static str, after: Option<&'static str>, limit| {
        let token = rig.token();
        let list = List {
            of: Listed::Streams,
            prefix: prefix.into(),
            after: after.map(Into::into),
            limit,
            ..List::default()
        };
        rig.command(
            a,
            Command::List {
                token,
                lane: Lane(0),
                list: Box::new(list),
            },
        );
        match rig.found(a, token) {
            Some(Event::Listed { names, more, .. }) => (names, more),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list("", None, 2), (vec!["a".into(), "b".into()], true));
    assert_eq!(
        list("", Some("b"), 2),
        (vec!["c1".into(), "c2".into()], false)
    );
    assert_eq!(list("c", Some("c1"), 2), (vec!["c2".into()], false));
}

#[test]
fn a_transaction_gives_its_records_their_places_at_once() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 2);
    let token = rig.token();
    let publish = |key: &str| {
        Operation::Publish(Publish {
            token: None,
            lane: Lane(0),
            message: to_stream("s", key, key).into(),
            mandatory: false,
            create: false,
            inbound_id: None,
            or_stream: false,
            hash_key: None,
            folds: false,
        })
    };
    let transact = Transact {
        token,
        lane: Lane(0),
        operations: vec![publish("a"), publish("b"), publish("a")],
    };
    rig.command(a, Command::Transact(Box::new(transact)));
    assert!(matches!(rig.found(a, token), Some(Event::Committed { .. })));
    let found = rig.read_shard(a, "s", 0, StreamStart::First, 10);
    assert_eq!(shown(&found), [(0, "a".into()), (2, "a".into())]);
    rig.check_replay();
}

#[test]
fn long_bodies_lie_in_parts_and_go_with_their_record() {
    let mut rig = Rig::new();
    rig.parts_over = 10;
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let body = "0123456789".repeat(5);
    rig.write(a, "s", "k", &body);
    rig.restart();
    let a = rig.attach(1);
    let found = rig.read_shard(a, "s", 0, StreamStart::First, 1);
    assert_eq!(shown(&found), [(0, body)]);
    rig.check_replay();
    rig.tick(2 * DAY);
    assert!(rig.refs.is_empty());
    assert_eq!(rig.broker.last_time(), rig.now.max(Timestamp(0)));
    rig.check_replay();
}
