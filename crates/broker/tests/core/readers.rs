//! Consumers of streams, and consumer groups.

use std::sync::Arc;

use message::Timestamp;
use session::*;

use crate::{
    rig::{Rig, body, ids},
    streams::{attributes, to_stream},
};

const DAY: u64 = 24 * 3_600_000;

impl Rig {
    fn reader(
        &mut self,
        from: SessionId,
        consumer: u64,
        start: StreamStart,
        credit: Credit,
        group: Option<&'static str>,
    ) -> Event {
        let mut subscribe = self.consumer(consumer, "", credit);
        subscribe.source = Source::Stream {
            name: "s".into(),
            from: start,
            group: group.map(Into::into),
        };
        self.subscribe(from, subscribe)
    }

    fn member(&mut self, from: SessionId, credit: u32) {
        let credit = Credit::Window(credit);
        let event = self.reader(from, 1, StreamStart::First, credit, Some("g"));
        assert!(matches!(event, Event::Subscribed { .. }), "{event:?}");
    }

    fn group(&mut self, from: SessionId, group: &'static str, to: GroupTo) -> Event {
        let token = self.token();
        self.command(
            from,
            Command::Group {
                token,
                lane: Lane(0),
                stream: "s".into(),
                group: group.into(),
                to: Box::new(to),
            },
        );
        self.found(from, token).expect("an answer")
    }

    fn group_info(&mut self, from: SessionId) -> GroupInfo {
        match self.group(from, "g", GroupTo::Inspect) {
            Event::Group { group, .. } => *group,
            other => panic!("{other:?}"),
        }
    }

    fn offsets(&mut self, of: SessionId) -> Vec<u64> {
        self.deliveries(of)
            .iter()
            .map(|it| it.record.expect("a record").offset)
            .collect()
    }
}

fn refused(event: &Event) -> RefusalKind {
    match event {
        Event::Refused { refusal, .. } => refusal.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_consumer_has_a_place_of_its_own_and_gets_all_shards_in_the_order_of_offsets() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 4);
    for at in 0..10 {
        rig.write(a, "s", &at.to_string(), &at.to_string());
    }
    let b = rig.attach(2);
    rig.reader(b, 1, StreamStart::First, Credit::Window(0), None);
    rig.reader(b, 2, StreamStart::Offset(7), Credit::Settled, None);
    rig.reader(b, 3, StreamStart::Next, Credit::Window(0), None);
    rig.reader(b, 4, StreamStart::Last, Credit::Window(0), None);
    rig.write(a, "s", "k", "10");
    let deliveries = rig.deliveries(b);
    let of = |consumer| -> Vec<u64> {
        deliveries
            .iter()
            .filter(|it| it.consumer == ConsumerId(consumer))
            .map(|it| it.record.expect("a record").offset)
            .collect()
    };
    assert_eq!(of(1), (0..=10).collect::<Vec<_>>());
    assert_eq!(of(2), [7, 8, 9, 10]);
    assert_eq!(of(3), [10]);
    assert_eq!(of(4), [9, 10]);
    for delivery in &deliveries {
        let place = delivery.record.expect("a record");
        assert_eq!(body(delivery), place.offset.to_string());
        let settled = delivery.consumer == ConsumerId(2);
        assert_eq!(delivery.id.is_none(), settled);
        assert!(delivery.id.is_none_or(|id| id.qseq == place.offset));
        assert_eq!((delivery.count, delivery.redelivered), (1, false));
    }
    assert_eq!(rig.info(a, "s", StreamTo::Inspect).consumers, 4);
    rig.detach(b);
    assert_eq!(rig.info(a, "s", StreamTo::Inspect).consumers, 0);
    rig.check_replay();
}

