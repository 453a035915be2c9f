//! Streams that grow: their shards split as more is written to them.

use session::*;

use crate::{
    rig::Rig,
    streams::{attributes, to_stream},
};

const MINUTE: u64 = 60_000;
/// Small numbers, so that a minute of load is a few hundred records: a shard is made for two a second.
const GROWTH: Growth = Growth {
    write_records: 2,
    write_bytes: 2_000,
    shards_max: 100,
};

fn make_growing(rig: &mut Rig, from: SessionId, name: &str, growth: Growth) -> StreamInfo {
    let to = StreamTo::Create {
        attributes: StreamAttributes {
            growth: Some(growth),
            ..attributes()
        },
        shards: 4,
        notes: Vec::new(),
    };
    rig.info(from, name, to)
}

/// A record to each of these hashes a second, for a minute.
fn minute(rig: &mut Rig, from: SessionId, name: &str, hashes: &[u128], body: &str) {
    for _ in 0..60 {
        for hash in hashes {
            let token = rig.token();
            rig.command(
                from,
                Command::Publish(Publish {
                    token: Some(token),
                    lane: Lane(0),
                    message: to_stream(name, "k", body).into(),
                    mandatory: false,
                    create: false,
                    inbound_id: None,
                    or_stream: false,
                    hash_key: Some(*hash),
                    folds: false,
                }),
            );
        }
        rig.tick(MINUTE / 60);
    }
}

fn open_shards(rig: &mut Rig, from: SessionId, name: &str) -> Vec<ShardInfo> {
    let info = rig.info(from, name, StreamTo::Inspect);
    let mut open: Vec<_> = info
        .shards
        .into_iter()
        .filter(|shard| shard.closed.is_none())
        .collect();
    open.sort_by_key(|shard| shard.first_hash);
    // Whatever was split: they own every hash, once.
    assert_eq!(open[0].first_hash, 0);
    for pair in open.windows(2) {
        assert_eq!(pair[0].last_hash + 1, pair[1].first_hash);
    }
    assert_eq!(open[open.len() - 1].last_hash, u128::MAX);
    open
}

/// So many hashes at equal distances.
fn spread(count: u128) -> Vec<u128> {
    let size = u128::MAX / count;
    (0..count).map(|at| size * at + size / 2).collect()
}

#[test]
fn a_stream_doubles_each_minute_until_it_takes_twice_of_what_comes() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    make_growing(&mut rig, a, "s", GROWTH);
    // 32 records a second are more than half of what 4, 8 and 16 shards are made for, and half of what 32 are.
    let load = spread(32);
    let mut counts = Vec::new();
    for _ in 0..6 {
        minute(&mut rig, a, "s", &load, "x");
        counts.push(open_shards(&mut rig, a, "s").len());
    }
    assert_eq!(counts, [8, 16, 32, 32, 32, 32]);
    // A little is written: it stays as large as it is.
    for _ in 0..3 {
        minute(&mut rig, a, "s", &load[..1], "x");
    }
    assert_eq!(open_shards(&mut rig, a, "s").len(), 32);
    rig.check_replay();
    rig.restart();
    let a = rig.attach(2);
    assert_eq!(open_shards(&mut rig, a, "s").len(), 32);
    // And it goes on to grow.
    rig.tick(2 * MINUTE);
    minute(&mut rig, a, "s", &spread(64), "x");
    assert_eq!(open_shards(&mut rig, a, "s").len(), 64);
}

#[test]
fn only_the_shard_that_is_hot_is_split_in_the_middle_of_its_hashes() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    let made = make_growing(&mut rig, a, "s", GROWTH);
    let hot = made.shards[1].clone();
    let middle = hot.first_hash + (hot.last_hash - hot.first_hash) / 2;
    minute(&mut rig, a, "s", &[1, hot.first_hash, middle + 1], "x");
    let open = open_shards(&mut rig, a, "s");
    let shown: Vec<_> = open.iter().map(|it| it.shard.0).collect();
    assert_eq!(shown, [0, 4, 5, 2, 3]);
    assert_eq!(
        (open[1].first_hash, open[1].last_hash),
        (hot.first_hash, middle)
    );
    assert_eq!(
        (open[2].first_hash, open[2].last_hash),
        (middle + 1, hot.last_hash)
    );
    assert_eq!(open[1].parents[..], [ShardNo(1)]);
    // What lies in the parent is read to its end, as after a split by command.
    let found = rig.read_shard(a, "s", 1, StreamStart::First, 1000);
    assert!(found.ended && found.records.len() == 120, "{found:?}");
}

