//! One test for each row of the recovery table.

use std::path::PathBuf;

use journal::vfs::{Access, MemVfs, Vfs};
use journal::{Corruption, OpenError};

use crate::history::{Model, config, dir, payload, start, start_with};

/// A journal with `batches` batches of one record each, shut down; every record takes one block.
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

/// Segment files by name, in order of epoch and number.
fn segments(vfs: &MemVfs) -> Vec<PathBuf> {
    let mut names = vfs.list(&dir().join("seg")).expect("listed");
    names.sort_by_key(|name| {
        let mut parts = name.split('-').map(|part| part.parse::<u64>().unwrap_or(0));
        (parts.next(), parts.next())
    });
    names
        .into_iter()
        .map(|name| dir().join("seg").join(name))
        .collect()
}

fn corruption(vfs: &MemVfs) -> Corruption {
    match start(vfs, 99) {
        Err(OpenError::Corrupt(corruption)) => corruption,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("damage was accepted"),
    }
}

fn only(vfs: &MemVfs, folder: &str) -> PathBuf {
    let names = vfs.list(&dir().join(folder)).expect("listed");
    assert_eq!(names.len(), 1, "{names:?}");
    dir().join(folder).join(&names[0])
}

#[test]
fn a_new_directory_is_made_and_opens_again() {
    let (vfs, model) = journal_of(0);
    start(&vfs, 2).expect("opens").check(&model);
}

#[test]
fn a_torn_tail_is_cut() {
    let (vfs, mut model) = journal_of(3);
    // The third batch's payload is damaged, and nothing but the batch itself says that it was durable.
    vfs.flip(&segments(&vfs)[0], 4096 * 3 + 200);
    let running = start(&vfs, 2).expect("opens");
    assert_eq!(running.journal.committed(), 2);
    model.forget_behind(2);
    running.check(&model);
}

#[test]
fn rules_19_an_unproven_batch_is_adopted_and_keeps_its_ids() {
    let (vfs, model) = journal_of(3);
    let running = start(&vfs, 2).expect("opens");
    assert_eq!(running.journal.committed(), 3);
    running.check(&model);
    // The copy counts: the original may rot.
    vfs.flip(&segments(&vfs)[0], 4096 * 3 + 200);
    running.check(&model);
    running.journal.shutdown();
    // And it is adopted only once, whatever happens afterwards.
    for uuid in 3..7 {
        let again = start(&vfs, uuid).expect("opens");
        again.check(&model);
        again.journal.shutdown();
    }
}

#[test]
fn a_bad_batch_in_front_of_a_good_one_is_damage() {
    let (vfs, _) = journal_of(3);
    let path = segments(&vfs)[0].clone();
    vfs.flip(&path, 4096 * 2 + 200);
    let found = corruption(&vfs);
    assert_eq!((found.path, found.offset), (path, 4096 * 2));
}

#[test]
fn a_bad_batch_that_the_lease_knows_to_be_durable_is_damage() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    running.put(&mut model, payload(1, 100));
    running.step_all();
    running.engine.renew_lease(|| 0);
    running.journal.shutdown();
    vfs.flip(&segments(&vfs)[0], 4096 + 200);
    assert!(
        corruption(&vfs)
            .what
            .contains("batch 1 is known to be durable")
    );
}

#[test]
fn a_bad_batch_that_a_snapshot_covers_is_damage() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    running.put(&mut Model::default(), payload(1, 100));
    running.snapshot();
    running.journal.shutdown();
    vfs.flip(&segments(&vfs)[0], 4096 + 200);
    assert!(corruption(&vfs).what.contains("known to be durable"));
}