#[test]
fn settling_returns_credit_and_what_is_released_comes_again() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    for at in 0..6 {
        rig.write(a, "s", "k", &at.to_string());
    }
    rig.reader(a, 1, StreamStart::First, Credit::Window(2), None);
    let first = rig.deliveries(a);
    assert_eq!(ids(&first).len(), 2);
    rig.settle(a, &ids(&first)[1..], Outcome::Accept);
    assert_eq!(rig.offsets(a), [2]);
    rig.settle(a, &ids(&first)[..1], Outcome::Release);
    let again = rig.deliveries(a);
    assert_eq!(again[0].record.map(|it| it.offset), Some(0));
    assert_eq!((again[0].count, again[0].redelivered), (2, true));
    rig.settle(a, &ids(&again), Outcome::Reject);
    assert_eq!(rig.offsets(a), [3]);
    let token = rig.token();
    rig.command(
        a,
        Command::Cancel {
            token,
            lane: Lane(0),
            consumer: ConsumerId(1),
        },
    );
    assert_eq!(
        rig.info(a, "s", StreamTo::Inspect).consumers,
        1,
        "2 and 3 are out"
    );
    for offset in [2, 3] {
        let queue = ids(&first)[0].queue;
        rig.settle(
            a,
            &[DeliveryId {
                queue,
                qseq: offset,
            }],
            Outcome::Accept,
        );
    }
    assert_eq!(rig.info(a, "s", StreamTo::Inspect).consumers, 0);
    rig.check_replay();
}

#[test]
fn consumers_are_cancelled_with_the_stream_and_refused_where_there_is_none() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let event = rig.reader(a, 1, StreamStart::First, Credit::Window(0), None);
    assert_eq!(refused(&event), RefusalKind::NotFound);
    rig.make(a, "s", 1);
    let mut alone = rig.consumer(1, "", Credit::Window(0));
    alone.source = Source::Stream {
        name: "s".into(),
        from: StreamStart::First,
        group: None,
    };
    alone.exclusive = true;
    let event = rig.subscribe(a, alone);
    assert_eq!(refused(&event), RefusalKind::InvalidArgument);
    rig.write(a, "s", "k", "x");
    rig.reader(a, 1, StreamStart::First, Credit::Window(0), None);
    let twice = rig.reader(a, 1, StreamStart::First, Credit::Window(0), None);
    assert_eq!(refused(&twice), RefusalKind::InvalidArgument);
    let out = rig.deliveries(a);
    rig.info(a, "s", StreamTo::Delete);
    let cancelled = rig.told[&a].iter().any(
        |told| matches!(told.event, Event::Cancelled { consumer, .. } if consumer == ConsumerId(1)),
    );
    assert!(cancelled);
    rig.settle(a, &ids(&out), Outcome::Accept);
    rig.make(a, "s", 1);
    rig.write(a, "s", "k", "y");
    assert!(rig.deliveries(a).is_empty());
    rig.check_replay();
}

#[test]
fn a_consumer_that_is_slower_than_retention_goes_on_at_what_is_kept() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    rig.reader(a, 1, StreamStart::First, Credit::Window(1), None);
    for at in 0..4 {
        rig.write(a, "s", "k", &at.to_string());
        rig.tick(DAY / 2);
    }
    let out = rig.deliveries(a);
    assert_eq!(out.len(), 1);
    rig.settle(a, &ids(&out), Outcome::Release);
    // 0 is too old to come again, and so are 1 and 2.
    assert_eq!(rig.offsets(a), [3]);
    rig.check_replay();
}

