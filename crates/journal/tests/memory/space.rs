//! Space: references, reclaiming, recycling, moving survivors, snapshots, a full disk (RULES 16, 20, 22, 23).

use journal::vfs::{Access, MemVfs, Vfs};
use journal::{ReadError, Space, Step};

use crate::history::{Model, Running, config, dir, live_ids, payload, start, start_with};

#[test]
fn rules_20_a_survivor_moves_and_keeps_its_id_for_ever() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    let old = running.put(&mut model, payload(0, 3000));
    for n in 1..200 {
        running.put(&mut model, payload(n, 3000));
        running.step_all();
        while running.live.len() > 3 {
            running.delete(&mut model, 1);
        }
        if n % 20 == 0 {
            running.snapshot();
            running.compact();
        }
    }
    running.step_all();
    running.snapshot();
    running.compact();
    running.check(&model);
    assert!(running.live.contains(&old));
    let stats = running.journal.stats();
    assert!(
        stats.segments <= 8,
        "one old message pins nothing: {stats:?}"
    );
    assert!(stats.recycled > 0, "{stats:?}");
    // What was moved, and moved again, is found after starts with and without a newer snapshot.
    for uuid in 2..6 {
        running.journal.shutdown();
        running = start(&vfs, uuid).expect("opens");
        running.check(&model);
        running.snapshot();
        running.compact();
        running.check(&model);
    }
    let nth = running.live.iter().position(|id| *id == old).expect("live");
    running.delete(&mut model, nth);
    running.step_all();
    running.check(&model);
}

#[test]
fn nothing_is_reclaimed_before_the_references_are_counted_again() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..40 {
        running.put(&mut model, payload(n, 3000));
        running.step_all();
    }
    running.snapshot();
    running.journal.shutdown();
    let (opened, _engine) =
        journal::open_stepped(std::sync::Arc::new(vfs), dir(), config(), 1, [5; 16])
            .expect("opens");
    opened.journal.reclaim();
    assert_eq!(opened.journal.sparse_segments(), []);
    let live = live_ids(opened.replay);
    assert_eq!(live.len(), 40);
    for id in live {
        assert!(opened.journal.read(id).is_ok());
    }
}

#[test]
fn a_segment_is_kept_until_a_snapshot_covers_it() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..40 {
        running.put(&mut model, payload(n, 3000));
        running.delete(&mut model, 0);
        running.step_all();
    }
    running.journal.reclaim();
    let before = running.journal.stats();
    assert_eq!(
        before.recycled + before.unlinked,
        0,
        "its records would be missing in a replay"
    );
    running.snapshot();
    // A replay that is being read keeps what it has yet to read.
    let replay = running.journal.replay().expect("readable");
    running.journal.reclaim();
    let after = running.journal.stats();
    assert!(after.recycled + after.unlinked > 0);
    assert_eq!(live_ids(replay), running.live);
}

#[test]
fn a_snapshot_is_due_after_half_its_length() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    let mut written_until_due = |running: &mut Running| {
        let began = running.journal.stats().written_bytes;
        while !running.journal.snapshot_due() {
            running.put(&mut model, payload(1, 3000));
            running.step_all();
        }
        running.journal.stats().written_bytes - began
    };
    let every = config().snapshot_every_bytes;
    let usual = written_until_due(&mut running);
    assert!((every..every * 2).contains(&usual), "{usual}");
    let long = vec![0; 1 << 20];
    let written = running
        .journal
        .write_snapshot(running.journal.committed(), |out| out.write_all(&long));
    written.expect("it is written");
    let more = written_until_due(&mut running);
    let half = long.len() as u64 / 2;
    assert!((half..half * 5 / 4).contains(&more), "{more}");
}

