//! The journal's recovery from damaged files.
//!
//! A history of confirmed batches lies in memory. The input says what happens to its files: bytes changed, ends cut off,
//! files gone, a piece copied over another. Then the journal is opened. It may refuse; it may cut a tail that it cannot tell
//! from a torn one; but what it hands out is what was written, in order, without a gap.

use std::{
    convert::Infallible,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use journal::{
    Config, MemVfs, Step,
    vfs::{Access, Vfs},
};

const DIR: &str = "/j";
const PUT: u8 = 1;

struct History {
    vfs: MemVfs,
    payloads: Vec<Bytes>,
    files: Vec<PathBuf>,
}

fn config() -> Config {
    Config {
        segment_len: 64 << 10,
        first_segment_len: 64 << 10,
        batch_len_max: 16 << 10,
        segments_ahead: 1,
        snapshot_every_bytes: 64 << 10,
        reserve_len: 0,
        space_low_bytes: 0,
        ..Config::default()
    }
}

/// Three epochs, several segments, a snapshot in the middle: its content is the number of records that it covers.
fn history() -> History {
    let vfs = MemVfs::new(false);
    let mut payloads = Vec::new();
    for epoch in 1..=3u128 {
        let (opened, mut engine) = open(&vfs, epoch).expect("nothing is damaged");
        for round in 0..12usize {
            for _ in 0..3 {
                let number = payloads.len();
                let len = [20, 200, 1500, 4000][number % 4];
                let text = format!("record {number} ").into_bytes();
                let payload: Bytes = text.into_iter().cycle().take(len).collect();
                let mut stage = opened.journal.stage();
                assert!(stage.reserve(&[payload.len()]));
                let id = stage.push(PUT, &payload, None);
                drop(stage);
                opened.journal.add_ref(id);
                payloads.push(payload);
            }
            while let Step::Committed(_) = engine.step() {}
            if epoch == 2 && round == 6 {
                let count = payloads.len() as u64;
                opened
                    .journal
                    .write_snapshot(opened.journal.committed(), |out| {
                        out.write_all(&count.to_le_bytes())
                    })
                    .expect("memory takes it");
            }
        }
        opened.journal.shutdown();
    }
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(DIR)];
    while let Some(folder) = folders.pop() {
        for name in vfs.list(&folder).expect("it is there") {
            let path = folder.join(name);
            if vfs.open(&path, Access::Read, false).is_ok() {
                files.push(path);
            } else {
                folders.push(path);
            }
        }
    }
    files.sort();
    files.dedup();
    assert!(files.len() > 5, "{files:?}");
    History {
        vfs,
        payloads,
        files,
    }
}

fn open(
    vfs: &MemVfs,
    uuid: u128,
) -> Result<(journal::Opened, journal::Engine), journal::OpenError> {
    let vfs = Arc::new(vfs.clone());
    journal::open_stepped(vfs, Path::new(DIR), config(), 1, uuid.to_be_bytes())
}

/// Takes bytes of the input.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let bytes = [self.byte()?, self.byte()?, self.byte()?];
        Some(u64::from(bytes[0]) | u64::from(bytes[1]) << 8 | u64::from(bytes[2]) << 16)
    }
}

pub(crate) fn recovery(input: &[u8]) {
    static HISTORY: OnceLock<History> = OnceLock::new();
    let history = HISTORY.get_or_init(history);
    let vfs = history.vfs.copy();
    let mut script = Script(input);
    // At most 16 damages: more only hide each other.
    for _ in 0..16 {
        if damage(&vfs, &history.files, &mut script).is_none() {
            break;
        }
    }
    let Ok((mut opened, _engine)) = open(&vfs, 99) else {
        return;
    };
    let mut next = 0;
    if let Some(mut snapshot) = opened.replay.snapshot() {
        let mut bytes = Vec::new();
        // A snapshot that turns out to be damaged while it is read is a refusal to start.
        if snapshot.read_to_end(&mut bytes).is_err() {
            return;
        }
        let count = <[u8; 8]>::try_from(&bytes[..]).expect("a snapshot is as it was written");
        next = usize::try_from(u64::from_le_bytes(count)).expect("small");
        assert!(next <= history.payloads.len());
    }
    let replayed = opened.replay.for_each(|_, kind, payload| {
        assert_eq!(kind, PUT);
        assert_eq!(
            Some(&payload),
            history.payloads.get(next),
            "record {next} is not what was written"
        );
        next += 1;
        Ok::<_, Infallible>(())
    });
    // A replay may stop at damage; what it gave until there was checked.
    drop(replayed);
}

/// One damage. `None` when the input is at its end.
fn damage(vfs: &MemVfs, files: &[PathBuf], script: &mut Script<'_>) -> Option<()> {
    let what = script.byte()?;
    let path = &files[usize::from(script.byte()?) % files.len()];
    let Ok(file) = vfs.open(path, Access::Write, false) else {
        // It has been removed.
        return Some(());
    };
    let len = file.len().expect("an open file has a length");
    let at = script.number()? % len.max(1);
    match what % 5 {
        0 | 1 => {
            let count = u64::from(script.byte()? % 16) + 1;
            let mut bytes = vec![0; usize::try_from(count.min(len - at)).expect("small")];
            file.read_at(&mut bytes, at).expect("memory is read");
            for byte in &mut bytes {
                *byte = if what % 5 == 0 {
                    *byte ^ script.byte()?
                } else {
                    script.byte()?
                };
            }
            file.write_at(&bytes, at).expect("memory takes it");
        }
        2 => vfs.truncate(path, usize::try_from(at).expect("small")),
        3 => vfs.unlink(path).expect("it is there"),
        _ => {
            let from = &files[usize::from(script.byte()?) % files.len()];
            let Ok(from) = vfs.open(from, Access::Read, false) else {
                return Some(());
            };
            // Blocks, as a disk confuses them.
            let (source, to) = (script.number()? / 4096 * 4096, at / 4096 * 4096);
            let mut block = vec![0; 4096];
            let read = from.read_at(&mut block, source).expect("memory is read");
            file.write_at(&block[..read], to).expect("memory takes it");
        }
    }
    Some(())
}