#[test]
fn a_client_session_reads_a_stream_as_it_reads_a_topic() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 2);
    rig.write(a, "s", "k", "before");
    let b = rig.attach(2);
    rig.open(b, "sensor", true, ClientExpiry::Never);
    let mut subscribe = rig.consumer(1, "", Credit::Window(0));
    subscribe.source = Source::Stream {
        name: "s".into(),
        from: StreamStart::First,
        group: None,
    };
    subscribe.through_client = true;
    subscribe.options.qos = 1;
    subscribe.options.identifier = 7;
    let source = subscribe.source.clone();
    let event = rig.subscribe(b, subscribe);
    assert!(matches!(event, Event::Subscribed { .. }), "{event:?}");
    let one = |body: &str| {
        let mut message = to_stream("s", "k", body);
        message.qos = 1;
        message
    };
    rig.publish(a, one("live"));
    let deliveries = rig.deliveries(b);
    assert_eq!(deliveries.len(), 1);
    assert_eq!(body(&deliveries[0]), "live");
    assert_eq!(
        (deliveries[0].qos, &deliveries[0].subscriptions[..]),
        (1, &[7][..])
    );
    rig.settle(b, &ids(&deliveries), Outcome::Accept);
    // A key that is not in the address is shown there.
    let mut keyed = one("keyed");
    Arc::make_mut(&mut keyed.address).key = message::Levels::none();
    keyed.group = Some("user-1".into());
    rig.publish(a, keyed);
    let deliveries = rig.deliveries(b);
    let shown = deliveries[0].readdressed.as_ref().expect("its key");
    assert_eq!(shown.key.level(0), Some(&b"user-1"[..]));
    rig.settle(b, &ids(&deliveries), Outcome::Accept);
    rig.detach(b);
    rig.publish(a, one("while away"));
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    assert!(rig.open(b, "sensor", false, ClientExpiry::Never));
    assert_eq!(rig.bodies(b), ["while away"]);
    let a = rig.attach(1);
    let token = rig.token();
    rig.command(b, Command::Unsubscribe { token, source });
    assert!(matches!(
        rig.found(b, token),
        Some(Event::Unsubscribed { existed: true, .. })
    ));
    rig.publish(a, one("after"));
    assert!(rig.deliveries(b).is_empty());
    rig.check_replay();
}

#[test]
fn a_group_leases_shards_and_remembers_how_far_each_was_worked_on() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 2);
    rig.write(a, "s", "a", "x");
    assert_eq!(
        refused(&rig.group(a, "g", GroupTo::Inspect)),
        RefusalKind::NotFound
    );
    rig.group(
        a,
        "g",
        GroupTo::Create {
            start: StreamStart::First,
        },
    );
    let lease = |owner: &'static str, ms| GroupTo::Lease {
        shard: ShardNo(0),
        owner: owner.into(),
        ms,
    };
    let checkpoint = |owner: &'static str, next| GroupTo::Checkpoint {
        shard: ShardNo(0),
        owner: owner.into(),
        next,
    };
    assert_eq!(
        refused(&rig.group(a, "g", checkpoint("one", 1))),
        RefusalKind::NotOut
    );
    assert_eq!(
        refused(&rig.group(a, "g", lease("one", 999))),
        RefusalKind::InvalidArgument
    );
    rig.group(a, "g", lease("one", 10_000));
    assert_eq!(
        refused(&rig.group(a, "g", lease("two", 10_000))),
        RefusalKind::InUse
    );
    rig.group(a, "g", checkpoint("one", 1));
    let shard = rig.group_info(a).shards[0].clone();
    let until = rig.now.plus_ms(10_000);
    assert_eq!(shard.lease, Some(("one".into(), until)));
    assert_eq!(
        (shard.next, shard.counter, shard.ready, shard.done),
        (1, 1, true, false)
    );
    rig.group(a, "g", lease("one", 20_000));
    assert_eq!(rig.group_info(a).shards[0].counter, 1, "renewed");
    rig.check_replay();
    rig.restart();
    let a = rig.attach(1);
    assert_eq!(
        refused(&rig.group(a, "g", lease("two", 10_000))),
        RefusalKind::InUse,
        "leases survive a restart"
    );
    rig.tick(20_000);
    rig.group(a, "g", lease("two", 10_000));
    assert_eq!(
        refused(&rig.group(a, "g", checkpoint("one", 1))),
        RefusalKind::NotOut
    );
    let shard = rig.group_info(a).shards[0].clone();
    assert_eq!((shard.next, shard.counter), (1, 2));
    let give = GroupTo::Yield {
        shard: ShardNo(0),
        owner: "two".into(),
    };
    rig.group(a, "g", give.clone());
    assert_eq!(rig.group_info(a).shards[0].lease, None);
    assert_eq!(refused(&rig.group(a, "g", give)), RefusalKind::NotOut);
    rig.check_replay();
    rig.group(a, "g", GroupTo::Delete);
    assert_eq!(
        refused(&rig.group(a, "g", GroupTo::Inspect)),
        RefusalKind::NotFound
    );
    rig.check_replay();
}

