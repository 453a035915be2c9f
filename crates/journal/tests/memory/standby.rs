//! The standby: follows whatever the active does, and takes over from it at any moment (RULES 17, 19, 21).

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use journal::vfs::{Access, Vfs};
use journal::{Config, Failure, Holder, MemVfs, OpenError, Polled, Standby, StandbyError, Step};
use message::StoredId;

use crate::history::{
    DEL, Dice, Model, PUT, Running, config, dir, live_ids, payload, start, start_with,
};

/// A standby with the ids that are live as far as it has applied.
pub(crate) struct Follower {
    pub(crate) standby: Standby,
    live: BTreeSet<StoredId>,
    now: u64,
}

fn applying<'a>(
    journal: &'a journal::Journal,
    live: &'a mut BTreeSet<StoredId>,
) -> impl FnMut(StoredId, u8, Bytes) -> Result<(), Infallible> + 'a {
    move |id, kind, payload| {
        match kind {
            PUT => {
                live.insert(id);
                journal.add_ref(id);
            }
            DEL => {
                let id = StoredId(u64::from_le_bytes(
                    payload[..8].try_into().expect("eight bytes"),
                ));
                assert!(live.remove(&id), "what is deleted was there");
                journal.drop_ref(id);
            }
            other => panic!("no record of kind {other} was written"),
        }
        Ok(())
    }
}

impl Follower {
    pub(crate) fn open(vfs: &MemVfs, uuid: u128) -> Self {
        let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let (standby, replay) = Standby::open(vfs, dir(), config(), uuid.to_be_bytes(), 0)
            .expect("a journal in order can be followed");
        let live: BTreeSet<StoredId> = live_ids(replay).into_iter().collect();
        for &id in &live {
            standby.journal().add_ref(id);
        }
        Self {
            standby,
            live,
            now: 0,
        }
    }

    /// Applies whatever is there. `false`: it has fallen behind.
    pub(crate) fn poll(&mut self) -> bool {
        let journal = self.standby.journal().clone();
        self.standby
            .look_at_holder(|| self.now)
            .expect("the lease is readable");
        loop {
            let polled = self
                .standby
                .poll(self.now, applying(&journal, &mut self.live))
                .expect("the journal is in order");
            match polled {
                Polled::More => {}
                Polled::Idle => return true,
                Polled::Behind => return false,
            }
        }
    }

    fn check(&self, model: &Model) {
        let applied = self.standby.applied();
        let expected = model.live(applied);
        assert!(
            self.live.iter().eq(expected.keys()),
            "what is live behind batch {applied}"
        );
    }

    fn take_over(self) -> Running {
        let Self {
            standby, mut live, ..
        } = self;
        let journal = standby.journal().clone();
        let (engine, taken) = standby
            .take_over_stepped(2, applying(&journal, &mut live))
            .expect("nobody else claims");
        Running {
            epoch: taken.epoch,
            journal,
            engine,
            live: live.into_iter().collect(),
        }
    }
}

#[test]
fn rules_23_a_standby_that_comes_when_the_disk_is_full_takes_over() {
    for keeps_room in [false, true] {
        let vfs = MemVfs::new(false);
        let mut model = Model::default();
        let mut active = start(&vfs, 1).expect("opens");
        active.put(&mut model, payload(1, 300));
        active.step_all();
        assert!(active.engine.prepare(), "a spare is there");
        vfs.set_free(Some(if keeps_room { 1 << 20 } else { 100 << 10 }));
        active.engine.look_at_standbys(0);
        vfs.set_free(Some(0));
        let mut follower = Follower::open(&vfs, 2);
        assert!(follower.poll());
        assert_eq!(follower.standby.prepare().is_ok(), keeps_room);
        assert_eq!(follower.standby.is_prepared(), keeps_room);
        if !keeps_room {
            continue;
        }
        let written = follower.standby.registrar().write();
        written.expect("there is room for its own file");
        // And somebody else takes what is left.
        vfs.set_free(Some(0));
        let mut new = follower.take_over();
        new.check(&model);
        new.delete(&mut model, 0);
        new.step_all();
        assert_eq!(new.journal.failure(), None, "settling works");
        new.check(&model);
    }
}

