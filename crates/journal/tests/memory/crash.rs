//! Power fails at every point of a history: nothing confirmed is missing, nothing is reordered, recovery is idempotent
//! and may itself be cut.

use journal::vfs::{Cut, Op};
use journal::{MemVfs, OpenError};

use crate::history::{Model, Recorded, Running, record, start};

/// Opens an image and checks it against the model. Returns the batch to which it recovered.
fn recover(image: &MemVfs, uuid: u128, recorded: &Recorded, at: usize, what: &str) -> Running {
    let running = start(image, uuid)
        .unwrap_or_else(|error: OpenError| panic!("cut at {at}, {what}: {error}"));
    let committed = running.journal.committed();
    let confirmed = recorded.confirmed_at(at);
    assert!(
        committed >= confirmed,
        "cut at {at}, {what}: batch {confirmed} was confirmed, {committed} is the last one"
    );
    running.check(&recorded.model);
    running
}

/// The cuts tried in front of one operation.
fn cuts(vfs: &MemVfs, at: usize, randoms: u64) -> Vec<Cut> {
    let unsynced = vfs.unsynced(at);
    if unsynced.is_empty() {
        return vec![Cut::All];
    }
    let mut cuts = vec![Cut::All, Cut::None];
    for index in unsynced {
        cuts.push(Cut::Dropped(index));
        for (sector, seed) in [(512, 1), (512, 2), (512, 3), (4096, 4)] {
            cuts.push(Cut::Torn(index, sector, seed + index as u64));
        }
    }
    cuts.extend((0..randoms).map(|seed| Cut::Random(seed * 1000 + at as u64)));
    cuts
}

fn cut_everywhere(seed: u64, turns: u64) {
    let recorded = record(seed, turns);
    let ops = recorded.vfs.ops_len();
    let mut images = 0;
    for at in 0..=ops {
        for cut in cuts(&recorded.vfs, at, 4) {
            let image = recorded.vfs.image(at, cut, false);
            recover(
                &image,
                1000,
                &recorded,
                at,
                &format!("seed {seed}, {cut:?}"),
            );
            images += 1;
        }
    }
    assert!(images > ops, "more than one image for each operation");
}

#[test]
fn nothing_confirmed_is_lost_wherever_power_fails_a() {
    cut_everywhere(1, 32);
}

#[test]
fn nothing_confirmed_is_lost_wherever_power_fails_b() {
    cut_everywhere(2, 32);
}

#[test]
fn nothing_confirmed_is_lost_wherever_power_fails_c() {
    cut_everywhere(3, 32);
}

#[test]
fn nothing_confirmed_is_lost_wherever_power_fails_d() {
    cut_everywhere(4, 32);
}

#[test]
fn a_recovery_may_be_cut_anywhere_itself() {
    let recorded = record(5, 24);
    let ops = recorded.vfs.ops_len();
    for at in (0..=ops).step_by(7) {
        let cut = Cut::Random(at as u64);
        let image = recorded.vfs.image(at, cut, true);
        let first = recover(&image, 1000, &recorded, at, "outer");
        let reached = first.journal.committed();
        let inner_ops = image.ops_len();
        for inner in 0..=inner_ops {
            for cut in [
                Cut::All,
                Cut::None,
                Cut::Random(inner as u64 * 31 + at as u64),
            ] {
                let nested = image.image(inner, cut, false);
                let what = format!("cut again at {inner} of {inner_ops}, {cut:?}");
                let second = recover(&nested, 2000, &recorded, at, &what);
                if inner == inner_ops {
                    let again = second.journal.committed();
                    assert!(
                        again >= reached,
                        "what a finished recovery showed stays ({what})"
                    );
                }
            }
        }
    }
}

#[test]
fn recovery_is_idempotent() {
    let recorded = record(6, 40);
    let ops = recorded.vfs.ops_len();
    for at in (0..=ops).step_by(5) {
        let image = recorded.vfs.image(at, Cut::Random(at as u64), false);
        let first = recover(&image, 1000, &recorded, at, "first");
        let (reached, live) = (first.journal.committed(), first.live.clone());
        first.journal.shutdown();
        drop(first);
        for uuid in 1001..1004 {
            let again = recover(&image, uuid, &recorded, at, "again");
            assert_eq!((again.journal.committed(), &again.live), (reached, &live));
            again.journal.shutdown();
        }
    }
}