#[test]
fn rules_22_the_snapshot_maker_replays_what_is_committed() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for round in 0..5 {
        for n in 0..30 {
            running.put(&mut model, payload(round * 100 + n, 2000));
            if n % 3 == 0 {
                running.delete(&mut model, 0);
            }
        }
        running.step_all();
        running.put(&mut Model::default(), payload(7, 10));
        let staged = running.live.pop().expect("just put");
        let replay = running.journal.replay().expect("readable");
        let at = replay.last_batch();
        assert_eq!(at, running.journal.committed());
        let live = live_ids(replay);
        assert_eq!(live, running.live, "staged records are no part of it");
        running
            .journal
            .write_snapshot(at, |out| {
                live.iter()
                    .try_for_each(|id| out.write_all(&id.0.to_le_bytes()))
            })
            .expect("written");
        assert!(!running.journal.snapshot_due());
        running.step_all();
        let mut stage = running.journal.stage();
        let record = stage.push(crate::history::DEL, &staged.0.to_le_bytes(), None);
        drop(stage);
        running.journal.drop_ref(staged);
        running.step_all();
        assert!(journal::batch_of(record) <= running.journal.committed());
    }
    running.journal.shutdown();
    let mut names: Vec<_> = start(&vfs, 2).expect("opens").live;
    names.sort_unstable();
    assert_eq!(names, running.live);
}

#[test]
fn a_snapshot_of_what_is_not_committed_is_refused() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    running.put(&mut Model::default(), payload(1, 10));
    let written = running.journal.write_snapshot(1, |_| Ok(()));
    assert!(written.is_err());
    assert_eq!(vfs.list(&dir().join("snap")).expect("listed").len(), 0);
}

#[test]
fn rules_14_what_is_not_committed_is_not_read() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    let id = running.put(&mut Model::default(), payload(1, 10));
    assert!(matches!(
        running.journal.read(id),
        Err(ReadError::NotCommitted(_))
    ));
    assert_eq!(running.journal.cached(id), None);
    assert_eq!(
        (running.journal.committed(), running.journal.newest()),
        (0, 1)
    );
    running.step_all();
    assert_eq!(
        (running.journal.committed(), running.journal.newest()),
        (1, 1)
    );
    assert!(running.journal.cached(id).is_some());
}

#[test]
fn rules_13_the_batch_cache_is_bounded_and_drops_the_oldest() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let config = journal::Config {
        cache_bytes_max: 64 << 10,
        ..config()
    };
    let mut running = start_with(&vfs, 1, config).expect("opens");
    let ids: Vec<_> = (0..40)
        .map(|n| {
            let id = running.put(&mut model, payload(n, 3000));
            running.step_all();
            id
        })
        .collect();
    assert!(running.journal.stats().cache_bytes <= 64 << 10);
    assert_eq!(running.journal.cached(ids[0]), None);
    assert!(running.journal.cached(ids[39]).is_some());
    running.check(&model);
}

#[test]
fn rules_18_the_records_of_one_command_lie_in_one_batch() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    let filler = payload(1, 12 << 10);
    let mut stage = running.journal.stage();
    let first = stage.push(1, &filler, None);
    let lens = [3000, 3000];
    assert!(stage.reserve(&lens));
    let expected = stage.next_id();
    let body = payload(2, 2980);
    let a = stage.push(1, &body[..lens[0].min(body.len())], None);
    let b = stage.push(1, &body, None);
    assert_eq!(a, expected);
    assert_eq!(journal::batch_of(a), journal::batch_of(b));
    assert_eq!(
        journal::batch_of(first) + 1,
        journal::batch_of(a),
        "the first batch was closed for them"
    );
    assert!(
        !stage.reserve(&[64 << 10]),
        "no batch of these segments holds that"
    );
    drop(stage);
    assert_eq!(running.engine.step(), Step::Committed(1));
    assert_eq!(running.engine.step(), Step::Committed(2));
    assert_eq!(running.engine.step(), Step::Idle);
}

#[test]
fn rules_18_also_records_that_are_together_longer_than_a_batch_usually_is() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    let body = payload(1, config().batch_len_max / 3);
    let lens = [body.len(); 4];
    let mut stage = running.journal.stage();
    stage.push(1, &payload(2, 100), None);
    assert!(stage.reserve(&lens), "a batch could hold them");
    let batches: Vec<u64> = lens
        .iter()
        .map(|_| {
            let announced = stage.next_id();
            let pushed = stage.push(1, &body, None);
            assert_eq!(pushed, announced);
            journal::batch_of(pushed)
        })
        .collect();
    assert_eq!(batches, [2; 4]);
    let next = stage.push(1, &payload(3, 100), None);
    assert_eq!(journal::batch_of(next), 3, "then it is full");
    drop(stage);
    for batch in 1..=3 {
        assert_eq!(running.engine.step(), Step::Committed(batch));
    }
    start(&vfs.without_locks(), 2).expect("such a batch is read like any other");
}

