//! The small files: FORMAT, epoch records, fences, leases; and the names of all files.
//!
//! ```text
//! FORMAT                     magic, version, store uuid, block size                      written once
//! epochs/<e>                 EpochRecord, published by link                              never changed, never deleted (RULES 17)
//! fence/<e>-<writer>         4 KiB of zeros; FENCED is written once by anyone            named by the epoch record
//! lease/<e>-<writer>         two slots of 4 KiB, alternating (LeaseSlot); locked           written by the holder only
//! standby/<node>             two slots of 4 KiB, alternating (StandbySlot)                 written by that standby only
//! seg/<e>-<n>-<salt>         segments (segment.rs)
//! snap/<seq>-<writer>        snapshots (snapshot.rs)
//! streams/<e>-<n>-<writer>   stream files (stream_file.rs)
//! lost/<epoch>-<n>-<writer>  what an operator gave up with that epoch (loss.rs)
//! reserve-<writer>           zeros, given up when the disk is full
//! takeover-<writer>          zeros, kept for who comes when the disk is full (room.rs)
//! ```
//! Each of the small files is one block whose last field is an XXH3-64 over the rest of what is used of it:
//!
//! ```text
//! 0       8             10       16           16 + length
//! magic | length of body | time | body       | checksum
//! ```
//! The time is that of a lease, and 0 elsewhere and in slots of versions that wrote none.

use std::path::{Path, PathBuf};

use crate::hash::xxh3_64;

use crate::batch::{BLOCK, u32_at, u64_at, u128_at};

/// The format that this version writes, and the highest that it reads.
pub(crate) const FORMAT_LEVEL: u32 = 1;
const FORMAT_MAGIC: [u8; 8] = *b"BASCULEJ";
const EPOCH_MAGIC: [u8; 8] = *b"BSCEPOCH";
const FENCED: [u8; 8] = *b"FENCED!\n";
const LEASE_MAGIC: [u8; 8] = *b"BSCLEASE";
const STANDBY_MAGIC: [u8; 8] = *b"BSCSTNDB";

/// Who writes: sixteen random bytes, new at every start.
pub(crate) type Uuid = [u8; 16];

pub(crate) fn hex(uuid: &Uuid) -> String {
    format!("{:032x}", u128::from_be_bytes(*uuid))
}

/// The paths of a journal directory.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }
    pub(crate) fn format(&self) -> PathBuf {
        self.root.join("FORMAT")
    }
    pub(crate) fn epochs(&self) -> PathBuf {
        self.root.join("epochs")
    }
    pub(crate) fn epoch(&self, epoch: u64) -> PathBuf {
        self.epochs().join(epoch.to_string())
    }
    pub(crate) fn fences(&self) -> PathBuf {
        self.root.join("fence")
    }
    pub(crate) fn fence(&self, epoch: u64, writer: &Uuid) -> PathBuf {
        self.fences().join(format!("{epoch}-{}", hex(writer)))
    }
    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("lease")
    }
    pub(crate) fn lease(&self, epoch: u64, writer: &Uuid) -> PathBuf {
        self.leases().join(format!("{epoch}-{}", hex(writer)))
    }
    pub(crate) fn standbys(&self) -> PathBuf {
        self.root.join("standby")
    }
    pub(crate) fn standby(&self, node: &Uuid) -> PathBuf {
        self.standbys().join(hex(node))
    }
    pub(crate) fn streams(&self) -> PathBuf {
        self.root.join("streams")
    }
    pub(crate) fn lost(&self) -> PathBuf {
        self.root.join("lost")
    }
    pub(crate) fn segments(&self) -> PathBuf {
        self.root.join("seg")
    }
    pub(crate) fn segment(&self, epoch: u64, number: u64, salt: u64) -> PathBuf {
        self.segments()
            .join(format!("{epoch}-{number}-{salt:016x}"))
    }
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snap")
    }
    pub(crate) fn reserve(&self, writer: &Uuid) -> PathBuf {
        self.root.join(format!("reserve-{}", hex(writer)))
    }
    pub(crate) fn room(&self, writer: &Uuid) -> PathBuf {
        self.root
            .join(format!("{}{}", crate::room::PREFIX, hex(writer)))
    }
    /// Where an epoch record is written before it has its name.
    pub(crate) fn unpublished(&self, writer: &Uuid) -> PathBuf {
        self.epochs().join(format!("tmp-{}", hex(writer)))
    }
    pub(crate) fn directories(&self) -> [PathBuf; 6] {
        [
            self.epochs(),
            self.fences(),
            self.leases(),
            self.standbys(),
            self.segments(),
            self.snapshots(),
        ]
    }
}

