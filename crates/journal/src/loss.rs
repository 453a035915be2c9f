//! What an operator gave up: damage that a start was told to pass over (`--accept-loss`), written down so that every later
//! start, every standby and the snapshot maker pass over the same.
//!
//! ```text
//! lost/<epoch>-<n>-<writer>          magic "BSCLLOST", length u32, body, XXH3-64 of all that
//! lost/<segment>.damaged             a second name of a damaged segment: it stays when the journal gives the segment back
//! body: epoch, number, salt, wall clock u64 each; marks u32: 1 a header follows, 2 a gap follows;
//!       header: base (sequence, LSN, chain hash), length u64;  gap: before, after (positions), offset, to u64 each;
//!       offset for people u64, what for people (the rest)
//! ```
//! A *gap* leads a reader from where the chain breaks to where it goes on, in a segment or between two. A *header* stands in for
//! that of a segment which is damaged or cut short. A note is never changed and never deleted. It is in force with the epoch of its
//! writer: where another node took that epoch, or none did, nothing was given up. Segments under a second name are for people, who may take
//! them away.

use std::collections::{BTreeMap, btree_map::Entry};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::hash::xxh3_64;

use crate::batch::{u32_at, u64_at, u128_at};
use crate::error::OpenError;
use crate::layout::{Paths, Position, Uuid, hex};
use crate::segment::SegmentId;
use crate::survey;
use crate::vfs::{Access, Vfs};

/// How the second name of a damaged segment ends.
const KEPT: &str = ".damaged";

const MAGIC: [u8; 8] = *b"BSCLLOST";
const HEADER: u32 = 1;
const GAP: u32 = 2;
/// Bytes of a note, at most.
const NOTE_LEN_MAX: usize = 4 << 10;
/// Bytes of what is said for people, at most.
const WHAT_LEN_MAX: usize = 1 << 10;
/// Losses that one start takes note of. A journal with more is not damaged, but gone.
pub(crate) const LOSSES_MAX: usize = 10_000;

/// Where the chain breaks, and where it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Behind the last batch in front of it. Between two segments only its sequence is known.
    pub(crate) before: Position,
    /// In front of the first batch behind it.
    pub(crate) after: Position,
    /// Where it begins in its segment; 0 between two segments.
    pub(crate) offset: u64,
    /// Where the next batch lies.
    pub(crate) to: u64,
}

impl Gap {
    /// Whether the batch behind `seq` lies in it.
    pub(crate) fn follows(&self, seq: u64) -> bool {
        (self.before.seq..self.after.seq).contains(&seq)
    }
}

/// What a segment's own header does not say any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StandIn {
    pub(crate) base: Position,
    pub(crate) len: u64,
}

/// Damage that was passed over, or would have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The file.
    pub path: PathBuf,
    /// Which segment that is, or the first that is missing.
    pub segment: SegmentId,
    /// The first offset that is wrong.
    pub offset: u64,
    /// How that shows.
    pub what: String,
    /// When it was given up, by the wall clock, in ms; 0 if it was not.
    pub given_up_ms: u64,
    pub(crate) salt: u64,
    pub(crate) header: Option<StandIn>,
    pub(crate) gap: Option<Gap>,
}

impl Loss {
    /// The batches that are lost, first and last, if any are known to be.
    #[must_use]
    pub fn batches(&self) -> Option<(u64, u64)> {
        let gap = self.gap.filter(|gap| gap.after.seq > gap.before.seq)?;
        Some((gap.before.seq + 1, gap.after.seq))
    }

