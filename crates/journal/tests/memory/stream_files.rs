//! Stream files (RULES 25): records copied out of the journal. Whole or not read at all, and the originals stay until a
//! committed record names the copy.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use journal::vfs::{Access, Cut, Vfs};
use journal::{Journal, MemVfs, ReadError, Step, StreamFileId};
use message::StoredId;

use crate::history::{config, dir, payload};

const PUT: u8 = 1;
/// A file holds copies of these: number, ids.
const FILED: u8 = 2;
/// Nobody needs that file any more.
const UNFILED: u8 = 3;

/// What the records of a journal come to.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    live: BTreeSet<StoredId>,
    files: BTreeMap<u64, (StreamFileId, Vec<StoredId>)>,
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
        .collect()
}

fn put_id(id: &StreamFileId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.epoch.to_le_bytes());
    out.extend_from_slice(&id.number.to_le_bytes());
    out.extend_from_slice(&id.writer);
}

impl State {
    fn apply(&mut self, id: StoredId, kind: u8, bytes: &[u8]) {
        match kind {
            PUT => {
                self.live.insert(id);
            }
            FILED => {
                let head = words(&bytes[..16]);
                let file = StreamFileId {
                    epoch: head[0],
                    number: head[1],
                    writer: bytes[16..32].try_into().expect("a uuid"),
                };
                let ids: Vec<_> = words(&bytes[32..]).into_iter().map(StoredId).collect();
                for id in &ids {
                    assert!(self.live.remove(id), "filed once");
                }
                self.files.insert(file.number, (file, ids));
            }
            UNFILED => {
                self.files.remove(&words(bytes)[0]);
            }
            other => panic!("no record of kind {other} was written"),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(self.live.len() as u64).to_le_bytes());
        for id in &self.live {
            out.extend_from_slice(&id.0.to_le_bytes());
        }
        for (file, ids) in self.files.values() {
            put_id(file, &mut out);
            out.extend_from_slice(&(ids.len() as u64).to_le_bytes());
            for id in ids {
                out.extend_from_slice(&id.0.to_le_bytes());
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut state = Self::default();
        let count = words(&bytes[..8])[0] as usize;
        let (live, mut rest) = bytes[8..].split_at(count * 8);
        state.live = words(live).into_iter().map(StoredId).collect();
        while !rest.is_empty() {
            let head = words(&rest[..16]);
            let writer = rest[16..32].try_into().expect("a uuid");
            let count = words(&rest[32..40])[0] as usize;
            let (ids, behind) = rest[40..].split_at(count * 8);
            let file = StreamFileId {
                epoch: head[0],
                number: head[1],
                writer,
            };
            let ids = words(ids).into_iter().map(StoredId).collect();
            state.files.insert(file.number, (file, ids));
            rest = behind;
        }
        state
    }

    /// What is live can be read, and every file that is named is whole.
    fn check(&self, journal: &Journal, puts: &BTreeMap<StoredId, Bytes>, what: &str) {
        for id in &self.live {
            let (_, read) = journal
                .read(*id)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(&read, &puts[id], "{what}");
        }
        for (file, ids) in self.files.values() {
            let file = journal
                .open_stream_file(file)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            for shard in 0..2u32 {
                let mut cursor = file.cursor((7, shard), 0, 0);
                let mut found = Vec::new();
                while let Some(record) = cursor
                    .next_record()
                    .unwrap_or_else(|error| panic!("{what}: {error}"))
                {
                    let id = StoredId(record.sequence);
                    assert_eq!(record.payload, puts[&id], "{what}");
                    found.push(id);
                }
                let of_shard: Vec<_> = shard_of(ids, shard).collect();
                assert_eq!(found, of_shard, "{what}");
            }
        }
    }
}

/// A shard has every second record.
fn shard_of(ids: &[StoredId], shard: u32) -> impl Iterator<Item = StoredId> {
    ids.iter().copied().skip(shard as usize).step_by(2)
}

struct Open {
    journal: Journal,
    engine: journal::Engine,
    state: State,
}

fn open(vfs: &MemVfs, uuid: u128) -> Open {
    let (mut opened, engine) = journal::open_stepped(
        Arc::new(vfs.clone()),
        dir(),
        config(),
        1,
        uuid.to_be_bytes(),
    )
    .expect("it opens");
    let mut state = State::default();
    if let Some(mut snapshot) = opened.replay.snapshot() {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut snapshot, &mut bytes).expect("whole");
        state = State::decode(&bytes);
    }
    opened
        .replay
        .for_each(|id, kind, bytes| {
            state.apply(id, kind, &bytes);
            Ok::<_, Infallible>(())
        })
        .expect("the history is whole");
    for id in &state.live {
        opened.journal.add_ref(*id);
    }
    assert_eq!(opened.journal.stats().dangling, 0);
    Open {
        journal: opened.journal,
        engine,
        state,
    }
}

impl Open {
    fn step(&mut self) {
        while let Step::Committed(_) = self.engine.step() {}
    }