/// Epoch, number and salt in the name of a segment.
pub(crate) fn parse_segment_name(name: &str) -> Option<(u64, u64, u64)> {
    let mut parts = name.split('-');
    let epoch = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    let salt = u64::from_str_radix(parts.next()?, 16).ok()?;
    parts.next().is_none().then_some((epoch, number, salt))
}

/// A number in front of a dash, as in the names of fences, leases and snapshots.
pub(crate) fn parse_numbered_name(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

fn sealed_block(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    timed_block(magic, 0, body)
}

fn timed_block(magic: [u8; 8], time_ms: u64, body: &[u8]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..8].copy_from_slice(&magic);
    block[8..10].copy_from_slice(&(body.len() as u16).to_le_bytes());
    let time = time_ms.min(TIME_MAX).to_le_bytes();
    block[10..16].copy_from_slice(&time[..6]);
    block[16..16 + body.len()].copy_from_slice(body);
    let end = 16 + body.len();
    let check = xxh3_64(&block[..end]);
    block[end..end + 8].copy_from_slice(&check.to_le_bytes());
    block
}

/// The latest time that a block can tell, in ms since the Unix epoch: in the year 10889.
const TIME_MAX: u64 = (1 << 48) - 1;

fn opened_block(magic: [u8; 8], block: &[u8]) -> Option<&[u8]> {
    if block.get(..8)? != magic {
        return None;
    }
    let end = 16 + usize::from(u16::from_le_bytes([*block.get(8)?, *block.get(9)?]));
    let check = block.get(end..end + 8)?;
    (xxh3_64(&block[..end]) == u64_at(check, 0)).then(|| &block[16..end])
}

/// What FORMAT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) level: u32,
    pub(crate) store: Uuid,
}

impl Format {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.level.to_le_bytes());
        body.extend_from_slice(&(BLOCK as u32).to_le_bytes());
        body.extend_from_slice(&self.store);
        sealed_block(FORMAT_MAGIC, &body)
    }

    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let body = opened_block(FORMAT_MAGIC, block)?;
        Some(Self {
            level: u32_at(body.get(..24)?, 0),
            store: body[8..24].try_into().ok()?,
        })
    }
}

/// A place between two batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The last batch in front of it, or 0.
    pub(crate) seq: u64,
    /// The number of records in front of it.
    pub(crate) lsn: u64,
    /// The chain hash there.
    pub(crate) chain: u128,
}

impl Position {
    pub(crate) const fn mark(self) -> Mark {
        Mark {
            batch: self.seq,
            chain: self.chain,
        }
    }
}

/// A history up to a batch. Two with the same mark are the same, batch for batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its last batch.
    pub batch: u64,
    /// The hash over all of it.
    pub chain: u128,
}

/// What `epochs/<e>` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EpochRecord {
    pub(crate) level: u32,
    pub(crate) epoch: u64,
    pub(crate) writer: Uuid,
    pub(crate) prev_epoch: u64,
    /// Where the previous epoch ends: later bytes of its files are no part of the journal.
    pub(crate) cut: Position,
    /// The last segment of the previous epoch that is part of the journal; 0 if none is.
    pub(crate) cut_segment: u64,
    pub(crate) cut_offset: u64,
    /// Batches that the new epoch's first segment starts with; equal to `cut.seq` if none.
    pub(crate) adopted_upto: u64,
    pub(crate) first_salt: u64,
    pub(crate) snapshot_hint: u64,
    pub(crate) wall_ms: u64,
}

