//! A damaged journal, and an operator who gives up what the damage costs: no more than that, durably, and told.

use std::path::PathBuf;
use std::sync::Arc;

use journal::vfs::{MemVfs, Vfs};
use journal::{Config, Loss};
use message::StoredId;

use crate::history::{
    Dice, Model, Running, config, dir, live_ids, payload, record, start, try_live_ids,
};

fn accepting() -> Config {
    Config {
        accept_loss: true,
        ..config()
    }
}

/// Opens whatever of it can be read. References into what is lost dangle, and are for the node to drop.
fn open(vfs: &MemVfs, uuid: u128, config: Config) -> Result<Running, String> {
    let (opened, engine) =
        journal::open_stepped(Arc::new(vfs.clone()), dir(), config, 5, uuid.to_be_bytes())
            .map_err(|error| error.to_string())?;
    let live = try_live_ids(opened.replay)?;
    for &id in &live {
        opened.journal.add_ref(id);
    }
    Ok(Running {
        journal: opened.journal,
        engine,
        live,
        epoch: opened.epoch,
    })
}

/// Batches of one record and one block each, of which every second is deleted again in the end.
fn journal_of(batches: u64) -> (MemVfs, Model) {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("a new journal opens");
    for n in 0..batches {
        running.put(&mut model, payload(n, 3000));
        running.step_all();
    }
    running.journal.shutdown();
    (vfs, model)
}

fn segments(vfs: &MemVfs) -> Vec<PathBuf> {
    let mut names = vfs.list(&dir().join("seg")).expect("listed");
    names.sort_by_key(|name| {
        let mut parts = name.split('-').map(|part| part.parse::<u64>().unwrap_or(0));
        (parts.next(), parts.next())
    });
    let names = names.into_iter();
    names.map(|name| dir().join("seg").join(name)).collect()
}

fn is_lost(losses: &[Loss], batch: u64) -> bool {
    let mut ranges = losses.iter().filter_map(Loss::batches);
    ranges.any(|(first, last)| (first..=last).contains(&batch))
}

/// Refused without the operator's word; with it everything is there but these batches, then and at every start after.
fn gives_up(vfs: &MemVfs, model: &Model, lost: &[u64], words: &str) {
    let refused = open(vfs, 50, config()).err();
    let seen = journal::assess(Arc::new(vfs.clone()), dir(), config(), [51; 16]).expect("assessed");
    let told: Vec<_> = seen.damage.iter().map(ToString::to_string).collect();
    let running = open(vfs, 52, accepting()).expect("it opens");
    assert_eq!(
        running.journal.given_up().len(),
        told.len(),
        "{told:?} was told, {:?} given up",
        running.journal.given_up()
    );
    assert!(told.iter().any(|told| told.contains(words)), "{told:?}");
    if let Some(refused) = refused {
        let said = refused.contains("damaged");
        assert!(said, "{refused}");
    }
    assert!(
        running
            .journal
            .given_up()
            .iter()
            .all(|loss| loss.given_up_ms == 5)
    );
    check(&running, model, lost);
    running.journal.shutdown();
    // And the option is not needed again.
    for uuid in 53..55 {
        let mut again = open(vfs, uuid, config()).expect("it opens");
        assert_eq!(again.journal.given_up().len(), told.len());
        check(&again, model, lost);
        // The snapshot maker passes over the same.
        let replay = again.journal.replay().expect("a replay");
        assert_eq!(live_ids(replay), again.live);
        let id = again.put(&mut Model::default(), payload(uuid as u64, 50));
        again.step_all();
        assert!(again.journal.read(id).is_ok());
        again.live.pop();
        again.journal.drop_ref(id);
        let mut stage = again.journal.stage();
        stage.push(crate::history::DEL, &id.0.to_le_bytes(), None);
        drop(stage);
        again.step_all();
        again.journal.shutdown();
    }
    let report = journal::assess(Arc::new(vfs.clone()), dir(), config(), [56; 16]).expect("read");
    assert_eq!(report.damage, [], "nothing more is found");
}