#[test]
fn a_bad_batch_in_a_sealed_segment_is_damage_when_it_is_read() {
    let (vfs, _) = journal_of(40);
    let path = segments(&vfs)[0].clone();
    vfs.flip(&path, 4096 * 4 + 200);
    let config = config();
    let (opened, _engine) =
        journal::open_stepped(std::sync::Arc::new(vfs), dir(), config, 1, [9; 16])
            .expect("its tail is whole");
    let replayed = opened
        .replay
        .for_each(|_, _, _| Ok::<_, std::convert::Infallible>(()));
    let error = replayed.expect_err("it must not be skipped").to_string();
    assert!(error.contains("damaged at offset 16384"), "{error}");
}

#[test]
fn a_bad_segment_header_is_damage() {
    let (vfs, _) = journal_of(40);
    for path in segments(&vfs).into_iter().take(3) {
        vfs.flip(&path, 60);
        assert_eq!(corruption(&vfs).path, path);
        vfs.flip(&path, 60);
    }
    start(&vfs, 2).expect("undamaged it opens");
}

#[test]
fn a_torn_header_of_a_segment_about_to_be_used_is_garbage() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    running.put(&mut model, payload(1, 100));
    running.step_all();
    assert!(running.engine.prepare());
    running.journal.shutdown();
    vfs.flip(&segments(&vfs)[1], 60);
    start(&vfs, 2).expect("opens").check(&model);
}

#[test]
fn a_lost_first_segment_is_damage() {
    let (vfs, _) = journal_of(3);
    vfs.unlink(&segments(&vfs)[0]).expect("unlinked");
    assert!(corruption(&vfs).what.contains("first segment"));
}

#[test]
fn a_lost_segment_in_the_middle_is_damage() {
    let (vfs, _) = journal_of(40);
    vfs.unlink(&segments(&vfs)[1]).expect("unlinked");
    assert!(
        corruption(&vfs)
            .what
            .contains("neither in a segment nor in a usable snapshot")
    );
}

#[test]
fn a_lost_segment_behind_a_sealed_one_is_damage() {
    let (vfs, _) = journal_of(40);
    let last = segments(&vfs).pop().expect("some");
    vfs.unlink(&last).expect("unlinked");
    assert!(corruption(&vfs).what.contains("is missing"));
}

#[test]
fn a_truncated_segment_is_damage() {
    let (vfs, _) = journal_of(3);
    vfs.truncate(&segments(&vfs)[0], 4096 * 3);
    assert!(corruption(&vfs).what.contains("cut short"));
}

#[test]
fn rules_17_a_lost_epoch_record_is_damage() {
    let (vfs, _) = journal_of(1);
    start(&vfs, 2).expect("opens").journal.shutdown();
    vfs.unlink(&dir().join("epochs/1")).expect("unlinked");
    assert!(corruption(&vfs).path.ends_with("epochs/1"));
}

#[test]
fn a_bad_epoch_record_is_damage() {
    let (vfs, _) = journal_of(1);
    vfs.flip(&dir().join("epochs/1"), 40);
    assert!(corruption(&vfs).path.ends_with("epochs/1"));
}

#[test]
fn a_lost_or_bad_format_is_damage() {
    let (vfs, _) = journal_of(1);
    vfs.flip(&dir().join("FORMAT"), 20);
    assert!(corruption(&vfs).path.ends_with("FORMAT"));
    vfs.unlink(&dir().join("FORMAT")).expect("unlinked");
    assert!(corruption(&vfs).what.contains("missing"));
}

#[test]
fn a_set_fence_bit_is_set_for_good_and_harmless() {
    let (vfs, model) = journal_of(1);
    vfs.flip(&only(&vfs, "fence"), 77);
    start(&vfs, 2).expect("opens").check(&model);
}

#[test]
fn a_lost_fence_is_damage() {
    let (vfs, _) = journal_of(1);
    vfs.unlink(&only(&vfs, "fence")).expect("unlinked");
    assert!(corruption(&vfs).what.contains("fence"));
}

