//! Reading back what is in memory no more: in order it costs each byte one read, and what is in memory is not read again.

use std::collections::BTreeSet;
use std::convert::Infallible;

use journal::vfs::{MemVfs, Vfs};
use journal::{Config, ReadError};
use message::StoredId;

use crate::history::{Model, Running, config, dir, live_ids, payload, start_with};

/// Large segments of batches of `records` records of `len` bytes, and how many bytes of them stay in memory.
fn filled(
    batches: u64,
    (records, len): (u64, usize),
    config: Config,
) -> (MemVfs, Vec<StoredId>, Running) {
    let vfs = MemVfs::new(false);
    let mut running = start_with(&vfs, 1, config).expect("opens");
    let mut ids = Vec::new();
    for n in 0..batches {
        for k in 0..records {
            ids.push(running.put(&mut Model::default(), payload(n * records + k, len)));
        }
        running.step_all();
    }
    (vfs, ids, running)
}

fn large(cache_bytes_max: usize) -> Config {
    Config {
        segment_len: 4 << 20,
        first_segment_len: 4 << 20,
        batch_len_max: 64 << 10,
        cache_bytes_max,
        ..config()
    }
}

/// Reads everything in order. Returns how often that was not in memory, and how many bytes were read.
fn read_in_order(
    (vfs, ids, running): &(MemVfs, Vec<StoredId>, Running),
    len: usize,
) -> (usize, u64) {
    let before = vfs.bytes_read();
    let mut misses = 0;
    for (n, id) in ids.iter().enumerate() {
        let (_, found) = running.journal.cached(*id).unwrap_or_else(|| {
            misses += 1;
            running.journal.read(*id).expect("committed")
        });
        assert_eq!(found, payload(n as u64, len));
    }
    (misses, vfs.bytes_read() - before)
}

#[test]
fn reading_in_order_reads_each_byte_once_and_a_mebibyte_at_a_time() {
    let filled = filled(300, (5, 4000), large(0));
    let written = filled.2.journal.stats().written_bytes;
    let (misses, bytes) = read_in_order(&filled, 4000);
    assert!(written > 5 << 20, "{written} bytes are some stretches");
    assert!(
        misses as u64 <= written / (1 << 20) + 5,
        "{misses} times nothing was at hand"
    );
    assert!(
        bytes <= written + 8192,
        "{bytes} were read of {written} bytes"
    );
    assert_eq!(filled.2.journal.stats().reads, misses as u64);
}

#[test]
fn long_records_lie_across_what_is_read_at_once() {
    let filled = filled(40, (1, 300 << 10), large(0));
    let (_, bytes) = read_in_order(&filled, 300 << 10);
    let written = filled.2.journal.stats().written_bytes;
    assert!(bytes <= written * 5 / 4, "{bytes} of {written}");
    let (_, long) = filled.2.journal.read(filled.1[39]).expect("committed");
    let (_, again) = filled.2.journal.read(filled.1[39]).expect("committed");
    assert_eq!(long, again);
}

#[test]
fn what_is_damaged_is_never_taken_from_what_was_read() {
    let (vfs, ids, running) = filled(3, (3, 4000), large(0));
    let names = vfs.list(&dir().join("seg")).expect("listed");
    let [name] = &names[..] else {
        panic!("one segment is written, and none is prepared: {names:?}")
    };
    // In the second batch, which begins behind the block of the header and three of the first.
    vfs.flip(
        &dir().join("seg").join(name),
        (1 + 3) * 4096 + 128 + 12 + 100,
    );
    running.journal.read(ids[0]).expect("it is whole");
    assert!(running.journal.cached(ids[2]).is_some());
    let damaged: Vec<_> = ids
        .iter()
        .filter(|id| running.journal.cached(**id).is_none())
        .collect();
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert!(matches!(
        running.journal.read(*damaged[0]),
        Err(ReadError::Corrupt(_))
    ));
}