fn check(running: &Running, model: &Model, lost: &[u64]) {
    let losses = running.journal.given_up();
    for batch in 1..=40 {
        assert_eq!(
            is_lost(losses, batch),
            lost.contains(&batch),
            "{batch} in {losses:?}"
        );
    }
    let expected: Vec<StoredId> = model
        .live(u64::MAX)
        .into_keys()
        .filter(|id| !lost.contains(&journal::batch_of(*id)))
        .collect();
    assert_eq!(running.live, expected);
    for (id, payload) in model.live(u64::MAX) {
        if !lost.contains(&journal::batch_of(id)) {
            assert_eq!(running.journal.read(id).expect("it is there").1, payload);
        }
    }
}

#[test]
fn a_bad_batch_between_good_ones() {
    let (vfs, model) = journal_of(5);
    vfs.flip(&segments(&vfs)[0], 4096 * 2 + 200);
    gives_up(
        &vfs,
        &model,
        &[2],
        "does not match its digest; batch 2, 1 records",
    );
    // A header, and what follows it.
    let (vfs, model) = journal_of(5);
    vfs.flip(&segments(&vfs)[0], 4096 * 2 + 20);
    vfs.flip(&segments(&vfs)[0], 4096 * 3 + 200);
    gives_up(
        &vfs,
        &model,
        &[2, 3],
        "no batch header; batches 2 to 3, 2 records",
    );
}

#[test]
fn bad_batches_in_sealed_segments_the_first_and_the_last_among_them() {
    let (vfs, model) = journal_of(40);
    let paths = segments(&vfs);
    vfs.flip(&paths[0], 4096 + 200);
    vfs.flip(&paths[0], 4096 * 5 + 200);
    vfs.flip(&paths[1], 4096 + 20);
    // The last batch in front of the trailer.
    vfs.flip(&paths[0], 4096 * 14 + 200);
    gives_up(&vfs, &model, &[1, 5, 14, 15], "(epoch 1)");
}

#[test]
fn a_bad_segment_header_costs_nothing() {
    let (vfs, model) = journal_of(40);
    for path in segments(&vfs).into_iter().take(3) {
        vfs.flip(&path, 60);
    }
    gives_up(
        &vfs,
        &model,
        &[],
        "header does not match its checksum; no batch",
    );
}

#[test]
fn a_bad_segment_header_and_the_first_batch_behind_it() {
    let (vfs, model) = journal_of(40);
    vfs.flip(&segments(&vfs)[1], 60);
    vfs.flip(&segments(&vfs)[1], 4096 + 20);
    gives_up(
        &vfs,
        &model,
        &[15],
        "the next segment begins behind batch 15; batch 15",
    );
}

#[test]
fn a_lost_segment_costs_its_batches() {
    let (vfs, model) = journal_of(40);
    vfs.unlink(&segments(&vfs)[1]).expect("unlinked");
    let lost: Vec<u64> = (15..=28).collect();
    gives_up(
        &vfs,
        &model,
        &lost,
        "neither in a segment nor in a usable snapshot; batches 15 to 28",
    );
    let (vfs, model) = journal_of(40);
    vfs.unlink(&segments(&vfs)[0]).expect("unlinked");
    let lost: Vec<u64> = (1..=14).collect();
    gives_up(&vfs, &model, &lost, "batches 1 to 14");
}

#[test]
fn a_segment_that_is_cut_short_costs_what_is_cut() {
    let (vfs, model) = journal_of(40);
    vfs.truncate(&segments(&vfs)[0], 4096 * 12);
    gives_up(&vfs, &model, &[12, 13, 14], "cut short");
}

#[test]
fn what_only_a_lease_or_a_snapshot_knows_of_is_lost_by_number() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..3 {
        running.put(&mut model, payload(n, 100));
        running.step_all();
    }
    running.engine.renew_lease(|| 0);
    running.journal.shutdown();
    vfs.flip(&segments(&vfs)[0], 4096 * 3 + 200);
    gives_up(&vfs, &model, &[3], "batch 3");

    // The only segment of the last epoch is gone.
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..3 {
        running.put(&mut model, payload(n, 100));
        running.step_all();
    }
    running.engine.renew_lease(|| 0);
    running.journal.shutdown();
    vfs.unlink(&segments(&vfs)[0]).expect("unlinked");
    gives_up(
        &vfs,
        &model,
        &[1, 2, 3],
        "first segment of the last epoch is missing",
    );
}