#[test]
fn another_claimants_files_are_garbage() {
    let (vfs, model) = journal_of(2);
    let stray = dir().join("seg/2-1-00000000000000aa");
    vfs.create_zeroed(&stray, 64 << 10, true).expect("made");
    vfs.open(&stray, Access::Write, false)
        .and_then(|file| file.write_durable(&[7; 4096], 0))
        .expect("written");
    let running = start(&vfs, 2).expect("opens");
    running.check(&model);
    // It is unlinked when nobody waits for the start any more; where the disk is nearly full, at once.
    assert!(segments(&vfs).contains(&stray));
    running.journal.reclaim();
    assert!(!segments(&vfs).contains(&stray));
    vfs.create_zeroed(&stray, 64 << 10, true).expect("made");
    running.journal.shutdown();
    vfs.set_free(Some(64 << 20));
    start(&vfs, 3).expect("opens").check(&model);
    assert!(!segments(&vfs).contains(&stray));
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_older_one() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..90 {
        running.put(&mut model, payload(n, 3000));
        if n > 2 {
            running.delete(&mut model, 0);
        }
        running.step_all();
        if n % 30 == 29 {
            running.snapshot();
            // Only what the older one covers is given back.
            running.journal.reclaim();
        }
    }
    running.journal.shutdown();
    let mut names = vfs.list(&dir().join("snap")).expect("listed");
    names.sort_by_key(|name| name.split('-').next().and_then(|n| n.parse::<u64>().ok()));
    assert_eq!(names.len(), 2, "two are kept");
    vfs.flip(&dir().join("snap").join(&names[1]), 100);
    let damaged = &names[1];
    let mut running = start(&vfs, 2).expect("opens");
    running.check(&model);
    // It stays for whoever wants to look at it until two whole ones are behind it.
    for n in 90..92 {
        let names = vfs.list(&dir().join("snap")).expect("listed");
        assert!(names.contains(damaged), "{names:?}");
        running.put(&mut model, payload(n, 3000));
        running.snapshot();
    }
    let names = vfs.list(&dir().join("snap")).expect("listed");
    assert!(names.len() == 2 && !names.contains(damaged), "{names:?}");
}

#[test]
fn without_a_usable_snapshot_reclaimed_batches_are_damage() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..40 {
        running.put(&mut model, payload(n, 3000));
        running.delete(&mut model, 0);
        running.step_all();
    }
    running.snapshot();
    running.journal.reclaim();
    assert!(running.journal.stats().unlinked + running.journal.stats().recycled > 0);
    running.journal.shutdown();
    vfs.flip(&only(&vfs, "snap"), 10);
    assert!(corruption(&vfs).what.contains("usable snapshot"));
}

/// The snapshot of another history of the same store, taken behind this batch, in ours.
fn with_a_foreign_snapshot(behind: u64) -> (MemVfs, Model) {
    let (vfs, model) = journal_of(4);
    let other = MemVfs::new(false);
    let mut running = start(&other, 1).expect("opens");
    for n in 0..behind {
        running.put(&mut Model::default(), payload(n + 70, 3000));
        running.step_all();
    }
    running.snapshot();
    running.journal.shutdown();
    let path = only(&other, "snap");
    let file = other.open(&path, Access::Read, false).expect("there");
    let mut bytes = vec![0; file.len().expect("known") as usize];
    file.read_at(&mut bytes, 0).expect("read");
    vfs.open(&path, Access::Create, false)
        .and_then(|copy| copy.write_durable(&bytes, 0))
        .expect("copied");
    (vfs, model)
}

#[test]
fn rules_21_a_snapshot_of_another_history_does_not_count() {
    for behind in [2, 3, 4] {
        let (vfs, model) = with_a_foreign_snapshot(behind);
        let running = start(&vfs, 2).expect("opens");
        running.check(&model);
        assert_eq!(running.journal.stats().snapshot, 0, "behind batch {behind}");
    }
}