#[test]
fn rules_23_a_start_on_a_full_disk_has_the_room_that_was_kept() {
    for keeps_room in [false, true] {
        let vfs = MemVfs::new(false);
        let mut model = Model::default();
        let mut old = start(&vfs, 1).expect("opens");
        old.put(&mut model, payload(1, 300));
        old.step_all();
        if keeps_room {
            old.engine.look_at_standbys(0);
        }
        // No spare, and nothing is left in order.
        drop(old);
        vfs.set_free(Some(0));
        let new = start(&vfs.elsewhere(), 2);
        assert_eq!(new.is_ok(), keeps_room);
        if let Ok(new) = new {
            new.check(&model);
        }
    }
}

#[test]
fn it_applies_what_is_proven_durable_and_adopts_the_rest() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut active = start(&vfs, 1).expect("opens");
    let mut follower = Follower::open(&vfs, 2);
    for n in 0..5 {
        active.put(&mut model, payload(n, 300));
        active.step_all();
        assert!(follower.poll());
        // The last batch is confirmed, but nothing that can be read says so yet.
        assert_eq!(follower.standby.applied(), n);
        follower.check(&model);
    }
    active.engine.renew_lease(|| 0);
    assert!(follower.poll());
    assert_eq!((follower.standby.applied(), follower.standby.lag()), (5, 0));
    active.put(&mut model, payload(9, 300));
    active.step_all();
    let new = follower.take_over();
    assert_eq!((new.epoch, new.journal.committed()), (2, 6));
    new.check(&model);
    let mut lost = Model::default();
    active.put(&mut lost, payload(10, 10));
    assert_eq!(active.engine.step(), Step::Failed);
    assert!(matches!(active.journal.failure(), Some(Failure::Fenced(_))));
}

#[test]
fn where_much_comes_each_look_is_one_read_and_no_copy_is_kept() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut active = roomy(&vfs);
    let mut follower = Follower::open(&vfs, 2);
    let mut reads = Vec::new();
    for round in 0..6 {
        for n in 0..20 {
            active.put(
                &mut model,
                payload(round * 20 + n, 300 + round as usize * 80),
            );
            active.step_all();
        }
        let journal = follower.standby.journal().clone();
        let before = vfs.reads();
        let apply = applying(&journal, &mut follower.live);
        let polled = follower.standby.poll(0, apply).expect("in order");
        assert_eq!(polled, Polled::More);
        reads.push(vfs.reads() - before);
        assert_eq!(follower.standby.applied(), round * 20 + 19);
    }
    assert_eq!(reads, [2, 1, 1, 1, 1, 1]);
    assert!(follower.poll());
    let before = vfs.bytes_read();
    assert!(follower.poll());
    let idle = vfs.bytes_read() - before;
    assert!(idle <= 16 << 10, "nothing comes, and {idle} bytes are read");
    follower.take_over().check(&model);
}

/// A segment in which there is room for the longest batches.
fn roomy(vfs: &MemVfs) -> Running {
    let sizes = Config {
        segment_len: 32 << 20,
        first_segment_len: 32 << 20,
        batch_len_max: 1 << 20,
        ..config()
    };
    start_with(vfs, 1, sizes).expect("opens")
}

/// The file of the segment with this number, counted from 0.
fn segment_path(vfs: &MemVfs, nth: usize) -> PathBuf {
    let mut names = vfs
        .list(&dir().join("seg"))
        .expect("the directory is there");
    names.sort();
    dir().join("seg").join(&names[nth])
}

/// The second segment is in use: it has a header.
fn rolled(vfs: &MemVfs) -> bool {
    let names = vfs
        .list(&dir().join("seg"))
        .expect("the directory is there");
    let mut magic = [0; 8];
    names.len() > 1 && {
        let file = vfs.open(&segment_path(vfs, 1), Access::Read, false);
        let read = file.expect("it is there").read_at(&mut magic, 0);
        read.is_ok() && magic != [0; 8]
    }
}

