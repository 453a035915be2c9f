//! A scripted history with a model beside it: which records are live behind each batch, and what was confirmed when.
//!
//! Records are `PUT` (a payload that names itself) and `DEL` (the id of a put record). Moving, snapshots and restarts are part
//! of a script; whatever happens, the state behind batch n is what the first n batches say.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use journal::{Config, Engine, Journal, MemVfs, OpenError, Replay, SegmentId, Step};
use message::StoredId;

pub(crate) const PUT: u8 = 1;
pub(crate) const DEL: u8 = 2;

pub(crate) fn dir() -> &'static Path {
    Path::new("/j")
}

pub(crate) fn config() -> Config {
    Config {
        segment_len: 64 << 10,
        first_segment_len: 64 << 10,
        batch_len_max: 16 << 10,
        segments_ahead: 1,
        snapshot_every_bytes: 64 << 10,
        reserve_len: 0,
        space_low_bytes: 0,
        lease_ms: 400,
        ..Config::default()
    }
}

/// Small numbers that look like chance and are not.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

pub(crate) type Live = BTreeMap<StoredId, Bytes>;

/// What each batch changed: put, or deleted.
#[derive(Default)]
pub(crate) struct Model {
    batches: BTreeMap<u64, Vec<(StoredId, Option<Bytes>)>>,
}

impl Model {
    pub(crate) fn put(&mut self, id: StoredId, payload: Bytes) {
        self.batches
            .entry(journal::batch_of(id))
            .or_default()
            .push((id, Some(payload)));
    }

    pub(crate) fn delete(&mut self, batch: u64, id: StoredId) {
        self.batches.entry(batch).or_default().push((id, None));
    }

    /// What is live behind this batch.
    pub(crate) fn live(&self, upto: u64) -> Live {
        let mut live = Live::new();
        for (id, payload) in self.batches.range(..=upto).flat_map(|(_, changes)| changes) {
            match payload {
                Some(payload) => live.insert(*id, payload.clone()),
                None => live.remove(id),
            };
        }
        live
    }

    /// Batches behind this one never happened.
    pub(crate) fn forget_behind(&mut self, upto: u64) {
        self.batches.retain(|&seq, _| seq <= upto);
    }
}

/// An open journal with the ids that its replay says are live.
pub(crate) struct Running {
    pub(crate) journal: Journal,
    pub(crate) engine: Engine,
    pub(crate) live: Vec<StoredId>,
    pub(crate) epoch: u64,
}

/// Reads a replay into the ids that are live at its end.
pub(crate) fn live_ids(replay: Replay) -> Vec<StoredId> {
    try_live_ids(replay).expect("the history is whole")
}