impl EpochRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.level.to_le_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&self.epoch.to_le_bytes());
        body.extend_from_slice(&self.writer);
        for n in [self.prev_epoch, self.cut.seq, self.cut.lsn] {
            body.extend_from_slice(&n.to_le_bytes());
        }
        body.extend_from_slice(&self.cut.chain.to_le_bytes());
        for n in [
            self.cut_segment,
            self.cut_offset,
            self.adopted_upto,
            self.first_salt,
            self.snapshot_hint,
            self.wall_ms,
        ] {
            body.extend_from_slice(&n.to_le_bytes());
        }
        sealed_block(EPOCH_MAGIC, &body)
    }

    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let body = opened_block(EPOCH_MAGIC, block)?.get(..120)?;
        Some(Self {
            level: u32_at(body, 0),
            epoch: u64_at(body, 8),
            writer: body[16..32].try_into().ok()?,
            prev_epoch: u64_at(body, 32),
            cut: Position {
                seq: u64_at(body, 40),
                lsn: u64_at(body, 48),
                chain: u128_at(body, 56),
            },
            cut_segment: u64_at(body, 72),
            cut_offset: u64_at(body, 80),
            adopted_upto: u64_at(body, 88),
            first_salt: u64_at(body, 96),
            snapshot_hint: u64_at(body, 104),
            wall_ms: u64_at(body, 112),
        })
    }
}

/// The block that sets a fence.
pub(crate) fn fenced_block() -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..8].copy_from_slice(&FENCED);
    block
}

/// A fence that nobody has set.
static CLEAR: [u8; BLOCK] = [0; BLOCK];

/// Whether a fence is clear: all zeros. Anything else, a torn write too, is set.
pub(crate) fn fence_is_clear(block: &[u8]) -> bool {
    // Read for each batch: compared as a whole, not byte by byte.
    block == CLEAR
}

/// One slot of a lease: its holder was alive, could write, and knew these batches to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseSlot {
    /// One more than in the slot before.
    pub(crate) counter: u64,
    pub(crate) durable_upto: u64,
    /// For how long from before this slot was written its holder shows anything to anyone, in ms; 0 in slots of holders that
    /// did not say.
    pub(crate) lasts_ms: u64,
    /// Its holder has ended in order: it confirms nothing more and shows nothing more.
    pub(crate) ended: bool,
    /// It did so for another node to go on, as an operator asked: for people. Versions that do not know it read what `ended` says.
    pub(crate) handed_over: bool,
    /// The holder's process id, for people.
    pub(crate) pid: u32,
    /// The holder's time when it wrote this, in ms since the Unix epoch; 0 in slots of holders that did not say.
    pub(crate) time_ms: u64,
    /// What the node wants the others to know of it.
    pub(crate) note: Vec<u8>,
}

/// The longest note in a slot, in bytes.
pub(crate) const NOTE_MAX: usize = 3 << 10;

impl LeaseSlot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.counter.to_le_bytes());
        body.extend_from_slice(&self.durable_upto.to_le_bytes());
        body.extend_from_slice(&self.lasts_ms.to_le_bytes());
        let flags = u32::from(self.ended) | u32::from(self.handed_over) << 1;
        body.extend_from_slice(&flags.to_le_bytes());
        body.extend_from_slice(&self.pid.to_le_bytes());
        body.extend_from_slice(&self.note[..self.note.len().min(NOTE_MAX)]);
        timed_block(LEASE_MAGIC, self.time_ms, &body)
    }

    /// The newest valid slot of a lease file. A slot that was torn is no evidence.
    pub(crate) fn newest(file: &[u8]) -> Option<Self> {
        file.chunks(BLOCK)
            .filter_map(|slot| {
                let body = opened_block(LEASE_MAGIC, slot)?;
                let fixed = body.get(..16)?;
                let mut time = [0; 8];
                time[..6].copy_from_slice(&slot[10..16]);
                // Earlier versions end here.
                let more = body.get(16..32).unwrap_or(&[0; 16]);
                Some(Self {
                    counter: u64_at(fixed, 0),
                    durable_upto: u64_at(fixed, 8),
                    lasts_ms: u64_at(more, 0),
                    ended: u32_at(more, 8) & 1 == 1,
                    handed_over: u32_at(more, 8) & 2 == 2,
                    pid: u32_at(more, 12),
                    time_ms: u64::from_le_bytes(time),
                    note: body.get(32..).unwrap_or_default().to_vec(),
                })
            })
            .max_by_key(|slot| slot.counter)
    }
}

/// One slot of a standby's own file: it is there, can write, and has come so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StandbySlot {
    pub(crate) counter: u64,
    /// The epoch that it follows.
    pub(crate) epoch: u64,
    /// The last batch that it has applied.
    pub(crate) applied: u64,
    /// It could take over.
    pub(crate) ready: bool,
    /// It has gone in order.
    pub(crate) ended: bool,
    /// What the node wants the others to know of it.
    pub(crate) note: Vec<u8>,
}