fn refused(follower: Follower) -> String {
    let Follower {
        standby, mut live, ..
    } = follower;
    let journal = standby.journal().clone();
    match standby.take_over_stepped(2, applying(&journal, &mut live)) {
        Err(StandbyError::Open(error)) => error.to_string(),
        Err(error) => panic!("the records can be applied: {error}"),
        Ok((_, taken)) => panic!("it took over and lost what was confirmed: {taken:?}"),
    }
}

#[test]
fn a_takeover_reads_what_may_have_been_written_and_not_the_rest_of_the_segment() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut active = roomy(&vfs);
    let mut follower = Follower::open(&vfs, 2);
    active.put(&mut model, payload(1, 300));
    active.step_all();
    assert!(follower.poll());
    active.put(&mut model, payload(2, 300));
    active.step_all();
    let before = vfs.bytes_read();
    let new = follower.take_over();
    let read = vfs.bytes_read() - before;
    assert!(read < 6 << 20, "{read} bytes of 32 MiB were read");
    new.check(&model);
}

#[test]
fn behind_the_longest_batch_a_later_one_proves_that_it_was_durable() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut active = roomy(&vfs);
    let mut follower = Follower::open(&vfs, 2);
    assert!(follower.poll());
    // As long as can be reserved together.
    let mut stage = active.journal.stage();
    let lens = [200 << 10; 10];
    assert!(stage.reserve(&lens), "below the longest that there can be");
    for (n, len) in (0u64..).zip(lens) {
        stage.push(PUT, &payload(n, len)[..len], None);
    }
    drop(stage);
    active.step_all();
    active.put(&mut model, payload(11, 300));
    active.step_all();
    assert_eq!(active.journal.committed(), 2);
    vfs.flip(&segment_path(&vfs, 0), 4096 + 300);
    let why = refused(follower);
    assert!(why.contains("a later batch is at offset"), "{why}");
}

#[test]
fn the_next_segment_proves_that_the_end_of_the_last_one_was_durable() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut active = start(&vfs, 1).expect("opens");
    let mut follower = Follower::open(&vfs, 2);
    assert!(follower.poll());
    // Each batch takes a block. The first one of the second segment:
    let first = (1..)
        .find(|&n| {
            active.put(&mut model, payload(n, 3_000));
            active.step_all();
            assert_eq!(active.journal.committed(), n);
            rolled(&vfs)
        })
        .expect("a segment is full in the end");
    let last = usize::try_from(first - 1).expect("a segment has few batches");
    vfs.flip(&segment_path(&vfs, 0), 4096 * last + 200);
    let why = refused(follower);
    assert!(why.contains("is known to be durable"), "{why}");
}

#[test]
fn a_frozen_holder_that_renews_its_lease_sees_that_it_was_deposed() {
    let vfs = MemVfs::new(false);
    let mut active = start(&vfs, 1).expect("opens");
    active.engine.renew_lease(|| 1_000);
    assert_eq!(active.journal.lease_until(), 5_000, "alone");
    Follower::open(&vfs, 2).take_over();
    active.engine.renew_lease(|| 2_000);
    assert_eq!(active.journal.lease_until(), 5_000, "not renewed");
    assert!(matches!(active.journal.failure(), Some(Failure::Fenced(_))));
}