#[test]
fn many_in_order_are_what_each_is_by_itself() {
    for cache_bytes_max in [0, 1 << 20, 8 << 20] {
        for len in [10, 4000, 70_000] {
            let count = (2 << 20) / len as u64 / 5 + 1;
            let filled = filled(count.min(300), (5, len), large(cache_bytes_max));
            let (_, ids, running) = &filled;
            let mut lent = running.journal.in_order();
            let mut kept = running.journal.in_order();
            let mut all = Vec::new();
            // Now and then one of long ago.
            let order = (0..ids.len()).flat_map(|at| match at % 100 {
                99 => vec![at, at / 2],
                _ => vec![at],
            });
            for at in order {
                let expected = payload(at as u64, len);
                let look = |kind, found: &[u8]| {
                    assert_eq!(found, expected, "{at}");
                    kind
                };
                let kind = lent.look(ids[at], look).expect("committed");
                let by_itself = running.journal.read(ids[at]).expect("committed");
                assert_eq!(by_itself, (kind, expected.clone()));
                let found = kept.cached(ids[at]);
                // What lies across two stretches is in neither.
                assert!(found.is_some() || running.journal.cached(ids[at]).is_none());
                let Some(found) = found else { continue };
                assert_eq!(found, by_itself);
                all.push((found, at));
            }
            // What is kept stays what it was.
            for ((_, found), at) in all {
                assert_eq!(found, payload(at as u64, len), "{at}");
            }
            let missing = StoredId(ids[ids.len() - 1].0 + (1 << 18));
            assert!(kept.cached(missing).is_none());
            let refused = lent.look(missing, |_, _| ());
            assert!(matches!(refused, Err(ReadError::NotCommitted(_))));
        }
    }
}

#[test]
fn in_order_nothing_is_had_from_the_disk_unasked_and_what_is_damaged_is_refused() {
    let (vfs, ids, running) = filled(3, (3, 4000), large(0));
    let mut in_order = running.journal.in_order();
    assert!(in_order.cached(ids[0]).is_none());
    let name = vfs.list(&dir().join("seg")).expect("listed").remove(0);
    vfs.flip(
        &dir().join("seg").join(name),
        (1 + 3) * 4096 + 128 + 12 + 100,
    );
    for (at, id) in ids.iter().enumerate() {
        match in_order.look(*id, |_, found| found == payload(at as u64, 4000)) {
            Ok(same) => assert!(same, "{at}"),
            Err(ReadError::Corrupt(_)) => assert_eq!(at, 3),
            Err(other) => panic!("{at}: {other}"),
        }
        assert_eq!(in_order.cached(*id).is_none(), at == 3);
    }
}

#[test]
fn rules_22_a_replay_does_not_read_what_is_in_memory() {
    let small = |cache_bytes_max| Config {
        cache_bytes_max,
        ..config()
    };
    let cost = |cache_bytes_max| {
        let (vfs, ids, running) = filled(60, (3, 1500), small(cache_bytes_max));
        let before = vfs.bytes_read();
        let replay = running.journal.replay().expect("a replay");
        assert_eq!(live_ids(replay), ids);
        vfs.bytes_read() - before
    };
    let (nothing, all) = (cost(1 << 20), cost(0));
    assert!(nothing < 4096, "{nothing} bytes");
    assert!(all > 60 * 4500, "{all} bytes");
    // From the disk into memory, in the midst of a segment.
    let half = cost(130 << 10);
    assert!(half > 4 * nothing && half < all, "{half} of {all} bytes");
}

#[test]
fn rules_22_a_replay_goes_on_from_the_disk_when_memory_lets_go_of_what_comes_next() {
    let config = Config {
        cache_bytes_max: 200 << 10,
        ..config()
    };
    let (_, ids, mut running) = filled(40, (3, 1500), config);
    let replay = running.journal.replay().expect("a replay");
    let mut seen = BTreeSet::new();
    replay
        .for_each(|id, _, _| {
            seen.insert(id);
            if seen.len() == 35 {
                // As much again goes through memory meanwhile.
                for n in 0..30 {
                    running.put(&mut Model::default(), payload(n, 6000));
                    running.step_all();
                }
            }
            Ok::<_, Infallible>(())
        })
        .expect("the history is whole");
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ids);
}

#[test]
fn a_snapshot_is_made_of_what_is_in_memory() {
    let default = Config::default();
    let cache = 2 << 20;
    // As much of the memory as there is by default.
    let every = cache * default.snapshot_every_bytes / default.cache_bytes_max as u64;
    for len in [100, 3000, 60_000] {
        let config = Config {
            snapshot_every_bytes: every,
            ..large(cache as usize)
        };
        let (vfs, _, mut running) = filled(4, (1, len), config);
        let mut number = 0;
        let mut write = |running: &mut Running| {
            number += 1;
            running.put(&mut Model::default(), payload(number, len));
            running.step_all();
        };
        for round in 0..4 {
            while !running.journal.snapshot_due() {
                write(&mut running);
            }
            let began = running.journal.stats().written_bytes;
            let replay = running.journal.replay().expect("readable");
            let before = vfs.bytes_read();
            // What reads is not alone.
            let mut fences = 0;
            let upto = replay.for_each(|_, _, _| {
                if running.journal.stats().written_bytes - began < every / 2 {
                    fences += 4096;
                    write(&mut running);
                }
                Ok::<_, Infallible>(())
            });
            upto.expect("readable");
            let read = vfs.bytes_read() - before - fences;
            assert_eq!(read, 0, "{len} {round}: of {every}");
            running.snapshot();
        }
    }
}
