//! What rots while it lies there is found before it is needed, told once, and copied forward where that can be.

use journal::vfs::{MemVfs, Vfs};
use journal::{Config, Found, Scrubber};

use crate::history::{Model, Running, config, dir, payload, start, start_with};
use crate::standby::Follower;

fn pass(running: &Running) -> Vec<Found> {
    rest_of(&mut Scrubber::new(running.journal.clone()))
}

fn rest_of(scrubber: &mut Scrubber) -> Vec<Found> {
    let mut found = Vec::new();
    while let Some((_, more)) = scrubber.turn() {
        found.extend(more);
    }
    found
}

/// Three segments of batches of three records, with two snapshots, and what is in memory of them.
fn filled(cache_bytes_max: usize) -> (MemVfs, Model, Running) {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let config = Config {
        cache_bytes_max,
        ..config()
    };
    let mut running = start_with(&vfs, 1, config).expect("opens");
    for n in 0..40 {
        for k in 0..3 {
            running.put(&mut model, payload(n * 3 + k, 900));
        }
        running.step_all();
        if n % 15 == 14 {
            running.snapshot();
        }
    }
    (vfs, model, running)
}

#[test]
fn a_whole_journal_has_no_damage() {
    let (_, _, running) = filled(1 << 20);
    assert_eq!(pass(&running), []);
    let health = running.journal.health();
    assert_eq!((health.damages, health.passes), (0, 1));
    assert!(
        health.scrubbed_bytes > 100 << 10,
        "{}",
        health.scrubbed_bytes
    );
}

#[test]
fn a_flipped_bit_is_found_and_told_once() {
    let (vfs, _, running) = filled(0);
    let mut names = vfs.list(&dir().join("seg")).expect("listed");
    names.sort_by_key(|name| name.split('-').nth(1).and_then(|n| n.parse::<u64>().ok()));
    let first = dir().join("seg").join(&names[0]);
    vfs.flip(&first, 4096 * 3 + 1500);
    vfs.flip(&first, 70);
    let snapshots = vfs.list(&dir().join("snap")).expect("listed");
    vfs.flip(&dir().join("snap").join(&snapshots[0]), 80);
    let found = pass(&running);
    let mut told: Vec<_> = found
        .iter()
        .map(|found| {
            (
                found.path.clone(),
                found.offset,
                found.batches,
                found.is_snapshot,
            )
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            (first.clone(), 0, None, false),
            (first, 4096 * 3, Some((3, 3)), false),
            (dir().join("snap").join(&snapshots[0]), 72, None, true),
        ]
    );
    assert_eq!(running.journal.health().damages, 3);
    assert_eq!(pass(&running), [], "it is known");
    assert_eq!(running.journal.health().damages, 3);
}

/// More than are listed: each is told and counted once all the same, and what was rescued of it is not rescued again.
#[test]
fn of_much_damage_each_place_is_told_once() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let config = Config {
        cache_bytes_max: 0,
        ..config()
    };
    let mut running = start_with(&vfs, 1, config).expect("opens");
    for n in 0..300 {
        for k in 0..2 {
            running.put(&mut model, payload(n * 2 + k, 900));
        }
        running.step_all();
    }
    let mut flipped = 0;
    for name in vfs.list(&dir().join("seg")).expect("listed") {
        let path = dir().join("seg").join(name);
        // In the first record of every other batch, each of which is one block.
        for block in (1..15).step_by(2) {
            vfs.flip(&path, 4096 * block + 1_000);
            flipped += 1;
        }
    }
    assert!(flipped > 120, "{flipped}");
    let found = pass(&running);
    assert!(found.len() > 110, "{} are found", found.len());
    let health = running.journal.health();
    let damages = found.len() as u64;
    assert_eq!((health.found.len(), health.damages), (100, damages));
    assert!(!health.beyond);
    let (first, last) = found.last().and_then(|it| it.batches).expect("a batch");
    assert_eq!(first, last);
    let records = running.journal.salvage(last);
    assert_eq!(records.len(), 1);
    for (id, kind, payload) in records {
        running.journal.stage().push_moved(id, kind, payload);
    }
    running.step_all();
    assert_eq!(running.journal.salvage(last), [], "it is elsewhere");
    assert_eq!(pass(&running), [], "all of it is known");
    assert_eq!(running.journal.health().damages, damages);
    // What a reader meets of it, too; behind it nothing is sealed.
    let mut unreadable = 0;
    for (id, _) in model.live(last) {
        if let Err(error) = running.journal.read(id) {
            unreadable += 1;
            assert!(!running.journal.note_unreadable(error, Some(id)));
        }
    }
    assert_eq!(unreadable, damages);
    assert_eq!(running.journal.health().damages, damages);
}

#[test]
fn want_of_descriptors_is_no_damage_and_costs_no_snapshot() {
    let (vfs, model, running) = filled(0);
    let snapshots = vfs.list(&dir().join("snap")).expect("listed");
    vfs.set_open_max(Some(0));
    assert_eq!(pass(&running), []);
    // Files that nobody has open yet.
    let (id, _) = model.live(u64::MAX).into_iter().next().expect("one");
    if let Err(error) = running.journal.read(id) {
        assert!(!running.journal.note_unreadable(error, Some(id)));
    }
    assert_eq!(running.journal.health().damages, 0);
    // It comes in the middle of one.
    vfs.set_open_max(None);
    let mut scrubber = Scrubber::new(running.journal.clone());
    for turn in 0.. {
        vfs.set_open_max((turn % 2 == 1).then_some(0));
        match scrubber.turn() {
            Some((_, found)) => assert_eq!(found, []),
            None => break,
        }
    }
    vfs.set_open_max(None);
    assert_eq!(running.journal.health().damages, 0);
    assert_eq!(vfs.list(&dir().join("snap")).expect("listed"), snapshots);
    assert_eq!(pass(&running), []);
}