#[test]
fn what_a_snapshot_covers_is_state_still_though_its_batch_is_lost() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..4 {
        running.put(&mut model, payload(n, 3000));
        running.snapshot();
    }
    running.put(&mut model, payload(9, 3000));
    running.step_all();
    running.journal.shutdown();
    vfs.flip(&segments(&vfs)[0], 4096 * 2 + 200);
    vfs.flip(&segments(&vfs)[0], 4096 * 4 + 200);
    let running = open(&vfs, 2, accepting()).expect("opens");
    assert_eq!(running.live.len(), 5, "the snapshot knows of all");
    let readable = |running: &Running| -> Vec<bool> {
        let read = |id: &StoredId| running.journal.read(*id).is_ok();
        running.live.iter().map(read).collect()
    };
    assert_eq!(readable(&running), [true, false, true, false, true]);
    running.journal.shutdown();
    let again = open(&vfs, 3, config()).expect("opens");
    assert_eq!(readable(&again), [true, false, true, false, true]);
}

#[test]
fn no_usable_snapshot_costs_what_was_given_back() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..40 {
        running.put(&mut model, payload(n, 3000));
        if n < 30 {
            running.delete(&mut model, 0);
        }
        running.step_all();
    }
    running.snapshot();
    running.journal.reclaim();
    running.journal.shutdown();
    for name in vfs.list(&dir().join("snap")).expect("listed") {
        vfs.flip(&dir().join("snap").join(name), 10);
    }
    let kept = segments(&vfs);
    assert!(open(&vfs, 2, config()).is_err());
    let running = open(&vfs, 3, accepting()).expect("opens");
    assert!(!kept.is_empty());
    let ids = running.live.clone();
    assert!(!ids.is_empty());
    for id in ids {
        assert!(running.journal.read(id).is_ok());
    }
    running.journal.shutdown();
    open(&vfs, 4, config()).expect("opens without the option");
}

#[test]
fn what_says_whose_it_is_cannot_be_given_up() {
    for damage in ["FORMAT", "epochs/1"] {
        let (vfs, _) = journal_of(3);
        vfs.flip(&dir().join(damage), 40);
        let refused = open(&vfs, 2, accepting()).err().expect("refused");
        assert!(refused.contains(damage), "{refused}");
    }
    let (vfs, _) = journal_of(3);
    let fence = vfs.list(&dir().join("fence")).expect("listed").remove(0);
    vfs.unlink(&dir().join("fence").join(fence))
        .expect("unlinked");
    assert!(open(&vfs, 2, accepting()).is_err());
}

#[test]
fn a_whole_journal_has_nothing_to_give_up() {
    let (vfs, model) = journal_of(40);
    let mut running = open(&vfs, 2, accepting()).expect("opens");
    running.check(&model);
    assert!(running.journal.given_up().is_empty());
    assert!(vfs.list(&dir().join("lost")).is_err(), "no note is made");
    running.live.clear();
    // A torn tail is no loss either.
    let (vfs, mut model) = journal_of(3);
    vfs.flip(&segments(&vfs)[0], 4096 * 3 + 200);
    let running = open(&vfs, 2, accepting()).expect("opens");
    assert!(running.journal.given_up().is_empty());
    model.forget_behind(2);
    running.check(&model);
}

/// Whatever is damaged wherever: what is not in a batch that is told to be lost is there.
#[test]
fn any_damage_costs_only_what_is_told() {
    let rounds = if cfg!(debug_assertions) { 150 } else { 3_000 };
    let (mut refused, mut accepted) = (0, 0);
    for seed in 0..rounds {
        let recorded = record(seed, 60);
        let vfs = recorded.vfs.copy();
        let mut dice = Dice(seed * 2 + 77);
        for _ in 0..=dice.below(4) {
            let paths = segments(&vfs);
            let path = &paths[dice.below(paths.len() as u64) as usize];
            match dice.below(8) {
                0 => vfs.truncate(path, 4096 * dice.below(16) as usize),
                1 => vfs.unlink(path).expect("unlinked"),
                2 => vfs.flip(path, dice.below(152) as usize),
                _ => {
                    let len = vfs
                        .open(path, journal::vfs::Access::Read, false)
                        .and_then(|file| file.len())
                        .expect("it is there");
                    if len > 0 {
                        vfs.flip(path, dice.below(len) as usize);
                    }
                }
            }
            if segments(&vfs).is_empty() {
                break;
            }
        }
        let strict = open(&vfs.copy(), 900, config()).is_err();
        refused += u32::from(strict);
        let running = open(&vfs, 901, accepting()).unwrap_or_else(|error| {
            panic!("seed {seed}: {error}");
        });
        let losses = running.journal.given_up().to_vec();
        accepted += u32::from(!losses.is_empty());
        // Every batch that was confirmed and is not told to be lost has happened.
        let confirmed = recorded.confirmed_at(usize::MAX);
        let expected = recorded.model.live(confirmed);
        for (id, payload) in &expected {
            let batch = journal::batch_of(*id);
            // Behind the last whole batch nothing says that there were more.
            if is_lost(&losses, batch) || batch > running.journal.committed() {
                continue;
            }
            match running.journal.read(*id) {
                Ok((_, read)) => assert_eq!(&read, payload, "seed {seed}"),
                // It was moved, and its copy is lost; or its file is gone, and a snapshot has all but the body.
                Err(error) => {
                    let dangling = running.journal.stats().dangling;
                    assert!(!losses.is_empty() || dangling > 0, "seed {seed}: {error}");
                }
            }
        }
        let live = running.live.clone();
        running.journal.shutdown();
        let again = open(&vfs, 902, config())
            .unwrap_or_else(|error| panic!("seed {seed}: the second start: {error}; {losses:#?}"));
        assert_eq!(again.live, live, "seed {seed}");
    }
    assert!(refused > 20 && accepted > 20, "{refused} {accepted}");
}