#[test]
fn bytes_split_a_shard_as_records_do() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    make_growing(&mut rig, a, "s", GROWTH);
    minute(&mut rig, a, "s", &[1], &"x".repeat(990));
    assert_eq!(open_shards(&mut rig, a, "s").len(), 4);
    minute(&mut rig, a, "s", &[1], &"x".repeat(1_010));
    assert_eq!(open_shards(&mut rig, a, "s").len(), 5);
}

#[test]
fn a_burst_of_seconds_splits_nothing() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    make_growing(&mut rig, a, "s", GROWTH);
    for _ in 0..3 {
        // Sixty at once in a minute are one a second, half of what the shard is made for.
        for at in 0..60 {
            rig.write(a, "s", "k", &at.to_string());
        }
        rig.tick(MINUTE);
    }
    assert_eq!(open_shards(&mut rig, a, "s").len(), 4);
}

#[test]
fn one_hot_key_is_not_split_for_ever() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    make_growing(&mut rig, a, "s", GROWTH);
    let mut counts = Vec::new();
    for _ in 0..8 {
        minute(&mut rig, a, "s", &[7, 7, 7, 7], "x");
        counts.push(open_shards(&mut rig, a, "s").len());
    }
    assert_eq!(counts, [5, 6, 7, 8, 8, 8, 8, 8]);
    // When there is something to move away, it goes on.
    let shard = open_shards(&mut rig, a, "s")[0].clone();
    minute(
        &mut rig,
        a,
        "s",
        &[7, 7, shard.last_hash, shard.last_hash],
        "x",
    );
    assert_eq!(open_shards(&mut rig, a, "s").len(), 8);
    minute(
        &mut rig,
        a,
        "s",
        &[7, 7, shard.last_hash + 1, shard.last_hash + 1],
        "x",
    );
    assert_eq!(open_shards(&mut rig, a, "s").len(), 10);
}

#[test]
fn the_streams_of_a_virtual_host_share_the_limit_and_the_hottest_shard_is_first() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "other", 3);
    let growth = Growth {
        shards_max: 8,
        ..GROWTH
    };
    let made = make_growing(&mut rig, a, "s", growth);
    let of = |at: usize| made.shards[at].first_hash;
    minute(&mut rig, a, "s", &[of(0), of(0), of(2), of(2), of(2)], "x");
    let shown: Vec<_> = open_shards(&mut rig, a, "s")
        .iter()
        .map(|it| it.shard.0)
        .collect();
    assert_eq!(shown, [0, 1, 4, 5, 3]);
    minute(&mut rig, a, "s", &spread(32), "x");
    assert_eq!(open_shards(&mut rig, a, "s").len(), 5);
    // A stream that is deleted leaves its room to the others.
    rig.stream(a, "other", StreamTo::Delete);
    minute(&mut rig, a, "s", &spread(32), "x");
    assert_eq!(open_shards(&mut rig, a, "s").len(), 8);
}

#[test]
fn a_stream_that_grows_no_more_keeps_its_shards_and_one_that_begins_to_starts_from_them() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    make_growing(&mut rig, a, "s", GROWTH);
    minute(&mut rig, a, "s", &spread(16), "x");
    assert_eq!(open_shards(&mut rig, a, "s").len(), 8);
    rig.alter(a, "s", |it| it.growth = None);
    minute(&mut rig, a, "s", &spread(64), "x");
    minute(&mut rig, a, "s", &spread(64), "x");
    assert_eq!(open_shards(&mut rig, a, "s").len(), 8);
    // What was written before counts for nothing.
    rig.alter(a, "s", |it| it.growth = Some(GROWTH));
    rig.tick(2 * MINUTE);
    assert_eq!(open_shards(&mut rig, a, "s").len(), 8);
    minute(&mut rig, a, "s", &spread(64), "x");
    assert_eq!(open_shards(&mut rig, a, "s").len(), 16);
    rig.check_replay();
}

#[test]
fn a_stream_of_which_shards_are_made_for_nothing_is_refused() {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    for growth in [
        Growth {
            write_records: 0,
            ..GROWTH
        },
        Growth {
            write_bytes: 0,
            ..GROWTH
        },
    ] {
        let to = StreamTo::Create {
            attributes: StreamAttributes {
                growth: Some(growth),
                ..attributes()
            },
            shards: 4,
            notes: Vec::new(),
        };
        let event = rig.stream(a, "s", to);
        let Event::Refused { refusal, .. } = &event else {
            panic!("{event:?}");
        };
        assert_eq!(refusal.kind, RefusalKind::InvalidArgument);
    }
}