#[test]
fn rules_24_a_newer_version_is_refused() {
    let (vfs, _) = journal_of(1);
    // FORMAT as the next version would write it: level 2, and a checksum that holds.
    let file = vfs
        .open(&dir().join("FORMAT"), Access::Write, false)
        .expect("there");
    let mut block = vec![0; 4096];
    file.read_at(&mut block, 0).expect("read");
    block[16] = 2;
    let end = 16 + usize::from(u16::from_le_bytes([block[8], block[9]]));
    let check = twox_hash::XxHash3_64::oneshot(&block[..end]);
    block[end..end + 8].copy_from_slice(&check.to_le_bytes());
    file.write_durable(&block, 0).expect("written");
    let Err(error) = start(&vfs, 2) else {
        panic!("it must be refused")
    };
    assert!(
        matches!(&error, OpenError::Newer { found: 2, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("newer version"));
}

#[test]
fn a_stale_salt_never_validates() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut running = start(&vfs, 1).expect("opens");
    for n in 0..60 {
        running.put(&mut model, payload(n, 3000));
        running.delete(&mut model, 0);
        running.step_all();
        if n % 10 == 9 {
            running.snapshot();
            running.journal.reclaim();
        }
    }
    assert!(
        running.journal.stats().recycled > 0,
        "segments were used again"
    );
    running.put(&mut model, payload(99, 10));
    running.step_all();
    running.journal.shutdown();
    start(&vfs, 2)
        .expect("old batches behind the tail are no batches")
        .check(&model);
}

#[test]
fn any_flipped_byte_is_noticed_or_harmless() {
    let (vfs, model) = journal_of(20);
    for path in segments(&vfs) {
        for offset in (0..64 << 10).step_by(509) {
            vfs.flip(&path, offset);
            let image = vfs.copy();
            vfs.flip(&path, offset);
            let opened = journal::open_stepped(
                std::sync::Arc::new(image.clone()),
                dir(),
                config(),
                1,
                [9; 16],
            );
            let Ok((opened, _engine)) = opened else {
                continue;
            };
            let committed = opened.journal.committed();
            let expected = model.live(committed);
            let mut seen = Vec::new();
            let replayed = opened.replay.for_each(|id, _, payload| {
                seen.push((id, payload));
                Ok::<_, std::convert::Infallible>(())
            });
            if replayed.is_ok() {
                assert!(
                    seen.into_iter().eq(expected),
                    "{} at {offset}",
                    path.display()
                );
                assert!(committed >= 19, "only an unproven batch may be cut");
            }
        }
    }
}

#[test]
fn large_unproven_batches_fit_the_first_segment_of_the_next_epoch() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let config = journal::Config {
        segment_len: 256 << 10,
        first_segment_len: 256 << 10,
        batch_len_max: 128 << 10,
        ..config()
    };
    let mut running = start_with(&vfs, 1, config.clone()).expect("opens");
    running.put(&mut model, payload(1, 120 << 10));
    running.step_all();
    running.journal.shutdown();
    let small = journal::Config {
        first_segment_len: 64 << 10,
        ..config
    };
    start_with(&vfs, 2, small).expect("opens").check(&model);
}

#[test]
fn a_start_over_more_segments_than_files_may_be_open_reads_them_all() {
    let vfs = MemVfs::new(false);
    let mut running = start(&vfs, 1).expect("opens");
    let mut number = 0;
    while running.journal.stats().segments < 300 {
        for _ in 0..4 {
            running.put(&mut Model::default(), payload(number, 12_000));
            number += 1;
        }
        running.step_all();
    }
    running.journal.shutdown();
    drop(running);
    vfs.set_open_max(Some(200));
    // In the last epoch, then in one that is closed.
    for nth in 2..4 {
        let running = start(&vfs, nth).expect("opens");
        assert_eq!(running.live.len() as u64, number);
        assert!(running.journal.stats().segments >= 300);
        running.journal.shutdown();
    }
}