/// The same of a history that may be damaged.
pub(crate) fn try_live_ids(mut replay: Replay) -> Result<Vec<StoredId>, String> {
    let mut live = std::collections::BTreeSet::new();
    if let Some(mut snapshot) = replay.snapshot() {
        let mut bytes = Vec::new();
        snapshot
            .read_to_end(&mut bytes)
            .expect("a chosen snapshot is whole");
        live.extend(bytes.chunks(8).map(|id| StoredId(word(id))));
    }
    replay
        .for_each(|id, kind, payload| {
            match kind {
                PUT => live.insert(id),
                DEL => live.remove(&StoredId(word(&payload))),
                other => panic!("no record of kind {other} was written"),
            };
            Ok::<_, Infallible>(())
        })
        .map_err(|error| error.to_string())?;
    Ok(live.into_iter().collect())
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

pub(crate) fn start(vfs: &MemVfs, uuid: u128) -> Result<Running, OpenError> {
    start_with(vfs, uuid, config())
}

pub(crate) fn start_with(vfs: &MemVfs, uuid: u128, config: Config) -> Result<Running, OpenError> {
    let (opened, engine) =
        journal::open_stepped(Arc::new(vfs.clone()), dir(), config, 1, uuid.to_be_bytes())?;
    let live = live_ids(opened.replay);
    for &id in &live {
        opened.journal.add_ref(id);
    }
    assert_eq!(
        opened.journal.stats().dangling,
        0,
        "every live record has a place"
    );
    Ok(Running {
        journal: opened.journal,
        engine,
        live,
        epoch: opened.epoch,
    })
}

impl Running {
    /// Every live record can be read and is what was put.
    pub(crate) fn check(&self, model: &Model) {
        let committed = self.journal.committed();
        let expected = model.live(committed);
        let ids: Vec<StoredId> = expected.keys().copied().collect();
        assert_eq!(self.live, ids, "what is live behind batch {committed}");
        for (id, payload) in &expected {
            assert_eq!(
                &self.journal.read(*id).expect("a live record is readable").1,
                payload
            );
        }
    }

    pub(crate) fn put(&mut self, model: &mut Model, payload: Bytes) -> StoredId {
        let mut stage = self.journal.stage();
        let (head, body) = payload.split_at(payload.len().min(10));
        assert!(stage.reserve(&[payload.len()]));
        let id = stage.push(PUT, head, Some(payload.slice_ref(body)));
        drop(stage);
        self.journal.add_ref(id);
        model.put(id, payload);
        self.live.push(id);
        id
    }

    pub(crate) fn delete(&mut self, model: &mut Model, nth: usize) {
        let id = self.live.remove(nth);
        let mut stage = self.journal.stage();
        let record = stage.push(DEL, &id.0.to_le_bytes(), None);
        drop(stage);
        self.journal.drop_ref(id);
        model.delete(journal::batch_of(record), id);
    }

    pub(crate) fn step_all(&mut self) {
        while let Step::Committed(_) = self.engine.step() {}
    }

    /// A snapshot of what is committed; everything staged is committed first.
    pub(crate) fn snapshot(&mut self) {
        self.step_all();
        let live = self.live.clone();
        self.journal
            .write_snapshot(self.journal.committed(), |out| {
                live.iter()
                    .try_for_each(|id| out.write_all(&id.0.to_le_bytes()))
            })
            .expect("the snapshot is written");
    }

    /// Moves the survivors of every sparse segment, then gives back what is dead. Returns how many were moved.
    pub(crate) fn compact(&mut self) -> usize {
        let mut moved = 0;
        for (segment, _) in self.journal.sparse_segments() {
            moved += self.empty(segment);
        }
        self.step_all();
        self.journal.reclaim();
        self.journal.give_back_spares();
        moved
    }

    /// Moves the survivors of a segment, which are in order. Returns how many there were.
    pub(crate) fn empty(&mut self, segment: SegmentId) -> usize {
        let mut survivors = Vec::new();
        let live = &self.live;
        self.journal
            .read_segment(segment, |id, kind, payload| {
                if live.binary_search(&id).is_ok() {
                    survivors.push((id, kind, payload));
                }
            })
            .expect("the segment is readable");
        let moved = survivors.len();
        for (id, kind, payload) in survivors {
            self.journal.stage().push_moved(id, kind, payload);
        }
        self.journal.evacuated(segment);
        moved
    }
}

/// A payload that names itself.
pub(crate) fn payload(number: u64, len: usize) -> Bytes {
    let mut bytes = format!("message {number} ").into_bytes();
    let mut dice = Dice(number + 1);
    bytes.resize_with(bytes.len() + len, || dice.below(256) as u8);
    bytes.into()
}

/// What a script leaves to be cut.
pub(crate) struct Recorded {
    pub(crate) vfs: MemVfs,
    pub(crate) model: Model,
    /// From this many operations on, this batch is confirmed.
    pub(crate) confirmed: Vec<(usize, u64)>,
}

impl Recorded {
    pub(crate) fn confirmed_at(&self, ops: usize) -> u64 {
        let known = self.confirmed.iter().take_while(|(at, _)| *at <= ops);
        known.map(|(_, seq)| *seq).max().unwrap_or(0)
    }
}

/// Runs a script made of `turns` turns.
pub(crate) fn record(seed: u64, turns: u64) -> Recorded {
    let vfs = MemVfs::new(true);
    let mut model = Model::default();
    let mut confirmed = Vec::new();
    let mut dice = Dice(seed * 2 + 1);
    let mut starts = 1;
    let mut running = start(&vfs, starts).expect("a new journal opens");
    for turn in 0..turns {
        match dice.below(20) {
            0..=9 => {
                for n in 0..=dice.below(3) {
                    let len = [5, 100, 700, 5000][dice.below(4) as usize];
                    running.put(&mut model, payload(turn * 10 + n, len));
                }
            }
            10..=15 => {
                for _ in 0..dice.below(4) {
                    if !running.live.is_empty() {
                        let nth = dice.below(running.live.len() as u64) as usize;
                        running.delete(&mut model, nth);
                    }
                }
            }
            16 => running.snapshot(),
            17 => {
                running.compact();
            }
            18 => running.engine.renew_lease(|| 0),
            _ => {
                running.step_all();
                confirmed.push((vfs.ops_len(), running.journal.committed()));
                running.journal.shutdown();
                starts += 1;
                running = start(&vfs, starts).expect("it opens again");
                running.check(&model);
            }
        }
        if dice.below(3) > 0 {
            while let Step::Committed(seq) = running.engine.step() {
                confirmed.push((vfs.ops_len(), seq));
            }
            assert_eq!(running.journal.failure(), None);
        }
        confirmed.push((vfs.ops_len(), running.journal.committed()));
    }
    Recorded {
        vfs,
        model,
        confirmed,
    }
}