#[test]
fn a_journal_goes_on_after_a_crash_and_survives_the_next_one() {
    let recorded = record(7, 30);
    let ops = recorded.vfs.ops_len();
    for at in (0..=ops).step_by(11) {
        let image = recorded.vfs.image(at, Cut::Random(at as u64 + 5), true);
        let mut running = recover(&image, 1000, &recorded, at, "first");
        let mut model = Model::default();
        for (id, payload) in recorded.model.live(running.journal.committed()) {
            model.put(id, payload);
        }
        let id = running.put(&mut model, crate::history::payload(9, 900));
        running.step_all();
        let after = running.journal.committed();
        assert_eq!(after, journal::batch_of(id));
        for cut in [Cut::All, Cut::None] {
            let next = start(&image.image(image.ops_len(), cut, false), 2000).expect("it opens");
            assert_eq!(next.journal.committed(), after);
            next.check(&model);
        }
    }
}

#[test]
fn a_start_after_a_kill_makes_durable_what_it_shows() {
    // The killed process wrote, but perhaps did not sync; the next one sees it all, and then power fails.
    let recorded = record(8, 30);
    for at in (0..=recorded.vfs.ops_len()).step_by(3) {
        let seen = recorded.vfs.killed(at);
        let running = recover(&seen, 1000, &recorded, at, "after the kill");
        let shown = running.journal.committed();
        let end = seen.ops_len();
        for cut in [Cut::All, Cut::None, Cut::Random(at as u64 + 9)] {
            let after = seen.image(end, cut, false);
            let next = recover(
                &after,
                2000,
                &recorded,
                at,
                &format!("power fails then, {cut:?}"),
            );
            assert!(
                next.journal.committed() >= shown,
                "cut at {at}, {cut:?}: what was shown stays"
            );
        }
    }
}

#[test]
fn of_two_starts_that_died_before_their_epochs_had_lasting_names_the_second_is_not_left_alone() {
    let behind_the_link = |vfs: &MemVfs| {
        let is_link = |at: &usize| match vfs.op(*at) {
            Some(Op::Link(_, to)) => to.parent().is_some_and(|dir| dir.ends_with("epochs")),
            _ => false,
        };
        let link = (0..vfs.ops_len()).rev().find(is_link);
        link.expect("an epoch is published") + 1
    };
    let first = MemVfs::new(true);
    start(&first, 1).expect("opens");
    let second = first.killed(behind_the_link(&first));
    start(&second, 2).expect("opens");
    let at = behind_the_link(&second);
    for cut in cuts(&second, at, 8) {
        let image = second.image(at, cut, false);
        start(&image, 3).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
    }
}

#[test]
fn a_failed_write_anywhere_loses_nothing_confirmed() {
    for good in 0..90 {
        let vfs = MemVfs::new(false);
        vfs.fail_after(Some(good));
        let mut model = Model::default();
        let mut confirmed = 0;
        if let Ok(mut running) = start(&vfs, 1) {
            for n in 0..30 {
                running.put(&mut model, crate::history::payload(n, 2500));
                if n % 7 == 6 {
                    running.delete(&mut model, 2);
                }
                running.step_all();
                running.engine.renew_lease(|| 0);
            }
            confirmed = running.journal.committed();
            running.journal.shutdown();
        }
        vfs.fail_after(None);
        let again = start(&vfs, 2).unwrap_or_else(|error| panic!("{good} good writes: {error}"));
        assert!(again.journal.committed() >= confirmed, "{good} good writes");
        again.check(&model);
    }
}

#[test]
fn a_snapshot_is_durable_before_anything_is_reclaimed() {
    let vfs = MemVfs::new(true);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..40 {
        running.put(&mut model, crate::history::payload(n, 3000));
        if n > 2 {
            running.delete(&mut model, 0);
        }
        running.step_all();
    }
    let from = vfs.ops_len();
    let at_least = running.journal.committed();
    running.snapshot();
    running.journal.reclaim();
    assert!(running.journal.stats().recycled + running.journal.stats().unlinked > 0);
    for at in from..=vfs.ops_len() {
        for cut in cuts(&vfs, at, 2) {
            let image = vfs.image(at, cut, false);
            let again =
                start(&image, 2).unwrap_or_else(|error| panic!("cut at {at}, {cut:?}: {error}"));
            assert!(again.journal.committed() >= at_least);
            again.check(&model);
        }
    }
}