impl StandbySlot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.counter.to_le_bytes());
        body.extend_from_slice(&self.epoch.to_le_bytes());
        body.extend_from_slice(&self.applied.to_le_bytes());
        let flags = u64::from(self.ready) | u64::from(self.ended) << 1;
        body.extend_from_slice(&flags.to_le_bytes());
        body.extend_from_slice(&self.note[..self.note.len().min(NOTE_MAX)]);
        sealed_block(STANDBY_MAGIC, &body)
    }

    /// The newest valid slot of a standby's file.
    pub(crate) fn newest(file: &[u8]) -> Option<Self> {
        file.chunks(BLOCK)
            .filter_map(|slot| {
                let body = opened_block(STANDBY_MAGIC, slot)?;
                let fixed = body.get(..32)?;
                let flags = u64_at(fixed, 24);
                Some(Self {
                    counter: u64_at(fixed, 0),
                    epoch: u64_at(fixed, 8),
                    applied: u64_at(fixed, 16),
                    ready: flags & 1 == 1,
                    ended: flags & 2 == 2,
                    note: body[32..].to_vec(),
                })
            })
            .max_by_key(|slot| slot.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_come_back_and_damage_shows() {
        let format = Format {
            level: 1,
            store: [7; 16],
        };
        assert_eq!(Format::decode(&format.encode()), Some(format));
        let record = EpochRecord {
            level: 1,
            epoch: 9,
            writer: [3; 16],
            prev_epoch: 8,
            cut: Position {
                seq: 5,
                lsn: 6,
                chain: 7,
            },
            cut_segment: 2,
            cut_offset: 4096,
            adopted_upto: 6,
            first_salt: 0xABCD,
            snapshot_hint: 1,
            wall_ms: 99,
        };
        let block = record.encode();
        assert_eq!(EpochRecord::decode(&block), Some(record));
        for at in 0..144 {
            let mut bad = block.clone();
            bad[at] ^= 1;
            assert_eq!(EpochRecord::decode(&bad), None, "byte {at} is covered");
        }
    }

    #[test]
    fn the_newest_whole_lease_slot_counts() {
        let slot = |counter, ended| LeaseSlot {
            counter,
            durable_upto: counter * 10,
            lasts_ms: 400,
            ended,
            handed_over: ended,
            pid: 77,
            time_ms: 1_700_000_000_000 + counter,
            note: b"a note".to_vec(),
        };
        let mut file = slot(4, false).encode();
        file.extend(slot(5, true).encode());
        assert_eq!(LeaseSlot::newest(&file), Some(slot(5, true)));
        file[BLOCK + 20] ^= 1;
        assert_eq!(LeaseSlot::newest(&file), Some(slot(4, false)));
        assert_eq!(LeaseSlot::newest(&[]), None);
    }

    #[test]
    fn rules_24_a_lease_slot_of_an_earlier_version_is_read() {
        let mut body = 9_u64.to_le_bytes().to_vec();
        body.extend_from_slice(&90_u64.to_le_bytes());
        let earlier = LeaseSlot {
            counter: 9,
            durable_upto: 90,
            ..LeaseSlot::default()
        };
        assert_eq!(
            LeaseSlot::newest(&sealed_block(LEASE_MAGIC, &body)),
            Some(earlier)
        );
    }

    #[test]
    fn the_newest_whole_slot_of_a_standby_counts() {
        let slot = |counter, ready, ended| StandbySlot {
            counter,
            epoch: 3,
            applied: counter + 1,
            ready,
            ended,
            note: vec![1; NOTE_MAX],
        };
        let mut file = slot(1, true, false).encode();
        file.extend(slot(2, false, true).encode());
        assert_eq!(StandbySlot::newest(&file), Some(slot(2, false, true)));
        file[BLOCK] ^= 1;
        assert_eq!(StandbySlot::newest(&file), Some(slot(1, true, false)));
    }

    #[test]
    fn names_come_back() {
        assert_eq!(
            parse_segment_name("3-14-00000000000000ff"),
            Some((3, 14, 255))
        );
        assert_eq!(parse_segment_name("3-14"), None);
        assert_eq!(parse_numbered_name("12-abc"), Some(12));
        assert_eq!(parse_numbered_name("tmp"), None);
    }
}