    /// How many records those held; 0 if that is not known.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.gap.map_or(0, |gap| {
            // Between two segments only the sequence in front is known.
            if gap.offset == 0 && gap.before.lsn == 0 {
                return 0;
            }
            gap.after.lsn.saturating_sub(gap.before.lsn)
        })
    }

    /// Where the damaged file stays, for whoever wants to look at it, after it was given up; none where it was missing.
    #[must_use]
    pub fn kept(&self) -> Option<PathBuf> {
        let root = self.path.parent().and_then(Path::parent)?;
        let name = self.path.file_name().filter(|_| self.salt != 0)?;
        let name = format!("{}{KEPT}", name.to_string_lossy());
        Some(Paths::new(root).lost().join(name))
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for n in [
            self.segment.epoch,
            self.segment.number,
            self.salt,
            self.given_up_ms,
        ] {
            body.extend_from_slice(&n.to_le_bytes());
        }
        let marks = self.header.map_or(0, |_| HEADER) | self.gap.map_or(0, |_| GAP);
        body.extend_from_slice(&marks.to_le_bytes());
        if let Some(header) = &self.header {
            put_position(&header.base, &mut body);
            body.extend_from_slice(&header.len.to_le_bytes());
        }
        if let Some(gap) = &self.gap {
            put_position(&gap.before, &mut body);
            put_position(&gap.after, &mut body);
            body.extend_from_slice(&gap.offset.to_le_bytes());
            body.extend_from_slice(&gap.to.to_le_bytes());
        }
        body.extend_from_slice(&self.offset.to_le_bytes());
        let mut what = self.what.len().min(WHAT_LEN_MAX);
        while !self.what.is_char_boundary(what) {
            what -= 1;
        }
        body.extend_from_slice(&self.what.as_bytes()[..what]);
        let mut note = MAGIC.to_vec();
        note.extend_from_slice(&(body.len() as u32).to_le_bytes());
        note.append(&mut body);
        let check = xxh3_64(&note);
        note.extend_from_slice(&check.to_le_bytes());
        note
    }

    fn decode(note: &[u8], paths: &Paths) -> Option<Self> {
        if note.get(..8)? != MAGIC {
            return None;
        }
        let len = u32_at(note.get(..12)?, 8) as usize;
        let end = 12usize.checked_add(len)?;
        let check = note.get(end..end.checked_add(8)?)?;
        if xxh3_64(&note[..end]) != u64_at(check, 0) {
            return None;
        }
        let mut body = Fields(&note[12..end]);
        let (epoch, number) = (body.u64()?, body.u64()?);
        let (salt, given_up_ms) = (body.u64()?, body.u64()?);
        let marks = body.u32()?;
        let header = match marks & HEADER {
            0 => None,
            _ => Some(StandIn {
                base: body.position()?,
                len: body.u64()?,
            }),
        };
        let gap = match marks & GAP {
            0 => None,
            _ => Some(Gap {
                before: body.position()?,
                after: body.position()?,
                offset: body.u64()?,
                to: body.u64()?,
            }),
        };
        let offset = body.u64()?;
        Some(Self {
            path: match salt {
                0 => paths.segments(),
                salt => paths.segment(epoch, number, salt),
            },
            segment: SegmentId { epoch, number },
            offset,
            what: String::from_utf8_lossy(body.0).into_owned(),
            given_up_ms,
            salt,
            header,
            gap,
        })
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at offset {} (epoch {}): {}",
            self.path.display(),
            self.offset,
            self.segment.epoch,
            self.what
        )?;
        match self.batches() {
            Some((first, last)) if first == last => write!(f, "; batch {first}")?,
            Some((first, last)) => write!(f, "; batches {first} to {last}")?,
            None => return f.write_str("; no batch that is known of"),
        }
        match self.records() {
            0 => Ok(()),
            records => write!(f, ", {records} records"),
        }
    }
}

fn put_position(position: &Position, out: &mut Vec<u8>) {
    out.extend_from_slice(&position.seq.to_le_bytes());
    out.extend_from_slice(&position.lsn.to_le_bytes());
    out.extend_from_slice(&position.chain.to_le_bytes());
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32_at(bytes, 0))
    }
    fn u64(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64_at(bytes, 0))
    }
    fn position(&mut self) -> Option<Position> {
        Some(Position {
            seq: self.u64()?,
            lsn: self.u64()?,
            chain: self.take(16).map(|bytes| u128_at(bytes, 0))?,
        })
    }
}