#[test]
fn staging_is_bounded() {
    let vfs = MemVfs::new(false);
    let config = journal::Config {
        staged_bytes_max: 20 << 10,
        ..config()
    };
    let mut running = start_with(&vfs, 1, config).expect("opens");
    let mut staged = 0;
    while running.journal.stage().room() {
        running.put(&mut Model::default(), payload(staged, 1000));
        staged += 1;
        assert!(staged < 100, "there must be a bound");
    }
    running.step_all();
    assert!(running.journal.stage().room());
    assert_eq!(running.journal.stats().staged_bytes, 0);
}

/// Stages records of that owner for as long as there is room for it; their bytes.
fn flood(running: &Running, owner: u64) -> u64 {
    let before = running.journal.stats().staged_bytes;
    let mut stage = running.journal.stage_of(owner);
    for n in 0..10_000 {
        if !stage.room() {
            break;
        }
        stage.push(1, &payload(n, 1000), None);
        assert!(n < 9_999, "there must be a bound");
    }
    drop(stage);
    running.journal.stats().staged_bytes - before
}

#[test]
fn who_stages_much_leaves_room_to_others_and_has_its_share_again_when_it_is_durable() {
    let vfs = MemVfs::new(false);
    let config = journal::Config {
        batch_len_max: 64 << 10,
        staged_bytes_max: 1 << 20,
        segment_len: 4 << 20,
        first_segment_len: 4 << 20,
        ..config()
    };
    let mut running = start_with(&vfs, 1, config).expect("opens");
    // A batch and a half, however much there is for all.
    let alone = flood(&running, 1);
    assert!((96 << 10..100 << 10).contains(&alone), "{alone}");
    assert!(!running.journal.stage_of(1).room());
    // The others come as if there were no flood.
    let beside = flood(&running, 2);
    assert!((96 << 10..100 << 10).contains(&beside), "{beside}");
    assert!(running.journal.stage().room() && running.journal.stage_of(3).room());
    // The more there are, the less is each one's, but not less than what one may have in any case.
    let shares: Vec<u64> = (3..12).map(|owner| flood(&running, owner)).collect();
    assert!(shares.is_sorted_by(|one, next| one >= next), "{shares:?}");
    assert!((64 << 10..66 << 10).contains(&shares[8]), "{shares:?}");
    // With each batch that is durable there is more room.
    let count = std::sync::Arc::new(Count(0.into()));
    running
        .journal
        .stage_of(1)
        .on_room(std::sync::Arc::clone(&count).into());
    assert!(matches!(running.engine.step(), Step::Committed(1)));
    assert_eq!(count.0.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert!(running.journal.stage_of(1).room());
    running.step_all();
    assert_eq!(running.journal.stats().staged_bytes, 0);
    assert_eq!(flood(&running, 1), alone);
}

#[test]
fn who_stages_much_has_less_room_while_another_waits_for_confirmations() {
    let vfs = MemVfs::new(false);
    let config = journal::Config {
        batch_len_max: 1 << 20,
        staged_bytes_max: 8 << 20,
        segment_len: 4 << 20,
        first_segment_len: 4 << 20,
        ..config()
    };
    let mut running = start_with(&vfs, 1, config).expect("opens");
    let wait = |running: &mut Running, owner| {
        let mut stage = running.journal.stage_of(owner);
        stage.push(1, b"awaited", None);
        stage.awaited();
        drop(stage);
        running.step_all();
    };
    // Who waits for its own is not in its own way.
    wait(&mut running, 1);
    let alone = flood(&running, 1);
    assert!((1536 << 10..1540 << 10).contains(&alone), "{alone}");
    running.step_all();
    wait(&mut running, 2);
    // Whatever the first one waits for later.
    wait(&mut running, 1);
    let beside = flood(&running, 1);
    assert!((192 << 10..196 << 10).contains(&beside), "{beside}");
    running.step_all();
    // Until it is forgotten,
    for _ in 0..4096 {
        running.put(&mut Model::default(), payload(1, 10));
        running.step_all();
    }
    assert_eq!(flood(&running, 1), alone);
    running.step_all();
    // or gone.
    wait(&mut running, 2);
    assert_eq!(flood(&running, 1), beside);
    running.step_all();
    running.journal.forget_owner(2);
    assert_eq!(flood(&running, 1), alone);
    running.step_all();
    // Who has much staged itself is not waited for by others.
    flood(&running, 3);
    let mut stage = running.journal.stage_of(3);
    stage.awaited();
    drop(stage);
    running.step_all();
    assert_eq!(flood(&running, 1), alone);
}

#[test]
fn rules_23_a_start_works_on_a_full_disk() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    running.put(&mut model, payload(1, 100));
    running.step_all();
    assert!(running.engine.prepare(), "a spare is there");
    running.journal.shutdown();
    vfs.set_free(Some(16 << 10));
    let mut again = start(&vfs, 2).expect("the old incarnation's spare makes room");
    again.check(&model);
    again.delete(&mut model, 0);
    again.step_all();
    assert_eq!(again.journal.failure(), None, "settling works");
    again.check(&model);
}