    fn stage(&mut self, kind: u8, bytes: &[u8]) -> StoredId {
        let id = self.journal.stage().push(kind, bytes, None);
        self.state.apply(id, kind, bytes);
        id
    }

    fn snapshot(&mut self) {
        self.step();
        let bytes = self.state.encode();
        self.journal
            .write_snapshot(self.journal.committed(), |out| out.write_all(&bytes))
            .expect("written");
    }

    /// Copies what is live into a file.
    fn write_file(
        &self,
        number: u64,
        puts: &BTreeMap<StoredId, Bytes>,
    ) -> (StreamFileId, Vec<StoredId>) {
        let ids: Vec<_> = self.state.live.iter().copied().collect();
        let mut writer = self.journal.create_stream_file(number).expect("created");
        for shard in 0..2u32 {
            for (at, id) in shard_of(&ids, shard).enumerate() {
                let (head, rest) = puts[&id].split_at(3);
                writer
                    .push(7, shard, id.0, at as u64, &[head, rest])
                    .expect("written");
            }
        }
        (writer.finish().expect("durable"), ids)
    }
}

#[test]
fn rules_25_power_fails_anywhere_while_records_are_filed_named_and_deleted() {
    let vfs = MemVfs::new(true);
    let mut puts = BTreeMap::new();
    // From so many operations on, the state is at least this.
    let mut confirmed: Vec<(usize, State)> = Vec::new();
    let mut states = vec![State::default()];
    let mut it = open(&vfs, 1);
    let note = |it: &Open, vfs: &MemVfs, confirmed: &mut Vec<(usize, State)>| {
        confirmed.push((vfs.ops_len(), it.state.clone()));
    };
    for round in 0..3u64 {
        for n in 0..24 {
            let bytes = payload(round * 100 + n, [40, 3000, 70_000 / 8][n as usize % 3]);
            let id = it.stage(PUT, &bytes);
            it.journal.add_ref(id);
            puts.insert(id, bytes);
            states.push(it.state.clone());
            it.step();
            note(&it, &vfs, &mut confirmed);
        }
        it.snapshot();
        it.snapshot();
        let (file, ids) = it.write_file(round + 1, &puts);
        let mut bytes = Vec::new();
        put_id(&file, &mut bytes);
        for id in &ids {
            bytes.extend_from_slice(&id.0.to_le_bytes());
        }
        it.stage(FILED, &bytes);
        states.push(it.state.clone());
        for id in &ids {
            it.journal.drop_ref(*id);
        }
        // Not committed: the originals stay.
        it.journal.reclaim();
        it.step();
        note(&it, &vfs, &mut confirmed);
        it.journal.reclaim();
        if round == 1 {
            let (first, _) = it.state.files[&1].clone();
            it.stage(UNFILED, &1u64.to_le_bytes());
            states.push(it.state.clone());
            it.step();
            note(&it, &vfs, &mut confirmed);
            it.journal.remove_stream_file(&first).expect("removed");
        }
        it.state.check(&it.journal, &puts, "live");
    }
    let stats = it.journal.stats();
    assert!(stats.recycled + stats.unlinked > 0, "{stats:?}");
    it.snapshot();
    it.snapshot();
    it.journal.reclaim();
    assert!(it.journal.stats().segments <= 2, "what was filed is gone");
    it.journal.shutdown();
    let ops = vfs.ops_len();
    let mut images = 0;
    for at in 0..=ops {
        let least = confirmed.iter().rev().find(|(known, _)| *known <= at);
        let mut cuts = vec![Cut::All, Cut::None, Cut::Random(at as u64)];
        for index in vfs.unsynced(at) {
            cuts.push(Cut::Dropped(index));
            cuts.push(Cut::Torn(index, 512, index as u64 + 1));
        }
        for cut in cuts {
            let what = format!("cut at {at} of {ops}, {cut:?}");
            let again = open(&vfs.image(at, cut, false), 2);
            again.state.check(&again.journal, &puts, &what);
            let found = states
                .iter()
                .position(|state| *state == again.state)
                .unwrap_or_else(|| panic!("{what}: a state that never was"));
            if let Some((_, least)) = least {
                let least = states.iter().position(|state| state == least);
                assert!(Some(found) >= least, "{what}: something confirmed is lost");
            }
            images += 1;
        }
    }
    assert!(images > ops * 3);
}

/// A file of two streams; the second has shards with gaps in their sequences.
fn sample(journal: &Journal) -> StreamFileId {
    let mut writer = journal.create_stream_file(1).expect("created");
    for n in 0..500u64 {
        writer
            .push(1, 0, n, 1000 + n / 3, &[&payload(n, 700)])
            .expect("written");
    }
    for shard in [2u32, 5] {
        for n in 0..50u64 {
            let sequence = n * 10 + u64::from(shard);
            let len = if n == 20 { 200_000 } else { 10 };
            writer
                .push(9, shard, sequence, sequence * 2, &[&payload(sequence, len)])
                .expect("written");
        }
    }
    writer.finish().expect("durable")
}

#[test]
fn records_are_found_by_sequence_and_by_time() {
    let vfs = MemVfs::new(false);
    let it = open(&vfs, 1);
    let id = sample(&it.journal);
    assert_eq!(it.journal.stream_files().expect("listed"), [id]);
    let file = it.journal.open_stream_file(&id).expect("whole");
    assert_eq!(file.shards(1), [0]);
    assert_eq!(file.shards(9), [2, 5]);
    assert!(file.shards(2).is_empty());
    for from in [0, 1, 77, 250, 499, 500, 10_000] {
        for since in [0, 1000, 1001, 1100, 1166, 1167, 5000] {
            let mut cursor = file.cursor((1, 0), from, since);
            let mut found = Vec::new();
            while let Some(record) = cursor.next_record().expect("whole") {
                assert_eq!(record.payload, payload(record.sequence, 700));
                found.push(record.sequence);
            }
            let naive: Vec<u64> = (0..500)
                .filter(|n| *n >= from && 1000 + n / 3 >= since)
                .collect();
            assert_eq!(found, naive, "from {from} since {since}");
        }
    }
    let mut cursor = file.cursor((9, 5), 195, 0);
    let next = cursor.next_record().expect("whole").expect("there");
    assert_eq!((next.sequence, next.payload), (195, payload(195, 10)));
    let large = cursor.next_record().expect("whole").expect("there");
    assert_eq!((large.sequence, large.time), (205, 410));
    assert_eq!(large.payload, payload(205, 200_000));
    assert!(
        file.cursor((9, 3), 0, 0)
            .next_record()
            .expect("whole")
            .is_none()
    );
    it.journal.remove_stream_file(&id).expect("removed");
    it.journal.remove_stream_file(&id).expect("gone already");
    assert!(matches!(
        it.journal.open_stream_file(&id),
        Err(ReadError::Io { .. })
    ));
}

#[test]
fn shards_come_in_any_order_and_more_of_them_than_have_an_open_block() {
    let vfs = MemVfs::new(false);
    let it = open(&vfs, 1);
    let mut writer = it.journal.create_stream_file(1).expect("created");
    // With the block that each would have they took twice what may be open.
    let shards = 300u32;
    for n in 0..70_000u64 {
        let shard = (n * n % u64::from(shards)) as u32;
        let place = (u64::from(shard % 3), shard);
        let record = payload(n, 100 + (n % 250) as usize);
        writer
            .push(place.0, place.1, n, n / 7, &[&record])
            .expect("written");
    }
    let id = writer.finish().expect("durable");
    let file = it.journal.open_stream_file(&id).expect("whole");
    let mut count = 0;
    for shard in 0..shards {
        let mut cursor = file.cursor((u64::from(shard % 3), shard), 0, 0);
        let mut last = None;
        while let Some(record) = cursor.next_record().expect("whole") {
            let n = record.sequence;
            assert_eq!(n * n % u64::from(shards), u64::from(shard));
            assert!(last < Some(n));
            assert_eq!(record.time, n / 7);
            assert_eq!(record.payload, payload(n, 100 + (n % 250) as usize));
            last = Some(n);
            count += 1;
        }
    }
    assert_eq!(count, 70_000);
}

#[test]
fn a_damaged_stream_file_is_reported_with_its_path_and_offset() {
    let vfs = MemVfs::new(false);
    let it = open(&vfs, 1);
    let id = sample(&it.journal);
    let path = dir().join("streams").join(format!(
        "{}-1-{:032x}",
        id.epoch,
        u128::from_be_bytes(id.writer)
    ));
    let raw = vfs.open(&path, Access::Write, false).expect("there");
    let len = raw.len().expect("known");
    let read_all = || -> Result<usize, ReadError> {
        let file = it.journal.open_stream_file(&id)?;
        let mut count = 0;
        for place in [(1, 0), (9, 2), (9, 5)] {
            let mut cursor = file.cursor(place, 0, 0);
            while cursor.next_record()?.is_some() {
                count += 1;
            }
        }
        Ok(count)
    };
    assert_eq!(read_all().expect("whole"), 600);
    for at in (0..len).step_by(997).chain(len - 60..len) {
        let mut byte = [0];
        raw.read_at(&mut byte, at).expect("read");
        raw.write_at(&[byte[0] ^ 0x20], at).expect("written");
        let Err(ReadError::Corrupt(corrupt)) = read_all() else {
            panic!("a flipped bit at {at} of {len} is not noticed");
        };
        assert_eq!(corrupt.path, path);
        assert!(corrupt.offset <= at, "{corrupt} for {at}");
        raw.write_at(&byte, at).expect("written");
    }
    assert_eq!(read_all().expect("whole again"), 600);
}

#[test]
fn a_file_that_was_not_finished_is_not_there() {
    let vfs = MemVfs::new(false);
    let it = open(&vfs, 1);
    let mut writer = it.journal.create_stream_file(3).expect("created");
    writer.push(1, 0, 1, 1, &[b"record"]).expect("written");
    assert_eq!(it.journal.stream_files().expect("listed").len(), 1);
    drop(writer);
    assert!(it.journal.stream_files().expect("listed").is_empty());
    vfs.fail_after(Some(2));
    let mut writer = it.journal.create_stream_file(4).expect("created");
    for n in 0..5 {
        let _ = writer.push(1, 0, n, 1, &[&payload(n, 60_000)]);
    }
    assert!(writer.finish().is_err());
    vfs.fail_after(None);
    assert!(it.journal.stream_files().expect("listed").is_empty());
}