/// A note is in force with the epoch for which it was written, and not before that is published, nor if another node took it.
#[test]
fn a_note_of_an_epoch_that_is_not_its_writers_gives_up_nothing() {
    let (vfs, model) = journal_of(5);
    vfs.flip(&segments(&vfs)[0], 4096 * 2 + 200);
    let running = open(&vfs, 50, accepting()).expect("it opens");
    check(&running, &model, &[2]);
    running.journal.shutdown();
    let lost = dir().join("lost");
    let note = |epoch: u64, writer: u128| lost.join(format!("{epoch}-0-{writer:032x}"));
    let (written, others, later) = (note(2, 50), note(2, 51), note(9, 50));
    for other in [&others, &later] {
        vfs.rename(&written, other).expect("renamed");
        let refused = open(&vfs, 52, config()).err().expect("damaged");
        assert!(refused.contains("damaged"), "{refused}");
        vfs.rename(other, &written).expect("renamed");
    }
    let running = open(&vfs, 53, config()).expect("it opens");
    check(&running, &model, &[2]);
    running.journal.shutdown();
}

/// The damaged segment has a second name, under which it stays.
#[test]
fn a_damaged_segment_is_kept() {
    let (vfs, _) = journal_of(5);
    let damaged = segments(&vfs)[0].clone();
    vfs.flip(&damaged, 4096 * 2 + 200);
    vfs.flip(&damaged, 4096 * 4 + 200);
    let running = open(&vfs, 50, accepting()).expect("it opens");
    let losses = running.journal.given_up().to_vec();
    running.journal.shutdown();
    assert_eq!(losses.len(), 2);
    for loss in &losses {
        let kept = loss.kept().expect("its file was there");
        let read = |path: &std::path::Path| {
            let file = vfs.open(path, journal::vfs::Access::Read, false);
            let file = file.expect("it is there");
            let mut bytes = vec![0; file.len().expect("known") as usize];
            file.read_at(&mut bytes, 0).expect("readable");
            bytes
        };
        assert!(kept.starts_with(dir().join("lost")), "{kept:?}");
        assert_eq!(read(&kept), read(&damaged));
    }
}

/// Damage around what was given up before makes one run of batches with it.
#[test]
fn what_is_given_up_later_may_lie_around_what_was_before() {
    // The last batch is in no header proven, and goes on in the next epoch.
    let (vfs, _) = journal_of(7);
    let damaged = segments(&vfs)[0].clone();
    let mut runs = Vec::new();
    for (uuid, batches) in [(50, &[3][..]), (51, &[2, 4]), (52, &[6])] {
        for batch in batches {
            vfs.flip(&damaged, 4096 * batch + 200);
        }
        let running = open(&vfs, uuid, accepting()).expect("it opens");
        runs.push(running.journal.given_up_batches());
        assert!(
            runs.last()
                .iter()
                .all(|runs| running.journal.covers_any(runs[0]))
        );
        running.journal.shutdown();
    }
    assert_eq!(runs, [vec![(3, 3)], vec![(2, 4)], vec![(2, 4), (6, 6)]]);
}