#[test]
fn a_takeover_that_finds_no_room_leaves_what_the_old_writer_may_yet_use() {
    for filled in 8..20 {
        let vfs = MemVfs::new(false);
        let mut model = Model::default();
        let mut old = start(&vfs, 1).expect("opens");
        for n in 0..filled {
            old.put(&mut model, payload(n, 3000));
            old.step_all();
        }
        old.engine.prepare();
        let confirmed = old.journal.committed();
        vfs.set_free(Some(0));
        assert!(
            start(&vfs.elsewhere(), 2).is_err(),
            "a spare is left to the old writer, and there is no room else"
        );
        // It has not seen its fence yet: this batch goes into the spare, when the segment is full.
        old.put(&mut model, payload(99, 3000));
        assert_eq!(old.engine.step(), Step::Failed);
        vfs.set_free(None);
        let new = start(&vfs.elsewhere(), 3).expect("opens");
        assert!(new.journal.committed() >= confirmed);
        new.check(&model);
    }
}

#[test]
fn a_claimant_that_finds_no_room_leaves_nothing_and_takes_nothing_from_another() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut old = start(&vfs, 1).expect("opens");
    old.put(&mut model, payload(1, 100));
    old.step_all();
    old.journal.shutdown();
    let names = || {
        let dirs = ["seg", "fence", "lease"].into_iter();
        let lists = dirs.map(|name| vfs.list(&dir().join(name)).expect("it is there"));
        lists.map(|names| names.len()).collect::<Vec<_>>()
    };
    let before = names();
    // Another one has got as far as its first segment.
    let theirs = dir().join("seg").join("2-1-00000000000000aa");
    vfs.create_zeroed(&theirs, 64 << 10, false).expect("made");
    for room in [0, 64 << 10, 68 << 10] {
        vfs.set_free(Some(room));
        assert!(start(&vfs.elsewhere(), 2).is_err());
        assert!(vfs.open(&theirs, Access::Read, false).is_ok());
    }
    vfs.unlink(&theirs).expect("it is there");
    assert_eq!(names(), before);
}

#[test]
fn the_levels_of_free_space() {
    let vfs = MemVfs::new(false);
    let config = journal::Config {
        space_low_bytes: 2 << 30,
        ..config()
    };
    let running = start_with(&vfs, 1, config).expect("opens");
    assert!(matches!(running.journal.space(), Space::Ok(_)));
    let total = 1_u64 << 40;
    for (percent, low) in [(10, false), (4, true)] {
        vfs.set_free(Some(total / 100 * percent));
        running.journal.check_space();
        let space = running.journal.space();
        assert_eq!(
            matches!(space, Space::Low(_)),
            low,
            "{percent} %: {space:?}"
        );
        assert_eq!(
            matches!(space, Space::High(_)),
            !low,
            "{percent} %: {space:?}"
        );
    }
}