#[test]
fn whether_the_holder_lives_is_told_by_its_lock_its_lease_and_its_end() {
    let vfs = MemVfs::new(false);
    let mut active = start(&vfs, 1).expect("opens");
    active.engine.renew_lease(|| 0);
    let look = |follower: &mut Follower, now| {
        follower
            .standby
            .look_at_holder(|| now)
            .expect("the lease is readable")
    };
    let mut follower = Follower::open(&vfs, 2);
    assert_eq!(look(&mut follower, 0), Holder::Alive);
    assert_eq!(look(&mut follower, 5_000), Holder::Alive);
    assert_eq!(look(&mut follower, 5_001), Holder::Silent);
    active.engine.renew_lease(|| 0);
    assert_eq!(look(&mut follower, 5_002), Holder::Alive);
    // With a standby near, the lease is shorter.
    follower.standby.report(true);
    follower.standby.registrar().write().expect("written");
    active.engine.look_at_standbys(0);
    follower.standby.report(true);
    follower.standby.registrar().write().expect("written");
    active.engine.look_at_standbys(0);
    active.engine.renew_lease(|| 6_000);
    assert_eq!(active.journal.lease_until(), 6_400);
    assert_eq!(look(&mut follower, 6_000), Holder::Alive);
    assert_eq!(look(&mut follower, 6_500), Holder::Alive);
    assert_eq!(look(&mut follower, 6_501), Holder::Silent);
    // Its process dies.
    active.journal.shutdown();
    assert_eq!(look(&mut follower, 6_501), Holder::Dead);
    let mut active = start(&vfs, 3).expect("nobody holds it");
    follower.now = 6_501;
    assert!(follower.poll());
    assert_eq!(look(&mut follower, 6_501), Holder::Alive);
    active.engine.end_lease();
    assert_eq!(look(&mut follower, 6_501), Holder::Ended);
    active.journal.hand_over();
    active.engine.end_lease();
    assert_eq!(look(&mut follower, 6_501), Holder::HandedOver);
}

#[test]
fn of_two_standbys_one_takes_over_and_the_other_follows_it() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut active = start(&vfs, 1).expect("opens");
    let (mut a, mut b) = (Follower::open(&vfs, 2), Follower::open(&vfs, 3));
    a.standby.prepare().expect("room");
    b.standby.prepare().expect("room");
    active.put(&mut model, payload(1, 9_000));
    active.step_all();
    assert!(a.poll() && b.poll());
    let late = Follower::open(&vfs, 4);
    let mut new = a.take_over();
    let journal = late.standby.journal().clone();
    let mut live = late.live;
    let lost = late
        .standby
        .take_over_stepped(2, applying(&journal, &mut live))
        .map(|_| ())
        .expect_err("another one was faster");
    assert!(
        matches!(lost, StandbyError::Open(OpenError::Lost { epoch: 2, .. })),
        "{lost}"
    );
    new.put(&mut model, payload(2, 100));
    new.step_all();
    new.put(&mut model, payload(3, 100));
    new.step_all();
    assert!(b.poll());
    assert_eq!(b.standby.epoch(), 2);
    b.check(&model);
    b.standby.prepare().expect("room");
    let third = b.take_over();
    assert_eq!(third.epoch, 3);
    third.check(&model);
}

#[test]
fn a_standby_that_fell_behind_what_was_given_back_starts_anew() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut active = start(&vfs, 1).expect("opens");
    let mut follower = Follower::open(&vfs, 2);
    for n in 0..60 {
        active.put(&mut model, payload(n, 5_000));
        active.step_all();
        active.delete(&mut model, 0);
        active.snapshot();
        active.compact();
    }
    active.engine.renew_lease(|| 0);
    let journal = follower.standby.journal().clone();
    let mut now = 0;
    let behind = loop {
        now += 500;
        follower
            .standby
            .look_at_holder(|| now)
            .expect("the lease is readable");
        match follower
            .standby
            .poll(now, applying(&journal, &mut follower.live))
            .expect("nothing is damaged")
        {
            Polled::Behind => break true,
            _ if now > 60_000 => break false,
            _ => {}
        }
    };
    assert!(behind);
    let mut follower = Follower::open(&vfs, 3);
    assert!(follower.poll());
    follower.check(&model);
    assert_eq!(follower.standby.lag(), 0);
}

#[test]
fn rules_23_what_was_made_ready_is_used_and_what_was_not_is_taken_away() {
    let vfs = MemVfs::new(false);
    let active = start(&vfs, 1).expect("opens");
    let mut follower = Follower::open(&vfs, 2);
    follower.standby.prepare().expect("room");
    assert!(follower.standby.is_prepared());
    // The disk is full, but for the record of the epoch.
    vfs.set_free(Some(4 << 10));
    let new = follower.take_over();
    assert_eq!(new.epoch, 2);
    vfs.set_free(None);
    let files = |vfs: &MemVfs| vfs.list(&dir().join("seg")).expect("listed").len();
    let before = files(&vfs);
    let mut other = Follower::open(&vfs, 3);
    other.standby.prepare().expect("room");
    assert_eq!(files(&vfs), before + 1);
    other.standby.leave();
    assert_eq!(files(&vfs), before);
    drop(active);
}