/// What was given up so far, in the order of the batches.
pub(crate) fn read_all(vfs: &dyn Vfs, paths: &Paths) -> Result<Vec<Loss>, OpenError> {
    let dir = paths.lost();
    let names = match vfs.list(&dir) {
        Ok(names) => names,
        // A journal of which nothing was ever given up.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(OpenError::io("list", &dir)(error)),
    };
    let mut losses = Vec::new();
    let mut writers = BTreeMap::new();
    for name in names {
        let Some((epoch, writer)) = parse_note_name(&name) else {
            continue;
        };
        let known = match writers.entry(epoch) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => *unknown.insert(survey::writer_of(vfs, paths, epoch)?),
        };
        if known.map(|it| hex(&it)).as_deref() != Some(writer) {
            continue;
        }
        let path = dir.join(&name);
        let file = vfs
            .open(&path, Access::Read, false)
            .map_err(OpenError::io("open", &path))?;
        let mut note = vec![0; NOTE_LEN_MAX];
        let n = file
            .read_at(&mut note, 0)
            .map_err(OpenError::io("read", &path))?;
        match Loss::decode(&note[..n], paths) {
            Some(loss) => losses.push(loss),
            None => {
                tracing::warn!(path = %path.display(), "a note of a loss is not whole, and does not count");
            }
        }
    }
    losses.sort_by_key(|loss: &Loss| {
        let before = loss.gap.map(|gap| gap.before.seq);
        (before, loss.segment, loss.salt, loss.offset)
    });
    Ok(losses)
}

/// The epoch with which a note is in force, and its writer.
fn parse_note_name(name: &str) -> Option<(u64, &str)> {
    let (epoch, rest) = name.split_once('-')?;
    let (_, writer) = rest.split_once('-')?;
    Some((epoch.parse().ok()?, writer)).filter(|_| !name.ends_with(KEPT))
}

/// Writes down what is given up with that epoch, durably, and keeps the damaged segments.
pub(crate) fn write_all(
    vfs: &dyn Vfs,
    paths: &Paths,
    losses: &[Loss],
    epoch: u64,
    writer: &Uuid,
) -> Result<(), OpenError> {
    if losses.is_empty() {
        return Ok(());
    }
    let dir = paths.lost();
    vfs.create_dir(&dir)
        .map_err(OpenError::io("create", &dir))?;
    for (n, loss) in losses.iter().enumerate() {
        if let Some(kept) = loss.kept() {
            match vfs.link(&loss.path, &kept) {
                // Another place in it, or an earlier try.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                linked => linked.map_err(OpenError::io("keep", &loss.path))?,
            }
        }
        let path = dir.join(format!("{epoch}-{n}-{}", hex(writer)));
        let written = vfs.open(&path, Access::Create, false).and_then(|file| {
            file.write_at(&loss.encode(), 0)?;
            file.sync()
        });
        written.map_err(OpenError::io("write", &path))?;
    }
    for dir in [&dir, &paths.root] {
        vfs.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
    }
    Ok(())
}

/// The loss of what lies between two segments, or behind the last.
pub(crate) fn between(dir: &Path, before: u64, after: Position, near: SegmentId) -> Loss {
    Loss {
        path: dir.to_owned(),
        segment: near,
        offset: 0,
        what: "its batches are neither in a segment nor in a usable snapshot".to_owned(),
        given_up_ms: 0,
        salt: 0,
        header: None,
        gap: Some(Gap {
            before: Position {
                seq: before,
                ..Position::default()
            },
            after,
            offset: 0,
            to: 0,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_and_damage_shows() {
        let paths = Paths::new(Path::new("/j"));
        let position = |n: u64| Position {
            seq: n,
            lsn: n * 10,
            chain: u128::from(n) << 70,
        };
        let mut loss = Loss {
            path: paths.segment(3, 4, 5),
            segment: SegmentId {
                epoch: 3,
                number: 4,
            },
            offset: 8192,
            what: "ä".repeat(WHAT_LEN_MAX),
            given_up_ms: 77,
            salt: 5,
            header: Some(StandIn {
                base: position(1),
                len: 65_536,
            }),
            gap: Some(Gap {
                before: position(6),
                after: position(9),
                offset: 8192,
                to: 16_384,
            }),
        };
        let note = loss.encode();
        assert!(note.len() <= NOTE_LEN_MAX);
        loss.what = "ä".repeat(WHAT_LEN_MAX / 2);
        assert_eq!(Loss::decode(&note, &paths), Some(loss.clone()));
        assert_eq!((loss.batches(), loss.records()), (Some((7, 9)), 30));
        for at in 0..note.len() {
            let mut bad = note.clone();
            bad[at] ^= 1;
            assert_eq!(Loss::decode(&bad, &paths), None, "byte {at} is covered");
            assert_eq!(Loss::decode(&note[..at], &paths), None, "cut at {at}");
        }
        loss.header = None;
        loss.gap = None;
        loss.what = "no more".to_owned();
        assert_eq!(Loss::decode(&loss.encode(), &paths), Some(loss));
    }
}