#[test]
fn rules_10_the_body_in_memory_is_the_batch_buffer() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    let id = running.put(&mut Model::default(), payload(1, 9000));
    running.step_all();
    let (_, first) = running.journal.cached(id).expect("in memory");
    let (_, second) = running.journal.read(id).expect("in memory");
    assert_eq!(
        first.as_ptr(),
        second.as_ptr(),
        "nothing is copied on the way out"
    );
}

struct Count(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn whoever_waits_is_woken_once_by_commit_or_failure_and_at_once_if_nothing_is_pending() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    let count = std::sync::Arc::new(Count(0.into()));
    let waker = std::task::Waker::from(std::sync::Arc::clone(&count));
    let woken = || count.0.swap(0, std::sync::atomic::Ordering::SeqCst);
    running.journal.stage().on_commit(waker.clone());
    assert_eq!(woken(), 1, "nothing is pending");
    let stage_one = |running: &Running, first: bool| {
        let mut stage = running.journal.stage();
        // Before or after the push: it is the end of the guard that counts.
        if first {
            stage.on_commit(waker.clone());
        }
        stage.push(1, b"x", None);
        if !first {
            stage.on_commit(waker.clone());
        }
    };
    stage_one(&running, true);
    stage_one(&running, false);
    assert_eq!(woken(), 0);
    running.step_all();
    assert_eq!(woken(), 1, "one connection is woken once for a batch");
    stage_one(&running, false);
    vfs.fail_after(Some(0));
    assert_eq!(running.engine.step(), Step::Failed);
    assert_eq!(woken(), 1);
    running.journal.stage().on_commit(waker.clone());
    assert_eq!(woken(), 1, "after a failure nobody waits");
}

#[test]
fn settling_goes_on_for_a_while_on_a_full_disk() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..10 {
        running.put(&mut model, payload(n, 3000));
    }
    running.step_all();
    running.engine.prepare();
    vfs.set_free(Some(8 << 10));
    for _ in 0..10 {
        running.delete(&mut model, 0);
        running.step_all();
    }
    assert_eq!(running.journal.failure(), None);
    running.snapshot();
    running.journal.shutdown();
    vfs.set_free(None);
    start(&vfs, 2).expect("opens").check(&model);
}

#[test]
fn hosted_survivors_are_not_moved_for_ever() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..120 {
        running.put(&mut model, payload(n, 1000));
        running.step_all();
    }
    for n in (0..running.live.len()).rev().filter(|n| n % 8 != 0) {
        running.delete(&mut model, n);
    }
    let mut moved = 0;
    for _ in 0..12 {
        running.put(&mut model, payload(500, 20));
        running.delete(&mut model, running.live.len() - 1);
        running.snapshot();
        moved += running.compact();
    }
    running.check(&model);
    assert!(moved > 0);
    assert!(moved <= 60, "15 survivors were moved {moved} times");
}

#[test]
fn rules_16_only_segments_of_this_incarnation_are_used_again() {
    let vfs = MemVfs::new(true);
    let mut model = Model::default();
    let mut first = start(&vfs, 1).expect("opens");
    for n in 0..40 {
        first.put(&mut model, payload(n, 3000));
        first.step_all();
    }
    first.journal.shutdown();
    let mut second = start(&vfs, 2).expect("opens");
    while !second.live.is_empty() {
        second.delete(&mut model, 0);
    }
    second.snapshot();
    let before = vfs.ops_len();
    second.journal.reclaim();
    let stats = second.journal.stats();
    assert_eq!(stats.recycled, 0, "they were the first one's");
    assert!(stats.unlinked >= 2);
    for at in before..vfs.ops_len() {
        let op = vfs.op(at).expect("recorded");
        assert!(matches!(op, journal::vfs::Op::Unlink(_)), "{op:?}");
    }
    second.journal.shutdown();
    start(&vfs, 3).expect("opens").check(&model);
}