/// A history of one active and one standby that change places again and again, in all ways.
fn changing_places(seed: u64) {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut dice = Dice(seed * 2 + 1);
    let mut uuid = 1;
    let mut next = || {
        uuid += 1;
        uuid
    };
    let mut active = start(&vfs, next()).expect("opens");
    let mut follower = Follower::open(&vfs, next());
    let mut frozen: Vec<Running> = Vec::new();
    for turn in 0..120 {
        match dice.below(24) {
            0..=9 => {
                for n in 0..=dice.below(3) {
                    let len = [5, 100, 700, 5000][dice.below(4) as usize];
                    active.put(&mut model, payload(turn * 10 + n, len));
                }
            }
            10..=13 => {
                for _ in 0..dice.below(4) {
                    if !active.live.is_empty() {
                        let nth = dice.below(active.live.len() as u64) as usize;
                        active.delete(&mut model, nth);
                    }
                }
            }
            14 => active.snapshot(),
            15 => {
                active.compact();
            }
            16 => active.engine.renew_lease(|| 0),
            17 => {
                // The standby makes the snapshot.
                let live: Vec<_> = follower.live.iter().copied().collect();
                follower
                    .standby
                    .write_snapshot(|out| {
                        live.iter()
                            .try_for_each(|id| out.write_all(&id.0.to_le_bytes()))
                    })
                    .expect("the snapshot is written");
                active.journal.adopt_snapshots();
            }
            18 => follower.standby.prepare().expect("room"),
            19 => {
                // Whoever sleeps wakes up: it confirms nothing more, and its late writes are nobody's.
                for mut old in frozen.drain(..) {
                    let mut lost = Model::default();
                    old.put(&mut lost, payload(turn, 3_000));
                    assert_eq!(old.engine.step(), Step::Failed);
                }
            }
            20 => {
                active.step_all();
                active.journal.shutdown();
                active = start(&vfs, next()).expect("opens");
                active.check(&model);
            }
            _ => {
                if !follower.poll() {
                    follower = Follower::open(&vfs, next());
                    assert!(follower.poll());
                }
                follower.check(&model);
                let _ = follower.standby.tidy();
                if dice.below(3) == 0 {
                    let confirmed = active.journal.committed();
                    let old = std::mem::replace(&mut active, follower.take_over());
                    frozen.push(old);
                    let committed = active.journal.committed();
                    assert!(committed >= confirmed, "nothing confirmed is lost");
                    model.forget_behind(committed);
                    active.check(&model);
                    assert!(active.live.iter().all(|id| active.journal.holds(*id)));
                    follower = Follower::open(&vfs, next());
                }
            }
        }
        if dice.below(3) > 0 {
            active.step_all();
            assert_eq!(active.journal.failure(), None);
        }
    }
    // What a cold start finds is what the standby knew.
    active.step_all();
    active.journal.shutdown();
    if !follower.poll() {
        follower = Follower::open(&vfs, next());
        assert!(follower.poll());
    }
    let (journal, mut live) = (follower.standby.journal().clone(), follower.live);
    drop(frozen);
    let (engine, _) = follower
        .standby
        .take_over_stepped(3, applying(&journal, &mut live))
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let warm = Running {
        epoch: 0,
        journal,
        engine,
        live: live.into_iter().collect(),
    };
    warm.check(&model);
    warm.journal.shutdown();
    start_with(&vfs, next(), config())
        .expect("opens")
        .check(&model);
}

#[test]
fn random_changes_of_places_lose_nothing_confirmed() {
    let seeds = std::env::var("BASCULE_SEEDS").ok();
    let seeds = seeds.and_then(|seeds| seeds.parse().ok()).unwrap_or(30);
    for seed in 0..seeds {
        changing_places(seed);
    }
}