#[test]
fn damage_that_a_reader_has_met_is_counted_once_and_mended_by_the_scrubber() {
    let (vfs, model, running) = filled(0);
    let mut names = vfs.list(&dir().join("seg")).expect("listed");
    names.sort_by_key(|name| name.split('-').nth(1).and_then(|n| n.parse::<u64>().ok()));
    let path = dir().join("seg").join(&names[0]);
    // In the second and the third record of the third batch.
    vfs.flip(&path, 4096 * 3 + 128 + 1_000);
    vfs.flip(&path, 4096 * 3 + 128 + 2_000);
    let mut met = Vec::new();
    for (id, _) in model.live(u64::MAX) {
        if let Err(error) = running.journal.read(id) {
            met.push(running.journal.note_unreadable(error, Some(id)));
        }
    }
    assert_eq!(met, [true, false], "one batch");
    assert_eq!(running.journal.health().damages, 1);
    // What is left of it is still to be copied forward.
    let found = pass(&running);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].offset, found[0].batches),
        (4096 * 3, Some((3, 3)))
    );
    assert_eq!(running.journal.health().damages, 1);
    assert_eq!(running.journal.health().found, found);
    assert_eq!(pass(&running), [], "it is known");
    let (id, error) = model
        .live(u64::MAX)
        .into_iter()
        .find_map(|(id, _)| Some((id, running.journal.read(id).err()?)))
        .expect("it is still there");
    assert!(!running.journal.note_unreadable(error, Some(id)));
    assert_eq!(running.journal.health().damages, 1);
}

#[test]
fn what_can_be_read_of_a_damaged_batch_is_copied_forward() {
    for (cache, salvaged) in [(1 << 20, 3), (0, 2)] {
        let (vfs, model, mut running) = filled(cache);
        let mut names = vfs.list(&dir().join("seg")).expect("listed");
        names.sort_by_key(|name| name.split('-').nth(1).and_then(|n| n.parse::<u64>().ok()));
        let path = dir().join("seg").join(&names[0]);
        // In the second record of the third batch.
        vfs.flip(&path, 4096 * 3 + 128 + 1_000);
        assert_eq!(pass(&running).len(), 1);
        let records = running.journal.salvage(3);
        assert_eq!(records.len(), salvaged, "with {cache} bytes in memory");
        for (id, kind, payload) in records {
            running.journal.stage().push_moved(id, kind, payload);
        }
        running.step_all();
        running.journal.shutdown();
        drop(running);
        // Behind a snapshot nobody reads the damaged batch.
        let mut lost = 0;
        let running = start(&vfs, 2).expect("opens");
        for (id, payload) in model.live(u64::MAX) {
            match running.journal.read(id) {
                Ok((_, read)) => assert_eq!(read, payload),
                Err(_) => lost += 1,
            }
        }
        assert_eq!(lost, 3 - salvaged);
    }
}

#[test]
fn a_snapshot_that_was_given_up_is_made_anew() {
    let (vfs, model, mut running) = filled(0);
    let mut names = vfs.list(&dir().join("snap")).expect("listed");
    names.sort_by_key(|name| name.split('-').next().and_then(|n| n.parse::<u64>().ok()));
    let newest = dir().join("snap").join(names.last().expect("two"));
    vfs.flip(&newest, 80);
    let found = pass(&running);
    assert_eq!(found.len(), 1);
    running.journal.give_up_snapshot(&found[0].path);
    assert!(running.journal.snapshot_due());
    running.snapshot();
    assert_eq!(pass(&running), []);
    running.journal.shutdown();
    drop(running);
    start(&vfs, 2).expect("opens").check(&model);
}

/// The active node gives segments back and uses their files again; the table of the standby does not show that for a while.
#[test]
fn what_the_active_node_has_given_back_is_no_damage_to_a_standby() {
    let vfs = MemVfs::new(false);
    let mut model = Model::default();
    let mut active = start(&vfs, 1).expect("opens");
    let fill = |active: &mut Running, model: &mut Model| {
        for n in 0..40 {
            for k in 0..3 {
                active.put(model, payload(n * 3 + k, 900));
            }
            active.step_all();
        }
    };
    fill(&mut active, &mut model);
    let mut follower = Follower::open(&vfs, 2);
    assert!(follower.poll());
    let journal = follower.standby.journal();
    let (mut begun, mut fresh) = (
        Scrubber::new(journal.clone()),
        Scrubber::new(journal.clone()),
    );
    begun.turn().expect("the first segment is open");
    let before = vfs.list(&dir().join("seg")).expect("listed");
    while !active.live.is_empty() {
        active.delete(&mut model, 0);
    }
    for _ in 0..2 {
        fill(&mut active, &mut model);
        active.snapshot();
    }
    active.compact();
    fill(&mut active, &mut model);
    assert!(active.journal.stats().recycled > 0, "files are used again");
    let after = vfs.list(&dir().join("seg")).expect("listed");
    let gone = before.iter().filter(|name| !after.contains(name)).count();
    assert!(gone > 2, "of {before:?} there are {after:?}");
    assert_eq!((rest_of(&mut begun), rest_of(&mut fresh)), (vec![], vec![]));
    assert_eq!(journal.health().damages, 0);
}