/// A journal with its threads whose disk fills up while records are staged: the segments at hand are used up.
fn filled_up(vfs: &MemVfs) -> (journal::Journal, std::sync::mpsc::Receiver<()>) {
    let opened = journal::open(
        std::sync::Arc::new(vfs.clone()),
        dir(),
        config(),
        1,
        [1; 16],
    )
    .expect("opens");
    let journal = opened.journal;
    vfs.set_free(Some(0));
    let (sender, receiver) = std::sync::mpsc::channel();
    let waker = std::task::Waker::from(std::sync::Arc::new(Told(sender)));
    // More than the first segment and all spares that may have been prepared hold.
    let mut stage = journal.stage();
    for n in 0..40 {
        stage.push(1, &payload(n, 12 << 10), None);
    }
    stage.on_commit(waker);
    drop(stage);
    (journal, receiver)
}

struct Told(std::sync::mpsc::Sender<()>);

impl std::task::Wake for Told {
    fn wake(self: std::sync::Arc<Self>) {
        let _ = self.0.send(());
    }
}

#[test]
fn a_full_disk_delays_commits_and_they_go_on_when_there_is_room() {
    let vfs = MemVfs::new(false);
    let (journal, told) = filled_up(&vfs);
    assert_eq!(journal.failure(), None);
    vfs.set_free(None);
    told.recv().expect("woken");
    assert_eq!(
        (journal.failure(), journal.committed()),
        (None, journal.newest())
    );
    journal.shutdown();
    let live = start(&vfs, 2).expect("opens").live;
    assert_eq!(live.len(), 40);
}

#[test]
fn a_shutdown_on_a_full_disk_ends() {
    let vfs = MemVfs::new(false);
    let (journal, told) = filled_up(&vfs);
    journal.shutdown();
    told.recv().expect("woken");
    let committed = journal.committed();
    assert!(committed < journal.newest(), "there was no room");
    vfs.set_free(None);
    assert_eq!(
        start(&vfs, 2).expect("opens").journal.committed(),
        committed
    );
}

#[test]
fn a_segment_is_kept_until_the_moves_out_of_it_are_committed() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let config = journal::Config {
        cache_bytes_max: 0,
        ..config()
    };
    let mut running = start_with(&vfs, 1, config).expect("opens");
    for n in 0..60 {
        running.put(&mut model, payload(n, 3000));
        running.step_all();
    }
    for nth in (0..50).rev().filter(|nth| nth % 10 != 0) {
        running.delete(&mut model, nth);
    }
    running.snapshot();
    let sparse = running.journal.sparse_segments();
    assert!(!sparse.is_empty());
    for (segment, _) in sparse {
        let mut survivors = Vec::new();
        running
            .journal
            .read_segment(segment, |id, kind, payload| {
                if running.live.contains(&id) {
                    survivors.push((id, kind, payload));
                }
            })
            .expect("readable");
        for (id, kind, payload) in survivors {
            running.journal.stage().push_moved(id, kind, payload);
        }
        running.journal.evacuated(segment);
    }
    running.journal.reclaim();
    assert_eq!(
        running.journal.stats().recycled + running.journal.stats().unlinked,
        0
    );
    running.check(&model);
    running.step_all();
    running.journal.reclaim();
    assert!(running.journal.stats().recycled + running.journal.stats().unlinked > 0);
    running.check(&model);
}

#[test]
fn a_replay_keeps_what_it_has_yet_to_read() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..40 {
        running.put(&mut model, payload(n, 3000));
        running.delete(&mut model, 0);
        running.step_all();
    }
    let freed = |running: &Running| {
        running.journal.reclaim();
        running.journal.stats().recycled + running.journal.stats().unlinked
    };
    let replay = running.journal.replay().expect("readable");
    running.snapshot();
    assert_eq!(freed(&running), 0);
    assert_eq!(live_ids(replay), []);
    assert!(freed(&running) > 0);
}