#[test]
fn members_share_the_shards_and_go_on_where_they_have_settled() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 2);
    let (b, c) = (rig.attach(2), rig.attach(3));
    rig.member(b, 100);
    for at in 0..10 {
        rig.write(a, "s", if at % 2 == 0 { "a" } else { "b" }, &at.to_string());
    }
    let mine = rig.deliveries(b);
    assert_eq!(mine.len(), 10);
    // Shard 0 has the even ones. All but 4 of it is settled.
    let settle: Vec<_> = ids(&mine).into_iter().filter(|id| id.qseq != 4).collect();
    rig.settle(b, &settle, Outcome::Accept);
    let info = rig.group_info(a);
    assert_eq!((info.shards[0].next, info.shards[1].next), (4, 10));
    let owner = info.shards[0].lease.clone().expect("a lease");
    assert_eq!(owner.1, Timestamp(u64::MAX));
    let blocked = GroupTo::Lease {
        shard: ShardNo(1),
        owner: "me".into(),
        ms: 5000,
    };
    assert_eq!(refused(&rig.group(a, "g", blocked)), RefusalKind::InUse);
    rig.member(c, 100);
    let info = rig.group_info(a);
    assert_ne!(info.shards[0].lease, info.shards[1].lease, "one each");
    rig.write(a, "s", "a", "10");
    rig.write(a, "s", "b", "11");
    assert_eq!((rig.offsets(b), rig.offsets(c)), (vec![10], vec![11]));
    rig.check_replay();
    // What b had not settled comes again, to whoever goes on.
    rig.detach(b);
    assert_eq!(rig.offsets(c), [4, 6, 8, 10]);
    rig.restart();
    let c = rig.attach(3);
    rig.member(c, 100);
    assert_eq!(rig.offsets(c), [4, 6, 8, 10, 11]);
}

#[test]
fn a_shard_changes_hands_only_when_everything_of_it_is_settled() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 2);
    let (b, c) = (rig.attach(2), rig.attach(3));
    rig.member(b, 100);
    rig.write(a, "s", "a", "0");
    rig.write(a, "s", "b", "1");
    let out = rig.deliveries(b);
    rig.member(c, 100);
    rig.write(a, "s", "a", "2");
    rig.write(a, "s", "b", "3");
    assert_eq!(
        rig.offsets(b),
        [2],
        "it gets no more of the shard that it gives up"
    );
    assert!(rig.deliveries(c).is_empty());
    rig.settle(b, &ids(&out), Outcome::Accept);
    assert_eq!(rig.offsets(c), [3]);
    rig.check_replay();
}

#[test]
fn parents_are_worked_on_before_their_children_also_by_members() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let b = rig.attach(2);
    rig.member(b, 2);
    for at in 0..4 {
        rig.write(a, "s", "a", &at.to_string());
    }
    rig.info(
        a,
        "s",
        StreamTo::Split {
            shard: ShardNo(0),
            at: 1 << 127,
        },
    );
    rig.write(a, "s", "a", "4");
    rig.write(a, "s", "b", "5");
    let info = rig.group_info(a);
    assert!(info.shards[0].ready && !info.shards[1].ready && !info.shards[0].done);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let out = rig.deliveries(b);
        seen.push(
            out.iter()
                .map(|it| it.record.expect("a record").offset)
                .collect::<Vec<_>>(),
        );
        rig.settle(b, &ids(&out), Outcome::Accept);
    }
    assert_eq!(seen, [vec![0, 1], vec![2, 3], vec![4, 5], vec![]]);
    let info = rig.group_info(a);
    assert!(info.shards[0].done && info.shards[1].ready);
    assert_eq!(info.shards[0].next, 4);
    rig.check_replay();
    rig.group(a, "g", GroupTo::Delete);
    assert!(matches!(rig.last_event(b), Event::Cancelled { .. }));
    rig.check_replay();
}