#[test]
fn what_only_the_older_snapshot_needs_is_given_back() {
    let vfs = MemVfs::new(true);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    let mut turn = |running: &mut Running, n| {
        running.put(&mut model, payload(n, 3000));
        running.delete(&mut model, 0);
        running.step_all();
    };
    turn(&mut running, 0);
    running.snapshot();
    for n in 1..200 {
        turn(&mut running, n);
    }
    running.snapshot();
    running.journal.reclaim();
    let held_up = running.journal.stats().segment_bytes;
    assert!(
        held_up > 8 * config().segment_len,
        "the older one needs them"
    );
    assert!(
        running.journal.snapshot_due(),
        "though nothing was written since"
    );
    running.snapshot();
    assert!(!running.journal.snapshot_due());
    running.journal.reclaim();
    let left = running.journal.stats().segment_bytes;
    assert!(left <= 2 * config().segment_len, "{left} bytes are kept");
    // Either copy is enough.
    let names = vfs.list(&dir().join("snap")).expect("listed");
    assert_eq!(names.len(), 2);
    running.journal.shutdown();
    for name in names {
        let image = vfs.image(vfs.ops_len(), journal::vfs::Cut::All, false);
        image.unlink(&dir().join("snap").join(name)).expect("gone");
        start(&image, 2).expect("opens").check(&model);
    }
}

#[test]
fn what_is_written_while_a_snapshot_is_made_is_not_covered_by_it() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..40 {
        running.put(&mut model, payload(n, 3000));
    }
    running.step_all();
    let replay = running.journal.replay().expect("readable");
    let at = replay.last_batch();
    for n in 40..80 {
        running.put(&mut model, payload(n, 3000));
    }
    running.step_all();
    let live = live_ids(replay);
    running
        .journal
        .write_snapshot(at, |out| {
            live.iter()
                .try_for_each(|id| out.write_all(&id.0.to_le_bytes()))
        })
        .expect("written");
    assert!(running.journal.snapshot_due(), "for what came since");
    running.snapshot();
    assert!(!running.journal.snapshot_due());
}

#[test]
fn a_segment_is_kept_until_what_let_its_last_record_go_is_committed() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..60 {
        running.put(&mut model, payload(n, 3000));
        running.step_all();
        if running.live.len() > 1 {
            running.delete(&mut model, 1);
        }
    }
    running.snapshot();
    running.snapshot();
    running.journal.reclaim();
    let before = running.journal.stats().segments;
    running.delete(&mut model, 0);
    running.journal.reclaim();
    running.journal.reclaim();
    assert_eq!(
        running.journal.stats().segments,
        before,
        "the deletion may still be undone by a crash"
    );
    running.step_all();
    running.journal.reclaim();
    assert_eq!(running.journal.stats().segments, before - 1);
}

/// References that are counted all at once are counted as one by one: where nothing is referred to, and only there, space is given back.
#[test]
fn references_counted_all_at_once_keep_what_they_name() {
    let counts = |at_once: bool| {
        let vfs = MemVfs::new(false);
        let mut model = Model::default();
        let mut running = start(&vfs, 1).expect("opens");
        for n in 0..60 {
            running.put(&mut model, payload(n, 3000));
            running.step_all();
        }
        // Some stay in every other segment.
        let kept: Vec<_> = running
            .live
            .iter()
            .copied()
            .filter(|id| journal::batch_of(*id) % 40 < 15)
            .collect();
        running.live.clone_from(&kept);
        running.snapshot();
        running.snapshot();
        running.journal.shutdown();
        drop(running);
        let (opened, mut engine) =
            journal::open_stepped(std::sync::Arc::new(vfs), dir(), config(), 1, [2; 16])
                .expect("opens");
        let ids = live_ids(opened.replay);
        assert_eq!(ids, kept);
        let journal = opened.journal;
        if at_once {
            journal.add_refs(|count| ids.iter().for_each(|id| count(*id)));
        } else {
            ids.iter().for_each(|id| journal.add_ref(*id));
        }
        journal
            .stage()
            .push(crate::history::DEL, &0_u64.to_le_bytes(), None);
        while let Step::Committed(_) = engine.step() {}
        journal.reclaim();
        for id in &ids {
            assert!(journal.read(*id).is_ok());
        }
        let stats = journal.stats();
        (stats.live, stats.dangling, stats.segments, stats.unlinked)
    };
    let at_once = counts(true);
    assert_eq!(at_once, counts(false));
    assert!(at_once.3 > 0, "something was given back: {at_once:?}");
}