#[test]
fn a_member_that_takes_records_settled_moves_the_checkpoint_as_they_leave() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let b = rig.attach(2);
    rig.reader(b, 1, StreamStart::First, Credit::Settled, Some("g"));
    rig.write(a, "s", "a", "0");
    rig.write(a, "s", "a", "1");
    assert_eq!(rig.offsets(b), [0, 1]);
    rig.detach(b);
    rig.write(a, "s", "a", "2");
    rig.check_replay();
    rig.restart();
    let b = rig.attach(2);
    rig.reader(b, 1, StreamStart::First, Credit::Settled, Some("g"));
    assert_eq!(rig.offsets(b), [2]);
}

#[test]
fn a_member_waits_for_the_lease_of_another_to_lapse() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    rig.group(
        a,
        "g",
        GroupTo::Create {
            start: StreamStart::Next,
        },
    );
    rig.group(
        a,
        "g",
        GroupTo::Lease {
            shard: ShardNo(0),
            owner: "me".into(),
            ms: 10_000,
        },
    );
    let b = rig.attach(2);
    rig.member(b, 10);
    rig.write(a, "s", "a", "0");
    rig.tick(9_999);
    assert!(rig.deliveries(b).is_empty());
    rig.tick(1);
    assert_eq!(rig.offsets(b), [0]);
    rig.check_replay();
}

#[test]
fn groups_are_listed_and_go_with_their_stream() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    for group in ["b", "a", "c"] {
        rig.group(
            a,
            group,
            GroupTo::Create {
                start: StreamStart::Next,
            },
        );
    }
    let bad = GroupTo::Create {
        start: StreamStart::Offset(1),
    };
    assert_eq!(
        refused(&rig.group(a, "d", bad)),
        RefusalKind::InvalidArgument
    );
    let mut list = |limit| {
        let token = rig.token();
        let list = List {
            of: Listed::Groups("s".into()),
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
        rig.found(a, token)
    };
    assert!(
        matches!(list(2), Some(Event::Listed { names, more: true, .. }) if names == ["a", "b"])
    );
    assert!(matches!(list(3), Some(Event::Listed { names, more: false, .. }) if names.len() == 3));
    rig.check_replay();
    rig.info(a, "s", StreamTo::Delete);
    let to = StreamTo::Create {
        attributes: attributes(),
        shards: 1,
        notes: Vec::new(),
    };
    rig.info(a, "s", to);
    assert_eq!(
        refused(&rig.group(a, "a", GroupTo::Inspect)),
        RefusalKind::NotFound
    );
}

#[test]
fn a_thousand_shards_are_shared_evenly_and_none_is_anybodys_twice() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1000);
    let members: Vec<SessionId> = (2..5).map(|at| rig.attach(at)).collect();
    let shares = |rig: &mut Rig| -> Vec<usize> {
        let mut owned = std::collections::BTreeMap::new();
        for shard in rig.group_info(a).shards {
            let (owner, _) = shard.lease.expect("somebody's");
            *owned.entry(owner).or_insert(0) += 1;
        }
        owned.into_values().collect()
    };
    rig.member(members[0], 10);
    assert_eq!(shares(&mut rig), [1000]);
    rig.member(members[1], 10);
    assert_eq!(shares(&mut rig), [500, 500]);
    rig.member(members[2], 10);
    let of_three = shares(&mut rig);
    assert!(
        of_three.iter().all(|it| (333..=334).contains(it)),
        "{of_three:?}"
    );
    rig.detach(members[0]);
    assert_eq!(shares(&mut rig), [500, 500]);
}
